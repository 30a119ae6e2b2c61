"""Checks of chapter 2. Each says in its name what must be true of an answer."""

import copy
import functools
import importlib
import itertools
import math
from pathlib import Path

import torch

from circuits.checking import describe, exercise, expect, fail, require, whole_numbers
from circuits.inputs import integer, normal, orthogonal, random_model, random_patterns, random_tokens, reordered
from circuits.judging import spectrum
from circuits.symmetries import ALL, head_of_layer, symmetric
from utils.model import Config, Transformer
from utils.pretrained import load_model


@functools.cache
def trained():
    """The shipped one-layer model."""
    return load_model("one_layer").requires_grad_(False)


@functools.cache
def real_code():
    """Tokens of some modules of the standard library."""
    texts = []
    for name in ("textwrap", "shutil", "json.decoder", "argparse", "dataclasses", "zipfile"):
        module = importlib.import_module(name)
        texts.append(Path(module.__file__).read_text("utf-8"))
    return trained().to_tokens("".join(texts), prepend_bos=False)[0]


COINCIDENCES = {("path_expansion", "n_layers is never above 1"): "the text says one layer"}
# The eigenvalues and the diagonal of a full OV circuit do move with a constant in W_U.
NO_CONSTANT = "regauge rotate heads vocabulary"
SYMMETRIES = {
    "attention_scores": symmetric("regauge rotate", W_Q="d_model d_q", W_K="d_model d_k"),
    "causal_pattern": symmetric("constant"),
    "head_output": symmetric("regauge rotate", W_V="d_model d_v", W_O="d_o d_model"),
    "attention_layer": symmetric(
        "regauge rotate heads",
        W_Q="n_heads d_model d_q", W_K="n_heads d_model d_k", W_V="n_heads d_model d_v", W_O="n_heads d_o d_model",
    ),
    "ov_circuit": symmetric(ALL, layer="layer", head=head_of_layer),
    "full_ov_circuit": symmetric(ALL, layer="layer", head=head_of_layer),
    "full_qk_circuit": symmetric(ALL, layer="layer", head=head_of_layer),
    "positional_qk": symmetric(ALL, layer="layer", head=head_of_layer),
    "score_terms": symmetric(ALL, head="head 0"),
    "path_expansion": symmetric(ALL),
    "freeze_patterns": symmetric(ALL),
    "predict_skip_trigrams": "its argument is a word",
    "skip_trigrams": symmetric(ALL, head="head 0", source="token", returns=("token", "token")),
    "product_eigenvalues": "its matrices are any two, and eigenvalues have no order",
    "copying_score": symmetric(NO_CONSTANT, layer="layer", head=head_of_layer),
    "matching_score": symmetric(ALL, layer="layer", head=head_of_layer),
    "diagonal_score": symmetric(NO_CONSTANT, layer="layer", head=head_of_layer),
    "top_k_copy_score": symmetric(ALL, layer="layer", head=head_of_layer),
    "copying_heads": symmetric(NO_CONSTANT, returns="head 0"),
    "anti_copying_head": symmetric(NO_CONSTANT, returns="head 0"),
    "positional_heads": symmetric(ALL, returns="head 0"),
    "forced_skip_trigrams": symmetric(ALL, head="head 0", a1="token", b1="token", a2="token", b2="token"),
    "skip_trigram_costs": symmetric("vocabulary constant", source="token"),
    "worst_crossing": "several crossings may be equally bad: the smaller side alone decides",
    "ablate_head": symmetric(ALL, layer="layer", head=head_of_layer),
    "head_importance": symmetric(ALL),
}

one_layer = functools.partial(random_model, n_layers=1)


def pieces_of_code(rng, n, length):
    code = real_code()
    start = torch.randint(len(code) - length, (n, 1), generator=rng)
    return code[start + torch.arange(length)]


def ids(got, what, d_vocab):
    """Token or head numbers as a list of integers."""
    numbers = whole_numbers(got, what)
    outside = [i for i in numbers if not 0 <= i < d_vocab]
    require(not outside, f"{what} holds {outside and outside[0]}; numbers run from 0 to {d_vocab - 1}.")
    return numbers


# attention_scores ---------------------------------------------------------------------------


def slow_scores(x_q, x_k, W_Q, W_K):
    """One number at a time."""
    d_head = W_Q.shape[1]
    want = torch.zeros(x_q.shape[0], x_q.shape[1], x_k.shape[1])
    for b in range(x_q.shape[0]):
        for i in range(x_q.shape[1]):
            for j in range(x_k.shape[1]):
                q, k = x_q[b, i] @ W_Q, x_k[b, j] @ W_K
                want[b, i, j] = sum(q[d] * k[d] for d in range(d_head)) / math.sqrt(d_head)
    return want


@exercise("attention_scores", points=1, explains=True)
def test_a_score_is_query_times_key_over_the_root(submission, rng):
    x_q, x_k = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0], [2.0, 0.0], [1.0, 1.0]]])
    W_Q = torch.tensor([[1.0, 2.0, 0.0, 3.0], [0.0, 0.0, 1.0, 0.0]])
    W_K = torch.tensor([[0.0, 1.0, 0.0, 1.0], [2.0, 0.0, 5.0, 2.0]])
    got = submission.attention_scores(x_q, x_k, W_Q, W_K)
    expect(got, [[[4.0, 5.0, 6.5]]], "the scores of query [1 2 0 3] and keys [2 0 5 2], [0 2 0 2], [2 1 5 3]")


@exercise("attention_scores", points=1)
def test_each_destination_meets_each_source_of_its_own_text(submission, rng):
    x_q, x_k = normal(rng, 3, 5, 6), normal(rng, 3, 8, 6)
    W_Q, W_K = normal(rng, 6, 7), normal(rng, 6, 7)
    got = submission.attention_scores(x_q, x_k, W_Q, W_K)
    expect(got, slow_scores(x_q, x_k, W_Q, W_K), "the scores of 5 destinations and 8 sources in 3 texts")


@exercise("attention_scores", points=1)
def test_the_root_is_that_of_d_head(submission, rng):
    x, W_Q, W_K = normal(rng, 1, 4, 2), normal(rng, 2, 9), normal(rng, 2, 9)
    got = submission.attention_scores(x, x, W_Q, W_K)
    expect(got, slow_scores(x, x, W_Q, W_K), "the scores with d_model = 2 and d_head = 9")


# causal_pattern -----------------------------------------------------------------------------


def slow_pattern(scores):
    want = torch.zeros_like(scores)
    for b, text in enumerate(scores.double()):
        for i, row in enumerate(text):
            top = row[: i + 1].max()
            e = [math.exp(s - top) for s in row[: i + 1]]
            for j, value in enumerate(e):
                want[b, i, j] = value / sum(e)
    return want


@exercise("causal_pattern", points=1)
def test_no_weight_is_on_the_future_and_rows_sum_to_one(submission, rng):
    pattern, other = (submission.causal_pattern(normal(rng, 3, 6, 6, scale=2.0)) for _ in range(2))
    expect(pattern.triu(1), torch.zeros(3, 6, 6), "the weight on later positions")
    expect(pattern.sum(-1), torch.ones(3, 6), "the sum of each row")
    require(not torch.allclose(pattern, other), "Other scores should make another pattern; yours is the same.")


@exercise("causal_pattern", points=1, explains=True)
def test_equal_scores_share_equally(submission, rng):
    n = integer(rng, 3, 6)
    want = torch.stack([torch.arange(n) <= i for i in range(n)]) / torch.arange(1, n + 1)[:, None]
    got = submission.causal_pattern(torch.full((1, n, n), 0.7))
    expect(got, want[None], f"the pattern of {n} positions whose scores are all 0.7")


@exercise("causal_pattern", points=1)
def test_weights_are_as_the_exponentials_of_scores(submission, rng):
    scores = normal(rng, 2, 5, 5, scale=1.5)
    expect(submission.causal_pattern(scores), slow_pattern(scores), "the pattern of random scores")


@exercise("causal_pattern", points=1)
def test_very_large_and_very_small_scores_do_no_harm(submission, rng):
    scores = normal(rng, 1, 4, 4)
    for shift in (500.0, -500.0, 3e4, -3e4):
        got = submission.causal_pattern(scores + shift)
        expect(got, slow_pattern(scores + shift), f"the pattern of scores near {shift:,.0f}", rtol=1e-3, atol=1e-4)
    scores[0, 0] = torch.tensor([0.0, 90.0, 0.0, 92.0])  # the future is out of sight, whatever its score
    expect(submission.causal_pattern(scores)[0, 0], [1.0, 0.0, 0.0, 0.0], "row 0 of a pattern where later positions score 90 and 92")


# head_output --------------------------------------------------------------------------------


def slow_output(x, pattern, W_V, W_O):
    want = torch.zeros(*pattern.shape[:2], x.shape[-1])
    for b in range(len(x)):
        for i in range(pattern.shape[1]):
            for j in range(pattern.shape[2]):
                want[b, i] += pattern[b, i, j] * ((x[b, j] @ W_V) @ W_O)
    return want


