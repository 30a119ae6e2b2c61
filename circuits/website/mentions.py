"""What the words of a page lead to: those of the glossary, and the papers that it names. Read off `docs/glossary.md` and
`docs/references.md`, which say each thing once."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docutils.nodes import make_id

from utils.errors import CourseError


@dataclass(frozen=True)
class Word:
    """A row of the glossary: what it is called, what it is, and where a chapter introduces it."""

    names: tuple[str, ...]
    meaning: str
    chapter: str  # a notebook's name, as in its file's
    section: str  # the heading

    @property
    def anchor(self) -> str:
        return f"term-{make_id(self.names[0])}"


@dataclass(frozen=True)
class Paper:
    """A row of the references."""

    authors: str
    year: str
    title: str
    address: str

    @property
    def names(self) -> list[str]:
        return re.findall(r"[A-Z]?[\w’'-]{2,}", re.sub(r"\b(and|others)\b", "", self.authors))


def words(file: Path) -> list[Word]:
    """The rows of the glossary. Raises CourseError for one that has another form."""
    found = []
    for row in _rows(file):
        place = re.fullmatch(r"\[\d+, “(.+)”\]\(\S*?(\w+)\.ipynb\)", row[2]) if len(row) == 3 else None
        if not place:
            raise CourseError(f'{file}: a row is | **word** | what it is | [1, “Section”](../notebooks/.../NAME.ipynb) |, not {row}.')
        found.append(Word(tuple(row[0].strip("*").split(", ")), row[1], place[2], place[1]))
    return found


def papers(file: Path) -> list[Paper]:
    """The rows of the references. Raises CourseError for one that has another form."""
    found = []
    for row in _rows(file):
        link = re.fullmatch(r"\[.+\]\((https://\S+)\)", row[3]) if len(row) == 4 else None
        if not link or not re.fullmatch(r"\d{4}", row[1]):
            raise CourseError(f"{file}: a row is | authors | year | *title* | [where](https://...) |, not {row}.")
        found.append(Paper(row[0], row[1], row[2].strip("*").replace("\\", ""), link[1]))
    return found


def _rows(file: Path) -> Iterator[list[str]]:
    """The cells of each row of a page's table, without its head."""
    lines = [line for line in file.read_text("utf-8").splitlines() if line.startswith("|")]
    return ([cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[2:])


def words_pattern(todo: list[Word]) -> re.Pattern:
    """Any name of these words in running text, in singular or plural, the longest first."""
    names = sorted((name for word in todo for name in word.names), key=len, reverse=True)
    return re.compile(rf"(?<![\w-])({'|'.join(map(_spaced, names))})(?:s|es)?(?![\w-])", re.IGNORECASE)


def _spaced(name: str) -> str:
    return r"\s+".join(map(re.escape, name.split()))


def word_of(found: str, todo: list[Word]) -> Word:
    """The word that a match of `words_pattern` named."""
    name = " ".join(found.lower().split())
    return next(word for word in todo if name in map(str.lower, word.names))


# "Elhage et al., 2021", "Geva and others (2022)", "Hewitt and Liang (2019)", "Nanda, 2023"
CITATION = re.compile(
    r"(?P<name>[A-Z][\w’'-]+)(?:(?:, [A-Z][\w’'-]+)* and (?:others|[A-Z][\w’'-]+)| et al\.)?,? (?P<bracket>\()?"
    r"(?P<year>(?:19|20)\d\d)(?(bracket)\)|\b)"
)


def cited(found: re.Match, known: list[Paper]) -> Paper | None:
    """The paper that a match of CITATION names; None if it is none of these, or could be several."""
    fitting = [p for p in known if found["name"] == p.names[0] and found["year"] == p.year]
    return fitting[0] if len(fitting) == 1 else None


def titled(text: str, known: list[Paper]) -> Paper | None:
    """The paper whose title this is, or begins with: `Interpretability in the Wild`."""
    said = " ".join(text.replace("’", "'").split())
    whole = [p for p in known if p.title == said or p.title.partition(":")[0].partition("?")[0] == said.rstrip("?")]
    fitting = whole or [p for p in known if len(said) > 12 and p.title.startswith(f"{said} ")]
    return fitting[0] if len(fitting) == 1 else None
