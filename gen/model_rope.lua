-- Validates and completes the rotary embedding of a model.
local fail = require "fail"
local json = require "json"
local rope = require "rope"
local schema = require "schema"

local model_rope = {}

local scaling_order = { "type", "table", "factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "truncate",
  "original_max_position_embeddings", "short_factor", "long_factor" }

local function complete_llama3(field, scaling)
  if scaling.high_freq_factor <= scaling.low_freq_factor then
    fail.spec(field .. ".high_freq_factor", "must be greater than low_freq_factor")
  end
end

-- Moves the attention factor, which multiplies rotated queries and keys, from `scaling` to `result`. Where it is not
-- given, it is `implied()`.
local function complete_attention_factor(field, scaling, result, implied)
  local given = scaling.attention_factor
  if given and result.attention_factor and given ~= result.attention_factor then
    fail.spec(field .. ".attention_factor", "differs from model.rope.attention_factor; give one of them")
  end
  result.attention_factor = result.attention_factor or given or implied()
  scaling.attention_factor = nil
end

local function complete_yarn(field, scaling, result, model)
  scaling.original_max_position_embeddings = scaling.original_max_position_embeddings or model.max_position_embeddings
  if not scaling.original_max_position_embeddings then
    fail.spec(field .. ".original_max_position_embeddings", "is missing, and so is model.max_position_embeddings")
  end
  if scaling.beta_fast <= scaling.beta_slow then fail.spec(field .. ".beta_fast", "must be greater than beta_slow") end
  if result.theta <= 1 then fail.spec(field, "YaRN needs a rotary base above 1") end
  complete_attention_factor(field, scaling, result, function() return rope.yarn_attention_factor(scaling) end)
  scaling.mscale, scaling.mscale_all_dim = nil, nil
end

-- Beside the type `default` only values that scale nothing are valid.
local function check_default(field, given)
  for key, value in pairs(given) do
    if key ~= "type" and key ~= "rope_type" and not (key == "factor" and value == 1) then
      fail.spec(field .. "." .. key, "has no effect with rope_type 'default'; leave it out")
    end
  end
end

