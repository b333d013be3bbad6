-- Kinds of layers. Many models mix layers that see the whole context ("full") with layers that see a window of it
-- ("sliding"), which may have another rotary embedding too; a spec is for the layers of one kind.
local fail = require "fail"
local json = require "json"
local schema = require "schema"

local layers = {}

local kind_of = { full_attention = "full", sliding_attention = "sliding" }

local function check_listed(model)
  local types, count = model.layer_types, model.num_hidden_layers
  if #types == 0 then fail.spec("model.layer_types", "is empty; it must name the kind of each layer") end
  if count and #types ~= count then
    fail.spec("model.layer_types", "has %d entries, for num_hidden_layers %d", #types, count)
  end
  for i, name in ipairs(types) do
    if not kind_of[name] then
      fail.unsupported("model.layer_types", "%s (layer %d) is not supported; supported: full_attention, sliding_attention",
        schema.show(name), i - 1)
    end
  end
  return types
end

-- {key, function(its value, layer) → whether the layer slides}: the patterns of config.json
local patterns = {
  { "sliding_window_pattern", function(period, layer) return (layer + 1) % period ~= 0 end },
  { "max_window_layers", function(first, layer) return layer >= first end },
}

local function from_pattern(model)
  for _, pattern in ipairs(patterns) do
    local key, slides = pattern[1], pattern[2]
    if model[key] then
      if not model.num_hidden_layers then fail.spec("model.num_hidden_layers", "is missing; %s needs it", key) end
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
    if model[key] and found then fail.spec("model." .. key, "cannot be given beside model.%s", found) end
    found = model[key] and key or found
  end
end

local function count_kinds(types)
  local counts = { full = 0, sliding = 0 }
  for _, name in ipairs(types) do counts[kind_of[name]] = counts[kind_of[name]] + 1 end
  return counts
end

-- For a model whose keys are checked: the names of its layers' kinds, as config.json has them; nil where all layers are
-- alike, and then the second result is their kind.
function layers.types(model)
  check_one_source(model)
  local types = model.layer_types and check_listed(model) or from_pattern(model)
  if not types then return nil, model.sliding_window and "sliding" or "full" end
  local counts = count_kinds(types)
  if counts.full > 0 and counts.sliding > 0 then return json.array(types) end
  return nil, counts.full > 0 and "full" or "sliding"
end

-- The kind that the spec is for. `types`, `only`: from layers.types.
function layers.kind(model, types, only)
  local kind = model.layer_kind
  if not types then
    if kind and kind ~= only then
      fail.spec("model.layer_kind", "'%s' is not valid: all layers of this model are %s; leave it out", kind, only)
    end
    return only
  elseif not kind then
    local counts = count_kinds(types)
    fail.spec("model.layer_kind",
      "is missing: the model has %d sliding and %d full layers, and a spec is for one kind; valid: full, sliding",
      counts.sliding, counts.full)
  end
  return kind
end

-- The kind of one layer, counted from 0; `types` as above.
function layers.kind_at(types, only, model, layer)
  local count = types and #types or model.num_hidden_layers
  if layer < 0 or count and layer >= count then
    fail.argument("layer", "%d is not valid; valid: 0 to %d", layer, (count or 1 << 31) - 1)
  end
  return types and kind_of[types[layer + 1]] or only
end

return layers
