-- key_norms: computes the sums of squares of K that attend needs for QK-norm over the row of all heads
-- (key_norms.cu.lt).

local function chunk_bytes(spec)
  local wide = spec.weights == "f16" or spec.weights == "bf16"
  return spec.keys.columns * 64 * (wide and 2 or 1)
end

local function work_of(spec, p)
  local source = spec.accumulator or spec.layout
  local stream, columns = source.streams[1], spec.keys.columns
  local chunks, weight = stream.latent_width // 64, work.weight_instructions(spec.weights)
  local ring_bytes = chunks * chunk_bytes(spec)
  return {
    columns = spec.model.num_key_value_heads,
    block_tokens = 16 * p.m_tiles * p.warps,
    token_bytes = source.bytes_per_token,
    fixed_bytes = ring_bytes * spec.model.num_key_value_heads,
    bytes_in_flight = p.warps * p.m_tiles * work.unit_bytes(stream),
    registers = 64 + p.m_tiles * (columns // 2 + 12),
    step_tokens = 16 * p.m_tiles * p.warps,
    block = work.amount(0, 200 * p.warps),
    step = work.amount(0, 50 * chunks * p.warps, ring_bytes),
    tile = work.amount(chunks * 4 * columns // 8,
      chunks * (work.unit_instructions(stream) + columns // 4 * weight / p.m_tiles) + columns,
      chunks * work.unit_bytes(stream), ring_bytes / p.m_tiles),
  }
end

return {
  name = "key_norms",
  handles = {"bits-2", "bits-3", "zero-point", "axis-channel", "latent-groups", "padded-rank", "cross-layer",
    "accumulator-quantized", "weights-bf16", "weights-int8", "weights-e4m3", "bias", "qk-norm-row"},
  entry = "xq_key_norms",
  summary = "sums of squares of K's rows, for QK-norm over all heads",
  supports = function(spec)
    return spec.model.qk_norm ~= "row" and "only for models whose qk_norm is over the row of all heads" or nil
  end,
  parameters = {
    {name = "warps", values = {4, 8}, default = 8, doc = "warps in a block"},
    {name = "m_tiles", values = {1, 2}, default = 2, doc = "16-token tiles that a warp multiplies at once",
     depends_on = "the columns of K that are rematerialized"},
    {name = "stages", values = {2, 3}, default = 3, doc = "64-channel pieces of Wk in flight or in use",
     depends_on = "the columns of K that are rematerialized"},
  },
  defaults = function(spec)
    local wide = spec.keys.columns > 128
    return {m_tiles = wide and 1 or 2, stages = wide and 2 or 3}
  end,
  constraints = {
    {text = "m_tiles * columns of K must be at most 256, or accumulators do not fit into registers",
     check = function(spec, p) return p.m_tiles * spec.keys.columns <= 256 end},
  },
  resources = function(spec, p)
    return {
      threads = p.warps * 32,
      shared_bytes = p.stages * chunk_bytes(spec),
      tile_tokens = p.warps * p.m_tiles * 16,
    }
  end,
  work = work_of,
}
