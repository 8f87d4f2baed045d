"""The whole platform in one process, on a disk of ours: devices by MQTT and HTTP, the gateway, the log, and a worker
with two handlers and a query (those of the crash test)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
from tests.crash.check import check
from tests.crash.device import Device
from tests.crash.plant import app
from tests.support.disk import Disk, disk
from tests.support.mqtt import PATIENCE, RawClient
from tests.support.records import SETTINGS
from tests.support.streams import eventually

from millstream.clock import SECOND, VirtualClock, to_text
from millstream.errors import MillstreamError
from millstream.gateway import Gateway
from millstream.log.sqlite import SqliteLog
from millstream.mqtt import packet as p
from millstream.settings import Settings
from millstream.worker import Worker

ROUNDS = 5
EACH = 4  # publishes of a device in a round, at the same time
_BATCH = {"content-type": "application/cloudevents-batch+json"}


class Site:
    """What runs on a data folder. `seen` are the acknowledgements: device, number, changes of the disk by then."""

    def __init__(self, log: SqliteLog, gateway: Gateway, worker: Worker, disk: Disk | None) -> None:
        self.log = log
        self.seen: list[tuple[str, int, int]] = []
        self._gateway = gateway
        self._worker = worker
        self._disk = disk

    @property
    def mqtt(self) -> tuple[str, int]:
        assert self._gateway.mqtt_address is not None
        return self._gateway.mqtt_address

    @property
    def http(self) -> httpx.AsyncClient:
        assert self._gateway.http_address is not None
        host, port = self._gateway.http_address
        return httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=PATIENCE)

    async def publish(self) -> None:
        """Publish everything there is to publish. Raises `ConnectionError` where the server hangs up."""
        press = await RawClient.connect(self.mqtt, "press-1")
        try:
            async with self.http as http:
                for number in range(ROUNDS):
                    numbers = range(number * EACH, (number + 1) * EACH)
                    await asyncio.gather(self._press(press, numbers), self.gauge(http, numbers))
        except (AssertionError, httpx.TransportError) as error:
            raise ConnectionError(str(error)) from error
        finally:
            await press.close()

    async def gauge(self, http: httpx.AsyncClient, numbers: Sequence[int]) -> None:
        """A device by HTTP, with ids."""
        events = [
            {"specversion": "1.0", "id": f"{n}", "source": "gauge-1", "type": "r", "data": reading(n)} for n in numbers
        ]
        response = await http.post("/topics/site/a/gauge-1/telemetry", content=json.dumps(events), headers=_BATCH)
        if response.status_code != 200:
            raise ConnectionError(response.text)
        self._acknowledged("gauge-1", numbers)

    async def caught_up(self) -> None:
        """Return when the worker has read everything."""

        async def no_lag() -> bool:
            return not any(sum(group.lag.values()) for group in await self.log.groups())

        await eventually(no_lag, "no lag")

    async def _press(self, press: RawClient, numbers: Sequence[int]) -> None:
        topic = "site/a/press-1/telemetry"
        payloads = {n: json.dumps(reading(n)).encode() for n in numbers}
        press.send(*(p.Publish(topic=topic, payload=payloads[n], qos=1, packet_id=n + 1) for n in numbers))
        for _ in numbers:
            self._acknowledged("press-1", [(await press.read(p.Puback)).packet_id - 1])

    def _acknowledged(self, device: str, numbers: Sequence[int]) -> None:
        changes = len(self._disk.changes) if self._disk is not None else 0
        self.seen += [(device, number, changes) for number in numbers]


def reading(number: int) -> dict[str, object]:
    """The windows are a second long, so there is a result for every two or three."""
    return {"ts": to_text(1_767_225_600 * SECOND + number * SECOND * 2 // 5), "seq": number}


@asynccontextmanager
async def site(folder: Path, disk: Disk | None = None) -> AsyncIterator[Site]:
    """Run it; at the end it stops in order, on a disk that works again."""
    clock = VirtualClock()
    log = await SqliteLog.open(folder, SETTINGS, clock, vfs=None if disk is None else disk.name)
    settings = Settings(mqtt="127.0.0.1:0", http="127.0.0.1:0", allow_anonymous=True, data=folder)
    gateway = Gateway(log, settings, clock)
    worker = Worker(app, log, gateway.topics, clock, settings)
    try:
        await worker.start()
        await gateway.start()
        yield Site(log, gateway, worker, disk)
    finally:
        if disk is not None:
            disk.fault = None
            disk.may_sync.set()
        await gateway.stop()
        await worker.stop()
        with suppress(MillstreamError):  # the fault that the test has made
            await worker.run()
        await log.close()


async def recover(folder: Path, seen: Sequence[tuple[str, int, int]], changes: int) -> None:
    """Start again on what is left, let the gauge send again all that it ever sent, and check everything that was
    promised by the time of so many `changes`."""
    press = Device("press-1", 0, stubborn=False)
    gauge = Device("gauge-1", 0, stubborn=True)
    numbers = range(ROUNDS * EACH)
    press.sent.update(numbers)
    gauge.sent.update(numbers)  # once, because all have ids
    press.acknowledged = {number for device, number, at in seen if device == press.name and at <= changes}
    gauge.acknowledged = set(numbers)
    with disk() as sound:
        async with site(folder, sound) as again:
            async with again.http as http:
                await again.gauge(http, numbers)
            await again.caught_up()
    await check(folder, [press, gauge])
