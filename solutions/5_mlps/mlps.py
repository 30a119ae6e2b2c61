# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5 · MLPs: neurons, keys and values

# %% tags=["setup"]
import copy

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits import check, hint, progress, reveal
from utils import Transformer, get_act_name

# %% [markdown]
# ## LayerNorm: one number per position that no weight can hold
#
# Every reader of this model, each attention layer, each MLP and the unembedding, reads the stream through a
# *LayerNorm* (Ba et al., 2016). For the vector $x \in \mathbb{R}^{d_\text{model}}$ at one position:
#
# $$\text{LN}(x) = \frac{x - \mu}{s} \odot w + b
# \qquad \mu = \frac{1}{d}\sum_i x_i, \quad s = \sqrt{\frac{1}{d}\sum_i (x_i - \mu)^2 + \varepsilon}$$
#
# $w$ and $b$ (`ln.w`, `ln.b`, both `[d_model]`) are learned, $\varepsilon$ (`model.cfg.eps`) is a small constant that
# avoids a division by 0, and $\odot$ multiplies entry by entry. Each position has its own mean $\mu$ and its own *scale* $s$.

# %% [markdown]
# ### Exercise · LayerNorm    ●○○   5 min
#
# Write it. `x` is `[batch pos d_model]`; mean and scale are taken over the last dimension.
#
# <details><summary>Hint 1</summary>
# <code>x.mean(-1, keepdim=True)</code> keeps a dimension of size 1, so that it can be subtracted from <code>x</code>.
# </details>
# <details><summary>Hint 2</summary>
# The scale is the root of the <em>mean</em> of the squares (divide by d, not by d - 1), with <code>eps</code> added
# before the root is taken.
# </details>

# %% exercise="layer_norm"
def layer_norm(
    x: Float[Tensor, "batch pos d_model"],
    w: Float[Tensor, "d_model"],
    b: Float[Tensor, "d_model"],
    eps: float,
) -> Float[Tensor, "batch pos d_model"]:
    """Centre each vector, divide it by its scale, then multiply by w and add b."""
    ### BEGIN SOLUTION
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return centred / scale * w + b
    ### END SOLUTION

# %% check="layer_norm"
check("layer_norm")

# %% [markdown]
# ## What folds away
#
# Is this model still a sum of linear maps? A step that is linear (up to a constant) can be *folded*: merged into the
# weights before or after it, so that the model computes the same without the step. Look at LayerNorm as four steps, and at its older
# relative *BatchNorm*, which at inference subtracts a fixed mean and divides by a fixed scale, both collected in
# training:
#
# | step | `"layer ..."` | `"batch ..."` |
# |---|---|---|
# | `"mean"` | subtract the mean of this vector's entries | subtract a fixed vector |
# | `"scale"` | divide by the scale of this vector | divide by a fixed vector |
# | `"weight"` | multiply by $w$ | multiply by $w$ |
# | `"bias"` | add $b$ | add $b$ |

# %% [markdown]
# ### Exercise · predict: what folds away    ●○○   4 min
#
# Which of the eight steps can be folded into weights and biases? Commit first: True if the step is a fixed linear map
# plus a fixed vector, for every input. The check fits the best such map to each step, on fresh vectors, and sees
# whether anything is left.
#
# <details><summary>Hint 1</summary>
# A map f is linear plus a constant if f(x + y) + f(0) = f(x) + f(y). Try it with y = x: is the step of 2x twice the
# step of x (up to a constant)?
# </details>
# <details><summary>Hint 2</summary>
# The mean of a vector's entries is linear in the vector: <code>x - mean</code> is <code>x @ (I - 11ᵀ/d)</code>. What of its
# scale?
# </details>

# %% exercise="folds_away"
def folds_away(step: str) -> bool:
    """Whether a step, "layer mean", "layer scale", ..., "batch bias", can be folded into weights."""
    ### BEGIN SOLUTION
    return step != "layer scale"
    ### END SOLUTION

# %% check="folds_away"
check("folds_away")

# %% [markdown]
# ## Folding
#
# So three of the four steps can go. In this model:
#
# - **Centring.** If every *writer* (embedding, head, MLP, and their biases) writes vectors of mean 0, the stream has mean 0,
#   and there is nothing to subtract. Take the mean over `d_model` out of each row of $W_E$, $W_O$, $W_\text{out}$ and
#   out of $b_O$, $b_\text{out}$: LayerNorm would have removed it anyway.
# - **$b$.** A reader computes $(\hat{x} \odot w + b)\,W + b_W$. Add $b W$ to $b_W$, and set $b = 0$.
# - **$w$.** $(\hat{x} \odot w)\,W = \hat{x}\,(\text{diag}(w)\,W)$: multiply row $i$ of $W$ by $w_i$, and set $w = 1$.
#
# With one exception. Our positions are added *behind* the first LayerNorm of a block, to what queries and keys
# read: $(\hat{x} \odot w + b + p)\,W_Q$. Multiplied into $W_Q$, $w$ would also act on $p$. So `ln1.w` stays. Nothing
# is lost by that: it is a fixed diagonal matrix, and one reads $\text{diag}(w)\,W_V$ for $W_V$.

