"""`lunatik-socket coverage`: what of each operation is counted, from the one table."""

from pathlib import Path

import click

from tracer.operations import OPERATIONS, Bytes, Operation, Subject, SystemCall

__all__ = ["command", "coverage_table", "with_table"]

BEGIN = "<!-- coverage: written by `make coverage` -->"
END = "<!-- coverage ends -->"

_WHAT_COUNTS = {
    Subject.SOCKET: "",
    Subject.ANY_FILE: "on a socket",
    Subject.NEW_SOCKET: "",
    Subject.NO_SOCKET: "",
}


@click.command("coverage")
@click.option("--write", "path", metavar="FILE", help="Put it into FILE, between its marks.")
def command(path: str | None) -> None:
    """Print which system calls count as which operation, as a table in Markdown."""
    if path is None:
        click.echo(coverage_table(), nl=False)
        return
    file = Path(path)
    file.write_text(with_table(file.read_text()))


def coverage_table() -> str:
    """The table, in Markdown."""
    lines = [
        "| operation | system calls that count as it | transport | bytes |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {' | '.join(_cells(operation))} |" for operation in OPERATIONS]
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """A document with the table between its marks; raises ValueError if they are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document has no {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{coverage_table()}{END}{after}"


def _cells(operation: Operation) -> tuple[str, ...]:
    return operation.name, _calls(operation), _transport(operation), _bytes(operation)


def _calls(operation: Operation) -> str:
    groups: dict[str, list[str]] = {}
    for call in operation.system_calls:
        groups.setdefault(_WHAT_COUNTS[call.subject], []).append(f"`{call.name}`")
    return "; ".join(f"{', '.join(names)} {which}".strip() for which, names in groups.items())


def _transport(operation: Operation) -> str:
    nowhere = all(call.subject is Subject.NO_SOCKET for call in operation.system_calls)
    return "`other`" if nowhere else "the socket's"


def _bytes(operation: Operation) -> str:
    return "yes" if any(_moves_data(call) for call in operation.system_calls) else "none"


def _moves_data(call: SystemCall) -> bool:
    return call.bytes is not Bytes.NONE
