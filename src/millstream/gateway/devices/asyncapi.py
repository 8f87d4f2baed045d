"""The native dialect as an AsyncAPI 3.0 document, from a device's side: what it sends, and what it receives.

https://www.asyncapi.com/docs/reference/specification/v3.0.0. A module has the same below
`device/{device}/modules/{module}/`.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal, NamedTuple

Schema = dict[str, Any]
Document = dict[str, Any]

_ANYTHING: Schema = {}
_OBJECT: Schema = {"type": "object"}
_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "integer", "minimum": 0}


def _object(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


_ERROR = _object(
    {"status": {"type": "integer", "minimum": 400}, "error": _object({"code": _TEXT, "message": _TEXT})},
)


def _or_error(**members: Schema) -> Schema:
    """What is told of a request: that it is done, or why not."""
    return {"anyOf": [_object({"status": {"const": 200}, **members}), _ERROR]}


_SIDES = {"desired": _OBJECT, "desired_version": _NUMBER, "reported": _OBJECT, "reported_version": _NUMBER}


class _Channel(NamedTuple):
    action: Literal["send", "receive"]
    address: str
    payload: Schema
    text: str


CHANNELS = {
    "telemetry": _Channel("send", "device/{device}/telemetry", _ANYTHING, "An event; any topic below will do."),
    "getTwin": _Channel("send", "device/{device}/twin/get/{request}", _ANYTHING, "Ask for the twin."),
    "report": _Channel(
        "send", "device/{device}/twin/reported/{request}", _OBJECT, "A merge patch of what the device reports."
    ),
    "twinAnswer": _Channel(
        "receive",
        "device/{device}/twin/answer/{request}",
        {"anyOf": [_or_error(version=_NUMBER), _or_error(**_SIDES)]},
        "The twin, or the new version of what is reported.",
    ),
    "desired": _Channel(
        "receive",
        "device/{device}/twin/desired",
        _object({"version": _NUMBER, "desired": _OBJECT}),
        "All of desired, when the device subscribes, and after every change.",
    ),
    "call": _Channel("receive", "device/{device}/methods/{method}/{call}", _ANYTHING, "A direct method is called."),
    "answerCall": _Channel(
        "send",
        "device/{device}/methods/{method}/{call}/answer",
        _object({"status": {"type": "integer"}}, {"payload": _ANYTHING}),
        "The answer.",
    ),
    "command": _Channel("receive", "device/{device}/commands/{command}", _ANYTHING, "A queued command."),
    "commandDone": _Channel("send", "device/{device}/commands/{command}/done", _ANYTHING, "It is done."),
    "commandReject": _Channel(
        "send", "device/{device}/commands/{command}/reject", _ANYTHING, "It will not be; the payload may say why."
    ),
    "register": _Channel(
        "send",
        "registrations/{registration}/register/{request}",
        _ANYTHING,
        "Ask to come into the registry; the user name is provisioning/registrations/{registration}.",
    ),
    "registered": _Channel(
        "receive",
        "registrations/{registration}/answer/{request}",
        _or_error(device=_TEXT, outcome={"enum": ["created", "kept", "reset"]}),
        "Which device it is now.",
    ),
}


def asyncapi() -> Document:
    """The document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Millstream: a device",
            "version": version("millstream"),
            "description": "What a device says and hears by MQTT 3.1.1 or 5, with the user name {device}. A module has "
            "the same below device/{device}/modules/{module}/.",
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(name, its) for name, its in CHANNELS.items()},
        "operations": {
            name: {
                "action": its.action,
                "channel": {"$ref": f"#/channels/{name}"},
                "summary": its.text,
                "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
            }
            for name, its in CHANNELS.items()
        },
        "components": {"messages": {name: {"name": name, "payload": its.payload} for name, its in CHANNELS.items()}},
    }


def _channel(name: str, its: _Channel) -> Document:
    names = [level[1:-1] for level in its.address.split("/") if level.startswith("{")]
    return {
        "address": its.address,
        "description": its.text,
        "parameters": {each: {} for each in names},
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
    }
