# SPDX-License-Identifier: MIT
"""The dashboards as files somewhere else."""

from pathlib import Path

import click
import pytest
import yaml

from tests.pure.dashboards.boards import DIRECTORY
from tracer.cli.dashboards import command, dashboards_directory, export_dashboards
from tracer.errors import TracerError


def test_the_dashboards_are_found_in_the_source_tree() -> None:
    assert dashboards_directory() == DIRECTORY


def test_an_export_has_every_board_rule_and_provisioning_file(tmp_path: Path) -> None:
    written = export_dashboards(tmp_path / "new" / "place")
    names = {str(path.relative_to(tmp_path / "new" / "place")) for path in written}
    assert names >= {
        "grafana/overview.json",
        "grafana/operation.json",
        "grafana/connections.json",
        "grafana/in_kernel.json",
        "grafana/tracer.json",
        "prometheus/prometheus.yml",
        "prometheus/rules.yml",
        "prometheus/alerts.yml",
        "provisioning/datasources/lunatik-socket.yml",
        "provisioning/dashboards/lunatik-socket.yml",
        "compose.yml",
    }
    assert not [name for name in names if name.endswith(".py")]
    for path in written:
        assert (
            path.read_bytes() == (DIRECTORY / path.relative_to(tmp_path / "new/place")).read_bytes()
        )


def test_a_second_export_replaces_its_files_and_no_others(tmp_path: Path) -> None:
    own = tmp_path / "grafana" / "own.json"
    own.parent.mkdir()
    own.write_text("mine")
    (tmp_path / "grafana" / "tracer.json").write_text("old")
    export_dashboards(tmp_path)
    assert own.read_text() == "mine"
    assert (tmp_path / "grafana/tracer.json").read_text() != "old"


@pytest.mark.parametrize("base", ["https://wiki.example/runbook", "https://wiki.example/runbook/"])
def test_the_runbook_base_makes_every_runbook_url_a_link(tmp_path: Path, base: str) -> None:
    export_dashboards(tmp_path, runbook_base=base)
    alerts = yaml.safe_load((tmp_path / "prometheus/alerts.yml").read_text())
    found = [
        (rule["alert"], rule["annotations"]["runbook_url"])
        for group in alerts["groups"]
        for rule in group["rules"]
    ]
    assert len(found) >= 8
    for alert, link in found:
        assert link == f"https://wiki.example/runbook#{alert.lower()}"


@pytest.mark.parametrize(
    "base",
    ["runbook.md", "https://", "javascript:alert(1)", "https://a b", "https://a'b", "https://a/#b"],
)
def test_a_runbook_base_that_is_no_url_is_refused(tmp_path: Path, base: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a URL"):
        command.main(["export", str(tmp_path), "--runbook-base", base], standalone_mode=False)
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(TracerError) as caught:
        export_dashboards(blocked)
    assert str(caught.value) == (
        f'cannot export the dashboards to "{blocked}": '
        "Not a directory (ENOTDIR); choose another directory"
    )
    assert caught.value.exit_status == 3


def test_the_command_lists_what_it_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["export", str(tmp_path)], standalone_mode=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert str(tmp_path / "grafana/overview.json") in lines
    assert all(Path(line).is_file() for line in lines)
