"""Known wrong answers to chapter 5, each with the hint it deserves. A learner whose answer does
what one of these does is shown its hint."""

import copy

import torch

from circuits.checking import mistake
from utils.model import get_act_name


def _run(model, tokens):
    return model.run_with_cache(tokens)[1]


def _centred(x):
    return x - x.mean(-1, keepdim=True)


def _read(model, x):
    """Vectors through the last LayerNorm at a scale of 1, and the unembedding."""
    return _centred(x) * model.ln_final.w @ model.W_U


# layer_norm ---------------------------------------------------------------------------------


def _norm(x, w, b, eps, centred=True, unbiased=False, dim=-1):
    c = x - x.mean(dim, keepdim=True) if centred else x
    n = c.shape[dim] - unbiased
    return c / (c.pow(2).sum(dim, keepdim=True) / n + eps).sqrt() * w + b


@mistake("layer_norm", hint="You divide by d - 1 inside the root (torch's `std` and `var` do, unless told `unbiased=False`). LayerNorm takes the mean of the squares: divide by d.")
def divides_by_d_minus_one(x, w, b, eps):
    return _norm(x, w, b, eps, unbiased=True)


@mistake("layer_norm", hint="The mean is not taken out. Centre each vector first, and take the scale of the centred one.")
def root_mean_square_alone(x, w, b, eps):
    return _norm(x, w, b, eps, centred=False)


@mistake("layer_norm", hint="`eps` is added to the scale. Add it to the variance, before the root.")
def eps_outside_the_root(x, w, b, eps):
    c = _centred(x)
    return c / (c.pow(2).mean(-1, keepdim=True).sqrt() + eps) * w + b


@mistake("layer_norm", hint="`eps` is left out: add it to the variance, before the root.")
def eps_forgotten(x, w, b, eps):
    return _norm(x, w, b, 0.0)


@mistake("layer_norm", hint="You divide by the variance. Divide by its root, the scale.")
def divides_by_the_variance(x, w, b, eps):
    c = _centred(x)
    return c / (c.pow(2).mean(-1, keepdim=True) + eps) * w + b


@mistake("layer_norm", hint="The weight and the bias are left out: multiply by `w`, then add `b`.")
def without_weight_and_bias(x, w, b, eps):
    return _norm(x, 1.0, 0.0, eps)


@mistake("layer_norm", hint="`b` is multiplied by `w` too. First times `w`, then plus `b`.")
def bias_before_weight(x, w, b, eps):
    return (_norm(x, 1.0, 0.0, eps) + b) * w


@mistake("layer_norm", hint="You normalise over the positions. Each position's vector has a mean and a scale of its own: dim=-1.")
def over_positions(x, w, b, eps):
    return _norm(x, w, b, eps, dim=1)


# folds_away ---------------------------------------------------------------------------------


@mistake("folds_away", hint="One of these steps is not linear. Take a vector and its double: which step gives the same for both?")
def everything_folds(step):
    return True


@mistake("folds_away", hint="BatchNorm's mean and scale are fixed numbers at inference: to subtract and to divide by a fixed vector is linear (plus a constant). LayerNorm's are those of the vector itself.")
def no_scale_folds(step):
    return not step.endswith("scale")


@mistake("folds_away", hint="The mean of a vector's entries is a linear map of the vector: `x - mean` is `x @ (I - 11ᵀ/d)`. So LayerNorm's centring folds.")
def no_step_of_the_vector_folds(step):
    return step not in ("layer mean", "layer scale")


@mistake("folds_away", hint="A bias folds: what reads `x + b` by W reads `x @ W + b @ W`, and `b @ W` is a constant.")
def biases_do_not_fold(step):
    return step != "layer scale" and not step.endswith("bias")


@mistake("folds_away", hint="A weight folds: what reads `x * w` by W reads `x @ (diag(w) W)`.")
def weights_do_not_fold(step):
    return step != "layer scale" and not step.endswith("weight")


@mistake("folds_away", hint="It is the other way round: BatchNorm's mean and scale are fixed at inference, LayerNorm's scale depends on the vector.")
def norms_exchanged(step):
    return step != "batch scale"


# fold_layer_norm ----------------------------------------------------------------------------


def _fold(model, order="bw", centre=("W_E", "W_O", "b_O", "W_out", "b_out"), skip=(), ln1_weight=False):
    new = copy.deepcopy(model)
    with torch.no_grad():
        for block in new.blocks:
            attn, mlp, ln1, ln2 = block.attn, block.mlp, block.ln1, block.ln2
            if "ln1" not in skip:
                for kind in "QKV":
                    W, b = getattr(attn, f"W_{kind}"), getattr(attn, f"b_{kind}")
                    if f"b_{kind}" not in skip:
                        b += torch.einsum("d,hde->he", ln1.b, W)
                    if ln1_weight:
                        W *= ln1.w[:, None]
                ln1.b.zero_()
                if ln1_weight:
                    ln1.w.fill_(1.0)
            if "ln2" not in skip:
                for step in order:
                    if step == "b" and "b_in" not in skip:
                        mlp.b_in += ln2.b @ mlp.W_in
                    elif step == "w":
                        mlp.W_in *= ln2.w[:, None]
                ln2.w.fill_(1.0)
                ln2.b.zero_()
        for step in order:
            if step == "b" and "b_U" not in skip:
                new.unembed.b_U += new.ln_final.b @ new.W_U
            elif step == "w" and "W_U" not in skip:
                new.unembed.W_U *= new.ln_final.w[:, None]
        if "ln_final" not in skip:
            new.ln_final.w.fill_(1.0)
            new.ln_final.b.zero_()
        for name, W in new.named_parameters():
            if name.split(".")[-1] in centre:
                W -= W.mean(-1, keepdim=True)
    return new