# %% [markdown]
# ### Exercise · fold LayerNorm    ●●○   15 min
#
# Return a new model with the same logits in which all writers are centred, `ln2` and `ln_final` have $w = 1$ and
# $b = 0$, and every `ln1` has $b = 0$ (its $w$ stays). Shapes: `block.attn.W_Q [n_heads d_model d_head]`, `b_Q [n_heads
# d_head]`, `W_O [n_heads d_head d_model]`, `b_O [d_model]`; `block.mlp.W_in [d_model d_mlp]`, `b_in [d_mlp]`, `W_out
# [d_mlp d_model]`, `b_out [d_model]`; `model.unembed.W_U [d_model d_vocab]`, `b_U [d_vocab]`.
#
# <details><summary>Hint 1</summary>
# Start with <code>new = copy.deepcopy(model)</code> and change it inside <code>with torch.no_grad():</code>. Fold
# <code>b</code> before <code>w</code>: it meets the weights as they were.
# </details>
# <details><summary>Hint 2</summary>
# For queries: <code>attn.b_Q += torch.einsum("d,hde->he", ln1.b, attn.W_Q)</code>; the same for keys and values. For the MLP:
# <code>mlp.b_in += ln2.b @ mlp.W_in</code>, then <code>mlp.W_in *= ln2.w[:, None]</code>.
# </details>
# <details><summary>Hint 3</summary>
# Centring is one line for each writer: <code>W -= W.mean(-1, keepdim=True)</code> for <code>W_E, W_O, b_O, W_out,
# b_out</code>. All of them have <code>d_model</code> last.
# </details>

# %% exercise="fold_layer_norm"
def fold_layer_norm(model: Transformer) -> Transformer:
    """The same model with LayerNorm folded into its weights: one scale per position is left."""
    ### BEGIN SOLUTION
    new = copy.deepcopy(model)
    with torch.no_grad():
        new.embed.W_E -= new.W_E.mean(-1, keepdim=True)
        for block in new.blocks:
            attn, mlp, ln1, ln2 = block.attn, block.mlp, block.ln1, block.ln2
            for W, b in ((attn.W_Q, attn.b_Q), (attn.W_K, attn.b_K), (attn.W_V, attn.b_V)):
                b += torch.einsum("d,hde->he", ln1.b, W)
            ln1.b.zero_()
            mlp.b_in += ln2.b @ mlp.W_in
            mlp.W_in *= ln2.w[:, None]
            ln2.w.fill_(1.0)
            ln2.b.zero_()
            for W in (attn.W_O, attn.b_O, mlp.W_out, mlp.b_out):
                W -= W.mean(-1, keepdim=True)
        new.unembed.b_U += new.ln_final.b @ new.W_U
        new.unembed.W_U *= new.ln_final.w[:, None]
        new.ln_final.w.fill_(1.0)
        new.ln_final.b.zero_()
    return new
    ### END SOLUTION

# %% check="fold_layer_norm"
check("fold_layer_norm")

# %% [markdown]
# ## Hold the scale, and the sum is back
#
# The last stream is a sum of parts: embedding, and for each layer what its attention and its MLP write. The logits
# are a linear function of it, *if* the final scale $s$ is held at what it was in this run:
#
# $$\text{logits} = \sum_{\text{parts } r} \frac{r - \bar{r}}{s} \odot w \; W_U \;+\; (b\,W_U + b_U)
# \qquad \bar{r}: \text{the mean of } r\text{'s entries}$$
#
# This is how direct logit attribution (chapter 4) is done in a model with LayerNorm. It answers "what did this part
# add, given how large the stream came out", not "what if this part had not been there": then $s$ would change too.

# %% [markdown]
# ### Exercise · logits with a frozen scale    ●●○   10 min
#
# One term for each part, in the order in which they are written: the embedding, then attention and MLP of each
# layer (`attn_out`, `mlp_out`, with their biases), and last the constant $b\,W_U + b_U$. They sum to the logits. `model` is any
# model with LayerNorm, folded or not.
#
# <details><summary>Hint 1</summary>
# <code>cache["embed"]</code>, <code>cache["attn_out", layer]</code>, <code>cache["mlp_out", layer]</code>; the scale is that of
# <code>cache["resid_post", -1]</code>, one number per position.
# </details>
# <details><summary>Hint 2</summary>
# <code>scale = (final.var(-1, unbiased=False, keepdim=True) + model.cfg.eps).sqrt()</code>, and for each part
# <code>(part - part.mean(-1, keepdim=True)) / scale * model.ln_final.w @ model.W_U</code>.
# </details>

