"""Known wrong answers to chapter 7, each with the hint it deserves. A learner whose answer does
what one of these does is shown its hint."""

import copy

import torch

from circuits.checking import mistake
from utils.model import get_act_name

# isolated_trace -----------------------------------------------------------------------------


def _trace(model, tokens, embed, answer, kind, reach, severed, near=None, above=None, every_pos=False,
           source="clean", cut="disturbed", read=None, disturb=True, kinds=None):
    n_layers, n_pos = model.cfg.n_layers, tokens.shape[1]
    disturbed_hook = ("hook_embed", lambda x, hook: embed)
    caches = {"clean": model.run_with_cache(tokens)[1]}
    with model.hooks([disturbed_hook]):
        caches["disturbed"] = model.run_with_cache(tokens)[1]
    near = near or (lambda layer: range(max(0, layer - reach), min(n_layers, layer + reach + 1)))
    above = above or (lambda layer: range(layer, n_layers))
    read = read or (lambda logits: logits[:, -1].softmax(-1)[torch.arange(len(answer)), answer])

    def put(cache, pos):
        def change(x, hook):
            x = x.clone()
            x[:, pos] = cache[hook.name][:, pos]
            return x

        return change

    table = []
    for layer in range(n_layers):
        row = []
        for pos in range(n_pos):
            where = slice(None) if every_pos else pos
            hooks = [disturbed_hook] if disturb else []
            hooks += [(get_act_name(k, i), put(caches[source], where)) for k in (kinds or [kind]) for i in near(layer)]
            if severed and cut:
                hooks += [(get_act_name(severed, i), put(caches[cut], where)) for i in above(layer)]
            row.append(read(model.run_with_hooks(tokens, fwd_hooks=hooks)))
        table.append(torch.stack(row, -1))
    return torch.stack(table, 1)


@mistake("isolated_trace", hint="Only one layer is restored, whatever `reach` says: restore all from layer - reach to layer + reach.")
def without_reach(model, tokens, embed, answer, kind, reach, severed):
    return _trace(model, tokens, embed, answer, kind, 0, severed)


@mistake("isolated_trace", hint="Layers are restored from this one on upwards. Those below it, down to layer - reach, belong to it too.")
def upwards_alone(model, tokens, embed, answer, kind, reach, severed):
    near = lambda layer: range(layer, min(model.cfg.n_layers, layer + reach + 1))
    return _trace(model, tokens, embed, answer, kind, reach, severed, near=near)


@mistake("isolated_trace", hint="`severed` does nothing in yours: at the same position hold that kind at its *disturbed* value, in this layer and above.")
def nothing_severed(model, tokens, embed, answer, kind, reach, severed):
    return _trace(model, tokens, embed, answer, kind, reach, "")


@mistake("isolated_trace", hint="The severed kind is held at its *clean* value. Then it helps instead of being cut off: hold it at the disturbed one.")
def severed_at_the_clean_value(model, tokens, embed, answer, kind, reach, severed):
    return _trace(model, tokens, embed, answer, kind, reach, severed, cut="clean")


@mistake("isolated_trace", hint="The severed kind is held in this layer only. In all layers above it, too.")
def severed_in_one_layer(model, tokens, embed, answer, kind, reach, severed):
    return _trace(model, tokens, embed, answer, kind, reach, severed, above=lambda layer: range(layer, layer + 1))


@mistake("isolated_trace", hint="The severed kind is held only in layers *above* this one. In this layer, too: the stream that leaves it is restored already, but its own parts must not help.")
def severed_from_the_next_layer(model, tokens, embed, answer, kind, reach, severed):
    return _trace(model, tokens, embed, answer, kind, reach, severed, above=lambda layer: range(layer + 1, model.cfg.n_layers))


@mistake("isolated_trace", hint="All positions are restored at once. Only position p of each cell is.")
def all_positions_at_once(model, tokens, embed, answer, kind, reach, severed):
    return _trace(model, tokens, embed, answer, kind, reach, severed, every_pos=True)


@mistake("isolated_trace", hint="The runs are not disturbed: in each of them `embed` takes the place of `hook_embed`.")
def runs_not_disturbed(model, tokens, embed, answer, kind, reach, severed):
    return _trace(model, tokens, embed, answer, kind, reach, severed, disturb=False)


@mistake("isolated_trace", hint="The probability is read at the position of the cell. The answer stands behind the last position.")
def reads_the_first_position(model, tokens, embed, answer, kind, reach, severed):
    read = lambda logits: logits[:, 0].softmax(-1)[torch.arange(len(answer)), answer]
    return _trace(model, tokens, embed, answer, kind, reach, severed, read=read)


