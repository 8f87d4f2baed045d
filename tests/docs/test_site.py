"""The site that `make docs` builds: every page has its place in the navigation, every public name in the reference."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def test_every_page_has_its_place_in_the_navigation() -> None:
    trees = re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(), flags=re.DOTALL)
    places = re.findall(r"^(?!:)(?:.*<)?([\w-]+)>?$", "".join(trees), flags=re.MULTILINE)
    pages = ["self" if page.stem == "index" else page.stem for page in DOCS.glob("*.md")]
    assert sorted(places) == sorted(pages)


@pytest.mark.parametrize("module", ["millstream", "millstream.client", "millstream.gateway", "millstream.testing"])
def test_every_public_name_is_in_the_reference(module: str) -> None:
    page = (DOCS / "api.md").read_text()
    documented = re.findall(rf"^\.\. auto(?!module)\w+:: {re.escape(module)}\.(\w+)$", page, flags=re.MULTILINE)
    public = import_module(module).__all__
    elsewhere = {"Client"} if module == "millstream.client" else set()
    assert sorted(documented) == sorted(set(public) - elsewhere)
