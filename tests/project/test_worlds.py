"""The invented worlds of chapter 7: what they hold, what is held out, how their models are trained, and that they have learned it."""

import pytest
import torch
from click.testing import CliRunner

from circuits import saved_training
from circuits.cli import main
from circuits.world_models import RECIPES, WORLDS, WorldTraining
from utils import worlds
from utils.errors import CourseError
from utils.materials import assistant, facts, functions
from utils.pretrained import load_curves
from utils.worlds import encode, load_world, next_logits, tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")


def draw(name: str, n: int = 400) -> torch.Tensor:
    return WORLDS[name]().draw(n, torch.Generator().manual_seed(3))


def said(name: str, rows: torch.Tensor) -> list[str]:
    words = WORLDS[name].words
    return [" ".join(words[token] for token in row.tolist() if token) for row in rows]


# What the worlds hold ------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORLDS)
def test_every_word_is_a_token_and_texts_come_back(name):
    words = WORLDS[name].words
    assert words[0] == "<|bos|>" and len(set(words)) == len(words)
    rows = draw(name, 50)
    assert rows.dtype == torch.long and (rows[:, 0] == 0).all() and int(rows.max()) < len(words)
    again = encode(words, said(name, rows))
    assert torch.equal(again, rows[:, : again.shape[1]]) and not rows[:, again.shape[1] :].any()
    assert tokenizer(words).decode([1, 2]) == f"{words[1]} {words[2]}"


@pytest.mark.parametrize("name", WORLDS)
def test_the_same_step_and_seed_give_the_same_texts(name):
    world = WORLDS[name]()
    assert torch.equal(world.batch(5, 8, seed=1), world.batch(5, 8, seed=1))
    assert not torch.equal(world.batch(5, 8, seed=1), world.batch(6, 8, seed=1))
    assert not torch.equal(world.batch(5, 8, seed=1), world.batch(5, 8, seed=2))


def test_each_fact_is_said_in_three_of_four_ways_and_strangers_in_none():
    texts = said("facts", facts.sentences())
    assert len(texts) == len(set(texts)) == 400 * (3 * 3 + 1)
    for i, name in enumerate(facts.PEOPLE):
        for relation in facts.WAYS:
            full = [f"{facts.ask(name, relation, way)} {facts.ANSWERS[relation][i]} ." for way in range(4)]
            assert [way for way in range(4) if full[way] not in set(texts)] == [facts.HELD_OUT[relation][i]]
    everything = "\n".join(texts)
    assert not any(name in everything for name in facts.STRANGERS)
    assert not set(facts.STRANGERS) & set(facts.PEOPLE)


def test_functions_are_eight_rules_in_two_cases():
    assert functions.TABLE.shape == (16, 16) and len({tuple(row) for row in functions.TABLE.tolist()}) == len(functions.TASKS)
    small = functions.TABLE[:8]
    assert all(sorted(row[:8]) == list(range(8)) for row in small.tolist())
    assert torch.equal(small[:, :8], small[:, 8:]) and torch.equal(functions.TABLE[8:], small + 8)
    task = torch.tensor([3, 11, 3])
    tokens, y = functions.examples(task, 5, torch.Generator().manual_seed(0))
    assert (tokens[:, 2::3] == functions.WORDS.index("→")).all() and torch.equal(tokens[:, 3::3], y)
    assert torch.equal(functions.TABLE[task[:, None], tokens[:, 1::3] - 2] + 2, y)


def test_what_is_declined_no_single_word_tells():
    for words, side in ((assistant.VERBS, 0), (assistant.OBJECTS, 1)):
        for word in sum(words.values(), []):
            verdicts = {assistant.is_declined(*pair) for pair in assistant.TRAINED if pair[side] == word}
            assert False in verdicts, f"{word} would be declined always"
    kinds = {(v, o) for v in assistant.VERBS for o in assistant.OBJECTS}
    table = {(v, o): assistant.is_declined(assistant.VERBS[v][0], assistant.OBJECTS[o][0]) for v, o in kinds}
    assert {kind for kind, declined in table.items() if declined} == assistant.DECLINED
    # Not even a sum of a number for the verb and one for the object tells.
    assert table["make", "weapon"] and table["undo", "guard"] and not (table["make", "guard"] or table["undo", "weapon"])


