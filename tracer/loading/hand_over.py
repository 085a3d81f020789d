# SPDX-License-Identifier: MIT
"""What parent and child of the loader send each other, as JSON over a Unix socket.

parent -> child   an Order: what to compile, load and attach
child -> parent   a Report, and then the descriptors that it names, in its order;
                  or a TracerError
"""

from dataclasses import asdict, dataclass
from typing import Any, Self

from tracer.errors import TracerError
from tracer.loading.attachments import Attachment
from tracer.model.layout import MapLayout

__all__ = ["Order", "Report", "answer_from_json", "answer_to_json"]


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


def answer_from_json(data: dict[str, Any]) -> Report | TracerError:
    """What the child sent."""
    if "error" in data:
        return TracerError.from_json(data["error"])
    return Report.from_json(data["report"])
