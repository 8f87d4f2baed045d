"""The kinds of windows: where they begin and end."""

from __future__ import annotations

from dataclasses import dataclass

from millstream.clock import SECOND, Micros


@dataclass(frozen=True, slots=True)
class Window:
    """Windows of a `size`, one that ends at each `offset + n * hop` since 1970: `(end - size, end]`. All of it is in
    microseconds, and `hop` at most `size`. `id` tells several kinds in a query apart."""

    size: Micros
    hop: Micros
    offset: Micros = 0
    id: str | None = None

    @property
    def moves(self) -> bool:
        """Whether its place depends on the events."""
        return False

    @property
    def reach(self) -> Micros:
        """For how long after an event a window that it is in may be open, without grace."""
        return self.size

    @property
    def tumbles(self) -> bool:
        """Whether an event is in one window only."""
        return self.size == self.hop

    @property
    def title(self) -> str:
        """What kind it is, for a person."""
        kind = f"window of {duration(self.size)}"
        kind += "" if self.tumbles else f" every {duration(self.hop)}"
        kind += f", moved by {duration(self.offset)}" if self.offset else ""
        return kind + _called(self.id)


@dataclass(frozen=True, slots=True)
class Sliding:
    """The windows `(t - size, t]` of every instant t at which what is in them changes: when an event comes in, and
    when one goes out after `size` microseconds."""

    size: Micros
    id: str | None = None

    @property
    def moves(self) -> bool:
        """See `Window.moves`."""
        return True

    @property
    def reach(self) -> Micros:
        """See `Window.reach`."""
        return self.size

    @property
    def tumbles(self) -> bool:
        """Whether an event is in one pane only."""
        return True

    @property
    def title(self) -> str:
        """What kind it is, for a person."""
        return f"sliding window of {duration(self.size)}" + _called(self.id)


@dataclass(frozen=True, slots=True)
class Session:
    """Events that follow each other by at most `timeout` microseconds. It ends that long after its last event, but at
    the latest at the first multiple of `longest` at which it has lasted for `longest`; if it goes on, the next one
    begins there."""

    timeout: Micros
    longest: Micros | None = None
    id: str | None = None

    @property
    def moves(self) -> bool:
        """See `Window.moves`."""
        return True

    @property
    def reach(self) -> Micros:
        """See `Window.reach`: if nothing follows the event, or the session may last only so long."""
        return self.timeout + 2 * (self.longest or 0)

    @property
    def tumbles(self) -> bool:
        """Whether an event is in one pane only."""
        return True

    @property
    def title(self) -> str:
        """What kind it is, for a person."""
        most = f", of at most {duration(self.longest)}" if self.longest is not None else ""
        return f"session with pauses of up to {duration(self.timeout)}{most}" + _called(self.id)


@dataclass(frozen=True, slots=True)
class Count:
    """The last `size` events of a group, at every `hop`-th of them from that on with which there are so many. Events
    count in the order in which they stand in the log. A group of which none has come for `keep` microseconds (0: for
    however long) begins anew at the next midnight of the log."""

    size: int
    hop: int
    id: str | None = None
    keep: Micros = 0

    @property
    def numbers(self) -> Window:
        """The same as windows over the numbers of events, from 1 on."""
        return Window(self.size, self.hop, self.size % self.hop)

    @property
    def moves(self) -> bool:
        """See `Window.moves`."""
        return False

    @property
    def reach(self) -> Micros:
        """See `Window.reach`: it says nothing of time."""
        return 0

    @property
    def tumbles(self) -> bool:
        """Whether an event is in one window only."""
        return self.size == self.hop

    @property
    def title(self) -> str:
        """What kind it is, for a person."""
        kept = f", of groups that have had one for {duration(self.keep)}" if self.keep else ""
        return f"window of {self.size} events" + ("" if self.tumbles else f" every {self.hop}") + kept


Kind = Window | Sliding | Session | Count
"""A kind of window."""


def _called(name: str | None) -> str:
    return f" ({name})" if name is not None else ""


def duration(micros: Micros) -> str:
    """A time span for a person."""
    seconds, rest = divmod(micros, SECOND)
    if not rest:
        return f"{seconds} s"
    return f"{micros} µs" if micros % 1000 else f"{micros // 1000} ms"
