# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5 · MLPs: neurons, keys and values
#
# We have left out the largest part of a transformer. After the attention of each layer stands an *MLP*, a
# *multi-layer perceptron*, with twice as many weights: 1,024 small detectors, *neurons*, each of which looks at one
# position and adds a vector to it. What do they look for, and what do they say?
#
# **After this chapter you can**
#
# - fold LayerNorm into the weights, and say what cannot be folded;
# - write an MLP as a sum of keys and values, and every logit as a sum of paths through neurons;
# - give a neuron a name, and measure how good the name is, against controls;
# - test what others have claimed of neurons, and say where this model differs.
#
# **Time**: about 210 minutes, 177 of them for the exercises. **Needs**: chapters 0 to 2; chapter 4 helps. **Follows**: *Transformer
# Feed-Forward Layers Are Key-Value Memories* (Geva et al., 2021), *Transformer Feed-Forward Layers Build Predictions
# by Promoting Concepts in the Vocabulary Space* (Geva et al., 2022), *Privileged Bases in the Transformer Residual
# Stream* (Elhage et al., 2023).

# %% tags=["setup"]
import copy

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuits import check, hint, progress, reveal
from utils import Transformer, get_act_name

# %% [markdown]
# The model is new: `full_two_layer` has two layers like `two_layer`, and besides MLPs with ReLU, LayerNorm and
# biases. It was trained on the same text. So were the others below: the same recipe from another random start, the
# same with another optimizer, and a narrower model of four layers, to compare with. The text to look at is held-out
# code, in windows of 256 tokens; `utils.labels` says of every token what Python takes it for.

# %%
from utils import load_model
from utils.figures import plots
from utils.figures.neurons import cards, place
from utils.figures.views import named, short_name
from utils.labels import CLASSES, label_library
from utils.waiting import waiting

others = ["full_two_layer_1", "full_two_layer_adamw", "full_four_layer"]
shipped = {
    name: load_model(name).requires_grad_(False)
    for name in ["two_layer", "full_two_layer", *others]
}
two, full, second_seed, by_adamw, four = shipped.values()
layers = range(full.cfg.n_layers)
looking = label_library(0).windows(128, 256, torch.Generator().manual_seed(0))
tokens = looking.tokens

def losses(model: Transformer, tokens: Tensor) -> Tensor:
    """The loss at each position but the last, in nats, a few texts at a time."""
    parts = [
        torch.nn.functional.cross_entropy(
            model(part)[:, :-1].transpose(1, 2), part[:, 1:], reduction="none"
        )
        for part in waiting(tokens.split(16), "Running the model for its loss")
    ]
    return torch.cat(parts)

def activations(model: Transformer, tokens: Tensor, *kinds: str) -> list[list[Tensor]]:
    """Some kinds of activation, and of each every layer's, `[row pos ...]`."""
    names = [[get_act_name(kind, layer) for layer in range(model.cfg.n_layers)] for kind in kinds]
    wanted = sum(names, [])
    parts = waiting(tokens.split(16), "Running the model for its activations")
    caches = [model.run_with_cache(part, names_filter=wanted)[1] for part in parts]
    return [[torch.cat([cache[name] for cache in caches]) for name in row] for row in names]

pres, mids = activations(full, tokens, "pre", "resid_mid")
posts = [pre.relu() for pre in pres]
print(f"{tokens.numel():,} tokens of {looking.n_files} held-out files", end="")
print(f" ({looking.n_left_out} left out: it does not parse)." if looking.n_left_out else ".")
print("loss on 32 of the windows, nats per token:")
for name, model in shipped.items():
    print(f"  {name:<22} {losses(model, tokens[:32]).mean():.3f}")
n_mlp = sum(W.numel() for name, W in full.named_parameters() if ".mlp." in name)
n_attn = sum(W.numel() for name, W in full.named_parameters() if ".attn." in name)
print(f"weights of full_two_layer: {n_mlp:,} in MLPs, {n_attn:,} in attention")

# %% [markdown]
# ## Where this chapter ends
#
# A neuron of each layer, its strongest places in real text with the firing token marked, what its value promotes, and
# how well the name in its title fits: $F_1$, which is 1 for a perfect name. Below, the same for a random direction in
# its place.

# %%
def best_f1(activation: Tensor, inside: Tensor) -> tuple[float, float]:
    """The best F1 over thresholds from 0 up to the largest activation, and its threshold."""
    thresholds = torch.linspace(0, 0.95, 20) * activation.max()
    fires = activation.flatten() > thresholds[:, None]
    both = (fires & inside.flatten()).sum(1)
    f1 = 2 * both / (fires.sum(1) + inside.sum()).clamp(min=1)
    return f1.max().item(), thresholds[f1.argmax()].item()

opening = [(0, 453, "token 'def' & keyword"), (1, 211, "after definition & before token 'self'")]
generator = torch.Generator().manual_seed(0)
shown = []
for layer, neuron, name in opening:
    activation, inside = posts[layer][..., neuron], looking.where(name)
    W = full.ln_final.w[:, None] * full.W_U
    says = named(full, full.W_out[layer, neuron] @ (W - W.mean(0)), 6)
    direction = torch.randn(full.cfg.d_model, generator=generator)
    chance = best_f1((full.blocks[layer].ln2(mids[layer]) @ direction).relu(), inside)[0]
    spots, rows = [], set()
    for i in activation.flatten().argsort(descending=True).tolist():
        row, position = divmod(i, tokens.shape[1])
        if row not in rows and len(spots) < 4:  # one place of each window
            rows.add(row)
            spots.append(place(full, tokens, row, position, activation[row, position]))
    title = f"Neuron {layer}.{neuron}: {name}"
    f1 = f"F1 {best_f1(activation, inside)[0]:.2f} (a random direction: {chance:.2f})"
    shown.append((title, spots, [f"promotes  {says}", f1]))
cards(shown);

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
# avoids a division by 0, and $\odot$ multiplies entry by entry. Each position has its own mean $\mu$ and its own
# *scale* $s$.

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

# %%
_, cache = full.run_with_cache(tokens[:8])
for layer in layers:
    ln2, mid = full.blocks[layer].ln2, cache["resid_mid", layer]
    difference = (layer_norm(mid, ln2.w, ln2.b, full.cfg.eps) - ln2(mid)).abs().max()
    scale = mid.std(-1, unbiased=False).flatten()
    print(
        f"before the MLP of layer {layer}: largest difference to the model's own {difference:.1e}; "
        f"scale from {scale.min():.2f} to {scale.max():.2f}, mean {scale.mean():.2f}"
    )

