"""What operators ask and do at the command line gives the same on Kafka as on the embedded log."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.kafka.load import on_kafka, wait_for
from tests.support.millstream import Running, running

from millstream.cli import frame

pytestmark = pytest.mark.kafka

APP = str(Path(__file__).with_name("operated.py"))
DEVICES = ("press-1", "press-2", "press-3")

PROBE = "probe"
START = "2026-01-01T00:00:00Z"

Told = dict[str, Any]


class Desk:
    """Somebody at the command line, beside a running server. Commands run in this process, which is quicker than a
    process for each."""

    def __init__(self, run: Running, capfd: pytest.CaptureFixture[str]) -> None:
        self._run = run
        self._capfd = capfd

    def ask(self, *arguments: str) -> str:
        """What a command that succeeds prints."""
        self._capfd.readouterr()
        code = frame.execute([*arguments, "--data", str(self._run.folder)])
        out, err = self._capfd.readouterr()
        assert code == 0, out + err
        return out

    def rows(self, *arguments: str) -> list[Any]:
        """The same of one that prints JSON, a list or line by line."""
        printed = self.ask(*arguments, "--json")
        rows = json.loads(printed) if printed.startswith("[") else map(json.loads, printed.splitlines())
        return list(rows)

    def publish(self, minutes: range, celsius: Callable[[int, int], float]) -> None:
        """A reading of each press in each minute; so no window is closed by silence, however busy the machine is."""
        for number, device in enumerate(DEVICES):
            readings = (
                {"ts": f"2026-01-01T00:{minute:02}:00Z", "n": minute, "celsius": celsius(number, minute)}
                for minute in minutes
            )
            self._run.publish(f"site/{device}/telemetry", *map(json.dumps, readings))

    def knows_devices(self) -> bool:
        """Whether the registry's version with them is in force: on Kafka some seconds after it is in the log."""
        self._run.publish(f"site/{PROBE}/telemetry", json.dumps({"ts": START, "n": 0, "celsius": 1}))
        self.settle()
        return bool(self.tail("located"))

    def settle(self) -> None:
        """Return when every group has read everything."""
        wait_for(lambda: not any(group["lag"] for group in json.loads(self.ask("groups", "--json"))))

    def tail(self, stream: str) -> list[Any]:
        """What a stream holds."""
        return [row["data"] for row in self.rows("tail", stream)]


def kept(rows: Sequence[Any]) -> dict[str, Any]:
    """What there is of each press."""
    return {row["key"]: row["data"] for row in rows if row["key"] != PROBE}


def standings(rows: Sequence[Any]) -> list[tuple[str, str, float, str]]:
    return sorted((row["query"], row["standing"], row["data"]["peak"], row["data"]["device"]) for row in rows)


def ways(explained: str) -> Any:
    """What became of an event in each group, and its results."""
    (event,) = json.loads(explained)
    (copy,) = event["copies"]
    outcomes = sorted((one["group"], one["state"], one.get("why")) for one in copy["outcomes"])
    return outcomes, sorted((one["query"], one["id"], one["why"]) for one in event["results"])


def operate(desk: Desk, folder: Path) -> Told:
    """An operator's day: everything that was told."""
    told: Told = {}
    desk.ask("devices", "import", str(folder / "devices.ndjson"))
    wait_for(desk.knows_devices)
    desk.publish(range(1, 26), lambda number, minute: 75 + 3 * number + minute % 5)
    desk.settle()
    told["open"] = kept(desk.rows("state", APP, "peaks"))
    told["kept"] = kept(desk.rows("state", APP, "highest"))
    told["backtest"] = standings(desk.rows("backtest", APP, "--query", "peaks", "--query", "peaks-2"))
    told["shadow"] = standings(desk.rows("shadow", APP))
    told["deadletters"] = len(desk.rows("deadletters", "list", "-n", "1000"))
    desk.ask("state", APP, "peaks", "--key", "press-3", "--reset")
    desk.ask("state", APP, "highest", "--key", "press-3", "--reset")
    wait_for(lambda: "press-3" not in kept(desk.rows("state", APP, "highest")))
    wait_for(lambda: "press-3" not in kept(desk.rows("state", APP, "peaks")))
    told["open after"] = kept(desk.rows("state", APP, "peaks"))
    desk.publish(range(26, 42, 2), lambda number, minute: 70 + minute - 24 + number)
    desk.settle()
    told["alerts"] = sorted(json.dumps(one) for one in desk.tail("alerts"))
    told["located"] = sorted(json.dumps(one) for one in desk.tail("located") if one["device"] != PROBE)
    told["again"] = standings(desk.rows("backtest", APP, "--query", "peaks"))
    letters = desk.rows("deadletters", "list", "-n", "1000")
    letter = min(letters, key=lambda one: (one["key"], one["data"]["n"]))
    told["letter"] = {name: letter[name] for name in ("group", "reason", "error", "key", "topic", "data")}
    mended = folder / "mended.json"
    mended.write_text(json.dumps({**letter["data"], "mended": True}))
    desk.ask("deadletters", "resend", letter["letter"], "--payload", str(mended), "--yes")
    wait_for(lambda: letter["data"]["n"] in [one["n"] for one in desk.tail("evens")])
    told["letters after"] = len(desk.rows("deadletters", "list", "-n", "1000"))
    told["explained"] = ways(desk.ask("explain", letter["position"], "--app", APP, "--json"))
    told["balanced"] = json.loads(desk.ask("ledger", "--json"))["balanced"]
    return told


def test_commands_tell_and_do_the_same(
    kafka_servers: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {PROBE: 0, **{device: 80 + number for number, device in enumerate(DEVICES)}}
    lines = [{"id": device, "tags": {"line": "A", "most_celsius": limit}} for device, limit in limits.items()]
    (tmp_path / "devices.ndjson").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with running(tmp_path / "disk", APP, cwd=None) as run:
        expected = operate(Desk(run, capfd), tmp_path)
    assert all(expected.values()), expected
    with on_kafka(tmp_path / "kafka", kafka_servers, APP) as (run, variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert operate(Desk(run, capfd), tmp_path) == expected
