"""Known wrong answers to chapter 4, each with the hint it deserves. A learner whose answer does
what one of these does is shown its hint."""

import math

import torch

from circuits.checking import mistake
from utils.model import get_act_name
from utils.patching import LogitDiff, sweep


def _replace(model, tokens, name, new, index=()):
    """Logits of a run in which `x[index]` of the activation `name` is `new`, a tensor or a function of x."""

    def hook(x, hook):
        x = x.clone()
        x[index] = new(x) if callable(new) else new
        return x

    return model.run_with_hooks(tokens, fwd_hooks=[(name, hook)])


def _cached(model, tokens, name):
    return model.run_with_cache(tokens, names_filter=name)[1][name]


def _all(x):
    """An index, or everything where it is None."""
    return slice(None) if x is None else x


# logit_diff ---------------------------------------------------------------------------------


def _picked(rows, right, wrong):
    prompt = torch.arange(len(rows))
    return rows[prompt, right] - rows[prompt, wrong]


@mistake("logit_diff", hint="The sign is wrong: right minus wrong.")
def wrong_minus_right(logits, right, wrong):
    return _picked(logits[:, -1], wrong, right)


@mistake("logit_diff", hint="These are differences of probabilities. Leave the softmax out: logits are compared.")
def diff_of_probabilities(logits, right, wrong):
    return _picked(logits[:, -1].softmax(-1), right, wrong)


@mistake("logit_diff", hint="You read the first position. The model answers at the last one, `logits[:, -1]`.")
def reads_the_first_position(logits, right, wrong):
    return _picked(logits[:, 0], right, wrong)


@mistake("logit_diff", hint="You average over the positions. Only the last one is asked.")
def averages_over_positions(logits, right, wrong):
    return _picked(logits.mean(1), right, wrong)


@mistake("logit_diff", hint="This is the mean over the prompts. Return one number per prompt.")
def averages_over_prompts(logits, right, wrong):
    return _picked(logits[:, -1], right, wrong).mean()


@mistake("logit_diff", hint="`last[:, right]` takes all columns for every row. For one column per row, index the rows as well: `last[torch.arange(len(last)), right]`.")
def all_columns_for_every_row(logits, right, wrong):
    return logits[:, -1][:, right] - logits[:, -1][:, wrong]


@mistake("logit_diff", hint="This is the right token's logit alone. Subtract the wrong token's.")
def right_alone(logits, right, wrong):
    return logits[:, -1].gather(1, right[:, None])[:, 0]


@mistake("logit_diff", hint="You compare with the mean of all logits; compare with the logit of the wrong token.")
def against_the_mean(logits, right, wrong):
    return logits[:, -1].gather(1, right[:, None])[:, 0] - logits[:, -1].mean(-1)


@mistake("logit_diff", hint="You read the last position but one. The question is put at the end of the text: `logits[:, -1]`.")
def reads_the_last_but_one(logits, right, wrong):
    return _picked(logits[:, -2], right, wrong)


@mistake("logit_diff", hint="This is a ratio of the two logits. Take their difference.")
def ratio_of_logits(logits, right, wrong):
    last, n = logits[:, -1], torch.arange(len(logits))
    return last[n, right] / last[n, wrong]


@mistake("logit_diff", hint="All prompts are read with the first one's tokens. Each prompt has its own right and wrong token.")
def the_first_prompts_tokens(logits, right, wrong):
    return logits[:, -1, right[0]] - logits[:, -1, wrong[0]]


@mistake("logit_diff", hint="This says whether right is preferred. Return by how much: the difference of the logits.")
def right_is_preferred(logits, right, wrong):
    return _picked(logits[:, -1], right, wrong) > 0


# clean_and_corrupted ------------------------------------------------------------------------


def _pairs(model, template, names, corrupt, answers=(1, 3), bos=True):
    """`corrupt` makes (first, second, query) of a, b, c, d."""
    clean = [template.format(first=a + b, second=c + d, query=a) for a, b, c, d in names]
    corrupted = [
        template.format(**dict(zip(("first", "second", "query"), corrupt(*name), strict=True))) for name in names
    ]
    right, wrong = (model.to_tokens([n[i] for n in names], prepend_bos=False)[:, 0] for i in answers)
    return model.to_tokens(clean, bos), model.to_tokens(corrupted, bos), right, wrong


def _exchanged(a, b, c, d):
    return c + b, a + d, a


@mistake("clean_and_corrupted", hint="You exchange the second halves. That makes `A` `D` and `C` `B`, in this order: a counterfactual too, but another one. Exchange the first halves: `C` `B`, then `A` `D`.")
def exchanges_second_halves(model, template, names):
    return _pairs(model, template, names, lambda a, b, c, d: (a + d, c + b, a))


@mistake("clean_and_corrupted", hint="You exchange the whole names. Then `A` is still followed by `B`, and the answer does not change. Exchange the first halves alone.")
def exchanges_names(model, template, names):
    return _pairs(model, template, names, lambda a, b, c, d: (c + d, a + b, a))


@mistake("clean_and_corrupted", hint="The corrupted prompt ends with the other first half. Keep the query, `A`, so that only what stands before the second halves differs.")
def exchanges_the_query_too(model, template, names):
    return _pairs(model, template, names, lambda a, b, c, d: (c + b, a + d, c))


@mistake("clean_and_corrupted", hint="Your corrupted prompts keep the names and ask for the other one. Keep the query, and exchange the first halves of the names.")
def asks_for_the_other_name(model, template, names):
    return _pairs(model, template, names, lambda a, b, c, d: (a + b, c + d, c))


@mistake("clean_and_corrupted", hint="Right and wrong are exchanged. Right is what the *clean* text asks for, `B`.")
def answers_exchanged(model, template, names):
    return _pairs(model, template, names, _exchanged, answers=(3, 1))


@mistake("clean_and_corrupted", hint="Clean and corrupted prompts are exchanged: the clean ones hold the names as they are, `A` `B` and `C` `D`.")
def prompts_exchanged(model, template, names):
    clean, corrupted, right, wrong = _pairs(model, template, names, _exchanged)
    return corrupted, clean, right, wrong


@mistake("clean_and_corrupted", hint="Your answers are the first halves. The query is a first half already; the answer is what follows it, a second half.")
def answers_are_first_halves(model, template, names):
    return _pairs(model, template, names, _exchanged, answers=(0, 2))


@mistake("clean_and_corrupted", hint="The prompts lack `<|bos|>`. `model.to_tokens(texts)` puts it in front.")
def prompts_without_bos(model, template, names):
    return _pairs(model, template, names, _exchanged, bos=False)


@mistake("clean_and_corrupted", hint="Your answers are all `<|bos|>`: `to_tokens` puts it in front of single tokens, too. Say `prepend_bos=False`, or take column 1.")
def answers_are_bos(model, template, names):
    clean, corrupted, right, wrong = _pairs(model, template, names, _exchanged)
    return clean, corrupted, torch.zeros_like(right), torch.zeros_like(wrong)


@mistake("clean_and_corrupted", hint="The template is used as it is. Fill in its fields from `names`, with `template.format(first=..., second=..., query=...)`.")
def template_ignored(model, template, names):
    tokens = model.to_tokens([template] * len(names))
    return tokens, tokens, *_pairs(model, template, names, _exchanged)[2:]


@mistake("clean_and_corrupted", hint="The answers are `[batch 1]`: a text of one token each. Take column 0, so that they are `[batch]`.")
def answers_with_a_dimension_too_many(model, template, names):
    clean, corrupted, right, wrong = _pairs(model, template, names, _exchanged)
    return clean, corrupted, right[:, None], wrong[:, None]


@mistake("clean_and_corrupted", hint="Your wrong answer is `C`, the other first half. Wrong is what the *corrupted* text asks for: `D`, which follows `A` there.")
def wrong_is_the_other_first_half(model, template, names):
    return _pairs(model, template, names, _exchanged, answers=(1, 2))


@mistake("clean_and_corrupted", hint="Your prompts are still strings. Make token ids of them: `model.to_tokens(texts)`.")
def prompts_as_strings(model, template, names):
    clean = [template.format(first=a + b, second=c + d, query=a) for a, b, c, d in names]
    corrupted = [template.format(first=c + b, second=a + d, query=a) for a, b, c, d in names]
    return clean, corrupted, *_pairs(model, template, names, _exchanged)[2:]


@mistake("clean_and_corrupted", hint="You strip the halves. The space at the beginning is part of a token: use the names as they are.")
def halves_stripped(model, template, names):
    return _pairs(model, template, [tuple(half.strip() for half in name) for name in names], _exchanged)


# changes_that_show --------------------------------------------------------------------------


@mistake("changes_that_show", hint="All three change the answer, but each leaves something as it was. Which token does this head read, where the second halves stand, before and after the change?")
def everything_shows(head):
    return ["swap_first", "swap_second", "new_query"]


@mistake("changes_that_show", hint="You have the two heads exchanged. Position by position: the previous-token head reads the token before, the other one the token that stands there.")
def heads_exchanged(head):
    return ["swap_first"] if head == "own" else ["swap_second", "new_query"]


@mistake("changes_that_show", hint="With the second halves exchanged, `D` stands after `A` where `B` stood after `A`. The head that looks one back reads `A` in both.")
def second_halves_show_the_previous_head(head):
    return ["swap_first", "swap_second"] if head == "previous" else ["swap_second", "new_query"]


@mistake("changes_that_show", hint="A new last token is read, at its own position, by the head that looks there. Induction heads need to know what to look for.")
def own_head_misses_the_query(head):
    return ["swap_first"] if head == "previous" else ["swap_second"]


@mistake("changes_that_show", hint="Nothing stands after the last token, so no position has it for its predecessor. A new query leaves what the previous-token head writes about the names as it was.")
def query_shows_the_previous_head(head):
    return ["swap_first", "new_query"] if head == "previous" else ["swap_second", "new_query"]


@mistake("changes_that_show", hint="Exchanging first halves does change what the own-token head writes, on the first halves. But the answer is given by `B` and `D`: what induction heads need *there* is what stood before.")
def first_halves_show_the_own_head(head):
    return ["swap_first"] if head == "previous" else ["swap_first", "swap_second", "new_query"]


@mistake("changes_that_show", hint="With the second halves exchanged, other tokens stand where `B` and `D` stood. The head that looks at its own token passes them on, and one of them becomes the answer.")
def second_halves_do_not_show_the_own_head(head):
    return ["swap_first"] if head == "previous" else ["new_query"]


@mistake("changes_that_show", hint="That the previous-token head is needed does not mean that every change shows at it. What stands *before* `B` and `D`, and before and after which change is it another token?")
def everything_shows_the_previous_head(head):
    return ["swap_first", "swap_second", "new_query"] if head == "previous" else ["swap_second", "new_query"]


@mistake("changes_that_show", hint="The head that looks at its own token matters: it passes on what stands at the second halves and at the end. What changes there shows at it.")
def nothing_shows_the_own_head(head):
    return ["swap_first"] if head == "previous" else []


# zero_ablate --------------------------------------------------------------------------------


@mistake("zero_ablate", hint="You silence every head of the layer. With `head` given, only `x[:, :, head]` becomes zero.")
def zeroes_all_heads(model, tokens, name, head=None):
    return _replace(model, tokens, name, 0.0)


@mistake("zero_ablate", hint="Head 0 counts as false, so `if head` takes it for no head at all. Ask `if head is None`.")
def zero_head_is_false(model, tokens, name, head=None):
    return _replace(model, tokens, name, 0.0, (slice(None), slice(None), head or slice(None)))


@mistake("zero_ablate", hint="You zero a position: `x[:, head]`. Heads are the third dimension, `x[:, :, head]`.")
def zeroes_a_position(model, tokens, name, head=None):
    return _replace(model, tokens, name, 0.0, (slice(None), _all(head)))


@mistake("zero_ablate", hint="You zero one coordinate of every head: `x[..., head]`. Heads are the third dimension, `x[:, :, head]`.")
def zeroes_a_coordinate(model, tokens, name, head=None):
    return _replace(model, tokens, name, 0.0, (..., _all(head)))


@mistake("zero_ablate", hint="The logits are those of the plain model: your hook changes nothing. It must change `x` in place (`x[...] = 0`) or return what takes its place.")
def zero_is_not_returned(model, tokens, name, head=None):
    return model(tokens)


@mistake("zero_ablate", hint="You zero the last position alone. Take the head away at every position.")
def zeroes_the_last_position(model, tokens, name, head=None):
    return _replace(model, tokens, name, 0.0, (slice(None), -1, _all(head)))


@mistake("zero_ablate", hint="You keep this head and silence all the others. It is the other way round.")
def zeroes_the_others(model, tokens, name, head=None):
    if head is None:
        return _replace(model, tokens, name, 0.0)
    return _replace(model, tokens, name, lambda x: torch.zeros_like(x).index_copy(2, torch.tensor([head]), x[:, :, [head]]))


@mistake("zero_ablate", hint="`head=None` should zero all of the activation. Yours leaves it as it is, or takes some head for it.")
def none_is_head_0(model, tokens, name, head=None):
    return _replace(model, tokens, name, 0.0, (slice(None), slice(None), head or 0))


@mistake("zero_ablate", hint="You return `(logits, cache)`, as `run_with_cache` does. Return the logits alone.")
def logits_and_cache(model, tokens, name, head=None):
    def zero(x, hook):
        x = x.clone()
        x[:, :, _all(head)] = 0
        return x

    with model.hooks([(name, zero)]):
        return model.run_with_cache(tokens)


@mistake("zero_ablate", hint="You always put the hook at `z` of layer 0. Put it where `name` says.")
def always_z_of_layer_0(model, tokens, name, head=None):
    return _replace(model, tokens, get_act_name("z", 0), 0.0, (slice(None), slice(None), _all(head)))


# mean_ablate --------------------------------------------------------------------------------


@mistake("mean_ablate", hint="You average over the positions, too. Each position keeps its own mean: average over the first dimension alone.")
def mean_over_positions_too(model, tokens, name, reference, head=None):
    mean = _cached(model, reference, name).mean((0, 1))
    return _replace(model, tokens, name, mean[_all(head)], (slice(None), slice(None), _all(head)))


@mistake("mean_ablate", hint="You average over `tokens`. The mean is over the prompts of `reference`.")
def mean_over_the_prompts_themselves(model, tokens, name, reference, head=None):
    mean = _cached(model, tokens, name).mean(0)
    return _replace(model, tokens, name, mean[:, _all(head)], (slice(None), slice(None), _all(head)))


@mistake("mean_ablate", hint="You replace every head of the layer. With `head` given, only that one gets its mean.")
def mean_for_all_heads(model, tokens, name, reference, head=None):
    return _replace(model, tokens, name, _cached(model, reference, name).mean(0))


@mistake("mean_ablate", hint="Head 0 counts as false, so `if head` takes it for no head at all. Ask `if head is None`.")
def mean_head_is_false(model, tokens, name, reference, head=None):
    mean = _cached(model, reference, name).mean(0)
    which = head or slice(None)
    return _replace(model, tokens, name, mean[:, which], (slice(None), slice(None), which))


@mistake("mean_ablate", hint="This is zero ablation. What takes the activation's place is its mean over `reference`.")
def zero_instead_of_mean(model, tokens, name, reference, head=None):
    return _replace(model, tokens, name, 0.0, (slice(None), slice(None), _all(head)))


@mistake("mean_ablate", hint="Every head gets the mean over all heads. A head's mean is over prompts: its own, in other texts.")
def mean_over_heads(model, tokens, name, reference, head=None):
    mean = _cached(model, reference, name).mean(0)
    if head is not None:
        mean = mean.mean(1, keepdim=True).expand_as(mean)
    return _replace(model, tokens, name, mean[:, _all(head)], (slice(None), slice(None), _all(head)))


