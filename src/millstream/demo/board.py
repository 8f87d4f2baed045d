"""What the demo shows while it runs: a live board in a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from millstream.log import GroupStatus

SHOWN_NOTIFICATIONS = 8
_RATE_SPAN = 8  # updates over which the rate is taken; they come four times a second


class Window(msgspec.Struct):
    """A result of the query `hourly`."""

    device: str
    quantity: str
    readings: int
    mean: float | None
    lowest: float | None
    highest: float | None
    window_end: str


@dataclass
class Board:
    """What is known at the moment. Filled by the show, drawn by `render`."""

    console: Console
    length: timedelta
    windows: dict[str, Window] = field(default_factory=dict)
    notifications: deque[str] = field(default_factory=lambda: deque(maxlen=SHOWN_NOTIFICATIONS))
    played: timedelta = timedelta(0)
    published: int = 0
    statistics: dict[str, Any] = field(default_factory=dict)
    groups: Sequence[GroupStatus] = ()
    _marks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_RATE_SPAN))

    def mark(self, monotonic: float) -> None:
        """Remember how far things are at this moment, for the rate."""
        self._marks.append((monotonic, int(self.statistics.get("committed", 0))))

    @property
    def rate(self) -> float:
        """Events per second that reached the disk, over the last moments."""
        if len(self._marks) < 2:
            return 0.0
        (begin, few), (end, many) = self._marks[0], self._marks[-1]
        return (many - few) / (end - begin) if end > begin else 0.0

    def window(self, payload: bytes) -> None:
        """Take a result of the query `hourly`."""
        window = msgspec.json.decode(payload, type=Window)
        self.windows[window.device] = window

    def render(self) -> RenderableType:
        """The whole board."""
        return Group(self._progress(), self._windows(), self._groups(), self._notifications())

    def line(self) -> str:
        """The board in one line, for logs and pipes."""
        lag = sum(sum(group.lag.values()) for group in self.groups)
        share = min(1.0, self.played / self.length)
        return f"{share:4.0%}  {self.published} readings sent, {self.rate:.0f} events/s on disk, lag {lag}"

    def _progress(self) -> Text:
        share = min(1.0, self.played / self.length)
        committed, duplicates = self.statistics.get("committed", 0), self.statistics.get("duplicates", 0)
        return Text.assemble(
            ("Millstream demo  ", "bold"),
            f"day {self.played.days + 1} of {self.length.days + 1} ({share:.0%})   ",
            (f"{self.rate:,.0f} events/s", "bold green"),
            f"   on disk {committed:,}   duplicates {duplicates:,}",
        )

    def _windows(self) -> Table:
        table = Table(title="Latest windows (1 hour)", title_justify="left", expand=True)
        table.add_column("device")
        table.add_column("quantity")
        for name in ("readings", "mean", "lowest", "highest"):
            table.add_column(name, justify="right")
        table.add_column("window end")
        for device in sorted(self.windows):
            window = self.windows[device]
            numbers = [f"{value:.1f}" for value in (window.mean, window.lowest, window.highest) if value is not None]
            table.add_row(device, window.quantity, str(window.readings), *numbers, window.window_end)
        return table

    def _groups(self) -> Table:
        table = Table(title="Consumer groups", title_justify="left", expand=True)
        table.add_column("group")
        for name in ("processed", "late", "dead-lettered", "lag"):
            table.add_column(name, justify="right")
        for group in self.groups:
            counts = [group.counts.get(name, 0) for name in ("processed", "late", "dead-lettered")]
            table.add_row(group.name, *(f"{count:,}" for count in (*counts, sum(group.lag.values()))))
        return table

    def _notifications(self) -> Panel:
        lines = Text("\n").join(Text(line, "red") for line in self.notifications) or Text("none yet", "dim")
        return Panel(lines, title="Alerts", title_align="left", border_style="red" if self.notifications else "dim")
