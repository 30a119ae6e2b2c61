# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 9 · Other attention: shared keys, smeared keys, experts, and MLPs as heads
#
# The models that you have taken apart are plain. Those in use are not: heads share keys, parts are switched on and
# off from token to token. Does what you know still hold? You change one thing at a time and look again for what
# you found before: circuits, induction heads, the sum over neurons. In the end an MLP turns out to be attention.
#
# **After this chapter you can**
#
# - write attention with shared keys and values, say what it saves, and what becomes of QK and OV circuits;
# - show what a layer can do with one key for all heads, by construction and by training;
# - make induction heads with one layer only;
# - write a mixture of experts, say what it is in terms of neurons, and measure who takes what;
# - turn every neuron into an attention head, and say what attention can do that neurons cannot.
#
# **Time**: about 205 minutes, 166 of them for the exercises. **Needs**: chapters 0 to 2; chapters 3 and 5 help.
# **Follows**: *Fast Transformer Decoding: One Write-Head is All You Need* (Shazeer, 2019), *GQA* (Ainslie et al.,
# 2023), *In-context Learning and Induction Heads* (Olsson et al., 2022), *Switch Transformers* (Fedus et al., 2021),
# *Attention-Only Transformers and Implementing MLPs with Attention Heads* (Huben and Morris, 2023).

# %% tags=["setup"]
import copy
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from circuits import check, hint, progress, reveal
from utils import Config, Transformer, get_act_name

# %%
import json
import time
from dataclasses import asdict
from pathlib import Path

from utils import load_corpus, load_model
from utils.figures import plots
from utils.labels import label_library
from utils.pretrained import CHECKPOINTS
from utils.training import live_steps, next_token_loss
from utils.waiting import waiting

torch.set_num_threads(min(2, torch.get_num_threads()))  # the models are small
seconds = {}  # of each long computation
full_run = live_steps(100) == 100  # tests run this notebook with CIRCUITS_QUICK, on few examples

# %% [markdown]
# ## Keys that heads share
#
# When a model writes a text, token by token, it keeps the keys and values of all earlier tokens: else it would have to
# compute them again for each new one. This *cache* grows with the text and is read for every token, and in large
# models that is what takes the time. Shazeer (2019) kept one key and one value for *all* heads of a layer:
# **multi-query attention**. Each head still has its own queries $W_Q^h$ and its own outputs $W_O^h$.
#
# $$A^h = \mathrm{softmax}\!\left(\frac{(xW_Q^h)(xW_K)^\top}{\sqrt{d_\text{head}}}\right), \qquad
# \text{out} = \sum_h A^h\,(xW_V)\,W_O^h$$

# %% [markdown]
# ### Exercise · multi-query attention    ●○○   10 min
#
# `x` `[pos d_model]` is one text's stream. `W_Q` `[n_heads d_model d_head]` and `W_O` `[n_heads d_head d_model]` have one
# matrix for each head, `W_K` and `W_V` `[d_model d_head]` are shared. Return what the layer adds to the stream,
# `[pos d_model]`. Attention is causal: a position looks at itself and at earlier ones.
#
# <details><summary>Hint 1</summary>
# Keys and values have no axis for heads: <code>k = x @ W_K</code> is <code>[pos d_head]</code>, while
# <code>q = x @ W_Q</code> is <code>[n_heads pos d_head]</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>scores = q @ k.T / d_head**0.5</code> is <code>[n_heads dest src]</code>. Fill what lies above the diagonal
# (<code>torch.ones(n, n, dtype=bool).triu(1)</code>) with -inf, then softmax over the last axis. The output is
# <code>(pattern @ v @ W_O).sum(0)</code>.
# </details>

# %% exercise="multi_query_attention"
def multi_query_attention(
    x: Float[Tensor, "pos d_model"],
    W_Q: Float[Tensor, "n_heads d_model d_head"],
    W_K: Float[Tensor, "d_model d_head"],
    W_V: Float[Tensor, "d_model d_head"],
    W_O: Float[Tensor, "n_heads d_head d_model"],
) -> Float[Tensor, "pos d_model"]:
    """What a layer adds whose heads share one key and one value."""
    ### BEGIN SOLUTION
    q, k, v = x @ W_Q, x @ W_K, x @ W_V
    scores = q @ k.T / k.shape[-1] ** 0.5
    future = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
    pattern = scores.masked_fill(future, -torch.inf).softmax(-1)
    return (pattern @ v @ W_O).sum(0)
    ### END SOLUTION

# %% check="multi_query_attention"
check("multi_query_attention")

