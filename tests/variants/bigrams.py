"""Other right answers to chapter 1, in other styles. Each must pass."""

import copy
import math

import numpy as np
import torch
from einops import einsum

from circuits.checking import variant


@variant("bigram_counts")
def counts_in_a_loop(tokens, d_vocab):
    counts = torch.zeros(d_vocab, d_vocab, dtype=torch.int32)
    for i in range(len(tokens) - 1):
        counts[tokens[i], tokens[i + 1]] += 1
    return counts


@variant("bigram_counts")
def counts_by_accumulation(tokens, d_vocab):
    counts = torch.zeros(d_vocab, d_vocab, dtype=torch.long)
    one = torch.ones(len(tokens) - 1, dtype=torch.long)
    return counts.index_put_((tokens[:-1], tokens[1:]), one, accumulate=True)


@variant("unseen_share")
def unseen_by_taking_each_away(counts):
    unknown = total = 0
    for n in counts.flatten().tolist():
        unknown += sum(n - 1 == 0 for _ in range(n))
        total += n
    return unknown / total


@variant("unseen_share")
def unseen_by_a_count_of_counts(counts):
    return np.bincount(counts.flatten().numpy())[1] / counts.sum().item()


@variant("unseen_share")
def unseen_in_a_tensor(counts):
    return counts.eq(1).double().sum() / counts.double().sum()


@variant("bigram_log_probs")
def in_float64(counts, alpha):
    smoothed = counts.double() + alpha
    return smoothed.log() - smoothed.sum(1, keepdim=True).log()


@variant("bigram_log_probs")
def row_by_row(counts, alpha):
    rows = []
    for row in counts:
        total = row.sum() + alpha * len(row)
        rows.append(torch.stack([torch.log((c + alpha) / total) for c in row]))
    return torch.stack(rows)


@variant("bigram_log_probs")
def by_softmax_of_logs(counts, alpha):
    return (counts + alpha).log().log_softmax(-1)


@variant("conditional_entropy")
def entropy_in_a_loop(counts):
    total, H = counts.sum().item(), 0.0
    for row in counts.tolist():
        H -= sum(c / total * math.log(c / sum(row)) for c in row if c)
    return H


@variant("conditional_entropy")
def pairs_minus_tokens(counts):
    p = counts.double() / counts.sum()
    first = p.sum(1)
    return torch.special.entr(p).sum() - torch.special.entr(first).sum()


@variant("cross_entropy_of_table")
def with_numpy(log_probs, tokens):
    table, t = log_probs.numpy(), tokens.numpy()
    return np.float64(-table[t[:-1], t[1:]].mean())


@variant("cross_entropy_of_table")
def by_nll_loss(log_probs, tokens):
    return torch.nn.functional.nll_loss(log_probs[tokens[:-1]], tokens[1:])


@variant("zero_layer_logits")
def with_one_hot_vectors(W_E, W_U, tokens):
    one_hot = torch.nn.functional.one_hot(tokens, len(W_E)).float()
    return einsum(one_hot, W_E, W_U, "b p v, v m, m out -> b p out")


@variant("zero_layer_logits")
def from_the_direct_path(W_E, W_U, tokens):
    return (W_E.double() @ W_U.double())[tokens]


@variant("positions_that_matter")
def as_a_set(pos):
    return {pos}


@variant("positions_that_matter")
def as_a_tensor(pos):
    return torch.tensor([pos])


@variant("direct_path")
def by_einsum(W_E, W_U):
    return torch.einsum("am,mb->ab", W_E, W_U)


@variant("direct_path")
def sum_over_dimensions(W_E, W_U):
    return sum(torch.outer(W_E[:, m], W_U[m]) for m in range(W_E.shape[1]))


@variant("top_next")
def by_sorting_probabilities(model, token, k):
    probs = (model.W_E[token] @ model.W_U).softmax(-1)
    return sorted(range(len(probs)), key=lambda b: -probs[b].item())[:k]


@variant("top_next")
def returns_a_tensor(model, token, k):
    return model(torch.tensor([token]))[0, 0].log_softmax(-1).topk(k).indices


@variant("train_step")
def clears_gradients_last(model, tokens, optimizer):
    log_probs = model(tokens)[:, :-1].log_softmax(-1)
    loss = -log_probs.gather(-1, tokens[:, 1:, None]).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss


