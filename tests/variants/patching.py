"""Other right answers to chapter 4, in other styles. Each must pass."""

import math

import torch

from circuits.checking import variant
from utils.materials.edges import edge_names
from utils.materials.prompts import draw_pairs
from utils.model import get_act_name
from utils.patching import LogitDiff, sweep
from utils.pretrained import load_model

# logit_diff ---------------------------------------------------------------------------------


@variant("logit_diff")
def diff_by_gather(logits, right, wrong):
    last = logits[:, -1]
    return (last.gather(1, right[:, None]) - last.gather(1, wrong[:, None])).squeeze(1)


@variant("logit_diff")
def diff_of_log_probabilities(logits, right, wrong):
    log_p = logits[:, -1].double().log_softmax(-1)
    return torch.stack([row[r] - row[w] for row, r, w in zip(log_p, right, wrong)])


# clean_and_corrupted ------------------------------------------------------------------------


@variant("clean_and_corrupted")
def by_exchanging_columns(model, template, names):
    """The corrupted tokens are the clean ones with two columns exchanged."""
    clean = model.to_tokens([template.format(first=a + b, second=c + d, query=a) for a, b, c, d in names])
    a, b, c, d = (model.to_tokens([name[i] for name in names], prepend_bos=False)[:, 0] for i in range(4))
    corrupted = clean.clone()
    for row in range(len(clean)):
        pairs = list(zip(clean[row].tolist(), clean[row, 1:].tolist()))
        corrupted[row, pairs.index((a[row], b[row]))] = c[row]
        corrupted[row, pairs.index((c[row], d[row]))] = a[row]
    return clean, corrupted, b, d


@variant("clean_and_corrupted")
def one_prompt_at_a_time(model, template, names):
    rows = []
    for a, b, c, d in names:
        clean = template.format(first=a + b, second=c + d, query=a)
        corrupted = template.format(first=c + b, second=a + d, query=a)
        texts = [model.to_tokens(text)[0] for text in (clean, corrupted)]
        rows.append(texts + [model.to_tokens(half)[0, 1] for half in (b, d)])
    return [torch.stack(column) for column in zip(*rows)]


# changes_that_show --------------------------------------------------------------------------


@variant("changes_that_show")
def changes_from_a_table(head):
    return {"previous": ("swap_first",), "own": ("new_query", "swap_second")}[head]


@variant("changes_that_show")
def changes_as_a_set(head):
    shown = {"swap_first", "swap_second", "new_query"}
    return {"swap_first"} if head == "previous" else shown - {"swap_first"}


# zero_ablate --------------------------------------------------------------------------------


@variant("zero_ablate")
def zero_by_a_mask(model, tokens, name, head=None):
    def ablate(x, hook):
        if head is None:
            return torch.zeros_like(x)
        keep = torch.ones(x.shape[2])
        keep[head] = 0
        return x * keep[:, None]

    return model.run_with_hooks(tokens, fwd_hooks=[(name, ablate)])


@variant("zero_ablate")
def zero_in_place(model, tokens, name, head=None):
    def ablate(x, hook):
        if head is None:
            x.zero_()
        else:
            x[:, :, head] = 0

    with torch.no_grad(), model.hooks([(name, ablate)]):
        return model(tokens)


# mean_ablate --------------------------------------------------------------------------------


@variant("mean_ablate")
def mean_by_a_loop(model, tokens, name, reference, head=None):
    total = 0
    for row in reference:
        total = total + model.run_with_cache(row[None])[1][name][0]
    mean = total / len(reference)

    def ablate(x, hook):
        new = mean.expand_as(x).clone()
        if head is not None:
            others = [h for h in range(x.shape[2]) if h != head]
            new[:, :, others] = x[:, :, others]
        return new

    return model.run_with_hooks(tokens, fwd_hooks=[(name, ablate)])


@variant("mean_ablate")
def mean_in_place(model, tokens, name, reference, head=None):
    kept = {}

    def keep(x, hook):
        kept["mean"] = x.mean(0, keepdim=True)

    def ablate(x, hook):
        if head is None:
            x[:] = kept["mean"]
        else:
            x[:, :, head] = kept["mean"][:, :, head]

    with torch.no_grad():
        model.run_with_hooks(reference, fwd_hooks=[(name, keep)])
        return model.run_with_hooks(tokens, fwd_hooks=[(name, ablate)])


