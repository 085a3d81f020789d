-- SPDX-License-Identifier: MIT
-- How calls fail. An error of the kernel is raised as its code, a negative integer. A wrong
-- argument is raised as a message that begins with the script's file and line.

local own_source = ...
local getinfo, traceback = debug.getinfo, debug.traceback
local error, math_type, type, tostring = error, math.type, type, tostring
local getmetatable = getmetatable

local fail = {}

-- Returns the innermost line of the script. Functions like pcall in between have no line.
local function place()
  local level = 3
  while true do
    local frame = getinfo(level, "Sl")
    if not frame then
      return ""
    end
    if frame.what ~= "C" and frame.source ~= own_source then
      return ("%s:%d: "):format(frame.short_src, frame.currentline)
    end
    level = level + 1
  end
end

function fail.type_name(value)
  return math_type(value) == "integer" and "integer" or type(value)
end

function fail.wrong(message)
  error(place() .. message, 0)
end

-- Raises the cause that Python returned: a code or a message. Lua, too, says without a line that there
-- is not enough memory.
function fail.raise(cause)
  if math_type(cause) == "integer" or cause == "not enough memory" then
    error(cause, 0)
  end
  fail.wrong(cause)
end

-- Returns the values of an answer `true, values...`; raises the cause of an answer `false, cause`.
function fail.checked(ok, ...)
  if ok then
    return ...
  end
  fail.raise((...))
end

-- Returns a traceback without the frames of this package.
local function traceback_of_script(message)
  local text = traceback(message, 2):gsub("\n\tlunatik_socket:[^\n]*", "")
  return (text:gsub("\n\t%[C%]: in function 'xpcall'$", ""))
end

-- Makes the handler of an error that the script does not catch. It returns the text to show.
function fail.report(error_name)
  return function(value)
    if type(value) == "userdata" then
      return value -- an exception of Python's, which Python raises again
    end
    local kind = math_type(value)
    if kind == "integer" and value < 0 then
      value = ("error %d%s"):format(value, error_name(value))
    elseif type(value) ~= "string" and not kind then
      local metatable = getmetatable(value)
      local has_text = type(metatable) == "table" and metatable.__tostring
      value = has_text and tostring(value) or ("(error object is a %s value)"):format(type(value))
    end
    return traceback_of_script(tostring(value)) -- a tail call, so it is at level 1
  end
end

return fail
