"""The crash test's checks do find what they are there to find."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from tests.crash.check import check_acknowledged, check_answered, check_handlers, check_ledger, check_sums
from tests.crash.device import Device

from millstream.event import Event
from millstream.ledger.names import GATEWAY
from millstream.log import Accounts, GroupAccount, GroupStatus, StreamAccount


def reading(seq: int, offset: int, ts: str = "2026-01-01T00:00:00.5Z") -> Event:
    payload = json.dumps({"seq": seq, "ts": ts}).encode()
    return Event(topic="t", key="press-1", payload=payload, stream="telemetry", partition=0, offset=offset)


def output(position: str) -> Event:
    return Event(topic="t", key="press-1", payload=json.dumps({"position": position}).encode())


def device() -> Device:
    """A device that sent 0, 1 and 2 once, and 3 twice; 1 was not acknowledged."""
    found = Device("press-1", 0, stubborn=False)
    found.sent.update({0: 1, 1: 1, 2: 1, 3: 2})
    found.acknowledged |= {0, 2, 3}
    return found


@pytest.mark.parametrize("seqs", [[0, 1, 2, 3], [0, 2, 3], [0, 2, 3, 3], [0, 1, 2, 3, 2][:4]])
def test_what_may_be_stored(seqs: list[int]) -> None:
    check_acknowledged([reading(seq, offset) for offset, seq in enumerate(seqs)], [device()])


@pytest.mark.parametrize(
    ("seqs", "told"),
    [
        ([0, 1, 3], "1 acknowledged events are lost, the first is 2"),
        ([0, 2, 2, 3], "more often than they were sent"),
        ([0, 2, 3, 3, 3], "more often than they were sent"),
        ([0, 2, 3, 4], "more often than they were sent"),
        ([0, 2, 1, 3], "out of order"),
    ],
)
def test_what_may_not_be_stored(seqs: list[int], told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        check_acknowledged([reading(seq, offset) for offset, seq in enumerate(seqs)], [device()])


@pytest.mark.parametrize(
    ("offsets", "told"),
    [([0, 1, 1, 2], "outputs twice"), ([0, 2], "no output for 1 events"), ([1, 0, 2], "out of order"), ([], "echoes")],
)
def test_what_handlers_may_not_put_out(offsets: list[int], told: str) -> None:
    inputs = [reading(seq, seq) for seq in range(3)]
    assert check_handlers(inputs, [output(event.position) for event in inputs], "echoes") == 3
    with pytest.raises(AssertionError, match=told):
        check_handlers(inputs, [output(f"telemetry:0:{offset}") for offset in offsets], "echoes")


def test_what_a_join_of_two_streams_may_not_put_out() -> None:
    def row(seq: int, offset: int) -> Event:
        payload = json.dumps({"seq": seq, "position": f"telemetry:0:{offset}"}).encode()
        return Event(topic="t", key="press-1", payload=payload)

    inputs = [reading(1, 0), reading(2, 1), reading(2, 2)]
    echoes = [row(1, 0), row(2, 1), row(2, 2)]
    assert check_answered(inputs, echoes, [row(1, 0), row(2, 1), row(2, 1), row(2, 2), row(2, 2)]) == 5
    with pytest.raises(AssertionError, match="too many"):
        check_answered(inputs, echoes, [row(1, 0), row(1, 0), row(2, 1), row(2, 1), row(2, 2), row(2, 2)])
    with pytest.raises(AssertionError, match="missing"):
        check_answered(inputs, echoes, [row(1, 0), row(2, 1), row(2, 2), row(2, 2)])


def test_what_is_neither_in_a_result_nor_late_is_found() -> None:
    events = [reading(1, 0), reading(2, 1), reading(3, 2, "2026-01-01T00:00:01.5Z")]
    end = "2026-01-01T00:00:01Z"
    check_sums(events, [], {"press-1": [{"n": 2, "total": 3, "window_end": end}]})
    check_sums(events, [events[1]], {"press-1": [{"n": 1, "total": 1, "window_end": end}]})
    wrong: list[Callable[[], None]] = [
        lambda: check_sums(events, [], {"press-1": [{"n": 1, "total": 1, "window_end": end}]}),
        lambda: check_sums(events, [], {"press-1": [{"n": 2, "total": 4, "window_end": end}]}),
        lambda: check_sums(events, [events[0]], {"press-1": [{"n": 2, "total": 3, "window_end": end}]}),
        lambda: check_sums(events, [], {}),
    ]
    for case in wrong:
        with pytest.raises(AssertionError):
            case()


def accounts(committed: int, received: int, stored: int) -> Accounts:
    counts = {"received": received, "committed": committed, "duplicates": received - committed}
    return Accounts(
        {"telemetry": StreamAccount("telemetry", stored, 0, {GATEWAY: stored})},
        {GATEWAY: GroupAccount(GroupStatus(GATEWAY, 0, {}, {}, counts), {}, 0, {})},
    )


def test_an_event_that_the_gateway_did_not_count_is_found() -> None:
    check_ledger(accounts(committed=4, received=5, stored=4), 4, [device()])
    for wrong in (accounts(3, 5, 4), accounts(4, 5, 3), accounts(2, 2, 2)):
        with pytest.raises(AssertionError):
            check_ledger(wrong, 4, [device()])
