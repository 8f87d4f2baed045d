"""`millstream subscribe`: prints what is published, as it comes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import aiomqtt
import msgspec
from paho.mqtt.reasoncodes import ReasonCode

from millstream.cli import output
from millstream.cli.lines import payload_text
from millstream.cli.pipe import until_reader_leaves
from millstream.cli.place import load_settings, server_address
from millstream.errors import MillstreamError
from millstream.event_json import payload_member
from millstream.mqtt import Reason
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
    try:
        asyncio.run(until_reader_leaves(printing))
    except aiomqtt.MqttError as error:
        raise MillstreamError(_explain(error, f"{host}:{port}", user)) from error


async def _print(
    topics: str, form: Callable[[str, bytes], bytes], limit: int | None, login: tuple[str, int, str | None, str | None]
) -> None:
    host, port, user, password = login
    async with aiomqtt.Client(
        host, port, username=user, password=password, protocol=aiomqtt.ProtocolVersion.V5
    ) as client:
        (granted,) = await client.subscribe(topics, qos=1)
        if isinstance(granted, ReasonCode) and granted.is_failure:
            raise MillstreamError(
                f"the server at {host}:{port} refuses the subscription to {topics!r}: {_because(granted, user)}"
            )
        count = 0
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else b""
            sys.stdout.buffer.write(form(message.topic.value, payload) + b"\n")
            sys.stdout.buffer.flush()
            count += 1
            if count == limit:
                return


def _because(code: ReasonCode, user: str | None) -> str:
    if code.value != Reason.NOT_AUTHORIZED:
        return str(code).lower()
    who, place = (f"user {user!r}", f"[users.{user}]") if user is not None else ("who shows no --user", "[anonymous]")
    return f"{who} may not; the setting 'subscribe' in {place} or [rights] gives the right"


def _explain(error: aiomqtt.MqttError, address: str, user: str | None) -> str:
    """What went wrong, and the mend where there is one."""
    code = error.rc if isinstance(error, aiomqtt.MqttCodeError) else None
    if isinstance(code, ReasonCode):
        if code.value in (Reason.BAD_USER_NAME_OR_PASSWORD, Reason.NOT_AUTHORIZED):
            return (
                f"the server at {address} does not let {user or 'nobody in particular'} in: give --user and "
                "MILLSTREAM_PASSWORD as in its [users], or run it with --allow-anonymous"
            )
        return f"the server at {address} refuses or ended the connection: {str(code).lower()}"
    return f"no MQTT server answers at {address} ({str(error).lower()}); start one with: millstream run"


def _json_line(topic: str, payload: bytes) -> bytes:
    return msgspec.json.encode({"topic": topic, **payload_member(payload)})


def _text_line(topic: str, payload: bytes) -> bytes:
    return f"{output.printable(topic)}  {payload_text(payload)}".encode()