@mistake("mean_ablate", hint="You replace a position: `x[:, head]`. Heads are the third dimension, `x[:, :, head]`.")
def mean_at_a_position(model, tokens, name, reference, head=None):
    mean = _cached(model, reference, name).mean(0)
    return _replace(model, tokens, name, mean[_all(head)], (slice(None), _all(head)))


@mistake("mean_ablate", hint="You take the first reference prompt instead of the mean over all of them.")
def first_reference_prompt(model, tokens, name, reference, head=None):
    first = _cached(model, reference, name)[0]
    return _replace(model, tokens, name, first[:, _all(head)], (slice(None), slice(None), _all(head)))


@mistake("mean_ablate", hint="These are the mean logits of runs with each reference prompt's activation. First the mean of the activations, then one run: the model is not linear.")
def mean_of_the_logits(model, tokens, name, reference, head=None):
    source = _cached(model, reference, name)
    place = (slice(None), slice(None), _all(head))
    runs = [_replace(model, tokens, name, row[:, _all(head)], place) for row in source]
    return torch.stack(runs).mean(0)


@mistake("mean_ablate", hint="You replace the last position alone. Every position gets its own mean.")
def mean_at_the_last_position(model, tokens, name, reference, head=None):
    which = _all(head)
    mean = _cached(model, reference, name).mean(0)[-1, which]
    return _replace(model, tokens, name, mean, (slice(None), -1, which))


@mistake("mean_ablate", hint="You take the median over the reference prompts. Take the mean.")
def median_of_the_reference(model, tokens, name, reference, head=None):
    middle = _cached(model, reference, name).median(0).values
    return _replace(model, tokens, name, middle[:, _all(head)], (slice(None), slice(None), _all(head)))


@mistake("mean_ablate", hint="Each prompt gets its own mean over positions. The mean is over the prompts of `reference`, at each position.")
def own_mean_over_positions(model, tokens, name, reference, head=None):
    place = (slice(None), slice(None), _all(head))
    return _replace(model, tokens, name, lambda x: x.mean(1, keepdim=True)[place], place)


@mistake("mean_ablate", hint="You average over `reference` and `tokens` together. The mean is over `reference` alone.")
def mean_over_both(model, tokens, name, reference, head=None):
    mean = _cached(model, torch.cat([reference, tokens]), name).mean(0)
    return _replace(model, tokens, name, mean[:, _all(head)], (slice(None), slice(None), _all(head)))


@mistake("mean_ablate", hint="The two texts are exchanged: run over `tokens`, and take the mean over `reference`.")
def runs_over_the_reference(model, tokens, name, reference, head=None):
    mean = _cached(model, tokens, name).mean(0)
    return _replace(model, reference, name, mean[:, _all(head)], (slice(None), slice(None), _all(head)))


@mistake("mean_ablate", hint="With `head=None` your hook returns the mean, which has lost the batch dimension. What a hook returns takes the activation's place: give it the batch back, `mean.expand_as(x)`.")
def mean_without_a_batch(model, tokens, name, reference, head=None):
    mean = _cached(model, reference, name).mean(0)

    def hook(x, hook):
        if head is None:
            return mean
        x = x.clone()
        x[:, :, head] = mean[:, head]
        return x

    return model.run_with_hooks(tokens, fwd_hooks=[(name, hook)])


# resample_ablate ----------------------------------------------------------------------------


@mistake("resample_ablate", hint="The two texts are exchanged: run over `tokens`, and take the activation from the run over `other`.")
def texts_exchanged(model, tokens, name, other, head=None):
    source = _cached(model, tokens, name)
    return _replace(model, other, name, source[:, :, _all(head)], (slice(None), slice(None), _all(head)))


@mistake("resample_ablate", hint="You replace every head of the layer. With `head` given, only that one comes from `other`.")
def resamples_all_heads(model, tokens, name, other, head=None):
    return _replace(model, tokens, name, _cached(model, other, name))


@mistake("resample_ablate", hint="Head 0 counts as false, so `if head` takes it for no head at all. Ask `if head is None`.")
def resample_head_is_false(model, tokens, name, other, head=None):
    which = head or slice(None)
    source = _cached(model, other, name)[:, :, which]
    return _replace(model, tokens, name, source, (slice(None), slice(None), which))


@mistake("resample_ablate", hint="You put in the mean over the other prompts. Each prompt gets the activation of *its* other prompt, row by row.")
def mean_of_the_others(model, tokens, name, other, head=None):
    mean = _cached(model, other, name).mean(0)
    return _replace(model, tokens, name, mean[:, _all(head)], (slice(None), slice(None), _all(head)))


@mistake("resample_ablate", hint="Every prompt gets the first of the other prompts. Each has its own, row by row.")
def the_first_of_the_others(model, tokens, name, other, head=None):
    first = _cached(model, other, name)[0]
    return _replace(model, tokens, name, first[:, _all(head)], (slice(None), slice(None), _all(head)))


@mistake("resample_ablate", hint="You replace the activation at the last position alone. Replace it at every position.")
def resamples_the_last_position(model, tokens, name, other, head=None):
    which = _all(head)
    source = _cached(model, other, name)[:, -1, which]
    return _replace(model, tokens, name, source, (slice(None), -1, which))


@mistake("resample_ablate", hint="The logits are those of the plain model: your hook changes nothing. It must return what takes the place of `x`.")
def resample_is_not_returned(model, tokens, name, other, head=None):
    return model(tokens)


@mistake("resample_ablate", hint="These are the logits of the other prompts. Run over `tokens`, and replace one activation.")
def runs_the_other_prompts(model, tokens, name, other, head=None):
    return model(other)


@mistake("resample_ablate", hint="You replace a position: `x[:, head]`. Heads are the third dimension, `x[:, :, head]`.")
def resamples_a_position(model, tokens, name, other, head=None):
    return _replace(model, tokens, name, _cached(model, other, name)[:, _all(head)], (slice(None), _all(head)))


@mistake("resample_ablate", hint="You zero the activation. It is to be as in the run over `other`.")
def zero_instead_of_resampled(model, tokens, name, other, head=None):
    return _replace(model, tokens, name, 0.0, (slice(None), slice(None), _all(head)))


@mistake("resample_ablate", hint="You take the activations of another row of `tokens`. Take those of the run over `other`, row by row.")
def another_of_the_prompts(model, tokens, name, other, head=None):
    source = _cached(model, tokens, name).roll(1, 0)
    return _replace(model, tokens, name, source[:, :, _all(head)], (slice(None), slice(None), _all(head)))


@mistake("resample_ablate", hint="You shift the prompts of `other` by one. They are other prompts already: row b belongs to row b.")
def shifts_the_others(model, tokens, name, other, head=None):
    source = _cached(model, other, name).roll(1, 0)
    return _replace(model, tokens, name, source[:, :, _all(head)], (slice(None), slice(None), _all(head)))


@mistake("resample_ablate", hint="You replace all heads but this one. It is the other way round.")
def resamples_the_others(model, tokens, name, other, head=None):
    source = _cached(model, other, name)
    if head is None:
        return _replace(model, tokens, name, source, ...)
    return _replace(model, tokens, name, lambda x: torch.cat([source[:, :, :head], x[:, :, [head]], source[:, :, head + 1 :]], 2), ...)


# alarms -------------------------------------------------------------------------------------


@mistake("alarms", hint="An ablation raises an alarm only if its substitute differs from what the head would have written. The mean of a constant is that constant.")
def everything_alarms(kind):
    return ["zero", "mean", "other", "twin"]


@mistake("alarms", hint="Nobody reads a constant? Later layers do: they were trained with it, and zero is not what they know. A head that writes the same always raises one alarm.")
def constants_are_idle(kind):
    return {"constant": [], "shared": ["zero", "mean", "other"]}.get(kind, ["zero", "mean", "other", "twin"])


@mistake("alarms", hint="What both twins share is still not what another prompt has: the names are others there. Only the twin gives the same.")
def shared_is_like_constant(kind):
    return ["zero", "mean", "other", "twin"] if kind == "carrier" else ["zero"]


@mistake("alarms", hint="The twin writes the same at a head that both share, so nothing is replaced by anything else, and nothing changes.")
def shared_is_like_carrier(kind):
    return ["zero"] if kind == "constant" else ["zero", "mean", "other", "twin"]


@mistake("alarms", hint="The mean over prompts with other names does not know these names. It is a substitute, too, for a head whose output depends on them.")
def the_mean_is_harmless(kind):
    return {"constant": ["zero"], "shared": ["zero", "other"]}.get(kind, ["zero", "other", "twin"])


@mistake("alarms", hint="Zero is a substitute like any other: it differs from what these heads write. For the constant head it is the only one that does.")
def zero_is_harmless(kind):
    return {"constant": [], "shared": ["mean", "other"]}.get(kind, ["mean", "other", "twin"])


@mistake("alarms", hint="A carrier writes what the corruption changes, and this depends on the names: all four substitutes differ from it. Not the twin alone.")
def carriers_need_the_twin(kind):
    return {"constant": ["zero"], "shared": ["zero", "mean", "other"]}.get(kind, ["twin"])


@mistake("alarms", hint="The mean of a constant is that constant: the mean puts in what was there.")
def the_mean_alarms_constants(kind):
    return {"constant": ["zero", "mean"], "shared": ["zero", "mean", "other"]}.get(kind, ["zero", "mean", "other", "twin"])


@mistake("alarms", hint="A constant head writes the same in every prompt, so nothing changes if its output comes from another one, or from the twin.")
def all_but_the_mean_alarm_constants(kind):
    return {"constant": ["zero", "other", "twin"], "shared": ["zero", "mean", "other"]}.get(kind, ["zero", "mean", "other", "twin"])


@mistake("alarms", hint="Zero is a substitute like any other: it is not what a carrier writes, so it raises an alarm, too.")
def zero_is_neutral_for_carriers(kind):
    return {"constant": ["zero"], "shared": ["zero", "mean", "other"]}.get(kind, ["mean", "other", "twin"])


@mistake("alarms", hint="You have \"shared\" and \"carrier\" exchanged. At a shared head the twin writes the same; what a carrier writes is what the twin changes.")
def shared_and_carrier_exchanged(kind):
    return {"constant": ["zero"], "carrier": ["zero", "mean", "other"]}.get(kind, ["zero", "mean", "other", "twin"])


@mistake("alarms", hint="Another clean prompt has other names, and what a shared head writes depends on the names. Only the twin gives it the same.")
def another_prompt_is_harmless_to_shared(kind):
    return {"constant": ["zero"], "shared": ["zero", "mean"]}.get(kind, ["zero", "mean", "other", "twin"])


# direct_logit_attribution -------------------------------------------------------------------


def _shares(cache, model, right, wrong, at=lambda x: x[:, -1], alone=False):
    direction = model.W_U[:, right] - (0 if alone else model.W_U[:, wrong])
    embedding = torch.einsum("bd,db->b", at(cache["hook_embed"]), direction)
    shares = [
        torch.einsum("bhe,hed,db->bh", at(cache["z", layer]), model.W_O[layer], direction)
        for layer in range(model.cfg.n_layers)
    ]
    return embedding, torch.stack(shares, 1)


@mistake("direct_logit_attribution", hint="The sign is wrong: the direction is `W_U[:, right] - W_U[:, wrong]`.")
def shares_of_wrong_minus_right(cache, model, right, wrong):
    return _shares(cache, model, wrong, right)


@mistake("direct_logit_attribution", hint="You sum over the positions. The answer is given at the last one: `cache[...][:, -1]`.")
def shares_of_all_positions(cache, model, right, wrong):
    return _shares(cache, model, right, wrong, at=lambda x: x.sum(1))


@mistake("direct_logit_attribution", hint="The heads' shares are added up over the positions. Of the heads, too, only what they write at the last one counts: `cache[\"z\", layer][:, -1]`.")
def heads_of_all_positions(cache, model, right, wrong):
    return _shares(cache, model, right, wrong)[0], _shares(cache, model, right, wrong, at=lambda x: x.sum(1))[1]


@mistake("direct_logit_attribution", hint="You read the first position; the answer is given at the last one.")
def shares_of_the_first_position(cache, model, right, wrong):
    return _shares(cache, model, right, wrong, at=lambda x: x[:, 0])


@mistake("direct_logit_attribution", hint="You average over the positions. The answer is given at the last one: `cache[...][:, -1]`.")
def shares_of_the_mean_position(cache, model, right, wrong):
    return _shares(cache, model, right, wrong, at=lambda x: x.mean(1))


@mistake("direct_logit_attribution", hint="The two parts are in the wrong order: first the embedding's share, then the heads'.")
def heads_before_the_embedding(cache, model, right, wrong):
    embedding, heads = _shares(cache, model, right, wrong)
    return heads, embedding


@mistake("direct_logit_attribution", hint="These are the shares of the right token's logit. Subtract those of the wrong one's.")
def shares_of_the_right_logit(cache, model, right, wrong):
    return _shares(cache, model, right, wrong, alone=True)


@mistake("direct_logit_attribution", hint="You read all prompts with the direction of the first one. Each prompt has its own right and wrong token.")
def one_direction_for_all(cache, model, right, wrong):
    return _shares(cache, model, right[:1].expand_as(right), wrong[:1].expand_as(wrong))


@mistake("direct_logit_attribution", hint="Your embedding's share is read off the finished stream, so it holds the heads' shares, too. The embedding is `cache[\"hook_embed\"]`.")
def embedding_is_the_whole_stream(cache, model, right, wrong):
    embedding, heads = _shares(cache, model, right, wrong)
    return embedding + heads.sum((1, 2)), heads


@mistake("direct_logit_attribution", hint="The embedding's share is missing.")
def embedding_forgotten(cache, model, right, wrong):
    embedding, heads = _shares(cache, model, right, wrong)
    return torch.zeros_like(embedding), heads


@mistake("direct_logit_attribution", hint="The layers are in the wrong order: layer 0 comes first.")
def layers_reversed(cache, model, right, wrong):
    embedding, heads = _shares(cache, model, right, wrong)
    return embedding, heads.flip(1)


@mistake("direct_logit_attribution", hint="You add up the streams as they grow: a layer's share is what its own heads write (`z`), not `resid_post`.")
def shares_accumulate(cache, model, right, wrong):
    embedding, heads = _shares(cache, model, right, wrong)
    return embedding, heads.cumsum(1)


@mistake("direct_logit_attribution", hint="You read all prompts along the mean direction. Each prompt has its own right and wrong token.")
def the_mean_direction(cache, model, right, wrong):
    direction = (model.W_U[:, right] - model.W_U[:, wrong]).mean(1)
    heads = [torch.einsum("bhe,hed,d->bh", cache["z", i][:, -1], model.W_O[i], direction) for i in range(model.cfg.n_layers)]
    return cache["hook_embed"][:, -1] @ direction, torch.stack(heads, 1)


@mistake("direct_logit_attribution", hint="You take the values at the last position, `v`. A head writes what it has collected by its attention: `z`.")
def values_for_outputs(cache, model, right, wrong):
    direction = model.W_U[:, right] - model.W_U[:, wrong]
    heads = [torch.einsum("bhe,hed,db->bh", cache["v", i][:, -1], model.W_O[i], direction) for i in range(model.cfg.n_layers)]
    return _shares(cache, model, right, wrong)[0], torch.stack(heads, 1)


@mistake("direct_logit_attribution", hint="The heads' shares are `[n_layers batch n_heads]`. The prompts come first: stack the layers along dimension 1.")
def layers_before_prompts(cache, model, right, wrong):
    embedding, heads = _shares(cache, model, right, wrong)
    return embedding, heads.transpose(0, 1)


