"""The pytest plugin, as pytest finds and runs it in a project that configures nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.support.processes import loaded, run_pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

WITH_FIXTURE = """
import pytest


async def test_file_is_found_above(load_app):
    async with load_app("plant.py:app").test() as plant:
        await plant.publish("site/a/gate-1/door", {"open": True})


def test_each_load_is_a_new_app(load_app):
    assert load_app("plant.py") is not load_app("plant.py")


def test_module_is_found_too(load_app):
    assert load_app("millstream.demo.plant").name


def test_missing_file_is_told(load_app):
    with pytest.raises(Exception, match="no file 'nowhere.py'"):
        load_app("nowhere.py")


class TestClass:
    @pytest.mark.parametrize("n", [1, 2])
    async def test_method_with_parameters(self, load_app, n):
        async with load_app("plant.py").test() as plant:
            assert n in (1, 2)


async def test_failure_fails(load_app):
    assert False, "as it should"
"""

LEAVES_NOTHING = """
import sys


def test_what_was_loaded_is_gone():
    assert "plant" not in sys.modules
    assert not any(path.endswith("above") for path in sys.path)
"""

WITH_HYPOTHESIS = """
from hypothesis import given, settings, strategies as st
from plant import app


@settings(max_examples=3, deadline=None)
@given(st.integers(81, 200))
async def test_overheating(celsius):
    async with app.test() as plant:
        await plant.publish("site/a/press-1/telemetry", {"ts": "2026-01-01T00:00:00Z", "celsius": celsius})
        await plant.advance("30s")
        assert len(plant.alerts) == 1
"""

NOT_OURS = """
async def test_of_somebody_else():
    pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("plant.py", "test_plant.py"):
        shutil.copy(EXAMPLES / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("-p", "no:asyncio", "-p", "no:anyio"), id="no other plugin"),
        pytest.param(("-o", "asyncio_default_fixture_loop_scope=function"), id="pytest-asyncio, strict"),
        pytest.param(
            ("-o", "asyncio_default_fixture_loop_scope=function", "-o", "asyncio_mode=auto"), id="pytest-asyncio, auto"
        ),
    ],
)
def test_example_runs_as_it_is_written(project: Path, options: tuple[str, ...]) -> None:
    code, said = run_pytest(project, *options)
    assert code == 0, said
    assert "1 passed" in said


def test_fixture_loads_apps_and_leaves_nothing_behind(tmp_path: Path) -> None:
    tests = tmp_path / "above" / "tests"
    tests.mkdir(parents=True)
    shutil.copy(EXAMPLES / "plant.py", tmp_path / "above" / "plant.py")
    (tests / "test_a.py").write_text(WITH_FIXTURE)
    (tests / "test_b.py").write_text(LEAVES_NOTHING)
    code, said = run_pytest(tmp_path, "--rootdir", str(tmp_path), "-p", "no:asyncio")
    assert (code, "7 passed" in said, "1 failed" in said, "as it should" in said) == (1, True, True, True), said


def test_hypothesis_runs_asynchronous_tests(project: Path) -> None:
    (project / "test_plant.py").write_text(WITH_HYPOTHESIS)
    code, said = run_pytest(project, "-p", "no:asyncio", "-p", "no:anyio")
    assert code == 0, said


def test_asynchronous_tests_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text(NOT_OURS)
    code, said = run_pytest(tmp_path, "-p", "no:asyncio", "-p", "no:anyio")
    assert code == 1, said
    assert "not natively supported" in said


def test_plugin_and_package_import_nothing_heavy() -> None:
    heavy = ("pyarrow", "duckdb", "apsw", "msgspec", "pydantic")
    assert loaded("import millstream.testing.plugin", *heavy) == []


def test_app_that_is_not_tested_does_not_load_the_kit() -> None:
    assert loaded("import millstream.app, millstream.worker", "millstream.testing") == []
