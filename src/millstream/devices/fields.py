"""What a query can ask of a device, as SQL of each database.

A member of a document has whatever type its JSON has, so it is asked as the type of what it is compared with: one of
another type has no value then, and neither has one that is not there. Both databases agree on that, and on the order of
texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from sqlalchemy import Boolean, ColumnElement, Float, Text, case, cast, func, literal
from sqlalchemy.dialects.postgresql import JSONPATH, array
from sqlalchemy.types import TypeEngine

from millstream.devices.document import check_name
from millstream.devices.tables import devices, twins
from millstream.errors import DeviceError, QueryError

Kind = type[str] | type[float] | type[bool]

_its = devices.c


class Field(Protocol):
    """Something of a device that can be compared."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What it can be compared with."""
        ...

    def as_(self, kind: Kind) -> ColumnElement[Any]:
        """Its value, or NULL if it has none of that type."""
        ...

    def exists(self) -> ColumnElement[bool]:
        """Whether it has any."""
        ...


class Column:
    """A column of the table, which has one type."""

    def __init__(self, column: ColumnElement[Any], kind: Kind, *, is_time: bool = False) -> None:
        self._column = column
        self.kinds: tuple[Kind, ...] = (kind,)
        self.is_time = is_time

    def as_(self, kind: Kind) -> ColumnElement[Any]:
        return self._column

    def exists(self) -> ColumnElement[bool]:
        return self._column.is_not(None)


class SqliteMember:
    """A member of a document, by the names that lead to it."""

    kinds: tuple[Kind, ...] = (str, float, bool)
    _TYPES: ClassVar[dict[Kind, tuple[str, ...]]] = {
        str: ("text",),
        float: ("integer", "real"),
        bool: ("true", "false"),
    }

    def __init__(self, document: ColumnElement[Any], path: Sequence[str]) -> None:
        self._document = document
        self._path = "$" + "".join(f'."{name}"' for name in path)

    def as_(self, kind: Kind) -> ColumnElement[Any]:
        fits = func.json_type(self._document, self._path).in_(self._TYPES[kind])
        return case((fits, func.json_extract(self._document, self._path)))

    def exists(self) -> ColumnElement[bool]:
        return func.json_type(self._document, self._path).is_not(None)

    def json(self) -> ColumnElement[str]:
        found = func.json_type(self._document, self._path)
        value = func.json_quote(func.json_extract(self._document, self._path))
        return case((found.in_(("true", "false")), found), (found.is_not(None), value))


class PostgresMember:
    """The same on PostgreSQL. `strict`: otherwise a path would go into the elements of lists."""

    kinds: tuple[Kind, ...] = (str, float, bool)
    _TYPES: ClassVar[dict[Kind, tuple[str, TypeEngine[Any]]]] = {
        str: ("string", Text(collation="C")),
        float: ("number", Float(53)),
        bool: ("boolean", Boolean()),
    }

    def __init__(self, document: ColumnElement[Any], path: Sequence[str]) -> None:
        steps = "strict $" + "".join(f'."{name}"' for name in path)
        nothing = literal({}, type_=document.type)
        self._value = func.jsonb_path_query_first(document, cast(literal(steps), JSONPATH), nothing, True)

    def as_(self, kind: Kind) -> ColumnElement[Any]:
        name, its_type = self._TYPES[kind]
        text = self._value.op("#>>", return_type=Text())(array([], type_=Text()))
        return case((func.jsonb_typeof(self._value) == name, cast(text, its_type)))

    def exists(self) -> ColumnElement[bool]:
        return self._value.is_not(None)

    def json(self) -> ColumnElement[str]:
        return cast(self._value, Text)


COLUMNS: dict[str, Column] = {
    "id": Column(_its.device, str),
    "status": Column(_its.status, str),
    "status_reason": Column(_its.status_reason, str),
    "generation": Column(_its.generation, str),
    "etag": Column(_its.etag, str),
    "enrollment": Column(_its.enrollment, str),
    "connected": Column(_its.connected, bool),
    "connection_time": Column(_its.connection_time, str, is_time=True),
    "last_activity": Column(_its.last_activity, str, is_time=True),
    "created": Column(_its.created, str, is_time=True),
    "updated": Column(_its.updated, str, is_time=True),
    "desired_version": Column(func.coalesce(twins.c.desired_version, 0), float),
    "reported_version": Column(func.coalesce(twins.c.reported_version, 0), float),
}
DOCUMENTS: dict[str, ColumnElement[Any]] = {
    "tags": _its.tags,
    "desired": twins.c.desired,
    "reported": twins.c.reported,
}


def find_field(path: Sequence[str], dialect: str) -> Field:
    """What a name with dots means. `QueryError` if it is nothing."""
    if len(path) == 1 and path[0] in COLUMNS:
        return COLUMNS[path[0]]
    if path[0] not in DOCUMENTS or len(path) < 2:
        there = ", ".join((*(f"{name}.NAME" for name in DOCUMENTS), *COLUMNS))
        raise QueryError(f"there is no field {'.'.join(path)!r}; there are {there}")
    try:
        for name in path[1:]:
            check_name(name, path[0])
    except DeviceError as error:
        raise QueryError(str(error)) from None
    return _member(path, dialect)


def json_of(path: Sequence[str], dialect: str) -> ColumnElement[str]:
    """The JSON of a document or of a member of one, or the text that a column has."""
    if len(path) > 1:
        return _member(path, dialect).json()
    return COLUMNS[path[0]].as_(str) if path[0] in COLUMNS else cast(DOCUMENTS[path[0]], Text)


def _member(path: Sequence[str], dialect: str) -> SqliteMember | PostgresMember:
    member = SqliteMember if dialect == "sqlite" else PostgresMember
    return member(DOCUMENTS[path[0]], path[1:])
