"""Checks of chapter 4. Each says in its name what must be true of an answer."""

import copy
import functools

import torch

from circuits.checking import answer_to, describe, exercise, expect, fail, require
from circuits.inputs import BATCH, POS, integer, normal, random_model, random_tokens, shuffle, two_answers
from circuits.judging import as_a_set
from circuits.symmetries import ALL, CACHE, symmetric
from utils.corpus import load_tokenizer
from utils.materials.gates import gate_model
from utils.materials.prompts import TEMPLATE, draw_names, draw_pairs
from utils.model import Config, Transformer, get_act_name
from utils.patching import LogitDiff, sweep
from utils.pretrained import load_model


def head_of_name(arguments):
    """The kind of a head's number, in the layer that the name of an activation says."""
    return f"head {arguments['name'].split('.')[1]}" if arguments["head"] is not None else None


def cells(arguments):
    """The kind of a sweep's answer: a row of positions or of heads for each layer."""
    return "n_layers pos" if arguments["kind"] == "resid_pre" else "n_layers n_heads"


COINCIDENCES = {
    ("overlooked_head", what): "it is the shipped model that is asked about, with its heads in another order"
    for what in ("n_layers is always 2", "d_model always equals n_ctx")
}

SYMMETRIES = {
    "logit_diff": symmetric("vocabulary constant"),
    "clean_and_corrupted": "its arguments are words, and the model is there for its tokenizer",
    "changes_that_show": "its argument is a word",
    "zero_ablate": symmetric(ALL, head=head_of_name),
    "mean_ablate": symmetric(ALL, head=head_of_name),
    "resample_ablate": symmetric(ALL, head=head_of_name),
    "alarms": "its argument is a word",
    "direct_logit_attribution": symmetric(ALL, cache=CACHE),
    "logit_lens": symmetric(ALL, cache=CACHE),
    "activation_patch": symmetric(ALL, clean_cache=CACHE, head=head_of_name),
    "patch_sweep": symmetric(ALL, returns=cells),
    "overlooked_head": symmetric(ALL, returns="(layer, head)"),
    "ways_that_find": "its argument is a word",
    "input_that_lights_up": "its argument is a word",
    "patch_qkv": symmetric(ALL, layer="layer"),
    "attribution_patch": symmetric(ALL, returns={"resid_pre": "pos"} | dict.fromkeys("qkvz", "pos n_heads")),
    "k_fix": symmetric(ALL, returns={"k": "pos n_heads"}),
    "where_attribution_fails": "it has no argument",
    "estimate_over_exact": "its arguments are probabilities",
    "causal_trace": symmetric(ALL),
    "path_patch": symmetric(ALL, sender="(layer, head)", receiver="(layer, head)"),
    "edge_attribution": symmetric(ALL, returns="edge"),
    "unexplained_effect": symmetric(ALL, circuit="edge"),
    "smallest_circuit": "it has no argument",
}


BEHAVIOUR = dict.fromkeys(
    ("changes_that_show", "alarms", "ways_that_find", "where_attribution_fails", "smallest_circuit"), as_a_set
)


def slow_diffs(logits, right, wrong):
    rows = zip(logits, right.tolist(), wrong.tolist(), strict=True)
    return torch.tensor([float(row[-1, r] - row[-1, w]) for row, r, w in rows])


@functools.lru_cache(maxsize=1)
def shipped():
    return load_model("two_layer").requires_grad_(False)


def run_patched(model, tokens, source, name, head=None):
    """Logits of a run over `tokens` with an activation (or one head of it) as it is in the run over
    `source`; None for zero; a tensor for itself."""
    if source is not None and not source.is_floating_point():
        source = model.run_with_cache(source, names_filter=name)[1][name]

    def replace(x, hook):
        new = torch.zeros_like(x) if source is None else source.expand_as(x)
        if head is None:
            return new
        return torch.cat([x[:, :, :head], new[:, :, head : head + 1], x[:, :, head + 1 :]], dim=2)

    return model.run_with_hooks(tokens, fwd_hooks=[(name, replace)])


def table(got):
    """Rows of numbers, as the notebook's next cell would take them."""
    try:
        return torch.as_tensor(got)
    except (TypeError, ValueError):
        fail(f"The answer should be a table of numbers; it is {describe(got)}.")


def sized(values, shape, what):
    """What an answer returned, if it has this shape."""
    got = list(getattr(values, "shape", []))
    require(got == shape, f"{what} should have shape {shape}; yours have {got}.")
    return values


def some(names, n=3):
    """The first few names, and how many more there are."""
    more = len(names) - n
    return ", ".join(map(str, names[:n])) + f" and {more} more" * (more > 0)


def layers_of(model):
    n = model.cfg.n_layers
    return f"{n} layer{'s' * (n > 1)}"


def listed(got, options, what):
    """A list of option names as a set."""
    if not isinstance(got, list | tuple | set) or not all(isinstance(g, str) for g in got):
        fail(f"{what} should be a list of strings; it is {got!r}.")
    strange = sorted(set(got) - set(options))
    require(not strange, f"{what} holds {some(list(map(repr, strange)))}; choose among {', '.join(map(repr, options))}.")
    return set(got)


# logit_diff ---------------------------------------------------------------------------------


@exercise("logit_diff", points=1, explains=True)
def test_two_prompts_by_hand(submission, rng):
    logits = torch.tensor([[[9.0, 9, 9], [1, 2, 4]], [[9, 9, 9], [5, 3, 0]]])
    got = submission.logit_diff(logits, torch.tensor([2, 0]), torch.tensor([0, 1]))
    require(isinstance(got, torch.Tensor), f"The differences should be a tensor [batch]; they are {describe(got)}.")
    expect(got, [3.0, 2.0], "the difference for last logits [1, 2, 4] and [5, 3, 0], right 2 and 0, wrong 0 and 1,")


@exercise("logit_diff", points=1)
def test_reads_the_last_position_alone(submission, rng):
    logits = normal(rng, 4, 5, 7)
    right, wrong = two_answers(rng, 4, 7)
    want = slow_diffs(logits, right, wrong)
    logits[:, :-1] += 10 * normal(rng, 4, 4, 7)
    what = "the difference after all positions but the last were changed"
    expect(submission.logit_diff(logits, right, wrong), want, what)


@exercise("logit_diff", points=1)
def test_is_the_log_of_how_many_times_likelier_the_right_token_is(submission, rng):
    logits = 2 * normal(rng, 5, 3, 6)
    right, wrong = two_answers(rng, 5, 6)
    p = logits[:, -1].double().softmax(-1)
    want = torch.stack([(row[r] / row[w]).log() for row, r, w in zip(p, right, wrong, strict=True)])
    got = submission.logit_diff(logits, right, wrong)
    expect(got, want, "the difference for random logits, which is log(P(right) / P(wrong)),", rtol=1e-3, atol=1e-4)
    exchanged = submission.logit_diff(logits, wrong, right)
    expect(exchanged, -want, "the difference with right and wrong exchanged", rtol=1e-3, atol=1e-4)


# clean_and_corrupted ------------------------------------------------------------------------

OTHER_TEMPLATE = "def run({first},{second}):\n    return{query}"


def course_reader(rng):
    """A model that reads the course's tokens; it is asked for nothing else."""
    model = Transformer(Config(d_vocab=2048, d_model=3), load_tokenizer())
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(normal(rng, *weight.shape))
    return model


PARTS = ("clean prompts", "corrupted prompts", "right answers", "wrong answers")


def made_pairs(submission, rng, template, wanted=PARTS, n=4):
    """A model, names, and what an answer makes of them: the parts that are wanted are tensors, of their shapes."""
    model = course_reader(rng)
    names = [tuple(name) for name in draw_names(model, n, rng)]
    made = submission.clean_and_corrupted(model, template, names)
    for value, what in zip(made, PARTS, strict=True):
        if what not in wanted:
            continue
        require(isinstance(value, torch.Tensor), f"The {what} should be a tensor of token ids; you gave {describe(value)}.")
        if "answers" in what:
            require(list(value.shape) == [n], f"The {what} should have shape [{n}], one token for each prompt; yours have {list(value.shape)}.")
    return model, names, made


def written(template, first, second, query):
    return template.replace("{first}", first).replace("{second}", second).replace("{query}", query)


def check_texts(model, tokens, texts, which):
    got = torch.as_tensor(tokens)
    require(
        got.ndim == 2 and len(got) == len(texts),
        f"The {which} tokens should have one row per pair of names, here {len(texts)}; their shape is "
        f"{list(got.shape)}.",
    )
    for row, text in zip(got, texts, strict=True):
        read = model.to_string(row)
        require(
            read.startswith("<|bos|>") and not read[7:].startswith("<|bos|>"),
            f"Every {which} prompt should start with one <|bos|>; yours starts {read[:24]!r}.",
        )
        require(read[7:] == text, f"A {which} prompt should read {text!r}; yours reads {read[7:]!r}.")


@exercise("clean_and_corrupted", points=1)
def test_the_clean_prompts_hold_the_names_as_they_are(submission, rng):
    model, names, (clean, _, _, _) = made_pairs(submission, rng, TEMPLATE, ["clean prompts"])
    texts = [written(TEMPLATE, a + b, c + d, a) for a, b, c, d in names]
    check_texts(model, clean, texts, "clean")


@exercise("clean_and_corrupted", points=1)
def test_in_the_corrupted_prompts_the_first_halves_have_changed_places(submission, rng):
    model, names, (_, corrupted, _, _) = made_pairs(submission, rng, OTHER_TEMPLATE, ["corrupted prompts"])
    texts = [written(OTHER_TEMPLATE, c + b, a + d, a) for a, b, c, d in names]
    check_texts(model, corrupted, texts, "corrupted")


@exercise("clean_and_corrupted", points=1)
def test_each_prompt_has_its_right_and_its_wrong_answer(submission, rng):
    model, names, (_, _, right, wrong) = made_pairs(submission, rng, TEMPLATE, ["right answers", "wrong answers"], n=5)
    for tokens, half, which in ((right, 1, "right"), (wrong, 3, "wrong")):
        for i, name in enumerate(names):
            text = model.to_string(tokens[i])
            require(
                text == name[half],
                f"For the names {name}, the {which} answer is the token {name[half]!r}; yours is {text!r}.",
            )


