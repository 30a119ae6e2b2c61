"""Checks of chapter 0. Each says in its name what must be true of an answer."""

import copy
import dataclasses
import functools
import math

import torch

from circuits.checking import describe, exercise, expect, fail, require, whole_numbers
from circuits.inputs import integer, invertible, normal, orthogonal, random_model, random_tokens
from circuits.symmetries import ALL, symmetric
from utils.model import Transformer
from utils.pretrained import load_model

COINCIDENCES = {
    ("strongest_wire", "n_layers is always 2"): "wires from layer 0 to layer 1 are what is asked for",
}

SYMMETRIES = {
    "split_heads": "it cuts a row in the order in which the heads lie side by side",
    "residual_parts": symmetric("regauge rotate vocabulary constant"),
    "cross_entropy_nats": symmetric("vocabulary constant"),
    "bilinear": symmetric("rotate", M="d_model d_model", x="batch d_model", y="batch d_model"),
    "adjoint_attention": symmetric("regauge rotate", W_Q="d_model d_q", W_K="d_model d_k"),
    "regauge": symmetric("rotate"),
    "survives_regauging": "its argument is names",
    "kron_apply": symmetric("rotate", W="d_model d_model", X="src d_model", returns="dest d_model"),
    "positions_reached": symmetric("rotate", W="d_model d_model"),
    "predict_ranks": "its arguments are sizes",
    "truncate_rank": symmetric("rotate", M="d_model d_model", returns="d_model d_model"),
    "read_strength": symmetric("rotate"),
    "strength_ceiling": symmetric("rotate"),
    "strongest_wire": symmetric(ALL, returns=("head 0", "head 1", None)),
    "mlp_as_neurons": symmetric("rotate"),
}


@functools.cache
def trained():
    """The shipped two-layer model."""
    return load_model("two_layer").requires_grad_(False)


# split_heads --------------------------------------------------------------------------------


@exercise("split_heads", points=1, explains=True)
def test_the_first_head_has_the_first_numbers(submission, rng):
    x = torch.arange(1.0, 7.0).reshape(1, 1, 6)
    got = submission.split_heads(x, 2)
    expect(got, [[[[1, 2, 3], [4, 5, 6]]]], "1 2 3 4 5 6, split into 2 heads,")
    got = submission.split_heads(x, 3)
    expect(got, [[[[1, 2], [3, 4], [5, 6]]]], "1 2 3 4 5 6, split into 3 heads,")


@exercise("split_heads", points=1)
def test_every_number_stays_at_its_batch_and_position(submission, rng):
    x = normal(rng, 5, 7, 18)
    want = [[[[row[6 * h + d] for d in range(6)] for h in range(3)] for row in rows] for rows in x.tolist()]
    expect(submission.split_heads(x, 3), want, "18 numbers at 5 x 7 places, split into 3 heads,")


@exercise("split_heads", points=1)
def test_gives_the_values_of_a_trained_model(submission, rng):
    model = trained()
    tokens = random_tokens(rng, model, batch=3, pos=5)
    _, cache = model.run_with_cache(tokens, names_filter=["hook_embed", "blocks.0.attn.hook_v"])
    side_by_side = torch.cat(list(model.W_V[0]), dim=-1)
    got = submission.split_heads(cache["embed"] @ side_by_side, model.cfg.n_heads)
    expect(got, cache["v", 0], "the values of layer 0 of the two-layer model", atol=1e-4)


# residual_parts -----------------------------------------------------------------------------


def parts_of(submission, model, tokens):
    n = 1 + model.cfg.n_layers * model.cfg.n_heads
    parts = submission.residual_parts(model, tokens)
    require(
        len(parts) == n,
        f"A model of {model.cfg.n_layers} layers of {model.cfg.n_heads} heads has {n} parts, the embedding "
        f"and each head; yours are {len(parts)}.",
    )
    return parts


@exercise("residual_parts", points=1)
def test_the_parts_sum_to_the_stream(submission, rng):
    for n_layers in (3, 2):
        model = random_model(rng, n_layers=n_layers)
        tokens = random_tokens(rng, model)
        want = model.run_with_cache(tokens)[1]["resid_post", -1]
        parts = parts_of(submission, model, tokens)
        expect(parts.sum(0), want, f"the sum of the parts, with {n_layers} layers,", atol=1e-4)


@exercise("residual_parts", points=1)
def test_the_embedding_comes_first(submission, rng):
    model = random_model(rng)
    tokens = random_tokens(rng, model)
    want = torch.stack([torch.stack([model.W_E[t] for t in row]) for row in tokens])
    expect(parts_of(submission, model, tokens)[0], want, "the first part, the embedding,")
    empty = random_model(rng, n_layers=0)
    got = submission.residual_parts(empty, tokens)
    expect(got, empty.W_E[tokens][None], "the parts of a model without layers")


@exercise("residual_parts", points=1)
def test_every_head_is_in_its_place(submission, rng):
    model = random_model(rng)
    tokens = random_tokens(rng, model)
    parts = parts_of(submission, model, tokens)

    def layer_output(layer, fwd_hooks):
        name, seen = f"blocks.{layer}.hook_attn_out", []
        model.run_with_hooks(tokens, fwd_hooks=[*fwd_hooks, (name, lambda x, hook: seen.append(x))])
        return seen[0]

    for layer in range(model.cfg.n_layers):
        whole = layer_output(layer, [])
        for head in range(model.cfg.n_heads):

            def silence(z, hook, head=head):
                z = z.clone()
                z[:, :, head] = 0
                return z

            without = layer_output(layer, [(f"blocks.{layer}.attn.hook_z", silence)])
            place = 1 + model.cfg.n_heads * layer + head
            what = f"part {place}, which is what head {layer}.{head} adds,"
            expect(parts[place], whole - without, what, atol=1e-4)