# %% exercise="frozen_scale_logits"
def frozen_scale_logits(
    model: Transformer, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "n_parts batch pos d_vocab"]:
    """What each part adds to the logits at the final scale of this run; last, what does not depend on the text."""
    ### BEGIN SOLUTION
    _, cache = model.run_with_cache(tokens)
    layers = range(model.cfg.n_layers)
    parts = [cache["embed"], *(cache[name, layer] for layer in layers for name in ("attn_out", "mlp_out"))]
    final = cache["resid_post", -1]
    scale = (final.var(-1, unbiased=False, keepdim=True) + model.cfg.eps).sqrt()
    ln, W_U = model.ln_final, model.W_U
    logits = [(part - part.mean(-1, keepdim=True)) / scale * ln.w @ W_U for part in parts]
    constant = ln.b @ W_U + model.unembed.b_U
    return torch.stack([*logits, constant.expand_as(logits[0])])
    ### END SOLUTION

# %% check="frozen_scale_logits"
check("frozen_scale_logits")

# %% [markdown]
# ## Neurons: keys and values
#
# An MLP with ReLU is a sum over its $d_\text{mlp}$ *neurons* $n$ (chapter 0):
#
# $$\text{MLP}(x) = \sum_n a_n(x)\; v_n + b_\text{out} \qquad a_n(x) = \text{ReLU}(k_n \cdot x + b_n)$$
#
# The *key* $k_n$ is column $n$ of $W_\text{in}$ `[d_model d_mlp]`, the *value* $v_n$ is row $n$ of $W_\text{out}$ `[d_mlp
# d_model]`. The key decides *when* (a pattern in the text), the value decides *what is written*. So Geva and others
# (*Transformer Feed-Forward Layers Are Key-Value Memories*, 2021) call each neuron a memory. The cache holds $a_n$ as
# `post`, and what stands inside the ReLU as `pre`.

# %% [markdown]
# ### Exercise · the sum over neurons    ●○○   5 min
#
# What each neuron of a layer writes, one vector per neuron and position. With `b_out` they sum to `mlp_out`.
#
# <details><summary>Hint 1</summary>
# <code>cache["post", layer]</code> is <code>[batch pos d_mlp]</code>, <code>model.W_out[layer]</code> is <code>[d_mlp
# d_model]</code>. The result has both: nothing is summed.
# </details>
# <details><summary>Hint 2</summary>
# <code>post[..., None] * W_out</code>.
# </details>

# %% exercise="neuron_contributions"
def neuron_contributions(
    model: Transformer, tokens: Int[Tensor, "batch pos"], layer: int
) -> Float[Tensor, "batch pos d_mlp d_model"]:
    """Activation times value for every neuron of a layer."""
    ### BEGIN SOLUTION
    _, cache = model.run_with_cache(tokens, names_filter=get_act_name("post", layer))
    return cache["post", layer][..., None] * model.W_out[layer]
    ### END SOLUTION

# %% check="neuron_contributions"
check("neuron_contributions")

# %% [markdown]
# ### Exercise · what a value says    ●○○   5 min
#
# A neuron's value goes into the stream, and from there, among other ways, straight through the final LayerNorm to
# the logits. What it does to them at a scale of 1 (only the *ratios* between tokens count): centre it, multiply by `ln_final.w`, apply
# $W_U$.
#
# <details><summary>Hint 1</summary>
# The value is <code>model.W_out[layer, neuron]</code>, a vector <code>[d_model]</code>. Subtract the mean of its entries.
# </details>
# <details><summary>Hint 2</summary>
# <code>(value - value.mean()) * model.ln_final.w @ model.W_U</code>. In a folded model this is <code>value @
# model.W_U</code>.
# </details>

# %% exercise="neuron_logits"
def neuron_logits(model: Transformer, layer: int, neuron: int) -> Float[Tensor, "d_vocab"]:
    """What a neuron's value adds to the logits, per unit of its activation, at a final scale of 1."""
    ### BEGIN SOLUTION
    value = model.W_out[layer, neuron]
    return (value - value.mean()) * model.ln_final.w @ model.W_U
    ### END SOLUTION

# %% check="neuron_logits"
check("neuron_logits")

# %% [markdown]
# ### Exercise · where a neuron fires    ●○○   6 min
#
# The k places `(row, position)` of a batch of texts at which a neuron's `pre` is largest, the largest first. (By
# `pre` and not by `post`, so that there are no ties at 0. Where the neuron fires, the order is the same.)
#
# <details><summary>Hint 1</summary>
# <code>cache["pre", layer][..., neuron]</code> is <code>[batch pos]</code>. Flatten it, and <code>topk</code> gives
# indices of the flat list.
# </details>
# <details><summary>Hint 2</summary>
# Flat index i is row <code>i // n_pos</code>, position <code>i % n_pos</code>; <code>divmod(i, n_pos)</code> gives both.
# </details>

