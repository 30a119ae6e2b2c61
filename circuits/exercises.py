"""What a learner calls in a notebook: `check`, `hint`, `reveal` and `progress`."""

import ast
import html
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs

from circuits.cells import run_cell
from circuits.chapters import Chapter, answer_cells, chapter_of, chapters, hints
from circuits.results import CheckResult, Result
from utils.errors import CourseError
from utils.files import write_file

# Many may share one installation, or one clone; each has a record of their own.
_PROGRESS = platformdirs.user_data_path("circuits") / ".progress.json"
_hints_shown: dict[str, int] = {}


def check(exercise: str | Callable, namespace: Mapping[str, Any] | None = None) -> "Report":
    """Check your answer to an exercise, and say what is wrong with it.

    Looks for a function of that name where you call it (or in `namespace`). In a notebook the
    report is a small table; as plain text it is the number of points, which nbgrader reads.
    Raises CourseError if there is no such exercise.
    """
    exercise = _name(exercise)
    if namespace is None:
        namespace = sys._getframe(1).f_globals
    from circuits.checking import AnswerError, Submission  # not needed for a map of the course
    from circuits.judging import run_checks

    chapter = chapter_of(exercise)
    if problem := _broken_cell(namespace.get("In"), exercise):

        def answer(*args, **kwargs):
            raise AnswerError(problem, "cell")

        namespace = {exercise: answer}
    submission = Submission(namespace, like=chapter.stubs)
    result = run_checks(chapter.checks(exercise), submission, lambda: chapter.mistakes(exercise))
    _remember(result)
    return Report(result)


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
    """Show the reference answer, and define it here, so that what builds on it can go on.

    Raises CourseError in a copy of the course without `solutions/`, such as a class is given, also where the
    installation that runs it has them.
    """
    from circuits.learners_copy import course_of

    exercise = _name(exercise)
    chapter = Chapter(chapter_of(exercise).name, course_of(Path.cwd()))
    cells = answer_cells(chapter.source) if chapter.source.exists() else []
    if exercise not in dict(cells):
        raise CourseError("This copy of the course has no reference answers (no solutions/ folder).")
    namespace = sys._getframe(1).f_globals
    for name, code in cells:
        if name in ("setup", exercise):
            run_cell(name, code, namespace)
    code = "\n".join(
        line for line in dict(cells)[exercise].splitlines() if "### " not in line
    )
    return Markdown(f"One answer, now defined as `{exercise}`:\n\n```python\n{code}\n```")


def progress() -> "Progress":
    """The course map: every exercise, and which of them your last check found right."""
    return Progress(_read_progress())


class Markdown:
    """Text that a notebook renders and a terminal prints."""

    def __init__(self, text: str):
        self.text = text

    def _repr_markdown_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text


def _read_progress() -> dict[str, list[float]]:
    """Points and maximum by exercise; of a damaged file, what can be used."""
    try:
        found = json.loads(_PROGRESS.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: pair for name, pair in found.items() if isinstance(pair, list) and _are_points(pair)}


def _are_points(pair: list) -> bool:
    return len(pair) == 2 and all(type(p) in (int, float) and 0 <= p < 1000 for p in pair)


def _remember(result: Result) -> None:
    if "NBGRADER_EXECUTION" in os.environ or not _PROGRESS.is_absolute():  # graded, not learned; or no home
        return
    done = _read_progress() | {result.exercise: [result.points, result.max_points]}
    with suppress(OSError):  # a read-only folder: the check itself still counts
        if _PROGRESS.is_dir():
            _PROGRESS.rename(_PROGRESS.with_suffix(".damaged"))
        write_file(_PROGRESS, json.dumps(done, indent=1).encode())


# Reports ------------------------------------------------------------------------------------

# Marks and words carry the meaning; colour only repeats it. The colours are JupyterLab's own, so
# they follow its theme.
_OK, _BAD = "var(--jp-success-color1, #2e7d32)", "var(--jp-error-color1, #c62828)"
_OPEN = "var(--jp-border-color1, #bdbdbd)"
_BOX = (
    "border-left: 4px solid {color}; padding: 4px 12px; margin: 4px 0; line-height: 1.5;"
    "color: var(--jp-content-font-color1, inherit); font-family: var(--jp-content-font-family);"
)


_STRESSED = re.compile(r"(?<![\w*])\*(\w[^*\n]*\w|\w)\*(?![\w*])")  # but not 2 * x * y


def points_text(points: float) -> str:
    """`1`, `1.5`: points without a needless `.0`."""
    return f"{points:g}"


