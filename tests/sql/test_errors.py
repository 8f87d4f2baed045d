"""What is wrong in a query is said at its place, with the mend."""

# ruff: noqa: E501 (a case a line)

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.engine import processor_of
from millstream.errors import QueryError
from millstream.log.contract import StreamSpec
from millstream.sql import plan_query

STREAMS = {
    spec.name: spec
    for spec in (
        StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device"),
        StreamSpec("levels", ("site/{site}/{device}/state",)),
        StreamSpec("answers", ("answers/{machine}",), key="machine"),
        StreamSpec("few", ("few/{device}",), key="device", partitions=4),
        StreamSpec("wild", ("site/{site}/#",)),
        StreamSpec("everything", ("#",)),
    )
}
WINDOW = "GROUP BY device, TumblingWindow(second, 10)"
GROUP = "SELECT device FROM telemetry GROUP BY device,"
SEVERAL = "Windows(Window('a', TumblingWindow(second, 10)), Window('b', HoppingWindow(minute, 10, 5)))"
TAKES = f"Windows(…) takes TumblingWindow, HoppingWindow, SlidingWindow and SessionWindow, as in {SEVERAL}"
EXAMPLE = "WITH hot AS (SELECT device, celsius FROM telemetry WHERE celsius > 80) SELECT … FROM hot …"
NEAR = "DATEDIFF(second, a, b) BETWEEN 0 AND 10"
PAIR = f"a.device = b.device AND {NEAR}"
JOINED = "FROM telemetry t JOIN machines m ON t.machine = m.id"
STEP = (
    f"a step of WITH chooses and changes events, as in {EXAMPLE}; windows stand in the last SELECT, or in a query of "
    "their own"
)
SEVERAL_QUERIES = "the text has several queries, or says INTO: app.query takes it apart"
STEP_READS = f"a step of WITH reads a stream or a step before it, as in {EXAMPLE}"
PARTITION = "PARTITION BY must contain the stream's key, because the events before are kept for each key by itself: "
UNSETTLED = (
    "does not depend on the events, and would give another result when they are processed again; the time of an event "
    "is _time, the end of its window System.Timestamp()"
)
TIME = (
    "TIMESTAMP BY needs a time; write to_timestamp(x::DOUBLE) for seconds since 1970, epoch_ms(x::BIGINT) for "
    "milliseconds, or a field with ISO 8601 text by itself (this is a BIGINT)"
)