@exercise("residual_parts", points=1)
def test_the_parts_of_a_trained_model_make_its_logits(submission, rng):
    model = trained()
    tokens = random_tokens(rng, model, batch=1, pos=6)
    parts = parts_of(submission, model, tokens)
    got = sum(part.double() @ model.W_U.double() for part in parts)
    expect(got, model(tokens), "the sum of all parts' logits, in the two-layer model,", atol=1e-3)


# cross_entropy_nats -------------------------------------------------------------------------


def slow_loss(logits, tokens):
    losses = []
    for rows, ids in zip(logits.double().tolist(), tokens.tolist()):
        for row, target in zip(rows[:-1], ids[1:]):
            top = max(row)
            losses.append(top + math.log(sum(math.exp(x - top) for x in row)) - row[target])
    return sum(losses) / len(losses)


@exercise("cross_entropy_nats", points=1, explains=True)
def test_two_tokens_by_hand(submission, rng):
    # After token 0 the model gives 1/4 to token 0 and 3/4 to token 1; what it says last has no target.
    logits = torch.tensor([[[0.0, math.log(3)], [5.0, -5.0]]])
    got = submission.cross_entropy_nats(logits, torch.tensor([[0, 1]]))
    expect(got, math.log(4 / 3), "the loss where the token that came had a probability of 3/4")
    got = submission.cross_entropy_nats(logits, torch.tensor([[1, 0]]))
    expect(got, math.log(4), "the loss where the token that came had a probability of 1/4")


@exercise("cross_entropy_nats", points=1)
def test_is_the_mean_over_all_predictions(submission, rng):
    logits = 3 * normal(rng, 3, 5, 7)
    tokens = torch.randint(7, (3, 5), generator=rng)
    want = slow_loss(logits, tokens)
    expect(submission.cross_entropy_nats(logits, tokens), want, "the loss of random logits on 3 texts of 5 tokens")


@exercise("cross_entropy_nats", points=1)
def test_large_logits_do_no_harm(submission, rng):
    logits = 80 * normal(rng, 2, 4, 6)
    tokens = torch.randint(6, (2, 4), generator=rng)
    logits[0, 0, tokens[0, 1]] = logits[0, 0].max() - 300
    got = submission.cross_entropy_nats(logits, tokens)
    expect(got, slow_loss(logits, tokens), "the loss of logits that differ by hundreds")


@exercise("cross_entropy_nats", points=1)
def test_is_the_loss_of_a_trained_model(submission, rng):
    model = trained()
    words = ("name", "value", "line", "key", "path", "data", "index", "result", "error", "args", "node", "item")
    one, all_, then = (words[i] for i in torch.randperm(len(words), generator=rng)[:3])
    tokens = model.to_tokens(f"for {one} in {all_}:\n    {then} = print({one})\n")
    logits = model(tokens)
    expect(submission.cross_entropy_nats(logits, tokens), slow_loss(logits, tokens), "the two-layer model's loss")


# bilinear -----------------------------------------------------------------------------------


@exercise("bilinear", points=1)
def test_picks_one_entry_for_two_unit_vectors(submission, rng):
    M = normal(rng, 3, 3)
    a, b = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 2, 0, 2])
    eye = torch.eye(3)
    what = "the form for unit vectors, x in directions 0 1 2 2, y in 1 2 0 2,"
    expect(submission.bilinear(M, eye[a], eye[b]), M[a, b], what)


@exercise("bilinear", points=1)
def test_is_the_sum_over_all_pairs_of_entries(submission, rng):
    for d_x, d_y in ((4, 4), (3, 5)):
        M, x, y = normal(rng, d_x, d_y), normal(rng, 6, d_x), normal(rng, 6, d_y)
        want = [
            sum(x[i, a].item() * M[a, b].item() * y[i, b].item() for a in range(d_x) for b in range(d_y))
            for i in range(6)
        ]
        what = f"the form for 6 pairs of vectors of lengths {d_x} and {d_y}"
        expect(submission.bilinear(M, x, y), want, what)


@exercise("bilinear", points=1)
def test_gives_a_trained_heads_scores(submission, rng):
    model, head = trained(), int(torch.randint(8, (1,), generator=rng))
    tokens = random_tokens(rng, model, batch=1, pos=6)
    _, cache = model.run_with_cache(tokens, names_filter=["hook_embed", "blocks.0.attn.hook_attn_scores"])
    x = cache["embed"][0] + model.W_pos[:6]
    dest, src = torch.tensor([5, 4, 2]), torch.tensor([1, 3, 2])
    # Between query and key's token: a matrix of W_Q W_K^T's size would take a loop seconds.
    query, M = x[dest] @ model.W_Q[0, head], model.W_K[0, head].T
    got = submission.bilinear(M, query, x[src]) / math.sqrt(model.cfg.d_head)
    what = f"the score of head 0.{head}, made from queries, its W_K^T and the stream at the source,"
    expect(got, cache["attn_scores", 0][0, head, dest, src], what, atol=1e-3)


