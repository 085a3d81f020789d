# SPDX-License-Identifier: MIT
"""The Python to start: for this program once more, and for the loader, which needs bcc.

It is separate so that the loader does not import the rest of this folder.
"""

import importlib.util
import os
import sys
from pathlib import Path

__all__ = ["loader_interpreter", "own_command", "own_python", "safe_environment"]

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


def safe_environment() -> dict[str, str]:
    """The environment without entries of PYTHONPATH that depend on the current directory.

    An empty entry stands for the current directory, where any user may have put a module.
    """
    environment = dict(os.environ)
    entries = environment.pop("PYTHONPATH", "").split(os.pathsep)
    if kept := [entry for entry in entries if os.path.isabs(entry)]:  # noqa: PTH117
        environment["PYTHONPATH"] = os.pathsep.join(kept)
    return environment


def loader_interpreter() -> str:
    """The Python for the loader: this one, or the system's if only that one has bcc."""
    if importlib.util.find_spec("bcc") or not os.access(_SYSTEM_PYTHON, os.X_OK):
        return sys.executable
    return _SYSTEM_PYTHON