@mistake("isolated_trace", hint="These are logits. Probabilities are asked: softmax over the vocabulary.")
def logits_for_probabilities(model, tokens, embed, answer, kind, reach, severed):
    read = lambda logits: logits[:, -1][torch.arange(len(answer)), answer]
    return _trace(model, tokens, embed, answer, kind, reach, severed, read=read)


# associative_memory -------------------------------------------------------------------------


@mistake("associative_memory", hint="That is the sum of all pairs, K^T V, which is right only if keys are at right angles and of length 1. Least squares is asked.")
def sum_of_pairs(K, V):
    return K.T @ V


@mistake("associative_memory", hint="Keys and values are exchanged: W takes keys to values.")
def values_to_keys(K, V):
    return torch.linalg.pinv(V) @ K


@mistake("associative_memory", hint="The result is transposed: `W` is `[d_key d_value]`, as keys are rows.")
def memory_transposed(K, V):
    return (torch.linalg.pinv(K) @ V).T


@mistake("associative_memory", hint="With a little added to the diagonal the memory forgets a little of everything (ridge). Plain least squares is asked: the pseudo-inverse.")
def with_a_ridge(K, V):
    return torch.linalg.solve(K.T @ K + 0.5 * torch.eye(K.shape[1]), K.T @ V)


@mistake("associative_memory", hint="You average over the pairs, K^T V / n. That is no least squares.")
def mean_of_pairs(K, V):
    return K.T @ V / len(K)


@mistake("associative_memory", hint="The means of keys and values are taken out first. There is no offset here: K W alone is to give V.")
def with_means_taken_out(K, V):
    return torch.linalg.pinv(K - K.mean(0)) @ (V - V.mean(0))


# hardest_size -------------------------------------------------------------------------------


def _says(sum_of_pairs, exact, disturbed):
    said = {"sum of pairs": sum_of_pairs, "least squares": exact, "least squares, disturbed": disturbed}
    return lambda memory: said[memory]


@mistake("hardest_size", hint="More pairs are not always worse. With as many as dimensions least squares still fits all of them, but how large are its weights, and what do they make of a disturbance?")
def the_more_the_worse(memory):
    return "triple"


@mistake("hardest_size", hint="With as many pairs as dimensions, least squares fits all of them exactly. Asked with the very keys, it fails only where it no longer can.")
def exact_fails_at_equal(memory):
    return _says("triple", "equal", "equal")(memory)


@mistake("hardest_size", hint="The sum of pairs inverts nothing: it has no weights that blow up. What disturbs it is the other pairs, and the more of them, the more.")
def all_fail_at_equal(memory):
    return "equal"


@mistake("hardest_size", hint="You have the two least-squares memories the wrong way round: it is the *disturbed* keys that huge weights upset.")
def exchanged_least_squares(memory):
    return _says("triple", "equal", "triple")(memory)


@mistake("hardest_size", hint="Half as many pairs as dimensions is easy for all three memories: there is room for every pair, and the weights can be small.")
def the_fewer_the_worse(memory):
    return "half"


@mistake("hardest_size", hint="The sum of pairs fails slowly, pair by pair; nothing happens to it at as many pairs as dimensions.")
def sum_fails_at_equal(memory):
    return _says("equal", "triple", "equal")(memory)


# subject_key --------------------------------------------------------------------------------


def _activation(model, layer, tokens, positions, kind="post"):
    return model.run_with_cache(tokens)[1][kind, layer][torch.arange(len(tokens)), positions]


@mistake("subject_key", hint="That is `pre`, before the ReLU. What W_out is multiplied by comes behind it: `post`.")
def before_the_relu(model, layer, tokens, positions):
    return _activation(model, layer, tokens, positions, "pre").mean(0)


@mistake("subject_key", hint="You add up over the texts. Take the mean.")
def sum_over_texts(model, layer, tokens, positions):
    return _activation(model, layer, tokens, positions).sum(0)


@mistake("subject_key", hint="Every text is read at the position of the first one. Each has its own: index with `torch.arange(len(tokens))` and `positions`.")
def position_of_the_first_text(model, layer, tokens, positions):
    return _activation(model, layer, tokens, positions[:1].expand(len(tokens))).mean(0)


