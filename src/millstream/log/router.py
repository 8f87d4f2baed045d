"""From a topic to the streams and partitions that capture it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millstream.errors import AppError
from millstream.event import EVENT_SCHEMA
from millstream.log.contract import StreamSpec
from millstream.log.partition import partition_of, partitions_of
from millstream.topic import Filter, Trie

_KEY = EVENT_SCHEMA.get_field_index("key")
_FEW = 64  # events, for each of which to ask costs less than to find those that are alike
_MANY = 4_096  # events, which cost more to pack twice than an order that nothing promises is worth
_CACHE = 100_000  # topics whose targets are remembered; beyond, the memory is cleared and fills again


class Target(NamedTuple):
    """Where an event goes: a stream, one of its partitions, and the key it has there."""

    stream: str
    partition: int
    key: str


class Spread(NamedTuple):
    """Events of a batch as they go to the log: `appends` are a stream, a partition, and its events in order with their
    keys there. Streams whose partitions and keys are the same, as those of a query's own stream and of one that
    captures everything, have the same batches. `together` are all of the events, in their order and with the keys they
    had; where a stream has just these, as the batches that are appended to it. So what is the same is packed once, for
    which many events are in order in each partition, and not between them."""

    appends: list[tuple[str, int, pa.RecordBatch]]
    together: list[pa.RecordBatch]


class Router:
    """The streams' filters in one trie. Immutable: a new set of streams is a new router."""

    def __init__(self, streams: Iterable[StreamSpec]) -> None:
        self._streams = {spec.name: spec for spec in streams}
        self._trie: Trie[tuple[str, int]] = (
            Trie()
        )  # a stream, and the level of its key in the matching filter (-1: none)
        for spec in self._streams.values():
            for text in spec.topics:
                parsed = Filter.parse(text)
                if spec.key is not None and spec.key not in parsed.names:
                    raise AppError(
                        f"stream {spec.name!r} has the key {spec.key!r}, but its filter {text!r} has no level "
                        f"{{{spec.key}}}; name that level, or leave the key out to use the topic"
                    )
                self._trie.add(parsed.mqtt, (spec.name, parsed.names[spec.key] if spec.key is not None else -1))
        self._cache: dict[tuple[str, str | None], tuple[Target, ...]] = {}

    @property
    def streams(self) -> dict[str, StreamSpec]:
        return self._streams

    def route(self, topic: str, key: str | None = None) -> tuple[Target, ...]:
        """The targets of an event on `topic` whose own key is `key`; one a stream, none where no filter matches."""
        found = self._cache.get((topic, key))
        if found is None:
            if len(self._cache) >= _CACHE:
                self._cache.clear()
            found = self._cache[topic, key] = self._find(topic, key)
        return found

    def _find(self, topic: str, key: str | None) -> tuple[Target, ...]:
        targets = []
        for name, level in self._captured_by(topic).items():
            its_key = topic.split("/")[level] if level >= 0 else key if key is not None else topic
            targets.append(Target(name, partition_of(its_key, self._streams[name].partitions), its_key))
        return tuple(targets)

    def _captured_by(self, topic: str) -> dict[str, int]:
        """The streams that capture a topic, and the level of their key in it (-1: none)."""
        found: dict[str, int] = {}
        for name, level in self._trie.match(topic):
            found.setdefault(name, level)
        return found

    def split(self, events: pa.RecordBatch) -> Spread:
        """Spread events (`EVENT_SCHEMA`) over the streams that capture them."""
        topics, keys = events.column("topic"), events.column("key")
        if events.num_rows <= _FEW:
            routes = [self.route(*pair) for pair in zip(topics.to_pylist(), keys.to_pylist(), strict=True)]
            return distribute(events, np.arange(len(routes), dtype=np.int32), routes)
        topics, keys = topics.dictionary_encode(), keys.dictionary_encode(null_encoding="encode")
        if len(topics.dictionary) == 1:
            return self._split_alike(events, topics.dictionary[0].as_py(), keys)
        wide = len(keys.dictionary)
        pairs = pa.array(topics.indices.to_numpy().astype(np.int64) * wide + keys.indices.to_numpy())
        encoded = pairs.dictionary_encode()
        names, own = topics.dictionary.to_pylist(), keys.dictionary.to_pylist()
        routes = [self.route(names[pair // wide], own[pair % wide]) for pair in encoded.dictionary.to_pylist()]
        return distribute(events, encoded.indices.to_numpy(), routes)

    def _split_alike(self, events: pa.RecordBatch, topic: str, keys: pa.DictionaryArray) -> Spread:
        """Events of one topic, as results of a query are: they may have many keys."""
        places = []
        for name, level in self._captured_by(topic).items():
            count = self._streams[name].partitions
            if level >= 0:
                key = topic.split("/")[level]
                its_keys = pa.repeat(pa.scalar(key, pa.string()), len(keys.dictionary))
                partitions = np.full(len(its_keys), partition_of(key, count), np.int16)
            else:
                its_keys = keys.dictionary.fill_null(topic)
                partitions = partitions_of(its_keys, count).astype(np.int16)
            places.append((name, partitions, its_keys))
        return _spread(events, keys.indices.to_numpy(), places)


def distribute(events: pa.RecordBatch, codes: npt.NDArray[np.int32], routes: Sequence[tuple[Target, ...]]) -> Spread:
    """Spread events over streams and partitions: row i goes to every target of `routes[codes[i]]`, in order."""
    by_stream: dict[str, tuple[list[int], list[str | None]]] = {}  # the partition and the key of each code
    for code, route in enumerate(routes):
        for stream, partition, key in route:
            found = by_stream.get(stream)
            if found is None:
                found = by_stream[stream] = [-1] * len(routes), [None] * len(routes)
            found[0][code] = partition
            found[1][code] = key
    places = [(name, np.array(its, np.int16), pa.array(keys, pa.string())) for name, (its, keys) in by_stream.items()]
    return _spread(events, codes, places)


def _spread(
    events: pa.RecordBatch,
    codes: npt.NDArray[np.int32],
    places: Iterable[tuple[str, npt.NDArray[np.int16], pa.StringArray]],
) -> Spread:
    """Spread events over streams, of each of which `places` has the partitions and keys by the rows' codes; -1 is no
    partition.

    A stream's rows are put in the order of their partitions once, and what each partition gets is a slice of them:
    gathering the rows of every partition by itself costs several times as much. What a query makes of partitions that
    it has read one after the other mostly stands together already, and stays where it is."""
    appends: list[tuple[str, int, pa.RecordBatch]] = []
    together = None
    cut: list[tuple[npt.NDArray[np.int16], pa.StringArray, list[tuple[int, pa.RecordBatch]]]] = []
    for stream, partitions, keys in places:
        alike = (its for own, names, its in cut if np.array_equal(own, partitions) and names.equals(keys))
        parts = next(alike, None)
        if parts is None:
            parts, whole = _cut(events, codes, partitions, keys)
            cut.append((partitions, keys, parts))
            if whole and together is None:
                together = [rows for _, rows in parts]
        appends += [(stream, partition, rows) for partition, rows in parts]
    return Spread(appends, [events] if together is None else together)


def _cut(
    events: pa.RecordBatch,
    codes: npt.NDArray[np.int32],
    partition_by_code: npt.NDArray[np.int16],
    key_by_code: pa.StringArray,
) -> tuple[list[tuple[int, pa.RecordBatch]], bool]:
    """What each partition of a stream gets, and whether that is all of the events as they are, one after the other (of
    many: in order in each partition)."""
    partitions = partition_by_code[codes]  # of 16 bits: NumPy sorts them by radix
    order = None
    starts = _runs(partitions)
    if len(starts) > len(set(partitions[starts].tolist())):
        order = np.argsort(partitions, kind="stable")
        partitions, codes = partitions[order], codes[order]
        starts = _runs(partitions)
    keys = key_by_code.take(pa.array(codes))
    own = events.column(_KEY)
    whole = keys.equals(own) if order is None else len(codes) >= _MANY and keys.equals(own.take(pa.array(order)))
    ordered = events if whole and order is None else _reordered(events, order, keys)
    parts = [
        (partition, ordered.slice(start, end - start))
        for partition, (start, end) in zip(
            partitions[starts].tolist(), pairwise([*starts.tolist(), len(partitions)]), strict=True
        )
        if partition >= 0  # the others go nowhere
    ]
    return parts, whole and len(parts) == len(starts)


def _runs(partitions: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
    """Where each run of equal partitions begins."""
    begins = np.ones(len(partitions), np.bool_)
    begins[1:] = partitions[1:] != partitions[:-1]
    return np.flatnonzero(begins)


def _reordered(events: pa.RecordBatch, order: npt.NDArray[np.int64] | None, keys: pa.Array) -> pa.RecordBatch:
    """The events in another order, if there is one, with their keys. A column that is null throughout (most are) stays
    as it is."""
    columns = events.columns
    if order is not None:
        places = pa.array(order)
        columns = [column if column.null_count == len(column) else column.take(places) for column in columns]
    columns[_KEY] = keys
    return pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA)
