"""Other right answers to chapter 5, in other styles. Each must pass."""

import copy

import torch
import torch.nn.functional as F

from circuits.checking import variant

# layer_norm ---------------------------------------------------------------------------------


@variant("layer_norm")
def by_torch(x, w, b, eps):
    return F.layer_norm(x, (x.shape[-1],), w, b, eps)


@variant("layer_norm")
def in_double_by_moments(x, w, b, eps):
    x = x.double()
    var, mean = torch.var_mean(x, dim=2, keepdim=True, correction=0)
    return torch.addcmul(b.double(), (x - mean) * torch.rsqrt(var + eps), w.double())


# folds_away ---------------------------------------------------------------------------------


@variant("folds_away")
def folds_by_a_table(step):
    norm, what = step.split(" ")
    return {"batch": True, "layer": what in ("mean", "weight", "bias")}[norm]


@variant("folds_away")
def folds_by_trying(step):
    x = torch.randn(2, 6, dtype=torch.double)

    def apply(v):
        fixed = torch.arange(1.0, 7.0, dtype=torch.double)
        if step.endswith("mean"):
            return v - (v.mean() if step.startswith("layer") else fixed)
        if step.endswith("scale"):
            return v / (v.std() + 1e-9 if step.startswith("layer") else fixed)
        return v * fixed if step.endswith("weight") else v + fixed

    zero = apply(torch.zeros(6, dtype=torch.double))
    return torch.allclose(apply(x[0] + x[1]) + zero, apply(x[0]) + apply(x[1]))


# fold_layer_norm ----------------------------------------------------------------------------


@variant("fold_layer_norm")
def fold_by_a_projection(model):
    d = model.cfg.d_model
    centre = torch.eye(d) - torch.ones(d, d) / d
    state = {k: v.clone() for k, v in model.state_dict().items()}
    for name in state:
        if name.rpartition(".")[2] in ("W_E", "W_O", "b_O", "W_out", "b_out"):
            state[name] = state[name] @ centre
    for i in range(model.cfg.n_layers):
        block = f"blocks.{i}."
        for kind in "QKV":
            state[f"{block}attn.b_{kind}"] += state[block + "ln1.b"] @ state[f"{block}attn.W_{kind}"]
        state[block + "mlp.b_in"] += state[block + "mlp.W_in"].T @ state[block + "ln2.b"]
        state[block + "mlp.W_in"] = torch.diag(state[block + "ln2.w"]) @ state[block + "mlp.W_in"]
        state[block + "ln1.b"] *= 0
        state[block + "ln2.b"] *= 0
        state[block + "ln2.w"] = torch.ones(d)
    state["unembed.b_U"] += state["unembed.W_U"].T @ state["ln_final.b"]
    state["unembed.W_U"] = torch.diag(state["ln_final.w"]) @ state["unembed.W_U"]
    state["ln_final.w"], state["ln_final.b"] = torch.ones(d), torch.zeros(d)
    new = copy.deepcopy(model)
    new.load_state_dict(state)
    return new


@variant("fold_layer_norm")
def fold_and_centre_the_readers_too(model):
    """Readers may be centred as well: what they read has mean 0."""
    new = copy.deepcopy(model)
    with torch.no_grad():
        for block in new.blocks:
            a, m = block.attn, block.mlp
            for W, b in ((a.W_Q, a.b_Q), (a.W_K, a.b_K), (a.W_V, a.b_V)):
                b.data = b.data + (block.ln1.b[None, :, None] * W).sum(1)
            m.b_in.data = m.b_in.data + block.ln2.b @ m.W_in
            m.W_in.data = m.W_in.data * block.ln2.w[:, None]
            m.W_in.data = m.W_in.data - m.W_in.data.mean(0, keepdim=True)
            a.W_O.data, a.b_O.data = (x - x.mean(-1, keepdim=True) for x in (a.W_O.data, a.b_O.data))
            m.W_out.data, m.b_out.data = (x - x.mean(-1, keepdim=True) for x in (m.W_out.data, m.b_out.data))
            block.ln1.b.data = torch.zeros_like(block.ln1.b)
            block.ln2.b.data = torch.zeros_like(block.ln2.b)
            block.ln2.w.data = torch.ones_like(block.ln2.w)
        new.embed.W_E.data = new.embed.W_E.data - new.embed.W_E.data.mean(1, keepdim=True)
        new.unembed.b_U.data = new.unembed.b_U.data + new.ln_final.b @ new.W_U
        new.unembed.W_U.data = new.unembed.W_U.data * new.ln_final.w[:, None]
        new.ln_final.w.data, new.ln_final.b.data = (f(new.ln_final.w) for f in (torch.ones_like, torch.zeros_like))
    return new


