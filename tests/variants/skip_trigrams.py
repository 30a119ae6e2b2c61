"""Other right answers to chapter 2, in other styles. Each must pass."""

import copy
import math

import numpy as np
import torch
from einops import einsum

from circuits.checking import variant


def _future(n):
    return torch.arange(n)[None, :] > torch.arange(n)[:, None]


@variant("attention_scores")
def scores_through_the_product_of_weights(x_q, x_k, W_Q, W_K):
    return einsum(x_q, W_Q @ W_K.T, x_k, "b i m, m n, b j n -> b i j") / math.sqrt(W_Q.shape[1])


@variant("attention_scores")
def scores_in_numpy(x_q, x_k, W_Q, W_K):
    q, k = x_q.numpy() @ W_Q.numpy(), x_k.numpy() @ W_K.numpy()
    return q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])


@variant("attention_scores")
def scores_one_text_at_a_time(x_q, x_k, W_Q, W_K):
    scale = W_K.shape[-1] ** -0.5
    return torch.stack([(a @ W_Q * scale) @ (b @ W_K).T for a, b in zip(x_q, x_k)]).double()


@variant("causal_pattern")
def pattern_row_by_row(scores):
    pattern = torch.zeros_like(scores)
    for i in range(scores.shape[-1]):
        pattern[:, i, : i + 1] = scores[:, i, : i + 1].softmax(-1)
    return pattern


@variant("causal_pattern")
def pattern_by_a_large_negative_number(scores):
    n = scores.shape[-1]
    scores = scores + torch.full((n, n), -1e9).triu(1)
    return torch.nn.functional.softmax(scores, dim=2)


@variant("head_output")
def output_circuit_first(x, pattern, W_V, W_O):
    return pattern @ (x @ (W_V @ W_O))


@variant("head_output")
def output_by_einsum(x, pattern, W_V, W_O):
    return torch.einsum("bds,bsm,mh,hn->bdn", pattern.double(), x.double(), W_V.double(), W_O.double())


@variant("attention_layer")
def layer_in_a_loop(x, W_pos, W_Q, W_K, W_V, W_O):
    n = x.shape[1]
    x_qk = x + W_pos[:n]
    out = torch.zeros_like(x)
    for Q, K, V, O in zip(W_Q, W_K, W_V, W_O):
        scores = x_qk @ Q @ K.T @ x_qk.transpose(1, 2) / Q.shape[1] ** 0.5
        scores[:, _future(n)] = -torch.inf
        out += scores.softmax(-1) @ x @ V @ O
    return out


@variant("attention_layer")
def layer_by_fused_attention_and_concatenation(x, W_pos, W_Q, W_K, W_V, W_O):
    x_qk = x + W_pos[: x.shape[1]]
    q, k, v = (torch.einsum("bpm,hmd->bhpd", a, W) for a, W in ((x_qk, W_Q), (x_qk, W_K), (x, W_V)))
    z = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return z.transpose(1, 2).flatten(2) @ W_O.flatten(0, 1)


@variant("ov_circuit")
def ov_by_einsum(model, layer, head):
    return einsum(model.W_V, model.W_O, "l h m d, l h d n -> l h m n")[layer, head]


@variant("ov_circuit")
def ov_from_the_block(model, layer, head):
    attn = model.blocks[layer].attn
    return attn.W_V[head].double() @ attn.W_O[head].double()


@variant("full_ov_circuit")
def full_ov_from_left_to_right(model, layer, head):
    return model.W_E @ model.W_V[layer, head] @ model.W_O[layer, head] @ model.W_U


@variant("full_ov_circuit")
def full_ov_row_by_row(model, layer, head):
    M = (model.W_V[layer, head] @ model.W_O[layer, head] @ model.W_U).double()
    return torch.stack([row.double() @ M for row in model.W_E])


@variant("full_qk_circuit")
def full_qk_through_the_product(model, layer, head):
    W_QK = model.W_Q[layer, head] @ model.W_K[layer, head].T
    return model.W_E @ W_QK @ model.W_E.T / math.sqrt(model.cfg.d_head)


@variant("full_qk_circuit")
def full_qk_by_einsum(model, layer, head):
    q = model.W_E @ model.W_Q[layer, head]
    k = model.W_E @ model.W_K[layer, head]
    return einsum(q, k, "b d, a d -> b a") * model.W_Q.shape[-1] ** -0.5


@variant("positional_qk")
def positional_through_the_product(model, layer, head):
    W_QK = model.W_Q[layer, head] @ model.W_K[layer, head].T
    return model.W_pos @ W_QK @ model.W_pos.T / math.sqrt(model.cfg.d_head)


