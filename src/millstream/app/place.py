"""Where in the user's code something was declared, so that an error can point there."""

from __future__ import annotations

import contextlib
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import FrameType


@dataclass(frozen=True, slots=True)
class Place:
    """A line of the user's code; as text `plant.py:12`, relative to the working folder where that is shorter."""

    file: str
    line: int

    def __str__(self) -> str:
        path = Path(self.file)
        if path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        return f"{path}:{self.line}"


def caller(depth: int) -> FrameType:
    """The frame `depth` calls above the function that asks (1: its caller)."""
    return sys._getframe(depth + 1)


def place_of(frame: FrameType) -> Place:
    """The line that the frame is at."""
    return Place(frame.f_code.co_filename, frame.f_lineno)


def place_in(error: BaseException) -> Place | None:
    """The innermost line of the user's own that an error came from; None if it came from none."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    return Place(own[-1].filename, own[-1].lineno or 0) if own else None


def _is_users(filename: str) -> bool:
    installed = (sys.prefix, sys.base_prefix, str(Path(__file__).parent.parent), str(Path(contextlib.__file__).parent))
    return not filename.startswith("<frozen") and not filename.startswith(installed)