@exercise("head_output", points=1, explains=True)
def test_two_sources_by_hand(submission, rng):
    x, pattern = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[[1.0, 0.0], [0.75, 0.25]]])
    W_V, W_O = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0, -1.0]])
    want = [[[3.0, -1.0], [3.75, -1.25]]]
    got = submission.head_output(x, pattern, W_V, W_O)
    expect(got, want, "the output for values 1, 2, pattern [[1, 0], [3/4, 1/4]] and W_O [[3, -1]]")


@exercise("head_output", points=1)
def test_destinations_receive_weighted_sources(submission, rng):
    x, pattern = normal(rng, 3, 5, 6), normal(rng, 3, 8, 5).softmax(-1)
    W_V, W_O = normal(rng, 6, 7), normal(rng, 7, 6)
    got = submission.head_output(x, pattern, W_V, W_O)
    expect(got, slow_output(x, pattern, W_V, W_O), "the output at 8 destinations from 5 sources")


@exercise("head_output", points=1)
def test_the_pattern_says_who_receives_from_whom(submission, rng):
    order = torch.randperm(5, generator=rng)
    while (order[order] == torch.arange(5)).all():  # its own inverse: then a transpose would not show
        order = torch.randperm(5, generator=rng)
    x, W_V, W_O = normal(rng, 1, 5, 3), normal(rng, 3, 3), normal(rng, 3, 3)
    want = torch.stack([x[0, j] @ W_V @ W_O for j in order])[None]
    got = submission.head_output(x, torch.eye(5)[order][None], W_V, W_O)
    expect(got, want, f"the output where destinations 0 1 2 3 4 attend to sources {order.tolist()}")


# attention_layer ----------------------------------------------------------------------------


def layer_weights(model, layer=0):
    return model.W_Q[layer], model.W_K[layer], model.W_V[layer], model.W_O[layer]


@exercise("attention_layer", points=1)
def test_agrees_with_the_attention_of_a_transformer(submission, rng):
    model = random_model(rng)
    tokens = random_tokens(rng, model)
    want = model.run_with_cache(tokens)[1]["attn_out", 0]
    got = submission.attention_layer(model.W_E[tokens], model.W_pos, *layer_weights(model))
    expect(got, want, "what a layer of 5 heads adds at 8 positions of 6 texts")


@exercise("attention_layer", points=1)
def test_is_the_sum_of_its_heads(submission, rng):
    x, W_pos = normal(rng, 3, 5, 6), normal(rng, 8, 6)
    W_Q, W_K, W_V = (normal(rng, 2, 6, 7) for _ in range(3))
    W_O = normal(rng, 2, 7, 6)
    x_qk, want = x + W_pos[:5], 0
    for h in range(2):
        pattern = slow_pattern(slow_scores(x_qk, x_qk, W_Q[h], W_K[h]))
        want = want + slow_output(x, pattern, W_V[h], W_O[h])
    got = submission.attention_layer(x, W_pos, W_Q, W_K, W_V, W_O)
    expect(got, want, "the sum of two heads", atol=1e-4)


@exercise("attention_layer", points=1)
def test_the_first_position_can_only_attend_to_itself(submission, rng):
    model = random_model(rng)
    x = normal(rng, 6, 8, 10)
    want = sum(x[:, 0] @ model.W_V[0, h] @ model.W_O[0, h] for h in range(5))
    got = submission.attention_layer(x, model.W_pos, *layer_weights(model))
    expect(got[:, 0], want, "the output at the first position, the sum over heads of x W_V W_O,")


@exercise("attention_layer", points=1)
def test_positions_steer_attention_and_are_not_moved(submission, rng):
    W_pos = normal(rng, 6, 4, scale=2.0)
    W_Q, W_K, W_V = (normal(rng, 2, 4, 3) for _ in range(3))
    W_O = normal(rng, 2, 3, 4)
    got = submission.attention_layer(torch.zeros(1, 5, 4), W_pos, W_Q, W_K, W_V, W_O)
    expect(got, torch.zeros(1, 5, 4), "the output for x = 0, where there is nothing to move,")
    x = normal(rng, 1, 1, 4).expand(1, 5, 4)
    want = sum(x @ W_V[h] @ W_O[h] for h in range(2))
    got = submission.attention_layer(x, W_pos, W_Q, W_K, W_V, W_O)
    expect(got, want, "the output where all tokens are the same", atol=1e-4)


# ov_circuit ---------------------------------------------------------------------------------


@exercise("ov_circuit", points=1)
def test_a_moved_vector_arrives_multiplied_by_it(submission, rng):
    model = random_model(rng)
    tokens = random_tokens(rng, model, batch=1, pos=1)  # alone, a token attends to itself with weight 1
    _, cache = model.run_with_cache(tokens)
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):
            x, want = cache["resid_pre", layer][0, 0], cache["result", layer][0, 0, head]
            M = submission.ov_circuit(model, layer, head)
            expect(x @ M.to(x.dtype), want, f"x @ M for head {head} of layer {layer}")


@exercise("ov_circuit", points=1)
def test_sums_over_the_dimensions_of_the_head(submission, rng):
    model = random_model(rng, n_heads=2, d_model=6, d_head=5)
    W_V, W_O = model.W_V[2, 1].tolist(), model.W_O[2, 1].tolist()
    want = [[sum(W_V[i][d] * W_O[d][j] for d in range(5)) for j in range(6)] for i in range(6)]
    expect(submission.ov_circuit(model, 2, 1), want, "the OV circuit of head 1 in layer 2")


@exercise("ov_circuit", points=1)
def test_its_rank_is_at_most_d_head(submission, rng):
    model = random_model(rng, d_model=8, d_head=2)
    M = submission.ov_circuit(model, 0, 2).double()
    rank = int(torch.linalg.matrix_rank(M, rtol=1e-4))
    require(rank == 2, f"With d_head = 2 and d_model = 8 the rank should be 2; yours is {rank}.")
    expect(M.trace(), (model.W_O[0, 2] @ model.W_V[0, 2]).trace(), "its trace, which is that of W_O W_V,")


# full_ov_circuit ----------------------------------------------------------------------------


@exercise("full_ov_circuit", points=1)
def test_row_a_is_what_the_head_adds_to_the_logits_of_a_text_of_one_token(submission, rng):
    model = random_model(rng)
    _, cache = model.run_with_cache(torch.arange(11)[:, None])
    for head in range(5):
        want = cache["result", 0][:, 0, head] @ model.W_U
        got = submission.full_ov_circuit(model, 0, head)
        expect(got, want, f"what head {head} adds to the logits when it attends to each token", atol=1e-4)


@exercise("full_ov_circuit", points=1)
def test_is_read_between_tokens_in_any_layer(submission, rng):
    model = random_model(rng, n_heads=2)
    for layer, head in ((1, 0), (2, 1)):
        rows = [model.W_E[a] @ model.W_V[layer, head] @ model.W_O[layer, head] @ model.W_U for a in range(11)]
        got = submission.full_ov_circuit(model, layer, head)
        expect(got, torch.stack(rows), f"the full OV circuit of head {head} in layer {layer}", atol=1e-4)


@exercise("full_ov_circuit", points=1)
def test_a_head_that_turns_one_token_into_another(submission, rng):
    a, c = torch.randperm(5, generator=rng)[:2].tolist()
    model = Transformer(Config(5, 5, 1, 1, 1, 4)).requires_grad_(False)
    model.W_E.copy_(torch.eye(5))
    model.W_U.copy_(torch.eye(5))
    attn = model.blocks[0].attn
    attn.W_V.zero_(), attn.W_O.zero_()
    attn.W_V[0, a, 0], attn.W_O[0, 0, c] = 2.0, 3.0
    want = torch.zeros(5, 5)
    want[a, c] = 6.0
    got = submission.full_ov_circuit(model, 0, 0)
    expect(got, want, f"the circuit of a head that raises {c} by 6 when it attends to {a}")


# full_qk_circuit ----------------------------------------------------------------------------


def without_positions(model):
    model = copy.deepcopy(model)
    model.pos_embed.W_pos.zero_()
    return model


def expect_lower(got, want, what, atol=1e-4):
    """Compare where the source is not after the destination."""
    if isinstance(got, torch.Tensor) and got.shape == want.shape:
        got, want = got.tril(), want.tril()
    expect(got, want, what, atol=atol)


@exercise("full_qk_circuit", points=1)
def test_is_the_score_where_positions_say_nothing(submission, rng):
    model = without_positions(random_model(rng))
    tokens = random_tokens(rng, model, batch=1, pos=9)
    _, cache = model.run_with_cache(tokens)
    for head in range(5):
        QK = submission.full_qk_circuit(model, 0, head)
        got = QK[tokens[0]][:, tokens[0]]  # [destination source]
        want = cache["attn_scores", 0][0, head]
        expect_lower(got, want, f"the scores of head {head}, read off the circuit,")


@exercise("full_qk_circuit", points=1)
def test_rows_are_destinations(submission, rng):
    model = random_model(rng, n_heads=2, d_vocab=8)
    for layer, head in ((0, 1), (1, 0)):
        want = slow_scores(
            model.W_E[None], model.W_E[None], model.W_Q[layer, head], model.W_K[layer, head]
        )[0]
        got = submission.full_qk_circuit(model, layer, head)
        expect(got, want, f"the full QK circuit of head {head} in layer {layer}", atol=1e-4)


