"""The data types of MQTT (1.5) as bytes: integers, strings, and the variable byte integer."""

from __future__ import annotations

from typing import TypeVar

from millstream.mqtt.reason import ProtocolError, Reason, malformed

MAX_VARIABLE = 268_435_455  # four bytes of seven bits (1.5.5); so much may a packet have behind its fixed header
MAX_ENTRIES = 1024  # filters of a SUBSCRIBE, user properties: as objects they cost 50 times their bytes. AWS allows 8

T = TypeVar("T")


class Reader:
    """Reads fields from `data` between `position` and `end`. Past the end, or of a wrong form: `ProtocolError`."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self.data = data
        self.position = position
        self.end = end

    def __bool__(self) -> bool:
        """Whether anything is left."""
        return self.position < self.end

    def take(self, count: int) -> bytes:
        start = self.position
        stop = start + count
        if stop > self.end:
            raise malformed("the packet ends in the middle of a field")
        self.position = stop
        return self.data[start:stop]

    def rest(self) -> bytes:
        return self.take(self.end - self.position)

    def integer(self, size: int) -> int:
        """Big-endian, of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def variable(self) -> int:
        """A variable byte integer, in its shortest form (1.5.5)."""
        value = shift = 0
        while True:
            byte = self.integer(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 21:
                raise malformed("a variable byte integer of more than four bytes")
        if byte == 0 and shift:
            raise malformed("a variable byte integer that is longer than it must be")
        return value

    def binary(self) -> bytes:
        """Bytes behind their two-byte length."""
        return self.take(self.integer(2))

    def text(self) -> str:
        """A UTF-8 string, which has no U+0000 and no surrogates (1.5.4)."""
        return decode_text(self.binary())

    def finish(self) -> None:
        """Nothing may be left."""
        if self:
            raise malformed(f"{self.end - self.position} bytes too many at the packet's end")


def add(entries: list[T], entry: T, what: str) -> None:
    """Append to a list that a packet brings, within `MAX_ENTRIES`."""
    if len(entries) == MAX_ENTRIES:
        raise ProtocolError(Reason.QUOTA_EXCEEDED, f"more than {MAX_ENTRIES} {what} in one packet")
    entries.append(entry)


def decode_text(raw: bytes) -> str:
    """The bytes of a UTF-8 string as text."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise malformed(f"a string that is no UTF-8: {error.reason} at byte {error.start}") from None
    if "\0" in text:
        raise malformed("a string with a null character")
    return text


def frame(data: bytes, position: int, limit: int) -> tuple[int, int] | None:
    """Where the body of the packet that begins at `position` starts and stops; None until its length is there.

    The body may reach beyond what has arrived. `limit` is the largest packet, in bytes with its fixed header:
    a larger one is refused before it is received."""
    length = shift = 0
    start = position + 1
    while start < len(data):
        byte = data[start]
        start += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise malformed("a remaining length that is longer than it must be")
            if start + length - position > limit:
                raise ProtocolError(
                    Reason.PACKET_TOO_LARGE, f"a packet of {start + length - position} bytes; {limit} are allowed"
                )
            return start, start + length
        shift += 7
        if shift > 21:
            raise malformed("a remaining length of more than four bytes")
    return None


def variable(value: int) -> bytes:
    """A variable byte integer."""
    if value < 0x80:
        return bytes((value,))
    if value > MAX_VARIABLE:
        raise ValueError(f"{value} does not fit a variable byte integer")
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        if not value:
            out.append(low)
            return bytes(out)
        out.append(low | 0x80)


def binary(value: bytes) -> bytes:
    """Bytes behind their two-byte length."""
    if len(value) > 0xFFFF:
        raise ValueError(f"a field of {len(value)} bytes; MQTT allows 65,535")
    return len(value).to_bytes(2, "big") + value


def text(value: str) -> bytes:
    """A UTF-8 string."""
    return binary(value.encode())


def claimed_topic(packet: bytes) -> str:
    """The topic that the beginning of a PUBLISH gives, well-formed or not: to tell a person what was refused."""
    position = 1
    while position < 4 and packet[position : position + 1] >= b"\x80":
        position += 1
    topic = position + 3
    length = int.from_bytes(packet[position + 1 : topic], "big")
    return packet[topic : topic + length].decode(errors="replace")


def beginning(data: bytes, position: int, most: int) -> bytes:
    """How a packet begins, whatever its size: at most so many bytes."""
    try:
        body = frame(data, position, MAX_VARIABLE)
    except ProtocolError:
        body = None
    end = position + most
    return bytes(data[position : end if body is None else min(end, body[1])])
