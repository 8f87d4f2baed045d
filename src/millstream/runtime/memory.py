"""Where a worker's columns live."""

from __future__ import annotations

import pyarrow as pa


def keep_freed_memory() -> None:
    """Have Arrow keep what is freed for a second instead of giving it back to the kernel at once, where it can.

    A worker that catches up frees and takes the same tens of megabytes many times a second, and the kernel clears what
    it gives: with Arrow's own choice (mimalloc), a query spent a third of its processor time on that."""
    if "jemalloc" in pa.supported_memory_backends():  # not on macOS and Windows
        pa.set_memory_pool(pa.jemalloc_memory_pool())
