"""An app as an AsyncAPI 3.0 document: what it receives and sends, where, and how the payloads look.

https://www.asyncapi.com/docs/reference/specification/v3.0.0. A topic filter is a channel, whose address has the names
of the filter as parameters (MQTT's own wildcards stay as they are: the specification has none). A handler, subscription
or query is an operation that receives, and its results are another one that sends. What a handler publishes by
`app.publish` cannot be seen from outside.
"""

from __future__ import annotations

import collections.abc
import inspect
import typing
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from millstream.app.declarations import CATCH_ALL, Handler, Query, Subscription
from millstream.app.parameter import Gets, Parameter, Signature
from millstream.app.payload import type_name
from millstream.app.schemas import Schema, Schemas, safe_name
from millstream.event import Event
from millstream.topic import Filter

if TYPE_CHECKING:
    from millstream.app.application import App
    from millstream.engine import WindowPlan

Document = dict[str, Any]

_MANY: tuple[Any, ...] = (
    list,
    collections.abc.AsyncGenerator,
    collections.abc.AsyncIterator,
    collections.abc.Generator,
    collections.abc.Iterable,
    collections.abc.Iterator,
)


def asyncapi(app: App) -> Document:
    """The document. Raises `AppError` with everything that is wrong in the app."""
    plans = app.plan()
    made = _Making(app)
    for name, stream in app.declared_streams.items():
        if name != CATCH_ALL:
            made.channels(stream.spec.topics, [stream.payload])
    for handler in app.handlers:
        made.receive(handler.group, made.sources(handler), handler.signature)
        made.send_result(handler.group, handler)
    for subscription in app.subscriptions:
        made.receive(subscription.name, [subscription.topics.text], subscription.signature)
        made.send_result(subscription.name, subscription)
    for query in app.queries:
        made.query(query, plans[query.name])
    return made.document()