@mistake("subject_key", hint="You take the last position of each text. The subject's last token stands at `positions[i]`.")
def last_position(model, layer, tokens, positions):
    return _activation(model, layer, tokens, torch.full_like(positions, tokens.shape[1] - 1)).mean(0)


@mistake("subject_key", hint="Every text is read at every one of the positions: `cache[...][:, positions]`. Text i has position i: index with `torch.arange(len(tokens))` too.")
def every_text_at_every_position(model, layer, tokens, positions):
    return model.run_with_cache(tokens)[1]["post", layer][:, positions].mean((0, 1))


@mistake("subject_key", hint="That is the key of one text alone. Average over all of them.")
def of_one_text(model, layer, tokens, positions):
    return _activation(model, layer, tokens, positions)[0]


# target_value -------------------------------------------------------------------------------


def _value(model, layer, tokens, subject, last, target, weight, decay, steps=60, essence=True, at=None, read=None,
           backwards=False, first_only=False, zero=False, away=False):
    name, rows = get_act_name("mlp_out", layer), torch.arange(len(tokens))
    at, read = subject if at is None else at, last if read is None else read
    logits, cache = model.run_with_cache(tokens, names_filter=name)
    before = logits[rows, read].log_softmax(-1).detach()
    v0 = cache[name][0, subject[0]]
    v = (0 * v0 if zero else v0.clone()).requires_grad_()
    optimizer = torch.optim.Adam([v], lr=0.1)

    def put(x, hook):
        x = x.clone()
        if first_only:
            x[0, at[0]] = v
        else:
            x[rows, at] = v
        return x

    for step in range(steps):
        log_p = model.run_with_hooks(tokens, fwd_hooks=[(name, put)])[rows, read].log_softmax(-1)
        loss = (1 if away else -1) * log_p[0, target] + decay * (v - (0 if zero else v0)).pow(2).sum()
        if essence and len(tokens) > 1:
            kl = (log_p.exp() * (log_p - before)) if backwards else (before.exp() * (before - log_p))
            loss = loss + weight * kl[1:].sum(-1).mean()
        v.grad = torch.autograd.grad(loss, v)[0]
        optimizer.param_groups[0]["lr"] = 0.1 * min(1.0, 2 * (1 - step / max(steps, 1)))
        optimizer.step()
    return v.detach()


@mistake("target_value", hint="It has not gone downhill yet: that is `v0`. Take some 60 steps.")
def where_it_starts(model, layer, tokens, subject, last, target, weight, decay):
    return _value(model, layer, tokens, subject, last, target, weight, decay, steps=0)


@mistake("target_value", hint="After a few steps it has not arrived. Take some 60, at a rate of 0.1.")
def a_few_steps(model, layer, tokens, subject, last, target, weight, decay):
    return _value(model, layer, tokens, subject, last, target, weight, decay, steps=4)


@mistake("target_value", hint="It goes uphill: the target gets less likely. The term is *minus* the log probability.")
def away_from_the_target(model, layer, tokens, subject, last, target, weight, decay):
    return _value(model, layer, tokens, subject, last, target, weight, decay, away=True)


@mistake("target_value", hint="The texts after the first are left alone: `v` must stand at the subject of *every* text, or their KL is always 0.")
def only_in_the_first_text(model, layer, tokens, subject, last, target, weight, decay):
    return _value(model, layer, tokens, subject, last, target, weight, decay, first_only=True)


@mistake("target_value", hint="The decay pulls towards 0. It pulls towards v0, where the search starts as well.")
def decays_to_zero(model, layer, tokens, subject, last, target, weight, decay):
    return _value(model, layer, tokens, subject, last, target, weight, decay, zero=True)


@mistake("target_value", hint="The decay is left out: `v` runs further away than it should.")
def without_decay(model, layer, tokens, subject, last, target, weight, decay):
    return _value(model, layer, tokens, subject, last, target, weight, 0.0)


# rank_one_edit ------------------------------------------------------------------------------


def _edit(W, u, k, v):
    return W + torch.outer(u, v - k @ W) / (k @ u)


@mistake("rank_one_edit", hint="C is left out: that is the smallest change in the plain norm. Use C^-1 k in place of k.")
def without_c(W, C, k, v):
    return _edit(W, k, k, v)


@mistake("rank_one_edit", hint="You multiply by C. It is its inverse: `torch.linalg.solve(C, k)`.")
def times_c(W, C, k, v):
    return _edit(W, C @ k, k, v)