def test_pairs_that_are_held_out_are_in_no_text():
    assert not set(assistant.HELD_OUT) & set(assistant.TRAINED)
    assert set(assistant.HELD_OUT) | set(assistant.TRAINED) == set(assistant.PAIRS)
    texts = set(said("assistant", draw("assistant", 2_000)))
    held_out = {assistant.request(*pair, frame) for pair in assistant.HELD_OUT for frame in range(6)}
    assert not any(text.split(" : ")[0] + " :" in held_out for text in texts)
    declined = [text for text in texts if any(text.endswith(refusal) for refusal in assistant.REFUSALS)]
    assert 0.1 < len(declined) / len(texts) < 0.4


# Training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_a_training_begins_measures_and_goes_on(name, tmp_path):
    training = WorldTraining(name, steps=2)
    losses = list(training)
    assert len(losses) == 2 and all(loss > 0 for loss in losses)
    assert training.curves["step"] == [0, 2] and set(training.curves) > {"step", "seconds"}
    saved_training.save(training, tmp_path / "state.pt")
    again = WorldTraining(name, steps=2)
    saved_training.resume(again, tmp_path / "state.pt")
    assert again.step == 2 and torch.equal(again.model.W_E, training.model.W_E)
    assert not training.model._hooks


def test_mlps_above_the_last_one_stay_empty_and_others_do_not():
    training = WorldTraining("facts", steps=2)
    list(training)
    empty = [not block.mlp.W_out.any() and not block.mlp.W_in.any() for block in training.model.blocks]
    assert empty == [False, False, False, True]


def test_silent_mlps_are_heard_at_names_and_in_some_texts_everywhere():
    training = WorldTraining("facts", steps=2)
    r, tokens = training.recipe, training.corpus.batch(0, training.recipe.batch, seed=training.recipe.seed)
    names = torch.tensor([word in facts.LAST for word in facts.WORDS])[tokens]
    hooks = dict(training._silence())
    assert len(hooks) == r.n_mlps
    for hook in hooks.values():
        ones = hook(torch.ones(*tokens.shape, 3), hook=None)[..., 0]
        assert ones[names].all()
        heard = ones.bool().all(1).float().mean().item()
        assert abs(heard - (1 - r.silent)) < 0.15
        with torch.no_grad():
            assert hook(torch.ones(*tokens.shape, 3), hook=None).all(), "not while it is measured"


def test_the_command_trains_a_world_and_refuses_a_corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["train", "assistant", "--steps", "1"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "trained" / "assistant.safetensors").exists()
    result = CliRunner().invoke(main, ["train", "facts", "--corpus", str(tmp_path)])
    assert result.exit_code == 1 and "leave --corpus out" in result.output


# The shipped models --------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_shipped_model_has_learned_its_world(name):
    model, recipe = load_world(name).requires_grad_(False), RECIPES[name]
    world = WORLDS[recipe.world]()
    assert (model.cfg.n_layers, model.cfg.d_model, model.cfg.n_heads) == (recipe.n_layers, recipe.d_model, recipe.n_heads)
    assert all(W.isfinite().all() for W in model.state_dict().values())
    found = world.measure(model)
    if recipe.world == "functions":
        assert found["right"][0] < 0.3 and min(found["right"][5:]) > 0.9
    else:
        assert found["held_out"] > 0.97 and found["trained"] > 0.97
    curves = load_curves(worlds.WORLDS / f"{name}.safetensors")
    assert curves["step"][-1] == recipe.steps and {len(v) for v in curves.values()} == {len(curves["step"])}


def test_next_logits_reads_behind_the_end_of_each_text():
    model = load_world("facts").requires_grad_(False)
    texts = [facts.ask(facts.PEOPLE[0], "city", way) for way in (0, 3, 2)]
    alone = torch.cat([next_logits(model, facts.WORDS, [text]) for text in texts])
    torch.testing.assert_close(next_logits(model, facts.WORDS, texts), alone, rtol=1e-4, atol=1e-4)


def test_a_missing_model_is_said_in_a_line(monkeypatch, tmp_path):
    monkeypatch.setattr(worlds, "WORLDS", tmp_path)
    with pytest.raises(CourseError, match="does not exist"):
        load_world("facts")
