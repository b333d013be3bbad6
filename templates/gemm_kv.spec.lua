-- gemm_kv: gemm with the 16-bit Wk and Wv of a KV cache, whatever the type of the spec's other weights (gemm.cu.lt).
local family = family_of("gemm", "kv")
family.name, family.entry = "gemm_kv", "xq_gemm_kv"
family.summary = "GEMM with the 16-bit projections of an fp16 or fp8 KV cache"
family.ignores = {"weights-int8", "weights-e4m3"}
family.work = nil -- not tuned
return family
