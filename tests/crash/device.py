"""A device on a bad day: publishes numbered readings by raw MQTT at QoS 1, and comes back whenever its server dies.

It writes down what it sent how often, and what was acknowledged. One that is `stubborn` sends again what was not
acknowledged, as MQTT wants it; another one goes on with the next number, so that each of its publishes happened once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Callable

from millstream.clock import SystemClock, to_text
from millstream.mqtt import decode, encode
from millstream.mqtt.packet import Connack, Connect, Puback, Publish

IN_FLIGHT = 20
_PACKET_IDS = 60_000
RETRY_SECONDS = 0.02
_ANSWER_SECONDS = 10.0


class Device:
    """One device; `run` until `stop`, then until nothing is in flight."""

    def __init__(self, name: str, port: int, *, stubborn: bool) -> None:
        self.name = name
        self.stubborn = stubborn
        self.sent: Counter[int] = Counter()
        self.acknowledged: set[int] = set()
        self.connections = 0
        self._port = port
        self._clock = SystemClock()
        self._next = 0
        self._in_flight: dict[int, bytes] = {}
        self._stopping = False

    def stop(self) -> None:
        """Send nothing new."""
        self._stopping = True

    async def run(self) -> None:
        """Publish as fast as acknowledgements come; return when everything is acknowledged or given up."""
        while not self._stopping or self._in_flight:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                await self._connection()
            if not self.stubborn:
                self._in_flight.clear()
            await asyncio.sleep(RETRY_SECONDS)

    async def _connection(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            packets = _Packets(reader)
            writer.write(encode(Connect(client_id=self.name)))
            if not isinstance(await packets.next(), Connack):
                return
            self.connections += 1
            for seq, payload in self._in_flight.items():
                self._send(writer.write, seq, payload)
            await self._publish(packets, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _publish(self, packets: _Packets, writer: asyncio.StreamWriter) -> None:
        while True:
            while len(self._in_flight) < IN_FLIGHT and not self._stopping:
                payload = self._reading()
                self._in_flight[self._next] = payload
                self._send(writer.write, self._next, payload)
                self._next += 1
            if not self._in_flight:
                return
            async with asyncio.timeout(_ANSWER_SECONDS):
                self._answered(await packets.next())

    def _reading(self) -> bytes:
        return json.dumps({"ts": to_text(self._clock.now()), "seq": self._next}).encode()

    def _send(self, write: Callable[[bytes], None], seq: int, payload: bytes) -> None:
        write(
            encode(
                Publish(
                    topic=f"site/a/{self.name}/telemetry",
                    payload=payload,
                    qos=1,
                    packet_id=seq % _PACKET_IDS + 1,
                    duplicate=self.sent[seq] > 0,
                )
            )
        )
        self.sent[seq] += 1

    def _answered(self, packet: object) -> None:
        if not isinstance(packet, Puback):
            raise EOFError(f"the server says {packet}")
        seq = next(seq for seq in self._in_flight if seq % _PACKET_IDS + 1 == packet.packet_id)
        del self._in_flight[seq]
        self.acknowledged.add(seq)


class _Packets:
    """The packets that a server sends."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._data = b""

    async def next(self) -> object:
        while (found := decode(self._data)) is None:
            data = await self._reader.read(1 << 16)
            if not data:
                raise EOFError
            self._data += data
        packet, end = found
        self._data = self._data[end:]
        return packet
