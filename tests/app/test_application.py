"""What declarations leave behind, and what is said about wrong ones."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, cast

import msgspec
import pytest

from millstream.app import CATCH_ALL, DEAD_LETTERS, App, Depends, Retry, Stream
from millstream.app import application as application_module
from millstream.errors import AppError, QueryError, TopicError
from millstream.event import Event
from millstream.log import StreamSpec

HERE = Path(__file__).name


class Reading(msgspec.Struct):
    celsius: float


def test_app_has_catch_all_and_dead_letters() -> None:
    assert App("plant").streams == {
        CATCH_ALL: StreamSpec(CATCH_ALL, ("#",)),
        DEAD_LETTERS: StreamSpec(DEAD_LETTERS),
    }
    assert set(App("plant", catch_all=False).streams) == {DEAD_LETTERS}


def test_stream_is_declared_as_written() -> None:
    app = App("plant")
    stream = app.stream(
        "telemetry",
        ["site/{device}/a", "b/{device}"],
        key="device",
        partitions=3,
        retention_age=timedelta(days=1),
        retention_bytes=10,
        payload=Reading,
    )
    spec = StreamSpec("telemetry", ("site/{device}/a", "b/{device}"), "device", 3, timedelta(days=1), 10)
    assert stream.spec == spec == app.streams["telemetry"]
    assert stream.payload is Reading


def test_query_has_streams_of_its_results_and_late_events() -> None:
    app = App("plant")
    app.query("hot", "SELECT 1", into="alerts")
    app.query("cold", "SELECT 1", into="alerts")
    named_after_itself = app.query("wet", "SELECT 1")
    assert named_after_itself.name == "wet"
    for name in ("alerts", "wet", "hot.late", "cold.late", "wet.late"):
        assert app.streams[name] == StreamSpec(name, (name,))
    assert [(query.name, query.into, query.late) for query in app.queries] == [
        ("hot", "alerts", "hot.late"),
        ("cold", "alerts", "cold.late"),
        ("wet", "wet", "wet.late"),
    ]


def test_query_may_publish_into_a_declared_stream() -> None:
    app = App("plant")
    alarms = app.stream("alarms", "plant/alarms", partitions=2)
    assert app.query("hot", "SELECT 1", into=alarms) is alarms
    assert app.queries[0].into == "plant/alarms"
    assert "plant/alarms" not in app.streams


def test_handler_of_a_filter_reads_the_catch_all_and_selects() -> None:
    app = App("plant")

    @app.on("site/{site}/{device}/door", into="site/{site}/alarm")
    async def door(event: Event, device: str) -> None: ...

    (handler,) = app.handlers
    assert (handler.stream, handler.group) == (CATCH_ALL, f"{__name__}.{door.__qualname__}")
    assert handler.topics is not None
    assert handler.topics.mqtt == "site/+/+/door"
    assert handler.into is not None
    assert handler.into.text == "site/{site}/alarm"
    assert (handler.concurrency, handler.start, handler.batch) == (16, "latest", None)
    assert str(handler.place).rpartition(":")[0].endswith(HERE)


def test_handler_of_a_stream_gets_levels_that_all_its_filters_name() -> None:
    app = App("plant")
    stream = app.stream("telemetry", ["a/{site}/{device}", "b/{device}"])

    @app.on(stream, concurrency=3, retry=Retry(attempts=1), group="mine", start="earliest", batch=False)
    def handle(reading: Reading, device: str) -> None: ...

    (handler,) = app.handlers
    assert (handler.stream, handler.group, handler.topics) == ("telemetry", "mine", None)
    assert (handler.concurrency, handler.retry.attempts, handler.start) == (3, 1, "earliest")

    with pytest.raises(AppError, match="'site' is no level"):

        @app.on(stream)
        def wrong(site: str) -> None: ...


def test_batch_says_how_many_events_a_call_gets() -> None:
    app = App("plant")

    @app.on("a", batch=100)
    def some(readings: list[Reading]) -> None: ...

    @app.on("a", batch=True)
    def all_there_are(readings: list[Reading]) -> None: ...

    assert [handler.batch for handler in app.handlers] == [100, None]
    assert all(handler.signature.per_batch for handler in app.handlers)


def test_concurrency_is_16_for_coroutines_and_1_for_the_rest() -> None:
    app = App("plant")

    @app.on("a")
    async def coroutine(event: Event) -> None: ...

    @app.on("a")
    def threaded(event: Event) -> None: ...

    @app.on("a")
    async def batches(events: list[Event]) -> None: ...

    assert [handler.concurrency for handler in app.handlers] == [16, 1, 1]


def test_subscription_is_declared() -> None:
    app = App("plant")

    @app.subscribe("site/{site}/+")
    async def seen(site: str) -> None: ...

    (subscription,) = app.subscriptions
    assert subscription.topics.mqtt == "site/+/+"
    assert subscription.name.endswith("seen")


def handle(event: Event) -> None: ...
def opaque(event: Event, thing: Path) -> None: ...


_STREAM = Stream(StreamSpec("elsewhere", ("x",)))


def _twice(app: App) -> None:
    app.on("a")(handle)
    app.on("b")(handle)


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda app: app.stream("a b", "x"), ["'a b'", "letters, digits"]),
        (lambda app: app.stream("", "x"), ["''", "letters, digits"]),
        (lambda app: app.stream("a", []), ["captures no topics"]),
        (lambda app: app.stream("a", "x/{y"), ["'a'", "name in braces"]),
        (lambda app: app.stream("a", "x/#/y"), ["'#' must be the whole last level"]),
        (lambda app: app.stream("a", "x/{y}", key="z"), ["'z'", "{z}"]),
        (lambda app: app.stream("a", "x", partitions=0), ["0 partitions"]),
        (lambda app: app.stream("a", "x", payload=Path), ["payload=Path"]),
        (lambda app: app.stream(CATCH_ALL, "#"), ["declared twice", "catch_all=False"]),
        (lambda app: [app.stream("a", "x"), app.stream("a", "y")], ["declared twice", f"first at tests/app/{HERE}:"]),
        (lambda app: app.on("x/{")(handle), ["handler handle", "name in braces"]),
        (lambda app: app.on("$SYS/#")(handle), ["begin with '$'", "app.stream("]),
        (lambda app: app.on(_STREAM)(handle), ["'elsewhere' is not of this app"]),
        (lambda app: app.on(42)(handle), ["42", "neither a topic filter nor a stream"]),
        (lambda app: app.on("a", concurrency=0)(handle), ["concurrency=0"]),
        (lambda app: app.on("a", retry=cast(Any, 1))(handle), ["retry=1", "retry=Retry(attempts=5)"]),
        (lambda app: app.on("a", start="now")(handle), ["start='now'", "'earliest'"]),
        (lambda app: app.on("a", batch=5)(handle), ["batch=…"]),
        (lambda app: app.on("a", into="b/+")(handle), ["cannot have wildcards"]),
        (lambda app: app.on("a/{x}", into="b/{y}")(handle), ["no level {y}"]),
        (lambda app: app.on("a")(opaque), ["handler opaque", "'thing'"]),
        (lambda app: app.on("a")(lambda event: None), ["group='…'"]),
        (_twice, ["handle", "already", "group=…"]),
        (lambda app: app.subscribe("a/#/b")(handle), ["subscription handle", "'#'"]),
        (lambda app: app.query("no no", "SELECT 1"), ["query 'no no'", "letters, digits"]),
        (lambda app: app.query("a", "SELECT 1", into="b/c"), ["'b/c'", "letters, digits"]),
        (lambda app: [app.query("a", "SELECT 1"), app.query("a", "SELECT 2")], ["something is named 'a' already"]),
        (lambda app: app.query("a", "SELECT 1", payload=Path), ["payload=Path"]),
        (lambda app: app.query("a", "SELECT 1", grace="soon"), ["query 'a': grace='soon'", "write it as '30s'"]),
        (lambda app: app.query("a", "SELECT 1", grace=-1), ["query 'a': grace=-1", "no duration"]),
        (lambda app: Retry(attempts=0), ["attempts=0", "at least once"]),
        (lambda app: Retry(delay=cast(Any, 1)), ["timedelta(seconds=1)"]),
        (lambda app: Retry(factor=0.5), ["below 1"]),
    ],
)
def test_wrong_declaration_is_told_with_place_and_mend(declare: Callable[[App], Any], says: list[str]) -> None:
    with pytest.raises(AppError) as raised:
        declare(App("plant"))
    assert [text for text in says if text not in str(raised.value)] == []
    assert str(raised.value).startswith(f"tests/app/{HERE}:")


def test_filter_without_catch_all_says_how_to_have_a_stream() -> None:
    app = App("plant", catch_all=False)
    with pytest.raises(AppError, match=r"catch_all=False.*topics='a/b'"):
        app.on("a/b")(handle)


def test_app_needs_a_name() -> None:
    with pytest.raises(AppError, match=r"App\('plant'\)"):
        App("")


def test_all_problems_of_queries_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App("plant")
    app.stream("alerts", "other/topic")
    app.query("one", "SELECT", into="alerts")
    app.query("two", "SELECT nothing")

    import millstream.sql

    def refuse(name: str, text: str, streams: Any, *, into: str, types: Any, grace: int, **others: Any) -> None:
        raise QueryError(f"{name} makes no sense", 1, 8)

    monkeypatch.setattr(millstream.sql, "plan_query", refuse, raising=False)
    with pytest.raises(AppError) as raised:
        app.check()
    first, second, third = str(raised.value).splitlines()
    assert "stream 'alerts' does not capture the topic 'alerts'" in first
    assert second.endswith("query 'one', line 1, column 8: one makes no sense")
    assert "query 'two', line 1, column 8" in third
    assert all(line.startswith(f"tests/app/{HERE}:") for line in (first, second, third))


def test_types_of_payloads_are_told_to_the_planner(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App("plant")
    app.stream("telemetry", "t", payload=Reading)
    app.query("one", "SELECT 1", payload=dict)
    app.query("two", "SELECT 2", into="alerts", grace="1.5s")
    asked: dict[str, Any] = {}

    def plan(name: str, text: str, streams: Any, *, into: str, types: Any, grace: int, **others: Any) -> str:
        asked[name] = (into, grace, types.get("telemetry"), set(streams) == set(app.streams))
        return name.upper()

    import millstream.sql

    monkeypatch.setattr(millstream.sql, "plan_query", plan, raising=False)
    plans: Any = app.plan()
    assert plans == {"one": "ONE", "two": "TWO"}
    assert asked == {"one": ("one", 0, dict, True), "two": ("alerts", 1_500_000, Reading, True)}


def test_publishing_outside_of_a_handler_says_why_not() -> None:
    with pytest.raises(AppError, match="outside of a handler"):
        App("plant").publish("a", {})
    with pytest.raises(TopicError, match="wildcard"):
        App("plant").publish("a/#", {})


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (100_000, 60.0)])
def test_delays_grow_up_to_their_maximum(attempt: int, seconds: float) -> None:
    assert Retry().seconds_after(attempt) == seconds


def test_the_public_names_are_there() -> None:
    import millstream

    assert millstream.App is App
    assert application_module.App is App


def test_lifespan_that_yields_a_dict_is_told_what_to_yield() -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[dict[str, Any]]:
        yield {}

    with pytest.raises(AppError, match=rf"{HERE}:\d+: App\('plant'\): the lifespan yields a dict.*TypedDict"):
        App("plant", lifespan=lifespan)


def test_lifespan_is_a_function() -> None:
    with pytest.raises(AppError, match=r"lifespan=3 is no function"):
        App("plant", lifespan=3)  # type: ignore[arg-type]


def test_override_that_does_not_fit_is_told_at_the_handlers_line() -> None:
    app = App("plant")

    def connect() -> int:
        return 1

    def fake(colour: str) -> int:
        return 2

    @app.on("site/{site}")
    def handle(n: Annotated[int, Depends(connect)]) -> None: ...

    app.dependency_overrides[connect] = fake
    with pytest.raises(AppError, match=rf"{HERE}:\d+: .*handle: override .*fake: parameter 'colour'.*site"):
        app.processors()


def test_override_of_what_lives_as_long_as_the_worker_cannot_be_of_one_event() -> None:
    app = App("plant")

    def connect() -> int:
        return 1

    def fake(event: Event) -> int:
        return 2

    @app.on("t")
    def handle(n: Annotated[int, Depends(connect, scope="worker")]) -> None: ...

    app.dependency_overrides[connect] = fake
    with pytest.raises(AppError, match="fake is made once for a worker"):
        app.processors()


def test_override_of_a_batchs_cannot_be_of_one_event() -> None:
    app = App("plant")

    def connect() -> int:
        return 1

    def fake(event: Event) -> int:
        return 2

    @app.on("t", batch=True)
    def handle(events: list[Event], n: Annotated[int, Depends(connect)]) -> None: ...

    app.dependency_overrides[connect] = fake
    with pytest.raises(AppError, match="'event' is of one event"):
        app.processors()


def test_override_cannot_depend_on_what_it_stands_in_for() -> None:
    app = App("plant")

    def connect() -> int:
        return 1

    def fake(real: int) -> int:
        return real + 1

    fake.__annotations__["real"] = Annotated[int, Depends(connect)]

    @app.on("t")
    def handle(n: Annotated[int, Depends(connect)]) -> None: ...

    app.dependency_overrides[connect] = fake
    with pytest.raises(AppError, match=r"override .*fake depends on what it stands in for"):
        app.processors()


@pytest.mark.parametrize(
    ("shadow", "into", "told"),
    [
        ("peeks", None, "shadow='peeks' is no query in force; there is 'peaks'"),
        ("peaks-2", None, "shadow='peaks-2' is no query in force"),
        ("peaks", "alerts", "publishes on 'alerts' as the query in force"),
    ],
)
def test_what_is_no_shadow_is_told_at_its_place(shadow: str, into: str | None, told: str) -> None:
    app = App("plant")
    app.stream("telemetry", topics="site/{device}", key="device")
    text = "SELECT device, count(*) AS n FROM telemetry GROUP BY device, TumblingWindow(second, 10)"
    app.query("peaks", text, into="alerts")
    app.query("peaks-2", text, into=into, shadow=shadow)
    with pytest.raises(AppError, match=rf"{HERE}:\d+: query 'peaks-2'.*{told}"):
        app.plan()
