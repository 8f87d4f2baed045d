"""The patterns that engineers bring from Stream Analytics, in its spelling, with the rows that its documentation has
(on data of our own)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from millstream.app import App
from millstream.clock import SECOND, to_text
from millstream.errors import AppError

START = 1_767_225_600 * SECOND - 86_400 * SECOND  # the day before the clock begins: what comes is not from the future
Sent = tuple[float, dict[str, Any]]


def at(second: float) -> str:
    return to_text(START + round(second * SECOND))


async def rows(text: str, sent: Sequence[Sent], *outputs: str, topic: str = "line/{Lane}/cars") -> list[Any]:
    """What comes out of a query over `Input`, by output."""
    app = App("plant")
    app.stream("Input", topics=topic, key="Lane")
    app.query("q", text)
    async with app.test() as plant:
        events = [(topic.replace("{Lane}", str(data.get("Lane", 1))), second, data) for second, data in sent]
        await plant.play([(name, {"Time": at(second), **data}) for name, second, data in events])
        await plant.advance("30min")
        found = [[event.data for event in plant.published(output)] for output in outputs or ("q",)]
        return found if outputs else found[0]


CARS: list[Sent] = [
    (second, {"Plate": plate, "Make": make})
    for second, plate, make in (
        (5, "A-1", "Opel"),
        (137, "B-2", "Ford"),
        (301, "A-3", "Opel"),
        (360, "C-4", "Fiat"),
        (571, "C-5", "Fiat"),
        (722, "A-6", "Opel"),
        (825, "D-7", "Saab"),
    )
]
TWO_OPEL, THREE_FORD = [(s, {"Make": "Opel"}) for s in (1, 2)], [(s, {"Make": "Ford"}) for s in (1, 2, 3)]
VALUES: list[Sent] = [(n + 1, {"v": v, "k": k}) for n, (v, k) in enumerate([(1, "a"), (3, "b"), (3, "a"), (9, "c")])]
TEN = "GROUP BY TumblingWindow(second, 10)"


async def test_types_are_converted() -> None:
    text = """SELECT Make, SUM(CAST(Weight AS BIGINT)) AS Weight FROM Input TIMESTAMP BY Time
              GROUP BY Make, TumblingWindow(second, 10)"""
    sent: list[Sent] = [(1, {"Make": "Opel", "Weight": "1000"}), (2, {"Make": "Opel", "Weight": "2000"})]
    assert await rows(text, sent) == [{"Make": "Opel", "Weight": 3000}]


async def test_events_are_chosen_by_a_pattern() -> None:
    text = "SELECT * FROM Input TIMESTAMP BY Time WHERE Plate LIKE 'C%5'"
    assert [row["Plate"] for row in await rows(text, CARS)] == ["C-5"]


async def test_cases_are_told_apart() -> None:
    text = """SELECT CASE WHEN COUNT(*) = 1 THEN CONCAT('1 ', Make)
                          ELSE CONCAT(CAST(COUNT(*) AS NVARCHAR(MAX)), ' ', Make, 's') END AS Passed,
                     System.TimeStamp() AS AsaTime
              FROM Input TIMESTAMP BY Time GROUP BY Make, TumblingWindow(second, 10)"""
    found = await rows(text, [(1, {"Make": "Opel"}), (2, {"Make": "Ford"}), (3, {"Make": "Ford"})])
    assert sorted(row["Passed"] for row in found) == ["1 Opel", "2 Fords"]
    assert {row["AsaTime"] for row in found} == {at(10)}


async def test_several_outputs_and_names_in_brackets() -> None:
    text = """SELECT * INTO Archive FROM Input TIMESTAMP BY [Time]

              SELECT [Make], System.TimeStamp() AS AsaTime, COUNT(*) [Count] INTO [Alert] FROM Input TIMESTAMP BY Time
              GROUP BY Make, TumblingWindow(second, 10) HAVING [Count] >= 3"""
    archive, alert = await rows(text, [*TWO_OPEL, *THREE_FORD], "Archive", "Alert")
    assert [row["Make"] for row in archive] == ["Opel"] * 2 + ["Ford"] * 3
    assert alert == [{"Make": "Ford", "AsaTime": at(10), "Count": 3}]


async def test_values_are_counted_once() -> None:
    text = """SELECT COUNT(DISTINCT Make) AS Makes, System.TIMESTAMP() AS AsaTIME FROM Input TIMESTAMP BY Time
              GROUP BY TumblingWindow(second, 2)"""
    sent = sorted([*TWO_OPEL, *THREE_FORD], key=lambda one: one[0])
    assert await rows(text, sent) == [{"Makes": 2, "AsaTIME": at(2)}, {"Makes": 1, "AsaTIME": at(4)}]


async def test_a_value_has_changed() -> None:
    text = "SELECT Make, Time FROM Input TIMESTAMP BY Time WHERE LAG(Make, 1) OVER (LIMIT DURATION(minute, 1)) <> Make"
    assert await rows(text, [(1, {"Make": "Opel"}), (2, {"Make": "Ford"})]) == [{"Make": "Ford", "Time": at(2)}]


async def test_first_of_each_interval_and_of_each_make_in_it() -> None:
    text = "SELECT Plate FROM Input TIMESTAMP BY Time WHERE IsFirst(minute, 10){} = 1"
    assert [row["Plate"] for row in await rows(text.format(""), CARS)] == ["A-1", "A-6"]
    of_make = await rows(text.format(" OVER (PARTITION BY Lane, Make)"), CARS)
    assert [row["Plate"] for row in of_make] == ["A-1", "B-2", "C-4", "A-6", "D-7"]


async def test_last_of_each_interval() -> None:
    """The window's end is up to its length after the last event in it."""
    text = """WITH LastInWindow AS (SELECT Lane, MAX(CAST(Time AS datetime)) AS LastEventTime
                                    FROM Input TIMESTAMP BY Time GROUP BY Lane, TumblingWindow(minute, 10))
              SELECT Input.Plate, Input.Make, Input.Time
              FROM Input TIMESTAMP BY Time INNER JOIN LastInWindow
              ON Input.Lane = LastInWindow.Lane AND DATEDIFF(minute, Input, LastInWindow) BETWEEN 0 AND 10
                 AND Input.Time = LastInWindow.LastEventTime"""
    assert [row["Plate"] for row in await rows(text, CARS)] == ["C-5", "D-7"]


