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


# one_key_two_heads --------------------------------------------------------------------------


def _two_heads(d_vocab, n_ctx, strength=20.0, offset=-1, token=True, before=True, swap=False, mixed=False):
    d_model = d_vocab + n_ctx
    W_Q = torch.zeros(2, d_model, d_model)
    gain = strength * d_model**0.5
    for i in range(max(0, -offset), n_ctx - max(0, offset)):
        W_Q[0, d_vocab + i, d_vocab + i + offset] = gain * before
    W_Q[1, :d_vocab, :d_vocab] = gain * token * torch.eye(d_vocab)
    if mixed:
        W_Q = W_Q.sum(0, keepdim=True).repeat(2, 1, 1)
    return W_Q.flip(0) if swap else W_Q, torch.eye(d_model)


@mistake("one_key_two_heads", hint="The two heads are in the wrong order: head 0 looks at the position before, head 1 at its own token.")
def heads_in_the_other_order(d_vocab, n_ctx):
    return _two_heads(d_vocab, n_ctx, swap=True)


@mistake("one_key_two_heads", hint="Head 0 asks for the position *after* its own, which the causal mask hides. Row i (destination) of its QK circuit has its entry in column i - 1.")
def looks_ahead(d_vocab, n_ctx):
    return _two_heads(d_vocab, n_ctx, offset=1)


@mistake("one_key_two_heads", hint="Head 0 asks for its own position. It is to look one place back: the diagonal one below.")
def looks_at_itself(d_vocab, n_ctx):
    return _two_heads(d_vocab, n_ctx, offset=0)


@mistake("one_key_two_heads", hint="Right places, but the softmax is not sharp: scores are divided by the root of d_head. Use larger entries, such as 20 * d_head**0.5.")
def too_weak(d_vocab, n_ctx):
    return _two_heads(d_vocab, n_ctx, strength=1.0)


@mistake("one_key_two_heads", hint="Both heads ask for both things at once. Each query picks what *its* head wants of the key, and is 0 for the rest.")
def both_ask_for_both(d_vocab, n_ctx):
    return _two_heads(d_vocab, n_ctx, mixed=True)


@mistake("one_key_two_heads", hint="Head 1 asks for nothing, so it looks everywhere evenly. Let token t ask for token t.")
def head_1_asks_for_nothing(d_vocab, n_ctx):
    return _two_heads(d_vocab, n_ctx, token=False)


@mistake("one_key_two_heads", hint="Head 0 asks for nothing, so it looks everywhere evenly. Let position i ask for position i - 1.")
def head_0_asks_for_nothing(d_vocab, n_ctx):
    return _two_heads(d_vocab, n_ctx, before=False)


# smeared_keys -------------------------------------------------------------------------------


def _smear(k, share, before):
    return share[:, None] * k + (1 - share[:, None]) * before


def _before(k):
    return torch.cat([k[:, :1], k[:, :-1]], 1)


@mistake("smeared_keys", hint="The shares are exchanged: sigma(alpha) belongs to the key itself, the rest to the one before.")
def shares_exchanged(k, alpha):
    return _smear(k, 1 - alpha.sigmoid(), _before(k))


@mistake("smeared_keys", hint="Each key is mixed with the one *after* it. Take the one before: position j - 1.")
def mixed_with_the_next(k, alpha):
    return _smear(k, alpha.sigmoid(), torch.cat([k[:, 1:], k[:, -1:]], 1))


@mistake("smeared_keys", hint="The first key is mixed with the *last* one, as `roll` goes round. It stays as it is.")
def mixed_around_the_end(k, alpha):
    return _smear(k, alpha.sigmoid(), k.roll(1, 1))


@mistake("smeared_keys", hint="Before the first key stands 0 in yours, which makes it smaller. It stays as it is.")
def nothing_before_the_first(k, alpha):
    return _smear(k, alpha.sigmoid(), torch.cat([torch.zeros_like(k[:, :1]), k[:, :-1]], 1))


@mistake("smeared_keys", hint="alpha itself is taken for the share. It may be any number: its sigmoid is the share.")
def without_the_sigmoid(k, alpha):
    return _smear(k, alpha, _before(k))


@mistake("smeared_keys", hint="Each key gets what is left of the *smeared* key before it, so the whole past comes along. Mix in the original key before.")
def smeared_on_and_on(k, alpha):
    out = [k[:, 0]]
    for j in range(1, k.shape[1]):
        out.append(_smear(k[:, j], alpha.sigmoid(), out[-1]))
    return torch.stack(out, 1)


