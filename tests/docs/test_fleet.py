"""The steps of docs/fleet.md with real processes: a hundred devices come in by a group, half of them are killed and
come again, the server too, and neither an event nor a command is lost."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from tests.support.millstream import END_SECONDS, Running, until
from tests.support.ports import reserved_port

ROOT = Path(__file__).parents[2]
LINE = "tags.line = 3"


class Site:
    """A server that lets nobody in, on ports that stay, and what an admin asks of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mqtt, self.http = reserved_port(), reserved_port()
        self.server = self._start()
        (key,) = re.findall(r"^msk_\S+$", self.server.logs(), flags=re.MULTILINE)
        self.admin = httpx.Client(
            base_url=f"http://127.0.0.1:{self.http}", headers={"Authorization": f"Bearer {key}"}, timeout=END_SECONDS
        )

    def restart(self) -> None:
        """Kill it, and start it again."""
        self.server.close()
        self.server = self._start()

    def close(self) -> None:
        self.admin.close()
        self.server.close()

    def count(self, query: str) -> int:
        """How many devices a query selects."""
        return len(self.admin.get("/devices", params={"query": query, "limit": "1000"}).json()["devices"])

    def job(self, **said: Any) -> dict[str, int]:
        """The outcomes of a job over the line, when it has ended."""
        made = self.admin.post("/jobs", json={"query": LINE, **said}).raise_for_status().json()

        def ended() -> Any:
            told = self.admin.get(f"/jobs/{made['id']}").json()
            return told["outcomes"] if told["status"] == "finished" else None

        outcomes: dict[str, int] = until(ended, what="the end of the job")
        return outcomes

    def read(self, stream: str) -> list[dict[str, Any]]:
        """The events of a stream."""
        command = [sys.executable, "-m", "millstream", "tail", stream, "--json", "--data", str(self.folder / "data")]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        return [json.loads(line) for line in lines]

    def _start(self) -> Running:
        return Running(self.folder / "data", "--mqtt", f"127.0.0.1:{self.mqtt}", "--http", f"127.0.0.1:{self.http}")


@contextmanager
def fleet(site: Site, key: str, first: int) -> Iterator[subprocess.Popen[str]]:
    """Half of the devices, in a process, once they are there."""
    command = [sys.executable, str(ROOT / "examples" / "fleet.py"), "--key", key, "--port", str(site.mqtt)]
    command += ["--first", str(first), "--count", "50", "--every", "0.5"]
    command += ["--acknowledged", str(site.folder / f"{first}.txt")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "50 devices are there\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_hundred_devices_and_nothing_is_lost(tmp_path: Path) -> None:
    site = Site(tmp_path)
    try:
        said = {"tags": {"line": 3}, "desired": {"speed": 1}}
        site.admin.put("/enrollments/line-3", json=said).raise_for_status()
        key = site.admin.get("/enrollments/line-3/keys").json()["primary"]
        with fleet(site, key, 0) as one:
            with fleet(site, key, 50):
                until(lambda: site.count(f"connected AND {LINE}") == 100, what="a hundred devices")
                until(lambda: site.count("reported.speed = 1") == 100, what="what the group wants")
                assert site.job(twin={"desired": {"speed": 5}}) == {"done": 100}
                until(lambda: site.count("reported.speed = 5") == 100, what="what the job wants")
                assert site.job(method={"name": "ping"}) == {"done": 100}
            until(lambda: site.count(f"NOT connected AND {LINE}") == 50, what="that half are gone")
            assert site.job(command={"payload": {"open": True}}) == {"done": 100}
            waiting = site.admin.get("/devices/press-099/commands").json()["commands"]
            assert [each["payload"] for each in waiting] == [{"open": True}]
            site.restart()
            with fleet(site, key, 50) as again:
                until(lambda: len(outcomes(site, "delivered")) == 100, what="what became of all commands")
                for process in (one, again):
                    process.terminate()
                    assert process.wait(END_SECONDS) == 0
        assert set(outcomes(site, "delivered")) == set(outcomes(site, "queued"))
        assert not outcomes(site, "expired") and not outcomes(site, "purged")
        stored = Counter(event["id"] for event in site.read("events") if "/telemetry" in event["topic"])
        acknowledged = {line for file in tmp_path.glob("*.txt") for line in file.read_text().split()}
        assert len(acknowledged) > 200
        assert acknowledged <= set(stored), "what was acknowledged is there"
        assert max(stored.values()) == 1, "and once"
        registered = [event for event in site.read("$audit") if "/register" in (event["data"]["action"] or "")]
        assert len(registered) >= 100
    finally:
        site.close()


def outcomes(site: Site, what: str) -> list[str]:
    """The commands of which that is told."""
    return [event["data"]["command"] for event in site.read("$commands") if event["topic"].endswith(f"/{what}")]
