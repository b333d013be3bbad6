-- Validates the model of a spec and fills in the values that were left open.
local host = require "host"
local fail = require "fail"
local json = require "json"
local layers = require "layers"
local layout = require "layout"
local model_rope = require "model_rope"
local models = require "models"
local schema = require "schema"

local model_module = {}

-- ---------------------------------------------------------------- finding it
local function find_preset(field, name)
  return models.find(name) or
    fail.spec(field, "'%s' is no preset; %s", name:sub(1, 60), fail.suggestion(name, models.order, "`xq gen --list-models` prints them"))
end

-- {preset = NAME, ...}: the values of the preset, except those that are given beside its name. There null removes a
-- value.
local function with_preset(given)
  if type(given.preset) ~= "string" then
    fail.spec("model.preset", "must be a string (a preset's name), not %s", schema.show(given.preset))
  end
  local model = find_preset("model.preset", given.preset)
  for key, value in pairs(given) do
    if value == host.null then value = nil end
    if key ~= "preset" then model[key] = value end
  end
  return model
end

local function find_model(given)
  if given == nil then fail.spec("model", "is missing; give a preset's name or an object") end
  if type(given) == "string" then return find_preset("model", given) end
  if not schema.is_object(given) then
    fail.spec("model", "must be a preset's name or an object, not %s", schema.show(given))
  end
  return given.preset ~= nil and with_preset(given) or given
end

-- ---------------------------------------------------------------- shape and scores
local function check_hidden_size(size)
  if size < 1 then fail.spec("model.hidden_size", "%d is not valid; valid: %s", size, schema.hidden_size_text) end
  if size % layout.unit_channels ~= 0 or size > schema.most_hidden_size then
    fail.unsupported("model.hidden_size", "%d is not supported; supported: %s", size, schema.hidden_size_text)
  end
end

local function check_head_dim(size)
  local text = schema.list(schema.head_dims)
  if size < 1 then fail.spec("model.head_dim", "%d is not valid; valid: %s", size, text) end
  if not schema.contains(schema.head_dims, size) then
    fail.unsupported("model.head_dim", "%d is not supported; supported: %s", size, text)
  end
end

local function complete_shape(model)
  local heads = model.num_attention_heads
  model.num_key_value_heads = model.num_key_value_heads or heads
  if not model.head_dim then
    if model.hidden_size % heads ~= 0 then
      fail.spec("model.head_dim", "is missing, and num_attention_heads (%d) does not divide hidden_size (%d)", heads,
        model.hidden_size)
    end
    model.head_dim = model.hidden_size // heads
  end
  local divisors = schema.divisors(heads)
  if not schema.contains(divisors, model.num_key_value_heads) then
    fail.spec("model.num_key_value_heads", "%d does not divide num_attention_heads (%d); valid: %s",
      model.num_key_value_heads, heads, schema.list(divisors))
  end
  check_hidden_size(model.hidden_size)
  check_head_dim(model.head_dim)
end

local function complete_scores(model)
  local scalar = model.query_pre_attn_scalar
  if scalar and model.attention_scale and model.attention_scale ~= 1 / math.sqrt(scalar) then
    fail.spec("model.attention_scale", "differs from the scale that query_pre_attn_scalar gives; give one of them")
  end
  model.attention_scale = model.attention_scale or 1 / math.sqrt(scalar or model.head_dim)
  model.query_pre_attn_scalar = nil
  if model.alibi_scale and not model.alibi then
    fail.spec("model.alibi_scale", "has no effect without ALiBi; leave it out")
  end
  if model.alibi_scale == 1 then model.alibi_scale = nil end
  if model.qk_norm == true then model.qk_norm = "head" end
  model.rms_norm_eps = model.qk_norm and (model.rms_norm_eps or 1e-6) or nil
end

-- ---------------------------------------------------------------- kinds of layers
local kind_order = { "rope", "sliding_window" }

-- The values that differ between kinds of layers, from the keys of config.json.
local function kinds_from_keys(model, given)
  local rope = model_rope.complete(given, model, "model.rope")
  local base = model.rope_local_base_freq
  return {
    full = json.ordered({ rope = rope }, kind_order),
    sliding = json.ordered({ rope = base and model_rope.of_base(rope, base) or rope,
      sliding_window = model.sliding_window }, kind_order),
    nope = json.ordered({ rope = model_rope.none() }, kind_order),
  }
