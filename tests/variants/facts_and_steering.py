"""Other right answers to chapter 7, in other styles. Each must pass."""

import copy
from contextlib import ExitStack

import numpy as np
import torch
import torch.nn.functional as F

from circuits.checking import variant
from utils.model import get_act_name

# Facts --------------------------------------------------------------------------------------


@variant("isolated_trace")
def trace_by_where(model, tokens, embed, answer, kind, reach, severed):
    def disturb(x, hook):
        return embed

    names = [get_act_name(k, i) for k in (kind, severed) if k for i in range(model.cfg.n_layers)]
    clean = model.run_with_cache(tokens, names_filter=names)[1]
    disturbed = {}

    def keep(x, hook):
        disturbed[hook.name] = x

    model.run_with_hooks(tokens, fwd_hooks=[("hook_embed", disturb), *((name, keep) for name in names)])
    out = torch.zeros(len(tokens), model.cfg.n_layers, tokens.shape[1])
    for pos in range(tokens.shape[1]):
        here = (torch.arange(tokens.shape[1]) == pos)[None, :, None]
        for layer in range(model.cfg.n_layers):
            hooks = [("hook_embed", disturb)]
            for i in range(model.cfg.n_layers):
                if abs(i - layer) <= reach:
                    hooks.append((get_act_name(kind, i), lambda x, hook: torch.where(here, clean[hook.name], x)))
                if severed and i >= layer:
                    hooks.append((get_act_name(severed, i), lambda x, hook: torch.where(here, disturbed[hook.name], x)))
            p = F.softmax(model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1], dim=-1)
            out[:, layer, pos] = p.gather(1, answer[:, None])[:, 0]
    return out


@variant("isolated_trace")
def trace_one_text_at_a_time(model, tokens, embed, answer, kind, reach, severed):
    def put(cache, pos, x, hook):
        x = x.clone()
        x[0, pos] = cache[hook.name][0, pos]
        return x

    texts = []
    for text, vectors, token in zip(tokens, embed, answer.tolist()):
        disturb = ("hook_embed", lambda x, hook: vectors[None])
        clean = model.run_with_cache(text[None])[1]
        with model.hooks([disturb]):
            low = model.run_with_cache(text[None])[1]
        rows = []
        for layer in range(model.cfg.n_layers):
            row = []
            for pos in range(len(text)):
                with ExitStack() as stack:
                    stack.enter_context(model.hooks([disturb]))
                    for i in range(layer - reach, layer + reach + 1):
                        if 0 <= i < model.cfg.n_layers:
                            stack.enter_context(model.hooks([(get_act_name(kind, i), lambda x, hook: put(clean, pos, x, hook))]))
                    for i in range(layer, model.cfg.n_layers if severed else 0):
                        stack.enter_context(model.hooks([(get_act_name(severed, i), lambda x, hook: put(low, pos, x, hook))]))
                    row.append(model(text[None])[0, -1].log_softmax(-1)[token].exp())
            rows.append(torch.stack(row))
        texts.append(torch.stack(rows))
    return torch.stack(texts)


@variant("associative_memory")
def memory_by_svd(K, V):
    U, S, Vh = torch.linalg.svd(K.double(), full_matrices=False)
    big = S > 1e-5 * S[0]
    return Vh[big].T @ torch.diag(1 / S[big]) @ U[:, big].T @ V.double()


@variant("associative_memory")
def memory_by_numpy(K, V):
    return torch.tensor(np.linalg.lstsq(K.numpy(), V.numpy(), rcond=1e-5)[0])


@variant("hardest_size")
def size_by_words(memory):
    return "equal" if memory.endswith("disturbed") else "triple"


