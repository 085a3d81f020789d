# SPDX-License-Identifier: MIT
"""The rows, the plain lines and the drawn tables, from given snapshots."""

import io
import re
import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from rich.console import Console

from tests.pure.tracer.snapshots import aggregate, series, snapshot, snapshots
from tracer.model.snapshot import CallAtStart, InFlight, Snapshot, difference
from tracer.terminal import rows as table
from tracer.terminal import tables as draw
from tracer.terminal.rows import Header
from tracer.terminal.view import LinesView

SECOND = 1_000_000_000


def drawn(renderable: object, width: int = 80) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(renderable)
    return stream.getvalue().splitlines()


def header(*hints: str) -> Header:
    return Header("curl (pid 4711)", "http://127.0.0.1:10435/metrics", hints)


def live(old: Snapshot, new: Snapshot, seconds: float = 1.0, height: int = 30) -> list[str]:
    rows = table.rows(new, difference(old, new), seconds)
    return drawn(draw.live_table(header(), new, rows, 83.0, height=height))


def test_rates_and_percentiles_are_of_the_last_interval() -> None:
    # A second ago: 100 calls in slot 8; since then 10 in slot 160, of which 3 failed.
    old = snapshot(series(of=aggregate({8: 100}, moved=5000, errors={"EAGAIN": 1})))
    of_now = aggregate({8: 100, 160: 10}, moved=9096, errors={"EAGAIN": 1, "EPIPE": 3})
    (row,) = table.rows(
        snapshot(series(of=of_now)), difference(old, snapshot(series(of=of_now))), 2
    )
    assert row.per_second == 5.0
    assert row.bytes_per_second == 2048.0
    assert row.recent is not None
    assert row.recent.errors == {"EPIPE": 3}
    assert row.recent.quantile_seconds(0.5) == pytest.approx(2 ** (-24 + 159.5 / 8))
    assert table.top_error(row.total) == (3, "EPIPE")


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ({}, (0, "")),
        ({"EAGAIN": 5, "EINPROGRESS": 9}, (9, "EINPROGRESS")),
        ({"EINTR": 90, "ERESTARTSYS": 9, "EPIPE": 1}, (1, "EPIPE")),
        ({"EINPROGRESS": 900, "ECONNREFUSED": 2, "ETIMEDOUT": 3}, (3, "ETIMEDOUT")),
    ],
)
def test_the_error_shown_is_the_most_frequent_failure(
    errors: dict[str, int], told: tuple[int, str]
) -> None:
    assert table.top_error(aggregate({1: 1000}, errors=errors)) == told


def test_the_busiest_come_first_and_the_idle_last() -> None:
    old = snapshot(series("send", of=aggregate({1: 1000})), series("recv", of=aggregate({1: 5})))
    new = snapshot(
        series("send", of=aggregate({1: 1000})),
        series("recv", of=aggregate({1: 6})),
        series("close", of=aggregate({1: 3})),
    )
    assert [row.name for row in table.rows(new, difference(old, new), 1)] == [
        "close",
        "recv",
        "send",
    ]


def test_calls_in_flight_are_shown_in_one_row_of_an_operation() -> None:
    new = snapshot(
        series("recv", transport="tcp", of=aggregate({1: 2})),
        series("recv", transport="udp", of=aggregate({1: 1})),
        in_progress=4,
    )
    assert [row.in_flight for row in table.rows(new, new, 1)] == [4, None]


def test_the_live_table() -> None:
    old = snapshot()
    new = snapshot(series(of=aggregate({80: 23}, moved=4096, errors={"ECONNREFUSED": 12})))
    lines = live(old, new)
    assert lines[0].strip() == "tracing curl (pid 4711)"
    state = "tracepoint · http://127.0.0.1:10435/metrics · 0:01:23"
    assert lines[1].strip() == state
    assert lines[2].strip() == "23 calls · 12 errors · 4.00 KiB"
    (line,) = [line for line in lines if line.startswith("send ")]
    assert " ".join(line.split()) == (
        "send tcp user 23.0 58.4 µs 58.4 µs 12 ECONNREFUSED 4.00 KiB 0"
    )
    assert lines[3].strip() == "lost: 3 return_without_entry"


