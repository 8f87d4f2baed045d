"""What the names in a query mean.

A name is looked for in this order:

1. a name in braces of the stream's filters: that level of the event's topic;
2. `_topic`, `_key`, `_id`, `_type`, `_time`: the event's own attributes (`_time` is its arrival);
3. everything else is a field of the JSON payload, with dots for fields inside of fields: `motor.temperature`.

Names are as the payload spells them, upper and lower case. `payload.x` is the field x even where a level of the topic
is called x; `alias.x` and `stream.x` are just x. `System.Timestamp()` is the end of the window.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sqlglot import exp

from millstream.engine.plan import ATTRIBUTES, Field
from millstream.log.contract import StreamSpec
from millstream.sql.applies import COLUMNS, Applied
from millstream.sql.near import nearest
from millstream.sql.text import QueryText
from millstream.topic import Filter

WINDOW_END = "#window_end"
WINDOW_ID = "#window_id"
"""The names that `System.Timestamp()` and `System.Window().Id` get while a query is planned."""

_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_NUMBERS = {*_INTEGERS, *(f"U{name}" for name in _INTEGERS), "FLOAT", "DOUBLE", "DECIMAL"}


def is_number(type_: str) -> bool:
    """Whether a DuckDB type is a number's."""
    return type_.split("(")[0] in _NUMBERS


@dataclass(slots=True)
class Uses:
    """A payload field, or a member of a JSON column, and the types in which the query uses it: `cast` explicitly,
    `firm` where an operation needs one, `soft` where one is only likely."""

    path: tuple[str, ...]
    node: exp.Expr
    cast: dict[str, None] = field(default_factory=dict)
    firm: dict[str, None] = field(default_factory=dict)
    soft: dict[str, None] = field(default_factory=dict)


