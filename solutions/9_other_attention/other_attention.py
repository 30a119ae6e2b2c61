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
# **Time**: about 210 minutes, 169 of them for the exercises. **Needs**: chapters 0 to 2; chapters 3 and 5 help.
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

torch.set_num_threads(1)  # models as small as these run faster on one
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
    ways = QK.flatten(0, 1), torch.cat(list(QK), 1)
    return tuple(int(torch.linalg.matrix_rank(M)) for M in ways)

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
    return next_token_loss(model(judge), judge).item()

def best_shared(model: Transformer, n_keys: int) -> Transformer:
    """Each group with its best shared key, and its best value: the same problem, transposed."""
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

whole_loss = loss_of(shipped)
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
    {"two_layer as it is": whole_loss, "one_layer": one_layer}, logx=True, markers=True,
    ax=plots.axes(size=(8.2, 4.2)),
);

# %% [markdown]
# **What to see here.** With 8 keys nothing is lost, in whatever bases. With fewer much is: with 4 already more than a whole
# layer is worth. Averaging does hardly better than averaging in bases drawn at random: the heads' bases have
# next to nothing in common, so their mean is a mean of unlike things. The best shared key and value lose a little less. So it is not
# the basis alone: heads that look for different things read different dimensions. That is why Ainslie et al. train on.

# %% [markdown]
# ## Two heads, one key
#
# Before you look at trained models, predict. Induction needs a previous-token head, which looks for a *position*, and
# another head that looks for *content*. If both must look through the same key, is one in the other's way? Here is a way
# to find out without training: build it. The key may hold several things side by side; a query picks what it
# asks for, and is 0 where it does not care.

# %% [markdown]
# ### Exercise · two heads that share a key    ●●●   20 min
#
# The stream at position $i$ is a one-hot vector of the token (`d_vocab` dimensions), then a one-hot vector of the
# position (`n_ctx` dimensions): `d_model = d_vocab + n_ctx`. Return `W_Q` `[2 d_model d_head]` and *one* `W_K` `[d_model
# d_head]`, with any `d_head` you like, such that under causal attention with scores divided by $\sqrt{d_\text{head}}$
#
# - head 0 looks at the position before (more than 0.99 of its attention; position 0 sees only itself);
# - head 1 looks at all occurrences of its own token so far, itself included, evenly (together more than 0.99).
#
# <details><summary>Hint 1</summary>
# Let the key be all of the stream: <code>W_K = torch.eye(d_model)</code>. Then <code>W_Q[h]</code> is the QK circuit itself: which
# source dimensions does each destination dimension ask for?
# </details>
# <details><summary>Hint 2</summary>
# Head 1: token t asks for token t, a diagonal over the first <code>d_vocab</code> dimensions, and 0 for positions. Head 0: position i asks
# for position i - 1, a diagonal one below, over the last <code>n_ctx</code>.
# </details>
# <details><summary>Hint 3</summary>
# The softmax must be sharp also after dividing by the root of <code>d_head</code>: use entries of
# <code>20 * d_model**0.5</code>. <code>torch.eye(n_ctx).roll(-1, 1)</code> with its first row set to 0 has ones one below the
# diagonal.
# </details>

# %% exercise="one_key_two_heads"
def one_key_two_heads(
    d_vocab: int, n_ctx: int
) -> tuple[Float[Tensor, "n_heads d_model d_head"], Float[Tensor, "d_model d_head"]]:
    """Queries of a previous-token head and a same-token head, and the one key of both."""
    ### BEGIN SOLUTION
    d_model = d_vocab + n_ctx
    strength = 20 * d_model**0.5
    W_Q = torch.zeros(2, d_model, d_model)
    for i in range(1, n_ctx):
        W_Q[0, d_vocab + i, d_vocab + i - 1] = strength
    for token in range(d_vocab):
        W_Q[1, token, token] = strength
    return W_Q, torch.eye(d_model)
    ### END SOLUTION

# %% check="one_key_two_heads"
check("one_key_two_heads")

# %%
letters = "abcacbba"
d_vocab, n_ctx = 3, len(letters)
x = torch.cat([torch.eye(d_vocab)[[ord(c) - 97 for c in letters]], torch.eye(n_ctx)], 1)
W_Q, W_K = (torch.as_tensor(W).float() for W in one_key_two_heads(d_vocab, n_ctx))
scores = (x @ W_Q) @ (x @ W_K).T / W_K.shape[1] ** 0.5
future = torch.ones(n_ctx, n_ctx, dtype=torch.bool).triu(1)
patterns = scores.masked_fill(future, -torch.inf).softmax(-1)
names = [f"{c}{i}" for i, c in enumerate(letters)]
panels = plots.axes(2, size=(4.0, 3.6))
titles = ("Head 0: the position before", "Head 1: the same token")
for ax, pattern, title in zip(panels, patterns, titles, strict=True):
    plots.matrix(pattern, names, names, title, "source", "destination", "attention",
                 ax=ax, limit=1.0)
used = int(torch.linalg.matrix_rank(W_Q.flatten(0, 1) @ W_K.T))
print(f"the shared key carries {used} dimensions of the source to the two heads")

# %% [markdown]
# **What to see here.** One key holds both, as it has room for both: it carries as many dimensions as the two heads
# together ask for. Sharing does not cost a *kind* of head. It costs room: what all heads ask for must fit
# into `d_head` dimensions.

# %% [markdown]
# ## Induction with fewer keys
#
# Now training. The toy of chapter 3 again: 64 symbols, sequences repeated with a random period, two attention layers of
# 64 dimensions, heads of 16. A head has a query and an output matrix, a key comes with a value matrix, and all four have
# the same size. So **equal parameters** means: heads plus keys are 8 in each layer. 4 heads with 4 keys, 6 heads with
# 2 keys, or 7 heads with one. As a control, 4 heads with one key, which has fewer parameters. Five seeds of each were
# trained by `tools/shared_keys.py` and are shipped as measurements.
#
# Predict before you run the cell: does induction form with one key? Sooner, later, as well?

# %%
toys = json.loads((CHECKPOINTS / "shared_keys.json").read_text())
WAYS = {"4/4": "4 heads, 4 keys", "6/2": "6 heads, 2 keys", "7/1": "7 heads, 1 key",
        "4/1": "4 heads, 1 key"}
