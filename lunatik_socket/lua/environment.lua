-- SPDX-License-Identifier: MIT
-- Sets up a script's globals: Lua's libraries without access to Python and the interpreter, and in
-- a sandbox without access to files and processes.

local python, modules, settings = ...
local load_any, select, type, error, tostring = load, select, type, error, tostring
local pcall, running, tointeger, tonumber = pcall, coroutine.running, math.tointeger, tonumber
local getinfo, own_source = debug.getinfo, settings.own_source
local stdout, concat, pack, write = io.stdout, table.concat, table.pack, python.log
local leave, format = python.exit, string.format

stdout:setvbuf("line")

-- Flushes Lua's buffer first, so that lines of `print` and of `io.write` keep their order.
function print(...)
  local words = pack(...)
  for index = 1, words.n do
    words[index] = tostring(words[index])
  end
  stdout:flush()
  write(concat(words, "\t"))
end

function os.exit(code)
  stdout:flush()
  if code == nil or code == true then
    code = 0
  elseif code == false then
    code = 1
  end
  leave(code & 255)
end

for name, module in next, modules do
  _G[name], package.loaded[name] = module, module
end

if settings.as_lua_is then
  return
end

-- Describes a function, or a level of the stack, like Lua's own. But it returns a function only if
-- the script made it. The script could call the others in ways that they do not expect: functions
-- of this package with made-up handles, or Lua's `load` with bytecode while a reader runs.
local function info_of(subject, what, thread)
  local level = tointeger(tonumber(subject))
  local ours = thread == nil or thread == running()
  if level and ours then
    subject = level + 2 -- above this function and its caller
  end
  thread = thread or running()
  local info = getinfo(thread, subject, what)
  if info and info.func then
    local about = getinfo(info.func, "S")
    if about.what == "C" or about.source == own_source then
      info.func = nil
    end
  end
  return info
end

-- The other functions of `debug` give access to the variables of other functions and to the
-- registry, and through these to Python.
debug = { traceback = debug.traceback }
package.loaded.debug = debug

function debug.getinfo(first, second, third)
  local info
  if type(first) == "thread" then
    info = info_of(second, third or "nSltufr", first)
  else
    info = info_of(first, second or "nSltufr")
  end
  return info -- not a tail call, so that the levels are known
end

_G.python, package.loaded.python = nil, nil

-- Libraries written in C are linked against another copy of Lua and would crash this one.
package.loadlib, package.cpath = nil, ""
for index = #package.searchers, 3, -1 do
  package.searchers[index] = nil
end

if settings.sandbox then
  local loaded = {}
  for _, name in ipairs({ "_G", "coroutine", "debug", "math", "string", "table", "utf8" }) do
    loaded[name] = package.loaded[name]
  end
  for name, module in next, modules do
    loaded[name] = module
  end
  os = { clock = os.clock, date = os.date, difftime = os.difftime, exit = os.exit, time = os.time }
  loaded.os = os

  function require(name)
    local module = loaded[name]
    if module == nil then
      error(format("module '%s' not found: a sandbox has only Lua's own", tostring(name)), 2)
    end
    return module
  end

  local function whole(reader)
    local parts = {}
    for number = 1, math.huge do
      local part = reader()
      if part == nil or part == "" then
        return concat(parts)
      elseif type(part) ~= "string" and type(part) ~= "number" then
        error("reader function must return a string", 0)
      end
      parts[number] = part
    end
  end

  -- Lua does not verify bytecode, so crafted bytecode can reach any memory.
  -- A reader function is called here, and not by Lua's `load`.
  function load(chunk, name, mode, ...)
    if type(chunk) == "function" then
      local read
      read, chunk = pcall(whole, chunk)
      if not read then
        return nil, chunk
      end
      name = name or "=(load)"
    end
    if mode ~= nil and type(mode) == "string" and not mode:find("t", 1, true) then
      return nil, "attempt to load a binary chunk in a sandbox"
    end
    if select("#", ...) > 0 then
      return load_any(chunk, name, "t", (...))
    end
    return load_any(chunk, name, "t")
  end

  io, package, dofile, loadfile = nil, nil, nil, nil
end