# frozen_scale_logits ------------------------------------------------------------------------


@variant("frozen_scale_logits")
def by_differences_of_the_stream(model, tokens):
    """Each part as the difference of two points of the stream, read by one matrix."""
    _, cache = model.run_with_cache(tokens)
    n = model.cfg.n_layers
    points = [torch.zeros_like(cache["embed"]), cache["embed"]]
    for layer in range(n):
        points += [cache["resid_mid", layer], cache["resid_post", layer]]
    final = points[-1]
    scale = torch.sqrt(((final - final.mean(2, keepdim=True)) ** 2).mean(2, keepdim=True) + model.cfg.eps)
    W = torch.diag(model.ln_final.w) @ model.W_U
    W = W - W.mean(0, keepdim=True)
    parts = [(b - a) @ W / scale for a, b in zip(points, points[1:])]
    last = torch.zeros_like(parts[0]) + model.ln_final.b @ model.W_U + model.unembed.b_U
    return torch.stack(parts + [last])


@variant("frozen_scale_logits")
def one_part_at_a_time(model, tokens):
    logits, cache = model.run_with_cache(tokens)
    d = model.cfg.d_model
    final = cache["resid_post", -1]
    normed = F.layer_norm(final, (d,), eps=model.cfg.eps)
    ratio = normed.norm(dim=-1) / (final - final.mean(-1, keepdim=True)).norm(dim=-1)  # 1 / scale
    rest, out = logits.clone(), []
    names = ["embed"] + [(kind, i) for i in range(model.cfg.n_layers) for kind in ("attn_out", "mlp_out")]
    for name in names:
        part = cache[name]
        part = (part - part.mean(-1, keepdim=True)) * ratio[..., None]
        out.append(torch.einsum("bpd,d,dv->bpv", part, model.ln_final.w, model.W_U))
        rest -= out[-1]
    return torch.stack([*out, rest])


# neuron_contributions -----------------------------------------------------------------------


@variant("neuron_contributions")
def by_einsum(model, tokens, layer):
    _, cache = model.run_with_cache(tokens)
    return torch.einsum("bpn,nd->bpnd", cache["post", layer], model.blocks[layer].mlp.W_out)


@variant("neuron_contributions")
def neuron_by_neuron(model, tokens, layer):
    _, cache = model.run_with_cache(tokens)
    mlp, post = model.blocks[layer].mlp, cache["pre", layer].relu()
    return torch.stack([post[:, :, n, None] * mlp.W_out[n] for n in range(len(mlp.W_out))], dim=2)


# neuron_logits ------------------------------------------------------------------------------


@variant("neuron_logits")
def by_folding(model, layer, neuron):
    W = model.ln_final.w[:, None] * model.W_U
    return model.blocks[layer].mlp.W_out[neuron] @ (W - W.mean(0))


@variant("neuron_logits")
def token_by_token(model, layer, neuron):
    value = model.W_out[layer][neuron].double()
    value = (value - value.sum() / len(value)) * model.ln_final.w
    return torch.stack([(value * column).sum() for column in model.W_U.T])


# top_contexts -------------------------------------------------------------------------------


@variant("top_contexts")
def by_sorting(model, tokens, layer, neuron, k):
    _, cache = model.run_with_cache(tokens)
    pre = cache["pre", layer][:, :, neuron].tolist()
    places = [(value, row, pos) for row, line in enumerate(pre) for pos, value in enumerate(line)]
    return [(row, pos) for _, row, pos in sorted(places, reverse=True)[:k]]


@variant("top_contexts")
def by_unraveling(model, tokens, layer, neuron, k):
    _, cache = model.run_with_cache(tokens)
    pre = cache["pre", layer][:, :, neuron]
    order = pre.reshape(-1).argsort(descending=True)[:k]
    return list(zip(*(x.tolist() for x in torch.unravel_index(order, pre.shape))))


