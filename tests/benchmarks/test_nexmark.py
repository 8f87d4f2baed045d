"""The events of NEXMark, and what must come of them."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from benchmarks import nexmark_events
from benchmarks.nexmark_events import Bids, Trades


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bids:
    monkeypatch.setattr(nexmark_events, "CACHE", tmp_path)
    return nexmark_events.make(30_000)


@pytest.fixture
def made_trades(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trades:
    monkeypatch.setattr(nexmark_events, "CACHE", tmp_path)
    monkeypatch.setattr(nexmark_events, "_EVENTS_A_SECOND", 100)
    monkeypatch.setattr(nexmark_events, "_HOUSES", 2)  # each has something in every other second
    return nexmark_events.make_trades(4_000)  # of forty seconds


def test_bids_are_as_the_specification_shares_them_out(made: Bids) -> None:
    lines = made.whole.read_bytes().splitlines()
    bids = [json.loads(line) for line in lines]
    assert len(bids) == 30_000
    assert sorted(line for part in made.parts.iterdir() for line in part.read_bytes().splitlines()) == sorted(lines)
    assert [nexmark_events.key_of(line) for line in lines] == [str(bid["bidder"]) for bid in bids]
    hot_auctions = sum(bid["auction"] % 100 == 0 for bid in bids) / len(bids)
    hot_bidders = sum(bid["bidder"] % 100 == 1 for bid in bids) / len(bids)
    assert 0.48 < hot_auctions < 0.55 and 0.73 < hot_bidders < 0.78
    assert all(100 <= bid["price"] <= 100_000_000 for bid in bids)
    times = [bid["dateTime"] for bid in bids]
    assert times == sorted(times)
    assert not any(time.endswith(":00:00.000Z") for time in times)


def test_windows_that_are_wanted_are_closed_by_a_later_bid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nexmark_events, "CACHE", tmp_path)
    monkeypatch.setattr(nexmark_events, "_EVENTS_A_SECOND", 500)
    made = nexmark_events.make(30_000)  # of a minute
    windows: dict[int, list[int]] = {}
    for bidder, count in nexmark_events.expected(made, "q12"):
        windows.setdefault(cast(int, bidder), []).append(cast(int, count))
    times: dict[int, list[str]] = {}
    for line in made.whole.read_text().splitlines():
        bid = json.loads(line)
        times.setdefault(bid["bidder"], []).append(bid["dateTime"][:18])  # of which ten seconds: none is on a boundary
    wanted = {bidder: [*Counter(its).values()][:-1] for bidder, its in times.items() if len(set(its)) > 1}
    assert {bidder: sorted(counts) for bidder, counts in windows.items()} == {
        bidder: sorted(counts) for bidder, counts in wanted.items()
    }
    assert len(wanted) > 100


def test_wanted_answers_are_those_of_each_bid(made: Bids) -> None:
    assert len(nexmark_events.expected(made, "q0")) == 30_000
    chosen = nexmark_events.expected(made, "q2")
    assert 0 < len(chosen) < 3_000
    assert all(row[0] % nexmark_events.MODULUS == 0 for row in chosen if isinstance(row[0], int))


def test_hot_auctions_highest_bids_and_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nexmark_events, "CACHE", tmp_path)
    monkeypatch.setattr(nexmark_events, "_EVENTS_A_SECOND", 500)
    made = nexmark_events.make(30_000)  # of a minute
    bids = [json.loads(line) for line in made.whole.read_text().splitlines()]
    highest = nexmark_events.expected(made, "q7")
    assert len(highest) == 6
    assert max(cast(int, price) for _, price, _ in highest) == max(
        bid["price"] for bid in bids if bid["dateTime"][14:16] < "01"
    )
    hot = nexmark_events.expected(made, "q5")
    assert len(hot) == 31
    assert all(cast(int, auction) % 100 == 0 for auction, _ in hot)
    sessions = nexmark_events.expected(made, "q11")
    assert sum(cast(int, count) for _, count in sessions) == 30_000


def test_people_and_auctions_are_as_the_specification_shares_them_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nexmark_events, "CACHE", tmp_path)
    made = nexmark_events.make_market(40_000)
    lines = made.whole.read_bytes().splitlines()
    events = [json.loads(line) for line in lines]
    people = [event for event in events if "seller" not in event]
    auctions = [event for event in events if "seller" in event]
    assert (len(people), len(auctions)) == (10_000, 30_000)
    assert [nexmark_events.kind_of(line) for line in lines[:5]] == ["person", "auction", "auction", "auction", "person"]
    assert [nexmark_events.key_of(line) for line in lines] == [str(e.get("seller", e["id"])) for e in events]
    assert [event["id"] for event in people] == list(range(1_000, 11_000))
    assert [event["id"] for event in auctions] == list(range(1_000, 31_000))
    assert all(auction["dateTime"] <= auction["expires"] for auction in auctions)
    hot = sum(auction["seller"] % 100 == 0 for auction in auctions) / len(auctions)
    assert 0.73 < hot < 0.78
    came = {person["id"]: datetime.fromisoformat(person["dateTime"]) for person in people}
    apart = [datetime.fromisoformat(e["dateTime"]) - came[e["seller"]] for e in auctions if e["seller"] in came]
    assert min(apart) < timedelta() and max(map(abs, apart)) < timedelta(seconds=10)  # what query 3 is bounded by here


def test_wanted_sellers_live_in_the_states_and_sell_what_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nexmark_events, "CACHE", tmp_path)
    made = nexmark_events.make_market(40_000)
    found = nexmark_events.expected(made, "q3")
    assert 2_000 < len(found) < 4_000  # half of the people, a fifth of the auctions
    assert {row[2] for row in found} == {"OR", "ID", "CA"}
    assert len(nexmark_events.expected(made, "q8")) > 10


def test_trades_are_auctions_and_their_bids_with_a_house(made_trades: Trades) -> None:
    lines = made_trades.whole.read_bytes().splitlines()
    events = [json.loads(line) for line in lines]
    assert len(events) == 4_000
    auctions = {event["id"]: event for event in events if "id" in event}
    assert len(auctions) == pytest.approx(4_000 * 3 / 49, abs=3)
    assert [nexmark_events.key_of(line) for line in lines] == [str(event["house"]) for event in events]
    assert {nexmark_events.kind_of(line) for line in lines} == {"trade"}
    bids = [event for event in events if "id" not in event]
    assert all(bid["house"] == auctions[bid["auction"]]["house"] for bid in bids if bid["auction"] in auctions)
    open_for = [
        datetime.fromisoformat(auction["expires"]) - datetime.fromisoformat(auction["dateTime"])
        for auction in auctions.values()
    ]
    assert max(open_for) <= timedelta(milliseconds=400)  # what query 4 is bounded by


async def test_what_auctions_went_for_is_what_the_plain_loop_finds(
    made_trades: Trades, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXMARK", "q4")
    app = importlib.reload(importlib.import_module("benchmarks.nexmark_app")).app
    async with app.test(start=datetime(2025, 1, 2, tzinfo=UTC)) as plant:
        for line in made_trades.whole.read_bytes().splitlines():
            await plant.publish(f"nexmark/trade/{nexmark_events.key_of(line)}", line)
        await plant.advance("2m")
        found = [(one.data["category"], one.data["average"], one.data["auctions"]) for one in plant.stream("answers")]
    wanted = nexmark_events.expected(made_trades, "q4")
    assert len(wanted) >= 5
    assert set(wanted) <= set(found)
    assert sum(cast(int, count) for *_, count in found) > sum(cast(int, count) for *_, count in wanted)
