"""Checks of chapter 8. Each says in its name what must be true of an answer."""

import functools
import math

import torch
import torch.nn.functional as F

from circuits.checking import answer_to, exercise, expect, fail, require
from circuits.inputs import generator, integer, normal, orthogonal, random_model, random_patterns, random_tokens, two_answers
from circuits.mystery import MYSTERIES, load_mystery
from circuits.mystery import judge
from circuits.mystery.checks import Checks, named
from circuits.mystery.family import draw_plan
from circuits.symmetries import ALL, CACHE, FULL, head_of_layer, symmetric
from utils.circuit_runs import run_circuit
from utils.materials.edges import edge_names
from utils.model import get_act_name

EDGES = symmetric(FULL, returns="edge")
MYSTERY = "its model is a shipped one, whose nodes it names"
SYMMETRIES = {
    "make_prompts": "its arguments are words",
    "duplicate_token": symmetric("heads", there=None, back=None),
    "name_mover": symmetric(FULL, cache=CACHE, source=None),
    "copy_score": symmetric(FULL, layer="layer", head=head_of_layer),
    "s_inhibition": symmetric(FULL, mover="(layer, head)", io=None, s=None),
    "backups": symmetric(FULL, knocked="(layer, head)"),
    "edge_effects": EDGES,
    "strength_gradient": EDGES,
    "integrated_edge_attribution": EDGES,
    "greedy_pruning": "what it keeps depends on the order of the edges",
    "faithfulness_curve": symmetric(FULL, ranked="edge"),
    "area_by_log_size": "its arguments are numbers",
    "precision_and_recall": "its arguments are names",
    "completeness": symmetric(FULL, circuit="edge", knocked="edge"),
    "minimality": symmetric(FULL, circuit="edge", returns="edge"),
    "hypothesis_score": symmetric(FULL, hypothesis="edge"),
    "path_catalogue": symmetric(ALL, returns="edge"),
    "keep_largest": "its argument is any matrix",
    "predict": MYSTERY,
    "circuit": "its argument is a word",
    "disable": MYSTERY,
    "redirect": MYSTERY,
}
TWO = "its text says two layers"
COINCIDENCES = {
    ("duplicate_token", "dest always equals src"): "attention looks from positions at positions",
    ("path_catalogue", "n_layers is always 2"): TWO,
    **{
        (name, what): "all mystery models have one shape"
        for name in ("disable", "redirect")
        for what in (
            "n_layers is always 2", "n_heads is always 4", "d_head always equals n_ctx",
        )
    },
}


def as_a_set(value):
    return sorted(map(str, value)) if isinstance(value, list | tuple | set) else value


BEHAVIOUR = {"greedy_pruning": as_a_set, "circuit": as_a_set}


# Models and prompts -------------------------------------------------------------------------

MLPS = dict(attn_only=False, d_mlp=13, act_fn="relu", normalization_type="LN", biases=True)
STANDARD = dict(positional_embedding_type="standard")


def full_model(rng, **shape):
    """A small model with ReLU MLPs, LayerNorm and biases, in which no weight is at its start."""
    return random_model(rng, **MLPS | shape)


def little(rng, layers=2, heads=3, **shape):
    """A full model with few edges."""
    return full_model(rng, n_layers=layers, n_heads=heads, **shape)


def drawn_once(make):
    """A function that makes a case from a generator, for what takes long to work out: one seed's case is made once, and many answers
    are asked for it."""

    @functools.lru_cache(maxsize=50)
    def case(seed, args):
        return make(torch.Generator().manual_seed(seed), *args)

    return lambda rng, *args: case(integer(rng, 0, 2**62), args)


def pairs(rng, model, batch=5, pos=6):
    """Clean and corrupted prompts, with a right and a wrong answer to each."""
    prompts = [random_tokens(rng, model, batch, pos) for _ in range(2)]
    return *prompts, *two_answers(rng, batch, model.cfg.d_vocab)


def difference(logits, right, wrong):
    rows = [logits[i, -1] for i in range(len(logits))]
    return (sum(float(row[r]) - float(row[w]) for row, r, w in zip(rows, right, wrong))) / len(rows)


@torch.no_grad()
def of_circuit(model, edges, clean, corrupted, right, wrong):
    return difference(run_circuit(model, list(edges), clean, corrupted), right, wrong)


def numbers(found, keys, what):
    """A dictionary's numbers in the order of the keys that it should have."""
    require(isinstance(found, dict), f"Return a dictionary with {what}.")
    missing = [key for key in keys if key not in found]
    require(not missing, f"There is no entry for {missing[:1]}." if missing else "")
    extra = [key for key in found if key not in keys]
    require(not extra, f"There is an entry for {extra[:1]}, which is none of {what}." if extra else "")
    return torch.tensor([float(found[key]) for key in keys], dtype=torch.double)


SHAPE_OF = {
    "full": little,
    "standard": lambda rng, layers, heads: random_model(rng, n_layers=layers, n_heads=heads, **STANDARD),
    "attention": lambda rng, layers, heads: random_model(rng, n_layers=layers, n_heads=heads),
}


def some_edges(rng, model, n):
    edges = edge_names(model)
    return [edges[i] for i in torch.randperm(len(edges), generator=rng)[:n].tolist()]


# make_prompts -------------------------------------------------------------------------------

