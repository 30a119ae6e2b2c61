"""What a class did with a chapter: which exercises and checks it fails, which mistakes it makes, who is to be asked.

Read from what grading has left: nbgrader's gradebook, the records, the submissions. Nothing is run, and nothing is changed.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from circuits.chapters import Chapter
from circuits.grading import submissions
from circuits.grading.alike import digest
from circuits.grading.batch import chapter_to_grade
from circuits.grading.records import Records, fingerprint, read_secret
from circuits.grading.tables import write_table
from circuits.results import Result, points_text
from utils.errors import CourseError

# How an answer can run into a limit, by the kinds of `checking.PROBLEMS`.
LIMITS = {
    "time": "took too long", "written down": "took too long", "no time left": "the submission's time was used up",
    "memory": "asked for too much memory", "recursion": "called itself without end", "too large": "returned far too much",
    "dead": "ended its process",
}  # fmt: skip
ALIKE_FROM = 3  # answers: who wrote fewer may well have written the same


@dataclass
class ExerciseFacts:
    """What a class did with one exercise. Each count is one of students."""

    name: str
    max_points: float
    points: Counter = field(default_factory=Counter)  # by points, marks given by hand included
    started: int = 0
    not_started: int = 0  # and without points, which may have been given by hand
    none: int = 0  # started, and without points
    failed: Counter = field(default_factory=Counter)  # by check, of those who started
    hints: Counter = field(default_factory=Counter)  # by hint
    mistakes: dict[str, str] = field(default_factory=dict)  # by hint, the known mistake that it is of
    limits: Counter = field(default_factory=Counter)  # by the words of LIMITS
    answers: Counter = field(default_factory=Counter)  # by digest: the same up to formatting and names

    @property
    def full(self) -> int:
        return sum(n for points, n in self.points.items() if points >= self.max_points)

    @property
    def mean(self) -> float:
        return sum(points * n for points, n in self.points.items()) / max(1, self.points.total())


@dataclass
class Alike:
    """Students whose answers are all the same up to formatting and names."""

    students: list[str]
    answers: int  # that each of them gave
    wrong: int  # of these, without all points
    alone: int  # of these, given by nobody else


@dataclass
class ClassReport:
    """What a class did with a chapter."""

    chapter: Chapter
    students: list[str] = field(default_factory=list)  # whose submission is graded as it is now
    exercises: list[ExerciseFacts] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)  # as nbgrader exports them
    refused: dict[str, str] = field(default_factory=dict)  # by student, why
    not_graded: list[str] = field(default_factory=list)  # handed in, or changed, since the last grading
    late: dict[str, tuple[float, float]] = field(default_factory=dict)  # by student, seconds and penalty
    alike: list[Alike] = field(default_factory=list)

    @property
    def max_points(self) -> float:
        return sum(exercise.max_points for exercise in self.exercises)


def read(root: Path, chapter_name: str) -> ClassReport:
    """The report on a chapter in a course's folder. Raises CourseError where nothing of it is graded."""
    from nbgrader.api import MissingEntry
    from nbgrader.coursedir import CourseDirectory

    from circuits.grading.gradebook import course_config, marks, opened, scores, seconds_late

    coursedir = CourseDirectory(config=course_config(root))
    report = ClassReport(chapter_to_grade(root, chapter_name))
    submitted = root / coursedir.submitted_directory
    graded = _graded(report, submitted, Records(root, chapter_name))
    if not graded:
        raise CourseError(f"Nothing of {chapter_name} is graded as it is now: run `circuits grade {chapter_name}` first.")
    report.students = sorted(graded)
    try:
        with opened(coursedir) as gradebook:
            points, totals = marks(gradebook, chapter_name), scores(gradebook, chapter_name)
            late = seconds_late(gradebook, chapter_name)
    except MissingEntry:
        raise CourseError(
            f"The gradebook does not know {chapter_name}: run `nbgrader generate_assignment {chapter_name} --force` first."
        ) from None
    report.scores = sorted(totals[student][1] for student in graded if student in totals)
    report.late = {s: (seconds, totals[s][0] if s in totals else 0.0) for s, seconds in sorted(late.items())}
    digests: dict[str, dict[str, str]] = {student: {} for student in graded}
    wrong: set[tuple[str, str]] = set()
    for name in report.chapter.exercise_names:
        results = {student: by_name[name] for student, (_, by_name) in graded.items() if name in by_name}
        if not results:
            continue
        facts = ExerciseFacts(name, max(result.max_points for result in results.values()))
        facts.mistakes = {m.hint: m.__name__.replace("_", " ") for m in report.chapter.mistakes(name)}
        for student, result in results.items():
            got = points.get((student, name), result.points)
            _count(facts, result, got)
            code = submissions.code_of(graded[student][0], name)
            if code is not None and not result.unsolved:
                digests[student][name] = digest(code, name)
                facts.answers[digests[student][name]] += 1
                if got < facts.max_points:
                    wrong.add((student, name))
        report.exercises.append(facts)
    report.alike = _alike(digests, wrong, report.exercises)
    return report


