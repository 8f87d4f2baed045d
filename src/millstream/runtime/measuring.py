"""What workers measure, on its way to the server, which tells it together with its own.

The server asks when somebody asks it. So nothing is sent while nobody wants to know, and a worker that cannot answer
(a handler blocks its event loop) is missing from a reading, and counted as silent, instead of told with old values.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from importlib.metadata import version
from typing import cast

import msgspec

from millstream.bus import Peer
from millstream.errors import LogUnavailableError, MillstreamError
from millstream.log import groups_source
from millstream.metrics import Reading, Source, Sources, catalog
from millstream.metrics.process import process_source
from millstream.runtime.backend import READY, WAITING, ServersLog
from millstream.runtime.bus import SocketBus
from millstream.runtime.peer import SocketPeer
from millstream.runtime.topics import BusTopics, TopicsService
from millstream.worker import Measures

SUBJECT = "worker.metrics"
PATIENCE_SECONDS = 1.0  # for workers' answers: a scrape is given up after some ten

_log = logging.getLogger(__name__)


class Measuring:
    """A worker process's end. `processors` are measured there for as long as the process lives."""

    def __init__(self, process: str) -> None:
        self.processors = Measures(process)
        self._process = process
        self._dropped_before = 0
        self._topics = BusTopics()
        self._sources = Sources()
        self._sources.add(self.processors.read)
        self._sources.add(process_source(process))
        self._sources.add(self._read_dropped)

    def attach(self, peer: SocketPeer, topics: BusTopics) -> None:
        """Answer at this connection, which has pub/sub of its own."""
        self._dropped_before += self._topics.dropped
        self._topics = topics
        peer.serve(SUBJECT, self._answer)

    async def _answer(self, peer: Peer, body: bytes) -> bytes:
        return (await self._sources.read()).encode()

    async def _read_dropped(self, reading: Reading) -> None:
        reading.set(catalog.BUS_DROPPED, self._dropped_before + self._topics.dropped, self._process)


def server_sources(log: ServersLog, bus: SocketBus, topics: TopicsService) -> Iterable[Source]:
    """What a server tells besides its gateway: the log, its groups, the workers, the processes."""

    async def read(reading: Reading) -> None:
        reading.set(catalog.BUILD, 1, version("millstream"))
        reading.set(catalog.BUS_DROPPED, topics.dropped, "server")
        waits = log.waiting is not None
        reading.set(catalog.LOG_STATE, int(not waits), READY)
        reading.set(catalog.LOG_STATE, int(waits), WAITING)
        await _ask_workers(bus.peers, reading)

    return (
        *log.sources,
        groups_source(log.log),
        read,
        process_source("server"),
        process_source("supervisor", os.getppid()),
    )


async def state_bytes(bus: SocketBus) -> dict[str, dict[str, int]]:
    """What queries keep in all workers that answer: bytes by query and place (`catalog.STATE_BYTES`)."""
    reading = Reading()
    await _ask_workers(bus.peers, reading)
    found: dict[str, dict[str, int]] = {}
    for (_, query, place), size in reading.of(catalog.STATE_BYTES).items():
        its = found.setdefault(query, {})
        its[place] = its.get(place, 0) + int(cast("float", size))
    return found


async def _ask_workers(peers: Iterable[SocketPeer], reading: Reading) -> None:
    answers = await asyncio.gather(*(_ask(peer, reading) for peer in peers))
    reading.set(catalog.WORKERS, answers.count(True), "answering")
    reading.set(catalog.WORKERS, answers.count(False), "silent")


async def _ask(peer: SocketPeer, reading: Reading) -> bool | None:
    """Whether the worker answered in time; None if it is no worker, or has gone."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            answer = await peer.request(SUBJECT, b"")
        reading.add_encoded(answer)
    except TimeoutError:
        return False
    except LogUnavailableError:
        return None
    except msgspec.MsgspecError as error:
        _log.warning("a worker's metrics do not decode, is it of another version? %s", error)
        return None
    except MillstreamError:  # it does not serve this: a command
        return None
    return True
