-- rope: rotates the K rows of fp16 KV pages in place (rope.cu.lt).
return {
  name = "rope",
  handles = {},
  entry = "xq_rope",
  summary = "RoPE over fp16 KV pages, step 3 of the unfused pipeline",
  parameters = {},
  constraints = {},
  resources = function(spec)
    return {threads = spec.model.head_dim, shared_bytes = 0, head_blocks = spec.model.num_key_value_heads}
  end,
}