@variant("train_step")
def feeds_all_but_the_last(model, tokens, optimizer):
    optimizer.zero_grad(set_to_none=False)
    logits = model(tokens[:, :-1])
    loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:])
    loss.backward()
    optimizer.step()
    return float(loss)


@variant("mean_kl")
def kl_in_a_loop(log_p, log_q, weights):
    total = 0.0
    for a in range(len(weights)):
        p = log_p[a].exp()
        total += weights[a].item() * float(p @ log_p[a] - p @ log_q[a])
    return total


@variant("mean_kl")
def by_kl_div(log_p, log_q, weights):
    rows = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
    return (rows.double() * weights).sum()


@variant("best_rank_k")
def by_eigenvectors(log_probs, weights, k):
    L, w = log_probs.double(), weights.double()
    _, V = torch.linalg.eigh(L.T @ (w[:, None] * L))
    V = V[:, -k:]
    return L @ V @ V.T


@variant("best_rank_k")
def zeroes_small_singular_values(log_probs, weights, k):
    root = weights.sqrt().clamp(min=1e-4)
    U, S, Vh = torch.linalg.svd(torch.diag(root) @ log_probs)
    S[k:] = 0
    return torch.diag(1 / root) @ U @ torch.diag(S) @ Vh


@variant("rotate_residual")
def on_a_deep_copy(model, R):
    new = copy.deepcopy(model)
    new.embed.W_E.data = model.W_E @ R
    new.unembed.W_U.data = R.T @ model.W_U
    return new


@variant("rotate_residual")
def through_the_state_dict(model, R):
    state = {k: v.clone() for k, v in model.state_dict().items()}
    state["embed.W_E"] = state["embed.W_E"] @ R
    state["unembed.W_U"] = torch.linalg.solve(R, state["unembed.W_U"])
    new = type(model)(model.cfg)
    new.load_state_dict(state)
    return new


@variant("sample")
def by_gumbel_noise(model, prompt, n, temperature, generator):
    tokens = prompt.tolist()
    for _ in range(n):
        logits = model(torch.tensor([tokens[-1:]]))[0, -1] / temperature
        noise = -torch.log(-torch.log(torch.rand(len(logits), generator=generator)))
        tokens.append(int((logits + noise).argmax()))
    return torch.tensor(tokens)


@variant("sample")
def by_inverting_the_distribution(model, prompt, n, temperature, generator):
    tokens = torch.zeros(len(prompt) + n, dtype=torch.long)
    tokens[: len(prompt)] = prompt
    for i in range(len(prompt), len(tokens)):
        probs = (model(tokens[None, :i])[0, -1].double() / temperature).softmax(-1)
        u = torch.rand(1, generator=generator).double()
        tokens[i] = torch.searchsorted(probs.cumsum(0), u).clamp(max=len(probs) - 1)
    return tokens


@variant("furthest_tokens")
def sorted_in_a_loop(model, counts, k):
    kl = {}
    for a, row in enumerate(counts.double()):
        if row.sum() > 0:
            p = row / row.sum()
            log_q = model(torch.tensor([[a]]))[0, 0].double().log_softmax(-1)
            kl[a] = sum((x * (x.log() - log_q[b])).item() for b, x in enumerate(p) if x > 0)
    return sorted(kl, key=kl.get, reverse=True)[:k]


@variant("furthest_tokens")
def as_a_tensor_of_ids(model, counts, k):
    n = counts.sum(1, keepdim=True)
    p = counts / n
    kl = torch.nn.functional.kl_div(
        (model.W_E @ model.W_U).log_softmax(-1), p.nan_to_num(0), reduction="none"
    ).sum(1)
    return torch.where(n[:, 0] > 0, kl, -1e9).argsort(descending=True)[:k]


@variant("predict_distance")
def inverse_frequency(counts):
    return 1.0 / (1.0 + counts.sum(dim=1))


@variant("predict_distance")
def minus_log_frequency_in_numpy(counts):
    return -np.log(counts.numpy().sum(axis=1) + 0.5)


@variant("predict_distance")
def minus_counts_in_whole_numbers(counts):
    return -counts.sum(-1)


@variant("predict_distance")
def ranks_by_frequency(counts):
    return counts.sum(-1).argsort(descending=True).argsort()


@variant("predict_distance")
def different_successors_per_occurrence(counts):
    return (counts > 0).sum(-1) / counts.sum(-1).clamp(min=1)
