"""The states that a handler keeps of its keys: in memory, and saved in the transaction that completes their events.

A call works on a copy, which takes the state's place when the call has succeeded. What is saved is what each event
left, when that event is completed: the next one of its key may be under way by then, and is no part of the commit.

A state may ask for its key to be woken at a time (`wakes.py`). The log is asked for a tick at the earliest of these
times; with the tick the keys whose time has come are handled like events, behind those that were read before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from millstream.app.state import State, StateKind
from millstream.clock import Micros, to_datetime, to_micros
from millstream.errors import StateError
from millstream.event import Batch, Event
from millstream.log.contract import MAX_CHUNK_BYTES
from millstream.worker import wakes
from millstream.worker.function import Function
from millstream.worker.given import Made
from millstream.worker.segment import Item, Segment, key_of
from millstream.worker.wakes import Wake, Wakes

PREFIX = "key:"
"""The chunk of a key's state is called by it, behind this."""

Saved = dict[str, bytes]
Changes = dict[str, bytes | None]
"""Chunks by name; None for one that is dropped."""


@dataclass(slots=True)
class _Home:
    """What is kept of the keys of a partition, and the time for which the log was asked for a tick there, if it was."""

    saved: Saved
    wakes: Wakes
    asked: Micros | None = None


@dataclass(frozen=True, slots=True)
class _Call:
    """A state that a call works on: of which partition's, and what it was."""

    home: _Home
    state: State[Any]
    before: bytes | None
    wake: Wake | None


class States:
    """Those of one handler, in the partitions that this worker has. A key's calls come one after the other.

    `wake`: keys can be woken."""

    def __init__(self, kind: StateKind, wake: bool = False) -> None:
        self._kind = kind
        self._can_wake = wake
        self._homes: dict[int, _Home] = {}
        self._calls: dict[tuple[int, str], _Call] = {}
        self._left: dict[Item, Changes] = {}  # by events that are not completed yet
        self._woken: dict[int, list[Segment]] = {}

    def restore(self, partition: int, chunks: Mapping[str, bytes]) -> None:
        """Take a partition on, with what is saved of it."""
        self._homes[partition] = _Home(states_of(chunks), Wakes(wakes.wakes_of(chunks)))

    def close(self, partition: int) -> None:
        """Somebody else waits for the partition: wake no more of its keys."""
        for segment in self._woken.get(partition, ()):
            segment.closed = True

    def drop(self, partition: int) -> None:
        """The partition is somebody else's. Calls that are under way find nothing any more, and leave nothing."""
        self._homes.pop(partition, None)
        for segment in self._woken.pop(partition, ()):
            segment.closed = segment.dropped = True
        left = list(self._left.items())  # threads may add some meanwhile
        self._left = {item: changes for item, changes in left if item[0].partition != partition}

    def ring(self, batch: Batch) -> Segment | None:
        """The keys whose time has come with the ticks of a batch that was read, as if they were events."""
        home = self._homes.get(batch.partition)
        if home is None or not batch.ticks:
            return None
        home.asked = None  # the log has done what it was asked for
        tick = batch.ticks[-1]
        found = home.wakes.ring(tick.time)
        if not found:
            return None
        segment = Segment(wakes.woken(batch, tick, found), is_wake=True)
        under_way = [one for one in self._woken.get(batch.partition, ()) if not one.is_complete]
        self._woken[batch.partition] = [*under_way, segment]
        return segment

    def wants_ticks(self, partition: int) -> bool:
        """Whether a key of the partition is to be woken."""
        return self._homes[partition].wakes.due is not None

    def dues(self, partitions: Iterable[int]) -> dict[int, Micros | None]:
        """When ticks are wanted, of those partitions where it is another time than was asked for before."""
        found = {}
        for partition in partitions:
            home = self._homes.get(partition)
            if home is not None and (due := home.wakes.due) != home.asked:
                found[partition] = home.asked = due
        return found

    def begin(self, segment: Segment, index: int, made: Made) -> State[Any]:
        """The state for a call. `StateError` if what was saved is of another type."""
        key = segment.keys[index]
        home = self._homes.get(segment.partition) or _Home({}, Wakes({}))
        before, wake = home.saved.get(key), home.wakes.get(key)
        wake_at = None if wake is None or segment.is_wake else to_datetime(wake.at)
        state = self._kind.of(key, before, wake_at)
        self._calls[segment.partition, key] = _Call(home, state, before, wake)
        return state

    @contextmanager
    def around(self, item: Item) -> Iterator[None]:
        """A call. What it leaves is there for the next one if it succeeds; `StateError` if it cannot be kept."""
        place = item[0].partition, key_of(item)
        try:
            yield
        except BaseException:
            self._calls.pop(place, None)
            raise
        if (call := self._calls.pop(place, None)) is not None:
            self._keep(item, call)

    def rings(self, item: Item) -> bool:
        """Whether a key that is to be woken still wants it: an event before may have changed its mind."""
        home = self._homes.get(item[0].partition)
        return home is not None and home.wakes.rings(key_of(item))

    def give_up(self, item: Item) -> None:
        """A key could not be woken, and will not be."""
        if home := self._homes.get(item[0].partition):
            key = key_of(item)
            home.wakes.put(key, None)
            self._left[item] = {wakes.PREFIX + key: None}

    def reset(self, item: Item) -> None:
        """A key begins anew: nothing is kept of it, and it is not woken."""
        segment, index = item
        home, key = self._homes.get(segment.partition), segment.keys[index]
        if home is not None and not segment.dropped:
            home.saved.pop(key, None)
            home.wakes.put(key, None)
            self._left[item] = {PREFIX + key: None, wakes.PREFIX + key: None}

    def _keep(self, item: Item, call: _Call) -> None:
        changes: Changes = {}
        state, home = call.state, call.home
        wake = self._wake_of(state, item, call.wake)
        saved = self._kind.saved(state)
        if saved != call.before:
            changes[PREFIX + state.key] = saved
            if saved is None:
                del home.saved[state.key]
            else:
                _check_size(state.key, saved)
                home.saved[state.key] = saved
        if wake != call.wake:
            changes[wakes.PREFIX + state.key] = None if wake is None else wakes.encode(wake)
            home.wakes.put(state.key, wake)
        if changes and not item[0].dropped:
            self._left[item] = changes

    def _wake_of(self, state: State[Any], item: Item, before: Wake | None) -> Wake | None:
        if state.wake_at is None:
            return None
        if not self._can_wake:
            raise StateError(f"wake_at of the key {state.key!r} is set, and the handler has no wake=… to call then")
        segment, index = item
        at = to_micros(state.wake_at)
        return before if before is not None and before.at == at else Wake(at, segment.topics[index])

    def completed(self, item: Item, changes: dict[tuple[int, str], bytes | None]) -> None:
        """An event is completed: note the chunks that it changed, if any, among what the next commit changes."""
        if item in self._left:
            partition = item[0].partition
            changes |= {(partition, name): chunk for name, chunk in self._left.pop(item).items()}