# adjoint_attention --------------------------------------------------------------------------


@exercise("adjoint_attention", points=1, explains=True)
def test_one_dimension_by_hand(submission, rng):
    W_Q, W_K = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [5.0]])
    want = [[3, 5], [6, 10]]
    expect(submission.adjoint_attention(W_Q, W_K), want, "M for W_Q [[1],[2]] and W_K [[3],[5]]")


@exercise("adjoint_attention", points=1)
def test_makes_every_score(submission, rng):
    W_Q, W_K = normal(rng, 5, 3), normal(rng, 5, 3)
    M = submission.adjoint_attention(W_Q, W_K)
    for _ in range(4):
        x, y = normal(rng, 5), normal(rng, 5)
        want = torch.dot(x @ W_Q, y @ W_K)
        expect(x @ M.float() @ y, want, "x M y for random x and y, which should be the score (x W_Q) . (y W_K),")


@exercise("adjoint_attention", points=1)
def test_holds_for_a_trained_head(submission, rng):
    model, head = trained(), int(torch.randint(8, (1,), generator=rng))
    tokens = random_tokens(rng, model, batch=1, pos=5)
    _, cache = model.run_with_cache(tokens, names_filter=["blocks.1.hook_resid_pre", "blocks.1.attn.hook_attn_scores"])
    x = cache["resid_pre", 1][0] + model.W_pos[:5]
    M = submission.adjoint_attention(model.W_Q[1, head], model.W_K[1, head])
    got = (x @ M.float() @ x.T / math.sqrt(model.cfg.d_head)).tril()
    want = cache["attn_scores", 1][0, head].clamp(min=-1e9).tril()
    expect(got, want, f"x M x^T / sqrt(d_head), which should be the scores of head 1.{head},", atol=2e-3)


# regauge ------------------------------------------------------------------------------------


def two_matrices(got, names, old):
    """The two matrices of an answer; fails unless they are as large as the old ones."""
    require(
        isinstance(got, tuple | list) and len(got) == 2,
        f"The answer should be two matrices, the new {names[0]} and the new {names[1]}; it is {describe(got)}.",
    )
    for W, name, want in zip(got, names, old, strict=True):
        shape = list(W.shape) if isinstance(W, torch.Tensor) else None
        should = f"The new {name} should be a tensor of shape {list(want.shape)}, as the old one"
        require(shape == list(want.shape), f"{should}; yours is {describe(W)}.")
    return got


def regauged(submission, W_Q, W_K, R):
    return two_matrices(submission.regauge(W_Q, W_K, R), ("W_Q", "W_K"), (W_Q, W_K))


def check_regauged(submission, W_Q, W_K, R, what, atol=1e-4):
    new_Q, new_K = regauged(submission, W_Q, W_K, R)
    product = new_Q.double() @ new_K.double().T
    expect(product, W_Q.double() @ W_K.double().T, f"the new W_Q W_K^T {what}", atol=atol)
    expect(new_Q, W_Q.double() @ R.double(), f"the new W_Q {what}, which is W_Q R,", atol=atol)


@exercise("regauge", points=1, explains=True)
def test_one_dimension_of_the_head_by_hand(submission, rng):
    W_Q, W_K = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [5.0]])
    new_Q, new_K = regauged(submission, W_Q, W_K, torch.tensor([[2.0]]))
    expect(new_Q, [[2], [4]], "the new W_Q for W_Q [[1],[2]] and R [[2]]")
    expect(new_K, [[1.5], [2.5]], "the new W_K for W_K [[3],[5]] and R [[2]]")


@exercise("regauge", points=1)
def test_any_invertible_matrix_keeps_the_attention(submission, rng):
    check_regauged(submission, normal(rng, 7, 4), normal(rng, 7, 4), invertible(rng, 4), "for a random R")
    shear = torch.eye(3) + torch.triu(torch.ones(3, 3), 1)
    check_regauged(submission, normal(rng, 6, 3), normal(rng, 6, 3), shear, "for R [[1,1,1],[0,1,1],[0,0,1]]")


@exercise("regauge", points=1)
def test_a_trained_head_looks_where_it_did(submission, rng):
    model, head = trained(), int(torch.randint(8, (1,), generator=rng))
    tokens = random_tokens(rng, model, batch=1, pos=6)
    W_Q, W_K = model.W_Q[0, head], model.W_K[0, head]
    R = invertible(rng, model.cfg.d_head)
    new_Q, new_K = regauged(submission, W_Q, W_K, R)
    expect(new_Q, W_Q @ R, f"the new W_Q of head 0.{head}, which is W_Q R,", atol=1e-4)
    x = (model.W_E[tokens[0]] + model.W_pos[:6]).double()
    scores = (x @ new_Q.double()) @ (x @ new_K.double()).T / math.sqrt(model.cfg.d_head)
    pattern = scores.masked_fill(torch.ones(6, 6).triu(1) == 1, -torch.inf).softmax(-1)
    want = model.run_with_cache(tokens, names_filter="blocks.0.attn.hook_pattern")[1]["pattern", 0][0, head]
    expect(pattern, want, f"the attention of head 0.{head} with its new matrices", atol=1e-3)


# survives_regauging -------------------------------------------------------------------------

ACTIVATIONS = ["q", "k", "v", "attn_scores", "pattern", "z", "result", "attn_out", "resid_post"]


