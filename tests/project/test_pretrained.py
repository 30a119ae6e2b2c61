"""Models in files: what is saved comes back, what is shipped is good, what is damaged says so."""

import json
import math
import os
import random
import re
import stat

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from circuits.chapters import ROOT
from circuits.saved_training import save_model
from utils.corpus import Corpus, is_heldout, load_tokenizer, standard_library
from utils.errors import CourseError
from utils.model import Config, Transformer
from utils.pretrained import CHECKPOINTS, load_curves, load_model, names
from utils.training import RECIPES, evaluate

CURVES = {"step": [0, 10], "heldout_loss": [7.625, 2.5], "induction_score": [[[0.25]], [[0.75]]]}
CONFIGS = {
    "zero layers": Config(d_vocab=17, d_model=12),
    "attention only": Config(d_vocab=17, d_model=12, n_layers=2, n_heads=3, d_head=4, n_ctx=10),
    "everything": Config(
        d_vocab=17, d_model=12, n_layers=2, n_heads=3, d_head=5, n_ctx=10, attn_only=False, d_mlp=7,
        act_fn="relu", normalization_type="LN", biases=True, eps=1e-3,
        positional_embedding_type="standard",
    ),
}
TOKENS = torch.randint(17, (2, 10), generator=torch.Generator().manual_seed(0))


