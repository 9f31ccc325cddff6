"""Links within the repository lead somewhere, and every page can be found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, anchors, every, links


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in every()])
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    """The file is there, and the heading."""
    wrong = []
    for link in links(page):
        path = (page.parent / link.path).resolve() if link.path else page
        if not path.exists() or (link.anchor and link.anchor not in anchors(path)):
            wrong.append(str(link))
    assert wrong == []


def test_the_index_names_every_page() -> None:
    """`docs/README.md` links to each page of the documentation."""
    index = ROOT / "docs" / "README.md"
    named = {(index.parent / link.path).resolve() for link in links(index) if link.path}
    assert [page.name for page in sorted(index.parent.glob("*.md")) if page not in named | {index}] == []