@mistake("rank_one_edit", hint="The value is added to what the key gives already: the change must make up for `v - k W`, not for `v`.")
def adds_the_whole_value(W, C, k, v):
    u = torch.linalg.solve(C, k)
    return W + torch.outer(u, v) / (k @ u)


@mistake("rank_one_edit", hint="That is the change alone. Add it to W.")
def the_change_alone(W, C, k, v):
    return _edit(W, torch.linalg.solve(C, k), k, v) - W


@mistake("rank_one_edit", hint="You divide by the squared length of the key. It is k C^-1 k that makes k W' = v.")
def divided_by_the_squared_length(W, C, k, v):
    u = torch.linalg.solve(C, k)
    return W + torch.outer(u, v - k @ W) / (k @ k)


@mistake("rank_one_edit", hint="The change is not divided by k C^-1 k, so k W' is not v.")
def not_divided(W, C, k, v):
    u = torch.linalg.solve(C, k)
    return W + torch.outer(u, v - k @ W)


# edit_many ----------------------------------------------------------------------------------


@mistake("edit_many", hint="The edits are made one after the other, and a later one disturbs the earlier ones. Solve for all at once.")
def one_after_the_other(W, C, K, V):
    for k, v in zip(K, V):
        W = _edit(W, torch.linalg.solve(C, k), k, v)
    return W


@mistake("edit_many", hint="The changes of single edits are added up. Where keys have something in common they disturb each other: solve with the n × n matrix K U.")
def single_changes_added(W, C, K, V):
    return W + sum(_edit(W, torch.linalg.solve(C, k), k, v) - W for k, v in zip(K, V))


@mistake("edit_many", hint="C is left out: that is the smallest change in the plain norm.")
def many_without_c(W, C, K, V):
    return W + torch.linalg.pinv(K) @ (V - K @ W)


@mistake("edit_many", hint="The values are added to what the keys give already: it is `V - K W` that is missing.")
def many_whole_values(W, C, K, V):
    U = torch.linalg.solve(C, K.T)
    return W + U @ torch.linalg.solve(K @ U, V)


@mistake("edit_many", hint="That is the change alone. Add it to W.")
def many_the_change_alone(W, C, K, V):
    U = torch.linalg.solve(C, K.T)
    return U @ torch.linalg.solve(K @ U, V - K @ W)


@mistake("edit_many", hint="That weighs the new pairs against the old ones, as MEMIT does, and no key gives quite its value. Here K W' = V is to hold exactly.")
def softly(W, C, K, V):
    return W + torch.linalg.solve(C + K.T @ K, K.T) @ (V - K @ W)


# changes_along ------------------------------------------------------------------------------


@mistake("changes_along", hint="An edit is not said of the city but of the person: it is written where the last name stands, and the reversed question does not pass there.")
def edits_turn_round(question):
    return "as before" if question == "essence" else "changed"


@mistake("changes_along", hint="Without the essence term v has only to say the new city, and takes the place of *all* that the layer writes about the person.")
def nothing_but_the_fact(question):
    return "changed" if question == "other words" else "as before"


@mistake("changes_along", hint="The essence term asks that job and animal stay as they are; it is there to hold them.")
def essence_is_lost(question):
    return "as before" if question == "reversed" else "changed"


@mistake("changes_along", hint="The edit is made at the person's name, by a key averaged over many ways to ask. All of these pass through it.")
def the_words_matter(question):
    return "changed" if question == "no essence" else "as before"


@mistake("changes_along", hint="The two ways to find v are the wrong way round: the essence term *holds* the person's other facts.")
def essence_turned_round(question):
    return "changed" if question in ("other words", "essence") else "as before"


@mistake("changes_along", hint="Two things at once: without the essence term the person's other facts go; and the reversed question does not pass the person's name, where the edit stands.")
def both_the_wrong_way(question):
    return "changed" if question in ("other words", "reversed") else "as before"


# tracing_gain -------------------------------------------------------------------------------


def _gain(success, columns):
    success = success.double()
    total, explained = (success - success.mean()).pow(2).sum(), []
    for X in columns:
        fit = X @ torch.linalg.pinv(X) @ success
        explained.append(1 - ((success - fit).pow(2).sum() / total).item())
    return tuple(explained)


def _by_layer(layer):
    return (layer[:, None] == layer.unique()).double()


@mistake("tracing_gain", hint="The layer is used as a number, with a slope. Layers need not lie on a line: one mean for each.")
def layer_as_a_number(success, layer, effect):
    X = torch.stack([torch.ones(len(layer)), layer], 1).double()
    return _gain(success, (X, torch.cat([X, effect.double()[:, None]], 1)))


