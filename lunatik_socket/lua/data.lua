-- SPDX-License-Identifier: MIT
-- The library `data`: buffers with named fields. Their memory belongs to Python.

local python, fail, check, bytes, memory, MEMORY, LENGTH = ...
local checked, wrong, type_name = fail.checked, fail.wrong, fail.type_name
local integer = check.integer
local math_type, tointeger, type = math.type, math.tointeger, type
local setmetatable, tostring, next, ipairs = setmetatable, tostring, next, ipairs

local new, new_from, segment, text = python.new_data, python.new_data_from, python.segment, python.text
local get, set, field = python.get, python.set, python.field
local read, write = python.read, python.write

local FIELDS = {}
local NO_FIELDS = {}

local data, methods, Data = {}, {}, { __name = "data", __metatable = "data" }

local function object(handle, length)
  return setmetatable({ [MEMORY] = handle, [LENGTH] = length, [FIELDS] = NO_FIELDS }, Data)
end

local function self_of(d, name)
  if type(d) ~= "table" or not d[MEMORY] then
    wrong(("self must be a data object, not %s: call d:%s()"):format(type_name(d), name))
  end
  return d
end

local function content(source)
  if type(source) == "string" then
    return source
  end
  if type(source) == "table" then
    return bytes.pack(source, "data")
  end
  wrong(("data must be made from a length, a table or a string, not %s"):format(type_name(source)))
end

local function blank(length)
  if length < 0 then
    wrong(("length must not be negative: %d"):format(length))
  elseif length == 0 then
    return nil
  end
  memory.room(length)
  memory.allocated(length)
  return object(checked(new(length)), length)
end

function data.new(source)
  if source == nil then
    return nil
  end
  if math_type(source) then
    return blank(integer(source, "length"))
  end
  local octets = content(source)
  if octets == "" then
    return nil
  end
  memory.room(#octets)
  memory.allocated(#octets)
  return object(checked(new_from(octets)), #octets)
end

-- Layouts ------------------------------------------------------------------------------------

local Layout = { __name = "layout", __metatable = "layout" }
local KEYS = { "offset", "length", "type", "endian", 1, 2, 3, 4 }
local known = {}
for _, key in ipairs(KEYS) do
  known[key] = true
end

local function word(value, name, what)
  if value ~= nil and type(value) ~= "string" then
    wrong(('%s of field "%s" must be a string, not %s'):format(what, name, type_name(value)))
  end
  return value
end

local function field_of(name, spec)
  if type(name) ~= "string" then
    wrong(("the name of a field must be a string, not %s"):format(type_name(name)))
  end
  check.table(spec, ('field "%s"'):format(name))
  for key in next, spec do
    if not known[key] then
      wrong(('field "%s" has an unknown key "%s"'):format(name, tostring(key)))
    end
  end
  local offset, length = spec.offset or spec[1], spec.length or spec[2]
  local handle, is_string = checked(field(
    name,
    integer(offset, ('offset of field "%s"'):format(name)),
    integer(length, ('length of field "%s"'):format(name)),
    word(spec[3], name, "type"),
    word(spec[4], name, "endian"),
    word(spec.type, name, "type"),
    word(spec.endian, name, "endian")
  ))
  return { handle = handle, is_string = is_string }
end

function data.layout(specs)
  local fields = {}
  for name, spec in next, check.table(specs, "layout") do
    fields[name] = field_of(name, spec)
  end
  return setmetatable({ [FIELDS] = fields }, Layout)
end

-- Methods ------------------------------------------------------------------------------------

function methods.layout(self, layout)
  local fields = check.table(layout, "layout")[FIELDS] or data.layout(layout)[FIELDS]
  self_of(self, "layout")[FIELDS] = fields
  return self
end

function methods.segment(self, offset, length)
  local size = self_of(self, "segment")[LENGTH]
  offset = integer(offset or 0, "offset")
  length = integer(length or size - offset, "length")
  -- Compares with a difference, because a sum could overflow.
  if offset < 0 or length < 0 or offset > size or length > size - offset then
    return nil
  end
  memory.allocated(0)
  return object(segment(self[MEMORY], offset, length), length)
end

-- Reading and writing ------------------------------------------------------------------------

function Data.__len(self)
  return self[LENGTH]
end

function Data.__tostring(self)
  memory.room(self[LENGTH])
  return text(self[MEMORY])
end

function Data.__index(self, key)
  local index = math_type(key) and tointeger(key)
  if index then
    if index >= 1 and index <= self[LENGTH] then
      return get(self[MEMORY], index - 1)
    end
    return nil
  end
  local method = methods[key]
  if method then
    return method
  end
  local wanted = self[FIELDS][key]
  return wanted and read(self[MEMORY], wanted.handle)
end

local function set_byte(self, index, value)
  if index < 1 or index > self[LENGTH] then
    wrong(("index %d is outside of 1 to %d"):format(index, self[LENGTH]))
  end
  set(self[MEMORY], index - 1, integer(value, "a byte") & 255)
end

local function set_field(self, name, wanted, value)
  if not wanted.is_string then
    value = integer(value, ('field "%s"'):format(name))
  elseif type(value) ~= "string" then
    wrong(('field "%s" must be a string, not %s'):format(name, type_name(value)))
  end
  write(self[MEMORY], wanted.handle, value)
end

function Data.__newindex(self, key, value)
  local index = math_type(key) and tointeger(key)
  if index then
    return set_byte(self, index, value)
  end
  local wanted = self[FIELDS][key]
  if wanted then
    set_field(self, key, wanted, value)
  end
end

local function next_byte(self, index)
  if index < self[LENGTH] then
    return index + 1, self[index + 1]
  end
end

function Data.__pairs(self)
  return next_byte, self, 0
end

return data
