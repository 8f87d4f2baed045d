"""Parts of a query as fragments of DuckDB's SQL, bound with the types of their columns."""

from __future__ import annotations

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB

from millstream.sql.functions import Binder
from millstream.sql.text import QueryText


def fragment(node: exp.Expr) -> str:
    """The text of an expression."""
    return node.sql(dialect=DuckDB)


class Fragments:
    """Binds the parts of one query. Errors point at what the author has `written`."""

    def __init__(self, query: QueryText, binder: Binder) -> None:
        self._query = query
        self._binder = binder

    def type_of(self, node: exp.Expr, types: dict[str, str], written: exp.Expr) -> str:
        """The type of an expression over columns of these types. `QueryError`: it does not bind."""
        try:
            return self._binder.type_of(fragment(node), types)
        except ValueError as error:
            place = self._culprit(node, types)
            raise self._query.error(str(error), place if "start" in place.meta else written) from None

    def condition(
        self, clause: str, node: exp.Expr | None, types: dict[str, str], written: exp.Expr | None = None
    ) -> str | None:
        """The text of a condition; None if there is none. `QueryError`: it is none."""
        if node is None:
            return None
        type_ = self.type_of(node, types, written or node)
        if type_ != "BOOLEAN":
            raise self._query.error(f"{clause} takes a condition, and this is a {type_}", written or node)
        return fragment(node)

    def _culprit(self, node: exp.Expr, types: dict[str, str]) -> exp.Expr:
        """The innermost call in a fragment that does not bind by itself either."""
        for inner in reversed(list(node.bfs())):
            if isinstance(inner, exp.Func) and not isinstance(inner, exp.Binary):
                try:
                    self._binder.type_of(fragment(inner), types)
                except ValueError:
                    return inner
        return node
