-- The optional features that a spec may ask for, the kernel families that each feature affects, and how a family
-- refuses one: a family cannot serve a feature that is missing from its `handles` (templates/NAME.spec.lua). The table
-- of docs/features.md is made from this list.
local features = {}

local quantized = { "append", "append_channel", "accumulate", "key_norms", "attend", "dequantize" }
local weighted = { "append", "append_channel", "accumulate", "key_norms", "absorb", "attend", "gemm" }
local rotating = { "attend", "absorb", "rope", "kv_append", "kv_attend" }
local attending = { "attend", "kv_attend" }

local function cross_layer(spec) return spec.cache.method == "x-cl" or spec.cache.method == "latent-cl" end

local function has_channel_axis(spec)
  for _, stream in ipairs(spec.layout.streams) do
    if stream.axis == "channel" then return true end
  end
  return false
end

local function is_padded(spec)
  for _, stream in ipairs(spec.layout.streams) do
    if stream.rank ~= stream.latent_width then return true end
  end
  return false
end

-- {name, name in a refusal, families that it affects, function(spec) → whether a spec asks for it}
features.list = {
  { "bits-2", "2-bit codes", quantized, function(s) return s.cache.bits == 2 end },
  { "bits-3", "3-bit codes", quantized, function(s) return s.cache.bits == 3 end },
  { "zero-point", "integer zero points", quantized, function(s) return s.cache.zero_point == "integer" end },
  { "clip", "codes that span less than their group's range", { "append", "append_channel" },
    function(s) return s.cache.clip < 1 end },
  { "axis-channel", "per-channel groups", quantized, has_channel_axis },
  { "latent-groups", "grouped latents", { "append", "append_channel", "key_norms", "attend", "dequantize" },
    function(s) return s.cache.groups_k > 1 or s.cache.groups_v > 1 end },
  { "padded-rank", "ranks that are no multiple of 64", { "append", "append_channel", "key_norms", "attend", "dequantize" }, is_padded },
  { "x-rotation", "method x with rotation", { "append", "append_channel" },
    function(s) return s.cache.method == "x" and s.cache.rotation end },
  { "feedback", "feedback of errors", { "append" }, function(s) return s.cache.feedback end },
  { "cross-layer", "cross-layer methods", quantized, cross_layer },
  { "latent-cl", "method latent-cl", { "append", "append_channel", "accumulate" },
    function(s) return s.cache.method == "latent-cl" end },
  { "accumulator-quantized", "accumulators of 8 or 4 bits", quantized,
    function(s) return cross_layer(s) and s.cache.accumulator_bits < 16 end },
  { "bf16", "bf16 activations",
    { "append", "append_channel", "absorb", "attend", "merge", "dequantize", "gemm", "rope", "kv_append", "kv_attend" },
    function(s) return s.dtype == "bf16" end },
  { "weights-bf16", "bf16 weights", weighted, function(s) return s.weights == "bf16" end },
  { "weights-int8", "int8 weights", { "key_norms", "absorb", "attend", "gemm" }, function(s) return s.weights == "int8" end },
  { "weights-e4m3", "e4m3 weights", { "key_norms", "absorb", "attend", "gemm" }, function(s) return s.weights == "e4m3" end },
  { "queries-many", "several queries of a sequence", { "attend", "absorb", "kv_attend" },
    function(s) return s.queries == "many" end },
  { "head-dim", "head dimensions other than 64 and 128", { "attend", "absorb", "merge", "rope", "kv_append", "kv_attend" },
    function(s) return s.model.head_dim ~= 64 and s.model.head_dim ~= 128 end },
  { "rope-interleaved", "interleaved RoPE", rotating, function(s) return s.model.rope.type == "interleaved" end },
  { "rope-partial", "partial rotary embedding", rotating,
    function(s) return s.model.rope.type ~= "none" and s.model.rope.rotary_dim < s.model.head_dim end },
  { "rope-none", "attention without RoPE", { "attend", "absorb", "kv_append", "kv_attend" },
    function(s) return s.model.rope.type == "none" end },
  { "rope-factor", "RoPE that scales (YaRN's attention factor)", attending,
    function(s) return (s.model.rope.attention_factor or 1) ~= 1 end },
  { "bias", "a bias on the key and value projections", { "key_norms", "attend", "absorb", "gemm" },
    function(s) return s.model.attention_bias end },
  { "qk-norm", "normalization of keys (QK-norm)", { "attend", "rope", "kv_append" },
    function(s) return s.model.qk_norm end },
  { "qk-norm-row", "normalization of keys over all heads", { "key_norms", "attend", "rope", "kv_append" },
    function(s) return s.model.qk_norm == "row" end },
  { "softcap", "soft-capped scores", attending, function(s) return s.model.attn_logit_softcapping end },
  { "sliding-window", "a sliding window", attending, function(s) return s.model.sliding_window end },
  { "sinks", "learned attention sinks", attending, function(s) return s.model.attention_sinks end },
  { "alibi", "ALiBi", attending, function(s) return s.model.alibi end },
  { "alibi-scale", "ALiBi with scaled slopes", attending, function(s) return s.model.alibi_scale end },
  { "scale", "an attention scale other than 1/sqrt(head_dim)", attending,
    function(s) return s.model.attention_scale ~= 1 / math.sqrt(s.model.head_dim) end },
}

features.cross_layer, features.has_channel_axis = cross_layer, has_channel_axis

local function contains(list, wanted)
  for _, item in ipairs(list or {}) do
    if item == wanted then return true end
  end
  return false
end

features.contains = contains

-- Why a family cannot serve a spec, or nil. `template`: the family whose template it is rendered from; `handles`: the
-- features that the family supports.
function features.refusal(spec, family, template, handles)
  for _, feature in ipairs(features.list) do
    local name, text, families, asks = table.unpack(feature)
    if contains(families, template) and not contains(handles, name) and asks(spec) then
      return text .. (" not supported yet by kernel '%s'"):format(family)
    end
  end
end

return features