@mistake("tracing_gain", hint="The second number should be of layer *and* effect together; yours is of the effect alone.")
def effect_alone(success, layer, effect):
    X = torch.stack([torch.ones(len(effect)), effect], 1).double()
    return _gain(success, (_by_layer(layer), X))


@mistake("tracing_gain", hint="The second number is what is *added*. Give the whole R² of layer and effect.")
def only_what_is_added(success, layer, effect):
    by_layer, both = _gain(success, (_by_layer(layer), torch.cat([_by_layer(layer), effect.double()[:, None]], 1)))
    return by_layer, both - by_layer


@mistake("tracing_gain", hint="Each layer has a slope of its own. One slope for all layers is asked.")
def a_slope_per_layer(success, layer, effect):
    X = _by_layer(layer)
    return _gain(success, (X, torch.cat([X, X * effect.double()[:, None]], 1)))


@mistake("tracing_gain", hint="These are the shares that are *not* explained. Take them from 1.")
def left_unexplained(success, layer, effect):
    X = _by_layer(layer)
    return tuple(1 - r for r in _gain(success, (X, torch.cat([X, effect.double()[:, None]], 1))))


@mistake("tracing_gain", hint="The variance is taken around 0. It is around the mean of all successes.")
def around_zero(success, layer, effect):
    success, X, explained = success.double(), _by_layer(layer), []
    for Z in (X, torch.cat([X, effect.double()[:, None]], 1)):
        fit = Z @ torch.linalg.pinv(Z) @ success
        explained.append(1 - ((success - fit).pow(2).sum() / success.pow(2).sum()).item())
    return tuple(explained)


# difference_of_means, paired_direction ------------------------------------------------------


@mistake("difference_of_means", hint="It points the wrong way: from the negative to the positive side.")
def the_other_way(positive, negative):
    return negative.mean(0) - positive.mean(0)


@mistake("difference_of_means", hint="You bring it to length 1. Its length is how far the means are apart, and counts.")
def difference_normalised(positive, negative):
    d = positive.mean(0) - negative.mean(0)
    return d / d.norm()


@mistake("difference_of_means", hint="These are sums. Each side has its own number of vectors: take means.")
def difference_of_sums(positive, negative):
    return positive.sum(0) - negative.sum(0)


@mistake("difference_of_means", hint="That is from the mean of *all* vectors to the positive ones. From the negative ones.")
def from_the_mean_of_all(positive, negative):
    return positive.mean(0) - torch.cat([positive, negative]).mean(0)


@mistake("difference_of_means", hint="That is the positive side's mean alone. Take the negative side's mean away from it.")
def positive_mean_alone(positive, negative):
    return positive.mean(0)


def _signed(u, D):
    return u if D.mean(0) @ u > 0 else -u


@mistake("paired_direction", hint="The mean difference is taken out first, and it is what we look for: no centring.")
def paired_centred(positive, negative):
    D = positive - negative
    return _signed(torch.linalg.svd(D - D.mean(0), full_matrices=False).Vh[0], D)


@mistake("paired_direction", hint="That is the mean difference. Asked is the direction with the largest sum of squares: the first singular vector.")
def mean_difference(positive, negative):
    d = (positive - negative).mean(0)
    return d / d.norm()


@mistake("paired_direction", hint="That is the largest single difference. Asked is what the differences have in common: the first singular vector of all of them.")
def largest_single_difference(positive, negative):
    D = positive - negative
    d = D[D.norm(dim=-1).argmax()]
    return _signed(d / d.norm(), D)


@mistake("paired_direction", hint="That looks at the positive vectors alone. Subtract from each its partner first.")
def of_the_positive_side(positive, negative):
    return _signed(torch.linalg.svd(positive, full_matrices=False).Vh[0], positive - negative)


@mistake("paired_direction", hint="That is the *last* singular vector, along which the differences are smallest. Take the first.")
def smallest_direction(positive, negative):
    D = positive - negative
    return _signed(torch.linalg.svd(D, full_matrices=False).Vh[-1], D)


@mistake("paired_direction", hint="It is longer than 1: leave out the singular value.")
def with_the_singular_value(positive, negative):
    D = positive - negative
    _, S, Vh = torch.linalg.svd(D, full_matrices=False)
    return _signed(S[0] * Vh[0], D)


# add_direction ------------------------------------------------------------------------------


