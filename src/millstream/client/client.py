"""The client: publish, read, follow, and consume as a group."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import msgspec

from millstream.client.connection import Connection
from millstream.client.group import GroupMember
from millstream.client.page import Page, ShownPage, decode
from millstream.client.tail import Tail
from millstream.clock import Clock, SystemClock, to_micros
from millstream.event import encode_payload
from millstream.log.contract import EARLIEST, LATEST, Bounds, Start, StreamSpec
from millstream.log.start import From

_REQUEST_BYTES = 256 << 10  # of a batch; a server takes 1 MiB unless it is told otherwise


class _Published(msgspec.Struct):
    events: int
    duplicates: int


class _Bounds(msgspec.Struct):
    partition: int
    first: int
    next: int
    events: int
    first_time: datetime | None
    last_time: datetime | None


class _Stream(msgspec.Struct):
    stream: str
    topics: tuple[str, ...]
    key: str | None
    partitions: int
    retention_age: timedelta | None
    retention_bytes: int | None
    bounds: list[_Bounds] = []

    def spec(self) -> StreamSpec:
        return StreamSpec(self.stream, self.topics, self.key, self.partitions, self.retention_age, self.retention_bytes)


class _Streams(msgspec.Struct):
    streams: list[_Stream]


class Client:
    """A server's streams, by HTTP: `async with Client("http://127.0.0.1:8080") as client:`.

    While the server is away, requests are made again for `patience` seconds; then it is an `UnreachableError`. What the
    server refuses is a `RefusedError` with its status and message. It shows a user and password, or an API `key`.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        user: str | None = None,
        password: str | None = None,
        key: str | None = None,
        patience: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        self._connection = Connection(url, user, password, key, patience, clock or SystemClock())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connections."""
        await self._connection.close()

    async def publish(
        self,
        topic: str,
        data: Any,
        *,
        id: str | None = None,  # noqa: A002  # as CloudEvents call it
        type: str | None = None,  # noqa: A002
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bool:
        """Publish one event; it is on disk when this returns. False if an event of that id was there already.

        `data`: bytes and text as they are, anything else as JSON. Without an `id` the event gets one, so that it is
        there once even if the answer was lost on its way."""
        its = {**(headers or {}), "id": id or str(uuid.uuid4()), "type": type, "partitionkey": key}
        event = _event(data, {name: value for name, value in its.items() if value})
        return await self._post(topic, event, "application/cloudevents+json") == 1

    async def publish_many(self, topic: str, data: Iterable[Any], *, ids: Iterable[str] | None = None) -> int:
        """Publish events, in order, in as few requests as they fit into. Returns how many were new; see `publish`.

        When it raises, the requests before are on disk: publish again with the same `ids`, one for each."""
        pairs = zip(data, ids, strict=True) if ids is not None else ((each, str(uuid.uuid4())) for each in data)
        new = 0
        for batch in _batches(_event(each, {"id": its}) for each, its in pairs):
            new += await self._post(topic, b"[" + b",".join(batch) + b"]", "application/cloudevents-batch+json")
        return new

    async def streams(self) -> Mapping[str, StreamSpec]:
        """The streams there are, by name."""
        response = await self._connection.request("GET", "/streams")
        return {its.stream: its.spec() for its in decode(response.content, _Streams).streams}

    async def bounds(self, stream: str) -> Sequence[Bounds]:
        """Where each partition of a stream begins and ends."""
        response = await self._connection.request("GET", _path(stream))
        return [
            Bounds(its.first, its.next, its.events, _micros(its.first_time), _micros(its.last_time))
            for its in decode(response.content, _Stream).bounds
        ]

    async def read(
        self, stream: str, partition: int, start: From = EARLIEST, *, limit: int = 1_000, wait: float = 0.0
    ) -> Page:
        """Events of a partition from an offset, a moment, `earliest` or `latest` on, at most `limit`; where there is
        none yet, it waits up to `wait` seconds (at most 60). Read on from the page's `next_offset`.

        `RefusedError` with status 410 for an offset that retention has dropped."""
        asked = {"from": _text(start), "limit": limit, "wait": wait, "attributes": "true"}
        path = f"{_path(stream)}/{partition}"
        response = await self._connection.request("GET", path, wait=wait, params=asked)
        return decode(response.content, ShownPage).page()

    def tail(self, stream: str, start: From = LATEST, *, partition: int | None = None) -> Tail:
        """A stream from `start` on, live, in the order of the commits: `async for event in client.tail("alerts")`. It
        goes on when the server was away. `start` may also be the `positions` of an earlier tail."""
        return Tail(self._connection, f"{_path(stream)}/tail", _text(start), partition)

    def group(self, group: str, streams: Sequence[str], *, start: Start = LATEST, lease: float = 30.0) -> GroupMember:
        """A membership in a consumer group, to be entered with `async with`. A new group begins at `start`; a member
        that is not heard for `lease` seconds (5 to 300) loses its partitions to the others."""
        return GroupMember(self._connection, group, streams, start, lease)

    async def _post(self, topic: str, body: bytes, content_type: str) -> int:
        path, headers = f"/topics/{quote(topic)}", {"Content-Type": content_type}
        response = await self._connection.request("POST", path, content=body, headers=headers)
        answer = decode(response.content, _Published)
        return answer.events - answer.duplicates


def _batches(events: Iterable[bytes]) -> Iterator[list[bytes]]:
    """In lists that fit into a request."""
    batch: list[bytes] = []
    size = 0
    for event in events:
        if batch and size + len(event) > _REQUEST_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += len(event)
    if batch:
        yield batch


def _event(data: Any, attributes: Mapping[str, str]) -> bytes:
    """A CloudEvent in JSON; the server knows its source."""
    payload, content_type = encode_payload(data)
    its: dict[str, Any] = {"specversion": "1.0", **attributes}
    if content_type is None:
        return msgspec.json.encode({**its, "data_base64": payload})
    value = data if isinstance(data, str) else msgspec.Raw(payload)
    return msgspec.json.encode({**its, "datacontenttype": content_type, "data": value})


def _path(stream: str) -> str:
    return f"/streams/{quote(stream)}"


def _text(start: From) -> str:
    return start.isoformat() if isinstance(start, datetime) else str(start)


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else to_micros(moment)
