"""Checks of chapter 1. Each says in its name what must be true of an answer."""

import copy
import functools
import math

import torch

from circuits.checking import describe, exercise, expect, require, whole_numbers
from circuits.inputs import (
    generator, integer, model_of_table, normal, orthogonal, random_model, random_tokens, shuffle,
)
from circuits.symmetries import symmetric
from utils.model import Transformer

SYMMETRIES = {
    "bigram_counts": symmetric("vocabulary"),
    "unseen_share": symmetric("vocabulary"),
    "bigram_log_probs": symmetric("vocabulary"),
    "conditional_entropy": symmetric("vocabulary"),
    "cross_entropy_of_table": symmetric("vocabulary"),
    "zero_layer_logits": symmetric("rotate vocabulary constant"),
    "positions_that_matter": "its argument is a position",
    "direct_path": symmetric("rotate vocabulary constant"),
    "top_next": symmetric("rotate vocabulary constant", token="token", returns="token"),
    "train_step": "it changes its arguments, and every check looks at what it made of them",
    "mean_kl": symmetric("vocabulary"),
    "best_rank_k": "the row of a token of weight zero hangs on rounding, and so on the order of the rows",
    "rotate_residual": symmetric("rotate vocabulary"),
    "sample": symmetric("rotate constant"),
    "furthest_tokens": symmetric("rotate vocabulary constant", returns="token"),
    "predict_distance": "a score may be ranks, and ties between tokens equally frequent go by their numbers",
}


def random_text(rng, n, d_vocab):
    return random_tokens(rng, d_vocab, 1, n)[0]


def random_counts(rng, d_vocab, high=6):
    """Counts with empty cells; no row is empty."""
    counts = torch.randint(high, (d_vocab, d_vocab), generator=rng)
    counts = counts * torch.randint(2, (d_vocab, d_vocab), generator=rng)
    counts[:, 0] += 1
    return counts


def random_table(rng, d_vocab, scale=1.5):
    return (scale * normal(rng, d_vocab, d_vocab)).log_softmax(-1)


# Of zero layers and a few dimensions, with weights to train.
zero_layer_model = functools.partial(random_model, n_layers=0, d_model=5, trainable=True, scale=1.5)


def slow_counts(tokens, d_vocab):
    counts = [[0] * d_vocab for _ in range(d_vocab)]
    for a, b in zip(tokens.tolist(), tokens.tolist()[1:]):
        counts[a][b] += 1
    return counts


# bigram_counts ------------------------------------------------------------------------------


@exercise("bigram_counts", points=1)
def test_counts_every_adjacent_pair(submission, rng):
    tokens = torch.tensor([0, 1, 2, 1])
    want = [[0, 1, 0], [0, 0, 1], [0, 1, 0]]
    expect(submission.bigram_counts(tokens, 3), want, "the table for tokens 0 1 2 1")
    tokens = random_text(rng, 12, 5)
    want = slow_counts(tokens, 5)
    expect(submission.bigram_counts(tokens, 5), want, f"the table for tokens {tokens.tolist()}")


@exercise("bigram_counts", points=1, explains=True)
def test_counts_a_pair_as_often_as_it_occurs(submission, rng):
    tokens = torch.tensor([1, 1, 1, 1, 0])
    want = [[0, 0], [1, 3]]
    expect(submission.bigram_counts(tokens, 2), want, "the table for tokens 1 1 1 1 0")
    tokens = torch.ones(33_000, dtype=torch.long)  # more than 8 or 16 bits hold
    tokens[7:10] = torch.tensor([0, 2, 0])
    want = [[0, 1, 1], [1, 32_995, 0], [1, 0, 0]]
    got = submission.bigram_counts(tokens, 3)
    expect(got, want, "the table for 33,000 tokens, of which three are not 1,")
    tokens = torch.tensor([2, 0, 0, 2, 0, 0])
    expect(submission.bigram_counts(tokens, 3), [[2, 0, 1], [0, 0, 0], [2, 0, 0]], "the table for tokens 2 0 0 2 0 0")


@exercise("bigram_counts", points=1)
def test_has_a_row_and_a_column_for_every_token_of_the_vocabulary(submission, rng):
    n = integer(rng, 5, 29)
    tokens = random_text(rng, n, 4)
    counts = submission.bigram_counts(tokens, 9)
    expect(torch.as_tensor(counts).sum(), n - 1, f"the sum of the table for {n} tokens")
    expect(counts, slow_counts(tokens, 9), "the table for d_vocab = 9 where only tokens 0 to 3 occur")


# unseen_share -------------------------------------------------------------------------------


def slow_unseen_share(counts):
    """Each sighting taken away in turn."""
    rest, unknown = counts.tolist(), 0
    for row in rest:
        for b, n in enumerate(row):
            for _ in range(n):
                row[b] -= 1
                unknown += row[b] == 0
                row[b] += 1
    return unknown / sum(map(sum, rest))