@exercise("clean_and_corrupted", points=1)
def test_the_answer_follows_the_query_where_it_stood_before(submission, rng):
    model, _, (clean, corrupted, right, wrong) = made_pairs(submission, rng, TEMPLATE)
    require(
        clean.shape == corrupted.shape,
        f"Clean and corrupted prompts should have the same shape; yours have {list(clean.shape)} and "
        f"{list(corrupted.shape)}.",
    )
    for tokens, answers, which in ((clean, right, "right"), (corrupted, wrong, "wrong")):
        for row, answer in zip(tokens, answers, strict=True):
            before = [i for i in range(len(row) - 1) if row[i] == row[-1]]
            follows = [model.to_string(row[i + 1]) for i in before]
            require(
                model.to_string(answer) in follows,
                f"After the last token {model.to_string(row[-1])!r} of {model.to_string(row)!r}, the {which} answer "
                f"{model.to_string(answer)!r} should follow where that token stood before; there follows {follows}.",
            )
    n_changed = (clean != corrupted).sum(1).tolist()
    require(n_changed == [2] * len(clean), f"Twins should differ in 2 tokens each; yours differ in {n_changed}.")


# changes_that_show --------------------------------------------------------------------------

CHANGES = ("swap_first", "swap_second", "new_query")
HEADS = {"previous": 4, "own": 6}  # heads of layer 0 in the shipped model


@functools.lru_cache(maxsize=64)
def measured_share(seed, change, head, n=16):
    """How much of the clean answer one head of layer 0 brings back, in the shipped model."""
    model, name = shipped(), get_act_name("z", 0)
    pairs = draw_pairs(model, n, torch.Generator().manual_seed(seed), change)
    metric = LogitDiff(pairs.right, pairs.wrong)
    logits, cache = model.run_with_cache(pairs.clean, names_filter=name)
    start, end = metric(model(pairs.corrupted)), metric(logits)
    patched = metric(run_patched(model, pairs.corrupted, cache[name], name, HEADS[head]))
    return float((patched - start) / (end - start))


def check_changes(submission, rng, changes):
    predicted = {
        head: listed(submission.changes_that_show(head), CHANGES, f"Your answer for {head!r}") for head in HEADS
    }
    seed = integer(rng, 0, 2**62)
    for change in changes:
        for head, answer in predicted.items():
            share = measured_share(seed, change, head)
            require(
                (change in answer) == (share > 0.1),
                f"Your answer for {head!r} {'holds' if change in answer else 'leaves out'} {change!r}. Measured on "
                f"16 fresh prompts, putting that head back restores {share:z.2f} of the clean answer.",
            )


@exercise("changes_that_show", points=1)
def test_is_right_about_exchanged_first_halves(submission, rng):
    check_changes(submission, rng, ["swap_first"])


@exercise("changes_that_show", points=1)
def test_is_right_about_exchanged_second_halves(submission, rng):
    check_changes(submission, rng, ["swap_second"])


@exercise("changes_that_show", points=1)
def test_is_right_about_a_new_query(submission, rng):
    check_changes(submission, rng, ["new_query"])


# zero_ablate --------------------------------------------------------------------------------


def without(model, layer, weight, head=None):
    """A copy of a model with one kind of weight zero: of all heads of a layer, or of one."""
    model = copy.deepcopy(model)
    W = getattr(model.blocks[layer].attn, weight)
    W[slice(None) if head is None else head] = 0
    return model


@exercise("zero_ablate", points=1)
def test_a_silent_head_is_one_without_output_weights(submission, rng):
    model, tokens = random_model(rng), random_tokens(rng)
    for layer in range(3):
        for head in range(5):
            got = submission.zero_ablate(model, tokens, get_act_name("z", layer), head)
            want = without(model, layer, "W_O", head)(tokens)
            expect(got, want, f"the logits with z of head {layer}.{head} zero", rtol=1e-3, atol=1e-4)


@exercise("zero_ablate", points=1)
def test_works_for_queries_keys_and_values(submission, rng):
    model, tokens = random_model(rng), random_tokens(rng)
    for kind in "qkv":
        layer, head = integer(rng, 0, 2), integer(rng, 1, 4)
        got = submission.zero_ablate(model, tokens, get_act_name(kind, layer), head)
        want = without(model, layer, f"W_{kind.upper()}", head)(tokens)
        expect(got, want, f"the logits with {kind} of head {layer}.{head} zero", rtol=1e-3, atol=1e-4)


@exercise("zero_ablate", points=1)
def test_without_a_head_all_of_the_activation_is_zero(submission, rng):
    model, tokens = random_model(rng), random_tokens(rng, batch=9)
    got = submission.zero_ablate(model, tokens, get_act_name("z", 0))
    want = without(model, 0, "W_O")(tokens)
    expect(got, want, "the logits with z of layer 0 zero, head=None,", rtol=1e-3, atol=1e-4)
    got = submission.zero_ablate(model, tokens, get_act_name("resid_pre", 0))
    expect(got, torch.zeros_like(want), "the logits with the first resid_pre zero", atol=1e-4)


# mean_ablate --------------------------------------------------------------------------------


@exercise("mean_ablate", points=1)
def test_the_mean_over_one_prompt_is_that_prompt(submission, rng):
    model, tokens = random_model(rng), random_tokens(rng)
    reference = random_tokens(rng, batch=1)
    for layer, head in ((0, 0), (1, 4), (2, 1)):
        name = get_act_name("z", layer)
        got = submission.mean_ablate(model, tokens, name, reference, head)
        want = run_patched(model, tokens, reference.expand(BATCH, -1), name, head)
        what = f"the logits with z of head {layer}.{head} replaced by the mean over a single reference prompt"
        expect(got, want, what, rtol=1e-3, atol=1e-4)


@exercise("mean_ablate", points=1)
def test_changes_the_logits_by_what_the_mean_head_adds(submission, rng):
    model = random_model(rng)
    tokens, reference = random_tokens(rng), random_tokens(rng, batch=9)
    name = get_act_name("z", 2)  # of the last layer: what it adds goes straight to the logits
    logits, cache = model.run_with_cache(tokens)
    _, ref_cache = model.run_with_cache(reference)
    for head in (0, integer(rng, 1, 4)):
        mean = sum(ref_cache[name][i, :, head] for i in range(9)) / 9
        added = (mean - cache[name][:, :, head]) @ model.W_O[2, head] @ model.W_U
        got = submission.mean_ablate(model, tokens, name, reference, head)
        what = f"the logits with z of head 2.{head} at its mean over 9 prompts"
        expect(got, logits + added, what, rtol=1e-3, atol=1e-4)
    news = (ref_cache[name].mean(0) - cache[name]).flatten(-2) @ model.W_O[2].flatten(0, 1)  # of all heads
    got = submission.mean_ablate(model, tokens, name, reference)
    what = "the logits with z of all heads of layer 2 at their means, head=None,"
    expect(got, logits + news @ model.W_U, what, rtol=1e-3, atol=1e-4)


@exercise("mean_ablate", points=1)
def test_each_position_has_its_own_mean(submission, rng):
    model = random_model(rng)
    tokens, reference = random_tokens(rng), random_tokens(rng, batch=9)
    name = get_act_name("resid_pre", 0)  # the mean embedding of the reference, position by position
    mean = torch.stack([model.W_E[reference[:, p]].mean(0) for p in range(POS)])
    want = run_patched(model, tokens, mean, name)
    got = submission.mean_ablate(model, tokens, name, reference)
    what = "the logits with the first resid_pre at its mean over 9 prompts, head=None,"
    expect(got, want, what, rtol=1e-3, atol=1e-4)


@exercise("mean_ablate", points=1)
def test_leaves_alone_what_every_prompt_shares(submission, rng):
    model, tokens = random_model(rng), random_tokens(rng, batch=1)
    copies, name = tokens.expand(9, -1), get_act_name("k", 1)
    got = submission.mean_ablate(model, tokens, name, copies, integer(rng, 0, 4))
    expect(got, model(tokens), "the logits where the reference prompts are the prompt itself", rtol=1e-3, atol=1e-4)
    other = random_tokens(rng, batch=3)
    got = submission.mean_ablate(model, tokens, name, other, 1)
    mean = model.run_with_cache(other)[1][name].mean(0)
    want = run_patched(model, tokens, mean, name, 1)
    expect(got, want, "the logits with k of head 1.1 at its mean over 3 prompts", rtol=1e-3, atol=1e-4)


# resample_ablate ----------------------------------------------------------------------------


@exercise("resample_ablate", points=1)
def test_all_of_the_stream_from_another_prompt_is_the_other_prompt(submission, rng):
    model = random_model(rng)
    tokens, other = random_tokens(rng), random_tokens(rng)
    for layer in range(3):
        got = submission.resample_ablate(model, tokens, get_act_name("resid_pre", layer), other)
        what = f"the logits with resid_pre of layer {layer} from the other prompts, head=None,"
        expect(got, model(other), what, rtol=1e-3, atol=1e-4)
    got = submission.resample_ablate(model, tokens, get_act_name("z", 1), other, 2)
    require(not torch.allclose(got, model(other)), "With z of one head alone from the other prompts, the rest should stay.")


@exercise("resample_ablate", points=1)
def test_changes_the_logits_by_what_the_other_head_adds(submission, rng):
    model = random_model(rng)
    tokens, other = random_tokens(rng), random_tokens(rng)
    name = get_act_name("z", 2)
    logits, cache = model.run_with_cache(tokens)
    _, other_cache = model.run_with_cache(other)
    for head in (integer(rng, 1, 4), 0):
        news = other_cache[name][:, :, head] - cache[name][:, :, head]
        want = logits + news @ model.W_O[2, head] @ model.W_U
        got = submission.resample_ablate(model, tokens, name, other, head)
        expect(got, want, f"the logits with z of head 2.{head} from the other prompts", rtol=1e-3, atol=1e-4)


