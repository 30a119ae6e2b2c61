"""Grade all submissions of a chapter: many processes find the marks, one enters them.

A submission is done when its record says that its marks are in the gradebook, so a batch that is
stopped at any moment goes on where it was. `Records` keeps what was found; nbgrader's own converter
enters it, which makes the gradebook what `nbgrader autograde` makes it. Where only what a late penalty
depends on has changed, what was found is entered again, and no answer is run.
"""

import contextlib
import datetime
import functools
import logging
import os
import queue
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from circuits.chapters import Chapter, chapters
from circuits.grading import submissions
from circuits.grading.grader import Graded, Grader, Job, seed
from circuits.grading.records import FOLDER, Record, Records, fingerprint, read_secret
from circuits.grading.tables import write_table
from utils.errors import CourseError

HELP_AFTER_SECONDS = 2.0  # of one grader's work

# Grades jobs in whatever order they are done: (student, job) pairs to (student, what was found).
Graders = Callable[[Iterable[tuple[str, Job]]], Iterator[tuple[str, Graded]]]


@dataclass
class Row:
    """One submission in the summary."""

    student: str
    status: str  # "graded", "unchanged", "refused" or "failed"
    points: float | None = None  # of the answers
    max_points: float | None = None
    penalty: float | None = None  # for being late
    score: float | None = None  # what nbgrader exports: with marks given by hand, less the penalty
    note: str = ""


@dataclass
class Task:
    """A submission that is not done yet."""

    student: str
    cells: Sequence[submissions.Cell]
    record: Record | None  # what an earlier run found but did not enter, or under other terms
    fingerprint: str


class Batch:
    """One run over a chapter's submissions. `rows` fills as they are done."""

    def __init__(
        self, root: Path, chapter_name: str, regrade: bool = False, sandboxed: Callable[[], bool] = lambda: False
    ):
        """`sandboxed`: whether there is a sandbox now, so that what was found without one is found again."""
        self.root, self.sandboxed = root, sandboxed
        self.chapter = chapter_to_grade(root, chapter_name)
        self.records = Records(root, chapter_name)
        self.gradebook = _Gradebook(root, self.chapter)
        self.rows: dict[str, Row] = {}
        self.tasks: list[Task] = []
        self.unsandboxed: set[str] = set()
        names = submissions.students(self.gradebook.submitted, chapter_name)
        self.notes = submissions.lookalikes(names, self.gradebook.students)  # what to know of a student, in a line
        for student in names:
            self._plan(student, regrade)

    def _plan(self, student: str, regrade: bool) -> None:
        try:
            cells = submissions.read(self.gradebook.submitted, student, self.chapter)
            note = submissions.note(self.gradebook.submitted, student, self.chapter)
        except submissions.Refused as refusal:
            self.rows[student] = Row(student, "refused", note=str(refusal))
            return
        self.notes[student] = "; ".join(filter(None, (note, self.notes.get(student))))
        mark = fingerprint(self.chapter, cells)
        record = None if regrade else self.records.read(student)
        if record is not None and record.fingerprint != mark:
            record = None  # handed in again, or the chapter changed
        if record is not None and record.graded.unsandboxed and self.sandboxed():
            record = None
        if record is not None and record.entered == self.gradebook.terms(student) and self.gradebook.has(student):
            self.rows[student] = self._row(student, "unchanged", record.graded)
        else:
            self.tasks.append(Task(student, cells, record, mark))

    def run(self, graders: Graders) -> Iterator[Row]:
        """Grade what is left to grade and enter it; yields each row when it is done."""
        tasks = {task.student: task for task in self.tasks}
        for task in self.tasks:
            if task.record is not None:
                yield self._enter(task, task.record.graded)
        secret = read_secret(self.root)
        name = self.chapter.name
        jobs = [
            (t.student, Job(name, t.cells, seed(secret, t.student, name, t.cells), self.root))
            for t in self.tasks
            if t.record is None
        ]
        for student, graded in graders(jobs):
            yield self._enter(tasks[student], graded)

    def _enter(self, task: Task, graded: Graded) -> Row:
        """Keep what was found, and put it into the gradebook."""
        student = task.student
        if graded.error:
            row = Row(student, "failed", note=graded.error)
        else:
            self.records.write(student, Record(task.fingerprint, graded))
            try:
                self.gradebook.enter(student, graded)
                self.records.write(student, Record(task.fingerprint, graded, self.gradebook.terms(student)))
                row = self._row(student, "graded", graded)
            except submissions.Refused as refusal:  # changed since it was read
                row = Row(student, "refused", note=str(refusal))
            except _EnterError as error:
                row = Row(student, "failed", note=str(error))
        self.rows[student] = row
        return row

    def _row(self, student: str, status: str, graded: Graded) -> Row:
        notes = []
        if graded.unsandboxed:
            self.unsandboxed.add(student)
            notes.append(f"not sandboxed: {graded.unsandboxed}")
        if all(result.unsolved for result in graded.results):
            notes.append("no answer was found in the notebook")
        if n := sum(bool(result.found) for result in graded.results):
            notes.append(f"{n} answer{'s' * (n > 1)} not in the exercise's own cell: see the report")
        notes += [self.notes[student]] * bool(self.notes[student])
        return Row(
            student, status, graded.points, sum(r.max_points for r in graded.results), note="; ".join(notes)
        )

    def read_scores(self) -> None:
        """Fill in what the gradebook makes of the points: marks given by hand, penalties."""
        scores = self.gradebook.scores()
        for student, row in self.rows.items():
            if row.points is not None and student in scores:
                row.penalty, row.score = scores[student]

    def write_csv(self, file: Path) -> None:
        """The summary as a table: one line a student, refused ones too."""
        rows = [self.rows[student] for student in sorted(self.rows)]
        head = ["student", "status", "points", "max_points", "late_penalty", "score", "note"]
        table = [[r.student, r.status, r.points, r.max_points, r.penalty, r.score, r.note] for r in rows]
        write_table(file, [head, *table])