@exercise("unseen_share", points=1, explains=True)
def test_a_table_of_three_tokens_by_hand(submission, rng):
    counts = torch.tensor([[2, 1, 0], [0, 1, 3], [0, 0, 0]])
    expect(submission.unseen_share(counts), 2 / 7, "the share for counts [[2, 1, 0], [0, 1, 3], [0, 0, 0]]")


@exercise("unseen_share", points=1)
def test_takes_each_sighting_away_in_turn(submission, rng):
    for d_vocab in (5, 7):
        counts = random_counts(rng, d_vocab)
        counts[integer(rng, 0, d_vocab - 1)] = 0  # a token that nothing follows
        counts[0, 1] += integer(rng, 3, 9)
        what = f"the share for counts {counts.tolist()}"
        expect(submission.unseen_share(counts), slow_unseen_share(counts), what)


@exercise("unseen_share", points=1)
def test_counts_sightings_and_not_kinds_of_pairs(submission, rng):
    """Of one frequent pair more and more: the share falls, though the pairs are the same."""
    counts = random_counts(rng, 6)
    once = counts == 1
    a, b = (counts > 1).nonzero()[integer(rng, 0, int((counts > 1).sum()) - 1)].tolist()
    counts[a, b] = integer(rng, 300, 999)
    want = once.sum() / counts.sum()
    expect(submission.unseen_share(counts), want, f"the share where one pair was seen {counts[a, b]} times")


# bigram_log_probs ---------------------------------------------------------------------------


@exercise("bigram_log_probs", points=1, explains=True)
def test_each_row_is_a_distribution(submission, rng):
    counts = random_counts(rng, 6)
    log_probs = submission.bigram_log_probs(counts, 0.5)
    expect(log_probs.double().exp().sum(-1), torch.ones(6), "the sum of each row's probabilities")


@exercise("bigram_log_probs", points=1, explains=True)
def test_two_tokens_by_hand(submission, rng):
    counts = torch.tensor([[2, 0], [1, 4]])
    want = torch.tensor([[2.25 / 2.5, 0.25 / 2.5], [1.25 / 5.5, 4.25 / 5.5]]).log()
    got = submission.bigram_log_probs(counts, 0.25)
    expect(got, want, "the log-probabilities for counts [[2, 0], [1, 4]] and alpha 0.25")


@exercise("bigram_log_probs", points=1)
def test_a_token_never_seen_has_equally_likely_successors(submission, rng):
    counts = random_counts(rng, 5)
    counts[3] = 0
    got = submission.bigram_log_probs(counts, 0.1)
    expect(got[3], torch.full((5,), -math.log(5)), "the row of a token that was never seen")
    a = int(counts[:, 0].argmax())  # seen, and not followed by all tokens alike
    alike = torch.allclose(got[a].double(), got[3].double())
    require(not alike, f"The row of token {a}, with counts {counts[a].tolist()}, is that of a token never seen.")


@exercise("bigram_log_probs", points=1)
def test_alpha_is_what_is_added(submission, rng):
    counts = random_counts(rng, 5)
    big = submission.bigram_log_probs(counts, 1e7)
    expect(big, torch.full((5, 5), -math.log(5)), "the table for an enormous alpha", atol=1e-4)
    small = submission.bigram_log_probs(counts, 0.01)
    require(
        bool((small[counts > 0].max() > -0.1) or (small[counts == 0].max() < -3)),
        "With a tiny alpha, pairs that never occurred should be very improbable; "
        f"yours get up to {small[counts == 0].exp().max():.2f}.",
    )


# conditional_entropy ------------------------------------------------------------------------


@exercise("conditional_entropy", points=1)
def test_is_zero_when_the_next_token_is_certain(submission, rng):
    counts = torch.zeros(5, 5, dtype=torch.long)
    counts[torch.arange(5), shuffle(rng, 5)] = torch.randint(1, 9, (5,), generator=rng)
    got = submission.conditional_entropy(counts)
    expect(got, 0.0, "the conditional entropy where each token has one successor")
    got = float(submission.conditional_entropy(counts + random_counts(rng, 5)))
    require(abs(got) > 1e-3, f"Where tokens have several successors, the conditional entropy is not 0; yours is {got:.4f}.")


@exercise("conditional_entropy", points=1)
def test_is_log_n_when_n_successors_are_equally_likely(submission, rng):
    n = integer(rng, 2, 5)
    counts = torch.zeros(8, 8, dtype=torch.long)
    for row in counts:
        row[torch.randperm(8, generator=rng)[:n]] = integer(rng, 1, 9)
    got = submission.conditional_entropy(counts)
    expect(got, math.log(n), f"the conditional entropy (nats) with {n} equally likely successors")


@exercise("conditional_entropy", points=1, explains=True)
def test_a_frequent_token_weighs_more(submission, rng):
    counts = torch.tensor([[90, 0], [5, 5]])
    want = 0.1 * math.log(2)
    expect(submission.conditional_entropy(counts), want, "the value for counts [[90, 0], [5, 5]]")


