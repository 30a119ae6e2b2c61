"""`nbgrader autograde`, safe: answers from the submission, everything else from the source.

nbgrader's own step runs a submission's cells and check cells in one kernel. Here the code of the
exercise cells, and the learner's own, goes into a notebook made from the course's source; the preprocessor `GradeAnswers`
has it graded, with the answers in a sandbox; nbgrader's own preprocessors then save the marks.
"""

import fnmatch
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import nbformat
import nbgrader.utils
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_output
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import Autograde, GenerateFeedback
from nbgrader.converters.base import BaseConverter, NbGraderException
from nbgrader.preprocessors import ClearSolutions, NbGraderPreprocessor
from nbgrader.utils import compute_checksum, is_grade, is_solution
from traitlets import Bool

from circuits.build import source_notebook
from circuits.chapters import CHECK_PREFIX, Chapter
from circuits.console import plain, take_any_console
from circuits.report import Report
from circuits.results import points_text
from circuits.grading import submissions
from circuits.grading.gradebook import follow, opened
from circuits.grading.grader import Graded, Grader, Job, seed
from circuits.grading.records import Record, Records, fingerprint, read_secret
from circuits.grading.submissions import Cell
from utils.errors import CourseError
from utils.files import write_file

NOT_HANDED_IN = "# Nothing was handed in for this exercise."


def install() -> None:
    """Let nbgrader's commands and formgrader's buttons use this step, and our own of releasing: they look the
    classes up here."""
    import nbgrader.apps.api
    import nbgrader.apps.autogradeapp
    import nbgrader.apps.generateassignmentapp
    import nbgrader.apps.generatefeedbackapp

    from circuits.grading.release import SafeRelease

    nbgrader.apps.api.Autograde = SandboxedAutograde
    nbgrader.apps.autogradeapp.Autograde = SandboxedAutograde
    nbgrader.apps.api.GenerateAssignment = SafeRelease
    nbgrader.apps.generateassignmentapp.GenerateAssignment = SafeRelease
    nbgrader.apps.api.GenerateFeedback = FeedbackByName
    nbgrader.apps.generatefeedbackapp.GenerateFeedback = FeedbackByName
    nbgrader.utils.is_ignored = _is_ignored
    logging.setLogRecordFactory(PlainRecord)
    take_any_console()


class PlainRecord(logging.LogRecord):
    """Names and messages from submissions stand in nbgrader's log: no terminal takes them for more."""

    def getMessage(self) -> str:
        return plain(super().getMessage())


def _is_ignored(filename: str, ignore_globs: list[str] | None = None) -> bool:
    """As nbgrader's own, which takes the folder for a pattern too, and so overlooks all in `[a] student`."""
    return any(fnmatch.fnmatch(os.path.basename(filename), pattern) for pattern in ignore_globs or ())


def students(converter: BaseConverter) -> list[str]:
    """Whose work a converter is to take: all, one, or those that fit a pattern. nbgrader takes names for patterns
    and cuts blanks off them; here a name is a name first."""
    wanted, chapter = converter.coursedir.student_id, converter.coursedir.assignment_id
    names = submissions.students(Path(converter.coursedir.root, converter._input_directory), chapter)
    if wanted == "*":
        return names
    alike = [name for name in names if submissions.as_typed(name) == submissions.as_typed(wanted)]
    return [name for name in alike if name == wanted] or alike or fnmatch.filter(names, wanted)


class FeedbackByName(GenerateFeedback):
    """nbgrader's converter, for students of any name."""

    def init_notebooks(self) -> None:
        chapter = self.coursedir.assignment_id
        folders = [Path(self._format_source(chapter, student)) for student in students(self)]
        found = {str(folder): [str(file) for file in folder.glob("*.ipynb")] for folder in folders}
        self.notebooks, self.assignments = [], {folder: files for folder, files in found.items() if files}
        if not self.assignments:
            super().init_notebooks()  # says so


