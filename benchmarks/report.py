"""Results as tables of ratios, on the terminal and between the markers of `docs/benchmarks.md`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure that a benchmark is meant to reach. `measured` is None where a peer is missing."""

    text: str
    measured: float | None
    at_least: float | None = None
    at_most: float | None = None
    unit: str = "×"

    def row(self) -> tuple[str, str, str]:
        wanted = f"≥ {self.at_least:g} {self.unit}" if self.at_least is not None else f"≤ {self.at_most:g} {self.unit}"
        if self.measured is None:
            return self.text, wanted, "not measured"
        met = self.measured >= self.at_least if self.at_least is not None else self.measured <= (self.at_most or 0)
        return self.text, wanted, f"{self.measured:.3g} {self.unit}, {'met' if met else '**missed**'}"


@dataclass(frozen=True, slots=True)
class Section:
    """The results of one benchmark. `name` is that of its markers in the document."""

    name: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    aims: Sequence[Aim] = ()
    notes: Sequence[str] = field(default_factory=list)

    def markdown(self) -> str:
        parts = [*self.notes, table(self.header, self.rows)]
        if self.aims:
            parts.append(table(("aim", "wanted", "measured"), [aim.row() for aim in self.aims]))
        return "\n\n".join(parts)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned for who reads it as text."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """How many times theirs ours is: the median over the rounds, each of which measured both, one after the other, so
    that a slow minute of the machine falls on both. None where there is nothing to compare."""
    pairs = [mine / its for mine, its in zip(ours, theirs, strict=False) if its > 0]
    return statistics.median(pairs) if pairs else None


def rate_cell(values: Sequence[float]) -> str:
    """The median of rates, and their range if there are several."""
    if not values:
        return "–"
    middle = f"{_short(statistics.median(values))}/s"
    return f"{middle} ({_short(min(values))}–{_short(max(values))})" if len(values) > 1 else middle


def skipped(reason: str) -> str:
    """What stands in place of a peer's figures."""
    return f"skipped: {reason.splitlines()[0][:120]}"


def ratio_cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} ×" if value < 10 else f"{value:.0f} ×"


def _short(value: float) -> str:
    """Three significant digits, with thousands separators."""
    digits = len(str(int(value)))
    return f"{round(value, 3 - digits) if digits > 3 else round(value):,.0f}"


def write(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- /NAME -->` in a document. `ValueError` without them."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    document = path.read_text()
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{path} has no lines {begin} and {end}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")
