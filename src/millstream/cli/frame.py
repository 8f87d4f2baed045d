"""The command line's frame: errors as one line, and exit codes.

Exit codes: 0 fine · 1 the operation failed · 2 the command, a setting or the application is wrong · 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import typer

from millstream.cli import output
from millstream.cli.declarations import DEBUG, commands
from millstream.errors import AppError, MillstreamError, QueryError, SettingsError, TopicError

FAILED = 1
WRONG = 2
INTERRUPTED = 130

MISTAKES = (SettingsError, AppError, QueryError, TopicError)  # what is WRONG; it stays so until somebody mends it


def main() -> NoReturn:
    """The program `millstream`."""
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: Sequence[str]) -> int:
    """Run a command, tell its error if it has one, and give its exit code."""
    try:
        outcome: Any = commands(args=list(arguments), prog_name="millstream", standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        _silence()
        return 0
    except typer.TyperException as error:
        output.tell_error(f"{error.format_message().strip()} (see: {_command_of(error)} --help)")
        return WRONG
    except MillstreamError as error:
        _trace()
        output.tell_error(str(error))
        return WRONG if isinstance(error, MISTAKES) else FAILED
    except Exception as error:
        if not _trace():
            output.tell_error(
                f"unexpected {type(error).__name__}: {error}. This is a bug; for the whole story run it again with "
                f"{DEBUG}=1, and please report it"
            )
        return FAILED
    return outcome if isinstance(outcome, int) else 0


def _command_of(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context is not None else "millstream"


def _trace() -> bool:
    """Print the traceback if it was asked for."""
    wanted = os.environ.get(DEBUG, "") not in ("", "0")
    if wanted:
        traceback.print_exc()
    return wanted


def _silence() -> None:
    """Nobody reads our output any more (`| head`): let Python's last flush go nowhere instead of failing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