@mistake("direct_logit_attribution", hint="Your shares sum to 1. Give them in nats: do not divide by the logit difference.")
def shares_of_one(cache, model, right, wrong):
    embedding, heads = _shares(cache, model, right, wrong)
    whole = embedding + heads.sum((1, 2))
    return embedding / whole, heads / whole[:, None, None]


@mistake("direct_logit_attribution", hint="You average over the prompts. Keep a share for each of them.")
def shares_averaged_over_prompts(cache, model, right, wrong):
    embedding, heads = _shares(cache, model, right, wrong)
    return embedding.mean(), heads.mean(0)


@mistake("direct_logit_attribution", hint="The position is added to the embedding. In this model queries and keys alone see positions: the share is of `cache[\"hook_embed\"]` as it is.")
def embedding_with_its_position(cache, model, right, wrong):
    embedding, heads = _shares(cache, model, right, wrong)
    position = model.W_pos[cache["hook_embed"].shape[1] - 1]
    return embedding + position @ (model.W_U[:, right] - model.W_U[:, wrong]), heads


@mistake("direct_logit_attribution", hint="Your embedding's share is read off the stream that enters the last layer, which holds the earlier heads as well. The embedding is `cache[\"hook_embed\"]`.")
def embedding_with_the_earlier_heads(cache, model, right, wrong):
    embedding, heads = _shares(cache, model, right, wrong)
    return embedding + heads[:, :-1].sum((1, 2)), heads


# logit_lens ---------------------------------------------------------------------------------


def _streams(cache, n_layers):
    return [*(cache["resid_pre", layer] for layer in range(n_layers)), cache["resid_post", n_layers - 1]]


@mistake("logit_lens", hint="You stack what comes after each layer. The stream before layer 0, the embedding, is missing.")
def lens_without_the_embedding(cache, model):
    return torch.stack(_streams(cache, model.cfg.n_layers)[1:]) @ model.W_U


@mistake("logit_lens", hint="You stack what enters each layer. What leaves the last layer is missing: `resid_post`.")
def lens_without_the_end(cache, model):
    return torch.stack(_streams(cache, model.cfg.n_layers)[:-1]) @ model.W_U


@mistake("logit_lens", hint="You take two layers, whatever the model. Their number is `model.cfg.n_layers`.")
def lens_of_two_layers(cache, model):
    return torch.stack([cache["resid_pre", 0], cache["resid_pre", 1], cache["resid_post", 1]]) @ model.W_U


@mistake("logit_lens", hint="These are each layer's own additions. The lens reads the stream, the sum of all so far.")
def lens_on_what_is_added(cache, model):
    added = [cache["attn_out", layer] for layer in range(model.cfg.n_layers)]
    return torch.stack([cache["hook_embed"], *added]) @ model.W_U


@mistake("logit_lens", hint="These are log-probabilities or probabilities. The lens gives logits: no softmax.")
def lens_log_probabilities(cache, model):
    return (torch.stack(_streams(cache, model.cfg.n_layers)) @ model.W_U).log_softmax(-1)


@mistake("logit_lens", hint="These are probabilities. The lens gives logits: no softmax.")
def lens_probabilities(cache, model):
    return (torch.stack(_streams(cache, model.cfg.n_layers)) @ model.W_U).softmax(-1)


@mistake("logit_lens", hint="The stages are in the wrong order: the embedding comes first.")
def lens_reversed(cache, model):
    return torch.stack(_streams(cache, model.cfg.n_layers)[::-1]) @ model.W_U


@mistake("logit_lens", hint="The first two stages are the same: the embedding *is* what enters layer 0. What leaves the last layer is missing.")
def lens_with_the_embedding_twice(cache, model):
    streams = _streams(cache, model.cfg.n_layers)
    return torch.stack([cache["hook_embed"], *streams[:-1]]) @ model.W_U


@mistake("logit_lens", hint="You unembed with the transposed embedding. This model has its own `W_U`.")
def lens_through_the_embedding(cache, model):
    return torch.stack(_streams(cache, model.cfg.n_layers)) @ model.W_E.T


@mistake("logit_lens", hint="The layers are 0 to n_layers - 1, so there is no `resid_pre` of layer n_layers. What leaves the last layer is its `resid_post`.")
def lens_one_layer_too_far(cache, model):
    return torch.stack([cache["resid_pre", layer] for layer in range(model.cfg.n_layers + 1)]) @ model.W_U


@mistake("logit_lens", hint="The stages are stacked behind the prompts, `[batch stage ...]`. They come first: `torch.stack(streams)`.")
def lens_stacked_behind_the_prompts(cache, model):
    return torch.stack(_streams(cache, model.cfg.n_layers), 1) @ model.W_U


@mistake("logit_lens", hint="You read the last position alone. Keep all of them.")
def lens_on_the_last_position(cache, model):
    return torch.stack(_streams(cache, model.cfg.n_layers))[:, :, -1] @ model.W_U


@mistake("logit_lens", hint="Your stages are sums of what the layers add, without the embedding. The stream starts with it: `cache[\"hook_embed\"]`.")
def lens_without_what_it_starts_from(cache, model):
    added = torch.stack([cache["attn_out", layer] for layer in range(model.cfg.n_layers)]).cumsum(0)
    return torch.cat([torch.zeros_like(added[:1]), added]) @ model.W_U


# activation_patch ---------------------------------------------------------------------------


def _patch(model, corrupted, clean_cache, name, p, h):
    where = (slice(None), p, h)
    return _replace(model, corrupted, name, clean_cache[name][where], where)


@mistake("activation_patch", hint="You patch every position. With `pos` given, only that one comes from the clean run.")
def patches_all_positions(model, corrupted, clean_cache, name, pos=None, head=None):
    return _patch(model, corrupted, clean_cache, name, slice(None), _all(head))


@mistake("activation_patch", hint="You patch every head. With `head` given, only that one comes from the clean run.")
def patches_all_heads(model, corrupted, clean_cache, name, pos=None, head=None):
    return _patch(model, corrupted, clean_cache, name, _all(pos), slice(None))


@mistake("activation_patch", hint="Position 0 and head 0 count as false, so `if pos` and `if head` take them for none. Ask `is None`.")
def zero_is_none(model, corrupted, clean_cache, name, pos=None, head=None):
    return _patch(model, corrupted, clean_cache, name, pos or slice(None), head or slice(None))


@mistake("activation_patch", hint="Position and head are exchanged. An activation of heads is `[batch pos n_heads d_head]`.")
def pos_and_head_exchanged(model, corrupted, clean_cache, name, pos=None, head=None):
    return _patch(model, corrupted, clean_cache, name, _all(head), _all(pos))


@mistake("activation_patch", hint="The logits are those of the corrupted run: nothing clean enters. Take the values from `clean_cache`, and let the hook return what takes the place of `x`.")
def patch_is_not_returned(model, corrupted, clean_cache, name, pos=None, head=None):
    return model(corrupted)


@mistake("activation_patch", hint="You add the clean activation to the corrupted one. It takes its place.")
def adds_the_clean_activation(model, corrupted, clean_cache, name, pos=None, head=None):
    where = (slice(None), _all(pos), _all(head))
    return _replace(model, corrupted, name, lambda x: x[where] + clean_cache[name][where], where)


@mistake("activation_patch", hint="You patch this position and all after it. `pos` is one position.")
def patches_from_the_position_on(model, corrupted, clean_cache, name, pos=None, head=None):
    return _patch(model, corrupted, clean_cache, name, slice(pos, None), _all(head))


@mistake("activation_patch", hint="With both `pos` and `head` given, only that head at that position is clean: one replacement, `x[:, pos, head]`, and not the whole position and the whole head. With neither, everything is.")
def patches_a_position_and_a_head(model, corrupted, clean_cache, name, pos=None, head=None):
    def new(x):
        x = x.clone()
        if pos is not None:
            x[:, pos] = clean_cache[name][:, pos]
        if head is not None:
            x[:, :, head] = clean_cache[name][:, :, head]
        return x

    return _replace(model, corrupted, name, new, ...)


@mistake("activation_patch", hint="`pos=None` means every position. Yours patches the last one.")
def none_is_the_last_position(model, corrupted, clean_cache, name, pos=None, head=None):
    return _patch(model, corrupted, clean_cache, name, -1 if pos is None else pos, _all(head))


@mistake("activation_patch", hint="With `pos=None` your index `x[:, pos, head]` adds a dimension instead of taking every position. Put `slice(None)` where `pos` or `head` is None.")
def none_as_an_index(model, corrupted, clean_cache, name, pos=None, head=None):
    def patch(x, hook):
        x = x.clone()
        if head is None:
            x[:, _all(pos)] = clean_cache[name][:, _all(pos)]
        else:
            x[:, pos, head] = clean_cache[name][:, pos, head]
        return x

    return model.run_with_hooks(corrupted, fwd_hooks=[(name, patch)])


@mistake("activation_patch", hint="All prompts get the first prompt's activation. Take each prompt's own: `clean_cache[name][:, ...]`.")
def the_first_prompts_activation(model, corrupted, clean_cache, name, pos=None, head=None):
    where = (slice(None), _all(pos), _all(head))
    return _replace(model, corrupted, name, clean_cache[name][:1][where], where)


@mistake("activation_patch", hint="Position and head are exchanged. An activation of heads is `[batch pos n_heads d_head]`.")
def pos_and_head_exchanged_in_heads(model, corrupted, clean_cache, name, pos=None, head=None):
    of_heads = clean_cache[name].ndim == 4
    p, h = (_all(head), _all(pos)) if of_heads else (_all(pos), slice(None))
    return _patch(model, corrupted, clean_cache, name, p, h)


@mistake("activation_patch", hint="You patch one position further on. Positions count <|bos|> already: use `pos` as it is.")
def patches_the_next_position(model, corrupted, clean_cache, name, pos=None, head=None):
    p = slice(None) if pos is None else min(pos + 1, corrupted.shape[1] - 1)
    return _patch(model, corrupted, clean_cache, name, p, _all(head))


@mistake("activation_patch", hint="All prompts get the mean of the clean activations. Take each prompt's own: `clean_cache[name][:, ...]`.")
def the_mean_clean_activation(model, corrupted, clean_cache, name, pos=None, head=None):
    where = (slice(None), _all(pos), _all(head))
    return _replace(model, corrupted, name, clean_cache[name].mean(0, keepdim=True)[where], where)


@mistake("activation_patch", hint="You return the logits of the last position alone. Keep all of them.")
def last_logits_of_the_patched_run(model, corrupted, clean_cache, name, pos=None, head=None):
    return _patch(model, corrupted, clean_cache, name, _all(pos), _all(head))[:, -1]


@mistake("activation_patch", hint="You return `(logits, cache)`, as `run_with_cache` does. Return the logits alone.")
def logits_and_cache_of_the_patched_run(model, corrupted, clean_cache, name, pos=None, head=None):
    def patch(x, hook):
        x = x.clone()
        where = (slice(None), _all(pos), _all(head))
        x[where] = clean_cache[name][where]
        return x

    with model.hooks([(name, patch)]):
        return model.run_with_cache(corrupted)


# patch_sweep --------------------------------------------------------------------------------


def _mean_diff(logits, right, wrong):
    return _picked(logits[:, -1], right, wrong).mean()


def _raw_sweep(model, into, source, kind, score, stream="resid_pre", only=None):
    """The score of every patched run `[n_layers cell]`, of `source`'s activations into `into`."""
    rows = []
    for layer in range(model.cfg.n_layers):
        name = get_act_name(stream if kind == "resid_pre" else kind, layer)
        new = _cached(model, source, name)
        n_cells = new.shape[1] if kind == "resid_pre" else new.shape[2]
        before = slice(None) if only is None else only
        places = [(slice(None), c) if kind == "resid_pre" else (slice(None), before, c) for c in range(n_cells)]
        rows.append(torch.stack([score(_replace(model, into, name, new[place], place)) for place in places]))
    return torch.stack(rows)


def _sweep(model, clean, corrupted, right, wrong, kind, **options):
    def score(logits):
        return _mean_diff(logits, right, wrong)

    at_clean, at_corrupted = score(model(clean)), score(model(corrupted))
    return (_raw_sweep(model, corrupted, clean, kind, score, **options) - at_corrupted) / (at_clean - at_corrupted)


@mistake("patch_sweep", hint="These are logit differences in nats. Put them on the scale on which the corrupted run is 0 and the clean one 1.")
def sweep_in_nats(model, clean, corrupted, right, wrong, kind):
    return _raw_sweep(model, corrupted, clean, kind, lambda logits: _mean_diff(logits, right, wrong))


@mistake("patch_sweep", hint="You subtract the corrupted run, but do not divide. Divide by clean minus corrupted, so that the clean run is 1.")
def sweep_above_the_corrupted_run(model, clean, corrupted, right, wrong, kind):
    raw = _raw_sweep(model, corrupted, clean, kind, lambda logits: _mean_diff(logits, right, wrong))
    return raw - _mean_diff(model(corrupted), right, wrong)


@mistake("patch_sweep", hint="You subtract the corrupted run above the line, and divide by the clean one alone. Divide by clean *minus corrupted*.")
def sweep_over_the_clean_run(model, clean, corrupted, right, wrong, kind):
    raw = _raw_sweep(model, corrupted, clean, kind, lambda logits: _mean_diff(logits, right, wrong))
    return (raw - _mean_diff(model(corrupted), right, wrong)) / _mean_diff(model(clean), right, wrong)


@mistake("patch_sweep", hint="Your scale is turned round: 0 is the corrupted run, 1 the clean one.")
def sweep_turned_round(model, clean, corrupted, right, wrong, kind):
    return 1 - _sweep(model, clean, corrupted, right, wrong, kind)


@mistake("patch_sweep", hint="You divide by the clean logit difference. Subtract the corrupted run's above and below the line.")
def divides_by_the_clean_run(model, clean, corrupted, right, wrong, kind):
    raw = _raw_sweep(model, corrupted, clean, kind, lambda logits: _mean_diff(logits, right, wrong))
    return raw / _mean_diff(model(clean), right, wrong)


@mistake("patch_sweep", hint="You put corrupted activations into the clean run (noising). Here clean ones go into the corrupted run.")
def noises(model, clean, corrupted, right, wrong, kind):
    return 1 - _sweep(model, corrupted, clean, right, wrong, kind)


@mistake("patch_sweep", hint="Clean and corrupted are exchanged: run over `corrupted`, take activations from `clean`, and let the corrupted run be 0.")
def clean_and_corrupted_exchanged(model, clean, corrupted, right, wrong, kind):
    return _sweep(model, corrupted, clean, right, wrong, kind)


@mistake("patch_sweep", hint="You scale each prompt by itself and then average. Average first: a prompt in which clean and corrupted hardly differ would divide by almost nothing.")
def scales_each_prompt(model, clean, corrupted, right, wrong, kind):
    a, b = (_picked(model(tokens)[:, -1], right, wrong) for tokens in (clean, corrupted))
    return _raw_sweep(
        model, corrupted, clean, kind, lambda logits: ((_picked(logits[:, -1], right, wrong) - b) / (a - b)).mean()
    )


@mistake("patch_sweep", hint="You patch the stream that *leaves* a layer, `resid_post`. The kind is `resid_pre`, the stream that enters it.")
def sweeps_resid_post(model, clean, corrupted, right, wrong, kind):
    return _sweep(model, clean, corrupted, right, wrong, kind, stream="resid_post")


@mistake("patch_sweep", hint="You patch a head's output at the last position alone. Kind `z` is one head at *all* positions.")
def heads_at_the_last_position(model, clean, corrupted, right, wrong, kind):
    return _sweep(model, clean, corrupted, right, wrong, kind, only=-1)