def test_the_largest_numbers_fit_into_80_columns() -> None:
    worst = aggregate(
        {250: 10**9}, moved=999 * 2**30, errors={"ECONNREFUSED": 9999, "ETIMEDOUT": 1}
    )
    new = snapshot(series("getsockname", "kernel", "other", of=worst), in_progress=9999)
    (line,) = [line for line in live(snapshot(), new) if line.startswith("getsockname")]
    assert line.rstrip()[-1] != "…"
    for text in ("other", "kernel", "1.00G", "146 s   146 s", "9,999 EC", "999 GiB"):
        assert text in line


IN_FLIGHT_AT_START = (
    CallAtStart(812, 812, "nginx", "select", None),
    CallAtStart(4711, 4713, "bad\n\x1b[2J", "recv", 5),
    *(CallAtStart(pid, pid, "idle", "accept", 3) for pid in range(900, 1000)),
)


def test_calls_in_flight_at_the_start_have_a_line_of_their_own() -> None:
    new = replace(snapshot(), lost={}, in_flight_at_start=IN_FLIGHT_AT_START)
    told = (
        "102 calls were already in flight when tracing began: nginx[812] select, "
        r"bad\n\x1b[2J[4711/4713] recv on descriptor 5, idle[900] accept on descriptor 3, 99 more"
    )
    assert told in drawn(draw.live_table(header(), new, [], 1.0, height=30), width=200)
    assert drawn(draw.summary(header(), new, [], 1.0), width=200)[1] == told
    assert lines_of(new)[1] == f"# {told}"
    narrow = drawn(draw.live_table(header(), new, [], 1.0, height=30))
    assert max(map(len, narrow)) <= 80


def test_only_a_real_loss_is_red() -> None:
    def styles(new: Snapshot) -> set[str]:
        stream = io.StringIO()
        console = Console(file=stream, width=200, force_terminal=True, color_system="standard")
        console.print(draw.summary(header(), new, [], 1.0))
        return set(re.findall(r"\x1b\[1;31m", stream.getvalue()))

    new = replace(snapshot(), lost={}, in_flight_at_start=IN_FLIGHT_AT_START)
    assert not styles(new)
    assert styles(replace(new, lost={"return_without_entry": 1}))


def test_no_call_in_flight_at_the_start_has_no_line() -> None:
    assert not any("already" in line for line in live(snapshot(), snapshot()))


def test_rows_that_do_not_fit_are_counted() -> None:
    names = ["new", "bind", "listen", "accept", "connect", "send", "recv", "close"]
    new = snapshot(*(series(name) for name in names))
    lines = live(snapshot(), new, height=12)
    assert len(lines) == 11
    assert lines[-1].strip() == "and 4 more, less busy"


def by_pid(*stuck: InFlight, monotonic_ns: int = SECOND) -> Snapshot:
    """Twenty busy processes, and these calls in flight."""
    busy = [series(label=str(pid), of=aggregate({80: 100})) for pid in range(100, 120)]
    nothing = [series(one.operation, label=one.label, of=aggregate({})) for one in stuck]
    new = snapshot(*busy, *nothing, label_name="pid", monotonic_ns=monotonic_ns, in_progress=9)
    return replace(new, in_flight=stuck)


def test_a_stuck_process_is_not_hidden_by_busier_ones() -> None:
    new = by_pid(InFlight("recv", "tcp", "4711", 1, 0))
    lines = live(snapshot(label_name="pid"), new, height=12)
    [stuck] = [line.split() for line in lines if " 4711 " in line]
    assert stuck == ["recv", "4711", "tcp", "-", "-", "-", "-", "1"]
    assert [line.split()[-1] for line in lines if line.startswith("send")] == ["0"] * 3
    assert lines[-1].strip() == "and 17 more, less busy"


