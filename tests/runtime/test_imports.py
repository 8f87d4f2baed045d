"""What processes load: a second of importing is a second until a changed application answers."""

from __future__ import annotations

from tests.support.processes import loaded


def test_a_worker_loads_no_gateway_and_no_registry() -> None:
    rooms = ("millstream.gateway", "millstream.devices", "millstream.mqtt", "sqlalchemy", "starlette")
    assert loaded("import millstream.runtime.worker", *rooms) == []