def make(kind: str) -> Transformer:
    """A model of this kind with no weight left at zero or one."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        model = Transformer(CONFIGS[kind])
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape))
        return model


@pytest.fixture
def saved(tmp_path):
    """The file of a good model, to be damaged."""
    file = tmp_path / "mine.safetensors"
    save_model(make("attention only"), file, CURVES)
    return file


def refused(file) -> str:
    """The one line with which a model is refused."""
    with pytest.raises(CourseError) as error:
        load_model(file)
    message = str(error.value)
    assert "\n" not in message and str(file) in message
    return message


# Saved and loaded ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONFIGS)
def test_round_trip(tmp_path, kind):
    model, file = make(kind), tmp_path / "deep" / "er" / "mine.safetensors"
    save_model(model, file, CURVES)
    loaded = load_model(file)
    assert loaded.cfg == model.cfg
    assert torch.equal(loaded(TOKENS), model(TOKENS))
    for (name, W), V in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(W, V), name
    assert torch.equal(load_model(str(file))(TOKENS), model(TOKENS))
    assert load_curves(file) == load_curves(str(file)) == CURVES
    assert sorted(os.listdir(file.parent)) == ["mine.curves.json", "mine.safetensors"]


def test_a_loaded_model_can_be_used_and_trained(saved):
    model = load_model(saved)
    assert not model.training
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    model(TOKENS).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_tokenizer_comes_with_models_of_its_size(tmp_path, saved):
    assert load_model(saved).tokenizer is None
    file = tmp_path / "reader.safetensors"
    save_model(Transformer(Config(d_vocab=2_048, d_model=4)), file, {})
    assert load_model(file).to_string(load_model(file).to_tokens("import os")) == "<|bos|>import os"


def test_saving_again_replaces_the_model(saved):
    other = make("zero layers")
    save_model(other, saved, {"step": [1]})
    assert torch.equal(load_model(saved)(TOKENS), other(TOKENS))
    assert load_curves(saved) == {"step": [1]}


def test_curves_are_kept_to_four_decimals(tmp_path):
    file = tmp_path / "mine.safetensors"
    save_model(make("zero layers"), file, {"loss": [1 / 3, 10], "s": [[2 / 3]]})
    assert load_curves(file) == {"loss": [0.3333, 10], "s": [[0.6667]]}


def test_saving_that_fails_leaves_the_old_model(saved, monkeypatch):
    old = saved.read_bytes()

    def full(self, data):
        with open(self, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError):
        save_model(make("zero layers"), saved, {})
    assert saved.read_bytes() == old and load_curves(saved) == CURVES
    assert len(os.listdir(saved.parent)) == 2


def test_saved_files_are_as_readable_as_any_other(saved):
    (saved.parent / "other").write_text("")
    expected = stat.S_IMODE((saved.parent / "other").stat().st_mode)
    for file in (saved, saved.with_suffix(".curves.json")):
        assert stat.S_IMODE(file.stat().st_mode) == expected


def test_loading_leaves_the_random_numbers_alone(saved):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_model(saved)
    load_model(names()[0])
    assert torch.equal(torch.rand(3), expected)


# The shipped models --------------------------------------------------------------------------


def test_every_model_that_the_course_uses_is_shipped():
    texts = [file.read_text("utf-8") for file in (ROOT / "solutions").rglob("*.py")]
    used = set(re.findall(r"""load_(?:model|curves)\(["'](\w+)["']\)""", "\n".join(texts)))
    assert used and used <= set(names())
    assert names() == [name for name in RECIPES if name in names()], "fewest layers first"


@pytest.fixture(scope="module")
def heldout() -> Corpus:
    """Some of the files that no model was trained on."""
    names = ["ast.py", "calendar.py", "json/encoder.py", "json/tool.py", "random.py"]
    assert all(map(is_heldout, names))
    texts = [(standard_library() / name).read_text("utf-8") for name in names]
    encodings = load_tokenizer().encode_batch(texts)
    tokens = torch.tensor([i for encoding in encodings for i in (0, *encoding.ids)])
    return Corpus(tokens, tokens, "a few files")


CUT_SHORT = {"full_four_layer": 6_492}  # as its card says: steps of a training that ran out of time
SHIPPED = names() or list(RECIPES)  # if none is shipped, that is no reason to be silent


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_model_is_good(name, heldout):
    model, r = load_model(name), RECIPES[name]
    cfg = model.cfg
    assert (cfg.d_vocab, cfg.n_ctx) == (2_048, r.n_ctx)
    assert (cfg.n_layers, cfg.n_heads, cfg.d_model) == (r.n_layers, r.n_heads, r.d_model)
    assert all(W.isfinite().all() for W in model.state_dict().values())
    assert model("def area(self):\n    return 0").shape[-1] == 2_048
    measures = evaluate(model, heldout, n_windows=16)
    worst = {"zero_layer": 4.8, "one_layer": 4.0}.get(name, 3.4)
    assert measures["heldout_loss"] < worst, "log(2048) is 7.6"


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_curves_are_those_of_the_whole_training(name):
    curves, r = load_curves(name), RECIPES[name]
    last = CUT_SHORT.get(name, r.steps)
    steps = [*range(0, last, r.evaluate_every)]
    assert curves["step"] in (steps, [*steps, last])
    assert name in CUT_SHORT or curves["step"][-1] == r.steps
    assert {len(values) for values in curves.values()} == {len(curves["step"])}
    assert curves["seconds"] == sorted(curves["seconds"])
    # Behind a LayerNorm, logits start with a variance of 1, which costs half of it.
    assert curves["heldout_loss"][0] == pytest.approx(math.log(2_048) + 0.5 * r.full, abs=0.1)
    assert curves["heldout_loss"][-1] < min(curves["heldout_loss"]) + 0.05
    heads = torch.Size([len(curves["step"]), r.n_layers, r.n_heads])
    for measure in ("previous_token_score", "induction_score"):
        assert (measure in curves) == (r.n_layers > 0)
        if measure in curves:
            assert torch.tensor(curves[measure]).shape == heads


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_file_can_be_read_without_this_course(name):
    with safe_open(CHECKPOINTS / f"{name}.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
        assert config["n_layers"] == RECIPES[name].n_layers
        assert file.get_tensor("unembed.W_U").shape == (RECIPES[name].d_model, 2_048)


# Missing and damaged -------------------------------------------------------------------------


def test_unknown_name():
    for load in (load_model, load_curves):
        with pytest.raises(CourseError) as error:
            load("three_layer")
        assert "'three_layer'" in str(error.value) and names()[0] in str(error.value)
        assert "\n" not in str(error.value)


def test_missing_file(tmp_path):
    assert "does not exist" in refused(tmp_path / "nowhere.safetensors")


DAMAGES = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "a byte short": lambda data: data[:-1],
    "random bytes": lambda data: random.Random(0).randbytes(2_000),
    "huge header": lambda data: b"\xff" * 8 + data[8:],
    "text": lambda data: b"<html>404 not found</html>",
    "a pointer of git lfs": lambda data: b"version https://git-lfs.github.com/spec/v1\nsize 9\n",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_file(saved, damage):
    saved.write_bytes(damage(saved.read_bytes()))
    assert "damaged or not one of this course's" in refused(saved)
    assert "train it anew" in refused(saved)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"format": "pt"},
        {"config": "not JSON"},
        {"config": "[1, 2]"},
        {"config": "null"},
        {"config": "{}"},
        {"config": '{"d_vocab": 17}'},
        {"config": '{"d_vocab": "many", "d_model": 12}'},
        {"config": '{"d_vocab": -17, "d_model": 12}'},
        {"config": '{"d_vocab": 17, "d_model": 13, "n_layers": 2}'},
        {"config": '{"d_vocab": 17, "d_model": 12, "n_layers": 3, "n_heads": 3, "d_head": 4}'},
        {"config": '{"d_vocab": 17, "d_model": 12, "act_fn": "tanh"}'},
    ],
    ids=str,
)
def test_file_without_a_configuration_that_fits(saved, metadata):
    save_file(load_file(saved), saved, metadata)
    assert "damaged or not one of this course's" in refused(saved)