# max_activating_input -----------------------------------------------------------------------


@variant("max_activating_input")
def backwards(model, tokens, layer, neuron):
    best, most, stale, position = tokens.clone(), -torch.inf, 0, len(tokens) - 1
    while stale < len(tokens):
        tries = torch.stack([best] * model.cfg.d_vocab)
        tries[:, position] = torch.arange(model.cfg.d_vocab)
        drives = model.run_with_cache(tries)[1]["pre", layer][:, -1, neuron]
        stale = 0 if drives.max() > most + 1e-5 else stale + 1
        if not stale:
            most, best = drives.max(), tries[drives.argmax()].clone()
        position = position - 1 if position > 1 else len(tokens) - 1
    return best


@variant("max_activating_input")
def steepest_single_change(model, tokens, layer, neuron):
    """Of all single changes, always the best one."""
    best, most = tokens.clone(), -float("inf")
    while True:
        rows = []
        for position in range(1, len(tokens)):
            for token in range(model.cfg.d_vocab):
                row = best.clone()
                row[position] = token
                rows.append(row)
        drives = model.run_with_cache(torch.stack(rows))[1]["pre", layer][:, -1, neuron]
        if drives.max() <= most + 1e-5:
            return best
        most, best = float(drives.max()), rows[int(drives.argmax())]


# pattern_f1 ---------------------------------------------------------------------------------


@variant("pattern_f1")
def by_precision_and_recall(fires, labels):
    both = (fires[:, :, None] & labels[:, None, :]).sum(0).double()
    P = both / fires.sum(0)[:, None]
    R = both / labels.sum(0)
    return torch.nan_to_num(2 * P * R / (P + R))


@variant("pattern_f1")
def pair_by_pair(fires, labels):
    out = torch.zeros(fires.shape[1], labels.shape[1])
    for i, f in enumerate(fires.T):
        for j, c in enumerate(labels.T):
            hits, misses = (f & c).sum(), (f ^ c).sum()
            out[i, j] = 2 * hits / (2 * hits + misses) if hits else 0
    return out


# active_share -------------------------------------------------------------------------------


@variant("active_share")
def share_of_pre(model, tokens):
    _, cache = model.run_with_cache(tokens)
    return torch.tensor([cache["pre", i].gt(0).double().mean().item() for i in range(model.cfg.n_layers)])


@variant("active_share")
def share_by_counting(model, tokens):
    _, cache = model.run_with_cache(tokens)
    posts = torch.stack([cache["post", i] for i in range(model.cfg.n_layers)])
    return posts.ne(0).sum((1, 2, 3)) / posts[0].numel()


# value_agreement ----------------------------------------------------------------------------


@variant("value_agreement")
def neuron_after_neuron(model, tokens, layer):
    _, cache = model.run_with_cache(tokens)
    pre, agreed = cache["pre", layer], []
    for n, value in enumerate(model.blocks[layer].mlp.W_out):
        i = int(pre[:, :-1, n].argmax())
        row, pos = divmod(i, pre.shape[1] - 1)
        said = ((value - value.mean()) * model.ln_final.w @ model.W_U).argmax()
        agreed.append(bool(said == tokens[row, pos + 1]))
    return torch.tensor(agreed)


@variant("value_agreement")
def with_the_end_ruled_out(model, tokens, layer):
    _, cache = model.run_with_cache(tokens)
    pre = cache["pre", layer].clone()
    pre[:, -1] = -torch.inf
    best = pre.flatten(0, 1).argmax(0)
    W = model.ln_final.w[:, None] * model.W_U
    said = (model.W_out[layer] @ (W - W.mean(0))).argmax(-1)
    return tokens.roll(-1, 1).flatten()[best].eq(said)


# composed_share -----------------------------------------------------------------------------


@variant("composed_share")
def place_by_place(model, tokens, layer):
    _, cache = model.run_with_cache(tokens)
    W = model.ln_final.w[:, None] * model.W_U
    W = W - W.mean(0)
    logits = model.W_out[layer] @ W
    tops, composed, total = logits.argmax(-1), 0, 0
    for post in cache["post", layer].flatten(0, 1):
        winner = (post @ logits).argmax()
        composed += winner not in tops[post > 0]
        total += 1
    return composed / total


