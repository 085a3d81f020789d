# SPDX-License-Identifier: MIT
"""The Python to start: for this program once more, and for the loader, which needs bcc.

It is separate so that the loader does not import the rest of this folder.
"""

import importlib.util
import os
import sys
from pathlib import Path

__all__ = ["loader_interpreter", "own_command", "own_python"]

_SYSTEM_PYTHON = "/usr/bin/python3"


def own_command(*arguments: str) -> tuple[str, ...]:
    """The command line that runs this program with these arguments."""
    return own_python("from tracer.cli import main; main()", *arguments)


def own_python(code: str, *arguments: str) -> tuple[str, ...]:
    """The command line that runs `code` with this package, in any working directory."""
    directory = str(Path(__file__).parents[2])
    return (
        sys.executable,
        "-P",
        "-c",
        f"import sys; sys.path.append({directory!r}); {code}",
        *arguments,
    )


def loader_interpreter() -> str:
    """The Python for the loader: this one, or the system's if only that one has bcc."""
    if importlib.util.find_spec("bcc") or not os.access(_SYSTEM_PYTHON, os.X_OK):
        return sys.executable
    return _SYSTEM_PYTHON