FORMED = 0.2  # mean attention of the best head to what followed last time; evenly spread: 0.02

def formed_at(toy: dict) -> float:
    return next((step for step, _, score in toy["curve"] if score > FORMED), math.inf)

print(f"{'':<16}{'weights':>8}{'kept':>6}   {'formed at step':<24}{'2nd copy':>9}{'heads':>7}"
      f"{'induction':>11}{'previous':>10}")
toy_table = {}
for way, name in WAYS.items():
    found = [toy for toy in toys if toy["way"] == way]
    steps = sorted(map(formed_at, found))
    second = [toy["second_copy"] for toy in found]
    scores = [torch.tensor([toy["previous"][0], toy["induction"][1]]) for toy in found]
    n_formed = sum((score[1] > FORMED).sum().item() for score in scores) / len(found)
    previous, induction = torch.stack([score.max(1).values for score in scores]).mean(0).tolist()
    toy_table[way] = (steps, second)
    kept = cache_bytes(2, int(way[2]), 16, 4)
    print(f"{name:<16}{found[0]['attention_weights']:>8,}{kept:>6}   {str(steps)[1:-1]:<24}"
          f"{sum(second) / len(second):>9.2f}{n_formed:>7.1f}{induction:>11.2f}{previous:>10.2f}")
print("(kept: bytes a token in float32. 2nd copy: loss where the text repeats. heads: those of\n"
      f"layer 1 with an induction score above {FORMED}. Then the best score of layer 1 for\n"
      "induction, and of layer 0 for the token before. Means over seeds.)")

panels = plots.axes(2, size=(8.2, 3.4))
for ax, at, ylabel in zip(panels, (1, 2), ("training loss (nats)", "best induction score")):
    series = {}
    for way, name in WAYS.items():
        curves = torch.tensor([toy["curve"] for toy in toys if toy["way"] == way])
        series[name] = (curves[0, :, 0].tolist(), curves[..., at].mean(0).tolist())
    plots.lines(series, "Mean of five seeds", "step", ylabel, ax=ax)

# %% [markdown]
# **What to see here.** Induction forms in every run, with one key as with four, and all heads of the last layer take part.
# Sharing does not forbid it, as your construction said. At equal parameters it formed later the fewer keys there were. But the
# control, which has one key as well, formed it as early as the models with a key for each head: so it is no matter
# of sharing alone. What goes with one key, in both kinds, is *sharpness*. Induction heads give less of their
# attention to the right place, and so does the best previous-token head of layer 0: all queries of a layer must find what
# they look for in the same few dimensions. The loss on the second copy hardly shows it. (Five seeds are few, and their ranges overlap.)

# %% [markdown]
# ## One layer is enough, if keys are smeared
#
# Chapter 3: induction needs two layers, because a key must say what stands *before* its own position, and only an
# earlier layer can bring that there. Olsson et al. (2022) put this to a test. Mix into each key the one before it. Then
# a single layer has what it needs, and if the theory is right, it forms induction heads. With a weight for each head,
# learned in training:
#
# $$k'_j = \sigma(\alpha)\,k_j + (1 - \sigma(\alpha))\,k_{j-1}$$

# %% [markdown]
# ### Exercise · smeared keys    ●○○   8 min
#
# `k` `[batch pos n_heads d_head]` are keys, `alpha` `[n_heads]` one number for each head. Return the smeared keys. The
# first key has none before it and stays as it is.
#
# <details><summary>Hint 1</summary>
# The keys before: <code>torch.cat([k[:, :1], k[:, :-1]], 1)</code>, in which the first comes before itself.
# </details>
# <details><summary>Hint 2</summary>
# <code>alpha.sigmoid()[:, None]</code> is <code>[n_heads 1]</code> and fits the last two axes of <code>k</code>.
# </details>

# %% exercise="smeared_keys"
def smeared_keys(
    k: Float[Tensor, "batch pos n_heads d_head"], alpha: Float[Tensor, "n_heads"]
) -> Float[Tensor, "batch pos n_heads d_head"]:
    """Each key mixed with the one before it."""
    ### BEGIN SOLUTION
    share = alpha.sigmoid()[:, None]
    before = torch.cat([k[:, :1], k[:, :-1]], 1)
    return share * k + (1 - share) * before
    ### END SOLUTION

# %% check="smeared_keys"
check("smeared_keys")

# %%
def repeating(batch: int, generator: torch.Generator) -> Int[Tensor, "batch 64"]:
    """Random sequences of 64 symbols, each repeated with a period of its own, from 8 to 32."""
    period = torch.randint(8, 33, (batch, 1), generator=generator)
    symbols = torch.randint(64, (batch, 64), generator=generator)
    return symbols.gather(1, torch.arange(64) % period)

def induction_scores(model: Transformer) -> Float[Tensor, "n_heads"]:
    """Mean attention to what followed last time, in texts with a period of 20."""
    once = torch.randint(64, (32, 20), generator=torch.Generator().manual_seed(1))
    _, cache = model.run_with_cache(once.repeat(1, 3), names_filter=get_act_name("pattern", 0))
    stripe = cache["pattern", 0].diagonal(-19, dim1=-2, dim2=-1)  # from destination 19 on
    return stripe[..., 1:].mean((0, 2))

