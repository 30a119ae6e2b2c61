"""Training: the optimizer, the loop that can be interrupted and resumed, and what is measured."""

import math
import os
import signal
import threading
from dataclasses import replace

import pytest
import torch
from conftest import full_disk

from circuits import saved_training
from utils.corpus import Corpus
from utils.errors import CourseError
from utils.model import Config, Transformer
from utils.training import (
    RECIPES,
    Muon,
    Optimizers,
    Recipe,
    Training,
    evaluate,
    interrupts_wait,
    next_token_loss,
    recipe,
)

pytestmark = pytest.mark.usefixtures("one_thread")

ALWAYS = {"step", "seconds", "heldout_loss", "in_context_learning_score"}
WITH_HEADS = ALWAYS | {
    "previous_token_score",
    "induction_score",
    "repeated_first_loss",
    "repeated_second_loss",
}


def chain(n: int, seed: int) -> torch.Tensor:
    """A text of 50 words in which a word has only four possible successors."""
    draw = torch.randint(4, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    tokens = [1]
    for d in draw:
        tokens.append((7 * tokens[-1] + d) % 50)
    return torch.tensor(tokens)


TEXT = Corpus(chain(20_000, seed=0), chain(4_000, seed=1), "words that follow words")


def tiny(n_layers: int = 2, **changes) -> Recipe:
    sizes = dict(steps=12, d_model=16, n_heads=2, n_ctx=32, batch=4, warmup=3, evaluate_every=4)
    return Recipe(n_layers=n_layers, **sizes | changes)


def run(training: Training, steps: int | None = None) -> Training:
    for _ in training:
        if training.step == steps:
            break
    return training


def without_seconds(training: Training) -> dict:
    return {name: values for name, values in training.curves.items() if name != "seconds"}


def assert_same(a: Training, b: Training):
    assert a.step == b.step
    for (name, W), V in zip(a.model.named_parameters(), b.model.parameters(), strict=True):
        assert torch.equal(W, V), f"{name} differs"
    assert without_seconds(a) == without_seconds(b)


# Recipes -------------------------------------------------------------------------------------


def test_recipes_of_the_shipped_models():
    assert list(RECIPES) == [
        *("zero_layer", "one_layer", "two_layer"),
        *("full_two_layer", "full_two_layer_1", "full_two_layer_adamw", "full_four_layer"),
    ]
    assert [r.n_layers for r in RECIPES.values()] == [0, 1, 2, 2, 2, 2, 4]
    for name, r in RECIPES.items():
        assert recipe(name) is r
        cfg = replace(r, d_model=32).build().cfg
        assert (cfg.d_vocab, cfg.n_layers, cfg.n_ctx) == (2_048, r.n_layers, 256)
        full = name.startswith("full")
        assert (cfg.attn_only, cfg.biases) == (not full, full)
        assert cfg.normalization_type == ("LN" if full else None)


def test_unknown_recipe():
    with pytest.raises(CourseError, match="'three_layer'. There are: zero_layer, one_layer, two_"):
        recipe("three_layer")


def test_random_start_depends_on_the_seed_alone():
    state = torch.get_rng_state()
    first, again, other = tiny().build(), tiny().build(), tiny(seed=1).build()
    assert torch.equal(first.W_E, again.W_E) and torch.equal(first.W_Q, again.W_Q)
    assert not torch.equal(first.W_E, other.W_E)
    assert torch.equal(torch.get_rng_state(), state)


# Muon ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["W_Q", "W_O"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_muon_is_torchs_up_to_bfloat16(kind, weight_decay):
    """Two heads of width 8 in 16 dimensions against the one matrix [out in] of a linear layer."""
    generator = torch.Generator().manual_seed(0)
    settings = dict(lr=0.02, momentum=0.95, weight_decay=weight_decay)
    in_rows = kind == "W_O"

    def as_linear(W):
        """[n_heads a b] as torch has the same map: the heads' outputs, or their inputs, in rows."""
        return W.flatten(0, 1) if in_rows else W.transpose(1, 2).flatten(0, 1)

    shape = (2, 8, 16) if in_rows else (2, 16, 8)
    ours = torch.nn.Parameter(torch.randn(shape, generator=generator) / 4)
    theirs = torch.nn.Parameter(as_linear(ours).detach().clone())
    muon = Muon([{"params": [ours], "heads_in_rows": in_rows}], **settings)
    torchs = torch.optim.Muon([theirs], **settings)
    for _ in range(5):
        before, W = as_linear(ours).detach().clone(), theirs.detach().clone()
        ours.grad = torch.randn(shape, generator=generator)
        theirs.grad = as_linear(ours.grad).clone()
        muon.step()
        torchs.step()
        step = (as_linear(ours) - before).flatten().detach()
        want = (theirs - W).flatten().detach()
        assert torch.cosine_similarity(step, want, dim=0) > 0.99
        assert step.norm().item() == pytest.approx(want.norm().item(), rel=0.02)
    assert (as_linear(ours) - theirs).abs().max() < 0.01 * theirs.abs().max()


def test_muon_makes_orthogonal_steps_of_all_heads_together():
    generator = torch.Generator().manual_seed(0)
    W = torch.nn.Parameter(torch.zeros(2, 16, 8))
    W.grad = torch.randn(2, 16, 8, generator=generator) * torch.logspace(-2, 2, 8)
    Muon([{"params": [W], "heads_in_rows": False}], lr=1.0).step()
    all_heads = W.detach().permute(1, 0, 2).reshape(16, 16)
    values = torch.linalg.svdvals(all_heads)
    assert values.max() < 1.3 and values.median() > 0.6
    assert torch.linalg.cond(W.grad.permute(1, 0, 2).reshape(16, 16)) > 1e4


def test_muon_has_the_attention_weights_and_adamw_the_rest():
    check_shares(tiny().build(), ("attn.W_",))


def test_muon_has_the_keys_that_heads_share():
    check_shares(Transformer(Config(17, 12, 2, n_heads=4, d_head=4, n_key_value_heads=2)), ("attn._W_", "attn.W_"))


def check_shares(model, attention):
    optimizers = Optimizers(model, tiny())
    muon = {p for group in optimizers.muon.param_groups for p in group["params"]}
    adamw = {p for group in optimizers.adamw.param_groups for p in group["params"]}
    for name, p in model.named_parameters():
        assert (p in muon, p in adamw) == ((True, False) if any(part in name for part in attention) else (False, True))


def test_learning_rates_warm_up_and_decay_to_nothing():
    r = tiny(steps=100, warmup=10)
    model = r.build()
    optimizers, rates = Optimizers(model, r), []
    for step in range(100):
        next_token_loss(model(TEXT.batch(step, 2, 32)), TEXT.batch(step, 2, 32)).backward()
        optimizers.step(step)
        rates.append([o.param_groups[0]["lr"] for o in (optimizers.adamw, optimizers.muon)])
        assert all(p.grad is None or not p.grad.any() for p in model.parameters())
    for of_one, most in zip(zip(*rates, strict=True), (r.lr_embed, r.lr_attn), strict=True):
        assert of_one[0] == pytest.approx(most / 10) and max(of_one) <= most
        assert of_one[9] == pytest.approx(most * 0.5 * (1 + math.cos(math.pi * 0.09)))
        assert of_one[50] == pytest.approx(most / 2)
        assert of_one[-1] < most / 1_000 and list(of_one[10:]) == sorted(of_one[10:], reverse=True)


# The loop ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", [0, 2])
def test_loss_falls_and_curves_keep_record(n_layers):
    r = tiny(n_layers, steps=42, evaluate_every=10, lr_embed=2e-2)
    training = Training(r, TEXT)
    losses = list(training)
    assert len(losses) == 42 and all(isinstance(loss, float) for loss in losses)
    assert losses[0] == pytest.approx(math.log(2_048), abs=0.1)
    assert sum(losses[-5:]) / 5 < losses[0] - 1.5
    curves = training.curves
    assert set(curves) == (WITH_HEADS if n_layers else ALWAYS)
    assert curves["step"] == [0, 10, 20, 30, 40, 42]
    assert {len(values) for values in curves.values()} == {6}
    assert curves["seconds"] == sorted(curves["seconds"]) and training.seconds > 0
    assert curves["heldout_loss"][-1] < curves["heldout_loss"][0] - 1.5
    for name in {"previous_token_score", "induction_score"} & set(curves):
        assert all(len(scores) == n_layers and len(scores[0]) == 2 for scores in curves[name])
        assert all(0 <= score <= 1 for score in torch.tensor(curves[name]).flatten())
    assert list(training) == [] and {len(values) for values in curves.values()} == {6}


def test_same_recipe_gives_the_same_model():
    assert_same(run(Training(tiny(), TEXT)), run(Training(tiny(), TEXT)))
    other = run(Training(tiny(seed=1), TEXT))
    assert not torch.equal(other.model.W_E, run(Training(tiny(), TEXT)).model.W_E)


def test_next_token_loss_is_the_mean_over_predicted_tokens():
    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([[0, 1, 2, 3, 4], [6, 5, 4, 3, 2]])
    by_hand = [
        -logits[b, p].log_softmax(-1)[tokens[b, p + 1]].item() for b in range(2) for p in range(4)
    ]
    assert next_token_loss(logits, tokens).item() == pytest.approx(sum(by_hand) / 8, abs=1e-5)
    assert tokens[:, -1].tolist() == [4, 2], "the tokens were changed"


# Saved and resumed ---------------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", [0, 2])
@pytest.mark.parametrize("steps", [1, 4, 6, 12])
def test_resumed_training_equals_an_undisturbed_one(tmp_path, n_layers, steps):
    """Stopped early, at an evaluation, between two of them, and at the very end."""
    whole = run(Training(tiny(n_layers), TEXT))
    first = run(Training(tiny(n_layers), TEXT), steps)
    saved_training.save(first, tmp_path / "deep" / "state.pt")
    second = Training(tiny(n_layers), TEXT)
    saved_training.resume(second, tmp_path / "deep" / "state.pt")
    assert second.step == steps and second.seconds == first.seconds
    assert_same(second, first)
    assert_same(run(second), whole)


def test_training_goes_on_in_the_same_session_too():
    training = run(Training(tiny(), TEXT), 5)
    assert_same(run(training), run(Training(tiny(), TEXT)))


def test_saving_changes_nothing(tmp_path):
    training = Training(tiny(), TEXT)
    for _ in training:
        saved_training.save(training, tmp_path / "state.pt")
    assert_same(training, run(Training(tiny(), TEXT)))


def interrupt():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("where", ["forward", "backward", "update", "evaluation"])
def test_an_interrupt_in_the_middle_of_a_step_waits_for_its_end(tmp_path, monkeypatch, where):
    """Else half of the weights would be of one step and half of the next."""
    training = run(Training(tiny(steps=12), TEXT), 3)
    with monkeypatch.context() as patch:
        if where == "forward":
            training.model.blocks[0].register_forward_pre_hook(lambda *_: interrupt())
        elif where == "backward":
            training.model.embed.W_E.register_hook(lambda grad: interrupt())
        elif where == "update":
            step = training.optimizers.adamw.step
            patch.setattr(training.optimizers.adamw, "step", lambda: (step(), interrupt()))
        else:
            measure = lambda *args, **options: interrupt() or evaluate(*args, **options)
            patch.setattr("utils.training.evaluate", measure)
        with pytest.raises(KeyboardInterrupt):
            run(training)
    assert training.step == 4 and training.curves["step"] == [0, 4]
    saved_training.save(training, tmp_path / "state.pt")
    resumed = Training(tiny(), TEXT)
    saved_training.resume(resumed, tmp_path / "state.pt")
    assert_same(run(resumed), run(Training(tiny(), TEXT)))


def test_interrupts_wait_for_the_end_of_the_block():
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_wait():
        interrupt()
        done.append("the rest of the block")
    assert done
    with pytest.raises(KeyboardInterrupt):
        interrupt()  # and afterwards they come at once again


def test_an_ignored_interrupt_stays_ignored_and_a_thread_trains_without():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts_wait():
            interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    training = Training(tiny(), TEXT)
    thread = threading.Thread(target=run, args=[training])
    thread.start()
    thread.join()
    assert_same(training, run(Training(tiny(), TEXT)))


def test_a_write_that_fails_leaves_the_old_state(tmp_path):
    file = tmp_path / "state.pt"
    training = run(Training(tiny(), TEXT), 4)
    saved_training.save(training, file)
    old = file.read_bytes()
    run(training, 6)
    with full_disk(1_000), pytest.raises(OSError):
        saved_training.save(training, file)
    assert file.read_bytes() == old and os.listdir(tmp_path) == ["state.pt"]
    saved_training.save(training, file)
    resumed = Training(tiny(), TEXT)
    saved_training.resume(resumed, file)
    assert resumed.step == 6


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"\x80\x04\x95garbage" * 100,
        lambda data: data[: len(data) // 2],
        lambda data: data[:200] + bytes(200) + data[400:],
    ],
    ids=["empty", "garbage", "truncated", "overwritten"],
)
def test_resuming_from_a_damaged_file(tmp_path, damage):
    file = tmp_path / "state.pt"
    training = run(Training(tiny(), TEXT), 4)
    saved_training.save(training, file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CourseError) as error:
        saved_training.resume(Training(tiny(), TEXT), file)
    message = str(error.value)
    assert str(file) in message and "--restart" in message and "\n" not in message


