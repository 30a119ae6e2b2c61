# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2 · Skip-trigrams: one attention layer
#
# A zero-layer model sees one token. Add one attention layer, and a token can look back. The surprise is
# how little that changes the method: attention needs a softmax, yet you can still read what the model knows straight
# off its weights. What you find there is Python: `try` … newline → `except`.
#
# **After this chapter you can**
#
# - build an attention layer from single heads, and show that heads only ever add up;
# - split every head into two circuits, one for where it looks and one for what it then says, and read both;
# - write a one-layer model's logits as a sum of paths, exactly, with the rounding error printed;
# - count the heads that copy, by three scores and against random matrices, and compare with the paper's count;
# - find a mistake that the model *must* make, because one head has only one of each circuit.
#
# **Time**: about 145 minutes, 119 of them for the exercises. **Needs**: chapter 1. **Follows**: *A Mathematical
# Framework for Transformer Circuits*, section "One-Layer Attention-Only Transformers".
#
# Nothing is trained here: the shipped model has one layer of eight heads, and you take it apart.

# %% tags=["setup"]
import math

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Complex, Float, Int
from torch import Tensor

from circuits import check, hint, progress, reveal
from utils import Transformer

# %%
from utils import load_corpus, load_curves, load_model
from utils.figures import plots, views
from utils.training import live_steps
from utils.waiting import waiting

corpus = load_corpus()
model = load_model("one_layer").requires_grad_(False)
bigram_model = load_model("zero_layer").requires_grad_(False)
cfg = model.cfg
d_vocab, d_model, d_head = cfg.d_vocab, cfg.d_model, cfg.d_head
W_E, W_U, W_pos = model.W_E, model.W_U, model.W_pos
heads = range(cfg.n_heads)
print(corpus)
print(f"{cfg.n_heads} heads, d_model = {d_model}, d_head = {d_head}, d_vocab = {d_vocab}")

code = """def load(path):
    try:
        with open(path) as file:
            return json.load(file)
    except"""
tokens = model.to_tokens(code, prepend_bos=False)
words = [views.short_name(model, i) for i in tokens[0].tolist()]
print(" | ".join(words))

# %% [markdown]
# **Names you will meet.** "Head 0.3" is head 3 of layer 0; both count from 0. The weights of all heads are stacked, layer first, then head.
# A run can keep what it computes on the way, in a *cache*: `logits, cache = model.run_with_cache(tokens)`.
#
# | name | shape | what it is |
# |---|---|---|
# | `model.W_E`, `model.W_U` | `[d_vocab d_model]`, `[d_model d_vocab]` | tokens into the stream, and out of it |
# | `model.W_pos` | `[n_ctx d_model]` | a vector for each position |
# | `model.W_Q`, `W_K`, `W_V` | `[n_layers n_heads d_model d_head]` | `model.W_Q[0, 3]` belongs to head 0.3 |
# | `model.W_O` | `[n_layers n_heads d_head d_model]` | a head's way back into the stream |
# | `cache["embed"]` | `[batch pos d_model]` | the embedded tokens |
# | `cache["attn_scores", 0]`, `cache["pattern", 0]` | `[batch n_heads dest src]` | where the heads of layer 0 look |
# | `cache["z", 0]` | `[batch pos n_heads d_head]` | what each head has gathered, before `W_O` |
# | `cache["result", 0]` | `[batch pos n_heads d_model]` | what each head adds to the stream |
# | `cache["attn_out", 0]` | `[batch pos d_model]` | what all of them add |
#
# `cache["pattern", 0]` is short for `cache["blocks.0.attn.hook_pattern"]`, and `cache["embed"]` for `cache["hook_embed"]`.

# %% [markdown]
# ## Where this chapter ends
#
# The figure: what one layer of attention is worth. Below it, what one head of that layer does with one word, read off
# its weights without running it. By the end you will know how, what such lists leave out, and what each of the eight heads does.

# %%
curves = {
    f"{n} layer{'s' if n == 'zero' else ''}": (c["step"], c["heldout_loss"])
    for n, c in (("zero", load_curves("zero_layer")), ("one", load_curves("one_layer")))
}
plots.lines(
    curves, "Learning Python without and with attention", "training step",
    "loss on a sample of held-out text (nats)"
)
print(views.circuits(model, 5, " try"))

# %% [markdown]
# ## Where to look: scores
#
# A head moves information from *source* positions to *destination* positions. To decide from where, each destination
# makes a *query*, each source a *key*, and the two are compared. With the vectors of a text as rows of $x$:
#
# $$S = \frac{(x\,W_Q)(x\,W_K)^\top}{\sqrt{d_\text{head}}} \qquad
# W_Q, W_K \in \mathbb{R}^{d_\text{model} \times d_\text{head}},\quad S \in \mathbb{R}^{\text{dest} \times \text{src}}$$
#
# Row $i$ holds the *scores* of destination $i$, one per source. The root keeps scores of a usual size whatever
# $d_\text{head}$ is. We always write destination first: `S[dest, src]`.

# %% [markdown]
# ### Exercise · attention scores    ●○○   5 min
#
# One head, a batch of texts. The destinations read `x_q` and the sources `x_k`; in a transformer these are the same
# vectors, but keep them apart here.
#
# <details><summary>Hint 1</summary>
# Queries are <code>x_q @ W_Q</code>, of shape <code>[batch dest d_head]</code>; keys are <code>x_k @ W_K</code>.
# </details>
# <details><summary>Hint 2</summary>
# Sum over d_head: <code>einsum(q, k, "batch dest d_head, batch src d_head -> batch dest src")</code>, or
# <code>q @ k.transpose(-1, -2)</code>.
# </details>
# <details><summary>Hint 3</summary>
# d_head is the last size of <code>W_Q</code>.
# </details>

# %% exercise="attention_scores"
def attention_scores(
    x_q: Float[Tensor, "batch dest d_model"],
    x_k: Float[Tensor, "batch src d_model"],
    W_Q: Float[Tensor, "d_model d_head"],
    W_K: Float[Tensor, "d_model d_head"],
) -> Float[Tensor, "batch dest src"]:
    """How well the query of each destination fits the key of each source, over sqrt(d_head)."""
    ### BEGIN SOLUTION
    q, k = x_q @ W_Q, x_k @ W_K
    return einsum(
        q, k, "batch dest d_head, batch src d_head -> batch dest src"
    ) / W_Q.shape[-1] ** 0.5
    ### END SOLUTION

# %% check="attention_scores"
check("attention_scores")

# %% [markdown]
# ## How much: the pattern
#
# A model that predicts the next token must not see it. So destination $i$ may only look at sources $j \le i$: the
# scores of later ones are set to $-\infty$, which softmax turns into exactly 0. What is left of each row becomes
# weights that sum to one, the *attention pattern*:
#
# $$A_{ij} = \frac{e^{S_{ij}}}{\sum_{j' \le i} e^{S_{ij'}}} \quad (j \le i), \qquad A_{ij} = 0 \quad (j > i)$$
#
# Only differences *within a row* matter: add a constant to a whole row of scores and nothing changes. Keep that in
# mind. It will decide what we may read off the weights.

# %% [markdown]
# ### Exercise · causal pattern    ●○○   4 min
#
# Destinations and sources are now the same positions: `scores` is square.
#
# <details><summary>Hint 1</summary>
# Mask first, softmax afterwards. (The other way round, the rows no longer sum to one.)
# </details>
# <details><summary>Hint 2</summary>
# <code>torch.ones(n, n, dtype=torch.bool).triu(1)</code> is true above the diagonal, and
# <code>scores.masked_fill(mask, -torch.inf)</code> fills in.
# </details>

# %% exercise="causal_pattern"
def causal_pattern(scores: Float[Tensor, "batch pos pos"]) -> Float[Tensor, "batch pos pos"]:
    """Attention weights [batch dest src]: softmax over the sources that are not in the future."""
    ### BEGIN SOLUTION
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(dim=-1)
    ### END SOLUTION

# %% check="causal_pattern"
check("causal_pattern")

# %%
_, cache = model.run_with_cache(tokens)
x_qk = W_E[tokens] + W_pos[: tokens.shape[1]]  # what queries and keys read; more on this soon

patterns = [
    causal_pattern(attention_scores(x_qk, x_qk, model.W_Q[0, h], model.W_K[0, h])) for h in heads
]
for ax, h in zip(plots.axes(2, size=(6.6, 5.8)), (2, 5), strict=True):
    plots.matrix(patterns[h][0], words, words, f"Where head 0.{h} looks", "source", "destination",
                 "attention weight", ax=ax)
off = (torch.stack(patterns, dim=1) - cache["pattern", 0]).abs().max()
print(
    f"Your patterns and the model's own differ by at most {off:.0e}, over all {cfg.n_heads} heads."
)
print("head   weight on the present token, on the one before, further back (means)")
for h in heads:
    A = patterns[h][0, 1:]
    present, before = A[:, 1:].diagonal().mean(), A.diagonal().mean()
    print(f"0.{h} {present:>18.2f} {before:>21.2f} {1 - present - before:>13.2f}")

# %% [markdown]
# **What to see here.** Head 0.2 looks at the last two or three tokens, mostly at the one before. Head 0.5 looks far back: follow the column of `·try` down, and it lights up wherever a
# line ends; `·with` lights up at the closing bracket. Everything above the diagonal is the future, and dark. Weight there would
# be a bug of ours. In the list, head 0.3 hardly looks at anything but the present token: attention that stays at home is allowed, too.

# %% [markdown]
# ## What is moved
#
# Each source offers a *value* $x_j W_V$. The destination takes the average of the values, weighted by its row of the
# pattern, and $W_O$ turns the result into a vector for the residual stream:
#
# $$\text{out} = A\,(x\,W_V)\,W_O = A\,x\,(W_V W_O) \qquad
# W_V \in \mathbb{R}^{d_\text{model} \times d_\text{head}},\; W_O \in \mathbb{R}^{d_\text{head} \times d_\text{model}}$$
#
# $A$ mixes positions, the same for every dimension. $W_V W_O$ mixes dimensions, the same for every
# position. Neither cares in which order the other comes.

# %% [markdown]
# ### Exercise · the output of a head    ●○○   4 min
#
# You are given the pattern. Compute what the head adds to the residual stream at each destination.
#
# <details><summary>Hint 1</summary>
# Values first: <code>x @ W_V</code>, of shape <code>[batch src d_head]</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>pattern @ values</code> sums over sources. Which index of the pattern is the source? The last.
# </details>

# %% exercise="head_output"
def head_output(
    x: Float[Tensor, "batch src d_model"],
    pattern: Float[Tensor, "batch dest src"],
    W_V: Float[Tensor, "d_model d_head"],
    W_O: Float[Tensor, "d_head d_model"],
) -> Float[Tensor, "batch dest d_model"]:
    """What one head adds to the residual stream at every destination."""
    ### BEGIN SOLUTION
    return pattern @ (x @ W_V) @ W_O
    ### END SOLUTION

# %% check="head_output"
check("head_output")

