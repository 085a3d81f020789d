-- SPDX-License-Identifier: MIT
-- The API in Lua, measured by api_cost.py. Defines the functions that each round calls; it runs in a
-- State of the library, and Python takes the time.

local near, far, message, buffer, size

local function tuned(sock)
  sock:setsockopt("t", "nd", 1)
  sock:setsockopt("s", "s", 1048576)
  sock:setsockopt("s", "r", 1048576)
  return sock
end

local function listening()
  local listener = socket.new("inet", "tcp")
  listener:bind("127.0.0.1", 0)
  listener:listen(16)
  local _, port = listener:getsockname()
  return listener, port
end

function prepare(bytes)
  local listener, port = listening()
  near = tuned(socket.new("inet", "tcp"))
  near:connect("127.0.0.1", port)
  far = tuned(listener:accept())
  listener:close()
  size, message, buffer = bytes, data.new(bytes), data.new(bytes)
end

local function receive(sock)
  local _, got = sock:recv(buffer)
  while got < size do
    local _, more = sock:recv(buffer)
    got = got + more
  end
end

function ping_pong(rounds)
  for _ = 1, rounds do
    near:send(message)
    receive(far)
    far:send(message)
    receive(near)
  end
end

function connections(rounds)
  local listener, port = listening()
  for _ = 1, rounds do
    local one = socket.new("inet", "tcp")
    one:connect("127.0.0.1", port)
    local other = listener:accept()
    one:close()
    other:close()
  end
  listener:close()
end
