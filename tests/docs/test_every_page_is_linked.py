"""No page is lost, and no link leads nowhere."""

import re
from pathlib import Path

import pytest

from ssmd import config

ROOT = config.application_folder()
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "deploy").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """What a page's headings can be linked by."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{page.name} links {target}, which is not there"
        assert not anchor or anchor in anchors(there), f"{page.name} links #{anchor}, which {there.name} has not"


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / target).resolve() for target, _ in LINK.findall(index.read_text())}
    lost = set(PAGES) - linked - {index} - set((ROOT / "deploy").glob("*.md"))
    assert not lost, f"add a line for {', '.join(sorted(page.name for page in lost))} to docs/README.md"
    assert "(docs/README.md)" in (ROOT / "README.md").read_text()