@mistake("smeared_keys", hint="All heads are smeared alike, by the mean of alpha. Each head has its own.")
def smeared_alike(k, alpha):
    return _smear(k, alpha.mean().expand_as(alpha).sigmoid(), _before(k))


# route --------------------------------------------------------------------------------------


def _spread(logits, values, indices):
    return torch.zeros_like(logits).scatter(-1, indices, values)


@mistake("route", hint="The softmax goes over all experts, so that those chosen do not sum to 1. Choose first, then softmax over the k.")
def softmax_over_all(x, W_gate, k):
    p = (x @ W_gate).softmax(-1)
    top = p.topk(k, -1)
    return _spread(p, top.values, top.indices)


@mistake("route", hint="No expert is switched off: all get a share. Only the k largest logits count.")
def nobody_switched_off(x, W_gate, k):
    return (x @ W_gate).softmax(-1)


@mistake("route", hint="The k chosen count the same. Softmax over their logits says how much each one counts.")
def equal_shares(x, W_gate, k):
    logits = x @ W_gate
    top = logits.topk(k, -1)
    return _spread(logits, torch.full_like(top.values, 1 / k), top.indices)


@mistake("route", hint="The k *smallest* logits are chosen. Take the largest.")
def the_smallest(x, W_gate, k):
    logits = x @ W_gate
    top = logits.topk(k, -1, largest=False)
    return _spread(logits, top.values.softmax(-1), top.indices)


@mistake("route", hint="These are the logits of the chosen ones. Their softmax is asked for: together 1.")
def raw_logits(x, W_gate, k):
    logits = x @ W_gate
    top = logits.topk(k, -1)
    return _spread(logits, top.values, top.indices)


@mistake("route", hint="Each expert chooses its k tokens. It is the other way round: each token has its k experts, the last axis.")
def experts_choose_tokens(x, W_gate, k):
    logits = x @ W_gate
    top = logits.topk(k, 0)
    return torch.zeros_like(logits).scatter(0, top.indices, top.values.softmax(0))


# mixture_of_experts, expert_neurons ---------------------------------------------------------


def _mix(x, gates, W_in, W_out, act=F.silu):
    return torch.einsum("enm,ne,emd->nd", act(x @ W_in), gates, W_out)


@mistake("mixture_of_experts", hint="The neurons are ReLU. Experts here have SiLU: `F.silu`.")
def relu_experts(x, gates, W_in, W_out):
    return _mix(x, gates, W_in, W_out, F.relu)


@mistake("mixture_of_experts", hint="The neurons are GELU. Experts here have SiLU: `F.silu`.")
def gelu_experts(x, gates, W_in, W_out):
    return _mix(x, gates, W_in, W_out, F.gelu)


@mistake("mixture_of_experts", hint="Gates only switch on and off in yours. They also say how much each expert counts: multiply by them.")
def gates_as_switches(x, gates, W_in, W_out):
    return _mix(x, (gates > 0).to(gates.dtype), W_in, W_out)


@mistake("mixture_of_experts", hint="All experts add up whatever the gates say.")
def without_gates(x, gates, W_in, W_out):
    return _mix(x, torch.ones_like(gates), W_in, W_out)


@mistake("mixture_of_experts", hint="Only the expert with the largest gate works. All that are switched on add up.")
def the_best_alone(x, gates, W_in, W_out):
    return _mix(x, gates * (gates == gates.max(-1, keepdim=True).values), W_in, W_out)


@mistake("mixture_of_experts", hint="The gate multiplies what an expert *reads*. It belongs behind the nonlinearity: it multiplies what the expert writes.")
def gates_before_the_neurons(x, gates, W_in, W_out):
    u = (x @ W_in) * gates.T[..., None]
    return (F.silu(u) @ W_out).sum(0)


@mistake("mixture_of_experts", hint="The gates are scaled to sum to 1. Take them as they are given.")
def gates_scaled(x, gates, W_in, W_out):
    return _mix(x, gates / gates.sum(-1, keepdim=True), W_in, W_out)


def _acts(x, gates, W_in, act=F.silu):
    return (act(x @ W_in).transpose(0, 1) * gates[..., None]).flatten(1)


@mistake("expert_neurons", hint="The gates are missing: an expert's activations are multiplied by its gate.")
def neurons_without_gates(x, gates, W_in):
    return _acts(x, torch.ones_like(gates), W_in)


