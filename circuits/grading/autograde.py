"""`nbgrader autograde`, safe: answers from the submission, everything else from the source.

nbgrader's own step runs a submission's cells and check cells in one kernel. Here the code of the
exercise cells goes into a notebook made from the course's source; the preprocessor `GradeAnswers`
has it graded, with the answers in a sandbox; nbgrader's own preprocessors then save the marks.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import Autograde
from nbgrader.converters.base import BaseConverter, NbGraderException
from nbgrader.preprocessors import ClearSolutions, NbGraderPreprocessor
from nbgrader.utils import compute_checksum, is_grade, is_solution
from traitlets import Bool

from circuits.build import source_notebook
from circuits.chapters import CHECK_PREFIX, Chapter
from circuits.exercises import Report, points_text
from circuits.grading import submissions
from circuits.grading.gradebook import follow, opened
from circuits.grading.grader import Graded, Grader, Job, seed
from circuits.grading.records import read_secret
from utils.errors import CourseError
from utils.files import write_file

NOT_HANDED_IN = "# Nothing was handed in for this exercise."


def install() -> None:
    """Let nbgrader's commands and formgrader's buttons use this step, and our own of releasing: they look the
    classes up here."""
    import nbgrader.apps.api
    import nbgrader.apps.autogradeapp
    import nbgrader.apps.generateassignmentapp

    from circuits.grading.release import SafeRelease

    nbgrader.apps.api.Autograde = SandboxedAutograde
    nbgrader.apps.autogradeapp.Autograde = SandboxedAutograde
    nbgrader.apps.api.GenerateAssignment = SafeRelease
    nbgrader.apps.generateassignmentapp.GenerateAssignment = SafeRelease


class GradeAnswers(NbGraderPreprocessor):
    """Takes the place of nbgrader's `Execute`: puts points and report into each check cell."""

    require_sandbox = Bool(
        False, help="Refuse to grade where submissions cannot be run in a sandbox."
    ).tag(config=True)

    def preprocess(self, nb: NotebookNode, resources) -> tuple[NotebookNode, dict]:
        of = resources["nbgrader"]
        graded = resources.get("graded")  # the batch has done it already
        if graded is None:
            graded = self._grade(nb, resources["grader"], of["student"], of["assignment"])
        if graded.error:
            raise NbGraderException(f"{of['student']}: {graded.error}")
        if graded.unsandboxed:
            self.log.warning(
                "NOT SANDBOXED: the code of %s ran with your rights on this machine (%s)",
                of["student"], graded.unsandboxed,
            )
        results = {result.exercise: result for result in graded.results}
        for cell in filter(is_grade, nb.cells):
            result = results[cell.metadata.nbgrader.grade_id.removeprefix(CHECK_PREFIX)]
            report = Report(result, graded=True, unsandboxed=graded.unsandboxed)
            data = {"text/plain": points_text(result.points), "text/html": report.html()}
            cell.execution_count = 1
            cell.outputs = [new_output("execute_result", data, execution_count=1)]
        return nb, resources

    def _grade(self, nb: NotebookNode, grader: Grader, student: str, chapter: str) -> Graded:
        grader.start()
        if self.require_sandbox and grader.unsandboxed:
            return Graded(error=f"not graded, as there is no sandbox: {grader.unsandboxed}")
        cells = {
            cell.metadata.nbgrader.grade_id: cell.source
            for cell in nb.cells
            if is_solution(cell) and cell.source != NOT_HANDED_IN
        }
        root = Path.cwd()  # nbgrader converts in the course's folder
        return grader.grade(Job(chapter, cells, seed(read_secret(root), student, chapter, cells), root))