# %% [markdown]
# Between one key for all and one for each lies **grouped-query attention** (Ainslie et al., 2023), which most large
# open models use today: as many keys as there are groups, and *consecutive* heads form a group. With 6 heads and 3 keys,
# heads 0 and 1 share key 0, heads 2 and 3 key 1, heads 4 and 5 key 2.

# %% [markdown]
# ### Exercise · grouped-query attention    ●●○   12 min
#
# The same with `W_K` and `W_V` `[n_key_value_heads d_model d_head]`. As many keys as heads is plain attention, one key is
# multi-query attention.
#
# <details><summary>Hint 1</summary>
# Head h has key and value h // (n_heads // n_key_value_heads). With a copy of them for each head, the rest is plain
# attention.
# </details>
# <details><summary>Hint 2</summary>
# <code>W_K.repeat_interleave(len(W_Q) // len(W_K), dim=0)</code> repeats each matrix, one behind the other.
# (<code>.repeat</code> would repeat the whole list: head 0 and head 3 would share.)
# </details>

# %% exercise="grouped_query_attention"
def grouped_query_attention(
    x: Float[Tensor, "pos d_model"],
    W_Q: Float[Tensor, "n_heads d_model d_head"],
    W_K: Float[Tensor, "n_key_value_heads d_model d_head"],
    W_V: Float[Tensor, "n_key_value_heads d_model d_head"],
    W_O: Float[Tensor, "n_heads d_head d_model"],
) -> Float[Tensor, "pos d_model"]:
    """What a layer adds whose heads share keys and values in groups of consecutive ones."""
    ### BEGIN SOLUTION
    size = len(W_Q) // len(W_K)
    q = x @ W_Q
    k = (x @ W_K).repeat_interleave(size, 0)
    v = (x @ W_V).repeat_interleave(size, 0)
    scores = q @ k.mT / k.shape[-1] ** 0.5
    future = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
    pattern = scores.masked_fill(future, -torch.inf).softmax(-1)
    return (pattern @ v @ W_O).sum(0)
    ### END SOLUTION

# %% check="grouped_query_attention"
check("grouped_query_attention")

# %% [markdown]
# ### Exercise · what is kept for each token    ●○○   5 min
#
# How many bytes does the cache take for each token of a text? Keys and values are kept, in every layer, each number in
# `bytes_per_number` bytes.
#
# <details><summary>Hint 1</summary>
# Queries are not kept: only the newest token's are ever used. How many numbers is one key? How many keys has a layer?
# </details>
# <details><summary>Hint 2</summary>
# A key and a value, of <code>d_head</code> numbers each, for each of the keys that a layer has.
# </details>

# %% exercise="cache_bytes"
def cache_bytes(
    n_layers: int, n_key_value_heads: int, d_head: int, bytes_per_number: int
) -> int:
    """The bytes of keys and values that are kept for one token."""
    ### BEGIN SOLUTION
    return 2 * n_layers * n_key_value_heads * d_head * bytes_per_number
    ### END SOLUTION

# %% check="cache_bytes"
check("cache_bytes")

# %%
large = dict(n_layers=80, d_head=128, bytes_per_number=2)  # the shape of a 70-billion model
for what, n in (("a key for each of 64 heads", 64), ("8 keys", 8), ("one key", 1)):
    per_token = cache_bytes(n_key_value_heads=n, **large)
    print(f"{what:<28}{per_token / 1024:>8,.0f} KiB a token, "
          f"{per_token * 128 * 1024 / 2**30:>6.1f} GiB for a text of 131,072 tokens")

# %% [markdown]
# ## What becomes of the circuits
#
# A head acts through two products, the QK circuit $W_Q^h W_K^\top$ and the OV circuit $W_V W_O^h$. If $W_K$ and
# $W_V$ are shared, heads are no longer independent. All their QK circuits read the *source* through the same $d_\text{head}$
# dimensions, though each reads the *destination* in its own way. All OV circuits read the same dimensions, though
# each writes where it likes. Put all QK circuits of a layer into one tall matrix, one below the other,
# $[n_\text{heads} d_\text{model},\; d_\text{model}]$. Its rank counts the dimensions of the source that matter to *any* head.

# %% [markdown]
# ### Exercise · predict: how many dimensions are read    ●●○   6 min
#
# For weights without special structure, say two ranks: first, of all QK circuits $W_Q^h W_K^{g(h)\top}$ of a layer *one below
# the other* (source dimensions that any head can see); second, of the same circuits *side by side*, $[d_\text{model},\; n_\text{heads}
# d_\text{model}]$ (destination dimensions that any head can see). The check measures them in random models.
#
# <details><summary>Hint 1</summary>
# One below the other, circuits that share a key have a common factor on the right: (all their W_Q below each other) times
# W_K transposed.
# </details>
# <details><summary>Hint 2</summary>
# Each key brings d_head dimensions of the source, each query d_head of the destination, until d_model is full.
# </details>

