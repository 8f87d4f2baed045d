"""Queries over one stream, made from text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from millstream.engine import WindowedQuery
from millstream.log.contract import StreamSpec
from millstream.sql import plan_query

MakeQuery = Callable[..., WindowedQuery]


@pytest.fixture
def query() -> MakeQuery:
    """Make a query over `telemetry`, in windows of 10 s, from its SELECT list, what follows FROM, and its groups."""

    streams = {"telemetry": StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device")}

    def make(
        select: str,
        rest: str = "TIMESTAMP BY ts",
        groups: str = "device",
        *,
        window: str = "TumblingWindow(second, 10)",
        grace: int = 0,
    ) -> WindowedQuery:
        before, having, condition = rest.partition(" HAVING ")
        text = f"SELECT {select} FROM telemetry {before} GROUP BY {groups}, {window}{having}{condition}"
        return WindowedQuery(plan_query("q", text, streams, into="out", grace=grace), threads=1)

    return make
