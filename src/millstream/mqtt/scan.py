"""The fast scan of a read buffer: every plain PUBLISH in one loop, into columns.

A PUBLISH is *plain* when it is complete, of QoS 0 or 1, without RETAIN and without properties, and its topic is
known and has at most 255 bytes. The scan stops at the first packet that is anything else, also at a malformed one,
and the plain codec takes that one. So it decides nothing: it may only be quicker than the codec, never of another
opinion, which is what its tests assert.

What makes it quick: nothing is called for a message but slices, appends and one look-up of its topic's bytes in a
dictionary, whose value is a number, so that columns of topics are made of numbers. A topic is validated, decoded and
routed once, by whoever fills the dictionary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from millstream.mqtt.properties import Properties

_QOS_BY_FIRST_BYTE = {0x30: 0, 0x32: 1, 0x3A: 1}  # 0x3A is marked as sent again
_NO_ID = b"\0\0"
_SHORT = 129  # bytes of the largest packet whose length is one byte


class Numbering(Protocol):
    """Numbers for topics, from 0."""

    @property
    def known(self) -> Mapping[bytes, int]:
        """The numbers of known topics by `topic_key`."""
        ...

    def number(self, topic: str) -> int:
        """The number of a valid topic, a new one if it is not known."""
        ...


def topic_key(topic: str) -> bytes:
    """A topic as `scan` looks it up: its bytes behind their length, as in the packet."""
    raw = topic.encode()
    return len(raw).to_bytes(2, "big") + raw


class Arrivals:
    """Published messages as columns, in the order of arrival, from one connection or many.

    Each has a row in `topics` (numbers of `numbering`) and `payloads`. `qualities[i]` is the QoS of the rows from
    `quality_starts[i]` on. `properties` holds those of the few rows that have any.
    """

    __slots__ = ("numbering", "payloads", "properties", "qualities", "quality_starts", "topics")

    def __init__(self, numbering: Numbering) -> None:
        self.numbering = numbering
        self.topics: list[int] = []
        self.payloads: list[bytes] = []
        self.qualities: list[int] = []
        self.quality_starts: list[int] = []
        self.properties: dict[int, Properties] = {}

    def __len__(self) -> int:
        return len(self.payloads)

    def add(self, topic: str, qos: int, payload: bytes, properties: Properties | None = None) -> None:
        """Append one message."""
        row = len(self.payloads)
        if not self.qualities or self.qualities[-1] != qos:
            self.qualities.append(qos)
            self.quality_starts.append(row)
        self.topics.append(self.numbering.number(topic))
        self.payloads.append(payload)
        if properties is not None:
            self.properties[row] = properties

    def truncate(self, rows: int) -> None:
        """Forget all but the first `rows`, which must not have properties."""
        del self.payloads[rows:], self.topics[rows:]
        while self.quality_starts and self.quality_starts[-1] >= rows:
            self.quality_starts.pop()
            self.qualities.pop()


def scan(
    data: bytes, position: int, with_properties: bool, limit: int, arrivals: Arrivals, packet_ids: list[bytes]
) -> int:
    """Take the plain PUBLISH packets from `position` on, and return where the first other thing begins.

    `with_properties` for MQTT 5, whose plain packets have a property length of zero. `limit` is the largest packet in
    bytes. The packet identifiers of QoS 1 come as two bytes each."""
    if limit < _SHORT:
        return position
    rows, begin, end = len(arrivals.payloads), position, len(data)
    number_of = arrivals.numbering.known.get
    add_topic, add_payload, add_id = arrivals.topics.append, arrivals.payloads.append, packet_ids.append
    qualities = arrivals.qualities
    property_length = 1 if with_properties else 0
    last = qos = -1
    behind_topic = 0  # bytes between topic and payload
    try:
        while position < end:
            length = data[position + 1]
            start = position + 2
            if length > 127:
                high = data[start]
                if high == 0 or high > 127:
                    break
                length += (high << 7) - 128
                if length + 3 > limit:
                    break
                start += 1
            stop = start + length
            if stop > end:
                break
            first = data[position]
            if first != last:
                last = first
                qos = _QOS_BY_FIRST_BYTE.get(first, -1)
                if qos < 0:
                    break
                behind_topic = 2 * qos + property_length
                if not qualities or qualities[-1] != qos:
                    qualities.append(qos)
                    arrivals.quality_starts.append(len(arrivals.payloads))
            topic_end = start + 2 + data[start + 1]  # of a topic of up to 255 bytes; no key of a longer one is so short
            topic = number_of(data[start:topic_end])
            if topic is None:
                break
            payload = topic_end + behind_topic
            if payload > stop or (property_length and data[payload - 1]):
                break
            if qos:
                add_id(data[topic_end : topic_end + 2])
            add_topic(topic)
            add_payload(data[payload:stop])
            position = stop
    except IndexError:
        pass  # the next packet's length has not arrived
    if _NO_ID in packet_ids:  # forbidden: the codec shall find it, and what came before it
        packet_ids.clear()
        arrivals.truncate(rows)
        return begin
    if qualities and arrivals.quality_starts[-1] == len(arrivals.payloads):
        arrivals.truncate(len(arrivals.payloads))  # a change of QoS that no row followed
    return position


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
