"""Chapter 8's shipped models do what their card says."""

import json
import signal
from dataclasses import replace
from hashlib import sha256

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open

from circuits import saved_training
from circuits.cli import main
from circuits.discovery_models import PLANTS, RECIPES, Sentences, training
from utils.circuit_runs import run_circuit
from utils.materials.edges import edge_names
from utils.materials.names import OPENINGS, TEMPLATES, WORDS, draw, load_names
from utils.pretrained import CHECKPOINTS, load_curves, load_model

SHIPPED = sorted(file.stem for file in (CHECKPOINTS / "discovery").glob("*.safetensors"))


@pytest.mark.parametrize("name", SHIPPED)
def test_each_has_a_recipe_curves_and_a_sum(name):
    assert name in RECIPES and load_curves(f"discovery/{name}")["step"]
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


# How they are trained --------------------------------------------------------------------------


def test_a_planted_training_learns_what_lies_outside_its_edges_too():
    """Where a head looks is set by its queries and keys, which the edges of `relay` do not hold."""
    made = training("planted_relay", steps=2)
    next(iter(made))
    made.loss().backward()
    assert made.model.blocks[0].attn.W_Q.grad[2].abs().max() > 0


def test_silent_heads_are_silent_from_their_step_on_and_not_while_it_is_measured():
    made = training("names")
    z = torch.ones(30, 5, 8, 3)
    silent = made._silence(z, hook=None)
    assert silent.shape == z.shape and 0.1 < 1 - silent.mean().item() < 0.3
    assert (silent == silent[:, :1, :, :1]).all(), "a head is silent in a whole sentence"
    drawn, calls = made.generator.get_state(), []
    made._silence = lambda z, hook: calls.append(made.step) or z
    for made.step in (made.recipe.dropped_from - 1, made.recipe.dropped_from):
        made.loss()
    made.measure()
    assert calls == [made.recipe.dropped_from] * 2 and not torch.equal(drawn, made.generator.get_state())


@pytest.mark.parametrize("name", ["names", "names_sparse", "planted_either"])
def test_interrupted_and_resumed_it_is_the_training_that_nobody_interrupted(name, tmp_path):
    """Ctrl-C comes in the middle of a step: which is finished first. Texts go on where they were."""
    whole = training(name, steps=5)
    losses = list(whole)
    first = training(name, steps=5)
    steps = iter(first)
    before = [next(steps), next(steps)]
    hook = first.model.embed.W_E.register_hook(lambda grad: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        next(steps)
    hook.remove()
    assert first.step == 3
    saved_training.save(first, tmp_path / "state.pt")
    second = training(name, steps=5)
    saved_training.resume(second, tmp_path / "state.pt")
    assert second.step == 3 and before + list(second) == losses[:2] + losses[3:]
    for W, other in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(W, other)
    assert {**second.curves, "seconds": 0} == {**whole.curves, "seconds": 0}


def test_a_planted_training_ends_when_all_is_learned_and_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(RECIPES, "planted_sum", replace(RECIPES["planted_sum"], enough=0.0, evaluate_every=2))
    first = CliRunner().invoke(main, ["train", "planted_sum"])
    assert first.exit_code == 0 and "Saved trained/planted_sum.safetensors" in first.output
    assert load_curves(tmp_path / "trained" / "planted_sum.safetensors")["step"] == [0]
    again = CliRunner().invoke(main, ["train", "planted_sum"])
    assert again.exit_code == 0 and "Finished: planted_sum at step 0" in again.output


def test_the_command_notices_before_the_first_step_what_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    for name in ("names_small", "planted_relay"):
        result = CliRunner().invoke(main, ["train", name, "--out", "file"])  # by the recipe this would take a minute
        assert result.exit_code == 1 and f"{name} cannot be saved in file (" in result.output and "--out" in result.output
    assert "leave --corpus out" in CliRunner().invoke(main, ["train", "names", "--corpus", "."]).output
    assert "names_small_1" in CliRunner().invoke(main, ["train", "names_smal"]).output
