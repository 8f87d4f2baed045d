"""Two servers with one prefix: the second takes over when the first is frozen, which notices that when it thaws."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path

import pytest
from tests.kafka.load import APP, Device, numbers, under_load, wait_for
from tests.support.kafka_logs import fresh_prefix
from tests.support.millstream import millstream, running

pytestmark = pytest.mark.kafka


def goes_on(device: Device) -> None:
    """Return when it is acknowledged again what is sent from now on."""
    seen = len(device.acknowledged)
    wait_for(lambda: len(device.acknowledged) > seen + 20)


def comes(servers: str, topic: str, device: Device, expected: list[int]) -> bool:
    """Whether a topic has just these of a device."""
    return numbers(servers, topic, 1, device) == expected


def test_a_frozen_server_gives_way_and_takes_over_again(kafka_servers: str, tmp_path: Path) -> None:
    prefix = fresh_prefix()
    variables = {
        "MILLSTREAM_LOG__URL": f"kafka://{kafka_servers}",
        "MILLSTREAM_LOG__KAFKA__PREFIX": prefix,
        "MILLSTREAM_LOG__KAFKA__SESSION_TIMEOUT": "PT6S",
    }
    with under_load(tmp_path / "first", kafka_servers, **variables) as (run, (device,)):
        frozen = run.children()["server"]
        os.kill(frozen, signal.SIGSTOP)
        with running(tmp_path / "second", APP, cwd=None, **variables) as other:
            another = Device(other.mqtt_port, "press-2")
            goes_on(another)
            os.kill(frozen, signal.SIGCONT)
            wait_for(lambda: "another gateway has taken over" in run.logs())
            goes_on(another)
            another.stop()
            wait_for(lambda: len(another.acknowledged) == another.sent)
            another.close()
            assert other.stop()[0] == 0
        goes_on(device)
        device.stop()
        wait_for(lambda: len(device.acknowledged) == device.sent)
        for one in (device, another):
            doors = list(range(0, one.sent, 5))
            assert numbers(kafka_servers, f"{prefix}telemetry", 4, one) == sorted(set(range(one.sent)) - set(doors))
            wait_for(partial(comes, kafka_servers, f"{prefix}doors", one, doors))
        ledger = millstream("ledger", "--json", "--data", str(run.folder), **variables)
        assert json.loads(ledger.stdout)["balanced"], ledger.stdout + ledger.stderr
        assert run.stop()[0] == 0
