"""What the cells of a chapter show when every exercise has its reference answer: run once, and kept until something that can
change it changes.

Kept by content. A result stands as long as the code of the chapter's cells, its checks, the modules of the course that it
imports (directly or not), the trained models and the versions of what is installed are what they were. Prose is not among these.
"""

import ast
import hashlib
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import utils
from circuits.build import source_notebook
from circuits.chapters import CHECK_PREFIX, INSTALLED, ROOT, Chapter
from circuits.results import points_text
from utils.errors import CourseError
from utils.files import write_file
from utils.waiting import time_left

OURS = ("circuits", "utils")
TYPICAL = 110.0  # seconds that a chapter takes on two cores, before one has been measured here
CELL_SECONDS = 1800  # a cell that takes longer hangs
KEPT = 2  # the form of what is kept


@dataclass
class Results:
    """What a chapter's code cells showed, in their order, as nbformat has outputs; what they were made from, as digests by
    path; and how long it took."""

    outputs: list[list[dict]]
    made_from: dict[str, str]
    seconds: float

    def stand(self, chapter: Chapter) -> bool:
        """Whether nothing has changed that they were made from. What has been added since, another model, changes nothing."""
        now = made_from(chapter)
        return all(now.get(path) == digest for path, digest in self.made_from.items())


def results(chapters: list[Chapter], kept: Path, say: Callable[[str], None]) -> dict[str, Results]:
    """The results of chapters by name: those kept in a folder that still stand, and the others run anew and kept.

    Says what it does, and how long it will take. Raises CourseError for a chapter in which a cell fails, or a check."""
    found = {chapter.name: _read(chapter, kept) for chapter in chapters}
    todo = [c for c in chapters if found[c.name] is None or not found[c.name].stand(c)]
    estimates = [before.seconds if (before := found[c.name]) else TYPICAL for c in todo]
    if todo:
        names = ", ".join(chapter.name for chapter in todo)
        say(f"To run: {names} (about {sum(estimates) / 60:.0f} min); {len(chapters) - len(todo)} kept from before.")
    gone = 0.0
    for i, chapter in enumerate(todo):
        begun = time.monotonic()
        new = found[chapter.name] = run(chapter)
        write_file(_file(chapter, kept), json.dumps({"form": KEPT, **asdict(new)}).encode())
        gone += time.monotonic() - begun
        left = time_left(sum(estimates[: i + 1]), sum(estimates), gone)
        say(f"  {chapter.name}: {new.seconds:.0f} s" + f"; {left} for the others" * (i + 1 < len(todo) and bool(left)))
    return found


def _file(chapter: Chapter, kept: Path) -> Path:
    return kept / f"{chapter.name}.json"


