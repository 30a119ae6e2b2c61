"""`run_circuit`: exact at its ends, the same as a run with hooks edge by edge, and as chapter 4's for attention alone."""

import pytest
import torch

from circuits.chapters import ROOT, load_answers
from circuits.inputs import random_model, random_tokens, two_answers
from utils.circuit_runs import run_circuit
from utils.materials.edges import edge_names
from utils.materials import edges as chapter_4
from utils.model import get_act_name

FULL = dict(attn_only=False, d_mlp=13, act_fn="relu", normalization_type="LN", biases=True)
KINDS = {
    "attention alone": {},
    "MLPs, LayerNorm, biases": FULL,
    "standard positions": FULL | dict(positional_embedding_type="standard"),
}


@pytest.fixture(params=KINDS)
def case(request):
    rng = torch.Generator().manual_seed(0)
    model = random_model(rng, n_heads=3, **KINDS[request.param])
    return rng, model, random_tokens(rng, model), random_tokens(rng, model)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)


def test_all_edges_are_the_clean_run_and_none_the_corrupted_one(case):
    _, model, clean, corrupted = case
    edges = edge_names(model)
    close(run_circuit(model, edges, clean, corrupted), model(clean))
    close(run_circuit(model, [], clean, corrupted), model(corrupted))
    close(run_circuit(model, dict.fromkeys(edges, 1.0), clean, corrupted), model(clean))
    close(run_circuit(model, dict.fromkeys(edges, 0.0), clean, corrupted), model(corrupted))


def slow(model, circuit, clean, corrupted):
    """The same, node by node: each node is computed by the whole model, from a stream that a hook puts in for it alone."""
    _, base = model.run_with_cache(corrupted)
    says = {"embed": (model.W_E[clean], model.W_E[corrupted])}

    def stream(receiver, old):
        return old + sum(((now - then) for s, (now, then) in says.items() if f"{s}->{receiver}" in circuit), torch.zeros_like(old))

    def computed(at, new, wanted):
        kept = {}
        hooks = [(at, lambda x, hook: new), (wanted, lambda x, hook: kept.setdefault("x", x.detach()) * 1)]
        logits = model.run_with_hooks(corrupted, fwd_hooks=hooks)
        return kept["x"], logits

    for layer in range(model.cfg.n_layers):
        pre, written = get_act_name("resid_pre", layer), {}
        for head in range(model.cfg.n_heads):
            acts = {k: computed(pre, stream(f"{layer}.{head}.{k}", base[pre]), get_act_name(k, layer))[0] for k in "qkv"}
            z = {}
            hooks = [(get_act_name(k, layer), lambda x, hook, k=k: acts[k]) for k in "qkv"]
            hooks.append((get_act_name("z", layer), lambda x, hook: z.setdefault("z", x.detach()) * 1))
            model.run_with_hooks(corrupted, fwd_hooks=hooks)
            written[f"{layer}.{head}"] = tuple(t[:, :, head] @ model.W_O[layer, head] for t in (z["z"], base["z", layer]))
        says |= written
        if not model.cfg.attn_only:
            mid, out = (get_act_name(name, layer) for name in ("resid_mid", "mlp_out"))
            says[f"m{layer}"] = computed(mid, stream(f"m{layer}", base[mid]), out)[0], base[out]
    last = get_act_name("resid_post", model.cfg.n_layers - 1)
    return computed(last, stream("logits", base[last]), last)[1]


@torch.no_grad()
def test_it_is_what_hooks_give_node_by_node(case):
    rng, model, clean, corrupted = case
    edges = edge_names(model)
    for n in (5, len(edges) // 2, len(edges) - 3):
        circuit = [edges[i] for i in torch.randperm(len(edges), generator=rng)[:n].tolist()]
        close(run_circuit(model, circuit, clean, corrupted), slow(model, circuit, clean, corrupted))


def test_of_attention_alone_it_is_chapter_4():
    rng = torch.Generator().manual_seed(1)
    model = random_model(rng, n_heads=3)
    clean, corrupted = random_tokens(rng, model), random_tokens(rng, model)
    right, wrong = two_answers(rng)
    edges = edge_names(model)
    assert edges == chapter_4.edge_names(model)
    circuit = [edges[i] for i in torch.randperm(len(edges), generator=rng)[:50].tolist()]
    unexplained = load_answers(ROOT / "solutions" / "4_patching" / "patching.py")[0]["unexplained_effect"]
    rows = torch.arange(len(clean))
    with torch.no_grad():
        at = [
            (x[rows, -1, right] - x[rows, -1, wrong]).mean()
            for x in (model(clean), run_circuit(model, circuit, clean, corrupted), model(corrupted))
        ]
        share = unexplained(model, circuit, clean, corrupted, right, wrong)
    assert share == pytest.approx(((at[0] - at[1]) / (at[0] - at[2])).item(), rel=1e-3)


def test_what_is_no_edge_is_said_in_a_line():
    rng = torch.Generator().manual_seed(2)
    model = random_model(rng)
    tokens = random_tokens(rng, model)
    with pytest.raises(ValueError, match="no edge '9.9->logits'"):
        run_circuit(model, ["9.9->logits"], tokens, tokens)
