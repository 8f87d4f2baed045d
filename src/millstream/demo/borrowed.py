"""The demo on somebody's Kafka: under names of its own, which are taken away at the end."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator

from millstream.clock import SystemClock
from millstream.runtime.backend import kafka_log
from millstream.settings import LogSettings, Settings


@contextlib.asynccontextmanager
async def log_of_our_own(url: str | None) -> AsyncIterator[LogSettings]:
    """A log at this URL that is the demo's alone. Without a URL it is in the data folder, whatever the settings say.
    `SettingsError`, `MissingExtraError`, `LogUnavailableError`."""
    theirs = Settings.load(log={"url": url or ""}).log
    if not url:
        yield theirs
        return
    prefix = f"{theirs.kafka.prefix}demo-{secrets.token_hex(4)}-"
    ours = theirs.model_copy(update={"kafka": theirs.kafka.model_copy(update={"prefix": prefix})})
    async with kafka_log(ours, SystemClock()):  # so what is wrong with the brokers is told at once
        from millstream.log.kafka import Cluster, erase
    try:
        yield ours
    finally:
        await erase(Cluster.of(ours))
