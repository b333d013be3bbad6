-- dequantize: turns pages of codes into rows of 16-bit values (dequantize.cu.lt).

-- Each warp has one unit. Warps in the last block of a tile may have none.
local function work_of(spec, p)
  local source = spec.accumulator or spec.layout
  local units, read = 0, 0
  for _, stream in ipairs(source.streams) do
    units = units + stream.width // 64
    read = read + stream.width // 64 * work.unit_bytes(stream)
  end
  local columns = (units + p.warps - 1) // p.warps
  local written = units * 64 * 2 -- bytes per token
  return {
    columns = columns,
    block_tokens = 16,
    token_bytes = source.bytes_per_token + written,
    bytes_in_flight = read / columns,
    registers = 40,
    block = work.amount(0, 60 * p.warps, 16 * written / columns),
    tile = work.amount(0, units / columns * (work.unit_instructions(source.streams[1]) + 40), read / columns, 16 * written / columns),
  }
end

return {
  name = "dequantize",
  handles = {"bits-2", "bits-3", "zero-point", "axis-channel", "latent-groups", "padded-rank", "cross-layer",
    "accumulator-quantized", "bf16"},
  entry = "xq_dequantize",
  summary = "dequantizes cache pages to f16 rows, step 1 of the unfused pipeline",
  parameters = {
    {name = "warps", values = {1, 2, 4, 8, 16}, default = 4,
     doc = "warps in a block, each with 64 channels of the same 16 tokens"},
  },
  constraints = {},
  resources = function(spec, p)
    local units = 0
    for _, stream in ipairs((spec.accumulator or spec.layout).streams) do
      units = units + stream.width // 64
    end
    return {
      threads = p.warps * 32,
      shared_bytes = 0,
      column_blocks = (units + p.warps - 1) // p.warps,
    }
  end,
  work = work_of,
}
