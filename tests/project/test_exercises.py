"""Every exercise is good, at home and in the sandbox: and what makes one bad is found."""

import ast
import copy
import inspect
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import cells_of

import circuits.mystery.judge  # noqa: F401  known mistakes use it; a sandbox has what was imported before it was made
from circuits import dev_check
from circuits.build import build
from circuits.chapters import ROOT, answer_cells, chapters, load_answers
from circuits.dev_check import problems, run, strays
from circuits.grading.remote import RemoteSubmission
from circuits.judging import run_checks
from circuits.results import Result
from utils.errors import CourseError


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
    """The reference, every known mistake and every variant at home; and then the reference, the variants and every
    fourth of the mistakes as a cell in the sandbox, for the same points and the same hint. (All mistakes would take twice as
    long, and it is types and rounding that a sandbox could get wrong, not one mistake.)"""
    here = {}

    def recorded(chapter, exercise, answer, like, seed=0):
        here[answer.__name__, seed] = run(chapter, exercise, answer, like, seed)
        return here[answer.__name__, seed]

    monkeypatch.setattr(dev_check, "run", recorded)
    assert problems(exercise) == ([], 1)

    reference, cells = load_answers(chapter.source)[0], dict(answer_cells(chapter.source))
    answers = {f.__name__: as_cell(f, exercise) for f in chapter.mistakes(exercise)[::4] + chapter.variants(exercise)}
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
    assert different == {} and len(answers) > 4


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
        ("solutions/1_tiny/tiny.py", "Two times x.", "", "has an empty hint"),
        ("solutions/1_tiny/tiny.py", "<details><summary>Hint 2</summary>", "", "has 1 hints"),
        ("solutions/1_tiny/tiny.py", "### Exercise · double    ●○○   1 min", "### Double", "needs a text above its cell"),
        ("solutions/1_tiny/tiny.py", "    ### BEGIN SOLUTION\n", "", "else the release shows it"),
        ("solutions/1_tiny/tiny.py", '# %% check="double"', "# %%", "has no cell that checks it"),
        ("solutions/1_tiny/tiny.py", "Twice.", "Twice!", "is another in"),
        ("solutions/1_tiny/tiny.py", '"""Twice x."""', '"""Two times x."""', "is another in"),
        ("tests/checks/test_tiny.py", "points=0.5", "points=1.5", "is another in"),
        ("tests/checks/test_tiny.py", '@exercise("double"', '@exercise("single"', "has 0 checks; it needs at least 3"),
        ("tests/checks/test_tiny.py", "rng):", "rng:", "SyntaxError: "),
        ("tests/variants/tiny.py", "import variant", "import variants", "tests/variants/tiny.py:2: ImportError"),
        ("tests/mistakes/tiny.py", "You compute 4.", "TODO: say it", "to do: say it"),
    ],
)
def test_what_is_wrong_with_an_exercise_is_found(course, file, old, new, problem):
    text = (course / file).read_text()
    assert old in text
    (course / file).write_text(text.replace(old, new))
    found = problems(root=course)[0]
    assert any(problem in line for line in found), found


def test_a_file_that_is_missing_is_named(course):
    (course / "tests/variants/tiny.py").unlink()
    (found,) = problems("double", course)[0]
    assert found.endswith("tests/variants/tiny.py is missing: it holds the variants")


@pytest.mark.parametrize("minutes, problem", [
    ("about 20 minutes, 1 of them", None),
    ("about 20 minutes, 2 of them", "the exercises take 1 minutes, and the chapter's opening says 2 of 20"),
    ("about 1 minutes, 1 of them", "the exercises take 1 minutes, and the chapter's opening says 1 of 1"),
    ("about 30 minutes, 1 of them", "README.md has no line with `(notebooks/1_tiny/tiny.ipynb) | 30 | 1 |`"),
])  # fmt: skip
def test_the_minutes_that_an_exercise_adds_are_asked_for(course, minutes, problem):
    (course / "README.md").write_text("| 1 | [Tiny](notebooks/1_tiny/tiny.ipynb) | 20 | 1 | nothing |")
    file = course / "solutions/1_tiny/tiny.py"
    file.write_text(f"# %% [markdown]\n# # 1 · Tiny\n#\n# **Time**: {minutes} for the exercises.\n{file.read_text()}")
    build(course)
    found = [line.partition("1_tiny: ")[2] for line in problems("double", course)[0]]
    assert found == [] if problem is None else found[0].startswith(problem)


def test_an_answer_that_takes_a_model_is_to_be_compared_with_transformer_lens(course):
    for file in (course / "solutions/1_tiny/tiny.py", *(course / "tests").rglob("*.py")):
        file.write_text(re.sub(r"\bx\b", "model", file.read_text()))
    build(course)
    assert problems(root=course) == ([], 1), "there is nothing to compare with here"
    parity = course / "tests" / "parity" / "test_transformerlens.py"
    parity.parent.mkdir()
    for tables in ("CALLS: dict = {}\nOURS_ONLY = {}\n", "CALLS = {'doubled': 1}\n"):
        parity.write_text(tables)
        (found,) = problems(root=course)[0]
        assert "takes a model: say in CALLS of tests/parity/test_transformerlens.py how to call it" in found
    for table in ("CALLS: dict", "FULL_CALLS", "OURS_ONLY"):
        parity.write_text(f"{table} = {{'double': 1}}\n")
        os.utime(parity, ns=(len(table), len(table)))
        assert problems(root=course) == ([], 1)


def test_a_name_that_is_no_exercise_is_told_what_is_there(course):
    for name, says in (
        ("doubel", "No exercise is called 'doubel'. Did you mean 'double'?"),
        ("halve", "No exercise is called 'halve'. `circuits new-exercise CHAPTER halve` begins one."),
    ):
        with pytest.raises(CourseError) as error:
            problems(name, course)
        assert str(error.value) == says
    file = course / "tests/checks/test_tiny.py"
    file.write_text(f'{file.read_text()}\n@exercise("halve", points=1)\ndef test_halves(submission, rng): ...\n')
    with pytest.raises(CourseError, match='test_tiny.py has checks for it, and .*tiny.py no cell that begins with `# %% exercise="halve"`'):
        problems("halve", course)


def test_the_page_for_contributors_says_how_many_of_each():
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    for n, what in (
        (dev_check.MIN_HINTS, "hints"), (dev_check.MIN_CHECKS, "checks"),
        (dev_check.MIN_MISTAKES, "known mistakes"), (dev_check.MIN_VARIANTS, "variants"),
    ):  # fmt: skip
        assert re.search(rf"[Aa]t least (\*\*)?{n} {what}", page), what