class GradeAnswers(NbGraderPreprocessor):
    """Takes the place of nbgrader's `Execute`: puts points and report into each check cell."""

    require_sandbox = Bool(
        False, help="Refuse to grade where submissions cannot be run in a sandbox."
    ).tag(config=True)

    def preprocess(self, nb: NotebookNode, resources) -> tuple[NotebookNode, dict]:
        of = resources["nbgrader"]
        graded = resources.get("graded")  # the batch has done it already
        if graded is None:
            graded = self._grade(resources["cells"], resources["grader"], of["student"], of["assignment"])
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

    def _grade(self, cells: list[Cell], grader: Grader, student: str, chapter: str) -> Graded:
        grader.start()
        if self.require_sandbox and grader.unsandboxed:
            return Graded(error=f"not graded, as there is no sandbox: {grader.unsandboxed}")
        root = Path.cwd()  # nbgrader converts in the course's folder
        graded = grader.grade(Job(chapter, cells, seed(read_secret(root), student, chapter, cells), root))
        if not graded.error:  # for `circuits report`, and for a batch, which then need not find it again
            Records(root, chapter).write(student, Record(fingerprint(Chapter(chapter, root), cells), graded))
        return graded


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
        """Find the submissions: each folder is read or refused."""
        self.cells: dict[str, list[Cell]] = {}  # by student, what is run
        self.refused: dict[str, str] = {}  # by student, why a submission is not graded
        chapter = Chapter(self.coursedir.assignment_id, Path(self.coursedir.root))
        for student in self.graded or students(self):
            self._read(student, chapter)
        if not self.cells and not self.refused:
            super().init_notebooks()  # says that nothing is there
        self.notebooks, self.assignments = [], {
            folder: [os.path.join(folder, chapter.notebook.name)]
            for folder in (self._format_source(chapter.name, student) for student in self.cells)
        }

    def _read(self, student: str, chapter: Chapter) -> None:
        try:
            self.cells[student] = submissions.read(self._submitted(), student, chapter)
            if note := submissions.note(self._submitted(), student, chapter):
                self.log.warning("%r: %s", student, note)
        except submissions.Refused as refusal:
            self.refused[student] = str(refusal)
            self.log.error("%r: refused: %s", student, refusal)

    def _submitted(self) -> Path:
        return Path(self.coursedir.root, self.coursedir.submitted_directory)

    def init_assignment(self, assignment_id: str, student_id: str) -> None:
        self.log.addFilter(_is_no_wrong_warning)
        try:
            with _nothing_else_copied(self.coursedir):
                super().init_assignment(assignment_id, student_id)
        finally:
            self.log.removeFilter(_is_no_wrong_warning)
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
        found = {"grader": self.grader, "graded": self.graded.get(student), "cells": self.cells[student]}
        return {**resources, **found}

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


def _is_no_wrong_warning(record: logging.LogRecord) -> bool:
    """nbgrader misses a notebook of another name, which has been read."""
    return not str(record.msg).startswith("No submitted file")


def bring_up_to_date(coursedir, chapter: Chapter, log) -> None:
    """Let the gradebook follow a chapter, if it knows it, and say so. Raises CourseError for a gradebook that
    cannot be used."""
    with opened(coursedir) as gradebook, suppress(MissingEntry):
        if done := follow(gradebook, chapter.notebook_name, chapter.name, notebook_with(chapter, [])):
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


def notebook_with(chapter: Chapter, cells: Sequence[Cell]) -> NotebookNode:
    """The chapter's notebook as released, with a submission's code in its exercise cells, and before the exercise that
    follows them the cells of the learner's own."""
    notebook = deepcopy(_pristine(chapter, chapter.source.stat().st_mtime_ns))
    shown: set[str] = set()  # code that stands in an exercise's cell
    for cell in filter(is_solution, notebook.cells):
        code = submissions.code_of(cells, cell.metadata.nbgrader.grade_id)
        cell.source = NOT_HANDED_IN if code is None else code
        shown.add(cell.source)
    own: list[NotebookNode] = []
    before: dict[str, list[NotebookNode]] = {}
    for at, cell in enumerate(cells):
        if cell.exercise:
            before.setdefault(cell.exercise, []).extend(own)
            own = []
        elif cell.code not in shown:
            own.append(new_code_cell(cell.code, id=f"own-{at}"))
    after = []
    for cell in notebook.cells:
        after += before.get(cell.metadata.nbgrader.grade_id, []) if is_solution(cell) else []
        after.append(cell)
    notebook.cells = after + own
    return notebook


@lru_cache(maxsize=8)
def _pristine(chapter: Chapter, mtime: int) -> NotebookNode:
    notebook, _ = ClearSolutions().preprocess(source_notebook(chapter), {})
    for cell in filter(is_solution, notebook.cells):
        cell.metadata.nbgrader.checksum = compute_checksum(cell)  # "no response" if it stays so
    return notebook