# %% [markdown]
# ## What folds away
#
# Is this model still a sum of linear maps? A step that is linear (up to a constant) can be *folded*: merged into the
# weights before or after it, so that the model computes the same without the step. Look at LayerNorm as four steps,
# and at its older relative *BatchNorm*, which at inference subtracts a fixed mean and divides by a fixed scale, both
# collected in training:
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
    """Whether a step, "layer mean", "layer scale", ..., "batch bias", folds into weights."""
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

# %%
folded = fold_layer_norm(full)
with torch.no_grad():
    before, after = full(tokens[:8]), folded(tokens[:8])
    _, cache = folded.run_with_cache(tokens[:8])
print(f"logits between {before.min():.1f} and {before.max():.1f}; folding moves them by at most "
      f"{(before - after).abs().max():.1e}")
final = cache["resid_post", -1]
print(f"largest mean of a stream: {final.mean(-1).abs().max():.1e}")
streams = {f"before the MLP of layer {i}": cache["resid_mid", i] for i in layers}
scales = {
    where: x.pow(2).mean(-1).sqrt().flatten()
    for where, x in (streams | {"before the unembedding": final}).items()
}
plots.histogram(
    {f"{where}: mean {s.mean():.2f}": s / s.mean() for where, s in scales.items()},
    {},
    "What is left of LayerNorm: one scale per position",
    "scale (root mean square of the stream), relative to its mean",
    "positions",
);

# %% [markdown]
# **What to see here.** The folded model is the same to rounding. What the weights cannot hold is one number for each
# position and reader, and it does vary: where the stream is long, each part of it counts for less. From here on we
# read weights off `folded`.

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
# One term for each part, in the order in which they are written: the embedding, then attention and MLP of each layer
# (`attn_out`, `mlp_out`, with their biases), and last the constant $b\,W_U + b_U$. They sum to the logits. `model` is
# any model with LayerNorm, folded or not.
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
    """What each part adds to the logits at this run's final scale; last, a constant."""
    ### BEGIN SOLUTION
    _, cache = model.run_with_cache(tokens)
    layers = range(model.cfg.n_layers)
    written = [cache[name, layer] for layer in layers for name in ("attn_out", "mlp_out")]
    parts = [cache["embed"], *written]
    final = cache["resid_post", -1]
    scale = (final.var(-1, unbiased=False, keepdim=True) + model.cfg.eps).sqrt()
    ln, W_U = model.ln_final, model.W_U
    logits = [(part - part.mean(-1, keepdim=True)) / scale * ln.w @ W_U for part in parts]
    constant = ln.b @ W_U + model.unembed.b_U
    return torch.stack([*logits, constant.expand_as(logits[0])])
    ### END SOLUTION

# %% check="frozen_scale_logits"
check("frozen_scale_logits")

# %%
some = tokens[:4]
parts = frozen_scale_logits(full, some)
written = [f"{kind} {layer}" for layer in layers for kind in ("attention", "MLP")]
part_names = ["embedding", *written, "constant"]
error = (parts.sum(0) - full(some)).abs().max()
print(f"the parts sum to the logits: largest difference {error:.1e}")

next_token = some[:, 1:]
right = parts[:, :, :-1].gather(-1, next_token.expand(len(parts), -1, -1)[..., None])[..., 0]
right = right - parts[:, :, :-1].mean(-1)  # against the average token
_, cache = full.run_with_cache(some)
raw = [cache["embed"]]
raw += [cache[kind, layer] for layer in layers for kind in ("attn_out", "mlp_out")]
forgot = torch.stack([x @ full.W_U for x in raw])[:, :, :-1]
forgotten = forgot.gather(-1, next_token.expand(len(forgot), -1, -1)[..., None])[..., 0]
forgotten = forgotten - forgot.mean(-1)
width = max(map(len, part_names))
print("\nadded to the logit of the right next token (above the average token): mean")
print(f"{'':<{width}}  with the scale   without LayerNorm")
for name, a, b in zip(part_names, right.mean((1, 2)), [*forgotten.mean((1, 2)), None], strict=True):
    print(f"{name:<{width}}  {a:>14.2f}   {'' if b is None else f'{b:>17.2f}'}")
share = (right[:-1].argmax(0) != forgotten.argmax(0)).float().mean()
print(f"\nAt {share:.0%} of the places, another part comes first if LayerNorm is forgotten.")

# %% [markdown]
# **What to see here.** With the scale held, the parts add up. Without LayerNorm the numbers are in other units: they
# are too large by about the final scale, which differs from place to place, and lack $w$. In this model the order of
# the parts mostly survives that; their sizes and their sum do not. And notice who speaks: the MLP of layer 0 adds
# most, and attention in layer 0 nearly nothing by itself. It works through others.

# %% [markdown]
# ## Neurons: keys and values
#
# An MLP with ReLU is a sum over its $d_\text{mlp}$ *neurons* $n$ (chapter 0):
#
# $$\text{MLP}(x) = \sum_n a_n(x)\; v_n + b_\text{out} \qquad a_n(x) = \text{ReLU}(k_n \cdot x + b_n)$$
#
# The *key* $k_n$ is column $n$ of $W_\text{in}$ `[d_model d_mlp]`, the *value* $v_n$ is row $n$ of $W_\text{out}$
# `[d_mlp d_model]`. The key decides *when* (a pattern in the text), the value decides *what is written*. So Geva and
# others (*Transformer Feed-Forward Layers Are Key-Value Memories*, 2021) call each neuron a memory. The cache holds
# $a_n$ as `post`, and what stands inside the ReLU as `pre`.

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

# %%
row = tokens[:1, :64]
written = neuron_contributions(folded, row, 1)
_, cache = folded.run_with_cache(row)
error = (written.sum(2) + folded.blocks[1].mlp.b_out - cache["mlp_out", 1]).abs().max()
sizes = written.norm(dim=-1).sort(descending=True).values.mean((0, 1))
print(f"{written.shape[2]} vectors per position; sum and MLP differ by at most {error:.1e}")
largest, tenth, hundredth = sizes[[0, 9, 99]].tolist()
print(f"mean length: largest {largest:.2f}, tenth {tenth:.2f}, hundredth {hundredth:.2f}")

# %% [markdown]
# ### Exercise · what a value says    ●○○   5 min
#
# A neuron's value goes into the stream, and from there, among other ways, straight through the final LayerNorm to the
# logits. What it does to them at a scale of 1 (only the *ratios* between tokens count): centre it, multiply by
# `ln_final.w`, apply $W_U$.
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
    """What a neuron's value adds to the logits, per unit of activation, at a final scale of 1."""
    ### BEGIN SOLUTION
    value = model.W_out[layer, neuron]
    return (value - value.mean()) * model.ln_final.w @ model.W_U
    ### END SOLUTION

# %% check="neuron_logits"
check("neuron_logits")