# resample_ablate ----------------------------------------------------------------------------


@variant("resample_ablate")
def resample_by_where(model, tokens, name, other, head=None):
    _, cache = model.run_with_cache(other)

    def ablate(x, hook):
        if head is None:
            return cache[name]
        here = (torch.arange(x.shape[2]) == head)[:, None]
        return torch.where(here, cache[name], x)

    return model.run_with_hooks(tokens, fwd_hooks=[(name, ablate)])


@variant("resample_ablate")
def resample_prompt_by_prompt(model, tokens, name, other, head=None):
    rows = []
    for row, source in zip(tokens, other):
        new = model.run_with_cache(source[None], names_filter=[name])[1][name]

        def ablate(x, hook, new=new):
            x = x.clone()
            if head is None:
                x[:] = new
            else:
                x[:, :, head] = new[:, :, head]
            return x

        rows.append(model.run_with_hooks(row[None], fwd_hooks=[(name, ablate)])[0])
    return torch.stack(rows)


# alarms -------------------------------------------------------------------------------------


@variant("alarms")
def alarms_by_what_differs(kind):
    found = ["zero"]
    if kind != "constant":
        found += ["other", "mean"]
    if kind == "carrier":
        found.append("twin")
    return found


@variant("alarms")
def alarms_as_tuples(kind):
    n = {"constant": 1, "shared": 3, "carrier": 4}[kind]
    return ("zero", "mean", "other", "twin")[:n]


# direct_logit_attribution -------------------------------------------------------------------


@variant("direct_logit_attribution")
def attribution_by_loops(cache, model, right, wrong):
    cfg, n = model.cfg, len(right)
    embedding, heads = torch.zeros(n), torch.zeros(n, cfg.n_layers, cfg.n_heads)
    for i in range(n):
        u = model.W_U[:, right[i]] - model.W_U[:, wrong[i]]
        embedding[i] = cache["blocks.0.hook_resid_pre"][i, -1] @ u
        for layer in range(cfg.n_layers):
            for head in range(cfg.n_heads):
                heads[i, layer, head] = cache["z", layer][i, -1, head] @ model.W_O[layer, head] @ u
    return embedding, heads


@variant("direct_logit_attribution")
def attribution_through_logits(cache, model, right, wrong):
    prompt = torch.arange(len(right))

    def diff(logits):
        return logits[prompt, ..., right] - logits[prompt, ..., wrong]

    results = [cache["result", layer][:, -1] for layer in range(model.cfg.n_layers)]
    return [diff(cache["hook_embed"][:, -1] @ model.W_U), diff(torch.stack(results, 1).double() @ model.W_U.double())]


# logit_lens ---------------------------------------------------------------------------------


@variant("logit_lens")
def lens_by_adding_up(cache, model):
    stream = cache["hook_embed"]
    out = [stream @ model.W_U]
    for layer in range(model.cfg.n_layers):
        stream = stream + cache["attn_out", layer]
        out.append(stream @ model.W_U)
    return torch.stack(out)


@variant("logit_lens")
def lens_through_the_unembedding(cache, model):
    after = [cache[get_act_name("resid_post", layer)] for layer in range(model.cfg.n_layers)]
    return torch.stack([model.unembed(stream) for stream in (cache["hook_embed"], *after)])


# activation_patch ---------------------------------------------------------------------------


@variant("activation_patch")
def patch_by_a_mask(model, corrupted, clean_cache, name, pos=None, head=None):
    clean = clean_cache[name]
    mask = torch.zeros(clean.shape, dtype=torch.bool)
    if pos is None and head is None:
        mask[:] = True
    elif head is None:
        mask[:, pos] = True
    elif pos is None:
        mask[:, :, head] = True
    else:
        mask[:, pos, head] = True
    return model.run_with_hooks(corrupted, fwd_hooks=[(name, lambda x, hook: torch.where(mask, clean, x))])


