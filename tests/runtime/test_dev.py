"""`millstream dev` as a developer uses it: a real process, real edits, a client that stays connected."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from tests.support.millstream import Running, until

PLANT = """
from millstream import App, Event

app = App("plant")


@app.on("in/#", into="out", group="echo", start="earliest")
def echo(event: Event) -> object:
    return {"version": 1, "n": event.data}
"""


class Client:
    """A client that publishes and hears, and notices when its connection is lost."""

    def __init__(self, port: int) -> None:
        self.heard: list[bytes] = []
        self.lost = False
        self._subscribed = False
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = lambda client, data, message: self.heard.append(bytes(message.payload))
        self._client.on_disconnect = lambda *_: setattr(self, "lost", True)
        self._client.on_subscribe = lambda *_: setattr(self, "_subscribed", True)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe("out", qos=1)
        until(lambda: self._subscribed)

    def publish(self, n: int) -> None:
        self._client.publish(f"in/{n}", str(n), qos=1).wait_for_publish(30)

    def hears(self, version: int, n: int) -> None:
        expected = f'{{"version":{version},"n":{n}}}'.encode()
        until(lambda: expected in self.heard, what=f"{expected!r}, after {self.heard}")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    path = tmp_path / "app" / "plant.py"
    path.write_text(PLANT)
    return path


@pytest.fixture
def dev(tmp_path: Path, plant: Path) -> Iterator[Running]:
    run = Running(tmp_path / "data", str(plant), "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0", command="dev")
    yield run
    run.close()


def says(run: Running, text: str, times: int = 1) -> None:
    until(lambda: run.logs().count(text) >= times, what=f"{text!r} in {run.logs()}")


def replace(path: Path, text: str) -> None:
    """Write as editors do that put a new file in the old one's place."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


@pytest.mark.parametrize("write", [Path.write_text, replace])
def test_new_version_takes_over_while_clients_stay(
    dev: Running, plant: Path, write: Callable[[Path, str], object]
) -> None:
    client = Client(dev.mqtt_port)
    client.publish(1)
    client.hears(1, 1)
    before = dev.children()
    write(plant, PLANT.replace("1,", "2,"))
    says(dev, "the new version runs")
    client.publish(2)
    client.hears(2, 2)
    after = dev.children()
    assert after["server"] == before["server"]
    assert after["worker"] != before["worker"]
    assert client.heard == [b'{"version":1,"n":1}', b'{"version":2,"n":2}']
    assert not client.lost
    client.close()
    assert dev.stop()[0] == 0


def test_wrong_version_is_told_at_its_line_and_the_one_before_goes_on(dev: Running, plant: Path) -> None:
    client = Client(dev.mqtt_port)
    worker = dev.children()["worker"]
    plant.write_text(PLANT.replace("event: Event", "evend"))
    says(dev, f"{plant}:7: handler echo: parameter 'evend'")
    says(dev, "the version before goes on")
    client.publish(1)
    client.hears(1, 1)
    plant.write_text(PLANT + "\n1 / 0\n")
    says(dev, f"{plant}:11: ZeroDivisionError")
    until(lambda: dev.children() == {"server": dev.children()["server"], "worker": worker})
    plant.write_text(PLANT.replace("1,", "3,"))
    says(dev, "the new version runs")
    client.publish(2)
    client.hears(3, 2)
    client.close()


def test_version_that_cannot_start_is_told_and_a_mended_one_goes_on_with_the_data(dev: Running, plant: Path) -> None:
    client = Client(dev.mqtt_port)
    plant.write_text(PLANT.replace('App("plant")', 'App("plant", lifespan=lambda app: 1 / 0)'))
    says(dev, f"{plant}:4: its lifespan failed at start: ZeroDivisionError")
    says(dev, "no handler runs")
    client.publish(1)
    plant.write_text(PLANT.replace("1,", "2,"))
    client.hears(2, 1)
    client.close()


def test_imported_file_is_watched_too_and_others_are_not(dev: Running, plant: Path) -> None:
    (plant.parent / "notes.txt").write_text("nothing")
    (plant.parent / "helper.py").write_text("VERSION = 5\n")
    says(dev, "the new version runs")
    plant.write_text("from helper import VERSION\n" + PLANT.replace('"version": 1', '"version": VERSION'))
    says(dev, "the new version runs", 2)
    client = Client(dev.mqtt_port)
    client.publish(1)
    client.hears(5, 1)
    times = dev.logs().count("the new version runs")
    (plant.parent / "helper.py").write_text("VERSION = 6\n")
    says(dev, "the new version runs", times + 1)
    client.publish(2)
    client.hears(6, 2)
    assert "notes.txt" not in dev.logs()
    client.close()


def test_handler_that_does_not_end_is_ended(dev: Running, plant: Path) -> None:
    client = Client(dev.mqtt_port)
    stuck = PLANT.replace("return", "print('stuck now'); import time; time.sleep(3600)\n    return")
    plant.write_text(stuck)
    says(dev, "the new version runs")
    client.publish(1)
    says(dev, "stuck now")
    plant.write_text(PLANT.replace("1,", "2,"))
    client.hears(2, 1)
    assert "did not come to an end" in dev.logs()
    client.close()


def test_crashed_worker_is_started_again(dev: Running) -> None:
    client = Client(dev.mqtt_port)
    os.kill(dev.children()["worker"], signal.SIGKILL)
    says(dev, "worker is back")
    client.publish(1)
    client.hears(1, 1)
    client.close()


def test_first_version_may_be_wrong(tmp_path: Path, plant: Path) -> None:
    plant.write_text(PLANT.replace("def echo(", "def echo((("))

    def mend() -> None:
        until(lambda: "waiting for the mend" in (tmp_path / "data.log").read_text())
        plant.write_text(PLANT)

    (tmp_path / "data.log").touch()
    mending = threading.Thread(target=mend)
    mending.start()
    run = Running(tmp_path / "data", str(plant), "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0", command="dev")
    mending.join()
    assert f"{plant}:8: SyntaxError" in run.logs()
    client = Client(run.mqtt_port)
    client.publish(1)
    client.hears(1, 1)
    client.close()
    run.close()


def test_not_anybody_may_connect_where_others_could(tmp_path: Path, plant: Path) -> None:
    run = Running(tmp_path / "data", str(plant), "--mqtt", "0.0.0.0:0", "--http", "127.0.0.1:0", command="dev")
    try:
        assert "msk_" in run.logs()
        assert httpx.get(f"http://{run.http}/devices").status_code == 401
    finally:
        run.close()
