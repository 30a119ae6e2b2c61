"""Other right answers to chapter 0, in other styles. Each must pass."""

import math

import numpy as np
import torch
from einops import einsum

from circuits.checking import variant


@variant("split_heads")
def by_unflatten(x, n_heads):
    return x.unflatten(-1, (n_heads, -1))


@variant("split_heads")
def by_chunks(x, n_heads):
    return torch.stack(x.double().chunk(n_heads, dim=-1), dim=2)


@variant("split_heads")
def by_copying_in_a_loop(x, n_heads):
    d_head = x.shape[-1] // n_heads
    out = torch.empty(*x.shape[:2], n_heads, d_head)
    for h in range(n_heads):
        out[:, :, h] = x[..., h * d_head : (h + 1) * d_head]
    return out


@variant("residual_parts")
def in_two_loops(model, tokens):
    cache = model.run_with_cache(tokens)[1]
    parts = [cache["hook_embed"]]
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):
            parts.append(cache[f"blocks.{layer}.attn.hook_result"][:, :, head, :])
    return torch.stack(parts, dim=0)


@variant("residual_parts")
def from_z_and_the_output_weights(model, tokens):
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("_z"))
    parts = [model.W_E[tokens][None]]
    for layer in range(model.cfg.n_layers):
        z = cache["z", layer]
        parts.append(einsum(z, model.W_O[layer], "b p h d, h d m -> h b p m"))
    return torch.cat(parts)


@variant("cross_entropy_nats")
def by_gathering_log_probabilities(logits, tokens):
    log_probs = logits.double().log_softmax(-1)
    return -log_probs[:, :-1].gather(-1, tokens[:, 1:].unsqueeze(-1)).mean()


@variant("cross_entropy_nats")
def one_prediction_at_a_time(logits, tokens):
    losses = [
        (row.logsumexp(-1) - row[t]).item()
        for text, ids in zip(logits, tokens)
        for row, t in zip(text[:-1], ids[1:])
    ]
    return sum(losses) / len(losses)


@variant("cross_entropy_nats")
def with_classes_in_axis_one(logits, tokens):
    return torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:])


@variant("bilinear")
def row_by_row(M, x, y):
    return torch.stack([a @ M @ b for a, b in zip(x, y)])


@variant("bilinear")
def diagonal_of_all_pairs(M, x, y):
    return (x.double() @ M.double() @ y.double().T).diagonal()


@variant("bilinear")
def by_bmm(M, x, y):
    return (x[:, None] @ M @ y[:, :, None]).squeeze(-1).squeeze(-1)


@variant("adjoint_attention")
def by_einsum(W_Q, W_K):
    return einsum(W_Q, W_K, "m d, n d -> m n")


@variant("adjoint_attention")
def a_sum_of_outer_products(W_Q, W_K):
    return sum(torch.outer(W_Q[:, d], W_K[:, d]) for d in range(W_Q.shape[1]))


@variant("regauge")
def by_solving(W_Q, W_K, R):
    return W_Q @ R, torch.linalg.solve(R, W_K.T).T


@variant("regauge")
def as_a_list_in_float64(W_Q, W_K, R):
    return [W_Q.double() @ R.double(), W_K.double() @ torch.linalg.pinv(R.double()).T]


@variant("survives_regauging")
def as_a_set(names):
    return set(names) - {"q", "k", "v", "z"}


@variant("survives_regauging")
def by_name(names):
    stays = {"attn_scores": True, "pattern": True, "result": True, "attn_out": True, "resid_post": True}
    return sorted((name for name in names if stays.get(name)), reverse=True)


@variant("kron_apply")
def by_einsum_over_all(A, W, X):
    return einsum(A, X, W, "dest src, src m, m out -> dest out")


@variant("kron_apply")
def features_first(A, W, X):
    return A.double() @ (X.double() @ W.double())


@variant("kron_apply")
def destination_by_destination(A, W, X):
    rows = [sum(a * x for a, x in zip(weights, X) if a != 0) for weights in A]
    return torch.stack([row @ W if torch.is_tensor(row) else torch.zeros(W.shape[1]) for row in rows])


@variant("positions_reached")
def by_listing(A, W, source):
    return [dest for dest in range(len(A)) if A[dest, source] != 0]


@variant("positions_reached")
def by_trying_it(A, W, source):
    X = torch.zeros(A.shape[1], len(W), dtype=torch.float64)
    X[source] = 1.0
    return torch.where((A.double() @ X).abs().sum(-1) > 0)[0]


@variant("positions_reached")
def as_a_set_of_positions(A, W, source):
    return set(np.flatnonzero(A[:, source].numpy()).tolist())


@variant("predict_ranks")
def as_a_list(d_model, d_head, n_heads):
    return [d_head if d_head < d_model else d_model, sorted([d_model, n_heads * d_head])[0]]


