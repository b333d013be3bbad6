-- Presets: the values of public config.json files that attention depends on, under the names of the models. Where a
-- name has several releases, Mistral-7B is v0.3 (v0.1 has a sliding window), Phi-3 is the 4k variants, GLM-4-9B is
-- release 0414, Command R is v01, and Command R7B is 12-2024.
local models = {}

local function llama3_scaling(factor)
  return { rope_type = "llama3", factor = factor, low_freq_factor = 1.0, high_freq_factor = 4.0,
    original_max_position_embeddings = 8192 }
end

-- The keys that the members of a family share. Arguments are the values in which members differ.
local function gemma2(scalar)
  return { attn_logit_softcapping = 50.0, query_pre_attn_scalar = scalar, sliding_window = 4096,
    sliding_window_pattern = 2 }
end

local function gemma3(window, scalar, stretch)
  return { qk_norm = true, query_pre_attn_scalar = scalar, sliding_window = window, sliding_window_pattern = 6,
    rope_local_base_freq = 10000.0, rope_scaling = stretch and { rope_type = "linear", factor = stretch } or nil }
end

local function gpt_oss()
  return { attention_bias = true, attention_sinks = true, sliding_window = 128, sliding_window_pattern = 2,
    rope_scaling = { rope_type = "yarn", factor = 32.0, beta_fast = 32.0, beta_slow = 1.0, truncate = false,
      original_max_position_embeddings = 4096 } }
end

local function neox() return { attention_bias = true, partial_rotary_factor = 0.25 } end
local function phi(share) return { attention_bias = true, partial_rotary_factor = share } end
local function bloom() return { attention_bias = true, alibi = true } end
local function qwen2() return { attention_bias = true } end
local function qwen3() return { qk_norm = true } end
local function olmo2() return { qk_norm = "row" } end

-- The types of `count` layers of two kinds: every `period`-th layer, counted from 1, is `last`, the others are
-- `others`.
local function layer_types(count, period, others, last)
  local types = {}
  for layer = 1, count do types[layer] = layer % period == 0 and last or others end
  return types
end

-- Models in which every fourth layer is full and has no RoPE, and the other layers slide.
local function hybrid(count, others)
  local result = { sliding_window = 4096, layer_types = layer_types(count, 4, "sliding_attention", "nope_attention") }
  for key, value in pairs(others) do result[key] = value end
  return result
end

-- Phi-4-mini has two tables of LongRoPE factors, and a preset for each of them.
local function phi4_mini(table_name)
  local short, long = {}, { 1, 1.118320672, 1.250641126, 1.398617824, 1.564103225, 1.74916897, 1.956131817, 2.187582649,
    2.446418898, 2.735880826, 3.059592084, 3.421605075, 3.826451687, 4.279200023, 4.785517845, 5.351743533, 5.984965424,
    6.693110555, 7.485043894, 8.370679318, 9.36110372, 10.4687158, 11.70738129, 13.09260651, 14.64173252, 16.37415215,
    18.31155283, 20.47818807, 22.90118105, 25.61086418, 28.64115884, 32.03, 32.1, 32.13, 32.23, 32.6, 32.61, 32.64, 32.66,
    32.7, 32.71, 32.93, 32.97, 33.28, 33.49, 33.5, 44.16, 47.77 }
  for i = 1, #long do short[i] = 1.0 end
  return { partial_rotary_factor = 0.75, sliding_window = 262144, rope_scaling = { rope_type = "longrope",
    table = table_name, original_max_position_embeddings = 4096, short_factor = short, long_factor = long } }
end

