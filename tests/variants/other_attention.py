"""Other right answers to chapter 9, in other styles. Each must pass."""

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F

from circuits.checking import variant
from utils.model import Config, Transformer

# Shared keys --------------------------------------------------------------------------------


@variant("multi_query_attention")
def multi_query_by_einsum(x, W_Q, W_K, W_V, W_O):
    q = torch.einsum("pm,hmd->hpd", x, W_Q)
    scores = torch.einsum("hpd,sd->hps", q, x @ W_K) / math.sqrt(W_K.shape[1])
    scores = scores + torch.full_like(scores, -1e9).triu(1)
    return torch.einsum("hps,sd,hdm->pm", scores.softmax(-1), x @ W_V, W_O)


@variant("multi_query_attention")
def multi_query_head_by_head(x, W_Q, W_K, W_V, W_O):
    x, out = x.double(), torch.zeros(x.shape).double()
    for Q, O in zip(W_Q.double(), W_O.double()):
        for i in range(len(x)):
            seen = x[: i + 1]
            weights = F.softmax(x[i] @ Q @ (seen @ W_K.double()).T / W_K.shape[1] ** 0.5, dim=0)
            out[i] += weights @ seen @ W_V.double() @ O
    return out


@variant("grouped_query_attention")
def grouped_query_fused(x, W_Q, W_K, W_V, W_O):
    own = [h * len(W_K) // len(W_Q) for h in range(len(W_Q))]
    z = F.scaled_dot_product_attention((x @ W_Q)[None], (x @ W_K[own])[None], (x @ W_V[own])[None], is_causal=True)
    return torch.einsum("hpd,hdm->pm", z[0], W_O)


@variant("grouped_query_attention")
def grouped_query_group_by_group(x, W_Q, W_K, W_V, W_O):
    size = len(W_Q) // len(W_K)
    groups = zip(W_Q.split(size), W_K, W_V, W_O.split(size))
    return sum(multi_query_by_einsum(x, *group) for group in groups)


@variant("cache_bytes")
def bytes_layer_by_layer(n_layers, n_key_value_heads, d_head, bytes_per_number):
    return sum(n_key_value_heads * (d_head + d_head) * bytes_per_number for _ in range(n_layers))


@variant("cache_bytes")
def bytes_of_a_tensor(n_layers, n_key_value_heads, d_head, bytes_per_number):
    return torch.zeros(n_layers, 2, n_key_value_heads, d_head).numel() * float(bytes_per_number)


@variant("predict_reading_ranks")
def ranks_as_a_list(d_model, d_head, n_heads, n_key_value_heads):
    return [min(d_model, d_head * n) for n in (n_key_value_heads, n_heads)]


@variant("predict_reading_ranks")
def ranks_measured(d_model, d_head, n_heads, n_key_value_heads):
    generator = torch.Generator().manual_seed(0)
    W_Q = torch.randn(n_heads, d_model, d_head, generator=generator).double()
    W_K = torch.randn(n_key_value_heads, d_model, d_head, generator=generator).double()
    QK = W_Q @ W_K.repeat_interleave(n_heads // n_key_value_heads, 0).mT
    return tuple(int(torch.linalg.matrix_rank(torch.cat(list(QK), dim))) for dim in (0, 1))


@variant("to_grouped")
def grouped_block_by_block(model, n_key_value_heads):
    settings = model.config_dict()
    settings["n_key_value_heads"] = n_key_value_heads
    new = Transformer(Config(**settings), model.tokenizer)
    group = model.cfg.n_heads // n_key_value_heads
    with torch.no_grad():
        for name, W in new.state_dict().items():
            place, last = name.rsplit(".", 1)
            if last.startswith("_"):
                old = model.state_dict()[f"{place}.{last[1:]}"]
                for g in range(n_key_value_heads):
                    W[g] = old[g * group : (g + 1) * group].mean(0)
            else:
                W.copy_(model.state_dict()[name])
    return new


@variant("to_grouped")
def grouped_by_a_matrix(model, n_key_value_heads):
    new = Transformer(Config(**{**model.config_dict(), "n_key_value_heads": n_key_value_heads}), model.tokenizer)
    group = model.cfg.n_heads // n_key_value_heads
    mean = torch.eye(n_key_value_heads).repeat_interleave(group, 1) / group
    state = {name: W for name, W in model.state_dict().items() if name.split(".")[-1] not in ("W_K", "W_V", "b_K", "b_V")}
    for i, block in enumerate(model.blocks):
        for name in ("W_K", "W_V", "b_K", "b_V"):
            W = getattr(block.attn, name)
            if W is not None:
                state[f"blocks.{i}.attn._{name}"] = torch.tensordot(mean, W.detach(), 1)
    new.load_state_dict(state)
    return new


@variant("shared_key")
def shared_key_by_eigenvectors(W_Q, W_K):
    QK = W_Q.double() @ W_K.double().mT
    V = torch.linalg.eigh((QK.mT @ QK).sum(0)).eigenvectors[:, -W_K.shape[2] :]
    return (QK @ V).float(), V.float()


@variant("shared_key")
def shared_key_with_strength_in_the_key(W_Q, W_K):
    QK = (W_Q @ W_K.mT).flatten(0, 1)
    U, S, Vh = np.linalg.svd(QK.numpy(), full_matrices=False)
    d = W_K.shape[2]
    queries = torch.tensor(U[:, :d] * np.sqrt(S[:d]))
    return queries.unflatten(0, W_Q.shape[:2]), torch.tensor(Vh[:d].T * np.sqrt(S[:d]))


@variant("one_key_two_heads")
def one_key_with_roll(d_vocab, n_ctx):
    d = d_vocab + n_ctx
    gain = 30 * math.sqrt(d)
    before = torch.eye(n_ctx).roll(-1, 1)
    before[0] = 0
    W_Q = torch.stack([torch.block_diag(torch.zeros(d_vocab, d_vocab), before), torch.block_diag(torch.eye(d_vocab), torch.zeros(n_ctx, n_ctx))])
    return W_Q * gain, torch.eye(d)


@variant("one_key_two_heads")
def one_key_in_a_turned_basis(d_vocab, n_ctx):
    W_Q, W_K = one_key_with_roll(d_vocab, n_ctx)
    R = torch.linalg.qr(torch.randn(len(W_K), len(W_K), generator=torch.Generator().manual_seed(0)))[0]
    return (W_Q @ R).double() * 0.8, (W_K @ R).double()


@variant("one_key_two_heads")
def one_key_with_places_at_the_key(d_vocab, n_ctx):
    # the key says which position comes next, so that the query asks for its own
    d = d_vocab + n_ctx
    W_K = torch.eye(d)
    W_K[d_vocab:, d_vocab:] = torch.eye(n_ctx).roll(1, 1)
    W_K[-1] = 0
    W_Q = torch.zeros(2, d, d)
    W_Q[0, d_vocab:, d_vocab:] = torch.eye(n_ctx)
    W_Q[1, :d_vocab, :d_vocab] = torch.eye(d_vocab)
    return W_Q * 20 * d**0.5, W_K


# Smeared keys -------------------------------------------------------------------------------


@variant("smeared_keys")
def smeared_in_place(k, alpha):
    new, share = k.clone(), 1 / (1 + torch.exp(-alpha))
    new[:, 1:] = torch.einsum("bphd,h->bphd", k[:, 1:], share) + torch.einsum("bphd,h->bphd", k[:, :-1], 1 - share)
    return new


@variant("smeared_keys")
def smeared_by_lerp(k, alpha):
    before = F.pad(k.double(), (0, 0, 0, 0, 1, 0))[:, :-1]
    before[:, 0] = k[:, 0]
    return torch.lerp(before, k.double(), alpha.double().sigmoid()[None, None, :, None].expand_as(before))


# Experts ------------------------------------------------------------------------------------


@variant("route")
def routed_by_mask(x, W_gate, k):
    logits = x @ W_gate
    least = logits.sort(-1, descending=True).values[:, k - 1 : k]
    return logits.masked_fill(logits < least, -torch.inf).softmax(-1)


@variant("route")
def routed_token_by_token(x, W_gate, k):
    rows = []
    for token in x.double():
        logits = token @ W_gate.double()
        best = logits.argsort(descending=True)[:k]
        row = torch.zeros_like(logits)
        row[best] = F.softmax(logits[best], dim=0)
        rows.append(row)
    return torch.stack(rows)


@variant("mixture_of_experts")
def mixture_of_those_that_are_on(x, gates, W_in, W_out):
    out = torch.zeros_like(x)
    for e in range(len(W_in)):
        on = gates[:, e] > 0
        u = x[on] @ W_in[e]
        out[on] += gates[on, e, None] * ((u * torch.sigmoid(u)) @ W_out[e])
    return out


@variant("mixture_of_experts")
def mixture_in_double(x, gates, W_in, W_out):
    u = torch.einsum("nd,edm->nem", x.double(), W_in.double())
    return torch.einsum("nem,emd,ne->nd", F.silu(u), W_out.double(), gates.double())


@variant("expert_neurons")
def neurons_side_by_side(x, gates, W_in):
    return torch.cat([gates[:, e : e + 1] * F.silu(x @ W_in[e]) for e in range(len(W_in))], dim=1)


@variant("expert_neurons")
def neurons_by_einsum(x, gates, W_in):
    u = torch.einsum("nd,edm->nem", x, W_in).double()
    return torch.einsum("nem,ne->nem", u / (1 + (-u).exp()), gates.double()).reshape(len(x), -1)


@variant("load_balance")
def balance_by_dot(logits, gates):
    f = (gates != 0).sum(0) / (gates != 0).sum()
    return float(logits.shape[1] * f.double() @ logits.double().softmax(1).mean(0))


@variant("load_balance")
def balance_expert_by_expert(logits, gates):
    n, n_experts = gates.shape
    p, total = F.softmax(logits, dim=-1), 0
    for e in range(n_experts):
        total = total + (gates[:, e] > 0).sum() / (gates > 0).sum() * p[:, e].sum() / n
    return n_experts * total


@variant("mutual_information")
def information_by_entropies(a, b):
    def entropy(x):
        p = torch.unique(x, return_counts=True)[1].double() / len(x)
        return -(p * p.log()).sum()

    return entropy(a) + entropy(b) - entropy(a * (int(b.max()) + 1) + b)


@variant("mutual_information")
def information_by_numpy(a, b):
    p = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(p, (a.numpy(), b.numpy()), 1 / len(a))
    i, j = p.nonzero()
    return float((p[i, j] * np.log(p[i, j] / (p.sum(1)[i] * p.sum(0)[j]))).sum())


# Neurons as heads ---------------------------------------------------------------------------


@variant("neuron_as_head")
def head_that_asks_with_the_key(w_in, b_in, w_out, sharpness):
    # the same score with the roles exchanged: the query is 1 at every token
    read = torch.tensor([*w_in.tolist(), float(b_in)], dtype=torch.float64)[:, None]
    one = torch.zeros_like(read)
    one[-1, 0] = 1.0
    return one, read * sharpness, read, torch.cat([w_out.double(), torch.zeros(1)])[None, :]


@variant("neuron_as_head")
def head_with_gains_elsewhere(w_in, b_in, w_out, sharpness):
    d = len(w_in)
    W_Q, W_K, W_V, W_O = torch.zeros(d + 1, 1), torch.zeros(d + 1, 1), torch.zeros(d + 1, 1), torch.zeros(1, d + 1)
    W_Q[:d, 0], W_Q[d, 0] = 0.5 * w_in, 0.5 * b_in
    W_K[d, 0] = 2 * sharpness
    W_V[:d, 0], W_V[d, 0] = -w_in, -b_in
    W_O[0, :d] = -w_out
    return W_Q, W_K, W_V, W_O


@variant("mlp_as_heads")
def mlp_head_by_head(model, layer, sharpness):
    mlp = model.blocks[layer].mlp
    heads = []
    for n in range(model.cfg.d_mlp):
        b_in = 0.0 if mlp.b_in is None else float(mlp.b_in[n])
        heads.append(head_with_gains_elsewhere(mlp.W_in[:, n].detach(), b_in, mlp.W_out[n].detach(), sharpness))
    return [torch.stack(part) for part in zip(*heads)]


@variant("mlp_as_heads")
def mlp_by_padding(model, layer, sharpness):
    W_in, W_out = model.W_in[layer].double(), model.W_out[layer].double()
    b_in = model.blocks[layer].mlp.b_in
    read = F.pad(W_in.T, (0, 1))
    if b_in is not None:
        read[:, -1] = b_in
    W_K = F.one_hot(torch.full((len(read),), W_in.shape[0]), W_in.shape[0] + 1).double()
    return read[..., None] * sharpness, W_K[..., None], read[..., None], F.pad(W_out, (0, 1))[:, None]


@variant("counterexample")
def counterexample_one_by_one(model, tokens, candidates):
    before = model(tokens[None])[0, -1].log_softmax(-1)
    best, found = -1.0, tokens
    for i in range(len(tokens) - 1):
        for token in candidates.tolist():
            text = tokens.clone()
            text[i] = token
            moved = float((model(text[None])[0, -1].log_softmax(-1) - before).pow(2).sum())
            if moved > best:
                best, found = moved, text
    return found


@variant("counterexample")
def counterexample_by_distance(model, tokens, candidates):
    texts = [torch.cat([tokens[:i], token[None], tokens[i + 1 :]]) for i in range(len(tokens) - 1) for token in candidates]
    log_p = F.log_softmax(model(torch.stack([tokens, *texts]))[:, -1].double(), dim=-1)
    return texts[int(torch.cdist(log_p[1:], log_p[:1])[:, 0].argmax())]