def train_one_layer(smeared: bool, steps: int = 400) -> dict[str, list]:
    """One layer on repeating sequences: losses, scores of its heads, own shares of keys."""
    torch.manual_seed(0)
    shape = dict(d_vocab=64, d_model=64, n_layers=1, n_heads=4, d_head=16, n_ctx=64, init_range=0.2)
    model, alpha = Transformer(Config(**shape)), torch.zeros(4, requires_grad=True)
    smear = [(get_act_name("k", 0), lambda k, hook: smeared_keys(k, alpha))] if smeared else []
    optimizer = torch.optim.AdamW([*model.parameters(), alpha], lr=3e-3, weight_decay=0.0)
    generator, curve = torch.Generator().manual_seed(0), {"step": [], "loss": [], "score": []}
    for step in waiting(range(live_steps(steps)), "Training one layer"):
        tokens = repeating(32, generator)
        with model.hooks(smear):
            loss = next_token_loss(model(tokens), tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == live_steps(steps) - 1:
            with torch.no_grad(), model.hooks(smear):
                scores = induction_scores(model)
            for name, value in zip(curve, (step, loss.item(), scores.max().item()), strict=True):
                curve[name].append(value)
    return curve | {"heads": scores.tolist(), "own": alpha.sigmoid().tolist()}

start = time.perf_counter()
one = {"smeared keys": train_one_layer(True), "plain keys": train_one_layer(False)}
seconds["smeared keys"] = time.perf_counter() - start
panels = plots.axes(2, size=(8.2, 3.2))
ylabels = {"loss": "loss (nats per token)", "score": "best induction score"}
for ax, (name, ylabel) in zip(panels, ylabels.items(), strict=True):
    plots.lines({what: (curve["step"], curve[name]) for what, curve in one.items()},
                "One layer, the same weights at the start", "step", ylabel, ax=ax)
for what, curve in one.items():
    print(f"{what}: induction scores by head {', '.join(f'{s:.2f}' for s in curve['heads'])}")
own = ", ".join(f"{s:.2f}" for s in one["smeared keys"]["own"])
print(f"each head's share of a key's own, 0.50 at the start: {own}")

# %% [markdown]
# **What to see here.** One layer with smeared keys forms induction heads within a few hundred steps. The same layer with plain
# keys, from the same start and on the same sequences, does not: its loss only comes down to what knowing the symbols so far is
# worth. It was the *key* that one layer lacked, and nothing else. The printed shares say what the heads made of the mixing:
# those that became induction heads give up most of a key's own to the one before.

# %% [markdown]
# ## Experts
#
# An MLP does the same work for every token. A **mixture of experts** has several MLPs, the *experts*, and a *router* that
# says which few of them work on which token: more weights for the same computation. The router is one matrix $W_\text{gate}$
# `[d_model n_experts]`. The $k$ experts with the largest logits $xW_\text{gate}$ are switched on, and a softmax *over these k*
# says how much each one counts.

# %% [markdown]
# ### Exercise · who is switched on    ●●○   10 min
#
# Return the gates `[n n_experts]` of `n` tokens: the softmax over the `k` largest logits of each token, 0 for all others.
#
# <details><summary>Hint 1</summary>
# <code>logits.topk(k, dim=-1)</code> gives <code>values</code> and <code>indices</code>, both <code>[n k]</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>torch.zeros_like(logits).scatter(-1, top.indices, top.values.softmax(-1))</code>
# </details>

# %% exercise="route"
def route(
    x: Float[Tensor, "n d_model"], W_gate: Float[Tensor, "d_model n_experts"], k: int
) -> Float[Tensor, "n n_experts"]:
    """How much each expert counts for each token: k of them, together 1."""
    ### BEGIN SOLUTION
    logits = x @ W_gate
    top = logits.topk(k, dim=-1)
    return torch.zeros_like(logits).scatter(-1, top.indices, top.values.softmax(-1))
    ### END SOLUTION

# %% check="route"
check("route")

# %% [markdown]
# ### Exercise · a mixture of experts    ●●○   10 min
#
# Given the gates `[n n_experts]`, return what the mixture writes:
#
# $$\text{out}_i = \sum_e \text{gates}_{i,e}\; \mathrm{silu}(x_i W_\text{in}^e)\, W_\text{out}^e$$
#
# with `W_in` `[n_experts d_model d_mlp]` and `W_out` `[n_experts d_mlp d_model]`. $\mathrm{silu}(u) = u\,\sigma(u)$ is what experts
# in use are made of (`F.silu`).
#
# <details><summary>Hint 1</summary>
# <code>F.silu(x @ W_in)</code> is <code>[n_experts n d_mlp]</code>: all experts on all tokens.
# </details>
# <details><summary>Hint 2</summary>
# <code>torch.einsum("enm,ne,emd->nd", hidden, gates, W_out)</code>. (A real mixture computes only the experts that are
# switched on. That is its point, but the numbers are the same.)
# </details>

# %% exercise="mixture_of_experts"
def mixture_of_experts(
    x: Float[Tensor, "n d_model"],
    gates: Float[Tensor, "n n_experts"],
    W_in: Float[Tensor, "n_experts d_model d_mlp"],
    W_out: Float[Tensor, "n_experts d_mlp d_model"],
) -> Float[Tensor, "n d_model"]:
    """What a mixture of experts writes for each token."""
    ### BEGIN SOLUTION
    hidden = F.silu(x @ W_in)  # [n_experts n d_mlp]
    return torch.einsum("enm,ne,emd->nd", hidden, gates, W_out)
    ### END SOLUTION

# %% check="mixture_of_experts"
check("mixture_of_experts")

# %% [markdown]
# Chapter 5 wrote an MLP as a sum over neurons: activation times value vector. A mixture is the same sum. Its neurons are
# all the experts' neurons in one row, and the router switches them on and off in *blocks*.

# %% [markdown]
# ### Exercise · experts are blocks of neurons    ●○○   8 min
#
# Return the activations `[n n_neurons]` of the mixture as one large layer of `n_experts * d_mlp` neurons (expert 0's
# first), gates included, so that `acts @ W_out.flatten(0, 1)` is what the mixture writes.
#
# <details><summary>Hint 1</summary>
# The gate of an expert multiplies what it writes, and so each of its activations.
# </details>
# <details><summary>Hint 2</summary>
# <code>F.silu(x @ W_in)</code> is <code>[n_experts n d_mlp]</code>. Bring it to <code>[n n_experts d_mlp]</code>, multiply by
# <code>gates[..., None]</code>, <code>flatten(1)</code>.
# </details>

# %% exercise="expert_neurons"
def expert_neurons(
    x: Float[Tensor, "n d_model"],
    gates: Float[Tensor, "n n_experts"],
    W_in: Float[Tensor, "n_experts d_model d_mlp"],
) -> Float[Tensor, "n n_neurons"]:
    """Activations of a mixture's neurons, in one row for each token."""
    ### BEGIN SOLUTION
    return (F.silu(x @ W_in).transpose(0, 1) * gates[..., None]).flatten(1)
    ### END SOLUTION

# %% check="expert_neurons"
check("expert_neurons")

# %% [markdown]
# Nothing so far makes the router use all experts. An expert that is chosen often learns more, is therefore better, and is
# chosen more often still. *Switch Transformers* (Fedus et al., 2021) add a term to the loss. With $f_e$ the share of all choices that fall on
# expert $e$, and $P_e$ the mean over tokens of its probability under a softmax over *all* logits:
#
# $$\text{balance} = n_\text{experts} \sum_e f_e P_e$$
#
# It is 1 if all is even, and up to `n_experts` if one expert takes everything.

# %% [markdown]
# ### Exercise · the load-balance term    ●●○   8 min
#
# `logits` `[n n_experts]` are the router's, `gates` `[n n_experts]` say who was switched on (where they are above 0; $k$
# for each token). Return the term. Gradients must reach the logits, through $P$.
#
# <details><summary>Hint 1</summary>
# <code>(gates > 0).float().mean(0)</code> sums to k. Shares sum to 1.
# </details>
# <details><summary>Hint 2</summary>
# <code>P = logits.softmax(-1).mean(0)</code>, and <code>f = chosen.mean(0) / chosen.mean(0).sum()</code>
# </details>

# %% exercise="load_balance"
def load_balance(
    logits: Float[Tensor, "n n_experts"], gates: Float[Tensor, "n n_experts"]
) -> Float[Tensor, ""]:
    """How unevenly experts are used: 1 if evenly."""
    ### BEGIN SOLUTION
    chosen = (gates > 0).to(logits.dtype).mean(0)
    return logits.shape[-1] * (chosen / chosen.sum() * logits.softmax(-1).mean(0)).sum()
    ### END SOLUTION

# %% check="load_balance"
check("load_balance")

# %% [markdown]
# To see who takes what, ask how much a token's expert tells about what kind of token it is: the **mutual information** of
# the two, in nats. It is 0 if they have nothing to do with each other, and at most the entropy of either.
#
# $$I = \sum_{a,b} p(a,b)\,\log\frac{p(a,b)}{p(a)\,p(b)}$$

# %% [markdown]
# ### Exercise · mutual information    ●●○   8 min
#
# `a` and `b` `[n]` are whole numbers from 0, two labels for each of `n` tokens. Return $I$ in nats, with $p$ the shares
# counted. Pairs that never occur add nothing.
#
# <details><summary>Hint 1</summary>
# A table of counts: <code>torch.bincount(a * n_b + b, minlength=n_a * n_b).view(n_a, n_b)</code> with
# <code>n_b = int(b.max()) + 1</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>outer = p.sum(1, keepdim=True) * p.sum(0, keepdim=True)</code>; where <code>p > 0</code>, sum
# <code>p * (p / outer).log()</code>.
# </details>

# %% exercise="mutual_information"
def mutual_information(a: Int[Tensor, "n"], b: Int[Tensor, "n"]) -> float:
    """What one label of a token tells about another, in nats."""
    ### BEGIN SOLUTION
    n_a, n_b = int(a.max()) + 1, int(b.max()) + 1
    p = torch.bincount(a * n_b + b, minlength=n_a * n_b).view(n_a, n_b).double() / len(a)
    outer = p.sum(1, keepdim=True) * p.sum(0, keepdim=True)
    there = p > 0
    return float((p[there] * (p[there] / outer[there]).log()).sum())
    ### END SOLUTION

# %% check="mutual_information"
check("mutual_information")

# %% [markdown]
# Now train one. The last MLP of `full_two_layer` (chapter 5) has a layer of ReLU neurons. A mixture of 8 experts of 32 SiLU
# neurons, two at a time, learns to write what that MLP writes, on Python's library: code, comments, docstrings and strings.
# Once with the load-balance term, once without. Python says exactly what each token is, so you can ask who takes what.

# %%
# A token is of the first kind that fits, else "other".
KINDS = ("comment", "docstring", "string", "keyword", "number", "open_bracket", "close_bracket",
         "operator", "newline", "definition", "attribute", "called")
N_EXPERTS, K = 8, 2

start = time.perf_counter()
full = load_model("full_two_layer").requires_grad_(False)
windows = label_library(0).windows(160 if full_run else 8, 128, torch.Generator().manual_seed(0))
kind = torch.full(windows.tokens.shape, len(KINDS))
for i, name in reversed(list(enumerate(KINDS))):
    kind[windows[name]] = i
kind, token = kind.flatten(), windows.tokens.flatten()
read, written = [], []
for part in windows.tokens.split(16):
    cache = full.run_with_cache(part)[1]
    read.append(full.blocks[1].ln2(cache["resid_mid", 1]))
    written.append(cache["mlp_out", 1])
read, written = torch.cat(read).flatten(0, 1), torch.cat(written).flatten(0, 1)
n_train = int(0.8 * len(read))

def unexplained(out: Tensor, true: Tensor) -> Tensor:
    """Squared error, as a share of that of writing the mean."""
    return (out - true).square().sum() / (true - written[:n_train].mean(0)).square().sum()

def train_mixture(balance: float, seed: int = 0, steps: int = 400) -> dict[str, Tensor]:
    """Router and experts that imitate the MLP, with so much weight on the load-balance term."""
    generator = torch.Generator().manual_seed(seed)
    d, m = read.shape[1], 32
    shapes = {"gate": (d, N_EXPERTS), "in": (N_EXPERTS, d, m), "out": (N_EXPERTS, m, d)}
    W = {name: (torch.randn(shape, generator=generator) * shape[-2] ** -0.5).requires_grad_()
         for name, shape in shapes.items()}
    optimizer = torch.optim.AdamW(W.values(), lr=5e-3)
    for step in waiting(range(live_steps(steps)), "Training a mixture of experts"):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / steps)
        i = torch.randint(n_train, (512,), generator=generator)
        gates = route(read[i], W["gate"], K)
        loss = unexplained(mixture_of_experts(read[i], gates, W["in"], W["out"]), written[i])
        loss = loss + balance * load_balance(read[i] @ W["gate"], gates)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: w.detach() for name, w in W.items()}

