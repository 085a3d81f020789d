-- SPDX-License-Identifier: MIT
-- The library `socket`: the documented calls. Each reaches the C method that makes the system call
-- in as few steps as possible. `send` and `recv` with a data object allocate nothing on the way.

local python, fail, check, bytes, memory, memory_of, length_of = ...
local checked, wrong, type_name = fail.checked, fail.wrong, fail.type_name
local integer, name, address, flags_of = check.integer, check.name, check.address, check.flags
local as_number = check.as_number
local error, type, setmetatable, math_type = error, type, setmetatable, math.type
local unpack_table = table.unpack
local pack, unpack, descriptor = bytes.pack, bytes.unpack, memory.descriptor
local part_bytes = memory.part_bytes

local as_function = python.as_function

-- The handles of sockets and polls, the functions that send and receive, and the sockets of a poll.
local socket_of, send_of, recv_of = memory.private(), memory.private(), memory.private()
local poll_of, members_of = memory.private(), memory.private()

local socket = {}
local Socket = { __name = "luasocket", __metatable = "luasocket" }
local Poll = { __name = "lpoll", __metatable = "lpoll" }
Socket.__index, Poll.__index = Socket, Poll

local function object(handle)
  local made = setmetatable({}, Socket)
  socket_of[made] = handle
  return made
end

-- The handle by which Python knows the socket.
local function handle_of(self, call)
  local handle = socket_of[self]
  if not handle then
    wrong(("self must be a socket, not %s: call sock:%s()"):format(type_name(self), call))
  end
  return handle
end

function socket.new(family, kind)
  return object(descriptor(python.new, name(family, "family"), name(kind, "type")))
end

-- Names and connections ----------------------------------------------------------------------

function Socket.bind(self, ip, port)
  checked(python.bind(handle_of(self, "bind"), address(ip), integer(port, "port")))
end

function Socket.listen(self, backlog)
  checked(python.listen(handle_of(self, "listen"), integer(backlog, "backlog")))
end

function Socket.accept(self, flags)
  return object(descriptor(python.accept, handle_of(self, "accept"), flags_of(flags)))
end

function Socket.connect(self, ip, port, flags)
  local handle = handle_of(self, "connect")
  checked(python.connect(handle, address(ip), integer(port, "port"), flags_of(flags)))
end

function Socket.getsockname(self)
  return checked(python.getsockname(handle_of(self, "getsockname")))
end

function Socket.getpeername(self)
  return checked(python.getpeername(handle_of(self, "getpeername")))
end

function Socket.close(self)
  checked(python.close(handle_of(self, "close")))
end

-- Sending ------------------------------------------------------------------------------------

-- Returns the memory of a data object, or the bytes of a table; neither may be empty.
local function sendable(data)
  if type(data) ~= "table" then
    wrong(("data must be a table of integers or a data object, not %s"):format(type_name(data)))
  end
  local source = memory_of[data] or pack(data, "data")
  if source == "" or length_of[data] == 0 then
    wrong("data can not be empty")
  end
  return source
end

local function sender(self)
  local call = as_function(python.sender(handle_of(self, "send")))
  send_of[self] = call
  return call
end

function Socket.send(self, data, flags)
  if not flags then
    local source = memory_of[data]
    if source and length_of[data] > 0 then
      local size = (send_of[self] or sender(self))(source)
      if size < 0 then
        error(size, 0)
      end
      return size
    end
  end
  return checked(python.send(handle_of(self, "send"), sendable(data), flags_of(flags)))
end

local function destination(msghdr)
  local where = msghdr.name
  if where == nil then
    return nil
  end
  check.table(where, "'name'")
  local ip, port = where.addr, where.port
  if ip == nil and port == nil then
    ip, port = where[1], where[2]
  end
  if ip == nil or port == nil then
    wrong(("'name' can not be without '%s'"):format(ip == nil and "addr" or "port"))
  end
  return address(ip), integer(port, "port")
end

function Socket.sendmsg(self, msghdr, data)
  local handle = handle_of(self, "sendmsg")
  local ip, port = destination(check.table(msghdr, "msghdr"))
  local flags = flags_of(msghdr.flags)
  if data == nil then
    wrong("data can not be empty")
  end
  return checked(python.sendmsg(handle, sendable(data), flags, ip, port))
end

-- Receiving ----------------------------------------------------------------------------------

