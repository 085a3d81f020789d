-- SPDX-License-Identifier: MIT
-- Accounts for what Lua's collector does not see: descriptors, and the bytes of data objects.

local limit, bytes_of_data, fail = ...
local collectgarbage, error = collectgarbage, error

local EMFILE, ENFILE = -24, -23
local SOCKET_KB = 2
local OBJECT_BYTES = 512 -- that Python needs for an object besides its bytes

local memory = {}

local debt = 0

-- Tells the collector about `size` bytes, as if Lua had allocated them itself.
local function allocated(size)
  debt = debt + size + OBJECT_BYTES
  if debt >= 1024 then
    collectgarbage("step", debt // 1024)
    debt = debt % 1024
  end
end
memory.allocated = allocated

local function used()
  return collectgarbage("count") * 1024 + bytes_of_data()
end

-- Raises "not enough memory" unless `size` more bytes are within the limit. Otherwise Lua could run
-- out of memory inside a function of Python's, and leave it by a long jump without ending it.
local function room(size)
  if used() + size > limit then
    collectgarbage()
    if used() + size > limit then
      error("not enough memory", 0)
    end
  end
end

memory.room = limit and room or function() end

-- Wraps a function of Python's that returns more than integers, so that Lua needs memory for it.
function memory.guarded(call)
  if not limit then
    return call
  end
  return function(...)
    room(0)
    return call(...)
  end
end

-- Calls a function that makes a descriptor. If none is left, collects garbage, which closes the
-- sockets that the script has dropped, and calls it once more.
function memory.descriptor(call, ...)
  collectgarbage("step", SOCKET_KB)
  local ok, made = call(...)
  if not ok and (made == EMFILE or made == ENFILE) then
    collectgarbage()
    ok, made = call(...)
  end
  return fail.checked(ok, made)
end

return memory