@mistake("fold_layer_norm", hint="`w` is folded before `b`, so `b` meets weights that are already multiplied by `w`. Fold `b` first.")
def weight_before_bias(model):
    return _fold(model, order="wb")


@mistake("fold_layer_norm", hint="You fold the `w` of `ln1` into W_Q, W_K and W_V. Positions are added behind `ln1`, and must not be multiplied by it: leave `ln1.w` as it is.")
def folds_the_weight_of_ln1(model):
    return _fold(model, ln1_weight=True)


@mistake("fold_layer_norm", hint="The `b` of `ln1` goes into the values too: `b_V`, beside `b_Q` and `b_K`.")
def forgets_the_values(model):
    return _fold(model, skip=("b_V",))


@mistake("fold_layer_norm", hint="The biases of the LayerNorms are set to 0, but added nowhere: `b @ W` belongs to the bias of whoever reads.")
def drops_the_biases(model):
    return _fold(model, skip=("b_Q", "b_K", "b_V", "b_in", "b_U"))


@mistake("fold_layer_norm", hint="The embedding is a writer, too: centre the rows of W_E.")
def forgets_to_centre_the_embedding(model):
    return _fold(model, centre=("W_O", "b_O", "W_out", "b_out"))


@mistake("fold_layer_norm", hint="The biases `b_O` and `b_out` are written into the stream as well: centre them.")
def forgets_to_centre_the_biases(model):
    return _fold(model, centre=("W_E", "W_O", "W_out"))


@mistake("fold_layer_norm", hint="No writer is centred. Take the mean over d_model out of W_E, W_O, b_O, W_out and b_out.")
def centres_nothing(model):
    return _fold(model, centre=())


@mistake("fold_layer_norm", hint="`ln_final` is not folded: its `w` goes into W_U, its `b` into b_U.")
def leaves_the_last_one(model):
    return _fold(model, skip=("ln_final", "b_U", "W_U"))


@mistake("fold_layer_norm", hint="The `ln2` are not folded: their `w` goes into W_in, their `b` into b_in.")
def leaves_ln2(model):
    return _fold(model, skip=("ln2",))


@mistake("fold_layer_norm", hint="W_out is to be centred over d_model, its last dimension: every row is a vector of the stream. You take the mean over the neurons.")
def centres_over_neurons(model):
    new = _fold(model, centre=("W_E", "W_O", "b_O", "b_out"))
    with torch.no_grad():
        for block in new.blocks:
            block.mlp.W_out -= block.mlp.W_out.mean(0, keepdim=True)
    return new


# frozen_scale_logits ------------------------------------------------------------------------


def _parts(model, tokens, scale=None, centre=_centred, weight=True, constant=True, bias=True):
    cache = _run(model, tokens)
    layers = range(model.cfg.n_layers)
    parts = [cache["embed"], *(cache[name, i] for i in layers for name in ("attn_out", "mlp_out"))]
    final = cache["resid_post", -1]
    s = (final.var(-1, unbiased=False, keepdim=True) + model.cfg.eps).sqrt()
    w = model.ln_final.w if weight else 1.0
    logits = [centre(x) / (s if scale is None else scale(x)) * w @ model.W_U for x in parts]
    c = (model.ln_final.b @ model.W_U if constant else 0) + (model.unembed.b_U if bias else 0)
    return torch.stack([*logits, torch.as_tensor(c).expand_as(logits[0])])


@mistake("frozen_scale_logits", hint="Each part is divided by its own scale. All share one: that of the last stream, `resid_post` of the last layer.")
def own_scale_of_each_part(model, tokens):
    return _parts(model, tokens, lambda x: (x.var(-1, unbiased=False, keepdim=True) + model.cfg.eps).sqrt())


@mistake("frozen_scale_logits", hint="Nothing is divided by the scale. The last LayerNorm divides the stream by it, so each part too.")
def no_scale(model, tokens):
    return _parts(model, tokens, lambda x: 1.0)


@mistake("frozen_scale_logits", hint="The parts are not centred: `part - part.mean(-1, keepdim=True)`. In a folded model that would change nothing; here it does.")
def parts_not_centred(model, tokens):
    return _parts(model, tokens, centre=lambda x: x)


@mistake("frozen_scale_logits", hint="`ln_final.w` is left out: multiply each part by it before W_U.")
def weight_forgotten(model, tokens):
    return _parts(model, tokens, weight=False)


@mistake("frozen_scale_logits", hint="The constant lacks `ln_final.b @ W_U`.")
def constant_is_b_U(model, tokens):
    return _parts(model, tokens, constant=False)


@mistake("frozen_scale_logits", hint="The constant lacks `unembed.b_U`.")
def constant_without_b_U(model, tokens):
    return _parts(model, tokens, bias=False)


@mistake("frozen_scale_logits", hint="The constant is the last part, behind the layers; yours comes first.")
def constant_first(model, tokens):
    return _parts(model, tokens).roll(1, 0)


@mistake("frozen_scale_logits", hint="You divide by the standard deviation with d - 1. LayerNorm's scale is the root of the mean square: `unbiased=False`.")
def scale_with_d_minus_one(model, tokens):
    final = _run(model, tokens)["resid_post", -1]
    return _parts(model, tokens, lambda x: (final.var(-1, keepdim=True) + model.cfg.eps).sqrt())


