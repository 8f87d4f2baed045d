"""What an application opens in a worker's process, as a user runs it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.support.millstream import millstream, running, until

PLANT = """
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated

from millstream import App, Depends, Event


@dataclass
class State:
    opened: str


@contextlib.asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[State]:
    print("lifespan begins")
    yield State("state")
    print("lifespan ends")


def connect(state: State) -> Iterator[str]:
    yield f"connection with {state.opened}"
    print("connection closed")


app = App("plant", lifespan=lifespan)


@app.on("site/{device}", start="earliest", group="plant.seen")
def seen(device: str, logger: logging.Logger, connection: Annotated[str, Depends(connect, scope="worker")]) -> None:
    logger.info("%s over a %s", device, connection)
"""


def test_lifespan_begins_once_and_ends_in_order_though_the_server_was_killed(tmp_path: Path) -> None:
    (tmp_path / "plant.py").write_text(PLANT)
    with running(tmp_path / "data", str(tmp_path / "plant.py")) as run:
        run.publish("site/a", "1")
        until(lambda: "a over a connection with state (plant.seen at events:" in run.logs())
        os.kill(run.children()["server"], signal.SIGKILL)
        until(lambda: "joined again" in run.logs())
        run.publish("site/b", "2")
        until(lambda: "b over a connection with state" in run.logs())
        assert run.stop()[0] == 0
        logs = run.logs()
    assert logs.count("lifespan begins") == 1
    assert logs.count("connection closed") == 1
    assert logs.index("connection closed") < logs.index("lifespan ends")


def test_lifespan_that_fails_is_told_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "plant.py").write_text(PLANT.replace('print("lifespan begins")', "1 / 0"))
    done = millstream("run", str(tmp_path / "plant.py"), "--data", str(tmp_path / "data"), "--allow-anonymous")
    assert done.returncode == 2
    assert (
        f"{tmp_path / 'plant.py'}:18: its lifespan failed at start: ZeroDivisionError: division by zero" in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_lifespan_that_fails_at_the_end_is_told_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "plant.py").write_text(PLANT.replace('print("lifespan ends")', "1 / 0"))
    with running(tmp_path / "data", str(tmp_path / "plant.py")) as run:
        run.stop()
        assert f"{tmp_path / 'plant.py'}:20: its lifespan or a dependency failed at the end: ZeroDivision" in run.logs()
