"""The report on a class as one page of HTML: nothing to load, nothing that runs, light and dark."""

import html
from collections import Counter
from collections.abc import Callable, Iterable

from circuits.console import plain
from circuits.grading.class_report import ClassReport, ExerciseFacts, lateness
from circuits.report import inline
from circuits.results import points_text

MOST = 6  # rows of a table of checks or hints; the table in CSV has all

# What a page may do, should anything in it ever not be text: nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --line: #c8c8c8; --soft: #f2f2f2; --all: #00695c; --part: #b26a00; --none: #b3261e;
  --open: #757575; }
@media (prefers-color-scheme: dark) {
  :root { --line: #555; --soft: #262626; --all: #4db6ac; --part: #ffb74d; --none: #f28b82; --open: #9e9e9e; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); }
th.n, td.n { text-align: right; white-space: nowrap; }
code { background: var(--soft); padding: 0 .2em; }
details { border-top: 1px solid var(--line); padding: .5rem 0; }
summary { cursor: pointer; }
.bar { display: flex; height: .8rem; min-width: 8rem; background: var(--soft); }
.all { background: var(--all); } .part { background: var(--part); } .none { background: var(--none); }
.open { background: var(--open); }
.wide { overflow-x: auto; } .all-across { width: 100%; }
.key span { display: inline-block; width: .8rem; height: .8rem; margin: 0 .3rem 0 1rem; }
"""


def page(report: ClassReport, named: Callable[[str], str], reasons: bool = True) -> str:
    """The page. `named` says how a student is called on it; without `reasons` it is not said why a submission
    is refused: that may name what a student called it. Whatever comes from a submission is escaped."""
    title = f"{report.chapter.name}: what the class did"
    parts = [
        f"<h1>{html.escape(report.chapter.title)}</h1>", _summary(report), "<h2>Exercises</h2>", _overview(report.exercises),
        "<h2>Each exercise</h2>", *map(_exercise, report.exercises), "<h2>Submissions</h2>", _submissions(report, named, reasons),
    ]  # fmt: skip
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def _summary(report: ClassReport) -> str:
    n, scores = len(report.students), report.scores
    said = [f"{_students(n)} graded"]
    if scores:
        median = (scores[(len(scores) - 1) // 2] + scores[len(scores) // 2]) / 2
        said.append(
            f"scores from {scores[0]:g} to {scores[-1]:g} of {report.max_points:g}, median {median:g}, "
            "with marks given by hand and less penalties"
        )
    said += [f"{len(report.refused)} refused"] * bool(report.refused)
    said += [f"{len(report.not_graded)} not graded as they are now"] * bool(report.not_graded)
    said += [f"{len(report.late)} late"] * bool(report.late)
    return f"<p>{'; '.join(said)}.</p>"


def _students(n: int) -> str:
    return f"{n} student{'s' * (n != 1)}"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]], numbers: int = 0, kind: str = "all-across") -> str:
    """A table of cells that are HTML already; the last `numbers` columns hold numbers."""
    heads = list(heads)
    first = len(heads) - numbers

    def row(tag: str, cells: Iterable[str]) -> str:
        scope = ' scope="col"' * (tag == "th")
        return "".join(f"<{tag}{scope}{' class=n' * (i >= first)}>{cell}</{tag}>" for i, cell in enumerate(cells))

    body = "".join(f"<tr>{row('td', cells)}</tr>" for cells in rows)
    return f'<div class="wide"><table class="{kind}"><thead><tr>{row("th", heads)}</tr></thead><tbody>{body}</tbody></table></div>'


def _bar(x: ExerciseFacts) -> str:
    """All points, some, none, not started, as one bar; a screen reader reads the numbers."""
    some = x.points.total() - x.full - x.none - x.not_started
    parts = {"all": (x.full, "all points"), "part": (some, "some"), "none": (x.none, "none"), "open": (x.not_started, "not started")}
    said = ", ".join(f"{words} {n}" for n, words in parts.values())
    pieces = "".join(f'<span class="{kind}" style="flex:{n}"></span>' for kind, (n, _) in parts.items() if n)
    return f'<div class="bar" role="img" aria-label="{said}" title="{said}">{pieces}</div>'


def _overview(exercises: list[ExerciseFacts]) -> str:
    rows = [
        [
            f'<a href="#{html.escape(x.name, quote=True)}"><code>{html.escape(x.name)}</code></a>', _bar(x),
            f"{x.mean:.2g} of {points_text(x.max_points)}", str(x.full), str(x.none), str(x.not_started),
        ]
        for x in exercises
    ]  # fmt: skip
    words = {"all": "all points", "part": "some", "none": "none", "open": "not started"}
    key = "".join(f'<span class="{kind}"></span>{said}' for kind, said in words.items())
    heads = ["exercise", "points", "mean", "all", "none", "not started"]
    return _table(heads, rows, numbers=4) + f'<p class="key">Of the students:{key}</p>'


def _exercise(x: ExerciseFacts) -> str:
    name = html.escape(x.name)
    points = sorted(x.points.items())
    counts = [["students", *(str(n) for _, n in points)]]
    parts = [_table(["points", *(points_text(p) for p, _ in points)], counts, numbers=len(points), kind="narrow")]
    if x.failed:
        rows = _most(x.failed, x.started, html.escape)
        parts.append(_table(["check", "fails"], rows, numbers=1))
    if x.hints:
        rows = _most(x.hints, x.started, lambda hint: _mistake(x, hint))
        parts.append(_table(["what was done, and the hint that was shown", "by"], rows, numbers=1))
    if x.limits:
        parts.append(_table(["a limit", "hit by"], _most(x.limits, x.started, html.escape), numbers=1))
    if x.started > 1:
        most = max(x.answers.values(), default=0)
        parts.append(
            f"<p>{len(x.answers)} different answers by {_students(x.started)}, formatting and names aside; "
            f"the most frequent was given by {most}.</p>"
        )
    got = f"mean {x.mean:.2g} of {points_text(x.max_points)}; {x.not_started} not started"
    return f'<details id="{name}" open><summary><b><code>{name}</code></b>: {got}</summary>{"".join(parts)}</details>'


def _most(counted: Counter, of: int, show: Callable[[str], str]) -> list[list[str]]:
    rows = [[show(what), f"{n} of {of}"] for what, n in counted.most_common(MOST)]
    if len(counted) > MOST:
        rows.append([f"{len(counted) - MOST} more: see the table in CSV", ""])
    return rows


def _mistake(x: ExerciseFacts, hint: str) -> str:
    known = x.mistakes.get(hint)
    return (f"<b>{html.escape(known)}</b>: " if known else "") + inline(plain(hint, lines=False))


def _submissions(report: ClassReport, named: Callable[[str], str], reasons: bool) -> str:
    def who(student: str) -> str:
        return html.escape(plain(named(student), lines=False))

    parts = []
    if report.refused:
        rows = [[who(s), html.escape(plain(why, lines=False)) if reasons else ""] for s, why in report.refused.items()]
        parts += ["<h3>Refused</h3>", _table(["student", "why"], rows)]
    if report.not_graded:
        command = f"circuits grade {report.chapter.name}"
        names = ", ".join(map(who, report.not_graded))
        parts.append(f"<h3>Not graded as they are now</h3><p>{names}. <code>{html.escape(command)}</code> grades them.</p>")
    if report.late:
        rows = [[who(s), lateness(late), f"{cost:g}"] for s, (late, cost) in report.late.items()]
        parts += ["<h3>Late</h3>", _table(["student", "by", "penalty"], rows, numbers=1)]
    if report.alike:
        rows = [
            [", ".join(map(who, g.students)), str(g.answers), str(g.wrong), str(g.alone)] for g in report.alike
        ]
        parts += [
            "<h3>The same answers</h3>",
            "<p>All answers of these students are the same, formatting and names aside. This is a note and no verdict: many "
            "exercises have one short answer that most people find. It says more where answers are wrong in the same way, or "
            "were given by nobody else.</p>",
            _table(["students", "answers", "of these wrong", "of these by nobody else"], rows, numbers=3),
        ]
    return "\n".join(parts) or "<p>Nothing to say: none is refused, late, or waits to be graded.</p>"
