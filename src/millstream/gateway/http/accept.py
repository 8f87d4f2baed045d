"""Which of several forms a client wants: the `Accept` header (RFC 9110, 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from starlette.exceptions import HTTPException


class _Range(NamedTuple):
    kind: str
    subtype: str
    quality: float

    def fits(self, media_type: str) -> int:
        """How exactly it names a media type; 0 for not at all."""
        kind, _, subtype = media_type.partition("/")
        if self.kind == kind and self.subtype == subtype:
            return 3
        if self.subtype != "*":
            return 0
        return 2 if self.kind == kind else int(self.kind == "*")


def choose(accept: str | None, offered: Sequence[str]) -> str:
    """The media type that the client likes best, the first of equals. Refuses with 406 if it likes none of them."""
    ranges = [found for part in (accept or "*/*").split(",") if (found := _read(part)) is not None]
    best = max(offered, key=lambda media_type: _quality(ranges, media_type))
    if _quality(ranges, best) <= 0:
        raise HTTPException(406, f"there is no {accept} of this; ask in Accept for one of {', '.join(offered)}")
    return best


def _quality(ranges: Sequence[_Range], media_type: str) -> float:
    """By the range that names it most exactly."""
    fitting = [(fits, each.quality) for each in ranges if (fits := each.fits(media_type))]
    return max(fitting)[1] if fitting else 0.0


def _read(text: str) -> _Range | None:
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    kind, slash, subtype = name.partition("/")
    if not slash:
        return None
    return _Range(kind, subtype, next((_weight(each) for each in parameters if each.startswith("q=")), 1.0))


def _weight(parameter: str) -> float:
    try:
        return float(parameter[2:])
    except ValueError:
        return 0.0
