# SPDX-License-Identifier: MIT
"""What parent and child of the loader send each other, as JSON over a Unix socket.

parent -> child   an Order: what to compile, load and attach
child -> parent   a Report, and then the descriptors that it names, in its order;
                  or a Failure
"""

from dataclasses import asdict, dataclass
from typing import Any, Self

from tracer.errors import TracerError
from tracer.loading.attachments import Attachment
from tracer.model.layout import MapLayout

__all__ = ["Failure", "Order", "Report", "answer_from_json"]


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
        """The opposite of `to_json`."""
        attachments = (
            Attachment(**item | {"constants": tuple(map(tuple, item["constants"]))})
            for item in data["attachments"]
        )
        tables = {
            name: {int(key): value for key, value in rows.items()}  # JSON's keys are texts
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

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"report": asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The opposite of `to_json`."""
        report = data["report"]
        return cls(
            maps={name: MapLayout.from_json(layout) for name, layout in report["maps"].items()},
            programs=tuple(report["programs"]),
            probes=tuple(report["probes"]),
            failures=report["failures"],
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """A TracerError: its class by name, its arguments and its attributes. Nothing follows."""

    kind: str
    arguments: tuple[Any, ...]
    attributes: dict[str, Any]

    @classmethod
    def of(cls, error: TracerError) -> Self:
        """Take an error apart."""
        return cls(type(error).__name__, error.args, dict(vars(error)))

    def exception(self) -> TracerError:
        """The error as it was."""
        kinds: list[type[TracerError]] = [TracerError, *TracerError.__subclasses__()]
        [kind] = [kind for kind in kinds if kind.__name__ == self.kind]
        error = kind.__new__(kind, *self.arguments)
        vars(error).update(self.attributes)
        return error

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"failure": asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The opposite of `to_json`."""
        failure = data["failure"]
        return cls(failure["kind"], tuple(failure["arguments"]), failure["attributes"])


def answer_from_json(data: dict[str, Any]) -> Report | Failure:
    """What the child sent."""
    return Failure.from_json(data) if "failure" in data else Report.from_json(data)
