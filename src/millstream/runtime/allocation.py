"""Registrations that an application decides about: from the server, where devices register, to a worker that has the
function for it."""

from __future__ import annotations

import asyncio
import inspect
import logging

import msgspec

from millstream.allocation import Allocation, Registration
from millstream.app import App
from millstream.bus import Peer
from millstream.errors import MillstreamError, OverloadError, RegistrationError
from millstream.runtime.bus import SocketBus
from millstream.runtime.peer import SocketPeer

SUBJECT = "worker.allocate"
PATIENCE_SECONDS = 10.0  # for the function; then the device comes again

_log = logging.getLogger(__name__)

_encode = msgspec.msgpack.Encoder().encode
_decode_registration = msgspec.msgpack.Decoder(Registration)
_decode_allocation = msgspec.msgpack.Decoder(Allocation)


class Allocating:
    """A worker's end."""

    def __init__(self, app: App) -> None:
        self._functions = app.allocators

    def attach(self, peer: SocketPeer) -> None:
        """Answer at this connection."""
        if self._functions:
            peer.serve(SUBJECT, self._answer)

    async def _answer(self, peer: Peer, body: bytes) -> bytes:
        registration = _decode_registration.decode(body)
        function = self._functions.get(registration.enrollment)
        if function is None:
            raise MillstreamError(f"this application does not decide about {registration.enrollment!r}")
        try:
            if inspect.iscoroutinefunction(function):
                decided = await function(registration)
            else:
                decided = await asyncio.to_thread(function, registration)
            return _encode(msgspec.convert({} if decided is None else msgspec.to_builtins(decided), Allocation))
        except RegistrationError:
            raise
        except Exception as error:
            _log.exception("the function that decides about %r has failed", registration.id)
            raise OverloadError(f"the application cannot say whether {registration.id!r} may register") from error


class AllocationService:
    """The server's end; see `Allocator`."""

    def __init__(self, bus: SocketBus) -> None:
        self._bus = bus

    async def __call__(self, registration: Registration) -> Allocation:
        body = _encode(registration)
        for peer in self._bus.peers:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    return _decode_allocation.decode(await peer.request(SUBJECT, body))
            except TimeoutError:
                raise OverloadError("the application does not say in time whether the device may register") from None
            except (RegistrationError, OverloadError):
                raise
            except MillstreamError:  # it has gone, or is no worker that knows
                continue
        raise OverloadError("no application that decides about these devices runs; register again later")
