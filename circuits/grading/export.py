"""`nbgrader export`, for students of any name: in nbgrader's own table, without quotes, a comma moves the marks."""

from pathlib import Path

from nbgrader.api import Gradebook, MissingEntry
from nbgrader.plugins import ExportPlugin

from circuits.grading.tables import write_table

COLUMNS = (
    "assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email",
    "raw_score", "late_submission_penalty", "score", "max_score",
)  # fmt: skip


class QuotedCsv(ExportPlugin):
    """nbgrader's table: a line for each assignment and student, 0 for who handed nothing in."""

    def export(self, gradebook: Gradebook) -> None:
        file = Path(self.to or "grades.csv")
        self.log.info("Exporting grades to %s", file)
        rows = [list(COLUMNS)]
        for assignment in gradebook.assignments:
            if self.assignment and assignment.name not in map(str, self.assignment):
                continue
            for student in gradebook.students:
                if self.student and student.id not in map(str, self.student):
                    continue
                timestamp, score, penalty = "", 0.0, 0.0
                try:
                    handed_in = gradebook.find_submission(assignment.name, student.id)
                    timestamp, score = handed_in.timestamp, handed_in.score
                    penalty = handed_in.late_submission_penalty
                except MissingEntry:
                    pass
                person = (student.id, student.last_name, student.first_name, student.email)
                marks = (score, penalty, max(0.0, score - penalty), assignment.max_score)
                times = (assignment.duedate, timestamp)
                rows.append([assignment.name, *map(_text, (*times, *person)), *marks])
        write_table(file, rows)


def _text(value: object) -> str:
    return "" if value is None else str(value)