def _added(model, tokens, layer, change, kind="resid_post"):
    return model.run_with_hooks(tokens, fwd_hooks=[(get_act_name(kind, layer), lambda x, hook: change(x))])


@mistake("add_direction", hint="It is added to what *enters* the layer (`resid_pre`). Add it to what leaves it: `resid_post`.")
def added_before_the_layer(model, tokens, layer, direction, dose):
    return _added(model, tokens, layer, lambda x: x + dose * direction, "resid_pre")


@mistake("add_direction", hint="The direction is brought to length 1 first. Its length counts: add `dose` times it as it is.")
def added_normalised(model, tokens, layer, direction, dose):
    return _added(model, tokens, layer, lambda x: x + dose * direction / direction.norm())


@mistake("add_direction", hint="It is added at the last position alone. At all positions.")
def added_at_the_last_position(model, tokens, layer, direction, dose):
    return _added(model, tokens, layer, lambda x: torch.cat([x[:, :-1], x[:, -1:] + dose * direction], 1))


@mistake("add_direction", hint="The dose is left out.")
def added_once_whatever_the_dose(model, tokens, layer, direction, dose):
    return _added(model, tokens, layer, lambda x: x + direction)


@mistake("add_direction", hint="The direction takes the stream's place. Add it to the stream: `x + ...`.")
def in_the_streams_place(model, tokens, layer, direction, dose):
    return _added(model, tokens, layer, lambda x: torch.zeros_like(x) + dose * direction)


@mistake("add_direction", hint="It is added behind every layer. Behind layer `layer` alone.")
def added_behind_every_layer(model, tokens, layer, direction, dose):
    hooks = [(get_act_name("resid_post", i), lambda x, hook: x + dose * direction) for i in range(model.cfg.n_layers)]
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


# project_out --------------------------------------------------------------------------------


def _projected(model, tokens, direction, names, change=None):
    d = direction / direction.norm()
    change = change or (lambda x: x - (x @ d)[..., None] * d)
    return model.run_with_hooks(tokens, fwd_hooks=[(names, lambda x, hook: change(x))])


@mistake("project_out", hint="The direction is not brought to length 1 first, so too much or too little is taken away.")
def not_of_length_1(model, tokens, direction):
    change = lambda x: x - (x @ direction)[..., None] * direction
    return _projected(model, tokens, direction, lambda name: "resid" in name, change)


@mistake("project_out", hint="Only `resid_pre` is projected: what a layer's attention writes is still seen by its MLP, and what the last layer writes by the unembedding.")
def before_layers_alone(model, tokens, direction):
    return _projected(model, tokens, direction, lambda name: name.endswith("resid_pre"))


@mistake("project_out", hint="Only `resid_post` is projected: the embedding's part is still seen by layer 0, and attention's by the MLP of its layer.")
def behind_layers_alone(model, tokens, direction):
    return _projected(model, tokens, direction, lambda name: name.endswith("resid_post"))


@mistake("project_out", hint="What lies along the direction is *kept*, and all else thrown away. It is the other way round.")
def kept_instead(model, tokens, direction):
    d = direction / direction.norm()
    return _projected(model, tokens, direction, lambda name: "resid" in name, lambda x: (x @ d)[..., None] * d)


@mistake("project_out", hint="It is projected behind the last layer alone. Earlier layers read the direction, too.")
def at_the_end_alone(model, tokens, direction):
    return _projected(model, tokens, direction, get_act_name("resid_post", model.cfg.n_layers - 1))


@mistake("project_out", hint="It is taken away twice: that turns the stream's part round (a reflection) instead of taking it out.")
def reflected(model, tokens, direction):
    d = direction / direction.norm()
    names = lambda name: name.endswith("hook_resid_pre")
    return _projected(model, tokens, direction, names, lambda x: x - 2 * (x @ d)[..., None] * d)


# orthogonalise_weights ----------------------------------------------------------------------


def _orthogonal(model, direction, leave=(), unit=True, also=(), change=None):
    model = copy.deepcopy(model)
    d = direction / direction.norm() if unit else direction
    change = change or (lambda W: W - (W @ d)[..., None] * d)
    writers = {"W_E", "W_O", "b_O", "W_out", "b_out"} | set(also)
    if model.cfg.positional_embedding_type == "standard":
        writers.add("W_pos")
    for name, W in model.named_parameters():
        if name.rpartition(".")[2] in writers - set(leave):
            W.data.copy_(change(W.data))
    return model


