# SPDX-License-Identifier: MIT
"""A Lua state: failures, the sandbox, memory limits, and that Python cannot be reached from it."""

from __future__ import annotations

import gc
import logging
import resource
import sys
from pathlib import Path

import pytest

from lunatik_socket.lua import LuaMissingError, ScriptError, State
from tests.pure.lunatik_socket.lua.limited import printed_with_limit
from tests.pure.lunatik_socket.lua.scripts import CONNECTED, printed

MIB = 1 << 20


def failure(code: str) -> str:
    with pytest.raises(ScriptError) as caught:
        printed(code)
    return str(caught.value)


# ------------------------------------------------------------------ running


def test_arguments_and_the_scripts_name() -> None:
    assert printed("print(arg[0], arg[1], #arg, ...)", "a", "b") == ["script\ta\t2\ta\tb"]


def test_a_first_line_for_the_shell_is_ignored() -> None:
    assert printed("#!/usr/bin/lunatik-socket run\nprint(5)") == ["5"]
    assert failure("#!/x\nerror('here')").startswith("script:2: here\n")


def test_print_takes_what_lua_prints() -> None:
    assert printed("print(nil, 1, 1.5, 'a\\xff', true) print()") == ["nil\t1\t1.5\ta\xff\ttrue", ""]


def test_print_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lunatik_socket.lua"):
        State().run(b"print('50%s', 1)")
    assert caplog.record_tuples == [("lunatik_socket.lua", logging.INFO, "50%s\t1")]


def test_globals_stay_from_one_script_to_the_next() -> None:
    lines: list[str] = []
    state = State(log=lines.append)
    state.run(b"x = 5")
    state.run(b"print(x)")
    assert lines == ["5"]
    with pytest.raises(ScriptError):
        State().run(b"print(x + 1)")


def test_a_failure_has_a_traceback_of_the_scripts_lines() -> None:
    assert failure("local function f()\n  error('oh')\nend\nf()\nprint()") == (
        "script:2: oh\nstack traceback:\n\t[C]: in function 'error'\n"
        "\tscript:2: in local 'f'\n\tscript:4: in main chunk"
    )


def test_an_error_of_the_kernel_is_shown_with_its_name() -> None:
    text = failure("local s = socket.new('i', 't')\ns:connect('127.0.0.1', 1)")
    first, *rest = text.splitlines()
    assert first == "error -111 (ECONNREFUSED): Connection refused"
    assert "\tscript:2: in main chunk" in rest
    assert "lunatik_socket" not in text


@pytest.mark.parametrize(
    ("code", "first"),
    [
        ("x = = 5", "script:1: unexpected symbol near '='"),
        ("error()", "(error object is a nil value)"),
        ("error({})", "(error object is a table value)"),
        ("error(setmetatable({}, {__tostring = function() return 'mine' end}))", "mine"),
        ("error(-99999)", "error -99999"),
        ("error(5)", "5"),
        ("nosuch()", "script:1: attempt to call a nil value (global 'nosuch')"),
        ("local function f() return f() + 1 end f()", "script:1: stack overflow"),
        (
            "socket.new('i', 't'):bind()",
            "script:1: address must be a string or an integer, not nil",
        ),
    ],
)
def test_the_first_line_of_a_failure(code: str, first: str) -> None:
    assert failure(code).splitlines()[0].startswith(first)


def test_bytecode_is_refused() -> None:
    with pytest.raises(ScriptError, match="attempt to load a binary chunk"):
        State().run(b"\x1bLua")


def test_an_exception_of_a_signal_handler_passes_unchanged() -> None:
    class StopError(Exception):
        pass

    def log(_line: str) -> None:
        raise StopError

    with pytest.raises(StopError):
        State(log=log).run(b"print()")


def test_a_missing_lupa_is_a_message_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lupa.lua54", None)
    with pytest.raises(LuaMissingError, match=r"^cannot run Lua: .*; install the package lupa"):
        State()


# ------------------------------------------------------------------ no access to Python

