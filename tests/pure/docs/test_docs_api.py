# SPDX-License-Identifier: MIT
"""The examples of docs/api.md run and print what the page says; its tables are complete."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lunatik_socket
from lunatik_socket import options
from lunatik_socket.flags import LETTERS
from lunatik_socket.lua import State
from tests.pure.lunatik_socket import every_call

PAGE = Path(__file__).parents[3] / "docs" / "api.md"
TEXT = PAGE.read_text(encoding="utf-8")
SHOWN = re.compile(r"# → (.*)$", re.MULTILINE)
SHOWN_IN_LUA = re.compile(r"-- → (.*)$", re.MULTILINE)


def examples(language: str) -> Iterator[Any]:
    heading = ""
    pattern = rf"^## ([^\n]*)$|^```{language}\n(.*?)^```$"
    for match in re.finditer(pattern, TEXT, re.MULTILINE | re.DOTALL):
        if match[1] is not None:
            heading = match[1]
        else:
            line = TEXT.count("\n", 0, match.start())
            yield pytest.param("\n" * (line + 1) + match[2], id=f"{heading}, line {line + 2}")


@pytest.mark.parametrize("code", list(examples("python")))
def test_an_example_prints_what_the_page_says(
    code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGPIPE)
    exec(compile(code, str(PAGE), "exec"), {"__name__": "example"})
    assert signal.getsignal(signal.SIGPIPE) == before
    assert capsys.readouterr().out.splitlines() == SHOWN.findall(code)


@pytest.mark.parametrize("code", list(examples("lua")))
def test_an_example_in_lua_prints_what_the_page_says(code: str) -> None:
    lines: list[str] = []
    State(log=lines.append).run(code.encode(), str(PAGE))
    assert [line.replace("\t", " ") for line in lines] == SHOWN_IN_LUA.findall(code)


def section(name: str) -> str:
    match = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert match is not None, f"docs/api.md has no section {name}"
    return match[1]


@pytest.mark.parametrize("operation", every_call.SYSTEM_CALLS)
def test_each_operation_has_a_section_with_an_example(operation: str) -> None:
    assert "```python\n" in section(operation)
    assert "```lua\n" in section(operation)
    calls = set(every_call.SYSTEM_CALLS[operation])
    row = re.search(rf"^\| \[`{operation}`\].*\| ([^|]*) \|$", TEXT, re.MULTILINE)
    assert row is not None
    assert set(re.findall(r"[a-z]+_?[a-z]*\d?", row[1])) >= calls


def test_each_public_name_is_on_the_page() -> None:
    for name in lunatik_socket.__all__:
        assert re.search(rf"\b{name}\b", TEXT), f"docs/api.md does not mention {name}"


def test_each_option_and_each_flag_has_its_row() -> None:
    rows = dict(re.findall(r"\| `(\w+)` \| ((?:SO|TCP|MSG)_\w+)", TEXT))
    flags = {letter for letter in LETTERS if letter.isupper()}
    assert {name: rows[name] for name in options.optname} == dict(options.optname)
    assert {name for name, kernel in rows.items() if kernel.startswith("MSG_")} == flags


def test_each_call_with_extra_system_calls_has_its_row() -> None:
    text = section("Calls that make more than one system call")
    for operation, extra in lunatik_socket.EXTRA_SYSTEM_CALLS.items():
        calls = ", ".join(every_call.SYSTEM_CALLS[operation])
        assert f"| `{operation}` | {calls} |" in text
        assert calls.endswith(", ".join(extra))


@pytest.mark.parametrize(
    "point",
    [
        *("`send` of nothing", "numbers in Lua", "`segment(0, 0)`", "segment that is not inside"),
        *("bytes in Lua", "names of families", "writing a field", "`type(sock)`", "`lov_len`"),
        *("`getsockopt`", "`getsockname`", "`send`", "`select`", "`lpoll:select()`", "ports"),
    ],
)
def test_each_difference_from_the_document_has_its_row(point: str) -> None:
    rows = re.findall(r"^\| (.*?) \| .+ \| .+ \|$", section("Differences from the document"), re.M)
    assert any(row.startswith(point) for row in rows)
