"""Known wrong answers to chapter 6, each with the hint it deserves. A learner whose answer does
what one of these does is shown its hint."""

import torch
import torch.nn.functional as F

from circuits.checking import mistake
from utils.model import get_act_name

# sparse_batch -------------------------------------------------------------------------------


def _draws(probability, n_features, batch, generator):
    shape = (batch, len(probability), n_features)
    return torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)


@mistake("sparse_batch", hint="Features are there where your draw is *above* the probability. A draw between 0 and 1 is below p with probability p.")
def above_the_probability(probability, n_features, batch, generator):
    strength, draw = _draws(probability, n_features, batch, generator)
    return strength * (draw > probability[:, None])


@mistake("sparse_batch", hint="One draw says both whether a feature is there and how strong it is, so strengths never exceed the probability. Draw twice.")
def one_draw_for_both(probability, n_features, batch, generator):
    draw = torch.rand(batch, len(probability), n_features, generator=generator)
    return draw * (draw < probability[:, None])


@mistake("sparse_batch", hint="Features that are there all have strength 1. Draw how strong each is, between 0 and 1.")
def always_full_strength(probability, n_features, batch, generator):
    _, draw = _draws(probability, n_features, batch, generator)
    return (draw < probability[:, None]).float()


@mistake("sparse_batch", hint="All features of a sample are there together or not at all: draw for each feature whether it is there.")
def all_features_together(probability, n_features, batch, generator):
    strength = torch.rand(batch, len(probability), n_features, generator=generator)
    return strength * (torch.rand(batch, len(probability), 1, generator=generator) < probability[:, None])


@mistake("sparse_batch", hint="Strengths are drawn from a normal distribution (`randn`). They are spread evenly between 0 and 1: `torch.rand`.")
def normal_strengths(probability, n_features, batch, generator):
    shape = (batch, len(probability), n_features)
    strength = torch.randn(shape, generator=generator)
    return strength * (torch.rand(shape, generator=generator) < probability[:, None])


@mistake("sparse_batch", hint="Every batch is the same: you seed a generator of your own. Draw from the `generator` that is given.")
def own_seed(probability, n_features, batch, generator):
    strength, draw = _draws(probability, n_features, batch, torch.Generator().manual_seed(0))
    return strength * (draw < probability[:, None])


@mistake("sparse_batch", hint="Features are weakened by the probability, and always there. With probability p they should be there, else 0.")
def weakened_instead_of_absent(probability, n_features, batch, generator):
    strength, _ = _draws(probability, n_features, batch, generator)
    return strength * probability[:, None]


@mistake("sparse_batch", hint="All instances share one set of samples before features are taken away. Draw strengths for each instance: `[batch instances n_features]`.")
def instances_share_strengths(probability, n_features, batch, generator):
    strength = torch.rand(batch, 1, n_features, generator=generator)
    shape = (batch, len(probability), n_features)
    return strength * (torch.rand(shape, generator=generator) < probability[:, None])


# toy_forward --------------------------------------------------------------------------------


def _toy(x, W, b):
    return torch.einsum("bih,ifh->bif", torch.einsum("bif,ifh->bih", x, W), W) + b


@mistake("toy_forward", hint="The ReLU is missing: negative outputs are cut off to 0.")
def without_relu(x, W, b):
    return _toy(x, W, b)


@mistake("toy_forward", hint="The bias is missing: it is added before the ReLU.")
def without_bias(x, W, b):
    return _toy(x, W, 0.0).relu()


@mistake("toy_forward", hint="The bias is added behind the ReLU. It belongs inside: ReLU(h Wᵀ + b).")
def bias_behind_the_relu(x, W, b):
    return _toy(x, W, 0.0).relu() + b


@mistake("toy_forward", hint="There is a ReLU on the hidden layer too. Only the output has one: h = x W is linear.")
def relu_on_the_hidden_layer(x, W, b):
    h = torch.einsum("bif,ifh->bih", x, W).relu()
    return (torch.einsum("bih,ifh->bif", h, W) + b).relu()


@mistake("toy_forward", hint="All instances use the matrix of the first. Keep the instance's index in the einsum: `bif,ifh->bih`.")
def first_matrix_for_all(x, W, b):
    return (x @ W[0] @ W[0].T + b).relu()


@mistake("toy_forward", hint="The bias is subtracted; it is added.")
def bias_subtracted(x, W, b):
    return _toy(x, W, -b).relu()


# toy_loss -----------------------------------------------------------------------------------


@mistake("toy_loss", hint="You average over the features. They are summed; only samples are averaged.")
def averages_over_features(x, out, importance):
    return (importance * (x - out) ** 2).mean(-1).mean(0)


@mistake("toy_loss", hint="You sum over the samples. They are averaged; only features are summed.")
def sums_over_samples(x, out, importance):
    return (importance * (x - out) ** 2).sum(-1).sum(0)


@mistake("toy_loss", hint="Importance is left out: multiply each feature's squared error by it.")
def without_importance(x, out, importance):
    return ((x - out) ** 2).sum(-1).mean(0)


@mistake("toy_loss", hint="Importance is squared along with the error. It multiplies the squared error.")
def importance_squared(x, out, importance):
    return ((importance * (x - out)) ** 2).sum(-1).mean(0)


@mistake("toy_loss", hint="You take the size of the error. Take its square.")
def absolute_error(x, out, importance):
    return (importance * (x - out).abs()).sum(-1).mean(0)


@mistake("toy_loss", hint="The losses of all instances are added up. Each has its own: the result is `[instances]`.")
def one_loss_for_all(x, out, importance):
    return (importance * (x - out) ** 2).sum(-1).mean(0).sum()


# features_held ------------------------------------------------------------------------------


@mistake("features_held", hint="Two dimensions hold two features without any interference. But if features are rare, some interference is cheaper than giving three up: look at opposite pairs.")
def never_more_than_dimensions(how_often):
    return 2


@mistake("features_held", hint="Five fit only where features are so rare that they hardly ever meet. Always-present features disturb each other all the time.")
def always_all_five(how_often):
    return 5


@mistake("features_held", hint="It is the other way round: the rarer features are, the more of them fit.")
def the_denser_the_more(how_often):
    return {"always": 5, "one time in three": 4, "one time in twenty": 2}[how_often]


@mistake("features_held", hint="Between two and five there is a stable shape with four: two pairs of opposites, each pair in a dimension of its own.")
def three_in_between(how_often):
    return {"always": 2, "one time in three": 3, "one time in twenty": 5}[how_often]


@mistake("features_held", hint="Of always-present features a pair of opposites is worse than one: both cannot be told apart when both are there. (And think of the rarest again.)")
def pairs_everywhere(how_often):
    return 4


@mistake("features_held", hint="At one time in twenty two features meet so seldom that even a fifth arrow pays: a pentagon.")
def four_at_most(how_often):
    return {"always": 2}.get(how_often, 4)


# represented --------------------------------------------------------------------------------


@mistake("represented", hint="You compare the *squared* length with a half. Take the length: `W.norm(dim=-1)`.")
def squared_length(W):
    return (W**2).sum(-1) > 0.5


