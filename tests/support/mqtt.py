"""An MQTT client for tests that says exactly what it is told to, also nonsense."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self, TypeVar

from millstream.mqtt import Reason, Version, decode, encode
from millstream.mqtt import packet as p

PATIENCE = 60.0  # seconds; reached only when a test fails

P = TypeVar("P", bound=p.Packet)


class RawClient:
    """A connection, with packets read and written one by one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: Version) -> None:
        self.version = version
        self.session_present = False
        self._reader = reader
        self._writer = writer
        self._data = b""

    @classmethod
    async def open(cls, address: tuple[str, int], version: Version = Version.V5) -> Self:
        """A TCP connection that has said nothing yet."""
        reader, writer = await asyncio.open_connection(*address)
        return cls(reader, writer, version)

    @classmethod
    async def connect(
        cls, address: tuple[str, int], client_id: str = "press-1", version: Version = Version.V5, **asked: object
    ) -> Self:
        """A client that was let in."""
        client = await cls.open(address, version)
        client.send(p.Connect(version=version, client_id=client_id, **asked))  # type: ignore[arg-type]
        assert (await client.read(p.Connack)).reason is Reason.SUCCESS
        return client

    def send(self, *packets: p.Packet) -> None:
        self.write(b"".join(encode(each, self.version) for each in packets))

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()

    async def publish(self, topic: str, payload: bytes = b"", packet_id: int = 1, **more: object) -> p.Puback:
        """Publish with QoS 1, and wait for the PUBACK."""
        self.send(p.Publish(topic=topic, payload=payload, qos=1, packet_id=packet_id, **more))  # type: ignore[arg-type]
        return await self.read(p.Puback)

    async def publish_and_forget(self, topic: str, payload: bytes = b"", **more: object) -> None:
        """Publish with QoS 0 to oneself, say."""
        self.send(p.Publish(topic=topic, payload=payload, **more))  # type: ignore[arg-type]
        await self.drain()

    async def subscribe(self, mqtt_filter: str, qos: int = 1, **options: bool) -> p.Suback:
        self.send(p.Subscribe(packet_id=1, subscriptions=(p.Subscription(mqtt_filter, qos, **options),)))
        return await self.read(p.Suback)

    async def read(self, kind: type[P]) -> P:
        """The next packet, which must be of that kind."""
        packet = await self.read_any()
        assert isinstance(packet, kind), packet
        return packet

    async def read_any(self) -> p.Packet:
        async with asyncio.timeout(PATIENCE):
            while (found := decode(self._data, version=self.version)) is None:
                more = await self._reader.read(65_536)
                assert more, "the connection ended"
                self._data += more
        packet, end = found
        self._data = self._data[end:]
        return packet

    async def is_silent(self) -> bool:
        """Whether everything that was sent is answered: a ping is, and nothing else comes before its answer."""
        self.send(p.Pingreq())
        return isinstance(await self.read_any(), p.Pingresp)

    async def rest(self) -> list[p.Packet]:
        """What still comes until the server closes the connection."""
        async with asyncio.timeout(PATIENCE):
            while more := await self._reader.read(65_536):
                self._data += more
        found = []
        while (one := decode(self._data, version=self.version)) is not None:
            found.append(one[0])
            self._data = self._data[one[1] :]
        return found

    async def rest_of_bytes(self) -> bytes:
        """The same as it came."""
        async with asyncio.timeout(PATIENCE):
            return self._data + await self._reader.read(-1)

    async def rest_of_bytes_or_reset(self) -> bytes:
        """The same from a server that does not wait for us."""
        with contextlib.suppress(ConnectionError):
            return await self.rest_of_bytes()
        return b""

    async def close(self) -> None:
        """Close without a DISCONNECT."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):  # the server was quicker
            await self._writer.wait_closed()