# neuron_contributions -----------------------------------------------------------------------


@mistake("neuron_contributions", hint="You use `pre`. Neurons write in proportion to `post`, what comes out of the ReLU.")
def by_pre(model, tokens, layer):
    return _run(model, tokens)["pre", layer][..., None] * model.W_out[layer]


@mistake("neuron_contributions", hint="These are the neurons of the first layer, whatever `layer` is.")
def of_the_first_layer(model, tokens, layer):
    return _run(model, tokens)["post", 0][..., None] * model.W_out[0]


@mistake("neuron_contributions", hint="`b_out` is no neuron's: it is added once, to their sum. Leave it out here.")
def with_the_bias(model, tokens, layer):
    mlp = model.blocks[layer].mlp
    return _run(model, tokens)["post", layer][..., None] * mlp.W_out + mlp.b_out


@mistake("neuron_contributions", hint="You multiply by the key (a column of W_in). What a neuron writes is its value, a row of W_out.")
def along_the_key(model, tokens, layer):
    return _run(model, tokens)["post", layer][..., None] * model.W_in[layer].T


@mistake("neuron_contributions", hint="You spread `b_out` over the neurons. Leave it out: with it, not in it, they sum to `mlp_out`.")
def bias_in_shares(model, tokens, layer):
    mlp = model.blocks[layer].mlp
    return _run(model, tokens)["post", layer][..., None] * mlp.W_out + mlp.b_out / len(mlp.W_out)


@mistake("neuron_contributions", hint="This is whether a neuron fires, times its value. It writes its value as many times as its activation says.")
def gate_times_value(model, tokens, layer):
    return (_run(model, tokens)["post", layer] > 0).float()[..., None] * model.W_out[layer]


# neuron_logits ------------------------------------------------------------------------------


@mistake("neuron_logits", hint="The value is not centred. LayerNorm takes the mean of its entries out: `value - value.mean()`.")
def value_not_centred(model, layer, neuron):
    return model.W_out[layer, neuron] * model.ln_final.w @ model.W_U


@mistake("neuron_logits", hint="`ln_final.w` is left out: multiply by it before W_U.")
def value_without_weight(model, layer, neuron):
    return _centred(model.W_out[layer, neuron]) @ model.W_U


@mistake("neuron_logits", hint="This is the key, a column of W_in. What a neuron says is its value, row `neuron` of W_out.")
def logits_of_the_key(model, layer, neuron):
    return _read(model, model.W_in[layer, :, neuron])


@mistake("neuron_logits", hint="The bias b_U does not come from this neuron: leave it out.")
def with_b_U(model, layer, neuron):
    return _read(model, model.W_out[layer, neuron]) + model.unembed.b_U


@mistake("neuron_logits", hint="You run the whole last LayerNorm on the value: it divides by the value's own scale and adds `ln_final.b`. The scale is the stream's; take it to be 1.")
def whole_layer_norm(model, layer, neuron):
    return model.ln_final(model.W_out[layer, neuron]) @ model.W_U


@mistake("neuron_logits", hint="`ln_final.b` is a constant that no neuron writes: leave it out.")
def with_the_last_b(model, layer, neuron):
    value = model.W_out[layer, neuron]
    return (_centred(value) * model.ln_final.w + model.ln_final.b) @ model.W_U


@mistake("neuron_logits", hint="Values are rows of W_out, `[d_mlp d_model]`. You multiply by W_U before `ln_final.w` can act: centre, times w, then W_U; and W_U itself stays as it is.")
def centred_unembedding(model, layer, neuron):
    return model.W_out[layer, neuron] @ _centred(model.W_U)


# top_contexts -------------------------------------------------------------------------------


def _tops(pre, k, largest=True):
    return [divmod(i, pre.shape[1]) for i in pre.flatten().topk(k, largest=largest).indices.tolist()]


@mistake("top_contexts", hint="Row and position are exchanged: the row of the batch comes first.")
def position_before_row(model, tokens, layer, neuron, k):
    return [(j, i) for i, j in _tops(_run(model, tokens)["pre", layer][..., neuron], k)]


@mistake("top_contexts", hint="These are the places where it is driven *least*.")
def smallest_first(model, tokens, layer, neuron, k):
    return _tops(_run(model, tokens)["pre", layer][..., neuron], k, largest=False)


@mistake("top_contexts", hint="The right places, in rising order: the largest comes first.")
def rising_order(model, tokens, layer, neuron, k):
    return _tops(_run(model, tokens)["pre", layer][..., neuron], k)[::-1]


@mistake("top_contexts", hint="You divide the flat index by the number of texts. The flat list goes through the positions of row 0 first: row `i // n_pos`, position `i % n_pos`.")
def divided_by_the_batch(model, tokens, layer, neuron, k):
    pre = _run(model, tokens)["pre", layer][..., neuron]
    return [divmod(i, pre.shape[0]) for i in pre.flatten().topk(k).indices.tolist()]


@mistake("top_contexts", hint="These are places of the first layer's neuron, whatever `layer` is.")
def places_of_the_first_layer(model, tokens, layer, neuron, k):
    return _tops(_run(model, tokens)["pre", 0][..., neuron], k)


@mistake("top_contexts", hint="You look at how large `pre` is without its sign. A neuron that is driven far below 0 does not fire.")
def by_absolute_value(model, tokens, layer, neuron, k):
    return _tops(_run(model, tokens)["pre", layer][..., neuron].abs(), k)