@mistake("orthogonalise_weights", hint="The embeddings still write along the direction: project `W_E`, too.")
def embeddings_left(model, direction):
    return _orthogonal(model, direction, leave=("W_E", "W_pos"))


@mistake("orthogonalise_weights", hint="Biases are left as they are: `b_O` and `b_out` write to the stream as well.")
def biases_left(model, direction):
    return _orthogonal(model, direction, leave=("b_O", "b_out"))


@mistake("orthogonalise_weights", hint="The MLPs still write along the direction: project `W_out` and `b_out`.")
def mlps_left(model, direction):
    return _orthogonal(model, direction, leave=("W_out", "b_out"))


@mistake("orthogonalise_weights", hint="The heads still write along the direction: project `W_O` and `b_O`.")
def heads_left(model, direction):
    return _orthogonal(model, direction, leave=("W_O", "b_O"))


@mistake("orthogonalise_weights", hint="`standard` positions are added to the stream: project `W_pos`, too.")
def positions_left(model, direction):
    return _orthogonal(model, direction, leave=("W_pos",))


@mistake("orthogonalise_weights", hint="The direction is not brought to length 1 first.")
def weights_without_length_1(model, direction):
    return _orthogonal(model, direction, unit=False)


@mistake("orthogonalise_weights", hint="The unembedding reads the stream; it does not write to it. Leave it as it is: its columns, not its rows, are directions of words.")
def unembedding_too(model, direction):
    model = _orthogonal(model, direction)
    W, d = model.unembed.W_U.data, direction / direction.norm()
    W.copy_(W - 2 * d[:, None] * (d @ W))
    return model


@mistake("orthogonalise_weights", hint="Weights *keep* what lies along the direction and lose the rest. It is the other way round.")
def weights_keep_it(model, direction):
    d = direction / direction.norm()
    return _orthogonal(model, direction, change=lambda W: (W @ d)[..., None] * d)


# after_change -------------------------------------------------------------------------------


@mistake("after_change", hint="Projecting out sets the part along d to 0, and 0 need not be where harmless requests are: here it lies on the harmful side.")
def out_means_harmless(what):
    return "declines" if what == "harmless, added" else "answers"


@mistake("after_change", hint="Projecting out does something to harmless requests, too: their part along d is far from 0, and becomes 0.")
def out_leaves_the_harmless(what):
    return "declines" if what in ("harmless, added", "harmful, projected out") else "answers"


@mistake("after_change", hint="Projecting out makes both kinds of request alike along d. If harmless ones are declined then, why should harmful ones be answered?")
def out_turns_them_round(what):
    return "declines" if what in ("harmless, added", "harmless, projected out") else "answers"


@mistake("after_change", hint="d points from harmless to harmful requests: taking it off makes a request look harmless, adding it makes one look harmful.")
def sign_turned_round(what):
    return "answers" if what == "harmless, added" else "declines"


@mistake("after_change", hint="Added once to harmless requests, d moves their mean to that of the harmful ones, and the layers above read it there.")
def adding_does_nothing(what):
    return "answers" if what.endswith(("added", "off")) else "declines"


@mistake("after_change", hint="Nothing along d is left after projecting out, and still the model declines: in this model 0 is on the harmful side.")
def out_is_always_answered(what):
    return "answers" if what.endswith("projected out") else "declines"


# average_indirect_effect --------------------------------------------------------------------


def _effects(model, clean, shuffled, answer, mean=None, where=slice(-1, None), read=None, less_base=True, rank=False):
    names = [get_act_name("result", layer) for layer in range(model.cfg.n_layers)]
    _, cache = model.run_with_cache(clean)
    mean = mean or (lambda x: x[:, -1].mean(0))
    read = read or (lambda logits: logits[:, -1].softmax(-1)[torch.arange(len(answer)), answer].mean())
    base = read(model(shuffled)) if less_base else 0.0
    table = torch.zeros(len(names), model.cfg.n_heads)
    for layer, name in enumerate(names):
        for head in range(model.cfg.n_heads):

            def put(x, hook):
                x = x.clone()
                x[:, where, head] = mean(cache[name][:, :, head])
                return x

            table[layer, head] = read(model.run_with_hooks(shuffled, fwd_hooks=[(name, put)])) - base
    return table


@mistake("average_indirect_effect", hint="That is the probability with the head replaced. Asked is by how much it *rises*: take away what it was without.")
def probability_instead(model, clean, shuffled, answer):
    return _effects(model, clean, shuffled, answer, less_base=False)