@exercise("full_qk_circuit", points=1)
def test_a_head_that_looks_for_one_token_from_another(submission, rng):
    b, a = torch.randperm(6, generator=rng)[:2].tolist()
    model = Transformer(Config(6, 6, 1, 1, 9, 5)).requires_grad_(False)
    model.W_E.copy_(torch.eye(6))
    attn = model.blocks[0].attn
    attn.W_Q.zero_(), attn.W_K.zero_()
    attn.W_Q[0, b, 0], attn.W_K[0, a, 0] = 3.0, 4.0
    want = torch.zeros(6, 6)
    want[b, a] = 4.0
    got = submission.full_qk_circuit(model, 0, 0)
    expect(got, want, f"the circuit where query {b} and key {a} have the product 12 and d_head is 9")


# positional_qk ------------------------------------------------------------------------------


@exercise("positional_qk", points=1)
def test_is_the_score_where_tokens_say_nothing(submission, rng):
    model = random_model(rng)
    model.W_E.zero_()
    _, cache = model.run_with_cache(torch.zeros(1, model.cfg.n_ctx, dtype=torch.long))
    for head in range(5):
        got = submission.positional_qk(model, 0, head)
        want = cache["attn_scores", 0][0, head]
        expect_lower(got, want, f"the scores of head {head} where all embeddings are 0")


@exercise("positional_qk", points=1)
def test_row_i_is_destination_i(submission, rng):
    model = random_model(rng, n_heads=2, n_ctx=6)
    for layer, head in ((0, 1), (1, 0)):
        W_pos = model.W_pos[None]
        want = slow_scores(W_pos, W_pos, model.W_Q[layer, head], model.W_K[layer, head])[0]
        got = submission.positional_qk(model, layer, head)
        expect(got, want, f"positional QK of head {head} in layer {layer}", atol=1e-4)


@exercise("positional_qk", points=1)
def test_knows_nothing_of_tokens(submission, rng):
    model = random_model(rng, d_head=9, n_ctx=270)
    want = (model.W_pos @ model.W_Q[0, 1]) @ (model.W_pos @ model.W_K[0, 1]).T / 3
    for _ in range(2):
        model.W_E.copy_(normal(rng, 11, 10, scale=3.0))
        got = submission.positional_qk(model, 0, 1)
        expect(got, want, "positional QK with d_head = 9, whatever the embeddings,", atol=1e-4)


# score_terms --------------------------------------------------------------------------------

TERMS = ("token-token", "token-position", "position-token", "position-position")


def terms_of(submission, model, tokens, head):
    got, n = submission.score_terms(model, tokens, head), len(tokens)
    require(
        isinstance(got, torch.Tensor) and got.shape == (4, n, n),
        f"The answer for {n} tokens should be a tensor of shape [4 {n} {n}], a table for each term; it is {describe(got)}.",
    )
    return got


@exercise("score_terms", points=1)
def test_the_terms_sum_to_the_scores(submission, rng):
    model = random_model(rng)
    tokens = random_tokens(rng, model, batch=1)[0]
    _, cache = model.run_with_cache(tokens)
    for head in range(5):
        terms = terms_of(submission, model, tokens, head)
        want = cache["attn_scores", 0][0, head]
        expect_lower(terms.sum(0), want, f"the sum of the four terms for head {head}")


@exercise("score_terms", points=1)
def test_each_term_is_in_its_place(submission, rng):
    model = random_model(rng, n_heads=2)
    tokens = random_tokens(rng, model, batch=1, pos=5)[0]
    x, p = model.W_E[tokens][None], model.W_pos[None, :5]
    got = terms_of(submission, model, tokens, 1)
    for i, (q, k) in enumerate(((x, x), (x, p), (p, x), (p, p))):
        want = slow_scores(q, k, model.W_Q[0, 1], model.W_K[0, 1])[0]
        expect(got[i], want, f"the {TERMS[i]} term", atol=1e-4)


@exercise("score_terms", points=1)
def test_a_text_of_one_repeated_token(submission, rng):
    model = random_model(rng)
    token = integer(rng, 0, 10)
    tokens = torch.full((6,), token)
    q, k = model.W_E[token] @ model.W_Q[0, 0], model.W_E[token] @ model.W_K[0, 0]
    queries, keys = model.W_pos[:6] @ model.W_Q[0, 0], model.W_pos[:6] @ model.W_K[0, 0]
    got = terms_of(submission, model, tokens, 0)
    expect(got[0], torch.full((6, 6), float(q @ k) / 7**0.5), "the token-token term, the same everywhere,", atol=1e-4)
    by_source = (keys @ q / 7**0.5)[None].expand(6, 6)
    expect(got[1], by_source, "the token-position term, the same in each row,", atol=1e-4)
    by_destination = (queries @ k / 7**0.5)[:, None].expand(6, 6)
    expect(got[2], by_destination, "the position-token term, the same in each column,", atol=1e-4)


# path_expansion -----------------------------------------------------------------------------


def paths_of(submission, model, tokens):
    paths, n = submission.path_expansion(model, tokens), 1 + model.cfg.n_heads
    require(
        len(paths) == n,
        f"A model of one layer of {model.cfg.n_heads} heads has {n} paths, the direct one and one through each head; "
        f"yours are {len(paths)}.",
    )
    return paths


@exercise("path_expansion", points=1)
def test_the_paths_sum_to_the_logits(submission, rng):
    model = one_layer(rng)
    tokens = random_tokens(rng, model)
    got = paths_of(submission, model, tokens)
    expect(got.sum(0), model(tokens), "the sum of the paths", atol=1e-4)


@exercise("path_expansion", points=1)
def test_the_direct_path_comes_first(submission, rng):
    model = one_layer(rng, n_heads=2)
    tokens = random_tokens(rng, model)
    got = paths_of(submission, model, tokens)
    expect(got[0], model.W_E[tokens] @ model.W_U, "the first term", atol=1e-4)


@exercise("path_expansion", points=1)
def test_each_head_has_its_own_path(submission, rng):
    model = one_layer(rng)
    tokens = random_tokens(rng, model)
    _, cache = model.run_with_cache(tokens)
    got = paths_of(submission, model, tokens)
    for head in range(5):
        want = slow_output(
            model.W_E[tokens], cache["pattern", 0][:, head], model.W_V[0, head], model.W_O[0, head]
        ) @ model.W_U
        expect(got[1 + head], want, f"the path through head {head}", atol=1e-4)


# freeze_patterns ----------------------------------------------------------------------------


def slow_frozen(model, tokens, embed):
    """Layer by layer, with patterns from a run on the tokens."""
    _, cache = model.run_with_cache(tokens)
    x = embed.double()
    for layer in range(model.cfg.n_layers):
        heads = range(model.cfg.n_heads)
        x = x + sum(
            cache["pattern", layer][:, h].double() @ x
            @ model.W_V[layer, h].double() @ model.W_O[layer, h].double()
            for h in heads
        )
    return (x @ model.W_U.double()).float()


@exercise("freeze_patterns", points=1)
def test_with_the_texts_own_embedding_nothing_changes(submission, rng):
    for n_layers in (1, 3):
        model = random_model(rng, n_layers=n_layers)
        tokens = random_tokens(rng, model)
        got = submission.freeze_patterns(model, tokens, model.W_E[tokens])
        expect(got, model(tokens), f"the logits of a model with n_layers = {n_layers}", atol=1e-3)
    other = submission.freeze_patterns(model, tokens, normal(rng, 6, 8, 10))
    require(not torch.allclose(other, got), "Other vectors for the embedding should make other logits.")


@exercise("freeze_patterns", points=1)
def test_other_vectors_are_moved_by_the_same_patterns(submission, rng):
    model = random_model(rng, n_layers=1)
    tokens = random_tokens(rng, model)
    embed = normal(rng, 6, 8, 10)
    got = submission.freeze_patterns(model, tokens, embed)
    expect(got, slow_frozen(model, tokens, embed), "the logits for random vectors in one layer", atol=1e-3)


@exercise("freeze_patterns", points=1)
def test_every_layer_is_frozen(submission, rng):
    model = random_model(rng)
    tokens = random_tokens(rng, model)
    embed = normal(rng, 6, 8, 10)
    want = slow_frozen(model, tokens, embed)
    got = submission.freeze_patterns(model, tokens, embed)
    expect(got, want, "the logits for random vectors in three layers", rtol=1e-3, atol=1e-3)


@exercise("freeze_patterns", points=1)
def test_the_logits_are_linear_in_the_embedding(submission, rng):
    model = random_model(rng)
    tokens = random_tokens(rng, model)
    x, y = normal(rng, 6, 8, 10), normal(rng, 6, 8, 10)
    want = 2 * slow_frozen(model, tokens, x) - 3 * slow_frozen(model, tokens, y)
    got = submission.freeze_patterns(model, tokens, 2 * x - 3 * y)
    expect(got, want, "the logits for 2x - 3y, which are 2 f(x) - 3 f(y),", rtol=1e-3, atol=1e-3)
    zero = submission.freeze_patterns(model, tokens, torch.zeros(6, 8, 10))
    expect(zero, torch.zeros(6, 8, 11), "the logits for vectors of zeros")


# predict_skip_trigrams ----------------------------------------------------------------------

