-- SPDX-License-Identifier: MIT
-- Exceptions that Python raises beyond OSError/TypeError/ValueError come through as they are, with their
-- traceback, whose frames hold the arguments: 16 MB each, none of them counted.
local s = socket.new("inet", "udp")
local SOCKET
for k, v in next, s do SOCKET = k end
local d = data.new(8)
local MEMORY
for k, v in next, d do if type(v) == "userdata" then MEMORY = k end end
local fake = setmetatable({ [SOCKET] = d[MEMORY] or rawget(d, MEMORY) }, getmetatable(s) and nil)
local kept, t = {}, {}
for i = 1, 1 << 20 do t[i] = 65 end
local sendmsg = s.sendmsg
for i = 1, 200 do
  local ok, why = pcall(sendmsg, fake, {}, t)
  kept[i] = why
end
print(type(kept[1]), tostring(kept[1]), "lua KB", collectgarbage("count") // 1)
local f = os.time(); while os.time() - f < 1 do end