@mistake("represented", hint="You look for one large entry. A row of many small ones can be long: take its length.")
def one_large_entry(W):
    return W.abs().amax(-1) > 0.5


@mistake("represented", hint="You add up the entries, and negative ones count against positive ones. Take the length: `W.norm(dim=-1)`.")
def sum_of_entries(W):
    return W.sum(-1) > 0.5


@mistake("represented", hint="You add up the sizes of the entries. The length is the root of the sum of their squares.")
def sum_of_sizes(W):
    return W.abs().sum(-1) > 0.5


@mistake("represented", hint="It says which features are *lost*: turn the comparison round.")
def says_what_is_lost(W):
    return W.norm(dim=-1) <= 0.5


@mistake("represented", hint="You take lengths along the features. Each row of an instance's W is a feature: the length is over the hidden dimensions, dim=-1.")
def along_the_features(W):
    return (W.norm(dim=1) > 0.5).any(-1, keepdim=True).expand(W.shape[:2])


# interference -------------------------------------------------------------------------------


def _hat(W):
    return W / W.norm(dim=-1, keepdim=True).clamp(min=1e-8)


@mistake("interference", hint="The feature itself is counted among the others: take off the diagonal, the squared length.")
def counts_itself(W):
    return ((_hat(W) @ W.mT) ** 2).sum(-1)


@mistake("interference", hint="The others are normalised, the feature is not. It is the other way round: the unit vector is of feature i.")
def normalises_the_others(W):
    table = (W @ _hat(W).mT) ** 2
    return table.sum(-1) - table.diagonal(dim1=-2, dim2=-1)


@mistake("interference", hint="Nothing is normalised: divide by the length of W_i.")
def normalises_nothing(W):
    table = (W @ W.mT) ** 2
    return table.sum(-1) - table.diagonal(dim1=-2, dim2=-1)


@mistake("interference", hint="Both vectors are normalised. Only feature i is: how long the others are counts.")
def normalises_both(W):
    table = (_hat(W) @ _hat(W).mT) ** 2
    return table.sum(-1) - table.diagonal(dim1=-2, dim2=-1)


@mistake("interference", hint="Projections are not squared. Add up their squares.")
def sums_sizes(W):
    table = (_hat(W) @ W.mT).abs()
    return table.sum(-1) - table.diagonal(dim1=-2, dim2=-1)


@mistake("interference", hint="A feature whose row is 0 gives 0 / 0. Keep the length from being 0: `.clamp(min=1e-8)`.")
def nan_for_a_lost_feature(W):
    table = (W / W.norm(dim=-1, keepdim=True) @ W.mT) ** 2
    return table.sum(-1) - table.diagonal(dim1=-2, dim2=-1)


# feature_dimensionality ---------------------------------------------------------------------


@mistake("feature_dimensionality", hint="The numerator is the squared length; yours is the length.")
def length_unsquared(W):
    return W.norm(dim=-1) / ((_hat(W) @ W.mT) ** 2).sum(-1).clamp(min=1e-8)


@mistake("feature_dimensionality", hint="The feature itself belongs to the sum in the denominator: j may be i. Else one that is alone has a share of infinity.")
def only_the_others_below(W):
    table = (_hat(W) @ W.mT) ** 2
    others = table.sum(-1) - table.diagonal(dim1=-2, dim2=-1)
    return W.norm(dim=-1) ** 2 / others.clamp(min=1e-8)


@mistake("feature_dimensionality", hint="Both vectors in the denominator are normalised. Only feature i is: how long the others are counts.")
def both_normalised_below(W):
    return W.norm(dim=-1) ** 2 / ((_hat(W) @ _hat(W).mT) ** 2).sum(-1).clamp(min=1e-8)


@mistake("feature_dimensionality", hint="Nothing in the denominator is normalised: divide W_i by its length.")
def not_normalised_below(W):
    return W.norm(dim=-1) ** 2 / ((W @ W.mT) ** 2).sum(-1).clamp(min=1e-8)


@mistake("feature_dimensionality", hint="The products in the denominator are not squared.")
def not_squared_below(W):
    return W.norm(dim=-1) ** 2 / (_hat(W) @ W.mT).abs().sum(-1).clamp(min=1e-8)


@mistake("feature_dimensionality", hint="It is upside down: the feature's own squared length is above, the sum below.")
def upside_down(W):
    return ((_hat(W) @ W.mT) ** 2).sum(-1) / (W.norm(dim=-1) ** 2).clamp(min=1e-8)


@mistake("feature_dimensionality", hint="A feature whose row is 0 gives 0 / 0: its share is 0. Keep both denominators from being 0 with `.clamp(min=1e-8)`.")
def nan_share_of_a_lost_feature(W):
    return W.norm(dim=-1) ** 2 / ((W / W.norm(dim=-1, keepdim=True) @ W.mT) ** 2).sum(-1)


# nearly_orthogonal --------------------------------------------------------------------------


def _drawn(n, d, generator, goes_with):
    kept = torch.zeros(0, d)
    while len(kept) < n:
        v = F.normalize(torch.randn(d, generator=generator), dim=0)
        if goes_with(kept, v):
            kept = torch.cat([kept, v[None]])
    return kept


@mistake("nearly_orthogonal", hint="You keep whatever is drawn. Keep a vector only if it goes with all that you have.")
def keeps_everything(n, d, eps, generator):
    return _drawn(n, d, generator, lambda kept, v: True)


@mistake("nearly_orthogonal", hint="Cosines near -1 pass in yours: opposite vectors lie along each other, too. Compare the *size* of the cosine.")
def opposites_pass(n, d, eps, generator):
    return _drawn(n, d, generator, lambda kept, v: bool((kept @ v < eps).all()))


@mistake("nearly_orthogonal", hint="You compare a new vector only with the last one. It must go with all that you have.")
def compares_with_the_last(n, d, eps, generator):
    return _drawn(n, d, generator, lambda kept, v: not len(kept) or bool((kept[-1] @ v).abs() < eps))


@mistake("nearly_orthogonal", hint="The axes and their opposites: a pair of opposites has a cosine of -1.")
def axes_and_opposites(n, d, eps, generator):
    return torch.cat([torch.eye(d), -torch.eye(d)])[:n]


@mistake("nearly_orthogonal", hint="The directions are right, but the vectors have not length 1.")
def of_any_length(n, d, eps, generator):
    kept = _drawn(n, d, generator, lambda kept, v: bool(((kept @ v).abs() < eps).all()))
    return kept * (1 + torch.arange(n))[:, None] / n


@mistake("nearly_orthogonal", hint="You compare the squared cosine with eps. Compare its size.")
def squared_cosine(n, d, eps, generator):
    return _drawn(n, d, generator, lambda kept, v: bool(((kept @ v) ** 2 < eps).all()))


# two_feature_loss ---------------------------------------------------------------------------


