-- Compiles templates. A line whose first non-blank character is % is Lua. In all other lines, ${expression} is
-- replaced. A template becomes one Lua function with the same lines, so that Lua's own messages name the template's
-- lines. The rendered text refers back to these lines with #line.
local host = require "host"
local fail = require "fail"
local f64 = require "environment".f64

local template = {}

local EMIT = "emit_line_"  -- the function that text lines call; a template must not use this name
local MOST_BLANK_LINES = 3 -- lines of Lua that become blank lines rather than a #line

-- ---------------------------------------------------------------- compiling
-- The index of the last character of the string or long bracket at i, or nil where it is not closed.
local function skip_quoted(line, i)
  local quote = line:sub(i, i)
  if quote == "[" then
    local level = line:match("^%[(=*)%[", i)
    return select(2, line:find("]" .. level .. "]", i, true))
  end
  i = i + 1
  while i <= #line do
    local c = line:sub(i, i)
    if c == quote then return i end
    i = i + (c == "\\" and 2 or 1)
  end
end

-- The index of the } that closes the expression that starts at i, or nil.
local function find_end(line, i)
  local depth = 0
  while i and i <= #line do
    local c = line:sub(i, i)
    if c == '"' or c == "'" or line:find("^%[=*%[", i) then
      i = skip_quoted(line, i)
    elseif c == "{" then
      depth = depth + 1
    elseif c == "}" then
      if depth == 0 then return i end
      depth = depth - 1
    end
    i = i and i + 1
  end
end

-- Text that is compiled must be an expression by itself and also in parentheses. A comment would hide the closing
-- parenthesis.
local function check_expression(file, number, expression)
  local message = not expression:find("%S") and "it is empty"
  for _, code in ipairs { "return " .. expression, "return (" .. expression .. ")" } do
    if not message then message = select(2, host.load(code, file)) end
  end
  if message then
    fail.template(file, number, "bad expression ${%s}: %s", expression, (message:gsub("^.-:%d+: ", "")))
  end
end

-- The Lua code for a line of text: emit_line_(number, "text", (expression), "text", …).
local function compile_text(file, number, line, expressions)
  local parts, from = { EMIT .. "(" .. number }, 1
  expressions[number] = {}
  while true do
    local open = line:find("${", from, true)
    parts[#parts + 1] = ("%q"):format(line:sub(from, (open or 0) - 1))
    if not open then break end
    local close = find_end(line, open + 2)
    if not close then fail.template(file, number, "${ is not closed on its line") end
    local expression = line:sub(open + 2, close - 1)
    check_expression(file, number, expression)
    table.insert(expressions[number], expression)
    parts[#parts + 1] = "(" .. expression .. ")"
    from = close + 1
  end
  return table.concat(parts, ", ") .. ")"
end

local function compile_message(message)
  message = message:gsub("near '" .. EMIT .. "'", "before this line of text")
  return message
end

-- Returns {file=, chunk=, expressions=}; `chunk` is a function of emit_line_ and the environment.
function template.compile(file, text)
  local lines, expressions, number = {}, {}, 0
  for line in (text:gsub("\r\n", "\n"):gsub("\n$", "") .. "\n"):gmatch("(.-)\n") do
    number = number + 1
    local code = line:match("^%s*%%(.*)$")
    lines[number] = code or compile_text(file, number, line, expressions)
  end
  local lua = "local " .. EMIT .. " <const>, _ENV = ... " .. table.concat(lines, "\n") .. "\n"
  local chunk, message = host.load(lua, file)
  if not chunk then
    local line, what = message:match("^.-:(%d+): (.*)$")
    fail.template(file, math.min(tonumber(line) or 1, number), "%s", compile_message(what or message))
  end
  return { file = file, chunk = chunk, expressions = expressions }
end

-- ---------------------------------------------------------------- rendering
-- The text of an expression's value.
local function to_text(file, number, expression, value)
  if type(value) == "string" then return value end
  if math.type(value) == "integer" then return ("%d"):format(value) end
  if math.type(value) == "float" and value == value and math.abs(value) ~= math.huge then return f64(value) end
  local shown = value == nil and "nil" or type(value) == "number" and "no finite number" or "a " .. type(value)
  fail.template(file, number, "${%s} is %s; it must be a string or a finite number", expression, shown)
end

-- Collects the lines of text that no compiler reads.
local function plain_output()
  local out = {}
  return out, function(_, text) out[#out + 1] = text end
end

-- Collects lines of text, and keeps the compiler's line number equal to that of the template.
local function new_output(file, banner)
  local out, expected, continued = { banner }, nil, false
  local function synchronize(number)
    if continued or number == expected then return end
    local gap = expected and number - expected or -1
    if gap > 0 and gap <= MOST_BLANK_LINES then
      for _ = 1, gap do out[#out + 1] = "" end
    else
      out[#out + 1] = ('#line %d "%s"'):format(number, file)
    end
    expected = number
  end
  local function put(number, text)
    synchronize(number)
    out[#out + 1] = text
    local _, breaks = text:gsub("\n", "")
    expected = (expected or number) + breaks + 1
    continued = text:sub(-1) == "\\" -- a directive must not interrupt a macro
  end
  return out, put
end

-- The rendered text of a compiled template in an environment; `banner` comes first. Without a banner the text has no
-- #line directives either.
function template.render(compiled, environment, banner)
  local file = compiled.file
  local out, put = (banner and new_output or plain_output)(file, banner)
  local function emit(number, text, ...)
    local count = select("#", ...)
    if count > 0 then
      local parts, values = { text }, { ... }
      for i = 1, count, 2 do
        local expression = compiled.expressions[number][(i + 1) // 2]
        parts[#parts + 1] = to_text(file, number, expression, values[i])
        parts[#parts + 1] = values[i + 1]
      end
      text = table.concat(parts)
    end
    put(number, text)
  end
  compiled.chunk(emit, environment)
  return table.concat(out, "\n") .. "\n"
end

return template
