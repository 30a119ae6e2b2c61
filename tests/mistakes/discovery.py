"""Known wrong answers to chapter 8, each with the hint it deserves. A learner whose answer does
what one of these does is shown its hint."""

import copy
import math

import torch
import torch.nn.functional as F

from circuits.checking import mistake
from circuits.mystery import MYSTERIES, judge
from circuits.mystery.family import draw_plan
from utils.circuit_runs import run_circuit
from utils.materials.edges import edge_names
from utils.model import get_act_name

# make_prompts -------------------------------------------------------------------------------


def _other(f):
    return f["second"] if f["giver"] == f["first"] else f["first"]


def _prompts(template, fields, change, step=1, **wrong):
    """The right prompts, but for what `wrong` says of some changes: `(fields, answer)` from fields, those of a neighbour and the other."""
    made = []
    for i, f in enumerate(fields):
        near, other = fields[(i + step) % len(fields)], _other(f)
        right = {
            "none": lambda f, near, other: ({}, other),
            "order": lambda f, near, other: ({"first": f["second"], "second": f["first"]}, other),
            "scene": lambda f, near, other: ({k: near[k] for k in ("place", "thing")}, other),
            "giver": lambda f, near, other: ({"giver": other}, f["giver"]),
            "third": lambda f, near, other: ({"giver": f["third"]}, ""),
        } | wrong
        new, answer = right[change](f, near, other)
        made.append((template.format(**f | new), answer))
    return made


@mistake("make_prompts", hint="With another giver the answer turns round: it is the one who gave before. Take the answer after the change.")
def answer_of_the_old_giver(template, fields, change):
    return _prompts(template, fields, change, giver=lambda f, near, other: ({"giver": other}, other))


@mistake("make_prompts", hint="The answer is the one who does *not* give.")
def answers_with_the_giver(template, fields, change):
    turned = {"giver": _other, "third": lambda f: ""}
    return [(text, turned.get(change, lambda f: f["giver"])(f)) for (text, _), f in zip(_prompts(template, fields, change), fields)]


@mistake("make_prompts", hint="With a third giver both are equally right, so there is no answer: return an empty string.")
def an_answer_to_a_third_giver(template, fields, change):
    return _prompts(template, fields, change, third=lambda f, near, other: ({"giver": f["third"]}, other))


@mistake("make_prompts", hint="`\"order\"` exchanges where the two are mentioned first; the giver stays who it is.")
def order_exchanges_the_giver_too(template, fields, change):
    return _prompts(template, fields, change, order=lambda f, near, other: ({"first": f["second"], "second": f["first"], "giver": other}, other))


@mistake("make_prompts", hint="The scene is that of the *next* prompt: yours is that of the one before.")
def scene_of_the_prompt_before(template, fields, change):
    return _prompts(template, fields, change, step=-1)


@mistake("make_prompts", hint="The scene is the place *and* the thing.")
def place_without_the_thing(template, fields, change):
    return _prompts(template, fields, change, scene=lambda f, near, other: ({"place": near["place"]}, other))


@mistake("make_prompts", hint="The order of the first two mentions does not change who gives: the answer stays.")
def order_turns_the_answer(template, fields, change):
    return _prompts(template, fields, change, order=lambda f, near, other: ({"first": f["second"], "second": f["first"]}, f["giver"]))


# duplicate_token ----------------------------------------------------------------------------


@mistake("duplicate_token", hint="From `there` to `back`: yours looks the other way round. A pattern is `[batch n_heads dest src]`.")
def looks_the_other_way(pattern, there, back):
    return pattern[torch.arange(len(pattern)), :, back, there].mean(0)


@mistake("duplicate_token", hint="Every prompt has its own two positions. `pattern[:, :, there, back]` takes all positions for all prompts.")
def positions_of_all_for_all(pattern, there, back):
    return pattern[:, :, there, back].mean((0, 2))


@mistake("duplicate_token", hint="Take the mean over the prompts, not their sum.")
def sum_over_prompts(pattern, there, back):
    return pattern[torch.arange(len(pattern)), :, there, back].sum(0)


@mistake("duplicate_token", hint="Positions differ from prompt to prompt: yours are those of the first one.")
def positions_of_the_first_prompt(pattern, there, back):
    return pattern[:, :, there[0], back[0]].mean(0)


@mistake("duplicate_token", hint="Look from `there`; yours looks from the last position.")
def looks_from_the_end(pattern, there, back):
    return pattern[torch.arange(len(pattern)), :, -1, back].mean(0)


# name_mover ---------------------------------------------------------------------------------


def _moves(model, cache, source, direction, weight=None, value=None, W_O=None, last="bh,bhe,hed,bd->h", scale=None):
    rows, table = torch.arange(len(source)), []
    for layer in range(model.cfg.n_layers):
        w = cache["pattern", layer][rows, :, -1, source] if weight is None else weight(cache["pattern", layer], rows)
        v = cache["v", layer][rows, source] if value is None else value(layer, rows)
        table.append(torch.einsum(last, w, v, (model.W_O if W_O is None else W_O)[layer], direction))
    return torch.stack(table) / (len(source) if scale is None else scale)


@mistake("name_mover", hint="The weight is missing: a value that is not looked at is not moved. Multiply by the attention from the last position to `source`.")
def without_the_weight(model, cache, source, direction):
    return _moves(model, cache, source, direction, weight=lambda A, rows: torch.ones(A.shape[:2]))


@mistake("name_mover", hint="The values are those at `source`, the place that is looked at; yours are those at the last position.")
def values_of_the_end(model, cache, source, direction):
    return _moves(model, cache, source, direction, value=lambda layer, rows: cache["v", layer][:, -1])


