"""The audit log: who changed what, when and from where, and who was refused, as events of the stream `$audit`.

An entry about a change is committed together with the change, by the same outbox as the event about it; `Work` sees to
that. Who was refused is told by the gateway.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from millstream.actor import Actor
from millstream.clock import Micros, to_text
from millstream.devices.lifecycle import AUDIT, put_event


def put_entry(connection: Connection, outcome: str, now: Micros, by: Actor, more: dict[str, Any]) -> None:
    """An entry, on its way to the stream with what else the transaction does. `outcome` is one of `done`, `refused` and
    `omitted`."""
    data = {"time": to_text(now), "outcome": outcome, "by": by.name, "action": by.action, "from": by.address, **more}
    put_event(connection, f"{AUDIT.name}/{outcome}", f"millstream.audit.{outcome}", data)
