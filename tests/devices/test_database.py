"""Opening a registry: what cannot be used is told, and nothing is lost."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from tests.devices.conftest import OpenRegistry

from millstream.clock import VirtualClock
from millstream.devices import Change, Name, Registry
from millstream.devices.tables import metadata
from millstream.devices.vault import FILE_NAME, Vault
from millstream.errors import (
    DeviceError,
    DiskFaultError,
    DiskFullError,
    MillstreamError,
    RegistryError,
    RegistryUnavailableError,
    SettingsError,
)

PRESS = Name("press-1")


async def test_migrations_make_the_tables_that_the_code_knows(registry: Registry) -> None:
    def differences(connection: object) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))  # type: ignore[arg-type]

    assert await registry.database.write(differences) == []


async def test_a_registry_of_a_newer_version_is_left_alone(registry: Registry, open_registry: OpenRegistry) -> None:
    newer = text("UPDATE alembic_version SET version_num = 'x'")
    await registry.database.write(lambda connection: connection.execute(newer))
    with pytest.raises(RegistryError, match="format 'x', which this Millstream does not know"):
        await open_registry()


async def test_another_key_is_told_at_once(registry: Registry, open_registry: OpenRegistry, tmp_path: Path) -> None:
    await registry.put(PRESS, Change())
    (tmp_path / FILE_NAME).unlink()
    with pytest.raises(RegistryError, match=r"another key.*restore registry.key"):
        await open_registry()


async def test_the_key_is_its_owners_only(registry: Registry, tmp_path: Path) -> None:
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("key", ["secret", "c2hvcnQ=", "é"])
def test_a_wrong_setting_of_the_key_is_told(key: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="openssl rand -base64 32"):
        Vault.open(tmp_path, key)
    assert not list(tmp_path.iterdir())


def test_a_damaged_key_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("x")
    with pytest.raises(RegistryError, match="restore it from a backup"):
        Vault.open(tmp_path, "")


def test_what_is_sealed_for_one_place_cannot_be_opened_in_another() -> None:
    vault = Vault.new()
    sealed = vault.seal(b"secret", "device a")
    assert b"secret" not in sealed
    assert sealed != vault.seal(b"secret", "device a")
    assert vault.unseal(sealed, "device a") == b"secret"
    for wrong, place in ((sealed, "device b"), (sealed[:-1], "device a"), (b"", "device a")):
        with pytest.raises(RegistryError):
            vault.unseal(wrong, place)
    with pytest.raises(RegistryError):
        Vault.new().unseal(sealed, "device a")


@pytest.mark.parametrize("url", ["mysql://a/b", "nonsense", "sqlite:///x.db", "postgresql://h:x/d"])
async def test_a_wrong_url_is_told(url: str, tmp_path: Path, clock: VirtualClock) -> None:
    with pytest.raises(SettingsError, match="setting 'registry'"):
        await Registry.open(url, tmp_path, clock)


async def test_no_server_is_told(tmp_path: Path, clock: VirtualClock) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(RegistryUnavailableError, match=r"127\.0\.0\.1:1/x does not answer"):
        await Registry.open("postgresql://a:secret@127.0.0.1:1/x", tmp_path, clock)


async def test_a_file_that_is_none_is_told(tmp_path: Path, clock: VirtualClock) -> None:
    (tmp_path / "registry.db").write_bytes(b"nonsense" * 1_000)
    with pytest.raises(RegistryError, match="no SQLite file"):
        await Registry.open("", tmp_path, clock)


async def test_changes_are_synced(tmp_path: Path, clock: VirtualClock) -> None:
    registry = await Registry.open("", tmp_path, clock)
    for name, wanted in (("journal_mode", "wal"), ("synchronous", 2)):
        pragma = text(f"PRAGMA {name}")
        assert await registry.database.write(lambda connection: connection.execute(pragma).scalar()) == wanted  # noqa: B023
    await registry.close()


async def test_readers_cannot_write(tmp_path: Path, clock: VirtualClock) -> None:
    registry = await Registry.open("", tmp_path, clock)
    with pytest.raises(MillstreamError, match="cannot be written"):
        await registry.database.read(lambda connection: connection.execute(text("DELETE FROM devices")))
    await registry.close()


async def test_a_second_server_is_kept_out_of_postgresql(
    postgres_url: str, tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.devices.engine._LOCK_SECONDS", 1)
    first = await Registry.open(postgres_url, tmp_path, clock)
    with pytest.raises(RegistryError, match="in use by another server"):
        await Registry.open(postgres_url, tmp_path, clock)
    await first.close()
    await (await Registry.open(postgres_url, tmp_path, clock)).close()


async def test_a_connection_to_postgresql_that_broke_is_made_again(
    postgres_url: str, tmp_path: Path, clock: VirtualClock
) -> None:
    registry = await Registry.open(postgres_url, tmp_path, clock)
    await registry.put(PRESS, Change())
    end_all = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await registry.database.read(lambda connection: connection.execute(end_all))
    with pytest.raises(RegistryUnavailableError, match="does not answer"):
        await registry.put(PRESS, Change(tags={"a": 1}))
    assert (await registry.put(PRESS, Change(tags={"a": 2}))).changed
    assert (await registry.get(PRESS)).tags == {"a": 2}
    await registry.close()


KILLED = """
import asyncio, os, sys
from pathlib import Path
from millstream.clock import SystemClock
from millstream.devices import Change, Name, Registry

