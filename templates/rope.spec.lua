-- rope: normalizes and rotates the K rows of fp16 KV pages in place (rope.cu.lt).

-- Whether K is only rotated: in all dimensions of a head, by halves, without QK-norm. Halves are whole 16-byte chunks.
local function whole(model)
  return model.rope.type == "neox" and model.rope.rotary_dim == model.head_dim and not model.qk_norm
end

-- Lanes of a warp that share a row of head_dim elements, as in lib/key_row.cuh.
local function row_lanes(model)
  local lanes = 8
  while lanes * 8 < model.head_dim do lanes = lanes * 2 end
  return lanes
end

return {
  name = "rope",
  handles = {"bf16", "head-dim", "rope-interleaved", "rope-partial", "qk-norm", "qk-norm-row"},
  entry = "xq_rope",
  summary = "QK-norm and RoPE over fp16 KV pages, step 3 of the unfused pipeline",
  parameters = {},
  constraints = {},
  resources = function(spec)
    local model = spec.model
    return {
      threads = whole(model) and model.head_dim or 16 * row_lanes(model),
      shared_bytes = 0,
      whole = whole(model) and 1 or 0,
      -- the grid's second dimension: a norm over all heads needs all of them in one block
      head_blocks = model.qk_norm == "row" and 1 or model.num_key_value_heads,
    }
  end,
}