SOURCES = (" try", " lambda", " import", "(")


def bare(text):
    """A token's text as it is compared: without spaces round it, newlines as one newline."""
    text = text.strip(" ")
    return "\n" if text and not text.strip("\n ") else text


def guesses(submission, source):
    """The guesses for a source, as they are compared."""
    got = submission.predict_skip_trigrams(source)
    require(
        isinstance(got, list | tuple | set),
        f"For {source!r} there should be a list of strings, each the text of a token; yours is {describe(got)}.",
    )
    require(
        all(isinstance(guess, str) for guess in got),
        f"For {source!r} there should be a list of strings, each the text of a token; yours: {got!r}.",
    )
    got = list(got)
    require(0 < len(got) <= 3, f"For {source!r} there should be one to three guesses; yours has {len(got)}.")
    for guess in got:
        n = min(n_tokens(guess), n_tokens(" " + guess))
        require(n == 1, f"The guess {guess!r} for {source!r} is {n} tokens; a guess is one token.")
    return {bare(guess) for guess in got}


def n_tokens(text):
    return trained().to_tokens(text, prepend_bos=False).shape[1]


def what_gains(rng, source, at=3, places=16):
    """All tokens' bare texts, the one whose probability gains most first, when the source is put
    into real code; without the source itself."""
    model = trained()
    token = model.to_tokens(source, prepend_bos=False)[0, 0]
    code = pieces_of_code(rng, 56, at + places + 1)
    changed = code.clone()
    changed[:, at] = token
    gain = (model(changed)[:, at + 1 :].softmax(-1) - model(code)[:, at + 1 :].softmax(-1)).sum((0, 1))
    order = gain.argsort(descending=True)[:400].tolist()
    return [text for text in (bare(model.to_string(i)) for i in order) if text != bare(source)]


def check_prediction(submission, rng, source):
    mine = guesses(submission, source)
    for other in SOURCES:
        theirs = submission.predict_skip_trigrams(other) if other != source else []
        theirs = theirs if isinstance(theirs, list | tuple | set) else []
        both = mine & {bare(guess) for guess in theirs if isinstance(guess, str)}
        mine -= both  # which count for neither
        require(
            bool(mine),
            f"You guess {', '.join(map(repr, sorted(both)))} for {source!r} and for {other!r}: choose one of the two.",
        )
    order = what_gains(rng, source)
    places = [order.index(guess) + 1 if guess in order else math.inf for guess in mine]
    best = min(places)
    where = f"in place {best}" if best < math.inf else "beyond place 400"
    require(
        best <= 10,
        f"Put into real code, {source!r} makes ten other tokens likelier than any of your guesses "
        f"{sorted(mine)}; the best of these comes {where}.",
    )


@exercise("predict_skip_trigrams", points=1)
def test_what_try_makes_likelier(submission, rng):
    check_prediction(submission, rng, " try")


@exercise("predict_skip_trigrams", points=1)
def test_what_lambda_makes_likelier(submission, rng):
    check_prediction(submission, rng, " lambda")


@exercise("predict_skip_trigrams", points=1)
def test_what_import_makes_likelier(submission, rng):
    check_prediction(submission, rng, " import")


@exercise("predict_skip_trigrams", points=1)
def test_what_an_open_bracket_makes_likelier(submission, rng):
    check_prediction(submission, rng, "(")


# skip_trigrams ------------------------------------------------------------------------------


def slow_skip_trigrams(model, head, source):
    """How much each destination looks for the source, and how much the source raises each token."""
    W_E, d_vocab = model.W_E.double(), model.cfg.d_vocab
    W_Q, W_K, W_V, W_O = (W[0, head].double() for W in (model.W_Q, model.W_K, model.W_V, model.W_O))
    wanted = []
    for b in range(d_vocab):
        row = [float((W_E[b] @ W_Q) @ (W_E[a] @ W_K)) / math.sqrt(model.cfg.d_head) for a in range(d_vocab)]
        wanted.append(row[source] - sum(row) / d_vocab)
    raised = W_E[source] @ W_V @ W_O @ model.W_U.double()
    return wanted, raised.tolist()


def require_order(got, values, k, what):
    """The numbers of the k largest values, largest first."""
    got = ids(got, what, len(values))
    number = f"{k} different tokens" if k > 1 else "1 token"
    require(len(set(got)) == len(got) == k, f"{what} should be {number}; yours: {got}.")
    want = sorted(range(len(values)), key=lambda i: -values[i])[:k]
    right = all(abs(values[g] - values[w]) < 1e-4 for g, w in zip(got, want))
    require(right, f"{what} should be {want}, best first; yours: {got}.")


def check_skip_trigrams(submission, model, head, source, k, which):
    got = submission.skip_trigrams(model, head, source, k)
    require(
        isinstance(got, list | tuple | torch.Tensor) and len(got) == 2,
        f"The answer should be two lists, of {k} destinations and of {k} outputs; it is {describe(got)}.",
    )
    wanted, raised = slow_skip_trigrams(model, head, source)
    if "destinations" in which:
        require_order(got[0], wanted, k, f"The destinations of head {head} for source {source}")
    if "outputs" in which:
        require_order(got[1], raised, k, f"The outputs of head {head} for source {source}")


@exercise("skip_trigrams", points=1)
def test_finds_where_the_source_is_looked_for(submission, rng):
    model = random_model(rng, d_vocab=14)
    for head, source in ((0, 3), (2, 11)):
        check_skip_trigrams(submission, model, head, source, 5, ["destinations"])


@exercise("skip_trigrams", points=1)
def test_finds_what_the_source_raises(submission, rng):
    model = random_model(rng, d_vocab=14)
    for head, source in ((1, 13), (2, 0)):
        check_skip_trigrams(submission, model, head, source, 5, ["outputs"])


@exercise("skip_trigrams", points=1)
def test_compares_each_destination_with_its_own_mean(submission, rng):
    # From one token, head 0 wants everything, and from another the source a little more than the rest.
    for _ in range(3):
        greedy, dest, source = torch.randperm(6, generator=rng)[:3].tolist()
        model = Transformer(Config(6, 6, 1, 1, 3, 5)).requires_grad_(False)
        model.W_E.copy_(torch.eye(6))
        attn = model.blocks[0].attn
        attn.W_Q.copy_(normal(rng, 1, 6, 3, scale=0.01))
        attn.W_K.zero_()
        attn.W_Q[0, greedy, 0], attn.W_K[0, :, 0] = 5.0, 5.0
        attn.W_Q[0, dest, 1], attn.W_K[0, source, 1] = 2.0, 2.0
        check_skip_trigrams(submission, model, 0, source, 1, ["destinations"])


@exercise("skip_trigrams", points=1)
def test_returns_as_many_as_asked_for(submission, rng):
    model = one_layer(rng, n_heads=2)
    for k in (1, 8):
        check_skip_trigrams(submission, model, 1, 5, k, ["destinations", "outputs"])


# product_eigenvalues ------------------------------------------------------------------------


def expect_same_numbers(got, want, what, tol=1e-3):
    """The same complex numbers in any order."""
    if isinstance(got, list | tuple) and any(isinstance(part, torch.Tensor) and part.ndim > 1 for part in got):
        fail(
            f"{what} are wanted alone; yours is {describe(got)}, with matrices in it. (`torch.linalg.eig` returns values "
            "and vectors, `torch.linalg.eigvals` the values.)"
        )
    got, left = torch.as_tensor(got).to(torch.complex128), torch.as_tensor(want).to(torch.complex128).tolist()
    require(got.shape == (len(left),), f"{what}: there should be {len(left)}; yours: {list(got.shape)}.")
    scale = max(abs(z) for z in left)
    for z in got.tolist():
        nearest = min(left, key=lambda w: abs(w - z))
        require(
            abs(nearest - z) <= tol * scale,
            f"{what}: {z:.4g} is none; the nearest that is left is {nearest:.4g}.",
        )
        left.remove(nearest)


BEHAVIOUR = {"product_eigenvalues": spectrum}  # by which a mistake is known


@exercise("product_eigenvalues", points=1)
def test_finds_eigenvalues_that_were_put_in(submission, rng):
    want = torch.tensor([3.0, -1.5, 0.5]) + 0.2 * torch.rand(3, generator=rng)
    U = orthogonal(rng, 6) + 0.1 * normal(rng, 6, 6)
    A, B = U[:, :3] * want, torch.linalg.inv(U)[:3]
    got = submission.product_eigenvalues(A, B)
    expect_same_numbers(got, want, f"The eigenvalues of a product made to have {[round(v, 2) for v in want.tolist()]}")


@exercise("product_eigenvalues", points=1)
def test_eigenvalues_of_a_rotation_are_complex(submission, rng):
    angle = 0.5 + float(torch.rand(1, generator=rng))
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    basis = orthogonal(rng, 5)
    A, B = basis[:, :2] @ (2 * turn), basis[:, :2].T
    want = [2 * complex(math.cos(angle), s * math.sin(angle)) for s in (1, -1)]
    got = submission.product_eigenvalues(A, B)
    expect_same_numbers(got, want, f"The eigenvalues of twice a rotation by {angle:.2f}")