# %%
for layer, neuron, _ in opening:
    logits = neuron_logits(full, layer, neuron)
    error = (logits - neuron_logits(folded, layer, neuron)).abs().max()
    print(f"neuron {layer}.{neuron} (in the folded model the same up to {error:.1e})")
    print(f"    promotes    {named(full, logits, 7)}")
    print(f"    suppresses  {named(full, logits, 7, largest=False)}")

# %% [markdown]
# **What to see here.** In the last layer one can often read off what a value is for: behind the name of a method
# comes `self`. In the first layer less so, as its values are read by the second layer too. And what a value
# *suppresses* is often an odd mixture, such as bytes that occur in no ordinary text.

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

# %%
def show_places(model, tokens: Tensor, layer: int, neuron: int, k: int = 4) -> tuple:
    """A card of a neuron: its k strongest places, in different windows, and what it says."""
    spots, rows = [], set()
    for row, position in top_contexts(model, tokens, layer, neuron, 200):
        if row not in rows and len(spots) < k:
            rows.add(row)
            spots.append(place(model, tokens, row, position, posts[layer][row, position, neuron]))
    says = named(model, neuron_logits(model, layer, neuron), 6)
    return f"Neuron {layer}.{neuron}", spots, [f"promotes  {says}"]

looked_at = waiting([(0, 702), (1, 953), (1, 844)], "Looking for the strongest places")
cards([show_places(full, tokens[:64], *which) for which in looked_at]);

# %% [markdown]
# **What to see here.** Some neurons need no explanation. But four strongest places are a small and flattering sample:
# a neuron that fires at *everything*, and most at brackets, would look like this, too. Below we count all places.

# %% [markdown]
# ### Exercise · the strongest input    ●●○   12 min
#
# Real text shows what a neuron meets. What does it *want*? Search: start from `tokens`, and change one position at a
# time to the token of the vocabulary that drives the neuron's `pre` at the *last* position most, until no single
# change helps. The first token, `<|bos|>`, stays.
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
    """Tokens of which no single one (but the first) can be changed to drive the neuron more."""
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

# %%
start = full.to_tokens("import os")[0, :3]
for layer, neuron in [(0, 453), (1, 593)]:
    found = max_activating_input(full, start, layer, neuron)
    _, cache = full.run_with_cache(found[None], names_filter=get_act_name("pre", layer))
    most = posts[layer][..., neuron].max()
    text = " ".join(short_name(full, int(t)) for t in found[1:])
    drive = cache["pre", layer][0, -1, neuron]
    print(f"neuron {layer}.{neuron}: driven to {drive:.2f} by  {text}   (real text: {most:.2f})")

# %% [markdown]
# **What to see here.** Two tokens, chosen freely, drive a neuron harder than thirty thousand of real text, and need
# not look like any. The last one is what the neuron is about; the other pushes it through attention. That is why we
# look at real text for what a neuron *does*, and search for what it *could* do.

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
# `fires[i, n]` says whether neuron n fires at token i, `labels[i, c]` whether token i is in class c. Return the $F_1$
# of each pair; 0 where a neuron never fires and a class never occurs.
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
# Now every neuron, every class. Besides the syntax of the token itself, ask for the commonest single tokens, and for
# what stands before. A neuron "fires" where it is above a threshold, some share of its largest activation; the best
# threshold and the best name are chosen on one half of the windows and measured on the other, so that choosing among
# many does not flatter.
#
# A class that covers a share $p$ of the text is cheap: a neuron that always fires has an $F_1$ of $2p / (1 + p)$ for
# it. So names that cover more than a fifth are left out.
#
# The controls get the same choices: random directions in the neurons' place, biased so that they fire as often; and
# the neurons of a model with the same shape and random weights.

# %%
common = torch.bincount(tokens.flatten(), minlength=full.cfg.d_vocab).topk(120).indices.tolist()
kinds = {
    "syntax": {name: looking[name] for name in CLASSES},
    "token": {f"token {full.to_string(t)!r}": tokens == t for t in common},
    "place": {f"after {name}": looking.where(f"after {name}") for name in CLASSES}
    | {f"before {name}": looking.where(f"before {name}") for name in CLASSES}
    | {f"indented by {n}": looking["indent"] == n for n in (0, 4, 8, 12, 16)}
    | {f"in {n} or more brackets": looking["bracket_depth"] >= n for n in (1, 2, 3)},
}
every = [
    (kind, name, inside)
    for kind, group in kinds.items()
    for name, inside in group.items()
    if inside.float().mean() < 0.2
]
kind_of, class_names = [kind for kind, *_ in every], [name for _, name, _ in every]
labels = torch.stack([inside[:96].flatten() for *_, inside in every], dim=1)

def best_names(activation: Tensor) -> tuple[Tensor, Tensor]:
    """The F1 of each neuron for its best name, on the second half of the text, and that name."""
    first, second = activation[:96].flatten(0, 1).chunk(2)
    first_labels, second_labels = labels.chunk(2)
    fitted = torch.zeros(activation.shape[-1], labels.shape[1])
    tested, n_directions = fitted.clone(), fitted.shape[0]
    for share in waiting((0, 0.15, 0.3, 0.45, 0.6), f"Naming {n_directions} directions"):
        threshold = share * first.amax(0)
        f1 = pattern_f1(first > threshold, first_labels)
        better = f1 > fitted
        fitted[better] = f1[better]
        tested[better] = pattern_f1(second > threshold, second_labels)[better]
    name = fitted.argmax(1)
    return tested.gather(1, name[:, None])[:, 0], name

def random_directions(model: Transformer, layer: int, mid: Tensor, post: Tensor) -> Tensor:
    """As many random readers of the same stream, each firing as often as one of the neurons."""
    x = model.blocks[layer].ln2(mid)
    generator = torch.Generator().manual_seed(layer)
    drive = x @ torch.randn(x.shape[-1], post.shape[-1], generator=generator) / x.shape[-1] ** 0.5
    silent = (post == 0).float().mean((0, 1))
    ranked = drive[::4].flatten(0, 1).sort(0).values
    start = ranked.gather(0, (silent * (len(ranked) - 1)).long()[None])
    return (drive - start).relu()

with torch.random.fork_rng():
    torch.manual_seed(0)
    untrained = Transformer(full.cfg, full.tokenizer).requires_grad_(False)
scores = {}
for layer in layers:
    scores[f"layer {layer}"] = best_names(posts[layer])
    directions = random_directions(full, layer, mids[layer][:96], posts[layer][:96])
    scores[f"layer {layer}, random directions"] = best_names(directions)
for layer, post in enumerate(activations(untrained, tokens[:96], "post")[0]):
    scores[f"layer {layer}, random model"] = best_names(post)

