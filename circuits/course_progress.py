"""What a learner has done: the best result of every exercise, kept in their own copy and sent nowhere."""

import html
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import platformdirs

from circuits.chapters import Chapter, Task, chapters
from circuits.learners_copy import copy_of
from circuits.results import points_text

NAME = ".progress.jsonl"  # in the copy; where there is none, in the user's folder for data
_DATA = platformdirs.user_data_path("circuits")
OF_0_2_0 = ".progress.json"  # in that folder: the last result of each exercise, as release 0.2.0 kept it
# Marks for the eye, words for everybody.
STATES = {"solved": "✓", "partly": "◐", "revealed": "◇", "open": "○"}


# The record: a line is added whenever something is better than before, and none is ever changed, so that two
# notebooks can write at once and a damaged line costs no other.


@dataclass(frozen=True)
class Best:
    """The best result of an exercise so far, without what was done after its answer was revealed."""

    points: float = 0
    max_points: float = 0
    revealed: bool = False

    @property
    def share(self) -> float:
        return self.points / self.max_points if self.max_points else 0.0

    def is_less_than(self, points: float, max_points: float) -> bool:
        """Whether a result counts in its place."""
        return not self.revealed and max_points > 0 and points / max_points > self.share


def remember(exercise: str, points: float, max_points: float, copy: Path | None = None) -> bool:
    """Note what a check found, if it is better than all before. Returns whether it is."""
    better = _read(copy).get(exercise, Best()).is_less_than(points, max_points)
    if better:
        _add({"exercise": exercise, "points": points, "max_points": max_points}, copy)
    return better


def remember_revealed(exercise: str, copy: Path | None = None) -> None:
    """Note that a learner has seen the answer; one who had solved the exercise before has solved it."""
    best = _read(copy).get(exercise, Best())
    if not best.revealed and (not best.max_points or best.points < best.max_points):
        _add({"exercise": exercise, "revealed": True}, copy)


def take_over(copy: Path) -> str | None:
    """Put what a learner had done with release 0.2.0, of which the record lay in the user's folder for data, into that of
    a copy of theirs. The old record stays where it is: the next time nothing in it is better. Returns what there is to
    say, if anything came."""
    old = _DATA / OF_0_2_0
    try:
        found = json.loads(old.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    pairs = found.items() if isinstance(found, dict) else ()
    came = sum(
        remember(exercise, *pair, copy)
        for exercise, pair in pairs
        if isinstance(pair, list) and len(pair) == 2 and _are_points(*pair)
    )
    results = f"{came} result{'s' * (came > 1)} of version 0.2.0"
    return f"{results} came into your progress, from {old}." if came else None


def _are_points(*points: Any) -> bool:
    return all(type(p) in (int, float) and 0 <= p < 1000 for p in points)


def _file(copy: Path | None) -> Path:
    return (copy or copy_of() or _DATA) / NAME


def _add(entry: dict[str, Any], copy: Path | None) -> None:
    file = _file(copy)
    if "NBGRADER_EXECUTION" in os.environ or not file.is_absolute():  # graded, not learned; or no home
        return
    line = json.dumps({**entry, "at": time.strftime("%Y-%m-%dT%H:%M:%S")})
    with suppress(OSError):  # a read-only folder: the check itself still counts
        if file.is_dir():
            file.rename(file.with_suffix(".damaged"))
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "a", encoding="utf-8") as record:
            record.write(f"\n{line}\n")  # a line of its own, also after one that was cut off


def _read(copy: Path | None = None) -> dict[str, Best]:
    """The best result by exercise, by the name that it had then; of a damaged record, what can be used."""
    found: dict[str, Best] = {}
    try:
        lines = _file(copy).read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    for line in lines:
        try:
            entry = json.loads(line)
            exercise, revealed = entry["exercise"], entry.get("revealed") is True
            points, of = entry.get("points", 0), entry.get("max_points", 0)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
        if not isinstance(exercise, str) or not _are_points(points, of):
            continue
        best = found.get(exercise, Best())
        if revealed:
            found[exercise] = Best(best.points, best.max_points, True)
        elif best.is_less_than(points, of):
            found[exercise] = Best(points, of)
    return found


# The map ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """An exercise, and how far the learner is with it."""

    task: Task
    points: float
    state: str  # a key of STATES

    @staticmethod
    def of(task: Task, done: dict[str, Best]) -> "Step":
        name = next((name for name in (task.name, *task.former_names) if name in done), task.name)
        best = done.get(name, Best())
        share = min(1.0, best.share)
        state = "revealed" if best.revealed else "solved" if share == 1 else "partly" if share else "open"
        return Step(task, task.points if share == 1 else round(share * task.points, 2), state)


def _in_copy(chapter: Chapter, task: Task | None) -> str:
    """The address of a notebook in the copy, or of an exercise in it (in words that JupyterLab knows)."""
    return quote(f"{chapter.name}/{chapter.notebook.name}") + (f"#cell-id={task.name}" if task else "")


