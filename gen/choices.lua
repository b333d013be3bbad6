-- The choices within a spec. A completed spec keeps them under `choices`, as they were given, beside the values that
-- are derived from them. So a derived value is never mistaken for a choice, and is derived again when a choice changes.
local host = require "host"
local fail = require "fail"
local json = require "json"
local models = require "models"
local nulls = require "nulls"
local schema = require "schema"
local tuning = require "tuning"

local choices = {}

local null = host.null

-- ---------------------------------------------------------------- reading
-- The values of the preset that a model names; {} where it names none, or an unknown one, which is refused later.
local function preset_of(model)
  local name = type(model) == "table" and model.preset
  return type(name) == "string" and models.find(name) or {}
end

local function without_nulls(value)
  if type(value) ~= "table" then return value end
  local copy, list = {}, json.is_array(value)
  for key, member in pairs(value) do
    if list or member ~= null then copy[key] = without_nulls(member) end
  end
  return setmetatable(copy, getmetatable(value))
end

-- A copy without members that are null. A null is kept in two places: beside the name of a preset, where it takes away
-- a value of the preset, and in computed members, which must not differ from what completion computes.
function choices.read(given)
  if not schema.is_object(given) then return given end
  nulls.check(given)
  local copy = without_nulls(given)
  for _, name in ipairs(schema.added) do
    if given[name] ~= null then copy[name] = given[name] end
  end
  if schema.is_object(given.model) then
    local preset = preset_of(given.model)
    for key, value in pairs(given.model) do
      if value == null and preset[key] ~= nil then copy.model[key] = null end
    end
  end
  if schema.is_object(given.choices) then copy.choices = choices.read(given.choices) end
  return copy
end

-- Everything but the members that completion adds.
function choices.of(given)
  local chosen = {}
  for key, value in pairs(given) do
    if not schema.contains(schema.added, key) then chosen[key] = value end
  end
  return chosen
end

function choices.check(given)
  if not schema.is_object(given) then fail.spec("choices", "must be an object, not %s", schema.show(given)) end
  for key in pairs(given) do
    if schema.contains(schema.added, key) then fail.spec("choices." .. key, "is computed, not chosen; leave it out") end
  end
end

-- ---------------------------------------------------------------- writing
local function is_empty(value)
  if not schema.is_object(value) then return false end
  for _ in pairs(value) do return false end
  return true
end

local function ordered_copy(object, keys)
  local copy = {}
  for key, value in pairs(object) do copy[key] = value end
  return json.ordered(copy, schema.names_of(keys))
end

-- A family without parameters has nothing to choose, and is left out.
local function without_empty_families(given)
  local result = {}
  for family, values in pairs(given) do
    if not is_empty(values) or not schema.contains(tuning.families(), family) then result[family] = values end
  end
  return result
end

-- The canonical form of these choices, whatever the order in which they were made. `unchecked`: the choices were not
-- completed yet. They then keep families without parameters, so that completion can refuse those that cannot serve the
-- spec.
function choices.canonical(chosen, unchecked)
  local result = ordered_copy(chosen, schema.top)
  if schema.is_object(result.model) then
    result.model = ordered_copy(result.model, schema.model)
    local alone = true
    for key in pairs(result.model) do alone = alone and key == "preset" end
    if alone and type(result.model.preset) == "string" then result.model = result.model.preset end
  end
  if schema.is_object(result.cache) then result.cache = ordered_copy(result.cache, schema.cache) end
  if schema.is_object(result.tuning) then
    result.tuning = ordered_copy(unchecked and result.tuning or without_empty_families(result.tuning), {})
  end
  for _, name in ipairs { "cache", "tuning" } do
    if is_empty(result[name]) then result[name] = nil end
  end
  return result
end

-- ---------------------------------------------------------------- overriding
-- A JSON merge patch (RFC 7386): null removes a choice.
local function merge(target, patch)
  if not schema.is_object(patch) then return patch end
  local result = {}
  for key, value in pairs(schema.is_object(target) and target or {}) do result[key] = value end
  for key, value in pairs(patch) do
    if value == null then result[key] = nil else result[key] = merge(result[key], value) end
  end
  return result
end

local function model_as_object(model)
  local result = {}
  if type(model) == "string" then return { preset = model } end
  for key, value in pairs(schema.is_object(model) and model or {}) do result[key] = value end
  return result
end

-- Removes a choice. A value of a preset is a choice too, so null must stand beside the preset's name there.
local function remove(model, key)
  model[key] = preset_of(model)[key] ~= nil and null or nil
