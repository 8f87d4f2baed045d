"""What is suspicious in an app that would run: handlers and queries that can never do what they are there for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from millstream.app.declarations import Handler, Query, Stream
from millstream.app.fields import Fields, fields_of
from millstream.app.function import name_of
from millstream.app.parameter import Parameter
from millstream.app.payload import type_name
from millstream.topic import Filter

if TYPE_CHECKING:
    from millstream.app.application import App
    from millstream.engine import WindowPlan


def review(app: App, plans: Mapping[str, WindowPlan]) -> list[str]:
    """A line for everything found, beginning with the user's own file and line. `plans` are those of the queries that
    can be planned."""
    declared = app.declared_streams
    return [
        *(problem for handler in app.handlers for problem in _of_handler(handler, app, declared, plans)),
        *(
            problem
            for query in app.queries
            if query.name in plans
            for problem in _of_query(query, plans[query.name], declared)
        ),
    ]


def _of_handler(
    handler: Handler, app: App, declared: Mapping[str, Stream], plans: Mapping[str, WindowPlan]
) -> Iterator[str]:
    where = f"{handler.place}: handler {name_of(handler.signature.function)}"
    stream = declared.get(handler.topics.text) if handler.topics is not None else None
    if stream is not None and not captures(stream, stream.name):
        yield (
            f"{where} is called for the topic {stream.name!r}, and not for the stream of that name, which captures "
            f"{' and '.join(stream.spec.topics)}; give app.on the stream that app.stream returned"
        )
    source = declared.get(handler.stream)
    sources: list[tuple[str, Fields | None]] = []
    if source is not None:
        sources.append((f"stream {source.name!r}", fields_of(source.payload)))
    sources += [
        (f"query {query.name!r}", _columns_of(plans[query.name]))
        for query in app.queries
        if query.name in plans and _gets_results(handler, query, source)
    ]
    for parameter in payload_parameters(handler):
        for name, there in sources:
            yield from _misfit(where, parameter, name, there)


def _columns_of(plan: WindowPlan) -> Fields | None:
    """What the results of a query have; None: what the payloads have that it reads."""
    return None if plan.whole else dict.fromkeys((column.name for column in plan.columns), True)


def _gets_results(handler: Handler, query: Query, source: Stream | None) -> bool:
    """Whether the results of the query are certain to come to the handler."""
    if handler.topics is not None:
        return handler.topics.matches(query.into)
    return handler.stream == query.into or (source is not None and captures(source, query.into))


def payload_parameters(handler: Handler) -> list[Parameter]:
    """The parameters that get payloads: its own, and those of what it depends on."""
    signatures = [handler.signature, *(one.signature for one in handler.signature.dependencies)]
    parameters = [parameter for signature in signatures for parameter in signature.parameters]
    return [parameter for parameter in parameters if parameter.decode is not None]


def _misfit(where: str, parameter: Parameter, source: str, there: Fields | None) -> Iterator[str]:
    wanted = fields_of(parameter.kind)
    if wanted is None or there is None:
        return
    missing = [name for name, required in wanted.items() if required and name not in there]
    if missing:
        yield (
            f"{where}: parameter {parameter.name!r} is a {type_name(parameter.kind)}, which requires "
            f"{_listed(missing)}, and the payloads of {source} have only {_listed(there)}: each would be a dead "
            "letter. Give those fields a default, or take another type"
        )


def _of_query(query: Query, plan: WindowPlan, declared: Mapping[str, Stream]) -> Iterator[str]:
    for side in plan.sides:
        stream = declared.get(side.stream)
        payload: Any = query.payload or (stream.payload if stream is not None else None)
        there = fields_of(payload)
        for field in side.fields:
            if there is not None and field.path[0] not in there:
                near = difflib.get_close_matches(field.path[0], there, 1)
                mend = f"did you mean {near[0]!r}?" if near else f"it has {_listed(there)}"
                yield (
                    f"{query.place}: query {query.name!r} reads {field.path[0]!r}, which {type_name(payload)}, the "
                    f"payload of stream {side.stream!r}, has not; {mend}"
                )


def captures(stream: Stream, topic: str) -> bool:
    """Whether the stream captures a topic."""
    return any(Filter.parse(text).matches(topic) for text in stream.spec.topics)


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
