"""How a user says that a parameter gets what a function of their own makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Scope = Literal["event", "worker"]


@dataclass(frozen=True, slots=True)
class Depends:
    """In `Annotated[T, Depends(factory)]`: the parameter gets what `factory` returns, or yields.

    `factory` may be a function, a class, or a generator that yields once, whose rest is the clean-up; `async` or not.
    Its own parameters get what a handler's do. It is called once for each event (a batch handler's: for each call),
    however many parameters ask for it, and cleaned up when the handler has returned or failed, before anything is
    committed.
    With `scope="worker"` it is called once, when a worker process starts, and cleaned up when it ends.
    """

    factory: Callable[..., Any]
    scope: Scope = "event"
