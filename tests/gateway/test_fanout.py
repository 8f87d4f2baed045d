"""Events of batches to those who listen, against the plainest way to find them: event by event, filter by filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from millstream.clock import VirtualClock
from millstream.event import Event
from millstream.gateway.ingest.gathering import Gathering
from millstream.gateway.ingest.routing import Routing
from millstream.gateway.ingest.sealed import Sealed
from millstream.gateway.pubsub.audience import Desk, Reader
from millstream.gateway.pubsub.fanout import FanOut
from millstream.gateway.pubsub.post import Post
from millstream.gateway.pubsub.topic_table import TopicTable
from millstream.gateway.sessions.queue import Lane
from millstream.gateway.statistics import Statistics
from millstream.gateway.tally import Tally
from millstream.log import StreamSpec
from millstream.mqtt import Bundle, Granted, Message, Outcome, Version, encode_message, topic_key
from millstream.topic import filter_matches

TOPICS = ["a", "a/b", "a/c", "b/c", "$hidden/b", *(f"many/{number}" for number in range(6))]
FILTERS = ["a", "a/+", "#", "+/c", "many/#", "many/3", "$hidden/#"]
STREAMS = {"some": StreamSpec("some", ("many/+", "a"))}


@dataclass(eq=False)
class Client:
    """A subscriber that takes so many messages in a batch."""

    version: Version
    room: int
    has_queue: bool = False
    client_id: str = ""
    taken: list[tuple[Message, int]] = field(default_factory=list)
    written: list[tuple[Message, int]] = field(default_factory=list)

    def deliver(self, message: Message, qos: int) -> Outcome:
        if len(self.taken) == self.room:
            return Outcome.DROPPED
        self.taken.append((message, qos))
        return Outcome.SENT

    def deliver_all(self, bundle: Bundle, qos: int) -> int:
        return sum(self.deliver(message, qos) is Outcome.SENT for message in bundle.messages)

    def flush(self) -> None:
        self.written += self.taken
        self.taken.clear()

    def acknowledge(self, answers: Sequence[bytes]) -> None: ...

    def explain(self, acknowledgement: bytes, text: str) -> bytes:
        return acknowledgement


CLIENTS = 3
its_filters = st.lists(st.tuples(st.sampled_from(FILTERS), st.integers(0, 2), st.booleans()), max_size=3)
published = st.tuples(st.sampled_from(TOPICS), st.integers(0, 1), st.none() | st.integers(0, CLIENTS - 1))
batches = st.lists(st.lists(published, min_size=1, max_size=12), max_size=3)


class Site:
    """What the fan-out has to do with, and what it should do."""

    def __init__(self, rooms: list[int]) -> None:
        self.clock = VirtualClock()
        self.statistics = Statistics(Tally(self.clock))
        self.fan_out = FanOut(self.statistics, self.clock)
        self.table = TopicTable()
        self.routing = Routing(STREAMS, self.table)
        self.clients = [Client(Version.V5 if room % 2 else Version.V3_1_1, room) for room in rooms]
        self.wanted: list[list[Granted]] = [[] for _ in rooms]
        self.read: list[Event] = []
        self.posted: list[Post] = []

    def subscribe(self, filters: list[list[tuple[str, int, bool]]]) -> None:
        for client, before, now in zip(self.clients, self.wanted, filters, strict=True):
            for granted in before:
                self.fan_out.remove(client, granted)
            before[:] = [Granted(each, qos, no_local, ()) for each, qos, no_local in now]
            for granted in before:
                self.fan_out.add(client, granted)

    def seal(self, batch: list[tuple[str, int, int | None]], duplicates: set[int]) -> Sealed:
        gathering = Gathering(self.table)
        for row, (topic, qos, client) in enumerate(batch):
            publisher = None if client is None else self.clients[client]
            gathering.arrivals.add(topic, qos, b"%d" % row, publisher=publisher)
        sealed = Sealed(gathering, self.routing)
        sealed.duplicates = sorted(row for row in duplicates if row < len(batch))
        return sealed

    def expected(
        self, number: int, sealed: Sealed, batch: list[tuple[str, int, int | None]]
    ) -> list[tuple[Message, int]]:
        client = self.clients[number]
        found: list[tuple[Message, int]] = []
        for captured in (False, True):
            before = len(found)
            for row, (topic, qos, publisher) in enumerate(batch):
                its = [granted for granted in self.wanted[number] if filter_matches(granted.filter, topic)]
                own = publisher == number and all(granted.no_local for granted in its)
                if its and not own and row not in sealed.duplicates and sealed.is_captured[row] == captured:
                    quality = min(qos, max(granted.qos for granted in its))
                    found.append((encode_message(topic_key(topic), quality, b"%d" % row, client.version), quality))
            del found[before + client.room :]
        return found


@given(
    st.lists(st.integers(0, 12), min_size=CLIENTS, max_size=CLIENTS),
    st.lists(st.tuples(st.tuples(*[its_filters] * CLIENTS), batches), max_size=3),
    st.sets(st.integers(0, 11), max_size=3),
)
def test_subscribers_get_what_their_filters_match_in_order(
    rooms: list[int],
    course: list[tuple[tuple[list[tuple[str, int, bool]], ...], list[list[tuple[str, int, int | None]]]]],
    duplicates: set[int],
) -> None:
    site = Site(rooms)
    for filters, published_then in course:
        site.subscribe(list(filters))
        for batch in published_then:
            sealed = site.seal(batch, duplicates)
            for captured in (False, True):
                site.fan_out.give(sealed, captured, site.clock.now())
            for number, client in enumerate(site.clients):
                assert client.written == site.expected(number, sealed, batch)
                client.written.clear()


@given(batches)
def test_readers_desks_and_queues_get_theirs_too(course: list[list[tuple[str, int, int | None]]]) -> None:
    site = Site([0] * CLIENTS)
    everything, many = Granted("#", 1, False, ()), Granted("many/#", 1, False, ())
    site.fan_out.add(Reader(site.read.extend), everything)
    site.fan_out.add(Desk(site.posted.extend), many)
    lane = Lane("a/+")
    site.fan_out.add_lane(lane)
    for batch in course:
        site.read.clear()
        site.posted.clear()
        sealed = site.seal(batch, set())
        for captured in (False, True):
            site.fan_out.give(sealed, captured, site.clock.now())
        topics = [topic for topic, _, _ in batch if not topic.startswith("$")]
        assert sorted(event.topic for event in site.read) == sorted(topics)
        assert [post.topic.name for post in site.posted] == [topic for topic in topics if topic.startswith("many/")]
        queued = [(post.topic.name, lanes) for post, lanes in site.fan_out.queued(sealed)]
        assert queued == [(topic, (lane,)) for topic, qos, _ in batch if qos and topic in ("a/b", "a/c")]


def test_topics_that_are_wanted_for_the_same_share_an_audience_until_that_changes() -> None:
    site = Site([1] * CLIENTS)
    site.subscribe([[("many/#", 0, False)], [("many/3", 0, False)], []])
    first, second, third = (site.table.topic(f"many/{number}") for number in (1, 2, 3))
    assert site.fan_out.audience(first) is site.fan_out.audience(second) is not None
    assert site.fan_out.audience(third) is not site.fan_out.audience(first)
    assert site.fan_out.audience(site.table.topic("a")) is None
    site.subscribe([[], [], []])
    assert site.fan_out.audience(first) is None
