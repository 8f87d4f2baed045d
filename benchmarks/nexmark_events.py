"""The bids of NEXMark: an auction house, whose people open auctions and bid on them.

Made as Apache Beam's generator makes them, which is the reference for the benchmark today ("NEXMark: a benchmark for
queries over data streams", Tucker et al., 2002; Beam's `nexmark/sources/generator`): of 50 events one is a person,
three are auctions and 46 are bids. Half of the bids go to the latest hundredth auction, three quarters come from the
latest hundredth person, the others from any that is active; and so do the auctions. Sellers may be up to ten people
ahead of who has come. A query reads bids, or people and auctions, or auctions and bids, so these are in files of their
own, each with as many lines as are wanted; as JSON they have some 200 bytes (auctions 500), filled up as Beam's are.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from benchmarks.lines import Lines, write
from benchmarks.peers import CACHE

WINDOW_SECONDS, HOP_SECONDS = 10, 2
MODULUS = 123  # of the auctions that query 2 chooses

_EPOCH = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
_EVENTS_A_SECOND = 10_000  # of all kinds
_PERSONS, _AUCTIONS, _OF = 1, 3, 50
_FIRST_PERSON = _FIRST_AUCTION = 1_000
_ACTIVE_PEOPLE, _OPEN_AUCTIONS, _LEAD = 1_000, 100, 10
_HOT_EVERY = 100  # the id of a hot auction or bidder is a multiple of it
_CHANNELS = ("Google", "Facebook", "Baidu", "Apple")
_CATEGORIES = range(10, 15)
_SELLING = 100 * _OF // _AUCTIONS // (_EVENTS_A_SECOND // 1000)  # ms, in which a hundred auctions are opened
_FIRST_NAMES = ("Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter")
_LAST_NAMES = ("Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris")
_STATES = ("AZ", "CA", "ID", "OR", "WA", "WY")
_CITIES = (
    *("Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent"),
    "Cheyenne",
)
_HOUSES, _IN_A_ROW = 64, 7  # so many houses, each of which opens so many auctions and then lets the others
_EXTRA = "abcdefghijklmnopqrstuvwxyz" * 20


class Bids(Lines):
    """Where they are. A line begins with the bidder, so that it can be told without decoding: `key_of`."""


class Market(Lines):
    """People and auctions. A line begins with the person, or the seller of the auction."""


class Trades(Lines):
    """Auctions and their bids, with the house in which they take place."""


def make(count: int) -> Bids:
    """That many bids, from the cache or made now."""
    bids = Bids(count, CACHE.absolute() / "nexmark" / str(count))
    write(bids, lambda: _lines(count))
    return bids


def make_market(count: int) -> Market:
    """That many people and auctions, from the cache or made now."""
    market = Market(count, CACHE.absolute() / "nexmark" / f"market-{count}")
    write(market, lambda: _market(count))
    return market


def make_trades(count: int) -> Trades:
    """That many auctions and bids, from the cache or made now."""
    trades = Trades(count, CACHE.absolute() / "nexmark" / f"trades-{count}")
    write(trades, lambda: _trades(count))
    return trades


def made_for(query: str, count: int) -> Lines:
    """That many of the events that a query reads."""
    if query == "q4":
        return make_trades(count)
    return make_market(count) if query in ("q3", "q8") else make(count)


def kind_of(line: bytes) -> str:
    """What a line is."""
    return {b"b": "bid", b"i": "person", b"s": "auction", b"h": "trade"}[line[2:3]]


def key_of(line: bytes) -> str:
    """Who bids, sells or has come, or the house: what is in the topic of a line."""
    return line[line.index(b":") + 1 : line.index(b",")].decode()


def _market(count: int) -> Iterator[tuple[int, str]]:
    chance = random.Random(count)
    for made in range(count):
        epoch, rest = divmod(made, _PERSONS + _AUCTIONS)
        number = epoch * _OF + rest
        yield _person(chance, number, epoch) if rest < _PERSONS else _auction(chance, number, epoch, rest - _PERSONS)


def _person(chance: random.Random, number: int, epoch: int) -> tuple[int, str]:
    person = _FIRST_PERSON + epoch
    name = f"{chance.choice(_FIRST_NAMES)} {chance.choice(_LAST_NAMES)}"
    card = " ".join(f"{chance.randrange(10_000):04}" for _ in range(4))
    return person, (
        f'{{"id":{person},"name":"{name}","emailAddress":"{name[:3]}{person}@example.com","creditCard":"{card}",'
        f'"city":"{chance.choice(_CITIES)}","state":"{chance.choice(_STATES)}","dateTime":"{_moment(number)}",'
        f'"extra":"{_EXTRA[:30]}"}}\n'
    )


def _auction(chance: random.Random, number: int, epoch: int, place: int) -> tuple[int, str]:
    """The auction that is the event of this number, and this one of its epoch."""
    auction = _FIRST_AUCTION + epoch * _AUCTIONS + place
    seller = epoch // _HOT_EVERY * _HOT_EVERY if chance.randrange(4) else _anybody(chance, epoch)
    seller += _FIRST_PERSON
    price = round(10 ** (chance.random() * 6) * 100)
    ends = number + chance.randrange(1, 2 * _SELLING) * _EVENTS_A_SECOND // 1000
    return seller, (
        f'{{"seller":{seller},"id":{auction},"itemName":"item {auction}",'
        f'"description":"{_EXTRA[: chance.randrange(200)]}",'
        f'"initialBid":{price},"reserve":{price + round(10 ** (chance.random() * 6) * 100)},'
        f'"dateTime":"{_moment(number)}","expires":"{_moment(ends)}","category":{chance.choice(_CATEGORIES)},'
        f'"extra":"{_EXTRA[: chance.randrange(150, 250)]}"}}\n'
    )


def _lines(count: int) -> Iterator[tuple[int, str]]:
    chance = random.Random(count)
    number = made = 0
    while made < count:
        epoch, rest = divmod(number, _OF)
        if rest >= _PERSONS + _AUCTIONS:
            made += 1
            yield _bid(chance, number, epoch)
        number += 1


def _trades(count: int) -> Iterator[tuple[int, str]]:
    chance = random.Random(count)
    number = made = 0
    while made < count:
        epoch, rest = divmod(number, _OF)
        if rest >= _PERSONS:
            made += 1
            is_auction = rest < _PERSONS + _AUCTIONS
            _, line = _auction(chance, number, epoch, rest - _PERSONS) if is_auction else _bid(chance, number, epoch)
            auction = int(line.partition('"id":' if is_auction else '"auction":')[2].partition(",")[0])
            house = auction // _IN_A_ROW % _HOUSES
            yield house, f'{{"house":{house},{line[1:]}'
        number += 1


def _bid(chance: random.Random, number: int, epoch: int) -> tuple[int, str]:
    """The bid that is the event of this number. An epoch has one person and three auctions, which precede its bids."""
    last_person, last_auction = epoch * _PERSONS, epoch * _AUCTIONS + _AUCTIONS - 1
    if chance.randrange(2):
        auction = last_auction // _HOT_EVERY * _HOT_EVERY
    else:
        auction = chance.randint(max(0, last_auction - _OPEN_AUCTIONS), last_auction)
    hot = last_person // _HOT_EVERY * _HOT_EVERY + 1
    bidder = hot if chance.randrange(4) else _anybody(chance, last_person)
    hot_channel = chance.randrange(2)
    channel = chance.choice(_CHANNELS) if hot_channel else f"channel-{chance.randrange(10_000)}"
    price = round(10 ** (chance.random() * 6) * 100)
    bidder, auction = _FIRST_PERSON + bidder, _FIRST_AUCTION + auction
    start = chance.randrange(26)
    return bidder, (
        f'{{"bidder":{bidder},"auction":{auction},"price":{price},"channel":"{channel}",'
        f'"url":"https://www.nexmark.com/{channel}/item.htm?query=1","dateTime":"{_moment(number)}",'
        f'"extra":"{_EXTRA[start : start + 30]}"}}\n'
    )


def _anybody(chance: random.Random, last: int) -> int:
    """Somebody who is active when this person is the last one, or comes soon."""
    return max(0, last - _ACTIVE_PEOPLE) + chance.randrange(min(last, _ACTIVE_PEOPLE) + _LEAD)


def _moment(number: int) -> str:
    """The time of the event of this number."""
    second, millisecond = divmod(number * 1000 // _EVENTS_A_SECOND, 1000)
    millisecond += millisecond == 0  # on no boundary of windows, which belongs to the earlier one here, elsewhere not
    return f"{datetime.fromtimestamp(_EPOCH + second, UTC):%Y-%m-%dT%H:%M:%S}.{millisecond:03}Z"


Row = tuple[object, ...]


def expected(bids: Lines, query: str) -> list[Row]:
    """What must come of a query, computed in the plainest way, sorted. Of windows those that a later bid (of the same
    bidder, where they are a bidder's) closes; of sessions all."""
    with bids.whole.open() as lines:
        events = [json.loads(line) for line in lines]
    for event in events:
        event["dateTime"] = datetime.fromisoformat(event["dateTime"]).timestamp()
    rows: list[Row]
    if query == "q0":
        rows = [(e["auction"], e["bidder"], e["price"], e["dateTime"], e["extra"]) for e in events]
    elif query == "q1":
        rows = [(e["auction"], e["bidder"], round(e["price"] * 0.908, 3), e["dateTime"], e["extra"]) for e in events]
    elif query == "q2":
        rows = [(e["auction"], e["price"]) for e in events if e["auction"] % MODULUS == 0]
    elif query == "q3":
        rows = _local_items(events)
    elif query == "q4":
        rows = _averages(events)
    elif query == "q8":
        rows = _new_sellers(events)
    elif query == "q5":
        rows = _hot((e["auction"], e["dateTime"]) for e in events)
    elif query == "q7":
        rows = _highest(events)
    elif query == "q11":
        rows = _sessions((e["bidder"], e["dateTime"]) for e in events)
    else:
        rows = _windows((e["bidder"], e["dateTime"]) for e in events)
    return sorted(rows)


def _local_items(events: list[dict[str, Any]]) -> list[Row]:
    """Of whoever lives in one of three states, everything of a category that they sell, whenever they do."""
    people = {e["id"]: e for e in events if "seller" not in e and e["state"] in ("OR", "ID", "CA")}
    sold = ((people.get(e["seller"]), e) for e in events if e.get("category") == _CATEGORIES[0])
    return [(person["name"], person["city"], person["state"], e["id"]) for person, e in sold if person]


def _averages(events: list[dict[str, Any]]) -> list[Row]:
    """Of each category the average of the highest bids of the auctions that end in each window, and how many these are;
    of a bid that came while its auction was open."""
    auctions = {
        e["id"]: {**e, "expires": datetime.fromisoformat(e["expires"]).timestamp()} for e in events if "id" in e
    }
    highest: dict[int, int] = {}
    for event in events:
        auction = auctions.get(event.get("auction", -1))
        if auction is not None and auction["dateTime"] <= event["dateTime"] <= auction["expires"]:
            highest[auction["id"]] = max(event["price"], highest.get(auction["id"], 0))
    windows: dict[tuple[int, int], list[int]] = defaultdict(list)
    for auction_id, price in highest.items():
        auction = auctions[auction_id]
        windows[-int(-auction["expires"] // WINDOW_SECONDS), auction["category"]].append(price)
    # the next window is over in every house, and a second of grace: each has something in every second
    last = (max(auctions[auction_id]["expires"] for auction_id in highest) - 2) // WINDOW_SECONDS
    return [(category, sum(its) / len(its), len(its)) for (end, category), its in windows.items() if end < last]


def _new_sellers(events: list[dict[str, Any]]) -> list[Row]:
    """Who comes and opens an auction in the same window, if something that they do later tells that it is over."""
    last: dict[int, int] = {}
    sold: set[tuple[int, int]] = set()
    came: dict[tuple[int, int], str] = {}
    for event in events:
        who = event.get("seller", event["id"])
        last[who] = end = -int(-event["dateTime"] // WINDOW_SECONDS)
        if "seller" in event:
            sold.add((who, end))
        else:
            came[who, end] = event["name"]
    return [(who, name) for (who, end), name in came.items() if (who, end) in sold and end < last[who]]


def _windows(bids: Iterator[tuple[int, float]]) -> list[Row]:
    counts: dict[tuple[int, int], int] = defaultdict(int)
    last: dict[int, int] = {}
    for bidder, moment in bids:
        end = -int(-moment // WINDOW_SECONDS) * WINDOW_SECONDS
        counts[bidder, end] += 1
        last[bidder] = end
    return [(bidder, count) for (bidder, end), count in counts.items() if end < last[bidder]]


def _hot(bids: Iterator[tuple[int, float]]) -> list[Row]:
    """The auction with the most bids in each window, the smallest of several."""
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    for auction, moment in bids:
        first = -int(-moment // HOP_SECONDS) * HOP_SECONDS
        for end in range(first, first + WINDOW_SECONDS, HOP_SECONDS):
            if end - WINDOW_SECONDS < moment:
                counts[end][auction] += 1
    last = max(counts) - WINDOW_SECONDS
    found = (min(its.items(), key=lambda item: (-item[1], item[0])) for end, its in counts.items() if end < last)
    return list(found)


def _highest(bids: list[dict[str, Any]]) -> list[Row]:
    """The first bid with the highest price in each window."""
    highest: dict[int, Any] = {}
    for bid in bids:
        end = -int(-bid["dateTime"] // WINDOW_SECONDS)
        if end not in highest or bid["price"] > highest[end]["price"]:
            highest[end] = bid
    last = max(highest)
    return [(bid["auction"], bid["price"], bid["bidder"]) for end, bid in highest.items() if end < last]


def _sessions(bids: Iterator[tuple[int, float]]) -> list[Row]:
    """All, also those that nothing ends: each bidder is there for a while only."""
    last: dict[int, float] = {}
    counts: Counter[int] = Counter()
    rows: list[Row] = []
    for bidder, moment in bids:
        if bidder in last and moment - last[bidder] > WINDOW_SECONDS:
            rows.append((bidder, counts.pop(bidder)))
        counts[bidder] += 1
        last[bidder] = moment
    return [*rows, *counts.items()]
