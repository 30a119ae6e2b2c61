"""Where the course keeps its things: chapters, notebooks, checks, and the answers in a file."""

import ast
import difflib
import importlib.util
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from circuits.cells import OWN_SECONDS, cell_namespace, run_cell, run_own
from utils.errors import CourseError

# In a clone, the clone. Installed from a wheel, a folder of this package.
_COURSE = Path(__file__).resolve().parent / "course"
INSTALLED = _COURSE.is_dir()
ROOT = _COURSE if INSTALLED else _COURSE.parents[1]
CHECK_PREFIX = "check_"  # grade_id of a check cell: this and the name of the exercise


@dataclass(frozen=True)
class Task:
    """What the released notebook says of an exercise."""

    name: str
    title: str  # for people: "count bigrams"
    difficulty: int  # 1 to 3
    minutes: int
    points: float
    former_names: tuple[str, ...] = ()  # in earlier releases

    @property
    def stars(self) -> str:
        return "●" * self.difficulty + "○" * (3 - self.difficulty)


@dataclass(frozen=True)
class Chapter:
    """One chapter: a folder `1_bigrams` that holds one notebook `bigrams`."""

    name: str
    root: Path = ROOT

    @property
    def notebook_name(self) -> str:
        return self.name.split("_", 1)[1]

    @property
    def source(self) -> Path:
        return self.root / "solutions" / self.name / f"{self.notebook_name}.py"

    @property
    def notebook(self) -> Path:
        return self.root / "notebooks" / self.name / f"{self.notebook_name}.ipynb"

    @property
    def checks_file(self) -> Path:
        return self.root / "tests" / "checks" / f"test_{self.notebook_name}.py"

    @property
    def mistakes_file(self) -> Path:
        return self.root / "tests" / "mistakes" / f"{self.notebook_name}.py"

    @property
    def variants_file(self) -> Path:
        return self.root / "tests" / "variants" / f"{self.notebook_name}.py"

    def checks(self, exercise: str | None = None) -> list[Callable]:
        return marked(load_module(self.checks_file), exercise)

    def mistakes(self, exercise: str | None = None) -> list[Callable]:
        return marked(load_module(self.mistakes_file), exercise)

    def variants(self, exercise: str | None = None) -> list[Callable]:
        return marked(load_module(self.variants_file), exercise)

    @cached_property
    def cells(self) -> list[dict[str, Any]]:
        """The cells of the released notebook."""
        return read_cells(self.notebook)

    @property
    def stubs(self) -> dict[str, Any]:
        """The exercises as they are released: functions that say what goes in and what should come out."""
        return _stubs(self.notebook, self.notebook.stat().st_mtime_ns)

    @property
    def title(self) -> str:
        heading = next((source(c) for c in self.cells if c["cell_type"] == "markdown"), self.name)
        return heading.splitlines()[0].lstrip("# ")

    @property
    def exercise_names(self) -> tuple[str, ...]:
        """The exercises, in the order of the source."""
        return _exercise_names(self.source, self.source.stat().st_mtime_ns)

    @property
    def exercises(self) -> dict[str, float]:
        """Points by exercise, in the order of the released notebook."""
        points = {}
        for cell in self.cells:
            meta = cell["metadata"].get("nbgrader", {})
            if meta.get("grade"):
                points[meta["grade_id"].removeprefix(CHECK_PREFIX)] = meta["points"]
        return points

    @property
    def tasks(self) -> list[Task]:
        """The exercises with what stands above them, in the order of the released notebook."""
        found, above = [], ""
        for cell in self.cells:
            if cell["cell_type"] == "markdown":
                above = source(cell)
            elif name := exercise_of(cell):
                heading = re.match(r"#+ Exercise · (.*?) *([●○]{3}) +(\d+) min", above)
                title, stars, minutes = heading.groups() if heading else (name, "", "0")
                found.append(Task(
                    name, title, stars.count("●"), int(minutes), self.exercises[name],
                    tuple(former_names(cell)),
                ))  # fmt: skip
        return found


