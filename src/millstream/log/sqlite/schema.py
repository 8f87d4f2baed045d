"""The tables of the log, and how its file is opened: to write, or to read beside the one that writes.

`docs/log-format.md` explains every table and column.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import apsw

from millstream.errors import CorruptChunkError, DataFolderError, DiskFaultError, DiskFullError, LogError

FILE_NAME = "log.db"

APPLICATION_ID = 0x4D4C5354  # "MLST", in the file's header: what `file(1)` and we tell it by
FORMAT_VERSION = 2  # in `user_version`; any change of a table, a column's meaning or a chunk's bytes makes a new one

PAGE_BYTES = 4096  # of 4, 8, 16, 32 and 64 KB the fastest, or as fast, for commits of 1 KB, 16 KB, 400 KB and 3 MB
_CACHE_KIB = 8192
_BUSY_MILLISECONDS = 5000  # what a reader waits while another one recovers the file after a crash

_SCHEMA = f"""
CREATE TABLE catalog(version INTEGER NOT NULL) STRICT;
INSERT INTO catalog VALUES(1);
CREATE TABLE streams(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, spec TEXT NOT NULL) STRICT;
CREATE TABLE partitions(
    id INTEGER PRIMARY KEY, stream_id INTEGER, number INTEGER NOT NULL,
    first INTEGER NOT NULL DEFAULT 0, events INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL DEFAULT 0,
    time INTEGER NOT NULL DEFAULT 0, UNIQUE(stream_id, number)) STRICT;
CREATE TABLE chunks(
    id INTEGER PRIMARY KEY, records INTEGER NOT NULL, events INTEGER NOT NULL, size INTEGER NOT NULL,
    events_before INTEGER NOT NULL, size_before INTEGER NOT NULL,
    first_time INTEGER NOT NULL, last_time INTEGER NOT NULL,
    columns INTEGER NOT NULL, codec INTEGER NOT NULL, raw INTEGER NOT NULL, checksum INTEGER NOT NULL,
    ticks BLOB, data BLOB) STRICT;
CREATE TABLE consumer_groups(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
INSERT INTO consumer_groups VALUES(0, '');
CREATE TABLE positions(
    group_id INTEGER NOT NULL, partition_id INTEGER NOT NULL, low INTEGER NOT NULL, done BLOB,
    expired INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(group_id, partition_id)) STRICT, WITHOUT ROWID;
CREATE TABLE starts(
    group_id INTEGER NOT NULL, partition_id INTEGER NOT NULL, "offset" INTEGER NOT NULL, events INTEGER NOT NULL,
    PRIMARY KEY(group_id, partition_id)) STRICT, WITHOUT ROWID;
CREATE TABLE states(
    id INTEGER PRIMARY KEY, group_id INTEGER NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL,
    checksum INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE(group_id, number, name)) STRICT;
CREATE TABLE counts(
    group_id INTEGER NOT NULL, name TEXT NOT NULL, n INTEGER NOT NULL,
    PRIMARY KEY(group_id, name)) STRICT, WITHOUT ROWID;
CREATE TABLE dues(
    group_id INTEGER NOT NULL, partition_id INTEGER NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY(group_id, partition_id)) STRICT, WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT_VERSION};