def survivors(rng, model):
    """Regauge every head of layer 0 and see which activations stay."""
    tokens = random_tokens(rng, model, pos=5)
    model = copy.deepcopy(model).double()
    new = copy.deepcopy(model)
    attn, d = new.blocks[0].attn, model.cfg.d_head
    for h in range(model.cfg.n_heads):
        R, S = invertible(rng, d).double(), invertible(rng, d).double()
        attn.W_Q[h], attn.W_K[h] = attn.W_Q[h] @ R, attn.W_K[h] @ torch.linalg.inv(R).T
        attn.W_V[h], attn.W_O[h] = attn.W_V[h] @ S, torch.linalg.inv(S) @ attn.W_O[h]
    before, after = (m.run_with_cache(tokens)[1] for m in (model, new))
    return {n for n in ACTIVATIONS if torch.allclose(before[n, 0], after[n, 0], rtol=1e-7, atol=1e-7)}


def check_survivors(submission, rng, model, names):
    got = submission.survives_regauging(list(names))
    if isinstance(got, str):
        fail(f"The answer should be a list of names; it is the one name {got!r}. Of one name, too, make a list: [{got!r}].")
    try:
        got = {name if isinstance(name, str) else describe(name) for name in got}
    except TypeError:
        fail(f"The answer should be a list of names; it is {describe(got)}.")
    strange = sorted(got - set(names))
    require(not strange, f"Your answer to {names} holds {', '.join(strange)}: not among the given names.")
    stays = survivors(rng, model) & set(names)
    wrong, missing = sorted(got - stays), sorted(stays - got)
    require(
        not wrong,
        f"Asked for {names}, your answer holds {' and '.join(wrong)}; regauging the heads of a model changed "
        f"{'it' if len(wrong) == 1 else 'them'}.",
    )
    require(
        not missing,
        f"Asked for {names}, you leave out {' and '.join(missing)}; regauging the heads of a model did not change "
        f"{'it' if len(missing) == 1 else 'them'}.",
    )


@exercise("survives_regauging", points=1)
def test_where_a_head_looks(submission, rng):
    check_survivors(submission, rng, random_model(rng), ["attn_scores", "q", "pattern", "k"])
    check_survivors(submission, rng, random_model(rng), ["k", "pattern"])


@exercise("survives_regauging", points=1)
def test_what_a_head_moves(submission, rng):
    check_survivors(submission, rng, random_model(rng), ["z", "attn_out", "v", "result", "resid_post"])
    check_survivors(submission, rng, random_model(rng), ["result", "z"])


@exercise("survives_regauging", points=1)
def test_in_the_trained_model(submission, rng):
    names = [ACTIVATIONS[i] for i in torch.randperm(len(ACTIVATIONS), generator=rng)]
    check_survivors(submission, rng, trained(), names[:6])
    check_survivors(submission, rng, trained(), names[3:])


# kron_apply ---------------------------------------------------------------------------------


@exercise("kron_apply", points=1, explains=True)
def test_positions_from_the_left_features_from_the_right(submission, rng):
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    scale = torch.tensor([[1.0, 0.0], [3.0, 2.0]])
    X = torch.tensor([[1.0, 10.0], [100.0, 1000.0]])
    want = [[3100, 2000], [31, 20]]
    got = submission.kron_apply(swap, scale, X)
    expect(got, want, "the result for A [[0,1],[1,0]], W [[1,0],[3,2]], X [[1,10],[100,1000]]")


@exercise("kron_apply", points=1)
def test_is_the_large_matrix_on_all_entries_at_once(submission, rng):
    for dest, src, d_in, d_out in ((4, 4, 3, 3), (2, 3, 4, 5)):
        A, W, X = normal(rng, dest, src), normal(rng, d_in, d_out), normal(rng, src, d_in)
        want = torch.zeros(dest, d_out)
        for i in range(dest):
            for o in range(d_out):
                want[i, o] = sum(A[i, s] * W[d, o] * X[s, d] for s in range(src) for d in range(d_in))
        what = f"the result for A [{dest} {src}], W [{d_in} {d_out}]"
        expect(submission.kron_apply(A, W, X), want, what)


@exercise("kron_apply", points=1)
def test_never_forms_the_large_matrix(submission, rng):
    # Formed, it would take 6.7 GB. Rows and columns that are mostly 0 say what the result must be.
    A, W, X = torch.zeros(256, 256), torch.zeros(160, 160), normal(rng, 256, 160)
    A[7, 200], A[9, 3], W[5, 11], W[150, 2] = 2.0, 1.0, 3.0, 1.0
    want = torch.zeros(256, 160)
    want[7, 11], want[7, 2] = 6 * X[200, 5], 2 * X[200, 150]
    want[9, 11], want[9, 2] = 3 * X[3, 5], X[3, 150]
    expect(submission.kron_apply(A, W, X), want, "the result for an A [256 256] and a W [160 160]")


@exercise("kron_apply", points=1)
def test_is_what_a_trained_head_adds(submission, rng):
    model, head = trained(), int(torch.randint(8, (1,), generator=rng))
    tokens = random_tokens(rng, model, batch=1, pos=6)
    names = [f"blocks.1.{name}" for name in ("hook_resid_pre", "attn.hook_pattern", "attn.hook_result")]
    _, cache = model.run_with_cache(tokens, names_filter=names)
    W = model.W_V[1, head] @ model.W_O[1, head]
    got = submission.kron_apply(cache["pattern", 1][0, head], W, cache["resid_pre", 1][0])
    want = cache["result", 1][0, :, head]
    expect(got, want, f"pattern ⊗ W_V W_O, which should be what head 1.{head} adds,", atol=1e-3)


