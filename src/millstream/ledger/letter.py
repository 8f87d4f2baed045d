"""A dead letter: the event as it came, and headers that tell what happened to it.

One that is sent again stands in its stream a second time, in the same partition. Its headers say which group it is for
and what it repeats; all other groups of that stream pass it by. Headers count only where they name the very
partition in which the event stands: copied into an event of another stream they mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import msgspec

from millstream.event import RESEND_GROUP, Event

DEAD_LETTER = "dead-letter-"
REASON, GROUP = "dead-letter-reason", "dead-letter-group"
STREAM, PARTITION, OFFSET = "dead-letter-stream", "dead-letter-partition", "dead-letter-offset"
TOPIC, ID, ATTEMPTS = "dead-letter-topic", "dead-letter-id", "dead-letter-attempts"
ERROR_TYPE, ERROR = "dead-letter-error-type", "dead-letter-error"

RESEND_OF = "resend-of"
"""The header of an event that is sent again (`RESEND_GROUP`) with the position of the event that it repeats. No device
can set it."""


@dataclass(frozen=True)
class Letter:
    """An event of the stream of dead letters, and what its headers say."""

    event: Event

    @property
    def name(self) -> str:
        """`PARTITION:OFFSET` in the stream of dead letters: what a person calls it by."""
        return f"{self.event.partition}:{self.event.offset}"

    @property
    def group(self) -> str:
        return self._header(GROUP)

    @property
    def reason(self) -> str:
        return self._header(REASON)

    @property
    def topic(self) -> str:
        return self._header(TOPIC) or self.event.topic

    @property
    def attempts(self) -> int:
        return int(self._header(ATTEMPTS) or 1)

    @property
    def error(self) -> str | None:
        """The type and text of the handler's exception."""
        kind = self.event.headers.get(ERROR_TYPE)
        return None if kind is None else f"{kind}: {self._header(ERROR)}"

    @property
    def kind(self) -> str:
        """What letters of the same cause have in common: the exception's type, else how the reason begins."""
        return self.event.headers.get(ERROR_TYPE) or self.reason.partition(":")[0]

    @property
    def stream(self) -> str:
        return self._header(STREAM)

    @property
    def partition(self) -> int:
        return int(self._header(PARTITION))

    @property
    def origin(self) -> str:
        """The position of the event that failed."""
        return f"{self.stream}:{self._header(PARTITION)}:{self._header(OFFSET)}"

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """The headers that the event came with."""
        ours = (DEAD_LETTER, RESEND_GROUP, RESEND_OF)
        return {name: value for name, value in self.event.headers.items() if not name.startswith(ours)}

    def again(self, group: str, payload: bytes | None) -> Event:
        """The event to send again, for a group; with another payload if one is given."""
        return msgspec.structs.replace(
            self.event,
            topic=self.topic,
            payload=self.event.payload if payload is None else payload,
            id=self.event.headers.get(ID),
            headers={**self.headers, RESEND_GROUP: group, RESEND_OF: self.origin},
        )

    def _header(self, name: str) -> str:
        return self.event.headers.get(name, "")
