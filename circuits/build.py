"""From `solutions/*.py` to the notebooks of `notebooks/`, through nbgrader's own release step."""

import ast
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from symtable import SymbolTable, symtable

from circuits.cells import names_made
from circuits.chapters import CHECK_PREFIX, ROOT, Chapter, chapters, exercise_of, is_setup, source
from utils.errors import CourseError
from utils.files import write_file

KERNEL = {"display_name": "Circuits", "language": "python", "name": "circuits"}  # circuits/jupyter/kernels

DRAWING = {"plt", "plots", "interactive", "views"}  # the names by which notebooks call what draws
FOLDED = 6  # lines from which a cell that only draws is folded

# What the set-up cell of a notebook begins with: in another kernel, on another machine, in VS Code or Colab, the first import
# would fail with a traceback that does not say what to do.
GUARD = """\
try:
    import circuits
except ModuleNotFoundError as missing:  # say what to do, in a line
    missing._render_traceback_ = lambda: [
        "The course is not in this kernel: choose the kernel Circuits (top right), or install it: "
        "`make lab` in a clone of it, or `pip install` of the wheel that you were given."
    ]
    raise
"""



def source_notebook(chapter: Chapter):
    """A chapter's percent script as nbgrader's source notebook.

    Exercise cells become solution cells, check cells become test cells whose points are the sum
    of the checks' own, the set-up cell is locked. Raises CourseError for a cell that names an
    exercise without checks, or one that has no check cell.
    """
    import jupytext
    from nbformat.v4 import new_notebook

    notebook = jupytext.read(chapter.source, fmt="py:percent")
    seen: dict[str, int] = {}
    section = chapter.notebook_name
    exercises, checked = [], []
    only_draw = _only_draw(notebook.cells)
    for place, cell in enumerate(notebook.cells):
        meta = cell.metadata
        nbgrader = dict(schema_version=3, solution=False, grade=False, locked=False, task=False)
        if heading := re.match(r"#+ (.*)", cell.source) if cell.cell_type == "markdown" else None:
            section = heading[1]
        if exercise := exercise_of(cell):
            nbgrader |= {"grade_id": exercise, "solution": True}
            cell.metadata = {"nbgrader": nbgrader}
            if "was" in meta:  # names that it had in earlier releases, for answers and progress that have them
                cell.metadata["circuits"] = {"was": meta["was"].split()}
            exercises.append(exercise)
        elif "check" in meta:
            exercise = meta["check"]
            points = sum(check.points for check in chapter.checks(exercise))
            if not points:
                raise CourseError(f"{chapter.source}: {exercise!r} has no check in {chapter.checks_file}.")
            grade_id = CHECK_PREFIX + exercise
            nbgrader |= {"grade_id": grade_id, "grade": True, "locked": True, "points": points}
            cell.metadata = {"nbgrader": nbgrader}
            checked.append(exercise)
        elif is_setup(cell):
            nbgrader |= {"grade_id": "setup", "locked": True}
            cell.source = f"{GUARD}\n{cell.source}"
            cell.metadata = {"nbgrader": nbgrader, "tags": ["setup"]}
        elif cell.cell_type == "code":  # where everything runs at once, one that a wrong answer breaks stops no other
            cell.metadata = {"tags": ["raises-exception"]}
            if place in only_draw:  # what it draws is said above it; a click shows how
                cell.metadata["jupyter"] = {"source_hidden": True}
        cell.id = _cell_id(cell.metadata.get("nbgrader", {}).get("grade_id"), section, seen)
    if exercises != checked:
        raise CourseError(
            f"{chapter.source}: each exercise cell needs one check cell after it; "
            f"exercises: {', '.join(exercises)}; checks: {', '.join(checked)}."
        )
    return new_notebook(cells=notebook.cells, metadata={"kernelspec": KERNEL})


def _only_draw(cells: list) -> set[int]:
    """The places of the cells that draw, in more than a few lines, and make nothing that a later cell takes."""
    found: set[int] = set()
    taken: set[str] = set()  # by the cells below
    for place in reversed(range(len(cells))):
        cell = cells[place]
        if cell.cell_type == "code":
            takes, makes = _takes(cell.source), names_made(cell.source)
            if takes & DRAWING and len(cell.source.splitlines()) >= FOLDED and not makes & taken:
                found.add(place)
            taken = taken - makes | takes
    return found


def _takes(code: str) -> set[str]:
    """The names that a cell reads before it makes them itself."""
    takes: set[str] = set()
    made: set[str] = set()
    for statement in ast.parse(code).body:
        text = ast.unparse(statement)
        makes = names_made(text)
        # What a loop or a `with` makes, it made before it reads it; `x = f(x)` reads it first.
        own = set() if isinstance(statement, ast.Assign | ast.AugAssign) else makes
        takes |= _globals_read(symtable(text, "cell", "exec")) - made - own
        made |= makes
    return takes


def _globals_read(scope: SymbolTable) -> set[str]:
    """The names of the notebook that code reads, also within the functions that it defines."""
    top = scope.get_type() == "module"
    found = {s.get_name() for s in scope.get_symbols() if s.is_referenced() and (top or s.is_global())}
    return found.union(*map(_globals_read, scope.get_children()))


def _cell_id(grade_id: str | None, section: str, seen: dict[str, int]) -> str:
    """An id that an edit elsewhere does not change: by name, or by section and place in it."""
    stem = grade_id or re.sub(r"[^a-z0-9]+", "-", section.lower()).strip("-")[:50]
    seen[stem] = seen.get(stem, 0) + 1
    return stem if grade_id else f"{stem}-{seen[stem]}"