# positions_reached --------------------------------------------------------------------------


def check_reached(submission, rng, A, W, sources, what):
    for source in sources:
        got = submission.positions_reached(A, W, source)
        got = sorted(set(whole_numbers(got, f"{what}, changing position {source}: your answer")))
        nudge = normal(rng, len(W)).double()
        moved = A.double()[:, [source]] * (nudge @ W.double())
        want = (moved.abs().amax(dim=-1) > 0).nonzero()[:, 0].tolist()
        idle, missing = sorted(set(got) - set(want)), sorted(set(want) - set(got))
        require(
            not idle,
            f"{what}, changing position {source}: your answer {got} holds {idle}, where nothing changes.",
        )
        require(
            not missing,
            f"{what}, changing position {source}: your answer {got} leaves out {missing}, where something changes.",
        )


@exercise("positions_reached", points=1)
def test_in_patterns_with_a_purpose(submission, rng):
    n = 5
    before = torch.eye(n).roll(1, dims=0)
    before[0] = torch.eye(n)[0]  # nothing stands before the first token
    first = torch.zeros(n, n)
    first[:, 0] = 1.0
    W = normal(rng, n, n)
    check_reached(submission, rng, before, W, (2, 0, 4), "Where every token looks at the one before it")
    check_reached(submission, rng, first, W, (3, 0), "Where every token looks at the first")
    everything = torch.ones(n, n).tril() / torch.arange(1, n + 1)[:, None]
    check_reached(submission, rng, everything, W, (1, 4), "Where every token looks at all tokens so far")


@exercise("positions_reached", points=1)
def test_in_any_map(submission, rng):
    n = 7
    A = normal(rng, n, n) * (torch.rand(n, n, generator=rng) < 0.4)
    A[integer(rng, 0, 2), 3], A[integer(rng, 3, 6), 1] = 1e-4, -1e-4  # little, and not nothing
    W = normal(rng, n, n)
    check_reached(submission, rng, A, W, (3, 1, 5, 0, 2, 6, 4), "For a random A with many zeros, as large as W")
    A = normal(rng, 4, 6) * (torch.rand(4, 6, generator=rng) < 0.5)
    check_reached(submission, rng, A, normal(rng, 3, 5), (2, 5, 3, 0), "For a random A [4 6]")


@exercise("positions_reached", points=1)
def test_in_a_trained_head(submission, rng):
    model = trained()
    tokens = model.to_tokens("class Point:\n    def __init__(self, x):\n        self.x = x\n")
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("pattern"))
    layer, head = (int(torch.randint(n, (1,), generator=rng)) for n in (2, 8))
    A = cache["pattern", layer][0, head]
    A = A * (A > 0.05)
    W = (model.W_V @ model.W_O)[layer, head]
    what = f"In head {layer}.{head}, attention under 5% set to 0"
    check_reached(submission, rng, A, W, (4, 9, 0, 13), what)


# predict_ranks ------------------------------------------------------------------------------


def measured_ranks(model):
    """The rank of each head's W_V W_O, and of their sum, by layer."""
    OV = model.W_V.double() @ model.W_O.double()

    def rank(M):
        S = torch.linalg.svdvals(M)
        return int((S > 1e-6 * S[0]).sum())

    return [(rank(heads[0]), rank(heads.sum(0))) for heads in OV]


def check_ranks(submission, model, name):
    shape = {size: getattr(model.cfg, size) for size in ("d_model", "d_head", "n_heads")}
    got = submission.predict_ranks(**shape)
    try:
        one, together = (float(n) for n in got)
    except (TypeError, ValueError):
        fail(f"The answer should be two numbers; it is {got!r}.")
    sizes = ", ".join(f"{size} = {n}" for size, n in shape.items())
    for layer, (want_one, want_together) in enumerate(measured_ranks(model)):
        require(
            one == want_one,
            f"For {sizes} you predict that W_V W_O of a head has rank {one:g}; measured in {name}, head "
            f"{layer}.0, it is not.",
        )
        require(
            together == want_together,
            f"For {sizes} you predict that the sum over heads has rank {together:g}; measured in {name}, "
            f"layer {layer}, it is not.",
        )


@exercise("predict_ranks", points=1)
def test_with_room_to_spare(submission, rng):
    for _ in range(2):
        d_head, n_heads = integer(rng, 3, 6), integer(rng, 3, 6)
        model = random_model(rng, d_model=d_head * n_heads + integer(rng, 3, 9), d_head=d_head, n_heads=n_heads)
        check_ranks(submission, model, "a model with random weights")


@exercise("predict_ranks", points=1)
def test_where_the_stream_is_full(submission, rng):
    d_head, n_heads, d_model = integer(rng, 3, 6), integer(rng, 3, 6), integer(rng, 5, 9)
    full = (integer(rng, d_head + 1, d_head * n_heads - 3), d_head), (d_head * n_heads - 1, d_head)
    for d_model, d_head in (*full, (d_model, d_model + integer(rng, 3, 9))):
        model = random_model(rng, d_model=d_model, d_head=d_head, n_heads=n_heads)
        check_ranks(submission, model, "a model with random weights")


