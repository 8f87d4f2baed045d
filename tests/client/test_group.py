"""Consuming as a group, by the client."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from tests.client.test_client import append, let_time_pass, restart
from tests.support.gateway import Plant
from tests.support.mqtt import PATIENCE

from millstream import Client
from millstream.client import GroupMember, Page
from millstream.errors import FencedError, RefusedError
from millstream.log import Position


async def next_page(member: GroupMember) -> Page:
    async with contextlib.aclosing(aiter(member)) as pages, asyncio.timeout(PATIENCE):
        return await anext(pages)


def data(page: Page) -> list[int]:
    return [event.data for event in page]


async def position(plant: Plant, partition: int) -> Position:
    (status,) = [status for status in await plant.log.groups() if status.name == "billing"]
    reached: Position = status.positions["events", partition]
    return reached


async def test_pages_come_and_are_committed(client: Client, plant: Plant) -> None:
    await append(plant, 0, 0, 0)
    async with client.group("billing", ["events"], start="earliest") as member:
        page = await next_page(member)
        assert (page.stream, page.partition, data(page), page.next_offset) == ("events", 0, [0, 1, 2], 3)
        await member.commit(page, counts={"billed": 3})
        assert await position(plant, 0) == Position(3)
    (status,) = [status for status in await plant.log.groups() if status.name == "billing"]
    assert (status.members, status.counts) == (0, {"billed": 3, "processed": 3})
    await append(plant, 0, first=3)
    async with client.group("billing", ["events"]) as member:
        assert data(await next_page(member)) == [3]


async def test_positions_as_the_contract_has_them(client: Client, plant: Plant) -> None:
    await append(plant, 0, 0, 0)
    async with client.group("billing", ["events"], start="earliest") as member:
        poll = await member.poll()
        assert poll.gained == {("events", 0): Position(0), ("events", 1): Position(0)}
        await next_page(member)
        await member.commit({("events", 0): Position(0, (1,))})
    async with client.group("billing", ["events"]) as member:
        assert (await member.poll()).gained["events", 0] == Position(0, (1,))
        assert data(await next_page(member)) == [0, 2]


async def test_members_hand_over_between_pages(client: Client, plant: Plant) -> None:
    async with client.group("billing", ["events"], start="earliest") as one:
        await one.poll()
        async with contextlib.aclosing(aiter(one)) as pages:
            waiting = asyncio.ensure_future(anext(pages))
            async with client.group("billing", ["events"]) as two:
                gained: set[int] = set()
                while not gained:
                    gained = {partition for _, partition in (await two.poll()).gained}
                (hers,) = gained
                await append(plant, 1 - hers, hers)
                async with asyncio.timeout(PATIENCE):
                    page = await waiting
                assert page.partition == 1 - hers
                await one.commit(page)
                theirs = await next_page(two)
                assert theirs.partition == hers
                with pytest.raises(FencedError, match="forget it"):
                    await one.commit(theirs)
                await two.commit(theirs)


async def test_long_work_is_no_silence(client: Client, plant: Plant) -> None:
    async with client.group("billing", ["events"], lease=30) as member:
        await member.poll()
        for _ in range(100):
            await plant.clock.advance(1)
            await plant.until(lambda: not member._polling.locked())  # a sign of life is under way
        await append(plant, 0)
        page = await next_page(member)
        await member.commit(page)
        assert await position(plant, 0) == Position(1)


async def test_a_member_joins_again_when_the_server_came_back(client: Client, plant: Plant) -> None:
    async with client.group("billing", ["events"], start="earliest") as member:
        await member.poll()
        await restart(plant)
        await append(plant, 0)
        with pytest.raises(RefusedError, match="join again") as refused:
            await member.poll()
        assert refused.value.status == 404
        following = asyncio.create_task(next_page(member))
        await let_time_pass(plant, following)
        assert data(await following) == [0]
        await member.commit(await following)
        assert await position(plant, 0) == Position(1)


async def test_a_commit_of_a_membership_that_is_over_is_fenced(client: Client, plant: Plant) -> None:
    await append(plant, 0)
    async with client.group("billing", ["events"], start="earliest") as member:
        page = await next_page(member)
        await restart(plant)
        with pytest.raises(FencedError, match="join again"):
            await member.commit(page)


async def test_what_cannot_be_joined_is_told(client: Client) -> None:
    with pytest.raises(RefusedError, match="there is no stream 'evnets'"):
        async with client.group("billing", ["evnets"]):
            pass
