-- Kernel families and their tuning parameters, from templates/NAME.spec.lua (docs/templates.md).
local host = require "host"
local fail = require "fail"
local json = require "json"
local arch = require "arch"
local environment = require "environment"
local features = require "features"
local schema = require "schema"
local tuned = require "tuned"

local tuning = {}

-- The names of all families, sorted.
function tuning.families()
  return host.names("templates/", ".spec.lua")
end

local families = {}

local function check_family(file, name, family)
  local function demand(condition, text, ...)
    if not condition then fail.template(file, 1, text, ...) end
  end
  demand(type(family) == "table", "must return a table")
  demand(family.name == name, "name must be '%s'", name)
  demand(type(family.entry) == "string" and family.entry:find("^[%a_][%w_]*$"), "entry must be the kernel's name")
  demand(type(family.resources) == "function", "resources must be a function")
  demand(family.work == nil or type(family.work) == "function", "work must be a function")
  demand(type(family.parameters) == "table", "parameters must be a list")
  demand(type(family.constraints or {}) == "table", "constraints must be a list")
  for i, p in ipairs(family.parameters) do
    demand(type(p) == "table" and type(p.name) == "string" and type(p.values) == "table" and #p.values > 0,
      "parameter %d must have a name and values", i)
    local found = p.default == nil
    for _, value in ipairs(p.values) do found = found or value == p.default end
    demand(found, "parameter '%s': the default is none of its values", p.name)
  end
  for i, c in ipairs(family.constraints or {}) do
    demand(type(c) == "table" and type(c.text) == "string" and type(c.check) == "function",
      "constraint %d must have a text and a check", i)
  end
end

-- The table that templates/NAME.spec.lua returns; fails with field `family` for an unknown name.
function tuning.family(name)
  if families[name] then return families[name] end
  local file = "templates/" .. name .. ".spec.lua"
  local text = name:find("^[%w_]+$") and host.read(file)
  if not text then
    fail.argument("family", "'%s' is not known; %s", name, fail.suggestion(name, tuning.families()))
  end
  local chunk, message = host.load(text, file, environment.helpers())
  if not chunk then
    local line, what = message:match(":(%d+): (.*)$")
    fail.template(file, tonumber(line) or 1, "%s", what or message)
  end
  local family = chunk()
  check_family(file, name, family)
  families[name] = family
  return family
end

-- The name of the first given parameter that the family does not have or whose value is not valid, and a text that says
-- what is wrong; or nil.
local function wrong_parameter(family, given)
  local names = {}
  for i, parameter in ipairs(family.parameters) do
    local value = given[parameter.name]
    names[i] = parameter.name
    if value ~= nil and not schema.contains(parameter.values, value) then
      return parameter.name, ("%s is not valid; valid: %s"):format(schema.show(value), schema.list(parameter.values))
    end
  end
  for key in pairs(given) do
    if not schema.contains(names, key) then
      return tostring(key), ("is not known; %s"):format(fail.suggestion(tostring(key), names))
    end
  end
end

-- The values of all parameters: those that were given, and defaults for the others.
local function values_of(spec, name, family, given)
  local names, values = {}, {}
  local function demand(parameters)
    local key, why = wrong_parameter(family, parameters)
    if key then fail.spec("tuning." .. name .. "." .. key, "%s", why) end
  end
  demand(given)
  local defaults = family.defaults and family.defaults(spec, given) or {}
  for i, parameter in ipairs(family.parameters) do
    names[i] = parameter.name
    local value = given[parameter.name]
    if value == nil then value = defaults[parameter.name] end
    if value == nil then value = parameter.default end
    if value == nil then value = parameter.values[1] end
    values[parameter.name] = value
  end
  demand(values)
  return json.ordered(values, names)
end

