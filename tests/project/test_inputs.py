"""The helper that makes the inputs of checks: no coincidences, no zeros."""

import itertools

import pytest
import torch

from circuits import inputs

SHAPES = [
    {},
    {"n_layers": 0},
    {"n_layers": 2, "attn_only": False, "act_fn": "relu", "d_mlp": 13},
    {"attn_only": False, "normalization_type": "LN", "biases": True, "positional_embedding_type": "standard"},
]


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def test_sizes_are_all_different_and_none_is_its_own_square_double_or_root():
    sizes = [*inputs.SIZES.values(), inputs.BATCH, inputs.POS]
    assert all(a != b for a, b in itertools.combinations(sizes, 2))
    assert not {1, 2, 4} & set(sizes)
    assert inputs.SIZES["n_heads"] * inputs.SIZES["d_head"] != inputs.SIZES["d_model"]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_weight_of_a_random_model_is_zero_and_none_is_huge(rng, shape):
    model = inputs.random_model(rng, **shape)
    for name, weight in model.named_parameters():
        assert bool((weight != 0).all()) and weight.abs().max() < 6, name
    logits = model(inputs.random_tokens(rng, model))
    assert logits.shape == (inputs.BATCH, inputs.POS, model.cfg.d_vocab)
    assert 0.3 < logits.std() < 30


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_a_shape_overrides_the_sizes_it_names_alone(rng, shape):
    cfg = inputs.random_model(rng, **shape).cfg
    for name, size in (inputs.SIZES | shape).items():
        assert getattr(cfg, name) == size


def test_heads_attend_unevenly_in_every_layer(rng):
    model = inputs.random_model(rng)
    _, cache = model.run_with_cache(inputs.random_tokens(rng, model))
    for layer in range(model.cfg.n_layers):
        last = cache["pattern", layer][:, :, -1]
        assert 0.2 < last.amax(-1).mean() < 0.95


def test_inputs_depend_on_the_generator_alone():
    def draw(seed):
        rng = torch.Generator().manual_seed(seed)
        return inputs.random_model(rng).W_Q, inputs.random_tokens(rng)

    (W, tokens), (W2, tokens2), (W3, _) = draw(1), draw(1), draw(2)
    assert torch.equal(W, W2) and torch.equal(tokens, tokens2) and not torch.equal(W, W3)


def test_gradients_are_off_unless_asked_for(rng):
    assert not inputs.random_model(rng).W_E.requires_grad
    assert all(p.requires_grad for p in inputs.random_model(rng, trainable=True).parameters())


def test_a_wrong_answer_is_never_the_right_one(rng):
    right, wrong = inputs.two_answers(rng, batch=500)
    assert (right != wrong).all() and len(right.unique()) == len(wrong.unique()) == inputs.SIZES["d_vocab"]


def test_patterns_are_causal_distributions_of_unequal_weights(rng):
    pattern = inputs.random_patterns(rng, 3, 5, 6, 6)
    assert torch.allclose(pattern.sum(-1), torch.ones(3, 5, 6)) and not pattern.triu(1).any()
    weights = pattern[:, :, 1:][pattern[:, :, 1:] > 0]
    assert len(weights.unique()) == len(weights)


def test_reordering_moves_every_head_and_changes_no_logits(rng):
    model = inputs.random_model(rng)
    new, orders = inputs.reordered(rng, model)
    tokens = inputs.random_tokens(rng, model)
    assert torch.allclose(new(tokens), model(tokens), atol=1e-4)
    for layer, order in enumerate(orders):
        assert sorted(order) == list(range(model.cfg.n_heads))
        assert all(h != old and torch.equal(new.W_Q[layer, h], model.W_Q[layer, old]) for h, old in enumerate(order))


def test_an_invertible_matrix_is_no_rotation(rng):
    R = inputs.invertible(rng, 5)
    assert torch.allclose(R @ torch.linalg.inv(R), torch.eye(5), atol=1e-4)
    assert not torch.allclose(R @ R.T, torch.eye(5), atol=0.1)
    Q = inputs.orthogonal(rng, 5, 3)
    assert torch.allclose(Q.T @ Q, torch.eye(3), atol=1e-5)
