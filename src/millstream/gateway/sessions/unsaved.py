"""What of sessions and shared subscriptions is not on disk yet, as chunks for the next commit."""

from __future__ import annotations

from collections.abc import Callable

from millstream.gateway.sessions.kept import FLOW, SESSION, Kept
from millstream.gateway.sessions.share import SHARE, Share


class Unsaved:
    """Gathers changes; `take` gives them, without those of what has ended in the meantime, which `lives` tells."""

    def __init__(self, lives: Callable[[Kept | Share], bool]) -> None:
        self._lives = lives
        self._changed: dict[Kept, None] = {}
        self._flowing: dict[Kept, None] = {}
        self._moved: dict[Kept, None] = {}
        self._shares: dict[Share, None] = {}
        self._ended: dict[str, None] = {}  # names of chunks

    def change(self, kept: Kept) -> None:
        """What changes rarely has changed."""
        self._changed[kept] = None

    def flow(self, kept: Kept) -> None:
        """What changes often has, and somebody waits for it."""
        self._flowing[kept] = None

    def move(self, puller: Kept | Share) -> None:
        """What changes often has, and it may wait for `settle`."""
        if isinstance(puller, Share):
            self._shares[puller] = None
        elif puller.memory.durable:
            self._moved[puller] = None

    def end(self, puller: Kept | Share) -> None:
        """It is no more."""
        if isinstance(puller, Share):
            self._ended[SHARE + puller.name] = None
        else:
            self._ended |= {SESSION + puller.client_id: None, FLOW + puller.client_id: None}

    def settle(self) -> bool:
        """Nothing may wait any longer. Whether anything did."""
        self._flowing |= self._moved
        self._moved = {}
        return bool(self._flowing or self._shares)

    def take(self) -> dict[str, bytes | None]:
        """Chunks by name, None for those to drop."""
        if self._shares:  # what its members have and what it has given must never disagree
            self.settle()
        chunks: dict[str, bytes | None] = dict.fromkeys(self._ended)
        chunks |= {SHARE + its.name: its.chunk() for its in self._shares if its.is_kept and self._lives(its)}
        chunks |= {SESSION + its.client_id: its.session_chunk() for its in self._changed if self._lives(its)}
        flowing = self._changed | self._flowing
        chunks |= {FLOW + its.client_id: its.flow_chunk() for its in flowing if self._lives(its)}
        self._moved = {kept: None for kept in self._moved if kept not in flowing}
        self._changed, self._flowing, self._shares, self._ended = {}, {}, {}, {}
        return chunks