def _two(W, b, p, r, weights=None, relu=torch.relu, n=200, weight_of_both=1.0):
    grid, zero = (torch.arange(n) + 0.5) / n, torch.zeros(())

    def error(x1, x2):
        h = W[0] * x1 + W[1] * x2
        return ((x1 - relu(W[0] * h + b[0])) ** 2 + r * (x2 - relu(W[1] * h + b[1])) ** 2).mean().item()

    q = 1 - p
    none, first, second, both = weights or (q * q, p * q, p * q, p * p)
    cases = none * error(zero, zero), first * error(grid, zero), second * error(zero, grid)
    return sum(cases) + both * error(grid[:, None], grid)


@mistake("two_feature_loss", hint="Where only one feature is there, the other is not: the probability is p(1 - p), not p.")
def one_present_by_p(W, b, probability, importance):
    p = probability
    return _two(W, b, p, importance, ((1 - p) ** 2, p, p, p * p))


@mistake("two_feature_loss", hint="The case in which neither is there is left out. A positive bias answers something even then.")
def forgets_the_empty_case(W, b, probability, importance):
    p = probability
    return _two(W, b, p, importance, (0.0, p - p * p, p - p * p, p * p))


@mistake("two_feature_loss", hint="The ReLU is missing: negative answers are cut off to 0.")
def two_without_relu(W, b, probability, importance):
    return _two(W, b, probability, importance, relu=lambda x: x)


@mistake("two_feature_loss", hint="Where both are there you let them have the same strength. All pairs of strengths are possible: `grid[:, None]` against `grid`.")
def both_equally_strong(W, b, probability, importance):
    grid, zero = (torch.arange(200) + 0.5) / 200, torch.zeros(())

    def error(x1, x2):
        h = W[0] * x1 + W[1] * x2
        return ((x1 - (W[0] * h + b[0]).relu()) ** 2 + importance * (x2 - (W[1] * h + b[1]).relu()) ** 2).mean().item()

    p, q = probability, 1 - probability
    return q * q * error(zero, zero) + p * q * (error(grid, zero) + error(zero, grid)) + p * p * error(grid, grid)


@mistake("two_feature_loss", hint="`importance` multiplies the error of the first feature. It belongs to the second.")
def importance_of_the_first(W, b, probability, importance):
    return importance * _two(W, b, probability, 1 / importance)


@mistake("two_feature_loss", hint="Features that are there are taken to be 1. Their strength is anything from 0 to 1: average over it.")
def full_strength_only(W, b, probability, importance):
    one, zero = torch.ones(()), torch.zeros(())

    def error(x1, x2):
        h = W[0] * x1 + W[1] * x2
        return ((x1 - (W[0] * h + b[0]).relu()) ** 2 + importance * (x2 - (W[1] * h + b[1]).relu()) ** 2).item()

    p, q = probability, 1 - probability
    return q * q * error(zero, zero) + p * q * (error(one, zero) + error(zero, one)) + p * p * error(one, one)


@mistake("two_feature_loss", hint="The grid is too coarse: the value should be right to 0.001 of itself. Take 200 midpoints.")
def too_coarse(W, b, probability, importance):
    return _two(W, b, probability, importance, n=5)


# best_of_two --------------------------------------------------------------------------------


def _best(p, importance, given_up=None, pair=None, swapped=False):
    given_up = p / 3 - p**2 / 4 if given_up is None else given_up
    costs = {"first": importance * given_up, "second": given_up, "both": pair if pair is not None else p**2 / 6 * (1 + importance)}
    if swapped:
        costs["first"], costs["second"] = costs["second"], costs["first"]
    return min(costs, key=costs.get)


@mistake("best_of_two", hint="Keeping the first gives up the *second*, which counts `importance` times: the two costs are exchanged.")
def exchanged(probability, importance):
    return _best(probability, importance, swapped=True)


@mistake("best_of_two", hint="A given-up feature costs its variance, p/3 - p²/4, since the bias answers its mean. Yours costs p/3.")
def without_the_mean(probability, importance):
    return _best(probability, importance, given_up=probability / 3)


@mistake("best_of_two", hint="In a pair *each* of the two costs p²/6, and the second counts `importance` times.")
def pair_costs_once(probability, importance):
    return _best(probability, importance, pair=probability**2 / 6)


@mistake("best_of_two", hint="Each of a pair costs p²/6, the chance that both are there times the mean of the square of the smaller of two strengths. Yours costs twice that.")
def pair_costs_double(probability, importance):
    return _best(probability, importance, pair=probability**2 / 3 * (1 + importance))


@mistake("best_of_two", hint="You never choose a pair. Compare all three costs.")
def never_both(probability, importance):
    return "first" if importance < 1 else "second"


@mistake("best_of_two", hint="You take the largest of the three losses; the best has the smallest.")
def the_worst(probability, importance):
    p = probability
    given_up = p / 3 - p**2 / 4
    costs = {"first": importance * given_up, "second": given_up, "both": p**2 / 6 * (1 + importance)}
    return max(costs, key=costs.get)


# sae_encode ---------------------------------------------------------------------------------


@mistake("sae_encode", hint="`b_pre` is not taken out of the vectors before they meet `W_enc`.")
def b_pre_left_in(x, W_enc, b_enc, b_pre):
    return (x @ W_enc + b_enc).relu()


@mistake("sae_encode", hint="`b_pre` is added. Take it out: `x - b_pre`.")
def b_pre_added(x, W_enc, b_enc, b_pre):
    return ((x + b_pre) @ W_enc + b_enc).relu()


@mistake("sae_encode", hint="`b_enc` is missing: it is added before the ReLU.")
def b_enc_missing(x, W_enc, b_enc, b_pre):
    return ((x - b_pre) @ W_enc).relu()


@mistake("sae_encode", hint="`b_enc` is added behind the ReLU. It belongs inside: it says how much a latent needs before it fires.")
def b_enc_outside(x, W_enc, b_enc, b_pre):
    return ((x - b_pre) @ W_enc).relu() + b_enc


@mistake("sae_encode", hint="The ReLU is missing: activations below 0 become 0.")
def encode_without_relu(x, W_enc, b_enc, b_pre):
    return (x - b_pre) @ W_enc + b_enc


@mistake("sae_encode", hint="You take the size of negative activations. A ReLU cuts them off to 0.")
def absolute_activations(x, W_enc, b_enc, b_pre):
    return ((x - b_pre) @ W_enc + b_enc).abs()


# sae_decode ---------------------------------------------------------------------------------


@mistake("sae_decode", hint="`b_pre` is missing: what was taken out before comes back.")
def decode_without_b_pre(acts, W_dec, b_pre):
    return acts @ W_dec


@mistake("sae_decode", hint="`b_pre` is taken out once more. It is added.")
def b_pre_taken_out_again(acts, W_dec, b_pre):
    return acts @ W_dec - b_pre


@mistake("sae_decode", hint="There is a ReLU on the reconstruction. Vectors have entries of both signs: the decoder is linear.")
def relu_on_the_reconstruction(acts, W_dec, b_pre):
    return (acts @ W_dec + b_pre).relu()