@mistake("top_contexts", hint="By `post` all places where the neuron is silent are alike. Use `pre`.")
def by_post(model, tokens, layer, neuron, k):
    return _tops(_run(model, tokens)["post", layer][..., neuron], k)


# max_activating_input -----------------------------------------------------------------------


def _search(model, tokens, layer, neuron, rounds=50, first=1, name="pre", sign=1, at=-1):
    def drive(batch):
        return sign * _run(model, batch)[name, layer][:, at, neuron]

    best, most = tokens.clone(), drive(tokens[None]).item()
    for _ in range(rounds):
        before = best
        for position in range(first, len(tokens)):
            tries = best.repeat(model.cfg.d_vocab, 1)
            tries[:, position] = torch.arange(model.cfg.d_vocab)
            drives = drive(tries)
            if drives.max() > most + 1e-5:
                best, most = tries[drives.argmax()].clone(), drives.max().item()
        if best.equal(before):
            break
    return best


@mistake("max_activating_input", hint="One round is not enough: what was best at position 1 need not be, once the others have changed. Go on until a round changes nothing.")
def one_round(model, tokens, layer, neuron):
    return _search(model, tokens, layer, neuron, rounds=1)


@mistake("max_activating_input", hint="You change the first token, too. It stays `<|bos|>`: all texts of the training begin so.")
def changes_the_first_token(model, tokens, layer, neuron):
    return _search(model, tokens, layer, neuron, first=0)


@mistake("max_activating_input", hint="You look for the input that drives the neuron *least*.")
def drives_it_down(model, tokens, layer, neuron):
    return _search(model, tokens, layer, neuron, sign=-1)


@mistake("max_activating_input", hint="Only the last token is tried. Attention brings in what the others hold: try all positions but the first.")
def only_the_last_token(model, tokens, layer, neuron):
    return _search(model, tokens, layer, neuron, first=len(tokens) - 1)


@mistake("max_activating_input", hint="You read the neuron at the first position. It is asked for the last, `[:, -1, neuron]`.")
def reads_it_at_the_first_position(model, tokens, layer, neuron):
    return _search(model, tokens, layer, neuron, first=0, at=0)


@mistake("max_activating_input", hint="This is the neuron of that number in the first layer, whatever `layer` is.")
def searches_in_the_first_layer(model, tokens, layer, neuron):
    return _search(model, tokens, 0, neuron)


@mistake("max_activating_input", hint="Each position is tried with the *start* everywhere else. Keep what was found at the others: their best tokens depend on each other.")
def each_position_by_itself(model, tokens, layer, neuron):
    best = tokens.clone()
    for position in range(1, len(tokens)):
        tries = tokens.repeat(model.cfg.d_vocab, 1)
        tries[:, position] = torch.arange(model.cfg.d_vocab)
        best[position] = _run(model, tries)["pre", layer][:, -1, neuron].argmax()
    return best


# pattern_f1 ---------------------------------------------------------------------------------


def _counts(fires, labels):
    return fires.float().T @ labels.float(), fires.sum(0)[:, None].float(), labels.sum(0).float()


@mistake("pattern_f1", hint="This is the precision: the share of the firings that are in the class. F1 also asks for the recall.")
def precision(fires, labels):
    both, fired, _ = _counts(fires, labels)
    return both / fired.clamp(min=1)


@mistake("pattern_f1", hint="This is the recall: the share of the class at which the neuron fires. F1 also asks for the precision.")
def recall(fires, labels):
    both, _, inside = _counts(fires, labels)
    return both / inside.clamp(min=1)


@mistake("pattern_f1", hint="This is the share of tokens on which both agree. Where a class is rare, a neuron that never fires agrees nearly everywhere: F1 leaves out the tokens that have neither.")
def accuracy(fires, labels):
    both, fired, inside = _counts(fires, labels)
    return (len(fires) - fired - inside + 2 * both) / len(fires)


@mistake("pattern_f1", hint="This is both over either (Jaccard's index). F1 counts both twice: 2 · both / (fires + class).")
def jaccard(fires, labels):
    both, fired, inside = _counts(fires, labels)
    return both / (fired + inside - both).clamp(min=1)


@mistake("pattern_f1", hint="This is the plain mean of precision and recall. F1 is the harmonic mean, 2PR / (P + R).")
def plain_mean(fires, labels):
    return (precision(fires, labels) + recall(fires, labels)) / 2


@mistake("pattern_f1", hint="The 2 is missing: F1 is 2PR / (P + R), and 1 for a perfect match.")
def half_of_f1(fires, labels):
    both, fired, inside = _counts(fires, labels)
    return both / (fired + inside).clamp(min=1)


@mistake("pattern_f1", hint="NaN comes from 0 / 0, where a neuron never fires and a class never occurs. F1 is 0 there: `.clamp(min=1)` in the denominator.")
def nan_for_nothing(fires, labels):
    both, fired, inside = _counts(fires, labels)
    return 2 * both / (fired + inside)


# active_share -------------------------------------------------------------------------------


@mistake("active_share", hint="This is the mean activation. Count how many are above 0: `(post > 0).float().mean()`.")
def mean_activation(model, tokens):
    cache = _run(model, tokens)
    return torch.stack([cache["post", i].mean() for i in range(model.cfg.n_layers)])


@mistake("active_share", hint="This is the share of the *silent* neurons.")
def silent_share(model, tokens):
    cache = _run(model, tokens)
    return torch.stack([(cache["post", i] <= 0).float().mean() for i in range(model.cfg.n_layers)])


