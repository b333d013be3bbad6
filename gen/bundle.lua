-- The texts of a bundle that `xq emit` writes (templates/bundle/NAME.lt): README, example, build files.
local host = require "host"
local fail = require "fail"
local json = require "json"
local template = require "template"
local environment = require "environment"

local bundle = {}

local DESCRIPTIONS = {
  wk = "key projection Wk", wv = "value projection Wv",
  uk = "x · uk is cached, and x · uk · ak gives the keys: uk · ak stands for Wk", ak = "the second factor of Wk",
  uv = "x · uv is cached, and x · uv · av gives the values: uv · av stands for Wv", av = "the second factor of Wv",
  ukv = "x · ukv is cached; its columns are orthonormal",
  bk = "bias of the key projection", bv = "bias of the value projection",
  k_norm = "factors of the keys' RMS norm, as they are multiplied (Gemma: 1 + w)", sinks = "attention sinks",
  k_cost = "what errors of keys cost, for feedback: a symmetric, positive semidefinite matrix for each KV head; may be NULL",
}

-- The shape of each matrix and vector that xq_plan_pack_weights may take: {rows, columns} of a matrix, {length} of a
-- vector (include/xq/xq.h, xq_weights).
local function shapes(spec)
  local m, c = spec.model, spec.cache
  local d, dkv = m.hidden_size, m.num_key_value_heads * m.head_dim
  local norm = m.qk_norm == "row" and dkv or m.head_dim
  local shape = { wk = { d, dkv }, wv = { d, dkv }, bk = { dkv }, bv = { dkv }, k_norm = { norm },
    sinks = { m.num_attention_heads }, k_cost = { dkv, m.head_dim } }
  if c.method == "x" then -- used only with a rotation; uk may be any invertible matrix
    shape.uk, shape.ak, shape.av = { d, d }, { d, dkv }, { d, dkv }
  elseif c.method == "latent" then
    shape.uk, shape.ak = { d, c.rank_k }, { c.rank_k // c.groups_k, dkv }
    shape.uv, shape.av = { d, c.rank_v }, { c.rank_v // c.groups_v, dkv }
  elseif c.method == "latent-cl" then
    shape.ukv = { d, c.rank_k }
  end
  return shape
end

-- The matrices and vectors that a plan of this spec packs, in the order of xq_weights: {name=, rows=, cols=, text=,
-- optional=, shape=}.
function bundle.weights(spec)
  local wanted, shape, list = {}, shapes(spec), {}
  for _, kind in ipairs { "matrices", "vectors" } do
    for _, packed in ipairs(spec.weights_layout[kind]) do
      wanted[packed.source] = true
      if packed.columns == "feedback" and spec.cache.method == "latent" then wanted.k_cost = true end
    end
  end
  for _, name in ipairs { "wk", "wv", "uk", "ak", "uv", "av", "ukv", "bk", "bv", "k_norm", "sinks", "k_cost" } do
    if wanted[name] then
      local rows, cols = table.unpack(shape[name])
      list[#list + 1] = { name = name, rows = cols and rows or 1, cols = cols or rows, text = DESCRIPTIONS[name],
        optional = name == "k_cost",
        shape = cols and ("[%d, %d]"):format(rows, cols) or ("[%d]"):format(rows) }
    end
  end
  return list
end

-- Describes in words what attention computes in layers of this spec.
function bundle.attention(spec)
  local m = spec.model
  local r, parts = m.rope, { ("scores times %.6g"):format(m.attention_scale) }
  local function add(present, ...) if present then parts[#parts + 1] = string.format(...) end end
  add(m.qk_norm, "RMS norm of each %s of K", m.qk_norm == "row" and "row" or "head")
  add(r.type == "none", "no RoPE")
  add(r.type ~= "none", "RoPE %s, theta %.9g, on %d of %d dimensions", r.type, r.theta or 0, r.rotary_dim or 0, m.head_dim)
  add(r.scaling, "%s scaling%s", r.scaling and r.scaling.type, r.scaling and r.scaling.table and ", table " .. r.scaling.table or "")
  add(m.alibi, "ALiBi")
  add(m.attn_logit_softcapping, "scores bounded by %.6g", m.attn_logit_softcapping)
  add(m.sliding_window, "window of %d tokens", m.sliding_window)
  add(m.attention_sinks, "attention sinks")
  return table.concat(parts, "; ")
end

-- Renders templates/bundle/NAME.lt. `given` describes the bundle (cli/emit.c).
function bundle.render(name, given)
  local file = "templates/bundle/" .. name .. ".lt"
  given.PREFIX = given.prefix:upper()
  local text = host.read(file)
  if not text then fail.template(file, 1, "does not exist") end
  return template.render(template.compile(file, text), environment.helpers {
    bundle = environment.strict(given, "bundle"),
    weights_of = bundle.weights,
    attention_of = bundle.attention,
    encode = json.encode,
    is_given = function(table, key) return rawget(table, key) ~= nil end,
    var = function(variable) return "${" .. variable .. "}" end, -- a variable of CMake
  })
end

return bundle
