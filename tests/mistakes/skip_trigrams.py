"""Known wrong answers to chapter 2, each with the hint it deserves. A learner whose answer does
what one of these does is shown its hint."""

import math

import torch
import torch.nn.functional as F

from circuits.checking import mistake

# attention_scores ---------------------------------------------------------------------------


@mistake("attention_scores", hint="The scale is missing: divide by the square root of d_head, `W_Q.shape[-1] ** 0.5`.")
def scores_without_the_root(x_q, x_k, W_Q, W_K):
    return (x_q @ W_Q) @ (x_k @ W_K).transpose(1, 2)


@mistake("attention_scores", hint="You divide by d_head itself; divide by its square root.")
def scores_over_d_head(x_q, x_k, W_Q, W_K):
    return (x_q @ W_Q) @ (x_k @ W_K).transpose(1, 2) / W_Q.shape[-1]


@mistake("attention_scores", hint="You divide by the root of d_model. What is summed over is d_head, the last size of `W_Q`.")
def scores_over_root_of_d_model(x_q, x_k, W_Q, W_K):
    return (x_q @ W_Q) @ (x_k @ W_K).transpose(1, 2) / W_Q.shape[0] ** 0.5


@mistake("attention_scores", hint="You multiply by the root of d_head: divide.")
def scores_times_the_root(x_q, x_k, W_Q, W_K):
    return (x_q @ W_Q) @ (x_k @ W_K).transpose(1, 2) * W_Q.shape[-1] ** 0.5


@mistake("attention_scores", hint="Destination and source are exchanged: rows are destinations (queries), columns are sources (keys).")
def scores_transposed(x_q, x_k, W_Q, W_K):
    return (x_k @ W_K) @ (x_q @ W_Q).transpose(1, 2) / W_Q.shape[-1] ** 0.5


@mistake("attention_scores", hint="W_Q and W_K are exchanged: queries come from the destinations, `x_q @ W_Q`, keys from the sources, `x_k @ W_K`.")
def scores_with_weights_exchanged(x_q, x_k, W_Q, W_K):
    return (x_q @ W_K) @ (x_k @ W_Q).transpose(1, 2) / W_Q.shape[-1] ** 0.5


@mistake("attention_scores", hint="These are weights already. Return the scores; the softmax is the next exercise.")
def scores_after_softmax(x_q, x_k, W_Q, W_K):
    return ((x_q @ W_Q) @ (x_k @ W_K).transpose(1, 2) / W_Q.shape[-1] ** 0.5).softmax(-1)


@mistake("attention_scores", hint="You compute queries and keys with the same matrix. Keys have their own, `W_K`.")
def scores_with_one_matrix(x_q, x_k, W_Q, W_K):
    return (x_q @ W_Q) @ (x_k @ W_Q).transpose(1, 2) / W_Q.shape[-1] ** 0.5


@mistake("attention_scores", hint="You normalise queries and keys, which makes a cosine. A score is their plain product over the root: longer keys get more.")
def scores_as_cosines(x_q, x_k, W_Q, W_K):
    q, k = F.normalize(x_q @ W_Q, dim=-1), F.normalize(x_k @ W_K, dim=-1)
    return q @ k.transpose(1, 2)


@mistake("attention_scores", hint="`.T` of a batch turns round all three sizes, the batch too. Exchange the last two: `k.transpose(-1, -2)`, or `k.mT`.")
def scores_with_the_batch_turned_round(x_q, x_k, W_Q, W_K):
    return (x_q @ W_Q) @ (x_k @ W_K).T / W_Q.shape[-1] ** 0.5


@mistake("attention_scores", hint="You divide by a fixed number, the root of 32. That is right for the trained models only: take the root of `W_Q.shape[-1]`.")
def scores_over_the_root_of_32(x_q, x_k, W_Q, W_K):
    return (x_q @ W_Q) @ (x_k @ W_K).transpose(1, 2) / 32**0.5


# causal_pattern -----------------------------------------------------------------------------


def _future(scores, diagonal=1):
    return torch.ones(scores.shape[-2:], dtype=torch.bool).triu(diagonal)


@mistake("causal_pattern", hint="You lower the scores of the future by 100, so one that is 100 higher is seen all the same. Put `-torch.inf` in their place.")
def future_lowered(scores):
    return (scores - 100 * torch.ones_like(scores).triu(1)).softmax(-1)


@mistake("causal_pattern", hint="The future is not masked: each destination may attend to itself and to what comes before it.")
def pattern_without_mask(scores):
    return scores.softmax(-1)


@mistake("causal_pattern", hint="You mask after the softmax, so that rows no longer sum to one. Mask the scores first, with -inf.")
def masks_after_softmax(scores):
    return scores.softmax(-1).masked_fill(_future(scores), 0.0)


@mistake("causal_pattern", hint="A masked score of 0 is an ordinary score, as exp(0) = 1. Fill with `-torch.inf`.")
def masks_with_zero(scores):
    return scores.masked_fill(_future(scores), 0.0).softmax(-1)


@mistake("causal_pattern", hint="You mask the diagonal, too. A position may attend to itself: use `triu(1)`.")
def masks_the_present(scores):
    return scores.masked_fill(_future(scores, 0), -torch.inf).softmax(-1)


@mistake("causal_pattern", hint="You mask the past and keep the future. Sources run along the *columns*: what is above the diagonal lies in the future.")
def masks_the_past(scores):
    return scores.masked_fill(~_future(scores, 0), -torch.inf).softmax(-1)


@mistake("causal_pattern", hint="The softmax runs over destinations. Each destination shares its attention among sources: the last dimension.")
def softmax_over_destinations(scores):
    return scores.masked_fill(_future(scores), -torch.inf).softmax(-2)


@mistake("causal_pattern", hint="The last allowed source is the present position itself. You allow one position of the future, too: `triu(1)`, not `triu(2)`.")
def allows_one_of_the_future(scores):
    return scores.masked_fill(_future(scores, 2), -torch.inf).softmax(-1)


@mistake("causal_pattern", hint="`exp` of large scores overflows. Use `softmax`, which subtracts the largest first.")
def exponentials_overflow(scores):
    e = scores.exp().masked_fill(_future(scores), 0.0)
    return e / e.sum(-1, keepdim=True)


@mistake("causal_pattern", hint="One softmax runs over all rows together. Each destination has its own: each row sums to one.")
def one_softmax_for_all_rows(scores):
    return scores.masked_fill(_future(scores), -torch.inf).flatten(1).softmax(-1).view_as(scores)


@mistake("causal_pattern", hint="The diagonal is masked, too, so that the first row has nothing left (its NaN you turn into 0). A position may attend to itself: `triu(1)`.")
def masks_the_present_and_mends_it(scores):
    return scores.masked_fill(_future(scores, 0), -torch.inf).softmax(-1).nan_to_num(0.0)


@mistake("causal_pattern", hint="These are logarithms of the weights. Take `softmax`, not `log_softmax`.")
def logarithms_of_weights(scores):
    return scores.masked_fill(_future(scores), -torch.inf).log_softmax(-1)


@mistake("causal_pattern", hint="You fill the future with a large negative number, and a score of the past can be lower still. `-torch.inf` is below all of them.")
def future_filled_with_a_number(scores):
    return scores.masked_fill(_future(scores), -1e4).softmax(-1)


@mistake("causal_pattern", hint="The scores are divided by a root already. Take their softmax as they are.")
def scores_divided_again(scores):
    return (scores / scores.shape[-1] ** 0.5).masked_fill(_future(scores), -torch.inf).softmax(-1)


@mistake("causal_pattern", hint="Where your mask is 0 you have 0 · ∞, which is NaN, and one NaN spoils its row. Do not multiply by infinity: `scores.masked_fill(mask, -torch.inf)`.")
def infinity_times_the_mask(scores):
    return (scores - torch.inf * torch.ones_like(scores).triu(1)).softmax(-1)


# head_output --------------------------------------------------------------------------------


@mistake("head_output", hint="The pattern is transposed: row i says where destination i takes from. Use `pattern @ values`.")
def output_with_transposed_pattern(x, pattern, W_V, W_O):
    return pattern.transpose(1, 2) @ x @ W_V @ W_O


@mistake("head_output", hint="You add the residual stream. Return only what the head adds to it.")
def output_plus_stream(x, pattern, W_V, W_O):
    return x + pattern @ x @ W_V @ W_O


@mistake("head_output", hint="The pattern is not used: every position keeps its own value. Sources must be mixed by `pattern`.")
def output_without_pattern(x, pattern, W_V, W_O):
    return x @ W_V @ W_O


@mistake("head_output", hint="You go back to the stream through W_V transposed. The way back is `W_O`.")
def output_through_transposed_value(x, pattern, W_V, W_O):
    return pattern @ x @ W_V @ W_V.T


@mistake("head_output", hint="W_O is missing: the weighted average of the values has d_head dimensions and must be brought back to d_model.")
def output_without_W_O(x, pattern, W_V, W_O):
    return pattern @ x @ W_V


@mistake("head_output", hint="The pattern is a table of weights already; a second softmax evens them out.")
def output_with_second_softmax(x, pattern, W_V, W_O):
    return pattern.softmax(-1) @ x @ W_V @ W_O


@mistake("head_output", hint="You divide by the number of sources. The weights of a row sum to one, so their sum is an average already.")
def output_averaged_again(x, pattern, W_V, W_O):
    return pattern @ x @ W_V @ W_O / pattern.shape[-1]


@mistake("head_output", hint="You move the most attended source only. All sources are moved, as much of each as the pattern says.")
def output_of_the_most_attended(x, pattern, W_V, W_O):
    chosen = F.one_hot(pattern.argmax(-1), pattern.shape[-1]).to(x.dtype)
    return chosen @ x @ W_V @ W_O


# attention_layer ----------------------------------------------------------------------------


def _layer(x_q, x_k, x_v, W_Q, W_K, W_V, W_O, causal=True):
    """What each head adds, stacked."""
    outs = []
    for h in range(len(W_Q)):
        scores = (x_q @ W_Q[h]) @ (x_k @ W_K[h]).transpose(1, 2) / W_Q.shape[-1] ** 0.5
        if causal:
            scores = scores.masked_fill(_future(scores), -torch.inf)
        outs.append(scores.softmax(-1) @ x_v @ W_V[h] @ W_O[h])
    return torch.stack(outs)


@mistake("attention_layer", hint="Values read x + p here. Positions are added to what queries and keys read, not to what is moved.")
def moves_positions(x, W_pos, W_Q, W_K, W_V, W_O):
    x_p = x + W_pos[: x.shape[1]]
    return _layer(x_p, x_p, x_p, W_Q, W_K, W_V, W_O).sum(0)


@mistake("attention_layer", hint="Positions are not used: queries and keys read `x + W_pos[: x.shape[1]]`.")
def ignores_positions(x, W_pos, W_Q, W_K, W_V, W_O):
    return _layer(x, x, x, W_Q, W_K, W_V, W_O).sum(0)


@mistake("attention_layer", hint="Only the queries know positions; the keys read x + p, too.")
def positions_in_queries_only(x, W_pos, W_Q, W_K, W_V, W_O):
    return _layer(x + W_pos[: x.shape[1]], x, x, W_Q, W_K, W_V, W_O).sum(0)


@mistake("attention_layer", hint="You add the residual stream x. Return only what the layer adds to it.")
def layer_plus_stream(x, W_pos, W_Q, W_K, W_V, W_O):
    x_p = x + W_pos[: x.shape[1]]
    return x + _layer(x_p, x_p, x, W_Q, W_K, W_V, W_O).sum(0)


@mistake("attention_layer", hint="You average the heads. What they write is added up.")
def averages_heads(x, W_pos, W_Q, W_K, W_V, W_O):
    x_p = x + W_pos[: x.shape[1]]
    return _layer(x_p, x_p, x, W_Q, W_K, W_V, W_O).mean(0)


@mistake("attention_layer", hint="Only the last head is left: add each head's output to a running sum instead of replacing it.")
def keeps_the_last_head(x, W_pos, W_Q, W_K, W_V, W_O):
    x_p = x + W_pos[: x.shape[1]]
    return _layer(x_p, x_p, x, W_Q, W_K, W_V, W_O)[-1]


@mistake("attention_layer", hint="The causal mask is missing: no destination may attend to later sources.")
def layer_sees_the_future(x, W_pos, W_Q, W_K, W_V, W_O):
    x_p = x + W_pos[: x.shape[1]]
    return _layer(x_p, x_p, x, W_Q, W_K, W_V, W_O, causal=False).sum(0)


@mistake("attention_layer", hint="The scores must be divided by the root of d_head.")
def layer_without_the_root(x, W_pos, W_Q, W_K, W_V, W_O):
    x_p = x + W_pos[: x.shape[1]]
    return _layer(x_p, x_p, x, W_Q * W_Q.shape[-1] ** 0.5, W_K, W_V, W_O).sum(0)