def chapter_to_grade(root: Path, name: str) -> Chapter:
    """The chapter of a course's folder, with all that grading it needs. Raises CourseError."""
    for chapter in chapters(root):
        if chapter.name == name:
            if chapter.source.exists() and chapter.checks_file.exists():
                return chapter
            raise CourseError(f"{name} has no source or no checks here: grade in a full copy of the course.")
    names = ", ".join(c.name for c in chapters(root)) or f"none in {root}"
    raise CourseError(f"No chapter is called {name!r}. There are: {names}.")


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Raise CourseError if this is no course's folder, or another batch works in it."""
    if not (root / "nbgrader_config.py").exists():
        raise CourseError(f"There is no nbgrader_config.py in {root}: run this in the course's folder.")
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    file = root / FOLDER / "lock"
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file.open("w") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CourseError("Another `circuits grade` is at work in this folder; wait for it.") from None
        yield


# Finding marks ------------------------------------------------------------------------------


class LocalGraders:
    """Graders on this machine, a process each. Calling it grades; `close` ends the processes."""

    def __init__(self, chapter: Chapter, processes: int | None = None):
        self.graders = [Grader(chapter=chapter) for _ in range(processes or os.cpu_count() or 1)]
        self.graders[0].spawn()  # it gets ready while the batch is planned
        self.threads: list[threading.Thread] = []
        self.stopping = threading.Event()

    def unsandboxed(self) -> str | None:
        """Why there is no sandbox here, or None."""
        self.graders[0].start()
        return self.graders[0].unsandboxed

    def __call__(self, jobs: Iterable[tuple[str, Job]]) -> Iterator[tuple[str, Graded]]:
        todo: queue.SimpleQueue = queue.SimpleQueue()
        done: queue.SimpleQueue = queue.SimpleQueue()
        jobs = list(jobs)
        for job in jobs:
            todo.put(job)
        for i, grader in enumerate(self.graders[: len(jobs)]):
            work = self._work if i == 0 else self._help
            thread = threading.Thread(target=work, args=(grader, todo, done), daemon=True)
            thread.start()
            self.threads.append(thread)
        for _ in jobs:
            yield done.get()

    def _help(self, grader: Grader, todo: queue.SimpleQueue, done: queue.SimpleQueue) -> None:
        """Work, if there is enough to do: starting a grader takes seconds of a core."""
        if not grader.ready and (self.stopping.wait(HELP_AFTER_SECONDS) or todo.empty()):
            return
        with contextlib.suppress(OSError):
            grader.start()
            self._work(grader, todo, done)

    def _work(self, grader: Grader, todo: queue.SimpleQueue, done: queue.SimpleQueue) -> None:
        with contextlib.suppress(queue.Empty):
            while not self.stopping.is_set():
                student, job = todo.get_nowait()
                try:
                    graded = grader.grade(job)
                    if graded.error and not self.stopping.is_set():
                        graded = grader.grade(job)  # once more: it may have been the machine's fault
                except OSError as error:
                    graded = Graded(error=str(error))
                done.put((student, graded))

    def close(self) -> None:
        self.stopping.set()
        for grader in self.graders:
            if grader.process is not None:
                grader.process.kill()  # its thread sees that, and ends
        for thread in self.threads:
            thread.join()
        for grader in self.graders:
            grader.close()


