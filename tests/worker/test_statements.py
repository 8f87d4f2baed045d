"""Texts of several queries, from end to end: steps with windows, UNION, and several INTO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from millstream.app import App
from millstream.clock import SECOND, to_text
from millstream.errors import AppError
from millstream.event import Event
from millstream.testing import Pause

START = 1_767_225_600 * SECOND  # where the clock begins


def make_app() -> App:
    app = App("plant")
    app.stream("telemetry", topics="site/{site}/{device}/telemetry", key="device")
    app.stream("readings", topics="hall/{device}", key="device")
    return app


def reading(second: float, device: str = "press-1", hall: bool = False, **data: Any) -> tuple[str, object]:
    topic = f"hall/{device}" if hall else f"site/a/{device}/telemetry"
    return topic, {"ts": to_text(START + round(second * SECOND)), **data}


def at(second: float) -> str:
    return to_text(START + round(second * SECOND))


def data(events: Sequence[Event]) -> list[Any]:
    return [event.data for event in events]


async def test_windows_of_windows() -> None:
    """The highest average of ten seconds in a minute; the window that ends with the minute is in it."""
    app = make_app()
    app.query(
        "highest",
        """WITH hot AS (SELECT * FROM telemetry TIMESTAMP BY ts WHERE v > 0),
                averages AS (SELECT device, avg(v) AS mean FROM hot GROUP BY device, TumblingWindow(second, 10))
           SELECT device, max(mean) AS top, count(*) AS n, System.Timestamp() AS t FROM averages
           GROUP BY device, TumblingWindow(minute, 1)""",
    )
    async with app.test() as plant:
        values = [(1, 1), (2, 3), (15, 9), (15.5, -100), (59, 4), (60, 6), (61, 7)]
        await plant.play([reading(second, v=v) for second, v in values])
        await plant.advance("3min")
        assert data(plant.published("highest")) == [
            {"device": "press-1", "top": 9.0, "n": 3, "t": at(60)},
            {"device": "press-1", "top": 7.0, "n": 1, "t": at(120)},
        ]
        (first, *_) = plant.stream("$highest.averages")
        assert (first.topic, first.key) == ("$highest.averages", "press-1")
        assert first.data == {"device": "press-1", "mean": 2.0, "$time": at(10)}


async def test_results_of_windows_are_chosen_and_looked_back_to() -> None:
    app = make_app()
    app.query(
        "rises",
        """WITH averages AS (SELECT device, site, avg(v) AS mean FROM telemetry TIMESTAMP BY ts
                             GROUP BY device, site, TumblingWindow(second, 10))
           SELECT *, mean - LAG(mean) OVER (PARTITION BY device, site LIMIT DURATION(minute, 1)) AS rise
           FROM averages WHERE mean > 1""",
    )
    async with app.test() as plant:
        await plant.play([reading(second, v=second) for second in (1, 11, 21, 32)])
        await plant.advance("30s")
        assert [(result["mean"], result["rise"]) for result in data(plant.published("rises"))] == [
            (11.0, 10.0),
            (21.0, 10.0),
            (32.0, 11.0),
        ]
        assert set(plant.published("rises")[0].data) == {"device", "site", "mean", "rise"}


async def test_union_publishes_the_results_of_both() -> None:
    app = make_app()
    app.query(
        "all",
        """SELECT device, v, 'site' AS place FROM telemetry WHERE v > 1
           UNION SELECT device, v, 'hall' AS place FROM readings""",
    )
    async with app.test() as plant:
        await plant.play([reading(1, v=1), reading(1, v=2), reading(2, hall=True, v=1)])
        found = sorted((result["place"], result["v"]) for result in data(plant.published("all")))
        assert found == [("hall", 1), ("site", 2)]
        assert {event.type for event in plant.published("all")} == {"all.1", "all.2"}


async def test_windows_of_several_kinds_tell_theirs() -> None:
    """Those that stand still are one query, each that moves is another; all of them publish into the same stream."""
    app = make_app()
    app.query(
        "all",
        """SELECT device, System.Window().Id AS kind, count(*) AS n, System.Timestamp() AS t
           FROM telemetry TIMESTAMP BY ts
           GROUP BY device, Windows(
               Window('ten', TumblingWindow(second, 10)), Window('run', SessionWindow(second, 5)),
               Window('now', SlidingWindow(second, 3)), Window('two', HoppingWindow(second, 20, 10)))
           HAVING count(*) > 0""",
    )
    assert [query.name for query in app.queries] == ["all.1", "all.2", "all.3"]
    async with app.test() as plant:
        await plant.play([reading(second, v=1) for second in (1, 3, 12)])
        await plant.advance("2min")
        found = [(result["kind"], result["t"], result["n"]) for result in data(plant.published("all"))]
        assert sorted(found) == [
            *[("now", at(second), n) for second, n in ((1, 1), (3, 2), (4, 1), (12, 1))],
            ("run", at(8), 2),
            ("run", at(17), 1),
            ("ten", at(10), 2),
            ("ten", at(20), 1),
            ("two", at(10), 2),
            ("two", at(20), 3),
            ("two", at(30), 1),
        ]


async def test_a_step_with_windows_of_several_kinds_is_read() -> None:
    app = make_app()
    app.query(
        "most",
        """WITH counts AS (SELECT device, System.Window().Id AS kind, count(*) AS n FROM telemetry TIMESTAMP BY ts
                           GROUP BY device, Windows(Window('ten', TumblingWindow(second, 10)),
                                                    Window('run', SessionWindow(second, 5))))
           SELECT device, kind, max(n) AS n FROM counts GROUP BY device, kind, TumblingWindow(minute, 1)""",
    )
    assert [query.name for query in app.queries] == ["most.counts.1", "most.counts.2", "most"]
    async with app.test() as plant:
        await plant.play([reading(second, v=1) for second in (1, 3, 6, 12)])
        await plant.advance("3min")
        found = [(result["kind"], result["n"]) for result in data(plant.published("most"))]
        assert sorted(found) == [("run", 3), ("ten", 3)]


async def test_windows_over_a_union_of_streams() -> None:
    app = make_app()
    app.query(
        "both",
        """WITH everything AS (SELECT device, v FROM telemetry TIMESTAMP BY ts
                               UNION SELECT device, w AS v FROM readings TIMESTAMP BY ts)
           SELECT device, sum(v) AS total, count(*) AS n FROM everything GROUP BY device, TumblingWindow(second, 10)""",
    )
    async with app.test() as plant:
        await plant.play([reading(1, v=1), reading(2, hall=True, w=20), reading(3, v=300), Pause("1min")])
        assert data(plant.published("both")) == [{"device": "press-1", "total": 321.0, "n": 3}]


async def test_several_outputs_of_one_text() -> None:
    app = make_app()
    app.query(
        "all",
        """WITH hot AS (SELECT * FROM telemetry TIMESTAMP BY ts WHERE v > 10),
                counts AS (SELECT device, count(*) AS n FROM hot GROUP BY device, TumblingWindow(second, 10))
           SELECT device, v INTO alerts FROM hot
           SELECT device, n INTO many FROM counts WHERE n > 1
           SELECT device, max(n) AS n INTO most FROM counts GROUP BY device, TumblingWindow(minute, 1)""",
    )
    assert [query.name for query in app.queries] == ["all.counts", "all.alerts", "all.many", "all.most"]
    async with app.test() as plant:
        await plant.play([reading(1, v=11), reading(2, v=12), reading(3, v=1), reading(15, v=13), Pause("2min")])
        assert data(plant.alerts) == [{"device": "press-1", "v": v} for v in (11, 12, 13)]
        assert data(plant.published("many")) == [{"device": "press-1", "n": 2}]
        assert data(plant.published("most")) == [{"device": "press-1", "n": 2}]


async def test_results_of_one_query_are_grouped_by_their_key_in_another() -> None:
    app = make_app()
    means = app.query(
        "means",
        """SELECT device, avg(v) AS mean, System.Timestamp() AS t FROM telemetry TIMESTAMP BY ts
           GROUP BY device, TumblingWindow(second, 10)""",
    )
    means.key_by("device").time("t").tumbling("1min").agg(top="max(mean)").into("tops")
    async with app.test() as plant:
        await plant.play([reading(1, v=1), reading(15, v=9), Pause("2min")])
        assert [result["top"] for result in data(plant.published("tops"))] == [9.0]


@pytest.mark.parametrize(
    ("text", "into", "told"),
    [
        ("SELECT v INTO a FROM telemetry", "b", "INTO a; leave out into=…"),
        ("SELECT v FROM telemetry SELECT v INTO b FROM telemetry", None, "of several queries in a text each says"),
        ("SELECT v INTO $x FROM telemetry", None, "may have letters"),
    ],
)
def test_where_results_go_is_said_once(text: str, into: str | None, told: str) -> None:
    with pytest.raises(AppError, match=told):
        make_app().query("q", text, into=into)


def test_errors_have_the_place_in_the_whole_text() -> None:
    app = make_app()
    app.query(
        "q",
        """WITH m AS (SELECT device, avg(v) AS mean FROM telemetry GROUP BY device, TumblingWindow(second, 10))
        SELECT device, max(men) + flor(1) AS x FROM m
        GROUP BY device, TumblingWindow(minute, 1)""",
    )
    with pytest.raises(AppError, match=r"query 'q', line 2, column 35: .*flor"):
        app.check()
    app = make_app()
    app.query(
        "q",
        """WITH m AS (SELECT device, avg(v) AS mean FROM telemetry GROUP BY device, TumblingWindow(second, 10))
        SELECT device, max(men) AS x FROM m
        GROUP BY device, TumblingWindow(minute, 1)""",
    )
    with pytest.raises(
        AppError, match=r"query 'q', line 2, column 28: the step has no column 'men'; did you mean 'mean'"
    ):
        app.check()
    app = make_app()
    app.query(
        "q",
        """WITH m AS (SELECT device, avg(v) AS mean FROM telemetry GROUP BY device, TumblngWindow(second, 10))
        SELECT device, max(mean) AS x FROM m GROUP BY device, TumblingWindow(minute, 1)""",
    )
    with pytest.raises(AppError, match=r"query 'q.m', line 1, column 74: .*did you mean TumblingWindow"):
        app.check()
