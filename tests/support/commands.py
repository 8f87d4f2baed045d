"""Commands in this process, for tests of what they do and say: a process for each would take half a second to start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryFile
from unittest.mock import patch

from tests.support.millstream import environment

from millstream.cli import frame


def execute(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with files for its input and output, and the environment that `millstream` gives."""
    with TemporaryFile("w+") as given, TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        given.write(stdin)
        given.seek(0)
        with (
            _applications_loaded_anew(arguments),
            patch.dict(os.environ, {**environment(), **variables}, clear=True),
            patch("sys.stdin", given),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = frame.execute(arguments)
        for written in (out, err):
            written.seek(0)
        return subprocess.CompletedProcess(arguments, code, out.read(), err.read())


@contextmanager
def _applications_loaded_anew(arguments: Sequence[str]) -> Iterator[None]:
    """A process loads a file's module once; here each command does, and leaves none behind."""
    names = [Path(argument).stem for argument in arguments if argument.endswith(".py")]
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    try:
        with patch.object(sys, "path", list(sys.path)):
            yield
    finally:
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)
