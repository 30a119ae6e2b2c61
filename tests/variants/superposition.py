"""Other right answers to chapter 6, in other styles. Each must pass."""

import torch
import torch.nn.functional as F

from circuits.checking import variant

# Toys ---------------------------------------------------------------------------------------


@variant("sparse_batch")
def presence_first(probability, n_features, batch, generator):
    x = torch.zeros(batch, len(probability), n_features)
    for i, p in enumerate(probability.tolist()):
        there = torch.rand(batch, n_features, generator=generator) < p
        x[:, i][there] = torch.rand(int(there.sum()), generator=generator)
    return x


@variant("sparse_batch")
def by_bernoulli(probability, n_features, batch, generator):
    p = probability[None, :, None].expand(batch, -1, n_features)
    there = torch.bernoulli(p, generator=generator)
    return torch.where(there.bool(), torch.rand(p.shape, generator=generator), 0.0)


@variant("toy_forward")
def toy_by_matrix_products(x, W, b):
    x = x.transpose(0, 1)  # [instances batch n_features]
    return F.relu(x @ W @ W.transpose(1, 2) + b[:, None]).transpose(0, 1)


@variant("toy_forward")
def toy_one_instance_at_a_time(x, W, b):
    outs = [torch.clamp(x[:, i].double() @ (W[i] @ W[i].T).double() + b[i], min=0) for i in range(len(W))]
    return torch.stack(outs, dim=1)


@variant("toy_loss")
def toy_loss_by_einsum(x, out, importance):
    return torch.einsum("bif,if->i", (x - out).square(), importance) / len(x)


@variant("toy_loss")
def toy_loss_by_loop(x, out, importance):
    losses = [(importance[i].double() * (x[:, i] - out[:, i]).double() ** 2).mean(0).sum() for i in range(x.shape[1])]
    return torch.stack(losses)


@variant("features_held")
def held_by_words(how_often):
    if how_often == "always":
        return 2
    return 4 if how_often.endswith("three") else 5


@variant("features_held")
def held_by_number(how_often):
    words = ["always", "one time in three", "one time in twenty"]
    return [2, 4, 5][words.index(how_often)]


@variant("represented")
def represented_by_squares(W):
    return W.square().sum(2) > 0.25


@variant("represented")
def represented_one_by_one(W):
    return torch.tensor([[torch.linalg.vector_norm(row).item() > 0.5 for row in instance] for instance in W])


@variant("interference")
def interference_by_loop(W):
    out = torch.zeros(W.shape[:2], dtype=torch.double)
    for n, rows in enumerate(W.double()):
        for i, row in enumerate(rows):
            if row.norm() > 0:
                along = rows @ (row / row.norm())
                along[i] = 0
                out[n, i] = (along**2).sum()
    return out


@variant("interference")
def interference_by_gram(W):
    gram = torch.einsum("nih,njh->nij", W, W)
    own = gram.diagonal(dim1=1, dim2=2)
    gram = gram - torch.diag_embed(own)
    return gram.pow(2).sum(2) / own.clamp(min=1e-12)


@variant("feature_dimensionality")
def dimensionality_by_gram(W):
    gram = W @ W.mT
    own = torch.diagonal(gram, dim1=-2, dim2=-1)
    return torch.where(own > 0, own**2 / gram.square().sum(-1).clamp(min=1e-12), torch.zeros_like(own))


@variant("feature_dimensionality")
def dimensionality_in_double_by_loop(W):
    out = torch.zeros(W.shape[:2], dtype=torch.double)
    for n, rows in enumerate(W.double()):
        for i, row in enumerate(rows):
            if row.any():
                out[n, i] = row.dot(row) / sum((row / row.norm()).dot(other) ** 2 for other in rows)
    return out


