"""The maintainers' proof that every exercise is good (in the manner of rustlings' `dev check`)."""

import ast
import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from circuits import coincidences, following, lazy, limits, unchanged
from circuits.chapters import (
    ROOT, Chapter, answer_cells, chapter_of, chapters, hints, load_answers, load_module,
)
from circuits.checking import Call, Submission, run_check
from circuits.judging import run_checks
from circuits.results import Result

Asked = dict[Callable, list[Call]]  # what each check asks of the reference, with one seed
MIN_CHECKS, MIN_MISTAKES, MIN_VARIANTS, MIN_HINTS = 3, 5, 2, 2


def problems(
    exercise: str | None = None, root: Path = ROOT, seeds: int = 1, marks: int = 0
) -> tuple[list[str], int]:
    """All problems, one line each, of one exercise or of all; and the number of exercises. Answers meet
    the inputs of so many `seeds`: in a grader the seed is secret, and every one must do. With `marks`, the inputs
    of so many seeds decide whether each answer is accepted or refused, which is all that is then asked."""
    selected = [chapter_of(exercise, root)] if exercise else chapters(root)
    found, n_exercises = [], 0
    for chapter in selected:
        namespace, broken = load_answers(chapter.source)
        found += [f"{chapter.name}: {message}" for message in broken.values()]
        names = [name for name, _ in answer_cells(chapter.source) if name != "setup"]
        for name in names:
            if exercise in (None, name):
                n_exercises += 1
                its = _marks(chapter, name, namespace, marks) if marks else _problems(chapter, name, namespace, seeds)
                found += [f"{chapter.name}: {name}: {p}" for p in its]
        if not exercise:
            found += strays(chapter)
    return found, n_exercises


def strays(chapter: Chapter) -> list[str]:
    """What stands in a chapter's files and would never run: hidden by a name used twice, or for an
    exercise that does not exist."""
    found = []
    for file in (chapter.checks_file, chapter.mistakes_file, chapter.variants_file):
        found += [f"{file.name} defines {name} twice" for name in _defined_twice(file)]
    checks = load_module(chapter.checks_file)
    explained = {exercise for exercise, _ in getattr(checks, "COINCIDENCES", {})}
    for table, said in (("COINCIDENCES", explained), ("SYMMETRIES", set(getattr(checks, "SYMMETRIES", {})))):
        unknown = said - set(chapter.exercise_names)
        found += [f"{chapter.name}: {table} of {u!r}, which is no exercise" for u in unknown]
    for kind in ("checks", "mistakes", "variants"):
        unknown = {f.exercise for f in getattr(chapter, kind)()} - set(chapter.exercise_names)
        found += [f"{chapter.name}: {kind} for {u!r}, which is no exercise" for u in unknown]
    return found


def _defined_twice(file: Path) -> list[str]:
    """Functions that a later one of the same name hides, so that they would never run."""
    names = [n.name for n in ast.parse(file.read_text("utf-8")).body if isinstance(n, ast.FunctionDef)]
    return sorted({name for name in names if names.count(name) > 1})


def _unsolved(*args, **kwargs):
    """An exercise before a learner has written anything."""
    raise NotImplementedError


def run(chapter: Chapter, exercise: str, answer: Callable, like: Callable, seed: int = 0) -> Result:
    """The checks of one exercise on an answer, held to the annotations of the reference (`like`), as a learner's is."""
    submission = Submission({exercise: answer}, like={exercise: like})
    return run_checks(chapter.checks(exercise), submission, lambda: chapter.mistakes(exercise), seed)


def _first_failure(result: Result) -> str:
    return next(f"{c.name}: {c.message}" for c in result.checks if not c.passed)