# Follows every reference from the globals, and looks for a value that is neither Lua's own nor an
# opaque handle.
SEARCH = """
local seen, queue, found = {}, {}, {}
local function add(value, path)
  if value ~= nil and not seen[value] then
    seen[value] = true
    queue[#queue + 1] = {value, path}
  end
end
add(_G, "_G")
add(socket.new("i", "t"), "socket")
add(data.new(5), "data")
add(data.layout{x = {0, 8}}, "layout")
add(socket.poll{socket.new("i", "t")}, "poll")
local number = 0
while #queue > 0 do
  local value, path = table.unpack(table.remove(queue))
  number = number + 1
  if type(value) == "table" then
    for k, v in next, value do
      add(k, path .. "[key]")
      add(v, path .. "." .. tostring(k))
    end
  elseif type(value) == "userdata" and not (io and io.type(value)) then
    local usable = pcall(function() return value.__class__ end)
      or pcall(function() return value[0] end) or pcall(function() return value() end)
      or pcall(function() value.x = 1 end) or pcall(function() return #value end)
    if usable then found[#found + 1] = path end
  end
  if type(getmetatable(value)) == "table" then add(getmetatable(value), path .. "(meta)") end
end
assert(number > 100)
print(table.concat(found, " "))
"""


@pytest.mark.parametrize("sandbox", [False, True])
def test_no_object_of_python_can_be_used(sandbox: bool) -> None:
    assert printed(SEARCH, sandbox=sandbox) == [""]


@pytest.mark.parametrize("sandbox", [False, True])
def test_the_ways_to_python_and_the_registry_are_closed(sandbox: bool) -> None:
    code = """
    local names = {}
    for name in pairs(debug) do names[#names + 1] = name end
    table.sort(names)
    print(python, package and package.loaded.python, pcall(require, "python"))
    print(table.concat(names, " "), package and package.loadlib, package and package.cpath)
    print(getmetatable(socket.new("i", "t")), pcall(setmetatable, socket.new("i", "t"), {}))
    """
    first, second, third = printed(code, sandbox=sandbox)
    assert first.startswith("nil\tnil\tfalse\t")
    assert second.rstrip("\t") == (
        "getinfo traceback\tnil\tnil" if sandbox else "getinfo traceback\tnil"
    )
    assert third == "luasocket\tfalse\tcannot change a protected metatable"


# ------------------------------------------------------------------ the sandbox


def test_a_sandbox_has_no_files_and_no_processes() -> None:
    code = """
    print(io, package, dofile, loadfile, os.execute, os.getenv, os.remove, os.rename, os.tmpname)
    print(require("string") == string, require("socket") == socket, pcall(require, "os.path"))
    print(type(os.time()), type(os.clock()), type(os.date()))
    """
    first, second, third = printed(code, sandbox=True)
    assert first == "\t".join(["nil"] * 9)
    assert second.startswith("true\ttrue\tfalse\t")
    assert second.endswith("module 'os.path' not found: a sandbox has only Lua's own")
    assert third == "number\tnumber\tstring"


def test_a_sandbox_loads_text_but_no_bytecode() -> None:
    code = """
    print(load("return 5")(), load("return x", "n", "t", {x = 6})(), load("return x", "n", "bt")())
    print(load(string.dump(function() end)))
    print(load(string.dump(function() end), "n", "b"))
    print(load(function() return nil end) ~= nil, pcall(load("x = ", "=n") or error))
    """
    lines = printed(code, sandbox=True)
    assert lines[0] == "5\t6\tnil"
    assert lines[1] == "nil\tattempt to load a binary chunk (mode is 't')"
    assert lines[2] == "nil\tattempt to load a binary chunk in a sandbox"


def test_without_a_sandbox_files_are_available(tmp_path: Path) -> None:
    (tmp_path / "other.lua").write_text("return 7")
    code = f"package.path = '{tmp_path}/?.lua' print(require('other'), io.open('/dev/null') ~= nil)"
    assert printed(code)[0].startswith("7\t")


# ------------------------------------------------------------------ memory and descriptors

TAKES = {
    "tables": "local t = {} for i = 1, 1e9 do t[i] = {} end",
    "a string": "local s = 'x' while true do s = s .. s end",
    "strings": "local t = {} for i = 1, 1e9 do t[i] = tostring(i) end",
    "buffers": "local t = {} for i = 1, 1e9 do t[i] = data.new(1000) end",
    "one buffer": "data.new(64 << 20)",
    "copies": "local t = {} for i = 1, 1e9 do t[i] = data.new(('x'):rep(1000)) end",
    "a receive": "one:recv(64 << 20)",
    "a message": "one:recvmsg{iov_len = 64 << 20}",
}