@mistake("sae_decode", hint="`b_pre` is added once for each latent that fires. It is added once for each vector.")
def b_pre_for_each_latent(acts, W_dec, b_pre):
    return acts @ W_dec + (acts > 0).sum(-1, keepdim=True) * b_pre


@mistake("sae_decode", hint="Only whether a latent fires counts for you, not how strongly: multiply its row by its activation.")
def all_alike(acts, W_dec, b_pre):
    return (acts > 0).to(acts.dtype) @ W_dec + b_pre


# sae_loss -----------------------------------------------------------------------------------


@mistake("sae_loss", hint="The squared error is averaged over the entries of a vector. Sum it over them; average over the vectors.")
def error_averaged_over_entries(x, out, acts, l1):
    return (x - out).pow(2).mean() + l1 * acts.abs().sum(-1).mean()


@mistake("sae_loss", hint="The activations are averaged over the latents. Sum them for each vector; average over the vectors.")
def price_averaged_over_latents(x, out, acts, l1):
    return (x - out).pow(2).sum(-1).mean() + l1 * acts.abs().mean()


@mistake("sae_loss", hint="Everything is summed over the vectors. Average over them.")
def summed_over_vectors(x, out, acts, l1):
    return (x - out).pow(2).sum() + l1 * acts.abs().sum()


@mistake("sae_loss", hint="The price is on squared activations. A square hardly costs anything for small ones, so nothing becomes 0: take their sizes.")
def price_on_squares(x, out, acts, l1):
    return (x - out).pow(2).sum(-1).mean() + l1 * acts.pow(2).sum(-1).mean()


@mistake("sae_loss", hint="The price is missing: `l1` times the sum of the activations.")
def without_a_price(x, out, acts, l1):
    return (x - out).pow(2).sum(-1).mean()


@mistake("sae_loss", hint="The error is the length of the difference. Take its square.")
def unsquared_error(x, out, acts, l1):
    return (x - out).norm(dim=-1).mean() + l1 * acts.abs().sum(-1).mean()


@mistake("sae_loss", hint="`l1` multiplies the error too. It is the price of activation alone.")
def price_on_the_error_too(x, out, acts, l1):
    return l1 * ((x - out).pow(2).sum(-1) + acts.abs().sum(-1)).mean()


# top_k_activation ---------------------------------------------------------------------------


def _kept(acts, indices):
    return torch.zeros_like(acts).scatter(-1, indices, acts.gather(-1, indices))


@mistake("top_k_activation", hint="You keep the k *smallest*.")
def the_smallest(acts, k):
    return _kept(acts, acts.topk(k, dim=-1, largest=False).indices)


@mistake("top_k_activation", hint="The k largest of the whole batch are kept. Each vector keeps k of its own: topk along dim=-1.")
def of_the_whole_batch(acts, k):
    flat = acts.flatten()
    return _kept(flat, flat.topk(min(len(flat), k * len(acts))).indices).view_as(acts)


@mistake("top_k_activation", hint="You keep k + 1. Anything *above* the k-th largest, and that one itself, are k.")
def one_too_many(acts, k):
    return _kept(acts, acts.topk(min(k + 1, acts.shape[-1]), dim=-1).indices)


@mistake("top_k_activation", hint="The k-th largest itself is dropped: only what is above it stays in yours. Keep it.")
def one_too_few(acts, k):
    return torch.where(acts > acts.topk(k, dim=-1).values[..., -1:], acts, torch.zeros_like(acts))


@mistake("top_k_activation", hint="What is kept is set to 1. It stays as it was.")
def kept_as_ones(acts, k):
    return torch.zeros_like(acts).scatter(-1, acts.topk(k, dim=-1).indices, 1.0)


@mistake("top_k_activation", hint="The k-th largest is taken off what is kept. Activations stay as they were.")
def shifted_down(acts, k):
    return (acts - acts.topk(k, dim=-1).values[..., -1:]).relu()


@mistake("top_k_activation", hint="You choose the k largest for each *latent*, over the vectors. Each vector keeps k latents: dim=-1.")
def along_the_vectors(acts, k):
    top = acts.topk(min(k, len(acts)), dim=0)
    return torch.zeros_like(acts).scatter(0, top.indices, top.values)


# unit_norm_decoder --------------------------------------------------------------------------


def _unit(W_enc, b_enc, W_dec):
    return W_dec / W_dec.norm(dim=-1, keepdim=True)


@mistake("unit_norm_decoder", hint="The rows of W_dec are right, but activations stay as they were, so reconstructions shrink or grow: W_enc and b_enc must gain what rows lose.")
def decoder_alone(W_enc, b_enc, W_dec):
    return W_enc, b_enc, _unit(W_enc, b_enc, W_dec)


@mistake("unit_norm_decoder", hint="`b_enc` must be multiplied by the old length, too: it stands inside the ReLU beside what W_enc gives.")
def forgets_b_enc(W_enc, b_enc, W_dec):
    return W_enc * W_dec.norm(dim=-1), b_enc, _unit(W_enc, b_enc, W_dec)


@mistake("unit_norm_decoder", hint="W_enc and b_enc are divided by the old lengths. They are multiplied: what a row loses, its activation gains.")
def encoder_divided(W_enc, b_enc, W_dec):
    s = W_dec.norm(dim=-1)
    return W_enc / s, b_enc / s, W_dec / s[:, None]


@mistake("unit_norm_decoder", hint="W_dec is divided by its squared lengths. Divide by the lengths.")
def by_squared_lengths(W_enc, b_enc, W_dec):
    s = W_dec.pow(2).sum(-1)
    return W_enc * s, b_enc * s, W_dec / s[:, None]


@mistake("unit_norm_decoder", hint="All rows are divided by one number. Each by its own length.")
def one_number_for_all(W_enc, b_enc, W_dec):
    s = W_dec.norm(dim=-1).mean()
    return W_enc * s, b_enc * s, W_dec / s


@mistake("unit_norm_decoder", hint="You make the *columns* of W_enc of length 1. It is the rows of W_dec that are held.")
def encoder_instead(W_enc, b_enc, W_dec):
    s = W_enc.norm(dim=0)
    return W_enc / s, b_enc / s, W_dec * s[:, None]


@mistake("unit_norm_decoder", hint="W_enc is multiplied by the root of the lengths. By the lengths themselves: an activation is linear in its column.")
def by_the_root(W_enc, b_enc, W_dec):
    s = W_dec.norm(dim=-1)
    return W_enc * s.sqrt(), b_enc * s.sqrt(), W_dec / s[:, None]


# l0, dead_share -----------------------------------------------------------------------------


@mistake("l0", hint="That is the *share* of latents that fire. Count them for each vector, then average.")
def share_that_fires(acts):
    return (acts > 0).float().mean().item()


@mistake("l0", hint="You add up the activations. Only whether a latent fires counts, not how strongly.")
def sum_of_activations(acts):
    return acts.sum(-1).mean().item()


@mistake("l0", hint="You count over all vectors together. Average over the vectors.")
def count_over_all(acts):
    return float((acts > 0).sum())