# %% [markdown]
# ## The whole layer
#
# A layer is several heads side by side. All read the same stream, none hears of the others, and the stream
# receives the **sum** of what they write. That is all "multi-head" means.
#
# Where a token stands enters in one place. A fixed vector $p_i$ per position (a row of `W_pos`) is added to what
# queries and keys read, and not to what values read:
#
# $$S^h = \frac{\big((x+p)\,W_Q^h\big)\big((x+p)\,W_K^h\big)^\top}{\sqrt{d_\text{head}}} \qquad
# \text{out} = \sum_h A^h\,x\,W_V^h W_O^h$$
#
# So positions can steer attention, but what is moved knows nothing of them. (This is how the paper's models do it. Press and others
# called it "shortformer".)

# %% [markdown]
# ### Exercise · attention layer    ●●○   7 min
#
# All heads at once: each weight has a first index for the head. `W_pos` has more rows than the text has tokens.
# Do not add the stream itself; only what the layer adds to it.
#
# <details><summary>Hint 1</summary>
# <code>x_qk = x + W_pos[: x.shape[1]]</code>. Then the three steps you have built, once per head, summed up. A loop over
# heads is fine.
# </details>
# <details><summary>Hint 2</summary>
# Without a loop: <code>einsum(x_qk, W_Q, "batch pos d_model, head d_model d_head -> batch head pos d_head")</code>.
# </details>
# <details><summary>Hint 3</summary>
# The sum over heads can be part of the last einsum: leave <code>head</code> out on the right of the arrow.
# </details>

# %% exercise="attention_layer"
def attention_layer(
    x: Float[Tensor, "batch pos d_model"],
    W_pos: Float[Tensor, "n_ctx d_model"],
    W_Q: Float[Tensor, "n_heads d_model d_head"],
    W_K: Float[Tensor, "n_heads d_model d_head"],
    W_V: Float[Tensor, "n_heads d_model d_head"],
    W_O: Float[Tensor, "n_heads d_head d_model"],
) -> Float[Tensor, "batch pos d_model"]:
    """What a layer of attention adds to the residual stream x, causal, positions in Q and K
    only."""
    ### BEGIN SOLUTION
    x_qk = x + W_pos[: x.shape[1]]
    q = einsum(x_qk, W_Q, "batch pos d_model, head d_model d_head -> batch head pos d_head")
    k = einsum(x_qk, W_K, "batch pos d_model, head d_model d_head -> batch head pos d_head")
    v = einsum(x, W_V, "batch pos d_model, head d_model d_head -> batch head pos d_head")
    scores = q @ k.transpose(-1, -2) / W_Q.shape[-1] ** 0.5
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    pattern = scores.masked_fill(future, -torch.inf).softmax(dim=-1)
    return einsum(
        pattern @ v, W_O, "batch head pos d_head, head d_head d_model -> batch pos d_model"
    )
    ### END SOLUTION

# %% check="attention_layer"
check("attention_layer")

# %% [markdown]
# Many descriptions of attention *concatenate* the heads' results and multiply by one large output matrix. That large
# matrix is the heads' $W_O$, stacked. Is it the same as the sum?

# %%
weights = (model.W_Q[0], model.W_K[0], model.W_V[0], model.W_O[0])
yours = attention_layer(W_E[tokens], W_pos, *weights)
z = cache["z", 0]  # [batch pos n_heads d_head]: each head's weighted average of values
one_product = rearrange(z, "b p h d -> b p (h d)") @ rearrange(model.W_O[0], "h d m -> (h d) m")
sum_of_heads = sum(
    head_output(
        W_E[tokens], cache["pattern", 0][:, h], model.W_V[0, h], model.W_O[0, h]
    ) for h in heads
)
concatenation_error = (one_product - sum_of_heads).abs().max().item()
print(f"your layer against the model's         {(yours - cache['attn_out', 0]).abs().max():.0e}")
print(f"concatenate-then-project against sum   {concatenation_error:.0e}")
print(f"size of what the layer adds            {cache['attn_out', 0].abs().max():.1f}")

# %% [markdown]
# **What to see here.** The same, up to rounding. A matrix product over a long concatenated axis *is* a sum of products
# over its pieces. So we may study one head at a time and lose nothing: *heads are independent and additive*.

# %% [markdown]
# ## What a head says: the OV circuit
#
# $W_V$ and $W_O$ never act alone. Only their product does:
#
# $$W_{OV} = W_V W_O \in \mathbb{R}^{d_\text{model} \times d_\text{model}}, \qquad \operatorname{rank} W_{OV} \le d_\text{head}$$
#
# Put the embedding in front and the unembedding behind it, and you have tokens on both sides, just as
# with the direct path of chapter 1:
#
# $$W_E\, W_{OV}\, W_U \in \mathbb{R}^{d_\text{vocab} \times d_\text{vocab}}$$
#
# Row $a$, column $c$: **if this head attends to token $a$, how much does it raise the logit of token $c$?** The
# answer is a number in the weights. No text is needed.

# %% [markdown]
# ### Exercise · OV circuit    ●○○   2 min
#
# For any layer and head of a model. `model.W_V` has shape `[n_layers n_heads d_model d_head]`.
#
# <details><summary>Hint 1</summary>
# <code>model.W_V[layer, head]</code> is one head's matrix.
# </details>
# <details><summary>Hint 2</summary>
# In the row convention, a vector meets the left factor first: values, then output.
# </details>

# %% exercise="ov_circuit"
def ov_circuit(model: Transformer, layer: int, head: int) -> Float[Tensor, "d_model d_model"]:
    """The matrix M by which a head changes what it moves: a source vector x arrives as x @ M."""
    ### BEGIN SOLUTION
    return model.W_V[layer, head] @ model.W_O[layer, head]
    ### END SOLUTION

# %% check="ov_circuit"
check("ov_circuit")

# %% [markdown]
# ### Exercise · the full OV circuit    ●○○   3 min
#
# From source token to logits of the next token. In which order you multiply decides whether it takes a blink or a second.
#
# <details><summary>Hint 1</summary>
# W_E, then W_V, then W_O, then W_U.
# </details>
# <details><summary>Hint 2</summary>
# <code>(W_E @ W_V) @ (W_O @ W_U)</code>: two thin matrices, then one large product.
# </details>

# %% exercise="full_ov_circuit"
def full_ov_circuit(model: Transformer, layer: int, head: int) -> Float[Tensor, "d_vocab d_vocab"]:
    """Entry [a, c]: what attending to source token a (with weight 1) adds to the logit of token
    c."""
    ### BEGIN SOLUTION
    value = model.W_E @ model.W_V[layer, head]
    out = model.W_O[layer, head] @ model.W_U
    return value @ out
    ### END SOLUTION

# %% check="full_ov_circuit"
check("full_ov_circuit")

# %% [markdown]
# The full table has four million cells. Nobody reads four million cells: take a row and look at its largest entries.

# %%
OV = full_ov_circuit(model, 0, 4)
print(f"shape {list(OV.shape)}, rank {torch.linalg.matrix_rank(OV, rtol=1e-5)}\n")
print("head 0.4, when it finds    raises most")
for word in [" with", "{", "[", " class", " import"]:
    token = views.token_id(model, word)
    print(f"{views.short_name(model, token):>22}    {views.named(model, OV[token], 6)}")

# %% [markdown]
# **What to see here.** Brackets are closed, `class` is followed by a bracket and `object`, `import` by the end of a line, `with`
# by names such as `patch` and `open`, but also by pieces of words such as `cimal`, which nobody can make sense of: a list is not all rule. The rank is not 2,048 but $d_\text{head}$: everything this head can say, for all tokens, passes through
# that many numbers.

# %% [markdown]
# ## What a head looks for: the QK circuit
#
# Scores depend on $W_Q$ and $W_K$ only through a product, too. With token embeddings on both sides:
#
# $$\frac{W_E\, W_Q W_K^\top\, W_E^\top}{\sqrt{d_\text{head}}} \in \mathbb{R}^{d_\text{vocab} \times d_\text{vocab}}$$
#
# Row $b$, column $a$: **standing on destination token $b$, how much does the head want source token $a$?** The
# unit is that of scores: 1 more makes the weight $e \approx 2.7$ times larger, compared with the other sources
# of the same destination. Queries and keys both read the stream, so $W_E$ stands on both sides; $W_U$ has no business here.

# %% [markdown]
# ### Exercise · the full QK circuit    ●●○   4 min
#
# Keep the root of $d_\text{head}$, so that entries are contributions to the scores; destinations are rows.
#
# <details><summary>Hint 1</summary>
# Compute all tokens' queries, <code>W_E @ W_Q</code>, and all keys, <code>W_E @ W_K</code>: each <code>[d_vocab d_head]</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>queries @ keys.T</code> has queries as rows. <code>model.cfg.d_head</code> is d_head.
# </details>

# %% exercise="full_qk_circuit"
def full_qk_circuit(model: Transformer, layer: int, head: int) -> Float[Tensor, "d_vocab d_vocab"]:
    """Entry [b, a]: what tokens alone add to the score of source a for destination b."""
    ### BEGIN SOLUTION
    query = model.W_E @ model.W_Q[layer, head]
    key = model.W_E @ model.W_K[layer, head]
    return query @ key.T / model.cfg.d_head**0.5
    ### END SOLUTION

# %% check="full_qk_circuit"
check("full_qk_circuit")

# %%
QK = full_qk_circuit(model, 0, 5)
print("head 0.5, standing on    looks for")
for word in ["\n       ", "):", ")", "."]:
    token = views.token_id(model, word)
    row = QK[token]
    print(f"{views.short_name(model, token):>20}    {views.named(model, row - row.mean(), 7)}")

# %% [markdown]
# **What to see here.** At the end of a line, this head searches for what opened it: `·while`, `·with`, `·if`, `·for`, and at a
# new line `·try`. Only `·>>>` is wanted more there, the prompt of examples in documentation, which also run over several lines. We
# subtract the mean of the row, as a constant in a row means nothing. In *this* circuit a token cannot know *how
# far* back the other is.

# %% [markdown]
# ## Four terms, exactly
#
# Distance comes from positions. Queries and keys read $x + p$, so the score is a product of two sums, and
# multiplying out gives four terms:
#
# $$S_{ij}\sqrt{d_\text{head}} = \underbrace{x_i W_{QK}\, x_j^\top}_\text{token-token} +
# \underbrace{x_i W_{QK}\, p_j^\top}_\text{token-position} +
# \underbrace{p_i W_{QK}\, x_j^\top}_\text{position-token} +
# \underbrace{p_i W_{QK}\, p_j^\top}_\text{position-position}, \qquad W_{QK} = W_Q W_K^\top$$
#
# Nothing is approximated. The first term is the QK circuit you have built. The last depends on no text at all: it is the same
# `[n_ctx n_ctx]` table for every input, and says which distances the head likes.

# %% [markdown]
# ### Exercise · positional QK    ●○○   3 min
#
# The position-position term, for all positions of the context.
#
# <details><summary>Hint 1</summary>
# It is the full QK circuit with <code>W_pos</code> in place of <code>W_E</code>.
# </details>
# <details><summary>Hint 2</summary>
# No mask and no softmax: it is a term of the scores. Do not forget the root.
# </details>

# %% exercise="positional_qk"
def positional_qk(model: Transformer, layer: int, head: int) -> Float[Tensor, "n_ctx n_ctx"]:
    """Entry [i, j]: what positions alone add to the score of source position j for destination
    i."""
    ### BEGIN SOLUTION
    query = model.W_pos @ model.W_Q[layer, head]
    key = model.W_pos @ model.W_K[layer, head]
    return query @ key.T / model.cfg.d_head**0.5
    ### END SOLUTION

