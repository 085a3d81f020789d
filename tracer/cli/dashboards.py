"""`lunatik-socket dashboards export DIR`: the Grafana boards and Prometheus rules, as files."""

from pathlib import Path

import click

from tracer.boards import export_dashboards

__all__ = ["command"]


@click.group("dashboards")
def command() -> None:
    """Grafana dashboards, Prometheus rules and alerts for the metrics."""


@command.command("export")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def export(directory: Path) -> int:
    """Write them into DIR: grafana/*.json to import, prometheus/*.yml to load.

    \b
    EXAMPLE
      lunatik-socket dashboards export /etc/lunatik-socket
    """
    for path in export_dashboards(directory):
        click.echo(path)
    return 0