def show_scores(scores: dict[str, tuple[Tensor, Tensor]]) -> None:
    print(f"{'':<27}  above 0.5  above 0.8  median   kinds of the names above 0.5")
    for what, (f1, name) in scores.items():
        good = [kind_of[i] for i, x in zip(name.tolist(), f1.tolist(), strict=True) if x > 0.5]
        counts = ", ".join(f"{kind} {good.count(kind)}" for kind in kinds if kind in good)
        half, most = ((f1 > bar).float().mean() for bar in (0.5, 0.8))
        print(f"{what:<27}  {half:>9.1%}  {most:>9.1%}  {f1.median():>6.2f}   {counts}")

show_scores(scores)
print()
for layer in layers:
    f1, name = scores[f"layer {layer}"]
    best = f1.topk(9)
    print(f"layer {layer}:")
    for x, neuron in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        print(f"  {x:.2f}  neuron {neuron:<5} {class_names[name[neuron]]}")

# %%
quantiles = torch.linspace(0, 1, 513)
ax = plots.lines(
    {what: (f1.quantile(quantiles), 1 - quantiles) for what, (f1, _) in scores.items()},
    "How many neurons have a name, and how good is it?",
    "F1 of the best name, on text that it was not chosen on",
    "share of the neurons that reach it",
    ax=plots.axes(size=(7.5, 3.8)),
)
ax.set_yscale("log")
ax.set_ylim(1e-3, 1);

# %% [markdown]
# **What to see here.** In layer 1 a twentieth of the neurons has a name with an $F_1$ above 0.5, more than ten times
# as many as among random directions. In layer 0 there is hardly a difference: what its MLP reads is little more than
# the embedding of the token, and a random direction singles out some token, too. Only the very best names are the
# neurons' own. (With random weights in *all* of the model, no name fits: so random directions in a trained stream are
# the harder control, and the fair one.)
#
# And they are *few*. Most neurons have no name in our list, at any threshold. The best names are single tokens; a
# place or a class comes seldom, and no whole class such as "comment" has a neuron of its own. A neuron without a name
# need not be without meaning: our list may lack it, or a meaning may be spread over many neurons (chapter 6).

# %% [markdown]
# Is that so in every model? The same measurement on the model with four layers, 768 neurons each:

# %%
four_pre, four_mid = activations(four, tokens[:96], "pre", "resid_mid")
four_scores = {}
for layer, (pre, mid) in enumerate(zip(four_pre, four_mid, strict=True)):
    four_scores[f"layer {layer}"] = best_names(pre.relu())
    directions = random_directions(four, layer, mid, pre.relu())
    four_scores[f"layer {layer}, random directions"] = best_names(directions)
del four_pre, four_mid
show_scores(four_scores)

# %% [markdown]
# **What to see here.** A quarter of the neurons of layer 0 has a good name, and one in twenty an excellent one: a
# fine result, had we not asked random directions. They do as well. In this model the MLP of layer 0 reads a stream
# that is nearly the token's embedding, so *every* direction singles out tokens, and their names say nothing of
# neurons. What is the neurons' own shows in two places: in layers 1 and 2, at several times the control, and in the
# kind of name. Whole classes of syntax, of many different tokens, are named by neurons in layers 0 to 2, and hardly
# ever by random directions. A claim about neurons needs that row beside it.

# %% [markdown]
# ### Exercise · find three neurons with a name    ●●●   20 min
#
# Find three neurons that fire where *you* say, with an $F_1$ above 0.8. Write each as `(layer, neuron, description,
# threshold)`: the neuron counts as firing where its `post` is above the threshold. A description is a class, such as
# `"newline"`, or a token's text, such as `"token 'def'"` (any blanks around it), each also of the token before
# (`"after parameter"`) or the next one (`"before definition"`), and several joined by ` & `. The check measures on
# files that this chapter does not look at, and asks for 0.7 there: a name that was fitted to one text loses a little
# on another. A point for each neuron.
#
# `looking.where(description)` says where a description holds, `[row pos]`; `posts[layer][:, :, neuron]` are the
# activations there. Work in a cell of your own.
#
# <details><summary>Hint 1</summary>
# The table above names candidates. Print <code>top_contexts</code> of one with a few tokens around: at which token does it fire, and
# what do the places have in common? Then narrow the name.
# </details>
# <details><summary>Hint 2</summary>
# For a neuron and a description, try thresholds from a tenth to eight tenths of its largest activation, and keep the best F1.
# </details>
# <details><summary>Hint 3</summary>
# Neuron 453 of layer 0 likes one keyword. In layer 1, neuron 211 fires behind the name of a method, 953 at the end of a method's
# head, and 593 (if your Python comes with its tests) at the beginning of certain names.
# </details>

# %% exercise="named_neurons"
def named_neurons() -> list[tuple[int, int, str, float]]:
    """Three neurons (layer, neuron, description, threshold) that fire where it holds."""
    ### BEGIN SOLUTION
    return [
        (0, 453, "token 'def' & keyword", 4.5),
        (1, 211, "after definition & before token 'self'", 5.6),
        (1, 953, "token '):' & after token 'self'", 6.2),
    ]
    ### END SOLUTION

# %% check="named_neurons"
check("named_neurons")

# %%
for layer, neuron, description, threshold in named_neurons():
    inside = looking.where(description)
    fires = posts[layer][..., neuron] > threshold
    f1 = pattern_f1(fires.flatten()[:, None], inside.flatten()[:, None]).item()
    precision, recall = ((fires & inside).sum() / x.sum().clamp(min=1) for x in (fires, inside))
    print(f"{layer}.{neuron:<5} {description:<42} at {int(inside.sum())} places")
    print(f"        F1 {f1:.2f}  precision {precision:.2f}  recall {recall:.2f}")

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
    layers = range(model.cfg.n_layers)
    _, cache = model.run_with_cache(tokens, names_filter=[get_act_name("post", i) for i in layers])
    return torch.stack([(cache["post", layer] > 0).float().mean() for layer in layers])
    ### END SOLUTION

# %% check="active_share"
check("active_share")

# %% [markdown]
# ### Exercise · do key and value agree?    ●●○   10 min
#
# If a neuron is a memory "after *this*, say *that*", its value should promote what follows where its key fires. Take
# for each neuron of a layer the one context that drives it most (by `pre`; the last position of a text has no next
# token and does not count), and ask: is the value's top token, through the final LayerNorm as in `neuron_logits`, the
# token that comes *next* there?
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
    """For each neuron, whether its value's top token comes next where it is driven most."""
    ### BEGIN SOLUTION
    _, cache = model.run_with_cache(tokens, names_filter=get_act_name("pre", layer))
    best = cache["pre", layer][:, :-1].flatten(0, 1).argmax(0)
    W_out = model.W_out[layer]
    values = (W_out - W_out.mean(-1, keepdim=True)) * model.ln_final.w @ model.W_U
    return tokens[:, 1:].flatten()[best] == values.argmax(-1)
    ### END SOLUTION

# %% check="value_agreement"
check("value_agreement")