@exercise("conditional_entropy", points=1)
def test_is_the_entropy_of_pairs_minus_that_of_tokens(submission, rng):
    counts = random_counts(rng, 7)
    counts[2] = 0  # a token that never occurs
    counts[4] = torch.tensor([0, 0, 1, 0, 0, 0, 0])  # and one that occurs once
    p = counts.double() / counts.sum()
    first = p.sum(1)
    want = torch.xlogy(first, first).sum() - torch.xlogy(p, p).sum()
    expect(submission.conditional_entropy(counts), want, "the value for a table with an empty row")


# cross_entropy_of_table ---------------------------------------------------------------------


@exercise("cross_entropy_of_table", points=1)
def test_knowing_nothing_costs_log_d_vocab(submission, rng):
    table = torch.full((6, 6), -math.log(6))
    tokens = random_text(rng, 20, 6)
    expect(submission.cross_entropy_of_table(table, tokens), math.log(6), "the loss of the uniform table")
    got = float(submission.cross_entropy_of_table(random_table(rng, 6), tokens))
    require(abs(got - math.log(6)) > 1e-5, f"A table of other probabilities should not have the uniform one's loss, {got:.4f}.")


@exercise("cross_entropy_of_table", points=1)
def test_looks_up_the_pair_that_occurs(submission, rng):
    table = random_table(rng, 4)
    a, b = torch.randperm(4, generator=rng)[:2].tolist()
    got = submission.cross_entropy_of_table(table, torch.tensor([a, b]))
    expect(got, -table[a, b], f"the loss on the text {a} {b}, whose only pair is ({a}, {b}),")


@exercise("cross_entropy_of_table", points=1)
def test_is_the_mean_over_pairs(submission, rng):
    table, tokens = random_table(rng, 5), random_text(rng, 40, 5)  # some pair comes twice
    losses = [-table[a, b].item() for a, b in zip(tokens.tolist(), tokens.tolist()[1:])]
    want = sum(losses) / len(losses)
    expect(submission.cross_entropy_of_table(table, tokens), want, "the loss on 40 random tokens")


# zero_layer_logits --------------------------------------------------------------------------


@exercise("zero_layer_logits", points=1, explains=True)
def test_is_a_lookup_and_a_product(submission, rng):
    W_E = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    W_U = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, -1.0]])
    want = [[[0.0, 2.0, -2.0], [1.0, 3.0, 2.0]]]
    got = submission.zero_layer_logits(W_E, W_U, torch.tensor([[1, 2]]))
    expect(got, want, "the logits of tokens 1 2 for W_E [[1,0],[0,2],[1,1]] and W_U [[1,2,3],[0,1,-1]]")


@exercise("zero_layer_logits", points=1)
def test_agrees_with_a_transformer_of_zero_layers(submission, rng):
    model = zero_layer_model(rng)
    tokens = random_tokens(rng, model, 3, 8)
    got = submission.zero_layer_logits(model.W_E, model.W_U, tokens)
    expect(got, model(tokens).detach(), "the logits of a batch of 3 sequences of 8 tokens")


@exercise("zero_layer_logits", points=1)
def test_each_position_depends_on_its_own_token_alone(submission, rng):
    model = zero_layer_model(rng)
    tokens = random_tokens(rng, model, 1, 6)
    changed = tokens.clone()
    changed[0, 2] = (changed[0, 2] + 1) % model.cfg.d_vocab
    before = submission.zero_layer_logits(model.W_E, model.W_U, tokens)
    after = submission.zero_layer_logits(model.W_E, model.W_U, changed)
    others = [0, 1, 3, 4, 5]
    what = "the logits at positions 0 1 3 4 5 after the token at position 2 was changed"
    expect(after[0, others], before[0, others], what)
    moved = not torch.allclose(after[0, 2], before[0, 2])
    require(moved, "Changing the token at position 2 should change the logits at position 2.")
    for name, W_E, W_U in (("W_E", normal(rng, *model.W_E.shape), model.W_U), ("W_U", model.W_E, normal(rng, *model.W_U.shape))):
        other = submission.zero_layer_logits(W_E, W_U, tokens)
        require(not torch.allclose(other, before), f"With another {name} the logits should be others.")


# positions_that_matter ----------------------------------------------------------------------


def measured_positions(rng, pos):
    """Change each token in turn in a fresh model and see what moves."""
    model = zero_layer_model(rng)
    tokens = random_tokens(rng, model, 1, pos + 1)
    base = model(tokens)[0, pos]
    moved = []
    for i in range(pos + 1):
        changed = tokens.clone()
        changed[0, i] = (changed[0, i] + 1) % model.cfg.d_vocab
        if not torch.allclose(model(changed)[0, pos], base):
            moved.append(i)
    return moved


def predicted_positions(submission, pos):
    return sorted(set(whole_numbers(submission.positions_that_matter(pos), f"Your answer for pos = {pos}")))


