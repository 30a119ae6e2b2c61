"""The same weights in TransformerLens 3.9.0 give the same numbers, name by name.

TransformerLens is no dependency of the course. These tests have an environment of their own,
with the extra `parity`:

    pip install -e '.[parity]'
    pytest tests/parity
"""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformer_lens
from torch import Tensor
from transformer_lens import patching
from transformer_lens.utilities import get_act_name as their_act_name

from circuits.chapters import ROOT, answer_cells, load_answers
from utils import pretrained
from utils.model import Config, Transformer, get_act_name
from utils.patching import IN_A_HEAD, LogitDiff, sweep
from utils.training import recipe

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated"),
]

STANDARD = dict(positional_embedding_type="standard")
FULL = dict(attn_only=False, normalization_type="LN", biases=True)
FULL_RELU = FULL | dict(n_layers=2, act_fn="relu")
KINDS = {
    "zero layers": dict(n_layers=0),
    "one layer": dict(n_layers=1),
    "two layers": dict(n_layers=2),
    "zero layers, standard positions": dict(n_layers=0) | STANDARD,
    "standard positions": dict(n_layers=2) | STANDARD,
    "MLP, LayerNorm, biases": dict(n_layers=2) | FULL,
    "MLP, LayerNorm, biases, standard positions": dict(n_layers=2) | FULL | STANDARD,
    "LayerNorm without MLP": dict(n_layers=2, normalization_type="LN"),
    "relu": dict(n_layers=1, attn_only=False, act_fn="relu"),
    "shared keys": dict(n_layers=2, n_key_value_heads=2),
    "one key": dict(n_layers=2, n_key_value_heads=1) | FULL | STANDARD,
    "a key for each head": dict(n_layers=1, n_key_value_heads=4),
}


def small(**kind) -> Transformer:
    """A small model whose every weight matters: large embeddings, no bias at 0."""
    shape = dict(d_vocab=50, d_model=32, n_heads=4, d_head=8, n_ctx=16, init_range=1.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Transformer(Config(**shape | kind))
        with torch.no_grad():
            for name, p in model.named_parameters():
                if name.split(".")[-1].startswith("b") or p.ndim == 1:
                    p.add_(torch.randn_like(p) / 2)
    return model


def hooked(model: Transformer) -> transformer_lens.HookedTransformer:
    """The same model in TransformerLens. Our configuration and state dict are a subset of its own;
    what it has beyond them is a mask or a bias of 0."""
    shared = {k: v for k, v in model.config_dict().items() if k not in ("biases", "init_range")}
    cfg = transformer_lens.HookedTransformerConfig(**shared, use_attn_result=True, device="cpu")
    twin = transformer_lens.HookedTransformer(cfg)
    missing, unexpected = twin.load_state_dict(model.state_dict(), strict=False)
    assert unexpected == []
    for name in missing:
        last = name.split(".")[-1].lstrip("_")
        assert last in ("mask", "IGNORE") or (last.startswith("b_") and not model.cfg.biases), name
        if last.startswith("b_"):
            assert not twin.state_dict()[name].any(), f"{name} is not 0"
    return twin.eval()


def both(model: Transformer):
    return model, hooked(model)


def tokens_for(model, batch: int = 2, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(model.cfg.d_vocab, (batch, model.cfg.n_ctx), generator=generator)


def assert_same(ours: Any, theirs: Any, what: str, rounding: float = 1e-5) -> None:
    """Equal, but for the rounding of float32: about 80 units in the last place of the largest."""
    if isinstance(ours, Tensor) and ours.is_floating_point():
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, what
        finite = theirs[theirs.isfinite()]
        scale = finite.abs().max().item() if len(finite) else 0.0
        torch.testing.assert_close(
            ours, theirs, rtol=0, atol=rounding * scale, msg=lambda m: f"{what}: {m}"
        )
    elif isinstance(ours, Tensor):
        assert torch.equal(ours, theirs), what
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), what
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(a, b, f"{what}[{i}]", rounding)
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, rel=1e-5), what
    else:
        assert ours == theirs, what


