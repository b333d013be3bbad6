-- Failures as the C host reads them (gen/sandbox.c): {status, message, field, file, line}.
local fail = {}

-- A spec's field has an impossible value.
function fail.spec(field, text, ...)
  error { status = "spec", field = field, message = field .. ": " .. text:format(...) }
end

-- A valid spec asks for something that no kernel has yet.
function fail.unsupported(field, text, ...)
  error { status = "unsupported", field = field, message = field .. ": " .. text:format(...) }
end

function fail.argument(field, text, ...)
  error { status = "argument", field = field, message = field .. ": " .. text:format(...) }
end

-- A fault in a file under templates/.
function fail.template(file, line, text, ...)
  error { status = "template", file = file, line = line, message = text:format(...) }
end

-- Edits (insertions, deletions, replacements) that turn a into b, as far as `most` matters.
local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local diagonal = row[0]
    row[0] = i
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j) and 0 or 1
      diagonal, row[j] = row[j], math.min(row[j] + 1, row[j - 1] + 1, diagonal + same)
    end
  end
  return row[#b]
end

-- "did you mean 'x'? valid: a, b, c", for a name that is none of `names`.
function fail.suggestion(name, names)
  local best, nearest
  for _, candidate in ipairs(names) do
    local d = distance(name:sub(1, 64):lower(), candidate:lower())
    if d <= math.max(2, #candidate // 3) and (not best or d < best) then
      best, nearest = d, candidate
    end
  end
  local valid = "valid: " .. table.concat(names, ", ")
  return nearest and ("did you mean '%s'? %s"):format(nearest, valid) or valid
end

return fail
