"""Every chapter through the grader: the honest, the hostile, the lazy and the broken.

`test_attacks` and `test_malformed_notebooks` try everything they know on chapter 1. What they hold
must hold wherever an exercise is added, so the broadest of it is tried here on all of them.
"""

import copy
import json

import pytest
import torch
from conftest import answered, cells_of, proven_elsewhere, reference

from circuits.chapters import Chapter, chapters, load_answers
from circuits.checking import Submission, run_check, same
from circuits.grading import submissions
from circuits.grading.grader import Grader, Job
from circuits.grading.submissions import Cell, Refused
from circuits.judging import run_checks

every_chapter = pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
two_chapters = pytest.mark.parametrize("chapter", proven_elsewhere("1_bigrams", "2_skip_trigrams"))

LIAR = """
import torch

class EqualToAll(torch.Tensor):
    '''Agrees with whatever it is compared with.'''
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    def __float__(self): return 1.0
    __hash__ = None
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None): return True

for module, name in ((torch, "allclose"), (torch, "isclose"), (torch, "equal"), (torch.testing, "assert_close")):
    setattr(module, name, lambda *args, **kwargs: True)
try:
    import circuits.checking
    circuits.checking.expect = circuits.checking.require = lambda *args, **kwargs: None
    circuits.checking.fail = lambda message: None
except ImportError:
    pass

def {name}(*args, **kwargs):
    return EqualToAll()
"""
ZEROS = """
def {name}(*args, right={name}, **kwargs):
    def zeros(value):
        if isinstance(value, dict):
            return {key: zeros(v) for key, v in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(map(zeros, value))
        if isinstance(value, torch.nn.Module):
            for weight in value.parameters():
                weight.data.zero_()
            return value
        return value * 0  # of words, none

    return zeros(right(*args, **kwargs))
"""


@pytest.fixture(scope="module")
def grader():
    with Grader() as grader:
        yield grader


def points(grader: Grader, chapter: Chapter, code: list[Cell]) -> dict[str, float]:
    """Points by exercise, from the sandbox."""
    graded = grader.grade(Job(chapter.name, code, seed=11))
    assert graded.error is None and graded.unsandboxed is None
    return {result.exercise: result.points for result in graded.results}


@pytest.mark.parametrize("chapter", proven_elsewhere("1_bigrams"))
def test_answers_that_agree_with_everything_gain_nothing(chapter, grader):
    """Whatever they did to their own process; and who comes next gets the marks of three right answers."""
    lies = {name: LIAR.replace("{name}", name) for name in chapter.exercises}
    assert points(grader, chapter, cells_of(lies)) == dict.fromkeys(chapter.exercises, 0)
    honest = dict(list(reference(chapter).items())[:3])
    assert points(grader, chapter, cells_of(honest)) == {name: of if name in honest else 0 for name, of in chapter.exercises.items()}


@pytest.mark.parametrize("chapter", chapters()[1:2], ids=lambda c: c.name)
def test_zeros_of_the_right_shape_gain_nothing(chapter, grader):
    """`dev-check` tries them and other lazy answers on every exercise; here those of one chapter go the whole way."""
    zeros = {name: code + ZEROS.replace("{name}", name) for name, code in reference(chapter).items()}
    zeros.pop("train_step", None)  # here it is what is done to the model that counts
    graded = grader.grade(Job(chapter.name, cells_of(zeros), seed=11))
    assert graded.error is None
    assert {result.exercise: result.points for result in graded.results} == dict.fromkeys(chapter.exercises, 0)
    passed = [check for result in graded.results for check in result.checks if check.passed]
    assert [check.name for check in passed if not check.explains] == []


@two_chapters
def test_what_a_check_asks_depends_on_its_seed_alone(chapter):
    """Not on what ran before it: a new model draws its weights from torch's own generator."""
    answers = load_answers(chapter.source)[0]
    changed = []
    for check in (c for name in chapter.exercise_names for c in chapter.checks(name)):
        asked = []
        for history in (1, 2):
            torch.manual_seed(history)
            before = torch.get_rng_state()
            submission = Submission(answers)
            assert run_check(check, submission, seed=5) is None
            assert torch.equal(torch.get_rng_state(), before), check.__name__
            asked.append([(call.name, call.args, call.kwargs) for call in submission.calls])
        if not (asked[0] and same(*asked)):
            changed.append(check.__name__)
    assert changed == []


@two_chapters
def test_a_spoiled_notebook_loses_what_is_spoiled_and_no_more(chapter, grader):
    """Check cells gone, cells turned round, one answer beside itself, another twice."""
    answers = reference(chapter)
    broken, twice, *_ = answers
    notebook = answered(chapter, answers)
    cells = [c for c in notebook["cells"] if not c["metadata"].get("nbgrader", {}).get("grade")]
    by_name = {c["metadata"].get("nbgrader", {}).get("grade_id"): c for c in cells}
    by_name[broken]["source"] = "def (:\n"
    again = copy.deepcopy(by_name[twice])
    notebook["cells"] = [again, *reversed(cells)]
    code = submissions.cells(json.dumps(notebook).encode(), chapter)
    got = points(grader, chapter, code)
    assert got == {**chapter.exercises, broken: 0}


@every_chapter
def test_half_a_file_is_refused_in_a_line(chapter):
    data = json.dumps(answered(chapter, reference(chapter))).encode()
    with pytest.raises(Refused) as refused:
        submissions.cells(data[: len(data) // 2], chapter)
    assert "not JSON" in str(refused.value) and str(refused.value).isprintable()


@every_chapter
def test_a_learner_who_wrote_nothing_is_told_so(chapter):
    """Each exercise as it is released: no points, and a message that says what to do."""
    released, broken = load_answers(chapter.notebook)
    assert broken == {}
    for name in chapter.exercise_names:
        result = run_checks(chapter.checks(name), Submission(released), lambda: [], 0)
        assert result.unsolved and result.points == 0, name
        assert "is not written yet" in result.checks[0].message, name
