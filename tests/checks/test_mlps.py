"""Checks of chapter 5. Each says in its name what must be true of an answer."""

import copy
import functools
import math

import torch

from circuits.checking import answer_to, exercise, expect, fail, require
from circuits.inputs import BATCH, POS, generator, integer, normal, orthogonal, random_model, random_tokens, shuffle
from circuits.symmetries import FULL, symmetric
from utils.labels import label_library
from utils.model import get_act_name
from utils.pretrained import load_model


def neuron_of_layer(arguments):
    """The kind of a neuron's number, in the layer that another argument says."""
    return f"neuron {arguments['layer']}"


def head_of_layer(arguments):
    return f"head {arguments['layer']}"


# `constant` is left out where the answer holds weights or single logits: it moves those. `rotate` is where the
# model has a LayerNorm: it knows the basis of the stream.
SYMMETRIES = {
    "layer_norm": "LayerNorm knows the basis of its arguments",
    "folds_away": "its argument is a word",
    "fold_layer_norm": symmetric("regauge heads neurons vocabulary"),
    "frozen_scale_logits": symmetric(FULL),
    "neuron_contributions": symmetric(FULL),
    "neuron_logits": symmetric(FULL, neuron=neuron_of_layer),
    "top_contexts": symmetric(FULL, neuron=neuron_of_layer),
    "max_activating_input": symmetric(FULL, neuron=neuron_of_layer),
    "pattern_f1": "its arguments are tables of what is so and what is not",
    "named_neurons": "it has no argument",
    "active_share": symmetric(FULL, returns="n_layers"),
    "value_agreement": symmetric(FULL),
    "composed_share": symmetric(FULL),
    "opposed_pair": "it has no argument",
    "mlp_path_expansion": symmetric("regauge vocabulary", returns=(None, None)),
    "driven_neuron": symmetric(FULL, head=head_of_layer, returns=neuron_of_layer),
    "rotate_hidden": symmetric("regauge heads vocabulary constant", R=None),
    "kurtosis": "it asks about the basis of its argument",
    "vocabulary_space": symmetric("rotate vocabulary"),
    "neuron_partners": "its arguments are activations, and no part of a model",
}

COINCIDENCES = {}


def full_model(rng, **shape):
    """A small model with ReLU MLPs, LayerNorm and biases, in which no weight is at its start, and eps counts."""
    kind = dict(attn_only=False, d_mlp=13, act_fn="relu", normalization_type="LN", biases=True, eps=0.1)
    return random_model(rng, **kind | shape)


def folded(model):
    """The model with LayerNorm folded, written down again: by matrices, in double precision."""
    new = copy.deepcopy(model).double()
    d = model.cfg.d_model
    C = torch.eye(d, dtype=torch.double) - 1 / d
    for name, W in new.state_dict().items():
        if name.split(".")[-1] in ("W_E", "W_O", "b_O", "W_out", "b_out"):
            W.copy_(W @ C)
    for block in new.blocks:
        ln, attn, mlp = block.ln1, block.attn, block.mlp
        for kind in "QKV":
            getattr(attn, f"b_{kind}").copy_(getattr(attn, f"b_{kind}") + ln.b @ getattr(attn, f"W_{kind}"))
        mlp.b_in.copy_(mlp.b_in + block.ln2.b @ mlp.W_in)
        mlp.W_in.copy_(torch.diag(block.ln2.w) @ mlp.W_in)
        block.ln2.w.fill_(1.0)
        for b in (block.ln1.b, block.ln2.b):
            b.zero_()
    new.unembed.b_U.copy_(new.unembed.b_U + new.ln_final.b @ new.W_U)
    new.unembed.W_U.copy_(torch.diag(new.ln_final.w) @ new.W_U)
    new.ln_final.w.fill_(1.0)
    new.ln_final.b.zero_()
    return new.float()


def run(model, tokens):
    return model.run_with_cache(tokens)[1]


def to_logits(model, vectors):
    """Vectors through the final LayerNorm at a scale of 1, and the unembedding, number by number summed in double."""
    x = vectors.double()
    w, W_U = model.ln_final.w.double(), model.W_U.double()
    return (x - x.sum(-1, keepdim=True) / x.shape[-1]) @ (w[:, None] * W_U)


def scales(model, x):
    """The scale of LayerNorm at each position, [batch pos]."""
    x = x.double()
    mean = x.sum(-1, keepdim=True) / x.shape[-1]
    return (((x - mean) ** 2).sum(-1) / x.shape[-1] + model.cfg.eps) ** 0.5


# layer_norm ---------------------------------------------------------------------------------


@exercise("layer_norm", points=1, explains=True)
def test_one_vector_by_hand(submission, rng):
    x = torch.tensor([[[1.0, 3.0, 5.0]]])
    got = submission.layer_norm(x, torch.tensor([1.0, 1.0, 2.0]), torch.tensor([0.0, 7.0, 0.0]), 0.0)
    root = math.sqrt(8 / 3)
    expect(got, [[[-2 / root, 7.0, 4 / root]]], "LayerNorm of [1, 3, 5] for w = [1, 1, 2], b = [0, 7, 0], eps = 0,")


@exercise("layer_norm", points=1)
def test_every_vector_has_its_own_mean_and_scale(submission, rng):
    x = normal(rng, 3, 5, 7) * (1 + normal(rng, 3, 5, 1).abs()) + normal(rng, 3, 5, 1)
    w, b = normal(rng, 7), normal(rng, 7)
    want = torch.empty(3, 5, 7, dtype=torch.double)
    for i in range(3):
        for j in range(5):
            row = x[i, j].double().tolist()
            mean = sum(row) / 7
            scale = math.sqrt(sum((v - mean) ** 2 for v in row) / 7 + 1e-5)
            for d in range(7):
                want[i, j, d] = (row[d] - mean) / scale * float(w[d]) + float(b[d])
    expect(submission.layer_norm(x, w, b, 1e-5), want, "LayerNorm of random vectors", rtol=1e-3, atol=1e-4)


