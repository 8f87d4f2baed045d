"""Queries over one stream, made from text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from millstream.engine import TumblingQuery
from millstream.log.contract import StreamSpec
from millstream.sql import plan_query

MakeQuery = Callable[..., TumblingQuery]


@pytest.fixture
def query() -> MakeQuery:
    """Make a query over `telemetry`, in windows of 10 s, from its SELECT list, what follows FROM, and its groups."""

    streams = {"telemetry": StreamSpec("telemetry", ("site/{site}/{device}/telemetry",), key="device")}

    def make(
        select: str, rest: str = "TIMESTAMP BY ts", groups: str = "device", *, window: str = "second, 10"
    ) -> TumblingQuery:
        before, having, condition = rest.partition(" HAVING ")
        text = f"SELECT {select} FROM telemetry {before} GROUP BY {groups}, TumblingWindow({window}){having}{condition}"
        return TumblingQuery(plan_query("q", text, streams, into="out"), threads=1)

    return make
