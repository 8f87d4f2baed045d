"""The registry's devices that are connected: who they are, what they came in with, and when they have to go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

from millstream.devices import Admitted, Applicant, Device, Happened, Name, Presence, Registry, Status, What, is_good
from millstream.gateway.pubsub.audience import Subscriber
from millstream.mqtt import Reason


class Guest(Subscriber, Protocol):
    """A connection."""

    def hears(self, topic: str) -> bool:
        """Whether it has subscribed to what a topic matches."""
        ...

    def end(self, reason: Reason, text: str) -> None:
        """End it for a reason of the server's."""
        ...


Listening = Callable[[Guest, Name, str], None]
"""A guest, its name, and the filter of a subscription."""


class Guests:
    """Tells presence who comes and goes. Whoever came in with what is good no more is cut off as soon as the change is
    committed: a disabled or deleted device with its modules, and those who showed a credential that is gone."""

    def __init__(self, registry: Registry, presence: Presence) -> None:
        self._presence = presence
        self._admitted: dict[Guest, Admitted] = {}
        self._by_device: defaultdict[str, dict[Guest, None]] = defaultdict(dict)
        self._applicants: dict[object, Applicant] = {}
        self._watchers: list[Listening] = []
        registry.watch(self._changed)

    def came(self, guest: Guest, admitted: Admitted, client_id: str) -> None:
        """One was let in."""
        self._admitted[guest] = admitted
        self._by_device[admitted.name.device][guest] = None
        details = {"client": client_id, "credential": admitted.kind}
        self._presence.came(admitted.name, admitted.generation, details)

    def applied(self, connection: object, applicant: Applicant) -> None:
        """One was let in that is no device yet."""
        self._applicants[connection] = applicant

    def applicant_of(self, connection: object) -> Applicant | None:
        """Whose connection it is, if it is one of those."""
        return self._applicants.get(connection)

    def gone(self, guest: Guest, reason: str) -> None:
        """One has left. Others than guests may be named."""
        self._applicants.pop(guest, None)
        admitted = self._admitted.pop(guest, None)
        if admitted is None:
            return
        its = self._by_device[admitted.name.device]
        del its[guest]
        if not its:
            del self._by_device[admitted.name.device]
        self._presence.gone(admitted.name, admitted.generation, {"reason": reason})

    def heard(self, guest: Guest) -> None:
        """Something has come from one. Others than guests may be named."""
        admitted = self._admitted.get(guest)
        if admitted is not None:
            self._presence.active(admitted.name)

    def name_of(self, guest: object) -> Name | None:
        """The device whose connection it is, if it is one's."""
        admitted = self._admitted.get(guest)  # type: ignore[call-overload]
        return None if admitted is None else admitted.name

    def find(self, name: Name, topic: str) -> Guest | None:
        """A connection of a device that has subscribed to a topic, of several the one that has come last."""
        its = reversed(self._by_device[name.device]) if name.device in self._by_device else ()
        return next((guest for guest in its if self._admitted[guest].name == name and guest.hears(topic)), None)

    def watch(self, listening: Listening) -> None:
        """Call back with every subscription that a guest has from now on, also one that its session has kept."""
        self._watchers.append(listening)

    def listens(self, guest: Guest, mqtt_filter: str) -> None:
        """One has a subscription. Others than guests may be named."""
        admitted = self._admitted.get(guest)
        if admitted is not None:
            for listening in self._watchers:
                listening(guest, admitted.name, mqtt_filter)

    def _changed(self, happened: Sequence[Happened]) -> None:
        for each in happened:
            if each.device is not None and each.name.device in self._by_device:
                for guest in list(self._by_device[each.name.device]):
                    if not _may_stay(self._admitted[guest], each.what, each.device):
                        guest.end(Reason.ADMINISTRATIVE_ACTION, _because(each.what, each.device))


def _may_stay(admitted: Admitted, what: What, device: Device) -> bool:
    """Whether one who has come in may stay after a change of itself, of its device, or of another module of that."""
    if admitted.name == device.name:
        return what is not What.DELETED and is_good(admitted, device, None)
    return bool(device.name.module) or (what is not What.DELETED and device.status is Status.ENABLED)


def _because(what: What, device: Device) -> str:
    if what is What.DELETED:
        return f"device {str(device.name)!r} was deleted"
    if device.status is Status.DISABLED:
        return f"device {str(device.name)!r} was disabled"
    return f"the credential of device {str(device.name)!r} is not valid any more"
