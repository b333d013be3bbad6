-- kv_append_e4m3: kv_append to pages of e4m3 (kv_append.cu.lt).
local family = family_of("kv_append", "e4m3")
family.name, family.entry = "kv_append_e4m3", "xq_kv_append_e4m3"
family.summary = "appends normalized and rotated keys, and values, to e4m3 KV pages"
return family
