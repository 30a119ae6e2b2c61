"""Checks of chapter 4. Each says in its name what must be true of an answer."""

import copy
import functools

import torch

from utils.checking import exercise, expect, fail, require
from utils.corpus import load_tokenizer
from utils.gates import gate_model
from utils.model import Config, Transformer, get_act_name
from utils.patching import LogitDiff
from utils.pretrained import load_model
from utils.prompts import TEMPLATE, draw_names, draw_pairs


def random_model(rng, n_layers=2, n_heads=3, d_vocab=11, d_model=8, d_head=4):
    """A small model whose heads matter as much as its embedding and attend unevenly."""
    model = Transformer(
        Config(d_vocab=d_vocab, d_model=d_model, n_layers=n_layers, n_heads=n_heads, d_head=d_head, n_ctx=16)
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.5 * torch.randn(weight.shape, generator=rng))
    return model.requires_grad_(False)


def random_tokens(rng, batch, n_pos, d_vocab=11):
    return torch.randint(d_vocab, (batch, n_pos), generator=rng)


def random_number(rng, low, high):
    """A whole number from low to high - 1."""
    return int(torch.randint(low, high, (1,), generator=rng))


def draw_seed(rng):
    return random_number(rng, 0, 2**62)


def two_answers(rng, batch, d_vocab=11):
    """A right and another, wrong token for each prompt."""
    right = torch.randint(d_vocab, (batch,), generator=rng)
    wrong = (right + torch.randint(1, d_vocab, (batch,), generator=rng)) % d_vocab
    return right, wrong


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


def listed(got, options, what):
    """A list of option names as a set."""
    if not isinstance(got, list | tuple | set) or not all(isinstance(g, str) for g in got):
        fail(f"{what} should be a list of strings; it is {got!r}.")
    strange = sorted(set(got) - set(options))
    require(not strange, f"{what} holds {strange}; choose among {list(options)}.")
    return set(got)


# logit_diff ---------------------------------------------------------------------------------


@exercise("logit_diff", points=1)
def test_two_prompts_by_hand(submission, rng):
    logits = torch.tensor([[[9.0, 9, 9], [1, 2, 4]], [[9, 9, 9], [5, 3, 0]]])
    got = submission.logit_diff(logits, torch.tensor([2, 0]), torch.tensor([0, 1]))
    expect(got, [3.0, 2.0], "the difference for last logits [1, 2, 4] and [5, 3, 0], right 2 and 0, wrong 0 and 1,")


@exercise("logit_diff", points=1)
def test_reads_the_last_position_alone(submission, rng):
    logits = torch.randn(4, 5, 7, generator=rng)
    right, wrong = two_answers(rng, 4, 7)
    want = slow_diffs(logits, right, wrong)
    logits[:, :-1] += 10 * torch.randn(4, 4, 7, generator=rng)
    what = "the difference after all positions but the last were changed"
    expect(submission.logit_diff(logits, right, wrong), want, what)


@exercise("logit_diff", points=1)
def test_is_the_log_of_how_many_times_likelier_the_right_token_is(submission, rng):
    logits = 2 * torch.randn(5, 3, 6, generator=rng)
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
    model = Transformer(Config(d_vocab=2048, d_model=2), load_tokenizer())
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=rng))
    return model


def made_pairs(submission, rng, template, n=4):
    model = course_reader(rng)
    names = [tuple(name) for name in draw_names(model, n, rng)]
    return model, names, submission.clean_and_corrupted(model, template, names)


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
    model, names, (clean, _, _, _) = made_pairs(submission, rng, TEMPLATE)
    texts = [written(TEMPLATE, a + b, c + d, a) for a, b, c, d in names]
    check_texts(model, clean, texts, "clean")


@exercise("clean_and_corrupted", points=1)
def test_in_the_corrupted_prompts_the_first_halves_have_changed_places(submission, rng):
    model, names, (_, corrupted, _, _) = made_pairs(submission, rng, OTHER_TEMPLATE)
    texts = [written(OTHER_TEMPLATE, c + b, a + d, a) for a, b, c, d in names]
    check_texts(model, corrupted, texts, "corrupted")