# %%
shares = active_share(full, tokens[:32])
generator = torch.Generator().manual_seed(0)
shuffled = tokens.flatten()[torch.randperm(tokens.numel(), generator=generator)].view_as(tokens)
commonest = torch.bincount(tokens.flatten()).max() / tokens.numel()
W = full.ln_final.w[:, None] * full.W_U
W = W - W.mean(0)  # vectors times this are logits at a final scale of 1

def agreement(layer: int, following: Tensor, k: int) -> float:
    """The same, counting a hit if any of a value's k top tokens comes next."""
    best = pres[layer][:, :-1].flatten(0, 1).argmax(0)
    tops = (full.W_out[layer] @ W).topk(k).indices
    return (following[:, 1:].flatten()[best][:, None] == tops).any(1).float().mean().item()

print("                                                   layer 0   layer 1")
each = waiting(layers, "Comparing what values promote with what comes next")
agree = [value_agreement(full, tokens, i).float().mean() for i in each]
rows = {
    "active neurons per token": shares.tolist(),
    "the value's top token comes next": agree,
    "one of its ten top tokens comes next": [agreement(i, tokens, 10) for i in layers],
    "control: top token, another place's next token": [agreement(i, shuffled, 1) for i in layers],
    "control: ten top tokens, the same": [agreement(i, shuffled, 10) for i in layers],
}
for what, values in rows.items():
    print(f"{what:<48}  {values[0]:>8.2%}  {values[1]:>8.2%}")
print(f"one token of all: {1 / full.cfg.d_vocab:.3%}; the commonest token: {commonest:.2%}")

# %% [markdown]
# **What to see here.** Geva and others report agreement near 0% in layers 1 to 10 of 16, rising to 3.5% in the last,
# against 0.0004% by chance. In our last layer it is higher, with 2,048 tokens to choose from instead of a quarter of
# a million; in the first one lower, yet above its control. That fits their claim that *upper* layers predict. But
# ours is a weak test of it: with two layers, "upper" means "last", and the last layer is also the one whose values go
# nowhere but to the logits.

# %% [markdown]
# ### Exercise · one memory's word, or nobody's?    ●●○   10 min
#
# A layer's top token is the one that the *sum* of its active neurons, $\sum_n a_n v_n$ (without $b_\text{out}$),
# promotes most through the final LayerNorm. At what share of all positions is it *not* the top token of any single
# active neuron's value? Then nobody proposed it: it is a compromise.
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

# %%
for layer in layers:
    share = composed_share(full, tokens[:16], layer)
    print(f"layer {layer}: at {share:.0%} of the places its top token is no active neuron's own")

# Promotion against suppression: what do neurons do to the token that comes next, and to all others?
right = W[:, tokens[:16, 1:]].movedim(0, -1) - W.mean(1)  # [row pos d_model], against the average
for layer in layers:
    push = posts[layer][:16, :-1] * (right @ full.W_out[layer].T)  # [row pos d_mlp]
    up, down = push.clamp(min=0).sum(-1).mean(), push.clamp(max=0).sum(-1).mean()
    strongest = push.gather(-1, push.abs().argmax(-1, keepdim=True))
    raises = (strongest > 0).float().mean()
    print(f"layer {layer}: neurons raise the right token by {up:.1f}, lower it by {-down:.1f};")
    print(f"         the strongest one raises it at {raises:.0%} of the places")

# %% [markdown]
# **What to see here.** A prediction is a compromise here, too. (Logits before the final scale, so only the ratio
# counts.) Where Geva and others (2021) count at least two thirds of the predictions as nobody's own, we count about
# half, from far fewer tokens to choose among. Geva and others (2022) describe what MLPs write as *promotion* rather
# than suppression. For the token that comes next that holds here: the pushes up outweigh those down.

# %% [markdown]
# ### Exercise · find an opposed pair    ●●○   10 min
#
# If two neurons fire together and their values point apart, one takes back what the other writes. Find such a pair:
# the cosine of the centred values below -0.4, both firing (`post` above 0) together at least twice as often as by
# chance (the product of their shares), and where they do, what they write together with less than 85% of the squared
# length that it would have at right angles. The check measures on other files. Return `(layer, neuron, neuron)`.
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

# %%
layer, *pair = opposed_pair()
values = full.W_out[layer]
values = values - values.mean(-1, keepdim=True)
values = values / values.norm(dim=-1, keepdim=True)
fires = posts[layer][..., pair] > 0
both, chance = fires.all(-1).float().mean(), fires.float().mean((0, 1)).prod()
for neuron in pair:
    print(f"neuron {layer}.{neuron} promotes  {named(full, neuron_logits(full, layer, neuron), 5)}")
print(f"cosine of the values {values[pair[0]] @ values[pair[1]]:.2f}")
print(f"both fire at {both:.2%} of the tokens; by chance it would be {chance:.2%}")
noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
print("\nlowest and highest cosine of two values")
for what, x in [*((f"layer {i}", full.W_out[i]) for i in layers), ("random", noise)]:
    x = torch.nn.functional.normalize(x - x.mean(-1, keepdim=True), dim=-1)
    cosines = (x @ x.T)[~torch.eye(len(x), dtype=torch.bool)]
    print(f"  {what:<8} {cosines.min():.2f}  {cosines.max():.2f}")

# %% [markdown]
# **What to see here.** No two values are opposites; a cosine of -1 would cancel. The most opposed pairs fire in the
# same places and vote for different answers to one question: how far is the next line indented?

# %% [markdown]
# ## Paths through neurons
#
# With patterns and scales held, attention is linear. Hold the ReLU's *gates*, too (open, 1, where the neuron fires;
# shut, 0, elsewhere), and the MLP is linear as well. Then the logit of a token $t$ at the last position is a sum over
# *paths*. Let $r$ run over the *sources*, all that was written before the last MLP: embedding, heads, earlier layers'
# neurons, and a constant. In a folded model, with $s_\text{mid}$ the scale before that MLP, $s$ the final one, and
# $g_n$ the gate of neuron $n$:
#
# $$\text{logit}_t = \sum_r \underbrace{\frac{r \cdot u_t}{s}}_{\text{direct}} + \sum_r \sum_n
# \underbrace{\frac{r \cdot k_n}{s_\text{mid}}\; g_n\; \frac{v_n \cdot u_t}{s}}_{\text{through neuron } n}
# \qquad u_t: \text{column } t \text{ of } W_U$$
#
# Nothing is approximated: it is this run's logit, written as a sum.

