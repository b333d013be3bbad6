-- attend: fused decode over the quantized cache (attend.cu.lt).

local LOG2_E = 1.4426950408889634

-- The shared-memory map of attend.cu.lt, in bytes; the kernel asserts the same sum.
local function shared_bytes(spec, p)
  local model = spec.model
  local head_dim = model.head_dim
  local query_rows = (model.num_attention_heads // model.num_key_value_heads + 7) // 8 * 8
  local ring = p.stages * 64 * head_dim * 2
  local later = query_rows * (p.split_tokens + 8) * 2 + p.warps * head_dim * 8 * 4
  local scores = query_rows * (p.split_tokens + 4) * 4
  local row_turns = 16 * (head_dim // 2 + 8) * 8
  local tile_turns = p.warps * p.m_tiles * (head_dim // 2) * 8
  local query = query_rows * (head_dim + 8) * 2
  local records = p.split_tokens // 16 * 8
  local stats = (2 * query_rows + 4) * 4
  return math.max(ring, later) + scores + row_turns + tile_turns + query + records + stats
end

return {
  name = "attend",
  handles = {},
  entry = "xq_attend",
  summary = "fused dequantize, rematerialize, RoPE and attention; one query per sequence",
  parameters = {
    {name = "warps", values = {4, 8, 16}, default = 8, doc = "warps in a block"},
    {name = "m_tiles", values = {1, 2, 4}, default = 2,
     doc = "16-token tiles that a warp multiplies at once: more reuse of Wk, more registers"},
    {name = "stages", values = {2, 3, 4}, default = 3, doc = "64-channel pieces of Wk under way or in use"},
    {name = "split_tokens", values = {64, 128, 256, 512, 1024}, default = 512,
     doc = "the most tokens of one block; a multiple of a block's tile of 16 * m_tiles * warps"},
  },
  -- Many query heads a KV head need much shared memory for scores: shorter splits, down to one tile.
  defaults = function(spec)
    local rows = (spec.model.num_attention_heads // spec.model.num_key_value_heads + 7) // 8 * 8
    local p = {warps = 8, m_tiles = 2, stages = 3, split_tokens = 512} -- a tile of 256 tokens
    if rows > 8 then
      p.warps, p.m_tiles = 4, 1
    end
    while p.split_tokens > 64 and shared_bytes(spec, p) > 96 * 1024 do
      p.split_tokens = p.split_tokens // 2
    end
    return p
  end,
  constraints = {
    {text = "split_tokens must be a multiple of 16 * m_tiles * warps",
     check = function(_, p) return p.split_tokens % (16 * p.m_tiles * p.warps) == 0 end},
    {text = "m_tiles * head_dim must be at most 256, or accumulators do not fit into registers",
     check = function(spec, p) return p.m_tiles * spec.model.head_dim <= 256 end},
    {text = "16 warps leave registers for m_tiles * head_dim of at most 64",
     check = function(spec, p) return p.warps < 16 or p.m_tiles * spec.model.head_dim <= 64 end},
  },
  resources = function(spec, p)
    return {
      threads = p.warps * 32,
      shared_bytes = shared_bytes(spec, p),
      -- What splits are multiples of: half a block's tile, when it is large, keeps enough blocks for the GPU where
      -- sequences are short and few. The other half's warps then only help with values.
      tile_tokens = math.min(p.warps * p.m_tiles * 16, 128),
      split_tokens = p.split_tokens,
      query_rows = (spec.model.num_attention_heads // spec.model.num_key_value_heads + 7) // 8 * 8,
      score_scale = LOG2_E / math.sqrt(spec.model.head_dim), -- softmax in powers of two
    }
  end,
}
