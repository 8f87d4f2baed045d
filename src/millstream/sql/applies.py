"""`CROSS APPLY GetArrayElements(x) AS r` and `GetRecordProperties`: rows of what is inside of an event."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlglot import exp

from millstream.sql.near import nearest
from millstream.sql.text import QueryText

COLUMNS = {
    "GetArrayElements": {"ArrayIndex": "BIGINT", "ArrayValue": None},
    "GetRecordProperties": {"PropertyName": "VARCHAR", "PropertyValue": None},
}
"""The functions, and the columns of their rows with their types; None: as they are used."""

_EXAMPLE = "CROSS APPLY GetArrayElements(readings) AS r"


@dataclass(frozen=True, slots=True)
class Applied:
    """What stands behind APPLY. It is `optional`, as `OUTER APPLY`, if events without elements stay."""

    alias: str
    function: str
    argument: exp.Expr
    optional: bool


def applied(query: QueryText) -> tuple[QueryText, list[Applied]]:
    """The query without APPLY, and what there was. `QueryError`: one is said in another way."""
    joins = list(query.select.args.get("joins") or ())
    laterals = [join.this for join in joins if isinstance(join.this, exp.Lateral)]
    if not laterals:
        return query, []
    found: list[Applied] = []
    for lateral in laterals:
        one = _applied(query, lateral)
        if any(one.alias == other.alias for other in found):
            raise query.error(f"two APPLY are called {one.alias!r}; give one another name: … AS name", lateral)
        found.append(one)
    select = query.select.copy()
    select.set("joins", [join.copy() for join in joins if not isinstance(join.this, exp.Lateral)])
    return replace(query, select=select), found


def _applied(query: QueryText, lateral: exp.Lateral) -> Applied:
    call, kind = lateral.this, lateral.args.get("cross_apply")
    if kind is None:
        raise query.error(f"LATERAL is not supported; rows of what is inside of an event are {_EXAMPLE}", lateral)
    names = {name.lower(): name for name in COLUMNS}
    called = str(call.this) if isinstance(call, exp.Anonymous) else query.written(call)
    function = names.get(called.lower())
    if function is None:
        near = nearest(called, list(COLUMNS)) or f"; there are {' and '.join(COLUMNS)}"
        raise query.error(f"APPLY has no function {called}{near}", call)
    if len(call.expressions) != 1:
        raise query.error(f"{function} takes one argument, the array or record, as in {_EXAMPLE}", call)
    if not lateral.alias:
        raise query.error(f"what is applied needs a name, as in {_EXAMPLE}", call)
    return Applied(lateral.alias, function, call.expressions[0], optional=not kind)