@exercise("resample_ablate", points=1)
def test_later_layers_read_what_was_resampled(submission, rng):
    model = random_model(rng)
    tokens, other = random_tokens(rng), random_tokens(rng)
    for kind in "zqkv":
        name, head = get_act_name(kind, 0), integer(rng, 0, 4)
        got = submission.resample_ablate(model, tokens, name, other, head)
        want = run_patched(model, tokens, other, name, head)
        expect(got, want, f"the logits with {kind} of head 0.{head} from the other prompts", rtol=1e-3, atol=1e-4)


# alarms -------------------------------------------------------------------------------------

ABLATIONS = ("zero", "mean", "other", "twin")
KINDS = {"constant": 5, "shared": 6, "carrier": 4}  # heads of layer 0 in the shipped model


@functools.lru_cache(maxsize=64)
def measured_costs(seed, kind, n=24):
    """By ablation, the mean change of the logit difference in the shipped model, of a head of this kind."""
    model, name, rng = shipped(), get_act_name("z", 0), torch.Generator().manual_seed(seed)
    pairs = draw_pairs(model, n, rng)
    metric = LogitDiff(pairs.right, pairs.wrong)
    logits, _ = model.run_with_cache(pairs.clean, names_filter=name)
    _, other = model.run_with_cache(draw_pairs(model, n, rng).clean, names_filter=name)
    _, twin = model.run_with_cache(pairs.corrupted, names_filter=name)
    sources = {"zero": None, "mean": other[name].mean(0), "other": other[name], "twin": twin[name]}
    return {
        ablation: float(metric(run_patched(model, pairs.clean, source, name, KINDS[kind])) - metric(logits))
        for ablation, source in sources.items()
    }


def check_alarms(submission, rng, kind):
    predicted = listed(answer_to(kind, submission.alarms, KINDS), ABLATIONS, f"Your answer for {kind!r}")
    for ablation, cost in measured_costs(integer(rng, 0, 2**62), kind).items():
        alarm = ablation in predicted
        require(
            alarm == (cost < -0.3),
            f"For a head that is {kind!r} you expect {'an' if alarm else 'no'} alarm from {ablation!r}. Measured "
            f"on 24 fresh prompts, it changes the logit difference of head 0.{KINDS[kind]} by {cost:+z.2f} nats.",
        )


@exercise("alarms", points=1)
def test_is_right_about_a_head_that_is_constant(submission, rng):
    check_alarms(submission, rng, "constant")


@exercise("alarms", points=1)
def test_is_right_about_a_head_that_both_twins_share(submission, rng):
    check_alarms(submission, rng, "shared")


@exercise("alarms", points=1)
def test_is_right_about_a_head_that_carries_the_change(submission, rng):
    check_alarms(submission, rng, "carrier")


# direct_logit_attribution -------------------------------------------------------------------


def attribution_case(rng, n_layers=3):
    model, tokens = random_model(rng, n_layers=n_layers), random_tokens(rng)
    logits, cache = model.run_with_cache(tokens)
    return model, tokens, logits, cache, *two_answers(rng)


def shares(submission, cache, model, right, wrong, wanted=("embedding", "heads")):
    """The embedding's and the heads' shares; those that are wanted have their shapes."""
    embedding, heads = submission.direct_logit_attribution(cache, model, right, wrong)
    cfg, n = model.cfg, len(right)
    where = f"for {n} prompts and {layers_of(model)} of {cfg.n_heads} heads"
    if "embedding" in wanted:
        sized(embedding, [n], f"The embedding's shares {where}")
    if "heads" in wanted:
        sized(heads, [n, cfg.n_layers, cfg.n_heads], f"The heads' shares {where}")
    return embedding, heads


@exercise("direct_logit_attribution", points=1)
def test_shares_sum_to_the_logit_difference(submission, rng):
    for n_layers in (1, 3):
        model, _, logits, cache, right, wrong = attribution_case(rng, n_layers)
        embedding, heads = shares(submission, cache, model, right, wrong)
        want = slow_diffs(logits, right, wrong)
        what = f"the sum of the embedding's share and all heads' shares ({layers_of(model)})"
        expect(embedding + heads.sum((1, 2)), want, what, rtol=1e-3, atol=1e-4)


@exercise("direct_logit_attribution", points=1)
def test_the_embeddings_share_is_the_direct_path(submission, rng):
    model, tokens, _, cache, right, wrong = attribution_case(rng)
    table = model.W_E @ model.W_U
    want = torch.stack([table[t, r] - table[t, w] for t, r, w in zip(tokens[:, -1], right, wrong, strict=True)])
    embedding, _ = shares(submission, cache, model, right, wrong, ["embedding"])
    expect(embedding, want, "the embedding's share", rtol=1e-3, atol=1e-4)


@exercise("direct_logit_attribution", points=1)
def test_a_head_of_the_last_layer_contributes_what_is_lost_without_it(submission, rng):
    model, tokens, logits, cache, right, wrong = attribution_case(rng)
    _, heads = shares(submission, cache, model, right, wrong)
    for head in range(5):
        rest = slow_diffs(without(model, 2, "W_O", head)(tokens), right, wrong)
        want = slow_diffs(logits, right, wrong) - rest
        expect(heads[:, 2, head], want, f"the share of head 2.{head}", rtol=1e-3, atol=1e-4)


@exercise("direct_logit_attribution", points=1)
def test_a_head_of_an_early_layer_counts_only_what_it_writes_to_the_output(submission, rng):
    model, _, _, cache, right, wrong = attribution_case(rng)
    _, heads = shares(submission, cache, model, right, wrong)
    for prompt in range(BATCH):
        for head in range(5):
            written = cache["z", 0][prompt, -1, head] @ model.W_O[0, head]
            want = written @ model.W_U[:, right[prompt]] - written @ model.W_U[:, wrong[prompt]]
            expect(heads[prompt, 0, head], want, f"the share of head 0.{head} in prompt {prompt}", rtol=1e-3, atol=1e-4)


# logit_lens ---------------------------------------------------------------------------------


@exercise("logit_lens", points=1)
def test_ends_with_the_models_own_logits(submission, rng):
    for n_layers in (1, 3):
        model, tokens = random_model(rng, n_layers=n_layers), random_tokens(rng)
        logits, cache = model.run_with_cache(tokens)
        got = submission.logit_lens(cache, model)
        expect(got[-1], logits, f"the last of {n_layers + 1} lenses", rtol=1e-3, atol=1e-4)


@exercise("logit_lens", points=1)
def test_starts_with_the_bigram_table(submission, rng):
    model, tokens = random_model(rng), random_tokens(rng)
    _, cache = model.run_with_cache(tokens)
    want = (model.W_E @ model.W_U)[tokens]
    expect(submission.logit_lens(cache, model)[0], want, "the lens on the embedding", rtol=1e-3, atol=1e-4)


@exercise("logit_lens", points=1)
def test_each_layer_adds_what_it_writes(submission, rng):
    model, tokens = random_model(rng), random_tokens(rng)
    _, cache = model.run_with_cache(tokens)
    got = submission.logit_lens(cache, model)
    for layer in range(3):
        want = cache["attn_out", layer] @ model.W_U
        what = f"the lens after layer {layer} minus that before it"
        expect(got[layer + 1] - got[layer], want, what, rtol=1e-3, atol=1e-3)


# activation_patch ---------------------------------------------------------------------------


def twins(rng):
    """A model, clean and corrupted prompts, and the cache of the clean run."""
    model = random_model(rng)
    clean, corrupted = random_tokens(rng), random_tokens(rng)
    return model, clean, corrupted, model.run_with_cache(clean)[1]


@exercise("activation_patch", points=1)
def test_clean_into_clean_changes_nothing_and_everything_is_the_clean_run(submission, rng):
    model, clean, corrupted, cache = twins(rng)
    got = submission.activation_patch(model, clean, cache, get_act_name("z", 0), 2, 1)
    expect(got, model(clean), "the logits of clean patched into clean", rtol=1e-3, atol=1e-4)
    for layer in range(3):
        got = submission.activation_patch(model, corrupted, cache, get_act_name("resid_pre", layer))
        what = f"the logits with all of layer {layer}'s resid_pre clean (pos=None, head=None)"
        expect(got, model(clean), what, rtol=1e-3, atol=1e-4)


@exercise("activation_patch", points=1)
def test_the_first_stream_at_one_position_is_one_token_exchanged(submission, rng):
    model, clean, corrupted, cache = twins(rng)
    for pos in (integer(rng, 1, POS - 2), 0, POS - 1):
        mixed = corrupted.clone()
        mixed[:, pos] = clean[:, pos]
        got = submission.activation_patch(model, corrupted, cache, get_act_name("resid_pre", 0), pos)
        what = f"the logits with resid_pre of layer 0 clean at position {pos} (as if that token were the clean one)"
        expect(got, model(mixed), what, rtol=1e-3, atol=1e-4)


@exercise("activation_patch", points=1)
def test_a_head_of_the_last_layer_changes_the_logits_by_what_it_adds(submission, rng):
    model, _, corrupted, cache = twins(rng)
    logits, own = model.run_with_cache(corrupted)
    name = get_act_name("z", 2)
    for head, pos in ((1, integer(rng, 2, POS - 2)), (0, None), (4, None), (0, 0)):
        want = logits.clone()
        where = slice(None) if pos is None else pos
        news = cache[name][:, where, head] - own[name][:, where, head]
        want[:, where] += news @ model.W_O[2, head] @ model.W_U
        got = submission.activation_patch(model, corrupted, cache, name, pos, head)
        expect(got, want, f"the logits with z of head 2.{head} clean, pos={pos},", rtol=1e-3, atol=1e-4)
    pos = integer(rng, 1, POS - 2)
    news = (cache[name][:, pos] - own[name][:, pos]).flatten(1) @ model.W_O[2].flatten(0, 1)  # of all heads
    want = logits.clone()
    want[:, pos] += news @ model.W_U
    got = submission.activation_patch(model, corrupted, dict(cache), name, pos)  # as the signature says
    expect(got, want, f"the logits with z of all heads of layer 2 clean, pos={pos}, head=None,", rtol=1e-3, atol=1e-4)


