-- Validates a spec and fills in what was left open. The keys, their domains and defaults are the tables below;
-- docs/spec.md describes them for people.
local fail = require "fail"
local json = require "json"
local layout = require "layout"
local models = require "models"
local arch = require "arch"
local tuning = require "tuning"

local spec = {}

-- ---------------------------------------------------------------- keys
-- {key, type, min=, max=, values=, refuse=function(value) → what is not supported, or nil}
local function refuse_if(text)
  return function(value) return value ~= false and text or nil end
end

local model_keys = {
  { "name", "string" },
  { "model_type", "string" },
  { "hidden_size", "integer", min = 1, max = 65536 },
  { "num_attention_heads", "integer", min = 1, max = 1024 },
  { "num_key_value_heads", "integer", min = 1, max = 1024 },
  { "head_dim", "integer", min = 1, max = 1024 },
  { "num_hidden_layers", "integer", min = 1, max = 10000 },
  { "max_position_embeddings", "integer", min = 1, max = 1 << 40 },
  { "rope_theta", "number", min = 1, max = 1e15 },
  { "rope_scaling", "object" },
  { "rope", "object" },
  { "partial_rotary_factor", "number", min = 0, max = 1,
    refuse = function(v) return v ~= 1 and "partial rotary embedding" or nil end },
  { "rope_interleaved", "boolean", refuse = refuse_if "interleaved RoPE" },
  { "attention_bias", "boolean", refuse = refuse_if "a bias on the key and value projections" },
  { "qk_norm", "boolean", refuse = refuse_if "normalization of queries and keys (QK-norm)" },
  { "attn_logit_softcapping", "number", min = 0, max = 1e6, refuse = refuse_if "soft-capped scores" },
  { "sliding_window", "integer", min = 1, max = 1 << 40, refuse = refuse_if "a sliding window" },
  { "rope_local_base_freq", "number", min = 1, max = 1e15,
    refuse = refuse_if "a second rotary base for local layers" },
  { "attention_sinks", "boolean", refuse = refuse_if "learned attention sinks" },
  { "alibi", "boolean", refuse = refuse_if "ALiBi" },
  { "clip_qkv", "number", min = 0, max = 1e6, refuse = refuse_if "clipping of queries, keys and values" },
  { "query_pre_attn_scalar", "number", min = 1e-6, max = 1e6 },
}

local cache_keys = {
  { "method", "string", values = { "x", "latent", "x-cl", "latent-cl" }, works = { "x", "latent" } },
  { "bits", "integer", values = { 2, 3, 4, 8 }, works = { 4, 8 }, default = 4 },
  { "group", "integer or row", default = 128 },
  { "axis_k", "string", values = { "token", "channel" }, works = { "token" }, default = "token" },
  { "axis_v", "string", values = { "token", "channel" }, works = { "token" }, default = "token" },
  { "rank_k", "integer", min = 1, max = 1 << 20 },
  { "rank_v", "integer", min = 0, max = 1 << 20 },
  { "groups", "integer", min = 1, max = 1024, works = { 1 }, default = 1 },
  { "page", "integer", min = 1, max = 1 << 20, default = 64 },
}

local top_keys = {
  { "model", "model" },
  { "cache", "object" },
  { "dtype", "string", values = { "f16", "bf16" }, works = { "f16" }, default = "f16" },
  { "weights", "string", values = { "f16", "bf16", "int8", "e4m3" }, works = { "f16" }, default = "f16" },
  { "arch", "string", default = "sm_80" },
  { "tuning", "object" },
  { "layout", "object" },
  { "weights_layout", "object" },
  { "kv_weights_layout", "object" },
}

local rope_keys = {
  { "type", "string", values = { "none", "neox", "interleaved" }, works = { "none", "neox" }, default = "neox" },
  { "theta", "number", min = 1, max = 1e15 },
  { "scaling", "object" },
}

local llama3_keys = {
  { "type", "string" },
  { "rope_type", "string" },
  { "factor", "number", min = 1, max = 1e6, required = true },
  { "low_freq_factor", "number", min = 1e-3, max = 1e6, required = true },
  { "high_freq_factor", "number", min = 1e-3, max = 1e6, required = true },
  { "original_max_position_embeddings", "integer", min = 1, max = 1 << 40, required = true },
}
local scaling_types = { "default", "llama3", "linear", "dynamic", "yarn", "longrope", "su" }

spec.keys = { model = model_keys, cache = cache_keys, top = top_keys, rope = rope_keys }

-- ---------------------------------------------------------------- checking against keys
local function names_of(keys)
  local names = {}
  for i, key in ipairs(keys) do names[i] = key[1] end
  return names
end

