"""Where the processes of a data folder meet: the socket `server.sock`, and `server.json`, which tells who serves it.

Both are only hints: whether a server runs is decided by the lock that it holds on the folder, and noticed by
connecting to the socket. What a killed server leaves behind, the next one replaces.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from millstream.clock import Micros

_SOCKET_PATH_BYTES = 100  # sun_path holds 108 bytes on Linux, 104 on macOS and the BSDs


class ServerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Who serves a data folder, and where; an address is `HOST:PORT`, or None where that listener is off."""

    pid: int
    version: str
    started: Micros
    mqtt: str | None
    http: str | None


def socket_path(folder: Path) -> Path:
    """Where the server of a data folder listens for workers and commands."""
    return folder / "server.sock"


def write_server_info(folder: Path, info: ServerInfo) -> None:
    """Replace the folder's `server.json` in one step, readable by this user only."""
    target = _info_path(folder)
    fresh = target.with_suffix(".json.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(info)) + b"\n")
    fresh.replace(target)


def read_server_info(folder: Path) -> ServerInfo | None:
    """What `server.json` says; None if there is none, or none that can be read."""
    try:
        return msgspec.json.decode(_info_path(folder).read_bytes(), type=ServerInfo)
    except (OSError, msgspec.MsgspecError):
        return None


def remove_server_info(folder: Path) -> None:
    """Take `server.json` away; absent is fine."""
    _info_path(folder).unlink(missing_ok=True)


def bind(path: Path) -> socket.socket:
    """A socket bound at `path` that only this user can open. What stands there is removed: the caller holds the
    folder's lock, so it is a dead server's."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        with short_path(path) as short:
            bound.bind(short)
        path.chmod(0o600)  # nobody can connect before somebody listens, so there is no moment of wider access
    except BaseException:
        bound.close()
        raise
    return bound


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """`path` by a name that fits into a socket address: a long one through a link to its folder, which is there
    for the moment of binding or connecting."""
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES:
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="millstream-") as folder:
        link = Path(folder) / "data"
        link.symlink_to(path.parent.absolute(), target_is_directory=True)
        yield str(link / path.name)


def _info_path(folder: Path) -> Path:
    return folder / "server.json"