@exercise("activation_patch", points=1)
def test_patches_queries_keys_and_values_of_one_head(submission, rng):
    model, _, corrupted, cache = twins(rng)
    _, own = model.run_with_cache(corrupted)
    for kind in "qkvz":
        name, head, pos = get_act_name(kind, 0), integer(rng, 0, 4), integer(rng, 1, POS - 2)
        mixed = own[name].clone()
        for prompt in range(len(corrupted)):
            mixed[prompt, pos, head] = cache[name][prompt, pos, head]
        want = run_patched(model, corrupted, mixed, name)
        got = submission.activation_patch(model, corrupted, cache, name, pos, head)
        expect(got, want, f"the logits with {kind} of head 0.{head} clean at position {pos}", rtol=1e-3, atol=1e-4)


# patch_sweep --------------------------------------------------------------------------------


def sweep_case(rng):
    """A case in which clean and corrupted differ enough to divide by the difference, and differ by
    another amount in each prompt."""
    while True:
        model, clean, corrupted, _ = twins(rng)
        right, wrong = two_answers(rng)
        a, b = (slow_diffs(model(tokens), right, wrong) for tokens in (clean, corrupted))
        if abs((a - b).mean()) > 1 and (a - b).abs().min() > 0.3:
            return model, clean, corrupted, right, wrong, a.mean(), b.mean()


@exercise("patch_sweep", points=1)
def test_row_0_of_resid_pre_exchanges_one_token(submission, rng):
    model, clean, corrupted, right, wrong, at_clean, at_corrupted = sweep_case(rng)
    got = table(submission.patch_sweep(model, clean, corrupted, right, wrong, "resid_pre"))
    sized(got, [3, POS], f"The values for kind 'resid_pre', 3 layers and {POS} positions,")
    for pos in range(POS):
        mixed = corrupted.clone()
        mixed[:, pos] = clean[:, pos]
        value = slow_diffs(model(mixed), right, wrong).mean()
        want = (value - at_corrupted) / (at_clean - at_corrupted)
        expect(got[0, pos], want, f"the cell of layer 0, position {pos}, for kind 'resid_pre'", rtol=1e-3, atol=1e-3)


@exercise("patch_sweep", points=1)
def test_the_last_layers_heads_restore_what_they_add(submission, rng):
    model, clean, corrupted, right, wrong, at_clean, at_corrupted = sweep_case(rng)
    got = table(submission.patch_sweep(model, clean, corrupted, right, wrong, "z"))
    sized(got, [3, 5], "The values for kind 'z', 3 layers and 5 heads,")
    _, cache = model.run_with_cache(clean)
    logits, own = model.run_with_cache(corrupted)
    for head in range(5):
        news = (cache["z", 2] - own["z", 2])[:, :, head] @ model.W_O[2, head] @ model.W_U
        value = slow_diffs(logits + news, right, wrong).mean()
        want = (value - at_corrupted) / (at_clean - at_corrupted)
        expect(got[2, head], want, f"the cell of head 2.{head} for kind 'z'", rtol=1e-3, atol=1e-3)


@exercise("patch_sweep", points=1)
def test_every_cell_is_a_run_of_its_own(submission, rng):
    model, clean, corrupted, right, wrong, at_clean, at_corrupted = sweep_case(rng)
    _, cache = model.run_with_cache(clean)
    _, own = model.run_with_cache(corrupted)
    for kind, n_cells, dim in (("resid_pre", POS, 1), ("z", 5, 2)):
        got = table(submission.patch_sweep(model, clean, corrupted, right, wrong, kind))
        sized(got, [3, n_cells], f"The values for kind {kind!r}, 3 layers and {n_cells} {'positions' if dim == 1 else 'heads'},")
        for layer in range(3):
            for cell in range(n_cells):
                name = get_act_name(kind, layer)
                mixed = own[name].clone()
                mixed.select(dim, cell).copy_(cache[name].select(dim, cell))
                value = slow_diffs(run_patched(model, corrupted, mixed, name), right, wrong).mean()
                want = (value - at_corrupted) / (at_clean - at_corrupted)
                expect(got[layer, cell], want, f"cell [{layer}, {cell}] for kind {kind!r}", rtol=1e-3, atol=1e-3)


@exercise("patch_sweep", points=1)
def test_is_1_where_all_of_the_difference_passes_and_0_where_none_does(submission, rng):
    while True:
        model, clean, _, _ = twins(rng)
        corrupted = clean.clone()
        corrupted[:, -1] = (clean[:, -1] + torch.randint(1, 11, (BATCH,), generator=rng)) % 11  # the last token alone
        right, wrong = two_answers(rng)
        a, b = (slow_diffs(model(tokens), right, wrong).mean() for tokens in (clean, corrupted))
        if a - b < -1:  # the scale runs from corrupted to clean, also where clean is lower
            break
    got = table(submission.patch_sweep(model, clean, corrupted, right, wrong, "resid_pre"))
    want = torch.zeros(3, POS)
    want[:, -1] = 1
    expect(got, want, "the sweep over resid_pre where only the last token differs", rtol=1e-3, atol=1e-3)


# overlooked_head ----------------------------------------------------------------------------


def with_heads_moved(rng):
    """The shipped model with the heads of each layer in another order."""
    model = copy.deepcopy(shipped())
    with torch.no_grad():
        for block in model.blocks:
            order = shuffle(rng, model.cfg.n_heads)
            for name in ("W_Q", "W_K", "W_V", "W_O"):
                W = getattr(block.attn, name)
                W.copy_(W[order].clone())
    return model


def measured_heads(model, pairs):
    """Of every head: the share that its patch restores, and by how much its direct contribution changes, as a share
    of clean minus corrupted."""
    metric = LogitDiff(pairs.right, pairs.wrong)
    (end, here), (start, there) = ((metric(l), c) for l, c in map(model.run_with_cache, (pairs.clean, pairs.corrupted)))
    restored = sweep(model, pairs.clean, pairs.corrupted, metric, "z")
    direction = (model.W_U[:, pairs.right] - model.W_U[:, pairs.wrong]).T
    changes = torch.stack([(here["z", layer] - there["z", layer])[:, -1] for layer in range(model.cfg.n_layers)])
    written = torch.einsum("lbhe,lhed,bd->lh", changes, model.W_O, direction) / len(direction)
    shares = zip(((restored - start) / (end - start)).flatten().tolist(), (written / (end - start)).flatten().tolist())
    return {divmod(i, model.cfg.n_heads): share for i, share in enumerate(shares)}


@functools.lru_cache(maxsize=6)  # every answer meets the same ones
def overlooked_case(seed, change=None, share=None, only=None):
    """A model, prompts, and what is measured there: prompts with this `change`, or `with_a_writer` of this `share`."""
    rng = torch.Generator().manual_seed(seed)
    if change:
        model = with_heads_moved(rng)
        pairs = draw_pairs(model, 13, rng, change)
    else:
        model, pairs = with_a_writer(rng, share, only)
    return model, pairs, measured_heads(model, pairs)


def check_overlooked(submission, rng, **case):
    model, pairs, shares = overlooked_case(integer(rng, 0, 2**31), **case)
    got = submission.overlooked_head(model, *pairs)
    try:
        layer, head = (int(i) for i in got)
    except (TypeError, ValueError):
        fail(f"The answer should be two whole numbers (layer, head); it is {got!r:.80}.")
    cfg = model.cfg
    require(
        0 <= layer < cfg.n_layers and 0 <= head < cfg.n_heads,
        f"There is no head {layer}.{head}: the model has layers 0 to {cfg.n_layers - 1} with heads 0 to {cfg.n_heads - 1}.",
    )
    restored, written = shares[layer, head]
    require(
        abs(written) < 0.05,
        f"The direct contribution of head {layer}.{head} changes by {written:z.2f} of the whole: the lens sees it.",
    )
    best = max((at for at in shares if abs(shares[at][1]) < 0.05), key=lambda at: shares[at][0])
    require(
        restored > shares[best][0] - 1e-3,
        f"Head {layer}.{head} writes next to nothing to the output that differs, and restores {restored:z.2f}. Another such "
        f"head restores {shares[best][0]:z.2f}.",
    )


def with_a_writer(rng, share, only):
    """The shipped model, its heads in another order, and prompts that differ in the last token. The head of layer 0 that
    restores most also writes about this share of clean minus corrupted to the output itself, all of it in the clean run (if
    `only` is 0) or in the corrupted one (1)."""
    model = with_heads_moved(rng)
    pairs = draw_pairs(model, 13, rng, "new_query")
    name = get_act_name("z", 0)
    z = [model.run_with_cache(x, names_filter=name)[1][name][:, -1] for x in (pairs.clean, pairs.corrupted)]
    end, start = (mean_diff(model(tokens), pairs.right, pairs.wrong) for tokens in (pairs.clean, pairs.corrupted))
    change, direction = z[0] - z[1], (model.W_U[:, pairs.right] - model.W_U[:, pairs.wrong]).T
    own = model.run_with_cache(pairs.clean)[1]["pattern", 0].diagonal(dim1=-2, dim2=-1).mean((0, 2))
    head = int(own.argmax())  # it looks at its own token
    silent = z[1 - only][:, head].mean(0)
    z_way, stream_way = change[:, head].mean(0), direction.mean(0)
    z_way = z_way - (z_way @ silent) / (silent @ silent) * silent
    gain = ((change[:, head] @ z_way) * (direction @ stream_way)).mean()
    with torch.no_grad():
        model.blocks[0].attn.W_O[head] += share * (end - start) / gain * torch.outer(z_way, stream_way)
    return model, pairs


@exercise("overlooked_head", points=1)
def test_finds_it_where_halves_of_names_change_places(submission, rng):
    for change in ("swap_first", "swap_second"):
        check_overlooked(submission, rng, change=change)


