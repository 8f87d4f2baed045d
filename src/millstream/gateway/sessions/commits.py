"""What of the sessions goes to disk in the transactions of events, and to whom a commit brings something.

Every transaction of the gateway carries all changes of sessions that were made before it, beside the events that came
in the meantime and the messages that entered the queue. So what a client is told after a commit (PUBACK, PUBREC,
PUBCOMP, SUBACK, CONNACK of a session that is kept) holds whatever is killed.
"""

from __future__ import annotations

from collections.abc import Iterable

from millstream.gateway.ingest.sealed import Sealed
from millstream.gateway.pubsub.fanout import FanOut
from millstream.gateway.sessions.kept import Kept
from millstream.gateway.sessions.pump import Pump
from millstream.gateway.sessions.queue import Queue
from millstream.gateway.sessions.queued import Queued
from millstream.gateway.sessions.retaining import Retaining
from millstream.gateway.sessions.roster import Roster
from millstream.gateway.sessions.share import Share
from millstream.gateway.sessions.wills import Wills
from millstream.gateway.statistics import Statistics
from millstream.log import Committed, Transaction

_STATE = 0  # the number of the partition whose state holds the chunks


class Commits:
    """Whoever commits calls `prepare`, then `put` with every attempt, then `committed` (before anybody is answered) and
    `answered` (after that)."""

    def __init__(
        self,
        queue: Queue,
        roster: Roster,
        wills: Wills,
        retaining: Retaining,
        pump: Pump,
        fan_out: FanOut,
        statistics: Statistics,
    ) -> None:
        self._queue = queue
        self._roster = roster
        self._wills = wills
        self._retaining = retaining
        self._pump = pump
        self._fan_out = fan_out
        self._statistics = statistics
        self._chunks: dict[str, bytes | None] = {}  # for the commit under way; None drops one
        self._due: dict[Kept | Share, None] = {}  # whom the last commit brought something

    def prepare(self, sealed: Sealed) -> bool:
        """Find what of a batch, without its duplicates, enters the queue, and what of the sessions is to be saved.
        Whether there is anything to commit."""
        for post, lanes in self._fan_out.queued(sealed):
            self._queue.append(Queued(post, post.client_id), lanes)
        self._queue.seal()
        retained = self._retaining.take_on(sealed)
        self._chunks = {**self._roster.unsaved.take(), **self._wills.changes(), **retained}
        return bool(self._chunks or self._queue.is_under_way)

    def put(self, transaction: Transaction) -> None:
        """Let a transaction make it durable, behind everything else that it appends."""
        for name, chunk in self._chunks.items():
            if chunk is None:
                transaction.drop(_STATE, name)
            else:
                transaction.save(_STATE, name, chunk)
        self._queue.put(transaction)

    def committed(self, committed: Committed) -> None:
        """It is."""
        for message, lanes in self._queue.committed(committed):
            self._statistics.queued += 1
            for lane in lanes:
                self._due |= lane.users
            if message.session:
                self.give_own(message.session, message.offset)

    def answered(self) -> None:
        """Publishers know; now subscribers get it."""
        due, self._due = self._due, {}
        for puller in due:
            if isinstance(puller, Kept):
                self._pump.run(puller)
            else:
                self._pump.share(puller)

    def bring(self, pullers: Iterable[Kept | Share]) -> None:
        """There is something for these, after the next commit."""
        self._due |= dict.fromkeys(pullers)

    def give_own(self, client_id: str, offset: int) -> None:
        """A message in the queue is for one session only."""
        kept = self._roster.get(client_id)
        if kept is not None and offset >= kept.next:
            kept.own.append(offset)
            self._due[kept] = None
