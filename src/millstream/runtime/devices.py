"""What workers want of devices: over the bus to the server, where the devices and their registry are
(`devices_service.py`)."""

from __future__ import annotations

import msgspec
import pyarrow as pa

from millstream.app.devices import Answer, MethodCall
from millstream.bus import Peer
from millstream.errors import LogUnavailableError
from millstream.reference import Found, Wish

CALL, TABLE = "devices.call", "devices.table"

_encode = msgspec.msgpack.Encoder().encode
_decode_answer = msgspec.msgpack.Decoder(Answer)
_decode_found = msgspec.msgpack.Decoder(tuple[int, bytes])


class BusDevices:
    """A worker's way to devices. It outlives connections: `attach` gives it the next one."""

    def __init__(self) -> None:
        self._peer: Peer | None = None

    def attach(self, peer: Peer) -> None:
        """Use this connection from now on."""
        self._peer = peer

    async def call(self, call: MethodCall) -> Answer:
        """See `Caller`."""
        if self._peer is None:
            raise LogUnavailableError("not connected to a server; the device was not called")
        return _decode_answer.decode(await self._peer.request(CALL, _encode(call)))

    async def table(self, wish: Wish) -> Found:
        """See `Tables`."""
        if self._peer is None:
            raise LogUnavailableError("not connected to a server")
        seen, table = _decode_found.decode(await self._peer.request(TABLE, _encode(wish)))
        return Found(seen, pa.ipc.open_stream(table).read_all())