def test_resuming_from_what_is_no_state(tmp_path):
    for state in ({"model": {}}, [1, 2], 3.5, {"recipe": "a good one"}):
        torch.save(state, tmp_path / "state.pt")
        with pytest.raises(CourseError, match="cannot be resumed from"):
            saved_training.resume(Training(tiny(), TEXT), tmp_path / "state.pt")
    with pytest.raises(CourseError, match="cannot be resumed from"):
        saved_training.resume(Training(tiny(), TEXT), tmp_path / "missing.pt")


class Malice:
    def __reduce__(self):
        return (os.mkdir, ("malice",))


def test_a_state_file_cannot_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"recipe": Malice()}, tmp_path / "state.pt")
    with pytest.raises(CourseError):
        saved_training.resume(Training(tiny(), TEXT), tmp_path / "state.pt")
    assert not (tmp_path / "malice").exists()


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(steps=20), "steps 12 there and 20 here"),
        (dict(n_layers=1), "n_layers 2 there and 1 here"),
        (dict(seed=3, batch=2), "batch 4 there and 2 here, seed 0 there and 3 here"),
    ],
    ids=str,
)
def test_resuming_another_recipe_is_refused_and_does_not_touch_the_file(tmp_path, changes, words):
    file = tmp_path / "state.pt"
    saved_training.save(run(Training(tiny(), TEXT), 4), file)
    old = file.read_bytes()
    with pytest.raises(CourseError) as error:
        saved_training.resume(Training(tiny(**changes), TEXT), file)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert file.read_bytes() == old


