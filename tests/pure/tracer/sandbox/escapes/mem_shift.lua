-- SPDX-License-Identifier: MIT
-- A field's handle is an ordinary key of an ordinary table: put a table with __index there, and Python
-- computes 1 << (whatever the script says): gigabytes of Python's memory under --memory 1M.
local d = data.new(8):layout({ x = { 0, 8 } })
local FIELDS
for k, v in next, d do if type(v) == "table" and rawget(v, "x") then FIELDS = k end end
local n = 0
local fake = setmetatable({}, { __index = function(_, key)
  if key == "is_string" then return false end
  if key == "offset" then return 0 end
  if key == "endian" then return "big" end
  if key == "length" then n = n + 1; return n <= 3 and 8 or (1 << 34) end
end })
rawset(d, FIELDS, { x = { handle = fake, is_string = false } })
print(pcall(function() return d.x end))