class SandboxedAutograde(Autograde):
    """nbgrader's converter, which opens of a submission only what `submissions.read` lets through."""

    # By student, what the batch has found already.
    graded: dict[str, Graded] = {}

    def convert_notebooks(self) -> None:
        if not self.graded:  # or the batch has seen to it
            chapter = Chapter(self.coursedir.assignment_id, Path(self.coursedir.root))
            try:
                bring_up_to_date(self.coursedir, chapter, self.log)
            except CourseError as error:
                self.log.error(str(error))
                raise NbGraderException(str(error)) from None
        with Grader() as self.grader:
            super().convert_notebooks()
        if n := len(self.refused):
            message = f"{n} submission{'s' * (n > 1)} refused: see the lines above"
            self.log.error(message)
            raise NbGraderException(message)

    def init_notebooks(self) -> None:
        """Find the submissions. nbgrader takes names for patterns and passes by what does not match
        its own; here each folder is read or refused."""
        self.cells: dict[str, dict[str, str]] = {}  # by student, the code by exercise
        self.refused: dict[str, str] = {}  # by student, why a submission is not graded
        chapter = Chapter(self.coursedir.assignment_id, Path(self.coursedir.root))
        if self.coursedir.student_id == "*":
            for student in submissions.students(self._submitted(), chapter.name):
                self._read(student, chapter)
        try:
            super().init_notebooks()
        except NbGraderException:
            if not self.refused:
                raise
        self.assignments = {
            folder: found
            for folder, found in self.assignments.items()
            if Path(folder).parent.name not in self.refused
        }

    def _read(self, student: str, chapter: Chapter) -> None:
        try:
            self.cells[student] = submissions.read(self._submitted(), student, chapter)
        except submissions.Refused as refusal:
            self.refused[student] = str(refusal)
            self.log.error("%s: refused: %s", ascii(student), refusal)

    def init_destination(self, assignment_id: str, student_id: str) -> bool:
        if student_id not in self.cells:
            self._read(student_id, Chapter(assignment_id, Path(self.coursedir.root)))
        return student_id in self.cells and super().init_destination(assignment_id, student_id)

    def _submitted(self) -> Path:
        return Path(self.coursedir.root, self.coursedir.submitted_directory)

    def init_assignment(self, assignment_id: str, student_id: str) -> None:
        with _nothing_else_copied(self.coursedir):
            super().init_assignment(assignment_id, student_id)
        folder = self._submitted() / student_id / assignment_id
        for name in submissions.OF_THE_EXCHANGE:
            if (folder / name).exists():
                copy = Path(self._format_dest(assignment_id, student_id), name)
                write_file(copy, (folder / name).read_bytes())
        if not (folder / "timestamp.txt").exists():  # nbgrader would keep the time of an earlier one
            with Gradebook(self.coursedir.db_url, self.coursedir.course_id) as gradebook:
                gradebook.find_submission(assignment_id, student_id).timestamp = None
                gradebook.db.commit()

    def init_single_notebook_resources(self, notebook_filename: str) -> dict:
        resources = super().init_single_notebook_resources(notebook_filename)
        student = resources["nbgrader"]["student"]
        return {**resources, "grader": self.grader, "graded": self.graded.get(student)}

    def convert_single_notebook(self, notebook_filename: str) -> None:
        """Write the notebook that is graded, then grade it. (nbgrader's own method reads the
        submitted one.)"""
        resources = self.init_single_notebook_resources(notebook_filename)
        of = resources["nbgrader"]
        chapter = Chapter(of["assignment"], Path(self.coursedir.root))
        notebook = notebook_with(chapter, self.cells[of["student"]])
        file = Path(self._format_dest(chapter.name, of["student"]), chapter.notebook.name)
        write_file(file, nbformat.writes(notebook).encode())
        self._sanitizing = False
        try:
            self._init_preprocessors()
            BaseConverter.convert_single_notebook(self, str(file))
        finally:
            self._sanitizing = True


def bring_up_to_date(coursedir, chapter: Chapter, log) -> None:
    """Let the gradebook follow a chapter, if it knows it, and say so. Raises CourseError for a gradebook that
    cannot be used."""
    with opened(coursedir) as gradebook, suppress(MissingEntry):
        if done := follow(gradebook, chapter.notebook_name, chapter.name, notebook_with(chapter, {})):
            log.warning(done)


@contextmanager
def _nothing_else_copied(coursedir) -> Iterator[None]:
    """Other files of a submission count for nothing, and stay where they are."""
    before = coursedir.ignore
    coursedir.ignore = [*before, "*"]
    try:
        yield
    finally:
        coursedir.ignore = before


def notebook_with(chapter: Chapter, cells: dict[str, str]) -> NotebookNode:
    """The chapter's notebook as released, with a submission's code in its exercise cells."""
    notebook = deepcopy(_pristine(chapter, chapter.source.stat().st_mtime_ns))
    for cell in filter(is_solution, notebook.cells):
        cell.source = cells.get(cell.metadata.nbgrader.grade_id, NOT_HANDED_IN)
    return notebook


@lru_cache(maxsize=8)
def _pristine(chapter: Chapter, mtime: int) -> NotebookNode:
    notebook, _ = ClearSolutions().preprocess(source_notebook(chapter), {})
    for cell in filter(is_solution, notebook.cells):
        cell.metadata.nbgrader.checksum = compute_checksum(cell)  # "no response" if it stays so
    return notebook
