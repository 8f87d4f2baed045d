"""Reference data as it is declared, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from millstream.app.declarations import Reference
from millstream.app.place import Place
from millstream.duration import Duration, seconds_of
from millstream.errors import AppError, QueryError, ReferenceDataError
from millstream.reference import REGISTRY, Content, RegistrySource, Source

if TYPE_CHECKING:
    from millstream.engine import WindowPlan
    from millstream.engine.lookup import Lookup


_REFRESH = 60.0
_REFRESH_OF_REGISTRY = 10.0  # which is read only when it has changed


def reference_source(
    name: str, source: str | Path, select: str | None, types: Mapping[str, str] | None, place: Place
) -> Source | RegistrySource:
    """Where reference data that is declared at a place comes from."""
    location = str(source)
    if location == REGISTRY:
        return _registry(name, select, types, place)
    if "://" in location:
        return Source(location, select or " ".join(["SELECT * FROM", name]), types or {})
    if select is not None:
        raise AppError(
            f"{place}: reference {name!r}: select= is for databases, whose source is a URL, and {location!r} is a file"
        )
    return Source(str(Path(place.file).parent / location), None, types or {})


def _registry(name: str, query: str | None, types: Mapping[str, str] | None, place: Place) -> RegistrySource:
    where = f"{place}: reference {name!r}"
    if types:
        raise AppError(
            f"{where}: types= is not for the registry, whose values are of the types that queries use them in"
        )
    if query is not None:
        from millstream.devices.query import translate  # its parser takes long to import

        try:
            translate(query, "sqlite")
        except QueryError as error:
            raise AppError(f"{where}: select={query!r}: {error}") from None
    return RegistrySource(query)


def check_refresh(refresh: Duration | None, source: Source | RegistrySource, where: str) -> float:
    """Every how many seconds it is read again."""
    if refresh is None:
        return _REFRESH if isinstance(source, Source) else _REFRESH_OF_REGISTRY
    try:
        return seconds_of(refresh)
    except (TypeError, ValueError) as error:
        raise AppError(f"{where}: refresh={refresh!r}: {error}") from None


def contents_of(references: Iterable[Reference], problems: list[str]) -> dict[str, Content]:
    """What reference data is there, by name; those that cannot be read are problems. The registry is left out: it is
    the server's."""
    contents = {}
    for reference in references:
        if isinstance(reference.source, RegistrySource):
            continue
        try:
            contents[reference.name] = reference.source.read()
        except ReferenceDataError as error:
            problems.append(f"{reference.place}: reference {reference.name!r}: {error}")
    return contents


def ambiguities(
    plans: Collection[WindowPlan], contents: Mapping[str, Content], references: Mapping[str, Reference]
) -> Iterator[str]:
    """Reference data of which several rows may be what an event looks up."""
    for name, content in contents.items():
        problem = ambiguity(content, lookups_of(plans, name))
        if problem is not None:
            yield f"{references[name].place}: reference {name!r}: {problem}"


def lookups_of(plans: Iterable[WindowPlan], reference: str) -> list[tuple[str, Lookup]]:
    """What queries look up in a reference, with their names."""
    return [(plan.name, lookup) for plan in plans for lookup in plan.lookups if lookup.reference == reference]


def ambiguity(content: Content, lookups: Iterable[tuple[str, Lookup]]) -> str | None:
    """Why a content cannot be joined with, if it cannot."""
    for query, lookup in lookups:
        for column in lookup.columns:
            if column.of in content.types and column.is_member:
                continue  # of whatever type it is
            name, type_ = column.path[0], "JSON" if column.is_member else column.type
            if name not in content.types:
                return f"it has no column {name!r} any more, which query {query!r} uses"
            unfit = content.unfit(name, type_)
            if unfit is not None:
                return f"{name!r} was a {type_} when query {query!r} was planned, and {unfit!r} is none"
        inside = [name for name in lookup.key if name not in content.types]
        if inside:
            return f"query {query!r} joins on {inside[0]!r}, a member of a JSON column; make it a column of its own"
        twice = content.twice(lookup.key)
        if twice is not None:
            values = " and ".join(f"{name} = {value!r}" for name, value in twice.items())
            return (
                f"several rows have {values}, and query {query!r} joins on that; an event is joined with one row, so "
                "take out the others, or join on more columns"
            )
    return None
