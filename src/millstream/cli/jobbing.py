"""The work of `millstream jobs …`, over the server's HTTP; `jobs` has the commands."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from millstream.cli import output
from millstream.cli.api import Api
from millstream.cli.options import Place
from millstream.cli.registry import JSON, PAGE, connected

_LOOK_SECONDS = 0.5
_OVER = ("done", "failed", "cancelled", "unknown")


def make(said: Mapping[str, Any], wait: bool, place: Place) -> int:
    """Make a job and show it, when it has ended if that is wished. 1 if anything has failed by then."""
    body = json.dumps({name: value for name, value in said.items() if value is not None}).encode()
    with connected(place) as api:
        job = api.ask("POST", "/jobs", body, JSON)
        if wait:
            job = _ended(api, job)
        output.write_json(job)
    return int(any(job["outcomes"].get(outcome) for outcome in ("failed", "unknown", "cancelled")))


def show_list(json_lines: bool, place: Place) -> None:
    """List the latest jobs."""
    with connected(place) as api:
        found = api.ask("GET", "/jobs")["jobs"]
    if json_lines:
        for job in found:
            output.write_line(json.dumps(job, ensure_ascii=False))
        return
    columns = ("job", "created", "status", "query", "by")
    rows = [(job["id"], job["created"][:19] + "Z", job["status"], job.get("query"), job["by"]) for job in found]
    output.show_tables(output.make_table("jobs", columns, rows))


def show(job: str, outcome: str | None, place: Place) -> None:
    """Show a job, or its devices of an outcome."""
    with connected(place) as api:
        if outcome is None:
            output.write_json(api.ask("GET", _path(job)))
            return
        asked = {"outcome": outcome, "limit": str(PAGE)}
        while True:
            page = api.ask("GET", f"{_path(job)}/devices?{urlencode(asked)}")
            for device in page["devices"]:
                output.write_line(json.dumps(device, ensure_ascii=False))
            if page["next"] is None:
                return
            asked["after"] = page["next"]


def cancel(job: str, place: Place) -> None:
    """Cancel a job, and show it."""
    with connected(place) as api:
        output.write_json(api.ask("POST", _path(job) + "/cancel"))


def _ended(api: Api, job: dict[str, Any]) -> dict[str, Any]:
    """The job once it has ended."""
    with output.progress("done", "devices") as progress:
        while job["ended"] is None:
            time.sleep(_LOOK_SECONDS)
            job = api.ask("GET", _path(job["id"]))
            progress(sum(job["outcomes"].get(outcome, 0) for outcome in _OVER), job["devices"])
    return job


def _path(job: str) -> str:
    return f"/jobs/{quote(job, safe='')}"
