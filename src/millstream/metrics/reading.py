"""The values of metrics at one moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from millstream.metrics.histogram import Distribution
from millstream.metrics.metric import Metric

Value = float | Distribution
Labels = tuple[str, ...]

_Values = dict[str, list[tuple[Labels, Value]]]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Values).decode


class Reading:
    """Values by metric and labels. A series has one value: what is set later replaces what was there."""

    def __init__(self) -> None:
        self._values: dict[str, dict[Labels, Value]] = {}

    def set(self, metric: Metric, value: Value, *labels: str) -> None:
        """The value of the series with these labels, in the order of `metric.labels`."""
        if len(labels) != len(metric.labels):
            raise ValueError(f"{metric.name} has the labels {metric.labels}, not {labels}")
        self._values.setdefault(metric.name, {})[labels] = value

    def of(self, metric: Metric) -> Mapping[Labels, Value]:
        """The values of a metric by labels."""
        return self._values.get(metric.name, {})

    def encode(self) -> bytes:
        """For another process."""
        return _encode({name: list(series.items()) for name, series in self._values.items()})

    def add_encoded(self, encoded: bytes) -> None:
        """Take in what another process has read. `msgspec.MsgspecError` if it is none."""
        for name, series in _decode(encoded).items():
            self._values.setdefault(name, {}).update(series)


Source = Callable[[Reading], Awaitable[None]]
"""Adds what a part measures to a reading."""


class Sources:
    """The parts of a process that measure. A new part adds itself; whoever wants to know asks for a reading."""

    def __init__(self) -> None:
        self._sources: list[Source] = []
        self._one_at_a_time = asyncio.Lock()

    def add(self, source: Source) -> None:
        """Ask this one too, from now on."""
        self._sources.append(source)

    async def read(self) -> Reading:
        """What all of them measure now. One reading at a time, so that many who ask cost no more than one."""
        async with self._one_at_a_time:
            reading = Reading()
            await asyncio.gather(*(source(reading) for source in self._sources))
            return reading
