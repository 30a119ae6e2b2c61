"""The model is exact: its parts sum to the whole, and looking at it changes nothing."""

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from utils.corpus import load_tokenizer
from utils.model import Config, Transformer, as_matrix, get_act_name, sinusoids
from utils.patching import LogitDiff, sweep
from utils.training import Muon, next_token_loss

pytestmark = pytest.mark.usefixtures("one_thread")

FULL = dict(attn_only=False, normalization_type="LN", biases=True)
STANDARD = dict(positional_embedding_type="standard")
KINDS = {
    "zero layers": dict(n_layers=0),
    "one layer": dict(n_layers=1),
    "two layers": dict(n_layers=2),
    "standard positions": STANDARD,
    "biases": dict(biases=True),
    "MLP": dict(attn_only=False, act_fn="relu"),
    "everything": FULL,
    "everything, standard positions": FULL | STANDARD,
    "one key for all heads": dict(n_key_value_heads=1) | FULL,
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def make(kind: str = "two layers") -> Transformer:
    """A small model in float64, in which rounding cannot hide a mistake. All that starts at 0 or
    1 is moved away from there, and embeddings are large, so that every part matters."""
    shape = dict(d_vocab=17, d_model=12, n_layers=2, n_heads=3, d_head=4, n_ctx=10, init_range=1.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Transformer(Config(**shape | KINDS[kind])).double()
        with torch.no_grad():
            for name, p in model.named_parameters():
                if name.split(".")[-1].startswith("b") or p.ndim == 1:
                    p.add_(torch.randn_like(p) / 2)
    return model


def draw(*shape: int, seed: int = 1) -> Tensor:
    """Random tokens of the small model."""
    return torch.randint(17, shape, generator=torch.Generator().manual_seed(seed))


TOKENS = draw(2, 9)


def noise_like(x: Tensor) -> Tensor:
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype)


def leave(x, hook):
    """A hook that only looks."""


# The whole is the sum of its parts -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["zero layers", "one layer", "two layers", "standard positions"])
def test_embedding_and_every_head_sum_to_residual_and_logits(kind):
    model = make(kind)
    logits, cache = model.run_with_cache(TOKENS)
    total = cache["embed"].clone()
    if kind == "standard positions":
        total += cache["pos_embed"]
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):
            total += cache["result", layer][:, :, head]
        assert_close(cache["resid_post", layer], total)
    assert_close(logits, total @ model.W_U)


@every_kind
def test_parts_sum_to_residual(kind):
    model = make(kind)
    logits, cache = model.run_with_cache(TOKENS)
    total = cache["embed"].clone()
    if model.cfg.positional_embedding_type == "standard":
        total += cache["pos_embed"]
    for layer, block in enumerate(model.blocks):
        assert_close(cache["resid_pre", layer], total)
        attn_out = cache["result", layer].sum(2)
        if block.attn.b_O is not None:
            attn_out = attn_out + block.attn.b_O
        assert_close(cache["attn_out", layer], attn_out)
        total += attn_out
        if block.mlp is not None:
            assert_close(cache["resid_mid", layer], total)
            total += cache["mlp_out", layer]
        assert_close(cache["resid_post", layer], total)
    assert_close(logits, model.unembed(model.ln_final(total)))


def test_attention_is_what_the_formula_says():
    """Against a slow loop over sequences, heads and positions, from the stacked weights."""
    model = make()
    _, cache = model.run_with_cache(TOKENS)
    resid = model.W_E[TOKENS]
    for layer in range(2):
        new = resid.clone()
        for b in range(len(TOKENS)):
            for head in range(3):
                for dest in range(TOKENS.shape[1]):
                    seen = resid[b, : dest + 1]
                    q = (resid[b, dest] + model.W_pos[dest]) @ model.W_Q[layer, head]
                    k = (seen + model.W_pos[: dest + 1]) @ model.W_K[layer, head]
                    weights = (k @ q / math.sqrt(model.cfg.d_head)).softmax(0)
                    z = weights @ (seen @ model.W_V[layer, head])
                    new[b, dest] += z @ model.W_O[layer, head]
                    assert_close(cache["pattern", layer][b, head, dest, : dest + 1], weights)
                    assert_close(cache["z", layer][b, dest, head], z)
        resid = new
    assert_close(model(TOKENS), resid @ model.W_U)


