"""Checks of chapter 6. Each says in its name what must be true of an answer."""

import copy
import functools
import itertools
import math

import torch

from circuits.checking import answer_to, exercise, expect, fail, require
from circuits.inputs import generator, integer, normal, random_model, random_tokens
from circuits.symmetries import FULL, symmetric
from utils.labels import CLASSES, label_library
from utils.materials.dictionaries import latents_of, load_dictionary
from utils.model import get_act_name
from utils.pretrained import load_model

TOYS = "its arguments are toys, and no part of a transformer"
DICTIONARY = "its arguments are vectors and a dictionary of them, written down in one way"
TABLES = "its arguments are tables of numbers and of what is so"
SYMMETRIES = {
    "sparse_batch": "it draws numbers",
    "toy_forward": TOYS,
    "toy_loss": TOYS,
    "features_held": "its argument is a word",
    "represented": TOYS,
    "interference": TOYS,
    "feature_dimensionality": TOYS,
    "nearly_orthogonal": "it draws vectors",
    "two_feature_loss": TOYS,
    "best_of_two": "its arguments are numbers",
    "sae_encode": DICTIONARY,
    "sae_decode": DICTIONARY,
    "sae_loss": DICTIONARY,
    "top_k_activation": DICTIONARY,
    "unit_norm_decoder": DICTIONARY,
    "l0": DICTIONARY,
    "dead_share": DICTIONARY,
    "explained_variance": DICTIONARY,
    "loss_recovered": symmetric(FULL),
    "best_f1_per_label": TABLES,
    "class_latents": "it has no argument",
    "linear_probe": TABLES,
    "auroc": TABLES,
    "sparse_probe": TABLES,
    "control_labels": "it draws labels for numbers of tokens",
    "steer": symmetric(FULL, name=None, returns="token"),
    "transcoder": symmetric(FULL, parts=None),
    "head_to_latent": symmetric("regauge heads neurons vocabulary constant"),
    "splits": DICTIONARY,
}

COINCIDENCES = {}


def full_model(rng, **shape):
    """A small model with ReLU MLPs, LayerNorm and biases, in which no weight is at its start."""
    kind = dict(attn_only=False, d_mlp=13, act_fn="relu", normalization_type="LN", biases=True)
    return random_model(rng, **kind | shape)


def toys(rng, instances=3, n_features=7, n_hidden=5):
    return normal(rng, instances, n_features, n_hidden, scale=0.6), normal(rng, instances, n_features, scale=0.5)


def uniform(rng, low, high, *shape):
    return low + (high - low) * torch.rand(shape, generator=rng)


# sparse_batch -------------------------------------------------------------------------------


@exercise("sparse_batch", points=1)
def test_each_instance_has_its_own_probability(submission, rng):
    probability = torch.tensor([0.1, 0.35, 0.6, 0.9, 0.02])[torch.randperm(5, generator=rng)]
    x = submission.sparse_batch(probability, 7, 700, generator(rng))
    require(tuple(x.shape) == (700, 5, 7), f"The result should have shape [700, 5, 7]; yours has {list(x.shape)}.")
    for i, p in enumerate(probability.tolist()):
        share, margin = (x[:, i] != 0).double().mean().item(), 5 * (p * (1 - p) / 4900) ** 0.5
        require(
            abs(share - p) < margin,
            f"Features of an instance with probability {p:g} should be there in {p:.0%} of the cases; yours are in {share:.1%}.",
        )


@exercise("sparse_batch", points=1)
def test_strengths_are_spread_evenly_from_0_to_1(submission, rng):
    probability = uniform(rng, 0.3, 0.9, 3)
    x = torch.as_tensor(submission.sparse_batch(probability, 6, 500, generator(rng))).double()
    there = x[x != 0]
    require(len(there) > 0, "All features are 0.")
    require(bool(((there > 0) & (there <= 1)).all()), f"Strengths lie between 0 and 1; yours go from {there.min():.3g} to {there.max():.3g}.")
    counts = torch.histc(there, 5, 0, 1)
    each, n = len(there) / 5, len(there)
    require(
        bool(((counts - each).abs() < 5 * (n * 0.16) ** 0.5).all()),
        f"Of {n} strengths, each fifth from 0 to 1 should hold about {each:.0f}; yours hold {[int(c) for c in counts]}.",
    )
    require(len(there.unique()) > 0.9 * n, "Many strengths are equal: every entry is drawn for itself.")


@exercise("sparse_batch", points=1)
def test_every_entry_is_drawn_for_itself_from_the_generator(submission, rng):
    probability, seed = torch.tensor([0.5, 0.4, 0.6]), integer(rng, 0, 2**40)
    one, again, other = (
        torch.as_tensor(submission.sparse_batch(probability, 5, 600, torch.Generator().manual_seed(s))).double()
        for s in (seed, seed, seed + 1)
    )
    require(one.shape == again.shape == other.shape == (600, 3, 5), f"The result should have shape [600, 3, 5]; yours has {list(one.shape)}.")
    require(torch.equal(one, again), "The same seed made two different batches: draw from `generator`.")
    require(not torch.equal(one, other), "Two different seeds made the same batch: draw from `generator`.")
    there = (one != 0).double().flatten(1)
    together = torch.corrcoef(there.T) - torch.eye(15)
    worst = together.abs().max().item()
    require(worst < 0.25, f"Two entries of a sample are there together too often or too seldom (correlation {worst:.2f}): draw for each whether it is there.")
    strong, known = one.flatten(1), there.flatten(1).bool()
    for a, b in itertools.combinations(range(15), 2):
        both = known[:, a] & known[:, b]
        r = torch.corrcoef(strong[both][:, [a, b]].T)[0, 1].item()
        require(abs(r) < 0.5, f"Strengths of two entries of a sample go together (correlation {r:.2f}): draw each for itself.")
    same = (there[1:] == there[:-1]).all(1).double().mean().item()  # by chance: about one pair in 20,000
    require(same < 0.05, f"{same:.0%} of the samples have the features of the one before: draw each sample.")


# toy_forward --------------------------------------------------------------------------------


def slow_toy(x, W, b):
    """One sample of one instance: x [f], W [f h], b [f], as lists."""
    h = [sum(x[f] * W[f][k] for f in range(len(x))) for k in range(len(W[0]))]
    back = [sum(h[k] * W[f][k] for k in range(len(h))) + b[f] for f in range(len(x))]
    return [max(0.0, v) for v in back]


@exercise("toy_forward", points=1, explains=True)
def test_a_pair_of_opposites_by_hand(submission, rng):
    W, b = torch.tensor([[[1.0], [-1.0], [0.0]]]), torch.tensor([[0.0, 0.0, 0.25]])
    x = torch.tensor([[[0.5, 0.0, 0.9]], [[0.0, 0.7, 0.0]], [[0.6, 0.2, 0.0]]])
    want = [[[0.5, 0.0, 0.25]], [[0.0, 0.7, 0.25]], [[0.4, 0.0, 0.25]]]
    expect(submission.toy_forward(x, W, b), want, "what an opposite pair and a lost feature become")


@exercise("toy_forward", points=1)
def test_each_instance_uses_its_own_matrix_both_ways(submission, rng):
    (W, b), x = toys(rng), uniform(rng, 0, 1, 6, 3, 7)
    want = [[slow_toy(x[i, j].tolist(), W[j].tolist(), b[j].tolist()) for j in range(3)] for i in range(6)]
    expect(submission.toy_forward(x, W, b), want, "the outputs of three toys", rtol=1e-3)


@exercise("toy_forward", points=1)
def test_more_hidden_dimensions_than_features_work_too(submission, rng):
    (W, b), x = toys(rng, 5, 3, 6), uniform(rng, 0, 1, 8, 5, 3)
    want = [[slow_toy(x[i, j].tolist(), W[j].tolist(), b[j].tolist()) for j in range(5)] for i in range(8)]
    expect(submission.toy_forward(x, W, b), want, "the outputs of five toys", rtol=1e-3)


# toy_loss -----------------------------------------------------------------------------------