@exercise("layer_norm", points=1)
def test_eps_is_added_to_the_variance(submission, rng):
    x, w, b = normal(rng, 3, 6, 5), normal(rng, 5), normal(rng, 5)
    var = x.double().var(-1, unbiased=False, keepdim=True)
    want = (x.double() - x.double().mean(-1, keepdim=True)) / (var + 0.7).sqrt() * w + b
    expect(submission.layer_norm(x, w, b, 0.7), want, "LayerNorm with eps = 0.7", rtol=1e-3, atol=1e-4)


# folds_away ---------------------------------------------------------------------------------

STEPS = [f"{norm} {step}" for norm in ("batch", "layer") for step in ("mean", "scale", "weight", "bias")]


def step_of(name, x, fixed):
    """One step, applied to vectors [n d]; `fixed` is a vector with no entry near 0."""
    norm, step = name.split()
    if step == "mean":
        return x - (x.mean(-1, keepdim=True) if norm == "layer" else fixed)
    if step == "scale":
        return x / (x.std(-1, unbiased=False, keepdim=True) if norm == "layer" else fixed)
    return x * fixed if step == "weight" else x + fixed


def left_over(name, rng):
    """How much of a step no linear map and constant explains, on fresh vectors, as a share."""
    x, fixed = normal(rng, 80, 6).double(), 1 + normal(rng, 6).double().abs()
    y, ones = step_of(name, x, fixed), torch.ones(80, 1, dtype=torch.double)
    fit = torch.linalg.lstsq(torch.cat([x, ones], 1), y).solution
    return float((y - torch.cat([x, ones], 1) @ fit).norm() / y.norm())


def check_folds(submission, rng, steps):
    for step in steps:
        answer = answer_to(step, submission.folds_away, STEPS)
        require(isinstance(answer, bool), f"Say True or False of {step!r}; you said {answer!r}.")
        share = left_over(step, rng)
        require(
            answer == (share < 1e-6),
            f"You say {answer} of {step!r}. Measured on 80 fresh vectors, the best linear map and constant leave "
            f"{share:.0%} of this step unexplained.",
        )


@exercise("folds_away", points=1)
def test_is_right_about_subtracting_means(submission, rng):
    check_folds(submission, rng, ["batch mean", "layer mean"])


@exercise("folds_away", points=1)
def test_is_right_about_dividing_by_scales(submission, rng):
    check_folds(submission, rng, ["batch scale", "layer scale"])


@exercise("folds_away", points=1)
def test_is_right_about_weights_and_biases(submission, rng):
    check_folds(submission, rng, ["layer weight", "batch weight", "layer bias", "batch bias"])


# fold_layer_norm ----------------------------------------------------------------------------


def already_folded_but(rng, keep):
    """A folded model in which some parts are as they were: `keep` says of a parameter's name whether it is."""
    model = folded(full_model(rng))
    for name, W in model.named_parameters():
        if keep(name):
            W.data += normal(rng, *W.shape, scale=0.4)
    return model


def check_same(submission, rng, model, what):
    got, tokens = submission.fold_layer_norm(model), random_tokens(rng)
    expect(got(tokens), model(tokens), f"the logits of the folded model, where {what},", rtol=1e-3, atol=2e-4)
    return got


def check_plain(ln, name, weight=True):
    if weight:
        expect(ln.w, torch.ones_like(ln.w), f"{name}.w of the folded model")
    expect(ln.b, torch.zeros_like(ln.b), f"{name}.b of the folded model")


@exercise("fold_layer_norm", points=1)
def test_folds_the_last_one_into_the_unembedding(submission, rng):
    model = already_folded_but(rng, lambda name: name.startswith("ln_final"))
    got = check_same(submission, rng, model, "only ln_final was left to fold")
    check_plain(got.ln_final, "ln_final")


@exercise("fold_layer_norm", points=1)
def test_folds_ln2_into_the_mlps(submission, rng):
    model = already_folded_but(rng, lambda name: ".ln2." in name)
    got = check_same(submission, rng, model, "only the ln2 were left to fold")
    for layer, block in enumerate(got.blocks):
        check_plain(block.ln2, f"blocks[{layer}].ln2")


@exercise("fold_layer_norm", points=1)
def test_folds_the_b_of_ln1_into_queries_keys_and_values(submission, rng):
    model = already_folded_but(rng, lambda name: name.endswith("ln1.b"))
    got = check_same(submission, rng, model, "only the b of each ln1 was left to fold")
    for layer, (block, old) in enumerate(zip(got.blocks, model.blocks, strict=True)):
        check_plain(block.ln1, f"blocks[{layer}].ln1", weight=False)
        expect(block.ln1.w, old.ln1.w, f"blocks[{layer}].ln1.w, which stays,")


@exercise("fold_layer_norm", points=1)
def test_centres_every_writer(submission, rng):
    writers = ("W_E", "W_O", "b_O", "W_out", "b_out")
    model = already_folded_but(rng, lambda name: name.endswith(writers))
    got = check_same(submission, rng, model, "only the writers were left to centre")
    for name, W in got.state_dict().items():
        if name.endswith(writers):
            expect(W.mean(-1), torch.zeros_like(W.mean(-1)), f"the means over d_model of {name}")


@exercise("fold_layer_norm", points=1)
def test_all_together_leave_one_scale_per_position(submission, rng):
    model = full_model(rng)
    got = check_same(submission, rng, model, "everything was left to fold")
    tokens = random_tokens(rng)
    cache = run(got, tokens)
    final = cache["resid_post", -1].double()
    scale = ((final**2).mean(-1, keepdim=True) + got.cfg.eps).sqrt()
    want = model(tokens)
    what = "the last stream of the folded model, divided by its root mean square, times W_U, plus b_U,"
    expect(final / scale @ got.W_U.double() + got.unembed.b_U, want, what, rtol=1e-3, atol=2e-4)


# frozen_scale_logits ------------------------------------------------------------------------


def part_logits(model, cache, name):
    return to_logits(model, cache[name]) / scales(model, cache["resid_post", -1])[..., None]