# %% exercise="top_contexts"
def top_contexts(
    model: Transformer, tokens: Int[Tensor, "batch pos"], layer: int, neuron: int, k: int
) -> list[tuple[int, int]]:
    """The k places (row, position) where the neuron is driven most, in falling order."""
    ### BEGIN SOLUTION
    _, cache = model.run_with_cache(tokens, names_filter=get_act_name("pre", layer))
    pre = cache["pre", layer][..., neuron]
    return [divmod(i, pre.shape[1]) for i in pre.flatten().topk(k).indices.tolist()]
    ### END SOLUTION

# %% check="top_contexts"
check("top_contexts")

# %% [markdown]
# ### Exercise · the strongest input    ●●○   12 min
#
# Real text shows what a neuron meets. What does it *want*? Search: start from `tokens`, and change one position at a time to the token of
# the vocabulary that drives the neuron's `pre` at the *last* position most, until no single change helps. The
# first token, `<|bos|>`, stays.
#
# <details><summary>Hint 1</summary>
# To try all tokens at position i: <code>tries = best.repeat(d_vocab, 1)</code>, <code>tries[:, i] =
# torch.arange(d_vocab)</code>, and run the model once on this batch.
# </details>
# <details><summary>Hint 2</summary>
# Go over the positions 1, 2, ... again and again, and stop after a round in which nothing got better. Accept a
# change only if it is better than the best so far: then the search must end.
# </details>

# %% exercise="max_activating_input"
def max_activating_input(
    model: Transformer, tokens: Int[Tensor, "pos"], layer: int, neuron: int
) -> Int[Tensor, "pos"]:
    """Tokens of which no single one (but the first) can be changed to drive the neuron more at the end."""
    ### BEGIN SOLUTION
    def drive(batch):
        _, cache = model.run_with_cache(batch, names_filter=get_act_name("pre", layer))
        return cache["pre", layer][:, -1, neuron]

    best, most = tokens.clone(), drive(tokens[None]).item()
    better = True
    while better:
        better = False
        for position in range(1, len(tokens)):
            tries = best.repeat(model.cfg.d_vocab, 1)
            tries[:, position] = torch.arange(model.cfg.d_vocab)
            drives = drive(tries)
            if drives.max() > most + 1e-5:
                best, most, better = tries[drives.argmax()].clone(), drives.max().item(), True
    return best
    ### END SOLUTION

# %% check="max_activating_input"
check("max_activating_input")

# %% [markdown]
# ## A name for a neuron, and how good it is
#
# "This neuron fires in comments" is a claim that can be wrong in two ways: it fires elsewhere, too, or it misses
# most comments. Our text is Python, and Python itself says what each token is: `utils.labels` gives for every
# token its classes (`comment`, `string`, `keyword`, `definition`, ...). So measure. Of the tokens at which the neuron
# fires, the share in the class is the *precision* $P$; of the tokens in the class, the share at which it fires is the
# *recall* $R$. Both in one number:
#
# $$F_1 = \frac{2 P R}{P + R} = \frac{2\,\#(\text{fires and in the class})}{\#\text{fires} + \#\text{in the class}}$$
#
# It is 1 if the two are the same, and low if one is much larger than the other.

# %% [markdown]
# ### Exercise · F1 of every neuron for every class    ●●○   8 min
#
# `fires[i, n]` says whether neuron n fires at token i, `labels[i, c]` whether token i is in class c. Return the $F_1$ of each
# pair; 0 where a neuron never fires and a class never occurs.
#
# <details><summary>Hint 1</summary>
# How many tokens have both? For all pairs at once that is a matrix product, <code>fires.T</code> with
# <code>labels</code>, as floats.
# </details>
# <details><summary>Hint 2</summary>
# The denominator is <code>fires.sum(0)[:, None] + labels.sum(0)</code>; <code>.clamp(min=1)</code> avoids 0 / 0.
# </details>

# %% exercise="pattern_f1"
def pattern_f1(
    fires: Bool[Tensor, "n d_mlp"], labels: Bool[Tensor, "n n_classes"]
) -> Float[Tensor, "d_mlp n_classes"]:
    """F1 of "the neuron fires" for "the token is in the class", for each pair."""
    ### BEGIN SOLUTION
    both = fires.float().T @ labels.float()
    return 2 * both / (fires.sum(0)[:, None] + labels.sum(0)).clamp(min=1)
    ### END SOLUTION

# %% check="pattern_f1"
check("pattern_f1")

# %% [markdown]
# ### Exercise · find three neurons with a name    ●●●   20 min
#
# Find three neurons that fire where *you* say, with an $F_1$ above 0.8. Write each as `(layer, neuron, description, threshold)`: the
# neuron counts as firing where its `post` is above the threshold. A description is a class, such as `"newline"`, or a token's text, such as
# `"token 'def'"` (any blanks around it), each also of the token before (`"after parameter"`) or the next one (`"before
# definition"`), and several joined by ` & `. The check measures on files that this chapter does not look at, and asks for 0.75 there: a
# name that was fitted to one text loses a little on another. A point for each neuron.
#
# `looking.where(description)` says where a description holds, `[row pos]`; `posts[layer][:, :, neuron]` are the activations there. Work in a
# cell of your own.
#
# <details><summary>Hint 1</summary>
# The table above names candidates. Print <code>top_contexts</code> of one with a few tokens around: at which token does it fire, and
# what do the places have in common? Then narrow the name.
# </details>
# <details><summary>Hint 2</summary>
# For a neuron and a description, try thresholds from a tenth to eight tenths of its largest activation, and keep the best F1.
# </details>
# <details><summary>Hint 3</summary>
# Neuron 453 of layer 0 likes one keyword. Neuron 593 of layer 1 fires at the beginning of the names of certain functions, 211 behind the
# name of a method, 953 at the end of a method's head.
# </details>