# %% check="positional_qk"
check("positional_qk")

# %%
ranges = [(0, 0), (1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, 64), (65, 128)]
by_distance = []
for h in heads:
    future = torch.ones(cfg.n_ctx, cfg.n_ctx, dtype=torch.bool).triu(1)
    alone = positional_qk(model, 0, h).masked_fill(future, -torch.inf).softmax(-1)
    # from position 128 on
    back = torch.stack([alone.diagonal(-d)[128 - d :].mean() for d in range(129)])
    by_distance.append([back[low : high + 1].sum().item() for low, high in ranges])

plots.matrix(
    torch.tensor(by_distance), [f"0.{h}" for h in heads],
    [f"{low}" if low == high else f"{low}-{high}" for low, high in ranges],
    "Where positions alone send each head", "tokens back (0 is the present token)", "head",
    "attention weight in all",
);

# %% [markdown]
# **What to see here.** Positions alone hold head 0.3 at the present token, 0.6 mostly there, and 0.2 at the last three. Head 0.4
# fades within a dozen tokens, 0.7 within some thirty. Heads 0.0, 0.1 and 0.5 leave it open over dozens of tokens: there, words must decide.

# %% [markdown]
# ### Exercise · four terms of a score    ●●○   6 min
#
# For one text and one head of the first layer, return the four terms as one tensor, in the order of the equation:
# token-token, token-position (the *query* from the token, the *key* from the position), position-token,
# position-position. Each includes the root.
#
# <details><summary>Hint 1</summary>
# Two kinds of query, <code>x @ W_Q</code> and <code>p @ W_Q</code>, and two kinds of key.
# </details>
# <details><summary>Hint 2</summary>
# <code>x = model.W_E[tokens]</code>, <code>p = model.W_pos[: len(tokens)]</code>. Then
# <code>torch.stack([q @ k.T for q in ... for k in ...])</code> in the right order.
# </details>

# %% exercise="score_terms"
def score_terms(
    model: Transformer, tokens: Int[Tensor, "pos"], head: int
) -> Float[Tensor, "4 pos pos"]:
    """Scores [dest src] of a head of layer 0 before masking, as four terms: tt, tp, pt, pp."""
    ### BEGIN SOLUTION
    x, p = model.W_E[tokens], model.W_pos[: len(tokens)]
    queries = [part @ model.W_Q[0, head] for part in (x, p)]
    keys = [part @ model.W_K[0, head] for part in (x, p)]
    return torch.stack([q @ k.T for q in queries for k in keys]) / model.cfg.d_head**0.5
    ### END SOLUTION

# %% check="score_terms"
check("score_terms")

# %%
terms = score_terms(model, tokens[0], 5)
allowed = torch.ones(terms.shape[1:], dtype=torch.bool).tril()
off = (terms.sum(0) - cache["attn_scores", 0][0, 5])[allowed].abs().max()
print(f"Sum of the four terms against the model's scores: {off:.0e}")

last = terms[:, -2]  # the last newline; each row less its mean, as only differences count
shown = torch.cat([last, last.sum(0)[None]])[:, :-1]
plots.matrix(
    shown - shown.mean(-1, keepdim=True),
    ["token-token", "token-position", "position-token", "position-position", "sum"], words[:-1],
    "What head 0.5 thinks of each source, standing on the last newline", "source", "term", "score",
);

# %% [markdown]
# **What to see here.** The words decide: this newline looks for `·try`, next `·with`, in the token-token row. The position-token row
# has its likes and dislikes, too, but they hold for *every* token at this place: it dislikes a full stop whoever looks. The two rows with
# key positions are nearly flat over so short a text. The sum is exact.

# %% [markdown]
# ## The path expansion
#
# Now the whole model. The stream starts as $W_E[t]$; each head adds $A^h\, W_E[t]\, W_{OV}^h$; the unembedding is linear, so it
# acts on each part by itself:
#
# $$\text{logits} = \underbrace{W_E[t]\,W_U}_\text{direct path} + \sum_h \underbrace{A^h\, W_E[t]\,W_{OV}^h\,W_U}_{\text{head } h}
# \qquad [\text{pos}\;\, d_\text{vocab}]$$
#
# A one-layer model is a sum of $1 + n_\text{heads}$ paths from tokens to logits. The direct path is a bigram table. Each head
# is the table $W_E W_{OV} W_U$, applied at every source and averaged by the pattern.

# %% [markdown]
# ### Exercise · path expansion    ●●○   6 min
#
# Return all terms: the direct path first, then one per head. The patterns are in the cache of a run.
#
# <details><summary>Hint 1</summary>
# <code>_, cache = model.run_with_cache(tokens)</code>, then <code>cache["pattern", 0]</code> is <code>[batch head dest src]</code>.
# </details>
# <details><summary>Hint 2</summary>
# A head's term: <code>pattern[:, h] @ (x @ W_V) @ W_O @ W_U</code>, with <code>x = model.W_E[tokens]</code>.
# </details>
# <details><summary>Hint 3</summary>
# <code>torch.stack</code> puts a list of terms along a new first axis.
# </details>

# %% exercise="path_expansion"
def path_expansion(
    model: Transformer, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "n_heads+1 batch pos d_vocab"]:
    """Terms that sum to a one-layer model's logits: the direct path, then heads 0, 1, ..."""
    ### BEGIN SOLUTION
    _, cache = model.run_with_cache(tokens)
    x = model.W_E[tokens]
    terms = [x @ model.W_U]
    for head in range(model.cfg.n_heads):
        moved = cache["pattern", 0][:, head] @ (x @ model.W_V[0, head])
        terms.append(moved @ model.W_O[0, head] @ model.W_U)
    return torch.stack(terms)
    ### END SOLUTION

# %% check="path_expansion"
check("path_expansion")

# %%
paths = path_expansion(model, tokens)
logits = model(tokens)
residual_error = (paths.sum(0) - logits).abs().max().item()
print(f"logits are as large as                 {logits.abs().max():.1f}")
print(
    f"sum of the paths minus the logits      {residual_error:.1e}  (at most, over all "
    f"{logits.numel():,})"
)
print(
    "float32 can resolve about              "
    f"{logits.abs().max() * torch.finfo(torch.float32).eps:.0e}"
)

following = tokens[0, 1:]
credit = paths[:, 0, :-1].gather(-1, following.expand(len(paths), -1)[..., None])[..., 0]
credit = credit - paths[:, 0, :-1].mean(-1)  # a constant added to all logits changes nothing
plots.matrix(
    credit, ["direct", *(f"0.{h}" for h in heads)], words[1:],
    "How much each path raises the token that comes next", "next token", "path",
    "logit, less the mean over tokens",
);

# %% [markdown]
# **What to see here.** The residual error is a few units of float32's last place: rounding, nothing else. Read a column to see who
# is responsible for a prediction: `·as` is owed to head 0.5, which found `·with`, and `·except` to the same head, which
# found `·try`. A large error would mean a path we forgot.

# %% [markdown]
# ## Freeze the patterns, and everything is linear
#
# The softmax is the only thing in this model that is not linear. So hold the patterns $A^h$ fixed at what they are
# on some text, and look at the logits as a function of the embedded vectors $x$ alone:
#
# $$f(x) = x\,W_U + \sum_h A^h\, x\, W_{OV}^h W_U, \qquad f(\alpha x + \beta y) = \alpha f(x) + \beta f(y)$$
#
# The paper calls this the *freezing attention patterns trick*: it splits a transformer into two questions,
# *why these patterns* (QK) and *given them, what is said* (OV), and the second is linear algebra.
#
# To hold something fixed, you need to reach into a run. A *hook* is a function `fn(x, hook)` that is called with an activation `x` at the place you
# name; what it returns takes the place of `x` (nothing, if it returns `None`). Places are named as in the cache:
# `"hook_embed"`, `"blocks.0.attn.hook_pattern"`, `"blocks.0.attn.hook_z"`. Here is one that makes every head look at the present token only:

# %%
def look_at_the_present(pattern: Tensor, hook) -> Tensor:
    print(f"at {hook.name}, of shape {list(pattern.shape)}")
    return torch.eye(pattern.shape[-1]).expand_as(pattern)


hooked = model.run_with_hooks(
    tokens, fwd_hooks=[("blocks.0.attn.hook_pattern", look_at_the_present)]
)
for name, these in (("as it is", logits), ("hooked", hooked)):
    print(f"after the last newline, {name:<9} {views.named(model, these[0, -2], 5)}")

# %% [markdown]
# **What to see here.** Without its look back, the model does not know that a `·try` is open.

# %% [markdown]
# ### Exercise · freeze the patterns    ●●○   6 min
#
# Run the model on `tokens`, keep all attention patterns, and run it again with `embed` in place of the token
# embeddings, patterns held fixed. Return the logits of the second run. Make it work for any number of layers.
#
# <details><summary>Hint 1</summary>
# Two kinds of hook in one run, <code>model.run_with_hooks(tokens, fwd_hooks=[(name, fn), ...])</code>: one puts
# <code>embed</code> in, the other, in every layer, the pattern of the first run.
# </details>
# <details><summary>Hint 2</summary>
# The activations are <code>"hook_embed"</code> and, in layer l, <code>f"blocks.{l}.attn.hook_pattern"</code>. A hook knows where
# it stands: <code>hook.name</code> is a key of the cache.
# </details>
# <details><summary>Hint 3</summary>
# <code>names_filter=lambda name: name.endswith("pattern")</code> keeps the patterns only, and the same function serves as a
# name in <code>fwd_hooks</code>: it then matches every layer.
# </details>

# %% exercise="freeze_patterns"
def freeze_patterns(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    embed: Float[Tensor, "batch pos d_model"],
) -> Float[Tensor, "batch pos d_vocab"]:
    """Logits with `embed` for the embedded tokens, all patterns as they are on `tokens`."""
    ### BEGIN SOLUTION
    def is_pattern(name: str) -> bool:
        return name.endswith("hook_pattern")

    _, cache = model.run_with_cache(tokens, names_filter=is_pattern)
    hooks = [
        ("hook_embed", lambda x, hook: embed),
        (is_pattern, lambda pattern, hook: cache[hook.name]),
    ]
    return model.run_with_hooks(tokens, fwd_hooks=hooks)
    ### END SOLUTION

# %% check="freeze_patterns"
check("freeze_patterns")

# %%
generator = torch.Generator().manual_seed(0)
x, y = (W_E[torch.randint(cfg.d_vocab, tokens.shape, generator=generator)] for _ in range(2))
together = freeze_patterns(model, tokens, 2 * x - 3 * y)
apart = 2 * freeze_patterns(model, tokens, x) - 3 * freeze_patterns(model, tokens, y)
frozen_error = (together - apart).abs().max().item()
same = (freeze_patterns(model, tokens, W_E[tokens]) - logits).abs().max()
print(
    f"f(2x - 3y) - 2 f(x) + 3 f(y)     {frozen_error:.0e}, of logits up to "
    f"{together.abs().max():.0f}"
)
print(f"f(W_E[tokens]) - logits          {same:.0e}")

# %% [markdown]
# **What to see here.** Rounding again. With other tokens' vectors in place of the text's own, the logits are nonsense; that they
# are *linear* nonsense is the point.