def assert_same_activations(model: Transformer) -> None:
    twin, tokens = hooked(model), tokens_for(model)
    # In a trained model with MLPs and LayerNorm, sums are longer and attention sharper: more is rounded.
    rounding = 1e-5 if model.cfg.attn_only or model.cfg.d_model < 100 else 4e-5
    with torch.no_grad():
        assert_same(model(tokens), twin(tokens), "logits", rounding)
        logits, cache = model.run_with_cache(tokens)
        their_logits, their_cache = twin.run_with_cache(tokens)
    assert_same(logits, their_logits, "logits with a cache", rounding)
    compared = [name for name in model.hook_names() if name in their_cache]
    assert compared == model.hook_names() == list(cache)
    for name in compared:
        assert_same(cache[name], their_cache[name], name, rounding)


@pytest.fixture(params=KINDS)
def model(request) -> Transformer:
    return small(**KINDS[request.param])


def test_same_logits_and_activations(model):
    assert_same_activations(model)


@pytest.mark.parametrize("name", ["zero_layer", "one_layer", "two_layer", "full_two_layer"])
def test_same_logits_and_activations_at_the_start_of_training(name):
    assert_same_activations(recipe(name).build())


@pytest.mark.parametrize("name", pretrained.names() or [None])
def test_same_logits_and_activations_of_shipped_models(name):
    assert_same_activations(pretrained.load_model(name) if name else small(n_layers=2))


@pytest.mark.parametrize("name", [None, "full_two_layer"])
def test_same_logits_and_activations_with_layer_norm_folded(answers, name):
    model = pretrained.load_model(name) if name else small(**FULL_RELU)
    folded = answers["fold_layer_norm"](model)
    assert_same_activations(folded)
    with torch.no_grad():
        theirs = hooked(model)(tokens_for(model))
        what = "logits of the folded model, and theirs not folded"
        assert_same(folded(tokens_for(model)), theirs, what, rounding=4e-5)


def test_same_weights(model):
    twin = hooked(model)
    names = ["W_E", "W_pos", "W_U"]
    if model.cfg.n_layers:  # TransformerLens cannot stack nothing
        names += ["W_Q", "W_K", "W_V", "W_O"]
        names += [] if model.cfg.attn_only else ["W_in", "W_out"]
    for name in names:
        ours, theirs = getattr(model, name), getattr(twin, name)
        assert ours.shape == theirs.shape and torch.equal(ours, theirs), name
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, twin.state_dict()[name]), name


def test_same_short_names_in_the_cache(model):
    ours, theirs = (m.run_with_cache(tokens_for(m))[1] for m in both(model))
    assert_same(ours["embed"], theirs["embed"], "embed")
    short = ["resid_pre", "q", "k", "v", "attn_scores", "pattern", "z", "result", "attn_out"]
    short += [] if model.cfg.attn_only else ["resid_mid", "pre", "post", "mlp_out"]
    for layer in range(-model.cfg.n_layers, model.cfg.n_layers):
        for name in [*short, "resid_post"]:
            assert_same(ours[name, layer], theirs[name, layer], f"{name}, {layer}")
            if layer >= 0:
                assert get_act_name(name, layer) == their_act_name(name, layer)


@pytest.mark.parametrize(
    "choose",
    [
        lambda names: names[-1],
        lambda names: names[::2],
        lambda names: lambda name: name.endswith(("_z", "resid_post")),
    ],
    ids=["name", "list", "callable"],
)
def test_same_names_filter(model, choose):
    names_filter = choose(model.hook_names())
    ours, theirs = (
        m.run_with_cache(tokens_for(m), names_filter=names_filter)[1] for m in both(model)
    )
    assert set(ours) == set(theirs.keys())
    for name in ours:
        assert_same(ours[name], theirs[name], name)


# Hooks, as a learner may write them: one that only looks, one that returns, one that writes.


def look(x, hook):
    assert hook.name


def scramble(x, hook):
    generator = torch.Generator().manual_seed(len(hook.name))
    return x + torch.randn(x.shape, generator=generator)


def zero_first_position(x, hook):
    x[:, 0] = 0.0


@pytest.mark.parametrize("hook", [look, scramble, zero_first_position])
def test_same_hook_same_result_at_every_name(model, hook):
    twin, tokens = hooked(model), tokens_for(model)
    with torch.no_grad():
        plain = model(tokens)
        for name in model.hook_names():
            hooks = [(name, hook)]
            ours, theirs = (m.run_with_hooks(tokens, fwd_hooks=hooks) for m in (model, twin))
            assert_same(ours, theirs, f"logits with {hook.__name__} at {name}")
            if hook is look:
                assert_same(ours, plain, f"logits while looking at {name}")
            if hook is scramble:
                assert (ours - plain).abs().max() > 1e-3, name


