-- The texts of a bundle that `xq emit` writes (templates/bundle/NAME.lt): README, example, build files.
local host = require "host"
local fail = require "fail"
local json = require "json"
local template = require "template"
local environment = require "environment"

local bundle = {}

local DESCRIPTIONS = {
  wk = "key projection", wv = "value projection",
  uk = "what is cached of the activations for keys", ak = "keys from that",
  uv = "what is cached of the activations for values", av = "values from that",
  ukv = "the joint latent's orthonormal columns",
  bk = "bias of the key projection", bv = "bias of the value projection",
  k_norm = "factors of the keys' RMS norm", sinks = "attention sinks",
}

-- Rows and columns of each matrix and vector that xq_plan_pack_weights may want (include/xq/xq.h, xq_weights).
local function shapes(spec)
  local m, c = spec.model, spec.cache
  local d, dkv = m.hidden_size, m.num_key_value_heads * m.head_dim
  local norm = m.qk_norm == "row" and dkv or m.head_dim
  local shape = { wk = { d, dkv }, wv = { d, dkv }, bk = { dkv }, bv = { dkv }, k_norm = { norm },
    sinks = { m.num_attention_heads } }
  if c.method == "x" then
    shape.uk, shape.ak, shape.av = { d, d }, { d, dkv }, { d, dkv }
  elseif c.method == "latent" then
    shape.uk, shape.ak = { d, c.rank_k }, { c.rank_k // c.groups, dkv }
    shape.uv, shape.av = { d, c.rank_v }, { c.rank_v // c.groups, dkv }
  elseif c.method == "latent-cl" then
    shape.ukv = { d, c.rank_k }
  end
  return shape
end

-- The matrices and vectors that a plan of this spec packs, in the order of xq_weights: {name=, rows=, cols=, text=}.
function bundle.weights(spec)
  local wanted, shape, list = {}, shapes(spec), {}
  for _, kind in ipairs { "matrices", "vectors" } do
    for _, packed in ipairs(spec.weights_layout[kind]) do wanted[packed.source] = true end
  end
  for _, name in ipairs { "wk", "wv", "uk", "ak", "uv", "av", "ukv", "bk", "bv", "k_norm", "sinks" } do
    if wanted[name] then
      local rows, cols = table.unpack(shape[name])
      list[#list + 1] = { name = name, rows = cols and rows or 1, cols = cols or rows, text = DESCRIPTIONS[name],
        shape = cols and ("[%d, %d]"):format(rows, cols) or ("[%d]"):format(rows) }
    end
  end
  return list
end

-- Renders templates/bundle/NAME.lt for what cli/emit.c says of a bundle.
function bundle.render(name, given)
  local file = "templates/bundle/" .. name .. ".lt"
  given.PREFIX = given.prefix:upper()
  local text = host.read(file)
  if not text then fail.template(file, 1, "does not exist") end
  return template.render(template.compile(file, text), environment.helpers {
    bundle = environment.strict(given, "bundle"),
    weights_of = bundle.weights,
    encode = json.encode,
    is_given = function(table, key) return rawget(table, key) ~= nil end,
    var = function(variable) return "${" .. variable .. "}" end, -- of CMake
  })
end

return bundle
