-- SPDX-License-Identifier: MIT
-- Puts the parts together. Its arguments are Python's functions by name, the compiled parts and
-- some settings. It returns the function that runs a script.

local python, parts, settings = ...
local load, xpcall = load, xpcall
local as_function = _G.python.as_function

-- Lua can hold Python's objects, but can only pass them back to Python's functions.
local handle = debug.getmetatable(python.new)
if not settings.as_lua_is then
  local gc = handle.__gc
  for key in next, handle do
    handle[key] = nil
  end
  handle.__gc, handle.__name, handle.__metatable = gc, "handle", "handle"
end

local functions = {}
for name, call in next, python do
  functions[name] = as_function(call)
end

local fail = parts.fail(settings.own_source)
local memory = parts.memory(settings.limited, functions, fail)
for name, call in next, functions do
  if not settings.integers_only[name] then
    functions[name] = memory.guarded(call)
  end
end

functions.as_function = as_function

local check = parts.check(fail)
local bytes = parts.bytes(fail, check)
local memory_of, length_of = memory.private(), memory.private() -- of data objects
local data = parts.data(functions, fail, check, bytes, memory, memory_of, length_of)
local socket = parts.socket(functions, fail, check, bytes, memory, memory_of, length_of)
socket.level, socket.optname = settings.level, settings.optname
local report = fail.report(functions.error_name)
parts.environment(functions, { socket = socket, data = data }, settings)

-- Returns nothing, or the failure: a text with a traceback, or an exception of Python.
return function(source, name, ...)
  local script, message = load(source, name, "t")
  if not script then
    return message
  end
  local arguments = { ... }
  arguments[0] = name:sub(2)
  arg = arguments
  local done, failure = xpcall(script, report, ...)
  if not done then
    return failure
  end
end
