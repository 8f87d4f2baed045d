"""What several groups gave up of an event is one case, as long as it is the same that happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from millstream.event import Event
from millstream.ledger import letter as names
from millstream.ledger.cases import Cases
from millstream.ledger.deadletters import Resolution
from millstream.ledger.letter import Letter

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def letter(offset: int, group: str, origin: int, reason: str = "no JSON", *, partition: int = 0) -> Letter:
    """The dead letter at an offset, of the event at `origin`; letters are a second apart."""
    headers = {names.GROUP: group, names.REASON: reason, names.STREAM: "telemetry"}
    headers |= {names.PARTITION: str(partition), names.OFFSET: str(origin)}
    event = Event(topic="site/a/press-1", headers=headers)
    event.partition, event.offset, event.time = partition, offset, BEGIN + timedelta(seconds=offset)
    return Letter(event)


def found(cases: Cases) -> list[tuple[str, list[str]]]:
    return [(case.name, list(case.groups)) for case in cases.last()]


def test_letters_of_an_event_are_a_case_and_those_of_others_are_not() -> None:
    cases = Cases(9)
    for offset, group in enumerate(("hot", "cold")):
        cases.add(letter(offset, group, 7), None)
    cases.add(letter(2, "hot", 8), None)
    assert found(cases) == [("telemetry:0:7", ["hot", "cold"]), ("0:2", ["hot"])]


def test_another_reason_is_another_case() -> None:
    cases = Cases(9)
    cases.add(letter(0, "hot", 7), None)
    cases.add(letter(1, "cold", 7, "no time"), None)
    assert found(cases) == [("0:0", ["hot"]), ("0:1", ["cold"])]


def test_what_was_resolved_together_is_a_case_and_what_is_open_another() -> None:
    dropped = [Resolution(f"0:{offset}", "dropped", time=BEGIN) for offset in range(2)]
    cases = Cases(9)
    for offset, (group, done) in enumerate(zip(("hot", "cold", "new"), (*dropped, None), strict=True)):
        cases.add(letter(offset, group, 7), done)
    assert found(cases) == [("telemetry:0:7", ["hot", "cold"]), ("0:2", ["new"])]
    assert [case.done for case in cases.last()] == [dropped[0], None]


def test_the_last_ones_of_all_partitions_are_kept() -> None:
    cases = Cases(2)
    for offset in range(4):
        for partition in range(2):
            cases.add(letter(offset, "hot", offset, partition=partition), None)
    cases.add(letter(4, "cold", 2, partition=1), None)
    assert found(cases) == [("1:3", ["hot"]), ("telemetry:1:2", ["hot", "cold"])]