mixtures = {f"{what}, seed {seed}": train_mixture(balance, seed)
            for seed in (0, 1) for what, balance in (("balanced", 0.1), ("left out", 0.0))}
seconds["mixtures"] = time.perf_counter() - start

# %%
x, true, kinds, tokens = read[n_train:], written[n_train:], kind[n_train:], token[n_train:]
shuffled = kinds[torch.randperm(len(kinds), generator=torch.Generator().manual_seed(0))]
entropy = mutual_information(kinds, kinds)

def by_token(expert: Tensor) -> float:
    """How often a token has the expert that the same token has most often elsewhere."""
    votes = torch.zeros(full.cfg.d_vocab, N_EXPERTS)
    votes.index_put_((tokens, expert), torch.ones(len(tokens)), accumulate=True)
    others = votes[tokens]
    others[torch.arange(len(tokens)), expert] -= 1
    often = others.sum(1) > 0
    return (others.argmax(1) == expert)[often].float().mean().item()

print(f"{'':<18}{'unexplained':>12}{'balance':>9}{'least used':>12}{'most used':>11}{'I(kind)':>9}"
      f"{'shuffled':>10}{'by token':>10}")
mixture_table = {}
generator = torch.Generator().manual_seed(0)
chance = {"gate": torch.randn(x.shape[1], N_EXPERTS, generator=generator) / x.shape[1] ** 0.5}
for what, W in {**mixtures, "random router": chance}.items():
    gates = route(x, W["gate"], K)
    used = (gates > 0).float().mean(0) / K
    expert = gates.argmax(-1)
    lost = math.nan
    if "in" in W:
        lost = unexplained(mixture_of_experts(x, gates, W["in"], W["out"]), true).item()
    row = (lost, load_balance(x @ W["gate"], gates).item(), used.min().item(), used.max().item(),
           float(mutual_information(expert, kinds)), float(mutual_information(expert, shuffled)),
           by_token(expert))
    mixture_table[what] = row
    print(f"{what:<18}{row[0]:>12.3f}{row[1]:>9.2f}{row[2]:>12.1%}{row[3]:>11.1%}{row[4]:>9.3f}"
          f"{row[5]:>10.3f}{row[6]:>10.0%}")