def chapters(root: Path = ROOT) -> list[Chapter]:
    """All chapters in their order, by the sources or, in a copy without them, the notebooks."""
    names = {p.name for folder in ("solutions", "notebooks") for p in (root / folder).glob("[0-9]*_*")}
    return [Chapter(name, root) for name in sorted(names, key=lambda n: (int(n.split("_")[0]), n))]


def chapter_of(exercise: str, root: Path = ROOT) -> Chapter:
    """The chapter that has an exercise. Raises CourseError for a name that is none."""
    names: list[str] = []
    for chapter in chapters(root):
        if not chapter.checks_file.exists():
            continue
        here = list(dict.fromkeys(c.exercise for c in chapter.checks()))
        if exercise in here:
            return chapter
        names += here
    if not names:
        raise CourseError(f"There are no checks in {root / 'tests' / 'checks'}: is the course complete?")
    close = difflib.get_close_matches(exercise, names, n=1)
    advice = f" Did you mean {close[0]!r}?" if close else " `progress()` shows all, and so does `circuits progress`."
    raise CourseError(f"No exercise is called {exercise!r}.{advice}")


def marked(module: ModuleType, name: str | None = None) -> list[Callable]:
    """The functions of a module marked for the exercise `name` (or for any), in its order."""
    found = [f for f in vars(module).values() if callable(f) and hasattr(f, "exercise")]
    return [f for f in found if name in (None, f.exercise)]


