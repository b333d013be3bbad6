-- ALiBi (Press, Smith and Lewis, 2021): scores fall linearly with distance, by a slope of each head.
local double_double = require "double_double"

local alibi = {}

-- 2^-x, x >= 0
local function power_of_half(x)
  local exponent = double_double.multiply(double_double.number(-x), double_double.LN2)
  return double_double.exp(exponent)[1]
end

-- Of query head h at [h + 1], what a score loses with every token of distance. With n a power of two the slopes are
-- 2^(-8 (h + 1) / n); other models have those of the next smaller power, then every other one of the next larger.
-- alibi_scale multiplies them all (Falcon scales the bias as it scales scores).
function alibi.slopes(model)
  local heads, power = model.num_attention_heads, 1
  while power * 2 <= heads do power = power * 2 end
  local slopes = {}
  for h = 0, heads - 1 do
    local exponent = h < power and 8 * (h + 1) / power or 4 * (2 * (h - power) + 1) / power
    slopes[h + 1] = power_of_half(exponent) * (model.alibi_scale or 1)
  end
  return slopes
end

return alibi
