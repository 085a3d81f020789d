# SPDX-License-Identifier: MIT
"""Any command line ends with status 0, 2 or 3, and a wrong one with one line.

The command line is read in this process as `main` reads it. What a command does when its arguments
are right is left out: no script is started, nothing is traced, no server serves, and there is no
Prometheus. Everything before that is real: types, conflicts, rules, settings, scripts, files.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.cli import demo, doctor, entry, lifecycle, observe, run, serve, trace
from tracer.cli.options import TraceOptions
from tracer.errors import TracerError
from tracer.session import Session
from tracer.terminal.json_output import json_writers

FILES = {
    "good.py": b"print(1)\n",
    "bad.py": b"def f(:\n",
    "not_text.py": b"\xff\0",
    "good.lua": b"print(1)\n",
    "good.toml": b"[trace]\nby = 'port'\n",
    "bad.toml": b"[trace\n",
}


def _all_commands(group: click.Group) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that lead to it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (name,), command
        if isinstance(command, click.Group):
            for words, below in _all_commands(command):
                yield (name, *words), below


COMMANDS = dict(_all_commands(entry.commands))
OPTIONS = {
    words: {
        name: option
        for option in command.params
        for name in (*option.opts, *option.secondary_opts)
        if name.startswith("-")
    }
    for words, command in COMMANDS.items()
}
# A right value of each option that takes one and is neither a number nor a choice.
RIGHT = {
    **dict.fromkeys(("listen", "metrics", "prometheus"), "127.0.0.1:0"),
    **dict.fromkeys(("duration", "interval", "older", "idle_timeout"), "5s"),
    **dict.fromkeys(("connect_timeout", "request_timeout"), "250ms"),
    **dict.fromkeys(("allowed", "denied"), "10.0.0.0/8:80,90-99"),
    **{"memory": "64M", "comms": "nginx*", "cgroup": "/", "users": "ann", "output": "out.json"},
    **{"runbook_base": "https://wiki.example/runbook", "config": "good.toml"},
}
NAMES = sorted({name for options in OPTIONS.values() for name in options})
ARGUMENTS = {
    ("run",): ["good.py"],
    ("dashboards", "export"): ["exported"],
}

# The names of files have no slash: `dashboards export` writes into any directory.
GARBAGE = st.text(
    st.characters(exclude_characters="\0/", exclude_categories=()), max_size=8
).filter(lambda text: text not in {".", ".."})
NUMBERS = st.integers(-2, 2**70).map(str) | st.sampled_from(
    ["0", "1", "5", "1e9", "nan", "٣", "1_0"]
)
VALUES = st.one_of(
    NUMBERS,
    st.sampled_from(
        ["5s", "250ms", "2h", "64M", "1024G", "auto", "kprobe", "port", "comm", "send"]
    ),
    st.sampled_from(
        ["127.0.0.1:0", ":1", "*:80", "[::1]:9", "localhost:x", "1.2.3.4:70000", "[:]:1"]
    ),
    st.sampled_from(
        ["10.0.0.0/8", "10.0.0.0/8:80,90-99", "*", "*:0", "1.2.3.4/33", "::/0", "10.0.0.1/8"]
    ),
    st.sampled_from(["debug", "http://x", "nginx*", "[", "a" * 300, "\udcff", "-", "--", "", "é"]),
    st.sampled_from(sorted(FILES)),
    GARBAGE,
)


def _right_value(option: click.Parameter) -> st.SearchStrategy[str]:
    if isinstance(option.type, click.Choice):
        return st.sampled_from([str(choice) for choice in option.type.choices])
    return st.just(RIGHT.get(str(option.name), "3"))


@st.composite
def _command_lines(draw: st.DrawFn) -> list[str]:
    """A command with its options and values, most of them right, and other things among them.

    An option with any value comes first, so that each option gets wrong values often enough.
    """
    first = draw(st.sampled_from(NAMES))
    words = draw(st.sampled_from([words for words in sorted(COMMANDS) if first in OPTIONS[words]]))
    line = [*words, *ARGUMENTS.get(words, [])]
    if draw(st.booleans()):
        line.append(f"{first}={draw(VALUES)}")
    wrong = draw(st.sampled_from([0, 0, 1, 3]))  # of ten
    if "--trace" in OPTIONS[words] and draw(st.booleans()):
        line.append("--trace")
    for _ in range(draw(st.integers(0, 6))):
        of = words if draw(st.integers(0, 9)) >= wrong else draw(st.sampled_from(sorted(COMMANDS)))
        if not OPTIONS[of]:
            continue
        name = draw(st.sampled_from(sorted(OPTIONS[of])))
        option = OPTIONS[of][name]
        value = draw(VALUES if draw(st.integers(0, 9)) < wrong else _right_value(option))
        takes_value = isinstance(option, click.Option) and not option.is_flag
        if takes_value == (draw(st.integers(0, 9)) >= wrong):
            line += [f"{name}={value}"] if draw(st.booleans()) else [name, value]
        else:
            line.append(name)
    if draw(st.integers(0, 9)) < wrong:
        line.insert(draw(st.integers(0, len(line))), draw(VALUES))
    if draw(st.integers(0, 29)) < wrong:
        line = draw(st.permutations(line))
    return line


def _prepare(subject: lifecycle.Subject, options: TraceOptions, *_: Any) -> int:
    """All of a trace up to its start."""
    with json_writers(to_stdout=options.json, path=options.output):
        Session(lifecycle._config(subject, options, None))
    return 0


def _refuse(*_: Any) -> None:
    raise TracerError("go on", cause="the test ends here")


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    directory = tmp_path_factory.mktemp("current")
    for name, content in FILES.items():
        (directory / name).write_bytes(content)
    before = Path.cwd()
    with pytest.MonkeyPatch.context() as patch:
        for module in (serve, run, trace, demo):
            patch.setattr(module, "trace", _prepare)
        patch.setattr(serve, "_serve", lambda *_: 0)
        patch.setattr(run, "_become", _refuse)
        patch.setattr(doctor, "_doctor", lambda _: 0)
        patch.setattr(doctor, "_selftest", lambda _: 0)
        patch.setattr(observe, "shutil", SimpleNamespace(which=lambda _: None))
        os.chdir(directory)
        yield
        os.chdir(before)


def _main(arguments: list[str]) -> tuple[int, str, str]:
    """The exit status, and what is printed on standard output and error."""
    with (
        CliRunner().isolation() as (output, errors, *_),
        pytest.raises(SystemExit) as ended,
    ):
        entry.main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code, output.getvalue().decode(), errors.getvalue().decode()


def _check(arguments: list[str]) -> int:
    status, _, errors = _main(arguments)
    assert status in {0, 2, 3}
    assert "Traceback" not in errors
    if status and not errors.startswith("Usage: "):  # a group without a command prints its help
        *_, last = errors.splitlines()
        assert last.startswith("lunatik-socket: ")
        assert errors.endswith("\n")
    return status


@given(_command_lines())
@settings(max_examples=400, deadline=None)
def test_any_options_with_any_values(arguments: list[str]) -> None:
    _check(arguments)


@given(st.lists(VALUES | st.text(st.characters(exclude_characters="\0/")), max_size=4))
@settings(deadline=None)
def test_any_words(arguments: list[str]) -> None:
    _check(arguments)


@pytest.mark.parametrize("words", sorted(COMMANDS), ids=" ".join)
def test_every_command_has_help(words: tuple[str, ...]) -> None:
    assert _check([*words, "--help"]) == 0
