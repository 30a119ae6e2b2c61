"""Other right answers to chapter 8, which must pass."""

import copy

import torch
import torch.nn.functional as F

from circuits.checking import variant
from circuits.mystery import MYSTERIES, judge
from circuits.mystery.family import draw_plan
from utils.circuit_runs import run_circuit
from utils.materials.edges import edge_names
from utils.model import get_act_name


def gap(logits, right, wrong):
    last = logits[:, -1].double()
    return (last.gather(1, right[:, None]) - last.gather(1, wrong[:, None])).mean()


@variant("make_prompts")
def prompts_step_by_step(template, fields, change):
    made = []
    for f, after in zip(fields, [*fields[1:], fields[0]]):
        f = dict(f)
        if change == "giver":
            f["giver"] = ({f["first"], f["second"]} - {f["giver"]}).pop()
        answer = ({f["first"], f["second"]} - {f["giver"]}).pop()
        if change == "order":
            f["first"], f["second"] = f["second"], f["first"]
        elif change == "scene":
            f["place"], f["thing"] = after["place"], after["thing"]
        elif change == "third":
            f["giver"], answer = f["third"], ""
        made.append((template.format_map(f), answer))
    return made


@variant("make_prompts")
def prompts_as_lists(template, fields, change):
    return [list(prompt) for prompt in prompts_step_by_step(template, fields, change)]


@variant("duplicate_token")
def looks_by_loop(pattern, there, back):
    rows = [pattern[b, :, i, j].double() for b, (i, j) in enumerate(zip(there.tolist(), back.tolist()))]
    return torch.stack(rows).mean(0)


@variant("duplicate_token")
def looks_by_one_hot(pattern, there, back):
    n = pattern.shape[-1]
    return torch.einsum("bhds,bd,bs->h", pattern, F.one_hot(there, n).float(), F.one_hot(back, n).float()) / len(pattern)


@variant("name_mover")
def moves_by_loop(model, cache, source, direction):
    table = torch.zeros(model.cfg.n_layers, model.cfg.n_heads, dtype=torch.double)
    for layer in range(model.cfg.n_layers):
        for b, s in enumerate(source.tolist()):
            u = model.W_O[layer].double() @ direction[b].double()  # [n_heads d_head]
            table[layer] += cache["pattern", layer][b, :, -1, s] * (cache["v", layer][b, s].double() * u).sum(-1) / len(source)
    return table


@variant("name_mover")
def moves_by_result(model, cache, source, direction):
    rows = torch.arange(len(source))
    tables = []
    for layer in range(model.cfg.n_layers):
        moved = (cache["v", layer][rows, source][:, :, None] @ model.W_O[layer])[:, :, 0]
        tables.append(((moved @ direction[:, :, None])[..., 0] * cache["pattern", layer][rows, :, -1, source]).mean(0))
    return torch.stack(tables)


@variant("copy_score")
def copies_by_rank(model, resid, names, layer, head, k):
    attn = model.blocks[layer].attn
    out = (model.blocks[layer].ln1(resid) @ attn.W_V[head] + attn.b_V[head]) @ attn.W_O[head]
    logits = model.ln_final(out) @ model.W_U + model.unembed.b_U
    larger = (logits > logits.gather(1, names[:, None])).sum(-1)
    return (larger < k).double().mean()


@variant("copy_score")
def copies_one_by_one(model, resid, names, layer, head, k):
    hits = []
    for x, name in zip(resid, names.tolist()):
        attn = model.blocks[layer].attn
        logits = model.unembed(model.ln_final((model.blocks[layer].ln1(x) @ attn.W_V[head] + attn.b_V[head]) @ attn.W_O[head]))
        hits.append(name in logits.sort(descending=True).indices[:k].tolist())
    return sum(hits) / len(hits)


@variant("s_inhibition")
def owed_by_recorded_patterns(model, clean, corrupted, mover, io, s):
    _, theirs = model.run_with_cache(corrupted)
    seen = {}

    def keep(x, hook):
        seen["A"] = x.detach().clone()

    def preference(*hooks):
        model.run_with_hooks(clean, fwd_hooks=[*hooks, (get_act_name("pattern", mover[0]), keep)])
        A = seen["A"][:, mover[1], -1].double()
        return (A.gather(1, io[:, None]) - A.gather(1, s[:, None])).mean().item()

    whole, table = preference(), torch.zeros(model.cfg.n_layers, model.cfg.n_heads)
    for layer in range(mover[0]):
        for head in range(model.cfg.n_heads):

            def put(z, hook, head=head):
                new = z.clone()
                new[:, -1, head, :] = theirs[hook.name][:, -1, head, :]
                return new

            table[layer, head] = whole - preference((get_act_name("z", layer), put))
    return table


