"""Chapter 8's shipped models do what their card says."""

import json
from hashlib import sha256

import pytest
import torch
from safetensors import safe_open

from circuits.discovery_models import PLANTS, WORLDS, Sentences, planted_training
from utils.circuit_runs import run_circuit
from utils.materials.edges import edge_names
from utils.materials.names import OPENINGS, TEMPLATES, WORDS, draw, load_names
from utils.pretrained import CHECKPOINTS, load_curves, load_model

SHIPPED = sorted(file.stem for file in (CHECKPOINTS / "discovery").glob("*.safetensors"))


@pytest.mark.parametrize("name", SHIPPED)
def test_each_has_a_recipe_curves_and_a_sum(name):
    assert name in WORLDS and load_curves(f"discovery/{name}")["step"]
    file = CHECKPOINTS / "discovery" / f"{name}.safetensors"
    sums = dict(line.split()[::-1] for line in (CHECKPOINTS / "SHA256SUMS").read_text().splitlines())
    assert sums[f"discovery/{name}.safetensors"] == sha256(file.read_bytes()).hexdigest()
    with safe_open(file, "pt") as f:
        assert json.loads(f.metadata()["config"])["n_layers"] == 2


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in SHIPPED if name.startswith("names")])
def test_names_are_given_right(name):
    model, right = load_names(name), []
    for opening in OPENINGS:
        for template in TEMPLATES:
            fields = draw(40, torch.Generator().manual_seed(len(template)))
            tokens = model.to_tokens([opening + template.format(**f) for f in fields])
            other = [f["second"] if f["giver"] == f["first"] else f["first"] for f in fields]
            said = [WORDS[i] for i in model(tokens)[:, -1].argmax(-1).tolist()]
            right += [a == b for a, b in zip(said, other, strict=True)]
    assert sum(right) / len(right) > (0.85 if name == "names_sparse" else 0.95)


def test_sentences_of_the_training_are_those_of_the_world():
    tokens, odd = Sentences().batch(50, torch.Generator().manual_seed(0), third=0.5)
    assert 5 < odd.sum() < 45 and (tokens[:, 0] == 0).all() and (tokens[:, 1:] > 0).all()
    for row, third in zip(tokens.tolist(), odd.tolist()):
        names = [WORDS[i] for i in row if 1 <= i <= 60]
        assert (len(set(names)) == 2) is not third and names.count(names[-1]) == 2


@torch.no_grad()
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_circuit_is_enough_and_nothing_else_is(name):
    model, plant = load_model(f"discovery/planted_{name}"), PLANTS[name]
    clean, other = (plant.draw(300, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    rest = [edge for edge in edge_names(model) if edge not in plant.edges]

    def share(logits, want):
        return (logits[:, -1].argmax(-1) == want).float().mean().item()

    assert share(model(clean), plant.answer(clean)) > 0.97
    assert share(run_circuit(model, list(plant.edges), clean, other), plant.answer(clean)) > 0.95
    assert share(run_circuit(model, rest, clean, other), plant.answer(other)) > 0.95
    for part, answer in plant.parts:  # each does its own share, and no other's
        assert share(run_circuit(model, list(part), clean, other), answer(clean, other)) > 0.95


def test_a_planted_training_learns_what_lies_outside_its_edges_too():
    """Where a head looks is set by its queries and keys, which the edges of `relay` do not hold."""
    training = planted_training("relay", steps=2)
    next(iter(training))
    loss = training.loss(1)
    loss.backward()
    assert training.model.blocks[0].attn.W_Q.grad[2].abs().max() > 0
