# SPDX-License-Identifier: MIT
"""Writes the completions for bash, zsh and fish, from click.

python -m docs.generate.completions DIRECTORY

Each script asks the program itself for the words, so that it never has to change.
"""

import sys
from pathlib import Path

from click.shell_completion import get_completion_class

from tracer.cli.entry import commands
from tracer.errors import PROGRAM

__all__ = ["completions"]

# Shell → the file name that it looks for.
FILES = {"bash": PROGRAM, "zsh": f"_{PROGRAM}", "fish": f"{PROGRAM}.fish"}
VARIABLE = "_LUNATIK_SOCKET_COMPLETE"


def completions() -> dict[str, str]:
    """The text of each script by the shell's name."""
    found = {}
    for shell in FILES:
        kind = get_completion_class(shell)
        assert kind is not None
        found[shell] = _plain(kind)(commands, {}, PROGRAM, VARIABLE).source()
    return found


def _plain(kind: type) -> type:
    """Without click's check of the version of bash, which starts the bash of the build machine."""
    return type(kind.__name__, (kind,), {"_check_version": staticmethod(lambda: None)})


def main(directory: Path) -> None:
    """Write each script into the directory of its shell."""
    for shell, text in completions().items():
        (directory / shell).mkdir(parents=True, exist_ok=True)
        (directory / shell / FILES[shell]).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