@mistake("patch_sweep", hint="For kind `z` the cells are heads, the *third* dimension of `[batch pos n_heads d_head]`. Yours are positions.")
def heads_taken_for_positions(model, clean, corrupted, right, wrong, kind):
    a, b = (_mean_diff(model(tokens), right, wrong) for tokens in (clean, corrupted))
    n_cells = clean.shape[1] if kind == "resid_pre" else model.cfg.n_heads
    rows = []
    for layer in range(model.cfg.n_layers):
        name = get_act_name(kind, layer)
        new = _cached(model, clean, name)
        runs = [_replace(model, corrupted, name, new[:, cell], (slice(None), cell)) for cell in range(n_cells)]
        rows.append(torch.stack([_mean_diff(run, right, wrong) for run in runs]))
    return (torch.stack(rows) - b) / (a - b)


@mistake("patch_sweep", hint="Rows are layers, columns positions or heads. Yours are exchanged.")
def sweep_transposed(model, clean, corrupted, right, wrong, kind):
    return _sweep(model, clean, corrupted, right, wrong, kind).T


@mistake("patch_sweep", hint="All cells of a row are the same: a hook made in a loop sees the loop's last position. Make it in a function that takes the position.")
def every_hook_sees_the_last_cell(model, clean, corrupted, right, wrong, kind):
    values = _sweep(model, clean, corrupted, right, wrong, kind)
    return values[:, -1:].expand_as(values)


@mistake("patch_sweep", hint="Your patches pile up: each run keeps those of the cells before it. Patch one cell at a time, with a new list of hooks for each run.")
def patches_pile_up(model, clean, corrupted, right, wrong, kind):
    a, b = (_mean_diff(model(tokens), right, wrong) for tokens in (clean, corrupted))
    rows = []
    for layer in range(model.cfg.n_layers):
        name = get_act_name(kind, layer)
        new = _cached(model, clean, name)
        n_cells = new.shape[1] if kind == "resid_pre" else new.shape[2]
        first = [(slice(None), slice(cell + 1)) if kind == "resid_pre" else (slice(None), slice(None), slice(cell + 1)) for cell in range(n_cells)]
        rows.append(torch.stack([_mean_diff(_replace(model, corrupted, name, new[where], where), right, wrong) for where in first]))
    return (torch.stack(rows) - b) / (a - b)


@mistake("patch_sweep", hint="You measure the probability of the right token. The scale is of logit differences: right minus wrong.")
def sweep_of_probabilities(model, clean, corrupted, right, wrong, kind):
    def score(logits):
        return logits[:, -1].softmax(-1).gather(1, right[:, None]).mean()

    a, b = score(model(clean)), score(model(corrupted))
    return (_raw_sweep(model, corrupted, clean, kind, score) - b) / (a - b)


@mistake("patch_sweep", hint="For the corrupted run you exchange right and wrong. They are the same in all runs: its difference is below 0.")
def answers_exchanged_in_the_corrupted_run(model, clean, corrupted, right, wrong, kind):
    def score(logits):
        return _mean_diff(logits, right, wrong)

    a, b = score(model(clean)), -score(model(corrupted))
    return (_raw_sweep(model, corrupted, clean, kind, score) - b) / (a - b)


@mistake("patch_sweep", hint="You measure the right token's logit alone. Subtract the wrong token's.")
def sweep_of_the_right_logit(model, clean, corrupted, right, wrong, kind):
    def score(logits):
        return logits[:, -1].gather(1, right[:, None]).mean()

    a, b = score(model(clean)), score(model(corrupted))
    return (_raw_sweep(model, corrupted, clean, kind, score) - b) / (a - b)


# overlooked_head ----------------------------------------------------------------------------


def _restored_and_written(model, clean, corrupted, right, wrong):
    """Of every head [n_layers n_heads]: the logit difference that its patch brings back, and by how much its direct
    contribution changes, in nats; and clean minus corrupted."""
    end, start = _ends(model, clean, corrupted, right, wrong)
    direction = (model.W_U[:, right] - model.W_U[:, wrong]).T
    names = [get_act_name("z", layer) for layer in range(model.cfg.n_layers)]
    changes = torch.stack([(_cached(model, clean, name) - _cached(model, corrupted, name))[:, -1] for name in names])
    written = torch.einsum("lbhe,lhed,bd->lh", changes, model.W_O, direction) / len(direction)
    return sweep(model, clean, corrupted, LogitDiff(right, wrong), "z") - start, written, end - start


def _largest(values):
    return divmod(int(values.argmax()), values.shape[1])


@mistake("overlooked_head", hint="This head restores most of all, but it writes the answer itself: the lens sees it very well. Leave out the heads whose direct contribution changes.")
def restores_most_of_all(model, clean, corrupted, right, wrong):
    return _largest(_restored_and_written(model, clean, corrupted, right, wrong)[0])


@mistake("overlooked_head", hint="This is a head whose direct contribution changes least. Many change next to nothing: among those, the one that restores most is asked for.")
def writes_least(model, clean, corrupted, right, wrong):
    return _largest(-_restored_and_written(model, clean, corrupted, right, wrong)[1].abs())


@mistake("overlooked_head", hint="This head's direct contribution changes a lot: the lens sees it best of all. Leave those out, and look among the others.")
def writes_most(model, clean, corrupted, right, wrong):
    return _largest(_restored_and_written(model, clean, corrupted, right, wrong)[1])


@mistake("overlooked_head", hint="Layer first, then head: return (layer, head).")
def head_before_layer(model, clean, corrupted, right, wrong):
    layer, head = overlooked_as_asked(model, clean, corrupted, right, wrong)
    return head, layer


def overlooked_as_asked(model, clean, corrupted, right, wrong):
    restored, written, span = _restored_and_written(model, clean, corrupted, right, wrong)
    return _largest(restored.masked_fill((written / span).abs() >= 0.05, -torch.inf))


@mistake("overlooked_head", hint="This is the head that restores *least* of those that write nothing. The one that restores most is asked for.")
def restores_least(model, clean, corrupted, right, wrong):
    restored, written, span = _restored_and_written(model, clean, corrupted, right, wrong)
    return _largest(-restored.masked_fill((written / span).abs() >= 0.05, torch.inf))


@mistake("overlooked_head", hint="Your answer is the head's number in the shipped model. Here its heads have other numbers: measure, with the model and the prompts that you are given.")
def known_by_heart(model, clean, corrupted, right, wrong):
    return 0, 4


@mistake("overlooked_head", hint="Counting from layer 1 on is one too many: the first layer is layer 0.")
def layers_counted_from_1(model, clean, corrupted, right, wrong):
    layer, head = overlooked_as_asked(model, clean, corrupted, right, wrong)
    return layer + 1, head


# ways_that_find -----------------------------------------------------------------------------


@mistake("ways_that_find", hint="In an \"or\" the other head is enough, in an \"and\" it is needed as well. So one head alone does not always change the outcome.")
def both_ways_always(circuit):
    return ["denoise", "noise"]


@mistake("ways_that_find", hint="Put the numbers in. \"or\": denoising gives a = 1, b = 0, and one is enough; noising gives a = 0, b = 1, and one is still there. You have \"or\" and \"and\" exchanged.")
def or_and_exchanged(circuit):
    return {"or": ["noise"], "and": ["denoise"]}.get(circuit, ["denoise", "noise"])


@mistake("ways_that_find", hint="Denoising puts one clean head into a corrupted run. An \"and\" needs both: nothing comes back.")
def denoising_always(circuit):
    return ["denoise"] if circuit != "sum" else ["denoise", "noise"]


@mistake("ways_that_find", hint="Noising takes one head out of a clean run. In an \"or\" the other one still gives the answer: nothing is lost.")
def noising_always(circuit):
    return ["noise"] if circuit != "sum" else ["denoise", "noise"]


@mistake("ways_that_find", hint="In a sum, each head brings half and takes half with it. Both ways change the outcome.")
def sums_show_nothing(circuit):
    return {"or": ["denoise"], "and": ["noise"]}.get(circuit, [])


@mistake("ways_that_find", hint="A change is a change: in a sum, denoising gives half and noising takes half. Both ways find the head.")
def sums_are_ors(circuit):
    return {"and": ["noise"]}.get(circuit, ["denoise"])


@mistake("ways_that_find", hint="In an \"or\", noising one head takes nothing away: the other one is enough.")
def both_ways_find_an_or(circuit):
    return ["noise"] if circuit == "and" else ["denoise", "noise"]


@mistake("ways_that_find", hint="In an \"and\", denoising one head brings nothing back: the other one is needed as well.")
def both_ways_find_an_and(circuit):
    return ["denoise"] if circuit == "or" else ["denoise", "noise"]


@mistake("ways_that_find", hint="In an \"and\", noising one head takes the answer away: both are needed.")
def nothing_finds_an_and(circuit):
    return {"or": ["denoise"], "and": []}.get(circuit, ["denoise", "noise"])


@mistake("ways_that_find", hint="In an \"or\", denoising one head brings the answer back: one is enough.")
def nothing_finds_an_or(circuit):
    return {"or": [], "and": ["noise"]}.get(circuit, ["denoise", "noise"])


# Part 2: connections ------------------------------------------------------------------------

_QKV = ("q", "k", "v")


def _differences(logits, right, wrong):
    n = torch.arange(len(logits))
    return logits[n, -1, right] - logits[n, -1, wrong]


def _ends(model, clean, corrupted, right, wrong):
    return tuple(_differences(model(x), right, wrong).mean() for x in (clean, corrupted))


def _put(name, new, where):
    """A hook that puts part of another activation in, as a pair for run_with_hooks."""

    def hook_fn(x, hook):
        x = x.clone()
        x[where] = new[where]
        return x

    return name, hook_fn


# input_that_lights_up -----------------------------------------------------------------------


@mistake("input_that_lights_up", hint="K-composition is what `swap_first` shows. The other two changes ask other questions: which is about what stands at the place, and which about what is looked for?")
def always_the_keys(change):
    return "k"


@mistake("input_that_lights_up", hint="The values are what is fetched. If a name's second half stands where it stood, the same is fetched there; only which place is looked at has changed.")
def always_the_values(change):
    return "v"


@mistake("input_that_lights_up", hint="The last token, which asks, is the same in both texts unless it was changed: queries at the last position carry nothing of names that change places.")
def always_the_queries(change):
    return "q"


@mistake("input_that_lights_up", hint="You have exchanged the two kinds of halves. A place is found (`k`) by what stood *before* it, the first half; what is fetched there (`v`) is the second half.")
def halves_exchanged(change):
    return {"swap_first": "v", "swap_second": "k", "new_query": "q"}[change]


@mistake("input_that_lights_up", hint="The new last token is what the head looks *with*: the query. Keys are computed where the names stand, and the names have not changed.")
def a_new_query_in_the_keys(change):
    return {"swap_first": "k", "swap_second": "v", "new_query": "k"}[change]


@mistake("input_that_lights_up", hint="The new last token changes what is looked *for*. What can be fetched at each place is the same in both texts: the names have not changed.")
def a_new_query_in_the_values(change):
    return {"swap_first": "k", "swap_second": "v", "new_query": "v"}[change]


@mistake("input_that_lights_up", hint="Exchanging the first halves leaves the last token alone, so what is looked for stays. What changes is what stands before each second half: how a place is found.")
def first_halves_in_the_queries(change):
    return {"swap_first": "q", "swap_second": "v", "new_query": "k"}[change]


@mistake("input_that_lights_up", hint="Exchanging the first halves leaves the last token alone, so what is looked for stays. What changes is what stands before each second half: how a place is found.")
def first_halves_in_the_queries_too(change):
    return {"swap_first": "q", "swap_second": "v", "new_query": "q"}[change]


@mistake("input_that_lights_up", hint="You have queries and values exchanged. The last token is what a head looks *with* (`q`); the second halves are what it fetches (`v`).")
def queries_and_values_exchanged(change):
    return {"swap_first": "k", "swap_second": "q", "new_query": "v"}[change]


# patch_qkv ----------------------------------------------------------------------------------


def _qkv(model, clean, corrupted, right, wrong, layer, pos=slice(None), all_heads=False, kinds="qkv", scaled=True):
    _, cache = model.run_with_cache(clean)
    end, start = _ends(model, clean, corrupted, right, wrong)
    rows = []
    for kind in kinds:
        name, row = get_act_name(kind, layer), []
        for head in range(model.cfg.n_heads):
            where = (slice(None), pos, slice(None) if all_heads else head)
            logits = model.run_with_hooks(corrupted, fwd_hooks=[_put(name, cache[name], where)])
            row.append(_differences(logits, right, wrong).mean())
        rows.append(row)
    values = torch.tensor(rows)
    return (values - start) / (end - start) if scaled else values


@mistake("patch_qkv", hint="You patch corrupted into clean. The run is over `corrupted`; the activation comes from `clean`.")
def noising(model, clean, corrupted, right, wrong, layer):
    return 1 - _qkv(model, corrupted, clean, right, wrong, layer)


@mistake("patch_qkv", hint="Clean and corrupted are exchanged: run over `corrupted`, take activations from `clean`, and let the corrupted run be 0.")
def qkv_of_exchanged_texts(model, clean, corrupted, right, wrong, layer):
    return _qkv(model, corrupted, clean, right, wrong, layer)


@mistake("patch_qkv", hint="Rows are q, k and v, columns are heads. Yours are exchanged.")
def qkv_transposed(model, clean, corrupted, right, wrong, layer):
    return _qkv(model, clean, corrupted, right, wrong, layer).T


@mistake("patch_qkv", hint="You patch the layer's heads all together, so every cell of a row is the same. One head at a time: `x[:, :, head]`.")
def all_heads_at_once(model, clean, corrupted, right, wrong, layer):
    return _qkv(model, clean, corrupted, right, wrong, layer, all_heads=True)


@mistake("patch_qkv", hint="You patch the last position alone. Keys and values stand at all positions: patch all of them.")
def last_position_alone(model, clean, corrupted, right, wrong, layer):
    return _qkv(model, clean, corrupted, right, wrong, layer, pos=-1)


@mistake("patch_qkv", hint="Rows in another order: queries are row 0, keys row 1, values row 2.")
def keys_first(model, clean, corrupted, right, wrong, layer):
    return _qkv(model, clean, corrupted, right, wrong, layer, kinds="kqv")


@mistake("patch_qkv", hint="These are logit differences. Put them on the scale from corrupted (0) to clean (1): subtract the corrupted mean, divide by clean minus corrupted.")
def not_normalised(model, clean, corrupted, right, wrong, layer):
    return _qkv(model, clean, corrupted, right, wrong, layer, scaled=False)


@mistake("patch_qkv", hint="You subtract the corrupted mean, but do not divide. Divide by clean minus corrupted, so that the clean run is 1.")
def above_the_corrupted_run(model, clean, corrupted, right, wrong, layer):
    start = _ends(model, clean, corrupted, right, wrong)[1]
    return _qkv(model, clean, corrupted, right, wrong, layer, scaled=False) - start


@mistake("patch_qkv", hint="You always patch layer 1. The layer is an argument: `get_act_name(kind, layer)`.")
def always_layer_1(model, clean, corrupted, right, wrong, layer):
    return _qkv(model, clean, corrupted, right, wrong, 1)


@mistake("patch_qkv", hint="You divide by the clean mean. The scale runs from the corrupted run to the clean one: divide by clean minus corrupted.")
def divided_by_clean(model, clean, corrupted, right, wrong, layer):
    end, start = _ends(model, clean, corrupted, right, wrong)
    return (_qkv(model, clean, corrupted, right, wrong, layer, scaled=False) - start) / end