def check_positions(submission, rng, places):
    predicted = {pos: predicted_positions(submission, pos) for pos in places}
    for pos, got in predicted.items():
        want = measured_positions(rng, pos)
        idle = sorted(set(got) - set(want))
        require(
            not idle,
            f"For pos = {pos}, your answer holds {idle}; changing the token there moves nothing in a "
            "model built for this check.",
        )
        require(
            got == want,
            f"For pos = {pos}, your answer {got} leaves out a position; changing the token there does "
            "move the prediction of a model built for this check.",
        )


@exercise("positions_that_matter", points=1)
def test_is_right_in_a_short_text(submission, rng):
    check_positions(submission, rng, (integer(rng, 1, 4), integer(rng, 5, 9)))


@exercise("positions_that_matter", points=1)
def test_is_right_in_a_long_text(submission, rng):
    check_positions(submission, rng, (integer(rng, 10, 19), integer(rng, 20, 40)))


@exercise("positions_that_matter", points=1, explains=True)
def test_is_right_at_the_start_of_a_text(submission, rng):
    check_positions(submission, rng, (0, 1))


# direct_path --------------------------------------------------------------------------------


@exercise("direct_path", points=1)
def test_row_a_holds_the_logits_after_token_a(submission, rng):
    model = zero_layer_model(rng, d_vocab=8, d_model=3)
    got = submission.direct_path(model.W_E, model.W_U)
    for a in range(8):
        want = model(torch.tensor([[a]]))[0, 0].detach()
        expect(got[a], want, f"row {a}, the logits after token {a},")


@exercise("direct_path", points=1, explains=True)
def test_three_tokens_by_hand(submission, rng):
    W_E, W_U = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[10.0, 20.0, 30.0]])
    want = [[10, 20, 30], [20, 40, 60], [30, 60, 90]]
    got = submission.direct_path(W_E, W_U + torch.tensor([[0.0, 0.0, 1.0]]))
    want[0][2], want[1][2], want[2][2] = 31, 62, 93
    expect(got, want, "the direct path of W_E [[1],[2],[3]] and W_U [[10,20,31]]")


@exercise("direct_path", points=1)
def test_passes_through_d_model_dimensions(submission, rng):
    model = zero_layer_model(rng, d_vocab=10, d_model=3)
    got = submission.direct_path(model.W_E, model.W_U).double()
    rank = int(torch.linalg.matrix_rank(got, rtol=1e-4))
    require(rank == 3, f"With d_model = 3 the direct path has rank 3; yours has rank {rank}.")


# top_next -----------------------------------------------------------------------------------


@exercise("top_next", points=1)
def test_finds_the_most_probable_successors(submission, rng):
    model = zero_layer_model(rng, d_vocab=12)
    for token in (0, 5, 11):
        logits = model(torch.tensor([[token]]))[0, 0]
        want = sorted(range(12), key=lambda b: -logits[b].item())[:4]
        got = whole_numbers(submission.top_next(model, token, 4), "top_next(model, token, 4)")
        require(
            set(got) == set(want),
            f"The four most probable tokens after {token} are {want}; yours are {got}.",
        )


@exercise("top_next", points=1)
def test_puts_the_likeliest_first(submission, rng):
    order = torch.randperm(6, generator=rng)
    order = order.flip(0) if order[-1] == 2 else order  # the token itself is not the last
    logits = torch.zeros(6, 6)
    logits[2, order] = torch.arange(6.0, 0.0, -1.0)
    got = whole_numbers(submission.top_next(model_of_table(logits), 2, 6), "top_next(model, 2, 6)")
    require(got == order.tolist(), f"By falling probability the tokens are {order.tolist()}; yours: {got}.")


@exercise("top_next", points=1)
def test_returns_k_tokens(submission, rng):
    model = zero_layer_model(rng, d_vocab=12)
    for k in (1, 3, 12):
        got = whole_numbers(submission.top_next(model, 4, k), f"top_next(model, 4, {k})")
        require(
            len(got) == len(set(got)) == k and all(0 <= i < 12 for i in got),
            f"For k = {k} there should be {k} different token{'s' * (k > 1)} out of 12; yours: {got}.",
        )


# train_step ---------------------------------------------------------------------------------


def first_optimizer():
    """The first optimizer of a process imports 800 modules."""
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)


def slow_loss(model, tokens):
    log_probs = model(tokens).log_softmax(-1)
    batch, pos = tokens.shape
    losses = [-log_probs[b, i, tokens[b, i + 1]] for b in range(batch) for i in range(pos - 1)]
    return torch.stack(losses).mean()


@exercise("train_step", points=1, in_place=True, prepare=first_optimizer)
def test_returns_the_mean_next_token_loss(submission, rng):
    model = zero_layer_model(rng)
    tokens = random_tokens(rng, model, 3, 6)
    want = slow_loss(model, tokens).item()
    got = submission.train_step(model, tokens, torch.optim.SGD(model.parameters(), lr=0.1))
    expect(got, want, "the loss before the step (mean over batch and positions, in nats)")


