"""Proof by mutation: every slip in a reference answer must fail its checks. Who survives shows a gap in
the checks, or is equivalent: as right as the answer. Then `tests/mutants/explained.py` says why.
"""

import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from circuits import limits
from circuits.cells import run_cell
from circuits.chapters import ROOT, Chapter, answer_cells, chapters, load_answers, load_module
from circuits.checking import AnswerError, Submission, run_check
from circuits.slips import SLIPS, Mutant, mutants
from utils.errors import CourseError

SEEDS = (0, 1)  # a survivor passes with both: one set of inputs may spare it by chance
EXPLAINED = ROOT / "tests" / "mutants" / "explained.py"
REPORT = ROOT / "docs" / "quality.md"


@dataclass
class Finding:
    """What became of the mutants of one exercise."""

    chapter: Chapter
    exercise: str
    mutants: int
    milliseconds: float = 0.0  # that the slowest check takes with the reference answer
    raised: int = 0  # of the killed: those that raise an exception, where others return something wrong
    survivors: list[Mutant] = field(default_factory=list)

    @property
    def reasons(self) -> dict[str, str]:
        """Why the survivors are equivalent, by their change, as far as that is known."""
        reasons = explanations(self.exercise)
        return {s.change: reasons[s.change] for s in self.survivors if s.change in reasons}

    @property
    def unexplained(self) -> list[Mutant]:
        return [s for s in self.survivors if s.change not in self.reasons]


def explanations(exercise: str) -> dict[str, str]:
    """Why survivors of one exercise are equivalent to the answer, by the line they change."""
    return {change: why for (name, change), why in _explained().items() if name == exercise}


def _explained() -> dict[tuple[str, str], str]:
    if not EXPLAINED.exists():
        raise CourseError(f"{EXPLAINED.name} is missing: this is done in a clone of the course.")
    return load_module(EXPLAINED).EXPLAINED


def examine(chapter: Chapter, exercise: str, sample: int | None = None) -> Finding:
    """Run the checks of an exercise on its mutants, or on a sample that is always the same."""
    namespace, _ = load_answers(chapter.source)
    code = dict(answer_cells(chapter.source))[exercise]
    checks = chapter.checks(exercise)
    chosen = sorted(mutants(code), key=lambda m: hashlib.blake2b(m.code.encode()).digest())[:sample]
    finding = Finding(chapter, exercise, len(chosen))
    if sample is None:  # for a few mutants, to measure would take longer than it saves
        seconds = {check: _seconds(check, namespace) for check in checks}
        checks = sorted(checks, key=seconds.get)  # most mutants fall in the first: the quickest
        finding.milliseconds = 1000 * max(seconds.values())
    for mutant in chosen:
        fates = (fate(mutant, exercise, checks, namespace, seed) for seed in SEEDS)
        killed = next((f for f in fates if f != "passes"), None)
        if killed is None:
            finding.survivors.append(mutant)
        finding.raised += killed == "raises"
    return finding


