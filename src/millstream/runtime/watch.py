"""Changes of source files, as editors make them: in place, or with a new file put in the old one's place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from watchfiles import PythonFilter, awatch

_QUIET_MS = 50  # without a further change: what an editor or a branch's checkout writes together is one change
_LONGEST_MS = 400  # that a change may go on; also how long a busy log beside the sources can delay one


async def changes(folder: Path) -> AsyncIterator[list[Path]]:
    """The Python files in a folder and below that have changed, whenever some have. Folders of tools (`.git`, `.venv`,
    `__pycache__`, …) are left out."""
    watching = awatch(folder, watch_filter=PythonFilter(), step=_QUIET_MS, debounce=_LONGEST_MS)
    async for found in watching:
        yield sorted({Path(path) for _, path in found})