@mistake("expert_neurons", hint="The neurons of all experts alternate. Expert 0's come first, then expert 1's: bring the axes to [n n_experts d_mlp] before you flatten.")
def neurons_alternate(x, gates, W_in):
    return (F.silu(x @ W_in).transpose(0, 1) * gates[..., None]).transpose(1, 2).flatten(1)


@mistake("expert_neurons", hint="Gates only switch on and off in yours. They also say how much each expert counts: multiply by them.")
def neurons_switched(x, gates, W_in):
    return _acts(x, (gates > 0).to(gates.dtype), W_in)


@mistake("expert_neurons", hint="These are pre-activations: SiLU is missing.")
def neurons_before_silu(x, gates, W_in):
    return _acts(x, gates, W_in, lambda u: u)


@mistake("expert_neurons", hint="The neurons are ReLU. Experts here have SiLU: `F.silu`.")
def relu_neurons(x, gates, W_in):
    return _acts(x, gates, W_in, F.relu)


@mistake("expert_neurons", hint="The gate multiplies what goes *into* SiLU. It belongs behind it.")
def gates_inside_silu(x, gates, W_in):
    return F.silu((x @ W_in).transpose(0, 1) * gates[..., None]).flatten(1)


# load_balance -------------------------------------------------------------------------------


def _chosen(gates):
    share = (gates > 0).float().mean(0)
    return share / share.sum()


@mistake("load_balance", hint="f sums to k, not to 1: it is the share of all *choices* that fall on an expert.")
def choices_not_shared(logits, gates):
    return logits.shape[-1] * ((gates > 0).float().mean(0) * logits.softmax(-1).mean(0)).sum()


@mistake("load_balance", hint="The factor n_experts is missing, with which the term is 1 if all is even.")
def without_the_factor(logits, gates):
    return (_chosen(gates) * logits.softmax(-1).mean(0)).sum()


@mistake("load_balance", hint="P is the mean of the gates. It is the mean probability under a softmax over *all* logits.")
def gates_for_probabilities(logits, gates):
    return logits.shape[-1] * (_chosen(gates) * gates.mean(0)).sum()


@mistake("load_balance", hint="f is the mean of the gates. It counts how *often* an expert is switched on, however much it then counts.")
def gates_for_choices(logits, gates):
    return logits.shape[-1] * (gates.mean(0) * logits.softmax(-1).mean(0)).sum()


@mistake("load_balance", hint="Your P is a softmax of mean logits. Softmax for each token, then the mean over tokens.")
def softmax_of_the_mean(logits, gates):
    return logits.shape[-1] * (_chosen(gates) * logits.mean(0).softmax(-1)).sum()


@mistake("load_balance", hint="The softmax goes over tokens. For each token it goes over the experts.")
def softmax_over_tokens(logits, gates):
    return logits.shape[-1] * (_chosen(gates) * logits.softmax(0).mean(0)).sum()


@mistake("load_balance", hint="The choices are squared, P is missing. f alone has no gradient; P has.")
def choices_squared(logits, gates):
    return logits.shape[-1] * _chosen(gates).square().sum()


# mutual_information -------------------------------------------------------------------------


def _p(a, b):
    return torch.zeros(int(a.max()) + 1, int(b.max()) + 1, dtype=torch.float64).index_put((a, b), torch.ones(len(a), dtype=torch.float64), accumulate=True) / len(a)


def _information(p, log=torch.log):
    outer, there = p.sum(1, keepdim=True) * p.sum(0, keepdim=True), p > 0
    return float((p[there] * log(p[there] / outer[there])).sum())


@mistake("mutual_information", hint="These are bits. Nats are asked for: the natural logarithm.")
def bits_for_nats(a, b):
    return _information(_p(a, b), torch.log2)


@mistake("mutual_information", hint="That is the entropy of the pairs. Divide each p(a, b) by p(a) p(b) inside the logarithm.")
def entropy_of_pairs(a, b):
    p = _p(a, b)
    return float(-(p[p > 0] * p[p > 0].log()).sum())


@mistake("mutual_information", hint="That is what is *not* known of b when a is known, the conditional entropy. The information is what is known.")
def conditional_entropy_of_b(a, b):
    p = _p(a, b)
    rows = p / p.sum(1, keepdim=True).clamp(min=1e-12)
    there = p > 0
    return float(-(p[there] * rows[there].log()).sum())