@variant("s_inhibition")
def owed_in_double(model, clean, corrupted, mover, io, s):
    return owed_by_recorded_patterns(copy.deepcopy(model).double(), clean, corrupted, mover, io, s).double()


@variant("backups")
def backups_by_result(model, tokens, knocked, direction):
    wanted = lambda name: name.endswith("hook_z")  # noqa: E731
    _, before = model.run_with_cache(tokens, names_filter=wanted)
    hooks = []
    for layer, head in knocked:

        def out(z, hook, head=head):
            new = z.clone()
            new[:, :, head] = before[hook.name].mean(0)[:, head]
            return new

        hooks.append((get_act_name("z", layer), out))
    with model.hooks(hooks):
        _, after = model.run_with_cache(tokens, names_filter=wanted)

    def writes(cache):
        rows = [torch.einsum("bhe,hed->bhd", cache["z", i][:, -1], model.W_O[i]) for i in range(model.cfg.n_layers)]
        return torch.stack([(row * direction[:, None]).sum(-1).mean(0) for row in rows])

    return writes(after) - writes(before)


@variant("backups")
def backups_prompt_by_prompt(model, tokens, knocked, direction):
    return backups_by_result(model, tokens, list(reversed(knocked)), direction).double()


@variant("edge_effects")
def effects_from_the_end(model, clean, corrupted, right, wrong):
    edges, found = edge_names(model), {}
    with torch.no_grad():
        whole = gap(run_circuit(model, edges, clean, corrupted), right, wrong)
        for i in reversed(range(len(edges))):
            found[edges[i]] = whole - gap(run_circuit(model, edges[:i] + edges[i + 1 :], clean, corrupted), right, wrong)
    return found


@variant("edge_effects")
def effects_by_strengths(model, clean, corrupted, right, wrong):
    gates = dict.fromkeys(edge_names(model), 1.0)
    whole = gap(model(clean), right, wrong)
    return {e: (whole - gap(run_circuit(model, gates | {e: 0.0}, clean, corrupted), right, wrong)).item() for e in gates}


@variant("strength_gradient")
def gradient_by_gates(model, clean, corrupted, right, wrong, strength):
    gates = {edge: torch.tensor(strength, requires_grad=True) for edge in edge_names(model)}
    gap(run_circuit(model, gates, clean, corrupted), right, wrong).backward()
    return {edge: 0.0 if gate.grad is None else gate.grad.item() for edge, gate in gates.items()}


@variant("strength_gradient")
def gradient_in_double(model, clean, corrupted, right, wrong, strength):
    return gradient_by_gates(copy.deepcopy(model).double(), clean, corrupted, right, wrong, strength)


@variant("integrated_edge_attribution")
def integrated_by_linspace(model, clean, corrupted, right, wrong, steps):
    ends = torch.linspace(0, 1, steps + 1)
    total = dict.fromkeys(edge_names(model), 0.0)
    for middle in ((ends[1:] + ends[:-1]) / 2).tolist():
        for edge, value in gradient_by_gates(model, clean, corrupted, right, wrong, middle).items():
            total[edge] += value / steps
    return total


@variant("integrated_edge_attribution")
def integrated_from_the_end(model, clean, corrupted, right, wrong, steps):
    each = [gradient_by_gates(model, clean, corrupted, right, wrong, 1 - (i + 0.5) / steps) for i in range(steps)]
    return {edge: torch.tensor([found[edge] for found in each]).mean() for edge in reversed(list(each[0]))}


@variant("greedy_pruning")
def pruning_by_strengths(model, clean, corrupted, right, wrong, threshold):
    gates = dict.fromkeys(edge_names(model), 1.0)
    value = gap(run_circuit(model, gates, clean, corrupted), right, wrong)
    for edge in list(gates)[::-1]:
        fewer = {e: g for e, g in gates.items() if e != edge}
        new = gap(run_circuit(model, fewer, clean, corrupted), right, wrong)
        if value < new + threshold:
            gates, value = fewer, new
    return list(gates)


@variant("greedy_pruning")
def pruning_with_a_set(model, clean, corrupted, right, wrong, threshold):
    out, value = set(), gap(model(clean), right, wrong)
    for edge in reversed(edge_names(model)):
        left = [e for e in edge_names(model) if e not in out and e != edge]
        new = gap(run_circuit(model, left, clean, corrupted), right, wrong)
        if value - new < threshold:
            out.add(edge)
            value = new
    return [e for e in edge_names(model) if e not in out]


