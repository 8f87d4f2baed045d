"""Transactions whose member loses what they move while they wait for the brokers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from millstream.errors import FencedError
from millstream.log.kafka import producing
from millstream.log.kafka.cluster import Cluster
from millstream.log.kafka.producing import Job, Producing


@dataclass
class Brokers:
    """What a producer asks them, in order, and what happens meanwhile, by question."""

    asked: list[str] = field(default_factory=list)
    meanwhile: dict[str, list[Callable[[], None]]] = field(default_factory=dict)

    def __call__(self, config: object) -> Brokers:
        return self

    def ask(self, what: str) -> None:
        self.asked.append(what)
        if happening := self.meanwhile.get(what):
            happening.pop(0)()

    def init_transactions(self, timeout: float) -> None:
        self.ask("init")

    def begin_transaction(self) -> None:
        self.ask("begin")

    def send_offsets_to_transaction(self, offsets: list[TopicPartition], member: str, timeout: float) -> None:
        self.ask(f"offsets of {member}")

    def commit_transaction(self, timeout: float) -> None:
        self.ask("commit")

    def abort_transaction(self, timeout: float) -> None:
        self.ask("abort")


class Member:
    """Owns a partition in each of its generations, by a grant of its own."""

    def __init__(self) -> None:
        self.generation = 1

    def metadata(self) -> str:
        return f"generation {self.generation}"

    def loses_and_gains(self) -> None:
        self.generation += 1

    def job(self) -> Job:
        grant = self.generation

        def check() -> None:
            if grant != self.generation:
                raise FencedError("gone")

        return Job(0, offsets=[TopicPartition("t", 0, 7)], member=self.metadata, check=check)


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> Brokers:
    found = Brokers()
    monkeypatch.setattr(producing, "Producer", found)
    return found


def commit(job: Job) -> str | None:
    return Producing(Cluster("127.0.0.1:1"), "t").commit(job)


def test_a_transaction_is_committed_under_the_generation_of_its_grant(brokers: Brokers) -> None:
    assert commit(Member().job()) is None
    assert brokers.asked == ["init", "begin", "offsets of generation 1", "commit"]


def test_what_is_lost_and_gained_while_a_producer_begins_is_not_committed_under_the_new_grant(brokers: Brokers) -> None:
    member = Member()
    brokers.meanwhile["init"] = [member.loses_and_gains]
    with pytest.raises(FencedError):
        commit(member.job())
    assert brokers.asked == ["init", "begin", "abort"]


@pytest.mark.parametrize("passing", [KafkaError._TIMED_OUT, KafkaError.NOT_COORDINATOR, KafkaError.ILLEGAL_GENERATION])
def test_what_is_lost_and_gained_before_another_attempt_is_not_committed_under_the_new_grant(
    brokers: Brokers, passing: int
) -> None:
    member = Member()

    def refuse() -> None:
        member.loses_and_gains()
        raise KafkaException(KafkaError(passing, "not now", False, False, True))

    brokers.meanwhile["offsets of generation 1"] = [refuse]
    with pytest.raises(FencedError):
        commit(member.job())
    assert "commit" not in brokers.asked
    assert "offsets of generation 2" not in brokers.asked