@exercise("product_eigenvalues", points=1)
def test_agrees_with_those_of_the_full_product(submission, rng):
    A, B = normal(rng, 12, 4), normal(rng, 4, 12)
    B[:, torch.randperm(12, generator=rng)[:3]] = 0  # then LAPACK gives some that are zero before the others
    full = torch.linalg.eigvals(A.double() @ B.double())
    want = full[full.abs().argsort(descending=True)[:4]]
    got = submission.product_eigenvalues(A, B)
    expect_same_numbers(got, want, "The eigenvalues of A B, [12 4] times [4 12], that are not zero")


@exercise("product_eigenvalues", points=1)
def test_leaves_out_the_many_that_are_always_zero(submission, rng):
    A, B = normal(rng, 200, 3), normal(rng, 3, 200)
    got = submission.product_eigenvalues(A, B)
    full = torch.linalg.eigvals(A.double() @ B.double())
    want = full[full.abs().argsort(descending=True)[:3]]
    expect_same_numbers(got, want, "The eigenvalues of A B, [200 3] times [3 200], that are not zero")


# copying_score, matching_score --------------------------------------------------------------


def score_of_table(M):
    """From the eigenvalues of the whole table; those that are zero add nothing."""
    eigenvalues = torch.linalg.eigvals(M.double())
    return float(eigenvalues.sum().real / eigenvalues.abs().sum())


def ov_table(model, layer, head):
    return model.W_E @ model.W_V[layer, head] @ model.W_O[layer, head] @ model.W_U


def qk_table(model, layer, head):
    return (model.W_E @ model.W_Q[layer, head]) @ (model.W_E @ model.W_K[layer, head]).T


def planted(rng, cores, d_vocab=15, d_model=10):
    """A model whose head h of layer 0 has the eigenvalues of the matrix cores[h] in its full OV circuit, and
    others if a constant is taken out of the logits."""
    d_head = len(cores[0])
    model = random_model(rng, d_vocab=d_vocab, d_model=d_model, n_heads=len(cores), d_head=d_head)
    model.W_U.add_(normal(rng, d_model, 1))
    for h, core in enumerate(cores):
        G = model.W_U.double() @ model.W_E.double() @ model.W_V[0, h].double()  # [d_model d_head]
        model.blocks[0].attn.W_O[h] = (core.double() @ torch.linalg.pinv(G)).float()
    return model


def core(rng, sign):
    """A [4 4] matrix whose eigenvalues are about `sign` times positive numbers, or all imaginary for 0."""
    if sign == 0:
        S = normal(rng, 4, 4)
        return S - S.T
    U = orthogonal(rng, 4)
    return sign * (U * (0.5 + torch.rand(4, generator=rng))) @ U.T


def with_eigenvalues(rng, values):
    """A symmetric matrix with these eigenvalues."""
    U = orthogonal(rng, len(values))
    return (U * torch.tensor(values)) @ U.T


@exercise("copying_score", points=1)
def test_is_the_balance_of_the_eigenvalues(submission, rng):
    model = random_model(rng, n_heads=2, d_vocab=14, d_model=8, d_head=5)
    for layer, head in ((0, 1), (1, 0)):
        want = score_of_table(ov_table(model, layer, head))
        got = submission.copying_score(model, layer, head)
        expect(got, want, f"the copying score of head {head} in layer {layer}", atol=1e-3)


@exercise("copying_score", points=1)
def test_is_1_for_a_head_that_copies_and_minus_1_for_one_that_avoids_it(submission, rng):
    model = planted(rng, [core(rng, s) for s in (1, -1, 0)])
    for head, want, kind in ((0, 1, "positive"), (1, -1, "negative"), (2, 0, "imaginary")):
        got = submission.copying_score(model, 0, head)
        expect(got, want, f"the copying score of a head whose eigenvalues are all {kind}", atol=0.01)


@exercise("copying_score", points=1)
def test_a_large_vocabulary_takes_no_longer(submission, rng):
    large = one_layer(rng, d_vocab=4000, n_heads=1)  # its full table has 16 million entries
    head = int(torch.randint(trained().cfg.n_heads, (1,), generator=rng))
    cases = ((trained(), head, f"head {head} of the trained model"), (large, 0, "a head with a vocabulary of 4,000"))
    scores = [submission.copying_score(model, 0, h) for model, h, _ in cases]
    for got, (model, h, what) in zip(scores, cases):
        small = (model.W_O[0, h] @ model.W_U).double() @ (model.W_E @ model.W_V[0, h]).double()
        expect(got, score_of_table(small), f"the copying score of {what}", atol=1e-3)


@exercise("matching_score", points=1)
def test_is_the_balance_of_qk_eigenvalues(submission, rng):
    model = random_model(rng, n_heads=2, d_vocab=14, d_model=8, d_head=5)
    for layer, head in ((0, 1), (1, 0)):
        want = score_of_table(qk_table(model, layer, head))
        got = submission.matching_score(model, layer, head)
        expect(got, want, f"the matching score of head {head} in layer {layer}", atol=1e-3)


@exercise("matching_score", points=1)
def test_is_1_for_a_head_that_looks_for_its_own_token(submission, rng):
    model = random_model(rng, n_heads=2)
    attn = model.blocks[0].attn
    attn.W_K.copy_(attn.W_Q)
    expect(submission.matching_score(model, 0, 0), 1.0, "the matching score where keys are as queries", atol=1e-3)
    attn.W_K.copy_(-attn.W_Q)
    expect(submission.matching_score(model, 0, 1), -1.0, "the matching score where keys are queries, negated,", atol=1e-3)


@exercise("matching_score", points=1)
def test_of_the_trained_model(submission, rng):
    model = trained()
    head = int(torch.randint(model.cfg.n_heads, (1,), generator=rng))
    small = (model.W_E @ model.W_K[0, head]).double().T @ (model.W_E @ model.W_Q[0, head]).double()
    got = submission.matching_score(model, 0, head)
    expect(got, score_of_table(small), f"the matching score of head {head} of the trained model", atol=1e-3)


# diagonal_score, top_k_copy_score -----------------------------------------------------------


def slow_diagonal(model, layer, head):
    """What each token, attended to, adds to its own logit."""
    W_V, W_O = model.W_V[layer, head].double(), model.W_O[layer, head].double()
    W_E, W_U = model.W_E.double(), model.W_U.double()
    return [float(W_E[a] @ W_V @ W_O @ W_U[:, a]) for a in range(model.cfg.d_vocab)]


@exercise("diagonal_score", points=1)
def test_weighs_tokens_that_raise_themselves_against_those_that_do_not(submission, rng):
    model = random_model(rng)
    for layer, head in ((0, 1), (1, 4), (2, 3)):
        own = slow_diagonal(model, layer, head)
        want = sum(own) / sum(abs(x) for x in own)
        got = submission.diagonal_score(model, layer, head)
        expect(got, want, f"the diagonal score of head {head} in layer {layer}", atol=1e-4)


def model_of_table(*tables):
    """A one-layer model whose heads have these tables as their full OV circuits."""
    n = len(tables[0])
    model = Transformer(Config(n, n, 1, len(tables), n, 4)).requires_grad_(False)
    model.W_E.copy_(torch.eye(n))
    model.W_U.copy_(torch.eye(n))
    model.blocks[0].attn.W_V.copy_(torch.eye(n).expand(len(tables), n, n))
    model.blocks[0].attn.W_O.copy_(torch.stack(tables))
    return model


@exercise("diagonal_score", points=1)
def test_four_tokens_by_hand(submission, rng):
    M = 10 * normal(rng, 4, 4)
    M.diagonal().copy_(torch.tensor([-3.0, 1.0, 2.0, -2.0]))
    got = submission.diagonal_score(model_of_table(M), 0, 0)
    expect(got, -0.25, "the diagonal score of a table with diagonal -3, 1, 2, -2")


@exercise("diagonal_score", points=1)
def test_only_the_diagonal_counts(submission, rng):
    for sign in (1.0, -1.0):
        M = 10 * normal(rng, 5, 5)
        M.diagonal().copy_(sign * (0.1 + torch.rand(5, generator=rng)))
        got = submission.diagonal_score(model_of_table(M), 0, 0)
        kind = "positive" if sign > 0 else "negative"
        expect(got, sign, f"the diagonal score of a table with a {kind} diagonal")


@exercise("top_k_copy_score", points=1)
def test_three_tokens_by_hand(submission, rng):
    M = torch.tensor([[5.0, 1.0, 9.0], [2.0, 3.0, 1.0], [7.0, -2.0, -4.0]])
    shares = [submission.top_k_copy_score(model_of_table(M), 0, 0, k) for k in (1, 2, 3)]
    for k, got in enumerate(shares, 1):  # all answers before the first verdict: more to tell mistakes apart by
        expect(got, k / 3, f"the share for the table [[5, 1, 9], [2, 3, 1], [7, -2, -4]] and k = {k}")


@exercise("top_k_copy_score", points=1)
def test_ranks_each_token_in_its_own_row(submission, rng):
    model = random_model(rng, d_vocab=23)
    cases = list(itertools.product((0, 2), (0, 3), (3, 6, 12)))
    shares = [submission.top_k_copy_score(model, *case) for case in cases]
    for (layer, head, k), got in zip(cases, shares):
        M = ov_table(model, layer, head).tolist()
        share = sum(sorted(row, reverse=True)[:k][-1] <= row[a] for a, row in enumerate(M)) / 23
        expect(got, share, f"the share for head {head} in layer {layer} and k = {k}")


