"""Any call to the disk fails: the log's user gets one of its errors, nothing is acknowledged after it, and the next
start finds everything that was."""

from __future__ import annotations

import shutil
from pathlib import Path

import apsw
import pytest
from tests.faults.sample import sample
from tests.faults.script import SCRIPT, Player, Promised, check
from tests.support.disk import Disk, Fault, disk, nothing

from millstream.errors import DataFolderError, DiskFaultError, LogError


async def calls_of_the_script(tmp_path: Path) -> list[str]:
    with disk() as made:
        await played(tmp_path / "sound", made)
        return made.calls


async def played(folder: Path, made: Disk) -> Promised:
    """Play the script; then leave beside `folder` what a process that ends leaves, and what a power cut would."""
    player = Player(folder, made)
    try:
        promised = await player.play(SCRIPT)
        shutil.copytree(folder, folder.with_name("ended"), dirs_exist_ok=True)
        made.after_power_cut(len(made.changes), folder.with_name("cut"), nothing)
        return promised
    finally:
        await player.close()


@pytest.mark.parametrize(
    "kind",
    [Fault(0), Fault(0, lasting=True), Fault(0, short=True, only="xWrite"), Fault(0, only="xSync")],
    ids=["once", "from then on", "half a write", "a sync"],
)
async def test_at_every_call(tmp_path: Path, kind: Fault) -> None:
    total = len(await calls_of_the_script(tmp_path))
    errors: set[type[LogError]] = set()
    for at in sample(total, 12):
        folder = tmp_path / str(at)
        with disk(Fault(at, kind.error, kind.lasting, kind.short, kind.only)) as made:
            try:
                promised = await played(folder / "data", made)
                if made.struck and promised.error is not None:
                    errors.add(type(promised.error))
                for left in ("ended", "cut"):
                    await check(folder / left, promised)
            except BaseException as error:
                error.add_note(f"call {at}: {made.calls[at : at + 1]}")
                raise
    assert DiskFaultError in errors
    assert errors <= {DiskFaultError, DataFolderError, LogError}


async def test_a_full_disk_at_every_write(tmp_path: Path) -> None:
    """There is no room until somebody makes some: everything waits, and is done when there is."""
    total = len(await calls_of_the_script(tmp_path))
    for at in sample(total, 12):
        folder = tmp_path / str(at)
        with disk(Fault(at, apsw.FullError, lasting=True, only="xWrite")) as made:
            try:
                promised = await played(folder / "data", made)
                assert promised.error is None
                attempted = sum(map(len, promised.attempted.values()))
                assert len(promised.acknowledged) == attempted > 0
                for left in ("ended", "cut"):
                    await check(folder / left, promised)
            except BaseException as error:
                error.add_note(f"call {at}: {made.calls[at : at + 1]}")
                raise
