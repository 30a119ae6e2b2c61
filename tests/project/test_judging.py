"""A hint names what the learner did, or it is not shown."""

import functools
import math
import re

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits import dev_check, exercises
from circuits.chapters import chapter_of, chapters, load_answers
from circuits.checking import Submission, exercise, expect, mistake, require, run_check
from circuits.copies import fingerprint
from circuits.inputs import integer, normal
from circuits.judging import run_checks
from circuits.repairs import unheeded
from utils.errors import CourseError


def hint_of(answer, checks, mistakes=()):
    """The hint that an answer gets, which must be wrong."""
    result = run_checks(checks, Submission({"f": answer}), mistakes)
    assert not result.passed
    return result.hint


# Known mistakes -----------------------------------------------------------------------------


@exercise("f", points=1)
def is_even(submission, rng):
    n = integer(rng, 0, 9)
    require(submission.f(n) == (n % 2 == 0), f"{n} was judged wrongly.")


def always_true(n): return True
def below_five(n): return n < 5  # fmt: skip


def even_mistakes():
    return [mistake("f", hint="always true")(always_true), mistake("f", hint="below five")(below_five)]


def first_n(check) -> int:
    """What the check asks first."""
    asked = []
    run_checks([check], Submission({"f": lambda n: asked.append(n)}))
    return asked[0]


def test_agreement_on_one_question_is_no_diagnosis():
    """Odd or even is asked once: an answer that is wrong there agrees with any other that is."""
    n = first_n(is_even)
    wrong_there_alone = {n: n % 2 == 1}
    answer = lambda m: wrong_there_alone.get(m, m % 2 == 0)  # noqa: E731
    assert hint_of(answer, [is_even], even_mistakes()) is None


def test_a_mistake_that_is_made_is_named():
    for made in even_mistakes():
        results = [run_checks([is_even], Submission({"f": made}), even_mistakes(), seed) for seed in range(30)]
        hints = [result.hint for result in results if not result.passed]
        assert set(hints) <= {made.hint, None} and hints.count(made.hint) > 0.8 * len(hints) > 5


@exercise("f", points=1)
def doubles(submission, rng):
    n = integer(rng, 3, 30)
    expect(submission.f(n), 2 * n, f"the double of {n}")


def test_of_two_mistakes_that_come_to_the_same_none_is_named():
    twins = [mistake("f", hint=f"twin {i}")(lambda n: n + 7) for i in range(2)]
    assert hint_of(lambda n: n + 7, [doubles], twins) is None
    assert hint_of(lambda n: n + 7, [doubles], twins[:1]) == "twin 0"


@exercise("f", points=1)
def counts(submission, rng):
    tokens = torch.randint(7, (integer(rng, 9, 12),), generator=rng)
    got = submission.f(tokens, 8)
    expect(got, torch.bincount(tokens, minlength=8), "the counts")


def test_a_right_table_of_another_type_is_not_said_to_have_the_wrong_size():
    def in_floats(tokens: Int[Tensor, "pos"], d_vocab: int) -> Int[Tensor, "d_vocab"]:
        return torch.bincount(tokens, minlength=d_vocab).float()

    def too_short(tokens, d_vocab):
        return torch.bincount(tokens, minlength=int(tokens.max()) + 2)

    known = [mistake("f", hint="too short")(too_short)]
    result = run_checks([counts], Submission({"f": in_floats}), known)
    assert "should return int values" in result.checks[0].message and result.hint is None


# Slips that are the same everywhere ---------------------------------------------------------


def reference(name):
    return load_answers(chapter_of(name).source)[0][name]


def told(name: str, slip) -> str | None:
    """The hint that a reference answer with a slip gets."""
    chapter, right = chapter_of(name), reference(name)
    result = dev_check.run(chapter, name, functools.partial(slip, right), right)
    assert not result.passed
    return result.hint


SLIPS = [
    ("logit_diff", lambda f, *a: -f(*a), "sign"),
    ("head_importance", lambda f, *a: f(*a).mT, "Dimensions 0 and 1 .* exchanged"),
    ("head_importance", lambda f, *a: -f(*a), "sign|difference|minus"),
    ("full_ov_circuit", lambda f, m, layer, head: f(m, layer, 0), "whatever `head` is|head"),
    ("ov_circuit", lambda f, m, layer, head: f(m, 0, head), "layer"),
    ("ov_circuit", lambda f, m, layer, head: f(m, layer, (head + 1) % m.cfg.n_heads), "after the one"),
    ("read_strength", lambda f, a, b: f(a, b) * b.shape[1], "`d_read` times too large"),
    ("zero_layer_logits", lambda f, W_E, W_U, t: f(W_E, W_U, t) * (t.shape[1] - 1), "`pos - 1` times too large"),
    ("conditional_entropy", lambda f, counts: f(counts) / math.log(2), "bits"),
    ("composed_qk", lambda f, m, a, b: f(m, b, a), "`prev_head` and `ind_head` are exchanged|exchange|other"),
    ("conditional_entropy", lambda f, *a: torch.exp(f(*a)), "logarithms|exp"),
    ("direct_path", lambda f, a, b: f(a, b).T, "exchanged|transpose"),
]


@pytest.mark.parametrize("name, slip, pattern", SLIPS, ids=[f"{n}-{p}" for n, _, p in SLIPS])
def test_a_common_slip_is_named_in_every_exercise(name, slip, pattern):
    hint = told(name, slip)
    assert hint and re.search(pattern, hint), hint


@exercise("f", points=1)
def mean_of_rows(submission, rng):
    x = normal(rng, integer(rng, 5, 9), 3)
    expect(submission.f(x, 2), x.mean(0), "the mean")