@variant("nearly_orthogonal")
def orthogonal_by_pushing_apart(n, d, eps, generator):
    """From random vectors, downhill on the sum of the eighth powers of their cosines."""
    v = torch.randn(n, d, generator=generator)
    with torch.enable_grad():
        v.requires_grad_()
        optimizer = torch.optim.Adam([v], lr=0.05)
        for _ in range(300):
            unit = F.normalize(v, dim=-1)
            overlap = unit @ unit.T - torch.eye(n)
            if overlap.abs().max() < 0.98 * eps:
                break
            optimizer.zero_grad()
            overlap.pow(8).sum().backward()
            optimizer.step()
    return F.normalize(v.detach(), dim=-1)


@variant("nearly_orthogonal")
def orthogonal_from_many_draws(n, d, eps, generator):
    rows = []
    while True:
        for v in torch.randn(1000, d, generator=generator, dtype=torch.double):
            v = v / v.norm()
            if all(abs(float(v @ u)) < eps for u in rows):
                rows.append(v)
            if len(rows) == n:
                return torch.stack(rows)


@variant("two_feature_loss")
def loss_by_a_finer_grid_in_double(W, b, probability, importance):
    W, b, n = W.double(), b.double(), 300
    grid = (torch.arange(n, dtype=torch.double) + 0.5) / n
    total = 0.0
    for first in (0.0, 1.0):
        for second in (0.0, 1.0):
            x = torch.stack(torch.meshgrid(first * grid, second * grid, indexing="ij"), -1)
            out = F.relu((x @ W)[..., None] * W + b)
            error = (x - out) ** 2 @ torch.tensor([1.0, importance], dtype=torch.double)
            p = (probability if first else 1 - probability) * (probability if second else 1 - probability)
            total += p * float(error.mean())
    return total


@variant("two_feature_loss")
def loss_with_weights_on_one_grid(W, b, probability, importance):
    """The case of an absent feature as one more point of the grid, with its own weight."""
    p = probability
    grid = torch.cat([torch.zeros(1), (torch.arange(150) + 0.5) / 150])
    weight = torch.cat([torch.tensor([1 - p]), torch.full((150,), p / 150)])
    x1, x2 = grid[:, None], grid[None]
    h = W[0] * x1 + W[1] * x2
    error = (x1 - F.relu(W[0] * h + b[0])) ** 2 + importance * (x2 - F.relu(W[1] * h + b[1])) ** 2
    return (weight @ error @ weight).item()


@variant("best_of_two")
def best_by_comparisons(probability, importance):
    variance, pair = probability / 3 - probability * probability / 4, probability * probability * (1 + importance) / 6
    if pair < variance * min(1.0, importance):
        return "both"
    return "first" if importance < 1 else "second"


@variant("best_of_two")
def best_by_numbers(probability, importance):
    """The same losses by a grid of strengths."""
    grid = (torch.arange(100, dtype=torch.double) + 0.5) / 100
    p = probability
    variance = p * float((grid**2).mean()) - (p * float(grid.mean())) ** 2
    pair = p * p * float(torch.minimum(grid[:, None], grid[None]).square().mean())
    losses = torch.tensor([importance * variance, variance, pair * (1 + importance)])
    return ["first", "second", "both"][int(losses.argmin())]


# Dictionaries -------------------------------------------------------------------------------


@variant("sae_encode")
def encode_with_the_bias_folded_in(x, W_enc, b_enc, b_pre):
    return F.relu(x @ W_enc + (b_enc - b_pre @ W_enc))


@variant("sae_encode")
def encode_in_double(x, W_enc, b_enc, b_pre):
    return torch.clamp(torch.addmm(b_enc.double(), (x - b_pre).double(), W_enc.double()), min=0)


@variant("sae_decode")
def decode_by_addmm(acts, W_dec, b_pre):
    return torch.addmm(b_pre, acts, W_dec)


@variant("sae_decode")
def decode_latent_by_latent(acts, W_dec, b_pre):
    out = b_pre.double().repeat(len(acts), 1)
    for l in range(len(W_dec)):
        out = out + acts[:, l : l + 1].double() * W_dec[l].double()
    return out


