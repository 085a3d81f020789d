# SPDX-License-Identifier: MIT
"""Write the table of operations into README.md: `python -m docs.generate.coverage_table`."""

from pathlib import Path

from tracer.model.operations import FUNCTIONS, OPERATIONS, Bytes, Operation, Subject

__all__ = ["coverage_table", "with_table"]

_README = Path(__file__).parents[2] / "README.md"

BEGIN = "<!-- coverage: written by `make coverage` -->"
END = "<!-- coverage ends -->"


def coverage_table() -> str:
    """The table, in Markdown."""
    lines = [
        '| operation | system calls (`path="user"`) | in the kernel (`path="kernel"`) | bytes |',
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {' | '.join(_cells(operation))} |" for operation in OPERATIONS]
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """Return the document with the table between its marks; ValueError if they are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{coverage_table()}{END}{after}"


def _cells(operation: Operation) -> tuple[str, ...]:
    moves = any(call.bytes is not Bytes.NONE for call in operation.system_calls)
    return operation.name, _calls(operation), _functions(operation), "yes" if moves else ""


def _calls(operation: Operation) -> str:
    """First the calls that always count, then those that count only on a socket."""
    always = [c.name for c in operation.system_calls if c.subject is not Subject.ANY_FILE]
    on_sockets = [c.name for c in operation.system_calls if c.subject is Subject.ANY_FILE]
    parts = [_code(always)] * bool(always)
    parts += [f"{_code(on_sockets)} on a socket"] * bool(on_sockets)
    return "; ".join(parts)


def _functions(operation: Operation) -> str:
    return _code([f.name for f in FUNCTIONS if f.operation == operation.name])


def _code(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    _README.write_text(with_table(_README.read_text()))
