-- append: writes new tokens into the cache, in the streams with per-token groups (append.cu.lt).

-- The most channels of a block: whole groups, and at least 128.
local function columns(spec)
  return math.max(128, operand.widest_group(spec.layout.streams))
end

return {
  name = "append",
  handles = {"bits-2", "bits-3", "zero-point", "clip", "axis-channel", "latent-groups", "padded-rank", "x-rotation", "feedback",
    "cross-layer", "latent-cl", "accumulator-quantized", "bf16", "weights-bf16"},
  entry = "xq_append",
  summary = "project (latents, rotated x), quantize and pack new tokens into pages",
  parameters = {
    {name = "warps", values = {4, 8}, default = 8, doc = "warps in a block"},
    {name = "stages", values = {2, 3, 4, 6}, default = 4, doc = "64-channel pieces of x in flight or in use"},
  },
  constraints = {},
  supports = function(spec)
    for _, stream in ipairs(spec.layout.streams) do
      if stream.axis == "token" then return nil end
    end
    return "no stream has per-token groups"
  end,
  resources = function(spec, p)
    local blocks = 0
    for _, stream in ipairs(spec.layout.streams) do
      if stream.axis == "token" then blocks = blocks + operand.blocks(stream, columns(spec)).count end
    end
    local shared = 0
    if operand.projects(spec.cache) then
      shared = p.stages * 16 * (64 + 8) * 2 + 16 * (columns(spec) + 8) * 2
    end
    return {
      threads = p.warps * 32,
      shared_bytes = shared,
      columns = columns(spec),
      group = operand.widest_group(spec.layout.streams),
      column_blocks = blocks,
    }
  end,
}