@exercise("predict_ranks", points=1, explains=True)
def test_in_trained_weights(submission, rng):
    for name in ("one_layer", "two_layer"):
        check_ranks(submission, load_model(name).requires_grad_(False), f"the trained {name}")


# truncate_rank ------------------------------------------------------------------------------


def truncated(submission, M, k):
    """The answer; fails if its rank is above k."""
    got = submission.truncate_rank(M, k)
    require(bool(got.isfinite().all()), "Some entries are NaN or infinite.")
    S = torch.linalg.svdvals(got.double())
    rank = int((S > 1e-5 * torch.linalg.svdvals(M.double())[0]).sum())
    require(rank <= k, f"For k = {k} the rank should be at most {k}; yours is {rank}.")
    return got


@exercise("truncate_rank", points=1, explains=True)
def test_a_diagonal_by_hand(submission, rng):
    M = torch.diag(torch.tensor([2.0, 5.0, 1.0, 3.0, 6.0, 4.0]))
    want = torch.diag(torch.tensor([0.0, 5.0, 0.0, 0.0, 6.0, 0.0]))
    expect(submission.truncate_rank(M, 2), want, "the closest matrix of rank 2 to diag(2, 5, 1, 3, 6, 4)")


@exercise("truncate_rank", points=1)
def test_nothing_of_rank_k_is_closer(submission, rng):
    for shape in ((8, 8), (10, 12), (9, 4)):  # not those where k are left if k are dropped
        M = normal(rng, *shape)
        # The least squared error is the sum of the smallest eigenvalues of M M^T.
        eigenvalues = torch.linalg.eigvalsh(M.double() @ M.double().T).flip(0)
        for k in (1, 3):
            best = eigenvalues[k:].sum().item()
            error = ((M - truncated(submission, M, k)).double() ** 2).sum().item()
            require(
                error <= best * 1.0001 + 1e-6,
                f"For a matrix of shape {list(shape)} and k = {k} the least squared error is {best:.4g}; "
                f"yours is {error:.4g}.",
            )


@exercise("truncate_rank", points=1)
def test_keeps_what_has_rank_k_already(submission, rng):
    M = normal(rng, 7, 3) @ normal(rng, 3, 5)
    expect(truncated(submission, M, 3), M, "the closest matrix of rank 3 to one of rank 3", atol=1e-4)
    expect(truncated(submission, M, 5), M, "a matrix of rank 3, all 5 dimensions kept,", atol=1e-4)
    truncated(submission, normal(rng, 7, 5), 3)  # and not what has more
    model, head = trained(), int(torch.randint(8, (1,), generator=rng))
    OV = model.W_V[0, head] @ model.W_O[0, head]
    what = f"W_V W_O of head 0.{head}, {model.cfg.d_head} dimensions kept,"
    expect(truncated(submission, OV, model.cfg.d_head), OV, what, atol=1e-4)


# read_strength ------------------------------------------------------------------------------


@exercise("read_strength", points=1)
def test_is_one_for_a_reader_of_all_that_is_written(submission, rng):
    direction = normal(rng, 6)
    W_out, W_in = normal(rng, 3, 1) * direction, direction[:, None] * normal(rng, 1, 4)
    got = submission.read_strength(W_out, W_in)
    expect(got, 1.0, "the strength where one direction is written and the same one read")
    got = float(submission.read_strength(W_out, normal(rng, 6, 1) * normal(rng, 1, 4)))
    require(abs(got - 1) > 1e-3, f"The strength is {got:.4f} where another direction is read, too.")


@exercise("read_strength", points=1)
def test_is_zero_for_a_reader_of_something_else(submission, rng):
    W_out, W_in = torch.zeros(2, 6), torch.zeros(6, 3)
    W_out[:, :3], W_in[3:] = normal(rng, 2, 3), normal(rng, 3, 3)
    expect(submission.read_strength(W_out, W_in), 0.0, "the strength where nothing written is read")
    a, b = integer(rng, 3, 9), integer(rng, 3, 9)
    W_out, W_in = torch.tensor([[a, b]]).float(), torch.tensor([[1.0], [0.0]])
    got = submission.read_strength(W_out, W_in)
    expect(got, a / math.hypot(a, b), f"the strength for W_out [[{a},{b}]] and W_in [[1],[0]]")


@exercise("read_strength", points=1)
def test_is_the_root_of_squares_over_both_sizes(submission, rng):
    for scale in (1.0, 30.0):
        W_out, W_in = scale * normal(rng, 5, 7), normal(rng, 7, 5)
        squares = [sum(W_out[i, m].item() * W_in[m, j].item() for m in range(7)) ** 2 for i in range(5) for j in range(5)]
        sizes = math.sqrt((W_out**2).sum()) * math.sqrt((W_in**2).sum())
        want = math.sqrt(sum(squares)) / sizes
        expect(submission.read_strength(W_out, W_in), want, "the strength of random weights between 5 and 5 dimensions")


@exercise("read_strength", points=1)
def test_of_two_trained_heads(submission, rng):
    model = trained()
    a, b = torch.randint(8, (2,), generator=rng).tolist()
    OV, QK = (model.W_V[0, a] @ model.W_O[0, a]).double(), (model.W_Q[1, b] @ model.W_K[1, b].T).double()
    # |AB|^2 is the trace of A^T A B B^T
    want = ((OV.T @ OV) * (QK @ QK.T)).sum().sqrt() / (OV.norm() * QK.norm())
    got = submission.read_strength(OV.float(), QK.float())
    expect(got, want, f"how strongly the queries of head 1.{b} read head 0.{a}")