SHAPES = (
    "{first} and {second} went to the {place} , {giver} gave a {thing} to",
    "at the {place} {second} met {first} ; a {thing} was what {giver} gave to",
    "{giver} , as {first} and {second} know , sent a {thing} to",
)


def some_fields(rng, n):
    def word(kind):
        return kind + "".join(chr(97 + integer(rng, 0, 25)) for _ in range(4))

    fields = []
    for _ in range(n):
        f = {kind: word(kind[0].upper()) for kind in ("first", "second", "third", "place", "thing")}
        fields.append(f | {"giver": f["first" if integer(rng, 0, 1) else "second"]})
    return fields


def prompts_by_hand(template, fields, change):
    wanted = []
    for i, f in enumerate(fields):
        word, answer = dict(f), f["first"] if f["giver"] == f["second"] else f["second"]
        if change == "order":
            word["first"], word["second"] = f["second"], f["first"]
        if change == "scene":
            word["place"], word["thing"] = (fields[i + 1 if i + 1 < len(fields) else 0][k] for k in ("place", "thing"))
        if change == "giver":
            word["giver"], answer = answer, f["giver"]
        if change == "third":
            word["giver"], answer = f["third"], ""
        text = template
        for name, value in word.items():
            text = text.replace("{" + name + "}", value)
        wanted.append((text, answer))
    return wanted


def same_prompts(got, wanted, change):
    require(isinstance(got, list | tuple) and len(got) == len(wanted), f"Return {len(wanted)} prompts, one for each of the fields.")
    for mine, (text, answer) in zip(got, wanted):
        if not isinstance(mine, list | tuple) or len(mine) != 2:
            fail("Each prompt is a pair: its text and its answer.")
        require(mine[0] == text, f"With the change {change!r} a prompt should be {text!r}; yours is {mine[0]!r}.")
        require(mine[1] == answer, f"With the change {change!r} the answer to {text!r} should be {answer!r}; yours is {mine[1]!r}.")


@exercise("make_prompts", points=1, explains=True)
def test_mary_and_john(submission, rng):
    fields = [dict(first="Mary", second="John", third="Tom", giver="John", place="store", thing="drink"),
              dict(first="Ann", second="Bob", third="Eve", giver="Ann", place="park", thing="ring")]
    for change in ("none", "order", "scene", "giver", "third"):
        same_prompts(submission.make_prompts(SHAPES[0], fields, change), prompts_by_hand(SHAPES[0], fields, change), change)


def check_prompts(submission, rng, changes):
    for change in changes:
        for template in SHAPES:
            fields = some_fields(rng, 7)
            same_prompts(submission.make_prompts(template, fields, change), prompts_by_hand(template, fields, change), change)


@exercise("make_prompts", points=1)
def test_what_leaves_the_answer_leaves_it(submission, rng):
    check_prompts(submission, rng, ("none", "order", "scene"))


@exercise("make_prompts", points=1)
def test_another_giver_turns_the_answer_round(submission, rng):
    check_prompts(submission, rng, ("giver",))


@exercise("make_prompts", points=1)
def test_a_third_giver_leaves_no_answer(submission, rng):
    check_prompts(submission, rng, ("third",))


# duplicate_token ----------------------------------------------------------------------------


def slow_looks(pattern, there, back):
    return [sum(pattern[b, h, there[b], back[b]].item() for b in range(len(pattern))) / len(pattern) for h in range(pattern.shape[1])]


def places(rng, batch, pos):
    there = torch.randint(1, pos, (batch,), generator=rng)
    return there, (torch.rand(batch, generator=rng) * (there + 1)).long()


@exercise("duplicate_token", points=1, explains=True)
def test_two_prompts_and_three_heads_by_hand(submission, rng):
    pattern = torch.zeros(2, 3, 3, 3)
    pattern[0, :, 2, 1], pattern[1, :, 1, 0] = torch.tensor([0.5, 1.0, 0.0]), torch.tensor([0.25, 0.5, 1.0])
    expect(submission.duplicate_token(pattern, torch.tensor([2, 1]), torch.tensor([1, 0])), [0.375, 0.75, 0.5], "the weights of three heads")


@exercise("duplicate_token", points=1)
def test_each_prompt_has_its_own_places(submission, rng):
    pattern = random_patterns(rng, 6, 5, 8, 8)
    there, back = places(rng, 6, 8)
    expect(submission.duplicate_token(pattern, there, back), slow_looks(pattern, there, back), "the mean weights", atol=1e-6)


@exercise("duplicate_token", points=1)
def test_the_mean_is_over_prompts_alone(submission, rng):
    pattern = random_patterns(rng, 9, 7, 6, 6)
    there, back = places(rng, 9, 6)
    expect(submission.duplicate_token(pattern, there, back), slow_looks(pattern, there, back), "the mean weights", atol=1e-6)


# name_mover ---------------------------------------------------------------------------------


def slow_moves(model, cache, source, direction):
    table = torch.zeros(model.cfg.n_layers, model.cfg.n_heads, dtype=torch.double)
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):
            for b in range(len(source)):
                s = int(source[b])
                vector = cache["v", layer][b, s, head].double() @ model.W_O[layer, head].double()
                table[layer, head] += cache["pattern", layer][b, head, -1, s].item() * float(vector @ direction[b].double()) / len(source)
    return table


def cached(rng, model, batch=6, pos=8):
    tokens = random_tokens(rng, model, batch, pos)
    return tokens, model.run_with_cache(tokens)[1]


