"""The partial values of a plan: what its aggregates need of a window's events, each once."""

from __future__ import annotations

from millstream.engine.aggregate import FLOATS, KEPT, OFFSET, Partial, split
from millstream.engine.fragments import finite, guarded, is_name
from millstream.engine.plan import Aggregate, WindowPlan

_ROWS = "#rows"  # where the rows that are kept will stand
_LARGEST = Partial("", "max({0})")


class Partials:
    """Columns `x0`, `x1`, … are the event-level `arguments`; `p0`, `p1`, … their partial values, which `folds` makes of
    events and `merges` of one another; `finishes` are the plan's aggregates, made of partial values.

    Of a window that counts, `until` is the largest event time and `last` the place in the log of the last event."""

    def __init__(self, plan: WindowPlan) -> None:
        self.arguments: list[str] = []
        self.folds: list[str] = []
        self.merges: list[Partial] = []
        self._kept: dict[str, None] = {}
        finishes = [self._add(a, *split(a)) if a.call is None else self._keep(a, a.call) for a in plan.aggregates]
        rows = self._rows() if self._kept else ""
        self.finishes = [finish.replace(_ROWS, rows) for finish in finishes]
        if plan.counts is not None:
            self.until, self.last = (f"p{self._fold(f'max({it})', _LARGEST)}" for it in ("time", f'"{OFFSET}"'))

    @property
    def kept(self) -> str | None:
        """The partial value that is a window's rows, if there is one."""
        return next((f"p{number}" for number, merge in enumerate(self.merges) if merge is KEPT), None)

    def _keep(self, aggregate: Aggregate, call: str) -> str:
        """What is computed of the rows that a window keeps."""
        for number, argument in enumerate(map(_argument, aggregate.arguments, aggregate.argument_types)):
            column = f"x{_place(self.arguments, argument)}"
            self._kept[column] = None
            json = "::JSON" if aggregate.argument_types[number] == "JSON" else ""
            call = call.replace(f'e."#{number}"', f"(e.{column}{json})")
        return f"(SELECT {call} FROM unnest({_ROWS}) AS kept(e))"  # noqa: S608

    def _rows(self) -> str:
        """The partial value that keeps rows, in their order."""
        row = ", ".join(["t := time", f'o := "{OFFSET}"', *(f"{column} := {column}" for column in self._kept)])
        return f"list_sort(p{self._fold(f'list(struct_pack({row}))', KEPT)})"

    def _add(self, aggregate: Aggregate, partials: tuple[Partial, ...], finish: str) -> str:
        arguments = map(_argument, aggregate.arguments, aggregate.argument_types)
        columns = [f"x{_place(self.arguments, argument)}" for argument in arguments]
        return finish.format(*(f"p{self._fold(p.fold.format(*columns), p)}" for p in partials))

    def _fold(self, fold: str, merge: Partial) -> int:
        for number, (known, its_merge) in enumerate(zip(self.folds, self.merges, strict=True)):
            if (known, its_merge.merge) == (fold, merge.merge):
                return number
        self.folds.append(fold)
        self.merges.append(merge)
        return len(self.folds) - 1


def _place(known: list[str], sql: str) -> int:
    if sql not in known:
        known.append(sql)
    return known.index(sql)


def _argument(sql: str, type_: str) -> str:
    """An aggregate's argument: one infinite value would be all that is left of a sum. JSON goes as its text: Arrow has
    no such type."""
    if type_ == "JSON":
        return f"{guarded(sql)}::VARCHAR"
    return finite(guarded(sql)) if type_ in FLOATS and not is_name(sql) else guarded(sql)
