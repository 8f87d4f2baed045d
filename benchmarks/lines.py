"""Events as lines of JSON in files, made once and kept for the runs to come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

PARTS = 2  # files, so that an engine with two readers has one for each


@dataclass(frozen=True, slots=True)
class Lines:
    """Where they are: `parts` together hold every line, `whole` holds them in the order of their times."""

    count: int
    folder: Path

    @property
    def parts(self) -> Path:
        return self.folder / "parts"

    @property
    def whole(self) -> Path:
        return self.folder / "events.ndjson"


def write(lines: Lines, make: Callable[[], Iterable[tuple[int, str]]]) -> None:
    """Write what `make` gives, unless it is there: each line with a number, by which it is in a part."""
    complete = lines.folder / "complete"
    if complete.exists():
        return
    lines.parts.mkdir(parents=True, exist_ok=True)
    parts = [(lines.parts / f"part-{number}.json").open("w") for number in range(PARTS)]
    with lines.whole.open("w") as whole:
        for number, line in make():
            whole.write(line)
            parts[number % PARTS].write(line)
    for part in parts:
        part.close()
    complete.touch()