@variant("activation_patch")
def patch_in_place(model, corrupted, clean_cache, name, pos=None, head=None):
    def patch(x, hook):
        positions = range(x.shape[1]) if pos is None else [pos]
        for p in positions:
            if head is None:
                x[:, p] = clean_cache[hook.name][:, p]
            else:
                x[:, p, head] = clean_cache[hook.name][:, p, head]

    with torch.no_grad(), model.hooks([(name, patch)]):
        return model(corrupted)


# patch_sweep --------------------------------------------------------------------------------


@variant("patch_sweep")
def sweep_by_masks(model, clean, corrupted, right, wrong, kind):
    def mean_diff(logits):
        last = logits[:, -1].double()
        return float((last.gather(1, right[:, None]) - last.gather(1, wrong[:, None])).mean())

    logits, cache = model.run_with_cache(clean)
    top, bottom = mean_diff(logits), mean_diff(model(corrupted))
    table = []
    for layer in range(model.cfg.n_layers):
        source = cache[kind, layer]
        cells = []
        for cell in range(source.shape[1 if kind == "resid_pre" else 2]):
            mask = torch.zeros_like(source)
            if kind == "resid_pre":
                mask[:, cell] = 1
            else:
                mask[:, :, cell] = 1

            def mix(x, hook, mask=mask, source=source):
                return mask * source + (1 - mask) * x

            patched = mean_diff(model.run_with_hooks(corrupted, fwd_hooks=[(get_act_name(kind, layer), mix)]))
            cells.append((patched - bottom) / (top - bottom))
        table.append(cells)
    return torch.tensor(table)


@variant("patch_sweep")
def sweep_all_cells_in_one_batch(model, clean, corrupted, right, wrong, kind):
    n, prompts = len(clean), torch.arange(len(clean))

    def mean_diffs(logits):
        last = logits[:, -1].reshape(-1, n, logits.shape[-1])
        return (last[:, prompts, right] - last[:, prompts, wrong]).mean(1)

    logits, cache = model.run_with_cache(clean)
    rows = []
    for layer in range(model.cfg.n_layers):
        source = cache[kind, layer]
        n_cells = source.shape[1] if kind == "resid_pre" else source.shape[2]

        def patch(x, hook, source=source, n_cells=n_cells):
            x = x.clone().reshape(n_cells, n, *x.shape[1:])
            for cell in range(n_cells):
                if kind == "resid_pre":
                    x[cell, :, cell] = source[:, cell]
                else:
                    x[cell, :, :, cell] = source[:, :, cell]
            return x.flatten(0, 1)

        many = corrupted.repeat(n_cells, 1)
        rows.append(mean_diffs(model.run_with_hooks(many, fwd_hooks=[(get_act_name(kind, layer), patch)])))
    top, bottom = mean_diffs(logits), mean_diffs(model(corrupted))
    return (torch.stack(rows) - bottom) / (top - bottom)


# overlooked_head ----------------------------------------------------------------------------


@variant("overlooked_head")
def overlooked_by_a_loop_over_heads(model, clean, corrupted, right, wrong):
    """One run a head; a sort of a list in the end."""
    rows = torch.arange(len(right))

    def score(logits):
        return float((logits[rows, -1, right] - logits[rows, -1, wrong]).double().mean())

    end, start = score(model(clean)), score(model(corrupted))
    found = []
    for layer in range(model.cfg.n_layers):
        name = get_act_name("z", layer)
        here, there = (model.run_with_cache(x, names_filter=name)[1][name] for x in (clean, corrupted))
        for head in range(model.cfg.n_heads):
            change = (here - there)[:, -1, head] @ model.W_O[layer, head] @ model.W_U
            direct = float((change[rows, right] - change[rows, wrong]).mean()) / (end - start)

            def patch(z, hook, head=head, here=here):
                return torch.cat([z[:, :, :head], here[:, :, head : head + 1], z[:, :, head + 1 :]], dim=2)

            if -0.05 < direct < 0.05:
                found.append((score(model.run_with_hooks(corrupted, fwd_hooks=[(name, patch)])), layer, head))
    return list(max(found)[1:])


