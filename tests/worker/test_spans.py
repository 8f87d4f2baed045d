"""Spans of handlers and queries, in the traces of their events."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from tests.support.plant import Plant
from tests.support.spans import SAMPLED, UNSAMPLED, Spans, parent, traceparent
from tests.support.streams import eventually, publish

from millstream.app import App, Retry
from millstream.event import Event
from millstream.settings import Settings
from millstream.worker import Worker


@pytest.fixture
def spans() -> Spans:
    return Spans()


async def start(plant: Plant, app: App, spans: Spans) -> None:
    worker = Worker(app, plant.log, plant.topics, plant.clock, Settings(), tracer=spans.tracer)
    plant.workers.append(worker)
    await worker.start()


def traced(payload: bytes = b"1", context: str = SAMPLED, **more: Any) -> Event:
    return Event(topic="a", payload=payload, headers={"traceparent": context}, **more)


def plain(payload: bytes = b"1", **more: Any) -> Event:
    return Event(topic="a", payload=payload, **more)


def links(span: ReadableSpan) -> list[str]:
    return [f"00-{link.context.trace_id:032x}-{link.context.span_id:016x}-01" for link in span.links]


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_a_call_is_in_the_trace_of_its_event_and_what_it_publishes_too(
    plant: Plant, spans: Spans, kind: str
) -> None:
    app = App("plant")

    def inner() -> None:
        with spans.tracer.start_as_current_span("of a library"):
            pass

    if kind == "async":

        @app.on("a", group="g", into="b")
        async def handle(event: Event) -> object:
            inner()
            return event.data

    else:

        @app.on("a", group="g", into="b")
        def handle_in_thread(event: Event) -> object:
            inner()
            return event.data

    await start(plant, app, spans)
    await publish(plant.log, [plain(b"1"), traced(b"2", id="7"), plain(b"3"), traced(b"4", UNSAMPLED), plain(b"5")])
    await plant.caught_up("g")
    span = spans.one("process g")
    assert (span.kind, parent(span)) == (SpanKind.CONSUMER, SAMPLED)
    assert dict(span.attributes or {}) == {
        "messaging.system": "millstream",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": "g",
        "messaging.destination.name": "events",
        "messaging.message.id": "7",
    }
    libraries = [parent(each) for each in spans.named("of a library")]
    assert sorted(libraries, key=str) == sorted([traceparent(span), None, None, None, None], key=str)
    outputs = {
        event.payload: event.headers.get("traceparent") for event in await plant.read("events") if event.topic == "b"
    }
    assert outputs == {b"1": None, b"2": traceparent(span), b"3": None, b"4": UNSAMPLED, b"5": None}
    assert not trace.get_current_span().is_recording()


async def test_every_try_has_a_span_and_its_error(plant: Plant, spans: Spans) -> None:
    app, tries = App("plant"), []

    @app.on("a", group="g", retry=Retry(attempts=3))
    def handle(event: Event) -> None:
        tries.append(event.data)
        if event.data == 1 and tries.count(1) < 3:
            raise LookupError("not yet")

    await start(plant, app, spans)
    await publish(plant.log, [traced(b"1", key="k"), traced(b"2", key="k"), plain(b"3", key="other")])
    await plant.caught_up("g")
    assert [n for n in tries if n != 3] == [1, 1, 1, 2]  # in order per key
    assert tries.count(3) == 1
    failed, again, done, next_one = spans.named("process g")
    assert failed.status.status_code is again.status.status_code is StatusCode.ERROR
    assert failed.status.description == "LookupError: not yet"
    assert [event.name for event in failed.events] == ["exception"]
    assert done.status.status_code is next_one.status.status_code is StatusCode.UNSET


async def test_a_batch_has_links_to_what_is_traced_in_it(plant: Plant, spans: Spans) -> None:
    app = App("plant")

    @app.on("a", group="g", into="b")
    def handle(events: list[Event]) -> int:
        return len(events)

    await start(plant, app, spans)
    await publish(plant.log, [plain(), traced(), traced(context=UNSAMPLED)])
    await plant.caught_up("g")
    span = spans.one("process g")
    assert (parent(span), links(span)) == (None, [SAMPLED])
    (output,) = [event for event in await plant.read("events") if event.topic == "b"]
    assert output.headers == {"traceparent": traceparent(span)}
    await publish(plant.log, [plain()])
    await plant.caught_up("g")
    assert len(spans.named("process g")) == 1


async def test_a_step_has_links_too_and_none_without_traced_events(plant: Plant, spans: Spans) -> None:
    app = App("plant")
    app.query("counts", "SELECT count(*) AS n FROM events GROUP BY _topic, TumblingWindow(second, 1)")
    await start(plant, app, spans)
    await publish(plant.log, [plain(b"{}")])
    await plant.caught_up("counts")
    assert not spans.named("step counts")
    await publish(plant.log, [plain(b"{}"), traced(b"{}")])
    await plant.caught_up("counts")
    assert links(spans.one("step counts")) == [SAMPLED]


async def test_a_subscription(plant: Plant, spans: Spans) -> None:
    app = App("plant")

    @app.subscribe("a", into="b")
    async def handle(event: Event) -> object:
        return event.data

    await start(plant, app, spans)
    plant.topics.send([plain(), traced()])
    await eventually(lambda: len(plant.topics.published) == 4)
    (span,) = spans.named(f"process {app.subscriptions[0].name}")
    assert [event.headers.get("traceparent") for event in plant.topics.published[2:]] == [None, traceparent(span)]


async def test_many_at_a_time_in_threads_are_all_handled_once(plant: Plant, spans: Spans) -> None:
    app, got = App("plant"), []

    @app.on("a", group="g")
    def handle(event: Event) -> None:
        got.append(event.data)

    await start(plant, app, spans)
    events = [(traced if n % 7 == 0 else plain)(b"%d" % n, key=f"k{n % 5}") for n in range(300)]
    await publish(plant.log, events)
    await plant.caught_up("g")
    assert sorted(got) == list(range(300))
    for key in range(5):
        mine = [n for n in got if n % 5 == key]
        assert mine == sorted(mine)
    assert len(spans.named("process g")) == 43
