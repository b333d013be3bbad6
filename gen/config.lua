-- Hugging Face config.json to the `model` object of a spec. Features that no kernel supports are kept, for
-- spec.complete to refuse by name; a key that may change attention and is not known here is refused here.
local host = require "host"
local fail = require "fail"
local json = require "json"

local config = {}

local null = host.null

-- Keys copied as they are, in every model type.
local copied = { "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "num_hidden_layers",
  "max_position_embeddings", "rope_theta", "rope_scaling", "partial_rotary_factor", "attention_bias" }

-- What each model_type adds: keys that it reads, values that its code fixes, and (as in the configuration
-- classes of transformers) what a missing key means.
local types = {
  llama = { defaults = { attention_bias = false } },
  mistral = { reads = { "sliding_window" }, defaults = { sliding_window = 4096 } },
  qwen2 = { fixed = { attention_bias = true },
    reads = { "sliding_window", "use_sliding_window", "max_window_layers" },
    defaults = { use_sliding_window = false } },
  qwen3 = { fixed = { qk_norm = true }, reads = { "sliding_window", "use_sliding_window", "max_window_layers" },
    defaults = { use_sliding_window = false, head_dim = 128 } },
  qwen3_moe = { fixed = { qk_norm = true }, reads = { "sliding_window", "use_sliding_window", "max_window_layers" },
    defaults = { use_sliding_window = false } },
  gemma3_text = { fixed = { qk_norm = true },
    reads = { "sliding_window", "sliding_window_pattern", "query_pre_attn_scalar", "attn_logit_softcapping",
      "rope_local_base_freq" },
    defaults = { sliding_window = 4096, head_dim = 256, query_pre_attn_scalar = 256, rope_theta = 1000000,
      rope_local_base_freq = 10000 } },
  phi3 = { reads = { "sliding_window", "original_max_position_embeddings" } },
  gpt_oss = { fixed = { attention_sinks = true }, reads = { "sliding_window" },
    defaults = { sliding_window = 128, attention_bias = true, rope_theta = 150000, head_dim = 64 } },
}

-- Keys that a name like an attention feature's does not make one.
local harmless = {}
for _, key in ipairs { "attention_dropout", "attn_pdrop", "attn_implementation", "_attn_implementation",
  "_attn_implementation_autoset", "_attn_implementation_internal", "attention_probs_dropout_prob",
  "output_attentions", "pruned_heads", "chunk_size_feed_forward", "original_max_position_embeddings",
  "_sliding_window_pattern" } do
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

local function type_names()
  local names = {}
  for name in pairs(types) do names[#names + 1] = name end
  return names
end

local function check_keys(given, kind, source)
  local known = { rope_parameters = true, layer_types = true }
  for _, key in ipairs(copied) do known[key] = true end
  for _, key in ipairs(kind.reads or {}) do known[key] = true end
  for key, value in pairs(given) do
    local off = value == null or value == false
    if not known[key] and not harmless[key] and not off and may_change_attention(key) then
      refuse("unsupported", source, key, "is not known for model_type '%s', and may change attention; set it to null " ..
        "if it does not", given.model_type)
    end
  end
end

-- rope_parameters (transformers 5) says what rope_theta and rope_scaling say.
local function read_rope(model, given, source)
  local parameters = given.rope_parameters
  if parameters == nil or parameters == null then return end
  if type(parameters) ~= "table" then refuse("spec", source, "rope_parameters", "must be an object") end
  local scaling, extra = {}, false
  for key, value in pairs(parameters) do
    if type(value) == "table" then
      refuse("unsupported", source, "rope_parameters", "a second rotary base for local layers is not supported yet")
    end
    if key == "rope_theta" or key == "partial_rotary_factor" then
      if value ~= null then model[key] = value end
    elseif value ~= null then
      scaling[key] = value
      extra = extra or key == "rope_type" and value ~= "default"
    end
  end
  model.rope_scaling = extra and scaling or nil
end

-- Whether layer_types leaves any layer with a sliding window; nil where it says nothing.
local function any_sliding(given, source)
  local layers = given.layer_types
  if layers == nil or layers == null then return nil end
  if type(layers) ~= "table" then refuse("spec", source, "layer_types", "must be a list") end
  local sliding = false
  for _, layer in ipairs(layers) do
    if layer ~= "full_attention" and layer ~= "sliding_attention" then
      refuse("unsupported", source, "layer_types", "'%s' is not supported yet; supported: full_attention",
        tostring(layer))
    end
    sliding = sliding or layer == "sliding_attention"
  end
  return sliding
end

local function without_nulls(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, member in pairs(value) do
    if member ~= null then copy[key] = without_nulls(member) end
  end
  return copy
end

-- `given` is the parsed file, nulls kept as host.null; `source` names it in errors.
function config.read(given, source)
  if type(given) ~= "table" or given[1] ~= nil then refuse("format", source, "config", "must be a JSON object") end
  local name = given.model_type
  if name == nil or name == null then refuse("spec", source, "model_type", "is missing") end
  local kind = types[name]
  if not kind then
    refuse("unsupported", source, "model_type", "'%s' is not supported; %s", tostring(name):sub(1, 60),
      fail.suggestion(tostring(name), type_names()))
  end
  check_keys(given, kind, source)
  local model = { model_type = name }
  local function take(key)
    local value = given[key]
    if value == nil and kind.defaults then value = kind.defaults[key] end
    if value ~= null then model[key] = without_nulls(value) end
  end
  for _, key in ipairs(copied) do take(key) end
  for _, key in ipairs(kind.reads or {}) do take(key) end
  for key, value in pairs(kind.fixed or {}) do model[key] = value end
  read_rope(model, given, source)
  if any_sliding(given, source) == false or model.use_sliding_window == false then model.sliding_window = nil end
  for _, key in ipairs { "use_sliding_window", "max_window_layers", "sliding_window_pattern",
    "original_max_position_embeddings" } do
    model[key] = nil
  end
  for _, key in ipairs { "hidden_size", "num_attention_heads" } do
    if model[key] == nil then refuse("spec", source, key, "is missing; it must be a whole number") end
  end
  return json.ordered(model, { "model_type", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim" })
end

return config