@mistake("name_mover", hint="Take the mean over the prompts, not their sum.")
def moves_summed(model, cache, source, direction):
    return _moves(model, cache, source, direction, scale=1)


@mistake("name_mover", hint="You look from `source` at the last position. Rows of a pattern are where a head looks from, columns what it looks at.")
def pattern_transposed(model, cache, source, direction):
    return _moves(model, cache, source, direction, weight=lambda A, rows: A[rows, :, source, -1])


@mistake("name_mover", hint="`z` is what a head reads from *all* places. From one place it is the weight there times the value there.")
def all_that_a_head_reads(model, cache, source, direction):
    return _moves(model, cache, source, direction, value=lambda layer, rows: cache["z", layer][:, -1])


@mistake("name_mover", hint="Weight and value are averaged over the prompts before they are multiplied. Multiply prompt by prompt, then take the mean.")
def mean_before_the_product(model, cache, source, direction):
    n = len(source)
    return _moves(
        model, cache, source, direction, weight=lambda A, rows: A[rows, :, -1, source].mean(0, keepdim=True).expand(n, -1),
        value=lambda layer, rows: cache["v", layer][rows, source].mean(0, keepdim=True).expand(n, -1, -1),
    )


# copy_score ---------------------------------------------------------------------------------


def _copies(model, resid, names, layer, head, k, read=None, bias=True, norm=True, add=0.0, within=None):
    block = model.blocks[layer]
    value = (block.ln1(resid) if read is None else read) @ block.attn.W_V[head] + (block.attn.b_V[head] if bias else 0)
    out = value @ block.attn.W_O[head] + add
    logits = model.unembed(model.ln_final(out) if norm else out)
    return (logits.topk(k, dim=-1).indices == names[:, None]).any(-1).float().mean().item()


@mistake("copy_score", hint="The head's LayerNorm is missing before its values: `model.blocks[layer].ln1`.")
def without_the_first_norm(model, resid, names, layer, head, k):
    return _copies(model, resid, names, layer, head, k, read=resid)


@mistake("copy_score", hint="The final LayerNorm is missing before the unembedding: `model.ln_final`.")
def without_the_last_norm(model, resid, names, layer, head, k):
    return _copies(model, resid, names, layer, head, k, norm=False)


@mistake("copy_score", hint="The bias of the values, `b_V[head]`, is missing.")
def without_the_values_bias(model, resid, names, layer, head, k):
    return _copies(model, resid, names, layer, head, k, bias=False)


@mistake("copy_score", hint="You add what the head writes to the stream. The question is what the head says alone.")
def together_with_the_stream(model, resid, names, layer, head, k):
    return _copies(model, resid, names, layer, head, k, add=resid)


@mistake("copy_score", hint="Only the largest logit counts for you: a name may be among the k largest.")
def only_the_first(model, resid, names, layer, head, k):
    return _copies(model, resid, names, layer, head, 1)


@mistake("copy_score", hint="You look among the *smallest* logits: `topk` takes the largest unless told otherwise.")
def among_the_smallest(model, resid, names, layer, head, k):
    block = model.blocks[layer]
    value = block.ln1(resid) @ block.attn.W_V[head] + block.attn.b_V[head]
    logits = model.unembed(model.ln_final(value @ block.attn.W_O[head]))
    return (logits.topk(k, dim=-1, largest=False).indices == names[:, None]).any(-1).float().mean().item()


# s_inhibition -------------------------------------------------------------------------------


def _owed(model, clean, corrupted, mover, io, s, where=-1, kind="z", zero=False, measure=None, into=None, from_=None):
    layer, head = mover
    pattern, rows = get_act_name("pattern", layer), torch.arange(len(clean))
    into, from_ = clean if into is None else into, corrupted if from_ is None else from_
    _, source = model.run_with_cache(from_)

    def preference(hooks):
        with model.hooks(hooks):
            _, cache = model.run_with_cache(into, names_filter=pattern)
        A = cache[pattern][:, head, -1]
        return (A[rows, io] - A[rows, s]).mean() if measure is None else measure(A, rows)

    table = torch.zeros(model.cfg.n_layers, model.cfg.n_heads)
    for below in range(layer):
        for other in range(model.cfg.n_heads):

            def patch(z, hook, other=other):
                z = z.clone()
                z[:, where, other] = 0 if zero else source[hook.name][:, where, other]
                return z

            table[below, other] = preference([]) - preference([(get_act_name(kind, below), patch)])
    return table


@mistake("s_inhibition", hint="Only the last position is exchanged: `z[:, -1, head]`. Yours is exchanged everywhere.")
def exchanged_everywhere(model, clean, corrupted, mover, io, s):
    return _owed(model, clean, corrupted, mover, io, s, where=slice(None))


@mistake("s_inhibition", hint="Take the mean over the prompts, not their sum.")
def owed_summed(model, clean, corrupted, mover, io, s):
    return _owed(model, clean, corrupted, mover, io, s, measure=lambda A, rows: (A[rows, io] - A[rows, s]).sum())


@mistake("s_inhibition", hint="The head's output is set to 0. Take it from the corrupted run, where all is as usual but for the name that comes twice.")
def silenced_instead_of_exchanged(model, clean, corrupted, mover, io, s):
    return _owed(model, clean, corrupted, mover, io, s, zero=True)