local function describe(values)
  local parts = {}
  for key, value in pairs(values) do parts[#parts + 1] = key .. "=" .. tostring(value) end
  return table.concat(parts, ", ")
end

-- The resources that the host needs to launch the kernel, checked.
function tuning.resources(spec, name, values)
  local needs = tuning.family(name).resources(spec, values)
  local file = "templates/" .. name .. ".spec.lua"
  if type(needs) ~= "table" then fail.template(file, 1, "resources must return a table") end
  for _, key in ipairs { "threads", "shared_bytes" } do
    if math.type(needs[key]) ~= "integer" then
      fail.template(file, 1, "resources must give %s as a whole number", key)
    end
  end
  return needs
end

-- The work of a kernel with these parameters, for the tuner's cost model; nil where the family does not state it.
function tuning.work(spec, name, values)
  local family = tuning.family(name)
  return family.work and family.work(spec, values)
end

-- The first constraint that does not hold, and for a resource how much of it the values need; or nil.
function tuning.broken(spec, name, values)
  for _, constraint in ipairs(tuning.family(name).constraints or {}) do
    if not constraint.check(spec, values) then return constraint.text end
  end
  local needs, gpu = tuning.resources(spec, name, values), arch.find(spec.arch)
  if needs.threads > arch.threads_block then
    return ("at most %d threads a block"):format(arch.threads_block), needs.threads
  end
  if needs.shared_bytes > gpu.shared_bytes then
    return ("at most %d bytes of shared memory on %s"):format(gpu.shared_bytes, gpu.name), needs.shared_bytes
  end
end

-- Why a family cannot serve a spec whatever its parameters are, or nil.
function tuning.refusal(spec, name)
  local family = tuning.family(name)
  local refusal = family.supports and family.supports(spec) or features.refusal(spec, name, family.handles)
  return refusal and tostring(refusal) or nil
end

-- Completes the parameters `given` of a family for a spec, whose own tuning is not read. Where the family cannot serve
-- with them, returns nil and the reason, and also the values where these break a constraint.
function tuning.resolve(spec, name, given)
  local refusal = tuning.refusal(spec, name)
  if refusal then return nil, refusal end
  local values = values_of(spec, name, tuning.family(name), given)
  local broken, needed = tuning.broken(spec, name, values)
  if not broken then return values end
  return nil, ("%s%s (with %s)"):format(broken, needed and (", not %d"):format(needed) or "", describe(values)), values
end

-- Fails unless all keys of `given` are families, each with an object.
local function check_names(field, given, names)
  if not schema.is_object(given) then fail.spec(field, "must be an object, not %s", schema.show(given)) end
  for name, values in pairs(given) do
    if not schema.contains(names, name) then
      fail.spec(field .. "." .. name, "is not known; %s", fail.suggestion(tostring(name), names))
    end
    if not schema.is_object(values) then
      fail.spec(field .. "." .. name, "must be an object, not %s", schema.show(values))
    end
  end
end

-- The parameters of a family that a completed spec took from a table of tuned parameters, and their description there.
local function keep(name, kept, resolve)
  if kept.parameters == nil then fail.spec("tuned." .. name .. ".parameters", "is missing") end
  if not schema.is_object(kept.parameters) then
    fail.spec("tuned." .. name .. ".parameters", "must be an object, not %s", schema.show(kept.parameters))
  end
  local values, refusal = resolve(kept.parameters)
  if not values then fail.spec("tuned." .. name, "%s", refusal) end
  return values, tuned.described(kept, values)
end

-- tuning.resolve for parameters from a table: invalid parameters are no error.
local function resolver(spec, name)
  return function(parameters)
    local key, why = wrong_parameter(tuning.family(name), parameters)
    if key then return nil, key .. " " .. why end
    return tuning.resolve(spec, name, parameters)
  end
end

-- The parameters of a family where the spec does not choose them, and the table of tuned parameters that they come from
-- (nil: they are the family's defaults).
local function derive(spec, name, how, results)
  local resolve = resolver(spec, name)
  local values, used
  if how.kept then
    if how.kept[name] then values, used = keep(name, how.kept[name], resolve) end
  elseif not schema.contains(how.untuned or {}, name) then
    values, used = tuned.find(results, spec, name, how.calls, resolve)
  end
  return values or resolve {}, used
end

-- The parameters that were asked for. They must work.
local function demand(spec, name, given)
  local values, refusal, tried = tuning.resolve(spec, name, given)
  if values then return values end
  local raise = tried and fail.spec or fail.unsupported
  raise("tuning." .. name, "%s", refusal)
end

local function next_key(object)
  for key in pairs(object) do return key end
end

-- Returns two objects for a completed spec. `tuning` has the parameters of every family that can serve the spec.
-- `tuned` tells which families have parameters from tables of tuned parameters. A family that cannot serve is left out,
-- and is refused when it is rendered; but parameters that were asked for must work. `how` is {kept = `tuned` of a
-- completed spec, beside which nothing is looked up; calls = the size of calls to tune for; untuned = families that
-- keep their defaults}.
function tuning.complete(spec, given, how)
  local names, result, from = tuning.families(), {}, {}
  local results = how.kept and {} or tuned.results(spec)
  check_names("tuning", given, names)
  check_names("tuned", how.kept or {}, names)
  for _, name in ipairs(names) do
    if given[name] and next_key(given[name]) then
      result[name] = demand(spec, name, given[name])
    elseif given[name] then
      demand(spec, name, {}) -- no parameters are chosen, but the family must be able to serve
    end
    if not result[name] and not tuning.refusal(spec, name) then
      result[name], from[name] = derive(spec, name, how, results)
    end
  end
  return json.ordered(result, names), json.ordered(from, names)
end

-- tuned.sizes for a completed spec. Where the spec chooses the family's parameters, they are the only variant.
function tuning.sizes(spec, name, largest, most)
  local chosen = spec.choices.tuning and spec.choices.tuning[name]
  return tuned.sizes(spec, name, largest, chosen and 1 or most, resolver(spec, name))
end

return tuning