@exercise("frozen_scale_logits", points=1)
def test_the_parts_sum_to_the_logits(submission, rng):
    model, tokens = full_model(rng), random_tokens(rng)
    got = submission.frozen_scale_logits(model, tokens)
    require(len(got) == 8, f"Three layers have 1 + 2 * 3 + 1 = 8 parts; you gave {len(got)}.")
    expect(got.sum(0), model(tokens), "the sum of all parts", rtol=1e-3, atol=2e-4)


@exercise("frozen_scale_logits", points=1)
def test_each_part_is_read_at_the_final_scale(submission, rng):
    model, tokens = full_model(rng, n_layers=2), random_tokens(rng)
    cache, got = run(model, tokens), submission.frozen_scale_logits(model, tokens)
    names = ["embed", ("attn_out", 0), ("mlp_out", 0), ("attn_out", 1), ("mlp_out", 1)]
    for i, name in enumerate(names):
        what = name if isinstance(name, str) else f"{name[0]} of layer {name[1]}"
        expect(got[i], part_logits(model, cache, name), f"the logits of {what} (part {i})", rtol=1e-3, atol=2e-4)


@exercise("frozen_scale_logits", points=1)
def test_the_last_part_is_what_an_empty_stream_would_say(submission, rng):
    model, tokens = full_model(rng), random_tokens(rng)
    empty = [(get_act_name("resid_post", 2), lambda x, hook: torch.zeros_like(x))]
    want = model.run_with_hooks(tokens, fwd_hooks=empty)
    expect(submission.frozen_scale_logits(model, tokens)[-1], want, "the last part", rtol=1e-3, atol=2e-4)


# neuron_contributions -----------------------------------------------------------------------


@exercise("neuron_contributions", points=1)
def test_with_b_out_the_neurons_sum_to_the_mlp(submission, rng):
    model, tokens = full_model(rng), random_tokens(rng)
    for layer in range(3):
        got = submission.neuron_contributions(model, tokens, layer)
        want = run(model, tokens)["mlp_out", layer] - model.blocks[layer].mlp.b_out
        expect(got.sum(2), want, f"the sum over the neurons of layer {layer}", rtol=1e-3, atol=1e-4)


@exercise("neuron_contributions", points=1)
def test_each_vector_is_what_goes_when_its_neuron_is_silent(submission, rng):
    model, tokens = full_model(rng), random_tokens(rng)
    layer = integer(rng, 0, 2)
    got, whole = submission.neuron_contributions(model, tokens, layer), run(model, tokens)["mlp_out", layer]
    for neuron in (0, integer(rng, 1, 11), 12):
        silent = copy.deepcopy(model)
        silent.blocks[layer].mlp.W_out.data[neuron] = 0
        want = whole - run(silent, tokens)["mlp_out", layer]
        expect(got[:, :, neuron], want, f"what neuron {neuron} of layer {layer} writes", rtol=1e-3, atol=1e-4)


@exercise("neuron_contributions", points=1)
def test_a_neuron_writes_along_its_value(submission, rng):
    model, tokens = full_model(rng), random_tokens(rng)
    layer = integer(rng, 0, 2)
    got, value = submission.neuron_contributions(model, tokens, layer), model.blocks[layer].mlp.W_out
    along = torch.einsum("bpnd,nd->bpn", got, value) / value.pow(2).sum(-1)
    want = run(model, tokens)["post", layer]
    expect(along, want, f"how far each neuron of layer {layer} goes along its value", rtol=1e-3, atol=1e-4)


# neuron_logits ------------------------------------------------------------------------------


@exercise("neuron_logits", points=1)
def test_is_the_value_read_by_the_last_layer_norm_and_the_unembedding(submission, rng):
    model = full_model(rng)
    for layer, neuron in ((0, integer(rng, 0, 12)), (1, integer(rng, 0, 12)), (2, 0)):
        want = to_logits(model, model.blocks[layer].mlp.W_out[neuron])
        got = submission.neuron_logits(model, layer, neuron)
        expect(got, want, f"the logits of neuron {neuron} of layer {layer}", rtol=1e-3, atol=1e-4)


@exercise("neuron_logits", points=1)
def test_a_number_added_to_every_entry_of_a_value_does_nothing(submission, rng):
    model = full_model(rng)
    layer, neuron = integer(rng, 0, 2), integer(rng, 0, 12)
    want = to_logits(model, model.blocks[layer].mlp.W_out[neuron])
    model.blocks[layer].mlp.W_out.data += 3.0
    got = submission.neuron_logits(model, layer, neuron)
    expect(got, want, "the logits of a neuron after 3 was added to every entry of its value", rtol=1e-3, atol=5e-4)


@exercise("neuron_logits", points=1)
def test_times_activations_they_sum_to_what_the_mlp_adds(submission, rng):
    model, tokens = full_model(rng), random_tokens(rng)
    layer = integer(rng, 0, 2)
    each = torch.stack([submission.neuron_logits(model, layer, neuron) for neuron in range(13)])
    cache = run(model, tokens)
    want = to_logits(model, cache["mlp_out", layer] - model.blocks[layer].mlp.b_out)
    got = cache["post", layer].double() @ each.double()
    expect(got, want, f"the sum over the neurons of layer {layer} of activation times logits", rtol=1e-3, atol=5e-4)


# top_contexts -------------------------------------------------------------------------------


def driven(model, tokens, layer, neuron):
    """(pre, row, position) of every place, in falling order."""
    pre = run(model, tokens)["pre", layer][..., neuron].tolist()
    return sorted(((v, i, j) for i, row in enumerate(pre) for j, v in enumerate(row)), reverse=True)


