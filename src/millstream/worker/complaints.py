"""What an operator reads about a handler's failures: each kind once with its traceback, then a line now and then."""

from __future__ import annotations

import contextlib
import logging
import traceback
from pathlib import Path
from types import TracebackType

from millstream.clock import Clock
from millstream.worker.watch import Failure, Watch

logger = logging.getLogger("millstream.worker")

_SECONDS = 10.0  # between two lines about the same kind of failure
_OURS = (str(Path(__file__).parent), contextlib.__file__)
_KINDS = 100  # kinds that are remembered; a handler that finds more ways to fail begins anew


class Complaints:
    """The failures of one processor. A kind is an exception's type and the line that raised it. `watch` is told of
    each failure."""

    def __init__(self, clock: Clock, name: str, watch: Watch | None = None) -> None:
        self._clock = clock
        self._name = name
        self._watch = watch or Watch()
        self._kinds: dict[object, tuple[float, int]] = {}  # when a line was last written, and failures since

    def failed(self, where: str, error: BaseException, what_now: str) -> None:
        """`where` says with which events, `what_now` what happens to them."""
        self._watch.failed(Failure(self._name, where, error, what_now))
        kind, now = _kind(error), self._clock.monotonic()
        last, since = self._kinds.get(kind, (None, 0))
        if last is not None and now - last < _SECONDS:
            self._kinds[kind] = last, since + 1
            return
        if len(self._kinds) >= _KINDS:
            self._kinds.clear()
        self._kinds[kind] = now, 0
        more = f" (and {since} times more since the last line about it)" if since else ""
        logger.warning(
            "%s failed at %s, %s: %s: %s%s",
            self._name,
            where,
            what_now,
            type(error).__name__,
            error,
            more,
            exc_info=users_part(error) if last is None else None,
        )


def _kind(error: BaseException) -> object:
    frames = traceback.extract_tb(error.__traceback__)
    return (type(error), frames[-1].filename, frames[-1].lineno) if frames else type(error)


def users_part(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType] | None:
    """The error with the frames of the user's code; None where it has none, as for a payload that does not fit."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return None if trace is None else (type(error), error, trace)
