"""Known wrong answers to chapter 9, each with the hint it deserves. A learner whose answer does
what one of these does is shown its hint."""

import torch
import torch.nn.functional as F

from circuits.checking import mistake
from utils.model import Config, Transformer

# Attention with shared keys -----------------------------------------------------------------


def _attend(x, W_Q, W_K, W_V, W_O, scale=None, causal=True, diagonal=1, dim=-1, merge=None, fill=-torch.inf):
    """Attention of one text; W_K and W_V have an axis for heads."""
    q, k, v = x @ W_Q, x @ W_K, x @ W_V
    scores = q @ k.mT / (k.shape[-1] ** 0.5 if scale is None else scale)
    if causal:
        scores = scores.masked_fill(torch.ones(len(x), len(x), dtype=torch.bool).triu(diagonal), fill)
    return (scores.softmax(dim) @ v @ W_O).sum(0) if merge is None else merge(scores.softmax(dim) @ v @ W_O)


NO_SCALE = "The scores are not divided by the square root of d_head."
NO_MASK = "Positions look at later ones too: what lies above the diagonal must be -inf before the softmax."
BY_WIDTH = "The scores are divided by the root of d_model. It is the size of a *head* that counts, d_head."
OVER_DEST = "The softmax goes over destinations. Each destination shares out its attention over the *sources*: the last axis."
MEAN = "The heads' outputs are averaged. Every head *adds* to the stream: sum over them."
ZERO = "Scores of later positions are set to 0, which still gives them attention. Set them to -inf before the softmax."
STRICT = "A position cannot see itself in yours, so the first sees nothing. Mask only what lies *above* the diagonal."


@mistake("multi_query_attention", hint=NO_SCALE)
def multi_without_scale(x, W_Q, W_K, W_V, W_O):
    return _attend(x, W_Q, W_K, W_V, W_O, scale=1)


@mistake("multi_query_attention", hint=NO_MASK)
def multi_without_mask(x, W_Q, W_K, W_V, W_O):
    return _attend(x, W_Q, W_K, W_V, W_O, causal=False)


@mistake("multi_query_attention", hint=BY_WIDTH)
def multi_scaled_by_width(x, W_Q, W_K, W_V, W_O):
    return _attend(x, W_Q, W_K, W_V, W_O, scale=x.shape[-1] ** 0.5)


@mistake("multi_query_attention", hint=OVER_DEST)
def multi_over_destinations(x, W_Q, W_K, W_V, W_O):
    return _attend(x, W_Q, W_K, W_V, W_O, dim=-2)


@mistake("multi_query_attention", hint=MEAN)
def multi_mean_of_heads(x, W_Q, W_K, W_V, W_O):
    return _attend(x, W_Q, W_K, W_V, W_O, merge=lambda out: out.mean(0))


@mistake("multi_query_attention", hint=ZERO)
def multi_masked_with_zero(x, W_Q, W_K, W_V, W_O):
    return _attend(x, W_Q, W_K, W_V, W_O, fill=0.0)


@mistake("multi_query_attention", hint="Keys and queries are exchanged: W_K is read at the destination in yours. Scores are q of the destination times k of the source.")
def multi_keys_for_queries(x, W_Q, W_K, W_V, W_O):
    q, k = x @ W_K, x @ W_Q
    scores = q @ k.mT / W_K.shape[-1] ** 0.5
    pattern = scores.masked_fill(torch.ones(len(x), len(x), dtype=torch.bool).triu(1), -torch.inf).softmax(-1)
    return (pattern @ (x @ W_V) @ W_O).sum(0)


@mistake("grouped_query_attention", hint="Heads 0, n_key_value_heads, ... share a key in yours. *Consecutive* heads do: use `repeat_interleave`, not `repeat`.")
def grouped_by_turns(x, W_Q, W_K, W_V, W_O):
    n = len(W_Q) // len(W_K)
    return _attend(x, W_Q, W_K.repeat(n, 1, 1), W_V.repeat(n, 1, 1), W_O)


@mistake("grouped_query_attention", hint="All heads use the first key and value. Each group has its own.")
def grouped_first_key_only(x, W_Q, W_K, W_V, W_O):
    return _attend(x, W_Q, W_K[:1], W_V[:1], W_O)


@mistake("grouped_query_attention", hint="The keys of the groups are averaged into one. Each group has its own key and value.")
def grouped_mean_key(x, W_Q, W_K, W_V, W_O):
    return _attend(x, W_Q, W_K.mean(0, keepdim=True), W_V.mean(0, keepdim=True), W_O)


@mistake("grouped_query_attention", hint="Keys are shared by consecutive heads in yours, values by turns. Both by consecutive heads: `repeat_interleave` for both.")
def grouped_values_by_turns(x, W_Q, W_K, W_V, W_O):
    n = len(W_Q) // len(W_K)
    return _attend(x, W_Q, W_K.repeat_interleave(n, 0), W_V.repeat(n, 1, 1), W_O)