def load_module(file: Path) -> ModuleType:
    """A Python file as a module, loaded anew when the file has changed."""
    return _load_module(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _load_module(file: Path, mtime: int) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"circuits_{file.parent.name}_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Notebooks and answers ----------------------------------------------------------------------


def source(cell: dict[str, Any]) -> str:
    """The text of a cell, which files hold as one string or as a list of lines."""
    text = cell.get("source", "")
    return text if isinstance(text, str) else "".join(text)


def decoded(data: bytes) -> str:
    """The text of a notebook or script as editors save it: UTF-8, -16 or -32, with or without a byte order
    mark, else what Windows takes for text. Raises ValueError if it is nothing of that, or empty."""
    try:
        text = data.decode(json.detect_encoding(data))
    except UnicodeDecodeError:
        text = data.decode("cp1252")
    if not text.strip():
        raise ValueError("it is empty")
    return text


def read_cells(file: Path) -> list[dict[str, Any]]:
    """The cells of a notebook or of a percent script. Raises CourseError if it is neither."""
    suffix = file.suffix.lower()
    if suffix not in (".ipynb", ".py"):
        raise CourseError(f"{file} is neither a notebook (.ipynb) nor a Python file (.py).")
    try:
        text = decoded(file.read_bytes())
        if suffix == ".ipynb":
            notebook = json.loads(text)
        else:
            import jupytext

            notebook = jupytext.reads(text, fmt="py:percent")
        cells = notebook["cells"]
        for cell in cells:
            source(cell), is_setup(cell), exercise_of(cell)  # a notebook has what these read
        return cells
    except FileNotFoundError:
        raise CourseError(f"{file} does not exist.") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise CourseError(f"{file} cannot be read as a notebook ({why}).") from None
    except (AttributeError, KeyError, TypeError):
        raise CourseError(f"{file} holds JSON that is no notebook.") from None


def exercise_of(cell: dict[str, Any]) -> str | None:
    """The exercise that a cell answers: as the source marks it, or as nbgrader does."""
    meta = cell["metadata"]
    if "exercise" in meta:
        return meta["exercise"]
    nbgrader = meta.get("nbgrader", {})
    return nbgrader.get("grade_id") if nbgrader.get("solution") else None


def former_names(cell: dict[str, Any]) -> list[str]:
    """The names that the exercise of a released cell had in earlier releases (`was="..."` in the source)."""
    return cell["metadata"].get("circuits", {}).get("was", [])


def is_setup(cell: dict[str, Any]) -> bool:
    """Whether a cell holds the imports that answers need."""
    return cell["cell_type"] == "code" and "setup" in cell["metadata"].get("tags", [])


def answer_cells(file: Path) -> list[tuple[str, str]]:
    """Name and code of what must run for the answers in a file: set-up, then each exercise."""
    stat = file.stat() if file.exists() else None
    return list(_answer_cells(file, stat and (stat.st_mtime_ns, stat.st_size)))


@lru_cache(maxsize=32)
def _answer_cells(file: Path, state: tuple[int, int] | None) -> list[tuple[str, str]]:
    cells = [c for c in read_cells(file) if c["cell_type"] == "code"]
    if file.suffix.lower() == ".py" and not any(exercise_of(c) for c in cells):
        return [("the file", decoded(file.read_bytes()))]
    return [(exercise_of(c) or "setup", source(c)) for c in cells if is_setup(c) or exercise_of(c)]


@lru_cache(maxsize=16)
def _exercise_names(file: Path, mtime: int) -> tuple[str, ...]:
    return tuple(name for name, _ in answer_cells(file) if name not in ("setup", "the file"))  # a new chapter has none


def load_answers(file: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Run the answers in a notebook, a percent script, or a plain Python file; of a notebook also what the learner added
    or changed, in its order.

    Returns their namespace, and a message for each cell that raised.
    """
    namespace = cell_namespace()
    problems: dict[str, str] = {}
    own_left = OWN_SECONDS
    for name, code in _cells_to_run(file):
        if not name:
            before = time.process_time()
            run_own("a cell of yours", code, namespace, own_left)
            own_left -= time.process_time() - before
            continue
        if name == "the file":
            namespace["__name__"] = "answers"
        try:
            run_cell(name, code, namespace)
        except (Exception, SystemExit) as error:
            where = "The file" if name == "the file" else f"The cell of {name}"
            says = (str(error).splitlines() or ["no message"])[0]
            problems[name] = f"{where} raised {type(error).__name__}: {says}"
    return namespace, problems


def _cells_to_run(file: Path) -> list[tuple[str, str]]:
    """As `answer_cells`; of a notebook also, under no name, the cells that no release has."""
    cells = answer_cells(file)
    if file.suffix.lower() != ".ipynb" or any(file == chapter.notebook for chapter in chapters()):
        return cells  # a source or a release, which are read often: there is nothing of a learner's
    names = {name for name, _ in cells}
    mine = next((chapter for chapter in chapters() if names & set(chapter.exercises)), None)
    if mine is None:
        return cells
    release = released(mine)
    return [
        (exercise_of(c) or ("setup" if is_setup(c) else ""), source(c))
        for c in read_cells(file)
        if c["cell_type"] == "code" and (exercise_of(c) or is_setup(c) or words(source(c)) not in release)
    ]


def released(chapter: Chapter) -> frozenset[str]:
    """The `words` of a chapter's code cells that hold no answers, as the source and the release have them: what a
    learner has not written."""
    files = [file for file in (chapter.source, chapter.notebook) if file.exists()]
    return frozenset().union(*(_released(file, file.stat().st_mtime_ns) for file in files))


@lru_cache(maxsize=16)
def _released(file: Path, mtime: int) -> frozenset[str]:
    return frozenset(words(source(c)) for c in read_cells(file) if c["cell_type"] == "code" and not exercise_of(c))


def words(code: str) -> str:
    """Code without what an editor may change at the ends of lines."""
    return "\n".join(line.rstrip() for line in code.strip().splitlines())


@lru_cache(maxsize=16)
def _stubs(notebook: Path, mtime: int) -> dict[str, Any]:
    namespace, _ = load_answers(notebook)
    names = [name for name, _ in answer_cells(notebook) if name != "setup"]
    return {name: namespace[name] for name in names if name in namespace}


def hints(chapter: Chapter, exercise: str) -> list[str]:
    """The hints of an exercise, from the text above its released cell."""
    above = ""
    for cell in chapter.cells:
        if cell["cell_type"] == "markdown":
            above = source(cell)
        elif exercise_of(cell) == exercise:
            return hints_in(above)
    return []


def hints_in(text: str) -> list[str]:
    """The hints in a text, each in a `<details>`."""
    return [hint.strip() for hint in re.findall(r"</summary>(.*?)</details>", text, re.DOTALL)]