class Scope:
    """The columns of one stream that a query uses; grows while the query's parts are resolved.

    `declared` gives fields (dotted) the types that the payload's annotation gives them; `tables` are the columns and
    types of reference data by alias. `looked_up` are those that are used, by alias: what they are called in the query,
    and where they are in the reference; `members` are those of JSON columns. `keyed` are the columns that say which key
    an event has, where the stream does not tell; `applied` the columns of the rows of each APPLY that are used.
    """

    def __init__(
        self,
        query: QueryText,
        spec: StreamSpec,
        alias: str | None,
        declared: Mapping[str, str],
        tables: Mapping[str, Mapping[str, str]] | None = None,
        keyed: Collection[str] = (),
        applies: Sequence[Applied] = (),
    ) -> None:
        self._query = query
        self._applies = {one.alias: COLUMNS[one.function] for one in applies}
        self.applied: dict[str, dict[str, Uses]] = {one.alias: {} for one in applies}
        self._prefixes = {alias or spec.name, spec.name}
        self._declared = declared
        self.filters = [Filter.parse(text) for text in spec.topics]
        self.levels = list(dict.fromkeys(name for pattern in self.filters for name in pattern.names))
        self.keyed = tuple(keyed) or ((spec.key,) if spec.key is not None else self._topic())
        self.parameters: dict[str, None] = {}
        self.attributes: dict[str, None] = {}
        self.fields: dict[str, Uses] = {}
        self._tables = tables or {}
        self.looked_up: dict[str, dict[str, tuple[str, ...]]] = {alias: {} for alias in self._tables}
        self.members: dict[str, Uses] = {}

    def _topic(self) -> tuple[str, ...]:
        """The levels that say the topic: there is one filter, and all its wildcards are named."""
        if len(self.filters) != 1:
            return ()
        only = self.filters[0]
        wildcards = [level for level in only.mqtt.split("/") if level in ("+", "#")]
        return tuple(self.levels) if len(wildcards) == len(only.names) else ()

    def resolve(self, node: exp.Expr) -> exp.Expr:
        """A copy of an expression in which every column has the name it has for the engine, quoted."""
        return node.transform(self._replace)

    def _replace(self, node: exp.Expr) -> exp.Expr:
        path = _path(node)
        if path is None and not _is_window_id(node):
            return node
        name = WINDOW_ID if path is None else self._name(path, node)
        column = exp.column(exp.to_identifier(name, quoted=True))
        column.meta.update(start=_first(node))
        return column

    def _name(self, path: tuple[str, ...], node: exp.Expr) -> str:
        if _is_system_timestamp(path):
            return WINDOW_END
        if len(path) > 1 and path[0] in self._applies:
            return self._of_row(path, node)
        if len(path) > 1 and path[0] in self._tables:
            return self._looked_up(path, node)
        if len(path) > 1 and path[0] in self._prefixes and path[0] not in self.levels:
            path = path[1:]
        if len(path) == 1 and path[0] in self.levels:
            self.parameters[path[0]] = None
            return path[0]
        if len(path) == 1 and path[0] in ATTRIBUTES:
            self.attributes[path[0]] = None
            return path[0]
        if len(path) > 1 and path[0] == "payload":
            path = path[1:]
        return self._field(path, node)

    def _of_row(self, path: tuple[str, ...], node: exp.Expr) -> str:
        """A column of the rows that an APPLY makes, or a field of the value in it."""
        there = {name.lower(): name for name in self._applies[path[0]]}
        column = there.get(path[1].lower())
        if column is None:
            near = nearest(path[1], list(there.values())) or f"; there are {' and '.join(there.values())}"
            raise self._query.error(f"{path[0]} has no column {path[1]!r}{near}", node)
        path = (path[0], column, *path[2:])
        name = ".".join(path)
        self.applied[path[0]].setdefault(name, Uses(path[1:], node))
        return name

    def uses(self, name: str) -> Uses | None:
        """How a column is used whose type depends on that; None: it is no such column."""
        of_rows = (its[name] for its in self.applied.values() if name in its)
        return self.fields.get(name) or self.members.get(name) or next(of_rows, None)

    def _looked_up(self, path: tuple[str, ...], node: exp.Expr) -> str:
        """A column of reference data, or a member of one that is JSON."""
        alias, *its = path
        there, name = self._tables[alias], ".".join(path)
        if its[0] not in there or (len(its) > 1 and there[its[0]] != "JSON"):
            column = ".".join(its)
            near = nearest(column, list(there)) or f"; there are {', '.join(there)}"
            raise self._query.error(f"{alias} has no column {column!r}{near}", node)
        if len(its) > 1:
            self._check_case(name, self.members, node)
            self.members.setdefault(name, Uses(tuple(its), node))
        self.looked_up[alias][name] = tuple(its)
        return name

    def _field(self, path: tuple[str, ...], node: exp.Expr) -> str:
        name = ".".join(path)
        if name in self.levels or name in ATTRIBUTES or path[0] in {*self._tables, *self._applies}:
            name = f"payload.{name}"
        uses = self.fields.get(name)
        if uses is not None and uses.path == path:
            return name
        self._check_case(name, self.fields, node)
        for known in self.fields.values():
            short, long = sorted((known.path, path), key=len)
            if long[: len(short)] == short:
                raise self._query.error(
                    f"{'.'.join(short)!r} is used as a value, and as an object that has {'.'.join(long)!r}", node
                )
        self.fields[name] = Uses(path, node)
        return name

    def _check_case(self, name: str, others: Collection[str], node: exp.Expr) -> None:
        for other in others:
            if other != name and other.lower() == name.lower():
                raise self._query.error(f"{name!r} and {other!r} differ only in case, which a query cannot tell", node)

    def known_type(self, name: str) -> str | None:
        """The type of a column that does not depend on its use."""
        if name in (WINDOW_END, WINDOW_ID):
            return "TIMESTAMP" if name == WINDOW_END else "VARCHAR"
        if name in self.parameters:
            return "VARCHAR"
        if name in self.members:
            return None
        for alias, names in self.looked_up.items():
            if name in names:
                return self._tables[alias][names[name][0]]
        for alias, its in self.applied.items():
            if name in its:
                path = its[name].path
                return self._applies[alias][path[0]] if len(path) == 1 else None
        return ATTRIBUTES.get(name) or self._declared.get(".".join(self.fields[name].path))

    def type_of(self, name: str) -> str:
        """The type of a column. `QueryError`: the query uses a field in types that do not agree."""
        known = self.known_type(name)
        uses = self.uses(name)
        if uses is None or (known is not None and not (known == "VARCHAR" and "TIMESTAMP" in uses.firm)):
            return known or "VARCHAR"
        firm, cast = list(uses.firm), list(uses.cast)
        if len(cast) == 1 and (not firm or firm == cast or (is_number(cast[0]) and all(map(is_number, firm)))):
            return cast[0]
        if len(firm) > 1:
            raise self._query.error(
                f"{name!r} is used as {' and as '.join(firm)}; write a cast for one of the uses: {name}::{firm[-1]}",
                uses.node,
            )
        if firm or cast:
            return firm[0] if firm else "VARCHAR"
        return next(iter(uses.soft), "VARCHAR")

    def payload_fields(self) -> tuple[Field, ...]:
        """The payload's fields used so far."""
        return tuple(Field(name, uses.path, self.type_of(name)) for name, uses in self.fields.items())

    def row_fields(self, alias: str) -> tuple[Field, ...]:
        """The columns of the rows of an APPLY that are used."""
        return tuple(Field(name, uses.path, self.type_of(name)) for name, uses in self.applied[alias].items())

    def types(self) -> dict[str, str]:
        """The columns used so far, quoted, with their types."""
        looked_up = [name for names in self.looked_up.values() for name in names]
        of_rows = [name for its in self.applied.values() for name in its]
        names = [*self.parameters, *self.attributes, *self.fields, *looked_up, *of_rows]
        return {exp.to_identifier(name, quoted=True).sql(): self.type_of(name) for name in names}


