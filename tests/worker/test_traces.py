"""What a handler publishes stands in the trace context of its cause, whether anybody traces or not."""

from __future__ import annotations

import pytest
from tests.support.plant import Plant
from tests.support.streams import eventually, publish

from millstream.app import App
from millstream.event import Event

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-1111111111111111-01"


def traced(topic: str, payload: bytes = b"1") -> Event:
    return Event(topic=topic, payload=payload, headers={"traceparent": PARENT, "tracestate": "v=1", "line": "2"})


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_outputs_carry_the_context_of_their_event(plant: Plant, kind: str) -> None:
    app = App("plant")

    if kind == "async":

        @app.on("a", group="g", into="b")
        async def handle(event: Event) -> object:
            app.publish("c", 1)
            return event.data

    else:

        @app.on("a", group="g", into="b")
        def handle_in_thread(event: Event) -> object:
            return event.data

    await plant.start(app)
    await publish(plant.log, [traced("a"), Event(topic="a", payload=b"2")])
    await plant.caught_up("g")
    outputs = {(event.topic, event.payload): dict(event.headers) for event in await plant.read("events")}
    assert outputs["b", b"1"] == {"traceparent": PARENT, "tracestate": "v=1"}
    assert outputs["b", b"2"] == {}
    published = [dict(event.headers) for event in await plant.read("events") if event.topic == "c"]
    assert published == ([outputs["b", b"1"], outputs["b", b"2"]] if kind == "async" else [])


async def test_an_event_that_has_a_context_keeps_it(plant: Plant) -> None:
    app = App("plant")

    @app.on("a", group="g")
    def handle(event: Event) -> Event:
        return Event(topic="b", headers={"traceparent": OTHER})

    await plant.start(app)
    await publish(plant.log, [traced("a")])
    await plant.caught_up("g")
    (output,) = [event for event in await plant.read("events") if event.topic == "b"]
    assert output.headers == {"traceparent": OTHER}


async def test_what_a_batch_leads_to_has_no_single_cause(plant: Plant) -> None:
    app = App("plant")

    @app.on("a", group="g", into="b")
    def handle(events: list[Event]) -> int:
        return len(events)

    await plant.start(app)
    await publish(plant.log, [traced("a")])
    await plant.caught_up("g")
    (output,) = [event for event in await plant.read("events") if event.topic == "b"]
    assert output.headers == {}


async def test_dead_letters_keep_the_context(plant: Plant) -> None:
    app = App("plant")

    @app.on("a", group="g")
    def handle(payload: dict[str, int]) -> None: ...

    await plant.start(app)
    await publish(plant.log, [traced("a", b"no JSON")])
    await plant.caught_up("g")
    (letter,) = await plant.dead_letters()
    assert letter.headers["traceparent"] == PARENT


async def test_what_a_subscription_publishes_too(plant: Plant) -> None:
    app = App("plant")

    @app.subscribe("a", into="b")
    def handle(event: Event) -> object:
        return event.data

    await plant.start(app)
    plant.topics.send([traced("a")])
    await eventually(lambda: len(plant.topics.published) == 2)
    assert plant.topics.published[1].headers == {"traceparent": PARENT, "tracestate": "v=1"}