print(f"(of {len(x):,} tokens not trained on; the kinds' own entropy is {entropy:.2f} nats)")

shown = mixtures["balanced, seed 0"]
expert = route(x, shown["gate"], K).argmax(-1)
share = torch.zeros(len(KINDS) + 1, N_EXPERTS).index_put_(
    (kinds, expert), torch.ones(len(kinds)), accumulate=True)
share = share / share.sum(1, keepdim=True).clamp(min=1)
plots.matrix(share, [*KINDS, "other"], [str(e) for e in range(N_EXPERTS)],
             "Who takes what (balanced, seed 0)", "expert with the largest gate", "",
             "share of the kind", limit=1.0);

# %% [markdown]
# **What to see here.** Experts divide the work by kind: a token's expert tells several times as much about its kind as that of a
# router drawn at random. (That one tells something too, and shuffled kinds next to nothing: similar tokens lie near
# one another, wherever the borders run.) In the map look for rows with one bright cell. But the last column warns: most
# tokens go where the same token goes elsewhere. Much of what looks like syntax is the token's identity.
#
# Without the term one expert takes a multiple of its share and another next to nothing. Here this costs little: what is left
# unexplained is nearly the same, and so is the information. The term makes the work even, which counts where experts stand on
# different machines. It made them neither better nor clearer.

# %%
gates = route(x[:500].double(), shown["gate"].double(), K)
W_in, W_out = shown["in"].double(), shown["out"].double()
acts = expert_neurons(x[:500].double(), gates, W_in)
whole = mixture_of_experts(x[:500].double(), gates, W_in, W_out)
error = (acts @ W_out.flatten(0, 1) - whole).abs().max().item()
on = (acts != 0).double().sum(1).mean()
print(f"{acts.shape[1]} neurons, of which {on:.0f} are switched on for a token; "
      f"the sum over neurons differs from the mixture by {error:.0e}")

# %% [markdown]
# ## An MLP is attention
#
# Attention moves things between positions, neurons work at one. Huben and Morris (2023) noticed that a neuron is an
# attention head all the same. Let a head see *two* places only: its own position and an empty one in front of the text,
# whose stream is all 0. Let its score be $u$ at its own position and 0 at the empty one. Then its attention to itself is
# a softmax of two, $e^u / (e^u + 1) = \sigma(u)$. If the value is $u$ as well, and 0 at the empty place, it writes
# $u\,\sigma(u)$ along $w_\text{out}$: a SiLU neuron, exactly.
#
# The bias needs a dimension that says "I am a token": the stream gets one more, 1 at every token and 0 at the empty place.

# %% [markdown]
# ### Exercise · a neuron as a head    ●●●   15 min
#
# With one more dimension at the end of the stream, $\tilde x = (x, 1)$ at tokens and $\tilde x = 0$ at the empty place. Return the
# weights of a head with `d_head = 1` (so scores are divided by 1): `W_Q`, `W_K`, `W_V` `[d_model+1 1]` and `W_O` `[1 d_model+1]`. With
# $u = x \cdot w_\text{in} + b_\text{in}$ and a token that sees itself and the empty place, the head must write
# $u\,\sigma(\text{sharpness} \cdot u)\,w_\text{out}$, and 0 in the new dimension. (`sharpness` is not 0.)
#
# <details><summary>Hint 1</summary>
# $u$ is linear in $\tilde x$: its weights are $(w_\text{in}, b_\text{in})$. So the value is easy.
# </details>
# <details><summary>Hint 2</summary>
# The score is a product of query and key. Let the query be sharpness times u, and the key 1 at every token: it reads the new
# dimension alone. At the empty place it is 0 by itself.
# </details>
# <details><summary>Hint 3</summary>
# <code>read = torch.cat([w_in, w_in.new_tensor([b_in])])[:, None]</code>. <code>W_Q = sharpness * read</code>,
# <code>W_V = read</code>, <code>W_K</code> is 0 but for a last entry of 1, <code>W_O</code> is <code>w_out</code> with a 0
# behind.
# </details>

# %% exercise="neuron_as_head"
def neuron_as_head(
    w_in: Float[Tensor, "d_model"], b_in: float, w_out: Float[Tensor, "d_model"], sharpness: float
) -> tuple[
    Float[Tensor, "d_model+1 1"],
    Float[Tensor, "d_model+1 1"],
    Float[Tensor, "d_model+1 1"],
    Float[Tensor, "1 d_model+1"],
]:
    """W_Q, W_K, W_V, W_O of a head that does what a neuron does."""
    ### BEGIN SOLUTION
    read = torch.cat([w_in, w_in.new_tensor([b_in])])[:, None]
    W_K = torch.zeros_like(read)
    W_K[-1] = 1
    return sharpness * read, W_K, read, torch.cat([w_out, w_out.new_zeros(1)])[None]
    ### END SOLUTION

