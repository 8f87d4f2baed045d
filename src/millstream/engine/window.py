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
    def tumbles(self) -> bool:
        """Whether an event is in one window only."""
        return self.size == self.hop

    @property
    def title(self) -> str:
        """What kind it is, for a person."""
        kind = f"window of {duration(self.size)}"
        kind += "" if self.tumbles else f" every {duration(self.hop)}"
        kind += f", moved by {duration(self.offset)}" if self.offset else ""
        return kind + (f" ({self.id})" if self.id is not None else "")


def duration(micros: Micros) -> str:
    """A time span for a person."""
    seconds, rest = divmod(micros, SECOND)
    if not rest:
        return f"{seconds} s"
    return f"{micros} µs" if micros % 1000 else f"{micros // 1000} ms"
