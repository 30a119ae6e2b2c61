"""`utils.patching.sweep` gives, cell by cell, what one whole forward pass with a hook gives."""

import pytest
import torch
from torch import Tensor

from utils.model import Config, Transformer, get_act_name
from utils.patching import IN_A_HEAD, IN_THE_STREAM, CrossEntropy, LogitDiff, sweep
from utils.pretrained import load_model

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = dict(d_vocab=23, d_model=12, n_heads=3, d_head=5, n_ctx=9, init_range=1.0)
KINDS = {
    "one layer": dict(n_layers=1),
    "two layers": dict(n_layers=2),
    "four layers": dict(n_layers=4),
    "standard positions": dict(n_layers=2, positional_embedding_type="standard"),
    "biases": dict(n_layers=3, biases=True),
}
FULL = dict(attn_only=False, d_mlp=17, normalization_type="LN", biases=True)
FULL_KINDS = {
    "MLPs": dict(n_layers=2, attn_only=False, d_mlp=17, act_fn="relu"),
    "LayerNorm": dict(n_layers=2, normalization_type="LN"),
    "MLPs, LayerNorm, biases": dict(n_layers=3, act_fn="relu") | FULL,
    "and standard positions": dict(n_layers=2, positional_embedding_type="standard") | FULL,
    "one layer with everything": dict(n_layers=1) | FULL,
}
IN_HEADS = [(name, by_pos) for name in IN_A_HEAD for by_pos in (False, True)]
PATCHES = [("resid_pre", False), ("attn_out", False), *IN_HEADS]
FULL_PATCHES = [*((name, False) for name in IN_THE_STREAM), *IN_HEADS]


def small(**kind) -> Transformer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Transformer(Config(**SMALL | kind))
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p) / 4)
    return model