# %% [markdown]
# ### Exercise · path expansion with MLPs    ●●●   20 min
#
# `model` is folded (`fold_layer_norm`). For each text return the direct terms and the terms through each neuron of
# the last MLP, for the logit of `target` at the last position. The sources, in this order: the embedding; every
# head's result, layer by layer; for each layer but the last, what its neurons write together; and a constant. The
# constant's vector holds all $b_O$, and $b_\text{out}$ of all layers but the last. To its direct terms also belong
# the last $b_\text{out}$ (as a vector, over $s$) and $b_U$ at the target; to its terms through a neuron, the neuron's
# $b_\text{in}$ (not divided by $s_\text{mid}$).
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
    """Each text's logit of its target at the end, as terms of paths: direct, through neurons."""
    ### BEGIN SOLUTION
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    _, cache = model.run_with_cache(tokens)
    attns, mlps = [block.attn for block in model.blocks], [block.mlp for block in model.blocks]
    embed, mid, final = cache["embed"], cache["resid_mid", -1], cache["resid_post", -1]
    embed, mid, final = (x[:, -1] for x in (embed, mid, final))
    heads = [cache["result", i][:, -1, head] for i in range(n_layers) for head in range(n_heads)]
    earlier = [cache["post", i][:, -1] @ mlps[i].W_out for i in range(n_layers - 1)]
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
# One prediction that a Python programmer understands at sight:

# %%
text = "class Stack:\n    def push(self, item):\n        self.items.append(item)\n\n    def pop("
prompt = full.to_tokens(text)
logits = folded(prompt)[0, -1]
target = logits.argmax()[None]
direct, through = mlp_path_expansion(folded, prompt, target)
path_error = (direct.sum() + through.sum() - logits[target]).abs().item()
print(f"{full.to_string(prompt[0, 1:])}·{full.to_string(target)}·\n")
n_paths = direct.numel() + through.numel()
print(f"logit {logits[target].item():.3f}, sum of {n_paths:,} paths, error {path_error:.1e}")
print(f"probability {logits.softmax(-1)[target].item():.0%}\n")

# What every token gets alike says nothing of this one: subtract the mean over the vocabulary.
centred = copy.deepcopy(folded)
with torch.no_grad():
    centred.unembed.W_U -= centred.unembed.W_U.mean(1, keepdim=True)
    centred.unembed.b_U -= centred.unembed.b_U.mean()
direct, through = (part[:, 0] for part in mlp_path_expansion(centred, prompt, target))
heads = [f"head {i}.{h}" for i in layers for h in range(full.cfg.n_heads)]
sources = ["embedding", *heads, "MLP of layer 0", "constant"]
paths = {source: x for source, x in zip(sources, direct.tolist(), strict=True)}
for n in through.abs().sum(0).nonzero()[:, 0].tolist():
    values = zip(sources, through[:, n].tolist(), strict=True)
    paths |= {f"{source} -> neuron 1.{n}": x for source, x in values}
print(f"above the average token: {sum(paths.values()):.2f}. The largest paths:")
for path in sorted(paths, key=lambda path: -abs(paths[path]))[:14]:
    print(f"  {paths[path]:+.2f}  {path}")
ranked = torch.tensor(list(paths.values())).abs().sort(descending=True).values
half = int((ranked.cumsum(0) < ranked.sum() / 2).sum()) + 1
print(f"Half of the sum of sizes is in {half} paths of {len(ranked):,} through open gates.")
print(f"Of the neurons of layer 1, {int((through.abs().sum(0) > 0).sum())} are open here.")
_, cache = folded.run_with_cache(prompt)
for head in (2, 6):
    weight, at = cache["pattern", 1][0, head, -1].max(0)
    seen = short_name(full, int(prompt[0, at]))
    print(f"Head 1.{head} looks from here at {seen}, weight {weight:.2f}.")

# %% [markdown]
# **What to see here.** The expansion is exact, and it names who said it. What layer 0 has written about this place
# (an opening bracket) goes straight to the answer: behind `(` often comes `self`. Head 1.6 looks back at the `def`,
# and both together open neurons of layer 1, among them 1.211, which fires behind the name of a method. The rest is
# spread over many small paths with both signs: an exact sum is not yet a short explanation. (A positive and a
# negative path through the *same* neuron are no disagreement. A neuron adds up what it reads, with its bias among the
# constants, before it fires.)

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
def driven_neuron(
    model: Transformer, tokens: Int[Tensor, "batch pos"], layer: int, head: int
) -> int:
    """The neuron of a folded model's layer whose `pre` a head of that layer moves most."""
    ### BEGIN SOLUTION
    names = [get_act_name("result", layer), get_act_name("resid_mid", layer)]
    _, cache = model.run_with_cache(tokens, names_filter=names)
    scale = (cache["resid_mid", layer].pow(2).mean(-1, keepdim=True) + model.cfg.eps).sqrt()
    part = cache["result", layer][:, :, head] / scale @ model.W_in[layer]
    return part.flatten(0, 1).std(0).argmax().item()
    ### END SOLUTION

# %% check="driven_neuron"
check("driven_neuron")

# %%
repeats = torch.randint(1, full.cfg.d_vocab, (16, 50), generator=torch.Generator().manual_seed(0))
repeats = torch.cat([torch.zeros(16, 1, dtype=torch.long), repeats, repeats], dim=1)
_, cache = full.run_with_cache(repeats)
offsets = {"looks at the token before": -1, "looks behind the previous occurrence": 1 - 50}
stripes = {
    what: [cache["pattern", i].diagonal(offset, 2, 3).mean((0, 2)) for i in layers]
    for what, offset in offsets.items()
}
for what, weight in stripes.items():
    head = torch.stack(weight).argmax().item()
    layer, head = divmod(head, full.cfg.n_heads)
    neuron = driven_neuron(folded, tokens[:32], layer, head)
    print(f"head {layer}.{head} {what} (weight {weight[layer][head]:.2f})")
    says = named(full, neuron_logits(full, layer, neuron), 5)
    print(f"    and drives neuron {layer}.{neuron} most, which promotes  {says}")

# %% [markdown]
# **What to see here.** The paper that gave us circuits ends where MLPs begin. This is how one goes on: heads move
# something to a place, and the neurons that read it there can be listed. Most heads drive many neurons about equally;
# the largest is only the first of a list.

# %% [markdown]
# ## Which basis is real?
#
# Rotate the residual stream in all that reads and writes it, and an attention-only model does the same (chapter 1).
# So no single coordinate of the stream means anything by itself. Neurons are different. Between $W_\text{in}$ and
# $W_\text{out}$ stands a ReLU that acts on each coordinate alone:
#
# $$\text{ReLU}(x\,W_\text{in}\,R)\;R^\top W_\text{out} \ne \text{ReLU}(x\,W_\text{in})\,W_\text{out}
# \qquad R: [d_\text{mlp}\; d_\text{mlp}] \text{ orthogonal}$$
#
# The neuron basis is *privileged*: that is why one may hope to find a meaning for a neuron.

