-- Reads the rotary embeddings of a config.json: rope_theta, rope_scaling and partial_rotary_factor, or rope_parameters,
-- the object that transformers 5 has instead, with one set for all layers or one for each kind.
local config_keys = require "config_keys"
local host = require "host"
local json = require "json"

local config_rope = {}

local null = host.null
local show = config_keys.show

local function has_keys(object)
  for _ in pairs(object) do return true end
  return false
end

local function is_object(value) return type(value) == "table" and not json.is_array(value) end
config_rope.is_object = is_object

function config_rope.without_nulls(value)
  if type(value) ~= "table" then return value end
  local copy, list = {}, json.is_array(value)
  for key, member in pairs(value) do
    if list or member ~= null then copy[key] = config_rope.without_nulls(member) end
  end
  return setmetatable(copy, getmetatable(value))
end

local function given_value(given, key)
  local value = given[key]
  if value ~= null then return value end
end

-- ---------------------------------------------------------------- one set
-- Removes members of `set` that change nothing.
local function drop_statements(set, field, refuse)
  if type(set.finetuned) == "boolean" then set.finetuned = nil end -- tells how the model was trained
  if set.attn_factor == 1 then set.attn_factor = nil end
  if set.attn_factor ~= nil then
    refuse("unsupported", field .. ".attn_factor", "has no meaning that engines agree on: some ignore it, some multiply " ..
      "the attention factor by it. Remove it, and give attention_factor, the factor of rotated queries and keys")
  end
  if set.mrope_section ~= nil then
    refuse("unsupported", field .. ".mrope_section", "is not supported, because its positions have several dimensions")
  end
  local kind = set.rope_type or set.type
  if kind == "default" or kind == "linear" then set.original_max_position_embeddings = nil end
  if kind == "default" and set.factor == 1 then set.factor = nil end
end

-- Reads one set of parameters → {theta, partial, typed, scaling}. `typed`: the set has a rope_type (or type). `scaling`
-- says how frequencies are stretched, and is nil where they are not.
local function read_set(set, field, refuse)
  set = config_rope.without_nulls(set)
  drop_statements(set, field, refuse)
  local result = { theta = set.rope_theta, partial = set.partial_rotary_factor }
  set.rope_theta, set.partial_rotary_factor = nil, nil
  local kind = set.rope_type or set.type
  result.typed = kind ~= nil
  if not kind and has_keys(set) then refuse("spec", field .. ".rope_type", "is missing; valid: default, linear, llama3, yarn, longrope") end
  local alone = kind == "default" and (set.type == nil or set.rope_type == nil or set.type == set.rope_type)
  for key in pairs(set) do alone = alone and (key == "type" or key == "rope_type") end
  if has_keys(set) and not alone then result.scaling = set end
  return result
end

-- Checks that a value in a set agrees with the same key at the top level of the file. Returns the value.
local function agree(given, key, value, field, refuse)
  local other = given_value(given, key)
  if value ~= nil and other ~= nil and not json.same(value, other) then
    refuse("spec", field, "is %s, but %s is %s; remove one of them", show(value), key, show(other))
  end
  return value
end

-- A copy in which only rope_type names the kind.
local function canonical(scaling)
  local copy = {}
  for key, value in pairs(scaling or {}) do copy[key] = value end
  copy.rope_type, copy.type = copy.rope_type or copy.type, nil
  return copy
end

-- ---------------------------------------------------------------- the file
local function read_scaling(model, given, refuse)
  local set = given_value(given, "rope_scaling")
  if not is_object(set) then return end -- nil is the default; the model's check refuses all else
  local read = read_set(set, "rope_scaling", refuse)
  model.rope_theta = agree(given, "rope_theta", read.theta, "rope_scaling.rope_theta", refuse) or model.rope_theta
  model.partial_rotary_factor = agree(given, "partial_rotary_factor", read.partial, "rope_scaling.partial_rotary_factor",
    refuse) or model.partial_rotary_factor
  model.rope_scaling = read.scaling
end

local function take_set(model, given, set, field, refuse)
  local read = read_set(set, field, refuse)
  model.rope_theta = agree(given, "rope_theta", read.theta, field .. ".rope_theta", refuse) or model.rope_theta
  model.partial_rotary_factor = agree(given, "partial_rotary_factor", read.partial, field .. ".partial_rotary_factor",
    refuse) or model.partial_rotary_factor
  if given_value(given, "rope_scaling") == nil then
    model.rope_scaling = read.scaling
  elseif read.typed and not json.same(canonical(read.scaling), canonical(model.rope_scaling)) then
    refuse("spec", "rope_scaling", "differs from %s; remove one of them", field)
  end
end

local function object_of(parameters, key, refuse)
  local value = parameters[key] or {}
  if not is_object(value) then refuse("spec", "rope_parameters." .. key, "must be an object") end
  return value
end

local function take_kinds(model, given, parameters, refuse)
  for key in pairs(parameters) do
    if key ~= "full_attention" and key ~= "sliding_attention" then
      refuse("unsupported", "rope_parameters", "'%s' is not supported; supported: full_attention, sliding_attention",
        tostring(key):sub(1, 60))
    end
  end
  take_set(model, given, object_of(parameters, "full_attention", refuse), "rope_parameters.full_attention", refuse)
  local field = "rope_parameters.sliding_attention"
  local sliding = read_set(object_of(parameters, "sliding_attention", refuse), field, refuse)
  if sliding.scaling then
    refuse("unsupported", field, "stretched RoPE in sliding layers is not supported")
  elseif sliding.partial and sliding.partial ~= (model.partial_rotary_factor or 1) then
    refuse("unsupported", field .. ".partial_rotary_factor", "%s is not supported: it differs from that of full layers",
      show(sliding.partial))
  end
  model.rope_local_base_freq = agree(given, "rope_local_base_freq", sliding.theta, field .. ".rope_theta", refuse) or
    model.rope_local_base_freq
end

-- Sets the rotary keys of `model`, which was copied from `given`. The failure callback is refuse(status, field, text,
-- ...).
function config_rope.read(model, given, refuse)
  read_scaling(model, given, refuse)
  local parameters = given_value(given, "rope_parameters")
  if parameters == nil then return end
  if not is_object(parameters) then refuse("spec", "rope_parameters", "must be an object") end
  parameters = config_rope.without_nulls(parameters)
  if parameters.full_attention ~= nil or parameters.sliding_attention ~= nil then
    take_kinds(model, given, parameters, refuse)
    return
  end
  for key, value in pairs(parameters) do
    if is_object(value) then
      refuse("unsupported", "rope_parameters", "has '%s', which is not supported; supported: full_attention, sliding_attention",
        tostring(key):sub(1, 60))
    end
  end
  take_set(model, given, parameters, "rope_parameters", refuse)
end

return config_rope