@exercise("name_mover", points=1)
def test_weight_times_value_along_the_direction(submission, rng):
    for model in (full_model(rng), full_model(rng, n_layers=2, n_heads=3)):
        _, cache = cached(rng, model)
        source, direction = torch.randint(8, (6,), generator=rng), normal(rng, 6, model.cfg.d_model)
        got = submission.name_mover(model, cache, source, direction)
        expect(got, slow_moves(model, cache, source, direction), "what the heads move", rtol=1e-3, atol=1e-4)


@exercise("name_mover", points=1)
def test_all_places_together_are_what_a_head_writes(submission, rng):
    model = full_model(rng, n_heads=3)
    _, cache = cached(rng, model, 5, 6)
    direction, total = normal(rng, 5, model.cfg.d_model), 0
    for s in range(6):
        total = total + torch.as_tensor(submission.name_mover(model, cache, torch.full((5,), s), direction))
    want = [
        [sum(float(cache["z", la][b, -1, h] @ model.W_O[la, h] @ direction[b]) for b in range(5)) / 5 for h in range(3)]
        for la in range(model.cfg.n_layers)
    ]
    expect(total, want, "the sum over all places", rtol=1e-3, atol=1e-4)


@exercise("name_mover", points=1)
def test_it_is_so_without_mlps_and_norms(submission, rng):
    model = random_model(rng, n_layers=2, n_heads=6)
    _, cache = cached(rng, model, 7, 5)
    source, direction = torch.randint(5, (7,), generator=rng), normal(rng, 7, model.cfg.d_model)
    expect(submission.name_mover(model, cache, source, direction), slow_moves(model, cache, source, direction),
           "what the heads move", rtol=1e-3, atol=1e-4)


# copy_score ---------------------------------------------------------------------------------


def slow_copies(model, resid, names, layer, head, k):
    block, hits = model.blocks[layer], 0
    for x, name in zip(resid, names):
        written = (block.ln1(x) @ block.attn.W_V[head] + block.attn.b_V[head]) @ block.attn.W_O[head]
        logits = model.ln_final(written) @ model.W_U + model.unembed.b_U
        hits += int((logits > logits[name]).sum()) < k
    return hits / len(names)


def copy_inputs(rng, n=60, **shape):
    model = full_model(rng, d_vocab=17, **shape)
    names = torch.randint(17, (n,), generator=rng)
    return model, normal(rng, n, model.cfg.d_model), names


@exercise("copy_score", points=1)
def test_the_share_of_names_among_the_largest_logits(submission, rng):
    for k in (3, 5, 8):
        model, resid, names = copy_inputs(rng)
        layer, head = integer(rng, 0, 2), integer(rng, 0, 4)
        want = slow_copies(model, resid, names, layer, head, k)
        expect(submission.copy_score(model, resid, names, layer, head, k), want, f"the copy score of head {layer}.{head} with k = {k}")


@exercise("copy_score", points=1)
def test_a_head_made_to_copy_copies(submission, rng):
    model, _, _ = copy_inputs(rng, n_layers=2, d_model=30, d_head=30, n_heads=3)
    layer, head, names = integer(rng, 0, 1), integer(rng, 0, 2), torch.randperm(17, generator=rng)
    with torch.no_grad():
        sign = 1 - 2 * integer(rng, 0, 1)
        model.blocks[layer].ln1.w.fill_(1), model.blocks[layer].ln1.b.zero_()
        model.W_E.copy_(orthogonal(rng, 30, 17).T), model.W_U.copy_(sign * model.W_E.T)
        turn = orthogonal(rng, 30)
        attn = model.blocks[layer].attn
        attn.W_V[head], attn.W_O[head] = turn, turn.T
        attn.b_V.zero_(), model.ln_final.w.fill_(1), model.ln_final.b.zero_(), model.unembed.b_U.zero_()
    got = [submission.copy_score(model, model.W_E[names].detach(), names, layer, h, 3) for h in range(3)]
    want = [slow_copies(model, model.W_E[names], names, layer, h, 3) for h in range(3)]
    require(want[head] == (sign > 0), "the check is broken")
    expect(torch.tensor([float(g) for g in got]), want, "the copy scores of three heads, one of which copies or avoids")


@exercise("copy_score", points=1)
def test_biases_and_norms_have_their_say(submission, rng):
    for _ in range(2):
        model, resid, names = copy_inputs(rng, n=80, n_layers=2, n_heads=6)
        with torch.no_grad():
            for part in (model.blocks[1].attn.b_V, model.ln_final.b, model.blocks[1].ln1.b, model.unembed.b_U):
                part.mul_(3)
        head = integer(rng, 0, 5)
        want = slow_copies(model, resid, names, 1, head, 7)
        expect(submission.copy_score(model, resid, names, 1, head, 7), want, f"the copy score of head 1.{head}")


# s_inhibition -------------------------------------------------------------------------------


@torch.no_grad()
def slow_owed(model, clean, corrupted, mover, io, s):
    _, source = model.run_with_cache(corrupted)

    def preference(below=None, other=None):
        def patch(z, hook):
            z = z.clone()
            z[:, -1, other] = source[hook.name][:, -1, other]
            return z

        with model.hooks([(get_act_name("z", below), patch)] if other is not None else []):
            _, cache = model.run_with_cache(clean)
        A = cache["pattern", mover[0]]
        return sum(A[b, mover[1], -1, io[b]].item() - A[b, mover[1], -1, s[b]].item() for b in range(len(clean))) / len(clean)

    owed = torch.zeros(model.cfg.n_layers, model.cfg.n_heads)
    for below in range(mover[0]):
        for other in range(model.cfg.n_heads):
            owed[below, other] = preference() - preference(below, other)
    return owed


