"""Versions of reference data, as the log keeps them: each is a few events of a stream of its own.

A version is recorded when the content has changed, and is in force for events that arrive from then on. What an event
was joined with follows from the log alone, so a query that runs over it again finds the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from millstream.event import Event
from millstream.reference.source import Content

DIGEST = "reference-version"
"""The header with the content's digest."""

PIECE = "reference-piece"
"""The header that says which event of how many of a version it is: `1/3`."""

_PIECE_BYTES = 512 * 1024  # Kafka refuses records of more than 1 MB by default
_MEDIA_TYPE = "application/vnd.apache.arrow.stream"


def stream_of(reference: str) -> str:
    """The stream of a reference's versions; it captures no topics."""
    return f"$reference.{reference}"


def encode(reference: str, content: Content) -> Sequence[Event]:
    """The events of a version."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, content.table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(content.table)
    data = sink.getvalue().to_pybytes()
    pieces = [data[start : start + _PIECE_BYTES] for start in range(0, len(data), _PIECE_BYTES)]
    return [
        Event(
            topic=stream_of(reference),
            key=reference,
            payload=piece,
            headers={DIGEST: content.digest, PIECE: f"{number}/{len(pieces)}"},
            type="reference",
            content_type=_MEDIA_TYPE,
        )
        for number, piece in enumerate(pieces, 1)
    ]


class Pieces:
    """Puts versions together from their events, as they are read. Those of several may stand among each other."""

    def __init__(self) -> None:
        self._found: dict[str, dict[int, Event]] = {}

    def add(self, event: Event) -> tuple[str, Sequence[Event]] | None:
        """The digest and all events of a version, if this was the last of them."""
        digest = event.headers[DIGEST]
        number, _, count = event.headers[PIECE].partition("/")
        found = self._found.setdefault(digest, {})
        found[int(number)] = event
        if len(found) < int(count):
            return None
        del self._found[digest]
        return digest, [found[place] for place in sorted(found)]


def decode(events: Iterable[Event]) -> pa.Table:
    """The table of a version, from its events."""
    with pa.ipc.open_stream(b"".join(event.payload for event in events)) as reader:
        return reader.read_all()
