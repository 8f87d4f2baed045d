"""`millstream subscribe`: prints what is published, as it comes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from millstream.cli import output
from millstream.cli.lines import payload_member, payload_text
from millstream.cli.mqtt_client import MqttClient
from millstream.cli.pipe import until_reader_leaves
from millstream.cli.place import load_settings, server_address
from millstream.mqtt.packet import Publish
from millstream.topic import check_filter


def subscribe(
    topics: str,
    json: bool,
    limit: int | None,
    mqtt: str | None,
    data: Path | None,
    user: str | None,
    password: str | None,
    config: Path | None,
) -> None:
    """Print what is published on matching topics from now on, at most `limit` events."""
    check_filter(topics)
    host, port = server_address(load_settings(config, data=data), "mqtt", mqtt)
    printing = _print(topics, _json_line if json else _text_line, limit, (host, port, user, password))
    asyncio.run(until_reader_leaves(printing))


async def _print(
    topics: str, form: Callable[[Publish], bytes], limit: int | None, login: tuple[str, int, str | None, str | None]
) -> None:
    count = 0
    async with MqttClient.connect(*login) as client:
        async for message in client.messages(topics):
            sys.stdout.buffer.write(form(message) + b"\n")
            sys.stdout.buffer.flush()
            count += 1
            if count == limit:
                return


def _json_line(message: Publish) -> bytes:
    return msgspec.json.encode({"topic": message.topic, **payload_member(message.payload)})


def _text_line(message: Publish) -> bytes:
    return f"{output.printable(message.topic)}  {payload_text(message.payload)}".encode()