# %% exercise="named_neurons"
def named_neurons() -> list[tuple[int, int, str, float]]:
    """Three neurons (layer, neuron, description, threshold) that fire where the description holds."""
    ### BEGIN SOLUTION
    return [
        (0, 453, "token 'def' & keyword", 4.5),
        (1, 593, "token 'test' & after token 'def'", 4.9),
        (1, 211, "after definition & before token 'self'", 5.6),
    ]
    ### END SOLUTION

# %% check="named_neurons"
check("named_neurons")

# %% [markdown]
# ## Geva's questions
#
# How many memories does a token wake? Geva and others (2021) trained a 16-layer model on Wikipedia, and found 10 to
# 50% of a layer's neurons active at a time.

# %% [markdown]
# ### Exercise · the active share    ●○○   4 min
#
# For each layer, the share of its neurons that are active (`post` above 0), averaged over all positions of all texts.
#
# <details><summary>Hint 1</summary>
# A mean of <code>post > 0</code> over everything.
# </details>
# <details><summary>Hint 2</summary>
# <code>(cache["post", layer] > 0).float().mean()</code>, stacked over the layers.
# </details>

# %% exercise="active_share"
def active_share(model: Transformer, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "n_layers"]:
    """The mean share of each layer's neurons whose activation is above 0."""
    ### BEGIN SOLUTION
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("mlp.hook_post"))
    layers = range(model.cfg.n_layers)
    return torch.stack([(cache["post", layer] > 0).float().mean() for layer in layers])
    ### END SOLUTION

# %% check="active_share"
check("active_share")

# %% [markdown]
# ### Exercise · do key and value agree?    ●●○   10 min
#
# If a neuron is a memory "after *this*, say *that*", its value should promote what follows where its key fires. Take
# for each neuron of a layer the one context that drives it most (by `pre`; the last position of a text has no next token
# and does not count), and ask: is the value's top token, through the final LayerNorm as in `neuron_logits`, the token
# that comes *next* there?
#
# <details><summary>Hint 1</summary>
# <code>pre[:, :-1].flatten(0, 1).argmax(0)</code> is the best context of every neuron, and <code>tokens[:,
# 1:].flatten()</code> what comes next at each.
# </details>
# <details><summary>Hint 2</summary>
# All values at once: <code>W_out = model.W_out[layer]</code>, <code>((W_out - W_out.mean(-1, keepdim=True)) *
# model.ln_final.w @ model.W_U).argmax(-1)</code>.
# </details>

# %% exercise="value_agreement"
def value_agreement(
    model: Transformer, tokens: Int[Tensor, "batch pos"], layer: int
) -> Bool[Tensor, "d_mlp"]:
    """For each neuron, whether its value's top token comes next in the context that drives it most."""
    ### BEGIN SOLUTION
    _, cache = model.run_with_cache(tokens, names_filter=get_act_name("pre", layer))
    best = cache["pre", layer][:, :-1].flatten(0, 1).argmax(0)
    W_out = model.W_out[layer]
    values = (W_out - W_out.mean(-1, keepdim=True)) * model.ln_final.w @ model.W_U
    return tokens[:, 1:].flatten()[best] == values.argmax(-1)
    ### END SOLUTION

# %% check="value_agreement"
check("value_agreement")

# %% [markdown]
# ### Exercise · one memory's word, or nobody's?    ●●○   10 min
#
# A layer's top token is the one that the *sum* of its active neurons, $\sum_n a_n v_n$ (without $b_\text{out}$), promotes most
# through the final LayerNorm. At what share of all positions is it *not* the top token of any single active neuron's
# value? Then nobody proposed it: it is a compromise.
#
# <details><summary>Hint 1</summary>
# Each value's top token, as in the last exercise, is <code>tops</code> <code>[d_mlp]</code>. The layer's: the
# same map applied to <code>post @ W_out</code>, <code>[batch pos]</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>(tops == layer_top[..., None]) & (post > 0)</code> is <code>[batch pos d_mlp]</code>; the answer is the share of
# positions where it holds for no neuron.
# </details>

