-- Describes a stream of the cache as C++ constants, for templates/lib/operand.cuh.
local layout = require "layout"

local operand = {}

-- Whether append multiplies the activations by a matrix U before it quantizes them.
operand.projects = layout.projects

operand.widest_group = layout.widest_group

local function axis_of(stream)
  if stream.bits == 16 then return "AXIS_NONE" end
  return stream.axis == "channel" and "AXIS_CHANNEL" or "AXIS_TOKEN"
end

-- How append divides a stream among blocks that have room for `columns` channels each. `columns` is a multiple of the
-- stream's group, so that every block has whole groups. `count` is the number of blocks. `span` is the number of
-- neighbouring channels of each block. It is nil where a block also has to end with its latent; each latent then has
-- `parts` blocks of `columns` channels, of which the last may have fewer.
function operand.blocks(stream, columns)
  local parts = (stream.latent_width + columns - 1) // columns
  if parts > 1 and stream.latents > 1 and stream.latent_width % columns ~= 0 then
    return { count = stream.latents * parts, parts = parts }
  end
  local span = parts > 1 and columns or columns // stream.latent_width * stream.latent_width
  return { count = (stream.width + span - 1) // span, span = span }
end

-- The text of a C++ struct NAME. `owner` is the layout that the stream belongs to, spec.layout or spec.accumulator.
function operand.stream(name, stream, owner, cache)
  local function constants(comment, ...)
    local parts, list = {}, { ... }
    for i = 1, #list, 2 do parts[#parts + 1] = ("%s = %d"):format(list[i], list[i + 1]) end
    return ("    static constexpr int %s; // %s"):format(table.concat(parts, ", "), comment)
  end
  local lines = {
    ("struct %s {"):format(name),
    ("    static constexpr unit_order ORDER = ORDER_%s;"):format(stream.order:upper()),
    ("    static constexpr group_axis AXIS = %s;"):format(axis_of(stream)),
    ("    static constexpr bool INTEGER_ZERO = %s;"):format(cache.zero_point == "integer" and "true" or "false"),
    constants("tokens or channels a group", "BITS", stream.bits, "GROUP", stream.group),
    constants("as stored", "WIDTH", stream.width, "LATENTS", stream.latents, "LATENT_WIDTH", stream.latent_width),
    constants("of 16 tokens of all streams", "PAGE_TOKENS", cache.page, "PAGE_BYTES", owner.page_bytes, "TILE_BYTES",
      owner.tile_bytes),
    constants("in a tile record", "CODES", stream.codes_offset, "PARAMS", stream.params_offset or 0, "ZEROS",
      stream.zeros_offset or 0),
  }
  if axis_of(stream) == "AXIS_CHANNEL" then
    lines[#lines + 1] = constants("in a page: parameters", "SLOTS", stream.slots_offset, "SLOT_BYTES", stream.slot_bytes,
      "CHUNK_PAGES", stream.chunk_pages, "PAGE_GROUPS", stream.page_groups, "PAGE_CHUNKS", stream.page_chunks)
    lines[#lines + 1] = constants("in a sequence's tail", "TAIL", stream.tail_offset, "TAIL_WIDTH", stream.tail_width)
  end
  lines[#lines + 1] = "};"
  return table.concat(lines, "\n")
end

return operand