# %% [markdown]
# ## Skip-trigrams
#
# Put the two circuits together. A head that stands on destination $b$ finds a source $a$ (QK) and raises a token $c$
# (OV). Written as a pattern of three tokens with a gap:
#
# $$[a]\;\ldots\;[b] \rightarrow [c]$$
#
# This is a *skip-trigram*: a rule such as "some time after `with`, at a closing bracket, say `as`". A one-layer
# model is a sum of such rules and of bigrams, and of nothing else. Before you look them up, say what you expect.

# %% [markdown]
# ### Exercise · predict the skip-trigrams    ●●○   5 min
#
# Commit before you look. For each of the four sources `" try"`, `" lambda"`, `" import"` and `"("`, which tokens
# become likelier *later on* because the source is there? Return up to three guesses for a source, each the text of one token. Use your
# knowledge of Python, and mind the gap: not what comes right after.
#
# You are right about a source if one of your guesses is among the ten tokens that gain most when the check puts
# the source into real code and asks the model, with all it has, what it now expects after each of the next sixteen tokens. The source
# itself does not count. Spaces round a token do not matter, and
# `"\n"` stands for every newline whatever the indentation. No guess may serve for two sources.
#
# <details><summary>Hint 1</summary>
# What does each of them <i>open</i> that something later must close, continue or separate?
# </details>
# <details><summary>Hint 2</summary>
# <code>try: … ?</code> &nbsp; <code>lambda x ? …</code> &nbsp; <code>import os ?</code> &nbsp; <code>(x ?</code>
# </details>

# %% exercise="predict_skip_trigrams"
def predict_skip_trigrams(source: str) -> list[str]:
    """Up to three tokens that become likelier some way after " try", " lambda", " import" or
    "("."""
    ### BEGIN SOLUTION
    guesses = {
        " try": [" except", " finally"],
        " lambda": [":"],
        " import": ["\n", " as"],
        "(": [")", "))", ","],
    }
    return guesses[source]
    ### END SOLUTION

# %% check="predict_skip_trigrams"
check("predict_skip_trigrams")

# %%
def gains(source: int, at: int = 3) -> Float[Tensor, "d_vocab"]:
    """Probability that each token gains, summed over 16 later positions, when `source` is put into
    real code; the mean over 64 pieces of it."""
    pieces = corpus.heldout_windows(64, n_ctx=at + 17)
    changed = pieces.clone()
    changed[:, at] = source
    difference = model(changed).softmax(-1) - model(pieces).softmax(-1)
    return difference[:, at + 1 :].sum(1).mean(0)


print("put in      what gains most (mean gain in probability, summed over sixteen places)")
for word in [" try", " lambda", " import", "(", " with", " if", " class", " for"]:
    top = gains(views.token_id(model, word)).topk(8)
    tokens_and_gains = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    print(
        f"{plots.token_text(word):<11}",
        "  ".join(f"{views.short_name(model, i)} {g:.2f}" for i, g in tokens_and_gains)
    )

# %% [markdown]
# **What to see here.** Python's grammar, as far as one look back can carry it. After `try`
# or `class`, the newlines that gain are those with many spaces: lines start further to the right. After `import` newlines of every kind gain, the plain
# one included: the statement is short. A surprise would be a token that needs two looks back.

# %% [markdown]
# ## Read them off the weights
#
# That was behaviour. Now the same without running the model. For a source $a$ and a head:
#
# - *destinations*: from which $b$ is it looked for? Column $a$ of the QK circuit. But different $b$ are different rows,
#   and a row's constant means nothing, so compare with the row's mean:
#   $$\bar S_{ba} = S_{ba} - \frac{1}{d_\text{vocab}} \sum_{a'} S_{ba'}$$
# - *outputs*: what is then raised? Row $a$ of the OV circuit.
#
# Note what is missing. The output does not depend on $b$, nor the destination on $c$.

# %% [markdown]
# ### Exercise · skip-trigrams of a head    ●●○   7 min
#
# For a head of the first layer and a source token, return two lists of token ids, best first: the `k` destinations with the largest
# $\bar S_{ba}$, and the `k` outputs with the largest OV entry.
#
# <details><summary>Hint 1</summary>
# You need one column of QK and one row of OV. The full tables work, too: rows are
# destinations in QK, sources in OV.
# </details>
# <details><summary>Hint 2</summary>
# Subtracting the mean key does it at once: <code>key - key.mean(0)</code>, as scores are linear in the key.
# </details>
# <details><summary>Hint 3</summary>
# <code>x.topk(k).indices.tolist()</code>
# </details>

# %% exercise="skip_trigrams"
def skip_trigrams(
    model: Transformer, head: int, source: int, k: int
) -> tuple[list[int], list[int]]:
    """The k destinations that look for `source` most, and the k tokens it then raises most."""
    ### BEGIN SOLUTION
    query, key = model.W_E @ model.W_Q[0, head], model.W_E @ model.W_K[0, head]
    # from every destination; the scale keeps the order
    wanted = query @ (key[source] - key.mean(0))
    raised = model.W_E[source] @ model.W_V[0, head] @ model.W_O[0, head] @ model.W_U
    return wanted.topk(k).indices.tolist(), raised.topk(k).indices.tolist()
    ### END SOLUTION

# %% check="skip_trigrams"
check("skip_trigrams")

# %% [markdown]
# Which head knows about which word? Try every head, and ask the training text whether its rules are true: how likely
# is the output at that destination, at most 64 tokens after the source, and elsewhere? A rule has *merit* if it explains much of the
# text and is strong in the weights. Below is, for each source, the head whose best rule has the most merit. Tokens that the text
# holds fewer than 500 times are left out: chapter 1 found their embeddings poorly learned.

# %%
stretch = len(corpus.train) // 20  # of each twentieth of the text, the beginning
train = torch.cat([part[:200_000] for part in corpus.train.split(stretch)])
pairs = train[:-1] * cfg.d_vocab + train[1:]
all_pairs = torch.bincount(pairs, minlength=cfg.d_vocab**2).view(cfg.d_vocab, cfg.d_vocab)


def after(source: int, within: int = 64) -> Int[Tensor, "d_vocab d_vocab"]:
    """How often each pair of neighbours occurs at most `within` tokens after the source."""
    place = torch.arange(len(train))
    last_seen = torch.where(train == source, place, -within - 1).cummax(0).values
    near = (place - last_seen <= within) & (place > last_seen)
    return torch.bincount(pairs[near[:-1]], minlength=cfg.d_vocab**2).view(cfg.d_vocab, cfg.d_vocab)


def show(ids: list[int]) -> str:
    return "  ".join(views.short_name(model, i) for i in ids)


common = torch.bincount(train, minlength=d_vocab) >= 500
rules = []
for word in [
    " try", " with", " class", " def", " if", " for", " from", " import", " lambda", "(", "[", "{",
    " assert"
]:
    source = views.token_id(model, word)
    near = after(source)
    far = all_pairs - near
    p_near, p_far = (n / n.sum(-1, keepdim=True).clamp(min=1) for n in (near, far))
    explained = near * ((p_near + 1e-5) / (p_far + 1e-5)).log() * (p_near > 3 * p_far)  # in nats
    best = (-1.0,)
    for h in heads:
        destinations, outputs = (
            [int(i) for i in ids if common[i]] for ids in skip_trigrams(model, h, source, 200)
        )
        destinations, outputs = destinations[:40], outputs[:8]
        query, key = W_E[destinations] @ model.W_Q[0, h], W_E @ model.W_K[0, h]
        wanted = (query @ (key[source] - key.mean(0))).clamp(min=0)
        raised = W_E[source] @ model.W_V[0, h] @ model.W_O[0, h] @ W_U[:, outputs]
        merit = explained[destinations][:, outputs] * wanted[:, None] * raised
        b, c = divmod(merit.argmax().item(), len(outputs))
        best = max(
            best, (merit.max().item(), h, destinations[b], outputs[c], destinations[:8], outputs)
        )
    merit, h, b, c, destinations, outputs = best
    rules.append((explained[b, c].item(), h, source, b, c, p_near[b, c].item(), p_far[b, c].item()))
    print(f"[{show([source])}]  head 0.{h}")
    print(f"     …  [{show(destinations)}]")
    print(f"     →  [{show(outputs)}]")

print("\nhead   source      …  destination → output      in the text: after the source   elsewhere")
for _, h, a, b, c, p_with, p_without in rules:
    print(
        f"0.{h}    {show([a]):<11} …  {show([b]):<11} → {show([c]):<18} {p_with:>22.1%} "
        f"{p_without:>11.2%}"
    )
times = sorted(p_with / max(p_without, 1e-5) for *_, p_with, p_without in rules)
print(
    f"\nAfter the source, the output is at least {times[0]:.0f} times likelier; in half of the "
    "rules, "
      f"{times[len(times) // 2]:.0f} times or more.")

# %% [markdown]
# **What to see here.** Mostly rules of Python, found in products of thin matrices. In the real text, too, the output is
# likelier where the source stands nearby, and that is what trained the head. (Each rule is the best of some hundreds, picked on the
# text that it is measured on, so its numbers flatter it.) `from types` is followed by
# `import`, `[` wants `]`, and what is indented after `class` is a `def`. Some are habits rather than rules: after `lambda …:`,
# `self`. Not every pair of a listed destination and a listed output makes sense. Hold on to that thought.

# %% [markdown]
# Look up more. For any word that is one token (otherwise you are told which tokens come close):

# %%
print(views.circuits(model, 5, " with"))
print(views.circuits(model, 7, " for"))
print(views.circuits(model, 0, "f"))

# %% [markdown]
# ## Copying
#
# Head 0.0, finding `f`, raises `f` more than any other token. A head that raises what it attends to *copies*: names used
# once get used again, the simplest form of learning from context. Which heads copy? In the full OV circuit
# $M = W_E W_V W_O W_U$, copying is a positive diagonal. But look at the *eigenvalues*, too: if $v M = \lambda v$ with $\lambda > 0$, then seeing
# the mixture $v$ of tokens makes exactly that mixture likelier.
#
# The eigenvalues of a 2,048 × 2,048 matrix take a while. But $M = A B$, with $A = W_E W_V$ `[d_vocab d_head]` and $B = W_O W_U$
# `[d_head d_vocab]`, and the non-zero eigenvalues of $AB$ are those of $BA$ `[d_head d_head]`: if $vAB = \lambda v$, then
# $(vA)\,BA = \lambda\,(vA)$.

# %% [markdown]
# ### Exercise · eigenvalues of a product    ●●○   4 min
#
# For thin factors, return the eigenvalues of $AB$ that can be other than zero, in any order.
#
# <details><summary>Hint 1</summary>
# <code>torch.linalg.eigvals</code> is for matrices that are not symmetric. Its result is complex.
# </details>
# <details><summary>Hint 2</summary>
# Never form <code>A @ B</code>. <code>B @ A</code> is small.
# </details>

# %% exercise="product_eigenvalues"
def product_eigenvalues(
    A: Float[Tensor, "n r"], B: Float[Tensor, "r n"]
) -> Complex[Tensor, "r"] | list[complex]:
    """The r eigenvalues of A @ B other than the n - r that are always zero."""
    ### BEGIN SOLUTION
    return torch.linalg.eigvals(B @ A)
    ### END SOLUTION

# %% check="product_eigenvalues"
check("product_eigenvalues")

