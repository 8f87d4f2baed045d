"""Requests to a server, made again while it is away, and its errors as ours."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec

from millstream.clock import Clock
from millstream.errors import MillstreamError, MissingExtraError, RefusedError, UnreachableError

try:
    import httpx
except ImportError:
    raise MissingExtraError(
        "millstream.Client needs httpx; install it with: pip install 'millstream[client]'"
    ) from None

_ANSWER_SECONDS = 30.0  # beyond what the request itself may wait
_SILENT_SECONDS = 45.0  # a tail says something every 15
_FIRST_PAUSE, _LAST_PAUSE = 0.25, 8.0


class Pauses:
    """Seconds between attempts, each twice the one before."""

    def __init__(self) -> None:
        self._next = _FIRST_PAUSE

    def next(self) -> float:
        """The next pause."""
        pause, self._next = self._next, min(2 * self._next, _LAST_PAUSE)
        return pause


class Connection:
    """A server at `url`. A request that finds it away is made again for `patience` seconds: what is sent here may be
    repeated without harm."""

    def __init__(
        self, url: str, user: str | None, password: str | None, key: str | None, patience: float, clock: Clock
    ) -> None:
        auth = httpx.BasicAuth(user, password or "") if user is not None else None
        headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
        self._url = url
        self._http = httpx.AsyncClient(base_url=url, auth=auth, headers=headers, timeout=_ANSWER_SECONDS)
        self._patience = patience
        self.clock = clock

    async def close(self) -> None:
        """End the connections."""
        await self._http.aclose()

    async def request(self, method: str, path: str, *, wait: float = 0.0, **content: Any) -> httpx.Response:
        """The answer to a request that the server may hold for `wait` seconds.

        `RefusedError`; `UnreachableError` after `patience`."""
        until = self.clock.monotonic() + self._patience
        pauses = Pauses()
        while True:
            try:
                with self._unreachable():
                    response = await self._http.request(method, path, timeout=_ANSWER_SECONDS + wait, **content)
                if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    return _checked(response)
                error: MillstreamError = _refusal(response)
            except UnreachableError as away:
                error = away
            pause = pauses.next()
            if self.clock.monotonic() + pause > until:
                raise error
            await self.clock.sleep(pause)

    @contextlib.asynccontextmanager
    async def follow(self, path: str, **content: Any) -> AsyncIterator[httpx.Response]:
        """An answer that goes on. One attempt; errors as of `request`, at once."""
        with self._unreachable():
            async with self._http.stream("GET", path, timeout=_SILENT_SECONDS, **content) as response:
                if response.is_error:
                    await response.aread()
                yield _checked(response)

    @contextlib.contextmanager
    def _unreachable(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise UnreachableError(
                f"the server at {self._url} does not answer ({error or type(error).__name__})"
            ) from error


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    raise _refusal(response)


def _refusal(response: httpx.Response) -> RefusedError:
    try:
        told = msgspec.json.decode(response.content, type=dict[str, dict[str, str]])["error"]
        code, message = told["code"], told["message"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        code, message = "unknown", f"HTTP status {response.status_code}"
    return RefusedError(message, response.status_code, code)