CASES = [
    # the text
    ("", 1, 1, "the query is empty; write SELECT … FROM stream … GROUP BY …, TumblingWindow(second, 10)"),
    ("SELECT (device FROM telemetry", 1, 8, "this ( is not closed"),
    (f"SELECT device, max(celsius AS peak FROM telemetry {WINDOW}", 1, 19, "this ( is not closed"),
    (f"SELECT device, max(celsius)) AS peak FROM telemetry {WINDOW}", 1, 28, "this ) closes nothing"),
    ("SELECT device FROM telemetry\nWHERE", 2, 1, "the query cannot be read near 'WHERE'"),
    ("SELECT 'device FROM telemetry", 1, 8, "a quote or a comment is not closed"),
    ("DROP TABLE telemetry", 1, 1, "DROP is not supported; a query is one SELECT"),
    ("SELECT device FROM telemetry; SELECT 1", 1, 1, SEVERAL_QUERIES),
    ("SELECT device FROM telemetry UNION SELECT 1", 1, 1, SEVERAL_QUERIES),
    # the stream
    ("SELECT 1 AS one", 1, 8, "the query has no FROM; name the stream that it reads"),
    (f"SELECT device\nFROM telemtry {WINDOW}", 2, 6, "there is no stream 'telemtry'; did you mean 'telemetry'?"),
    ("SELECT a FROM x", 1, 15, "there is no stream 'x'; there are answers, everything, few, levels, telemetry, wild"),
    ("SELECT a FROM (SELECT 1 AS a)", 1, 23, "FROM takes the name of a stream"),
    # clauses there are not
    # steps
    (f"WITH x AS (SELECT 1) SELECT device FROM telemetry {WINDOW}", 1, 19, STEP_READS),
    ("WITH x AS (SELECT count(*) AS n FROM telemetry) SELECT n FROM x", 1, 19, STEP),
    ("WITH x AS (SELECT v FROM telemetry GROUP BY v) SELECT v FROM x", 1, 1, SEVERAL_QUERIES),
    ("WITH x AS (SELECT v FROM telemetry) SELECT device, w AS y FROM x", 1, 44, "the step has no column 'device'; it has v"),
    ("WITH x AS (SELECT celsius FROM telemetry) SELECT celcius FROM x", 1, 50, "the step has no column 'celcius'; did you mean 'celsius'?"),
    ("WITH x AS (SELECT v + 1 AS w FROM telemetry) SELECT w.y AS z FROM x", 1, 53, "'w' is computed, and has no field 'y'"),
    ("WITH x AS (SELECT v + 1 FROM telemetry) SELECT w FROM x", 1, 19, "v + 1 needs a name: write … AS name"),
    ("WITH x AS (SELECT v FROM telemtry) SELECT v FROM x", 1, 26, "there is no stream 'telemtry'; did you mean 'telemetry'?"),
    (f"WITH x AS (SELECT device, System.Timestamp() AS t FROM telemetry) SELECT max(t) AS t FROM x {WINDOW}", 1, 27, "System.Timestamp() in a step is the event's time, which windows behind it have not; select the field that it is, or _time"),
    (f"SELECT DISTINCT device FROM telemetry {WINDOW}", 1, 17, "SELECT DISTINCT is not supported; GROUP BY already gives one result for each group and window"),
    ("SELECT a.v FROM telemetry a JOIN telemetry b ON a.device = b.device", 1, 49, "events are joined within a bound of time, because a stream has no end: add AND DATEDIFF(second, a, b) BETWEEN 0 AND 10"),
    (f"SELECT a.v FROM telemetry a JOIN telemetry b ON {NEAR}", 1, 66, "events are joined key by key, and the key of stream 'telemetry' is {device}: add AND a.device = b.device"),
    (f"SELECT a.v FROM telemetry a JOIN telemetry b ON a.v = b.device AND {NEAR}", 1, 49, "events are joined key by key, and the key of stream 'telemetry' is {device}: add AND a.device = b.device"),
    (f"SELECT a.v FROM levels a JOIN levels b ON a.v = b.v AND {NEAR}", 1, 43, "events are joined key by key, and the key of stream 'levels' is that of each event, or its topic: add AND a._key = b._key"),
    ("SELECT a.v FROM telemetry a JOIN telemetry b ON DATEDIFF(second, a, b) < 10", 1, 66, "DATEDIFF of the sides of a JOIN is written DATEDIFF(second, a, b) BETWEEN 0 AND 10, in milliseconds, seconds, minutes, hours or days"),
    ("SELECT a.v FROM telemetry a JOIN telemetry b ON DATEDIFF(month, a, b) BETWEEN 0 AND 1", 1, 65, "DATEDIFF of the sides of a JOIN is written DATEDIFF(second, a, b) BETWEEN 0 AND 10, in milliseconds, seconds, minutes, hours or days"),
    ("SELECT a.v FROM telemetry a JOIN telemetry b ON DATEDIFF(second, a, b) BETWEEN 3 AND 1", 1, 66, "no pair of events can be within these bounds; the lower one comes first"),
    ("SELECT a.v FROM telemetry a JOIN telemetry b ON DATEDIFF(day, a, b) BETWEEN 0 AND 400", 1, 63, "a bound of more than 366 days is not supported"),
    (f"SELECT v FROM telemetry a JOIN telemetry b ON {PAIR}", 1, 8, "'v' may be of either side; write a.v or b.v"),
    (f"SELECT a.v, count(*) AS n FROM telemetry a JOIN telemetry b ON {PAIR} GROUP BY a.v", 1, 137, "a JOIN gives pairs of events; aggregate them in a query over its results, which are a stream"),
    (f"SELECT count(*) AS n FROM telemetry a JOIN telemetry b ON {PAIR}", 1, 8, "a JOIN gives pairs of events; aggregate them in a query over its results, which are a stream"),
    (f"SELECT telemetry.v FROM telemetry JOIN telemetry ON {PAIR}", 1, 40, "both sides are called 'telemetry'; give them names: FROM a JOIN b ON a.device = b.device AND DATEDIFF(second, a, b) BETWEEN 0 AND 10"),
    (f"SELECT a.v FROM telemetry a JOIN levels b ON {PAIR}", 1, 46, "streams are joined key by key, and the key of 'telemetry' is {device}, the key of 'levels' that of each event, or its topic: declare app.stream('levels', …, key=…) with what you compare; or, if events carry the same keys, add AND a._key = b._key"),
    (f"SELECT a.v FROM telemetry a JOIN answers b ON a.v = b.v AND {NEAR}", 1, 47, "streams are joined key by key, and the key of 'telemetry' is {device}, the key of 'answers' {machine}: add AND a.device = b.machine"),
    (f"SELECT a.v FROM telemetry a JOIN few b ON {PAIR}", 1, 34, "streams are joined partition by partition, and 'telemetry' has 8 and 'few' has 4; declare both alike: app.stream('few', …, partitions=8)"),
    (f"SELECT a.v FROM telemetry a JOIN telemetri b ON {PAIR}", 1, 34, "there is no stream or reference data 'telemetri'; did you mean 'telemetry'?"),
    (f"SELECT a.v FROM telemetry a FULL JOIN telemetry b ON {PAIR}", 1, 39, "FULL JOIN is not supported; there are JOIN and LEFT JOIN"),
    (f"SELECT a.v FROM telemetry a JOIN telemetry b ON {PAIR} JOIN machines m ON a.x = m.id", 1, 118, "one JOIN joins events with events, and no other stands beside it; join reference data in a step of WITH, and a third side in a query over the results of the first two"),
    (f"SELECT a.v FROM telemetry a TIMESTAMP BY ts JOIN telemetry b TIMESTAMP BY tz ON {PAIR}", 1, 75, "both sides are of one stream, whose events have one time; write one expression for both, as in TIMESTAMP BY coalesce(ts, tz)"),
    (f"WITH x AS (SELECT v AS vv, device FROM telemetry) SELECT a.v FROM x a JOIN x b ON {PAIR}", 1, 58, "the step has no column 'v'; did you mean 'vv'?"),
    (f"SELECT LAG(a.v + b.v) OVER (LIMIT DURATION(hour, 1)) AS w FROM telemetry a JOIN telemetry b ON {PAIR}", 1, 8, "LAG looks back over the events of one side of a JOIN, and all columns in it are of that: a.x; or put it in a step of WITH, which the JOIN reads"),
    (f"SELECT a.v, LAG(a.v) OVER (LIMIT DURATION(hour, 1)) FROM telemetry a JOIN telemetry b ON {PAIR}", 1, 13, "LAG(a.v) needs a name: write … AS name"),
    (f"SELECT a.v FROM telemetry a CROSS APPLY GetArrayElements(a.x) AS r JOIN telemetry b ON {PAIR}", 1, 41, "a side of a JOIN has the rows of an APPLY from a step of WITH: put GETARRAYELEMENTS(a.x) there, and JOIN the step"),
    (f"SELECT a.v + b.v FROM telemetry a JOIN telemetry b ON {PAIR}", 1, 8, "a.v + b.v needs a name: write … AS name"),
    (f"SELECT device FROM telemetry JOIN machine m ON machine = m.id {WINDOW}", 1, 35, "there is no stream or reference data 'machine'; did you mean 'machines'?"),
    (f"SELECT device FROM telemetry JOIN machines telemetry ON machine = telemetry.id {WINDOW}", 1, 35, "two tables are called 'telemetry'; give one another name: JOIN machines AS …"),
    (f"SELECT device FROM telemetry FULL JOIN machines m ON machine = m.id {WINDOW}", 1, 40, "FULL JOIN is not supported; there are JOIN and LEFT JOIN"),
    (f"SELECT device FROM telemetry JOIN machines m USING (id) {WINDOW}", 1, 35, f"JOIN says with ON which columns are equal, as in {JOINED}"),
    (f"SELECT device FROM telemetry JOIN machines m ON machine = m.idd {WINDOW}", 1, 59, "m has no column 'idd'; did you mean 'id'?"),
    (f"SELECT device FROM telemetry JOIN machines m ON machine > m.id {WINDOW}", 1, 49, f"ON says which columns of machines are equal to what the event has, as in {JOINED}; other conditions stand in WHERE"),
    (f"SELECT device FROM telemetry JOIN machines m ON m.id = m.line {WINDOW}", 1, 49, f"ON says which columns of machines are equal to what the event has, as in {JOINED}; other conditions stand in WHERE"),
    (f"SELECT device FROM telemetry JOIN machines m ON machine = m.id AND random() > 0.5 {WINDOW}", 1, 68, "random does not depend on the events, and would give another result when they are processed again; the time of an event is _time, the end of its window System.Timestamp()"),
    (f"SELECT device FROM telemetry, answers {WINDOW}", 1, 31, "JOIN says with ON what belongs together, as in FROM a JOIN b ON a.device = b.device AND DATEDIFF(second, a, b) BETWEEN 0 AND 10"),
    (f"SELECT device FROM telemetry {WINDOW}\nORDER BY device", 2, 10, "ORDER BY is not supported; results come in the order of the windows' ends"),
    (f"SELECT device FROM telemetry {WINDOW} LIMIT 3", 1, 80, "LIMIT is not supported; a stream has no end, so use HAVING to choose results"),
    (f"SELECT device INTO x FROM telemetry {WINDOW}", 1, 1, SEVERAL_QUERIES),
    ("SELECT device INTO x FROM telemetry UNION SELECT device INTO y FROM telemetry", 1, 57, "the results go INTO one stream, which the first SELECT names"),
    ("SELECT device FROM telemetry UNION DISTINCT SELECT device FROM telemetry", 1, 36, "UNION gives all results; there is no UNION DISTINCT over streams"),
    ("SELECT device FROM telemetry EXCEPT SELECT device FROM telemetry", 1, 1, "EXCEPT is not supported; a query is one SELECT"),
    ("SELECT device FROM telemetry GROUP BY ALL", 1, 8, "GROUP BY ALL is not supported; name the columns"),
    (f"SELECT (SELECT 1) AS x FROM telemetry {WINDOW}", 1, 16, "a subquery is not supported yet"),
    (f"SELECT * FROM telemetry {WINDOW}", 1, 8, "* is not supported; name the columns"),
    (f"SELECT sum(x) OVER () AS x FROM telemetry {WINDOW}", 1, 8, "OVER is not supported; windows of time stand in GROUP BY: TumblingWindow(second, 10)"),
    (f"SELECT unnest(x) AS x FROM telemetry {WINDOW}", 1, 8, "UNNEST is not supported yet"),
    (f"SELECT max(x) + ? AS x FROM telemetry {WINDOW}", 1, 8, "a query has no parameters; write the value itself"),
    # windows
    ("SELECT device FROM telemetry GROUP BY device", 1, 39, "a query over a stream needs a window: GROUP BY device, TumblingWindow(second, 10)"),
    ("SELECT avg(v) AS m FROM telemetry", 1, 8, "a query over a stream needs a window: GROUP BY device, TumblingWindow(second, 10)"),
    ("SELECT device FROM telemetry HAVING true", 1, 8, "a query over a stream needs a window: GROUP BY device, TumblingWindow(second, 10)"),
    # without windows
    ("SELECT v AS x, * FROM telemetry", 1, 16, "* is not supported; name the columns"),
    ("SELECT device FROM telemetry TIMESTAMP BY ts OVER sensor", 1, 51, "each key has a time of its own: OVER takes device, or may be left out"),
    ("SELECT device FROM telemetry\nTIMESTAMP BY ts\nOVER device, sensor", 3, 6, "each key has a time of its own: OVER takes device, or may be left out"),
    ("SELECT device FROM telemetry TIMESTAMP BY ts OVER", 1, 46, "OVER needs a column: TIMESTAMP BY ts OVER device"),
    # looking back
    ("SELECT LAG(v) AS x FROM telemetry", 1, 8, "LAG looks back for so long as LIMIT DURATION(unit, n) says: LAG(celsius) OVER (LIMIT DURATION(hour, 1))"),
    ("SELECT LAST(v) OVER (PARTITION BY device) AS x FROM telemetry", 1, 8, "LAST looks back for so long as LIMIT DURATION(unit, n) says: LAST(celsius) OVER (LIMIT DURATION(hour, 1) WHEN celsius > 80)"),
    ("SELECT LAG(v, -1) OVER (LIMIT DURATION(hour, 1)) AS x FROM telemetry", 1, 8, "the offset of LAG is a whole number, as in LAG(celsius, 2) OVER (LIMIT DURATION(hour, 1))"),
    ("SELECT LAG(v, 5000) OVER (LIMIT DURATION(hour, 1)) AS x FROM telemetry", 1, 8, "LAG looks back at most 1000 events"),
    ("SELECT LAG(v) OVER (LIMIT DURATION(huor, 1)) AS x FROM telemetry", 1, 36, "'huor' is no unit of time; did you mean 'hour'?"),
    ("SELECT LAG(v) OVER (LIMIT DURATION(hour, 0)) AS x FROM telemetry", 1, 8, "the DURATION is a whole number from 1, as in LAG(celsius) OVER (LIMIT DURATION(hour, 1))"),
    ("SELECT LAG(v) OVER (LIMIT DURATION(day, 400)) AS x FROM telemetry", 1, 8, "LAG looks back at most 366 days"),
    ("SELECT LAG(v, 1, *) OVER (LIMIT DURATION(day, 4)) AS x FROM telemetry", 1, 8, "LAG takes a column or an expression, as in LAG(celsius) OVER (LIMIT DURATION(hour, 1))"),
    ("SELECT v,\n  ISFIRST(minute) AS x FROM telemetry", 2, 3, "ISFIRST takes a unit and a number, and has no LIMIT: ISFIRST(minute, 10) OVER (PARTITION BY device)"),
    ("SELECT LAG(v) OVER (PARTITION BY site LIMIT DURATION(day, 4)) AS x FROM telemetry", 1, 34, f"{PARTITION}the key of stream 'telemetry' is {{device}}; add device; or declare the stream with key='site'"),
    ("SELECT LAG(v) OVER (LIMIT DURATION(day, 4) WHEN v + 1) AS x FROM telemetry", 1, 49, "WHEN takes a condition, and this is a DOUBLE"),
    ("SELECT LAG(max(v)) OVER (LIMIT DURATION(day, 4)) AS x FROM telemetry", 1, 12, "LAG looks back to events, which come before there are windows; an aggregate is of a window"),
    (f"SELECT device, LAG(v) OVER (LIMIT DURATION(day, 4)) AS x FROM telemetry {WINDOW}", 1, 20, "what an event finds when it looks back stands in WHERE, or inside of an aggregate, as in max(v - LAG(v) OVER (…)), where there are windows"),
    ("SELECT v FROM telemetry TIMESTAMP BY LAG(v) OVER (LIMIT DURATION(day, 4))", 1, 38, "the time of an event does not depend on others: TIMESTAMP BY cannot look back"),
    ("SELECT LAG(flor(v)) OVER (LIMIT DURATION(day, 4)) AS x FROM telemetry", 1, 12, "Scalar Function with name flor does not exist! Did you mean \"floor\"?"),
    ("SELECT LAG(v::BLOB) OVER (LIMIT DURATION(day, 4)) AS x FROM telemetry", 1, 8, "LAG cannot keep a BLOB; write a cast"),
    ("SELECT v + 1 FROM telemetry", 1, 8, "v + 1 needs a name: write … AS name"),
    ("SELECT System.Window().Id AS x FROM telemetry", 1, 8, "System.Window().Id is a window's, and this query has none"),
    ("SELECT device FROM everything", 1, 20, "the stream 'everything' captures 'out' too, where the results go, so that they would be read again for ever; read a stream that does not, or give the results another topic"),
    (f"SELECT device FROM telemetry {WINDOW}, TumblingWindow(day, 1)", 1, 75, "a query has one window; several at once are Windows(Window('a', …), Window('b', …))"),
    (f"{GROUP} SlidingWindow(second, 10, 5)", 1, 47, "SlidingWindow takes a unit and a number, as in SlidingWindow(second, 10)"),
    (f"{GROUP} SlidngWindow(second, 10)", 1, 47, "there is no function SlidngWindow; did you mean SlidingWindow?"),
    (f"{GROUP} SessionWindow(second, 0)", 1, 69, "the timeout of SessionWindow is a whole number from 1, as in SessionWindow(minute, 5, 60)"),
    (f"{GROUP} SessionWindow(second, 5, 0)", 1, 72, "the maximum duration of SessionWindow is a whole number from 1, as in SessionWindow(minute, 5, 60)"),
    (f"{GROUP} SessionWindow(second, 5) OVER (PARTITION BY site)", 1, 91, "windows are of each key by itself: PARTITION BY takes device, or may be left out"),
    (f"{GROUP} CountWindow(100, Keep(hour, 3))", 1, 64, "silent groups are kept for 1 to 366 days, as in CountWindow(100, Keep(day, 7))"),
    (f"{GROUP} CountWindow(100, Keep(7))", 1, 64, "Keep takes a unit and a number, as in CountWindow(100, Keep(day, 7))"),
    (f"{GROUP} CountWindow(0)", 1, 47, "CountWindow takes how many events it has, from 1, as in CountWindow(100), or CountWindow(100, 10)"),
    (f"{GROUP} CountWindow(second, 10)", 1, 47, "CountWindow takes how many events it has, from 1, as in CountWindow(100), or CountWindow(100, 10)"),
    (f"{GROUP} CountWindow(10, 20)", 1, 47, "the hop of CountWindow is longer than its size, so that events between two windows would be in none; choose them with WHERE"),
    (f"{GROUP} CountWindow(20000, 1)", 1, 47, "every event would be in 20000 windows; at most 10000 are possible"),
    (f"{GROUP} CoutWindow(10)", 1, 47, "there is no function CoutWindow; did you mean CountWindow?"),
    ("SELECT site FROM telemetry GROUP BY site, CountWindow(5)", 1, 43, "CountWindow counts the events of a key, in the order in which they stand in its partition, and these groups come from all partitions; add device to GROUP BY"),
    (f"{GROUP} Windows(SlidingWindow(second, 5), TumblingWindow(second, 5))", 1, 1, SEVERAL_QUERIES),
    (f"{GROUP} Windows(SlidingWindow(second, 5), CountWindow(5))", 1, 1, SEVERAL_QUERIES),
    (f"{GROUP} Windows(CountWindow(5), TumblingWindow(second, 5))", 1, 55, f"CountWindow stands alone in GROUP BY; {TAKES}"),
    (f"{GROUP} Windows(SlidingWindow(second, 5), Window('x', TumblingWindow(day, 2)))", 1, 47, f"Windows(…) takes windows, with an id each or all without one, as in {SEVERAL}"),
    (f"{GROUP} Windows(Window('x', SlidingWindow(second, 5)), Window('X', TumblingWindow(day, 2)))", 1, 94, "two windows have the id 'X'; give one another"),
    (f"{GROUP} Windows(SessionWindow(second, 5), SessionWindow(second, 5))", 1, 81, "the same window twice"),
    (f"{GROUP} Windows(SessionWindow(second, 5)", 1, 54, "this ( is not closed"),
    (f"{GROUP} TumblngWindow(second, 10)", 1, 47, "there is no function TumblngWindow; did you mean TumblingWindow?"),
    (f"{GROUP} HoppingWindow(second, 10)", 1, 47, "HoppingWindow takes a unit and 2 numbers, as in HoppingWindow(second, 10, 5)"),
    (f"{GROUP} HoppingWindow(second, 5, 10)", 1, 47, "the hop of HoppingWindow is longer than its size, so that events between two windows would be in none; choose them with WHERE"),
    (f"{GROUP} HoppingWindow(second, 10, 0)", 1, 73, "the hop of HoppingWindow is a whole number from 1, as in HoppingWindow(second, 10, 5)"),
    (f"{GROUP} HoppingWindow(second, 10, 5, 1.5)", 1, 76, "the offset of HoppingWindow is a whole number, as in HoppingWindow(second, 10, 5)"),
    (f"{GROUP} HoppingWindow(Duration(day, 1), Hop(second, 1))", 1, 47, "every event would be in 86400 windows; at most 10000 are possible"),
    (f"{GROUP} HoppingWindow(Duration(day, 1))", 1, 47, "HoppingWindow takes Duration(unit, n), Hop(unit, n), Offset(unit, n) if you like"),
    (f"{GROUP} HoppingWindow(Hop(day, 1), Duration(day, 1))", 1, 47, "HoppingWindow takes Duration(unit, n), Hop(unit, n), Offset(unit, n) if you like"),
    (f"{GROUP} TumblingWindow(Duration(day))", 1, 47, "Duration takes a unit and a number, as in Duration(second, 10)"),
    (f"{GROUP} Windows()", 1, 47, f"Windows(…) takes windows, with an id each or all without one, as in {SEVERAL}"),
    (f"{GROUP} Windows(TumblingWindow(day, 1), Window('x', TumblingWindow(day, 2)))", 1, 47, f"Windows(…) takes windows, with an id each or all without one, as in {SEVERAL}"),
    (f"{GROUP} Windows(Window('x', TumblingWindow(day, 1)), Window('X', TumblingWindow(day, 2)))", 1, 92, "two windows have the id 'X'; give one another"),
    (f"{GROUP} Windows(TumblingWindow(day, 1), TumblingWindow(hour, 24))", 1, 79, "the same window twice"),
    (f"{GROUP} Windows(Window(x, TumblingWindow(day, 1)))", 1, 55, f"Window takes an id, a text, and a window, as in {SEVERAL}"),
    (f"{GROUP} Windows(floor(3))", 1, 55, f"FLOOR(3) is no window; {TAKES}"),
    (f"SELECT device FROM telemetry WHERE System.Window().Id = 'x' {WINDOW}", 1, 36, "System.Window().Id is a window's, and WHERE comes before"),
    (f"SELECT System.Window().Id FROM telemetry {WINDOW}", 1, 8, "System.Window().Id needs a name: write … AS name"),
    ("SELECT device FROM telemetry GROUP BY device, TumblingWindow(second)", 1, 47, "TumblingWindow takes a unit and a number, as in TumblingWindow(second, 10)"),
    ("SELECT device FROM telemetry GROUP BY device, TumblingWindow(fortnight, 1)", 1, 62, "'fortnight' is no unit of time; there are millisecond, second, minute, hour and day"),
    ("SELECT device FROM telemetry GROUP BY device, TumblingWindow(second, 0)", 1, 70, "the size of TumblingWindow is a whole number from 1, as in TumblingWindow(second, 10)"),
    ("SELECT device FROM telemetry GROUP BY device, TumblingWindow(second, 1.5)", 1, 70, "the size of TumblingWindow is a whole number from 1, as in TumblingWindow(second, 10)"),
    ("SELECT device FROM telemetry GROUP BY device, TumblingWindow(day, 400)", 1, 67, "a window of more than 366 days is not supported"),
    # T-SQL
    (f"SELECT max(DATEDIFF(secnd, a, b)) AS x FROM telemetry {WINDOW}", 1, 12, "'SECND' is no part of a date; did you mean 'second'?"),
    (f"SELECT max(DATEADD(day, 1)) AS x FROM telemetry {WINDOW}", 1, 12, "DATEADD takes 3 arguments"),
    (f"SELECT max(GetArrayElement(a, b)) AS x FROM telemetry {WINDOW}", 1, 12, "GetArrayElement takes the place of an element, a number from 0"),
    # the key
    ("SELECT site FROM telemetry GROUP BY site, SessionWindow(second, 5) OVER (PARTITION BY v)", 1, 87, "windows are of each group by itself: PARTITION BY takes site, or may be left out"),
    ("SELECT site FROM telemetry TIMESTAMP BY ts OVER device GROUP BY site, TumblingWindow(second, 1)", 1, 49, "groups that do not lie within the stream's key have the time of each partition: leave out OVER"),
    ("SELECT device FROM telemetry GROUP BY 1, TumblingWindow(second, 1)", 1, 39, "GROUP BY takes columns, not their numbers; write the column itself"),
    # names and types
    (f"SELECT avg(celsius) FROM telemetry {WINDOW}", 1, 8, "AVG(celsius) needs a name: write … AS name"),
    (f"SELECT System.Timestamp() FROM telemetry {WINDOW}", 1, 8, "System.Timestamp() needs a name: write … AS name"),
    (f"SELECT max(a) AS x, min(b) AS X FROM telemetry {WINDOW}", 1, 21, "two columns are called 'X'; give one another name: … AS name"),
    (f"SELECT device,\n  celsius FROM telemetry {WINDOW}", 2, 3, "'celsius' is neither in GROUP BY nor inside of an aggregate, as in max(celsius)"),
    (f"SELECT sum(v) AS s FROM telemetry WHERE v = 'x' {WINDOW}", 1, 41, "'v' is used as VARCHAR and as DOUBLE; write a cast for one of the uses: v::DOUBLE"),
    (f"SELECT max(a) AS x, max(A) AS y FROM telemetry {WINDOW}", 1, 25, "'A' and 'a' differ only in case, which a query cannot tell"),
    (f"SELECT max(a) AS x, max(a.b) AS y FROM telemetry {WINDOW}", 1, 25, "'a' is used as a value, and as an object that has 'a.b'"),
    (f"SELECT sum(v::VARCHAR) AS s FROM telemetry {WINDOW}", 1, 8, "sum takes numbers of at most 64 bits or 18 digits, and its argument is a VARCHAR; write a cast"),
    (f"SELECT max(v::BLOB) AS s FROM telemetry {WINDOW}", 1, 8, "max takes plain values, and its argument is a BLOB; write a cast"),
    (f"SELECT max(v::NONSENSE) AS s FROM telemetry {WINDOW}", 1, 12, "Type with name NONSENSE does not exist! Did you mean \"JSON\"?"),
    (f"SELECT device FROM telemetry WHERE v + 1 {WINDOW}", 1, 36, "WHERE takes a condition, and this is a DOUBLE"),
    (f"SELECT device FROM telemetry {WINDOW} HAVING max(v) + 1", 1, 81, "HAVING takes a condition, and this is a DOUBLE"),
    (f"SELECT device FROM telemetry TIMESTAMP BY ts::BIGINT {WINDOW}", 1, 43, TIME),
    (f"SELECT device FROM telemetry\nTIMESTAMP BY\n{WINDOW}", 2, 1, "TIMESTAMP BY needs an expression: the field with the event's time"),
    (f"SELECT device FROM telemetry TIMESTAMP BY a, b {WINDOW}", 1, 43, "TIMESTAMP BY takes one expression, without a name"),
    (f"SELECT device FROM telemetry TIMESTAMP BY (ts {WINDOW}", 1, 43, "this ( is not closed"),
    (f"SELECT device, [System.Timestamp()] AS x FROM telemetry {WINDOW}", 1, 17, "a column of the result is what JSON can say, and 'x' is a TIMESTAMP[]; write a cast"),
    ("SELECT device FROM telemetry GROUP BY device, a::JSON, TumblingWindow(second, 1)", 1, 47, "GROUP BY takes plain values, and this is a JSON"),
    # functions
    (f"SELECT device, max(v.round(1)) AS m FROM telemetry {WINDOW}", 1, 20, "a function is not called with a dot; write round(…)"),
    (f"SELECT TopOne() OVER (ORDER BY v DESC, w) AS t FROM telemetry {WINDOW}", 1, 8, "TopOne is written TopOne() OVER (ORDER BY x DESC), in one direction: all DESC, or all ASC"),
    (f"SELECT corr(v::DATE, w::DATE) AS m FROM telemetry {WINDOW}", 1, 8, "No function matches the given name and argument types 'corr(DATE, DATE)'. You might need to add explicit type casts."),
    (f"SELECT mode(v::HUGEINT) AS m FROM telemetry {WINDOW}", 1, 8, "mode cannot keep a HUGEINT; write a cast"),
    (f"SELECT stddev(v::VARCHAR) AS m FROM telemetry {WINDOW}", 1, 8, "stddev_samp takes numbers of at most 64 bits or 18 digits, and its argument is a VARCHAR; write a cast"),
    (f"SELECT median(max(v)) AS m FROM telemetry {WINDOW}", 1, 15, "an aggregate inside of median"),
    (f"SELECT max(v, 3) AS m FROM telemetry {WINDOW}", 1, 8, "max takes one argument"),
    (f"SELECT max(min(v)) AS m FROM telemetry {WINDOW}", 1, 12, "an aggregate inside of max"),
    (f"SELECT device, now() AS m FROM telemetry {WINDOW}", 1, 16, f"now {UNSETTLED}"),
    (f"SELECT device, current_date AS m FROM telemetry {WINDOW}", 1, 32, f"current_date {UNSETTLED}"),
    (f"SELECT device FROM telemetry WHERE random() > 0.5 {WINDOW}", 1, 36, f"random {UNSETTLED}"),
    (f"SELECT device, 1 + flor(max(v)) AS m FROM telemetry {WINDOW}", 1, 20, "Scalar Function with name flor does not exist! Did you mean \"floor\"?"),
    (f"SELECT device FROM telemetry WHERE max(v) > 3 {WINDOW}", 1, 36, "WHERE comes before there are windows; use HAVING for aggregates"),
    (f"SELECT device FROM telemetry WHERE System.Timestamp() > _time {WINDOW}", 1, 36, "System.Timestamp() is a window's end, and WHERE comes before"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "column", "message"), CASES, ids=[case[0][:70] for case in CASES])
