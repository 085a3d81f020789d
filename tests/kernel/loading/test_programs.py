# SPDX-License-Identifier: MIT
"""Programs refused by the kernel, and probes that are not attached, are reported as such."""

from dataclasses import replace

import pytest

from tracer import session as session_module
from tracer.errors import ProgramError
from tracer.kernel.programs import ProgramType, load_program
from tracer.kernel.trial_programs import DOING_NOTHING
from tracer.loading.attachments import Attachment
from tracer.loading.parent import load, program_for
from tracer.model.config import Config
from tracer.session import Session

CONFIG = Config(mechanism="tracepoint", operations=("bind", "listen"))
# The verifier tells every round of the loop before it refuses the read.
REFUSED_AT_LENGTH = """
int refused(void *ctx)
{
	u64 sum = 0;
	u32 i;

#pragma clang loop unroll(disable)
	for (i = 0; i < 9000; i++)
		sum += bpf_ktime_get_ns();
	return *(int *)sum;
}
"""
WITHOUT_RETURN_VALUE = DOING_NOTHING[8:]  # only the exit is left


def test_the_verifiers_log_stays_on_the_exception() -> None:
    with pytest.raises(PermissionError, match=r"Permission denied; .*R0 !read_ok") as caught:
        load_program(ProgramType.TRACEPOINT, WITHOUT_RETURN_VALUE, name="refused")
    [log] = caught.value.__notes__
    assert "R0 !read_ok" in log


def test_the_loaders_error_comes_over_with_its_log() -> None:
    program = program_for(CONFIG)
    with pytest.raises(ProgramError, match="cannot compile the BPF programs") as caught:
        load(replace(program, text=f"{program.text}\n#error not today\n"))
    assert "not today" in caught.value.log


def test_a_long_log_of_the_verifier_comes_over_too() -> None:
    program = program_for(CONFIG)
    refused = Attachment("raw_tracepoint", "refused", "sys_enter")
    with pytest.raises(ProgramError, match=r'cannot attach to "sys_enter"') as caught:
        load(
            replace(
                program,
                text=f"{program.text}\n{REFUSED_AT_LENGTH}",
                attachments=(*program.attachments, refused),
            )
        )
    assert 60_000 < len(caught.value.log) < 70_000


def test_a_probe_is_attached_if_its_programs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_exit(config: Config) -> object:
        program = program_for(config)
        kept = tuple(a for a in program.attachments if a.program != "exit_system_call")
        assert len(kept) == len(program.attachments) - 1
        return replace(program, attachments=kept)

    with Session(CONFIG) as session:
        probes = session.snapshot().probes
        assert {(probe.name, probe.attached) for probe in probes} == {
            ("bind", True),
            ("listen", True),
        }
    monkeypatch.setattr(session_module, "program_for", without_exit)
    with Session(CONFIG) as session:
        assert {probe.attached for probe in session.snapshot().probes} == {False}
