"""Checks of chapter 9. Each says in its name what must be true of an answer."""

import math

import torch

from circuits.checking import exercise, expect, fail, require
from circuits.inputs import integer, invertible, normal, orthogonal, random_model, random_tokens
from circuits.symmetries import symmetric
from utils.model import Config, Transformer

SYMMETRIES = {
    "multi_query_attention": symmetric("rotate heads"),
    "grouped_query_attention": symmetric("rotate"),
    "cache_bytes": "its arguments are sizes",
    "predict_reading_ranks": "its arguments are sizes",
    "to_grouped": symmetric("vocabulary constant neurons"),
    "shared_key": "any basis of the shared key will do; the checks look at products",
}

FULL = dict(attn_only=False, normalization_type="LN", biases=True)


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
