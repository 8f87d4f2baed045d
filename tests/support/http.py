"""HTTP clients for tests, and what every error must look like."""

from __future__ import annotations

from typing import Any

import httpx
from tests.support.gateway import Plant
from tests.support.mqtt import PATIENCE


def client_of(plant: Plant, **given: Any) -> httpx.AsyncClient:
    assert plant.gateway.http_address is not None
    host, port = plant.gateway.http_address
    return httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=PATIENCE, **given)


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    """An error's status, code and message; it must have the one shape, and show nothing of our insides."""
    assert response.headers["content-type"] == "application/json"
    (error,) = response.json().values()
    assert sorted(error) == ["code", "message"]
    assert "Traceback" not in response.text
    return response.status_code, error["code"], error["message"]
