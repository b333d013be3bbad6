-- Makes docs/features.md from gen/features.lua and from the features that each kernel family says it handles.
local features = require "features"
local layers = require "layers"
local models = require "models"
local spec = require "spec"
local tuning = require "tuning"

local features_page = {}

local head = [[
# Supported features

Look up here which kernel supports which feature, and which features each preset needs. `make features` writes this
page from `gen/features.lua` and the `handles` lists of `templates/NAME.spec.lua`. A test fails if the page differs from
them.

Every kernel serves codes of 4 and 8 bits, per-token groups of 32 to 256 channels or whole rows, scale and minimum as
two f16, pages of 16 to 256 tokens, any number of query heads a KV head, head dimensions 64 and 128, RoPE in NeoX order
on whole heads with any frequencies (linear, Llama-3, YaRN and LongRoPE stretching are only other numbers), and f16
activations and weights. The table lists the features that a spec may ask for beyond that, by their names in `handles`:

- **yes**: the kernel does it, and a test holds it to the reference.
- **no**: a spec that asks for it is completed, and this kernel refuses it by name (`XQ_ERROR_UNSUPPORTED`).
- **·**: the feature makes no difference to this kernel.

A plan needs all of its kernels: [kernels.md](kernels.md) says which are the fused plan's and which the unfused one's.
]]

local function cell(feature, name)
  local family, _, _, families = tuning.family(name), table.unpack(feature)
  if not features.contains(families, tuning.template(name)) or features.contains(family.ignores, feature[1]) then
    return "·"
  end
  return features.contains(family.handles, feature[1]) and "yes" or "no"
end

local function row(first, families, value)
  local cells = { first }
  for _, family in ipairs(families) do cells[#cells + 1] = value(family) end
  return "| " .. table.concat(cells, " | ") .. " |"
end

local presets_head = [[

## Presets

The table lists the features that each preset's attention asks for, and the kernels that refuse it on sm_80, of a plan
with default options. "Layers" is the number of layers of this kind, and of all layers.

| preset | d | H | Hkv | dh | layers | asks for | refused by |
| --- | --- | --- | --- | --- | --- | --- | --- |]]

-- The families that every plan needs. Other families serve only some methods, or some models.
local needed = { "append", "attend", "dequantize", "gemm", "rope", "kv_append", "kv_attend" }

local function quoted(list)
  for i, item in ipairs(list) do list[i] = "`" .. item .. "`" end
  return table.concat(list, ", ")
end

local function asked(completed)
  local names = {}
  for _, feature in ipairs(features.list) do
    local name, _, _, asks = table.unpack(feature)
    if asks(completed) then names[#names + 1] = name end
  end
  return names
end

local function refusing(completed)
  local names = {}
  for _, family in ipairs(needed) do
    local idle = family == "rope" and completed.model.rope.type == "none"
    if not idle and not completed.tuning[family] then names[#names + 1] = family end
  end
  return names
end

-- "N of M": the number of layers that the spec is for, and the number of all layers.
local function layers_of(model)
  local count = model.num_hidden_layers
  if not model.layer_types then return tostring(count) end
  local own = 0
  for layer = 0, count - 1 do
    local listed = layers.kind_of(model.layer_types[layer + 1])
    own = own + (listed and (not model.layer_kind or listed == model.layer_kind) and 1 or 0)
  end
  return ("%d of %d"):format(own, count)
end

local function preset_row(name, kind)
  local completed = spec.complete { model = { preset = name, layer_kind = kind } }
  local m = completed.model
  return ("| `%s`%s | %d | %d | %d | %d | %s | %s | %s |"):format(name, kind and ", " .. kind or "", m.hidden_size,
    m.num_attention_heads, m.num_key_value_heads, m.head_dim, layers_of(m), quoted(asked(completed)),
    quoted(refusing(completed)))
end

local function add_presets(lines)
  lines[#lines + 1] = presets_head
  for _, name in ipairs(models.order) do
    local _, mixed, kinds = spec.any_layer_kind { model = name }
    for _, kind in ipairs(mixed and kinds or {}) do lines[#lines + 1] = preset_row(name, kind) end
    if not mixed then lines[#lines + 1] = preset_row(name) end
  end
end

-- The families to list. Families that serve every spec alike, such as `check`, have no features to list.
local function listed_families()
  local names = {}
  for _, name in ipairs(tuning.families()) do
    if #(tuning.family(name).handles or {}) > 0 then names[#names + 1] = name end
  end
  return names
end

function features_page.text()
  local families = listed_families()
  local lines = { head,
    row("feature", families, function(family) return family end),
    row("---", families, function() return "---" end) }
  for _, feature in ipairs(features.list) do
    lines[#lines + 1] = row(("`%s`: %s"):format(feature[1], feature[2]), families,
      function(family) return cell(feature, family) end)
  end
  add_presets(lines)
  return table.concat(lines, "\n") .. "\n"
end

return features_page
