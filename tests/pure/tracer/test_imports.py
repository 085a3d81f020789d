# SPDX-License-Identifier: MIT
"""The folders of `tracer`, and which modules may import which.

Read from the source with `ast`, so that imports inside functions count too.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("tracer", "lunatik_socket")
FOLDERS = {
    "cli",
    "doctor",
    "exporter",
    "kernel",
    "loading",
    "model",
    "privileges",
    "process",
    "reading",
    "sandbox",
    "terminal",
}
OUTSIDE_THE_FOLDERS = {"__init__", "__main__", "errors", "reader", "session"}


def modules() -> dict[str, Path]:
    """Every module of the two packages by its dotted name; a package has its own name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imported(name: str, source: str, *, is_package: bool = False) -> set[str]:
    """The modules that this source imports; `from package import module` is that module."""
    return {
        target
        for node in ast.walk(ast.parse(source))
        for target in _targets(node, name.split(".")[: None if is_package else -1])
    }


def _targets(node: ast.AST, package: list[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package[: len(package) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            whole = f"{base}.{alias.name}"
            yield whole if whole in MODULES else base


IMPORTS = {
    name: imported(name, path.read_text(), is_package=path.name == "__init__.py")
    for name, path in MODULES.items()
}


def folder(module: str) -> str:
    """`tracer.cli` for `tracer.cli.entry`; `tracer.session` counts as a folder."""
    return ".".join(module.split(".")[:2])


def cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """One cycle of the graph, its first node named again at the end; empty without a cycle."""
    finished: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in finished:
            return []
        for target in sorted(graph.get(node, ())):
            if found := visit(target, [*path, node]):
                return found
        finished.add(node)
        return []

    return next((found for node in sorted(graph) if (found := visit(node, []))), [])


def importers(library: str) -> set[str]:
    return {
        name
        for name, targets in IMPORTS.items()
        if any(target.split(".")[0] == library for target in targets)
    }


def test_a_cycle_is_found_anywhere_in_the_graph() -> None:
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"a"}}) == ["a", "a"]


def test_imports_in_functions_and_relative_imports_are_seen() -> None:
    source = (
        "import os.path\ndef f():\n    from tracer.model import errnos\nfrom ..errors import one\n"
    )
    assert imported("tracer.cli.new", source) == {"os.path", "tracer.model.errnos", "tracer.errors"}
    assert imported("tracer.cli", "from . import entry", is_package=True) == {"tracer.cli.entry"}


def test_every_module_of_the_tracer_is_in_a_listed_folder() -> None:
    tracer = ROOT / "tracer"
    assert {path.stem for path in tracer.glob("*.py")} == OUTSIDE_THE_FOLDERS
    assert {path.parent.name for path in tracer.glob("*/__init__.py")} == FOLDERS


def test_no_modules_import_each_other_in_a_cycle() -> None:
    assert cycle(IMPORTS) == []


def test_no_folders_of_the_tracer_import_each_other_in_a_cycle() -> None:
    folders: dict[str, set[str]] = {}
    for name, targets in IMPORTS.items():
        inside = {folder(target) for target in targets if target.startswith("tracer.")}
        folders.setdefault(folder(name), set()).update(inside - {folder(name)})
    assert cycle(folders) == []


def test_the_socket_api_imports_nothing_of_the_tracer() -> None:
    assert [name for name in importers("tracer") if not name.startswith("tracer")] == []


def test_the_model_imports_only_the_model_and_the_standard_library() -> None:
    for name, targets in IMPORTS.items():
        if folder(name) == "tracer.model":
            foreign = {t for t in targets if t.split(".")[0] not in sys.stdlib_module_names}
            assert {t for t in foreign if folder(t) != "tracer.model"} == set(), name


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("bcc", {"tracer.loading.child", "tracer.doctor.bcc_trial"}),
        ("prometheus_client", {"tracer.exporter.process"}),
        ("bcrypt", {"tracer.exporter.http.login"}),
        ("yaml", {"tracer.exporter.http.config_schema"}),
        ("lupa", {"lunatik_socket.lua.state"}),
    ],
)
def test_a_library_is_imported_only_where_it_belongs(library: str, allowed: set[str]) -> None:
    found = importers(library)
    assert found, f"no module imports {library}: the test does not see it, or it is not needed"
    assert found <= allowed