def test_what_no_repair_mends_gets_no_hint():
    def half_wrong(x: Float[Tensor, "n d"], k: int) -> Float[Tensor, "d"]:
        return x.mean(0) * torch.tensor([1.0, 2.0, 3.0])

    assert hint_of(half_wrong, [mean_of_rows]) is None


def test_one_who_says_the_same_to_everything_is_told_of_no_argument():
    assert hint_of(lambda n: 7, [doubles]) is None


@pytest.mark.parametrize("chapter, name", [(c, n) for c in chapters() for n in c.exercise_names], ids=str)
def test_a_right_answer_heeds_every_argument_that_a_hint_could_name(chapter, name):
    right = reference(name)
    submission = Submission({name: right})
    for check in chapter.checks(name)[:2]:
        run_check(check, submission)
    calls = [call for call in submission.calls if call.name == name]
    assert unheeded(submission, calls) is None


# Constructions by hand ----------------------------------------------------------------------

BY_HAND = ("two_back_virtual_head", "induction_circuit", "pointer_induction")


def other_gains(model):
    """The same construction as somebody else would have made it: other gains in every matrix."""
    with torch.no_grad():
        for attn in (block.attn for block in model.blocks):
            for W, gain in ((attn.W_Q, 3.0), (attn.W_K, 0.5), (attn.W_V, 2.0), (attn.W_O, 0.7)):
                W.mul_(gain)
        model.W_U.mul_(1.3)
    return model


@pytest.mark.parametrize("name", BY_HAND)
def test_a_mistake_in_a_construction_is_known_whatever_its_gains(name):
    chapter, right = chapter_of(name), reference(name)
    told = {}
    for made in chapter.mistakes(name):
        result = dev_check.run(chapter, name, lambda *args, made=made: other_gains(made(*args)), right)
        if not result.passed:  # "too soft" may pass with more gain
            told[made.__name__] = result.hint
            assert result.hint in (made.hint, None), made.__name__
    named = sum(hint is not None for hint in told.values())
    assert named >= 0.7 * len(told) > 5, [name for name, hint in told.items() if hint is None]


# Messages -----------------------------------------------------------------------------------


def message(f, *args) -> str:
    with pytest.raises(Exception) as error:
        Submission({"f": f}).f(*args)
    return str(error.value)


def test_one_number_is_asked_for_in_words():
    def f(x: Float[Tensor, "pos"]) -> Float[Tensor, ""]:
        return x

    assert message(f, torch.ones(3)) == "`f` should return one number; yours has shape [3]."


def test_sizes_that_nothing_tells_are_not_repeated():
    def f(x: Float[Tensor, "pos"]) -> Float[Tensor, "batch"]:
        return x[None]

    assert message(f, torch.ones(3)) == "`f` should return shape [batch]; yours has shape [1, 3]."


def test_of_several_outputs_the_one_that_is_meant_is_named():
    def f(x: Float[Tensor, "pos"]) -> tuple[Float[Tensor, "pos"], int, list[int]]:
        return x, 2.5, [1]

    assert "as value 2 of 3 a whole number; it is 2.5" in message(f, torch.ones(3))


def test_a_head_number_is_not_cut_off():
    def f(n: int) -> list[int]:
        return [1.0, 2.7]

    assert "whole numbers; one of yours is 2.7" in message(f, 3)


def test_truth_values_are_told_as_such():
    with pytest.raises(AssertionError, match="should be True; yours is False"):
        expect([True, False], [True, True], "the mask")


def test_what_torch_means_by_a_single_memory_location():
    def f(x):
        y = x.expand(3, 2)
        y += 1

    assert "make a new one, `x = x + ...`" in message(f, torch.ones(2))


def test_one_who_is_to_write_down_is_not_told_of_loops(monkeypatch):
    monkeypatch.setattr("circuits.checking.SECONDS", 0.2)

    @exercise("f", points=1)
    def test_found(submission, rng):
        require(submission.f() == [3], "Not found.")

    def f() -> list[int]:
        while True:
            pass

    assert "written down here" in run_checks([test_found], Submission({"f": f})).checks[0].message


def test_an_exercise_may_be_given_as_the_function(monkeypatch):
    monkeypatch.setattr(exercises, "remember", lambda *args: False)
    direct_path = reference("direct_path")
    report = exercises.check(direct_path, {"direct_path": direct_path})
    assert report.result.passed
    with pytest.raises(CourseError, match="Which exercise"):
        exercises.check(3)


def test_a_cell_that_no_longer_compiles_is_not_judged_by_its_older_version(monkeypatch):
    monkeypatch.setattr(exercises, "remember", lambda *args: False)
    right = "def direct_path(W_E, W_U):\n    return W_E @ W_U\n"
    namespace = {"In": ["", right, right.replace("):", ")"), "check('direct_path')"]}
    exec(right, namespace)
    report = exercises.check("direct_path", namespace)
    assert report.result.points == 0
    assert "does not compile" in report.result.checks[0].message and "line 1" in report.result.checks[0].message
    namespace["In"].append(right)
    assert exercises.check("direct_path", namespace).result.passed


def test_what_is_not_started_is_not_shown_as_failed():
    report = exercises.check("direct_path", {"direct_path": dev_check._unsolved})
    assert "not started" in report.html() and "jp-error" not in report.html()


def test_equal_arguments_have_one_fingerprint_however_they_lie_in_memory():
    one = torch.ones(1)
    assert fingerprint(one) == fingerprint(torch.ones(()).expand(1)) != fingerprint(torch.zeros(1))
