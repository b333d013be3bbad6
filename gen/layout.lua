-- The position of every byte of the cache and of the packed weights; nothing else defines it. C gets it from the
-- completed spec (`layout`, the weights layouts) and from unit_map; templates get it from `layout`, `accumulator` and
-- `keys`.
--
-- A page is page/16 tile records, followed by the parameters of per-channel groups. A record holds 16 tokens: for each
-- stream its codes, in units of 16 tokens by 64 channels, then the parameters of per-token groups. The groups of a
-- token begin anew with each latent, so the last group of a latent may be shorter than the others. The bits of a unit
-- are in the order of the A operand of mma.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16"). docs/layout.md
-- draws it.
local json = require "json"
local fail = require "fail"

local layout = {}

layout.tile_tokens = 16
layout.unit_channels = 64
local UNIT = layout.unit_channels
local HALF = 2           -- bytes of an f16
local WEIGHT_ALIGN = 256 -- alignment of a matrix among the packed weights
local RECORD_ALIGN = 16  -- alignment of per-token parameters with integer zero points, and of per-channel slots

local function ceil_div(a, b) return (a + b - 1) // b end
local function align(a, b) return ceil_div(a, b) * b end

-- ---------------------------------------------------------------- streams
-- The stored channels of a latent of `rank` channels: as many as whole units have.
function layout.latent_width(rank) return align(rank, UNIT) end

