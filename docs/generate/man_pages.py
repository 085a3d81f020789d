# SPDX-License-Identifier: MIT
"""Writes a man page for each command, from click.

python -m docs.generate.man_pages DIRECTORY

click-man is not used: it sees only groups with a dictionary of commands, and ours import a command
when it is used; it joins the lines of EXAMPLES and does not escape a "." at the start of a line.
"""

import inspect
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from tracer import __version__
from tracer.cli.entry import commands
from tracer.errors import PROGRAM

__all__ = ["man_pages"]

EXIT_STATUS = """\
.TP
.B 0
success, also when ended by Ctrl-C or SIGTERM
.TP
.B 2
wrong usage
.TP
.B 3
the kernel or the machine refuses
.TP
.B other
that of the started command
"""
FILES = """\
.TP
.I /etc/lunatik-socket/config.toml
The settings of lunatik-socket.service; every key is an option of
.BR lunatik\\-socket\\-trace (1).
"""


def man_pages() -> dict[str, str]:
    """The text of each page by file name."""
    return dict(_pages(click.Context(commands, info_name=PROGRAM)))


def _pages(context: click.Context) -> Iterator[tuple[str, str]]:
    yield f"{_name(context)}.1", _page(context)
    for name, command in _inner(context):
        yield from _pages(click.Context(command, info_name=name, parent=context))


def _inner(context: click.Context) -> list[tuple[str, click.Command]]:
    group = context.command
    if not isinstance(group, click.Group):
        return []
    found = ((name, group.get_command(context, name)) for name in group.list_commands(context))
    return [(name, command) for name, command in found if command is not None]


def _name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _page(context: click.Context) -> str:
    name = _name(context)
    parts = [
        f'.TH "{name.upper()}" 1 {_date()} "lunatik\\-socket {__version__}" "User Commands"\n',
        f".SH NAME\n{_plain(name)} \\- {_plain(_summary(context.command))}\n",
        f".SH SYNOPSIS\n.B {_plain(context.command_path)}\n{_plain(_usage(context))}\n",
        *_description(context.command),
        *_list("COMMANDS", (
            (rf"\fB{_plain(inner)}\fR", _plain(_summary(command)))
            for inner, command in _inner(context)
        )),
        *_list("OPTIONS", _options(context)),
        f".SH EXIT STATUS\n{EXIT_STATUS}",
        f".SH FILES\n{FILES}",
        f".SH SEE ALSO\n{_see_also(context)}\n",
    ]  # fmt: skip
    return "".join(parts)


def _date() -> str:
    """The day of the build, or of the release if the build is to be reproducible."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    return time.strftime("%Y-%m-%d", time.gmtime(int(seconds) if seconds else None))


def _summary(command: click.Command) -> str:
    """The first sentence, in lower case and without a full stop, as man pages have it."""
    text = command.get_short_help_str(limit=200).rstrip(".")
    return text[:1].lower() + text[1:]


def _usage(context: click.Context) -> str:
    return " ".join(context.command.collect_usage_pieces(context))


def _description(command: click.Command) -> Iterator[str]:
    """The help; a block after click's "\\b" is an example, and keeps its lines."""
    yield ".SH DESCRIPTION\n"
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        if not paragraph.startswith("\b"):
            yield f".PP\n{_plain(' '.join(paragraph.split()))}\n"
            continue
        title, *lines = paragraph.strip("\b\n").splitlines()
        yield f".SH {title}\n.nf\n" + "".join(f"{_plain(line)}\n" for line in lines) + ".fi\n"


def _options(context: click.Context) -> Iterator[tuple[str, str]]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None:
            names, text = record
            yield rf"\fB{_plain(names)}\fR", _plain(text)


def _list(title: str, entries: Iterator[tuple[str, str]]) -> Iterator[str]:
    found = [f".TP\n{term}\n{text}\n" for term, text in entries]
    if found:
        yield f".SH {title}\n"
        yield from found


def _see_also(context: click.Context) -> str:
    other = [_name(click.Context(c, info_name=n, parent=context)) for n, c in _inner(context)]
    if context.parent is not None:
        other.insert(0, _name(context.parent))
    return " ,\n".join(f".BR {_plain(name)} (1)" for name in other) or ".BR lunatik\\-socket (1)"


def _plain(text: str) -> str:
    """The text without meaning for roff; a "." or "'" at the start of a line is a request."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("…", "...")
    return re.sub(r"^(?=[.'])", r"\\&", escaped, flags=re.MULTILINE)


def main(directory: Path) -> None:
    """Write the pages into the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in man_pages().items():
        (directory / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
