"""What is checked about one declaration. Every error begins with `where`: the place, and what is declared there."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from millstream.app.declarations import Query, Retry, Stream
from millstream.app.parameter import Signature
from millstream.app.payload import payload_decoder, type_name
from millstream.clock import SECOND, Micros
from millstream.duration import Duration, seconds_of
from millstream.errors import AppError, QueryError, TopicError
from millstream.log.contract import Start
from millstream.topic import Filter

ASYNC_CONCURRENCY = 16  # enough to hide the latency of a call over the network, few enough for any server behind it


def check_name(name: str, where: str) -> None:
    """Names that every backend can have: Kafka's rule for topics, and nothing that begins as our own do."""
    legal = name and len(name) <= 200 and all((part.isalnum() and part.isascii()) or part in "._-" for part in name)
    if not legal:
        raise AppError(f"{where}: the name {name!r} may have letters, digits, '.', '_' and '-' only, at most 200")


def check_payload(payload: Any, where: str) -> None:
    try:
        payload_decoder(payload)
    except TypeError as error:
        raise AppError(f"{where}: payload={type_name(payload)}: {error}") from None


def check_start(start: Start, where: str) -> Start:
    if start not in ("earliest", "latest"):
        raise AppError(f"{where}: start={start!r}; a new group starts at 'earliest' or at 'latest'")
    return start


def check_grace(grace: Duration, where: str) -> Micros:
    """How much later than its end a window closes, in microseconds."""
    try:
        return round(seconds_of(grace) * SECOND)
    except (TypeError, ValueError) as error:
        raise AppError(f"{where}: grace={grace!r}: {error}") from None


def check_early(early: Duration, where: str) -> Micros:
    """After how many microseconds open windows give results."""
    try:
        micros = round(seconds_of(early) * SECOND)
    except (TypeError, ValueError) as error:
        raise AppError(f"{where}: early={early!r}: {error}") from None
    if micros % SECOND:
        raise AppError(f"{where}: early={early!r}: early results come every so many whole seconds, as in early='10s'")
    return micros


def parse_filter(text: str, where: str) -> Filter:
    try:
        return Filter.parse(text)
    except TopicError as error:
        raise AppError(f"{where}: {error}") from None


def parse_into(into: str | Stream, levels: Sequence[str], where: str) -> Filter:
    """The topic of what is returned. It may name levels, which are then those of the event's own topic."""
    if isinstance(into, Stream):
        if len(into.spec.topics) != 1:
            raise AppError(f"{where}: stream {into.name!r} has several topics; name one of them: into='…'")
        (into,) = into.spec.topics
    parsed = parse_filter(into, where)
    if parsed.mqtt.count("+") + parsed.mqtt.count("#") > len(parsed.names):
        raise AppError(f"{where}: into={into!r} is a topic, and cannot have wildcards")
    for name in parsed.names:
        if name not in levels:
            raise AppError(f"{where}: into={into!r}: the handled topic has no level {{{name}}} to fill in")
    return parsed


def common_names(filters: Sequence[Filter]) -> tuple[str, ...]:
    """The levels that every one of the filters names."""
    if not filters:
        return ()
    first, *others = filters
    return tuple(name for name in first.names if all(name in other.names for other in others))


def check_retry(asked: Retry | None, where: str) -> Retry:
    """The default where nothing is asked. `AppError` for what is no `Retry`, which would fail at the first event."""
    if asked is None:
        return Retry()
    if not isinstance(asked, Retry):
        raise AppError(f"{where}: retry={asked!r} is no Retry; write retry=Retry(attempts=5)")
    return asked


def check_concurrency(asked: int | None, signature: Signature, where: str) -> int:
    if asked is None:
        return ASYNC_CONCURRENCY if signature.is_async and not signature.per_batch else 1
    if asked < 1:
        raise AppError(f"{where}: concurrency={asked}; at least one call has to run at a time")
    return asked


def group_name(function: Callable[..., Any], frame: FrameType, where: str) -> str:
    if getattr(function, "__name__", "<lambda>") == "<lambda>":
        raise AppError(f"{where} has no name of its own; give it one: group='…'")
    module = function.__module__
    if module == "__main__":  # the same app, run as a script or by us, has the same positions
        module = Path(frame.f_code.co_filename).stem
    return f"{module}.{function.__qualname__}"


def text_place(error: QueryError) -> str:
    if error.line is None:
        return ""
    return f", line {error.line}" + (f", column {error.column}" if error.column is not None else "")


def shadow_problems(queries: Sequence[Query]) -> list[str]:
    """Shadows of queries that are not there, and shadows that are seen where the query in force is."""
    by_name = {query.name: query for query in queries}
    problems = []
    for query in queries:
        if query.shadow is None:
            continue
        where, force = f"{query.place}: query {query.name!r}", by_name.get(query.shadow)
        if force is None or force is query or force.shadow is not None:
            others = sorted(other.name for other in queries if other is not query and other.shadow is None)
            near = difflib.get_close_matches(query.shadow, others, 1) or others
            known = f"; there is {', '.join(map(repr, near))}" if near else ""
            problems.append(f"{where}: shadow={query.shadow!r} is no query in force{known}")
        elif query.into == force.into:
            problems.append(
                f"{where} is a shadow, and publishes on {query.into!r} as the query in force; leave out into=…"
            )
    return problems
