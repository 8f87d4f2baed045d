"""The machine that is measured on: its description, and which cores a process may use."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER_CORE = 0
LOAD_CORE = 1  # the generator's own core, so that it takes nothing from the server under test

_FSYNC_TRIES = 200
_AT_START = frozenset(os.sched_getaffinity(0))


@contextmanager
def pinned(*cores: int) -> Iterator[None]:
    """Within it, this process and the children that it starts have only `cores`, whatever they have around it (nothing
    changes if this machine lacks one)."""
    before = os.sched_getaffinity(0)
    if _AT_START.issuperset(cores):
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def describe(folder: Path) -> list[str]:
    """What the figures depend on, one fact a line; `folder` is where the servers keep their data."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        f"{os.cpu_count()} cores of {_cpu_model()}, {memory:.0f} GiB of memory",
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        f"data on {_file_system(folder)}, where a 4 KiB write with fsync takes {_fsync_seconds(folder) * 1e6:.0f} µs",
        f"a load of {os.getloadavg()[0]:.1f} before the first run, by whatever else the machine does",
    ]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "an unknown processor"


def _file_system(folder: Path) -> str:
    """The type of the file system with the longest mount point above `folder`."""
    path = str(folder.resolve())
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    above = [(mount[1], mount[2]) for mount in mounts if path.startswith(mount[1].rstrip("/") + "/") or mount[1] == "/"]
    return max(above, key=lambda mount: len(mount[0]))[1] if above else "an unknown file system"


def _fsync_seconds(folder: Path) -> float:
    block = os.urandom(4096)
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_FSYNC_TRIES):
            begin = time.perf_counter()
            file.write(block)
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begin)
    return statistics.median(times)
