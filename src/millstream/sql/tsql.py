"""The functions of T-SQL that Azure Stream Analytics has and DuckDB has not, in DuckDB's words."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from millstream.errors import QueryError
from millstream.sql.near import nearest

_PARTS = {
    **dict.fromkeys(("year", "yy", "yyyy"), "year"),
    **dict.fromkeys(("quarter", "qq", "q"), "quarter"),
    **dict.fromkeys(("month", "mm", "m"), "month"),
    **dict.fromkeys(("dayofyear", "dy", "y"), "dayofyear"),
    **dict.fromkeys(("day", "dd", "d"), "day"),
    **dict.fromkeys(("week", "wk", "ww"), "week"),
    **dict.fromkeys(("weekday", "dw"), "weekday"),
    **dict.fromkeys(("hour", "hh"), "hour"),
    **dict.fromkeys(("minute", "mi", "n"), "minute"),
    **dict.fromkeys(("second", "ss", "s"), "second"),
    **dict.fromkeys(("millisecond", "ms"), "millisecond"),
    **dict.fromkeys(("microsecond", "mcs"), "microsecond"),
}
"""The parts of a date, and what DuckDB calls them."""

Refuse = Callable[[str, exp.Expr], QueryError]
"""Makes the error with a message that points at a part of the query."""


def translated(node: exp.Expr, refuse: Refuse) -> exp.Expr:
    """A query, or a part of one, with the functions that DuckDB has. `QueryError`: one is called in another way."""

    def translate(inner: exp.Expr) -> exp.Expr:
        if isinstance(inner, exp.DateDiff) and inner.args.get("unit") is not None:
            return _date_diff(inner, refuse)
        if isinstance(inner, exp.Cast) and any(size.name.lower() == "max" for size in inner.to.expressions):
            inner.set("to", exp.DataType.build("VARCHAR"))  # nvarchar(max)
        if isinstance(inner, exp.Window) and isinstance(inner.this, exp.PercentileCont | exp.PercentileDisc):
            return _percentile(inner, refuse)
        if not isinstance(inner, exp.Anonymous) or inner.name.lower() not in _FUNCTIONS:
            return inner
        count, make = _FUNCTIONS[inner.name.lower()]
        if len(inner.expressions) != count:
            raise refuse(f"{inner.name} takes {count} argument{'s' if count > 1 else ''}", inner)
        return make(inner, refuse)

    return node.transform(translate, copy=False)


def _percentile(node: exp.Window, refuse: Refuse) -> exp.Expr:
    """`PERCENTILE_CONT(0.5) OVER (ORDER BY x)`."""
    order = node.args.get("order")
    by = list(order.expressions) if order is not None else []
    name = "quantile_cont" if isinstance(node.this, exp.PercentileCont) else "quantile_disc"
    if len(by) != 1 or by[0].args.get("desc") or node.args.get("partition_by"):
        raise refuse("a percentile is written PERCENTILE_CONT(0.9) OVER (ORDER BY x), in ascending order", node)
    return exp.Anonymous(this=name, expressions=[by[0].this.copy(), node.this.this.copy()])


def _date_diff(node: exp.DateDiff, refuse: Refuse) -> exp.Expr:
    part = exp.Literal.string(_part(node.args["unit"], node, refuse))
    return exp.Anonymous(this="date_diff", expressions=[part, _time(node.expression), _time(node.this)])


def _date_add(node: exp.Anonymous, refuse: Refuse) -> exp.Expr:
    unit, count, time = node.expressions
    one = exp.Interval(this=exp.Literal.string("1"), unit=exp.var(_part(unit, node, refuse).upper()))
    return exp.paren(
        exp.Add(this=_time(time), expression=exp.Mul(this=exp.cast(count.copy(), "BIGINT"), expression=one))
    )


def _date_part(node: exp.Anonymous, refuse: Refuse) -> exp.Expr:
    unit, time = node.expressions
    part = exp.Literal.string(_part(unit, node, refuse))
    return exp.Anonymous(this="date_part", expressions=[part, _time(time)])


def _date_name(node: exp.Anonymous, refuse: Refuse) -> exp.Expr:
    part = _part(node.expressions[0], node, refuse)
    names = {"weekday": "dayname", "month": "monthname"}
    if part in names:
        return exp.Anonymous(this=names[part], expressions=[_time(node.expressions[1])])
    return exp.cast(_date_part(node, refuse), "VARCHAR")


def _is_null(node: exp.Anonymous, refuse: Refuse) -> exp.Expr:
    first, second = node.expressions
    return exp.Coalesce(this=first.copy(), expressions=[second.copy()])


def _array_length(node: exp.Anonymous, refuse: Refuse) -> exp.Expr:
    return exp.Anonymous(this="json_array_length", expressions=[_json(node.expressions[0])])


def _element(node: exp.Anonymous, refuse: Refuse) -> exp.Expr:
    of, place = node.expressions
    is_name = node.name.lower() == "getrecordpropertyvalue"
    if not isinstance(place, exp.Literal) or place.is_string != is_name:
        what = "the name of a property, a text" if is_name else "the place of an element, a number from 0"
        raise refuse(f"{node.name} takes {what}", node)
    path = f'$."{place.name}"' if is_name else f"$[{place.name}]"
    return exp.Anonymous(this="json_extract", expressions=[_json(of), exp.Literal.string(path)])


_FUNCTIONS: dict[str, tuple[int, Callable[[exp.Anonymous, Refuse], exp.Expr]]] = {
    "dateadd": (3, _date_add),
    "datepart": (2, _date_part),
    "datename": (2, _date_name),
    "isnull": (2, _is_null),
    "getarraylength": (1, _array_length),
    "getarrayelement": (2, _element),
    "getrecordpropertyvalue": (2, _element),
}


def _part(node: exp.Expr, call: exp.Expr, refuse: Refuse) -> str:
    part = _PARTS.get(node.name.lower())
    if part is None:
        near = nearest(node.name.lower(), list(_PARTS)) or "; there are year, month, day, hour, minute, second and more"
        raise refuse(f"{node.name!r} is no part of a date{near}", node if "start" in node.meta else call)
    return part


def _time(node: exp.Expr) -> exp.Expr:
    return exp.cast(node.copy(), "TIMESTAMP")


def _json(node: exp.Expr) -> exp.Expr:
    return exp.cast(node.copy(), "JSON", dialect="duckdb")
