"""Events that could not be processed, as they are kept: as they came, with headers that tell what happened."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from millstream.event import Event, to_columns
from millstream.ledger import DEAD_LETTERS, letter
from millstream.log import Router, Transaction, partition_of

_TEXT = 1_000  # characters of an error's text that are kept


def dead_letter(event: Event, *, group: str, reason: str, error: BaseException | None = None, attempts: int) -> Event:
    """The event with headers `dead-letter-…`: why, in whose hands, and where it stands."""
    headers = {
        **event.headers,
        letter.REASON: reason[:_TEXT],
        letter.GROUP: group,
        letter.STREAM: event.stream or "",
        letter.PARTITION: str(event.partition),
        letter.OFFSET: str(event.offset),
        letter.TOPIC: event.topic,
        letter.ATTEMPTS: str(attempts),
    }
    if error is not None:
        headers[letter.ERROR_TYPE] = type(error).__name__
        headers[letter.ERROR] = str(error)[:_TEXT]
    if event.id is not None:
        headers[letter.ID] = event.id
    return msgspec.structs.replace(event, headers=headers, id=None)  # failed in two groups, it is no duplicate


def append_dead_letters(transaction: Transaction, router: Router, events: Iterable[Event]) -> None:
    """Append to the stream of dead letters, which captures no topics: nothing else is routed there."""
    partitions = router.streams[DEAD_LETTERS].partitions
    by_partition: dict[int, list[Event]] = {}
    for event in events:
        key = event.key if event.key is not None else event.topic
        by_partition.setdefault(partition_of(key, partitions), []).append(event)
    for partition, found in by_partition.items():
        transaction.append(DEAD_LETTERS, partition, to_columns(found))
