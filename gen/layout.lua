-- Where every byte of the cache and of the packed weights lies: the only definition. C gets it from the
-- completed spec (`layout`, `weights_layout`) and from unit_map; templates from `layout`.
--
-- A page is page/16 tile records. A record holds 16 tokens: for each stream its codes, in units of 16
-- tokens by 64 channels, then its parameters: per group 16 scales and 16 offsets, f16. A unit's bits lie
-- in the order of the A operand of mma.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16"): lane l
-- finds its 16 bytes at 16*l. docs/layout.md draws it.
local json = require "json"
local fail = require "fail"

local layout = {}

layout.tile_tokens = 16
layout.unit_channels = 64
local HALF = 2           -- bytes of an f16
local WEIGHT_ALIGN = 256 -- of a matrix among the packed weights

local function ceil_div(a, b) return (a + b - 1) // b end

-- The cached matrices of a spec. Order "k": tokens are the rows of the mma operand; "v": channels.
function layout.streams(model, cache)
  if cache.method == "x" then
    return { { name = "x", width = model.hidden_size, order = "k" } }
  end
  return {
    { name = "k", width = cache.rank_k, order = "k" },
    { name = "v", width = cache.rank_v, order = "v" },
  }
end

function layout.cache(model, cache)
  local offset, streams = 0, json.array {}
  for i, stream in ipairs(layout.streams(model, cache)) do
    local groups = ceil_div(stream.width, cache.group)
    local codes_bytes = stream.width * layout.tile_tokens * cache.bits // 8
    streams[i] = json.ordered({
      name = stream.name, width = stream.width, order = stream.order, groups = groups,
      codes_offset = offset, params_offset = offset + codes_bytes,
    }, { "name", "width", "order", "groups", "codes_offset", "params_offset" })
    offset = offset + codes_bytes + groups * 2 * layout.tile_tokens * HALF
  end
  local kv_width = model.num_key_value_heads * model.head_dim
  return json.ordered({
    tile_tokens = layout.tile_tokens,
    unit_channels = layout.unit_channels,
    tile_bytes = offset,
    page_bytes = cache.page // layout.tile_tokens * offset,
    bytes_per_token = offset / layout.tile_tokens,
    kv_page_bytes = 2 * cache.page * kv_width * HALF,
    streams = streams,
  }, { "tile_tokens", "unit_channels", "tile_bytes", "page_bytes", "bytes_per_token", "kv_page_bytes", "streams" })
end

local function pack(matrices)
  local offset, list = 0, json.array {}
  for i, m in ipairs(matrices) do
    list[i] = json.ordered({ name = m[1], rows = m[2], cols = m[3], offset = offset },
      { "name", "rows", "cols", "offset" })
    offset = ceil_div(offset + m[2] * m[3] * HALF, WEIGHT_ALIGN) * WEIGHT_ALIGN
  end
  return json.ordered({ bytes = offset, matrices = list }, { "bytes", "matrices" })
end

-- The projections of an fp16 KV cache, and of method x.
function layout.kv_weights(model)
  local d, kv_width = model.hidden_size, model.num_key_value_heads * model.head_dim
  return pack { { "wk", d, kv_width }, { "wv", d, kv_width } }
end

function layout.weights(model, cache)
  if cache.method == "x" then return layout.kv_weights(model) end
  local d, kv_width = model.hidden_size, model.num_key_value_heads * model.head_dim
  return pack {
    { "uk", d, cache.rank_k }, { "uv", d, cache.rank_v },
    { "ak", cache.rank_k, kv_width }, { "av", cache.rank_v, kv_width },
  }
end

-- The bit, within a unit, at which the code of token t and channel c starts. `row` and `k` are the
-- element's place in its m16k16 operand; a fragment is 16 channels.
local function code_bit(order, bits, t, c)
  local fragment = c // 16
  local row, k = t, c % 16
  if order == "v" then row, k = c % 16, t end
  local lane, element = row % 8 * 4 + k % 8 // 2, k % 2
  local row_high, k_high = row // 8, k // 8
  local pair = order == "k" and 2 * row_high + k_high or 2 * k_high + row_high
  if bits == 4 then
    -- A word a fragment; pair p of elements in nibble p of both half-words.
    return lane * 128 + fragment * 32 + element * 16 + pair * 4
  end
  -- Two words a fragment, two fragments to a lane's 16 bytes, two such halves a unit.
  return (fragment // 2) * 4096 + lane * 128 + (fragment % 2) * 64 + (2 * pair + element) * 8
end

-- A list: entry t * 64 + c + 1 is the bit of token t, channel c.
function layout.unit_map(order, bits)
  if order ~= "k" and order ~= "v" then fail.argument("order", "'%s' is not known; valid: k, v", order) end
  if bits ~= 4 and bits ~= 8 then fail.argument("bits", "%d is not known; valid: 4, 8", bits) end
  local map = {}
  for t = 0, layout.tile_tokens - 1 do
    for c = 0, layout.unit_channels - 1 do
      map[#map + 1] = code_bit(order, bits, t, c)
    end
  end
  return map
end

return layout
