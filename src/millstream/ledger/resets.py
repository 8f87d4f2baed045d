"""Resets: a key begins anew in what one group keeps of it.

A reset is an event for that group alone, like one that is sent again (`RESEND_GROUP`). It stands in the partition of
the key, so it takes effect at one place in the order of the log, once, whoever has the partition by then.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from millstream.event import RESEND_GROUP, Event
from millstream.ledger.letter import RESEND_OF

RESET = "reset"
"""How resets are called: the type of such an event, and how the operators' group counts them."""


def is_reset(headers: Mapping[str, str], here: str) -> bool:
    """Whether an event is a reset; `here` is its partition, `STREAM:PARTITION:`. No device can set these headers, and
    what is sent again names an offset in their place."""
    return headers.get(RESEND_OF) == here + RESET and RESEND_GROUP in headers


def reset_event(group: str, stream: str, partition: int, key: str, topics: str | None = None) -> Event:
    """The event by which a key begins anew; `topics` is the filter of what the group reads, if it has one."""
    topic = RESET if topics is None else topics.replace("+", RESET).replace("#", RESET)
    headers = {RESEND_GROUP: group, RESEND_OF: f"{stream}:{partition}:{RESET}"}
    payload = msgspec.json.encode({"reset": key, "group": group})
    return Event(topic=topic, key=key, type=RESET, payload=payload, headers=headers)