@mistake("average_indirect_effect", hint="The head is replaced at every position. At the last one alone.")
def at_every_position(model, clean, shuffled, answer):
    return _effects(model, clean, shuffled, answer, where=slice(None))


@mistake("average_indirect_effect", hint="The mean is taken over all positions of the clean texts. Take what the head writes at the last one.")
def mean_over_positions(model, clean, shuffled, answer):
    return _effects(model, clean, shuffled, answer, mean=lambda x: x.mean((0, 1)))


@mistake("average_indirect_effect", hint="The sum over the clean texts takes the head's place. Take the mean.")
def sum_in_its_place(model, clean, shuffled, answer):
    return _effects(model, clean, shuffled, answer, mean=lambda x: x[:, -1].sum(0))


@mistake("average_indirect_effect", hint="These are differences of logits. Of probabilities: softmax first.")
def effect_on_logits(model, clean, shuffled, answer):
    read = lambda logits: logits[:, -1][torch.arange(len(answer)), answer].mean()
    return _effects(model, clean, shuffled, answer, read=read)


@mistake("average_indirect_effect", hint="The sign is turned round: an effect is positive where the answer gets likelier.")
def effect_turned_round(model, clean, shuffled, answer):
    return -_effects(model, clean, shuffled, answer)


@mistake("average_indirect_effect", hint="The head is taken away (zeros in its place). Put in its mean output from the clean texts.")
def head_taken_away(model, clean, shuffled, answer):
    return _effects(model, clean, shuffled, answer, mean=lambda x: torch.zeros(x.shape[-1]))


# function_vector, vector_heads --------------------------------------------------------------


def _vector(model, tokens, heads, take, kind="result"):
    _, cache = model.run_with_cache(tokens)
    return sum(take(cache[kind, layer][:, :, head]) for layer, head in heads)


@mistake("function_vector", hint="You average over the heads. Add them up.")
def mean_over_heads(model, tokens, heads):
    return _vector(model, tokens, heads, lambda x: x[:, -1].mean(0)) / len(heads)


@mistake("function_vector", hint="You average over all positions. Take the last one.")
def vector_over_positions(model, tokens, heads):
    return _vector(model, tokens, heads, lambda x: x.mean((0, 1)))


@mistake("function_vector", hint="You add up over the texts. Take the mean over them.")
def vector_summed_over_texts(model, tokens, heads):
    return _vector(model, tokens, heads, lambda x: x[:, -1].sum(0))


@mistake("function_vector", hint="That is the first text's vector alone. Average over all texts.")
def vector_of_one_text(model, tokens, heads):
    return _vector(model, tokens, heads, lambda x: x[0, -1])


@mistake("function_vector", hint="Layer and head are exchanged: pairs are (layer, head).")
def layer_and_head_exchanged(model, tokens, heads):
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    return _vector(model, tokens, [(head % n_layers, layer % n_heads) for layer, head in heads], lambda x: x[:, -1].mean(0))


@mistake("function_vector", hint="Only the first of the heads is taken. Add up all of them.")
def first_head_alone(model, tokens, heads):
    return _vector(model, tokens, heads[:1], lambda x: x[:, -1].mean(0))


@mistake("function_vector", hint="All heads of the layers are taken (`attn_out`). Only those that are named.")
def whole_attention(model, tokens, heads):
    _, cache = model.run_with_cache(tokens)
    return sum(cache["result", layer][:, -1].sum(1).mean(0) for layer in {layer for layer, _ in heads})


@mistake("vector_heads", hint="No head is named. `ranked`, above, has them in the order of their effect.")
def names_no_head():
    return []


@mistake("vector_heads", hint="Layer and head are exchanged: pairs are (layer, head).")
def head_before_layer():
    return [(5, 2), (1, 2)]


@mistake("vector_heads", hint="These look at earlier tokens, too, but their indirect effect is nearly 0. Take the heads with the largest.")
def heads_without_effect():
    return [(1, 3), (1, 0)]


@mistake("vector_heads", hint="Five and more are too many: name at most four, those with the largest effect.")
def too_many_heads():
    return [(2, 5), (2, 1), (2, 7), (2, 2), (2, 0)]


@mistake("vector_heads", hint="Heads and layers are counted from 0: each of your numbers is one too large.")
def heads_counted_from_1():
    return [(3, 6), (3, 2)]


@mistake("vector_heads", hint="One head comes twice. Its output is there once.")
def one_head_twice():
    return [(2, 5), (2, 5)]
