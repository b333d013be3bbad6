-- gemm: computes y = x W with packed W, for the unfused pipeline (gemm.cu.lt).
local variant = ... -- "kv": W is Wk or Wv of a KV cache, in gemm_kv; nil: a matrix of the unfused pipeline

-- The type of W.
local function weights_of(spec)
  return variant and spec.kv_weights_layout.matrices[1].type or spec.weights
end

-- The size of gemm.cu.lt's shared memory, in bytes. The kernel asserts the same size.
local function shared_bytes(spec, p)
  local ring = p.stages * 64 * (2 * p.rows + work.weight_bytes(weights_of(spec)) * p.cols)
  return math.max(ring, p.rows * p.cols * 2)
end

-- The launch that computes K, or V. It has one product for each latent. `depth` is the latent's width, and `width` that
-- of the heads which are computed from this latent.
local function product(stream, kv_width, p)
  local width = kv_width // stream.latents
  return { depth = stream.latent_width, width = width, columns = stream.latents * ((width + p.cols - 1) // p.cols),
    latents = stream.latents }
end

-- Where K and V have different latents, the numbers are means: over both launches, or over the blocks of both.
local function work_of(spec, p)
  local weights, streams = weights_of(spec), (spec.accumulator or spec.layout).streams
  local kv_width, weight_bytes = spec.model.num_key_value_heads * spec.model.head_dim, work.weight_bytes(weights)
  local k, v = product(streams[1], kv_width, p), product(streams[#streams], kv_width, p)
  local depth = (k.columns * k.depth + v.columns * v.depth) / (k.columns + v.columns)
  local warps, steps = p.rows // p.warp_rows * (p.cols // p.warp_cols), depth / 16
  return {
    columns = (k.columns + v.columns) / 2,
    block_tokens = p.rows,
    joined = 1,
    launches = 2,
    token_bytes = k.latents * k.depth + v.latents * v.depth + 2 * kv_width,
    fixed_bytes = (k.depth + v.depth) * kv_width * weight_bytes / 2,
    bytes_in_flight = (p.stages - 1) * 64 * 2 * p.rows,
    registers = 60 + p.warp_rows * p.warp_cols // 32 + p.warp_rows // 4 + p.warp_cols // 4,
    block = work.amount(p.rows // 16 * (p.cols // 8) * steps,
      warps * (300 + steps * (p.warp_rows // 16 + p.warp_cols // 16 * work.weight_instructions(weights) + 10)) +
        steps * work.copy_instructions(16 * (2 * p.rows + weight_bytes * p.cols)),
      depth * weight_bytes * p.cols + 2 * p.rows * p.cols,
      warps * depth * (2 * p.warp_rows + weight_bytes * p.warp_cols)),
    tile = work.amount(0, 0, 2 * 16 * depth),
  }
end

return {
  name = "gemm",
  handles = {"bf16", "weights-bf16", "weights-int8", "weights-e4m3", "bias"},
  entry = "xq_gemm",
  summary = "GEMM with packed weights, rows scattered over fp16 KV pages",
  parameters = {
    {name = "rows", values = {32, 64, 128, 256}, default = 128, doc = "rows of y in a block's tile"},
    {name = "cols", values = {64, 128, 256}, default = 128, doc = "columns of y in a block's tile",
     depends_on = "whether KV heads times head_dim is a multiple of 128"},
    {name = "warp_rows", values = {16, 32, 64}, default = 64, doc = "rows of one warp's part",
     depends_on = "whether KV heads times head_dim is a multiple of 128"},
    {name = "warp_cols", values = {16, 32, 64}, default = 32, doc = "columns of one warp's part"},
    {name = "stages", values = {2, 3, 4, 5}, default = 3,
     doc = "pieces of 64 along the reduction, in flight or in use",
     depends_on = "whether KV heads times head_dim is a multiple of 128"},
  },
  -- A width that is an odd multiple of 64 (one or three KV heads of 64) would leave half a tile of 128 idle.
  defaults = function(spec)
    local width = spec.model.num_key_value_heads * spec.model.head_dim
    local p = {rows = 128, cols = 128, warp_rows = 64, warp_cols = 32, stages = 3}
    if width % 128 ~= 0 then
      p.cols, p.warp_rows, p.stages = 64, 32, 4
    end
    return p
  end,
  constraints = {
    {text = "warp_rows must divide rows", check = function(_, p) return p.rows % p.warp_rows == 0 end},
    {text = "a block has at most 16 warps: rows * cols / (warp_rows * warp_cols)",
     check = function(_, p) return p.rows // p.warp_rows * (p.cols // p.warp_cols) <= 16 end},
    {text = "warp_rows * warp_cols must be at most 4096 (2048 with more than 8 warps), or accumulators do not fit",
     check = function(_, p)
       local warps = p.rows // p.warp_rows * (p.cols // p.warp_cols)
       return p.warp_rows * p.warp_cols <= (warps > 8 and 2048 or 4096)
     end},
  },
  resources = function(spec, p)
    return {
      threads = p.rows // p.warp_rows * (p.cols // p.warp_cols) * 32,
      shared_bytes = shared_bytes(spec, p),
      rows = p.rows,
      cols = p.cols,
      weights = weights_of(spec),
    }
  end,
  work = work_of,
}
