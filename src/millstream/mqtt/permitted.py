"""Which topics a client may publish to, found out once for each."""

from __future__ import annotations

from collections.abc import Mapping

from millstream.mqtt.numbering import Numbering, topic_key
from millstream.rights import Right, Rights

_MOST = 1_000  # topics that are kept for a connection; more are asked for again


class PermittedTopics:
    """Those of one connection that it has used, as `scan` looks them up: what is not among them takes the slow way, to
    be checked. So the rights of a client cost nothing per message."""

    __slots__ = ("_known", "_numbering", "rights")

    def __init__(self, rights: Rights) -> None:
        self.rights = rights
        self._numbering: Numbering | None = None
        self._known: dict[bytes, int] = {}

    def known(self, numbering: Numbering) -> Mapping[bytes, int]:
        """Their numbers by `topic_key`, in a numbering; there is a new one now and then."""
        if numbering is not self._numbering:
            self._numbering = numbering
            self._known = {}
        return self._known

    def check(self, topic: str, numbering: Numbering) -> None:
        """Raise `NotAuthorizedError` unless the client may publish to a valid topic, which is known from now on."""
        key = topic_key(topic)
        if key in self.known(numbering):
            return
        self.rights.check(Right.PUBLISH, topic)
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[key] = numbering.number(topic)