# %% check="neuron_as_head"
check("neuron_as_head")

# %% [markdown]
# What of other activation functions? $u\,\sigma(1.702\,u)$ is nearly GELU, and $u\,\sigma(s\,u)$ comes near ReLU as $s$ grows.

# %%
u = torch.linspace(-20, 20, 400_001, dtype=torch.float64)
print(f"SiLU: largest difference {(F.silu(u) - u * u.sigmoid()).abs().max():.0e}")
print(f"GELU, sharpness 1.702: {(F.gelu(u) - u * (1.702 * u).sigmoid()).abs().max():.3f}")
relu_error = {s: (u.relu() - u * (s * u).sigmoid()).abs().max().item() for s in (1, 4, 16, 64)}
for s, error in relu_error.items():
    print(f"ReLU, sharpness {s:>2}: {error:.4f}, times sharpness {error * s:.3f}")

# %% [markdown]
# ### Exercise · an MLP as heads    ●●○   12 min
#
# Turn the whole MLP of a layer into heads, one for each neuron: `W_Q`, `W_K`, `W_V` `[d_mlp d_model+1 1]` and `W_O` `[d_mlp 1 d_model+1]`.
# The heads read what the MLP reads (behind its LayerNorm, if it has one). `b_out` is left to be added by itself. The model may have no
# biases.
#
# <details><summary>Hint 1</summary>
# <code>mlp = model.blocks[layer].mlp</code> has <code>W_in</code> <code>[d_model d_mlp]</code>, <code>b_in</code>
# <code>[d_mlp]</code> (or None) and <code>W_out</code> <code>[d_mlp d_model]</code>. Column n of <code>W_in</code> is neuron
# n's.
# </details>
# <details><summary>Hint 2</summary>
# <code>read = torch.cat([mlp.W_in, b_in[None]]).T[..., None]</code> is <code>[d_mlp d_model+1 1]</code>. Then as for one neuron;
# or call your function for each neuron, and <code>torch.stack</code>.
# </details>

# %% exercise="mlp_as_heads"
def mlp_as_heads(
    model: Transformer, layer: int, sharpness: float
) -> tuple[
    Float[Tensor, "d_mlp d_model+1 1"],
    Float[Tensor, "d_mlp d_model+1 1"],
    Float[Tensor, "d_mlp d_model+1 1"],
    Float[Tensor, "d_mlp 1 d_model+1"],
]:
    """W_Q, W_K, W_V, W_O of heads that do what the neurons of a layer do."""
    ### BEGIN SOLUTION
    mlp = model.blocks[layer].mlp
    b_in = torch.zeros(mlp.W_in.shape[1]) if mlp.b_in is None else mlp.b_in
    read = torch.cat([mlp.W_in, b_in[None].to(mlp.W_in)]).T[..., None]
    W_K = torch.zeros_like(read)
    W_K[:, -1] = 1
    W_O = torch.cat([mlp.W_out, torch.zeros_like(mlp.W_out[:, :1])], 1)[:, None]
    return sharpness * read, W_K, read, W_O
    ### END SOLUTION

# %% check="mlp_as_heads"
check("mlp_as_heads")

# %%
def attend(
    heads: tuple[Tensor, ...], x: Float[Tensor, "pos d_model"]
) -> Float[Tensor, "pos d_model"]:
    """What heads write that see themselves and an empty place in front."""
    W_Q, W_K, W_V, W_O = heads
    x = torch.cat([x.new_zeros(1, x.shape[1]), x])
    x = torch.cat([x, x.new_ones(len(x), 1)], 1)
    x[0] = 0  # the empty place
    seen = torch.eye(len(x), dtype=torch.bool)
    seen[:, 0] = True
    out = torch.zeros_like(x)
    for i in range(0, len(W_Q), 128):  # so many heads at once
        part = slice(i, i + 128)
        scores = (x @ W_Q[part]) @ (x @ W_K[part]).mT  # [heads dest src]
        pattern = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        out += (pattern @ (x @ W_V[part]) @ W_O[part]).sum(0)
    return out[1:, :-1]

start = time.perf_counter()
few = x[:96].double()
gates = route(few, shown["gate"].double(), K)
as_heads = torch.zeros_like(few)
for e in range(N_EXPERTS):  # the trained mixture: SiLU neurons, without biases
    neurons = zip(W_in[e].T, W_out[e], strict=True)
    heads = [torch.stack(part) for part in zip(
        *(neuron_as_head(w, 0.0, out, 1.0) for w, out in neurons), strict=True)]
    as_heads += gates[:, e : e + 1] * attend(heads, few)
silu_error = (as_heads - mixture_of_experts(few, gates, W_in, W_out)).abs().max().item()
print(f"the mixture's {N_EXPERTS * W_in.shape[2]} SiLU neurons as heads: largest difference "
      f"{silu_error:.0e} of outputs up to {as_heads.abs().max():.1f}")

# %%
def with_heads(model: Transformer, tokens: Tensor, sharpness: float) -> Tensor:
    """Logits with every MLP replaced by heads, one text at a time."""
    hooks = []
    for layer, block in enumerate(model.blocks):
        heads = mlp_as_heads(model, layer, sharpness)

        def put(out, hook, block=block, heads=heads):
            written = [attend(heads, text) for text in block.ln2(stream[0])]
            return torch.stack(written) + block.mlp.b_out

        hooks += [(get_act_name("resid_mid", layer), lambda x, hook: stream.__setitem__(0, x)),
                  (get_act_name("mlp_out", layer), put)]
    stream = [None]
    return model.run_with_hooks(tokens, fwd_hooks=hooks)

