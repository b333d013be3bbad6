-- kv_attend_e4m3: kv_attend over pages of e4m3 (kv_attend.cu.lt).
local family = family_of("kv_attend", "e4m3")
family.name, family.entry = "kv_attend_e4m3", "xq_kv_attend_e4m3"
family.summary = "attention over an e4m3 paged KV cache, split over tokens"
return family
