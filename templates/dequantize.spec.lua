-- dequantize: pages of codes to rows of f16 (dequantize.cu.lt).
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
}