# %% [markdown]
# ### Exercise · copying score    ●●○   4 min
#
# Sum up the eigenvalues $\lambda_k$ of a head's full OV circuit in one number between -1 and 1:
#
# $$\text{copying score} = \frac{\sum_k \lambda_k}{\sum_k |\lambda_k|}$$
#
# It is 1 if all are positive, -1 if all are negative, and near 0 if they point everywhere. Complex ones come in
# conjugate pairs, so the sum is real. Compute it through the small product.
#
# <details><summary>Hint 1</summary>
# B A = W_O W_U W_E W_V, of shape <code>[d_head d_head]</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>.real</code> of the sum above the line; <code>.abs()</code> of each, then the sum, below it.
# </details>

# %% exercise="copying_score"
def copying_score(model: Transformer, layer: int, head: int) -> Float[Tensor, ""]:
    """Sum of the eigenvalues of the full OV circuit over the sum of their absolute values."""
    ### BEGIN SOLUTION
    value = model.W_E @ model.W_V[layer, head]
    out = model.W_O[layer, head] @ model.W_U
    eigenvalues = torch.linalg.eigvals(out @ value)
    return eigenvalues.sum().real / eigenvalues.abs().sum()
    ### END SOLUTION

# %% check="copying_score"
check("copying_score")

# %% [markdown]
# ### Against chance
#
# A score means something only beside what chance gives. Two kinds of chance: matrices of random numbers with the
# same shapes and rank; and, closer to the truth, the model's own $W_E$ and $W_U$ round random $W_V$ and $W_O$.

# %%
generator = torch.Generator().manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator)


def balance(A: Tensor, B: Tensor) -> float:
    eigenvalues = torch.as_tensor(product_eigenvalues(A, B))
    return (eigenvalues.sum().real / eigenvalues.abs().sum()).item()


chance = torch.tensor(
    [balance(normal(d_vocab, d_head), normal(d_head, d_vocab)) for _ in range(200)]
)
embedded = torch.tensor(
    [balance(W_E @ normal(d_model, d_head), normal(d_head, d_model) @ W_U) for _ in range(200)]
)
copying = torch.tensor([float(copying_score(model, 0, h)) for h in heads])
plots.histogram(
    {
        "random matrices of the same shape and rank": chance,
        "random heads between the model's W_E and W_U": embedded
    },
    {f"0.{h}": copying[h].item() for h in heads},
    "Copying scores of the eight heads, beside chance", "copying score", "random heads (of 200)",
)

left, right = plots.axes(2, size=(4.6, 4.6))
for ax, chosen in ((left, copying.argmax().item()), (right, copying.argmin().item())):
    spectrum = torch.as_tensor(
        product_eigenvalues(W_E @ model.W_V[0, chosen], model.W_O[0, chosen] @ W_U)
    )
    random_one = torch.as_tensor(
        product_eigenvalues(normal(d_vocab, d_head), normal(d_head, d_vocab))
    )
    plots.complex_plane(
        {
            f"head 0.{chosen}": spectrum / spectrum.abs().max(),
            "a random matrix": random_one / random_one.abs().max()
        },
        f"OV eigenvalues of head 0.{chosen}", "real part (largest = 1)", "imaginary part", ax=ax,
    )
for name, scores in (("random matrices", chance), ("random heads in the model", embedded)):
    n = sum(bool(score > scores.max()) for score in copying)
    print(f"{name:<26} {scores.mean():+.2f} ± {scores.std():.2f}, at most {scores.max():+.2f}; "
          f"{n} of {cfg.n_heads} heads above all of them")

# %% [markdown]
# **What to see here.** Half of the heads stand far to the right of both kinds of chance: they copy. The
# second kind is several times wider. Embeddings have preferred directions, and a few large eigenvalues can tip the balance.
# A score that looks large against random numbers may be nothing against random heads.
#
# In the planes, the eigenvalues of a random matrix fill a disc. Those of the head that copies most line up to the right of zero, with
# one exception: the largest, far left. Those of the head that copies least lie mostly to the left, and not on a line.
#
# What is the exception? Perhaps the head lowers *all* tokens at once, which is nothing: a constant added to all logits
# changes no probability. So take the constant out. With $W_U$ less its mean over tokens, every row of the circuit has mean zero,
# and no prediction changes.

# %%
centred = torch.tensor(
    [
        balance(W_E @ model.W_V[0, h], model.W_O[0, h] @ (W_U - W_U.mean(-1, keepdim=True)))
        for h in heads
    ]
)
print("copying score    " + "".join(f"{f'0.{h}':>7}" for h in heads))
print("as it is         " + "".join(f"{score:>+7.2f}" for score in copying))
print("constant removed " + "".join(f"{score:>+7.2f}" for score in centred))

# %% [markdown]
# **What to see here.** The exception is gone: on what matters, the copying heads have hardly an eigenvalue that does not copy.
# Part of an eigenvalue score may be about nothing at all. We go on with the score as the paper defines it.

# %% [markdown]
# ### Exercise · matching score    ●●○   3 min
#
# The same question to the QK circuit: are its eigenvalues positive? Such a head, standing on a token, looks for
# *that token*. Call it matching. Compute $\sum \lambda / \sum |\lambda|$ for the full QK circuit.
#
# <details><summary>Hint 1</summary>
# The circuit is (W_E W_Q) (W_E W_K)ᵀ: again a product of two thin factors.
# </details>
# <details><summary>Hint 2</summary>
# B A is <code>key.T @ query</code>. The root of d_head cancels.
# </details>

# %% exercise="matching_score"
def matching_score(model: Transformer, layer: int, head: int) -> Float[Tensor, ""]:
    """Sum of the eigenvalues of the full QK circuit over the sum of their absolute values."""
    ### BEGIN SOLUTION
    query = model.W_E @ model.W_Q[layer, head]
    key = model.W_E @ model.W_K[layer, head]
    eigenvalues = torch.linalg.eigvals(key.T @ query)
    return eigenvalues.sum().real / eigenvalues.abs().sum()
    ### END SOLUTION

# %% check="matching_score"
check("matching_score")

# %% [markdown]
# ## Two rivals
#
# Eigenvalues are elegant, but is "copying" what they measure? Ask the table $M$ more plainly. Two rival scores:
#
# - *the diagonal*: is what raises itself as much as what lowers itself?
#   $$\text{diagonal score} = \frac{\sum_a M_{aa}}{\sum_a |M_{aa}|}$$
# - *the top k*: for what share of tokens $a$ is $M_{aa}$ among the $k$ largest entries of row $a$?
#
# The first has the same numerator as the copying score: the sum of the eigenvalues *is* the sum of the diagonal, the
# *trace*. The second sees what the others do not: whether the token itself is raised more than *other* tokens.

# %% [markdown]
# ### Exercise · diagonal score    ●○○   3 min
#
# Only the diagonal is needed. The full table works, but is it necessary?
#
# <details><summary>Hint 1</summary>
# Entry [a, a] of A B is row a of A times column a of B.
# </details>
# <details><summary>Hint 2</summary>
# <code>(A * B.T).sum(-1)</code> is the diagonal of <code>A @ B</code>.
# </details>

# %% exercise="diagonal_score"
def diagonal_score(model: Transformer, layer: int, head: int) -> Float[Tensor, ""]:
    """Sum of the diagonal of the full OV circuit over the sum of its absolute values."""
    ### BEGIN SOLUTION
    value = model.W_E @ model.W_V[layer, head]
    out = model.W_O[layer, head] @ model.W_U
    diagonal = (value * out.T).sum(-1)
    return diagonal.sum() / diagonal.abs().sum()
    ### END SOLUTION

# %% check="diagonal_score"
check("diagonal_score")

# %% [markdown]
# ### Exercise · top-k copy score    ●●○   3 min
#
# The share of source tokens whose own logit is among the `k` that the head raises most.
#
# <details><summary>Hint 1</summary>
# Row a of the full OV circuit belongs to source a. How many of its entries are larger than the one on the diagonal?
# </details>
# <details><summary>Hint 2</summary>
# <code>(M > M.diagonal()[:, None]).sum(-1) &lt; k</code> is true for the tokens to count.
# </details>

# %% exercise="top_k_copy_score"
def top_k_copy_score(model: Transformer, layer: int, head: int, k: int) -> Float[Tensor, ""]:
    """The share of tokens that are among the k tokens raised most when the head attends to them."""
    ### BEGIN SOLUTION
    M = model.W_E @ model.W_V[layer, head] @ (model.W_O[layer, head] @ model.W_U)
    larger = (M > M.diagonal()[:, None]).sum(dim=-1)
    return (larger < k).float().mean()
    ### END SOLUTION

# %% check="top_k_copy_score"
check("top_k_copy_score")

# %%
diagonal = torch.tensor([float(diagonal_score(model, 0, h)) for h in heads])
top_10 = torch.tensor([float(top_k_copy_score(model, 0, h, 10)) for h in heads])
matching = torch.tensor([float(matching_score(model, 0, h)) for h in heads])
matching_by_chance = torch.tensor(
    [balance(W_E @ normal(d_model, d_head), (W_E @ normal(d_model, d_head)).T) for _ in range(200)]
)
print("head   eigenvalues  diagonal   top 10    QK matching    sum of eigenvalues   trace")
for h in heads:
    A, B = W_E @ model.W_V[0, h], model.W_O[0, h] @ W_U
    total, trace = product_eigenvalues(A, B).sum().real, (A * B.T).sum()
    print(
        f"0.{h}    {copying[h]:>10.2f} {diagonal[h]:>10.2f} {top_10[h]:>9.1%} {matching[h]:>12.2f}"
          f" {total:>18.1f} {trace:>12.1f}")

print(
    f"QK matching of random heads: {matching_by_chance.mean():+.2f} ± "
    f"{matching_by_chance.std():.2f},"
      f" largest size {matching_by_chance.abs().max():.2f}")

by_chance = 10 / d_vocab
verdicts = {
    "eigenvalues above 0.5": copying > 0.5,
    "diagonal above 0.5": diagonal > 0.5,
    f"top 10 above ten times chance ({10 * by_chance:.1%})": top_10 > 10 * by_chance,
}
print()
for name, verdict in verdicts.items():
    print(f"copying by {name:<42} {int(verdict.sum())} of {cfg.n_heads}: "
          f"{', '.join(f'0.{h}' for h in heads if verdict[h])}")


def rank_correlation(a: Tensor, b: Tensor) -> float:
    ranks = torch.stack([a.argsort().argsort().float(), b.argsort().argsort().float()])
    return torch.corrcoef(ranks)[0, 1].item()


agreement = {
    "eigenvalues, diagonal": rank_correlation(copying, diagonal),
    "eigenvalues, top 10": rank_correlation(copying, top_10),
    "diagonal, top 10": rank_correlation(diagonal, top_10),
}
for names, value in agreement.items():
    print(f"rank correlation over the heads, {names:<24} {value:+.2f}")
n_copying = int(verdicts["eigenvalues above 0.5"].sum())
print(
    f"\nThe paper, of its one-layer model: 10 of 12 heads copy. Here: {n_copying} of {cfg.n_heads}."
)

