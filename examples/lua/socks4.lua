-- SPDX-License-Identifier: MIT
-- A SOCKSv4 proxy for many clients (CONNECT to an address), with only the documented calls:
--
--   lunatik-socket run examples/lua/socks4.lua [PORT] --trace
--   curl --socks4 127.0.0.1:1080 http://93.184.216.34/
--
-- A client sends a request and gets an answer. After that, the data of each side is forwarded to
-- the other, until one of them ends. One loop serves all clients with calls that block: all wait
-- while a target is being connected, or while one side does not read. That keeps the script short.
-- For real traffic use `lunatik-socket serve socks4`.

local port = math.tointeger(arg and arg[1] or 1080)

-- The layout of the request, in bits. A user id follows, terminated by a zero byte.
local REQUEST = data.layout({
  version = { 0, 8 },
  command = { 8, 8 },
  port = { 16, 16 },
  ip = { 32, 32 },
})
local REQUEST_BYTES, LONGEST_REQUEST = 8, 264
local CONNECT, GRANTED, REFUSED = 1, 90, 91

local server = socket.new("inet", "tcp")
server:setsockopt("s", "ra", 1)
server:bind("127.0.0.1", port)
server:listen(128)
print(("SOCKSv4 on %s:%d"):format(server:getsockname()))

local requests = {} -- client -> { bytes = buffer of its request, size = bytes received so far }
local other = {} -- each side of a connection -> the other side
local buffer = data.new(65536)

local function send_all(sock, from, size)
  local sent = 0
  while sent < size do
    sent = sent + sock:send(from:segment(sent, size - sent))
  end
end

local function answer(client, code)
  send_all(client, data.new({ 0, code, 0, 0, 0, 0, 0, 0 }), 8)
end

-- Returns a connection to the requested target, or nil if the request is refused or fails.
local function connect(request)
  -- In version 4a an address 0.0.0.x means that a name follows. Names are not supported here.
  if request.version ~= 4 or request.command ~= CONNECT or request.ip >> 8 == 0 then
    return nil
  end
  local target = socket.new("inet", "tcp")
  -- connect takes the address as an integer, and refuses port 0.
  local connected, cause = pcall(target.connect, target, request.ip, request.port)
  if connected then
    return target
  end
  print("refused:", cause)
  target:close()
end

-- Returns the new members and whether the client stays.
local function take_request(client)
  local request = requests[client]
  local _, size = client:recv(request.bytes:segment(request.size))
  request.size = request.size + size
  if size == 0 then
    return {}, false
  end
  local last = request.bytes[request.size]
  if request.size <= REQUEST_BYTES or last ~= 0 then
    return {}, request.size < LONGEST_REQUEST -- not complete yet
  end
  requests[client] = nil
  local target = connect(request.bytes:layout(REQUEST))
  if not target then
    answer(client, REFUSED)
    return {}, false
  end
  other[client], other[target] = target, client
  answer(client, GRANTED)
  return { target }, true
end

-- Forwards the received data. The end of one direction ends the connection.
local function pass_on(sock)
  local _, size = sock:recv(buffer)
  if size == 0 then
    return {}, false
  end
  send_all(other[sock], buffer, size)
  return {}, true
end

local members = { server }

-- Closes a socket and its other side, and removes both from the members.
local function drop(sock)
  local gone = { [sock] = true }
  if other[sock] then
    gone[other[sock]] = true
  end
  local rest = {}
  for _, member in ipairs(members) do
    if not gone[member] then
      rest[#rest + 1] = member
    end
  end
  members = rest
  for member in pairs(gone) do
    member:close()
    requests[member], other[member] = nil, nil
  end
end

local poll = socket.poll(members)

while true do
  local _, ready = poll:select()
  local before = #members
  if ready == server then
    local client = server:accept()
    requests[client] = { bytes = data.new(LONGEST_REQUEST), size = 0 }
    members[#members + 1] = client
  else
    local serve = requests[ready] and take_request or pass_on
    local done, new, stays = pcall(serve, ready)
    if not done and math.type(new) ~= "integer" then
      error(new, 0) -- not an error of the kernel, but a bug in this script
    end
    for _, member in ipairs(done and new or {}) do
      members[#members + 1] = member
    end
    if not done or not stays then
      drop(ready)
    end
  end
  -- A poll has a fixed set of sockets, so a new one is made when the set changes.
  if #members ~= before then
    poll = socket.poll(members)
  end
end