@variant("overlooked_head")
def overlooked_by_the_fast_sweep(model, clean, corrupted, right, wrong):
    metric = LogitDiff(right, wrong)
    span = metric(model(clean)) - metric(model(corrupted))
    shares = sweep(model, clean, corrupted, metric, "z") - metric(model(corrupted))
    zs = [get_act_name("z", layer) for layer in range(model.cfg.n_layers)]
    here, there = (model.run_with_cache(x, names_filter=zs)[1] for x in (clean, corrupted))
    change = torch.stack([here[z][:, -1] - there[z][:, -1] for z in zs], dim=1)  # [batch layer head d_head]
    direction = model.W_U[:, right] - model.W_U[:, wrong]
    direct = torch.einsum("blhe,lhem,mb->lh", change, model.W_O, direction) / len(right) / span
    order = sorted(((float(s), i) for i, s in enumerate(shares.flatten())), reverse=True)
    first = next(i for _, i in order if abs(float(direct.flatten()[i])) < 0.05)
    return first // model.cfg.n_heads, first % model.cfg.n_heads


# ways_that_find -----------------------------------------------------------------------------


@variant("ways_that_find")
def ways_by_running_the_numbers(circuit):
    def outcome(a, b):
        return {"or": max(a, b), "and": min(a, b), "sum": (a + b) / 2}[circuit]

    found = []
    if outcome(1, 0) != outcome(0, 0):
        found.append("denoise")
    if outcome(0, 1) != outcome(1, 1):
        found.append("noise")
    return found


@variant("ways_that_find")
def ways_as_a_set(circuit):
    return {"denoise", "noise"} - {"or": {"noise"}, "and": {"denoise"}, "sum": set()}[circuit]


# Part 2: connections ------------------------------------------------------------------------


def _patched_value(model, corrupted, name, new, head, right, wrong):
    mask = torch.zeros(model.cfg.n_heads, 1, dtype=torch.bool)
    mask[head] = True
    logits = model.run_with_hooks(corrupted, fwd_hooks=[(name, lambda x, hook: torch.where(mask, new, x))])
    return LogitDiff(right, wrong)(logits)


@variant("input_that_lights_up")
def by_what_changes(change):
    if change == "new_query":
        return "q"  # what is looked for
    return "k" if change.endswith("first") else "v"


@variant("input_that_lights_up")
def by_measuring(change):
    """Runs the model."""
    model = load_model("two_layer").requires_grad_(False)
    clean, corrupted, right, wrong = draw_pairs(model, 4, torch.Generator().manual_seed(5), change)
    _, cache = model.run_with_cache(clean)
    metric, effect = LogitDiff(right, wrong), {}
    for kind in "qkv":
        name = get_act_name(kind, 1)
        effect[kind] = metric(model.run_with_hooks(corrupted, fwd_hooks=[(name, lambda x, hook: cache[hook.name])]))
    return max(effect, key=effect.get)


@variant("patch_qkv")
def with_a_mask(model, clean, corrupted, right, wrong, layer):
    metric = LogitDiff(right, wrong)
    logits, cache = model.run_with_cache(clean)
    end, start = float(metric(logits)), float(metric(model(corrupted)))
    rows = []
    for kind in ("q", "k", "v"):
        name = get_act_name(kind, layer)
        values = [
            _patched_value(model, corrupted, name, cache[name], head, right, wrong) for head in range(model.cfg.n_heads)
        ]
        rows.append(torch.stack(values).double())
    return (torch.stack(rows) - start) / (end - start)


@variant("patch_qkv")
def in_place(model, clean, corrupted, right, wrong, layer):
    """Writes into the activation, without a copy."""
    _, cache = model.run_with_cache(clean, names_filter=lambda name: name[-1] in "qkv")
    metric, result = LogitDiff(right, wrong), torch.empty(3, model.cfg.n_heads)
    with torch.no_grad():
        for row, kind in enumerate("qkv"):
            for head in range(model.cfg.n_heads):

                def write(x, hook, head=head):
                    x[:, :, head] = cache[hook.name][:, :, head]

                logits = model.run_with_hooks(corrupted, fwd_hooks=[(get_act_name(kind, layer), write)])
                result[row, head] = metric(logits)
        start, end = metric(model(corrupted)), metric(model(clean))
    return (result - start) / (end - start)