end

-- The values of a preset count as members of the model.
local function merge_model(model, patch)
  if patch == null then return nil end
  if not schema.is_object(patch) then return patch end
  local result = model_as_object(model)
  if patch.preset ~= nil then result.preset = patch.preset ~= null and patch.preset or nil end
  local preset = preset_of(result)
  for key, value in pairs(patch) do
    if value == null and key ~= "preset" then
      remove(result, key)
    elseif key ~= "preset" then
      local old = result[key]
      if old == nil then old = preset[key] end
      result[key] = merge(old, value)
    end
  end
  return result
end

-- The choices with `patch` on top. A `model` object in the patch changes members of the model; a name replaces the
-- model.
function choices.override(chosen, patch)
  if not schema.is_object(patch) then fail.spec("overrides", "must be an object, not %s", schema.show(patch)) end
  for key in pairs(patch) do
    if schema.contains(schema.added, key) then fail.spec(key, "is computed, and cannot be overridden") end
  end
  nulls.check(patch)
  local model, rest = chosen.model, {}
  if patch.model ~= nil then model = merge_model(model, patch.model) end
  for key, value in pairs(patch) do
    if key ~= "model" then rest[key] = value end
  end
  local result = merge(chosen, rest)
  result.model = model
  return result
end

-- ---------------------------------------------------------------- edits by hand
-- For each key that completion puts into a model, the keys of the choices that it replaces.
local stands_for = {
  rope = { "rope_theta", "rope_scaling", "rope_interleaved", "partial_rotary_factor" },
  layer_types = { "sliding_window_pattern", "max_window_layers" },
  layer_kinds = { "rope", "rope_theta", "rope_scaling", "rope_interleaved", "partial_rotary_factor",
    "rope_local_base_freq", "sliding_window" },
  attention_scale = { "query_pre_attn_scalar" },
}

local function union(a, b)
  local keys = {}
  for key in pairs(a) do keys[key] = true end
  for key in pairs(b) do keys[key] = true end
  return keys
end

-- Members of `given` that differ from those of `base` become choices. A member that was removed is no choice any more.
local function edit_members(chosen, given, base)
  local result = {}
  for key, value in pairs(schema.is_object(chosen) and chosen or {}) do result[key] = value end
  for key in pairs(union(given, base)) do
    if not json.same(given[key], base[key]) then result[key] = given[key] end
  end
  return result
end

-- Whether a removed member is derived again because the model mixes layers and layer_kind chooses the value.
local function is_derived_again(model, key, value)
  if key == "rope" and value ~= nil then
    fail.spec("model.rope", "cannot be edited, because layer_kind chooses it; edit the one in model.layer_kinds")
  end
  return value == nil and (key == "rope" or key == "sliding_window" or key == "layer_kinds" and not model.layer_kinds)
end

local function edit_model(chosen, given, base)
  if not schema.is_object(given) or given.preset ~= nil then return given end -- another model replaces the choices
  local model = model_as_object(chosen)
  for key in pairs(union(given, base)) do
    local value = given[key]
    if not json.same(value, base[key]) and not (base.layer_kinds and is_derived_again(model, key, value)) then
      for _, other in ipairs(stands_for[key] or {}) do remove(model, other) end
      remove(model, key)
      if value ~= nil then model[key] = value end
    end
  end
  return model
end

local function edit_tuning(chosen, given, base)
  if not schema.is_object(given) then return given end
  local result = {}
  for family, values in pairs(schema.is_object(chosen) and chosen or {}) do result[family] = values end
  for family in pairs(union(given, base)) do
    local values = given[family]
    if schema.is_object(values) and base[family] then
      local edited = edit_members(result[family], values, base[family])
      result[family] = not (is_empty(edited) and result[family] == nil) and edited or nil
    else
      result[family] = values
    end
  end
  return result
end

-- The choices of a completed spec that was edited after completion. `base` is what its `choices` complete to.
function choices.edited(given, base)
  local result = choices.of(given.choices)
  for key in pairs(union(choices.of(given), choices.of(base))) do
    local value = given[key]
    if key == "model" then
      result.model = edit_model(result.model, value, base.model)
    elseif key == "cache" and schema.is_object(value) then
      result.cache = edit_members(result.cache, value, base.cache)
    elseif key == "tuning" then
      result.tuning = edit_tuning(result.tuning, value, base.tuning)
    elseif not json.same(value, base[key]) then
      result[key] = value
    end
  end
  return result
end

return choices
