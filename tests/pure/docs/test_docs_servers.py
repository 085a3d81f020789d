# SPDX-License-Identifier: MIT
"""The example of docs/servers.md runs, and its table of settings equals the configuration."""

import dataclasses
import re
from pathlib import Path

import pytest

from lunatik_socket.servers.echo import EchoConfig
from lunatik_socket.servers.server import ServerConfig
from lunatik_socket.servers.socks4 import Socks4Config

PAGE = Path(__file__).parents[3] / "docs" / "servers.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_example_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    exec(compile(code, str(PAGE), "exec"), {"__name__": "example"})
    assert capsys.readouterr().out.splitlines() == re.findall(r"# → (.*)$", code, re.MULTILINE)


_PARTS_OF_MAX_CLIENTS = {
    "max_clients_per_address": "a quarter",
    "max_requests_per_address": "an eighth",
}


def _shown(name: str, value: object) -> str:
    if name in _PARTS_OF_MAX_CLIENTS:
        return _PARTS_OF_MAX_CLIENTS[name]
    if isinstance(value, tuple):
        return f"{value[0]}:{value[1]}" if value else "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "any" if value is None else f"{value:,g}"


@pytest.mark.parametrize(("config", "column"), [(EchoConfig, 2), (Socks4Config, 3)])
def test_the_table_of_settings_equals_the_configuration(
    config: type[ServerConfig], column: int
) -> None:
    rows = [
        [cell.strip() for cell in line.split("|")]
        for line in TEXT.splitlines()
        if re.match(r"\| `\w+` \|", line)
    ]
    told = {row[1].strip("`"): row[column] for row in rows if row[column]}
    assert told == {
        field.name: _shown(field.name, field.default) for field in dataclasses.fields(config)
    }
