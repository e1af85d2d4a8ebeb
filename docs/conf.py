"""How the documentation is built: `uv run --group docs sphinx-build -W docs build/docs`."""

from __future__ import annotations

from importlib.metadata import version as version_of
from typing import Any

project = "b2b_payments"
release = version_of("b2b-payments")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click"]

html_theme = "furo"
html_title = f"b2b_payments {release}"
html_show_copyright = False

smartquotes = False  # keep the two hyphens of options
myst_heading_anchors = 3
default_role = "literal"  # in docstrings, `name` is code

add_module_names = False
autodoc_class_signature = "mixed"
autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    "exclude-members": "joined",  # an internal method of public classes
}


def setup(app: Any) -> None:
    """Redirect links to files that are also pages of this documentation."""
    app.connect("source-read", _link)


def _link(_: object, __: str, source: list[str]) -> None:
    source[0] = source[0].replace("(../benchmarks/README.md", "(benchmarks.md")