def source(query: QueryText, streams: Mapping[str, StreamSpec]) -> tuple[StreamSpec, str | None]:
    """The stream behind FROM, and its alias."""
    from_ = query.select.args.get("from_")
    if from_ is None:
        raise query.error("the query has no FROM; name the stream that it reads", query.select)
    table = from_.this
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier) or table.db:
        raise query.error("FROM takes the name of a stream", table)
    spec = streams.get(table.name)
    if spec is None:
        known = sorted(streams)
        there = nearest(table.name, known) or f"; there are {', '.join(known) or 'none'}"
        raise query.error(f"there is no stream {table.name!r}{there}", table)
    return spec, table.alias or table.name


def _path(node: exp.Expr) -> tuple[str, ...] | None:
    """The names that a column's dots part; None if the expression is no column."""
    if isinstance(node, exp.Column) and not isinstance(node.this, exp.Star):
        return tuple(part.name for part in node.parts)
    if isinstance(node, exp.Dot):
        before = _path(node.this) if not isinstance(node.this, exp.Identifier) else (node.this.name,)
        path = (*before, node.expression.name) if before is not None else ()
        if isinstance(node.expression, exp.Identifier) or _is_system_timestamp(path):
            return path or None
    return None


def is_window_end(node: exp.Expr) -> bool:
    """Whether an expression is `System.Timestamp()`, or without the brackets."""
    path = _path(node)
    return path is not None and _is_system_timestamp(path)


def _is_system_timestamp(path: tuple[str, ...]) -> bool:
    return [name.lower() for name in path] == ["system", "timestamp"]


def is_system_window(node: exp.Expr) -> bool:
    """Whether an expression is `System.Window()`."""
    return (
        isinstance(node, exp.Dot)
        and isinstance(node.expression, exp.Anonymous)
        and [node.this.name.lower(), node.expression.name.lower()] == ["system", "window"]
    )


def _is_window_id(node: exp.Expr) -> bool:
    return isinstance(node, exp.Dot) and is_system_window(node.this) and node.expression.name.lower() == "id"


def _first(node: exp.Expr) -> int:
    return int(min((inner.meta["start"] for inner in node.walk() if "start" in inner.meta), default=0))
