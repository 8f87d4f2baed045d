"""Errors on their way to another process: as the name of a class of `millstream.errors`, and a text."""

from __future__ import annotations

from millstream import errors
from millstream.errors import MillstreamError


def class_name(error: MillstreamError) -> str:
    """The nearest class of `millstream.errors` that the error is of."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)


def revive(name: str, text: str) -> MillstreamError:
    """The error again; a class that this process does not know becomes a `MillstreamError`."""
    kind = getattr(errors, name, MillstreamError)
    return kind(text) if isinstance(kind, type) and issubclass(kind, MillstreamError) else MillstreamError(text)
