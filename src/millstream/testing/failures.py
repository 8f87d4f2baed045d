"""What went wrong in a plant, and raising it in the test."""

from __future__ import annotations

from types import TracebackType

from millstream.errors import MillstreamError
from millstream.worker import Failure
from millstream.worker.complaints import users_part

_TOLD = 3  # further failures, in the notes of the one that is raised


class EscapedError(MillstreamError):
    """A handler raised what would end the test run too: `SystemExit`, or a cancellation. It is the cause."""


class Failures:
    """Every failure so far, and those that the test has not been told of."""

    def __init__(self) -> None:
        self.all: list[Failure] = []
        self._untold: list[Failure] = []

    def add(self, failure: Failure) -> None:
        """Note a failure."""
        self.all.append(failure)
        self._untold.append(failure)

    def tell(self) -> None:
        """Raise the first error that was not raised yet, with the user's own traceback; the others are told with it."""
        __tracebackhide__ = True
        if self._untold:
            untold, self._untold = self._untold, []
            error = untold[0].error
            for note in _notes(untold):
                error.add_note(note)
            if not isinstance(error, Exception):
                raise EscapedError(f"{untold[0]}: {error!r}") from error
            raise error.with_traceback(_users_frames(error))


def _notes(failures: list[Failure]) -> list[str]:
    first, others = failures[0], failures[1:]
    notes = [str(first), *(f"{failure}: {failure.error!r}" for failure in others[:_TOLD])]
    more = len(others) - _TOLD
    return [*notes, f"and {more} more failures; see plant.errors"] if more > 0 else notes


def _users_frames(error: BaseException) -> TracebackType | None:
    part = users_part(error)
    return part[2] if part else None