@mistake("active_share", hint="This is the share of neurons that are active anywhere. Count them position by position, and average.")
def active_anywhere(model, tokens):
    cache = _run(model, tokens)
    return torch.stack([(cache["post", i] > 0).any(0).any(0).float().mean() for i in range(model.cfg.n_layers)])


@mistake("active_share", hint="You look at the last position alone. Average over all of them.")
def at_the_last_position(model, tokens):
    cache = _run(model, tokens)
    return torch.stack([(cache["post", i][:, -1] > 0).float().mean() for i in range(model.cfg.n_layers)])


@mistake("active_share", hint="This is the number of active neurons. Divide by how many the layer has.")
def number_of_active(model, tokens):
    cache = _run(model, tokens)
    return torch.stack([(cache["post", i] > 0).float().sum(-1).mean() for i in range(model.cfg.n_layers)])


@mistake("active_share", hint="This is one share for all layers together, or the first layer's for each. Take each layer by itself.")
def first_layer_for_all(model, tokens):
    share = (_run(model, tokens)["post", 0] > 0).float().mean()
    return share.expand(model.cfg.n_layers).clone()


# value_agreement ----------------------------------------------------------------------------


def _agreement(model, tokens, layer, places=lambda pre: pre[:, :-1].flatten(0, 1).argmax(0), shift=1, read=_read):
    best = places(_run(model, tokens)["pre", layer])
    said = tokens[:, 1:] if shift else tokens[:, :-1]
    return said.flatten()[best] == read(model, model.W_out[layer]).argmax(-1)


@mistake("value_agreement", hint="You compare with the token at which the neuron fires. The question is whether the value says what comes *next*.")
def compares_with_the_token_itself(model, tokens, layer):
    return _agreement(model, tokens, layer, shift=0)


@mistake("value_agreement", hint="You take the context that drives the neuron *least*.")
def of_the_weakest_context(model, tokens, layer):
    return _agreement(model, tokens, layer, lambda pre: pre[:, :-1].flatten(0, 1).argmin(0))


@mistake("value_agreement", hint="The values are read without the last LayerNorm: centre them and multiply by `ln_final.w`, as in `neuron_logits`.")
def values_without_layer_norm(model, tokens, layer):
    return _agreement(model, tokens, layer, read=lambda model, W: W @ model.W_U)


@mistake("value_agreement", hint="You read the key (W_in) as if it were the value. What a neuron promotes is its row of W_out.")
def keys_for_values(model, tokens, layer):
    return _agreement(model, tokens, layer, read=lambda model, W: _read(model, model.W_in[layer].T))


@mistake("value_agreement", hint="You take the value's *lowest* token.")
def lowest_token(model, tokens, layer):
    return _agreement(model, tokens, layer, read=lambda model, W: -_read(model, W))


@mistake("value_agreement", hint="The flat index counts all positions, but you look up what comes next in a list without the first ones: cut the last position off `pre` before you flatten it.")
def flattened_before_cutting(model, tokens, layer):
    pre = _run(model, tokens)["pre", layer].flatten(0, 1)[:-1].argmax(0)
    return tokens.flatten()[1:][pre] == _read(model, model.W_out[layer]).argmax(-1)


@mistake("value_agreement", hint="These are neurons of the first layer, whatever `layer` is.")
def agreement_of_the_first_layer(model, tokens, layer):
    return _agreement(model, tokens, 0)


# composed_share -----------------------------------------------------------------------------


def _composed(model, tokens, layer, active=lambda post: post > 0, total=None, read=_read):
    post, W_out = _run(model, tokens)["post", layer], model.W_out[layer]
    top = read(model, post @ W_out if total is None else total(post @ W_out)).argmax(-1)
    proposed = (read(model, W_out).argmax(-1) == top[..., None]) & active(post)
    return (~proposed.any(-1)).float().mean().item()


@mistake("composed_share", hint="This is the share where some neuron *did* propose the winner. The share where none did is asked for.")
def proposed_share(model, tokens, layer):
    return 1 - _composed(model, tokens, layer)


@mistake("composed_share", hint="A silent neuron proposes nothing: count only those with `post > 0`.")
def silent_ones_count(model, tokens, layer):
    return _composed(model, tokens, layer, lambda post: torch.ones_like(post, dtype=torch.bool))


@mistake("composed_share", hint="`mlp_out` holds `b_out`, which is no neuron's. Take `post @ W_out`.")
def with_b_out(model, tokens, layer):
    return _composed(model, tokens, layer, total=lambda x: x + model.blocks[layer].mlp.b_out)


@mistake("composed_share", hint="The last LayerNorm is left out: centre, and multiply by `ln_final.w`, before W_U.")
def composed_without_layer_norm(model, tokens, layer):
    return _composed(model, tokens, layer, read=lambda model, x: x @ model.W_U)


@mistake("composed_share", hint="You compare with the strongest neuron alone. The winner may be any active neuron's word.")
def against_the_strongest(model, tokens, layer):
    return _composed(model, tokens, layer, lambda post: post == post.amax(-1, keepdim=True))


@mistake("composed_share", hint="You read the stream after the MLP. A layer's word is what its neurons write: `post @ W_out`.")
def of_the_whole_stream(model, tokens, layer):
    stream = _run(model, tokens)["resid_post", layer]
    return _composed(model, tokens, layer, total=lambda x: stream)


