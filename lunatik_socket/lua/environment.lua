-- SPDX-License-Identifier: MIT
-- Sets up a script's globals: Lua's libraries without access to Python and the interpreter, and in
-- a sandbox without access to files and processes.

local python, modules, sandbox = ...
local load_any, select, type, error, tostring = load, select, type, error, tostring
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

-- The other functions of `debug` give access to the variables of other functions and to the
-- registry, and through these to Python.
debug = { traceback = debug.traceback, getinfo = debug.getinfo }
package.loaded.debug = debug
_G.python, package.loaded.python = nil, nil

-- Libraries written in C are linked against another copy of Lua and would crash this one.
package.loadlib, package.cpath = nil, ""
for index = #package.searchers, 3, -1 do
  package.searchers[index] = nil
end

for name, module in next, modules do
  _G[name], package.loaded[name] = module, module
end

if sandbox then
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

  -- Lua does not verify bytecode, so crafted bytecode can reach any memory.
  function load(chunk, name, mode, ...)
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
