"""An answer gets the same points and the same hint in the sandbox as it gets at home."""

import ast
import copy
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from utils import dev_check
from utils.checking import run_checks
from utils.course import Chapter, answer_cells, chapters, load_answers
from utils.grading.remote import RemoteSubmission
from utils.grading.sandbox import Sandbox
from utils.results import Result

SEED = 1


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        assert sandbox.problem is None
        yield sandbox


def as_cell(function: Callable, name: str) -> str:
    """What a learner would have written: the function under the exercise's name, after all that
    its module defines for it."""
    tree = ast.parse(Path(inspect.getsourcefile(function)).read_text("utf-8"))
    marked = (ast.FunctionDef, ast.ClassDef)
    before = [node for node in tree.body if not (isinstance(node, marked) and node.decorator_list)]
    own = copy.deepcopy(
        next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == function.__name__)
    )
    own.decorator_list, own.name = [], name
    return ast.unparse(ast.Module([*before, own], []))


def judged(result: Result) -> tuple:
    return result.points, result.hint, result.unsolved, [check.passed for check in result.checks]


def exercises() -> list[tuple[Chapter, str]]:
    return [(chapter, name) for chapter in chapters() for name in chapter.exercise_names]


@pytest.mark.parametrize("chapter, name", exercises(), ids=lambda x: getattr(x, "name", x))
def test_every_known_answer_gets_the_same_in_the_sandbox(chapter, name, sandbox):
    """The reference, every known mistake and every variant."""
    reference = load_answers(chapter.source)[0]
    cells = dict(answer_cells(chapter.source))
    answers = {f.__name__: (f, as_cell(f, name)) for f in chapter.mistakes(name) + chapter.variants(name)}
    answers["the reference"] = reference[name], cells[name]
    different = {}
    for label, (function, code) in answers.items():
        here = dev_check.run(chapter, name, function, reference[name], SEED)
        submission = RemoteSubmission(sandbox, cells["setup"], {name: code}, reference)
        try:
            there = run_checks(
                chapter.checks(name), submission, lambda: chapter.mistakes(name), SEED
            )
        finally:
            submission.stop()
        if judged(here) != judged(there):
            different[label] = judged(here), judged(there), [c.message for c in there.checks]
    assert different == {} and len(answers) > 5
