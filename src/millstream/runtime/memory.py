"""Where a worker's columns live, and how often a process looks for garbage."""

from __future__ import annotations

import gc

import pyarrow as pa


def keep_freed_memory() -> None:
    """Have Arrow keep what is freed for a second instead of giving it back to the kernel at once, where it can.

    A worker that catches up frees and takes the same tens of megabytes many times a second, and the kernel clears what
    it gives: with Arrow's own choice (mimalloc), a query spent a third of its processor time on that."""
    if "jemalloc" in pa.supported_memory_backends():  # not on macOS and Windows
        pa.set_memory_pool(pa.jemalloc_memory_pool())


def collect_rarely() -> None:
    """Have Python look for garbage that refers to itself after ten thousand new objects instead of some hundreds, and
    never again among what is there now: code that was loaded, which it would go through each time.

    What a request or a step makes is freed by counting references, but much of it is alive while its commit runs: with
    Python's own choice, looking through that in vain took a third of the server's processor time for publishes by HTTP,
    and a sixth of a worker's."""
    _, *older = gc.get_threshold()
    gc.set_threshold(10_000, *older)
    gc.collect()
    gc.freeze()