@mistake("composed_share", hint="These are neurons of the first layer, whatever `layer` is.")
def composed_in_the_first_layer(model, tokens, layer):
    return _composed(model, tokens, 0)


# mlp_path_expansion -------------------------------------------------------------------------


def _expansion(model, tokens, target, gate=True, pos=-1, mid_scale=True, biases=True, final=True, heads_first=True, b_in=True):
    n_layers, n_heads, eps = model.cfg.n_layers, model.cfg.n_heads, model.cfg.eps
    cache = _run(model, tokens)
    mlps = [block.mlp for block in model.blocks]
    embed = cache["embed"][:, pos]
    heads = [cache["result", i][:, pos, h] for i in range(n_layers) for h in range(n_heads)]
    earlier = [cache["post", i][:, pos] @ mlps[i].W_out for i in range(n_layers - 1)]
    constant = sum(block.attn.b_O for block in model.blocks) + sum(mlp.b_out for mlp in mlps[:-1])
    others = [*heads, *earlier] if heads_first else [*earlier, *heads]
    sources = torch.stack([embed, *others, constant.expand_as(embed) * biases])
    s_mid, s = (
        (cache[name, -1][:, pos].pow(2).mean(-1, keepdim=True) + eps).sqrt() for name in ("resid_mid", "resid_post")
    )
    out = model.W_U[:, target].T / (s if final else 1)
    direct = torch.einsum("sbd,bd->sb", sources, out)
    if biases:
        direct[-1] += out @ mlps[-1].b_out + model.unembed.b_U[target]
    reads = sources @ mlps[-1].W_in / (s_mid if mid_scale else 1)
    if b_in:
        reads[-1] += mlps[-1].b_in
    open_gates = cache["post", -1][:, pos] > 0 if gate else 1.0
    return direct, reads * (open_gates * (out @ mlps[-1].W_out.T))


@mistake("mlp_path_expansion", hint="The gates are left out: a path through a neuron that does not fire carries nothing. Multiply by `post > 0`.")
def gates_forgotten(model, tokens, target):
    return _expansion(model, tokens, target, gate=False)


@mistake("mlp_path_expansion", hint="What neurons read is not divided by the scale before the MLP, that of `resid_mid`.")
def middle_scale_forgotten(model, tokens, target):
    return _expansion(model, tokens, target, mid_scale=False)


@mistake("mlp_path_expansion", hint="The final scale, that of the last `resid_post`, is left out: divide the direction `W_U[:, target]` by it.")
def final_scale_forgotten(model, tokens, target):
    return _expansion(model, tokens, target, final=False)


@mistake("mlp_path_expansion", hint="The constant is 0: it holds b_O of all layers and b_out of all but the last; to its direct terms belong the last b_out and b_U.")
def no_constant(model, tokens, target):
    return _expansion(model, tokens, target, biases=False)


@mistake("mlp_path_expansion", hint="The neurons' `b_in` is left out. It belongs to the constant's terms through each neuron, and is not divided by a scale.")
def b_in_forgotten(model, tokens, target):
    return _expansion(model, tokens, target, b_in=False)


@mistake("mlp_path_expansion", hint="You expand the first position. The last one is asked for.")
def at_the_first_position(model, tokens, target):
    return _expansion(model, tokens, target, pos=0)


@mistake("mlp_path_expansion", hint="The order of the sources: the embedding, then all heads, layer by layer, then the earlier layers' neurons, then the constant. Yours has the neurons before the heads.")
def neurons_before_heads(model, tokens, target):
    return _expansion(model, tokens, target, heads_first=False)


@mistake("mlp_path_expansion", hint="The terms through neurons come first in your answer. First the direct ones, then those through neurons; and the gates multiply what is *read*.")
def through_before_direct(model, tokens, target):
    return _expansion(model, tokens, target)[::-1]


# driven_neuron ------------------------------------------------------------------------------


def _driven(model, tokens, layer, head, scaled=True, measure=lambda x: x.std(0), source=None, weight=None):
    cache = _run(model, tokens)
    scale = (cache["resid_mid", layer].pow(2).mean(-1, keepdim=True) + model.cfg.eps).sqrt()
    x = cache["result", layer][:, :, head] if source is None else source(cache)
    W = model.W_in[layer] if weight is None else weight
    return measure((x / (scale if scaled else 1) @ W).flatten(0, 1)).argmax().item()


@mistake("driven_neuron", hint="You rank by the mean of the head's part. What is always there moves nothing: take the standard deviation.")
def by_the_mean(model, tokens, layer, head):
    return _driven(model, tokens, layer, head, measure=lambda x: x.mean(0))


@mistake("driven_neuron", hint="You rank by the size of the head's part (its norm or mean square). A part that never changes is large and moves nothing: take the standard deviation.")
def by_the_size(model, tokens, layer, head):
    return _driven(model, tokens, layer, head, measure=lambda x: x.norm(dim=0))


@mistake("driven_neuron", hint="This is the neuron whose whole `pre` varies most. Only the head's part of it is asked for.")
def by_the_whole_pre(model, tokens, layer, head):
    return _run(model, tokens)["pre", layer].flatten(0, 1).std(0).argmax().item()


@mistake("driven_neuron", hint="This is head 0, whatever `head` is.")
def always_head_zero(model, tokens, layer, head):
    return _driven(model, tokens, layer, 0)


@mistake("driven_neuron", hint="You multiply by the values (W_out). What a neuron reads it reads by its key, W_in.")
def by_the_values(model, tokens, layer, head):
    return _driven(model, tokens, layer, head, weight=model.W_out[layer].T)


