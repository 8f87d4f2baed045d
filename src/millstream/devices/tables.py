"""The registry's tables, as the newest migration leaves them; a test holds the two together.

Instants are microseconds since 1970, as everywhere in Millstream.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    false,
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB

from millstream.devices.name import Name

metadata = MetaData()

NAME = Text().with_variant(Text(collation="C"), "postgresql")  # in the order of code points, as SQLite's
DOCUMENT = JSON().with_variant(JSONB(), "postgresql")
NUMBER = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows by itself for this type only
CONNECTED = text("connected")

devices = Table(
    "devices",
    metadata,
    Column("device", NAME, primary_key=True),
    Column("module", NAME, primary_key=True),  # "": the device itself
    Column("generation", Text, nullable=False),
    Column("etag", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", Text),
    Column("tags", DOCUMENT, nullable=False),
    Column("keys", LargeBinary),  # sealed
    Column("password", Text),  # hashed
    Column("thumbprint", Text),
    Column("second_thumbprint", Text),
    Column("authority", Boolean, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("connected", Boolean, nullable=False),
    Column("connection_time", BigInteger),
    Column("last_activity", BigInteger),
    Column("enrollment", NAME),
    # Those who are connected are found at once when a server starts, however many are not.
    Index("devices_connected", "device", postgresql_where=CONNECTED, sqlite_where=CONNECTED),
    Index("devices_enrollment", "enrollment"),
)

enrollments = Table(
    "enrollments",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("etag", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", Text),
    Column("keys", LargeBinary, nullable=False),  # sealed
    Column("device", Text),
    Column("tags", DOCUMENT, nullable=False),
    Column("desired", DOCUMENT, nullable=False),
    Column("again", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("authority", Text),
    Column("thumbprint", Text),
    Column("second_thumbprint", Text),
    Column("allocate", Boolean, nullable=False, server_default=false()),
)

twins = Table(
    "twins",
    metadata,
    Column("device", NAME, primary_key=True),
    Column("module", NAME, primary_key=True),
    Column("desired", DOCUMENT, nullable=False),
    Column("desired_version", BigInteger, nullable=False),
    Column("desired_updated", BigInteger),
    Column("reported", DOCUMENT, nullable=False),
    Column("reported_version", BigInteger, nullable=False),
    Column("reported_updated", BigInteger),
)
"""The two sides of devices' twins; who has none has no row."""

commands = Table(
    "commands",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False),
    Column("device", NAME, nullable=False),
    Column("module", NAME, nullable=False),
    Column("generation", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("queued", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("deliveries", Integer, nullable=False),
    Column("sent", BigInteger),
    Index("commands_device", "device", "module", "number"),
    Index("commands_expires", "expires"),
    Index("commands_sent", "sent"),
    sqlite_autoincrement=True,
)
"""Commands that wait for their devices, in order."""

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("given", LargeBinary, nullable=False),
    Column("status", Text, nullable=False),
    Column("by", Text),
    Column("created", BigInteger, nullable=False),
    Column("ended", BigInteger),
    Index("jobs_created", "created"),
)

job_devices = Table(
    "job_devices",
    metadata,
    Column("job", Text, primary_key=True),
    Column("device", NAME, primary_key=True),
    Column("outcome", Text, nullable=False),
    Column("detail", Text),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("device", Text),
    Column("note", Text),
    Column("digest", LargeBinary, nullable=False),
    Column("former", LargeBinary),
    Column("former_until", BigInteger),
    Column("expires", BigInteger),
    Column("by", Text),
    Column("created", BigInteger, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("topic", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
    sqlite_autoincrement=True,  # a number is never given again
)
"""Events that were decided on together with a change, and are on their way to their stream."""

facts = Table("facts", metadata, Column("name", Text, primary_key=True), Column("value", LargeBinary, nullable=False))
"""What there is to know of the registry itself."""


def are_among(table: Table, names: Sequence[Name]) -> ColumnElement[bool]:
    """The rows of devices and modules of these names. SQLite looks single names up in the index, but reads the whole
    table for pairs of them."""
    its = table.c
    return its.device.in_(sorted({name.device for name in names})) & tuple_(its.device, its.module).in_(names)