@exercise("top_k_copy_score", points=1)
def test_a_table_that_only_copies_and_one_that_never_does(submission, rng):
    n = 7
    M = torch.rand(n, n, generator=rng)
    copies, avoids = M + 2 * torch.eye(n), M - 2 * torch.eye(n)
    most, least = (submission.top_k_copy_score(model_of_table(table), 0, 0, k) for table, k in ((copies, 2), (avoids, n - 1)))
    expect(most, 1.0, "the share where each token is raised most by itself")
    expect(least, 0.0, "the share where each token is raised least by itself")


# copying_heads, anti_copying_head -----------------------------------------------------------


def trained_copying_scores(order):
    """Of the trained model, with its heads in another order."""
    model = trained()
    tables = [(model.W_O[0, h] @ model.W_U) @ (model.W_E @ model.W_V[0, h]) for h in order]
    return [score_of_table(small) for small in tables]


def check_heads(got, want, n_heads, what):
    got = set(ids(got, "The answer", n_heads))
    wrong, missing = sorted(got - want), sorted(want - got)
    require(not wrong, f"In {what}, your answer holds {wrong}, which should not be in it.")
    require(not missing, f"In {what}, your answer {sorted(got)} leaves out {len(missing)} of the {len(want)} that should be in it.")


@exercise("copying_heads", points=1)
def test_finds_them_in_the_trained_model_in_any_order(submission, rng):
    as_it_was = {h for h, score in enumerate(trained_copying_scores(range(8))) if score > 0.5}
    want = as_it_was
    while want == as_it_was:
        model, order = reordered(rng, trained())
        want = {h for h, score in enumerate(trained_copying_scores(order[0])) if score > 0.5}
    check_heads(submission.copying_heads(model), want, 8, "the trained model with its heads shuffled")


@exercise("copying_heads", points=1)
def test_finds_them_in_a_model_made_for_this_check(submission, rng):
    signs = [1, -1, 0, 1, 0, -1]
    for _ in range(3):
        order = torch.randperm(6, generator=rng).tolist()
        model = planted(rng, [core(rng, signs[i]) for i in order])
        want = {h for h, i in enumerate(order) if signs[i] == 1}
        check_heads(submission.copying_heads(model), want, 6, "a model made with two copying heads")
    # Scores of 0.6, 0.4, 0.77 and 0.26; of the last two, most eigenvalues have the other sign.
    spectra = [[1, 1, 1, 0.6, -0.9], [1, 1, 1, -0.4, -0.9], [4, 0.3, 0.3, -0.3, -0.3], [-2, 1, 0.9, 0.8, 0.7]]
    order = torch.randperm(4, generator=rng).tolist()
    model = planted(rng, [with_eigenvalues(rng, spectra[i]) for i in order])
    want = {order.index(0), order.index(2)}
    check_heads(submission.copying_heads(model), want, 4, "a model whose heads score 0.6, 0.4, 0.77 and 0.26")


def eigenvalues_against_diagonal(rng, sign):
    """A model of five heads in its first layer, and their kinds. Kind 0 has the sign by its eigenvalues and not
    by its diagonal, kind 1 by its diagonal and not by its eigenvalues, kind 2 by neither."""
    pairs = torch.tensor([
        [[5.0, 4.5], [-3.5, -3.0]],  # eigenvalues 0.5 and 1.5
        [[1.0, 5.0], [-5.0, 1.0]],  # eigenvalues 1 + 5i and 1 - 5i
        [[-2.0, 0.5], [0.5, -1.0]],
    ])
    model = Transformer(Config(6, 6, 3, 5, 6, 4)).requires_grad_(False)
    model.W_E.copy_(torch.eye(6))
    model.W_U.copy_(torch.eye(6))
    attn = model.blocks[0].attn
    attn.W_V.copy_(torch.eye(6).expand(5, 6, 6))
    kinds, tokens = [0, 1, 1, 2, 2], torch.randperm(6, generator=rng)
    kinds = [kinds[i] for i in torch.randperm(5, generator=rng)]
    for h, kind in enumerate(kinds):
        scales = (0.5 + torch.rand(3, generator=rng)).tolist()
        attn.W_O[h] = sign * torch.block_diag(*(scale * pairs[kind] for scale in scales))[tokens][:, tokens]
    return model, kinds


@exercise("copying_heads", points=1)
def test_goes_by_eigenvalues_where_the_diagonal_says_otherwise(submission, rng):
    answers = []
    for _ in range(3):
        model, kinds = eigenvalues_against_diagonal(rng, 1)
        answers.append((submission.copying_heads(model), {kinds.index(0)}))
    for got, want in answers:
        check_heads(got, want, 5, "a model where the diagonal says otherwise than the eigenvalues")


@exercise("copying_heads", points=1)
def test_finds_none_where_there_are_none(submission, rng):
    model = planted(rng, [core(rng, sign) for sign in (0, -1, 0, -1, 0)])
    check_heads(submission.copying_heads(model), set(), 5, "a model made without copying heads")
    model = planted(rng, [core(rng, sign) for sign in (1, 1, 1, 1)])
    check_heads(submission.copying_heads(model), {0, 1, 2, 3}, 4, "a model made of copying heads only")


def check_anti(got, scores, what):
    number = got.item() if isinstance(got, torch.Tensor) and got.ndim == 0 else got
    whole = isinstance(number, int | float) and not isinstance(number, bool) and float(number).is_integer()
    require(whole, f"The answer should be one whole number, that of the head; it is {describe(number)}.")
    got = ids([number], "The answer", len(scores))[0]
    low = scores.index(min(scores))
    require(
        got == low,
        f"In {what}, head {got} has a copying score of {scores[got]:+.2f}; another head has {min(scores):+.2f}.",
    )


@exercise("anti_copying_head", points=1)
def test_finds_it_in_the_trained_model_in_any_order(submission, rng):
    for _ in range(3):  # once, one answer in eight is right by luck
        model, order = reordered(rng, trained())
        got = submission.anti_copying_head(model)
        check_anti(got, trained_copying_scores(order[0]), "the trained model with its heads shuffled")


@exercise("anti_copying_head", points=1)
def test_finds_it_in_a_model_made_for_this_check(submission, rng):
    signs = [1, -1, 0, 1, 0, 1]
    answers = []
    for _ in range(6):  # all answers before the first verdict: more to tell mistakes apart by
        order = torch.randperm(6, generator=rng).tolist()
        model = planted(rng, [core(rng, signs[i]) for i in order])
        answers.append((submission.anti_copying_head(model), model))
    for got, model in answers:
        scores = [score_of_table(ov_table(model, 0, h)) for h in range(6)]
        check_anti(got, scores, "a model made with one head that avoids copying")


@exercise("anti_copying_head", points=1)
def test_small_eigenvalues_can_be_the_most_negative_on_balance(submission, rng):
    # A balance, not a sum: head 1 has large eigenvalues of both signs, head 2 small ones, all negative.
    both = torch.diag(torch.tensor([9.0, -12.0, 8.0, -9.0]))
    cores = [core(rng, 1), both, 0.05 * core(rng, -1), core(rng, 0)]
    # Nor a count: one large negative one outweighs three small positive ones.
    one_large, many = (with_eigenvalues(rng, values) for values in ([-5, 0.3, 0.3, 0.3], [-1, -1, -1, 1.2]))
    answers = []
    for i in range(6):
        order = torch.randperm(4, generator=rng).tolist()
        if i == 4:
            cores = [core(rng, 1), one_large, many, core(rng, 0)]
        model = planted(rng, [cores[i] for i in order])
        answers.append((submission.anti_copying_head(model), model))
    for got, model in answers:
        scores = [score_of_table(ov_table(model, 0, h)) for h in range(4)]
        check_anti(got, scores, "a model where one head's eigenvalues are small and all negative")
    # What a head does to all logits alike counts, too: without it the lowest of these would copy.
    turn = torch.block_diag(*(scale * torch.tensor([[-0.3, 1.0], [-1.0, -0.3]]) for scale in (0.7, 1.0, 1.4)))
    tables = [torch.eye(6) - 3, turn, torch.diag(0.5 + torch.rand(6, generator=rng))]
    order = torch.randperm(3, generator=rng).tolist()
    got = submission.anti_copying_head(model_of_table(*(tables[i] for i in order)))
    scores = [score_of_table(tables[i]) for i in order]
    check_anti(got, scores, "a model in which a head lowers all logits")


@exercise("anti_copying_head", points=1)
def test_goes_by_eigenvalues_where_the_diagonal_is_lower(submission, rng):
    answers = []
    for _ in range(4):
        model, _ = eigenvalues_against_diagonal(rng, -1)
        answers.append((submission.anti_copying_head(model), model))
    for got, model in answers:
        scores = [score_of_table(ov_table(model, 0, h)) for h in range(5)]
        check_anti(got, scores, "a model where the diagonal says otherwise than the eigenvalues")


# positional_heads ---------------------------------------------------------------------------


