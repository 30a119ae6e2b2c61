"""The glossary: every word is where it says, in the chapter and under the heading."""

import re

import pytest

from circuits.chapters import ROOT, chapters
from circuits.parts import heading, is_text, source_cells

PAGE = (ROOT / "docs" / "glossary.md").read_text("utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if line.startswith("| **")]


def sections(number: str) -> dict[str, str]:
    """The texts of a chapter by the heading of their section, in lower case; its opening under its title."""
    chapter = next(c for c in chapters() if c.name.startswith(f"{number}_"))
    found: dict[str, str] = {}
    at = ""
    for cell in filter(is_text, source_cells(chapter.source)):
        if re.match("##? ", heading(cell)):
            at = heading(cell).lstrip("# ")
        found[at] = f"{found.get(at, '')}\n{cell.text}".lower()
    return found


def test_words_are_in_order_and_none_comes_twice():
    words = [row[0].strip("*").lower() for row in ROWS]
    assert len(words) > 50 and words == sorted(set(words))


@pytest.mark.parametrize("word, meaning, where", [pytest.param(*row, id=row[0].strip("*")) for row in ROWS])
def test_each_word_is_explained_and_stands_where_it_says(word, meaning, where):
    place = re.fullmatch(r"\[(\d), “(.+)”\]\(\.\./(notebooks/\S+\.ipynb)\)", where)
    assert place and (ROOT / place[3]).exists() and place[3].startswith(f"notebooks/{place[1]}_"), where
    text = sections(place[1])[place[2]]
    names = re.split(", ", word.strip("*").lower())
    assert any(name in " ".join(text.split()) for name in names), names
    assert len(meaning) > 30 and not meaning.lower().startswith(names[0])
