-- SPDX-License-Identifier: MIT
-- What may be passed to a call: each check returns the value as Python is to get it, or raises a
-- message that names the argument.

local fail = ...
local wrong, type_name = fail.wrong, fail.type_name
local math_type, tointeger, type, tostring = math.type, math.tointeger, type, tostring

local check = {}

function check.integer(value, what)
  local whole = math_type(value) and tointeger(value)
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
  local whole = math_type(value) and tointeger(value)
  if not whole then
    wrong(("address must be a string or an integer, not %s"):format(type_name(value)))
  end
  return whole
end

function check.flags(value)
  if value == nil then
    return 0
  end
  if type(value) == "string" then
    return value
  end
  local whole = math_type(value) and tointeger(value)
  if not whole then
    wrong(("flags must be an integer or a string, not %s"):format(type_name(value)))
  end
  return whole
end

return check
