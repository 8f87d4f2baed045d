"""What a worker tells of its calls while they happen, to whoever wants to know: by default nobody."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

UnderWay = Callable[[], AbstractContextManager[object]]
"""Entered around what one processor has under way: a call of a user's function, a job in a thread."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a processor failed with: `where` says at which events, `then` what happens to them."""

    processor: str
    where: str
    error: BaseException
    then: str

    def __str__(self) -> str:
        return f"{self.processor} failed at {self.where}, {self.then}"


class Watch:
    """Told from the event loop. This one takes no notice."""

    def under_way(self, processor: str) -> AbstractContextManager[object]:
        """Entered for as long as a call or a step of the processor is under way."""
        return _NOTHING

    def failed(self, failure: Failure) -> None:
        """A call failed, at the first or a later try, or an event could not be processed."""


_NOTHING = nullcontext()