# %% [markdown]
# ### Exercise · rotate the neurons    ●○○   6 min
#
# Return a new model in which the hidden layer of every MLP is rotated by the same $R$ before the ReLU, and rotated
# back after it: $W_\text{in} R$, $b_\text{in} R$, $R^\top W_\text{out}$. Without the ReLU it would be the same model.
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
    """A copy of the model whose neurons are rotated by R before the ReLU, and back after it."""
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

# %%
def random_rotation(n: int, seed: int) -> Tensor:
    return torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(seed)))[0]

R, some = random_rotation(full.cfg.d_mlp, 0), tokens[:8]

def rotate_stream(model: Transformer, R: Tensor) -> tuple[Transformer, list]:
    """A folded model with its stream rotated by R, and hooks that give it its positions."""
    new = copy.deepcopy(model)
    with torch.no_grad():
        for block in new.blocks:
            attn, mlp, w = block.attn, block.mlp, block.ln1.w[:, None]
            for W in (attn.W_Q, attn.W_K, attn.W_V):
                W.copy_(R.T @ (w * W))
            mlp.W_in.copy_(R.T @ mlp.W_in)
            for W in (attn.W_O, attn.b_O, mlp.W_out, mlp.b_out):
                W.copy_(W @ R)
            block.ln1.w.fill_(1.0)
        new.embed.W_E.copy_(new.W_E @ R)
        new.unembed.W_U.copy_(R.T @ new.W_U)
        new.pos_embed.W_pos.zero_()
    places = torch.arange(some.shape[1])

    def with_position(x, hook):  # positions come in behind the LayerNorm, where nothing is rotated
        W = getattr(model, f"W_{hook.name[-1].upper()}")[hook.layer()]
        return x + torch.einsum("pd,hde->phe", model.W_pos[places], W)

    hooks = [(get_act_name(kind, layer), with_position) for kind in "qk" for layer in layers]
    return new, hooks

# A rotation that leaves the direction (1, 1, ..., 1) alone: LayerNorm subtracts what lies along it.
d = full.cfg.d_model
Q = torch.linalg.qr(torch.cat([torch.ones(d, 1), random_rotation(d, 1)[:, 1:]], dim=1))[0]
inner = torch.block_diag(torch.ones(1, 1), random_rotation(d - 1, 2))
turned, hooks = rotate_stream(folded, Q @ inner @ Q.T)
with turned.hooks(hooks):
    stream_loss = losses(turned, some).mean()
print(f"loss as it is                     {losses(folded, some).mean():.4f} nats per token")
print(f"with the residual stream rotated  {stream_loss:.4f}")
print(f"with the neurons rotated          {losses(rotate_hidden(folded, R), some).mean():.4f}")
silent = copy.deepcopy(folded)
for block in silent.blocks:
    block.mlp.W_out.data.zero_()
print(f"without MLPs (only their biases)  {losses(silent, some).mean():.4f}")

# %% [markdown]
# **What to see here.** The stream can be turned as one likes, neurons cannot. (Two footnotes. LayerNorm subtracts a
# mean, so the rotation must leave the direction of all ones alone. And positions enter behind it, so they must be
# handed in by hooks.)

# %% [markdown]
# ### Exercise · kurtosis    ●○○   5 min
#
# Does the model itself prefer a basis? If the coordinates of a vector were as good as any others, its entries would
# look like draws from one bell curve. A few large entries among many small ones betray a preferred basis. The
# *kurtosis* of a vector's entries $x_i$ sees that:
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

# %%
def kurtoses(model: Transformer, tokens: Tensor) -> dict[str, float]:
    """The kurtosis of stream and neurons of each layer, and of both after a random rotation."""
    (pre, post, stream), found = activations(model, tokens, "pre", "post", "resid_post"), {}
    generator = torch.Generator().manual_seed(0)
    for i in range(model.cfg.n_layers):
        for what, x in (("stream", stream[i]), ("pre", pre[i]), ("neurons (post)", post[i])):
            x = x[:, 1:].flatten(0, 1)  # without <|bos|> and the window's first token
            turn = torch.linalg.qr(torch.randn(x.shape[1], x.shape[1], generator=generator))[0]
            found[f"{what}, layer {i}"] = kurtosis(x)
            found[f"{what}, layer {i}, rotated"] = kurtosis(x @ turn)
    return found

models = {"Muon and AdamW": full, "seed 1": second_seed, "AdamW alone": by_adamw}
models["random"] = untrained
table = {what: kurtoses(model, tokens[:12]) for what, model in models.items()}
print(f"{'':<32}" + "".join(f"{what:>16}" for what in table))
for what in table["random"]:
    print(f"{what:<32}" + "".join(f"{values[what]:>16.2f}" for values in table.values()))

# %% [markdown]
# **What to see here.** After a random rotation everything looks like a bell curve, kurtosis 3: that is the control.
# Neurons are far from it, as a ReLU makes them: even with random weights they are above 3. The stream is nearer to 3,
# but not at it. So it is *nearly* without a preferred basis, as Elhage and others (2023) found. They blame Adam,
# whose steps are taken coordinate by coordinate. Here is an experiment of our own, with two runs and one, so read it
# with care: our attention matrices are trained by Muon, which treats a matrix as a whole, the rest by AdamW; and once
# all by AdamW. If Adam on the attention matrices were the cause, the third column should stand out in the rows of the
# stream. It does not: the first two, which differ by chance alone, are further apart. But that does not clear Adam.
# In all three it trains the embeddings and the MLPs, which write into the stream, too; and LayerNorm's own $w$ acts
# on coordinates. (The third model is also the worst of the three: it has no induction head.)

# %% [markdown]
# ## Vectors as tokens
#
# Keys live in the same space as embeddings. So Dar and others (*Analyzing Transformers in Embedding Space*, 2022)
# read any vector $x$ of the stream as weights over tokens. Two ways, with $E = W_E$ `[d_vocab d_model]`:
#
# $$x\,E^\top \quad \text{(how much does } x \text{ point along each embedding?)} \qquad
# x\,E^{+} \quad \text{(which mixture of embeddings } \textit{is } x\text{?)}$$
#
# $E^{+}$ `[d_model d_vocab]` is the pseudo-inverse: the smallest weights $c$ with $c\,E = x$. The first is simpler,
# and it is what they use; it is justified if $E^\top E$ is nearly a multiple of the identity.

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
    W_E: Float[Tensor, "d_vocab d_model"],
    vectors: Float[Tensor, "n d_model"],
    pseudo_inverse: bool,
) -> Float[Tensor, "n d_vocab"]:
    """Vectors as weights over tokens: dot products, or the smallest mixture that gives them."""
    ### BEGIN SOLUTION
    return vectors @ (torch.linalg.pinv(W_E) if pseudo_inverse else W_E.T)
    ### END SOLUTION

# %% check="vocabulary_space"
check("vocabulary_space")

