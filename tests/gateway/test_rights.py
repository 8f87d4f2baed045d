"""What clients may do, as they see it: by MQTT and by HTTP, with what is counted and told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from tests.support.gateway import Plant
from tests.support.http import client_of, error_of
from tests.support.mqtt import RawClient
from tests.support.streams import read_all
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from millstream.gateway.listeners.policy import Policy
from millstream.ledger.names import REJECTIONS
from millstream.ledger.rejection import Rejection
from millstream.mqtt import Properties, Reason, Version
from millstream.mqtt import packet as p
from millstream.rights import Right

HASH = "scrypt$2$1$1$c2FsdA==$Mg+j147YoCdA+qrUwvASXtMPpt7O8kuKFUTqdS+qQGA="  # of "secret"
RIGHTS = {"publish": ["mine/#"], "subscribe": ["mine/+"], "read": ["events"], "join": ["team/#"]}
USERS = {
    "ann": {"password": HASH, **RIGHTS},
    "root": {"password": HASH, "publish": ["#"], "subscribe": ["#"], "read": ["#"], "join": ["#"], "observe": True},
}

both_versions = pytest.mark.parametrize("version", list(Version))


@pytest.fixture
async def guarded(plant: Plant) -> Plant:
    await plant.start(http="127.0.0.1:0", allow_anonymous=False, users=USERS)
    return plant


async def ann(plant: Plant, version: Version = Version.V5, **asked: Any) -> RawClient:
    return await plant.connect("press-1", version, user_name="ann", password=b"secret", **asked)


async def traces(plant: Plant) -> list[Rejection]:
    await plant.gateway.stop()
    return [Rejection.of(event) for event in await read_all(plant.log, REJECTIONS)]


@both_versions
async def test_what_is_allowed_passes_again_and_again(guarded: Plant, version: Version) -> None:
    client = await ann(guarded, version)
    for number in range(3):
        await client.publish("mine/a", b"%d" % number)
    client.send(*[p.Publish(topic="mine/a", payload=b"more", qos=1, packet_id=n) for n in (1, 2, 3)])
    assert [(await client.read(p.Puback)).packet_id for _ in range(3)] == [1, 2, 3]
    assert len(await guarded.payloads("events")) == 6


async def test_an_mqtt_5_client_hears_what_it_may_not_publish_in_its_turn_and_goes_on(guarded: Plant) -> None:
    client = await ann(guarded)
    topics = ["mine/a", "others/a", "mine/a", "others/a", "mine/b"]
    client.send(*[p.Publish(topic=topic, payload=b"x", qos=1, packet_id=n) for n, topic in enumerate(topics, 1)])
    answers = [await client.read(p.Puback) for _ in topics]
    assert [answer.packet_id for answer in answers] == [1, 2, 3, 4, 5]
    refused = [answer for answer in answers if answer.reason is Reason.NOT_AUTHORIZED]
    assert [answer.packet_id for answer in refused] == [2, 4]
    assert "may not publish to 'others/a'" in (refused[0].properties.reason_string or "")
    assert len(await guarded.payloads("events")) == 3
    assert guarded.statistics["rejected"] == {"not_authorized": 2}
    trace = (await traces(guarded))[0]
    assert trace == Rejection("not_authorized", trace.text, "press-1", "others/a", b"x")
    assert "[users.ann]" in trace.text


async def test_a_refusal_is_told_also_when_nothing_else_comes(guarded: Plant) -> None:
    client = await ann(guarded)
    assert (await client.publish("others/a")).reason is Reason.NOT_AUTHORIZED


@pytest.mark.parametrize(
    "wish", [Properties(request_problem_information=0), Properties(maximum_packet_size=40)], ids=["quiet", "small"]
)
async def test_a_client_that_wants_no_reasons_gets_the_code_alone(guarded: Plant, wish: Properties) -> None:
    client = await ann(guarded, properties=wish)
    assert await client.publish("others/a") == p.Puback(packet_id=1, reason=Reason.NOT_AUTHORIZED)
    assert await client.subscribe("others/a") == p.Suback(packet_id=1, reasons=(Reason.NOT_AUTHORIZED,))
    client.send(p.Publish(topic="others/a", qos=2, packet_id=3))
    assert await client.read(p.Pubrec) == p.Pubrec(packet_id=3, reason=Reason.NOT_AUTHORIZED)


@both_versions
async def test_qos_0_that_is_refused_is_counted_and_the_client_goes_on(guarded: Plant, version: Version) -> None:
    client = await ann(guarded, version)
    await client.publish_and_forget("others/a", b"x")
    await client.publish("mine/a", b"y")
    assert await guarded.payloads("events") == [b"y"]
    assert guarded.statistics["rejected"] == {"not_authorized": 1}


async def test_a_3_1_1_client_is_cut_off_since_a_puback_would_be_a_promise(guarded: Plant) -> None:
    client = await ann(guarded, Version.V3_1_1)
    client.send(p.Publish(topic="mine/a", payload=b"1", qos=1, packet_id=1))
    client.send(p.Publish(topic="others/a", payload=b"2", qos=1, packet_id=2))
    assert [answer for answer in await client.rest() if isinstance(answer, p.Puback) and answer.packet_id == 2] == []
    await guarded.until(lambda: guarded.statistics["rejected"] == {"not_authorized": 1})
    assert await guarded.payloads("events") == [b"1"]


@both_versions
async def test_subscriptions_are_granted_where_all_of_them_is_covered(guarded: Plant, version: Version) -> None:
    client = await ann(guarded, version)
    filters = ("mine/a", "mine/+", "mine/#", "#", "others/a")
    client.send(p.Subscribe(packet_id=1, subscriptions=tuple(p.Subscription(each, 1) for each in filters)))
    answer = await client.read(p.Suback)
    refused = Reason.NOT_AUTHORIZED if version is Version.V5 else Reason.UNSPECIFIED_ERROR
    assert answer.reasons == (Reason.GRANTED_QOS_1, Reason.GRANTED_QOS_1, refused, refused, refused)
    if version is Version.V5:
        assert "may not subscribe to 'others/a'" in (answer.properties.reason_string or "")
    root = await guarded.connect("root", user_name="root", password=b"secret")
    await root.publish("others/a", b"secret")
    await root.publish("mine/a", b"x")
    assert (await client.read(p.Publish)).payload == b"x"


@both_versions
async def test_a_will_where_one_may_not_publish_is_refused_at_once(guarded: Plant, version: Version) -> None:
    client = await guarded.open(version)
    client.send(
        p.Connect(version=version, client_id="x", user_name="ann", password=b"secret", will=p.Will(topic="others/gone"))
    )
    (answer,) = await client.rest()
    assert isinstance(answer, p.Connack)
    assert answer.reason is Reason.NOT_AUTHORIZED
    assert guarded.statistics["connections"] == 0


async def test_an_assigned_client_identifier_counts_as_the_clients_own(plant: Plant) -> None:
    users = {"ann": {"password": HASH, "publish": ["by-id/{client_id}"]}}
    await plant.start(allow_anonymous=False, users=users)
    client = await plant.open()
    client.send(p.Connect(version=Version.V5, client_id="", user_name="ann", password=b"secret"))
    assigned = (await client.read(p.Connack)).properties.assigned_client_identifier
    assert (await client.publish(f"by-id/{assigned}")).reason is Reason.SUCCESS
    assert (await client.publish("by-id/")).reason is Reason.NOT_AUTHORIZED


async def test_a_right_is_asked_for_once_for_each_topic_of_a_connection(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Right, str]] = []
    rights = Policy.rights

    class Counted:
        def __init__(self, its: Any) -> None:
            self.its = its

        def check(self, right: Right, name: str = "") -> None:
            asked.append((right, name))
            self.its.check(right, name)

    monkeypatch.setattr(Policy, "rights", lambda *given: Counted(rights(*given)))
    await plant.start(allow_anonymous=False, users=USERS)
    client = await ann(plant)
    for n in range(1, 50):
        await client.publish(f"mine/{n % 3}", packet_id=n)
    assert sorted(asked) == [(Right.PUBLISH, f"mine/{n}") for n in range(3)]


# --- HTTP


@pytest.fixture
async def http(guarded: Plant) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(guarded, auth=("ann", "secret")) as client:
        yield client


async def test_http_publishes_where_it_may(guarded: Plant, http: httpx.AsyncClient) -> None:
    assert (await http.post("/topics/mine/a", content=b"1")).status_code == 200
    status, code, message = error_of(await http.post("/topics/others/a", content=b"2"))
    assert (status, code) == (403, "forbidden")
    assert message == (
        "user 'ann' may not publish to 'others/a'; the setting 'publish' in [users.ann] or [rights] gives the right"
    )
    assert await guarded.payloads("events") == [b"1"]
    assert guarded.statistics["rejected"] == {"forbidden": 1}
    assert [(trace.reason, trace.topic) for trace in await traces(guarded)] == [("forbidden", "others/a")]


READS = ["", "/0", "/0/0", "/0/0/data", "/tail"]


@pytest.mark.parametrize("below", READS)
async def test_http_reads_the_streams_it_may(guarded: Plant, http: httpx.AsyncClient, below: str) -> None:
    for name in ("telemetry", "none", "$rejected"):
        refused = error_of(await http.get(f"/streams/{name}{below}"))
        assert refused[:2] == (403, "forbidden")
        assert f"may not read stream {name!r}; the setting 'read'" in refused[2]
    async with http.stream("GET", f"/streams/events{below}") as response:
        assert response.status_code in (200, 400, 404)  # there is no event at 0 yet


async def test_a_tail_by_websocket_needs_the_right_too(guarded: Plant) -> None:
    assert guarded.gateway.http_address is not None
    host, port = guarded.gateway.http_address
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://ann:secret@{host}:{port}/streams/telemetry/tail"):
            pass
    assert refused.value.response.status_code == 403
    assert b"may not read stream 'telemetry'" in refused.value.response.body
    async with connect(f"ws://ann:secret@{host}:{port}/streams/events/tail") as socket:
        assert "positions" in str(await socket.recv())


async def test_groups_are_joined_where_both_rights_are_there(http: httpx.AsyncClient) -> None:
    async def join(group: str, *streams: str) -> httpx.Response:
        return await http.post(f"/groups/{group}/members", json={"streams": streams})

    assert "join group 'other'" in error_of(await join("other", "events"))[2]
    assert "read stream 'telemetry'" in error_of(await join("team/a", "events", "telemetry"))[2]
    joined = await join("team/a", "events")
    assert joined.status_code == 201
    assert (await http.post(f"{joined.headers['location']}/poll", json={"after": 0})).status_code == 200
    assert (await http.get("/groups/team/a")).status_code == 200
    assert error_of(await http.get("/groups/other"))[0] == 403


async def test_lists_show_what_one_may_use(guarded: Plant, http: httpx.AsyncClient) -> None:
    async with client_of(guarded, auth=("root", "secret")) as root:
        for group in ("team/a", "other"):
            await root.post(f"/groups/{group}/members", json={"streams": ["events"]})
        assert names(await root.get("/groups"), "group") == ["other", "team/a"]
        assert names(await root.get("/streams"), "stream") == ["events", "telemetry"]
    assert names(await http.get("/groups"), "group") == ["team/a"]
    assert names(await http.get("/streams"), "stream") == ["events"]


def names(response: httpx.Response, of: str) -> list[str]:
    (each,) = response.json().values()
    return sorted(its[of] for its in each)


@pytest.mark.parametrize("path", ["/status", "/metrics"])
async def test_counts_and_metrics_are_for_observers(guarded: Plant, http: httpx.AsyncClient, path: str) -> None:
    status, _, message = error_of(await http.get(path))
    assert (status, "the setting 'observe' in [users.ann]" in message) == (403, True)
    async with client_of(guarded, auth=("root", "secret")) as root:
        assert (await root.get(path)).status_code == 200


async def test_anonymous_clients_are_bound_by_what_is_said_of_them(plant: Plant) -> None:
    given: Mapping[str, Any] = {"anonymous": {"publish": ["open/#"]}, "users": USERS, "http": "127.0.0.1:0"}
    await plant.start(**given)
    client = await plant.connect()
    assert (await client.publish("open/a")).reason is Reason.SUCCESS
    assert (await client.publish("closed")).reason is Reason.NOT_AUTHORIZED
    async with client_of(plant) as nobody:
        assert "who shows no user name" in error_of(await nobody.get("/streams/events"))[2]
