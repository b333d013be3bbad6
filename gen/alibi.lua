-- Slopes of ALiBi (O. Press et al., "Train Short, Test Long", 2021; the interpolation for other numbers of heads is that of
-- its authors' code), from square roots and products alone, so that every machine gets the same bytes.
local alibi = {}

-- 2^(-8 / count) for a power of two.
local function base(count)
  local b = 1 / 256
  while count > 1 do b, count = math.sqrt(b), count // 2 end
  return b
end

-- The slope of each of `heads` heads: scores of a token n positions back fall by slope * n.
function alibi.slopes(heads)
  local even = 1
  while even * 2 <= heads do even = even * 2 end
  local slopes, step, slope = {}, base(even), 1.0
  for i = 1, even do
    slope = slope * step
    slopes[i] = slope
  end
  local between = math.sqrt(step) -- the odd powers of the base of twice as many heads
  slope = between
  for i = even + 1, heads do
    slopes[i] = slope
    slope = slope * step
  end
  return slopes
end

return alibi