texts = corpus.heldout_windows(3 if full_run else 1, 64 if full_run else 16)
as_it_is = full(texts)
SHARPNESS = (1, 4, 16, 64, 256) if full_run else (1, 64)
replaced = {s: with_heads(full, texts, s) for s in SHARPNESS}
losses = {s: next_token_loss(logits, texts).item() for s, logits in replaced.items()}
take_out = [(lambda name: name.endswith("mlp_out"), lambda x, hook: 0 * x)]
no_mlps = full.run_with_hooks(texts, fwd_hooks=take_out)
original, without = next_token_loss(as_it_is, texts).item(), next_token_loss(no_mlps, texts).item()
for s, logits in replaced.items():
    print(f"sharpness {s:>3}: loss {losses[s]:.4f} (as it is {original:.4f}), largest difference "
          f"of logits {(logits - as_it_is).abs().max():.4f}")
n_neurons = full.cfg.n_layers * full.cfg.d_mlp
print(f"{n_neurons:,} heads in place of MLPs, beside {full.cfg.n_layers * full.cfg.n_heads} others")
seconds["MLPs as heads"] = time.perf_counter() - start
moves = {s: (logits - as_it_is).abs().max().item() for s, logits in replaced.items()}
plots.lines(
    {"MLPs as heads": (list(moves), list(moves.values()))},
    "full_two_layer with its ReLU neurons as heads", "sharpness", "largest difference of logits",
    {"MLPs taken out": (no_mlps - as_it_is).abs().max().item()}, logx=True, markers=True,
).set_yscale("log")
print(f"loss without MLPs {without:.2f}")

# %% [markdown]
# **What to see here.** The difference falls faster than in proportion to the sharpness: each neuron's error does, and only neurons
# with $u$ near 0 are wrong at all, the fewer the sharper. With sharpness 1 this is another model, with SiLU neurons for ReLU,
# and even so it loses little beside what it would lose without MLPs. The mixture above, whose neurons are SiLU, needed no
# approximation at all.
#
# Where is the catch? In what each head may *see*. The mask that leaves itself and the empty place is not the causal
# mask. Huben and Morris get it from the causal one by wider heads: to each query and key they add a one-hot vector of the
# position, so that a position prefers itself by $\Omega$. The empty place has a 1 in all of these dimensions. What is left for the
# others is $e^{-\Omega}$, but scores of size $\Omega$ are rounded.

# %%
start = time.perf_counter()
few = x[:48]
W_Q, W_K, W_V, W_O = (W[:64] for W in mlp_as_heads(full, 1, 1.0))

def causal(omega: float, dtype: torch.dtype) -> Tensor:
    """The same heads under the causal mask, each wider by one dimension for every position."""
    y = torch.cat([few.to(dtype), torch.ones(len(few), 1, dtype=dtype)], 1)
    y = torch.cat([torch.zeros(1, y.shape[1], dtype=dtype), y])
    place = torch.eye(len(y), dtype=dtype)
    keys = place.clone()
    keys[0] = 1  # the empty place fits every position
    q = torch.cat([y @ W_Q.to(dtype), omega * place.expand(len(W_Q), -1, -1)], -1)
    k = torch.cat([y @ W_K.to(dtype), keys.expand(len(W_K), -1, -1)], -1)
    future = torch.ones(len(y), len(y), dtype=torch.bool).triu(1)
    pattern = (q @ k.mT).masked_fill(future, -torch.inf).softmax(-1)
    return (pattern @ (y @ W_V.to(dtype)) @ W_O.to(dtype)).sum(0)[1:, :-1]

true_out = attend(tuple(W.double() for W in (W_Q, W_K, W_V, W_O)), few.double())
OMEGAS = [2.0**i for i in range(1, 15, 2)]
errors = {name: [(causal(w, dtype) - true_out).abs().max().item() for w in OMEGAS]
          for name, dtype in (("float32", torch.float32), ("float64", torch.float64))}
plots.lines({name: (OMEGAS, values) for name, values in errors.items()},
            "64 neurons as heads under the causal mask", "Ω", "largest error",
            logx=True, markers=True).set_yscale("log")
best = min(errors["float32"])
print(f"best in float32: error {best:.0e} at Ω = {OMEGAS[errors['float32'].index(best)]:g}; "
      f"d_head is {1 + len(few) + 1} for {len(few)} tokens instead of 1")
seconds["the mask"] = time.perf_counter() - start

# %% [markdown]
# **What to see here.** The error falls as $e^{-\Omega}$, and in float32 rises again once the scores are so large that rounding
# them matters. The price is width: one more dimension of each head for every position of the context. So "an MLP is
# attention" is a statement about what can be *expressed*. Nobody would compute it like that.

# %% [markdown]
# ## But attention is no MLP
#
# The other way round it does not work, with any number of neurons. An MLP works at each position by itself. So do LayerNorm
# and the unembedding. A stack of all of these gives the same answer behind the last token, whatever stands before it.
# One pair of texts proves that a model does what no stack of MLPs can: the same last token, another answer.

# %% [markdown]
# ### Exercise · the counterexample    ●●○   10 min
#
# `tokens` `[pos]` is a text. Exchange *one* of its tokens, not the last, for one of `candidates` `[n]`, so that the log
# probabilities behind the last position change as much as possible: the largest sum over the vocabulary of squared differences. Return
# the changed text `[pos]`.
#
# <details><summary>Hint 1</summary>
# There are (pos - 1) times n texts to try. Build them all as one batch.
# </details>
# <details><summary>Hint 2</summary>
# <code>texts = tokens.repeat(pos - 1, n, 1)</code>, and for each position i: <code>texts[i, :, i] = candidates</code>. Then
# <code>flatten(0, 1)</code>.
# </details>
# <details><summary>Hint 3</summary>
# <code>log_p = model(texts)[:, -1].log_softmax(-1)</code>; the largest <code>(log_p - before).square().sum(-1)</code> wins.
# </details>

# %% exercise="counterexample"
def counterexample(
    model: Transformer, tokens: Int[Tensor, "pos"], candidates: Int[Tensor, "n"]
) -> Int[Tensor, "pos"]:
    """The text, changed at one earlier position, behind which the model says most differently."""
    ### BEGIN SOLUTION
    n = len(tokens) - 1
    texts = tokens.repeat(n, len(candidates), 1)
    for i in range(n):
        texts[i, :, i] = candidates
    texts = texts.flatten(0, 1)
    before = model(tokens[None])[0, -1].log_softmax(-1)
    moved = (model(texts)[:, -1].log_softmax(-1) - before).square().sum(-1)
    return texts[int(moved.argmax())]
    ### END SOLUTION

# %% check="counterexample"
check("counterexample")