def test_resuming_on_another_text_is_refused(tmp_path):
    saved_training.save(run(Training(tiny(), TEXT), 4), tmp_path / "state.pt")
    other = Corpus(chain(20_000, seed=5), TEXT.heldout, "other words")
    with pytest.raises(CourseError, match="another corpus"):
        saved_training.resume(Training(tiny(), other), tmp_path / "state.pt")


# What is measured ----------------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", [0, 1, 2])
def test_a_random_model_knows_nothing(n_layers):
    measures = evaluate(tiny(n_layers).build(), TEXT)
    assert set(measures) == (WITH_HEADS if n_layers else ALWAYS) - {"step", "seconds"}
    assert measures["heldout_loss"] == pytest.approx(math.log(2_048), abs=0.1)
    assert measures["in_context_learning_score"] == pytest.approx(0, abs=0.05)
    if n_layers:
        assert measures["repeated_first_loss"] == pytest.approx(math.log(2_048), abs=0.1)
        assert measures["repeated_second_loss"] == pytest.approx(math.log(2_048), abs=0.1)
        scores = torch.tensor([measures["previous_token_score"], measures["induction_score"]])
        assert scores.shape == (2, n_layers, 2) and scores.max() < 0.3


def test_evaluate_is_deterministic_and_leaves_no_trace():
    model, state = tiny().build(), torch.get_rng_state()
    assert evaluate(model, TEXT) == evaluate(model, TEXT)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())


