"""Consumer groups by HTTP: joining, sharing, committing, and what happens to who is silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from tests.support.gateway import Plant, limits
from tests.support.http import client_of, error_of
from tests.support.mqtt import PATIENCE

from millstream.event import Event, to_columns
from millstream.gateway import hash_password
from millstream.ledger.balance import group_equation
from millstream.log import Accounts, StreamSpec
from millstream.testing.rest import rest


@pytest.fixture
async def http(plant: Plant) -> AsyncIterator[httpx.AsyncClient]:
    await plant.start(http="127.0.0.1:0")
    async with client_of(plant) as client:
        yield client


async def append(plant: Plant, partition: int, *numbers: int, stream: str = "events") -> None:
    transaction = plant.log.transaction()
    events = [Event(topic="t", key="k", type="reading", payload=b"%d" % number) for number in numbers]
    transaction.append(stream, partition, to_columns(events))
    await transaction.commit()


class Member:
    """A client that is a member."""

    def __init__(self, http: httpx.AsyncClient, path: str) -> None:
        self.http = http
        self.path = path
        self.told = 0  # the number of the last poll that told something

    @classmethod
    async def join(cls, http: httpx.AsyncClient, group: str = "billing", **more: Any) -> Member:
        response = await http.post(f"/groups/{group}/members", json={"streams": ["events"], **more})
        assert response.status_code == 201, response.text
        assert response.headers["location"] == f"/groups/{quote(group)}/members/{response.json()['member']}"
        return cls(http, response.headers["location"])

    async def ask(self, what: str, **body: Any) -> httpx.Response:
        return await self.http.post(f"{self.path}/{what}", json=body)

    async def poll(self, **body: Any) -> dict[str, Any]:
        response = await self.ask("poll", **{"after": self.told, **body})
        assert response.status_code == 200, response.text
        told: dict[str, Any] = response.json()
        self.told = told["poll"]
        return told

    async def all_of(self, count: int) -> None:
        """Poll until so many events were told."""
        found = 0
        while found < count:
            found += sum(len(batch["events"]) for batch in (await self.poll(wait=5))["batches"])

    async def commit(self, partition: int, low: int, *done: int, **more: Any) -> httpx.Response:
        position = {"stream": "events", "partition": partition, "low": low, "done": done}
        return await self.ask("commit", positions=[position], **more)

    async def leave(self) -> None:
        assert (await self.http.delete(self.path)).status_code == 204


def numbers(told: dict[str, Any]) -> dict[int, list[int]]:
    """By partition."""
    return {batch["partition"]: [event["data"] for event in batch["events"]] for batch in told["batches"]}


def gained(told: dict[str, Any]) -> dict[int, tuple[int, list[int]]]:
    return {its["partition"]: (its["low"], its["done"]) for its in told["gained"]}


async def test_a_member_is_told_its_partitions_and_their_events(plant: Plant, http: httpx.AsyncClient) -> None:
    await append(plant, 0, 1, 2)
    member = await Member.join(http, start="earliest")
    told = await member.poll()
    assert list(told) == ["poll", "lost", "gained", "expired", "batches"]
    assert (told["poll"], told["lost"], told["expired"]) == (1, [], [])
    assert gained(told) == {0: (0, []), 1: (0, [])}
    while not told["batches"]:
        told = await member.poll()
    (batch,) = told["batches"]
    assert (batch["stream"], batch["partition"], batch["next_offset"]) == ("events", 0, 2)
    assert list(batch["events"][0]) == ["stream", "partition", "offset", "time", "topic", "key", "id", "data"]
    assert numbers(told) == {0: [1, 2]}


async def test_a_new_group_begins_at_the_latest_event(plant: Plant, http: httpx.AsyncClient) -> None:
    await append(plant, 0, 1)
    member = await Member.join(http)
    assert gained(await member.poll()) == {0: (1, []), 1: (0, [])}
    assert (await member.poll())["batches"] == []


async def test_a_poll_waits_for_events(plant: Plant, http: httpx.AsyncClient) -> None:
    member = await Member.join(http)
    await member.poll()
    waiting = asyncio.create_task(member.poll(wait=30, attributes=True))
    await rest()
    await append(plant, 1, 7)
    told = await waiting
    assert numbers(told) == {1: [7]}
    assert told["batches"][0]["events"][0]["type"] == "reading"
    waiting = asyncio.create_task(member.poll(wait=2))
    while not waiting.done():
        await plant.clock.advance(0.5)
    assert (await waiting)["batches"] == []


async def test_what_is_committed_is_where_the_next_member_goes_on(plant: Plant, http: httpx.AsyncClient) -> None:
    await append(plant, 0, *range(6))
    member = await Member.join(http, start="earliest")
    await member.all_of(6)
    response = await member.commit(0, 2, 3, 5, counts={"billed": 4})
    assert response.json() == {"time": "2026-01-01T00:00:00Z"}
    await member.leave()
    after = await Member.join(http, start="earliest")
    told = await after.poll()
    assert gained(told)[0] == (2, [3, 5])
    if not told["batches"]:
        told = await after.poll()
    assert numbers(told) == {0: [2, 4]}


async def test_groups_are_shown_with_their_positions_and_lag(plant: Plant, http: httpx.AsyncClient) -> None:
    await append(plant, 0, 1, 2, 3)
    member = await Member.join(http, "größe/a b", start="earliest")
    await member.all_of(3)
    await member.commit(0, 1, counts={"billed": 1})
    shown = {
        "group": "größe/a b",
        "members": 1,
        "counts": {"billed": 1, "processed": 1},
        "positions": [
            {"stream": "events", "partition": 0, "low": 1, "done": [], "lag": 2},
            {"stream": "events", "partition": 1, "low": 0, "done": [], "lag": 0},
        ],
    }
    assert (await http.get("/groups")).json() == {"groups": [shown]}
    assert (await http.get("/groups/größe/a b")).json() == shown
    await member.leave()
    assert (await http.get("/groups/größe/a b")).json() == {**shown, "members": 0}


async def test_members_share_the_partitions(plant: Plant, http: httpx.AsyncClient) -> None:
    one = await Member.join(http)
    assert set(gained(await one.poll())) == {0, 1}
    two = await Member.join(http)
    (lost,) = (await one.poll())["lost"]
    assert (await two.poll())["gained"] == []  # its owner has still to finish what is under way
    assert (await one.commit(lost, 0)).status_code == 200
    assert (await one.ask("release", partitions=[lost])).status_code == 204
    assert set(gained(await two.poll(wait=5))) == {lost}
    await append(plant, lost, 7)
    assert numbers(await two.poll(wait=5)) == {lost: [7]}
    assert (await one.poll())["batches"] == []
    await two.leave()
    told = await one.poll(wait=5)
    assert set(gained(told)) == {lost}


async def test_a_commit_of_what_was_lost_is_fenced(plant: Plant, http: httpx.AsyncClient) -> None:
    one = await Member.join(http)
    await one.poll()
    two = await Member.join(http)
    (lost,) = (await one.poll())["lost"]
    await one.ask("release", partitions=[lost])
    await two.poll()
    status, code, message = error_of(await one.commit(lost, 0))
    assert (status, code) == (409, "conflict")
    assert "forget it, and poll again" in message


async def test_a_silent_member_loses_its_partitions(plant: Plant, http: httpx.AsyncClient) -> None:
    one = await Member.join(http, lease=20)
    await one.poll()
    await plant.clock.advance(19)
    await one.poll(pause=True)  # a sign of life
    await plant.clock.advance(19)
    two = await Member.join(http)
    await two.poll()
    await plant.clock.advance(2)
    assert set(gained(await two.poll(wait=5))) == {0, 1}
    status, _, message = error_of(await one.ask("poll", after=1))
    assert (status, "silent for longer than its lease" in message) == (404, True)
    assert plant.statistics["readers"] == 1


async def test_who_waits_in_a_poll_is_not_silent(plant: Plant, http: httpx.AsyncClient) -> None:
    member = await Member.join(http, lease=5)
    await member.poll()
    waiting = asyncio.create_task(member.poll(wait=60))
    await rest()
    for _ in range(20):
        await plant.clock.advance(1)
    await append(plant, 0, 1)
    assert numbers(await waiting) == {0: [1]}


async def test_an_answer_that_was_lost_is_told_again(plant: Plant, http: httpx.AsyncClient) -> None:
    await append(plant, 0, 1, 2)
    member = await Member.join(http, start="earliest")
    first = await member.poll(after=0)
    assert await member.poll(after=0) == first
    second = await member.poll(after=first["poll"]) if not first["batches"] else first
    assert numbers(second) == {0: [1, 2]}
    assert await member.poll(after=second["poll"] - 1) == second
    nothing = await member.poll(after=second["poll"])
    assert (nothing["poll"], nothing["batches"]) == (second["poll"], [])
    assert error_of(await member.ask("poll", after=9))[:2] == (409, "conflict")


async def test_a_client_that_goes_while_it_waits_loses_nothing(plant: Plant, http: httpx.AsyncClient) -> None:
    member = await Member.join(http)
    await member.poll()
    waiting = asyncio.create_task(member.poll(wait=30))
    await rest()
    waiting.cancel()
    await append(plant, 0, 1)
    assert numbers(await member.poll(wait=5)) == {0: [1]}


async def test_a_stop_ends_polls_and_memberships(plant: Plant, http: httpx.AsyncClient) -> None:
    member = await Member.join(http)
    await member.poll()
    waiting = asyncio.create_task(member.poll(wait=30))
    await rest()
    await plant.gateway.stop()
    assert (await waiting)["batches"] == []
    (status,) = [status for status in await plant.log.groups() if status.name == "billing"]
    assert status.members == 0
    assert plant.statistics["readers"] == 0


async def test_members_count_as_readers(plant: Plant) -> None:
    await plant.start(http="127.0.0.1:0", limits=limits(readers=1))
    async with client_of(plant) as client:
        member = await Member.join(client)
        await member.poll()
        refused = await client.post("/groups/billing/members", json={"streams": ["events"]})
        assert error_of(refused)[:2] == (503, "unavailable")
        await member.leave()
        await Member.join(client)


JOINS: dict[str, tuple[str, Any, int, str]] = {
    "no streams": ("g", {"streams": []}, 400, "length >= 1"),
    "nothing at all": ("g", {}, 400, "missing required field `streams`"),
    "no such stream": ("g", {"streams": ["evnets"]}, 404, "there is no stream 'evnets'; there are: events"),
    "no such start": ("g", {"streams": ["events"], "start": "now"}, 400, "Invalid enum value 'now'"),
    "too long a lease": ("g", {"streams": ["events"], "lease": 301}, 400, "<= 300"),
    "a misspelt member": ("g", {"streams": ["events"], "leese": 30}, 400, "unknown field `leese`"),
    "a group of ours": ("$gateway", {"streams": ["events"]}, 400, "without a leading '$'"),
}


@pytest.mark.parametrize(("group", "body", "status", "text"), JOINS.values(), ids=JOINS)
async def test_what_cannot_be_joined(http: httpx.AsyncClient, group: str, body: Any, status: int, text: str) -> None:
    found, _, message = error_of(await http.post(f"/groups/{group}/members", json=body))
    assert (found, text in message) == (status, True), message


COMMITS: dict[str, tuple[dict[str, Any], int, str]] = {
    "back": ({"stream": "events", "partition": 0, "low": 0}, 400, "back from 1 to 0"),
    "beyond what was told": ({"stream": "events", "partition": 0, "low": 9}, 400, "told, which ends at 2; poll"),
    "not told": ({"stream": "events", "partition": 0, "low": 1, "done": [9]}, 400, "offset 9 in partition 0"),
    "no such stream": ({"stream": "evnets", "partition": 0, "low": 0}, 404, "evnets"),
    "below": ({"stream": "events", "partition": 0, "low": 1, "done": [1]}, 400, "offsets above it"),
    "in disorder": ({"stream": "events", "partition": 0, "low": 0, "done": [2, 1]}, 400, "ascending"),
    "negative": ({"stream": "events", "partition": 0, "low": -1}, 400, ">= 0"),
    "not owned": ({"stream": "events", "partition": 5, "low": 0}, 409, "partition 5"),
}


@pytest.mark.parametrize(("position", "status", "text"), COMMITS.values(), ids=COMMITS)
async def test_what_cannot_be_committed(
    plant: Plant, http: httpx.AsyncClient, position: dict[str, Any], status: int, text: str
) -> None:
    await append(plant, 0, 1, 2)
    member = await Member.join(http, start="earliest")
    await member.all_of(2)
    await member.commit(0, 1)
    found, _, message = error_of(await member.ask("commit", positions=[position]))
    assert (found, text in message) == (status, True), message
    assert gained(await (await Member.join(http, "other")).poll())


@pytest.mark.parametrize("name", ["processed", "$read"])
async def test_counts_of_ours_are_not_for_others(http: httpx.AsyncClient, name: str) -> None:
    member = await Member.join(http)
    status, _, message = error_of(await member.ask("commit", counts={name: 1}))
    assert (status, f"the count {name!r} is Millstream's own" in message) == (400, True)


async def test_the_ledger_balances(plant: Plant, http: httpx.AsyncClient) -> None:
    """What a group completes is counted once, however it is cut, repeated, out of order, or handed over."""
    await append(plant, 0, *range(10))
    await append(plant, 1, *range(5))
    one = await Member.join(http, start="earliest")
    await one.all_of(15)
    for low, done in ((0, (2, 4)), (3, (4, 6)), (3, (4, 6)), (7, ())):
        assert (await one.commit(0, low, *done)).status_code == 200
        check(await plant.log.accounts())
    await one.leave()
    two = await Member.join(http)
    await two.all_of(8)
    await two.commit(0, 10)
    await two.commit(1, 5)
    accounts = await plant.log.accounts()
    check(accounts)
    assert accounts.groups["billing"].status.counts == {"processed": 15}


async def test_what_retention_took_is_counted_as_expired(plant: Plant, http: httpx.AsyncClient) -> None:
    member = await Member.join(http, start="earliest")
    await member.leave()
    await append(plant, 0, *range(3))
    await plant.clock.advance(100)
    await append(plant, 0, 3)
    await plant.log.create(StreamSpec("events", ("#",), partitions=2, retention_age=timedelta(seconds=50)))
    async with asyncio.timeout(PATIENCE):
        while (await plant.log.bounds("events", 0)).first == 0:
            await plant.clock.advance(1)
    check(await plant.log.accounts())
    member = await Member.join(http)
    told = await member.poll()
    assert told["expired"] == [{"stream": "events", "partition": 0, "events": 3}]
    await member.all_of(1)
    assert (await member.commit(0, 4)).status_code == 200
    accounts = await plant.log.accounts()
    check(accounts)
    assert accounts.groups["billing"].status.counts == {"expired": 3, "processed": 1}


def check(accounts: Accounts) -> None:
    """The group's equation holds."""
    equation = group_equation(accounts.groups["billing"])
    assert equation.holds, str(equation)


