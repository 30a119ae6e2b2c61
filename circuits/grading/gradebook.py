"""nbgrader's gradebook when things have changed: the exercises of a chapter, deadlines, nbgrader itself."""

import datetime
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from inspect import getsourcefile
from pathlib import Path

from nbformat import NotebookNode
from nbgrader.api import (
    Assignment,
    Base,
    BaseCell,
    Comment,
    Grade,
    Gradebook,
    GradeCell,
    SolutionCell,
    SourceCell,
    SubmittedAssignment,
    SubmittedNotebook,
)
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import AssignLatePenalties
from nbgrader.utils import is_grade, is_locked, is_solution
from sqlalchemy import create_engine, func, inspect, select
from sqlalchemy.exc import DatabaseError
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from circuits.chapters import CHECK_PREFIX
from utils.errors import CourseError


def course_config(root: Path) -> Config:
    """nbgrader's settings in a course's folder. Raises CourseError where there are none."""
    if not (root / "nbgrader_config.py").exists():
        raise CourseError(f"There is no nbgrader_config.py in {root}: run this in the course's folder.")
    config = PyFileConfigLoader("nbgrader_config.py", str(root)).load_config()
    config.CourseDirectory.root = str(root)
    return config


@contextmanager
def opened(coursedir: CourseDirectory) -> Iterator[Gradebook]:
    """The gradebook. Raises CourseError, which says what to do, for one that this nbgrader cannot use."""
    try:
        _check_schema(coursedir.db_url)
        with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
            yield gradebook
    except DatabaseError as error:
        raise CourseError(f"The gradebook ({coursedir.db_url}) cannot be used: {error.orig}.") from None


def _check_schema(url: str) -> None:
    """Raise CourseError for a database that lacks a column, before nbgrader adds to it."""
    engine = create_engine(url)
    try:
        database = inspect(engine)
        has = {name: {c["name"] for c in database.get_columns(name)} for name in database.get_table_names()}
    finally:
        engine.dispose()
    wants = {table.name: {column.name for column in table.columns} for table in Base.metadata.sorted_tables}
    if has and any(columns - has.get(name, set()) for name, columns in wants.items()):
        raise CourseError(
            "The gradebook was made by an older nbgrader: run `nbgrader db upgrade`, which keeps a copy of it, "
            "and then this command again."
        )


def follow(gradebook: Gradebook, notebook_name: str, chapter: str, released: NotebookNode) -> str | None:
    """Bring what the gradebook knows of a chapter's exercises to what they are now, also after work was handed
    in, when nbgrader itself refuses to: what was dropped goes, its marks with it, what is new has no marks
    yet, and all else stays. One line says what was done; None if nothing was to be done. `released` is the
    chapter's notebook as nbgrader's own steps make it. Raises MissingEntry for a chapter that was never
    released."""
    known = gradebook.find_notebook(notebook_name, chapter)
    sources = {
        cell.metadata.nbgrader.grade_id: cell
        for cell in released.cells
        if is_grade(cell) or is_solution(cell) or is_locked(cell)
    }
    points = {name: cell.metadata.nbgrader.points for name, cell in sources.items() if is_grade(cell)}
    answers = [name for name, cell in sources.items() if is_solution(cell)]
    marks = {cell.name: cell for cell in known.grade_cells}
    submissions = list(known.submissions)
    said = []

    gone = [cell for cell in known.grade_cells if cell.name not in points]
    kept = ""
    if any(cell.grades for cell in gone):
        kept = _copy(gradebook)
    for cell in gone:
        n = sum(grade.score > 0 for grade in cell.grades)
        lost = f", which {n} of {len(cell.grades)} had some of" * bool(n)
        said.append(f"dropped {_exercise(cell.name)} with its {cell.max_score:g} points{lost}")
    gone += [cell for cell in known.solution_cells if cell.name not in answers]
    for cell in gone:
        for of_a_student in (*cell.grades, *cell.comments):
            gradebook.db.delete(of_a_student)
    for cell in (*gone, *(cell for cell in known.source_cells if cell.name not in sources)):
        gradebook.db.delete(cell)

    for name, of in points.items():
        if name in marks and marks[name].max_score != of:
            said.append(f"{_exercise(name)} has {of:g} points instead of {marks[name].max_score:g}")
            marks[name].max_score = of
        elif name not in marks:
            said.append(f"added {_exercise(name)} with {of:g} points")
            new = GradeCell(name=name, notebook=known, max_score=of, cell_type="code")
            gradebook.db.add_all([new, *(Grade(cell=new, notebook=s) for s in submissions)])
    for name in set(answers) - {cell.name for cell in known.solution_cells}:
        new = SolutionCell(name=name, notebook=known)
        gradebook.db.add_all([new, *(Comment(cell=new, notebook=s) for s in submissions)])
    for name in sources.keys() - {cell.name for cell in known.source_cells}:
        cell = sources[name]
        new = dict(cell_type=cell.cell_type, source=cell.source, locked=is_locked(cell))
        gradebook.db.add(SourceCell(name=name, notebook=known, **new))
    gradebook.db.commit()  # all of it, or nothing where the process is killed
    if not said:
        return None
    return f"The gradebook follows the chapter: {'; '.join(said)}. All other marks stay.{kept}"