def check_contexts(submission, rng, layer, neuron, k):
    model, tokens = full_model(rng), random_tokens(rng)
    got = submission.top_contexts(model, tokens, layer, neuron, k)
    want = driven(model, tokens, layer, neuron)[:k]
    require(len(got) == k, f"Asked for {k} places, you gave {len(got)}.")
    values = {(i, j): v for v, i, j in driven(model, tokens, layer, neuron)}
    for n, (place, (v, i, j)) in enumerate(zip(got, want, strict=True)):
        try:
            row, position = (int(x) for x in place)
        except (TypeError, ValueError):
            fail(f"Each place should be a pair (row, position); one of yours is {place!r}.")
        here = values.get((row, position))
        require(
            here is not None and abs(here - v) < 1e-4,
            f"Place {n} for neuron {neuron} of layer {layer} should be ({i}, {j}), where its `pre` is {v:.3f}; yours is "
            f"({row}, {position})" + (f", where it is {here:.3f}." if here is not None else ", outside the texts."),
        )


@exercise("top_contexts", points=1)
def test_the_place_that_drives_it_most(submission, rng):
    for layer in range(3):
        check_contexts(submission, rng, layer, integer(rng, 0, 12), 1)


@exercise("top_contexts", points=1)
def test_the_best_few_in_falling_order(submission, rng):
    check_contexts(submission, rng, 0, integer(rng, 0, 12), 5)
    check_contexts(submission, rng, 2, integer(rng, 0, 12), 7)


@exercise("top_contexts", points=1)
def test_every_place_if_so_many_are_asked_for(submission, rng):
    check_contexts(submission, rng, 1, integer(rng, 0, 12), BATCH * POS)


# max_activating_input -----------------------------------------------------------------------


def drive(model, batch, layer, neuron):
    return run(model, batch)["pre", layer][:, -1, neuron]


def check_search(submission, rng, layer, model=None):
    model = model or full_model(rng)
    start, neuron = random_tokens(rng, model, batch=1, pos=6)[0], integer(rng, 0, 12)
    got = torch.as_tensor(submission.max_activating_input(model, start, layer, neuron))
    require(int(got[0]) == int(start[0]), f"The first token stays {int(start[0])}; yours is {int(got[0])}.")
    require(bool(((got >= 0) & (got < 11)).all()), "All tokens should be of the vocabulary, 0 to 10.")
    here = float(drive(model, got[None], layer, neuron))
    for position in range(1, 6):
        tries = got.repeat(11, 1)
        tries[:, position] = torch.arange(11)
        drives = drive(model, tries, layer, neuron)
        require(
            drives.max() <= here + 2e-3,
            f"Your tokens {got.tolist()} drive neuron {neuron} of layer {layer} to {here:.3f}; with token {int(drives.argmax())} at "
            f"position {position} they would drive it to {float(drives.max()):.3f}.",
        )
    return model, start, neuron, here


@exercise("max_activating_input", points=1)
def test_no_single_change_drives_a_neuron_of_the_first_layer_more(submission, rng):
    check_search(submission, rng, 0)


@exercise("max_activating_input", points=1)
def test_no_single_change_drives_a_neuron_of_a_later_layer_more(submission, rng):
    check_search(submission, rng, integer(rng, 1, 2))


@exercise("max_activating_input", points=1)
def test_finds_the_token_that_a_neuron_reads_alone(submission, rng):
    model = full_model(rng)
    for block in model.blocks:
        block.attn.W_O.data.zero_()  # nothing comes from elsewhere: the last token alone counts
    model, start, neuron, here = check_search(submission, rng, 0, model)
    best = drive(model, torch.cat([start[:-1].repeat(11, 1), torch.arange(11)[:, None]], 1), 0, neuron).max()
    require(abs(here - best) < 2e-3, f"The best last token drives the neuron to {best:.3f}, yours to {here:.3f}.")


# pattern_f1 ---------------------------------------------------------------------------------


def slow_f1(fires, label):
    pairs = list(zip(fires.tolist(), label.tolist(), strict=True))
    both = sum(f and c for f, c in pairs)
    if not both:
        return 0.0
    precision, recall = both / sum(f for f, _ in pairs), both / sum(c for _, c in pairs)
    return 2 * precision * recall / (precision + recall)


def random_table(rng, n, columns):
    """True here and there, in each column at a rate of its own."""
    return torch.rand(n, columns, generator=rng) < torch.rand(columns, generator=rng) * 0.8 + 0.1


@exercise("pattern_f1", points=1, explains=True)
def test_five_tokens_by_hand(submission, rng):
    fires = torch.tensor([[1, 0], [1, 0], [1, 1], [0, 0], [0, 0]]).bool()
    labels = torch.tensor([[1], [0], [1], [1], [0]]).bool()
    got = submission.pattern_f1(fires, labels)
    expect(got, [[2 / 3], [0.5]], "F1 of firing at tokens 0 1 2 and at 2 alone, for a class of tokens 0 2 3,")


@exercise("pattern_f1", points=1)
def test_is_the_harmonic_mean_of_precision_and_recall(submission, rng):
    fires, labels = random_table(rng, 40, 7), random_table(rng, 40, 5)
    want = [[slow_f1(fires[:, i], labels[:, j]) for j in range(5)] for i in range(7)]
    expect(submission.pattern_f1(fires, labels), want, "F1 of random neurons and classes")


@exercise("pattern_f1", points=1)
def test_rare_neurons_and_empty_classes(submission, rng):
    fires, labels = random_table(rng, 30, 5), random_table(rng, 30, 6)
    fires[:, integer(rng, 0, 4)] = False
    labels[:, integer(rng, 0, 2)] = False
    labels[:, 3] = fires[:, 1]
    want = [[slow_f1(fires[:, i], labels[:, j]) for j in range(6)] for i in range(5)]
    expect(submission.pattern_f1(fires, labels), want, "F1 where a neuron never fires and a class never occurs")


# active_share -------------------------------------------------------------------------------


@exercise("active_share", points=1)
def test_counts_the_neurons_above_zero(submission, rng):
    model, tokens = full_model(rng), random_tokens(rng)
    cache, want = run(model, tokens), []
    for layer in range(3):
        pre = cache["pre", layer].flatten().tolist()
        want.append(sum(v > 0 for v in pre) / len(pre))
    expect(submission.active_share(model, tokens), want, "the active share of each layer")


