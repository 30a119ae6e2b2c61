"""Every exercise is good, at home and in the sandbox: and what makes one bad is found."""

import ast
import copy
import inspect
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import cells_of

from circuits import dev_check
from circuits.chapters import ROOT, answer_cells, chapters, load_answers
from circuits.dev_check import problems, run, strays
from circuits.grading.remote import RemoteSubmission
from circuits.judging import run_checks
from circuits.results import Result


def as_cell(function: Callable, name: str) -> str:
    """What a learner would have written: the function under the exercise's name, after all that
    its module defines for it, and the other answers that it builds on."""
    tree = ast.parse(Path(inspect.getsourcefile(function)).read_text("utf-8"))
    answers = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef) and n.decorator_list}
    wanted, todo = set(), [function.__name__]
    while todo:
        wanted.add(label := todo.pop())
        used = {node.id for node in ast.walk(answers[label]) if isinstance(node, ast.Name)}
        todo += used & answers.keys() - wanted
    body = []
    for node in tree.body:
        if answers.get(getattr(node, "name", None)) is not node:
            body.append(node)
        elif node.name in wanted:
            body.append(node := copy.deepcopy(node))
            node.decorator_list = []
            node.name = name if node.name == function.__name__ else node.name
    return ast.unparse(ast.Module(body, []))


def judged(result: Result) -> tuple:
    return result.points, result.hint, result.unsolved, [check.passed for check in result.checks]


# `make test` proves the first exercise of each chapter, `make proof` the others. Whoever changes one runs
# `circuits dev-check EXERCISE`, or `make dev-check` for all.


@pytest.mark.parametrize(
    "chapter, exercise",
    [
        pytest.param(c, name, id=f"{c.name}-{name}", marks=[pytest.mark.proof] if i else [])
        for c in chapters()
        for i, name in enumerate(c.exercise_names)
    ],
)
def test_every_exercise_is_proven_and_gets_the_same_in_the_sandbox(chapter, exercise, sandbox, monkeypatch):
    """The reference, every known mistake and every variant: first at home, and then each as a cell in
    the sandbox, for the same points and the same hint."""
    here = {}

    def recorded(chapter, exercise, answer, like, seed=0):
        here[answer.__name__, seed] = run(chapter, exercise, answer, like, seed)
        return here[answer.__name__, seed]

    monkeypatch.setattr(dev_check, "run", recorded)
    assert problems(exercise) == ([], 1)

    reference, cells = load_answers(chapter.source)[0], dict(answer_cells(chapter.source))
    answers = {f.__name__: as_cell(f, exercise) for f in chapter.mistakes(exercise) + chapter.variants(exercise)}
    answers[reference[exercise].__name__] = cells[exercise]
    different = {}
    for label, code in answers.items():
        submission = RemoteSubmission(sandbox, cells["setup"], cells_of({exercise: code}), reference)
        try:
            there = run_checks(chapter.checks(exercise), submission, lambda: chapter.mistakes(exercise), seed=0)
        finally:
            submission.stop()
        if judged(here[label, 0]) != judged(there):
            different[label] = judged(here[label, 0]), judged(there), [c.message for c in there.checks]
    assert different == {} and len(answers) > 5


def test_nothing_is_checked_that_is_no_exercise_and_nothing_twice():
    assert [line for chapter in chapters() for line in strays(chapter)] == []


CHECKS = '''
import torch

from circuits.checking import exercise, expect

SYMMETRIES = {"double": "its argument is a number"}

@exercise("double", points=1, explains=True)
def test_doubles(submission, rng):
    expect(submission.double(2.0), 4.0, "double of 2")

@exercise("double", points=1)
def test_doubles_negative_numbers(submission, rng):
    x = -3 - torch.rand(1, generator=rng).item()
    expect(submission.double(x), 2 * x, f"double of {x:.3f}")

@exercise("double", points=0.5, explains=True)
def test_leaves_zero_alone(submission, rng):
    expect(submission.double(0.0), 0.0, "double of 0")
'''
IMPORT = "from circuits.checking import exercise, expect"
EXPLAINED = '\nCOINCIDENCES = {("double", "x never varies"): "there is one number"}\n'
MISTAKES = "from circuits.checking import mistake\n" + "".join(
    f'\n@mistake("double", hint="You compute {code}.")\ndef wrong_{i}(x):\n    return {code}\n'
    for i, code in enumerate(["x + 1", "x * x * x", "x", "-x - 1", "4"])
)
VARIANTS = '''
from circuits.checking import variant

@variant("double")
def by_addition(x):
    return x + x

@variant("double")
def by_division(x):
    return x / 0.5
'''
SOURCE = '''
# %% [markdown]
# ### Exercise · double    ●○○   1 min
# <details><summary>Hint 1</summary>Twice.</details>
# <details><summary>Hint 2</summary>Two times x.</details>

# %% exercise="double"
def double(x: float) -> float:
    """Twice x."""
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION

# %% check="double"
check("double")
'''


