"""The queries that one text comes to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from millstream.app.declarations import Query
from millstream.errors import AppError, QueryError

_MAY_BE_SEVERAL = re.compile(r"\b(with|into|union|windows)\b|;", re.IGNORECASE)


def queries_of(query: Query, where: str, *, has_into: bool) -> Sequence[Query]:
    """A query as those that its text has. Each has a name of its own, and those of steps a stream of their own.

    `has_into` says that it was told where results go. A text that cannot be taken apart stays as it is; what is wrong
    with it is told when it is planned. Raises `AppError`."""
    if not _MAY_BE_SEVERAL.search(query.sql):
        return [query]
    from millstream.sql import statements  # its parser takes long to import

    try:
        found = statements(query.sql)
    except QueryError:
        return [query]
    targets = dict.fromkeys(one.into for one in found if one.step is None)
    if has_into and targets != {None: None}:
        raise AppError(
            f"{where}: the text says where its results go: INTO {next(filter(None, targets))}; leave out into=…"
        )
    if len(targets) > 1 and None in targets:
        raise AppError(f"{where}: of several queries in a text each says INTO which stream its results go")
    if len(targets) > 1 and query.shadow is not None:
        raise AppError(
            f"{where}: a shadow runs beside one query, and this text has several; give each its own app.query"
        )
    several = len(targets) > 1
    made = []
    for one in found:
        own = one.step if one.step is not None else (one.into if several else None)
        name = ".".join([query.name, *filter(None, (own, str(one.number or "")))])
        made.append(
            replace(
                query,
                name=name,
                sql=one.text,
                into=f"${query.name}.{one.step}" if one.step is not None else (one.into or query.into),
                late=f"{name}.late",
                start="earliest" if one.reads else query.start,
                payload=None if one.reads else query.payload,
                shadow=query.shadow if one.step is None else None,
                steps={step: f"${query.name}.{step}" for step in one.reads},
                timed=one.step is not None,
                early=query.early if one.step is None else 0,
            )
        )
    return made
