"""What a client may do: the one interface that every way in asks, and whoever knows its clients implements."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Protocol

from millstream.errors import NotAuthorizedError


class Right(enum.StrEnum):
    """What there is to be allowed, by the name of its setting."""

    PUBLISH = "publish"  # to a topic
    SUBSCRIBE = "subscribe"  # to a topic filter
    READ = "read"  # a stream
    JOIN = "join"  # a group
    OBSERVE = "observe"  # counts and metrics
    VIEW = "view"  # devices, twins, enrollments, jobs; no secrets
    OPERATE = "operate"  # devices: twins, methods, commands, jobs
    MANAGE = "manage"  # the registry: devices and enrollments, with their secrets
    ADMINISTER = "administer"  # who may do what: API keys


DOES = {
    Right.PUBLISH: "publish to {!r}",
    Right.SUBSCRIBE: "subscribe to {!r}",
    Right.READ: "read stream {!r}",
    Right.JOIN: "join group {!r}",
    Right.OBSERVE: "see status and metrics",
    Right.VIEW: "see devices",
    Right.OPERATE: "operate devices",
    Right.MANAGE: "see and change devices",
    Right.ADMINISTER: "see and change API keys",
}
"""Each in words, for who is refused."""

OF_NAMES = frozenset((Right.PUBLISH, Right.SUBSCRIBE, Right.READ, Right.JOIN))
"""Those that are to do something with what has a name."""

INCLUDED: Mapping[Right, frozenset[Right]] = {
    Right.OPERATE: frozenset((Right.VIEW,)),
    Right.MANAGE: frozenset((Right.OPERATE, Right.VIEW)),
}
"""Which others a right gives."""


class Role(enum.StrEnum):
    """What an API key is for."""

    VIEWER = "viewer"  # looks
    OPERATOR = "operator"  # and tells devices what to do
    ADMIN = "admin"  # everything
    DEVICE = "device"  # what one device may do, and nothing else


_VIEWER = frozenset((Right.READ, Right.OBSERVE, Right.VIEW))
ROLES: Mapping[Role, frozenset[Right]] = {
    Role.VIEWER: _VIEWER,
    Role.OPERATOR: _VIEWER | {Right.PUBLISH, Right.SUBSCRIBE, Right.JOIN, Right.OPERATE},
    Role.ADMIN: frozenset(Right),
}
"""The rights of each role; those of a device are the settings'."""


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


class RoleRights:
    """See `Rights`: those of a role. What is Millstream's own (its name begins with `$`) is for admins only, as `#` is
    in MQTT."""

    __slots__ = ("_role",)

    def __init__(self, role: Role) -> None:
        self._role = role

    def check(self, right: Right, name: str = "") -> None:
        """See `Rights`."""
        granted = right in ROLES[self._role]
        if not granted or (name.startswith("$") and self._role is not Role.ADMIN):
            having = [role for role in ROLES if right in ROLES[role]] if not granted else [Role.ADMIN]
            raise NotAuthorizedError(
                f"an API key with the role {self._role} may not {DOES[right].format(name)}; "
                f"that takes the role {' or '.join(having)}"
            )


def may(rights: Rights, right: Right, name: str) -> bool:
    """Whether `rights.check` passes, for who leaves out what is not allowed."""
    try:
        rights.check(right, name)
    except NotAuthorizedError:
        return False
    return True