local function recv_octets(self, size, flags)
  local handle = handle_of(self, "recv")
  size = integer(size, "size")
  if size > part_bytes then
    local held, length, got = checked(python.recv_held(handle, size, flags_of(flags)))
    return unpack(memory.text(held, length)), got
  end
  local octets, got = checked(python.recv(handle, size, flags_of(flags)))
  return unpack(octets), got
end

local function receiver(self)
  local call = as_function(python.receiver(handle_of(self, "recv")))
  recv_of[self] = call
  return call
end

function Socket.recv(self, target, flags)
  if type(target) ~= "table" then
    if not as_number(target) then
      wrong(("recv needs a size or a data object, not %s"):format(type_name(target)))
    end
    return recv_octets(self, target, flags)
  end
  local buffer = memory_of[target]
  if not buffer then
    wrong("recv needs a size or a data object, not a table")
  end
  if length_of[target] == 0 then
    wrong("buffer can not be empty")
  end
  if not flags then
    local size = (recv_of[self] or receiver(self))(buffer)
    if size < 0 then
      error(size, 0)
    end
    return target, size
  end
  local handle = handle_of(self, "recv")
  return target, checked(python.recv_into(handle, buffer, flags_of(flags)))
end

-- Writes what the kernel reported of the message into `msghdr`, and leaves its other fields alone.
local function describe(msghdr, length, flags, ip, port)
  msghdr.iov_len, msghdr.flags = length, flags
  msghdr.name = ip and { addr = ip, port = port }
end

local function wanted(msghdr)
  local length = msghdr.iov_len or msghdr.lov_len
  if length == nil then
    wrong("'iov_len' can not be empty")
  end
  return integer(length, "'iov_len'")
end

function Socket.recvmsg(self, msghdr, buffer, flags)
  local handle = handle_of(self, "recvmsg")
  check.table(msghdr, "msghdr")
  if flags == nil and (type(buffer) == "string" or math_type(buffer)) then
    buffer, flags = nil, buffer
  end
  flags = flags_of(flags)
  if buffer == nil then
    local length = wanted(msghdr)
    local held, held_bytes, size, got, ip, port = checked(python.recvmsg(handle, length, flags))
    describe(msghdr, length, got, ip, port)
    return unpack(memory.text(held, held_bytes)), size, msghdr
  end
  local target = memory_of[buffer]
  if not target then
    wrong(("buffer must be a data object, not %s"):format(type_name(buffer)))
  end
  local size, got, ip, port = checked(python.recvmsg_into(handle, target, flags))
  describe(msghdr, #buffer, got, ip, port)
  return buffer, size, msghdr
end

-- Options ------------------------------------------------------------------------------------

function Socket.getsockopt(self, level, optname)
  local handle = handle_of(self, "getsockopt")
  return checked(python.getsockopt(handle, name(level, "level"), name(optname, "option")))
end

-- `val` is an integer; for SO_LINGER a table {on, seconds}, or the two as separate arguments.
function Socket.setsockopt(self, level, optname, val, seconds)
  local handle = handle_of(self, "setsockopt")
  name(level, "level")
  name(optname, "option")
  if type(val) == "table" then
    val, seconds = val[1], val[2]
  end
  val = integer(val, "val")
  seconds = seconds ~= nil and integer(seconds, "seconds") or nil
  checked(python.setsockopt(handle, level, optname, val, seconds))
end

-- Waiting ------------------------------------------------------------------------------------

function socket.poll(socks)
  local handles, members = {}, {}
  for index = 1, #check.table(socks, "sockets") do
    members[index] = socks[index]
    local handle = socket_of[members[index]]
    if not handle then
      wrong(("sockets must hold sockets only, not %s"):format(type_name(members[index])))
    end
    handles[index] = handle
  end
  local handle = descriptor(python.poll, unpack_table(handles))
  local made = setmetatable({}, Poll)
  poll_of[made], members_of[made] = handle, members
  return made
end

function Poll.select(self, timeout_ms)
  local handle = poll_of[self]
  if not handle then
    wrong(("self must be a poll, not %s: call poll:select()"):format(type_name(self)))
  end
  local timeout = as_number(timeout_ms)
  if timeout_ms ~= nil and not timeout then
    wrong(("timeout_ms must be a number, not %s"):format(type_name(timeout_ms)))
  end
  local index = checked(python.select(handle, timeout))
  if index then
    return index, members_of[self][index + 1]
  end
  return nil
end

-- For `local sock <close> = ...`.
Socket.__close = Socket.close

return socket
