-- Work that the kernels of several families have in common, in the terms of the tuner's cost model (docs/templates.md,
-- "work"). Instructions are those of a warp, as the software device counts them, rounded.
local work = {}

local MATRIX_FLOPS = 2 * 16 * 8 * 16 -- FLOPs of one m16n8k16 instruction

-- Replaces 0 by nil, so that the member is left out.
local function given(x) return x ~= 0 and x or nil end

-- An amount of work: matrix instructions, other instructions, bytes read through L2, and bytes read from shared memory.
-- The last two may be nil for none.
function work.amount(matrix, other, l2_bytes, shared_bytes)
  return { flops = given(matrix * MATRIX_FLOPS), instructions = given(matrix + other), l2_bytes = given(l2_bytes or 0),
    shared_bytes = given(shared_bytes or 0) }
end

function work.weight_bytes(type)
  return (type == "f16" or type == "bf16") and 2 or 1
end

-- Instructions that make an operand of 16 by 16 weights: one load, and others that widen 8-bit weights.
function work.weight_instructions(type)
  return work.weight_bytes(type) == 2 and 1 or 10
end

-- Instructions that load 16 tokens by 64 channels of a stream and dequantize them.
function work.unit_instructions(stream)
  return stream.bits == 16 and 40 or 110
end

-- Bytes of such a unit, with its scales and offsets.
function work.unit_bytes(stream)
  local bytes = 16 * 64 * stream.bits // 8
  return stream.bits == 16 and bytes or bytes + 16 * 4 * math.max(1, 64 // stream.group)
end

-- Instructions that copy bytes into shared memory asynchronously, 16 bytes for each lane.
function work.copy_instructions(bytes)
  return bytes / 512 * 3
end

-- Bytes that are written, and read again, for the partial results of one query of every head.
function work.partial_bytes(model)
  return 2 * model.num_attention_heads * (model.head_dim * 2 + 4)
end

-- Query heads that share a KV head.
function work.group_heads(model)
  return model.num_attention_heads // model.num_key_value_heads
end

return work
