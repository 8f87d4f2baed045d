"""`millstream publish`: one event, or one a line of standard input, over HTTP; it ends when the server has them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

from millstream.cli import output
from millstream.cli.api import Api
from millstream.cli.options import Place
from millstream.cli.place import load_settings, server_address
from millstream.errors import MillstreamError, PayloadError, SettingsError
from millstream.topic import check_topic

if TYPE_CHECKING:
    from rich.progress import Progress

BATCH_BYTES = 256 * 1024  # of lines in a request: far below what a server takes, and enough to share an fsync
_NDJSON = "application/x-ndjson"


def publish(topic: str, payload: str, event_id: str | None, place: Place) -> None:
    """Publish `payload`, or with `-` the lines of standard input."""
    check_topic(topic)
    if payload == "-" and event_id is not None:
        raise SettingsError("--id names one event, and - publishes one a line: leave one of them out")
    host, port = server_address(load_settings(place.config, data=place.data), "http", place.http)
    publisher = Publisher(host, port, place.user, place.password)
    try:
        if payload == "-":
            _publish_lines(publisher, topic)
        elif publisher.post(topic, os.fsencode(payload), _media_type(payload), event_id):
            output.tell(
                f"the server has an event with the id {event_id!r} on this topic already; nothing was published"
            )
    finally:
        publisher.close()


class Publisher:
    """Publishes to a server."""

    def __init__(self, host: str, port: int, user: str | None, password: str | None) -> None:
        self._api = Api(host, port, user, password)

    def post(self, topic: str, body: bytes, media_type: str, event_id: str | None = None) -> int:
        """Publish; returns when it is on disk: how many events the server had already."""
        headers = {"Content-Type": media_type}
        if event_id is not None:
            headers["ce-id"] = quote(event_id, safe="")
        return int(self._api.ask("POST", f"/topics/{quote(topic, safe='/')}", body, headers)["duplicates"])

    def close(self) -> None:
        """End the connection."""
        self._api.close()


def _publish_lines(publisher: Publisher, topic: str) -> None:
    count = 0
    with _progress() as progress:
        task = progress.add_task("published", total=None)
        for lines in _batches(_arrivals()):
            _check_lines(lines, count)
            try:
                publisher.post(topic, b"\n".join(lines), _NDJSON)
            except MillstreamError as error:
                raise type(error)(f"{error} ({count} events before were published)") from error
            count += len(lines)
            progress.update(task, completed=count)
    output.tell(f"published {count} events")


def _arrivals() -> Iterator[bytes]:
    """What comes in on standard input, without waiting for more: a slow source's events go on at once."""
    while data := os.read(sys.stdin.fileno(), BATCH_BYTES):
        yield data


def _batches(arrivals: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The complete lines of each arrival, without empty ones."""
    rest = b""
    for data in arrivals:
        *lines, rest = (rest + data).split(b"\n")
        if batch := [line for line in lines if line.strip()]:
            yield batch
    if rest.strip():
        yield [rest]


def _check_lines(lines: list[bytes], before: int) -> None:
    """Name the first line that is no JSON as the person who wrote it counts."""
    for number, line in enumerate(lines, before + 1):
        try:
            json.loads(line)
        except ValueError as error:
            raise PayloadError(
                f"event {number} on standard input is no JSON ({error}); {before} events before it were published"
            ) from None


def _media_type(payload: str) -> str:
    try:
        json.loads(payload)
    except ValueError:
        return "text/plain; charset=utf-8"
    return "application/json"


def _progress() -> Progress:
    """A count on standard error, if a person looks there."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description} {task.completed:,.0f} events"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