@mistake("attention_layer", hint="Only the keys know positions; the queries read x + p, too.")
def positions_in_keys_only(x, W_pos, W_Q, W_K, W_V, W_O):
    return _layer(x, x + W_pos[: x.shape[1]], x, W_Q, W_K, W_V, W_O).sum(0)


@mistake("attention_layer", hint="Each of your heads reads what the heads before it wrote. All heads of a layer read the same x.")
def heads_in_a_row(x, W_pos, W_Q, W_K, W_V, W_O):
    stream = x
    for h in range(len(W_Q)):
        x_p = stream + W_pos[: x.shape[1]]
        stream = stream + _layer(x_p, x_p, stream, *(W[h : h + 1] for W in (W_Q, W_K, W_V, W_O)))[0]
    return stream - x


@mistake("attention_layer", hint="You take the *last* rows of W_pos. The text begins at position 0: `W_pos[: x.shape[1]]`.")
def the_last_positions(x, W_pos, W_Q, W_K, W_V, W_O):
    x_p = x + W_pos[-x.shape[1] :]
    return _layer(x_p, x_p, x, W_Q, W_K, W_V, W_O).sum(0)


@mistake("attention_layer", hint="You count positions from 1. The first is position 0: `W_pos[: x.shape[1]]`.")
def positions_from_one(x, W_pos, W_Q, W_K, W_V, W_O):
    x_p = x + W_pos[1 : x.shape[1] + 1]
    return _layer(x_p, x_p, x, W_Q, W_K, W_V, W_O).sum(0)


@mistake("attention_layer", hint="Every head has a W_O of its own: bring each head's mixture back with it, and add up afterwards. You add first.")
def sums_before_W_O(x, W_pos, W_Q, W_K, W_V, W_O):
    x_p, identity = x + W_pos[: x.shape[1]], torch.eye(W_V.shape[-1]).expand(len(W_V), -1, -1)
    return _layer(x_p, x_p, x, W_Q, W_K, W_V, identity).sum(0) @ W_O.sum(0)


@mistake("attention_layer", hint="One pattern serves all heads. Each head has scores of its own, and a softmax of its own.")
def one_pattern_for_all_heads(x, W_pos, W_Q, W_K, W_V, W_O):
    x_p = x + W_pos[: x.shape[1]]
    scores = sum((x_p @ q) @ (x_p @ k).mT for q, k in zip(W_Q, W_K)) / W_Q.shape[-1] ** 0.5 / len(W_Q)
    pattern = scores.masked_fill(_future(scores), -torch.inf).softmax(-1)
    return sum(pattern @ x @ v @ o for v, o in zip(W_V, W_O))


# ov_circuit ---------------------------------------------------------------------------------


@mistake("ov_circuit", hint="The order is wrong: `W_O @ W_V` is [d_head d_head]. A source vector x is first multiplied by W_V, then by W_O.")
def output_before_value(model, layer, head):
    return model.W_O[layer, head] @ model.W_V[layer, head]


@mistake("ov_circuit", hint="This is the transpose. With vectors as rows, x @ W_V @ W_O, the product is `W_V @ W_O`.")
def ov_transposed(model, layer, head):
    return (model.W_V[layer, head] @ model.W_O[layer, head]).T


@mistake("ov_circuit", hint="Layer and head are exchanged: `model.W_V[layer, head]`.")
def ov_of_layer_and_head_exchanged(model, layer, head):
    return model.W_V[head, layer] @ model.W_O[head, layer]


@mistake("ov_circuit", hint="You always take layer 0: use `layer`.")
def ov_of_layer_0(model, layer, head):
    return model.W_V[0, head] @ model.W_O[0, head]


@mistake("ov_circuit", hint="This is the sum over all heads of the layer. Take one: `[layer, head]`.")
def ov_of_all_heads(model, layer, head):
    return (model.W_V[layer] @ model.W_O[layer]).sum(0)


@mistake("ov_circuit", hint="This is W_Q W_Kᵀ, where the head looks. What it moves is decided by W_V and W_O.")
def qk_for_ov(model, layer, head):
    return model.W_Q[layer, head] @ model.W_K[layer, head].T


@mistake("ov_circuit", hint="You multiply by W_V transposed. The second factor is a matrix of its own, `W_O`.")
def value_twice(model, layer, head):
    return model.W_V[layer, head] @ model.W_V[layer, head].T


@mistake("ov_circuit", hint="Nothing is divided here: the root belongs to attention scores.")
def ov_over_the_root(model, layer, head):
    return model.W_V[layer, head] @ model.W_O[layer, head] / model.cfg.d_head**0.5


@mistake("ov_circuit", hint="You take W_K for W_V. Keys say where the head looks; what it moves is the value, `W_V`.")
def keys_for_values(model, layer, head):
    return model.W_K[layer, head] @ model.W_O[layer, head]


# full_ov_circuit ----------------------------------------------------------------------------


def _ov(model, layer, head):
    return model.W_E @ model.W_V[layer, head] @ model.W_O[layer, head] @ model.W_U


@mistake("full_ov_circuit", hint="Rows must be source tokens and columns outputs: this is the transpose.")
def full_ov_transposed(model, layer, head):
    return _ov(model, layer, head).T


@mistake("full_ov_circuit", hint="You leave through the embedding, transposed. The way out is the unembedding, `W_U`.")
def ov_to_embeddings(model, layer, head):
    return model.W_E @ model.W_V[layer, head] @ model.W_O[layer, head] @ model.W_E.T


@mistake("full_ov_circuit", hint="The direct path W_E W_U is in it, too. Return what the head adds, nothing else.")
def ov_with_direct_path(model, layer, head):
    return _ov(model, layer, head) + model.W_E @ model.W_U


@mistake("full_ov_circuit", hint="This is W_V W_O between dimensions of the stream. For tokens on both sides, put W_E in front and W_U behind.")
def ov_without_tokens(model, layer, head):
    return model.W_V[layer, head] @ model.W_O[layer, head]


@mistake("full_ov_circuit", hint="This is the direct path, without the head: W_V and W_O belong between W_E and W_U.")
def only_the_direct_path(model, layer, head):
    return model.W_E @ model.W_U


@mistake("full_ov_circuit", hint="You always take layer 0: use `layer`.")
def full_ov_of_layer_0(model, layer, head):
    return _ov(model, 0, head)


@mistake("full_ov_circuit", hint="You always take head 0: use `head`.")
def full_ov_of_head_0(model, layer, head):
    return _ov(model, layer, 0)


@mistake("full_ov_circuit", hint="These are probabilities. What a head adds to the logits is a plain number, with either sign: no softmax.")
def full_ov_softmax(model, layer, head):
    return _ov(model, layer, head).softmax(-1)


@mistake("full_ov_circuit", hint="You subtract each row's mean. That leaves probabilities as they are, but the circuit is the product itself.")
def full_ov_with_rows_centred(model, layer, head):
    M = _ov(model, layer, head)
    return M - M.mean(-1, keepdim=True)


# full_qk_circuit ----------------------------------------------------------------------------


def _qk(model, layer, head, x_q, x_k):
    return (x_q @ model.W_Q[layer, head]) @ (x_k @ model.W_K[layer, head]).T


@mistake("full_qk_circuit", hint="Rows must be destinations, whose queries you take with W_Q; this is the transpose.")
def full_qk_transposed(model, layer, head):
    return _qk(model, layer, head, model.W_E, model.W_E).T / model.cfg.d_head**0.5


@mistake("full_qk_circuit", hint="The root of d_head is missing: entries should be contributions to scores.")
def full_qk_without_the_root(model, layer, head):
    return _qk(model, layer, head, model.W_E, model.W_E)


@mistake("full_qk_circuit", hint="You divide by the root of d_model; scores are divided by the root of d_head.")
def full_qk_over_root_of_d_model(model, layer, head):
    return _qk(model, layer, head, model.W_E, model.W_E) / model.cfg.d_model**0.5


@mistake("full_qk_circuit", hint="You use the unembedding for the keys. Queries and keys both read the stream, so tokens enter through W_E on both sides.")
def qk_with_unembedding(model, layer, head):
    return _qk(model, layer, head, model.W_E, model.W_U.T) / model.cfg.d_head**0.5


@mistake("full_qk_circuit", hint="You take the softmax. The circuit holds scores.")
def full_qk_softmax(model, layer, head):
    return (_qk(model, layer, head, model.W_E, model.W_E) / model.cfg.d_head**0.5).softmax(-1)


@mistake("full_qk_circuit", hint="You always take layer 0: use `layer`.")
def full_qk_of_layer_0(model, layer, head):
    return _qk(model, 0, head, model.W_E, model.W_E) / model.cfg.d_head**0.5


@mistake("full_qk_circuit", hint="Queries and keys are made with the same matrix. Keys have `W_K`.")
def full_qk_of_one_matrix(model, layer, head):
    q = model.W_E @ model.W_Q[layer, head]
    return q @ q.T / model.cfg.d_head**0.5


@mistake("full_qk_circuit", hint="The mask belongs to positions. In this table of tokens, nothing comes before or after: leave it out.")
def full_qk_masked(model, layer, head):
    scores = _qk(model, layer, head, model.W_E, model.W_E) / model.cfg.d_head**0.5
    return scores.masked_fill(_future(scores), -torch.inf)


@mistake("full_qk_circuit", hint="You subtract each row's mean. That comes later: the circuit holds the scores themselves.")
def full_qk_with_rows_centred(model, layer, head):
    scores = _qk(model, layer, head, model.W_E, model.W_E) / model.cfg.d_head**0.5
    return scores - scores.mean(-1, keepdim=True)


@mistake("full_qk_circuit", hint="You divide by d_head itself; divide by its square root.")
def full_qk_over_d_head(model, layer, head):
    return _qk(model, layer, head, model.W_E, model.W_E) / model.cfg.d_head


@mistake("full_qk_circuit", hint="You divide by a fixed number, the root of 32. That is right for the trained models only: take the root of `model.cfg.d_head`.")
def full_qk_over_the_root_of_32(model, layer, head):
    return _qk(model, layer, head, model.W_E, model.W_E) / 32**0.5


# positional_qk ------------------------------------------------------------------------------


@mistake("positional_qk", hint="Rows must be destination positions; this is the transpose.")
def positional_transposed(model, layer, head):
    return _qk(model, layer, head, model.W_pos, model.W_pos).T / model.cfg.d_head**0.5


@mistake("positional_qk", hint="The root of d_head is missing.")
def positional_without_the_root(model, layer, head):
    return _qk(model, layer, head, model.W_pos, model.W_pos)


@mistake("positional_qk", hint="This is the full QK circuit, between tokens. Put `W_pos` in place of `W_E`.")
def positional_of_tokens(model, layer, head):
    return _qk(model, layer, head, model.W_E, model.W_E) / model.cfg.d_head**0.5


@mistake("positional_qk", hint="Return the term itself, without a mask: it is a part of the scores, before masking.")
def positional_masked(model, layer, head):
    scores = _qk(model, layer, head, model.W_pos, model.W_pos) / model.cfg.d_head**0.5
    return scores.masked_fill(_future(scores), -torch.inf)


@mistake("positional_qk", hint="Return the term itself, without a softmax: it is a part of the scores.")
def positional_softmax(model, layer, head):
    scores = _qk(model, layer, head, model.W_pos, model.W_pos) / model.cfg.d_head**0.5
    return scores.masked_fill(_future(scores), -torch.inf).softmax(-1)


@mistake("positional_qk", hint="You compare the position vectors with each other as they are. The head sees them through W_Q and W_K.")
def positional_without_weights(model, layer, head):
    return model.W_pos @ model.W_pos.T / model.cfg.d_head**0.5


@mistake("positional_qk", hint="You always take head 0: use `head`.")
def positional_of_head_0(model, layer, head):
    return _qk(model, layer, 0, model.W_pos, model.W_pos) / model.cfg.d_head**0.5


@mistake("positional_qk", hint="You set what lies in the future to 0. Leave it as it is: masking is done to the whole score, later, and not with 0.")
def positional_with_zeros_in_the_future(model, layer, head):
    return (_qk(model, layer, head, model.W_pos, model.W_pos) / model.cfg.d_head**0.5).tril()


@mistake("positional_qk", hint="You take a fixed number of positions. The circuit has a row for each of the model's: use all of `model.W_pos`.")
def the_first_128_positions(model, layer, head):
    return _qk(model, layer, head, model.W_pos[:128], model.W_pos[:128]) / model.cfg.d_head**0.5


# score_terms --------------------------------------------------------------------------------


def _terms(model, tokens, head, x=None, p=None):
    x = model.W_E[tokens] if x is None else x
    p = model.W_pos[: len(tokens)] if p is None else p
    terms = [_qk(model, 0, head, q, k) for q in (x, p) for k in (x, p)]
    return torch.stack(terms) / model.cfg.d_head**0.5


@mistake("score_terms", hint="The two middle terms are exchanged: token-position comes first, with the *query* from the token and the *key* from the position.")
def middle_terms_exchanged(model, tokens, head):
    return _terms(model, tokens, head)[[0, 2, 1, 3]]