local function show(value)
  if type(value) == "string" then return "'" .. value:sub(1, 60) .. "'" end
  if type(value) == "table" then return value[1] ~= nil and "a list" or "an object" end
  return tostring(value)
end

local function list(values)
  local texts = {}
  for i, value in ipairs(values) do texts[i] = tostring(value) end
  return table.concat(texts, ", ")
end

local function contains(values, wanted)
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
    local valid = key.values and "; valid: " .. list(key.values) or ""
    fail.spec(field, "must be %s, not %s%s", article[key[2]], show(value), valid)
  end
  if key.values and not contains(key.values, value) then
    fail.spec(field, "%s is not valid; valid: %s", show(value), list(key.values))
  end
  if key.min and not (value >= key.min and value <= key.max) then
    fail.spec(field, "%s is not valid; valid: %s to %s", show(value), tostring(key.min), tostring(key.max))
  end
  if key.works and not contains(key.works, value) then
    fail.unsupported(field, "%s is not supported yet; supported: %s", show(value), list(key.works))
  end
  local refusal = key.refuse and key.refuse(value)
  if refusal then fail.unsupported(field, "%s is not supported yet", refusal) end
end

local function check_names(prefix, object, keys)
  local names = names_of(keys)
  for name in pairs(object) do
    if not contains(names, name) then
      fail.spec(prefix .. name, "is not known; %s", fail.suggestion(tostring(name), names))
    end
  end
end

-- A new table with the values of `object`, checked, and the defaults.
local function check_object(prefix, object, keys)
  check_names(prefix, object, keys)
  local result = {}
  for _, key in ipairs(keys) do
    local name, value = key[1], object[key[1]]
    if value == nil then
      if key.required then fail.spec(prefix .. name, "is missing; it must be %s", article[key[2]]) end
      value = key.default
    elseif key[2] ~= "model" then
      check_value(prefix .. name, key, value)
    end
    result[name] = value
  end
  return result
end