def _problems(
    chapter: Chapter, name: str, namespace: dict[str, Any], seeds: int
) -> Iterator[str]:
    reference = namespace.get(name)
    checks, mistakes = chapter.checks(name), chapter.mistakes(name)
    variants = chapter.variants(name)
    if reference is None:
        yield "has no reference answer"
        return
    if not inspect.getdoc(reference):
        yield "has no docstring"
    for what, have, least in (
        ("hints", len(hints(chapter, name)), MIN_HINTS),
        ("checks", len(checks), MIN_CHECKS),
        ("known mistakes", len(mistakes), MIN_MISTAKES),
        ("variants", len(variants), MIN_VARIANTS),
    ):
        if have < least:
            yield f"has {have} {what}; it needs at least {least}"
    if not checks:
        return
    for check in checks:
        if not (check.points > 0 and math.isfinite(check.points)):
            yield f"{check.__name__} is worth {check.points} points"
    for hint in (h for h in hints(chapter, name) if not h):
        yield f"has an empty hint {hint!r}"

    for seed in range(max(seeds, 3)):  # a check must not depend on lucky inputs
        result = run(chapter, name, reference, reference, seed)
        if not result.passed:
            yield f"the reference answer fails with seed {seed}: {_first_failure(result)}"
            return
    module = load_module(chapter.checks_file)
    asked = [{check: coincidences.calls_of(check, reference, seed) for check in checks} for seed in range(3)]
    ends = [call for c in checks if not c.in_place for call in (*asked[0][c][:1], *asked[0][c][1:][-1:])]
    yield from following.problems(name, getattr(module, "SYMMETRIES", {}), reference, ends)
    common = coincidences.coincidences(reference, [call for calls in asked for call in _flat(calls)])
    yield from coincidences.unexplained(name, common, getattr(module, "COINCIDENCES", {}))
    for check in checks:  # one at a time: together, the first unsolved one ends the run
        if run_checks([check], Submission({name: _unsolved})).passed:
            yield f"{check.__name__} gives points unsolved"
    yield from _lazy_problems(reference, *asked)
    parameters = list(inspect.signature(reference).parameters)
    for answer in (*mistakes, *variants):
        if list(inspect.signature(answer).parameters) != parameters:
            yield f"{answer.__name__} does not take ({', '.join(parameters)})"
            return
    for seed in range(seeds):
        for mistake in mistakes:
            for problem in _mistake_problems(chapter, name, mistake, reference, seed):
                yield f"{problem} (seed {seed})"
        for variant in variants:
            result = run(chapter, name, variant, reference, seed)
            if not result.passed:
                yield f"the variant {variant.__name__} fails with seed {seed}: {_first_failure(result)}"


def _flat(asked: Asked) -> list[Call]:
    return [call for calls in asked.values() for call in calls]


def _lazy_problems(reference: Callable, once: Asked, again: Asked, now: Asked) -> Iterator[str]:
    """Checks that pay for nothing. Lazy answers know what two seeds have in common, and meet the third."""
    advice = "draw its inputs from `rng`, ask for more, or mark it `explains=True`"
    known = lazy.by_heart(reference, _flat(once), _flat(again))
    paying = [check for check in now if not check.explains]
    if not paying:
        yield "has no check that gives points by itself: all are marked `explains=True`"
    fresh = [check for check in paying if any(lazy.asked(call) not in known for call in now[check])]
    for check in paying:
        if check not in fresh:
            yield f"{check.__name__} asks the same with every seed: {advice}"
    others = [call for calls in once.values() for call in calls[-1:]]
    for what, answer in lazy.answers(reference, known, _flat(now), others) if fresh else ():
        for check in fresh:
            if _passes([check], answer, reference, seed=2):
                yield f"{check.__name__} gives points to a lazy answer, {what}: {advice}"


def _marks(chapter: Chapter, name: str, namespace: dict[str, Any], seeds: int) -> Iterator[str]:
    """Right answers that are refused on the inputs of some seed, and wrong ones that are accepted."""
    right, wrong = [namespace[name], *chapter.variants(name)], chapter.mistakes(name)
    for answer in (*right, *wrong):
        checks = list(chapter.checks(name))
        passes = [_passes(checks, answer, namespace[name], seed) for seed in range(seeds)]
        odd = [seed for seed, passed in enumerate(passes) if passed == (answer in wrong)]
        if odd:
            was = "accepted" if answer in wrong else "refused"
            some = ", ".join(map(str, odd[:5]))
            yield f"{answer.__name__} is {was} on {len(odd)} of {seeds} seeds: {some}"


def _passes(checks: list[Callable], answer: Callable, like: Callable, seed: int) -> bool:
    """Whether an answer passes every check. The first that it fails is enough, and comes first next time."""
    name = checks[0].exercise
    for check in checks:
        submission = Submission({name: answer}, like={name: like})
        try:
            with limits.quiet(), unchanged.usual():
                message = run_check(check, submission, seed)
        except Exception as error:  # what it raised, or returned, cannot be judged: that is refused too
            message = str(error)
        if message is not None:
            checks.remove(check)
            checks.insert(0, check)
            return False
    return True


def _mistake_problems(
    chapter: Chapter, name: str, mistake: Callable, reference: Callable, seed: int
) -> Iterator[str]:
    if not mistake.hint.strip():
        yield f"the mistake {mistake.__name__} has no hint"
    result = run(chapter, name, mistake, reference, seed)
    if result.passed:
        yield f"the mistake {mistake.__name__} passes"
    elif result.hint != mistake.hint:
        yield f"the mistake {mistake.__name__} gets the hint {result.hint!r}"