def with_source(root: Path = ROOT) -> list[Chapter]:
    """The chapters whose script is here: none in a copy of the course for learners."""
    return [chapter for chapter in chapters(root) if chapter.source.exists()]


def write_sources(root: Path = ROOT, destination: Path | None = None) -> None:
    """Write each chapter's source notebook beside its script (or under `destination`), for nbgrader
    to find. They are not committed.

    Each nbgrader command does this, and making them takes seconds: one that bears the time of the newest file it is
    made from is up to date."""
    import nbformat

    for chapter in with_source(root):
        file = (destination or root) / "solutions" / chapter.name / f"{chapter.notebook_name}.ipynb"
        newest = max(f.stat().st_mtime_ns for f in (chapter.source, chapter.checks_file, Path(__file__)))
        if file.exists() and file.stat().st_mtime_ns == newest:
            continue
        text = nbformat.writes(source_notebook(chapter)) + "\n"
        if not file.exists() or file.read_text("utf-8") != text:
            write_file(file, text.encode())
        os.utime(file, ns=(newest, newest))


def build(root: Path = ROOT) -> list[Path]:
    """Build every chapter and put the released notebooks in place; returns their paths.

    Nothing in `notebooks/` changes before every chapter has been built. Raises CourseError, and changes nothing,
    where somebody has solved one of the notebooks.
    """
    todo = with_source(root)
    names = {chapter.name for chapter in todo}
    folders = [folder for folder in (root / "notebooks").iterdir() if folder.is_dir()]
    strays = [folder for folder in folders if folder.name not in names]  # a chapter that was renamed or removed
    beside = (file for folder in strays for file in folder.rglob("*") if file.is_file())
    refuse_to_overwrite(chapter.notebook for chapter in todo if chapter.notebook.exists())
    refuse_to_overwrite(file for file in beside if file.parent.name != ".ipynb_checkpoints")
    with tempfile.TemporaryDirectory(prefix="circuits-build-") as folder:
        work = Path(folder)
        write_sources(root, work)
        released = [_release(chapter, work, root) for chapter in todo]
    for chapter, text in zip(todo, released, strict=True):
        write_file(chapter.notebook, text.encode())
    for stray in strays:
        shutil.rmtree(stray)
    return [chapter.notebook for chapter in todo]


def refuse_to_overwrite(files: Iterable[Path]) -> None:
    """Raise CourseError if one of these files of a release holds what somebody has made of it."""
    for file in files:
        if found := made_by_somebody(file):
            raise CourseError(
                f"{file} holds {found}, which would be lost: move it to where you work (`circuits lab` "
                "makes `work/`), and run the same command again. Nothing was changed."
            )


def made_by_somebody(file: Path) -> str | None:
    """What is in a file that its release did not put there, as far as one can see without having that release:
    answers, by nbgrader's own checksums, or in cells for something else, and cells that Jupyter made."""
    from nbformat import from_dict
    from nbgrader.utils import compute_checksum

    if file.suffix != ".ipynb":
        return "what the course did not make"
    answers, others = [], 0
    try:
        notebook = json.loads(file.read_bytes())
        cells = notebook["cells"] if "cells" in notebook else []
        exercises = [exercise for cell in cells if (exercise := exercise_of(cell))]
        define = re.compile(rf"^(async +)?def +({'|'.join(map(re.escape, exercises))})\b", re.MULTILINE)
        for cell in cells:
            text, meta = source(cell), cell["metadata"].get("nbgrader", {})
            if exercise_of(cell):
                if compute_checksum(from_dict({**cell, "source": text})) != meta.get("checksum"):
                    answers.append(exercise_of(cell))
            elif exercises and define.search(text):
                answers.append(define.search(text)[2])
            elif text.strip() and not meta.get("grade_id"):
                others += not re.fullmatch(r"[a-z0-9-]+-\d{1,3}", cell.get("id", ""))  # as `_cell_id` makes them
    except (ValueError, KeyError, TypeError, AttributeError):
        return "what cannot be read as a notebook"
    found = [f"answers ({', '.join(answers[:3])}{', ...' * (len(answers) > 3)})"] * bool(answers)
    return " and ".join(found + [f"{others} cell{'s' * (others > 1)} of somebody's own"] * bool(others)) or None


def _release(chapter: Chapter, work: Path, root: Path) -> str:
    """The text of the released notebook, made by `nbgrader generate_assignment` under `work`."""
    from nbgrader.converters import GenerateAssignment
    from nbgrader.converters.base import NbGraderException
    from nbgrader.coursedir import CourseDirectory
    from traitlets.config.loader import PyFileConfigLoader

    config = PyFileConfigLoader("nbgrader_config.py", str(root)).load_config()
    config.CourseDirectory.root = str(work)
    config.CourseDirectory.assignment_id = chapter.name
    config.GenerateAssignment.no_database = True  # what `--no-db` does: no gradebook is involved
    config.SaveCells.enabled = False
    try:
        GenerateAssignment(coursedir=CourseDirectory(config=config), config=config).start()
    except (NbGraderException, SystemExit) as error:
        raise CourseError(f"nbgrader could not release {chapter.source}: {error}") from error
    return Chapter(chapter.name, work).notebook.read_text("utf-8")
