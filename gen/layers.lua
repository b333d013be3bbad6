-- Kinds of layers. Many models mix layers that see the whole context ("full") with layers that see a window of it
-- ("sliding"), which may also have another rotary embedding, and with layers that see the whole context without a
-- rotary embedding ("nope"). A spec is for the layers of one kind. Layers of linear attention keep no keys and values,
-- so no spec is for them.
local fail = require "fail"
local json = require "json"
local schema = require "schema"

local layers = {}

layers.names = { "full", "sliding", "nope" }

local kinds = { full_attention = "full", sliding_attention = "sliding", nope_attention = "nope" }
local KEEPS_NOTHING = "linear_attention"

-- The kind that an entry of layer_types names; nil for a layer without keys and values.
function layers.kind_of(name) return kinds[name] end

local function check_listed(model)
  local types, count = model.layer_types, model.num_hidden_layers
  if #types == 0 then fail.spec("model.layer_types", "is empty; it must name the kind of each layer") end
  if count and #types ~= count then
    fail.spec("model.layer_types", "has %d entries, for num_hidden_layers %d", #types, count)
  end
  for i, name in ipairs(types) do
    if not kinds[name] and name ~= KEEPS_NOTHING then
      fail.unsupported("model.layer_types", "%s (layer %d) is not supported; supported: full_attention, " ..
        "sliding_attention, nope_attention, linear_attention", schema.show(name), i - 1)
    end
  end
  return types
end

-- The patterns of config.json: {key, function(value of the key, layer) → whether the layer slides}
local patterns = {
  { "sliding_window_pattern", function(period, layer) return (layer + 1) % period ~= 0 end },
  { "max_window_layers", function(first, layer) return layer >= first end },
}

local function from_pattern(model)
  for _, pattern in ipairs(patterns) do
    local key, slides = pattern[1], pattern[2]
    if model[key] then
      if not model.num_hidden_layers then
        fail.spec("model.num_hidden_layers", "%s; %s needs it", schema.missing(schema.model, "num_hidden_layers"), key)
      end
      local types = json.array {}
      for layer = 0, model.num_hidden_layers - 1 do
        types[layer + 1] = slides(model[key], layer) and "sliding_attention" or "full_attention"
      end
      return types
    end
  end
end

local function check_one_source(model)
  local found
  for _, key in ipairs { "layer_types", "sliding_window_pattern", "max_window_layers" } do
    if model[key] and found then fail.spec("model." .. key, "cannot be given beside model.%s; give one of them", found) end
    found = model[key] and key or found
  end
end

-- The number of layers of each kind, and the number of kinds.
local function count_kinds(types)
  local counts, different = { full = 0, sliding = 0, nope = 0 }, 0
  for _, name in ipairs(types) do
    local kind = kinds[name]
    if kind then
      different = different + (counts[kind] == 0 and 1 or 0)
      counts[kind] = counts[kind] + 1
    end
  end
  return counts, different
end

-- The kinds that occur among a model's layers.
function layers.present(types, only)
  if only then return { only } end
  local counts, list = count_kinds(types), {}
  for _, kind in ipairs(layers.names) do
    if counts[kind] > 0 then list[#list + 1] = kind end
  end
  return list
end

-- For a model whose keys are checked, returns two values. The first is the kind of each layer, in the names of
-- config.json, and is nil where all layers are alike. The second is the one kind of all layers that a spec can be for,
-- and is nil where there are several kinds.
function layers.types(model)
  check_one_source(model)
  local types = model.layer_types and check_listed(model) or from_pattern(model)
  if not types then return nil, model.sliding_window and "sliding" or "full" end
  local counts, different = count_kinds(types)
  if different == 0 then
    fail.unsupported("model.layer_types", "has no layer with keys and values; every one is %s", KEEPS_NOTHING)
  elseif different > 1 then
    return json.array(types)
  end
  local linear = false
  for _, name in ipairs(types) do linear = linear or name == KEEPS_NOTHING end
  for kind, count in pairs(counts) do
    if count > 0 then return linear and json.array(types) or nil, kind end
  end
end

-- "5 sliding and 1 full"
local function counted(types)
  local counts, texts = count_kinds(types), {}
  for _, kind in ipairs { "sliding", "full", "nope" } do
    if counts[kind] > 0 then texts[#texts + 1] = ("%d %s"):format(counts[kind], kind) end
  end
  local last = table.remove(texts)
  return table.concat(texts, ", ") .. " and " .. last
end

-- The kind that the spec is for. `types` and `only` are the results of layers.types.
function layers.kind(model, types, only)
  local kind = model.layer_kind
  if only then
    if kind and kind ~= only then
      fail.spec("model.layer_kind", "'%s' is not valid: all layers of this model are %s; leave it out", kind, only)
    end
    return only
  end
  local valid = layers.present(types)
  if not kind then
    fail.spec("model.layer_kind", "is missing: the model has %s layers, and a spec is for one kind; valid: %s",
      counted(types), schema.list(valid))
  elseif not schema.contains(valid, kind) then
    fail.spec("model.layer_kind", "'%s' is not valid: the model has %s layers; valid: %s", kind, counted(types),
      schema.list(valid))
  end
  return kind
end

local function with_attention(types)
  local list = {}
  for i, name in ipairs(types) do
    if kinds[name] then list[#list + 1] = i - 1 end
  end
  return list
end

-- The kind of one layer, counted from 0; `types` and `only` as above. With `layer` nil, it is the first layer that a
-- spec can be for.
function layers.kind_at(types, only, model, layer)
  local count = types and #types or model.num_hidden_layers
  layer = layer or types and with_attention(types)[1] or 0
  if layer < 0 or count and layer >= count then
    fail.argument("layer", "%d is not valid; valid: 0 to %d", layer, (count or 1 << 31) - 1)
  end
  if types and not kinds[types[layer + 1]] then
    fail.argument("layer", "%d is not valid: layer %d has %s, and keeps no keys and values; valid: %s", layer, layer,
      types[layer + 1], schema.list(with_attention(types)))
  end
  return types and kinds[types[layer + 1]] or only
end

return layers
