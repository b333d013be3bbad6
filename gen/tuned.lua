-- Tables of tuned parameters, and the choice of the result that serves a kernel family of a spec (docs/tuning.md, Tuned
-- tables).
local host = require "host"
local fail = require "fail"
local json = require "json"
local schema = require "schema"

local tuned = {}

-- The keys of a result of a table: {key, type, meaning, ...} as in gen/schema.lua.
local result_keys = {
  { "device", "string", "name of the GPU", required = true },
  { "capability", "integer", "its compute capability, 90 for 9.0", required = true, min = 10, max = 9999 },
  { "multiprocessors", "integer", "how many it has", required = true, min = 1, max = 1 << 20 },
  { "memory", "integer", "bytes of its memory", required = true, min = 1, max = 1 << 53 },
  { "modelled", "boolean", "whether the software device stood in for the GPU", required = true },
  { "driver", "integer", "version of CUDA's driver, 12080 for 12.8; 0 for the software device", required = true,
    min = 0, max = 1 << 31 },
  { "nvrtc", "integer", "version of NVRTC, likewise", required = true, min = 0, max = 1 << 31 },
  { "xq", "string", "version of xq", required = true },
  { "spec", "object", "the choices of the spec", required = true },
  { "shape", "string", "hash of the parts of the spec that kernels depend on", required = true },
  { "family", "string", "kernel family", required = true },
  { "source", "string", "hash of the family's sources", required = true },
  { "tokens", "integer", "cached tokens of each sequence", required = true, min = 1, max = 1 << 30 },
  { "batch", "integer", "sequences", required = true, min = 1, max = 65535 },
  { "queries", "integer", "queries of each sequence", required = true, min = 1, max = 1 << 20 },
  { "parameters", "object", "the family's parameters", required = true },
  { "seconds", "number", "time of a step with them", required = true, min = 1e-9, max = 1e6 },
  { "spread", "number", "seconds between the quartiles", required = true, min = 0, max = 1e6 },
  { "default_seconds", "number", "time of a step with the family's defaults", required = true, min = 1e-9, max = 1e6 },
  { "default_spread", "number", "seconds between its quartiles", required = true, min = 0, max = 1e6 },
  { "taken", "integer", "when, in Unix time", required = true, min = 0, max = 1 << 40 },
}

local result_names = schema.names_of(result_keys)

local most_results = 10000

local used_order = { "from", "table", "device", "modelled", "tokens", "batch", "queries", "parameters" }

-- The size of calls that a plan is for by default (XQ_PLAN_OPTIONS_INIT).
local usual_calls = { tokens = 4096, batch = 1, queries = 1 }

local device     -- {name, arch, multiprocessors} of the GPU that kernels are for; nil: unknown
local is_ignored = false
local notes, told = {}, {}

function tuned.know(given) device = given end

function tuned.ignore() is_ignored = true end

local sources = {}

-- The hash of a family's sources, which cannot change here; nil where there is no such family.
local function source_of(family)
  if sources[family] == nil then sources[family] = host.family_source(family) or false end
  return sources[family] or nil
end