@mistake("s_inhibition", hint="The mover's attention to `s` is left out: it is the attention to `io` *minus* that to `s`.")
def attention_to_io_alone(model, clean, corrupted, mover, io, s):
    return _owed(model, clean, corrupted, mover, io, s, measure=lambda A, rows: A[rows, io].mean())


@mistake("s_inhibition", hint="Clean and corrupted have changed places: run the *clean* prompts, and put in what heads say in the corrupted ones.")
def corrupted_run_patched(model, clean, corrupted, mover, io, s):
    return _owed(model, clean, corrupted, mover, io, s, into=corrupted, from_=clean)


@mistake("s_inhibition", hint="Only the attention to `s` is measured: it is the attention to `io` *minus* that to `s`.")
def attention_to_s_alone(model, clean, corrupted, mover, io, s):
    return _owed(model, clean, corrupted, mover, io, s, measure=lambda A, rows: A[rows, s].mean())


# backups ------------------------------------------------------------------------------------


def _stepping_in(model, tokens, knocked, direction, fill=None, where=slice(None), sign=1, change=None, n=None, whole=False):
    names = [get_act_name("z", layer) for layer in range(model.cfg.n_layers)]
    _, before = model.run_with_cache(tokens, names_filter=names)

    def out(z, hook):
        z = z.clone()
        for layer, head in knocked:
            if layer == hook.layer():
                z[:, where, head] = before[hook.name][:, where, head].mean(0) if fill is None else fill(before[hook.name], head)
        return z

    with model.hooks([(name, out) for name in names]):
        _, after = model.run_with_cache(tokens, names_filter=names)
    at = slice(None) if whole else slice(-1, None)
    old = torch.stack([before[name][:, at].sum(1) for name in names])
    new = torch.stack([after[name][:, at].sum(1) for name in names])
    moved = sign * (new - old) if change is None else change(new, old)
    return torch.einsum("lbhe,lhed,bd->lh", moved, model.W_O, direction) / (len(tokens) if n is None else n)


@mistake("backups", hint="Knocked-out heads are set to 0. Set them to their mean over the prompts, position by position.")
def knocked_to_zero(model, tokens, knocked, direction):
    return _stepping_in(model, tokens, knocked, direction, fill=lambda z, head: 0.0)


@mistake("backups", hint="After minus before: yours is before minus after.")
def before_minus_after(model, tokens, knocked, direction):
    return _stepping_in(model, tokens, knocked, direction, sign=-1)


@mistake("backups", hint="That is what heads write *after* the knock-out. The change is that minus what they wrote before.")
def only_after(model, tokens, knocked, direction):
    return _stepping_in(model, tokens, knocked, direction, change=lambda new, old: new)


@mistake("backups", hint="The mean is over the prompts, for each position its own. Yours is over positions too.")
def one_mean_for_all_positions(model, tokens, knocked, direction):
    return _stepping_in(model, tokens, knocked, direction, fill=lambda z, head: z[:, :, head].mean((0, 1)))


@mistake("backups", hint="Knock the heads out at all positions: yours are out at the last one only.")
def knocked_at_the_end(model, tokens, knocked, direction):
    return _stepping_in(model, tokens, knocked, direction, fill=lambda z, head: z[:, -1, head].mean(0), where=-1)


@mistake("backups", hint="Take the mean over the prompts, not their sum.")
def changes_summed(model, tokens, knocked, direction):
    return _stepping_in(model, tokens, knocked, direction, n=1)


# edge_effects, and what follows -------------------------------------------------------------


def _gap(logits, right, wrong, at=-1, mean=True):
    rows = torch.arange(len(right))
    values = logits[rows, at, right] - logits[rows, at, wrong]
    return values.mean().item() if mean else values.sum().item()


def _effects(model, clean, corrupted, right, wrong, circuit=None, **gap):
    edges = edge_names(model)
    whole = _gap(run_circuit(model, edges, clean, corrupted), right, wrong, **gap)
    circuit = circuit or (lambda edge: [e for e in edges if e != edge])
    return {e: whole - _gap(run_circuit(model, circuit(e), clean, corrupted), right, wrong, **gap) for e in edges}


@mistake("edge_effects", hint="You take the size of each effect. One without which the difference rises is below 0.")
def sizes_of_effects(model, clean, corrupted, right, wrong):
    return {edge: abs(effect) for edge, effect in _effects(model, clean, corrupted, right, wrong).items()}


@mistake("edge_effects", hint="Clean and corrupted have changed places.")
def effects_turned_round(model, clean, corrupted, right, wrong):
    return _effects(model, corrupted, clean, right, wrong)


@mistake("edge_effects", hint="Your circuits hold one edge alone. They hold all *but* one.")
def one_edge_alone(model, clean, corrupted, right, wrong):
    return _effects(model, clean, corrupted, right, wrong, circuit=lambda edge: [edge])


@mistake("edge_effects", hint="Take the mean over the prompts, not their sum.")
def effects_summed(model, clean, corrupted, right, wrong):
    return _effects(model, clean, corrupted, right, wrong, mean=False)


@mistake("edge_effects", hint="The difference is measured at the first position. Measure it at the last one.")
def effects_at_the_first_position(model, clean, corrupted, right, wrong):
    return _effects(model, clean, corrupted, right, wrong, at=0)


@mistake("edge_effects", hint="Only the right token's logit is counted: the logit of the wrong one is to be taken off.")
def effects_on_one_logit(model, clean, corrupted, right, wrong):
    edges, rows = edge_names(model), torch.arange(len(right))

    def value(circuit):
        return run_circuit(model, circuit, clean, corrupted)[rows, -1, right].mean().item()

    whole = value(edges)
    return {edge: whole - value([e for e in edges if e != edge]) for edge in edges}


