"""docs/errors.md names every error, exit code and reason code that there is, and no other."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import starlette.status

import millstream
from millstream.cli import frame
from millstream.errors import MillstreamError
from millstream.gateway.http.answer import FAULTS
from millstream.log.kafka import transactor
from millstream.mqtt import Reason
from millstream.runtime import __main__ as process
from millstream.runtime import control, server

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "millstream"
PAGE = (ROOT / "docs" / "errors.md").read_text()
READS = "decode.py"  # knows reason codes that others send
BY_ACCESS = {"NotAuthenticatedError": 401, "BusyError": 503, "TooManyFailuresError": 429}  # made by `Access` itself

ROWS = re.findall(r"^\| `(\w+Error)`(?: \(`([\w.]+)`\))? \| (\d*) ?\| (\d) \|", PAGE, flags=re.MULTILINE)


def classes() -> Iterator[type[Exception]]:
    """Every exception that a module of Millstream defines, and lets out."""
    for module in pkgutil.walk_packages(millstream.__path__, "millstream."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    found: list[type[Exception]] = [Exception]
    while found:
        each = found.pop()
        found += each.__subclasses__()
        if each.__module__.startswith("millstream.") and not each.__name__.startswith("_"):
            yield each


def test_every_error_is_documented_and_no_other() -> None:
    assert sorted(name for name, *_ in ROWS) == sorted({each.__name__ for each in classes()})


@pytest.mark.parametrize(("name", "module", "status", "code"), ROWS, ids=lambda value: value)
def test_an_error_is_where_the_page_says_and_ends_as_it_says(name: str, module: str, status: str, code: str) -> None:
    error: type[Exception] = getattr(importlib.import_module(module or "millstream.errors"), name)
    assert int(code) == (frame.WRONG if issubclass(error, frame.MISTAKES) else frame.FAILED)
    faults = (FAULTS[kind] for kind in error.__mro__ if kind in FAULTS)
    if error is not MillstreamError:
        assert (int(status) if status else None) == BY_ACCESS.get(name, next(faults, None))


def attributes(names: re.Pattern[str], *folders: str) -> set[str]:
    """Names that the source uses, as in `Reason.NAME`."""
    paths = [path for folder in folders for path in (SOURCE / folder).rglob("*.py") if path.name != READS]
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]
    used = [node.attr for node in nodes if isinstance(node, ast.Attribute) and _is_reason(node)]
    used += [alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    return {name for name in used if names.fullmatch(name)}


def _is_reason(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "Reason"


def test_every_reason_code_that_is_sent_is_documented_and_no_other() -> None:
    rows = re.findall(r"^\| 0x([0-9A-F]{2}) \| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    documented = {name: int(code, 16) for code, name in rows}
    assert documented == {name: Reason[name] for name in documented}
    used = attributes(re.compile("|".join(Reason.__members__)), "mqtt", "gateway")
    assert set(documented) == used


def test_every_exit_code_is_documented_and_no_other() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, flags=re.MULTILINE)}
    modules = (process, control, server, transactor)
    of_processes = {code for module in modules for name, code in vars(module).items() if name.endswith("_EXIT")}
    assert documented == {0, frame.FAILED, frame.WRONG, frame.INTERRUPTED} | of_processes


def test_every_way_to_close_a_websocket_is_documented() -> None:
    used = attributes(re.compile(r"WS_1\d{3}_\w+"), "gateway")
    assert used
    for name in used:
        assert f" {getattr(starlette.status, name)}:" in PAGE
