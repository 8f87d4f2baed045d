"""Calls that do not return: somebody else goes on, and what returns too late does nothing any more."""

from __future__ import annotations

import asyncio
import threading

import pytest

from millstream.log.kafka import transactor
from millstream.log.kafka.cluster import Cluster
from millstream.log.kafka.hanging import Watch
from millstream.log.kafka.producing import Job, Producing
from millstream.log.kafka.transactor import Transactor

WAIT = 20.0


def test_only_a_call_that_takes_too_long_is_left() -> None:
    watch = Watch()
    assert not watch.leave()
    with watch.over(3600):
        assert not watch.leave()
    with watch.over(-1):
        pass
    assert not watch.leave()
    with watch.over(-1):
        assert watch.leave()
    assert watch.leave()
    with pytest.raises(TimeoutError, match="too late"), watch.over(3600):
        raise AssertionError("it has begun")


async def test_another_client_takes_the_place_of_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactor, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(transactor, "_left", [])
    returns, returned = threading.Event(), threading.Event()
    done: list[str] = []

    def commit(self: Producing, job: Job) -> str | None:
        if not done:
            done.append("hung")
            with self.watch.over(0.05):
                returns.wait(WAIT)
            try:
                self._resume(lambda: done.append("resumed"))
            finally:
                returned.set()
        with self.watch.over(WAIT):
            done.append("committed")
        return None

    monkeypatch.setattr(Producing, "commit", commit)
    committer = Transactor(Cluster("127.0.0.1:1"), "t")
    assert await committer.commit(Job(0)) == "Kafka: the client does not return from a call"
    assert committer.busy_seconds == 0
    assert await committer.commit(Job(0)) is None
    returns.set()
    assert await asyncio.to_thread(returned.wait, WAIT)
    assert done == ["hung", "committed"]
    await committer.close()