@exercise("train_step", points=1, in_place=True, prepare=first_optimizer)
def test_moves_every_weight_against_its_gradient(submission, rng):
    model = zero_layer_model(rng)
    tokens = random_tokens(rng, model, 3, 6)
    W_E, W_U = model.W_E, model.W_U
    grads = torch.autograd.grad(slow_loss(model, tokens), [W_E, W_U])
    wants = [(W - 0.1 * g).detach() for W, g in zip((W_E, W_U), grads)]
    submission.train_step(model, tokens, torch.optim.SGD(model.parameters(), lr=0.1))
    for name, W, want in zip(("W_E", "W_U"), (model.W_E, model.W_U), wants):
        expect(W.detach(), want, f"{name} after one step of SGD with learning rate 0.1")


@exercise("train_step", points=1, in_place=True, prepare=first_optimizer)
def test_a_second_step_starts_from_fresh_gradients(submission, rng):
    model = zero_layer_model(rng)
    first, second = (random_tokens(rng, model, 3, 6) for _ in range(2))
    twin = copy.deepcopy(model)
    for tokens in (first, second):
        W_E, W_U = twin.W_E, twin.W_U
        grads = torch.autograd.grad(slow_loss(twin, tokens), [W_E, W_U])
        with torch.no_grad():
            W_E -= 0.1 * grads[0]
            W_U -= 0.1 * grads[1]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    submission.train_step(model, first, optimizer)
    submission.train_step(model, second, optimizer)
    what = "W_E after a second step, which must not contain the first step's gradient,"
    expect(model.W_E.detach(), twin.W_E.detach(), what)


@exercise("train_step", points=1, in_place=True, prepare=first_optimizer)
def test_repeated_steps_lower_the_loss(submission, rng):
    model = zero_layer_model(rng, scale=0.1)
    tokens = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 0, 1, 2]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.3)
    before = slow_loss(model, tokens).item()
    told = [float(submission.train_step(model, tokens, optimizer)) for _ in range(12)]
    for end, what in ((told[-1], "returned"), (slow_loss(model, tokens).item(), "of the model")):
        require(
            end < 0.5 * before,
            "On a text where each token has one successor the loss should fall towards 0 in 12 steps; "
            f"the loss {what} went from {before:.2f} to {end:.2f} nats.",
        )


# mean_kl ------------------------------------------------------------------------------------


@exercise("mean_kl", points=1)
def test_is_zero_for_equal_tables_and_positive_otherwise(submission, rng):
    p, q = random_table(rng, 5), random_table(rng, 5)
    weights = torch.rand(5, generator=rng).softmax(-1)
    expect(submission.mean_kl(p, p, weights), 0.0, "the KL of a table from itself")
    got = float(submission.mean_kl(p, q, weights))
    require(got > 1e-3, f"Two different tables have a positive KL; yours is {got:.4f}.")


