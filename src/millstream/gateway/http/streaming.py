"""Answers in pieces. The next piece is made when the client has taken the ones before: a slow client is slowed, and
costs no more memory than a fast one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class Streaming(StreamingResponse):
    """Sends pieces as they come, `during` a context. Whatever happens to the client, `pieces` is closed at the end."""

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        media_type: str,
        headers: Mapping[str, str],
        during: contextlib.AbstractContextManager[object],
    ) -> None:
        super().__init__(pieces, headers=headers, media_type=media_type)
        self._pieces = pieces
        self._during = during

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """The media type as it is: all of ours are UTF-8 by definition, and take no `charset`."""
        super().init_headers({**(headers or {}), "Content-Type": self.media_type or ""})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with contextlib.aclosing(self._pieces):
            with self._during:
                await super().__call__(scope, receive, send)


async def in_turns(pieces: Iterable[bytes]) -> AsyncGenerator[bytes, None]:
    """Pieces that are at hand; others have their turn between the making of two."""
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)
