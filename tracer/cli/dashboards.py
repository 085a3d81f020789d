# SPDX-License-Identifier: MIT
"""`lunatik-socket dashboards export DIR`: Grafana dashboards and Prometheus rules as files."""

import re
import shutil
from pathlib import Path

import click

from tracer.cli.options import CommandGroup
from tracer.errors import TracerError

__all__ = ["command", "dashboards_directory", "export_dashboards"]

_RUNBOOK = "docs/runbook.md"
_URL = re.compile(r"https?://[^\s'\"#]+")
_PARTS = ("grafana", "prometheus", "provisioning", "compose.yml")


def _check_url(_context: click.Context, _option: click.Parameter, url: str | None) -> str | None:
    if url is not None and not _URL.fullmatch(url):
        raise click.BadParameter(f'"{url}" is not a URL (e.g. https://wiki.example/runbook)')
    return url


@click.group("dashboards", cls=CommandGroup)
def command() -> None:
    """Export Grafana dashboards and Prometheus rules."""


@command.command("export")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--runbook-base",
    metavar="URL",
    callback=_check_url,
    help="URL of your copy of docs/runbook.md; every alert then links to its section there.",
)
def export(directory: Path, runbook_base: str | None) -> int:
    """Write the dashboards, rules and alerts into DIR.

    Import grafana/*.json into Grafana, and load prometheus/*.yml in Prometheus.

    \b
    EXAMPLES
      lunatik-socket dashboards export /etc/lunatik-socket
      lunatik-socket dashboards export DIR --runbook-base https://wiki.example/runbook
    """
    for path in export_dashboards(directory, runbook_base):
        click.echo(path)
    return 0


def dashboards_directory() -> Path:
    """The directory of these files: inside the package, or beside it in the source tree."""
    package = Path(__file__).parents[1]
    inside = package / "dashboards"
    return inside if inside.is_dir() else package.with_name("dashboards")


def export_dashboards(directory: Path, runbook_base: str | None = None) -> list[Path]:
    """Copy all files into `directory`, creating it if needed; returns the files written.

    Replaces files of the same name and leaves others alone. With `runbook_base` the `runbook_url`
    of each alert links to its section at that URL. Raises TracerError if it cannot write.
    """
    try:
        return [written for part in _PARTS for written in _copy(part, directory, runbook_base)]
    except OSError as error:
        raise TracerError(
            "export the dashboards to",
            str(directory),
            errno=error.errno,
            hint="choose another directory",
        ) from None


def _link_runbook(alerts: Path, base: str) -> None:
    link = f"runbook_url: {base.rstrip('/')}#"
    alerts.write_text(alerts.read_text().replace(f"runbook_url: {_RUNBOOK}#", link))


def _copy(part: str, directory: Path, runbook_base: str | None) -> list[Path]:
    source = dashboards_directory() / part
    files = sorted(source.rglob("*")) if source.is_dir() else [source]
    written = []
    for file in files:
        target = directory / file.relative_to(source.parent)
        if file.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            if runbook_base is not None and file.name == "alerts.yml":
                _link_runbook(target, runbook_base)
            written.append(target)
    return written
