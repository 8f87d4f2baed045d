"""How streams and groups are called on Kafka.

A topic's name has letters, digits, `.`, `_` and `-` of ASCII, and at most 249 characters.
"""

from __future__ import annotations

import hashlib
import re

_FORBIDDEN = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST = 249
_DIGEST = 16  # characters that stand for the end of a name that is too long


class Names:
    """The names of everything, each behind the same prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    @property
    def catalog(self) -> str:
        """The topic that tells which streams there are."""
        return f"{self._prefix}millstream.streams"

    def topic(self, stream: str) -> str:
        """The topic of a stream: its own name, where Kafka allows it."""
        return _topic(f"{self._prefix}{stream}")

    def state(self, group: str) -> str:
        """The topic of a group's state. Its partitions are the partition numbers that members share."""
        return _topic(f"{self._prefix}millstream.state.{group}")

    def group(self, name: str) -> str:
        """The id of a group."""
        return f"{self._prefix}{name}"

    def group_of(self, group_id: str) -> str | None:
        """The name of a group by its id; None for one that is not behind the prefix."""
        return group_id.removeprefix(self._prefix) if group_id.startswith(self._prefix) else None


def _topic(name: str) -> str:
    legal = _FORBIDDEN.sub(lambda found: f"_{ord(found.group()):x}_", name)
    if len(legal) <= _LONGEST:
        return legal
    digest = hashlib.blake2b(name.encode(), digest_size=_DIGEST // 2).hexdigest()
    return f"{legal[: _LONGEST - _DIGEST - 1]}-{digest}"
