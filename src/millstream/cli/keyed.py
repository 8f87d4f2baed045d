"""What is kept of keys, for a person: lines of JSON, each at once, or a table of the first ones."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from rich.table import Table

from millstream.cli import output
from millstream.cli.lines import payload_text
from millstream.event_json import payload_member


class Keyed:
    """Rows of a partition, a key and a payload. With a `key`, those of others are passed over."""

    def __init__(self, whose: Mapping[str, str], key: str | None, limit: int, json: bool) -> None:
        self.count = 0
        self._whose = whose
        self._key = key
        self._limit = limit
        self._json = json
        self._rows: list[tuple[int, str, str]] = []

    def add(self, partition: int, key: str, payload: bytes) -> bool:
        """One more; whether it is shown."""
        if self._key is not None and key != self._key:
            return False
        self.count += 1
        if self._json:
            row = {**self._whose, "partition": partition, "key": key, **payload_member(payload)}
            output.write_line(msgspec.json.encode(row).decode())
        elif len(self._rows) < self._limit:
            self._rows.append((partition, key, payload_text(payload)))
        return True

    def tables(self, noun: str, what: str) -> list[Table]:
        """The table of the first ones, if there are any; `noun` is what they are, `what` what their payloads are."""
        if not self._rows:
            return []
        title = f"{len(self._rows):,} of {self.count:,} {noun}"
        return [output.make_table(title, ("partition", "key", what), self._rows)]
