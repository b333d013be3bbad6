-- Hugging Face config.json to the `model` object of a spec. Features that no kernel supports are kept, for
-- spec.complete to refuse by name; a key that may change attention and is not known here is refused here.
local host = require "host"
local fail = require "fail"
local families = require "families"
local json = require "json"

local config = {}

local null = host.null

-- Keys copied as they are, in every model type.
local copied = { "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "num_hidden_layers",
  "max_position_embeddings", "rope_theta", "rope_scaling", "partial_rotary_factor", "attention_bias" }

-- Keys that a name like an attention feature's does not make one.
local harmless = {}
for _, key in ipairs { "attention_dropout", "attn_pdrop", "attn_implementation", "_attn_implementation",
  "_attn_implementation_autoset", "_attn_implementation_internal", "attention_probs_dropout_prob",
  "output_attentions", "pruned_heads", "chunk_size_feed_forward", "original_max_position_embeddings",
  "_sliding_window_pattern", "final_logit_softcapping" } do
  harmless[key] = true
end
local signs = { "attn", "attention", "rope", "rotary", "head", "window", "softcap", "alibi", "qk_", "kv_", "_qk", "_kv",
  "qkv", "sink", "position", "lora_rank", "causal", "layer_types", "multi_query", "chunk_size" }

local function may_change_attention(key)
  for _, sign in ipairs(signs) do
    if key:find(sign, 1, true) then return true end
  end
  return false
end

local function refuse(status, source, field, text, ...)
  error { status = status, field = field, file = source, message = field .. ": " .. text:format(...) }
end

local function check_keys(given, kind, source)
  local known = { rope_parameters = true, layer_types = true }
  for _, list in ipairs { copied, kind.reads or {}, kind.ignores or {} } do
    for _, key in ipairs(list) do known[key] = true end
  end
  for key in pairs(kind.renames or {}) do known[key] = true end
  for key, value in pairs(given) do
    local off = value == null or value == false
    if not known[key] and not harmless[key] and not off and may_change_attention(key) then
      refuse("unsupported", source, key, "is not known for model_type '%s', and may change attention; set it to null " ..
        "if it does not", given.model_type)
    end
  end
end

local function without_nulls(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, member in pairs(value) do
    if member ~= null then copy[key] = without_nulls(member) end
  end
  return copy
end

-- ---------------------------------------------------------------- rope_parameters (transformers 5)
-- It says what rope_theta and rope_scaling say. Returns them.
local function split_parameters(parameters, source, field)
  local scaling, theta, partial = {}, nil, nil
  for key, value in pairs(parameters) do
    if key == "rope_theta" then
      theta = value
    elseif key == "partial_rotary_factor" then
      partial = value
    elseif type(value) == "table" and value[1] == nil then
      refuse("unsupported", source, field, "'%s' within is not supported; supported: full_attention, sliding_attention", key)
    else
      scaling[key] = value
    end
  end
  local stretched = scaling.rope_type and scaling.rope_type ~= "default"
  return theta, stretched and scaling or nil, partial
end

local function take_parameters(model, parameters, source, field)
  local theta, scaling, partial = split_parameters(parameters, source, field)
  model.rope_theta = theta or model.rope_theta
  model.partial_rotary_factor = partial or model.partial_rotary_factor
  model.rope_scaling = scaling
end

local function object_of(parameters, key, source)
  local value = parameters[key] or {}
  if type(value) ~= "table" then refuse("spec", source, "rope_parameters." .. key, "must be an object") end
  return value
end

-- One set for all layers, or one for each kind.
local function read_rope(model, given, source)
  local parameters = given.rope_parameters
  if parameters == nil or parameters == null then return end
  if type(parameters) ~= "table" then refuse("spec", source, "rope_parameters", "must be an object") end
  parameters = without_nulls(parameters)
  if not parameters.full_attention and not parameters.sliding_attention then
    take_parameters(model, parameters, source, "rope_parameters")
    return
  end
  for key in pairs(parameters) do
    if key ~= "full_attention" and key ~= "sliding_attention" then
      refuse("unsupported", source, "rope_parameters", "'%s' is not supported; supported: full_attention, sliding_attention",
        key)
    end
  end
  take_parameters(model, object_of(parameters, "full_attention", source), source, "rope_parameters.full_attention")
  local theta, scaling = split_parameters(object_of(parameters, "sliding_attention", source), source,
    "rope_parameters.sliding_attention")
  if scaling then
    refuse("unsupported", source, "rope_parameters.sliding_attention", "stretched RoPE in sliding layers is not supported")
  end
  model.rope_local_base_freq = theta or model.rope_local_base_freq
end

-- ---------------------------------------------------------------- reading
local function check_layer_types(given, source)
  local types = given.layer_types
  if types == nil or types == null then return end
  if type(types) ~= "table" then refuse("spec", source, "layer_types", "must be a list") end
  for _, layer in ipairs(types) do
    if layer ~= "full_attention" and layer ~= "sliding_attention" then
      refuse("unsupported", source, "layer_types", "'%s' is not supported; supported: full_attention, sliding_attention",
        tostring(layer))
    end
  end
end

local function take_keys(model, given, kind)
  local function take(key)
    local value = given[key]
    for theirs, ours in pairs(kind.renames or {}) do
      if value == nil and ours == key then value = given[theirs] end
    end
    if value == nil and kind.defaults then value = kind.defaults[key] end
    if value ~= null then model[key] = without_nulls(value) end
  end
  for _, key in ipairs(copied) do take(key) end
  for _, key in ipairs(kind.reads or {}) do take(key) end
  for key, value in pairs(kind.fixed or {}) do model[key] = value end
end

-- The text model of a larger one.
local function text_model(given, source)
  local within = families.within[given.model_type]
  if not within then return given end
  local inner = given[within.key]
  if type(inner) ~= "table" then refuse("spec", source, within.key, "is missing; it must be an object") end
  local copy = { model_type = within.model_type }
  for key, value in pairs(inner) do
    if value ~= null or key ~= "model_type" then copy[key] = value end
  end
  if copy.model_type ~= within.model_type then
    refuse("unsupported", source, within.key .. ".model_type", "'%s' is not supported; supported: %s",
      tostring(copy.model_type):sub(1, 60), within.model_type)
  end
  return copy
end

-- `given` is the parsed file, nulls kept as host.null; `source` names it in errors.
function config.read(given, source)
  if type(given) ~= "table" or given[1] ~= nil then refuse("format", source, "config", "must be a JSON object") end
  given = text_model(given, source)
  local name = given.model_type
  if name == nil or name == null then refuse("spec", source, "model_type", "is missing") end
  local kind = families.types[name]
  if not kind then
    refuse("unsupported", source, "model_type", "'%s' is not supported; %s", tostring(name):sub(1, 60),
      fail.suggestion(tostring(name), families.names()))
  end
  check_keys(given, kind, source)
  check_layer_types(given, source)
  local model = { model_type = name }
  take_keys(model, given, kind)
  read_rope(model, given, source)
  if kind.adapt then
    kind.adapt(model, without_nulls(given), function(...) refuse("unsupported", source, ...) end)
  end
  for _, key in ipairs { "hidden_size", "num_attention_heads" } do
    if model[key] == nil then refuse("spec", source, key, "is missing; it must be a whole number") end
  end
  return json.ordered(model, { "model_type", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim" })
end

return config
