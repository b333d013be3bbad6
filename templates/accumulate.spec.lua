-- accumulate: adds a layer's deltas to the accumulator of cross-layer methods (accumulate.cu.lt).

-- Channels of X that a block computes at once in latent-cl: whole groups of the accumulator.
local function block_columns(spec)
  if spec.accumulator.streams[1].bits == 16 or 128 % spec.cache.group == 0 then return 128 end
  return spec.cache.group
end

local function projects(spec) return spec.cache.method == "latent-cl" end

-- Channels that a warp sums at once in x-cl: whole groups again. All warps of a block share a group of more than 256
-- channels.
local function piece_columns(spec)
  if spec.accumulator.streams[1].bits == 16 then return 64 end
  return math.max(64, spec.cache.group)
end

-- The work in latent-cl: tiles of 16 tokens by block_columns of X. Ukv passes through a ring in shared memory.
local function work_of_product(spec, p, sum_bytes)
  local delta, columns = spec.layout.streams[1], block_columns(spec)
  local chunks = delta.latent_width // 64
  local ring_bytes = chunks * 64 * columns * 2
  return {
    columns = (spec.model.hidden_size + columns - 1) // columns,
    block_tokens = 16 * p.m_tiles * p.warps,
    bytes_in_flight = p.warps * p.m_tiles * work.unit_bytes(delta),
    registers = 64 + p.m_tiles * (columns // 2 + 12),
    step_tokens = 16 * p.m_tiles * p.warps,
    block = work.amount(0, 200 * p.warps),
    step = work.amount(0, 50 * chunks * p.warps, ring_bytes),
    tile = work.amount(chunks * 4 * columns // 8,
      chunks * (work.unit_instructions(delta) + columns // 4 / p.m_tiles) + 2 * columns,
      chunks * work.unit_bytes(delta) + 16 * columns * sum_bytes, ring_bytes / p.m_tiles),
  }
end

-- The work in x-cl: a warp adds piece_columns of D to X.
local function work_of_sum(spec, p, sum_bytes)
  local delta, columns = spec.layout.streams[1], piece_columns(spec)
  local pieces = (spec.model.hidden_size + columns - 1) // columns
  local blocks = columns > 256 and pieces or (pieces + p.warps - 1) // p.warps
  local units = pieces * columns // 64 / blocks -- units of one block
  return {
    columns = blocks,
    block_tokens = 16,
    bytes_in_flight = units * (work.unit_bytes(delta) + 16 * 64 * sum_bytes / 2),
    registers = 64,
    block = work.amount(0, 60 * p.warps),
    tile = work.amount(0, units * (work.unit_instructions(delta) + 80),
      units * (work.unit_bytes(delta) + 16 * 64 * sum_bytes)),
  }
end

local function work_of(spec, p)
  -- Bytes of one value of X: it is written, and in all layers but the base also read.
  local sum_bytes = spec.accumulator.streams[1].bits / 8 * (spec.cache.base and 1 or 2)
  local stated = (projects(spec) and work_of_product or work_of_sum)(spec, p, sum_bytes)
  stated.token_bytes = spec.layout.bytes_per_token + spec.model.hidden_size * sum_bytes
  return stated
end

return {
  name = "accumulate",
  handles = {"bits-2", "bits-3", "zero-point", "axis-channel", "cross-layer", "latent-cl", "accumulator-quantized",
    "weights-bf16"},
  entry = "xq_accumulate",
  summary = "adds a layer's deltas to the accumulator of a cross-layer cache",
  supports = function(spec)
    if not spec.accumulator then
      return ("method '%s' has no accumulator; it is for x-cl and latent-cl"):format(spec.cache.method)
    end
    if projects(spec) and spec.accumulator.streams[1].bits < 16 and spec.cache.group > 256 then
      return ("groups of %d channels are not supported yet with an accumulator of %d bits and method latent-cl; at most 256"):format(
        spec.cache.group, spec.cache.accumulator_bits)
    end
  end,
  parameters = {
    {name = "warps", values = {2, 4, 8, 16}, default = 4, doc = "warps in a block",
     depends_on = "the method"},
    {name = "m_tiles", values = {1, 2}, default = 2,
     doc = "latent-cl: 16-token tiles that a warp multiplies at once: more reuse of Ukv, more registers",
     depends_on = "the method, and with latent-cl the group and accumulator_bits"},
    {name = "stages", values = {2, 3, 4}, default = 3, doc = "latent-cl: 64-row pieces of Ukv in flight or in use",
     depends_on = "the method, and with latent-cl the group and accumulator_bits"},
  },
  defaults = function(spec)
    if not projects(spec) then return {warps = 4, m_tiles = 1, stages = 2} end
    local columns = block_columns(spec)
    return {warps = 8, m_tiles = columns <= 128 and 2 or 1, stages = columns <= 128 and 3 or 2}
  end,
  constraints = {
    {text = "m_tiles times the channels of a block (128, or a group) must be at most 256, or sums do not fit into registers",
     check = function(spec, p) return not projects(spec) or p.m_tiles * block_columns(spec) <= 256 end},
    {text = "with 16 warps, m_tiles times the channels of a block (128, or a group) must be at most 128, or sums do not fit into registers",
     check = function(spec, p) return not projects(spec) or p.warps < 16 or p.m_tiles * block_columns(spec) <= 128 end},
  },
  resources = function(spec, p)
    local width = spec.model.hidden_size
    if projects(spec) then
      local columns = block_columns(spec)
      return {
        threads = p.warps * 32,
        shared_bytes = p.stages * columns * 64 * 2,
        columns = columns,
        tiles = p.warps * p.m_tiles, -- 16-token tiles of a block
        column_blocks = (width + columns - 1) // columns,
      }
    end
    local piece = piece_columns(spec)
    local pieces = (width + piece - 1) // piece
    return {
      threads = p.warps * 32,
      shared_bytes = 0,
      columns = piece,
      tiles = 1,
      column_blocks = piece > 256 and pieces or (pieces + p.warps - 1) // p.warps,
    }
  end,
  work = work_of,
}