@mistake("score_terms", hint="The root of d_head is missing in the terms.")
def terms_without_the_root(model, tokens, head):
    return _terms(model, tokens, head) * model.cfg.d_head**0.5


@mistake("score_terms", hint="Each term is transposed: rows are destinations (queries), columns sources (keys).")
def terms_transposed(model, tokens, head):
    return _terms(model, tokens, head).transpose(1, 2)


@mistake("score_terms", hint="`W_pos[tokens]` looks up positions by token number. The position of the i-th token is i: `W_pos[: len(tokens)]`.")
def positions_by_token_number(model, tokens, head):
    return _terms(model, tokens, head, p=model.W_pos[tokens % len(model.W_pos)])


@mistake("score_terms", hint="Your terms are masked. They are wanted before masking.")
def terms_masked(model, tokens, head):
    terms = _terms(model, tokens, head)
    return terms.masked_fill(_future(terms), -torch.inf)


@mistake("score_terms", hint="The token terms still hold the positions: use `W_E[tokens]` alone, without adding `W_pos`, for the token part.")
def token_part_with_positions(model, tokens, head):
    return _terms(model, tokens, head, x=model.W_E[tokens] + model.W_pos[: len(tokens)])


@mistake("score_terms", hint="You always take head 0: use `head`.")
def terms_of_head_0(model, tokens, head):
    return _terms(model, tokens, 0)


@mistake("score_terms", hint="The order is that of the equation, tokens first: token-token, token-position, position-token, position-position.")
def positions_first(model, tokens, head):
    return _terms(model, tokens, head).flip(0)


@mistake("score_terms", hint="You return the sum of the four terms. Return the terms, stacked.")
def sum_of_the_terms(model, tokens, head):
    return _terms(model, tokens, head).sum(0)


@mistake("score_terms", hint="You count positions from 1. The first is position 0: `W_pos[: len(tokens)]`.")
def terms_with_positions_from_one(model, tokens, head):
    return _terms(model, tokens, head, p=model.W_pos[1 : len(tokens) + 1])


# path_expansion -----------------------------------------------------------------------------


def _paths(model, tokens, x=None, transpose=False):
    _, cache = model.run_with_cache(tokens)
    x = model.W_E[tokens] if x is None else x
    pattern = cache["pattern", 0].transpose(-1, -2) if transpose else cache["pattern", 0]
    heads = range(model.cfg.n_heads)
    moved = [pattern[:, h] @ x @ model.W_V[0, h] @ model.W_O[0, h] @ model.W_U for h in heads]
    return torch.stack([model.W_E[tokens] @ model.W_U, *moved])


@mistake("path_expansion", hint="The direct path is last; it comes first, then head 0, head 1, ...")
def direct_path_last(model, tokens):
    return _paths(model, tokens).roll(-1, 0)


@mistake("path_expansion", hint="Each head's term includes the direct path, so that it is counted again for every head. A head's term is only what the head adds.")
def direct_path_in_every_term(model, tokens):
    paths = _paths(model, tokens)
    return torch.cat([paths[:1], paths[1:] + paths[:1]])


@mistake("path_expansion", hint="Your terms are running totals. Return each path by itself.")
def running_totals(model, tokens):
    return _paths(model, tokens).cumsum(0)


@mistake("path_expansion", hint="The heads move x + p. Values read the token embeddings alone: positions steer attention only.")
def paths_move_positions(model, tokens):
    return _paths(model, tokens, x=model.W_E[tokens] + model.W_pos[: tokens.shape[1]])


@mistake("path_expansion", hint="The pattern is transposed: it is [batch head dest src], so `pattern[:, h] @ x` moves from sources to destinations.")
def paths_with_transposed_pattern(model, tokens):
    return _paths(model, tokens, transpose=True)


@mistake("path_expansion", hint="The patterns are missing: the heads' terms take the present token only, as if each head attended to itself.")
def paths_without_patterns(model, tokens):
    x = model.W_E[tokens]
    heads = range(model.cfg.n_heads)
    moved = [x @ model.W_V[0, h] @ model.W_O[0, h] @ model.W_U for h in heads]
    return torch.stack([x @ model.W_U, *moved])


@mistake("path_expansion", hint="These are vectors of the residual stream. Unembed every term with `W_U`.")
def paths_in_the_stream(model, tokens):
    _, cache = model.run_with_cache(tokens)
    return torch.stack([model.W_E[tokens], *cache["result", 0].unbind(2)])


@mistake("path_expansion", hint="You split the logits evenly. They do sum up, but each path has its own share: apply its matrices.")
def equal_shares(model, tokens):
    n = model.cfg.n_heads + 1
    return (model(tokens) / n).expand(n, *tokens.shape, -1)


@mistake("path_expansion", hint="Positions are in every term, the direct path too. They are added to what queries and keys read, never to the stream.")
def positions_in_every_path(model, tokens):
    x = model.W_E[tokens] + model.W_pos[: tokens.shape[1]]
    return torch.cat([(x @ model.W_U)[None], _paths(model, tokens, x)[1:]])


@mistake("path_expansion", hint="The direct path is missing: what the present token adds without any head, `W_E[tokens] @ W_U`, comes first.")
def paths_of_heads_only(model, tokens):
    return _paths(model, tokens)[1:]


@mistake("path_expansion", hint="All heads are in one term. Each has a path of its own: `result` holds what each head adds.")
def all_heads_in_one_path(model, tokens):
    paths = _paths(model, tokens)
    return torch.stack([paths[0], paths[1:].sum(0)])


@mistake("path_expansion", hint="The direct path holds positions. They are added to what queries and keys read, never to the stream.")
def positions_in_the_direct_path(model, tokens):
    paths = _paths(model, tokens)
    direct = (model.W_E[tokens] + model.W_pos[: tokens.shape[1]]) @ model.W_U
    return torch.cat([direct[None], paths[1:]])


@mistake("path_expansion", hint="The pattern of the first text serves for all. Each text has its own: `pattern[:, head]`.")
def pattern_of_the_first_text(model, tokens):
    pattern, x = model.run_with_cache(tokens)[1]["pattern", 0][0], model.W_E[tokens]
    heads = range(model.cfg.n_heads)
    moved = [pattern[h] @ (x @ model.W_V[0, h]) @ model.W_O[0, h] @ model.W_U for h in heads]
    return torch.stack([x @ model.W_U, *moved])


@mistake("path_expansion", hint="These are logarithms of probabilities. Logits of paths add up; their log-softmaxes do not.")
def log_softmax_of_every_path(model, tokens):
    return _paths(model, tokens).log_softmax(-1)


@mistake("path_expansion", hint="The heads are in the reverse order: after the direct path comes head 0.")
def heads_in_reverse(model, tokens):
    paths = _paths(model, tokens)
    return torch.cat([paths[:1], paths[1:].flip(0)])


# freeze_patterns ----------------------------------------------------------------------------


def _is_pattern(name):
    return name.endswith("hook_pattern")


def _frozen(model, tokens, embed, pattern_tokens_embed=None, layers=None):
    run = [("hook_embed", lambda x, hook: pattern_tokens_embed)] if pattern_tokens_embed is not None else []
    kept = {}

    def keep(pattern, hook):
        kept[hook.name] = pattern

    model.run_with_hooks(tokens, fwd_hooks=[*run, (_is_pattern, keep)])

    def freeze(pattern, hook):
        return kept[hook.name] if layers is None or int(hook.name.split(".")[1]) in layers else None

    return model.run_with_hooks(tokens, fwd_hooks=[("hook_embed", lambda x, hook: embed), (_is_pattern, freeze)])


@mistake("freeze_patterns", hint="The patterns follow the new embedding. Hold them at what they are on `tokens`: a second hook, at the patterns.")
def patterns_not_frozen(model, tokens, embed):
    return model.run_with_hooks(tokens, fwd_hooks=[("hook_embed", lambda x, hook: embed)])


@mistake("freeze_patterns", hint="`embed` is not used: a hook at \"hook_embed\" must put it in the place of the token embeddings. (Does yours *return* it?)")
def ignores_embed(model, tokens, embed):
    return model(tokens)


@mistake("freeze_patterns", hint="Only the patterns of layer 0 are frozen. Later layers have patterns, too: a name in `fwd_hooks` may be a function that matches them all.")
def freezes_layer_0_only(model, tokens, embed):
    return _frozen(model, tokens, embed, layers=[0])


@mistake("freeze_patterns", hint="You add `embed` to the token embeddings. It takes their place.")
def adds_embed(model, tokens, embed):
    return _frozen(model, tokens, model.W_E[tokens] + embed)


@mistake("freeze_patterns", hint="You return what the heads add. The direct path, `embed @ W_U`, belongs to the logits, too.")
def frozen_without_direct_path(model, tokens, embed):
    return _frozen(model, tokens, embed) - embed @ model.W_U


@mistake("freeze_patterns", hint="You replace what enters the last layer (or adds to it), not the embedding: with more than one layer this is another place. Hook \"hook_embed\".")
def replaces_the_last_input(model, tokens, embed):
    last = model.cfg.n_layers - 1
    _, cache = model.run_with_cache(tokens)
    hooks = [
        (f"blocks.{last}.hook_resid_pre", lambda x, hook: embed),
        (_is_pattern, lambda pattern, hook: cache[hook.name]),
    ]
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


@mistake("freeze_patterns", hint="You freeze the patterns at an even spread over the past. Hold them at what they are on `tokens`.")
def frozen_at_even_patterns(model, tokens, embed):
    def even(pattern, hook):
        allowed = torch.ones_like(pattern).tril()
        return allowed / allowed.sum(-1, keepdim=True)

    return model.run_with_hooks(tokens, fwd_hooks=[("hook_embed", lambda x, hook: embed), (_is_pattern, even)])


@mistake("freeze_patterns", hint="Your heads read one another within a layer. All heads of a layer read the same stream; the sum of what they write comes afterwards.")
def heads_one_after_the_other(model, tokens, embed):
    _, cache = model.run_with_cache(tokens)
    x = embed
    for layer in range(model.cfg.n_layers):
        for h in range(model.cfg.n_heads):
            x = x + cache["pattern", layer][:, h] @ x @ model.W_V[layer, h] @ model.W_O[layer, h]
    return x @ model.W_U


@mistake("freeze_patterns", hint="Every layer gets the patterns of the last one: a function made in a loop sees the loop's variable as it is at the end. Bind it, `lambda pattern, hook, l=l: ...`, or use `hook.name`, which is a key of the cache.")
def all_layers_get_the_last_pattern(model, tokens, embed):
    _, cache = model.run_with_cache(tokens)
    last = cache["pattern", model.cfg.n_layers - 1]
    hooks = [("hook_embed", lambda x, hook: embed), (_is_pattern, lambda pattern, hook: last)]
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


@mistake("freeze_patterns", hint="You add positions to `embed`. They are added to what queries and keys read, never to the stream.")
def adds_positions_to_embed(model, tokens, embed):
    return _frozen(model, tokens, embed + model.W_pos[: tokens.shape[1]])


@mistake("freeze_patterns", hint="The patterns of the first text serve for all. Each text has its own.")
def frozen_at_the_first_text(model, tokens, embed):
    _, cache = model.run_with_cache(tokens)
    hooks = [
        ("hook_embed", lambda x, hook: embed),
        (_is_pattern, lambda pattern, hook: cache[hook.name][:1].expand_as(pattern)),
    ]
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


@mistake("freeze_patterns", hint="Every layer of yours reads `embed`. A later layer reads what the layers before it wrote, too.")
def every_layer_reads_the_embedding(model, tokens, embed):
    _, cache = model.run_with_cache(tokens)
    x = embed
    for layer in range(model.cfg.n_layers):
        for h in range(model.cfg.n_heads):
            x = x + cache["pattern", layer][:, h] @ embed @ model.W_V[layer, h] @ model.W_O[layer, h]
    return x @ model.W_U


# predict_skip_trigrams ----------------------------------------------------------------------


@mistake("predict_skip_trigrams", hint="These come *right after* the source, which is a bigram and needs no attention. What becomes likelier further on?")
def what_comes_right_after(source):
    return {" try": [":"], " lambda": [" key"], " import": [" os", " sys", " re"], "(": ["self", "x"]}[source]


@mistake("predict_skip_trigrams", hint="The source itself does not count. (That a head may raise what it has seen is true, and comes later in this chapter.)")
def the_source_again(source):
    return [source]


@mistake("predict_skip_trigrams", hint="You guess the same for every source. Each opens something of its own: what?")
def the_same_for_all(source):
    return ["\n", ":", ")"]


@mistake("predict_skip_trigrams", hint="These are places where the head may stand when it looks back, the [b] of [a] … [b] → [c]. You are asked for the [c] that comes next.")
def where_the_head_stands(source):
    return {" try": ["pass"], " lambda": ["x"], " import": ["os"], "(": ["name"]}[source]


