-- SPDX-License-Identifier: MIT
-- An echo server for many clients, with only the documented calls:
--
--   lunatik-socket run examples/lua/echo.lua [PORT]          try: nc 127.0.0.1 10007
--
-- One loop waits on all sockets at once and serves the socket that can be read. The calls block, as
-- they do in the kernel: a client that does not read delays all others.

local port = math.tointeger(arg and arg[1] or 10007)

local server = socket.new("inet", "tcp")
server:setsockopt("s", "ra", 1) -- SO_REUSEADDR: can be started again at once
server:bind("127.0.0.1", port)
server:listen(128)
print(("echo on %s:%d"):format(server:getsockname()))

-- One buffer for all clients: it keeps nothing from one call to the next.
local buffer = data.new(65536)

local function send_all(sock, size)
  local sent = 0
  while sent < size do
    -- A segment shares the memory of its buffer, so nothing is copied.
    sent = sent + sock:send(buffer:segment(sent, size - sent))
  end
end

-- Returns false when the client has closed its side.
local function serve(client)
  local _, size = client:recv(buffer)
  if size == 0 then
    return false
  end
  send_all(client, size)
  return true
end

local members = { server }

local function without(sock)
  local rest = {}
  for _, member in ipairs(members) do
    if member ~= sock then
      rest[#rest + 1] = member
    end
  end
  return rest
end

-- A poll has a fixed set of sockets, so a new one is made when the set changes.
local poll = socket.poll(members)

while true do
  local _, ready = poll:select()
  if ready == server then
    members[#members + 1] = server:accept()
    poll = socket.poll(members)
  else
    -- An error of the kernel is raised as a number, such as -104 (ECONNRESET) after a reset. Any
    -- other error is a bug in this script, and is raised again.
    local done, result = pcall(serve, ready)
    if not done and math.type(result) ~= "integer" then
      error(result, 0)
    end
    if not done or not result then
      ready:close()
      members = without(ready)
      poll = socket.poll(members)
    end
  end
end
