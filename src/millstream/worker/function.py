"""A handler's function with all that a call of it needs: its arguments, what it depends on, what its results become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from millstream.app.parameter import Gets, Signature
from millstream.event import Event
from millstream.worker.arguments import EventArguments, Getter, Levels
from millstream.worker.batches import BatchArguments
from millstream.worker.given import NOTHING, Given, Made, position
from millstream.worker.making import Arguments, Maker, Step
from millstream.worker.results import Results
from millstream.worker.segment import Item
from millstream.worker.threads import Threads

S = TypeVar("S")  # what one call handles: an `Item`, or a list of them

_NO_EVENTS: list[Event] = []


class Function(Generic[S]):
    """Called with what is to be handled; gives the events that the function returns. `maker` is None where it depends
    on nothing that is made for an event."""

    def __init__(
        self,
        signature: Signature,
        arguments: Arguments,
        results: Results,
        maker: Maker | None,
        topic_of: Callable[[S], str],
        position_of: Callable[[S], str],
    ) -> None:
        self.is_async = signature.is_async
        self._function = signature.function
        self._is_generator = signature.is_generator
        self._arguments = arguments
        self._results = results
        self._maker = maker
        self._topic_of = topic_of
        self._position_of = position_of
        self._tells_position = signature.wants(Gets.LOGGER)
        self._is_plain = maker is None and not self._tells_position

    def call(self, subject: S) -> list[Event]:
        """In a thread. Raises what the function, its dependencies and the checks of its results do, and
        `PayloadError` where the event does not have what it wants."""
        if self._is_plain:
            return self._called(subject, NOTHING)
        if self._tells_position:
            position.set(self._position_of(subject))
        if self._maker is None:
            return self._called(subject, NOTHING)
        with self._maker.in_thread(subject) as made:
            return self._called(subject, made)

    async def call_in_loop(self, subject: S) -> list[Event]:
        """The same for an `async` function."""
        if self._tells_position:
            position.set(self._position_of(subject))
        if self._maker is None:
            return await self._awaited(subject, NOTHING)
        async with self._maker.in_loop(subject) as made:
            return await self._awaited(subject, made)

    def _called(self, subject: S, made: Made) -> list[Event]:
        arguments, named = self._arguments.of(subject, made)
        returned = self._function(*arguments, **named)
        return _NO_EVENTS if returned is None else self._results.events(returned, self._topic_of(subject))

    async def _awaited(self, subject: S, made: Made) -> list[Event]:
        arguments, named = self._arguments.of(subject, made)
        result = self._function(*arguments, **named)
        returned: Any = [one async for one in result] if self._is_generator else await result
        return _NO_EVENTS if returned is None else self._results.events(returned, self._topic_of(subject))


def function_of_events(
    signature: Signature, levels: Levels, results: Results, given: Given, threads: Threads, state: Getter | None = None
) -> Function[Item]:
    """A function that is called for each event. `state`: see `EventArguments`."""

    def arguments(of: Signature) -> EventArguments:
        return EventArguments(of, levels, given, state)

    maker = _maker(signature, arguments, threads)
    return Function(signature, arguments(signature), results, maker, _topic_of_event, _position_of_event)


def function_of_batches(
    signature: Signature, levels: Levels, results: Results, given: Given, threads: Threads
) -> Function[list[Item]]:
    """A function that is called for many events at once."""

    def arguments(of: Signature) -> BatchArguments:
        return BatchArguments(of, levels, given)

    maker = _maker(signature, arguments, threads)
    return Function(signature, arguments(signature), results, maker, lambda items: "", _position_of_batch)


def _maker(signature: Signature, arguments: Callable[[Signature], Arguments], threads: Threads) -> Maker | None:
    of_events = [one for one in signature.dependencies if one.scope == "event"]
    return Maker([Step.of(one, arguments(one.signature)) for one in of_events], threads) if of_events else None


def _topic_of_event(item: Item) -> str:
    segment, index = item
    return segment.topics[index]


def _position_of_event(item: Item) -> str:
    segment, index = item
    return f"{segment.stream}:{segment.partition}:{segment.offsets[index]}"


def _position_of_batch(items: list[Item]) -> str:
    """The first one's position, and the last one's offset."""
    first = _position_of_event(items[0])
    segment, index = items[-1]
    return first if len(items) == 1 else f"{first}-{segment.offsets[index]}"
