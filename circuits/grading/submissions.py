"""What is taken from a submission: the code of its exercise cells and of the learner's own, and nothing else.

A submission's folder and notebook are a stranger's. Whatever is wrong with them, `read` answers
with the code or refuses with one line that says why.
"""

import io
import json
import os
import re
import stat
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from circuits.chapters import Chapter, decoded, released, words
from circuits.console import plain
from circuits.grading import archives
from circuits.grading.archives import MAX_NOTEBOOK, NotUnpacked

MAX_FILES = 1000
MAX_LINE = 200  # bytes
MAX_NAME = 100  # letters and signs; and twice as many bytes, as some of our files are called after a student
# What nbgrader's exchange puts beside a notebook, and needs again to give feedback.
OF_THE_EXCHANGE = ("timestamp.txt", "submission_secret.txt")
# Of a name, besides letters, marks and digits: blanks, and what some scripts have for apostrophe, hyphen and dot.
_IN_NAMES = (
    " .,@+-_'()[]{}\u00a0\u3000\u200c\u200d\u00b4\u2018\u2019\u055a\u05f3\u05f4\u2010\u2011\u2013\u00b7\u30fb"
)


class Refused(Exception):
    """The submission cannot be graded; the message is one line that says why and what to do."""


class Cell(NamedTuple):
    """A cell of a submission that is run when it is graded."""

    exercise: str  # whose answer it holds by nbgrader's `grade_id`; "" for a cell of the learner's own
    code: str
    was_code: bool = True  # else a learner turned it into text, which Jupyter does not run


def students(submitted: Path, chapter: str) -> list[str]:
    """The names of all who handed in a folder for a chapter, sorted, whatever is in it."""
    try:
        with os.scandir(submitted) as entries:
            names = [e.name for e in entries if os.path.lexists(os.path.join(e.path, chapter))]
    except FileNotFoundError:
        return []
    return sorted(names)


def read(submitted: Path, student: str, chapter: Chapter) -> list[Cell]:
    """What of a submission is run. Raises Refused."""
    notebook, _ = _choice(submitted, student, chapter)
    found = cells(notebook.read(), chapter)
    answered = any(code_of(found, exercise) for exercise in chapter.exercise_names)
    if not answered and not archives.is_named_for(notebook.name, chapter):
        raise Refused(
            f"{notebook} is the only notebook there, and holds no exercise of {chapter.name}; "
            f"ask for {chapter.notebook.name}"
        )
    return found


def note(submitted: Path, student: str, chapter: Chapter) -> str:
    """What is taken of a submission and what is not, if it is not simply the chapter's notebook. Raises Refused."""
    notebook, others = _choice(submitted, student, chapter)
    if not others and str(notebook) == chapter.notebook.name:
        return ""
    return f"taken: {notebook}, not {_some(others)}" if others else f"taken: {notebook}"


def lookalikes(names: list[str], known: list[str]) -> dict[str, str]:
    """Of folders' names, those that look like another's, or like a student's in the gradebook; and what to do."""
    alike: dict[str, set[str]] = {}
    for name in (*names, *known):
        alike.setdefault(as_typed(name), set()).add(name)
    others = {name: sorted(alike[as_typed(name)] - {name}) for name in names}
    return {
        name: f"looks like {ascii(found[0])}, and is graded as {ascii(name)}; rename the folder if they are one"
        for name, found in others.items() if found
    }


def as_typed(name: str) -> str:
    """A name as people type it: macOS takes accents off their letters, and some leave a blank at the end."""
    return unicodedata.normalize("NFC", name).strip()


def check_student(student: str) -> None:
    """Refuse names that a path, a web page, a spreadsheet or a terminal could take for more."""
    kinds = [unicodedata.category(c)[0] for c in student]
    known = all(k in "LMN" or c in _IN_NAMES for k, c in zip(kinds, student, strict=True))
    begins = kinds[:1] in (["L"], ["N"]) or student[:1] in tuple("_'([{\u2018\u2019")
    if not known or not begins or len(student) > MAX_NAME or len(student.encode()) > 2 * MAX_NAME:
        raise Refused(
            "the student's name may hold letters, digits, blanks, brackets and . , ' @ + - _ only, begins with a "
            f"letter or digit, and has at most {MAX_NAME} ({2 * MAX_NAME} bytes); rename the folder"
        )


def _stat(path: Path) -> os.stat_result:
    try:
        return os.lstat(path)
    except OSError as error:
        raise Refused(f"{_shown(path)} cannot be read ({error.strerror}); collect it again") from None


def _shown(path: Path | PurePosixPath | str) -> str:
    name = plain(path.name if isinstance(path, Path) else path, lines=False)
    return name if len(name) <= 50 else f"{name[:47]}..."


