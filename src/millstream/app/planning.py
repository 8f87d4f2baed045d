"""An app's queries as plans, and what only all of the app together can tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from millstream.app.checks import text_place
from millstream.app.declarations import Stream
from millstream.app.references import ambiguities, contents_of
from millstream.app.review import captures
from millstream.errors import QueryError
from millstream.reference import RegistrySource

if TYPE_CHECKING:
    from millstream.app.application import App
    from millstream.engine import WindowPlan


def plans_of(app: App, problems: list[str]) -> dict[str, WindowPlan]:
    """The plans by name. What is wrong with the others, and with the reference data that they join, is added to the
    problems."""
    if not app.queries:
        return {}
    from millstream.sql import Results, plan_query  # its parser takes long to import, and many apps have no query

    declared, streams, plans = app.declared_streams, app.streams, {}
    contents = contents_of(app.references.values(), problems)
    columns = {name: content.types for name, content in contents.items()}
    for name, reference in app.references.items():
        if isinstance(reference.source, RegistrySource):
            columns[name] = reference.source.columns
    if len(columns) < len(app.references):  # what cannot be read would be missed in each query
        return {}
    types = {name: stream.payload for name, stream in declared.items() if stream.payload is not None}
    made: dict[str, list[WindowPlan]] = {}
    for query in app.queries:
        if any(topic not in made for topic in query.steps.values()):
            continue  # what is wrong with the step is told
        read = {topic: topic for topic in made if topic in query.sql and topic not in declared}
        read.update(query.steps)
        try:
            plan = plan_query(
                query.name,
                query.sql,
                {**streams, **{step: streams[topic] for step, topic in query.steps.items()}},
                into=query.into,
                types=types if query.payload is None else dict.fromkeys(streams, query.payload),
                references=columns,
                results={name: Results.of(made[topic]) for name, topic in read.items()},
                timed=query.timed,
                grace=query.grace,
                early=query.early,
            )
        except QueryError as error:
            problems.append(f"{query.place}: query {query.name!r}{text_place(error)}: {error}")
        else:
            plans[query.name] = plan
            made.setdefault(query.into, []).append(plan)
    problems += ambiguities(plans.values(), contents, app.references)
    return plans


def result_problems(results: Mapping[str, str], declared: Mapping[str, Stream]) -> Iterator[str]:
    """Queries that publish on the topic of a declared stream's name, which that stream does not capture. `results` are
    their names by topic."""
    for topic, query in results.items():
        stream = declared.get(topic)
        if stream is not None and not captures(stream, topic):
            yield (
                f"{stream.place}: stream {topic!r} does not capture the topic {topic!r}, on which query {query!r} "
                "publishes; add it to the stream's topics, or give the query another into=…"
            )
