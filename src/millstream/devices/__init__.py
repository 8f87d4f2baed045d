"""Devices: who they are, how they come in, what is known of them.

`device` and `credentials` are the model, `registry` is where it is kept, `lifecycle` what it tells the world,
`presence` who is connected. Nothing here knows a wire dialect.
"""

from millstream.devices.command import Command
from millstream.devices.commands import Commands
from millstream.devices.credentials import Credentials, CredentialsGiven, KeysGiven, SymmetricKeys, Thumbprints
from millstream.devices.device import Change, Device, Status
from millstream.devices.enrollment import Again, Enrollment, EnrollmentChange, Kind
from millstream.devices.enrollments import Enrollments
from millstream.devices.lifecycle import STREAM, STREAMS, Happened, What
from millstream.devices.login import (
    Admitted,
    admit,
    admit_by_certificate,
    admit_by_token,
    is_good,
    may_connect,
    name_of,
    resource_of,
)
from millstream.devices.name import Name
from millstream.devices.presence import Presence
from millstream.devices.provisioning import Applicant, Provisioning, registration_of, resource_of_registration
from millstream.devices.registry import Registry
from millstream.devices.relay import Relay
from millstream.devices.token import Token, derive_key, make_token
from millstream.devices.twin import Report, Side, Sides, Twin, TwinChange
from millstream.devices.twins import Twins
from millstream.devices.work import ANY, Definition, Expected, Put

__all__ = [
    "ANY",
    "STREAM",
    "STREAMS",
    "Admitted",
    "Again",
    "Applicant",
    "Change",
    "Command",
    "Commands",
    "Credentials",
    "CredentialsGiven",
    "Definition",
    "Device",
    "Enrollment",
    "EnrollmentChange",
    "Enrollments",
    "Expected",
    "Happened",
    "KeysGiven",
    "Kind",
    "Name",
    "Presence",
    "Provisioning",
    "Put",
    "Registry",
    "Relay",
    "Report",
    "Side",
    "Sides",
    "Status",
    "SymmetricKeys",
    "Thumbprints",
    "Token",
    "Twin",
    "TwinChange",
    "Twins",
    "What",
    "admit",
    "admit_by_certificate",
    "admit_by_token",
    "derive_key",
    "is_good",
    "make_token",
    "may_connect",
    "name_of",
    "registration_of",
    "resource_of",
    "resource_of_registration",
]