@pytest.mark.parametrize("change", ["lacks a weight", "has one too many", "of another shape"])
def test_file_with_other_weights(saved, change):
    with safe_open(saved, "pt") as file:
        metadata = file.metadata()
    weights = load_file(saved)
    if change == "lacks a weight":
        del weights["unembed.W_U"]
    elif change == "has one too many":
        weights["extra"] = torch.zeros(3)
    else:
        weights["unembed.W_U"] = torch.zeros(12, 18)
    save_file(weights, saved, metadata)
    assert "damaged or not one of this course's" in refused(saved)


@pytest.mark.parametrize("damage", [None, "", "{", "\udcff", "null", "[1, 2]"], ids=ascii)
def test_missing_or_damaged_curves(saved, damage):
    curves = saved.with_suffix(".curves.json")
    curves.unlink()
    if damage is not None:
        curves.write_bytes(damage.encode("utf-8", "surrogateescape"))
    with pytest.raises(CourseError) as error:
        load_curves(saved)
    assert str(curves) in str(error.value) and "missing or damaged" in str(error.value)
    assert "\n" not in str(error.value)
    load_model(saved)  # the model itself is none the worse


@pytest.mark.proof
def test_the_model_card_reports_what_evaluate_measures():
    """The figures of the card, measured again; another Python's library moves them a little."""
    from utils.corpus import load_corpus
    from utils.training import evaluate

    card = (CHECKPOINTS / "README.md").read_text("utf-8")
    corpus = load_corpus()
    for name in names():
        row = next(line for line in card.splitlines() if line.startswith(f"| `{name}` |"))
        loss, icl = (float(cell) for cell in row.split("|")[2:4])
        measured = evaluate(load_model(name), corpus)
        assert measured["heldout_loss"] == pytest.approx(loss, abs=0.05)
        assert measured["in_context_learning_score"] == pytest.approx(icl, abs=0.1)
        for kind, column in (("previous_token_score", 4), ("induction_score", 5)):
            for layer, head, score in re.findall(r"(\d)\.(\d) \((\d\.\d+)\)", row.split("|")[column]):
                assert measured[kind][int(layer)][int(head)] == pytest.approx(float(score), abs=0.05)