# %% [markdown]
# **What to see here.** The last two columns agree: the trace. All three scores name the same copying heads, but
# order them differently, and they differ in size. A head can have nearly all eigenvalues positive and put the token itself in
# the top ten only for a minority of tokens: it raises the token, and raises others still more, such as the grammar that the token calls for.
# "Copying" by eigenvalues includes that.
#
# The column *QK matching* asks of each head whether it looks for the token that it stands on. Two heads do, and they are the two
# that positions hold at the present token, 0.3 and 0.6: words and positions say the same there. All others are below zero, and most
# of them further than any random head: standing on a token, they look for *another* one, as you saw of 0.5 at the end of a line. So
# in this layer no head both finds its own token again and copies it. Chapter 3 shows what that would be good for.
#
# Why fewer than in the paper? We do not know. Our vocabulary is small, so that words are in pieces, and several heads are busy
# with the last few tokens, as the table of positions above shows; that may be where the others went.

# %% [markdown]
# ## Find the heads
#
# You have all it takes to sort heads by what they do. Write it as functions, so that it works for any one-layer model; the
# checks also give you models whose heads are shuffled, and some that you have never seen.

# %% [markdown]
# ### Exercise · find the copying heads    ●○○   3 min
#
# Return the heads of the first layer whose copying score (by eigenvalues) is above 0.5, in any order. (The limit is ours: it lies
# in the gap of the histogram above. The paper gives none.)
#
# <details><summary>Hint 1</summary>
# Compute the score for each head in <code>range(model.cfg.n_heads)</code>. You may copy lines from your <code>copying_score</code>.
# </details>
# <details><summary>Hint 2</summary>
# Look at the histogram: between the copying heads and the rest there is a wide gap.
# </details>

# %% exercise="copying_heads"
def copying_heads(model: Transformer) -> list[int]:
    """The heads of layer 0 whose OV eigenvalues sum to more than half of their absolute sum."""
    ### BEGIN SOLUTION
    found = []
    for head in range(model.cfg.n_heads):
        small = model.W_O[0, head] @ model.W_U @ (model.W_E @ model.W_V[0, head])
        eigenvalues = torch.linalg.eigvals(small)
        if eigenvalues.sum().real > 0.5 * eigenvalues.abs().sum():
            found.append(head)
    return found
    ### END SOLUTION

# %% check="copying_heads"
check("copying_heads")

# %% [markdown]
# ### Exercise · find a head that avoids copying    ●○○   2 min
#
# One head lowers what it attends to. Return the head of the first layer with the lowest copying score.
#
# <details><summary>Hint 1</summary>
# The lowest, not the one closest to zero.
# </details>
# <details><summary>Hint 2</summary>
# <code>torch.stack(scores).argmin().item()</code>, or <code>min(range(n_heads), key=...)</code>.
# </details>

# %% exercise="anti_copying_head"
def anti_copying_head(model: Transformer) -> int:
    """The head of layer 0 whose OV eigenvalues are the most negative on balance."""
    ### BEGIN SOLUTION
    scores = []
    for head in range(model.cfg.n_heads):
        small = model.W_O[0, head] @ model.W_U @ (model.W_E @ model.W_V[0, head])
        eigenvalues = torch.linalg.eigvals(small)
        scores.append(eigenvalues.sum().real / eigenvalues.abs().sum())
    return torch.stack(scores).argmin().item()
    ### END SOLUTION

# %% check="anti_copying_head"
check("anti_copying_head")

# %%
avoids = int(anti_copying_head(model))
copies = {int(h) for h in copying_heads(model)}
print(f"copying heads {sorted(copies)}; avoids copying: {avoids}, with weight"
      f" {cache['pattern', 0][0, avoids].diagonal().mean():.2f} on the present token")

W_U_centred = W_U - W_U.mean(-1, keepdim=True)  # a logit counts only against the mean of all
direct_own = (W_E * W_U_centred.T).sum(-1)
head_own = ((W_E @ model.W_V[0, avoids]) * (model.W_O[0, avoids] @ W_U_centred).T).sum(-1)
share = torch.bincount(corpus.train, minlength=d_vocab) / len(corpus.train)
print(
    "What it adds to a token's own logit, less the mean   over all tokens   as often as they occur"
)
for name, own in (
    ("the direct path", direct_own), (f"head 0.{avoids}", head_own), ("both", direct_own + head_own)
):
    print(f"  {name:<50} {own.mean():>+16.2f} {(own * share).sum():>+24.2f}")
repeats = (corpus.train[1:] == corpus.train[:-1]).float().mean()
print(f"In the text, {repeats:.1%} of tokens are followed by themselves.")

# %% [markdown]
# **What to see here.** The head that avoids copying looks at the present token, and lowers it. With the constants taken out, the direct
# path does *not* say "not this token again": it raises the token a little, though few are followed by themselves. The head turns that
# round, the more so for frequent tokens. So it mends the direct path, and is no enemy of the copying heads, which look further back.
# What a head does depends on both circuits.

# %% [markdown]
# ### Exercise · find the positional heads    ●●○   6 min
#
# A positional head goes where positions send it, whatever the text. Measure it: let $A$ be a head's pattern on a text and
# $P$ the causal softmax of its `positional_qk` alone. Their *overlap* at a destination is $\sum_j \min(A_{ij}, P_{ij})$: 1 if equal,
# 0 if they look at different sources. Return the heads whose mean overlap (over all texts and destinations) is above 0.7. (This limit,
# too, is ours. Unlike the other it lies in no wide gap: a head just above is hardly another kind than one just below.)
#
# <details><summary>Hint 1</summary>
# P is <code>[pos pos]</code>: take the first rows and columns of the context, mask the future, softmax.
# </details>
# <details><summary>Hint 2</summary>
# <code>torch.minimum(pattern[:, head], P).sum(-1).mean()</code>
# </details>

# %% exercise="positional_heads"
def positional_heads(model: Transformer, tokens: Int[Tensor, "batch pos"]) -> list[int]:
    """The heads of layer 0 whose patterns overlap by more than 0.7 with those of positions
    alone."""
    ### BEGIN SOLUTION
    n = tokens.shape[1]
    pattern = model.run_with_cache(tokens)[1]["pattern", 0]
    future = torch.ones(n, n, dtype=torch.bool).triu(1)
    found = []
    for head in range(model.cfg.n_heads):
        query, key = model.W_pos[:n] @ model.W_Q[0, head], model.W_pos[:n] @ model.W_K[0, head]
        scores = query @ key.T / model.cfg.d_head**0.5
        alone = scores.masked_fill(future, -torch.inf).softmax(dim=-1)
        if torch.minimum(pattern[:, head], alone).sum(dim=-1).mean() > 0.7:
            found.append(head)
    return found
    ### END SOLUTION

# %% check="positional_heads"
check("positional_heads")

# %%
sample = corpus.heldout_windows(16)
positional = {int(h) for h in positional_heads(model, sample)}
_, sample_cache = model.run_with_cache(sample, names_filter="blocks.0.attn.hook_pattern")
n = sample.shape[1]
print("head   overlap with positions alone   what it is")
for h in heads:
    alone = causal_pattern(positional_qk(model, 0, h)[None, :n, :n])
    overlap = torch.minimum(sample_cache["pattern", 0][:, h], alone).sum(-1).mean()
    kinds = ["copying"] * (h in copies) + ["positional"] * (h in positional) + [
        "avoids copying"
    ] * (h == avoids)
    print(f"0.{h} {overlap:>30.2f}   {', '.join(kinds) or 'none of these'}")

# %% [markdown]
# **What to see here.** No head is both copying and positional. A positional head's OV circuit serves it as a bigram
# table (looking at the present token) or as part of a trigram (looking one back). What is left over is the
# head that closes brackets nearby.

# %% [markdown]
# ## A bug that must be
#
# Suppose a model should learn two rules with one head: `keep … in → mind` and `keep … at → bay`. Standing on `in`
# or on `at`, the head must look for `keep` (QK). Having found it, it must raise `mind` and `bay` (OV). But OV
# does not know the destination. So it also says `keep … in → bay` and `keep … at → mind`.
#
# In numbers: let $w_{ba} = e^{\bar S_{ba}}$ be the head's *pull*, how many times more weight $b$ gives $a$ than a token
# with the average score (as far as tokens decide). Its effect on the logit of $c$ is proportional to $w_{ba} M_{ac}$, with $M$ the full OV circuit. For one
# source $a$:
#
# $$(w_{b_1 a} M_{a c_1})\,(w_{b_2 a} M_{a c_2}) = (w_{b_1 a} M_{a c_2})\,(w_{b_2 a} M_{a c_1})$$
#
# If both rules are strong, so is at least one crossed rule.

# %% [markdown]
# ### Exercise · forced skip-trigrams    ●●○   6 min
#
# For two sources and two destinations, return the effects of one head of the first layer:
# `effect[i, j, c]` $= w_{b_j a_i} M_{a_i c}$, for source $i$, destination $j$ and every output $c$. (The two sources may be the same.)
#
# <details><summary>Hint 1</summary>
# The pull is <code>exp</code> of the centred QK entry: the score less the mean of its row over all sources. Here, the root of d_head
# matters.
# </details>
# <details><summary>Hint 2</summary>
# <code>pull[i, j]</code> is QK at row b_j, column a_i. Then <code>pull[:, :, None] * M[sources][:, None, :]</code>.
# </details>

# %% exercise="forced_skip_trigrams"
def forced_skip_trigrams(
    model: Transformer, head: int, a1: int, b1: int, a2: int, b2: int
) -> Float[Tensor, "2 2 d_vocab"]:
    """effect[i, j, c]: pull of source a_i on destination b_j, times what a_i adds to logit c."""
    ### BEGIN SOLUTION
    sources, destinations = torch.tensor([a1, a2]), torch.tensor([b1, b2])
    query = model.W_E[destinations] @ model.W_Q[0, head] / model.cfg.d_head**0.5
    key = model.W_E @ model.W_K[0, head]
    pull = ((key[sources] - key.mean(0)) @ query.T).exp()
    raised = model.W_E[sources] @ model.W_V[0, head] @ model.W_O[0, head] @ model.W_U
    return einsum(pull, raised, "source dest, source vocab -> source dest vocab")
    ### END SOLUTION

# %% check="forced_skip_trigrams"
check("forced_skip_trigrams")

# %%
a, b1, b2, c1, c2 = (
    views.token_id(model, w) for w in (" with", ")", "):", " as", "\n               ")
)
effect = forced_skip_trigrams(model, 5, a, b1, a, b2)
plots.matrix(
    effect[0][:, [c1, c2]], [f"with…{show([b])}" for b in (b1, b2)], [show([c]) for c in (c1, c2)],
    "Head 0.5 finds `with`: right rules and crossed ones", "output", "source…destination",
    "pull x logit",
    ax=plots.axes(size=(6.4, 2.4)),
)
right_rules, crossed = effect[0, 0, c1] * effect[0, 1, c2], effect[0, 0, c2] * effect[0, 1, c1]
print(f"one source:  right x right {right_rules:>12,.0f}, crossed x crossed {crossed:>12,.0f}")
a2, b3, c3 = (views.token_id(model, w) for w in (" try", "\n       ", " except"))
two = forced_skip_trigrams(model, 5, a, b1, a2, b3)  # with … ) → as, and try … newline → except
right_rules, crossed = two[0, 0, c1] * two[1, 1, c3], two[0, 1, c1] * two[1, 0, c3]
print(f"two sources: right x right {right_rules:>12,.0f}, crossed x crossed {crossed:>12,.0f}")