# strength_ceiling ---------------------------------------------------------------------------


@exercise("strength_ceiling", points=1, explains=True)
def test_equal_strengths_by_hand(submission, rng):
    basis = orthogonal(rng, 9)
    got = submission.strength_ceiling(2 * basis[:3], basis[3:6].T)
    expect(got, 3**-0.5, "the ceiling where 3 dimensions are written and 3 others read, all equally strongly,")
    got = submission.strength_ceiling(basis[:1], basis[5:6].T)
    expect(got, 1.0, "the ceiling where one dimension is written and another one read")


@exercise("strength_ceiling", points=1)
def test_is_what_the_best_turn_of_the_stream_reaches(submission, rng):
    for written, read in ((5, 3), (3, 6)):
        n = min(written, read)
        strengths = (0.3 + torch.rand(written, generator=rng)).sort(descending=True).values
        reader = (0.3 + torch.rand(read, generator=rng)).sort(descending=True).values
        stream = orthogonal(rng, 8)
        W_out = orthogonal(rng, written) @ (strengths[:, None] * stream[:written])
        W_in = stream[:read].T @ (reader[:, None] * orthogonal(rng, read))  # strongest meets strongest
        want = sum((strengths[i] * reader[i]).item() ** 2 for i in range(n)) ** 0.5 / (W_out.norm() * W_in.norm())
        turned = orthogonal(rng, 8) @ W_in
        what = f"of a writer of {written} dimensions and a reader of {read}"
        expect(submission.strength_ceiling(W_out, W_in), want, f"the ceiling {what} that match as well as they can")
        expect(submission.strength_ceiling(W_out, turned), want, f"the ceiling {what} that do not match")


@exercise("strength_ceiling", points=1)
def test_of_two_trained_parts(submission, rng):
    model = trained()
    a, b = torch.randint(8, (2,), generator=rng).tolist()
    W_out, W_in = model.W_O[0, a], model.W_K[1, b]
    # A singular value squared is an eigenvalue of the Gram matrix.
    writer, reader = (torch.linalg.eigvalsh(G.double()) for G in (W_out @ W_out.T, W_in.T @ W_in))
    want = (writer * reader).sum().sqrt() / (W_out.double().norm() * W_in.double().norm())
    expect(submission.strength_ceiling(W_out, W_in), want, f"the most that the keys of head 1.{b} could read of head 0.{a}")


# strongest_wire -----------------------------------------------------------------------------


def wires(model):
    """The strength of every (writer, reader, letter), by traces: |AB|^2 = tr(A^T A B B^T)."""
    W_Q, W_K, W_V, W_O = (getattr(model, name).detach().double() for name in ("W_Q", "W_K", "W_V", "W_O"))
    OV, QK = W_V @ W_O, W_Q[1] @ W_K[1].mT
    gram = OV[0].mT @ OV[0]
    strengths = {}
    for letter, read in (("Q", QK), ("K", QK.mT), ("V", OV[1])):
        squares = torch.einsum("amn,bmn->ab", gram, read @ read.mT)
        sizes = OV[0].norm(dim=(1, 2))[:, None] * read.norm(dim=(1, 2))
        for a, row in enumerate((squares.sqrt() / sizes).tolist()):
            strengths |= {(a, b, letter): strength for b, strength in enumerate(row)}
    return strengths


def check_wire(submission, model, name):
    got = submission.strongest_wire(model)
    strengths = wires(model)
    try:
        a, b, letter = got
        mine = (int(a), int(b), str(letter).strip().upper())
    except (TypeError, ValueError):
        fail(f"The answer should be a writer, a reader and a letter, such as (3, 1, 'V'); it is {got!r}.")
    n = model.cfg.n_heads
    require(mine in strengths, f"In {name}, heads are 0 to {n - 1} and letters Q, K, V; your answer is {got!r}.")
    best = max(strengths.values())
    require(
        strengths[mine] >= 0.999 * best,
        f"In {name}, the pair you found, {mine}, has strength {strengths[mine]:.3f}; there is one with {best:.3f}.",
    )


