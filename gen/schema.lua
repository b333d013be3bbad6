-- The keys of a spec: names, types, meanings, domains and defaults as data, and the checks against them.
-- docs/spec.md describes them for people.
local fail = require "fail"

local schema = {}

-- ---------------------------------------------------------------- keys
-- {key, type, meaning, min=, max= or values= (what is valid), works= (what of it is supported), default=, required=,
-- refuse=function(value) → what is not supported, or nil}
local function refuse_if(text)
  return function(value) return value ~= false and text or nil end
end

schema.model = {
  { "name", "string", "label of the model" },
  { "model_type", "string", "the config.json type that it came from" },
  { "hidden_size", "integer", "width of the attention block's input, d",
    required = true, min = 1, max = 65536 },
  { "num_attention_heads", "integer", "query heads, H", required = true, min = 1, max = 1024 },
  { "num_key_value_heads", "integer", "KV heads, Hkv", min = 1, max = 1024 },
  { "head_dim", "integer", "width of a head, dh", min = 1, max = 1024 },
  { "num_hidden_layers", "integer", "layers of the model", min = 1, max = 10000 },
  { "max_position_embeddings", "integer", "longest context", min = 1, max = 1 << 40 },
  { "rope_theta", "number", "base of the rotary frequencies", min = 1, max = 1e15 },
  { "rope_scaling", "object", "how rotary frequencies are stretched" },
  { "rope", "object", "rotary embedding: type, theta, scaling" },
  { "partial_rotary_factor", "number", "share of a head that is rotated", min = 0, max = 1,
    refuse = function(v) return v ~= 1 and "partial rotary embedding" or nil end },
  { "rope_interleaved", "boolean", "whether rotary pairs are neighbours",
    refuse = refuse_if "interleaved RoPE" },
  { "attention_bias", "boolean", "whether projections add a bias",
    refuse = refuse_if "a bias on the key and value projections" },
  { "qk_norm", "boolean", "whether queries and keys are normalized",
    refuse = refuse_if "normalization of queries and keys (QK-norm)" },
  { "attn_logit_softcapping", "number", "bound of the scores",
    min = 0, max = 1e6, refuse = refuse_if "soft-capped scores" },
  { "sliding_window", "integer", "tokens that a query sees",
    min = 1, max = 1 << 40, refuse = refuse_if "a sliding window" },
  { "rope_local_base_freq", "number", "rotary base of local layers", min = 1, max = 1e15,
    refuse = refuse_if "a second rotary base for local layers" },
  { "attention_sinks", "boolean", "whether softmax has a learned sink",
    refuse = refuse_if "learned attention sinks" },
  { "alibi", "boolean", "whether scores fall with distance", refuse = refuse_if "ALiBi" },
  { "clip_qkv", "number", "bound of queries, keys and values",
    min = 0, max = 1e6, refuse = refuse_if "clipping of queries, keys and values" },
  { "query_pre_attn_scalar", "number", "scores are divided by its square root", min = 1e-6, max = 1e6 },
}

schema.cache = {
  { "method", "string", "what is cached",
    values = { "x", "latent", "x-cl", "latent-cl" }, works = { "x", "latent" } },
  { "bits", "integer", "bits of a cached element", values = { 2, 3, 4, 8 }, works = { 4, 8 }, default = 4 },
  { "group", "integer or row", "channels that share a scale", default = 128 },
  { "axis_k", "string", "direction of the groups in K's stream",
    values = { "token", "channel" }, works = { "token" }, default = "token" },
  { "axis_v", "string", "direction of the groups in V's stream",
    values = { "token", "channel" }, works = { "token" }, default = "token" },
  { "rank_k", "integer", "columns of K's latent", min = 1, max = 1 << 20 },
  { "rank_v", "integer", "columns of V's latent", min = 0, max = 1 << 20 },
  { "groups", "integer", "groups of KV heads with an SVD of their own",
    min = 1, max = 1024, works = { 1 }, default = 1 },
  { "page", "integer", "tokens of a page", min = 1, max = 1 << 20, default = 64 },
}

schema.top = {
  { "model", "model", "the model's attention" },
  { "cache", "object", "what is cached and how" },
  { "dtype", "string", "type of activations", values = { "f16", "bf16" }, works = { "f16" }, default = "f16" },
  { "weights", "string", "type of packed weights",
    values = { "f16", "bf16", "int8", "e4m3" }, works = { "f16" }, default = "f16" },
  { "arch", "string", "GPU architecture", default = "sm_80" },
  { "tuning", "object", "parameters of kernel families" },
  { "layout", "object", "computed: the cache's bytes" },
  { "weights_layout", "object", "computed: the packed weights" },
  { "kv_weights_layout", "object", "computed: those of an fp16 KV cache" },
}

