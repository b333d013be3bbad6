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

local function complete_rotary_dim(rope, given, head_dim)
  rope.rotary_dim = rope.rotary_dim or math.floor(head_dim * (given.partial_rotary_factor or 1))
  if rope.rotary_dim % 2 ~= 0 or rope.rotary_dim < 2 or rope.rotary_dim > head_dim then
    fail.spec("model.rope.rotary_dim", "%d is not valid; valid: even numbers from 2 to head_dim (%d)", rope.rotary_dim,
      head_dim)
  end
end

-- Either `rope` (as completed specs have it), or the names of config.json: rope_theta, rope_scaling and others.
local function complete_rope(given, head_dim)
  local rope
  if given.rope then
    for _, other in ipairs { "rope_theta", "rope_scaling", "rope_interleaved", "partial_rotary_factor" } do
      if given[other] ~= nil then fail.spec("model." .. other, "cannot be given beside model.rope") end
    end
    rope = schema.check_object("model.rope.", given.rope, schema.rope)
    rope.scaling = rope.scaling and check_scaling("model.rope.scaling", rope.scaling)
  else
    rope = { type = given.alibi and "none" or given.rope_interleaved and "interleaved" or "neox",
      theta = given.rope_theta, scaling = given.rope_scaling and check_scaling("model.rope_scaling", given.rope_scaling) }
  end
  if rope.type ~= "none" then
    rope.theta = (rope.theta or 10000) + 0.0
    complete_rotary_dim(rope, given, head_dim)
  else
    for _, name in ipairs { "theta", "scaling", "rotary_dim", "attention_factor" } do
      if rope[name] then fail.spec("model.rope." .. name, "means nothing without RoPE; leave it out") end
    end
  end
  return json.ordered(rope, { "type", "theta", "rotary_dim", "attention_factor", "scaling" })
end

local head_dims = { 64, 80, 96, 112, 128, 160, 192, 256 }

local function check_shape(model)
  local heads, kv_heads = model.num_attention_heads, model.num_key_value_heads
  if heads % kv_heads ~= 0 then
    fail.spec("model.num_key_value_heads", "%d does not divide num_attention_heads (%d)", kv_heads, heads)
  end
  if not schema.contains(head_dims, model.head_dim) then
    fail.unsupported("model.head_dim", "%d is not supported; supported: %s", model.head_dim, schema.list(head_dims))
  end
  if model.hidden_size % layout.unit_channels ~= 0 then
    fail.unsupported("model.hidden_size", "%d is not supported; supported: multiples of %d", model.hidden_size,
      layout.unit_channels)
  end
end

local function complete_scale(model)
  local scalar = model.query_pre_attn_scalar
  if scalar and model.attention_scale and model.attention_scale ~= 1 / math.sqrt(scalar) then
    fail.spec("model.attention_scale", "differs from query_pre_attn_scalar's; give one of them")
  end
  model.attention_scale = model.attention_scale or 1 / math.sqrt(scalar or model.head_dim)
  model.query_pre_attn_scalar = nil
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
  check_shape(model)
  model.rope = complete_rope(given, model.head_dim)
  complete_scale(model)
  if model.qk_norm == true then model.qk_norm = "head" end
  model.rms_norm_eps = model.qk_norm and (model.rms_norm_eps or 1e-6) or nil
  model.rope_theta, model.rope_scaling, model.partial_rotary_factor, model.rope_interleaved = nil, nil, nil, nil
  for name, value in pairs(model) do
    if value == false then model[name] = nil end -- features are named only where a model has them
  end
  return json.ordered(model, schema.names_of(schema.model))
end

