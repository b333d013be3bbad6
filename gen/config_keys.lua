-- Handles the keys of a config.json that the table of its model type (gen/families.lua) does not know: some of them may
-- change attention, others only state what holds anyway.
local host = require "host"
local json = require "json"

local config_keys = {}

local null = host.null

-- Keys whose names look like attention features, but that do not change attention.
local harmless = {}
for _, key in ipairs { "attention_dropout", "attn_pdrop", "attn_implementation", "_attn_implementation",
  "_attn_implementation_autoset", "_attn_implementation_internal", "attention_probs_dropout_prob",
  "output_attentions", "pruned_heads", "chunk_size_feed_forward", "original_max_position_embeddings",
  "_sliding_window_pattern", "final_logit_softcapping", "lm_head_bias", "masked_softmax_fusion", "learned_pos_emb" } do
  harmless[key] = true
end
local signs = { "attn", "attention", "rope", "rotary", "head", "window", "softcap", "alibi", "qk_", "kv_", "_qk", "_kv",
  "qkv", "sink", "position", "lora_rank", "causal", "bidirectional", "prefix_lm", "is_encoder_decoder", "layer_types",
  "multi_query", "chunk_size", "softmax", "soft_cap", "swa", "nope", "pos_emb", "positional", "logn", "ntk", "key_norm",
  "k_norm", "q_norm", "key_bias", "query_scale", "key_scale", "global_tokens", "global_layers", "local_layers",
  "block_sparse", "sparse_block", "block_type", "blocks_type", "override_pattern", "encoder_only", "share_factor",
  "meta_tokens" }

-- ---------------------------------------------------------------- statements
-- The facts that keys may state, as they hold in a model that was read.
local function facts_of(model, kind)
  local heads, width = model.num_attention_heads, model.hidden_size
  local whole = math.type(heads) == "integer" and math.type(width) == "integer" and heads > 0
  local head_dim = model.head_dim or whole and width // heads or nil
  local rotates = not model.alibi and not model.rope
  local share = model.partial_rotary_factor or 1
  return {
    heads = heads, kv_heads = model.num_key_value_heads or heads, head_dim = head_dim,
    one_kv_head = (model.num_key_value_heads or heads) == 1,
    rotates = rotates, alibi = model.alibi or false, interleaved = model.rope_interleaved or false,
    halves = not model.rope_interleaved, theta = rotates and (model.rope_theta or 10000) or nil,
    share = rotates and share or nil,
    rotary_dim = rotates and type(head_dim) == "number" and type(share) == "number" and
      math.floor(head_dim * share) or nil,
    window = model.sliding_window, slides = model.sliding_window ~= nil,
    norm = model.qk_norm and true or false, bias = model.attention_bias or false,
    sinks = model.attention_sinks or false, softcap = model.attn_logit_softcapping, scale = model.attention_scale,
    gate = kind.gated or false, yes = true, no = false, one = 1,
  }
end

-- For each fact, the keys that state it.
local stated = {
  heads = { "n_heads", "n_head", "num_heads", "num_attention_heads" },
  kv_heads = { "num_kv_heads", "n_kv_heads", "kv_n_heads", "n_head_kv", "num_heads_kv", "num_query_groups",
    "multi_query_group_num", "num_key_value_heads" },
  one_kv_head = { "multi_query", "multi_query_attention" },
  head_dim = { "head_dim", "kv_channels", "head_size", "d_head", "d_kv", "attention_head_dim", "attention_head_size",
    "qk_head_dim", "v_head_dim" },
  rotates = { "rope", "rotary", "use_rope", "use_rotary", "use_rotary_emb", "use_rotary_embedding",
    "use_rotary_embeddings", "use_rotary_position_embeddings" },
  alibi = { "alibi", "use_alibi" },
  interleaved = { "rope_interleaved", "rotary_interleaved", "rotary_emb_interleaved", "rope_traditional" },
  halves = { "is_neox_style", "rope_neox_style" },
  theta = { "rope_theta", "rotary_base", "rotary_emb_base", "rope_base", "rope_freq_base" },
  share = { "partial_rotary_factor", "rotary_pct", "rotary_percent", "rotary_percentage", "rope_pct", "rope_percentage",
    "rotary_emb_fraction" },
  rotary_dim = { "rotary_dim", "rotary_ndims", "rope_dim", "rotary_emb_dim" },
  window = { "sliding_window", "sliding_window_size", "window_size", "attention_window_size", "attn_window_size" },
  slides = { "use_sliding_window" },
  norm = { "qk_norm", "use_qk_norm" },
  bias = { "attention_bias", "qkv_bias", "use_qkv_bias", "attn_qkv_bias", "attention_qkv_bias", "qkv_proj_bias",
    "bias", "use_bias" },
  sinks = { "attention_sinks", "attn_sinks", "use_attention_sinks" },
  softcap = { "attn_logit_softcapping", "attn_logit_softcap", "attention_logit_softcapping" },
  scale = { "attention_scale", "attn_scale", "softmax_scale" },
  gate = { "attn_output_gate" },
  yes = { "scale_attn_weights" },
  no = { "is_encoder_decoder", "prefix_lm" },
  one = { "full_attn_mod" },
}
local fact_of = {}
for fact, keys in pairs(stated) do
  for _, key in ipairs(keys) do fact_of[key] = fact end