@variant("hardest_size")
def size_by_trying(memory):
    rng, shares, d = torch.Generator().manual_seed(0), {}, 32
    for size, n in (("half", d // 2), ("equal", d), ("triple", 3 * d)):
        K, V = (F.normalize(torch.randn(20, n, d, generator=rng), dim=-1) for _ in range(2))
        W = K.mT @ V if memory.startswith("sum") else torch.linalg.pinv(K) @ V
        asked = K + ("disturbed" in memory) * 0.2 * torch.randn(K.shape, generator=rng) / d**0.5
        shares[size] = ((asked @ W @ V.mT).argmax(-1) == torch.arange(n)).float().mean().item()
    return min(shares, key=shares.get)


@variant("subject_key")
def key_text_by_text(model, layer, tokens, positions):
    keys = [model.run_with_cache(text[None])[1]["post", layer][0, int(pos)].double() for text, pos in zip(tokens, positions)]
    return torch.stack(keys).mean(0)


@variant("subject_key")
def key_by_one_hot(model, layer, tokens, positions):
    kept = []
    model.run_with_hooks(tokens, fwd_hooks=[(get_act_name("post", layer), lambda x, hook: kept.append(x))])
    return torch.einsum("bpn,bp->n", kept[0], F.one_hot(positions, tokens.shape[1]).float()) / len(tokens)


@variant("target_value")
def value_by_lbfgs(model, layer, tokens, subject, last, target, weight, decay):
    name, rows = get_act_name("mlp_out", layer), torch.arange(len(tokens))
    logits, cache = model.run_with_cache(tokens)
    before, v0 = logits[rows, last].log_softmax(-1).detach(), cache[name][0, subject[0]].detach()
    mask = F.one_hot(subject, tokens.shape[1]).float()[..., None]
    delta = torch.zeros_like(v0, requires_grad=True)
    optimizer = torch.optim.LBFGS([delta], max_iter=30, line_search_fn="strong_wolfe")

    def closure():
        hook = (name, lambda x, hook: x * (1 - mask) + (v0 + delta) * mask)
        log_p = model.run_with_hooks(tokens, fwd_hooks=[hook])[rows, last].log_softmax(-1)
        loss = -log_p[0, target] + decay * (delta**2).sum()
        if len(tokens) > 1:
            loss = loss + weight * F.kl_div(log_p[1:], before[1:], log_target=True, reduction="batchmean")
        delta.grad = torch.autograd.grad(loss, delta)[0]
        return loss

    optimizer.step(closure)
    return (v0 + delta).detach()


@variant("target_value")
def value_by_rmsprop(model, layer, tokens, subject, last, target, weight, decay):
    name, rows = get_act_name("mlp_out", layer), torch.arange(len(tokens))
    logits, cache = model.run_with_cache(tokens)
    p, v0 = logits[rows, last].softmax(-1).detach(), cache[name][0, subject[0]].detach()
    v = v0.clone().requires_grad_(True)
    optimizer = torch.optim.RMSprop([v], lr=0.06)

    def put(x, hook):
        return torch.index_put(x, (rows, subject), v.expand(len(tokens), -1))

    for step in range(90):
        q = model.run_with_hooks(tokens, fwd_hooks=[(name, put)])[rows, last].softmax(-1)
        loss = -q[0, target].log() + decay * ((v - v0) ** 2).sum()
        for i in range(1, len(tokens)):
            loss = loss + weight * (p[i] * (p[i].log() - q[i].log())).sum() / (len(tokens) - 1)
        v.grad = torch.autograd.grad(loss, v)[0]
        optimizer.param_groups[0]["lr"] = 0.06 * (1 - step / 90)
        optimizer.step()
    return v.detach()


@variant("rank_one_edit")
def edit_by_inverse(W, C, k, v):
    W, C, k, v = (x.double() for x in (W, C, k, v))
    u = torch.linalg.inv(C) @ k
    return W + u[:, None] * (v - k @ W)[None] / (u * k).sum()


@variant("rank_one_edit")
def edit_by_whitening(W, C, k, v):
    L = torch.linalg.cholesky(C.double())
    white = torch.linalg.solve_triangular(L, k.double()[:, None], upper=False)
    change = torch.linalg.pinv(white.T) @ (v.double() - k.double() @ W.double())[None]
    return W + torch.linalg.solve_triangular(L.T, change, upper=True)


@variant("edit_many")
def many_by_whitening(W, C, K, V):
    L = torch.linalg.cholesky(C.double())
    white = torch.linalg.solve_triangular(L, K.double().T, upper=False).T
    return W + torch.linalg.solve_triangular(L.T, torch.linalg.pinv(white) @ (V.double() - K.double() @ W.double()), upper=True)


@variant("edit_many")
def many_by_inverse(W, C, K, V):
    W, C, K, V = (x.double() for x in (W, C, K, V))
    C_inv = torch.linalg.inv(C)
    return W + C_inv @ K.T @ torch.linalg.inv(K @ C_inv @ K.T) @ (V - K @ W)


@variant("changes_along")
def along_by_table(question):
    stays = {"other words": False, "reversed": True, "essence": True, "no essence": False}
    return "as before" if stays[question] else "changed"


@variant("changes_along")
def along_by_reasons(question):
    if question == "reversed":  # stored elsewhere
        return "as before"
    return "as before" if question == "essence" else "changed"


@variant("tracing_gain")
def gain_by_demeaning(success, layer, effect):
    s, e = success.double().clone(), effect.double().clone()
    total = s.var(unbiased=False) * len(s)
    for which in layer.unique():
        s[layer == which] -= s[layer == which].mean()
        e[layer == which] -= e[layer == which].mean()
    left = (s**2).sum()
    return float(1 - left / total), float(1 - (left - (s @ e) ** 2 / (e @ e)) / total)


@variant("tracing_gain")
def gain_by_numpy(success, layer, effect):
    y, groups = success.numpy().astype(float), layer.numpy()
    X = np.stack([(groups == which) * 1.0 for which in sorted(set(groups.tolist()))], 1)
    found = []
    for Z in (X, np.concatenate([X, effect.numpy().astype(float)[:, None]], 1)):
        rest = y - Z @ np.linalg.lstsq(Z, y, rcond=None)[0]
        found.append(1 - (rest @ rest) / ((y - y.mean()) ** 2).sum())
    return tuple(found)


# Directions ---------------------------------------------------------------------------------


@variant("difference_of_means")
def difference_by_sums(positive, negative):
    return positive.double().sum(0) / len(positive) - negative.double().sum(0) / len(negative)


@variant("difference_of_means")
def difference_by_columns(positive, negative):
    return torch.stack([p.mean() - n.mean() for p, n in zip(positive.T, negative.T)])


@variant("paired_direction")
def paired_by_eigh(positive, negative):
    D = (positive - negative).double()
    u = torch.linalg.eigh(D.T @ D).eigenvectors[:, -1]
    return u * torch.sign(D.sum(0) @ u)


@variant("paired_direction")
def paired_by_power_iteration(positive, negative):
    D = (positive - negative).double()
    u = D.mean(0)
    for _ in range(5000):
        u = F.normalize((u @ D.T) @ D, dim=0)
    return u if (D @ u).mean() > 0 else -u


@variant("add_direction")
def added_in_a_context(model, tokens, layer, direction, dose):
    def add(resid, hook):
        resid = resid.clone()
        resid += direction * dose
        return resid

    with model.hooks([(f"blocks.{layer}.hook_resid_post", add)]):
        return model(tokens)


@variant("add_direction")
def added_by_einsum(model, tokens, layer, direction, dose):
    shift = torch.einsum("bp,d->bpd", torch.full(tokens.shape, float(dose)), direction)
    return model.run_with_hooks(tokens, fwd_hooks=[(get_act_name("resid_post", layer), lambda x, hook: x + shift)])


@variant("project_out")
def projected_by_matrix(model, tokens, direction):
    d = direction / direction.norm()
    P = torch.eye(len(d)) - d[:, None] @ d[None]
    names = [name for name in model.hook_names() if name.rpartition("hook_")[2].startswith("resid")]
    return model.run_with_hooks(tokens, fwd_hooks=[(name, lambda x, hook: x @ P) for name in names])


@variant("project_out")
def projected_at_the_writers(model, tokens, direction):
    unit = F.normalize(direction, dim=0)

    def away(x, hook):
        return x - torch.einsum("...d,d,e->...e", x, unit, unit)

    hooks = [("hook_embed", away), (lambda name: name.endswith(("attn_out", "mlp_out")), away)]
    if model.cfg.positional_embedding_type == "standard":
        hooks.append(("hook_pos_embed", away))
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


@variant("orthogonalise_weights")
def orthogonal_by_names(model, direction):
    new = copy.deepcopy(model)
    d = F.normalize(direction, dim=0)
    P = torch.eye(len(d)) - torch.outer(d, d)
    writers = ("W_E", "W_O", "b_O", "W_out", "b_out") + ("W_pos",) * (model.cfg.positional_embedding_type == "standard")
    state = {name: W @ P if name.split(".")[-1] in writers else W for name, W in new.state_dict().items()}
    new.load_state_dict(state)
    return new


@variant("orthogonalise_weights")
def orthogonal_in_place(model, direction):
    new, d = copy.deepcopy(model), direction.double() / direction.double().norm()

    def project(W):
        if W is not None:
            W -= (torch.einsum("...d,d->...", W.double(), d)[..., None] * d).float()

    with torch.no_grad():
        project(new.W_E)
        if new.cfg.positional_embedding_type == "standard":
            project(new.W_pos)
        for block in new.blocks:
            for W in (block.attn.W_O, block.attn.b_O):
                project(W)
            if not new.cfg.attn_only:
                project(block.mlp.W_out)
                project(block.mlp.b_out)
    return new


# Functions ----------------------------------------------------------------------------------


@variant("after_change")
def change_by_reasons(what):
    kind, change = what.split(", ")
    if change == "projected out":  # 0 lies on the harmful side
        return "declines"
    return "answers" if kind == "harmful" else "declines"


@variant("after_change")
def change_by_table(what):
    return dict.fromkeys(("harmless, added", "harmful, projected out", "harmless, projected out"), "declines").get(what, "answers")


@variant("average_indirect_effect")
def effect_through_attn_out(model, clean, shuffled, answer):
    """The change of one head's output is added to what attention writes."""
    _, there = model.run_with_cache(clean)
    logits, here = model.run_with_cache(shuffled)
    rows = torch.arange(len(answer))
    base = logits[:, -1].softmax(-1)[rows, answer]
    table = []
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):
            shift = there["result", layer][:, -1, head].mean(0) - here["result", layer][:, -1, head]

            def add(x, hook):
                x = x.clone()
                x[:, -1] += shift
                return x

            p = model.run_with_hooks(shuffled, fwd_hooks=[(get_act_name("attn_out", layer), add)])[:, -1].softmax(-1)
            table.append((p[rows, answer] - base).mean())
    return torch.stack(table).view(model.cfg.n_layers, -1)


@variant("average_indirect_effect")
def effect_through_z(model, clean, shuffled, answer):
    _, cache = model.run_with_cache(clean)
    picks = F.one_hot(answer, model.cfg.d_vocab).float()
    score = lambda logits: (F.softmax(logits[:, -1], dim=-1) * picks).sum() / len(answer)
    base, table = score(model(shuffled)), torch.empty(model.cfg.n_layers, model.cfg.n_heads)
    for layer in range(model.cfg.n_layers):
        mean = cache["z", layer][:, -1].mean(0)
        for head in range(model.cfg.n_heads):

            def put(z, hook):
                z = z.clone()
                z[:, -1, head] = mean[head]
                return z

            table[layer, head] = score(model.run_with_hooks(shuffled, fwd_hooks=[(get_act_name("z", layer), put)])) - base
    return table


@variant("function_vector")
def vector_from_z(model, tokens, heads):
    _, cache = model.run_with_cache(tokens)
    total = torch.zeros(model.cfg.d_model)
    for layer, head in heads:
        total = total + cache["z", layer][:, -1, head].mean(0) @ model.W_O[layer, head]
    return total


@variant("function_vector")
def vector_by_stacking(model, tokens, heads):
    _, cache = model.run_with_cache(tokens)
    return torch.stack([cache["result", layer][:, -1, head].double() for layer, head in heads]).sum(0).mean(0)


@variant("vector_heads")
def heads_in_the_other_order():
    return ((2, 1), (2, 5))


@variant("vector_heads")
def heads_as_lists():
    return [[2, 5], [2, 1]]
