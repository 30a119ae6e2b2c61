"""Checks of chapter 9. Each says in its name what must be true of an answer."""

import math

import torch

from circuits.checking import exercise, expect, fail, require
from circuits.inputs import integer, invertible, normal, orthogonal, random_model, random_tokens
from circuits.symmetries import FULL as FULL_MODEL
from circuits.symmetries import symmetric
from utils.model import Config, Transformer

SYMMETRIES = {
    "multi_query_attention": symmetric("rotate heads"),
    "grouped_query_attention": symmetric("rotate"),
    "cache_bytes": "its arguments are sizes",
    "predict_reading_ranks": "its arguments are sizes",
    "to_grouped": symmetric("vocabulary constant neurons"),
    "one_key_two_heads": "its arguments are sizes",
    "smeared_keys": symmetric("heads"),
    "route": symmetric("rotate"),
    "mixture_of_experts": symmetric("rotate neurons"),
    "expert_neurons": symmetric("rotate"),
    "load_balance": symmetric("constant"),
    "mutual_information": "its arguments are labels of tokens, whatever they mean",
    "neuron_as_head": "a head can share its work between its matrices in many ways; the checks look at what it does",
    "mlp_as_heads": symmetric(FULL_MODEL),
    "counterexample": symmetric(FULL_MODEL),
    "shared_key": "any basis of the shared key will do; the checks look at products",
}

FULL = dict(attn_only=False, normalization_type="LN", biases=True)


def asked_for(W):
    """Which source dimensions each head asks for from which destination, and whether it is sure of it."""
    W_Q, W_K = (torch.as_tensor(t).double() for t in W)
    QK = W_Q @ W_K.T
    return [QK.abs() > 1e-3 * QK.abs().max(), bool(QK.abs().max() / W_K.shape[1] ** 0.5 > 8)]


BEHAVIOUR = {"one_key_two_heads": asked_for}


# Attention with shared keys -----------------------------------------------------------------


def slow_attention(x, W_Q, W_K, W_V, W_O):
    """Head by head and position by position, in float64; W_K and W_V have one matrix for each head."""
    x, W_Q, W_K, W_V, W_O = (t.double() for t in (x, W_Q, W_K, W_V, W_O))
    out = torch.zeros_like(x)
    for h in range(len(W_Q)):
        for dest in range(len(x)):
            q = x[dest] @ W_Q[h]
            scores = torch.stack([q @ (x[src] @ W_K[h]) for src in range(dest + 1)]) / math.sqrt(W_Q.shape[2])
            weights = (scores - scores.max()).exp()
            weights = weights / weights.sum()
            for src in range(dest + 1):
                out[dest] += weights[src] * (x[src] @ W_V[h] @ W_O[h])
    return out


def layer(rng, n_heads, n_kv, d_model=10, d_head=7, pos=8):
    """A stream and weights of a layer; W_K and W_V without an axis for heads if n_kv is 0."""
    kv = [n_kv] if n_kv else []
    x = normal(rng, pos, d_model)
    W_Q, W_K, W_V = (normal(rng, *n, d_model, d_head, scale=d_model**-0.5) for n in ([n_heads], kv, kv))
    return x, 2 * W_Q, 2 * W_K, W_V, normal(rng, n_heads, d_head, d_model, scale=d_head**-0.5)


def check_multi_query(submission, rng, **shape):
    x, W_Q, W_K, W_V, W_O = layer(rng, n_kv=0, **shape)
    want = slow_attention(x, W_Q, W_K.expand_as(W_Q), W_V.expand_as(W_Q), W_O)
    expect(submission.multi_query_attention(x, W_Q, W_K, W_V, W_O), want, "what the layer adds", rtol=1e-3, atol=1e-4)


@exercise("multi_query_attention", points=1)
def test_all_heads_look_through_one_key(submission, rng):
    check_multi_query(submission, rng, n_heads=5)


@exercise("multi_query_attention", points=1)
def test_other_sizes_too(submission, rng):
    check_multi_query(submission, rng, n_heads=3, d_model=6, d_head=9, pos=11)
    check_multi_query(submission, rng, n_heads=7, d_model=12, d_head=3, pos=5)


@exercise("multi_query_attention", points=1)
def test_a_later_token_changes_nothing_before_it(submission, rng):
    x, *weights = layer(rng, 5, 0)
    at = integer(rng, 3, 6)
    changed = torch.cat([x[:at], normal(rng, len(x) - at, x.shape[1])])
    got = torch.as_tensor(submission.multi_query_attention(changed, *weights))
    W_Q, W_K, W_V, W_O = weights
    want = slow_attention(x[:at], W_Q, W_K.expand_as(W_Q), W_V.expand_as(W_Q), W_O)
    require(got.shape == x.shape, f"The output should have shape {list(x.shape)}; yours has {list(got.shape)}.")
    expect(got[:at], want, f"the output of the first {at} positions, whatever comes later,", rtol=1e-3, atol=1e-4)