@mistake("grouped_query_attention", hint=NO_SCALE)
def grouped_without_scale(x, W_Q, W_K, W_V, W_O):
    n = len(W_Q) // len(W_K)
    return _attend(x, W_Q, W_K.repeat_interleave(n, 0), W_V.repeat_interleave(n, 0), W_O, scale=1)


@mistake("grouped_query_attention", hint=NO_MASK)
def grouped_without_mask(x, W_Q, W_K, W_V, W_O):
    n = len(W_Q) // len(W_K)
    return _attend(x, W_Q, W_K.repeat_interleave(n, 0), W_V.repeat_interleave(n, 0), W_O, causal=False)


@mistake("grouped_query_attention", hint="The heads of a group share one *pattern* in yours, as their queries are averaged. They share keys and values; each has queries of its own.")
def grouped_queries_averaged(x, W_Q, W_K, W_V, W_O):
    n = len(W_Q) // len(W_K)
    W_Q = W_Q.unflatten(0, (len(W_K), n)).mean(1).repeat_interleave(n, 0)
    return _attend(x, W_Q, W_K.repeat_interleave(n, 0), W_V.repeat_interleave(n, 0), W_O)


# cache_bytes --------------------------------------------------------------------------------


@mistake("cache_bytes", hint="Only keys are counted. Values are kept as well: twice as much.")
def keys_alone(n_layers, n_key_value_heads, d_head, bytes_per_number):
    return n_layers * n_key_value_heads * d_head * bytes_per_number


@mistake("cache_bytes", hint="Queries are counted too. They are needed for the newest token alone and are not kept.")
def queries_too(n_layers, n_key_value_heads, d_head, bytes_per_number):
    return 3 * n_layers * n_key_value_heads * d_head * bytes_per_number


@mistake("cache_bytes", hint="That is one layer. Every layer keeps its own keys and values.")
def one_layer_alone(n_layers, n_key_value_heads, d_head, bytes_per_number):
    return 2 * n_key_value_heads * d_head * bytes_per_number


@mistake("cache_bytes", hint="These are numbers, not bytes: each takes bytes_per_number.")
def numbers_for_bytes(n_layers, n_key_value_heads, d_head, bytes_per_number):
    return 2 * n_layers * n_key_value_heads * d_head


@mistake("cache_bytes", hint="These are bits. A byte is 8 of them: multiply by bytes_per_number as it is.")
def bits(n_layers, n_key_value_heads, d_head, bytes_per_number):
    return 16 * n_layers * n_key_value_heads * d_head * bytes_per_number


@mistake("cache_bytes", hint="One key for each layer is counted. A layer has n_key_value_heads of them.")
def one_key_a_layer(n_layers, n_key_value_heads, d_head, bytes_per_number):
    return 2 * n_layers * d_head * bytes_per_number


# predict_reading_ranks ----------------------------------------------------------------------


@mistake("predict_reading_ranks", hint="The two are in the wrong order: first below each other (the keys, read at the source), then side by side (the queries).")
def ranks_in_the_other_order(d_model, d_head, n_heads, n_key_value_heads):
    return min(n_heads * d_head, d_model), min(n_key_value_heads * d_head, d_model)


@mistake("predict_reading_ranks", hint="The ranks add up only while there is room: no rank is larger than d_model.")
def ranks_beyond_the_stream(d_model, d_head, n_heads, n_key_value_heads):
    return n_key_value_heads * d_head, n_heads * d_head


@mistake("predict_reading_ranks", hint="Heads that share a key read the *source* through the same d_head dimensions: each key counts once, not each head.")
def ranks_of_own_keys(d_model, d_head, n_heads, n_key_value_heads):
    return min(n_heads * d_head, d_model), min(n_heads * d_head, d_model)


@mistake("predict_reading_ranks", hint="Queries are not shared: side by side, every head brings destination dimensions of its own.")
def ranks_of_shared_queries(d_model, d_head, n_heads, n_key_value_heads):
    return min(n_key_value_heads * d_head, d_model), min(n_key_value_heads * d_head, d_model)


@mistake("predict_reading_ranks", hint="That is the rank of *one* head's circuit. All of them together read more.")
def ranks_of_one_head(d_model, d_head, n_heads, n_key_value_heads):
    return min(d_head, d_model), min(d_head, d_model)