@variant("attribution_patch")
def with_backward(model, clean, corrupted, right, wrong):
    """Retained gradients and `backward`, as most people write it."""
    wanted = [n for n in model.hook_names() if n.endswith(("resid_pre", "_q", "_k", "_v", "_z"))]
    _, there = model.run_with_cache(clean, names_filter=wanted)
    here = {}

    def keep(x, hook):
        x.requires_grad_(True)
        x.retain_grad()
        here[hook.name] = x
        return x

    LogitDiff(right, wrong)(model.run_with_hooks(corrupted, fwd_hooks=[(n, keep) for n in wanted])).backward()
    found = {}
    for name, x in here.items():
        change = there[name] - x.detach()
        letters = "bpd,bpd->p" if x.ndim == 3 else "bphd,bphd->ph"
        found[name] = torch.einsum(letters, change, x.grad)
    return found


@variant("attribution_patch")
def with_added_zeros(model, clean, corrupted, right, wrong):
    """Gradients by zeros that are added to each activation."""
    wanted = [get_act_name(kind, i) for i in range(model.cfg.n_layers) for kind in ("z", "v", "k", "q", "resid_pre")]
    (_, there), (_, here) = (model.run_with_cache(x, names_filter=wanted) for x in (clean, corrupted))
    zeros = {name: torch.zeros_like(here[name], requires_grad=True) for name in wanted}
    logits = model.run_with_hooks(corrupted, fwd_hooks=[(n, lambda x, hook: x + zeros[hook.name]) for n in wanted])
    last = logits[:, -1]
    total = (last.gather(1, right[:, None]) - last.gather(1, wrong[:, None])).sum()
    slopes = torch.autograd.grad(total, list(zeros.values()))
    return {
        name: (slope * (there[name] - here[name])).sum(-1).mean(0).double()
        for name, slope in zip(zeros, slopes, strict=True)
    }


@variant("k_fix")
def by_the_closed_form(model, clean, corrupted, right, wrong):
    """The new weight is p e^m / (1 + p (e^m - 1)), and all others shrink alike: no loop over places."""
    wanted = [n for n in model.hook_names() if n.endswith(("_q", "_k", "_pattern"))]
    _, there = model.run_with_cache(clean, names_filter=wanted)
    here = {}
    logits = model.run_with_hooks(corrupted, fwd_hooks=[(n, lambda x, hook: here.update({hook.name: x.requires_grad_()})) for n in wanted])
    total = LogitDiff(right, wrong)(logits)
    found = {}
    for layer in range(model.cfg.n_layers):
        q, k, p = (here[get_act_name(kind, layer)] for kind in ("q", "k", "pattern"))
        g = torch.autograd.grad(total, p, retain_graph=True)[0]
        with torch.no_grad():
            moved = torch.einsum("bdhe,bshe->bhds", q, there["k", layer] - k).double() / model.cfg.d_head**0.5
            grown = p * moved.expm1()
            effect = grown / (1 + grown) * (g - (p * g).sum(-1, keepdim=True))
        found[get_act_name("k", layer)] = effect.sum((0, 2)).T
    return found


@variant("k_fix")
def key_by_key_through_the_model(model, clean, corrupted, right, wrong):
    """Each pattern from a run with that key patched."""
    _, there = model.run_with_cache(clean, names_filter=lambda n: n.endswith("_k"))
    patterns = [get_act_name("pattern", layer) for layer in range(model.cfg.n_layers)]
    seen = {}
    logits = model.run_with_hooks(corrupted, fwd_hooks=[(n, lambda x, hook: seen.update({hook.name: x.requires_grad_()})) for n in patterns])
    slopes = torch.autograd.grad(LogitDiff(right, wrong)(logits), list(seen.values()))
    found = {}
    for layer, (pattern, slope) in enumerate(zip(patterns, slopes, strict=True)):
        name, table = get_act_name("k", layer), torch.zeros(clean.shape[1], model.cfg.n_heads)
        for place in range(clean.shape[1]):

            def patch(k, hook, place=place):
                k = k.clone()
                k[:, place] = there[hook.name][:, place]  # heads do not disturb each other's patterns
                return k

            with model.hooks([(name, patch)]), torch.no_grad():
                after = model.run_with_cache(corrupted, names_filter=pattern)[1][pattern]
            table[place] = ((after - seen[pattern].detach()) * slope).sum((0, 2, 3))
        found[name] = table
    return found


