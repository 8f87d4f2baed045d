"""SQLAlchemy's engines for the registry: SQLite in a file or in memory, or PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import QueuePool

from millstream.errors import MissingExtraError, RegistryError, SettingsError

FILE_NAME = "registry.db"
_BUSY_SECONDS = 5.0  # that a reader waits while the file is recovered after a crash
_LOCK = 0x4D4C5354  # "MLST"
_CONNECT_SECONDS = 10
_LOCK_SECONDS = 10  # that PostgreSQL may need to notice that the server before is dead


@dataclass(frozen=True, slots=True)
class Engines:
    """One for the connection that writes, and one for those that read (None: the same; in memory there is but one)."""

    where: str
    writer: Engine
    readers: Engine | None

    def is_unreachable(self, error: DBAPIError) -> bool:
        """Whether it says that there is no database to talk to."""
        return self.writer.dialect.name != "sqlite" and isinstance(error, OperationalError | InterfaceError)

    def dispose(self) -> None:
        """Close every connection."""
        for engine in (self.readers, self.writer):
            if engine is not None:
                engine.dispose()


def make_engines(url: str, folder: Path | None) -> Engines:
    """For a URL; without one, for the file in a folder; without that, in memory. Connects to nothing yet.

    `SettingsError`: a URL of something else. `MissingExtraError`: PostgreSQL, without its driver."""
    if url:
        return _postgres(url)
    if folder is None:
        return Engines("in memory", _sqlite("file::memory:", "BEGIN"), None)
    path = folder / FILE_NAME
    _make_private(path)
    uri = path.resolve().as_uri()
    return Engines(str(path), _sqlite(f"{uri}?mode=rwc", "BEGIN IMMEDIATE"), _sqlite(f"{uri}?mode=ro", "BEGIN"))


def _make_private(path: Path) -> None:
    """What is in it is nobody's business but the server's. SQLite gives the files beside it the same permissions."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError as error:
        raise RegistryError(
            f"the registry {path} cannot be used: {error.strerror}; name a folder that this user may write to"
        ) from error


def _encode(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _sqlite(uri: str, begin: str) -> Engine:
    writes = not uri.endswith("mode=ro")

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            uri, uri=True, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None
        )
        if writes:
            _make_durable(connection, uri)
        return connection

    engine = create_engine(
        "sqlite://",
        creator=connect,
        poolclass=QueuePool,
        json_serializer=_encode,
        json_deserializer=msgspec.json.decode,
    )
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))  # and not when Python thinks so
    return engine


def _make_durable(connection: sqlite3.Connection, uri: str) -> None:
    """What is committed survives a power cut. Read back, because SQLite says nothing where it cannot."""
    for pragma, wanted in (("journal_mode = WAL", "wal"), ("synchronous = FULL", 2)):
        connection.execute(f"PRAGMA {pragma}")
        name = pragma.split()[0]
        found = connection.execute(f"PRAGMA {name}").fetchone()[0]
        if found != wanted and ":memory:" not in uri:
            raise RegistryError(
                f"{uri}: SQLite keeps {name} at {found!r}, and changes would not be safe; use a folder on a local disk"
            )
    connection.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone leaves data in the drive's cache


def _postgres(text: str) -> Engines:
    url = _parse(text)
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "a registry in PostgreSQL needs the extra: pip install 'millstream[postgres]'"
        ) from None
    where = f"{url.host or 'localhost'}:{url.port or 5432}/{url.database or ''}"
    make: Callable[..., Engine] = lambda **given: create_engine(  # noqa: E731
        url.set(drivername="postgresql+psycopg"),
        json_serializer=_encode,
        json_deserializer=msgspec.json.decode,
        connect_args={"connect_timeout": _CONNECT_SECONDS},
        **given,
    )
    writer = make(pool_size=1, max_overflow=0)
    event.listen(writer, "connect", lambda connection, record: _take_lock(connection, where))
    return Engines(where, writer, make(pool_pre_ping=True))


def _parse(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.get_backend_name() not in ("postgresql", "postgres"):
        raise SettingsError(
            "setting 'registry' is no URL of PostgreSQL, such as postgresql://user:password@host/database; "
            "without it, the registry is a file in the data folder"
        )
    return url


def _take_lock(connection: Any, where: str) -> None:
    """For as long as the connection lives."""
    import psycopg.errors

    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{_LOCK_SECONDS}s'")
        try:
            cursor.execute(f"SELECT pg_advisory_lock({_LOCK})")
        except psycopg.errors.LockNotAvailable:
            raise RegistryError(
                f"the registry {where} is in use by another server; stop that one first, or give this one a database "
                "of its own"
            ) from None
        cursor.execute("SET lock_timeout = 0")
    connection.commit()
