# SPDX-License-Identifier: MIT
"""README and docs agree with the code."""

import json
import re
from pathlib import Path

import click
import pytest

from docs.generate.coverage_table import BEGIN, END, coverage_table, with_table
from tests.pure.tracer.snapshots import aggregate, series, snapshot
from tracer.cli.entry import commands
from tracer.model.operations import FUNCTIONS, OPERATIONS
from tracer.model.snapshot import to_json

ROOT = Path(__file__).parents[3]


def read(name: str) -> str:
    return (ROOT / name).read_text()


def test_the_coverage_table_in_the_readme_is_current() -> None:
    text = read("README.md")
    assert with_table(text) == text, "run make coverage to update it"


def test_the_coverage_table_names_every_traced_call_and_function() -> None:
    table = coverage_table()
    for operation in OPERATIONS:
        for call in operation.system_calls:
            assert f"`{call.name}`" in table
    for function in FUNCTIONS:
        assert (f"`{function.name}`" in table) is (function.operation is not None)
    assert "`write`, `writev`, `sendfile64` on a socket" in table


def test_a_document_without_table_marks_is_an_error() -> None:
    with pytest.raises(ValueError, match="the document has no <!-- coverage"):
        with_table("nothing")
    assert with_table(f"a\n{BEGIN}\nold\n{END}\nb").startswith(f"a\n{BEGIN}\n| operation |")


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "docs/cli.md", "docs/json.md"])
def test_links_to_files_exist(path: str) -> None:
    here = (ROOT / path).parent
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", read(path)):
        if not target.startswith("http"):
            assert (here / target).exists(), target


def every_command(command: click.Command, path: str = "") -> dict[str, click.Command]:
    if not isinstance(command, click.Group):
        return {path.strip(): command}
    context = click.Context(command)
    found: dict[str, click.Command] = {}
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        found |= every_command(inner, f"{path} {name}")
    return found


def test_docs_name_every_command_and_every_option() -> None:
    text = read("docs/cli.md")
    for path, command in every_command(commands).items():
        assert f"lunatik-socket {path}" in text, path
        for parameter in command.params:
            for option in parameter.opts + parameter.secondary_opts:
                if option.startswith("--"):
                    assert f"`{option}" in text, f"{path} {option}"


def test_docs_name_only_options_that_exist() -> None:
    known = {
        option
        for command in every_command(commands).values()
        for parameter in command.params
        for option in parameter.opts + parameter.secondary_opts
    } | {"--help", "--version"}
    for path in ("README.md", "docs/cli.md"):
        text = re.sub(
            r"`(?:curl|docker|pip|git)[^`]*`|^.*curl --socks4.*$", "", read(path), flags=re.M
        )
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+(?:\.[a-z]+)*", text)) - known <= {
            "--pid=host"
        }


def keys(document: object, prefix: str = "") -> set[str]:
    if isinstance(document, dict):
        return {f"{prefix}{key}" for key in document}
    return set()


def test_docs_name_every_field_of_the_json() -> None:
    text = read("docs/json.md")
    one = snapshot(
        series(of=aggregate({8: 1}, 1, 1, {"EPIPE": 1})), functions=(series("tcp_sendmsg"),)
    )
    document = json.loads(json.dumps(to_json(one)))
    fields = keys(document) | keys(document["tracer"]) | keys(document["operations"][0])
    for part in ("probes", "maps", "programs"):
        fields |= keys(document["tracer"][part][0])
    for field in fields:
        assert f"`{field}`" in text, field


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", read("Makefile"), re.MULTILINE))


def test_make_targets_named_in_documents_exist() -> None:
    for path in ("README.md", "CONTRIBUTING.md"):
        assert set(re.findall(r"`?\bmake ([a-z][a-z-]+)`", read(path))) <= targets()
