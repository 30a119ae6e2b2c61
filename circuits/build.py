"""From `solutions/*.py` to the notebooks of `notebooks/`, through nbgrader's own release step."""

import re
import shutil
import tempfile
from pathlib import Path

from circuits.chapters import CHECK_PREFIX, ROOT, Chapter, chapters, exercise_of, is_setup
from utils.errors import CourseError
from utils.files import write_file

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


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
    for cell in notebook.cells:
        meta = cell.metadata
        nbgrader = dict(schema_version=3, solution=False, grade=False, locked=False, task=False)
        if heading := re.match(r"#+ (.*)", cell.source) if cell.cell_type == "markdown" else None:
            section = heading[1]
        if exercise := exercise_of(cell):
            nbgrader |= {"grade_id": exercise, "solution": True}
            cell.metadata = {"nbgrader": nbgrader}
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
            cell.metadata = {"nbgrader": nbgrader, "tags": ["setup"]}
        cell.id = _cell_id(cell.metadata.get("nbgrader", {}).get("grade_id"), section, seen)
    if exercises != checked:
        raise CourseError(
            f"{chapter.source}: each exercise cell needs one check cell after it; "
            f"exercises: {', '.join(exercises)}; checks: {', '.join(checked)}."
        )
    return new_notebook(cells=notebook.cells, metadata={"kernelspec": KERNEL})


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
    to find. They are not committed."""
    import nbformat

    for chapter in with_source(root):
        file = (destination or root) / "solutions" / chapter.name / f"{chapter.notebook_name}.ipynb"
        text = nbformat.writes(source_notebook(chapter)) + "\n"
        if not file.exists() or file.read_text("utf-8") != text:
            write_file(file, text.encode())


def build(root: Path = ROOT) -> list[Path]:
    """Build every chapter and put the released notebooks in place; returns their paths.

    Nothing in `notebooks/` changes before every chapter has been built.
    """
    todo = with_source(root)
    with tempfile.TemporaryDirectory(prefix="circuits-build-") as folder:
        work = Path(folder)
        write_sources(root, work)
        released = [_release(chapter, work, root) for chapter in todo]
    for chapter, text in zip(todo, released, strict=True):
        write_file(chapter.notebook, text.encode())
    for stray in (root / "notebooks").iterdir():
        if stray.is_dir() and stray.name not in {chapter.name for chapter in todo}:
            shutil.rmtree(stray)  # a chapter that was renamed or removed
    return [chapter.notebook for chapter in todo]


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
