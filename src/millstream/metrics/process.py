"""The process itself, as every Prometheus client measures it: CPU, memory, files. Only where there is /proc."""

from __future__ import annotations

import asyncio

from millstream.metrics import catalog
from millstream.metrics.reading import Reading, Source

_METRICS = {metric.name: metric for metric in catalog.PROCESS}


def process_source(name: str, pid: int | None = None) -> Source:
    """A source for the process of this name: this one, or another of the machine."""

    async def read(reading: Reading) -> None:
        await asyncio.to_thread(_read, reading, name, "self" if pid is None else str(pid))

    return read


def _read(reading: Reading, name: str, pid: str) -> None:
    from prometheus_client.process_collector import ProcessCollector  # only where somebody scrapes

    for family in ProcessCollector(pid=lambda: pid, registry=None).collect():
        for sample in family.samples:
            if sample.name in _METRICS:
                reading.set(_METRICS[sample.name], sample.value, name)