@mistake("patch_qkv", hint="You normalise each prompt and then average. Average first: a prompt whose clean and corrupted runs hardly differ would divide by almost nothing.")
def normalised_by_prompt(model, clean, corrupted, right, wrong, layer):
    _, cache = model.run_with_cache(clean)
    end, start = (_differences(model(x), right, wrong) for x in (clean, corrupted))
    rows = []
    for kind in "qkv":
        name = get_act_name(kind, layer)
        runs = [
            model.run_with_hooks(corrupted, fwd_hooks=[_put(name, cache[name], (slice(None), slice(None), head))])
            for head in range(model.cfg.n_heads)
        ]
        rows.append([((_differences(logits, right, wrong) - start) / (end - start)).mean() for logits in runs])
    return torch.tensor(rows)


@mistake("patch_qkv", hint="You always patch layer 0. The layer is an argument: `get_act_name(kind, layer)`.")
def always_layer_0(model, clean, corrupted, right, wrong, layer):
    return _qkv(model, clean, corrupted, right, wrong, 0)


@mistake("patch_qkv", hint="The inputs pile up: q, then q and k, then q, k and v. Patch one at a time, with a new list of hooks for each run.")
def inputs_pile_up(model, clean, corrupted, right, wrong, layer):
    _, cache = model.run_with_cache(clean)
    end, start = _ends(model, clean, corrupted, right, wrong)
    rows = []
    for n in (1, 2, 3):
        row = []
        for head in range(model.cfg.n_heads):
            names = [get_act_name(kind, layer) for kind in "qkv"[:n]]
            hooks = [_put(name, cache[name], (slice(None), slice(None), head)) for name in names]
            row.append(_differences(model.run_with_hooks(corrupted, fwd_hooks=hooks), right, wrong).mean())
        rows.append(row)
    return (torch.tensor(rows) - start) / (end - start)


@mistake("patch_qkv", hint="You look at the first prompt alone. Take the mean logit difference over all of them.")
def qkv_of_the_first_prompt(model, clean, corrupted, right, wrong, layer):
    return _qkv(model, clean[:1], corrupted[:1], right[:1], wrong[:1], layer)


@mistake("patch_qkv", hint="You always patch the last layer. The layer is an argument: `get_act_name(kind, layer)`.")
def always_the_last_layer(model, clean, corrupted, right, wrong, layer):
    return _qkv(model, clean, corrupted, right, wrong, model.cfg.n_layers - 1)


@mistake("patch_qkv", hint="You patch that head in every layer. Patch it in `layer` alone: `get_act_name(kind, layer)`.")
def patches_every_layer(model, clean, corrupted, right, wrong, layer):
    _, cache = model.run_with_cache(clean)
    end, start = _ends(model, clean, corrupted, right, wrong)
    rows = []
    for kind in "qkv":
        names, row = [get_act_name(kind, i) for i in range(model.cfg.n_layers)], []
        for head in range(model.cfg.n_heads):
            hooks = [_put(name, cache[name], (slice(None), slice(None), head)) for name in names]
            row.append(_differences(model.run_with_hooks(corrupted, fwd_hooks=hooks), right, wrong).mean())
        rows.append(row)
    return (torch.tensor(rows) - start) / (end - start)


# attribution_patch --------------------------------------------------------------------------


def _attribution(model, clean, corrupted, right, wrong, multiply=None, at=None, loss=None, dims=(0, -1)):
    names = [get_act_name(kind, layer) for layer in range(model.cfg.n_layers) for kind in ("resid_pre", *_QKV, "z")]
    source, other = (model.run_with_cache(x, names_filter=names)[1] for x in (clean, corrupted))
    seen = {}

    def keep(x, hook):
        seen[hook.name] = x.requires_grad_()

    logits = model.run_with_hooks(corrupted if at is None else at, fwd_hooks=[(name, keep) for name in names])
    value = _differences(logits, right, wrong).mean() if loss is None else loss(logits)
    slopes = torch.autograd.grad(value, [seen[name] for name in names])
    multiply = multiply or (lambda a, b: a - b)
    return {
        name: (multiply(source[name], other[name]) * slope).sum(dims)
        for name, slope in zip(names, slopes, strict=True)
    }


@mistake("attribution_patch", hint="Your gradient is that of the clean run. We patch into the corrupted run, so the slope is wanted there.")
def gradient_of_the_clean_run(model, clean, corrupted, right, wrong):
    return _attribution(model, clean, corrupted, right, wrong, at=clean)


@mistake("attribution_patch", hint="The sign is turned: patching goes from corrupted to clean, so the change is clean minus corrupted.")
def corrupted_minus_clean(model, clean, corrupted, right, wrong):
    return _attribution(model, clean, corrupted, right, wrong, multiply=lambda a, b: b - a)


@mistake("attribution_patch", hint="Clean and corrupted are exchanged: the gradient is taken in the corrupted run, and the change is clean minus corrupted.")
def texts_exchanged_for_attribution(model, clean, corrupted, right, wrong):
    return _attribution(model, corrupted, clean, right, wrong)


@mistake("attribution_patch", hint="The last dimension is still there: sum over the prompts *and* over the dimensions of each vector.")
def keeps_the_dimensions(model, clean, corrupted, right, wrong):
    return _attribution(model, clean, corrupted, right, wrong, dims=0)


@mistake("attribution_patch", hint="You multiply the gradient by the clean activation. What a patch changes is the *difference*: clean minus corrupted.")
def clean_times_gradient(model, clean, corrupted, right, wrong):
    return _attribution(model, clean, corrupted, right, wrong, multiply=lambda a, b: a)


@mistake("attribution_patch", hint="You multiply the gradient by the corrupted activation, which says what removing it would do. Patching changes it to the clean one: multiply by clean minus corrupted.")
def corrupted_times_gradient(model, clean, corrupted, right, wrong):
    return _attribution(model, clean, corrupted, right, wrong, multiply=lambda a, b: b)


@mistake("attribution_patch", hint="Your estimates are for the sum over prompts. The metric is the mean logit difference: take the gradient of the mean.")
def gradient_of_the_sum(model, clean, corrupted, right, wrong):
    return _attribution(
        model, clean, corrupted, right, wrong, loss=lambda logits: _differences(logits, right, wrong).sum()
    )


@mistake("attribution_patch", hint="You divide by the number of prompts twice: the gradient of a mean has it already. Sum the products over the prompts.")
def mean_of_the_mean(model, clean, corrupted, right, wrong):
    found = _attribution(model, clean, corrupted, right, wrong)
    return {name: x / len(clean) for name, x in found.items()}


@mistake("attribution_patch", hint="Your metric is the right token's logit alone. It is the difference of the right and the wrong one.")
def right_logit_alone(model, clean, corrupted, right, wrong):
    rows = torch.arange(len(right))
    return _attribution(
        model, clean, corrupted, right, wrong, loss=lambda logits: logits[rows, -1, right].mean()
    )


@mistake("attribution_patch", hint="The prompts are still there: sum over them too, so that `resid_pre` is `[pos]` and the others are `[pos n_heads]`.")
def keeps_the_prompts(model, clean, corrupted, right, wrong):
    return _attribution(model, clean, corrupted, right, wrong, dims=(-1,))


@mistake("attribution_patch", hint="These are shares of clean minus corrupted. Give nats: do not normalise.")
def in_shares(model, clean, corrupted, right, wrong):
    end, start = _ends(model, clean, corrupted, right, wrong)
    found = _attribution(model, clean, corrupted, right, wrong)
    return {name: x / (end - start).detach() for name, x in found.items()}


@mistake("attribution_patch", hint="Your hooks put copies in (`detach`), which cuts the graph: what lies below gets no gradient through later layers. Let the hook call `x.requires_grad_()` and return nothing.")
def cuts_the_graph(model, clean, corrupted, right, wrong):
    names = [get_act_name(kind, layer) for layer in range(model.cfg.n_layers) for kind in ("resid_pre", *_QKV, "z")]
    source, seen = model.run_with_cache(clean, names_filter=names)[1], {}

    def keep(x, hook):
        seen[hook.name] = x.detach().clone().requires_grad_()
        return seen[hook.name]

    logits = model.run_with_hooks(corrupted, fwd_hooks=[(name, keep) for name in names])
    slopes = torch.autograd.grad(_differences(logits, right, wrong).mean(), list(seen.values()), allow_unused=True)
    return {
        name: ((source[name] - x) * (torch.zeros_like(x) if slope is None else slope)).sum((0, -1)).detach()
        for (name, x), slope in zip(seen.items(), slopes, strict=True)
    }


@mistake("attribution_patch", hint="You multiply the length of the change by the length of the gradient. Multiply entry by entry and add up: a change across the gradient does nothing.")
def lengths_multiplied(model, clean, corrupted, right, wrong):
    names = [get_act_name(kind, layer) for layer in range(model.cfg.n_layers) for kind in ("resid_pre", *_QKV, "z")]
    source, seen = model.run_with_cache(clean, names_filter=names)[1], {}

    def keep(x, hook):
        seen[hook.name] = x.requires_grad_()

    logits = model.run_with_hooks(corrupted, fwd_hooks=[(name, keep) for name in names])
    slopes = torch.autograd.grad(_differences(logits, right, wrong).mean(), list(seen.values()))
    return {
        name: ((source[name] - x).norm(dim=-1) * slope.norm(dim=-1)).sum(0).detach()
        for (name, x), slope in zip(seen.items(), slopes, strict=True)
    }


@mistake("attribution_patch", hint="You add up over the positions, too. Keep them: `resid_pre` is `[pos]`, the others are `[pos n_heads]`.")
def sums_over_positions(model, clean, corrupted, right, wrong):
    return _attribution(model, clean, corrupted, right, wrong, dims=(0, 1, -1))


@mistake("attribution_patch", hint="You take absolute values. A patch can push either way: keep the sign.")
def attribution_without_sign(model, clean, corrupted, right, wrong):
    return {name: x.abs() for name, x in _attribution(model, clean, corrupted, right, wrong).items()}


@mistake("attribution_patch", hint="Your keys are pairs, such as `(\"z\", 0)`. The keys are the full names: `get_act_name(\"z\", 0)`.")
def short_keys(model, clean, corrupted, right, wrong):
    found = _attribution(model, clean, corrupted, right, wrong)
    kinds = [(kind, layer) for layer in range(model.cfg.n_layers) for kind in ("resid_pre", *_QKV, "z")]
    return {at: found[get_act_name(*at)].detach() for at in kinds}


@mistake("attribution_patch", hint="The tensors of a cache are copies outside the graph, so there is no gradient for them. Call `x.requires_grad_()` in a hook, on the activation itself.")
def gradient_of_cached_tensors(model, clean, corrupted, right, wrong):
    names = [get_act_name(kind, layer) for layer in range(model.cfg.n_layers) for kind in ("resid_pre", *_QKV, "z")]
    logits, cache = model.run_with_cache(corrupted, names_filter=names)
    return torch.autograd.grad(_differences(logits, right, wrong).mean(), [cache[name].requires_grad_() for name in names])


# k_fix --------------------------------------------------------------------------------------


def _k_fix(
    model, clean, corrupted, right, wrong, scale=None, at=None, sign=1, together=False, own_place=False, queries=None, wrt="pattern",
):
    """Estimates for keys with an exact softmax; each argument spoils one thing."""
    layers = range(model.cfg.n_layers)
    names = [get_act_name(kind, layer) for layer in layers for kind in (*_QKV, "attn_scores", "pattern")]
    source, seen = model.run_with_cache(clean, names_filter=names)[1], {}
    asked = source if queries is None else model.run_with_cache(queries, names_filter=names)[1]

    def keep(x, hook):
        seen[hook.name] = x.requires_grad_()

    logits = model.run_with_hooks(corrupted if at is None else at, fwd_hooks=[(name, keep) for name in names])
    slopes = torch.autograd.grad(
        _differences(logits, right, wrong).mean(), [seen[get_act_name(wrt, layer)] for layer in layers]
    )
    found = {}
    for layer, slope in zip(layers, slopes, strict=True):
        q, k, scores, pattern = (seen[get_act_name(x, layer)].detach() for x in ("q", "k", "attn_scores", "pattern"))
        q = q if queries is None else asked["q", layer]
        added = sign * torch.einsum("bdhe,bshe->bhds", q, source["k", layer] - k)
        added = added / (model.cfg.d_head**0.5 if scale is None else scale)
        rows = []
        for place in range(clean.shape[1]):
            new = scores.clone()
            which = slice(None) if together else slice(place, place + 1)
            new[..., which] += added[..., which]
            moved = (new.softmax(-1) - pattern) * slope
            if own_place or together:
                moved = moved[..., place : place + 1]
            rows.append(moved.sum((0, 2, 3)))
        found[get_act_name("k", layer)] = torch.stack(rows)
    return found


@mistake("k_fix", hint="These are the estimates of `attribution_patch`: slopes of the scores. Compute the softmax again for each patched key, and take the gradient behind it, with respect to `pattern`.")
def slopes_of_the_keys(model, clean, corrupted, right, wrong):
    found = _attribution(model, clean, corrupted, right, wrong)
    return {name: x for name, x in found.items() if name.endswith("_k")}


@mistake("k_fix", hint="Scores are divided by the root of d_head: so is what the patch adds to them.")
def without_the_root(model, clean, corrupted, right, wrong):
    return _k_fix(model, clean, corrupted, right, wrong, scale=1.0)


@mistake("k_fix", hint="The sign is turned: the patched key is the clean one, so the scores gain q times (clean minus corrupted key).")
def key_change_turned(model, clean, corrupted, right, wrong):
    return _k_fix(model, clean, corrupted, right, wrong, sign=-1)


@mistake("k_fix", hint="You patch the keys of all places at once. Each estimate is for one key, with all others as they are in the corrupted run.")
def all_keys_at_once(model, clean, corrupted, right, wrong):
    return _k_fix(model, clean, corrupted, right, wrong, together=True)


@mistake("k_fix", hint="Only the weight on the patched place counts here. When it grows, the weights on all other places shrink: sum over all sources.")
def only_the_weight_on_the_place(model, clean, corrupted, right, wrong):
    return _k_fix(model, clean, corrupted, right, wrong, own_place=True)


@mistake("k_fix", hint="You use the clean run's queries. Only the key is patched: the queries are those of the corrupted run.")
def queries_of_the_clean_run(model, clean, corrupted, right, wrong):
    return _k_fix(model, clean, corrupted, right, wrong, queries=clean)


@mistake("k_fix", hint="Your gradient is with respect to the scores, which has the softmax in it already, at its slope. Take it with respect to `pattern`.")
def gradient_of_the_scores(model, clean, corrupted, right, wrong):
    return _k_fix(model, clean, corrupted, right, wrong, wrt="attn_scores")


@mistake("k_fix", hint="Clean and corrupted are exchanged: the run, its scores and its gradient are the corrupted one's, and the key comes from the clean one.")
def texts_exchanged_for_keys(model, clean, corrupted, right, wrong):
    return _k_fix(model, corrupted, clean, right, wrong)


@mistake("k_fix", hint="You divide by the number of prompts twice: the gradient of a mean has it already. Sum over the prompts.")
def keys_mean_of_the_mean(model, clean, corrupted, right, wrong):
    return {name: x / len(clean) for name, x in _k_fix(model, clean, corrupted, right, wrong).items()}


@mistake("k_fix", hint="These are shares of clean minus corrupted. Give nats: do not normalise.")
def keys_in_shares(model, clean, corrupted, right, wrong):
    end, start = _ends(model, clean, corrupted, right, wrong)
    return {name: x / (end - start).detach() for name, x in _k_fix(model, clean, corrupted, right, wrong).items()}


