"""The supervisor of `millstream dev`: workers with a new version take over from those with the one before.

The newcomers load the new version while the others still work. If something is wrong with it, that is told, and nothing
else happens. Else the others finish what they have begun, and the newcomers join in their place. The server knows
nothing of this: clients stay connected, and what they publish meanwhile waits in the streams.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from millstream.errors import MillstreamError
from millstream.runtime.seat import Seat
from millstream.runtime.supervisor import Supervisor, all_of
from millstream.settings import Settings

_FINISH_SECONDS = 3.0  # that a handler may go on with its event; then it is ended, and the next version has it again

_log = logging.getLogger(__name__)

Changes = AsyncIterator[list[Path]]


class DevSupervisor(Supervisor):
    """Runs until it is told to stop. `changes` gives the files that have changed, whenever some have."""

    def __init__(
        self,
        settings: Settings,
        app: str,
        announce: Callable[[str], None],
        tell: Callable[[str], None],
        changes: Changes,
    ) -> None:
        super().__init__(settings, app, announce, tell)
        self._changes = changes
        self._changed: set[Path] = set()  # since a version was loaded last
        self._has_changed = asyncio.Event()

    async def run(self) -> bool:
        watching = asyncio.create_task(self._watch())  # from the beginning: the first version may be wrong
        try:
            return await super().run()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _prepare_app(self) -> None:
        """Go on when there is a version that nothing is wrong with."""
        while True:
            try:
                await super()._prepare_app()
                return
            except MillstreamError as error:
                _log.error("%s", error)
                _log.info("waiting for the mend")
            await self._take_changed()
            await _clear(self._workers)
            await all_of(seat.spawn() for seat in self._workers)

    async def _keep(self) -> None:
        await all_of((self._server.keep(), self._keep_current()))

    async def _keep_current(self) -> None:
        """Keep the workers of the newest version running that nothing is wrong with."""
        while True:
            keeping = asyncio.ensure_future(all_of(seat.keep() for seat in self._workers if seat.ready))
            try:
                newcomers = await self._newcomers()
            finally:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)
            await self._hand_over(newcomers)

    async def _newcomers(self) -> list[Seat]:
        """Workers that have loaded a new version."""
        while True:
            changed = await self._take_changed()
            _log.info("%s changed; loading the new version", _named(changed))
            newcomers = self._make_workers()
            try:
                await all_of(seat.spawn() for seat in newcomers)
                await all_of(seat.prepare() for seat in newcomers)
                return newcomers
            except BaseException as error:
                await _clear(newcomers)
                if not isinstance(error, MillstreamError):
                    raise
                _log.error("%s", error)
                _log.info("the version before goes on; waiting for the mend")

    async def _hand_over(self, newcomers: list[Seat]) -> None:
        leaving, self._workers = self._workers, newcomers
        try:
            async with asyncio.timeout(_FINISH_SECONDS):
                await asyncio.gather(*(seat.finish() for seat in leaving))
        except TimeoutError:
            _log.warning("a handler did not come to an end; the new version gets its event again")
        finally:
            await _clear(leaving)
        try:
            await all_of(seat.go() for seat in newcomers)
            _log.info("the new version runs")
        except MillstreamError as error:
            await _clear(newcomers)
            _log.error("%s", error)
            _log.info("no handler runs; waiting for the mend")

    async def _watch(self) -> None:
        try:
            async for changed in self._changes:
                self._changed.update(changed)
                self._has_changed.set()
        except OSError as error:
            _log.error("changes are not seen any more: %s; start again after a change", error)

    async def _take_changed(self) -> list[Path]:
        """Return when a file has changed since this returned last."""
        await self._has_changed.wait()
        self._has_changed.clear()
        changed, self._changed = sorted(self._changed), set()
        return changed


async def _clear(seats: Sequence[Seat]) -> None:
    await asyncio.gather(*(seat.clear() for seat in seats))


def _named(files: Sequence[Path]) -> str:
    first = files[0].name
    return first if len(files) == 1 else f"{first} and {len(files) - 1} more"
