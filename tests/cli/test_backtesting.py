"""`millstream backtest`, `shadow`, `state` and `explain-query`."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path

import pytest
from tests.support.clock import RestingClock
from tests.support.plant import Plant

from millstream.app import load_app
from millstream.cli import frame
from millstream.clock import SECOND, VirtualClock, to_text
from millstream.log.sqlite import SqliteLog
from millstream.settings import LogSettings

APP = """
from millstream import App

app = App("plant", catch_all=False)
app.stream("telemetry", topics="site/{device}", key="device")
app.query("peaks", '''
    SELECT device, max(celsius) AS peak, System.Timestamp() AS "end"
    FROM telemetry TIMESTAMP BY ts
    GROUP BY device, TumblingWindow(second, 10)
    HAVING max(celsius) > 80''', into="alerts", start="earliest")
app.query("counts", "SELECT device, count(*) AS n FROM telemetry GROUP BY device, TumblingWindow(minute, 1)")
"""


_numbers = itertools.count()


class Site:
    """A data folder in which a query has raised an alert for each of three devices, and an application."""

    def __init__(self, folder: Path, text: str = APP) -> None:
        self._folder = folder
        self.write(text)
        asyncio.run(self._work_for_a_while())

    def write(self, text: str) -> None:
        """Another version of the application; modules are loaded once, so each has a name of its own."""
        self.app = self._folder / f"backtested_{next(_numbers)}.py"
        self.app.write_text(text)

    def change(self, before: str, after: str) -> None:
        assert before in APP
        self.write(APP.replace(before, after))

    def run(self, *arguments: str) -> int:
        return frame.execute(["backtest", str(self.app), *arguments, "--data", str(self._folder / "data")])

    def shadow(self, *arguments: str) -> int:
        return frame.execute(["shadow", str(self.app), *arguments, "--data", str(self._folder / "data")])

    def state(self, *arguments: str) -> int:
        return frame.execute(["state", str(self.app), *arguments, "--data", str(self._folder / "data")])

    async def _work_for_a_while(self) -> None:
        clock = RestingClock()
        log = await SqliteLog.open(self._folder / "data", LogSettings(), clock)
        plant = Plant(clock, log)
        app = load_app(str(self.app))
        worker = await plant.start(app)
        for turn in range(30):
            await clock.advance(1)
            for device, celsius in (("a", 81), ("b", 82.5), ("c", 83)):
                data = {"ts": to_text(clock.now()), "celsius": celsius if turn < 5 else 20}
                await plant.publish((f"site/{device}", data))
        for group in [query.name for query in app.queries] + [handler.group for handler in app.handlers]:
            await plant.caught_up(group)
        await plant.stop(worker)
        await log.close()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_the_rule_in_force_gives_what_it_gave(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    assert site.run("--query", "peaks") == 0
    shown = capfd.readouterr().out
    assert "published 3: same 3" in shown
    assert "processed 90" in shown
    assert shown.count('"peak":82.5') == 1


def test_a_changed_rule_is_compared(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    site.change("HAVING max(celsius) > 80", "HAVING max(celsius) < 83")
    assert site.run("--query", "peaks", "--json") == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    by_standing: dict[str, list[float]] = {}
    for row in rows:
        assert row["query"] == "peaks"
        by_standing.setdefault(row["standing"], []).append(row["data"]["peak"])
    assert sorted(by_standing.pop("same")) == [81.0, 82.5]
    assert by_standing.pop("gone") == [83.0]
    assert set(by_standing.pop("new")) == {20.0}
    assert by_standing == {}
    site.change("max(celsius) AS peak", "max(celsius) + 1 AS peak")
    assert site.run("--query", "peaks") == 0
    assert "published 3: changed 3" in capfd.readouterr().out


def test_a_span_and_a_query_that_never_ran(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    until = to_text(VirtualClock().now() + 16 * SECOND)
    assert site.run("--query", "counts", "--to", until, "-n", "1") == 0
    shown = capfd.readouterr().out
    assert "processed 45" in shown  # three devices, in each of fifteen seconds
    assert "has published nothing in this time" in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--query", "peeks"], "no query 'peeks'; did you mean 'peaks'?"),
        (["--from", "yesterday"], "--from yesterday: say how long ago"),
        (["--from", "1h", "--to", "2h"], "--from 1h is not before --to 2h"),
    ],
)
def test_what_is_wrong_is_told(site: Site, capfd: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    assert site.run(*arguments) != 0
    assert told in capfd.readouterr().err


def test_a_stream_that_is_not_there_is_told(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    site.write(APP.replace('"telemetry"', '"readings"').replace("FROM telemetry", "FROM readings"))
    assert site.run() != 0
    assert "reads the stream 'readings', which is not in this log yet" in capfd.readouterr().err


SHADOWED = (
    APP
    + """
