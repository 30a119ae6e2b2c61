"""How the cells of a notebook run outside Jupyter: by IPython's own rules, where nothing can be shown."""

import __future__
import ast
import asyncio
import contextlib
import functools
import inspect
import linecache
import operator
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import CodeType
from typing import Any

from circuits import limits

OWN_SECONDS = 20.0  # of computing, for all of a learner's own cells: what only defines is run even then
DEFINITION_SECONDS = 2.0  # for one of those, an import, say


def cell_namespace(namespace: dict[str, Any] | None = None) -> dict[str, Any]:
    """Where the cells of a notebook run one after the other, as Jupyter has it: a new namespace, or one made so."""
    namespace = {} if namespace is None else namespace
    shell = _NoShell(namespace)
    namespace |= {
        "__name__": "__main__", "display": lambda *args, **kwargs: None, "get_ipython": lambda: shell,
    }  # fmt: skip
    return namespace


class _NoShell:
    """What stands for IPython's shell: magics and shell commands do nothing, quietly, but for those that run code
    in the notebook itself."""

    RUN = ("time", "capture", "prun")

    def __init__(self, namespace: dict[str, Any]):
        self._namespace = namespace

    def getoutput(self, *args, **kwargs) -> list[str]:
        return []

    def run_line_magic(self, name: str, line: str, *args) -> None:
        if name == "time":
            run_cell("%time", line, self._namespace)

    def run_cell_magic(self, name: str, line: str, cell: str) -> None:
        if name in self.RUN:
            run_cell(f"%%{name}", cell, self._namespace)

    def __getattr__(self, name: str) -> Callable:
        return lambda *args, **kwargs: None


def run_cell(name: str, code: str, namespace: dict[str, Any]) -> None:
    """Run the code of a cell, top-level `await` included. Raises SyntaxError, and whatever the code raises."""
    run_code(compile_cell(name, code, namespace), namespace)


def run_code(code: CodeType, namespace: dict[str, Any]) -> None:
    """Run what `compile_cell` or `split_cell` made of a cell. Raises whatever the code raises."""
    waiting = eval(code, namespace)
    if inspect.iscoroutine(waiting):
        _waited_for(waiting)


def _waited_for(waiting: Coroutine) -> None:
    try:
        loop = asyncio.new_event_loop()
    except OSError:  # in the sandbox, where no socket can be had: what waits for nothing real runs all the same
        with contextlib.suppress(StopIteration):
            while True:
                waiting.send(None)
    else:
        with contextlib.closing(loop), ThreadPoolExecutor(1) as another:
            if _a_loop_runs():  # a kernel's, and a thread has one at most
                another.submit(loop.run_until_complete, waiting).result()
            else:
                loop.run_until_complete(waiting)


def _a_loop_runs() -> bool:
    try:
        return bool(asyncio.get_running_loop())
    except RuntimeError:
        return False


def run_own(name: str, code: str, namespace: dict[str, Any], seconds: float) -> BaseException | None:
    """Run a cell of a learner's own, statement by statement, so that one that draws, or looks at what is not here,
    keeps no helper from those that need it. After `seconds` of computing, what follows is run if it only defines something.

    Returns the first error, which may be `limits.OutOfTime`."""
    until = time.process_time() + seconds
    first: BaseException | None = None
    try:
        statements = split_cell(name, code, namespace)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return error
    for statement, only_defines in statements:
        left = until - time.process_time()
        left = max(left, DEFINITION_SECONDS) if only_defines else left
        if left <= 0:
            continue
        try:
            with limits.time_limit(left):
                run_code(statement, namespace)
        except KeyboardInterrupt:
            raise
        except limits.OutOfTime as error:
            until, first = 0.0, first or error
        except BaseException as error:
            first = first or error
    return first


# `from __future__ import annotations` in one cell holds for those after it, as in Jupyter.
_FLAGS = "__compiler_flags__"
_FUTURE = functools.reduce(operator.or_, (getattr(__future__, f).compiler_flag for f in __future__.all_feature_names))


def compile_cell(name: str, code: str, namespace: dict[str, Any] | None = None) -> CodeType:
    """The code of an answer's cell, ready to run; tracebacks and `inspect` will find its text.

    What only Jupyter understands (`%timeit`, `!ls`, `f?`) becomes calls of `get_ipython()`, by IPython's own rules.
    Raises SyntaxError."""
    namespace = {} if namespace is None else namespace
    return _compiled(name, _parsed(name, code, namespace), namespace)


def split_cell(name: str, code: str, namespace: dict[str, Any]) -> list[tuple[CodeType, bool]]:
    """The statements of a cell, one by one, and of each whether it only defines something: a function, a class, an
    import, a constant. Raises SyntaxError."""
    statements = []
    for node in _parsed(name, code, namespace).body:
        only_defines = isinstance(node, _DEFINITIONS) or isinstance(node, ast.Assign) and _is_constant(node.value)
        statements.append((_compiled(name, ast.Module([node], []), namespace), only_defines))
    return statements


_DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom


def _is_constant(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError, SyntaxError):
        return False
    return True


def names_made(code: str) -> set[str]:
    """The names that a cell's own statements define, import or assign."""
    made: set[str] = set()
    nodes: list[ast.AST] = [_parsed("a cell", code, {})]
    while nodes:
        match node := nodes.pop():
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                made.add(name)
                continue  # what is made inside is not made here
            case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                continue
            case ast.Name(id=name, ctx=ast.Store()):
                made.add(name)
            case ast.alias(name=name, asname=other):
                made.add(other or name.partition(".")[0])
        nodes += ast.iter_child_nodes(node)
    return made


def _parsed(name: str, code: str, namespace: dict[str, Any]) -> ast.Module:
    linecache.cache[f"<{name}>"] = (len(code), None, code.splitlines(keepends=True), f"<{name}>")
    try:
        return _syntax(name, code, namespace)
    except SyntaxError:
        from IPython.core.inputtransformer2 import TransformerManager  # takes a tenth of a second

        plain = TransformerManager().transform_cell(code)
        if plain.strip() == code.strip():
            raise
        return _syntax(name, plain, namespace)


def _syntax(name: str, code: str, namespace: dict[str, Any]) -> ast.Module:
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | namespace.get(_FLAGS, 0)
    return compile(code, f"<{name}>", "exec", flags, dont_inherit=True)


def _compiled(name: str, tree: ast.Module, namespace: dict[str, Any]) -> CodeType:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | namespace.get(_FLAGS, 0)
    compiled = compile(tree, f"<{name}>", "exec", flags, dont_inherit=True)
    if future := compiled.co_flags & _FUTURE:
        namespace[_FLAGS] = namespace.get(_FLAGS, 0) | future
    return compiled