# %% exercise="composed_share"
def composed_share(model: Transformer, tokens: Int[Tensor, "batch pos"], layer: int) -> float:
    """The share of positions at which a layer's top token is the top token of no active neuron."""
    ### BEGIN SOLUTION
    _, cache = model.run_with_cache(tokens, names_filter=get_act_name("post", layer))
    post, W_out = cache["post", layer], model.W_out[layer]

    def top(x):
        return ((x - x.mean(-1, keepdim=True)) * model.ln_final.w @ model.W_U).argmax(-1)

    proposed = (top(W_out) == top(post @ W_out)[..., None]) & (post > 0)
    return (~proposed.any(-1)).float().mean().item()
    ### END SOLUTION

# %% check="composed_share"
check("composed_share")

# %% [markdown]
# ### Exercise · find an opposed pair    ●●○   10 min
#
# If two neurons fire together and their values point apart, one takes back what the other writes. Find such a pair: the cosine of the
# centred values below -0.4, both firing (`post` above 0) together at least twice as often as by chance (the product of their
# shares), and where they do, what they write together with less than 80% of the squared length that it would have at right
# angles. The check measures on other files. Return `(layer, neuron, neuron)`.
#
# <details><summary>Hint 1</summary>
# Cosines of all pairs: centre the rows of <code>W_out[layer]</code>, divide by their norms, and multiply by the transpose. Which layer has
# cosines below -0.4?
# </details>
# <details><summary>Hint 2</summary>
# For the few most opposed pairs, compare <code>(fires_i & fires_j).float().mean()</code> with the product of their means. Print what
# their values promote: the best pair disagrees about indentation.
# </details>

# %% exercise="opposed_pair"
def opposed_pair() -> tuple[int, int, int]:
    """A layer and two of its neurons that fire together and undo each other."""
    ### BEGIN SOLUTION
    return 1, 253, 844
    ### END SOLUTION

# %% check="opposed_pair"
check("opposed_pair")

# %% [markdown]
# ## Paths through neurons
#
# With patterns and scales held, attention is linear. Hold the ReLU's *gates*, too (open, 1, where the neuron
# fires; shut, 0, elsewhere), and the MLP is linear as well. Then the logit of a token $t$ at the last position is a sum over *paths*. Let
# $r$ run over the *sources*, all that was written before the last MLP: embedding, heads, earlier layers' neurons, and a constant. In
# a folded model, with $s_\text{mid}$ the scale before that MLP, $s$ the final one, and $g_n$ the gate of neuron $n$:
#
# $$\text{logit}_t = \sum_r \underbrace{\frac{r \cdot u_t}{s}}_{\text{direct}} + \sum_r \sum_n
# \underbrace{\frac{r \cdot k_n}{s_\text{mid}}\; g_n\; \frac{v_n \cdot u_t}{s}}_{\text{through neuron } n}
# \qquad u_t: \text{column } t \text{ of } W_U$$
#
# Nothing is approximated: it is this run's logit, written as a sum.

# %% [markdown]
# ### Exercise · path expansion with MLPs    ●●●   20 min
#
# `model` is folded (`fold_layer_norm`). For each text return the direct terms and the terms through each neuron of the last MLP, for the
# logit of `target` at the last position. The sources, in this order: the embedding; every head's result, layer by layer; for each
# layer but the last, what its neurons write together; and a constant. The constant's vector holds all $b_O$, and $b_\text{out}$ of
# all layers but the last. To its direct terms also belong the last $b_\text{out}$ (as a vector, over $s$) and $b_U$ at the target; to its terms through a
# neuron, the neuron's $b_\text{in}$ (not divided by $s_\text{mid}$).
#
# <details><summary>Hint 1</summary>
# Stack the sources to <code>[n_sources batch d_model]</code>: <code>cache["embed"][:, -1]</code>,
# <code>cache["result", layer][:, -1, head]</code>, <code>cache["post", layer][:, -1] @ model.W_out[layer]</code>. They sum to
# <code>cache["resid_mid", -1][:, -1]</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>out = model.W_U[:, target].T / s[:, None]</code> is the direction that counts, one per text. Direct:
# <code>einsum("sbd,bd->sb", sources, out)</code>. A scale is <code>(x.pow(2).mean(-1) + eps).sqrt()</code>.
# </details>
# <details><summary>Hint 3</summary>
# What the neurons read: <code>reads = sources @ W_in / s_mid[:, None]</code>, <code>reads[-1] += b_in</code>. What
# each is worth: <code>worth = (post > 0) * (out @ W_out.T)</code>, <code>[batch d_mlp]</code>. Through: <code>reads *
# worth</code>.
# </details>

