"""The pages: every one is in the navigation, every relative link, anchor and picture is there. Needs no builder."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "results/*.md", "benchmarks/*.md", "examples/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"(!?)\[[^\]]*\]\(([^()\s]+)\)")
MAX_PICTURE_BYTES = 150_000


def prose(page: str) -> str:
    """Return a page without its code."""
    text = re.sub(r"^( *)```.*?^\1```", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", lambda code: re.sub(r"[\[\]()]", "", code[0]), text)


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#{1,6} +(.+?) *$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: str) -> list[tuple[bool, str]]:
    found = [(mark == "!", target) for mark, target in LINK.findall(prose(page))]
    return [(picture, target) for picture, target in found if not re.match(r"[a-z]+:", target)]


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_and_pictures_are_there(page: str) -> None:
    for picture, target in links(page):
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page}: {target} leads nowhere"
        assert ROOT in file.resolve().parents, f"{page}: {target} leads out of the repository"
        assert not picture or file.suffix in (".png", ".jpg", ".svg"), f"{page}: {target} is no picture"
        if anchor:
            there = anchors(file.resolve().relative_to(ROOT).as_posix())
            assert anchor in there, f"{page}: {target}: {path or page} has no such heading, but {sorted(there)}"


def test_every_page_is_in_the_navigation_once() -> None:
    spec = importlib.util.spec_from_file_location("docs_conf", ROOT / "docs" / "conf.py")
    assert spec is not None
    assert spec.loader is not None
    conf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conf)
    entries = [entry for pages in conf.NAVIGATION.values() for entry in pages]
    shown = [p.relative_to(ROOT).with_suffix("").as_posix() for e in entries for p in ROOT.glob(f"{e}.md")]
    missing = [entry for entry in entries if not list(ROOT.glob(f"{entry}.md"))]
    assert not missing, f"docs/conf.py: NAVIGATION names {missing}, which are not there"
    assert len(shown) == len(set(shown))
    lost = {page.with_suffix("").relative_to(ROOT).as_posix() for page in ROOT.glob("docs/*.md")} - set(shown)
    assert lost == {conf.root_doc}, f"add these pages to NAVIGATION in docs/conf.py: {sorted(lost - {conf.root_doc})}"


def test_the_site_fetches_nothing() -> None:
    for path in (
        *(ROOT / "docs" / "_static").glob("*"),
        *(ROOT / "docs" / "_site").glob("*"),
        ROOT / "docs" / "conf.py",
    ):
        assert not re.search(r"(?:src|href|url|import)\W{1,3}(?:https?:)?//", path.read_text()), path


def test_pictures_of_the_concepts_are_small() -> None:
    pictures = sorted((ROOT / "docs" / "images").glob("concept_*"))
    assert len(pictures) == 3
    assert all(path.stat().st_size < MAX_PICTURE_BYTES for path in pictures)
