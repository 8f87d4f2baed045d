"""The documentation says what there is: every setting, every command, and the README's application as it is run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from millstream.app import load_app
from millstream.cli.declarations import commands
from millstream.ledger import names
from millstream.metrics.catalog import CATALOG
from millstream.settings import (
    KafkaSettings,
    Limits,
    ListenerSettings,
    LoggingSettings,
    LogSettings,
    MetricsSettings,
    OtelSettings,
    Rights,
    SessionSettings,
    Settings,
    User,
)

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def section(text: str, heading: str) -> str:
    """The part of a page under a heading that begins so; the part before any for an empty one."""
    parts = re.split(r"^## ", text, flags=re.MULTILINE)
    return next(part for part in parts if part.startswith(heading)) if heading else parts[0]


@pytest.mark.parametrize(
    ("model", "heading"),
    [
        (Settings, ""),
        (Rights, "`[rights]`"),
        (User, "`[users.NAME]`"),
        (ListenerSettings, "`[[listeners]]`"),
        (Limits, "`[limits]`"),
        (SessionSettings, "`[sessions]`"),
        (LogSettings, "`[log]`"),
        (KafkaSettings, "`[log.kafka]`"),
        (MetricsSettings, "`[metrics]`"),
        (LoggingSettings, "`[logging]`"),
        (OtelSettings, "`[otel]`"),
    ],
    ids=lambda value: str(value),
)
def test_every_setting_is_documented_and_no_other(model: type[BaseModel], heading: str) -> None:
    page = section((DOCS / "settings.md").read_text(), heading)
    documented = set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE))
    nested = {"rights", "limits", "sessions", "log", "metrics", "logging", "otel"} if model is Settings else set()
    nested |= {"kafka"} if model is LogSettings else set()
    assert documented == set(model.model_fields) - nested


def test_every_command_is_documented_and_no_other() -> None:
    page = (DOCS / "command-line.md").read_text()
    groups = {str(each.name): each.typer_instance for each in commands.registered_groups if each.typer_instance}
    rows = re.findall(r"^\| `millstream ([\w-]+)(?: ([\w-]+))?", page, flags=re.MULTILINE)
    documented = {f"{name} {more}" if name in groups else name for name, more in rows}
    of_groups = {f"{group} {name}" for group, its in groups.items() for name in names_of(its)}
    assert documented == names_of(commands) | of_groups


def names_of(there: typer.Typer) -> set[str]:
    return {command.name or command.callback.__name__ for command in there.registered_commands if command.callback}


def test_every_count_of_the_ledger_is_documented_and_no_other() -> None:
    page = section((DOCS / "ledger.md").read_text(), "What is counted")
    documented = set(re.findall(r"^\| `([\w-]+)(?::REASON)?` \|", page, flags=re.MULTILINE))
    gateway = {names.RECEIVED, names.COMMITTED, names.DUPLICATES, names.TRANSIENT, names.REJECTED.removesuffix(":")}
    assert documented == gateway | set(names.OUTCOMES)


def test_every_metric_is_documented_as_it_is_and_no_other() -> None:
    page = section((DOCS / "observation.md").read_text(), "Metrics")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\|", page, flags=re.MULTILINE)
    documented = {(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert documented == {(metric.name, metric.kind.value, metric.labels) for metric in CATALOG}
    assert len(rows) == len(CATALOG)


def test_every_statement_about_processing_names_a_test_that_there_is() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (DOCS / "processing.md").read_text())
    assert named
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"


def test_the_readmes_application_is_the_example_and_can_be_planned() -> None:
    snippet = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert snippet is not None
    example = (ROOT / "examples" / "plant.py").read_text()
    assert example.partition("\n\n")[2] == snippet[1]
    app = load_app(str(ROOT / "examples" / "plant.py"))
    app.check()
    assert {"telemetry", "events", "alerts", "overheating.late"} <= set(app.streams)


def pages() -> Iterator[Path]:
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))
    yield from sorted(DOCS.glob("*.md"))


@pytest.mark.parametrize("page", list(pages()), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