@variant("predict_ranks")
def by_measuring_random_matrices(d_model, d_head, n_heads):
    g = torch.Generator().manual_seed(0)
    V = torch.randn(n_heads, d_model, d_head, generator=g, dtype=torch.float64)
    O = torch.randn(n_heads, d_head, d_model, generator=g, dtype=torch.float64)
    return torch.linalg.matrix_rank(V[0] @ O[0]), torch.linalg.matrix_rank((V @ O).sum(0))


@variant("truncate_rank")
def dimension_by_dimension(M, k):
    U, S, Vh = torch.linalg.svd(M)
    return sum(S[i] * torch.outer(U[:, i], Vh[i]) for i in range(min(k, len(S))))


@variant("truncate_rank")
def by_projecting(M, k):
    _, V = torch.linalg.eigh(M.double().T @ M.double())
    V = V[:, -k:]
    return M.double() @ V @ V.T


@variant("truncate_rank")
def zeroing_singular_values(M, k):
    U, S, Vh = np.linalg.svd(M.numpy(), full_matrices=False)
    S[k:] = 0
    return torch.from_numpy(U @ np.diag(S) @ Vh)


@variant("read_strength")
def of_normalised_matrices(W_out, W_in):
    return torch.linalg.matrix_norm((W_out / torch.linalg.norm(W_out)) @ (W_in / torch.linalg.norm(W_in)))


@variant("read_strength")
def by_gram_matrices(W_out, W_in):
    A, B = W_out.double(), W_in.double()
    squares = ((A.T @ A) * (B @ B.T)).sum() / ((A**2).sum() * (B**2).sum())
    return math.sqrt(max(squares.item(), 0.0))


@variant("strength_ceiling")
def by_eigenvalues_of_gram_matrices(W_out, W_in):
    A, B = W_out.double(), W_in.double()
    s, t = (np.sort(np.linalg.eigvalsh((M @ M.T).numpy()).clip(0))[::-1] for M in (A, B.T))
    n = min(len(s), len(t))
    return float((s[:n] * t[:n]).sum() / ((A**2).sum() * (B**2).sum())) ** 0.5


@variant("strength_ceiling")
def by_turning_the_reader(W_out, W_in):
    _, S, Vh = torch.linalg.svd(W_out)
    U, T, _ = torch.linalg.svd(W_in)
    turned = Vh.T @ U.T @ W_in
    return (W_out @ turned).norm() / (S.norm() * T.norm())


@variant("strongest_wire")
def in_three_loops(model):
    best = (-1.0, None)
    for a in range(model.cfg.n_heads):
        W_out = model.W_V[0, a] @ model.W_O[0, a]
        for b in range(model.cfg.n_heads):
            M = model.W_Q[1, b] @ model.W_K[1, b].T
            for letter, W_in in (("Q", M), ("K", M.T), ("V", model.W_V[1, b] @ model.W_O[1, b])):
                strength = float(torch.linalg.norm(W_out @ W_in) / W_out.norm() / W_in.norm())
                best = max(best, (strength, (a, b, letter)))
    return best[1]


@variant("strongest_wire")
def all_pairs_at_once(model):
    write = model.W_V[0] @ model.W_O[0]
    QK = model.W_Q[1] @ model.W_K[1].transpose(1, 2)
    read = torch.stack([QK, QK.transpose(1, 2), model.W_V[1] @ model.W_O[1]])
    gram_w, gram_r = write.mT @ write, read @ read.mT
    squares = einsum(gram_w, gram_r, "a m n, k b m n -> k a b")
    strengths = squares / write.norm(dim=(1, 2))[None, :, None] ** 2 / read.norm(dim=(2, 3))[:, None, :] ** 2
    k, a, b = np.unravel_index(int(strengths.argmax()), tuple(strengths.shape))
    return a, b, "qkv"[k]


@variant("mlp_as_neurons")
def by_broadcasting(x, W_in, W_out):
    return torch.clamp(x @ W_in, min=0).unsqueeze(-1) * W_out.unsqueeze(0)


@variant("mlp_as_neurons")
def neuron_by_neuron(x, W_in, W_out):
    added = [torch.outer((x @ W_in[:, n]).relu(), W_out[n]) for n in range(W_in.shape[1])]
    return torch.stack(added, dim=1)


@variant("bilinear")
def by_literal_loops(M, x, y):
    total = torch.zeros(len(x))
    for i in range(len(x)):
        for a in range(M.shape[0]):
            for b in range(M.shape[1]):
                total[i] += x[i, a] * M[a, b] * y[i, b]
    return total


@variant("strongest_wire")
def by_float64_loops(model):
    best = (-1.0, None)
    for a in range(model.cfg.n_heads):
        for b in range(model.cfg.n_heads):
            for letter in "QKV":
                OV = model.W_V[0, a].double() @ model.W_O[0, a].double()
                QK = model.W_Q[1, b].double() @ model.W_K[1, b].double().T
                read = {"Q": QK, "K": QK.T, "V": model.W_V[1, b].double() @ model.W_O[1, b].double()}[letter]
                strength = float((OV @ read).norm() / (OV.norm() * read.norm()))
                best = max(best, (strength, (a, b, letter)))
    return best[1]
