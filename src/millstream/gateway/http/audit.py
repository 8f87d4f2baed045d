"""Which requests the audit log has to know of, beside those that change the registry, which have their entries."""

from __future__ import annotations

from typing import Protocol

from starlette.requests import Request

from millstream.actor import Actor
from millstream.gateway.http.access import address_of
from millstream.gateway.http.answer import CODES
from millstream.gateway.http.operation import Operation
from millstream.rights import Right

_NOT_LET_IN = (401, 403, 429)
_OVER_DEVICES = (Right.OPERATE, Right.MANAGE, Right.ADMINISTER)


class Auditor(Protocol):
    """Whom entries are given to."""

    def refuse(self, by: Actor, code: str, reason: str) -> None:
        """Somebody was refused."""
        ...

    def tell(self, by: Actor) -> None:
        """Somebody has done something."""
        ...


class Audit:
    """Tells an auditor, if there is one."""

    def __init__(self, auditor: Auditor | None) -> None:
        self._auditor = auditor

    def refused(self, request: Request, operation: Operation, status: int, reason: str) -> None:
        """A request was. Of those who may ask, only what they wanted to do to devices has an entry: a wrong offset,
        say, is nobody's business but theirs."""
        of_devices = operation.needs.right in _OVER_DEVICES or operation.path.startswith("/registrations")
        if self._auditor is not None and (status in _NOT_LET_IN or (of_devices and status < 500)):
            self._auditor.refuse(_actor(request), CODES[status], reason)

    def done(self, request: Request, operation: Operation) -> None:
        """A request was answered."""
        if self._auditor is not None and operation.audited(request):
            self._auditor.tell(_actor(request))


def _actor(request: Request) -> Actor:
    known: Actor | None = getattr(request.state, "actor", None)
    return known or Actor(None, f"{request.method} {request.url.path}", address_of(request))
