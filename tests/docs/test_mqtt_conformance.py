"""The table of the specifications' statements is complete, and the tests that it names are there."""

from __future__ import annotations

import ast
import re
from functools import cache

from tests.docs.test_docs import DOCS, ROOT, section

PAGE = (DOCS / "mqtt-conformance.md").read_text()
ROW = re.compile(r"^\| (\d[\d.]*)-(\d+) \| (.+?) \| (.+?) \|$", re.MULTILINE)


def counts(text: str) -> dict[str, int]:
    return {where: int(count) for where, _, count in (each.partition(":") for each in text.split())}


# How many statements the sections have by appendix B of the specifications (2.2.1 begins with 2).
OF_5 = counts(
    """
    1.5.4:3 1.5.5:1 1.5.7:1 2.1.3:1 2.2.1:6 2.2.2:1 3.1.0:2 3.1.2:30 3.1.3:12 3.1.4:6 3.2.0:2 3.2.2:22
    3.3.1:13 3.3.2:20 3.3.4:10 3.4.2:3 3.5.2:3 3.6.1:1 3.6.2:3 3.7.2:3 3.8.1:1 3.8.3:5 3.8.4:8 3.9.2:2
    3.9.3:2 3.10.1:1 3.10.3:2 3.10.4:6 3.11.2:2 3.11.3:2 3.12.4:1 3.14.0:1 3.14.1:1 3.14.2:4 3.14.4:3
    3.15.1:1 3.15.2:3 4.1.0:2 4.2:1 4.3.1:1 4.3.2:5 4.3.3:13 4.4.0:2 4.5.0:2 4.6.0:6 4.7.0:1 4.7.1:2
    4.7.2:1 4.7.3:4 4.8.2:6 4.9.0:3 4.12.0:7 4.12.1:2 4.13.1:1 4.13.2:1 6.0.0:4
    """
)
OF_3_1_1 = counts(
    """
    1.5.3:3 2.2.2:2 2.3.1:7 3.1.0:2 3.1.2:24 3.1.3:11 3.1.4:5 3.2.0:1 3.2.2:6 3.3.1:12 3.3.2:3 3.3.4:1
    3.3.5:2 3.6.1:1 3.8.1:1 3.8.3:4 3.8.4:6 3.9.3:2 3.10.1:1 3.10.3:2 3.10.4:6 3.12.4:1 3.14.1:1
    3.14.4:3 4.1.0:2 4.3.1:1 4.3.2:2 4.3.3:2 4.4.0:1 4.5.0:2 4.6.0:6 4.7.1:3 4.7.2:1 4.7.3:4 4.8.0:2
    6.0.0:4 7.0.0:2 7.1.1:1 7.1.2:1
    """
)


def statements(version: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for where, number, _, _ in ROW.findall(section(PAGE, version)):
        found.setdefault(where, []).append(int(number))
    return found


def test_every_statement_has_its_row() -> None:
    assert statements("MQTT 5.0") == {
        where: list(range(2 if where == "2.2.1" else 1, count + 1)) for where, count in OF_5.items()
    }
    assert statements("MQTT 3.1.1") == {where: list(range(1, count + 1)) for where, count in OF_3_1_1.items()}


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_is_named_is_there() -> None:
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", PAGE)
    assert len(named) > 200
    for file, test in named:
        assert (not test and names_in(file)) or test in names_in(file), f"{file}::{test}"


def test_every_row_says_what_covers_it_or_why_nothing_does() -> None:
    of_5 = statements("MQTT 5.0")
    reasons = {"the client's own", "never sent", "all are", "there are", "there are none", "there is one copy"}
    reasons.add("no method is supported")
    for _, _, _, covered in ROW.findall(PAGE):
        where, _, number = covered.removeprefix("as 5.0: ").rpartition("-")
        is_shared = covered.startswith("as 5.0: ") and int(number) in of_5[where]
        assert "::" in covered or covered in reasons or is_shared, covered
