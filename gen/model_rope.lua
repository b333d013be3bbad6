-- The rotary embedding of a model: validated, and completed.
local fail = require "fail"
local json = require "json"
local rope = require "rope"
local schema = require "schema"

local model_rope = {}

local scaling_order = { "type", "factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "truncate",
  "original_max_position_embeddings" }

local function complete_llama3(field, scaling)
  if scaling.high_freq_factor <= scaling.low_freq_factor then
    fail.spec(field .. ".high_freq_factor", "must be greater than low_freq_factor")
  end
end

-- The attention factor that YaRN implies moves to `rope`.
local function complete_yarn(field, scaling, result, model)
  scaling.original_max_position_embeddings = scaling.original_max_position_embeddings or model.max_position_embeddings
  if not scaling.original_max_position_embeddings then
    fail.spec(field .. ".original_max_position_embeddings", "is missing, and so is model.max_position_embeddings")
  end
  if scaling.beta_fast <= scaling.beta_slow then fail.spec(field .. ".beta_fast", "must be greater than beta_slow") end
  if result.theta <= 1 then fail.spec(field, "YaRN needs a rotary base above 1") end
  local given = scaling.attention_factor
  if given and result.attention_factor and given ~= result.attention_factor then
    fail.spec(field .. ".attention_factor", "differs from model.rope.attention_factor; give one of them")
  end
  result.attention_factor = result.attention_factor or given or rope.yarn_attention_factor(scaling)
  scaling.attention_factor, scaling.mscale, scaling.mscale_all_dim = nil, nil, nil
end

-- What may stand beside the type of no scaling: nothing that would scale.
local function check_default(field, given)
  for key, value in pairs(given) do
    if key ~= "type" and key ~= "rope_type" and not (key == "factor" and value == 1) then
      fail.spec(field .. "." .. key, "means nothing with rope_type 'default'; leave it out")
    end
  end
end

local function scaling_kind(field, given)
  local kind = given.rope_type
  if kind == nil then kind = given.type end
  local valid = schema.list(schema.scaling_types)
  if kind == nil then fail.spec(field .. ".rope_type", "is missing; valid: %s", valid) end
  if not schema.contains(schema.scaling_types, kind) then
    fail.spec(field .. ".rope_type", "%s is not known; valid: %s", schema.show(kind), valid)
  end
  if given.type ~= nil and given.type ~= kind then
    fail.spec(field .. ".type", "differs from rope_type; give one of them")
  end
  return kind
end

-- Checks result.scaling, and completes it.
local function complete_scaling(field, result, model)
  local given = result.scaling
  local kind = scaling_kind(field, given)
  result.scaling = nil
  if kind == "default" then return check_default(field, given) end
  if not schema.scalings[kind] then
    fail.unsupported(field, "RoPE scaling '%s' is not supported; supported: default, linear, llama3, yarn", kind)
  end
  local scaling = schema.check_object(field .. ".", given, schema.scalings[kind])
  if kind == "llama3" then complete_llama3(field, scaling) end
  if kind == "yarn" then complete_yarn(field, scaling, result, model) end
  scaling.type, scaling.rope_type = kind, nil
  result.scaling = json.ordered(scaling, scaling_order)
end

-- `field` names `rope`.
local function complete_rotary_dim(field, result, given, head_dim)
  local factor = not result.rotary_dim and given.partial_rotary_factor
  result.rotary_dim = result.rotary_dim or math.floor(head_dim * (factor or 1))
  if result.rotary_dim % 2 == 0 and result.rotary_dim >= 2 and result.rotary_dim <= head_dim then return end
  if factor then
    fail.spec("model.partial_rotary_factor", "%s of head_dim (%d) is %d; valid: what makes an even number of at least 2",
      tostring(factor), head_dim, result.rotary_dim)
  end
  fail.spec(field .. ".rotary_dim", "%d is not valid; valid: even numbers from 2 to head_dim (%d)", result.rotary_dim, head_dim)
end

-- `given`: the model's keys. Either `rope`, as completed specs have it, or the names of config.json: rope_theta,
-- rope_scaling and others. `field` names `rope`.
function model_rope.complete(given, model, field)
  local result, scaling_field
  if given.rope then
    for _, other in ipairs { "rope_theta", "rope_scaling", "rope_interleaved", "partial_rotary_factor" } do
      if given[other] ~= nil then fail.spec("model." .. other, "cannot be given beside model.rope, which says the same") end
    end
    result, scaling_field = schema.check_object(field .. ".", given.rope, schema.rope), field .. ".scaling"
  else
    result, scaling_field = { type = given.alibi and "none" or given.rope_interleaved and "interleaved" or "neox",
      theta = given.rope_theta, scaling = given.rope_scaling }, "model.rope_scaling"
  end
  if result.type == "none" then
    for _, name in ipairs { "theta", "scaling", "rotary_dim", "attention_factor" } do
      if result[name] then fail.spec(field .. "." .. name, "means nothing without RoPE; leave it out") end
    end
  else
    result.theta = (result.theta or 10000) + 0.0
    complete_rotary_dim(field, result, given, model.head_dim)
    if result.scaling then complete_scaling(scaling_field, result, model) end
    local yarn = result.scaling and result.scaling.type == "yarn" -- says it even where it is 1
    if result.attention_factor == 1 and not yarn then result.attention_factor = nil end
  end
  return json.ordered(result, { "type", "theta", "rotary_dim", "attention_factor", "scaling" })
end

-- Of sliding layers with a rotary base of their own: not stretched.
function model_rope.of_base(rope_of_full_layers, theta)
  local r = rope_of_full_layers
  if r.type == "none" then fail.spec("model.rope_local_base_freq", "means nothing without RoPE; leave it out") end
  return json.ordered({ type = r.type, theta = theta + 0.0, rotary_dim = r.rotary_dim },
    { "type", "theta", "rotary_dim", "attention_factor", "scaling" })
end

return model_rope