async def test_two_of_a_make_in_a_row() -> None:
    text = """SELECT Plate AS This, LAG(Plate, 1) OVER (LIMIT DURATION(minute, 9)) AS Before,
                     LAST(*) OVER (LIMIT DURATION(minute, 9) WHEN Make = 'Ford') AS Ford
              FROM Input TIMESTAMP BY Time WHERE LAG(Make, 1) OVER (LIMIT DURATION(minute, 9)) = Make"""
    (row,) = await rows(text, CARS)
    assert (row["This"], row["Before"], row["Ford"]["Plate"]) == ("C-5", "C-4", "B-2")


async def test_time_between_events() -> None:
    text = """SELECT [Lane], feature,
                     DATEDIFF(second, LAST(Time) OVER (PARTITION BY [Lane], feature LIMIT DURATION(hour, 1)
                                                       WHEN Event = 'start'), Time) as duration
              FROM Input TIMESTAMP BY Time WHERE Event = 'end'"""
    sent: list[Sent] = [(1, {"feature": "menu", "Event": "start"}), (8, {"feature": "menu", "Event": "end"})]
    assert await rows(text, sent) == [{"Lane": "1", "feature": "menu", "duration": 7}]


async def test_how_long_a_condition_held() -> None:
    text = """WITH SelectPreviousEvent AS (
                  SELECT *, LAG([Time]) OVER (LIMIT DURATION(hour, 24)) as previousTime,
                         LAG([weight]) OVER (LIMIT DURATION(hour, 24)) as previousWeight
                  FROM Input TIMESTAMP BY [Time])
              SELECT LAG(Time) OVER (LIMIT DURATION(hour, 24) WHEN previousWeight < 20000) [StartFault],
                     previousTime [EndFault]
              FROM SelectPreviousEvent WHERE [weight] < 20000 AND previousWeight > 20000"""
    weights = [2000, 25000, 26000, 25000, 26000, 25000, 26000, 2000]
    found = await rows(text, [(n + 1, {"weight": weight}) for n, weight in enumerate(weights)])
    assert found == [{"StartFault": at(2), "EndFault": at(7)}]