@mistake("driven_neuron", hint="This is the neuron that the head moves *least*.")
def moved_least(model, tokens, layer, head):
    return _driven(model, tokens, layer, head, measure=lambda x: -x.std(0))


@mistake("driven_neuron", hint="You look at the last position of each text alone. Take all positions.")
def driven_at_the_end(model, tokens, layer, head):
    return _driven(model, tokens[:, :], layer, head, measure=lambda x: x.unflatten(0, tokens.shape)[:, -1].std(0))


# rotate_hidden ------------------------------------------------------------------------------


def _rotate(model, R, W_in=True, b_in=True, back=lambda R: R.T, layers=None):
    new = copy.deepcopy(model)
    with torch.no_grad():
        for block in new.blocks[:layers]:
            mlp = block.mlp
            if W_in:
                mlp.W_in.copy_(mlp.W_in @ R)
            if b_in:
                mlp.b_in.copy_(mlp.b_in @ R)
            mlp.W_out.copy_(back(R) @ mlp.W_out)
    return new


@mistake("rotate_hidden", hint="The bias is not rotated: `b_in` becomes `b_in @ R`.")
def bias_not_rotated(model, R):
    return _rotate(model, R, b_in=False)


@mistake("rotate_hidden", hint="Back means by the transpose: `W_out` becomes `R.T @ W_out`.")
def rotated_twice(model, R):
    return _rotate(model, R, back=lambda R: R)


@mistake("rotate_hidden", hint="The hidden layer is not rotated back: `W_out` becomes `R.T @ W_out`.")
def not_rotated_back(model, R):
    return _rotate(model, R, back=lambda R: torch.eye(len(R)))


@mistake("rotate_hidden", hint="Only the first layer's MLP is rotated. Do it in every block.")
def first_layer_alone(model, R):
    return _rotate(model, R, layers=1)


@mistake("rotate_hidden", hint="This rotates by the transpose of R: `W_in @ R`, `b_in @ R`, `R.T @ W_out`.")
def the_other_way_round(model, R):
    return _rotate(model, R.T)


@mistake("rotate_hidden", hint="`W_in` is left as it was: it becomes `W_in @ R`.")
def in_weights_not_rotated(model, R):
    return _rotate(model, R, W_in=False)


@mistake("rotate_hidden", hint="Nothing is rotated: this is the model as it was.")
def nothing_rotated(model, R):
    return copy.deepcopy(model)


# kurtosis -----------------------------------------------------------------------------------


@mistake("kurtosis", hint="This is the excess over a bell curve's. Do not subtract 3.")
def excess(x):
    return (_centred(x).pow(4).mean(-1) / _centred(x).pow(2).mean(-1) ** 2).mean().item() - 3


@mistake("kurtosis", hint="The mean of each row is not taken out.")
def kurtosis_not_centred(x):
    return (x.pow(4).mean(-1) / x.pow(2).mean(-1) ** 2).mean().item()


@mistake("kurtosis", hint="You take the kurtosis of each column. What counts is how the entries of one vector differ: each row by itself.")
def of_columns(x):
    c = x - x.mean(0)
    return (c.pow(4).mean(0) / c.pow(2).mean(0) ** 2).mean().item()


@mistake("kurtosis", hint="This is the kurtosis of all numbers together: large rows count for more, and rows of different size look heavy-tailed. Take each row by itself, then average.")
def of_all_numbers(x):
    c = x - x.mean()
    return (c.pow(4).mean() / c.pow(2).mean() ** 2).item()


@mistake("kurtosis", hint="You divide means over all rows. Divide row by row, then average.")
def ratio_of_means(x):
    c = _centred(x)
    return (c.pow(4).mean() / c.pow(2).mean(-1).pow(2).mean()).item()


@mistake("kurtosis", hint="The variance is not squared: divide by its square, so that the size of a row does not matter.")
def divided_by_the_variance(x):
    c = _centred(x)
    return (c.pow(4).mean(-1) / c.pow(2).mean(-1)).mean().item()


@mistake("kurtosis", hint="You divide by d - 1 in the variance. Both means divide by d.")
def unbiased_variance(x):
    return (_centred(x).pow(4).mean(-1) / x.var(-1) ** 2).mean().item()


# vocabulary_space ---------------------------------------------------------------------------


@mistake("vocabulary_space", hint="You use the transpose for both. With `pseudo_inverse=True` take `torch.linalg.pinv(W_E)`.")
def always_the_transpose(W_E, vectors, pseudo_inverse):
    return vectors @ W_E.T


@mistake("vocabulary_space", hint="You use the pseudo-inverse for both. With `pseudo_inverse=False` take the transpose, `W_E.T`.")
def always_the_pseudo_inverse(W_E, vectors, pseudo_inverse):
    return vectors @ torch.linalg.pinv(W_E)


@mistake("vocabulary_space", hint="The two are exchanged: `pseudo_inverse=True` asks for `torch.linalg.pinv(W_E)`.")
def ways_exchanged(W_E, vectors, pseudo_inverse):
    return vectors @ (W_E.T if pseudo_inverse else torch.linalg.pinv(W_E))


@mistake("vocabulary_space", hint="These are cosines. Leave the lengths of the embeddings in: plain dot products.")
def by_cosine(W_E, vectors, pseudo_inverse):
    if pseudo_inverse:
        return vectors @ torch.linalg.pinv(W_E)
    return vectors @ (W_E / W_E.norm(dim=-1, keepdim=True)).T


