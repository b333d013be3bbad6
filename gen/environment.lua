-- The names that templates and NAME.spec.lua files can use (docs/templates.md lists them). They get read-only views of
-- the libraries, and reading a name that does not exist is an error rather than a silent nil.
local environment = {}

-- A read-only view of a library, in which a missing name is an error.
function environment.view(library, name)
  return setmetatable({}, {
    __index = function(_, key)
      local value = library[key]
      if value == nil then error(("%s.%s does not exist"):format(name, tostring(key)), 2) end
      return value
    end,
    __newindex = function() error(name .. " cannot be changed", 2) end,
  })
end

-- Makes reading a missing key of `t` an error.
function environment.strict(t, name)
  return setmetatable(t, { __index = function(_, key)
    error(("%s has no '%s'"):format(name, tostring(key)), 2)
  end })
end

-- A number as a literal of type double: "0.5", "4.0", "1e-05".
local function f64(x)
  local text = ("%.17g"):format(x)
  for _, shorter in ipairs { "%.15g", "%.16g" } do
    if tonumber(shorter:format(x)) == x then
      text = shorter:format(x)
      break
    end
  end
  if not text:find("^[-%d.e+]+$") then error("no literal for " .. text, 2) end
  return text:find("[.e]") and text or text .. ".0"
end

-- A number as a literal of type float, rounded to nearest.
local function f32(x)
  local rounded = string.unpack("<f", string.pack("<f", x))
  local text = ("%.9g"):format(rounded)
  for _, format in ipairs { "%.8g", "%.7g", "%.6g" } do -- where more digits are too few, fewer are too
    local shorter = format:format(rounded)
    if string.unpack("<f", string.pack("<f", tonumber(shorter))) ~= rounded then break end
    text = shorter
  end
  if not text:find("^[-%d.e+]+$") then error("no literal for " .. text, 2) end
  return (text:find("[.e]") and text or text .. ".0") .. "f"
end

environment.f64, environment.f32 = f64, f32

local shared

local function build()
  local names = {
    string = environment.view(string, "string"),
    table = environment.view(table, "table"),
    math = environment.view(math, "math"),
    rope = environment.view(require "rope", "rope"),
    operand = environment.view(require "operand", "operand"),
    arch = environment.view(require "arch", "arch"),
    work = environment.view(require "work", "work"),
    format = string.format,
    f32 = f32,
    f64 = f64,
    scores_of_codes = require "layout".scores_of_codes,
    ceil_div = function(a, b) return (a + b - 1) // b end,
    constant = function(name, value) return ("constexpr int %s = %d;"):format(name, value) end,
  }
  for _, name in ipairs { "assert", "error", "ipairs", "pairs", "select", "tonumber", "tostring", "type" } do
    names[name] = _G[name]
  end
  return names
end

-- A fresh set of names: the shared helpers and the names of `extra`. Reading any other name is an error.
function environment.helpers(extra)
  shared = shared or build()
  local names = {}
  for key, value in pairs(shared) do names[key] = value end
  for key, value in pairs(extra or {}) do names[key] = value end
  return setmetatable(names, { __index = function(_, key)
    error(("'%s' is not defined"):format(tostring(key)), 2)
  end })
end

return environment