def _some(names: list[Any]) -> str:
    """The first three of some names, and how many there are more."""
    more = [f"{len(names) - 3} more"] * (len(names) > 3)
    *first, last = [*map(_shown, names[:3]), *more]
    return f"{', '.join(first)} and {last}" if first else last


def _check_files(folder: Path) -> None:
    """Refuse what must not even be opened: links, pipes, devices; and floods of files."""
    seen = 0
    for place, folders, files in os.walk(folder, onerror=_unreadable):
        for name in (*folders, *files):
            path = Path(place, name)
            mode = _stat(path).st_mode
            seen += 1
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                raise Refused(f"{_shown(path)} is a link or no ordinary file; remove it")
            if seen > MAX_FILES:
                raise Refused(f"there are more than {MAX_FILES} files in the folder; leave only the notebook")
    for name in OF_THE_EXCHANGE:
        if (folder / name).exists() and _stat(folder / name).st_size > MAX_LINE:
            raise Refused(f"{name} is longer than nbgrader writes it; remove it")
    time = folder / "timestamp.txt"
    if time.exists():
        from nbgrader.utils import parse_utc

        try:
            parse_utc(time.read_text("utf-8").strip() or None)
        except Exception:  # dates can be wrong in many ways
            raise Refused("timestamp.txt does not hold a time; correct or remove it") from None


def _unreadable(error: OSError) -> None:
    raise Refused(f"{_shown(Path(error.filename))} cannot be read ({error.strerror}); collect it again")


# Which notebook -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Notebook:
    """A notebook in a submission's folder, or in a zip file there."""

    folder: Path
    path: PurePosixPath  # in the folder
    inside: str | None = None  # the member of the zip file, as the file calls it
    at: PurePosixPath | None = None  # and where it stands in there

    @property
    def name(self) -> str:
        return (self.at or self.path).name

    def __str__(self) -> str:
        return _shown(str(self.path if self.at is None else self.path / self.at))

    def read(self) -> bytes:
        """What it holds. Raises Refused."""
        content = _read(self.folder / self.path)
        if self.inside is None:
            return content
        try:
            for archive, member in archives.members(io.BytesIO(content), MAX_FILES):
                if member.filename == self.inside:
                    return archives.unpacked(archive, member, MAX_NOTEBOOK)
        except NotUnpacked as problem:
            raise Refused(f"{self} {problem}; ask for it again") from None
        raise Refused(f"{self} has gone; collect it again")


def _choice(submitted: Path, student: str, chapter: Chapter) -> tuple[_Notebook, list[str]]:
    """The notebook to grade and what else could have been meant, if it is clear which. Raises Refused."""
    check_student(student)
    folder = submitted / student / chapter.name
    for place in (folder.parent, folder):
        if not stat.S_ISDIR(_stat(place).st_mode):
            raise Refused(f"{_shown(place)} is not a folder (links are not followed); put a folder there")
    _check_files(folder)
    wanted = chapter.notebook.name
    files = [f for f in _files(folder) if archives.is_notebook(f.name) or archives.is_zip(f.name)]
    if PurePosixPath(wanted) in files:
        return _Notebook(folder, PurePosixPath(wanted)), [str(f) for f in files if str(f) != wanted]
    notebooks = [n for f in files for n in _notebooks(folder, f)]
    for fits in (
        lambda n: n.name == wanted,
        lambda n: archives.is_named_for(n.name, chapter),
        lambda n: True,
    ):
        found = [n for n in notebooks if fits(n)]
        if len(found) == 1:
            return found[0], [str(n) for n in notebooks if n != found[0]]
        if found:
            raise Refused(f"there are {_some(found)}; leave the one to grade, as {wanted}")
    others = sorted(f.name for f in folder.iterdir() if f.name not in OF_THE_EXCHANGE)
    there = f" (there is {_some(others)})" if others else ""
    raise Refused(f"there is no {wanted} in the folder{there}; collect it, or rename what is there")


def _files(folder: Path) -> list[PurePosixPath]:
    """The files in a folder and below it, and folders called like a notebook; not what programs keep there."""
    paths = [
        PurePosixPath(Path(place, name).relative_to(folder))
        for place, folders, files in os.walk(folder)
        for name in (*filter(archives.is_notebook, folders), *files)
    ]
    return sorted(path for path in paths if not archives.is_kept_by_a_program(path))


def _notebooks(folder: Path, path: PurePosixPath) -> list[_Notebook]:
    """The notebook that a file is, or those that a zip file holds. Raises Refused."""
    if not archives.is_zip(path.name):
        return [_Notebook(folder, path)]
    found = []
    try:
        for _, member in archives.members(io.BytesIO(_read(folder / path)), MAX_FILES):
            at = archives.path_of(member)
            if archives.is_notebook(at.name) and not archives.is_kept_by_a_program(at):
                found.append(_Notebook(folder, path, member.filename, at))
    except NotUnpacked as problem:
        raise Refused(f"{_shown(path.name)} {problem}; ask for the notebook alone") from None
    return found


