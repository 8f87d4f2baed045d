"""That both events of a pair have the same key: ON has to say so, for joins go key by key.

Events of one stream may say it with whatever determines their key. Of two streams the keys themselves are compared, and
both streams have as many partitions: then equal keys are in partitions of equal number, which one worker has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from millstream.engine.fragments import quoted
from millstream.engine.plan import WindowPlan
from millstream.errors import QueryError
from millstream.log.contract import StreamSpec
from millstream.sql.pairs import PairScope
from millstream.sql.results import Results
from millstream.sql.text import QueryText

_KEY = quoted("_key")


@dataclass(frozen=True, slots=True)
class SideKey:
    """A side of a join: what it is called, its stream, and what is known of that if it has results of queries."""

    alias: str
    spec: StreamSpec
    results: Results | None

    @property
    def columns(self) -> list[str]:
        """What stands for the stream's key by itself."""
        names = [self.spec.key, self.results.whole_key if self.results is not None else None]
        return [*(quoted(name) for name in names if name is not None), _KEY]

    @property
    def written(self) -> str:
        """The key as a query has it."""
        return f"{self.alias}.{self.columns[0][1:-1]}"


Sides = tuple[SideKey, SideKey]


def check_partitions(query: QueryText, join: exp.Join, sides: Sides) -> None:
    """The same key has to be in the same partition of both streams. `QueryError`."""
    one, other = (side.spec for side in sides)
    if one.partitions != other.partitions:
        raise query.error(
            f"streams are joined partition by partition, and {one.name!r} has {one.partitions} and {other.name!r} has "
            f"{other.partitions}; declare both alike: app.stream({other.name!r}, …, partitions={one.partitions})",
            join.this,
        )


def without_key(
    query: QueryText,
    join: exp.Join,
    sides: Sides,
    on: Sequence[exp.Expr],
    scope: PairScope,
    plans: tuple[WindowPlan, WindowPlan],
) -> list[exp.Expr]:
    """The conditions beside that both events have the same key. `QueryError`: none says that."""
    meaning = {column.name: column.sql for plan in plans for column in plan.columns}
    compared = {one: _compared(one, scope, meaning) for one in on}
    one, other = sides
    if one.spec != other.spec:
        same = [each for each, (its, others) in compared.items() if its in one.columns and others in other.columns]
        if not same:
            raise _no_key(query, join, sides)
        return [each for each in on if each not in same]
    equal = {each: its for each, (its, others) in compared.items() if its is not None and its == others}
    keyed, is_topic = {*map(quoted, plans[0].keyed)}, one.spec.key is None and quoted("_topic") in equal.values()
    if _KEY not in equal.values() and not is_topic and not (keyed and keyed.issubset(equal.values())):
        raise _no_key(query, join, sides)
    own = {_KEY, quoted(one.spec.key or "_key")}
    return [each for each in on if equal.get(each) not in own]


def _no_key(query: QueryText, join: exp.Join, sides: Sides) -> QueryError:
    """What to write for both events to have the same key."""
    one, other = sides
    add = f"add AND {one.written} = {other.written}"
    if one.spec == other.spec:
        message = f"events are joined key by key, and the key of stream {one.spec.name!r} is {_in_words(one)}: {add}"
        return query.error(message, join.args["on"])
    which = f"the key of {one.spec.name!r} is {_in_words(one)}, the key of {other.spec.name!r} {_in_words(other)}"
    unnamed = next((side.spec.name for side in sides if side.columns[0] == _KEY), None)
    if unnamed is not None:
        add = (
            f"declare app.stream({unnamed!r}, …, key=…) with what you compare; or, if events carry the same keys, "
            f"add AND {one.alias}._key = {other.alias}._key"
        )
    return query.error(f"streams are joined key by key, and {which}: {add}", join.args["on"])


def _in_words(side: SideKey) -> str:
    return f"{{{side.spec.key}}}" if side.spec.key else "that of each event, or its topic"


def _compared(node: exp.Expr, scope: PairScope, meaning: Mapping[str, str]) -> tuple[str | None, str | None]:
    """What of the left and of the right event a condition says to be equal, if it does."""
    both = (node.this, node.expression) if isinstance(node, exp.EQ) else ()
    names = [column.name for column in both if isinstance(column, exp.Column)]
    if len(names) < 2 or scope.sides_in(node) != {0, 1}:
        return None, None
    left, right = sorted(names, key=scope.side_of)
    return meaning[left], meaning[right]


def keyed(left: WindowPlan, right: WindowPlan, selected: set[str], optional: bool) -> tuple[str, ...]:
    """The columns that say which key a pair has, if they are selected."""
    sides = (left,) if optional else (right, left)
    if left.stream == right.stream:
        return _keyed_by(sides, selected)
    return next(filter(None, (_keyed_by((side,), selected) for side in reversed(sides))), ())


def _keyed_by(sides: Sequence[WindowPlan], selected: set[str]) -> tuple[str, ...]:
    """Of the selected columns of sides of one stream those that say which key they have."""
    of_pairs: dict[str, str] = {}
    for plan in sides:
        of_pairs |= {column.sql: column.name for column in plan.columns if quoted(column.name) in selected}
    names = [of_pairs.get(quoted(name)) for name in sides[-1].keyed]
    return tuple(name for name in names if name is not None) if None not in names else ()
