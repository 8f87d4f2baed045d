"""Brokers that freeze and die under load: what was acknowledged is there, and it goes on by itself."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.kafka.load import APP, Device, numbers, records, under_load, wait_for
from tests.support.kafka import brokers, in_sync
from tests.support.millstream import Running, millstream, running_on
from tests.support.ports import reserved_port

pytestmark = pytest.mark.kafka

STILL_REGISTERED = {"broker.session.timeout.ms": "9000"}
"""For so long a broker that has died bars itself from coming back."""

QUICK_TO_NOTICE = {
    "broker.session.timeout.ms": "6000",
    "broker.heartbeat.interval.ms": "500",
    "controller.quorum.fetch.timeout.ms": "4000",
    "replica.lag.time.max.ms": "10000",
}
"""When a broker of several has died: who leads its partitions then, and who the brokers."""

SHORT_SESSION = {"MILLSTREAM_LOG__KAFKA__SESSION_TIMEOUT": "PT6S"}


def goes_on(*devices: Device) -> None:
    """Return when it is acknowledged again what is sent from now on."""
    seen = [len(device.acknowledged) for device in devices]
    wait_for(lambda: all(len(device.acknowledged) > before + 20 for device, before in zip(devices, seen, strict=True)))


def comes(servers: str, topic: str, partitions: int, device: Device, expected: list[int]) -> None:
    """A topic comes to have just these of a device."""
    wait_for(lambda: len(numbers(servers, topic, partitions, device)) >= len(expected))
    assert numbers(servers, topic, partitions, device) == expected


def nothing_is_lost(servers: str, run: Running, *devices: Device) -> None:
    """Everything is acknowledged in the end, there once, and handled once; the counts balance."""
    for device in devices:
        device.stop()
    wait_for(lambda: all(len(device.acknowledged) == device.sent for device in devices))
    for device in devices:
        doors = list(range(0, device.sent, 5))
        assert numbers(servers, "telemetry", 4, device) == sorted(set(range(device.sent)) - set(doors))
        comes(servers, "doors", 1, device, doors)
        comes(servers, "meanwhile", 8, device, [number for number in doors if number + 1 < device.sent])
    alerts = [json.loads(value) for value in records(servers, "alerts", 8)]
    assert alerts
    assert len({(alert["device"], alert["window_end"]) for alert in alerts}) == len(alerts)
    ledger = millstream("ledger", "--json", "--data", str(run.folder), MILLSTREAM_LOG__URL=f"kafka://{servers}")
    assert json.loads(ledger.stdout)["balanced"], ledger.stdout + ledger.stderr
    assert run.process.poll() is None


def test_nothing_acknowledged_is_lost_when_a_broker_freezes_and_dies(kafka_servers: str, tmp_path: Path) -> None:
    with (
        brokers(1, STILL_REGISTERED) as (broker,),
        under_load(tmp_path / "data", broker.address, **SHORT_SESSION) as (run, (device,)),
    ):
        server = run.children()["server"]
        broker.freeze()
        time.sleep(4)
        broker.thaw()
        goes_on(device)
        broker.kill()
        time.sleep(12)  # memberships last for six
        broker.start()
        broker.wait()
        goes_on(device)
        nothing_is_lost(broker.address, run, device)
        assert device.connections == 1
        assert run.children()["server"] == server


def test_more_comes_than_is_held_while_the_brokers_are_away(kafka_servers: str, tmp_path: Path) -> None:
    limit = 1 << 20
    with (
        brokers(1, STILL_REGISTERED) as (broker,),
        running_on(
            (reserved_port(), 0),
            tmp_path / "data",
            APP,
            cwd=None,
            MILLSTREAM_LOG__URL=f"kafka://{broker.address}",
            MILLSTREAM_LIMITS__PENDING_BYTES=str(limit),
            MILLSTREAM_METRICS__ANONYMOUS="true",
        ) as run,
    ):
        devices = [Device(run.mqtt_port, f"press-{number}", padding=20_000) for number in range(4)]
        try:
            goes_on(*devices)
            assert log_state(run) == "ready"
            assert status(run)["log"] == {"state": "ready"}
            broker.kill()
            wait_for(lambda: log_state(run) == "waiting")
            wait_for(lambda: sum(device.sent - len(device.acknowledged) for device in devices) * 20_000 > 4 * limit)
            told = status(run)
            assert told["log"]["state"] == "waiting"
            assert told["log"]["reason"].startswith("Kafka: ")
            assert told["statistics"]["pending_bytes"] < 2 * limit
            broker.start()
            broker.wait()
            goes_on(*devices)
            wait_for(lambda: log_state(run) == "ready")
            nothing_is_lost(broker.address, run, *devices)
        finally:
            for device in devices:
                device.close()


def status(run: Running) -> dict[str, Any]:
    """What the server says of itself, also when the log says nothing."""
    told = millstream("status", "--json", "--data", str(run.folder), MILLSTREAM_LOG__URL="kafka://127.0.0.1:1")
    server: dict[str, Any] = json.loads(told.stdout)["server"]
    assert "no broker answers" in told.stderr
    return server


def log_state(run: Running) -> str:
    """The state of the log by the metrics."""
    with urllib.request.urlopen(f"http://{run.http}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    (state,) = re.findall(r'^millstream_log_state\{state="(\w+)"\} 1', text, re.MULTILINE)
    return str(state)


def test_brokers_that_are_not_there_at_the_start_are_told(tmp_path: Path) -> None:
    ended = millstream(
        "run", APP, "--data", str(tmp_path), "--allow-anonymous", MILLSTREAM_LOG__URL="kafka://127.0.0.1:1"
    )
    assert ended.returncode == 1
    assert "no broker answers at 127.0.0.1:1" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_brokers_die_one_after_another_and_nobody_notices(kafka_servers: str, tmp_path: Path) -> None:
    with (
        brokers(3, QUICK_TO_NOTICE) as cluster,
        under_load(tmp_path / "data", ",".join(one.address for one in cluster), "press-1", "press-2") as (run, devices),
    ):
        servers = ",".join(one.address for one in cluster)
        for broker in cluster:
            broker.kill()
            goes_on(*devices)
            broker.start()
            broker.wait()
            wait_for(lambda: in_sync(servers, 3))
        nothing_is_lost(servers, run, *devices)
        assert all(device.connections == 1 for device in devices)