@exercise("overlooked_head", points=1)
def test_counts_a_head_that_writes_a_little_and_not_one_that_writes_more(submission, rng):
    for share in (0.032, 0.075):
        check_overlooked(submission, rng, share=share, only=0)


@exercise("overlooked_head", points=1)
def test_counts_no_head_that_writes_against_the_answer(submission, rng):
    for share in (-0.075, -0.1):
        check_overlooked(submission, rng, share=share, only=1)


# ways_that_find -----------------------------------------------------------------------------

WAYS, CIRCUITS = ("denoise", "noise"), ("or", "and", "sum")


def measured_ways(circuit, head):
    """What changes when one head of a hand-built model is patched, in each direction."""
    model, name = gate_model(circuit).requires_grad_(False), get_act_name("z", 0)
    off, on = torch.tensor([[0]]), torch.tensor([[1]])
    changes = {}
    for way, run, source in (("denoise", off, on), ("noise", on, off)):
        before, after = model(run), run_patched(model, run, source, name, head)
        changes[way] = float((after - before)[0, -1, 1] - (after - before)[0, -1, 0])
    return changes


def check_ways(submission, rng, circuit):
    answer = listed(answer_to(circuit, submission.ways_that_find, CIRCUITS), WAYS, f"Your answer for {circuit!r}")
    head = integer(rng, 0, 1)
    for way, change in measured_ways(circuit, head).items():
        shows = abs(change) > 0.1
        require(
            (way in answer) == shows,
            f"Your answer for {circuit!r} {'holds' if way in answer else 'leaves out'} {way!r}. Measured: patching "
            f"head {'ab'[head]} in that way "
            + (f"changes the logit difference by {change:+.1f}." if shows else "does not change the logit difference."),
        )


@exercise("ways_that_find", points=1)
def test_is_right_where_one_head_is_enough(submission, rng):
    check_ways(submission, rng, "or")


@exercise("ways_that_find", points=1)
def test_is_right_where_both_heads_are_needed(submission, rng):
    check_ways(submission, rng, "and")


@exercise("ways_that_find", points=1)
def test_is_right_where_each_head_brings_half(submission, rng):
    check_ways(submission, rng, "sum")


# Part 2: connections ------------------------------------------------------------------------


def head_by_hand(model, layer, head, x_q, x_k, x_v):
    """What one head adds to the stream if its queries, keys and values read these streams."""
    Q, K, V, O = (getattr(model, f"W_{x}")[layer, head].double() for x in "QKVO")
    n_pos = x_q.shape[1]
    w = model.W_pos[:n_pos].double()
    scores = ((x_q + w) @ Q) @ ((x_k + w) @ K).transpose(1, 2) / model.cfg.d_head**0.5
    future = torch.ones(n_pos, n_pos).triu(1).bool()
    return scores.masked_fill(future, -torch.inf).softmax(-1) @ (x_v @ V) @ O


def run_by_hand(model, tokens, instead=None):
    """Logits, and what every part adds to the stream. `instead[writer, reader]` is what one reader
    gets in place of what the writer says; readers are "1.0.k", ..., "logits". Double precision."""
    instead, said = instead or {}, {"embed": model.W_E[tokens].double()}

    def read(reader, writers):
        return sum(instead.get((writer, reader), said[writer]) for writer in writers)

    for layer in range(model.cfg.n_layers):
        writers = list(said)
        for head in range(model.cfg.n_heads):
            streams = [read(f"{layer}.{head}.{kind}", writers) for kind in "qkv"]
            said[f"{layer}.{head}"] = head_by_hand(model, layer, head, *streams)
    return read("logits", list(said)) @ model.W_U.double(), said


def layers_by_hand(model, x, layer=0):
    """The streams entering `layer` and all later ones, and the one that leaves the last."""
    streams = [x]
    for i in range(layer, model.cfg.n_layers):
        x = x + sum(head_by_hand(model, i, head, x, x, x) for head in range(model.cfg.n_heads))
        streams.append(x)
    return streams


def mean_diff(logits, right, wrong):
    n = torch.arange(len(logits))
    return float((logits[n, -1, right] - logits[n, -1, wrong]).double().mean())


def wide_case(rng, n_layers=2, n_heads=3, n_pos=5, same_end=False):
    """A model and twins of random tokens whose mean logit differences are well apart. The last tokens
    differ too, or, with `same_end`, do not."""
    while True:
        model = random_model(rng, n_layers=n_layers, n_heads=n_heads)
        clean, corrupted = random_tokens(rng, pos=n_pos), random_tokens(rng, pos=n_pos)
        model.W_U.mul_(2 / model(clean).std())
        if same_end:
            corrupted[:, -1] = clean[:, -1]
        right, wrong = two_answers(rng)
        ends = [mean_diff(model(tokens), right, wrong) for tokens in (clean, corrupted)]
        if abs(ends[0] - ends[1]) > 1:
            return model, clean, corrupted, right, wrong


def all_edges(model):
    writers, edges = ["embed"], []
    for layer in range(model.cfg.n_layers):
        heads = [f"{layer}.{head}" for head in range(model.cfg.n_heads)]
        edges += [f"{w}->{head}.{kind}" for w in writers for head in heads for kind in "qkv"]
        writers += heads
    return edges + [f"{w}->logits" for w in writers]


# input_that_lights_up -----------------------------------------------------------------------


def restored_by_input(rng, change, n=8):
    """What the q, k or v of all heads of layer 1 restore."""
    clean, corrupted, right, wrong = draw_pairs(shipped(), n, rng, change)
    end, start = (mean_diff(shipped()(tokens), right, wrong) for tokens in (clean, corrupted))
    patched = {kind: run_patched(shipped(), corrupted, clean, get_act_name(kind, 1)) for kind in "qkv"}
    return {kind: (mean_diff(logits, right, wrong) - start) / (end - start) for kind, logits in patched.items()}


def check_input(submission, rng, change):
    got = answer_to(change, submission.input_that_lights_up, CHANGES)
    require(got in ("q", "k", "v"), f'For {change!r} the answer should be "q", "k" or "v"; it is {got!r}.')
    restored = restored_by_input(rng, change)
    require(
        got == max(restored, key=restored.get),
        f"For {change!r} your answer is {got!r}. On fresh names, the {got} of all heads of "
        f"layer 1 together restore {restored[got]:z.0%} of the clean answer.",
    )


@exercise("input_that_lights_up", points=1)
def test_is_right_about_what_a_place_is_found_by(submission, rng):
    check_input(submission, rng, "swap_first")


@exercise("input_that_lights_up", points=1)
def test_is_right_about_what_is_fetched(submission, rng):
    check_input(submission, rng, "swap_second")


@exercise("input_that_lights_up", points=1)
def test_is_right_about_what_is_asked_for(submission, rng):
    check_input(submission, rng, "new_query")


# patch_qkv ----------------------------------------------------------------------------------


@exercise("patch_qkv", points=1)
def test_each_cell_gives_one_input_of_one_head_the_clean_stream(submission, rng):
    model, clean, corrupted, right, wrong = wide_case(rng, n_layers=3)
    _, said = run_by_hand(model, clean)
    end, start = (mean_diff(model(tokens), right, wrong) for tokens in (clean, corrupted))
    for layer in range(3):
        got = table(submission.patch_qkv(model, clean, corrupted, right, wrong, layer))
        writers = [w for w in said if w == "embed" or int(w[0]) < layer]
        for row, kind in enumerate("qkv"):
            for head in range(3):
                instead = {(w, f"{layer}.{head}.{kind}"): said[w] for w in writers}
                logits, _ = run_by_hand(model, corrupted, instead)
                want = (mean_diff(logits, right, wrong) - start) / (end - start)
                expect(got[row, head], want, f"row {row} ({kind}) of head {layer}.{head}", atol=1e-3)


@exercise("patch_qkv", points=1)
def test_is_1_for_values_where_nothing_else_passes(submission, rng):
    """One head without keys attends evenly; only its values can tell clean from corrupted."""
    while True:
        model, clean, corrupted, right, wrong = wide_case(rng, n_layers=1, n_heads=1, same_end=True)
        model.blocks[0].attn.W_K.zero_()
        ends = [mean_diff(model(tokens), right, wrong) for tokens in (clean, corrupted)]
        if ends[0] - ends[1] < -0.3:  # the scale runs from corrupted to clean, also where clean is lower
            break
    got = submission.patch_qkv(model, clean, corrupted, right, wrong, 0)
    what = "the rows q, k, v of a single head that attends evenly, with the last token the same in both texts,"
    expect(got, [[0.0], [0.0], [1.0]], what, atol=1e-3)


@exercise("patch_qkv", points=1)
def test_in_the_shipped_model_the_keys_of_the_induction_heads_light_up(submission, rng):
    pairs = draw_pairs(shipped(), 3, rng)
    metric = LogitDiff(pairs.right, pairs.wrong)
    end, start = metric(shipped()(pairs.clean)), metric(shipped()(pairs.corrupted))
    want = (sweep(shipped(), pairs.clean, pairs.corrupted, metric, "k")[1] - start) / (end - start)
    got = table(submission.patch_qkv(shipped(), *pairs, 1))
    expect(got[1], want, "row 1 (k), the shares restored in layer 1 of the shipped model", atol=1e-3)


# attribution_patch --------------------------------------------------------------------------


def slope_by_hand(case, kind, layer, pos, head, step=1e-5):
    """The derivative of the mean logit difference if an activation of the corrupted run moves
    towards the clean one, at one position: by going a little way, forwards and backwards."""
    model, clean, corrupted, right, wrong = case
    there, here = run_by_hand(model, clean)[1], run_by_hand(model, corrupted)[1]

    def layer_of(end):
        return -1 if end == "embed" else 99 if end == "logits" else int(end.split(".")[0])

    def moved(size):
        instead = {}
        for edge in all_edges(model):
            writer, reader = edge.split("->")
            if kind == "resid_pre":
                hit = layer_of(writer) < layer <= layer_of(reader)
            elif kind == "z":
                hit = writer == f"{layer}.{head}"
            else:
                hit = reader == f"{layer}.{head}.{kind}"
            if hit:
                instead[writer, reader] = here[writer].clone()
                instead[writer, reader][:, pos] += size * (there[writer] - here[writer])[:, pos]
        return mean_diff(run_by_hand(model, corrupted, instead)[0], right, wrong)

    return (moved(step) - moved(-step)) / (2 * step)


