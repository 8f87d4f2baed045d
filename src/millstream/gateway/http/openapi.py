"""`GET /openapi.json`: the OpenAPI document (3.1) of the whole API, made from what its operations declare.

Types are those that bodies are read with and answers written as, so the document says what is so. What speaks WebSocket
is not a part of it: OpenAPI has no words for that.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from millstream.gateway.http.answer import ErrorShown, answer
from millstream.gateway.http.operation import ANYBODY, Caller, Content, Needs, Operation
from millstream.gateway.http.parameters import Query
from millstream.rights import ROLES

_REFERENCE = "#/components/schemas/{name}"
_SECURITY = {
    "user": {"type": "http", "scheme": "basic", "description": "A user of the settings, or a device."},
    "key": {"type": "http", "scheme": "bearer", "description": "An API key, `msk_…`."},
    "token": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "A device's token, `SharedAccessSignature …`.",
    },
}
_PRECONDITIONS = (
    ("If-Match", "Only if its etag is this one, in quotes; `*`: only if it is there."),
    ("If-None-Match", "`*`: only if it is not there."),
)

_NAME: Mapping[str, Any] = {"type": "string", "minLength": 1}
_ID = {"type": "string", "pattern": r"^[A-Za-z0-9\-._:=@!(),'*?$%]{1,128}$"}  # as `millstream.devices.name` has it
_IDS = dict.fromkeys(("device", "module", "enrollment", "registration", "method"), _ID)

Json = dict[str, Any]


class OpenApi:
    """Shows the document of `operations`, to which its own is added."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._all = [*operations, *self.operations()]

    def operations(self) -> list[Operation]:
        """See `Part`."""
        return [
            Operation(
                method="GET",
                path="/openapi.json",
                act=self._show,
                text="This document",
                needs=ANYBODY,
                gives={200: Content(dict[str, Any])},
            )
        ]

    def document(self) -> Json:
        """As JSON."""
        kinds = list(dict.fromkeys(_kinds(self._all)))
        schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
        known = dict(zip(kinds, schemas, strict=True))
        paths: dict[str, Json] = {}
        for operation in self._all:
            its = paths.setdefault(re.sub(r":\w+\}", "}", operation.path), {})
            its.setdefault(operation.method.lower(), _described(operation, known))
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Millstream",
                "version": version("millstream"),
                "description": "Streams, groups and devices of a Millstream server.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": paths,
            "components": {"schemas": components, "securitySchemes": _SECURITY},
        }

    async def _show(self, request: Request, caller: Caller) -> Response:
        return answer(self.document())


def needed(needs: Needs) -> str:
    """What an operation needs, in words."""
    if needs is ANYBODY:
        return "nothing"
    if needs.right is None:
        return "whoever is let in"
    roles = ", ".join(role for role, rights in ROLES.items() if needs.right in rights)
    return f"`{needs.right}` ({roles})" + (", or the device itself" if needs.own else "")


def _described(operation: Operation, known: dict[Any, Json]) -> Json:
    described: Json = {
        "operationId": re.sub(r"\W+", "_", f"{operation.method.lower()}{re.sub(r':[a-z]+', '', operation.path)}").strip(
            "_"
        ),
        "tags": [operation.path.split("/")[1].partition(".")[0]],
        "summary": operation.text,
        "description": f"Needs: {needed(operation.needs)}.",
        "responses": {
            **{str(status): _answer(status, content, known) for status, content in operation.gives.items()},
            "default": {"description": "An error.", "content": _content(Content(ErrorShown), known)},
        },
        "security": [] if operation.needs is ANYBODY else [{name: []} for name in _SECURITY],
    }
    if parameters := [*_in_path(operation.path), *_in_query(operation.query or ()), *_preconditions(operation)]:
        described["parameters"] = parameters
    if operation.takes is not None:
        described["requestBody"] = {
            "required": operation.takes.is_required,
            "content": _content(operation.takes, known),
        }
    return described


def _answer(status: int, content: Content, known: dict[Any, Json]) -> Json:
    described: Json = {"description": HTTPStatus(status).phrase}
    if content.media_types:
        described["content"] = _content(content, known)
    return described


def _content(content: Content, known: dict[Any, Json]) -> Json:
    if content.kind is None or content.kind is Any:
        return {media_type: {"schema": {}} for media_type in content.media_types}
    schemas = [known[kind] for kind in _each(content.kind)]
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    return {media_type: {"schema": schema} for media_type in content.media_types}


def _kinds(operations: Iterable[Operation]) -> Iterator[Any]:
    """All types that there are bodies of."""
    yield ErrorShown
    for operation in operations:
        for content in (operation.takes, *operation.gives.values()):
            if content is not None and content.kind is not None and content.kind is not Any:
                yield from _each(content.kind)


def _each(kind: Any) -> tuple[Any, ...]:
    """The types of a union, or the one."""
    return get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


def _in_path(path: str) -> Iterator[Json]:
    for name, converter in re.findall(r"\{(\w+)(?::(\w+))?\}", path):
        schema = {"type": "integer", "minimum": 0} if converter == "int" else _IDS.get(name, _NAME)
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _in_query(query: Iterable[Query]) -> Iterator[Json]:
    for each in query:
        yield {"name": each.name, "in": "query", "description": each.text, "schema": each.schema}


def _preconditions(operation: Operation) -> Iterator[Json]:
    for name, says in _PRECONDITIONS if operation.conditional else ():
        yield {"name": name, "in": "header", "description": says, "schema": {"type": "string"}}
