"""What there is in a query and not in the parser's SQL."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB


class LookbackNode(exp.Expression, exp.Func):  # a function, so that errors find its place
    """`LAG`, `LAST` or `ISFIRST`: `this` is the argument, if it has one; `written` how the author wrote it."""

    arg_types = {  # noqa: RUF012 (so the parser's library has it)
        "this": False,
        "default": False,
        "partition_by": False,
        "when": False,
        "function": True,
        "offset": True,
        "reach": True,
        "written": True,
    }


DuckDB.Generator.TRANSFORMS[LookbackNode] = lambda _, node: str(node.args["written"])


def outside(node: exp.Expr) -> Iterator[exp.Expr]:
    """An expression and all that is in it, but for what stands inside of lookbacks."""
    return node.walk(prune=lambda inner: isinstance(inner, LookbackNode))
