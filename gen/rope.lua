-- Rotary frequencies in turns (revolutions) per token, as kernels need them. An angle is the fractional part of a
-- position times a frequency in turns. In fixed point, whole turns overflow and disappear at every position. This
-- module also stretches frequencies for longer contexts, as Hugging Face transformers does (modeling_rope_utils).
local double_double = require "double_double"

local rope = {}

local number, add, multiply, divide = double_double.number, double_double.add, double_double.multiply, double_double.divide
local TWO_PI = double_double.TWO_PI

-- ---------------------------------------------------------------- stretching
-- {type = function(model) → function(frequency, pair) → frequency}; all frequencies are in radians per token
local stretch = {}

function stretch.linear(model)
  local factor = number(model.rope.scaling.factor)
  return function(frequency) return divide(frequency, factor) end
end

-- Long wavelengths are stretched by `factor`, short ones are kept, and those between are interpolated.
function stretch.llama3(model)
  local scaling = model.rope.scaling
  local context, low, high = scaling.original_max_position_embeddings, scaling.low_freq_factor, scaling.high_freq_factor
  return function(frequency)
    local wavelength = divide(TWO_PI, frequency)[1]
    local stretched = divide(frequency, number(scaling.factor))
    if wavelength > context / low then return stretched end
    if wavelength < context / high then return frequency end
    local smooth = (context / wavelength - low) / (high - low)
    return add(multiply(number(1.0 - smooth), stretched), multiply(number(smooth), frequency))
  end
end

-- The rotary pair, as a fractional number, that turns `rotations` times over the original context.
local function pair_of(model, rotations)
  local scaling = model.rope.scaling
  local wavelength = divide(number(scaling.original_max_position_embeddings), multiply(number(rotations), TWO_PI))
  local ratio = divide(double_double.ln(wavelength[1]), double_double.ln(model.rope.theta + 0.0))
  return model.rope.rotary_dim / 2 * ratio[1]
end

-- YaRN (Peng et al., 2023, arXiv 2309.00071): pairs that turn often over the original context are kept, pairs that turn
-- seldom are stretched, and a ramp lies between them.
function stretch.yarn(model)
  local scaling = model.rope.scaling
  local low, high = pair_of(model, scaling.beta_fast), pair_of(model, scaling.beta_slow)
  if scaling.truncate then low, high = math.floor(low), math.ceil(high) end
  low, high = math.max(low, 0), math.min(high, model.rope.rotary_dim - 1)
  if low == high then high = high + 0.001 end
  return function(frequency, pair)
    local ramp = math.min(math.max((pair - low) / (high - low), 0.0), 1.0)
    local stretched = divide(frequency, number(scaling.factor))
    return add(multiply(number(ramp), stretched), multiply(number(1.0 - ramp), frequency))
  end
end

-- LongRoPE: each pair has a factor of its own, in the table that the spec selects.
function stretch.longrope(model)
  local scaling = model.rope.scaling
  local factors = scaling[scaling.table .. "_factor"]
  return function(frequency, pair) return divide(frequency, number(factors[pair + 1] + 0.0)) end
end

-- The factor by which LongRoPE multiplies rotated queries and keys, unless the model states one.
function rope.longrope_attention_factor(scaling)
  if scaling.factor <= 1 then return 1.0 end
  local logarithm = double_double.ln
  return math.sqrt(1 + logarithm(scaling.factor + 0.0)[1] / logarithm(scaling.original_max_position_embeddings + 0.0)[1])
end

-- The factor by which YaRN multiplies rotated queries and keys, unless the model states one. `scaling` has factor and,
-- for some models, mscale and mscale_all_dim.
function rope.yarn_attention_factor(scaling)
  local function temperature(mscale)
    if scaling.factor <= 1 then return 1.0 end
    return 0.1 * mscale * double_double.ln(scaling.factor + 0.0)[1] + 1.0
  end
  local mscale, all = scaling.mscale or 0, scaling.mscale_all_dim or 0
  if mscale ~= 0 and all ~= 0 then return temperature(mscale) / temperature(all) end
  return temperature(1)
end

-- ---------------------------------------------------------------- frequencies
local function compute(model)
  local count, turns = (model.rope.rotary_dim or 0) // 2, {}
  if count == 0 then return turns end
  local scaling = model.rope.scaling
  local stretched = scaling and stretch[scaling.type](model)
  -- theta^(-i / pairs), by repeated multiplication with theta^(-1 / pairs)
  local step = double_double.exp(divide(double_double.ln(model.rope.theta + 0.0), number(-count)))
  local frequency = number(1)
  for i = 1, count do
    turns[i] = divide(stretched and stretched(frequency, i - 1) or frequency, TWO_PI)
    frequency = multiply(frequency, step)
  end
  return turns
end

local cache = {}

local function text_of(value)
  if type(value) == "number" then return ("%.17g"):format(value) end
  if type(value) ~= "table" then return tostring(value) end
  local texts = {}
  for i, item in ipairs(value) do texts[i] = text_of(item) end
  return table.concat(texts, ",")
end

local function key_of(r)
  local parts = { r.type, tostring(r.rotary_dim), ("%.17g"):format(r.theta or 0) }
  for name, value in pairs(r.scaling or {}) do parts[#parts + 1] = name .. "=" .. text_of(value) end
  return table.concat(parts, "/")
end

-- A double-double as a multiple of 2^-64, rounded to the nearest one. Its whole part overflows and is dropped.
local function fixed_point(x)
  local scaled = x[1] * 2.0 ^ 32
  local whole = math.floor(scaled)
  local rest = (scaled - whole) * 2.0 ^ 32 + x[2] * 2.0 ^ 64
  return (whole % (1 << 32) << 32) + math.floor(rest + 0.5)
end

local function signed32(x) return (x + (1 << 31)) % (1 << 32) - (1 << 31) end

-- The frequencies of the rotary pairs. For rotary pair i (there are rotary_dim / 2, or none without RoPE), [i + 1] is
-- {high=, low=}, signed 32-bit integers, and high * 2^-32 + low * 2^-64 is the frequency in turns per token, without
-- whole turns. `model` is that of a completed spec.
function rope.turns(model)
  local key = key_of(model.rope)
  if not cache[key] then
    local list = {}
    for i, t in ipairs(compute(model)) do
      local turns = fixed_point(t)
      local low = signed32(turns & 0xffffffff)
      list[i] = { high = signed32((turns - low) >> 32), low = low }
    end
    cache[key] = list
  end
  local copy = {}
  for i, t in ipairs(cache[key]) do copy[i] = { high = t.high, low = t.low } end
  return copy
end

return rope
