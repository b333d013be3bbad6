-- Converts Lua values to JSON text. An object first writes the keys that its metatable's `order` lists, in that order,
-- then its other keys, sorted. So the text is the same on every machine.
local host = require "host"
local fail = require "fail"

local json = {}

local array_mark = host.array

-- Marks a table as an array, without which an empty table is an object. Arrays that were read are marked.
function json.array(list)
  return setmetatable(list, array_mark)
end

function json.is_array(value)
  return type(value) == "table" and (getmetatable(value) == array_mark or value[1] ~= nil)
end

-- Marks a table as an object whose keys are written in this order.
function json.ordered(object, order)
  return setmetatable(object, { order = order })
end

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function encode_string(text)
  return '"' .. text:gsub('[%c"\\]', function(c) return escapes[c] or ("\\u%04x"):format(c:byte()) end) .. '"'
end

-- `path` names the value in errors, because a value that was read may be infinite (1e999). `infinity`: an infinite
-- number is written again instead of refused.
local function encode_number(number, path, infinity)
  if math.type(number) == "integer" then return ("%d"):format(number) end
  if infinity and (number == math.huge or number == -math.huge) then return number > 0 and "1e999" or "-1e999" end
  if number ~= number or number == math.huge or number == -math.huge then
    fail.spec(path, "%s is no finite number", tostring(number))
  end
  for _, format in ipairs { "%.15g", "%.16g" } do
    local text = format:format(number)
    if tonumber(text) == number then return text end
  end
  return ("%.17g"):format(number)
end

local encode

local function encode_array(list, path, infinity)
  local parts = {}
  for i, value in ipairs(list) do parts[i] = encode(value, ("%s[%d]"):format(path, i - 1), infinity) end
  return "[" .. table.concat(parts, ",") .. "]"
end

local function encode_object(object, order, path, infinity)
  local parts, done = {}, {}
  local function add(key)
    if object[key] ~= nil and not done[key] then
      done[key] = true
      local name = path == "" and key or path .. "." .. key
      parts[#parts + 1] = encode_string(key) .. ":" .. encode(object[key], name, infinity)
    end
  end
  for _, key in ipairs(order or {}) do add(key) end
  for key in pairs(object) do add(key) end
  return "{" .. table.concat(parts, ",") .. "}"
end

function encode(value, path, infinity)
  local kind = type(value)
  if kind == "table" then
    if json.is_array(value) then return encode_array(value, path, infinity) end
    local mark = getmetatable(value)
    return encode_object(value, mark and mark.order, path, infinity)
  elseif kind == "string" then
    return encode_string(value)
  elseif kind == "number" then
    return encode_number(value, path, infinity)
  elseif kind == "boolean" then
    return tostring(value)
  elseif kind == "userdata" then -- host.null, which may be in a value that was read
    return "null"
  end
  error("a value that JSON cannot hold: " .. kind)
end

function json.encode(value) return encode(value, "", false) end

-- Encodes a value that will be read and checked again.
function json.encode_unchecked(value) return encode(value, "", true) end

-- Whether two values are equal. An empty table made in Lua is an object unless json.array marked it.
function json.same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  if json.is_array(a) ~= json.is_array(b) then return false end
  if json.is_array(a) then
    for i = 1, math.max(#a, #b) do
      if not json.same(a[i], b[i]) then return false end
    end
    return true
  end
  local more = 0
  for key, value in pairs(a) do
    if not json.same(value, b[key]) then return false end
    more = more + 1
  end
  for _ in pairs(b) do more = more - 1 end
  return more == 0
end

-- The path of the first member in which two values differ, below `path`; nil where they are equal.
function json.difference(a, b, path)
  if json.same(a, b) then return nil end
  if type(a) ~= "table" or type(b) ~= "table" or json.is_array(a) ~= json.is_array(b) then return path end
  if json.is_array(a) then
    for i = 1, math.max(#a, #b) do
      local found = json.difference(a[i], b[i], ("%s[%d]"):format(path, i - 1))
      if found then return found end
    end
  end
  for _, object in ipairs { a, b } do
    for key in pairs(object) do
      local found = json.difference(a[key], b[key], path .. "." .. key)
      if found then return found end
    end
  end
end

return json