def estimate_of(got, kind, layer, n_pos, n_heads=None):
    """One entry of the answer's dictionary, looked at before it is used."""
    require(isinstance(got, dict), f"The answer should be a dictionary; it is {got!r:.60}.")
    name = get_act_name(kind, layer)
    require(name in got, f"The dictionary should have the key {name!r}; it has {some(sorted(map(str, got)), 4) or 'none'}.")
    shape = [n_pos] if n_heads is None else [n_pos, n_heads]
    value = torch.as_tensor(got[name])
    require(
        list(value.shape) == shape,
        f"{name!r} should have shape {shape}, {'[pos]' if n_heads is None else '[pos n_heads]'}; "
        f"yours has {list(value.shape)}.",
    )
    return value


@exercise("attribution_patch", points=1)
def test_is_the_slope_towards_the_clean_activation_in_the_stream(submission, rng):
    case = wide_case(rng, n_layers=3)
    got = submission.attribution_patch(*case)
    for layer in range(3):
        values = estimate_of(got, "resid_pre", layer, 5)
        want = [slope_by_hand(case, "resid_pre", layer, pos, None) for pos in range(5)]
        expect(values, want, f"the estimates for resid_pre of layer {layer} (positions 0 to 4, nats)", rtol=1e-3, atol=1e-3)


@exercise("attribution_patch", points=2)
def test_is_the_slope_towards_the_clean_activation_in_heads(submission, rng):
    case = wide_case(rng)
    got = submission.attribution_patch(*case)
    for kind in "qkvz":
        for layer in (0, 1):
            values = estimate_of(got, kind, layer, 5, 3)
            # Of the last layer's queries and outputs only the last position counts.
            for pos in (4, integer(rng, 0, 3)):
                head = integer(rng, 0, 2)
                want = slope_by_hand(case, kind, layer, pos, head)
                what = f"the estimate (nats) for {kind} of head {layer}.{head} at position {pos}"
                expect(values[pos, head], want, what, rtol=1e-3, atol=1e-3)


@exercise("attribution_patch", points=1)
def test_is_exact_where_only_sums_follow(submission, rng):
    for last in (0, 1):
        model, clean, corrupted, right, wrong = wide_case(rng, n_layers=last + 1)
        got = submission.attribution_patch(model, clean, corrupted, right, wrong)
        start = mean_diff(model(corrupted), right, wrong)
        for kind in "zv":
            name = get_act_name(kind, last)
            values = estimate_of(got, kind, last, 5, 3)
            for head in range(3):
                want = mean_diff(run_patched(model, corrupted, clean, name, head), right, wrong) - start
                what = f"the estimates (nats) for {kind} of head {last}.{head}, added over positions: the exact effect of patching it"
                expect(values[:, head].sum(), want, what, rtol=1e-3, atol=1e-3)


# k_fix --------------------------------------------------------------------------------------


def with_one_key(model, clean, corrupted, layer, pos, head):
    """A hook that makes the key of one head at one place the clean one."""
    name = get_act_name("k", layer)
    source = model.run_with_cache(clean, names_filter=name)[1][name]

    def patch(x, hook):
        x = x.clone()
        x[:, pos, head] = source[:, pos, head]
        return x

    return name, patch


def check_exact(submission, rng, n_layers):
    model, clean, corrupted, right, wrong = wide_case(rng, n_layers=n_layers)
    got, last = submission.k_fix(model, clean, corrupted, right, wrong), n_layers - 1
    start = mean_diff(model(corrupted), right, wrong)
    values = estimate_of(got, "k", last, 5, 3)
    for pos in range(5):
        hooks = [with_one_key(model, clean, corrupted, last, pos, head) for head in range(3)]
        want = [mean_diff(model.run_with_hooks(corrupted, fwd_hooks=[hook]), right, wrong) - start for hook in hooks]
        what = f"the estimates (nats) for the keys of layer {last}, the last, at position {pos}: the exact effects of patching each"
        expect(values[pos], want, what, rtol=1e-3, atol=1e-4)


@exercise("k_fix", points=1)
def test_is_exact_for_a_single_layer(submission, rng):
    check_exact(submission, rng, 1)


@exercise("k_fix", points=1)
def test_is_exact_for_the_keys_of_the_last_layer(submission, rng):
    check_exact(submission, rng, 3)


@exercise("k_fix", points=1)
def test_in_earlier_layers_it_is_the_slope_behind_the_exact_pattern(submission, rng):
    model, clean, corrupted, right, wrong = wide_case(rng, n_layers=3)
    got = submission.k_fix(model, clean, corrupted, right, wrong)
    exact = copy.deepcopy(model).double()
    for layer in (0, 1):
        values = estimate_of(got, "k", layer, 5, 3)
        name = get_act_name("pattern", layer)
        before = exact.run_with_cache(corrupted, names_filter=name)[1][name]
        for pos in (0, integer(rng, 1, 4)):
            head = integer(rng, 0, 2)
            with exact.hooks([with_one_key(exact, clean, corrupted, layer, pos, head)]):
                after = exact.run_with_cache(corrupted, names_filter=name)[1][name]

            def moved(size):
                """The metric where this pattern has gone so far of the way to what the patch makes of it."""
                pattern = before + size * (after - before)
                logits = exact.run_with_hooks(corrupted, fwd_hooks=[(name, lambda x, hook: pattern)])
                return mean_diff(logits, right, wrong)

            want = (moved(1e-4) - moved(-1e-4)) / 2e-4
            what = f"the estimate (nats) for the key of head {layer}.{head} at position {pos}"
            expect(values[pos, head], want, what, rtol=1e-3, atol=1e-4)


# where_attribution_fails --------------------------------------------------------------------


def stream_effects(rng, n=12):
    """Exact and estimated effects of patching the stream, [2 pos] each, and clean minus corrupted."""
    model, pairs = shipped(), draw_pairs(shipped(), n, rng)
    metric, streams = LogitDiff(pairs.right, pairs.wrong), {}
    names = [get_act_name("resid_pre", layer) for layer in (0, 1)]

    def keep(x, hook):
        streams[hook.name] = x.requires_grad_()

    _, source = model.run_with_cache(pairs.clean, names_filter=names)
    start = metric(model.run_with_hooks(pairs.corrupted, fwd_hooks=[(name, keep) for name in names]))
    slopes = torch.autograd.grad(start, [streams[name] for name in names])
    estimates = [
        ((source[name] - streams[name].detach()) * slope).sum((0, -1))
        for name, slope in zip(names, slopes, strict=True)
    ]
    exact = sweep(model, pairs.clean, pairs.corrupted, metric, "resid_pre") - start.detach()
    return exact, torch.stack(estimates), float(metric(model(pairs.clean)) - start.detach())


def named_cells(submission):
    got = submission.where_attribution_fails()
    try:
        cells = {(int(layer), int(pos)) for layer, pos in got}
    except (TypeError, ValueError):
        fail(f"The answer should be a list of pairs (layer, position); it is {got!r}.")
    for layer, pos in sorted(cells):
        require(layer in (0, 1), f"{(layer, pos)}: the model has the layers 0 and 1.")
        require(0 <= pos < 24, f"{(layer, pos)}: the prompts have the positions 0 to 23.")
    return cells


def check_cells(submission, rng, layers):
    """Of these layers, those that are named fail, and none is missing."""
    cells = named_cells(submission)
    require(bool(cells), "The list is empty, but there are patches that are estimated at less than half of their effect.")
    cells = {cell for cell in cells if cell[0] in layers}
    exact, estimates, gap = stream_effects(rng)
    matters = exact.abs() >= 0.1 * abs(gap)
    missed = estimates < 0.5 * exact
    for cell in sorted(cells):
        x, y = exact[cell], estimates[cell]
        require(
            bool(matters[cell]),
            f"Patching the stream at {cell} has an effect of only {x:z.2f} nats on fresh prompts, "
            f"of {gap:.2f} between clean and corrupted.",
        )
        require(bool(missed[cell]), f"At {cell} the estimate is {y:z.2f} and the exact effect {x:z.2f} nats: more than half.")
    want = {tuple(cell) for cell in (matters & missed).nonzero().tolist() if cell[0] in layers}
    n_missing = len(want - cells)
    require(
        not n_missing,
        f"In layer{'s' * (len(layers) > 1)} {' and '.join(map(str, layers))} you miss {n_missing} of the patches that "
        "matter and are estimated at less than half of their effect.",
    )


@exercise("where_attribution_fails", points=1)
def test_finds_the_failure_in_layer_0(submission, rng):
    check_cells(submission, rng, (0,))


@exercise("where_attribution_fails", points=1)
def test_finds_the_failure_in_layer_1(submission, rng):
    check_cells(submission, rng, (1,))


@exercise("where_attribution_fails", points=1)
def test_finds_all_failures_and_nothing_else(submission, rng):
    check_cells(submission, rng, (0, 1))


# estimate_over_exact ------------------------------------------------------------------------


def measured_ratio(rng, before_score, step, n_keys=5):
    """A softmax over random scores. One score moves: its weight before and after, and the first-order
    estimate of the change over the change."""
    scores = torch.randn(n_keys, generator=rng, dtype=torch.float64)
    scores[2] = before_score
    scores.requires_grad_()
    before = scores.softmax(0)[2]
    slope = torch.autograd.grad(before, scores)[0][2]
    after = (scores.detach() + step * torch.eye(n_keys)[2]).softmax(0)[2]
    ratio = float(slope * step / (after - before.detach()))
    return float(before.detach()), float(after), ratio


