"""How Sphinx makes a site of these pages: `make docs`. Nothing in it is fetched from elsewhere, neither when it is made
nor when it is read: a plant without the internet reads it too."""

from __future__ import annotations

import re
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

project = "Millstream"
author = "the Millstream contributors"
version = release = version_of("millstream")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3  # links to headings work as on GitHub

highlight_language = "none"  # of blocks that do not say: most are commands
default_role = "code"  # docstrings have names in single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"
autodoc_default_options = {"members": True}
autodoc_inherit_docstrings = False
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"Millstream {release}"
html_copy_source = False

_FETCHES = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'>]+"""
    r"""|<link\b[^>]*\bhref=["']?(?:https?:)?//[^"'>]+"""
    r"""|(?:@import|url\()\s*["']?(?:https?:)?//[^"')]+"""
)


def _check_fetches(app: Sphinx, error: Exception | None) -> None:
    """Fail if anything on a page would come from another server."""
    if error is not None:
        return
    for path in sorted(Path(app.outdir).rglob("*")):
        if path.suffix in (".html", ".css") and (found := _FETCHES.search(path.read_text())):
            raise ExtensionError(f"{path.relative_to(app.outdir)} fetches from elsewhere: {found[0]}")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("build-finished", _check_fetches)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