@mistake("predict_skip_trigrams", hint="A guess must be a single token, such as \" except\" or \")\". These are descriptions.")
def descriptions(source):
    return {
        " try": ["an except block"], " lambda": ["a colon"], " import": ["a new line"],
        "(": ["the closing bracket"],
    }[source]


@mistake("predict_skip_trigrams", hint="At most three guesses for a source: commit yourself.")
def far_too_many(source):
    return [":", ")", "\n", ",", " except", " as", " in", " else", "):", "))"]


@mistake("predict_skip_trigrams", hint="You match every source with something that comes *before* it or belongs to another line. Ask what must follow: what does the source open?")
def what_comes_before(source):
    return {" try": [" def"], " lambda": [" sorted"], " import": [" class"], "(": [" return"]}[source]


@mistake("predict_skip_trigrams", hint="These come *right after* the source, which is a bigram and needs no attention. What becomes likelier further on?")
def what_follows_at_once(source):
    return {" try": [":"], " lambda": ["x"], " import": ["os"], "(": ["self"]}[source]


@mistake("predict_skip_trigrams", hint="You return the whole dictionary. Look `source` up in it: `guesses[source]`.")
def the_whole_dictionary(source):
    return {" try": [" except"], " lambda": [":"], " import": ["\n"], "(": [")"]}


# skip_trigrams ------------------------------------------------------------------------------


def _wanted_and_raised(model, head, source, centre=True):
    query, key = model.W_E @ model.W_Q[0, head], model.W_E @ model.W_K[0, head]
    wanted = query @ (key[source] - key.mean(0) * centre)
    return wanted, _ov(model, 0, head)[source]


def _top(x, k):
    return x.topk(k).indices.tolist()


@mistake("skip_trigrams", hint="You compare raw scores of different destinations. Rows differ by constants that mean nothing: subtract each row's mean, over sources, first. (A column's mean would not change the order.)")
def rows_not_centred(model, head, source, k):
    wanted, raised = _wanted_and_raised(model, head, source, centre=False)
    return _top(wanted, k), _top(raised, k)


@mistake("skip_trigrams", hint="You read a row of the QK circuit: what the source looks for when it is the *destination*. Where the source is looked for *from* is its column.")
def reads_the_row_of_qk(model, head, source, k):
    query, key = model.W_E @ model.W_Q[0, head], model.W_E @ model.W_K[0, head]
    return _top((key - key.mean(0)) @ query[source], k), _top(_ov(model, 0, head)[source], k)


@mistake("skip_trigrams", hint="You read a column of the OV circuit: which tokens raise the source. What the source raises is its row.")
def reads_the_column_of_ov(model, head, source, k):
    wanted, _ = _wanted_and_raised(model, head, source)
    return _top(wanted, k), _top(_ov(model, 0, head)[:, source], k)


@mistake("skip_trigrams", hint="The two lists are exchanged: destinations first, outputs second.")
def lists_exchanged(model, head, source, k):
    wanted, raised = _wanted_and_raised(model, head, source)
    return _top(raised, k), _top(wanted, k)


@mistake("skip_trigrams", hint="These are the smallest entries. `argsort` puts the smallest first; `topk` takes the largest.")
def the_smallest(model, head, source, k):
    wanted, raised = _wanted_and_raised(model, head, source)
    return _top(-wanted, k), _top(-raised, k)


@mistake("skip_trigrams", hint="These are values. Return the tokens' numbers, `.indices`.")
def values_of_skip_trigrams(model, head, source, k):
    wanted, raised = _wanted_and_raised(model, head, source)
    return wanted.topk(k).values.tolist(), raised.topk(k).values.tolist()


@mistake("skip_trigrams", hint="You take the direct path W_E W_U for the outputs. What the head raises goes through its W_V and W_O.")
def outputs_of_the_direct_path(model, head, source, k):
    wanted, _ = _wanted_and_raised(model, head, source)
    return _top(wanted, k), _top(model.W_E[source] @ model.W_U, k)


@mistake("skip_trigrams", hint="The tokens are right, but the best comes last. Turn the lists round.")
def best_comes_last(model, head, source, k):
    wanted, raised = _wanted_and_raised(model, head, source)
    return _top(wanted, k)[::-1], _top(raised, k)[::-1]


@mistake("skip_trigrams", hint="You compare weights after a softmax over all tokens. There is no such text; compare scores, each less the mean of its row.")
def weights_among_all_tokens(model, head, source, k):
    query, key = model.W_E @ model.W_Q[0, head], model.W_E @ model.W_K[0, head]
    pattern = (query @ key.T / model.cfg.d_head**0.5).softmax(-1)
    return _top(pattern[:, source], k), _top(_ov(model, 0, head)[source], k)


@mistake("skip_trigrams", hint="You subtract the mean over destinations, and then read a row of QK. It is the other way round: subtract each row's mean, over sources, and read the source's column.")
def row_of_qk_less_the_mean_of_columns(model, head, source, k):
    query, key = model.W_E @ model.W_Q[0, head], model.W_E @ model.W_K[0, head]
    return _top(key @ (query[source] - query.mean(0)), k), _top(_ov(model, 0, head)[source], k)


@mistake("skip_trigrams", hint="You compare the *sizes* of OV entries. One far below zero lowers the token: leave out `abs`.")
def outputs_by_size(model, head, source, k):
    wanted, raised = _wanted_and_raised(model, head, source)
    return _top(wanted, k), _top(raised.abs(), k)


@mistake("skip_trigrams", hint="The direct path of the source is in your outputs. Ask what the head raises, without it.")
def outputs_with_the_direct_path(model, head, source, k):
    wanted, raised = _wanted_and_raised(model, head, source)
    return _top(wanted, k), _top(raised + model.W_E[source] @ model.W_U, k)


@mistake("skip_trigrams", hint="These are values. Return the tokens' numbers, `.indices`.")
def values_of_scores_and_outputs(model, head, source, k):
    wanted, raised = _wanted_and_raised(model, head, source)
    return (wanted / model.cfg.d_head**0.5).topk(k).values.tolist(), raised.topk(k).values.tolist()


# product_eigenvalues ------------------------------------------------------------------------


@mistake("product_eigenvalues", hint="These are all n eigenvalues of the large product, most of them zero up to rounding, and it takes long. The others are those of `B @ A`.")
def of_the_large_product(A, B):
    return torch.linalg.eigvals(A @ B)


@mistake("product_eigenvalues", hint="These are singular values, which are never negative. Use `torch.linalg.eigvals`.")
def singular_values(A, B):
    return torch.linalg.svdvals(B @ A)


@mistake("product_eigenvalues", hint="`eigvalsh` is for symmetric matrices, and looks at one half of the matrix only. Use `torch.linalg.eigvals`.")
def of_a_symmetric_matrix(A, B):
    return torch.linalg.eigvalsh(B @ A)


@mistake("product_eigenvalues", hint="Only real parts are left. Eigenvalues may be complex: return them as they are.")
def real_parts(A, B):
    return torch.linalg.eigvals(B @ A).real


@mistake("product_eigenvalues", hint="These are absolute values. Signs are what we are after: return the eigenvalues as they are.")
def absolute_values(A, B):
    return torch.linalg.eigvals(B @ A).abs() + 0j


@mistake("product_eigenvalues", hint="`A.T @ A` has nothing of B in it. Multiply the two factors in the other order: `B @ A`.")
def of_a_with_itself(A, B):
    return torch.linalg.eigvals(A.T @ A)


@mistake("product_eigenvalues", hint="This is the diagonal of B A. Its sum is that of the eigenvalues, but they are not the same numbers.")
def the_diagonal(A, B):
    return (B @ A).diagonal() + 0j


@mistake("product_eigenvalues", hint="`torch.linalg.eig` returns eigenvalues *and* eigenvectors. Return the first of the two, or use `torch.linalg.eigvals`.")
def eigenvalues_and_vectors(A, B):
    return torch.linalg.eig(B @ A)


@mistake("product_eigenvalues", hint="You take the first r eigenvalues of the large product, but they come in no particular order: some of the zeros may be among them. The others are those of `B @ A`.")
def the_first_of_the_large_product(A, B):
    return torch.linalg.eigvals(A @ B)[: A.shape[1]]


# copying_score ------------------------------------------------------------------------------


def _balance(small):
    eigenvalues = torch.linalg.eigvals(small)
    return eigenvalues.sum().real / eigenvalues.abs().sum()


def _small(model, layer, head):
    return model.W_O[layer, head] @ model.W_U @ (model.W_E @ model.W_V[layer, head])


def _centred_score(model, layer, head):
    W_U = model.W_U - model.W_U.mean(-1, keepdim=True)
    return _balance(model.W_O[layer, head] @ W_U @ (model.W_E @ model.W_V[layer, head]))


@mistake("copying_score", hint="These are the eigenvalues of W_V W_O alone, between dimensions of the stream. Copying is about tokens: put W_E and W_U round it.")
def without_embeddings(model, layer, head):
    return _balance(model.W_O[layer, head] @ model.W_V[layer, head])


@mistake("copying_score", hint="The score is always 1: singular values are never negative, and neither are absolute values above the line. Above it is the plain sum of eigenvalues.")
def of_singular_values(model, layer, head):
    s = torch.linalg.svdvals(_small(model, layer, head))
    return s.sum() / s.abs().sum()


@mistake("copying_score", hint="Below the line you add up the absolute values of the real parts. The absolute value of a complex number counts its imaginary part, too: `.abs()` before `.real`.")
def real_parts_below_the_line(model, layer, head):
    e = torch.linalg.eigvals(_small(model, layer, head)).real
    return e.sum() / (e.abs().sum() + 1e-12)


@mistake("copying_score", hint="Below the line is the absolute value of the sum; it should be the sum of the absolute values.")
def absolute_value_of_the_sum(model, layer, head):
    e = torch.linalg.eigvals(_small(model, layer, head))
    return e.sum().real / e.sum().abs()


@mistake("copying_score", hint="This is the QK circuit. What a head says when it has found a token is its OV circuit: W_V and W_O.")
def copying_score_of_qk(model, layer, head):
    return _balance((model.W_E @ model.W_K[layer, head]).T @ (model.W_E @ model.W_Q[layer, head]))


@mistake("copying_score", hint="You leave the stream through W_E transposed. Logits come from the unembedding, `W_U`.")
def copying_score_through_embeddings(model, layer, head):
    return _balance(model.W_O[layer, head] @ model.W_E.T @ (model.W_E @ model.W_V[layer, head]))


@mistake("copying_score", hint="This is the sum of the eigenvalues (the trace). Divide by the sum of their absolute values.")
def only_the_trace(model, layer, head):
    return _small(model, layer, head).trace()


@mistake("copying_score", hint="The score is still complex: the imaginary parts cancel in the sum, so take `.real`.")
def complex_score(model, layer, head):
    e = torch.linalg.eigvals(_small(model, layer, head))
    return e.sum() / e.abs().sum()


@mistake("copying_score", hint="You count eigenvalues with a positive real part. Weigh them: sum of eigenvalues over sum of absolute values.")
def share_of_positive_ones(model, layer, head):
    return (torch.linalg.eigvals(_small(model, layer, head)).real > 0).float().mean()


@mistake("copying_score", hint="You take the absolute value of the sum, so that a head that avoids copying scores like one that copies. Take its real part.")
def absolute_value_above_the_line(model, layer, head):
    e = torch.linalg.eigvals(_small(model, layer, head))
    return e.sum().abs() / e.abs().sum()


@mistake("copying_score", hint="You remove from W_U what all tokens have in common. The score is that of the circuit as it is.")
def copying_score_centred(model, layer, head):
    return _centred_score(model, layer, head)


@mistake("copying_score", hint="Below the line you add up singular values. It should be the absolute values of the *eigenvalues*.")
def over_the_singular_values(model, layer, head):
    return _small(model, layer, head).trace() / torch.linalg.svdvals(_small(model, layer, head)).sum()


@mistake("copying_score", hint="Below the line is the Frobenius norm. It should be the sum of the absolute eigenvalues.")
def over_the_frobenius_norm(model, layer, head):
    M = _small(model, layer, head)
    return M.trace() / M.norm()


@mistake("copying_score", hint="Above the line you add up the *sizes* of the real parts, so a head that avoids a token scores like one that copies. Above it is the plain sum: `.sum().real`.")
def sizes_of_real_parts_above_the_line(model, layer, head):
    e = torch.linalg.eigvals(_small(model, layer, head))
    return e.real.abs().sum() / e.abs().sum()


# matching_score -----------------------------------------------------------------------------


def _small_qk(model, layer, head):
    return (model.W_E @ model.W_K[layer, head]).T @ (model.W_E @ model.W_Q[layer, head])


@mistake("matching_score", hint="This is the score of the OV circuit. Here, take queries and keys.")
def matching_score_of_ov(model, layer, head):
    return _balance(_small(model, layer, head))


@mistake("matching_score", hint="These are the eigenvalues of W_Q W_Kᵀ alone. Put token embeddings on both sides.")
def matching_without_embeddings(model, layer, head):
    return _balance(model.W_K[layer, head].T @ model.W_Q[layer, head])