@exercise("active_share", points=1)
def test_silent_neurons_are_not_active(submission, rng):
    model, tokens, silent = full_model(rng), random_tokens(rng), [3, 0, 8]
    for block, n in zip(model.blocks, silent, strict=True):
        block.mlp.b_in.data[:n] = -100.0
        block.mlp.b_in.data[n:] = 100.0
    want = [(13 - n) / 13 for n in silent]
    model.blocks[integer(rng, 0, 2)].mlp.b_in.data[:] = 100.0
    want = [float((block.mlp.b_in > 0).float().mean()) for block in model.blocks]
    expect(submission.active_share(model, tokens), want, "the active share where biases decide it")


@exercise("active_share", points=1)
def test_one_text_and_one_layer(submission, rng):
    model, tokens = full_model(rng, n_layers=2), random_tokens(rng, batch=1)
    cache = run(model, tokens)
    want = [float((cache["post", layer] > 0).double().mean()) for layer in range(2)]
    expect(submission.active_share(model, tokens), want, "the active share in a single text")


# value_agreement ----------------------------------------------------------------------------


def slow_agreement(model, tokens, layer):
    tops = to_logits(model, model.blocks[layer].mlp.W_out).argmax(-1).tolist()
    agreed = []
    for neuron, top in enumerate(tops):
        places = [(i, j) for _, i, j in driven(model, tokens, layer, neuron) if j + 1 < tokens.shape[1]]
        row, position = places[0]
        agreed.append(int(tokens[row, position + 1]) == top)
    return torch.tensor(agreed)


def texts_apart(rng, d_vocab, batch, pos):
    """Texts of which no two begin alike, so that no two places drive a neuron equally."""
    tokens = random_tokens(rng, d_vocab, batch, pos)
    tokens[:, 0] = torch.randperm(d_vocab, generator=rng)[:batch]
    # A token after itself is seen as it was alone.
    tokens[:, 1] = (tokens[:, 0] + torch.randint(1, d_vocab, (batch,), generator=rng)) % d_vocab
    return tokens


def check_agreement(submission, rng, layer, batch=BATCH, pos=POS):
    """Values are turned to what comes next for some, so that both outcomes occur."""
    model, tokens = full_model(rng, d_mlp=17), texts_apart(rng, 11, batch, pos)
    W_out = model.blocks[layer].mlp.W_out.data
    for neuron in range(0, 17, 2):
        _, row, position = next(p for p in driven(model, tokens, layer, neuron) if p[2] + 1 < tokens.shape[1])
        W_out[neuron] += 30 * (model.ln_final.w * model.W_U[:, tokens[row, position + 1]])
    got = submission.value_agreement(model, tokens, layer)
    expect(got, slow_agreement(model, tokens, layer), f"agreement of the neurons of layer {layer}")


@exercise("value_agreement", points=1)
def test_agrees_where_the_value_says_what_comes_next(submission, rng):
    check_agreement(submission, rng, 0)
    check_agreement(submission, rng, 2)


@exercise("value_agreement", points=1)
def test_the_last_position_has_no_next_token(submission, rng):
    check_agreement(submission, rng, 1, batch=5, pos=3)


@exercise("value_agreement", points=1)
def test_random_values_agree_by_chance_alone(submission, rng):
    for layer in (1, 2):
        model, tokens = full_model(rng, d_vocab=3, d_mlp=29), texts_apart(rng, 3, 3, 9)
        got = submission.value_agreement(model, tokens, layer)
        expect(got, slow_agreement(model, tokens, layer), "agreement in a model with three tokens")


# composed_share -----------------------------------------------------------------------------


def slow_composed(model, tokens, layer):
    post, W_out = run(model, tokens)["post", layer], model.blocks[layer].mlp.W_out
    tops = to_logits(model, W_out).argmax(-1).tolist()
    composed = 0
    for row in post.flatten(0, 1):
        total = sum(float(a) * v.double() for a, v in zip(row, W_out, strict=True))
        top = int(to_logits(model, total).argmax())
        composed += top not in [t for a, t in zip(row.tolist(), tops, strict=True) if a > 0]
    return composed / post[..., 0].numel()


@exercise("composed_share", points=1)
def test_counts_the_positions_where_no_active_neuron_proposed_the_winner(submission, rng):
    model, tokens = full_model(rng, d_vocab=23, d_mlp=9), random_tokens(rng, 23)
    for layer in range(3):
        want = slow_composed(model, tokens, layer)
        expect(submission.composed_share(model, tokens, layer), want, f"the share in layer {layer}", atol=1e-4)


def check_composed(submission, draw, what):
    """The share in what `draw` makes, of inputs at which it is neither 0 nor 1: who always says so must not be right."""
    for _ in range(50):
        model, tokens, layer = draw()
        want = slow_composed(model, tokens, layer)
        if 0.05 < want < 0.95:
            break
    expect(submission.composed_share(model, tokens, layer), want, what, atol=1e-4)


@exercise("composed_share", points=1)
def test_silent_neurons_propose_nothing(submission, rng):
    def draw():
        model, tokens = full_model(rng, d_vocab=19, d_mlp=15), random_tokens(rng, 19, batch=9)
        layer = integer(rng, 0, 2)
        model.blocks[layer].mlp.b_in.data -= 1.5  # few neurons are active
        model.blocks[layer].mlp.b_in.data[:3] += 3
        return model, tokens, layer

    check_composed(submission, draw, "the share where few neurons are active")


@exercise("composed_share", points=1)
def test_the_bias_is_nobodys_word(submission, rng):
    def draw():
        model, tokens = full_model(rng, d_vocab=23, d_mlp=9), random_tokens(rng, 23)
        layer = integer(rng, 0, 2)
        model.blocks[layer].mlp.b_out.data += 20 * model.ln_final.w * model.W_U[:, 7]
        return model, tokens, layer

    check_composed(submission, draw, "the share where b_out promotes one token")


# mlp_path_expansion -------------------------------------------------------------------------