async def test_what_is_missing_is_filled_with_what_was_last() -> None:
    text = """SELECT System.Timestamp() AS windowEnd, TopOne() OVER (ORDER BY Time DESC) AS lastEvent
              FROM Input TIMESTAMP BY Time GROUP BY HOPPINGWINDOW(second, 300, 5)"""
    found = await rows(text, [(second, {"v": v}) for v, second in enumerate((0, 5, 10, 15, 30, 35), 1)])
    assert [(row["windowEnd"], row["lastEvent"]["v"]) for row in found[:10]] == [
        (at(5 * n), v) for n, v in enumerate((1, 2, 3, 4, 4, 4, 5, 6, 6, 6))
    ]


async def test_two_kinds_of_events_of_one_stream() -> None:
    """An oven is cold although it was heated in the last three minutes: `(t - 3 min, t]`."""
    text = """WITH max_power AS (SELECT System.TimeStamp() AS windowTime, Lane, max(value) as maxPower
                                 FROM Input TIMESTAMP BY Time WHERE sensor = 'power'
                                 GROUP BY Lane, SlidingWindow(minute, 3))
              SELECT t1.Time AS eventTime, t1.value AS temp, t2.maxPower
              INTO results
              FROM Input t1 TIMESTAMP BY Time
              JOIN max_power t2 ON t1.Lane = t2.Lane AND t1.Time = t2.windowTime
                                   AND DATEDIFF(minute,t1,t2) between 0 and 3
              WHERE t1.sensor = 'temp' AND t1.value <= 40 AND t2.maxPower > 10"""
    readings = [(120, 15), (100, 15), (70, 15), (50, 15), (30, 8), (20, 8), (20, 8), (20, 8)]
    sent: list[Sent] = []
    for minute, (temp, power) in enumerate(readings, 1):
        sent += [(60 * minute, {"sensor": "temp", "value": temp}), (60 * minute, {"sensor": "power", "value": power})]
    (found,) = await rows(text, sent, "results")
    assert found == [{"eventTime": at(60 * m), "temp": temp, "maxPower": 15} for m, temp in ((5, 30), (6, 20))]


async def test_devices_whose_clocks_differ() -> None:
    text = (
        "SELECT Lane, COUNT(*) AS Count FROM Input TIMESTAMP BY Time OVER Lane GROUP BY TUMBLINGWINDOW(second, 5), Lane"
    )
    order = [(1, 1), (1, 5), (2, 1), (2, 4), (1, 10), (3, 3), (2, 11), (3, 7)]
    found = await rows(text, [(second, {"Lane": lane}) for lane, second in order])
    assert [row["Count"] for row in found if row["Lane"] == "1"] == [2, 1]
    assert [row["Count"] for row in found if row["Lane"] == "2"] == [2, 1]
    assert [row["Count"] for row in found if row["Lane"] == "3"] == [1, 1]