# %%
text = full.to_tokens("class A:\n    def __init__(self, rows):\n        self.")[0]
candidates = torch.tensor([full.to_tokens(word, prepend_bos=False)[0, 0] for word in
                           ("(", "import", " None", "rows", " =", "\"", "\n")])
changed = counterexample(full, text, candidates)
at = int((changed != text).nonzero()[0])
old, new = (full.to_string(int(t[at])) for t in (text, changed))
print(f"position {at}: {old!r} becomes {new!r}")
mute = [(lambda name: name.endswith("attn_out"), lambda x, hook: 0 * x)]
moved = {}
for what, hooks in (("the model", []), ("its MLPs alone, attention taken out", mute)):
    a, b = (full.run_with_hooks(t[None], fwd_hooks=hooks)[0, -1].log_softmax(-1)
            for t in (text, changed))
    moved[what] = (a - b).abs().max().item()
    top = " ".join(repr(full.to_string(int(t))) for t in b.topk(3).indices)
    print(f"{what:<38} largest change of a log probability {moved[what]:.2f}; now on top: {top}")

# %% [markdown]
# **What to see here.** With attention the change is felt at the end of the text. Without it, it is not felt at all, not even in
# the last bit: this would be so for any weights and any number of layers. Heads can do a neuron's work; neurons cannot
# do a head's.

# %% [markdown]
# ## What you have shown

# %%
def rows_of_this_chapter() -> list[tuple[str, str]]:
    averaged, best = grouped_loss["averaged"][-1], grouped_loss["best shared"][-1]
    rows = [
        ("two_layer: loss as it is; one key averaged; best shared",
         f"{whole_loss:.2f}; {averaged:.2f}; {best:.2f}"),
        ("the same averaging in turned bases",
         f"{grouped_loss['averaged, in turned bases'][-1]:.2f}"),
    ]
    for way, name in WAYS.items():
        steps, second = toy_table[way]
        rows.append((f"toy, {name}: formed at step; second copy",
                     f"{steps[0]:g} to {steps[-1]:g}; {sum(second) / len(second):.2f}"))
    rows += [(f"one layer, {what}: loss, best induction score",
              f"{curve['loss'][-1]:.2f}, {curve['score'][-1]:.2f}") for what, curve in one.items()]
    for what in ("balanced, seed 0", "left out, seed 0"):
        lost, _, least, most, known, none, _ = mixture_table[what]
        rows.append((f"mixture, {what}: unexplained; most used; I(kind)",
                     f"{lost:.2f}; {most:.0%}; {known:.2f}"))
    rows += [
        ("random router: I(kind); shuffled kinds", f"{mixture_table['random router'][4]:.2f}; "
                                                   f"{mixture_table['balanced, seed 0'][5]:.2f}"),
        ("SiLU neurons as heads: largest difference", f"{silu_error:.0e}"),
        (f"full_two_layer, ReLU as heads, sharpness {SHARPNESS[-1]}: loss (as it is)",
         f"{losses[SHARPNESS[-1]]:.3f} ({original:.3f})"),
        ("a token changed: with attention, without",
         ", ".join(f"{change:.2f}" for change in moved.values())),
    ]
    return rows

for what, value in rows_of_this_chapter():
    print(f"{what:<64}{value:>26}")
print("\nseconds: " + "; ".join(f"{what} {value:.0f}" for what, value in seconds.items()))

# %% [markdown]
# | claim | where it is from | what to compare |
# |---|---|---|
# | One key for all heads is enough | Shazeer, 2019 | toys at equal parameters, and 4 heads with 1 key |
# | Keys can be averaged, and trained on | Ainslie et al., 2023 | averaged, in turned bases, best shared: all before training on |
# | Keys that hold the token before make one layer enough | Olsson et al., 2022 | smeared beside plain keys |
# | Without a balance term few experts do the work | Fedus et al., 2021 | most used with it and without |
# | Experts specialise | the same | I(kind) beside a random router's and shuffled kinds |
# | A neuron is a head | Huben and Morris, 2023 | SiLU's difference; loss by sharpness; the mask's price |

# %% [markdown]
# ## The whole course, as you measured it
#
# Each chapter ended with a table of what your own code measured. The next cell reads these tables from your own notebooks, as
# they were last saved, beside the points in your record. A chapter whose last cells you have not run, or not saved, says so.

# %%
def closing_lines(notebook: Path) -> list[str]:
    """What the cells after the last heading "What you have ..." of a saved notebook showed."""
    try:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    outputs, inside = [], False
    for cell in cells:
        title = "".join(cell["source"])
        inside = title.startswith("## What you have") if title.startswith("## ") else inside
        outputs += cell.get("outputs", []) if inside else []
    printed = ""
    for out in outputs:  # tables of some chapters are Markdown
        printed += "".join(out.get("text") or [*out.get("data", {}).get("text/markdown", ""), "\n"])
    lines = [line.rpartition("\r")[2] for line in printed.split("\n")]  # without progress bars
    return [line for line in lines if line.strip(" |-")]

record = progress()
for chapter, steps in record.rows:
    solved = sum(step.state == "solved" for step in steps)
    print(f"\n{chapter.title}: {solved} of {len(steps)} solved, {record.points_of(steps)}")
    lines = [f"{what:<64}{value:>26}" for what, value in rows_of_this_chapter()]
    if chapter.name != "9_other_attention":
        lines = closing_lines(Path("..") / chapter.name / chapter.notebook.name)
    for line in lines or ["(nothing measured yet: run its last cells, and save)"]:
        print("   ", line)

# %% [markdown]
# **Read on.** Noam Shazeer, *Fast Transformer Decoding: One Write-Head is All You Need* (2019). Joshua Ainslie and others,
# *GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints* (2023). William Fedus, Barret Zoph and
# Noam Shazeer, *Switch Transformers* (2021). Robert Huben and Valerie Morris, *Attention-Only Transformers and Implementing
# MLPs with Attention Heads* (2023).
#
# **Build next.** Whatever you would like to know of a model and nobody has written down. Three that follow from here: train
# `to_grouped` models on, and find out which heads learn to share. Take chapter 8's methods to a model with experts, and ask
# whether a circuit keeps to one of them. Replace an MLP by heads, fold them together with the real ones, and see whether
# chapter 3's composition scores say anything about neurons.

# %%
progress()