def _read(file: Path) -> bytes:
    name = _shown(file)
    try:
        if not stat.S_ISREG(_stat(file).st_mode):
            raise Refused(f"{name} is no ordinary file; put the notebook itself there")
        with open(os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as opened:
            status = os.fstat(opened.fileno())
            if status.st_nlink > 1:
                raise Refused(f"{name} is another name of a file elsewhere (a hard link); copy it")
            if status.st_size > MAX_NOTEBOOK:
                raise Refused(
                    f"{name} has {status.st_size / 1e6:.0f} MB, more than {MAX_NOTEBOOK / 1e6:.0f}; "
                    "clear its outputs"
                )
            return opened.read(MAX_NOTEBOOK + 1)
    except OSError as error:
        raise Refused(f"{name} cannot be read ({error.strerror}); collect it again") from None


# The notebook -------------------------------------------------------------------------------


def cells(notebook: bytes, chapter: Chapter) -> list[Cell]:
    """What of a notebook is run, in its order. Raises Refused.

    Exercise cells, known by nbgrader's `grade_id`; several with the same one (split, or copied) are several. And
    what the learner added or changed: every other code cell that is not, word by word, a cell of the release.
    """
    found = []
    release = released(chapter)
    for number, cell in enumerate(_cells(notebook), 1):
        if type(cell) is not dict:
            raise Refused(f"cell {number} of the notebook is not a cell; open and save it in Jupyter")
        meta = cell.get("metadata")
        nbgrader = meta.get("nbgrader") if type(meta) is dict else None
        name = nbgrader.get("grade_id") if type(nbgrader) is dict else None
        name = name if type(name) is str and name in chapter.exercise_names else ""
        is_code = cell.get("cell_type") == "code"
        if not name and not is_code:
            continue
        text = cell.get("source", cell.get("input", ""))  # "input" in format 3
        if type(text) is list and all(type(line) is str for line in text):
            text = "".join(text)
        if type(text) is not str and not name:
            continue  # no program could have run it
        if type(text) is not str:
            raise Refused(f"the code of {name} is not text; open and save the notebook in Jupyter")
        code = text.encode("utf-8", "replace").decode()
        if name or words(code) not in release:
            found.append(Cell(name, code, is_code))
    return found


def code_of(cells: Sequence[Cell], exercise: str) -> str | None:
    """The code handed in for an exercise: of its cells, else of those that define a function of its name."""
    parts = [cell.code for cell in cells if cell.exercise == exercise]
    parts = parts or [cell.code for cell in cells if not cell.exercise and defines(cell.code, exercise)]
    return "\n\n".join(parts) if parts else None


def found_how(cells: Sequence[Cell], exercise: str) -> str:
    """How an exercise's answer was found, if not as a rule: a line for the report, or ""."""
    own = [cell for cell in cells if cell.exercise == exercise]
    if own and not any(cell.was_code for cell in own):
        return "This answer was found in a cell of text, which Jupyter does not run: make it a code cell."
    if not own and code_of(cells, exercise):
        return "The exercise's own cell is gone: this answer was found by its name, in a cell of yours."
    return ""


def defines(code: str, name: str) -> bool:
    """Whether code defines or assigns a name, as far as its text tells: it may not even compile."""
    return bool(re.search(rf"(?m)^[ \t]*((async[ \t]+)?def[ \t]+{name}\b|{name}[ \t]*=[^=])", code))


def _cells(notebook: bytes) -> list[Any]:
    try:
        tree = json.loads(decoded(notebook))
    except (ValueError, RecursionError, MemoryError) as error:
        why = "it is empty" if not notebook.strip() else type(error).__name__
        raise Refused(f"the notebook is not JSON ({why}); ask for it again") from None
    if type(tree) is not dict:
        raise Refused("the notebook is JSON, but no notebook; ask for it again")
    version = tree.get("nbformat")
    if type(version) is not int or not 3 <= version <= 4:
        shown = repr(version)[:20]
        raise Refused(f"the notebook's format (nbformat) is {shown}, not 3 or 4; open and save it in Jupyter")
    cells = tree.get("cells")
    if version == 3:
        sheets = tree.get("worksheets")
        sheets = sheets if type(sheets) is list else []
        lists = [sheet.get("cells") for sheet in sheets if type(sheet) is dict]
        cells = [cell for some in lists if type(some) is list for cell in some] if lists else None
    if type(cells) is not list:
        raise Refused("the notebook has no list of cells; ask for it again")
    return cells