@exercise("mean_kl", points=1, explains=True)
def test_two_rows_by_hand(submission, rng):
    p = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log()
    q = torch.tensor([[0.25, 0.75], [0.9, 0.1]]).log()
    want = 0.3 * (0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    got = submission.mean_kl(p, q, torch.tensor([0.3, 0.7]))
    expect(got, want, "the KL for p [[.5,.5],[.9,.1]], q [[.25,.75],[.9,.1]], weights [.3,.7]")


@exercise("mean_kl", points=1)
def test_is_cross_entropy_minus_entropy(submission, rng):
    p, q = random_table(rng, 6), random_table(rng, 6)
    weights = (2 * torch.randn(6, generator=rng)).softmax(-1)
    joint = (weights[:, None] * p.exp()).double()
    want = -(joint * q).sum() + (joint * p).sum()
    expect(submission.mean_kl(p, q, weights), want, "the KL of two random tables")
    p, q = (random_table(rng, 6, scale=100) for _ in range(2))
    p[2], q[2] = torch.tensor([[-300.0, -250, -200, -150, 0, -120], [-150, 0, -400, -160, -130, -350]])
    want = (weights.double() * (p.double().exp() * (p.double() - q)).sum(-1)).sum()
    got = submission.mean_kl(p, q, weights)
    expect(got, want, "the KL of two tables, some of whose probabilities are too small for a float,")


# best_rank_k --------------------------------------------------------------------------------


def weighted_error(L, M, weights):
    return (weights[:, None] * (L - M) ** 2).double().sum()


def low_rank(submission, L, weights, k):
    """The answer's table; fails if its rank is not k."""
    M = submission.best_rank_k(L, weights, k)
    with_weights = "with a weight of 0" if (weights == 0).any() else "though no weight is 0"
    require(bool(M.isfinite().all()), f"Some entries are NaN or infinite, {with_weights}.")
    seen = weights > 0  # the other rows may be anything
    S = torch.linalg.svdvals(weights[seen].double().sqrt()[:, None] * M[seen].double())
    got = int((S > 1e-4 * S[0]).sum())
    require(got == k, f"The closest table has rank k = {k}; yours has rank {got}.")
    return M


@exercise("best_rank_k", points=1)
def test_returns_a_table_of_rank_k_unchanged(submission, rng):
    L = normal(rng, 7, 2) @ normal(rng, 2, 7)
    weights = torch.rand(7, generator=rng) + 0.1
    got = low_rank(submission, L, weights, 2)
    expect(got, L, "the best rank-2 approximation of a table of rank 2", atol=1e-3)
    low_rank(submission, random_table(rng, 7), weights, 3)


@exercise("best_rank_k", points=1)
def test_no_table_of_rank_k_is_closer(submission, rng):
    # Some tokens are rare, as in a real vocabulary.
    L, weights = random_table(rng, 8), torch.tensor([0.4, 0.3, 0.2, 0.1, 1e-3, 3e-4, 2e-5, 1e-5])
    weights = weights[torch.randperm(8, generator=rng)] * (0.9 + 0.2 * torch.rand(8, generator=rng))
    # The least possible error is the sum of the smallest eigenvalues of L^T diag(w) L.
    eigenvalues = torch.linalg.eigvalsh(L.double().T @ (weights.double()[:, None] * L.double()))
    for k in (1, 2, 5):
        best = eigenvalues[: 8 - k].sum().item()
        error = weighted_error(L, low_rank(submission, L, weights, k), weights).item()
        require(
            error <= best * 1.001 + 1e-7,
            f"For k = {k} the smallest possible weighted squared error is {best:.3g}; yours is {error:.3g}.",
        )


@exercise("best_rank_k", points=1)
def test_a_weight_of_zero_does_no_harm(submission, rng):
    L, weights = random_table(rng, 6), torch.rand(6, generator=rng) + 0.1
    weights[4] = 0
    rows = [0, 1, 2, 3, 5]
    got = low_rank(submission, L, weights, 2)[rows]
    kept = L[rows].double()
    eigenvalues = torch.linalg.eigvalsh(kept.T @ (weights[rows].double()[:, None] * kept))
    best, error = eigenvalues[:4].sum().item(), weighted_error(L[rows], got, weights[rows]).item()
    require(
        error <= best * 1.001 + 1e-3,
        f"With a weight of 0, the other rows' error should be {best:.4f}; yours is {error:.4f}.",
    )


# rotate_residual ----------------------------------------------------------------------------


def rotated(submission, model, R):
    """What the answer makes of a model; fails if that is the model as it was."""
    W_E = model.W_E.detach().clone()
    new = submission.rotate_residual(model, R)
    require(isinstance(new, Transformer), f"`rotate_residual` should return a model; it returned {describe(new)}.")
    require(not torch.allclose(new.W_E, W_E), "Nothing is rotated: W_E is what it was.")
    return new


@exercise("rotate_residual", points=1)
def test_computes_the_same_logits(submission, rng):
    model, R = zero_layer_model(rng), orthogonal(rng, 5)
    tokens = random_tokens(rng, model, 3, 6)
    want = model(tokens).detach()
    expect(rotated(submission, model, R)(tokens).detach(), want, "the logits of the rotated model")


@exercise("rotate_residual", points=1)
def test_residual_vectors_are_rotated_by_R(submission, rng):
    model, R = zero_layer_model(rng), orthogonal(rng, 5)
    tokens = random_tokens(rng, model, 3, 6)
    want = (model.run_with_cache(tokens)[1]["embed"] @ R).detach()
    _, cache = rotated(submission, model, R).run_with_cache(tokens)
    expect(cache["embed"], want, "the residual stream of the rotated model, x @ R,")


@exercise("rotate_residual", points=1, explains=True, in_place=True)
def test_leaves_the_given_model_as_it_was(submission, rng):
    model, R = zero_layer_model(rng), orthogonal(rng, 5)
    W_E, W_U = model.W_E.detach().clone(), model.W_U.detach().clone()
    rotated(submission, model, R)
    expect(model.W_E.detach(), W_E, "W_E of the model that was given")
    expect(model.W_U.detach(), W_U, "W_U of the model that was given")


# sample -------------------------------------------------------------------------------------


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def written(submission, model, prompt, n, temperature, generator):
    """The answer's text; fails if it is no tensor of as many tokens as there should be."""
    got, length = submission.sample(model, prompt, n, temperature, generator), len(prompt) + n
    require(
        isinstance(got, torch.Tensor) and got.shape == (length,),
        f"A prompt of {len(prompt)} and n = {n} make {length} tokens, so the answer should be a tensor of shape "
        f"[{length}]; it is {describe(got)}.",
    )
    return got


@exercise("sample", points=1, explains=True)
def test_keeps_the_prompt_and_adds_n_tokens(submission, rng):
    model, prompt = zero_layer_model(rng), random_text(rng, 7, 11)
    for n in (1, 6):
        got = written(submission, model, prompt, n, 1.0, seeded(0))
        expect(got[:7], prompt, "the beginning of the text, which is the prompt,")


@exercise("sample", points=1)
def test_each_token_is_drawn_from_the_one_before(submission, rng):
    order = torch.randperm(6, generator=rng)
    logits = torch.full((6, 6), -50.0)
    logits[order, order.roll(-1)] = 50.0  # each token has one possible successor, in a circle
    got = written(submission, model_of_table(logits), order[:2], 8, 1.0, seeded(1))
    want = order.repeat(2)[:10]
    expect(got, want, "the text of a model in which each token has one possible successor")


@exercise("sample", points=1)
def test_draws_by_the_softmax_of_logits_over_temperature(submission, rng):
    n = 300
    for temperature, logits in ((0.25, [0.5, 0.0, -0.25, 0.25]), (4.0, [8.0, 0.0, -4.0, 4.0])):
        logits = torch.tensor(logits).repeat(4, 1)  # the same whatever came before
        model = model_of_table(logits)
        tokens = written(submission, model, torch.tensor([0]), n, temperature, generator(rng))[1:]
        share = torch.bincount(tokens.long(), minlength=4)[:4] / n
        want = (logits[0] / temperature).softmax(-1)
        limit = 4.5 * (want * (1 - want) / n).sqrt() + 1 / n
        told, wanted, counted = (
            ", ".join(f"{x:{form}}" for x in values.tolist())
            for values, form in ((logits[0], "g"), (want, ".2f"), (share, ".2f"))
        )
        require(
            bool(((share - want).abs() < limit).all()),
            f"At temperature {temperature:g}, tokens with logits {told} should come up with frequencies near "
            f"{wanted}; yours: {counted} in {n} draws.",
        )


@exercise("sample", points=1, explains=True)
def test_the_same_seed_writes_the_same_text(submission, rng):
    model, prompt = model_of_table(torch.zeros(7, 7)), torch.tensor([3])
    one, again, other = (written(submission, model, prompt, 30, 1.0, seeded(s)) for s in (5, 5, 6))
    require(
        torch.equal(again, one),
        "The same seed wrote two different texts: pass `generator=generator` wherever you draw.",
    )
    require(not torch.equal(one, other), "Two different seeds wrote the same 30 random tokens.")


# furthest_tokens ----------------------------------------------------------------------------


def slow_kl(model, counts):
    """KL of each counted row from the model's, in nats; NaN for a token that never occurs."""
    kl = []
    for a in range(len(counts)):
        log_q = model(torch.tensor([[a]]))[0, 0].double().log_softmax(-1)
        n = int(counts[a].sum())
        p = [int(c) / n for c in counts[a]] if n else [math.nan]
        kl.append(sum(x * (math.log(x) - log_q[b].item()) for b, x in enumerate(p) if x != 0))
    return torch.tensor(kl)


def check_furthest(submission, model, counts, k):
    got = whole_numbers(submission.furthest_tokens(model, counts, k), "furthest_tokens(model, counts, k)")
    require(
        len(got) == len(set(got)) == k and all(0 <= a < len(counts) for a in got),
        f"For k = {k} there should be {k} different tokens from 0 to {len(counts) - 1}; yours: {got}.",
    )
    kl = slow_kl(model, counts)
    unseen = [a for a in got if kl[a].isnan()]
    require(
        not unseen,
        f"Your answer {got} holds token {unseen and unseen[0]}, which never occurs: its row of counts is empty. Leave such "
        "tokens out, and return the numbers that the others have in the whole vocabulary.",
    )
    best, mine = kl.nan_to_num(-1).topk(k).values.sum().item(), kl[got].sum().item()
    require(
        mine >= 0.999 * best - 1e-4,
        f"The {k} furthest tokens have KLs that add up to {best:.3f} nats; yours add up to {mine:.3f}.",
    )


@exercise("furthest_tokens", points=1)
def test_finds_the_largest_kl(submission, rng):
    certain = random_counts(rng, 24, high=30)
    certain[::2] = certain[::2] ** 3  # some tokens are far more certain of what follows than others
    check_furthest(submission, zero_layer_model(rng, d_vocab=24), certain, 6)
    hardly_trained = model_of_table(normal(rng, 24, 24, scale=0.3))
    check_furthest(submission, hardly_trained, certain, 8)


@exercise("furthest_tokens", points=1)
def test_leaves_out_tokens_that_never_occur(submission, rng):
    counts = random_counts(rng, 12)
    counts[[1, 4, 8]] = 0
    check_furthest(submission, zero_layer_model(rng, d_vocab=12), counts, 9)
    # Nor does one come before a token that the model knows exactly, at a KL of 0.
    for known in (0, 11):
        table, with_known = normal(rng, 12, 12), counts.clone()
        table[known, 3], with_known[known] = 100, 0
        with_known[known, 3] = 7
        check_furthest(submission, model_of_table(table), with_known, 9)


@exercise("furthest_tokens", points=1)
def test_frequent_tokens_count_no_more_than_rare_ones(submission, rng):
    counts = random_counts(rng, 20)
    counts[:10] *= 1000
    check_furthest(submission, zero_layer_model(rng, d_vocab=20), counts, 8)
    once = torch.randint(20, (10,), generator=rng)
    counts[10:] = torch.nn.functional.one_hot(once, 20)
    check_furthest(submission, zero_layer_model(rng, d_vocab=20), counts, 8)


# predict_distance ---------------------------------------------------------------------------


def counts_of_fresh_text(rng, d_vocab, n_tokens):
    """Counts of a random text whose tokens differ in frequency."""
    share = 1 / torch.arange(1, d_vocab + 1)[torch.randperm(d_vocab, generator=rng)]
    chain = share.log() + torch.randn(d_vocab, d_vocab, generator=rng)
    seldom = torch.rand(d_vocab, generator=rng) < 0.9  # most tokens never follow themselves, as in real text
    chain.diagonal()[seldom] = -torch.inf
    chain = chain.softmax(-1)
    times = (n_tokens * share / share.sum()).round().long().clamp(min=2)
    followers = [
        torch.multinomial(row, n, replacement=True, generator=rng)
        for row, n in zip(chain, times.tolist())
    ]
    return torch.stack([torch.bincount(f, minlength=d_vocab) for f in followers])


def measured_distance(rng, counts, d_model):
    """The KL by token of a model trained on a text with these counts, by Adam without its averages'
    corrections."""
    W_E = normal(rng, len(counts), d_model, scale=0.1).requires_grad_()
    W_U = normal(rng, d_model, len(counts), scale=0.1).requires_grad_()
    means, squares = ([torch.zeros_like(W) for W in (W_E, W_U)] for _ in range(2))
    for _ in range(100):
        loss = -(counts * (W_E @ W_U).log_softmax(-1)).sum() / counts.sum()
        grads = torch.autograd.grad(loss, [W_E, W_U])
        for W, grad, mean, square in zip((W_E, W_U), grads, means, squares):
            mean.mul_(0.9).add_(0.1 * grad)
            square.mul_(0.99).add_(0.01 * grad**2)
            W.data -= 0.05 * mean / (square.sqrt() + 1e-8)
    p = counts / counts.sum(-1, keepdim=True)
    return (torch.xlogy(p, p) - p * (W_E @ W_U).detach().log_softmax(-1)).sum(-1)


def ranks(x):
    """Ranks, with equal values sharing theirs."""
    x = x.double()
    return (x[:, None] > x).double().sum(1) + 0.5 * (x[:, None] == x).double().sum(1)


def rank_correlation(a, b):
    a, b = ranks(a), ranks(b)
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-9))


