"""What the names in a query over pairs mean: `a.x` is the field or column x of the side called a, and so is what an
event of that side finds when it looks back: `LAG(a.x) OVER (…)`."""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from millstream.sql.nodes import LookbackNode
from millstream.sql.scope import WINDOW_END, Scope, Uses
from millstream.sql.text import QueryText


class PairScope(Scope):
    """The columns of two sides that a query uses, by what they are called in it: `a.motor.temperature`. `written` are
    the expressions that stand for them there; `known` are the types that do not depend on their use."""

    def __init__(self, query: QueryText, aliases: tuple[str, str]) -> None:
        self._query = query
        self._aliases = aliases
        self.parameters = {}
        self.attributes = {}
        self.looked_up = {}
        self.members = {}
        self.applied = {}
        self.fields: dict[str, Uses] = {}
        self.written: dict[str, exp.Expr] = {}
        self.known: Mapping[str, str] = {}
        self._lookbacks: dict[LookbackNode, None] = {}

    def _replace(self, node: exp.Expr) -> exp.Expr:
        if not isinstance(node, LookbackNode):
            return super()._replace(node)
        names = {column.parts[0].name for column in node.find_all(exp.Column)}
        if len(names) != 1 or not names.issubset(self._aliases):
            one, _ = self._aliases
            raise self._query.error(
                f"{node.args['function']} looks back over the events of one side of a JOIN, and all columns in it are "
                f"of that: {one}.x; or put it in a step of WITH, which the JOIN reads",
                node,
            )
        number = list(self._lookbacks).index(node) if node in self._lookbacks else len(self._lookbacks)
        self._lookbacks[node] = None
        name = f"{names.pop()}.#back{number}"
        self.fields.setdefault(name, Uses(tuple(name.split(".")), node))
        self.written.setdefault(name, node.copy())
        column = exp.column(exp.to_identifier(name, quoted=True))
        column.meta.update(start=min((each.meta["start"] for each in node.walk() if "start" in each.meta), default=0))
        return column

    def _name(self, path: tuple[str, ...], node: exp.Expr) -> str:
        if [name.lower() for name in path] == ["system", "timestamp"]:
            return WINDOW_END
        if len(path) < 2 or path[0] not in self._aliases:
            one, other = self._aliases
            raise self._query.error(
                f"{'.'.join(path)!r} may be of either side; write {one}.{path[-1]} or {other}.{path[-1]}", node
            )
        name = ".".join(path)
        self.fields.setdefault(name, Uses(path, node))
        self.written.setdefault(name, node.copy())
        return name

    def side_of(self, name: str) -> int:
        """The number of the side that a column is of."""
        return self._aliases.index(self.fields[name].path[0])

    def of_side(self, side: int) -> list[str]:
        """The columns of a side."""
        return [name for name in self.fields if self.side_of(name) == side]

    def sides_in(self, node: exp.Expr) -> set[int | None]:
        """The sides that an expression has columns of; None stands for the pair itself."""
        return {
            None if column.name == WINDOW_END else self.side_of(column.name) for column in node.find_all(exp.Column)
        }

    def known_type(self, name: str) -> str | None:
        """The type of a column that does not depend on its use."""
        return "TIMESTAMP" if name == WINDOW_END else self.known.get(name)

    def types(self) -> dict[str, str]:
        """The columns, quoted, with their types."""
        types = {exp.to_identifier(name, quoted=True).sql(): self.type_of(name) for name in self.fields}
        return types | {exp.to_identifier(WINDOW_END, quoted=True).sql(): "TIMESTAMP"}
