"""What a client may do: the one interface that every way in asks, and whoever knows its clients implements."""

from __future__ import annotations

import enum
from typing import Protocol

from millstream.errors import NotAuthorizedError


class Right(enum.StrEnum):
    """What there is to be allowed, by the name of its setting."""

    PUBLISH = "publish"  # to a topic
    SUBSCRIBE = "subscribe"  # to a topic filter
    READ = "read"  # a stream
    JOIN = "join"  # a group
    OBSERVE = "observe"  # counts and metrics
    MANAGE = "manage"  # devices


class Rights(Protocol):
    """Those of one client."""

    def check(self, right: Right, name: str = "") -> None:
        """Raise `NotAuthorizedError`, which says what gives the right, unless the client may do this with what has
        that name."""
        ...


class Everything:
    """The rights of who may do everything."""

    def check(self, right: Right, name: str = "") -> None:
        """See `Rights`."""


EVERYTHING = Everything()


def may(rights: Rights, right: Right, name: str) -> bool:
    """Whether `rights.check` passes, for who leaves out what is not allowed."""
    try:
        rights.check(right, name)
    except NotAuthorizedError:
        return False
    return True
