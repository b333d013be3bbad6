-- ALiBi (Press, Smith and Lewis, 2021): scores fall linearly with distance, with a slope for each head.
local double_double = require "double_double"

local alibi = {}

-- 2^-x, x >= 0
local function power_of_half(x)
  local exponent = double_double.multiply(double_double.number(-x), double_double.LN2)
  return double_double.exp(exponent)[1]
end

-- slopes[h + 1] is what a score of query head h loses with every token of distance. Where the number n of heads is a
-- power of two, the slopes are 2^(-8 (h + 1) / n). Other models take the slopes of the next smaller power of two, then
-- every other slope of the next larger one. alibi_scale multiplies all slopes (Falcon scales the bias as it scales
-- scores).
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
