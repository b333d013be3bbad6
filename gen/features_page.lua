-- docs/features.md, made from gen/features.lua and what each kernel family says that it handles.
local features = require "features"
local tuning = require "tuning"

local features_page = {}

local head = [[
# Supported features

Made by `make features` from `gen/features.lua` and the `handles` lists of `templates/NAME.spec.lua`; not typed. A test fails where
it differs from them.

Every kernel serves codes of 4 and 8 bits, per-token groups of 32 to 256 channels or whole rows, scale and minimum as two
f16, pages of 16 to 256 tokens, any number of query heads a KV head, head dimensions 64 and 128, RoPE in NeoX order on
whole heads with any frequencies (linear, Llama-3 and YaRN stretching are only other numbers), f16 activations and
weights. What a spec may ask for beyond that is in the table, by the name under which `handles` has it:

- **yes**: the kernel does it, and a test holds it to the reference.
- **no**: a spec that asks for it is completed, and this kernel refuses it by name (`XQ_ERROR_UNSUPPORTED`).
- **·**: the feature makes no difference to this kernel.

A plan needs all of its kernels: [kernels.md](kernels.md) says which are the fused plan's and which the unfused one's.
]]

local function cell(feature, family)
  local _, _, families = table.unpack(feature)
  if not features.contains(families, family) then return "·" end
  return features.contains(tuning.family(family).handles, feature[1]) and "yes" or "no"
end

local function row(first, families, value)
  local cells = { first }
  for _, family in ipairs(families) do cells[#cells + 1] = value(family) end
  return "| " .. table.concat(cells, " | ") .. " |"
end

function features_page.text()
  local families = tuning.families()
  local lines = { head,
    row("feature", families, function(family) return family end),
    row("---", families, function() return "---" end) }
  for _, feature in ipairs(features.list) do
    lines[#lines + 1] = row(("`%s`: %s"):format(feature[1], feature[2]), families,
      function(family) return cell(feature, family) end)
  end
  return table.concat(lines, "\n") .. "\n"
end

return features_page
