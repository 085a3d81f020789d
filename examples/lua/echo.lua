-- SPDX-License-Identifier: MIT
-- An echo server for many clients, with the documented calls alone:
--
--   lunatik-socket run examples/lua/echo.lua [PORT]          try: nc 127.0.0.1 10007
--
-- One loop waits on all sockets at once and serves the one that can be read. The calls block, as
-- those of a script in the kernel do: a client that takes nothing holds up the others.

local port = math.tointeger(arg and arg[1] or 10007)

local server = socket.new("inet", "tcp")
server:setsockopt("s", "ra", 1) -- SO_REUSEADDR: start again at once
server:bind("127.0.0.1", port)
server:listen(128)
print(("echo on %s:%d"):format(server:getsockname()))

-- One buffer for everybody: between two calls nothing is kept in it.
local buffer = data.new(65536)

local function send_all(sock, size)
  local sent = 0
  while sent < size do
    -- A segment is a part of the same memory: nothing is copied.
    sent = sent + sock:send(buffer:segment(sent, size - sent))
  end
end

-- Returns whether the client is still there.
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

-- A poll is made for a set of sockets, and made anew when the set changes.
local poll = socket.poll(members)

while true do
  local _, ready = poll:select()
  if ready == server then
    members[#members + 1] = server:accept()
    poll = socket.poll(members)
  else
    -- What the kernel refuses is raised as a number, such as -104 when the client has reset the
    -- connection. Anything else is a fault of this script and goes on up.
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
