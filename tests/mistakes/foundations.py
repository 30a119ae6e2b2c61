"""Known wrong answers to chapter 0, each with the hint it deserves. A learner whose answer does
what one of these does is shown its hint."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange

from circuits.checking import mistake

# split_heads --------------------------------------------------------------------------------


@mistake("split_heads", hint="A head's numbers lie next to each other, but yours are taken every so many places apart. In the brackets the slower axis comes first: `(n_heads d_head)`.")
def heads_vary_fastest(x, n_heads):
    return rearrange(x, "b p (d h) -> b p h d", h=n_heads)


@mistake("split_heads", hint="Batch and position stay in front: you put the heads before the positions. The shape is `[batch pos n_heads d_head]`.")
def heads_before_positions(x, n_heads):
    return rearrange(x, "b p (h d) -> b h p d", h=n_heads)


@mistake("split_heads", hint="`reshape` cuts the numbers in the order in which they lie in memory; with the heads before the positions it mixes positions up. Split the last axis alone.")
def reshapes_across_positions(x, n_heads):
    batch, pos, _ = x.shape
    return x.reshape(batch, n_heads, pos, -1).transpose(1, 2)


@mistake("split_heads", hint="You stack the heads in front of everything else. Their axis belongs between `pos` and `d_head`.")
def heads_in_front(x, n_heads):
    return torch.stack(x.chunk(n_heads, dim=-1))


@mistake("split_heads", hint="You made pieces of length `n_heads`. There should be `n_heads` pieces.")
def pieces_of_that_length(x, n_heads):
    return x.reshape(*x.shape[:2], -1, n_heads)


@mistake("split_heads", hint="Every head got the whole row. Each gets its own piece of it.")
def a_copy_for_each_head(x, n_heads):
    return x[:, :, None].expand(-1, -1, n_heads, -1)


@mistake("split_heads", hint="The last two axes are exchanged: you return `[batch pos d_head n_heads]`.")
def heads_last(x, n_heads):
    return rearrange(x, "b p (h d) -> b p d h", h=n_heads)


# residual_parts -----------------------------------------------------------------------------


def _cache(model, tokens):
    return model.run_with_cache(tokens)[1]


@mistake("residual_parts", hint="The embedding is missing: it is the first part of the sum.")
def only_the_heads(model, tokens):
    cache = _cache(model, tokens)
    heads = [r for layer in range(model.cfg.n_layers) for r in cache["result", layer].unbind(2)]
    return torch.stack(heads) if heads else torch.empty(0, *cache["embed"].shape)


@mistake("residual_parts", hint="You give one part per layer. Each *head* adds its own: `cache[\"result\", layer]` has them apart.")
def one_part_per_layer(model, tokens):
    cache = _cache(model, tokens)
    return torch.stack([cache["embed"]] + [cache["attn_out", layer] for layer in range(model.cfg.n_layers)])


@mistake("residual_parts", hint="`resid_post` is the sum so far, not what was added. The parts are in `result`.")
def running_sums(model, tokens):
    cache = _cache(model, tokens)
    return torch.stack([cache["embed"]] + [cache["resid_post", layer] for layer in range(model.cfg.n_layers)])


@mistake("residual_parts", hint="The order is wrong: all heads of layer 0 come before those of layer 1.")
def head_by_head_before_layer_by_layer(model, tokens):
    cache = _cache(model, tokens)
    parts = [cache["embed"]]
    for head in range(model.cfg.n_heads):
        parts += [cache["result", layer][:, :, head] for layer in range(model.cfg.n_layers)]
    return torch.stack(parts)


@mistake("residual_parts", hint="The parts are along the wrong axis: the new axis comes first, `[part batch pos d_model]`.")
def parts_in_the_middle(model, tokens):
    cache = _cache(model, tokens)
    parts = [cache["embed"][:, :, None]] + [cache["result", layer] for layer in range(model.cfg.n_layers)]
    return torch.cat(parts, dim=2)


@mistake("residual_parts", hint="In these models positions enter queries and keys only. They are no part of the stream.")
def positions_as_a_part(model, tokens):
    cache = _cache(model, tokens)
    parts = [cache["embed"]]
    if model.cfg.n_layers:
        parts.append(cache["pos_embed"])
    for layer in range(model.cfg.n_layers):
        parts += cache["result", layer].unbind(2)
    return torch.stack(parts)


@mistake("residual_parts", hint="You took the heads of layer 0 only. Loop over all `model.cfg.n_layers` layers.")
def only_the_first_layer(model, tokens):
    cache = _cache(model, tokens)
    heads = cache["result", 0].unbind(2) if model.cfg.n_layers else []
    return torch.stack([cache["embed"], *heads])


@mistake("residual_parts", hint="You return the sum of the parts. Return the parts.")
def their_sum(model, tokens):
    cache = _cache(model, tokens)
    return cache["resid_post", -1] if model.cfg.n_layers else cache["embed"]


@mistake("residual_parts", hint="`unbind(dim=1)` takes the positions apart. The heads are axis 2 of `result`, `[batch pos n_heads d_model]`.")
def takes_positions_for_heads(model, tokens):
    cache = _cache(model, tokens)
    parts = [cache["embed"]]
    for layer in range(model.cfg.n_layers):
        parts += cache["result", layer].unbind(1)
    return torch.stack(parts)


@mistake("residual_parts", hint="Your parts are running sums: each holds all that came before it. Return what each head adds by itself, as `result` has it.")
def sums_head_by_head(model, tokens):
    cache = _cache(model, tokens)
    heads = [r for layer in range(model.cfg.n_layers) for r in cache["result", layer].unbind(2)]
    return torch.stack([cache["embed"], *heads]).cumsum(0)


@mistake("residual_parts", hint="The embedding is last; it comes first, and then the heads.")
def embedding_last(model, tokens):
    cache = _cache(model, tokens)
    heads = [r for layer in range(model.cfg.n_layers) for r in cache["result", layer].unbind(2)]
    return torch.stack([*heads, cache["embed"]])


@mistake("residual_parts", hint="You add `W_pos` to the embedding. In these models positions enter queries and keys only: what stands in the stream first is `cache[\"embed\"]` alone.")
def positions_in_the_embedding(model, tokens):
    cache = _cache(model, tokens)
    heads = [r for layer in range(model.cfg.n_layers) for r in cache["result", layer].unbind(2)]
    return torch.stack([cache["embed"] + model.W_pos[: tokens.shape[1]], *heads])


# cross_entropy_nats -------------------------------------------------------------------------


def _nats(logits, targets, **settings):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), **settings)


@mistake("cross_entropy_nats", hint="You compare the logits with the token they were made *from*. Those at position i predict token i + 1: `logits[:, :-1]` and `tokens[:, 1:]`.")
def predicts_the_token_it_stands_on(logits, tokens):
    return _nats(logits, tokens)


@mistake("cross_entropy_nats", hint="It is the other way round: `logits[:, :-1]` predict `tokens[:, 1:]`.")
def predicts_the_token_before(logits, tokens):
    return _nats(logits[:, 1:], tokens[:, :-1])


@mistake("cross_entropy_nats", hint="This is the sum over all predictions; the loss per token is their mean.")
def sum_over_predictions(logits, tokens):
    return _nats(logits[:, :-1], tokens[:, 1:], reduction="sum")


@mistake("cross_entropy_nats", hint="This is in bits: you took the logarithm to base 2. Nats come from the natural one.")
def in_bits(logits, tokens):
    return _nats(logits[:, :-1], tokens[:, 1:]) / math.log(2)


@mistake("cross_entropy_nats", hint="The minus is missing: the logarithm of a probability is negative, a loss is not.")
def without_the_minus(logits, tokens):
    return -_nats(logits[:, :-1], tokens[:, 1:])


@mistake("cross_entropy_nats", hint="`F.cross_entropy` takes logits and applies the softmax itself; you apply it once more before.")
def softmax_before_cross_entropy(logits, tokens):
    return _nats(logits[:, :-1].softmax(-1), tokens[:, 1:])


@mistake("cross_entropy_nats", hint="The softmax runs over the positions. It belongs to the vocabulary, the last axis.")
def softmax_over_positions(logits, tokens):
    log_probs = logits[:, :-1].log_softmax(1)
    return -log_probs.gather(-1, tokens[:, 1:, None]).mean()


@mistake("cross_entropy_nats", hint="You take the logit of the token that came as if it were the logarithm of its probability. Apply `log_softmax(-1)` first.")
def logits_for_log_probabilities_of_targets(logits, tokens):
    return -logits[:, :-1].gather(-1, tokens[:, 1:, None]).mean()


@mistake("cross_entropy_nats", hint="You divide by the number of tokens. A text of n tokens holds n - 1 predictions.")
def divides_by_the_number_of_tokens(logits, tokens):
    return _nats(logits[:, :-1], tokens[:, 1:], reduction="sum") / tokens.numel()


@mistake("cross_entropy_nats", hint="A probability that is too small for a float becomes 0, and its logarithm infinite. `log_softmax(-1)` does both steps without that.")
def logarithm_of_a_rounded_probability(logits, tokens):
    return -logits[:, :-1].softmax(-1).log().gather(-1, tokens[:, 1:, None]).mean()


@mistake("cross_entropy_nats", hint="This is the perplexity, exp(loss). Return the loss itself.")
def perplexity_of_the_text(logits, tokens):
    return _nats(logits[:, :-1], tokens[:, 1:]).exp()


@mistake("cross_entropy_nats", hint="`F.cross_entropy` looks for the vocabulary in axis 1. Flatten batch and position together: logits `[n d_vocab]`, targets `[n]`.")
def does_not_flatten(logits, tokens):
    return F.cross_entropy(logits[:, :-1], tokens[:, 1:])


@mistake("cross_entropy_nats", hint="You compare the last prediction of a text with its first token, as if the text were a circle (`roll` does this). Nothing comes after it: leave it out.")
def rolls_the_tokens(logits, tokens):
    return _nats(logits, tokens.roll(-1, 1))


@mistake("cross_entropy_nats", hint="You sum over the positions and average over the texts only. The loss is the mean over all predictions.")
def sum_for_each_text(logits, tokens):
    return _nats(logits[:, :-1], tokens[:, 1:], reduction="sum") / len(tokens)


@mistake("cross_entropy_nats", hint="Predictions of token 0 are left out (`ignore_index=0`). Token 0 counts like any other.")
def ignores_token_0(logits, tokens):
    return _nats(logits[:, :-1], tokens[:, 1:], ignore_index=0)


@mistake("cross_entropy_nats", hint="The first prediction is left out. The logits at position 0 predict token 1: `logits[:, :-1]` and `tokens[:, 1:]`.")
def leaves_the_first_prediction_out(logits, tokens):
    return _nats(logits[:, 1:-1], tokens[:, 2:])


@mistake("cross_entropy_nats", hint="A tiny number put in before the logarithm keeps a loss from being as large as it should be. `log_softmax(-1)` needs none.")
def a_tiny_number_before_the_logarithm(logits, tokens):
    return -(logits[:, :-1].softmax(-1).gather(-1, tokens[:, 1:, None]) + 1e-8).log().mean()


@mistake("cross_entropy_nats", hint="A tiny number put in before the logarithm keeps a loss from being as large as it should be. `log_softmax(-1)` needs none.")
def a_tinier_number_before_the_logarithm(logits, tokens):
    return -(logits[:, :-1].softmax(-1).gather(-1, tokens[:, 1:, None]) + 1e-10).log().mean()


@mistake("cross_entropy_nats", hint="A tiny number put in before the logarithm keeps a loss from being as large as it should be. `log_softmax(-1)` needs none.")
def the_tiniest_number_before_the_logarithm(logits, tokens):
    return -(logits[:, :-1].softmax(-1).gather(-1, tokens[:, 1:, None]) + 1e-12).log().mean()


@mistake("cross_entropy_nats", hint="You average probabilities, and then take the logarithm. It is the other way round: the mean of the logarithms.")
def logarithm_of_the_mean(logits, tokens):
    return -logits[:, :-1].softmax(-1).gather(-1, tokens[:, 1:, None]).mean().log()


@mistake("cross_entropy_nats", hint="This is the entropy of the predictions: the tokens that came are not looked at. Take the logarithm of the probability that each of *them* was given.")
def entropy_of_the_predictions(logits, tokens):
    log_probs = logits[:, :-1].log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1).mean()


# bilinear -----------------------------------------------------------------------------------


@mistake("bilinear", hint="You pair every row of x with every row of y. Only rows of the same number belong together (yours are on the diagonal).")
def every_row_with_every_row(M, x, y):
    return x @ M @ y.T


@mistake("bilinear", hint="x and y have changed sides: x meets the rows of M, y its columns.")
def the_sides_exchanged(M, x, y):
    return ((x @ M.T) * y).sum(-1) if M.shape[0] == M.shape[1] else ((y @ M) * x).sum(-1)


@mistake("bilinear", hint="M is missing: this is the plain dot product of x and y.")
def plain_dot_product(M, x, y):
    return (x * y).sum(-1)


@mistake("bilinear", hint="The last sum is missing: `(x @ M) * y` must be summed over its last axis, to one number for each row.")
def forgets_the_last_sum(M, x, y):
    return (x @ M) * y


@mistake("bilinear", hint="You sum over the batch as well. There is one number for each row.")
def sums_over_the_batch(M, x, y):
    return ((x @ M) * y).sum()


@mistake("bilinear", hint="You sum over the rows (axis 0). Sum over the entries of the vectors, the last axis.")
def sums_over_the_rows(M, x, y):
    return ((x @ M) * y).sum(0)


@mistake("bilinear", hint="Only the diagonal of M is used. Every entry of x meets every entry of y.")
def only_the_diagonal(M, x, y):
    n = min(M.shape)
    return (x[:, :n] * M.diagonal() * y[:, :n]).sum(-1)


@mistake("bilinear", hint="You divide by the lengths of x and y. The form is the plain sum: larger vectors give more.")
def over_both_lengths(M, x, y):
    return ((x @ M) * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1))


# adjoint_attention --------------------------------------------------------------------------


@mistake("adjoint_attention", hint="This is M transposed: who looks, x, should meet the rows of M, so W_Q stands on the left.")
def keys_on_the_left(W_Q, W_K):
    return W_K @ W_Q.T


@mistake("adjoint_attention", hint="`W_Q.T @ W_K` sums over the stream's dimensions and leaves the head's. It is the head's d_head that is summed over: `[d_model d_model]` must be left.")
def sums_over_the_stream(W_Q, W_K):
    return W_Q.T @ W_K


@mistake("adjoint_attention", hint="M is to give the score without its square root: divide by nothing.")
def scaled_already(W_Q, W_K):
    return W_Q @ W_K.T / math.sqrt(W_Q.shape[1])


@mistake("adjoint_attention", hint="You made M symmetric. Looking and being looked at are different things.")
def made_symmetric(W_Q, W_K):
    return (W_Q @ W_K.T + W_K @ W_Q.T) / 2


@mistake("adjoint_attention", hint="This is `W_Q` with itself. The second factor is `W_K`.")
def queries_twice(W_Q, W_K):
    return W_Q @ W_Q.T


@mistake("adjoint_attention", hint="This is `W_K` with itself. The first factor is `W_Q`.")
def keys_twice(W_Q, W_K):
    return W_K @ W_K.T


@mistake("adjoint_attention", hint="`*` multiplies entry by entry. A sum over d_head is a matrix product, `@`.")
def entry_by_entry(W_Q, W_K):
    return W_Q * W_K


# regauge ------------------------------------------------------------------------------------


@mistake("regauge", hint="You multiply both by R: then R R^T stands in between, which is no identity unless R is a rotation. W_K needs the inverse, transposed.")
def both_by_R(W_Q, W_K, R):
    return W_Q @ R, W_K @ R


@mistake("regauge", hint="The inverse must be transposed: W_K enters the score transposed, and so does what you multiply it with.")
def inverse_not_transposed(W_Q, W_K, R):
    return W_Q @ R, W_K @ torch.linalg.inv(R)


@mistake("regauge", hint="W_K gets the transpose of R. That undoes R only for rotations; R is any invertible matrix.")
def transpose_for_the_inverse(W_Q, W_K, R):
    return W_Q @ R, W_K @ R.T


@mistake("regauge", hint="The attention is the same, but R and its inverse are exchanged: the new W_Q should be `W_Q @ R`.")
def inverse_on_the_queries(W_Q, W_K, R):
    return W_Q @ torch.linalg.inv(R), W_K @ R.T


@mistake("regauge", hint="W_K is as it was. The keys must make up for what R does to the queries.")
def only_the_queries(W_Q, W_K, R):
    return W_Q @ R, W_K


@mistake("regauge", hint="Nothing has changed. The new W_Q should be `W_Q @ R`.")
def nothing_at_all(W_Q, W_K, R):
    return W_Q, W_K


@mistake("regauge", hint="The two are in the wrong order: return the new W_Q first, then the new W_K.")
def keys_first(W_Q, W_K, R):
    return W_K @ torch.linalg.inv(R).T, W_Q @ R


@mistake("regauge", hint="Return two matrices, the new W_Q and the new W_K; you return their product.")
def their_product(W_Q, W_K, R):
    return W_Q @ R @ torch.linalg.inv(R) @ W_K.T


@mistake("regauge", hint="R acts inside the head: it multiplies from the right, `W_Q @ R`. On the left of W_Q is the stream.")
def from_the_left(W_Q, W_K, R):
    return R @ W_Q, torch.linalg.inv(R).T @ W_K


@mistake("regauge", hint="`1 / R` inverts every entry by itself. The inverse of a matrix is `torch.linalg.inv(R)`.")
def inverts_entry_by_entry(W_Q, W_K, R):
    return W_Q @ R, W_K @ (1 / R).T


@mistake("regauge", hint="The second matrix is transposed: it is the new W_K^T. Return the new W_K, `[d_model d_head]` as the old one.")
def keys_transposed(W_Q, W_K, R):
    return W_Q @ R, torch.linalg.inv(R) @ W_K.T


# survives_regauging -------------------------------------------------------------------------


def _only(*survivors):
    return lambda names: [name for name in names if name in survivors]


@mistake("survives_regauging", hint="The model computes the same, but not by the same numbers: q = x W_Q, and W_Q has changed.")
def everything_survives(names):
    return list(names)


@mistake("survives_regauging", hint="Then the model would compute something else. In which products do R and its inverse meet, and cancel?")
def nothing_survives(names):
    return []


@mistake("survives_regauging", hint="$z$ is a mixture of values, made before W_O acts: it still has R in it.")
def z_survives(names):
    return _only("attn_scores", "pattern", "z", "result", "attn_out", "resid_post")(names)


@mistake("survives_regauging", hint="The scores are products of a query and a key, where R and its inverse meet. No softmax is needed for them to survive.")
def scores_change(names):
    return _only("pattern", "result", "attn_out", "resid_post")(names)


@mistake("survives_regauging", hint="What a single head adds survives, too: within each head, R meets its own inverse.")
def only_the_sum_over_heads(names):
    return _only("attn_scores", "pattern", "attn_out", "resid_post")(names)


@mistake("survives_regauging", hint="Where a head looks is decided by W_Q W_K^T, which has not changed. So scores and pattern survive.")
def attention_changes(names):
    return _only("result", "attn_out", "resid_post")(names)


@mistake("survives_regauging", hint="What a head moves goes through W_V W_O, which has not changed. So its result survives, and all that is made of it.")
def only_attention_survives(names):
    return _only("attn_scores", "pattern")(names)


@mistake("survives_regauging", hint="You name those that *change*.")
def names_what_changes(names):
    return _only("q", "k", "v", "z")(names)


@mistake("survives_regauging", hint="The values change: v = x W_V, and W_V has become W_V R.")
def values_survive(names):
    return _only("v", "attn_scores", "pattern", "result", "attn_out", "resid_post")(names)


# kron_apply ---------------------------------------------------------------------------------


@mistake("kron_apply", hint="A stands transposed: row `dest` of A says how much this destination takes from each source, so it is `A @ X`.")
def pattern_transposed(A, W, X):
    return A.T @ X @ W


@mistake("kron_apply", hint="W stands transposed. With vectors as rows a matrix acts as `x @ W`. (`torch.kron(A, W)` on the flattened X does what you do: there W acts on columns.)")
def weights_transposed(A, W, X):
    return A @ X @ W.T


@mistake("kron_apply", hint="W is missing: this only mixes the positions.")
def only_positions(A, W, X):
    return A @ X


@mistake("kron_apply", hint="A is missing: this only maps the features of each position.")
def only_features(A, W, X):
    return X @ W


@mistake("kron_apply", hint="The two are not added up: first one acts, then the other on what came of it.")
def both_added(A, W, X):
    return A @ X + X @ W


@mistake("kron_apply", hint="A and W have changed places: positions are the rows of X, and what mixes rows acts from the left.")
def exchanged(A, W, X):
    return W @ X @ A


@mistake("kron_apply", hint="Your result is transposed. It has a row for every destination, `[dest d_out]`.")
def result_transposed(A, W, X):
    return (A @ X @ W).T


@mistake("kron_apply", hint="You add X. Return what the head adds to the stream, without the stream.")
def adds_the_stream(A, W, X):
    return X + A @ X @ W


# positions_reached --------------------------------------------------------------------------


def _places(condition):
    return condition.nonzero()[:, 0].tolist()


@mistake("positions_reached", hint="Row `source` of A says where the source itself looks. Who looks *at* the source is in column `source`.")
def where_the_source_looks(A, W, source):
    return _places(A[source]) if source < len(A) else []


@mistake("positions_reached", hint="Every later position *may* look at the source, but the pattern says which do: where its weight is 0, nothing arrives.")
def all_from_the_source_on(A, W, source):
    return list(range(source, len(A)))


@mistake("positions_reached", hint="That would be right if the head mixed no positions. A does: each destination takes a little from several sources.")
def the_source_alone(A, W, source):
    return [source]


@mistake("positions_reached", hint="Not every position looks at the source. Where A has a 0, nothing arrives.")
def every_position(A, W, source):
    return list(range(len(A)))


@mistake("positions_reached", hint="Both axes of W are features. It has no say in where something arrives; that is A.")
def reads_the_weights(A, W, source):
    return _places(W[source]) if source < len(W) else []


@mistake("positions_reached", hint="You return only the position that looks at the source the most. A small weight moves something, too.")
def only_the_most_attentive(A, W, source):
    return [int(A[:, source].abs().argmax())]


@mistake("positions_reached", hint="A weight below 0 moves something, too: everything that is *not* 0 counts.")
def only_positive_weights(A, W, source):
    return _places(A[:, source] > 0)


@mistake("positions_reached", hint="Position `source` changes only if it looks at itself: that is an entry of A like any other.")
def always_with_the_source(A, W, source):
    return sorted({source, *_places(A[:, source])})


@mistake("positions_reached", hint="Only a head that looks at the token before does that. Read it off A.")
def the_position_after(A, W, source):
    return [source + 1] if source + 1 < len(A) else []


# predict_ranks ------------------------------------------------------------------------------


@mistake("predict_ranks", hint="A matrix of that size *can* have rank d_model, but W_V W_O passes through only d_head dimensions.")
def as_large_as_the_matrix(d_model, d_head, n_heads):
    return d_model, d_model


@mistake("predict_ranks", hint="The heads' ranks add up only while there is room: a matrix with d_model columns has rank at most d_model.")
def forgets_that_the_stream_ends(d_model, d_head, n_heads):
    return min(d_head, d_model), n_heads * d_head


@mistake("predict_ranks", hint="Each head writes to dimensions of its own, so their sum has a larger rank than one of them.")
def the_sum_is_no_larger(d_model, d_head, n_heads):
    return min(d_head, d_model), min(d_head, d_model)


@mistake("predict_ranks", hint="All heads together fill the stream only if there are enough of them: n_heads times d_head dimensions is all they have.")
def the_sum_is_always_full(d_model, d_head, n_heads):
    return min(d_head, d_model), d_model


@mistake("predict_ranks", hint="Two matrices in a row do not add their ranks: what comes through both comes through the narrower one.")
def ranks_of_factors_added(d_model, d_head, n_heads):
    return min(2 * d_head, d_model), min(2 * n_heads * d_head, d_model)


@mistake("predict_ranks", hint="In some of the models d_head is larger than d_model. A matrix has no larger rank than rows.")
def forgets_wide_heads(d_model, d_head, n_heads):
    return d_head, min(n_heads * d_head, d_model)


@mistake("predict_ranks", hint="d_head is the size of one head already: it need not be divided by the number of heads.")
def divides_by_the_heads(d_model, d_head, n_heads):
    return max(1, d_head // n_heads), min(d_head, d_model)


@mistake("predict_ranks", hint="These are the figures of the two-layer model. They should come from the sizes you are given.")
def those_of_the_two_layer_model(d_model, d_head, n_heads):
    return 32, 256


@mistake("predict_ranks", hint="The two numbers are in the wrong order: first the rank of one head, then that of the sum over all.")
def the_sum_first(d_model, d_head, n_heads):
    return min(n_heads * d_head, d_model), min(d_head, d_model)


@mistake("predict_ranks", hint="You take the larger of two sizes. A matrix has no larger rank than the *smaller* one.")
def the_larger_sizes(d_model, d_head, n_heads):
    return max(d_head, d_model), max(n_heads * d_head, d_model)


# truncate_rank ------------------------------------------------------------------------------


def _svd(M):
    return torch.linalg.svd(M, full_matrices=False)


@mistake("truncate_rank", hint="You keep the *weakest* dimensions. Singular values come sorted, largest first: keep the first k.")
def keeps_the_weakest(M, k):
    U, S, Vh = _svd(M)
    return (U[:, -k:] * S[-k:]) @ Vh[-k:]


@mistake("truncate_rank", hint="You keep one dimension too few: `[:k]` holds k of them.")
def one_dimension_too_few(M, k):
    U, S, Vh = _svd(M)
    return (U[:, : k - 1] * S[: k - 1]) @ Vh[: k - 1]


@mistake("truncate_rank", hint="You keep one dimension too many: `[:k]` holds k of them.")
def one_dimension_too_many(M, k):
    U, S, Vh = _svd(M)
    return (U[:, : k + 1] * S[: k + 1]) @ Vh[: k + 1]


@mistake("truncate_rank", hint="The strengths are missing: each kept dimension is u times its singular value times v.")
def without_the_strengths(M, k):
    U, _, Vh = _svd(M)
    return U[:, :k] @ Vh[:k]


@mistake("truncate_rank", hint="`torch.linalg.svd` returns V already transposed, as Vh: keep its first k *rows*, and do not transpose them.")
def takes_columns_of_vh(M, k):
    U, S, Vh = _svd(M)
    return (U[:, :k] * S[:k]) @ Vh[:, :k].T


@mistake("truncate_rank", hint="You keep the first k columns of M. The dimensions to keep are those of its singular value decomposition.")
def keeps_the_first_columns(M, k):
    kept = torch.zeros_like(M)
    kept[:, :k] = M[:, :k]
    return kept


@mistake("truncate_rank", hint="You keep the k largest *entries*. Rank is about directions: keep the k largest singular values.")
def keeps_the_largest_entries(M, k):
    least = M.abs().flatten().topk(k).values[-1]
    return torch.where(M.abs() >= least, M, 0.0)


@mistake("truncate_rank", hint="You ignore `k`: this is M itself, put together again.")
def keeps_everything(M, k):
    U, S, Vh = _svd(M)
    return (U * S) @ Vh


@mistake("truncate_rank", hint="Multiply by the singular values themselves, not by their roots.")
def roots_of_the_strengths(M, k):
    U, S, Vh = _svd(M)
    return (U[:, :k] * S[:k].sqrt()) @ Vh[:k]


@mistake("truncate_rank", hint="You return the singular values. Put the matrix together again: U times S times Vh.")
def only_the_strengths(M, k):
    return _svd(M)[1][:k]


@mistake("truncate_rank", hint="You *drop* k dimensions, the weakest. Keep k of them, the strongest: `[:k]`.")
def drops_k_dimensions(M, k):
    U, S, Vh = _svd(M)
    n = len(S) - k
    return (U[:, :n] * S[:n]) @ Vh[:n]


@mistake("truncate_rank", hint="Multiply by the singular values themselves, not by their squares.")
def squares_of_the_strengths(M, k):
    U, S, Vh = _svd(M)
    return (U[:, :k] * S[:k] ** 2) @ Vh[:k]


@mistake("truncate_rank", hint="This is the k-th dimension alone. Keep the first k: `[:k]`, a slice.")
def only_the_kth_dimension(M, k):
    U, S, Vh = _svd(M)
    return S[k - 1] * torch.outer(U[:, k - 1], Vh[k - 1])


# read_strength ------------------------------------------------------------------------------


@mistake("read_strength", hint="Divide by the sizes of the two matrices: large weights alone are no strong wire.")
def not_normalised(W_out, W_in):
    return (W_out @ W_in).norm()


@mistake("read_strength", hint="You divide by the size of the writer only. The reader's size counts, too.")
def normalised_by_the_writer(W_out, W_in):
    return (W_out @ W_in).norm() / W_out.norm()


@mistake("read_strength", hint="You divide by the size of the reader only. The writer's size counts, too.")
def normalised_by_the_reader(W_out, W_in):
    return (W_out @ W_in).norm() / W_in.norm()


@mistake("read_strength", hint="`ord=2` is the largest singular value. The Frobenius norm is `M.norm()`, the root of the sum of squares.")
def spectral_norms(W_out, W_in):
    return torch.linalg.norm(W_out @ W_in, ord=2) / (torch.linalg.norm(W_out, ord=2) * torch.linalg.norm(W_in, ord=2))


@mistake("read_strength", hint="This is the strength squared: a norm is the *root* of the sum of squares.")
def squared(W_out, W_in):
    return ((W_out @ W_in) ** 2).sum() / ((W_out**2).sum() * (W_in**2).sum())


@mistake("read_strength", hint="You add up absolute values. The Frobenius norm is the root of the sum of *squares*.")
def sums_of_absolute_values(W_out, W_in):
    return (W_out @ W_in).abs().sum() / (W_out.abs().sum() * W_in.abs().sum())


@mistake("read_strength", hint="The sizes are multiplied, not added up.")
def sizes_added(W_out, W_in):
    return (W_out @ W_in).norm() / (W_out.norm() + W_in.norm())


@mistake("read_strength", hint="You normalise every row and column by itself. One number for each of the matrices is enough, its norm.")
def every_row_and_column(W_out, W_in):
    return (F.normalize(W_out, dim=-1) @ F.normalize(W_in, dim=0)).norm()


@mistake("read_strength", hint="This is a table of virtual weights. The strength is one number: take the norm of the product.")
def a_table_of_weights(W_out, W_in):
    return (W_out @ W_in) / (W_out.norm() * W_in.norm())


@mistake("read_strength", hint="`a / b * c` divides by b and *multiplies* by c. Put the two sizes in brackets, `a / (b * c)`.")
def divides_and_multiplies(W_out, W_in):
    return (W_out @ W_in).norm() / W_out.norm() * W_in.norm()


# strength_ceiling ---------------------------------------------------------------------------


def _strengths(W_out, W_in):
    """The singular values of both, as many as both have."""
    s, t = torch.linalg.svdvals(W_out), torch.linalg.svdvals(W_in)
    n = min(len(s), len(t))
    return s[:n], t[:n]


@mistake("strength_ceiling", hint="This is the strength as the two matrices stand now. Asked is the most that it could be if the stream between them were turned: that depends on their singular values alone.")
def the_strength_itself(W_out, W_in):
    return (W_out @ W_in).norm() / (W_out.norm() * W_in.norm())


@mistake("strength_ceiling", hint="You pair the strongest dimension with the weakest: one of the two lists runs the other way.")
def strongest_with_weakest(W_out, W_in):
    s, t = _strengths(W_out, W_in)
    return (s * t.flip(0)).norm() / (W_out.norm() * W_in.norm())


@mistake("strength_ceiling", hint="You add up the products $\\sigma_i \\tau_i$. The Frobenius norm is the root of the sum of their *squares*.")
def a_sum_of_products(W_out, W_in):
    s, t = _strengths(W_out, W_in)
    return (s * t).sum() / (W_out.norm() * W_in.norm())


@mistake("strength_ceiling", hint="This is the ceiling squared: a norm is the *root* of the sum of squares.")
def the_ceiling_squared(W_out, W_in):
    s, t = _strengths(W_out, W_in)
    return ((s * t) ** 2).sum() / (W_out.norm() * W_in.norm()) ** 2


@mistake("strength_ceiling", hint="Only the strongest dimension of each meets here. All of them can, each with its own partner.")
def only_the_strongest(W_out, W_in):
    s, t = _strengths(W_out, W_in)
    return s[0] * t[0] / (W_out.norm() * W_in.norm())


@mistake("strength_ceiling", hint="$1/\\sqrt{n}$ is the ceiling where all n dimensions are equally strong. These are not: use their singular values.")
def equal_strengths(W_out, W_in):
    s, _ = _strengths(W_out, W_in)
    return torch.tensor(len(s) ** -0.5)


@mistake("strength_ceiling", hint="Divide by the sizes of the two matrices, as the strength does.")
def a_ceiling_that_is_not_normalised(W_out, W_in):
    s, t = _strengths(W_out, W_in)
    return (s * t).norm()


@mistake("strength_ceiling", hint="You cut the longer list before you take its size. What meets nothing still counts in the size of its matrix.")
def sizes_of_what_meets(W_out, W_in):
    s, t = _strengths(W_out, W_in)
    return (s * t).norm() / (s.norm() * t.norm())


# strongest_wire -----------------------------------------------------------------------------


def _matrices(model):
    """What the heads of both layers write with, and what they read with."""
    OV, QK = model.W_V @ model.W_O, model.W_Q @ model.W_K.mT
    return OV, {"Q": QK, "K": QK.mT, "V": OV}


def _search(writers, readers, normalised=True, best=max):
    """By traces, |AB|^2 = tr(A^T A B B^T): a mistake that is searched for should be found fast."""
    found = {}
    for letter, matrices in readers.items():
        grams = (writers.mT @ writers).flatten(1) @ (matrices @ matrices.mT).flatten(1).T
        sizes = writers.norm(dim=(1, 2))[:, None] * matrices.norm(dim=(1, 2))
        for a, row in enumerate((grams.sqrt() / sizes if normalised else grams).tolist()):
            found |= {(a, b, letter): value for b, value in enumerate(row)}
    return best(found, key=found.get)


def _later(readers):
    return {letter: matrices[1] for letter, matrices in readers.items()}


@mistake("strongest_wire", hint="Q and K are exchanged. In `W_Q @ W_K.T` the stream enters on the left through W_Q; for the keys, take the transpose.")
def queries_for_keys(model):
    OV, readers = _matrices(model)
    readers = _later(readers)
    return _search(OV[0], readers | {"Q": readers["K"], "K": readers["Q"]})


@mistake("strongest_wire", hint="Large weights win here. Divide by the sizes of both matrices, as `read_strength` does.")
def the_largest_product(model):
    OV, readers = _matrices(model)
    return _search(OV[0], _later(readers), normalised=False)


@mistake("strongest_wire", hint="You compare `W_O` with W_Q, W_K and W_V alone. They are one choice among many: a gauge changes what you find. Use the products that survive.")
def single_matrices(model):
    return _search(model.W_O[0], {"Q": model.W_Q[1], "K": model.W_K[1], "V": model.W_V[1]})


@mistake("strongest_wire", hint="You only look at the keys. A head of layer 1 also reads through its queries and its values.")
def only_the_keys(model):
    OV, readers = _matrices(model)
    return _search(OV[0], {"K": readers["K"][1]})


@mistake("strongest_wire", hint="You only look at the values. A head of layer 1 also reads through its queries and its keys.")
def only_what_values_read(model):
    OV, readers = _matrices(model)
    return _search(OV[0], {"V": readers["V"][1]})


@mistake("strongest_wire", hint="You only look at the queries. A head of layer 1 also reads through its keys and its values.")
def only_the_queries_of_readers(model):
    OV, readers = _matrices(model)
    return _search(OV[0], {"Q": readers["Q"][1]})


@mistake("strongest_wire", hint="The layers are exchanged: layer 0 writes first, and layer 1 reads what is there.")
def layers_exchanged(model):
    OV, readers = _matrices(model)
    return _search(OV[1], {letter: matrices[0] for letter, matrices in readers.items()})


@mistake("strongest_wire", hint="You return the *weakest* wire.")
def the_weakest(model):
    OV, readers = _matrices(model)
    return _search(OV[0], _later(readers), best=min)


@mistake("strongest_wire", hint="The right pair, in the wrong order: return the writer (layer 0) first, then the reader (layer 1).")
def reader_first(model):
    OV, readers = _matrices(model)
    a, b, letter = _search(OV[0], _later(readers))
    return b, a, letter


@mistake("strongest_wire", hint="That is the wire of the model in the notebook. The check has others, in which the heads have other places: search the model you are given.")
def the_one_in_the_notebook(model):
    return 4, 6, "K"


@mistake("strongest_wire", hint="Values are not searched. A head of layer 1 reads through its queries, its keys and its values.")
def forgets_what_values_read(model):
    OV, readers = _matrices(model)
    return _search(OV[0], {letter: readers[letter][1] for letter in "QK"})


@mistake("strongest_wire", hint="Queries are not searched. A head of layer 1 reads through its queries, its keys and its values.")
def forgets_what_queries_read(model):
    OV, readers = _matrices(model)
    return _search(OV[0], {letter: readers[letter][1] for letter in "KV"})


@mistake("strongest_wire", hint="What keys read is not found. A head of layer 1 reads through its queries, its keys and its values: search with W_QK as it is for queries, transposed for keys.")
def forgets_what_keys_read(model):
    OV, readers = _matrices(model)
    return _search(OV[0], {letter: readers[letter][1] for letter in "QV"})


@mistake("strongest_wire", hint="Your reader is in layer 0, like the writer. Heads of one layer do not read one another: take the readers' matrices from layer 1.")
def readers_in_layer_0(model):
    OV, readers = _matrices(model)
    return _search(OV[0], {letter: matrices[0] for letter, matrices in readers.items()})


@mistake("strongest_wire", hint="You multiply reader by writer. With vectors as rows, what acts first stands on the left: the writer's product, then the reader's.")
def readers_on_the_left(model):
    OV, readers = _matrices(model)
    return _search(OV[0].mT, {letter: matrices.mT for letter, matrices in _later(readers).items()})  # |AB| = |B^T A^T|


# mlp_as_neurons -----------------------------------------------------------------------------


def _values(activations, W_out):
    return activations[:, :, None] * W_out


@mistake("mlp_as_neurons", hint="The relu is missing: a neuron whose key does not match (a product below 0) adds nothing.")
def without_relu(x, W_in, W_out):
    return _values(x @ W_in, W_out)


@mistake("mlp_as_neurons", hint="You sum over the neurons. Return what each of them adds, `[pos d_mlp d_model]`.")
def summed_over_neurons(x, W_in, W_out):
    return (x @ W_in).relu() @ W_out


@mistake("mlp_as_neurons", hint="The relu comes too late: it cuts the *values*. It belongs between the two matrices, on how strongly the key matches.")
def relu_at_the_end(x, W_in, W_out):
    return _values(x @ W_in, W_out).relu()


@mistake("mlp_as_neurons", hint="The relu comes too early: it cuts the stream. It belongs after the product with the keys.")
def relu_on_the_stream(x, W_in, W_out):
    return _values(x.relu() @ W_in, W_out)


@mistake("mlp_as_neurons", hint="You add each neuron's *key*. What it adds is its value, its row of `W_out`.")
def adds_the_key(x, W_in, W_out):
    return _values((x @ W_in).relu(), W_in.T)


@mistake("mlp_as_neurons", hint="A neuron is not on or off: its value is multiplied by how strongly its key matches.")
def on_or_off(x, W_in, W_out):
    return _values((x @ W_in > 0).float(), W_out)


@mistake("mlp_as_neurons", hint="This is a gelu. The MLP here has a relu, max(a, 0).")
def gelu_for_relu(x, W_in, W_out):
    return _values(F.gelu(x @ W_in), W_out)


@mistake("mlp_as_neurons", hint="You take the absolute value of the match. A relu makes 0 of what is below 0.")
def absolute_match(x, W_in, W_out):
    return _values((x @ W_in).abs(), W_out)


@mistake("mlp_as_neurons", hint="The first two axes are exchanged: positions come first, `[pos d_mlp d_model]`.")
def neurons_before_positions(x, W_in, W_out):
    return _values((x @ W_in).relu(), W_out).transpose(0, 1)


@mistake("mlp_as_neurons", hint="The new axis is in the wrong place: each activation multiplies its neuron's whole row of `W_out`, so it needs a *last* axis of size 1, `activations[..., None]`.")
def axis_before_the_neurons(x, W_in, W_out):
    return (x @ W_in).relu()[:, None] * W_out


@mistake("mlp_as_neurons", hint="The last two axes are exchanged: neurons come before dimensions, `[pos d_mlp d_model]`.")
def neurons_after_dimensions(x, W_in, W_out):
    return (x @ W_in).relu()[:, None] * W_out.T


@mistake("mlp_as_neurons", hint="These are only the activations, how strongly each key matches. Multiply each by the neuron's value, its row of `W_out`.")
def only_the_activations(x, W_in, W_out):
    return (x @ W_in).relu()


@mistake("mlp_as_neurons", hint="A softmax over neurons makes them share, as sources of attention do. Each neuron has a relu of its own.")
def softmax_over_neurons(x, W_in, W_out):
    return _values((x @ W_in).softmax(-1), W_out)
