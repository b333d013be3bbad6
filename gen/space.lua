-- The space of a family's tuning parameters for a spec: every combination of their values, and what rules it out before
-- anything is compiled.
local json = require "json"
local schema = require "schema"
local tuning = require "tuning"

local space = {}

-- Calls visit(values, broken) for every combination, in the order of the parameters' values, the last parameter fastest.
-- `broken` is the constraint or resource that rules the combination out, or nil. `values` is the same table each time.
function space.each(spec, name, visit)
  local parameters, values = tuning.family(name).parameters, {}
  local function choose(i)
    local parameter = parameters[i]
    if not parameter then return visit(values, (tuning.broken(spec, name, values))) end
    for _, value in ipairs(parameter.values) do
      values[parameter.name] = value
      choose(i + 1)
    end
  end
  choose(1)
end

-- How many combinations there are, how many are valid, and how many each constraint rules out. A combination that several
-- rule out counts for the first of them.
function space.count(spec, name)
  local all, valid, texts, counts = 0, 0, {}, {}
  for i, constraint in ipairs(tuning.family(name).constraints or {}) do texts[i] = constraint.text end
  space.each(spec, name, function(_, broken)
    all = all + 1
    if not broken then
      valid = valid + 1
    else
      if not counts[broken] and not schema.contains(texts, broken) then texts[#texts + 1] = broken end -- a resource
      counts[broken] = (counts[broken] or 0) + 1
    end
  end)
  local removed = {}
  for _, text in ipairs(texts) do
    removed[#removed + 1] = counts[text] and
      json.ordered({ constraint = text, combinations = counts[text] }, { "constraint", "combinations" })
  end
  return json.ordered({ all = all, valid = valid, removed = json.array(removed) }, { "all", "valid", "removed" })
end

return space
