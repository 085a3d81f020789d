# SPDX-License-Identifier: MIT
"""doctor on this kernel: with everything that it needs, and with parts missing."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.cli.command_line import HIDE_TRACEFS, PROGRAM, ROOT, TIMEOUT_SECONDS, run
from tracer.doctor import can_trace, examine
from tracer.doctor.selftest import selftest
from tracer.errors import TracerError
from tracer.kernel import mechanisms, trial_programs
from tracer.kernel.programs import ProgramType
from tracer.model.operations import OPERATIONS

NOTHING = bytes.fromhex("b7000000000000009500000000000000")  # r0 = 0; exit


def checks(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["check"]: check for check in document["checks"]}


def test_every_required_check_passes_here() -> None:
    found = list(examine())
    assert [check.name for check in found if check.required and not check.ok] == []
    assert can_trace(found)
    for check in found:
        assert (check.hint is None) is check.ok
        assert check.found


def test_the_table_and_the_status() -> None:
    done = run("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert "tracepoint     ok" in done.stdout
    assert "socket operations can be traced here" in done.stdout


def test_json() -> None:
    done = run("doctor", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert document["can_trace"] is True
    assert document["kernel"] == os.uname().release
    assert checks(document)["tracepoint"] == {
        "check": "tracepoint",
        "ok": True,
        "required": True,
        "found": "a program was loaded, attached and run",
        "hint": None,
    }


def has_kprobes() -> bool:
    return Path("/sys/bus/event_source/devices/kprobe").exists()


def test_kprobe_works_or_is_reported_missing() -> None:
    if has_kprobes():
        mechanisms.prove("kprobe")
        return
    with pytest.raises(TracerError, match=r"this kernel has no kprobes \(CONFIG_KPROBES\); "):
        mechanisms.prove("kprobe")


def test_fentry_works_or_is_reported_refused() -> None:
    """This kernel refuses with EPERM; one with kprobes allows it."""
    if has_kprobes():
        mechanisms.prove("fentry")
        return
    with pytest.raises(TracerError, match=r"this kernel refuses fentry \(EPERM\); "):
        mechanisms.prove("fentry")


def test_a_mechanism_that_attaches_but_does_not_fire_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mechanisms.trial_programs, "counting", lambda _: NOTHING)
    with pytest.raises(TracerError, match="it attaches, but does not fire"):
        mechanisms.prove("tracepoint")


def test_a_program_that_the_verifier_refuses_is_an_error() -> None:
    with (
        pytest.raises(OSError, match="Invalid argument"),
        trial_programs.load(ProgramType.TRACEPOINT, b"\x95" + bytes(7) + b"\0" * 8),
    ):
        pass


def test_the_selftest_counts_each_operation_once() -> None:
    outcome = selftest()
    assert [result.operation for result in outcome.results] == [o.name for o in OPERATIONS]
    assert [result.operation for result in outcome.results if not result.ok] == []
    assert outcome.lost == {}
    assert outcome.ok


def test_the_selftest_by_command() -> None:
    done = run("doctor", "--selftest")
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing lost" in done.stdout
    done = run("doctor", "--selftest", "--json")
    assert done.returncode == 0
    assert len(json.loads(done.stdout)["operations"]) == 16


def test_not_root() -> None:
    done = run("doctor", "--json", user=65534, group=65534, extra_groups=[])
    assert done.returncode == 3
    found = checks(json.loads(done.stdout))
    assert found["rights"]["ok"] is False
    assert found["rights"]["hint"] == "run as root"
    assert found["tracepoint"]["ok"] is False
    assert found["bcc"]["ok"] is True
    for name in ("operations", "compiler", "kprobe", "fentry"):
        assert found[name]["found"] == "needs CAP_BPF and CAP_PERFMON"
        assert (found[name]["ok"], found[name]["hint"]) == (False, "run as root")
    assert not [check for check in found.values() if "report" in (check["hint"] or "")]
    assert run("doctor", user=65534, group=65534, extra_groups=[]).returncode == 3


def test_no_tracefs() -> None:
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", HIDE_TRACEFS + " ".join([*PROGRAM, "doctor", "--json"])],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0
    found = checks(json.loads(done.stdout))
    assert found["tracefs"]["ok"] is found["tracefs"]["required"] is False
    assert found["tracefs"]["hint"] == "mount -t tracefs tracefs /sys/kernel/tracing"
    assert found["tracepoint"]["ok"] is True
    assert found["kprobe"]["ok"] is False


def test_the_other_project_named_bcc(tmp_path: Path) -> None:
    (tmp_path / "bcc.py").write_text("__version__ = '0.1.10'")
    done = run("doctor", "--json", env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 3
    found = checks(json.loads(done.stdout))
    assert "another project of that name" in found["bcc"]["found"]
    assert "python3-bpfcc" in found["bcc"]["hint"]
    assert found["compiler"]["found"] == "bcc is missing"


def test_no_libbpf(tmp_path: Path) -> None:
    """A file of that name that is not a library."""
    (tmp_path / "libbpf.so.1").write_text("nothing")
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    done = run("doctor", "--json", env=environment)
    found = checks(json.loads(done.stdout))
    assert (done.returncode, found["libbpf"]["ok"]) == (3, False)
    assert "install libbpf1" in found["libbpf"]["hint"]


def test_no_program_is_left_behind() -> None:
    run("doctor", "--json")
    after = subprocess.run(["bpftool", "prog"], capture_output=True, text=True, check=True)
    assert "lunatik_trial" not in after.stdout
