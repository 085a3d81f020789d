"""Where the dashboards, rules and provisioning files are, and how they get elsewhere."""

import errno
import os
import shutil
from pathlib import Path

from tracer.errors import TracerError

__all__ = ["dashboards_directory", "export_dashboards"]

_PARTS = ("grafana", "prometheus", "provisioning", "compose.yml")


def dashboards_directory() -> Path:
    """Return the directory of the installed files: inside the wheel, or in the source tree."""
    inside = Path(__file__).with_name("dashboards")
    return inside if inside.is_dir() else Path(__file__).parent.with_name("dashboards")


def export_dashboards(directory: Path) -> list[Path]:
    """Copy them all into `directory`, which is made if need be; returns the files written.

    Files of the same name there are replaced, others are left alone. Raises TracerError if it
    cannot be written.
    """
    try:
        return [written for part in _PARTS for written in _copy(part, directory)]
    except OSError as error:
        number = error.errno or 0
        cause = f"{os.strerror(number)} ({errno.errorcode.get(number, number)})"
        raise TracerError(
            f'cannot export the dashboards to "{directory}": {cause}; choose another directory'
        ) from None


def _copy(part: str, directory: Path) -> list[Path]:
    source = dashboards_directory() / part
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    written = []
    for file in files:
        target = directory / file.relative_to(source.parent)
        if file.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            written.append(target)
    return written
