"""Where a child of the supervisor begins: `python -m millstream.runtime ROLE NAME FD`.

What it needs is imported before it reads from the supervisor, so that children import side by side. Nobody looks for
garbage meanwhile: loading makes next to none, and looking for it took a sixth of the time until a child is ready.
"""

from __future__ import annotations

import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from millstream.errors import MillstreamError
from millstream.runtime.control import Control, Failed, OrphanedError
from millstream.runtime.logs import set_up_logs
from millstream.runtime.loop import run_in_loop

FAILED_EXIT = 1

Role = Callable[[Control], Coroutine[Any, Any, int]]


def main() -> int:
    role_name, name, descriptor = sys.argv[1:]
    _leave_signals_to_the_supervisor()
    set_up_logs(name)
    gc.disable()
    role = _role(role_name)
    gc.freeze()
    gc.enable()
    with socket.socket(fileno=int(descriptor)) as connection:
        return run_in_loop(_play(role, connection, name))


async def _play(role: Role, connection: socket.socket, name: str) -> int:
    control = Control(connection, name)
    try:
        return await role(control)
    except OrphanedError:
        return FAILED_EXIT
    except MillstreamError as error:
        logging.getLogger(__name__).debug("it ends with this", exc_info=True)
        control.say(Failed.of(error))
        return FAILED_EXIT


def _role(name: str) -> Role:
    if name == "server":
        from millstream.runtime.server import serve

        return serve
    from millstream.runtime.worker import prepare, work

    return {"worker": work, "prepare": prepare}[name]


def _leave_signals_to_the_supervisor() -> None:
    """A service manager may signal every process of a service at once; who ends when is the supervisor's to say. With
    a function in the place of `SIG_IGN`, programs that an application starts do not inherit the deafness."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)


if __name__ == "__main__":
    sys.exit(main())
