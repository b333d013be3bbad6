-- Rotary frequencies, in turns (revolutions) per token, as kernels need them: a position times a
-- frequency in turns needs only its fraction, so no range reduction loses digits at long contexts.
--
-- Computed in double-double arithmetic (T. J. Dekker, 1971) from the operations that IEEE 754 fixes to the
-- last bit, not with the C library's pow, so that every machine renders the same bytes.
local rope = {}

-- ---------------------------------------------------------------- double-double numbers {high, low}
local function two_sum(a, b)
  local s = a + b
  local t = s - a
  return s, (a - (s - t)) + (b - t)
end

local function split(a)
  local t = 134217729.0 * a -- 2^27 + 1
  local high = t - (t - a)
  return high, a - high
end

local function two_product(a, b)
  local p = a * b
  local ah, al = split(a)
  local bh, bl = split(b)
  return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl
end

local function add(a, b)
  local s, e = two_sum(a[1], b[1])
  local high, low = two_sum(s, e + (a[2] + b[2]))
  return { high, low }
end

local function multiply(a, b)
  local p, e = two_product(a[1], b[1])
  local high, low = two_sum(p, e + (a[1] * b[2] + a[2] * b[1]))
  return { high, low }
end

local function divide(a, b)
  local q = a[1] / b[1]
  local rest = add(a, multiply({ -q, 0.0 }, b))
  local high, low = two_sum(q, rest[1] / b[1])
  return { high, low }
end

local function number(x) return { x + 0.0, 0.0 } end

local LN2 = { 0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56 }
local TWO_PI = { 0x1.921fb54442d18p+2, 0x1.1a62633145c07p-52 }

-- exp(a) by its series at a/2^k, then k squarings undone: a = n*ln2 + r, |r| <= ln2/2.
local function exp(a)
  local n = math.floor(a[1] / LN2[1] + 0.5)
  local r = add(a, multiply(number(-n), LN2))
  local sum, term = number(1), number(1)
  for i = 1, 26 do
    term = divide(multiply(term, r), number(i))
    sum = add(sum, term)
  end
  local power = 1.0
  for _ = 1, math.abs(n) do power = power * (n < 0 and 0.5 or 2.0) end
  return { sum[1] * power, sum[2] * power }
end

-- ln(x) for x >= 1, by Newton's iteration on exp.
local function ln(x)
  local halvings, y = 0, x
  while y >= 2.0 do y, halvings = y / 2.0, halvings + 1 end
  local guess = number(halvings * LN2[1] + (y - 1.0) * 0.7)
  for _ = 1, 7 do
    local e = multiply(number(x), exp { -guess[1], -guess[2] })
    guess = add(guess, add(e, number(-1)))
  end
  return guess
end

-- ---------------------------------------------------------------- frequencies
-- rope_type llama3 of Hugging Face transformers, modeling_rope_utils._compute_llama3_parameters: long wavelengths are
-- stretched by `factor`, short ones kept, those between interpolated.
local function llama3(frequency, scaling)
  local wavelength = divide(TWO_PI, frequency)[1]
  local context = scaling.original_max_position_embeddings
  local low, high = scaling.low_freq_factor, scaling.high_freq_factor
  local stretched = divide(frequency, number(scaling.factor))
  if wavelength > context / low then return stretched end
  if wavelength < context / high then return frequency end
  local smooth = (context / wavelength - low) / (high - low)
  return add(multiply(number(1.0 - smooth), stretched), multiply(number(smooth), frequency))
end

local cache = {}

local function key_of(model)
  local s = model.rope.scaling
  return table.concat({ model.rope.type, model.rope.rotary_dim or 0, ("%.17g"):format(model.rope.theta or 0),
    s and ("%.17g/%.17g/%.17g/%.17g"):format(s.factor, s.low_freq_factor, s.high_freq_factor,
      s.original_max_position_embeddings) or "plain" }, "/")
end

local function compute(model)
  if model.rope.type == "none" then return {} end
  local pairs_count, turns = model.rope.rotary_dim // 2, {}
  -- theta^(-i / pairs), by repeated multiplication with theta^(-1 / pairs)
  local exponent = divide(ln(model.rope.theta + 0.0), number(-pairs_count))
  local step, frequency = exp(exponent), number(1)
  for i = 1, pairs_count do
    local scaled = model.rope.scaling and llama3(frequency, model.rope.scaling) or frequency
    turns[i] = divide(scaled, TWO_PI)
    frequency = multiply(frequency, step)
  end
  return turns
end

local function round_f32(x) return (string.unpack("<f", string.pack("<f", x))) end

-- For rotary pair i (of rotary_dim / 2; without RoPE there are none), at [i + 1]: {high=, low=}, floats whose sum is the frequency in
-- turns per token. `model` is that of a completed spec.
function rope.turns(model)
  local key = key_of(model)
  if not cache[key] then
    local list = {}
    for i, t in ipairs(compute(model)) do
      local high = round_f32(t[1])
      list[i] = { high = high, low = round_f32((t[1] - high) + t[2]) }
    end
    cache[key] = list
  end
  local copy = {}
  for i, t in ipairs(cache[key]) do copy[i] = { high = t.high, low = t.low } end
  return copy
end

return rope
