"""Queries in Python: the same plan as from text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from millstream import App, Stream
from millstream.app.fluent import Aggregated
from millstream.clock import to_text
from millstream.engine import WindowPlan
from millstream.errors import AppError

HERE = re.escape(str(Path(__file__).relative_to(Path.cwd())))


def make_app() -> tuple[App, Stream]:
    app = App("plant")
    return app, app.stream("tele-metry", topics="site/{site}/{device}", key="device")


def plan_of(app: App) -> WindowPlan:
    (plan,) = app.plan().values()
    return replace(plan, text="")


@pytest.mark.parametrize(
    ("fluent", "select", "rest", "grace"),
    [
        (
            lambda s: s.key_by("device").tumbling("1m").agg(n="count(*)"),
            "count(*) AS n",
            "GROUP BY device, TumblingWindow(minute, 1)",
            0,
        ),
        (
            lambda s: (
                s.key_by("device")
                .time("ts")
                .filter("celsius > -40")
                .filter("state = 'on' OR state = 'idle'")
                .hopping("30s", every="10s", offset="1s", grace="5s")
                .agg(peak="max(celsius)", mean="avg(celsius)")
                .where("peak > 80")
                .where("mean > 20 OR peak > 90")
            ),
            "max(celsius) AS peak, avg(celsius) AS mean",
            """TIMESTAMP BY ts WHERE (celsius > -40) AND (state = 'on' OR state = 'idle')
            GROUP BY device, HoppingWindow(Duration(second, 30), Hop(second, 10), Offset(second, 1))
            HAVING (peak > 80) AND (mean > 20 OR peak > 90)""",
            "5s",
        ),
        (
            lambda s: s.key_by("device", "site").sliding("500ms").agg(n="count(*)"),
            "count(*) AS n",
            "GROUP BY device, site, SlidingWindow(millisecond, 500)",
            0,
        ),
        (
            lambda s: s.key_by("device").count_window(100, every=10).agg(n="count(*)"),
            "count(*) AS n",
            "GROUP BY device, CountWindow(100, 10)",
            0,
        ),
        (
            lambda s: s.key_by("device").count_window(100, every=10, keep="7d").agg(n="count(*)"),
            "count(*) AS n",
            "GROUP BY device, CountWindow(100, 10, Keep(microsecond, 604800000000))",
            0,
        ),
        (
            lambda s: s.key_by("device").time("ts").count_window(100).agg(mean="avg(v)"),
            "avg(v) AS mean",
            "TIMESTAMP BY ts GROUP BY device, CountWindow(100)",
            0,
        ),
        (
            lambda s: s.key_by("device").time("ts").session("5m", at_most="1h").agg(order="count(*)"),
            'count(*) AS "order"',
            "TIMESTAMP BY ts GROUP BY device, SessionWindow(minute, 5, 60)",
            0,
        ),
    ],
)
def test_it_is_the_plan_of_the_text(
    fluent: Callable[[Stream], Aggregated], select: str, rest: str, grace: str | int
) -> None:
    app, stream = make_app()
    fluent(stream).into("results")
    other, _ = make_app()
    key = "device, site" if "site," in rest else "device"
    text = f'SELECT {key}, System.Timestamp() AS window_end, {select} FROM "tele-metry" {rest}'
    other.query("results", text, grace=grace)
    assert plan_of(app) == plan_of(other)


async def test_it_runs() -> None:
    app, telemetry = make_app()
    peaks = telemetry.key_by("device").time("ts").tumbling("10s").agg(peak="max(celsius)").into("peaks", name="highest")
    counts = peaks.key_by("_key").tumbling("1m").agg(n="count(*)").where("n > 1").into("counts")
    assert (peaks.name, counts.name) == ("peaks", "counts")
    async with app.test() as plant:
        for celsius in (20, 91, 30):
            data = {"ts": to_text(plant.clock.now()), "celsius": celsius}
            await plant.publish("site/a/press-1", data)
            await plant.advance("8s")
        await plant.advance("2m")
        assert [event.data["peak"] for event in plant.stream("peaks")] == [20, 91, 30]
        assert {event.type for event in plant.stream("peaks")} == {"highest"}


@pytest.mark.parametrize(
    ("declare", "told"),
    [
        (lambda s: s.key_by("device").tumbling("1 fortnight"), "'1 fortnight' is no duration"),
        (lambda s: s.key_by("device").tumbling("1m").agg(), r"agg\(\) names no column"),
        (lambda s: s.key_by("device").tumbling("1m").agg(n="count(*)").into("a b"), "the name 'a b' may have letters"),
        (lambda s: Stream(s.spec).key_by("device"), "belongs to no app"),
    ],
)
def test_what_is_wrong_is_told_at_its_line(declare: Callable[[Stream], object], told: str) -> None:
    _, stream = make_app()
    with pytest.raises(AppError, match=rf"{HERE}:\d+.*{told}"):
        declare(stream)


def test_an_error_in_an_expression_is_told_at_the_line_of_the_query() -> None:
    app, stream = make_app()
    stream.key_by("device").tumbling("1m").agg(n="max(celsius").into("counts")
    with pytest.raises(AppError, match=rf"{HERE}:\d+: query 'counts', line 2"):
        app.plan()


def test_pairs_are_a_query_with_a_join() -> None:
    app, stream = make_app()
    begun = stream.key_by("device").time("ts").filter("state = 'on' OR state = 'up'")
    ended = stream.key_by("device").time("ts").filter("state = 'off'")
    pairs = begun.join(ended, "1m", before="2s", on="a.n = b.n OR b.n = 0", optional=True, grace="5s").select(n="b.n")
    pairs.where("a.n > 1").where("b.n IS NULL").into("runs")
    plan = plan_of(app)
    assert plan.join is not None
    assert (plan.join.low, plan.join.high, plan.join.optional, plan.grace) == (-2_000_000, 60_000_000, True, 5_000_000)
    assert [column.name for column in plan.columns] == ["device", "n"]
    assert plan.join.left.where == '("state" = \'on\' OR "state" = \'up\') AND "n" > 1'
    assert plan.join.right.where == "\"state\" = 'off'"
    assert plan.join.on == '"a.n" = "b.n" OR "b.n" = 0'
    assert plan.where == '"b.n" IS NULL'


def test_wrong_pairs_are_told_at_their_line() -> None:
    _, stream = make_app()
    keyed = stream.key_by("device")
    with pytest.raises(AppError, match=rf"{HERE}:\d+: 'soon' is no duration"):
        keyed.join(keyed, "soon")
    with pytest.raises(AppError, match=rf"{HERE}:\d+: select\(\) names no column"):
        keyed.join(keyed, "1s").select()
    with pytest.raises(AppError, match=rf"{HERE}:\d+: join\(\) takes events as they are"):
        keyed.enrich("machines", "device = machines.id").join(keyed, "1s")


def test_events_by_themselves_are_changed_and_look_back() -> None:
    app, telemetry = make_app()
    lag = "LAG(celsius) OVER (PARTITION BY device LIMIT DURATION(minute, 10))"
    events = telemetry.key_by("device").time("ts").filter("celsius > -40")
    events.select(rise=f"celsius - {lag}", at="System.Timestamp()").into("rises")
    other, _ = make_app()
    other.query(
        "rises",
        f"""SELECT device, celsius - {lag} AS rise, System.Timestamp() AS at
            FROM "tele-metry" TIMESTAMP BY ts WHERE celsius > -40""",
    )
    assert plan_of(app) == plan_of(other)
    with pytest.raises(AppError, match=r"select\(\) names no column"):
        telemetry.key_by("device").select()


def test_early_results_are_asked_for_with_the_window() -> None:
    app, stream = make_app()
    keyed = stream.key_by("device")
    for number, windowed in enumerate(
        (keyed.tumbling("1m", early="10s"), keyed.hopping("1m", "30s", early=10), keyed.session("5m", early="10s"))
    ):
        windowed.agg(n="count(*)").into(f"results-{number}")
    assert [plan.early for plan in app.plan().values()] == [10_000_000] * 3
    assert "results-0.early" in app.streams