@mistake("matching_score", hint="You use the unembedding on one side. Both queries and keys read the embedding W_E.")
def matching_with_unembedding(model, layer, head):
    return _balance((model.W_U.T @ model.W_K[layer, head]).T @ (model.W_E @ model.W_Q[layer, head]))


@mistake("matching_score", hint="The score is always 1. Singular values are never negative, nor are the eigenvalues of queries with queries: take the eigenvalues of queries with keys.")
def matching_of_singular_values(model, layer, head):
    s = torch.linalg.svdvals((model.W_E @ model.W_K[layer, head]).T @ (model.W_E @ model.W_Q[layer, head]))
    return s.sum() / s.abs().sum()


@mistake("matching_score", hint="You use positions. Matching is about tokens: W_E on both sides.")
def matching_of_positions(model, layer, head):
    return _balance((model.W_pos @ model.W_K[layer, head]).T @ (model.W_pos @ model.W_Q[layer, head]))


@mistake("matching_score", hint="This is the sum of the eigenvalues (the trace). Divide by the sum of their absolute values.")
def only_the_qk_trace(model, layer, head):
    return ((model.W_E @ model.W_K[layer, head]).T @ (model.W_E @ model.W_Q[layer, head])).trace()


@mistake("matching_score", hint="You take the diagonal of the table. Its sum is that of the eigenvalues, but the sum of its absolute values is not: below the line belong those of the eigenvalues.")
def matching_by_the_diagonal(model, layer, head):
    own = _qk(model, layer, head, model.W_E, model.W_E).diagonal()
    return own.sum() / own.abs().sum()


@mistake("matching_score", hint="The score is still complex: the imaginary parts cancel in the sum, so take `.real`.")
def complex_matching_score(model, layer, head):
    e = torch.linalg.eigvals(_small_qk(model, layer, head))
    return e.sum() / e.abs().sum()


@mistake("matching_score", hint="The root of d_head is a factor of every eigenvalue, above and below the line: it cancels. You divide by it once.")
def matching_score_over_the_root(model, layer, head):
    return _balance(_small_qk(model, layer, head)) / model.cfg.d_head**0.5


@mistake("matching_score", hint="Below the line you add up the absolute values of the real parts. The absolute value of a complex number counts its imaginary part, too: `.abs()` before `.real`.")
def matching_real_parts_below_the_line(model, layer, head):
    e = torch.linalg.eigvals(_small_qk(model, layer, head)).real
    return e.sum() / e.abs().sum()


@mistake("matching_score", hint="You count eigenvalues with a positive real part. Weigh them: sum of eigenvalues over sum of absolute values.")
def share_of_positive_matching(model, layer, head):
    e = torch.linalg.eigvals(_small_qk(model, layer, head))
    return (e.real > 0).float().mean()


# diagonal_score -----------------------------------------------------------------------------


@mistake("diagonal_score", hint="This is the sum of the diagonal. Divide by the sum of its absolute values.")
def diagonal_sum(model, layer, head):
    return _ov(model, layer, head).trace()


@mistake("diagonal_score", hint="This is the mean of the diagonal. Divide its sum by the sum of its absolute values.")
def diagonal_mean(model, layer, head):
    return _ov(model, layer, head).diagonal().mean()


@mistake("diagonal_score", hint="Below the line you sum the whole table. Only the diagonal counts.")
def over_the_whole_table(model, layer, head):
    M = _ov(model, layer, head)
    return M.trace() / M.abs().sum()


@mistake("diagonal_score", hint="You divide the trace by the absolute eigenvalues: that is the copying score. Below the line belong the absolute entries of the diagonal.")
def the_eigenvalue_score(model, layer, head):
    return _balance(_small(model, layer, head))


@mistake("diagonal_score", hint="You take the share of tokens that raise themselves. Weigh them by how much: sum over sum of absolute values.")
def share_of_a_positive_diagonal(model, layer, head):
    return (_ov(model, layer, head).diagonal() > 0).float().mean()


@mistake("diagonal_score", hint="This is the diagonal of the small product B A. Its sum is the same, the sum of its absolute values is not: take the table between tokens.")
def diagonal_of_the_small_product(model, layer, head):
    d = _small(model, layer, head).diagonal()
    return d.sum() / d.abs().sum()


@mistake("diagonal_score", hint="This is the diagonal of W_V W_O, between dimensions of the stream. Take the one between tokens: W_E in front, W_U behind.")
def diagonal_of_the_stream(model, layer, head):
    d = (model.W_V[layer, head] @ model.W_O[layer, head]).diagonal()
    return d.sum() / d.abs().sum()


@mistake("diagonal_score", hint="The bars are above the line, too.")
def absolute_diagonal_twice(model, layer, head):
    d = _ov(model, layer, head).diagonal()
    return d.abs().sum() / d.abs().sum()


@mistake("diagonal_score", hint="You divide by the absolute value of the sum, which gives 1 or -1. Below the line is the sum of the absolute values.")
def diagonal_over_its_absolute_sum(model, layer, head):
    d = _ov(model, layer, head).diagonal()
    return d.sum() / d.sum().abs()


@mistake("diagonal_score", hint="This is the QK circuit. What a head raises when it has found a token is in its OV circuit.")
def diagonal_of_qk(model, layer, head):
    d = _qk(model, layer, head, model.W_E, model.W_E).diagonal()
    return d.sum() / d.abs().sum()


# top_k_copy_score ---------------------------------------------------------------------------


def _share(M, k):
    return ((M > M.diagonal()[:, None]).sum(-1) < k).float().mean()


@mistake("top_k_copy_score", hint="You rank each token within its column. Row a holds what is raised when the head attends to a.")
def ranks_in_columns(model, layer, head, k):
    return _share(_ov(model, layer, head).T, k)


@mistake("top_k_copy_score", hint="One too many: a token in place k + 1 is not among the k largest. Fewer than k entries may be larger.")
def one_too_many(model, layer, head, k):
    return _share(_ov(model, layer, head), k + 1)


@mistake("top_k_copy_score", hint="This is the number of tokens. Return their share.")
def number_of_tokens(model, layer, head, k):
    return _share(_ov(model, layer, head), k) * model.cfg.d_vocab


@mistake("top_k_copy_score", hint="You look among the k *smallest* entries of each row.")
def among_the_smallest(model, layer, head, k):
    return _share(-_ov(model, layer, head), k)


@mistake("top_k_copy_score", hint="You rank absolute values. An entry that is far below zero lowers the token.")
def ranks_absolute_values(model, layer, head, k):
    return _share(_ov(model, layer, head).abs(), k)


@mistake("top_k_copy_score", hint="The unembedding is replaced by W_E transposed. Logits come from `W_U`.")
def ranks_among_embeddings(model, layer, head, k):
    return _share(model.W_E @ model.W_V[layer, head] @ model.W_O[layer, head] @ model.W_E.T, k)


@mistake("top_k_copy_score", hint="One too few: the k-th largest entry still counts. A token with k - 1 larger entries is in.")
def one_too_few(model, layer, head, k):
    return _share(_ov(model, layer, head), k - 1)


@mistake("top_k_copy_score", hint="You compare each entry with the diagonal entry of its *column*, `[None]`. Row a is compared with its own: `M.diagonal()[:, None]`.")
def compares_with_the_diagonal_of_columns(model, layer, head, k):
    M = _ov(model, layer, head)
    return ((M > M.diagonal()[None]).sum(-1) < k).float().mean()


# copying_heads ------------------------------------------------------------------------------


def _scores(model):
    return [float(_balance(_small(model, 0, h))) for h in range(model.cfg.n_heads)]


@mistake("copying_heads", hint="Heads are numbered differently in other models (and in this one, when it is shuffled). Compute the scores instead of listing what you saw.")
def heads_as_seen(model):
    return [h for h in (0, 1, 5, 7) if h < model.cfg.n_heads]


@mistake("copying_heads", hint="These are the heads that do *not* copy.")
def heads_that_do_not_copy(model):
    return [h for h, score in enumerate(_scores(model)) if score <= 0.5]


@mistake("copying_heads", hint="You look at the size of the score. A head far below zero avoids copying.")
def heads_with_a_large_score(model):
    return [h for h, score in enumerate(_scores(model)) if abs(score) > 0.5]


