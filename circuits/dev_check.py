"""The maintainers' proof that every exercise is good (in the manner of rustlings' `dev check`).

What is wrong with an exercise is said in the order in which one mends it: its cells, its checks and what passes them that
should not, mistakes, variants, and what stands elsewhere. What can be tried is tried, whatever else is still to be written.
"""

import ast
import difflib
import inspect
import math
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from circuits import coincidences, following, lazy, limits, parts, unchanged
from circuits.chapters import (
    ROOT, Chapter, chapters, exercise_of, hints_in, load_answers, load_module, source, words,
)
from circuits.checking import Call, Submission, run_check
from circuits.judging import run_checks
from circuits.results import Result
from utils.errors import CourseError

Asked = dict[Callable, list[Call]]  # what each check asks of the reference, with one seed
# What every exercise has at least; CONTRIBUTING.md says so too.
MIN_CHECKS, MIN_MISTAKES, MIN_VARIANTS, MIN_HINTS = 3, 5, 2, 2
ZERO_SEEDS = 6
BETWEEN_MARKS = re.compile(r"^( *)### BEGIN SOLUTION.*?### END SOLUTION *$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"### Exercise · \S.* +[●○]{3} +\d+ min$")
# Where each answer that takes a model is called on TransformerLens' model too, in an environment of its own.
PARITY = Path("tests", "parity", "test_transformerlens.py")
QUALITY = Path("docs", "quality.md")  # `circuits mutants` writes it
PARITY_TABLES = ("CALLS", "FULL_CALLS", "OURS_ONLY")


def problems(
    exercise: str | None = None, root: Path = ROOT, seeds: int = 1, marks: int = 0
) -> tuple[list[str], int]:
    """All `findings`, and the number of exercises."""
    return list(findings(exercise, root, seeds, marks)), len(selected(exercise, root))


def selected(exercise: str | None = None, root: Path = ROOT) -> list[tuple[Chapter, str]]:
    """The exercises that are meant: one, or all, with their chapters. Raises CourseError for a name that is none."""
    everywhere = [(c, name) for c in chapters(root) if c.source.exists() for name in parts.named(c.source, "exercise")]
    found = [(c, name) for c, name in everywhere if exercise in (None, name)]
    if exercise is None or found:
        return found
    for chapter in (c for c in chapters(root) if c.source.exists()):
        for kind, file in files(chapter).items():
            if file.exists() and f'"{exercise}"' in file.read_text("utf-8"):
                raise CourseError(
                    f"No exercise is called {exercise!r}: {parts.shown(file)} has {kind} for it, and "
                    f"{parts.shown(chapter.source)} no cell that begins with `# %% exercise=\"{exercise}\"`."
                )
    close = difflib.get_close_matches(exercise, [name for _, name in everywhere], n=1)
    advice = f"Did you mean {close[0]!r}?" if close else f"`circuits new-exercise CHAPTER {exercise}` begins one."
    raise CourseError(f"No exercise is called {exercise!r}. {advice}")


def files(chapter: Chapter) -> dict[str, Path]:
    """What a chapter's exercises are proven by."""
    return {"checks": chapter.checks_file, "mistakes": chapter.mistakes_file, "variants": chapter.variants_file}


def findings(exercise: str | None = None, root: Path = ROOT, seeds: int = 1, marks: int = 0) -> Iterator[str]:
    """All problems, one line each, of one exercise or of all, as they are found. Answers meet
    the inputs of so many `seeds`: in a grader the seed is secret, and every one must do. With `marks`, the inputs
    of so many seeds decide whether each answer is accepted or refused, which is all that is then asked."""
    chosen = selected(exercise, root)
    for chapter in [c for c in chapters(root) if c.source.exists()] if exercise is None else [chosen[0][0]]:
        if broken := list(_broken_files(chapter)):
            yield from (f"{chapter.name}: {problem}" for problem in broken)
            continue
        namespace, raised = load_answers(chapter.source)
        yield from (f"{chapter.name}: {message}" for message in raised.values())
        for name in (name for of, name in chosen if of == chapter):
            its = _marks(chapter, name, namespace, marks) if marks else _problems(chapter, name, namespace, seeds)
            yield from (f"{chapter.name}: {name}: {problem}" for problem in its)
        if not marks:
            yield from (f"{chapter.name}: {problem}" for problem in around(chapter))
        if exercise is None:
            yield from unfinished(chapter)
            yield from strays(chapter)


def _broken_files(chapter: Chapter) -> Iterator[str]:
    """Files of a chapter that are missing, or cannot be imported."""
    for kind, file in files(chapter).items():
        try:
            load_module(file)
        except FileNotFoundError:
            yield f"{parts.shown(file)} is missing: it holds the {kind}"
        except Exception as error:
            places = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
            line = getattr(error, "lineno", None) or (places or [1])[-1]
            yield f"{parts.shown(file)}:{line}: {type(error).__name__}: {error}"


def strays(chapter: Chapter) -> list[str]:
    """What stands in a chapter's files and would never run: hidden by a name used twice, or for an
    exercise that does not exist."""
    found = []
    for file in files(chapter).values():
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
    """What is wrong with an exercise, in the order in which to mend it."""
    todo = {kind: _unwritten(file, name) for kind, file in files(chapter).items()}
    reference = namespace.get(name)
    cell = parts.of_exercise(chapter, name)
    yield from cell.unwritten if cell else ()
    yield from _cell_problems(chapter, name)
    if reference is None:
        yield "has no reference answer"
    elif not inspect.getdoc(reference):
        yield "has no docstring"

    for file in files(chapter).values():
        for twice in {part.name for part in parts.functions(file, name)} & set(_defined_twice(file)):
            yield f"{parts.shown(file)} defines {twice} twice, and only the second counts: rename one"
    checks, mistakes, variants = (getattr(chapter, kind)(name) for kind in todo)
    table = parts.entry(chapter.checks_file, "SYMMETRIES", name)
    follows = table is None or not table.unwritten
    yield from () if follows else table.unwritten
    yield from _few("checks", checks, MIN_CHECKS, todo["checks"])
    for check in checks:
        if not (check.points > 0 and math.isfinite(check.points)):
            yield f"{check.__name__} is worth {check.points} points"
    done = [check for check in checks if check.__name__ not in todo["checks"]]
    works = False
    if reference is not None and done:
        failure = _reference_fails(chapter, name, reference, done, max(seeds, 3))
        works = failure is None
        if failure and not (cell and _is_open(cell)):
            yield failure
    if works:
        yield from _check_problems(chapter, name, reference, done, follows, whole=done == checks)

    yield from _few("known mistakes", mistakes, MIN_MISTAKES, todo["mistakes"])
    yield from _few("variants", variants, MIN_VARIANTS, todo["variants"])
    if works and done == checks:
        wrong = [mistake for mistake in mistakes if mistake.__name__ not in todo["mistakes"]]
        right = [variant for variant in variants if variant.__name__ not in todo["variants"]]
        yield from _answer_problems(chapter, name, reference, wrong, right, seeds)
    if reference is not None:
        yield from _elsewhere(chapter, name, reference)


def _unwritten(file: Path, name: str) -> dict[str, str]:
    """Functions for an exercise in which something is still to be written, and what first."""
    return {part.name: part.unwritten[0] for part in parts.functions(file, name) if part.unwritten}


def _is_open(cell: parts.Part) -> bool:
    """Whether an exercise's answer is still to be written, which its cell says."""
    answer = BETWEEN_MARKS.search("\n".join(cell.lines))
    return answer is not None and parts.TODO in answer[0]


def _few(what: str, have: list[Callable], least: int, todo: dict[str, str]) -> Iterator[str]:
    yield from todo.values()
    if len(have) < least:
        yield f"has {len(have)} {what}; it needs at least {least}"


def _cell_problems(chapter: Chapter, name: str) -> Iterator[str]:
    """What is wrong with an exercise's cells in the source, which need not have been built."""
    cells = parts.source_cells(chapter.source)
    at = parts.place_of(name, cells)
    if at is None:
        return
    above = cells[at - 1].text if at and parts.is_text(cells[at - 1]) else ""
    if not HEADING.match(above.partition("\n")[0]):
        yield "needs a text above its cell that begins with `### Exercise · title    ●○○   5 min`"
    hints = hints_in(above)
    if len(hints) < MIN_HINTS:
        yield f"has {len(hints)} hints; it needs at least {MIN_HINTS}"
    yield from ("has an empty hint" for hint in hints if not hint)
    if not BETWEEN_MARKS.search("\n".join(cells[at].lines)):
        yield "needs its answer between `### BEGIN SOLUTION` and `### END SOLUTION`: else the release shows it"
    below = next((cell for cell in cells[at + 1 :] if "check=" in cell.lines[0] or "exercise=" in cell.lines[0]), None)
    if below is None or not parts.has_mark(below, "check", name):
        yield f"has no cell that checks it: below its own write `# %% check=\"{name}\"` and `check(\"{name}\")`"


def _reference_fails(
    chapter: Chapter, name: str, reference: Callable, checks: list[Callable], seeds: int
) -> str | None:
    """How the reference answer fails these checks, if it does: with any seed, as a check must not hang on lucky inputs."""
    for seed in range(seeds):
        if checks == chapter.checks(name):
            result = run(chapter, name, reference, reference, seed)
        else:
            result = run_checks(checks, Submission({name: reference}, like={name: reference}), seed=seed)
        if not result.passed:
            return f"the reference answer fails with seed {seed}: {_first_failure(result)}"
    return None


def _check_problems(
    chapter: Chapter, name: str, reference: Callable, checks: list[Callable], follows: bool, whole: bool
) -> Iterator[str]:
    """What is wrong with checks that the reference passes. `follows`: whether SYMMETRIES says already what an answer
    must follow; `whole`: whether these are all checks that there will be."""
    module = load_module(chapter.checks_file)
    asked = [{check: coincidences.calls_of(check, reference, seed) for check in checks} for seed in range(3)]
    ends = [call for c in checks if not c.in_place for call in (*asked[0][c][:1], *asked[0][c][1:][-1:])]
    if follows:
        yield from following.problems(name, getattr(module, "SYMMETRIES", {}), reference, ends)
    if whole:  # what is always so may differ in a check that is not written yet
        common = coincidences.coincidences(reference, [call for calls in asked for call in _flat(calls)])
        yield from coincidences.unexplained(name, common, getattr(module, "COINCIDENCES", {}))
    for check in checks:  # one at a time: together, the first unsolved one ends the run
        if run_checks([check], Submission({name: _unsolved})).passed:
            yield f"{check.__name__} gives points unsolved"
    yield from _lazy_problems(reference, *asked, whole)


def _answer_problems(
    chapter: Chapter, name: str, reference: Callable, mistakes: list[Callable], variants: list[Callable], seeds: int
) -> Iterator[str]:
    """Known mistakes that pass or are not recognised, and right answers that are refused."""
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


def _lazy_problems(reference: Callable, once: Asked, again: Asked, now: Asked, whole: bool) -> Iterator[str]:
    """Checks that pay for nothing. Lazy answers know what two seeds have in common, and meet the third."""
    advice = "draw its inputs from `rng`, ask for more, or mark it `explains=True`"
    known = lazy.by_heart(reference, _flat(once), _flat(again))
    paying = [check for check in now if not check.explains]
    if not paying and whole:
        yield "has no check that gives points by itself: all are marked `explains=True`"
    fresh = [check for check in paying if any(lazy.asked(call) not in known for call in now[check])]
    for check in paying:
        if check not in fresh:
            yield f"{check.__name__} asks the same with every seed: {advice}"
    others = [call for calls in once.values() for call in calls[-1:]]
    for what, answer in lazy.answers(reference, known, _flat(now), others) if fresh else ():
        for check in fresh:
            # What is asked may be 0 by nature, or by chance: zeros are tried on more than one seed.
            for seed in range(2, 2 + (ZERO_SEEDS if what == "zeros" else 1)):
                if _passes([check], answer, reference, seed):
                    yield f"{check.__name__} gives points to a lazy answer, {what} (seed {seed}): {advice}"
                    break


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


# What stands elsewhere ----------------------------------------------------------------------


def _elsewhere(chapter: Chapter, name: str, reference: Callable) -> Iterator[str]:
    """What an exercise needs outside the four files of its chapter: the release, and how TransformerLens is asked."""
    parity = chapter.root / PARITY
    if "model" in inspect.signature(reference).parameters and parity.exists():
        tables = filter(None, (parts.dictionary(parity, table) for table in PARITY_TABLES))
        if name not in {key.value for table in tables for key in table.keys if isinstance(key, ast.Constant)}:
            yield (
                f"takes a model: say in CALLS of {PARITY} how to call it, so that it is compared with "
                "TransformerLens (FULL_CALLS: on models with MLPs; OURS_ONLY: why it cannot be)"
            )
    report = chapter.root / QUALITY
    if report.exists() and f"| `{name}` |" not in report.read_text("utf-8"):
        yield f"is not in {QUALITY} yet: run `circuits mutants {chapter.name} --report` when all else is done"
    if not chapter.notebook.exists() or name not in chapter.exercises:
        yield f"is not in {parts.shown(chapter.notebook)} yet: run `circuits build`"
    elif not _is_released(chapter, name):
        yield f"is another in {parts.shown(chapter.notebook)} than in the source: run `circuits build`"


def _is_released(chapter: Chapter, name: str) -> bool:
    """Whether the released notebook has of an exercise what its source has: text, stub, points."""
    cells = parts.source_cells(chapter.source)
    at = parts.place_of(name, cells)
    there = next(i for i, cell in enumerate(chapter.cells) if exercise_of(cell) == name)
    if at is None:
        return True  # the source is no text with cells
    stub = BETWEEN_MARKS.sub(r"\1# YOUR CODE HERE\n\1raise NotImplementedError()", "\n".join(cells[at].lines[1:]))
    texts = zip((cells[at - 1].text, stub), chapter.cells[there - 1 : there + 1])
    points = sum(check.points for check in chapter.checks(name))
    return chapter.exercises[name] == points and all(words(text) == words(source(cell)) for text, cell in texts)


def around(chapter: Chapter) -> Iterator[str]:
    """What a chapter and README.md say of its time, and is not so."""
    cells = parts.source_cells(chapter.source)
    opening = next((cell.text for cell in cells if parts.is_text(cell)), "")
    said = re.search(r"\*\*Time\*\*: about (\d+) minutes, (\d+) of them for the exercises", opening)
    if said is None:
        return
    minutes = sum(int(m[1]) for cell in cells if (m := re.match(r"### Exercise · .* (\d+) min$", parts.heading(cell))))
    if minutes != int(said[2]) or minutes >= int(said[1]):
        yield (
            f"the exercises take {minutes} minutes, and the chapter's opening says {said[2]} of {said[1]}: "
            "put both numbers right"
        )
    readme = chapter.root / "README.md"
    notebook = chapter.notebook.relative_to(chapter.root).as_posix()
    row = f"({notebook}) | {said[1]} | {len(chapter.exercise_names)} |"
    if readme.exists() and row not in readme.read_text("utf-8"):
        yield f"README.md has no line with `{row}` in its table of chapters"


def unfinished(chapter: Chapter) -> Iterator[str]:
    """What is still to be written in a chapter's source outside its exercises."""
    own = [parts.of_exercise(chapter, name) for name in chapter.exercise_names]
    lines = {n for part in own if part for n in range(part.first, part.last + 1)}
    for cell in parts.source_cells(chapter.source):
        if cell.first not in lines:
            yield from cell.unwritten