def owed_inputs(rng, mover, pos=7, **shape):
    model = full_model(rng, **shape)
    with torch.no_grad():  # sharper, so that a choice can turn
        for block in model.blocks:
            block.attn.W_Q.mul_(2.5)
    clean, corrupted = random_tokens(rng, model, 5, pos), random_tokens(rng, model, 5, pos)
    io = torch.randint(pos - 1, (5,), generator=rng)
    return model, clean, corrupted, mover, io, (io + torch.randint(1, pos - 1, (5,), generator=rng)) % (pos - 1)


@exercise("s_inhibition", points=1)
def test_each_lower_head_alone_at_the_end_alone(submission, rng):
    given = owed_inputs(rng, (2, integer(rng, 0, 2)), n_heads=3)
    expect(submission.s_inhibition(*given), slow_owed(*given), "what the mover owes to each head", rtol=1e-3, atol=1e-5)


@exercise("s_inhibition", points=1)
def test_heads_of_the_movers_layer_and_above_get_nothing(submission, rng):
    given = owed_inputs(rng, (1, integer(rng, 0, 2)), n_heads=3, pos=6)
    expect(submission.s_inhibition(*given), slow_owed(*given), "what a mover in layer 1 of three owes", rtol=1e-3, atol=1e-5)


@exercise("s_inhibition", points=1)
def test_attention_to_the_one_minus_to_the_other(submission, rng):
    model, clean, corrupted, mover, io, s = owed_inputs(rng, (1, integer(rng, 0, 4)), n_layers=2, **STANDARD)
    for a, b in ((io, s), (s, io)):
        expect(submission.s_inhibition(model, clean, corrupted, mover, a, b), slow_owed(model, clean, corrupted, mover, a, b),
               "what the mover owes", rtol=1e-3, atol=1e-5)


# backups ------------------------------------------------------------------------------------


@torch.no_grad()
def slow_backups(model, tokens, knocked, direction):
    _, before = model.run_with_cache(tokens)

    def out(z, hook):
        z = z.clone()
        for layer, head in knocked:
            if layer == int(hook.name.split(".")[1]):
                z[:, :, head] = sum(before[hook.name][b, :, head] for b in range(len(tokens))) / len(tokens)
        return z

    with model.hooks([(lambda name: name.endswith("hook_z"), out)]):
        _, after = model.run_with_cache(tokens)
    table = torch.zeros(model.cfg.n_layers, model.cfg.n_heads, dtype=torch.double)
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):
            for b in range(len(tokens)):
                news = (after["z", layer] - before["z", layer])[b, -1, head] @ model.W_O[layer, head]
                table[layer, head] += float(news @ direction[b]) / len(tokens)
    return table


def check_backups(submission, rng, model, knocked, batch=5):
    tokens = random_tokens(rng, model, batch, 6)
    direction = normal(rng, batch, model.cfg.d_model)
    expect(submission.backups(model, tokens, knocked, direction), slow_backups(model, tokens, knocked, direction),
           f"the changes without {', '.join(f'{a}.{b}' for a, b in knocked)}", rtol=1e-3, atol=1e-4)


@exercise("backups", points=1)
def test_one_head_of_the_first_layer_is_out(submission, rng):
    check_backups(submission, rng, full_model(rng, n_heads=3), [(0, integer(rng, 0, 2))])


@exercise("backups", points=1)
def test_two_heads_of_different_layers_are_out(submission, rng):
    check_backups(submission, rng, full_model(rng), [(1, integer(rng, 0, 4)), (0, integer(rng, 0, 4))], batch=6)


@exercise("backups", points=1)
def test_heads_of_one_layer_are_out_together(submission, rng):
    check_backups(submission, rng, random_model(rng, n_layers=2), [(0, h) for h in torch.randperm(5, generator=rng)[:3].tolist()], batch=7)


# edge_effects -------------------------------------------------------------------------------


@drawn_once
def effects_case(rng, kind, n_layers, n_heads):
    """A model with its prompts; and of some edges, by name, the effects."""
    model = SHAPE_OF[kind](rng, n_layers, n_heads)
    given, some, edges = pairs(rng, model), some_edges(rng, model, 12), set(edge_names(model))
    whole = of_circuit(model, edges, *given)
    return model, given, {edge: whole - of_circuit(model, edges - {edge}, *given) for edge in some}


def check_effects(submission, rng, *shape):
    model, given, want = effects_case(rng, *shape)
    edges = edge_names(model)
    got = numbers(submission.edge_effects(model, *given), edges, "every edge")
    expect(got[[edges.index(e) for e in want]], list(want.values()), f"the effects of {', '.join([*want][:3])}, ...", rtol=1e-3, atol=2e-4)


@exercise("edge_effects", points=1)
def test_what_is_lost_without_each_edge(submission, rng):
    check_effects(submission, rng, "full", 2, 2)


@exercise("edge_effects", points=1)
def test_it_is_so_with_positions_in_the_stream(submission, rng):
    check_effects(submission, rng, "standard", 2, 3)


@exercise("edge_effects", points=1)
def test_it_is_so_for_attention_alone(submission, rng):
    check_effects(submission, rng, "attention", 3, 2)