schema.rope = {
  { "type", "string", "kind of rotary embedding",
    values = { "none", "neox", "interleaved" }, works = { "none", "neox" }, default = "neox" },
  { "theta", "number", "base of the rotary frequencies", min = 1, max = 1e15 },
  { "scaling", "object", "how rotary frequencies are stretched" },
}

schema.llama3 = {
  { "type", "string", "kind of rotary embedding" },
  { "rope_type", "string", "kind of scaling" },
  { "factor", "number", "how far long wavelengths are stretched", min = 1, max = 1e6, required = true },
  { "low_freq_factor", "number", "original context over the longest wavelength kept in part",
    min = 1e-3, max = 1e6, required = true },
  { "high_freq_factor", "number", "original context over the longest wavelength kept whole",
    min = 1e-3, max = 1e6, required = true },
  { "original_max_position_embeddings", "integer", "context before stretching",
    min = 1, max = 1 << 40, required = true },
}
schema.scaling_types = { "default", "llama3", "linear", "dynamic", "yarn", "longrope", "su" }

-- ---------------------------------------------------------------- checking against keys
function schema.names_of(keys)
  local names = {}
  for i, key in ipairs(keys) do names[i] = key[1] end
  return names
end

function schema.show(value)
  if type(value) == "string" then return "'" .. value:sub(1, 60) .. "'" end
  if type(value) == "table" then return value[1] ~= nil and "a list" or "an object" end
  return tostring(value)
end

function schema.list(values)
  local texts = {}
  for i, value in ipairs(values) do texts[i] = tostring(value) end
  return table.concat(texts, ", ")
end

function schema.contains(values, wanted)
  for _, value in ipairs(values) do
    if value == wanted then return true end
  end
  return false
end

local kinds = {
  string = function(v) return type(v) == "string" end,
  boolean = function(v) return type(v) == "boolean" end,
  number = function(v) return type(v) == "number" end,
  integer = function(v) return math.type(v) == "integer" end,
  object = function(v) return type(v) == "table" and v[1] == nil end,
  ["integer or row"] = function(v) return math.type(v) == "integer" or v == "row" end,
}
local article = { string = "a string", boolean = "true or false", number = "a number", integer = "a whole number",
  object = "an object", ["integer or row"] = 'a whole number or "row"' }

local function check_value(field, key, value)
  if not kinds[key[2]](value) then
    local valid = key.values and "; valid: " .. schema.list(key.values) or ""
    fail.spec(field, "must be %s (%s), not %s%s", article[key[2]], key[3], schema.show(value), valid)
  end
  if key.values and not schema.contains(key.values, value) then
    fail.spec(field, "%s is not valid; valid: %s", schema.show(value), schema.list(key.values))
  end
  if key.min and not (value >= key.min and value <= key.max) then
    fail.spec(field, "%s is not valid; valid: %s to %s", schema.show(value), tostring(key.min), tostring(key.max))
  end
  if key.works and not schema.contains(key.works, value) then
    fail.unsupported(field, "%s is not supported yet; supported: %s", schema.show(value), schema.list(key.works))
  end
  local refusal = key.refuse and key.refuse(value)
  if refusal then fail.unsupported(field, "%s is not supported yet", refusal) end
end

local function check_names(prefix, object, keys)
  local names = schema.names_of(keys)
  for name in pairs(object) do
    if not schema.contains(names, name) then
      fail.spec(prefix .. name, "is not known; %s", fail.suggestion(tostring(name), names))
    end
  end
end

-- A new table with the values of `object`, checked, and the defaults.
function schema.check_object(prefix, object, keys)
  check_names(prefix, object, keys)
  local result = {}
  for _, key in ipairs(keys) do
    local name, value = key[1], object[key[1]]
    if value == nil then
      if key.required then fail.spec(prefix .. name, "is missing; it must be %s (%s)", article[key[2]], key[3]) end
      value = key.default
    elseif key[2] ~= "model" then
      check_value(prefix .. name, key, value)
    end
    result[name] = value
  end
  return result
end

schema.is_object = kinds.object

return schema
