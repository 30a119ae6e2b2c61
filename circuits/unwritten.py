"""In a notebook's kernel: an exercise that is not written yet stops nothing but what needs it, and that says so in a line.

When everything runs at once (*Run All*), most exercises raise NotImplementedError, the cells that call them fail, and
those that use what these would have made fail with a NameError that names no exercise. Here a stub that has run is
replaced by one that gives the reference answer, where there is one, and says so; where there is none, in a class, the
cells that need it say which exercise they need, and count as run. (JupyterLab and VS Code stop at a cell that failed.)

A cell of the course that was interrupted says so in a line, too, and counts as failed.
"""

import ast
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from circuits.cells import names_made
from circuits.chapters import Chapter, chapters, exercise_of, load_answers, released, source, words
from circuits.learners_copy import course_of
from circuits.report import BOX, OPEN, inline

_said: set[str] = set()  # the exercises of which the running cell has said that they are the reference's
_wanting: dict[str, set[str]] = {}  # names that a cell would have made or filled, and the exercises it failed for want of
_explained: BaseException | None = None  # what was shown as a line
_judging = False


class NeedsAnswer(NotImplementedError):
    """A cell calls an exercise that is not written yet."""

    def __init__(self, exercise: str):
        super().__init__(f"needs `{exercise}` above")
        self.exercise = exercise


class Note:
    """One calm line: text that a notebook shows in a box."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f'<div role="note" style="{BOX.format(color=OPEN)}">{inline(self.text)}</div>'


def install() -> None:
    """Do this in the kernel that runs here; anywhere else, nothing."""
    shell = _shell()
    if shell is None or hasattr(shell, "_circuits"):
        return
    shell._circuits = True
    shell.events.register("pre_run_cell", lambda info: _said.clear())
    shell.events.register("post_run_cell", _after_cell)
    shell.set_custom_exc((Exception, KeyboardInterrupt), _explain)


def _shell() -> Any:
    """IPython's shell, if it is what runs here. (Who has not loaded IPython is not in it.)"""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def in_notebook() -> bool:
    """Whether what is shown now appears below a cell."""
    return _shell() is not None


@contextmanager
def only_the_learners() -> Iterator[None]:
    """While an answer is judged, no reference stands in for another one that it calls."""
    global _judging
    _judging, before = True, _judging
    try:
        yield
    finally:
        _judging = before


# A stub that has run ------------------------------------------------------------------------


def is_unwritten(answer: Any) -> bool:
    """Whether this is what stands where an exercise is not written yet."""
    return getattr(answer, "_circuits_unwritten", False)


def _replace_stubs(code: str, namespace: dict[str, Any]) -> None:
    if "NotImplementedError" not in code:
        return
    for name, function in _functions(code).items():
        if name in _chapter_of_exercise() and function == _stubs(_chapter_of_exercise()[name]).get(name):
            namespace[name] = _stand_in(name, namespace[name])


def _functions(code: str) -> dict[str, str]:
    """The functions of a cell, in a form that shows no difference in blanks and comments."""
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError):
        return {}
    return {node.name: ast.dump(node) for node in body if isinstance(node, ast.FunctionDef)}


@functools.cache
def _stubs(chapter: Chapter) -> dict[str, str]:
    """The exercises of a chapter as they are released."""
    return {k: v for cell in chapter.cells if exercise_of(cell) for k, v in _functions(source(cell)).items()}


def _stand_in(name: str, stub: Callable) -> Callable:
    @functools.wraps(stub)
    def answer(*args, **kwargs):
        if _judging:
            return stub(*args, **kwargs)
        reference = _references(_chapter_of_exercise()[name].name, course_of(Path.cwd())).get(name)
        if reference is None:
            raise NeedsAnswer(name)
        if name not in _said:
            _said.add(name)
            show(Note(f"`{name}` is not written yet: what you see here comes from the reference answer."))
        return reference(*args, **kwargs)

    answer._circuits_unwritten = True
    return answer


@functools.cache
def _chapter_of_exercise() -> dict[str, Chapter]:
    return {name: chapter for chapter in chapters() for name in chapter.exercises}


@functools.cache
def _references(chapter: str, root: Path) -> dict[str, Any]:
    """The reference answers of a chapter, in a copy of the course that has them."""
    file = Chapter(chapter, root).source
    return load_answers(file)[0] if file.exists() else {}


def show(what: Any) -> None:
    """Show something between the results of a cell; outside of notebooks, print it."""
    if not in_notebook():
        print(what)
    else:
        from IPython.display import display

        display(what)


# A cell that failed for want of one ---------------------------------------------------------


def _after_cell(result: Any) -> None:
    """Whatever a cell that went well has made is wanting no longer; and a stub that it defines gets its stand-in. One
    that said what it needs has failed and is done with."""
    global _explained
    code = result.info.raw_cell or ""
    if result.error_in_exec is not None and result.error_in_exec is _explained:
        result.error_in_exec = _explained = None  # for Jupyter it went well, so that it runs the cells below
    elif result.success:
        _replace_stubs(code, _shell().user_ns)
        for name in _filled(code):
            _wanting.pop(name, None)


