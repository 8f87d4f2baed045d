"""Statements over payloads of which some may be no JSON: run in the hope that all are, and with care where that was in
vain (`decode.py` says why)."""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import pyarrow as pa

from millstream.engine.duck import Duck, Source
from millstream.engine.scan import PARSED

HOPE = '"#data"'
"""The payload where all are hoped to be JSON."""

_CAREFUL_STEPS = 64  # after hope was in vain; bounds what bad payloads can cost to a fraction of the decode


class Careful:
    """A statement over inputs (`inputs.py`), and over `lookups` (`lookup.py`), if it looks something up there. `text`
    makes its text from the fragment that is the payload. The inputs may have the payloads parsed, as in `parsed`."""

    def __init__(
        self,
        duck: Duck,
        text: Callable[[str], str],
        source: Source,
        lookups: Source | None = None,
        parsed: Source | None = None,
    ) -> None:
        self._source = source
        self._lookups = lookups
        self._hopeful = duck.statement(text(HOPE), source, lookups)
        self._careful = duck.statement(text('CASE WHEN json_valid("#data") THEN "#data" END'), source, lookups)
        self._careful_steps = 0
        self._parsed = parsed
        self._of_parsed = None if parsed is None else duck.statement(text(PARSED), parsed, lookups)

    def run(self, inputs: pa.Table) -> pa.Table:
        """The answer. A payload that is no JSON is NULL."""
        if self._careful_steps:
            self._careful_steps -= 1
        else:
            try:
                return self._hope(inputs)
            except (duckdb.Error, UnicodeDecodeError):  # the error quotes the payload, which may not be UTF-8
                self._careful_steps = _CAREFUL_STEPS
        self._source.table = inputs.select(self._source.schema.names)
        return self._careful.run()

    def _hope(self, inputs: pa.Table) -> pa.Table:
        if self._parsed is None or self._of_parsed is None or not inputs.schema.equals(self._parsed.schema):
            self._source.table = inputs.select(self._source.schema.names)
            return self._hopeful.run()
        self._parsed.table = inputs
        return self._of_parsed.run()
