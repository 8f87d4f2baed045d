"""The power is cut under clients whose sessions are kept: what they were told by then is true afterwards, and each
message of QoS 2 ends exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.faults.sample import sample
from tests.support.disk import Disk, disk, nothing
from tests.support.mqtt import RawClient
from tests.support.records import SETTINGS

from millstream.clock import VirtualClock
from millstream.gateway import Gateway
from millstream.log import StreamSpec
from millstream.log.sqlite import SqliteLog
from millstream.mqtt import Properties, Reason, Version
from millstream.mqtt import packet as p
from millstream.settings import Settings

MESSAGES = 6
KEPT = Properties(session_expiry_interval=3_600)


class Told:
    """What clients were told, and how many changes of the disk there were by then."""

    def __init__(self, made: Disk) -> None:
        self._made = made
        self.at: dict[tuple[str, int], int] = {}

    def note(self, what: str, number: int = 0) -> None:
        self.at[what, number] = len(self._made.changes)

    def by(self, changes: int, what: str, number: int = 0) -> bool:
        return self.at.get((what, number), changes + 1) <= changes


@asynccontextmanager
async def gateway_on(folder: Path, made: Disk | None = None) -> AsyncIterator[tuple[Gateway, SqliteLog]]:
    clock = VirtualClock()
    log = await SqliteLog.open(folder, SETTINGS, clock, vfs=None if made is None else made.name)
    await log.create(StreamSpec("events", ("#",), partitions=1))
    settings = Settings(mqtt="127.0.0.1:0", http="", allow_anonymous=True, data=folder)
    async with Gateway(log, settings, clock) as gateway:
        yield gateway, log
    await log.close()


async def come(gateway: Gateway, name: str) -> tuple[RawClient, bool]:
    assert gateway.mqtt_address is not None
    client = await RawClient.open(gateway.mqtt_address)
    client.send(p.Connect(version=Version.V5, client_id=name, clean_start=False, properties=KEPT))
    answer = await client.read(p.Connack)
    assert answer.reason is Reason.SUCCESS
    return client, answer.session_present


async def exchange(gateway: Gateway, told: Told) -> None:
    """A subscriber comes and goes, and a publisher publishes at QoS 2, the last ones with RETAIN."""
    subscriber, _ = await come(gateway, "subscriber")
    told.note("CONNACK subscriber")
    await subscriber.subscribe("a", 2)
    told.note("SUBACK")
    await subscriber.close()
    publisher, _ = await come(gateway, "publisher")
    told.note("CONNACK publisher")
    for number in range(1, MESSAGES + 1):
        publisher.send(message(number))
        await publisher.read(p.Pubrec)
        told.note("PUBREC", number)
        if number % 3:  # some are left open
            publisher.send(p.Pubrel(packet_id=number))
            await publisher.read(p.Pubcomp)
            told.note("PUBCOMP", number)
    await publisher.close()


def message(number: int) -> p.Publish:
    retain = number > MESSAGES - 2
    return p.Publish(topic="a", payload=str(number).encode(), qos=2, packet_id=number, retain=retain)


async def finish(gateway: Gateway, told: Told, changes: int) -> None:
    """The publisher comes back, and goes on as the specification wants it (4.4)."""
    publisher, present = await come(gateway, "publisher")
    assert present or not told.by(changes, "CONNACK publisher")
    for number in range(1, MESSAGES + 1):
        if told.by(changes, "PUBCOMP", number):
            continue
        if not told.by(changes, "PUBREC", number):
            publisher.send(message(number))
            assert (await publisher.read(p.Pubrec)).reason is Reason.SUCCESS
        publisher.send(p.Pubrel(packet_id=number))
        await publisher.read(p.Pubcomp)  # with the reason that it was through already, perhaps
    await publisher.close()


async def check(gateway: Gateway, log: SqliteLog, told: Told, changes: int) -> None:
    events = [event.payload for event in await log.read("events", 0, 0)]
    assert Counter(events) == Counter(str(number).encode() for number in range(1, MESSAGES + 1))
    subscriber, present = await come(gateway, "subscriber")
    assert present or not told.by(changes, "CONNACK subscriber")
    if told.by(changes, "SUBACK"):
        got = []
        for _ in range(MESSAGES):
            delivered = await subscriber.read(p.Publish)
            got.append(delivered.payload)
        assert got == events, "everything that the stream has, in its order"
    late = await RawClient.connect(gateway.mqtt_address or ("", 0), "late")
    late.send(p.Subscribe(packet_id=1, subscriptions=(p.Subscription("a", 0),)))
    await late.read(p.Suback)
    assert (await late.read(p.Publish)).payload == events[-1], "the last one is retained"
    await subscriber.close()
    await late.close()


async def test_the_power_is_cut_under_sessions(tmp_path: Path) -> None:
    with disk() as made:
        told = Told(made)
        async with gateway_on(tmp_path / "data", made) as (gateway, _):
            await exchange(gateway, told)
        total = len(made.changes)
    assert told.by(total, "PUBREC", MESSAGES)
    first = told.at["CONNACK subscriber", 0]
    for at in sample(total + 1 - first, 12):
        changes = first + at
        folder = tmp_path / f"after {changes}"
        made.after_power_cut(changes, folder, nothing)
        async with gateway_on(folder) as (gateway, log):
            await finish(gateway, told, changes)
            await check(gateway, log, told, changes)
