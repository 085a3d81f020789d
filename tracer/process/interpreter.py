# SPDX-License-Identifier: MIT
"""Which Python runs what: this program once more, and the loader that needs bcc."""

import importlib.util
import os
import sys
from pathlib import Path

__all__ = ["loader_interpreter", "own_command", "own_python"]

_SYSTEM_PYTHON = "/usr/bin/python3"


def own_command(*arguments: str) -> tuple[str, ...]:
    """Return the command line of this program with these arguments."""
    return own_python("from tracer.cli import main; main()", *arguments)


def own_python(code: str, *arguments: str) -> tuple[str, ...]:
    """Return what runs `code` with this package, whatever the working directory or PATH hold."""
    directory = str(Path(__file__).parents[2])
    return (
        sys.executable,
        "-P",
        "-c",
        f"import sys; sys.path.append({directory!r}); {code}",
        *arguments,
    )


def loader_interpreter() -> str:
    """The Python that the loader runs in: ours, or the system's if only that has bcc."""
    if importlib.util.find_spec("bcc") or not os.access(_SYSTEM_PYTHON, os.X_OK):
        return sys.executable
    return _SYSTEM_PYTHON
