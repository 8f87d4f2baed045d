"""What may be declared as a stream, and the errors about streams that every backend tells alike."""

from __future__ import annotations

from collections.abc import Mapping

from millstream.errors import AppError, StreamMismatchError, UnknownStreamError
from millstream.log.contract import StreamSpec
from millstream.log.router import Router

MAX_PARTITIONS_A_STREAM = 1024  # each costs every reader a seek a poll; a wrong setting should not cost a million


def check_spec(spec: StreamSpec) -> None:
    """`AppError` or `TopicError` for a stream that cannot be."""
    if not spec.name or "\0" in spec.name:
        raise AppError(f"{spec.name!r} is no name for a stream: it needs at least one character, and none of them null")
    if not 1 <= spec.partitions <= MAX_PARTITIONS_A_STREAM:
        raise AppError(
            f"stream {spec.name!r} cannot have {spec.partitions} partitions; choose 1 to {MAX_PARTITIONS_A_STREAM}"
        )
    Router([spec])  # raises if a filter is wrong, or lacks the key


def check_same(known: StreamSpec, spec: StreamSpec) -> None:
    """`StreamMismatchError` for a stream that exists as another one."""
    if (known.key, known.partitions) != (spec.key, spec.partitions):
        raise StreamMismatchError(
            f"stream {spec.name!r} exists with key {known.key!r} and {known.partitions} partitions, and is "
            f"declared with {spec.key!r} and {spec.partitions}; these never change: declare it as it is, or under "
            "another name"
        )


def unknown_stream(name: str, streams: Mapping[str, object]) -> UnknownStreamError:
    """The error that names the streams there are."""
    known = ", ".join(sorted(streams)[:10]) or "none yet"
    return UnknownStreamError(f"there is no stream {name!r}; the streams are: {known}")