# %% exercise="mlp_path_expansion"
def mlp_path_expansion(
    model: Transformer, tokens: Int[Tensor, "batch pos"], target: Int[Tensor, "batch"]
) -> tuple[Float[Tensor, "n_sources batch"], Float[Tensor, "n_sources batch d_mlp"]]:
    """The logit of each text's target at the last position as a sum over paths: direct, and through neurons."""
    ### BEGIN SOLUTION
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    _, cache = model.run_with_cache(tokens)
    attns, mlps = [block.attn for block in model.blocks], [block.mlp for block in model.blocks]
    embed, mid, final = (cache[name][:, -1] for name in ("embed", ("resid_mid", -1), ("resid_post", -1)))
    heads = [cache["result", layer][:, -1, head] for layer in range(n_layers) for head in range(n_heads)]
    earlier = [cache["post", layer][:, -1] @ mlps[layer].W_out for layer in range(n_layers - 1)]
    constant = sum(attn.b_O for attn in attns) + sum(mlp.b_out for mlp in mlps[:-1])
    sources = torch.stack([embed, *heads, *earlier, constant.expand_as(embed)])

    s_mid, s = ((x.pow(2).mean(-1, keepdim=True) + model.cfg.eps).sqrt() for x in (mid, final))
    out = model.W_U[:, target].T / s
    direct = torch.einsum("sbd,bd->sb", sources, out)
    direct[-1] += out @ mlps[-1].b_out + model.unembed.b_U[target]
    reads = sources @ mlps[-1].W_in / s_mid
    reads[-1] += mlps[-1].b_in
    worth = (cache["post", -1][:, -1] > 0) * (out @ mlps[-1].W_out.T)
    return direct, reads * worth
    ### END SOLUTION

# %% check="mlp_path_expansion"
check("mlp_path_expansion")

# %% [markdown]
# ### Exercise · whom does a head drive?    ●●○   8 min
#
# A head writes into the stream just before its layer's MLP reads it. Which neuron of the layer does it move most? In a
# folded model, a head's part of every neuron's `pre` is its result, divided by the scale of `resid_mid`, times
# $W_\text{in}$. Return the neuron at which this part varies most: the largest standard deviation over all
# positions of all texts.
#
# <details><summary>Hint 1</summary>
# <code>cache["result", layer][:, :, head]</code> is <code>[batch pos d_model]</code>; the scale, one number per position,
# is <code>(cache["resid_mid", layer].pow(2).mean(-1, keepdim=True) + model.cfg.eps).sqrt()</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>(result / scale @ model.W_in[layer]).flatten(0, 1).std(0).argmax().item()</code>.
# </details>

# %% exercise="driven_neuron"
def driven_neuron(model: Transformer, tokens: Int[Tensor, "batch pos"], layer: int, head: int) -> int:
    """The neuron of a folded model's layer whose pre-activation a head of that layer moves most."""
    ### BEGIN SOLUTION
    names = [get_act_name("result", layer), get_act_name("resid_mid", layer)]
    _, cache = model.run_with_cache(tokens, names_filter=names)
    scale = (cache["resid_mid", layer].pow(2).mean(-1, keepdim=True) + model.cfg.eps).sqrt()
    part = cache["result", layer][:, :, head] / scale @ model.W_in[layer]
    return part.flatten(0, 1).std(0).argmax().item()
    ### END SOLUTION

# %% check="driven_neuron"
check("driven_neuron")

# %% [markdown]
# ## Which basis is real?
#
# Rotate the residual stream in all that reads and writes it, and an attention-only model does the same (chapter 1). So no single
# coordinate of the stream means anything by itself. Neurons are different. Between $W_\text{in}$ and
# $W_\text{out}$ stands a ReLU that acts on each coordinate alone:
#
# $$\text{ReLU}(x\,W_\text{in}\,R)\;R^\top W_\text{out} \ne \text{ReLU}(x\,W_\text{in})\,W_\text{out}
# \qquad R: [d_\text{mlp}\; d_\text{mlp}] \text{ orthogonal}$$
#
# The neuron basis is *privileged*: that is why one may hope to find a meaning for a neuron.

# %% [markdown]
# ### Exercise · rotate the neurons    ●○○   6 min
#
# Return a new model in which the hidden layer of every MLP is rotated by the same $R$ before the ReLU, and rotated back after it:
# $W_\text{in} R$, $b_\text{in} R$, $R^\top W_\text{out}$. Without the ReLU it would be the same model.
#
# <details><summary>Hint 1</summary>
# <code>new = copy.deepcopy(model)</code>, then change each <code>block.mlp</code> inside <code>with
# torch.no_grad():</code>. For example with <code>mlp.W_in.copy_(...)</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>mlp.W_in.copy_(mlp.W_in @ R)</code>, <code>mlp.b_in.copy_(mlp.b_in @ R)</code>, <code>mlp.W_out.copy_(R.T @
# mlp.W_out)</code>.
# </details>

# %% exercise="rotate_hidden"
def rotate_hidden(model: Transformer, R: Float[Tensor, "d_mlp d_mlp"]) -> Transformer:
    """A copy of the model whose MLPs' hidden layers are rotated by R before the ReLU, and back after it."""
    ### BEGIN SOLUTION
    new = copy.deepcopy(model)
    with torch.no_grad():
        for block in new.blocks:
            mlp = block.mlp
            mlp.W_in.copy_(mlp.W_in @ R)
            mlp.b_in.copy_(mlp.b_in @ R)
            mlp.W_out.copy_(R.T @ mlp.W_out)
    return new
    ### END SOLUTION