async def test_duplicates_are_left_out() -> None:
    text = """With Temp AS (SELECT COUNT(DISTINCT Time) AS CountTime, CAST(Value AS float) AS Value, Lane
                            FROM Input TIMESTAMP BY Time GROUP BY CAST(Value AS float), Lane, SYSTEM.TIMESTAMP())
              SELECT AVG(Value) AS Mean, Lane INTO Output FROM Temp GROUP BY Lane, TumblingWindow(minute, 5)"""
    values = [(1, 1, 50), (1, 1, 50), (2, 1, 40), (1, 5, 60), (2, 5, 50), (1, 10, 100)]
    (found,) = await rows(text, [(second, {"Lane": lane, "Value": v}) for lane, second, v in values], "Output")
    assert sorted((row["Lane"], row["Mean"]) for row in found) == [("1", 70), ("2", 45)]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ("TumblingWindow(second, 10)", [(10, 3), (20, 2)]),
        ("HoppingWindow(second, 10, 5)", [(5, 2), (10, 3), (15, 2), (20, 2), (25, 1)]),
        ("SlidingWindow(second, 10) HAVING COUNT(*) >= 3", [(6, 3)]),
        ("SessionWindow(second, 5, 10)", [(11, 3), (24, 2)]),
        ("System.Timestamp()", [(1, 1), (3, 1), (6, 1), (14, 1), (19, 1)]),
    ],
)
async def test_windows(window: str, expected: list[tuple[int, int]]) -> None:
    text = f"""SELECT System.Timestamp() AS EndTime, Topic, COUNT(*) AS Count FROM Input TIMESTAMP BY Time
               GROUP BY Topic, {window}"""
    found = await rows(text, [(second, {"Topic": "Streaming"}) for second in (1, 3, 6, 14, 19)])
    assert [(row["EndTime"], row["Count"]) for row in found] == [(at(second), n) for second, n in expected]


async def test_windows_at_once_in_their_short_names() -> None:
    text = """SELECT Lane, COUNT(*) AS n, System.Window().Id AS w, System.Timestamp AS t FROM Input TIMESTAMP BY Time
              GROUP BY Lane, Windows(Window('t', Tumbling(minute, 5)), Window('h', Hopping(minute, 10, 5)),
                                     Window('x', Sliding(minute, 2)), Window('s', Session(minute, 2, 20)))"""
    found = await rows(text, [(60 * minute, {}) for minute in (1, 2, 7)])
    by_window = {w: [(row["t"], row["n"]) for row in found if row["w"] == w] for w in "thxs"}
    assert by_window == {
        "t": [(at(300), 2), (at(600), 1)],
        "h": [(at(300), 2), (at(600), 3), (at(900), 1)],
        "x": [(at(60), 1), (at(120), 2), (at(180), 1), (at(420), 1)],
        "s": [(at(240), 2), (at(540), 1)],
    }


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ("CollectTop(2) OVER (ORDER BY v DESC)", [(1, 9, "c"), (2, 3, "b")]),
        ("CollectTop(3) OVER (ORDER BY v ASC)", [(1, 1, "a"), (2, 3, "b"), (3, 3, "a")]),
        (
            "CollectTop(9) OVER (ORDER BY v DESC, CAST(k AS nvarchar(max)) DESC)",
            [(1, 9, "c"), (2, 3, "b"), (3, 3, "a"), (4, 1, "a")],
        ),
    ],
)
async def test_the_first_ones_in_an_order(aggregate: str, expected: list[tuple[int, int, str]]) -> None:
    """Those that are equal in it come as they came; one without the value takes no part."""
    (row,) = await rows(f"SELECT {aggregate} AS top FROM Input TIMESTAMP BY Time {TEN}", [*VALUES, (5, {"k": "d"})])
    assert [(one["rank"], one["value"]["v"], one["value"]["k"]) for one in row["top"]] == expected


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ("COLLECT(v)", [1, 3, 3, 9]),
        ("PERCENTILE_CONT(0.25) OVER (ORDER BY v)", 2.5),
        ("Percentile_Disc(0.25) OVER (ORDER BY v)", 1),
        ("STDEVP(v)", 3),
        ("VARP(v)", 9),
        ("VAR(v)", 12),
        ("COUNT(DISTINCT k)", 3),
        ("SUM(v) / COUNT(*)", 4),
    ],
)
async def test_aggregates(aggregate: str, expected: Any) -> None:
    assert await rows(f"SELECT {aggregate} AS x FROM Input TIMESTAMP BY Time {TEN}", VALUES) == [
        {"x": pytest.approx(expected)}
    ]