@pytest.mark.parametrize("what", TAKES)
def test_above_its_limit_a_script_gets_no_memory(tmp_path: Path, what: str) -> None:
    code = f"""{CONNECTED}
    local function take() {TAKES[what]} end
    local done, cause = pcall(take)
    collectgarbage()
    print(done, cause)
    print(#data.new(MIB // 2), client:send{{1}}, accepted:recv(1)[1])
    """
    lines = printed_with_limit(tmp_path, code.replace("MIB", str(MIB)), 4)
    assert lines == ["false\tnot enough memory", f"{MIB // 2}\t1\t1"]


def test_the_bytes_of_buffers_are_limited_too(tmp_path: Path) -> None:
    fill = "t = {} pcall(function() while true do t[#t + 1] = data.new(MIB) end end)"
    code = f"{fill} print(#t) t = nil".replace("MIB", str(MIB))
    (number,) = printed_with_limit(tmp_path, code, 32)
    assert 28 <= int(number) <= 40


def test_small_objects_are_limited_too(tmp_path: Path) -> None:
    fill = "t = {} pcall(function() while true do t[#t + 1] = data.new(1) end end)"
    code = f"{fill} local n = #t t = nil print(n)"
    (number,) = printed_with_limit(tmp_path, code, 4)
    assert 1000 < int(number) < 100_000


def test_every_call_at_the_limit_fails_or_works_and_the_script_goes_on(tmp_path: Path) -> None:
    code = f"""{CONNECTED}
    local t, d, n = {{}}, data.new(9), 0
    local calls = {{
      function() return socket.new("i", "t") end, function() return data.new(1) end,
      function() return d:segment(1) end, function() return tostring(d) end,
      function() return client:getsockname() end, function() return one:bind("x", 1) end,
      function() one:send(d) return two:recv(9) end, function() return socket.poll{{two}} end,
    }}
    pcall(function() while true do t[#t + 1] = {{}} end end)
    for _ = 1, 50 do
      for _, call in ipairs(calls) do
        if not pcall(call) then n = n + 1 end
      end
    end
    t = nil
    collectgarbage()
    print(n >= 50, #data.new(5))
    """
    assert printed_with_limit(tmp_path, code, 4) == ["true\t5"]


def test_dropped_buffers_are_freed(tmp_path: Path) -> None:
    code = "for i = 1, 2000 do data.new(100000):segment(5) end print(#data.new(100000))"
    assert printed_with_limit(tmp_path, code, 2) == ["100000"]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


@pytest.mark.parametrize("kind", ["t", "u"])
def test_ten_thousand_dropped_sockets_leave_nothing(kind: str) -> None:
    state = State()
    drop = f"for i = 1, 10000 do socket.new('i', '{kind}') end"
    gc.collect()
    before = descriptors()
    state.run(drop.encode())  # once, for the memory that Python and Lua keep for themselves
    first = resident_kib()
    state.run(drop.encode())
    assert resident_kib() - first < 512
    assert descriptors() - before < 500  # the collector keeps up by itself
    state.run(b"collectgarbage() collectgarbage()")
    assert descriptors() == before


def test_the_collector_keeps_up_with_a_big_heap() -> None:
    state = State()
    state.run(f"kept = ('x'):rep({2 * MIB})".encode())
    before = descriptors()
    state.run(b"for i = 1, 5000 do socket.new('i', 'u') end")
    assert descriptors() - before < 2500


def test_dropped_polls_and_accepted_sockets_are_closed_too() -> None:
    state = State()
    state.run(CONNECTED.encode())
    before = descriptors()
    state.run(b"for i = 1, 2000 do socket.poll{listener} end")
    state.run(
        b"for i = 1, 2000 do local c = socket.new('i', 't') c:connect(listener:getsockname())"
        b" c:setsockopt('s', 'l', {1, 0}) listener:accept() end"
    )
    state.run(b"collectgarbage() collectgarbage()")
    assert descriptors() == before


def test_without_descriptors_dropped_sockets_are_collected() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors() + 20, limits[1]))
    try:
        code = "collectgarbage('stop') for i = 1, 500 do socket.new('i', 't') end print('done')"
        assert printed(code) == ["done"]
        keep = "while true do t[#t + 1] = socket.new('i', 'u') end"
        assert printed(f"t = {{}} print(pcall(function() {keep} end))") == ["false\t-24"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_state_that_is_dropped_closes_its_sockets() -> None:
    gc.collect()
    before = descriptors()
    state = State()
    state.run(CONNECTED.encode())
    assert descriptors() == before + 5
    del state
    gc.collect()
    assert descriptors() == before
