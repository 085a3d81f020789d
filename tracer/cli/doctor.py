# SPDX-License-Identifier: MIT
"""`lunatik-socket doctor`: check what works on this machine and how to fix what does not."""

import json

import click

__all__ = ["command"]

_CANNOT = 3


@click.command("doctor", short_help="Check what works on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--selftest", is_flag=True, help="Make each operation once and check that it is counted."
)
def command(*, as_json: bool, selftest: bool) -> int:
    """Check what works on this machine, and how to fix what does not.

    Exits 0 if socket operations can be traced here, 3 if not.
    """
    return _selftest(as_json) if selftest else _doctor(as_json)


def _doctor(as_json: bool) -> int:
    from tracer.doctor.checks import can_trace, examine, to_json  # noqa: PLC0415

    if as_json:
        checks = list(examine())
        click.echo(json.dumps(to_json(checks), indent=2))
        return 0 if can_trace(checks) else _CANNOT
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    checks = []
    drawn = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in ("check", "", "found"):
        drawn.add_column(name)
    for check in examine():
        checks.append(check)
        found = Text(check.found)
        if check.hint:
            found.append(f"\n-> {check.hint}", style="cyan")
        drawn.add_row(check.name, _verdict(check.ok, required=check.required), found)
    console = Console(highlight=False)
    console.print(drawn)
    if can_trace(checks):
        console.print("socket operations can be traced here", style="green")
        return 0
    console.print("socket operations cannot be traced here", style="bold red")
    return _CANNOT


def _verdict(ok: bool, *, required: bool = True) -> str:
    if ok:
        return "[green]ok[/]"
    return "[bold red]no[/]" if required else "[yellow]no[/]"


def _selftest(as_json: bool) -> int:
    from tracer.doctor.selftest import selftest  # noqa: PLC0415

    outcome = selftest()
    if as_json:
        results = [
            {
                "operation": result.operation,
                "ok": result.ok,
                "expected": result.expected,
                "counted": result.counted,
                "expected_bytes": result.expected_bytes,
                "counted_bytes": result.counted_bytes,
            }
            for result in outcome.results
        ]
        document = {"ok": outcome.ok, "operations": results, "lost": outcome.lost}
        click.echo(json.dumps(document, indent=2))
        return 0 if outcome.ok else _CANNOT
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    drawn = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    drawn.add_column("operation")
    for name in ("calls", "counted", "bytes", "counted"):
        drawn.add_column(name, justify="right")
    drawn.add_column("")
    for result in outcome.results:
        numbers = (
            result.expected,
            result.counted,
            result.expected_bytes,
            result.counted_bytes,
        )
        drawn.add_row(result.operation, *map(str, numbers), _verdict(result.ok))
    console = Console(highlight=False)
    console.print(drawn)
    lost = ", ".join(f"{count} {reason}" for reason, count in outcome.lost.items())
    console.print(f"lost: {lost}" if lost else "nothing lost")
    return 0 if outcome.ok else _CANNOT
