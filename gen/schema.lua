-- The keys of a spec as data (names, types, meanings, domains and defaults), and the checks against them. docs/spec.md
-- describes the keys for users.
local arch = require "arch"
local fail = require "fail"
local host = require "host"
local json = require "json"
local layout = require "layout"

local schema = {}

-- ---------------------------------------------------------------- keys
-- {key, type, meaning, domain: min= and max=, or values=, or valid= (a text, where completion checks the value); works=
-- (the supported part of the domain), default=, required=, refuse=function(value) → a feature that is not supported, or
-- nil}
schema.head_dims = { 64, 80, 96, 112, 128, 160, 192, 256 }
schema.group_sizes = { 32, 64, 128, 256 }
schema.most_hidden_size = 65536
schema.hidden_size_text = ("multiples of %d up to %d"):format(layout.unit_channels, schema.most_hidden_size)

function schema.list(values)
  local texts = {}
  for i, value in ipairs(values) do texts[i] = tostring(value) end
  return table.concat(texts, ", ")
end

local function refuse_if(text)
  return function(value) return value ~= false and text or nil end
end

schema.model = {
  { "name", "string", "label of the model" },
  { "preset", "string", "a preset; the keys beside it replace its values" },
  { "model_type", "string", "the model_type of its config.json" },
  { "hidden_size", "integer", "width of the attention block's input, d",
    required = true, valid = schema.hidden_size_text },
  { "num_attention_heads", "integer", "query heads, H", required = true, min = 1, max = 1024 },
  { "num_key_value_heads", "integer", "KV heads, Hkv", valid = "divisors of num_attention_heads" },
  { "head_dim", "integer", "width of a head, dh", valid = schema.list(schema.head_dims) },
  { "num_hidden_layers", "integer", "layers of the model", min = 1, max = 10000 },
  { "max_position_embeddings", "integer", "longest context", min = 1, max = 1 << 40 },
  { "rope_theta", "number", "base of the rotary frequencies", min = 1, max = 1e15 },
  { "rope_scaling", "object", "how rotary frequencies are stretched" },
  { "rope", "object", "rotary embedding: type, theta, rotary_dim, scaling" },
  { "partial_rotary_factor", "number", "share of a head that is rotated", min = 0, max = 1 },
  { "rope_interleaved", "boolean", "whether rotary pairs are neighbours" },
  { "attention_bias", "boolean", "whether the key and value projections add a bias" },
  { "qk_norm", "boolean or string", "how keys are normalized: over a head (true), or a row of all heads",
    values = { true, false, "head", "row" } },
  { "rms_norm_eps", "number", "epsilon that QK-norm adds to the mean square", min = 0, max = 1 },
  { "attn_logit_softcapping", "number", "bound of the scores", min = 1e-3, max = 1e6 },
  { "sliding_window", "integer", "tokens that a query sees, itself among them", min = 1, max = 1 << 40 },
  { "rope_local_base_freq", "number", "rotary base of sliding layers, not stretched", min = 1, max = 1e15 },
  { "layer_kind", "string", "the kind of layers that the spec is for, if the model mixes kinds",
    values = { "full", "sliding", "nope" } },
  { "layer_types", "list",
    "the kind of each layer: full_attention, sliding_attention, nope_attention (no RoPE), linear_attention" },
  { "sliding_window_pattern", "integer", "period of the full layers, between which layers slide",
    min = 1, max = 10000 },
  { "max_window_layers", "integer", "number of full layers before the sliding layers", min = 0, max = 10000 },
  { "layer_kinds", "object", "computed: rope and sliding_window of each kind of layer" },
  { "attention_sinks", "boolean", "whether softmax has a learned sink" },
  { "alibi", "boolean", "whether scores fall with distance" },
  { "alibi_scale", "number", "factor of ALiBi's slopes", min = 1e-6, max = 1e3 },
  { "clip_qkv", "number", "bound of queries, keys and values",
    min = 0, max = 1e6, refuse = refuse_if "clipping of queries, keys and values" },
  { "query_pre_attn_scalar", "number", "number whose square root divides the scores", min = 1e-6, max = 1e6 },
  { "attention_scale", "number", "factor of the scores", min = 1e-6, max = 1e6 },
}