class _Making:
    """A document that is being made."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._schemas = Schemas()
        self._messages: dict[str, Document] = {}
        self._channels: dict[str, Document] = {}
        self._operations: dict[str, Document] = {}

    def document(self) -> Document:
        components = {"messages": self._messages, "schemas": self._schemas.components}
        return {
            "asyncapi": "3.0.0",
            "info": {"title": self._app.name, "version": self._app.version},
            "defaultContentType": "application/json",
            "channels": self._channels,
            "operations": self._operations,
            "components": {name: value for name, value in components.items() if value},
        }

    def sources(self, handler: Handler) -> Sequence[str]:
        """The filters of the topics that a handler is called for."""
        if handler.topics is not None:
            return [handler.topics.text]
        return self._app.streams[handler.stream].topics

    def channels(self, topics: Iterable[str], kinds: Sequence[Any]) -> list[tuple[str, list[str]]]:
        """Channels with these addresses, and the messages of them that have payloads of these types."""
        messages = [name for kind in kinds if (name := self._message_of(kind)) is not None]
        return [(self._channel(topic, messages), messages) for topic in topics]

    def receive(self, name: str, topics: Sequence[str], signature: Signature) -> None:
        parameters = [one for of in (signature, *_inner(signature)) for one in of.parameters]
        kinds = [one.kind for one in parameters if one.decode is not None]
        channels = self.channels(topics, kinds or [self._payload_of(topic) for topic in topics])
        for number, (channel, messages) in enumerate(channels):
            self._allow(channel, [one for one in parameters if one.gets is Gets.LEVEL])
            own_name = name if len(channels) == 1 else f"{name}-{number + 1}"
            self._operation(own_name, "receive", channel, messages, **_summary(signature))

    def send_result(self, name: str, sender: Handler | Subscription) -> None:
        if sender.into is not None:
            signatures = sender.signatures if isinstance(sender, Handler) else [sender.signature]
            kinds = [kind for signature in signatures for kind in _results(signature.returns)]
            for channel, messages in self.channels([sender.into.text], kinds):
                self._operation(f"{name}.result", "send", channel, messages)

    def query(self, query: Query, plan: WindowPlan) -> None:
        sources = [self._app.streams[stream].topics for stream in plan.streams]
        payloads = [query.payload or self._payload_of(*topics) for topics in sources]
        channels = [
            channel
            for topics, payload in zip(sources, payloads, strict=True)
            for channel in self.channels(topics, [payload])
        ]
        for number, (channel, messages) in enumerate(channels):
            own_name = query.name if len(channels) == 1 else f"{query.name}-{number + 1}"
            self._operation(own_name, "receive", channel, messages, description=inspect.cleandoc(query.sql))
        columns = {column.name: column.type for column in plan.columns}
        certain = {column.name for column in plan.columns if column.sql in ("key", "window_end")}
        schema = self._schemas.of_columns(safe_name(query.name), columns, certain)
        results = [self._message(safe_name(query.name), schema)]
        self._operation(f"{query.name}.result", "send", self._channel(query.into, results), results)
        if query.early:
            self._operation(f"{query.name}.early", "send", self._channel(query.updates, results), results)
        for channel, messages in self.channels([query.late], payloads):
            self._operation(f"{query.name}.late", "send", channel, messages)

    def _payload_of(self, *topics: str) -> Any:
        """What the app's streams say of the payloads on these topics."""
        kinds = (one.payload for one in self._app.declared_streams.values() if set(topics) <= set(one.spec.topics))
        return next((kind for kind in kinds if kind is not None), None)

    def _channel(self, address: str, messages: Sequence[str]) -> str:
        """The name of the channel with this address, which then has these messages too."""
        name = next((name for name, one in self._channels.items() if one["address"] == address), None)
        if name is None:
            name = self._new_name(address)
            self._channels[name] = {"address": address}
            if names := Filter.parse(address).names:
                self._channels[name]["parameters"] = {one: {} for one in names}
            streams = [stream for stream, one in self._app.streams.items() if address in one.topics]
            if streams:
                self._channels[name]["description"] = f"Kept in the stream {' and '.join(streams)}."
        if messages:
            there = self._channels[name].setdefault("messages", {})
            there |= {message: {"$ref": f"#/components/messages/{message}"} for message in messages}
        return name

    def _new_name(self, address: str) -> str:
        """A name from the address's fixed levels, or from all of it."""
        wanted = safe_name("/".join(level for level in address.split("/") if level[:1] not in ("{", "+", "#"))) or "all"
        if wanted in self._channels:
            wanted = safe_name(address)
        number = 2
        while wanted in self._channels:
            wanted, number = f"{safe_name(address)}-{number}", number + 1
        return wanted

    def _message_of(self, kind: Any) -> str | None:
        schema = self._schemas.of(kind)
        if schema is None:
            return None
        reference = schema.get("$ref")
        return self._message(reference.rpartition("/")[2] if reference else safe_name(type_name(kind)), schema)

    def _message(self, name: str, schema: Schema) -> str:
        message = {"name": name, "payload": schema}
        if schema == {"type": "string"}:
            message["contentType"] = "text/plain"
        self._messages[name] = message
        return name

    def _allow(self, channel: str, levels: Iterable[Parameter]) -> None:
        """The values that the handler's parameters allow the channel's."""
        for level in levels:
            allowed = _values(level.kind)
            if allowed and level.name in self._channels[channel].get("parameters", {}):
                self._channels[channel]["parameters"][level.name]["enum"] = allowed

    def _operation(self, name: str, action: str, channel: str, messages: Sequence[str], **more: str) -> None:
        operation: Document = {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, **more}
        if messages:
            operation["messages"] = [{"$ref": f"#/channels/{channel}/messages/{message}"} for message in messages]
        self._operations[safe_name(name)] = operation


def _inner(signature: Signature) -> list[Signature]:
    return [one.signature for one in signature.dependencies]


def _summary(signature: Signature) -> dict[str, str]:
    text = inspect.getdoc(signature.function)
    return {"summary": text.splitlines()[0]} if text else {}


def _results(returns: Any) -> list[Any]:
    """The types of the payloads that a function annotated so returns."""
    origin, arguments = typing.get_origin(returns), typing.get_args(returns)
    if origin in _MANY:
        return _results(arguments[0])
    if arguments and type(None) in arguments:
        return [kind for one in arguments for kind in _results(one)]
    return [] if returns in (None, type(None), Event) else [returns]


def _values(kind: Any) -> list[str]:
    """The levels of a topic that an enumeration or literals allow."""
    try:
        info = msgspec.inspect.type_info(kind)
    except TypeError:
        return []
    if isinstance(info, msgspec.inspect.EnumType):
        return [str(one.value) for one in info.cls]
    return [str(one) for one in info.values] if isinstance(info, msgspec.inspect.LiteralType) else []