@variant("sae_loss")
def loss_in_two_terms(x, out, acts, l1):
    n = len(x)
    return F.mse_loss(out, x, reduction="sum") / n + l1 * acts.norm(p=1) / n


@variant("sae_loss")
def loss_vector_by_vector(x, out, acts, l1):
    each = [((a - b).double() ** 2).sum() + l1 * c.double().abs().sum() for a, b, c in zip(x, out, acts, strict=True)]
    return torch.stack(each).mean()


@variant("top_k_activation")
def by_a_threshold(acts, k):
    lowest = acts.sort(dim=-1, descending=True).values[:, k - 1 : k]
    return acts * (acts >= lowest)


@variant("top_k_activation")
def row_by_row(acts, k):
    out = torch.zeros_like(acts)
    for i, row in enumerate(acts):
        for j in row.argsort(descending=True)[:k].tolist():
            out[i, j] = row[j]
    return out


@variant("unit_norm_decoder")
def unit_by_diagonal_matrices(W_enc, b_enc, W_dec):
    s = torch.diag(torch.linalg.vector_norm(W_dec, dim=1))
    return W_enc @ s, s @ b_enc, torch.linalg.inv(s) @ W_dec


@variant("unit_norm_decoder")
def unit_by_normalize(W_enc, b_enc, W_dec):
    s = W_dec.square().sum(1).sqrt()
    return torch.einsum("dl,l->dl", W_enc, s), s * b_enc, F.normalize(W_dec, dim=1)


@variant("l0")
def l0_by_count(acts):
    return torch.count_nonzero(acts).item() / len(acts)


@variant("l0")
def l0_by_sign(acts):
    return acts.sign().sum(1).double().mean()


@variant("dead_share")
def dead_by_the_largest(acts):
    return (acts.max(0).values == 0).double().mean()


@variant("dead_share")
def dead_one_by_one(acts):
    return sum(not any(column) for column in acts.T.tolist()) / acts.shape[1]


@variant("explained_variance")
def explained_in_double(x, out):
    x, out = x.double(), out.double()
    return 1 - F.mse_loss(out, x) / x.var(0, unbiased=False).mean()


@variant("explained_variance")
def explained_by_norms(x, out):
    error = torch.linalg.matrix_norm(x - out) ** 2
    total = torch.linalg.matrix_norm(x - x.mean(0, keepdim=True)) ** 2
    return ((total - error) / total).item()


@variant("loss_recovered")
def recovered_by_a_loop(model, tokens, layer, replacement):
    losses = []
    for new in (None, replacement, 0 * replacement):
        def put(x, hook, new=new):
            return x if new is None else new

        logits = model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{layer}.hook_mlp_out", put)])
        logp = logits.double().log_softmax(-1)[:, :-1]
        losses.append(-logp.gather(-1, tokens[:, 1:, None]).mean())
    plain, new, zeros = losses
    return (zeros - new) / (zeros - plain)


@variant("loss_recovered")
def recovered_text_by_text(model, tokens, layer, replacement):
    def loss(scale):
        total = 0.0
        for row, new in zip(tokens, replacement):
            def put(x, hook):
                return None if scale is None else scale * new[None]

            with model.hooks([(f"blocks.{layer}.hook_mlp_out", put)]):
                total += F.cross_entropy(model(row[None])[0, :-1], row[1:]).item()
        return total / len(tokens)

    return (loss(0.0) - loss(1.0)) / (loss(0.0) - loss(None))


@variant("best_f1_per_label")
def best_by_precision_and_recall(acts, labels, share):
    fires = (acts > share * acts.max(0, keepdim=True).values).double()
    hits = fires.T @ labels.double()
    precision = hits / fires.sum(0).clamp(min=1)[:, None]
    recall = hits / labels.double().sum(0).clamp(min=1)
    f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    return f1.argmax(0), f1.amax(0)


