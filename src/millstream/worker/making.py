"""Makes the values of a user's dependencies, and cleans them up.

What is `async` runs in the event loop, anything else in a thread, wherever the handler itself runs: so neither a
factory that blocks nor one that needs the loop has to know who depends on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from millstream.app.function import is_generator
from millstream.app.parameter import Dependency
from millstream.worker.given import NOTHING, Made
from millstream.worker.threads import Threads


class Arguments(Protocol):
    """Finds a function's arguments in what is handled: an event, or many."""

    def of(self, subject: Any, made: Made = NOTHING) -> tuple[list[Any], dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Step:
    """One value to make. `generates`: its factory yields it, and goes on when it is to be cleaned up."""

    dependency: Dependency
    arguments: Arguments
    generates: bool

    @staticmethod
    def of(dependency: Dependency, arguments: Arguments) -> Step:
        return Step(dependency, arguments, is_generator(dependency.signature.function))


class Maker:
    """Makes the values of one handler's dependencies, in an order in which each finds those that it needs.

    An error of the handler is thrown into the generators, as by `with`; none of them can make it a success."""

    def __init__(self, steps: Sequence[Step], threads: Threads) -> None:
        self._steps = steps
        self._threads = threads
        self._loop = asyncio.get_running_loop()

    @contextlib.contextmanager
    def in_thread(self, subject: Any) -> Iterator[Made]:
        """The values for what is handled, in a thread."""
        made: dict[Any, Any] = {}
        failed: BaseException | None = None
        with ExitStack() as stack:
            for step in self._steps:
                made[step.dependency.factory] = self._make_here(step, subject, made, stack)
            try:
                yield made
            except BaseException as error:
                failed = error
                raise
        if failed is not None:  # a generator swallowed it
            raise failed

    @contextlib.asynccontextmanager
    async def in_loop(self, subject: Any) -> AsyncIterator[Made]:
        """The values for what is handled, in the event loop."""
        made: dict[Any, Any] = {}
        failed: BaseException | None = None
        async with AsyncExitStack() as stack:
            for step in self._steps:
                made[step.dependency.factory] = await make(step, subject, made, stack, self._threads)
            try:
                yield made
            except BaseException as error:
                failed = error
                raise
        if failed is not None:
            raise failed

    def _make_here(self, step: Step, subject: Any, made: Made, stack: ExitStack) -> Any:
        signature = step.dependency.signature
        function = signature.function
        arguments, named = step.arguments.of(subject, made)
        if not signature.is_async:
            if step.generates:
                return stack.enter_context(contextlib.contextmanager(function)(*arguments, **named))
            return function(*arguments, **named)
        if step.generates:
            manager = contextlib.asynccontextmanager(function)(*arguments, **named)
            return stack.enter_context(_InLoop(manager, self._loop))
        return _wait(function(*arguments, **named), self._loop)


async def make(step: Step, subject: Any, made: Made, stack: AsyncExitStack, threads: Threads) -> Any:
    """One value; `stack` gets its clean-up."""
    signature = step.dependency.signature
    function = signature.function
    arguments, named = step.arguments.of(subject, made)
    if signature.is_async:
        if step.generates:
            return await stack.enter_async_context(contextlib.asynccontextmanager(function)(*arguments, **named))
        return await function(*arguments, **named)
    if step.generates:
        manager = contextlib.contextmanager(function)(*arguments, **named)
        return await stack.enter_async_context(_InThread(manager, threads))
    return await threads.run(contextvars.copy_context().run, lambda: function(*arguments, **named))


class _InThread:
    """A context manager that is entered and left in a thread."""

    def __init__(self, manager: AbstractContextManager[Any], threads: Threads) -> None:
        self._manager = manager
        self._threads = threads
        self._context = contextvars.copy_context()

    async def __aenter__(self) -> Any:
        return await self._threads.run(self._context.run, self._manager.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._threads.run(self._context.run, self._manager.__exit__, kind, error, trace)


class _InLoop:
    """An asynchronous context manager that is entered and left from a thread."""

    def __init__(self, manager: AbstractAsyncContextManager[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._manager = manager
        self._loop = loop

    def __enter__(self) -> Any:
        return _wait(self._manager.__aenter__(), self._loop)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return bool(_wait(self._manager.__aexit__(kind, error, trace), self._loop))


def _wait(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> Any:
    """What it comes to in the loop, for a thread. It sees the thread's context variables."""
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()