# where_attribution_fails --------------------------------------------------------------------


@mistake("where_attribution_fails", hint="At `C` and `D` the estimate is a little too high, not too low. Compare the numbers at the other two.")
def where_it_is_too_high():
    return [(0, 15), (1, 16)]


@mistake("where_attribution_fails", hint="You list every patch that matters. Keep those whose estimate is less than half of the exact effect.")
def all_that_matter():
    return [(0, 12), (0, 15), (1, 13), (1, 16)]


@mistake("where_attribution_fails", hint="It fails in layer 0, but not only there: follow the same message one layer on, to where 0.4 has put it.")
def only_the_early_stream():
    return [(0, 12)]


@mistake("where_attribution_fails", hint="In layer 1, yes. The same message fails where it starts, too: at `A` in layer 0.")
def only_the_late_stream():
    return [(1, 13)]


@mistake("where_attribution_fails", hint="Pairs are `(layer, position)`, in this order.")
def position_first():
    return [(12, 0), (13, 1)]


@mistake("where_attribution_fails", hint="Positions count `<|bos|>`, which is position 0. Yours are one too low.")
def without_bos():
    return [(0, 11), (1, 12)]


@mistake("where_attribution_fails", hint="In layer 1 the message of `A` no longer stands at `A`: head 0.4 has moved it one position on.")
def the_same_position_in_both_layers():
    return [(0, 12), (1, 12)]


@mistake("where_attribution_fails", hint="Positions count from 0, and `<|bos|>` is position 0. Yours are one too high.")
def positions_one_too_high():
    return [(0, 13), (1, 14)]


@mistake("where_attribution_fails", hint="In layer 0 the message of `A` still stands at `A` itself, one position before.")
def the_later_position_in_both_layers():
    return [(0, 13), (1, 13)]


@mistake("where_attribution_fails", hint="At the end, where `A` stands again, both texts are the same: nothing is patched there.")
def the_last_position_too():
    return [(0, 12), (0, 23), (1, 13)]


# estimate_over_exact ------------------------------------------------------------------------


def _margin(p):
    return math.log(p / (1 - p))


@mistake("estimate_over_exact", hint="You take the slope at `after`. The gradient is that of the corrupted run: at `before`.")
def slope_at_the_end(before, after):
    return after * (1 - after) * (_margin(after) - _margin(before)) / (after - before)


@mistake("estimate_over_exact", hint="Turned over: the estimate goes above the line, the exact change below.")
def exact_over_estimate(before, after):
    return (after - before) / (before * (1 - before) * (_margin(after) - _margin(before)))


@mistake("estimate_over_exact", hint="The slope multiplies the change of the *margin*. You multiply it by the change of the weight, so that this cancels and only the slope is left.")
def slope_alone(before, after):
    return before * (1 - before)


@mistake("estimate_over_exact", hint="The change of the margin is missing: a prediction is the slope *times* how far the margin moves.")
def margin_forgotten(before, after):
    return before * (1 - before) / (after - before)


@mistake("estimate_over_exact", hint="The logarithm of a weight is not its score's margin: the weights of all other places share the rest, 1 - p. Use log(p / (1 - p)).")
def log_weights_for_margins(before, after):
    return before * (1 - before) * (math.log(after) - math.log(before)) / (after - before)


@mistake("estimate_over_exact", hint="The slope of p by its margin is p (1 - p): the factor 1 - p is missing.")
def slope_without_its_second_factor(before, after):
    return before * (_margin(after) - _margin(before)) / (after - before)


@mistake("estimate_over_exact", hint="This is the slope half-way between the two. The gradient knows only where it starts: at `before`.")
def slope_in_the_middle(before, after):
    p = (before + after) / 2
    return p * (1 - p) * (_margin(after) - _margin(before)) / (after - before)


@mistake("estimate_over_exact", hint="The sign: both changes, of the margin and of the weight, are after minus before.")
def sign_of_the_margin(before, after):
    return before * (1 - before) * (_margin(before) - _margin(after)) / (after - before)


def _estimate(before, after):
    return before * (1 - before) * (_margin(after) - _margin(before))


@mistake("estimate_over_exact", hint="This is estimate *minus* exact. Divide the one by the other.")
def estimate_minus_exact(before, after):
    return _estimate(before, after) - (after - before)


@mistake("estimate_over_exact", hint="This is the relative error, (estimate - exact) / exact. Asked is estimate / exact, which is 1 where both agree.")
def relative_error(before, after):
    return _estimate(before, after) / (after - before) - 1


@mistake("estimate_over_exact", hint="The margin is in natural logarithms, `math.log`. You take base 10.")
def logarithms_to_base_10(before, after):
    return _estimate(before, after) / (after - before) / math.log(10)


@mistake("estimate_over_exact", hint="The margin is in natural logarithms, `math.log`. You take base 2.")
def logarithms_to_base_2(before, after):
    return _estimate(before, after) / (after - before) / math.log(2)


@mistake("estimate_over_exact", hint="You average the slopes at both ends. The gradient knows only where it starts: at `before`.")
def mean_of_both_slopes(before, after):
    slope = (before * (1 - before) + after * (1 - after)) / 2
    return slope * (_margin(after) - _margin(before)) / (after - before)


@mistake("estimate_over_exact", hint="One of the two changes has lost its sign and the other has not, so the ratio comes out negative where the weight falls. Leave out `abs`.")
def estimate_without_sign(before, after):
    return abs(_estimate(before, after)) / (after - before)


# causal_trace -------------------------------------------------------------------------------


def _trace(model, tokens, subject_positions, noise, answer, kind="resid_pre", noisy=True, value=None, keep_noise=True):
    rows = torch.arange(len(answer))
    value = value or (lambda logits: logits[:, -1].softmax(-1)[rows, answer])
    logits, cache = model.run_with_cache(tokens)

    def add(x, hook):
        x = x.clone()
        if keep_noise:
            x[:, subject_positions] += noise
        else:
            x[:, subject_positions] = noise
        return x

    noise_hook = [("hook_embed", add)]
    corrupted = model.run_with_hooks(tokens, fwd_hooks=noise_hook)
    n_layers, n_pos = model.cfg.n_layers, tokens.shape[1]
    cells = torch.zeros(n_layers, n_pos)
    for layer in range(n_layers):
        for pos in range(n_pos):
            name = get_act_name(kind, layer)
            hooks = noise_hook * noisy + [_put(name, cache[name], (slice(None), pos))]
            cells[layer, pos] = value(model.run_with_hooks(tokens, fwd_hooks=hooks)).mean()
    return value(logits), value(corrupted), cells


@mistake("causal_trace", hint="Your restored runs are all clean: either they have no noise, or you restore the stream at every position. Give each both hooks, and restore one position of one layer.")
def restores_without_noise(model, tokens, subject_positions, noise, answer):
    return _trace(model, tokens, subject_positions, noise, answer, noisy=False)


@mistake("causal_trace", hint="Only the first subject position gets noise. `noise[:, i]` belongs to `subject_positions[i]`, for every i.")
def noise_on_the_first_position(model, tokens, subject_positions, noise, answer):
    return _trace(model, tokens, subject_positions[:1], noise[:, :1], answer)


@mistake("causal_trace", hint="All subject positions get the same noise, `noise[:, 0]`. Each has its own: `noise[:, i]`.")
def one_noise_for_all_positions(model, tokens, subject_positions, noise, answer):
    return _trace(model, tokens, subject_positions, noise[:, :1], answer)


@mistake("causal_trace", hint="All prompts get the noise of the first one. Each has its own row of `noise`.")
def one_noise_for_all_prompts(model, tokens, subject_positions, noise, answer):
    return _trace(model, tokens, subject_positions, noise[:1], answer)


@mistake("causal_trace", hint="You put the map on the scale from corrupted to clean. Here the plain mean probabilities are wanted.")
def normalised_map(model, tokens, subject_positions, noise, answer):
    clean, corrupted, cells = _trace(model, tokens, subject_positions, noise, answer)
    return clean, corrupted, (cells - corrupted.mean()) / (clean.mean() - corrupted.mean())


@mistake("causal_trace", hint="The map is all zeros: put the mean probability of each restored run into its cell `[layer, pos]`.")
def empty_map(model, tokens, subject_positions, noise, answer):
    clean, corrupted, cells = _trace(model, tokens, subject_positions, noise, answer)
    return clean, corrupted, torch.zeros_like(cells)


@mistake("causal_trace", hint="You restore the stream that *leaves* a layer. Row `layer` is for the stream that enters it: `resid_pre`.")
def restores_what_leaves(model, tokens, subject_positions, noise, answer):
    return _trace(model, tokens, subject_positions, noise, answer, kind="resid_post")


@mistake("causal_trace", hint="You restore what attention adds. The stream itself is `resid_pre`.")
def restores_what_attention_adds(model, tokens, subject_positions, noise, answer):
    return _trace(model, tokens, subject_positions, noise, answer, kind="attn_out")


@mistake("causal_trace", hint="These are logits; the probability of the answer is wanted (softmax over the vocabulary).")
def logits_for_probabilities(model, tokens, subject_positions, noise, answer):
    rows = torch.arange(len(answer))
    return _trace(model, tokens, subject_positions, noise, answer, value=lambda x: x[rows, -1, answer])


@mistake("causal_trace", hint="These are log-probabilities; probabilities are wanted.")
def log_probabilities(model, tokens, subject_positions, noise, answer):
    rows = torch.arange(len(answer))
    return _trace(
        model, tokens, subject_positions, noise, answer, value=lambda x: x[:, -1].log_softmax(-1)[rows, answer]
    )


@mistake("causal_trace", hint="Rows are layers, columns positions. Your map has them exchanged.")
def map_transposed(model, tokens, subject_positions, noise, answer):
    clean, corrupted, cells = _trace(model, tokens, subject_positions, noise, answer)
    return clean, corrupted, cells.T


@mistake("causal_trace", hint="You put the noise in the embedding's place. Add it to the embedding.")
def noise_instead_of_the_embedding(model, tokens, subject_positions, noise, answer):
    return _trace(model, tokens, subject_positions, noise, answer, keep_noise=False)


@mistake("causal_trace", hint="The softmax runs over positions here. It belongs over the vocabulary, at the last position.")
def softmax_over_positions(model, tokens, subject_positions, noise, answer):
    rows = torch.arange(len(answer))
    return _trace(
        model, tokens, subject_positions, noise, answer, value=lambda x: x.softmax(1)[rows, -1, answer]
    )


@mistake("causal_trace", hint="The noise is given as it is to be used: `noise[:, i]` is for `subject_positions[i]`. You sort the positions and mix the two up.")
def sorts_the_positions(model, tokens, subject_positions, noise, answer):
    return _trace(model, tokens, sorted(subject_positions), noise, answer)


@mistake("causal_trace", hint="The restored value comes from the noisy run. It must come from the clean one; then it repairs something.")
def restores_noise(model, tokens, subject_positions, noise, answer):
    clean, corrupted, cells = _trace(model, tokens, subject_positions, noise, answer)
    return clean, corrupted, corrupted.mean().expand_as(cells)


@mistake("causal_trace", hint="You put noisy vectors into the clean run. It is the other way round: run with noise, and restore one vector from the clean run.")
def noises_the_clean_run(model, tokens, subject_positions, noise, answer):
    clean, corrupted, cells = _trace(model, tokens, subject_positions, noise, answer)
    noisy = [("hook_embed", lambda x, hook: _with_noise(x, subject_positions, noise))]
    with model.hooks(noisy):
        _, cache = model.run_with_cache(tokens)
    rows = torch.arange(len(answer))
    for layer in range(cells.shape[0]):
        name = get_act_name("resid_pre", layer)
        for pos in range(cells.shape[1]):
            logits = model.run_with_hooks(tokens, fwd_hooks=[_put(name, cache[name], (slice(None), pos))])
            cells[layer, pos] = logits[:, -1].softmax(-1)[rows, answer].mean()
    return clean, corrupted, cells


def _with_noise(x, subject_positions, noise):
    x = x.clone()
    x[:, subject_positions] += noise
    return x


@mistake("causal_trace", hint="You scale the noise. It is given as it is to be added.")
def scales_the_noise(model, tokens, subject_positions, noise, answer):
    return _trace(model, tokens, subject_positions, 3 * model.W_E.std() * noise, answer)


def _trace_by(model, tokens, answer, noise_hooks, part):
    """The trace with these hooks for the noise, that restores a part of the positions for each one."""
    rows = torch.arange(len(answer))

    def value(logits):
        return logits[:, -1].softmax(-1)[rows, answer]

    logits, cache = model.run_with_cache(tokens)
    cells = torch.zeros(model.cfg.n_layers, tokens.shape[1])
    for layer in range(cells.shape[0]):
        name = get_act_name("resid_pre", layer)
        for pos in range(cells.shape[1]):
            hooks = [*noise_hooks, _put(name, cache[name], (slice(None), part(pos)))]
            cells[layer, pos] = value(model.run_with_hooks(tokens, fwd_hooks=hooks)).mean()
    return value(logits), value(model.run_with_hooks(tokens, fwd_hooks=noise_hooks)), cells


@mistake("causal_trace", hint="You restore this position and all after it. Restore one position of one layer.")
def restores_from_the_position_on(model, tokens, subject_positions, noise, answer):
    noisy = [("hook_embed", lambda x, hook: _with_noise(x, subject_positions, noise))]
    return _trace_by(model, tokens, answer, noisy, lambda pos: slice(pos, None))


@mistake("causal_trace", hint="You add noise in every layer. Only the embedding gets noise: `hook_embed`.")
def noise_in_every_layer(model, tokens, subject_positions, noise, answer):
    names = [get_act_name("resid_pre", layer) for layer in range(model.cfg.n_layers)]
    noisy = [(name, lambda x, hook: _with_noise(x, subject_positions, noise)) for name in names]
    return _trace_by(model, tokens, answer, noisy, lambda pos: pos)


@mistake("causal_trace", hint="The probabilities are averaged over the prompts. Give the clean and the corrupted one for each prompt, `[batch]`; only the map is of means.")
def averages_the_probabilities(model, tokens, subject_positions, noise, answer):
    clean, corrupted, cells = _trace(model, tokens, subject_positions, noise, answer)
    return clean.mean(), corrupted.mean(), cells


@mistake("causal_trace", hint="The map holds the subject's positions only, and is 0 elsewhere. Restore every position in turn.")
def maps_the_subject_only(model, tokens, subject_positions, noise, answer):
    clean, corrupted, cells = _trace(model, tokens, subject_positions, noise, answer)
    of_subject = torch.zeros_like(cells)
    of_subject[:, subject_positions] = cells[:, subject_positions]
    return clean, corrupted, of_subject


@mistake("causal_trace", hint="The noise goes to neighbours of the first subject position. The positions need not be neighbours: `x[:, subject_positions] += noise`.")
def noise_on_neighbours(model, tokens, subject_positions, noise, answer):
    first = subject_positions[0]
    return _trace(model, tokens, list(range(first, first + noise.shape[1])), noise, answer)


@mistake("causal_trace", hint="In layer 0 the noise comes after what you restore, so the restored vector gets noise as well. Add the noise at `hook_embed`, and restore at `resid_pre`.")
def noise_after_restoring(model, tokens, subject_positions, noise, answer):
    rows = torch.arange(len(answer))
    clean, corrupted, cells = _trace(model, tokens, subject_positions, noise, answer)
    name = get_act_name("resid_pre", 0)
    _, cache = model.run_with_cache(tokens, names_filter=name)
    for pos in range(cells.shape[1]):
        hooks = [_put(name, cache[name], (slice(None), pos)), (name, lambda x, hook: _with_noise(x, subject_positions, noise))]
        cells[0, pos] = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1].softmax(-1)[rows, answer].mean()
    return clean, corrupted, cells