end

local function check_given_kind(name, kind)
  local field = "model.layer_kinds." .. name
  if name ~= "sliding" and kind.sliding_window then
    fail.spec(field .. ".sliding_window", "has no effect in %s layers; leave it out", name)
  end
  if name == "nope" and kind.rope.type ~= "none" then
    fail.spec(field .. ".rope.type", "'%s' is not valid: these layers have no RoPE; valid: none", kind.rope.type)
  end
end

-- The same values from `layer_kinds`, as a completed spec has them, for the kinds that the model has.
local function kinds_as_given(model, given, present)
  for _, other in ipairs { "rope_theta", "rope_scaling", "rope_interleaved", "partial_rotary_factor",
    "rope_local_base_freq" } do
    if given[other] ~= nil then
      fail.spec("model." .. other, "cannot be given beside model.layer_kinds, which says the same in another form; " ..
        "give one of the two forms (null removes a preset's value)")
    end
  end
  local kinds = schema.check_object("model.layer_kinds.", given.layer_kinds, schema.layer_kinds)
  for _, name in ipairs(layers.names) do
    local field = "model.layer_kinds." .. name
    local needed = schema.contains(present, name)
    if needed and not kinds[name] then fail.spec(field, "is missing; the model has such layers") end
    if kinds[name] and not needed then fail.spec(field, "is for layers that the model does not have; leave it out") end
    if needed then
      local kind = schema.check_object(field .. ".", kinds[name], schema.layer_kind)
      kind.rope = model_rope.complete({ rope = kind.rope }, model, field .. ".rope")
      check_given_kind(name, kind)
      kinds[name] = json.ordered(kind, kind_order)
    end
  end
  return kinds
end

-- A spec of mixed layers may give the values that are computed from layer_kinds, but only as computed.
local function check_chosen(given, kind, name)
  for _, key in ipairs(kind_order) do
    if given[key] ~= nil and not json.same(given[key], kind[key]) then
      fail.spec("model." .. key, "differs from model.layer_kinds.%s.%s; leave it out", name, key)
    end
  end
end

-- Keeps only the kinds that occur among the model's layers.
local function of_present(kinds, present)
  local result = {}
  for _, name in ipairs(present) do result[name] = kinds[name] end
  return json.ordered(result, layers.names)
end

local function complete_layers(model, given)
  local types, only = layers.types(model)
  local name, present = layers.kind(model, types, only), layers.present(types, only)
  if given.layer_kinds and only then
    fail.spec("model.layer_kinds", "is for models that mix kinds of layers; leave it out")
  end
  local kinds = given.layer_kinds and kinds_as_given(model, given, present) or kinds_from_keys(model, given)
  local kind = kinds[name]
  if schema.contains(present, "sliding") and not kinds.sliding.sliding_window then
    fail.spec("model.sliding_window", "is missing, and the sliding layers need it; it must be a whole number")
  end
  if given.layer_kinds then check_chosen(given, kind, name) end
  model.rope, model.sliding_window = kind.rope, kind.sliding_window
  model.layer_kind, model.layer_types, model.layer_kinds = nil, types, nil
  if not only then model.layer_kind, model.layer_kinds = name, of_present(kinds, present) end
  model.sliding_window_pattern, model.max_window_layers, model.rope_local_base_freq = nil, nil, nil
end

-- ---------------------------------------------------------------- all of it
-- `given`: a preset's name, or an object with the keys of schema.model.
function model_module.complete(given)
  given = find_model(given)
  local model = schema.check_object("model.", given, schema.model)
  complete_shape(model)
  complete_layers(model, given)
  complete_scores(model)
  model.rope_theta, model.rope_scaling, model.partial_rotary_factor, model.rope_interleaved = nil, nil, nil, nil
  for name, value in pairs(model) do
    if value == false then model[name] = nil end -- features are named only where a model has them
  end
  return json.ordered(model, schema.names_of(schema.model))
end

-- The kind of a layer, counted from 0 (nil: of the first layer that a spec can be for), whether the model mixes kinds,
-- and the kinds that it has.
function model_module.kind_at(given, layer)
  local model = schema.check_object("model.", find_model(given), schema.model)
  local types, only = layers.types(model)
  return layers.kind_at(types, only, model, layer), not only, layers.present(types, only)
end

return model_module
