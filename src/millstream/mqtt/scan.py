"""The fast scan: every plain PUBLISH of what many connections read, in one loop, into columns.

A PUBLISH is *plain* when it is complete, of QoS 0 or 1, without RETAIN and without properties, and its topic is
known, permitted to its client, and has at most 255 bytes. The scan stops at the first packet of a read that is
anything else, also at a malformed one, and the plain codec takes that one. So it decides nothing: it may only be
quicker than the codec, never of another opinion, which is what its tests assert.

What makes it quick: nothing is called for a message but slices, appends and one look-up of its topic's bytes in a
dictionary, whose value is a number, so that columns of topics are made of numbers. A topic is validated, decoded and
routed once, by whoever fills the dictionary. A thousand devices that send one message each are a thousand reads: they
go through the same loop, since to call it for each of them would cost as much again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from millstream.mqtt.allowance import Allowance
from millstream.mqtt.numbering import Numbering
from millstream.mqtt.permitted import PermittedTopics
from millstream.mqtt.properties import Properties

_QOS_BY_FIRST_BYTE = {0x30: 0, 0x32: 1, 0x3A: 1}  # 0x3A is marked as sent again
_NO_ID = b"\0\0"

PUBACK = b"\x40\x02"  # and the packet identifier: success, without properties
PUBREC = b"\x50\x02"  # likewise


class Publisher(Protocol):
    """A connection that messages come from."""

    def acknowledge(self, answers: Sequence[bytes]) -> None:
        """Write acknowledgements: rows of PUBACKs, and others by themselves."""
        ...

    def explain(self, acknowledgement: bytes, text: str) -> bytes:
        """An acknowledgement that says more, if the client can be told."""
        ...


class Source(Protocol):
    """What the scan has to know of a connection."""

    active: bool  # set when something has come
    allowance: Allowance  # less by every message taken
    credit: int  # less by every one of QoS 1; below 0, nothing more is taken
    plain_header: int
    """Bytes that a plain PUBLISH has between topic and payload besides the packet identifier (the property length of
    MQTT 5), -1 while none may be taken."""

    @property
    def permitted(self) -> PermittedTopics | None:
        """The topics that it may publish to; None for all."""
        ...


P = TypeVar("P", bound=Publisher)
Read = tuple[P, Source, bytes, int]
"""What one read of a socket brought: whose, in which session, the bytes, and the position of the first to look at."""


class Arrivals:
    """Published messages as columns, in the order of arrival, from one connection or many.

    Each has a row in `topics` (numbers of `numbering`) and `payloads`. `qualities[i]` is the QoS of the rows from
    `quality_starts[i]` on. `properties` holds those of the few rows that have any. The rows from `starts[i]` on came
    from `publishers[i]`, who is owed the PUBACKs in `acknowledgements[i]` for them. `retained` are the few rows with
    RETAIN, ascending. `size` are the bytes that came.
    """

    __slots__ = (
        "acknowledgements",
        "numbering",
        "payloads",
        "properties",
        "publishers",
        "qualities",
        "quality_starts",
        "retained",
        "size",
        "starts",
        "topics",
    )

    def __init__(self, numbering: Numbering) -> None:
        self.numbering = numbering
        self.topics: list[int] = []
        self.payloads: list[bytes] = []
        self.qualities: list[int] = []
        self.quality_starts: list[int] = []
        self.properties: dict[int, Properties] = {}
        self.starts: list[int] = []
        self.publishers: list[Publisher | None] = []
        self.acknowledgements: list[bytes] = []
        self.retained: dict[int, None] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self.payloads)

    def add(
        self,
        topic: str,
        qos: int,
        payload: bytes,
        properties: Properties | None = None,
        publisher: Publisher | None = None,
        acknowledgement: bytes = b"",
        *,
        retain: bool = False,
    ) -> None:
        """Append one message."""
        if properties is not None:
            self.properties[len(self.payloads)] = properties
        if retain:
            self.retained[len(self.payloads)] = None
        self.extend(topic, qos, (payload,), publisher, acknowledgement)

    def extend(
        self,
        topic: str,
        qos: int,
        payloads: Sequence[bytes],
        publisher: Publisher | None = None,
        acknowledgement: bytes = b"",
    ) -> None:
        """Append messages on one topic, of which there is at least one."""
        row = len(self.payloads)
        if not self.qualities or self.qualities[-1] != qos:
            self.qualities.append(qos)
            self.quality_starts.append(row)
        self.topics += [self.numbering.number(topic)] * len(payloads)
        self.payloads += payloads
        self.starts.append(row)
        self.publishers.append(publisher)
        self.acknowledgements.append(acknowledgement)
        self.size += sum(map(len, payloads))

    def owe(self, publisher: Publisher, acknowledgement: bytes) -> None:
        """Append an acknowledgement for no message of these: it comes in its turn."""
        self.starts.append(len(self.payloads))
        self.publishers.append(publisher)
        self.acknowledgements.append(acknowledgement)
        self.size += len(acknowledgement)

    def explain(self, row: int, text: str) -> None:
        """Let the acknowledgement of a message that was added by itself say more."""
        place = bisect_right(self.starts, row) - 1
        publisher = self.publishers[place]
        if publisher is not None and self.acknowledgements[place]:
            self.acknowledgements[place] = publisher.explain(self.acknowledgements[place], text)

    def publisher(self, row: int) -> Publisher | None:
        """The connection that a message came from, None for another way."""
        return self.publishers[bisect_right(self.starts, row) - 1]

    def quality(self, row: int) -> int:
        """The QoS of a message."""
        return self.qualities[bisect_right(self.quality_starts, row) - 1]


def scan(reads: Iterable[Read[P]], limit: int, arrivals: Arrivals) -> Iterator[tuple[Read[P], int]]:
    """Take the plain PUBLISH packets from every read. Gives each read that has anything else, and where that begins,
    before it goes on: take the rest of it then, so that what comes from a connection stays in order. Gives a read with
    nothing else, too, where the source's credit is used up.

    `limit` is the largest packet in bytes."""
    rows, numbering = arrivals.payloads, arrivals.numbering
    everything = numbering.known
    add_topic, add_payload = arrivals.topics.append, rows.append
    add_start, add_publisher = arrivals.starts.append, arrivals.publishers.append
    add_acknowledgement = arrivals.acknowledgements.append
    qualities = arrivals.qualities
    ids: list[bytes] = []
    add_id = ids.append
    for read in reads:
        publisher, source, data, begin = read
        source.active = True
        plain_header, first_row = source.plain_header, len(rows)
        permitted = source.permitted
        numbers = everything if permitted is None else permitted.known(numbering)
        position, end = begin, len(data) if plain_header >= 0 else begin
        last = qos = behind_topic = -1
        try:
            while position < end:
                length = data[position + 1]
                start = position + 2
                if length > 127:
                    high = data[start]
                    if high == 0 or high > 127:
                        break
                    length += (high << 7) - 128
                    start += 1
                stop = start + length
                if stop > end or stop - position > limit:
                    break
                first = data[position]
                if first != last:
                    last = first
                    qos = _QOS_BY_FIRST_BYTE.get(first, -1)
                    if qos < 0:
                        break
                    behind_topic = 2 * qos + plain_header
                    if not qualities or qualities[-1] != qos:
                        qualities.append(qos)
                        arrivals.quality_starts.append(len(rows))
                # A topic of up to 255 bytes; no key of a longer one is so short.
                topic_end = start + 2 + data[start + 1]
                topic = numbers.get(data[start:topic_end])
                if topic is None:
                    break
                payload = topic_end + behind_topic
                if payload > stop or (plain_header and data[payload - 1]):
                    break
                if qos:
                    packet_id = data[topic_end : topic_end + 2]
                    if packet_id == _NO_ID:  # forbidden
                        break
                    add_id(packet_id)
                add_topic(topic)
                add_payload(data[payload:stop])
                position = stop
        except IndexError:
            pass  # the next packet's length has not arrived
        if position > begin:
            add_start(first_row)
            add_publisher(publisher)
            source.allowance.messages -= len(rows) - first_row
            if ids:
                source.credit -= len(ids)
                add_acknowledgement(PUBACK + PUBACK.join(ids))
                ids.clear()
            else:
                add_acknowledgement(b"")
            arrivals.size += position - begin
        if position < len(data) or source.credit < 0:
            if qualities and arrivals.quality_starts[-1] == len(rows):  # a change of QoS that no row followed
                qualities.pop()
                arrivals.quality_starts.pop()
            yield read, position


def scan_acknowledgements(data: bytes, position: int, packet_ids: list[int]) -> int:
    """Take the plain PUBACKs (success, no properties) from `position` on, and return where something else begins."""
    end = len(data) - 3
    while position < end and data[position] == 0x40 and data[position + 1] == 2:
        packet_id = data[position + 2] << 8 | data[position + 3]
        if not packet_id:
            break
        packet_ids.append(packet_id)
        position += 4
    return position
