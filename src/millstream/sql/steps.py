"""The steps of `WITH`: each chooses and changes events, and the last SELECT reads what comes out of them.

A step has no state, so it is put in where it is read: a name of its SELECT list stands for its expression, and its
conditions are added. What is left is one query over a stream.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlglot import exp

from millstream.sql.aggregates import first_aggregate
from millstream.sql.lookbacks import restrict
from millstream.sql.near import nearest
from millstream.sql.nodes import outside
from millstream.sql.scope import is_window_end
from millstream.sql.text import QueryText
from millstream.sql.window import window_name

_CLAUSES = {"expressions", "from_", "where", "joins", "kind", "hint", "exclude", "operation_modifiers"}
_KEPT = "#kept"
"""Stands for the step's condition, where what is before an event is of those that the step keeps."""

_EXAMPLE = "WITH hot AS (SELECT device, celsius FROM telemetry WHERE celsius > 80) SELECT … FROM hot …"


@dataclass(frozen=True, slots=True)
class _Step:
    """What a step comes to: the stream that it reads in the end, its columns, which events it keeps, and what it joins
    them with. If it is `whole`, it has the stream's own columns beside them. `tables` are names of reference data in
    whatever reads it."""

    source: exp.Table
    columns: dict[str, exp.Expr]
    where: exp.Expr | None
    whole: bool = False
    joins: tuple[exp.Join, ...] = ()
    tables: frozenset[str] = frozenset()


def inlined(query: QueryText) -> QueryText:
    """The query without its steps. `QueryError`: a step does more than to choose and change events."""
    steps: dict[str, _Step] = {}
    clause = query.select.args.get("with_")
    if clause is None:
        return query
    for step in clause.expressions:
        if step.alias in steps:
            raise query.error(f"two steps are called {step.alias!r}", step)
        steps[step.alias] = _step(query, step.this, steps)
    select = query.select.copy()
    select.set("with_", None)
    read = _read(select, steps)
    if read is None:
        return replace(query, select=select)
    step, names = read
    _check_times(query, step, select)
    items = [_named(item, _put_in(query, item, step, names)) for item in select.expressions]
    if items and isinstance(items[0], exp.Star):
        star = [exp.alias_(node.copy(), name, quoted=True) for name, node in step.columns.items()]
        items = [*(items[:1] if step.whole else ()), *star, *items[1:]]
    select.set("expressions", items)
    group, having = select.args.get("group"), select.args.get("having")
    if group is not None:
        selected = {item.alias for item in query.select.expressions if isinstance(item, exp.Alias)}
        group.set("expressions", [_group(query, node, step, names, selected) for node in group.expressions])
    if having is not None:
        selected = {item.alias for item in query.select.expressions if isinstance(item, exp.Alias)}
        having.set("this", _put_in(query, having.this, step, names, selected))
    select.set("where", _where(step.where, _conditions(query, select, step, names)))
    select.set("joins", _joins(query, select, step, names))
    select.set("from_", exp.From(this=step.source.copy()))
    return replace(query, select=select)


def _step(query: QueryText, select: exp.Expr, steps: dict[str, _Step]) -> _Step:
    if not isinstance(select, exp.Select):
        raise query.error(f"a step of WITH is one SELECT, as in {_EXAMPLE}", select)
    more = next((clause for clause, value in select.args.items() if value and clause not in _CLAUSES), None)
    aggregate = next(filter(None, map(first_aggregate, select.expressions)), None)
    if more is not None or aggregate is not None:
        raise query.error(
            f"a step of WITH chooses and changes events, as in {_EXAMPLE}; windows stand in the last SELECT, or in a "
            "query of their own",
            aggregate or select,
        )
    from_ = select.args.get("from_")
    if from_ is None or not isinstance(from_.this, exp.Table):
        raise query.error(f"a step of WITH reads a stream or a step before it, as in {_EXAMPLE}", select)
    read = _read(select, steps)
    stream = _Step(from_.this, {}, None, whole=True, tables=_tables(select))
    step, names = read or (stream, {from_.this.name, from_.this.alias})
    has_star = bool(select.expressions) and isinstance(select.expressions[0], exp.Star)
    columns = dict(step.columns) if has_star else {}
    for item in select.expressions[has_star:]:
        name = item.alias_or_name
        if isinstance(item, exp.Star) or not name:
            raise query.error(f"{query.written(item)} needs a name: write … AS name", item)
        if name in columns:
            raise query.error(f"two columns are called {name!r}; give one another name: … AS name", item)
        inner = item.this if isinstance(item, exp.Alias) else item
        columns[name] = _put_in(query, inner, step, names)
    where = _where(step.where, _conditions(query, select, step, names))
    return _Step(step.source, columns, where, has_star and step.whole, tuple(_joins(query, select, step, names)))