# strength_gradient, integrated_edge_attribution ---------------------------------------------


@torch.no_grad()
def slopes(model, given, edges, strength, step=1e-4):
    """The slope by each of some edges, in double precision, by a small step to either side."""
    model = model.double()
    clean, corrupted, right, wrong = given
    found = []
    for edge in edges:
        ends = []
        for sign in (1, -1):
            gates = dict.fromkeys(edge_names(model), strength) | {edge: strength + sign * step}
            ends.append(difference(run_circuit(model, gates, clean, corrupted), right, wrong))
        found.append((ends[0] - ends[1]) / (2 * step))
    return found


def double(model):
    import copy

    return copy.deepcopy(model).double()


def check_slopes(submission, rng, model, strength):
    given, edges = pairs(rng, model), edge_names(model)
    got = numbers(submission.strength_gradient(model, *given, strength), edges, "every edge")
    direct = next(e for e in edges if e.startswith("embed") and e.endswith("logits"))
    some = [direct, *(e for e in some_edges(rng, model, 13) if e != direct)]  # with all edges out, it alone has a slope
    want = slopes(double(model), given, some, strength)
    least = 1e-2 * max(map(abs, want))  # slopes may all be small, and zeros must not be near enough
    expect(got[[edges.index(e) for e in some]], want, f"the slopes of {', '.join(some[:3])}, ... at {strength:.2f}", rtol=1e-2, atol=least)


@exercise("strength_gradient", points=1)
def test_slopes_in_the_clean_run(submission, rng):
    check_slopes(submission, rng, little(rng), 1.0)


@exercise("strength_gradient", points=1)
def test_slopes_on_the_way(submission, rng):
    check_slopes(submission, rng, little(rng, layers=3), 0.15 + 0.6 * float(torch.rand(1, generator=rng)))


@exercise("strength_gradient", points=1)
def test_slopes_in_the_corrupted_run(submission, rng):
    check_slopes(submission, rng, random_model(rng, n_layers=2, n_heads=3), 0.0)


@exercise("integrated_edge_attribution", points=1)
def test_the_mean_of_slopes_at_midpoints(submission, rng):
    model, steps = little(rng, heads=2), 3
    given, edges = pairs(rng, model), edge_names(model)
    some = some_edges(rng, model, 8)
    got = numbers(submission.integrated_edge_attribution(model, *given, steps), edges, "every edge")
    each = [slopes(double(model), given, some, (2 * i + 1) / (2 * steps)) for i in range(steps)]
    expect(got[[edges.index(e) for e in some]], [sum(column) / steps for column in zip(*each)],
           f"the attributions of {', '.join(some[:3])}, ...", rtol=1e-2, atol=1e-3)


@exercise("integrated_edge_attribution", points=1)
def test_all_edges_add_up_to_the_whole_difference(submission, rng):
    model = little(rng, layers=3, heads=2, **STANDARD)
    given = pairs(rng, model)
    got = numbers(submission.integrated_edge_attribution(model, *given, 9), edge_names(model), "every edge")
    with torch.no_grad():
        whole = difference(model(given[0]), *given[2:]) - difference(model(given[1]), *given[2:])
        size = sum(abs(x) for x in got.tolist())
    require(size > 0.05, "All attributions are nearly 0.")
    require(abs(got.sum().item() - whole) < 0.1 * abs(whole) + 0.02 * size,
            f"With 9 steps all attributions should add up to about {whole:.3f}; yours make {got.sum().item():.3f}.")
    edges = edge_names(model)
    some = some_edges(rng, model, 3)
    each = [slopes(double(model), given, some, (2 * i + 1) / 18) for i in range(9)]
    expect(got[[edges.index(e) for e in some]], [sum(column) / 9 for column in zip(*each)],
           f"the attributions of {', '.join(some)}", rtol=1e-2, atol=1e-3)


@exercise("integrated_edge_attribution", points=1)
def test_one_step_is_the_slope_half_way(submission, rng):
    model = random_model(rng, n_layers=2, n_heads=3)
    given, edges = pairs(rng, model), edge_names(model)
    some = some_edges(rng, model, 14)
    got = numbers(submission.integrated_edge_attribution(model, *given, 1), edges, "every edge")
    expect(got[[edges.index(e) for e in some]], slopes(double(model), given, some, 0.5),
           f"the attributions of {', '.join(some[:3])}, ...", rtol=1e-2, atol=1e-3)


# greedy_pruning -----------------------------------------------------------------------------


def slow_pruning(model, given, threshold):
    """What is kept, and how near the threshold the nearest decision was."""
    kept = edge_names(model)
    now, near = of_circuit(model, kept, *given), math.inf
    for edge in edge_names(model)[::-1]:
        without = of_circuit(model, [e for e in kept if e != edge], *given)
        near = min(near, abs(now - without - threshold))
        if now - without < threshold:
            kept, now = [e for e in kept if e != edge], without
    return kept, near


@drawn_once
def pruning_case(rng, kind, n_layers, n_heads, low, high):
    """A model with its prompts, a threshold, and what it leaves; no decision is one that rounding could turn."""
    model = SHAPE_OF[kind](rng, n_layers, n_heads)
    for _ in range(20):
        given = pairs(rng, model)
        if of_circuit(model, edge_names(model), *given) < of_circuit(model, [], *given):
            given = given[1], given[0], *given[2:]
        threshold = low + (high - low) * float(torch.rand(1, generator=rng))
        want, near = slow_pruning(model, given, threshold)
        if near > 2e-4 and 0 < len(want) < 0.8 * len(edge_names(model)):
            break
    return model, given, threshold, want