def _trace_layers(model, tokens, subject_positions, noise, answer, layers):
    """The trace in which a position is restored in several layers at once: in `layers(layer)`."""
    rows = torch.arange(len(answer))
    clean, corrupted, cells = _trace(model, tokens, subject_positions, noise, answer)
    _, cache = model.run_with_cache(tokens)
    for layer in range(cells.shape[0]):
        names = [get_act_name("resid_pre", i) for i in layers(layer)]
        for pos in range(cells.shape[1]):
            hooks = [("hook_embed", lambda x, hook: _with_noise(x, subject_positions, noise))]
            hooks += [_put(name, cache[name], (slice(None), pos)) for name in names]
            cells[layer, pos] = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1].softmax(-1)[rows, answer].mean()
    return clean, corrupted, cells


@mistake("causal_trace", hint="You restore that position in this layer and in all later ones. Restore the one vector, and let the later layers run on with what they make of it.")
def restores_later_layers_too(model, tokens, subject_positions, noise, answer):
    later = lambda layer: range(layer, model.cfg.n_layers)
    return _trace_layers(model, tokens, subject_positions, noise, answer, later)


@mistake("causal_trace", hint="You restore that position in every layer up to this one. Restore the one vector that enters `layer`.")
def restores_earlier_layers_too(model, tokens, subject_positions, noise, answer):
    return _trace_layers(model, tokens, subject_positions, noise, answer, lambda layer: range(layer + 1))


# path_patch ---------------------------------------------------------------------------------


def _sent(model, clean, corrupted, sender):
    name = get_act_name("z", sender[0])
    new, old = (model.run_with_cache(x, names_filter=name)[1][name][:, :, sender[1]] for x in (clean, corrupted))
    return (new - old) @ model.W_O[sender]


def _receive(model, tokens, change, receiver, kinds=None, heads=None):
    layer, head, kind = receiver
    hooks = []
    for k in kinds or (kind,):
        W = getattr(model, f"W_{k.upper()}")[layer]

        def add(x, hook, W=W):
            x = x.clone()
            for h in range(model.cfg.n_heads) if heads == "all" else (head,):
                x[:, :, h] += change @ W[h]
            return x

        hooks.append((get_act_name(k, layer), add))
    return model.run_with_hooks(tokens, fwd_hooks=hooks)


@mistake("path_patch", hint="Heads between sender and receiver are free in your run: they see the clean sender and pass it on. They must say what they say in the corrupted run; in the direct path the stream changes by the sender's own change and nothing else.")
def heads_in_between_free(model, clean, corrupted, sender, receiver):
    z, name = get_act_name("z", sender[0]), get_act_name(receiver[2], receiver[0])
    _, cache = model.run_with_cache(clean, names_filter=z)
    with model.hooks([_put(z, cache[z], (slice(None), slice(None), sender[1]))]):
        _, reached = model.run_with_cache(corrupted, names_filter=name)
    where = (slice(None), slice(None), receiver[1])
    return model.run_with_hooks(corrupted, fwd_hooks=[_put(name, reached[name], where)])


@mistake("path_patch", hint="You give the receiver all of its clean input. Only the sender's part of it may be clean.")
def whole_input_clean(model, clean, corrupted, sender, receiver):
    name = get_act_name(receiver[2], receiver[0])
    _, cache = model.run_with_cache(clean, names_filter=name)
    where = (slice(None), slice(None), receiver[1])
    return model.run_with_hooks(corrupted, fwd_hooks=[_put(name, cache[name], where)])


@mistake("path_patch", hint="You patch the sender's output for everyone. Only the receiver's one input may see it.")
def sender_for_everyone(model, clean, corrupted, sender, receiver):
    z = get_act_name("z", sender[0])
    _, cache = model.run_with_cache(clean, names_filter=z)
    return model.run_with_hooks(corrupted, fwd_hooks=[_put(z, cache[z], (slice(None), slice(None), sender[1]))])


@mistake("path_patch", hint="Roles exchanged: you run the clean text with a corrupted edge. Run `corrupted`; the edge is clean.")
def clean_run_with_a_corrupted_edge(model, clean, corrupted, sender, receiver):
    return _receive(model, clean, _sent(model, corrupted, clean, sender), receiver)


@mistake("path_patch", hint="You run the clean text and add the change there. Run `corrupted`: only the one edge is clean.")
def change_added_to_the_clean_run(model, clean, corrupted, sender, receiver):
    return _receive(model, clean, _sent(model, clean, corrupted, sender), receiver)


@mistake("path_patch", hint="The change takes the place of the receiver's whole input. It is one term of a sum: add it to what the receiver reads in the corrupted run (`+=`).")
def change_for_the_whole_input(model, clean, corrupted, sender, receiver):
    layer, head, kind = receiver
    new = _sent(model, clean, corrupted, sender) @ getattr(model, f"W_{kind.upper()}")[layer, head]
    return _replace(model, corrupted, get_act_name(kind, layer), new, (slice(None), slice(None), head))


@mistake("path_patch", hint="The change goes through `W_K` whatever the receiver's input. Queries read through `W_Q`, values through `W_V`.")
def always_by_the_key_weights(model, clean, corrupted, sender, receiver):
    layer, head, kind = receiver
    change = _sent(model, clean, corrupted, sender) @ model.W_K[layer, head]
    where = (slice(None), slice(None), head)
    return _replace(model, corrupted, get_act_name(kind, layer), lambda x: x[where] + change, where)


@mistake("path_patch", hint="What the receiver's weights make of the change is added to *every* head of its layer. It belongs to one: `x[:, :, receiver[1]]`.")
def one_heads_change_for_all(model, clean, corrupted, sender, receiver):
    layer, head, kind = receiver
    change = _sent(model, clean, corrupted, sender) @ getattr(model, f"W_{kind.upper()}")[layer, head]
    return _replace(model, corrupted, get_act_name(kind, layer), lambda x: x + change[:, :, None], ...)


@mistake("path_patch", hint="The sign is turned: the receiver's input changes by clean minus corrupted.")
def change_turned_round(model, clean, corrupted, sender, receiver):
    return _receive(model, corrupted, -_sent(model, clean, corrupted, sender), receiver)


@mistake("path_patch", hint="All three inputs of the receiver see the clean sender. Only the one that is named may: `receiver[2]`.")
def all_three_inputs(model, clean, corrupted, sender, receiver):
    return _receive(model, corrupted, _sent(model, clean, corrupted, sender), receiver, kinds=_QKV)


@mistake("path_patch", hint="All heads of the receiver's layer see the clean sender. Only one may: `x[:, :, receiver[1]]`.")
def all_heads_of_the_layer(model, clean, corrupted, sender, receiver):
    return _receive(model, corrupted, _sent(model, clean, corrupted, sender), receiver, heads="all")


@mistake("path_patch", hint="You add the clean output on top of the corrupted one. The receiver reads one *instead* of the other: add the difference.")
def adds_the_clean_output(model, clean, corrupted, sender, receiver):
    z = get_act_name("z", sender[0])
    out = model.run_with_cache(clean, names_filter=z)[1][z][:, :, sender[1]] @ model.W_O[sender]
    return _receive(model, corrupted, out, receiver)


@mistake("path_patch", hint="Behind the receiver everything is frozen in your run, as if its change went straight to the logits. Later layers must read it.")
def frozen_behind_the_receiver(model, clean, corrupted, sender, receiver):
    layer, head, _ = receiver
    zs = [get_act_name("z", i) for i in range(layer, model.cfg.n_layers)]
    logits, cache = model.run_with_cache(corrupted, names_filter=zs)
    seen = {}

    def keep(x, hook):
        seen["z"] = x[:, :, head]

    with model.hooks([(zs[0], keep)]):
        _receive(model, corrupted, _sent(model, clean, corrupted, sender), receiver)
    return logits + (seen["z"] - cache[zs[0]][:, :, head]) @ model.W_O[layer, head] @ model.W_U


@mistake("path_patch", hint="The receiver's change is made at the last position alone. Heads read at every position: add it at all of them.")
def change_at_the_last_position(model, clean, corrupted, sender, receiver):
    change = _sent(model, clean, corrupted, sender)
    change[:, :-1] = 0
    return _receive(model, corrupted, change, receiver)


@mistake("path_patch", hint="You take the sender's values, `v`. What a head sends is made of what it has collected by its attention: `z`.")
def sends_the_values(model, clean, corrupted, sender, receiver):
    name = get_act_name("v", sender[0])
    new, old = (_cached(model, x, name)[:, :, sender[1]] for x in (clean, corrupted))
    return _receive(model, corrupted, (new - old) @ model.W_O[sender], receiver)


@mistake("path_patch", hint="The receiver's weights are taken with the sender's head number. They are those of `receiver[1]`.")
def weights_of_the_senders_number(model, clean, corrupted, sender, receiver):
    layer, head, kind = receiver
    change = _sent(model, clean, corrupted, sender) @ getattr(model, f"W_{kind.upper()}")[layer, sender[1]]
    where = (slice(None), slice(None), head)
    return _replace(model, corrupted, get_act_name(kind, layer), lambda x: x[where] + change, where)


# edge_attribution ---------------------------------------------------------------------------


def _edges(
    model, clean, corrupted, right, wrong, at=None, batch_mean=True, same_layer=False, cut=False, pos=slice(None), read_by="QKV"
):
    cfg = model.cfg
    zs = [get_act_name("z", layer) for layer in range(cfg.n_layers)]
    inputs = [get_act_name(kind, layer) for layer in range(cfg.n_layers) for kind in "qkv"]
    new, old = (model.run_with_cache(x, names_filter=zs)[1] for x in (clean, corrupted))
    seen = {}

    def keep(x, hook):
        seen[hook.name] = x.detach().requires_grad_() if cut else x.requires_grad_()
        return seen[hook.name]

    logits = model.run_with_hooks(corrupted if at is None else at, fwd_hooks=[(name, keep) for name in inputs])
    value = _differences(logits, right, wrong).mean()
    slopes = dict(zip(inputs, torch.autograd.grad(value, [seen[name] for name in inputs], allow_unused=cut), strict=True))
    changes = {"embed": model.W_E[clean] - model.W_E[corrupted]}
    for layer, name in enumerate(zs):
        dz = new[name] - old[name]
        changes |= {f"{layer}.{h}": dz[:, :, h] @ model.W_O[layer, h] for h in range(cfg.n_heads)}
    found = {}
    for layer in range(cfg.n_layers):
        for kind, weights in zip("qkv", read_by, strict=True):
            W, slope = getattr(model, f"W_{weights}")[layer], slopes[get_act_name(kind, layer)]
            for head in range(cfg.n_heads):
                at_stream = slope[:, :, head] @ W[head].T
                for writer, change in changes.items():
                    if writer == "embed" or int(writer.split(".")[0]) < layer + same_layer:
                        found[f"{writer}->{layer}.{head}.{kind}"] = (change * at_stream)[:, pos].sum().item()
    direction = (model.W_U[:, right] - model.W_U[:, wrong]).T
    for writer, change in changes.items():
        found[f"{writer}->logits"] = ((change[:, -1] * direction).sum() / (len(clean) if batch_mean else 1)).item()
    return found


@mistake("edge_attribution", hint="Your gradient is that of the clean run. Edges are made clean in the *corrupted* run: take it there.")
def edges_at_the_clean_run(model, clean, corrupted, right, wrong):
    return _edges(model, clean, corrupted, right, wrong, at=clean)


@mistake("edge_attribution", hint="The edges to `logits` are sums over the prompts; the others are means, by the gradient of a mean. Divide the former by the number of prompts.")
def logits_edges_summed(model, clean, corrupted, right, wrong):
    return _edges(model, clean, corrupted, right, wrong, batch_mean=False)


@mistake("edge_attribution", hint="Clean and corrupted are exchanged: the gradient is taken in the corrupted run, and the change is clean minus corrupted.")
def texts_exchanged_for_edges(model, clean, corrupted, right, wrong):
    return _edges(model, corrupted, clean, right, wrong)


@mistake("edge_attribution", hint="The edges from heads are right, those from `embed` have the wrong sign: the embedding's change is clean minus corrupted, too.")
def embedding_turned_round(model, clean, corrupted, right, wrong):
    found = _edges(model, clean, corrupted, right, wrong)
    return {edge: -x if edge.startswith("embed") else x for edge, x in found.items()}


@mistake("edge_attribution", hint="All signs are turned: the change is clean minus corrupted.")
def edges_turned_round(model, clean, corrupted, right, wrong):
    return {edge: -x for edge, x in _edges(model, clean, corrupted, right, wrong).items()}


@mistake("edge_attribution", hint="The edges from `embed` are right, those from heads have the wrong sign: a head's change is clean minus corrupted, too.")
def heads_turned_round(model, clean, corrupted, right, wrong):
    found = _edges(model, clean, corrupted, right, wrong)
    return {edge: x if edge.startswith("embed") else -x for edge, x in found.items()}


@mistake("edge_attribution", hint="The edges to `logits` are added up over the positions. The answer is read at the last one: `change[:, -1]`.")
def logits_read_all_positions(model, clean, corrupted, right, wrong):
    found = _edges(model, clean, corrupted, right, wrong)
    new, old = (model.run_with_cache(x)[1] for x in (clean, corrupted))
    direction = (model.W_U[:, right] - model.W_U[:, wrong]).T
    changes = {"embed": new["hook_embed"] - old["hook_embed"]}
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):
            dz = (new["z", layer] - old["z", layer])[:, :, head]
            changes[f"{layer}.{head}"] = dz @ model.W_O[layer, head]
    to_logits = {f"{s}->logits": (x.sum(1) * direction).sum(-1).mean().item() for s, x in changes.items()}
    return found | to_logits


@mistake("edge_attribution", hint="The edges into heads are divided by the number of prompts twice: the gradient of a mean has it already. Sum over the prompts.")
def mean_of_the_mean_of_edges(model, clean, corrupted, right, wrong):
    found = _edges(model, clean, corrupted, right, wrong)
    return {edge: x if edge.endswith("logits") else x / len(clean) for edge, x in found.items()}


@mistake("edge_attribution", hint="There are edges between heads of one layer. Heads of a layer run side by side: a receiver hears only the embedding and *lower* layers.")
def edges_within_a_layer(model, clean, corrupted, right, wrong):
    return _edges(model, clean, corrupted, right, wrong, same_layer=True)


@mistake("edge_attribution", hint="Only neighbouring layers are connected in your answer. The stream keeps everything: layer 0 is read by layer 2, too, and the embedding by all.")
def edges_between_neighbours(model, clean, corrupted, right, wrong):
    found = _edges(model, clean, corrupted, right, wrong)

    def near(edge):
        writer, reader = edge.split("->")
        lower = -1 if writer == "embed" else int(writer.split(".")[0])
        upper = model.cfg.n_layers if reader == "logits" else int(reader.split(".")[0])
        return upper == lower + 1

    return {edge: x for edge, x in found.items() if near(edge)}


@mistake("edge_attribution", hint="The edges to `logits` are missing: from the embedding and from every head.")
def no_edges_to_the_logits(model, clean, corrupted, right, wrong):
    return {e: x for e, x in _edges(model, clean, corrupted, right, wrong).items() if not e.endswith("logits")}


@mistake("edge_attribution", hint="The embedding is a sender too: `embed->0.0.q` and so on, to every head and to `logits`.")
def no_edges_from_the_embedding(model, clean, corrupted, right, wrong):
    return {e: x for e, x in _edges(model, clean, corrupted, right, wrong).items() if not e.startswith("embed")}


