-- SPDX-License-Identifier: MIT
local t = {} local ok, e = pcall(function() while true do t[#t + 1] = data.new(1) end end)
print(#t, e) os.exit(0)
