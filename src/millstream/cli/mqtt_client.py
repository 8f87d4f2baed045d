"""A small MQTT 5 client, on the gateway's own codec: connects, subscribes, and gives what comes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from millstream.errors import MillstreamError
from millstream.mqtt import ProtocolError, Reason, Version, decode, encode
from millstream.mqtt.packet import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Subscription,
)

KEEP_ALIVE_SECONDS = 60
CONNECT_SECONDS = 10.0  # for an answer to CONNECT; the server allows itself as much for the CONNECT
_READ_BYTES = 1 << 16


class MqttClient:
    """A connection. What the server says ends it with a `MillstreamError`."""

    def __init__(self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._address = address
        self._reader = reader
        self._writer = writer
        self._data = b""
        self._position = 0

    @staticmethod
    @contextlib.asynccontextmanager
    async def connect(host: str, port: int, user: str | None, password: str | None) -> AsyncIterator[MqttClient]:
        """Connect and log in."""
        address = f"{host}:{port}"
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except OSError as error:
            raise MillstreamError(
                f"no MQTT server answers at {address} ({error.strerror or error}); start one with: millstream run"
            ) from error
        client = MqttClient(address, reader, writer)
        try:
            await client._log_in(user, password)
            yield client
        finally:
            client._send(Disconnect())
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def messages(self, topics: str) -> AsyncIterator[Publish]:
        """Subscribe, and give what is published from then on, for ever."""
        self._send(Subscribe(packet_id=1, subscriptions=(Subscription(topics, qos=1),)))
        pinging = asyncio.create_task(self._ping())
        try:
            while True:
                packet = await self._receive()
                if isinstance(packet, Suback):
                    self._check_subscribed(topics, packet.reasons[0])
                elif isinstance(packet, Publish):
                    yield packet
                    if packet.qos:
                        self._send(Puback(packet_id=packet.packet_id))
        finally:
            pinging.cancel()
            await asyncio.gather(pinging, return_exceptions=True)

    async def _log_in(self, user: str | None, password: str | None) -> None:
        self._send(
            Connect(
                version=Version.V5,
                keep_alive=KEEP_ALIVE_SECONDS,
                user_name=user,
                password=password.encode() if password is not None else None,
            )
        )
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                answer = await self._receive()
        except TimeoutError:
            raise MillstreamError(f"{self._address} does not answer as an MQTT server") from None
        if not isinstance(answer, Connack):
            raise MillstreamError(f"{self._address} does not speak MQTT 5")
        if answer.reason in (Reason.BAD_USER_NAME_OR_PASSWORD, Reason.NOT_AUTHORIZED):
            raise MillstreamError(
                f"the server at {self._address} does not let {user or 'nobody in particular'} in: give --user and "
                "MILLSTREAM_PASSWORD as in its [users], or run it with --allow-anonymous"
            )
        if answer.reason >= Reason.UNSPECIFIED_ERROR:
            raise MillstreamError(f"the server at {self._address} refuses the connection: {_words(answer.reason)}")

    def _check_subscribed(self, topics: str, reason: Reason) -> None:
        if reason >= Reason.UNSPECIFIED_ERROR:
            raise MillstreamError(f"the server refuses the subscription to {topics!r}: {_words(reason)}")

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(KEEP_ALIVE_SECONDS / 2)
            self._send(Pingreq())

    def _send(self, packet: Packet) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode(packet, Version.V5))

    async def _receive(self) -> Packet:
        while True:
            try:
                found = decode(self._data, self._position, version=Version.V5)
            except ProtocolError as error:
                raise MillstreamError(f"{self._address} does not speak MQTT: {error}") from error
            if found is not None:
                packet, self._position = found
                if isinstance(packet, Disconnect):
                    raise MillstreamError(f"the server ended the connection: {_words(packet.reason)}")
                return packet
            await self._read()

    async def _read(self) -> None:
        try:
            data = await self._reader.read(_READ_BYTES)
        except ConnectionError:
            data = b""
        if not data:
            raise MillstreamError(f"the server at {self._address} closed the connection; is it still running?")
        self._data = self._data[self._position :] + data
        self._position = 0


def _words(reason: Reason) -> str:
    return reason.name.lower().replace("_", " ")
