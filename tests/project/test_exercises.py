"""Every exercise is good: and what makes one bad is found."""

import shutil

import pytest

from utils.course import ROOT
from utils.dev_check import problems


def test_every_exercise_is_answered_checked_and_proven():
    found, n_exercises = problems()
    assert found == [] and n_exercises >= 15


CHECKS = '''
from utils.checking import exercise, expect

@exercise("double", points=1)
def test_doubles(submission, rng):
    expect(submission.double(2.0), 4.0, "double of 2")

@exercise("double", points=1)
def test_doubles_negative_numbers(submission, rng):
    expect(submission.double(-3.0), -6.0, "double of -3")

@exercise("double", points=0.5)
def test_leaves_zero_alone(submission, rng):
    expect(submission.double(0.0), 0.0, "double of 0")
'''
MISTAKES = "from utils.checking import mistake\n" + "".join(
    f'\n@mistake("double", hint="You compute {code}.")\ndef wrong_{i}(x):\n    return {code}\n'
    for i, code in enumerate(["x + 1", "x * x * x", "x", "-x - 1", "4"])
)
VARIANTS = '''
from utils.checking import variant

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
    from utils.build import build

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
        ("tests/checks/test_tiny.py", '@exercise("double", points=0.5)\n', "", "has 2 checks"),
        ("tests/checks/test_tiny.py", "test_doubles_negative_numbers", "test_doubles", "defines test_doubles twice"),
        (
            "tests/checks/test_tiny.py",
            'def test_doubles_negative_numbers(submission, rng):\n    expect(submission.double(-3.0), -6.0',
            "def test_doubles_negative_numbers(submission, rng):\n    expect(-6.0, -6.0",
            "gives points unsolved",
        ),
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