schema.cache = {
  { "method", "string", "what is cached", values = { "x", "latent", "x-cl", "latent-cl" } },
  { "bits", "integer", "bits of a cached element", values = { 2, 3, 4, 8 }, default = 4 },
  { "group", "integer or row", "elements that share a scale", default = 128,
    valid = schema.list(schema.group_sizes) .. ', "row"' },
  { "axis_k", "string", "direction of the groups in K's stream, or in the only stream",
    values = { "token", "channel" }, default = "token" },
  { "axis_v", "string", "direction of the groups in V's stream", values = { "token", "channel" } },
  { "zero_point", "string", "a group's second parameter: its f16 minimum, or the integer code of zero",
    values = { "float", "integer" }, default = "float" },
  { "clip", "number", "share of a group's range that its codes span; values beyond it saturate",
    min = 0.1, max = 1 },
  { "rank_k", "integer", "columns of K's latent; with latent-cl, of the latent for both", valid = "1 to the full rank, multiples of groups_k" },
  { "rank_v", "integer", "columns of V's latent", valid = "1 to the full rank, multiples of groups_v" },
  { "groups", "integer", "value of groups_k and groups_v, if they are not given", valid = "divisors of num_key_value_heads" },
  { "groups_k", "integer", "groups of KV heads whose keys share a latent", valid = "divisors of num_key_value_heads" },
  { "groups_v", "integer", "groups of KV heads whose values share a latent", valid = "divisors of num_key_value_heads" },
  { "rotation", "boolean", "whether what is cached is rotated, which spreads outliers" },
  { "feedback", "boolean", "whether later channels of a group correct a channel's quantization error" },
  { "base", "boolean", "cross-layer: whether the layer starts the accumulator" },
  { "accumulator_bits", "integer", "cross-layer: bits of an element of the accumulator", values = { 16, 8, 4 } },
  { "page", "integer", "tokens of a page", default = 64, valid = "multiples of 16 from 16 to 256" },
}

schema.top = {
  { "model", "model", "the model's attention" },
  { "cache", "object", "what is cached and how" },
  { "dtype", "string", "type of activations", values = { "f16", "bf16" }, default = "f16" },
  { "weights", "string", "type of packed weights", values = { "f16", "bf16", "int8", "e4m3" } },
  { "queries", "string", "queries of one sequence in a call", values = { "one", "many" }, default = "one" },
  { "checked", "boolean", "whether kernels check each call, and do nothing if it has a fault" },
  { "arch", "string", "GPU architecture", default = "sm_80", valid = schema.list(arch.names) },
  { "tuning", "object", "parameters of kernel families" },
  { "tuned", "object", "computed: the parameters that come from tables of tuned parameters" },
  { "keys", "object", "computed: the order of K's columns" },
  { "layout", "object", "computed: the cache's bytes" },
  { "accumulator", "object", "computed: the accumulator's bytes" },
  { "weights_layout", "object", "computed: the packed weights" },
  { "unfused_weights_layout", "object", "computed: the packed weights of the unfused pipeline" },
  { "kv_weights_layout", "object", "computed: the packed weights of an fp16 KV cache" },
  { "kv_e4m3_weights_layout", "object", "computed: the packed weights of an fp8 KV cache" },
  { "choices", "object", "computed: the choices as given; the rest follows from them" },
}
-- The members that completion adds to a spec.
schema.added = { "tuned", "keys", "layout", "accumulator", "weights_layout", "unfused_weights_layout", "kv_weights_layout",
  "kv_e4m3_weights_layout", "choices" }

schema.rope = {
  { "type", "string", "kind of rotary embedding", values = { "none", "neox", "interleaved" }, default = "neox" },
  { "theta", "number", "base of the rotary frequencies", min = 1, max = 1e15 },
  { "rotary_dim", "integer", "dimensions of a head that are rotated", valid = "even numbers from 2 to head_dim" },
  { "attention_factor", "number", "factor of rotated queries and keys", min = 1e-3, max = 1e3 },
  { "scaling", "object", "how rotary frequencies are stretched" },
}

