"""Where events wait that a handler has published, until its own event is completed: both commit together."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from millstream.errors import AppError
from millstream.event import Event, encode_payload
from millstream.topic import check_topic


class Outbox:
    """Gathers what one call of a handler publishes. Whoever calls the handler opens it, and takes what is in it."""

    __slots__ = ("closed", "events")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.closed = False

    def put(self, event: Event) -> None:
        """Raises `AppError` when the call is over already."""
        if self.closed:
            raise AppError(
                f"app.publish({event.topic!r}): the handler has returned, and what it published is committed; "
                "await what still publishes before the handler returns"
            )
        self.events.append(event)


current: ContextVar[Outbox] = ContextVar("millstream_outbox")
"""The outbox of the handler that runs in this task or thread."""


def make_event(topic: str, data: Any, *, content_type: str | None = None, **attributes: Any) -> Event:
    """An event to publish: `data` encoded as `encode_payload` says, which also tells the content type unless it is
    given. Raises as `checked` does."""
    payload, its_type = encode_payload(data)
    return checked(Event(topic=topic, payload=payload, content_type=content_type or its_type, **attributes))


def checked(event: Event) -> Event:
    """The event, if it can be committed. Many handlers' events are committed together, so a wrong one has to be its
    own handler's failure. Raises `TopicError`, `TypeError`, and `UnicodeEncodeError` for text that is no Unicode."""
    if type(event.payload) is not bytes:
        raise TypeError(
            f"the payload of an event is bytes, not {type(event.payload).__name__}; app.publish encodes data"
        )
    for text in (event.topic, event.key, event.id, event.type, event.content_type):
        if text is not None:
            if not isinstance(text, str):
                raise TypeError(f"topic, key, id, type and content type of an event are text, not {text!r}")
            text.encode()
    for name, value in event.headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"headers are text, and {name!r} is {value!r}")
        (name + value).encode()
    check_topic(event.topic)
    return event


def put(event: Event) -> None:
    """Into the outbox of the running handler. Raises `AppError` where none runs."""
    outbox = current.get(None)
    if outbox is None:
        raise AppError(
            f"app.publish({event.topic!r}) outside of a handler: it commits together with the event that is being "
            "handled. From elsewhere publish by MQTT, by HTTP or with `millstream publish`"
        )
    outbox.put(event)