def test_error_says_what_and_where(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(QueryError) as caught:
        plan_query("q", text, STREAMS, into="out", references={"machines": {"id": "BIGINT", "line": "VARCHAR"}})
    assert (str(caught.value), caught.value.line, caught.value.column) == (message, line, column)


WORDS = [
    "SELECT",
    "device",
    ",",
    "avg",
    "(",
    "v",
    ")",
    "AS",
    "mean",
    ",",
    "System.Timestamp()",
    "AS",
    "w",
    ",",
    "count",
    "(",
    "*",
    ")",
    "FILTER",
    "(",
    "WHERE",
    "x",
    ">",
    "1",
    ")",
    "AS",
    "n",
    "FROM",
    "telemetry",
    "AS",
    "t",
    "TIMESTAMP",
    "BY",
    "ts",
    "WHERE",
    "s",
    "=",
    "'ok'",
    "AND",
    "a.b",
    "BETWEEN",
    "1",
    "AND",
    "2",
    "GROUP",
    "BY",
    "device",
    ",",
    "site",
    ",",
    "TumblingWindow",
    "(",
    "second",
    ",",
    "10",
    ")",
    "HAVING",
    "avg",
    "(",
    "v",
    ")",
    ">",
    "80",
]
OTHERS = [
    "NULL",
    "1",
    "'x'",
    "(",
    ")",
    ",",
    ".",
    "*",
    "::",
    "CASE",
    "END",
    "DISTINCT",
    "lower",
    "max",
    "x.y",
    "_time",
    ";",
    "--",
    "/*",
    '"',
    "'",
    "$1",
    "?",
    "@",
    "[1]",
    "{'a':1}",
    "->",
    "TumblingWindow(day,1)",
    "WITH telemetry AS (SELECT * FROM telemetry)",
    "SlidingWindow(second, 1)",
    "SessionWindow(second, 1)",
    "CountWindow(5, 2)",
    "median(v)",
    "COLLECT()",
    "TopOne() OVER (ORDER BY v)",
    "DATEADD(day, 1, ts)",
    "LAG(v) OVER (LIMIT DURATION(hour, 1) WHEN v > 1)",
    "ISFIRST(minute, 1)",
    "OVER (LIMIT",
    "WHEN",
    "UNION",
    "INTO x",
    "WITH m AS (SELECT device FROM telemetry GROUP BY device, TumblingWindow(day,1))",
]
changes = st.tuples(st.integers(0, 2), st.integers(0, len(WORDS) - 1), st.sampled_from([*OTHERS, *WORDS]))


@settings(max_examples=150, deadline=None)
@given(st.lists(changes, min_size=1, max_size=3))
def test_any_garbage_is_a_plan_or_a_query_error(made: list[tuple[int, int, str]]) -> None:
    words = list(WORDS)
    for kind, place, word in made:
        words[place : place + (kind != 1)] = [word] if kind else []
    with contextlib.suppress(QueryError):
        processor_of(plan_query("q", " ".join(words), STREAMS, into="out"))