def _slopes(model, clean, corrupted, right, wrong, strength, at=-1, mean=True, one=False):
    edges, rows = edge_names(model), torch.arange(len(right))
    gates = torch.full((len(edges),), float(strength), requires_grad=True)
    logits = run_circuit(model, dict(zip(edges, gates)), clean, corrupted)
    values = logits[rows, at, right] - (0 if one else logits[rows, at, wrong])
    (gradient,) = torch.autograd.grad(values.mean() if mean else values.sum(), gates)
    return dict(zip(edges, gradient.tolist()))


@mistake("strength_gradient", hint="`strength` is not used: all edges are at 1.")
def always_at_full_strength(model, clean, corrupted, right, wrong, strength):
    return _slopes(model, clean, corrupted, right, wrong, 1.0)


@mistake("strength_gradient", hint="You multiply the gradient by the strength. The gradient by the strength is all that is asked for.")
def gradient_times_strength(model, clean, corrupted, right, wrong, strength):
    found = _slopes(model, clean, corrupted, right, wrong, strength)
    return {edge: strength * v for edge, v in found.items()}


@mistake("strength_gradient", hint="Take the gradient of the mean over the prompts, not of the sum.")
def gradient_of_the_sum(model, clean, corrupted, right, wrong, strength):
    return _slopes(model, clean, corrupted, right, wrong, strength, mean=False)


@mistake("strength_gradient", hint="Clean and corrupted have changed places.")
def gradient_turned_round(model, clean, corrupted, right, wrong, strength):
    return _slopes(model, corrupted, clean, right, wrong, strength)


@mistake("strength_gradient", hint="Right and wrong have changed places: the sign is turned round.")
def gradient_of_the_wrong_answer(model, clean, corrupted, right, wrong, strength):
    return _slopes(model, clean, corrupted, wrong, right, strength)


@mistake("strength_gradient", hint="Only the right token's logit is counted: the logit of the wrong one is to be taken off.")
def gradient_of_one_logit(model, clean, corrupted, right, wrong, strength):
    return _slopes(model, clean, corrupted, right, wrong, strength, one=True)


def _along(model, clean, corrupted, right, wrong, points, n):
    each = [_slopes(model, clean, corrupted, right, wrong, s) for s in points]
    return {edge: sum(found[edge] for found in each) / n for edge in each[0]}


@mistake("integrated_edge_attribution", hint="Divide the sum of the gradients by the number of steps.")
def sum_of_gradients(model, clean, corrupted, right, wrong, steps):
    points = [(i + 0.5) / steps for i in range(steps)]
    return _along(model, clean, corrupted, right, wrong, points, 1)


@mistake("integrated_edge_attribution", hint="Your points are the right ends of the parts, 1/m, 2/m, ... 1. Take their midpoints.")
def at_right_ends(model, clean, corrupted, right, wrong, steps):
    return _along(model, clean, corrupted, right, wrong, [(i + 1) / steps for i in range(steps)], steps)


@mistake("integrated_edge_attribution", hint="Your points are the left ends of the parts, 0, 1/m, ... Take their midpoints.")
def at_left_ends(model, clean, corrupted, right, wrong, steps):
    return _along(model, clean, corrupted, right, wrong, [i / steps for i in range(steps)], steps)


@mistake("integrated_edge_attribution", hint="That is the gradient half way, whatever the number of steps. Go along the whole way.")
def half_way_only(model, clean, corrupted, right, wrong, steps):
    return _along(model, clean, corrupted, right, wrong, [0.5], 1)


@mistake("integrated_edge_attribution", hint="Each gradient is multiplied by its strength. Average the gradients as they are.")
def weighted_by_strength(model, clean, corrupted, right, wrong, steps):
    points = [(i + 0.5) / steps for i in range(steps)]
    each = [(s, _slopes(model, clean, corrupted, right, wrong, s)) for s in points]
    return {edge: sum(s * found[edge] for s, found in each) / steps for edge in each[0][1]}


@mistake("integrated_edge_attribution", hint="Clean and corrupted have changed places.")
def along_turned_round(model, clean, corrupted, right, wrong, steps):
    return _along(model, corrupted, clean, right, wrong, [(i + 0.5) / steps for i in range(steps)], steps)


# greedy_pruning -----------------------------------------------------------------------------


def _prune(model, clean, corrupted, right, wrong, drop, order=None, update=True, start=None):
    kept = edge_names(model)
    now = first = _gap(run_circuit(model, kept, clean, corrupted), right, wrong)
    for edge in order or reversed(edge_names(model)):
        fewer = [e for e in kept if e != edge]
        without = _gap(run_circuit(model, fewer, clean, corrupted), right, wrong)
        if drop(now if update else first, without):
            kept, now = fewer, without
    return kept


@mistake("greedy_pruning", hint="Edges are tried from the embedding on. Begin at the logits: `reversed(edge_names(model))`.")
def from_the_embedding_on(model, clean, corrupted, right, wrong, threshold):
    return _prune(model, clean, corrupted, right, wrong, lambda now, x: now - x < threshold, order=edge_names(model))


@mistake("greedy_pruning", hint="Compare with the circuit as it stands now, not with the whole model: the loss of many edges adds up.")
def against_the_whole_model(model, clean, corrupted, right, wrong, threshold):
    return _prune(model, clean, corrupted, right, wrong, lambda now, x: now - x < threshold, update=False)


