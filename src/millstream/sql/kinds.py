"""`Windows(Window('a', TumblingWindow(…)), Window('b', SessionWindow(…)))`: kinds of windows that are queries of their
own.

Windows that stand still share the panes of their events, and are one query. Where windows move, which of them there are
depends on the events, so each of these kinds is a query of its own, whose results go where those of the others go: as
if UNION stood between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlglot.tokenizer_core import Token, TokenType

_MOVING = ("SLIDINGWINDOW", "SLIDING", "SESSIONWINDOW", "SESSION")


def by_kind(tokens: list[Token]) -> list[list[Token]]:
    """The tokens of a SELECT as those of one for each kind of windows, and for all of them that stand still.

    What is not said as it has to be stays as it is; it is told where the windows are planned."""
    begin = next((n for n, token in enumerate(tokens) if _opens(token, tokens[n + 1 : n + 2])), len(tokens))
    arguments, end = _arguments(tokens, begin + 2)
    words = [_function(argument) for argument in arguments]
    ids = [argument[2].text.lower() for argument in arguments if _has_id(argument)]
    texts = {tuple(token.text.lower() for token in argument) for argument in arguments}
    if len(set(ids)) < len(ids) or 0 < len(ids) < len(arguments) or len(texts) < len(arguments):
        return [tokens]
    still = [argument for argument, word in zip(arguments, words, strict=True) if word not in _MOVING]
    moving = [[argument] for argument, word in zip(arguments, words, strict=True) if word in _MOVING]
    kinds = [*([still] if still else []), *moving]
    if len(kinds) < 2:
        return [tokens]
    return [[*tokens[: begin + 2], *_listed(kind, tokens), *tokens[end:]] for kind in kinds]


def _opens(token: Token, after: Sequence[Token]) -> bool:
    is_call = bool(after) and after[0].token_type == TokenType.L_PAREN
    return is_call and token.text.upper() == "WINDOWS" and token.token_type != TokenType.STRING


def _arguments(tokens: Sequence[Token], begin: int) -> tuple[list[list[Token]], int]:
    """What stands between the commas up to the bracket that closes, and where that is."""
    found: list[list[Token]] = [[]]
    depth = 0
    for number in range(begin, len(tokens)):
        token = tokens[number]
        depth += (token.token_type == TokenType.L_PAREN) - (token.token_type == TokenType.R_PAREN)
        if depth < 0:
            return [argument for argument in found if argument], number
        if not depth and token.token_type == TokenType.COMMA:
            found.append([])
        else:
            found[-1].append(token)
    return [], len(tokens)


def _has_id(argument: Sequence[Token]) -> bool:
    return len(argument) > 4 and argument[0].text.upper() == "WINDOW"


def _function(argument: Sequence[Token]) -> str:
    return argument[4 if _has_id(argument) else 0].text.upper()


def _listed(arguments: Sequence[list[Token]], tokens: Iterable[Token]) -> list[Token]:
    """Arguments with a comma of the text before each but the first."""
    places = [argument[0].start for argument in arguments[1:]]
    commas = [token for token in tokens if token.token_type == TokenType.COMMA]
    before = [max((comma for comma in commas if comma.start < place), key=lambda c: c.start) for place in places]
    return [*(token for argument in arguments for token in argument), *before]
