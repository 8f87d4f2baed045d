"""The server's end of what workers want of devices (`devices.py`); apart from theirs, because a worker need not load a
gateway."""

from __future__ import annotations

import msgspec
import pyarrow as pa

from millstream.app.devices import Answer, MethodCall
from millstream.bus import Bus, Peer
from millstream.devices import Name, Registry
from millstream.devices.table import DeviceTables
from millstream.errors import DeviceError
from millstream.gateway import Gateway
from millstream.gateway.devices.methods import MOST_SECONDS, Call
from millstream.reference import Wish
from millstream.runtime.devices import CALL, TABLE

_encode = msgspec.msgpack.Encoder().encode
_decode_call = msgspec.msgpack.Decoder(MethodCall)
_decode_wish = msgspec.msgpack.Decoder(Wish)


class DevicesService:
    """Calls the devices of a gateway, and gives the registry as a table."""

    def __init__(self, gateway: Gateway, registry: Registry, bus: Bus) -> None:
        self._gateway = gateway
        self._tables = DeviceTables(registry)
        bus.serve(CALL, self._call)
        bus.serve(TABLE, self._table)

    async def _call(self, peer: Peer, body: bytes) -> bytes:
        its = _decode_call.decode(body)
        for seconds in (its.timeout, its.connect_timeout):
            if not 0 <= seconds <= MOST_SECONDS:
                raise DeviceError(f"a call waits for 0 to {MOST_SECONDS:g} seconds, and not for {seconds:g}")
        answer = await self._gateway.call_device(
            Call(Name.parse(its.device), its.method, its.payload, its.connect_timeout, its.timeout, its.by)
        )
        return _encode(Answer(answer.status, answer.payload))

    async def _table(self, peer: Peer, body: bytes) -> bytes:
        found = await self._tables.table(_decode_wish.decode(body))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, found.table.schema) as writer:
            writer.write_table(found.table)
        return _encode((found.seen, sink.getvalue().to_pybytes()))
