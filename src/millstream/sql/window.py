"""The windows of GROUP BY, in the words of Azure Stream Analytics.

Each may be given with a unit and numbers, `HoppingWindow(minute, 10, 5)`, or with each number in a word of its own,
`HoppingWindow(Duration(hour, 1), Hop(minute, 5), Offset(millisecond, -1))`. Stream Analytics has no windows of so many
events; `CountWindow(100, 10)` is in its manner, with the numbers of Flink's `countWindow`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlglot import exp

from millstream.clock import SECOND, Micros
from millstream.engine.window import Count, Kind, Session, Sliding, Window
from millstream.sql.near import nearest
from millstream.sql.scope import is_window_end
from millstream.sql.text import QueryText

UNITS: dict[str, Micros] = {
    **dict.fromkeys(("microsecond", "microseconds", "mcs"), 1),
    **dict.fromkeys(("millisecond", "milliseconds", "ms"), SECOND // 1000),
    **dict.fromkeys(("second", "seconds", "ss", "s"), SECOND),
    **dict.fromkeys(("minute", "minutes", "mi", "n"), 60 * SECOND),
    **dict.fromkeys(("hour", "hours", "hh"), 3600 * SECOND),
    **dict.fromkeys(("day", "days", "dd", "d"), 86_400 * SECOND),
}
"""The units of a window, and their length."""

_LONGEST: Micros = 366 * UNITS["day"]
_MOST_AT_ONCE = 10_000  # windows that an event may be in: each costs a row when it closes
_SNAPSHOT = Window(1, 1)  # all events of the same instant, which is the window's end


@dataclass(frozen=True, slots=True)
class _Kind:
    """A window function: the words for its numbers, of which the first `required` must be there."""

    words: tuple[str, ...]
    required: int
    example: str


_TUMBLING = _Kind(("Duration", "Offset"), 1, "TumblingWindow(second, 10)")
_HOPPING = _Kind(("Duration", "Hop", "Offset"), 2, "HoppingWindow(second, 10, 5)")
_SLIDING = _Kind(("Duration",), 1, "SlidingWindow(second, 10)")
_SESSION = _Kind(("Timeout", "MaxDuration"), 1, "SessionWindow(minute, 5, 60)")
_KINDS = {"tumbling": _TUMBLING, "hopping": _HOPPING, "sliding": _SLIDING, "session": _SESSION}
_COUNT = "CountWindow(100), or CountWindow(100, 10)"
_KEEP = _Kind(("Keep",), 1, "CountWindow(100, Keep(day, 7))")
_FUNCTIONS = ("TumblingWindow", "HoppingWindow", "SlidingWindow", "SessionWindow", "CountWindow", "Windows")
_MEANING = {
    "Duration": "size",
    "Hop": "hop",
    "Offset": "offset",
    "Timeout": "timeout",
    "MaxDuration": "maximum duration",
    "Keep": "time to live",
}
_SEVERAL = "Windows(Window('a', TumblingWindow(second, 10)), Window('b', HoppingWindow(minute, 10, 5)))"


def window_name(node: exp.Expr) -> str | None:
    """The name of a window function, None if the expression is none."""
    if is_window_end(node):
        return "System.Timestamp()"
    node = node.this if isinstance(node, exp.Window) else node
    if not isinstance(node, exp.Anonymous):
        return None
    kind = _kind_of(node)
    return str(node.this) if kind in (*_KINDS, "count", "windows") else None


def misspelt(node: exp.Expr) -> str | None:
    """The window function that the name of a call comes near to, if it is none."""
    if not isinstance(node, exp.Anonymous) or window_name(node):
        return None
    names = {name.lower(): name for name in _FUNCTIONS}
    near = nearest(str(node.this).lower(), list(names))
    return next((name for lower, name in names.items() if f"'{lower}'" in near), None)


def partitioned(node: exp.Expr) -> tuple[exp.Expr, list[exp.Expr]]:
    """A window function, and what its `OVER (PARTITION BY …)` names."""
    if isinstance(node, exp.Window):
        return node.this, list(node.args.get("partition_by") or ())
    return node, []


def windows_of(query: QueryText, node: exp.Expr) -> tuple[Kind, ...]:
    """The windows that a window function of GROUP BY stands for. `QueryError`: it is not said as it has to be."""
    if is_window_end(node):
        return (_SNAPSHOT,)
    if _kind_of(node) != "windows":
        return (_kind(query, node),)
    given = list(node.expressions)
    named = [inner for inner in given if isinstance(inner, exp.Anonymous) and str(inner.this).lower() == "window"]
    if not given or (named and len(named) < len(given)):
        raise query.error(f"Windows(…) takes windows, with an id each or all without one, as in {_SEVERAL}", node)
    windows = [_identified(query, inner) for inner in named] or [_window(query, inner) for inner in given]
    for number, (window, inner) in enumerate(zip(windows, given, strict=True)):
        for other in windows[:number]:
            if window.id is not None and other.id is not None and window.id.lower() == other.id.lower():
                raise query.error(f"two windows have the id {window.id!r}; give one another", inner)
            if window == other:
                raise query.error("the same window twice", inner)
    return tuple(windows)


def _identified(query: QueryText, node: exp.Expr) -> Window | Sliding | Session:
    """`Window('id', TumblingWindow(…))`."""
    arguments = list(node.expressions)
    if len(arguments) != 2 or not isinstance(arguments[0], exp.Literal) or not arguments[0].is_string:
        raise query.error(f"Window takes an id, a text, and a window, as in {_SEVERAL}", node)
    return replace(_window(query, arguments[1]), id=arguments[0].name)


def _kind(query: QueryText, node: exp.Expr) -> Kind:
    return _count(query, node) if _kind_of(node) == "count" else _window(query, node)


def _count(query: QueryText, node: exp.Expr) -> Count:
    """`CountWindow(size)`, with a hop if it shall overlap, and at last how long silent groups are kept."""
    given = list(node.expressions)
    keep = given.pop() if given and isinstance(given[-1], exp.Anonymous) and given[-1].name.lower() == "keep" else None
    numbers = [int(one.name) for one in given if isinstance(one, exp.Literal) and one.name.isdigit()]
    if len(numbers) != len(given) or not 0 < len(numbers) < 3 or min(numbers) < 1:
        raise query.error(f"CountWindow takes how many events it has, from 1, as in {_COUNT}", node)
    size, hop = numbers[0], numbers[-1]
    _check_overlap(query, node, size, hop, "CountWindow")
    if keep is None:
        return Count(size, hop)
    if len(keep.expressions) != 2:
        raise query.error(f"Keep takes a unit and a number, as in {_KEEP.example}", keep)
    unit, number = keep.expressions
    kept = _span(query, unit, number, "Keep", "CountWindow", _KEEP)
    if kept < UNITS["day"] or kept > _LONGEST:
        raise query.error(f"silent groups are kept for 1 to 366 days, as in {_KEEP.example}", keep)
    return Count(size, hop, keep=kept)


def _check_length(query: QueryText, node: exp.Expr, numbers: dict[str, Micros]) -> None:
    if any(span > _LONGEST for word, span in numbers.items() if word != "Offset"):
        raise query.error("a window of more than 366 days is not supported", node.expressions[-1])


def _window(query: QueryText, node: exp.Expr) -> Window | Sliding | Session:
    name = window_name(node)
    kind = _KINDS.get(_kind_of(node))
    if kind is None:
        message = f"{name} stands alone in GROUP BY" if name else f"{query.written(node)} is no window"
        taken = "TumblingWindow, HoppingWindow, SlidingWindow and SessionWindow"
        raise query.error(f"{message}; Windows(…) takes {taken}, as in {_SEVERAL}", node)
    numbers = _numbers(query, node, kind, str(name))
    _check_length(query, node, numbers)
    if kind is _SLIDING:
        return Sliding(numbers["Duration"])
    if kind is _SESSION:
        return Session(numbers["Timeout"], numbers.get("MaxDuration"))
    size, hop = numbers["Duration"], numbers.get("Hop", numbers["Duration"])
    _check_overlap(query, node, size, hop, str(name))
    return Window(size, hop, numbers.get("Offset", 0) % hop)


def _check_overlap(query: QueryText, node: exp.Expr, size: int, hop: int, name: str) -> None:
    if hop > size:
        raise query.error(
            f"the hop of {name} is longer than its size, so that events between two windows would be in none; "
            "choose them with WHERE",
            node,
        )
    if size // hop > _MOST_AT_ONCE:
        raise query.error(f"every event would be in {size // hop} windows; at most {_MOST_AT_ONCE} are possible", node)


def _numbers(query: QueryText, node: exp.Expr, kind: _Kind, name: str) -> dict[str, Micros]:
    """The time spans of a window function, by their word."""
    arguments = list(node.expressions)
    words = {word.lower(): word for word in kind.words}
    spelt = [str(inner.this).lower() if isinstance(inner, exp.Anonymous) else "" for inner in arguments]
    if arguments and any(word in words for word in spelt):
        given = [words[word] for word in spelt if word in words]
        if given != list(kind.words[: len(given)]) and given != [kind.words[0], kind.words[-1]]:
            given = []
        if len(given) != len(arguments) or len(given) < kind.required or kind.words[kind.required - 1] not in given:
            raise query.error(f"{name} takes {_listed(kind, '{}(unit, n)')}", node)
        pairs = [(word, list(inner.expressions)) for word, inner in zip(given, arguments, strict=True)]
        for word, inner in pairs:
            if len(inner) != 2:
                raise query.error(f"{word} takes a unit and a number, as in {word}(second, 10)", node)
        return {word: _span(query, inner[0], inner[1], word, name, kind) for word, inner in pairs}
    if not kind.required < len(arguments) <= len(kind.words) + 1:
        what = "a number" if kind.required == 1 else f"{kind.required} numbers"
        raise query.error(f"{name} takes a unit and {what}, as in {kind.example}", node)
    unit, *counts = arguments
    return {word: _span(query, unit, count, word, name, kind) for word, count in zip(kind.words, counts, strict=False)}


def _span(query: QueryText, unit: exp.Expr, count: exp.Expr, word: str, name: str, kind: _Kind) -> Micros:
    micros = UNITS.get(unit.name.lower())
    if micros is None:
        near = nearest(unit.name.lower(), list(UNITS)) or "; there are millisecond, second, minute, hour and day"
        raise query.error(f"{unit.name!r} is no unit of time{near}", unit)
    negative = word == "Offset" and isinstance(count, exp.Neg)
    number = count.this if negative else count
    if isinstance(number, exp.Literal) and not number.is_string and number.name.isdigit():
        value = int(number.name) * micros * (-1 if negative else 1)
        if value > 0 or word == "Offset":
            return value
    least = "" if word == "Offset" else " from 1"
    raise query.error(f"the {_MEANING[word]} of {name} is a whole number{least}, as in {kind.example}", count)


def _listed(kind: _Kind, form: str) -> str:
    return ", ".join(
        form.format(word) + (" if you like" if n >= kind.required else "") for n, word in enumerate(kind.words)
    )


def _kind_of(node: exp.Expr) -> str:
    """The name of a window function, lower case, without the `Window` at its end."""
    name = str(node.this).lower() if isinstance(node, exp.Anonymous) else ""
    return name if name == "windows" else name.removesuffix("window")