def check_pruning(submission, rng, *shape):
    model, given, threshold, want = pruning_case(rng, *shape)
    got = submission.greedy_pruning(model, *given, threshold)
    names = [str(e) for e in got]
    strange = [e for e in names if e not in edge_names(model)]
    require(not strange, f"{strange[:1]} is no edge of the model." if strange else "")
    require(len(set(names)) == len(names), "An edge is named twice.")
    more, fewer = [e for e in names if e not in want], [e for e in want if e not in names]
    require(
        not more and not fewer,
        f"With a threshold of {threshold:.3f} nats {len(want)} edges are left; of yours {len(more)} are not among them "
        f"{more[:2]}, and {len(fewer)} are missing {fewer[:2]}.",
    )


@exercise("greedy_pruning", points=1)
def test_a_small_threshold_keeps_much(submission, rng):
    check_pruning(submission, rng, "full", 2, 2, 0.01, 0.03)


@exercise("greedy_pruning", points=1)
def test_a_larger_threshold_keeps_less(submission, rng):
    check_pruning(submission, rng, "attention", 3, 2, 0.03, 0.07)


@exercise("greedy_pruning", points=1)
def test_edges_that_hurt_are_dropped_too(submission, rng):
    check_pruning(submission, rng, "attention", 2, 3, 0.005, 0.02)


# faithfulness_curve -------------------------------------------------------------------------


def check_curve(submission, rng, model, sizes):
    given = pairs(rng, model)
    ranked = some_edges(rng, model, 10**6)
    low, high = of_circuit(model, [], *given), of_circuit(model, edge_names(model), *given)
    want = [(of_circuit(model, ranked[:n], *given) - low) / (high - low) for n in sizes]
    got = submission.faithfulness_curve(model, ranked, sizes, *given)
    atol = 2e-5 / min(1.0, abs(high - low)) + 1e-4
    expect(torch.tensor([float(x) for x in got], dtype=torch.double), want, f"the faithfulness of {sizes} edges", rtol=2e-3, atol=atol)


@exercise("faithfulness_curve", points=1, explains=True)
def test_no_edge_is_0_and_all_are_1(submission, rng):
    model = little(rng)
    given = pairs(rng, model)
    edges = edge_names(model)
    expect(torch.tensor([float(x) for x in submission.faithfulness_curve(model, edges, [0, len(edges)], *given)]), [0.0, 1.0],
           "the faithfulness of no and of all edges", atol=1e-3)


@exercise("faithfulness_curve", points=1)
def test_the_first_n_edges_of_a_ranking(submission, rng):
    check_curve(submission, rng, little(rng), [3, 9, 20, 35, 50, 71])


@exercise("faithfulness_curve", points=1)
def test_sizes_in_any_order(submission, rng):
    check_curve(submission, rng, little(rng, layers=3, heads=2, **STANDARD), [40, 5, 60, 23, 11])


@exercise("faithfulness_curve", points=1)
def test_it_is_so_of_attention_alone(submission, rng):
    check_curve(submission, rng, random_model(rng, n_layers=2, n_heads=3), [6, 13, 27, 33])


# area_by_log_size ---------------------------------------------------------------------------


def slow_area(sizes, heights):
    total = 0.0
    for i in range(len(sizes) - 1):
        total += math.log(sizes[i + 1] / sizes[i]) * (heights[i] + heights[i + 1]) / 2
    return total / math.log(sizes[-1] / sizes[0])


@exercise("area_by_log_size", points=1, explains=True)
def test_a_curve_of_ones_has_an_area_of_one(submission, rng):
    expect(submission.area_by_log_size([1, 2, 8, 64], [1.0, 1.0, 1.0, 1.0]), 1.0, "the area under ones")
    expect(submission.area_by_log_size([2, 4, 16], [0.0, 0.0, 1.0]), 1 / 3, "the area of a late rise")


def rising(rng, n):
    return torch.randperm(300, generator=rng)[:n].add(1).sort().values.tolist()


@exercise("area_by_log_size", points=1)
def test_trapezoids_over_the_logarithm(submission, rng):
    for n in (5, 9):
        sizes, heights = rising(rng, n), torch.rand(n, generator=rng).tolist()
        expect(submission.area_by_log_size(sizes, heights), slow_area(sizes, heights), f"the area over {sizes}")


@exercise("area_by_log_size", points=1)
def test_heights_below_0_and_above_1_count_as_they_are(submission, rng):
    sizes, heights = rising(rng, 7), normal(rng, 7, scale=2.0).tolist()
    expect(submission.area_by_log_size(sizes, heights), slow_area(sizes, heights), f"the area over {sizes}")


# precision_and_recall -----------------------------------------------------------------------


def named_edges(rng, n):
    names = []
    while len(names) < n:
        edge = f"{integer(rng, 0, 3)}.{integer(rng, 0, 9)}->m{integer(rng, 4, 9)}"
        names += [edge] if edge not in names else []
    return names


def check_shares(submission, found, truth):
    true = [e for e in dict.fromkeys(found) if e in truth]
    want = [len(true) / len(set(found)) if found else 0.0, len(true) / len(truth)]
    expect(torch.tensor([float(x) for x in submission.precision_and_recall(found, truth)]), want,
           f"precision and recall of {len(found)} edges with {len(true)} true ones, of {len(truth)}")