def test_same_hooks_together():
    """Two hooks at one name, a choice of names by a function, and a context around a run."""
    together = [
        ("blocks.0.attn.hook_z", scramble),
        ("blocks.0.attn.hook_z", zero_first_position),
        (lambda name: name.endswith("hook_pattern"), scramble),
    ]
    ours, theirs = both(small(n_layers=2))
    tokens = tokens_for(ours)

    def logits(m):
        inside = m.run_with_hooks(tokens, fwd_hooks=together)
        with m.hooks(fwd_hooks=[("hook_embed", scramble)]):
            around = m(tokens)
        return [inside, around, m(tokens)]

    with torch.no_grad():
        assert_same(logits(ours), logits(theirs), "logits")


def test_hook_that_works_here_works_there():
    """TransformerLens passes `hook` by keyword: a second parameter of another name fails there, so
    it fails here too, before anything has been learned wrong."""
    for m in both(small(n_layers=1)):
        with pytest.raises(TypeError, match="hook"):
            m.run_with_hooks(tokens_for(m), fwd_hooks=[("hook_embed", lambda x, point: None)])


def test_same_patching():
    """Every head's output patched from a clean run into a corrupted one, head by head."""
    ours, theirs = both(small(n_layers=2))
    clean, corrupted = tokens_for(ours, seed=1), tokens_for(ours, seed=2)

    def sweep(m):
        _, cache = m.run_with_cache(clean, names_filter=lambda name: name.endswith("hook_z"))
        results = []
        for layer in range(m.cfg.n_layers):
            for head in range(m.cfg.n_heads):

                def patch(z, hook, head=head):
                    z[:, :, head] = cache[hook.name][:, :, head]
                    return z

                at = f"blocks.{layer}.attn.hook_z"
                results.append(m.run_with_hooks(corrupted, fwd_hooks=[(at, patch)])[:, -1])
        return torch.stack(results)

    with torch.no_grad():
        assert_same(sweep(ours), sweep(theirs), "patched logits")


STREAM = {name: f"get_act_patch_{name}" for name in ("resid_pre", "attn_out", "resid_mid", "mlp_out")}


@pytest.mark.parametrize("name", [*STREAM, *IN_A_HEAD])
@pytest.mark.parametrize("kind", [{}, STANDARD, dict(biases=True), FULL], ids=str)
def test_sweep_is_what_transformer_lens_patches(kind, name):
    """Its own functions, one forward pass per cell, on the same weights."""
    if name in ("resid_mid", "mlp_out") and kind != FULL:
        pytest.skip("there is none without MLPs")
    ours, theirs = both(small(n_layers=2, **kind))
    clean, corrupted = tokens_for(ours, seed=1), tokens_for(ours, seed=2)
    metric = LogitDiff(clean[:, 0], corrupted[:, 0])
    head = {"z": "head_out"}.get(name, name if name in STREAM else f"head_{name}")
    attn = "" if name in STREAM else "attn_"
    with torch.no_grad():
        _, cache = theirs.run_with_cache(clean)
        for by_pos in (True, False) if attn else (False,):
            ending = "" if not attn else "_by_pos" if by_pos else "_all_pos"
            patch = getattr(patching, f"get_act_patch_{attn}{head}{ending}")
            want = patch(theirs, corrupted, cache, metric)
            if name == "pattern" and by_pos:  # theirs is [layer head dest]
                want = want.transpose(1, 2)
            got = sweep(ours, clean, corrupted, metric, name, by_pos)
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_same_forms_of_tokens():
    for form in (tokens_for(small())[0], tokens_for(small(), batch=1), tokens_for(small())[:, :1]):
        ours, theirs = (m(form) for m in both(small(n_layers=1)))
        assert_same(ours, theirs, f"logits of tokens {list(form.shape)}")


# Reference answers ---------------------------------------------------------------------------


def _step(train_step: Callable, model) -> list:
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    loss = train_step(model, tokens_for(model), optimizer)
    return [loss, model.W_E.detach(), model.W_U.detach()]


def _counts(model) -> Tensor:
    d_vocab = model.cfg.d_vocab
    return torch.randint(3, (d_vocab, d_vocab), generator=torch.Generator().manual_seed(5))


Z_0 = "blocks.0.attn.hook_z"


def _cache(model) -> dict[str, Tensor]:
    return model.run_with_cache(tokens_for(model))[1]


