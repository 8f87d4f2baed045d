"""The show: a server, devices that replay the recordings, a board, and a closing summary."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from rich.console import Console
from rich.live import Live

from millstream.clock import Clock, SystemClock
from millstream.demo.balance import summary
from millstream.demo.board import Board
from millstream.demo.borrowed import log_of_our_own
from millstream.demo.devices import Devices, listen
from millstream.demo.plant_server import PlantServer
from millstream.demo.recordings import RECORDINGS, is_the_failure, length, readings
from millstream.ledger import Equation

DEFAULT_SECONDS = 60.0
CLOSING_SECONDS = 3.0  # what waiting for the last results and draining the server take, at the most
REST_TIMEOUT_SECONDS = 20.0  # while nothing moves; then the summary says what does not balance
PLAYED_SHARE = 0.8  # of the time there is, so that a busy machine comes to the end of the record as well
YIELD_EVERY = 50  # readings
REFRESH_SECONDS = 0.25
LOOK_SECONDS = 1.0  # between looks at groups, of which one on Kafka may take as long
LINE_EVERY = 20  # refreshes to a line, where there is no terminal


def run(for_seconds: float | None = None, speed: float | None = None, log: str | None = None) -> int:
    """Play the show and print the summary. It ends after the recordings, after `for_seconds`, or at Ctrl-C.

    `speed` is recorded time by real time; without it, the whole recording is played in the time there is (a minute,
    unless told). `log` is a URL of Kafka; without it, the log is in a temporary folder. 0: the machine's failure was
    caught and all counts balance; 1: not, or the show ended before it.
    """
    return asyncio.run(_Show(SystemClock(), Console(), for_seconds or DEFAULT_SECONDS, speed, log).play())


class _Show:
    def __init__(self, clock: Clock, console: Console, seconds: float, speed: float | None, log: str | None) -> None:
        self._clock = clock
        self._console = console
        self._seconds = seconds
        self._speed = speed
        self._log = log
        self._board = Board(console, length())
        self._caught: str | None = None
        self._notified = 0
        self._look_again = 0.0
        self._ended = asyncio.Event()  # by a signal

    async def play(self) -> int:
        began = self._clock.monotonic()
        self._console.print("Starting a server with an application of four queries and a handler …")
        with tempfile.TemporaryDirectory(prefix="millstream-demo-") as folder, self._interruptible():
            async with log_of_our_own(self._log) as log, PlantServer.started(Path(folder), log) as server:
                host, port = server.mqtt
                self._console.print(
                    f"MQTT at {host}:{port}; {len(RECORDINGS)} devices connect and replay their record."
                )
                loop = asyncio.get_running_loop()
                listener = listen(
                    host,
                    port,
                    ("hourly", "alerts", "notifications/#"),
                    lambda topic, payload: loop.call_soon_threadsafe(self._hear, topic, payload),
                )
                devices = Devices(host, port, [recording.device for recording in RECORDINGS])
                try:
                    end = began + self._seconds - CLOSING_SECONDS
                    await self._play(devices, server, end)
                    return self._summary(await self._rest(devices, server))
                finally:
                    devices.close()
                    listener.disconnect()
                    listener.loop_stop()

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._ended.set)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _hear(self, topic: str, payload: bytes) -> None:
        if topic == "hourly":
            self._board.window(payload)
        elif topic.startswith("notifications/"):
            self._notified += 1
            text = payload.decode()
            self._board.notifications.append(text)
            when, _, rest = text.partition("  ")
            if self._caught is None and is_the_failure(rest.partition(":")[0], when):
                self._caught = text
            if not self._console.is_terminal:
                self._console.print(f"ALERT {text}", soft_wrap=True)

    async def _play(self, devices: Devices, server: PlantServer, end: float) -> None:
        """Replay until the end of the recordings, of the time, or Ctrl-C."""
        playing = asyncio.create_task(self._replay(devices, end))
        try:
            if self._console.is_terminal:
                with Live(self._board.render(), console=self._console, auto_refresh=False, screen=False) as live:
                    async for _ in self._updates(devices, server, playing):
                        live.update(self._board.render(), refresh=True)
            else:
                number = 0
                async for _ in self._updates(devices, server, playing):
                    number += 1
                    if number % LINE_EVERY == 0:
                        self._console.print(self._board.line())
            await playing
        finally:
            playing.cancel()

    async def _updates(self, devices: Devices, server: PlantServer, playing: asyncio.Task[None]) -> AsyncIterator[None]:
        """The board has news: now and then, and once more when the replay has ended."""
        while not playing.done():
            await self._look(devices, server)
            yield
            await self._clock.sleep(REFRESH_SECONDS)
        await self._look(devices, server)
        yield

    async def _look(self, devices: Devices, server: PlantServer) -> None:
        board = self._board
        board.published = devices.published
        board.statistics = await server.statistics()
        if (now := self._clock.monotonic()) >= self._look_again:
            board.groups = await server.groups()
            self._look_again = now + LOOK_SECONDS
        board.mark(self._clock.monotonic())

    async def _replay(self, devices: Devices, end: float) -> None:
        begin = self._clock.monotonic()
        speed = self._speed or self._board.length.total_seconds() / max(1.0, PLAYED_SHARE * (end - begin))
        for number, reading in enumerate(readings()):
            if number % YIELD_EVERY == 0:  # a machine that is too slow for the speed must still draw the board
                await self._clock.sleep(0)
            while (wait := begin + reading.at.total_seconds() / speed - self._clock.monotonic()) > 0:
                await self._clock.sleep(min(wait, REFRESH_SECONDS))
            if self._ended.is_set() or self._clock.monotonic() > end + CLOSING_SECONDS / 2:
                return
            self._board.played = reading.at
            devices.publish(reading)
        self._board.played = self._board.length

    async def _rest(self, devices: Devices, server: PlantServer) -> list[Equation]:
        """Wait until everything is acknowledged, processed, counted and heard of, or nothing moves any more."""
        deadline, before = 0.0, None
        while True:
            self._look_again = 0.0
            await self._look(devices, server)
            lags = [sum(group.lag.values()) for group in self._board.groups]
            if (now := (devices.acknowledged, lags, self._notified)) != before:
                deadline, before = self._clock.monotonic() + REST_TIMEOUT_SECONDS, now
            idle = not any(lags)
            rows = summary(devices.published, devices.acknowledged, await server.accounts(), self._notified)
            if (idle and all(row.holds for row in rows)) or self._clock.monotonic() > deadline:
                return rows
            await self._clock.sleep(REFRESH_SECONDS / 5)

    def _summary(self, rows: list[Equation]) -> int:
        say = self._console.print
        say("\n[bold]Where everything ended[/]")
        for row in rows:
            say(f"  {'[green]✓[/]' if row.holds else '[red]✗[/]'} {row}", highlight=False, soft_wrap=True)
        if self._caught is not None:
            say(
                f"\n[bold green]The failure of the machine was caught:[/] {self._caught}",
                highlight=False,
                soft_wrap=True,
            )
        elif self._board.played < self._board.length:
            say("\nThe show ended before the failure of the machine, which is near the end of its record.")
        else:
            say("\n[bold red]The failure of the machine was not caught.[/]")
        say("\nYour own application next: the README has one in 20 lines.")
        balanced = all(row.holds for row in rows)
        return 0 if balanced and (self._caught is not None or self._ended.is_set()) else 1
