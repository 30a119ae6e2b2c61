"""What a learner calls in a notebook: `check`, `hint`, `reveal`, `reset` and `progress`."""

import ast
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import copy_context
from pathlib import Path
from typing import Any

from circuits.arrival import FOLLOW, write_page
from circuits.cells import run_cell
from circuits.chapters import Chapter, answer_cells, chapter_of, hints
from circuits.course_progress import Progress, remember, remember_revealed
from circuits.learners_copy import copy_of, course_of
from circuits.open_notebook import Written, where_kept
from circuits.report import Report
from circuits.unwritten import Note, in_notebook, only_the_learners, show
from utils.errors import CourseError

SLOW_SECONDS = 2.0  # after which a check says that it is at work
_hints_shown: dict[str, int] = {}


def check(exercise: str | Callable, namespace: Mapping[str, Any] | None = None) -> Report:
    """Check your answer to an exercise, and say what is wrong with it.

    Looks for a function of that name where you call it (or in `namespace`). In a notebook the
    report is a small table; as plain text it is the number of points, which nbgrader reads.
    Raises CourseError if there is no such exercise.
    """
    exercise = _name(exercise)
    if namespace is None:
        namespace = sys._getframe(1).f_globals
    _say_that_checks_are_loaded()
    from circuits.checking import AnswerError, Submission  # not needed for a map of the course
    from circuits.judging import run_checks

    chapter = chapter_of(exercise)
    if problem := _broken_cell(namespace.get("In"), exercise):

        def answer(*args, **kwargs):
            raise AnswerError(problem, "cell")

        namespace = {exercise: answer}
    submission = Submission(namespace, like=chapter.stubs)
    with only_the_learners(), _said_if_it_takes_long(f"Checking `{exercise}` ..."):
        result = run_checks(chapter.checks(exercise), submission, lambda: chapter.mistakes(exercise))
    better = remember(exercise, result.points, result.max_points)
    return Report(result, script=_page_anew() if better else "")


def _page_anew() -> str:
    """Write the page of the copy that one is in, and return the script that lets an open one follow."""
    copy = copy_of()
    if copy is None:
        return ""
    with suppress(OSError):
        write_page(copy)
    return FOLLOW


def _say_that_checks_are_loaded() -> None:
    """Before the first check, which imports what they need: it takes a second, or many on a slow disk."""
    if "circuits.judging" not in sys.modules and in_notebook():
        _say("Loading the checks, once ...")


@contextmanager
def _said_if_it_takes_long(what: str) -> Iterator[None]:
    """Some first checks read and label a text. What is said is gone when the report is there."""
    context = copy_context()  # by which IPython knows the cell
    timer = threading.Timer(SLOW_SECONDS, lambda: context.run(_say, what))
    timer.daemon = True
    if in_notebook():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if timer.is_alive():
            timer.join()


def _say(what: str) -> None:
    """A line until something else is shown below the cell."""
    from IPython.display import clear_output

    show(Note(what))
    clear_output(wait=True)


def _name(exercise: str | Callable) -> str:
    """The name of an exercise, also of one given as the function itself: `check(sample)`."""
    name = exercise if isinstance(exercise, str) else getattr(exercise, "__name__", None)
    if not isinstance(name, str):
        raise CourseError(f'Which exercise? Give its name, as in `check("bigram_counts")`, not {exercise!r:.60}.')
    return name


def _broken_cell(cells: Any, name: str) -> str | None:
    """What is wrong if the newest cell that was to define an exercise does not compile: what is defined
    then is an older version, and judging that would mislead. `cells` are IPython's `In`."""
    define = re.compile(rf"(?m)^(async\s+)?def\s+{name}\b|^{name}\s*=[^=]")
    newest = next((c for c in reversed(cells or []) if isinstance(c, str) and define.search(c)), "")
    try:
        compile(newest, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        where = f", line {error.lineno}" if getattr(error, "lineno", None) else ""
        return (
            f"The cell of `{name}` that you ran last does not compile ({getattr(error, 'msg', error)}{where}), so "
            "what is defined is an older version, if any. Correct the cell, run it, and check again."
        )
    return None


def hint(exercise: str | Callable) -> "Markdown":
    """The next hint for an exercise, one more at every call."""
    exercise = _name(exercise)
    all_hints = hints(chapter_of(exercise), exercise)
    shown = _hints_shown[exercise] = min(_hints_shown.get(exercise, 0) + 1, len(all_hints))
    lines = [f"**Hint {i} of {len(all_hints)}.** {h}" for i, h in enumerate(all_hints[:shown], 1)]
    if shown == len(all_hints):
        lines.append(f'That was the last hint. `reveal("{exercise}")` shows an answer.')
    return Markdown("\n\n".join(lines))


def reveal(exercise: str | Callable) -> "Markdown":
    """Show the reference answer, define it here, so that what builds on it can go on, and write it into its cell.

    Raises CourseError in a copy of the course without `solutions/`, such as a class is given, also where the
    installation that runs it has them.
    """
    exercise = _name(exercise)
    chapter = Chapter(chapter_of(exercise).name, course_of(Path.cwd()))
    cells = answer_cells(chapter.source) if chapter.source.exists() else []
    if exercise not in dict(cells):
        raise CourseError("This copy of the course has no reference answers (no solutions/ folder).")
    namespace = sys._getframe(1).f_globals
    for name, code in cells:
        if name in ("setup", exercise):
            run_cell(name, code, namespace)
    remember_revealed(exercise)
    script = _page_anew()
    code = "\n".join(line for line in dict(cells)[exercise].splitlines() if "### " not in line)
    show(Written(
        exercise, f"# The course's answer, by reveal(\"{exercise}\").\n{code}",
        f"It is in its cell above, marked as the course's; {where_kept()}. {_MARKS}",
        f"To have it after a restart, copy it into its cell above. {_MARKS}", script,
    ))  # fmt: skip
    return Markdown(f"One answer, now defined as `{exercise}`:\n\n```python\n{code}\n```")


_MARKS = "`progress()` shows it as revealed; to the marks of a class it does nothing."


def reset(exercise: str | Callable) -> "Markdown":
    """Give the exercise back as it was at first, in its cell and here; what you had written goes to the history."""
    exercise = _name(exercise)
    stub = dict(answer_cells(chapter_of(exercise).notebook))[exercise]
    run_cell(exercise, stub, sys._getframe(1).f_globals)
    show(Written(
        exercise, stub, f"Its cell above is as it was at first; {where_kept()}.",
        "To begin anew, copy this into its cell above.",
    ))  # fmt: skip
    return Markdown(f"`{exercise}`, as it was at first:\n\n```python\n{stub}\n```")


def progress() -> Progress:
    """The course map: every exercise, your best result in each, and what comes next."""
    return Progress()


class Markdown:
    """Text that a notebook renders and a terminal prints."""

    def __init__(self, text: str):
        self.text = text

    def _repr_markdown_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text
