"""Steps of a script: what happens to a plant, as data, for tables of cases."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from millstream.duration import Duration
from millstream.testing.line import When

if TYPE_CHECKING:
    from millstream.testing.plant import Plant


class Step(Protocol):
    """Anything that can be done to a plant."""

    async def play(self, plant: Plant) -> None:
        """Do it."""
        ...


Steps = Sequence[Step | tuple[str, Any]]
"""A pair of a topic and data stands for `Publish`."""


@dataclass(frozen=True, slots=True)
class Publish:
    """An event is published; see `Plant.publish`."""

    topic: str
    data: Any
    id: str | None = None
    key: str | None = None
    type: str | None = None
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    async def play(self, plant: Plant) -> None:
        await plant.publish(
            self.topic,
            self.data,
            id=self.id,
            key=self.key,
            type=self.type,
            content_type=self.content_type,
            headers=self.headers,
        )


@dataclass(frozen=True, slots=True)
class Pause:
    """Time passes."""

    duration: Duration

    async def play(self, plant: Plant) -> None:
        await plant.advance(self.duration)


@dataclass(frozen=True, slots=True)
class Shuffled:
    """Steps in disorder: the same one for the same `seed`."""

    steps: Steps
    seed: int = 0

    async def play(self, plant: Plant) -> None:
        await plant.play(random.Random(self.seed).sample(self.steps, len(self.steps)))  # noqa: S311 (no secret)


@dataclass(frozen=True, slots=True)
class Crash:
    """The workers are killed and started again; see `Plant.crash`."""

    when: When = "now"

    async def play(self, plant: Plant) -> None:
        await plant.crash(self.when)
