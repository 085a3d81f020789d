# SPDX-License-Identifier: MIT
"""The parts of the benchmark report, and the report as Markdown."""

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Bars", "Machine", "Section", "Target", "markdown", "table"]


@dataclass(frozen=True)
class Target:
    """A target and the measured figure. `met` is None where it could not be measured.

    `why` is printed if the target is missed: where the time goes, and what was tried.
    """

    what: str
    wanted: str
    figure: str
    met: bool | None
    why: str = ""


@dataclass(frozen=True)
class Bars:
    """One group of the picture: a name and a value for each bar."""

    title: str
    bars: Sequence[tuple[str, float, str]]  # name, length, the text beside the bar


@dataclass
class Section:
    """A part of the report. `text` is Markdown."""

    title: str
    text: str
    targets: list[Target] = field(default_factory=list)
    bars: list[Bars] = field(default_factory=list)


@dataclass
class Machine:
    """Where and when it was measured, and the load at the start and the end."""

    begun: float = field(default_factory=time.time)
    load: tuple[float, float, float] = field(default_factory=os.getloadavg)

    def text(self, rounds: int) -> str:
        took = (time.time() - self.begun) / 60
        lines = [
            f"- Linux {platform.release()}, {platform.machine()}, {os.cpu_count()} CPUs: {_cpu()}",
            f"- Python {platform.python_version()}; {_versions()}",
            f"- measured {time.strftime('%Y-%m-%d %H:%M', time.gmtime(self.begun))} UTC in "
            f"{took:.0f} minutes, {rounds} alternating rounds",
            f"- load average at the start {_load(self.load)}, "
            f"at the end {_load(os.getloadavg())} (about 1 if nothing else runs)",
        ]
        return "\n".join(lines)


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def _versions() -> str:
    asked = (["bpftrace", "--version"], ["perf", "--version"], ["strace", "--version"])
    return ", ".join(_first_line(command) for command in asked)


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return f"no {command[0]}"
    return done.stdout.partition("\n")[0]


def _load(load: tuple[float, float, float]) -> str:
    return " ".join(f"{number:.1f}" for number in load)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_HEAD = """# Benchmarks

`make bench` writes this page; run it to measure your own machine. A figure is the median of its
rounds, followed by the 95 % confidence interval of the median in brackets. Figures that are
compared were measured in alternation, in one session.

{machine}

![Cost of a traced call, and the other results at a glance](images/benchmarks.svg)

## Targets and figures

{targets}
{missed}"""

_WORDS = {True: "met", False: "**missed**", None: "not measured"}


def markdown(sections: Sequence[Section], machine: Machine, rounds: int) -> str:
    """The text of docs/benchmarks.md."""
    targets = [target for section in sections for target in section.targets]
    rows = [(one.what, one.wanted, one.figure, _WORDS[one.met]) for one in targets]
    # Several targets can be missed for the same reason.
    reasons = dict.fromkeys(one.why for one in targets if one.met is False and one.why)
    missed = "\nMissed targets and their reasons:\n\n" + "\n".join(reasons) + "\n"
    head = _HEAD.format(
        machine=machine.text(rounds),
        targets=table(["what", "target", "figure", ""], rows),
        missed=missed if reasons else "",
    )
    return head + "".join(f"\n## {s.title}\n\n{s.text.strip()}\n" for s in sections)
