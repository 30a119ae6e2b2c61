"""Other right answers to chapter 4, in other styles. Each must pass."""

import torch

from utils.checking import variant
from utils.model import get_act_name

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
def overlooked_as_a_list():
    return [0, 4]


@variant("overlooked_head")
def overlooked_as_a_tensor():
    return torch.tensor(0), torch.tensor(4)


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
