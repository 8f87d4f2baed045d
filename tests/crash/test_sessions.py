"""The server is killed at random moments under publishers and subscribers whose sessions are kept: nothing that was
acknowledged is missing for a subscriber, QoS 2 arrives exactly once, and a publisher's messages arrive in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.crash.session_clients import Client, Publisher, Subscriber
from tests.crash.test_crash import KILLS, QUIET_SECONDS, ROUNDS, SEED
from tests.support.millstream import Running, read_stream, running_on
from tests.support.ports import reserved_port

pytestmark = pytest.mark.crash


@pytest.mark.parametrize("seed", range(SEED, SEED + ROUNDS))
async def test_sessions_outlive_the_server(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    folder = tmp_path / "data"
    with running_on((reserved_port(), reserved_port()), folder, "--workers", "0") as run:
        publishers = [Publisher(f"p{number}", run.mqtt_port, 1 + number % 2) for number in range(4)]
        subscribers = [Subscriber(f"s{number}", run.mqtt_port, 1 + number % 2) for number in range(4)]
        shared = [Subscriber(f"m{number}", run.mqtt_port, 2, "$share/group/numbers/#") for number in range(2)]
        async with asyncio.timeout(QUIET_SECONDS + 60 * KILLS), asyncio.TaskGroup() as tasks:
            for subscriber in (*subscribers, *shared):
                tasks.create_task(subscriber.run())
                await subscriber.subscribed.wait()
            for publisher in publishers:
                tasks.create_task(publisher.run())
            for _ in range(KILLS):
                await progress(publishers)
                await asyncio.sleep(chance.uniform(0.0, 1.0))
                kill_server(run)
            await progress(publishers)
            for publisher in publishers:
                publisher.stop()
            await arrived(publishers, subscribers, shared, run)
            for subscriber in (*subscribers, *shared):
                subscriber.stop()
        await asyncio.to_thread(run.stop)
        assert "Traceback" not in run.logs(), run.logs()
    check(publishers, subscribers)
    check_shared(publishers, shared)
    events = await asyncio.to_thread(read_stream, folder, "events")
    stored = Counter((event.topic, int(event.payload)) for event in events)
    for publisher in publishers:
        copies = [stored[publisher.topic, number] for number in publisher.acknowledged]
        assert all(copies), publisher.name
        assert publisher.qos == 1 or set(copies) == {1}, f"{publisher.name}: QoS 2 is stored twice"
    clients: list[Client] = [*publishers, *subscribers, *shared]
    print(f"seed {seed}: {sum(stored.values())} stored over {[each.connections for each in clients]} connections")  # noqa: T201
    assert all(each.connections > 1 for each in clients), "no server was killed while they were connected"


def check(publishers: Sequence[Publisher], subscribers: Sequence[Subscriber]) -> None:
    """Every subscriber has everything that was acknowledged, in order; once where both ends want that."""
    for publisher in publishers:
        for subscriber in subscribers:
            got = subscriber.received[publisher.topic]
            who = f"{subscriber.name} (QoS {subscriber.qos}) of {publisher.name} (QoS {publisher.qos})"
            missing = publisher.acknowledged - set(got)
            assert not missing, f"{who}: {len(missing)} are missing, the first is {min(missing)}"
            firsts = list(dict.fromkeys(got))
            assert firsts == sorted(firsts), f"{who}: out of order"
            if publisher.qos == subscriber.qos == 2:
                twice = [number for number, count in Counter(got).items() if count > 1]
                assert not twice, f"{who}: {twice[:10]} came more than once"


def check_shared(publishers: Sequence[Publisher], members: Sequence[Subscriber]) -> None:
    """The members of a shared subscription have everything between them, once where both ends want that."""
    for publisher in publishers:
        got = Counter(number for member in members for number in member.received[publisher.topic])
        missing = publisher.acknowledged - set(got)
        assert not missing, f"shared, of {publisher.name}: {len(missing)} are missing, the first is {min(missing)}"
        if publisher.qos == 2:
            twice = [number for number, count in got.items() if count > 1]
            assert not twice, f"shared, of {publisher.name}: {twice[:10]} came more than once"


def kill_server(run: Running) -> None:
    for name, pid in run.children().items():
        if name.startswith("server"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def progress(publishers: Sequence[Publisher]) -> None:
    """Return when something more has been acknowledged to each."""
    before = [len(publisher.acknowledged) for publisher in publishers]
    async with asyncio.timeout(QUIET_SECONDS):
        while any(len(each.acknowledged) == had for each, had in zip(publishers, before, strict=True)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def arrived(
    publishers: Sequence[Publisher], subscribers: Sequence[Subscriber], shared: Sequence[Subscriber], run: Running
) -> None:
    """Return when every subscriber has everything that was acknowledged, and say who has not."""
    try:
        async with asyncio.timeout(QUIET_SECONDS):
            while not all(_is_everywhere(publisher, subscribers, shared) for publisher in publishers):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    except TimeoutError:
        check(publishers, subscribers)
        check_shared(publishers, shared)
        pytest.fail(f"publishers are not done: {[each.name for each in publishers if not each.is_done]}\n{run.logs()}")


def _is_everywhere(publisher: Publisher, subscribers: Sequence[Subscriber], shared: Sequence[Subscriber]) -> bool:
    got = [set(subscriber.received[publisher.topic]) for subscriber in subscribers]
    between = set().union(*(member.received[publisher.topic] for member in shared))
    return publisher.is_done and all(publisher.acknowledged <= each for each in (*got, between))