# %% check="rotate_hidden"
check("rotate_hidden")

# %% [markdown]
# ### Exercise · kurtosis    ●○○   5 min
#
# Does the model itself prefer a basis? If the coordinates of a vector were as good as any others, its entries would look like
# draws from one bell curve. A few large entries among many small ones betray a preferred basis. The *kurtosis* of a
# vector's entries $x_i$ sees that:
#
# $$\frac{\frac{1}{d}\sum_i (x_i - \mu)^4}{\big(\frac{1}{d}\sum_i (x_i - \mu)^2\big)^2}
# \qquad \text{a bell curve: } 3, \quad \text{a single entry} \ne 0: \text{about } d$$
#
# Take it of each row of `x`, and return the mean over the rows.
#
# <details><summary>Hint 1</summary>
# Centre each row: <code>x - x.mean(-1, keepdim=True)</code>. Means of 4th and of 2nd powers are over the entries of a row.
# </details>
# <details><summary>Hint 2</summary>
# <code>c.pow(4).mean(-1) / c.pow(2).mean(-1) ** 2</code> is one number per row: average them last.
# </details>

# %% exercise="kurtosis"
def kurtosis(x: Float[Tensor, "n d"]) -> float:
    """The kurtosis of the entries of each row, averaged over the rows; 3 for normal ones."""
    ### BEGIN SOLUTION
    c = x - x.mean(-1, keepdim=True)
    return (c.pow(4).mean(-1) / c.pow(2).mean(-1) ** 2).mean().item()
    ### END SOLUTION

# %% check="kurtosis"
check("kurtosis")

# %% [markdown]
# ## Vectors as tokens
#
# Keys live in the same space as embeddings. So Dar and others (*Analyzing Transformers in Embedding Space*, 2022) read any
# vector $x$ of the stream as weights over tokens. Two ways, with $E = W_E$ `[d_vocab d_model]`:
#
# $$x\,E^\top \quad \text{(how much does } x \text{ point along each embedding?)} \qquad
# x\,E^{+} \quad \text{(which mixture of embeddings } \textit{is } x\text{?)}$$
#
# $E^{+}$ `[d_model d_vocab]` is the pseudo-inverse: the smallest weights $c$ with $c\,E = x$. The first is simpler, and it is what
# they use; it is justified if $E^\top E$ is nearly a multiple of the identity.

# %% [markdown]
# ### Exercise · the vocabulary space    ●●○   6 min
#
# Write each of `vectors` as a row of weights over tokens: by the transpose, or by the pseudo-inverse.
#
# <details><summary>Hint 1</summary>
# By the transpose: the dot product of each vector with each row of <code>W_E</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>torch.linalg.pinv(W_E)</code> is <code>[d_model d_vocab]</code>.
# </details>

# %% exercise="vocabulary_space"
def vocabulary_space(
    W_E: Float[Tensor, "d_vocab d_model"], vectors: Float[Tensor, "n d_model"], pseudo_inverse: bool
) -> Float[Tensor, "n d_vocab"]:
    """Vectors of the stream as weights over tokens: dot products, or the smallest mixture that gives them."""
    ### BEGIN SOLUTION
    return vectors @ (torch.linalg.pinv(W_E) if pseudo_inverse else W_E.T)
    ### END SOLUTION

# %% check="vocabulary_space"
check("vocabulary_space")

# %% [markdown]
# ## Another seed
#
# Train the same recipe from another random start, and neuron 17 will be another neuron. But is there *some* neuron in the second
# model that fires where neuron 17 of the first one fires? Compare activations on the same text, by
# correlation.

# %% [markdown]
# ### Exercise · partners    ●●○   8 min
#
# `a [n d_a]` and `b [n d_b]` hold the activations of two models' neurons at the same n tokens. For each neuron of
# `a` return the largest correlation with any neuron of `b`. A neuron that never changes has a correlation of 0 with
# all.
#
# <details><summary>Hint 1</summary>
# Take the mean out of each column and divide by its norm. Then the correlations of all pairs are a matrix product.
# </details>
# <details><summary>Hint 2</summary>
# <code>c = x - x.mean(0)</code>, <code>c / c.norm(dim=0).clamp(min=1e-8)</code>; <code>(a.T @ b).amax(1)</code>.
# </details>

# %% exercise="neuron_partners"
def neuron_partners(a: Float[Tensor, "n d_a"], b: Float[Tensor, "n d_b"]) -> Float[Tensor, "d_a"]:
    """For each column of a, its largest correlation with a column of b."""
    ### BEGIN SOLUTION
    def standard(x):
        c = x - x.mean(0)
        return c / c.norm(dim=0).clamp(min=1e-8)

    return (standard(a).T @ standard(b)).amax(1)
    ### END SOLUTION

# %% check="neuron_partners"
check("neuron_partners")