@mistake("mutual_information", hint="The terms are averaged over pairs of labels. Each is weighted by how often the pair occurs, p(a, b).")
def without_weights(a, b):
    p = _p(a, b)
    outer, there = p.sum(1, keepdim=True) * p.sum(0, keepdim=True), p > 0
    return float((p[there] / outer[there]).log().mean())


@mistake("mutual_information", hint="The weights are p(a) p(b). Weigh each logarithm by how often the pair really occurs, p(a, b).")
def weighted_as_if_independent(a, b):
    p = _p(a, b)
    outer, there = p.sum(1, keepdim=True) * p.sum(0, keepdim=True), p > 0
    return float((outer[there] * (p[there] / outer[there]).log()).sum())


@mistake("mutual_information", hint="The information is divided by the entropy of b: a share. Nats are asked for.")
def as_a_share(a, b):
    return _information(_p(a, b)) / _information(_p(b, b))


# neuron_as_head, mlp_as_heads ---------------------------------------------------------------


def _head(w_in, b_in, w_out, sharpness, q=None, k=None, v=None):
    read = torch.cat([w_in, w_in.new_tensor([b_in])])[:, None]
    last = torch.zeros_like(read)
    last[-1] = 1
    q = sharpness * read if q is None else q(read, last)
    k, v = last if k is None else k(read, last), read if v is None else v(read, last)
    return q, k, v, torch.cat([w_out, w_out.new_zeros(1)])[None]


@mistake("neuron_as_head", hint="The sharpness also multiplies the value. It sharpens the score alone.")
def sharp_values(w_in, b_in, w_out, sharpness):
    return _head(w_in, b_in, w_out, sharpness, v=lambda read, last: sharpness * read)


@mistake("neuron_as_head", hint="The sharpness is missing: it multiplies the score.")
def without_sharpness(w_in, b_in, w_out, sharpness):
    return _head(w_in, b_in, w_out, 1.0)


@mistake("neuron_as_head", hint="The bias is missing. The new dimension is 1 at every token: its weight is b_in.")
def without_bias(w_in, b_in, w_out, sharpness):
    return _head(w_in, 0.0, w_out, sharpness)


@mistake("neuron_as_head", hint="Query and key both are u, so the score is its square and never below 0. Let the key be 1 at every token.")
def score_squared(w_in, b_in, w_out, sharpness):
    return _head(w_in, b_in, w_out, sharpness, k=lambda read, last: read)


@mistake("neuron_as_head", hint="The value has no bias: it must be u with its b_in, as the score is.")
def value_without_bias(w_in, b_in, w_out, sharpness):
    return _head(w_in, b_in, w_out, sharpness, v=lambda read, last: torch.cat([read[:-1], torch.zeros_like(read[-1:])]))


@mistake("neuron_as_head", hint="The value is 1 at every token, so the head writes sigmoid(u) w_out. The value is u.")
def sigmoid_alone(w_in, b_in, w_out, sharpness):
    return _head(w_in, b_in, w_out, sharpness, v=lambda read, last: last)


@mistake("neuron_as_head", hint="The score has no bias, only the value: the query's last entry is sharpness times b_in.")
def score_without_bias(w_in, b_in, w_out, sharpness):
    return _head(w_in, b_in, w_out, sharpness, q=lambda read, last: sharpness * torch.cat([read[:-1], torch.zeros_like(read[-1:])]))


def _heads(model, layer, sharpness, bias=True, value=1.0, inputs=None, order=None):
    mlp = model.blocks[layer].mlp
    b_in = torch.zeros(mlp.W_in.shape[1]) if mlp.b_in is None or not bias else mlp.b_in
    W_in = mlp.W_in if inputs is None else inputs(mlp)
    read = torch.cat([W_in, b_in[None]]).T[..., None].detach()
    W_K = torch.zeros_like(read)
    W_K[:, -1] = 1
    W_O = torch.cat([mlp.W_out, torch.zeros_like(mlp.W_out[:, :1])], 1)[:, None].detach()
    return sharpness * read, W_K, value * read, W_O if order is None else W_O[order]


@mistake("mlp_as_heads", hint="b_in is missing: it is the weight of the new dimension.")
def mlp_without_biases(model, layer, sharpness):
    return _heads(model, layer, sharpness, bias=False)


@mistake("mlp_as_heads", hint="The sharpness is missing: it multiplies the scores.")
def mlp_without_sharpness(model, layer, sharpness):
    return _heads(model, layer, 1.0)