@variant("positional_qk")
def positional_in_a_loop(model, layer, head):
    q = (model.W_pos @ model.W_Q[layer, head]).double()
    k = (model.W_pos @ model.W_K[layer, head]).double()
    n = len(q)
    return torch.tensor([[float(q[i] @ k[j]) for j in range(n)] for i in range(n)]) / model.cfg.d_head**0.5


@variant("score_terms")
def terms_through_the_product(model, tokens, head):
    x, p = model.embed.W_E[tokens], model.W_pos[: tokens.shape[0]]
    M = model.W_Q[0, head] @ model.W_K[0, head].T / math.sqrt(model.cfg.d_head)
    return torch.stack([x @ M @ x.T, x @ M @ p.T, p @ M @ x.T, p @ M @ p.T])


@variant("score_terms")
def terms_by_one_einsum(model, tokens, head):
    both = torch.stack([model.W_E[tokens], model.W_pos[: len(tokens)]])
    q, k = both @ model.W_Q[0, head], both @ model.W_K[0, head]
    return torch.einsum("xid,yjd->xyij", q, k).flatten(0, 1) / q.shape[-1] ** 0.5


@variant("path_expansion")
def paths_from_the_cached_results(model, tokens):
    _, cache = model.run_with_cache(tokens)
    result = cache["blocks.0.attn.hook_result"]
    stream = torch.cat([cache["hook_embed"][:, :, None], result], dim=2)
    return (stream @ model.W_U).permute(2, 0, 1, 3)


@variant("path_expansion")
def paths_by_tables(model, tokens):
    _, cache = model.run_with_cache(tokens, names_filter="blocks.0.attn.hook_pattern")
    terms = [(model.W_E @ model.W_U)[tokens]]
    for head in range(model.cfg.n_heads):
        table = model.W_E @ model.W_V[0, head] @ model.W_O[0, head] @ model.W_U
        terms.append(torch.einsum("bds,bsv->bdv", cache["pattern", 0][:, head], table[tokens]))
    return torch.stack(terms)


@variant("freeze_patterns")
def by_scores_and_names(model, tokens, embed):
    _, cache = model.run_with_cache(tokens)
    hooks = [("hook_embed", lambda x, hook: embed)]
    for layer in range(model.cfg.n_layers):
        scores = cache["attn_scores", layer]
        hooks.append((f"blocks.{layer}.attn.hook_attn_scores", lambda x, hook, scores=scores: scores))
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


@variant("freeze_patterns")
def layer_by_layer(model, tokens, embed):
    _, cache = model.run_with_cache(tokens)
    x = embed
    for layer in range(model.cfg.n_layers):
        z = torch.einsum("bhds,bsm,hmk->bdhk", cache["pattern", layer], x, model.W_V[layer])
        x = x + torch.einsum("bdhk,hkm->bdm", z, model.W_O[layer])
    return x @ model.W_U


@variant("predict_skip_trigrams")
def other_good_guesses(source):
    if source == " try":
        return ("except", "finally", " pass")
    return {" lambda": [":"], " import": ["\n    ", "from"], "(": ["):", ")"]}[source]


@variant("predict_skip_trigrams")
def in_a_chain_of_ifs(source):
    if "try" in source:
        return [" except"]
    if "lambda" in source:
        return [":"]
    if source == " import":
        return ["\n"]
    return [")", ","]


@variant("skip_trigrams")
def from_the_full_tables(model, head, source, k):
    QK = (model.W_E @ model.W_Q[0, head]) @ (model.W_E @ model.W_K[0, head]).T / model.cfg.d_head**0.5
    OV = model.W_E @ model.W_V[0, head] @ model.W_O[0, head] @ model.W_U
    QK = QK - QK.mean(dim=1, keepdim=True)
    return QK[:, source].argsort(descending=True)[:k], OV[source].argsort(descending=True)[:k]


@variant("skip_trigrams")
def sorted_in_python(model, head, source, k):
    keys = model.W_E @ model.W_K[0, head]
    wanted = ((model.W_E @ model.W_Q[0, head]).double() @ (keys[source] - keys.mean(0)).double()).tolist()
    raised = (model.W_E[source] @ model.W_V[0, head] @ model.W_O[0, head] @ model.W_U).tolist()
    n = len(wanted)
    return [sorted(range(n), key=lambda i: -x[i])[:k] for x in (wanted, raised)]


@variant("product_eigenvalues")
def with_eigenvectors_in_float64(A, B):
    return torch.linalg.eig(B.double() @ A.double()).eigenvalues


@variant("product_eigenvalues")
def eigenvalues_in_numpy(A, B):
    return np.linalg.eigvals(np.einsum("in,nj->ij", B.numpy(), A.numpy())).astype(complex)


