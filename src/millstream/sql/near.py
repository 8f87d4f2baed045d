"""The nearest known name."""

from __future__ import annotations

import difflib


def nearest(name: str, names: list[str]) -> str:
    """`; did you mean …?` where one of the names is near."""
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
