-- Converts a Hugging Face config.json to the `model` object of a spec. Features that no kernel supports are kept, so
-- that spec.complete refuses them by name. A key that may change attention and is not known here is refused here.
local config_keys = require "config_keys"
local config_rope = require "config_rope"
local host = require "host"
local fail = require "fail"
local families = require "families"
local json = require "json"
local schema = require "schema"

local config = {}

local null = host.null
local show, without_nulls = config_keys.show, config_rope.without_nulls

-- Keys that are copied unchanged, for every model type.
local copied = { "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "num_hidden_layers",
  "max_position_embeddings", "rope_theta", "rope_scaling", "partial_rotary_factor", "attention_bias" }

-- Keys that only choose how other keys are read. No later check sees their type, so it is checked here.
local flags = { use_sliding_window = true, multi_query = true, new_decoder_architecture = true }

-- Returns a function(status, field, text, ...) that refuses the file.
local function refuser(source)
  return function(status, field, text, ...)
    error { status = status, field = field, file = source, message = field .. ": " .. text:format(...) }
  end
end

local function has(value) return value ~= nil and value ~= null end

-- ---------------------------------------------------------------- taking keys over
local function known_keys(kind)
  local known = { rope_parameters = true, layer_types = true }
  for _, list in ipairs { copied, kind.reads or {}, kind.ignores or {} } do
    for _, key in ipairs(list) do known[key] = true end
  end
  for _, names in ipairs { kind.renames or {}, kind.fixed or {} } do
    for key in pairs(names) do known[key] = true end
  end
  return known
end

-- The value of a key, which may stand under its own name or another one. Where both are given, they must agree.
local function value_of(given, kind, key, refuse)
  local value = given[key]
  for theirs, ours in pairs(kind.renames or {}) do
    local other = given[theirs]
    if ours == key and other ~= nil then
      if has(value) and has(other) and value ~= other then
        refuse("spec", theirs, "is %s, but %s is %s; remove one of them", show(other), key, show(value))
      end
      if not has(value) then value = other end
    end
  end
  return value
end

local function check_finite(value, field, refuse)
  if type(value) == "table" then
    for key, member in pairs(value) do
      check_finite(member, field .. (type(key) == "number" and "[" .. key - 1 .. "]" or "." .. key), refuse)
    end
  elseif value == math.huge or value == -math.huge or value ~= value then
    refuse("spec", field, "must be a finite number")
  end
end

local function take_keys(model, given, kind, refuse)
  local function take(key)
    local value = value_of(given, kind, key, refuse)
    if value == nil and kind.defaults then value = kind.defaults[key] end
    if value == null then return end
    check_finite(value, key, refuse)
    if flags[key] and value ~= nil and type(value) ~= "boolean" then
      refuse("spec", key, "must be true or false, not %s", schema.show(value))
    end
    model[key] = without_nulls(value)
  end
  for _, key in ipairs(copied) do take(key) end
  for _, key in ipairs(kind.reads or {}) do take(key) end
  for key, value in pairs(kind.fixed or {}) do
    if has(given[key]) and given[key] ~= value and not (given[key] == true and value) then
      refuse("unsupported", key, "%s is not supported: the code of model_type '%s' fixes %s", show(given[key]),
        model.model_type, show(value))
    end
    model[key] = value
  end
end

-- ---------------------------------------------------------------- layers
local listed = { full_attention = true, sliding_attention = true }

local function check_layer_types(given, kind, refuse)
  local types = given.layer_types
  if not has(types) then return end
  if not json.is_array(types) then
    refuse("spec", "layer_types", "must be a list with the kind of each layer, not %s", show(types))
  end
  local layers = given.num_hidden_layers
  if #types == 0 or (math.type(layers) == "integer" and #types ~= layers) then
    refuse("spec", "layer_types", "must have the kind of each layer: it has %d entries, and num_hidden_layers is %s", #types,
      show(layers))
  end
  for _, layer in ipairs(types) do
    if not listed[layer] and not (kind.linear and layer == "linear_attention") then
      refuse("unsupported", "layer_types", "'%s' is not supported; supported: full_attention, sliding_attention%s",
        show(layer), kind.linear and ", linear_attention" or "")
    end
  end
end

-- Where the code of a model type does not read layer_types, a list that is given must agree with what that code does.
local function check_stated_types(model, given, kind, refuse)
  for _, key in ipairs(kind.reads or {}) do
    if key == "layer_types" then return end
  end
  local expected = model.sliding_window and "sliding_attention" or "full_attention"
  for i, layer in ipairs(has(given.layer_types) and given.layer_types or {}) do
    if layer ~= expected then
      refuse("unsupported", "layer_types", "'%s' (layer %d) is not supported for model_type '%s', whose layers here are " ..
        "all %s", show(layer), i - 1, model.model_type, expected)
    end
  end
end

-- ---------------------------------------------------------------- the file
-- The text model within a larger model. Keys beside it that may change attention must have the same values as within
-- it.
local function text_model(given, refuse)
  local within = families.within[given.model_type]
  if not within then return given end
  local inner = given[within.key]
  if not config_rope.is_object(inner) then
    refuse("spec", within.key, "%s; it must be an object", has(inner) and "is " .. show(inner) or "is missing")
  end
  local copy = { model_type = within.model_type }
  for key, value in pairs(inner) do
    if value ~= null or key ~= "model_type" then copy[key] = value end
  end
  if copy.model_type ~= within.model_type then
    refuse("unsupported", within.key .. ".model_type", "'%s' is not supported; supported: %s", show(copy.model_type),
      within.model_type)
  end
  for key, value in pairs(given) do
    local off = value == null or value == false and not config_keys.direction_of(key)
    if config_keys.may_change_attention(key) and not off and not json.same(value, inner[key]) then
      refuse("unsupported", key, "differs from the same key in %s; remove it", within.key)
    end
  end
  return copy
end

-- `given` is the parsed file, with nulls kept as host.null; `source` names the file in errors.
function config.read(given, source)
  local refuse = refuser(source)
  if not config_rope.is_object(given) then refuse("format", "config", "must be a JSON object") end
  given = text_model(given, refuse)
  local name = given.model_type
  if not has(name) then refuse("spec", "model_type", "is missing") end
  if type(name) ~= "string" then refuse("spec", "model_type", "must be a string, not %s", schema.show(name)) end
  local kind = families.types[name]
  if not kind then
    refuse("unsupported", "model_type", "'%s' is not supported; %s", show(name),
      fail.suggestion(tostring(name):sub(1, 60), families.names()))
  end
  check_layer_types(given, kind, refuse)
  local model = { model_type = name }
  take_keys(model, given, kind, refuse)
  config_rope.read(model, given, refuse)
  local function unsupported(...) refuse("unsupported", ...) end
  if kind.adapt then kind.adapt(model, without_nulls(given), unsupported) end
  check_stated_types(model, given, kind, refuse)
  config_keys.check_unknown(given, known_keys(kind), model, kind, unsupported)
  for _, key in ipairs { "hidden_size", "num_attention_heads" } do
    if model[key] == nil then refuse("spec", key, "%s", schema.missing(schema.model, key)) end
  end
  return json.ordered(model, { "model_type", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim" })
end

return config
