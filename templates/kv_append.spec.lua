-- kv_append: normalizes and rotates k, and scatters k and v into KV pages (kv_append.cu.lt).
local variant = ... -- "e4m3": the cache's elements, in kv_append_e4m3; nil: 16 bits
return {
  name = "kv_append",
  handles = {"bf16", "head-dim", "rope-interleaved", "rope-partial", "rope-none", "qk-norm", "qk-norm-row"},
  entry = "xq_kv_append",
  summary = "appends normalized and rotated keys, and values, to fp16 KV pages",
  parameters = {
    {name = "threads", values = {32, 64, 128, 256}, default = 128, doc = "threads of a block, which has one token"},
  },
  constraints = {},
  resources = function(spec, p)
    local model = spec.model
    -- Whether heads are only rotated, in all of their dimensions, with pairs that are half a head apart. The kernel
    -- then rotates whole chunks of 16 bytes.
    local whole = model.rope.type == "neox" and model.rope.rotary_dim == model.head_dim and not model.qk_norm
    return {threads = p.threads, shared_bytes = 0, whole = whole and 1 or 0, element_bytes = variant and 1 or 2}
  end,
}