@variant("composed_share")
def by_a_table(model, tokens, layer):
    _, cache = model.run_with_cache(tokens)
    post, value = cache["post", layer], model.W_out[layer]
    W = model.ln_final.w[:, None] * model.W_U
    W = W - W.mean(0)
    proposes = F.one_hot((value @ W).argmax(-1), model.cfg.d_vocab).float()  # [d_mlp d_vocab]
    proposals = (post > 0).float() @ proposes
    winner = (post @ value @ W).argmax(-1, keepdim=True)
    return (proposals.gather(-1, winner) == 0).double().mean()


# mlp_path_expansion -------------------------------------------------------------------------


@variant("mlp_path_expansion")
def text_by_text(model, tokens, target):
    n_layers, n_heads, eps = model.cfg.n_layers, model.cfg.n_heads, model.cfg.eps
    direct, through = [], []
    for row, t in zip(tokens, target):
        _, cache = model.run_with_cache(row[None])
        end = {name: x[0, -1] for name, x in cache.items() if x.ndim != 4 or "z" in name}
        last = model.blocks[-1].mlp
        parts = [end["hook_embed"]]
        for layer in range(n_layers):
            for head in range(n_heads):
                parts.append(cache["z", layer][0, -1, head] @ model.W_O[layer, head])
        for layer in range(n_layers - 1):
            parts.append(end[f"blocks.{layer}.hook_mlp_out"] - model.blocks[layer].mlp.b_out)
        mid = end[f"blocks.{n_layers - 1}.hook_resid_mid"]
        parts.append(mid - sum(parts))
        final = end[f"blocks.{n_layers - 1}.hook_resid_post"]
        u = model.W_U[:, t] / (final.pow(2).mean() + eps).sqrt()
        d = torch.stack([part @ u for part in parts])
        d[-1] += last.b_out @ u + model.unembed.b_U[t]
        keys = last.W_in / (mid.pow(2).mean() + eps).sqrt()
        reads = torch.stack([part @ keys for part in parts])
        reads[-1] += last.b_in
        fires = (end[f"blocks.{n_layers - 1}.mlp.hook_pre"] > 0).float()
        direct.append(d)
        through.append(reads * fires * (last.W_out @ u))
    return torch.stack(direct, 1), torch.stack(through, 1)


@variant("mlp_path_expansion")
def by_einsums(model, tokens, target):
    cfg = model.cfg
    _, cache = model.run_with_cache(tokens)
    mlp = model.blocks[-1].mlp
    results = torch.cat([cache["result", i][:, -1] for i in range(cfg.n_layers)], 1).transpose(0, 1)
    neurons = [cache["mlp_out", i][:, -1] - model.blocks[i].mlp.b_out for i in range(cfg.n_layers - 1)]
    embed = cache["embed"][:, -1]
    known = torch.cat([embed[None], results, *(x[None] for x in neurons)])
    mid = cache["resid_mid", -1][:, -1]
    sources = torch.cat([known, (mid - known.sum(0))[None]])
    s_mid = torch.sqrt(mid.square().mean(1) + cfg.eps)
    s = torch.sqrt(cache["resid_post", -1][:, -1].square().mean(1) + cfg.eps)
    u = torch.einsum("db,b->bd", model.W_U[:, target], 1 / s)
    direct = torch.einsum("sbd,bd->sb", sources, u)
    gate = (cache["pre", -1][:, -1] > 0).to(u.dtype)
    through = torch.einsum("sbd,dn,b,bn,ne,be->sbn", sources, mlp.W_in, 1 / s_mid, gate, mlp.W_out, u)
    bias = torch.einsum("n,bn,ne,be->bn", mlp.b_in, gate, mlp.W_out, u)
    end = torch.zeros(len(sources), 1)
    end[-1] = 1
    return direct + end * (u @ mlp.b_out + model.unembed.b_U[target]), through + end[..., None] * bias


# driven_neuron ------------------------------------------------------------------------------


