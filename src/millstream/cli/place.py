"""Where a command finds what it works on: the settings, the log, the running server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millstream.cli import output
from millstream.errors import LogUnavailableError, SettingsError

if TYPE_CHECKING:
    from millstream.log import Log
    from millstream.settings import Settings

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # a server on every address is on this one too  # noqa: S104


def load_settings(config: Path | None, **given: Any) -> Settings:
    """The settings of a file, the environment and options."""
    from millstream.settings import Settings, misspelt_variables

    for variable, meant in misspelt_variables(os.environ):
        output.tell(f"warning: {variable} in the environment is no setting; did you mean {meant}?")
    if config is not None:
        os.environ["MILLSTREAM_CONFIG"] = str(config)
    return Settings.load(**given)


@contextlib.asynccontextmanager
async def open_log(settings: Settings) -> AsyncIterator[Log]:
    """The log that the settings name, whether or not a server runs."""
    from millstream.runtime.backend import anybodys_log

    async with anybodys_log(settings) as log:
        yield log


async def server_status(folder: Path) -> dict[str, Any] | None:
    """What the running server of a data folder tells of itself; None if none runs."""
    import msgspec

    from millstream.runtime.bus import connect
    from millstream.runtime.endpoint import socket_path
    from millstream.runtime.server import STATUS

    try:
        peer = await connect(socket_path(folder))
    except LogUnavailableError:
        return None
    try:
        return msgspec.json.decode(await peer.request(STATUS, b""), type=dict[str, Any])
    finally:
        await peer.close()


def server_address(settings: Settings, listener: str, given: str | None) -> tuple[str, int]:
    """Where a server listens (`mqtt` or `http`): as given, else as the server on the data folder says, else as set."""
    from millstream.runtime.endpoint import read_server_info
    from millstream.settings import host_and_port

    info = read_server_info(settings.data)
    address = given or (getattr(info, listener) if info is not None else getattr(settings, listener))
    if not address:
        raise SettingsError(f"the server on {str(settings.data)!r} does not listen for {listener.upper()}")
    host, port = host_and_port(address, listener)
    return _LOOPBACK.get(host, host), port


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches what listens there (nobody does where the listener is off)."""
    from millstream.settings import host_and_port

    if not address:
        return True
    host, _ = host_and_port(address, "address")
    return host == "localhost" or (_is_ip(host) and ip_address(host).is_loopback)


def _is_ip(host: str) -> bool:
    with contextlib.suppress(ValueError):
        ip_address(host)
        return True
    return False