app.query("peaks-2", '''
    SELECT device, max(celsius) AS peak, System.Timestamp() AS "end"
    FROM telemetry TIMESTAMP BY ts
    GROUP BY device, TumblingWindow(second, 10)
    HAVING max(celsius) < 83''', shadow="peaks", start="earliest")
"""
)


def test_a_shadow_runs_beside_the_one_in_force(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    site = Site(tmp_path, SHADOWED)
    assert site.shadow() == 0
    shown = capfd.readouterr().out
    assert "peaks, published 3: same 2, new 3, gone 1" in shown
    assert "4 of 4 differences" in shown
    assert site.shadow("peaks-2", "--json") == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert sorted((row["standing"], row["data"]["peak"]) for row in rows) == [
        ("gone", 83.0),
        ("new", 20.0),
        ("new", 20.0),
        ("new", 20.0),
    ]


SHADOWED_JOIN = """
from millstream import App

app = App("plant", catch_all=False)
app.stream("telemetry", topics="site/{device}", key="device")
app.stream("echoes", topics="site/{machine}", key="machine")
for name, seconds, shadow in (("pairs", 1, None), ("pairs-2", 2, "pairs")):
    app.query(name, f'''
        SELECT t.device, t.celsius, e.celsius AS echo FROM telemetry t TIMESTAMP BY ts JOIN echoes e TIMESTAMP BY ts
        ON t.device = e.machine AND DATEDIFF(second, t, e) BETWEEN 1 AND {seconds} WHERE t.celsius > 82.5''',
        shadow=shadow, start="earliest")
"""


def test_a_shadow_of_a_join_runs_beside_the_one_in_force(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    site = Site(tmp_path, SHADOWED_JOIN)
    assert site.shadow() == 0
    shown = capfd.readouterr().out
    assert "pairs, published 5: same 5, new 5" in shown  # of 5 readings that are hot enough
    assert site.run("--query", "pairs") == 0
    assert "same 5" in capfd.readouterr().out


def test_a_shadow_with_other_values_shows_both(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before, after = SHADOWED.split('app.query("peaks-2"')
    changed = after.replace("max(celsius) AS peak", "max(celsius) + 1 AS peak").replace("< 83", "> 80")
    site = Site(tmp_path, f'{before}app.query("peaks-2"{changed}')
    assert site.shadow() == 0
    shown = capfd.readouterr().out
    assert "changed 3" in shown
    assert '"peak":83.5' in shown
    assert '"peak":82.5' in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["peaks"], "no shadow 'peaks'; there is 'peaks-2'"), (["--since", "x"], "--since x: say how long ago")],
)
def test_what_is_no_shadow_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    site = Site(tmp_path)
    assert site.shadow() != 0
    assert "has no shadow; declare one with" in capfd.readouterr().err
    site.write(SHADOWED)
    assert site.shadow() != 0
    assert "query 'peaks-2' has not begun" in capfd.readouterr().err
    assert site.shadow(*arguments) != 0
    assert told in capfd.readouterr().err


def test_open_windows_are_shown_as_they_are_so_far(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    assert site.state("peaks", "--json") == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert sorted((row["key"], row["data"]["peak"], row["data"]["end"]) for row in rows) == [
        (device, 20.0, "2026-01-01T00:00:30Z") for device in "abc"
    ]
    assert site.state("counts", "--key", "b") == 0
    shown = capfd.readouterr().out
    assert "1 of key 'b'" in shown
    assert '{"device":"b","n":30}' in shown
    assert site.state("counts", "-n", "2") == 0
    assert "2 of 3 windows" in capfd.readouterr().out


LOOKING = """
from millstream import App