@every_kind
def test_pattern_rows_are_causal_distributions(kind):
    model = make(kind)
    _, cache = model.run_with_cache(TOKENS)
    for layer in range(model.cfg.n_layers):
        pattern = cache["pattern", layer]
        assert pattern.shape == (2, 3, 9, 9)
        assert_close(pattern.sum(-1), torch.ones_like(pattern[..., 0]))
        assert (pattern.triu(1) == 0).all()
        assert_close(cache["attn_scores", layer].softmax(-1), pattern)


@every_kind
def test_later_token_never_changes_earlier_logits(kind):
    model = make(kind)
    before = model(TOKENS)
    for pos in range(TOKENS.shape[1]):
        changed = TOKENS.clone()
        changed[:, pos] = (changed[:, pos] + 1) % 17
        after = model(changed)
        assert_close(after[:, :pos], before[:, :pos], rtol=0, atol=1e-12)
        assert (after[:, pos] - before[:, pos]).abs().max() > 1e-3


@every_kind
def test_sequences_of_a_batch_do_not_meet(kind):
    model = make(kind)
    assert_close(model(TOKENS), torch.cat([model(row) for row in TOKENS]))


# Two forward paths, one result ---------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_fused_and_explicit_attention_agree(kind, dtype):
    model = make(kind).to(dtype)

    def logits_and_gradients(hooks):
        model.zero_grad()
        logits = model.run_with_hooks(TOKENS, fwd_hooks=hooks)
        next_token_loss(logits, TOKENS).backward()
        return logits, {name: p.grad.clone() for name, p in model.named_parameters()}

    fused = logits_and_gradients([])
    for ending in ("pattern", "attn_scores", "result"):
        explicit = logits_and_gradients([(lambda name, end=ending: name.endswith(end), leave)])
        assert_close(explicit, fused)


def test_fused_path_serves_what_no_hook_asks_of(monkeypatch):
    """Training and evaluation never hold a pattern; nor does a hook on z make one."""
    model, calls = make(), []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: calls.append(1) or fused(*args, **kwargs),
    )
    model(TOKENS)
    model.run_with_hooks(TOKENS, fwd_hooks=[("blocks.0.attn.hook_z", leave)])
    assert len(calls) == 4
    model.run_with_hooks(TOKENS, fwd_hooks=[("blocks.0.attn.hook_pattern", leave)])
    assert len(calls) == 5  # layer 1 stays fused


# Hooks ---------------------------------------------------------------------------------------


@every_kind
def test_every_hook_sees_its_activation_and_can_change_it(kind):
    model = make(kind)
    plain = model(TOKENS)
    for name in model.hook_names():
        seen = []

        def look(x, hook):
            seen.append((hook.name, x.shape))

        assert_close(model.run_with_hooks(TOKENS, fwd_hooks=[(name, look)]), plain)
        assert [n for n, _ in seen] == [name]
        hooks = [(name, lambda x, hook: x + noise_like(x))]
        changed = model.run_with_hooks(TOKENS, fwd_hooks=hooks)
        assert (changed - plain).abs().max() > 1e-3, f"a new value at {name} is lost"


@every_kind
@pytest.mark.parametrize("batch", [1, 2])
def test_hook_that_writes_in_place_changes_this_run_only(kind, batch):
    model = make(kind)
    tokens = TOKENS[:batch]
    with torch.no_grad():
        plain = model(tokens)
        for name in model.hook_names():
            hooks = [(name, lambda x, hook: x.add_(noise_like(x)))]
            changed = model.run_with_hooks(tokens, fwd_hooks=hooks)
            assert (changed - plain).abs().max() > 1e-3, f"a new value at {name} is lost"
            assert_close(model(tokens), plain, msg=f"a hook at {name} wrote into the weights")


