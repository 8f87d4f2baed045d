"""Provisioning by MQTT, for a client that is no device yet and has come in with its registration's token:

    registrations/{id}/register[/REQUEST]    it wants to be registered
    registrations/{id}/answer[/REQUEST]      {"status": 200, "device": …, "outcome": …}, or what is wrong

It may use no other topics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from millstream.actor import Actor
from millstream.devices import Applicant, Provisioning, resource_of_registration
from millstream.errors import DeviceError, NotAuthorizedError, TokenError
from millstream.gateway.devices.guests import Guests
from millstream.gateway.devices.inbox import Inbox
from millstream.gateway.http.answer import CODES, status_of
from millstream.gateway.listeners.admission import Refused
from millstream.gateway.pubsub.audience import Desk
from millstream.gateway.pubsub.fanout import FanOut
from millstream.gateway.pubsub.post import Post
from millstream.mqtt import Granted
from millstream.rights import Right
from millstream.topic import filter_covers

_ROOT = "registrations"


class ApplicantRights:
    """What a client may do that wants to register."""

    def __init__(self, registration_id: str) -> None:
        its = f"{_ROOT}/{registration_id}"
        self._may = {Right.PUBLISH: f"{its}/register/#", Right.SUBSCRIBE: f"{its}/answer/#"}

    def check(self, right: Right, name: str = "") -> None:
        """See `Rights`."""
        if right not in self._may or not filter_covers(self._may[right], name):
            raise NotAuthorizedError(
                f"who registers may publish to {self._may[Right.PUBLISH]} and subscribe to "
                f"{self._may[Right.SUBSCRIBE]}; as a device it connects afterwards"
            )


class RegistrationDesk:
    """Registers who asks for it."""

    def __init__(
        self, provisioning: Provisioning, guests: Guests, inbox: Inbox, fan_out: FanOut, refused: Refused
    ) -> None:
        self._provisioning = provisioning
        self._guests = guests
        self._inbox = inbox
        self._refused = refused
        fan_out.add(Desk(self._take), Granted(f"{_ROOT}/+/register/#", 1, False, ()))

    def _take(self, posts: list[Post]) -> None:
        for post in posts:
            _, registration_id, _, *number = post.topic.name.split("/")
            applicant = self._guests.applicant_of(post.publisher)
            if applicant is not None and applicant.registration_id == registration_id:
                topic = "/".join((_ROOT, registration_id, "answer", *number))
                address = getattr(post.publisher, "address", "")
                actor = Actor(resource_of_registration(registration_id), f"MQTT {post.topic.name}", address)
                self._inbox.answer(topic, self._register(applicant, actor))

    async def _register(self, applicant: Applicant, actor: Actor) -> Mapping[str, Any]:
        try:
            return (await self._provisioning.register(applicant, actor)).shown()
        except (DeviceError, TokenError) as error:
            self._refused(actor, CODES[status_of(error)], str(error))
            raise
