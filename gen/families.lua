-- The model types of Hugging Face config.json files (the configuration classes of transformers): what each key means
-- for attention, what a missing key means, and what the model's code fixes. gen/config.lua reads files by this table.
--
-- A model type is an object with these members. reads: keys that are copied beside the common ones. renames: {their key
-- = our key}. defaults: values of missing keys. fixed: values that the model's code fixes. ignores: keys whose names
-- sound like attention and that do not change it. linear: some layers have linear attention. gated: the model
-- multiplies the output of attention by a gate afterwards, which is not part of our kernels. adapt: function(model,
-- given, refuse), which may still change `model`. `refuse(key, text, ...)` refuses the file for a feature.
local config_keys = require "config_keys"
local json = require "json"

local families = {}

local function drop(model, ...)
  for _, key in ipairs { ... } do model[key] = nil end
end

local function drop_window(model)
  drop(model, "sliding_window", "sliding_window_pattern", "max_window_layers", "layer_types")
end

-- Makes the list layer_types. name_of(layer), with layers counted from 0, names the kind of a layer.
local function list_types(count, name_of)
  local types = {}
  for layer = 0, count - 1 do types[layer + 1] = name_of(layer) end
  return types
end

-- Returns a function(layer) that names the kind of a layer in Exaone's pattern. The pattern is a number N (each N-th
-- layer is full), or letters (L: sliding, G: full) that repeat.
local function by_pattern(pattern)
  if math.type(pattern) == "integer" and pattern > 0 then
    return function(layer) return (layer + 1) % pattern ~= 0 and "sliding_attention" or "full_attention" end
  elseif type(pattern) == "string" and pattern:find("^[LG]+$") then
    return function(layer)
      local at = layer % #pattern + 1
      return pattern:sub(at, at) == "L" and "sliding_attention" or "full_attention"
    end
  end
end

local function by_first(first)
  if math.type(first) ~= "integer" then return nil end
  return function(layer) return layer >= first and "sliding_attention" or "full_attention" end
end

-- Where the file has both layer_types and a pattern, the two must agree.
local function check_pattern(model, given, key, name_of, refuse)
  for i, name in ipairs(given[key] ~= nil and name_of and model.layer_types or {}) do
    if name ~= name_of(i - 1) then
      refuse(key, "%s differs from layer_types, which has %s for layer %d; remove one of them", tostring(given[key]), name,
        i - 1)
    end
  end
end

-- Without a window, removes the window's keys; with layer_types, removes the patterns that layer_types replaces.
local function settle_window(model, given, refuse)
  if not model.sliding_window then drop_window(model) end
  if not model.layer_types then return end
  check_pattern(model, given, "sliding_window_pattern", by_pattern(given.sliding_window_pattern), refuse)
  check_pattern(model, given, "max_window_layers", by_first(given.max_window_layers), refuse)
  drop(model, "sliding_window_pattern", "max_window_layers")
end

-- Qwen models have a window only where use_sliding_window says so.
local function settle_qwen_window(model, given, refuse)
  if not model.use_sliding_window then drop_window(model) end
  drop(model, "use_sliding_window")
  settle_window(model, given, refuse)
end

-- ---------------------------------------------------------------- layers without RoPE
local function drop_rope(model)
  drop(model, "rope_theta", "rope_scaling", "partial_rotary_factor", "rope_interleaved")
end

local MOST_LAYERS = 10000

local function layer_count(model, refuse)
  local count = model.num_hidden_layers
  if math.type(count) ~= "integer" or count < 1 or count > MOST_LAYERS then
    refuse("num_hidden_layers", "is %s; it must be a whole number from 1 to %d, because the kinds of layers depend on it",
      tostring(count):sub(1, 60), MOST_LAYERS)
  end
  return count
end

-- Layers that do not slide have no RoPE.
local function full_layers_without_rope(model, given, refuse)
  local name_of = by_pattern(model.sliding_window_pattern)
  if not model.layer_types and not name_of then
    refuse("sliding_window_pattern", "%s is not supported; supported: whole numbers from 1, letters L and G",
      tostring(model.sliding_window_pattern))
  end
  model.layer_types = model.layer_types or list_types(layer_count(model, refuse), name_of)
  settle_window(model, given, refuse)
  local types = {}
  for i, name in ipairs(model.layer_types) do types[i] = name == "full_attention" and "nope_attention" or name end
  model.layer_types = types
