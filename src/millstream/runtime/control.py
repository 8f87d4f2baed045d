"""What the supervisor and a child tell each other, and the child's end of it.

Supervisor and child share a socket pair; a message is a line of JSON. Every child goes the same way:

    supervisor   Start ──────────▶ Go ───────▶ [Drain ─────────▶] Stop
    server             Prepared ──────▶ Ready         Drained          ends
    worker             Prepared ──────▶ Ready                          ends

*Prepared*: the application is right; the log is open. *Ready*: the worker has joined; the gateway listens.
A child that cannot go on says `Failed` and ends. The socket is also the child's lifeline: when it ends, the
supervisor is dead, however it died, and the child ends too.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from typing import Any, TypeVar

import msgspec

from millstream.errors import MillstreamError
from millstream.runtime.remote import class_name, revive
from millstream.settings import GivenSettings, Settings

ORPHAN_SECONDS = 5.0  # for a child whose supervisor died to end by itself; then it is ended
ORPHAN_EXIT = 3


class Start(msgspec.Struct, tag=True, frozen=True):
    """To a child, first: the settings as JSON, and the application's reference."""

    settings: str
    app: str | None

    @staticmethod
    def of(settings: Settings, app: str | None) -> Start:
        return Start(settings.model_dump_json(), app)

    def read_settings(self) -> Settings:
        """As they are given: a child that is started again works as the first one did, whatever has happened to the
        file since."""
        return GivenSettings(**msgspec.json.decode(self.settings, type=dict[str, Any]))


class Prepared(msgspec.Struct, tag=True, frozen=True):
    """From a child: nothing is wrong with what it was given."""


class Go(msgspec.Struct, tag=True, frozen=True):
    """To a child: join the server; or listen."""


class Ready(msgspec.Struct, tag=True, frozen=True):
    """From a child: it works. A server's has the addresses that it listens on (None: that listener is off)."""

    mqtt: str | None = None
    http: str | None = None
    first_key: str | None = None
    """An admin's API key that was made at this start, for whoever started it."""


class Drain(msgspec.Struct, tag=True, frozen=True):
    """To a server: accept no more, answer what was accepted, go on serving the workers."""


class Drained(msgspec.Struct, tag=True, frozen=True):
    """From a server: done."""


class Stop(msgspec.Struct, tag=True, frozen=True):
    """To a child: finish what is under way, and end."""


class Failed(msgspec.Struct, tag=True, frozen=True):
    """From a child: the error that ends it."""

    kind: str
    text: str

    @staticmethod
    def of(error: MillstreamError) -> Failed:
        return Failed(class_name(error), str(error))

    @property
    def error(self) -> MillstreamError:
        return revive(self.kind, self.text)


Message = Start | Prepared | Go | Ready | Drain | Drained | Stop | Failed
M = TypeVar("M", bound=msgspec.Struct)

_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def encode_line(message: Message) -> bytes:
    """A message as a line."""
    return msgspec.json.encode(message) + b"\n"


def decode_line(line: bytes) -> Message:
    """A line as a message."""
    return _decoder.decode(line)


class OrphanedError(MillstreamError):
    """The supervisor is gone."""


class Control:
    """The child's end of the socket pair. A thread reads it, so that the death of the supervisor ends the child even
    while its event loop is blocked by somebody's handler. `name` is what the supervisor calls the child."""

    def __init__(self, connection: socket.socket, name: str = "") -> None:
        self.name = name
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue()
        threading.Thread(target=self._read, name="control", daemon=True).start()

    async def expect(self, kind: type[M]) -> M:
        """The next message, which must be a `kind`. `OrphanedError` if the supervisor is gone."""
        message = await self._messages.get()
        if message is None:
            raise OrphanedError("the supervisor is gone")
        if not isinstance(message, kind):
            raise MillstreamError(f"the supervisor said {message!r} where {kind.__name__} was due")
        return message

    def say(self, message: Message) -> None:
        """Tell the supervisor; if it is gone, the thread knows."""
        try:
            self._connection.sendall(encode_line(message))
        except OSError:
            return

    def _read(self) -> None:
        with self._connection.makefile("rb") as lines:
            try:
                for line in lines:
                    self._pass_on(decode_line(line))
            except (OSError, msgspec.MsgspecError) as error:
                sys.stderr.write(f"the supervisor's line broke: {error}\n")
        self._pass_on(None)
        time.sleep(ORPHAN_SECONDS)
        os._exit(ORPHAN_EXIT)

    def _pass_on(self, message: Message | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._messages.put_nowait, message)
        except RuntimeError:  # the loop is closed: the child is ending
            return
