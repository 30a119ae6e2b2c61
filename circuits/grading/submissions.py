"""What is taken from a submission: the code of its exercise cells, and nothing else.

A submission's folder and notebook are a stranger's. Whatever is wrong with them, `read` answers
with the code by exercise or refuses with one line that says why.
"""

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from circuits.chapters import Chapter

MAX_NOTEBOOK = 16 * 1024**2  # bytes
MAX_FILES = 1000
MAX_LINE = 200  # bytes
# What nbgrader's exchange puts beside a notebook, and needs again to give feedback.
OF_THE_EXCHANGE = ("timestamp.txt", "submission_secret.txt")
_STUDENT = re.compile(r"\w[\w.@+\- ]{0,99}")


class Refused(Exception):
    """The submission cannot be graded; the message is one line that says why and what to do."""


def students(submitted: Path, chapter: str) -> list[str]:
    """The names of all who handed in a folder for a chapter, sorted, whatever is in it."""
    try:
        with os.scandir(submitted) as entries:
            names = [e.name for e in entries if os.path.lexists(os.path.join(e.path, chapter))]
    except FileNotFoundError:
        return []
    return sorted(names)


def read(submitted: Path, student: str, chapter: Chapter) -> dict[str, str]:
    """The code of a submission's exercise cells, by exercise. Raises Refused."""
    check_student(student)
    folder = submitted / student / chapter.name
    for place in (folder.parent, folder):
        if not stat.S_ISDIR(_stat(place).st_mode):
            raise Refused(f"{_shown(place)} is not a folder (links are not followed); put a folder there")
    _check_files(folder)
    return answers(_read_notebook(folder / chapter.notebook.name), chapter)


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


def answers(notebook: bytes, chapter: Chapter) -> dict[str, str]:
    """The code of a notebook's exercise cells, by exercise. Raises Refused.

    Cells are known by nbgrader's `grade_id`. Several with the same one (split, or copied) count as
    one, in their order, as they would when the notebook is run.
    """
    exercises = chapter.exercise_names
    parts: dict[str, list[str]] = {}
    for number, cell in enumerate(_cells(notebook), 1):
        if type(cell) is not dict:
            raise Refused(f"cell {number} of the notebook is not a cell; open and save it in Jupyter")
        meta = cell.get("metadata")
        nbgrader = meta.get("nbgrader") if type(meta) is dict else None
        name = nbgrader.get("grade_id") if type(nbgrader) is dict else None
        if type(name) is not str or name not in exercises or cell.get("cell_type") != "code":
            continue
        source = cell.get("source", cell.get("input", ""))  # "input" in format 3
        if type(source) is list and all(type(line) is str for line in source):
            source = "".join(source)
        if type(source) is not str:
            raise Refused(f"the code of {name} is not text; open and save the notebook in Jupyter")
        parts.setdefault(name, []).append(source.encode("utf-8", "replace").decode())
    return {name: "\n\n".join(parts[name]) for name in exercises if name in parts}


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
