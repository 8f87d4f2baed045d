"""From the columns of events to the arguments of a function that is called for each event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from millstream.app.parameter import Gets, Parameter, Signature
from millstream.app.payload import DECODE_ERRORS, decode_problem
from millstream.errors import PayloadError
from millstream.event import Event
from millstream.topic import Filter
from millstream.worker.given import NOTHING, Given, Made
from millstream.worker.segment import Item, Segment

_TOPICS = 100_000  # topics whose levels are remembered; beyond, the memory is cleared and fills again

Getter = Callable[[Segment, int, Made], Any]
Found = tuple[list[Any], dict[str, Any]]


class Levels:
    """What the named levels of topics hold. A stream's topics may match any of its filters."""

    def __init__(self, filters: Sequence[Filter]) -> None:
        self._filters = filters
        self._known: dict[str, dict[str, str]] = {}

    def of(self, topic: str) -> dict[str, str]:
        """Raises `PayloadError` where no filter matches: the stream had other topics when it captured the event."""
        known = self._known.get(topic)
        if known is None:
            if len(self._known) >= _TOPICS:
                self._known.clear()
            known = self._known[topic] = self._find(topic)
        return known

    def _find(self, topic: str) -> dict[str, str]:
        for wanted in self._filters:
            found = wanted.parameters(topic)
            if found is not None:
                return found
        texts = ", ".join(repr(wanted.text) for wanted in self._filters)
        raise PayloadError(f"the topic {topic!r} does not match {texts}, so its levels have no names")


class EventArguments:
    """Arguments of a function that is called for each event."""

    def __init__(self, signature: Signature, levels: Levels, given: Given, state: Getter | None = None) -> None:
        """`state` gets that of an event's key, for a function that has one."""
        self._levels = levels
        self._given = given
        self._state = state
        self._positional = [self._getter(one) for one in signature.parameters if not one.keyword_only]
        self._by_name = {one.name: self._getter(one) for one in signature.parameters if one.keyword_only}

    def of(self, subject: Item, made: Made = NOTHING) -> Found:
        """Raises `PayloadError` where the event does not have what the function wants."""
        segment, index = subject
        return (
            [get(segment, index, made) for get in self._positional],
            {name: get(segment, index, made) for name, get in self._by_name.items()} if self._by_name else {},
        )

    def _getter(self, parameter: Parameter) -> Getter:
        if self._given.has(parameter):
            return _constant(self._given.of(parameter))
        if parameter.dependency is not None:
            return _made(parameter.dependency.factory)
        if parameter.gets is Gets.KEYED:
            assert self._state is not None
            return self._state
        if parameter.gets is Gets.EVENT:
            return _event
        if parameter.gets is Gets.DEVICE:
            return self._device_getter(parameter)
        if parameter.gets is Gets.LEVEL:
            return self._level_getter(parameter)
        return payload_getter(parameter)

    def _device_getter(self, parameter: Parameter) -> Getter:
        name, devices, levels = parameter.name, self._given.devices, self._levels
        return lambda segment, index, made: devices[levels.of(segment.topics[index])[name]]

    def _level_getter(self, parameter: Parameter) -> Getter:
        name, convert, levels = parameter.name, parameter.convert, self._levels

        def get(segment: Segment, index: int, made: Made) -> Any:
            level = levels.of(segment.topics[index])[name]
            if convert is None:
                return level
            try:
                return convert(level)
            except DECODE_ERRORS:
                raise PayloadError(f"the topic's level {name!r} is {level!r}, and no {parameter.wants}") from None

        return get


def payload_getter(parameter: Parameter) -> Getter:
    """Decodes the payload of an event as the parameter wants it. The getter raises `PayloadError`."""
    decode, wants = parameter.decode, parameter.wants
    assert decode is not None  # every parameter that gets payloads has one

    def get(segment: Segment, index: int, made: Made) -> Any:
        try:
            return decode(segment.payloads[index])
        except DECODE_ERRORS as error:
            raise PayloadError(f"the payload is no {wants}: {decode_problem(error)}") from None

    return get


def _event(segment: Segment, index: int, made: Made) -> Event:
    return segment.event(index)


def _constant(value: Any) -> Getter:
    return lambda segment, index, made: value


def _made(factory: Callable[..., Any]) -> Getter:
    return lambda segment, index, made: made[factory]


def event_of(item: Item) -> Event:
    """The event as the user sees it."""
    segment, index = item
    return segment.event(index)
