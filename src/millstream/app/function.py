"""What Python tells of a function that a user gives us: its parameters, its annotations, and how it is called."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from millstream.errors import AppError


def name_of(function: Callable[..., Any]) -> str:
    """Its name as the user wrote it."""
    if isinstance(function, functools.partial):
        return name_of(function.func)
    return getattr(function, "__qualname__", type(function).__qualname__)


def parameters_of(function: Callable[..., Any], where: str) -> list[inspect.Parameter]:
    """Raises `AppError`."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise AppError(f"{where}: {function!r} has no signature that can be read; wrap it in a function") from None


def hints_of(function: Callable[..., Any], names: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The annotations by parameter; `names` are further names that they may use. Raises `AppError`."""
    inner = inspect.unwrap(getattr(function, "func", function))  # of a functools.partial
    if isinstance(inner, type):
        inner = typing.cast(Any, inner).__init__
    elif not inspect.isroutine(inner):
        inner = type(inner).__call__  # an object that can be called
    try:
        return typing.get_type_hints(inner, localns=dict(names), include_extras=True)
    except NameError as error:
        raise AppError(f"{where}: an annotation uses {error.name!r}, which is not defined there; import it") from None
    except (TypeError, AttributeError) as error:
        raise AppError(f"{where}: an annotation cannot be read: {error}") from None


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call gives an awaitable, or an asynchronous iterator."""
    return _asks(inspect.iscoroutinefunction, function) or is_async_generator(function)


def is_async_generator(function: Callable[..., Any]) -> bool:
    return _asks(inspect.isasyncgenfunction, function)


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether a call gives an iterator, asynchronous or not."""
    return _asks(inspect.isgeneratorfunction, function) or is_async_generator(function)


def _asks(question: Callable[[Any], bool], function: Callable[..., Any]) -> bool:
    return question(function) or question(getattr(function, "__call__", None))  # noqa: B004 (an object's own method)