@mistake("edge_attribution", hint="These are shares of clean minus corrupted. Give nats: do not normalise.")
def edges_in_shares(model, clean, corrupted, right, wrong):
    end, start = _ends(model, clean, corrupted, right, wrong)
    return {e: x / float(end - start) for e, x in _edges(model, clean, corrupted, right, wrong).items()}


@mistake("edge_attribution", hint="You take absolute values. An edge can push either way: keep the sign.")
def edges_without_sign(model, clean, corrupted, right, wrong):
    return {edge: abs(x) for edge, x in _edges(model, clean, corrupted, right, wrong).items()}


@mistake("edge_attribution", hint="Your hooks put copies in (`detach`), which cuts the graph: edges into lower layers get no gradient through higher ones. Let the hook call `x.requires_grad_()` and return nothing.")
def edges_of_a_cut_graph(model, clean, corrupted, right, wrong):
    return _edges(model, clean, corrupted, right, wrong, cut=True)


@mistake("edge_attribution", hint="The edges into heads are read at the last position alone. Queries, keys and values stand at every position: sum over all of them.")
def edges_at_the_last_position(model, clean, corrupted, right, wrong):
    return _edges(model, clean, corrupted, right, wrong, pos=-1)


@mistake("edge_attribution", hint="`W_Q` and `W_K` are exchanged: q is read by `W_Q`, k by `W_K`.")
def edges_by_exchanged_weights(model, clean, corrupted, right, wrong):
    return _edges(model, clean, corrupted, right, wrong, read_by="KQV")


# unexplained_effect -------------------------------------------------------------------------


def _circuit_run(model, circuit, clean, corrupted, frozen_senders=False, turned=False, ignore=()):
    """Logits if the circuit's edges carry clean. `frozen_senders`: what the sender says in the clean run."""
    logits, cache = model.run_with_cache(corrupted)
    news = {"embed": model.W_E[clean] - model.W_E[corrupted]}
    if frozen_senders:
        _, there = model.run_with_cache(clean)

    def inside(writer, reader):
        if reader.split(".")[-1] in ignore:
            return True
        return (f"{writer}->{reader}" in circuit) != turned

    for layer in range(model.cfg.n_layers):
        readers = {}

        def read(x, hook, layer=layer):
            kind = hook.name[-1]
            x = cache[hook.name].clone()
            for writer, change in news.items():
                for head in range(model.cfg.n_heads):
                    if inside(writer, f"{layer}.{head}.{kind}"):
                        x[:, :, head] += change @ getattr(model, f"W_{kind.upper()}")[layer, head]
            return x

        def write(x, hook, readers=readers):
            readers["z"] = x

        z = get_act_name("z", layer)
        hooks = [(get_act_name(kind, layer), read) for kind in "qkv"] + [(z, write)]
        model.run_with_hooks(corrupted, fwd_hooks=hooks)
        dz = (there[z] if frozen_senders else readers["z"]) - cache[z]
        news |= {f"{layer}.{h}": dz[:, :, h] @ model.W_O[layer, h] for h in range(model.cfg.n_heads)}
    return logits + sum(
        (change @ model.W_U for writer, change in news.items() if inside(writer, "logits")), torch.zeros(())
    )


def _left(model, logits, clean, corrupted, right, wrong):
    end, start = _ends(model, clean, corrupted, right, wrong)
    return ((end - _differences(logits, right, wrong).mean()) / (end - start)).item()


@mistake("unexplained_effect", hint="Edges of your circuit carry what the sender says in the *clean* run, even if the sender itself heard nothing clean. They must carry what it says now, in this run.")
def senders_from_the_clean_run(model, circuit, clean, corrupted, right, wrong):
    return _left(model, _circuit_run(model, circuit, clean, corrupted, frozen_senders=True), clean, corrupted, right, wrong)


@mistake("unexplained_effect", hint="Turned over: this is the explained share. The unexplained one is 1 for an empty circuit.")
def explained(model, circuit, clean, corrupted, right, wrong):
    return 1 - _left(model, _circuit_run(model, circuit, clean, corrupted), clean, corrupted, right, wrong)


@mistake("unexplained_effect", hint="It is the other way round: the edges *in* the circuit carry what is said now, those outside what is said in the corrupted run.")
def the_complement(model, circuit, clean, corrupted, right, wrong):
    return _left(model, _circuit_run(model, circuit, clean, corrupted, turned=True), clean, corrupted, right, wrong)


@mistake("unexplained_effect", hint="Nothing clean enters: in this run the embedding is the clean one, so the change of `embed` is `W_E[clean] - W_E[corrupted]`, for the edges of the circuit.")
def embedding_from_the_corrupted_text(model, circuit, clean, corrupted, right, wrong):
    rest = [edge for edge in circuit if not edge.startswith("embed")]
    return _left(model, _circuit_run(model, rest, clean, corrupted), clean, corrupted, right, wrong)


@mistake("unexplained_effect", hint="You add the changes to `x`, the input in this very run, which has heard of lower heads already, by every edge. Start from the corrupted run's: `corrupted_cache[hook.name]`.")
def starts_from_this_run(model, circuit, clean, corrupted, right, wrong):
    logits, cache = model.run_with_cache(corrupted)
    changes = {"embed": model.W_E[clean] - model.W_E[corrupted]}

    def read(x, hook):
        x, kind = x.clone(), hook.name[-1]
        for writer, change in changes.items():
            for head in range(model.cfg.n_heads):
                if f"{writer}->{hook.layer()}.{head}.{kind}" in circuit:
                    x[:, :, head] += change @ getattr(model, f"W_{kind.upper()}")[hook.layer(), head]
        return x

    def write(z, hook):
        for head in range(model.cfg.n_heads):
            dz = (z - cache[hook.name])[:, :, head]
            changes[f"{hook.layer()}.{head}"] = dz @ model.W_O[hook.layer(), head]

    layers = range(model.cfg.n_layers)
    model.run_with_hooks(
        corrupted,
        fwd_hooks=[(get_act_name(kind, i), write if kind == "z" else read) for i in layers for kind in "qkvz"],
    )
    for writer, change in changes.items():
        if f"{writer}->logits" in circuit:
            logits = logits + change @ model.W_U
    return _left(model, logits, clean, corrupted, right, wrong)


@mistake("unexplained_effect", hint="You take the absolute value. A circuit may explain more than everything: then what is unexplained is below 0.")
def unexplained_without_sign(model, circuit, clean, corrupted, right, wrong):
    return abs(_left(model, _circuit_run(model, circuit, clean, corrupted), clean, corrupted, right, wrong))


@mistake("unexplained_effect", hint="This is in nats. Divide by the mean difference of clean and corrupted.")
def unexplained_in_nats(model, circuit, clean, corrupted, right, wrong):
    end, _ = _ends(model, clean, corrupted, right, wrong)
    return (end - _differences(_circuit_run(model, circuit, clean, corrupted), right, wrong).mean()).item()


@mistake("unexplained_effect", hint="You divide by the clean mean alone. The empty circuit must give 1: divide by clean minus corrupted.")
def divided_by_the_clean_mean(model, circuit, clean, corrupted, right, wrong):
    end, _ = _ends(model, clean, corrupted, right, wrong)
    logits = _circuit_run(model, circuit, clean, corrupted)
    return ((end - _differences(logits, right, wrong).mean()) / end).item()


@mistake("unexplained_effect", hint="You divide prompt by prompt and average the ratios. Take the means first.")
def ratios_by_prompt(model, circuit, clean, corrupted, right, wrong):
    runs = (model(clean), _circuit_run(model, circuit, clean, corrupted), model(corrupted))
    end, got, start = (_differences(x, right, wrong) for x in runs)
    return ((end - got) / (end - start)).mean().item()


@mistake("unexplained_effect", hint="The edges to `logits` are not looked at: every head's output reaches the logits in your run. Only those in the circuit may.")
def logits_read_everything(model, circuit, clean, corrupted, right, wrong):
    logits = _circuit_run(model, circuit, clean, corrupted, ignore=("logits",))
    return _left(model, logits, clean, corrupted, right, wrong)


@mistake("unexplained_effect", hint="You switch whole heads on or off: a head in any edge of the circuit reads everything. Each of its inputs has edges of its own.")
def heads_for_edges(model, circuit, clean, corrupted, right, wrong):
    heads = {end.removesuffix(".q").removesuffix(".k").removesuffix(".v") for edge in circuit for end in edge.split("->")}
    zs = [get_act_name("z", layer) for layer in range(model.cfg.n_layers)]
    _, cache = model.run_with_cache(corrupted, names_filter=zs)

    def ablate(z, hook):
        off = [h for h in range(model.cfg.n_heads) if f"{hook.layer()}.{h}" not in heads]
        z = z.clone()
        z[:, :, off] = cache[hook.name][:, :, off]
        return z

    logits = model.run_with_hooks(clean, fwd_hooks=[(name, ablate) for name in zs])
    return _left(model, logits, clean, corrupted, right, wrong)


@mistake("unexplained_effect", hint="You take the logits that the run with your hooks returns, in which every head speaks to the output. Start from the corrupted run's, and add what the edges to `logits` carry.")
def logits_of_the_hooked_run(model, circuit, clean, corrupted, right, wrong):
    logits = _circuit_run(model, circuit, clean, corrupted, ignore=("logits",))
    of_embedding = (model.W_E[clean] - model.W_E[corrupted]) @ model.W_U  # the hooked run reads the corrupted text
    return _left(model, logits - of_embedding, clean, corrupted, right, wrong)


@mistake("unexplained_effect", hint="You put in the clean output of every head that sends in the circuit. Its edges say which receiver hears it; no one else may.")
def clean_senders_for_everyone(model, circuit, clean, corrupted, right, wrong):
    heads = {edge.split("->")[0] for edge in circuit} - {"embed"}
    zs = [get_act_name("z", layer) for layer in range(model.cfg.n_layers)]
    _, there = model.run_with_cache(clean, names_filter=zs)

    def put(z, hook):
        on = [h for h in range(model.cfg.n_heads) if f"{hook.layer()}.{h}" in heads]
        z = z.clone()
        z[:, :, on] = there[hook.name][:, :, on]
        return z

    logits = model.run_with_hooks(corrupted, fwd_hooks=[(name, put) for name in zs])
    return _left(model, logits, clean, corrupted, right, wrong)


@mistake("unexplained_effect", hint="Layer 0 always hears the clean embedding in your run. Only the edges `embed->...` of the circuit carry it.")
def embedding_always_clean_for_layer_0(model, circuit, clean, corrupted, right, wrong):
    edges = {f"embed->0.{head}.{kind}" for head in range(model.cfg.n_heads) for kind in "qkv"}
    return _left(model, _circuit_run(model, edges | set(circuit), clean, corrupted), clean, corrupted, right, wrong)


@mistake("unexplained_effect", hint="You add up estimates (`edge_attribution`). Edges work together, and estimates are slopes: run the model with the circuit's edges clean.")
def sum_of_estimates(model, circuit, clean, corrupted, right, wrong):
    end, start = _ends(model, clean, corrupted, right, wrong)
    estimates = _edges(model, clean, corrupted, right, wrong)
    return 1 - sum(estimates[edge] for edge in circuit) / float(end - start)


@mistake("unexplained_effect", hint="You cut the result to 0 ... 1. A circuit may explain more than everything: then what is unexplained is below 0.")
def unexplained_between_0_and_1(model, circuit, clean, corrupted, right, wrong):
    return min(max(_left(model, _circuit_run(model, circuit, clean, corrupted), clean, corrupted, right, wrong), 0.0), 1.0)


@mistake("unexplained_effect", hint="You divide prompt by prompt, and return a share for each. Take the means over the prompts first, then divide: one number.")
def one_ratio_per_prompt(model, circuit, clean, corrupted, right, wrong):
    runs = (model(clean), _circuit_run(model, circuit, clean, corrupted), model(corrupted))
    end, got, start = (_differences(x, right, wrong) for x in runs)
    return (end - got) / (end - start)


# smallest_circuit ---------------------------------------------------------------------------

_STORY = ["embed->0.4.v", "0.4->1.3.k", "0.4->1.6.k", "1.3->logits", "1.6->logits"]
_ENDS = ["1.3->logits", "1.6->logits"]
_INTO_QUERIES = [f"{sender}->{head}.q" for sender in ("embed", "0.0", "0.6") for head in ("1.3", "1.6")]
_TEN = ["embed->0.0.v", "embed->0.6.v", *_INTO_QUERIES, *_ENDS]


@mistake("smallest_circuit", hint="An empty circuit leaves everything unexplained. Start from the strongest edges of a ranking on these prompts.")
def no_edges():
    return []


@mistake("smallest_circuit", hint="This is the circuit of another question, of first halves that have changed places. Make the pairs with `make_pairs(two, names, \"new_query\")`, and rank the edges again.")
def circuit_of_the_first_halves():
    return [*_STORY, "embed->0.7.v", "0.7->1.3.k", "0.7->1.6.k"]


@mistake("smallest_circuit", hint="This is the circuit of another question, of second halves that have changed places. When the last token changes, it is the queries of 1.3 and 1.6 that hear of it.")
def circuit_of_the_second_halves():
    return [edge.replace(".q", ".v") for edge in _TEN]


@mistake("smallest_circuit", hint="Nothing clean enters your heads of layer 0: no edge goes from `embed` to their values, so the edges from them carry nothing.")
def heads_of_layer_0_hear_nothing():
    return [*_INTO_QUERIES, *_ENDS]


@mistake("smallest_circuit", hint="Nothing clean reaches the output: heads 1.3 and 1.6 need their edges to `logits`.")
def no_end():
    return [edge for edge in _TEN if edge not in _ENDS]


@mistake("smallest_circuit", hint="1.3 and 1.6 find their place by the keys, and the places have not changed here. What has changed is what they look for: `q`.")
def by_the_keys():
    return [edge.replace(".q", ".k") for edge in _TEN]


@mistake("smallest_circuit", hint="A good half of it goes straight from `embed` to the queries, but not all: two heads of layer 0 look at their own token and speak to the same queries.")
def straight_from_the_embedding():
    return ["embed->1.3.q", "embed->1.6.q", *_ENDS]


@mistake("smallest_circuit", hint="0.6 is in your circuit, and 0.0 is not: it looks at its own token about half of the time, and the rest of the 95% goes through it.")
def without_0_0():
    return [edge for edge in _TEN if "0.0" not in edge]


@mistake("smallest_circuit", hint="The edges straight from `embed` to the queries of 1.3 and 1.6 are missing: the last token needs no head of layer 0 to be heard.")
def only_through_layer_0():
    return [edge for edge in _TEN if not edge.startswith("embed->1")]


@mistake("smallest_circuit", hint="One of the two induction heads does half of the work. You need both, with their queries and their edges to `logits`.")
def one_induction_head():
    return [edge for edge in _TEN if "1.3" not in edge]


@mistake("smallest_circuit", hint="One of the two induction heads does half of the work. You need both, with their queries and their edges to `logits`.")
def the_other_induction_head():
    return [edge for edge in _TEN if "1.6" not in edge]


@mistake("smallest_circuit", hint="Layer 0 hears the last token through `v`: where 0.0 and 0.6 look is a matter of place, and what they fetch is the token.")
def into_the_queries_of_layer_0():
    return [edge.replace(".v", ".q") for edge in _TEN]


@mistake("smallest_circuit", hint="These are heads. A circuit is made of edges, such as `0.6->1.6.q`.")
def heads_for_a_circuit():
    return ["0.0", "0.6", "1.3", "1.6"]


@mistake("smallest_circuit", hint="An edge into a head says by which input: `0.6->1.6.q`.")
def edges_without_kinds():
    return [edge.removesuffix(".q").removesuffix(".v") for edge in _TEN]
