"""The supervisor: one server and its workers, as child processes that are started again when they end.

At start nobody publishes before everything is in place: the workers load the application, so that a wrong one is
told before anything is touched; the server opens the log and its socket; the workers join, which makes the
application's streams and its groups' positions; then the gateway listens. A stop goes the other way: the gateway
accepts no more and answers what it accepted, the workers finish what they have begun, and the server closes the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

from millstream.clock import Clock, SystemClock
from millstream.errors import MillstreamError
from millstream.runtime.control import Drain, Drained, Ready, Start
from millstream.runtime.seat import Seat
from millstream.settings import Settings

_KILL_MARGIN = 0.25  # seconds of the drain's time that are kept for ending those who did not finish

_FIRST_KEY = (
    "the API key of an admin, which is shown this once; keep it, for example in MILLSTREAM_KEY, and make devices and "
    "other keys with it:\n{}"
)

_log = logging.getLogger(__name__)


class Supervisor:
    """Runs until it is told to stop. `announce` gets the line that says that everything is ready, `tell` what else
    whoever has started it should read."""

    def __init__(
        self,
        settings: Settings,
        app: str | None,
        announce: Callable[[str], None],
        tell: Callable[[str], None] = lambda text: None,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._app = app
        self._announce = announce
        self._tell = tell
        self._clock = clock or SystemClock()
        self._server = Seat("server", "server", self._start_message, self._clock)
        self._workers = self._make_workers() if app is not None else []
        # Without workers of ours, somebody still has to load the application and make what it declares.
        self._preparer = (
            Seat("prepare", "prepare", self._start_message, self._clock)
            if app is not None and not self._workers
            else None
        )
        self._stop = asyncio.Event()
        self._hard = asyncio.Event()

    def stop(self) -> None:
        """Drain and end; the second time: end at once."""
        if self._stop.is_set():
            self._hard.set()
        else:
            _log.info("stopping when everything under way is finished; a second signal stops at once")
            self._stop.set()

    async def run(self) -> bool:
        """Start everything, keep it running until `stop`, end everything. False if it had to be ended at once.

        Raises what a child could not start with."""
        with _signals(self.stop):
            try:
                if await self._unless(self._stop, self._bring_up()):
                    await self._unless(self._stop, self._keep())
                    await self._unless(self._hard, self._drain())
                return not self._hard.is_set()
            finally:
                await asyncio.gather(*(seat.clear() for seat in self._seats))

    @property
    def _seats(self) -> list[Seat]:
        return [self._server, *self._app_seats]

    @property
    def _app_seats(self) -> list[Seat]:
        return self._workers or ([self._preparer] if self._preparer is not None else [])

    def _make_workers(self) -> list[Seat]:
        """Seats for as many as the settings say."""
        count = self._settings.workers
        names = ["worker"] if count == 1 else [f"worker {number + 1}" for number in range(count)]
        return [Seat("worker", name, self._start_message, self._clock, self._server) for name in names]

    def _start_message(self) -> Start:
        return Start.of(self._settings, self._app)

    async def _unless(self, stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work`, but leave it when `stop` is set. Whether it was done."""
        doing = asyncio.create_task(work)
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                doing.result()
                return True
            return False
        finally:
            for task in (doing, stopping):
                task.cancel()
            await asyncio.gather(doing, stopping, return_exceptions=True)

    async def _bring_up(self) -> None:
        await all_of(seat.spawn() for seat in self._seats)
        await self._prepare_app()
        await self._server.prepare()
        await all_of(seat.go() for seat in self._app_seats)
        ready = await self._server.go()
        # A server that is started again must be found where its clients look for it, also when it chose its ports.
        self._settings = self._settings.model_copy(update={"mqtt": ready.mqtt or "", "http": ready.http or ""})
        if ready.first_key is not None:
            self._tell(_FIRST_KEY.format(ready.first_key))
        self._announce(self._ready_line(ready))

    async def _prepare_app(self) -> None:
        await all_of(seat.prepare() for seat in self._app_seats)

    def _ready_line(self, ready: Ready) -> str:
        workers = len(self._workers)
        return (
            f"ready: mqtt {ready.mqtt or 'off'}, http {ready.http or 'off'}, data {self._settings.data}, "
            f"{workers} worker{'' if workers == 1 else 's'}"
        )

    async def _keep(self) -> None:
        await all_of(seat.keep() for seat in (self._server, *self._workers))

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(max(self._settings.drain_timeout.total_seconds() - _KILL_MARGIN, 0)):
                await self._drain_server()
                await asyncio.gather(*(seat.finish() for seat in self._workers))
                await self._server.finish()
        except TimeoutError:
            _log.warning(
                "not everything was finished in drain_timeout (%s s); what was not committed will be done again",
                self._settings.drain_timeout.total_seconds(),
            )

    async def _drain_server(self) -> None:
        if self._server.ready:
            self._server.child.say(Drain())
            with contextlib.suppress(MillstreamError):  # it died meanwhile: what it had answered is on disk
                await self._server.child.reach(Drained)


async def all_of(works: Iterable[Coroutine[Any, Any, Any]]) -> None:
    """Do all at a time; the first failure ends the others and is raised as it is."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` for each signal that asks a process to end."""
    loop = asyncio.get_running_loop()
    wanted = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # started with nohup
        wanted.append(signal.SIGHUP)
    for number in wanted:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in wanted:
            loop.remove_signal_handler(number)
