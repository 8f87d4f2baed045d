"""The work of `millstream keys …`, over the server's HTTP; `keys` has the commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from millstream.cli import output
from millstream.cli.options import Place
from millstream.cli.registry import JSON, connected, pages


def show_list(json_lines: bool, place: Place) -> None:
    """List all keys."""
    with connected(place) as api:
        found = [its for page in pages(api, "keys") for its in page]
    if json_lines:
        for each in found:
            output.write_line(json.dumps(each, ensure_ascii=False))
        return
    columns = ("key", "role", "device", "created", "by", "expires", "note")
    rows = [[its["id"], *(its.get(name) for name in columns[1:])] for its in found]
    output.show_tables(output.make_table("API keys", columns, rows))


def make(said: Mapping[str, Any], place: Place) -> None:
    """Make a key, and show it."""
    body = json.dumps({name: value for name, value in said.items() if value is not None}).encode()
    with connected(place) as api:
        output.write_json(api.ask("POST", "/keys", body, JSON))


def revoke(key: str, place: Place) -> None:
    """Take one away."""
    with connected(place) as api:
        api.ask("DELETE", _path(key))
    output.tell(f"key {key} revoked")


def rotate(key: str, keep_seconds: int, place: Place) -> None:
    """Give one another secret, and show it."""
    body = json.dumps({"keep_seconds": keep_seconds}).encode()
    with connected(place) as api:
        output.write_json(api.ask("POST", _path(key) + "/rotate", body, JSON))


def _path(key: str) -> str:
    return f"/keys/{quote(key, safe='')}"
