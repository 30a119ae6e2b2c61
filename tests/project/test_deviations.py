"""What wrong numbers have in common with the right ones: each rule on numbers of which it is so, and on others."""

import pytest
import torch

from circuits.checking import Submission, exercise, expect
from circuits.deviations import deviation
from circuits.inputs import normal
from circuits.judging import run_checks

EYE = torch.eye(5)


def pairs(wrong, shape=(5, 5), n=4):
    """What an answer makes of the right numbers, beside them, on several seeds."""
    for seed in range(n):
        torch.manual_seed(seed)
        want = torch.randn(shape) + 2 * torch.rand(())
        yield wrong(want), want


def said(wrong, whole=True, **options):
    first, *further = pairs(wrong, **options)
    return deviation(first, iter(further), whole) or ""


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda x: x / 5, "5 times too small"),
        (lambda x: -3 * x, "3 times too large, and have the opposite sign"),
        (lambda x: -x, "All your numbers have the opposite sign"),
        (lambda x: x + 0.5, "too large by the same amount (0.5)"),
        (torch.abs, "not all of their signs"),
        (lambda x: x - x.mean(-1, keepdim=True), "In every row all your numbers are too large or too small by the"),
        (lambda x: x - x.mean(0, keepdim=True), "In every column all your numbers are too large or too small by the"),
        (lambda x: x / x.norm(dim=-1, keepdim=True), "In every row your numbers are in the right proportion"),
        (lambda x: x + EYE, "right except on the diagonal"),
        (lambda x: x * EYE, "Only the diagonal of your result is right"),
        (torch.tril, "Below the diagonal, and on it, your numbers are right"),
        (torch.triu, "Above the diagonal, and on it, your numbers are right"),
        (lambda x: torch.cat([x[:1] ** 2, x[1:]]), "right except for the first along dimension 0"),
        (lambda x: torch.cat([x[:, :-1], x[:, -1:] ** 2], 1), "right except for the last along dimension 1"),
        (lambda x: torch.cat([x[:1], x[1:] ** 2]), "only the first along dimension 0 are right"),
        (lambda x: x.roll(1, 0), "one place too late along dimension 0"),
        (lambda x: x.roll(-1, 1), "one place too early along dimension 1"),
        (lambda x: x[[2, 0, 4, 1, 3]], "the right ones, in other places"),
    ],
)
def test_what_they_have_in_common_is_said(wrong, words):
    assert words in said(wrong)


@pytest.mark.parametrize("wrong", [lambda x: x**2, lambda x: torch.zeros_like(x), lambda x: x / 0, lambda x: x[:4]])
def test_of_numbers_that_have_nothing_in_common_nothing_is_said(wrong):
    assert said(wrong) == ""


def test_a_rule_that_holds_on_one_seed_alone_is_none():
    first, *further = pairs(lambda x: x / 2)
    others = [(want**2, want) for _, want in further]
    assert deviation(first, iter(others), True) is None
    assert deviation(first, iter(()), True) is None


def test_a_factor_that_is_another_on_other_inputs_is_not_told_as_one():
    first, *further = pairs(lambda x: x / x[0, 0])
    said = deviation(first, iter(further), True)
    assert "by another factor on other inputs" in said and not any(c.isdigit() for c in said)


@exercise("f", points=1)
def squares(submission, rng):
    x = normal(rng, 7)
    expect(submission.f(x), x**2, "the squares")


@exercise("f", points=1)
def adds(submission, rng):
    x = normal(rng, 9)
    expect(submission.f(x), x**2, "the squares again")


def test_of_two_checks_with_two_factors_none_is_told():
    answer = lambda x: x**2 * (2 if len(x) == 7 else 3)  # noqa: E731
    assert run_checks([squares, adds], Submission({"f": answer})).hint is None


def test_rows_and_places_are_told_of_a_whole_result_alone():
    """A check may compare a part, whose dimensions are not those that the learner sees."""
    assert said(torch.tril, whole=False) == ""
    assert "too small" in said(lambda x: x / 5, whole=False)


def test_single_numbers_of_several_seeds_tell_as_much():
    assert "2 times too small" in said(lambda x: x / 2, shape=())
    assert said(lambda x: x**2, shape=()) == "" == said(lambda x: x / 2, shape=(), n=3)


def test_what_is_right_by_chance_does_not_count():
    """Zeros are often right."""
    want = torch.randn(5, 5).triu()
    assert deviation((want**2, want), iter([(want**2, want)]), True) is None


def test_a_learner_is_told():
    result = run_checks([squares], Submission({"f": lambda x: x**2 * 1.7}))
    assert result.hint == "Your numbers are in the right proportion to one another: all of them are 1.7 times too large."
