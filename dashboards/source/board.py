# SPDX-License-Identifier: MIT
"""What all boards share: variables, links to each other, time range."""

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard

from dashboards.source.panels import SOURCE
from tracer.exporter.metrics import CONNECTIONS_OPEN, DURATION, FUNCTION_DURATION, INFO, Type

__all__ = ["LINK_TO_OPERATION", "TAG", "board"]

TAG = "lunatik-socket"
LINK_TO_OPERATION = (
    "/d/lunatik-socket-operation?${datasource:queryparam}&${job:queryparam}&${instance:queryparam}"
    "&var-operation=${__value.raw}&${__url_time_range}"
)
_TARGET = 'job=~"$job",instance=~"$instance"'


def board(name: str, title: str, description: str, *variables: str) -> build.Dashboard:
    """An empty board with the variables `datasource`, `job`, `instance` and `variables`."""
    result = (
        build.Dashboard(f"Lunatik socket / {title}")
        .uid(f"{TAG}-{name}")
        .description(description)
        .tags([TAG])
        .timezone("browser")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .refresh("10s")
        .time("now-30m", "now")
        .with_variable(
            build.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(_query("job", f"label_values({INFO.name}, job)"))
        .with_variable(_query("instance", f'label_values({INFO.name}{{job=~"$job"}}, instance)'))
    )
    for variable in variables:
        result.with_variable(_choice(variable))
    for link in _links(name):
        result.link(link)
    return result


def _choice(name: str) -> build.QueryVariable:
    of_others = {"function": FUNCTION_DURATION, "comm": CONNECTIONS_OPEN, "peer": CONNECTIONS_OPEN}
    metric = of_others.get(name, DURATION)
    if name not in metric.labels:
        raise ValueError(f"{metric.name} has no label {name}")
    suffix = "_count" if metric.type is Type.HISTOGRAM else ""
    return _query(name, f"label_values({metric.name}{suffix}{{{_TARGET}}}, {name})")


def _query(name: str, query: str) -> build.QueryVariable:
    everything = dashboard.VariableOption(selected=True, text=["All"], value=["$__all"])
    return (
        build.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(everything)
    )


def _links(board: str) -> list[build.DashboardLink]:
    others = {
        "overview": "Overview",
        "operation": "Operation",
        "connections": "Connections",
        "in-kernel": "In-kernel sockets",
        "tracer": "Tracer",
    }
    return [
        build.DashboardLink(title)
        .type(dashboard.DashboardLinkType.LINK)
        .url(f"/d/{TAG}-{name}")
        .icon("dashboard")
        .tooltip(f"Open {title} with the same selection and time range")
        .include_vars(True)
        .keep_time(True)
        for name, title in others.items()
        if name != board
    ]