def expansion_case(rng, **shape):
    model = folded(full_model(rng, **shape))
    tokens = random_tokens(rng, batch=3)
    return model, tokens, random_tokens(rng, batch=1, pos=3)[0], run(model, tokens)


def sources_of(model, cache):
    """Vectors [n_sources batch d_model] at the last position, each by itself."""
    cfg, last = model.cfg, model.cfg.n_layers - 1
    found = [cache["embed"][:, -1]]
    for layer in range(cfg.n_layers):
        for head in range(cfg.n_heads):
            z, attn = cache["z", layer][:, -1, head], model.blocks[layer].attn
            found.append(z @ attn.W_O[head])
    for layer in range(last):
        found.append(cache["mlp_out", layer][:, -1] - model.blocks[layer].mlp.b_out)
    return torch.stack([*found, cache["resid_mid", last][:, -1] - sum(found)]).double()


def readout(model, cache, target):
    s = scales(model, cache["resid_post", -1][:, -1])
    return torch.stack([model.W_U[:, t].double() / s[i] for i, t in enumerate(target.tolist())])


@exercise("mlp_path_expansion", points=1)
def test_the_paths_sum_to_the_logit(submission, rng):
    for n_layers in (3, 1):
        model, tokens, target, _ = expansion_case(rng, n_layers=n_layers)
        direct, through = submission.mlp_path_expansion(model, tokens, target)
        want = model(tokens)[torch.arange(3), -1, target]
        got = torch.as_tensor(direct).sum(0) + torch.as_tensor(through).sum((0, 2))
        expect(got, want, "the sum of all paths to each target's logit", rtol=1e-3, atol=2e-4)


@exercise("mlp_path_expansion", points=1)
def test_direct_terms_are_the_sources_read_by_the_unembedding(submission, rng):
    model, tokens, target, cache = expansion_case(rng)
    direct, _ = submission.mlp_path_expansion(model, tokens, target)
    out, sources = readout(model, cache, target), sources_of(model, cache)
    want = (sources * out).sum(-1)
    want[-1] += out @ model.blocks[-1].mlp.b_out.double() + model.unembed.b_U[target]
    require(len(direct) == len(want), f"Three layers of five heads make {len(want)} sources; you gave {len(direct)}.")
    expect(direct, want, "the direct terms", rtol=1e-3, atol=2e-4)


@exercise("mlp_path_expansion", points=1)
def test_terms_through_a_neuron_sum_to_what_it_adds(submission, rng):
    model, tokens, target, cache = expansion_case(rng)
    _, through = submission.mlp_path_expansion(model, tokens, target)
    worth = readout(model, cache, target) @ model.blocks[-1].mlp.W_out.double().T
    want = cache["post", -1][:, -1].double() * worth
    expect(torch.as_tensor(through).sum(0), want, "the sum over sources of the terms through each neuron", rtol=1e-3, atol=2e-4)


@exercise("mlp_path_expansion", points=1)
def test_a_source_goes_through_the_open_gates_alone(submission, rng):
    model, tokens, target, cache = expansion_case(rng, n_layers=2)
    _, through = submission.mlp_path_expansion(model, tokens, target)
    mlp, pre = model.blocks[-1].mlp, cache["pre", -1][:, -1]
    s_mid = scales(model, cache["resid_mid", -1][:, -1])
    out, sources = readout(model, cache, target), sources_of(model, cache)
    want = torch.zeros(len(sources), 3, 13, dtype=torch.double)
    for text in range(3):
        for n in range(13):
            if pre[text, n] > 0:
                key, value = mlp.W_in[:, n].double(), mlp.W_out[n].double()
                reads = sources[:, text] @ key / s_mid[text]
                reads[-1] += mlp.b_in[n]
                want[:, text, n] = reads * (value @ out[text])
    expect(through, want, "the terms through neurons [source, text, neuron]", rtol=1e-3, atol=2e-4)


# driven_neuron ------------------------------------------------------------------------------


def parts_of_head(model, tokens, layer, head):
    """[batch pos d_mlp]: a head's part of each neuron's pre-activation."""
    cache, block = run(model, tokens), model.blocks[layer]
    result = cache["z", layer][:, :, head].double() @ block.attn.W_O[head].double()
    return (result / scales(model, cache["resid_mid", layer])[..., None]) @ block.mlp.W_in.double()


def check_driven(submission, rng, layer, model):
    tokens, head = random_tokens(rng, model), integer(rng, 0, 4)
    got = int(submission.driven_neuron(model, tokens, layer, head))
    part = parts_of_head(model, tokens, layer, head)
    spread = [float(part[..., n].flatten().std()) for n in range(part.shape[-1])]
    require(0 <= got < len(spread), f"There are neurons 0 to {len(spread) - 1}; you gave {got}.")
    best = max(range(len(spread)), key=spread.__getitem__)
    require(
        spread[got] > 0.999 * spread[best],
        f"Head {layer}.{head} moves neuron {best} most, by a standard deviation of {spread[best]:.3f}; it moves yours, {got}, by {spread[got]:.3f}.",
    )


@exercise("driven_neuron", points=1)
def test_the_neuron_that_a_head_of_the_first_layer_moves_most(submission, rng):
    for _ in range(3):
        check_driven(submission, rng, 0, folded(full_model(rng)))


@exercise("driven_neuron", points=1)
def test_the_neuron_that_a_head_of_a_later_layer_moves_most(submission, rng):
    for layer in (1, 2, 1):
        check_driven(submission, rng, layer, folded(full_model(rng, d_mlp=29)))


@exercise("driven_neuron", points=1)
def test_what_a_head_always_adds_moves_nothing(submission, rng):
    for layer in (0, 2, 1):
        model = full_model(rng, d_mlp=23)
        model.blocks[layer].attn.b_V.data += normal(rng, 5, 7, scale=3.0)  # heads write nearly the same everywhere
        check_driven(submission, rng, layer, folded(model))


# rotate_hidden ------------------------------------------------------------------------------