@mistake("mlp_as_heads", hint="The sharpness also multiplies the values. It sharpens the scores alone.")
def mlp_with_sharp_values(model, layer, sharpness):
    return _heads(model, layer, sharpness, value=sharpness)


@mistake("mlp_as_heads", hint="These are always the neurons of layer 0. Take those of `layer`.")
def mlp_of_layer_0(model, layer, sharpness):
    return _heads(model, 0, sharpness)


@mistake("mlp_as_heads", hint="These are always the neurons of the last layer. Take those of `layer`.")
def mlp_of_the_last_layer(model, layer, sharpness):
    return _heads(model, -1, sharpness)


@mistake("mlp_as_heads", hint="Each head writes what another neuron writes: row n of W_out belongs to column n of W_in.")
def values_of_other_neurons(model, layer, sharpness):
    n = model.cfg.d_mlp
    return _heads(model, layer, sharpness, order=list(range(n))[::-1])


@mistake("mlp_as_heads", hint="The weight of LayerNorm is folded into W_in. The heads read what stands *behind* the LayerNorm, as the MLP does: W_in as it is.")
def layer_norm_folded(model, layer, sharpness):
    ln = model.blocks[layer].ln2
    w = getattr(ln, "w", None)
    return _heads(model, layer, sharpness, inputs=(lambda mlp: mlp.W_in) if w is None else (lambda mlp: w[:, None] * mlp.W_in))


# counterexample -----------------------------------------------------------------------------


def _changed(model, tokens, candidates, score, last=False, pick="argmax"):
    n = len(tokens) - (not last)
    texts = tokens.repeat(n, len(candidates), 1)
    for i in range(n):
        texts[i, :, i] = candidates
    texts = texts.flatten(0, 1)
    moved = score(model(texts), model(tokens[None]))
    if pick == "argmin":
        moved = moved.masked_fill((texts == tokens).all(1), torch.inf)
    return texts[int(getattr(moved, pick)())]


def _log_p(logits, at=-1):
    return logits[:, at].log_softmax(-1)


@mistake("counterexample", hint="The last token may be exchanged in yours. It is to stay: any MLP would notice that.")
def last_token_too(model, tokens, candidates):
    return _changed(model, tokens, candidates, lambda new, old: (_log_p(new) - _log_p(old)).square().sum(-1), last=True)


@mistake("counterexample", hint="You take the change that matters *least*. The largest is asked for.")
def the_least_change(model, tokens, candidates):
    return _changed(model, tokens, candidates, lambda new, old: (_log_p(new) - _log_p(old)).square().sum(-1), pick="argmin")


@mistake("counterexample", hint="The change is measured at all positions. What counts is what the model says behind the *last* one.")
def changes_everywhere(model, tokens, candidates):
    return _changed(model, tokens, candidates, lambda new, old: (new.log_softmax(-1) - old.log_softmax(-1)).square().sum((1, 2)))


@mistake("counterexample", hint="The differences cancel, as they are summed with their signs. Square them.")
def signed_differences(model, tokens, candidates):
    return _changed(model, tokens, candidates, lambda new, old: (_log_p(new) - _log_p(old)).sum(-1))


@mistake("counterexample", hint="Probabilities are compared. The text asks for log probabilities, where rare tokens count as much.")
def probabilities_compared(model, tokens, candidates):
    return _changed(model, tokens, candidates, lambda new, old: (_log_p(new).exp() - _log_p(old).exp()).square().sum(-1))


@mistake("counterexample", hint="Logits are compared. They may all rise by one number, which changes no prediction: compare log probabilities.")
def logits_compared(model, tokens, candidates):
    return _changed(model, tokens, candidates, lambda new, old: (new[:, -1] - old[:, -1]).square().sum(-1))


@mistake("counterexample", hint="Only the first position is tried. Try all but the last.")
def first_position_alone(model, tokens, candidates):
    texts = tokens.repeat(len(candidates), 1)
    texts[:, 0] = candidates
    moved = (_log_p(model(texts)) - _log_p(model(tokens[None]))).square().sum(-1)
    return texts[int(moved.argmax())]


@mistake("counterexample", hint="Every earlier token is exchanged for the same one. Exchange one token alone.")
def all_positions_exchanged(model, tokens, candidates):
    texts = tokens.repeat(len(candidates), 1)
    texts[:, :-1] = candidates[:, None]
    moved = (_log_p(model(texts)) - _log_p(model(tokens[None]))).square().sum(-1)
    return texts[int(moved.argmax())]