def test_hooks_at_one_name_run_in_their_order():
    model, order = make(), []
    hooks = [("hook_embed", lambda x, hook, i=i: order.append(i)) for i in range(3)]
    model.run_with_hooks(TOKENS, fwd_hooks=hooks)
    assert order == [0, 1, 2]
    twice = [("hook_embed", lambda x, hook: 2 * x), ("hook_embed", lambda x, hook: x + 1)]
    seen = []
    model.run_with_hooks(TOKENS, fwd_hooks=[*twice, ("hook_embed", lambda x, hook: seen.append(x))])
    assert_close(seen[0], 2 * model.W_E[TOKENS] + 1)


def test_hook_knows_where_it_stands():
    model, seen = make(), []

    def where(x, hook):
        seen.append((hook.name, hook.layer()))

    model.run_with_hooks(TOKENS, fwd_hooks=[(lambda name: name.endswith("hook_z"), where)])
    assert seen == [("blocks.0.attn.hook_z", 0), ("blocks.1.attn.hook_z", 1)]


def zero(x, hook):
    return torch.zeros_like(x)


def fail(x, hook):
    raise RuntimeError("a learner's mistake")


def test_hooks_are_gone_after_a_run():
    model = make()
    plain = model(TOKENS)
    assert not torch.equal(model.run_with_hooks(TOKENS, fwd_hooks=[("hook_embed", zero)]), plain)
    assert torch.equal(model(TOKENS), plain)
    model.run_with_cache(TOKENS)
    assert torch.equal(model(TOKENS), plain)


def test_hooks_are_gone_after_a_run_that_raised():
    model = make()
    plain = model(TOKENS)
    hooks = [("hook_embed", zero), ("blocks.1.attn.hook_z", fail)]
    with pytest.raises(RuntimeError, match="a learner's mistake"):
        model.run_with_hooks(TOKENS, fwd_hooks=hooks)
    assert torch.equal(model(TOKENS), plain)
    hooks = [("hook_embed", zero), ("blocks.9.attn.hook_z", zero)]
    with pytest.raises(ValueError):
        model.run_with_hooks(TOKENS, fwd_hooks=hooks)
    assert torch.equal(model(TOKENS), plain)


def test_nested_hooks_end_one_by_one():
    model = make()
    plain = model(TOKENS)
    outer, inner = ("blocks.0.attn.hook_z", zero), ("blocks.1.attn.hook_z", zero)
    both = model.run_with_hooks(TOKENS, fwd_hooks=[outer, inner])
    with model.hooks([outer]):
        only_outer = model(TOKENS)
        with model.hooks([inner]):
            assert torch.equal(model(TOKENS), both)
        assert torch.equal(model(TOKENS), only_outer)
        with pytest.raises(RuntimeError), model.hooks([inner, ("hook_embed", fail)]):
            model(TOKENS)
        assert torch.equal(model(TOKENS), only_outer)
        assert_close(model.run_with_cache(TOKENS)[0], only_outer)
        assert torch.equal(model(TOKENS), only_outer)
    assert torch.equal(model(TOKENS), plain)
    assert not torch.equal(only_outer, plain) and not torch.equal(only_outer, both)


def test_nested_hooks_at_one_name_run_outer_first():
    model, order = make(), []
    inner = [("hook_embed", lambda x, hook: order.append("inner"))]
    with model.hooks([("hook_embed", lambda x, hook: order.append("outer"))]):
        model.run_with_hooks(TOKENS, fwd_hooks=inner)
        model(TOKENS)
    assert order == ["outer", "inner", "outer"]


# Patching ------------------------------------------------------------------------------------


def patch_from(cache):
    return lambda x, hook: cache[hook.name]


@every_kind
def test_patching_clean_with_clean_changes_nothing(kind):
    model = make(kind)
    clean, cache = model.run_with_cache(TOKENS)
    for name in model.hook_names():
        assert_close(model.run_with_hooks(TOKENS, fwd_hooks=[(name, patch_from(cache))]), clean)
    everywhere = [(name, patch_from(cache)) for name in model.hook_names()]
    assert_close(model.run_with_hooks(TOKENS, fwd_hooks=everywhere), clean)


