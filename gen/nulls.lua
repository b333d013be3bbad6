-- Members of a spec that are null count as absent. Their names must still be known, or a mistyped name would be
-- ignored.
local host = require "host"
local schema = require "schema"
local tuning = require "tuning"

local nulls = {}

-- Fails where a member of `object` is null and its name is not among `keys`. `inner[NAME](prefix, value)` checks a
-- member that is an object itself.
local function check_members(prefix, object, keys, inner)
  if not schema.is_object(object) then return end
  local absent = {}
  for name, value in pairs(object) do
    if value == host.null then
      absent[name] = value
    elseif inner and inner[name] then
      inner[name](prefix .. name .. ".", value)
    end
  end
  schema.check_names(prefix, absent, keys)
end

-- A patch may change the kind of scaling and remove keys of the old kind, so the keys of every kind are known.
local function check_scaling(prefix, object) check_members(prefix, object, schema.scaling_names) end

local function check_rope(prefix, object) check_members(prefix, object, schema.rope, { scaling = check_scaling }) end

local function check_kind(prefix, object) check_members(prefix, object, schema.layer_kind, { rope = check_rope }) end

local function check_kinds(prefix, object)
  check_members(prefix, object, schema.layer_kinds, { full = check_kind, sliding = check_kind, nope = check_kind })
end

local function check_model(prefix, object)
  check_members(prefix, object, schema.model,
    { rope = check_rope, rope_scaling = check_scaling, layer_kinds = check_kinds })
end

local function check_cache(prefix, object) check_members(prefix, object, schema.cache) end

local function keys_of(names)
  local keys = {}
  for i, name in ipairs(names) do keys[i] = { name } end
  return keys
end

local function check_tuning(prefix, object)
  local inner = {}
  for _, family in ipairs(tuning.families()) do
    inner[family] = function(family_prefix, values)
      local names = {}
      for i, parameter in ipairs(tuning.family(family).parameters) do names[i] = parameter.name end
      check_members(family_prefix, values, keys_of(names))
    end
  end
  check_members(prefix, object, keys_of(tuning.families()), inner)
end

-- Fails where a null member of a spec, or of overrides, has a name that a spec does not know.
function nulls.check(given)
  check_members("", given, schema.top, { model = check_model, cache = check_cache, tuning = check_tuning })
end

return nulls
