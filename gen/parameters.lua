-- Lists the tuning parameters of each kernel family, from templates/NAME.spec.lua, for `xq gen --list-parameters`.
local json = require "json"
local space = require "space"
local spec_module = require "spec"
local tuning = require "tuning"

local parameters = {}

local parameter_order = { "name", "values", "default", "depends_on", "chosen", "meaning" }
local family_order = { "family", "summary", "refused", "parameters", "constraints", "combinations" }

local function default_of(parameter)
  if parameter.default ~= nil then return parameter.default end
  return parameter.values[1]
end

local function describe(parameter, chosen)
  return json.ordered({
    name = parameter.name,
    values = json.array { table.unpack(parameter.values) },
    default = default_of(parameter),
    depends_on = parameter.depends_on,
    chosen = chosen and chosen[parameter.name],
    meaning = parameter.doc,
  }, parameter_order)
end

local function describe_family(name, spec)
  local family, list, constraints = tuning.family(name), {}, {}
  local chosen, refused, combinations
  if spec then
    chosen, refused = tuning.resolve(spec, name, spec.tuning[name] or {})
    combinations = chosen and space.count(spec, name)
  end
  for i, parameter in ipairs(family.parameters) do list[i] = describe(parameter, chosen) end
  for i, constraint in ipairs(family.constraints or {}) do constraints[i] = constraint.text end
  return json.ordered({ family = name, summary = family.summary, refused = refused, parameters = json.array(list),
    constraints = json.array(constraints), combinations = combinations }, family_order)
end

-- A list of the families `names` (all, where there are none) with their parameters. `given` is a spec, completed or
-- not, whose choices are shown too, or nil.
function parameters.list(names, given)
  local spec, result = given and spec_module.complete(given), {}
  for i, name in ipairs(#names > 0 and names or tuning.families()) do result[i] = describe_family(name, spec) end
  return json.array(result)
end

return parameters