@variant("where_attribution_fails")
def in_another_order():
    return ((1, 13), (0, 12))


@variant("where_attribution_fails")
def as_a_tensor():
    return torch.tensor([[0, 12], [1, 13]])


@variant("estimate_over_exact")
def through_logits(before, after):
    a, b = torch.logit(torch.tensor([before, after], dtype=torch.float64))
    return torch.sigmoid(a) * torch.sigmoid(-a) * (b - a) / (after - before)


@variant("estimate_over_exact")
def by_logs(before, after):
    step = math.log(after) - math.log1p(-after) - math.log(before) + math.log1p(-before)
    return (before - before**2) * step / (after - before)


@variant("causal_trace")
def noise_by_a_loop(model, tokens, subject_positions, noise, answer):
    """In place, position by position; the stream restored by a mask."""
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("resid_pre"))

    def noisy(x, hook):
        for i, pos in enumerate(subject_positions):
            x[:, pos] += noise[:, i]

    def p(logits):
        return torch.exp(logits[:, -1].log_softmax(-1)).gather(1, answer[:, None]).squeeze(1)

    n_pos = tokens.shape[1]
    with torch.no_grad():
        clean = p(model(tokens))
        corrupted = p(model.run_with_hooks(tokens, fwd_hooks=[("hook_embed", noisy)]))
        cells = []
        for layer in range(model.cfg.n_layers):
            for pos in range(n_pos):
                here = (torch.arange(n_pos) == pos)[:, None]
                name = get_act_name("resid_pre", layer)
                restore = (name, lambda x, hook, here=here: torch.where(here, cache[hook.name], x))
                cells.append(p(model.run_with_hooks(tokens, fwd_hooks=[("hook_embed", noisy), restore])).mean())
    return clean, corrupted, torch.stack(cells).view(-1, n_pos)


@variant("causal_trace")
def all_positions_in_one_batch(model, tokens, subject_positions, noise, answer):
    """Every position's restoration of a layer in one run."""
    (batch, n_pos), rows = tokens.shape, torch.arange(len(answer))
    full = torch.zeros(batch, n_pos, model.cfg.d_model)
    full[:, subject_positions] = noise
    logits, cache = model.run_with_cache(tokens)
    noisy = model.run_with_hooks(tokens, fwd_hooks=[("hook_embed", lambda x, hook: x + full)])
    cells = []
    for layer in range(model.cfg.n_layers):
        name = get_act_name("resid_pre", layer)

        def restore(x, hook):
            x = x.unflatten(0, (n_pos, batch)).clone()
            for pos in range(n_pos):
                x[pos, :, pos] = cache[hook.name][:, pos]
            return x.flatten(0, 1)

        hooks = [("hook_embed", lambda x, hook: x + full.repeat(n_pos, 1, 1)), (name, restore)]
        out = model.run_with_hooks(tokens.repeat(n_pos, 1), fwd_hooks=hooks)[:, -1].softmax(-1)
        cells.append(out.unflatten(0, (n_pos, batch))[:, rows, answer].mean(1))
    p = [x[:, -1].softmax(-1)[rows, answer] for x in (logits, noisy)]
    return p[0], p[1], torch.stack(cells)


@variant("path_patch")
def by_freezing_every_head(model, clean, corrupted, sender, receiver):
    """The paper's way: a run with the clean sender in which every other head is frozen; then one in
    which the receiver's input is what it was there."""
    zs = [get_act_name("z", layer) for layer in range(model.cfg.n_layers)]
    _, there = model.run_with_cache(clean, names_filter=zs)
    _, here = model.run_with_cache(corrupted, names_filter=zs)

    def freeze(z, hook):
        z = here[hook.name].clone()
        if hook.layer() == sender[0]:
            z[:, :, sender[1]] = there[hook.name][:, :, sender[1]]
        return z

    name = get_act_name(receiver[2], receiver[0])
    with model.hooks([(z, freeze) for z in zs]):
        _, reached = model.run_with_cache(corrupted, names_filter=name)

    def patch(x, hook):
        x[:, :, receiver[1]] = reached[name][:, :, receiver[1]]

    return model.run_with_hooks(corrupted, fwd_hooks=[(name, patch)])


