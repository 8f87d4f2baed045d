"""The work of `millstream devices …`, over the server's HTTP; `devices` has the commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

from millstream.cli import output
from millstream.cli.api import Api
from millstream.cli.options import Place
from millstream.cli.place import load_settings, server_address

JSON = {"Content-Type": "application/json"}

PAGE = 1_000  # devices in a request, the most that a server takes

Device = dict[str, Any]


@contextmanager
def connected(place: Place, patience: float = 0.0) -> Iterator[Api]:
    """A connection to the server, which may take so many seconds longer than usual."""
    host, port = server_address(load_settings(place.config, data=place.data), "http", place.http)
    api = Api(host, port, place.user, place.password, patience)
    try:
        yield api
    finally:
        api.close()


def path_of(name: str) -> str:
    """Where a device, or `DEVICE/MODULE`, is."""
    device, _, module = name.partition("/")
    return f"/devices/{quote(device, safe='')}" + (f"/modules/{quote(module, safe='')}" if module else "")


def every(api: Api, query: str | None, *, modules: bool = False, secrets: bool = False) -> Iterator[list[Device]]:
    """All devices that a query selects, page by page."""
    asked = {"modules": json.dumps(modules), "secrets": json.dumps(secrets)}
    return pages(api, "devices", asked if query is None else {**asked, "query": query})


def pages(api: Api, what: str, asked: Mapping[str, str] | None = None) -> Iterator[list[dict[str, Any]]]:
    """All of a collection (`devices`, `enrollments`, `keys`), page by page."""
    asking = {"limit": str(PAGE), **(asked or {})}
    while True:
        page = api.ask("GET", f"/{what}?{urlencode(asking)}")
        yield page[what]
        if page["next"] is None:
            return
        asking["after"] = page["next"]


def show_list(query: str | None, limit: int | None, json_lines: bool, place: Place) -> None:
    """List devices; with a limit, the first ones."""
    found: list[Device] = []
    with connected(place) as api:
        for page in every(api, query):
            found += page
            if limit is not None and len(found) >= limit:
                break
    found = found[:limit]
    if json_lines:
        for device in found:
            output.write_line(json.dumps(device, ensure_ascii=False))
        return
    columns = ("device", "status", "connected", "last activity", "tags")
    output.show_tables(output.make_table("devices", columns, [_cells(device) for device in found]))


def show(name: str, place: Place) -> None:
    """Show a device."""
    with connected(place) as api:
        output.write_json(api.ask("GET", path_of(name)))


def make(name: str, said: Mapping[str, Any], place: Place) -> None:
    """Make a device that is not there, and show it, with the keys that were made for it."""
    with connected(place) as api:
        device = _send(api, "PUT", name, said, {"If-None-Match": "*"})
        if "keys" in said.get("credentials", {}):
            device["credentials"]["keys"] = api.ask("GET", path_of(name) + "/keys")
        output.write_json(device)


def change(name: str, said: Mapping[str, Any], place: Place) -> None:
    """Change a device, and show it."""
    with connected(place) as api:
        output.write_json(_send(api, "PATCH", name, said))


def delete(names: list[str], place: Place) -> None:
    """Delete devices."""
    with connected(place) as api:
        for name in names:
            api.ask("DELETE", path_of(name))
    output.tell(f"{count(len(names))} deleted")


def keys(name: str, rotate: bool, place: Place) -> None:
    """Show a device's keys, after a new one was made if that is asked for."""
    with connected(place) as api:
        path = path_of(name) + "/keys"
        output.write_json(api.ask("POST", f"{path}/rotate") if rotate else api.ask("GET", path))


def token(name: str, seconds: int, place: Place) -> None:
    """Print a token with which a device comes in, signed with its primary key."""
    from millstream.clock import SECOND, SystemClock
    from millstream.devices import Name, make_token, resource_of

    with connected(place) as api:
        key = api.ask("GET", path_of(name) + "/keys")["primary"]
    output.write_line(make_token(key, resource_of(Name.parse(name)), SystemClock().now() + seconds * SECOND))


def show_twin(name: str, place: Place) -> None:
    """Show a device's twin."""
    with connected(place) as api:
        output.write_json(api.ask("GET", path_of(name) + "/twin"))


def change_twin(name: str, said: Mapping[str, Any], replace: bool, place: Place) -> None:
    """Change what is said of a device's twin, and show it."""
    body = json.dumps({member: value for member, value in said.items() if value is not None}).encode()
    with connected(place) as api:
        output.write_json(api.ask("PUT" if replace else "PATCH", path_of(name) + "/twin", body, JSON))


def call(name: str, method: str, payload: str | None, timeout: int, wait: int, place: Place) -> None:
    """Call a method on a device, and show its answer."""
    asked = urlencode({"response_timeout": timeout, "connect_timeout": wait})
    path = f"{path_of(name)}/methods/{quote(method, safe='')}?{asked}"
    with connected(place, timeout + wait) as api:
        output.write_json(api.ask("POST", path, (payload or "").encode(), JSON))


def queue(name: str, payload: str | None, ttl: int, place: Place) -> None:
    """Queue a command for a device, and show it."""
    with connected(place) as api:
        output.write_json(api.ask("POST", f"{path_of(name)}/commands?ttl={ttl}", (payload or "").encode(), JSON))


def show_queue(name: str, place: Place) -> None:
    """Show the commands that wait for a device."""
    with connected(place) as api:
        for command in api.ask("GET", path_of(name) + "/commands")["commands"]:
            output.write_line(json.dumps(command, ensure_ascii=False))


def purge(name: str, place: Place) -> None:
    """Take back what waits for a device."""
    with connected(place) as api:
        purged = api.ask("DELETE", path_of(name) + "/commands")["purged"]
    output.tell("1 command purged" if purged == 1 else f"{purged} commands purged")


def count(devices: int) -> str:
    """So many devices, in words."""
    return "1 device" if devices == 1 else f"{devices} devices"


def tell_error_of_line(number: int, message: str) -> None:
    """What is wrong with a line of a file."""
    sys.stderr.write(f"line {number}: {output.printable(message)}\n")


def _send(
    api: Api, method: str, name: str, said: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    body = json.dumps(said).encode()
    answer: dict[str, Any] = api.ask(method, path_of(name), body, {**JSON, **(headers or {})})
    return answer


def _cells(device: Device) -> tuple[object, ...]:
    status = device["status"] + (f" ({device['status_reason']})" if device["status_reason"] else "")
    tags = json.dumps(device["tags"], ensure_ascii=False) if device["tags"] else None
    activity = device["last_activity"]
    return device["id"], status, "yes" if device["connected"] else "no", activity and activity[:19] + "Z", tags