@variant("faithfulness_curve")
def curve_as_a_tensor(model, ranked, sizes, clean, corrupted, right, wrong):
    low, high = gap(model(corrupted), right, wrong), gap(model(clean), right, wrong)
    values = [gap(run_circuit(model, dict.fromkeys(ranked[:n], 1.0), clean, corrupted), right, wrong) for n in sizes]
    return (torch.stack(values) - low) / (high - low)


@variant("faithfulness_curve")
def curve_from_what_is_missing(model, ranked, sizes, clean, corrupted, right, wrong):
    edges = edge_names(model)
    low, high = (gap(run_circuit(model, some, clean, corrupted), right, wrong) for some in ([], edges))
    found = []
    for n in sizes:
        value = gap(run_circuit(model, [e for e in edges if e in set(ranked[:n])], clean, corrupted), right, wrong)
        found.append(1 - float((high - value) / (high - low)))
    return found


@variant("area_by_log_size")
def area_by_loop(sizes, faithfulness):
    import math

    total = sum(
        math.log2(b / a) * (x + y) / 2 for a, b, x, y in zip(sizes, sizes[1:], faithfulness, faithfulness[1:])
    )
    return total / math.log2(sizes[-1] / sizes[0])


@variant("area_by_log_size")
def area_in_float32(sizes, faithfulness):
    x = torch.tensor(sizes).log10()
    y = torch.tensor(faithfulness)
    return ((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum() / (x[-1] - x[0])


@variant("precision_and_recall")
def shares_by_loop(found, truth):
    unique = list(dict.fromkeys(found))
    hits = sum(edge in truth for edge in unique)
    return (hits / len(unique) if unique else 0.0), hits / len(truth)


@variant("precision_and_recall")
def shares_as_tensors(found, truth):
    missed, false = set(truth) - set(found), set(found) - set(truth)
    precision = 1 - len(false) / len(set(found)) if found else 0.0
    return torch.tensor(precision), torch.tensor(1 - len(missed) / len(set(truth)))


@variant("completeness")
def completeness_by_faithfulness(model, circuit, knocked, clean, corrupted, right, wrong):
    low, high = gap(model(corrupted), right, wrong), gap(model(clean), right, wrong)

    def faithfulness(edges):
        return (gap(run_circuit(model, edges, clean, corrupted), right, wrong) - low) / (high - low)

    out = set(knocked)
    return (faithfulness(list(set(edge_names(model)) - out)) - faithfulness(list(set(circuit) - out))).abs()


@variant("completeness")
def completeness_by_strengths(model, circuit, knocked, clean, corrupted, right, wrong):
    gates = {e: float(e not in knocked) for e in edge_names(model)}
    some = {e: float(e in circuit and e not in knocked) for e in edge_names(model)}
    a, b = (gap(run_circuit(model, g, clean, corrupted), right, wrong) for g in (gates, some))
    return abs(float(a - b)) / abs(float(gap(model(clean), right, wrong) - gap(model(corrupted), right, wrong)))


@variant("minimality")
def minimality_by_strengths(model, circuit, clean, corrupted, right, wrong):
    gates = dict.fromkeys(circuit, 1.0)
    whole = gap(model(clean), right, wrong) - gap(model(corrupted), right, wrong)
    now = gap(run_circuit(model, gates, clean, corrupted), right, wrong)
    return {e: (now - gap(run_circuit(model, gates | {e: 0.0}, clean, corrupted), right, wrong)) / whole for e in circuit}


@variant("minimality")
def minimality_by_faithfulness(model, circuit, clean, corrupted, right, wrong):
    low, high = gap(model(corrupted), right, wrong), gap(model(clean), right, wrong)

    def faithfulness(edges):
        return float((gap(run_circuit(model, edges, clean, corrupted), right, wrong) - low) / (high - low))

    return {e: faithfulness(circuit) - faithfulness(sorted(set(circuit) - {e})) for e in reversed(circuit)}


@variant("hypothesis_score")
def score_by_counting(model, hypothesis, tokens, right, wrong, draws, generator):
    wins = 0
    for _ in range(draws):
        other = tokens[torch.randperm(len(tokens), generator=generator)]
        last = run_circuit(model, dict.fromkeys(hypothesis, 1.0), tokens, other)[:, -1]
        wins += sum(int(row[r] > row[w]) for row, r, w in zip(last, right, wrong))
    return wins / (draws * len(tokens))


@variant("hypothesis_score")
def score_as_a_tensor(model, hypothesis, tokens, right, wrong, draws, generator):
    rows, each = torch.arange(len(tokens)), []
    for order in [torch.randperm(len(tokens), generator=generator) for _ in range(draws)]:
        logits = run_circuit(model, hypothesis, tokens, tokens[order])
        each.append(logits[rows, -1, right] - logits[rows, -1, wrong] > 0)
    return torch.stack(each).double().mean()


@variant("path_catalogue")
def catalogue_by_log_probs(model, tokens):
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("pattern"))
    E, n = model.W_E[tokens], model.cfg.n_heads
    A0, A1 = cache["pattern", 0], cache["pattern", 1]
    OV = torch.einsum("lhde,lhem->lhdm", model.W_V, model.W_O)
    first = torch.einsum("bhps,bsd,hdm->hbpm", A0, E, OV[0])
    terms = {"direct": E}
    for b in range(n):
        terms[f"1.{b}"] = A1[:, b] @ E @ OV[1, b]
        terms[f"0.{b}"] = first[b]
        for a in range(n):
            terms[f"0.{a}->1.{b}"] = A1[:, b] @ first[a] @ OV[1, b]
    total = torch.stack(list(terms.values())).sum(0)

    def loss(x):
        log_p = (x[:, :-1] @ model.W_U).log_softmax(-1)
        return -log_p.gather(-1, tokens[:, 1:, None]).mean()

    return {path: loss(total - term) - loss(total) for path, term in terms.items()}


@variant("path_catalogue")
def catalogue_in_double(model, tokens):
    return catalogue_by_log_probs(copy.deepcopy(model).double(), tokens)


@variant("keep_largest")
def largest_by_sorting(W, share):
    n = max(1, int(share * W.numel()))
    order = W.abs().flatten().argsort(descending=True)[:n]
    kept = torch.zeros(W.numel(), dtype=W.dtype)
    kept[order] = W.flatten()[order]
    return kept.reshape(W.shape)


@variant("keep_largest")
def largest_by_level(W, share):
    n = max(1, int(share * W.numel()))
    level = W.abs().flatten().sort(descending=True).values[n - 1]
    return torch.where(W.abs() >= level, W, 0.0).double()


# The mysteries: what was planted --------------------------------------------------------------

# As in the checks. An answer is tried in a sandbox too, where there is no file of checks to read; with other seeds it would fail there.
SEEDS = dict(zip(MYSTERIES, (3, 14, 6, 55, 7, 12, 19, 28, 26, 68), strict=True))


@variant("predict")
def by_the_plan(mystery, tokens):
    return draw_plan(SEEDS[mystery]).answer(list(tokens))


@variant("predict")
def by_the_plan_as_a_tensor(mystery, tokens):
    return torch.tensor(draw_plan(SEEDS[mystery]).answer(list(tokens)))


@variant("circuit")
def planted_nodes(mystery):
    return draw_plan(SEEDS[mystery]).circuit


@variant("circuit")
def planted_nodes_in_another_order(mystery):
    return tuple(reversed(draw_plan(SEEDS[mystery]).circuit))


@variant("disable")
def planted_node_silenced(mystery, model):
    return judge.without_node(model, draw_plan(SEEDS[mystery]).quirk_node)


@variant("disable")
def values_of_the_planted_node_silenced(mystery, model):
    node, model = draw_plan(SEEDS[mystery]).quirk_node, copy.deepcopy(model)
    with torch.no_grad():
        if node == "m1":
            model.blocks[1].mlp.W_out.mul_(0)
            model.blocks[1].mlp.b_out.mul_(0)
        else:
            model.blocks[1].attn.W_V[int(node[-1])] = 0
            model.blocks[1].attn.b_V[int(node[-1])] = 0
    return model


@variant("redirect")
def planted_node_exchanged(mystery, model, symbol):
    plan = draw_plan(SEEDS[mystery])
    return judge.with_raised_logit(model, plan.quirk_node, plan.says, symbol)


@variant("redirect")
def planted_node_moved_by_least_squares(mystery, model, symbol):
    """The writing weights whose logits are those wanted, nearest to the old ones."""
    plan, edited = draw_plan(SEEDS[mystery]), copy.deepcopy(model)
    U = (model.ln_final.w[:, None] * model.W_U).double()
    U = U - U.mean(0)
    block, node = edited.blocks[1], plan.quirk_node
    parts = [block.mlp.W_out, block.mlp.b_out] if node == "m1" else [block.attn.W_O[int(node[-1])]]
    with torch.no_grad():
        for W in parts:
            more = torch.zeros(W.numel() // len(U), U.shape[1], dtype=torch.double)
            more[:, symbol] = 2 * (W.double() @ U[:, plan.says]).flatten()
            W += torch.linalg.lstsq(U.T, more.T, driver="gelsd").solution.T.reshape(W.shape).float()
    return edited
