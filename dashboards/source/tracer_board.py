# SPDX-License-Identifier: MIT
"""Tracer: whether the numbers can be trusted, and what they cost."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.source.board import board
from dashboards.source.panels import Column, Panel, Query, graph, list_of, number
from dashboards.source.queries import RATE, per_second, select
from tracer.exporter import metrics

__all__ = ["tracer"]


def tracer() -> Dashboard:
    """Make the board."""
    made = board(
        "tracer", "Tracer", "The tracer's own health: is anything missing, what does it cost."
    )
    for panel in (*_numbers(), *_graphs()):
        made.with_panel(panel)
    return made


def _numbers() -> list[Panel]:
    attached = select(metrics.PROBE_ATTACHED)
    fill = f"{select(metrics.MAP_ENTRIES)} / {select(metrics.MAP_CAPACITY)}"
    return [
        number("Probes attached", "Probes in place, over all hosts.", f"sum({attached})", "short"),
        number(
            "Probes missing",
            "Probes that are not in place. A system call's: its calls are not seen, run "
            "`lunatik-socket doctor`. A function's: this kernel does not have it.",
            f"count({attached}) - sum({attached})",
            "short",
            warn=1,
        ),
        number(
            "Lost",
            "Calls not counted in the last five minutes.",
            f"sum(increase({select(metrics.LOST)}[5m]))",
            "short",
            warn=1,
            alarm=100,
        ),
        number(
            "Fullest map",
            "Share of the fullest BPF map that is in use. At 100 % calls are lost: follow fewer "
            "threads, or give --by fewer values.",
            f"max({fill})",
            "percentunit",
            warn=0.7,
            alarm=0.9,
        ),
        number(
            "Scrape",
            "Longest time a scrape took to read the kernel's maps and render.",
            f"max({select(metrics.SCRAPE_DURATION)})",
            "s",
            warn=0.1,
            alarm=1,
        ),
        number(
            "Scrape errors",
            "Metrics missing from a scrape in the last five minutes; the tracer's log says why.",
            f"sum(increase({select(metrics.SCRAPE_ERRORS)}[5m]))",
            "short",
            alarm=1,
        ),
    ]


def _graphs() -> list[Panel]:
    host = ["instance", "version", "kernel", "mechanism"]
    in_flight = " - ".join(
        per_second(metric, "instance", "probe")
        for metric in (metrics.PROBE_ENTRIES, metrics.PROBE_RETURNS)
    )
    return [
        list_of(
            "Tracers",
            "Version, kernel and mechanisms of each host. Mixed versions: finish the roll-out.",
            host,
            [
                Column(
                    "Up", f"sum by (instance, version, kernel, mechanism) ({select(metrics.INFO)})"
                )
            ],
            sort="Up",
        ),
        graph(
            "Lost by reason",
            "start_map_full: more threads than the map holds. aggregate_map_full: more label "
            "values than --by allows. return_without_entry: calls begun before the tracer. "
            "probe_missed: the kernel skipped a run.",
            "ops",
            Query(per_second(metrics.LOST, "instance", "reason"), "{{instance}} {{reason}}"),
            stacked=True,
        ),
        graph(
            "Map fill",
            "Entries of each BPF map as a share of its room.",
            "percentunit",
            Query(
                f"{select(metrics.MAP_ENTRIES)} / {select(metrics.MAP_CAPACITY)}",
                "{{instance}} {{map}}",
            ),
            alarm=0.9,
        ),
        graph(
            "CPU time in programs",
            "Seconds of CPU per second spent in each BPF program. All 0: the session does not "
            "measure its cost.",
            "percentunit",
            Query(per_second(metrics.PROGRAM_RUN_SECONDS, "program"), "{{program}}"),
            stacked=True,
        ),
        graph(
            "Time of one run",
            "Mean run time of each BPF program; what a traced call pays, twice (entry and return).",
            "s",
            Query(
                f"{per_second(metrics.PROGRAM_RUN_SECONDS, 'program')}"
                f" / ({per_second(metrics.PROGRAM_RUNS, 'program')} > 0)",
                "{{program}}",
            ),
        ),
        graph(
            "Entries without return",
            "Calls entered less calls returned, per second. Above 0 for long: calls pile up, or "
            "the tracer misses returns.",
            "ops",
            Query(in_flight, "{{instance}} {{probe}}"),
        ),
        graph(
            "Abandoned calls",
            "Calls whose thread died inside, per second. Many: processes are being killed.",
            "ops",
            Query(
                per_second(metrics.PROBE_ABANDONED, "instance", "probe"), "{{instance}} {{probe}}"
            ),
        ),
        graph(
            "Scrape time",
            "Time of each scrape. It grows with the series: fewer values of --by.",
            "s",
            Query(select(metrics.SCRAPE_DURATION), "{{instance}}"),
        ),
        graph(
            "The exporter's process",
            "CPU the exporter takes; grows with scrapes and open live pages.",
            "percentunit",
            Query(
                f'rate(process_cpu_seconds_total{{job=~"$job",instance=~"$instance"}}[{RATE}])',
                "{{instance}}",
            ),
        ),
    ]
