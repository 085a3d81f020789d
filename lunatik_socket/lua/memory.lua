-- SPDX-License-Identifier: MIT
-- Accounts for what Lua's collector does not see: descriptors, and the bytes of data objects. Keeps
-- the calls into Python safe in a process that has a limit of memory.

local limited, python, fail = ...
local collectgarbage, setmetatable = collectgarbage, setmetatable
local rep, concat, min = string.rep, table.concat, math.min
local checked = fail.checked

local EMFILE, ENFILE = -24, -23
local SOCKET_KB = 2
local OBJECT_BYTES = 512 -- that Python needs for an object besides its bytes
local RESERVE_BYTES = 16384 -- more than the conversion of a call's results needs

local memory = {}

-- How much of a text one call converts.
memory.part_bytes = limited and 2048 or math.maxinteger
local part_bytes = memory.part_bytes

-- Makes a table that only this package can reach: what belongs to an object, by the object. The
-- object itself is an empty table, so that next and rawset find nothing in it.
function memory.private()
  return setmetatable({}, { __mode = "k" })
end

local debt = 0

-- Tells the collector about `size` bytes, as if Lua had allocated them itself.
function memory.allocated(size)
  debt = debt + size + OBJECT_BYTES
  if debt >= 1024 then
    collectgarbage("step", debt // 1024)
    debt = debt % 1024
  end
end

local reserve = setmetatable({}, { __mode = "v" })

-- Wraps a function of Python's whose results need memory of Lua's. If Lua runs out of memory while
-- it converts them, it leaves Python's function by a long jump, without ending it: a crash. So there
-- must be a reserve first. If there is no memory for it, that fails here, in a Lua function, with
-- "not enough memory". Only a weak table holds the reserve: Lua collects it before it gives up.
function memory.guarded(call)
  if not limited then
    return call
  end
  return function(...)
    if not reserve[1] then
      reserve[1] = { rep("x", RESERVE_BYTES) }
    end
    return call(...)
  end
end

-- Returns the first `size` bytes of a buffer, converted in parts that fit the room.
function memory.text(buffer, size)
  if size <= part_bytes then
    return checked(python.text(buffer, 0, size))
  end
  local parts = {}
  for offset = 0, size - 1, part_bytes do
    parts[#parts + 1] = checked(python.text(buffer, offset, min(offset + part_bytes, size)))
  end
  return concat(parts)
end

-- Calls a function that makes an object. If there is no descriptor or no memory left, collects
-- garbage, which closes sockets and frees buffers that the script has dropped, and calls it once
-- more.
function memory.made(call, ...)
  local ok, made = call(...)
  if not ok and (made == EMFILE or made == ENFILE or made == "not enough memory") then
    collectgarbage()
    ok, made = call(...)
  end
  return checked(ok, made)
end
local made = memory.made

function memory.descriptor(call, ...)
  collectgarbage("step", SOCKET_KB)
  return made(call, ...)
end

return memory
