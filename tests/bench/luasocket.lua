-- SPDX-License-Identifier: MIT
-- LuaSocket, measured by api_cost.py. Reads one order per line, `BYTES ROUNDS` or `connections ROUNDS`,
-- and answers with the seconds it took. Both ends of the connection are here, as in the other ways.

local socket = require("socket")

local function pair()
  local listener = assert(socket.bind("127.0.0.1", 0))
  local _, port = listener:getsockname()
  local near = assert(socket.connect("127.0.0.1", port))
  local far = assert(listener:accept())
  listener:close()
  for _, one in ipairs({ near, far }) do
    one:setoption("tcp-nodelay", true)
    one:setoption("send-buffer-size", 1048576)
    one:setoption("recv-buffer-size", 1048576)
  end
  return near, far
end

local function ping_pong(size, rounds)
  local near, far = pair()
  local message = string.rep("x", size)
  local begun = socket.gettime()
  for _ = 1, rounds do
    near:send(message)
    far:receive(size)
    far:send(message)
    near:receive(size)
  end
  local seconds = socket.gettime() - begun
  near:close()
  far:close()
  return seconds
end

local function connections(rounds)
  local listener = assert(socket.bind("127.0.0.1", 0))
  local _, port = listener:getsockname()
  local begun = socket.gettime()
  for _ = 1, rounds do
    local near = socket.tcp()
    near:connect("127.0.0.1", port)
    local far = listener:accept()
    near:close()
    far:close()
  end
  local seconds = socket.gettime() - begun
  listener:close()
  return seconds
end

for line in io.lines() do
  local what, rounds = line:match("(%w+) (%d+)")
  local seconds = what == "connections" and connections(tonumber(rounds))
    or ping_pong(tonumber(what), tonumber(rounds))
  print(("%.9f"):format(seconds))
  io.stdout:flush()
end
