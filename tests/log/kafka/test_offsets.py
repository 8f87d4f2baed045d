"""What stands with committed offsets, without a broker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from millstream.log.kafka.names import Names
from millstream.log.kafka.offsets import (
    LONGEST,
    Counts,
    Place,
    from_runs,
    pack,
    to_runs,
    unpack_counts,
    unpack_place,
)


@given(st.integers(0, 1 << 40), st.sets(st.integers(1, 200), max_size=80))
def test_runs_are_the_offsets(low: int, above: set[int]) -> None:
    done = tuple(sorted(low + each for each in above))
    assert from_runs(low, to_runs(low, done)) == done


def test_what_is_too_long_for_metadata_is_a_chunk() -> None:
    short = Place("id", 3, [1, 2], 5)
    assert pack(short)[1] is None
    assert unpack_place(pack(short)[0]) == short
    long = Place("id", 3, to_runs(0, range(1, 4 * LONGEST, 2)), 5)
    metadata, chunk = pack(long)
    assert len(metadata) <= LONGEST
    assert unpack_place(metadata) == Place("id", 3, [], 5, chunk=True)
    assert unpack_place((chunk or b"").decode()) == long
    counts = Counts({f"name {number}": number for number in range(1000)})
    metadata, chunk = pack(counts)
    assert unpack_counts(metadata) == Counts(chunk=True)
    assert unpack_counts((chunk or b"").decode()) == counts


def test_metadata_of_other_programs_are_as_none() -> None:
    for metadata in (None, "", "free text", "[1]", '{"s": 1}'):
        assert unpack_place(metadata) == Place()
        assert unpack_counts(metadata) == Counts()


def test_names_are_legal_and_differ() -> None:
    names = Names("plant-")
    assert names.topic("telemetry") == "plant-telemetry"
    assert names.topic("$sessions") == "plant-_24_sessions"
    assert names.state("plant.door_opened") == "plant-millstream.state.plant.door_opened"
    long = {names.topic("x" * length) for length in range(240, 600)}
    assert len(long) == 360
    assert max(len(name) for name in long) == 249
    assert names.group_of(names.group("g")) == "g"
    assert names.group_of("other") is None
