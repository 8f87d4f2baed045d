"""Kafka's side of the tests that run over every log."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import pytest
from confluent_kafka import Message
from tests.support.kafka import REQUIRED, brokers, missing

from millstream.clock import SECOND, VirtualClock

MARGIN_DAYS = 30
"""A virtual clock for Kafka is so far ahead: the markers of transactions, which have the brokers' time, are then older
than any record."""


@contextmanager
def one_broker() -> Iterator[str]:
    """The address of a broker for many tests; they are skipped where there can be none, but not in CI. With
    `MILLSTREAM_KAFKA_SERVERS` it is another server of the protocol, which somebody has started."""
    if servers := os.environ.get("MILLSTREAM_KAFKA_SERVERS"):
        yield servers
        return
    reason = missing()
    if reason is not None:
        assert not os.environ.get(REQUIRED), reason
        pytest.skip(reason)
    with brokers(1, {"log.message.timestamp.after.max.ms": str(1 << 62)}) as (broker,):
        yield broker.address


def fresh_prefix() -> str:
    """Names of its own for a test."""
    return f"t{secrets.token_hex(4)}-"


def virtual_clock() -> VirtualClock:
    """Whole seconds, ahead of the brokers' time."""
    return VirtualClock((int(time.time()) + MARGIN_DAYS * 86_400) * SECOND)


class _Message:
    """What a consumer gives, as far as records are made of it."""

    def __init__(
        self,
        value: bytes | None,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        offset: int,
        millis: int,
    ) -> None:
        self._value, self._key, self._headers = value, key, list(headers) or None
        self._offset, self._millis = offset, millis

    def value(self) -> bytes | None:
        return self._value

    def key(self) -> bytes | None:
        return self._key

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return self._headers

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, self._millis


def message(
    value: bytes | None,
    key: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    *,
    offset: int = 0,
    millis: int = 0,
) -> Message:
    """A message that no broker has sent."""
    return cast("Message", _Message(value, key, headers, offset, millis))
