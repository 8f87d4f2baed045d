"""`millstream run`, `dev`, `work` and `demo`: the commands that stay until they are stopped."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millstream.cli import output
from millstream.cli.place import is_loopback, load_settings

if TYPE_CHECKING:
    from millstream.settings import Settings

INTERRUPTED = 130


def run(app: str | None, config: Path | None, **given: Any) -> int:
    """Run a server and workers until SIGTERM or Ctrl-C. 0 when everything was ended in order."""
    from millstream.runtime.supervisor import Supervisor

    settings = load_settings(config, **given)
    _set_up_logs("supervisor", settings)
    supervisor = Supervisor(settings, app, output.write_line, output.tell)
    return 0 if asyncio.run(supervisor.run()) else INTERRUPTED


def dev(app: str, config: Path | None, **given: Any) -> int:
    """Run a server and workers, and take over what changes in the application, until SIGTERM or Ctrl-C."""
    from millstream.app.load import source_folder
    from millstream.runtime.dev import DevSupervisor
    from millstream.runtime.watch import changes

    settings = load_settings(config, **given)
    if not settings.users and is_loopback(settings.mqtt) and is_loopback(settings.http):
        settings = settings.model_copy(update={"allow_anonymous": True})
    # Python takes a compiled file for current when size and time in seconds agree: not when one edits and saves twice.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    _set_up_logs("supervisor", settings)
    supervisor = DevSupervisor(settings, app, output.write_line, output.tell, changes(source_folder(app)))
    return 0 if asyncio.run(supervisor.run()) else INTERRUPTED


def work(app: str, config: Path | None, **given: Any) -> int:
    """Run one worker until SIGTERM or Ctrl-C."""
    from millstream.runtime.loop import run_in_loop
    from millstream.runtime.worker import work_alone

    settings = load_settings(config, **given)
    _set_up_logs("worker", settings)
    run_in_loop(work_alone(settings, app, lambda: output.tell(f"working on {settings.data}")))
    return 0


def demo(for_seconds: float | None, speed: float | None, log: str | None) -> int:
    """Run the demonstration, for a time or until Ctrl-C."""
    from millstream.demo import run as run_demo

    return run_demo(for_seconds, speed, log)


def _set_up_logs(process: str, settings: Settings) -> None:
    from millstream.runtime.logs import FORMAT, set_up_logs

    os.environ[FORMAT] = settings.logging.format  # the children see it too
    set_up_logs(process)
