"""What pytest finds by the entry point `millstream`: a fixture, and a way to run asynchronous tests unconfigured.

It is imported in every run of pytest where Millstream is installed, so it imports nothing until a test asks for it.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from millstream.app import App

_FIXTURE = "load_app"


@pytest.fixture
def load_app(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], App]]:
    """Loads an app as `millstream run` does: `load_app("plant.py")`, with `:name` where it has several, or a module.

    A file is looked for beside the test, and in the folders above it up to pytest's root folder. It is loaded anew each
    time, so that what a test leaves in its variables is gone in the next. Raises `AppError`."""
    from millstream.app import load_app

    monkeypatch.setattr(sys, "path", list(sys.path))
    replaced: dict[str, ModuleType | None] = {}

    def load(target: str) -> App:
        stem, suffix, name = target.partition(".py")
        if not suffix or (name and not name.startswith(":")):
            return load_app(target)
        path = _find(Path(f"{stem}.py"), request.path.parent, request.config.rootpath)
        known = sys.modules.pop(path.stem, None)
        replaced.setdefault(path.stem, known)
        return load_app(f"{path}{name}")

    yield load
    for name, module in replaced.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module


@pytest.hookimpl
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Give an asynchronous test of an app an event loop, where no other plugin has: it would fail for that."""
    by_hypothesis = getattr(pyfuncitem.obj, "hypothesis", None)
    function = pyfuncitem.obj if by_hypothesis is None else by_hypothesis.inner_test
    if inspect.iscoroutinefunction(function) and _tests_an_app(pyfuncitem):
        if by_hypothesis is None:
            pyfuncitem.obj = _in_a_loop(function)
        else:
            by_hypothesis.inner_test = _in_a_loop(function)


def _in_a_loop(function: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(function)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(function(*arguments, **named))

    return run


def _tests_an_app(item: pytest.Function) -> bool:
    """Whether the test uses our fixture, or its module has an app."""
    if _FIXTURE in item.fixturenames:
        return True
    declared = sys.modules.get("millstream.app")
    return declared is not None and any(issubclass(type(value), declared.App) for value in vars(item.module).values())


def _find(file: Path, folder: Path, root: Path) -> Path:
    """The file beside the test or in a folder above; as it is named where there is none, for the error to tell."""
    for above in (folder, *folder.parents):
        if (above / file).is_file():
            return above / file
        if above == root:
            break
    return file
