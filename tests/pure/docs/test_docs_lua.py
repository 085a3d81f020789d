# SPDX-License-Identifier: MIT
"""The examples of docs/lua.md run and print what the page says; its names are the program's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lunatik_socket import lua
from tests.pure.lunatik_socket.lua.scripts import printed

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "lua.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```lua\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", EXAMPLES)
@pytest.mark.parametrize("sandbox", [False, True])
def test_an_example_prints_what_the_page_says(code: str, sandbox: bool) -> None:
    shown = re.findall(r"-- → (.*)$", code, re.MULTILINE)
    assert shown
    lines = printed(code.replace("→", "->"), sandbox=sandbox)
    assert [line.replace("\t", " ") for line in lines] == shown


def test_each_example_of_the_folder_is_on_the_page() -> None:
    for path in (ROOT / "examples" / "lua").iterdir():
        assert f"`examples/lua/{path.name}`" in TEXT


def test_the_page_lists_the_functions_of_os_in_a_sandbox() -> None:
    code = "local t = {} for k in pairs(os) do t[#t + 1] = '`' .. k .. '`' end table.sort(t)"
    (names,) = printed(f"{code} print('`os` has ' .. table.concat(t, ', '))", sandbox=True)
    assert names in " ".join(TEXT.split())


def test_public_names_are_on_the_page() -> None:
    for name in lua.__all__:
        assert name in TEXT