@variant("driven_neuron")
def by_variance(model, tokens, layer, head):
    _, cache = model.run_with_cache(tokens)
    block = model.blocks[layer]
    part = cache["z", layer][:, :, head] @ (block.attn.W_O[head] @ block.mlp.W_in)
    mid = cache["resid_mid", layer]
    part = part / torch.sqrt(mid.square().mean(-1, keepdim=True) + model.cfg.eps)
    return int(part.reshape(-1, part.shape[-1]).var(0).argmax())


@variant("driven_neuron")
def neuron_by_neuron_driven(model, tokens, layer, head):
    _, cache = model.run_with_cache(tokens)
    mid, result = cache["resid_mid", layer].double(), cache["result", layer][:, :, head].double()
    scale = (mid**2).mean(-1).add(model.cfg.eps).sqrt()
    spread = []
    for n in range(model.cfg.d_mlp):
        part = (result * model.W_in[layer, :, n]).sum(-1) / scale
        spread.append(float(((part - part.mean()) ** 2).sum()))
    return spread.index(max(spread))


# rotate_hidden ------------------------------------------------------------------------------


@variant("rotate_hidden")
def by_the_state(model, R):
    state = model.state_dict()
    new = copy.deepcopy(model)
    new.load_state_dict({
        name: W @ R if name.endswith(("mlp.W_in", "mlp.b_in")) else R.T @ W if name.endswith("W_out") else W
        for name, W in state.items()
    })
    return new


@variant("rotate_hidden")
def by_new_parameters(model, R):
    new = copy.deepcopy(model)
    for block in new.blocks:
        block.mlp.W_in.data = torch.einsum("dn,nm->dm", block.mlp.W_in.data, R)
        block.mlp.b_in.data = R.T @ block.mlp.b_in.data
        block.mlp.W_out.data = torch.einsum("nm,nd->md", R, block.mlp.W_out.data)
    return new


# kurtosis -----------------------------------------------------------------------------------


@variant("kurtosis")
def row_by_row(x):
    total = 0.0
    for row in x.double():
        z = (row - row.mean()) / row.std(unbiased=False)
        total += float((z**4).mean())
    return total / len(x)


@variant("kurtosis")
def of_standardised_rows(x):
    var, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
    return ((x - mean) ** 2 / var).square().mean()


# vocabulary_space ---------------------------------------------------------------------------


@variant("vocabulary_space")
def by_least_squares(W_E, vectors, pseudo_inverse):
    if pseudo_inverse:
        return vectors @ torch.linalg.inv(W_E.T @ W_E) @ W_E.T
    return torch.einsum("nd,vd->nv", vectors, W_E)


@variant("vocabulary_space")
def by_singular_vectors(W_E, vectors, pseudo_inverse):
    U, S, Vh = torch.linalg.svd(W_E.double(), full_matrices=False)
    inside = vectors.double() @ Vh.T
    return (inside / S if pseudo_inverse else inside * S) @ U.T


# neuron_partners ----------------------------------------------------------------------------


@variant("neuron_partners")
def by_corrcoef(a, b):
    together = torch.corrcoef(torch.cat([a.T, b.T]).double())
    return torch.nan_to_num(together[: a.shape[1], a.shape[1] :]).max(1).values


@variant("neuron_partners")
def one_by_one(a, b):
    best = []
    for x in a.double().T:
        found = []
        for y in b.double().T:
            dx, dy = x - x.mean(), y - y.mean()
            size = float(dx.norm() * dy.norm())
            found.append(float(dx @ dy) / size if size > 1e-9 else 0.0)
        best.append(max(found))
    return torch.tensor(best)


# named_neurons ------------------------------------------------------------------------------


@variant("named_neurons")
def others_are_fine():
    return [(1, 953, "close_bracket & after token 'self'", 6.2), (0, 453, "token 'def'", 4.6), (1, 211, "after definition & before token 'self'", 5.3)]


@variant("named_neurons")
def lists_and_more_than_three():
    return [
        [1, 953, "token '):' & after token 'self'", 6.3],
        [0, 453, "token 'def'", 4.5],
        [0, 3, "string", 1.0],
        [1, 211, "after definition & before token 'self'", 5.5],
    ]


# opposed_pair -------------------------------------------------------------------------------


@variant("opposed_pair")
def the_other_way_round():
    return [1, 844, 253]


@variant("opposed_pair")
def another_pair():
    return (1, 623, 719)