@variant("path_patch")
def by_the_stream_that_is_read(model, clean, corrupted, sender, receiver):
    """From the whole outputs of the heads (`result`)."""
    (s_layer, s_head), (layer, head, kind) = sender, receiver
    name, at = get_act_name("result", s_layer), get_act_name(kind, layer)
    outs = [model.run_with_cache(x, names_filter=[name])[1][name][:, :, s_head] for x in (clean, corrupted)]
    W = getattr(model.blocks[layer].attn, f"W_{kind.upper()}")[head]
    extra = torch.zeros(*clean.shape, model.cfg.n_heads, model.cfg.d_head)
    extra[:, :, head] = torch.einsum("bpd,de->bpe", outs[0] - outs[1], W)
    return model.run_with_hooks(corrupted, fwd_hooks=[(at, lambda x, hook: x + extra)])


@variant("edge_attribution")
def from_gradients_at_the_stream(model, clean, corrupted, right, wrong):
    """By einsum, over all heads of a layer at once."""
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    inputs = [get_act_name(kind, layer) for layer in range(n_layers) for kind in "qkv"]
    keep_zeros = {}

    def add_zeros(x, hook):
        keep_zeros[hook.name] = torch.zeros_like(x, requires_grad=True)
        return x + keep_zeros[hook.name]

    out = model.run_with_hooks(corrupted, fwd_hooks=[(name, add_zeros) for name in inputs])
    LogitDiff(right, wrong)(out).backward()
    writers, changes, found = ["embed"], [model.W_E[clean] - model.W_E[corrupted]], {}
    caches = [model.run_with_cache(x)[1] for x in (clean, corrupted)]
    for layer in range(n_layers):
        deltas = torch.stack(changes)
        for kind in "qkv":
            slope = keep_zeros[get_act_name(kind, layer)].grad
            W = getattr(model, f"W_{kind.upper()}")[layer]
            table = torch.einsum("wbpd,hde,bphe->wh", deltas, W, slope)
            for w, writer in enumerate(writers):
                for head in range(n_heads):
                    found[f"{writer}->{layer}.{head}.{kind}"] = float(table[w, head])
        dz = caches[0]["z", layer] - caches[1]["z", layer]
        changes += list(torch.einsum("bphe,hed->hbpd", dz, model.W_O[layer]))
        writers += [f"{layer}.{head}" for head in range(n_heads)]
    last = torch.stack(changes)[:, :, -1] @ model.W_U
    rows = torch.arange(len(clean))
    for writer, logits in zip(writers, last, strict=True):
        found[f"{writer}->logits"] = (logits[rows, right] - logits[rows, wrong]).mean()
    return found


@variant("edge_attribution")
def edge_by_edge(model, clean, corrupted, right, wrong):
    """Each edge by its name, in one loop; results as float64 tensors."""
    names = [n for n in model.hook_names() if n.endswith(("hook_q", "hook_k", "hook_v"))]
    here, slopes = {}, {}

    def keep(x, hook):
        here[hook.name] = x.requires_grad_()

    value = LogitDiff(right, wrong)(model.run_with_hooks(corrupted, fwd_hooks=[(n, keep) for n in names]))
    for name, slope in zip(here, torch.autograd.grad(value, list(here.values())), strict=True):
        slopes[name] = slope
    caches = [model.run_with_cache(x)[1] for x in (clean, corrupted)]
    change = {"embed": caches[0]["hook_embed"] - caches[1]["hook_embed"]}
    for layer in range(model.cfg.n_layers):
        result = caches[0]["result", layer] - caches[1]["result", layer]
        change.update({f"{layer}.{head}": result[:, :, head] for head in range(model.cfg.n_heads)})
    found = {}
    for edge in edge_names(model):
        writer, reader = edge.split("->")
        if reader == "logits":
            logits = change[writer] @ model.W_U
            found[edge] = LogitDiff(right, wrong)(logits).double()
        else:
            layer, head, kind = reader.split(".")
            W = getattr(model, f"W_{kind.upper()}")[int(layer), int(head)]
            slope = slopes[get_act_name(kind, int(layer))][:, :, int(head)]
            found[edge] = ((change[writer] @ W) * slope).sum().double()
    return found


