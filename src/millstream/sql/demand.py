"""The types of payload fields, from how a query uses them.

JSON fields have no declared types. A cast gives its own; arithmetic, `sum` and `avg` need numbers (DOUBLE); what is
compared gets the type of what it is compared with; a function's argument gets a type that the function takes; `min` and
`max` are taken of numbers unless another use says otherwise; the rest is text. A value that does not fit is NULL.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ParseError

from millstream.sql.aggregates import is_aggregate
from millstream.sql.functions import Binder, function_name, functions
from millstream.sql.nodes import LookbackNode
from millstream.sql.scope import Scope, is_number
from millstream.sql.text import QueryText

_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Pow)
_ORDERING = (exp.GT, exp.GTE, exp.LT, exp.LTE)
_COMPARISON = (*_ORDERING, exp.EQ, exp.NEQ, exp.NullSafeEQ, exp.NullSafeNEQ)
_TEXT = (exp.Like, exp.ILike, exp.SimilarTo, exp.RegexpLike, exp.DPipe)
_ALIKE = (exp.Coalesce, exp.Greatest, exp.Least, exp.Nullif)
_HANDS_ON = ("first", "last", "any_value", "mode", "array_agg", "list", "collect")
_TIMES = ("TIMESTAMP", "DATE", "TIME", "INTERVAL")


class Demand:
    """Notes in a scope which types the parts of a query need."""

    def __init__(self, query: QueryText, scope: Scope, binder: Binder) -> None:
        self._query = query
        self._scope = scope
        self._binder = binder

    def visit(self, node: exp.Expr, wanted: str | None = None, *, firm: bool = True) -> None:
        """Note what an expression needs, of which the expression around it wants a type (None: any)."""
        match node:
            case exp.Column():
                self._use(node, wanted, firm)
            case exp.Cast():  # TRY_CAST is one too
                self._cast(node)
            case exp.Paren() | exp.Neg():
                self.visit(node.this, wanted or ("DOUBLE" if isinstance(node, exp.Neg) else None), firm=firm)
            case exp.Case() | exp.If():
                self._branches(node, wanted, firm)
            case exp.In():
                self._alike([node.this, *node.expressions], None)
            case exp.Between():
                self._alike([node.this, node.args["low"], node.args["high"]], None)
            case _ if isinstance(node, _ARITHMETIC):
                self._arithmetic(node)
            case _ if isinstance(node, _COMPARISON):
                self._compared(node)
            case _ if isinstance(node, _ALIKE):
                self._alike(list(node.iter_expressions()), wanted)
            case _ if isinstance(node, _TEXT):
                self._all(node, "VARCHAR")
            case exp.And() | exp.Or() | exp.Not():
                self._all(node, "BOOLEAN")
            case exp.Sum() | exp.Avg():
                self._all(node, "DOUBLE")
            case exp.Min() | exp.Max():
                self._all(node, wanted or "DOUBLE", firm=wanted is not None and firm)
            case LookbackNode():
                self._lookback(node, wanted, firm)
            case exp.Window() | exp.Filter() | exp.Where() | exp.Ordered():  # TopOne() OVER (ORDER BY x)
                self._aggregated(node)
            case exp.Func() if is_aggregate(node):
                self._aggregated(node)
            case exp.Func():
                self._function(node)
            case _:
                self._all(node, None)

    def _aggregated(self, node: exp.Expr) -> None:
        """An aggregate's arguments are numbers unless another use says otherwise, and JSON where they are only handed
        on."""
        name = function_name(node)
        if name in ("bool_and", "bool_or") or isinstance(node, exp.Where):
            return self._all(node, "BOOLEAN")
        if name == "listagg":
            return self._all(node, "VARCHAR")
        inner = list(node.iter_expressions())
        for place, argument in enumerate(inner):
            hands_on = name in _HANDS_ON or (name in ("arg_min", "arg_max") and place == 0)
            is_any = name == "count" or isinstance(argument, exp.Filter | exp.Where | exp.Order)
            soft = "JSON" if hands_on else "DOUBLE"
            self.visit(argument, None if is_any else soft, firm=False)
        return None

    def _lookback(self, node: LookbackNode, wanted: str | None, firm: bool) -> None:
        """What is wanted of it is wanted of its argument, which is otherwise only handed on."""
        for inner in filter(None, (node.args.get("this"), node.args.get("default"))):
            default = node.args.get("default")
            kind = wanted or (self.kind(default) if default is not None else None)
            self.visit(inner, kind or "JSON", firm=firm and kind is not None)
        if node.args.get("when") is not None:
            self.visit(node.args["when"], "BOOLEAN")
        for inner in node.args.get("partition_by") or ():
            self.visit(inner)

    def _all(self, node: exp.Expr, wanted: str | None, *, firm: bool = True) -> None:
        for inner in node.iter_expressions():
            self.visit(inner, wanted, firm=firm)

    def _use(self, node: exp.Column, wanted: str | None, firm: bool) -> None:
        uses = self._scope.uses(node.name)
        if uses is not None and wanted is not None:
            (uses.firm if firm else uses.soft)[wanted] = None

    def _cast(self, node: exp.Cast) -> None:
        if isinstance(node.this, exp.Column):
            uses = self._scope.uses(node.this.name)
            if uses is not None:
                uses.cast[self._type(node)] = None
        else:
            self.visit(node.this)

    def _type(self, node: exp.Cast) -> str:
        try:
            return self._binder.type_of(f"NULL::{node.to.sql(dialect=DuckDB)}", {})
        except ValueError as error:
            raise self._query.error(str(error), node) from None

    def _arithmetic(self, node: exp.Expr) -> None:
        sides = (node.this, node.expression)
        for side, other in (sides, sides[::-1]):
            kind = self.kind(other)
            self.visit(side, "TIMESTAMP" if kind in _TIMES else "DOUBLE")

    def _compared(self, node: exp.Expr) -> None:
        """Numbers where it is about more and less; where it is about equal, text is only likely."""
        sides = [node.this, node.expression]
        if isinstance(node, _ORDERING) or any(map(self.kind, sides)):
            return self._alike(sides, "DOUBLE")
        for side in sides:
            self.visit(side, "VARCHAR", firm=False)
        return None

    def _alike(self, nodes: Sequence[exp.Expr], default: str | None) -> None:
        """Expressions of the same type: that of the first of them whose type is plain, or a default."""
        kind = next((kind for node in nodes if (kind := self.kind(node))), default)
        for node in nodes:
            self.visit(node, kind)

    def _branches(self, node: exp.Expr, wanted: str | None, firm: bool) -> None:
        subject = node.args.get("this") if isinstance(node, exp.Case) else None
        conditions = [node] if isinstance(node, exp.If) else list(node.args["ifs"])
        results = [branch.args["true"] for branch in conditions]
        default = node.args.get("default") if isinstance(node, exp.Case) else node.args.get("false")
        results += [default] if default is not None else []
        if subject is not None:
            self._alike([subject, *(branch.this for branch in conditions)], "VARCHAR")
        else:
            for branch in conditions:
                self.visit(branch.this, "BOOLEAN")
        kind = wanted or next((kind for result in results if (kind := self.kind(result))), None)
        for result in results:
            self.visit(result, kind, firm=firm)

    def _function(self, node: exp.Func) -> None:
        """A function's columns get types that it takes at their places, which are those in its rendered form."""
        arguments = _arguments(node)
        known = functions()
        for inner in node.iter_expressions():
            text = inner.sql(dialect=DuckDB)
            place = arguments.index(text) if text in arguments else None
            wanted = known.wanted(function_name(node), place, len(arguments)) if place is not None else None
            self.visit(inner, wanted)

    def kind(self, node: exp.Expr) -> str | None:
        """The type of an expression where it is plain without knowing the untyped fields in it."""
        match node:
            case exp.Column():
                return _plain(self._scope.known_type(node.name))
            case exp.Literal():
                return "VARCHAR" if node.is_string else "DOUBLE"
            case exp.Boolean():
                return "BOOLEAN"
            case exp.Interval():
                return "INTERVAL"
            case exp.Cast():
                return _plain(self._type(node))
            case exp.Paren() | exp.Neg():
                return self.kind(node.this)
            case LookbackNode():
                return self.kind(node.this) if node.args.get("this") is not None else "DOUBLE"
            case exp.Sum() | exp.Avg() | exp.Count():
                return "DOUBLE"
            case _ if isinstance(node, _ARITHMETIC):
                kinds = {self.kind(node.this), self.kind(node.expression)}
                return next((kind for kind in _TIMES if kind in kinds and kind != "INTERVAL"), "DOUBLE")
        return None


def _plain(type_: str | None) -> str | None:
    return "DOUBLE" if type_ is not None and is_number(type_) else type_


def _arguments(node: exp.Func) -> list[str]:
    """A function's arguments as DuckDB gets them: the rendered call is read again under a name that nobody knows,
    because the parser orders the arguments of a function that it knows in its own way."""
    if not function_name(node):
        return []
    text = node.sql(dialect=DuckDB)
    try:
        call = DuckDB().parse(f"SELECT f_{text[text.index('(') :]}")[0]
    except ParseError:  # EXTRACT(… FROM …) and the like
        return []
    return [argument.sql(dialect=DuckDB) for argument in call.expressions[0].expressions] if call else []
