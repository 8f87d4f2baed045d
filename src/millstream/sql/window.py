"""The window functions of GROUP BY, as in Azure Stream Analytics."""

from __future__ import annotations

from sqlglot import exp

from millstream.clock import SECOND, Micros
from millstream.sql.text import QueryText

_MILLISECOND = SECOND // 1000

UNITS: dict[str, Micros] = {
    **dict.fromkeys(("millisecond", "milliseconds", "ms"), _MILLISECOND),
    **dict.fromkeys(("second", "seconds", "ss"), SECOND),
    **dict.fromkeys(("minute", "minutes", "mi"), 60 * SECOND),
    **dict.fromkeys(("hour", "hours", "hh"), 3600 * SECOND),
    **dict.fromkeys(("day", "days", "dd"), 86_400 * SECOND),
}
"""The units of a window, and their length."""

_LONGEST: Micros = 366 * UNITS["day"]
_LATER = {"hoppingwindow", "slidingwindow", "sessionwindow", "snapshotwindow"}
_EXAMPLE = "TumblingWindow(second, 10)"


def window_name(node: exp.Expr) -> str | None:
    """The name of a window function, None if the expression is none."""
    if not isinstance(node, exp.Anonymous):
        return None
    name = str(node.this)
    return name if name.lower() == "tumblingwindow" or name.lower() in _LATER else None


def tumbling_size(query: QueryText, node: exp.Expr) -> Micros:
    """The size of `TumblingWindow(unit, n)` or `TumblingWindow(Duration(unit, n))`."""
    name = window_name(node) or ""
    if name.lower() in _LATER:
        raise query.error(f"{name} is not supported yet; there is {_EXAMPLE}", node)
    arguments = list(node.expressions)
    if len(arguments) == 1 and isinstance(arguments[0], exp.Anonymous) and str(arguments[0].this).lower() == "duration":
        arguments = list(arguments[0].expressions)
    if len(arguments) != 2:
        raise query.error(f"{name} takes a unit and a number, as in {_EXAMPLE}", node)
    unit, count = arguments
    micros = UNITS.get(unit.name.lower())
    if micros is None:
        raise query.error(
            f"{unit.name!r} is no unit of time; there are millisecond, second, minute, hour and day", unit
        )
    if not isinstance(count, exp.Literal) or count.is_string or not count.name.isdigit() or int(count.name) < 1:
        raise query.error(f"the size of {name} is a whole number from 1, as in {_EXAMPLE}", count)
    size = int(count.name) * micros
    if size > _LONGEST:
        raise query.error("a window of more than 366 days is not supported", count)
    return size
