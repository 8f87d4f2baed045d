"""Ratios, tables, and where they are written."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.report import Aim, Section, rate_cell, ratio, table, write


def test_a_ratio_compares_rounds_with_each_other() -> None:
    assert ratio([100, 50, 300], [10, 5, 100]) == 10
    assert ratio([], [10]) is None


def test_rates_have_three_digits() -> None:
    assert rate_cell([123_456]) == "123,000/s"
    assert rate_cell([12, 1_234, 98_765]) == "1,230/s (12–98,800)"


def test_an_aim_says_whether_it_is_met() -> None:
    assert Aim("a", 3.2, at_least=3).row() == ("a", "≥ 3 ×", "3.2 ×, met")
    assert Aim("a", 2.9, at_least=3).row() == ("a", "≥ 3 ×", "2.9 ×, **missed**")
    assert Aim("a", 0.4, at_most=1, unit="%").row() == ("a", "≤ 1 %", "0.4 %, met")
    assert Aim("a", None, at_least=3).row()[2] == "not measured"


def test_a_section_replaces_what_stands_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- one -->\nold\n<!-- /one -->\nafter\n")
    section = Section("one", ("a", "b"), [("1", "22")])
    write(page, "one", section.markdown())
    write(page, "one", section.markdown())
    assert page.read_text() == f"before\n<!-- one -->\n{table(('a', 'b'), [('1', '22')])}\n<!-- /one -->\nafter\n"


def test_a_page_without_markers_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing here")
    with pytest.raises(ValueError, match="<!-- one -->"):
        write(page, "one", "text")