@pytest.fixture
def course(tmp_path):
    """A course of one chapter with one exercise, in which everything is in order."""
    from circuits.build import build

    files = {
        "solutions/1_tiny/tiny.py": SOURCE,
        "tests/checks/test_tiny.py": CHECKS,
        "tests/mistakes/tiny.py": MISTAKES,
        "tests/variants/tiny.py": VARIANTS,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    build(tmp_path)
    return tmp_path


def test_a_good_exercise_has_no_problem(course):
    assert problems(root=course) == ([], 1)


@pytest.mark.parametrize(
    "file, old, new, problem",
    [
        ("solutions/1_tiny/tiny.py", '    """Twice x."""\n', "", "has no docstring"),
        ("solutions/1_tiny/tiny.py", "return 2 * x", "return 3 * x", "the reference answer fails"),
        ("solutions/1_tiny/tiny.py", "return 2 * x", "return 2 * y", "the reference answer fails"),
        ("solutions/1_tiny/tiny.py", "def double", "def treble", "has no reference answer"),
        ("solutions/1_tiny/tiny.py", "def double", "1 / 0\ndef double", "raised ZeroDivisionError"),
        ("tests/checks/test_tiny.py", "points=0.5", "points=0", "is worth 0 points"),
        ("tests/checks/test_tiny.py", '@exercise("double", points=0.5, explains=True)\n', "", "has 2 checks"),
        ("tests/checks/test_tiny.py", "test_doubles_negative_numbers", "test_doubles", "defines test_doubles twice"),
        (
            "tests/checks/test_tiny.py",
            "expect(submission.double(x), 2 * x",
            "expect(2 * x, 2 * x",
            "test_doubles_negative_numbers gives points unsolved",
        ),
        ("tests/checks/test_tiny.py", "points=1, explains=True", "points=1", "test_doubles asks the same with every seed"),
        ("tests/checks/test_tiny.py", "points=1)", "points=1, explains=True)", "has no check that gives points by itself"),
        (
            "tests/checks/test_tiny.py",
            "expect(submission.double(x), 2 * x",
            "expect(submission.double(x) + submission.double(-x), 0",
            "test_doubles_negative_numbers gives points to a lazy answer, zeros",
        ),
        ("tests/checks/test_tiny.py", IMPORT, IMPORT + EXPLAINED, "explains 'x never varies', which is not so"),
        ("tests/checks/test_tiny.py", IMPORT, IMPORT + EXPLAINED.replace("double", "duble"), "COINCIDENCES of 'duble'"),
        ("tests/checks/test_tiny.py", '{"double": "its', '{"duble": "its', "SYMMETRIES of 'duble', which is no exercise"),
        ("tests/checks/test_tiny.py", '{"double": "its', '{"duble": "its', "does not say what its answer must follow"),
        ("tests/checks/test_tiny.py", "its argument is a number", " ", "SYMMETRIES gives an empty reason"),
        ("tests/checks/test_tiny.py", "rng):", "rng):\n    submission.double(2.0); return", "x never varies"),
        ("tests/mistakes/tiny.py", '@mistake("double", hint="You compute 4.")', "", "has 4 known mistakes"),
        ("tests/mistakes/tiny.py", "return 4", "return 2 * x", "the mistake wrong_4 passes"),
        ("tests/mistakes/tiny.py", "return 4", "return x + 1", "the mistake wrong_4 gets the hint"),
        ("tests/mistakes/tiny.py", "You compute 4.", " ", "the mistake wrong_4 has no hint"),
        ("tests/mistakes/tiny.py", "def wrong_4(x)", "def wrong_4(y)", "wrong_4 does not take (x)"),
        ("tests/mistakes/tiny.py", '"double", hint="You compute 4."', '"duble", hint="You"', "'duble', which is no exercise"),
        ("tests/variants/tiny.py", "return x + x", "return x + 1", "the variant by_addition fails"),
        ("tests/variants/tiny.py", '@variant("double")\ndef by_addition', "def by_addition", "has 1 variants"),
        ("notebooks/1_tiny/tiny.ipynb", "Two times x.", "", "has an empty hint"),
        ("notebooks/1_tiny/tiny.ipynb", "<details><summary>Hint 2</summary>", "", "has 1 hints"),
    ],
)
def test_what_is_wrong_with_an_exercise_is_found(course, file, old, new, problem):
    text = (course / file).read_text()
    assert old in text
    (course / file).write_text(text.replace(old, new))
    assert any(problem in line for line in problems(root=course)[0])
