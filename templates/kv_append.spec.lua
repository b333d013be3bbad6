-- kv_append: rotates k and scatters k and v into fp16 KV pages (kv_append.cu.lt).
return {
  name = "kv_append",
  handles = {},
  entry = "xq_kv_append",
  summary = "appends rotated keys and values to fp16 KV pages",
  parameters = {
    {name = "threads", values = {32, 64, 128, 256}, default = 128, doc = "threads of a block, which has one token"},
  },
  constraints = {},
  resources = function(_, p)
    return {threads = p.threads, shared_bytes = 0}
  end,
}