@mistake("l0", hint="You count how many vectors a latent fires for. Count latents for a vector: sum over the last dimension.")
def vectors_for_a_latent(acts):
    return (acts > 0).sum(0).float().mean().item()


@mistake("l0", hint="You count latents that fire at least once. Count for each vector, then average.")
def latents_that_ever_fire(acts):
    return float((acts > 0).any(0).sum())


@mistake("l0", hint="You take the most that fire for any vector. Take the mean.")
def the_most(acts):
    return float((acts > 0).sum(-1).max())


@mistake("l0", hint="Vectors for which nothing fires are left out of the mean. They count, as 0.")
def without_silent_vectors(acts):
    n = (acts > 0).sum(-1).float()
    return n[n > 0].mean().item()


@mistake("dead_share", hint="That is the share of latents that live. The others are dead.")
def share_alive(acts):
    return (acts > 0).any(0).float().mean().item()


@mistake("dead_share", hint="That is how often a latent is silent, on average. A dead one is silent for *every* vector: `.any(0)`.")
def share_of_silence(acts):
    return (acts <= 0).float().mean().item()


@mistake("dead_share", hint="That is the number of dead latents. Divide by the number of latents.")
def number_of_dead(acts):
    return float((~(acts > 0).any(0)).sum())


@mistake("dead_share", hint="You look along the latents: that is the share of *vectors* for which nothing fires. Look along the vectors: `.any(0)`.")
def silent_vectors(acts):
    return (~(acts > 0).any(-1)).float().mean().item()


@mistake("dead_share", hint="Latents that are silent for *some* vector count as dead in yours. Nearly all are; dead ones are silent for all.")
def silent_somewhere(acts):
    return (~(acts > 0).all(0)).float().mean().item()


@mistake("dead_share", hint="Latents that fire weakly count as dead in yours. Above 0, however little, is firing.")
def weak_is_dead(acts):
    return (acts.amax(0) < 0.01).float().mean().item()


# explained_variance -------------------------------------------------------------------------


@mistake("explained_variance", hint="The mean is not taken out of `x` in the denominator: variance is around the mean vector.")
def around_zero(x, out):
    return (1 - (x - out).pow(2).sum() / x.pow(2).sum()).item()


@mistake("explained_variance", hint="The mean is one number over everything. Take the mean *vector*: `x.mean(0)`.")
def one_mean_number(x, out):
    return (1 - (x - out).pow(2).sum() / (x - x.mean()).pow(2).sum()).item()


@mistake("explained_variance", hint="The mean is taken over each vector's entries. Take it over the vectors: `x.mean(0)`.")
def mean_of_each_vector(x, out):
    return (1 - (x - out).pow(2).sum() / (x - x.mean(-1, keepdim=True)).pow(2).sum()).item()


@mistake("explained_variance", hint="That is the share that is *not* explained. Take it from 1.")
def unexplained(x, out):
    return ((x - out).pow(2).sum() / (x - x.mean(0)).pow(2).sum()).item()


@mistake("explained_variance", hint="You divide for each dimension and average. Divide the whole error by the whole variance: large dimensions count more.")
def by_dimension(x, out):
    return (1 - (x - out).pow(2).sum(0) / (x - x.mean(0)).pow(2).sum(0)).mean().item()


@mistake("explained_variance", hint="You compare variances of `out` and `x`. A reconstruction can vary as much and still be wrong: look at the error `x - out`.")
def ratio_of_variances(x, out):
    return ((out - out.mean(0)).pow(2).sum() / (x - x.mean(0)).pow(2).sum()).item()


@mistake("explained_variance", hint="Lengths are not squared: take squares of errors and of deviations.")
def lengths_unsquared(x, out):
    return (1 - (x - out).norm(dim=-1).sum() / (x - x.mean(0)).norm(dim=-1).sum()).item()


# loss_recovered -----------------------------------------------------------------------------


def _losses(model, tokens, layer, replacement, kind="mlp_out", ablate=torch.zeros_like):
    def loss(hooks):
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    def instead(new):
        return loss([(get_act_name(kind, layer), lambda x, hook: new)])

    return loss([]), instead(replacement), instead(ablate(replacement))


@mistake("loss_recovered", hint="That is the share that is *lost*. Recovered is what lies between zeros and the replacement: (L_zero - L_with) / (L_zero - L).")
def share_lost(model, tokens, layer, replacement):
    plain, new, zeros = _losses(model, tokens, layer, replacement)
    return ((new - plain) / (zeros - plain)).item()


@mistake("loss_recovered", hint="The baseline is the replacement's mean. It should be zeros in the place of `mlp_out`.")
def mean_as_baseline(model, tokens, layer, replacement):
    plain, new, mean = _losses(model, tokens, layer, replacement, ablate=lambda x: x.mean((0, 1)).expand_as(x))
    return ((mean - new) / (mean - plain)).item()


@mistake("loss_recovered", hint="You take the ratio of the losses. Compare what is gained over zeros: (L_zero - L_with) / (L_zero - L).")
def ratio_of_losses(model, tokens, layer, replacement):
    plain, new, _ = _losses(model, tokens, layer, replacement)
    return (plain / new).item()


@mistake("loss_recovered", hint="You replace what *attention* writes. Replace `mlp_out`.")
def replaces_attention(model, tokens, layer, replacement):
    plain, new, zeros = _losses(model, tokens, layer, replacement, kind="attn_out")
    return ((zeros - new) / (zeros - plain)).item()


@mistake("loss_recovered", hint="You replace the whole stream behind the layer (`resid_post`). Replace only what its MLP adds: `mlp_out`.")
def replaces_the_stream(model, tokens, layer, replacement):
    plain, new, zeros = _losses(model, tokens, layer, replacement, kind="resid_post")
    return ((zeros - new) / (zeros - plain)).item()


@mistake("loss_recovered", hint="The logits are compared with the token at the same place. They predict the *next* one: logits[:, :-1] against tokens[:, 1:].")
def predicts_the_same_token(model, tokens, layer, replacement):
    def loss(new=None):
        hooks = [] if new is None else [(get_act_name("mlp_out", layer), lambda x, hook: new)]
        return F.cross_entropy(model.run_with_hooks(tokens, fwd_hooks=hooks).flatten(0, 1), tokens.flatten())

    zeros = loss(torch.zeros_like(replacement))
    return ((zeros - loss(replacement)) / (zeros - loss())).item()


@mistake("loss_recovered", hint="The replacement is *added* to `mlp_out`. A hook that returns it alone puts it in the activation's place.")
def added_to_the_output(model, tokens, layer, replacement):
    def loss(hooks):
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    name = get_act_name("mlp_out", layer)
    zeros = loss([(name, lambda x, hook: torch.zeros_like(x))])
    return ((zeros - loss([(name, lambda x, hook: x + replacement)])) / (zeros - loss([]))).item()


# best_f1_per_label --------------------------------------------------------------------------


def _f1(fires, labels):
    both = fires.float().T @ labels.float()
    return 2 * both / (fires.sum(0)[:, None] + labels.sum(0)).clamp(min=1)


