"""The devices of a test: they answer calls as the test says, and it can look at what they were asked."""

from __future__ import annotations

from typing import Any

import msgspec

from millstream.app.devices import Answer, MethodCall
from millstream.errors import DeviceOfflineError


class ScriptedDevices:
    """See `Caller`. Whoever has no answer to a method is not there."""

    def __init__(self) -> None:
        self.called: list[tuple[str, str, Any]] = []
        self._answers: dict[tuple[str, str], Any] = {}

    def answer(self, device: str, method: str, answer: Any) -> None:
        """From now on, a call gets this answer: an `Answer`, a payload (with the status 200), an error that is raised,
        or a function of the call's payload that gives one of them."""
        self._answers[device, method] = answer

    async def call(self, call: MethodCall) -> Answer:
        """See `Caller`."""
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