local function stream_of(name, order, axis, latents, columns)
  local latent_width = layout.latent_width(columns // latents)
  return { name = name, order = order, axis = axis, latents = latents, rank = columns // latents,
    latent_width = latent_width, width = latents * latent_width }
end

-- The cached matrices of a spec. In order "k" tokens are the rows of the mma operand, in order "v" channels are. A
-- stream consists of `latents` matrices side by side. Each has `rank` channels, and is stored with latent_width
-- channels, a multiple of 64.
function layout.streams(model, cache)
  if cache.method == "x" then
    return { stream_of("x", "k", cache.axis_k, 1, model.hidden_size) }
  elseif cache.method == "x-cl" then
    return { stream_of("delta", "k", cache.axis_k, 1, model.hidden_size) }
  elseif cache.method == "latent-cl" then
    return { stream_of("delta", "k", cache.axis_k, 1, cache.rank_k) }
  end
  return {
    stream_of("k", "k", cache.axis_k, cache.groups_k, cache.rank_k),
    stream_of("v", "v", cache.axis_v, cache.groups_v, cache.rank_v),
  }
end

-- Whether the cached values are a product of the activations and a matrix U: a latent, or the whole of x with a
-- `rotation`.
function layout.projects(cache)
  return cache.method == "latent" or cache.method == "latent-cl" or cache.method == "x" and cache.rotation
end

-- ---------------------------------------------------------------- cache pages
-- Places codes and per-token parameters in a tile record from `offset` on. Returns the offset after them.
local function place_in_record(s, cache, offset)
  s.codes_offset = offset
  offset = offset + s.width * layout.tile_tokens * s.bits // 8
  s.group = s.axis == "token" and s.latents > 1 and math.min(cache.group, s.latent_width) or cache.group
  if s.bits == 16 or s.axis == "channel" then return offset end
  s.groups = s.latents * ceil_div(s.latent_width, s.group)
  s.params_offset = offset
  if cache.zero_point == "float" then return offset + s.groups * 2 * layout.tile_tokens * HALF end
  s.zeros_offset = offset + s.groups * layout.tile_tokens * HALF
  return align(s.zeros_offset + s.groups * layout.tile_tokens * s.bits // 8, RECORD_ALIGN)
end

-- Places the parameters of per-channel groups in a page. A slot holds those of 64 channels (a chunk) of one group of
-- tokens: 64 scales, then 64 offsets or integer zero points. Where a group spans P = chunk_pages > 1 pages, chunk j of
-- token group i lies in the sequence's page i * P + j % P. Otherwise it lies in page i // Q with Q = page_groups. Its
-- slot is (i % Q) * page_chunks + j // P.
local function place_in_page(s, cache, offset)
  if s.axis ~= "channel" then return offset end
  local zeros = cache.zero_point == "float" and UNIT * HALF or UNIT * s.bits // 8
  s.slot_bytes = align(UNIT * HALF + zeros, RECORD_ALIGN)
  s.chunk_pages = math.max(1, cache.group // cache.page)
  s.page_groups = math.max(1, cache.page // cache.group)
  s.page_chunks = ceil_div(s.width // UNIT, s.chunk_pages)
  s.slots_offset = offset
  return offset + s.page_groups * s.page_chunks * s.slot_bytes
end

-- Places the tail: the newest tokens, up to one group, in f16. Cross-layer methods keep the activations themselves
-- there.
local function place_in_tail(s, model, cache, offset)
  if s.axis ~= "channel" then return offset end
  s.tail_offset = offset
  s.tail_width = s.name == "delta" and model.hidden_size or s.width
  return offset + cache.group * s.tail_width * HALF
end

local stream_keys = { "name", "width", "latents", "rank", "latent_width", "order", "bits", "axis", "group", "groups",
  "codes_offset", "params_offset", "zeros_offset", "slots_offset", "slot_bytes", "chunk_pages", "page_groups",
  "page_chunks", "tail_offset", "tail_width" }

function layout.cache(model, cache)
  local record, tail, streams = 0, 0, layout.streams(model, cache)
  for _, s in ipairs(streams) do
    s.bits = cache.bits
    record = place_in_record(s, cache, record)
  end
  local page = cache.page // layout.tile_tokens * record
  local kv_elements = 2 * cache.page * model.num_key_value_heads * model.head_dim -- a page of keys and values
  local list = json.array {}
  for i, s in ipairs(streams) do
    page = place_in_page(s, cache, page)
    tail = place_in_tail(s, model, cache, tail)
    list[i] = json.ordered(s, stream_keys)
  end
  return json.ordered({
    tile_tokens = layout.tile_tokens,
    unit_channels = UNIT,
    tile_bytes = record,
    page_bytes = page,
    bytes_per_token = page / cache.page,
    tail_bytes = tail,
    kv_page_bytes = kv_elements * HALF,
    kv_e4m3_page_bytes = kv_elements,
    streams = list,
  }, { "tile_tokens", "unit_channels", "tile_bytes", "page_bytes", "bytes_per_token", "tail_bytes", "kv_page_bytes",
    "kv_e4m3_page_bytes", "streams" })
end

-- The accumulator of cross-layer methods: the activations as reconstructed from all layers so far. It has pages of its
-- own, with the same layout as cache pages. nil for other methods.
function layout.accumulator(model, cache)
  if cache.method ~= "x-cl" and cache.method ~= "latent-cl" then return nil end
  local s = stream_of("x", "k", "token", 1, model.hidden_size)
  s.bits = cache.accumulator_bits
  local record = place_in_record(s, cache, 0)
  local page = cache.page // layout.tile_tokens * record
  return json.ordered({ tile_tokens = layout.tile_tokens, unit_channels = UNIT, tile_bytes = record, page_bytes = page,
    bytes_per_token = page / cache.page, tail_bytes = 0, streams = json.array { json.ordered(s, stream_keys) } },
    { "tile_tokens", "unit_channels", "tile_bytes", "page_bytes", "bytes_per_token", "tail_bytes", "streams" })
end

-- ---------------------------------------------------------------- columns of K
local function pad(list, multiple)
  while #list % multiple ~= 0 do list[#list + 1] = -1 end
end

-- The order of a KV head's K columns in the fused kernel, as dimensions of the head (-1: a column of zeros). The
-- rematerialized columns are the first members of all rotary pairs, padded to a multiple of 8, then their partners,
-- padded likewise, then dimensions that are normalized but not rotated, padded to 16. Dimensions that are neither
-- rotated nor normalized, padded to 16, are absorbed into the query (docs/method.md, identity 2).
function layout.keys(model)
  local rope, firsts, seconds, rest = model.rope, json.array {}, {}, json.array {}
  local turning = rope.type == "none" and 0 or rope.rotary_dim
  for i = 0, turning // 2 - 1 do
    firsts[#firsts + 1] = rope.type == "interleaved" and 2 * i or i
    seconds[#seconds + 1] = rope.type == "interleaved" and 2 * i + 1 or i + turning // 2
  end
  for i = turning, model.head_dim - 1 do rest[#rest + 1] = i end
  pad(firsts, 8)
  pad(seconds, 8)
  pad(rest, 16)
  local pair_columns, absorbed = #firsts, rest
  table.move(seconds, 1, #seconds, #firsts + 1, firsts)
  if model.qk_norm then
    table.move(rest, 1, #rest, #firsts + 1, firsts)
    absorbed = json.array {}
  end
  return json.ordered({ pairs = turning // 2, pair_columns = pair_columns, columns = #firsts, absorbed_columns = #absorbed,
    rematerialized = firsts, absorbed = absorbed },
    { "pairs", "pair_columns", "columns", "absorbed_columns", "product", "rematerialized", "absorbed" })
end

-- Whether the fused kernel can multiply the codes of keys by int8 weights as they are, once `spec` has keys, layout and
-- accumulator. At least the 64 channels of a unit of one token must share a scale. Absorbed dimensions take values, and
-- K then takes the same. Where a latent has several groups, both the sums of a group and those of all groups are in
-- registers.
function layout.codes_are_operands(spec)
  local keys, stream = spec.keys, (spec.accumulator or spec.layout).streams[1]
  return stream.bits <= 8 and stream.axis == "token" and stream.group % UNIT == 0 and keys.columns > 0 and
    keys.absorbed_columns == 0 and (stream.group >= stream.latent_width or keys.columns <= 128)
end

-- Whether the fused kernel can make the scores of one query straight from such products: a latent is one quantization
-- group of a token, all columns of K turn, and keys are normalized over heads at most, without a bias.
function layout.scores_of_codes(spec)
  local keys, model, stream = spec.keys, spec.model, (spec.accumulator or spec.layout).streams[1]
  return layout.codes_are_operands(spec) and stream.group >= stream.latent_width and
    keys.columns == 2 * keys.pair_columns and
    (not model.qk_norm or model.qk_norm == "head" and not model.attention_bias)
end

-- Adds the operands of the product that K is in the fused kernel: "int8", codes times int8 weights, or "f16",
-- dequantized values. To be called once `spec` has weights, too.
function layout.complete_keys(spec)
  spec.keys.product = spec.weights == "int8" and layout.codes_are_operands(spec) and "int8" or "f16"
end

-- ---------------------------------------------------------------- packed weights
-- Places matrices and vectors one after the other.
local packer = {}
packer.__index = packer

local function new_packer()
  return setmetatable({ bytes = 0, matrices = json.array {}, vectors = json.array {} }, packer)
end

function packer:place(bytes)
  local offset = self.bytes
  self.bytes = align(offset + bytes, WEIGHT_ALIGN)
  return offset
end

-- Adds a matrix. `source` is the caller's matrix. `columns` tells which of its columns are packed: "all" as they are,
-- "keys" or "absorbed" in the order of layout.keys for each head. "transposed" and "absorbed" have the source's columns
-- as rows. "feedback" is computed from the source (runtime/host/feedback.h): it has a row for each stored channel, and
-- a column for each channel of its group. `sum_rows`, for int8
-- weights, tells over how many rows each packed sum of a column goes; nil: no sums are packed.
function packer:matrix(name, source, columns, rows, cols, kind, sum_rows)
  local wide = kind == "f16" or kind == "bf16"
  local m = { name = name, source = source, columns = columns, rows = rows, cols = cols, type = kind,
    offset = self:place(rows * cols * (wide and 2 or 1)) }
  if not wide then m.scale_offset = self:place(cols * 4) end
  if sum_rows then
    m.sum_rows = sum_rows
    m.sum_offset = self:place(ceil_div(rows, sum_rows) * cols * 4)
  end
  self.matrices[#self.matrices + 1] = json.ordered(m,
    { "name", "source", "columns", "rows", "cols", "type", "offset", "scale_offset", "sum_rows", "sum_offset" })
end

function packer:vector(name, source, columns, count)
  self.vectors[#self.vectors + 1] = json.ordered({ name = name, source = source, columns = columns, count = count,
    offset = self:place(count * 4) }, { "name", "source", "columns", "count", "offset" })
end

function packer:finish()
  return json.ordered({ bytes = self.bytes, matrices = self.matrices, vectors = self.vectors },
    { "bytes", "matrices", "vectors" })
end

local function half_type(weights) return weights == "bf16" and "bf16" or "f16" end

-- Whether K and V are products of projected activations and the caller's Ak and Av. Otherwise they are products of the
-- activations and Wk and Wv.
local function factored(cache) return layout.projects(cache) and cache.method ~= "latent-cl" end

-- The caller's matrices whose products are K and V, and the numbers of their rows as packed.
local function factors(spec)
  local streams, d = spec.layout.streams, spec.model.hidden_size
  if not factored(spec.cache) then return "wk", "wv", d, d end
  return "ak", "av", streams[1].latent_width, streams[#streams].latent_width
end

-- The number of channels in the largest per-token group of the streams.
function layout.widest_group(streams)
  local widest = 0
  for _, stream in ipairs(streams) do
    if stream.axis == "token" then widest = math.max(widest, stream.group) end
  end
  return widest
end

-- Packs the matrix that feeds the errors of channels of a quantization group into later channels. It is computed from
-- the matrix that the stream is multiplied by. All streams have as much room for a group as the stream with the largest
-- groups, because one kernel serves them all.
local function pack_feedback(p, name, source, stream, streams, cache)
  if not cache.feedback then return end
  local group = layout.widest_group(streams)
  p:matrix(name, source, "feedback", stream.groups * group, group, "f16")
end

-- Packs the projections to the cached streams, and for latent-cl the one back to the activations.
local function pack_projections(p, spec)
  local model, cache, streams = spec.model, spec.cache, spec.layout.streams
  local d, kind = model.hidden_size, half_type(spec.weights)
  if factored(cache) then
    p:matrix("uk", "uk", "all", d, streams[1].width, kind)
    pack_feedback(p, "fk", "ak", streams[1], streams, cache)
    if streams[2] then
      p:matrix("uv", "uv", "all", d, streams[2].width, kind)
      pack_feedback(p, "fv", "av", streams[2], streams, cache)
    end
  elseif cache.method == "latent-cl" then
    p:matrix("ukv", "ukv", "all", d, streams[1].width, kind)
    p:matrix("ukvt", "ukv", "transposed", streams[1].width, d, kind)
  end
end

local function pack_vectors(p, spec, by_key)
  local model, keys = spec.model, spec.keys
  local heads = model.num_key_value_heads
  local kv_width = heads * model.head_dim
  if model.attention_bias then
    if by_key then
      if keys.columns > 0 then p:vector("bk", "bk", "keys", heads * keys.columns) end
      if keys.absorbed_columns > 0 then p:vector("bk_absorb", "bk", "absorbed", heads * keys.absorbed_columns) end
    else
      p:vector("bk", "bk", "all", kv_width)
    end
    p:vector("bv", "bv", "all", kv_width)
  end
  if model.qk_norm then
    local count = model.qk_norm == "row" and heads or 1
    p:vector("k_norm", "k_norm", by_key and "keys" or "all", count * (by_key and keys.columns or model.head_dim))
  end
  if model.attention_sinks then p:vector("sinks", "sinks", "all", model.num_attention_heads) end
end

-- The weights that KV caches of both kinds of elements need. Such caches are what quantized ones are compared with, so
-- their projections have 16 bits whatever `weights` is.
local function pack_kv(spec)
  local model, p, kind = spec.model, new_packer(), half_type(spec.weights)
  local d, kv_width = model.hidden_size, model.num_key_value_heads * model.head_dim
  p:matrix("wk", "wk", "all", d, kv_width, kind)
  p:matrix("wv", "wv", "all", d, kv_width, kind)
  pack_vectors(p, spec, false)
  return p
end

-- The weights of an fp16 KV cache.
function layout.kv_weights(spec)
  return pack_kv(spec):finish()
end

-- The weights of an fp8 KV cache, with its scales.
function layout.kv_e4m3_weights(spec)
  local p = pack_kv(spec)
  p:vector("k_scale", "k_scale", "all", 1)
  p:vector("v_scale", "v_scale", "all", 1)
  return p:finish()
end

-- The weights of the unfused pipeline, with the columns of K in the model's order.
function layout.unfused_weights(spec)
  local model, p = spec.model, new_packer()
  local kv_width = model.num_key_value_heads * model.head_dim
  local source_k, source_v, rows_k, rows_v = factors(spec)
  pack_projections(p, spec)
  p:matrix("wk", source_k, "all", rows_k, kv_width, spec.weights)
  p:matrix("wv", source_v, "all", rows_v, kv_width, spec.weights)
  pack_vectors(p, spec, false)
  return p:finish()
end

-- The weights of the fused kernel, with the columns of K in the order of layout.keys.
function layout.weights(spec)
  local model, keys, p = spec.model, spec.keys, new_packer()
  local heads = model.num_key_value_heads
  local source_k, source_v, rows_k, rows_v = factors(spec)
  pack_projections(p, spec)
  if keys.columns > 0 then
    local group = keys.product == "int8" and (spec.accumulator or spec.layout).streams[1].group or nil
    p:matrix("wk", source_k, "keys", rows_k, heads * keys.columns, spec.weights, group)
  end
  if keys.absorbed_columns > 0 then
    p:matrix("wk_absorb", source_k, "absorbed", heads * keys.absorbed_columns, rows_k, spec.weights)
  end
  p:matrix("wv", source_v, "all", rows_v, heads * model.head_dim, spec.weights)
  pack_vectors(p, spec, true)
  return p:finish()
end

-- ---------------------------------------------------------------- units
layout.bits = { 2, 3, 4, 8, 16 }

-- The bit position of an element among words that hold `bits` (1, 2 or 4) bits of each code. A lane has as many words
-- as its codes fill, and a word holds 4 / bits fragments. The two elements of a pair are in the two half-words, and
-- each byte belongs to one token.
local function word_bit(bits, lane, fragment, pair, element)
  local fragments = 4 // bits
  local words = 4 // fragments
  local word = lane * words + fragment // fragments
  return word * 32 + element * 16 + pair // 2 * 8 + (fragment % fragments * 2 + pair % 2) * bits
end

-- The bit positions, within a unit, of the code of token t and channel c, lowest bit first. `row` and `k` are the
-- element's position in its m16k16 operand. A fragment is 16 channels. A pair is two elements that share a register.
local function code_bits(order, bits, t, c)
  local fragment = c // 16
  local row, k = t, c % 16
  if order == "v" then row, k = c % 16, t end
  local lane, element = row % 8 * 4 + k % 8 // 2, k % 2
  local row_high, k_high = row // 8, k // 8
  local pair = order == "k" and 2 * row_high + k_high or 2 * k_high + row_high
  local first
  if bits == 16 then -- 16 bytes for each lane: the operand's four registers
    first = fragment * 4096 + lane * 128 + (row_high + 2 * k_high) * 32 + element * 16
  elseif bits == 8 then -- a fragment has two words, a lane's 16 bytes hold two fragments, a unit has two such halves
    first = (fragment // 2) * 4096 + lane * 128 + (fragment % 2) * 64 + (2 * pair + element) * 8
  elseif bits == 3 then -- the two low bits as with 2 bits; then the high bits, like 1-bit codes
    first = word_bit(2, lane, fragment, pair, element)
    return { first, first + 1, 2048 + word_bit(1, lane, fragment, pair, element) }
  else
    first = word_bit(bits, lane, fragment, pair, element)
  end
  local list = {}
  for i = 1, bits do list[i] = first + i - 1 end
  return list
end

-- A list: entry (t * 64 + c) * bits + i + 1 is the position of bit i of the code of token t, channel c.
function layout.unit_map(order, bits)
  if order ~= "k" and order ~= "v" then fail.argument("order", "'%s' is not known; valid: k, v", order) end
  local known = false
  for _, valid in ipairs(layout.bits) do known = known or valid == bits end
  if not known then fail.argument("bits", "%d is not known; valid: 2, 3, 4, 8, 16", bits) end
  local map = {}
  for t = 0, layout.tile_tokens - 1 do
    for c = 0, UNIT - 1 do
      for _, bit in ipairs(code_bits(order, bits, t, c)) do map[#map + 1] = bit end
    end
  end
  return map
end

return layout
