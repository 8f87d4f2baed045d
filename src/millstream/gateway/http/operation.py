"""An operation of the HTTP API: what is asked, who may ask, what it takes and what it gives.

Each part of the API declares its operations, and that is the only place where they are said: `api` makes of them the
routes with their checks, `openapi` the document.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from millstream.actor import Actor
from millstream.gateway.http.parameters import Parameters, Query
from millstream.gateway.listeners.auth import Identity
from millstream.rights import Right

JSON = "application/json"
NDJSON = "application/x-ndjson"


class Caller(NamedTuple):
    """Who asks, and with which parameters."""

    identity: Identity
    asked: Parameters
    actor: Actor


Act = Callable[[Request, Caller], Awaitable[Response]]


class Needs(NamedTuple):
    """What one needs to be let in. `of`: the parameter in the path that names what the right is on. `own`: without the
    right, the device that the path names may, on its own behalf. `right` None: whoever is let in."""

    right: Right | None = None
    of: str = ""
    own: bool = False
    inside: bool = False
    """The operation itself checks the right, because it counts what it refuses."""


WHOEVER_IS_LET_IN = Needs()
ANYBODY = Needs(right=None, of="*")
"""No credentials are asked for."""


class Content(NamedTuple):
    """A body in one of several media types. `kind`: what it is as JSON, else anything."""

    kind: Any = None
    media_types: tuple[str, ...] = (JSON,)
    is_required: bool = True


NOTHING = Content(None, ())


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One of them. `query` None: other parameters are let pass as well. `conditional`: it knows `If-Match` and
    `If-None-Match`."""

    method: str
    path: str
    act: Act
    text: str
    needs: Needs
    query: tuple[Query, ...] | None = ()
    takes: Content | None = None
    gives: Mapping[int, Content] = field(default_factory=lambda: {200: Content()})
    conditional: bool = False
    audited: Callable[[Request], bool] = lambda request: False
    """The audit log has an entry of it, though nothing in the registry changes: it shows secrets, or calls a device."""


def always(request: Request) -> bool:
    """Of each request."""
    return True