@exercise("precision_and_recall", points=1, explains=True)
def test_three_of_four_and_three_of_five(submission, rng):
    truth = ["a->b", "b->c", "c->d", "d->e", "e->f"]
    check_shares(submission, ["a->b", "b->c", "x->y", "d->e"], truth)


@exercise("precision_and_recall", points=1)
def test_true_edges_that_were_not_found_are_missed(submission, rng):
    for hits, wrong, missed in ((3, 5, 6), (5, 3, 9), (1, 0, 6)):
        names = named_edges(rng, hits + wrong + missed)
        check_shares(submission, names[: hits + wrong], names[:hits] + names[hits + wrong :])


@exercise("precision_and_recall", points=1)
def test_an_edge_named_twice_counts_once(submission, rng):
    names = named_edges(rng, 15)
    check_shares(submission, names[:9] + names[:3] + names[2:5], names[5:15])
    check_shares(submission, [], names[:6])


# completeness, minimality -------------------------------------------------------------------


def whole_of(model, given):
    return of_circuit(model, edge_names(model), *given) - of_circuit(model, [], *given)


def lively(rng, model):
    """Pairs that the model tells apart."""
    given = pairs(rng, model)
    for _ in range(20):
        if abs(whole_of(model, given)) > 0.15:
            break
        given = pairs(rng, model)
    return given


