"""`nbgrader export` for learning platforms: a column for each chapter, in the form that Canvas or Moodle imports.

    nbgrader export --exporter=circuits.grading.platforms.Canvas --to canvas.csv
    nbgrader export --exporter=circuits.grading.platforms.Moodle --to moodle.csv

Who handed nothing in has an empty cell, which both platforms leave as it is. Marks are nbgrader's: with those given by
hand, less the penalty for being late.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from nbgrader.api import Assignment, Gradebook, MissingEntry, Student
from nbgrader.plugins import ExportPlugin
from traitlets import Bool

from circuits.grading.tables import write_table


class _OneColumnEach(ExportPlugin):
    """A line for each student, with what a platform knows them by, then their mark in each chapter."""

    file = ""  # if `--to` names none
    with_names = Bool(True, help="Whether names and e-mail addresses are written.").tag(config=True)

    def heads(self) -> list[str]:
        """What the columns before the marks are called."""
        raise NotImplementedError

    def person(self, student: Student) -> list[str]:
        """What stands in them for a student."""
        raise NotImplementedError

    def before(self, assignments: list[Assignment]) -> Iterator[list]:
        """Rows between the heads and the first student."""
        yield from ()

    def export(self, gradebook: Gradebook) -> None:
        wanted, chosen = set(map(str, self.assignment)), set(map(str, self.student))
        assignments = [a for a in gradebook.assignments if not wanted or a.name in wanted]
        students = [s for s in gradebook.students if not chosen or s.id in chosen]
        file = Path(self.to or self.file)
        self.log.info("Exporting grades to %s", file)
        rows = [[*self.heads(), *(a.name for a in assignments)], *self.before(assignments)]
        for student in students:
            rows.append([*self.person(student), *(_mark(gradebook, a, student) for a in assignments)])
        write_table(file, rows)


def _mark(gradebook: Gradebook, assignment: Assignment, student: Student) -> float | str:
    """A student's mark, or nothing where nothing was handed in."""
    try:
        handed_in = gradebook.find_submission(assignment.name, student.id)
    except MissingEntry:
        return ""
    return max(0.0, handed_in.score - handed_in.late_submission_penalty)


class Canvas(_OneColumnEach):
    """Canvas' own columns. It finds students by ID, its own number; else by SIS Login ID."""

    file = "canvas.csv"
    numbered = Bool(
        False, help="Whether ids end in the student's number on Canvas, as `nbgrader zip_collect` makes them."
    ).tag(config=True)

    def heads(self) -> list[str]:
        return ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]

    def person(self, student: Student) -> list[str]:
        name = ", ".join(filter(None, (student.last_name, student.first_name))) or student.id
        number = student.lms_user_id or ""
        if self.numbered and (collected := re.fullmatch(r".+_(\d{2,})", student.id)):
            number = number or collected[1]
        return [name * self.with_names, number, "", "" if number else student.id, ""]

    def before(self, assignments: list[Assignment]) -> Iterator[list]:
        yield ["    Points Possible", "", "", "", "", *(a.max_score for a in assignments)]


class Moodle(_OneColumnEach):
    """Columns that Moodle's import lets one map to its own: students by ID number or e-mail address."""

    file = "moodle.csv"

    def heads(self) -> list[str]:
        return ["ID number"] + ["First name", "Last name", "Email address"] * self.with_names

    def person(self, student: Student) -> list[str]:
        names = [student.first_name or "", student.last_name or "", student.email or ""]
        return [student.lms_user_id or student.id] + names * self.with_names