@exercise("toy_loss", points=1, explains=True)
def test_two_samples_by_hand(submission, rng):
    x = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 0.0, 1.0]], [[0.0, 0.0, 0.5], [0.0, 0.0, 1.0]]])
    out = torch.tensor([[[0.5, 0.0, 0.5], [0.0, 0.0, 0.0]], [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    importance = torch.tensor([[2.0, 3.0, 4.0], [1.0, 1.0, 6.0]])
    want = [(2 * 0.25 + 3 * 1 + 4 * 0.25) / 2, 6 / 2]
    expect(submission.toy_loss(x, out, importance), want, "the losses of two samples of two toys")


def slow_loss(x, out, importance):
    x, out, importance = (t.double().tolist() for t in (x, out, importance))
    n = range(len(x[0][0]))
    return [
        sum(importance[j][f] * (x[i][j][f] - out[i][j][f]) ** 2 for i in range(len(x)) for f in n) / len(x)
        for j in range(len(importance))
    ]


@exercise("toy_loss", points=1)
def test_sums_over_features_and_averages_over_samples(submission, rng):
    for shape in ((9, 3, 7), (5, 6, 3)):
        x, out = uniform(rng, 0, 1, *shape), uniform(rng, 0, 1, *shape)
        importance = torch.ones(shape[1:]) * (1 + integer(rng, 1, 5))
        expect(submission.toy_loss(x, out, importance), slow_loss(x, out, importance), "the losses", rtol=1e-3)


@exercise("toy_loss", points=1)
def test_each_feature_of_each_instance_counts_by_its_importance(submission, rng):
    x, out, importance = uniform(rng, 0, 1, 8, 5, 6), uniform(rng, 0, 1, 8, 5, 6), uniform(rng, 0.1, 3, 5, 6)
    expect(submission.toy_loss(x, out, importance), slow_loss(x, out, importance), "the losses", rtol=1e-3)


# features_held ------------------------------------------------------------------------------

OFTEN = {"always": 1.0, "one time in three": 1 / 3, "one time in twenty": 0.05}


@functools.lru_cache(maxsize=3)
def lowest_losses(p):
    """The lowest loss that k of five features reach in the plane, at equal angles or as opposite pairs, by trying
    lengths and biases on 20,000 samples; the others are given up."""
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(20_000, 5, generator=rng) * (torch.rand(20_000, 5, generator=rng) < p)
    angles = {2: [[0, 90]], 3: [[0, 180, 90], [0, 120, 240]], 4: [[0, 90, 180, 270]], 5: [[0, 72, 144, 216, 288]]}
    given_up, best = p / 3 - p * p / 4, {}
    for k, layouts in angles.items():
        losses = []
        for layout in layouts:
            turn = torch.tensor(layout) * math.pi / 180
            unit = torch.stack([turn.cos(), turn.sin()], -1)
            for length in (0.8, 0.9, 1.0, 1.1):
                W = length * unit
                back = x[:, :k] @ W @ W.T
                for bias in (-0.25, -0.15, -0.1, -0.05, 0.0, 0.05):
                    losses.append((x[:, :k] - (back + bias).relu()).pow(2).sum(-1).mean().item())
        best[k] = min(losses) + (5 - k) * given_up
    return best


def check_held(submission, how_often):
    got = answer_to(how_often, submission.features_held, OFTEN)
    losses = lowest_losses(OFTEN[how_often])
    require(got in losses, f"Say 2, 3, 4 or 5 of {how_often!r}; you said {got!r}.")
    best = min(losses, key=losses.get)
    table = ", ".join(f"{k}: {loss:.4f}" for k, loss in losses.items())
    require(
        int(got) == best,
        f"You say {got} of features that are there {how_often}. The lowest losses found with 2 to 5 of them are {table}.",
    )


@exercise("features_held", points=1)
def test_is_right_about_dense_features(submission, rng):
    check_held(submission, "always")


@exercise("features_held", points=1)
def test_is_right_about_rarer_features(submission, rng):
    check_held(submission, "one time in three")


@exercise("features_held", points=1)
def test_is_right_about_rare_features(submission, rng):
    check_held(submission, "one time in twenty")


# represented --------------------------------------------------------------------------------


def lengths(W):
    return [[math.sqrt(sum(v * v for v in row)) for row in instance] for instance in W.double().tolist()]


def scaled(rng, *shape):
    """Rows of all lengths between 0.1 and 1.2, none within 0.02 of a half."""
    W = torch.nn.functional.normalize(normal(rng, *shape), dim=-1)
    length = uniform(rng, 0.1, 1.2, *shape[:-1], 1)
    return W * torch.where((length - 0.5).abs() < 0.02, length + 0.05, length)


@exercise("represented", points=1)
def test_compares_each_rows_length_with_a_half(submission, rng):
    W = scaled(rng, 3, 9, 5)
    want = torch.tensor([[v > 0.5 for v in row] for row in lengths(W)])
    expect(submission.represented(W), want, "which features are represented")


@exercise("represented", points=1)
def test_a_row_of_many_small_entries_can_be_long(submission, rng):
    W = 0.3 * torch.sign(normal(rng, 5, 6, 3))  # each row is 0.52 long
    W[:, integer(rng, 0, 2)] *= 0.9  # these 0.47
    W[1:3, 5] *= 0.8
    want = torch.tensor([[v > 0.5 for v in row] for row in lengths(W)])
    expect(submission.represented(W), want, "which features are represented")


@exercise("represented", points=1)
def test_negative_entries_count_like_positive_ones(submission, rng):
    W = -scaled(rng, 6, 5, 3).abs()
    want = torch.tensor([[v > 0.5 for v in row] for row in lengths(W)])
    expect(submission.represented(W), want, "which features are represented")


# interference, feature_dimensionality -------------------------------------------------------


def products(W):
    """[instance][i][j]: (W_i / |W_i|) . W_j, 0 where W_i is 0."""
    found = []
    for rows in W.double().tolist():
        norm = [math.sqrt(sum(v * v for v in row)) for row in rows]
        found.append([[sum(a * b for a, b in zip(u, v)) / n if n else 0.0 for v in rows] for u, n in zip(rows, norm)])
    return found


def slow_interference(W):
    return [[sum(v * v for j, v in enumerate(row) if j != i) for i, row in enumerate(table)] for table in products(W)]


def slow_dimensionality(W):
    return [
        [table[i][i] ** 2 / sum(v * v for v in row) if any(row) else 0.0 for i, row in enumerate(table)]
        for table in products(W)
    ]


def with_a_lost_feature(rng, W):
    W[integer(rng, 0, len(W) - 1), integer(rng, 0, W.shape[1] - 1)] = 0.0
    return W


def polygon(n, length=1.0):
    turn = torch.arange(n) * 2 * math.pi / n
    return length * torch.stack([turn.cos(), turn.sin()], -1)[None]


@exercise("interference", points=1, explains=True)
def test_interference_of_a_pair_by_hand(submission, rng):
    W = torch.tensor([[[2.0, 0.0], [-0.5, 0.0], [0.0, 3.0]]])
    expect(submission.interference(W), [[0.25, 4.0, 0.0]], "the interference of an opposite pair and one alone")


@exercise("interference", points=1)
def test_interference_is_what_of_the_others_lies_along_each(submission, rng):
    for shape in ((3, 7, 5), (5, 6, 3)):
        W = normal(rng, *shape)
        expect(submission.interference(W), slow_interference(W), "the interference", rtol=1e-3, atol=1e-4)


@exercise("interference", points=1)
def test_a_lost_feature_has_and_makes_no_interference(submission, rng):
    W = with_a_lost_feature(rng, normal(rng, 3, 8, 5))
    expect(submission.interference(W), slow_interference(W), "the interference where a row is 0", rtol=1e-3, atol=1e-4)


@exercise("feature_dimensionality", points=1, explains=True)
def test_shares_of_pairs_and_pentagons(submission, rng):
    expect(submission.feature_dimensionality(torch.tensor([[[1.0, 0], [-1, 0], [0, 1]]])), [[0.5, 0.5, 1.0]], "the shares of an opposite pair and one alone")
    expect(submission.feature_dimensionality(polygon(5)), [[0.4] * 5], "the shares in a pentagon")


@exercise("feature_dimensionality", points=1)
def test_is_the_share_of_what_lies_along_a_feature_that_is_its_own(submission, rng):
    for shape in ((3, 7, 5), (5, 6, 3)):
        W = normal(rng, *shape) * uniform(rng, 0.3, 2, *shape[:2], 1)
        expect(submission.feature_dimensionality(W), slow_dimensionality(W), "the shares", rtol=1e-3, atol=1e-4)


@exercise("feature_dimensionality", points=1)
def test_a_lost_feature_has_no_share(submission, rng):
    W = with_a_lost_feature(rng, normal(rng, 3, 8, 5))
    expect(submission.feature_dimensionality(W), slow_dimensionality(W), "the shares where a row is 0", rtol=1e-3, atol=1e-4)


# nearly_orthogonal --------------------------------------------------------------------------


def check_nearly_orthogonal(submission, rng, n, d, eps):
    got = torch.as_tensor(submission.nearly_orthogonal(n, d, eps, generator(rng))).double()
    require(tuple(got.shape) == (n, d), f"{n} vectors in {d} dimensions have shape [{n}, {d}]; yours have {list(got.shape)}.")
    expect(got.norm(dim=-1), torch.ones(n), "the lengths of the vectors", rtol=1e-3)
    cosines = got @ got.T - torch.eye(n)
    worst = cosines.abs().max().item()
    i, j = divmod(int(cosines.abs().argmax()), n)
    require(worst < eps + 1e-5, f"Vectors {i} and {j} have a cosine of {cosines[i, j]:.3f}; it should lie between -{eps:.2f} and {eps:.2f}.")
    return got


@exercise("nearly_orthogonal", points=1)
def test_more_vectors_than_dimensions(submission, rng):
    check_nearly_orthogonal(submission, rng, 14, 10, 0.5)
    check_nearly_orthogonal(submission, rng, 17, 9, 0.6)


@exercise("nearly_orthogonal", points=1)
def test_opposite_vectors_are_not_nearly_orthogonal(submission, rng):
    check_nearly_orthogonal(submission, rng, 13, 8, 0.55)
    check_nearly_orthogonal(submission, rng, 22, 13, 0.5)


@exercise("nearly_orthogonal", points=1)
def test_in_many_dimensions_a_small_eps_will_do(submission, rng):
    check_nearly_orthogonal(submission, rng, 48, 40, float(uniform(rng, 0.42, 0.46, 1)))
    check_nearly_orthogonal(submission, rng, 16, 9, 0.6)


# two_feature_loss ---------------------------------------------------------------------------


def close_loss(submission, W, b, p, r, want, what, rtol=2e-3):
    got = submission.two_feature_loss(torch.tensor(W), torch.tensor(b), p, r)
    expect(got, want, f"the expected loss of {what}", rtol=rtol, atol=1e-7)


@exercise("two_feature_loss", points=1, explains=True)
def test_one_kept_one_given_up_and_a_pair(submission, rng):
    close_loss(submission, [1.0, 0.0], [0.0, 0.3], 0.6, 5.0, 5 * (0.2 - 0.09), "W = (1, 0), b = (0, 0.3), p = 0.6, r = 5")
    close_loss(submission, [1.0, -1.0], [0.0, 0.0], 0.3, 5.0, 0.09 / 6 * 6, "W = (1, -1), b = 0, p = 0.3, r = 5")


@exercise("two_feature_loss", points=1)
def test_where_the_relu_never_cuts_moments_are_enough(submission, rng):
    for _ in range(3):
        w1, w2, b1, b2 = uniform(rng, 0.05, 0.9, 4).tolist()
        p, r = float(uniform(rng, 0.1, 0.95, 1)), float(uniform(rng, 0.2, 6, 1))
        mean, square, both = p / 2, p / 3, p * p / 4  # E[x], E[x²], E[x1 x2]

        def error(a, c, b):  # E[(a x + c y - b)²]
            return (a * a + c * c) * square + 2 * a * c * both - 2 * b * (a + c) * mean + b * b

        want = error(1 - w1 * w1, -w1 * w2, b1) + r * error(1 - w2 * w2, -w1 * w2, b2)
        close_loss(submission, [w1, w2], [b1, b2], p, r, want, f"W = ({w1:.2f}, {w2:.2f}), b = ({b1:.2f}, {b2:.2f}), p = {p:.2f}, r = {r:.2f}")


@exercise("two_feature_loss", points=1)
def test_where_the_relu_cuts_every_case_counts(submission, rng):
    grid = (torch.arange(400, dtype=torch.double) + 0.5) / 400
    x1, x2 = grid[:, None].expand(400, 400), grid.expand(400, 400)
    zero = torch.zeros((), dtype=torch.double)
    for sign in (1, -1, 1):
        w1, w2 = float(uniform(rng, 0.5, 1.1, 1)) * sign, float(uniform(rng, 0.5, 1.1, 1)) * -sign
        b1, b2 = uniform(rng, -0.3, 0.3, 2).tolist()
        p, r = float(uniform(rng, 0.2, 0.9, 1)), float(uniform(rng, 0.2, 6, 1))
        want = 0.0
        for there, chance in ((0, 0), (1 - p) ** 2), ((1, 0), p - p * p), ((0, 1), p - p * p), ((1, 1), p * p):
            u, v = (x if t else zero for x, t in zip((x1, x2), there))
            h = w1 * u + w2 * v
            first, second = (u - (w1 * h + b1).clamp(min=0)) ** 2, (v - (w2 * h + b2).clamp(min=0)) ** 2
            want += chance * float((first + r * second).mean())
        close_loss(submission, [w1, w2], [b1, b2], p, r, want, f"W = ({w1:.2f}, {w2:.2f}), b = ({b1:.2f}, {b2:.2f}), p = {p:.2f}, r = {r:.2f}")


# best_of_two --------------------------------------------------------------------------------


def three_losses(p, r):
    """By the moments of what is left: E[min(x1, x2)²] of two present ones is 1/6, and a given-up one leaves its variance."""
    variance = p / 3 - (p / 2) ** 2
    return {"first": r * variance, "second": variance, "both": p * p * (1 + r) / 6}


def check_best(submission, rng, wanted):
    """A dozen cases near a border, in which one use is better by 2 to 25%, and one of each of the others."""
    n, seen = 0, set()
    for _ in range(5000):
        p, r = 10 ** float(uniform(rng, -1.5, 0, 1)), 10 ** float(uniform(rng, -1, 1, 1))
        losses = sorted((loss, what) for what, loss in three_losses(p, r).items())
        best, ahead = losses[0][1], losses[1][0] / losses[0][0]
        if (best == wanted and 1.02 < ahead < 1.25) or (best not in seen and ahead > 1.05):
            got = submission.best_of_two(p, r)
            require(
                got == best,
                f"At p = {p:.3f} and r = {r:.2f} the losses are "
                + ", ".join(f"{what} {loss:.5f}" for loss, what in losses) + f"; you say {got!r}.",
            )
            seen.add(best)
            n += best == wanted
        if n >= 12 and len(seen) == 3:
            return
    fail("No such case was drawn.")


@exercise("best_of_two", points=1)
def test_keeps_both_where_features_are_rare(submission, rng):
    check_best(submission, rng, "both")


@exercise("best_of_two", points=1)
def test_keeps_the_first_where_it_matters_more(submission, rng):
    check_best(submission, rng, "first")


@exercise("best_of_two", points=1)
def test_keeps_the_second_where_it_matters_more(submission, rng):
    check_best(submission, rng, "second")


# A dictionary -------------------------------------------------------------------------------


def dictionary(rng, d=5, n_latents=11):
    return {
        "W_enc": normal(rng, d, n_latents), "b_enc": normal(rng, n_latents, scale=0.5),
        "W_dec": normal(rng, n_latents, d), "b_pre": normal(rng, d),
    }  # fmt: skip


def slow_encode(x, W_enc, b_enc, b_pre):
    x, W, b, c = (t.double().tolist() for t in (x, W_enc, b_enc, b_pre))
    return [[max(0.0, b[j] + sum((row[i] - c[i]) * W[i][j] for i in range(len(c)))) for j in range(len(b))] for row in x]


@exercise("sae_encode", points=1)
def test_b_pre_comes_out_before_the_encoder(submission, rng):
    for d, n_latents, n in ((5, 11, 7), (6, 3, 8)):
        D, x = dictionary(rng, d, n_latents), normal(rng, n, d)
        D["b_enc"] *= 0
        want = slow_encode(x, D["W_enc"], D["b_enc"], D["b_pre"])
        expect(submission.sae_encode(x, D["W_enc"], D["b_enc"], D["b_pre"]), want, "the activations, with b_enc = 0,", rtol=1e-3, atol=1e-4)


@exercise("sae_encode", points=1)
def test_b_enc_is_added_inside_the_relu(submission, rng):
    D, x = dictionary(rng), normal(rng, 7, 5)
    D["b_enc"] = normal(rng, 11, scale=2.0)
    want = slow_encode(x, D["W_enc"], D["b_enc"], D["b_pre"])
    expect(submission.sae_encode(x, D["W_enc"], D["b_enc"], D["b_pre"]), want, "the activations", rtol=1e-3, atol=1e-4)


@exercise("sae_encode", points=1)
def test_vectors_at_b_pre_wake_what_b_enc_wakes(submission, rng):
    D = dictionary(rng)
    x = D["b_pre"].expand(6, 5).clone()
    x[3:] += normal(rng, 3, 5)
    want = slow_encode(x, D["W_enc"], D["b_enc"], D["b_pre"])
    expect(submission.sae_encode(x, D["W_enc"], D["b_enc"], D["b_pre"]), want, "the activations of b_pre and of other vectors", rtol=1e-3, atol=1e-4)


@exercise("sae_decode", points=1)
def test_one_latent_gives_its_direction(submission, rng):
    D, acts = dictionary(rng), torch.zeros(6, 11)
    latents = torch.randperm(11, generator=rng)[:6]
    strength = uniform(rng, 0.5, 3, 6)
    acts[torch.arange(6), latents] = strength
    want = torch.stack([s * D["W_dec"][i].double() + D["b_pre"].double() for i, s in zip(latents.tolist(), strength.double())])
    expect(submission.sae_decode(acts, D["W_dec"], D["b_pre"]), want, "the vectors of single latents", rtol=1e-3, atol=1e-4)


@exercise("sae_decode", points=1)
def test_latents_add_up(submission, rng):
    for d, n_latents, n in ((5, 11, 7), (6, 3, 8)):
        D, acts = dictionary(rng, d, n_latents), normal(rng, n, n_latents).relu()
        want = [
            [float(D["b_pre"][j]) + sum(float(acts[i, m]) * float(D["W_dec"][m, j]) for m in range(n_latents)) for j in range(d)]
            for i in range(n)
        ]
        expect(submission.sae_decode(acts, D["W_dec"], D["b_pre"]), want, "the reconstructions", rtol=1e-3, atol=1e-4)


@exercise("sae_decode", points=1)
def test_nothing_gives_b_pre(submission, rng):
    D, acts = dictionary(rng, 7, 9), normal(rng, 5, 9).relu()
    acts[integer(rng, 0, 4)] = 0.0
    want = acts.double() @ D["W_dec"].double() + D["b_pre"].double()
    expect(submission.sae_decode(acts, D["W_dec"], D["b_pre"]), want, "the reconstructions, where in one row nothing fires,", rtol=1e-3, atol=1e-4)


def slow_price(x, out, acts, l1):
    errors = [sum((a - b) ** 2 for a, b in zip(u, v)) for u, v in zip(x.double().tolist(), out.double().tolist())]
    prices = [l1 * sum(map(abs, row)) for row in acts.double().tolist()]
    return sum(map(sum, zip(errors, prices))) / len(errors)


@exercise("sae_loss", points=1)
def test_without_a_price_it_is_the_squared_error(submission, rng):
    for n, d in ((7, 5), (3, 9)):
        x, out, acts = normal(rng, n, d), normal(rng, n, d), normal(rng, n, 11).relu()
        expect(submission.sae_loss(x, out, acts, 0.0), slow_price(x, out, acts, 0.0), "the loss with l1 = 0", rtol=1e-3)


@exercise("sae_loss", points=1)
def test_a_perfect_reconstruction_still_pays_for_what_fires(submission, rng):
    x, acts, l1 = normal(rng, 7, 5), normal(rng, 7, 11).relu(), float(uniform(rng, 0.3, 3, 1))
    expect(submission.sae_loss(x, x.clone(), acts, l1), slow_price(x, x, acts, l1), "the loss of a perfect reconstruction", rtol=1e-3)


@exercise("sae_loss", points=1)
def test_both_terms_are_sums_averaged_over_vectors(submission, rng):
    x, out, acts, l1 = normal(rng, 9, 6), normal(rng, 9, 6), normal(rng, 9, 13), float(uniform(rng, 0.3, 3, 1))
    expect(submission.sae_loss(x, out, acts, l1), slow_price(x, out, acts, l1), "the loss", rtol=1e-3)


def slow_top_k(acts, k):
    want = torch.zeros_like(acts)
    for i, row in enumerate(acts.tolist()):
        for j in sorted(range(len(row)), key=lambda j: -row[j])[:k]:
            want[i, j] = row[j]
    return want


@exercise("top_k_activation", points=1)
def test_keeps_the_k_largest_of_each_vector(submission, rng):
    for n, m, k in ((7, 11, 3), (5, 9, 6)):
        acts = uniform(rng, 0.01, 3, n, m) * uniform(rng, 0.2, 5, n, 1)
        expect(submission.top_k_activation(acts, k), slow_top_k(acts, k), f"the {k} largest activations of each vector")


@exercise("top_k_activation", points=1)
def test_changes_nothing_where_fewer_fire(submission, rng):
    acts = uniform(rng, 0.1, 3, 6, 13)
    for row in range(6):
        acts[row, torch.randperm(13, generator=rng)[: 6 + row]] = 0.0
    expect(submission.top_k_activation(acts, 5), slow_top_k(acts, 5), "the 5 largest, where fewer fire in some,")


@exercise("top_k_activation", points=1)
def test_k_counts_for_each_vector_and_not_for_all_together(submission, rng):
    acts = uniform(rng, 0.01, 1, 8, 10) * torch.tensor([1.0, 100, 1, 50, 1, 1, 200, 1])[:, None]
    expect(submission.top_k_activation(acts, 3), slow_top_k(acts, 3), "the 3 largest activations, where some vectors are much longer,")


@exercise("unit_norm_decoder", points=1)
def test_rows_have_length_1_and_their_direction(submission, rng):
    D = dictionary(rng)
    _, _, W_dec = submission.unit_norm_decoder(D["W_enc"], D["b_enc"], D["W_dec"])
    want = [[v / math.sqrt(sum(u * u for u in row)) for v in row] for row in D["W_dec"].double().tolist()]
    expect(W_dec, want, "W_dec with rows of length 1", rtol=1e-3)


def check_rebuilds(submission, rng, D):
    x = normal(rng, 8, D["W_enc"].shape[0])
    before = slow_encode(x, D["W_enc"], D["b_enc"], D["b_pre"])
    W_enc, b_enc, _ = submission.unit_norm_decoder(D["W_enc"], D["b_enc"], D["W_dec"])
    require(tuple(W_enc.shape) == tuple(D["W_enc"].shape), f"W_enc should keep its shape; yours has {list(W_enc.shape)}.")
    norm = D["W_dec"].double().norm(dim=-1)
    got = slow_encode(x, W_enc, b_enc, D["b_pre"])
    expect(got, torch.tensor(before) * norm, "each latent's activation, which gains what its row loses,", rtol=1e-3, atol=1e-4)


@exercise("unit_norm_decoder", points=1)
def test_activations_gain_what_rows_lose(submission, rng):
    D = dictionary(rng)
    check_rebuilds(submission, rng, D | {"b_enc": torch.zeros(11)})


@exercise("unit_norm_decoder", points=1)
def test_reconstructions_stay_as_they_were(submission, rng):
    D = dictionary(rng, 7, 9)
    check_rebuilds(submission, rng, D | {"b_enc": normal(rng, 9, scale=2.0), "W_dec": D["W_dec"] * uniform(rng, 0.2, 4, 9, 1)})


# What to ask of a dictionary ----------------------------------------------------------------


def firing(rng, n=17, n_latents=11, share=0.3):
    return uniform(rng, 0.001, 4, n, n_latents) * (torch.rand(n, n_latents, generator=rng) < share)


@exercise("l0", points=1)
def test_counts_what_fires_for_a_vector(submission, rng):
    for n, m in ((17, 11), (6, 23)):
        acts = firing(rng, n, m)
        want = sum(sum(v > 0 for v in row) for row in acts.tolist()) / n
        expect(submission.l0(acts), want, "the mean number of latents that fire", rtol=1e-4)


@exercise("l0", points=1)
def test_how_strongly_does_not_matter(submission, rng):
    acts = firing(rng, 9, 15)
    acts[:5] *= 1e-3
    acts[5:] *= 100.0
    expect(submission.l0(acts), (acts > 0).double().sum().item() / 9, "the mean number of latents that fire", rtol=1e-4)


@exercise("l0", points=1)
def test_vectors_for_which_nothing_fires_count_too(submission, rng):
    acts = firing(rng, 13, 7, 0.6)
    acts[:integer(rng, 3, 6)] = 0.0
    expect(submission.l0(acts), (acts > 0).double().sum().item() / 13, "the mean number of latents that fire", rtol=1e-4)


def with_dead(rng, n, m, dead):
    acts = firing(rng, n, m, 0.2)
    acts[torch.randint(n, (m,), generator=rng), torch.arange(m)] = uniform(rng, 0.001, 3, m)
    acts[:, torch.randperm(m, generator=rng)[:dead]] = 0.0
    return acts


@exercise("dead_share", points=1)
def test_a_latent_that_never_fires_is_dead(submission, rng):
    for n, m in ((17, 11), (8, 23)):
        dead = integer(rng, 1, m - 3)
        expect(submission.dead_share(with_dead(rng, n, m, dead)), dead / m, f"the dead share of {m} latents of which {dead} never fire")


@exercise("dead_share", points=1)
def test_a_latent_that_fires_once_and_weakly_lives(submission, rng):
    acts = torch.zeros(19, 13)
    lives = integer(rng, 3, 9)
    acts[torch.randint(19, (lives,), generator=rng), torch.randperm(13, generator=rng)[:lives]] = 1e-4
    expect(submission.dead_share(acts), (13 - lives) / 13, f"the dead share where {lives} of 13 latents fire once")


@exercise("dead_share", points=1)
def test_vectors_for_which_nothing_fires_do_not_matter(submission, rng):
    dead = integer(rng, 2, 5)
    acts = torch.cat([torch.zeros(6, 9), with_dead(rng, 11, 9, dead)])
    expect(submission.dead_share(acts), dead / 9, f"the dead share where {dead} of 9 latents never fire")


def slow_explained(x, out):
    x, out = x.double().tolist(), out.double().tolist()
    mean = [sum(column) / len(x) for column in zip(*x)]
    error = sum((a - b) ** 2 for u, v in zip(x, out) for a, b in zip(u, v))
    return 1 - error / sum((a - m) ** 2 for u in x for a, m in zip(u, mean))


@exercise("explained_variance", points=1)
def test_compares_the_error_with_the_variance(submission, rng):
    for n, d in ((17, 5), (9, 12)):
        x = normal(rng, n, d) * uniform(rng, 0.2, 3, d) + 2 * normal(rng, d)
        out = x + normal(rng, n, d, scale=0.5)
        expect(submission.explained_variance(x, out), slow_explained(x, out), "the explained variance", rtol=1e-3, atol=1e-4)


@exercise("explained_variance", points=1)
def test_is_below_0_if_the_mean_would_do_better(submission, rng):
    x = normal(rng, 11, 6) + normal(rng, 6)
    out = 2 * normal(rng, 11, 6)
    expect(submission.explained_variance(x, out), slow_explained(x, out), "the explained variance of bad reconstructions", rtol=1e-3, atol=1e-4)


@exercise("explained_variance", points=1)
def test_the_mean_explains_nothing(submission, rng):
    x = normal(rng, 13, 7) * uniform(rng, 0.2, 2, 13, 1) + 3 * normal(rng, 7)
    part = float(uniform(rng, 0.2, 0.8, 1))
    out = x.mean(0) + part * (x - x.mean(0))
    expect(submission.explained_variance(x, out), 1 - (1 - part) ** 2, f"the explained variance of {part:.0%} of the way from the mean", rtol=1e-3, atol=1e-4)


def mean_loss(model, tokens, hooks=()):
    logits = model.run_with_hooks(tokens, fwd_hooks=list(hooks))[:, :-1].double().log_softmax(-1)
    return -logits.gather(-1, tokens[:, 1:, None]).mean().item()


def loud(rng, **shape):
    """A model whose MLPs matter for the loss."""
    model = full_model(rng, **shape)
    for block in model.blocks:
        block.mlp.W_out.data *= 2.5
    return model


def check_recovered(submission, rng, layer, replacement_of, what, **shape):
    model = loud(rng, **shape)
    tokens = random_tokens(rng, model, batch=integer(rng, 9, 12), pos=8)
    name = get_act_name("mlp_out", layer)
    true = model.run_with_cache(tokens, names_filter=name)[1][name]
    new = replacement_of(true)

    def instead(x):
        return mean_loss(model, tokens, [(name, lambda _, hook: x)])

    zeros, plain = instead(torch.zeros_like(true)), mean_loss(model, tokens)
    if abs(zeros - plain) < 0.05:  # the quotient would be rounding
        return check_recovered(submission, rng, layer, replacement_of, what, **shape)
    want = (zeros - instead(new)) / (zeros - plain)
    got = submission.loss_recovered(model, tokens, layer, new)
    expect(got, want, f"the loss recovered by {what} in layer {layer}", rtol=5e-3, atol=5e-3)


@exercise("loss_recovered", points=1)
def test_a_half_right_replacement(submission, rng):
    for layer in (0, 2):
        check_recovered(submission, rng, layer, lambda true: 0.6 * true, "0.6 of the MLP's output")


@exercise("loss_recovered", points=1)
def test_a_disturbed_replacement(submission, rng):
    for layer in (1, 2):
        check_recovered(submission, rng, layer, lambda true: true + normal(rng, *true.shape), "a noisy output")


@exercise("loss_recovered", points=1)
def test_something_else_altogether(submission, rng):
    check_recovered(submission, rng, 1, lambda true: 2 * normal(rng, *true.shape), "random vectors")
    check_recovered(submission, rng, 0, lambda true: true.mean((0, 1)).expand_as(true) + 0, "the mean output", n_layers=2)


def slow_best(acts, labels, share):
    """[latent][label]: F1."""
    table = []
    for l in range(acts.shape[1]):
        column = acts[:, l].double()
        fires = (column > share * float(column.max())).tolist()
        row = []
        for c in range(labels.shape[1]):
            has = labels[:, c].tolist()
            both, total = sum(a and b for a, b in zip(fires, has)), sum(fires) + sum(has)
            row.append(2 * both / total if total else 0.0)
        table.append(row)
    return torch.tensor(table)


def check_best_f1(submission, acts, labels, share):
    latent, f1 = submission.best_f1_per_label(acts, labels, share)
    table = slow_best(acts, labels, share)
    best = table.amax(0)
    expect(f1, best, f"the best F1 for each label at share {share:.2f}", rtol=1e-3, atol=1e-4)
    latent = torch.as_tensor(latent)
    require(latent.shape == best.shape, f"There should be a latent for each of {len(best)} labels; yours has shape {list(latent.shape)}.")
    require(bool(((latent >= 0) & (latent < len(table))).all()), f"Latents are numbered 0 to {len(table) - 1}.")
    for c, l in enumerate(latent.long().tolist()):
        require(table[l, c] > best[c] - 1e-4, f"For label {c} latent {int(table[:, c].argmax())} has the best F1, {best[c]:.3f}; yours, {l}, has {table[l, c]:.3f}.")


@exercise("best_f1_per_label", points=1)
def test_above_0_is_firing_where_the_share_is_0(submission, rng):
    acts, labels = firing(rng, 40, 7), torch.rand(40, 5, generator=rng) < 0.3
    acts[:, integer(rng, 0, 6)] = 0.0
    labels[:, integer(rng, 0, 4)] = False  # a label that never comes, and a latent that never fires: F1 is 0
    check_best_f1(submission, acts, labels, 0.0)


@exercise("best_f1_per_label", points=1)
def test_the_threshold_is_a_share_of_each_latents_own_maximum(submission, rng):
    acts = firing(rng, 50, 9, 0.7) * uniform(rng, 0.1, 10, 9)
    check_best_f1(submission, acts, torch.rand(50, 6, generator=rng) < 0.2, float(uniform(rng, 0.2, 0.6, 1)))


@exercise("best_f1_per_label", points=1)
def test_each_label_has_a_latent_of_its_own(submission, rng):
    labels = torch.rand(60, 5, generator=rng) < 0.25
    acts = firing(rng, 60, 11, 0.3)
    for c, l in enumerate(torch.randperm(11, generator=rng)[:5].tolist()):
        noisy = labels[:, c] ^ (torch.rand(60, generator=rng) < 0.1)
        acts[:, l] = noisy * uniform(rng, 1, 3, 60)
    check_best_f1(submission, acts, labels, float(uniform(rng, 0.05, 0.3, 1)))


# class_latents ------------------------------------------------------------------------------

N_WINDOWS = 48
KEPT = 0.3  # of an F1 of 0.35 on one text, on another


@functools.lru_cache(maxsize=1)
def fresh_text():
    """Labelled windows of files that the chapter does not look at; what the last MLP of the shipped model writes
    there, [n d_model], and the shipped dictionary's latents, [n n_latents]."""
    windows = label_library(1).windows(N_WINDOWS, 256, torch.Generator().manual_seed(1))
    model, name = load_model("full_two_layer").requires_grad_(False), get_act_name("mlp_out", 1)
    caches = [model.run_with_cache(part, names_filter=name)[1] for part in windows.tokens.split(8)]
    x = torch.cat([cache[name] for cache in caches]).flatten(0, 1)
    return windows, x, latents_of(load_dictionary(), x)


def f1_of(fires, inside):
    return float(2 * (fires & inside).sum() / (fires.sum() + inside.sum()).clamp(min=1))


@functools.lru_cache(maxsize=len(CLASSES))
def by_chance(name):
    """The best F1 that any of 100 random directions reaches for a class, each at its best threshold of some."""
    windows, x, _ = fresh_text()
    directions = torch.randn(x.shape[1], 100, generator=torch.Generator().manual_seed(0))
    along, inside = (x - x.mean(0)) @ directions, windows[name].flatten()
    levels = along[::10].quantile(torch.tensor([0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995]), dim=0)
    best = 0.0
    for level in levels:
        fires = along > level
        both = fires[inside].sum(0)
        best = max(best, float((2 * both / (fires.sum(0) + inside.sum())).max()))
    return best


def check_classes(submission, rng, n):
    found = submission.class_latents()
    require(isinstance(found, list | tuple) and len(found) >= n, f"You name fewer than {n} latents.")
    windows, _, acts = fresh_text()
    at = torch.randperm(N_WINDOWS, generator=rng)[: 7 * N_WINDOWS // 8]
    good, said = set(), []
    for entry in list(found)[:12]:
        try:
            latent, name, threshold = int(entry[0]), str(entry[1]), float(entry[2])
        except (TypeError, ValueError, IndexError):
            fail(f"Each entry should be (latent, class, threshold); one of yours is {entry!r}.")
        require(0 <= latent < acts.shape[1], f"Latents are numbered 0 to {acts.shape[1] - 1}; one of yours is {latent}.")
        require(name in CLASSES, f"No class is called {name!r}. There are: {', '.join(CLASSES)}.")
        fires = (acts[:, latent] > threshold).view(N_WINDOWS, -1)[at]
        f1, chance = f1_of(fires, windows[name][at]), by_chance(name)
        said.append(f"latent {latent} for {name!r} has an F1 of {f1:.2f}, a random direction up to {chance:.2f}")
        if f1 > max(KEPT, chance):
            good.add(name)
    require(len(good) >= n, f"On fresh text too few classes ({len(good)} of {n}) are above {KEPT} and chance: {'; '.join(said)}.")


@exercise("class_latents", points=1, prepare=fresh_text)
def test_two_classes_have_a_latent(submission, rng):
    check_classes(submission, rng, 2)


@exercise("class_latents", points=1, prepare=fresh_text)
def test_four_classes_have_a_latent(submission, rng):
    check_classes(submission, rng, 4)


@exercise("class_latents", points=1, prepare=fresh_text)
def test_five_classes_have_a_latent(submission, rng):
    check_classes(submission, rng, 5)


# linear_probe -------------------------------------------------------------------------------


def probe_value(x, y, w, b, l2):
    """The value that a probe makes smallest."""
    z = x.double() @ torch.as_tensor(w).double() + float(b)
    loss = torch.nn.functional.softplus(torch.where(y, -z, z)).mean()
    return float(loss + l2 / 2 * torch.as_tensor(w).double().pow(2).sum())


def best_probe(x, y, l2):
    theta = torch.zeros(x.shape[1] + 1, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([theta], max_iter=300, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        z = x.double() @ theta[:-1] + theta[-1]
        value = torch.nn.functional.softplus(torch.where(y, -z, z)).mean() + l2 / 2 * theta[:-1].pow(2).sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(closure)
    return theta.detach()[:-1], float(theta[-1].detach())


def check_probe(submission, x, y, l2, what):
    w, b = submission.linear_probe(x, y, l2)
    w = torch.as_tensor(w)
    require(w.shape == (x.shape[1],), f"w should have shape [{x.shape[1]}]; yours has {list(w.shape)}.")
    require(bool(w.isfinite().all()) and math.isfinite(float(b)), "w and b should be finite numbers.")
    best = best_probe(x, y, l2)
    got, want = probe_value(x, y, w, b, l2), probe_value(x, y, *best, l2)
    require(got < want + 1e-3, f"For {what} the smallest value is {want:.4f}, at b = {best[1]:.3f}; yours is {got:.4f}, at b = {float(b):.3f}.")


def noisy_labels(rng, x, offset=0.0):
    w = normal(rng, x.shape[1])
    return (x @ w + offset + normal(rng, len(x), scale=1.5)) > 0


@exercise("linear_probe", points=1)
def test_finds_the_lowest_value(submission, rng):
    for n, d, l2 in ((90, 5, 0.05), (70, 7, 0.3)):
        x = normal(rng, n, d)
        check_probe(submission, x, noisy_labels(rng, x), l2, f"{n} vectors of {d} entries, l2 = {l2}")


@exercise("linear_probe", points=1)
def test_the_offset_is_free(submission, rng):
    x = normal(rng, 120, 5, scale=0.5)
    y = noisy_labels(rng, x, offset=2.6)
    x = x - 3.0 * normal(rng, 5)
    check_probe(submission, x, y, 0.5, "vectors far from 0, with many in the class")


@exercise("linear_probe", points=1)
def test_rare_classes_and_uneven_columns(submission, rng):
    x = normal(rng, 150, 6)
    y = noisy_labels(rng, x, offset=-2.5)
    y[:3] = True
    check_probe(submission, x * torch.tensor([3.0, 0.5, 1.0, 1.5, 0.3, 1.0]), y, 0.02, "a rare class and columns of different size")


# auroc --------------------------------------------------------------------------------------


def slow_auroc(scores, y):
    inside = [s for s, t in zip(scores.double().tolist(), y.tolist()) if t]
    outside = [s for s, t in zip(scores.double().tolist(), y.tolist()) if not t]
    return sum((a > b) + 0.5 * (a == b) for a in inside for b in outside) / (len(inside) * len(outside))


def labelled(rng, n, share):
    y = torch.rand(n, generator=rng) < share
    y[0], y[1] = True, False
    return y


@exercise("auroc", points=1)
def test_is_the_share_of_pairs_in_the_right_order(submission, rng):
    for n, share in ((23, 0.4), (31, 0.15)):
        y = labelled(rng, n, share)
        scores = normal(rng, n) + y * float(uniform(rng, 0.3, 1.5, 1))
        expect(submission.auroc(scores, y), slow_auroc(scores, y), "the area under the curve", rtol=1e-4)


@exercise("auroc", points=1)
def test_equal_scores_count_half(submission, rng):
    y = labelled(rng, 29, 0.4)
    scores = torch.randint(0, 3, (29,), generator=rng).float() + y * torch.randint(0, 2, (29,), generator=rng)
    expect(submission.auroc(scores, y), slow_auroc(scores, y), "the area under the curve, with equal scores,", rtol=1e-4)


@exercise("auroc", points=1)
def test_is_below_a_half_where_the_order_is_wrong(submission, rng):
    y = labelled(rng, 27, 0.3)
    scores = normal(rng, 27) * 50 - 60 * y
    expect(submission.auroc(scores, y), slow_auroc(scores, y), "the area under the curve of bad scores", rtol=1e-4)


# sparse_probe -------------------------------------------------------------------------------


def column_scores(x, y):
    x = x.double()
    found = []
    for column in x.T.tolist():
        inside = [v for v, t in zip(column, y.tolist()) if t]
        outside = [v for v, t in zip(column, y.tolist()) if not t]
        mean = sum(column) / len(column)
        std = math.sqrt(sum((v - mean) ** 2 for v in column) / (len(column) - 1))
        found.append(abs(sum(inside) / len(inside) - sum(outside) / len(outside)) / std if std > 1e-6 else 0.0)
    return found


def check_columns(submission, x, y, k):
    got = torch.as_tensor(submission.sparse_probe(x, y, k))
    require(got.shape == (k,), f"Asked for {k} columns, the result has shape {list(got.shape)}.")
    scores = column_scores(x, y)
    want = sorted(range(len(scores)), key=lambda i: -scores[i])[:k]
    for n, (i, j) in enumerate(zip(got.long().tolist(), want)):
        require(0 <= i < len(scores), f"Columns are numbered 0 to {len(scores) - 1}; one of yours is {i}.")
        require(
            abs(scores[i] - scores[j]) < 1e-4 * (1 + scores[j]),
            f"Column {n} of the choice should be {j}, whose means differ by {scores[j]:.3f} standard deviations; yours is {i}, with {scores[i]:.3f}.",
        )
    require(len(set(got.tolist())) == k, "A column comes twice.")


@exercise("sparse_probe", points=1)
def test_the_columns_that_the_class_moves_most(submission, rng):
    y = labelled(rng, 40, 0.4)
    check_columns(submission, normal(rng, 40, 9) + y[:, None] * normal(rng, 9), y, 3)


@exercise("sparse_probe", points=1)
def test_in_units_of_each_column_and_whatever_the_sign(submission, rng):
    y = labelled(rng, 50, 0.3)
    x = normal(rng, 50, 11) - y[:, None] * uniform(rng, 0, 2, 11)
    check_columns(submission, x * 10 ** uniform(rng, -2, 2, 11), y, 5)


@exercise("sparse_probe", points=1)
def test_a_column_that_never_changes_comes_last(submission, rng):
    y = labelled(rng, 30, 0.5)
    x = normal(rng, 30, 7) + y[:, None] * normal(rng, 7)
    x[:, integer(rng, 0, 6)] = 0.0
    check_columns(submission, x, y, 6)


# control_labels -----------------------------------------------------------------------------


def controlled(submission, rng, share, n=3000, d_vocab=600, seed=None):
    tokens = torch.randint(d_vocab, (n,), generator=rng)
    gen = generator(rng) if seed is None else torch.Generator().manual_seed(seed)
    return tokens, torch.as_tensor(submission.control_labels(tokens, d_vocab, share, gen))


@exercise("control_labels", points=1)
def test_equal_tokens_have_equal_labels(submission, rng):
    tokens, y = controlled(submission, rng, 0.4)
    require(y.shape == tokens.shape, f"The result should have shape [3000]; yours has {list(y.shape)}.")
    by_kind = torch.zeros(600, 2)
    by_kind.index_put_((tokens, y.long()), torch.ones(3000), accumulate=True)
    mixed = (by_kind > 0).all(1)
    require(not mixed.any(), f"{int(mixed.sum())} kinds of token are True at one place and False at another, such as token {int(mixed.float().argmax())}.")
    got = y.double().mean().item()
    require(0.2 < got < 0.6, f"With share = 0.4, {got:.0%} of the tokens are True.")


@exercise("control_labels", points=1)
def test_a_kind_is_true_with_the_given_probability(submission, rng):
    for share in (0.15, 0.6):
        tokens, y = controlled(submission, rng, share)
        kinds = torch.zeros(600, dtype=torch.bool)
        kinds[tokens] = y.bool()
        there = torch.bincount(tokens, minlength=600) > 0
        got, n = kinds[there].double().mean().item(), int(there.sum())
        require(
            abs(got - share) < 5 * (share * (1 - share) / n) ** 0.5,
            f"With share = {share}, about {share:.0%} of {n} kinds should be True; of yours {got:.1%} are.",
        )
        first, last = kinds[:300][there[:300]].double().mean().item(), kinds[300:][there[300:]].double().mean().item()
        require(abs(first - last) < 0.25, f"Low and high tokens are treated differently: {first:.0%} and {last:.0%} are True. Draw for each kind.")


@exercise("control_labels", points=1)
def test_labels_come_from_the_generator_and_not_from_the_tokens(submission, rng):
    seed, tokens = integer(rng, 0, 2**40), torch.randint(500, (2000,), generator=rng)
    one, again, other = (
        torch.as_tensor(submission.control_labels(tokens, 500, 0.5, torch.Generator().manual_seed(s))).bool()
        for s in (seed, seed, seed + 1)
    )
    require(torch.equal(one, again), "The same seed made different labels: draw from `generator`.")
    differ = (one != other).double().mean().item()
    require(0.3 < differ < 0.7, f"Two seeds gave labels that differ at {differ:.0%} of the tokens; by chance it would be half.")
    shuffled = torch.as_tensor(submission.control_labels(tokens.flip(0), 500, 0.5, torch.Generator().manual_seed(seed))).bool()
    require(torch.equal(shuffled.flip(0), one), "A token's label depends on where it stands. Draw one for each kind of token, then look it up.")


# transcoder ---------------------------------------------------------------------------------


# steer --------------------------------------------------------------------------------------


def steered(model, name, step):
    """The model with a step [d_model] added to an activation at every position: by its weights, without any hook."""
    new = copy.deepcopy(model)
    if name == "hook_embed":
        new.embed.W_E.data += step
    else:
        block = new.blocks[int(name.split(".")[1])]
        part = block.attn.b_O if name.endswith(("attn_out", "resid_mid")) else block.mlp.b_out
        part.data += step
    return new


def check_steered(submission, rng, names, dose_sign, n):
    for name in names:
        model, direction = loud(rng, n_ctx=24), normal(rng, 10)
        tokens = random_tokens(rng, model)
        dose = dose_sign * float(uniform(rng, 1.5, 3, 1))
        got = torch.as_tensor(submission.steer(model, tokens, name, direction, dose, n)).long()
        require(tuple(got.shape) == (len(tokens), n), f"For {len(tokens)} texts and n = {n} the result should have shape [{len(tokens)}, {n}]; yours has {list(got.shape)}.")
        require(bool(((got >= 0) & (got < model.cfg.d_vocab)).all()), f"Tokens are numbered 0 to {model.cfg.d_vocab - 1}.")
        other = steered(model, name, dose * direction)
        for i in range(n):
            logits = other(torch.cat([tokens, got[:, :i]], dim=1))[:, -1]
            missing = logits.max(-1).values - logits.gather(-1, got[:, i : i + 1])[:, 0]
            row = int(missing.argmax())
            require(
                missing[row] < 1e-2,
                f"With {dose:.2f} times the direction at {name!r}, text {row}: after {i} new tokens the likeliest next one is "
                f"{int(logits[row].argmax())}; yours is {int(got[row, i])}.",
            )


@exercise("steer", points=1)
def test_steers_early_positions_too(submission, rng):
    check_steered(submission, rng, ("hook_embed", "blocks.0.hook_attn_out", "blocks.0.hook_resid_post"), 1, 9)


@exercise("steer", points=1)
def test_steers_the_positions_of_new_tokens_too(submission, rng):
    check_steered(submission, rng, ("blocks.0.hook_mlp_out", "blocks.1.hook_resid_mid"), 1, 13)


@exercise("steer", points=1)
def test_a_negative_dose_steers_away(submission, rng):
    check_steered(submission, rng, ("blocks.0.hook_resid_mid", "blocks.1.hook_mlp_out", "blocks.2.hook_resid_post"), -1, 9)


# transcoder ---------------------------------------------------------------------------------


def transcoder_parts(rng, d=10, n_latents=17):
    return {
        "W_enc": normal(rng, d, n_latents), "b_enc": normal(rng, n_latents, scale=0.5), "b_pre": normal(rng, d, scale=0.5),
        "W_dec": normal(rng, n_latents, d, scale=0.4), "b_out": normal(rng, d),
    }  # fmt: skip


def slow_transcoder(model, tokens, layer, parts):
    """Logits with the transcoder in the MLP's place, through an MLP that is the transcoder."""
    name = get_act_name("resid_mid", layer)
    x = model.run_with_cache(tokens, names_filter=name)[1][name].double()
    ln, P = model.blocks[layer].ln2, {k: v.double() for k, v in parts.items()}
    c = x - x.mean(-1, keepdim=True)
    x = c / (c.pow(2).mean(-1, keepdim=True) + model.cfg.eps).sqrt() * ln.w.double() + ln.b.double()
    acts = ((x - P["b_pre"]) @ P["W_enc"] + P["b_enc"]).clamp(min=0)
    out = (acts @ P["W_dec"] + P["b_out"]).float()
    return model.run_with_hooks(tokens, fwd_hooks=[(get_act_name("mlp_out", layer), lambda _, hook: out)])


@exercise("transcoder", points=1)
def test_without_its_error_it_stands_in_for_the_mlp(submission, rng):
    for layer in (0, 2):
        model = full_model(rng)
        tokens, parts = random_tokens(rng), transcoder_parts(rng)
        want = slow_transcoder(model, tokens, layer, parts)
        got = submission.transcoder(model, tokens, layer, parts, False)
        expect(got, want, f"the logits with a transcoder in the place of MLP {layer}", rtol=1e-3, atol=1e-3)


@exercise("transcoder", points=1, explains=True)
def test_with_its_error_nothing_changes(submission, rng):
    for layer in (0, 1):
        model = full_model(rng)
        tokens = random_tokens(rng)
        got = submission.transcoder(model, tokens, layer, transcoder_parts(rng), True)
        expect(got, model(tokens), "the logits with the transcoder and its error", rtol=1e-3, atol=1e-3)


@exercise("transcoder", points=1)
def test_nothing_but_b_out_is_left_where_no_latent_fires(submission, rng):
    model, parts = full_model(rng, n_layers=2), transcoder_parts(rng)
    tokens = random_tokens(rng)
    parts["b_enc"] = parts["b_enc"] - 100.0
    want = slow_transcoder(model, tokens, 1, parts)
    got = submission.transcoder(model, tokens, 1, parts, False)
    expect(got, want, "the logits where no latent fires", rtol=1e-3, atol=1e-3)


# head_to_latent -----------------------------------------------------------------------------


def slow_drive(model, layer, W_enc):
    d, block = model.cfg.d_model, model.blocks[layer]
    C = torch.eye(d, dtype=torch.double) - 1 / d
    reads = C @ torch.diag(block.ln2.w.double()) @ W_enc.double()
    rows = []
    for head in range(model.cfg.n_heads):
        OV = block.attn.W_V[head].double() @ block.attn.W_O[head].double()
        rows.append((OV @ reads).pow(2).sum(0).sqrt())
    return torch.stack(rows)


@exercise("head_to_latent", points=1)
def test_is_the_length_of_what_a_latent_reads_from_a_head(submission, rng):
    model = full_model(rng)
    for layer in (0, 2):
        W_enc = normal(rng, 10, 17)
        expect(submission.head_to_latent(model, layer, W_enc), slow_drive(model, layer, W_enc), f"the strengths in layer {layer}", rtol=1e-3, atol=1e-4)


@exercise("head_to_latent", points=1)
def test_a_latent_that_reads_the_mean_reads_nothing(submission, rng):
    model, W_enc = full_model(rng), normal(rng, 10, 8)
    W_enc[:, 3] = 1 / model.blocks[1].ln2.w
    W_enc[:, 5] += 3 / model.blocks[1].ln2.w
    expect(submission.head_to_latent(model, 1, W_enc), slow_drive(model, 1, W_enc), "the strengths, where a latent reads the mean,", rtol=1e-3, atol=1e-3)


@exercise("head_to_latent", points=1)
def test_the_weights_of_layer_norm_count(submission, rng):
    model, W_enc = full_model(rng), normal(rng, 10, 6)
    layer = integer(rng, 0, 2)
    model.blocks[layer].ln2.w.data *= uniform(rng, 0.2, 3, 10)
    expect(submission.head_to_latent(model, layer, W_enc), slow_drive(model, layer, W_enc), "the strengths", rtol=1e-3, atol=1e-4)


# splits -------------------------------------------------------------------------------------


def two_dictionaries(rng, opposite, n=7, m=21, d=23):
    """A dictionary [n d], a larger one [m d] in which each latent of the first has none to some relatives (a share of those
    drawn are `opposite`), a number that lies 0.02 or more from every cosine, and the relatives, nearest first."""
    small, large = normal(rng, n, d), normal(rng, m, d)
    for j in range(m - 4):
        own, noise = small[integer(rng, 0, n - 1)], float(uniform(rng, 0.3, 1.1, 1))
        sign = -1.0 if float(uniform(rng, 0, 1, 1)) < opposite else 1.0
        large[j] = sign * own / own.norm() + noise * normal(rng, d) / d**0.5
    small, large = (W * uniform(rng, 0.3, 3, len(W), 1) for W in (small, large))
    cosines, least = slow_cosines(small, large), float(uniform(rng, 0.6, 0.75, 1))
    ranked = cosines.argsort(dim=1, descending=True).tolist()
    relatives = [[j for j in js if cosines[i, j] >= least] for i, js in enumerate(ranked)]
    clear = bool(((cosines.abs() - least).abs() > 0.02).all()) and float(cosines.sort(dim=1).values.diff(dim=1).min()) > 1e-4
    numbers = [len(js) for js in relatives]
    if not (clear and 1 in numbers and 2 <= sum(k >= 2 for k in numbers) < n and max(numbers) > 2):
        return two_dictionaries(rng, opposite, n, m, d)
    return small, large, least, {i: js for i, js in enumerate(relatives) if len(js) >= 2}


def slow_cosines(small, large):
    small, large = ([(row, row.norm()) for row in W.double()] for W in (small, large))
    return torch.tensor([[float(a @ b / (length * other)) for b, other in large] for a, length in small])


def found_splits(submission, rng, opposite=0.2):
    small, large, least, wanted = two_dictionaries(rng, opposite)
    got = submission.splits(small, large, least)
    require(isinstance(got, dict), f"The result should be a dictionary, latent: [relatives]; yours is {type(got).__name__}.")
    try:
        got = {int(i): [int(j) for j in js] for i, js in got.items()}
    except (TypeError, ValueError):
        fail("Keys should be numbers of latents, values lists of such numbers.")
    return got, wanted, least


def check_relatives(got, wanted, least):
    missing, others = sorted(wanted.keys() - got.keys()), sorted(got.keys() - wanted.keys())
    require(not missing, f"Latents {missing} have two or more relatives with a cosine of at least {least:.2f}, and are missing.")
    require(not others, f"Latents {others} have fewer than two relatives with a cosine of at least {least:.2f}.")
    for i, js in wanted.items():
        require(set(got[i]) == set(js), f"The relatives of latent {i} at {least:.2f} are {sorted(js)}; yours are {sorted(got[i])}.")


@exercise("splits", points=1)
def test_latents_with_two_relatives_or_more_and_all_of_these(submission, rng):
    for _ in range(2):
        check_relatives(*found_splits(submission, rng))


@exercise("splits", points=1)
def test_opposites_are_no_relatives(submission, rng):
    for _ in range(2):
        check_relatives(*found_splits(submission, rng, opposite=0.5))


@exercise("splits", points=1)
def test_the_nearest_relative_comes_first(submission, rng):
    got, wanted, _ = found_splits(submission, rng)
    for i, js in wanted.items():
        require(got.get(i) == js, f"The relatives of latent {i}, nearest first, are {js}; yours are {got.get(i)}.")