def _seconds(check: Callable, namespace: dict[str, Any]) -> float:
    """How long a check takes with the reference answer, once what it loads is loaded."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        if (message := run_check(check, Submission(namespace))) is not None:
            raise CourseError(f"The reference answer to {check.exercise} fails: {message}")
        times.append(time.perf_counter() - start)
    return min(times)


def fate(
    mutant: Mutant, exercise: str, checks: list[Callable], namespace: dict[str, Any], seed: int
) -> str:
    """Whether a mutant "passes" every check, or "fails" or "raises" in one; that one is the last."""
    namespace = dict(namespace)
    with limits.quiet():
        try:
            run_cell(exercise, mutant.code, namespace)
            passes = all(run_check(check, Submission(namespace), seed) is None for check in checks)
        except AnswerError as error:
            return "raises" if error.kind == "raised" else "fails"
        except Exception:  # the check could not read what came back
            return "fails"
    return "passes" if passes else "fails"


def run(name: str | None = None, sample: int | None = None) -> Iterator[Finding]:
    """Examine one exercise, the exercises of one chapter, or all, one after the other."""
    selected = [
        (chapter, exercise)
        for chapter in chapters()
        for exercise in chapter.exercise_names
        if name in (None, chapter.name, exercise)
    ]
    if not selected:
        raise CourseError(f"No exercise and no chapter is called {name!r}.")
    for chapter, exercise in selected:
        yield examine(chapter, exercise, sample)


def problems(finding: Finding, whole: bool = True) -> list[str]:
    """Survivors without a reason and, after a whole run, reasons without a survivor."""
    found = [f"{finding.exercise}: survives: {s.change}   ({s.slip})" for s in finding.unexplained]
    if whole:
        stale = set(explanations(finding.exercise)) - set(finding.reasons)
        found += [f"{finding.exercise}: {EXPLAINED.name} explains what does not survive: {s}" for s in sorted(stale)]
    return found


def strays() -> list[str]:
    """Explanations for exercises that do not exist."""
    names = {name for chapter in chapters() for name in chapter.exercise_names}
    unknown = {name for name, _ in _explained()} - names
    return [f"{EXPLAINED.name} explains {name!r}, which is no exercise" for name in sorted(unknown)]


# The report ---------------------------------------------------------------------------------


def totals(findings: list[Finding]) -> str:
    """Mutants, killed and survivors of some exercises, in one line."""
    return _totals_line([
        len(findings), sum(f.mutants for f in findings), sum(f.raised for f in findings),
        sum(len(f.survivors) for f in findings), sum(len(f.unexplained) for f in findings),
    ])  # fmt: skip


def _totals_line(numbers: list[int]) -> str:
    n_exercises, n, raised, survivors, unexplained = numbers
    killed = n - survivors
    # What is equivalent cannot be killed by any check, so it does not count.
    share = killed / max(1, killed + unexplained)
    return (
        f"{n_exercises} exercises, {n:,} mutants, {killed:,} killed ({raised:,} raise), {survivors} survivors: "
        f"{survivors - unexplained} equivalent, {unexplained} unexplained. "
        f"Killed of those that can be: {100 * share:.2f}%."
    )


_TOTALS_LINE = re.compile(
    r"(?m)^([\d,]+) exercises, ([\d,]+) mutants, [\d,]+ killed \(([\d,]+) raise\), ([\d,]+) survivors: "
    r"\d+ equivalent, ([\d,]+) unexplained"
)


def report(findings: list[Finding], before: str = "") -> str:
    """docs/quality.md. Chapters of which there are no findings keep what is said of them in the report `before`."""
    sections = dict(re.findall(r"(?ms)^(## [^\n]*)\n(.*?)(?=^## |\Z)", before))
    found: dict[Chapter, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.chapter, []).append(finding)
    own = {f"## {chapter.title}": _section(chapter, its) for chapter, its in found.items()}
    told = [(f"## {c.title}", own.get(f"## {c.title}", sections.get(f"## {c.title}"))) for c in chapters()]
    told = [(heading, text) for heading, text in told if text is not None]
    numbers = [[int(n.replace(",", "")) for n in _TOTALS_LINE.search(text).groups()] for _, text in told]
    lines = [
        "# How good the checks are",
        "",
        "Written by `make mutants`: do not edit. Every reference answer gets every slip of the table at the end, one at a "
        "time, and each of these *mutants* must fail the checks of its exercise. One that passes them all, with "
        f"{len(SEEDS)} sets of random inputs, *survives*. Then the checks have a gap, or the mutant is *equivalent*: as right "
        "as the answer, for the reason given. Of the killed, some *raise* an exception, as exchanged matrices of other sizes do; "
        "the others return something wrong, which a check must see.",
        "",
        f"{date.today().isoformat()}: {_totals_line([sum(column) for column in zip(*numbers)])}",
    ]
    for heading, text in told:
        lines += ["", heading, "", text.strip()]
    codes = (code for c in chapters() for name, code in answer_cells(c.source) if name != "setup" and f"## {c.title}" in dict(told))
    counts = Counter(mutant.slip for code in codes for mutant in mutants(code))
    lines += ["", "## Slips", "", "| slip | what it does | mutants |", "|---|---|--:|"]
    lines += [f"| {s.name} | {s.description} | {counts[s.name]} |" for s in SLIPS]
    return "\n".join(lines) + "\n"


def _section(chapter: Chapter, findings: list[Finding]) -> str:
    """What the report says of a chapter."""
    lines = [
        totals(findings), "",
        "| exercise | checks | mistakes | variants | mutants | killed | of these raise | survivors | slowest check, ms |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    for f in findings:
        counts = (
            len(chapter.checks(f.exercise)), len(chapter.mistakes(f.exercise)), len(chapter.variants(f.exercise)),
            f.mutants, f.mutants - len(f.survivors), f.raised, len(f.survivors), round(f.milliseconds),
        )  # fmt: skip
        lines.append(f"| `{f.exercise}` | " + " | ".join(map(str, counts)) + " |")
    survivors = [(f, s) for f in findings for s in f.survivors]
    lines += ["", "Survivors:", ""] if survivors else []
    for f, s in survivors:
        why = f.reasons.get(s.change, "**Unexplained.**")
        lines.append(f"- `{f.exercise}`, {s.slip}: `{s.before}` → `{s.after}`. {why}")
    return "\n".join(lines)
