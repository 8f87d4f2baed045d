"""Large inputs shared out among threads, each with statements of its own.

DuckDB's own threads were measured to gain a third of that: it does not share out a prepared statement's scan evenly,
and all of them wait for the last one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import pyarrow as pa

from millstream.cores import usable_cores

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")

_PIECE_ROWS = 8_192  # fewer are not worth another statement: binding one takes as long as decoding as many


class Pieces(Generic[T]):
    """Has a `T`, which is used by one thread at a time, for each of a number of threads (None: one for each usable
    core): the `first`, and others that are made when they are needed, while those that there are do the work. Whatever
    else of this process is at the same has its share of them."""

    _lock = threading.Lock()
    _running = 0  # in this process

    def __init__(self, first: T, make: Callable[[], T], threads: int | None = None) -> None:
        self.first = first
        self._make = make
        self._threads = threads or usable_cores()
        self._pool = ThreadPoolExecutor(self._threads, "millstream-pieces")  # starts its threads when they are needed
        self._free: queue.SimpleQueue[T] = queue.SimpleQueue()
        self._free.put(first)
        self._made = 1
        self._making: Future[None] | None = None

    def run(self, function: Callable[[T, pa.Table], R], inputs: pa.Table) -> list[R]:
        """What a function makes of the inputs, piece by piece in the order of their rows; small ones are one piece."""
        count = self.count(len(inputs), _PIECE_ROWS)
        rows = -(-len(inputs) // count)
        pieces = [inputs.slice(start, rows) for start in range(0, len(inputs), rows)] if count > 1 else [inputs]
        return self.each(function, pieces)

    def each(self, function: Callable[[T, pa.Table], R], pieces: Sequence[pa.Table]) -> list[R]:
        """What a function makes of each piece."""
        self._run_more(1)
        try:
            if len(pieces) < 2:
                return [function(self.first, piece) for piece in pieces]
            self._make_more(len(pieces))
            return list(self._pool.map(lambda piece: self._run(function, piece), pieces))
        finally:
            self._run_more(-1)

    def map(self, function: Callable[[S], R], items: Sequence[S], rows: int) -> Iterable[R]:
        """What a function that needs no `T` makes of each item; `rows` is how many all of them have."""
        return (self._pool.map if self.count(rows, _PIECE_ROWS) > 1 else map)(function, items)

    def count(self, rows: int, least: int) -> int:
        """Into how many pieces rows are worth to be cut, each of which has at least so many."""
        return max(1, min(self._threads - Pieces._running, rows // least))

    @staticmethod
    def _run_more(number: int) -> None:
        with Pieces._lock:
            Pieces._running += number

    def _make_more(self, wanted: int) -> None:
        """Begin to make another one, where there are fewer than so many: it takes as long as decoding tens of thousands
        of rows."""
        if self._making is not None and self._making.done():
            making, self._making = self._making, None
            making.result()
        if self._making is None and self._made < wanted:
            self._making = self._pool.submit(self._make_one)

    def _make_one(self) -> None:
        self._free.put(self._make())
        self._made += 1

    def _run(self, function: Callable[[T, pa.Table], R], piece: pa.Table) -> R:
        one = self._free.get()
        try:
            return function(one, piece)
        finally:
            self._free.put(one)
