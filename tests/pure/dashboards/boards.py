# SPDX-License-Identifier: MIT
"""Reads the committed boards and rules for the tests: their queries, metrics and labels."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DIRECTORY = Path(__file__).parents[3] / "dashboards"
BOARDS = sorted((DIRECTORY / "grafana").glob("*.json"))
RULE_FILES = [DIRECTORY / "prometheus" / name for name in ("rules.yml", "alerts.yml")]

_WORDS = {"sum", "by", "rate", "increase", "count", "max", "avg", "on", "unless", "and", "or"}
_WORDS |= {"absent", "time", "histogram_quantile", "min_over_time", "max_over_time"}


@dataclass(frozen=True)
class Asked:
    """One query and its place: board, panel and target, or rule."""

    where: str
    expression: str


def panels(board: Path) -> Iterator[dict[str, Any]]:
    """Every panel with data."""
    content = json.loads(board.read_text())
    for panel in content["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels") or []
        else:
            yield panel


def panel_queries() -> list[Asked]:
    """Every query of every panel."""
    return [
        Asked(f"{board.stem}: {panel['title']}: {target['refId']}", target["expr"])
        for board in BOARDS
        for panel in panels(board)
        for target in panel["targets"]
    ]


def rules() -> list[dict[str, Any]]:
    """Every rule, recording or alerting."""
    return [
        rule
        for path in RULE_FILES
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def rule_queries() -> list[Asked]:
    """Every rule's expression."""
    return [Asked(rule.get("record") or rule["alert"], rule["expr"]) for rule in rules()]


def variable_queries() -> list[Asked]:
    """The queries that fill the boards' variables, with label_values()."""
    return [
        Asked(f"{board.stem}: ${variable['name']}", variable["query"])
        for board in BOARDS
        for variable in json.loads(board.read_text())["templating"]["list"]
        if variable["type"] == "query"
    ]


def used(expression: str) -> tuple[set[str], set[str]]:
    """The series names and the label names in PromQL."""
    labels = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', expression))
    labels |= {
        name.strip()
        for group in re.findall(r"\b(?:by|on|ignoring)\s*\(([^)]*)\)", expression)
        for name in group.split(",")
    }
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\b(?:by|on|ignoring)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    names = {name for name in re.findall(r"[A-Za-z_:][\w:]*", bare) if name not in _WORDS}
    return names, labels


def with_variables(expression: str, **values: str) -> str:
    """PromQL with Grafana's variables filled in; those not given become `.*`."""
    chosen = {"__rate_interval": "10s", **values}
    return re.sub(r"\$(\w+)", lambda found: chosen.get(found[1], ".*"), expression)
