"""Which streams there are, and the ids of their partitions, as the file tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import apsw
import msgspec

from millstream.errors import LogError
from millstream.log.contract import StreamSpec
from millstream.log.specs import unknown_stream


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream, and the ids of its partitions by number."""

    id: int
    spec: StreamSpec
    partitions: tuple[int, ...]


class Catalog:
    """The streams at one version of the catalog; `places` tells the stream and number of a partition's id."""

    def __init__(self, version: int, streams: Mapping[str, Stream]) -> None:
        self.version = version
        self.streams = streams
        self.places = {
            partition: (name, number)
            for name, stream in streams.items()
            for number, partition in enumerate(stream.partitions)
        }

    @property
    def specs(self) -> dict[str, StreamSpec]:
        return {name: stream.spec for name, stream in self.streams.items()}

    def stream(self, name: str) -> Stream:
        """`UnknownStreamError` if there is none of that name."""
        try:
            return self.streams[name]
        except KeyError:
            raise unknown_stream(name, self.streams) from None

    def partition(self, name: str, number: int) -> int:
        """A partition's id."""
        partitions = self.stream(name).partitions
        if not 0 <= number < len(partitions):
            raise LogError(f"stream {name!r} has the partitions 0 to {len(partitions) - 1}; there is no {number}")
        return partitions[number]


def catalog_version(db: apsw.Connection) -> int:
    """Grows with every change of the catalog."""
    version: int = db.execute("SELECT version FROM catalog").get
    return version


def load_catalog(db: apsw.Connection) -> Catalog:
    """Read the catalog, within a transaction of the caller's."""
    partitions: dict[int, list[int]] = {}
    for stream_id, partition_id in db.execute("SELECT stream_id, id FROM partitions ORDER BY stream_id, number"):
        partitions.setdefault(stream_id, []).append(partition_id)
    streams = {
        name: Stream(stream_id, msgspec.json.decode(spec, type=StreamSpec), tuple(partitions[stream_id]))
        for stream_id, name, spec in db.execute("SELECT id, name, spec FROM streams ORDER BY name")
    }
    return Catalog(catalog_version(db), streams)
