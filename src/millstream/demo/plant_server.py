"""The server of the demo: `millstream run` as a child process, in a folder of its own, and what it tells of itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from millstream.errors import MillstreamError
from millstream.log import Accounts, GroupStatus, Log
from millstream.runtime.backend import workers_log
from millstream.runtime.bus import connect
from millstream.runtime.endpoint import read_server_info, socket_path
from millstream.runtime.peer import SocketPeer
from millstream.runtime.server import STATUS
from millstream.settings import LogSettings, Settings, host_and_port

_APP = "millstream.demo.plant"
_LOG = "server.log"


class PlantServer:
    """A running server, asked over its bus as `millstream status` does."""

    def __init__(self, folder: Path, peer: SocketPeer, log: Log) -> None:
        self._folder = folder
        self._peer = peer
        self._log = log

    @staticmethod
    @contextlib.asynccontextmanager
    async def started(folder: Path, where: LogSettings) -> AsyncIterator[PlantServer]:
        """Start it with its log there, and drain it at the end. `MillstreamError` with what it said if it does not
        start or end in order."""
        variables = {"MILLSTREAM_LOG__URL": where.url, "MILLSTREAM_LOG__KAFKA__PREFIX": where.kafka.prefix}
        arguments = [sys.executable, "-m", "millstream", "run", _APP, "--data", str(folder / "data")]
        arguments += ["--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0", "--allow-anonymous"]
        with (folder / _LOG).open("wb") as log:
            # A session of its own: Ctrl-C in the terminal is for the show, which then ends the server in order.
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **variables},
            )
        try:
            assert process.stdout is not None
            if not (await process.stdout.readline()).startswith(b"ready"):
                raise MillstreamError(f"the server did not start:\n{(folder / _LOG).read_text()}")
            peer = await connect(socket_path(folder / "data"))
            try:
                settings = Settings.load(data=folder / "data").model_copy(update={"log": where})
                async with workers_log(peer, settings) as log:
                    yield PlantServer(folder / "data", peer, log)
            finally:
                await peer.close()
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            code = await process.wait()
        if code != 0:
            raise MillstreamError(f"the server ended with code {code}:\n{(folder / _LOG).read_text()}")

    @property
    def mqtt(self) -> tuple[str, int]:
        """Where devices connect."""
        info = read_server_info(self._folder)
        assert info is not None
        assert info.mqtt is not None
        return host_and_port(info.mqtt, "mqtt")

    async def statistics(self) -> dict[str, Any]:
        """What the gateway counted."""
        report: dict[str, Any] = msgspec.json.decode(await self._peer.request(STATUS, b""))
        statistics: dict[str, Any] = report["statistics"]
        return statistics

    async def accounts(self) -> Accounts:
        """Where everything ended."""
        return await self._log.accounts()

    async def groups(self) -> Sequence[GroupStatus]:
        """The consumer groups of the application, by name."""
        return sorted(
            (group for group in await self._log.groups() if not group.name.startswith("$")),
            key=lambda group: group.name,
        )