def check_ratios(submission, rng, moves, what):
    for before_score, step in moves:
        before, after, want = measured_ratio(rng, before_score, step)
        got = submission.estimate_over_exact(before, after)
        expect(got, want, f"the ratio for a weight that goes from {before:.3g} to {after:.3g} ({what})", rtol=1e-3)


@exercise("estimate_over_exact", points=1)
def test_from_a_weight_near_zero_upwards_it_is_small(submission, rng):
    check_ratios(submission, rng, [(-6.0, 8.0), (-5.0, 10.0), (-7.0, 3.0)], "measured on a softmax")


@exercise("estimate_over_exact", points=1)
def test_from_the_steep_middle_it_is_too_large(submission, rng):
    check_ratios(submission, rng, [(1.5, 4.0), (1.0, -5.0), (2.0, -6.0)], "measured on a softmax")


@exercise("estimate_over_exact", points=1)
def test_is_near_1_for_small_changes_in_either_direction(submission, rng):
    check_ratios(submission, rng, [(0.0, 0.1), (0.5, -0.3), (-1.0, 0.5)], "a small change")


# causal_trace -------------------------------------------------------------------------------


def trace_case(rng, n_layers=2, n_pos=5, subject=(1, 3)):
    model = random_model(rng, n_layers=n_layers, n_heads=3)
    tokens, answer = random_tokens(rng, pos=n_pos), two_answers(rng)[0]
    model.W_U.div_(model(tokens).std())  # so that no probability is next to 0 or 1
    noise = normal(rng, BATCH, len(subject), model.cfg.d_model, scale=2.0)
    return model, tokens, list(subject), noise, answer


def probability_by_hand(model, stream, answer):
    probs = (stream[:, -1] @ model.W_U.double()).softmax(-1)
    return torch.stack([row[a] for row, a in zip(probs, answer.tolist(), strict=True)])


def noisy_embedding(model, tokens, subject, noise):
    x = model.W_E[tokens].double()
    for i, pos in enumerate(subject):
        x[:, pos] += noise[:, i]
    return x


@exercise("causal_trace", points=1)
def test_gives_the_answers_probability_clean_and_with_noise(submission, rng):
    model, tokens, subject, noise, answer = trace_case(rng)
    clean, corrupted, _ = submission.causal_trace(model, tokens, subject, noise, answer)
    x = model.W_E[tokens].double()
    expect(clean, probability_by_hand(model, layers_by_hand(model, x)[-1], answer), "the clean probabilities")
    x = noisy_embedding(model, tokens, subject, noise)
    want = probability_by_hand(model, layers_by_hand(model, x)[-1], answer)
    expect(corrupted, want, f"the probabilities with noise at positions {subject}")


@exercise("causal_trace", points=1)
def test_each_vector_of_noise_goes_to_its_own_position(submission, rng):
    subject = torch.randperm(4, generator=rng)[:3].tolist()
    model, tokens, subject, noise, answer = trace_case(rng, subject=sorted(subject, reverse=True))
    _, corrupted, restored = submission.causal_trace(model, tokens, subject, noise, answer)
    x = noisy_embedding(model, tokens, subject, noise)
    want = probability_by_hand(model, layers_by_hand(model, x)[-1], answer)
    expect(corrupted, want, f"the probabilities for subject_positions = {subject}")
    expect(restored[1, -1], _restored(model, tokens, x, 1, 4, answer), "restoring layer 1 at the last position", rtol=1e-3, atol=1e-6)


def _restored(model, tokens, noisy, layer, pos, answer):
    clean = layers_by_hand(model, model.W_E[tokens].double())
    x = layers_by_hand(model, noisy)[layer].clone()
    x[:, pos] = clean[layer][:, pos]
    return probability_by_hand(model, layers_by_hand(model, x, layer)[-1], answer).mean()


@exercise("causal_trace", points=1)
def test_restores_one_vector_of_the_stream_and_lets_the_rest_run_on(submission, rng):
    model, tokens, subject, noise, answer = trace_case(rng, n_layers=3)
    _, _, restored = submission.causal_trace(model, tokens, subject, noise, answer)
    x = noisy_embedding(model, tokens, subject, noise)
    want = [[_restored(model, tokens, x, layer, pos, answer) for pos in range(5)] for layer in range(3)]
    expect(restored, want, "the mean probabilities with one vector restored", rtol=1e-3, atol=1e-6)


@exercise("causal_trace", points=1)
def test_restoring_the_only_noisy_embedding_restores_everything(submission, rng):
    pos = integer(rng, 0, 4)
    model, tokens, subject, noise, answer = trace_case(rng, subject=(pos,))
    _, _, restored = submission.causal_trace(model, tokens, subject, noise, answer)
    clean = probability_by_hand(model, layers_by_hand(model, model.W_E[tokens].double())[-1], answer).mean()
    x = noisy_embedding(model, tokens, subject, noise)
    noisy = probability_by_hand(model, layers_by_hand(model, x)[-1], answer).mean()
    want = [clean if p == pos else noisy for p in range(5)]
    expect(restored[0], want, f"row 0 with noise at position {pos} alone: clean there, as corrupted elsewhere,", rtol=1e-3, atol=1e-6)


# path_patch ---------------------------------------------------------------------------------


def check_path(submission, rng, case, sender, receiver):
    model, clean, corrupted = case[:3]
    name, reader = f"{sender[0]}.{sender[1]}", ".".join(map(str, receiver))
    _, said = run_by_hand(model, clean)
    want, _ = run_by_hand(model, corrupted, {(name, reader): said[name]})
    got = submission.path_patch(model, clean, corrupted, sender, receiver)
    what = f"the logits of {layers_of(model)} with the edge {name}->{reader} clean"
    expect(got, want, what, rtol=1e-3, atol=2e-4)


@exercise("path_patch", points=1)
def test_the_receivers_input_reads_the_clean_sender(submission, rng):
    for kind in "qkv":
        case = wide_case(rng)
        sender, head = integer(rng, 0, 2), integer(rng, 0, 2)
        check_path(submission, rng, case, (0, sender), (1, head, kind))


@exercise("path_patch", points=1)
def test_heads_in_between_are_frozen(submission, rng):
    for kind, layer in zip("qkv", (0, 1, 0), strict=True):
        case = wide_case(rng, n_layers=3)
        sender, head = integer(rng, 0, 2), integer(rng, 0, 2)
        check_path(submission, rng, case, (layer, sender), (2, head, kind))


@exercise("path_patch", points=1)
def test_behind_the_receiver_everything_is_free(submission, rng):
    for kind in "vk":
        case = wide_case(rng, n_layers=3)
        sender, head = integer(rng, 0, 2), integer(rng, 0, 2)
        check_path(submission, rng, case, (0, sender), (1, head, kind))


@exercise("path_patch", points=1)
def test_in_the_shipped_model_0_4_speaks_to_the_keys_of_1_6(submission, rng):
    case = draw_pairs(shipped(), 2, rng)
    check_path(submission, rng, (shipped(), *case), (0, 4), (1, 6, "k"))


# edge_attribution ---------------------------------------------------------------------------


def edge_slope(case, edges, step=1e-5):
    """Derivatives of the mean logit difference if single edges move towards clean, in the corrupted run."""
    model, clean, corrupted, right, wrong = case
    there, here = run_by_hand(model, clean)[1], run_by_hand(model, corrupted)[1]
    slopes = []
    for edge in edges:
        writer, reader = edge.split("->")
        change = there[writer] - here[writer]
        ends = [
            mean_diff(run_by_hand(model, corrupted, {(writer, reader): here[writer] + size * change})[0], right, wrong)
            for size in (step, -step)
        ]
        slopes.append((ends[0] - ends[1]) / (2 * step))
    return slopes


def named_edges(submission, case, wanted=None):
    """The answer's dictionary, if it holds all edges and no others, or those that are wanted, whatever else."""
    got, edges = submission.edge_attribution(*case), set(all_edges(case[0]))
    require(isinstance(got, dict), f"The answer should be a dictionary; it is {got!r:.60}.")
    missing, strange = sorted(edges.intersection(wanted or edges) - set(got)), sorted(set(map(str, got)) - edges)
    shape = f"{layers_of(case[0])} of {case[0].cfg.n_heads} heads"
    are = f"{'are' if len(missing) > 1 else 'is'} missing: {some(missing)}"
    require(not missing, f"With {shape} there are {len(edges)} edges; {len(missing)} of them {are}.")
    require(wanted or not strange, f"With {shape}, your answer holds what {'are no edges' if len(strange) > 1 else 'is no edge'}: {some(strange)}.")
    return got


def check_edges(got, case, edges):
    for edge, want in zip(edges, edge_slope(case, edges), strict=True):
        expect(got[edge], want, f"the estimate of {edge} (nats)", rtol=1e-3, atol=1e-3)


@exercise("edge_attribution", points=1)
def test_estimates_every_edge_of_two_layers(submission, rng):
    case = wide_case(rng, n_heads=2, n_pos=4)
    check_edges(named_edges(submission, case), case, all_edges(case[0]))


@exercise("edge_attribution", points=1)
def test_estimates_edges_that_skip_a_layer(submission, rng):
    case = wide_case(rng, n_layers=3, n_heads=2, n_pos=4)
    edges = [e for e in all_edges(case[0]) if e[:2] in ("0.", "em") and "->2." in e]
    others = [e for e in all_edges(case[0]) if e not in edges and not e.endswith("->logits")]
    edges += [others[i] for i in torch.randperm(len(others), generator=rng)[:12]]
    check_edges(named_edges(submission, case, edges), case, edges)


@exercise("edge_attribution", points=1)
def test_edges_to_the_logits_sum_to_clean_minus_corrupted(submission, rng):
    case = wide_case(rng)
    model, clean, corrupted, right, wrong = case
    edges = [edge for edge in all_edges(model) if edge.endswith("->logits")]
    got = named_edges(submission, case, edges)
    want = mean_diff(model(clean), right, wrong) - mean_diff(model(corrupted), right, wrong)
    total = sum(float(got[edge]) for edge in edges)
    expect(total, want, "the sum of all edges to the logits (nats)", rtol=1e-3, atol=1e-3)
    check_edges(got, case, edges[:3])


