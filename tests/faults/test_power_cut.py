"""The power is cut after any write, sync or deletion: what was acknowledged by then is there, and the processor goes on
as if nothing had happened."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.faults.sample import ALL, sample
from tests.faults.script import SCRIPT, Player, Promised, Step, check
from tests.support.disk import Disk, Survivors, all_of_it, disk, nothing, some_sectors

STEPS = st.one_of(
    st.tuples(st.just("one"), st.sampled_from([10, 5_000, 20_000])),
    st.tuples(st.just("many"), st.integers(2, 5)),
    st.tuples(st.just("bounded"), st.integers(1, 6)),
    st.tuples(st.just("process"), st.just(1)),
    st.tuples(st.just("tick"), st.just(1)),
    st.tuples(st.just("reopen"), st.just(1)),
)


async def played(folder: Path, made: Disk, script: list[Step]) -> Promised:
    player = Player(folder, made)
    try:
        return await player.play(script)
    finally:
        await player.close()


@pytest.mark.parametrize("survivors", [nothing, all_of_it, some_sectors(Random(1))], ids=["nothing", "all", "some"])
async def test_at_every_change_of_the_disk(tmp_path: Path, survivors: Survivors) -> None:
    with disk() as made:
        promised = await played(tmp_path / "data", made, list(SCRIPT))
        assert promised.error is None
    kinds = {(change.kind, change.file) for change in made.changes}
    assert {("sync", "log.db-wal"), ("sync", "log.db"), ("unlink", "log.db-wal")} <= kinds, "the script has become tame"
    for at in sample(len(made.changes) + 1, 12):
        folder = tmp_path / f"after {at}"
        made.after_power_cut(at, folder, survivors)
        await _check(folder, promised.by(at), f"{survivors} survived a power cut after {at} changes")


async def _check(folder: Path, promised: Promised, when: str) -> None:
    try:
        await check(folder, promised)
    except BaseException as error:
        error.add_note(when)
        raise


@given(script=st.lists(STEPS, max_size=12), moment=st.floats(0, 1), seed=st.none() | st.integers(0, 1_000))
@settings(max_examples=500 if ALL else 15, deadline=None)
def test_whatever_was_done(script: list[Step], moment: float, seed: int | None) -> None:
    async def run(folder: Path) -> None:
        with disk() as made:
            promised = await played(folder / "data", made, script)
            assert promised.error is None
        at = round(moment * len(made.changes))
        made.after_power_cut(at, folder / "after", nothing if seed is None else some_sectors(Random(seed)))
        await check(folder / "after", promised.by(at))

    with TemporaryDirectory() as name:
        asyncio.run(run(Path(name)))


async def test_twice(tmp_path: Path) -> None:
    """The power is cut while the log recovers from a power cut, at any change that recovering makes."""
    with disk() as first:
        promised = await played(tmp_path / "data", first, list(SCRIPT))
    for at in sample(len(first.changes), 3):
        once = tmp_path / f"once {at}"
        first.after_power_cut(at, once, some_sectors(Random(at)))
        with disk() as second:
            player = Player(once, second)
            recovered = await player.play([])
            await player.close()
            assert recovered.error is None
        for again in sample(len(second.changes), 5):
            twice = tmp_path / f"twice {at} {again}"
            second.after_power_cut(again, twice, nothing)
            await _check(twice, promised.by(at), f"after {at} changes, and {again} of recovering")
