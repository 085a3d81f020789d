-- SPDX-License-Identifier: MIT
-- Converts tables of integers to strings of bytes, and back.

local fail, check = ...
local byte, char, concat, move, min = string.byte, string.char, table.concat, table.move, math.min
local math_type, as_integer = math.type, check.as_integer

local AT_ONCE = 4096 -- values put on Lua's stack in one step

local octets = {}
for value = 0, 255 do
  octets[value] = char(value)
end

local bytes = {}

-- Integers are taken modulo 256.
function bytes.pack(list, what)
  local parts = {}
  for index = 1, #list do
    local value = list[index]
    local whole = math_type(value) == "integer" and value or as_integer(value)
    if not whole then
      local name = fail.type_name(value)
      fail.wrong(("%s must hold integers only, not %s at index %d"):format(what, name, index))
    end
    parts[index] = octets[whole & 255]
  end
  return concat(parts)
end

function bytes.unpack(text)
  local size = #text
  if size <= AT_ONCE then
    return { byte(text, 1, size) }
  end
  local list = {}
  for first = 1, size, AT_ONCE do
    local last = min(first + AT_ONCE - 1, size)
    move({ byte(text, first, last) }, 1, last - first + 1, first, list)
  end
  return list
end

return bytes
