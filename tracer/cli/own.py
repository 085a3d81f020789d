"""Starting this program, or a part of it, once more."""

import sys
from pathlib import Path

__all__ = ["own_command", "own_python"]


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