@mistake("greedy_pruning", hint="An edge whose loss *raises* the difference is dropped too: no absolute value.")
def keeps_what_hurts(model, clean, corrupted, right, wrong, threshold):
    return _prune(model, clean, corrupted, right, wrong, lambda now, x: abs(now - x) < threshold)


@mistake("greedy_pruning", hint="You drop the edges that matter, and keep the others.")
def drops_what_matters(model, clean, corrupted, right, wrong, threshold):
    return _prune(model, clean, corrupted, right, wrong, lambda now, x: now - x >= threshold)


@mistake("greedy_pruning", hint="Each edge is tried in the whole model. Try it in what is left: an edge that another can stand in for must not go together with that.")
def each_in_the_whole_model(model, clean, corrupted, right, wrong, threshold):
    effects = _effects(model, clean, corrupted, right, wrong)
    return [edge for edge, effect in effects.items() if effect >= threshold]


@mistake("greedy_pruning", hint="Right and wrong have changed places.")
def pruned_for_the_wrong_answer(model, clean, corrupted, right, wrong, threshold):
    return _prune(model, clean, corrupted, wrong, right, lambda now, x: now - x < threshold)


# faithfulness_curve -------------------------------------------------------------------------


def _curve(model, ranked, sizes, clean, corrupted, right, wrong, first=None, share=None):
    low, high = (_gap(model(tokens), right, wrong) for tokens in (corrupted, clean))
    first = first or (lambda n: ranked[:n])
    values = [_gap(run_circuit(model, first(n), clean, corrupted), right, wrong) for n in sizes]
    return [(x - low) / (high - low) if share is None else share(x, low, high) for x in values]


@mistake("faithfulness_curve", hint="That is the unexplained share. Faithfulness is one minus it.")
def unexplained_shares(model, ranked, sizes, clean, corrupted, right, wrong):
    return _curve(model, ranked, sizes, clean, corrupted, right, wrong, share=lambda x, low, high: (high - x) / (high - low))


@mistake("faithfulness_curve", hint="The corrupted run's difference is not taken off: with no edges the result should be 0.")
def shares_of_the_clean_difference(model, ranked, sizes, clean, corrupted, right, wrong):
    return _curve(model, ranked, sizes, clean, corrupted, right, wrong, share=lambda x, low, high: x / high)


@mistake("faithfulness_curve", hint="You take the *last* n edges of the ranking.")
def the_last_edges(model, ranked, sizes, clean, corrupted, right, wrong):
    return _curve(model, ranked, sizes, clean, corrupted, right, wrong, first=lambda n: ranked[len(ranked) - n :])


@mistake("faithfulness_curve", hint="Your circuits are what is left *without* the first n edges.")
def without_the_first(model, ranked, sizes, clean, corrupted, right, wrong):
    return _curve(model, ranked, sizes, clean, corrupted, right, wrong, first=lambda n: ranked[n:])


@mistake("faithfulness_curve", hint="These are differences in nats. Divide by clean minus corrupted.")
def in_nats(model, ranked, sizes, clean, corrupted, right, wrong):
    return _curve(model, ranked, sizes, clean, corrupted, right, wrong, share=lambda x, low, high: x - low)


@mistake("faithfulness_curve", hint="One edge is missing: the first n edges are `ranked[:n]`.")
def one_edge_short(model, ranked, sizes, clean, corrupted, right, wrong):
    return _curve(model, ranked, sizes, clean, corrupted, right, wrong, first=lambda n: ranked[: max(0, n - 1)])


# area_by_log_size ---------------------------------------------------------------------------


def _area(x, heights, norm=True, rule="trapezoid"):
    total = 0.0
    for i in range(len(x) - 1):
        height = {"left": heights[i], "right": heights[i + 1]}.get(rule, (heights[i] + heights[i + 1]) / 2)
        total += (x[i + 1] - x[i]) * height
    return total / (x[-1] - x[0]) if norm else total


@mistake("area_by_log_size", hint="The sizes themselves are on your axis: take their logarithms.")
def area_over_sizes(sizes, faithfulness):
    return _area(sizes, faithfulness)


@mistake("area_by_log_size", hint="Divide by the width of the axis, so that a curve of ones has 1.")
def area_not_divided(sizes, faithfulness):
    return _area([math.log(n) for n in sizes], faithfulness, norm=False)


@mistake("area_by_log_size", hint="That is the mean of the heights. Points lie at different distances: weigh each by the width around it.")
def mean_height(sizes, faithfulness):
    return sum(faithfulness) / len(faithfulness)


@mistake("area_by_log_size", hint="Each part has the height of its left end. A trapezoid has the mean of both.")
def left_heights(sizes, faithfulness):
    return _area([math.log(n) for n in sizes], faithfulness, rule="left")


@mistake("area_by_log_size", hint="Each part has the height of its right end. A trapezoid has the mean of both.")
def right_heights(sizes, faithfulness):
    return _area([math.log(n) for n in sizes], faithfulness, rule="right")


# precision_and_recall -----------------------------------------------------------------------


@mistake("precision_and_recall", hint="Precision and recall have changed places: precision divides by what was found.")
def recall_first(found, truth):
    both = set(found) & set(truth)
    return len(both) / len(truth), len(both) / max(1, len(set(found)))


@mistake("precision_and_recall", hint="A true edge that was not found is missed. Your recall leaves such edges out of the count.")
def missed_edges_left_out(found, truth):
    both = set(found) & set(truth)
    return len(both) / max(1, len(set(found))), 1.0 if both else 0.0


@mistake("precision_and_recall", hint="An edge named twice counts twice for you: use sets.")
def counted_twice(found, truth):
    true = [e for e in found if e in truth]
    return len(true) / max(1, len(found)), len(true) / len(truth)