-- The columns are: name, d, H, Hkv, head_dim, layers, context (false: not stated), rope_theta (false: no RoPE), other
-- keys
local rows = {
  { "bloom-560m", 1024, 16, 16, 64, 24, false, false, bloom() },
  { "bloom-7b1", 4096, 32, 32, 128, 30, false, false, bloom() },
  { "command-r", 8192, 64, 64, 128, 40, 8192, 8000000.0, { rope_interleaved = true } },
  { "command-r7b", 4096, 32, 8, 128, 32, 132096, 50000.0, hybrid(32, { rope_interleaved = true }) },
  { "exaone-4.0-32b", 5120, 40, 8, 128, 64, 131072, 1000000.0,
    hybrid(64, { qk_norm = true, rms_norm_eps = 1e-5, rope_scaling = llama3_scaling(16.0) }) },
  { "falcon-7b", 4544, 71, 1, 64, 32, 2048, 10000.0 },
  { "falcon-40b", 8192, 128, 8, 64, 60, 2048, 10000.0 },
  { "falcon-rw-1b", 2048, 32, 32, 64, 24, 2048, false, { attention_bias = true, alibi = true, alibi_scale = 0.125 } },
  { "gemma-2-2b", 2304, 8, 4, 256, 26, 8192, 10000.0, gemma2(256) },
  { "gemma-2-9b", 3584, 16, 8, 256, 42, 8192, 10000.0, gemma2(256) },
  { "gemma-2-27b", 4608, 32, 16, 128, 46, 8192, 10000.0, gemma2(144) },
  { "gemma-3-270m", 640, 4, 1, 256, 18, 32768, 1000000.0, gemma3(512, 256) },
  { "gemma-3-1b", 1152, 4, 1, 256, 26, 32768, 1000000.0, gemma3(512, 256) },
  { "gemma-3-4b", 2560, 8, 4, 256, 34, 131072, 1000000.0, gemma3(1024, 256, 8.0) },
  { "gemma-3-12b", 3840, 16, 8, 256, 48, 131072, 1000000.0, gemma3(1024, 256, 8.0) },
  { "gemma-3-27b", 5376, 32, 16, 128, 62, 131072, 1000000.0, gemma3(1024, 168, 8.0) },
  { "glm-4-9b", 4096, 32, 2, 128, 40, 32768, 10000.0,
    { attention_bias = true, partial_rotary_factor = 0.5, rope_interleaved = true } },
  { "gpt-neox-20b", 6144, 64, 64, 96, 44, 2048, 10000.0, neox() },
  { "gpt-oss-20b", 2880, 64, 8, 64, 24, 131072, 150000.0, gpt_oss() },
  { "gpt-oss-120b", 2880, 64, 8, 64, 36, 131072, 150000.0, gpt_oss() },
  { "llama-2-7b", 4096, 32, 32, 128, 32, 4096, 10000.0 },
  { "llama-2-13b", 5120, 40, 40, 128, 40, 4096, 10000.0 },
  { "llama-3.1-8b", 4096, 32, 8, 128, 32, 131072, 500000.0, { rope_scaling = llama3_scaling(8.0) } },
  { "llama-3.1-70b", 8192, 64, 8, 128, 80, 131072, 500000.0, { rope_scaling = llama3_scaling(8.0) } },
  { "llama-3.2-1b", 2048, 32, 8, 64, 16, 131072, 500000.0, { rope_scaling = llama3_scaling(32.0) } },
  { "llama-3.2-3b", 3072, 24, 8, 128, 28, 131072, 500000.0, { rope_scaling = llama3_scaling(32.0) } },
  { "mistral-7b", 4096, 32, 8, 128, 32, 32768, 1000000.0 },
  { "mixtral-8x7b", 4096, 32, 8, 128, 32, 32768, 1000000.0 },
  { "mpt-7b", 4096, 32, 32, 128, 32, 2048, false, { alibi = true } },
  { "olmo-1b", 2048, 16, 16, 128, 16, 2048, 10000.0 },
  { "olmo-2-1b", 2048, 16, 16, 128, 16, 4096, 500000.0, olmo2() },
  { "olmo-2-7b", 4096, 32, 32, 128, 32, 4096, 500000.0, olmo2() },
  { "olmo-2-13b", 5120, 40, 40, 128, 40, 4096, 500000.0, olmo2() },
  { "olmo-2-32b", 5120, 40, 8, 128, 64, 4096, 500000.0, olmo2() },
  { "phi-1.5", 2048, 32, 32, 64, 24, 2048, 10000.0, phi(0.5) },
  { "phi-2", 2560, 32, 32, 80, 32, 2048, 10000.0, phi(0.4) },
  { "phi-3-mini", 3072, 32, 32, 96, 32, 4096, 10000.0, { sliding_window = 2047 } },
  { "phi-3-medium", 5120, 40, 10, 128, 40, 4096, 10000.0, { sliding_window = 2047 } },
  { "phi-4", 5120, 40, 10, 128, 40, 16384, 250000.0 },
  { "phi-4-mini-4k", 3072, 24, 8, 128, 32, 131072, 10000.0, phi4_mini("short") },
  { "phi-4-mini-128k", 3072, 24, 8, 128, 32, 131072, 10000.0, phi4_mini("long") },
  { "pythia-410m", 1024, 16, 16, 64, 24, 2048, 10000.0, neox() },
  { "pythia-1.4b", 2048, 16, 16, 128, 24, 2048, 10000.0, neox() },
  { "pythia-6.9b", 4096, 32, 32, 128, 32, 2048, 10000.0, neox() },
  { "qwen2-0.5b", 896, 14, 2, 64, 24, 131072, 1000000.0, qwen2() },
  { "qwen2-1.5b", 1536, 12, 2, 128, 28, 131072, 1000000.0, qwen2() },
  { "qwen2-7b", 3584, 28, 4, 128, 28, 131072, 1000000.0, qwen2() },
  { "qwen2-72b", 8192, 64, 8, 128, 80, 131072, 1000000.0, qwen2() },
  { "qwen2.5-0.5b", 896, 14, 2, 64, 24, 32768, 1000000.0, qwen2() },
  { "qwen2.5-3b", 2048, 16, 2, 128, 36, 32768, 1000000.0, qwen2() },
  { "qwen2.5-7b", 3584, 28, 4, 128, 28, 131072, 1000000.0, qwen2() },
  { "qwen2.5-14b", 5120, 40, 8, 128, 48, 131072, 1000000.0, qwen2() },
  { "qwen2.5-32b", 5120, 40, 8, 128, 64, 131072, 1000000.0, qwen2() },
  { "qwen2.5-72b", 8192, 64, 8, 128, 80, 131072, 1000000.0, qwen2() },
  { "qwen3-0.6b", 1024, 16, 8, 128, 28, 40960, 1000000.0, qwen3() },
  { "qwen3-1.7b", 2048, 16, 8, 128, 28, 40960, 1000000.0, qwen3() },
  { "qwen3-4b", 2560, 32, 8, 128, 36, 40960, 1000000.0, qwen3() },
  { "qwen3-8b", 4096, 32, 8, 128, 36, 40960, 1000000.0, qwen3() },
  { "qwen3-14b", 5120, 40, 8, 128, 40, 40960, 1000000.0, qwen3() },
  { "qwen3-32b", 5120, 64, 8, 128, 64, 40960, 1000000.0, qwen3() },
  { "qwen3-30b-a3b", 2048, 32, 4, 128, 48, 40960, 1000000.0, qwen3() },
  { "qwen3-235b-a22b", 4096, 64, 4, 128, 94, 40960, 1000000.0, qwen3() },
  { "qwen3-next-80b-a3b", 2048, 16, 2, 256, 48, 262144, 10000000.0, { qk_norm = true, partial_rotary_factor = 0.25,
    layer_types = layer_types(48, 4, "linear_attention", "full_attention") } },
  { "smollm-135m", 576, 9, 3, 64, 30, 2048, 10000.0 },
  { "smollm-360m", 960, 15, 5, 64, 32, 2048, 10000.0 },
  { "smollm-1.7b", 2048, 32, 32, 64, 24, 2048, 10000.0 },
  { "smollm2-135m", 576, 9, 3, 64, 30, 8192, 100000.0 },
  { "smollm2-360m", 960, 15, 5, 64, 32, 8192, 100000.0 },
  { "smollm2-1.7b", 2048, 32, 32, 64, 24, 8192, 130000.0 },
  { "smollm3-3b", 2048, 16, 4, 128, 36, 65536, 5000000.0,
    { layer_types = layer_types(36, 4, "full_attention", "nope_attention") } },
}

local order, by_name = {}, {}
for i, row in ipairs(rows) do
  order[i], by_name[row[1]] = row[1], row
end

models.order = order

-- All names, one on each line.
function models.names()
  return table.concat(order, "\n") .. "\n"
end

-- A fresh `model` object, or nil. Names match in any case.
function models.find(name)
  local row = by_name[name:lower()]
  if not row then return nil end
  local model = { name = row[1], hidden_size = row[2], num_attention_heads = row[3], num_key_value_heads = row[4],
    head_dim = row[5], num_hidden_layers = row[6], max_position_embeddings = row[7] or nil, rope_theta = row[8] or nil }
  for key, value in pairs(row[9] or {}) do model[key] = value end
  return model
end

return models