@variant("copying_score")
def copying_score_in_float64(model, layer, head):
    A = (model.W_E @ model.W_V[layer, head]).double()
    B = (model.W_O[layer, head] @ model.W_U).double()
    values = torch.linalg.eigvals(B @ A)
    return values.real.sum() / (values.real**2 + values.imag**2).sqrt().sum()


@variant("copying_score")
def copying_score_from_the_trace(model, layer, head):
    small = model.W_O[layer, head] @ (model.W_U @ model.W_E) @ model.W_V[layer, head]
    return (small.trace() / torch.linalg.eigvals(small).abs().sum()).item()


@variant("matching_score")
def matching_score_the_other_way_round(model, layer, head):
    W_QK = (model.W_E @ model.W_Q[layer, head]).T @ (model.W_E @ model.W_K[layer, head])
    values = torch.linalg.eigvals(W_QK.double())
    return (values.sum() / values.abs().sum()).real


@variant("matching_score")
def matching_score_in_a_loop(model, layer, head):
    gram = model.W_E.T @ model.W_E
    values = torch.linalg.eigvals(model.W_K[layer, head].T @ gram @ model.W_Q[layer, head]).tolist()
    return sum(v.real for v in values) / sum(abs(v) for v in values)


@variant("diagonal_score")
def diagonal_of_the_full_table(model, layer, head):
    M = model.W_E @ model.W_V[layer, head] @ model.W_O[layer, head] @ model.W_U
    return float(M.trace() / M.diag().abs().sum())


@variant("diagonal_score")
def diagonal_by_einsum(model, layer, head):
    own = torch.einsum(
        "vm,md,dn,nv->v", model.W_E, model.W_V[layer, head], model.W_O[layer, head], model.W_U
    )
    return own.double().sum() / own.double().abs().sum()


@variant("top_k_copy_score")
def by_topk(model, layer, head, k):
    M = model.W_E @ model.W_V[layer, head] @ model.W_O[layer, head] @ model.W_U
    best = M.topk(k, dim=-1).indices
    return (best == torch.arange(len(M))[:, None]).any(-1).double().mean()


@variant("top_k_copy_score")
def counted_in_a_loop(model, layer, head, k):
    M = (model.W_E @ model.W_V[layer, head] @ model.W_O[layer, head] @ model.W_U).tolist()
    hits = sum(row[a] in sorted(row)[-k:] for a, row in enumerate(M))
    return hits / len(M)


def _scores(model):
    scores = []
    for head in range(model.cfg.n_heads):
        small = model.W_O[0, head] @ (model.W_U @ model.W_E) @ model.W_V[0, head]
        values = torch.linalg.eigvals(small.double())
        scores.append(float(values.sum().real / values.abs().sum()))
    return scores


@variant("copying_heads")
def copying_heads_as_a_tensor(model):
    return (torch.tensor(_scores(model)) > 0.5).nonzero()[:, 0]


@variant("copying_heads")
def copying_heads_as_a_set(model):
    scores = _scores(model)
    return {h for h in range(len(scores)) if scores[h] > 0.5}


@variant("anti_copying_head")
def anti_copying_head_as_a_tensor(model):
    return torch.tensor(_scores(model)).argmin()


@variant("anti_copying_head")
def anti_copying_head_by_min(model):
    scores = _scores(model)
    return min(range(len(scores)), key=scores.__getitem__)


@variant("positional_heads")
def positional_heads_by_distance(model, tokens):
    n = tokens.shape[1]
    _, cache = model.run_with_cache(tokens, names_filter="blocks.0.attn.hook_pattern")
    q, k = model.W_pos[:n] @ model.W_Q[0], model.W_pos[:n] @ model.W_K[0]
    scores = (q @ k.transpose(1, 2)).double() / math.sqrt(model.cfg.d_head)
    alone = scores.masked_fill(_future(n), -1e30).softmax(-1)
    # 1 minus half of the sum of absolute differences is the sum of the smaller ones
    overlap = 1 - (cache["pattern", 0] - alone).abs().sum(-1).mean((0, 2)) / 2
    return [h for h, x in enumerate(overlap.tolist()) if x > 0.7]


@variant("positional_heads")
def positional_heads_without_token_embeddings(model, tokens):
    silent = copy.deepcopy(model)
    with torch.no_grad():
        silent.W_E.zero_()
    alone = silent.run_with_cache(tokens)[1]["pattern", 0]
    pattern = model.run_with_cache(tokens)[1]["pattern", 0]
    overlap = torch.minimum(pattern, alone).sum(-1).mean((0, 2))
    return (overlap > 0.7).nonzero().flatten().tolist()