class Progress:
    """The course, chapter by chapter, with what the learner has done: for a notebook, a terminal or a program."""

    def __init__(self, copy: Path | None = None):
        self.copy = copy or copy_of()
        done = _read(self.copy)
        self.rows = [(chapter, [Step.of(task, done) for task in chapter.tasks]) for chapter in chapters()]

    def steps(self) -> Iterator[tuple[Chapter, Step]]:
        for chapter, steps in self.rows:
            for step in steps:
                yield chapter, step

    def next(self) -> tuple[Chapter, Step] | None:
        """The first exercise that is not done after the last one that is; else the first that is left out. None if
        there is nothing more to do."""
        steps = list(self.steps())
        last = max((i for i, (_, step) in enumerate(steps) if step.state != "open"), default=-1)
        unfinished = [i for i, (_, step) in enumerate(steps) if step.state in ("open", "partly")]
        later = [i for i in unfinished if i >= last]
        return steps[(later or unfinished)[0]] if unfinished else None

    def count(self, state: str) -> int:
        return sum(step.state == state for _, step in self.steps())

    def total(self) -> str:
        """All in one line."""
        n = sum(len(steps) for _, steps in self.rows)
        got = sum(step.points for _, step in self.steps())
        of = sum(step.task.points for _, step in self.steps())
        says = f"{self.count('solved')} of {n} exercises solved, {points_text(got)} of {points_text(of)} points"
        return says + f", {self.count('revealed')} revealed" * bool(self.count("revealed"))

    def link(self, chapter: Chapter, task: Task | None = None) -> str:
        """The address of a notebook, or of an exercise in it, as seen from where one is; "" where there is no copy."""
        if self.copy is None:
            return ""
        return quote(os.path.relpath(self.copy).replace(os.sep, "/")) + "/" + _in_copy(chapter, task)

    def markdown_link(self, text: str, chapter: Chapter, task: Task | None = None) -> str:
        """The same in Markdown, as seen from the copy."""
        return f"[{text}]({_in_copy(chapter, task)})"

    def as_dict(self) -> dict[str, Any]:
        """All of it, for programs."""
        then = self.next()
        return {
            "points": sum(step.points for _, step in self.steps()),
            "max_points": sum(step.task.points for _, step in self.steps()),
            **{state: self.count(state) for state in STATES},
            "next": then and {"chapter": then[0].name, "exercise": then[1].task.name},
            "chapters": [
                {
                    "name": chapter.name, "title": chapter.title,
                    "exercises": [
                        {**asdict(step.task), "points": step.points, "max_points": step.task.points, "state": step.state}
                        for step in steps
                    ],
                }
                for chapter, steps in self.rows
            ],
        }  # fmt: skip

    def __repr__(self) -> str:
        lines = []
        for chapter, steps in self.rows:
            lines.append(f"{chapter.title}   {self.points_of(steps)}")
            for step in steps:
                revealed = "   revealed" * (step.state == "revealed")
                lines.append(
                    f"  {STATES[step.state]} {step.task.name:<30} {step.task.stars}  {points_text(step.points)} of "
                    f"{points_text(step.task.points)}{revealed}"
                )
        lines.append(self.total())
        if then := self.next():
            lines.append(f"Next: {then[1].task.name}, in {then[0].title}")
        return "\n".join(lines)

    @staticmethod
    def points_of(steps: list[Step]) -> str:
        return f"{points_text(sum(s.points for s in steps))} of {points_text(sum(s.task.points for s in steps))} points"

    def _repr_html_(self) -> str:
        from circuits.report import BOX, OK, OPEN, mark

        blocks = []
        for chapter, steps in self.rows:
            items = []
            for step in steps:
                name = self._anchor(f"<code>{html.escape(step.task.name)}</code>", chapter, step.task)
                worth = f"{points_text(step.points)} of {points_text(step.task.points)} points"
                items.append(
                    f'<span role="listitem" title="{worth}, about {step.task.minutes} minutes" '
                    'style="display:inline-block;white-space:nowrap;margin-right:1.2em">'
                    f"{mark(STATES[step.state], step.state)} {name} "
                    f'<span role="img" aria-label="difficulty {step.task.difficulty} of 3">'
                    f"{step.task.stars}</span></span>"
                )
            box = BOX.format(color=OK if all(s.state == "solved" for s in steps) else OPEN)
            title = self._anchor(html.escape(chapter.title), chapter)
            blocks.append(
                f'<div style="{box}"><b>{title}</b> · {self.points_of(steps)}'
                f'<div role="list">{" ".join(items)}</div></div>'
            )
        last = f"<b>{html.escape(self.total())}.</b>"
        if then := self.next():
            last += f" Next: {self._anchor(f'<code>{html.escape(then[1].task.name)}</code>', *then)}"
        legend = " · ".join(f"{sign} {state}" for state, sign in STATES.items())
        return "".join(blocks) + f'<div style="{BOX.format(color=OPEN)}">{last}<div>{legend}</div></div>'

    def _anchor(self, inside: str, chapter: Chapter, task: "Task | Step | None" = None) -> str:
        to = self.link(chapter, task.task if isinstance(task, Step) else task)
        return f'<a href="{html.escape(to)}">{inside}</a>' if to else inside
