"""The fast scan of a read buffer: every plain PUBLISH in one loop, into columns.

A PUBLISH is *plain* when it is complete, of QoS 0 or 1, without RETAIN and without properties, and its topic is
known. The scan stops at the first packet that is anything else, also at a malformed one, and the plain codec takes
that one. So it decides nothing: it may only be quicker than the codec, never of another opinion, which is what its
tests assert.

What makes it quick: no call for a message but slices and appends; a topic's validation, decoding and routing are done
once, by whoever fills `topics`; while the topic stays the same, which is what a device's topic does, one `startswith`
recognises it. Consecutive messages of one topic and QoS are a *run*, so columns cost two bytes objects a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from millstream.mqtt.properties import Properties

T = TypeVar("T")

_QOS_BY_FIRST_BYTE = {0x30: 0, 0x32: 1, 0x3A: 1}  # 0x3A is marked as sent again
_NO_ID = b"\0\0"
_SHORT = 129  # bytes of the largest packet whose length is one byte


class Arrivals(Generic[T]):
    """Published messages as columns, in the order of arrival, from one connection or many.

    `payloads` has a row for every message. Run i, messages of one topic and QoS, begins at row `starts[i]` and ends
    where the next one begins: `topics[i]`, `qualities[i]`. `properties` holds those of the few rows that have any.
    """

    __slots__ = ("payloads", "properties", "qualities", "starts", "topics")

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.topics: list[T] = []
        self.qualities: list[int] = []
        self.starts: list[int] = []
        self.properties: dict[int, Properties] = {}

    def __len__(self) -> int:
        return len(self.payloads)

    def add(self, topic: T, qos: int, payload: bytes, properties: Properties | None = None) -> None:
        """Append one message."""
        row = len(self.payloads)
        self.topics.append(topic)
        self.qualities.append(qos)
        self.starts.append(row)
        self.payloads.append(payload)
        if properties:
            self.properties[row] = properties

    def truncate(self, rows: int, runs: int) -> None:
        """Back to an earlier length."""
        del self.payloads[rows:], self.topics[runs:], self.qualities[runs:], self.starts[runs:]


def topic_key(topic: str) -> bytes:
    """A topic as `scan` looks it up: its bytes behind their length, as in the packet."""
    raw = topic.encode()
    return len(raw).to_bytes(2, "big") + raw


def scan(
    data: bytes,
    position: int,
    with_properties: bool,
    limit: int,
    topics: Mapping[bytes, T],
    arrivals: Arrivals[T],
    packet_ids: list[bytes],
) -> int:
    """Take the plain PUBLISH packets from `position` on, and return where the first other thing begins.

    `with_properties` for MQTT 5, whose plain packets have a property length of zero. `limit` is the largest packet in
    bytes. `topics` has the known ones by `topic_key`. The packet identifiers of QoS 1 come as two bytes each."""
    if limit < _SHORT:
        return position
    rows, runs, ids = len(arrivals.payloads), len(arrivals.starts), len(packet_ids)
    begin = position
    end = len(data)
    startswith = data.startswith
    add_payload, add_id = arrivals.payloads.append, packet_ids.append
    last = -1  # the first byte and the topic of the run that goes on
    prefix, prefix_length, qos = b"", 0, 0
    property_length = 1 if with_properties else 0
    try:
        while position < end:
            first = data[position]
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
            if first != last or not startswith(prefix, start):
                known = _QOS_BY_FIRST_BYTE.get(first)
                if known is None:
                    break
                prefix_length = 2 + (data[start] << 8) + data[start + 1]
                prefix = data[start : start + prefix_length]
                topic = topics.get(prefix)
                if topic is None:
                    break
                last, qos = first, known
                arrivals.topics.append(topic)
                arrivals.qualities.append(qos)
                arrivals.starts.append(len(arrivals.payloads))
            start += prefix_length
            payload = start + property_length + (2 if qos else 0)
            if payload > stop or (property_length and data[payload - 1]):
                break
            if qos:
                add_id(data[start : start + 2])
            add_payload(data[payload:stop])
            position = stop
    except IndexError:
        pass  # the next packet's length has not arrived
    if _NO_ID in packet_ids:  # forbidden: the codec shall find it, and what came before it
        arrivals.truncate(rows, runs)
        del packet_ids[ids:]
        return begin
    if arrivals.starts and arrivals.starts[-1] == len(arrivals.payloads):  # a run that broke off before its first row
        arrivals.truncate(len(arrivals.payloads), len(arrivals.starts) - 1)
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
