"""What the log says of brokers that do not answer."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.kafka import brokers
from tests.support.records import WAIT

from millstream.clock import SystemClock
from millstream.log.kafka import Cluster, KafkaLog
from millstream.log.kafka.patience import Patience


class Committer:
    """Has a commit under way for so long."""

    busy_seconds = 0.0


def test_the_reason_is_that_of_a_commit_before_that_of_a_question() -> None:
    committer = Committer()
    patience = Patience(lambda: [Committer(), committer])
    assert patience.reason is None
    committer.busy_seconds = 7.0
    assert patience.reason == "Kafka: a commit has been under way for 7 s"
    patience.wait("no brokers")
    assert patience.reason == "no brokers"
    committer.busy_seconds = 0.0
    patience.answered("silence")
    patience.wait(None)
    assert patience.reason == "silence"
    patience.answered(None)
    assert patience.reason is None


@pytest.mark.kafka
async def test_a_log_that_nobody_uses_waits_while_the_brokers_do_not_answer(
    kafka_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: asyncio.Queue[None] = asyncio.Queue()
    answered = Patience.answered

    def note(patience: Patience, reason: str | None) -> None:
        answered(patience, reason)
        asked.put_nowait(None)

    monkeypatch.setattr(Patience, "answered", note)
    with brokers(1) as (broker,):
        log = await KafkaLog.open(Cluster(broker.address), SystemClock())
        async with asyncio.timeout(WAIT):
            await asked.get()
            assert log.waiting is None
            broker.freeze()
            while log.waiting is None:
                await asked.get()
            assert log.waiting.startswith("Kafka: the brokers do not answer")
            broker.thaw()
            while log.waiting is not None:
                await asked.get()
        await log.close()
