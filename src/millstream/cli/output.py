"""What people and scripts see: data on standard output, everything else on standard error.

Colours only where a terminal shows them (and `NO_COLOR` is not set).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

PIPE_WIDTH = 500  # a table in a pipe is for grep and awk: no line of it should break
_NAME_WIDTH, _WORD_WIDTH = 24, 10  # what is not broken in a narrow terminal: what a row is about; a date, a number


def tell_error(text: str) -> None:
    """One red line (or as many as the error has) for a person."""
    typer.secho(f"error: {text}", err=True, fg="red")


def tell(text: str) -> None:
    """A line for a person, beside the data."""
    typer.echo(text, err=True)


def write_line(text: str) -> None:
    """A line of data, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_json(value: Any) -> None:
    """A value as indented JSON."""
    import msgspec

    write_line(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def make_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table whose columns of numbers stand to the right. Where it is wider than the terminal, texts are broken and
    nothing is cut off."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for number, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[number], int | float) for row in rows)
        words = [len(word) for row in rows for word in _cell(row[number]).split(" ")]
        table.add_column(
            column,
            justify="right" if numeric else "left",
            overflow="fold",
            min_width=min(max(words, default=0), _WORD_WIDTH if number else _NAME_WIDTH),
        )
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    return table


def show_tables(*tables: Table) -> None:
    """Print tables on standard output."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
    for number, table in enumerate(tables):
        if number:
            console.print()
        console.print(table)


@contextmanager
def progress(doing: str, what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on standard error, if a person looks there. It is told how many of how many (None: who knows) are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn(what), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def make_facts(facts: Mapping[str, object]) -> Table:
    """Names and values, one a line."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(Text(name, "bold"), Text(_cell(value)))
    return table


def printable(text: str) -> str:
    """`text` with control characters escaped: a device must not be able to steer somebody's terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}".replace(",", " ")  # a narrow space
    return printable(str(value))
