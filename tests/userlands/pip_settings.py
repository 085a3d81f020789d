# SPDX-License-Identifier: MIT
"""How pip reaches its packages on this machine, put so that another userland's pip does the same.

An index may be anywhere: the public one, a proxy with a certificate of its own, a local directory.
It is read from pip itself at run time, whatever file or variable it comes from.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["configuration", "local_paths", "read"]

LINE = re.compile(r"(?:global|install|:env:)\.([\w-]+)=(.*)")


def read() -> dict[str, str]:
    """Return pip's settings as it will use them."""
    listing = subprocess.check_output(
        [sys.executable, "-m", "pip", "config", "list"], text=True, timeout=60
    )
    return parse(listing.splitlines())


def parse(lines: Iterable[str]) -> dict[str, str]:
    """Read the lines of ``pip config list``; a variable in the environment wins over a file."""
    found = [match for line in lines if (match := LINE.fullmatch(line))]
    found.sort(key=lambda match: match.string.startswith(":env:"))
    return {match[1]: str(ast.literal_eval(match[2])) for match in found}


def configuration(settings: dict[str, str]) -> str:
    """Return a pip.conf with these settings."""
    lines = (f"{key} = {' '.join(value.split())}" for key, value in sorted(settings.items()))
    return "\n".join(["[global]", *lines]) + "\n"


def local_paths(settings: dict[str, str]) -> list[Path]:
    """Return the files and directories that the settings name, to be shown inside too.

    A local index links to its files beside itself, so the directory that it lies in is shown.
    """
    found = set()
    for key, value in settings.items():
        for word in value.split():
            path = Path(word.removeprefix("file://"))
            if path.is_absolute() and path.exists():
                found.add(path.parent if key.endswith("index-url") else path)
    return sorted(found)
