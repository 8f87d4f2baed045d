"""Spans of events on their way into the log: which events have one, and what becomes of its context."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from tests.support.gateway import Plant
from tests.support.spans import SAMPLED, UNSAMPLED, Spans, parent, traceparent

from millstream.clock import VirtualClock
from millstream.errors import DiskFaultError
from millstream.event import Event
from millstream.gateway import Gateway
from millstream.gateway.attributes import Attributes
from millstream.log import StreamSpec
from millstream.log.sqlite import SqliteLog
from millstream.settings import Settings


@pytest.fixture
def spans() -> Spans:
    return Spans()


class Traced:
    """A gateway with a tracer, and no listener."""

    def __init__(self, plant: Plant, spans: Spans) -> None:
        self.gateway = Gateway(
            plant.log, Settings(mqtt="", http="", allow_anonymous=True), plant.clock, tracer=spans.tracer
        )

    async def publish(self, *headers: dict[str, str], topic: str = "a", **more: Any) -> None:
        contents = [(b"1", Attributes(headers=each, **more)) for each in headers]
        await self.gateway._ingest.publish(topic, contents)


@pytest.fixture
async def traced(plant: Plant, spans: Spans) -> Any:
    traced = Traced(plant, spans)
    await traced.gateway.start()
    yield traced
    await traced.gateway.stop()


async def test_an_event_without_a_context_begins_a_trace(plant: Plant, traced: Traced, spans: Spans) -> None:
    await traced.publish({"line": "2"}, id="7")
    span, commit = spans.one("receive"), spans.one("commit")
    assert (span.kind, parent(span)) == (SpanKind.SERVER, None)
    assert parent(commit) == traceparent(span)
    assert dict(span.attributes or {}) == {
        "messaging.system": "millstream",
        "messaging.operation.type": "receive",
        "messaging.destination.name": "a",
        "messaging.message.id": "7",
        "messaging.message.body.size": 1,
        "messaging.batch.message_count": 1,
        "millstream.outcome": "committed",
    }
    (event,) = await plant.read("events")
    assert event.headers == {"line": "2", "traceparent": traceparent(span)}


async def test_a_sampled_context_is_continued_and_another_is_left_alone(
    plant: Plant, traced: Traced, spans: Spans
) -> None:
    await traced.publish({"traceparent": SAMPLED, "tracestate": "v=1"})
    await traced.publish({"traceparent": UNSAMPLED})
    await traced.publish({"traceparent": "garbage"})
    span = spans.one("receive")
    assert parent(span) == SAMPLED
    headers = [dict(event.headers) for event in await plant.read("events")]
    assert headers == [
        {"traceparent": traceparent(span), "tracestate": "v=1"},
        {"traceparent": UNSAMPLED},
        {"traceparent": "garbage"},
    ]


async def test_a_commit_that_takes_long_is_within_the_spans_and_subscribers_have_the_context(
    plant: Plant, traced: Traced, spans: Spans
) -> None:
    got: list[Event] = []

    def take(events: Sequence[Event]) -> None:
        got.extend(events)

    await traced.gateway.topics.subscribe("a", "s", take)
    plant.log.gate.clear()
    publishing = asyncio.create_task(traced.publish({}))
    await plant.log.waiting.wait()
    assert not spans.named("commit")
    plant.log.gate.set()
    await publishing
    await plant.until(lambda: bool(spans.named("receive")))
    assert [event.headers["traceparent"] for event in got] == [traceparent(spans.one("receive"))]


@pytest.mark.parametrize(("id", "outcomes"), [("7", ["committed", "duplicate"]), (None, ["committed", "committed"])])
async def test_what_became_of_it(traced: Traced, spans: Spans, id: str | None, outcomes: list[str]) -> None:  # noqa: A002
    for _ in range(2):
        await traced.publish({}, id=id)
    assert [(span.attributes or {})["millstream.outcome"] for span in spans.named("receive")] == outcomes


async def test_what_no_stream_captures(spans: Spans) -> None:
    clock = VirtualClock()
    log = await SqliteLog.memory(clock)
    await log.create(StreamSpec("b", ("b",)))
    settings = Settings(mqtt="", http="", allow_anonymous=True)
    async with Gateway(log, settings, clock, tracer=spans.tracer) as gateway:
        await gateway._ingest.publish("a", [(b"1", Attributes())])
    assert (spans.one("receive").attributes or {})["millstream.outcome"] == "transient"
    await log.close()


async def test_a_large_batch_has_a_few_spans(plant: Plant, traced: Traced, spans: Spans) -> None:
    await traced.publish(*[{}] * 1_000)
    assert len(spans.named("receive")) == 8
    traces = [event.headers.get("traceparent") for event in await plant.read("events")]
    assert sum(trace is not None for trace in traces) == 8
    await traced.publish(*[{"traceparent": SAMPLED}] * 1_000)
    assert len(spans.named("receive")) == 8 + 64
    later = [event.headers["traceparent"] for event in (await plant.read("events"))[1_000:]]
    assert later.count(SAMPLED) == 1_000 - 64  # untouched, and still to be traced further on


async def test_a_second_has_not_many_more(plant: Plant, traced: Traced, spans: Spans) -> None:
    for _ in range(20):
        await traced.publish(*[{}] * 10)
    assert len(spans.named("receive")) == 100
    for _ in range(20):
        await traced.publish(*[{"traceparent": SAMPLED}] * 64)
    assert len(spans.named("receive")) == 1_100
    await plant.clock.advance(1)
    await traced.publish({}, {"traceparent": SAMPLED})
    assert len(spans.named("receive")) == 1_102


async def test_what_the_sampler_leaves_costs_no_header(plant: Plant) -> None:
    spans = Spans(ALWAYS_OFF)
    traced = Traced(plant, spans)
    await traced.gateway.start()
    await traced.publish({}, {})
    await traced.gateway.stop()
    assert not spans.named("receive")
    assert [event.headers for event in await plant.read("events")] == [{}, {}]


async def test_a_log_that_fails_is_an_error_of_the_span(plant: Plant, traced: Traced, spans: Spans) -> None:
    plant.log.errors.append(DiskFaultError("fsync failed"))
    with pytest.raises(Exception, match="the log failed"):
        await traced.publish({})
    assert spans.one("receive").status.status_code is StatusCode.ERROR
