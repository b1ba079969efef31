"""Builds the documentation site: `make docs` writes build/site. Nothing it shows is fetched from elsewhere.

The source is the whole repository, so that a link from a page to a claim card, a benchmark or a source file is the same
on the site as in the repository.
"""

from typing import Any

NAVIGATION: dict[str, tuple[str, ...]] = {
    "Start": ("docs/first_five_minutes", "docs/concepts", "docs/own_car", "docs/faq"),
    "Numbers": ("docs/protocols", "results/*", "benchmarks/README"),
    "Data": ("docs/files", "docs/world", "docs/labels", "docs/scale", "docs/features", "docs/foundation"),
    "Use": ("docs/viewing", "docs/figures", "docs/export", "docs/sharing"),
    "Systems": (
        "docs/lift",
        "docs/radocc",
        "docs/occnerf",
        "docs/easyocc",
        "docs/langocc",
        "docs/cigocc",
        "docs/monoscene",
        "docs/occscene",
    ),
    "Extend": ("docs/conventions", "docs/add_a_method", "docs/add_a_dataset", "CONTRIBUTING", "CHANGELOG"),
}
"""Heading -> pages, as paths without `.md` from the root of the repository. A test sees that no page is missing."""

project = "occkit"
copyright = "occkit contributors, Apache-2.0"
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["docs/*.md", "results/*.md", "benchmarks/README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "occkit"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_site"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0072b2", "color-brand-content": "#0067a0"},
    "dark_css_variables": {"color-brand-primary": "#6cbdf0", "color-brand-content": "#6cbdf0"},
}
pygments_style = "a11y-light"
pygments_dark_style = "a11y-dark"


def _add_what_a_page_lacks(app: Any, page: str, source: list[str]) -> None:
    """Give a claim card a title, and the front page the navigation: neither needs to be seen in the repository."""
    del app
    if page.startswith("results/"):
        source[0] = f"# Claim card: {page.removeprefix('results/')}\n\n{source[0]}"
    if page == root_doc:
        for heading, pages in NAVIGATION.items():
            entries = "\n".join(f"/{entry}" for entry in pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:glob:\n:caption: {heading}\n\n{entries}\n```\n"


def setup(app: Any) -> None:
    """Register the hook; called by Sphinx."""
    app.connect("source-read", _add_what_a_page_lacks)
