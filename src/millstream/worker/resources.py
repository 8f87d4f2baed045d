"""What an app opens once in a worker's process: its lifespan, and the dependencies that live as long as the worker."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

from millstream.app import App
from millstream.app.devices import Devices
from millstream.app.function import name_of
from millstream.app.parameter import Dependency
from millstream.app.place import place_in
from millstream.clock import Clock
from millstream.errors import AppError, MillstreamError
from millstream.worker.arguments import Levels
from millstream.worker.batches import BatchArguments
from millstream.worker.devices import Fleet, NoDevices
from millstream.worker.given import Given, handlers_logger
from millstream.worker.making import Step, make
from millstream.worker.threads import Threads

logger = logging.getLogger("millstream.worker")


class Resources:
    """Opened as a context manager. The app's lifespan is entered first and left last.

    Raises `AppError` at the user's line where something fails to open or to close."""

    def __init__(self, app: App, clock: Clock, devices: Fleet | None = None) -> None:
        self._app = app
        self.devices = devices or NoDevices()
        self._clock = clock
        self._state: Any = None
        self._made: dict[Callable[..., Any], Any] = {}
        self._stack = AsyncExitStack()
        self._threads = Threads(1, "millstream-resources")

    def given(self, name: str) -> Given:
        """For the handler of that name."""
        devices = Devices(self.devices, name)
        return Given(self._clock, handlers_logger(name), self._state, self._made, devices)

    async def __aenter__(self) -> Resources:
        what = "its lifespan"
        try:
            if self._app.lifespan is not None:
                self._state = await self._stack.enter_async_context(self._app.lifespan(self._app))
            for dependency in self._of_worker():
                what = name_of(dependency.factory)
                step = Step.of(dependency, BatchArguments(dependency.signature, Levels(()), self.given(self._app.name)))
                self._made[dependency.factory] = await make(step, (), self._made, self._stack, self._threads)
        except BaseException as error:
            await self._close(error)
            if isinstance(error, Exception):
                raise self._as_app_error(f"{what} failed at start", error) from error
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._close(error)
        except Exception as failed:
            if failed is error:
                raise
            told = self._as_app_error("its lifespan or a dependency failed at the end", failed)
            logger.error("%s", told)  # the worker ends in any case, and whoever waits for that may look no further
            raise told from failed

    async def _close(self, error: BaseException | None) -> None:
        try:
            await self._stack.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)
        finally:
            self._threads.close()

    def _of_worker(self) -> list[Dependency]:
        handlers, subscriptions = self._app.processors()
        signatures = [its for one in handlers for its in one.signatures] + [one.signature for one in subscriptions]
        found = [one for signature in signatures for one in signature.dependencies if one.scope == "worker"]
        return list({one.factory: one for one in found}.values())

    def _as_app_error(self, what: str, error: Exception) -> MillstreamError:
        if isinstance(error, MillstreamError):
            return error
        place = place_in(error) or f"app {self._app.name!r}"
        return AppError(f"{place}: {what}: {type(error).__name__}: {error}")