@exercise("clean_and_corrupted", points=1)
def test_each_prompt_has_its_right_and_its_wrong_answer(submission, rng):
    model, names, (_, _, right, wrong) = made_pairs(submission, rng, TEMPLATE, n=5)
    for tokens, half, which in ((right, 1, "right"), (wrong, 3, "wrong")):
        require(len(tokens) == 5, f"There should be one {which} token for each of 5 pairs; there are {len(tokens)}.")
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
    seed = draw_seed(rng)
    for change in changes:
        for head, answer in predicted.items():
            share = measured_share(seed, change, head)
            require(
                (change in answer) == (share > 0.1),
                f"Your answer for {head!r} {'holds' if change in answer else 'leaves out'} {change!r}. Measured on "
                f"16 fresh prompts, putting that head back restores {share:.2f} of the clean answer.",
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
    model, tokens = random_model(rng), random_tokens(rng, 4, 6)
    for layer in (0, 1):
        for head in range(3):
            got = submission.zero_ablate(model, tokens, get_act_name("z", layer), head)
            want = without(model, layer, "W_O", head)(tokens)
            expect(got, want, f"the logits with z of head {layer}.{head} zero", rtol=1e-3, atol=1e-4)


@exercise("zero_ablate", points=1)
def test_works_for_queries_keys_and_values(submission, rng):
    model, tokens = random_model(rng), random_tokens(rng, 2, 5)
    for kind in "qkv":
        layer, head = random_number(rng, 0, 2), random_number(rng, 1, 3)
        got = submission.zero_ablate(model, tokens, get_act_name(kind, layer), head)
        want = without(model, layer, f"W_{kind.upper()}", head)(tokens)
        expect(got, want, f"the logits with {kind} of head {layer}.{head} zero", rtol=1e-3, atol=1e-4)


@exercise("zero_ablate", points=1)
def test_without_a_head_all_of_the_activation_is_zero(submission, rng):
    model, tokens = random_model(rng), random_tokens(rng, 2, 5)
    got = submission.zero_ablate(model, tokens, get_act_name("z", 0))
    want = without(model, 0, "W_O")(tokens)
    expect(got, want, "the logits with z of layer 0 zero, head=None,", rtol=1e-3, atol=1e-4)
    got = submission.zero_ablate(model, tokens, get_act_name("resid_pre", 0))
    expect(got, torch.zeros_like(want), "the logits with the first resid_pre zero", atol=1e-4)


# mean_ablate --------------------------------------------------------------------------------


@exercise("mean_ablate", points=1)
def test_the_mean_over_one_prompt_is_that_prompt(submission, rng):
    model, tokens = random_model(rng), random_tokens(rng, 4, 6)
    reference = random_tokens(rng, 1, 6)
    for layer, head in ((0, 0), (0, 2), (1, 1)):
        name = get_act_name("z", layer)
        got = submission.mean_ablate(model, tokens, name, reference, head)
        want = run_patched(model, tokens, reference.expand(4, -1), name, head)
        what = f"the logits with z of head {layer}.{head} replaced by the mean over a single reference prompt"
        expect(got, want, what, rtol=1e-3, atol=1e-4)


@exercise("mean_ablate", points=1)
def test_changes_the_logits_by_what_the_mean_head_adds(submission, rng):
    model = random_model(rng)
    tokens, reference = random_tokens(rng, 4, 6), random_tokens(rng, 5, 6)
    name = get_act_name("z", 1)  # of the last layer: what it adds goes straight to the logits
    logits, cache = model.run_with_cache(tokens)
    _, ref_cache = model.run_with_cache(reference)
    for head in (0, random_number(rng, 1, 3)):
        mean = sum(ref_cache[name][i, :, head] for i in range(5)) / 5
        added = (mean - cache[name][:, :, head]) @ model.W_O[1, head] @ model.W_U
        got = submission.mean_ablate(model, tokens, name, reference, head)
        what = f"the logits with z of head 1.{head} at its mean over 5 prompts"
        expect(got, logits + added, what, rtol=1e-3, atol=1e-4)


@exercise("mean_ablate", points=1)
def test_each_position_has_its_own_mean(submission, rng):
    model = random_model(rng)
    tokens, reference = random_tokens(rng, 2, 6), random_tokens(rng, 4, 6)
    name = get_act_name("resid_pre", 0)  # the mean embedding of the reference, position by position
    mean = torch.stack([model.W_E[reference[:, p]].mean(0) for p in range(6)])
    want = run_patched(model, tokens, mean, name)
    got = submission.mean_ablate(model, tokens, name, reference)
    what = "the logits with the first resid_pre at its mean over 4 prompts, head=None,"
    expect(got, want, what, rtol=1e-3, atol=1e-4)


@exercise("mean_ablate", points=1)
def test_leaves_alone_what_every_prompt_shares(submission, rng):
    model, tokens = random_model(rng), random_tokens(rng, 1, 6)
    copies, name = tokens.expand(4, -1), get_act_name("k", 1)
    got = submission.mean_ablate(model, tokens, name, copies, random_number(rng, 0, 3))
    expect(got, model(tokens), "the logits where the reference prompts are the prompt itself", rtol=1e-3, atol=1e-4)
    other = random_tokens(rng, 3, 6)
    got = submission.mean_ablate(model, tokens, name, other, 1)
    mean = model.run_with_cache(other)[1][name].mean(0)
    want = run_patched(model, tokens, mean, name, 1)
    expect(got, want, "the logits with k of head 1.1 at its mean over 3 prompts", rtol=1e-3, atol=1e-4)


# resample_ablate ----------------------------------------------------------------------------


@exercise("resample_ablate", points=1)
def test_all_of_the_stream_from_another_prompt_is_the_other_prompt(submission, rng):
    model = random_model(rng)
    tokens, other = random_tokens(rng, 4, 6), random_tokens(rng, 4, 6)
    for layer in (0, 1):
        got = submission.resample_ablate(model, tokens, get_act_name("resid_pre", layer), other)
        what = f"the logits with resid_pre of layer {layer} from the other prompts, head=None,"
        expect(got, model(other), what, rtol=1e-3, atol=1e-4)


@exercise("resample_ablate", points=1)
def test_changes_the_logits_by_what_the_other_head_adds(submission, rng):
    model = random_model(rng)
    tokens, other = random_tokens(rng, 4, 6), random_tokens(rng, 4, 6)
    name = get_act_name("z", 1)
    logits, cache = model.run_with_cache(tokens)
    _, other_cache = model.run_with_cache(other)
    for head in (0, random_number(rng, 1, 3)):
        news = other_cache[name][:, :, head] - cache[name][:, :, head]
        want = logits + news @ model.W_O[1, head] @ model.W_U
        got = submission.resample_ablate(model, tokens, name, other, head)
        expect(got, want, f"the logits with z of head 1.{head} from the other prompts", rtol=1e-3, atol=1e-4)


@exercise("resample_ablate", points=1)
def test_later_layers_read_what_was_resampled(submission, rng):
    model = random_model(rng)
    tokens, other = random_tokens(rng, 4, 6), random_tokens(rng, 4, 6)
    for kind in "zqkv":
        name, head = get_act_name(kind, 0), random_number(rng, 0, 3)
        got = submission.resample_ablate(model, tokens, name, other, head)
        want = run_patched(model, tokens, other, name, head)
        expect(got, want, f"the logits with {kind} of head 0.{head} from the other prompts", rtol=1e-3, atol=1e-4)


# alarms -------------------------------------------------------------------------------------

ABLATIONS = ("zero", "mean", "other", "twin")
KINDS = {"constant": 5, "shared": 6, "carrier": 4}  # heads of layer 0 in the shipped model


@functools.lru_cache(maxsize=64)
def measured_costs(seed, kinds, n=24):
    """By kind of head and ablation, the mean change of the logit difference in the shipped model."""
    model, name, rng = shipped(), get_act_name("z", 0), torch.Generator().manual_seed(seed)
    pairs = draw_pairs(model, n, rng)
    metric = LogitDiff(pairs.right, pairs.wrong)
    logits, _ = model.run_with_cache(pairs.clean, names_filter=name)
    _, other = model.run_with_cache(draw_pairs(model, n, rng).clean, names_filter=name)
    _, twin = model.run_with_cache(pairs.corrupted, names_filter=name)
    sources = {"zero": None, "mean": other[name].mean(0), "other": other[name], "twin": twin[name]}
    return {
        (kind, ablation): float(metric(run_patched(model, pairs.clean, source, name, KINDS[kind])) - metric(logits))
        for kind in kinds
        for ablation, source in sources.items()
    }


def check_alarms(submission, rng, kinds):
    predicted = {kind: listed(submission.alarms(kind), ABLATIONS, f"Your answer for {kind!r}") for kind in kinds}
    for (kind, ablation), cost in measured_costs(draw_seed(rng), kinds).items():
        alarm = ablation in predicted[kind]
        require(
            alarm == (cost < -0.3),
            f"For a head that is {kind!r} you expect {'an' if alarm else 'no'} alarm from {ablation!r}. Measured "
            f"on 24 fresh prompts, it changes the logit difference of head 0.{KINDS[kind]} by {cost:+.2f} nats.",
        )


@exercise("alarms", points=1)
def test_is_right_about_a_head_that_is_constant_and_one_that_is_not(submission, rng):
    check_alarms(submission, rng, ("constant", "carrier"))


@exercise("alarms", points=1)
def test_is_right_about_a_head_that_both_twins_share(submission, rng):
    check_alarms(submission, rng, ("shared", "constant"))


@exercise("alarms", points=1)
def test_tells_shared_from_carried(submission, rng):
    check_alarms(submission, rng, ("carrier", "shared"))


# direct_logit_attribution -------------------------------------------------------------------


def attribution_case(rng, n_layers=2, batch=4):
    model, tokens = random_model(rng, n_layers), random_tokens(rng, batch, 6)
    logits, cache = model.run_with_cache(tokens)
    return model, tokens, logits, cache, *two_answers(rng, batch)


@exercise("direct_logit_attribution", points=1)
def test_shares_sum_to_the_logit_difference(submission, rng):
    for n_layers in (1, 3):
        model, _, logits, cache, right, wrong = attribution_case(rng, n_layers)
        embedding, heads = submission.direct_logit_attribution(cache, model, right, wrong)
        want = slow_diffs(logits, right, wrong)
        what = f"the sum of the embedding's share and all heads' shares ({n_layers} layer(s))"
        expect(embedding + heads.sum((1, 2)), want, what, rtol=1e-3, atol=1e-4)


@exercise("direct_logit_attribution", points=1)
def test_the_embeddings_share_is_the_direct_path(submission, rng):
    model, tokens, _, cache, right, wrong = attribution_case(rng)
    table = model.W_E @ model.W_U
    want = torch.stack([table[t, r] - table[t, w] for t, r, w in zip(tokens[:, -1], right, wrong, strict=True)])
    embedding, _ = submission.direct_logit_attribution(cache, model, right, wrong)
    expect(embedding, want, "the embedding's share", rtol=1e-3, atol=1e-4)


@exercise("direct_logit_attribution", points=1)
def test_a_head_of_the_last_layer_contributes_what_is_lost_without_it(submission, rng):
    model, tokens, logits, cache, right, wrong = attribution_case(rng)
    _, heads = submission.direct_logit_attribution(cache, model, right, wrong)
    for head in range(3):
        rest = slow_diffs(without(model, 1, "W_O", head)(tokens), right, wrong)
        want = slow_diffs(logits, right, wrong) - rest
        expect(heads[:, 1, head], want, f"the share of head 1.{head}", rtol=1e-3, atol=1e-4)


@exercise("direct_logit_attribution", points=1)
def test_a_head_of_an_early_layer_counts_only_what_it_writes_to_the_output(submission, rng):
    model, _, _, cache, right, wrong = attribution_case(rng)
    _, heads = submission.direct_logit_attribution(cache, model, right, wrong)
    for prompt in range(4):
        for head in range(3):
            written = cache["z", 0][prompt, -1, head] @ model.W_O[0, head]
            want = written @ model.W_U[:, right[prompt]] - written @ model.W_U[:, wrong[prompt]]
            expect(heads[prompt, 0, head], want, f"the share of head 0.{head} in prompt {prompt}", rtol=1e-3, atol=1e-4)


# logit_lens ---------------------------------------------------------------------------------


@exercise("logit_lens", points=1)
def test_ends_with_the_models_own_logits(submission, rng):
    for n_layers in (1, 3):
        model, tokens = random_model(rng, n_layers), random_tokens(rng, 2, 5)
        logits, cache = model.run_with_cache(tokens)
        got = submission.logit_lens(cache, model)
        expect(got[-1], logits, f"the last of {n_layers + 1} lenses", rtol=1e-3, atol=1e-4)


@exercise("logit_lens", points=1)
def test_starts_with_the_bigram_table(submission, rng):
    model, tokens = random_model(rng), random_tokens(rng, 2, 5)
    _, cache = model.run_with_cache(tokens)
    want = (model.W_E @ model.W_U)[tokens]
    expect(submission.logit_lens(cache, model)[0], want, "the lens on the embedding", rtol=1e-3, atol=1e-4)


@exercise("logit_lens", points=1)
def test_each_layer_adds_what_it_writes(submission, rng):
    model, tokens = random_model(rng, 3), random_tokens(rng, 2, 5)
    _, cache = model.run_with_cache(tokens)
    got = submission.logit_lens(cache, model)
    for layer in range(3):
        want = cache["attn_out", layer] @ model.W_U
        what = f"the lens after layer {layer} minus that before it"
        expect(got[layer + 1] - got[layer], want, what, rtol=1e-3, atol=1e-3)


# activation_patch ---------------------------------------------------------------------------


def twins(rng, n_layers=2, batch=4, n_pos=6):
    """A model, clean and corrupted prompts, and the cache of the clean run."""
    model = random_model(rng, n_layers)
    clean, corrupted = random_tokens(rng, batch, n_pos), random_tokens(rng, batch, n_pos)
    return model, clean, corrupted, model.run_with_cache(clean)[1]


@exercise("activation_patch", points=1)
def test_clean_into_clean_changes_nothing_and_everything_is_the_clean_run(submission, rng):
    model, clean, corrupted, cache = twins(rng)
    got = submission.activation_patch(model, clean, cache, get_act_name("z", 0), 2, 1)
    expect(got, model(clean), "the logits of clean patched into clean", rtol=1e-3, atol=1e-4)
    for layer in (0, 1):
        got = submission.activation_patch(model, corrupted, cache, get_act_name("resid_pre", layer))
        what = f"the logits with all of layer {layer}'s resid_pre clean (pos=None, head=None)"
        expect(got, model(clean), what, rtol=1e-3, atol=1e-4)


@exercise("activation_patch", points=1)
def test_the_first_stream_at_one_position_is_one_token_exchanged(submission, rng):
    model, clean, corrupted, cache = twins(rng)
    for pos in (random_number(rng, 1, 5), 0, 5):
        mixed = corrupted.clone()
        mixed[:, pos] = clean[:, pos]
        got = submission.activation_patch(model, corrupted, cache, get_act_name("resid_pre", 0), pos)
        what = f"the logits with resid_pre of layer 0 clean at position {pos} (as if that token were the clean one)"
        expect(got, model(mixed), what, rtol=1e-3, atol=1e-4)


@exercise("activation_patch", points=1)
def test_a_head_of_the_last_layer_changes_the_logits_by_what_it_adds(submission, rng):
    model, _, corrupted, cache = twins(rng)
    logits, own = model.run_with_cache(corrupted)
    name = get_act_name("z", 1)
    for head, pos in ((0, None), (2, None), (1, random_number(rng, 1, 5)), (0, 0)):
        want = logits.clone()
        where = slice(None) if pos is None else pos
        news = cache[name][:, where, head] - own[name][:, where, head]
        want[:, where] += news @ model.W_O[1, head] @ model.W_U
        got = submission.activation_patch(model, corrupted, cache, name, pos, head)
        expect(got, want, f"the logits with z of head 1.{head} clean, pos={pos},", rtol=1e-3, atol=1e-4)


@exercise("activation_patch", points=1)
def test_patches_queries_keys_and_values_of_one_head(submission, rng):
    model, _, corrupted, cache = twins(rng)
    _, own = model.run_with_cache(corrupted)
    for kind in "qkvz":
        name, head, pos = get_act_name(kind, 0), random_number(rng, 0, 3), random_number(rng, 1, 5)
        mixed = own[name].clone()
        for prompt in range(len(corrupted)):
            mixed[prompt, pos, head] = cache[name][prompt, pos, head]
        want = run_patched(model, corrupted, mixed, name)
        got = submission.activation_patch(model, corrupted, cache, name, pos, head)
        expect(got, want, f"the logits with {kind} of head 0.{head} clean at position {pos}", rtol=1e-3, atol=1e-4)


# patch_sweep --------------------------------------------------------------------------------


def sweep_case(rng, n_layers=2, n_pos=5):
    """A case in which clean and corrupted differ enough to divide by the difference, and differ by
    another amount in each prompt."""
    while True:
        model, clean, corrupted, _ = twins(rng, n_layers, n_pos=n_pos)
        right, wrong = two_answers(rng, len(clean))
        a, b = (slow_diffs(model(tokens), right, wrong) for tokens in (clean, corrupted))
        if abs((a - b).mean()) > 1 and (a - b).abs().min() > 0.3:
            return model, clean, corrupted, right, wrong, a.mean(), b.mean()


@exercise("patch_sweep", points=1)
def test_row_0_of_resid_pre_exchanges_one_token(submission, rng):
    model, clean, corrupted, right, wrong, at_clean, at_corrupted = sweep_case(rng)
    got = submission.patch_sweep(model, clean, corrupted, right, wrong, "resid_pre")
    expect(got.shape, [2, 5], "the shape for 2 layers and 5 positions")
    for pos in range(5):
        mixed = corrupted.clone()
        mixed[:, pos] = clean[:, pos]
        value = slow_diffs(model(mixed), right, wrong).mean()
        want = (value - at_corrupted) / (at_clean - at_corrupted)
        expect(got[0, pos], want, f"the cell of layer 0, position {pos}, for kind 'resid_pre'", rtol=1e-3, atol=1e-3)


@exercise("patch_sweep", points=1)
def test_the_last_layers_heads_restore_what_they_add(submission, rng):
    model, clean, corrupted, right, wrong, at_clean, at_corrupted = sweep_case(rng)
    got = submission.patch_sweep(model, clean, corrupted, right, wrong, "z")
    expect(got.shape, [2, 3], "the shape for 2 layers and 3 heads")
    _, cache = model.run_with_cache(clean)
    logits, own = model.run_with_cache(corrupted)
    for head in range(3):
        news = (cache["z", 1] - own["z", 1])[:, :, head] @ model.W_O[1, head] @ model.W_U
        value = slow_diffs(logits + news, right, wrong).mean()
        want = (value - at_corrupted) / (at_clean - at_corrupted)
        expect(got[1, head], want, f"the cell of head 1.{head} for kind 'z'", rtol=1e-3, atol=1e-3)


@exercise("patch_sweep", points=1)
def test_every_cell_is_a_run_of_its_own(submission, rng):
    model, clean, corrupted, right, wrong, at_clean, at_corrupted = sweep_case(rng, n_layers=3, n_pos=4)
    _, cache = model.run_with_cache(clean)
    _, own = model.run_with_cache(corrupted)
    for kind, n_cells, dim in (("resid_pre", 4, 1), ("z", 3, 2)):
        got = submission.patch_sweep(model, clean, corrupted, right, wrong, kind)
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
        model, clean, _, _ = twins(rng, n_pos=5)
        corrupted = clean.clone()
        corrupted[:, -1] = (clean[:, -1] + torch.randint(1, 11, (4,), generator=rng)) % 11  # the last token alone
        right, wrong = two_answers(rng, 4)
        a, b = (slow_diffs(model(tokens), right, wrong).mean() for tokens in (clean, corrupted))
        if abs(a - b) > 1:
            break
    got = submission.patch_sweep(model, clean, corrupted, right, wrong, "resid_pre")
    want = torch.zeros(2, 5)
    want[:, -1] = 1
    expect(got, want, "the sweep over resid_pre where only the last token differs", rtol=1e-3, atol=1e-3)


# overlooked_head ----------------------------------------------------------------------------


def named_head(submission):
    got = submission.overlooked_head()
    try:
        layer, head = (int(i) for i in got)
    except (TypeError, ValueError):
        fail(f"The answer should be two whole numbers (layer, head); it is {got!r}.")
    cfg = shipped().cfg
    require(
        0 <= layer < cfg.n_layers and 0 <= head < cfg.n_heads,
        f"There is no head {layer}.{head}: the model has layers 0 to {cfg.n_layers - 1} with heads 0 to "
        f"{cfg.n_heads - 1}.",
    )
    return layer, head


@functools.lru_cache(maxsize=64)
def measured_head(seed, layer, head, denoise=True, n=24):
    """Of one head in the shipped model: the share that patching it restores (or, noising, takes
    away), and the change of its direct contribution, as shares of clean minus corrupted."""
    model, name = shipped(), get_act_name("z", layer)
    pairs = draw_pairs(model, n, torch.Generator().manual_seed(seed))
    metric = LogitDiff(pairs.right, pairs.wrong)
    logits, cache = model.run_with_cache(pairs.clean, names_filter=name)
    corrupted, own = model.run_with_cache(pairs.corrupted, names_filter=name)
    span = metric(logits) - metric(corrupted)
    if denoise:
        total = metric(run_patched(model, pairs.corrupted, cache[name], name, head)) - metric(corrupted)
    else:
        total = metric(logits) - metric(run_patched(model, pairs.clean, own[name], name, head))
    written = (cache[name] - own[name])[:, -1, head] @ model.W_O[layer, head]
    direction = model.W_U[:, pairs.right] - model.W_U[:, pairs.wrong]
    return float(total / span), float((written * direction.T).sum(1).mean() / span)


@exercise("overlooked_head", points=1)
def test_alone_it_restores_most_of_the_answer(submission, rng):
    layer, head = named_head(submission)
    total, _ = measured_head(draw_seed(rng), layer, head)
    require(
        total > 0.7,
        f"Head {layer}.{head} from the clean run restores {total:.2f} of the clean answer (24 fresh prompts). "
        "Look for one above 0.7.",
    )


@exercise("overlooked_head", points=1)
def test_writes_next_to_nothing_to_the_output(submission, rng):
    layer, head = named_head(submission)
    total, direct = measured_head(draw_seed(rng), layer, head)
    require(
        abs(direct) < 0.05,
        f"The direct contribution of head {layer}.{head} changes by {direct:.2f} of the whole (24 fresh "
        "prompts): the lens sees it.",
    )
    require(
        total > 0.7,
        f"Head {layer}.{head} writes nothing to the output that differs, but it restores only {total:.2f} of "
        "the answer, too.",
    )


@exercise("overlooked_head", points=1)
def test_without_it_most_of_the_answer_goes(submission, rng):
    layer, head = named_head(submission)
    total, _ = measured_head(draw_seed(rng), layer, head, denoise=False)
    require(
        total > 0.65,
        f"Head {layer}.{head} from the corrupted run takes away {total:.2f} of the clean answer (24 fresh "
        "prompts). Look for one above 0.65.",
    )


# ways_that_find -----------------------------------------------------------------------------

WAYS = ("denoise", "noise")


def measured_ways(circuit, head):
    """What changes when one head of a hand-built model is patched, in each direction."""
    model, name = gate_model(circuit).requires_grad_(False), get_act_name("z", 0)
    off, on = torch.tensor([[0]]), torch.tensor([[1]])
    changes = {}
    for way, run, source in (("denoise", off, on), ("noise", on, off)):
        before, after = model(run), run_patched(model, run, source, name, head)
        changes[way] = float((after - before)[0, -1, 1] - (after - before)[0, -1, 0])
    return changes


def check_ways(submission, rng, circuits):
    predicted = {c: listed(submission.ways_that_find(c), WAYS, f"Your answer for {c!r}") for c in circuits}
    head = random_number(rng, 0, 2)
    for circuit, answer in predicted.items():
        for way, change in measured_ways(circuit, head).items():
            require(
                (way in answer) == (abs(change) > 0.1),
                f"Your answer for {circuit!r} {'holds' if way in answer else 'leaves out'} {way!r}. Measured: patching "
                f"head {'ab'[head]} in that way changes the logit difference by {change:+.1f}.",
            )


@exercise("ways_that_find", points=1)
def test_is_right_where_one_head_is_enough(submission, rng):
    check_ways(submission, rng, ["or", "sum"])


@exercise("ways_that_find", points=1)
def test_is_right_where_both_heads_are_needed(submission, rng):
    check_ways(submission, rng, ["and", "sum"])


@exercise("ways_that_find", points=1)
def test_tells_enough_from_needed(submission, rng):
    check_ways(submission, rng, ["or", "and"])
