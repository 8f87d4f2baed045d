"""What every command has in common: help, version, usage errors, exit codes, quick start."""

from __future__ import annotations

import subprocess
import sys

import pytest

from millstream.cli import frame
from millstream.cli.declarations import commands
from millstream.errors import AppError, MillstreamError, SettingsError, UnknownStreamError

NAMES = [
    "run",
    "dev",
    "work",
    "check",
    "asyncapi",
    "demo",
    "simulate",
    "publish",
    "subscribe",
    "tail",
    "openapi",
    "audit",
    "streams",
    "groups",
    "status",
]
NAMES += ["ledger", "explain", "backtest", "shadow", "state", "explain-query", "grafana", "password", "deadletters"]
# Groups, one a line: many hands add to them.
NAMES += ["devices"]
NAMES += ["enrollments"]
NAMES += ["twins"]
NAMES += ["commands"]
NAMES += ["jobs"]
NAMES += ["keys"]
NAMES += ["certs"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "millstream", *arguments], capture_output=True, text=True, timeout=60)


def test_help_lists_every_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert frame.execute(["--help"]) == 0
    shown = capfd.readouterr().out
    assert all(f" {name} " in shown for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_with_an_example(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert frame.execute([name, "--help"]) == 0
    assert f"Example: millstream {name}" in capfd.readouterr().out


def test_without_a_command_the_help_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    assert frame.execute([]) == 0
    assert "Usage: millstream" in capfd.readouterr().out


def test_the_version_is_that_of_the_package(capfd: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert frame.execute(["--version"]) == 0
    assert capfd.readouterr().out == f"millstream {version('millstream')}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tial"], "No such command 'tial'. Did you mean 'tail'? (see: millstream --help)"),
        (["tail"], "Missing argument 'STREAM'. (see: millstream tail --help)"),
        (["run", "--workers", "many"], "Invalid value for '--workers'"),
        (["run", "--wrokers", "2"], "No such option"),
    ],
)
def test_a_wrong_command_is_one_line_that_names_the_help(
    arguments: list[str], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert frame.execute(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert told in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("setting 'mqtt' is wrong"), 2),
        (AppError("no app"), 2),
        (UnknownStreamError("no stream"), 1),
        (MillstreamError("something"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_have_their_exit_codes_and_no_traceback(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("millstream.cli.overview.streams", fail)
    assert frame.execute(["streams"]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err == (f"error: {error}\n" if str(error) else "")


def test_an_unexpected_error_tells_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("millstream.cli.overview.streams", fail)
    assert frame.execute(["streams"]) == 1
    told = capfd.readouterr().err
    assert "MILLSTREAM_DEBUG=1" in told
    assert told.count("\n") == 1
    monkeypatch.setenv("MILLSTREAM_DEBUG", "1")
    assert frame.execute(["streams"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_help_does_not_load_the_heavy_parts() -> None:
    code = (
        "import sys; from millstream.cli.frame import execute; execute(['--help']); "
        "print(sorted({'pyarrow', 'duckdb', 'numpy', 'pydantic', 'asyncio'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr == "[]\n"


def test_the_module_is_the_program() -> None:
    done = run("nothing")
    assert done.returncode == 2
    assert done.stderr.startswith("error: No such command 'nothing'")


def test_every_command_is_in_the_help() -> None:
    names = [
        command.name or command.callback.__name__.replace("_", "-")
        for command in commands.registered_commands
        if command.callback
    ]
    assert names + [group.name for group in commands.registered_groups] == NAMES
