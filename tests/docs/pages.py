"""The Markdown of the repository as its tests see it: code blocks, headings and links, by a CommonMark parser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
_PARSER = MarkdownIt("commonmark").enable("table")
_NOT_RUN = re.compile(r"<!--\s*not run\b:?\s*(.*?)\s*-->", re.DOTALL)
_UNWANTED = {".venv", "node_modules", "build"}


class Block(NamedTuple):
    """A code block. `reason` is why it is not run: None if it is, empty if the page does not say."""

    page: Path
    line: int  # of the fence, the first is 1
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


class Link(NamedTuple):
    """A link within the repository."""

    page: Path
    line: int
    path: str  # relative to the page's folder, or empty
    anchor: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}: {self.path}{'#' if self.anchor else ''}{self.anchor}"


def every() -> list[Path]:
    """Give all Markdown files."""
    return sorted(path for path in ROOT.rglob("*.md") if not _UNWANTED & {*path.relative_to(ROOT).parts})


def with_code() -> list[Path]:
    """Give the pages whose code blocks have to hold."""
    return [path for path in every() if path.name != "CHANGELOG.md" and blocks(path)]


@cache
def _tokens(page: Path) -> list[Token]:
    return _PARSER.parse(page.read_text(encoding="utf-8"))


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    """Give a page's code blocks in their order; an indented one is taken for commands."""
    found = []
    before: Token | None = None
    for token in _tokens(page):
        if token.type in {"fence", "code_block"}:
            assert token.map is not None
            said = _NOT_RUN.fullmatch(before.content.strip()) if before and before.type == "html_block" else None
            words = token.info.split()
            language = "sh" if token.type == "code_block" else words[0] if words else "text"
            found.append(Block(page, token.map[0] + 1, language, token.content, said[1] if said else None))
        before = token
    return tuple(found)


def links(page: Path) -> Iterator[Link]:
    """Give a page's links to files and anchors of the repository."""
    for token in _tokens(page):
        for child in token.children or ():
            target = child.attrGet("href") if child.type == "link_open" else child.attrGet("src")
            if target and not re.match(r"[a-z]+:", str(target)):
                path, _, anchor = str(target).partition("#")
                yield Link(page, token.map[0] + 1 if token.map else 0, path, anchor)


@cache
def anchors(page: Path) -> frozenset[str]:
    """Give the anchors that GitHub makes of a page's headings."""
    found: set[str] = set()
    for opening, inline in pairwise(_tokens(page)):
        if opening.type == "heading_open":
            text = "".join([child.content for child in inline.children or ()])
            name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            number = 0
            while (anchor := f"{name}-{number}" if number else name) in found:
                number += 1
            found.add(anchor)
    return frozenset(found)