def _pick(table):
    best = table.max(0)
    return best.indices, best.values


@mistake("best_f1_per_label", hint="The threshold is a share of the largest activation of *all* latents. Each has its own largest: `acts.amax(0)`.")
def share_of_the_overall_maximum(acts, labels, share):
    return _pick(_f1(acts > share * acts.max(), labels))


@mistake("best_f1_per_label", hint="`share` is used as the threshold itself. It is a share of each latent's largest activation.")
def share_as_the_threshold(acts, labels, share):
    return _pick(_f1(acts > share, labels))


@mistake("best_f1_per_label", hint="Every latent above 0 counts as firing: the `share` is left out.")
def share_left_out(acts, labels, share):
    return _pick(_f1(acts > 0, labels))


@mistake("best_f1_per_label", hint="The factor 2 is missing from F1.")
def half_of_f1(acts, labels, share):
    return _pick(_f1(acts > share * acts.amax(0), labels) / 2)


@mistake("best_f1_per_label", hint="That is the recall: what of the label is found. A latent that fires everywhere has all of it. Divide by both counts, as F1 does.")
def recall_alone(acts, labels, share):
    fires = acts > share * acts.amax(0)
    return _pick(fires.float().T @ labels.float() / labels.sum(0).clamp(min=1))


@mistake("best_f1_per_label", hint="That is the precision: how much of the firing is right. A latent that fires once can have 1. Divide by both counts, as F1 does.")
def precision_alone(acts, labels, share):
    fires = acts > share * acts.amax(0)
    return _pick(fires.float().T @ labels.float() / fires.sum(0)[:, None].clamp(min=1))


@mistake("best_f1_per_label", hint="The threshold is a share of the largest latent of each *token*. Take each latent's own largest over the tokens: `acts.amax(0)`.")
def share_of_each_tokens_maximum(acts, labels, share):
    return _pick(_f1(acts > share * acts.amax(1, keepdim=True), labels))


# class_latents ------------------------------------------------------------------------------

FOUND = [(1548, "newline", 5.4), (1856, "definition", 6.5), (1660, "assigned", 5.9), (491, "parameter", 7.2), (197, "builtin", 2.7)]


@mistake("class_latents", hint="Nothing is named. The table above the exercise has the best latent for each class: take rare classes, and a threshold from their activations.")
def names_no_latent():
    return []


@mistake("class_latents", hint="One class five times counts once. Five *different* classes are asked for.")
def one_class_five_times():
    return FOUND[:1] * 5


@mistake("class_latents", hint="These are four. Five classes are asked for.")
def four_of_five():
    return FOUND[:4]


@mistake("class_latents", hint="Each number is one too large: latents count from 0.")
def latents_counted_from_1():
    return [(latent + 1, name, above) for latent, name, above in FOUND]


@mistake("class_latents", hint="The thresholds are so high that the latents hardly ever fire, and miss most of the class: recall counts, too.")
def thresholds_too_high():
    return [(latent, name, 4 * above) for latent, name, above in FOUND]


@mistake("class_latents", hint="These classes cover much of the text, and random directions do as well for them. Take classes that are rarer.")
def common_classes():
    return [(1002, "string", 0.0), (276, "comment", 3.95), (1941, "keyword", 0.0), (292, "docstring", 0.0), (1312, "operator", 3.1)]


# linear_probe -------------------------------------------------------------------------------


def _newton(x, y, l2, penalise_b=False, target=None, intercept=True, steps=30):
    X = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    target = y.double() if target is None else target
    penalty = torch.full((X.shape[1],), float(l2), dtype=torch.double)
    penalty[-1] = float(l2) if penalise_b else 1e-9
    if not intercept:
        X[:, -1] = 0.0
        penalty[-1] = 1.0
    theta = torch.zeros(X.shape[1], dtype=torch.double)
    for _ in range(steps):
        p = (X @ theta).sigmoid()
        H = (X * (p * (1 - p))[:, None]).T @ X / len(X) + torch.diag(penalty)
        theta = theta - torch.linalg.solve(H, X.T @ (p - target) / len(X) + penalty * theta)
    return theta[:-1].float(), float(theta[-1])


@mistake("linear_probe", hint="`b` is penalised along with `w`. Only the length of `w` costs something.")
def penalises_the_offset(x, y, l2):
    return _newton(x, y, l2, penalise_b=True)


@mistake("linear_probe", hint="There is no offset: `b` is always 0. Fit it, too.")
def without_an_offset(x, y, l2):
    return _newton(x, y, l2, intercept=False)


@mistake("linear_probe", hint="The penalty is λ/2 times the squared length; yours counts twice that.")
def penalty_twice(x, y, l2):
    return _newton(x, y, 2 * l2)


@mistake("linear_probe", hint="The penalty is left out: `l2` does not matter in yours.")
def without_penalty(x, y, l2):
    return _newton(x, y, 1e-6)


@mistake("linear_probe", hint="The classes are exchanged: scores should be high where y is True.")
def classes_exchanged(x, y, l2):
    return _newton(x, ~y, l2)


@mistake("linear_probe", hint="That is the difference of the class means, a good direction but not the lowest value of this function. Go downhill from there.")
def difference_of_means_instead(x, y, l2):
    w = x[y].mean(0) - x[~y].mean(0)
    return w, float(-(x[y].mean(0) + x[~y].mean(0)) @ w / 2)


@mistake("linear_probe", hint="That is a least-squares fit of 0 and 1. The probe is logistic: a sigmoid stands between the score and y.")
def least_squares(x, y, l2):
    X = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    penalty = torch.diag(torch.tensor([l2] * x.shape[1] + [0.0], dtype=torch.double)) * len(x)
    theta = torch.linalg.solve(X.T @ X + penalty, X.T @ y.double())
    return theta[:-1].float(), float(theta[-1])


@mistake("linear_probe", hint="It has not arrived yet: go on until nothing gets better, or take Newton's method.")
def stops_after_one_step(x, y, l2):
    return _newton(x, y, l2, steps=1)


# auroc --------------------------------------------------------------------------------------


def _pairs(scores, y):
    return scores[y][:, None], scores[~y][None]


@mistake("auroc", hint="Equal scores count as wrong in yours. They count half.")
def ties_lose(scores, y):
    inside, outside = _pairs(scores, y)
    return (inside > outside).double().mean().item()


@mistake("auroc", hint="Equal scores count as right in yours. They count half.")
def ties_win(scores, y):
    inside, outside = _pairs(scores, y)
    return (inside >= outside).double().mean().item()


@mistake("auroc", hint="It is the wrong way round: count pairs in which the one *inside* the class is higher.")
def pairs_the_wrong_way(scores, y):
    inside, outside = _pairs(scores, y)
    return ((inside < outside).double() + 0.5 * (inside == outside)).mean().item()


@mistake("auroc", hint="Below a half you turn the result round. A score that is low inside the class is a bad score: say so.")
def never_below_a_half(scores, y):
    inside, outside = _pairs(scores, y)
    area = ((inside > outside).double() + 0.5 * (inside == outside)).mean().item()
    return max(area, 1 - area)


