"""Reference data that is the registry of devices: a row for each device, with its tags and its twin's two sides.

A content has only what queries use of the documents, so that nothing else in them makes a version.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import pyarrow as pa

from millstream.reference.source import Content

REGISTRY = "registry"
"""What `app.reference` takes as the source."""


class Wish(NamedTuple):
    """What is asked of the registry: the devices that a query selects (None: all of them), their `id` and further
    columns, when there have been other changes than the first `seen` ones (-1: at once)."""

    query: str | None
    columns: Sequence[str]
    seen: int = -1


class Found(NamedTuple):
    """The answer: how many changes it has `seen`, and a table of texts, in order; members of documents are JSON."""

    seen: int
    table: pa.Table


class Tables(Protocol):
    """Who knows the registry."""

    async def table(self, wish: Wish) -> Found:
        """Wait until there is something new. `ReferenceDataError`: it is too much. `RegistryError`, `LogError`: the
        registry, or the server, does not answer."""
        ...


@dataclass(frozen=True, slots=True)
class RegistrySource:
    """The devices that a query selects (None: all of them)."""

    query: str | None = None
    columns: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("id", "status", "enrollment"), "VARCHAR"),
        **dict.fromkeys(("tags", "desired", "reported"), "JSON"),
    }
    location: ClassVar[str] = "the registry of devices"

    async def read(self, tables: Tables, columns: Collection[str], seen: int) -> tuple[int, Content]:
        """See `Tables.table`."""
        found = await tables.table(Wish(self.query, sorted({*columns} - {"id"}), seen))
        return found.seen, Content(found.table, dict.fromkeys(found.table.column_names, "VARCHAR"))