def _read(chapter: Chapter, kept: Path) -> Results | None:
    """What was kept of a chapter; None if that is nothing, or cannot be read."""
    try:
        data = json.loads(_file(chapter, kept).read_bytes())
        return Results(data["outputs"], data["made_from"], data["seconds"]) if data["form"] == KEPT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def run(chapter: Chapter) -> Results:
    """Run all cells of a chapter, exercises with their reference answers, in a kernel and a folder of its own. Raises CourseError if a cell
    raises, or a check does not give all its points."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    from tqdm import tqdm

    before, begun = made_from(chapter), time.monotonic()
    notebook = source_notebook(chapter)
    for cell in notebook.cells:
        cell.metadata.pop("tags", None)  # so that the first cell that raises ends it
    bar = tqdm(total=len(notebook.cells), desc=f"  {chapter.name}", unit="cell", leave=False, disable=None, delay=1.0)
    with bar, tempfile.TemporaryDirectory(prefix="circuits-site-") as folder:
        # No learner's progress is read or written, and a file of this machine cannot be taken for one of the course's.
        env = {**os.environ, "NBGRADER_EXECUTION": "site", "XDG_DATA_HOME": folder, "TQDM_DISABLE": "1"}
        env.pop("CIRCUITS_QUICK", None)
        client = NotebookClient(
            notebook, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}},
            on_cell_start=lambda cell, cell_index: bar.update(cell_index - bar.n),
        )  # fmt: skip
        with suppress(CellExecutionError):  # which is in the cell's output
            client.execute(env=env, stderr=subprocess.DEVNULL)  # what a kernel says of itself
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in cells:
        _refuse_failed(chapter, cell)
    outputs = json.loads(json.dumps([cell.outputs for cell in cells]))
    return Results(outputs, before, round(time.monotonic() - begun, 1))


def _refuse_failed(chapter: Chapter, cell) -> None:
    for output in cell.outputs:
        if output.output_type == "error":
            raise CourseError(f"{chapter.name}: cell {cell.id!r} raised {output.ename}: {output.evalue}. The site was not built.")
    meta = cell.metadata.get("nbgrader", {})
    if meta.get("grade"):
        shown = [o.data.get("text/plain") for o in cell.outputs if "data" in o]
        if shown[-1:] != [points_text(meta["points"])]:
            exercise = meta["grade_id"].removeprefix(CHECK_PREFIX)
            raise CourseError(
                f"{chapter.name}: the reference answer of {exercise!r} does not pass its checks (`circuits dev-check "
                f"{exercise}` says why). The site was not built."
            )


# What results are made from -----------------------------------------------------------------


def made_from(chapter: Chapter) -> dict[str, str]:
    """Digests, by path, of all that can change what a chapter's cells show."""
    code = "\0".join(cell.source for cell in source_notebook(chapter).cells if cell.cell_type == "code")
    files = {chapter.checks_file, chapter.mistakes_file}
    modules = _modules(set().union(*(_imported(file.read_text("utf-8")) for file in (chapter.source, *files))))
    data = (file for file in (_PACKAGES / "utils").rglob("*") if file.suffix in (".json", ".safetensors"))
    found = {str(file.relative_to(_PACKAGES)): _digest(file, file.stat().st_mtime_ns) for file in (*modules, *data)}
    found |= {str(file.relative_to(chapter.root)): _digest(file, file.stat().st_mtime_ns) for file in files}
    versions = _PACKAGES / "constraints.txt"
    found["versions"] = _hex(platform.python_version().encode() + (versions.read_bytes() if versions.exists() else b""))
    return {"code": _hex(code.encode()), **found}


_PACKAGES = ROOT.parents[1] if INSTALLED else ROOT  # where `circuits` and `utils` lie


def _modules(names: set[str]) -> set[Path]:
    """The files of these modules of the course, and of all that they import."""
    found: set[Path] = set()
    todo = set(names)
    while todo:
        name = todo.pop()
        for file in _files(name) - found:
            found.add(file)
            todo |= _imports_of(file, file.stat().st_mtime_ns)
    return found


def _files(name: str) -> set[Path]:
    """A module's file, and those of the packages that it is in. What is no module, but a name in one, has none."""
    parts = name.split(".")
    stems = [_PACKAGES.joinpath(*parts[:n]) for n in range(1, len(parts) + 1)]
    candidates = [c for stem in stems for c in (stem / "__init__.py", stem.with_suffix(".py"))]
    return {file for file in candidates if file.exists()}


@lru_cache(maxsize=None)
def _imports_of(file: Path, mtime: int) -> frozenset[str]:
    return frozenset(_imported(file.read_text("utf-8")))


def _imported(code: str) -> set[str]:
    """The names of the course that some code imports, anywhere in it."""
    return {name for node in ast.walk(ast.parse(code)) for name in _names(node) if name.split(".")[0] in OURS}


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            yield f"{node.module}.{alias.name}"
            if node.module == "utils":  # which imports the file of a name when it is asked for
                yield f"utils.{utils._FILE_OF.get(alias.name, alias.name)}"


@lru_cache(maxsize=None)
def _digest(file: Path, mtime: int) -> str:
    return _hex(file.read_bytes())


def _hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