NESTED = {
    "Location": {"Lat": 47, "Long": 122},
    "Readings": {"Temperature": 80, "Custom": [12, -5, 0], "About": {"Version": "1.2"}},
    "About": [{"name": "Maker", "value": "ABC"}, {"name": "Version", "value": "1.2"}],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Location.Lat, Readings.About.Version FROM Input", [{"Lat": 47, "Version": "1.2"}]),
        (
            "GetArrayElement(Readings.Custom, 0) AS x, GetArrayLength(Readings.Custom) AS n FROM Input",
            [{"x": 12, "n": 3}],
        ),
        (
            "Custom.ArrayIndex, Custom.ArrayValue FROM Input CROSS APPLY GetArrayElements(Readings.Custom) AS Custom",
            [{"ArrayIndex": n, "ArrayValue": v} for n, v in enumerate((12, -5, 0))],
        ),
        (
            "i.Lane, a.ArrayValue.name as name, a.ArrayValue.value as value FROM Input i "
            "CROSS APPLY GetArrayElements(About) AS a",
            [{"Lane": "1", "name": n, "value": v} for n, v in (("Maker", "ABC"), ("Version", "1.2"))],
        ),
        (
            "r.PropertyName FROM Input as e CROSS APPLY GetRecordProperties(e.Readings) AS r",
            [{"PropertyName": name} for name in ("Temperature", "Custom", "About")],
        ),
    ],
)
async def test_what_is_inside_of_events(text: str, expected: list[Any]) -> None:
    assert await rows(f"SELECT {text}", [(1, NESTED)]) == expected


async def test_a_row_becomes_a_column() -> None:
    text = """WITH About AS (SELECT i.Lane, a.ArrayValue.name as name, a.ArrayValue.value as value
                             FROM Input i TIMESTAMP BY i.Time CROSS APPLY GetArrayElements(i.About) AS a)
              SELECT i.Lane, V.value AS 'version' FROM Input i
              LEFT JOIN About V ON V.name = 'Version' and V.Lane = i.Lane AND DATEDIFF(minute,i,V) BETWEEN 0 AND 0"""
    assert await rows(text, [(1, NESTED)]) == [{"Lane": "1", "version": "1.2"}]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SELECT udf.f(v) AS x FROM Input", "a query has no functions of its own"),
        ("SELECT REGEXMATCH(k, 'a') AS x FROM Input", "there is no function regexmatch; write len"),
        ("SELECT GetMetadataPropertyValue(Input, 'EventId') AS x FROM Input", "what is known of an event are _id"),
        ("SELECT ST_DISTANCE(a, b) AS x FROM Input", "for places on the map"),
        (
            "SELECT AnomalyDetection_SpikeAndDip(v, 95, 120, 's') OVER (LIMIT DURATION(second, 120)) AS x FROM Input",
            "compare with what is usual",
        ),
        ("SELECT v FROM Input PARTITION BY PartitionId", "it is in partitions by its key; leave it out"),
        (f"SELECT COUNT(*) FROM Input {TEN}", "needs a name: write … AS name"),
        (f"SELECT CollectTop(2) OVER (ORDER BY v DESC, k ASC) AS x FROM Input {TEN}", "in one direction"),
        (f"SELECT TopOne() OVER (PARTITION BY k ORDER BY v) AS x FROM Input {TEN}", "TopOne is written"),
        (f"SELECT PERCENTILE_CONT(0.5) OVER (ORDER BY v DESC) AS x FROM Input {TEN}", "in ascending order"),
        ("SELECT Lane, Location.* FROM Input", "name the columns"),
    ],
)
def test_what_there_is_not_is_told_with_what_to_write(text: str, told: str) -> None:
    app = App("plant")
    app.stream("Input", topics="line/{Lane}/cars", key="Lane")
    app.query("q", text)
    with pytest.raises(AppError, match=told):
        app.check()
