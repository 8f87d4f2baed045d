"""The frames of the bus: bytes to messages and back, without I/O.

A frame is eight bytes, the header and the body: how many bytes the header and the body have (two unsigned 32-bit
numbers, big-endian), the header as a MessagePack array `[kind, id, name]`, and the body as it is.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator

import msgspec

from millstream.errors import MillstreamError

MAX_HEADER_BYTES = 4096  # a subject or an error's class: anything longer is not one of us
MAX_BODY_BYTES = 256 << 20  # above any batch: memory that one frame may cost

_LENGTHS = struct.Struct(">II")


class Kind(enum.IntEnum):
    """What a frame is. Requests, and what belongs to them, carry an id that the requester chose."""

    REQUEST = 0
    NOTICE = 1
    REPLY = 2
    ERROR = 3
    CANCEL = 4


class Header(msgspec.Struct, array_like=True, frozen=True):
    """The head of a message. `name` is the subject of a request or notice, and the class of an error."""

    kind: Kind
    id: int = 0
    name: str = ""


class FrameError(MillstreamError):
    """The other end does not speak the bus's language, or a message is too large for it."""


def encode(header: Header, body: bytes) -> bytes:
    """A message as a frame. `FrameError` if it is too large."""
    if len(body) > MAX_BODY_BYTES:
        raise FrameError(f"a message of {len(body)} bytes on {header.name!r}: the bus carries at most {MAX_BODY_BYTES}")
    head = msgspec.msgpack.encode(header)
    return b"".join((_LENGTHS.pack(len(head), len(body)), head, body))


class FrameReader:
    """Cuts what arrives into messages; holds no more than one incomplete frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._decode = msgspec.msgpack.Decoder(Header).decode

    def feed(self, data: bytes) -> Iterator[tuple[Header, bytes]]:
        """The messages that are complete now. `FrameError` at the first bytes that are no frame."""
        buffer = self._buffer
        buffer += data
        start, end = 0, len(buffer)
        try:
            while end - start >= _LENGTHS.size:
                head_bytes, body_bytes = _LENGTHS.unpack_from(buffer, start)
                if head_bytes > MAX_HEADER_BYTES or body_bytes > MAX_BODY_BYTES:
                    raise FrameError(f"a frame of {head_bytes} + {body_bytes} bytes: this is not the bus")
                head = start + _LENGTHS.size
                body = head + head_bytes
                if body + body_bytes > end:
                    break
                start = body + body_bytes
                with memoryview(buffer) as whole:  # a slice of the buffer itself would be one more copy
                    header, content = self._header(bytes(whole[head:body])), bytes(whole[body:start])
                yield header, content
        finally:
            del buffer[:start]

    def _header(self, data: bytes) -> Header:
        try:
            return self._decode(data)
        except msgspec.MsgspecError as error:
            raise FrameError(f"a header that does not decode: {error}") from None
