"""What a gateway has to do with the registry: it lets devices in, notes who is there, and tells what has happened."""

from __future__ import annotations

from millstream.clock import Clock
from millstream.devices import Commands, Enrollments, Presence, Provisioning, Registry, Relay, Twins
from millstream.devices.api_keys import ApiKeys
from millstream.devices.jobs import Jobs
from millstream.gateway.devices.auditor import Auditor
from millstream.gateway.devices.command_desk import CommandDesk
from millstream.gateway.devices.device_auth import DeviceAuthenticator
from millstream.gateway.devices.guests import Guests
from millstream.gateway.devices.inbox import Inbox
from millstream.gateway.devices.job_runner import JobRunner
from millstream.gateway.devices.key_auth import KeyAuthenticator
from millstream.gateway.devices.methods import Methods
from millstream.gateway.devices.registration_desk import RegistrationDesk
from millstream.gateway.devices.twin_desk import TwinDesk
from millstream.gateway.http import Bodies, Part
from millstream.gateway.http.commands import CommandPart
from millstream.gateway.http.device_batches import DeviceBatches
from millstream.gateway.http.devices import Devices
from millstream.gateway.http.enrollments import EnrollmentPart
from millstream.gateway.http.jobs import JobPart
from millstream.gateway.http.keys import KeyPart
from millstream.gateway.http.methods import MethodPart
from millstream.gateway.http.registrations import Registrations
from millstream.gateway.http.twins import TwinPart
from millstream.gateway.listeners.auth import UserAuthenticator
from millstream.gateway.listeners.policy import Policy
from millstream.gateway.pubsub.fanout import FanOut
from millstream.gateway.pubsub.topics import Topics
from millstream.log import Log
from millstream.metrics import Reading, catalog


class Reception:
    """Works from `start` to `close`. The registry stays the caller's."""

    def __init__(
        self,
        registry: Registry,
        log: Log,
        users: UserAuthenticator,
        policy: Policy,
        fan_out: FanOut,
        topics: Topics,
        clock: Clock,
        *,
        makes_first_key: bool,
    ) -> None:
        self._makes_first_key = makes_first_key
        self.registry = registry
        self.presence = Presence(registry, clock)
        self.guests = Guests(registry, self.presence)
        self.enrollments = Enrollments(registry)
        self.provisioning = Provisioning(self.enrollments, clock)
        rights, heard = policy.device_rights, self.presence.active
        devices = DeviceAuthenticator(users, registry, self.provisioning, rights, heard, clock)
        self.keys = ApiKeys(registry)
        self.authenticator = KeyAuthenticator(devices, self.keys, registry, rights)
        self.auditor = Auditor(registry, clock)
        self.first_key: str | None = None
        """The text of an admin's key, where the registry had none before `start`."""
        self.twins = Twins(registry)
        self._inbox = Inbox(fan_out, self.guests, topics)
        self._twin_desk = TwinDesk(registry, self.twins, self.guests, self._inbox, topics)
        self._registration_desk = RegistrationDesk(
            self.provisioning, self.guests, self._inbox, fan_out, self.auditor.refuse
        )
        self.methods = Methods(registry, self.guests, self._inbox, topics, clock)
        self.commands = Commands(registry)
        self._command_desk = CommandDesk(registry, self.commands, self.guests, self._inbox, topics, clock)
        self.jobs = Jobs(registry)
        self._job_runner = JobRunner(self.jobs, self.methods, self.twins, self.commands, clock)
        self._relay = Relay(registry, log, topics.publish, clock)

    def parts(self, bodies: Bodies) -> list[Part]:
        """What there is of it by HTTP."""
        return [
            DeviceBatches(self.registry, bodies),
            EnrollmentPart(self.enrollments, bodies),
            Registrations(self.provisioning),
            KeyPart(self.keys, bodies),
            CommandPart(self.commands, self._command_desk, bodies),
            JobPart(self.jobs, self._job_runner, bodies),
            MethodPart(self.methods, bodies),
            TwinPart(self.twins, bodies),
            Devices(self.registry, bodies),
        ]

    async def measure(self, reading: Reading) -> None:
        """Add what is measured here to a reading."""
        reading.set(catalog.DEVICES, self.presence.connected)
        for code, n in self.auditor.refused.items():
            reading.set(catalog.REFUSED, n, code)

    async def start(self) -> None:
        """Put right what a server that died has left, and tell what it did not live to tell."""
        await self.presence.start()
        made = await self.keys.start(make_first=self._makes_first_key)
        self.first_key = None if made is None else made.text
        await self._relay.start()
        self._command_desk.start()
        await self._job_runner.start()

    async def close(self) -> None:
        """After the last connection: note that it has gone, and tell the rest."""
        await self._job_runner.close()
        await self._inbox.close()
        await self._twin_desk.close()
        await self._command_desk.close()
        await self.auditor.close()
        await self.presence.close()
        await self._relay.close()
