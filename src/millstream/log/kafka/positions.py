"""Where a group is: its committed offsets, and what stands with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
from confluent_kafka import TopicPartition

from millstream.clock import Micros
from millstream.log.contract import EARLIEST, Position, Start
from millstream.log.kafka.admin import Admin, Offset, TopicPlace
from millstream.log.kafka.catalog import Stream
from millstream.log.kafka.names import Names
from millstream.log.kafka.offsets import (
    COUNTS_CHUNK,
    Counts,
    Place,
    chunk_of,
    done_chunk,
    pack,
    position_of,
    to_runs,
    unpack_counts,
    unpack_place,
)

Chunks = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Held:
    """A group's position in a partition of a stream: with the stream's id, where the group began, and the time at which
    it wants a tick."""

    stream_id: str
    position: Position
    start: int = 0
    due: Micros | None = None

    def to_offset(self, topic: str, number: int, stream: str) -> tuple[TopicPartition, tuple[str, bytes | None]]:
        """The offset to commit, and the hidden chunk to save with it, or to drop."""
        low, done = self.position.low, self.position.done
        metadata, chunk = pack(Place(self.stream_id, self.start, to_runs(low, done), self.due))
        return TopicPartition(topic, number, low, metadata), (done_chunk(stream), chunk)


@dataclass(frozen=True, slots=True)
class Numbered:
    """What a group has in a partition number: positions by stream, the transactions it has committed for it, the counts
    of these, and the member that the last one is of."""

    held: Mapping[str, Held] = field(default_factory=dict)
    serial: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    writer: str = ""


def needs_chunks(offsets: Mapping[TopicPlace, Offset], topics: Iterable[str], state: str, number: int) -> bool:
    """Whether something did not fit into the metadata."""
    spilt = [unpack_place(offsets[topic, number].metadata).chunk for topic in topics if (topic, number) in offsets]
    counts = offsets.get((state, number))
    return any(spilt) or (counts is not None and unpack_counts(counts.metadata).chunk)


def read_number(
    offsets: Mapping[TopicPlace, Offset],
    streams: Mapping[str, Stream],
    names: Names,
    state: str,
    number: int,
    chunks: Chunks,
) -> Numbered:
    """What the committed offsets say of a partition number. A position in a stream of another id is none."""
    held: dict[str, Held] = {}
    hidden: set[str] = set()
    for name, stream in streams.items():
        found = offsets.get((names.topic(name), number))
        if found is None or number >= stream.spec.partitions:
            continue
        place = unpack_place(found.metadata)
        if place.chunk:
            hidden.add(done_chunk(name))
            place = msgspec.json.decode(chunk_of(chunks, done_chunk(name)), type=Place)
        if place.stream in ("", stream.id):
            held[name] = Held(stream.id, position_of(found.offset, place), place.start, place.due)
    own = offsets.get((state, number), Offset(0, None))
    counts = unpack_counts(own.metadata)
    if counts.chunk:
        hidden.add(COUNTS_CHUNK)
        counts = msgspec.json.decode(chunk_of(chunks, COUNTS_CHUNK), type=Counts)
    return Numbered(held, own.offset, counts.counts, frozenset(hidden), counts.writer)


def first_offsets(
    admin: Admin, names: Names, streams: Sequence[Stream], group: str, start: Start
) -> list[TopicPartition]:
    """The positions that a group has to get before it can be joined: where it has none yet, at the streams' earliest or
    latest record. Where it has one in an earlier stream of the name, it begins at the new one's beginning."""
    topics = {names.topic(stream.spec.name): stream for stream in streams}
    places = [(topic, number) for topic, stream in topics.items() for number in range(stream.spec.partitions)]
    # Before the look at the positions: who has seen that there are none must not pass over what came since.
    ends = admin.firsts(places) if start == EARLIEST else admin.ends(places, committed=False)
    known = admin.offsets(names.group(group), [*places, (names.state(group), 0)])
    firsts = admin.firsts(places) if known else {}
    missing: list[TopicPartition] = []
    for place in places:
        stream = topics[place[0]]
        if place in known:
            if unpack_place(known[place].metadata).stream in ("", stream.id):
                continue
            at = firsts.get(place, 0)
        else:
            at = ends.get(place, 0)
        offset, _ = Held(stream.id, Position(at), at).to_offset(*place, stream.spec.name)
        missing.append(offset)
    return missing


def moved(held: Held, position: Position) -> Held:
    """The same at another position."""
    return replace(held, position=position)
