# SPDX-License-Identifier: MIT
"""The configuration file of `trace`: precedence, types, errors, and the file that is shipped."""

import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

from docs.generate.config_file import default_config
from tracer.cli.config_file import keys, read_config
from tracer.cli.entry import main
from tracer.cli.options import overrides
from tracer.cli.trace import command
from tracer.errors import UsageError

ROOT = Path(__file__).parents[4]


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return str(path)


def context_of(*arguments: str) -> click.Context:
    return command.make_context("trace", list(arguments))


def chosen(*arguments: str) -> dict[str, Any]:
    return context_of(*arguments).params


def test_the_file_sets_options(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'pid = [7, 8]\ncomm = ["nginx"]\nfollow-children = true\nlive = false\n'
        'metrics = "127.0.0.1:5"\ninterval = "2m"\nduration = 1.5\nby = "port"\n',
    )
    values = chosen("--config", path)
    assert values["pids"] == (7, 8)
    assert values["comms"] == ("nginx",)
    assert values["follow_children"] is True
    assert values["live"] is False
    assert values["metrics"] == ("127.0.0.1", 5)
    assert (values["interval"], values["duration"]) == (120.0, 1.5)
    assert values["by"] == "port"


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, 'interval = "1s"\nby = "port"\noutput = "file"\n')
    monkeypatch.setenv("LUNATIK_SOCKET_TRACE_BY", "pid")
    monkeypatch.setenv("LUNATIK_SOCKET_TRACE_OUTPUT", "environment")
    values = chosen("--output", "command line", "--config", path)
    assert (values["interval"], values["by"], values["output"]) == (1.0, "pid", "command line")


def test_the_environment_can_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNATIK_SOCKET_TRACE_CONFIG", written(tmp_path, 'by = "port"\n'))
    assert chosen()["by"] == "port"


@pytest.mark.parametrize("key", sorted(keys(command)))
def test_every_option_has_a_variable_of_its_name(key: str) -> None:
    option = keys(command)[key]
    with click.Context(command, auto_envvar_prefix="LUNATIK_SOCKET_TRACE") as context:
        name = option.envvar or f"{context.auto_envvar_prefix}_{str(option.name).upper()}"
    assert name == "LUNATIK_SOCKET_TRACE_" + re.sub(r"\W", "_", key).upper()


def test_what_contradicts_a_weaker_place_overrides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, 'all = true\nno-metrics = true\ncgroup = "x"\n')
    monkeypatch.setenv("LUNATIK_SOCKET_TRACE_COMM", "nginx")
    context = context_of("--config", path, "--metrics", "127.0.0.1:5")
    assert overrides(context, "metrics", "no_metrics")
    assert overrides(context, "comms", "everything")
    assert not overrides(context, "cgroup", "everything")
    assert not overrides(context, "everything", "comms")
    assert overrides(context, "everything", "pids")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("comms = []", 'unknown key "comms"; did you mean "comm"?'),
        ("xyz = 1", 'unknown key "xyz"; lunatik-socket trace --help lists all'),
        ("[metrics]\naddress = 1", 'unknown key "metrics.address"'),
        ('comm = "nginx"', 'key "comm": expected a list, got "nginx"'),
        ("comm = [1]", 'key "comm": expected a string, got 1'),
        ('pid = ["1"]', 'key "pid": expected a number, got "1"'),
        ("pid = [true]", 'key "pid": expected a number, got true'),
        ("pid = [0]", 'key "pid": 0 is not in the range x>=1'),
        ("quiet = 1", 'key "quiet": expected true or false, got 1'),
        ("interval = true", 'key "interval": expected a time such as "5s", got true'),
        ('interval = "soon"', 'key "interval": "soon" is not a time from'),
        ("metrics = 10435", 'key "metrics": expected a string, got 10435'),
        ('metrics = "10435"', 'key "metrics": "10435" is not ADDR:PORT'),
        ('by = "moon"', "key \"by\": 'moon' is not one of"),
        ('operation = ["sned"]', "key \"operation\": 'sned' is not one of"),
        ("by =", "invalid value (at"),
    ],
)
def test_a_wrong_file_is_one_line_with_the_file_and_the_key(
    tmp_path: Path, text: str, cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SystemExit) as ended:
        main(["trace", "--config", path])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f'the configuration file "{path}": {cause}' in line


def test_a_file_that_cannot_be_read_is_wrong_usage(tmp_path: Path) -> None:
    with click.Context(command) as context:
        with pytest.raises(UsageError, match=r"No such file or directory \(ENOENT\)"):
            read_config(str(tmp_path / "none"), context)
        (tmp_path / "latin1").write_bytes(b'output = "\xe9"')
        with pytest.raises(UsageError, match="it is not UTF-8"):
            read_config(str(tmp_path / "latin1"), context)


def test_the_shipped_file_is_current() -> None:
    text = (ROOT / "packaging/config.toml").read_text()
    assert text == default_config(), "run make packaging-files"


def test_the_shipped_file_sets_nothing() -> None:
    assert tomllib.loads((ROOT / "packaging/config.toml").read_text()) == {}


def test_every_option_is_in_the_shipped_file_with_a_value_that_is_taken(tmp_path: Path) -> None:
    text = re.sub(r"^#(?=[\w.-]+ = )", "", default_config(), flags=re.MULTILINE)
    path = written(tmp_path, text)
    with click.Context(command) as context:
        values = read_config(path, context)
    assert set(values) == {option.name for option in keys(command).values()}