end

-- Without a window no layer has RoPE. Two keys state what the model's code fixes.
local function adapt_cohere2(model, given, refuse)
  local order, period = given.order_of_interleaved_layers, given.layer_switch
  if order ~= nil and order ~= "local_attn_first" then
    refuse("order_of_interleaved_layers", "'%s' is not supported; supported: local_attn_first", tostring(order):sub(1, 60))
  elseif period ~= nil and model.sliding_window_pattern ~= period then
    refuse("layer_switch", "is %s, but sliding_window_pattern is %s; remove one of them", tostring(period),
      tostring(model.sliding_window_pattern))
  end
  if model.sliding_window then return full_layers_without_rope(model, given, refuse) end
  drop_window(model)
  drop_rope(model)
  model.rope = { type = "none" }
end

-- Without a window every layer has RoPE.
local function adapt_exaone4(model, given, refuse)
  if model.sliding_window then return full_layers_without_rope(model, given, refuse) end
  drop_window(model)
end

-- Whether each layer has RoPE. Unlike its name suggests, no_rope_layers is 1 for a layer with RoPE.
local function rotates_of(model, refuse)
  local count, list, interval = layer_count(model, refuse), model.no_rope_layers, model.no_rope_layer_interval
  if list == nil then
    if math.type(interval) ~= "integer" or interval < 1 then
      refuse("no_rope_layer_interval", "%s is not supported; supported: whole numbers from 1", tostring(interval))
    end
    return list_types(count, function(layer) return (layer + 1) % interval ~= 0 end)
  end
  if type(list) ~= "table" or #list ~= count then
    refuse("no_rope_layers", "must be a list of %d entries, one for each layer", count)
  end
  for i, entry in ipairs(list) do
    if entry ~= 0 and entry ~= 1 and type(entry) ~= "boolean" then
      refuse("no_rope_layers", "%s (layer %d) is not supported; supported: 1 (with RoPE), 0", tostring(entry), i - 1)
    end
  end
  return list_types(count, function(layer) return list[layer + 1] == 1 or list[layer + 1] == true end)
end

local function adapt_smollm3(model, given, refuse)
  local rotates = rotates_of(model, refuse)
  if not model.use_sliding_window or not model.sliding_window then drop_window(model) end
  local given_types = model.layer_types
  model.layer_types = list_types(#rotates, function(layer)
    local slides = model.sliding_window and not rotates[layer + 1]
    if given_types then slides = given_types[layer + 1] == "sliding_attention" end
    if slides and not rotates[layer + 1] then
      refuse("use_sliding_window", "layer %d slides and has no RoPE, which is not supported", layer)
    end
    return slides and "sliding_attention" or rotates[layer + 1] and "full_attention" or "nope_attention"
  end)
  drop(model, "no_rope_layers", "no_rope_layer_interval", "use_sliding_window")
end

-- ---------------------------------------------------------------- layers of linear attention
local function adapt_qwen3_next(model, given, refuse)
  local interval = model.full_attention_interval
  drop(model, "full_attention_interval")
  local function name_of(layer) return (layer + 1) % interval ~= 0 and "linear_attention" or "full_attention" end
  if math.type(interval) ~= "integer" or interval < 1 then
    refuse("full_attention_interval", "%s is not supported; supported: whole numbers from 1", tostring(interval))
  end
  check_pattern(model, given, "full_attention_interval", name_of, refuse)
  model.layer_types = model.layer_types or list_types(layer_count(model, refuse), name_of)
  for i, name in ipairs(model.layer_types) do
    if name == "sliding_attention" then
      refuse("layer_types", "sliding_attention (layer %d) is not supported for model_type 'qwen3_next'", i - 1)
    end
  end
end

local qwen_window = { "sliding_window", "use_sliding_window", "max_window_layers", "layer_types" }

local function with_defaults(...)
  local result = {}
  for _, part in ipairs { ... } do
    for key, value in pairs(part) do result[key] = value end
  end
  return result
end

local qwen_defaults = { use_sliding_window = false, sliding_window = 4096, max_window_layers = 28, num_key_value_heads = 32 }