def wired_model(rng, letter):
    """Heads at random, with one strong wire, and others that only look strong."""
    d_model, d_head, n_heads = 32, 3, 5
    model = random_model(rng, n_layers=2, d_model=d_model, d_head=d_head, n_heads=n_heads)
    layers = [block.attn for block in model.blocks]
    for attn in layers:
        for h in range(n_heads):
            for W in (attn.W_Q[h], attn.W_K[h], attn.W_V[h], attn.W_O[h].T):
                W.copy_(orthogonal(rng, d_model, d_head))
    (a, decoy_a), (b, decoy_b) = (torch.randperm(n_heads, generator=rng)[:2].tolist() for _ in range(2))
    # The wire: read most where most is written.
    strengths = torch.tensor([4.0, 1.0, 1.0])
    written = orthogonal(rng, d_model, d_head) * strengths
    layers[0].W_O[a] = written.T
    reader = {"Q": layers[1].W_Q, "K": layers[1].W_K, "V": layers[1].W_V}
    reader[letter][b] = written
    # A pair whose W_O and reading matrix are alike in a single dimension, which a gauge blows up in
    # both of them and out of the products.
    other = {"Q": layers[1].W_K, "K": layers[1].W_Q, "V": layers[1].W_O}[letter]
    shared = orthogonal(rng, d_model, 1)[:, 0]
    layers[0].W_O[decoy_a, 0] = 40 * shared
    layers[0].W_V[decoy_a, :, 0] /= 40
    reader[letter][decoy_b, :, 0] = 40 * shared
    if letter == "V":
        other[decoy_b, 0] /= 40
    else:
        other[decoy_b, :, 0] /= 40
    # A pair of large weights that have little to do with each other.
    large_a, large_b = (min({0, 1, 2} - set(taken)) for taken in ((a, decoy_a), (b, decoy_b)))
    # Two pairs that are strong only for who looks at half of a product: one writes, the other reads a single
    # direction, and its partner's large weights in that direction are undone by the other matrix.
    half_a, alone_a = {0, 1, 2, 3, 4} - {a, decoy_a, large_a}
    half_b, alone_b = {0, 1, 2, 3, 4} - {b, decoy_b, large_b}
    written, read = orthogonal(rng, d_model, 2).T
    layers[0].W_O[half_a, 0] = 40 * written
    layers[0].W_V[half_a, :, 0] /= 40
    reader[letter][alone_b, :, 0] = 40 * written
    layers[0].W_O[alone_a, 0] = 40 * read
    reader[letter][half_b, :, 0] = 40 * read
    if letter == "V":
        other[half_b, 0] /= 40
    else:
        other[half_b, :, 0] /= 40
    layers[0].W_V[large_a] *= 30
    for W in (layers[1].W_Q, layers[1].W_V):
        W[large_b] *= 30
    return model


@exercise("strongest_wire", points=1)
def test_finds_what_is_read_by_queries_and_keys(submission, rng):
    for letter in ("K", "Q"):
        check_wire(submission, wired_model(rng, letter), f"a model with a wire into a head's {letter}")


@exercise("strongest_wire", points=1)
def test_finds_what_is_read_by_values(submission, rng):
    check_wire(submission, wired_model(rng, "V"), "a model with a wire into a head's V")
    for _ in range(3):  # where strengths are nearly the same, another idea of strength finds another wire
        check_wire(submission, random_model(rng, n_layers=2), "a model of random weights")


def some_heads(rng, model, n_heads=3):
    """A model with some heads of another, in any order: few enough for a loop over all pairs."""
    new = Transformer(dataclasses.replace(model.cfg, n_heads=n_heads)).requires_grad_(False)
    new.embed.load_state_dict(model.embed.state_dict())
    new.unembed.load_state_dict(model.unembed.state_dict())
    for block, old in zip(new.blocks, model.blocks):
        heads = torch.randperm(model.cfg.n_heads, generator=rng)[:n_heads]
        for name in ("W_Q", "W_K", "W_V", "W_O"):
            getattr(block.attn, name).copy_(getattr(old.attn, name)[heads])
    return new


@exercise("strongest_wire", points=1)
def test_finds_it_in_the_trained_model(submission, rng):
    for _ in range(2):
        check_wire(submission, some_heads(rng, trained()), "a model of some heads of the trained one")


@exercise("strongest_wire", points=1)
def test_finds_it_when_the_heads_change_places(submission, rng):
    for _ in range(2):
        model = some_heads(rng, trained(), n_heads=5)
        check_wire(submission, model, "a model of other heads of the trained one, in another order")


# mlp_as_neurons -----------------------------------------------------------------------------


@exercise("mlp_as_neurons", points=1, explains=True)
def test_two_neurons_by_hand(submission, rng):
    x = torch.tensor([[1.0, 2.0]])
    W_in = torch.tensor([[1.0, 1.0], [1.0, -1.0]])  # matches 3 and -1
    W_out = torch.tensor([[10.0, 1.0], [7.0, 7.0]])
    got = submission.mlp_as_neurons(x, W_in, W_out)
    expect(got, [[[30, 3], [0, 0]]], "what two neurons add, of which the second does not match,")


@exercise("mlp_as_neurons", points=1)
def test_each_neuron_adds_its_value_as_strongly_as_its_key_matches(submission, rng):
    for d_model, d_mlp in ((4, 4), (3, 5)):
        x, W_in, W_out = normal(rng, 6, d_model), normal(rng, d_model, d_mlp), normal(rng, d_mlp, d_model)
        want = torch.zeros(6, d_mlp, d_model)
        for i in range(6):
            for n in range(d_mlp):
                match = sum(x[i, m].item() * W_in[m, n].item() for m in range(d_model))
                want[i, n] = max(match, 0.0) * W_out[n]
        got = submission.mlp_as_neurons(x, W_in, W_out)
        expect(got, want, f"what {d_mlp} random neurons add at 6 positions")


@exercise("mlp_as_neurons", points=1)
def test_the_neurons_sum_to_a_transformers_mlp(submission, rng):
    model = random_model(rng, attn_only=False, act_fn="relu", d_mlp=13, n_layers=1)
    tokens = random_tokens(rng, model, batch=1)
    _, cache = model.run_with_cache(tokens)
    mlp = model.blocks[0].mlp
    got = submission.mlp_as_neurons(cache["resid_mid", 0][0], mlp.W_in, mlp.W_out)
    expect(got.sum(1), cache["mlp_out", 0][0], "the sum over neurons, which is the MLP's output,", atol=1e-4)
