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
