"""Where the parts of an exercise stand in a chapter's files: its cells in the source, its checks, mistakes and variants.

Read off the text: nothing is imported or run, so it works on files that a contributor is in the middle of.
"""

import ast
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from circuits.chapters import Chapter

TODO = "TODO"  # what stands where somebody has still to write something
ENDS = ".,:;\"') "  # of a line with a TODO: of a string, a call


@dataclass(frozen=True)
class Part:
    """Some lines of a file, from the line `first` on (counted from 1), and the name of the function that they define,
    if they do."""

    file: Path
    first: int
    lines: tuple[str, ...]
    name: str = ""

    @property
    def last(self) -> int:
        return self.first + len(self.lines) - 1

    @property
    def text(self) -> str:
        """What a cell of text says: without the line that begins it, and without `# `."""
        return "\n".join(re.sub("^# ?", "", line) for line in self.lines[1:]).strip()

    @property
    def unwritten(self) -> list[str]:
        """What is still to be written in it, one line for each TODO: `FILE:LINE: what`."""
        todo = re.compile(rf"\b{TODO}\b:? *(.*)")
        found = ((n, todo.search(line)) for n, line in enumerate(self.lines, self.first))
        return [f"{shown(self.file)}:{n}: to do: {m[1].rstrip(ENDS)}" for n, m in found if m]


def shown(file: Path) -> str:
    """A file as people call it who are in the course's folder."""
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)


def lines_of(file: Path, first: int, last: int, name: str = "") -> Part:
    """Some lines of a file, from the first to the last."""
    return Part(file, first, tuple(file.read_text("utf-8").splitlines()[first - 1 : last]), name)


def source_cells(file: Path) -> list[Part]:
    """The cells of a percent script, each with the line that begins it."""
    lines = file.read_text("utf-8").splitlines()
    starts = [n for n, line in enumerate(lines) if line.startswith("# %%")]
    return [Part(file, n + 1, tuple(lines[n:end])) for n, end in zip(starts, [*starts[1:], len(lines)])]


def is_text(cell: Part) -> bool:
    """Whether a cell holds text, and no code."""
    return cell.lines[0].startswith("# %% [markdown]")


def heading(cell: Part) -> str:
    """The heading that a cell of text begins with, marks of its level included; else ""."""
    first = cell.text.partition("\n")[0]
    return first if is_text(cell) and first.startswith("#") else ""


def named(file: Path, key: str) -> list[str]:
    """The names that the cells of a source give by a key, in their order: `exercise`, `check`, `was`."""
    given = re.findall(rf'(?m)^# %% .*\b{key}="([^"]*)"', file.read_text("utf-8"))
    return [name for names in given for name in names.split()]


def place_of(exercise: str, cells: list[Part]) -> int | None:
    """Which of the cells holds an exercise."""
    return next((i for i, cell in enumerate(cells) if has_mark(cell, "exercise", exercise)), None)


def of_exercise(chapter: Chapter, exercise: str) -> Part | None:
    """All that the source says on an exercise, from the text above its cell to the next heading; None if it has
    no cell."""
    cells = source_cells(chapter.source)
    at = place_of(exercise, cells)
    if at is None:
        return None
    first = at - 1 if at and is_text(cells[at - 1]) else at
    last = at
    while last + 1 < len(cells) and not heading(cells[last + 1]) and not _ends(cells[last + 1]):
        last += 1
    return lines_of(chapter.source, cells[first].first, cells[last].last)


def _ends(cell: Part) -> bool:
    """Whether a cell belongs to no exercise, or to another: its own, or the end of the chapter."""
    return "exercise=" in cell.lines[0] or cell.lines[1:2] == ("progress()",)


def has_mark(cell: Part, key: str, name: str) -> bool:
    """Whether a cell is marked so: `# %% exercise="direct_path"`."""
    return bool(re.search(rf'\b{key}="{re.escape(name)}"', cell.lines[0]))


def _statements(file: Path) -> list[ast.stmt]:
    """The statements of a Python file. Raises SyntaxError for one that does not compile."""
    return _parsed(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _parsed(file: Path, mtime: int) -> list[ast.stmt]:
    return ast.parse(file.read_text("utf-8"), str(file)).body


def functions(file: Path, exercise: str) -> list[Part]:
    """The functions of a file of checks, mistakes or variants that are marked for an exercise, decorators included.
    Raises SyntaxError for a file that does not compile."""
    found = []
    for node in _statements(file):
        if isinstance(node, ast.FunctionDef) and exercise in _marked_for(node):
            found.append(lines_of(file, node.decorator_list[0].lineno, node.end_lineno, node.name))
    return found


def _marked_for(node: ast.FunctionDef) -> set[str]:
    """The exercises that a function's decorators name."""
    calls = (d for d in node.decorator_list if isinstance(d, ast.Call) and isinstance(d.func, ast.Name))
    firsts = (d.args[0] for d in calls if d.func.id in ("exercise", "mistake", "variant") and d.args)
    return {first.value for first in firsts if isinstance(first, ast.Constant)}


def entry(file: Path, table: str, exercise: str) -> Part | None:
    """The entry of an exercise in a table of the checks' file, such as SYMMETRIES; None if it has none."""
    found = dictionary(file, table)
    for key, value in zip(found.keys, found.values) if found else ():
        if isinstance(key, ast.Constant) and key.value == exercise:
            return lines_of(file, key.lineno, value.end_lineno)
    return None


def dictionary(file: Path, table: str) -> ast.Dict | None:
    """A dictionary that a file assigns to a name at its top level."""
    for node in _statements(file):
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id == table for t in targets):
                return node.value
    return None