@mistake("auroc", hint="That is the share of right answers at a threshold. The area asks about all thresholds: compare pairs, one inside and one outside.")
def accuracy_at_the_median(scores, y):
    return ((scores > scores.median()) == y).double().mean().item()


@mistake("auroc", hint="Pairs are counted, but not divided by how many there are: inside times outside.")
def counts_pairs(scores, y):
    inside, outside = _pairs(scores, y)
    return ((inside > outside).double() + 0.5 * (inside == outside)).sum().item()


@mistake("auroc", hint="You compare with *all* scores, those inside the class too. Compare each inside with those outside.")
def against_everything(scores, y):
    inside = scores[y][:, None]
    return ((inside > scores[None]).double() + 0.5 * (inside == scores[None])).mean().item()


# sparse_probe -------------------------------------------------------------------------------


def _moved(x, y):
    return x[y].mean(0) - x[~y].mean(0)


@mistake("sparse_probe", hint="The sign counts in yours: columns that are *low* inside the class tell as much. Take the size of the difference.")
def only_columns_that_rise(x, y, k):
    return (_moved(x, y) / x.std(0).clamp(min=1e-6)).topk(k).indices


@mistake("sparse_probe", hint="Columns are not in their own units: divide by each one's standard deviation.")
def in_raw_units(x, y, k):
    return _moved(x, y).abs().topk(k).indices


@mistake("sparse_probe", hint="You divide by the variance. Divide by its root, the standard deviation.")
def by_the_variance(x, y, k):
    return (_moved(x, y).abs() / x.var(0).clamp(min=1e-6)).topk(k).indices


@mistake("sparse_probe", hint="These are the k columns that the class moves *least*.")
def the_least_moved(x, y, k):
    return (_moved(x, y).abs() / x.std(0).clamp(min=1e-6)).topk(k, largest=False).indices


@mistake("sparse_probe", hint="They are in rising order, or by number. The one that is moved most comes first.")
def in_rising_order(x, y, k):
    return (_moved(x, y).abs() / x.std(0).clamp(min=1e-6)).topk(k).indices.flip(0)


@mistake("sparse_probe", hint="You take the columns that are largest inside the class. Compare with what they are outside it.")
def largest_inside(x, y, k):
    return (x[y].mean(0).abs() / x.std(0).clamp(min=1e-6)).topk(k).indices


@mistake("sparse_probe", hint="These are the columns that vary most, whatever the class. Compare their means inside the class and outside it.")
def most_varied(x, y, k):
    return x.var(0).topk(k).indices


# control_labels -----------------------------------------------------------------------------


@mistake("control_labels", hint="Every *place* gets a label. Draw one for each kind of token, `[d_vocab]`, and look it up, so that equal tokens have equal labels.")
def a_label_for_each_place(tokens, d_vocab, share, generator):
    return torch.rand(len(tokens), generator=generator) < share


@mistake("control_labels", hint="Kinds are True where the draw is *above* `share`: a draw is below it with that probability.")
def above_the_share(tokens, d_vocab, share, generator):
    return (torch.rand(d_vocab, generator=generator) > share)[tokens]


@mistake("control_labels", hint="The labels depend on the number of the token, not on chance: draw them from `generator`.")
def by_the_number(tokens, d_vocab, share, generator):
    return tokens < share * d_vocab


@mistake("control_labels", hint="Half of the kinds are True whatever `share` says.")
def always_half(tokens, d_vocab, share, generator):
    return (torch.rand(d_vocab, generator=generator) < 0.5)[tokens]


@mistake("control_labels", hint="The labels are the same for every seed: you seed a generator of your own. Draw from the one that is given.")
def control_with_its_own_seed(tokens, d_vocab, share, generator):
    return (torch.rand(d_vocab, generator=torch.Generator().manual_seed(0)) < share)[tokens]


@mistake("control_labels", hint="Labels are drawn for the kinds in the order in which they come in the text, so they depend on the text. Draw for all `d_vocab` kinds, then look up.")
def in_order_of_appearance(tokens, d_vocab, share, generator):
    seen, labels = {}, (torch.rand(d_vocab, generator=generator) < share).tolist()
    for t in tokens.tolist():
        seen.setdefault(t, labels[len(seen)])
    return torch.tensor([seen[t] for t in tokens.tolist()])


# transcoder ---------------------------------------------------------------------------------


def _transcoded(model, tokens, layer, parts, error, read="resid_mid", norm="ln2", relu=torch.relu, keys=(), at="mlp_out", always=None):
    P = {name: 0.0 * W if name in keys else W for name, W in parts.items()}
    _, cache = model.run_with_cache(tokens)
    x = cache[read, layer]
    x = x if norm is None else getattr(model.blocks[layer], norm)(x)
    new = relu((x - P["b_pre"]) @ P["W_enc"] + P["b_enc"]) @ P["W_dec"] + P["b_out"]
    if error if always is None else always:
        new = new + (cache["mlp_out", layer] - new)
    return model.run_with_hooks(tokens, fwd_hooks=[(get_act_name(at, layer), lambda _, hook: new)])


@mistake("transcoder", hint="The latents read `resid_mid` itself. The MLP reads it through `model.blocks[layer].ln2`, and so does its transcoder.")
def without_layer_norm(model, tokens, layer, parts, error):
    return _transcoded(model, tokens, layer, parts, error, norm=None)


@mistake("transcoder", hint="The latents read the stream before attention (`resid_pre`). The MLP reads it behind attention: `resid_mid`.")
def reads_before_attention(model, tokens, layer, parts, error):
    return _transcoded(model, tokens, layer, parts, error, read="resid_pre")


@mistake("transcoder", hint="The stream goes through `ln1`, which is attention's. The MLP reads through `ln2`.")
def through_the_other_norm(model, tokens, layer, parts, error):
    return _transcoded(model, tokens, layer, parts, error, norm="ln1")


@mistake("transcoder", hint="The ReLU of the latents is missing.")
def latents_without_relu(model, tokens, layer, parts, error):
    return _transcoded(model, tokens, layer, parts, error, relu=lambda x: x)


@mistake("transcoder", hint="`b_out` is not added to what the latents write.")
def without_b_out(model, tokens, layer, parts, error):
    return _transcoded(model, tokens, layer, parts, error, keys=("b_out",))


@mistake("transcoder", hint="`b_pre` is not taken out of what the latents read.")
def without_b_pre(model, tokens, layer, parts, error):
    return _transcoded(model, tokens, layer, parts, error, keys=("b_pre",))


@mistake("transcoder", hint="The error is always added, so nothing is ever replaced. Add it only if `error` is True.")
def error_always(model, tokens, layer, parts, error):
    return _transcoded(model, tokens, layer, parts, error, always=True)


@mistake("transcoder", hint="It is put in the place of what attention writes. It replaces `mlp_out`.")
def in_the_place_of_attention(model, tokens, layer, parts, error):
    return _transcoded(model, tokens, layer, parts, error, at="attn_out")