async def test_a_member_that_commits_nothing_gets_no_more(
    plant: Plant, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.gateway.http.members._MOST_OUTSTANDING", 3)
    await append(plant, 0, *range(3))
    member = await Member.join(http, start="earliest")
    await member.all_of(3)
    await append(plant, 0, 3)
    assert (await member.poll())["batches"] == []
    await member.commit(0, 1)
    assert numbers(await member.poll(wait=5)) == {0: [3]}


async def test_what_is_not_there(http: httpx.AsyncClient) -> None:
    assert error_of(await http.get("/groups/nobody"))[:2] == (404, "not_found")
    for method, path in (("POST", "/poll"), ("POST", "/commit"), ("POST", "/release"), ("DELETE", "")):
        assert error_of(await http.request(method, f"/groups/g/members/m{path}"))[:2] == (404, "not_found")
    member = await Member.join(http)
    assert error_of(await http.post(f"{member.path}/poll", content=b"{"))[:2] == (400, "bad_request")
    assert "missing required field `after`" in error_of(await http.post(f"{member.path}/poll"))[2]
    assert error_of(await http.post(f"{member.path}/poll", headers={"Accept": "text/html"}))[0] == 406


async def test_a_member_is_its_users_own(plant: Plant) -> None:
    users = {name: hash_password(name) for name in ("ann", "bob")}
    rights = {"read": ["events"], "join": ["#"]}
    await plant.start(http="127.0.0.1:0", allow_anonymous=False, users=users, rights=rights)
    async with client_of(plant) as client:
        assert error_of(await client.get("/groups"))[:2] == (401, "unauthorized")
        assert error_of(await client.post("/groups/g/members"))[:2] == (401, "unauthorized")
        client.auth = httpx.BasicAuth("ann", "ann")
        member = await Member.join(client)
        await member.poll()
        client.auth = httpx.BasicAuth("bob", "bob")
        assert error_of(await member.ask("poll", after=1))[:2] == (404, "not_found")
