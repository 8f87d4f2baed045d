"""A child process as its supervisor sees it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from typing import TypeVar

import msgspec

from millstream.errors import MillstreamError
from millstream.runtime.control import Failed, Message, decode_line, encode_line

MESSAGE_BYTES = 1 << 20  # the longest line of a child: an error's text may quote a user's query

M = TypeVar("M", bound=msgspec.Struct)


class ChildEndedError(MillstreamError):
    """A child ended while something was expected of it, and did not say why."""


class Child:
    """A process of ours, and the way to talk to it."""

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.name = name
        self._process = process
        self._reader = reader
        self._writer = writer

    @staticmethod
    async def spawn(role: str, name: str) -> Child:
        """Start this Python in a role of `millstream.runtime.__main__`.

        What the child writes goes to our standard error: standard output is the supervisor's own. Its process group
        is its own, so that Ctrl-C in a terminal reaches only the supervisor, which ends the children in order. `-P`
        keeps the working folder's files from standing in for modules of the standard library, `-u` does not keep what a
        handler prints."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-u",
                "-m",
                "millstream.runtime",
                role,
                name,
                str(theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=MESSAGE_BYTES)
        return Child(name, process, reader, writer)

    @property
    def pid(self) -> int:
        return self._process.pid

    def say(self, message: Message) -> None:
        """Tell the child; if it is gone, `reach` and `ended` know."""
        if not self._writer.is_closing():
            self._writer.write(encode_line(message))

    async def reach(self, kind: type[M]) -> M:
        """Wait until the child says a `kind`. Raises the error that it fails with, or `ChildEndedError`."""
        while line := await self._line():
            message = decode_line(line)
            if isinstance(message, Failed):
                raise message.error
            if isinstance(message, kind):
                return message
        code = await self.ended()
        said = "; what it said is above" if code >= 0 else ""
        raise ChildEndedError(f"the {self.name} process ended ({describe_exit(code)}){said}")

    async def ended(self) -> int:
        """Wait for the process's end; its exit code, or minus the signal that killed it."""
        code = await self._process.wait()
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
        return code

    def kill(self) -> None:
        """End the process at once; nothing if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _line(self) -> bytes:
        try:
            return await self._reader.readline()
        except ConnectionError:
            return b""


def describe_exit(code: int) -> str:
    """An exit code in words: `exit code 2`, `killed by SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
