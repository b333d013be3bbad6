-- kv_attend: flash-decoding over fp16 KV pages (kv_attend.cu.lt).

local LOG2_E = 1.4426950408889634

local function pass_tiles(spec, p)
  local group_heads = spec.model.num_attention_heads // spec.model.num_key_value_heads
  return math.min(p.query_tiles, (group_heads + 7) // 8)
end

-- The shared-memory map of kv_attend.cu.lt, in bytes; the kernel asserts the same sum.
local function shared_bytes(spec, p)
  local head_dim = spec.model.head_dim
  local ring = p.warps * p.stages * 2 * p.slice * head_dim * 2
  local rotations = head_dim // 2 * 8
  local stats = p.warps * pass_tiles(spec, p) * 8 * 8
  return ring + rotations + stats + 16
end

return {
  name = "kv_attend",
  handles = {},
  entry = "xq_kv_attend",
  summary = "flash-decoding over an fp16 paged KV cache; one query per sequence",
  parameters = {
    {name = "warps", values = {1, 2, 4, 8}, default = 4, doc = "warps in a block, each with its own slices"},
    {name = "slice", values = {16, 32}, default = 16, doc = "tokens a warp takes at once"},
    {name = "stages", values = {2, 3, 4, 5, 6}, default = 3, doc = "slices of a warp under way or in use"},
    {name = "query_tiles", values = {1, 2}, default = 2,
     doc = "tiles of 8 query heads in one pass over the tokens; more heads take several passes"},
  },
  -- Half the bytes a row: as many more stages, so that the bytes under way stay the same.
  defaults = function(spec)
    return {warps = 4, slice = 16, stages = spec.model.head_dim == 64 and 6 or 3, query_tiles = 2}
  end,
  constraints = {
    {text = "slice * query_tiles must be at most 32, or accumulators do not fit into registers",
     check = function(_, p) return p.slice * p.query_tiles <= 32 end},
  },
  resources = function(spec, p)
    return {
      threads = p.warps * 32,
      shared_bytes = shared_bytes(spec, p),
      tile_tokens = p.warps * p.slice,
      split_tokens = 1 << 20,
      pass_tiles = pass_tiles(spec, p),
      query_rows = (spec.model.num_attention_heads // spec.model.num_key_value_heads + 7) // 8 * 8,
      score_scale = LOG2_E / math.sqrt(spec.model.head_dim),
    }
  end,
}