def check_completeness(submission, rng, model, n, k):
    for _ in range(40):  # until the circuit keeps more than the model does: that is as incomplete as less
        given = lively(rng, model)
        circuit = some_edges(rng, model, n)
        knocked = circuit[: k // 2] + [e for e in some_edges(rng, model, 10**6) if e not in circuit][: k - k // 2]
        all_left = [e for e in edge_names(model) if e not in knocked]
        left = [e for e in circuit if e not in knocked]
        lost = (of_circuit(model, all_left, *given) - of_circuit(model, left, *given)) / whole_of(model, given)
        if lost < -0.02:
            break
    got = submission.completeness(model, circuit, knocked, *given)
    expect(got, abs(lost), f"the incompleteness of {n} edges without {k}", rtol=2e-3, atol=1e-3)


@exercise("completeness", points=1)
def test_the_model_and_the_circuit_without_the_same_edges(submission, rng):
    check_completeness(submission, rng, little(rng), 40, 12)


@exercise("completeness", points=1)
def test_small_circuits_of_three_layers(submission, rng):
    check_completeness(submission, rng, little(rng, layers=3, heads=2, **STANDARD), 25, 7)


@exercise("completeness", points=1)
def test_of_attention_alone(submission, rng):
    check_completeness(submission, rng, random_model(rng, n_layers=2, n_heads=3), 20, 5)


def check_minimality(submission, rng, model, n):
    for _ in range(20):  # until some edge counts: where none does, zeros would be right
        given = lively(rng, model)
        circuit = some_edges(rng, model, n)
        now, whole = of_circuit(model, circuit, *given), whole_of(model, given)
        want = [(now - of_circuit(model, [e for e in circuit if e != edge], *given)) / whole for edge in circuit]
        if max(map(abs, want)) > 0.02:
            break
    got = numbers(submission.minimality(model, circuit, *given), circuit, "the edges of the circuit")
    expect(got, want, "what the faithfulness loses without each edge", rtol=2e-3, atol=1e-3)


@exercise("minimality", points=1)
def test_what_each_edge_adds_to_a_circuit(submission, rng):
    check_minimality(submission, rng, little(rng), 18)


@exercise("minimality", points=1)
def test_what_each_adds_in_three_layers(submission, rng):
    check_minimality(submission, rng, little(rng, layers=3, heads=2, **STANDARD), 23)


@exercise("minimality", points=1)
def test_what_each_adds_to_attention_alone(submission, rng):
    check_minimality(submission, rng, random_model(rng, n_layers=2, n_heads=3), 13)


# hypothesis_score ---------------------------------------------------------------------------


def check_hypothesis(submission, rng, model, n, draws, batch=40):
    tokens = random_tokens(rng, model, batch, 6)
    seed = integer(rng, 0, 2**40)
    logits = model(tokens)[:, -1]
    right = logits.topk(2, dim=-1).indices[:, 0]  # what the model says
    wrong = logits.topk(4, dim=-1).indices[:, integer(rng, 1, 3)]
    hypothesis = some_edges(rng, model, n)
    mine, wins = torch.Generator().manual_seed(seed), 0
    for _ in range(draws):
        order = torch.randperm(batch, generator=mine)
        with torch.no_grad():
            out = run_circuit(model, hypothesis, tokens, tokens[order])
        wins += sum(float(out[b, -1, right[b]]) > float(out[b, -1, wrong[b]]) for b in range(batch))
    got = submission.hypothesis_score(model, hypothesis, tokens, right, wrong, draws, torch.Generator().manual_seed(seed))
    expect(got, wins / batch / draws, f"the score of {n} edges", atol=1.01 / batch / draws if n else 1e-6)


@exercise("hypothesis_score", points=1)
def test_how_often_the_right_answer_still_wins(submission, rng):
    check_hypothesis(submission, rng, little(rng), 45, 3)


@exercise("hypothesis_score", points=1)
def test_each_draw_shuffles_anew(submission, rng):
    check_hypothesis(submission, rng, little(rng, layers=3, heads=2, **STANDARD), 30, 6, batch=33)


@exercise("hypothesis_score", points=1)
def test_all_outside_is_exchanged(submission, rng):
    check_hypothesis(submission, rng, random_model(rng, n_layers=2, n_heads=3), 12, 5, batch=37)


# path_catalogue -----------------------------------------------------------------------------


@torch.no_grad()
def slow_catalogue(model, tokens):
    _, cache = model.run_with_cache(tokens)
    E, n = model.W_E[tokens].double(), model.cfg.n_heads

    def moved(layer, head, x):
        out = torch.zeros_like(x)
        for b in range(len(x)):
            for p in range(x.shape[1]):
                read = sum(cache["pattern", layer][b, head, p, s].double() * x[b, s] for s in range(p + 1))
                out[b, p] = read @ model.W_V[layer, head].double() @ model.W_O[layer, head].double()
        return out

    terms = {"direct": E} | {f"0.{h}": moved(0, h, E) for h in range(n)} | {f"1.{h}": moved(1, h, E) for h in range(n)}
    terms |= {f"0.{a}->1.{b}": moved(1, b, terms[f"0.{a}"]) for a in range(n) for b in range(n)}
    whole = cache["resid_post", 1].double()

    def loss(stream):
        log_p = (stream @ model.W_U.double()).log_softmax(-1)
        picked = [log_p[b, p, tokens[b, p + 1]] for b in range(len(tokens)) for p in range(tokens.shape[1] - 1)]
        return -sum(picked).item() / len(picked)

    return {path: loss(whole - term) - loss(whole) for path, term in terms.items()}


def check_catalogue(submission, rng, batch, pos, **shape):
    model = random_model(rng, n_layers=2, **shape)
    tokens = random_tokens(rng, model, batch, pos)
    want = slow_catalogue(model, tokens)
    got = numbers(submission.path_catalogue(model, tokens), list(want), "all paths")
    expect(got, list(want.values()), f"the worth of {', '.join(list(want)[:3])}, ...", rtol=2e-3, atol=2e-4)


@exercise("path_catalogue", points=1)
def test_what_the_loss_rises_by_without_each_path(submission, rng):
    check_catalogue(submission, rng, 5, 6, n_heads=3)


@exercise("path_catalogue", points=1)
def test_pairs_of_heads_each_with_its_own_values(submission, rng):
    check_catalogue(submission, rng, 3, 7, n_heads=3, d_head=6, d_model=13)


@exercise("path_catalogue", points=1)
def test_positions_in_the_stream_belong_to_no_path(submission, rng):
    check_catalogue(submission, rng, 6, 5, n_heads=2, n_ctx=9)


# keep_largest -------------------------------------------------------------------------------


def slow_largest(W, share):
    order = sorted(range(W.numel()), key=lambda i: -abs(W.flatten()[i].item()))[: max(1, math.floor(share * W.numel() + 1e-9))]
    kept = torch.zeros(W.numel())
    for i in order:
        kept[i] = W.flatten()[i]
    return kept.view_as(W)


@exercise("keep_largest", points=1, explains=True)
def test_half_of_six_by_hand(submission, rng):
    W = torch.tensor([[0.1, -5.0, 2.0], [3.0, -0.5, 0.0]])
    expect(submission.keep_largest(W, 0.5), [[0.0, -5.0, 2.0], [3.0, 0.0, 0.0]], "the largest half")


@exercise("keep_largest", points=1)
def test_the_largest_by_size_whatever_their_sign(submission, rng):
    for shape, n in (((7, 9), 11), ((12, 5), 43)):
        W, share = normal(rng, *shape), (n + 0.5) / (shape[0] * shape[1])
        expect(submission.keep_largest(W, share), slow_largest(W, share), f"the largest {n} of {shape[0] * shape[1]}")


@exercise("keep_largest", points=1)
def test_one_stays_at_least(submission, rng):
    W = normal(rng, 6, 7) - 3 * (1 - 2 * integer(rng, 0, 1))
    for share in (1e-3, 0.3 / 42):
        expect(submission.keep_largest(W, share), slow_largest(W, share), "the largest of all")


# The mysteries ------------------------------------------------------------------------------

SEEDS = dict(zip(MYSTERIES, (3, 14, 6, 55, 7, 12, 19, 28, 26, 68), strict=True))  # by which each was drawn: what it holds


@functools.cache
def mystery(name):
    return judge.Mystery(load_mystery(name), draw_plan(SEEDS[name]))


def called(name, submission, of):
    """An answer to one mystery, which is told by its letter."""
    if of == "circuit":  # its argument is a word, so it must matter
        return lambda: answer_to(name, submission.circuit, MYSTERIES)
    return functools.partial(getattr(submission, of), name)


for _name in MYSTERIES:
    _checks = Checks(functools.partial(mystery, _name), functools.partial(called, _name))
    globals().update(named({
        f"test_follows_the_rule_of_{_name}": ("predict", 0.5, _checks.predicts("plain")),
        f"test_knows_the_exception_of_{_name}": ("predict", 0.5, _checks.predicts("quirk", "unusual")),
        f"test_names_what_is_enough_for_{_name}": ("circuit", 0.5, _checks.is_a_circuit(1)),
        f"test_leaves_the_rule_alone_in_{_name}": ("disable", 0.5, _checks.disables()),
        f"test_gives_another_symbol_to_{_name}": ("redirect", 0.5, _checks.redirects()),
    }))  # fmt: skip
