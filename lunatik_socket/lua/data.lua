-- SPDX-License-Identifier: MIT
-- The library `data`: buffers with named fields. Their memory belongs to Python.

local python, fail, check, bytes, memory, memory_of, length_of = ...
local checked, wrong, type_name = fail.checked, fail.wrong, fail.type_name
local integer = check.integer
local math_type, tointeger, type = math.type, math.tointeger, type
local setmetatable, tostring, next, ipairs = setmetatable, tostring, next, ipairs

local new, new_from, segment = python.new_data, python.new_data_from, python.segment
local get, set, field = python.get, python.set, python.field
local read, write = python.read, python.write

-- Of data objects with a layout, and of layouts: name -> the field's handle and whether it is a string.
local fields_of = memory.private()
local NO_FIELDS = {}

local data, methods, Data = {}, {}, { __name = "data", __metatable = "data" }

local function object(handle, length)
  local made = setmetatable({}, Data)
  memory_of[made], length_of[made] = handle, length
  return made
end

local function self_of(d, name)
  if not memory_of[d] then
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
  memory.allocated(length)
  return object(memory.made(new, length), length)
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
  memory.allocated(#octets)
  return object(memory.made(new_from, octets), #octets)
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
  local offset = integer(spec.offset or spec[1], ('offset of field "%s"'):format(name))
  local length = integer(spec.length or spec[2], ('length of field "%s"'):format(name))
  local handle, is_string = checked(field(
    name,
    offset,
    length,
    word(spec[3], name, "type"),
    word(spec[4], name, "endian"),
    word(spec.type, name, "type"),
    word(spec.endian, name, "endian")
  ))
  return { handle = handle, is_string = is_string, offset = offset, length = length }
end

function data.layout(specs)
  local fields = {}
  for name, spec in next, check.table(specs, "layout") do
    fields[name] = field_of(name, spec)
  end
  local made = setmetatable({}, Layout)
  fields_of[made] = fields
  return made
end

-- Methods ------------------------------------------------------------------------------------

function methods.layout(self, layout)
  local fields = fields_of[check.table(layout, "layout")] or fields_of[data.layout(layout)]
  fields_of[self_of(self, "layout")] = fields
  return self
end

function methods.segment(self, offset, length)
  local size = length_of[self_of(self, "segment")]
  offset = integer(offset or 0, "offset")
  length = integer(length or size - offset, "length")
  -- Compares with a difference, because a sum could overflow.
  if offset < 0 or length < 0 or offset > size or length > size - offset then
    return nil
  end
  memory.allocated(0)
  return object(memory.made(segment, memory_of[self], offset, length), length)
end

-- Reading and writing ------------------------------------------------------------------------

function Data.__len(self)
  return length_of[self]
end

function Data.__tostring(self)
  return memory.text(memory_of[self], length_of[self])
end

local function string_field(self, offset, length)
  if length <= length_of[self] - offset then
    return memory.text(checked(segment(memory_of[self], offset, length)), length)
  end
end

function Data.__index(self, key)
  local index = math_type(key) and tointeger(key)
  if index then
    if index >= 1 and index <= length_of[self] then
      return get(memory_of[self], index - 1)
    end
    return nil
  end
  local method = methods[key]
  if method then
    return method
  end
  local wanted = (fields_of[self] or NO_FIELDS)[key]
  if not wanted then
    return nil
  elseif wanted.is_string then
    return string_field(self, wanted.offset, wanted.length)
  end
  return checked(read(memory_of[self], wanted.handle))
end

local function set_byte(self, index, value)
  if index < 1 or index > length_of[self] then
    wrong(("index %d is outside of 1 to %d"):format(index, length_of[self]))
  end
  set(memory_of[self], index - 1, integer(value, "a byte") & 255)
end

local function set_field(self, name, wanted, value)
  if not wanted.is_string then
    value = integer(value, ('field "%s"'):format(name))
  elseif type(value) ~= "string" then
    wrong(('field "%s" must be a string, not %s'):format(name, type_name(value)))
  end
  checked(write(memory_of[self], wanted.handle, value))
end

function Data.__newindex(self, key, value)
  local index = math_type(key) and tointeger(key)
  if index then
    return set_byte(self, index, value)
  end
  local wanted = (fields_of[self] or NO_FIELDS)[key]
  if wanted then
    set_field(self, key, wanted, value)
  end
end

local function next_byte(self, index)
  if index < length_of[self] then
    return index + 1, self[index + 1]
  end
end

function Data.__pairs(self)
  return next_byte, self, 0
end

return data