@variant("unexplained_effect")
def layer_by_layer_without_hooks(model, circuit, clean, corrupted, right, wrong):
    """A forward pass of its own, in which each reader sums what its edges carry."""
    circuit, n_pos, scale = set(circuit), clean.shape[1], model.cfg.d_head**-0.5
    W_pos, mask = model.W_pos[:n_pos], torch.full((n_pos, n_pos), -torch.inf).triu(1)

    def run(tokens, other):
        said = {"embed": model.W_E[tokens]}

        def read(reader, writers):
            return sum(said[w] if other is None or f"{w}->{reader}" in circuit else other[w] for w in writers)

        for layer in range(model.cfg.n_layers):
            writers = list(said)
            for head in range(model.cfg.n_heads):
                x_q, x_k, x_v = (read(f"{layer}.{head}.{kind}", writers) for kind in "qkv")
                q, k = (x_q + W_pos) @ model.W_Q[layer, head], (x_k + W_pos) @ model.W_K[layer, head]
                pattern = (q @ k.transpose(1, 2) * scale + mask).softmax(-1)
                said[f"{layer}.{head}"] = pattern @ (x_v @ model.W_V[layer, head]) @ model.W_O[layer, head]
        return LogitDiff(right, wrong)(read("logits", list(said)) @ model.W_U), said

    end, _ = run(clean, None)
    start, said = run(corrupted, None)
    got, _ = run(clean, said)
    return (end - got) / (end - start)


@variant("unexplained_effect")
def outside_edges_taken_back(model, circuit, clean, corrupted, right, wrong):
    """A run over the clean text from which the edges outside are taken back, by hooks on `result`."""
    metric, news = LogitDiff(right, wrong), {"embed": model.W_E[clean] - model.W_E[corrupted]}
    start_logits, old = model.run_with_cache(corrupted)

    def read(x, hook):
        layer, kind = hook.layer(), hook.name[-1]
        W = getattr(model, f"W_{kind.upper()}")[layer]
        rows = []
        for head in range(model.cfg.n_heads):
            senders = [news[w] for w in news if f"{w}->{layer}.{head}.{kind}" in circuit]
            rows.append(old[hook.name][:, :, head] + (sum(senders) @ W[head] if senders else 0))
        return torch.stack(rows, dim=2)

    def write(result, hook):
        layer = hook.layer()
        news.update({f"{layer}.{h}": result[:, :, h] - old["result", layer][:, :, h] for h in range(model.cfg.n_heads)})

    hooks = []
    for layer in range(model.cfg.n_layers):
        hooks += [(get_act_name(kind, layer), read) for kind in "qkv"] + [(get_act_name("result", layer), write)]
    model.run_with_hooks(clean, fwd_hooks=hooks)
    heard = sum((news[w] for w in news if f"{w}->logits" in circuit), torch.zeros(()))
    got, end, start = metric(start_logits + heard @ model.W_U if heard.ndim else start_logits), metric(model(clean)), metric(start_logits)
    return float((end - got) / (end - start))


@variant("smallest_circuit")
def eleven_edges_in_another_order():
    return (
        "1.6->logits", "1.3->logits", "0.6->1.6.q", "0.6->1.3.q", "0.0->1.6.q", "0.0->1.3.q", "embed->1.6.q",
        "embed->1.3.q", "embed->0.6.v", "embed->0.0.v", "1.1->logits",
    )  # fmt: skip


@variant("smallest_circuit")
def as_a_set():
    heads = ["1.3", "1.6"]
    links = {f"{early}->{late}.q" for early in ("0.0", "0.6", "embed") for late in heads}
    return links | {f"{head}->logits" for head in heads} | {"embed->0.0.v", "embed->0.6.v"}


@variant("patch_sweep")
def sweep_into_lists(model, clean, corrupted, right, wrong, kind):
    return sweep_by_masks(model, clean, corrupted, right, wrong, kind).tolist()


@variant("patch_qkv")
def shares_as_lists(model, clean, corrupted, right, wrong, layer):
    return with_a_mask(model, clean, corrupted, right, wrong, layer).tolist()