def _answers_of(model) -> tuple[Tensor, Tensor]:
    """Right and wrong tokens."""
    return tokens_for(model, seed=3)[:, 0], tokens_for(model, seed=4)[:, 0]


def _pairs(model) -> tuple[Tensor, ...]:
    """Clean and corrupted prompts, with their answers."""
    return tokens_for(model, seed=1), tokens_for(model, seed=2), *_answers_of(model)


def _subjects(model) -> Tensor:
    """A position in each text, with two more behind it."""
    return torch.arange(len(tokens_for(model))) % 3


def _weights(model) -> list:
    """Names and weights, without the masks that TransformerLens keeps among them."""
    return [[n, W] for n, W in sorted(model.state_dict().items()) if not n.endswith(("mask", "IGNORE"))]


def _rotation(model) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.linalg.qr(torch.randn(model.cfg.d_mlp, model.cfg.d_mlp, generator=generator))[0]


def _transcoder(model, n_latents: int = 40) -> dict[str, Tensor]:
    generator, d = torch.Generator().manual_seed(6), model.cfg.d_model
    shapes = {"W_enc": (d, n_latents), "b_enc": (n_latents,), "b_pre": (d,), "W_dec": (n_latents, d), "b_out": (d,)}
    return {name: torch.randn(shape, generator=generator) / d**0.5 for name, shape in shapes.items()}


def _edges(edge_attribution: Callable, model) -> list:
    effects = edge_attribution(model, *_pairs(model))
    return [list(effects), torch.tensor(list(effects.values()))]


def _places(model, seed: int) -> Tensor:
    """A position in each text."""
    return tokens_for(model, seed=seed)[:, 0] % model.cfg.n_ctx


def _trace(causal_trace: Callable, model) -> list:
    tokens = tokens_for(model)
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(len(tokens), 2, model.cfg.d_model, generator=generator)
    return list(causal_trace(model, tokens, [1, 2], noise, _answers_of(model)[0]))