def _exercise(grade_id: str) -> str:
    return grade_id.removeprefix(CHECK_PREFIX)


def _copy(gradebook: Gradebook) -> str:
    """Copy a gradebook that is a file, as `nbgrader db upgrade` does; says so."""
    file = gradebook.engine.url.database
    if gradebook.engine.dialect.name != "sqlite" or not file:
        return ""
    copy = f"{file}.{datetime.datetime.now():%Y-%m-%d-%H%M%S.%f}"
    shutil.copy(file, copy)
    return f" As it was before, it is {Path(copy).name}."


def scores(gradebook: Gradebook, chapter: str) -> dict[str, tuple[float, float]]:
    """By student, the late penalty of a chapter and the score less that, as `nbgrader export` has them."""
    of_chapter = (
        select(SubmittedAssignment.student_id)
        .join(Assignment, Assignment.id == SubmittedAssignment.assignment_id)
        .join(SubmittedNotebook, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
        .where(Assignment.name == chapter)
        .group_by(SubmittedAssignment.student_id)
    )
    sums = of_chapter.join(Grade, Grade.notebook_id == SubmittedNotebook.id).add_columns(func.sum(Grade.score))
    late = of_chapter.add_columns(func.sum(func.coalesce(SubmittedNotebook.late_submission_penalty, 0.0)))
    penalties = dict(gradebook.db.execute(late).all())
    return {
        student: (penalties[student], max(0.0, total - penalties[student]))
        for student, total in gradebook.db.execute(sums).all()
    }


def marks(gradebook: Gradebook, chapter: str) -> dict[tuple[str, str], float]:
    """By student and exercise, the points in a chapter, with marks given by hand, before any penalty."""
    query = (
        select(SubmittedAssignment.student_id, BaseCell.name, Grade.score)
        .join(Assignment, Assignment.id == SubmittedAssignment.assignment_id)
        .join(SubmittedNotebook, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
        .join(Grade, Grade.notebook_id == SubmittedNotebook.id)
        .join(BaseCell, BaseCell.id == Grade.cell_id)
        .where(Assignment.name == chapter)
    )
    return {(student, _exercise(cell)): score for student, cell, score in gradebook.db.execute(query)}


def seconds_late(gradebook: Gradebook, chapter: str) -> dict[str, float]:
    """By student, how much later than the deadline, extensions counted, the work on a chapter came; of those who
    were late."""
    assignment = gradebook.find_assignment(chapter)
    if assignment.duedate is None:
        return {}
    return {s.student_id: s.total_seconds_late for s in assignment.submissions if s.total_seconds_late > 0}


def late_rules(config: Config, root: Path) -> str:
    """A digest of what decides how much being late costs: the settings, and the code of the plugin."""
    plugin = AssignLatePenalties(config=config).plugin_class
    digest = hashlib.sha256((root / "nbgrader_config.py").read_bytes())
    with suppress(OSError, TypeError):  # a class without a file of its own: it is in the settings
        digest.update(Path(getsourcefile(plugin)).read_bytes())
    return digest.hexdigest()[:16]
