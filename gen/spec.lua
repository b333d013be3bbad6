-- Validates a spec and fills in the values that were left open.
local choices = require "choices"
local fail = require "fail"
local json = require "json"
local layout = require "layout"
local model_module = require "model"
local arch = require "arch"
local schema = require "schema"
local tuning = require "tuning"

local spec = {}

-- ---------------------------------------------------------------- cache
local function full_rank(cache, model, groups)
  local kv_width = model.num_key_value_heads * model.head_dim
  if cache.method == "latent-cl" then return math.min(model.hidden_size, 2 * kv_width) end
  return math.min(model.hidden_size, kv_width // groups) * groups
end

-- `of`: "k" or "v".
local function complete_rank(cache, model, of)
  local name, groups = "rank_" .. of, cache["groups_" .. of]
  local most = full_rank(cache, model, groups)
  local rank = cache[name] or most
  if rank < 1 or rank > most or rank % groups ~= 0 then
    fail.spec("cache." .. name, "%d is not valid; valid: %s %d", rank,
      groups > 1 and ("multiples of groups_%s (%d) up to"):format(of, groups) or "1 to", most)
  end
  cache[name] = rank
end

local function check_groups(cache, model, name)
  local groups, divisors = cache[name], schema.divisors(model.num_key_value_heads)
  if groups == nil then return end
  if groups ~= 1 and cache.method ~= "latent" then
    fail.spec("cache." .. name, "%d is not valid; valid: 1; method '%s' has no grouped latents", groups, cache.method)
  elseif not schema.contains(divisors, groups) then
    fail.spec("cache." .. name, "%d does not divide num_key_value_heads (%d); valid: %s", groups,
      model.num_key_value_heads, schema.list(divisors))
  end
end

-- The number of stored columns of a stream at full rank.
local function stored_width(cache, model, groups)
  return layout.latent_width(full_rank(cache, model, groups) // groups) * groups
end

-- The default of groups_k or groups_v (`of`: "k" or "v"): as many latents as possible that together take no more memory
-- than one latent for all KV heads. Rematerializing keys costs least then, and each latent of values is read once. A
-- reduced rank keeps one latent, because it relies on what the heads share.
local function usual_groups(cache, model, of)
  if cache.method ~= "latent" or cache["rank_" .. of] then return 1 end
  local most, joint = 1, stored_width(cache, model, 1)
  for _, groups in ipairs(schema.divisors(model.num_key_value_heads)) do
    if stored_width(cache, model, groups) <= joint then most = groups end
  end
  return most
end

-- `groups`, where it is given, is the default of groups_k and of groups_v. The completed spec leaves it out.
local function complete_groups(cache, model)
  for _, name in ipairs { "groups", "groups_k", "groups_v" } do check_groups(cache, model, name) end
  if cache.groups and cache.groups_k and cache.groups_v then
    fail.spec("cache.groups", "%d has no effect beside groups_k (%d) and groups_v (%d); leave it out", cache.groups,
      cache.groups_k, cache.groups_v)
  end
  cache.groups_k = cache.groups_k or cache.groups or usual_groups(cache, model, "k")
  cache.groups_v = cache.groups_v or cache.groups or usual_groups(cache, model, "v")
  cache.groups = nil
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
  complete_rank(cache, model, "k")
  if cache.method == "latent-cl" then
    if (cache.rank_v or 0) ~= 0 then
      fail.spec("cache.rank_v", "method 'latent-cl' caches one latent of rank_k columns; leave it out")
    end
    cache.rank_v = 0
  else
    complete_rank(cache, model, "v")
  end
end

local group_sizes = schema.group_sizes

-- The group "row" is as wide as the widest latent, as stored, because no group of channels reaches beyond its latent.
local function complete_group(cache, model)
  local row = 0
  for _, stream in ipairs(layout.streams(model, cache)) do row = math.max(row, stream.latent_width) end
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

-- The share of a group's range that codes span, by the number of bits, where activations are rotated. Rotated values
-- are spread like a normal distribution, whose ends are rare. These shares lose least (docs/accuracy.md).
local clips = { [2] = 0.8, [3] = 0.95, [4] = 0.95 }

local function complete_options(cache)
  local cross_layer = cache.method == "x-cl" or cache.method == "latent-cl"
  only_for(cache, "base", cross_layer, "is for the cross-layer methods, x-cl and latent-cl")
  only_for(cache, "accumulator_bits", cross_layer, "is for the cross-layer methods, x-cl and latent-cl")
  only_for(cache, "axis_v", cache.method == "latent" or cache.axis_v == cache.axis_k,
    "method '" .. cache.method .. "' caches one stream, whose axis is axis_k")
  if cache.rotation and cache.method == "x-cl" then
    fail.spec("cache.rotation", "true is not valid; method 'x-cl' adds up activations as they are; valid for x, latent, latent-cl")
  end
  if cache.rotation == nil then cache.rotation = not cross_layer end
  cache.clip = cache.clip or cache.rotation and clips[cache.bits] or 1
  cache.axis_v = cache.axis_v or (cache.method == "latent" and "token" or cache.axis_k)
  if cross_layer then
    cache.base, cache.accumulator_bits = cache.base or false, cache.accumulator_bits or 16
  end
end

-- Feedback works in groups of channels that are short enough for the group of one token to stay in registers. The
-- member is left out of the completed spec where feedback is not asked for.
local function complete_feedback(cache)
  if not cache.feedback then
    cache.feedback = nil
    return
  end
  local reason = not ((cache.method == "x" or cache.method == "latent") and cache.rotation) and
    "for methods x and latent, with rotation" or
    (cache.axis_k == "channel" or cache.axis_v == "channel") and "for groups of channels (axis token)" or
    not schema.contains(group_sizes, cache.group) and "for groups of " .. schema.list(group_sizes)
  if reason then fail.spec("cache.feedback", "true is not valid; it is %s", reason) end
end

local function complete_cache(given, model)
  local cache = schema.check_object("cache.", given or {}, schema.cache)
  cache.method = cache.method or (model.num_key_value_heads == model.num_attention_heads and "x" or "latent")
  complete_groups(cache, model)
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
  complete_feedback(cache)
  return json.ordered(cache, schema.names_of(schema.cache))
end

-- Weights are int8 by default with these methods and at most so many bits, where scores are made straight from codes
-- then. There int8 weights are faster than f16 weights, and their loss is small beside that of codes (docs/accuracy.md).
local narrow_methods, narrow_bits = { "latent" }, 4

-- The default of weights.
local function usual_weights(spec)
  local narrow = schema.contains(narrow_methods, spec.cache.method) and spec.cache.bits <= narrow_bits and
    layout.scores_of_codes(spec)
  return narrow and "int8" or "f16"
end

-- ---------------------------------------------------------------- all of it
-- The spec that these choices make. `how` says where parameters that are not chosen come from (tuning.complete).
local function complete_choices(chosen, how)
  local result = schema.check_object("", chosen, schema.top)
  result.model = model_module.complete(chosen.model)
  result.cache = complete_cache(chosen.cache, result.model)
  result.checked = result.checked or nil -- left out where it is not asked for
  arch.find(result.arch)
  result.keys = layout.keys(result.model)
  result.layout = layout.cache(result.model, result.cache)
  result.accumulator = layout.accumulator(result.model, result.cache)
  result.weights = result.weights or usual_weights(result)
  layout.complete_keys(result)
  result.weights_layout = layout.weights(result)
  result.unfused_weights_layout = layout.unfused_weights(result)
  result.kv_weights_layout = layout.kv_weights(result)
  result.kv_e4m3_weights_layout = layout.kv_e4m3_weights(result)
  result.tuning, result.tuned = tuning.complete(result, chosen.tuning or {}, how)
  result.choices = choices.canonical(chosen)
  result.choices.arch = result.arch -- a choice, because tuning depends on it
  return json.ordered(result, schema.names_of(schema.top))
end

-- The path of the first computed member of `given` that differs from `result`, and the name of the spec's member that
-- has it; or nil.
local function differs_from(result, given)
  for _, name in ipairs(schema.added) do
    local path = name ~= "choices" and given[name] ~= nil and json.difference(given[name], result[name], name)
    if path then return path, name end
  end
end

-- Computed members may be given, so that a completed spec is itself a spec, but only as they are computed from its
-- choices.
local function check_computed(given, base)
  local path, name = differs_from(base, given)
  if path then
    fail.spec(path, "differs from what the rest of the spec gives; leave %s out", path == name and "it" or name)
  end
end

-- The choices of a completed spec, edited or not, and the spec that they complete to where that is known already.
local function choose_completed(given, options)
  choices.check(given.choices)
  if given.choices.model == nil then
    fail.spec("choices.model", "is missing; leave choices as they were, or leave all of them out")
  end
  local base = complete_choices(given.choices, { kept = given.tuned or {} })
  local chosen = choices.edited(given, base)
  chosen.arch = chosen.arch or options.arch
  if json.same(choices.canonical(chosen), base.choices) then
    check_computed(given, base)
    return chosen, base
  end
  if differs_from(base, given) and not differs_from(complete_choices(chosen, options), given) then
    fail.spec("choices", "differ from the rest of the spec; edit that, and leave choices as they were")
  end
  check_computed(given, base)
  return chosen
end

-- For a spec without `choices`, in which every member is a choice: nil where `tuned` only repeats parameters that
-- `tuning` has, else `tuned` itself, which is then checked like any computed member.
local function unchosen(given)
  if not schema.is_object(given.tuned) then return given.tuned end
  for family, used in pairs(given.tuned) do
    local own = schema.is_object(given.tuning) and given.tuning[family]
    if not schema.is_object(used) or not json.same(used.parameters, own) then return given.tuned end
  end
end

-- The choices of any spec, and the spec that they complete to where that is known already.
local function choose(given, options)
  if not schema.is_object(given) then fail.spec("spec", "must be an object, not %s", schema.show(given)) end
  given = choices.read(given)
  if given.choices ~= nil then return choose_completed(given, options) end
  given.tuned = unchosen(given)
  local chosen = choices.of(given)
  chosen.arch = chosen.arch or options.arch
  if not differs_from({}, given) then return chosen end -- nothing computed is given
  local result = complete_choices(chosen, options)
  check_computed(given, result)
  return chosen, result
end

-- The completed spec as a table; fails with the field at fault. Each of `options` may be nil. `arch`: the architecture
-- for a spec without one (nil: the schema's default). `calls`: the size of calls for which parameters are looked up in
-- tables of tuned parameters. `untuned`: families that are not looked up. `anew`: parameters are looked up even for a
-- spec that is completed.
function spec.complete(given, options)
  options = options or {}
  local chosen, result = choose(given, options)
  return not options.anew and result or complete_choices(chosen, options)
end

-- The choices of a spec, completed or not, with `overrides` (a JSON merge patch) on top, as the JSON text of a spec
-- that is not completed. Where `model` is not nil, it replaces the spec's model.
function spec.override(given, overrides, model)
  local chosen = choose(given, {})
  if model ~= nil then chosen.model = model end
  return json.encode_unchecked(choices.canonical(choices.override(chosen, overrides), true))
end

-- Returns the kind of a layer, counted from 0, where the spec's model mixes kinds, else ""; then whether the model
-- mixes kinds; then the kinds that it has.
function spec.layer_kind(given, layer)
  if not schema.is_object(given) then fail.spec("spec", "must be an object, not %s", schema.show(given)) end
  local kind, mixed, present = model_module.kind_at(choices.read(given).model, layer)
  return mixed and kind or "", mixed, present
end

-- spec.layer_kind for the first layer that a spec can be for, because not every layer keeps keys and values.
function spec.any_layer_kind(given) return spec.layer_kind(given) end

return spec