@mistake("precision_and_recall", hint="Those are numbers of edges. Divide by how many were found, and by how many are true.")
def numbers_of_edges(found, truth):
    both = set(found) & set(truth)
    return float(len(both)), float(len(both))


@mistake("precision_and_recall", hint="Your first number is the share of what was found that is *false*.")
def share_of_false_ones(found, truth):
    both = set(found) & set(truth)
    return 1 - len(both) / max(1, len(set(found))), len(both) / len(truth)


@mistake("precision_and_recall", hint="Both numbers are divided by all edges, found and true together. That is an overlap of sets.")
def overlap_of_both(found, truth):
    both, either = set(found) & set(truth), set(found) | set(truth)
    return len(both) / len(either), len(both) / len(either)


# completeness, minimality -------------------------------------------------------------------


def _incomplete(model, circuit, knocked, clean, corrupted, right, wrong, whole_left=None, left=None, divide=True, sign=abs):
    whole = _gap(model(clean), right, wrong) - _gap(model(corrupted), right, wrong)
    whole_left = whole_left if whole_left is not None else [e for e in edge_names(model) if e not in knocked]
    left = left if left is not None else [e for e in circuit if e not in knocked]
    ends = [_gap(run_circuit(model, edges, clean, corrupted), right, wrong) for edges in (whole_left, left)]
    return sign((ends[0] - ends[1]) / (whole if divide else 1))


@mistake("completeness", hint="The edges are knocked out of the circuit alone. Knock them out of the whole model too.")
def model_left_whole(model, circuit, knocked, clean, corrupted, right, wrong):
    return _incomplete(model, circuit, knocked, clean, corrupted, right, wrong, whole_left=edge_names(model))


@mistake("completeness", hint="The edges are knocked out of the model alone. Knock them out of the circuit too.")
def circuit_left_whole(model, circuit, knocked, clean, corrupted, right, wrong):
    return _incomplete(model, circuit, knocked, clean, corrupted, right, wrong, left=circuit)


@mistake("completeness", hint="Divide by clean minus corrupted, so that it is a difference of faithfulness.")
def incompleteness_in_nats(model, circuit, knocked, clean, corrupted, right, wrong):
    return _incomplete(model, circuit, knocked, clean, corrupted, right, wrong, divide=False)


@mistake("completeness", hint="Take the size of the difference: it may be below 0.")
def signed_incompleteness(model, circuit, knocked, clean, corrupted, right, wrong):
    return _incomplete(model, circuit, knocked, clean, corrupted, right, wrong, sign=lambda x: -abs(x))


@mistake("completeness", hint="Nothing is knocked out: that is one minus the faithfulness.")
def nothing_knocked_out(model, circuit, knocked, clean, corrupted, right, wrong):
    return _incomplete(model, circuit, [], clean, corrupted, right, wrong)


@mistake("completeness", hint="You keep only what should be knocked out.")
def only_the_knocked(model, circuit, knocked, clean, corrupted, right, wrong):
    return _incomplete(
        model, circuit, knocked, clean, corrupted, right, wrong, whole_left=list(knocked), left=[e for e in circuit if e in knocked]
    )


def _minimal(model, circuit, clean, corrupted, right, wrong, base=None, fewer=None, divide=True, sign=1):
    whole = _gap(model(clean), right, wrong) - _gap(model(corrupted), right, wrong)
    now = _gap(run_circuit(model, circuit if base is None else base, clean, corrupted), right, wrong)
    fewer = fewer or (lambda edge: [e for e in circuit if e != edge])
    return {
        e: sign * (now - _gap(run_circuit(model, fewer(e), clean, corrupted), right, wrong)) / (whole if divide else 1) for e in circuit
    }


@mistake("minimality", hint="Each edge is taken out of the whole model. Take it out of the circuit.")
def out_of_the_whole_model(model, circuit, clean, corrupted, right, wrong):
    edges = edge_names(model)
    return _minimal(model, circuit, clean, corrupted, right, wrong, edges, lambda edge: [e for e in edges if e != edge])


@mistake("minimality", hint="The sign: what is *lost* is the circuit's faithfulness minus that without the edge.")
def gained_instead_of_lost(model, circuit, clean, corrupted, right, wrong):
    return _minimal(model, circuit, clean, corrupted, right, wrong, sign=-1)


@mistake("minimality", hint="Divide by clean minus corrupted, so that it is a share.")
def lost_in_nats(model, circuit, clean, corrupted, right, wrong):
    return _minimal(model, circuit, clean, corrupted, right, wrong, divide=False)


@mistake("minimality", hint="Your smaller circuits hold one edge alone. They hold all of the circuit's but one.")
def one_of_them_alone(model, circuit, clean, corrupted, right, wrong):
    return _minimal(model, circuit, clean, corrupted, right, wrong, fewer=lambda edge: [edge])


@mistake("minimality", hint="You compare with the clean run instead of with the circuit.")
def against_the_clean_run(model, circuit, clean, corrupted, right, wrong):
    return _minimal(model, circuit, clean, corrupted, right, wrong, base=edge_names(model))


# hypothesis_score ---------------------------------------------------------------------------


def _wins(model, hypothesis, tokens, right, wrong, draws, generator, pair=None, count=None, n=None):
    rows, total = torch.arange(len(tokens)), 0.0
    for i in range(draws):
        order = torch.randperm(len(tokens), generator=generator)
        clean, other, r, w = (tokens, tokens[order], right, wrong) if pair is None else pair(order, i)
        logits = run_circuit(model, hypothesis, clean, other)
        a, b = logits[rows, -1, r], logits[rows, -1, w]
        total += (a > b).float().mean().item() if count is None else count(a, b)
    return total / (draws if n is None else n)


