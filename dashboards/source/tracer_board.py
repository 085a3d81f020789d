# SPDX-License-Identifier: MIT
"""Tracer: whether the numbers are complete, and what tracing costs."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.source.board import board
from dashboards.source.panels import Column, Panel, Query, graph, list_of, number
from dashboards.source.queries import RATE, per_second, select
from tracer.exporter import metrics

__all__ = ["tracer"]


def tracer() -> Dashboard:
    """Make the board."""
    made = board(
        "tracer", "Tracer", "The tracer itself: is anything missing, and what does tracing cost."
    )
    for panel in (*_numbers(), *_graphs()):
        made.with_panel(panel)
    return made


def _numbers() -> list[Panel]:
    attached = select(metrics.PROBE_ATTACHED)
    fill = f"{select(metrics.MAP_ENTRIES)} / {select(metrics.MAP_CAPACITY)}"
    return [
        number(
            "Probes attached",
            "Attached probes, on all hosts together.",
            f"sum({attached})",
            "short",
        ),
        number(
            "Probes missing",
            "Probes that are not attached. If it is a system call's, its calls are not seen: run "
            "`lunatik-socket doctor`. If it is a function's, this kernel does not have it.",
            f"count({attached}) - sum({attached})",
            "short",
            warn=1,
        ),
        number(
            "Lost",
            "Calls that could not be counted in the last five minutes.",
            f"sum(increase({select(metrics.LOST)}[5m]))",
            "short",
            warn=1,
            alarm=100,
        ),
        number(
            "Fullest map",
            "How full the fullest BPF map is. At 100 % calls are lost: trace fewer processes, or "
            "choose a --by label with fewer values.",
            f"max({fill})",
            "percentunit",
            warn=0.7,
            alarm=0.9,
        ),
        number(
            "Scrape",
            "The longest time that a scrape took to read the kernel's maps and render.",
            f"max({select(metrics.SCRAPE_DURATION)})",
            "s",
            warn=0.1,
            alarm=1,
        ),
        number(
            "Scrape errors",
            "Metrics missing from scrapes in the last five minutes; the tracer's log says why.",
            f"sum(increase({select(metrics.SCRAPE_ERRORS)}[5m]))",
            "short",
            alarm=1,
        ),
    ]


def _graphs() -> list[Panel]:
    host = ["instance", "version", "kernel", "mechanism"]
    without_return = " - ".join(
        per_second(metric, "instance", "probe")
        for metric in (metrics.PROBE_ENTRIES, metrics.PROBE_RETURNS)
    )
    return [
        list_of(
            "Tracers",
            "Version, kernel and mechanisms of each host. If the versions differ, finish the "
            "rollout.",
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
            "start_map_full: more threads than the map holds. "
            "return_without_entry: its entry was not seen. "
            "return_not_seen: its return was not seen. probe_missed: the kernel skipped a run of a "
            "BPF program.",
            "ops",
            Query(per_second(metrics.LOST, "instance", "reason"), "{{instance}} {{reason}}"),
            stacked=True,
        ),
        graph(
            "Counted under other",
            "Calls whose label value found no room: --by has room for 512 values. They are counted "
            "under the value other.",
            "ops",
            Query(per_second(metrics.OTHER_LABEL, "instance"), "{{instance}}"),
        ),
        graph(
            "Map fill",
            "Entries of each BPF map as a share of its capacity.",
            "percentunit",
            Query(
                f"{select(metrics.MAP_ENTRIES)} / {select(metrics.MAP_CAPACITY)}",
                "{{instance}} {{map}}",
            ),
            alarm=0.9,
        ),
        graph(
            "CPU time in programs",
            "Seconds of CPU time per second in each BPF program. All are 0 unless the tracer "
            "measures its own cost.",
            "percentunit",
            Query(per_second(metrics.PROGRAM_RUN_SECONDS, "program"), "{{program}}"),
            stacked=True,
        ),
        graph(
            "Time of one run",
            "Mean run time of each BPF program. A traced call pays for two runs: entry and return.",
            "s",
            Query(
                f"{per_second(metrics.PROGRAM_RUN_SECONDS, 'program')}"
                f" / ({per_second(metrics.PROGRAM_RUNS, 'program')} > 0)",
                "{{program}}",
            ),
        ),
        graph(
            "Entries without return",
            "Calls entered minus calls returned, per second. If it stays above 0, more and more "
            "calls are in flight, or the tracer misses returns.",
            "ops",
            Query(without_return, "{{instance}} {{probe}}"),
        ),
        graph(
            "Abandoned calls",
            "Calls per second that were entered and whose return was not seen: the thread ended in "
            "the "
            "call, or the return was missed. If they are many, processes are being killed, or "
            "`lunatik-socket doctor` shows why returns are missed.",
            "ops",
            Query(
                per_second(metrics.PROBE_ABANDONED, "instance", "probe"), "{{instance}} {{probe}}"
            ),
        ),
        graph(
            "Scrape time",
            "Time of each scrape. It grows with the number of series: choose a --by label with "
            "fewer "
            "values.",
            "s",
            Query(select(metrics.SCRAPE_DURATION), "{{instance}}"),
        ),
        graph(
            "Refused clients",
            "What the exporter refused or closed: connections, requests, log-ins, streams. login: "
            "wrong passwords. room: more connections than it serves at once. host: requests with a "
            "foreign host name. The exporter's log has the addresses.",
            "ops",
            Query(per_second(metrics.REFUSALS, "instance", "reason"), "{{instance}} {{reason}}"),
            stacked=True,
        ),
        graph(
            "The exporter's process",
            "CPU time of the exporter. It grows with scrapes and open live pages.",
            "percentunit",
            Query(
                f'rate(process_cpu_seconds_total{{job=~"$job",instance=~"$instance"}}[{RATE}])',
                "{{instance}}",
            ),
        ),
    ]