-- ---------------------------------------------------------------- model
local function check_scaling(field, scaling)
  local kind = scaling.rope_type or scaling.type or "default"
  if not contains(scaling_types, kind) then
    fail.spec(field .. ".rope_type", "%s is not known; valid: %s", show(kind), list(scaling_types))
  end
  if kind == "default" then return nil end
  if kind ~= "llama3" then
    fail.unsupported(field, "RoPE scaling '%s' is not supported yet; supported: default, llama3", kind)
  end
  local checked = check_object(field .. ".", scaling, llama3_keys)
  if checked.high_freq_factor <= checked.low_freq_factor then
    fail.spec(field .. ".high_freq_factor", "must be greater than low_freq_factor")
  end
  checked.type, checked.rope_type = "llama3", nil
  return json.ordered(checked,
    { "type", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings" })
end

-- Either `rope` (as completed specs have it), or the names of config.json: rope_theta, rope_scaling.
local function complete_rope(given)
  local rope
  if given.rope then
    for _, other in ipairs { "rope_theta", "rope_scaling" } do
      if given[other] ~= nil then fail.spec("model." .. other, "cannot be given beside model.rope") end
    end
    rope = check_object("model.rope.", given.rope, rope_keys)
    rope.scaling = rope.scaling and check_scaling("model.rope.scaling", rope.scaling)
  else
    rope = { type = "neox", theta = given.rope_theta,
      scaling = given.rope_scaling and check_scaling("model.rope_scaling", given.rope_scaling) }
  end
  if rope.type ~= "none" then rope.theta = (rope.theta or 10000) + 0.0 end
  return json.ordered(rope, { "type", "theta", "scaling" })
end

local function check_shape(model)
  local heads, kv_heads = model.num_attention_heads, model.num_key_value_heads
  if heads % kv_heads ~= 0 then
    fail.spec("model.num_key_value_heads", "%d does not divide num_attention_heads (%d)", kv_heads, heads)
  end
  if model.head_dim ~= 64 and model.head_dim ~= 128 then
    fail.unsupported("model.head_dim", "%d is not supported yet; supported: 64, 128", model.head_dim)
  end
  if model.hidden_size % layout.unit_channels ~= 0 then
    fail.unsupported("model.hidden_size", "%d is not supported yet; supported: multiples of %d", model.hidden_size,
      layout.unit_channels)
  end
  local scalar = model.query_pre_attn_scalar
  if scalar and scalar ~= model.head_dim then
    fail.unsupported("model.query_pre_attn_scalar", "%s: an attention scale other than 1/sqrt(head_dim) is not " ..
      "supported yet; supported: %d", tostring(scalar), model.head_dim)
  end
end

local function find_model(given)
  if given == nil then fail.spec("model", "is missing; give a preset's name or an object") end
  if type(given) == "string" then
    return models.find(given) or
      fail.spec("model", "'%s' is no preset; %s", given:sub(1, 60), fail.suggestion(given, models.order))
  end
  if not kinds.object(given) then fail.spec("model", "must be a preset's name or an object, not %s", show(given)) end
  return given
end

local function complete_model(given)
  given = find_model(given)
  local keys = {}
  for i, key in ipairs(model_keys) do keys[i] = key end
  local model = check_object("model.", given, keys)
  for _, name in ipairs { "hidden_size", "num_attention_heads" } do
    if model[name] == nil then fail.spec("model." .. name, "is missing; it must be a whole number") end
  end
  model.num_key_value_heads = model.num_key_value_heads or model.num_attention_heads
  if not model.head_dim then
    if model.hidden_size % model.num_attention_heads ~= 0 then
      fail.spec("model.head_dim", "is missing, and num_attention_heads (%d) does not divide hidden_size (%d)",
        model.num_attention_heads, model.hidden_size)
    end
    model.head_dim = model.hidden_size // model.num_attention_heads
  end
  model.rope = complete_rope(given)
  check_shape(model)
  model.rope_theta, model.rope_scaling, model.partial_rotary_factor = nil, nil, nil
  for name, value in pairs(model) do
    if value == false then model[name] = nil end -- features are named only where a model has them
  end
  return json.ordered(model, names_of(model_keys))
end

-- ---------------------------------------------------------------- cache
local function check_rank(name, rank, most)
  if rank < 64 or rank > most or rank % 64 ~= 0 then
    fail.spec("cache." .. name, "%d is not valid; valid: multiples of 64 up to %d, the smaller of hidden_size and the " ..
      "width of K", rank, most)
  end
end

local function complete_ranks(cache, model)
  if cache.method == "x" then
    local d = model.hidden_size
    if (cache.rank_k or d) ~= d or (cache.rank_v or 0) ~= 0 then
      fail.spec(cache.rank_k and cache.rank_k ~= d and "cache.rank_k" or "cache.rank_v",
        "method 'x' caches the activations and has no rank; leave it out")
    end
    cache.rank_k, cache.rank_v = d, 0
    return
  end
  local full = math.min(model.hidden_size, model.num_key_value_heads * model.head_dim)
  full = full // 64 * 64
  cache.rank_k, cache.rank_v = cache.rank_k or full, cache.rank_v or full
  check_rank("rank_k", cache.rank_k, full)
  check_rank("rank_v", cache.rank_v, full)
end

local group_sizes = { 32, 64, 128, 256 }

local function complete_group(cache)
  local row = math.max(cache.rank_k, cache.rank_v)
  if cache.group == "row" then cache.group = row end
  if cache.group ~= row and not contains(group_sizes, cache.group) then
    fail.spec("cache.group", '%d is not valid; valid: %s, "row" (the whole row, %d)', cache.group, list(group_sizes), row)
  end
end

local function complete_cache(given, model)
  local cache = check_object("cache.", given or {}, cache_keys)
  cache.method = cache.method or (model.num_key_value_heads == model.num_attention_heads and "x" or "latent")
  complete_ranks(cache, model)
  complete_group(cache)
  if cache.page < 16 or cache.page > 256 or cache.page % 16 ~= 0 then
    fail.spec("cache.page", "%d is not valid; valid: multiples of 16 from 16 to 256", cache.page)
  end
  return json.ordered(cache, names_of(cache_keys))
end

-- ---------------------------------------------------------------- all of it
-- What is computed may be given, so that a completed spec is itself a spec; but only as computed.
local function check_computed(result, given)
  for _, name in ipairs { "layout", "weights_layout", "kv_weights_layout" } do
    if given[name] ~= nil and json.encode(json.sorted(given[name])) ~= json.encode(json.sorted(result[name])) then
      fail.spec(name, "is computed from the rest of the spec, and differs from that; leave it out")
    end
  end
end

-- The spec as a table, complete; fails with the field at fault.
function spec.complete(given)
  if not kinds.object(given) then fail.spec("spec", "must be an object, not %s", show(given)) end
  local result = check_object("", given, top_keys)
  result.model = complete_model(given.model)
  result.cache = complete_cache(given.cache, result.model)
  arch.find(result.arch)
  result.layout = layout.cache(result.model, result.cache)
  result.weights_layout = layout.weights(result.model, result.cache)
  result.kv_weights_layout = layout.kv_weights(result.model)
  check_computed(result, given)
  result.tuning = tuning.complete(result, given.tuning or {})
  return json.ordered(result, names_of(top_keys))
end

return spec
