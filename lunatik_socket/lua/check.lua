-- SPDX-License-Identifier: MIT
-- Checks of arguments. Each returns the value that Python gets, or raises a message that names the
-- argument.

local fail = ...
local wrong, type_name = fail.wrong, fail.type_name
local math_type, tointeger, type = math.type, math.tointeger, type
local tonumber, tostring = tonumber, tostring

local check = {}

-- Returns the number, also of a numeric string, as Lua's own functions do; nil for anything else.
function check.as_number(value)
  if math_type(value) then
    return value
  end
  return type(value) == "string" and tonumber(value) or nil
end
local as_number = check.as_number

-- Returns the integer; nil for anything that is not a whole number.
function check.as_integer(value)
  local number = as_number(value)
  return number and tointeger(number)
end
local as_integer = check.as_integer

function check.integer(value, what)
  local whole = as_integer(value)
  if not whole then
    wrong(("%s must be an integer, not %s"):format(what, type_name(value)))
  end
  return whole
end

function check.table(value, what)
  if type(value) ~= "table" then
    wrong(("%s must be a table, not %s"):format(what, type_name(value)))
  end
  return value
end

-- The name of a family, a type, a level or an option.
function check.name(value, what)
  if type(value) ~= "string" then
    wrong(("invalid %s name %s: must be a string"):format(what, tostring(value)))
  end
  return value
end

function check.address(value)
  if type(value) == "string" then
    return value
  end
  local whole = as_integer(value)
  if not whole then
    wrong(("address must be a string or an integer, not %s"):format(type_name(value)))
  end
  return whole
end

function check.flags(value)
  if value == nil then
    return 0
  end
  local whole = as_integer(value)
  if not whole and type(value) == "string" then
    return value -- letters
  end
  if not whole then
    wrong(("flags must be an integer or a string, not %s"):format(type_name(value)))
  end
  return whole
end

return check
