"""Clients whose sessions are kept, on a bad day: a publisher at QoS 1 or 2, and a subscriber, as the specification
wants them. They come back whenever their server dies, and write down what they were told."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict

from millstream.mqtt import Properties, Version, decode, encode
from millstream.mqtt import packet as p

IN_FLIGHT = 10
RETRY_SECONDS = 0.02
_ANSWER_SECONDS = 20.0
_KEPT = Properties(session_expiry_interval=3_600)
_LOST = (OSError, EOFError, TimeoutError)


class Client:
    """A client that connects again and again until it `is_done`."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.connections = 0
        self._port = port
        self._data = b""
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    @property
    def is_done(self) -> bool:
        raise NotImplementedError

    async def run(self) -> None:
        while not self.is_done:
            with contextlib.suppress(*_LOST):
                await self._connection()
            await asyncio.sleep(RETRY_SECONDS)

    async def _connection(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._data = b""
        try:
            asked = p.Connect(version=Version.V5, client_id=self.name, clean_start=False, properties=_KEPT)
            self._send(asked)
            answer = await self._next()
            if not isinstance(answer, p.Connack) or answer.reason >= 0x80:
                return
            assert answer.session_present or not self.connections, f"{self.name}: the server has lost the session"
            self.connections += 1
            await self._live()
        finally:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def _live(self) -> None:
        raise NotImplementedError

    def _send(self, packet: p.Packet) -> None:
        self._writer.write(encode(packet, Version.V5))

    async def _next(self) -> p.Packet:
        async with asyncio.timeout(_ANSWER_SECONDS):
            while (found := decode(self._data, version=Version.V5)) is None:
                data = await self._reader.read(1 << 16)
                if not data:
                    raise EOFError
                self._data += data
        self._data = self._data[found[1] :]
        return found[0]


class Publisher(Client):
    """Publishes numbers to a topic of its own. `acknowledged` are those that the server has taken for good."""

    def __init__(self, name: str, port: int, qos: int) -> None:
        super().__init__(name, port)
        self.qos = qos
        self.topic = f"numbers/{name}"
        self.acknowledged: set[int] = set()
        self._open: dict[int, int] = {}  # packet identifier → number, in the order of sending
        self._released: set[int] = set()
        self._number = 0
        self._packet_id = 0
        self._stopping = False

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping = True

    @property
    def is_done(self) -> bool:
        return self._stopping and not self._open

    async def _live(self) -> None:
        for packet_id, number in self._open.items():
            if packet_id in self._released:
                self._send(p.Pubrel(packet_id=packet_id))
            else:
                self._publish(packet_id, number, duplicate=True)
        while not self.is_done:
            while len(self._open) < IN_FLIGHT and not self._stopping:
                self._packet_id = self._packet_id % 0xFFFF + 1
                self._open[self._packet_id] = self._number
                self._publish(self._packet_id, self._number, duplicate=False)
                self._number += 1
            self._answered(await self._next())

    def _publish(self, packet_id: int, number: int, *, duplicate: bool) -> None:
        payload = str(number).encode()
        self._send(p.Publish(topic=self.topic, payload=payload, qos=self.qos, packet_id=packet_id, duplicate=duplicate))

    def _answered(self, packet: p.Packet) -> None:
        if isinstance(packet, p.Pubrec):
            self._released.add(packet.packet_id)
            self._send(p.Pubrel(packet_id=packet.packet_id))
        elif isinstance(packet, p.Puback | p.Pubcomp):
            self._released.discard(packet.packet_id)
            self.acknowledged.add(self._open.pop(packet.packet_id))
        else:
            raise EOFError(f"the server says {packet}")


class Subscriber(Client):
    """Subscribes once, and keeps what comes: `received` by topic, in the order of arrival. Messages of QoS 2 count once
    for each packet identifier that was not released."""

    def __init__(self, name: str, port: int, qos: int, topics: str = "numbers/#") -> None:
        super().__init__(name, port)
        self.qos = qos
        self.subscribed = asyncio.Event()
        self.received: dict[str, list[int]] = defaultdict(list)
        self._topics = topics
        self._taken: set[int] = set()
        self._done = False

    def stop(self) -> None:
        self._done = True
        with contextlib.suppress(AttributeError):
            self._writer.close()

    @property
    def is_done(self) -> bool:
        return self._done

    async def _live(self) -> None:
        if not self.subscribed.is_set():
            self._send(p.Subscribe(packet_id=1, subscriptions=(p.Subscription(self._topics, self.qos),)))
        while not self._done:
            packet = await self._next()
            if isinstance(packet, p.Suback):
                self.subscribed.set()
            elif isinstance(packet, p.Publish):
                self._take(packet)
            elif isinstance(packet, p.Pubrel):
                self._taken.discard(packet.packet_id)
                self._send(p.Pubcomp(packet_id=packet.packet_id))
            else:
                raise EOFError(f"the server says {packet}")

    def _take(self, packet: p.Publish) -> None:
        number = int(packet.payload)
        if packet.qos == 1:
            self.received[packet.topic].append(number)
            self._send(p.Puback(packet_id=packet.packet_id))
        elif packet.qos == 2:
            if packet.packet_id not in self._taken:
                self._taken.add(packet.packet_id)
                self.received[packet.topic].append(number)
            self._send(p.Pubrec(packet_id=packet.packet_id))
