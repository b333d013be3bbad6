-- accumulate: a layer's deltas into the accumulator of cross-layer methods (accumulate.cu.lt).

-- Channels that a block of latent-cl multiplies at once: whole groups of the accumulator.
local function block_columns(spec)
  if spec.accumulator.streams[1].bits == 16 or 128 % spec.cache.group == 0 then return 128 end
  return spec.cache.group
end

local function projects(spec) return spec.cache.method == "latent-cl" end

-- Channels that a warp of x-cl sums at once: whole groups again. Groups of more than 256 take all warps of a block.
local function piece_columns(spec)
  if spec.accumulator.streams[1].bits == 16 then return 64 end
  return math.max(64, spec.cache.group)
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
    {name = "stages", values = {2, 3, 4}, default = 3, doc = "latent-cl: 64-row pieces of Ukv under way or in use",
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
    {text = "16 warps leave registers for m_tiles times the channels of a block (128, or a group) of at most 128",
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
}