# %%
E = folded.W_E
gram = E.T @ E
nearness = (gram.trace() / (gram.norm() * len(gram) ** 0.5)).item()
noise = torch.randn(E.shape, generator=torch.Generator().manual_seed(0))
control = ((noise.T @ noise).trace() / ((noise.T @ noise).norm() * len(gram) ** 0.5)).item()
print(f"cosine of EᵀE with the identity: {nearness:.2f}; for random embeddings {control:.2f}\n")

for layer, neuron in [(0, 453), (0, 702), (1, 593), (1, 953)]:
    key = folded.W_in[layer, :, neuron][None]
    print(f"key of neuron {layer}.{neuron}")
    for way, inverse in (("transpose", False), ("pseudo-inverse", True)):
        weights = vocabulary_space(E, key, inverse)[0]
        print(f"    {way:<15} {named(full, weights / weights.std(), 6)}")

# How often does the first token of a key's list be among those that really drive the neuron most?
print("\nthe token at which a neuron is driven most is among the ten first of its key")
for layer in layers:
    best = pres[layer].flatten(0, 1).argmax(0)
    at = tokens.flatten()[best]
    for way, inverse in (("transpose", False), ("pseudo-inverse", True)):
        lists = vocabulary_space(E, folded.W_in[layer].T, inverse).topk(10).indices
        shuffled_at = at[torch.randperm(len(at), generator=torch.Generator().manual_seed(0))]
        hit, chance = ((lists == x[:, None]).any(1).float().mean() for x in (at, shuffled_at))
        print(f"layer {layer}, {way:<14}: {hit:>5.1%} of the neurons (shuffled {chance:.1%})")

# %% [markdown]
# **What to see here.** $E^\top E$ is not far from a multiple of the identity, and not near it: with random embeddings
# it would be nearer. Still the transpose does better than the pseudo-inverse, which gives more weight to rare
# directions. For layer 0 a key's list of tokens says a good deal about what drives the neuron; for layer 1 nearly
# nothing: by then the stream holds mostly what layer 0 has written, and a token's embedding is a small part of it.
# Read in vocabulary space what stands next to the vocabulary.

# %% [markdown]
# ## Another seed
#
# Train the same recipe from another random start, and neuron 17 will be another neuron. But is there *some* neuron in
# the second model that fires where neuron 17 of the first one fires? Compare activations on the same text, by
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

# %%
others = activations(second_seed, tokens[:64], "post")[0]
quantiles = torch.linspace(0, 1, 201)
curves = {}
for layer in layers:
    ours, theirs = (x[layer][:64].flatten(0, 1) for x in (posts, others))
    turned = theirs @ R  # a rotated baseline: the same space, other axes
    found = neuron_partners(ours, theirs)
    control = neuron_partners(ours, turned)
    curves |= {f"layer {layer}": found, f"layer {layer}, rotated": control}
    share, chance = ((x > 0.5).float().mean() for x in (found, control))
    print(f"layer {layer}: a partner above 0.5 for {share:.1%} of all (control {chance:.1%})")
plots.lines(
    {what: (x.quantile(quantiles), 1 - quantiles) for what, x in curves.items()},
    "Are the same neurons found from another random start?",
    "largest correlation with a neuron of the second seed",
    "share of the neurons that reach it",
    ax=plots.axes(size=(7.5, 3.8)),
)
for layer, neuron, description, _ in named_neurons():
    correlation = curves[f"layer {layer}"][neuron]
    print(f"neuron {layer}.{neuron} ({description}): its partner {correlation:.2f}")

# %% [markdown]
# **What to see here.** In layer 1 a fifth of the neurons is found again, in layer 0 hardly any; most are not. The
# rotated baseline shows that a correlation of 0.3 or so means nothing: among a thousand axes one always fits a
# little. Gurnee and others (2024) found 1 to 5% of the neurons of GPT-2 models from five seeds universal, by a
# stricter measure. (Ours are trained on the same text, in other windows.)

# %% [markdown]
# ## What you have shown

# %%
def share_above(f1: Tensor) -> str:
    return f"{(f1 > 0.5).float().mean():.1%}"

rows = [
    ("folding LayerNorm moves a logit by at most", f"{(before - after).abs().max():.1e}", "-"),
    ("path expansion of a logit: error", f"{path_error:.1e}", "-"),
    ("active neurons per token, layer 0 and 1", "  ".join(f"{x:.0%}" for x in shares), "10 to 50%"),
    ("value's top token comes next, layer 0", f"{agree[0]:.1%}", "near 0%"),
    ("value's top token comes next, layer 1", f"{agree[1]:.1%}", "3.5%"),
    ("nobody's own word, layer 1", f"{composed_share(full, tokens[:16], 1):.0%}", "68% and more"),
    *((f"F1 above 0.5, {what}", share_above(f1), "-") for what, (f1, _) in scores.items()),
    *((f"partner in the second seed, {what}", share_above(x), "-") for what, x in curves.items()),
    *(
        (f"kurtosis of the last stream, {what}", f"{values['stream, layer 1']:.1f}", "-")
        for what, values in table.items()
    ),
]
print(f"{'':<52} {'here':>14}   {'papers'}")
for what, here, there in rows:
    print(f"{what:<52} {here:>14}   {there}")

# %% [markdown]
# | claim | where it is from | what to compare |
# |---|---|---|
# | An MLP is a sum of keys and values | Geva et al., 2021 | your identities, exact |
# | Upper layers' values say what comes next | the same | agreement by layer, beside its control. Two layers are too few for "upper" |
# | A layer's word is mostly a compromise | the same | the share that is nobody's own |
# | What MLPs write promotes, rather than suppresses | Geva et al., 2022 | pushes up and down on the right token |
# | LayerNorm folds away but for a scale | TransformerLens; Elhage et al., 2021 | logits before and after |
# | Neurons are privileged, the stream is nearly not | Elhage et al., 2023 | rotation, kurtosis beside the rotated control |
# | and Adam is why | the same | one experiment, three trainings, not conclusive |
# | Keys and values can be read as tokens | Dar et al., 2022 | hits by layer, transpose and pseudo-inverse, shuffled |
# | Some neurons are universal | Gurnee et al., 2024 | partners beside the rotated baseline |
#
# **Read on.** Mor Geva and others, *Transformer Feed-Forward Layers Are Key-Value Memories* (2021) and *Transformer
# Feed-Forward Layers Build Predictions by Promoting Concepts in the Vocabulary Space* (2022). Nelson Elhage and
# others, *Privileged Bases in the Transformer Residual Stream* (2023). Guy Dar and others, *Analyzing Transformers in
# Embedding Space* (2022). Wes Gurnee and others, *Universal Neurons in GPT2 Language Models* (2024). Most neurons
# here have no name: the next chapter asks whether they are the right thing to look at.

# %%
progress()
