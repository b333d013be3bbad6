-- Failures in the form that the C host reads (gen/sandbox.c): {status, message, field, file, line}.
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

-- The number of edits (insertions, deletions, replacements, swaps of neighbours) that turn a into b.
local function distance(a, b)
  local before, above, row = {}, {}, {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    before, above, row = above, row, { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j) and 0 or 1
      row[j] = math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + same)
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], before[j - 2] + 1)
      end
    end
  end
  return row[#b]
end

local MANY, SHOWN = 40, 5

-- "did you mean 'x'? valid: a, b, c", for a name that is not in `names`. `all` says how to list all names. Where it is
-- given and there are many names, only a few are listed: the nearest ones if one of them may be meant, else the first.
function fail.suggestion(name, names, all)
  local word, distances, sorted = name:sub(1, 64):lower(), {}, {}
  for i, candidate in ipairs(names) do
    distances[candidate], sorted[i] = distance(word, candidate:lower()), candidate
  end
  table.sort(sorted, function(a, b) return distances[a] < distances[b] end)
  local nearest = sorted[1]
  local meant = nearest and distances[nearest] <= math.max(2, #nearest // 3) and
    ("did you mean '%s'? "):format(nearest) or ""
  if all and #names > MANY then
    if meant == "" then sorted = names end
    return ("%svalid: %s, ... (%d; %s)"):format(meant, table.concat(sorted, ", ", 1, SHOWN), #names, all)
  end
  return meant .. "valid: " .. table.concat(names, ", ")
end

return fail
