-- Presets: the attention-relevant values of public config.json files, under the names that those use.
-- Mistral-7B is v0.3 (v0.1 has a sliding window); Phi-3-mini is the 4k variant; the others have one shape.
local models = {}

local function llama3_scaling(factor)
  return { rope_type = "llama3", factor = factor, low_freq_factor = 1.0, high_freq_factor = 4.0,
    original_max_position_embeddings = 8192 }
end

-- columns: name, d, H, Hkv, head_dim, layers, context, rope_theta, other keys
local rows = {
  { "gemma-3-1b", 1152, 4, 1, 256, 26, 32768, 1000000.0,
    { qk_norm = true, sliding_window = 512, query_pre_attn_scalar = 256, rope_local_base_freq = 10000.0 } },
  { "gpt-oss-20b", 2880, 64, 8, 64, 24, 131072, 150000.0,
    { attention_bias = true, attention_sinks = true, sliding_window = 128,
      rope_scaling = { rope_type = "yarn", factor = 32.0, beta_fast = 32.0, beta_slow = 1.0, truncate = false,
        original_max_position_embeddings = 4096 } } },
  { "llama-2-7b", 4096, 32, 32, 128, 32, 4096, 10000.0 },
  { "llama-2-13b", 5120, 40, 40, 128, 40, 4096, 10000.0 },
  { "llama-3.1-8b", 4096, 32, 8, 128, 32, 131072, 500000.0, { rope_scaling = llama3_scaling(8.0) } },
  { "llama-3.1-70b", 8192, 64, 8, 128, 80, 131072, 500000.0, { rope_scaling = llama3_scaling(8.0) } },
  { "llama-3.2-1b", 2048, 32, 8, 64, 16, 131072, 500000.0, { rope_scaling = llama3_scaling(32.0) } },
  { "llama-3.2-3b", 3072, 24, 8, 128, 28, 131072, 500000.0, { rope_scaling = llama3_scaling(32.0) } },
  { "mistral-7b", 4096, 32, 8, 128, 32, 32768, 1000000.0 },
  { "phi-3-mini", 3072, 32, 32, 96, 32, 4096, 10000.0, { sliding_window = 2047 } },
  { "qwen2.5-0.5b", 896, 14, 2, 64, 24, 32768, 1000000.0, { attention_bias = true } },
  { "qwen2.5-7b", 3584, 28, 4, 128, 28, 131072, 1000000.0, { attention_bias = true } },
  { "qwen3-0.6b", 1024, 16, 8, 128, 28, 40960, 1000000.0, { qk_norm = true } },
  { "qwen3-8b", 4096, 32, 8, 128, 36, 40960, 1000000.0, { qk_norm = true } },
  { "qwen3-30b-a3b", 2048, 32, 4, 128, 48, 40960, 1000000.0, { qk_norm = true } },
  { "smollm2-135m", 576, 9, 3, 64, 30, 8192, 100000.0 },
  { "smollm2-360m", 960, 15, 5, 64, 32, 8192, 100000.0 },
}

local order, by_name = {}, {}
for i, row in ipairs(rows) do
  order[i], by_name[row[1]] = row[1], row
end

models.order = order

-- All names, one a line.
function models.names()
  return table.concat(order, "\n") .. "\n"
end

-- A fresh `model` object, or nil. Names match in any case.
function models.find(name)
  local row = by_name[name:lower()]
  if not row then return nil end
  local model = { name = row[1], hidden_size = row[2], num_attention_heads = row[3], num_key_value_heads = row[4],
    head_dim = row[5], num_hidden_layers = row[6], max_position_embeddings = row[7], rope_theta = row[8] }
  for key, value in pairs(row[9] or {}) do model[key] = value end
  return model
end

return models