LEAST = 0.55  # a frequency reaches 0.7 to 0.9 on any seed, anything else at most 0.4


def check_distance(submission, rng, d_model, n_tokens=20_000):
    counts = counts_of_fresh_text(rng, 80, n_tokens)
    score = submission.predict_distance(counts)
    score = torch.as_tensor(score).double()
    require(score.shape == (len(counts),), f"There should be one score per token; yours: {list(score.shape)}.")
    require(bool(score.isfinite().all()), "Some scores of tokens that occur are NaN or infinite.")
    got = rank_correlation(score, measured_distance(rng, counts, d_model))
    require(
        got >= LEAST,
        f"Your scores should order the tokens as the measured KL does. On a model with d_model = "
        f"{d_model}, trained for this check on {n_tokens:,} tokens, their rank "
        f"correlation is {got:+.2f}; at least {LEAST:+.2f} is needed.",
    )


def in_order(score):
    return torch.as_tensor(score).double().nan_to_num().unique(return_inverse=True)[1].double()


BEHAVIOUR = {"predict_distance": in_order}  # by which a mistake is known


@exercise("predict_distance", points=1)
def test_orders_the_tokens_as_a_fresh_model_does(submission, rng):
    check_distance(submission, rng, d_model=8)


@exercise("predict_distance", points=1)
def test_holds_for_a_narrower_model_and_another_text(submission, rng):
    check_distance(submission, rng, d_model=4)


@exercise("predict_distance", points=1)
def test_looks_at_the_counts_and_not_at_token_numbers(submission, rng):
    counts = counts_of_fresh_text(rng, 30, 1000)
    order = torch.tensor(shuffle(rng, 30))
    score = torch.as_tensor(submission.predict_distance(counts)).double()
    renamed = torch.as_tensor(submission.predict_distance(counts[order][:, order])).double()
    require(len(score.unique()) > 1, "All your scores are equal, which predicts nothing.")
    kept = rank_correlation(renamed, score[order])  # of equals, either may come first
    require(
        kept > 0.97,
        "The order of your scores should be the same after all tokens were renumbered; the rank correlation "
        f"of the two orders is {kept:+.2f}.",
    )
