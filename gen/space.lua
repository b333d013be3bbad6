-- The space of a family's tuning parameters for a spec: every combination of their values, and the reason that rules a
-- combination out before anything is compiled.
local fail = require "fail"
local json = require "json"
local schema = require "schema"
local spec_module = require "spec"
local tuning = require "tuning"

local space = {}

-- Calls visit(values, broken) for every combination, in the order of the parameters' values; the last parameter varies
-- fastest. `broken` is the constraint or resource that rules the combination out, or nil. `values` is the same table
-- each time.
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

-- Counts all combinations, the valid ones, and those that each constraint rules out. A combination that several
-- constraints rule out counts for the first of them.
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

-- Lists the valid combinations in the order of each(), each with the resources and the work of its kernel, beside the
-- counts of all combinations and the combination that the spec has. `given` is a spec, completed or not.
function space.list(given, name)
  local spec = spec_module.complete(given)
  local names, candidates, refusal = {}, {}, tuning.refusal(spec, name)
  if refusal then fail.unsupported("family", "%s cannot serve this spec: %s", name, refusal) end
  for i, parameter in ipairs(tuning.family(name).parameters) do names[i] = parameter.name end
  space.each(spec, name, function(values, broken)
    if broken then return end
    local parameters = {}
    for key, value in pairs(values) do parameters[key] = value end
    candidates[#candidates + 1] = json.ordered({
      parameters = json.ordered(parameters, names),
      resources = json.ordered(tuning.resources(spec, name, parameters), { "threads", "shared_bytes" }),
      work = tuning.work(spec, name, parameters),
    }, { "parameters", "resources", "work" })
  end)
  return json.ordered({ family = name, chosen = spec.tuning[name], combinations = space.count(spec, name),
    candidates = json.array(candidates) }, { "family", "chosen", "combinations", "candidates" })
end

-- Draws parameters for every family that serves a spec, as the spec's `tuning`. Every valid combination of a family is
-- equally likely. The same whole number `seed` draws the same ones, for a GPU with as much shared memory.
function space.draw(given, seed)
  local spec = spec_module.complete(given)
  local state, names, drawn = seed, {}, {}
  local function pick(list) -- by splitmix64
    state = state + 0x9e3779b97f4a7c15
    local z = state
    z = (z ~ z >> 30) * 0xbf58476d1ce4e5b9
    z = (z ~ z >> 27) * 0x94d049bb133111eb
    return list[((z ~ z >> 31) >> 1) % #list + 1]
  end
  for _, name in ipairs(tuning.families()) do
    if spec.tuning[name] then
      local order, values = {}, {}
      repeat -- this ends, because the spec's own parameters are valid
        for i, parameter in ipairs(tuning.family(name).parameters) do
          order[i] = parameter.name
          values[parameter.name] = pick(parameter.values)
        end
      until not tuning.broken(spec, name, values)
      names[#names + 1] = name
      drawn[name] = json.ordered(values, order)
    end
  end
  return json.ordered(drawn, names)
end

return space
