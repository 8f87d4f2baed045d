"""The rights of clients as the settings say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from millstream.errors import NotAuthorizedError
from millstream.rights import DOES, EVERYTHING, INCLUDED, OF_NAMES, Right, Rights
from millstream.settings import PLACEHOLDERS, OwnRights, Settings
from millstream.settings import Rights as RightsSettings
from millstream.topic import filter_covers

_OVER_DEVICES = (Right.VIEW, Right.OPERATE, Right.MANAGE, Right.ADMINISTER)


class Policy:
    """Gives each client its rights."""

    def __init__(self, settings: Settings) -> None:
        self._default = settings.rights
        self._users = {name: self._with(user) for name, user in settings.users.items()}
        self._anonymous = None if settings.anonymous is None else self._with(settings.anonymous)
        # What all users may do with devices, these need not be able to do with each other.
        over_others = {right.value: bool(getattr(settings.devices, right)) for right in _OVER_DEVICES}
        self._devices = self._with(settings.devices).model_copy(update=over_others)

    def rights(self, user: str | None, client_id: str) -> Rights:
        """Those of a user (None: of who shows no name) with a client identifier, empty where it has none."""
        if user is not None:
            own = self._users.get(user, self._default)  # one known by its certificate may have none of its own
            return Granted(own, _Client(f"user {user!r}", f"[users.{user}]", user, client_id))
        if self._anonymous is None:
            return EVERYTHING
        return Granted(self._anonymous, _Client("who shows no user name", "[anonymous]", "", client_id))

    def device_rights(self, device: str, client_id: str) -> Rights:
        """Those of a device of the registry, and of its modules."""
        return Granted(self._devices, _Client(f"device {device!r}", "[devices]", device, client_id))

    def _with(self, own: OwnRights) -> RightsSettings:
        said = own.model_dump(exclude_none=True, include=set(RightsSettings.model_fields))
        return self._default.model_copy(update=said)


class _Client(NamedTuple):
    """Whom rights are for, and where they are written."""

    who: str
    place: str
    user: str
    client_id: str


class Granted:
    """See `Rights`: what the settings grant, and nothing else."""

    __slots__ = ("_client", "_granted")

    def __init__(self, granted: RightsSettings, client: _Client) -> None:
        self._granted = granted
        self._client = client

    def check(self, right: Right, name: str = "") -> None:
        """See `Rights`."""
        if not self._grants(right, name):
            raise NotAuthorizedError(
                f"{self._client.who} may not {DOES[right].format(name)}; "
                f"the setting {right.value!r} in {self._client.place} or [rights] gives the right"
            )

    def _grants(self, right: Right, name: str) -> bool:
        if right not in OF_NAMES:
            giving = (right, *(each for each, included in INCLUDED.items() if right in included))
            return any(getattr(self._granted, each.value) for each in giving)
        return any(filter_covers(each, name) for each in self._filters(getattr(self._granted, right.value)))

    def _filters(self, written: Sequence[str]) -> Iterator[str]:
        """Filters with the client's names in them. A name that would be more than a part of a level, as `+` or `a/b`
        would, grants nothing (CVE-2017-7650 was such a one)."""
        names = dict(zip(PLACEHOLDERS, (self._client.user, self._client.client_id), strict=True))
        for each in written:
            filled = each
            for placeholder, name in names.items():
                if _is_plain(name):
                    filled = filled.replace(placeholder, name)
            if "{" not in filled:
                yield filled


def _is_plain(name: str) -> bool:
    return bool(name) and not name.startswith("$") and not any(sign in name for sign in "+#/{}")
