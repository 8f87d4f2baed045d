"""The Grafana dashboard, and the alerts in the docs, ask for metrics and labels that there are."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millstream.cli import frame
from millstream.metrics import Kind
from millstream.metrics.catalog import CATALOG

DOCS = Path(__file__).parents[2] / "docs"

_SERIES = {
    name: metric
    for metric in CATALOG
    for name in (
        [f"{metric.name}_{part}" for part in ("bucket", "sum", "count")]
        if metric.kind is Kind.HISTOGRAM
        else [metric.name]
    )
}
_SCRAPED = {"instance", "job", "le"}  # labels that Prometheus, or a histogram, adds


@pytest.fixture
def dashboard(capfd: pytest.CaptureFixture[str]) -> Any:
    assert frame.execute(["grafana"]) == 0
    return json.loads(capfd.readouterr().out)


def alerts() -> list[str]:
    page = (DOCS / "observation.md").read_text()
    rules = page.partition("### Alerts worth having\n```yaml\n")[2].partition("```")[0]
    return [one or other for one, other in re.findall(r"""expr: (?:"([^"]*)"|'([^']*)')""", rules)]


def expressions(dashboard: Any) -> Iterator[str]:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["expr"]
    yield from alerts()


def test_every_series_and_label_that_is_asked_for_is_there(dashboard: Any) -> None:
    asked = set()
    for expression in expressions(dashboard):
        names = set(re.findall(r"\b(?:millstream|process)_\w+", expression))
        assert names, expression
        assert names <= set(_SERIES), expression
        labels = set(itertools.chain.from_iterable(_SERIES[name].labels for name in names)) | _SCRAPED
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression))
        for listed in re.findall(r"(?:by|on) \(([^)]*)\)", expression):
            used |= {label.strip() for label in listed.split(",")}
        assert used <= labels, expression
        for name in names:
            is_counting = _SERIES[name].kind is not Kind.GAUGE or name.endswith("next_offset")
            assert is_counting == bool(re.search(rf"(?:rate|increase)\({name}\b", expression)), expression
        asked |= {_SERIES[name] for name in names}
    unseen = {metric.name for metric in set(CATALOG) - asked}
    assert unseen == {"millstream_stream_first_offset", "process_virtual_memory_bytes"}


def test_names_in_a_legend_are_labels_of_the_series(dashboard: Any) -> None:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            in_legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = re.findall(r"by \(([^)]*)\)", target["expr"])
            if kept:
                assert in_legend <= {label.strip() for label in kept[-1].split(",")}, target


def test_panels_have_a_place_of_their_own(dashboard: Any) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_understands_every_expression(dashboard: Any, tmp_path: Path) -> None:
    rules = [
        {"record": f"n{number}", "expr": each.replace("$__rate_interval", "1m").replace("$instance", ".*")}
        for number, each in enumerate(expressions(dashboard))
    ]
    assert len(rules) > 50
    path = tmp_path / "rules.json"  # which is YAML
    path.write_text(json.dumps({"groups": [{"name": "millstream", "rules": rules}]}))
    checked = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
