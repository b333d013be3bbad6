-- kv_attend: attention over KV pages (kv_attend.cu.lt).

local variant = ... -- "e4m3": the cache's elements, in kv_attend_e4m3; nil: 16 bits
local ELEMENT_BYTES = variant and 1 or 2
local LOG2_E = 1.4426950408889634

-- The number of warps that share slices of tokens, while each has rows of its own. Other warps share these rows and
-- have slices of their own.
local function row_warps(spec, p)
  return spec.queries == "many" and p.warps or 1
end

local function pass_tiles(spec, p)
  if spec.queries == "many" then return p.query_tiles end
  local group_heads = spec.model.num_attention_heads // spec.model.num_key_value_heads
  return math.min(p.query_tiles, (group_heads + 7) // 8)
end

local function query_rows(spec, p)
  if spec.queries == "many" then return p.warps * p.query_tiles * 8 end
  return (spec.model.num_attention_heads // spec.model.num_key_value_heads + 7) // 8 * 8
end

-- The shared-memory map of kv_attend.cu.lt: where each region begins, in bytes and in this order, and where the last
-- one ends. The kernel asserts each of these.
local function shared_map(spec, p)
  local head_dim, rope = spec.model.head_dim, spec.model.rope
  local map, at = {}, 0
  local function region(name, bytes)
    map[#map + 1] = { name = name, at = at }
    at = at + bytes
  end
  local chunks = head_dim * ELEMENT_BYTES // 16
  local row = ((chunks % 8 == 0 or chunks == 4) and chunks or chunks | 1) * 16
  local rows = p.warps * pass_tiles(spec, p) * 8
  local rotates = rope.type ~= "none" and spec.queries == "one"
  region("RING", 0) -- the outputs take its place later
  region("OUTPUTS", rows * (head_dim + 4) * 4)
  at = math.max(p.warps // row_warps(spec, p) * p.stages * 2 * p.slice * row, at)
  region("ROTATIONS", rotates and (rope.rotary_dim // 2 + 1) // 2 * 16 or 0)
  region("STATS", rows * 8)
  region("FLAG", 8)
  region("BAD_TOKENS", 8)
  return map, at
end

-- Bytes of the cache that a block has under way: those of all stages of its rings but the one in use.
local function bytes_in_flight(spec, p)
  return (p.stages - 1) * p.slice * 2 * ELEMENT_BYTES * spec.model.head_dim * p.warps // row_warps(spec, p)
end

-- Instructions that widen an operand of 16 by 16 e4m3 elements, two words a lane (lib/e4m3.cuh).
local function widening(spec)
  local converts = spec.dtype == "f16" and tonumber(spec.arch:match("%d+")) >= 89
  return converts and 5 or 25
end

-- The work of one KV head, as docs/templates.md defines it. With one query each warp has slices of its own. With many
-- queries the warps share slices, and each has its own rows.
local function work_of(spec, p)
  local model, rows = spec.model, query_rows(spec, p)
  local head_dim, tiles, shared_by = model.head_dim, pass_tiles(spec, p), row_warps(spec, p)
  local row_bytes = 2 * ELEMENT_BYTES * head_dim -- K and V of a token
  local steps = head_dim // 16
  -- Instructions that make operands of K and V. Each operand takes one load a step; one of e4m3 takes half a load, and
  -- is then widened.
  local loads = variant and steps + 2 * steps * widening(spec) or 2 * steps
  local copies = work.copy_instructions(16 * row_bytes)
  local own = shared_by == 1 -- a warp copies for itself, and again in each pass
  return {
    columns = model.num_key_value_heads,
    rows = rows,
    query_rows = work.group_heads(model),
    window = model.sliding_window,
    token_bytes = row_bytes * model.num_key_value_heads,
    partial_bytes = work.partial_bytes(model),
    bytes_in_flight = bytes_in_flight(spec, p),
    registers = 72 + tiles * (head_dim // 4 + p.slice // 4 + head_dim // 8),
    step_tokens = p.warps // shared_by * p.slice,
    pass_rows = tiles * 8,
    block = work.amount(0, 600 * p.warps + rows * head_dim // 4 * p.warps // shared_by),
    step = work.amount(0, 60 * p.warps),
    tile = not own and work.amount(0, copies, 16 * row_bytes) or nil,
    tile_pass = work.amount(2 * steps * tiles, loads + 60 * tiles + (own and copies or 0), own and 16 * row_bytes or 0,
      16 * row_bytes),
    split = work.amount(0, rows * head_dim / 32, rows * (head_dim * 2 + 4)),
  }
end

return {
  name = "kv_attend",
  handles = {"bf16", "queries-many", "head-dim", "rope-interleaved", "rope-partial", "rope-none", "rope-factor",
    "softcap", "sliding-window", "sinks", "alibi", "alibi-scale", "scale"},
  entry = "xq_kv_attend",
  summary = "attention over an fp16 paged KV cache, split over tokens",
  parameters = {
    {name = "warps", values = {1, 2, 4, 8}, default = 4,
     doc = "warps in a block: each with its own slices, or, with several queries of a sequence, with its own rows",
     depends_on = "queries and head_dim"},
    {name = "slice", values = {16, 32, 64}, default = 16, doc = "tokens of a slice, which a warp takes at once",
     depends_on = "one or many queries"},
    {name = "stages", values = {2, 3, 4, 5, 6}, default = 3, doc = "slices in flight or in use",
     depends_on = "queries and head_dim"},
    {name = "query_tiles", values = {1, 2}, default = 2,
     doc = "tiles of 8 rows of a warp in one pass over the tokens; if a query has more heads, there are several passes",
     depends_on = "queries and head_dim"},
  },
  -- Rows of fewer bytes have more stages, so that about as many bytes are under way.
  defaults = function(spec)
    local head_dim = spec.model.head_dim
    local row = head_dim * ELEMENT_BYTES
    if spec.queries == "many" then
      local narrow = head_dim <= 128
      return {warps = 4, slice = 32, stages = row <= 256 and 3 or 2, query_tiles = narrow and 2 or 1}
    end
    local p = {warps = 4, slice = 16, stages = row <= 128 and 6 or row <= 160 and 4 or 3, query_tiles = 2}
    if head_dim > 128 then
      p.warps, p.query_tiles = 2, 1
    end
    return p
  end,
  constraints = {
    {text = "slice * query_tiles must be at most 32 (64 with queries many), or accumulators do not fit into registers",
     check = function(spec, p) return p.slice * p.query_tiles <= (spec.queries == "many" and 64 or 32) end},
    {text = "query_tiles must be 1 where head_dim is more than 128, or accumulators do not fit into registers",
     check = function(spec, p) return p.query_tiles == 1 or spec.model.head_dim <= 128 end},
    {text = "with several queries of a sequence, every warp must copy at least 4 tokens of a slice: slice / warps",
     check = function(spec, p) return spec.queries == "one" or p.slice >= 4 * p.warps end},
  },
  resources = function(spec, p)
    local map, bytes = shared_map(spec, p)
    return {
      threads = p.warps * 32,
      shared_bytes = bytes,
      shared_map = map,
      tile_tokens = p.warps // row_warps(spec, p) * p.slice,
      split_tokens = 1 << 20,
      -- The most bytes of partial results, as a share of the bytes that attention reads anyway. They are the price of
      -- a fuller GPU.
      partial_share = 0.10,
      row_warps = row_warps(spec, p),
      pass_tiles = pass_tiles(spec, p),
      query_rows = query_rows(spec, p),
      bytes_in_flight = bytes_in_flight(spec, p),
      score_scale = LOG2_E * spec.model.attention_scale,
      element_bytes = ELEMENT_BYTES,
    }
  end,
  work = work_of,
}
