"""The work of `millstream enrollments …`, over the server's HTTP; `enrollments` has the commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from millstream.cli import output
from millstream.cli.api import Api
from millstream.cli.options import Place
from millstream.cli.registry import JSON, connected, pages


def show_list(json_lines: bool, place: Place) -> None:
    """List all enrollments."""
    with connected(place) as api:
        found = [its for page in pages(api, "enrollments") for its in page]
    if json_lines:
        for each in found:
            output.write_line(json.dumps(each, ensure_ascii=False))
        return
    columns = ("enrollment", "kind", "status", "again", "tags")
    rows = [(its["id"], its["kind"], its["status"], its["again"], json.dumps(its["tags"])) for its in found]
    output.show_tables(output.make_table("enrollments", columns, rows))


def show(enrollment: str, place: Place) -> None:
    """Show an enrollment."""
    with connected(place) as api:
        output.write_json(api.ask("GET", _path(enrollment)))


def make(enrollment: str, said: Mapping[str, Any], place: Place) -> None:
    """Make one that is not there, and show it with its keys."""
    with connected(place) as api:
        made = _send(api, "PUT", _path(enrollment), said, {"If-None-Match": "*"})
        made["keys"] = api.ask("GET", _path(enrollment) + "/keys")
        output.write_json(made)


def change(enrollment: str, said: Mapping[str, Any], devices: bool, place: Place) -> None:
    """Change one, and perhaps its devices, and show it."""
    with connected(place) as api:
        output.write_json(_send(api, "PATCH", f"{_path(enrollment)}?devices={json.dumps(devices)}", said))


def delete(enrollment: str, place: Place) -> None:
    """Delete one."""
    with connected(place) as api:
        api.ask("DELETE", _path(enrollment))
    output.tell(f"enrollment {enrollment} deleted")


def keys(enrollment: str, registration: str | None, rotate: bool, place: Place) -> None:
    """Show its keys, or those of a device of its."""
    path = _path(enrollment) + "/keys"
    with connected(place) as api:
        if rotate:
            api.ask("POST", f"{path}/rotate")
        asked = "" if registration is None else f"?{urlencode({'registration': registration})}"
        output.write_json(api.ask("GET", path + asked))


def _path(enrollment: str) -> str:
    return f"/enrollments/{quote(enrollment, safe='')}"


def _send(
    api: Api, method: str, path: str, said: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    body = json.dumps({name: value for name, value in said.items() if value is not None}).encode()
    answer: dict[str, Any] = api.ask(method, path, body, {**JSON, **(headers or {})})
    return answer
