"""Statements over payloads of which some may be no JSON: run in the hope that all are, and with care where that was in
vain (`decode.py` says why)."""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import pyarrow as pa

from millstream.engine.duck import Duck, Source

HOPE = '"#data"'
"""The payload where all are hoped to be JSON."""

_CAREFUL_STEPS = 64  # after hope was in vain; bounds what bad payloads can cost to a fraction of the decode


class Careful:
    """A statement over inputs (`inputs.py`), and over `lookups` (`lookup.py`), if it looks something up there. `text`
    makes its text from the fragment that is the payload."""

    def __init__(self, duck: Duck, text: Callable[[str], str], source: Source, lookups: Source | None = None) -> None:
        self._source = source
        self._lookups = lookups
        self._hopeful = duck.statement(text(HOPE), source, lookups)
        self._careful = duck.statement(text('CASE WHEN json_valid("#data") THEN "#data" END'), source, lookups)
        self._careful_steps = 0

    def run(self, inputs: pa.Table) -> pa.Table:
        """The answer. A payload that is no JSON is NULL."""
        self._source.table = inputs
        if self._careful_steps:
            self._careful_steps -= 1
        else:
            try:
                return self._hopeful.run()
            except (duckdb.Error, UnicodeDecodeError):  # the error quotes the payload, which may not be UTF-8
                self._careful_steps = _CAREFUL_STEPS
        return self._careful.run()