def slow_overlaps(model, tokens):
    """Mean overlap of each head's pattern with the one that positions alone would give."""
    _, cache = model.run_with_cache(tokens)
    n = tokens.shape[1]
    overlaps = []
    for h in range(model.cfg.n_heads):
        query, key = model.W_pos[:n] @ model.W_Q[0, h], model.W_pos[:n] @ model.W_K[0, h]
        scores = (query @ key.T / math.sqrt(model.cfg.d_head)).double()
        rows = [scores[i, : i + 1].softmax(-1) for i in range(n)]
        pattern = cache["pattern", 0][:, h].double()
        shared = [torch.minimum(pattern[:, i, : i + 1], row).sum(-1) for i, row in enumerate(rows)]
        overlaps.append(float(torch.stack(shared).mean()))
    return overlaps


def check_positional(got, model, tokens, what):
    got = set(ids(got, "The answer", model.cfg.n_heads))
    for head, overlap in enumerate(slow_overlaps(model, tokens)):
        if abs(overlap - 0.7) < 1e-3:
            continue  # too close to call
        require(
            (overlap > 0.7) == (head in got),
            f"In {what}, the overlap of head {head} is {overlap:.3f}, so it should "
            f"{'' if overlap > 0.7 else 'not '}be in your answer {sorted(got)}.",
        )


def half_positional(rng, n_ctx=12):
    """A model in which some heads of layer 0 read little but positions and the others little but tokens."""
    model = random_model(rng, d_vocab=13, d_model=8, n_heads=5, d_head=7, n_ctx=n_ctx)
    model.W_E[:, :4], model.W_E[:, 4:] = normal(rng, 13, 4, scale=2.0), 0.0
    attn = model.blocks[0].attn
    order = torch.randperm(5, generator=rng).tolist()
    for place, h in enumerate(order):
        attn.W_Q[h], attn.W_K[h] = normal(rng, 8, 7), normal(rng, 8, 7)
        if place < 2:  # reads the half of the dimensions where no token writes
            attn.W_Q[h, :4], attn.W_K[h, :4] = 0.0, 0.0
    return model


def near_the_limit(rng, tokens, overlaps):
    """A model whose heads have these overlaps on these texts, in any order: as tokens add more to their scores,
    they overlap less."""
    model = random_model(rng, d_vocab=13, d_model=8, n_heads=len(overlaps), d_head=7, n_ctx=12)
    model.W_E[:, :4], model.W_E[:, 4:] = normal(rng, 13, 4, scale=2.0), 0.0
    model.W_pos[:, :4], model.W_pos[:, 4:] = 0.0, normal(rng, 12, 4)
    attn, wanted = model.blocks[0].attn, torch.tensor(overlaps)[torch.randperm(len(overlaps), generator=rng)]
    W_Q, W_K = attn.W_Q[:, :4].clone(), attn.W_K[:, :4].clone()
    low, high = torch.zeros(len(overlaps), 1, 1), torch.full((len(overlaps), 1, 1), 8.0)
    for _ in range(15):
        middle = (low + high) / 2
        attn.W_Q[:, :4], attn.W_K[:, :4] = middle * W_Q, middle * W_K
        above = (torch.tensor(slow_overlaps(model, tokens)) > wanted)[:, None, None]
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return model


@exercise("positional_heads", points=1)
def test_finds_them_in_a_trained_model_whose_heads_are_shuffled(submission, rng):
    tokens = pieces_of_code(rng, 4, 64)
    model, order = reordered(rng, trained())
    positional = {h for h, overlap in enumerate(slow_overlaps(trained(), tokens)) if overlap > 0.7}
    while {h for h, old in enumerate(order[0]) if old in positional} == positional:
        model, order = reordered(rng, trained())
    got = submission.positional_heads(model, tokens)
    check_positional(got, model, tokens, "the trained model with its heads shuffled")


@exercise("positional_heads", points=1)
def test_finds_the_heads_that_tokens_do_not_move(submission, rng):
    model = half_positional(rng)
    tokens = random_tokens(rng, model, batch=4, pos=10)
    got = submission.positional_heads(model, tokens)
    check_positional(got, model, tokens, "a model made with positional heads")
    # In a text of one token alone every head goes by position.
    alike = torch.randint(model.cfg.d_vocab, (9, 1), generator=rng).expand(9, 10)
    for texts in (torch.cat([alike[:1], tokens]), torch.cat([tokens[:1], alike])):
        got = submission.positional_heads(model, texts)
        check_positional(got, model, texts, "a model made with positional heads, where some texts repeat one token")
    # Close to the limit, every position and every text decides.
    cases = []
    for pos in (6, 9):
        tokens = random_tokens(rng, model, batch=3, pos=pos)
        close = near_the_limit(rng, tokens, [0.69, 0.71, 0.68, 0.72, 0.4])
        cases.append((submission.positional_heads(close, tokens), close, tokens))
    for got, close, tokens in cases:
        check_positional(got, close, tokens, "a model of heads on either side of the limit")


@exercise("positional_heads", points=1)
def test_sharp_attention_need_not_be_positional(submission, rng):
    sharp = half_positional(rng)
    sharp.blocks[0].attn.W_Q.mul_(3.0)
    even = copy.deepcopy(sharp)
    even.blocks[0].attn.W_Q.mul_(0.001)  # attends to all tokens alike, as positions alone would
    tokens = random_tokens(rng, sharp, batch=4, pos=12)
    cases = (
        (sharp, tokens, "a model whose heads all attend sharply"),
        (even, tokens, "a model whose heads all attend evenly"),
        (even, tokens[:, :2], "a model whose heads all attend evenly, on texts of two tokens"),
    )
    answers = [submission.positional_heads(model, tokens) for model, tokens, _ in cases]
    for got, case in zip(answers, cases):  # all answers before the first verdict: more to tell mistakes apart by
        check_positional(got, *case)


# forced_skip_trigrams -----------------------------------------------------------------------


def slow_effects(model, head, a1, b1, a2, b2):
    W_E, d_vocab = model.W_E.double(), model.cfg.d_vocab
    W_Q, W_K, W_V, W_O = (W[0, head].double() for W in (model.W_Q, model.W_K, model.W_V, model.W_O))
    effects = torch.zeros(2, 2, d_vocab)
    for i, a in enumerate((a1, a2)):
        for j, b in enumerate((b1, b2)):
            row = [float((W_E[b] @ W_Q) @ (W_E[s] @ W_K)) / math.sqrt(model.cfg.d_head) for s in range(d_vocab)]
            pull = math.exp(row[a] - sum(row) / d_vocab)
            effects[i, j] = pull * (W_E[a] @ W_V @ W_O @ model.W_U.double())
    return effects


@exercise("forced_skip_trigrams", points=1)
def test_an_effect_is_pull_times_output(submission, rng):
    model = random_model(rng)
    a1, b1, a2, b2 = torch.randperm(11, generator=rng)[:4].tolist()
    for head in (0, 4):
        want = slow_effects(model, head, a1, b1, a2, b2)
        got = submission.forced_skip_trigrams(model, head, a1, b1, a2, b2)
        expect(got, want, f"the effects of head {head} for sources {a1}, {a2} and destinations {b1}, {b2}", rtol=1e-3)


@exercise("forced_skip_trigrams", points=1)
def test_one_source_forces_the_crossed_rules(submission, rng):
    model = random_model(rng, n_heads=2)
    a, b1, b2 = torch.randperm(11, generator=rng)[:3].tolist()
    want = slow_effects(model, 1, a, b1, a, b2)
    got = submission.forced_skip_trigrams(model, 1, a, b1, a, b2)
    expect(got, want, f"the effects for the one source {a} and destinations {b1}, {b2}", rtol=1e-3)
    ratio, of_pulls = got[0, 0] / got[0, 1], want[0, 0, 0] / want[0, 1, 0]
    expect(ratio, of_pulls.expand(11), "effect[0, 0] over effect[0, 1], the same for every output,", rtol=1e-2)


@exercise("forced_skip_trigrams", points=1)
def test_a_pull_is_relative_to_the_average_source(submission, rng):
    model = random_model(rng)
    attn = model.blocks[0].attn
    attn.W_K.zero_()  # all scores are 0: every pull is 1
    a1, b1, a2, b2 = torch.randperm(11, generator=rng)[:4].tolist()
    rows = ov_table(model, 0, 1)[[a1, a2]]
    want = rows[:, None].expand(2, 2, 11)
    got = submission.forced_skip_trigrams(model, 1, a1, b1, a2, b2)
    expect(got, want, "the effects of a head that attends to all tokens alike", atol=1e-4)


# skip_trigram_costs -------------------------------------------------------------------------


def text_of(rng, batch, pos, d_vocab, source):
    """Tokens in which the source occurs in every text, logits, and a causal pattern."""
    tokens = torch.randint(d_vocab, (batch, pos), generator=rng)
    tokens[:, 1] = source
    logits = normal(rng, batch, pos, d_vocab, scale=1.5)
    return tokens, logits, random_patterns(rng, batch, pos, pos)