def test_stuck_processes_leave_room_for_busy_ones() -> None:
    stuck = [InFlight("select", "tcp", str(pid), 1, 0) for pid in range(200, 230)]
    stuck.append(InFlight("connect", "tcp", "4711", 1, SECOND // 2))
    lines = live(snapshot(label_name="pid"), by_pid(*stuck), height=12)
    shown = [line.split()[0] for line in lines if line.startswith(("se", "co"))]
    assert shown == ["send", "send", "select", "connect"]
    assert lines[-1].strip() == "and 47 more, less busy, 29 of them with calls in flight"


def test_a_call_gets_a_plain_line_when_it_is_stuck_and_no_second_one() -> None:
    first = snapshot(label_name="pid", monotonic_ns=0)
    stuck = InFlight("recv", "tcp", "4711", 1, 0)
    lines = lines_of(first, *(by_pid(stuck, monotonic_ns=n * SECOND) for n in (1, 2, 3)))
    [told] = [fields(line) for line in lines if "label=4711" in line]
    told.pop("time")
    assert told == {
        "operation": "recv",
        "path": "user",
        "transport": "tcp",
        "label": "4711",
        "calls": "0",
        "rate": "0.0",
        "bytes": "0",
        "errors": "0",
        "in_progress": "1",
    }


def test_an_empty_table_says_that_nothing_was_seen() -> None:
    assert live(snapshot(), snapshot())[-1].strip() == "no socket operation yet"


def test_a_label_has_a_column_and_its_control_characters_are_escaped() -> None:
    hostile = "\x1b[2Jbad[red]\nname"
    new = snapshot(series(label=hostile), label_name="comm")
    text = "\n".join(live(snapshot(), new))
    assert "\x1b" not in text
    assert r"\x1b[2Jbad[re" in text


def test_the_summary_has_exact_counts() -> None:
    new = snapshot(
        series("recv", of=aggregate({1: 1})),
        series("send", of=aggregate({1: 1234567}, moved=10, errors={"EPIPE": 1})),
    )
    rows = table.rows(new, new, 2.0)
    lines = drawn(draw.summary(header(), new, rows, 2.0))
    title = " ".join(lines[:2])
    assert "curl (pid 4711): 1,234,568 calls, 1 error, 10 B in 2.00 s; lost: 3" in title
    assert [line.split()[0] for line in lines[-2:]] == ["send", "recv"]
    assert "1,234,567" in lines[-2]


def fields(line: str) -> dict[str, str]:
    return dict(field.split("=", 1) for field in shlex.split(line))


def lines_of(*steps: Snapshot, last: Snapshot | None = None) -> list[str]:
    stream = io.StringIO()
    view = LinesView(stream, header("try: this"))
    view.begin(steps[0])
    for step in steps[1:]:
        view.update(step)
    view.finish(steps[-1] if last is None else last)
    view.end()
    return stream.getvalue().splitlines()


def test_plain_lines_have_only_what_changed_in_base_units() -> None:
    first = snapshot(monotonic_ns=0)
    second = snapshot(
        series(of=aggregate({80: 23}, moved=46, errors={"EPIPE": 1})),
        series("recv"),
        monotonic_ns=2 * SECOND,
        in_progress=2,
    )
    third = snapshot(*second.operations, series("close"), monotonic_ns=3 * SECOND)
    lines = lines_of(first, second, third, third)
    assert lines[:2] == [
        "# tracing curl (pid 4711); metrics on http://127.0.0.1:10435/metrics",
        "# try: this",
    ]
    send, recv, close = map(fields, lines[2:])
    assert send.pop("time").endswith("Z")
    assert send == {
        "operation": "send",
        "path": "user",
        "transport": "tcp",
        "calls": "23",
        "rate": "11.5",
        "p50_seconds": "0.000058447",
        "p99_seconds": "0.000058447",
        "bytes": "46",
        "errors": "1",
        "errno": "EPIPE",
        "in_progress": "0",
    }
    assert (recv["operation"], recv["in_progress"]) == ("recv", "2")
    assert (close["operation"], close["calls"]) == ("close", "1")


def test_the_last_partial_interval_has_its_lines_too() -> None:
    first = snapshot(monotonic_ns=0)
    second = snapshot(series(of=aggregate({80: 23})), monotonic_ns=SECOND)
    last = snapshot(series(of=aggregate({80: 40})), monotonic_ns=SECOND + SECOND // 2)
    sends = [fields(line) for line in lines_of(first, second, last=last)[2:]]
    assert [(line["calls"], line["rate"]) for line in sends] == [("23", "23.0"), ("17", "34.0")]


@given(snapshots())
def test_every_snapshot_can_be_shown(new: Snapshot) -> None:
    empty = snapshot(label_name=new.label_name)
    rows = table.rows(new, new, 1.0)
    for line in drawn(draw.live_table(header(), new, rows, 1.0, height=24)):
        assert len(line) <= 80
    drawn(draw.summary(header(), new, rows, 1.0))
    for line in lines_of(empty, new)[2:]:
        assert fields(line)["operation"]
