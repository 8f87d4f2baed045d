"""Finds the events that make a batch fail: halves it, and the half that fails again, until they are alone.

No I/O: a generator yields the events to call the handler with, and is sent the error or None.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

from millstream.worker.segment import Item

# One bad event in 65,536 makes at most 17 calls fail in a row, when it stands first. More than that without a success
# is no bad event but a handler that fails altogether (its database is down): asking it again and again is no help.
_FAILURES_IN_A_ROW = 20


@dataclass(slots=True)
class Failure:
    """Events with which the handler failed, and how. `final`: trying again would not help."""

    items: list[Item]
    error: BaseException
    final: bool = False


@dataclass(slots=True)
class Found:
    """What bisecting came to: the events that were handled, and those that were not."""

    done: list[Item] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def bisect(items: list[Item], *, thorough: bool) -> Generator[list[Item], BaseException | None, Found]:
    """Call with pieces of `items`, from first to last, until every event was handled or failed alone.

    Unless `thorough`, it gives up when nothing succeeds, and reports whole pieces as failed. Events of a key that
    has failed are not called any more: they must wait for it, and are in neither list.
    """
    found, pieces, in_a_row = Found(), [items], 0
    blocked: set[str] = set()
    while pieces:
        piece = pieces.pop()
        if blocked:
            piece = [item for item in piece if item[0].keys[item[1]] not in blocked]
        if not piece:
            continue
        error = yield piece
        if error is None:
            found.done += piece
            in_a_row = 0
            continue
        in_a_row += 1
        if len(piece) > 1 and (thorough or in_a_row < _FAILURES_IN_A_ROW):
            middle = len(piece) // 2
            pieces += [piece[middle:], piece[:middle]]
            continue
        found.failures.append(Failure(piece, error))
        blocked.update(segment.keys[index] for segment, index in piece)
    return found