def slow_costs(tokens, logits, pattern, ov_row, source):
    """Take each effect away, one at a time, and compute the loss anew."""
    d_vocab = len(ov_row)
    costs = torch.zeros(d_vocab, d_vocab, dtype=torch.float64)
    for text, rows, weights in zip(tokens, logits.double(), pattern.double()):
        for i in range(len(text) - 1):
            alpha = sum(float(weights[i, j]) for j in range(len(text)) if text[j] == source)
            loss = torch.logsumexp(rows[i], -1) - rows[i, text[i + 1]]
            for c in range(d_vocab):
                without = rows[i].clone()
                without[c] -= alpha * float(ov_row[c])
                costs[text[i], c] += loss - (torch.logsumexp(without, -1) - without[text[i + 1]])
    return costs


@exercise("skip_trigram_costs", points=1)
def test_is_the_loss_less_the_loss_without(submission, rng):
    tokens, logits, pattern = text_of(rng, 3, 6, 7, source=4)
    ov_row = normal(rng, 7, scale=2.0)
    want = slow_costs(tokens, logits, pattern, ov_row, 4)
    got = submission.skip_trigram_costs(tokens, logits, pattern, ov_row, 4)
    expect(got, want, "the costs of all rules with source 4", rtol=1e-3, atol=1e-4)


@exercise("skip_trigram_costs", points=1)
def test_all_occurrences_of_the_source_count(submission, rng):
    tokens, logits, pattern = text_of(rng, 3, 8, 5, source=2)
    tokens[:, 4:6] = 2
    ov_row = normal(rng, 5, scale=2.0)
    want = slow_costs(tokens, logits, pattern, ov_row, 2)
    got = submission.skip_trigram_costs(tokens, logits, pattern, ov_row, 2)
    expect(got, want, "the costs where the source occurs three times and more in each text", rtol=1e-3, atol=1e-4)


@exercise("skip_trigram_costs", points=1, explains=True)
def test_three_tokens_at_equal_odds(submission, rng):
    # Positions 0, 1, 2 hold tokens 0, 1, 2. Position 1 attends to position 0 with weight 1/2, where the
    # source raises token 2, which comes next, by 2 log 2: it doubles the odds that it would have had.
    pattern = torch.tensor([[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]])
    ov_row = torch.tensor([0.0, 0.0, 2 * math.log(2.0)])
    logits = torch.tensor([[[0.0, 0.0, -50.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    got = submission.skip_trigram_costs(torch.tensor([[0, 1, 2]]), logits, pattern, ov_row, 0)
    want = torch.zeros(3, 3)
    want[1, 2] = math.log(3.0) - math.log(5.0)
    expect(got, want, "the costs in a text of three tokens", atol=1e-4)


@exercise("skip_trigram_costs", points=1)
def test_costs_nothing_where_the_source_is_not(submission, rng):
    tokens, logits, pattern = text_of(rng, 3, 6, 7, source=3)
    tokens[tokens == 5] = 6
    tokens[:, -1] = 5  # the source comes last, and what follows is unknown
    ov_row = normal(rng, 7)
    got = submission.skip_trigram_costs(tokens, logits, pattern, ov_row, 5)
    expect(got, torch.zeros(7, 7), "the costs of a source that occurs only at the end of the texts")
    got = torch.as_tensor(submission.skip_trigram_costs(tokens, logits, pattern, ov_row, 3))
    require(bool(got.abs().max() > 1e-3), "All costs are 0, though the source 3 occurs in every text.")


# worst_crossing -----------------------------------------------------------------------------


def slow_crossing(costs):
    n = len(costs)
    bad = {
        (b1, b2, c): min(float(costs[b2, c]), -float(costs[b1, c]))
        for b1 in range(n) for b2 in range(n) for c in range(n)
    }
    return bad, max(bad.values())


def check_crossing(submission, costs):
    got = submission.worst_crossing(costs)
    got = ids(got, "The answer (b1, b2, c)", len(costs))
    require(len(got) == 3, f"The answer should be three numbers, (b1, b2, c); yours are {len(got)}.")
    b1, b2, c = got
    bad, worst = slow_crossing(costs)
    require(
        bad[b1, b2, c] > worst - 1e-5,
        f"Your crossing (b1, b2, c) = ({b1}, {b2}, {c}) saves {-costs[b1, c]:.3f} at b1 and costs "
        f"{costs[b2, c]:.3f} at b2: as bad as {bad[b1, b2, c]:.3f}. There is one as bad as {worst:.3f}.",
    )


@exercise("worst_crossing", points=1)
def test_finds_the_worst_of_a_small_table(submission, rng):
    check_crossing(submission, normal(rng, 6, 6))
    check_crossing(submission, normal(rng, 8, 8) ** 3)


@exercise("worst_crossing", points=1)
def test_saving_and_cost_belong_to_one_output(submission, rng):
    for _ in range(2):
        costs = 0.01 * normal(rng, 6, 6)
        order = torch.randperm(6, generator=rng).tolist()
        costs[order[0], order[1]], costs[order[2], order[3]] = 9.0, -8.0  # the extremes, in two columns
        costs[order[4], order[5]], costs[order[1], order[5]] = 2.0, -1.0
        check_crossing(submission, costs)


@exercise("worst_crossing", points=1)
def test_is_as_bad_as_the_smaller_side(submission, rng):
    for _ in range(2):
        costs = 0.01 * normal(rng, 5, 5)
        c1, c2, c3, c4, c5 = torch.randperm(5, generator=rng).tolist()
        rows = torch.randperm(5, generator=rng).tolist()
        costs[:, c4] = 10 + normal(rng, 5)  # harms everywhere, and saves nowhere
        costs[:, c5] = normal(rng, 5) - 10
        costs[rows[0], c1], costs[rows[1], c1] = 17.0, -1.0  # costs most, saves little
        costs[rows[2], c2], costs[rows[3], c2] = 0.4, -9.0  # saves much, costs little
        costs[rows[4], c3], costs[rows[0], c3] = 1.2, -1.5
        check_crossing(submission, costs)


# ablate_head, head_importance ---------------------------------------------------------------


def without_head(model, layer, head):
    """A copy of the model in which a head has nothing to write with."""
    new = copy.deepcopy(model)
    new.blocks[layer].attn.W_O[head] = 0.0
    return new


def slow_loss(model, tokens):
    log_probs = model(tokens).double().log_softmax(-1)
    batch, pos = tokens.shape
    losses = [-log_probs[b, i, tokens[b, i + 1]] for b in range(batch) for i in range(pos - 1)]
    return float(sum(losses) / len(losses))


@exercise("ablate_head", points=1)
def test_is_a_model_in_which_the_head_writes_nothing(submission, rng):
    model = random_model(rng, n_layers=1)
    tokens = random_tokens(rng, model)
    for head in range(5):
        got = submission.ablate_head(model, tokens, 0, head)
        expect(got, without_head(model, 0, head)(tokens), f"the logits without head {head}", atol=1e-4)


@exercise("ablate_head", points=1)
def test_later_layers_see_that_it_is_gone(submission, rng):
    model = random_model(rng)
    tokens = random_tokens(rng, model)
    for layer, head in ((0, 1), (1, 4), (2, 0)):
        got = submission.ablate_head(model, tokens, layer, head)
        want = without_head(model, layer, head)(tokens)
        expect(got, want, f"the logits without head {head} of layer {layer}", atol=1e-3)


@exercise("ablate_head", points=1)
def test_takes_one_path_out_of_one_layer(submission, rng):
    model = random_model(rng, n_layers=1)
    tokens = random_tokens(rng, model)
    _, cache = model.run_with_cache(tokens)
    got = submission.ablate_head(model, tokens, 0, 1)
    want = model(tokens) - cache["result", 0][:, :, 1] @ model.W_U
    expect(got, want, "the logits less the path of the head", atol=1e-4)


def importance_of(submission, model, tokens):
    got, shape = submission.head_importance(model, tokens), (model.cfg.n_layers, model.cfg.n_heads)
    require(
        isinstance(got, torch.Tensor) and got.shape == shape,
        f"The answer should be a tensor of shape {list(shape)}, a row for each layer; it is {describe(got)}."
        + " Make a tensor of it: `torch.tensor(...)`." * isinstance(got, list | tuple),
    )
    return got


def check_importance(submission, model, tokens):
    layers, heads = range(model.cfg.n_layers), range(model.cfg.n_heads)
    base = slow_loss(model, tokens)
    want = [[slow_loss(without_head(model, layer, h), tokens) - base for h in heads] for layer in layers]
    got = importance_of(submission, model, tokens)
    expect(got, want, "the extra loss by layer and head", rtol=1e-3, atol=1e-4)


@exercise("head_importance", points=1)
def test_is_the_extra_loss_of_each_head(submission, rng):
    model = random_model(rng, n_layers=1)
    check_importance(submission, model, random_tokens(rng, model, batch=3))


@exercise("head_importance", points=1)
def test_covers_every_layer(submission, rng):
    model = random_model(rng)
    check_importance(submission, model, random_tokens(rng, model))


@exercise("head_importance", points=1)
def test_a_head_that_writes_nothing_is_worth_nothing(submission, rng):
    model = random_model(rng, n_layers=1)
    idle = integer(rng, 0, 4)
    model = without_head(model, 0, idle)
    tokens = random_tokens(rng, model)
    got = importance_of(submission, model, tokens)
    expect(got[0, idle], 0.0, "the extra loss of a head that writes nothing", atol=1e-5)
    check_importance(submission, model, tokens)
