# SPDX-License-Identifier: MIT
"""What parent and child of the loader send each other, as JSON over a Unix socket.

parent -> child   an Order: what to compile, load and attach
child -> parent   a Report, and then the descriptors that it names, in its order;
                  or a TracerError

Each side checks what it reads, so that a fault of the other one is one clear error.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

from tracer.errors import TracerError
from tracer.loading.attachments import Attachment
from tracer.model.layout import MapLayout

__all__ = ["MalformedError", "Order", "Report", "answer_from_json", "answer_to_json", "read_json"]

# The shapes of the messages: a type, None, a list of a shape, a dict with any keys (`...`) or with
# exactly these keys, or a tuple of alternatives.
_LAYOUT = {
    "size": int,
    "fields": [{"name": str, "offset": int, "item_bytes": int, "length": int}],
}
_REPORT = {
    "maps": {...: {"key": _LAYOUT, "value": _LAYOUT}},
    "programs": [str],
    "probes": [str],
    "failures": {...: str},
}
_TEXT = (str, None)
_ERROR = {
    **{"kind": str, "what": str, "object": _TEXT, "cause": _TEXT},
    **{"errno": (int, None), "hint": _TEXT, "log": str},
}
_ORDER = {
    "text": str,
    "cast": (int, None),
    "tables": {...: {...: {...: int}}},
    "attachments": [
        {
            **{"kind": str, "program": str, "target": str, "copy": str},
            **{"type_id": int, "constants": [[(str, int)]]},
        }
    ],
    "maps": [str],
    "owner": int,
}
_HIGHEST_ERRNO = 4095  # the kernel's MAX_ERRNO


class MalformedError(ValueError):
    """The bytes or the data are not what the other side sends."""


def read_json(raw: bytes) -> Any:
    """Decode a message; raises MalformedError."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:  # RecursionError: a thousand brackets
        raise MalformedError(f"it is not JSON: {error}") from None


@dataclass(frozen=True, slots=True)
class Order:
    """What the child does, with everything decided by the parent.

    `text` is the C text; `cast` the BTF id of the kernel's function for casts, if the text calls
    it. `tables` are the contents of maps to fill before anything is attached: by the map's name
    its values by key, by field. `attachments` go in this order; `maps` are those to hand over.
    `owner` is the parent's pid, which return probes made by name carry.
    """

    text: str
    cast: int | None
    tables: dict[str, dict[int, dict[str, int]]]
    attachments: tuple[Attachment, ...]
    maps: tuple[str, ...]
    owner: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The opposite of `to_json`; raises MalformedError."""
        _check(data, _ORDER, "the order")
        attachments = (
            Attachment(**item | {"constants": tuple(map(_constant, item["constants"]))})
            for item in data["attachments"]
        )
        tables = {
            name: {_number(key): value for key, value in rows.items()}  # JSON's keys are texts
            for name, rows in data["tables"].items()
        }
        return cls(
            **data
            | {
                "attachments": tuple(attachments),
                "tables": tables,
                "maps": tuple(data["maps"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What the child loaded and attached.

    `maps` are the maps' layouts by name, `programs` the programs' names, `probes` the targets of
    what is attached. The descriptors follow: one for each map, then one for each program, then one
    for each probe. `failures` says why a probe could not be attached, by target.
    """

    maps: dict[str, MapLayout]
    programs: tuple[str, ...]
    probes: tuple[str, ...]
    failures: dict[str, str]

    @property
    def descriptors(self) -> int:
        """How many descriptors follow."""
        return len(self.maps) + len(self.programs) + len(self.probes)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The opposite of `to_json`."""
        return cls(
            maps={name: MapLayout.from_json(layout) for name, layout in data["maps"].items()},
            programs=tuple(data["programs"]),
            probes=tuple(data["probes"]),
            failures=data["failures"],
        )


def answer_to_json(answer: Report | TracerError) -> dict[str, Any]:
    """What the child sends: what it loaded, or why it could not."""
    return {"report": asdict(answer)} if isinstance(answer, Report) else {"error": answer.to_json()}


def answer_from_json(data: Any) -> Report | TracerError:
    """What the child sent; raises MalformedError."""
    if not isinstance(data, dict) or "error" not in data:
        _check(data, {"report": _REPORT}, "the answer")
        for name, layout in data["report"]["maps"].items():
            _check_layout(layout["key"], f"the keys of {name}")
            _check_layout(layout["value"], f"the values of {name}")
        return Report.from_json(data["report"])
    _check(data, {"error": _ERROR}, "the answer")
    error = data["error"]
    if error["errno"] is not None and not 0 <= error["errno"] <= _HIGHEST_ERRNO:
        raise MalformedError(f"there is no errno {error['errno']}")
    try:
        return TracerError.from_json(error)
    except KeyError:
        raise MalformedError(f'there is no error "{error["kind"]}"') from None


def _check(data: Any, shape: Any, where: str) -> None:
    """Raise MalformedError if `data` does not have this shape."""
    if isinstance(shape, tuple):
        if not any(_has_shape(data, one) for one in shape):
            raise MalformedError(f"{where} is of the wrong type: {type(data).__name__}")
    elif isinstance(shape, list) and isinstance(data, list):
        for item in data:
            _check(item, shape[0], f"an item of {where}")
    elif isinstance(shape, dict) and isinstance(data, dict):
        if ... not in shape and data.keys() != shape.keys():
            raise MalformedError(f"{where} has the keys {sorted(data)}")
        for key, value in data.items():
            _check(value, shape.get(key, shape.get(...)), f'"{key}" in {where}')
    elif shape is not data and shape is not type(data):
        raise MalformedError(f"{where} is of the wrong type: {type(data).__name__}")


def _has_shape(data: Any, shape: Any) -> bool:
    try:
        _check(data, shape, "")
    except MalformedError:
        return False
    return True


def _check_layout(layout: dict[str, Any], where: str) -> None:
    """Raise MalformedError if a field is not inside its struct."""
    for field in layout["fields"]:
        numbers = (field["offset"], field["item_bytes"], field["length"])
        end = field["offset"] + field["item_bytes"] * (field["length"] or 1)
        if min(numbers) < 0 or end > layout["size"]:
            raise MalformedError(f'"{field["name"]}" is not inside of {where}')


def _constant(pair: list[Any]) -> tuple[str, int]:
    if list(map(type, pair)) != [str, int]:
        raise MalformedError(f"a constant is {pair}, not a name and a number")
    return pair[0], pair[1]


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise MalformedError(f'the key "{text}" is not a number') from None
