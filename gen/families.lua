-- The model types of Hugging Face config.json files (the configuration classes of transformers): what each key means
-- for attention, what a missing one means, and what the model's code fixes. gen/config.lua reads files by this.
--
-- {reads: keys taken over beside the common ones; renames: {their key = ours}; defaults: of missing keys; fixed: values that
-- the code fixes; ignores: keys that sound like attention and change nothing of it; adapt: function(model, given, refuse),
-- the last word on `model`}. `refuse(key, text, ...)` refuses the file for a feature.
local families = {}

local function drop(model, ...)
  for _, key in ipairs { ... } do model[key] = nil end
end

local function drop_window(model)
  drop(model, "sliding_window", "sliding_window_pattern", "max_window_layers", "layer_types")
end

-- What layer_types says stands before a pattern; no window, no pattern.
local function settle_window(model)
  if model.layer_types then drop(model, "sliding_window_pattern", "max_window_layers") end
  if not model.sliding_window then drop_window(model) end
end

-- Qwen: a window only where use_sliding_window says so.
local function settle_qwen_window(model)
  if not model.use_sliding_window then drop_window(model) end
  drop(model, "use_sliding_window")
  settle_window(model)
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
-- Phi-3 calls LongRoPE also "su" and "yarn".
local function adapt_phi3(model)
  local scaling = model.rope_scaling
  local kind = type(scaling) == "table" and (scaling.rope_type or scaling.type)
  if kind == "su" or kind == "yarn" then model.rope_scaling = { rope_type = "longrope" } end
end

-- KV heads are told three ways. ALiBi's bias is scaled as scores are, unlike in other models.
local function adapt_falcon(model)
  if not model.new_decoder_architecture and model.multi_query ~= false then
    model.num_key_value_heads = 1
  else
    model.num_key_value_heads = model.num_kv_heads or model.n_head_kv
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

-- Attention's options are in an object of their own.
local function adapt_mpt(model, given, refuse)
  local options = type(given.attn_config) == "table" and given.attn_config or {}
  if (options.attn_type or "multihead_attention") ~= "multihead_attention" then
    refuse("attn_config.attn_type", "'%s' is not supported; supported: multihead_attention", tostring(options.attn_type))
  end
  for _, key in ipairs { "prefix_lm", "qk_ln", "attn_uses_sequence_id" } do
    if options[key] == true then refuse("attn_config." .. key, "is not supported; supported: false") end
  end
  if options.alibi == false then refuse("attn_config.alibi", "is false: learned positions are not supported") end
  local heads = model.num_attention_heads
  if (options.alibi_bias_max or 8) ~= 8 then
    refuse("attn_config.alibi_bias_max", "%s is not supported; supported: 8", tostring(options.alibi_bias_max))
  elseif math.type(heads) == "integer" and heads & (heads - 1) ~= 0 then
    refuse("n_heads", "%d is not supported: MPT orders ALiBi's slopes its own way unless it is a power of two", heads)
  end
  if type(options.clip_qkv) == "number" then model.clip_qkv = options.clip_qkv end
  if type(options.softmax_scale) == "number" then model.attention_scale = options.softmax_scale end
  if model.no_bias == false then model.attention_bias = true end
  drop(model, "no_bias", "rope_theta", "rope_scaling", "partial_rotary_factor")
end

-- ---------------------------------------------------------------- the table
families.types = {
  llama = { defaults = { attention_bias = false } },
  mistral = { reads = { "sliding_window", "layer_types" }, defaults = { sliding_window = 4096, num_key_value_heads = 8 },
    adapt = settle_window },
  mixtral = { reads = { "sliding_window" }, defaults = { num_key_value_heads = 8, rope_theta = 1000000 } },
  qwen2 = { fixed = { attention_bias = true }, reads = qwen_window, defaults = qwen_defaults, adapt = settle_qwen_window },
  qwen3 = { fixed = { qk_norm = true }, reads = { "rms_norm_eps", table.unpack(qwen_window) },
    defaults = with_defaults(qwen_defaults, { head_dim = 128 }), adapt = settle_qwen_window },
  -- every layer slides, or none
  qwen3_moe = { fixed = { qk_norm = true }, reads = { "rms_norm_eps", "sliding_window", "use_sliding_window" },
    ignores = { "max_window_layers" },
    defaults = { use_sliding_window = false, sliding_window = 4096, num_key_value_heads = 4 },
    adapt = settle_qwen_window },
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
    -- all of them, because the text_config of a larger model leaves out what it shares with its class
    defaults = { hidden_size = 2304, num_attention_heads = 8, num_key_value_heads = 4, head_dim = 256,
      num_hidden_layers = 26, max_position_embeddings = 131072, sliding_window = 4096, sliding_window_pattern = 6,
      query_pre_attn_scalar = 256, rope_theta = 1000000, rope_local_base_freq = 10000 },
    adapt = settle_window },
  phi = { fixed = { attention_bias = true }, defaults = { partial_rotary_factor = 0.5 } },
  phi3 = { reads = { "sliding_window" }, adapt = adapt_phi3 },
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
  olmoe = { fixed = { qk_norm = "row" }, reads = { "rms_norm_eps", "clip_qkv" }, defaults = { rms_norm_eps = 1e-5 } },
  olmo2 = { fixed = { qk_norm = "row" }, reads = { "rms_norm_eps" }, defaults = { rms_norm_eps = 1e-5 } },
  -- only full layers are stretched
  olmo3 = { fixed = { qk_norm = "row", sliding_window_pattern = 4 },
    reads = { "rms_norm_eps", "sliding_window", "layer_types" },
    defaults = { rms_norm_eps = 1e-5, sliding_window = 4096, rope_theta = 500000 },
    adapt = function(model)
      model.rope_local_base_freq = model.rope_local_base_freq or model.rope_theta
      settle_window(model)
    end },
  stablelm = { renames = { use_qkv_bias = "attention_bias" },
    defaults = { partial_rotary_factor = 0.25, num_key_value_heads = 32, attention_bias = false } },
  starcoder2 = { renames = { use_bias = "attention_bias" }, reads = { "sliding_window" },
    defaults = { num_key_value_heads = 2, attention_bias = true } },
}

-- Types whose text model is an object within.
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
