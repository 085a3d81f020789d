# SPDX-License-Identifier: MIT
"""Read the cells and the calls in flight of a label's values, and give back what is silent.

The kernel side has room for a number of values (bpf/label.h). When it becomes scarce, the cells of
the values that have been silent for longest are given back. Their counts stay in the totals, under
the value `GIVEN_BACK`.
"""

import contextlib
import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from tracer.kernel.cgroups import cgroup_path
from tracer.kernel.maps import Map, sum_of_cpus
from tracer.model.layout import VALUE
from tracer.model.operations import OPERATIONS, TRANSPORTS, Bytes
from tracer.model.silence import Silence
from tracer.model.snapshot import GIVEN_BACK, OTHER, Aggregate, InFlight, MapUse, merge
from tracer.privileges.requests import Requests
from tracer.reading.cells import Cell, CellFields

__all__ = ["Labels"]

_SCARCE = 7 / 8  # when this part of the room is used, values are given back
_ENOUGH = 3 / 4  # until only this part is used, or no value is silent

_Value = tuple[bytes, int]  # as in the maps: the label, and since when it has room


class Labels:
    """The values of one label in the maps of one session; `silence_ns` makes a value silent.

    `ask` returns what answers for the threads of other users.
    """

    def __init__(
        self, maps: Mapping[str, Map], label: str, silence_ns: int, ask: Callable[[], Requests]
    ) -> None:
        self._maps, self._label, self._ask = maps, label, ask
        self._cell = CellFields(maps["cells"].layout.value)
        self._silence: Silence[_Value] = Silence(silence_ns)
        self._labels_of_calls: dict[tuple[int, int], bytes] = {}
        # The counts of cells that were given back, by index and text.
        self._given_back: dict[tuple[int, str], Aggregate] = {}
        self._cells_of_value: Counter[_Value] = Counter()
        self._values: dict[bytes, int] = {}

    def cells(self, now_ns: int) -> Iterator[Cell]:
        """All cells, each summed over the CPUs, which have keys of their own.

        Ends with those that were given back: their series go on under another value. `now_ns` is
        the time, for the values' silence.
        """
        source = self._maps["labelled_cells"]
        index_of = source.layout.key["cell"].bytes
        self._read_values()
        self._cells_of_value.clear()
        of_cpus: dict[tuple[bytes, _Value], list[bytes]] = {}
        for key, value in source.items():
            owner = self._value_of_cell(key)
            self._cells_of_value[owner] += 1
            of_cpus.setdefault((key[index_of], owner), []).append(bytes(value))
        # The older ones first: if all have been silent since the same snapshot, these go first.
        counts = dict.fromkeys(sorted(self._values.items(), key=lambda value: value[1]), 0)
        for (index, owner), values in of_cpus.items():
            cell = sum_of_cpus(memoryview(b"".join(values)), source.field_size)
            count = cell[self._cell.count]
            counts[owner] = counts.get(owner, 0) + count
            if count:
                number = int.from_bytes(index, sys.byteorder)
                yield number, self._text(owner[0]), self._cell.aggregate(cell)
        self._silence.note(counts, now_ns)
        for (number, text), aggregate in self._given_back.items():
            yield number, text, aggregate

    def map_use(self) -> Iterator[MapUse]:
        """Entries of the maps when `cells` read them."""
        cells = self._cells_of_value.total()
        yield MapUse("labelled_cells", cells, self._maps["labelled_cells"].capacity)
        yield MapUse("label_values", len(self._values), self._maps["label_values"].capacity)

    def give_back(self, now_ns: int) -> None:
        """Give back the cells of silent values, if room was scarce when `cells` read the maps.

        Nothing is lost that is counted meanwhile. Once a value is deleted, programs that do not run
        yet cannot find its cells. Programs that run already may still count in them. So these are
        read and deleted when those programs have ended.
        """
        leaving = set(self._leaving(now_ns))
        if not leaving:
            return
        values = self._maps["label_values"]
        for label, since_ns in leaving:
            if self._values.get(label) == since_ns:
                values.delete(label)
        self._wait_for_running_programs()
        self._read_values()
        self._take_cells(leaving)

    def _leaving(self, now_ns: int) -> Iterator[_Value]:
        """The values that have been silent for longest, as many as necessary."""
        uses = tuple(self.map_use())
        if all(use.entries < _SCARCE * use.capacity for use in uses):
            return
        cells, values = (use.entries - _ENOUGH * use.capacity for use in uses)
        for value in self._silence.silent(now_ns):
            if cells <= 0 and values <= 0:
                return
            yield value
            cells -= self._cells_of_value[value]
            values -= 1

    def _wait_for_running_programs(self) -> None:
        gate, any_map = self._maps["grace_period"], self._maps["armed"]
        layout = gate.layout
        gate.update(layout.key.pack(**{VALUE: 0}), layout.value.pack(**{VALUE: any_map.descriptor}))

    def _take_cells(self, leaving: set[_Value]) -> None:
        """Add the cells of these values to `_given_back`, and delete them."""
        source = self._maps["labelled_cells"]
        index = source.layout.key["cell"]
        found = [
            (key, bytes(value))
            for key, value in source.items()
            if self._value_of_cell(key) in leaving
        ]
        for key, value in found:
            source.delete(key)
            number = int.from_bytes(key[index.bytes], sys.byteorder)
            text = self._text(self._value_of_cell(key)[0])
            self._add((number, text), self._cell.aggregate(memoryview(value).cast("Q")))
        self._rename_what_was_given_back()

    def _rename_what_was_given_back(self) -> None:
        """A series that another value continues must not fall, so it keeps its text until then."""
        continued = {OTHER, GIVEN_BACK, *map(self._text, self._values)}
        for number, text in [key for key in self._given_back if key[1] not in continued]:
            self._add((number, GIVEN_BACK), self._given_back.pop((number, text)))

    def _add(self, key: tuple[int, str], aggregate: Aggregate) -> None:
        known = self._given_back.get(key)
        self._given_back[key] = merge([known, aggregate]) if known else aggregate

    def _read_values(self) -> None:
        source = self._maps["label_values"]
        number = source.layout.value.number
        self._values = {bytes(key): number(VALUE, value) for key, value in source.items()}

    def _value_of_cell(self, key: bytes) -> _Value:
        layout = self._maps["labelled_cells"].layout.key
        return bytes(key[layout["label"].bytes]), layout.number("since_ns", key)

    def in_flight(self) -> Iterator[InFlight]:
        """The calls in flight by operation, transport and label value.

        A value that found no room in `label_values` is "other": so the call will be counted when it
        returns.
        """
        values = self._maps["label_values"]
        known = {bytes(key) for key, _ in values.items()}
        is_full = len(known) >= values.capacity
        starts: dict[tuple[str, str, str], list[int]] = {}
        for operation, transport, value, start_ns in self._calls_in_flight():
            has_room = not is_full or value.ljust(values.key_size, b"\0") in known
            text = self._text(value) if has_room else OTHER
            key = (OPERATIONS[operation].name, TRANSPORTS[transport], text)
            starts.setdefault(key, []).append(start_ns)
        for key, found in starts.items():
            yield InFlight(*key, len(found), min(found))

    def _calls_in_flight(self) -> Iterator[tuple[int, int, bytes, int]]:
        """Operation, transport, label value as in the maps, and start (ns) of each call in flight.

        All 8,192 slots are read, and almost all of them are free. So the starts are cut out of the
        bytes in one step, and Python code looks only at the calls in flight. The name and the
        cgroup of a thread are asked for once for each call.
        """
        layout = self._maps["calls"].layout.value
        start, words = layout["start_ns"].words.start, layout.size // 8
        labels: dict[tuple[int, int], bytes] = {}
        for name in ("calls", "threads"):
            for values in self._maps[name].values():
                for i, start_ns in enumerate(values.cast("Q")[start::words].tolist()):
                    if not start_ns:
                        continue
                    call = values[i * layout.size : (i + 1) * layout.size]
                    number = functools.partial(layout.number, raw=call)
                    if number("bytes") == Bytes.UNCOUNTED:
                        continue
                    ids = number("pid_tgid")
                    known = self._labels_of_calls.get((ids, start_ns))
                    known = known or self._label_of_call(ids, number("port"))
                    if known is not None:  # else its thread has ended
                        labels[ids, start_ns] = known
                        yield number("operation"), number("transport"), known, start_ns
        self._labels_of_calls = labels

    def _label_of_call(self, pid_tgid: int, port: int) -> bytes | None:
        """The label's bytes as bpf/label.h makes them; None if the thread has ended."""
        pid, tid = pid_tgid >> 32, pid_tgid & 0xFFFFFFFF
        with contextlib.suppress(OSError):
            if self._label == "comm":
                return self._ask().thread_name(pid, tid).encode("latin-1")
            number = {"pid": pid, "port": port}.get(self._label)
            if number is None:
                number = self._ask().cgroup_of_thread(pid, tid)
            return number.to_bytes(8, sys.byteorder)
        return None

    def _text(self, raw: bytes) -> str:
        if self._label == "comm":
            return raw.split(b"\0")[0].decode(errors="backslashreplace")
        number = int.from_bytes(raw[:8], sys.byteorder)
        return cgroup_path(number) if self._label == "cgroup" else str(number)