-- ---------------------------------------------------------------- adapting
-- Phi-3 also calls LongRoPE "su" and "yarn", and may have the original context beside rope_scaling instead of within
-- it.
local function adapt_phi3(model, given)
  local scaling = model.rope_scaling
  if type(scaling) ~= "table" then return end
  local kind = scaling.rope_type or scaling.type
  if kind == "su" or kind == "yarn" then kind = "longrope" end
  if kind ~= "longrope" then return end
  scaling.rope_type, scaling.type = kind, nil
  scaling.original_max_position_embeddings = scaling.original_max_position_embeddings or
    given.original_max_position_embeddings or 4096
end

-- Refuses Cohere's QK-norm, a LayerNorm of each head with factors for each head.
local function adapt_cohere(model, _, refuse)
  if model.use_qk_norm then
    refuse("use_qk_norm", "%s is not supported: LayerNorm of queries and keys; supported: false",
      tostring(model.use_qk_norm))
  end
  drop(model, "use_qk_norm")
end

-- The number of KV heads may be given in three ways. ALiBi's bias is scaled as scores are, unlike in other models.
local function adapt_falcon(model, _, refuse)
  local given = model.num_key_value_heads -- the model's own code does not read this key
  if not model.new_decoder_architecture and model.multi_query ~= false then
    model.num_key_value_heads = 1
  else
    model.num_key_value_heads = model.num_kv_heads or model.n_head_kv
  end
  local heads = model.num_key_value_heads or model.num_attention_heads
  if given ~= nil and given ~= heads then
    refuse("num_key_value_heads", "%s differs from what num_kv_heads, multi_query and new_decoder_architecture imply; supported: %s, or " ..
      "leave it out", tostring(given):sub(1, 60), tostring(heads):sub(1, 60))
  end
  drop(model, "new_decoder_architecture", "multi_query", "num_kv_heads", "n_head_kv")
  if not model.alibi then return end
  local width, heads = model.hidden_size, model.num_attention_heads
  if math.type(width) == "integer" and math.type(heads) == "integer" and heads > 0 and width >= heads then
    model.alibi_scale = 1 / math.sqrt(width // heads)
  end
  drop(model, "rope_theta", "rope_scaling", "partial_rotary_factor")
end

local function adapt_bloom(model)
  drop(model, "rope_theta", "rope_scaling", "partial_rotary_factor")
end

-- MPT has the options of attention in an object of their own. Here are the options with the only value that is
-- supported. Options of mpt_known are read below; any other option that states no fact of the model is refused.
local mpt_options = { attn_type = "multihead_attention", prefix_lm = false, qk_ln = false, attn_uses_sequence_id = false,
  alibi = true, alibi_bias_max = 8 }
local mpt_known = { clip_qkv = true, softmax_scale = true, attn_impl = true, model_type = true, transformers_version = true }
for key in pairs(mpt_options) do mpt_known[key] = true end

local function mpt_number(options, key, refuse)
  local value = options[key]
  if value == nil or type(value) == "number" then return value end
  refuse("attn_config." .. key, "'%s' is not supported; supported: numbers, null", tostring(value):sub(1, 60))
end

local function check_mpt(model, options, refuse)
  for _, key in ipairs { "attn_type", "prefix_lm", "qk_ln", "attn_uses_sequence_id", "alibi", "alibi_bias_max" } do
    local value, supported = options[key], mpt_options[key]
    if value ~= nil and value ~= supported then
      refuse("attn_config." .. key, "%s is not supported; supported: %s", config_keys.show(value), tostring(supported))
    end
  end
  local heads = model.num_attention_heads
  if math.type(heads) == "integer" and heads & (heads - 1) ~= 0 then
    refuse("n_heads", "%d is not supported, because MPT orders ALiBi's slopes differently then; supported: powers of two", heads)
  end
  if model.no_bias ~= true and model.no_bias ~= false then
    refuse("no_bias", "%s is not supported; supported: true, false", tostring(model.no_bias):sub(1, 60))
  end
end

local function adapt_mpt(model, given, refuse)
  local options = given.attn_config or {}
  if type(options) ~= "table" or json.is_array(options) then refuse("attn_config", "must be an object") end
  check_mpt(model, options, refuse)
  model.clip_qkv, model.attention_scale = mpt_number(options, "clip_qkv", refuse), mpt_number(options, "softmax_scale", refuse)
  if model.no_bias == false then model.attention_bias = true end
  drop(model, "no_bias", "rope_theta", "rope_scaling", "partial_rotary_factor")
  if options.sliding_window_size == -1 then options.sliding_window_size = nil end -- MPT's value for no window
  config_keys.check_unknown(options, mpt_known, model, {}, refuse, "attn_config.", true)
end

-- ---------------------------------------------------------------- the table
families.types = {
  llama = { defaults = { attention_bias = false } },
  mistral = { reads = { "sliding_window", "layer_types" }, defaults = { sliding_window = 4096, num_key_value_heads = 8 },
    adapt = settle_window },
  ministral = { reads = { "sliding_window", "layer_types" },
    fixed = { attention_bias = false }, defaults = { sliding_window = 4096, num_key_value_heads = 8 },
    adapt = settle_window },
  mixtral = { reads = { "sliding_window" }, defaults = { num_key_value_heads = 8, rope_theta = 1000000 } },
  qwen2 = { fixed = { attention_bias = true }, reads = qwen_window, defaults = qwen_defaults, adapt = settle_qwen_window },
  qwen3 = { fixed = { qk_norm = true }, reads = { "rms_norm_eps", table.unpack(qwen_window) },
    defaults = with_defaults(qwen_defaults, { head_dim = 128 }), adapt = settle_qwen_window },
  -- either every layer slides, or none does
  qwen3_moe = { fixed = { qk_norm = true }, reads = { "rms_norm_eps", "sliding_window", "use_sliding_window" },
    ignores = { "max_window_layers" },
    defaults = { use_sliding_window = false, sliding_window = 4096, num_key_value_heads = 4 },
    adapt = settle_qwen_window },
  -- full layers among layers of linear attention; key norms multiply by 1 + w
  qwen3_next = { fixed = { qk_norm = true }, linear = true, gated = true,
    reads = { "rms_norm_eps", "layer_types", "full_attention_interval" },
    ignores = { "linear_key_head_dim", "linear_value_head_dim", "linear_num_key_heads", "linear_num_value_heads" },
    defaults = { num_key_value_heads = 2, head_dim = 256, partial_rotary_factor = 0.25, full_attention_interval = 4 },
    adapt = adapt_qwen3_next },
  granite = { renames = { attention_multiplier = "attention_scale" }, reads = { "attention_scale" },
    defaults = { attention_scale = 1.0 } },
  gemma = { defaults = { num_key_value_heads = 16, head_dim = 256 } },
  gemma2 = { reads = { "sliding_window", "layer_types", "query_pre_attn_scalar", "attn_logit_softcapping" },
    fixed = { sliding_window_pattern = 2 },
    defaults = { sliding_window = 4096, num_key_value_heads = 4, head_dim = 256, query_pre_attn_scalar = 256,
      attn_logit_softcapping = 50 },
    adapt = settle_window },
  gemma3_text = { fixed = { qk_norm = true },
    reads = { "sliding_window", "sliding_window_pattern", "layer_types", "query_pre_attn_scalar",
      "attn_logit_softcapping", "rope_local_base_freq", "rms_norm_eps" },
    -- All defaults are listed, because the text_config of a larger model leaves out values that equal those of its
    -- class.
    defaults = { hidden_size = 2304, num_attention_heads = 8, num_key_value_heads = 4, head_dim = 256,
      num_hidden_layers = 26, max_position_embeddings = 131072, sliding_window = 4096, sliding_window_pattern = 6,
      query_pre_attn_scalar = 256, rope_theta = 1000000, rope_local_base_freq = 10000 },
    adapt = settle_window },
  phi = { fixed = { attention_bias = true }, defaults = { partial_rotary_factor = 0.5 } },
  phi3 = { reads = { "sliding_window" }, adapt = adapt_phi3 },
  cohere = { fixed = { rope_interleaved = true }, reads = { "use_qk_norm" }, adapt = adapt_cohere },
  cohere2 = { fixed = { rope_interleaved = true }, reads = { "sliding_window", "sliding_window_pattern", "layer_types" },
    defaults = { sliding_window = 4096, sliding_window_pattern = 4 },
    adapt = adapt_cohere2 },
  smollm3 = { reads = { "sliding_window", "use_sliding_window", "layer_types", "no_rope_layers", "no_rope_layer_interval" },
    ignores = { "max_window_layers" },
    defaults = { num_key_value_heads = 4, rope_theta = 2000000, use_sliding_window = false, no_rope_layer_interval = 4 },
    adapt = adapt_smollm3 },
  exaone4 = { fixed = { qk_norm = true, attention_bias = false },
    reads = { "rms_norm_eps", "sliding_window", "sliding_window_pattern", "layer_types" },
    defaults = { num_key_value_heads = 32, rms_norm_eps = 1e-5, sliding_window = 4096, sliding_window_pattern = 4 },
    adapt = adapt_exaone4 },
  internlm2 = { renames = { bias = "attention_bias" }, defaults = { attention_bias = true } },
  glm = { fixed = { rope_interleaved = true },
    defaults = { num_key_value_heads = 2, head_dim = 128, partial_rotary_factor = 0.5, attention_bias = true } },
  glm4 = { fixed = { rope_interleaved = true },
    defaults = { num_key_value_heads = 2, head_dim = 128, partial_rotary_factor = 0.5, attention_bias = true } },
  gpt_neox = { renames = { rotary_pct = "partial_rotary_factor", rotary_emb_base = "rope_theta" },
    defaults = { partial_rotary_factor = 0.25, attention_bias = true } },
  gpt_oss = { fixed = { attention_sinks = true, sliding_window_pattern = 2 }, reads = { "sliding_window", "layer_types" },
    defaults = { sliding_window = 128, num_key_value_heads = 8, attention_bias = true, rope_theta = 150000, head_dim = 64,
      rope_scaling = { rope_type = "yarn", factor = 32.0, beta_fast = 32.0, beta_slow = 1.0, truncate = false,
        original_max_position_embeddings = 4096 } },
    adapt = settle_window },
  falcon = { reads = { "alibi", "multi_query", "new_decoder_architecture", "num_kv_heads", "n_head_kv" },
    renames = { n_head = "num_attention_heads", n_layer = "num_hidden_layers", n_embed = "hidden_size",
      bias = "attention_bias" },
    ignores = { "parallel_attn", "num_ln_in_parallel_attn" }, defaults = { max_position_embeddings = 2048 },
    adapt = adapt_falcon },
  bloom = { fixed = { attention_bias = true, alibi = true },
    renames = { n_head = "num_attention_heads", n_layer = "num_hidden_layers", n_embed = "hidden_size" },
    ignores = { "attention_softmax_in_fp32", "offset_alibi", "skip_bias_add_qkv" }, adapt = adapt_bloom },
  mpt = { fixed = { alibi = true }, reads = { "no_bias" }, defaults = { no_bias = true },
    renames = { d_model = "hidden_size", n_heads = "num_attention_heads", n_layers = "num_hidden_layers",
      max_seq_len = "max_position_embeddings" },
    ignores = { "attn_config" }, adapt = adapt_mpt },
  nemotron = { defaults = { partial_rotary_factor = 0.5 } },
  olmo = { reads = { "clip_qkv" } },
  olmoe = { fixed = { qk_norm = "row" }, reads = { "rms_norm_eps", "clip_qkv" }, defaults = { rms_norm_eps = 1e-5 } },
  olmo2 = { fixed = { qk_norm = "row" }, reads = { "rms_norm_eps" }, defaults = { rms_norm_eps = 1e-5 } },
  -- the frequencies of full layers alone are stretched
  olmo3 = { fixed = { qk_norm = "row", sliding_window_pattern = 4 },
    reads = { "rms_norm_eps", "sliding_window", "layer_types" },
    defaults = { rms_norm_eps = 1e-5, sliding_window = 4096, rope_theta = 500000 },
    adapt = function(model, given, refuse)
      model.rope_local_base_freq = model.rope_local_base_freq or model.rope_theta
      settle_window(model, given, refuse)
    end },
  stablelm = { renames = { use_qkv_bias = "attention_bias" },
    defaults = { partial_rotary_factor = 0.25, num_key_value_heads = 32, attention_bias = false } },
  starcoder2 = { renames = { use_bias = "attention_bias" }, reads = { "sliding_window" },
    defaults = { num_key_value_heads = 2, attention_bias = true } },
}

-- Model types whose text model is an object within the file.
families.within = { gemma3 = { key = "text_config", model_type = "gemma3_text" } }

function families.names()
  local names = {}
  for _, part in ipairs { families.types, families.within } do
    for name in pairs(part) do names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

return families