app = App("plant")
app.stream("telemetry", topics="site/{device}", key="device")
app.query("rises", "SELECT device, celsius - LAG(celsius) OVER (LIMIT DURATION(hour, 1)) AS rise FROM telemetry")
"""


def test_events_that_are_kept_to_look_back_to_are_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    looking = Site(tmp_path, LOOKING)
    assert looking.state("rises") == 0
    shown = capfd.readouterr().out.split()
    assert shown[shown.index("back") + 2] == "3"  # events kept to look back to: one of each device
    assert frame.execute(["explain-query", str(looking.app), "rises"]) == 0
    assert "b0 = LAG(celsius) of the key within 3600 s" in " ".join(capfd.readouterr().out.split())


JOINED = """
from millstream import App

app = App("plant")
app.stream("telemetry", topics="site/{device}", key="device")
app.query(
    "pairs",
    '''
    SELECT a.device, b.celsius FROM telemetry a JOIN telemetry b
    ON a.device = b.device AND DATEDIFF(hour, a, b) BETWEEN 1 AND 2''',
)
"""


def test_events_that_wait_for_others_are_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    joined = Site(tmp_path, JOINED)
    assert joined.state("pairs", "--key", "b", "-n", "1") == 0
    shown = " ".join(capfd.readouterr().out.split())
    assert "events that wait" in shown
    assert '"waits":"left"' in shown
    assert frame.execute(["explain-query", str(joined.app), "pairs"]) == 0
    assert "of the same key, the right one from 3600 s to 7200 s after" in " ".join(capfd.readouterr().out.split())


def test_state_of_another_query_is_told(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    site.change("TumblingWindow(second, 10)", "TumblingWindow(second, 20)")
    assert site.state("peaks") != 0
    assert "peaks" in capfd.readouterr().err


def test_a_query_is_explained(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    assert frame.execute(["explain-query", str(site.app), "peaks"]) == 0
    shown = capfd.readouterr().out
    assert "window of 10 s" in shown
    assert "max(celsius)" in shown.replace('"', "")
    assert "counts" not in shown


STATEFUL = """
from datetime import datetime

from millstream import App, State

app = App("plant", catch_all=False)
telemetry = app.stream("telemetry", topics="site/{device}", key="device")

def silent(state: State[dict[str, float]]) -> None: ...

@app.on(telemetry, wake=silent)
def highest(data: dict, state: State[dict[str, float]]) -> None:
    state.value["celsius"] = max(state.value.get("celsius", 0), data["celsius"])
    state.wake_at = datetime.fromisoformat("2100-01-01T00:00:00Z") if state.key != "b" else None
"""


def test_what_a_handler_keeps_is_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    site = Site(tmp_path, STATEFUL)
    assert site.state("highest", "--json") == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    kept = {"a": 81, "b": 82.5, "c": 83}
    assert {row["key"]: row["data"] for row in rows} == {key: {"celsius": value} for key, value in kept.items()}
    assert site.state("highest") == 0
    assert "2, the next one at 2100-01-01T00:00:00Z" in capfd.readouterr().out
    assert site.state("highest", "--key", "b") == 0
    shown = capfd.readouterr().out
    assert "1 of 1 keys" in shown
    assert "to be woken" not in shown
    assert '{"celsius":82.5}' in shown
    assert site.state("lowest") != 0
    assert "the application has no query" in capfd.readouterr().err