@exercise("rotate_hidden", points=1)
def test_what_the_neurons_see_is_rotated(submission, rng):
    model, R, tokens = full_model(rng), orthogonal(rng, 13), random_tokens(rng)
    got = submission.rotate_hidden(model, R)
    want = run(model, tokens)["pre", 0].double() @ R.double()  # of the first layer: nothing before it has changed
    expect(run(got, tokens)["pre", 0], want, "`pre` of the first layer", rtol=1e-3, atol=2e-4)


@exercise("rotate_hidden", points=1)
def test_without_relu_it_is_the_same_mlp(submission, rng):
    model, R = full_model(rng), orthogonal(rng, 13)
    got = submission.rotate_hidden(model, R)
    for layer, (new, old) in enumerate(zip(got.blocks, model.blocks, strict=True)):
        for name in ("W_in", "b_in"):
            want = getattr(old.mlp, name) @ old.mlp.W_out
            expect(getattr(new.mlp, name) @ new.mlp.W_out, want, f"{name} @ W_out of layer {layer}", rtol=1e-3, atol=2e-4)
            expect(getattr(new.mlp, name), getattr(old.mlp, name) @ R, f"{name} of layer {layer}", rtol=1e-3, atol=2e-4)


@exercise("rotate_hidden", points=1)
def test_an_exchange_of_neurons_changes_nothing(submission, rng):
    model, tokens = full_model(rng), random_tokens(rng)
    order = shuffle(rng, 13)
    R = torch.eye(13)[order]
    got = submission.rotate_hidden(model, R)
    expect(got(tokens), model(tokens), "the logits where R exchanges neurons", rtol=1e-3, atol=2e-4)
    want = run(model, tokens)["post", 1] @ R
    expect(run(got, tokens)["post", 1], want, "`post` of layer 1 where R exchanges neurons", rtol=1e-3, atol=2e-4)


# kurtosis -----------------------------------------------------------------------------------


def slow_kurtosis(row):
    row = [float(v) for v in row.double()]
    mean = sum(row) / len(row)
    second, fourth = (sum((v - mean) ** p for v in row) / len(row) for p in (2, 4))
    return fourth / second**2


@exercise("kurtosis", points=1, explains=True)
def test_a_row_by_hand(submission, rng):
    got = submission.kurtosis(torch.tensor([[0.0, 0.0, 0.0, 5.0, 0.0]]))
    expect(got, 3.25, "the kurtosis of [0, 0, 0, 5, 0]")


@exercise("kurtosis", points=1)
def test_is_the_mean_over_the_rows_of_each_rows_own(submission, rng):
    x = normal(rng, 7, 9) * torch.rand(7, 1, generator=rng) * 5 + normal(rng, 7, 1)
    expect(submission.kurtosis(x), sum(map(slow_kurtosis, x)) / 7, "the kurtosis of random rows", rtol=1e-3)


@exercise("kurtosis", points=1)
def test_sees_heavy_tails(submission, rng):
    x = normal(rng, 5, 40) ** 3 + 2 * normal(rng, 5, 1)
    expect(submission.kurtosis(x), sum(map(slow_kurtosis, x)) / 5, "the kurtosis of rows with heavy tails", rtol=1e-3)


# vocabulary_space ---------------------------------------------------------------------------


@exercise("vocabulary_space", points=1)
def test_the_transpose_gives_dot_products_with_embeddings(submission, rng):
    W_E, vectors = normal(rng, 11, 6), normal(rng, 5, 6)
    want = [[sum(a * b for a, b in zip(v, e)) for e in W_E.double().tolist()] for v in vectors.double().tolist()]
    expect(submission.vocabulary_space(W_E, vectors, False), want, "the dot products with each embedding", rtol=1e-3)


@exercise("vocabulary_space", points=1)
def test_the_pseudo_inverse_gives_a_mixture_that_is_the_vector(submission, rng):
    W_E, vectors = normal(rng, 11, 6), normal(rng, 5, 6)
    got = submission.vocabulary_space(W_E, vectors, True)
    expect(got.double() @ W_E.double(), vectors, "the mixture of embeddings", rtol=1e-3, atol=1e-4)


@exercise("vocabulary_space", points=1)
def test_and_the_smallest_such_mixture(submission, rng):
    W_E, vectors = normal(rng, 13, 5) + normal(rng, 5), normal(rng, 3, 5)
    want = torch.linalg.lstsq(W_E.double().T, vectors.double().T, driver="gelsd").solution.T
    got = submission.vocabulary_space(W_E, vectors, True)
    expect(got, want, "the weights of the smallest mixture", rtol=1e-3, atol=1e-4)


# neuron_partners ----------------------------------------------------------------------------


def slow_correlation(x, y):
    x, y = x.double().tolist(), y.double().tolist()
    mx, my = sum(x) / len(x), sum(y) / len(y)
    cov = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    vx, vy = sum((a - mx) ** 2 for a in x), sum((b - my) ** 2 for b in y)
    return cov / math.sqrt(vx * vy) if vx and vy else 0.0


def slow_partners(a, b):
    return [max(slow_correlation(x, y) for y in b.T) for x in a.T]


@exercise("neuron_partners", points=1)
def test_is_the_largest_correlation_with_any(submission, rng):
    a, b = normal(rng, 20, 5) + 3 * normal(rng, 5), normal(rng, 20, 7) * 2
    expect(submission.neuron_partners(a, b), slow_partners(a, b), "the best correlations", rtol=1e-3, atol=1e-4)


@exercise("neuron_partners", points=1)
def test_scale_and_offset_do_not_matter_but_the_sign_does(submission, rng):
    a, b = normal(rng, 23, 6), normal(rng, 23, 7)
    b[:, 3] = 5 + 0.1 * a[:, integer(rng, 0, 2)]
    b[:, 5] = 2 - 4 * a[:, integer(rng, 3, 5)]
    expect(submission.neuron_partners(a, b), slow_partners(a, b), "the best correlations, with a copy and an opposite,", rtol=1e-3, atol=1e-4)