async def main():
    registry = await Registry.open("", Path(sys.argv[1]), SystemClock())
    for n in range(10_000):
        await registry.put(Name(f"d{n}"), Change())
        os.write(1, b"%d\\n" % n)

asyncio.run(main())
"""


async def test_what_was_told_is_there_after_a_kill(tmp_path: Path, clock: VirtualClock) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert process.stdout is not None
    told = [int(await asyncio.to_thread(process.stdout.readline)) for _ in range(50)]
    process.kill()
    told += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    registry = await Registry.open("", tmp_path, clock)
    found = {device.name.device for device in await registry.page(limit=10_000)}
    assert {f"d{n}" for n in told} <= found
    assert len(found) <= len(told) + 1
    await registry.close()
    assert sqlite3.connect(tmp_path / "registry.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize(
    ("code", "error", "told"),
    [
        (sqlite3.SQLITE_FULL, DiskFullError, "was not changed"),
        (sqlite3.SQLITE_IOERR_SHMSIZE, DiskFullError, "was not changed"),
        (sqlite3.SQLITE_IOERR_FSYNC, DiskFaultError, "may or may not have happened"),
        (sqlite3.SQLITE_CORRUPT, RegistryError, "damaged"),
    ],
)
async def test_faults_of_the_disk_are_told_by_name(
    tmp_path: Path, clock: VirtualClock, code: int, error: type[Exception], told: str
) -> None:
    registry = await Registry.open("", tmp_path, clock)
    faults: list[DiskFaultError] = []
    registry.database.on_fault(faults.append)

    def fail(connection: object) -> None:
        cause = sqlite3.OperationalError("of the disk")
        cause.sqlite_errorcode = code
        raise OperationalError("INSERT", {}, cause)

    with pytest.raises(error, match=told):
        await registry.database.write(fail)
    assert len(faults) == (error is DiskFaultError), "a failed fsync ends the process"
    await registry.close()


async def test_changes_that_come_together_are_one_transaction_and_each_stands_alone(registry: Registry) -> None:
    """One that fails undoes nothing of its neighbours; all have the order in which they came."""
    names = [Name(f"press-{n}") for n in range(40)]
    impossible = msgspec.convert({"tags": {"a b": 1}}, Change)
    possible = msgspec.convert({"tags": {"a": 1}}, Change)
    told: list[str] = []
    registry.watch(lambda happened: told.extend(each.name.device for each in happened))
    outcomes = await asyncio.gather(
        *(registry.put(name, impossible if n % 3 == 1 else possible) for n, name in enumerate(names)),
        return_exceptions=True,
    )
    for n, (name, outcome) in enumerate(zip(names, outcomes, strict=True)):
        assert isinstance(outcome, DeviceError) is (n % 3 == 1)
        assert (await registry.find(name) is None) is (n % 3 == 1)
    assert told == [name.device for n, name in enumerate(names) if n % 3 != 1]


async def test_a_full_disk_undoes_all_that_would_have_been_committed_together(
    tmp_path: Path, clock: VirtualClock
) -> None:
    registry = await Registry.open("", tmp_path, clock)

    def fail(connection: object) -> None:
        cause = sqlite3.OperationalError("of the disk")
        cause.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise OperationalError("INSERT", {}, cause)

    together = [registry.put(PRESS, Change()), registry.database.write(fail), registry.put(Name("press-2"), Change())]
    outcomes = await asyncio.gather(*together, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DiskFullError] * 3
    assert await registry.page() == []
    await registry.put(PRESS, Change())
    await registry.close()