# %% [markdown]
# **What to see here.** `with open(x) as` is right, and so is a new, deeper line after `with …):`. Crossed: a new line before the
# colon, and `):` followed by `as`. This last, a wrong rule, is the strongest of the four: whatever is said most goes where the pull is largest.
# The products are equal to the last digit. With two *different* sources they need not be: there, each pair of source and destination has a pull of its
# own.

# %% [markdown]
# ## What does it cost?
#
# Weights show that crossed rules exist. Do they hurt? The other heads and the direct path may make up for it. Measure it on text. At position $i$, the
# head gives all occurrences of $a$ together the weight $\alpha_i$, and so adds $\delta = \alpha_i M_{ac}$ to the logit of $c$. Take
# only that away from logit $c$, and the loss at $i$ changes. The cost of the rule is the loss as it is, less the loss without:
#
# $$\text{cost}_{ic} = \ell_i - \ell_i^{\text{without}} = -\log\!\big(1 - p_{ic}\,(1 - e^{-\delta})\big) - \delta\,[c = t_{i+1}]$$
#
# Here $\ell_i$ is the loss at position $i$, minus the log of the probability of the token $t_{i+1}$ that comes next; $p_{ic}$ is the model's
# probability of $c$; and $[c = t_{i+1}]$ is 1 where $c$ is the token that comes, and 0 elsewhere. The formula is exact. The first part is what it costs to say $c$ too loudly; the second, what
# it earns where $c$ is right. A rule is useful if its cost, summed over the text, is negative.
#
# An example. Say $p = 1/2$ and $\delta = \log 2$. Without the rule $c$ has half the odds, 1 to 2 instead of 1 to 1, so $p = 1/3$. Where $c$ does not come,
# all others fell from 2/3 to 1/2: the rule costs $\log\frac43$, which is $-\log(1 - \frac12 \cdot \frac12)$. Where $c$ comes, it rose from 1/3 to 1/2: the
# rule earns $\log\frac32$, which is $\log 2 - \log\frac43$.

# %% [markdown]
# ### Exercise · what skip-trigrams cost    ●●●   10 min
#
# For one head and one source, sum the cost over all positions with destination $b$, for every $b$ and $c$ at once. You get what
# is needed: the logits on a text, the head's pattern, the source's row of the full OV circuit. The last position of each text
# predicts nothing we know: leave it out.
#
# <details><summary>Hint 1</summary>
# α: <code>(pattern * (tokens == source)[:, None, :]).sum(-1)</code> is <code>[batch dest]</code>. Then δ is
# <code>alpha[..., None] * ov_row</code>, of shape <code>[batch dest d_vocab]</code>.
# </details>
# <details><summary>Hint 2</summary>
# Where α is 0 the cost is 0. Keep only the positions where it is not, and the work shrinks a lot:
# <code>probs[keep]</code>, <code>delta[keep]</code>, with a boolean <code>keep [batch dest]</code>.
# </details>
# <details><summary>Hint 3</summary>
# For the second part, subtract δ at the next token: <code>cost[torch.arange(n), following] -= ...</code>. To sum by destination token:
# <code>torch.zeros(d_vocab, d_vocab).index_add_(0, destination, cost)</code>.
# </details>

# %% exercise="skip_trigram_costs"
def skip_trigram_costs(
    tokens: Int[Tensor, "batch pos"],
    logits: Float[Tensor, "batch pos d_vocab"],
    pattern: Float[Tensor, "batch pos pos"],
    ov_row: Float[Tensor, "d_vocab"],
    source: int,
) -> Float[Tensor, "d_vocab d_vocab"]:
    """Entry [b, c]: loss (nats, summed over positions with token b) due to what one head adds to
    logit c when it attends to `source`."""
    ### BEGIN SOLUTION
    weight = (pattern * (tokens == source)[:, None, :]).sum(dim=-1)[:, :-1]
    keep = weight > 0
    destination, following = tokens[:, :-1][keep], tokens[:, 1:][keep]
    delta = weight[keep][:, None] * ov_row
    probs = logits[:, :-1][keep].softmax(dim=-1)
    cost = -torch.log1p(-probs * -torch.expm1(-delta))
    each = torch.arange(len(delta))
    cost[each, following] -= delta[each, following]
    return torch.zeros(len(ov_row), len(ov_row)).index_add_(0, destination, cost)
    ### END SOLUTION

# %% check="skip_trigram_costs"
check("skip_trigram_costs")

# %% [markdown]
# ### Exercise · the worst crossing    ●●○   4 min
#
# A crossing is a destination $b_1$ where raising $c$ pays, and a destination $b_2$ where the same head, finding the same source, raises the same $c$
# to its harm. A rule that only harms could simply be unlearned; what keeps a bug alive is its profit elsewhere. So call a crossing as bad as the
# smaller of the two: $\min(\text{cost}_{b_2 c},\, -\text{cost}_{b_1 c})$. Search a table of costs for the worst one.
#
# <details><summary>Hint 1</summary>
# For a fixed c, the best choice of b₁ is the lowest entry of column c, that of b₂ the highest.
# </details>
# <details><summary>Hint 2</summary>
# <code>torch.minimum(costs.max(0).values, -costs.min(0).values)</code> is one number per c.
# </details>

# %% exercise="worst_crossing"
def worst_crossing(costs: Float[Tensor, "d_vocab d_vocab"]) -> tuple[int, int, int]:
    """(b1, b2, c) with the largest min(costs[b2, c], -costs[b1, c]): pays at b1, harms at b2."""
    ### BEGIN SOLUTION
    badness = torch.minimum(costs.max(dim=0).values, -costs.min(dim=0).values)
    c = badness.argmax().item()
    return costs[:, c].argmin().item(), costs[:, c].argmax().item(), c
    ### END SOLUTION

# %% check="worst_crossing"
check("worst_crossing")

# %% [markdown]
# Now search the trained model. Suspects are words that open something, each with the two heads that have most to say about
# it (positional heads left out). There are four million rules a suspect, so chance alone makes some look bad. Two guards. Costs
# scatter from one batch of text to the next, so count each only as far as it is beyond *two standard errors*. And measure what
# is left on held-out text, which took no part in the choice. While it runs, the cell says how far it is and how long it still takes.

# %%
Suspect = tuple[int, int, Tensor]  # head, source, the source's row of the full OV circuit


def costs_on(windows: Tensor, suspects: list[Suspect]) -> list[Float[Tensor, "d_vocab d_vocab"]]:
    """Each suspect's table of costs on one batch of text, in nats."""
    logits, cache = model.run_with_cache(windows, names_filter="blocks.0.attn.hook_pattern")
    # fainter attention only takes time
    pattern = cache["pattern", 0] * (cache["pattern", 0] > 0.01)
    tables = []
    for h, source, ov_row in suspects:
        holds = (windows == source).any(-1)
        tables.append(
            skip_trigram_costs(windows[holds], logits[holds], pattern[holds, h], ov_row, source)
            if holds.any() else torch.zeros(d_vocab, d_vocab)
        )  # fmt: skip
    return tables


def two_errors(squares: Tensor, total: Tensor, n: int) -> Tensor:
    """Two standard errors of a sum over n batches, from the sum itself and that of the squares."""
    return 2 * ((squares - total**2 / n).clamp(min=0) * n / (n - 1)).sqrt()


suspects: list[Suspect] = []
for word in [" for", " with", " try", " if", " class"]:
    source = views.token_id(model, word)
    ov_rows = {
        h: W_E[source] @ model.W_V[0, h] @ model.W_O[0, h] @ W_U for h in set(heads) - positional
    }
    talkative = sorted(ov_rows, key=lambda h: -ov_rows[h].max())[:2]
    suspects += [(h, source, ov_rows[h]) for h in talkative]

n_search = live_steps(48)  # batches
totals, squares = ([torch.zeros(d_vocab, d_vocab) for _ in suspects] for _ in range(2))
for step in waiting(range(n_search), "Searching batches of text"):
    for i, costs in enumerate(costs_on(corpus.batch(step, batch=32), suspects)):
        totals[i] += costs
        squares[i] += costs**2

found = []
for suspect, total, square in zip(suspects, totals, squares, strict=True):
    certain = total.sign() * (total.abs() - two_errors(square, total, n_search)).clamp(min=0)
    certain = certain * (suspect[2] > 0)  # only tokens that the head raises
    b1, b2, c = map(int, worst_crossing(certain))
    found.append((suspect, b1, b2, c, certain[b1, c].item(), certain[b2, c].item()))
del totals, squares
found.sort(key=lambda bug: -min(-bug[4], bug[5]))

# %% [markdown]
# Now the held-out text, in batches: what do the two rules of each crossing cost there, and how much does that scatter?

# %%
confirming = list(corpus.heldout_windows(32 * live_steps(48)).split(32))
by_batch = []
for windows in waiting(confirming, "Measuring on held-out text"):
    tables = costs_on(windows, [suspect for suspect, *_ in found])
    by_batch.append(
        [
            [table[b, c].item() for b in (b1, b2)] for table,
            (_, b1, b2, c, *_) in zip(tables, found, strict=True)
        ]
    )
by_batch = torch.tensor(by_batch)  # [batch, crossing, (saves at b1, costs at b2)]


def with_error(costs: Tensor) -> tuple[Tensor, Tensor]:
    """The sum over batches, and two standard errors of it."""
    return costs.sum(0), two_errors((costs**2).sum(0), costs.sum(0), len(costs))


cost, error = with_error(by_batch)
print(
    "the same head, the same source                   beyond two errors    on held-out text (nats)"
)
for i, ((h, source, _), b1, b2, c, saved, lost) in enumerate(found):
    for side, (b, here) in enumerate(((b1, saved), (b2, lost))):
        rule = f"{show([source])} … {show([b])} → {show([c])}"
        print(
            f"{f'0.{h}' if b == b1 else '   '}  {rule:<42} {here:>20.1f} {cost[i, side]:>18.1f} ± "
            f"{error[i, side]:.1f}"
        )
same_sign = (cost[:, 0] < 0) & (cost[:, 1] > 0)
beyond = (cost[:, 0] < -error[:, 0]) & (cost[:, 1] > error[:, 1])
print(
    f"\nSame signs on held-out text: {int(same_sign.sum())} of {len(found)} (by coin flips "
    f"{len(found) / 4:.1f});"
      f" both beyond two standard errors: {int(beyond.sum())} (by chance fewer than "
      f"{0.025 * len(found):.2g})."
  )

# %% [markdown]
# **What to see here.** Each pair of lines is a "keep … in bay". Negative: saying it there saves loss. Positive: the same head, for
# the same reason, says it where it is wrong. Believe a bug where both lines keep their sign on held-out text by more than the error beside
# them. Far more do than chance would give; for the rest this text cannot tell. The costs are small beside
# what the rules save. That is no accident: a bug that cost more than it saved would have been unlearned.

# %% [markdown]
# Catch the model in the act: places with destination $b_2$, where $c$ does *not* come. To choose a crossing by its held-out cost and then to
# quote that cost would flatter it. So choose by every other batch, and quote the rest. And who votes for $c$, there and at $b_1$ where it
# does come? A path's vote is what it adds to the logit of $c$, less what it adds to all tokens on average.

