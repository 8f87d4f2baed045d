"""Wrong passwords, by where they come from: whoever shows too many has to wait before another one is looked at.

There are two allowances: of an address for one name, so that a device with a wrong password keeps out nobody but
itself, and a larger one of an address for all names, for who tries many. Others are not kept out: an allowance belongs
to an address, and a password that was right a short while ago, a token or an API key needs none.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from millstream.clock import Clock

_OF_NAME, _OF_ADDRESS = 10, 100  # wrong passwords at once
_NAME_SECONDS, _ADDRESS_SECONDS = 10.0, 1.0  # until one more is allowed
_MOST = 20_000  # allowances in memory; the one that was used longest ago is forgotten
_SUBNET = 64  # bits of an IPv6 address that are a site's; the rest it chooses (RFC 4291, 2.5.1)


class _Used(NamedTuple):
    wrong: float
    at: float  # when so many were used


class Failures:
    """Counts, and says who may try again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._used: OrderedDict[tuple[str, str | None], _Used] = OrderedDict()

    def may_try(self, address: str, name: str) -> bool:
        """Whether another password is looked at. It counts for its name until it was `right`, so that not many of one
        name are looked at at a time; for all names it counts when it was `wrong`, because a thousand devices may come
        back by one address at once."""
        site = _site(address)
        if self._count(site, name) > _OF_NAME - 1 or self._count(site, None) > _OF_ADDRESS - 1:
            return False
        self._use(site, name)
        return True

    def may_fail(self, address: str) -> bool:
        """Count a refusal, whatever was shown. Whether it may be told at once."""
        site = _site(address)
        may = self._count(site, None) <= _OF_ADDRESS - 1
        if may:
            self._use(site, None)
        return may

    def right(self, address: str, name: str) -> None:
        """That was it."""
        self._used.pop((_site(address), name), None)

    def wrong(self, address: str) -> None:
        """It was not."""
        self._use(_site(address), None)

    def _use(self, site: str, name: str | None) -> None:
        self._used[site, name] = _Used(self._count(site, name) + 1, self._clock.monotonic())
        self._used.move_to_end((site, name))
        if len(self._used) > _MOST:
            self._used.popitem(last=False)

    def _count(self, site: str, name: str | None) -> float:
        """How much of an allowance is used now."""
        used = self._used.get((site, name))
        if used is None:
            return 0.0
        seconds = _ADDRESS_SECONDS if name is None else _NAME_SECONDS
        return max(0.0, used.wrong - (self._clock.monotonic() - used.at) / seconds)


def _site(address: str) -> str:
    """The address, or of IPv6 the network that one site has."""
    try:
        its = ip_address(address)
    except ValueError:
        return address
    return str(int(its) >> (128 - _SUBNET)) if isinstance(its, IPv6Address) and its.ipv4_mapped is None else str(its)
