"""`millstream check`, `asyncapi` and `explain-query`: what an application is, without running it."""

from __future__ import annotations

from millstream.app import load_app
from millstream.app.load import find_problems
from millstream.cli import output


def check(reference: str, json: bool) -> int:
    """Print the problems of an application. 1 if it has any."""
    problems = find_problems(reference)
    if json:
        output.write_json([{"file": one.file, "line": one.line, "problem": one.text} for one in problems])
    else:
        for one in problems:
            output.write_line(f"{one.file}:{one.line}: {one.text}" if one.file else one.text)
        count = len(problems)
        output.tell(f"{count} problem{'' if count == 1 else 's'}" if problems else f"nothing is wrong with {reference}")
    return 1 if problems else 0


def asyncapi(reference: str | None) -> None:
    """Print the AsyncAPI document of an application, or of a device."""
    if reference is None:
        from millstream.gateway.devices.asyncapi import asyncapi as document_of_device

        output.write_json(document_of_device())
        return
    from millstream.app.asyncapi import asyncapi as document_of

    output.write_json(document_of(load_app(reference)))


def explain_query(reference: str, name: str | None) -> None:
    """Print how the queries of an application were understood."""
    from millstream.cli.backtesting import chosen

    plans = chosen(load_app(reference).plan(), [] if name is None else [name])
    output.write_line("\n\n".join(plan.explain() for plan in plans))