-- ---------------------------------------------------------------- tables
-- Fails unless `document` is a table of this version in which every result is well formed.
function tuned.check(document)
  if not schema.is_object(document) or document.xq_tuned == nil then
    fail.spec("xq_tuned", "is missing; a table of tuned parameters is an object with xq_tuned and results")
  end
  if document.xq_tuned ~= 1 then
    local newer = math.type(document.xq_tuned) == "integer" and document.xq_tuned > 1
    fail.spec("xq_tuned", "%s is not valid; valid: 1%s", schema.show(document.xq_tuned),
      newer and " (a newer xq wrote this table)" or "")
  end
  schema.check_object("", document, {
    { "xq_tuned", "integer", "version of the format", required = true },
    { "results", "list", "results of tuning", required = true },
  })
  if #document.results > most_results then
    fail.spec("results", "%d are given; valid: at most %d", #document.results, most_results)
  end
  for i, result in ipairs(document.results) do
    local name = ("results[%d]"):format(i - 1)
    if not schema.is_object(result) then fail.spec(name, "must be an object, not %s", schema.show(result)) end
    for key in pairs(result) do
      if not schema.contains(result_names, key) then
        fail.spec(name .. "." .. key, "is not known; %s", fail.suggestion(key, result_names))
      end
    end
    schema.check_object(name .. ".", result, result_keys)
  end
end

-- ---------------------------------------------------------------- shapes
-- Members of a spec that do not change the speed of any kernel: labels, and numbers that kernels multiply by.
local no_matter = {
  model = { "name", "model_type", "preset", "num_hidden_layers", "max_position_embeddings", "layer_types", "layer_kinds",
    "attention_scale", "rms_norm_eps", "alibi_scale" },
  rope = { "theta", "scaling", "attention_factor" },
  cache = { "clip" },
}

local function without(object, names)
  local result = {}
  for key, value in pairs(object) do
    if not schema.contains(names, key) then result[key] = value end
  end
  return result
end

-- A hash of the parts of a completed spec that kernels depend on, without its architecture and tuning. Specs of one
-- shape share results.
function tuned.shape(spec)
  local model = without(spec.model, no_matter.model)
  if model.rope then model.rope = without(model.rope, no_matter.rope) end
  return host.hash(json.encode {
    model = model, cache = without(spec.cache, no_matter.cache), dtype = spec.dtype, weights = spec.weights,
    queries = spec.queries,
  })
end

-- ---------------------------------------------------------------- choosing
local function capability_of(arch) return math.tointeger(tonumber(arch:match "%d+")) end

local levels = { "device", "capability", "family" }

-- How near the GPU of a result is: 1 to 3, as `levels` names them; nil where it is too far.
local function level_of(result, spec)
  local capability = capability_of(spec.arch)
  if result.capability == capability then
    local own = device and device.arch == spec.arch and result.device == device.name and
      result.multiprocessors == device.multiprocessors
    return own and 1 or 2
  end
  return result.capability // 10 == capability // 10 and 3 or nil
end

-- The distance between two sizes of calls, in factors of two.
local function distance(result, calls)
  local sum = 0
  for _, key in ipairs { "tokens", "batch", "queries" } do sum = sum + math.abs(math.log(result[key] / calls[key], 2)) end
  return sum
end

-- The numbers by which results are ranked; the first number that differs decides. They prefer the nearest level of GPU;
-- tables that come earlier, which are the user's before the built-in ones; measured results to modelled ones; the
-- nearest capability; the nearest size of calls; the nearest number of multiprocessors; and results that come earlier
-- in their table.
local function rank(found, spec, calls)
  local result = found.result
  return { level_of(result, spec), found.order, result.modelled and 1 or 0,
    math.abs(result.capability - capability_of(spec.arch)), distance(result, calls),
    device and math.abs(result.multiprocessors - device.multiprocessors) or 0, found.place }
end

local function before(a, b)
  for i, value in ipairs(a.rank) do
    if value ~= b.rank[i] then return value < b.rank[i] end
  end
  return false
end

-- The results that could serve a spec, by family and in no particular order: {table, is_built_in, order, place,
-- result}.
function tuned.results(spec)
  local by_family = {}
  for _, found in ipairs(is_ignored and {} or host.tuned(tuned.shape(spec))) do
    if level_of(found.result, spec) then
      local family = found.result.family
      by_family[family] = by_family[family] or {}
      table.insert(by_family[family], found)
    end
  end
  return by_family
end

local function sort_for(list, spec, calls)
  for _, found in ipairs(list) do found.rank = rank(found, spec, calls) end
  table.sort(list, before)
end

local function note(text, ...)
  text = text:format(...)
  if not told[text] then
    told[text] = true
    notes[#notes + 1] = text
  end
end

-- Only the user's own tables cause warnings. The built-in tables belong to the built-in templates, and say nothing
-- about other templates.
local function refuse(found, family, refusal)
  if found.is_built_in then return end
  local result = found.result
  if not refusal then
    note("%s: its parameters for %s are not used, because that family's kernels have changed since; tune again",
      found.table, family)
  else
    note("%s: its parameters for %s on %s are not used: %s", found.table, family, result.device, refusal)
  end
end

-- Takes the next warning; nil where there is none.
function tuned.take_note() return table.remove(notes, 1) end

-- The description of a result in the completed spec that uses it, with the completed parameters.
function tuned.described(used, values)
  local copy = {}
  for key, value in pairs(used) do copy[key] = value end
  copy.parameters = values
  return json.ordered(copy, used_order)
end

-- The completed parameters of a result; or nil, after a note that says why they cannot serve.
local function usable(found, family, resolve)
  local values, refusal
  if found.result.source == source_of(family) then values, refusal = resolve(found.result.parameters) end
  if not values then refuse(found, family, refusal) end
  return values
end

-- Chooses among `results`, those of a spec, for a family and for calls of a size (nil: the usual size). Returns the
-- parameters and a description of the chosen result; or nil. `resolve(parameters)` returns the completed parameters, or
-- nil and the reason why they cannot serve.
function tuned.find(results, spec, family, calls, resolve)
  local list = results[family] or {}
  sort_for(list, spec, calls or usual_calls)
  for _, found in ipairs(list) do
    local result, values = found.result, usable(found, family, resolve)
    if values then
      return values, tuned.described({ from = levels[found.rank[1]], table = found.table, device = result.device,
        modelled = result.modelled, tokens = result.tokens, batch = result.batch, queries = result.queries }, values)
    end
  end
end

-- ---------------------------------------------------------------- kernels for several sizes
-- The class of a size: the exponent of the nearest power of two (plan_class of runtime/launch/plan.h).
local function class_of(size) return math.floor(math.log(size, 2) + 0.5) end

-- A text that is the same for the same parameters, whatever their order.
local function key_of(parameters) return json.encode(without(parameters, {})) end

-- Chooses kernels of a family for calls of every size up to `largest`: {variants, pick}. variants[1] is the spec's own
-- parameters, for calls of the largest size. pick[t + 1][b + 1] is the number, from 0, of the variant for 2^b sequences
-- of about 2^t tokens. There are at most `most` variants. Where results ask for more, a size gets the variant of the
-- next larger size.
function tuned.sizes(spec, family, largest, most, resolve)
  local variants, numbers, pick = { spec.tuning[family] }, {}, {}
  numbers[key_of(variants[1])] = 0
  local list = {}
  for _, found in ipairs(tuned.results(spec)[family] or {}) do
    found.values = usable(found, family, resolve)
    if found.values then list[#list + 1] = found end
  end
  local tokens, batch = class_of(largest.tokens), class_of(largest.batch)
  local function number_for(calls, otherwise)
    sort_for(list, spec, calls)
    local key = list[1] and key_of(list[1].values)
    if key and not numbers[key] and #variants < most then
      numbers[key], variants[#variants + 1] = #variants, list[1].values
    end
    return numbers[key or ""] or otherwise
  end
  for t = tokens, 0, -1 do
    local row = {}
    for b = batch, 0, -1 do
      local larger = row[b + 2] or pick[t + 2] and pick[t + 2][b + 1] or 0
      row[b + 1] = t == tokens and b == batch and 0 or
        number_for({ tokens = 1 << t, batch = 1 << b, queries = largest.queries }, larger)
    end
    pick[t + 1] = json.array(row)
  end
  return { variants = json.array(variants), pick = json.array(pick) }
end

-- --------------------------------------------------------------------- counting
-- Counts the results of each table for `xq info`: all of them, and then each result in at most one class. It is stale
-- where its sources have changed; otherwise it is for the device, for another device of the capability, or for one of
-- the family.
function tuned.list(arch)
  local list = {}
  local names = { "table", "results", "device", "capability", "family", "stale" }
  for _, found in ipairs(is_ignored and {} or host.tuned_tables()) do
    local counts = { table = found.table, results = #found.results, device = 0, capability = 0, family = 0, stale = 0 }
    for _, result in ipairs(found.results) do
      local level = level_of(result, { arch = arch })
      if source_of(result.family) ~= result.source then
        counts.stale = counts.stale + 1
      elseif level then
        counts[levels[level]] = counts[levels[level]] + 1
      end
    end
    list[#list + 1] = json.ordered(counts, names)
  end
  return json.array(list)
end

-- The GPUs of an architecture for which tables may give different parameters: the GPUs that have results, and for each
-- number of multiprocessors in results that may serve, a GPU that is in no table. Every other GPU gets the same
-- parameters as one of these.
function tuned.gpus(arch)
  local list, known, names = {}, {}, { "name", "multiprocessors" }
  local function add(name, multiprocessors)
    local key = name .. "\0" .. multiprocessors
    if known[key] then return end
    known[key] = true
    list[#list + 1] = json.ordered({ name = name, multiprocessors = multiprocessors }, names)
  end
  add(arch, 0)
  for _, found in ipairs(is_ignored and {} or host.tuned_tables()) do
    for _, result in ipairs(found.results) do
      local level = level_of(result, { arch = arch })
      if level and level < 3 then add(result.device, result.multiprocessors) end
      if level then add(arch, result.multiprocessors) end
    end
  end
  return json.array(list)
end

return tuned