end

function config_keys.may_change_attention(key)
  if harmless[key] then return false end
  if fact_of[key] then return true end
  for _, sign in ipairs(signs) do
    if key:find(sign, 1, true) then return true end
  end
  return false
end

-- Keys about the direction of attention: true where the key must be true (a causal model), false where it must be
-- false, nil for all other keys.
function config_keys.direction_of(key)
  local backwards = key:find("bidirectional", 1, true) or key:find("n_causal", 1, true) or
    key:find("noncausal", 1, true) or key:find("not_causal", 1, true)
  if backwards then return false end
  if key:find("causal", 1, true) then return true end
end

-- The names that position_embedding_type may have for how tokens get their positions.
local function position_names(facts)
  if facts.alibi then return { "alibi" } end
  if not facts.rotates then return { "nope", "none" } end
  return { "rope", "rotary", facts.interleaved and "rope_gptj" or "rope_neox" }
end

local function contains(list, wanted)
  for _, item in ipairs(list) do
    if item == wanted then return true end
  end
  return false
end

function config_keys.show(value)
  if value == nil or value == null then return "none" end
  if type(value) == "table" then return json.is_array(value) and "a list" or "an object" end
  return tostring(value):sub(1, 60)
end

local show = config_keys.show

local function is_off(value) return value == null or value == false end

-- Refuses a key that states no known fact, or states it wrongly. `value` is not null.
local function check(field, key, value, facts, model_type, refuse)
  local direction = config_keys.direction_of(key)
  if direction ~= nil then
    if value ~= direction then
      refuse(field, "%s asks for attention in both directions, which is not supported; supported: %s", show(value),
        tostring(direction))
    end
    return
  end
  if key == "position_embedding_type" then
    local names = position_names(facts)
    if not contains(names, value) then
      refuse(field, "'%s' is not supported for model_type '%s'; supported: %s", show(value), model_type,
        table.concat(names, ", "))
    end
    return
  end
  local fact = fact_of[key]
  if not fact then
    if is_off(value) then return end
    refuse(field, "is not known for model_type '%s', and may change attention; set it to null if it does not", model_type)
  end
  local expected = facts[fact]
  if is_off(value) and expected ~= true or json.same(value, expected) then return end
  refuse(field, "%s differs from what model_type '%s' and the rest of the file imply (%s), and may change attention; set it to " ..
    "null if it does not", show(value), model_type, show(expected))
end

local function sorted_keys(object)
  local keys = {}
  for key in pairs(object) do keys[#keys + 1] = tostring(key) end
  table.sort(keys)
  return keys
end

-- Refuses keys of `object` that may change attention and do not state a fact of `model`, which was read from the file.
-- `known` has the keys that were read. `prefix` stands before the names of keys in errors. `all`: every key counts as
-- one that may change attention.
function config_keys.check_unknown(object, known, model, kind, refuse, prefix, all)
  local facts = facts_of(model, kind)
  for _, key in ipairs(sorted_keys(object)) do
    local value = object[key]
    local suspect = not harmless[key] and (all or config_keys.may_change_attention(key))
    if not known[key] and suspect and value ~= nil and value ~= null then
      check((prefix or "") .. key, key, value, facts, model.model_type, refuse)
    end
  end
end

return config_keys
