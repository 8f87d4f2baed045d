"""MQTT over WebSocket (6): a layer between the socket and a connection, without a task of its own.

What MQTT packets there are in a message makes no difference (6.0.0-2): the bytes of binary frames are a stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, cast

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import CLOSED, CLOSING, OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

_SUBPROTOCOL = Subprotocol("mqtt")  # 6.0.0-3 and -4
_log = logging.getLogger(__name__)
_log.setLevel(logging.WARNING)  # below that it tells of each connection


class WebSocket(asyncio.Protocol):
    """The socket's protocol, which hands bytes on to `inner`, a connection. `largest` are the bytes of a message."""

    def __init__(self, inner: asyncio.Protocol, largest: int) -> None:
        self._inner = inner
        self._protocol = ServerProtocol(subprotocols=[_SUBPROTOCOL], max_size=largest, logger=_log)
        self._transport: asyncio.Transport | None = None

    # --- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._inner.connection_made(_Outside(self._transport, self._protocol))

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._protocol.send_response(self._protocol.accept(event))
            else:
                self._take(event)
        self._write(self._protocol.data_to_send())

    def eof_received(self) -> bool:
        self._protocol.receive_eof()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)
        self._transport = None

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    # ---

    def _take(self, event: object) -> None:
        if not isinstance(event, Frame):
            return
        if event.opcode is Opcode.TEXT:  # 6.0.0-1
            self._protocol.fail(CloseCode.UNSUPPORTED_DATA, "MQTT is binary")
        elif event.opcode in (Opcode.BINARY, Opcode.CONT):
            self._inner.data_received(bytes(event.data))

    def _write(self, pieces: Iterable[bytes]) -> None:
        _write(self._transport, pieces)


class _Outside(asyncio.Transport):
    """The transport as the connection sees it."""

    def __init__(self, transport: asyncio.Transport, protocol: ServerProtocol) -> None:
        super().__init__()
        self._transport = transport
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._protocol.state is OPEN:
            self._protocol.send_binary(bytes(data))
            _write(self._transport, self._protocol.data_to_send())

    def close(self) -> None:
        """With a Close frame, whose answer ends it; whoever does not answer is cut off as one who does not read."""
        if self._protocol.state is OPEN:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
            _write(self._transport, self._protocol.data_to_send())
            self._transport.resume_reading()
        else:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing() or self._protocol.state in (CLOSING, CLOSED)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)


def _write(transport: asyncio.Transport | None, pieces: Iterable[bytes]) -> None:
    """Write what the WebSocket protocol has to say; an empty piece is its end."""
    for piece in pieces:
        if transport is None or transport.is_closing():
            return
        if piece:
            transport.write(piece)
        else:
            transport.close()