-- ---------------------------------------------------------------- cache
local function full_rank(cache, model)
  local kv_width = model.num_key_value_heads * model.head_dim
  if cache.method == "latent-cl" then return math.min(model.hidden_size, 2 * kv_width) end
  return math.min(model.hidden_size, kv_width // cache.groups) * cache.groups
end

local function check_rank(cache, model, name)
  local rank, most = cache[name], full_rank(cache, model)
  if rank < 1 or rank > most or rank % cache.groups ~= 0 then
    fail.spec("cache." .. name, "%d is not valid; valid: %s %d", rank,
      cache.groups > 1 and ("multiples of groups (%d) up to"):format(cache.groups) or "1 to", most)
  end
end

local function complete_ranks(cache, model)
  if cache.method == "x" or cache.method == "x-cl" then
    local d = model.hidden_size
    if (cache.rank_k or d) ~= d or (cache.rank_v or 0) ~= 0 then
      fail.spec(cache.rank_k and cache.rank_k ~= d and "cache.rank_k" or "cache.rank_v",
        "method '%s' caches the activations and has no rank; leave it out", cache.method)
    end
    cache.rank_k, cache.rank_v = d, 0
    return
  end
  if model.num_key_value_heads % cache.groups ~= 0 then
    fail.spec("cache.groups", "%d does not divide num_key_value_heads (%d)", cache.groups, model.num_key_value_heads)
  end
  cache.rank_k = cache.rank_k or full_rank(cache, model)
  check_rank(cache, model, "rank_k")
  if cache.method == "latent-cl" then
    if (cache.rank_v or 0) ~= 0 then
      fail.spec("cache.rank_v", "method 'latent-cl' caches one latent of rank_k columns; leave it out")
    end
    cache.rank_v = 0
  else
    cache.rank_v = cache.rank_v or full_rank(cache, model)
    check_rank(cache, model, "rank_v")
  end
end

local group_sizes = { 32, 64, 128, 256 }

-- "row" is the width of the widest stream, as stored.
local function complete_group(cache, model)
  local row = 0
  for _, stream in ipairs(layout.streams(model, cache)) do row = math.max(row, stream.width) end
  if cache.group == "row" then cache.group = row end
  if cache.group ~= row and not schema.contains(group_sizes, cache.group) then
    fail.spec("cache.group", '%d is not valid; valid: %s, "row" (the whole row, %d)', cache.group,
      schema.list(group_sizes), row)
  end
  if (cache.axis_k == "channel" or cache.axis_v == "channel") and not schema.contains(group_sizes, cache.group) then
    fail.spec("cache.group", "%d is not valid; valid for groups of tokens (axis channel): %s", cache.group,
      schema.list(group_sizes))
  end
end

local function only_for(cache, name, condition, text)
  if cache[name] ~= nil and not condition then fail.spec("cache." .. name, "%s; leave it out", text) end
end

local function complete_options(cache)
  local cross_layer = cache.method == "x-cl" or cache.method == "latent-cl"
  only_for(cache, "base", cross_layer, "is for the cross-layer methods, x-cl and latent-cl")
  only_for(cache, "accumulator_bits", cross_layer, "is for the cross-layer methods, x-cl and latent-cl")
  only_for(cache, "axis_v", cache.method == "latent" or cache.axis_v == cache.axis_k,
    "method '" .. cache.method .. "' caches one stream, whose axis is axis_k")
  if cache.groups ~= 1 and cache.method ~= "latent" then
    fail.spec("cache.groups", "%d is not valid; method '%s' has no grouped latents", cache.groups, cache.method)
  end
  if cache.rotation and (cache.method == "x" or cache.method == "x-cl") then
    fail.spec("cache.rotation", "method '%s' caches the activations as they are; valid for latent, latent-cl", cache.method)
  end
  cache.axis_v = cache.axis_v or (cache.method == "latent" and "token" or cache.axis_k)
  if cross_layer then
    cache.base, cache.accumulator_bits = cache.base or false, cache.accumulator_bits or 16
  end
end

local function complete_cache(given, model)
  local cache = schema.check_object("cache.", given or {}, schema.cache)
  cache.method = cache.method or (model.num_key_value_heads == model.num_attention_heads and "x" or "latent")
  complete_options(cache)
  complete_ranks(cache, model)
  complete_group(cache, model)
  if cache.page < 16 or cache.page > 256 or cache.page % 16 ~= 0 then
    fail.spec("cache.page", "%d is not valid; valid: multiples of 16 from 16 to 256", cache.page)
  end
  if (cache.axis_k == "channel" or cache.axis_v == "channel") and cache.page % cache.group ~= 0 and
    cache.group % cache.page ~= 0 then
    fail.spec("cache.page", "%d is not valid with groups of %d tokens (axis channel); valid: its multiples and divisors",
      cache.page, cache.group)
  end
  return json.ordered(cache, schema.names_of(schema.cache))
end

-- ---------------------------------------------------------------- all of it
-- What is computed may be given, so that a completed spec is itself a spec; but only as computed.
local function check_computed(result, given)
  for _, name in ipairs { "keys", "layout", "accumulator", "weights_layout", "unfused_weights_layout",
    "kv_weights_layout" } do
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
  result.keys = layout.keys(result.model)
  result.layout = layout.cache(result.model, result.cache)
  result.accumulator = layout.accumulator(result.model, result.cache)
  result.weights_layout = layout.weights(result)
  result.unfused_weights_layout = layout.unfused_weights(result)
  result.kv_weights_layout = layout.kv_weights(result)
  check_computed(result, given)
  result.tuning = tuning.complete(result, given.tuning or {})
  return json.ordered(result, schema.names_of(schema.top))
end

return spec