def tokens(model: Transformer, seed: int, batch: int = 3, n_pos: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(model.cfg.d_vocab, (batch, n_pos), generator=generator)


def penalty(logits: Tensor) -> Tensor:
    """A metric of no known kind that reads every position, and several of them together."""
    return (logits[:, 1:] * logits[:, :-1]).mean() + logits.logsumexp(-1).mean()


def metrics(model: Transformer) -> dict:
    right, wrong = tokens(model, 3), tokens(model, 4)
    return {
        "last position": LogitDiff(right[:, -1], wrong[:, -1]),
        "every position": LogitDiff(right, wrong),
        "loss": CrossEntropy(right),
        "any function of the logits": penalty,
    }


@torch.no_grad()
def slow(model, clean, corrupted, metric, name, by_pos, cells=None) -> Tensor:
    """The definition: for every cell one forward pass, in which a hook copies the clean numbers."""
    cfg, n_pos = model.cfg, clean.shape[1]
    _, cache = model.run_with_cache(clean)
    shape = (n_pos,) if name in IN_THE_STREAM else (cfg.n_heads,)
    shape = (n_pos, cfg.n_heads) if by_pos else shape
    values = torch.full((cfg.n_layers, *shape), torch.nan, dtype=model.W_E.dtype)
    for cell in cells or torch.cartesian_prod(*map(torch.arange, values.shape)).tolist():
        layer, *where = cell

        def put(x, hook, where=where):
            new = cache[hook.name]
            if name in IN_THE_STREAM:
                x[:, where[0]] = new[:, where[0]]
            elif name == "pattern" and by_pos:  # [batch head dest src]
                x[:, where[1], where[0]] = new[:, where[1], where[0]]
            elif name == "pattern":
                x[:, where[0]] = new[:, where[0]]
            elif by_pos:
                x[:, where[0], where[1]] = new[:, where[0], where[1]]
            else:
                x[:, :, where[0]] = new[:, :, where[0]]
            return x

        logits = model.run_with_hooks(corrupted, fwd_hooks=[(get_act_name(name, layer), put)])
        values[tuple(cell)] = metric(logits)
    return values


def check_every_cell(model, name, by_pos, which):
    """Each cell of a sweep is what one full forward pass with that patch gives."""
    clean, corrupted, metric = tokens(model, 1), tokens(model, 2), metrics(model)[which]
    want = slow(model, clean, corrupted, metric, name, by_pos)
    got = sweep(model, clean, corrupted, metric, name, by_pos)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    assert want.std() > 1e-3, "patches that change nothing test nothing"


@pytest.mark.parametrize("which", ["last position", "every position", "loss", "any function of the logits"])
@pytest.mark.parametrize("name, by_pos", PATCHES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_cell_is_one_forward_pass(kind, name, by_pos, which):
    check_every_cell(small(**KINDS[kind]), name, by_pos, which)


@pytest.mark.parametrize("which", ["last position", "every position", "loss", "any function of the logits"])
@pytest.mark.parametrize("name, by_pos", FULL_PATCHES)
@pytest.mark.parametrize("kind", FULL_KINDS)
def test_every_cell_with_mlps_and_layer_norm(kind, name, by_pos, which):
    if kind == "LayerNorm" and name in ("resid_mid", "mlp_out"):
        pytest.skip("there are none without MLPs")
    check_every_cell(small(**FULL_KINDS[kind]), name, by_pos, which)


@pytest.mark.parametrize("most", [1, 3_000])
@pytest.mark.parametrize("name, by_pos", FULL_PATCHES)
def test_taking_fewer_patches_of_a_full_model_together_changes_nothing(name, by_pos, most, monkeypatch):
    model = small(n_layers=3, **FULL)
    args = tokens(model, 1), tokens(model, 2), metrics(model)["last position"], name, by_pos
    want = sweep(model, *args)
    monkeypatch.setattr("utils.patching._MOST", most)
    torch.testing.assert_close(sweep(model, *args), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("most", [1, 3_000, 20_000])
@pytest.mark.parametrize("name, by_pos", PATCHES)
def test_taking_fewer_patches_together_changes_nothing(name, by_pos, most, monkeypatch):
    model = small(n_layers=3)
    args = tokens(model, 1), tokens(model, 2), metrics(model)["last position"], name, by_pos
    want = sweep(model, *args)
    monkeypatch.setattr("utils.patching._MOST", most)
    torch.testing.assert_close(sweep(model, *args), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "shipped, name, by_pos",
    [("two_layer", *patch) for patch in PATCHES] + [("full_two_layer", *patch) for patch in FULL_PATCHES],
)
def test_on_the_shipped_models(shipped, name, by_pos):
    """At random cells, since all of them take minutes."""
    model = load_model(shipped)
    clean, corrupted = tokens(model, 1, 2, 64), tokens(model, 2, 2, 64)
    metric = LogitDiff(clean[:, 0], corrupted[:, 0])
    got = sweep(model, clean, corrupted, metric, name, by_pos)
    generator = torch.Generator().manual_seed(5)
    cells = [[int(torch.randint(n, (1,), generator=generator)) for n in got.shape] for _ in range(12)]
    want = slow(model, clean, corrupted, metric, name, by_pos, cells)
    for cell in map(tuple, cells):
        torch.testing.assert_close(got[cell], want[cell], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name, by_pos", PATCHES)
def test_patching_clean_into_clean_does_nothing(name, by_pos):
    model = small(n_layers=3)
    clean, metric = tokens(model, 1), metrics(model)["last position"]
    got = sweep(model, clean, clean, metric, name, by_pos)
    torch.testing.assert_close(got, metric(model(clean)).expand_as(got), rtol=1e-5, atol=1e-5)


def test_patching_the_only_position_gives_the_clean_run():
    model = small(n_layers=2)
    clean, corrupted = tokens(model, 1, n_pos=1), tokens(model, 2, n_pos=1)
    metric = LogitDiff(torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6]))
    got = sweep(model, clean, corrupted, metric, "resid_pre")
    torch.testing.assert_close(got, metric(model(clean)).expand_as(got))


@pytest.mark.parametrize("name, by_pos", PATCHES)
def test_in_double_precision(name, by_pos):
    model = small(n_layers=3).double()
    args = tokens(model, 1), tokens(model, 2), metrics(model)["every position"], name, by_pos
    got, want = sweep(model, *args), slow(model, *args)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_leaves_no_gradient_and_no_hook_behind():
    model = small(n_layers=2)
    got = sweep(model, tokens(model, 1), tokens(model, 2), metrics(model)["last position"], "z")
    assert not got.requires_grad and not model._hooks
    assert all(p.grad is None for p in model.parameters())


def test_refuses_what_it_would_get_wrong():
    model = small(n_layers=1)
    for name in ("mlp_out", "resid_mid", "resid_post"):
        with pytest.raises(ValueError, match=name):
            sweep(model, tokens(model, 1), tokens(model, 2), penalty, name)
    with pytest.raises(ValueError, match="same shape"):
        sweep(model, tokens(model, 1, n_pos=6), tokens(model, 2), penalty, "z")
    hooks = [("blocks.0.attn.hook_z", lambda z, hook: z * 0)]
    with model.hooks(hooks), pytest.raises(ValueError, match="hooks"):
        sweep(model, tokens(model, 1), tokens(model, 2), penalty, "z")
    without = small(n_layers=0)
    with pytest.raises(ValueError, match="layers"):
        sweep(without, tokens(without, 1), tokens(without, 2), penalty, "z")


# The metric ---------------------------------------------------------------------------------


def test_a_logit_difference_by_hand():
    logits = torch.zeros(2, 3, 5)
    logits[0, -1, 1], logits[0, -1, 2] = 3.0, 1.0
    logits[1, -1, 4], logits[1, -1, 0] = 7.0, -1.0
    logits[:, 0] = 100 * torch.arange(5.0)  # another position
    metric = LogitDiff(torch.tensor([1, 4]), torch.tensor([2, 0]))
    assert metric.each(logits).tolist() == [2.0, 8.0] and metric(logits).item() == 5.0


def test_a_logit_difference_at_every_position():
    logits = torch.arange(12.0).reshape(1, 2, 6) ** 2
    metric = LogitDiff(torch.tensor([[5, 4]]), torch.tensor([[0, 1]]))
    assert metric(logits).item() == ((25 - 0) + (100 - 49)) / 2


@pytest.mark.parametrize("shape", [(3,), (2, 2), (2, 3, 1)])
def test_a_logit_difference_refuses_tokens_that_do_not_fit(shape):
    ids = torch.zeros(shape, dtype=torch.long)
    with pytest.raises(ValueError, match="right and wrong"):
        LogitDiff(ids, ids)(torch.zeros(2, 3, 5))


def test_a_logit_difference_has_a_gradient():
    logits = torch.randn(2, 3, 5, requires_grad=True)
    LogitDiff(torch.tensor([1, 4]), torch.tensor([2, 0]))(logits).backward()
    want = torch.zeros(2, 3, 5)
    want[0, 2, 1] = want[1, 2, 4] = 0.5
    want[0, 2, 2] = want[1, 2, 0] = -0.5
    assert torch.equal(logits.grad, want)


def test_a_loss_is_the_mean_over_prompts_and_positions():
    logits, targets = torch.randn(2, 3, 5), torch.tensor([[0, 4, 2], [1, 1, 3]])
    want = -logits.log_softmax(-1)[torch.arange(2)[:, None], torch.arange(3), targets]
    metric = CrossEntropy(targets)
    torch.testing.assert_close(metric.each(logits), want)
    torch.testing.assert_close(metric(logits), want.mean())


@pytest.mark.parametrize("shape", [(2,), (2, 2), (2, 3, 1)])
def test_a_loss_refuses_targets_that_do_not_fit(shape):
    with pytest.raises(ValueError, match="need targets"):
        CrossEntropy(torch.zeros(shape, dtype=torch.long))(torch.zeros(2, 3, 5))