def _inline(text: str) -> str:
    """Escaped text, in which `this` is code and *this* is stressed."""
    parts = html.escape(text).split("`")
    if len(parts) % 2 == 0:
        return "`".join(parts)
    return "".join(
        f"<code>{part}</code>" if i % 2 else _STRESSED.sub(r"<em>\1</em>", part)
        for i, part in enumerate(parts)
    )


def _unpaid(result: Result, check: CheckResult) -> str:
    """Why a check that passed gave no points, if it gave none."""
    return " (gives its points once a check on other inputs passes)" if check.passed and not result.earned else ""


class Report:
    """The outcome of `check`. As plain text, the points; in a notebook, what was found. A `graded`
    one lists every check, and says why it ran unsandboxed, if it did."""

    def __init__(self, result: Result, graded: bool = False, unsandboxed: str | None = None):
        self.result, self.graded, self.unsandboxed = result, graded, unsandboxed

    def __repr__(self) -> str:
        return points_text(self.result.points)

    def summary(self) -> str:
        """All that the HTML report says, as text for a terminal."""
        r = self.result
        lines = [f"{r.exercise}: {points_text(r.points)} of {points_text(r.max_points)} points"]
        said = set()
        for c in r.checks:
            lines.append(f"  {'ok  ' if c.passed else 'FAIL'} {c.name}{_unpaid(r, c)}")
            lines += [f"       {c.message}"] * (bool(c.message) and c.message not in said)
            said.add(c.message)
        lines += [f"  Hint: {r.hint}"] * bool(r.hint)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return self.html()

    def html(self) -> str:
        """The report as a piece of a page. All that came from an answer is escaped."""
        r = self.result
        open_ = r.unsolved and not self.graded  # not started, which is no failure
        got = "not started," if open_ else f"{points_text(r.points)} of"
        score = f"{got} {points_text(r.max_points)} points"
        title = f"<b>{html.escape(r.exercise)}</b> · {score}"
        if open_:
            body = _inline(r.checks[0].message)
        else:
            rows, said = [], set()
            for c in r.checks:
                mark = f'<span style="color:{_OK}">✓</span>' if c.passed else (
                    f'<span style="color:{_BAD}">✗</span>'
                )
                message = ""
                if not c.passed and c.message not in said:
                    message = f'<div style="margin-left: 1.5em">{_inline(c.message)}</div>'
                    said.add(c.message)
                rows.append(f"<div>{mark} {html.escape(c.name + _unpaid(r, c))}{message}</div>")
            body = "".join(rows)
        if r.hint:
            body += f"<div><b>Hint</b> {_inline(r.hint)}</div>"
        if r.printed.strip():
            body += (
                "<details><summary>what your answer printed</summary>"
                f"<pre>{html.escape(r.printed)}</pre></details>"
            )
        if r.found:
            body += f"<div>{_inline(r.found)}</div>"
        if self.unsandboxed:
            body += f"<div><b>not sandboxed</b>: {html.escape(self.unsandboxed)}</div>"
        color = _OK if r.passed else _OPEN if open_ else _BAD
        return f'<div style="{_BOX.format(color=color)}"><div>{title}</div>{body}</div>'


class Progress:
    """The course map, for a notebook or a terminal."""

    def __init__(self, done: dict[str, list[float]]):
        self.done = done

    def _rows(self):
        for chapter in chapters():
            exercises = {
                name: (self.done.get(name, [0])[0], points)
                for name, points in chapter.exercises.items()
            }
            yield chapter, exercises

    def __repr__(self) -> str:
        lines = []
        for chapter, exercises in self._rows():
            got, of = (sum(column) for column in zip(*exercises.values(), strict=True))
            lines.append(f"{chapter.title}   {points_text(got)} of {points_text(of)} points")
            for name, (points, max_points) in exercises.items():
                mark = "✓" if points >= max_points else "◐" if points else "·"
                lines.append(f"  {mark} {name}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        blocks = []
        for chapter, exercises in self._rows():
            got, of = (sum(column) for column in zip(*exercises.values(), strict=True))
            items = []
            for name, (points, max_points) in exercises.items():
                mark = "✓" if points >= max_points else "◐" if points else "○"
                color = _OK if points >= max_points else "inherit"
                items.append(
                    f'<span style="white-space:nowrap;margin-right:1.2em;color:{color}">'
                    f"{mark} <code>{html.escape(name)}</code></span>"
                )
            box = _BOX.format(color=_OK if got >= of else _OPEN)
            blocks.append(
                f'<div style="{box}"><b>{html.escape(chapter.title)}</b> · '
                f"{points_text(got)} of {points_text(of)} points<div>{' '.join(items)}</div></div>"
            )
        return "".join(blocks)
