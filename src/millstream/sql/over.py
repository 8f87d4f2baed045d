"""`OVER (PARTITION BY … LIMIT DURATION(hour, 1) WHEN …)`, as the parser can read it.

sqlglot has neither LIMIT nor WHEN in OVER. Among the tokens they become what it knows, `ORDER BY` with up to two
expressions, and keep their places, so that errors point at what the author wrote.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot.tokenizer_core import Token, TokenType


def readable(tokens: Sequence[Token]) -> list[Token]:
    """The tokens of a query, with ORDER BY for LIMIT and WHEN in every OVER."""
    changed: list[Token] = []
    inside: list[int] = []  # for every bracket that is open: how many expressions of OVER begin in it; -1: it is none
    cases = [0]  # and how many CASE
    for token in tokens:
        kind = token.token_type
        if kind == TokenType.L_PAREN:
            is_over = bool(changed) and changed[-1].token_type == TokenType.OVER
            inside.append(0 if is_over else -1)
            cases.append(0)
        elif kind == TokenType.R_PAREN and inside:
            inside.pop()
            cases.pop()
        elif kind in (TokenType.CASE, TokenType.END):
            cases[-1] += 1 if kind == TokenType.CASE else -1
        elif inside and inside[-1] >= 0 and kind in (TokenType.LIMIT, TokenType.WHEN) and cases[-1] <= 0:
            kind = TokenType.COMMA if inside[-1] else TokenType.ORDER_BY
            token = Token(kind, token.text, token.line, token.col, token.start, token.end, token.comments)
            inside[-1] += 1
        elif kind in (TokenType.SESSION, TokenType.KEEP):  # words of windows, here
            token = Token(TokenType.VAR, token.text, token.line, token.col, token.start, token.end, token.comments)
        changed.append(token)
    return changed
