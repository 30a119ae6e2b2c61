"""Nothing for nothing: what lazy answers try, and what a check that explains is worth."""

import json

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits import inputs, lazy
from circuits.checking import AnswerError, Call, CheckFailed, Submission, answer_to, exercise, expect, same
from circuits.exercises import Report
from circuits.grading.grader import Graded
from circuits.judging import run_checks
from utils.model import Config, Transformer


def call_of(reference, *args):
    return Call(reference.__name__, args, {}, value=reference(*args))


def tried(reference, *args, known=(), others=()):
    """What each lazy answer gives back for these arguments."""
    names = set(map(lazy.asked, known))
    calls = [call_of(reference, *args), *known]
    return {what: answer(*args) for what, answer in lazy.answers(reference, names, calls, list(others))}


def square(M: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    return M @ M


def turned(W: Float[Tensor, "a b"], V: Float[Tensor, "b a"]) -> tuple[Float[Tensor, "b a"], Float[Tensor, "a b"]]:
    return 2 * W.T, 2 * V.T


def logits(tokens: Int[Tensor, "pos"], d_vocab: int) -> Float[Tensor, "pos d_vocab"]:
    return torch.arange(1.0, d_vocab + 1).expand(len(tokens), d_vocab)


def copy_of(model: Transformer) -> Transformer:
    return model


def evens(numbers: Int[Tensor, "n"]) -> list[int]:
    return [i for i in numbers.tolist() if i % 2 == 0]


def opposite(word: str) -> str:
    return {"up": "down", "left": "right"}[word]


def holds(value, found) -> bool:
    return any(same(value, other) for other in found.values())


def test_numbers_of_the_right_shape_are_tried_and_what_was_given():
    M = torch.arange(9.0).reshape(3, 3)
    found = tried(square, M)
    third, rows = torch.full((3, 3), 1 / 3), torch.arange(3.0).expand(3, 3)
    for value in (torch.zeros(3, 3), torch.ones(3, 3), third, third.log(), torch.eye(3), rows, M, M.T):
        assert holds(value, found)
    assert found["random"].shape == M.shape and not holds(M @ M, found)


def test_several_values_get_a_part_each():
    W, V = torch.arange(6.0).reshape(2, 3), torch.arange(6.0, 12.0).reshape(3, 2)
    assert holds((W.T, V.T), tried(turned, W, V)) or holds((W.T, W), tried(turned, W, V))
    assert holds((V, W), tried(turned, W, V)) or holds((V, V.T), tried(turned, W, V))


def test_tokens_are_tried_as_one_hot_rows():
    tokens = torch.tensor([2, 0, 1])
    assert holds(torch.eye(5)[tokens], tried(logits, tokens, 5))


def test_a_model_is_tried_as_it_is_and_made_anew():
    model = Transformer(Config(d_vocab=7, d_model=3))
    found = tried(copy_of, model)
    assert holds(model, found)
    assert found["random"].cfg == model.cfg and not same(found["random"], model)


def test_what_two_seeds_ask_is_known_by_heart_and_nothing_else():
    eye, other, fresh = torch.eye(2), 3 * torch.eye(2), 5 * torch.eye(2)
    once, again = ([call_of(square, x) for x in (eye, x)] for x in (other, fresh))
    known = lazy.by_heart(square, once, again)
    assert known == {lazy.asked(once[0])}
    for what, answer in lazy.answers(square, known, again, []):
        assert same(answer(eye), eye), what
        assert not same(answer(fresh), square(fresh)), what


def test_a_few_questions_in_words_may_be_known_by_heart():
    calls = [call_of(opposite, "up"), call_of(opposite, "left")]
    assert lazy.by_heart(opposite, calls, calls) == set()
    found = tried(opposite, "up", others=calls)
    assert {"down", "right", "", "k", "up"} <= set(found.values())  # each always, and the word itself
    assert "random" not in found


def test_nobody_knows_that_a_list_is_empty():
    found = tried(evens, torch.tensor([3, 5]))
    assert [what for what, value in found.items() if len(value) == 0] == ["always []"]
    assert holds([4, 4], tried(evens, torch.tensor([3, 5]), others=[call_of(evens, torch.tensor([4, 1, 4]))]))


def test_the_same_to_every_question_is_refused_and_what_is_said_to_others_costs_nothing():
    words = ("up", "left", "in")
    assert answer_to("up", {"up": ["down"], "left": [], "in": ["down"]}.get, words) == ["down"]
    with pytest.raises(CheckFailed, match="To each of 'up', 'left', 'in' you say 1"):
        answer_to("up", lambda word: torch.tensor(1) if word == "left" else 1, words)
    half = Submission({"opposite": lambda word: {"up": "down"}[word]}, like={"opposite": opposite})
    assert answer_to("up", half.opposite, words) == "down"
    with pytest.raises(AnswerError, match="KeyError"):
        answer_to("left", half.opposite, words)


# What a check that explains is worth --------------------------------------------------------


@exercise("double", points=1, explains=True)
def by_hand(submission, rng):
    expect(submission.double(2.0), 4.0, "double of 2")


@exercise("double", points=2)
def of_positive_numbers(submission, rng):
    x = inputs.integer(rng, 10, 10**9)
    expect(submission.double(x), 2 * x, f"double of {x}")


@exercise("double", points=4)
def of_negative_numbers(submission, rng):
    x = -inputs.integer(rng, 10, 10**9)
    expect(submission.double(x), 2 * x, f"double of {x}")


@pytest.mark.parametrize(
    "double, points",
    [
        (lambda x: 4.0, 0),  # the case made by hand, known by heart
        (lambda x: 2 * abs(x), 3),  # half right: the case made by hand pays as well
        (lambda x: 2 * abs(x) + (x == 2.0), 2),  # and need not
        (lambda x: 2 * x, 7),
        (lambda x: 0.0, 0),
    ],
)
def test_a_check_that_explains_pays_beside_another_alone(double, points):
    result = run_checks([by_hand, of_positive_numbers, of_negative_numbers], Submission({"double": double}))
    assert result.points == points and result.max_points == 7
    report = Report(result)
    assert repr(report) == str(points)
    why = "by hand (gives its points once a check on other inputs passes)"
    unpaid = points == 0 and result.checks[0].passed
    assert (why in report.summary()) == (why in report.html()) == unpaid


def test_that_a_check_explains_crosses_between_processes():
    result = run_checks([by_hand, of_positive_numbers], Submission({"double": lambda x: 4.0}))
    there = Graded.from_dict(json.loads(json.dumps(Graded([result]).as_dict())))
    assert there.results == [result] and there.points == 0 and there.results[0].checks[0].passed
