-- The first module that runs. It makes the standard libraries safe and deterministic, and provides `require` for
-- gen/NAME.lua. gen/sandbox.c describes `host`.
local host = ...
local next, sort, concat = next, table.sort, table.concat
local raw_tostring, raw_format, raw_rep, raw_move = tostring, string.format, string.rep, table.move

for _, name in ipairs { "collectgarbage", "dofile", "load", "loadfile", "next", "print", "warn" } do
  _G[name] = nil
end
string.dump = nil
math.random, math.randomseed = nil, nil

-- `pairs` visits keys in a fixed order, numbers before strings. Hash order would depend on addresses.
local function before(a, b)
  local ta, tb = type(a), type(b)
  if ta ~= tb then return ta == "number" end
  return a < b
end

function pairs(t)
  local keys, n = {}, 0
  for key in next, t do
    local kind = type(key)
    if kind ~= "number" and kind ~= "string" then
      error("pairs: a key of type " .. kind .. " has no place in an order", 2)
    end
    n = n + 1
    keys[n] = key
  end
  sort(keys, before)
  local i = 0
  return function()
    i = i + 1
    local key = keys[i]
    if key ~= nil then return key, t[key] end
  end
end

-- A stable merge sort: the order of equal elements must not depend on the library's pivots.
function table.sort(list, less)
  less = less or function(a, b) return a < b end
  local n, width = #list, 1
  local from, to = {}, {}
  for i = 1, n do from[i] = list[i] end
  while width < n do
    for low = 1, n, 2 * width do
      local middle, high = math.min(low + width, n + 1), math.min(low + 2 * width, n + 1)
      local left, right = low, middle
      for i = low, high - 1 do
        if left < middle and (right >= high or not less(from[right], from[left])) then
          to[i], left = from[left], left + 1
        else
          to[i], right = from[right], right + 1
        end
      end
    end
    from, to, width = to, from, 2 * width
  end
  for i = 1, n do list[i] = from[i] end
end

local addressed = { table = true, ["function"] = true, userdata = true, thread = true }

-- The text of a value, without addresses.
function tostring(value)
  local kind = type(value)
  if addressed[kind] then return kind end
  return raw_tostring(value)
end

function string.format(template, ...)
  if raw_format("%s", template):gsub("%%%%", ""):find("%%[^%a]*p") then
    error("format: %p is not available", 2)
  end
  local values, count = { ... }, select("#", ...)
  for i = 1, count do
    if addressed[type(values[i])] then values[i] = type(values[i]) end
  end
  return raw_format(template, table.unpack(values, 1, count))
end

-- The instruction limit cannot interrupt a single long call of a library function, so such calls are refused
-- beforehand.
function string.rep(text, count, separator)
  local size = (#text + #(separator or "")) * count
  if size > host.memory // 4 or count > host.memory then
    error(("rep: %d bytes %.0f times use too much memory"):format(#text, count), 2)
  end
  return raw_rep(text, count, separator)
end

function table.move(from, first, last, at, to)
  if last - first > host.memory // 16 then
    error(("move: %.0f elements use too much memory"):format(last - first + 1), 2)
  end
  return raw_move(from, first, last, at, to)
end

local loaded = {}

function require(name)
  if loaded[name] == nil then
    local file = "gen/" .. tostring(name) .. ".lua"
    local text = host.read(file)
    if not text then error("module '" .. tostring(name) .. "' not found: there is no " .. file, 2) end
    local chunk, message = host.load(text, file)
    if not chunk then error(message, 0) end
    loaded[name] = chunk() or true -- set only now, so that a module that failed (out of memory) is tried again
  end
  return loaded[name]
end

loaded.host = host
