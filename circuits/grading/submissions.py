"""What is taken from a submission: the code of its exercise cells and of the learner's own, and nothing else.

A submission's folder and notebook are a stranger's. Whatever is wrong with them, `read` answers
with the code or refuses with one line that says why.
"""

import json
import os
import re
import stat
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from circuits.chapters import Chapter, exercise_of, read_cells, source

MAX_NOTEBOOK = 16 * 1024**2  # bytes
MAX_FILES = 1000
MAX_LINE = 200  # bytes
# What nbgrader's exchange puts beside a notebook, and needs again to give feedback.
OF_THE_EXCHANGE = ("timestamp.txt", "submission_secret.txt")
_STUDENT = re.compile(r"\w[\w.@+\- ]{0,99}")


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
    check_student(student)
    folder = submitted / student / chapter.name
    for place in (folder.parent, folder):
        if not stat.S_ISDIR(_stat(place).st_mode):
            raise Refused(f"{_shown(place)} is not a folder (links are not followed); put a folder there")
    _check_files(folder)
    return cells(_read_notebook(folder / chapter.notebook.name), chapter)


def check_student(student: str) -> None:
    """Refuse names that a shell, a file pattern, a web page or a terminal could take for more."""
    if not _STUDENT.fullmatch(student):
        raise Refused(
            "the student's name may hold letters, digits, spaces and . @ + - _ only; rename the folder"
        )


def _stat(path: Path) -> os.stat_result:
    try:
        return os.lstat(path)
    except OSError as error:
        raise Refused(f"{_shown(path)} cannot be read ({error.strerror}); collect it again") from None


def _shown(path: Path) -> str:
    name = "".join(c if c.isprintable() else "?" for c in path.name)
    return name if len(name) <= 50 else f"{name[:47]}..."


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


def _read_notebook(file: Path) -> bytes:
    if not os.path.lexists(file):
        others = sorted(p.name for p in file.parent.glob("*.ipynb"))
        found = f" (there is {', '.join(_shown(Path(n)) for n in others[:3])})" if others else ""
        raise Refused(f"there is no {file.name} in the folder{found}; collect it, or rename what is there")
    try:
        if not stat.S_ISREG(_stat(file).st_mode):
            raise Refused(f"{file.name} is no ordinary file; put the notebook itself there")
        with open(os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as opened:
            status = os.fstat(opened.fileno())
            if status.st_nlink > 1:
                raise Refused(f"{file.name} is another name of a file elsewhere (a hard link); copy it")
            if status.st_size > MAX_NOTEBOOK:
                raise Refused(
                    f"{file.name} has {status.st_size / 1e6:.0f} MB, more than {MAX_NOTEBOOK / 1e6:.0f}; "
                    "clear its outputs"
                )
            return opened.read(MAX_NOTEBOOK + 1)
    except OSError as error:
        raise Refused(f"{file.name} cannot be read ({error.strerror}); collect it again") from None


# The notebook -------------------------------------------------------------------------------


def cells(notebook: bytes, chapter: Chapter) -> list[Cell]:
    """What of a notebook is run, in its order. Raises Refused.

    Exercise cells, known by nbgrader's `grade_id`; several with the same one (split, or copied) are several. And
    what the learner added or changed: every other code cell that is not, word by word, a cell of the release.
    """
    found = []
    released = _released(chapter, chapter.source.stat().st_mtime_ns)
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
        if name or _words(code) not in released:
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


@lru_cache(maxsize=16)
def _released(chapter: Chapter, mtime: int) -> frozenset[str]:
    cells = (c for c in read_cells(chapter.source) if c["cell_type"] == "code" and not exercise_of(c))
    return frozenset(_words(source(cell)) for cell in cells)


def _words(code: str) -> str:
    """Code without what an editor may change at the ends of lines."""
    return "\n".join(line.rstrip() for line in code.strip().splitlines())


def _cells(notebook: bytes) -> list[Any]:
    try:
        tree = json.loads(notebook.decode("utf-8-sig"))
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
