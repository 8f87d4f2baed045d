"""Reference data from end to end: read, refreshed, kept as versions in the log, joined with events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.plant import Plant as Workers

from millstream import App
from millstream.errors import AppError, MillstreamError
from millstream.settings import Settings
from millstream.testing import Plant
from millstream.worker import Worker
from millstream.worker.backtest import Backtest, Span
from millstream.worker.measures import Measures
from millstream.worker.references import histories_of

JOIN = "SELECT device, m.line, n FROM telemetry t JOIN machines m ON t.machine = m.id"


@pytest.fixture
def machines(tmp_path: Path) -> Path:
    file = tmp_path / "machines.csv"
    write(file, "id,line\n1,A\n2,B\n")
    return file


def write(file: Path, content: str | None) -> None:
    file.unlink() if content is None else file.write_text(content)


def make_app(source: str | Path, sql: str = JOIN, **options: Any) -> App:
    app = App("plant", catch_all=False)
    app.stream("telemetry", topics="site/{device}", key="device")
    app.reference("machines", source, **options)
    app.query("lines", sql)
    return app


async def send(plant: Plant, n: int, machine: int = 1) -> None:
    await plant.publish("site/d", {"machine": machine, "n": n})


def lines(plant: Plant) -> list[tuple[str, int]]:
    return [(event.data["line"], round(event.data["n"])) for event in plant.stream("lines")]


async def test_file_that_has_changed_counts_after_the_next_refresh(machines: Path) -> None:
    async with make_app(machines).test() as plant:
        await send(plant, 1)
        write(machines, "id,line\n1,C\n")
        await send(plant, 2)
        await plant.advance("1m")
        await send(plant, 3)
        await send(plant, 4, machine=2)
        assert lines(plant) == [("A", 1), ("A", 2), ("C", 3)]
        assert plant.counts("lines")["filtered"] == 1
        assert len(plant.stream("$reference.machines")) == 2


async def test_content_that_is_the_same_is_no_version(machines: Path) -> None:
    async with make_app(machines).test(workers=2) as plant:
        write(machines, "id,line\n2,B\n1,A\n")  # another order of the rows
        await plant.advance("5m")
        assert len(plant.stream("$reference.machines")) == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "there is no file"),
        ("id,place\n1,C\n", "it has no column 'line' any more, which query 'lines' uses"),
        ("id,line\n1,C\n1,D\n", "several rows have id = 1, and query 'lines' joins on that"),
        ("id,line\nx,C\n", "'id' was a BIGINT when query 'lines' was planned, and 'x' is none"),
    ],
)
async def test_reload_that_fails_keeps_the_version_before_and_is_told(
    machines: Path, content: str | None, why: str
) -> None:
    async with make_app(machines).test(raise_errors=False) as plant:
        write(machines, content)
        await plant.advance("1m")
        await send(plant, 1)
        assert lines(plant) == [("A", 1)]
        (error,) = plant.errors
        assert why in str(error.error)
        write(machines, "id,line\n1,C\n")
        await plant.advance("1m")
        await send(plant, 2)
        assert lines(plant) == [("A", 1), ("C", 2)]


async def test_worker_that_starts_again_goes_on_with_the_versions_in_the_log(machines: Path) -> None:
    async with make_app(machines, refresh="1h").test() as plant:
        await send(plant, 1)
        await plant.crash()
        await send(plant, 2)
        assert len(plant.stream("$reference.machines")) == 1
        write(machines, "id,line\n1,C\n")
        await plant.crash()
        await send(plant, 3)
        assert lines(plant) == [("A", 1), ("A", 2), ("C", 3)]


async def test_backtest_finds_what_each_event_was_joined_with(machines: Path) -> None:
    app = make_app(machines)
    async with app.test() as plant:
        for n in range(12):
            write(machines, f"id,line\n1,{n}\n2,x\n")
            await plant.advance("1m")
            await send(plant, n)
        log, now = plant._rig.log, plant.clock.now()
        test = Backtest(log, app.plan()["lines"], Span(None, now + 1), histories_of(log, app.references))
        found = [
            payload async for outputs in test.run(lambda done, of: None) for payload in outputs["data"].to_pylist()
        ]
        assert found == [event.payload for event in plant.stream("lines")]
        assert [line for line, _ in lines(plant)] == [str(n) for n in range(12)]


async def test_backtest_joins_what_is_in_the_windows_that_are_open_at_its_start(machines: Path) -> None:
    sql = """SELECT device, m.line, count(*) AS n FROM telemetry t JOIN machines m ON t.machine = m.id
             GROUP BY device, m.line, TumblingWindow(second, 10)"""
    app = make_app(machines, sql)
    async with app.test() as plant:
        await plant.advance("1s")
        await send(plant, 1, machine=1)
        await plant.advance("3s")
        since = plant.clock.now()
        await send(plant, 2, machine=1)
        await plant.advance("30s")
        log, until = plant._rig.log, plant.clock.now() + 1
        test = Backtest(log, app.plan()["lines"], Span(since, until), histories_of(log, app.references))
        found = [
            payload async for outputs in test.run(lambda done, of: None) for payload in outputs["data"].to_pylist()
        ]
        assert found == [event.payload for event in plant.stream("lines")]
        assert [event.data["n"] for event in plant.stream("lines")] == [2]


async def test_windows_aggregate_by_columns_of_reference_data(machines: Path) -> None:
    sql = """SELECT device, m.line, count(*) AS n FROM telemetry t LEFT JOIN machines m ON t.machine = m.id
             GROUP BY device, m.line, TumblingWindow(second, 10)"""
    async with make_app(machines, sql).test() as plant:
        await send(plant, 1, machine=1)
        await plant.crash()
        await send(plant, 2, machine=1)
        await send(plant, 3, machine=9)
        await plant.advance("30s")
        assert sorted((event.data["line"] or "", event.data["n"]) for event in plant.stream("lines")) == [
            ("", 1),
            ("A", 2),
        ]


async def test_fluent_query_is_enriched(machines: Path) -> None:
    app = App("plant", catch_all=False)
    telemetry = app.stream("telemetry", topics="site/{device}", key="device")
    reference = app.reference("machines", machines)
    telemetry.key_by("device", "machines.line").enrich(reference, "machine = machines.id").tumbling("10s").agg(
        n="count(*)"
    ).into("lines")
    async with app.test() as plant:
        await send(plant, 1)
        await plant.advance("30s")
        assert [event.data["line"] for event in plant.stream("lines")] == ["A"]


async def test_missing_file_ends_the_start_at_its_line(tmp_path: Path) -> None:
    with pytest.raises(
        AppError, match=r"test_references.py:\d+: reference 'machines': there is no file .*machines.csv"
    ):
        async with make_app(tmp_path / "machines.csv").test():
            pass


async def test_several_rows_of_what_is_joined_on_end_the_start(machines: Path) -> None:
    write(machines, "id,line\n1,A\n1,B\n")
    app = make_app(machines)
    (problem,) = app.problems()
    assert "several rows have id = 1" in problem
    with pytest.raises(AppError, match="several rows"):
        async with app.test():
            pass


def test_check_names_the_nearest_column(machines: Path) -> None:
    (problem,) = make_app(machines, JOIN.replace("m.line", "m.lien")).problems()
    assert "line 1, column 16: m has no column 'lien'; did you mean 'line'?" in problem


async def test_reload_that_fails_is_counted(workers: Workers, machines: Path) -> None:
    measures = Measures()
    worker = Worker(make_app(machines), workers.log, workers.topics, workers.clock, Settings(), measures=measures)
    workers.workers.append(worker)
    await worker.start()
    write(machines, None)
    await workers.pass_time_until(lambda: measures.of("$reference.machines").errors == 1)
    await workers.pass_time_until(lambda: measures.of("$reference.machines").errors == 2)


@pytest.fixture
def workers(plant: Workers) -> Workers:
    return plant


# --- the registry

TAGGED = "SELECT t.device, d.tags.line, d.reported.firmware, n FROM telemetry t LEFT JOIN devices d ON t.device = d.id"


def make_registry_app(sql: str = TAGGED, **options: Any) -> App:
    app = App("plant", catch_all=False)
    app.stream("telemetry", topics="site/{device}", key="device")
    app.reference("devices", "registry", **options)
    app.query("lines", sql)
    return app


def found(plant: Plant) -> list[tuple[Any, Any]]:
    return [(event.data["line"], event.data["firmware"]) for event in plant.stream("lines")]


async def test_events_are_joined_with_tags_and_reported_values() -> None:
    async with make_registry_app().test() as plant:
        await send(plant, 1)
        await plant.put_device("d", tags={"line": "A"}, reported={"firmware": "2.0"})
        await send(plant, 2)
        await plant.advance("10s")
        await plant.put_device("d", tags={"line": 7})
        await send(plant, 3)
        await plant.advance("10s")
        await plant.delete_device("d")
        await send(plant, 4)
        assert found(plant) == [(None, None), ("A", "2.0"), (7, None), (None, None)]


async def test_registry_that_changes_often_is_read_once_a_refresh() -> None:
    async with make_registry_app(refresh="10s").test() as plant:
        for line in "ABCD":
            await plant.put_device("d", tags={"line": line})
        await send(plant, 1)
        await plant.advance("10s")
        await send(plant, 2)
        assert found(plant) == [("A", None), ("D", None)]
        assert len(plant.stream("$reference.devices")) == 3  # the first was empty


async def test_what_no_query_uses_makes_no_version() -> None:
    async with make_registry_app().test() as plant:
        for n in range(3):
            await plant.put_device("d", tags={"line": "A", "note": n}, reported={"firmware": "1", "uptime": n})
            await plant.advance("10s")
        assert len(plant.stream("$reference.devices")) == 2


async def test_member_is_of_the_type_in_which_a_query_uses_it() -> None:
    sql = "SELECT t.device, d.tags.line, n, d.reported.firmware FROM telemetry t JOIN devices d ON t.device = d.id "
    async with make_registry_app(sql + "WHERE n > d.tags.most").test() as plant:
        for most in ("high", 80, "90.5", None):
            await plant.put_device("d", tags={"line": "A", "most": most})
            await plant.advance("10s")
            await send(plant, 85)
            await send(plant, 95)
        assert [event.data["n"] for event in plant.stream("lines")] == [85, 95, 95]


async def test_windows_are_grouped_by_a_tag_of_devices_that_a_query_selects() -> None:
    sql = """SELECT device, d.tags.line, count(*) AS n, max(d.reported.limits.most) AS most
             FROM telemetry t JOIN devices d ON t.device = d.id
             GROUP BY device, d.tags.line, TumblingWindow(second, 10)"""
    async with make_registry_app(sql, select="tags.site = 'a'", refresh="1s").test() as plant:
        await plant.put_device("a", tags={"line": "A", "site": "a"}, reported={"limits": {"most": 5}})
        await plant.advance("1s")
        await plant.put_device("b", tags={"line": "B", "site": "b"})
        for device in "abc":
            await plant.publish(f"site/{device}", {"n": 1})
        await plant.advance("30s")
        assert [event.data for event in plant.stream("lines")] == [{"device": "a", "line": "A", "n": 1, "most": 5.0}]


async def test_backtest_finds_the_twins_of_that_time() -> None:
    app = make_registry_app()
    async with app.test() as plant:
        for n in range(12):
            await plant.put_device("d", tags={"line": n})
            await plant.advance("10s")
            await send(plant, n)
            await plant.advance("1s")
        log, now = plant._rig.log, plant.clock.now()
        test = Backtest(log, app.plan()["lines"], Span(None, now + 1), histories_of(log, app.references))
        again = [
            payload async for outputs in test.run(lambda done, of: None) for payload in outputs["data"].to_pylist()
        ]
        assert again == [event.payload for event in plant.stream("lines")]
        assert [line for line, _ in found(plant)] == list(range(12))


async def test_worker_that_starts_again_goes_on_with_the_twins_in_the_log() -> None:
    async with make_registry_app().test() as plant:
        await plant.put_device("d", tags={"line": "A"})
        await plant.crash()
        await send(plant, 1)
        assert len(plant.stream("$reference.devices")) == 2
        await plant.put_device("d", tags={"line": "B"})
        await plant.crash()
        await send(plant, 2)
        assert [line for line, _ in found(plant)] == ["A", "B"]


@pytest.mark.parametrize(
    ("options", "sql", "why"),
    [
        ({"select": "tags.site ="}, TAGGED, "select='tags.site =': the query cannot be read"),
        ({"types": {"id": "BIGINT"}}, TAGGED, "types= is not for the registry"),
        ({}, TAGGED.replace("d.tags.line", "d.tag"), "d has no column 'tag'; did you mean 'tags'?"),
        ({}, TAGGED.replace("d.tags.line", "d.status.line"), "d has no column 'status.line'"),
        ({}, TAGGED.replace("d.tags.line", "d.tags.line, d.tags.Line AS other"), "differ only in case"),
    ],
)
def test_what_is_wrong_about_the_registry_is_told_at_its_place(options: Any, sql: str, why: str) -> None:
    with pytest.raises(AppError) as raised:
        make_registry_app(sql, **options).check()
    assert why in str(raised.value)


async def test_device_without_a_reference_to_the_registry_is_an_error(machines: Path) -> None:
    async with make_app(machines).test() as plant:
        with pytest.raises(MillstreamError, match=r'declare it: app.reference\("devices", "registry"\)'):
            await plant.put_device("d")


async def test_members_of_a_json_column_of_a_file_are_joined_too(machines: Path) -> None:
    write(machines, 'id;line\n1;{"name": "A"}\n2;{"name": 7}\n')
    sql = JOIN.replace("m.line", "m.line.name AS line")
    async with make_app(machines, sql, types={"line": "JSON"}).test() as plant:
        await send(plant, 1)
        await send(plant, 2, machine=2)
        assert lines(plant) == [("A", 1), (7, 2)]
    (problem,) = make_app(machines, sql + " AND t.name = m.line.name", types={"line": "JSON"}).problems()
    assert "joins on 'line.name', a member of a JSON column; make it a column of its own" in problem


async def test_workers_that_record_the_same_at_a_time_agree() -> None:
    async with make_registry_app().test(workers=3) as plant:
        for line in "ABC":
            await plant.put_device("d", tags={"line": line})
            await plant.advance("10s")
            await send(plant, 1)
        assert [line for line, _ in found(plant)] == ["A", "B", "C"]
