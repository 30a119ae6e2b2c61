"""What checks' inputs have in common by chance is found, and nothing else is."""

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits import inputs
from circuits.checking import Call, exercise
from circuits.coincidences import calls_of, coincidences, unexplained
from utils.model import Transformer


def scores(
    x: Float[Tensor, "batch d_model"], W: Float[Tensor, "d_model d_head"], k: int = 3
) -> Float[Tensor, "batch d_head"]:
    """An answer."""


def looks(model: Transformer, tokens: Int[Tensor, "pos"], layer: int) -> Float[Tensor, ""]:
    """Another."""


def of(answer, *calls):
    return coincidences(answer, [Call(answer.__name__, args, {}) for args in calls])


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def test_unequal_inputs_have_nothing_in_common(rng):
    calls = [(inputs.normal(rng, b, 5), inputs.normal(rng, 5, 7), k) for b, k in ((3, 6), (8, 9))]
    assert of(scores, *calls) == []
    model = inputs.random_model(rng)
    texts = inputs.random_tokens(rng, batch=2, pos=9)
    assert of(looks, *[(model, text, layer) for text, layer in zip(texts, (0, 2))]) == ["model never varies"]


@pytest.mark.parametrize(
    "shapes, found",
    [
        (((3, 5, 4), (6, 9, 4)), ["d_head is always 4"]),
        (((1, 5, 7), (2, 5, 7)), ["batch is always 1 or 2"]),
        (((1, 5, 7), (3, 5, 7)), []),
        (((5, 5, 7), (6, 6, 7)), ["batch always equals d_model"]),
        (((5, 5, 7), (6, 5, 7)), []),
    ],
)
def test_sizes_that_mean_two_things_at_once_are_found(rng, shapes, found):
    calls = [(inputs.normal(rng, b, m), inputs.normal(rng, m, h), 11 + b) for b, m, h in shapes]
    assert of(scores, *calls) == found


def test_whole_numbers_are_sizes_too(rng):
    def calls(*numbers):
        return [(inputs.normal(rng, 3, 5), inputs.normal(rng, 5, 7), k) for k in numbers]

    assert of(scores, *calls(2, 4)) == ["k is always 2 or 4"]
    assert of(scores, *calls(3, 3)) == ["batch always equals k", "k never varies"]
    assert of(scores, *[call[:2] for call in calls(3, 3)]) == ["batch always equals k", "k never varies"]


def test_models_of_one_layer_or_two_alone_are_found(rng):
    for n_layers, found in ((1, "n_layers is never above 1"), (2, "n_layers is always 2"), (3, None)):
        models = [inputs.random_model(rng, n_layers=n_layers) for _ in range(2)]
        texts = inputs.random_tokens(rng, batch=2, pos=9)
        got = of(looks, *[(model, text, layer) for model, text, layer in zip(models, texts, (0, 3))])
        assert got == [found] * (found is not None)


def test_what_a_model_of_zero_layers_does_not_use_is_no_coincidence(rng):
    models = [inputs.random_model(rng, n_layers=0, d_head=4) for _ in range(2)]
    texts = inputs.random_tokens(rng, batch=2, pos=9)
    assert of(looks, *zip(models, texts, (0, 3))) == []


def test_symmetric_sorted_distinct_and_binary_values_are_found(rng):
    square = [inputs.normal(rng, 5, 5) for _ in range(2)]
    fine = [inputs.normal(rng, b, 5) for b in (3, 7)]

    def with_matrices(*matrices):
        return of(scores, *[(x, W, k) for x, W, k in zip(fine, matrices, (9, 8))])

    assert with_matrices(*(W + W.T for W in square)) == ["d_model always equals d_head", "W is always symmetric"]
    assert "W is always 0 or 1" in with_matrices(*((W > 0).float() for W in square))
    models = [inputs.random_model(rng) for _ in range(2)]
    up, mixed, again = torch.arange(9), torch.tensor([3, 1, 5]), torch.tensor([3, 3, 1])
    assert of(looks, (models[0], up, 0), (models[1], up + 1, 3)) == [
        "tokens is always sorted", "tokens is always without a repetition"
    ]
    assert of(looks, (models[0], up, 0), (models[1], mixed, 3)) == ["tokens is always without a repetition"]
    assert of(looks, (models[0], up, 0), (models[1], again, 3)) == []


def test_a_coincidence_is_mended_or_explained():
    explained = {("scores", "k never varies"): "because", ("other", "x never varies"): "theirs"}
    assert list(unexplained("scores", ["k never varies"], explained)) == []
    (problem,) = unexplained("scores", ["k never varies", "batch is always 2"], explained)
    assert "batch is always 2" in problem
    (problem,) = unexplained("scores", [], explained)
    assert "explains 'k never varies', which is not so" in problem
    (problem,) = unexplained("scores", ["k never varies"], {("scores", "k never varies"): " "})
    assert "k never varies" in problem


def test_what_varies_with_the_seed_alone_is_no_coincidence():
    @exercise("double", points=1)
    def check(submission, rng):
        submission.double(inputs.integer(rng, 5, 10**6))

    def double(n: int) -> int:
        return 2 * n

    calls = [call for seed in range(3) for call in calls_of(check, double, seed)]
    assert coincidences(double, calls) == []
    assert coincidences(double, calls[:1]) == ["n never varies"]