def looks_back(*offsets: int) -> Transformer:
    """A model whose heads attend so many tokens back, one each, and which predicts nothing.

    A position is many clocks of different speed, so turning each clock by `offset` steps
    (the queries' matrix) turns a position into the one `offset` earlier.
    """
    d = 32
    cfg = Config(d_vocab=50, d_model=d, n_layers=1, n_heads=len(offsets), d_head=d, n_ctx=64)
    model = Transformer(cfg)
    speed = torch.exp(torch.arange(0, d, 2) * (-math.log(10_000.0) / d))
    attn = model.blocks[0].attn
    with torch.no_grad():
        for W in (model.embed.W_E, model.unembed.W_U, attn.W_Q, attn.W_V, attn.W_O):
            W.zero_()
        attn.W_K.copy_(torch.eye(d).expand(len(offsets), d, d))
        for head, offset in enumerate(offsets):
            for i, angle in enumerate((-offset * speed).tolist()):
                sin, cos = 2 * i, 2 * i + 1
                turn = torch.tensor([[math.cos(angle), -math.sin(angle)],
                                     [math.sin(angle), math.cos(angle)]])
                attn.W_Q[head, sin : cos + 1, sin : cos + 1] = 100 * turn
    return model


def test_heads_that_look_back_get_the_scores_they_deserve():
    """64 tokens of context hold 16 tokens and their repetition; after the same token comes the one
    15 back."""
    model = looks_back(1, 15, 7)
    measures = evaluate(model, TEXT)
    assert measures["previous_token_score"][0] == pytest.approx([1, 0, 0], abs=0.1)
    assert measures["induction_score"][0] == pytest.approx([0, 1, 0], abs=0.1)
    for loss in ("heldout_loss", "repeated_first_loss", "repeated_second_loss"):
        assert measures[loss] == pytest.approx(math.log(50), abs=1e-4)
    assert measures["in_context_learning_score"] == pytest.approx(0, abs=1e-5)


def test_in_context_learning_score_compares_late_tokens_with_early_ones():
    """On a text of one word, a model that is sure of it from a position on."""

    def score(sure_from: int, sure_to: int) -> float:
        cfg = Config(d_vocab=50, d_model=4, n_ctx=100, positional_embedding_type="standard")
        model = Transformer(cfg)
        with torch.no_grad():
            for W in (model.embed.W_E, model.pos_embed.W_pos, model.unembed.W_U):
                W.zero_()
            model.pos_embed.W_pos[sure_from:sure_to, 0] = 1.0
            model.unembed.W_U[0, 3] = 50.0
        text = torch.full((1_000,), 3)
        return evaluate(model, Corpus(text, text, "one word"))["in_context_learning_score"]

    assert score(50, 100) == pytest.approx(-math.log(50), abs=1e-4)
    assert score(0, 50) == pytest.approx(math.log(50), abs=1e-4)
    assert score(20, 89) == score(0, 0) == pytest.approx(0, abs=1e-5)
    assert score(0, 10) == pytest.approx(0, abs=1e-5)
    assert score(10, 20) == pytest.approx(math.log(50), abs=1e-4)
    assert score(89, 100) == pytest.approx(-math.log(50), abs=1e-4)
