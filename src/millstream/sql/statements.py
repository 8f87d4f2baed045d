"""A text of several queries: `SELECT … INTO …` one after the other, `UNION`, steps of `WITH` that have windows, and
windows of several kinds.

Each SELECT that cannot be put in where it is read is a query of its own, with its own position, state and commits. A
step with windows, or of several SELECTs, publishes into a stream that the others read; and SELECTs with UNION between
them publish into the same, as kinds of windows do (`kinds.py`). The text of each is the whole text with spaces in the
place of all that is not its own, so errors have the line and column that the author sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlglot.tokenizer_core import Token, TokenType

from millstream.sql.kinds import by_kind
from millstream.sql.text import error_at, tokens_of, unbracketed

_OWN = (TokenType.GROUP_BY, TokenType.HAVING)
"""What makes a step of WITH a query of its own, as a JOIN of events does: each event does not give one."""

_SETS = (TokenType.UNION, TokenType.EXCEPT, TokenType.INTERSECT)


@dataclass(frozen=True, slots=True)
class Statement:
    """One query of a text. `step` is the step of WITH whose results it gives; None: they go to `into`, or where the
    text's results go. `number` tells SELECTs apart between which UNION stands, and kinds of windows, from 1; 0: there
    is one. `reads` are the steps that are queries of their own, if it uses their names."""

    text: str
    step: str | None = None
    into: str | None = None
    number: int = 0
    reads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Select:
    """Tokens of SELECTs with UNION between them: where each begins and ends, and what it is INTO."""

    branches: list[list[Token]]
    into: str | None

    @property
    def is_own(self) -> bool:
        return (
            len(self.branches) > 1 or any(token.token_type in _OWN for token in _outer(self.branches[0])) or self._pairs
        )

    @property
    def _pairs(self) -> bool:
        """Whether it joins events with events, which it says with DATEDIFF behind JOIN."""
        tokens = self.branches[0]
        joins = [number for number, token in enumerate(tokens) if token.token_type == TokenType.JOIN]
        return bool(joins) and any(token.text.upper() == "DATEDIFF" for token in tokens[joins[0] :])


@dataclass(frozen=True, slots=True)
class _Step:
    """A step of WITH: all its tokens, among them the comma behind it, and its SELECTs."""

    name: str
    tokens: list[Token]
    comma: Token | None
    select: _Select


def statements(text: str) -> list[Statement]:
    """The queries of a text, each behind those that it reads. `QueryError`: it cannot be taken apart."""
    text = unbracketed(text)
    tokens = list(tokens_of(text))
    clause, steps, rest = _with(text, tokens)
    selects = [_select(text, some) for some in _split(rest)]
    own = {step.name: step for step in steps if step.select.is_own}
    made: list[tuple[_Select, str | None, list[_Step]]] = []
    for number, step in enumerate(steps):
        if step.name in own:
            made.append((step.select, step.name, steps[:number]))
    made += [(select, None, steps) for select in selects]
    if len(made) < 2 and all(len(select.branches) < 2 and select.into is None for select, _, _ in made):
        return [Statement(text)]
    found = []
    for select, name, before in made:
        for number, branch in enumerate(select.branches, 1):
            needed = _needed(branch, before)
            kept = [*branch, *_kept(clause, [step for step in needed if step.name not in own])]
            reads = tuple(step.name for step in needed if step.name in own)
            several = number if len(select.branches) > 1 else 0
            found.append(Statement(_only(text, kept), name, select.into, several, reads))
    return found


def check_single(text: str) -> None:
    """Raise `QueryError` unless a text is one query, which goes where its caller says."""
    found = statements(text)
    if len(found) > 1 or found[0].into is not None:
        start = len(text) - len(text.lstrip())
        raise error_at(text, start, "the text has several queries, or says INTO: app.query takes it apart")


def _with(text: str, tokens: list[Token]) -> tuple[Token | None, list[_Step], list[Token]]:
    """The word WITH, its steps, and all tokens behind them."""
    if not tokens or tokens[0].token_type != TokenType.WITH:
        return None, [], tokens
    steps: list[_Step] = []
    place = 1
    while place < len(tokens):
        begin = next((n for n in range(place, len(tokens)) if tokens[n].token_type == TokenType.L_PAREN), len(tokens))
        end = _closing(tokens, begin)
        if end >= len(tokens) or not 0 < begin - place <= 2:
            return None, [], tokens  # which the parser tells better
        comma = tokens[end + 1] if end + 1 < len(tokens) and tokens[end + 1].token_type == TokenType.COMMA else None
        select = _select(text, tokens[begin + 1 : end])
        steps.append(_Step(tokens[place].text, tokens[place : end + 1], comma, select))
        place = end + 1
        if comma is None:
            break
        place += 1
    return tokens[0], steps, tokens[place:]


def _closing(tokens: Sequence[Token], begin: int) -> int:
    depth = 0
    for number in range(begin, len(tokens)):
        depth += (tokens[number].token_type == TokenType.L_PAREN) - (tokens[number].token_type == TokenType.R_PAREN)
        if not depth:
            return number
    return len(tokens)


def _split(tokens: Sequence[Token]) -> list[list[Token]]:
    """The tokens of each statement: a semicolon ends one, and a SELECT that no UNION stands before begins one."""
    parts: list[list[Token]] = [[]]
    outer = {id(token) for token in _outer(tokens)}
    for number, token in enumerate(tokens):
        before = [each.token_type for each in tokens[max(0, number - 2) : number]]
        is_first = (
            TokenType.UNION not in before and TokenType.EXCEPT not in before and TokenType.INTERSECT not in before
        )
        if id(token) in outer and token.token_type == TokenType.SELECT and is_first and parts[-1]:
            parts.append([])
        if token.token_type == TokenType.SEMICOLON:
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part] or [[]]


def _select(text: str, tokens: list[Token]) -> _Select:
    """SELECTs with UNION between them, without their INTO."""
    into = None
    branches: list[list[Token]] = [[]]
    outer = {id(token) for token in _outer(tokens)}
    place = 0
    while place < len(tokens):
        token = tokens[place]
        after = tokens[place + 1] if place + 1 < len(tokens) else None
        place += 1
        if id(token) in outer and token.token_type == TokenType.UNION:
            branches.append([])
            if after is not None and after.token_type == TokenType.DISTINCT:
                raise error_at(text, after.start, "UNION gives all results; there is no UNION DISTINCT over streams")
            place += after is not None and after.token_type == TokenType.ALL
        elif id(token) in outer and token.token_type == TokenType.INTO and after is not None:
            if into is not None:
                raise error_at(text, token.start, "the results go INTO one stream, which the first SELECT names")
            into = after.text
            place += 1
        else:
            branches[-1].append(token)
    return _Select([one for branch in branches for one in by_kind(branch)], into)


def _outer(tokens: Iterable[Token]) -> list[Token]:
    """The tokens that do not stand in brackets."""
    found, depth = [], 0
    for token in tokens:
        depth += (token.token_type == TokenType.L_PAREN) - (token.token_type == TokenType.R_PAREN)
        if not depth:
            found.append(token)
    return found


def _needed(branch: Sequence[Token], steps: Sequence[_Step]) -> list[_Step]:
    """The steps whose names are used, and those that these use in turn."""
    words = {token.text for token in branch}
    needed: list[_Step] = []
    for step in reversed(steps):
        if step.name in words:
            needed.insert(0, step)
            if not step.select.is_own:
                words |= {token.text for token in step.tokens}
    return needed


def _kept(clause: Token | None, steps: Sequence[_Step]) -> list[Token]:
    """The tokens of a WITH of these steps."""
    if clause is None or not steps:
        return []
    kept = [clause, *steps[-1].tokens]
    for step in steps[:-1]:
        kept += [*step.tokens, *([step.comma] if step.comma is not None else [])]
    return kept


def _only(text: str, tokens: Iterable[Token]) -> str:
    """The text with spaces for all but these tokens."""
    kept = [character if character == "\n" else " " for character in text]
    for token in tokens:
        kept[token.start : token.end + 1] = text[token.start : token.end + 1]
    return "".join(kept)
