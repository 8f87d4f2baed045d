"""What a query may not say, and the words in which it is told."""

from __future__ import annotations

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB

from millstream.sql.aggregates import is_top
from millstream.sql.functions import function_name, functions
from millstream.sql.scope import is_system_window
from millstream.sql.text import QueryText
from millstream.sql.window import window_name

_CLAUSES: dict[str, str] = {
    "distinct": "SELECT DISTINCT is not supported; GROUP BY already gives one result for each group and window",
    "laterals": "LATERAL is not supported; a query reads one stream",
    "into": "INTO is not part of the query; name the target with app.query(…, into=…)",
    "order": "ORDER BY is not supported; results come in the order of the windows' ends",
    "limit": "LIMIT is not supported; a stream has no end, so use HAVING to choose results",
    "offset": "OFFSET is not supported; a stream has no end, so use HAVING to choose results",
    "qualify": "QUALIFY is not supported; use HAVING",
    "windows": "WINDOW is not supported; windows of time stand in GROUP BY: TumblingWindow(second, 10)",
    "sample": "USING SAMPLE is not supported; use WHERE to choose events",
}

_PARTS: dict[type[exp.Expr], str] = {
    exp.Select: "a subquery is not supported yet",
    exp.Subquery: "a subquery is not supported yet",
    exp.Exists: "a subquery is not supported yet",
    exp.Window: "OVER is not supported; windows of time stand in GROUP BY: TumblingWindow(second, 10)",
    exp.Explode: "UNNEST is not supported yet",
    exp.Unnest: "UNNEST is not supported yet",
    exp.Lambda: "a lambda is not supported yet",
    exp.Columns: "COLUMNS(…) is not supported; name the columns",
    exp.Placeholder: "a query has no parameters; write the value itself",
    exp.Parameter: "a query has no parameters; write the value itself",
}

_INSTEAD = {
    "regexmatch": "write len(regexp_extract_all(x, pattern))",
    "square": "write x * x",
    "patindex": "write CHARINDEX(text, x), or regexp_matches(x, pattern)",
    "datetimefromparts": "write make_timestamp(year, month, day, hour, minute, seconds)",
    "gettype": "write json_type(x)",
    "getmetadatapropertyvalue": "what is known of an event are _id, _topic, _key, _type and _time",
    "hashbytes": "write md5(x), or sha256(x)",
    "createpoint": "there is none for places on the map; compare coordinates, or let a handler do it",
    "createlinestring": "there is none for places on the map; compare coordinates, or let a handler do it",
    "createpolygon": "there is none for places on the map; compare coordinates, or let a handler do it",
    "st_": "there is none for places on the map; compare coordinates, or let a handler do it",
    "anomalydetection_": "compare with what is usual: avg and stddev over a HoppingWindow, in a step of WITH",
}
"""What Stream Analytics has, by how its name begins, and what to write here."""


def check_clauses(query: QueryText) -> None:
    """Raise `QueryError` for a clause that there is not, or not yet."""
    for clause, message in _CLAUSES.items():
        found = query.select.args.get(clause)
        if found:
            node = found[0] if isinstance(found, list) else found
            raise query.error(message, node if isinstance(node, exp.Expr) else None)
    group = query.select.args.get("group")
    for kind in ("all", "rollup", "cube", "grouping_sets", "totals"):
        if group is not None and group.args.get(kind):
            raise query.error(f"GROUP BY {kind.replace('_', ' ').upper()} is not supported; name the columns", group)


def check_parts(query: QueryText, node: exp.Expr) -> None:
    """Raise `QueryError` for a construct that there is not inside of an expression."""
    for inner in node.walk():
        name = function_name(inner.this if isinstance(inner, exp.Window) else inner)
        instead = next((told for start, told in _INSTEAD.items() if name.startswith(start)), None)
        if instead is not None:
            raise query.error(f"there is no function {name}; {instead}", inner)
        message = _PARTS.get(type(inner))
        if message is not None and not (isinstance(inner, exp.Window) and (window_name(inner) or is_top(inner))):
            raise query.error(message, inner)
        if isinstance(inner, exp.Dot) and isinstance(inner.expression, exp.Func):
            called = inner.expression.name
            if called.lower() != "timestamp" and not is_system_window(inner):  # System.Timestamp()
                raise query.error(
                    "a query has no functions of its own; write it in SQL, or let a handler publish what it computes, "
                    "and the query read that"
                    if inner.this.name.lower() in ("udf", "uda")
                    else f"a function is not called with a dot; write {called}(…)",
                    inner,
                )
        if isinstance(inner, exp.Star) and not isinstance(inner.parent, exp.Count):
            raise query.error("* is not supported; name the columns", inner)


def check_functions(query: QueryText, node: exp.Expr) -> None:
    """Raise `QueryError` for a function whose result is not settled by its arguments."""
    for inner in node.find_all(exp.Func):
        name = function_name(inner) or inner.sql(dialect=DuckDB).lower()
        if name in functions().unsettled or name.startswith(("current_", "local")):
            raise query.error(
                f"{name} does not depend on the events, and would give another result when they are processed again; "
                "the time of an event is _time, the end of its window System.Timestamp()",
                inner,
            )
