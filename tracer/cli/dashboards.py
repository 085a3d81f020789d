# SPDX-License-Identifier: MIT
"""`lunatik-socket dashboards export DIR`: Grafana dashboards and Prometheus rules as files."""

import shutil
from pathlib import Path

import click

from tracer.cli.options import CommandGroup
from tracer.errors import TracerError

__all__ = ["command", "dashboards_directory", "export_dashboards"]

_PARTS = ("grafana", "prometheus", "provisioning", "compose.yml")


@click.group("dashboards", cls=CommandGroup)
def command() -> None:
    """Grafana dashboards, Prometheus rules and alerts for the metrics."""


@command.command("export")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def export(directory: Path) -> int:
    """Write the files into DIR: grafana/*.json to import, prometheus/*.yml to load.

    \b
    EXAMPLE
      lunatik-socket dashboards export /etc/lunatik-socket
    """
    for path in export_dashboards(directory):
        click.echo(path)
    return 0


def dashboards_directory() -> Path:
    """The directory of these files: inside the package, or beside it in the source tree."""
    package = Path(__file__).parents[1]
    inside = package / "dashboards"
    return inside if inside.is_dir() else package.with_name("dashboards")


def export_dashboards(directory: Path) -> list[Path]:
    """Copy all files into `directory`, creating it if needed; returns the files written.

    Replaces files of the same name and leaves others alone. Raises TracerError if it cannot write.
    """
    try:
        return [written for part in _PARTS for written in _copy(part, directory)]
    except OSError as error:
        raise TracerError(
            "export the dashboards to",
            str(directory),
            errno=error.errno,
            hint="choose another directory",
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
