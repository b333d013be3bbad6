-- attend: fused attention over the quantized cache (attend.cu.lt).

local LOG2_E = 1.4426950408889634
local KIB = 1024

-- The stream that keys are made of, and the one that values are made of; the same one if the method shares it.
local function stream_k(spec) return (spec.accumulator or spec.layout).streams[1] end
local function stream_v(spec)
  local streams = (spec.accumulator or spec.layout).streams
  return streams[#streams]
end

-- Rows of a block that has all heads of one query for one KV head.
local function one_query_rows(spec) return (work.group_heads(spec.model) + 7) // 8 * 8 end

-- Dimensions of the output whose partial sums are in shared memory at once.
local function partial_dims(spec)
  local head_dim = spec.model.head_dim
  return head_dim <= 128 and head_dim or head_dim // 2
end

-- Whether scores are made straight from sums of codes (attend_folded.cuh), which is for one query.
local function folded(spec)
  return spec.queries == "one" and spec.keys.product == "int8" and scores_of_codes(spec)
end

-- Whether probabilities are integers that codes of values are multiplied by (attend_planes.cuh): for one query, where a
-- value latent is one quantization group of a token, in a stream of its own.
local function integer_values(spec)
  local stream = stream_v(spec)
  return spec.queries == "one" and stream ~= stream_k(spec) and stream.bits <= 8 and stream.axis == "token" and
    stream.group >= stream.latent_width
end

-- The number of stages that a head's whole Wk takes if it stays in shared memory (attend_map.cuh), else nil.
local function resident(spec, p)
  local chunks = stream_k(spec).latent_width // 64
  local pieces = chunks * (4 // p.stage_steps)
  return pieces <= p.stages and chunks <= 2 and pieces or nil
end

-- The shared-memory map of a block (attend_map.cuh): where each region begins, in bytes and in this order, and where
-- the last one ends. The kernel asserts each of these.
local function shared_map(spec, p)
  local keys, rows, many = spec.keys, p.query_rows, spec.queries == "many"
  local map, at = {}, 0
  local function region(name, bytes)
    map[#map + 1] = { name = name, at = at }
    at = at + bytes
  end
  local stage = p.stage_steps * keys.columns * 16 * work.weight_bytes(spec.weights)
  if keys.absorbed_columns > 0 then stage = stage + rows // 8 * p.stage_steps * 256 end
  region("RING", 0) -- the next two regions take its place later
  if integer_values(spec) then
    region("PROBABILITIES", rows // 8 * p.split_tokens // 32 * (work.group_heads(spec.model) <= 4 and 576 or 1088))
  else
    region("PROBABILITIES", rows * (p.split_tokens + 8) * 2)
  end
  local value_chunks = stream_v(spec).latent_width // 64
  if not many and value_chunks < p.warps then -- warps share channels
    region("PARTIAL_SUMS", p.warps * 8 * 72 * 4 + value_chunks * 4 * 256 + p.warps * 8 * 4 + 8 * 4 + spec.model.head_dim * 8 * 4)
  else
    region("PARTIAL_SUMS", p.warps * partial_dims(spec) * 8 * 4)
  end
  at = math.max((resident(spec, p) or p.stages) * stage, at)
  local score_rows = folded(spec) and math.min(rows, (work.group_heads(spec.model) + 1) // 2 * 2) or rows
  region("SCORES", p.key_warps * score_rows * (p.split_tokens + 4) * 4)
  if folded(spec) then
    local tile_pairs = ceil_div(keys.pair_columns, 16)
    region("ROW_TURNS", keys.pair_columns * 128)
    region("TILE_TURNS", p.warps * p.m_tiles * keys.pair_columns * 4)
    region("QUERY", rows // 8 * tile_pairs * 512)
    region("RUNNING", 0)
    region("CONSTANTS", (spec.model.attention_bias and 2 or 1) * keys.columns // 16 * 512)
    region("BLOCK_TURNS", keys.pair_columns * 8 + 16)
    region("COLUMNS", spec.model.qk_norm and keys.columns * 12 or 0)
  else
    region("ROW_TURNS", keys.pairs > 0 and 16 * (keys.pair_columns + (keys.pair_columns % 16 == 0 and 8 or 0)) * 8 or 0)
    region("TILE_TURNS", p.warps * (many and 1 or p.m_tiles) * keys.pair_columns * 8)
    region("QUERY", keys.columns > 0 and rows * (keys.columns + 8) * 2 or 0)
    region("RUNNING", many and rows * (spec.model.head_dim + 4) * 4 or 0)
    region("CONSTANTS", 0)
    region("BLOCK_TURNS", 0)
    region("COLUMNS", 0)
  end
  region("RECORDS", p.split_tokens // 16 * 8)
  region("STATS", ((integer_values(spec) and 4 or many and 3 or 2) * rows + 4) * 4)
  return map, at
end

local function shared_bytes(spec, p)
  local _, bytes = shared_map(spec, p)
  return bytes
end

-- The columns of a warp's accumulators for a tile of 16 tokens: those of K, and those of the scores that absorbed
-- dimensions give directly.
local function columns(spec, p)
  local keys, stream = spec.keys, stream_k(spec)
  local twice = keys.product == "int8" and stream.group < stream.latent_width -- sums of a group, and K over all groups
  return keys.columns * (twice and 2 or 1) + (keys.absorbed_columns > 0 and p.query_rows or 0)
end

-- Bytes of the cache that a block has under way while it makes scores: codes go to registers one chunk of 64 channels
-- ahead, or all chunks of a latent ahead where the weights stay in shared memory.
local function bytes_in_flight(spec, p)
  local stream = stream_k(spec)
  local chunks = resident(spec, p) and stream.latent_width // 64 or 1
  return p.warps * p.m_tiles * chunks * work.unit_bytes(stream)
end

-- A block's tile: the tokens whose keys it makes at once.
local function block_tile(p) return 16 * p.m_tiles * p.warps // p.key_warps end

-- Halves the tokens of a split. Returns false if they would be fewer than 64 or than a block's tile.
local function shorten(p)
  if p.split_tokens // 2 < math.max(64, block_tile(p)) then return false end
  p.split_tokens = p.split_tokens // 2
  return true
end

-- One query: each of its heads has a row. Many rows need much shared memory for scores. Splits are then shortened, down
-- to a block's tile; if that is not enough, several blocks serve one KV head.
local function defaults_one(spec)
  local p = { warps = 8, m_tiles = 2, key_warps = 1, stages = 3, stage_steps = 4, split_tokens = 512, value_tiles = 1,
    query_rows = math.min(one_query_rows(spec), 128) } -- a block's tile has 256 tokens
  if p.query_rows > 8 then p.warps, p.m_tiles = 4, 1 end
  if columns(spec, p) > 128 then p.m_tiles = 1 end
  if folded(spec) and p.query_rows == 8 then
    p.split_tokens = 1024 -- making the tables of a block costs as much as 30 tokens
    if spec.keys.columns <= 64 then p.m_tiles = 4 end
  end
  if spec.keys.columns > 160 then p.stage_steps = 2 end
  while shared_bytes(spec, p) > 96 * KIB and shorten(p) do end
  while shared_bytes(spec, p) > 96 * KIB and p.query_rows > 8 do
    p.query_rows = (p.query_rows // 2 + 7) // 8 * 8
  end
  return p
end

-- Many queries: as many rows as shared memory holds beside a block's tile, up to 64.
local function defaults_many(spec)
  local most = arch.find(spec.arch).shared_bytes
  local crowded = spec.keys.absorbed_columns > 0 and spec.keys.columns >= 64 -- absorbed queries are in registers too
  for _, rows in ipairs(crowded and { 32, 16, 8 } or { 64, 32, 16, 8 }) do
    local p = { warps = 8, m_tiles = 2, key_warps = 1, stages = 3, stage_steps = 4, split_tokens = 256, value_tiles = 1,
      query_rows = rows }
    -- The most columns for which a warp with two tiles has registers. Absorbed queries take registers, too, and code
    -- for sm_100 needs more.
    local room = spec.keys.absorbed_columns > 0 and 80 or arch.follows(spec.arch, "sm_100") and 112 or 128
    if columns(spec, p) > room then p.m_tiles, p.split_tokens = 1, 128 end
    if spec.keys.columns > 160 then p.stage_steps = 2 end
    p.value_tiles = math.min(spec.model.head_dim <= 80 and 4 or spec.model.head_dim <= 128 and 2 or 1, rows // 8)
    if columns(spec, p) <= 256 then
      if shared_bytes(spec, p) > most and p.m_tiles == 2 then p.m_tiles, p.split_tokens = 1, 128 end
      if shared_bytes(spec, p) > most then p.stages = 2 end
      if shared_bytes(spec, p) <= most or rows == 8 then return p end
    end
  end
end

-- The work of making K of a tile of 16 tokens and its scores: matrix instructions and other instructions. With codes as
-- operands, a matrix instruction takes twice as many channels; `unit` is lower by the instructions that this saves.
local function tile_work(spec, p, stream, chunks, absorbed_tiles, shared_bytes)
  local columns, query_tiles = spec.keys.columns, p.query_rows // 8
  local weight = work.weight_instructions(spec.weights)
  local matrix = chunks * 4 * (columns // 8 + absorbed_tiles) + columns // 16 * query_tiles
  local unit, after = work.unit_instructions(stream), 5 * (columns + p.query_rows)
  if spec.keys.product == "int8" then
    unit, weight, after = 45 * p.key_warps - 2 * (columns // 8), 1, 11 * columns
    if folded(spec) then after = (spec.model.qk_norm and 3 or 2) * columns + 80 * p.key_warps end
  end
  return work.amount(matrix, chunks * (unit + columns // 4 * weight / p.m_tiles) + after, chunks * work.unit_bytes(stream),
    shared_bytes)
end

-- The start of a block: the queries and the tables of turns. Where scores come straight from codes the tables are read, the
-- rotations of rows twice, and each warp reads steps of its turns and the columns' scales.
local function block_work(spec, p)
  local keys = spec.keys
  if not folded(spec) then return work.amount(0, 2700 + 290 * p.query_rows) end
  return work.amount(0, 1800 + 290 * p.query_rows,
    2 * 128 * keys.pair_columns + p.warps * 3 * 8 * keys.pair_columns + (p.warps + 4) * 4 * keys.columns)
end

-- The work of one KV head, as docs/templates.md defines it. Names follow attend_scores.cuh and attend_values.cuh.
local function work_of(spec, p)
  local model, keys, weights = spec.model, spec.keys, spec.weights
  local keys_from, values_from = stream_k(spec), stream_v(spec)
  local chunks, value_chunks = keys_from.latent_width // 64, values_from.latent_width // 64
  local head_dim, columns, query_tiles = model.head_dim, keys.columns, p.query_rows // 8
  local weight_bytes, weight = work.weight_bytes(weights), work.weight_instructions(weights)
  local absorbed_tiles = keys.absorbed_columns > 0 and query_tiles or 0
  local ring_bytes = chunks * (64 * columns * weight_bytes + absorbed_tiles * 1024)
  -- If there are more warps than chunks, warps share tokens. With one query the sum over these warps is projected once;
  -- with many queries each warp projects its own sums.
  local joint = value_chunks < p.warps and spec.queries == "one"
  local items = value_chunks * (value_chunks < p.warps and not joint and p.warps // value_chunks or 1)
  local projections = items * head_dim // 16 * 4
  local planes = integer_values(spec) and (work.group_heads(model) <= 4 and 1 or 2) -- an instruction takes 32 tokens
  local zeros = planes and spec.cache.zero_point == "integer" and 1 or 0 -- zero points are one more row of codes
  return {
    columns = model.num_key_value_heads,
    rows = p.query_rows,
    query_rows = work.group_heads(model),
    window = model.sliding_window,
    token_bytes = (spec.accumulator or spec.layout).bytes_per_token,
    split_bytes = 2 * model.num_key_value_heads * head_dim * (keys_from.rank * keys_from.latents + values_from.rank * values_from.latents),
    fixed_bytes = (chunks * columns + value_chunks * head_dim) * 64 * weight_bytes * model.num_key_value_heads,
    partial_bytes = work.partial_bytes(model),
    bytes_in_flight = bytes_in_flight(spec, p),
    registers = math.max(72 + p.m_tiles * (columns // 2 // p.key_warps + absorbed_tiles * 4 + 12), 64 + p.value_tiles * (head_dim // 4 + 16)) +
      (spec.queries == "many" and 60 or 0),
    step_tokens = block_tile(p),
    pass_rows = 8 * p.value_tiles,
    block = block_work(spec, p),
    step = work.amount(0, 50 * chunks * (4 // p.stage_steps) * p.warps, ring_bytes),
    tile = tile_work(spec, p, keys_from, chunks, absorbed_tiles, ring_bytes / p.m_tiles),
    pass = work.amount(projections * p.value_tiles,
      projections * (14 + weight + 2 * p.value_tiles) +
        (joint and 200 * p.warps or 36 * p.warps * p.value_tiles * head_dim // 16),
      projections * 256 * weight_bytes, p.warps * p.value_tiles * (joint and 64 or head_dim) * 8 * 4),
    tile_pass = work.amount(value_chunks * (4 + zeros) * (planes or 1) * p.value_tiles,
      value_chunks * (planes and 30 + 20 * zeros or work.unit_instructions(values_from) + 2 * p.value_tiles),
      value_chunks * work.unit_bytes(values_from), value_chunks * 256 * (planes or 1) * p.value_tiles),
    split = work.amount(0, p.query_rows * head_dim / 32, p.query_rows * (head_dim * 2 + 4)),
  }
end

return {
  name = "attend",
  handles = { "bits-2", "bits-3", "zero-point", "axis-channel", "latent-groups", "padded-rank", "cross-layer",
    "accumulator-quantized", "bf16", "weights-bf16", "weights-int8", "weights-e4m3", "queries-many", "head-dim", "rope-interleaved", "rope-partial", "rope-none", "rope-factor", "bias", "qk-norm",
    "qk-norm-row", "softcap", "sliding-window", "sinks", "alibi", "alibi-scale", "scale" },
  entry = "xq_attend",
  summary = "fused dequantize, rematerialize, RoPE and attention",
  parameters = {
    {name = "warps", values = {4, 8, 16}, default = 8, doc = "warps in a block",
     depends_on = "queries, and with one query the query heads of a KV head"},
    {name = "m_tiles", values = {1, 2, 4}, default = 2,
     doc = "16-token tiles that a warp multiplies at once: more reuse of Wk, more registers",
     depends_on = "queries, query heads of a KV head, columns of K, and shared memory"},
    {name = "key_warps", values = {1, 2}, default = 1,
     doc = "warps that share the columns of K of a tile: less shared memory read for a tile, codes unpacked by each"},
    {name = "stages", values = {2, 3, 4}, default = 3, doc = "pieces of Wk that the ring in shared memory holds",
     depends_on = "queries and shared memory"},
    {name = "stage_steps", values = {2, 4}, default = 4, doc = "16-channel steps in such a piece",
     depends_on = "the columns of K that are rematerialized"},
    {name = "split_tokens", values = {64, 128, 256, 512, 1024}, default = 512,
     doc = "the most tokens of one block (at once, with many queries); a multiple of its tile of 16 * m_tiles * warps",
     depends_on = "queries, query heads of a KV head, columns of K, and shared memory"},
    {name = "query_rows", values = {8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128}, default = 8,
     doc = "rows of a block; a row is a query and one of its heads",
     depends_on = "queries, query heads of a KV head, columns of K, and shared memory"},
    {name = "value_tiles", values = {1, 2, 4}, default = 1,
     doc = "tiles of 8 rows that read the values together: less dequantizing, more registers",
     depends_on = "queries and head_dim"},
  },
  defaults = function(spec) return spec.queries == "many" and defaults_many(spec) or defaults_one(spec) end,
  constraints = {
    {text = "split_tokens must be a multiple of 16 * m_tiles * warps / key_warps",
     check = function(_, p) return p.split_tokens % block_tile(p) == 0 end},
    {text = "key_warps must be 1 unless scores are made straight from codes (kernels.md), keys are not normalized, and the " ..
       "rotary pairs are a multiple of 32",
     check = function(spec, p)
       return p.key_warps == 1 or folded(spec) and not spec.model.qk_norm and spec.keys.pair_columns % 32 == 0
     end},
    {text = "m_tiles * (columns of K, and with absorbed dimensions query_rows) / key_warps must be at most 256, or accumulators do " ..
       "not fit into registers",
     check = function(spec, p) return p.m_tiles * columns(spec, p) <= 256 * p.key_warps end},
    {text = "with 16 warps, m_tiles * (columns of K, ...) / key_warps must be at most 64, or accumulators do not fit into registers",
     check = function(spec, p) return p.warps < 16 or p.m_tiles * columns(spec, p) <= 64 * p.key_warps end},
    {text = "query_rows must be a multiple of 8 * value_tiles",
     check = function(_, p) return p.query_rows % (8 * p.value_tiles) == 0 end},
    {text = "with one query, query_rows must be at most the query heads of a KV head, rounded up to 8",
     check = function(spec, p) return spec.queries == "many" or p.query_rows <= one_query_rows(spec) end},
    {text = "value_tiles * head_dim must be at most 320, or accumulators do not fit into registers",
     check = function(spec, p) return p.value_tiles * spec.model.head_dim <= 320 end},
  },
  resources = function(spec, p)
    local map, bytes = shared_map(spec, p)
    return {
      threads = p.warps * 32,
      shared_bytes = bytes,
      shared_map = map,
      -- The length of a split is a multiple of this. It is limited to 128, a part of a large tile of a block, so that
      -- the GPU has enough blocks where sequences are short and few. Warps that then have no keys only help with
      -- values.
      tile_tokens = math.min(block_tile(p), 128),
      split_tokens = spec.queries == "many" and 1 << 20 or p.split_tokens,
      query_rows = p.query_rows,
      -- The most bytes of partial results, as a share of the bytes that attention reads anyway. With one query, a
      -- kernel must touch little else than its operands. Many queries are bound by their matrix work, and their
      -- partial results stay in L2, so an idle GPU would cost more than partial results do.
      partial_share = spec.queries == "many" and 0.5 or 0.047,
      bytes_in_flight = bytes_in_flight(spec, p),
      partial_dims = partial_dims(spec),
      folded = folded(spec),
      integer_values = integer_values(spec),
      score_scale = LOG2_E * spec.model.attention_scale, -- softmax in powers of two
    }
  end,
  work = work_of,
}