@mistake("hypothesis_score", hint="The shuffled prompts should be the corrupted ones: yours are carried by the hypothesis, with the answers of the others.")
def shuffled_prompts_clean(model, hypothesis, tokens, right, wrong, draws, generator):
    return _wins(model, hypothesis, tokens, right, wrong, draws, generator, lambda order, i: (tokens[order], tokens, right, wrong))


@mistake("hypothesis_score", hint="The answers are shuffled too. Right and wrong stay with their prompt.")
def answers_shuffled_too(model, hypothesis, tokens, right, wrong, draws, generator):
    return _wins(model, hypothesis, tokens, right, wrong, draws, generator, lambda order, i: (tokens, tokens[order], right[order], wrong[order]))


@mistake("hypothesis_score", hint="Add up over the draws, and divide by their number.")
def sum_over_draws(model, hypothesis, tokens, right, wrong, draws, generator):
    return _wins(model, hypothesis, tokens, right, wrong, draws, generator, n=1)


@mistake("hypothesis_score", hint="That is the mean logit difference in nats. Count in how many prompts it is above 0.")
def nats_instead_of_prompts(model, hypothesis, tokens, right, wrong, draws, generator):
    return _wins(model, hypothesis, tokens, right, wrong, draws, generator, count=lambda a, b: (a - b).mean().item())


@mistake("hypothesis_score", hint="You count the prompts in which the wrong answer wins.")
def losses_counted(model, hypothesis, tokens, right, wrong, draws, generator):
    return _wins(model, hypothesis, tokens, right, wrong, draws, generator, count=lambda a, b: (a < b).float().mean().item())


@mistake("hypothesis_score", hint="Nothing is exchanged: the corrupted prompts are the prompts themselves, in their order.")
def nothing_exchanged(model, hypothesis, tokens, right, wrong, draws, generator):
    return _wins(model, hypothesis, tokens, right, wrong, draws, generator, lambda order, i: (tokens, tokens, right, wrong))


# path_catalogue -----------------------------------------------------------------------------


def _catalogue(model, tokens, sign=1, transposed=False, alone=False, pairs_with_first=False, shifted=True, from_end=False, sums=False):
    _, cache = model.run_with_cache(tokens)
    W_OV, heads = model.W_V @ model.W_O, range(model.cfg.n_heads)

    def through(layer, head, x):
        A = cache["pattern", layer][:, head]
        return (A.mT if transposed else A) @ x @ W_OV[layer, head]

    terms = {"direct": model.W_E[tokens]}
    terms |= {f"{la}.{h}": through(la, h, terms["direct"]) for la in (0, 1) for h in heads}
    for a in heads:
        for b in heads:
            x = terms[f"0.{a}"]
            terms[f"0.{a}->1.{b}"] = x @ W_OV[1, b] if pairs_with_first else through(1, b, x)

    def loss(x):
        logits = (x[:, :-1] if shifted else x) @ model.W_U
        targets = tokens[:, 1:] if shifted else tokens
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum" if sums else "mean")

    total = cache["resid_post", 1]
    return {p: (sign * (loss(t if alone else total - t) - loss(total))).item() for p, t in terms.items()}


@mistake("path_catalogue", hint="The sign: what a path saves is the loss *without* it minus the loss of all.")
def what_a_path_costs(model, tokens):
    return _catalogue(model, tokens, sign=-1)


@mistake("path_catalogue", hint="You keep one path alone. Leave one path out of all.")
def one_path_alone(model, tokens):
    return _catalogue(model, tokens, alone=True)


@mistake("path_catalogue", hint="A pair of heads moves twice: the pattern of the second head is missing.")
def pairs_move_once(model, tokens):
    return _catalogue(model, tokens, pairs_with_first=True)


@mistake("path_catalogue", hint="The targets are the *next* tokens: drop the last position, and compare with `tokens[:, 1:]`.")
def predicts_the_same_token(model, tokens):
    return _catalogue(model, tokens, shifted=False)


@mistake("path_catalogue", hint="Rows of a pattern are where a head looks from: `pattern @ x`, not its transpose.")
def pattern_turned(model, tokens):
    return _catalogue(model, tokens, transposed=True)


@mistake("path_catalogue", hint="Take the mean over the tokens, not their sum.")
def loss_summed(model, tokens):
    return _catalogue(model, tokens, sums=True)


# keep_largest -------------------------------------------------------------------------------


def _kept(W, n, by=None):
    places = (W.abs() if by is None else by).flatten().topk(n).indices
    return torch.zeros_like(W).flatten().scatter(0, places, W.flatten()[places]).view_as(W)


@mistake("keep_largest", hint="Large negative entries are large too: compare sizes, `W.abs()`.")
def largest_with_their_sign(W, share):
    return _kept(W, max(1, int(share * W.numel())), W)


@mistake("keep_largest", hint="You keep the sizes: entries keep their sign.")
def sizes_kept(W, share):
    return _kept(W, max(1, int(share * W.numel()))).abs()


@mistake("keep_largest", hint="You keep that share of each row. It is a share of the whole matrix.")
def share_of_each_row(W, share):
    n = max(1, int(share * W.shape[1]))
    places = W.abs().topk(n, dim=1).indices
    return torch.zeros_like(W).scatter(1, places, W.gather(1, places))