class StatefulFunction(Function[Item]):
    """A function with a state, around each call; beside it the one that is called when a key is woken."""

    def __init__(self, function: Function[Item], wake: Function[Item] | None, states: States) -> None:
        self.is_async = function.is_async
        self._inner = function
        self._wake = wake
        self._states = states

    def call(self, subject: Item) -> list[Event]:
        """See `Function.call`; and `StateError`."""
        function = self._function(subject)
        if function is None:
            return []
        with self._states.around(subject):
            return function.call(subject)

    async def call_in_loop(self, subject: Item) -> list[Event]:
        """The same for an `async` function."""
        function = self._function(subject)
        if function is None:
            return []
        with self._states.around(subject):
            return await function.call_in_loop(subject)

    def _function(self, item: Item) -> Function[Item] | None:
        segment, index = item
        if segment.resets_key(index):
            self._states.reset(item)
            return None
        if not segment.is_wake:
            return self._inner
        return self._wake if self._states.rings(item) else None


def states_of(chunks: Mapping[str, bytes]) -> Saved:
    """What is kept of each key, as JSON, from the state that a handler's group has saved."""
    return {name.removeprefix(PREFIX): chunk for name, chunk in chunks.items() if name.startswith(PREFIX)}


def _check_size(key: str, saved: bytes) -> None:
    if len(saved) > MAX_CHUNK_BYTES:
        raise StateError(
            f"the state of the key {key!r} has {len(saved):,} bytes, and at most {MAX_CHUNK_BYTES:,} are kept of a "
            "key; keep less, or publish what has become too much into a stream"
        )