def check_grouped(submission, rng, n_heads, n_kv, **shape):
    x, W_Q, W_K, W_V, W_O = layer(rng, n_heads, n_kv, **shape)
    own = torch.tensor([h // (n_heads // n_kv) for h in range(n_heads)])
    want = slow_attention(x, W_Q, W_K[own], W_V[own], W_O)
    got = submission.grouped_query_attention(x, W_Q, W_K, W_V, W_O)
    expect(got, want, f"what {n_heads} heads with {n_kv} key(s) add", rtol=1e-3, atol=1e-4)


@exercise("grouped_query_attention", points=2)
def test_consecutive_heads_share_a_key_and_a_value(submission, rng):
    check_grouped(submission, rng, 6, 3)
    check_grouped(submission, rng, 9, 3, pos=5)
    check_grouped(submission, rng, 6, 2, d_model=8, d_head=3)


@exercise("grouped_query_attention", points=1)
def test_one_key_is_multi_query_attention(submission, rng):
    check_grouped(submission, rng, 5, 1)


@exercise("grouped_query_attention", points=1)
def test_a_key_for_each_head_is_plain_attention(submission, rng):
    check_grouped(submission, rng, 5, 5)


# cache_bytes --------------------------------------------------------------------------------


def kept(n_layers, n_kv, d_head, size):
    """Counted: what a model really keeps."""
    model = Transformer(Config(d_vocab=11, d_model=6, n_layers=n_layers, n_heads=n_kv, n_key_value_heads=n_kv, d_head=d_head, n_ctx=5))
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.tensor([[3]]))
    return sum(cache[name, i].numel() for name in "kv" for i in range(n_layers)) * size


@exercise("cache_bytes", points=1, explains=True)
def test_two_layers_three_keys_of_five_numbers(submission, rng):
    expect(submission.cache_bytes(2, 3, 5, 1), 60, "2 layers, 3 keys and 3 values of 5 numbers, 1 byte each: the bytes")


@exercise("cache_bytes", points=1)
def test_is_what_a_model_really_keeps(submission, rng):
    for _ in range(3):
        sizes = integer(rng, 2, 6), integer(rng, 1, 7), integer(rng, 3, 20), integer(rng, 1, 8)
        what = "for {} layers, {} keys of {} numbers, {} bytes each: the bytes of a token".format(*sizes)
        expect(submission.cache_bytes(*sizes), kept(*sizes), what)


@exercise("cache_bytes", points=1)
def test_one_layer_with_one_key_too(submission, rng):
    for _ in range(2):
        sizes = 1, 1, integer(rng, 3, 90), integer(rng, 1, 8)
        what = "for one layer with one key of {2} numbers, {3} bytes each: the bytes of a token".format(*sizes)
        expect(submission.cache_bytes(*sizes), kept(*sizes), what)


# predict_reading_ranks ----------------------------------------------------------------------


def rank(M):
    S = torch.linalg.svdvals(M)
    return int((S > 1e-9 * S[0]).sum())


def check_ranks(submission, rng, d_model, d_head, n_heads, n_kv, which):
    W_Q, W_K = normal(rng, n_heads, d_model, d_head).double(), normal(rng, n_kv, d_model, d_head).double()
    QK = W_Q @ W_K.repeat_interleave(n_heads // n_kv, 0).mT
    want = rank(torch.cat(list(QK), which))
    got = submission.predict_reading_ranks(d_model, d_head, n_heads, n_kv)
    try:
        one = float(got[which])
    except (TypeError, ValueError, IndexError, KeyError):
        fail(f"The answer should be two numbers; it is {got!r}.")
    how = ("one below the other", "side by side")[which]
    require(
        one == want,
        f"For d_model = {d_model}, d_head = {d_head}, {n_heads} heads and {n_kv} key(s), you predict rank {one:g} for the QK circuits "
        f"{how}; measured in random weights, it is {'larger' if want > one else 'smaller'}.",
    )


def sizes_with_room(rng):
    n_kv, group, d_head = integer(rng, 2, 3), integer(rng, 2, 3), integer(rng, 3, 5)
    return d_head * n_kv * group + integer(rng, 3, 9), d_head, n_kv * group, n_kv


@exercise("predict_reading_ranks", points=1)
def test_source_dimensions_with_room_to_spare(submission, rng):
    for _ in range(3):
        check_ranks(submission, rng, *sizes_with_room(rng), 0)


@exercise("predict_reading_ranks", points=1)
def test_destination_dimensions_with_room_to_spare(submission, rng):
    for _ in range(3):
        check_ranks(submission, rng, *sizes_with_room(rng), 1)


@exercise("predict_reading_ranks", points=1)
def test_when_the_stream_is_full(submission, rng):
    for which in (0, 1):
        n_kv, group, d_head = integer(rng, 2, 3), integer(rng, 2, 3), integer(rng, 5, 7)
        for d_model in (d_head - 2, d_head * n_kv - 1, d_head * n_kv + 2):  # less than a head, than all keys, than all queries
            check_ranks(submission, rng, d_model, d_head, n_kv * group, n_kv, which)


# to_grouped ---------------------------------------------------------------------------------


def check_new_weights(submission, model, n_kv, names):
    got = submission.to_grouped(model, n_kv)
    require(isinstance(got, Transformer), f"The answer should be a Transformer; it is {type(got).__name__}.")
    require(
        got.cfg.n_key_value_heads == n_kv,
        f"The new model's n_key_value_heads should be {n_kv}; it is {got.cfg.n_key_value_heads}.",
    )
    group = model.cfg.n_heads // n_kv
    for i, (old, new) in enumerate(zip(model.blocks, got.blocks, strict=True)):
        for name in names:
            was = getattr(old.attn, name).detach()
            want = torch.stack([sum(was[g * group + j] for j in range(group)) / group for g in range(n_kv)])
            expect(getattr(new.attn, f"_{name}").detach(), want, f"_{name} of layer {i}")
    return got


@exercise("to_grouped", points=1)
def test_each_key_and_value_is_the_mean_of_its_groups(submission, rng):
    for n_heads, n_kv in ((6, 3), (6, 2), (9, 3)):
        check_new_weights(submission, random_model(rng, n_heads=n_heads), n_kv, ("W_K", "W_V"))


@exercise("to_grouped", points=1)
def test_biases_of_keys_and_values_are_averaged_too(submission, rng):
    check_new_weights(submission, random_model(rng, n_heads=6, biases=True), 3, ("b_K", "b_V"))
    check_new_weights(submission, random_model(rng, n_heads=9, **FULL), 3, ("b_K", "b_V"))


def check_logits(submission, rng, model, n_kv):
    """The new model's logits are those of the old one with each head's own copy of the means."""
    same, group = model.config_dict(), model.cfg.n_heads // n_kv
    plain = Transformer(Config(**same))
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        for block in plain.blocks:
            for name in ("W_K", "W_V") + (("b_K", "b_V") if model.cfg.biases else ()):
                W = getattr(block.attn, name)
                for g in range(n_kv):
                    W[g * group : (g + 1) * group] = W[g * group : (g + 1) * group].mean(0).clone()
        tokens = random_tokens(rng, model)
        got = submission.to_grouped(model, n_kv)
        require(isinstance(got, Transformer), f"The answer should be a Transformer; it is {type(got).__name__}.")
        require(
            got.cfg.n_key_value_heads == n_kv,
            f"The new model's n_key_value_heads should be {n_kv}; it is {got.cfg.n_key_value_heads}.",
        )
        expect(got(tokens), plain(tokens), f"the logits with {n_kv} key(s) for {model.cfg.n_heads} heads", rtol=1e-3, atol=1e-3)


@exercise("to_grouped", points=2)
def test_everything_else_is_as_it_was(submission, rng):
    check_logits(submission, rng, random_model(rng, n_heads=6), 2)
    check_logits(submission, rng, random_model(rng, n_heads=6, positional_embedding_type="standard"), 1)
    check_logits(submission, rng, random_model(rng, n_heads=9, d_mlp=13, **FULL), 3)


# shared_key ---------------------------------------------------------------------------------


def products(submission, W_Q, W_K):
    got = submission.shared_key(W_Q, W_K)
    require(isinstance(got, tuple | list) and len(got) == 2, "The answer should be two tensors: the queries and the shared key.")
    queries, shared = (torch.as_tensor(t).double() for t in got)
    n, d_model, d_head = W_Q.shape
    require(list(queries.shape) == [n, d_model, d_head], f"The queries should have shape {[n, d_model, d_head]}; yours have {list(queries.shape)}.")
    require(list(shared.shape) == [d_model, d_head], f"The shared key should have shape {[d_model, d_head]}; yours has {list(shared.shape)}.")
    return queries @ shared.T


def heads(rng, n, d_model, d_head):
    return normal(rng, n, d_model, d_head, scale=d_model**-0.5), normal(rng, n, d_model, d_head)


@exercise("shared_key", points=1)
def test_heads_that_share_already_lose_nothing(submission, rng):
    for n, d_model, d_head in ((5, 10, 3), (3, 9, 6)):
        W_Q, W_K = heads(rng, n, d_model, d_head)
        M = torch.stack([invertible(rng, d_head) for _ in range(n)])
        W_K = W_K[:1] @ M  # one key, in another basis for each head
        expect(products(submission, W_Q, W_K), W_Q.double() @ W_K.double().mT, "the products of heads whose keys differ only in their bases", rtol=1e-3, atol=1e-3)


@exercise("shared_key", points=2)
def test_the_products_are_the_nearest_of_that_rank(submission, rng):
    for n, d_model, d_head in ((5, 10, 3), (3, 11, 5), (6, 9, 7)):
        W_Q, W_K = heads(rng, n, d_model, d_head)
        QK = W_Q.double() @ W_K.double().mT
        least = float(torch.linalg.eigvalsh((QK.mT @ QK).sum(0))[: d_model - d_head].sum())
        found = float((products(submission, W_Q, W_K) - QK).pow(2).sum())
        require(found < 1.001 * least + 1e-4, f"For {n} heads, the squared differences can be brought down to {least:.4f}; yours are {found:.4f}.")


@exercise("shared_key", points=1)
def test_what_is_left_is_at_right_angles_to_the_shared_key(submission, rng):
    for n, d_model, d_head in ((5, 10, 3), (3, 8, 6)):
        W_Q, W_K = heads(rng, n, d_model, d_head)
        QK = W_Q.double() @ W_K.double().mT
        got = products(submission, W_Q, W_K)
        least = float(torch.linalg.eigvalsh((QK.mT @ QK).sum(0))[: d_model - d_head].sum())
        require(float(got.pow(2).sum()) > 0.9 * (float(QK.pow(2).sum()) - least), "Your products are much smaller than those that can be had.")
        expect((QK - got) @ got.mT, torch.zeros(n, d_model, d_model), "(what is missing) times (your products) transposed, which is 0 at the best queries", atol=2e-3)


# one_key_two_heads --------------------------------------------------------------------------


def one_key_patterns(submission, d_vocab, n_ctx, tokens):
    """The patterns of the two heads on a text, [2 pos pos]."""
    got = submission.one_key_two_heads(d_vocab, n_ctx)
    require(isinstance(got, tuple | list) and len(got) == 2, "The answer should be two tensors: W_Q and W_K.")
    W_Q, W_K = (torch.as_tensor(W).double() for W in got)
    d_model = d_vocab + n_ctx
    require(W_Q.ndim == 3 and W_Q.shape[:2] == (2, d_model), f"W_Q should have shape [2, {d_model}, d_head]; yours has {list(W_Q.shape)}.")
    require(
        list(W_K.shape) == [d_model, W_Q.shape[2]],
        f"W_K should be one matrix for both heads, of shape [{d_model}, {W_Q.shape[2]}]; yours has {list(W_K.shape)}.",
    )
    x = torch.cat([torch.eye(d_vocab)[tokens], torch.eye(n_ctx)[: len(tokens)]], 1).double()
    scores = (x @ W_Q) @ (x @ W_K).T / W_Q.shape[2] ** 0.5
    return scores.masked_fill(torch.ones(len(x), len(x), dtype=torch.bool).triu(1), -torch.inf).softmax(-1)


def check_before(pattern, n):
    for i in range(1, n):
        weight = float(pattern[0, i, i - 1])
        require(weight > 0.99, f"Head 0 at position {i} gives the position before {weight:.3f} of its attention; it should be more than 0.99.")


def check_same(pattern, tokens):
    for i in range(len(tokens)):
        same = tokens[: i + 1] == tokens[i]
        total, want = float(pattern[1, i, : i + 1][same].sum()), 1 / int(same.sum())
        require(total > 0.99, f"Head 1 at position {i} gives the {int(same.sum())} occurrence(s) of its token so far {total:.3f} together; it should be more than 0.99.")
        off = float((pattern[1, i, : i + 1][same] - want).abs().max())
        require(off < 0.02, f"Head 1 at position {i} should look at all occurrences of its token evenly, {want:.2f} each; yours is off by {off:.2f}.")


@exercise("one_key_two_heads", points=2)
def test_head_0_looks_at_the_position_before(submission, rng):
    for low in (5, 8):
        d_vocab, n_ctx = integer(rng, low, low + 2), integer(rng, 9, 14)
        check_before(one_key_patterns(submission, d_vocab, n_ctx, random_tokens(rng, d_vocab, 1, n_ctx)[0]), n_ctx)


@exercise("one_key_two_heads", points=2)
def test_head_1_looks_at_its_own_token(submission, rng):
    for low in (3, 6):
        d_vocab, n_ctx = integer(rng, low, low + 2), integer(rng, 9, 14)
        tokens = random_tokens(rng, d_vocab, 1, n_ctx)[0]
        check_same(one_key_patterns(submission, d_vocab, n_ctx, tokens), tokens)


@exercise("one_key_two_heads", points=1)
def test_both_in_larger_sizes(submission, rng):
    d_vocab, n_ctx = integer(rng, 20, 30), integer(rng, 40, 50)
    tokens = random_tokens(rng, d_vocab, 1, n_ctx)[0]
    pattern = one_key_patterns(submission, d_vocab, n_ctx, tokens)
    check_before(pattern, n_ctx)
    check_same(pattern, tokens)


# smeared_keys -------------------------------------------------------------------------------


def slow_smear(k, alpha):
    out = torch.zeros_like(k)
    for h in range(k.shape[2]):
        share = 1 / (1 + math.exp(-float(alpha[h])))
        for j in range(k.shape[1]):
            out[:, j, h] = k[:, j, h] if j == 0 else share * k[:, j, h] + (1 - share) * k[:, j - 1, h]
    return out


@exercise("smeared_keys", points=1)
def test_each_key_is_mixed_with_the_one_before(submission, rng):
    for heads in (5, 3):
        k, alpha = normal(rng, 6, 8, heads, 7), normal(rng, heads, scale=2.0)
        expect(submission.smeared_keys(k, alpha), slow_smear(k, alpha), "the smeared keys")


@exercise("smeared_keys", points=1, explains=True)
def test_a_large_alpha_keeps_keys_as_they_are(submission, rng):
    k = normal(rng, 3, 6, 5, 7)
    expect(submission.smeared_keys(k, torch.full((5,), 30.0)), k, "keys with alpha 30")


@exercise("smeared_keys", points=1)
def test_a_small_alpha_moves_keys_one_place_on(submission, rng):
    k = normal(rng, 6, 8, 5, 7)
    want = torch.stack([k[:, max(0, j - 1)] for j in range(8)], 1)
    expect(submission.smeared_keys(k, torch.full((5,), -30.0)), want, "keys with alpha -30")


@exercise("smeared_keys", points=1)
def test_heads_smear_each_in_its_own_way(submission, rng):
    k, alpha = normal(rng, 3, 9, 5, 6), torch.tensor([30.0, -30.0, 0.0, 1.0, -2.0])[torch.randperm(5, generator=rng)]
    expect(submission.smeared_keys(k, alpha), slow_smear(k, alpha), "the keys of heads with very different alpha")


# Experts ------------------------------------------------------------------------------------


def router(rng, n=8, d_model=10, n_experts=5):
    return normal(rng, n, d_model), normal(rng, d_model, n_experts)


def slow_gates(x, W_gate, k):
    rows = []
    for logits in (x.double() @ W_gate.double()).tolist():
        top = sorted(range(len(logits)), key=lambda e: -logits[e])[:k]
        total = sum(math.exp(logits[e] - logits[top[0]]) for e in top)
        rows.append([math.exp(logits[e] - logits[top[0]]) / total if e in top else 0.0 for e in range(len(logits))])
    return torch.tensor(rows)


@exercise("route", points=2)
def test_the_k_best_share_out_one(submission, rng):
    for k, n_experts in ((3, 5), (2, 7)):
        x, W_gate = router(rng, n_experts=n_experts)
        expect(submission.route(x, W_gate, k), slow_gates(x, W_gate, k), f"the gates with {k} of {n_experts} experts", rtol=1e-3, atol=1e-4)


@exercise("route", points=1)
def test_one_expert_alone_gets_it_all(submission, rng):
    x, W_gate = router(rng, n=12, d_model=7)
    expect(submission.route(x, W_gate, 1), slow_gates(x, W_gate, 1), "the gates with one expert a token")


@exercise("route", points=1)
def test_with_all_of_them_it_is_a_softmax(submission, rng):
    x, W_gate = router(rng, n=6, n_experts=3)
    expect(submission.route(x, W_gate, 3), slow_gates(x, W_gate, 3), "the gates with all experts on", rtol=1e-3, atol=1e-4)


def experts(rng, n=8, d_model=10, n_experts=5, d_mlp=7, k=3):
    x, W_gate = router(rng, n, d_model, n_experts)
    W_in, W_out = normal(rng, n_experts, d_model, d_mlp, scale=d_model**-0.5), normal(rng, n_experts, d_mlp, d_model)
    return x, slow_gates(x, W_gate, k), W_in, W_out


def slow_neurons(x, gates, W_in):
    """Activations of neuron m of expert e, [n n_experts d_mlp]."""
    out = torch.zeros(len(x), *W_in.shape[::2], dtype=torch.float64)
    for i in range(len(x)):
        for e in range(len(W_in)):
            u = x[i].double() @ W_in[e].double()
            out[i, e] = gates[i, e] * u / (1 + (-u).exp())
    return out


def check_mixture(submission, rng, **shape):
    x, gates, W_in, W_out = experts(rng, **shape)
    acts = slow_neurons(x, gates, W_in)
    want = sum(acts[:, e] @ W_out[e].double() for e in range(len(W_in)))
    expect(submission.mixture_of_experts(x, gates, W_in, W_out), want, "what the mixture writes", rtol=1e-3, atol=1e-3)


@exercise("mixture_of_experts", points=1)
def test_experts_that_are_on_add_up_by_their_gates(submission, rng):
    check_mixture(submission, rng)
    check_mixture(submission, rng, n=6, d_model=8, n_experts=3, d_mlp=11, k=2)


@exercise("mixture_of_experts", points=1)
def test_one_expert_for_each_token(submission, rng):
    check_mixture(submission, rng, k=1)


@exercise("mixture_of_experts", points=1)
def test_gates_need_not_sum_to_one(submission, rng):
    x, gates, W_in, W_out = experts(rng, n=9)
    gates = gates * (1 + normal(rng, len(x), 1).abs())
    acts = slow_neurons(x, gates, W_in)
    want = sum(acts[:, e] @ W_out[e].double() for e in range(len(W_in)))
    expect(submission.mixture_of_experts(x, gates, W_in, W_out), want, "what the mixture writes with larger gates", rtol=1e-3, atol=1e-3)


@exercise("expert_neurons", points=1)
def test_each_expert_is_a_block_of_neurons(submission, rng):
    for shape in (dict(), dict(n=6, d_model=8, n_experts=3, d_mlp=11, k=2)):
        x, gates, W_in, _ = experts(rng, **shape)
        expect(submission.expert_neurons(x, gates, W_in), slow_neurons(x, gates, W_in).flatten(1), "the activations", rtol=1e-3, atol=1e-4)


@exercise("expert_neurons", points=1)
def test_their_values_sum_to_what_the_mixture_writes(submission, rng):
    x, gates, W_in, W_out = experts(rng, k=2)
    acts = torch.as_tensor(submission.expert_neurons(x, gates, W_in))
    n = W_in.shape[0] * W_in.shape[2]
    require(list(acts.shape) == [len(x), n], f"The activations should have shape {[len(x), n]}; yours have {list(acts.shape)}.")
    slow = slow_neurons(x, gates, W_in)
    want = sum(slow[:, e] @ W_out[e].double() for e in range(len(W_in)))
    expect(acts.double() @ W_out.flatten(0, 1).double(), want, "activations times values", rtol=1e-3, atol=1e-3)


@exercise("expert_neurons", points=1)
def test_with_one_expert_a_token_the_rest_is_off(submission, rng):
    x, gates, W_in, _ = experts(rng, n=12, n_experts=6, k=1)
    expect(submission.expert_neurons(x, gates, W_in), slow_neurons(x, gates, W_in).flatten(1), "the activations", rtol=1e-3, atol=1e-4)


def slow_balance(logits, gates):
    n, n_experts = logits.shape
    choices = [e for i in range(n) for e in range(n_experts) if gates[i, e] > 0]
    total = 0.0
    for e in range(n_experts):
        P = sum(math.exp(float(logits[i, e])) / sum(math.exp(float(v)) for v in logits[i]) for i in range(n)) / n
        total += choices.count(e) / len(choices) * P
    return n_experts * total


def check_balance(submission, logits, k):
    gates = slow_gates(logits, torch.eye(logits.shape[1]), k)
    expect(submission.load_balance(logits, gates), slow_balance(logits, gates), f"the term with {k} of {logits.shape[1]} experts on")


@exercise("load_balance", points=1)
def test_is_shares_of_choices_times_mean_probabilities(submission, rng):
    check_balance(submission, normal(rng, 8, 5) + normal(rng, 5), 3)
    check_balance(submission, normal(rng, 11, 7) + normal(rng, 7), 2)


@exercise("load_balance", points=1)
def test_one_expert_for_each_token_too(submission, rng):
    check_balance(submission, normal(rng, 9, 5) + normal(rng, 5), 1)


@exercise("load_balance", points=1)
def test_where_one_expert_takes_nearly_all(submission, rng):
    crowd = torch.zeros(6)
    crowd[integer(rng, 0, 5)] = 4.0
    check_balance(submission, normal(rng, 10, 6) + crowd, 1)
    check_balance(submission, normal(rng, 10, 6) + crowd, 3)


def slow_information(a, b):
    a, b = a.tolist(), b.tolist()
    pairs, total = list(zip(a, b)), 0.0
    for i, j in sorted(set(pairs)):
        p = pairs.count((i, j)) / len(a)
        total += p * math.log(p * len(a) ** 2 / (a.count(i) * b.count(j)))
    return total


def labels(rng, n, n_a, n_b, tied=0.6):
    """Two labels of n tokens, of which the second often follows from the first."""
    a = torch.randint(n_a, (n,), generator=rng)
    b = torch.where(torch.rand(n, generator=rng) < tied, (2 * a + 1) % n_b, torch.randint(n_b, (n,), generator=rng))
    return a, b


@exercise("mutual_information", points=1)
def test_is_what_counting_pairs_gives(submission, rng):
    for n, n_a, n_b in ((40, 3, 5), (70, 6, 3), (90, 7, 8)):
        a, b = labels(rng, n, n_a, n_b)
        expect(submission.mutual_information(a, b), slow_information(a, b), f"the information of labels of {n} tokens", atol=1e-4)


@exercise("mutual_information", points=1)
def test_of_a_label_with_itself_is_its_entropy(submission, rng):
    for n_a in (3, 7):
        a = torch.randint(n_a, (50,), generator=rng) * torch.randint(2, (50,), generator=rng)
        p = torch.bincount(a).double() / len(a)
        expect(submission.mutual_information(a, a.clone()), -sum(float(v * v.log()) for v in p if v > 0), "the information of a label with itself, its entropy,", atol=1e-4)


@exercise("mutual_information", points=1)
def test_numbers_that_never_occur_do_no_harm(submission, rng):
    a, b = labels(rng, 60, 3, 5)
    a, b = a * 4 + 3, b * 2 + 1  # gaps
    expect(submission.mutual_information(a, b), slow_information(a, b), "the information of labels with gaps in their numbers", atol=1e-4)


# Neurons as heads ---------------------------------------------------------------------------


def tilde(x):
    """The stream with one more dimension, and the empty place in front."""
    x = torch.cat([x.double(), torch.ones(len(x), 1, dtype=torch.float64)], 1)
    return torch.cat([torch.zeros(1, x.shape[1], dtype=torch.float64), x])


def head_writes(W_Q, W_K, W_V, W_O, x):
    """What one head writes at every token, each seeing itself and the empty place; computed one by one."""
    y, rows = tilde(x), []
    for token in y[1:]:
        seen = torch.stack([y[0], token])
        weights = (token @ W_Q @ (seen @ W_K).T).softmax(-1)
        rows.append(weights @ (seen @ W_V) @ W_O)
    return torch.stack(rows)


def check_parts(parts, shapes):
    names = ("W_Q", "W_K", "W_V", "W_O")
    require(isinstance(parts, tuple | list) and len(parts) == 4, "The answer should be four tensors: W_Q, W_K, W_V, W_O.")
    parts = [torch.as_tensor(W).double() for W in parts]
    for name, W, shape in zip(names, parts, shapes):
        require(list(W.shape) == shape, f"{name} should have shape {shape}; yours has {list(W.shape)}.")
    return parts


def neuron(x, w_in, b_in, w_out, sharpness):
    u = x.double() @ w_in.double() + b_in
    return torch.cat([(u / (1 + (-sharpness * u).exp()))[:, None] * w_out.double(), torch.zeros(len(x), 1)], 1)


def check_neuron(submission, rng, sharpness, d_model=10, bias=1.0):
    x, w_in, w_out = normal(rng, 8, d_model), normal(rng, d_model, scale=d_model**-0.5), normal(rng, d_model)
    b_in = bias * float(normal(rng, 1))
    got = submission.neuron_as_head(w_in, b_in, w_out, sharpness)
    wide = d_model + 1
    W = check_parts(got, [[wide, 1], [wide, 1], [wide, 1], [1, wide]])
    expect(head_writes(*W, x), neuron(x, w_in, b_in, w_out, sharpness), f"what the head writes with sharpness {sharpness:g}", rtol=1e-3, atol=1e-4)


@exercise("neuron_as_head", points=2)
def test_sharpness_one_is_silu(submission, rng):
    check_neuron(submission, rng, 1.0)
    check_neuron(submission, rng, 1.0, d_model=7)


@exercise("neuron_as_head", points=1)
def test_other_sharpness_too(submission, rng):
    for sharpness in (1.702, 0.5 + 2 * float(torch.rand(1, generator=rng)), 20.0):
        check_neuron(submission, rng, sharpness)


@exercise("neuron_as_head", points=1)
def test_without_a_bias_too(submission, rng):
    check_neuron(submission, rng, 3.0, bias=0.0)
    check_neuron(submission, rng, 3.0, d_model=6, bias=0.0)


def check_mlp(submission, rng, layer, sharpness, **shape):
    model = random_model(rng, attn_only=False, d_mlp=13, **shape)
    mlp, x = model.blocks[layer].mlp, normal(rng, 6, model.cfg.d_model)
    wide = model.cfg.d_model + 1
    W_Q, W_K, W_V, W_O = check_parts(submission.mlp_as_heads(model, layer, sharpness), [[13, wide, 1]] * 3 + [[13, 1, wide]])
    b_in = torch.zeros(13) if mlp.b_in is None else mlp.b_in
    for n in range(13):
        want = neuron(x, mlp.W_in[:, n], float(b_in[n]), mlp.W_out[n], sharpness)
        expect(head_writes(W_Q[n], W_K[n], W_V[n], W_O[n], x), want, f"what head {n} writes, in place of neuron {n} of layer {layer},", rtol=1e-3, atol=1e-4)


@exercise("mlp_as_heads", points=2)
def test_head_n_does_what_neuron_n_does(submission, rng):
    check_mlp(submission, rng, 1, 1.0, biases=True)
    check_mlp(submission, rng, 2, 1.702, biases=True, normalization_type="LN")


@exercise("mlp_as_heads", points=1)
def test_in_any_layer_and_as_sharp_as_asked(submission, rng):
    check_mlp(submission, rng, 0, 5.0, biases=True, act_fn="relu")
    check_mlp(submission, rng, 2, 0.5 + 2 * float(torch.rand(1, generator=rng)), biases=True)


@exercise("mlp_as_heads", points=1)
def test_a_model_without_biases_too(submission, rng):
    check_mlp(submission, rng, 1, 3.0)


# counterexample -----------------------------------------------------------------------------


def all_changes(model, tokens, candidates):
    """Of each text with one earlier token exchanged: (how much the end moves, position, token)."""
    log_p = model(tokens[None])[0, -1].double().log_softmax(-1)
    places = [(i, int(token)) for i in range(len(tokens) - 1) for token in candidates]
    texts = torch.stack([torch.where(torch.arange(len(tokens)) == i, token, tokens) for i, token in places])
    moved = (model(texts)[:, -1].double().log_softmax(-1) - log_p).square().sum(-1)
    return [(float(m), *place) for m, place in zip(moved, places)]


def check_counterexample(submission, rng, model, pos, n, at=None):
    """On a text whose best change is at position `at`, if one is given."""
    with torch.no_grad():
        for _ in range(60):
            tokens = random_tokens(rng, model, 1, pos)[0]
            candidates = torch.randint(model.cfg.d_vocab, (n,), generator=rng)
            changes = all_changes(model, tokens, candidates)
            if at is None or max(changes)[1] == at:
                break
        got = torch.as_tensor(submission.counterexample(model, tokens, candidates))
    require(got.shape == tokens.shape, f"The text should have shape {list(tokens.shape)}; yours has {list(got.shape)}.")
    differ = (got != tokens).nonzero().flatten().tolist()
    require(differ != [], "Your text is the one given: one token should be another.")
    require(len(differ) == 1, f"One token should differ; yours differs at positions {differ}.")
    require(differ[0] < pos - 1, "Your text differs in its last token, which is to stay.")
    place, token = differ[0], int(got[differ[0]])
    moved = next((m for m, i, new in changes if (i, new) == (place, token)), None)
    require(moved is not None, f"Token {token} is not among the candidates.")
    best, where, _ = max(changes)
    require(
        moved > 0.999 * best,
        f"Your change, at position {place}, moves the log probabilities by {moved:.4f} (summed squares); one at position "
        f"{where} moves them by {best:.4f}.",
    )


@exercise("counterexample", points=2)
def test_no_other_change_moves_the_end_more(submission, rng):
    for pos, n in ((8, 5), (6, 7)):
        check_counterexample(submission, rng, random_model(rng), pos, n)


@exercise("counterexample", points=1)
def test_in_one_layer_too(submission, rng):
    check_counterexample(submission, rng, random_model(rng, n_layers=1, positional_embedding_type="standard"), 9, 3)


@exercise("counterexample", points=1)
def test_the_first_position_and_the_last_but_one_are_tried_too(submission, rng):
    model = random_model(rng)
    for at in (0, 3):
        check_counterexample(submission, rng, model, 5, 7, at)


@exercise("counterexample", points=1)
def test_in_a_model_with_mlps_too(submission, rng):
    check_counterexample(submission, rng, random_model(rng, d_mlp=13, **FULL), 7, 5)