# How to call each reference answer that takes a model or its weights: on how many layers, and with
# which other arguments.
CALLS: dict[str, tuple[int, Callable]] = {
    "zero_layer_logits": (0, lambda answer, m: answer(m.W_E, m.W_U, tokens_for(m))),
    "direct_path": (0, lambda answer, m: answer(m.W_E, m.W_U)),
    "top_next": (0, lambda answer, m: [answer(m, token, 5) for token in range(m.cfg.d_vocab)]),
    "train_step": (0, _step),
    "sample": (
        0,
        lambda answer, m: answer(m, tokens_for(m)[0, :4], 9, 1.0, torch.Generator().manual_seed(6)),
    ),
    "furthest_tokens": (0, lambda answer, m: answer(m, _counts(m), 7)),
    "residual_parts": (2, lambda answer, m: answer(m, tokens_for(m))),
    "strongest_wire": (2, lambda answer, m: answer(m)),
    "ov_circuit": (2, lambda answer, m: answer(m, 1, 2)),
    "full_ov_circuit": (2, lambda answer, m: answer(m, 1, 2)),
    "full_qk_circuit": (2, lambda answer, m: answer(m, 1, 2)),
    "positional_qk": (2, lambda answer, m: answer(m, 1, 2)),
    "score_terms": (1, lambda answer, m: answer(m, tokens_for(m)[0], 2)),
    "path_expansion": (1, lambda answer, m: answer(m, tokens_for(m))),
    "freeze_patterns": (2, lambda answer, m: answer(m, tokens_for(m), m.W_E[tokens_for(m, seed=2)])),
    "skip_trigrams": (1, lambda answer, m: list(answer(m, 2, 7, 5))),
    "copying_score": (2, lambda answer, m: answer(m, 1, 2)),
    "matching_score": (2, lambda answer, m: answer(m, 1, 2)),
    "diagonal_score": (2, lambda answer, m: answer(m, 1, 2)),
    "top_k_copy_score": (2, lambda answer, m: answer(m, 1, 2, 9)),
    "copying_heads": (1, lambda answer, m: answer(m)),
    "anti_copying_head": (1, lambda answer, m: answer(m)),
    "positional_heads": (1, lambda answer, m: answer(m, tokens_for(m))),
    "forced_skip_trigrams": (1, lambda answer, m: answer(m, 2, 7, 8, 9, 10)),
    "ablate_head": (2, lambda answer, m: answer(m, tokens_for(m), 0, 2)),
    "head_importance": (2, lambda answer, m: answer(m, tokens_for(m))),
    "zero_ablate": (2, lambda answer, m: answer(m, tokens_for(m), Z_0, 1)),
    "mean_ablate": (2, lambda answer, m: answer(m, tokens_for(m), Z_0, tokens_for(m, seed=2), 1)),
    "resample_ablate": (2, lambda answer, m: answer(m, tokens_for(m), Z_0, tokens_for(m, seed=2), 1)),
    "direct_logit_attribution": (2, lambda answer, m: list(answer(_cache(m), m, *_answers_of(m)))),
    "logit_lens": (2, lambda answer, m: answer(_cache(m), m)),
    "activation_patch": (2, lambda answer, m: answer(m, tokens_for(m, seed=2), _cache(m), Z_0, 3, 1)),
    "patch_sweep": (2, lambda answer, m: [answer(m, *_pairs(m), kind) for kind in ("resid_pre", "z")]),
    "patch_qkv": (2, lambda answer, m: answer(m, *_pairs(m), 1)),
    "attribution_patch": (2, lambda answer, m: list(answer(m, *_pairs(m)).values())),
    "causal_trace": (2, _trace),
    "path_patch": (3, lambda answer, m: answer(m, *_pairs(m)[:2], (0, 1), (2, 2, "k"))),
    "edge_attribution": (2, _edges),
    "unexplained_effect": (2, lambda answer, m: answer(m, ["0.1->1.2.k", "1.2->logits"], *_pairs(m))),
    "k_fix": (2, lambda answer, m: list(answer(m, *_pairs(m)).values())),
    "per_token_loss": (2, lambda answer, m: answer(m, tokens_for(m))),
    "find_heads": (2, lambda answer, m: [answer(m, tokens_for(m)[:, :8].repeat(1, 2), k) for k in ("previous", "induction")]),
    "composition_scores": (2, lambda answer, m: [answer(m, kind) for kind in "QKV"]),
    "composed_qk": (2, lambda answer, m: answer(m, 1, 2)),
    "find_pair_by_weights": (2, lambda answer, m: answer(m)),
    "virtual_head_ov": (2, lambda answer, m: answer(m, 1, 2)),
    "path_expansion_2l": (2, lambda answer, m: answer(m, tokens_for(m))),
    "term_importance": (2, lambda answer, m: answer(m, tokens_for(m))),
    "ablated_loss": (2, lambda answer, m: answer(m, tokens_for(m), [(0, 1), (1, 2)])),
    # Differences of losses of several nats each, which is what rounds.
    "path_catalogue": (2, lambda answer, m: torch.tensor([*answer(m, tokens_for(m)).values(), 1.0])),
}
# The same, of a model with ReLU MLPs, LayerNorm and biases.
FULL_CALLS: dict[str, Callable] = {
    "fold_layer_norm": lambda answer, m: _weights(answer(m)),
    "frozen_scale_logits": lambda answer, m: answer(m, tokens_for(m)),
    "neuron_contributions": lambda answer, m: answer(m, tokens_for(m), 1),
    "neuron_logits": lambda answer, m: answer(m, 1, 7),
    "top_contexts": lambda answer, m: answer(m, tokens_for(m), 1, 7, 5),
    "max_activating_input": lambda answer, m: answer(m, tokens_for(m)[0, :4], 0, 7),
    "active_share": lambda answer, m: answer(m, tokens_for(m)),
    "value_agreement": lambda answer, m: answer(m, tokens_for(m), 1),
    "composed_share": lambda answer, m: answer(m, tokens_for(m), 1),
    "mlp_path_expansion": lambda answer, m: list(answer(m, tokens_for(m), _answers_of(m)[0])),
    "driven_neuron": lambda answer, m: answer(m, tokens_for(m), 1, 2),
    "rotate_hidden": lambda answer, m: answer(m, _rotation(m))(tokens_for(m)),
    "loss_recovered": lambda answer, m: round(answer(m, tokens_for(m), 1, 0.5 * _cache(m)["mlp_out", 1]), 3),
    "transcoder": lambda answer, m: answer(m, tokens_for(m), 1, _transcoder(m), False),
    "steer": lambda answer, m: answer(m, tokens_for(m)[:, :5], "blocks.1.hook_resid_mid", _transcoder(m)["b_pre"], 9.0, 3),
    "head_to_latent": lambda answer, m: answer(m, 1, _transcoder(m)["W_enc"]),
    "name_mover": lambda answer, m: answer(m, _cache(m), _places(m, 3), _cache(m)["resid_pre", 0][:, -1]),
    "copy_score": lambda answer, m: [answer(m, _cache(m)["resid_pre", 1][:, -1], tokens_for(m)[:, -1], 1, head, 20) for head in range(4)],
    "s_inhibition": lambda answer, m: answer(m, *_pairs(m)[:2], (1, 2), _places(m, 3), _places(m, 4)),
    "backups": lambda answer, m: answer(m, tokens_for(m), [(0, 1), (1, 3)], _cache(m)["resid_pre", 0][:, -1]),
    "isolated_trace": lambda answer, m: [
        answer(m, tokens_for(m), m.W_E[tokens_for(m, seed=2)], _answers_of(m)[0], kind, 1, severed)
        for kind, severed in (("mlp_out", ""), ("resid_post", "mlp_out"), ("attn_out", "mlp_out"))
    ],
    "subject_key": lambda answer, m: answer(m, 1, tokens_for(m), _subjects(m)),
    "target_value": lambda answer, m: answer(m, 0, tokens_for(m), _subjects(m), _subjects(m) + 2, 7, 1.0, 0.1),
    "add_direction": lambda answer, m: answer(m, tokens_for(m), 0, m.W_E[3], -1.5),
    "project_out": lambda answer, m: answer(m, tokens_for(m), m.W_E[3]),
    "orthogonalise_weights": lambda answer, m: _weights(answer(m, m.W_E[3])),
    "average_indirect_effect": lambda answer, m: answer(m, *_pairs(m)[:3]),
    "mlp_as_heads": lambda answer, m: [answer(m, layer, 3.0) for layer in range(2)],
    "counterexample": lambda answer, m: answer(m, tokens_for(m)[0], torch.arange(20)),
    "function_vector": lambda answer, m: answer(m, tokens_for(m), [(0, 1), (1, 2), (1, 0)]),
}
CIRCUITS = "calls `run_circuit`, which reads the weights and norms of this course's `Transformer` itself"
OURS_ONLY = {
    "rotate_residual": "builds a Transformer from the configuration of the one given",
    "to_grouped": "builds a Transformer from the configuration of the one given",
    "overlooked_head": "calls `sweep`, which is compared above and takes no other models",
    "clean_and_corrupted": "reads text, with the course's own tokenizer",
    "edge_effects": CIRCUITS,
    "strength_gradient": CIRCUITS,
    "integrated_edge_attribution": CIRCUITS,
    "greedy_pruning": CIRCUITS,
    "faithfulness_curve": CIRCUITS,
    "completeness": CIRCUITS,
    "minimality": CIRCUITS,
    "hypothesis_score": CIRCUITS,
    "disable": "edits one of the shipped mystery models",
    "redirect": "edits one of the shipped mystery models",
}