@variant("forced_skip_trigrams")
def forced_from_the_full_tables(model, head, a1, b1, a2, b2):
    QK = (model.W_E @ model.W_Q[0, head]) @ (model.W_E @ model.W_K[0, head]).T / model.cfg.d_head**0.5
    OV = model.W_E @ model.W_V[0, head] @ model.W_O[0, head] @ model.W_U
    pull = (QK - QK.mean(1, keepdim=True)).exp()
    return torch.stack([torch.stack([pull[b, a] * OV[a] for b in (b1, b2)]) for a in (a1, a2)])


@variant("forced_skip_trigrams")
def forced_by_quotients(model, head, a1, b1, a2, b2):
    OV = model.W_E @ model.W_V[0, head] @ model.W_O[0, head] @ model.W_U
    rows = []
    for a in (a1, a2):
        for b in (b1, b2):
            q = model.W_E[b].double() @ model.W_Q[0, head].double()
            scores = (model.W_E.double() @ model.W_K[0, head].double()) @ q / math.sqrt(model.cfg.d_head)
            rows.append(scores[a].exp() / scores.mean().exp() * OV[a])
    return torch.stack(rows).reshape(2, 2, -1)


@variant("skip_trigram_costs")
def costs_by_new_losses(tokens, logits, pattern, ov_row, source):
    d_vocab = len(ov_row)
    total = torch.zeros(d_vocab, d_vocab, dtype=torch.float64)
    batch, n = tokens.shape
    for b in range(batch):
        for i in range(n - 1):
            alpha = pattern[b, i][tokens[b] == source].sum()
            rows = logits[b, i].double() - torch.diag(alpha * ov_row)
            before = -logits[b, i].double().log_softmax(-1)[tokens[b, i + 1]]
            total[tokens[b, i]] += before + rows.log_softmax(-1)[:, tokens[b, i + 1]]
    return total


@variant("skip_trigram_costs")
def costs_by_one_hot_vectors(tokens, logits, pattern, ov_row, source):
    alpha = torch.einsum("bds,bs->bd", pattern, (tokens == source).float())[:, :-1]
    delta = alpha[..., None] * ov_row
    p = logits[:, :-1].softmax(-1)
    here, following = (torch.nn.functional.one_hot(t, len(ov_row)).float() for t in (tokens[:, :-1], tokens[:, 1:]))
    cost = -(1 - p * (1 - (-delta).exp())).log() - delta * following
    return torch.einsum("bdx,bdc->xc", here, cost)


@variant("worst_crossing")
def crossing_in_a_loop(costs):
    best, found = -math.inf, None
    for c in range(costs.shape[1]):
        column = costs[:, c].tolist()
        low, high = min(column), max(column)
        if min(high, -low) > best:
            best, found = min(high, -low), (column.index(low), column.index(high), c)
    return found


@variant("worst_crossing")
def crossing_by_sorting(costs):
    ordered = costs.sort(0)
    c = torch.stack([ordered.values[-1], -ordered.values[0]]).amin(0).argmax()
    return [ordered.indices[0, c], ordered.indices[-1, c], c]


@variant("ablate_head")
def ablates_the_result(model, tokens, layer, head):
    def remove(result, hook):
        result[:, :, head] = 0
        return result

    return model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{layer}.attn.hook_result", remove)])


@variant("ablate_head")
def ablates_a_copy_of_the_weights(model, tokens, layer, head):
    new = copy.deepcopy(model)
    new.blocks[layer].attn.W_O.data[head] = 0
    with new.hooks([]):
        return new(tokens)


@variant("head_importance")
def importance_by_copies(model, tokens):
    def loss(m):
        log_probs = m(tokens)[:, :-1].log_softmax(-1)
        return -log_probs.gather(-1, tokens[:, 1:, None]).mean()

    rows = []
    for layer in range(model.cfg.n_layers):
        rows.append([])
        for head in range(model.cfg.n_heads):
            new = copy.deepcopy(model)
            new.blocks[layer].attn.W_V.data[head] = 0
            rows[-1].append(loss(new) - loss(model))
    return torch.tensor(rows)


@variant("head_importance")
def importance_by_masks(model, tokens):
    def loss(hooks):
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, :-1].double()
        return torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:])

    table = torch.zeros(model.cfg.n_layers, model.cfg.n_heads, dtype=torch.float64)
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):
            keep = (torch.arange(model.cfg.n_heads) != head)[:, None]
            hooks = [(f"blocks.{layer}.attn.hook_z", lambda z, hook, keep=keep: z * keep)]
            table[layer, head] = loss(hooks) - loss([])
    return table


@variant("product_eigenvalues")
def eigenvalues_as_a_list(A, B):
    return [complex(z) for z in torch.linalg.eigvals((B @ A).double())]
