-- append_channel: writes new tokens into the cache, in the streams with per-channel groups (append_channel.cu.lt).

return {
  name = "append_channel",
  handles = {"bits-2", "bits-3", "zero-point", "clip", "axis-channel", "latent-groups", "padded-rank", "x-rotation",
    "cross-layer", "latent-cl", "accumulator-quantized", "bf16", "weights-bf16"},
  entry = "xq_append_channel",
  summary = "project (latents, rotated x), quantize the groups of tokens that are full, and keep the rest in the tail",
  parameters = {
    {name = "warps", values = {4, 8}, default = 8, doc = "warps in a block"},
    {name = "pass_tiles", values = {1, 2}, default = 2, doc = "tiles of 16 tokens that a warp projects at once"},
  },
  constraints = {},
  supports = function(spec)
    for _, stream in ipairs(spec.layout.streams) do
      if stream.axis == "channel" then return nil end
    end
    return "no stream has per-channel groups"
  end,
  resources = function(spec, p)
    local blocks = 0
    for _, stream in ipairs(spec.layout.streams) do
      if stream.axis == "channel" then blocks = blocks + stream.width // 64 end
    end
    local values, found = spec.cache.group * (64 + 8) * 2, p.warps * 64 * 4
    local partials = operand.projects(spec.cache) and p.warps * 16 * (64 + 8) * 4 or 0
    return {
      threads = p.warps * 32,
      shared_bytes = values + found + partials,
      group_tokens = spec.cache.group,
      column_blocks = blocks,
      steps = spec.cache.method == "latent-cl" and 2 or 1, -- launches; xq_append_params.step is the number of each
    }
  end,
}
