"""What the HTTP generator sends."""

from __future__ import annotations

import json

import pytest
from benchmarks.http_load import requests_of


@pytest.mark.parametrize("events", [1, 100])
def test_a_request_holds_its_events(events: int) -> None:
    for request in requests_of(80, 3, events):
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /topics/site/3/device-00003/telemetry HTTP/1.1\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        readings = [json.loads(line) for line in body.splitlines()]
        assert len(readings) == events and all("celsius" in reading for reading in readings)
