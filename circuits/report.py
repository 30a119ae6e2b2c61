"""What a check found, as a learner reads it: a piece of a page in a notebook, text in a terminal."""

import html
import re

from circuits.results import CheckResult, Result, points_text

# Marks and words carry the meaning; colour only repeats it. The colours are JupyterLab's own, so
# they follow its theme.
OK, BAD = "var(--jp-success-color1, #2e7d32)", "var(--jp-error-color1, #c62828)"
OPEN = "var(--jp-border-color1, #bdbdbd)"
BOX = (
    "border-left: 4px solid {color}; padding: 4px 12px; margin: 4px 0; line-height: 1.5;"
    "color: var(--jp-content-font-color1, inherit); font-family: var(--jp-content-font-family);"
)


_STRESSED = re.compile(r"(?<![\w*])\*(\w[^*\n]*\w|\w)\*(?![\w*])")  # but not 2 * x * y


def inline(text: str) -> str:
    """Escaped text, in which `this` is code and *this* is stressed."""
    parts = html.escape(text).split("`")
    if len(parts) % 2 == 0:
        return "`".join(parts)
    return "".join(
        f"<code>{part}</code>" if i % 2 else _STRESSED.sub(r"<em>\1</em>", part)
        for i, part in enumerate(parts)
    )


def mark(sign: str, means: str, color: str = "inherit") -> str:
    """A sign that a screen reader reads as what it means."""
    return f'<span role="img" aria-label="{means}" title="{means}" style="color:{color}">{sign}</span>'


def _unpaid(result: Result, check: CheckResult) -> str:
    """Why a check that passed gave no points, if it gave none."""
    return " (gives its points once a check on other inputs passes)" if check.passed and not result.earned else ""


class Report:
    """The outcome of `check`. As plain text, the points; in a notebook, what was found, with a `script` that runs there.
    A `graded` one lists every check, and says why it ran unsandboxed, if it did."""

    def __init__(self, result: Result, graded: bool = False, unsandboxed: str | None = None, script: str = ""):
        self.result, self.graded, self.unsandboxed, self.script = result, graded, unsandboxed, script

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
        return self.html() + self.script

    def html(self) -> str:
        """The report as a piece of a page. All that came from an answer is escaped."""
        r = self.result
        open_ = r.unsolved and not self.graded  # not started, which is no failure
        got = "not started," if open_ else f"{points_text(r.points)} of"
        score = f"{got} {points_text(r.max_points)} points"
        title = f"<b>{html.escape(r.exercise)}</b> · {score}"
        if open_:
            body = inline(r.checks[0].message)
        else:
            rows, said = [], set()
            for c in r.checks:
                sign = mark("✓", "passed", OK) if c.passed else mark("✗", "failed", BAD)
                message = ""
                if not c.passed and c.message not in said:
                    message = f'<div style="margin-left: 1.5em">{inline(c.message)}</div>'
                    said.add(c.message)
                rows.append(f"<div>{sign} {html.escape(c.name + _unpaid(r, c))}{message}</div>")
            body = "".join(rows)
        if r.hint:
            body += f"<div><b>Hint</b> {inline(r.hint)}</div>"
        if r.printed.strip():
            body += (
                "<details><summary>what your answer printed</summary>"
                f"<pre>{html.escape(r.printed)}</pre></details>"
            )
        if r.found:
            body += f"<div>{inline(r.found)}</div>"
        if self.unsandboxed:
            body += f"<div><b>not sandboxed</b>: {html.escape(self.unsandboxed)}</div>"
        color = OK if r.passed else OPEN if open_ else BAD
        name = html.escape(f"Check of {r.exercise}: {score}", quote=True)
        return f'<div role="group" aria-label="{name}" style="{BOX.format(color=color)}"><div>{title}</div>{body}</div>'
