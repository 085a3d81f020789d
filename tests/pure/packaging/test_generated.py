# SPDX-License-Identifier: MIT
"""The man pages and completions that the Debian package is built with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from docs.generate.completions import FILES, completions
from docs.generate.man_pages import _plain, man_pages
from tests.pure.docs.test_cli_docs import every_command
from tracer.cli.entry import commands

TIMEOUT_SECONDS = 60


def test_every_command_has_a_page() -> None:
    names = {f"lunatik-socket-{path.replace(' ', '-')}.1" for path in every_command(commands)}
    groups = {"lunatik-socket.1", "lunatik-socket-serve.1", "lunatik-socket-dashboards.1"}
    assert set(man_pages()) == names | groups


def test_a_page_has_every_option() -> None:
    pages = man_pages()
    for path, command in every_command(commands).items():
        page = pages[f"lunatik-socket-{path.replace(' ', '-')}.1"]
        for parameter in command.params:
            for name in parameter.opts + parameter.secondary_opts:
                if name.startswith("--"):
                    assert name.replace("-", "\\-") in page, name


def test_the_lines_of_examples_are_kept() -> None:
    page = man_pages()["lunatik-socket-trace.1"]
    assert ".SH EXAMPLES\n.nf\n  lunatik\\-socket trace       " in page


@pytest.mark.parametrize(
    ("text", "escaped"),
    [(".PP is text", r"\&.PP is text"), ("'x", r"\&'x"), (r"a\b", r"a\eb"), ("a-b", r"a\-b")],
)
def test_text_has_no_meaning_for_roff(text: str, escaped: str) -> None:
    assert _plain(text) == escaped


def test_the_date_of_a_reproducible_build_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert " 1970-01-02 " in man_pages()["lunatik-socket.1"].partition("\n")[0]


def test_each_shell_has_a_script_that_asks_the_program() -> None:
    scripts = completions()
    assert set(scripts) == set(FILES) == {"bash", "zsh", "fish"}
    for shell, script in scripts.items():
        assert f"_LUNATIK_SOCKET_COMPLETE={shell}_complete" in script


def test_the_program_answers_a_completion() -> None:
    asked = {
        "_LUNATIK_SOCKET_COMPLETE": "bash_complete",
        "COMP_WORDS": "lunatik-socket trace --me",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tracer"],
        env=os.environ | asked, cwd=Path(__file__).parents[3],
        capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "plain,--metrics\nplain,--mechanism\n")
