"""The devices of a test: they answer calls as the test says, and it can look at what they were asked; and the registry
that queries join with, a real one in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from millstream.app.devices import Answer, MethodCall
from millstream.clock import Clock
from millstream.errors import DeviceOfflineError, MillstreamError
from millstream.reference import Found, Wish
from millstream.worker.watch import UnderWay

if TYPE_CHECKING:
    from millstream.devices.document import Document
    from millstream.devices.registry import Registry
    from millstream.devices.table import DeviceTables


class ScriptedRegistry:
    """Opened as a context manager; `under_way` is entered while it is read."""

    def __init__(self, clock: Clock, under_way: UnderWay) -> None:
        self._clock = clock
        self._under_way = under_way
        self._registry: Registry
        self._tables: DeviceTables

    async def __aenter__(self) -> ScriptedRegistry:
        from millstream.devices.registry import Registry  # with a database: not for tests that need none
        from millstream.devices.table import DeviceTables

        self._registry = await Registry.open("", None, self._clock)
        self._tables = DeviceTables(self._registry)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._registry.close()

    async def table(self, wish: Wish) -> Found:
        """See `Tables`."""
        seen = await self._tables.news(wish)
        with self._under_way():
            return Found(seen, await self._tables.read(wish))

    async def put(self, device: str, status: str, tags: Document, desired: Document, reported: Document) -> None:
        """Have a device, in place of what is known of it."""
        from millstream.devices import ANY, Change, Name, Side, Sides, Status
        from millstream.devices.twins import save_twin

        name, change = Name.parse(device), Change(status=Status(status), tags=tags)
        sides = Sides(Side(desired), Side(reported))
        await self._registry.transact(
            [name], None, lambda work: save_twin(work, work.put(name, change, ANY).device, sides)
        )

    async def delete(self, device: str) -> None:
        """See `Registry.delete`."""
        from millstream.devices import Name

        await self._registry.delete(Name.parse(device))


class ScriptedDevices:
    """See `Fleet`. Whoever has no answer to a method is not there."""

    def __init__(self, registry: ScriptedRegistry | None = None) -> None:
        self._registry = registry
        self.called: list[tuple[str, str, Any]] = []
        self._answers: dict[tuple[str, str], Any] = {}

    def answer(self, device: str, method: str, answer: Any) -> None:
        """From now on, a call gets this answer: an `Answer`, a payload (with the status 200), an error that is raised,
        or a function of the call's payload that gives one of them."""
        self._answers[device, method] = answer

    @property
    def registry(self) -> ScriptedRegistry:
        """What the app joins with."""
        if self._registry is None:
            raise MillstreamError(
                'the app has no reference data from the registry; declare it: app.reference("devices", "registry")'
            )
        return self._registry

    async def table(self, wish: Wish) -> Found:
        """See `Tables`."""
        return await self.registry.table(wish)

    async def call(self, call: MethodCall) -> Answer:
        """See `Fleet`."""
        if (call.device, call.method) not in self._answers:
            raise DeviceOfflineError(f"device {call.device!r} has no answer to {call.method!r} in this test")
        payload = msgspec.json.decode(call.payload)
        self.called.append((call.device, call.method, payload))
        answer = self._answers[call.device, call.method]
        if callable(answer) and not isinstance(answer, type):
            answer = answer(payload)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Answer) else Answer(200, answer)