def _read(select: exp.Select, steps: dict[str, _Step]) -> tuple[_Step, set[str]] | None:
    """The step that a SELECT reads, and the names that stand for it; None: it reads a stream."""
    from_ = select.args.get("from_")
    table = from_.this if from_ is not None else None
    if not isinstance(table, exp.Table) or table.name not in steps:
        return None
    return replace(steps[table.name], tables=_tables(select)), {table.name, table.alias}


def _tables(select: exp.Select) -> frozenset[str]:
    """The names of what a SELECT joins its events with."""
    return frozenset(join.this.alias_or_name for join in select.args.get("joins") or ())


def _joins(query: QueryText, select: exp.Select, step: _Step, names: set[str]) -> list[exp.Join]:
    """What the step joins its events with, and then what a SELECT over it does."""
    own = [join.copy() for join in select.args.get("joins") or ()]
    for join in own:
        on = join.args.get("on")
        if isinstance(join.this, exp.Lateral):
            join.this.set("this", _put_in(query, join.this.this, step, names))
        if on is not None:
            join.set("on", _put_in(query, on, step, names))
    return [*(join.copy() for join in step.joins), *own]


def _conditions(query: QueryText, select: exp.Select, step: _Step, names: set[str]) -> exp.Expr | None:
    where = select.args.get("where")
    return _put_in(query, where.this, step, names) if where is not None else None


def _where(first: exp.Expr | None, second: exp.Expr | None) -> exp.Expr | None:
    """Both conditions, as a clause or as what stands in one."""
    known = [_condition(node) for node in (first, second) if node is not None]
    return exp.Where(this=exp.and_(*known)) if known else None


def _condition(node: exp.Expr) -> exp.Expr:
    return (node.this if isinstance(node, exp.Where) else node).copy()


def _named(item: exp.Expr, changed: exp.Expr) -> exp.Expr:
    """A selected column keeps its name, whatever it stands for."""
    return exp.alias_(changed, item.name, quoted=True) if isinstance(item, exp.Column) and item.name else changed


def _group(query: QueryText, node: exp.Expr, step: _Step, names: set[str], selected: set[str]) -> exp.Expr:
    return node if window_name(node) else _put_in(query, node, step, names, selected)


def _put_in(
    query: QueryText, node: exp.Expr, step: _Step, names: set[str], selected: set[str] | None = None
) -> exp.Expr:
    """A copy of an expression over a step as one over what the step reads. `selected` names of the SELECT list stay."""

    def replaced(inner: exp.Expr) -> exp.Expr:
        if isinstance(inner, exp.Column) and inner.name == _KEPT and step.where is not None:
            return exp.paren(_condition(step.where))
        if not isinstance(inner, exp.Column) or isinstance(inner.this, exp.Star) or is_window_end(inner):
            return inner
        parts = [part.name for part in inner.parts]
        if len(parts) > 1 and parts[0] in step.tables:
            return inner
        if len(parts) > 1 and parts[0] in names:
            parts = parts[1:]
        known = step.columns.get(parts[0])
        if known is None and step.whole:
            return _path(parts, inner)
        if known is None:
            if selected and parts[0] in selected:
                return inner
            there = nearest(parts[0], list(step.columns)) or f"; it has {', '.join(step.columns)}"
            raise query.error(f"the step has no column {parts[0]!r}{there}", inner)
        if len(parts) == 1:
            return known.copy() if isinstance(known, exp.Column | exp.Dot) else exp.paren(known)
        if not isinstance(known, exp.Column):
            raise query.error(f"{parts[0]!r} is computed, and has no field {parts[1]!r}", inner)
        return _path([*(part.name for part in known.parts), *parts[1:]], inner)

    copy = node.copy()
    if step.where is not None:
        restrict(copy, exp.column(exp.to_identifier(_KEPT, quoted=True)))
    return copy.transform(replaced)


def _path(parts: list[str], node: exp.Expr) -> exp.Expr:
    names = [exp.to_identifier(part, quoted=True) for part in parts]
    made = exp.column(names[0]) if len(names) == 1 else exp.Dot.build(names)
    start = min((inner.meta["start"] for inner in node.walk() if "start" in inner.meta), default=None)
    if start is not None:
        made.meta.update(start=start)
    return made


def _check_times(query: QueryText, step: _Step, select: exp.Select) -> None:
    """The event's time, which a step has, is another one than the window's end."""
    if select.args.get("group") is None:
        return
    for node in (*step.columns.values(), *filter(None, [step.where])):
        for inner in outside(node):
            if is_window_end(inner):
                raise query.error(
                    "System.Timestamp() in a step is the event's time, which windows behind it have not; select the "
                    "field that it is, or _time",
                    inner,
                )
