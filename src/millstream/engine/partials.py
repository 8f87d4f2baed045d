"""The partial values of a plan: what its aggregates need of a window's events, each once."""

from __future__ import annotations

from millstream.engine.aggregate import FLOATS, Partial, split
from millstream.engine.fragments import finite, guarded, is_name
from millstream.engine.plan import Aggregate, WindowPlan


class Partials:
    """Columns `x0`, `x1`, … are the event-level `arguments`; `p0`, `p1`, … their partial values, which `folds` makes of
    events and `merges` of one another; `finishes` are the plan's aggregates, made of partial values."""

    def __init__(self, plan: WindowPlan) -> None:
        self.arguments: list[str] = []
        self.folds: list[str] = []
        self.merges: list[str] = []
        self.finishes = [self._add(a, *split(a)) for a in plan.aggregates]

    def _add(self, aggregate: Aggregate, partials: tuple[Partial, ...], finish: str) -> str:
        arguments = map(_argument, aggregate.arguments, aggregate.argument_types)
        columns = [f"x{_place(self.arguments, argument)}" for argument in arguments]
        return finish.format(*(f"p{self._fold(p.fold.format(*columns), p.merge)}" for p in partials))

    def _fold(self, fold: str, merge: str) -> int:
        for number, known in enumerate(zip(self.folds, self.merges, strict=True)):
            if known == (fold, merge):
                return number
        self.folds.append(fold)
        self.merges.append(merge)
        return len(self.folds) - 1


def _place(known: list[str], sql: str) -> int:
    if sql not in known:
        known.append(sql)
    return known.index(sql)


def _argument(sql: str, type_: str) -> str:
    """An aggregate's argument: one infinite value would be all that is left of a sum."""
    return finite(guarded(sql)) if type_ in FLOATS and not is_name(sql) else guarded(sql)
