-- SPDX-License-Identifier: MIT
-- Memory that Lua's collector does not see: descriptors, and the bytes of data objects.

local limit, bytes_of_data, fail = ...
local collectgarbage, error = collectgarbage, error

local EMFILE, ENFILE = -24, -23
local SOCKET_KB = 2
local OBJECT_BYTES = 512 -- what Python needs besides the bytes themselves

local memory = {}

local debt = 0

-- Tells the collector of so many bytes, as if Lua had allocated them itself.
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

-- Makes sure that `size` bytes are to be had. Without it Lua would run out of memory inside a
-- function of Python's, and jump out of that without ending it.
local function room(size)
  if used() + size > limit then
    collectgarbage()
    if used() + size > limit then
      error("not enough memory", 0)
    end
  end
end

memory.room = limit and room or function() end

-- For a function of Python's that gives Lua more than integers.
function memory.guarded(call)
  if not limit then
    return call
  end
  return function(...)
    room(0)
    return call(...)
  end
end

-- Calls what makes a descriptor. When there are none left, those of dropped sockets are
-- collected, and it is tried once more.
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
