"""What a session wants of its owner."""

from __future__ import annotations

from dataclasses import dataclass

from millstream.mqtt.packet import Connect, Subscription, Will
from millstream.mqtt.reason import Reason

SHARED = "$share/"
"""How the filter of a shared subscription begins; its group and the filter proper follow."""


@dataclass(frozen=True, slots=True)
class Connecting:
    """A client wants in: `accept` or `end` the session, then `receive(b"", …)` for what came behind its CONNECT."""

    connect: Connect


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription is granted, in the place of `replaced`, one of the same filter, if there was one."""

    subscription: Granted
    replaced: Granted | None
    wants_retained: bool = True


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """A subscription has ended."""

    subscription: Granted


@dataclass(frozen=True, slots=True, eq=False)
class Granted:
    """A subscription as the server keeps it. Compared by identity: it stands for its session."""

    filter: str
    qos: int
    no_local: bool
    identifiers: tuple[int, ...]
    retain_as_published: bool = False

    @property
    def is_shared(self) -> bool:
        """Whether others share it (4.8.2)."""
        return self.filter.startswith(SHARED)

    @property
    def topics(self) -> str:
        """The filter proper."""
        return self.filter.split("/", 2)[2] if self.is_shared else self.filter

    @staticmethod
    def of(asked: Subscription, identifiers: tuple[int, ...]) -> Granted:
        return Granted(asked.filter, asked.qos, asked.no_local, identifiers, asked.retain_as_published)


@dataclass(frozen=True, slots=True)
class Ended:
    """The connection is over: write what there is, close, and publish the will if there is one.

    `rejected` when a published message ended it, whose `packet` begins so."""

    reason: Reason
    text: str
    will: Will | None = None
    rejected: bool = False
    packet: bytes = b""
    session_expiry: int | None = None
    """What a DISCONNECT asked for, in seconds."""


@dataclass(frozen=True, slots=True)
class Declined:
    """A published message is refused, and the connection goes on."""

    reason: Reason
    text: str
    topic: str
    payload: bytes


Action = Connecting | Subscribed | Unsubscribed | Declined | Ended
