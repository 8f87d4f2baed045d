"""Calls of devices by workers: over the bus to the server, where the devices are."""

from __future__ import annotations

import msgspec

from millstream.app.devices import Answer, MethodCall
from millstream.bus import Bus, Peer
from millstream.devices import Name
from millstream.errors import DeviceError, LogUnavailableError
from millstream.gateway import Gateway
from millstream.gateway.devices.methods import MOST_SECONDS, Call

CALL = "devices.call"

_encode = msgspec.msgpack.Encoder().encode
_decode_call = msgspec.msgpack.Decoder(MethodCall)
_decode_answer = msgspec.msgpack.Decoder(Answer)


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


class DevicesService:
    """The server's end."""

    def __init__(self, gateway: Gateway, bus: Bus) -> None:
        self._gateway = gateway
        bus.serve(CALL, self._call)

    async def _call(self, peer: Peer, body: bytes) -> bytes:
        its = _decode_call.decode(body)
        for seconds in (its.timeout, its.connect_timeout):
            if not 0 <= seconds <= MOST_SECONDS:
                raise DeviceError(f"a call waits for 0 to {MOST_SECONDS:g} seconds, and not for {seconds:g}")
        answer = await self._gateway.call_device(
            Call(Name.parse(its.device), its.method, its.payload, its.connect_timeout, its.timeout, its.by)
        )
        return _encode(Answer(answer.status, answer.payload))