# %% exercise="predict_reading_ranks"
def predict_reading_ranks(
    d_model: int, d_head: int, n_heads: int, n_key_value_heads: int
) -> tuple[int, int]:
    """Ranks of a layer's QK circuits stacked below each other, and side by side."""
    ### BEGIN SOLUTION
    return min(n_key_value_heads * d_head, d_model), min(n_heads * d_head, d_model)
    ### END SOLUTION

# %% check="predict_reading_ranks"
check("predict_reading_ranks")

# %%
def reading_ranks(model: Transformer) -> tuple[int, int]:
    """The two ranks, measured in layer 0."""
    QK = model.W_Q[0].double() @ model.W_K[0].mT.double()  # [n_heads d_model d_model]
    return tuple(int(torch.linalg.matrix_rank(M)) for M in (QK.flatten(0, 1), torch.cat(list(QK), 1)))

shape = dict(d_vocab=50, d_model=64, n_layers=1, n_heads=8, d_head=8, n_ctx=16)
torch.manual_seed(0)
for n in (8, 4, 2, 1):
    stacked, beside = reading_ranks(Transformer(Config(**shape, n_key_value_heads=n)))
    print(f"8 heads of 8 dimensions, {n} key(s): source dimensions {stacked}, destination {beside}")

# %% [markdown]
# ## Taking keys away from a trained model
#
# Can a model that was trained with a key for each head do with fewer? Ainslie et al. average the keys and values
# of a group, and train on for a while. Our `Transformer` knows `n_key_value_heads` (TransformerLens' name). There
# `block.attn._W_K` `[n_key_value_heads d_model d_head]` is what is stored, and `block.attn.W_K` a copy with one for each head,
# to read. (`_W_V` likewise, and the biases `_b_K`, `_b_V` if there are any.)

# %% [markdown]
# ### Exercise · fewer keys, by averaging    ●●○   12 min
#
# Return a new model of the same shape with `n_key_value_heads` keys and values in each layer, each the mean of those of its
# group of consecutive heads. Everything else is the same. (The model has a key for each head, and may have MLPs,
# LayerNorm and biases.)
#
# <details><summary>Hint 1</summary>
# <code>Config(**(model.config_dict() | {"n_key_value_heads": n_key_value_heads}))</code> is the new configuration. Go through
# <code>model.state_dict()</code>.
# </details>
# <details><summary>Hint 2</summary>
# Under <code>blocks.0.attn.W_K</code> lies <code>[n_heads d_model d_head]</code>. Its groups:
# <code>W.unflatten(0, (n_key_value_heads, -1)).mean(1)</code>. The new name is <code>blocks.0.attn._W_K</code>.
# </details>
# <details><summary>Hint 3</summary>
# The same for names that end in <code>W_V</code>, <code>b_K</code>, <code>b_V</code>. All others go into the new state
# dictionary as they are. Then <code>new.load_state_dict(state)</code>.
# </details>

# %% exercise="to_grouped"
def to_grouped(model: Transformer, n_key_value_heads: int) -> Transformer:
    """The model with keys and values averaged over groups of consecutive heads."""
    ### BEGIN SOLUTION
    new = Transformer(
        Config(**(model.config_dict() | {"n_key_value_heads": n_key_value_heads})), model.tokenizer
    )
    state = {}
    for name, W in model.state_dict().items():
        place, _, last = name.rpartition(".")
        if last in ("W_K", "W_V", "b_K", "b_V"):
            name, W = f"{place}._{last}", W.unflatten(0, (n_key_value_heads, -1)).mean(1)
        state[name] = W
    new.load_state_dict(state)
    return new
    ### END SOLUTION

# %% check="to_grouped"
check("to_grouped")

# %% [markdown]
# There is a catch. Chapter 0's `regauge` showed that keys live in no particular basis: $W_Q^h M$ and $W_K^h M^{-\top}$ do the
# same as $W_Q^h$ and $W_K^h$. The *mean* of keys of different heads does depend on those bases. What one would
# want is the key that is best for all: shared $W_K$, own $W_Q^h$, with the products as close as can be to what they were.

