"""Peers that are missing or fail are left out, by name and with the reason; Millstream is not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from benchmarks.peers import MissingError
from benchmarks.process import RunError

T = TypeVar("T")


class Attempts:
    """The measurements of one benchmark. `skipped`: who was left out, and why."""

    def __init__(self) -> None:
        self.skipped: dict[str, str] = {}

    def measure(self, name: str, run: Callable[[], T]) -> T | None:
        """What `run` gives; None if that peer cannot be measured, now or before. Raises `RunError` for Millstream:
        its failure is no gap in a table."""
        if name in self.skipped:
            return None
        try:
            result = run()
        except (MissingError, RunError) as error:
            if name.startswith("Millstream"):
                raise
            self.skipped[name] = str(error)
            print(f"skipped: {name}: {error}", file=sys.stderr)
            return None
        print(f"  {name}: {result}", file=sys.stderr)
        return result