local function check_factors(field, factors, pairs_of_head)
  if #factors ~= pairs_of_head then
    fail.spec(field, "has %d entries, and there are %d rotary pairs", #factors, pairs_of_head)
  end
  for i, factor in ipairs(factors) do
    if type(factor) ~= "number" or not (factor >= 1e-3 and factor <= 1e6) then
      fail.spec(("%s[%d]"):format(field, i - 1), "%s is not valid; valid: numbers from 0.001 to 1000000",
        schema.show(factor))
    end
  end
end

-- The ratio of the longest context to the original one: as given, or computed from the two.
local function longrope_factor(field, scaling, model)
  local longest, original = model.max_position_embeddings, scaling.original_max_position_embeddings
  local ratio = longest and original and longest / original
  if scaling.factor and ratio and scaling.factor ~= ratio then
    fail.spec(field .. ".factor", "is %s, but max_position_embeddings is %s times original_max_position_embeddings; " ..
      "give one of them", tostring(scaling.factor), tostring(ratio))
  end
  return scaling.factor or ratio
end

-- LongRoPE (Ding et al., 2024, arXiv 2402.13753) has a list of factors for contexts up to the original length, and one
-- for longer contexts. A kernel uses one of the lists. The attention factor is the same for both.
local function complete_longrope(field, scaling, result, model)
  local count = result.rotary_dim // 2
  check_factors(field .. ".short_factor", scaling.short_factor, count)
  check_factors(field .. ".long_factor", scaling.long_factor, count)
  scaling.factor = longrope_factor(field, scaling, model)
  local original = scaling.original_max_position_embeddings
  if not scaling.table then
    fail.spec(field .. ".table", "is missing: LongRoPE has factors for contexts of up to %s tokens ('short') and for longer " ..
      "ones ('long'), and a spec is for one of them; valid: short, long", original or "the original number of")
  end
  complete_attention_factor(field, scaling, result, function()
    if not scaling.factor or not original then
      fail.spec(field .. ".attention_factor", "is missing, and cannot be computed without " ..
        "original_max_position_embeddings and factor or max_position_embeddings")
    end
    return rope.longrope_attention_factor(scaling)
  end)
end

-- The kind of scaling that `given` names.
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

local completers = { llama3 = complete_llama3, yarn = complete_yarn, longrope = complete_longrope }

local function refuse_kind(field, kind)
  if kind == "dynamic" then
    fail.unsupported(field, "RoPE scaling 'dynamic' is not supported: its frequencies change with the length of the context " ..
      "beyond max_position_embeddings. Set it to null for contexts up to that length, where it changes nothing")
  end
  fail.unsupported(field, "RoPE scaling '%s' is not supported; supported: default, linear, llama3, yarn, longrope", kind)
end

-- Checks result.scaling, and completes it.
local function complete_scaling(field, result, model)
  local given = result.scaling
  local kind = scaling_kind(field, given)
  result.scaling = nil
  if kind == "default" then return check_default(field, given) end
  if not schema.scalings[kind] then refuse_kind(field, kind) end
  local scaling = schema.check_object(field .. ".", given, schema.scalings[kind])
  if completers[kind] then completers[kind](field, scaling, result, model) end
  scaling.type, scaling.rope_type = kind, nil
  result.scaling = json.ordered(scaling, scaling_order)
end

-- `field` is the name of `rope` in errors.
local function complete_rotary_dim(field, result, given, head_dim)
  local factor = not result.rotary_dim and given.partial_rotary_factor
  result.rotary_dim = result.rotary_dim or math.floor(head_dim * (factor or 1))
  if result.rotary_dim % 2 == 0 and result.rotary_dim >= 2 and result.rotary_dim <= head_dim then return end
  if factor then
    fail.spec("model.partial_rotary_factor", "%s of head_dim (%d) is %d; valid: shares that make an even number of at least 2",
      tostring(factor), head_dim, result.rotary_dim)
  end
  fail.spec(field .. ".rotary_dim", "%d is not valid; valid: even numbers from 2 to head_dim (%d)", result.rotary_dim, head_dim)
end

-- `given` has the keys of the model: either `rope`, as completed specs have it, or the keys of config.json, rope_theta,
-- rope_scaling and others. `field` is the name of `rope` in errors.
function model_rope.complete(given, model, field)
  local result, scaling_field
  if given.rope then
    for _, other in ipairs { "rope_theta", "rope_scaling", "rope_interleaved", "partial_rotary_factor" } do
      if given[other] ~= nil then
        fail.spec("model.rope", "cannot be given beside model.%s, which says the same in another form; " ..
          "give one of the two forms (null removes a preset's value)", other)
      end
    end
    result, scaling_field = schema.check_object(field .. ".", given.rope, schema.rope), field .. ".scaling"
  else
    result, scaling_field = { type = given.alibi and "none" or given.rope_interleaved and "interleaved" or "neox",
      theta = given.rope_theta, scaling = given.rope_scaling }, "model.rope_scaling"
  end
  if result.type == "none" then
    for _, name in ipairs { "theta", "scaling", "rotary_dim", "attention_factor" } do
      if result[name] then fail.spec(field .. "." .. name, "has no effect without RoPE; leave it out") end
    end
  else
    result.theta = (result.theta or 10000) + 0.0
    complete_rotary_dim(field, result, given, model.head_dim)
    if result.scaling then complete_scaling(scaling_field, result, model) end
    local kind = result.scaling and result.scaling.type
    local implies = kind == "yarn" or kind == "longrope" -- these scalings state the factor even where it is 1
    if result.attention_factor == 1 and not implies then result.attention_factor = nil end
  end
  return json.ordered(result, { "type", "theta", "rotary_dim", "attention_factor", "scaling" })
end

-- The rotary embedding of sliding layers with a rotary base of their own. Its frequencies are not stretched.
function model_rope.of_base(rope_of_full_layers, theta)
  local r = rope_of_full_layers
  if r.type == "none" then fail.spec("model.rope_local_base_freq", "has no effect without RoPE; leave it out") end
  return json.ordered({ type = r.type, theta = theta + 0.0, rotary_dim = r.rotary_dim },
    { "type", "theta", "rotary_dim", "attention_factor", "scaling" })
end

function model_rope.none()
  return json.ordered({ type = "none" }, { "type", "theta", "rotary_dim", "attention_factor", "scaling" })
end

return model_rope
