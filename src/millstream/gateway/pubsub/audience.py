"""Who listens to a topic: everything that the trie of filters finds for it, put together once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from millstream.event import Event
from millstream.gateway.pubsub.post import Post
from millstream.gateway.sessions.queue import Lane
from millstream.gateway.sessions.share import Share
from millstream.mqtt import Bundle, Granted, Message, Outcome, Version


class Subscriber(Protocol):
    """A connection that events go to. Compared by identity."""

    @property
    def has_queue(self) -> bool:
        """Whether it gets from the queue of its session what has QoS 1 or 2, and only QoS 0 from here."""
        ...

    @property
    def version(self) -> Version:
        """What it speaks."""
        ...

    def deliver(self, message: Message, qos: int) -> Outcome:
        """Take a message, to be written with the next `flush`."""
        ...

    def deliver_all(self, bundle: Bundle, qos: int) -> int:
        """Take messages in their order, likewise. How many were taken: the others are dropped."""
        ...

    def flush(self) -> None:
        """Write what was delivered."""
        ...


class Reader:
    """A subscriber that is no connection: gets the events of a batch in one call."""

    __slots__ = ("call", "events")

    def __init__(self, call: Callable[[Sequence[Event]], None]) -> None:
        self.call = call
        self.events: list[Event] = []


class Desk:
    """Another one: gets events as they were published, so that it knows by whom."""

    __slots__ = ("call", "posts")

    def __init__(self, call: Callable[[list[Post]], None]) -> None:
        self.call = call
        self.posts: list[Post] = []


class Wish(NamedTuple):
    """Who wants what: the values in the trie of filters. A lane wants it for the sessions that are kept."""

    who: Subscriber | Reader | Desk | Lane | Share
    granted: Granted | None = None


class Form(NamedTuple):
    """How some subscribers want what is published on a topic: at this QoS at most, with these subscription identifiers.
    Those that `have_queue` get only QoS 0 here; those with `no_local` do not get what is their own."""

    version: Version
    qos: int
    identifiers: tuple[int, ...]
    retain_as_published: bool
    no_local: bool
    have_queue: bool


class Audience(NamedTuple):
    """Everybody who listens to a topic: connections by the form in which they want it, each in one of them. There are
    as many as topics, and most are of one connection: an empty tuple costs nothing."""

    forms: tuple[tuple[Form, Mapping[Subscriber, None]], ...]
    readers: tuple[Reader, ...]
    desks: tuple[Desk, ...]
    lanes: tuple[Lane, ...]
    shares: tuple[Share, ...]

    def is_present(self) -> bool:
        """Whether anybody in it may get something at once, and not by the queue."""
        return bool(self.forms or self.readers or self.desks or self.shares)


def assemble(wishes: Sequence[Wish]) -> Audience | None:
    """The audience of a topic, from all that its filters are wanted for; None for nobody."""
    if not wishes:
        return None
    subscribers: dict[Subscriber, Form] = {}
    readers: list[Reader] = []
    desks: list[Desk] = []
    lanes: list[Lane] = []
    shares: list[Share] = []
    for who, granted in wishes:
        if isinstance(who, Reader):
            readers.append(who)
        elif isinstance(who, Desk):
            desks.append(who)
        elif isinstance(who, Lane):
            lanes.append(who)
        elif isinstance(who, Share):
            shares.append(who)
        elif granted is not None:
            subscribers[who] = _together(who, granted, subscribers.get(who))
    forms: dict[Form, dict[Subscriber, None]] = {}
    for subscriber, form in subscribers.items():
        forms.setdefault(form, {})[subscriber] = None
    return Audience(tuple(forms.items()), tuple(readers), tuple(desks), tuple(lanes), tuple(shares))


def _together(who: Subscriber, granted: Granted, found: Form | None) -> Form:
    """What a subscriber wants that had `found` so far: all of its subscriptions that match are one (3.3.4)."""
    if found is None:
        its = (granted.qos, granted.identifiers, granted.retain_as_published, granted.no_local)
        return Form(who.version, *its, who.has_queue)
    return Form(
        who.version,
        max(granted.qos, found.qos),
        (*found.identifiers, *granted.identifiers),
        granted.retain_as_published or found.retain_as_published,
        granted.no_local and found.no_local,
        found.have_queue,
    )
