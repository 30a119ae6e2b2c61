"""Known wrong answers to chapter 4, each with the hint it deserves. A learner whose answer does
what one of these does is shown its hint."""

import torch

from utils.checking import mistake
from utils.model import get_act_name


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


@mistake("resample_ablate", hint="You replace the activation at the last position alone. Replace it at every position.")
def resamples_the_last_position(model, tokens, name, other, head=None):
    which = _all(head)
    source = _cached(model, other, name)[:, -1, which]
    return _replace(model, tokens, name, source, (slice(None), -1, which))


@mistake("resample_ablate", hint="The logits are those of the plain model: your hook changes nothing. It must change `x` in place or return what takes its place.")
def resample_is_not_returned(model, tokens, name, other, head=None):
    return model(tokens)


@mistake("resample_ablate", hint="These are the logits of the other prompts. Run over `tokens`, and replace one activation.")
def runs_the_other_prompts(model, tokens, name, other, head=None):
    return model(other)


@mistake("resample_ablate", hint="You zero the activation. It is to be as in the run over `other`.")
def zero_instead_of_resampled(model, tokens, name, other, head=None):
    return _replace(model, tokens, name, 0.0, (slice(None), slice(None), _all(head)))


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


@mistake("direct_logit_attribution", hint="You read the first position; the answer is given at the last one.")
def shares_of_the_first_position(cache, model, right, wrong):
    return _shares(cache, model, right, wrong, at=lambda x: x[:, 0])


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


# logit_lens ---------------------------------------------------------------------------------


def _streams(cache, n_layers):
    return [*(cache["resid_pre", layer] for layer in range(n_layers)), cache["resid_post", n_layers - 1]]


@mistake("logit_lens", hint="You stack what comes after each layer. The stream before layer 0, the embedding, is missing.")
def lens_without_the_embedding(cache, model):
    return torch.stack(_streams(cache, model.cfg.n_layers)[1:]) @ model.W_U


@mistake("logit_lens", hint="You stack what enters each layer. What leaves the last layer is missing: `resid_post`.")
def lens_without_the_end(cache, model):
    return torch.stack(_streams(cache, model.cfg.n_layers)[:-1]) @ model.W_U


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


@mistake("activation_patch", hint="The logits are those of the corrupted run: your hook changes nothing. It must change `x` in place or return what takes its place.")
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


@mistake("activation_patch", hint="All prompts get the first prompt's activation. Take each prompt's own: `clean_cache[name][:, ...]`.")
def the_first_prompts_activation(model, corrupted, clean_cache, name, pos=None, head=None):
    where = (slice(None), _all(pos), _all(head))
    return _replace(model, corrupted, name, clean_cache[name][:1][where], where)


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


# overlooked_head ----------------------------------------------------------------------------


@mistake("overlooked_head", hint="0.6 is needed for every prompt, as mean ablation shows. But it writes the same in both twins, so it carries none of the difference.")
def the_own_token_head():
    return 0, 6


@mistake("overlooked_head", hint="1.3 writes half of the answer itself; the lens sees it very well.")
def induction_head_3():
    return 1, 3


@mistake("overlooked_head", hint="1.6 writes half of the answer itself; the lens sees it very well.")
def induction_head_6():
    return 1, 6


@mistake("overlooked_head", hint="0.7 does carry a part of the difference and writes none of it to the output. Another head of layer 0 carries far more.")
def the_blurred_head():
    return 0, 7


@mistake("overlooked_head", hint="Layer first, then head: (0, 4) is head 4 of layer 0.")
def head_before_layer():
    return 4, 0


@mistake("overlooked_head", hint="0.5 raised an alarm under zero ablation only: it writes the same always. It carries nothing.")
def the_constant_head():
    return 0, 5


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