@variant("best_f1_per_label")
def best_one_by_one(acts, labels, share):
    latents, scores = [], []
    for has in labels.T:
        f1 = []
        for column in acts.T:
            fires = column > share * column.max()
            n = int(fires.sum() + has.sum())
            f1.append(2 * int((fires & has).sum()) / n if n else 0.0)
        latents.append(max(range(len(f1)), key=f1.__getitem__))
        scores.append(max(f1))
    return torch.tensor(latents), torch.tensor(scores)


@variant("class_latents")
def latents_in_another_order():
    found = {"builtin": (197, 2.7), "parameter": (491, 7.0), "newline": (1548, 5.2), "assigned": (1660, 6.0), "definition": (1856, 6.3)}
    return [(latent, name, above) for name, (latent, above) in found.items()]


@variant("class_latents")
def more_than_five_latents():
    return [(3, "string", 0.0), (491, "parameter", 7.2), (1856, "definition", 6.5), (1548, "newline", 5.4), (1660, "assigned", 5.9), (1265, "imported", 4.3)]


# Probes -------------------------------------------------------------------------------------


@variant("linear_probe")
def probe_by_lbfgs(x, y, l2):
    w, b = torch.zeros(x.shape[1], requires_grad=True), torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([w, b], max_iter=500, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(x @ w + b, y.to(x.dtype)) + l2 / 2 * w @ w
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return w.detach(), b.item()


@variant("linear_probe")
def probe_by_plain_descent(x, y, l2):
    """Nesterov's accelerated gradient, by hand."""
    X, t = torch.cat([x, torch.ones(len(x), 1)], 1).double(), y.double()
    penalty = torch.tensor([l2] * x.shape[1] + [0.0], dtype=torch.double)
    scale = X.pow(2).mean(0).sqrt()
    X, penalty = X / scale, penalty / scale**2
    rate = 1 / (0.25 * torch.linalg.eigvalsh(X.T @ X / len(X))[-1] + penalty.max())
    theta = ahead = torch.zeros(X.shape[1], dtype=torch.double)
    for step in range(3000):
        gradient = X.T @ ((X @ ahead).sigmoid() - t) / len(X) + penalty * ahead
        new = ahead - rate * gradient
        ahead = new + step / (step + 3) * (new - theta)
        theta = new
    theta = theta / scale
    return theta[:-1], theta[-1].item()


@variant("auroc")
def area_by_pairs(scores, y):
    difference = scores[y][:, None] - scores[~y]
    return ((difference.sign() + 1) / 2).mean().item()


@variant("auroc")
def area_by_ranks(scores, y):
    """Mann and Whitney's U, from mean ranks."""
    values, where, counts = scores.unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0) - (counts - 1) / 2)[where].double()
    n = int(y.sum())
    return (ranks[y].sum() - n * (n + 1) / 2) / (n * (len(y) - n))


@variant("sparse_probe")
def columns_of_standardised_data(x, y, k):
    z = ((x - x.mean(0)) / x.std(0).clamp(min=1e-6)).double()
    moved = torch.stack([z[y].mean(0), z[~y].mean(0)]).diff(dim=0)[0].abs()
    return moved.argsort(descending=True)[:k]


@variant("sparse_probe")
def columns_one_by_one(x, y, k):
    scores = []
    for column in x.double().T:
        spread = column.std().item()
        scores.append(abs(column[y].mean() - column[~y].mean()).item() / spread if spread > 1e-6 else 0.0)
    return torch.tensor(sorted(range(len(scores)), key=lambda i: -scores[i])[:k])


@variant("control_labels")
def control_by_bernoulli(tokens, d_vocab, share, generator):
    kinds = torch.bernoulli(torch.full((d_vocab,), share), generator=generator).bool()
    return kinds.index_select(0, tokens)


@variant("control_labels")
def control_by_a_set(tokens, d_vocab, share, generator):
    """Exactly a share of the kinds, at random."""
    chosen = set(torch.randperm(d_vocab, generator=generator)[: round(share * d_vocab)].tolist())
    return torch.tensor([t in chosen for t in tokens.tolist()])


# Transcoder ---------------------------------------------------------------------------------


