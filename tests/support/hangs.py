"""A test that hangs ends its process and shows where it stood, so that it fails by name instead of stopping the run.

pytest-xdist reports the ended process as the failure of the test that it was running, and goes on in a new one.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO

import pytest

from millstream.clock import processor_seconds
from millstream.testing.patience import Patience

HANGS_AFTER_SECONDS = 600.0  # of waiting, or of the processor's time: the slowest of all tests needs a minute of that
EXIT_CODE = 70


class Watch:
    """A pytest plugin. `output` is the process's own standard error: pytest captures the descriptor during a test."""

    def __init__(self, output: TextIO, seconds: float = HANGS_AFTER_SECONDS) -> None:
        self._output = output
        self._seconds = seconds

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        with self._ends(item.nodeid):
            return (yield)

    @contextmanager
    def _ends(self, name: str) -> Iterator[None]:
        done = threading.Event()
        threading.Thread(target=self._end_unless, args=(done, name), daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def _end_unless(self, done: threading.Event, name: str) -> None:
        patience = Patience(self._seconds)
        while not patience.is_over:
            before = processor_seconds()
            if done.wait(patience.turn):
                return
            patience.spend(processor_seconds() - before)
        self._end(name)

    def _end(self, name: str) -> None:
        print(f"\n{name} does not end within {self._seconds:.0f} s. Its threads and tasks:", file=self._output)
        self._output.flush()
        faulthandler.dump_traceback(self._output)
        for task in gc.get_objects():
            if isinstance(task, asyncio.Task) and not task.done():
                print(f"\n{task.get_name()}", *_await_chain(task.get_coro()), sep="\n  ", file=self._output)
        self._output.flush()
        os._exit(EXIT_CODE)


def _await_chain(coroutine: Any) -> Iterator[str]:
    while coroutine is not None:
        frame: FrameType | None = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            yield repr(coroutine)
            return
        yield f'File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_qualname}'
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