SOURCES = sorted(ROOT.glob("solutions/*/*.py"))


def _answers() -> dict[str, Callable]:
    answers = {}
    for file in SOURCES:
        namespace, problems = load_answers(file)
        assert not problems, problems
        exercises = [name for name, _ in answer_cells(file) if name != "setup"]
        answers |= {name: namespace[name] for name in exercises if name in namespace}
    return answers


@pytest.fixture(scope="module")
def answers() -> dict[str, Callable]:
    return _answers()


@pytest.mark.parametrize("name", CALLS)
def test_reference_answer_is_the_same_on_both(answers, name):
    assert name in answers, f"no exercise is called {name}: take it out of CALLS"
    n_layers, call = CALLS[name]
    ours, theirs = (call(answers[name], m) for m in both(small(n_layers=n_layers)))
    assert_same(ours, theirs, name)


@pytest.mark.parametrize("name", FULL_CALLS)
def test_reference_answer_is_the_same_on_both_full_models(answers, name):
    ours, theirs = (FULL_CALLS[name](answers[name], m) for m in both(small(**FULL_RELU)))
    assert_same(ours, theirs, name)


def test_every_answer_that_takes_a_model_is_compared(answers):
    takes_model = {n for n, f in answers.items() if "model" in inspect.signature(f).parameters}
    new = takes_model - CALLS.keys() - FULL_CALLS.keys() - OURS_ONLY.keys()
    assert not new, f"add to CALLS how to call {', '.join(sorted(new))}"
