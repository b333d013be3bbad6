-- Validates a spec and fills in what was left open.
local fail = require "fail"
local json = require "json"
local layout = require "layout"
local models = require "models"
local arch = require "arch"
local schema = require "schema"
local tuning = require "tuning"

local spec = {}

-- ---------------------------------------------------------------- model
local function check_scaling(field, scaling)
  local kind = scaling.rope_type or scaling.type or "default"
  if not schema.contains(schema.scaling_types, kind) then
    fail.spec(field .. ".rope_type", "%s is not known; valid: %s", schema.show(kind),
      schema.list(schema.scaling_types))
  end
  if kind == "default" then return nil end
  if kind ~= "llama3" then
    fail.unsupported(field, "RoPE scaling '%s' is not supported yet; supported: default, llama3", kind)
  end
  local checked = schema.check_object(field .. ".", scaling, schema.llama3)
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
    rope = schema.check_object("model.rope.", given.rope, schema.rope)
    rope.scaling = rope.scaling and check_scaling("model.rope.scaling", rope.scaling)
  else
    rope = { type = "neox", theta = given.rope_theta,
      scaling = given.rope_scaling and check_scaling("model.rope_scaling", given.rope_scaling) }
  end
  if rope.type ~= "none" then
    rope.theta = (rope.theta or 10000) + 0.0
  elseif rope.theta or rope.scaling then
    fail.spec("model.rope." .. (rope.theta and "theta" or "scaling"), "means nothing without RoPE; leave it out")
  end
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
  if not schema.is_object(given) then
    fail.spec("model", "must be a preset's name or an object, not %s", schema.show(given))
  end
  return given
end

local function complete_model(given)
  given = find_model(given)
  local model = schema.check_object("model.", given, schema.model)
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
  return json.ordered(model, schema.names_of(schema.model))
end

-- ---------------------------------------------------------------- cache
local function check_rank(name, rank, most)
  if rank < 64 or rank > most or rank % 64 ~= 0 then
    fail.spec("cache." .. name, "%d is not valid; valid: multiples of 64 up to %d, the smaller of hidden_size and " ..
      "the width of K", rank, most)
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
  if cache.group ~= row and not schema.contains(group_sizes, cache.group) then
    fail.spec("cache.group", '%d is not valid; valid: %s, "row" (the whole row, %d)', cache.group,
      schema.list(group_sizes), row)
  end
end

local function complete_cache(given, model)
  local cache = schema.check_object("cache.", given or {}, schema.cache)
  cache.method = cache.method or (model.num_key_value_heads == model.num_attention_heads and "x" or "latent")
  complete_ranks(cache, model)
  complete_group(cache)
  if cache.page < 16 or cache.page > 256 or cache.page % 16 ~= 0 then
    fail.spec("cache.page", "%d is not valid; valid: multiples of 16 from 16 to 256", cache.page)
  end
  return json.ordered(cache, schema.names_of(schema.cache))
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
  if not schema.is_object(given) then fail.spec("spec", "must be an object, not %s", schema.show(given)) end
  local result = schema.check_object("", given, schema.top)
  result.model = complete_model(given.model)
  result.cache = complete_cache(given.cache, result.model)
  arch.find(result.arch)
  result.layout = layout.cache(result.model, result.cache)
  result.weights_layout = layout.weights(result.model, result.cache)
  result.kv_weights_layout = layout.kv_weights(result.model)
  check_computed(result, given)
  result.tuning = tuning.complete(result, given.tuning or {})
  return json.ordered(result, schema.names_of(schema.top))
end

return spec