# Entering them ------------------------------------------------------------------------------


class _EnterError(Exception):
    """nbgrader could not enter the marks; one line says why."""


class _Gradebook:
    """nbgrader's gradebook, autograded folder and settings, for one chapter."""

    def __init__(self, root: Path, chapter: Chapter):
        from nbgrader.coursedir import CourseDirectory

        from circuits.grading.gradebook import course_config

        self.chapter = chapter
        self.config = course_config(root)
        self.log = logging.getLogger("circuits.grading")
        self.log.propagate = False
        self.log.handlers = [_Lines()]
        self.coursedir = CourseDirectory(config=self.config, log=self.log)
        self.coursedir.assignment_id = chapter.name
        self.submitted = root / self.coursedir.submitted_directory
        self._read()

    def _read(self) -> None:
        """What the gradebook holds, which is first brought to what the chapter is now: `followed` says how."""
        from nbgrader.api import MissingEntry

        from circuits.grading.autograde import notebook_with
        from circuits.grading.gradebook import follow, late_rules, opened

        name = self.chapter.name
        with opened(self.coursedir) as gradebook:
            released = notebook_with(self.chapter, [])
            try:
                self.followed = follow(gradebook, self.chapter.notebook_name, name, released)
            except MissingEntry:
                raise CourseError(
                    f"The gradebook does not know {name}: run `nbgrader generate_assignment {name} --force` first."
                ) from None
            assignment = gradebook.find_assignment(name)
            self.due = assignment.duedate
            self.graded_before = {s.student_id for s in assignment.submissions}
            self.students = [s.id for s in gradebook.students]
            self.extensions = {s.student_id: s.extension for s in assignment.submissions if s.extension}
        self.late_rules = late_rules(self.config, Path(self.coursedir.root))

    def terms(self, student: str) -> str:
        """What the mark of a student depends on besides answers and checks: when they were handed in, how late
        that is, and what it costs."""
        from nbgrader.utils import parse_utc

        file = self.submitted / student / self.chapter.name / "timestamp.txt"
        time = file.read_text("utf-8").strip() if file.exists() else ""
        late = 0.0
        if time and self.due:
            due = self.due + self.extensions.get(student, datetime.timedelta())
            late = max(0.0, (parse_utc(time) - due).total_seconds())
        return f"{time} {late:g} {self.late_rules}"

    def scores(self) -> dict[str, tuple[float, float]]:
        """By student, the penalty for being late and the score less that."""
        from circuits.grading.gradebook import opened, scores

        with opened(self.coursedir) as gradebook:
            return scores(gradebook, self.chapter.name)

    def has(self, student: str) -> bool:
        """Whether the student's marks are in the gradebook, and the graded notebook in its folder."""
        folder = Path(self.coursedir.format_path(
            self.coursedir.autograded_directory, student, self.chapter.name))
        return student in self.graded_before and (folder / self.chapter.notebook.name).exists()

    def enter(self, student: str, graded: Graded) -> None:
        """Save the marks and the graded notebook, as nbgrader does. Raises Refused or _EnterError."""
        from circuits.grading.autograde import SandboxedAutograde

        _keep_engine()
        converter = SandboxedAutograde(coursedir=self.coursedir, config=self.config, log=self.log)
        converter.force = True
        converter.graded = {student: graded}
        lines = self.log.handlers[0].lines
        lines.clear()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # SQLAlchemy's, about nbgrader's own queries
                converter.start()
        except (Exception, SystemExit) as error:
            if student in converter.refused:
                raise submissions.Refused(converter.refused[student]) from None
            why = next((line for line in reversed(lines) if "Error" in line), str(error))
            raise _EnterError(f"the marks could not be entered ({why.strip()})") from None


@functools.cache
def _keep_engine() -> None:
    """Let all of nbgrader's connections to a database share an engine. It makes one for each, eight a
    submission, and each compiles every query anew: most of the time that entering marks would take."""
    import nbgrader.api

    nbgrader.api.create_engine = functools.cache(nbgrader.api.create_engine)


class _Lines(logging.Handler):
    """Keeps the lines of what nbgrader logs as errors, to say one of them."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += record.getMessage().splitlines()
