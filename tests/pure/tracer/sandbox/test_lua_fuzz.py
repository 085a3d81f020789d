# SPDX-License-Identifier: MIT
"""Random Lua programs in the sandbox: none crashes the process. LUA_PROGRAMS sets how many.

Each program puts together pieces that have broken sandboxes: reader functions, getinfo, raw access
to objects, finalizers, coroutines, patterns, and memory and descriptors that run out.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pure.tracer.sandbox.running import ROOT

PROGRAMS = int(os.environ.get("LUA_PROGRAMS", "50"))

# Functions that the programs use. Everything that is reached is kept and tried as a value.
HEAD = """
local kept = {}
local function keep(...)
  for _, value in ipairs(table.pack(...)) do kept[#kept % 97 + 1] = value end
  return ...
end
local function any(n) return kept[n % math.max(#kept, 1) + 1] end
local function try(f, ...) return keep(pcall(f, ...)) end
local sock, udp, d = socket.new("i", "t"), socket.new("i", "u"), data.new(64)
d:layout{x = {0, 8}, s = {8, 4, "string"}}
udp:bind("127.0.0.1", 0)
keep(sock, udp, d, socket.poll{udp}, data.layout{y = {0, 64}}, 5, "text", -1, 1 << 62, 0.5, {})
"""
PIECES = (
    "load(function() keep(debug.getinfo(2, 'f').func) return any(N) end)",
    "load(function() for l = 0, 9 do keep((debug.getinfo(l) or {}).func) end end)",
    "try(load, string.dump(function() return kept end), 'x', 'b')",
    "for l = 0, 20 do local i = debug.getinfo(l) if i then keep(i.func, i.source, i.what) end end",
    "setmetatable({}, {__gc = function(o) for l = 0, 9 do keep(debug.getinfo(l, 'Sf')) end end})",
    "setmetatable({}, {__gc = function(o) try(d.segment, d, N) try(sock.close, any(N)) end})",
    "setmetatable({}, {__gc = function() local t = {} for i = 1, 9 do t[i] = data.new(9) end end})",
    "setmetatable({}, {__gc = function(o) error(any(N)) end})",
    "for k, v in next, any(N) do keep(k, v) end",
    "rawset(any(N), any(N + 1), any(N + 2))",
    "keep(rawget(any(N), any(N + 3)))",
    "try(rawset, d, 1, any(N)) keep(d[1], d.x, d.s)",
    "d.x, d.s, d[N] = N, 'abcdef', N",
    "keep(tostring(d), #d, d:segment(N % 64, 3))",
    "try(any(N), any(N + 1), any(N + 2))",
    "try(udp.sendmsg, udp, {name = any(N)}, any(N + 1))",
    "try(udp.sendmsg, udp, {name = {udp:getsockname()}}, d) try(udp.recv, udp, N % 99 + 1, 'D')",
    "try(udp.recvmsg, any(N), {iov_len = N}, any(N + 1), 'D')",
    "try(getmetatable(any(N)), any(N))",
    "keep(getmetatable(any(N))) try(setmetatable, any(N), {__index = any(N + 1)})",
    "local co = coroutine.create(function(...) keep(...) coroutine.yield(d) error(any(N)) end) "
    "try(coroutine.resume, co, any(N)) keep(debug.getinfo(co, 1)) try(coroutine.close, co)",
    "local w = coroutine.wrap(function() load(function() coroutine.yield(5) end) end) "
    "try(w) try(w)",
    "local function deep(n) return coroutine.wrap(function() return deep(n + 1) end)() end "
    "try(deep, 0)",
    "try(table.sort, {3, 1, 2}, function(a, b) keep(debug.getinfo(2, 'f')) return any(N) end)",
    "try(string.gsub, ('ab'):rep(N % 50), '(a?)b*', function(...) return any(N) end)",
    "try(string.find, ('a'):rep(18), ('a?'):rep(18) .. ('a'):rep(18))",
    "try(string.match, 'x', ('('):rep(N % 40) .. '%f[%w]' .. (')'):rep(N % 40))",
    "try(string.format, '%' .. N .. 's%q', any(N), any(N + 1))",
    "try(string.rep, 'x', 1 << (N % 40))",
    "try(string.unpack, '<!16 i' .. N % 20, tostring(d))",
    "local t = {} try(function() for i = 1, 1e6 do t[i] = data.new(N) end end)",
    "local t = {} try(function() for i = 1, 1e6 do t[i] = socket.new('i', 'u') end end)",
    "local s = 'x' try(function() while true do s = s .. s end end)",
    "local t = {} try(function() while true do t[#t + 1] = {{}} end end) try(d.segment, d)",
    "collectgarbage(N % 2 == 0 and 'generational' or 'incremental') collectgarbage()",
    "collectgarbage('stop') collectgarbage('step', N)",
    "try(xpcall, any(N), function(e) keep(debug.traceback(e), debug.getinfo(1, 'f')) error(e) end)",
    "do local s <close> = socket.new('i', 't') try(s.connect, s, '127.0.0.1', 1) end",
    "print(any(N), any(N + 1))",
    "try(data.layout, {[any(N)] = any(N + 1)}) try(data.layout, {z = {N, 1 << (N % 40)}})",
    "error(any(N))",
    "os.exit(N % 3)",
)


def program(seed: int) -> str:
    choose = random.Random(seed)
    body = []
    for number in range(choose.randint(3, 25)):
        piece = choose.choice(PIECES[:-2] if number < 3 else PIECES)
        body.append(f"pcall(function() {piece.replace('N', str(choose.randint(0, 200)))} end)")
    if choose.random() < 0.2:
        body.append(choose.choice(PIECES[-2:]).replace("N", str(choose.randint(0, 200))))
    return HEAD + "\n".join(body)


# Starts each program in a fork, which saves the time of starting Python.
DRIVER = """
import os, sys
import lupa.lua54
from tracer.sandbox.command import run
from tracer.sandbox.settings import Settings

directory, *seeds = sys.argv[1:]
for seed in seeds:
    child = os.fork()
    if not child:
        errors = os.open(f"{directory}/{seed}.err", os.O_WRONLY | os.O_CREAT)
        os.dup2(errors, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        run(Settings(True, 16 << 20, 5), f"{directory}/{seed}.lua", [])
    print(seed, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.timeout(120 + 10 * PROGRAMS)
def test_no_program_crashes_the_process(tmp_path: Path) -> None:
    for seed in range(PROGRAMS):
        (tmp_path / f"{seed}.lua").write_text(program(seed))
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path), *map(str, range(PROGRAMS))],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    ended = [line.split() for line in done.stdout.splitlines()]
    assert len(ended) == PROGRAMS
    crashed = [
        (seed, status, error[-300:])
        for seed, status in ended
        if (error := (tmp_path / f"{seed}.err").read_text(errors="replace")) is not None
        # 152: it has used its time.
        if status not in ("0", "1", "2", "152") or "Traceback (most" in error
    ]
    assert crashed == []
