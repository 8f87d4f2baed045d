"""Transactions of Kafka, one after another, by a producer in a thread of its own.

A transaction ends in one of three ways: it is committed; it is aborted, and nothing of it is there; or its outcome is
unknown, because the brokers have not answered in time. Then the producer is given up, and the next one of the same
transactional id waits, before it begins, until the outcome stands (KIP-98): whoever can look it up does so, see
`Member`. So it is when the client does not return from a call: another thread and another producer take over.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from millstream.errors import LogUnavailableError
from millstream.log.kafka.calls import Calls
from millstream.log.kafka.cluster import Cluster
from millstream.log.kafka.producing import Job, Producing

T = TypeVar("T")

_LOOK_SECONDS = 1.0  # between looks whether a call hangs
_MOST_LEFT = 50  # threads that hang; each keeps some threads of its client and some memory
HANGING_EXIT = 75  # EX_TEMPFAIL of sysexits.h: another process will do better

_log = logging.getLogger(__name__)
_left: list[Producing] = []  # those of this process that hang, and cannot be told to end


class Transactor:
    """One commit at a time."""

    def __init__(self, cluster: Cluster, transactional_id: str) -> None:
        self._make = partial(Producing, cluster, transactional_id)
        self._producing = self._make()
        self._calls = Calls("kafka-transactor")
        self._busy_since: float | None = None

    @property
    def busy_seconds(self) -> float:
        """How long the transaction that is under way has taken so far; 0 if there is none."""
        return 0.0 if self._busy_since is None else time.monotonic() - self._busy_since

    async def commit(self, job: Job) -> str | None:
        """None when it is committed; why its outcome is unknown, when it is. After an error nothing is done."""
        self._busy_since = time.monotonic()
        try:
            return await self._run(lambda producing: producing.commit(job))
        except TimeoutError as error:
            return str(error)
        finally:
            self._busy_since = None

    async def settle(self) -> None:
        """Return when the transaction before has an outcome that others can see. `LogUnavailableError`: not yet."""
        try:
            await self._run(lambda producing: producing.ready())
        except TimeoutError as error:
            raise LogUnavailableError(str(error)) from None

    async def close(self) -> None:
        """Give the producer up. Idempotent."""
        if not self._calls.is_closed:
            with suppress(TimeoutError):
                await self._run(lambda producing: producing.give_up())
            await self._calls.close()

    async def _run(self, call: Callable[[Producing], T]) -> T:
        producing = self._producing
        running = asyncio.ensure_future(self._calls.run(call, producing))
        while not (await asyncio.wait([running], timeout=_LOOK_SECONDS))[0]:
            if producing.watch.leave():
                running.cancel()  # nobody waits for it any more
                if producing is self._producing:
                    await self._replace()
                raise TimeoutError("Kafka: the client does not return from a call")
        return running.result()

    async def _replace(self) -> None:
        """Go on with another thread and another producer, unless too many were left behind."""
        _left.append(self._producing)
        _log.warning("Kafka's client does not return from a call; another one takes its place")
        if len(_left) > _MOST_LEFT:
            _log.critical("%d clients of Kafka hang; this process ends, and goes on when it starts again", len(_left))
            os._exit(HANGING_EXIT)
        await self._calls.close()
        self._producing, self._calls = self._make(), Calls("kafka-transactor")