@exercise("edge_attribution", points=1)
def test_in_the_shipped_model_0_4_to_the_keys_of_1_3_and_1_6_are_strongest(submission, rng):
    pairs = draw_pairs(shipped(), 12, rng)
    logits_edge = "1.6->logits"
    heads = [e for e in all_edges(shipped()) if e[0] == "0" and "->1" in e]
    got = named_edges(submission, (shipped(), *pairs), [*heads, logits_edge])
    between = sorted(heads, key=lambda e: -abs(float(got[e])))
    require(
        set(between[:2]) == {"0.4->1.3.k", "0.4->1.6.k"},
        f"In the shipped model the strongest edges between heads are 0.4->1.3.k and 0.4->1.6.k; yours are {between[:2]}.",
    )
    want = edge_by_path(pairs, 1, 6)
    expect(got[logits_edge], want, f"the estimate of {logits_edge} in the shipped model (nats)", rtol=1e-3, atol=1e-3)


def edge_by_path(pairs, layer, head):
    """What a head of the last layer writes for right and against wrong, clean minus corrupted, on average."""
    name, total = get_act_name("z", layer), 0.0
    for sign, tokens in ((1, pairs.clean), (-1, pairs.corrupted)):
        z = shipped().run_with_cache(tokens, names_filter=name)[1][name][:, -1, head]
        logits = z @ shipped().W_O[layer, head] @ shipped().W_U
        total += sign * mean_diff(logits[:, None], pairs.right, pairs.wrong)
    return total


# unexplained_effect -------------------------------------------------------------------------


def unexplained_by_hand(case, circuit):
    model, clean, corrupted, right, wrong = case
    logits, said = run_by_hand(model, corrupted)
    start = mean_diff(logits, right, wrong)
    outside = [tuple(edge.split("->")) for edge in all_edges(model) if edge not in circuit]
    instead = {(writer, reader): said[writer] for writer, reader in outside}
    got = mean_diff(run_by_hand(model, clean, instead)[0], right, wrong)
    end = mean_diff(run_by_hand(model, clean)[0], right, wrong)
    return (end - got) / (end - start)


def some_of(rng, edges, share):
    return [edge for edge, x in zip(edges, torch.rand(len(edges), generator=rng), strict=True) if x < share]


@exercise("unexplained_effect", points=1)
def test_everything_explains_all_and_nothing_explains_nothing(submission, rng):
    while True:  # a last head that pulls the other way: without it, more than everything is explained
        model, *pair = wide_case(rng)
        want = unexplained_by_hand((model, *pair), all_edges(model)[:-1])
        if want < -0.05:
            break
    got = submission.unexplained_effect(model, all_edges(model), *pair)
    expect(got, 0.0, "the unexplained effect of a circuit of all edges", atol=1e-3)
    expect(submission.unexplained_effect(model, [], *pair), 1.0, "the unexplained effect of no edges", atol=1e-3)
    got = submission.unexplained_effect(model, all_edges(model)[:-1], *pair)
    expect(got, want, "the unexplained effect of all edges but the last head's to the logits", rtol=1e-3, atol=1e-3)


@exercise("unexplained_effect", points=1)
def test_only_edges_of_the_circuit_carry_what_their_sender_says_now(submission, rng):
    for n_layers, n_heads in ((2, 3), (1, 3), (1, 12)):  # of twelve heads, 0.1 is not the start of 0.10
        model, *pair = case = wide_case(rng, n_layers, n_heads)
        circuit = some_of(rng, all_edges(model), 0.6)
        want = unexplained_by_hand(case, circuit)
        what = (
            f"the unexplained effect of {len(circuit)} random edges of {len(all_edges(model))} "
            f"({layers_of(model)} of {n_heads} heads)"
        )
        expect(submission.unexplained_effect(model, circuit, *pair), want, what, rtol=1e-3, atol=1e-3)


@exercise("unexplained_effect", points=1)
def test_messages_pass_along_chains_of_three_layers(submission, rng):
    model, *pair = case = wide_case(rng, n_layers=3, n_heads=2)
    for share in (0.9, 0.5):
        circuit = some_of(rng, all_edges(model), share)
        want = unexplained_by_hand(case, circuit)
        circuit = [circuit[i] for i in shuffle(rng, len(circuit))]  # a circuit has no order
        what = f"the unexplained effect of {len(circuit)} random edges of {len(all_edges(model))} (3 layers)"
        expect(submission.unexplained_effect(model, circuit, *pair), want, what, rtol=1e-3, atol=1e-3)


@exercise("unexplained_effect", points=1)
def test_a_sender_that_hears_nothing_clean_says_nothing_clean(submission, rng):
    model, *pair = case = wide_case(rng)
    head = integer(rng, 0, 2)
    chain = [f"embed->0.{head}.v", f"0.{head}->logits"]
    deaf = [edge for edge in all_edges(model) if edge[:2] == "1." or edge.startswith(f"0.{(head + 1) % 3}->")]
    want = unexplained_by_hand(case, chain)
    expect(submission.unexplained_effect(model, chain, *pair), want, f"the unexplained effect of {chain}", rtol=1e-3, atol=1e-3)
    got = submission.unexplained_effect(model, [*chain, *deaf], *pair)
    what = f"the unexplained effect of {chain} and edges from heads that read nothing clean: the same,"
    expect(got, want, what, rtol=1e-3, atol=1e-3)


# smallest_circuit ---------------------------------------------------------------------------


@functools.lru_cache(maxsize=3)  # every circuit meets the same ones
@torch.no_grad()
def fresh_prompts(seed, n=240):
    """`n` prompts with a new last token; the shipped model's logits and activations of the corrupted ones; and what the
    logit difference is in the corrupted run, and in the clean one."""
    model, pairs = shipped(), draw_pairs(shipped(), n, torch.Generator().manual_seed(seed), "new_query")
    names = [get_act_name(kind, layer) for layer in (0, 1) for kind in "qkvz"]
    logits, cache = model.run_with_cache(pairs.corrupted, names_filter=names)
    start, end = (mean_diff(x[:, -1:], pairs.right, pairs.wrong) for x in (logits, model(pairs.clean)))
    return pairs, logits[:, -1:], cache, start, end


@torch.no_grad()
def left_unexplained(circuit, seed):
    """The unexplained share of a circuit of the shipped model on fresh prompts. Only heads that the circuit reaches are
    run again."""
    model, ((clean, corrupted, right, wrong), logits, cache, start, end) = shipped(), fresh_prompts(seed)
    edges = [tuple(edge.split("->")) for edge in circuit]
    news = {"embed": model.W_E[clean] - model.W_E[corrupted]}
    future = torch.ones(clean.shape[1], clean.shape[1]).triu(1).bool()
    for layer in (0, 1):
        written = {}
        for head in range(model.cfg.n_heads):
            inputs = {kind: cache[kind, layer][:, :, head].clone() for kind in "qkv"}
            heard = False
            for writer, reader in edges:
                if reader[:-2] == f"{layer}.{head}" and writer in news:
                    W = getattr(model, f"W_{reader[-1].upper()}")[layer, head]
                    inputs[reader[-1]] += news[writer] @ W
                    heard = True
            if heard:
                scores = inputs["q"] @ inputs["k"].transpose(1, 2) / model.cfg.d_head**0.5
                z = scores.masked_fill(future, -torch.inf).softmax(-1) @ inputs["v"]
                written[f"{layer}.{head}"] = (z - cache["z", layer][:, :, head]) @ model.W_O[layer, head]
        news |= written
    last = logits + sum(news[w][:, -1:] @ model.W_U for w, r in edges if r == "logits" and w in news)
    return (end - mean_diff(last, right, wrong)) / (end - start)


def idle_edges(circuit):
    """Those that are no part of a chain from `embed` to `logits`."""
    edges = [(writer, reader.rsplit(".", 1)[0]) for writer, reader in (edge.split("->") for edge in sorted(circuit))]
    hears, is_heard = {"embed"}, {"logits"}
    for _ in range(shipped().cfg.n_layers):
        hears |= {reader for writer, reader in edges if writer in hears}
        is_heard |= {writer for writer, reader in edges if reader in is_heard}
    pairs = zip(sorted(circuit), edges, strict=True)
    return [edge for edge, (writer, reader) in pairs if writer not in hears or reader not in is_heard]


def check_circuit(submission, rng, most):
    got = submission.smallest_circuit()
    if not isinstance(got, list | tuple | set) or not all(isinstance(edge, str) for edge in got):
        fail(f"The answer should be a list of names of edges; it is {got!r:.80}.")
    circuit, edges = set(got), set(all_edges(shipped()))
    strange = sorted(circuit - edges)
    no_edge = "are no edges" if len(strange) > 1 else "is no edge"
    require(not strange, f"Your list holds what {no_edge} of the two-layer model: {some(strange)}. ('0.4->1.6.k' is one.)")
    require(bool(circuit), "A circuit without edges explains nothing.")
    idle = idle_edges(circuit)
    note = f" No chain from embed to logits goes through {some(idle, 4)}: nothing is carried there." if idle else ""
    require(
        len(circuit) <= most,
        f"Your circuit has {len(circuit)} of {len(edges)} edges; this point is for at most {most}.{note}",
    )
    left = left_unexplained(circuit, integer(rng, 0, 2**31))
    require(
        abs(left) <= 0.08,
        f"On 240 fresh prompts with a new last token your {len(circuit)} edges explain {1 - left:z.1%} of the difference "
        f"between clean and corrupted; 95% to 105% are asked for, 92% to 108% are let pass.{note}",
    )


@exercise("smallest_circuit", points=1)
def test_explains_95_percent_with_at_most_64_edges(submission, rng):
    check_circuit(submission, rng, 64)


@exercise("smallest_circuit", points=1)
def test_explains_95_percent_with_at_most_16_edges(submission, rng):
    check_circuit(submission, rng, 16)


@exercise("smallest_circuit", points=1)
def test_explains_95_percent_with_at_most_11_edges(submission, rng):
    check_circuit(submission, rng, 11)