-- The keys of a way to stretch rotary frequencies (gen/rope.lua): those that most types have, and `keys`.
local function scaling_keys(keys)
  table.insert(keys, 1, { "type", "string", "kind of scaling" })
  table.insert(keys, 2, { "rope_type", "string", "kind of scaling" })
  table.insert(keys, 3, { "factor", "number", "how far wavelengths are stretched", min = 1, max = 1e6, required = true })
  return keys
end

local original_context = { "original_max_position_embeddings", "integer", "context before stretching",
  min = 1, max = 1 << 40, required = true }

schema.scalings = {
  linear = scaling_keys {},
  llama3 = scaling_keys {
    { "low_freq_factor", "number", "original context over the longest wavelength kept in part",
      min = 1e-3, max = 1e6, required = true },
    { "high_freq_factor", "number", "original context over the longest wavelength kept whole",
      min = 1e-3, max = 1e6, required = true },
    original_context,
  },
  yarn = scaling_keys {
    { "beta_fast", "number", "turns over the original context from which a pair is kept whole",
      min = 1e-3, max = 1e6, default = 32 },
    { "beta_slow", "number", "turns over the original context up to which a pair is stretched",
      min = 1e-3, max = 1e6, default = 1 },
    { "truncate", "boolean", "whether the ramp between them begins and ends at whole pairs", default = true },
    { "attention_factor", "number", "factor of rotated queries and keys", min = 1e-3, max = 1e3 },
    { "mscale", "number", "weight of the attention factor", min = 0, max = 1e3 },
    { "mscale_all_dim", "number", "weight of the attention factor's divisor", min = 0, max = 1e3 },
    { "original_max_position_embeddings", "integer", "context before stretching", min = 1, max = 1 << 40 },
  },
}
schema.scalings.longrope = {
  { "type", "string", "kind of scaling" },
  { "rope_type", "string", "kind of scaling" },
  { "table", "string", "the list of factors that the spec is for", values = { "short", "long" } },
  { "factor", "number", "longest context over the original one", min = 1, max = 1e6 },
  { "attention_factor", "number", "factor of rotated queries and keys", min = 1e-3, max = 1e3 },
  { "original_max_position_embeddings", "integer", "the longest context that the short factors are for",
    min = 2, max = 1 << 40 },
  { "short_factor", "list", "factors of the wavelength of each rotary pair in short contexts",
    required = true },
  { "long_factor", "list", "factors of the wavelength of each rotary pair in long contexts", required = true },
}
-- The keys of every kind of scaling, each once.
schema.scaling_names = {}
do
  local seen = {}
  for _, keys in pairs(schema.scalings) do
    for _, key in ipairs(keys) do
      if not seen[key[1]] then
        seen[key[1]], schema.scaling_names[#schema.scaling_names + 1] = true, key
      end
    end
  end
end
schema.scaling_types = { "default", "linear", "llama3", "yarn", "longrope", "dynamic", "su" }

schema.layer_kinds = {
  { "full", "object", "values of the layers that see everything" },
  { "sliding", "object", "values of the layers with a sliding window" },
  { "nope", "object", "values of the layers that see everything, without RoPE" },
}
schema.layer_kind = {
  { "rope", "object", "rotary embedding: type, theta, rotary_dim, scaling", required = true },
  { "sliding_window", "integer", "tokens that a query sees, itself among them", min = 1, max = 1 << 40 },
}

-- ---------------------------------------------------------------- checking against keys
function schema.names_of(keys)
  local names = {}
  for i, key in ipairs(keys) do names[i] = key[1] end
  return names
end

function schema.show(value)
  if type(value) == "string" then return "'" .. value:sub(1, 60) .. "'" end
  if type(value) == "table" then return json.is_array(value) and "a list" or "an object" end
  if type(value) == "userdata" then return "null" end
  return tostring(value)
end

-- The divisors of a number, in ascending order.
function schema.divisors(number)
  local list = {}
  for i = 1, number do
    if number % i == 0 then list[#list + 1] = i end
  end
  return list
end

function schema.contains(values, wanted)
  for _, value in ipairs(values) do
    if value == wanted then return true end
  end
  return false
end

local kinds = {
  string = function(v) return type(v) == "string" end,
  boolean = function(v) return type(v) == "boolean" end,
  number = function(v) return type(v) == "number" end,
  integer = function(v) return math.type(v) == "integer" end,
  object = function(v) return type(v) == "table" and not json.is_array(v) end,
  list = json.is_array,
  ["integer or row"] = function(v) return math.type(v) == "integer" or v == "row" end,
  ["boolean or string"] = function(v) return type(v) == "boolean" or type(v) == "string" end,
}
local article = { string = "a string", boolean = "true or false", number = "a number", integer = "a whole number",
  object = "an object", list = "a list", ["integer or row"] = 'a whole number or "row"',
  ["boolean or string"] = "true, false or a text" }

-- "; valid: ...", or nil where the key does not state what is valid.
local function valid_text(key)
  local text = key.values and schema.list(key.values) or key.valid or
    key.min and ("%s to %s"):format(tostring(key.min), tostring(key.max))
  return text and "; valid: " .. text or ""
end

-- A text that says that a key is missing, and what it must be.
function schema.missing(keys, name)
  for _, key in ipairs(keys) do
    if key[1] == name then
      return ("is missing; it must be %s (%s)%s"):format(article[key[2]], key[3], valid_text(key))
    end
  end
end

local function check_value(field, key, value)
  if not kinds[key[2]](value) then
    fail.spec(field, "must be %s (%s), not %s%s", article[key[2]], key[3], schema.show(value), valid_text(key))
  end
  if key.values and not schema.contains(key.values, value) or key.min and not (value >= key.min and value <= key.max) then
    fail.spec(field, "%s is not valid%s", schema.show(value), valid_text(key))
  end
  if key.works and not schema.contains(key.works, value) then
    fail.unsupported(field, "%s is not supported yet; supported: %s", schema.show(value), schema.list(key.works))
  end
  local refusal = key.refuse and key.refuse(value)
  if refusal then fail.unsupported(field, "%s is not supported yet", refusal) end
end

-- The full name of a key that a spec has in another place, such as cache.bits for "bits"; nil where there is none.
local function found_elsewhere(prefix, name)
  if schema.contains(host.names("templates/", ".spec.lua"), name) then return "tuning." .. name end
  for _, section in ipairs { { "", schema.top }, { "cache.", schema.cache }, { "model.", schema.model } } do
    if section[1] ~= prefix and schema.contains(schema.names_of(section[2]), name) and
      not schema.contains(schema.added, name) then
      return section[1] .. name
    end
  end
end

-- Fails where the name of a member of `object` is not among `keys`. `prefix` stands before the name in errors.
function schema.check_names(prefix, object, keys)
  local names = schema.names_of(keys)
  for name in pairs(object) do
    if not schema.contains(names, name) then
      local elsewhere = found_elsewhere(prefix, name)
      fail.spec(prefix .. name, "is not known; %s%s", elsewhere and ("did you mean '%s'? "):format(elsewhere) or "",
        elsewhere and "valid: " .. table.concat(names, ", ") or fail.suggestion(tostring(name), names))
    end
  end
end

-- A new table with the checked values of `object` and the defaults of missing keys.
function schema.check_object(prefix, object, keys)
  schema.check_names(prefix, object, keys)
  local result = {}
  for _, key in ipairs(keys) do
    local name, value = key[1], object[key[1]]
    if value == nil then
      if key.required then fail.spec(prefix .. name, "%s", schema.missing(keys, name)) end
      value = key.default
    elseif key[2] ~= "model" then
      check_value(prefix .. name, key, value)
    end
    result[name] = value
  end
  return result
end

schema.is_object = kinds.object

return schema