@variant("transcoder")
def transcoder_inside_a_hook(model, tokens, layer, parts, error):
    """While the model runs: the stream is caught on its way to the MLP."""
    seen = {}

    def catch(x, hook):
        seen["x"] = model.blocks[layer].ln2(x)

    def put(true, hook):
        acts = F.relu((seen["x"] - parts["b_pre"]) @ parts["W_enc"] + parts["b_enc"])
        return true if error else acts @ parts["W_dec"] + parts["b_out"]

    hooks = [(f"blocks.{layer}.hook_resid_mid", catch), (f"blocks.{layer}.hook_mlp_out", put)]
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


@variant("transcoder")
def transcoder_by_hand_written_norm(model, tokens, layer, parts, error):
    _, cache = model.run_with_cache(tokens)
    h, ln = cache["resid_mid", layer], model.blocks[layer].ln2
    x = F.layer_norm(h, (h.shape[-1],), ln.w, ln.b, model.cfg.eps)
    acts = (x @ parts["W_enc"] + parts["b_enc"] - parts["b_pre"] @ parts["W_enc"]).clamp(min=0)
    out = acts @ parts["W_dec"] + parts["b_out"]
    miss = cache["mlp_out", layer] - out

    def put(x, hook):
        return out + miss * float(error)

    return model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{layer}.hook_mlp_out", put)])


@variant("head_to_latent")
def drive_by_a_projection(model, layer, W_enc):
    d = model.cfg.d_model
    reader = (torch.eye(d) - torch.ones(d, d) / d) @ torch.diag(model.blocks[layer].ln2.w) @ W_enc
    attn = model.blocks[layer].attn
    return torch.stack([(V @ O @ reader).square().sum(0).sqrt() for V, O in zip(attn.W_V, attn.W_O)])


@variant("head_to_latent")
def drive_through_the_head(model, layer, W_enc):
    """What a latent reads, carried back through the head, in double precision."""
    W_V, W_O = model.W_V[layer].double(), model.W_O[layer].double()
    W_O = W_O - W_O.mean(-1, keepdim=True)
    back = (W_O * model.blocks[layer].ln2.w.double()) @ W_enc.double()  # [n_heads d_head n_latents]
    return (W_V @ back).norm(dim=-2)


@variant("steer")
def steer_in_place(model, tokens, name, direction, dose, n):
    """The hook changes the activation it is given, and the texts grow in a table made beforehand."""

    def push(x, hook):
        x += (dose * direction).to(x.dtype)

    pos = tokens.shape[1]
    table = torch.cat([tokens, tokens.new_zeros(len(tokens), n)], dim=1)
    for i in range(pos, pos + n):
        table[:, i] = model.run_with_hooks(table[:, :i], fwd_hooks=[(name, push)])[:, -1].max(-1).indices
    return table[:, pos:]


@variant("steer")
def steer_one_text_at_a_time(model, tokens, name, direction, dose, n):
    new = []
    for text in tokens:
        for _ in range(n):
            logits = model.run_with_hooks(text[None], fwd_hooks=[(name, lambda x, hook: x.add(direction, alpha=dose))])
            text = torch.cat([text, logits[0, -1].argmax()[None]])
        new.append(text[-n:])
    return torch.stack(new)


@variant("splits")
def splits_by_loops(small, large, least):
    found = {}
    for i, a in enumerate(small.double()):
        cosines = [float(a @ b / (a.norm() * b.norm())) for b in large.double()]
        relatives = [j for j, c in enumerate(cosines) if c >= least]
        if len(relatives) > 1:
            found[i] = sorted(relatives, key=lambda j: cosines[j], reverse=True)
    return found


@variant("splits")
def splits_by_a_table(small, large, least):
    cosines = F.cosine_similarity(small[:, None], large[None], dim=-1)
    n_relatives = (cosines >= least).sum(1)
    ranked = cosines.sort(dim=1, descending=True).indices
    return {i: ranked[i, :k].tolist() for i, k in enumerate(n_relatives.tolist()) if k >= 2}
