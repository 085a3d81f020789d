# SPDX-License-Identifier: MIT
"""The kinds of panels on the boards, with their units, legends and thresholds."""

from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as shared
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.source.queries import buckets
from tracer.exporter.metrics import DURATION, Metric

__all__ = ["SOURCE", "Column", "Panel", "Query", "graph", "heat_map", "list_of", "number"]

Panel = stat.Panel | timeseries.Panel | heatmap.Panel | table.Panel
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
HALF, THIRD, WHOLE = 12, 8, 24


@dataclass(frozen=True)
class Query:
    """PromQL and the legend of its series; `{{label}}` is replaced by the value of the label."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table: its query, its unit, and the values from which it is coloured."""

    title: str
    expression: str
    unit: str = "short"
    warn: float | None = None
    alarm: float | None = None


def _target(query: Query, name: str, *, table: bool = False) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expression).ref_id(name).legend_format(query.legend)
    return target.instant().format(PromQueryFormat.TABLE) if table else target.range()


def _thresholds(warn: float | None, alarm: float | None) -> build.ThresholdsConfig:
    steps = [dashboard.Threshold(None, "green")]
    steps += [dashboard.Threshold(warn, "orange")] if warn is not None else []
    steps += [dashboard.Threshold(alarm, "red")] if alarm is not None else []
    return build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def number(
    title: str,
    help: str,
    expression: str,
    unit: str,
    *,
    warn: float | None = None,
    alarm: float | None = None,
) -> stat.Panel:
    """One big number with a small graph of its recent values; no data shows as 0."""
    return (
        stat.Panel()
        .title(title)
        .description(help)
        .datasource(SOURCE)
        .with_target(_target(Query(expression), "A"))
        .unit(unit)
        .no_value("0")
        .thresholds(_thresholds(warn, alarm))
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.AREA)
        .reduce_options(shared.ReduceDataOptions().calcs(["lastNotNull"]))
        .span(4)
        .height(4)
    )


def graph(
    title: str,
    help: str,
    unit: str,
    *queries: Query,
    width: int = HALF,
    stacked: bool = False,
    alarm: float | None = None,
) -> timeseries.Panel:
    """Lines over time, with a legend table below, the largest first."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(help)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .line_width(1)
        .fill_opacity(20 if stacked else 5)
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(False)
        .tooltip(
            shared.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
        .legend(
            shared.VizLegendOptions()
            .show_legend(True)
            .display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"])
            .sort_by("Max")
            .sort_desc(True)
        )
        .span(width)
        .height(9)
    )
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        panel.with_target(_target(query, letter))
    if stacked:
        panel.stacking(shared.StackingConfig().mode(common.StackingMode.NORMAL))
    if alarm is not None:
        panel.thresholds(_thresholds(None, alarm))
        panel.thresholds_style(
            shared.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    return panel


def heat_map(title: str, help: str, metric: Metric = DURATION) -> heatmap.Panel:
    """Durations over time, from the classic buckets: each row is a doubling of the one below."""
    return (
        heatmap.Panel()
        .title(title)
        .description(help)
        .datasource(SOURCE)
        .with_target(_target(Query(buckets(metric), "{{le}}"), "A").format(PromQueryFormat.HEATMAP))
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_model.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .scale(heatmap_model.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
        .y_axis(heatmap.YAxisConfig().unit("s").axis_placement(common.AxisPlacement.LEFT))
        .cell_gap(0)
        .span(WHOLE)
        .height(10)
    )


def list_of(
    title: str,
    help: str,
    keys: list[str],
    columns: list[Column],
    *,
    sort: str,
    link: tuple[str, str] | None = None,
    width: int = WHOLE,
) -> table.Panel:
    """A table: one row for each combination of `keys`, sorted by column `sort`, largest first."""
    panel = (
        table.Panel()
        .title(title)
        .description(help)
        .datasource(SOURCE)
        .sort_by([shared.TableSortByFieldState().display_name(sort).desc(True)])
        .cell_height(common.TableCellHeight.SM)
        .span(width)
        .height(12)
    )
    names: dict[str, str] = {}
    for letter, column in zip("ABCDEFGH", columns, strict=False):
        panel.with_target(_target(Query(column.expression), letter, table=True))
        names[f"Value #{letter}"] = column.title
        panel.override_by_name(column.title, _look(column))
    if link:
        name, url = link
        show = {"title": "Open", "url": url}
        panel.override_by_name(name, [dashboard.DynamicConfigValue("links", [show])])
    order = {name: i for i, name in enumerate([*keys, *names])}
    rest = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names}
    panel.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(dashboard.DataTransformerConfig(id_val="organize", options=rest))
    return panel


def _look(column: Column) -> list[dashboard.DynamicConfigValue]:
    look = [
        dashboard.DynamicConfigValue("unit", column.unit),
        dashboard.DynamicConfigValue("noValue", "-"),
    ]
    if column.warn is not None or column.alarm is not None:
        thresholds = _thresholds(column.warn, column.alarm).build()
        look.append(dashboard.DynamicConfigValue("thresholds", thresholds))
        look.append(dashboard.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
    return look