@exercise("neuron_partners", points=1)
def test_a_neuron_that_never_changes_has_no_partner(submission, rng):
    a, b = normal(rng, 17, 5).relu(), normal(rng, 17, 6).relu()
    a[:, integer(rng, 0, 4)] = 0.0
    b[:, integer(rng, 0, 5)] = 0.75
    expect(submission.neuron_partners(a, b), slow_partners(a, b), "the best correlations, with silent neurons,", rtol=1e-3, atol=1e-4)


# named_neurons ------------------------------------------------------------------------------

N_WINDOWS, N_CTX = 128, 256
KEPT = 0.7  # of an F1 of 0.8 on one text, on another


@functools.lru_cache(maxsize=1)
def shipped():
    return load_model("full_two_layer").requires_grad_(False)


@functools.lru_cache(maxsize=1)
def fresh_text():
    """Labelled windows of the half of the held-out files that the chapter does not look at, and the activations
    of every neuron of the shipped model there, [n_layers window pos d_mlp]."""
    windows = label_library(1).windows(N_WINDOWS, N_CTX, torch.Generator().manual_seed(1))
    post = []
    for part in windows.tokens.split(8):
        _, cache = shipped().run_with_cache(part, names_filter=lambda name: name.endswith("mlp.hook_post"))
        post.append(torch.stack([cache["post", layer] for layer in range(2)]))
    return windows, torch.cat(post, 1)


def some_windows(rng):
    """Three quarters of them, drawn at random."""
    return torch.randperm(N_WINDOWS, generator=rng)[: 3 * N_WINDOWS // 4]


def whole(x, n, what):
    try:
        number = int(x)
    except (TypeError, ValueError):
        fail(f"{what} should be a whole number; yours is {x!r}.")
    require(0 <= number < n, f"{what} should be from 0 to {n - 1}; yours is {number}.")
    return number


def measured_f1(entry, rng):
    """The F1 on fresh text of (layer, neuron, description, threshold), and a sentence on it."""
    try:
        layer, neuron, description, threshold = entry
        threshold = float(threshold)
    except (TypeError, ValueError):
        fail(f"Each entry should be (layer, neuron, description, threshold); one of yours is {entry!r}.")
    windows, post = fresh_text()
    layer, neuron = whole(layer, 2, "A layer"), whole(neuron, 1024, "A neuron")
    try:
        inside = windows.where(str(description))
    except ValueError as error:
        fail(str(error))
    at = some_windows(rng)
    f1 = slow_f1((post[layer][at, :, neuron] > threshold).flatten(), inside[at].flatten())
    return (layer, neuron), f1, f"neuron {neuron} of layer {layer} has an F1 of {f1:.2f} for {description!r} above {threshold:g}"


def check_named(submission, rng, n):
    named = submission.named_neurons()
    require(isinstance(named, list | tuple) and len(named) >= n, f"You name fewer than {n} neurons.")
    good, said = {}, []
    for entry in list(named)[:12]:
        neuron, f1, sentence = measured_f1(entry, rng)
        said.append(sentence)
        if f1 > KEPT:
            good[neuron] = f1
    require(len(good) >= n, f"On fresh text {n - len(good)} too few are above {KEPT}: {'; '.join(said)}.")


@exercise("named_neurons", points=1, prepare=fresh_text)
def test_one_neuron_is_well_named(submission, rng):
    check_named(submission, rng, 1)


@exercise("named_neurons", points=1, prepare=fresh_text)
def test_two_neurons_are_well_named(submission, rng):
    check_named(submission, rng, 2)


@exercise("named_neurons", points=1, prepare=fresh_text)
def test_three_neurons_are_well_named(submission, rng):
    check_named(submission, rng, 3)


# opposed_pair -------------------------------------------------------------------------------


def named_pair(submission):
    got = submission.opposed_pair()
    require(isinstance(got, list | tuple) and len(got) == 3, f"Return (layer, neuron, neuron); yours is {got!r}.")
    layer = whole(got[0], 2, "The layer")
    first, second = (whole(n, 1024, "A neuron") for n in got[1:])
    require(first != second, "A neuron is no pair with itself.")
    return layer, first, second


@exercise("opposed_pair", points=1)
def test_their_values_point_apart(submission, rng):
    layer, *pair = named_pair(submission)
    value = shipped().blocks[layer].mlp.W_out[pair].double()
    value = value - value.mean(-1, keepdim=True)
    cosine = float(torch.nn.functional.cosine_similarity(*value, dim=0))
    require(cosine < -0.4, f"The cosine of your neurons' centred values is {cosine:.2f}; it should be below -0.4.")


@exercise("opposed_pair", points=1, prepare=fresh_text)
def test_they_fire_together_more_than_by_chance(submission, rng):
    layer, *pair = named_pair(submission)
    fires = fresh_text()[1][layer][some_windows(rng)][..., pair].flatten(0, 1) > 0
    shares = fires.double().mean(0)
    both = float(fires.all(-1).double().mean())
    chance = float(shares.prod())
    require(
        both > 2 * chance,
        f"On fresh text your neurons fire together at {both:.2%} of the tokens; by chance it would be {chance:.2%}. "
        "It should be at least twice as often.",
    )


@exercise("opposed_pair", points=1, prepare=fresh_text)
def test_what_one_writes_the_other_takes_back(submission, rng):
    layer, *pair = named_pair(submission)
    post = fresh_text()[1][layer][some_windows(rng)][..., pair].flatten(0, 1)
    post = post[(post > 0).all(-1)].double()
    require(len(post) >= 20, f"Your neurons fire together at {len(post)} tokens of fresh text: too few to tell.")
    value = shipped().blocks[layer].mlp.W_out[pair].double()
    value = value - value.mean(-1, keepdim=True)
    written = post[..., None] * value  # [place 2 d_model]
    ratio = float(written.sum(1).pow(2).sum() / written.pow(2).sum())
    require(
        ratio < 0.85,
        f"Where both fire, what they write together has {ratio:.0%} of the squared length that two vectors at right "
        "angles would have; it should be below 85%.",
    )
