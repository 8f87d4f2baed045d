"""Who does something, for the audit log and the events that tell of it."""

from __future__ import annotations

from typing import NamedTuple


class Actor(NamedTuple):
    """Who wants something: `name` of a user, an API key, a device or a job (None: nobody in particular), the `action`
    as it was asked for, such as `PATCH /devices/press-1`, and the `address` that it came from."""

    name: str | None = None
    action: str = ""
    address: str = ""


NOBODY = Actor()

By = Actor | str | None
"""Who does something. What is done by a mere name, inside of Millstream, is a part of what somebody asked for before,
and has no entry of its own in the audit log."""


def name_of(by: By) -> str | None:
    """The name of who does something."""
    return by.name if isinstance(by, Actor) else by