# %% [markdown]
# ### Exercise · the best key to share    ●●●   15 min
#
# For the heads of one group, find `shared` `[d_model d_head]` and `queries` `[n_heads d_model d_head]` that make
#
# $$\sum_h \big\|\,W_Q^h W_K^{h\top} - \text{queries}^h\,\text{shared}^\top\big\|^2$$
#
# as small as possible. (Any basis of the $d_\text{head}$ dimensions will do.)
#
# <details><summary>Hint 1</summary>
# Put the products one below the other, $[n_\text{heads} d_\text{model},\; d_\text{model}]$. You want the best approximation
# of *one* matrix by a matrix of rank d_head: chapter 0's <code>truncate_rank</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>V = torch.linalg.svd(stacked, full_matrices=False).Vh[:d_head].T</code> are the source dimensions that carry most. They are the
# shared key.
# </details>
# <details><summary>Hint 3</summary>
# With <code>shared = V</code>, whose columns are of length 1 and at right angles, the best queries are
# <code>W_Q @ W_K.mT @ V</code>.
# </details>

# %% exercise="shared_key"
def shared_key(
    W_Q: Float[Tensor, "n_heads d_model d_head"], W_K: Float[Tensor, "n_heads d_model d_head"]
) -> tuple[Float[Tensor, "n_heads d_model d_head"], Float[Tensor, "d_model d_head"]]:
    """Queries and one shared key whose products are nearest to those of the heads."""
    ### BEGIN SOLUTION
    QK = W_Q @ W_K.mT
    shared = torch.linalg.svd(QK.flatten(0, 1), full_matrices=False).Vh[: W_K.shape[-1]].T
    return QK @ shared, shared
    ### END SOLUTION

# %% check="shared_key"
check("shared_key")

# %%
start = time.perf_counter()
shipped = load_model("two_layer").requires_grad_(False)
corpus = load_corpus()
judge = corpus.heldout_windows(16 if full_run else 2)
n_heads, d_head = shipped.cfg.n_heads, shipped.cfg.d_head

def loss_of(model: Transformer) -> float:
    return sum(next_token_loss(model(part), part).item() for part in judge.split(8)) / len(judge.split(8))

def best_shared(model: Transformer, n_keys: int) -> Transformer:
    """Each group with its best shared key; and its best shared value, which is the same problem transposed."""
    new = to_grouped(model, n_keys)
    for old, block in zip(model.blocks, new.blocks, strict=True):
        for g in range(n_keys):
            group = slice(g * n_heads // n_keys, (g + 1) * n_heads // n_keys)
            W_Q, W_K = shared_key(old.attn.W_Q[group], old.attn.W_K[group])
            W_O, W_V = shared_key(old.attn.W_O[group].mT, old.attn.W_V[group])
            block.attn.W_Q.data[group], block.attn._W_K.data[g] = W_Q, W_K
            block.attn.W_O.data[group], block.attn._W_V.data[g] = W_O.mT, W_V
    return new

def turned(model: Transformer) -> Transformer:
    """The same model, each head's keys and values in a random basis of their own."""
    new, generator = copy.deepcopy(model), torch.Generator().manual_seed(0)
    for block in new.blocks:
        for read, write in ((block.attn.W_Q, block.attn.W_K), (block.attn.W_V, block.attn.W_O)):
            R = torch.linalg.qr(torch.randn(n_heads, d_head, d_head, generator=generator))[0]
            read.data = read @ R
            write.data = R.mT @ write if write is block.attn.W_O else write @ R
    return new

whole = loss_of(shipped)
N_KEYS = (8, 4, 2, 1) if full_run else (8, 1)
ways = {
    "averaged": lambda n: to_grouped(shipped, n),
    "averaged, in turned bases": lambda n: to_grouped(turned(shipped), n),
    "best shared": lambda n: best_shared(shipped, n),
}
grouped_loss = {way: [loss_of(make(n)) for n in N_KEYS] for way, make in ways.items()}
one_layer = loss_of(load_model("one_layer"))
seconds["taking keys away"] = time.perf_counter() - start
plots.lines(
    {way: (list(N_KEYS), values) for way, values in grouped_loss.items()},
    "Keys and values taken away from two_layer, nothing trained on",
    "keys for 8 heads", "loss (nats per token)",
    {"two_layer as it is": whole, "one_layer": one_layer}, logx=True, markers=True,
);

# %% [markdown]
# **What to see here.** With 8 keys nothing is lost, in whatever bases. With fewer much is, and averaging does no better
# than the same averaging in bases drawn at random: the heads' bases have nothing in common, so their mean is a mean of
# unlike things. The best shared key and value lose less, but a trained model needs most of its source dimensions: heads
# that look for different things read different ones. That is why Ainslie et al. train on.
