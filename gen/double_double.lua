-- Double-double arithmetic (T. J. Dekker, 1971): numbers {high, low} of about 106 bits. It uses only operations that
-- IEEE 754 fixes to the last bit, and no functions of the C library, so that every machine renders the same bytes.
local double_double = {}

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

function double_double.add(a, b)
  local s, e = two_sum(a[1], b[1])
  local high, low = two_sum(s, e + (a[2] + b[2]))
  return { high, low }
end

function double_double.multiply(a, b)
  local p, e = two_product(a[1], b[1])
  local high, low = two_sum(p, e + (a[1] * b[2] + a[2] * b[1]))
  return { high, low }
end

function double_double.divide(a, b)
  local q = a[1] / b[1]
  local rest = double_double.add(a, double_double.multiply({ -q, 0.0 }, b))
  local high, low = two_sum(q, rest[1] / b[1])
  return { high, low }
end

function double_double.number(x) return { x + 0.0, 0.0 } end

local add, multiply, divide, number = double_double.add, double_double.multiply, double_double.divide, double_double.number

double_double.LN2 = { 0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56 }
double_double.TWO_PI = { 0x1.921fb54442d18p+2, 0x1.1a62633145c07p-52 }

-- exp(a) by its series: a = n*ln2 + r with |r| <= ln2/2, and exp(a) = 2^n * exp(r).
function double_double.exp(a)
  local n = math.floor(a[1] / double_double.LN2[1] + 0.5)
  local r = add(a, multiply(number(-n), double_double.LN2))
  local sum, term = number(1), number(1)
  for i = 1, 26 do
    term = divide(multiply(term, r), number(i))
    sum = add(sum, term)
  end
  local power = 1.0
  for _ = 1, math.abs(n) do power = power * (n < 0 and 0.5 or 2.0) end
  return { sum[1] * power, sum[2] * power }
end

-- ln(x) of a double x > 0, by Newton's iteration on exp.
function double_double.ln(x)
  if x < 1.0 then
    local inverse = double_double.ln(1.0 / x)
    return { -inverse[1], -inverse[2] }
  end
  local halvings, y = 0, x
  while y >= 2.0 do y, halvings = y / 2.0, halvings + 1 end
  local guess = number(halvings * double_double.LN2[1] + (y - 1.0) * 0.7)
  for _ = 1, 7 do
    local e = multiply(number(x), double_double.exp { -guess[1], -guess[2] })
    guess = add(guess, add(e, number(-1)))
  end
  return guess
end

return double_double
