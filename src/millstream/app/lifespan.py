"""What an app opens before its handlers are called, and closes after them."""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from millstream.app.function import hints_of, is_async_generator
from millstream.errors import AppError

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]
"""Takes the app; what it gives is entered and left once in a worker's process."""


def read_lifespan(lifespan: Lifespan | None, names: Mapping[str, Any], where: str) -> tuple[Lifespan | None, Any]:
    """The lifespan, and the type of what it yields, as its annotation says (None: nothing to inject).

    Raises `AppError`."""
    if lifespan is None:
        return None, None
    if not callable(lifespan):
        raise AppError(f"{where}: lifespan={lifespan!r} is no function that takes the app")
    function = inspect.unwrap(lifespan)
    if is_async_generator(lifespan):  # without its decorator, as Starlette takes it too
        lifespan = contextlib.asynccontextmanager(typing.cast(Any, lifespan))
    state = _yielded(hints_of(function, names, f"{where}: lifespan").get("return"))
    if state in (dict, Any) or typing.get_origin(state) is dict:
        raise AppError(
            f"{where}: the lifespan yields a dict, which a parameter could not tell from a payload; yield a class of "
            "your own, for example a dataclass or a TypedDict, and annotate -> AsyncIterator[ThatClass]"
        )
    return lifespan, None if state is type(None) else state


def _yielded(returns: Any) -> Any:
    """`T` of `AsyncIterator[T]` and its like."""
    arguments = typing.get_args(returns)
    return arguments[0] if arguments else None