@every_kind
def test_patching_every_part_gives_the_clean_logits(kind):
    model = make(kind)
    clean, cache = model.run_with_cache(TOKENS)
    corrupted = draw(2, 9, seed=2)
    parts = [n for n in model.hook_names() if n.endswith(("hook_embed", "attn_out", "mlp_out"))]
    everything = [(n, patch_from(cache)) for n in parts]
    assert_close(model.run_with_hooks(corrupted, fwd_hooks=everything), clean)
    layers_only = [(n, patch_from(cache)) for n in parts if n != "hook_embed"]
    assert (model.run_with_hooks(corrupted, fwd_hooks=layers_only) - clean).abs().max() > 1e-3


# The cache -----------------------------------------------------------------------------------


@every_kind
def test_cache_holds_every_activation_in_order_and_detached(kind):
    model = make(kind)
    logits, cache = model.run_with_cache(TOKENS)
    assert_close(logits, model(TOKENS))
    assert list(cache) == model.hook_names()
    assert not any(x.requires_grad for x in cache.values())
    assert logits.requires_grad


def test_cache_short_names():
    _, cache = make("everything").run_with_cache(TOKENS)
    assert cache["embed"] is cache["hook_embed"]
    assert cache["pos_embed"] is cache["hook_pos_embed"]
    for short, full in {
        ("pattern", 0): "blocks.0.attn.hook_pattern",
        ("z", 1): "blocks.1.attn.hook_z",
        ("z", -1): "blocks.1.attn.hook_z",
        ("z", -2): "blocks.0.attn.hook_z",
        ("pre", 0): "blocks.0.mlp.hook_pre",
        ("post", -1): "blocks.1.mlp.hook_post",
        ("resid_mid", 1): "blocks.1.hook_resid_mid",
        ("mlp_out", 0): "blocks.0.hook_mlp_out",
    }.items():
        assert cache[short] is cache[full]
        name, layer = short
        assert get_act_name(name, layer % 2) == full
        assert get_act_name(full) == full
    with pytest.raises(KeyError, match="needs a layer"):
        cache["pattern"]


@pytest.mark.parametrize(
    "names_filter, kept",
    [
        ("blocks.0.attn.hook_z", ["blocks.0.attn.hook_z"]),
        (["hook_embed", "blocks.1.attn.hook_z"], ["hook_embed", "blocks.1.attn.hook_z"]),
        (lambda n: n.endswith("_v"), ["blocks.0.attn.hook_v", "blocks.1.attn.hook_v"]),
        (lambda n: False, []),
        ([], []),
    ],
    ids=["name", "list", "callable", "nothing", "empty list"],
)
def test_names_filter(names_filter, kept):
    model = make()
    logits, cache = model.run_with_cache(TOKENS, names_filter=names_filter)
    assert list(cache) == kept
    assert_close(logits, model(TOKENS))
    _, everything = model.run_with_cache(TOKENS)
    for name in kept:
        assert_close(cache[name], everything[name])


def test_cache_says_what_it_holds():
    _, cache = make().run_with_cache(TOKENS, names_filter="hook_embed")
    with pytest.raises(KeyError, match="not in the cache, which holds: hook_embed"):
        cache["pattern", 0]


# Clear errors --------------------------------------------------------------------------------


def test_unknown_hook_name():
    model, wrong = make(), "blocks.0.attn.hook_patern"
    for run in (
        lambda: model.run_with_hooks(TOKENS, fwd_hooks=[(wrong, leave)]),
        lambda: model.run_with_cache(TOKENS, names_filter=wrong),
        lambda: model.run_with_cache(TOKENS, names_filter=["hook_embed", wrong]),
    ):
        with pytest.raises(ValueError, match=f"No activation is called '{wrong}'"):
            run()


