"""Opening a data folder: one server at a time, of one format version, with the promises of the settings read back."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from tests.support.disk import Disk, Fault, disk
from tests.support.records import SETTINGS, append, contents

from millstream.clock import VirtualClock
from millstream.errors import DataFolderError, DiskFullError, LogClosedError, LogUnavailableError
from millstream.log import EARLIEST, StreamSpec
from millstream.log.sqlite import ReadOnlyLog, SqliteLog
from millstream.log.sqlite.folder import FolderLock
from millstream.log.sqlite.schema import APPLICATION_ID, FORMAT_VERSION, open_writer


async def open_log(folder: Path) -> SqliteLog:
    return await SqliteLog.open(folder, SETTINGS, VirtualClock())


async def make_log(folder: Path) -> None:
    """A log with a stream and an event, closed again."""
    log = await open_log(folder)
    await log.create(StreamSpec("a", ("t/#",), partitions=1))
    await append(log, "a", 0, "x")
    await log.close()


async def test_a_log_is_there_again(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "data"
    await make_log(folder)
    log = await open_log(folder)
    assert await log.streams() == {"a": StreamSpec("a", ("t/#",), partitions=1)}
    assert await contents(log, "a") == ["x"]
    assert (await append(log, "a", 0, "y")).first_offsets == (1,)
    await log.close()


async def test_a_second_server_is_told_who_the_first_one_is(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    with pytest.raises(DataFolderError, match=f"in use by another server, process {os.getpid()}; stop that one"):
        await open_log(tmp_path)
    await append_to_be_sure(log)
    await log.close()
    await (await open_log(tmp_path)).close()


async def append_to_be_sure(log: SqliteLog) -> None:
    await log.create(StreamSpec("a", partitions=1))
    await append(log, "a", 0, "still works")


def test_a_killed_server_leaves_no_lock(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from millstream.log.sqlite.folder import FolderLock; "
        f"lock = FolderLock(Path({str(tmp_path)!r})); print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(DataFolderError, match=f"process {process.pid};"):
            FolderLock(tmp_path)
        process.kill()
    FolderLock(tmp_path).release()


async def test_a_full_disk_is_told_and_the_ballast_given_up(tmp_path: Path) -> None:
    """What SQLite needs beside the log has room where the ballast was."""
    await make_log(tmp_path)
    ballast = tmp_path / "ballast"
    ballast.write_bytes(bytes(1000))

    class Full(Disk):
        def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
            if ballast.exists():
                raise apsw.FullError("no room")
            return super().xOpen(name, flags)

    full = Full()
    log = await SqliteLog.open(tmp_path, SETTINGS, VirtualClock(), vfs=full.name)
    assert not ballast.exists()
    assert await contents(log, "a") == ["x"]
    await log.close()
    full.unregister()
    with disk(Fault(0, apsw.FullError, lasting=True)) as hopeless:
        for folder in (tmp_path, tmp_path / "new"):
            with pytest.raises(DiskFullError, match="cannot be opened, because the disk is full; make room"):
                await SqliteLog.open(folder, SETTINGS, VirtualClock(), vfs=hopeless.name)
    for folder in (tmp_path, tmp_path / "new"):
        await (await open_log(folder)).close()


def test_a_new_folder_outlives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, int]] = []

    def sync(file: int) -> None:
        its = os.fstat(file)
        synced.append((its.st_dev, its.st_ino))

    monkeypatch.setattr(os, "fsync", sync)
    FolderLock(tmp_path / "deep" / "data").release()
    parents = [(path.stat().st_dev, path.stat().st_ino) for path in (tmp_path / "deep", tmp_path)]
    assert synced == parents
    FolderLock(tmp_path / "deep" / "data").release()
    assert synced == parents


def test_a_lock_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", no_room)
    FolderLock(tmp_path).release()


@pytest.mark.parametrize("reader", [SqliteLog, ReadOnlyLog])
async def test_another_format_version_is_named(tmp_path: Path, reader: type) -> None:
    await make_log(tmp_path)
    with apsw.Connection(str(tmp_path / "log.db")) as db:
        db.execute(f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    db.close()
    text = f"has format version {FORMAT_VERSION + 1}, and this Millstream writes and reads version {FORMAT_VERSION}"
    with pytest.raises(DataFolderError, match=text):
        await (open_log(tmp_path) if reader is SqliteLog else ReadOnlyLog.open(tmp_path))


async def test_somebody_elses_file_is_left_alone(tmp_path: Path) -> None:
    db = apsw.Connection(str(tmp_path / "log.db"))
    db.execute("CREATE TABLE precious(x)")
    db.close()
    with pytest.raises(DataFolderError, match="something else; give Millstream a data folder of its own"):
        await open_log(tmp_path)
    db = apsw.Connection(str(tmp_path / "log.db"))
    assert db.execute("SELECT count(*) FROM precious").get == 0
    db.close()


async def test_what_is_no_database_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "log.db").write_bytes(b"a letter to my sister " * 500)
    with pytest.raises(DataFolderError, match="restore it from a backup"):
        await open_log(tmp_path)
    assert (tmp_path / "log.db").read_bytes().startswith(b"a letter")


async def test_an_empty_file_becomes_a_log(tmp_path: Path) -> None:
    """As left by a crash at the very beginning."""
    (tmp_path / "log.db").touch()
    with pytest.raises(DataFolderError, match=r"there is no log in .* yet"):
        await ReadOnlyLog.open(tmp_path)
    await make_log(tmp_path)


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataFolderError, match=r"cannot be used: .*; name a folder"):
        await open_log(tmp_path / "file" / "data")


async def test_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataFolderError, match="there is no log in"):
        await ReadOnlyLog.open(tmp_path)
    assert not (tmp_path / "log.db").exists()


def test_the_settings_that_promises_depend_on(tmp_path: Path) -> None:
    db = open_writer(tmp_path / "log.db")
    found = {
        name: db.pragma(name)
        for name in ("journal_mode", "synchronous", "application_id", "user_version", "wal_autocheckpoint")
    }
    db.close()
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "application_id": APPLICATION_ID,
        "user_version": FORMAT_VERSION,
        "wal_autocheckpoint": 0,
    }


async def test_a_closed_log_refuses(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    await append_to_be_sure(log)
    await log.close()
    await log.close()
    with pytest.raises(LogClosedError):
        await append(log, "a", 0, "x")
    with pytest.raises(LogClosedError):
        await log.read("a", 0, 0)
    assert not (tmp_path / "log.db-wal").exists()


async def test_what_was_submitted_is_committed_before_it_closes(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    await append_to_be_sure(log)
    committing = [asyncio.ensure_future(append(log, "a", 0, str(number))) for number in range(20)]
    await asyncio.sleep(0)
    await log.close()
    assert [done.first_offsets[0] for done in await asyncio.gather(*committing)] == list(range(1, 21))


# --- without a server


async def test_reading_without_a_server_with_one_and_after_it(tmp_path: Path) -> None:
    log = await open_log(tmp_path)
    await log.create(StreamSpec("a", partitions=1))
    await log.join("g", ["a"], start=EARLIEST)
    reader = await ReadOnlyLog.open(tmp_path)
    await append(log, "a", 0, "x", "y")
    assert await contents(reader, "a") == ["x", "y"]
    assert await reader.offset_at("a", 0, 0) == 0
    await log.close()
    assert await contents(reader, "a") == ["x", "y"]
    (status,) = await reader.groups()
    assert (status.name, status.lag, status.members) == ("g", {("a", 0): 2}, 0)
    await reader.close()
    again = await ReadOnlyLog.open(tmp_path)
    assert await contents(again, "a") == ["x", "y"]
    await again.close()
    log = await open_log(tmp_path)
    assert await contents(log, "a") == ["x", "y"]
    await log.close()


async def test_a_reader_alone_changes_nothing(tmp_path: Path) -> None:
    await make_log(tmp_path)
    log = await ReadOnlyLog.open(tmp_path)
    with pytest.raises(LogUnavailableError, match="no server runs"):
        await log.create(StreamSpec("b"))
    with pytest.raises(LogUnavailableError):
        await log.drop("a")
    with pytest.raises(LogUnavailableError):
        await log.join("g", ["a"])
    with pytest.raises(LogUnavailableError):
        log.transaction()
    with pytest.raises(LogUnavailableError):
        log.watch_streams(print)
    await log.close()


async def test_a_reader_alone_waits_for_a_server_to_write(tmp_path: Path) -> None:
    await make_log(tmp_path)
    reader = await ReadOnlyLog.open(tmp_path)
    reading = asyncio.ensure_future(reader.read("a", 0, 1, wait=None))
    log = await open_log(tmp_path)
    await append(log, "a", 0, "y")
    assert [event.payload for event in await asyncio.wait_for(reading, 20)] == [b"y"]
    await reader.close()
    await log.close()