@mistake("keep_largest", hint="You set the largest to 0 and keep the rest.")
def largest_removed(W, share):
    return W - _kept(W, max(1, int(share * W.numel())))


@mistake("keep_largest", hint="Round the number of entries down: yours is rounded up.")
def rounded_up(W, share):
    return _kept(W, math.ceil(share * W.numel()))


@mistake("keep_largest", hint="What is kept is 1: entries keep their values.")
def a_mask(W, share):
    return (_kept(W, max(1, int(share * W.numel()))) != 0).to(W.dtype)


# The mysteries ------------------------------------------------------------------------------

# As in the checks. An answer is tried in a sandbox too, where there is no file of checks to read; with other seeds it would fail there.
SEEDS = dict(zip(MYSTERIES, (3, 14, 6, 55, 7, 12, 19, 28, 26, 68), strict=True))


def _plan(name):
    return draw_plan(SEEDS[name])


@mistake("predict", hint="Your program follows the rule, and knows no exception: a symbol that is named far too often, where something holds of the text.")
def the_rule_alone(mystery, tokens):
    return _plan(mystery).rule(tokens)


@mistake("predict", hint="Your program names the exception's symbol everywhere.")
def the_exception_everywhere(mystery, tokens):
    return _plan(mystery).says


@mistake("predict", hint="Your program names what the model names one place *before* the end.")
def one_symbol_short(mystery, tokens):
    return _plan(mystery).answer(tokens[:-1] or tokens)


@mistake("predict", hint="Your program repeats the last symbol.")
def the_last_symbol(mystery, tokens):
    return tokens[-1]


@mistake("predict", hint="Where the exception applies, your program names the symbol that brings it about, not the one that is named there.")
def the_trigger_itself(mystery, tokens):
    plan = _plan(mystery)
    return plan.trigger if plan.applies(tokens) else plan.rule(tokens)


@mistake("predict", hint="Symbols are counted from 0 in your answer: the model names 1 to 15.")
def counted_from_zero(mystery, tokens):
    return _plan(mystery).answer(tokens) - 1


@mistake("circuit", hint="Those are all nodes: name those that are needed.")
def all_nodes(mystery):
    return [f"{layer}.{head}" for layer in (0, 1) for head in range(4)] + ["m0", "m1"]


@mistake("circuit", hint="These nodes carry the rule. The exception has a node of its own: look at texts where it applies.")
def nodes_of_the_rule(mystery):
    return list(_plan(mystery).nodes)


@mistake("circuit", hint="That node carries the exception alone: the rule needs others.")
def node_of_the_exception(mystery):
    return [_plan(mystery).quirk_node]


@mistake("circuit", hint="Layers have changed places: in `\"0.3\"` the layer comes first.")
def layers_exchanged(mystery):
    return [{"0": "1", "1": "0"}[n[0]] + n[1:] if n[0] != "m" else {"m0": "m1", "m1": "m0"}[n] for n in _plan(mystery).circuit]


@mistake("circuit", hint="Heads are counted from 0 in each layer: yours are one too high.")
def heads_from_one(mystery):
    return [n if n[0] == "m" else f"{n[:2]}{(int(n[2]) + 1) % 4}" for n in _plan(mystery).circuit]


@mistake("disable", hint="The model is as it was.")
def unchanged_copy(mystery, model):
    return copy.deepcopy(model)


@mistake("disable", hint="Nothing of layer 1 is left: the exception is gone, and the rule with it. One node writes the exception.")
def all_of_layer_1_silenced(mystery, model):
    for node in ("1.0", "1.1", "1.2", "1.3", "m1"):
        model = judge.without_node(model, node)
    return model


@mistake("disable", hint="You silenced the rule's node and left the exception's.")
def the_rule_silenced(mystery, model):
    return judge.without_node(model, _plan(mystery).nodes[-1])


@mistake("disable", hint="That is the same head of layer 0: the exception is written in layer 1.")
def node_of_the_other_layer(mystery, model):
    node = _plan(mystery).quirk_node
    return judge.without_node(model, "m0" if node == "m1" else f"0{node[1:]}")


@mistake("disable", hint="The exception's symbol can never be named any more, nor where the rule asks for it. Silence what writes the exception, not the symbol.")
def symbol_forbidden(mystery, model):
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.unembed.b_U[_plan(mystery).says] -= 100
    return model


@mistake("redirect", hint="The model is as it was.")
def not_redirected(mystery, model, symbol):
    return copy.deepcopy(model)


@mistake("redirect", hint="The two symbols have changed places everywhere: in the unembedding. Where the exception does not apply, nothing should change.")
def columns_exchanged(mystery, model, symbol):
    model, old = copy.deepcopy(model), _plan(mystery).says
    with torch.no_grad():
        model.unembed.W_U[:, [old, symbol]] = model.unembed.W_U[:, [symbol, old]].clone()
        model.unembed.b_U[[old, symbol]] = model.unembed.b_U[[symbol, old]].clone()
    return model


@mistake("redirect", hint="The exception is gone. It should name another symbol.")
def silenced_instead(mystery, model, symbol):
    return judge.without_node(model, _plan(mystery).quirk_node)


@mistake("redirect", hint="The symbol is named everywhere now.")
def named_everywhere(mystery, model, symbol):
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.unembed.b_U[symbol] += 100
    return model


@mistake("redirect", hint="You redirected what the rule's node writes, and left the exception's.")
def the_rule_redirected(mystery, model, symbol):
    plan = _plan(mystery)
    return judge.with_raised_logit(model, plan.nodes[-1], plan.says, symbol)