@mistake("predict_reading_ranks", hint="Each key counts once: d_head dimensions for each of n_key_value_heads keys, not for each head of a group.")
def ranks_by_group_size(d_model, d_head, n_heads, n_key_value_heads):
    return min(n_heads // n_key_value_heads * d_head, d_model), min(n_heads * d_head, d_model)


# to_grouped ---------------------------------------------------------------------------------


def _grouped(model, n, names=("W_K", "W_V", "b_K", "b_V"), mean=None):
    mean = mean or (lambda W: W.unflatten(0, (n, -1)).mean(1))
    new = Transformer(Config(**(model.config_dict() | {"n_key_value_heads": n})), model.tokenizer)
    state = {}
    for name, W in model.state_dict().items():
        place, _, last = name.rpartition(".")
        if last in ("W_K", "W_V", "b_K", "b_V"):
            name, W = f"{place}._{last}", mean(W) if last in names else W[:: len(W) // n]
        state[name] = W
    new.load_state_dict(state)
    return new


@mistake("to_grouped", hint="The groups are heads 0, n, 2n, ... in yours. Groups are *consecutive* heads: `unflatten(0, (n_key_value_heads, -1)).mean(1)`.")
def groups_by_turns(model, n_key_value_heads):
    return _grouped(model, n_key_value_heads, mean=lambda W: W.unflatten(0, (-1, n_key_value_heads)).mean(0))


@mistake("to_grouped", hint="Keys and values are summed over a group. Their mean is asked for.")
def groups_summed(model, n_key_value_heads):
    return _grouped(model, n_key_value_heads, mean=lambda W: W.unflatten(0, (n_key_value_heads, -1)).sum(1))


@mistake("to_grouped", hint="Only the keys are averaged: values are those of each group's first head. Average them too.")
def values_of_the_first_head(model, n_key_value_heads):
    return _grouped(model, n_key_value_heads, names=("W_K", "b_K"))


@mistake("to_grouped", hint="Each group gets its first head's key and value. The *mean* over the group is asked for.")
def first_head_of_each_group(model, n_key_value_heads):
    return _grouped(model, n_key_value_heads, names=())


@mistake("to_grouped", hint="The biases b_K and b_V are those of each group's first head. They are averaged as well.")
def biases_of_the_first_head(model, n_key_value_heads):
    return _grouped(model, n_key_value_heads, names=("W_K", "W_V"))


@mistake("to_grouped", hint="The model still has a key for each head, though equal in each group. Build a Transformer whose cfg says n_key_value_heads.")
def equal_keys_in_a_plain_model(model, n_key_value_heads):
    new = Transformer(Config(**model.config_dict()), model.tokenizer)
    state = {}
    for name, W in model.state_dict().items():
        if name.rpartition(".")[2] in ("W_K", "W_V", "b_K", "b_V"):
            W = W.unflatten(0, (n_key_value_heads, -1)).mean(1).repeat_interleave(len(W) // n_key_value_heads, 0)
        state[name] = W
    new.load_state_dict(state)
    return new


# shared_key ---------------------------------------------------------------------------------


@mistake("shared_key", hint="The mean of the keys depends on the bases that they happen to be in. Take the best approximation of the stacked products.")
def mean_of_keys(W_Q, W_K):
    return W_Q, W_K.mean(0)


@mistake("shared_key", hint="The key is the mean of the heads' keys, with the best queries for it. Another key does better: the first right singular vectors of the stacked products.")
def best_queries_for_the_mean(W_Q, W_K):
    shared = W_K.mean(0)
    return W_Q @ W_K.mT @ torch.linalg.pinv(shared).T, shared


@mistake("shared_key", hint="The right key, with the heads' old queries. They belong to the old keys: the new ones are the products times the shared key.")
def old_queries(W_Q, W_K):
    QK = W_Q @ W_K.mT
    return W_Q, torch.linalg.svd(QK.flatten(0, 1), full_matrices=False).Vh[: W_K.shape[-1]].T


@mistake("shared_key", hint="The shared dimensions are taken from the keys alone. What counts is the products: a large key with a small query does little.")
def dimensions_of_the_keys(W_Q, W_K):
    V = torch.linalg.svd(W_K.permute(1, 0, 2).flatten(1), full_matrices=False).U[:, : W_K.shape[-1]]
    return W_Q @ W_K.mT @ V, V


@mistake("shared_key", hint="The products are summed over heads before the decomposition, so those of opposite sign cancel. Put them one below the other.")
def dimensions_of_the_sum(W_Q, W_K):
    QK = W_Q @ W_K.mT
    V = torch.linalg.svd(QK.sum(0)).Vh[: W_K.shape[-1]].T
    return QK @ V, V


@mistake("shared_key", hint="Those are dimensions of the *destination*: the products were put side by side. The key is shared at the source: one below the other.")
def dimensions_of_the_destination(W_Q, W_K):
    QK = W_Q @ W_K.mT
    V = torch.linalg.svd(QK.permute(1, 0, 2).flatten(1), full_matrices=False).U[:, : W_K.shape[-1]]
    return QK @ V, V


@mistake("shared_key", hint="The key of the first head is taken for all, with the best queries for it. Choose the dimensions by all heads' products.")
def key_of_the_first_head(W_Q, W_K):
    return W_Q @ W_K.mT @ torch.linalg.pinv(W_K[0]).T, W_K[0]