def _graded(
    report: ClassReport, submitted: Path, records: Records
) -> dict[str, tuple[list[submissions.Cell], dict[str, Result]]]:
    """By student, what is run of their submission and what was found; who is refused or not graded goes to the report."""
    found = {}
    for student in submissions.students(submitted, report.chapter.name):
        try:
            cells = submissions.read(submitted, student, report.chapter)
        except submissions.Refused as refusal:
            report.refused[student] = str(refusal)
            continue
        record = records.read(student)
        if record is None or record.fingerprint != fingerprint(report.chapter, cells):
            report.not_graded.append(student)
        else:
            found[student] = cells, {result.exercise: result for result in record.graded.results}
    return found


def _count(facts: ExerciseFacts, result: Result, points: float) -> None:
    """Add one student."""
    facts.points[points] += 1
    if result.unsolved:
        facts.not_started += points <= 0
        return
    facts.started += 1
    facts.none += points <= 0
    facts.failed.update({check.name for check in result.checks if not check.passed})
    facts.limits.update({LIMITS[check.problem] for check in result.checks if check.problem in LIMITS})
    if result.hint:
        facts.hints[result.hint] += 1


def _alike(
    digests: dict[str, dict[str, str]], wrong: set[tuple[str, str]], exercises: list[ExerciseFacts]
) -> list[Alike]:
    """The groups of students whose answers are all the same, those first that share most that nobody else wrote."""
    groups = defaultdict(list)
    for student, answers in sorted(digests.items()):
        if len(answers) >= ALIKE_FROM:
            groups[frozenset(answers.items())].append(student)
    gave = {exercise.name: exercise.answers for exercise in exercises}
    found = [
        Alike(
            students, len(answers), sum((students[0], name) in wrong for name, _ in answers),
            sum(gave[name][answer] == len(students) for name, answer in answers),
        )
        for answers, students in groups.items() if len(students) > 1
    ]  # fmt: skip
    return sorted(found, key=lambda group: (-group.alone, group.students))


def pseudonyms(root: Path, report: ClassReport) -> Callable[[str], str]:
    """Numbers for students' names, in an order that nobody can guess who has not the course's secret; the same each time."""
    secret = read_secret(root)
    everybody = {*report.students, *report.refused, *report.not_graded, *report.late}
    order = sorted(everybody, key=lambda s: hashlib.blake2b(s.encode("utf-8", "surrogateescape"), key=secret[:64]).digest())
    numbers = {student: f"student {n}" for n, student in enumerate(order, 1)}
    return numbers.__getitem__


# As a table ---------------------------------------------------------------------------------


def write_csv(file: Path, report: ClassReport, named: Callable[[str], str], reasons: bool = True) -> None:
    """The report as a table of one fact a line: exercise (none: the whole chapter), what is counted, which of these,
    of how many students it is so, and of how many it could be. Without `reasons` it is not said why a submission
    is refused: that may name what a student called it."""
    write_table(file, [["exercise", "what", "which", "students", "of"], *_rows(report, named, reasons)])


def _rows(report: ClassReport, named: Callable[[str], str], reasons: bool) -> list[list]:
    n = len(report.students)
    rows: list[list] = [["", "graded", "", n, n + len(report.refused) + len(report.not_graded)]]
    for x in report.exercises:
        total, name = x.points.total(), x.name
        rows += [[name, "points", points_text(points), k, total] for points, k in sorted(x.points.items())]
        rows += [[name, "not started", "", x.not_started, total]]
        rows += [[name, "check failed", check, k, x.started] for check, k in x.failed.most_common()]
        for hint, k in x.hints.most_common():
            rows.append([name, "known mistake" if hint in x.mistakes else "other hint", hint, k, x.started])
        rows += [[name, "limit", words, k, x.started] for words, k in x.limits.most_common()]
        rows += [[name, "different answers", "", len(x.answers), x.started]]
    everybody = rows[0][-1]
    rows += [["", "refused", named(s) + f": {why}" * reasons, 1, everybody] for s, why in report.refused.items()]
    rows += [["", "not graded", named(student), 1, everybody] for student in report.not_graded]
    rows += [["", "late", f"{named(s)}: {lateness(late)}, penalty {cost:g}", 1, everybody] for s, (late, cost) in report.late.items()]
    for group in report.alike:
        rows.append(["", "same answers", ", ".join(map(named, group.students)), len(group.students), n])
    return rows


def lateness(seconds: float) -> str:
    """How late something came, in words."""
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} minute{'s' * (minutes != 1)}"
    return f"{minutes // 60} hours" if minutes < 48 * 60 else f"{minutes // 1440} days"
