"""Commits whose outcome is unknown, because the brokers went: what is looked up when they are back. Without brokers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from millstream.errors import FencedError
from millstream.log.draft import Draft
from millstream.log.kafka.committing import Committing
from millstream.log.kafka.fetcher import Fetcher
from millstream.log.kafka.membership import Membership
from millstream.log.kafka.names import Names
from millstream.log.kafka.offsets import Counts, pack, unpack_counts
from millstream.log.kafka.positions import Numbered
from millstream.log.kafka.producing import Job
from millstream.log.kafka.transactor import Transactor

BEFORE = Numbered(serial=7, writer="before")


@dataclass
class Brokers:
    """Brokers that take a transaction (or not), and go before they say so; what they have then is what `found` says of
    the serial and the writer of the transaction. They stay the second time."""

    found: Any
    names: Names = field(default_factory=lambda: Names("t-"))
    jobs: list[Job] = field(default_factory=list)

    async def commit(self, job: Job) -> str | None:
        job.check()
        self.jobs.append(job)
        return "they have gone" if len(self.jobs) == 1 else None

    async def settle(self) -> None:
        pass

    async def numbered(self, group: str, number: int) -> Numbered:
        (own,) = self.jobs[0].offsets
        return cast(Numbered, self.found(own.offset, unpack_counts(own.metadata).writer))

    async def targets(self, draft: Draft) -> list[tuple[str, int]]:
        return []

    async def first_offsets(self, job: Job) -> tuple[int, ...]:
        return ()

    def commit_time(self) -> int:
        return 0

    def committed(self, group: str, number: int, serial: int) -> None:
        pass

    def wait(self, reason: str | None) -> None:
        pass

    def show(self, events: object) -> None:
        pass


@dataclass
class Member:
    """Owns partition 0, by its first grant."""

    owned: dict[int, int] = field(default_factory=lambda: {0: 1})
    is_over: bool = False

    def metadata(self) -> str:
        return "metadata"


async def commit(brokers: Brokers) -> None:
    committing = Committing("g", cast(Any, brokers), cast(Transactor, brokers), lambda place, at: None)
    committing.take_over(0, BEFORE)

    async def commit_draft(draft: Draft) -> Any:
        return await committing.commit(draft, cast(Membership, Member()), cast(Fetcher, None))

    draft = Draft(commit_draft, "g", {0: 1})
    draft.save(0, "chunk", b"state")
    await draft.commit()


async def test_a_transaction_that_was_taken_is_done() -> None:
    brokers = Brokers(lambda serial, writer: Numbered(serial=serial, writer=writer))
    await commit(brokers)
    assert len(brokers.jobs) == 1


async def test_one_that_was_not_taken_is_tried_again() -> None:
    brokers = Brokers(lambda serial, writer: BEFORE)
    await commit(brokers)
    assert len(brokers.jobs) == 2


@pytest.mark.parametrize("further", [0, 5])
async def test_a_transaction_of_another_member_is_not_taken_for_it(further: int) -> None:
    """It was aborted, and its events are nowhere: whoever waits must not be told that they are committed."""
    brokers = Brokers(lambda serial, writer: Numbered(serial=serial + further, writer="another"))
    with pytest.raises(FencedError, match="another member has committed"):
        await commit(brokers)
    assert len(brokers.jobs) == 1


def test_who_has_committed_is_told_beside_counts_that_do_not_fit() -> None:
    metadata, chunk = pack(Counts({f"name {number}": number for number in range(1_000)}, "writer"))
    assert chunk is not None
    assert unpack_counts(metadata) == Counts({}, "writer", chunk=True)