"""


def open_memory() -> apsw.Connection:
    """A new log in memory."""
    db = apsw.Connection(":memory:")
    _create(db)
    return db


def open_writer(path: Path, vfs: str | None = None) -> apsw.Connection:
    """The one connection that writes; makes the file if there is none. `DataFolderError` if it is not ours to use,
    `DiskFullError` if there is no room for what SQLite needs beside it.

    A `vfs` of its own has no memory to share with readers in other connections: all must go through this one."""
    try:
        db = apsw.Connection(str(path), vfs=vfs)
        try:
            db.set_busy_timeout(_BUSY_MILLISECONDS)
            _prepare(db, path, private=vfs is not None)
        except BaseException:
            abandon(db)
            raise
    except apsw.Error as error:
        raise unusable(path, error) from error
    return db


def open_reader(path: Path) -> apsw.Connection:
    """A connection that only reads. `DataFolderError` if there is no log, or one that cannot be read."""
    if not path.exists():
        raise DataFolderError(f"there is no log in {str(path.parent)!r}; is it the folder that a server was given?")
    try:
        db = apsw.Connection(
            f"{path.resolve().as_uri()}?mode=ro", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        )
        try:
            db.set_busy_timeout(_BUSY_MILLISECONDS)
            _check_version(db, path)
            _pragma(db, f"cache_size = -{_CACHE_KIB}")
        except BaseException:
            abandon(db)
            raise
    except apsw.Error as error:
        raise unusable(path, error) from error
    return db


def _prepare(db: apsw.Connection, path: Path, private: bool) -> None:
    if private:
        _pragma(db, "locking_mode = EXCLUSIVE")
    new = _is_empty(db)
    if new:
        _pragma(db, f"page_size = {PAGE_BYTES}")
    else:
        _check_version(db, path)
    for setting, wanted in (("journal_mode = WAL", "wal"), ("synchronous = FULL", 2), ("secure_delete = OFF", 0)):
        name = setting.split()[0]
        _pragma(db, setting)
        if (found := _pragma(db, name)) != wanted:
            raise DataFolderError(
                f"{path}: SQLite keeps {name} at {found!r}, and acknowledged events would not be safe; "
                "is the folder on a network file system? Use a local disk"
            )
    _pragma(db, "fullfsync = ON")  # macOS: fsync alone leaves data in the drive's cache
    _pragma(db, "checkpoint_fullfsync = ON")
    _pragma(db, "wal_autocheckpoint = 0")  # the writer does it itself, after it has answered
    _pragma(db, f"cache_size = -{_CACHE_KIB}")
    if new:
        _create(db)


def _create(db: apsw.Connection) -> None:
    with db:
        db.execute(_SCHEMA)


def _check_version(db: apsw.Connection, path: Path) -> None:
    if _is_empty(db):
        raise DataFolderError(f"there is no log in {str(path.parent)!r} yet: a server is starting, or was ended there")
    if _pragma(db, "application_id") != APPLICATION_ID:
        raise DataFolderError(f"{path} is an SQLite file of something else; give Millstream a data folder of its own")
    if (found := _pragma(db, "user_version")) != FORMAT_VERSION:
        raise DataFolderError(
            f"{path} has format version {found}, and this Millstream writes and reads version {FORMAT_VERSION}; "
            "run the version of Millstream that wrote it, or use a new data folder"
        )


def _is_empty(db: apsw.Connection) -> bool:
    return not db.execute("SELECT count(*) FROM sqlite_schema").get


def _pragma(db: apsw.Connection, text: str) -> object:
    return db.pragma(text) if " " not in text else db.execute(f"PRAGMA {text}").get


def abandon(db: apsw.Connection) -> None:
    """Close a connection whatever else fails: what was committed is in the file or in the WAL."""
    with suppress(apsw.Error):
        db.close()


def unusable(path: Path, error: apsw.Error) -> DataFolderError | DiskFullError:
    """Why the file cannot be opened, for a person."""
    if isinstance(error, apsw.FullError) or getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE:
        return DiskFullError(f"{path} cannot be opened, because the disk is full; make room")
    if isinstance(error, apsw.NotADBError | apsw.CorruptError):
        mend = "the file is damaged or no SQLite file; restore it from a backup, or use a new data folder"
    elif isinstance(error, apsw.CantOpenError | apsw.ReadOnlyError | apsw.PermissionsError):
        mend = "check that this user may write to the folder and to every file in it"
    else:
        mend = "check the disk and the folder's permissions"
    return DataFolderError(f"{path} cannot be opened: {error}; {mend}")


def write_error(error: apsw.Error) -> DiskFullError | DiskFaultError:
    """What a failed write means."""
    if isinstance(error, apsw.FullError):
        return DiskFullError("the disk is full: nothing was committed; make room, and it will go on")
    return DiskFaultError(
        f"writing the log failed: {error}; what was being committed may or may not be there after a restart; "
        "check the disk (dmesg, smartctl), then start again"
    )


def read_error(what: str, error: apsw.Error) -> LogError:
    """What a failed read of `what` means."""
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return CorruptChunkError(
            f"{what} is damaged: {error}; check the disk, and restore the data folder from a backup"
        )
    return LogError(f"{what} cannot be read: {error}; check the disk (dmesg, smartctl)")
