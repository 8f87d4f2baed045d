"""A query's text: parsed, with the place of everything in it.

sqlglot knows DuckDB's SQL, but not `TIMESTAMP BY`. That clause is cut out of the text by its tokens and parsed on its
own; what is cut is replaced by spaces, so that line and column of all the rest stay what the author sees.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from millstream.errors import QueryError
from millstream.sql.over import readable
from millstream.sql.tsql import translated

_JOINS = ("JOIN", "LEFT", "RIGHT", "INNER", "CROSS", "FULL", "OUTER")
_CALL = re.compile(r"\b\w+\s*\(\s*$")  # the name of a function whose first argument comes next
_NAME = re.compile(r"[^\W\d]\w*")
_VALUE = re.compile("true|false|null", re.IGNORECASE)
_PLACED = re.compile(r"[\w)\]\"]$")
_SETS = ("UNION", "EXCEPT", "INTERSECT")
_CLAUSES = {"WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "WINDOW", "QUALIFY", "ON", ";", *_JOINS, *_SETS}
"""What may stand behind `TIMESTAMP BY …`, and ends it."""


@dataclass(frozen=True, slots=True)
class QueryText:
    """The parsed query: a SELECT, and the expression of `TIMESTAMP BY` if it has one. Where it has several, `times` are
    all of them, by where they begin; and `over` is what stands behind their `OVER`."""

    text: str
    select: exp.Select
    time: exp.Expr | None
    times: Mapping[int, exp.Expr] = field(default_factory=dict)
    over: Mapping[int, Sequence[exp.Expr]] = field(default_factory=dict)

    @staticmethod
    def parse(text: str) -> QueryText:
        """Raise `QueryError` where the text is not one SELECT."""
        written, text = text, unbracketed(text)
        _check_parentheses(text)
        _check_partition(text)
        times: dict[int, exp.Expr] = {}
        over: dict[int, Sequence[exp.Expr]] = {}
        select = text
        while True:
            begin, end = _time_clause(select)
            if begin == end:
                break
            until = _over(text, begin, end)
            times[begin] = QueryText._time(text, begin, until)
            over[begin] = QueryText._columns(text, begin, until, end)
            select = select[:begin] + _blank(select[begin:end]) + select[end:]
        return QueryText(written, _parse(text, select), next(iter(times.values()), None), times, over)._translated()

    @staticmethod
    def _time(text: str, begin: int, end: int) -> exp.Expr:
        """The expression of a `TIMESTAMP BY` that stands there."""
        clause = _blank(text[:begin]) + "SELECT" + text[begin + len("SELECT") : end]
        first = tokens_of(text[begin:end])
        expression = begin + first[2].start if len(first) > 2 else end
        if expression == end:
            raise error_at(text, begin, "TIMESTAMP BY needs an expression: the field with the event's time")
        clause = (
            _blank(text[:begin]) + "SELECT" + _blank(text[begin + len("SELECT") : expression]) + text[expression:end]
        )
        expressions: list[exp.Expr] = _parse(text, clause).expressions
        if len(expressions) != 1 or isinstance(expressions[0], exp.Alias):
            raise error_at(text, expression, "TIMESTAMP BY takes one expression, without a name")
        return expressions[0]

    @staticmethod
    def _columns(text: str, begin: int, over: int, end: int) -> Sequence[exp.Expr]:
        """What stands behind the `OVER` of a `TIMESTAMP BY` that begins there."""
        if over == end:
            return ()
        first = over + len("OVER")
        if not text[first:end].strip():
            raise error_at(text, over, "OVER needs a column: TIMESTAMP BY ts OVER device")
        clause = _blank(text[:begin]) + "SELECT" + _blank(text[begin + len("SELECT") : first]) + text[first:end]
        expressions: list[exp.Expr] = _parse(text, clause).expressions
        return expressions

    def _translated(self) -> QueryText:
        """The query without functions of T-SQL."""
        select = translated(self.select, self.error)
        assert isinstance(select, exp.Select)
        times = {begin: translated(time, self.error) for begin, time in self.times.items()}
        return QueryText(self.text, select, next(iter(times.values()), None), times, self.over)

    def time_of(self, table: exp.Table) -> exp.Expr | None:
        """The expression of the `TIMESTAMP BY` that stands behind a table."""
        starts = [start for one in self.select.find_all(exp.Table) if (start := _start(self.text, one)) is not None]
        mine = _start(self.text, table)
        for begin, time in self.times.items():
            if mine == max((start for start in starts if start < begin), default=None):
                return time
        return None

    def error(self, message: str, node: exp.Expr | None = None) -> QueryError:
        """An error that points at where a part of the query begins."""
        start = _start(self.text, node)
        return error_at(self.text, len(self.text) - len(self.text.lstrip()) if start is None else start, message)

    def written(self, node: exp.Expr) -> str:
        """A part of the query in SQL, as it reads after parsing."""
        return node.sql(dialect=DuckDB)


def error_at(text: str, offset: int, message: str) -> QueryError:
    """An error at a character of the text; line and column count from 1."""
    line = text.count("\n", 0, offset) + 1
    return QueryError(message, line, offset - text.rfind("\n", 0, offset))


def _start(text: str, node: exp.Expr | None) -> int | None:
    """The first character of a part, as far as the parser tells; else that of the part around it."""
    while node is not None:
        start = _first(text, node)
        if start is not None:
            return start
        node = node.parent
    return None


def _first(text: str, node: exp.Expr) -> int | None:
    own = node.meta.get("start")
    starts = [own] if own is not None else []
    starts += [start for inner in node.iter_expressions() if (start := _first(text, inner)) is not None]
    if own is None and starts and isinstance(node, exp.Func):  # of some functions the parser tells no place
        call = _CALL.search(text, 0, min(starts))
        is_its = call is not None and ("CAST" in call[0].upper()) == isinstance(node, exp.Cast)  # not x of max(x::T)
        starts += [call.start()] if call is not None and is_its else []
    return min(starts, default=None)


def _blank(text: str) -> str:
    return "".join(character if character == "\n" else " " for character in text)


def tokens_of(text: str) -> Sequence[Token]:
    """The words of a text. `QueryError`: a quote or a comment is not closed."""
    try:
        return DuckDB().tokenize(text)
    except TokenError:
        quote = max((text.rfind(mark) for mark in "'\"" if text.count(mark) % 2), default=-1)
        message = "a quote or a comment is not closed"
        raise (error_at(text, quote, message) if quote >= 0 else QueryError(message)) from None


def unbracketed(text: str) -> str:
    """The text with names as SQL has them where they stand in brackets, as in T-SQL: `[user]`. It is as long as before.

    What stands right behind a name or a bracket is a place in it: `r.values[n]`."""
    found = list(text)
    tokens = tokens_of(text)
    for token, end in zip(tokens, tokens[2:], strict=False):
        if token.token_type == TokenType.L_BRACKET and end.token_type == TokenType.R_BRACKET:
            name = text[token.end + 1 : end.start]
            if _NAME.fullmatch(name) and not _VALUE.fullmatch(name) and not _PLACED.search(text, 0, token.start):
                found[token.start], found[end.start] = '""'
    return "".join(found)


def _check_parentheses(text: str) -> None:
    """The parser forgives one that is not closed before `AS`, and then reads something else than was written."""
    opened: list[int] = []
    for token in tokens_of(text):
        if token.text == "(":
            opened.append(token.start)
        elif token.text == ")" and not opened:
            raise error_at(text, token.start, "this ) closes nothing")
        elif token.text == ")":
            opened.pop()
    if opened:
        raise error_at(text, opened[-1], "this ( is not closed")


def _check_partition(text: str) -> None:
    """`FROM input PARTITION BY PartitionId` of Stream Analytics says what is so anyway."""
    tokens = tokens_of(text)
    for before, token in pairwise(tokens):
        if token.token_type == TokenType.PARTITION_BY and before.token_type != TokenType.L_PAREN:
            message = "PARTITION BY behind a stream says nothing: it is in partitions by its key; leave it out"
            raise error_at(text, token.start, message)


def _time_clause(text: str) -> tuple[int, int]:
    """Where `TIMESTAMP BY …` begins and ends; an empty range if there is none."""
    tokens = tokens_of(text)
    begin, depth, its_depth = None, 0, 0
    for number, token in enumerate(tokens):
        depth += (token.text == "(") - (token.text == ")")
        word = token.text.upper()
        if begin is None:
            if word == "TIMESTAMP" and "BY" in (after.text.upper() for after in tokens[number + 1 : number + 2]):
                begin, its_depth = token.start, depth  # in a step of WITH it stands in brackets
        elif depth < its_depth or (depth == its_depth and word.split(" ")[0] in _CLAUSES):
            return begin, token.start
    return (0, 0) if begin is None else (begin, len(text))


def _over(text: str, begin: int, end: int) -> int:
    """Where the `OVER` of a `TIMESTAMP BY` begins; its end if there is none."""
    depth, tokens = 0, tokens_of(text[begin:end])
    for number, token in enumerate(tokens):
        depth += (token.text == "(") - (token.text == ")")
        is_call = number + 1 < len(tokens) and tokens[number + 1].text == "("  # OVER (…) is of a function
        if not depth and token.text.upper() == "OVER" and not is_call:
            return begin + token.start
    return end


def _parse(text: str, sql: str) -> exp.Select:
    try:
        statements = DuckDB().parser().parse(readable(DuckDB().tokenize(sql)), sql)
    except ParseError as error:
        raise _syntax_error(text, error) from None
    if not statements or statements[0] is None:
        raise error_at(
            text, 0, "the query is empty; write SELECT … FROM stream … GROUP BY …, TumblingWindow(second, 10)"
        )
    if len(statements) > 1 and statements[1] is not None:
        start = _start(text, statements[1])
        message = "a query is one SELECT; give each its own app.query"
        raise error_at(text, start, message) if start is not None else QueryError(message)
    if not isinstance(statements[0], exp.Select):
        kind = type(statements[0]).__name__.upper()
        raise error_at(text, len(text) - len(text.lstrip()), f"{kind} is not supported; a query is one SELECT")
    return statements[0]


def _syntax_error(text: str, error: ParseError) -> QueryError:
    found = error.errors[0] if error.errors else {}
    near = str(found.get("highlight") or "")
    line, column = found.get("line"), found.get("col")
    what = f"near {near!r}" if near else "at its end"
    if isinstance(column, int):
        column -= max(len(near) - 1, 0)  # the parser tells the last character of the word
    return QueryError(f"the query cannot be read {what}", line, column)