def _explain(shell: Any, kind: type, error: BaseException, trace: TracebackType, tb_offset: int | None = None) -> None:
    """Show an exception, as IPython asks for it: as a line, if it comes of an exercise that is not written, or if a cell
    of the course was interrupted."""
    code = str(shell.user_ns.get("In", [""])[-1])
    if kind is KeyboardInterrupt:
        _let_nothing_follow(shell)
    if kind is KeyboardInterrupt and _of_the_course(code):
        show(Note(_stopped(trace, shell.user_ns)))
        return
    missing = _missing_of(error, trace, shell.user_ns) or _missing_in(code)
    if missing is None:
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset, running_compiled_code=True)
        return
    global _explained
    _explained = error
    _wanting.update(dict.fromkeys(_filled(code), missing))
    if plots := sys.modules.get("matplotlib.pyplot"):
        plots.close("all")  # a figure that was begun has nothing to show
    show(Note(_needs(missing)))


def _missing_of(error: BaseException, trace: TracebackType, namespace: dict[str, Any]) -> set[str] | None:
    """The exercises for want of which something was raised; None if it has another reason, as far as it tells."""
    inside = _innermost(trace)
    if isinstance(error, NeedsAnswer):
        return {error.exercise}
    if isinstance(error, NotImplementedError):
        return {inside} if not str(error) and inside in _chapter_of_exercise() else None
    name = error.name if isinstance(error, NameError) else None
    if name is None or name in namespace or inside in _chapter_of_exercise():
        return None  # in an answer, a name that is missing is the learner's to find
    if name in _chapter_of_exercise():
        return {name}
    chapter = max(chapters(), key=lambda c: len(c.exercises.keys() & namespace.keys()))
    makers = _makers(chapter)
    return _missing(name, makers, set(chapter.exercises), namespace, set()) or None if name in makers else None


def _missing_in(code: str) -> set[str] | None:
    """The exercises for want of which a cell of the release failed: those before it that would have filled what it
    uses did."""
    if not _of_the_course(code):
        return None
    return set().union(*(_wanting.get(name, set()) for name in _used(code))) or None


def _of_the_course(code: str) -> bool:
    """Whether a cell is as the course has it, and holds no answer."""
    return any(words(code) in released(chapter) for chapter in chapters())


def _let_nothing_follow(shell: Any) -> None:
    """Who stops *Run All* means all of it. Cells of the course are tagged so that a failed one does not end it, and
    Jupyter takes an interrupt for a failure. (ipykernel's own step after one, which has no public name.)"""
    abort = getattr(getattr(shell, "kernel", None), "_abort_queues", None)
    if abort is not None:
        abort()


def _stopped(trace: TracebackType | None, namespace: dict[str, Any]) -> str:
    """What to say of a cell that was interrupted, with the function of the notebook that it stood in."""
    inside = ""
    while trace:
        if trace.tb_frame.f_globals is namespace and trace.tb_frame.f_code.co_name.isidentifier():
            inside = f" in `{trace.tb_frame.f_code.co_name}`"
        trace = trace.tb_next
    return f"Stopped{inside}. What was made before stays; run this cell again to begin it anew."


def _used(code: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}


def _filled(code: str) -> set[str]:
    """The names that a cell makes, or puts something into: `x[key] = ...`, `x.append(...)`."""
    try:
        tree, found = ast.parse(code), names_made(code)
    except (SyntaxError, ValueError):
        return set()
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store()):
                found.add(name)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="append" | "extend" | "add" | "update")):
                found.add(name)
    return found


def _innermost(trace: TracebackType) -> str:
    while trace.tb_next:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_name


def _needs(exercises: set[str]) -> str:
    names = ", ".join(f"`{name}`" for name in sorted(exercises))
    them = "them, run their cells," if len(exercises) > 1 else "it, run its cell,"
    return f"This cell needs {names} above: write {them} and run this one again."


@functools.cache
def _makers(chapter: Chapter) -> dict[str, frozenset[str]]:
    """Of each name that a cell of a chapter makes, outside exercises: the names which that cell uses."""
    found: dict[str, frozenset[str]] = {}
    for cell in chapter.cells:
        if cell["cell_type"] == "code" and not exercise_of(cell):
            for name in names_made(source(cell)):
                found.setdefault(name, frozenset(_used(source(cell))))
    return found


def _missing(
    name: str, makers: dict[str, frozenset[str]], exercises: set[str], namespace: dict[str, Any], seen: set[str]
) -> set[str]:
    """The exercises for want of which a name was not made, directly or on the way to it."""
    seen.add(name)
    used = makers[name]
    missing = {e for e in used & exercises if e not in namespace or is_unwritten(namespace[e])}
    if missing:
        return missing
    for other in sorted(used & makers.keys() - seen - namespace.keys()):
        missing |= _missing(other, makers, exercises, namespace, seen)
    return missing