@mistake("vocabulary_space", hint="This is a softmax of the weights. The weights themselves are asked for, and may be negative.")
def softmaxed(W_E, vectors, pseudo_inverse):
    return (vectors @ (torch.linalg.pinv(W_E) if pseudo_inverse else W_E.T)).softmax(-1)


@mistake("vocabulary_space", hint="The embeddings are centred (their mean taken out). Use W_E as it is.")
def embeddings_centred(W_E, vectors, pseudo_inverse):
    E = W_E - W_E.mean(0)
    return vectors @ (torch.linalg.pinv(E) if pseudo_inverse else E.T)


# neuron_partners ----------------------------------------------------------------------------


def _partners(a, b, centre=True, scale=True, of=lambda r: r.amax(1), eps=1e-8):
    def standard(x):
        c = x - x.mean(0) if centre else x
        return c / c.norm(dim=0).clamp(min=eps) if scale else c / len(x) ** 0.5

    return of(standard(a).T @ standard(b))


@mistake("neuron_partners", hint="These are cosines: the means are not taken out. Correlation is the cosine of *centred* columns.")
def cosines(a, b):
    return _partners(a, b, centre=False)


@mistake("neuron_partners", hint="These are covariances: divide each column by its norm, once centred.")
def covariances(a, b):
    return _partners(a, b, scale=False)


@mistake("neuron_partners", hint="You take the largest correlation without its sign. A neuron that fires where the other one does not is no partner.")
def either_sign(a, b):
    return _partners(a, b, of=lambda r: r.abs().amax(1))


@mistake("neuron_partners", hint="This says *which* neuron is the partner. Return how large the correlation is.")
def index_of_the_partner(a, b):
    return _partners(a, b, of=lambda r: r.argmax(1).float())


@mistake("neuron_partners", hint="This is the best partner for each neuron of `b`. It is asked for each neuron of `a`.")
def for_each_of_b(a, b):
    return _partners(a, b, of=lambda r: r.amax(0))


@mistake("neuron_partners", hint="This is the mean correlation. Take the largest.")
def mean_correlation(a, b):
    return _partners(a, b, of=lambda r: r.mean(1))


@mistake("neuron_partners", hint="NaN comes from neurons that never change: their norm is 0. Clamp it, and their correlation is 0.")
def nan_for_silent_neurons(a, b):
    return _partners(a, b, eps=0.0)


# named_neurons ------------------------------------------------------------------------------


NAMED = [(1, 953, "token '):' & after token 'self'", 6.2), (0, 453, "token 'def' & keyword", 4.5), (1, 211, "after definition & before token 'self'", 5.6)]


@mistake("named_neurons", hint="A threshold of 0 counts every faint activation. Most neurons of this model are faintly active at many tokens, and strongly where they mean it: raise the threshold until F1 is largest.")
def fires_above_zero():
    return [(layer, neuron, name, 0.0) for layer, neuron, name, _ in NAMED]


@mistake("named_neurons", hint="Each of these has the right neuron and the wrong layer: layers count from 0.")
def layers_exchanged():
    return [(1 - layer, neuron, name, above) for layer, neuron, name, above in NAMED]


@mistake("named_neurons", hint="These names are too wide: the neurons fire at a small part of `keyword` or `definition`. Recall counts, too. Narrow the description: a token, or what stands before it.")
def names_too_wide():
    return [(1, 953, "close_bracket", 6.2), (0, 453, "keyword", 4.5), (1, 211, "open_bracket", 5.6)]


@mistake("named_neurons", hint="Nothing is named. Look at F1 on the text of this chapter, narrow the names of the best, and write three of them down.")
def names_nothing():
    return []


@mistake("named_neurons", hint="The same neuron three times counts once.")
def one_neuron_three_times():
    return NAMED[:1] * 3


@mistake("named_neurons", hint="You name what comes *next*: a neuron fires at a token, and what its value promotes comes after it.")
def names_what_comes_next():
    return [(1, 953, "newline & after token '):'", 6.2), (0, 453, "definition & after token 'def'", 4.5), (1, 211, "token 'self' & parameter", 5.6)]


# opposed_pair -------------------------------------------------------------------------------


@mistake("opposed_pair", hint="These values point the *same* way: their cosine is near 1. Look for the lowest cosine.")
def most_alike():
    return 1, *_extreme(1, 1)


@mistake("opposed_pair", hint="Their values point apart, but they hardly ever fire together: they do not undo each other, they say different things of different places. Look at the next pairs of the list.")
def apart_in_the_text():
    return 1, 522, 524


@mistake("opposed_pair", hint="This is the most opposed pair of layer 0, where no two values are much opposed. Look in the other layer.")
def of_the_other_layer():
    return 0, 235, 969


@mistake("opposed_pair", hint="The layer is the wrong one: layers count from 0.")
def pair_in_the_wrong_layer():
    return 0, 253, 844


@mistake("opposed_pair", hint="Return three numbers: the layer, and the two neurons.")
def without_the_layer():
    return 253, 844


@mistake("opposed_pair", hint="The neuron has no opposite in itself: the second one must be another.")
def a_neuron_and_itself():
    return 1, 253, 253


def _extreme(layer, sign):
    from utils.pretrained import load_model

    value = _centred(load_model("full_two_layer").W_out[layer].detach())
    value = value / value.norm(dim=-1, keepdim=True)
    cosines = sign * (value @ value.T).fill_diagonal_(-sign * 9.0 if sign > 0 else 9.0)
    return divmod(int(cosines.argmax()), len(value))