# %%
cost, error = with_error(by_batch[::2])  # to choose by
chosen = torch.minimum(-cost[:, 0] - error[:, 0], cost[:, 1] - error[:, 1]).argmax().item()
(h, source, ov_row), b1, b2, c, *_ = found[chosen]
quoted = confirming[1::2]
(saved, lost), (saved_error, lost_error) = (x[chosen].tolist() for x in with_error(by_batch[1::2]))
print(
    f"Head 0.{h}, in the other {sum(windows.numel() for windows in quoted):,} tokens of held-out "
    "text:\n"
      f"{show([source])} … {show([b1])} → {show([c])} saves {-saved:.1f} ± {saved_error:.1f} nats;"
      f" {show([source])} … {show([b2])} → {show([c])} costs {lost:.1f} ± {lost_error:.1f}.\n")

caught, right_votes, wrong_votes = [], [], []
for windows in quoted:
    windows = windows[(windows == source).any(-1)]
    logits, cache = model.run_with_cache(windows)
    weight = (cache["pattern", 0][:, h] * (windows == source)[:, None, :]).sum(-1)
    # direct path, then heads
    parts = torch.cat([cache["embed"][:, :, None], cache["result", 0]], dim=2)
    votes = parts @ (W_U[:, c] - W_U.mean(-1))  # [batch pos path]
    comes_next = windows.roll(-1, 1) == c
    looked = weight > 0.01
    looked[:, -1] = False  # what follows the last token is unknown
    right, wrong = (windows == b1) & comes_next & looked, (windows == b2) & ~comes_next & looked
    right_votes.append(votes[right])
    wrong_votes.append(votes[wrong])
    for row, at in wrong.nonzero().tolist():
        before = logits[row, at]
        without = before.clone()
        without[c] -= weight[row, at] * ov_row[c]
        p, p_without = before.softmax(-1)[c].item(), without.softmax(-1)[c].item()
        caught.append((p - p_without, p, p_without, windows[row, max(at - 26, 0) : at + 2]))

print(f"right {sum(map(len, right_votes))} times, wrong {len(caught)} times; the worst of these:")
for _, p, p_without, text in sorted(caught, key=lambda found: -found[0])[:3]:
    print(
        f"... {plots.token_text(model.to_string(text[:-1]))}\n    next is "
        f"{show([text[-1].item()])}; the model gives {show([c])} a "
          f"probability of {p:.1%}; without this head's vote it would be {p_without:.1%}")

# 0 if never
means = torch.stack([torch.cat(votes).mean(0) for votes in (right_votes, wrong_votes)]).nan_to_num()
rest = [path for path in range(len(means[0])) if path != h + 1]
for mean, where in zip(means, ("right", "wrong"), strict=True):
    print(
        f"Where it is {where}, head 0.{h} votes {mean[h + 1]:+.1f}; of the other {len(rest)} paths"
          f" {int((mean[rest] > 0).sum())} vote for it and {int((mean[rest] < 0).sum())} against, "
          f"{mean[rest].sum():+.1f} together."
      )
for ax, mean, b, where in zip(
    plots.axes(2, size=(5.4, 3.2)), means, (b1, b2), ("right", "wrong"), strict=True
):
    title = f"Votes for {show([c])} after {show([b])}, where it is {where}"
    plots.bars(
        mean, ["direct", *(f"0.{k}" for k in heads)], title, "path", "mean vote (logit)", ax=ax
    )
    ax.set_ylim(means.min().item() - 0.5, means.max().item() + 0.5)

# %% [markdown]
# **What to see here.** The head votes for the same token at both places. It can look away from the source, by QK, and so vote more softly,
# but it cannot vote for something *else*, as OV has one answer per source. And the others do not shout it down: count in the bars and in the
# lines above them how many object where the rule is wrong. Most paths that go by the same words make the same mistake. To see two different
# outputs of one head for one source would be a surprise: it would refute this section.

# %% [markdown]
# ## What is each head worth?
#
# The last question: take a head out and see what the model loses. *Ablating* a head means replacing its output by zero, with a hook at
# `"blocks.0.attn.hook_z"` for example, and leaving all else alone. In a one-layer model nobody reads what the head wrote but the unembedding, so this is the same as
# leaving one term out of the path expansion.

# %% [markdown]
# ### Exercise · ablate a head    ●○○   4 min
#
# Return the logits with one head's output set to zero, for any layer of any model.
#
# <details><summary>Hint 1</summary>
# Hook <code>f"blocks.{layer}.attn.hook_z"</code>, of shape <code>[batch pos n_heads d_head]</code>: each head's average of values,
# before W_O.
# </details>
# <details><summary>Hint 2</summary>
# <code>def remove(z, hook): z[:, :, head] = 0; return z</code>, then <code>model.run_with_hooks(...)</code>. A hook
# may write into what it is given.
# </details>

# %% exercise="ablate_head"
def ablate_head(
    model: Transformer, tokens: Int[Tensor, "batch pos"], layer: int, head: int
) -> Float[Tensor, "batch pos d_vocab"]:
    """The logits of the model when one head of one layer adds nothing to the residual stream."""
    ### BEGIN SOLUTION
    def remove(z: Tensor, hook) -> Tensor:
        z = z.clone()
        z[:, :, head] = 0.0
        return z

    return model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", remove)])
    ### END SOLUTION

# %% check="ablate_head"
check("ablate_head")

# %% [markdown]
# ### Exercise · rank the heads by loss    ●●○   5 min
#
# For every head of every layer, the loss without it less the loss with it, in nats per token. Positive: the head helps.
# (On the trained model, in the cell after the check, this takes some seconds.)
#
# <details><summary>Hint 1</summary>
# The loss is the mean cross-entropy of <code>logits[:, :-1]</code> against <code>tokens[:, 1:]</code>, as in chapter 1.
# </details>
# <details><summary>Hint 2</summary>
# Compute the loss of the whole model once, then loop over layers and heads with the hook of the last exercise. Mind Python's
# closures: <code>def remove(z, hook, head=head)</code> keeps the present head.
# </details>

# %% exercise="head_importance"
def head_importance(
    model: Transformer, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "n_layers n_heads"]:
    """By how much the loss (nats per token) grows when each head is ablated by itself."""
    ### BEGIN SOLUTION
    def loss(layer: int | None = None, head: int | None = None) -> float:
        def remove(z: Tensor, hook) -> Tensor:
            z = z.clone()
            z[:, :, head] = 0.0
            return z

        hooks = [] if layer is None else [(f"blocks.{layer}.attn.hook_z", remove)]
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).item()

    base = loss()
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    return torch.tensor(
        [[loss(layer, head) - base for head in range(n_heads)] for layer in range(n_layers)]
    )
    ### END SOLUTION

# %% check="head_importance"
check("head_importance")

# %%
def loss_of(logits: Tensor, windows: Tensor) -> float:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), windows[:, 1:].flatten()).item()


heldout = corpus.heldout_windows(64)
importance = head_importance(model, heldout)[0]
order = importance.argsort(descending=True).tolist()
kind = {
    h: "positional" if h in positional else "copying" if h in copies else "neither" for h in heads
}
plots.bars(
    importance[order], [f"0.{h}\n{kind[h]}" for h in order],
    "What it costs to take a head out", "head", "extra loss (nats per token)",
)
zero_layer_loss, one_layer_loss = loss_of(
    bigram_model(heldout), heldout
), loss_of(model(heldout), heldout)
no_head = loss_of(W_E[heldout] @ W_U, heldout)
for what in ("positional", "neither", "copying"):
    costs = [importance[k].item() for k in heads if kind[k] == what]
    print(
        f"{what + ' heads':<12} cost {min(costs):.2f} to {max(costs):.2f} nats, "
        f"{sum(costs) / len(costs):.2f} on average"
    )
everywhere = -(bigram_model.W_E @ bigram_model.W_U).log_softmax(-1)[
    corpus.heldout[:-1], corpus.heldout[1:]
].mean()
print(
    f"held-out loss, zero layers, all held-out text     {everywhere:.3f} nats per token, as in "
    "chapter 1"
)
print(f"held-out loss, zero layers, 64 windows of it      {zero_layer_loss:.3f}")
print(f"held-out loss, one layer, the same text           {one_layer_loss:.3f}")
print(f"one layer with all heads taken out                {no_head:.3f}")
print(f"sum of the heads' importance, one at a time       {importance.sum():.3f}")

# %% [markdown]
# **What to see here.** On average the positional heads cost most, the copying heads least. Without the heads that hold on to the present token and
# the one before, the model does not know where it stands; what a copying head finds far back, it finds only now and then, and three others
# copy, too. So the chapter's heroes are not the heads that the loss depends on most.
#
# Two losses of the same zero-layer model stand there: one is of all held-out text, as in chapter 1, the other of the 64 windows
# that everything here is measured on. Compare losses on the same text only. On it, one layer is worth a great deal. But look at the
# line below: the one-layer model without its heads is far *worse* than the model that never had any. Its direct path is not a good bigram table, since the heads that look at
# the present token do part of that work. And the importances do not add up to the whole: heads are additive in logits, not in loss. So
# "importance" answers one question only, what happens if this head alone is missing.

# %% [markdown]
# ## What you have shown
#
# The left column is what the paper says of one-layer models (the section in brackets); the right, what your code measured.

# %%
_, _, *rule, p_with, p_without = max(rules)
rule = [show([token]) for token in rule]
rows = [
    ("Heads are independent and additive [Attention Heads are Independent and Additive]",
     f"concatenate - sum: {concatenation_error:.0e}"),
    (
        "Logits are a sum of paths [The Path Expansion Trick]",
        f"residual error {residual_error:.0e}"
    ),
    (
        "Linear once patterns are frozen [The Freezing Attention Patterns Trick]",
        f"off by {frozen_error:.0e}"
    ),
    ("Bigrams and skip-trigrams, read off weights [Interpretation as Skip-Trigrams]",
     f"{rule[0]} … {rule[1]} → {rule[2]}: {p_with:.0%} in text, else {p_without:.1%}"),
    (
        "10 of 12 heads copy [Detecting Copying Behavior]",
        f"{n_copying} of {cfg.n_heads} heads, score above 0.5"
    ),
    (
        "  the same by diagonal, by top 10",
        ", ".join(str(int(v.sum())) for v in list(verdicts.values())[1:])
    ),
    ("Some heads are mostly positional [Primarily Positional Attention Heads]",
     f"{len(positional)} of {cfg.n_heads}: {', '.join(f'0.{h}' for h in sorted(positional))}"),
    ("Crossed skip-trigrams are forced [Skip-Trigram \"Bugs\"]",
     f"{show([source])} … {show([b2])} → {show([c])}: {lost:+.1f} nats"),
    (
        "(chapter 1) zero layers, loss on 64 held-out windows",
        f"{zero_layer_loss:.3f} nats per token"
    ),
    ("one layer, on the same windows", f"{one_layer_loss:.3f} nats per token"),
]
print(f"{'the paper says':<86} your code measured (shipped one-layer model)")
for claim, measure in rows:
    print(f"{claim:<86} {measure}")

# %% [markdown]
# **Read on.** Nelson Elhage and others, *A Mathematical Framework for Transformer Circuits* (2021), "One-Layer Attention-Only
# Transformers": its tables of skip-trigrams are worth an hour, and its discussion of what eigenvalues do and do not show
# ("Summarizing OV/QK Matrices") is more careful than ours. Ofir Press and others, *Shortformer* (2021), on positions
# in queries and keys only. Ashish Vaswani and others, *Attention Is All You Need* (2017), for the layer itself.
#
# **Next**: two layers. A head can then read what another head wrote, and the skip-trigram stops being the limit.

# %%
progress()