@mistake("copying_heads", hint="You take half of the heads, those with the highest scores. How many copy is what we want to know: compare each with 0.5.")
def the_upper_half(model):
    scores = torch.tensor(_scores(model))
    return scores.topk(max(1, len(scores) // 2 + 1)).indices.tolist()


@mistake("copying_heads", hint="Only the best head is there: return all whose score is above 0.5.")
def only_the_best_copier(model):
    scores = _scores(model)
    return [scores.index(max(scores))]


@mistake("copying_heads", hint="You use the eigenvalues of W_V W_O alone. Put W_E in front and W_U behind.")
def copiers_in_the_stream(model):
    return [
        h for h in range(model.cfg.n_heads)
        if _balance(model.W_O[0, h] @ model.W_V[0, h]) > 0.5
    ]


@mistake("copying_heads", hint="These heads match: their QK circuit has positive eigenvalues. Copying is in the OV circuit.")
def heads_that_match(model):
    return [
        h for h in range(model.cfg.n_heads)
        if _balance((model.W_E @ model.W_K[0, h]).T @ (model.W_E @ model.W_Q[0, h])) > 0.5
    ]


@mistake("copying_heads", hint="You return a yes or no for each head. Return the numbers of the heads.")
def yes_or_no_for_each(model):
    return [int(score > 0.5) for score in _scores(model)]


@mistake("copying_heads", hint="You go by the diagonal, the rival score. By eigenvalues, other heads can be above 0.5: divide the trace by the absolute values of the eigenvalues.")
def heads_with_a_high_diagonal(model):
    diagonals = [_ov(model, 0, h).diagonal() for h in range(model.cfg.n_heads)]
    return [h for h, own in enumerate(diagonals) if own.sum() > 0.5 * own.abs().sum()]


@mistake("copying_heads", hint="You take half of the heads, those with the highest scores. How many copy is what we want to know: compare each with 0.5.")
def the_better_half(model):
    scores = torch.tensor(_scores(model))
    return scores.topk(len(scores) // 2).indices.tolist()


@mistake("copying_heads", hint="You take every head with a score above 0. The limit is 0.5: a sum of more than half of the absolute sum.")
def heads_above_zero(model):
    return [h for h, score in enumerate(_scores(model)) if score > 0]


@mistake("copying_heads", hint="You count: more than half of the *eigenvalues* are positive. Weigh them: their sum is to be more than half of the absolute sum.")
def most_eigenvalues_positive(model):
    heads = range(model.cfg.n_heads)
    return [h for h in heads if (torch.linalg.eigvals(_small(model, 0, h)).real > 0).float().mean() > 0.5]


@mistake("copying_heads", hint="You count heads from 1. The first is head 0.")
def heads_from_one(model):
    return [h + 1 for h, score in enumerate(_scores(model)) if score > 0.5]


@mistake("copying_heads", hint="The loop ends at the first head that copies: `return` is inside it. Move it out, to the left.")
def only_the_first_copier(model):
    return [h for h, score in enumerate(_scores(model)) if score > 0.5][:1]


@mistake("copying_heads", hint="You remove from W_U what all tokens have in common. The score is that of the circuit as it is.")
def copiers_centred(model):
    return [h for h in range(model.cfg.n_heads) if _centred_score(model, 0, h) > 0.5]


@mistake("copying_heads", hint="You look at the last layer. The heads of layer 0 are asked for.")
def copiers_of_the_last_layer(model):
    return [h for h in range(model.cfg.n_heads) if _balance(_small(model, -1, h)) > 0.5]


@mistake("copying_heads", hint="Below the line you add up the absolute values of the real parts. The absolute value of a complex number counts its imaginary part, too: `.abs()` before `.real`.")
def copiers_by_real_parts(model):
    parts = [torch.linalg.eigvals(_small(model, 0, h)).real for h in range(model.cfg.n_heads)]
    return [h for h, e in enumerate(parts) if e.sum() > 0.5 * e.abs().sum()]


@mistake("copying_heads", hint="You take the heads above the mean score. Compare each with 0.5.")
def heads_above_the_mean(model):
    scores = _scores(model)
    return [h for h, score in enumerate(scores) if score > sum(scores) / len(scores)]


@mistake("copying_heads", hint="The loop ends at the first head that does not copy (`break`). Go on: others may follow.")
def until_one_does_not_copy(model):
    found = []
    for h, score in enumerate(_scores(model)):
        if score <= 0.5:
            break
        found.append(h)
    return found


# anti_copying_head --------------------------------------------------------------------------


@mistake("anti_copying_head", hint="This head copies most. You want the lowest score.")
def the_best_copier(model):
    scores = _scores(model)
    return scores.index(max(scores))


@mistake("anti_copying_head", hint="This head's score is closest to zero: it neither copies nor avoids it. The lowest is the most negative.")
def closest_to_zero(model):
    sizes = [abs(score) for score in _scores(model)]
    return sizes.index(min(sizes))


@mistake("anti_copying_head", hint="You compare sums of eigenvalues, in which a head with large weights counts more. Compare scores: divide by the sum of absolute values.")
def lowest_trace(model):
    traces = [float(_small(model, 0, h).trace()) for h in range(model.cfg.n_heads)]
    return traces.index(min(traces))


@mistake("anti_copying_head", hint="Heads are numbered differently in other models. Compute the scores instead of naming what you saw.")
def the_head_as_seen(model):
    return 3 % model.cfg.n_heads


@mistake("anti_copying_head", hint="You use the QK circuit. Whether a head raises or lowers what it has found is in the OV circuit.")
def the_head_that_matches_least(model):
    scores = [
        float(_balance((model.W_E @ model.W_K[0, h]).T @ (model.W_E @ model.W_Q[0, h])))
        for h in range(model.cfg.n_heads)
    ]
    return scores.index(min(scores))


@mistake("anti_copying_head", hint="This is the lowest score itself. Return the number of the head.")
def the_lowest_score(model):
    return round(min(_scores(model)) * 1000)


@mistake("anti_copying_head", hint="You use the eigenvalues of W_V W_O alone. Put W_E in front and W_U behind.")
def lowest_in_the_stream(model):
    scores = [float(_balance(model.W_O[0, h] @ model.W_V[0, h])) for h in range(model.cfg.n_heads)]
    return scores.index(min(scores))


@mistake("anti_copying_head", hint="You go by the diagonal, the rival score. By eigenvalues, another head can be lower: divide the trace by the absolute values of the eigenvalues.")
def lowest_diagonal_score(model):
    diagonals = [_ov(model, 0, h).diagonal() for h in range(model.cfg.n_heads)]
    return int(torch.stack([own.sum() / own.abs().sum() for own in diagonals]).argmin())


@mistake("anti_copying_head", hint="You look at the last layer. The head of layer 0 is asked for.")
def anti_copier_of_the_last_layer(model):
    scores = [float(_balance(_small(model, -1, h))) for h in range(model.cfg.n_heads)]
    return scores.index(min(scores))


@mistake("anti_copying_head", hint="You remove from W_U what all tokens have in common. The score is that of the circuit as it is.")
def anti_copier_centred(model):
    scores = [float(_centred_score(model, 0, h)) for h in range(model.cfg.n_heads)]
    return scores.index(min(scores))


@mistake("anti_copying_head", hint="You go by the most negative single eigenvalue. All count, on balance: their sum over the sum of absolute values.")
def the_most_negative_eigenvalue(model):
    least = [float(torch.linalg.eigvals(_small(model, 0, h)).real.min()) for h in range(model.cfg.n_heads)]
    return least.index(min(least))


@mistake("anti_copying_head", hint="This is the first head with a negative score. Another may be lower: compare all.")
def the_first_negative_score(model):
    return next((h for h, score in enumerate(_scores(model)) if score < 0), 0)


@mistake("anti_copying_head", hint="Below the line you add up the absolute values of the real parts. The absolute value of a complex number counts its imaginary part, too: `.abs()` before `.real`.")
def lowest_by_real_parts(model):
    parts = [torch.linalg.eigvals(_small(model, 0, h)).real for h in range(model.cfg.n_heads)]
    scores = [float(e.sum() / e.abs().sum()) for e in parts]
    return scores.index(min(scores))


@mistake("anti_copying_head", hint="You count eigenvalues that are positive. Weigh them: their sum over the sum of absolute values.")
def fewest_positive_eigenvalues(model):
    shares = [
        float((torch.linalg.eigvals(_small(model, 0, h)).real > 0).float().mean()) for h in range(model.cfg.n_heads)
    ]
    return shares.index(min(shares))


@mistake("anti_copying_head", hint="This is the lowest score itself. Return the number of the head.")
def the_lowest_score_itself(model):
    return min(_scores(model))


# positional_heads ---------------------------------------------------------------------------


def _overlaps(
    model, tokens, causal=True, root=True, reduce=torch.mean, shared=torch.minimum, layer=0, mean_first=False,
    favourites=False,
):
    n = tokens.shape[1]
    pattern = model.run_with_cache(tokens)[1]["pattern", layer]
    pattern = pattern.mean(0, keepdim=True) if mean_first else pattern
    overlaps = []
    for h in range(model.cfg.n_heads):
        scores = _qk(model, layer, h, model.W_pos[:n], model.W_pos[:n])
        scores = scores / model.cfg.d_head**0.5 if root else scores
        alone = (scores.masked_fill(_future(scores), -torch.inf) if causal else scores).softmax(-1)
        if favourites:
            agree = (pattern[:, h].argmax(-1) == alone.argmax(-1)).float()
        else:
            agree = shared(pattern[:, h], alone).sum(-1)
        overlaps.append(float(reduce(agree)))
    return overlaps


def _above(overlaps, limit=0.7):
    return [h for h, overlap in enumerate(overlaps) if overlap > limit]


@mistake("positional_heads", hint="These are the heads that tokens steer. You want the others.")
def heads_that_tokens_steer(model, tokens):
    return [h for h, overlap in enumerate(_overlaps(model, tokens)) if overlap <= 0.7]


@mistake("positional_heads", hint="P is not causal: mask the future before its softmax, too.")
def alone_without_mask(model, tokens):
    return [h for h, overlap in enumerate(_overlaps(model, tokens, causal=False)) if overlap > 0.7]


@mistake("positional_heads", hint="The root of d_head is missing in P, which makes it sharper than it is.")
def alone_without_the_root(model, tokens):
    return [h for h, overlap in enumerate(_overlaps(model, tokens, root=False)) if overlap > 0.7]


@mistake("positional_heads", hint="You take heads whose attention is sharp. A sharp head may follow tokens, an even one positions: compare with P.")
def sharp_heads(model, tokens):
    pattern = model.run_with_cache(tokens)[1]["pattern", 0]
    return [h for h in range(model.cfg.n_heads) if pattern[:, h].max(-1).values.mean() > 0.7]


@mistake("positional_heads", hint="Heads are numbered differently in other models. Measure instead of listing what you saw.")
def positional_as_seen(model, tokens):
    return [h for h in (2, 3, 6) if h < model.cfg.n_heads]


@mistake("positional_heads", hint="You take heads that look at the present token or the one before. Positions may send a head anywhere: compare with P.")
def heads_that_look_nearby(model, tokens):
    pattern = model.run_with_cache(tokens)[1]["pattern", 0]
    near = pattern.diagonal(0, -2, -1)[..., 1:] + pattern.diagonal(-1, -2, -1)
    return [h for h in range(model.cfg.n_heads) if near[:, h].mean() > 0.7]


@mistake("positional_heads", hint="You return a yes or no for each head. Return the numbers of the heads.")
def yes_or_no_for_each_position_head(model, tokens):
    return [int(overlap > 0.7) for overlap in _overlaps(model, tokens)]


@mistake("positional_heads", hint="No head passes your test, whatever it does. The overlap at a destination is the *sum* of the smaller weights over sources, `.sum(-1)`; then comes the mean over destinations and texts.")
def overlap_averaged_over_sources(model, tokens):
    n = tokens.shape[1]
    return [h for h, overlap in enumerate(_overlaps(model, tokens)) if overlap / n > 0.7]


@mistake("positional_heads", hint="You take the median. The overlap of a head is the *mean* over all texts and destinations.")
def median_overlap(model, tokens):
    return _above(_overlaps(model, tokens, reduce=torch.median))


@mistake("positional_heads", hint="You look at the first text only. The overlap is the mean over all texts and destinations.")
def overlap_of_the_first_text(model, tokens):
    return _above(_overlaps(model, tokens, reduce=lambda shared: shared[0].mean()))


@mistake("positional_heads", hint="You leave the first destination out. The mean is over all of them.")
def overlap_without_the_first(model, tokens):
    return _above(_overlaps(model, tokens, reduce=lambda shared: shared[:, 1:].mean()))


@mistake("positional_heads", hint="You leave the last destination out. The mean is over all of them.")
def overlap_without_the_last(model, tokens):
    return _above(_overlaps(model, tokens, reduce=lambda shared: shared[:, :-1].mean()))


@mistake("positional_heads", hint="The limit is 0.7.")
def overlap_above_one_half(model, tokens):
    return _above(_overlaps(model, tokens), 0.5)


@mistake("positional_heads", hint="You multiply the two patterns. What they share is the *smaller* of the two weights, `torch.minimum`.")
def overlap_of_products(model, tokens):
    return _above(_overlaps(model, tokens, shared=torch.mul))


@mistake("positional_heads", hint="Every head passes your test, whatever it does. What two *patterns* share is the smaller of two weights, `torch.minimum`; the larger ones add up to more than 1.")
def overlap_of_maxima(model, tokens):
    return _above(_overlaps(model, tokens, shared=torch.maximum))


@mistake("positional_heads", hint="You look at the last layer. The heads of layer 0 are asked for.")
def positional_in_the_last_layer(model, tokens):
    return _above(_overlaps(model, tokens, layer=model.cfg.n_layers - 1))


@mistake("positional_heads", hint="You average the patterns over the texts first. Compare each text's pattern with P, and average the overlaps.")
def overlap_of_the_mean_pattern(model, tokens):
    return _above(_overlaps(model, tokens, mean_first=True))


@mistake("positional_heads", hint="You ask how often A and P have the same favourite. Their overlap says how much weight they share: the sum of the smaller weights.")
def the_same_favourite(model, tokens):
    return _above(_overlaps(model, tokens, favourites=True))


@mistake("positional_heads", hint="You cut P from the end of the context. The text stands at the first n positions: take the first n rows and columns.")
def positions_from_the_end(model, tokens):
    n = tokens.shape[1]
    pattern = model.run_with_cache(tokens)[1]["pattern", 0]
    scores = torch.stack(
        [_qk(model, 0, h, model.W_pos, model.W_pos) / model.cfg.d_head**0.5 for h in range(model.cfg.n_heads)]
    )
    alone = scores.masked_fill(_future(scores), -torch.inf).softmax(-1)[:, -n:, -n:]
    return _above(torch.minimum(pattern, alone).sum(-1).mean((0, 2)).tolist())


@mistake("positional_heads", hint="You divide by the union, the larger weights. The overlap is the sum of the smaller weights alone.")
def overlap_over_union(model, tokens):
    return _above(_overlaps(model, tokens, shared=lambda A, P: torch.minimum(A, P) / torch.maximum(A, P).sum(-1, True)))


@mistake("positional_heads", hint="You take the text in which the overlap is largest. The overlap of a head is the mean over all texts.")
def overlap_in_the_best_text(model, tokens):
    return _above(_overlaps(model, tokens, reduce=lambda shared: shared.mean(-1).max()))


# forced_skip_trigrams -----------------------------------------------------------------------


def _pull_and_raised(model, head, a1, b1, a2, b2, centre=True, root=True):
    query = model.W_E @ model.W_Q[0, head]
    key = model.W_E @ model.W_K[0, head]
    QK = (key[[a1, a2]] - key.mean(0) * centre) @ query[[b1, b2]].T
    QK = QK / model.cfg.d_head**0.5 if root else QK
    return QK, _ov(model, 0, head)[[a1, a2]]


def _effect(pull, raised):
    return pull[:, :, None] * raised[:, None]


@mistake("forced_skip_trigrams", hint="The pull is `exp` of the centred score: weights, not scores, multiply what is moved.")
def scores_for_pulls(model, head, a1, b1, a2, b2):
    return _effect(*_pull_and_raised(model, head, a1, b1, a2, b2))


@mistake("forced_skip_trigrams", hint="The mean of the row is not subtracted: a pull is relative to the average source.")
def pull_not_centred(model, head, a1, b1, a2, b2):
    QK, raised = _pull_and_raised(model, head, a1, b1, a2, b2, centre=False)
    return _effect(QK.exp(), raised)


@mistake("forced_skip_trigrams", hint="The root of d_head is missing. Inside an exponential it matters.")
def pull_without_the_root(model, head, a1, b1, a2, b2):
    QK, raised = _pull_and_raised(model, head, a1, b1, a2, b2, root=False)
    return _effect(QK.exp(), raised)


@mistake("forced_skip_trigrams", hint="Source and destination are exchanged in your result: `effect[i, j]` is for source i and destination j.")
def effect_by_destination_first(model, head, a1, b1, a2, b2):
    QK, raised = _pull_and_raised(model, head, a1, b1, a2, b2)
    return _effect(QK.exp(), raised).transpose(0, 1)


@mistake("forced_skip_trigrams", hint="What is raised depends on the *source*, not on the destination: use row a_i of the full OV circuit.")
def raised_by_the_destination(model, head, a1, b1, a2, b2):
    QK, _ = _pull_and_raised(model, head, a1, b1, a2, b2)
    return QK.exp()[:, :, None] * _ov(model, 0, head)[[b1, b2]][None]


@mistake("forced_skip_trigrams", hint="Your pulls are those of the destinations on the sources: the query comes from b (its row of QK), the key from a.")
def query_from_the_source(model, head, a1, b1, a2, b2):
    query = model.W_E @ model.W_Q[0, head] / model.cfg.d_head**0.5
    key = model.W_E @ model.W_K[0, head]
    pull = (query[[a1, a2]] @ (key[[b1, b2]] - key.mean(0)).T).exp()
    return _effect(pull, _ov(model, 0, head)[[a1, a2]])


@mistake("forced_skip_trigrams", hint="The pull is missing: you return what the sources raise, the same for every destination.")
def without_any_pull(model, head, a1, b1, a2, b2):
    raised = _ov(model, 0, head)[[a1, a2]]
    return raised[:, None].expand(2, 2, -1)


@mistake("forced_skip_trigrams", hint="You normalise by softmax over the two sources. The pull compares with the *average* source: `exp` of the centred score.")
def softmax_over_two_sources(model, head, a1, b1, a2, b2):
    QK, raised = _pull_and_raised(model, head, a1, b1, a2, b2)
    return _effect(QK.softmax(0), raised)


@mistake("forced_skip_trigrams", hint="You take a softmax over all tokens for the pull. The pull compares with the *average* source: `exp` of the score less the mean of its row.")
def softmax_over_all_sources(model, head, a1, b1, a2, b2):
    query, key = model.W_E @ model.W_Q[0, head], model.W_E @ model.W_K[0, head]
    weights = (query @ key.T / model.cfg.d_head**0.5).softmax(-1)
    return _effect(weights[[b1, b2]][:, [a1, a2]].T, _ov(model, 0, head)[[a1, a2]])


@mistake("forced_skip_trigrams", hint="You subtract the mean over *destinations*, the mean of a column. The pull compares sources: subtract the mean of the row, over all sources.")
def pull_centred_over_destinations(model, head, a1, b1, a2, b2):
    query = (model.W_E @ model.W_Q[0, head]) / model.cfg.d_head**0.5
    key = model.W_E @ model.W_K[0, head]
    pull = (key[[a1, a2]] @ (query[[b1, b2]] - query.mean(0)).T).exp()
    return _effect(pull, _ov(model, 0, head)[[a1, a2]])


@mistake("forced_skip_trigrams", hint="You subtract the mean of the whole QK table. Each destination has its own: the mean of its row, over all sources.")
def pull_centred_over_the_table(model, head, a1, b1, a2, b2):
    query = (model.W_E @ model.W_Q[0, head]) / model.cfg.d_head**0.5
    key = model.W_E @ model.W_K[0, head]
    pull = (key[[a1, a2]] @ query[[b1, b2]].T - query.mean(0) @ key.mean(0)).exp()
    return _effect(pull, _ov(model, 0, head)[[a1, a2]])


@mistake("forced_skip_trigrams", hint="You take `exp` of what is raised, too. Only the pull is an exponential; the OV row is added to logits as it is.")
def exponential_of_what_is_raised(model, head, a1, b1, a2, b2):
    QK, raised = _pull_and_raised(model, head, a1, b1, a2, b2)
    return _effect(QK.exp(), raised.exp())


@mistake("forced_skip_trigrams", hint="You divide by the mean of the exponentials. The pull is the exponential of the score less its mean: `exp(score - mean)`.")
def over_the_mean_of_exponentials(model, head, a1, b1, a2, b2):
    QK = _qk(model, 0, head, model.W_E, model.W_E) / model.cfg.d_head**0.5
    pull = QK.exp() / QK.exp().mean(-1, keepdim=True)
    return _effect(pull[[b1, b2]][:, [a1, a2]].T, _ov(model, 0, head)[[a1, a2]])


@mistake("forced_skip_trigrams", hint="Your pulls are transposed: the one of source i on destination j stands where that of source j on destination i belongs. `pull[i, j]` is QK at row b_j, column a_i.")
def pull_transposed(model, head, a1, b1, a2, b2):
    QK, raised = _pull_and_raised(model, head, a1, b1, a2, b2)
    return _effect(QK.exp().T, raised)


# skip_trigram_costs -------------------------------------------------------------------------


def _costs(tokens, logits, pattern, ov_row, source, *, right=True, sign=1.0, alpha=None, last=False, by=None):
    weight = (pattern * (tokens == source)[:, None, :]).sum(-1) if alpha is None else alpha
    delta = weight[:, :-1, None] * ov_row
    probs = logits[:, :-1].softmax(-1)
    cost = -torch.log1p(-probs * -torch.expm1(-delta))
    if right:
        cost = cost - F.one_hot(tokens[:, 1:], len(ov_row)) * delta
    index = tokens[:, :-1] if by is None else by
    total = torch.zeros(len(ov_row), len(ov_row))
    return sign * total.index_add_(0, index.flatten(), cost.flatten(0, 1))


@mistake("skip_trigram_costs", hint="What the rule earns where c does come next is missing: subtract δ there.")
def never_earns(tokens, logits, pattern, ov_row, source):
    return _costs(tokens, logits, pattern, ov_row, source, right=False)


@mistake("skip_trigram_costs", hint="The sign is wrong: the cost is the loss as it is, less the loss without. A useful rule has a negative cost.")
def gain_for_cost(tokens, logits, pattern, ov_row, source):
    return _costs(tokens, logits, pattern, ov_row, source, sign=-1.0)


@mistake("skip_trigram_costs", hint="You multiply the effect by its slope, δ (p - [c = next]), which is the cost of a small effect. The effects here are not small: use the exact formula.")
def first_order_only(tokens, logits, pattern, ov_row, source):
    weight = (pattern * (tokens == source)[:, None, :]).sum(-1)[:, :-1, None]
    error = logits[:, :-1].softmax(-1) - F.one_hot(tokens[:, 1:], len(ov_row))
    cost = weight * ov_row * error
    return torch.zeros(len(ov_row), len(ov_row)).index_add_(0, tokens[:, :-1].flatten(), cost.flatten(0, 1))


@mistake("skip_trigram_costs", hint="The head's weight is missing: it adds α times the OV row, and α is at most 1.")
def attends_with_weight_one(tokens, logits, pattern, ov_row, source):
    seen = (pattern * (tokens == source)[:, None, :]).sum(-1) > 0
    return _costs(tokens, logits, pattern, ov_row, source, alpha=seen.float())


@mistake("skip_trigram_costs", hint="You take the largest weight on an occurrence of the source. The head moves all of them: sum the weights.")
def only_the_strongest_occurrence(tokens, logits, pattern, ov_row, source):
    alpha = (pattern * (tokens == source)[:, None, :]).max(-1).values
    return _costs(tokens, logits, pattern, ov_row, source, alpha=alpha)


@mistake("skip_trigram_costs", hint="You pick out the *destinations* that are the source token. The source is what is attended to: the last dimension of the pattern.")
def source_as_destination(tokens, logits, pattern, ov_row, source):
    alpha = (pattern * (tokens == source)[:, :, None]).sum(-1)
    return _costs(tokens, logits, pattern, ov_row, source, alpha=alpha)


@mistake("skip_trigram_costs", hint="Rows are for the destination, the token at the position; you file the costs under the token that comes next.")
def filed_under_the_next_token(tokens, logits, pattern, ov_row, source):
    return _costs(tokens, logits, pattern, ov_row, source, by=tokens[:, 1:])


@mistake("skip_trigram_costs", hint="You average over positions. The cost is summed over the text.")
def averages_costs(tokens, logits, pattern, ov_row, source):
    return _costs(tokens, logits, pattern, ov_row, source) / tokens[:, 1:].numel()


@mistake("skip_trigram_costs", hint="Of several positions with the same token b only one is counted: `table[b] += cost` with repeated b keeps the last. Use `index_add_`.")
def adds_once_per_destination(tokens, logits, pattern, ov_row, source):
    weight = (pattern * (tokens == source)[:, None, :]).sum(-1)
    delta = weight[:, :-1, None] * ov_row
    cost = -torch.log1p(-logits[:, :-1].softmax(-1) * -torch.expm1(-delta))
    cost = cost - F.one_hot(tokens[:, 1:], len(ov_row)) * delta
    total = torch.zeros(len(ov_row), len(ov_row))
    for b, row in zip(tokens[:, :-1].flatten().tolist(), cost.flatten(0, 1)):
        total[b] = row
    return total


@mistake("skip_trigram_costs", hint="You take away all that the head adds, to every logit at once, and file it under the token that came. Each c is a rule of its own: change logit c alone.")
def takes_all_logits_away(tokens, logits, pattern, ov_row, source):
    weight = (pattern * (tokens == source)[:, None, :]).sum(-1)
    before, after = (
        F.cross_entropy(x[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
        for x in (logits - weight[..., None] * ov_row, logits)
    )
    table = torch.zeros(len(ov_row), len(ov_row))
    where = tokens[:, :-1].flatten(), tokens[:, 1:].flatten()
    return table.index_put_(where, after - before, accumulate=True)


@mistake("skip_trigram_costs", hint="You average over the positions where b stands. The cost is summed over the text.")
def averages_by_destination(tokens, logits, pattern, ov_row, source):
    times = torch.bincount(tokens[:, :-1].flatten(), minlength=len(ov_row)).clamp(min=1)
    return _costs(tokens, logits, pattern, ov_row, source) / times[:, None]


@mistake("skip_trigram_costs", hint="The last position is in it, compared with the first token (`roll` does this). What follows it is unknown: leave it out.")
def costs_with_the_last_position(tokens, logits, pattern, ov_row, source):
    delta = (pattern * (tokens == source)[:, None, :]).sum(-1, keepdim=True) * ov_row
    earned = F.one_hot(tokens.roll(-1, 1), len(ov_row)) * delta
    cost = -(1 - logits.softmax(-1) * (1 - (-delta).exp())).log() - earned
    return torch.zeros(len(ov_row), len(ov_row)).index_add_(0, tokens.flatten(), cost.flatten(0, 1))


@mistake("skip_trigram_costs", hint="δ is subtracted where c is the *present* token. The rule earns where c comes next.")
def earns_at_the_present_token(tokens, logits, pattern, ov_row, source):
    delta = (pattern * (tokens == source)[:, None, :]).sum(-1)[:, :-1, None] * ov_row
    earned = F.one_hot(tokens[:, :-1], len(ov_row)) * delta
    cost = -(1 - logits[:, :-1].softmax(-1) * (1 - (-delta).exp())).log() - earned
    return torch.zeros(len(ov_row), len(ov_row)).index_add_(0, tokens[:, :-1].flatten(), cost.flatten(0, 1))


@mistake("skip_trigram_costs", hint="The softmax of the logits runs over positions. It belongs to the vocabulary, the last axis.")
def probabilities_over_positions(tokens, logits, pattern, ov_row, source):
    delta = (pattern * (tokens == source)[:, None, :]).sum(-1)[:, :-1, None] * ov_row
    earned = F.one_hot(tokens[:, 1:], len(ov_row)) * delta
    cost = -(1 - logits.softmax(1)[:, :-1] * (1 - (-delta).exp())).log() - earned
    return torch.zeros(len(ov_row), len(ov_row)).index_add_(0, tokens[:, :-1].flatten(), cost.flatten(0, 1))


@mistake("skip_trigram_costs", hint="The effect is there and is taken away, so it is exp(-δ): you have exp(δ).")
def effect_put_in_once_more(tokens, logits, pattern, ov_row, source):
    delta = (pattern * (tokens == source)[:, None, :]).sum(-1)[:, :-1, None] * ov_row
    earned = F.one_hot(tokens[:, 1:], len(ov_row)) * delta
    cost = -(1 - logits[:, :-1].softmax(-1) * (1 - delta.exp())).log() - earned
    return torch.zeros(len(ov_row), len(ov_row)).index_add_(0, tokens[:, :-1].flatten(), cost.flatten(0, 1))


@mistake("skip_trigram_costs", hint="You sum over destinations: how much attention the source *pays*. The weight at a position is what it pays to the source: sum over the last dimension.")
def what_the_source_pays(tokens, logits, pattern, ov_row, source):
    alpha = (pattern * (tokens == source)[:, :, None]).sum(-2)
    return _costs(tokens, logits, pattern, ov_row, source, alpha=alpha)


@mistake("skip_trigram_costs", hint="Where c comes next, you add δ. There the rule earns: subtract it.")
def pays_where_it_earns(tokens, logits, pattern, ov_row, source):
    return 2 * _costs(tokens, logits, pattern, ov_row, source, right=False) - _costs(tokens, logits, pattern, ov_row, source)


@mistake("skip_trigram_costs", hint="The logarithm has the wrong sign. The first part is *minus* log(1 - p (1 - exp(-δ))): what raises c costs wherever something else comes.")
def logarithm_without_its_minus(tokens, logits, pattern, ov_row, source):
    return _costs(tokens, logits, pattern, ov_row, source) - 2 * _costs(tokens, logits, pattern, ov_row, source, right=False)


# worst_crossing -----------------------------------------------------------------------------


@mistake("worst_crossing", hint="The two destinations are exchanged: first b1, where the rule pays (the lowest cost), then b2, where it harms.")
def destinations_exchanged(costs):
    badness = torch.minimum(costs.max(0).values, -costs.min(0).values)
    c = int(badness.argmax())
    return int(costs[:, c].argmax()), int(costs[:, c].argmin()), c


@mistake("worst_crossing", hint="The largest cost and the largest saving of the whole table may belong to different outputs. Both must be in one column.")
def extremes_of_the_whole_table(costs):
    n = len(costs)
    return int(costs.argmin()) // n, int(costs.argmax()) // n, int(costs.argmax()) % n


@mistake("worst_crossing", hint="You look for the largest cost, whatever is saved elsewhere. A crossing is as bad as the *smaller* of the two.")
def largest_cost_alone(costs):
    c = int(costs.max(0).values.argmax())
    return int(costs[:, c].argmin()), int(costs[:, c].argmax()), c


@mistake("worst_crossing", hint="You add up cost and saving. A crossing is as bad as the *smaller* of the two.")
def sum_of_both_sides(costs):
    c = int((costs.max(0).values - costs.min(0).values).argmax())
    return int(costs[:, c].argmin()), int(costs[:, c].argmax()), c


@mistake("worst_crossing", hint="Rows are destinations and columns outputs; you search rows. The two destinations share a *column*.")
def searches_rows(costs):
    badness = torch.minimum(costs.max(1).values, -costs.min(1).values)
    r = int(badness.argmax())
    return int(costs[r].argmin()), int(costs[r].argmax()), r


@mistake("worst_crossing", hint="The order is wrong: the two destinations first, then the output.")
def output_first(costs):
    badness = torch.minimum(costs.max(0).values, -costs.min(0).values)
    c = int(badness.argmax())
    return c, int(costs[:, c].argmin()), int(costs[:, c].argmax())


@mistake("worst_crossing", hint="You take the largest saving, whatever it costs elsewhere. A crossing is as bad as the *smaller* of the two.")
def largest_saving_alone(costs):
    c = int(costs.min(0).values.argmin())
    return int(costs[:, c].argmin()), int(costs[:, c].argmax()), c


@mistake("worst_crossing", hint="A saving is a *negative* cost: the smallest of a column needs a minus before you compare it with the largest.")
def saving_without_its_minus(costs):
    c = int(torch.minimum(costs.max(0).values, costs.min(0).values).argmax())
    return int(costs[:, c].argmin()), int(costs[:, c].argmax()), c


@mistake("worst_crossing", hint="You multiply cost and saving. A crossing is as bad as the *smaller* of the two.")
def product_of_both_sides(costs):
    c = int((costs.max(0).values * -costs.min(0).values).argmax())
    return int(costs[:, c].argmin()), int(costs[:, c].argmax()), c


@mistake("worst_crossing", hint="You take the *larger* of cost and saving. A crossing is as bad as the smaller of the two, `torch.minimum`.")
def larger_of_both_sides(costs):
    c = int(torch.maximum(costs.max(0).values, -costs.min(0).values).argmax())
    return int(costs[:, c].argmin()), int(costs[:, c].argmax()), c


@mistake("worst_crossing", hint="This is the mildest crossing (`argmin`). You want the worst, `argmax`.")
def the_mildest_crossing(costs):
    c = int(torch.minimum(costs.max(0).values, -costs.min(0).values).argmin())
    return int(costs[:, c].argmin()), int(costs[:, c].argmax()), c


# ablate_head --------------------------------------------------------------------------------


def _with_z(model, tokens, layer, change):
    return model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", change)])


@mistake("ablate_head", hint="You silence every head but this one. Set this one to zero and keep the others.")
def keeps_only_this_head(model, tokens, layer, head):
    def change(z, hook):
        kept = torch.zeros_like(z)
        kept[:, :, head] = z[:, :, head]
        return kept

    return _with_z(model, tokens, layer, change)


@mistake("ablate_head", hint="`z[:, head]` is a position: z is [batch pos n_heads d_head], so a head is `z[:, :, head]`.")
def silences_a_position(model, tokens, layer, head):
    def change(z, hook):
        z = z.clone()
        z[:, head] = 0.0
        return z

    return _with_z(model, tokens, layer, change)


@mistake("ablate_head", hint="You zero one dimension of every head. A head is the third index: `z[:, :, head]`.")
def silences_a_dimension(model, tokens, layer, head):
    def change(z, hook):
        z = z.clone()
        z[..., head] = 0.0
        return z

    return _with_z(model, tokens, layer, change)


@mistake("ablate_head", hint="The whole layer is gone. Only one head of it should be.")
def silences_the_layer(model, tokens, layer, head):
    return _with_z(model, tokens, layer, lambda z, hook: torch.zeros_like(z))


@mistake("ablate_head", hint="You always ablate in layer 0: put `layer` into the name of the hook.")
def ablates_in_layer_0(model, tokens, layer, head):
    def change(z, hook):
        z = z.clone()
        z[:, :, head] = 0.0
        return z

    return _with_z(model, tokens, 0, change)


@mistake("ablate_head", hint="Nothing is ablated: these are the model's own logits. Does your hook return what it changed, and is it in `fwd_hooks`?")
def ablates_nothing(model, tokens, layer, head):
    return model(tokens)


@mistake("ablate_head", hint="You replace the head's output by its mean. Here, ablating means zero.")
def ablates_with_the_mean(model, tokens, layer, head):
    def change(z, hook):
        z = z.clone()
        z[:, :, head] = z[:, :, head].mean((0, 1))
        return z

    return _with_z(model, tokens, layer, change)


@mistake("ablate_head", hint="You subtract the head's path from the final logits. With more layers, later heads must see that it is gone: change z inside the run.")
def subtracts_its_path(model, tokens, layer, head):
    logits, cache = model.run_with_cache(tokens)
    return logits - cache["result", layer][:, :, head] @ model.W_U


@mistake("ablate_head", hint="You replace the head's output by its mean over the text. Here, ablating means zero.")
def ablates_with_the_mean_of_the_text(model, tokens, layer, head):
    def change(z, hook):
        z = z.clone()
        z[:, :, head] = z[:, :, head].mean(1, keepdim=True)
        return z

    return _with_z(model, tokens, layer, change)


@mistake("ablate_head", hint="The head is still there: with its scores or queries at 0 it attends evenly, and writes all the same. Set what it writes to zero, `z`.")
def attends_evenly(model, tokens, layer, head):
    def change(q, hook):
        q = q.clone()
        q[:, :, head] = 0.0
        return q

    return model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{layer}.attn.hook_q", change)])


@mistake("ablate_head", hint="That head is gone in every layer. Take it out of `layer` only.")
def ablates_in_every_layer(model, tokens, layer, head):
    def change(z, hook):
        z = z.clone()
        z[:, :, head] = 0.0
        return z

    return model.run_with_hooks(tokens, fwd_hooks=[(lambda name: name.endswith("hook_z"), change)])


@mistake("ablate_head", hint="You return by how much the logits change. Return the logits without the head.")
def difference_of_logits(model, tokens, layer, head):
    def change(z, hook):
        z = z.clone()
        z[:, :, head] = 0.0
        return z

    return model(tokens) - _with_z(model, tokens, layer, change)


# head_importance ----------------------------------------------------------------------------


def _loss(logits, tokens, reduction="mean"):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction=reduction).item()


def _without(model, tokens, layer, head):
    def change(z, hook):
        z = z.clone()
        z[:, :, head] = 0.0
        return z

    return _with_z(model, tokens, layer, change)


def _table(model, value):
    return torch.tensor(
        [[value(layer, h) for h in range(model.cfg.n_heads)] for layer in range(model.cfg.n_layers)]
    )


@mistake("head_importance", hint="This is the loss without the head. Subtract the loss of the whole model.")
def loss_without_the_head(model, tokens):
    return _table(model, lambda layer, h: _loss(_without(model, tokens, layer, h), tokens))


@mistake("head_importance", hint="The sign is wrong: the loss without the head, less the loss with it. Positive means that the head helps.")
def importance_negated(model, tokens):
    base = _loss(model(tokens), tokens)
    return _table(model, lambda layer, h: base - _loss(_without(model, tokens, layer, h), tokens))


@mistake("head_importance", hint="Logits at position i are compared with token i. They predict token i + 1: `logits[:, :-1]` against `tokens[:, 1:]`.")
def loss_on_the_present_token(model, tokens):
    def loss(logits):
        return F.cross_entropy(logits.flatten(0, 1), tokens.flatten()).item()

    base = loss(model(tokens))
    return _table(model, lambda layer, h: loss(_without(model, tokens, layer, h)) - base)


@mistake("head_importance", hint="Every head shows the importance of the last one: a function made in a loop sees the loop's variable at the end. Bind it, `def remove(z, hook, head=head)`.")
def closure_sees_the_last_head(model, tokens):
    base = _loss(model(tokens), tokens)
    last = model.cfg.n_heads - 1
    return _table(model, lambda layer, h: _loss(_without(model, tokens, layer, last), tokens) - base)


@mistake("head_importance", hint="This is the sum over positions. The loss is a mean, in nats per token.")
def importance_summed(model, tokens):
    base = _loss(model(tokens), tokens, "sum")
    return _table(model, lambda layer, h: _loss(_without(model, tokens, layer, h), tokens, "sum") - base)


@mistake("head_importance", hint="You ablate every head *but* one. Take out one at a time and keep the others.")
def importance_of_all_others(model, tokens):
    base = _loss(model(tokens), tokens)

    def only(layer, h):
        def change(z, hook):
            kept = torch.zeros_like(z)
            kept[:, :, h] = z[:, :, h]
            return kept

        return _loss(_with_z(model, tokens, layer, change), tokens) - base

    return _table(model, only)


@mistake("head_importance", hint="The heads taken out pile up: each run should miss one head only.")
def ablations_pile_up(model, tokens):
    base = _loss(model(tokens), tokens)

    def upto(layer, h):
        hooks = []
        for k in range(layer + 1):
            def change(z, hook, k=k):
                z = z.clone()
                z[:, :, : h + 1 if k == layer else None] = 0.0
                return z

            hooks.append((f"blocks.{k}.attn.hook_z", change))
        return _loss(model.run_with_hooks(tokens, fwd_hooks=hooks), tokens) - base

    return _table(model, upto)


@mistake("head_importance", hint="Your losses are in bits: they are too large by 1 / log 2. Nats come from the natural logarithm, as `F.cross_entropy` takes it.")
def importance_in_bits(model, tokens):
    base = _loss(model(tokens), tokens)
    return _table(model, lambda layer, h: (_loss(_without(model, tokens, layer, h), tokens) - base) / math.log(2))


@mistake("head_importance", hint="You subtract the head's path from the final logits. With more layers, later heads must see that it is gone: ablate it inside the run.")
def importance_of_the_direct_effect(model, tokens):
    logits, cache = model.run_with_cache(tokens)
    base = _loss(logits, tokens)
    return _table(
        model, lambda layer, h: _loss(logits - cache["result", layer][:, :, h] @ model.W_U, tokens) - base
    )


@mistake("head_importance", hint="You use the first text only. The loss is the mean over all texts.")
def importance_in_the_first_text(model, tokens):
    return _table(
        model,
        lambda layer, h: _loss(_without(model, tokens[:1], layer, h), tokens[:1]) - _loss(model(tokens[:1]), tokens[:1]),
    )


@mistake("head_importance", hint="You divide the two losses. Importance is their difference: the loss without the head, less the loss with it.")
def ratio_of_losses(model, tokens):
    base = _loss(model(tokens), tokens)
    return _table(model, lambda layer, h: _loss(_without(model, tokens, layer, h), tokens) / base)


@mistake("head_importance", hint="You compare logits of the right token. Compare losses: the other logits count, too.")
def importance_in_logits(model, tokens):
    def right(logits):
        return logits[:, :-1].gather(-1, tokens[:, 1:, None]).mean().item()

    return _table(model, lambda layer, h: right(model(tokens)) - right(_without(model, tokens, layer, h)))


@mistake("head_importance", hint="The heads taken out pile up: each run should miss one head only.")
def steps_of_a_pile(model, tokens):
    pile = ablations_pile_up(model, tokens).flatten()
    return pile.diff(prepend=torch.zeros(1)).view(model.cfg.n_layers, model.cfg.n_heads)


@mistake("head_importance", hint="The first prediction is left out. The logits at position 0 predict token 1: `logits[:, :-1]` and `tokens[:, 1:]`.")
def importance_without_the_first_prediction(model, tokens):
    def loss(logits):
        return F.cross_entropy(logits[:, 1:-1].flatten(0, 1), tokens[:, 2:].flatten()).item()

    base = loss(model(tokens))
    return _table(model, lambda layer, h: loss(_without(model, tokens, layer, h)) - base)