# steer --------------------------------------------------------------------------------------


def _written(model, tokens, name, n, change, pick=lambda logits: logits[:, -1].argmax(-1, keepdim=True)):
    said = tokens
    for _ in range(n):
        logits = model.run_with_hooks(said, fwd_hooks=[(name, lambda x, hook: change(x))])
        said = torch.cat([said, pick(logits)], dim=1)
    return said[:, tokens.shape[1] :]


@mistake("steer", hint="Only the last position is steered. Add the direction at every position: earlier ones are looked at, too.")
def steers_the_last_position(model, tokens, name, direction, dose, n):
    def change(x):
        x = x.clone()
        x[:, -1] += dose * direction
        return x

    return _written(model, tokens, name, n, change)


@mistake("steer", hint="The positions of new tokens are not steered: each time the model runs, add the direction at all there are by then.")
def steers_the_prompt_alone(model, tokens, name, direction, dose, n):
    def change(x):
        x = x.clone()
        x[:, : tokens.shape[1]] += dose * direction
        return x

    return _written(model, tokens, name, n, change)


@mistake("steer", hint="`dose` is not used: add `dose * direction`.")
def steers_without_a_dose(model, tokens, name, direction, dose, n):
    return _written(model, tokens, name, n, lambda x: x + direction)


@mistake("steer", hint="You bring the direction to length 1 first. Add it as it is given, `dose` times.")
def steers_with_length_1(model, tokens, name, direction, dose, n):
    return _written(model, tokens, name, n, lambda x: x + dose * direction / direction.norm())


@mistake("steer", hint="The direction takes the activation's place. It should be added to it: `x + dose * direction`.")
def replaces_the_activation(model, tokens, name, direction, dose, n):
    return _written(model, tokens, name, n, lambda x: (dose * direction).expand_as(x))


@mistake("steer", hint="You steer the other way: a positive dose adds the direction.")
def steers_away(model, tokens, name, direction, dose, n):
    return _written(model, tokens, name, n, lambda x: x - dose * direction)


@mistake("steer", hint="These are the n likeliest tokens for *one* place. Append the likeliest, and run again.")
def likeliest_of_one_place(model, tokens, name, direction, dose, n):
    logits = model.run_with_hooks(tokens, fwd_hooks=[(name, lambda x, hook: x + dose * direction)])
    return logits[:, -1].topk(n, dim=-1).indices


@mistake("steer", hint="The texts themselves are in the result. Return only the tokens that were appended.")
def with_the_texts(model, tokens, name, direction, dose, n):
    return torch.cat([tokens, _written(model, tokens, name, n, lambda x: x + dose * direction)], dim=1)


@mistake("steer", hint="Nothing is steered: a hook changes an activation by what it *returns*.")
def steers_nothing(model, tokens, name, direction, dose, n):
    return _written(model, tokens, name, n, lambda x: x)


# head_to_latent -----------------------------------------------------------------------------


def _drive(model, layer, W_enc, weight=True, centre=True, dim=1, W_V=None, norm=True):
    reads = model.blocks[layer].ln2.w[:, None] * W_enc if weight else W_enc
    reads = reads - reads.mean(0) if centre else reads
    found = torch.einsum("hde,hem,ml->hdl", model.W_V[layer] if W_V is None else W_V, model.W_O[layer], reads)
    return found.norm(dim=1) if norm else found.sum(1)


@mistake("head_to_latent", hint="`ln2.w` is left out: what a latent reads of the stream is multiplied by it first.")
def drive_without_the_weight(model, layer, W_enc):
    return _drive(model, layer, W_enc, weight=False)


@mistake("head_to_latent", hint="Nothing is centred: LayerNorm takes the mean out of the stream, so a latent cannot read it.")
def drive_uncentred(model, layer, W_enc):
    return _drive(model, layer, W_enc, centre=False)


@mistake("head_to_latent", hint="The entries of the vector are added up. Take its length.")
def sum_instead_of_length(model, layer, W_enc):
    return _drive(model, layer, W_enc, norm=False)


@mistake("head_to_latent", hint="W_Q stands in for W_V: what a head *moves* goes through W_V and W_O.")
def queries_for_values(model, layer, W_enc):
    return _drive(model, layer, W_enc, W_V=model.W_Q[layer])


@mistake("head_to_latent", hint="You use W_O alone, as if a head read its values directly. They come through W_V.")
def output_alone(model, layer, W_enc):
    reads = model.blocks[layer].ln2.w[:, None] * W_enc
    return ((model.W_O[layer] @ (reads - reads.mean(0)))).norm(dim=1)


@mistake("head_to_latent", hint="You centre before `ln2.w` is multiplied in. LayerNorm takes the mean out of the *stream*, so on the latents' side it comes last: reads = w[:, None] * W_enc, then minus its mean.")
def centred_too_early(model, layer, W_enc):
    reads = model.blocks[layer].ln2.w[:, None] * (W_enc - W_enc.mean(0))
    return torch.einsum("hde,hem,ml->hdl", model.W_V[layer], model.W_O[layer], reads).norm(dim=1)


@mistake("head_to_latent", hint="That is the squared length. Take its root.")
def squared_drive(model, layer, W_enc):
    return _drive(model, layer, W_enc) ** 2


# splits -------------------------------------------------------------------------------------


def _split(small, large, least, unit=True, size=False, at_least=2, descending=True, at_most=None):
    if unit:
        small, large = F.normalize(small, dim=-1), F.normalize(large, dim=-1)
    found = {}
    for i, row in enumerate(small @ large.T):
        row = row.abs() if size else row
        near = [j for j in row.argsort(descending=descending).tolist() if row[j] >= least]
        if len(near) >= at_least:
            found[i] = near[:at_most]
    return found


@mistake("splits", hint="That is a product of rows of any length. For a cosine bring each row to length 1 first.")
def splits_without_lengths(small, large, least):
    return _split(small, large, least, unit=False)


@mistake("splits", hint="Opposite directions count as relatives here. A cosine near -1 is no relative: leave its sign.")
def splits_by_size(small, large, least):
    return _split(small, large, least, size=True)


@mistake("splits", hint="One relative is no splitting: it takes two or more.")
def splits_of_one(small, large, least):
    return _split(small, large, least, at_least=1)


@mistake("splits", hint="The nearest relative, with the largest cosine, comes first.")
def splits_farthest_first(small, large, least):
    return _split(small, large, least, descending=False)


@mistake("splits", hint="Only the two nearest are there. Give all relatives.")
def splits_into_two(small, large, least):
    return _split(small, large, least, at_most=2)


@mistake("splits", hint="You ask which latents of the *larger* dictionary have relatives in the smaller one. It is the other way round.")
def splits_the_other_way(small, large, least):
    return _split(large, small, least)


@mistake("splits", hint="Latents without two relatives should not be keys at all.")
def splits_with_empty_lists(small, large, least):
    found = _split(small, large, least)
    return {i: found.get(i, []) for i in range(len(small))}
