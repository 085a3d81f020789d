-- SPDX-License-Identifier: MIT
-- Goes on from escape_load.lua: bytecode with an upvalue index out of range.
local raw
load(function() raw = raw or debug.getinfo(2, "f").func end)
local up = {}
local code = string.dump(function() return up end)
-- GETUPVAL is opcode 9: A=0,B=index. Look for it and change B to 200.
local patched, n = code, 0
for i = 1, #code - 3 do
  local word = string.unpack("<I4", code, i)
  if word & 0x7f == 9 and (word >> 16 & 0xff) == 0 and (word >> 24) == 0 then
    patched = code:sub(1, i - 1) .. string.pack("<I4", (word & ~(0xff << 16)) | 200 << 16) .. code:sub(i + 4); n = n + 1
    break
  end
end
print("patched", n)
local f = assert(raw(patched, "x", "b"))
local ok, v = pcall(f)
print("out of bounds read gave", ok, type(v))
print(v)
