"""A device that speaks HTTP, on the same bad day: it sends CloudEvents with ids in batches, each again until it is
acknowledged. So every event must be there once, however often it was sent."""

from __future__ import annotations

import asyncio
import json

import httpx
from tests.crash.device import RETRY_SECONDS, Device

_BATCH = 20
_TYPE = {"content-type": "application/cloudevents-batch+json"}


class WebDevice(Device):
    """One device. `connections` counts what did not get an answer, or none that it wanted."""

    async def run(self) -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self._port}") as client:
            while not self._stopping:
                batch = [self._event() for _ in range(_BATCH)]
                while not await self._post(client, json.dumps(batch)):
                    self.connections += 1
                    await asyncio.sleep(RETRY_SECONDS)
                self.acknowledged.update(range(self._next - _BATCH, self._next))

    def _event(self) -> dict[str, object]:
        data = json.loads(self._reading())
        number = self._next
        self._next += 1
        self.sent[number] = 1  # whatever is sent again has the same id
        return {"specversion": "1.0", "id": f"{number}", "source": self.name, "type": "reading", "data": data}

    async def _post(self, client: httpx.AsyncClient, batch: str) -> bool:
        try:
            response = await client.post(f"/topics/site/a/{self.name}/telemetry", content=batch, headers=_TYPE)
        except httpx.TransportError:
            return False
        return response.status_code == 200