@pytest.mark.parametrize(
    "tokens, message",
    [
        (torch.zeros(1, 3), "integer tensor.*got a torch.float32 tensor"),
        (torch.zeros(1, 3, dtype=torch.bool), "integer tensor.*got a torch.bool tensor"),
        ([[1, 2, 3]], "integer tensor.*got list"),
        (torch.zeros(1, 11, dtype=torch.long), "11 tokens.*context of 10"),
        (torch.tensor([[0, 17]]), r"0 \.\.\. 16"),
        (torch.tensor([[0, -1]]), r"0 \.\.\. 16"),
        (torch.zeros(1, 1, 3, dtype=torch.long), r"\[batch pos\]; got shape \[1, 1, 3\]"),
        (torch.tensor(3), r"\[batch pos\]; got shape \[\]"),
    ],
)
def test_bad_tokens(tokens, message):
    with pytest.raises(ValueError, match=message):
        make()(tokens)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_integers_of_any_width_are_tokens(dtype):
    model = make()
    assert torch.equal(model(TOKENS.to(dtype)), model(TOKENS))


def test_single_sequence_gains_a_batch():
    model = make()
    assert torch.equal(model(TOKENS[0]), model(TOKENS[:1]))


def test_context_is_no_limit_where_no_position_is_used():
    long = draw(1, 40)
    assert make("zero layers")(long).shape == (1, 40, 17)
    model = Transformer(Config(d_vocab=17, d_model=12, n_layers=0, n_ctx=10, **STANDARD))
    with pytest.raises(ValueError, match="context of 10"):
        model(long)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(positional_embedding_type="rotary"),
        dict(normalization_type="RMS"),
        dict(act_fn="silu"),
        dict(d_model=0),
        dict(n_heads=0),
        dict(n_ctx=-1),
        dict(n_key_value_heads=3),
        dict(n_key_value_heads=0),
        dict(n_key_value_heads=-2),
    ],
    ids=str,
)
def test_bad_config(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Config(**dict(d_vocab=17, d_model=12) | wrong)


# Shared keys and values ----------------------------------------------------------------------


@pytest.mark.parametrize("n_kv", [1, 2, 3, 6])
def test_heads_that_share_keys_are_heads_with_equal_keys(n_kv):
    """Consecutive heads share one key and value; with a copy for each head it is the plain model."""
    shape = dict(d_vocab=17, d_model=12, n_layers=2, n_heads=6, d_head=4, n_ctx=10, init_range=1.0)
    grouped = Transformer(Config(**shape, n_key_value_heads=n_kv, biases=True)).double()
    plain = Transformer(Config(**shape, biases=True)).double()
    with torch.no_grad():
        for name, p in grouped.named_parameters():
            p.add_(torch.randn_like(p) / 4)
        for name, W in plain.state_dict().items():
            block, _, last = name.rpartition(".")
            owner = grouped.get_submodule(block)
            W.copy_(getattr(owner, last))
    assert grouped.W_K.shape == plain.W_K.shape
    for head in range(6):
        first = head // (6 // n_kv) * (6 // n_kv)
        assert torch.equal(grouped.W_K[:, head], grouped.W_K[:, first])
    assert_close(grouped(TOKENS), plain(TOKENS))
    logits, cache = grouped.run_with_cache(TOKENS)
    assert_close(logits, plain(TOKENS))
    assert cache["k", 0].shape == cache["v", 1].shape == (2, 9, n_kv, 4)
    assert cache["q", 0].shape == cache["z", 0].shape == (2, 9, 6, 4)
    n_weights = sum(p.numel() for p in grouped.parameters()) - sum(p.numel() for p in plain.parameters())
    assert n_weights == -2 * 2 * (6 - n_kv) * 4 * 13


def test_sweep_refuses_shared_keys_in_one_line():
    model = Transformer(Config(17, 12, 2, n_heads=6, d_head=4, n_ctx=10, n_key_value_heads=2))
    with pytest.raises(ValueError, match="share keys"):
        sweep(model, TOKENS, TOKENS.flip(0), LogitDiff(TOKENS[:, 0], TOKENS[:, 1]), "k")


# Positions -----------------------------------------------------------------------------------


def test_shortformer_positions_are_read_by_queries_and_keys_only():
    model = make()
    _, cache = model.run_with_cache(TOKENS)
    assert torch.equal(cache["resid_pre", 0], cache["embed"])
    x, pos = cache["resid_pre", 1], model.W_pos[:9]
    assert_close(cache["pos_embed"], pos.expand_as(x))
    project = "bpm,hmd->bphd"
    assert_close(cache["q", 1], torch.einsum(project, x + pos, model.W_Q[1]))
    assert_close(cache["k", 1], torch.einsum(project, x + pos, model.W_K[1]))
    assert_close(cache["v", 1], torch.einsum(project, x, model.W_V[1]))


def test_shortformer_positions_act_through_attention_patterns_alone():
    """With all patterns held fixed, other position vectors change no logit."""
    model, other = make(), make()
    other.pos_embed.W_pos.normal_(generator=torch.Generator().manual_seed(4))
    logits, cache = model.run_with_cache(TOKENS)
    assert (other(TOKENS) - logits).abs().max() > 1e-3
    fixed = [(f"blocks.{layer}.attn.hook_pattern", patch_from(cache)) for layer in range(2)]
    assert_close(other.run_with_hooks(TOKENS, fwd_hooks=fixed), logits)


def test_standard_positions_are_added_to_the_embedding():
    model = make("standard positions")
    _, cache = model.run_with_cache(TOKENS)
    assert_close(cache["embed"], model.W_E[TOKENS])
    assert_close(cache["resid_pre", 0], model.W_E[TOKENS] + model.W_pos[:9])
    project = "bpm,hmd->bphd"
    assert_close(cache["q", 1], torch.einsum(project, cache["resid_pre", 1], model.W_Q[1]))


def test_only_standard_positions_are_trained():
    assert "pos_embed.W_pos" not in dict(make().named_parameters())
    assert "pos_embed.W_pos" in dict(make("standard positions").named_parameters())
    assert "pos_embed.W_pos" in make().state_dict()


@pytest.mark.parametrize("d_model", [1, 5, 8])
def test_sinusoids(d_model):
    table = sinusoids(7, d_model)
    for pos in range(7):
        for i in range(d_model):
            angle = pos / 10_000 ** (2 * (i // 2) / d_model)
            expected = math.cos(angle) if i % 2 else math.sin(angle)
            assert table[pos, i].item() == pytest.approx(expected, abs=1e-5)


# Weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", [0, 1, 2])
def test_weights_have_the_documented_shapes(n_layers):
    cfg = Config(d_vocab=17, d_model=12, n_layers=n_layers, n_heads=3, d_head=5, n_ctx=10)
    model = Transformer(cfg)
    assert model.W_E.shape == (17, 12)
    assert model.W_pos.shape == (10, 12)
    assert model.W_U.shape == (12, 17)
    for W in (model.W_Q, model.W_K, model.W_V):
        assert W.shape == (n_layers, 3, 12, 5)
    assert model.W_O.shape == (n_layers, 3, 5, 12)


def assert_matrices_share_memory(model: Transformer):
    for block in model.blocks:
        for W in (block.attn.W_Q, block.attn.W_K, block.attn.W_V):
            matrix = as_matrix(W)
            assert matrix.is_contiguous() and matrix.data_ptr() == W.data_ptr()
            d_head = W.shape[-1]
            for head in range(len(W)):
                assert torch.equal(matrix[:, head * d_head : (head + 1) * d_head], W[head])


def test_as_matrix_copies_nothing():
    """Else every forward pass would copy the weights to put the heads side by side."""
    model = make()
    assert_matrices_share_memory(model)
    contiguous = {name: W.contiguous() for name, W in make().state_dict().items()}  # as in a file
    model.load_state_dict(contiguous)
    assert_matrices_share_memory(model)
    assert_matrices_share_memory(copy.deepcopy(model))
    assert_matrices_share_memory(model.float())
    attention = [W for b in model.blocks for W in (b.attn.W_Q, b.attn.W_K, b.attn.W_V)]
    for optimizer in (
        torch.optim.AdamW(attention),
        Muon([{"params": attention, "heads_in_rows": False}], lr=0.02),
    ):
        next_token_loss(model(TOKENS), TOKENS).backward()
        optimizer.step()
        assert_matrices_share_memory(model)


@every_kind
def test_state_dict_round_trip(kind):
    model, other = make(kind), make(kind)
    with torch.no_grad():
        for p in other.parameters():
            p.normal_()
    assert not torch.equal(other(TOKENS), model(TOKENS))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(TOKENS), model(TOKENS))
    assert Config(**model.config_dict()) == model.cfg


@every_kind
def test_deepcopy_is_independent(kind):
    model = make(kind)
    plain = model(TOKENS)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(TOKENS), plain)
    with torch.no_grad():
        for p in twin.parameters():
            p.add_(1)
    assert not torch.equal(twin(TOKENS), plain)
    assert torch.equal(model(TOKENS), plain)


def test_biases_and_layernorm_only_where_asked_for():
    names = {name.split(".")[-1] for name, _ in make().named_parameters()}
    assert names == {"W_E", "W_Q", "W_K", "W_V", "W_O", "W_U"}
    names = {name.split(".")[-1] for name, _ in make("everything").named_parameters()}
    assert names >= {"b_Q", "b_K", "b_V", "b_O", "b_in", "b_out", "b_U", "w", "b"}
    assert make("MLP").cfg.d_mlp == 48


# Text ----------------------------------------------------------------------------------------

ODD_TEXTS = [
    "",
    " ",
    "def f(x):\n\treturn x  # done\n",
    "\t\tmixed \t tabs\n\n\n   and newlines\r\n",
    "naïve café — “quotes” … ✓",
    "日本語 עברית العربية",
    "🐍 👩‍🔬 e\u0301 \u200b\ufeff",
    "\x00\x07\x1b[0m",
    "    " * 20 + "deep",
    "<|bos|> in the text",
]


@pytest.fixture(scope="module")
def reader() -> Transformer:
    tokenizer = load_tokenizer()
    return Transformer(Config(d_vocab=tokenizer.get_vocab_size(), d_model=4), tokenizer)


@pytest.mark.parametrize("text", ODD_TEXTS, ids=ascii)
def test_text_survives_tokens(reader, text):
    tokens = reader.to_tokens(text, prepend_bos=False)
    assert tokens.dtype == torch.long and tokens.ndim == 2 and len(tokens) == 1
    assert reader.to_string(tokens) == text
    assert reader.to_string(tokens[0].tolist()) == text
    with_bos = reader.to_tokens(text)
    assert with_bos[0, 0] == 0 and torch.equal(with_bos[:, 1:], tokens)
    assert reader.to_string(with_bos) == "<|bos|>" + text


@pytest.mark.parametrize("text", [t for t in ODD_TEXTS if t.isascii()], ids=ascii)
def test_str_tokens_join_to_the_text(reader, text):
    assert "".join(reader.to_str_tokens(text, prepend_bos=False)) == text
    assert "".join(reader.to_str_tokens(text)) == "<|bos|>" + text
    ids = reader.to_tokens(text)
    assert reader.to_str_tokens(ids) == reader.to_str_tokens(text)
    assert reader.to_str_tokens(ids[0].tolist()) == reader.to_str_tokens(text)


def test_str_tokens_of_split_characters_keep_their_number(reader):
    """A character of several bytes may be cut in two; each piece is still one entry."""
    for text in ODD_TEXTS:
        assert len(reader.to_str_tokens(text)) == reader.to_tokens(text).shape[1]


def test_several_texts_make_a_batch_if_equally_long(reader):
    tokens = reader.to_tokens(["import os", "import re"])
    assert torch.equal(tokens[:1], reader.to_tokens("import os"))
    assert torch.equal(tokens[1:], reader.to_tokens("import re"))
    with pytest.raises(ValueError, match="different numbers of tokens: 1, 4"):
        reader.to_tokens(["", " = = ="])


def test_model_reads_text(reader):
    assert torch.equal(reader("import os"), reader(reader.to_tokens("import os")))


def test_model_without_tokenizer_says_so():
    for read in ("to_tokens", "to_string", "to_str_tokens", "__call__"):
        with pytest.raises(ValueError, match="has no tokenizer"):
            getattr(make(), read)([1] if read == "to_string" else "text")
