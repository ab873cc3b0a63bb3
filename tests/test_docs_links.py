"""The documentation holds together: links lead somewhere, and every page can be found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parents[1]
README: Final = ROOT / "README.md"
DOCS: Final = ROOT / "docs"
INDEX: Final = DOCS / "index.md"
PAGES: Final = [README, *sorted(DOCS.glob("**/*.md"))]
PICTURES: Final = sorted((DOCS / "images").iterdir())
MOST_BYTES: Final = 200_000
"""What a picture may weigh: a page of the repository has to open at once."""


class Link(NamedTuple):
    """A link to a place in this repository: a file and, perhaps, a heading in it."""

    page: Path
    target: str

    @property
    def file(self) -> Path:
        """The file that the link leads to, which may not be there."""
        path = self.target.partition("#")[0]
        return (self.page.parent / path).resolve() if path else self.page

    @property
    def anchor(self) -> str:
        """The name of the heading; empty without one."""
        return self.target.partition("#")[2]


def prose(page: Path) -> str:
    """A page without its code, in which brackets are no links and `#` is no heading."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(?<!\!)`[^`\n]*`(?!\])", "", text)


def links(page: Path) -> Iterator[Link]:
    """The links and pictures of a page that stay in the repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not re.match(r"[a-z]+:", target):
            yield Link(page, target)


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them: a second one of a name gets `-1`."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    names: list[str] = []
    for heading in re.findall(r"^#{1,6} +(.+?) *$", text, re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        repeated = sum(1 for it in names if it == name)
        names.append(f"{name}-{repeated}" if repeated else name)
    return set(names)


LINKS: Final = [link for page in PAGES for link in links(page)]


def named(link: Link) -> str:
    return f"{link.page.name}: {link.target}"


@pytest.mark.parametrize("link", LINKS, ids=named)
def test_a_link_leads_to_a_file_of_the_repository_and_a_heading_in_it(link: Link) -> None:
    assert not link.target.startswith("/"), "it is not relative"
    assert link.file.is_relative_to(ROOT)
    assert link.file.exists()
    if link.anchor:
        assert link.anchor in anchors(link.file)


def test_the_links_are_found() -> None:
    assert {link.page for link in LINKS} >= {README, INDEX}
    assert len([link for link in LINKS if link.anchor]) >= 3


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_every_page_can_be_reached_from_the_index() -> None:
    reached: set[Path] = set()
    following = [INDEX]
    while following:
        page = following.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        following += [link.file for link in links(page) if link.file != README]
    assert set(DOCS.glob("**/*.md")) - reached == set()


def test_the_index_names_every_page_and_the_readme_every_task() -> None:
    pages = set(DOCS.glob("*.md")) - {INDEX}
    assert pages <= {link.file for link in links(INDEX)}
    assert pages <= {link.file for link in links(README)}


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_shown_somewhere_and_is_light(picture: Path) -> None:
    assert picture in {link.file for link in LINKS}
    assert picture.stat().st_size < MOST_BYTES
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_every_page_begins_with_its_title() -> None:
    for page in PAGES:
        assert page.read_text(encoding="utf-8").startswith("# "), page
