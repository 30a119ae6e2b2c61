# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 0 · Foundations: everything is a sum of linear maps
#
# A transformer keeps one vector for every token of a text, and its parts take turns: each reads the vectors,
# and adds something to them. Nearly all the reading and adding is done by matrices. So you can multiply these matrices
# out, split them, turn them and compare them, and learn what a model does before it has read a word. This
# chapter is the linear algebra for that. Each fact is shown on a model that has learned to write Python.
#
# **After this chapter you can**
#
# - take a model's output apart into what each of its parts added, and put it together again;
# - tell which numbers inside a model mean something, and which are one choice among infinitely many;
# - say what a single part can move, from where to where, and through how many dimensions;
# - find two parts that work together, from the weights alone.
#
# **Time**: about 75 minutes, 59 of them for the exercises. **Needs**: Python, a little PyTorch, and matrix
# products. **Follows**: *A Mathematical Framework for Transformer Circuits*, section "Transformer Overview".

# %% [markdown]
# ## How a chapter works
#
# Run the cells from top to bottom with Shift+Enter. Some hold a function for you to complete: put your code in
# place of `raise NotImplementedError()`, run that cell, then the one below it, which checks your answer.
#
# | in a cell | what it does |
# |---|---|
# | `check("name")` | says whether your answer is right and, if not, what is wrong; ask as often as you like |
# | `hint("name")` | gives the next hint (the same ones are folded away above each exercise) |
# | `reveal("name")` | shows one answer and defines it for you, so that you can go on |
# | `progress()` | shows the map of the course, and what you have done of it |
#
# Exercises come in three kinds. **Build**: write a function. **Predict**: commit to an answer *before* the cell that
# shows it. **Find**: look into a trained model and report what is there. Each says how hard it is, from ●○○ to ●●●, and
# about how many minutes it takes. After twice that, take a hint; after two hints, an answer. No exercise
# needs your answer to an earlier one. (Cells that show results do: they use the functions you wrote, or revealed.)
#
# Two habits of this course. A vector is a *row*, so a matrix acts from the right: `x @ W`. And shapes are
# written with names: `[pos d_model]` is a matrix with a row for every position of the text and `d_model` columns.

# %% tags=["setup"]
import math

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from circuits import check, hint, progress, reveal
from utils import Transformer

# %% [markdown]
# The model has two layers and was trained on Python's own standard library. It reads *tokens*, pieces of text;
# `·` stands for a space and `↵` for a newline. Every text starts with a token of its own, `<|bos|>`.

# %%
import copy

from IPython.display import Markdown

from utils import load_corpus, load_model
from utils.figures import plots

model = load_model("two_layer").requires_grad_(False)
n_layers, n_heads, d_model, d_head = (
    getattr(model.cfg, name) for name in ("n_layers", "n_heads", "d_model", "d_head")
)
tokens = model.to_tokens("def area(self):\n    return self.width * self.height\n")
words = model.to_str_tokens(tokens[0])
print(f"{n_layers} layers of {n_heads} heads; d_model = {d_model}, d_head = {d_head}")
print(f"{len(words)} tokens: " + " | ".join(plots.token_text(word) for word in words))

# %% [markdown]
# ## Where this chapter ends
#
# A model decides what to look at with two matrices per *attention head*, called $W_Q$ and $W_K$. First: a piece of a trained
# $W_Q$. Second: the same piece of *another* $W_Q$ for the same head. Third: what the head looks at, from each
# token (rows) back to earlier ones (columns). It is the same with either. You will do this yourself, with a word of your own.

# %%
LAYER, HEAD = 1, 2
exact = copy.deepcopy(model).double()  # float64: a difference that is left is no rounding


def with_head(layer: int, head: int, **weights: Tensor) -> Transformer:
    """A copy of the exact model, in which one head has other weights."""
    new = copy.deepcopy(exact)
    for name, W in weights.items():
        getattr(new.blocks[layer].attn, name)[head] = W
    return new


def ink(word: str) -> Tensor:
    """A word as a picture of d_head x d_head numbers, -1 to 1, with some noise."""
    noise = torch.randn(d_head, d_head, generator=torch.Generator().manual_seed(0))
    return (2 * plots.word_image(word, d_head) - 1 + 0.15 * noise).double()


W_Q, W_K = exact.W_Q[LAYER, HEAD], exact.W_K[LAYER, HEAD]
other_W_Q = W_Q @ torch.linalg.solve(W_Q[:d_head], ink("hi"))
other_W_K = torch.linalg.lstsq(other_W_Q, W_Q @ W_K.T).solution.T
other = with_head(LAYER, HEAD, W_Q=other_W_Q, W_K=other_W_K)
patterns = [m.run_with_cache(tokens)[1]["pattern", LAYER][0, HEAD] for m in (exact, other)]

panels = plots.axes(3, size=(4.9, 4.0))
for ax, W, what in [(panels[0], W_Q, "As trained"), (panels[1], other_W_Q, "Rewritten")]:
    plots.image(
        W[:d_head], f"{what}: {d_head} of {d_model} rows of W_Q", "dimension of the head",
        "dimension of the residual stream", "weight", ax=ax,
    )  # fmt: skip
plots.matrix(
    patterns[1], words, words, "What both of them look at", "source token", "token", "attention",
    ax=panels[2]
)
print(f"Largest difference between the two patterns: {(patterns[0] - patterns[1]).abs().max():.1g}")

# %% [markdown]
# ## All heads in one matrix
#
# A layer of attention splits its work among $n_\text{heads}$ *heads*. Each works with short vectors of $d_\text{head}$
# numbers. In code all heads are computed at once, by one matrix product, and their vectors come out side by side in one
# long row: first the $d_\text{head}$ numbers of head 0, then those of head 1, and so on.
#
# $$\underbrace{x}_{[\text{pos}\;\; d_\text{model}]} \;
# \underbrace{\big[\,W^0 \,\big|\, W^1 \,\big|\, \cdots\,\big]}_{[d_\text{model}\;\; n_\text{heads} \cdot d_\text{head}]}
# = \big[\,x W^0 \,\big|\, x W^1 \,\big|\, \cdots\,\big]$$
#
# To look at single heads, cut the row into pieces. In most models $n_\text{heads} \cdot d_\text{head} = d_\text{model}$,
# so the row is as long as before.

# %% [markdown]
# ### Exercise · split the heads    ●○○   4 min
#
# Cut the last axis into `n_heads` equal pieces, and give the pieces an axis of their own. (Run the check once
# before you write anything, to see what it says.)
#
# <details><summary>Hint 1</summary>
# With <code>einops.rearrange</code> you write the shapes: what is there, an arrow, what you want. An axis
# that is made of two is written in brackets, the slower one first.
# </details>
# <details><summary>Hint 2</summary>
# <code>"batch pos (n_heads d_head) -> batch pos n_heads d_head"</code>; tell it one of the two sizes,
# <code>n_heads=n_heads</code>, and it works out the other.
# </details>

# %% exercise="split_heads"
def split_heads(
    x: Float[Tensor, "batch pos d_model"], n_heads: int
) -> Float[Tensor, "batch pos n_heads d_head"]:
    """Give the heads, which lie side by side in the last axis, an axis of their own."""
    ### BEGIN SOLUTION
    return rearrange(x, "batch pos (n_heads d_head) -> batch pos n_heads d_head", n_heads=n_heads)
    ### END SOLUTION

# %% check="split_heads"
check("split_heads")

# %%
_, cache = model.run_with_cache(tokens)
side_by_side = torch.cat(list(model.W_V[0]), dim=-1)  # [d_model, n_heads * d_head]
v = split_heads(cache["embed"] @ side_by_side, n_heads)
print(
    f"{list(side_by_side.shape)} gives all heads at once; split, they have shape {list(v.shape)}."
)
print(f"Largest difference from the model's own: {(v - cache['v', 0]).abs().max():.1g}")

panels = plots.axes(3, size=(4.5, 4.0))
for ax, h in zip(panels, (0, 1, 6)):
    plots.matrix(
        cache["pattern", 0][0, h], words, words, f"Layer 0, head {h}", "source token", "token",
        "attention", ax=ax
    )

# %% [markdown]
# **What to see here.** Three heads of one layer, and each looks elsewhere. That is what heads are for. (Rows sum to one, and
# nobody looks ahead: the upper right is empty.) From here on, head 6 of layer 0 is called 0.6.

# %% [markdown]
# ## A stream that everyone adds to
#
# A token enters as a vector, its row of the *embedding* $W_E$ `[d_vocab d_model]`. Every head reads the vectors and
# *adds* vectors $r$ to them. Nothing is ever overwritten. The running sum is the *residual stream*; after the last layer,
# the *unembedding* $W_U$ `[d_model d_vocab]` turns it into one score per possible next token, the *logits*:
#
# $$x = \underbrace{W_E[t]}_{[\text{pos}\;\; d_\text{model}]} + \sum_{\text{layer } l}\; \sum_{\text{head } h}\;
# \underbrace{r^{\,l,h}}_{[\text{pos}\;\; d_\text{model}]}
# \qquad\qquad \text{logits} = \underbrace{x\, W_U}_{[\text{pos}\;\; d_\text{vocab}]}$$
#
# `model.run_with_cache(tokens)` returns the logits and a *cache* of everything on the way, by name: `cache["embed"]`
# is `[batch pos d_model]`, and `cache["result", layer]` `[batch pos n_heads d_model]` holds what each head of a layer adds.
#
# Nothing here says at which place of the text a vector stands. In this model a *positional* vector, a row of `W_pos`
# `[n_ctx d_model]`, is added to what queries and keys read, and only there: it never enters the stream.

# %% [markdown]
# ### Exercise · take the stream apart    ●●○   5 min
#
# Collect all parts of the last residual stream along a new first axis: the embedding, then every head of layer 0,
# then every head of layer 1, and so on, for a model of any depth.
#
# <details><summary>Hint 1</summary>
# Start a list with <code>cache["embed"]</code> and loop over <code>range(model.cfg.n_layers)</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>cache["result", layer][:, :, head]</code> is one part, <code>[batch pos d_model]</code>.
# </details>
# <details><summary>Hint 3</summary>
# <code>tensor.unbind(dim=2)</code> gives all heads' parts at once; <code>torch.stack(parts)</code> makes one
# tensor of the list.
# </details>

# %% exercise="residual_parts"
def residual_parts(
    model: Transformer, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "part batch pos d_model"]:
    """What was added to the residual stream: the embedding, then each head, layer by layer."""
    ### BEGIN SOLUTION
    _, cache = model.run_with_cache(tokens)
    parts = [cache["embed"]]
    for layer in range(model.cfg.n_layers):
        parts += cache["result", layer].unbind(dim=2)
    return torch.stack(parts)
    ### END SOLUTION

# %% check="residual_parts"
check("residual_parts")

# %%
part_names = ["embed"] + [f"{layer}.{head}" for layer in range(n_layers) for head in range(n_heads)]
parts = residual_parts(model, tokens)
logits = model(tokens)
put_together = sum(part @ model.W_U for part in parts)
sum_error = (put_together - logits).abs().max()
print(
    f"Logits up to {logits.abs().max():.0f}; the sum of the {len(parts)} parts is off by at most "
    f"{sum_error:.1g}."
)

centred = model.W_U - model.W_U.mean(dim=-1, keepdim=True)  # a logit counts only against the others
votes = einsum(
    parts[:, 0, :-1], centred[:, tokens[0, 1:]], "part pos d_model, d_model pos -> part pos"
)
plots.matrix(
    votes, part_names, words[1:], "What each part adds to the logit of the token that comes next",
    "the token that comes next", "part (layer.head)", "logit, minus the mean logit",
);  # fmt: skip

# %% [markdown]
# **What to see here.** The sum is exact, up to rounding. Layer 1 does most of the talking (that is why
# its heads stand out), and no part is right everywhere: several heads vote, some of them against what came next.
# A surprise would be a sum that does not come out: then something else would write to the stream.

# %% [markdown]
# ## What a prediction costs
#
# Softmax turns logits into probabilities. A model's *loss* is the mean of $-\log P(\text{the token that came next})$, in
# *nats* (natural logarithms). Knowing nothing, with $d_\text{vocab}$ tokens equally likely, costs $\log d_\text{vocab}$
# per token.
#
# $$\text{loss} = -\operatorname*{mean}_{\text{batch},\; i}\;
# \log \operatorname{softmax}\big(\underbrace{\text{logits}_i}_{[d_\text{vocab}]}\big)\,[\,t_{i+1}\,]$$
#
# Logits at position $i$ predict token $i + 1$. So the last position predicts nothing we could judge, and the
# first token is nobody's target.

# %% [markdown]
# ### Exercise · cross-entropy    ●○○   4 min
#
# Compute the loss. Logits can be large: a probability that rounds to 0 must not cost infinitely much.
#
# <details><summary>Hint 1</summary>
# <code>logits[:, :-1]</code> predict <code>tokens[:, 1:]</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>log_softmax(-1)</code> is safe where <code>softmax(-1).log()</code> is not. Then pick the entry of each
# token that came, by <code>gather</code>.
# </details>
# <details><summary>Hint 3</summary>
# Or let <code>F.cross_entropy</code> do both: it wants logits <code>[n d_vocab]</code> and targets <code>[n]</code>,
# so flatten batch and position together, <code>flatten(0, 1)</code>.
# </details>

# %% exercise="cross_entropy_nats"
def cross_entropy_nats(
    logits: Float[Tensor, "batch pos d_vocab"], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, ""]:
    """Mean loss of predicting each next token, in nats per token."""
    ### BEGIN SOLUTION
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    ### END SOLUTION

# %% check="cross_entropy_nats"
check("cross_entropy_nats")

# %%
corpus = load_corpus()
heldout = corpus.heldout_windows(8)
print(corpus, f"Here: {heldout.numel():,} held-out tokens.")

stream = torch.zeros(*heldout.shape, d_model)
losses = [math.log(model.cfg.d_vocab)]
for part in residual_parts(model, heldout):
    stream = stream + part
    losses.append(float(cross_entropy_nats(stream @ model.W_U, heldout)))
full_loss = float(cross_entropy_nats(model(heldout), heldout))

ax = plots.axes(size=(8, 3.4))
plots.lines(
    {"sum so far": (range(len(losses)), losses)}, "The loss, as parts are added one by one",
    "the last part that was added (layer.head)", "loss (nats per token)",
    levels={"the whole model": full_loss}, markers=True, ax=ax,
)  # fmt: skip
ax.set_xticks(range(len(losses)), ["nothing", *part_names], rotation=90);

# %% [markdown]
# **What to see here.** Each part of a sum can be judged by what the sum costs with and without it.
# The embedding alone hardly helps, and layer 0 does little more *directly*: this model has
# learned to predict from what layer 1 makes of them. The order within a layer is ours, and so is each single step of the
# curve; where it ends is not.

# %% [markdown]
# ## A score is a bilinear form
#
# How does a head decide where to look? At every position it makes a *query* $q = x W_Q$ and a *key* $k = x W_K$, short
# vectors of $d_\text{head}$ numbers. A token at position $i$ looks at position $j$ the more, the larger the *score*
# $q_i \cdot k_j / \sqrt{d_\text{head}}$ is. (A softmax over $j$ makes weights of the scores: the *pattern*.)
#
# Two vectors go in, one number comes out, and it is linear in each of the two. That is a *bilinear form*, and every bilinear form is
# a matrix between two vectors:
#
# $$\underbrace{x}_{[d_x]} \;\underbrace{M}_{[d_x\; d_y]}\; \underbrace{y^\top}_{[d_y]}
# = \sum_{a,\,b} x_a \, M_{ab}\, y_b \quad \in \mathbb{R}$$

# %% [markdown]
# ### Exercise · a bilinear form    ●○○   3 min
#
# Compute it for a batch: row $i$ of `x` with row $i$ of `y`, one number each. (The formula, applied to whole batches,
# would pair every row with every row.)
#
# <details><summary>Hint 1</summary>
# <code>x @ M</code> does the first sum, for all rows at once. It has the shape of <code>y</code>.
# </details>
# <details><summary>Hint 2</summary>
# Multiply by <code>y</code> entry by entry and sum over the last axis. Or in one step:
# <code>einsum(x, M, y, "batch a, a b, batch b -> batch")</code>.
# </details>

# %% exercise="bilinear"
def bilinear(
    M: Float[Tensor, "d_x d_y"], x: Float[Tensor, "batch d_x"], y: Float[Tensor, "batch d_y"]
) -> Float[Tensor, "batch"]:
    """x M y^T for each row of x and the same row of y."""
    ### BEGIN SOLUTION
    return einsum(x, M, y, "batch d_x, d_x d_y, batch d_y -> batch")
    ### END SOLUTION

# %% check="bilinear"
check("bilinear")

# %% [markdown]
# ### Exercise · one matrix for two    ●○○   2 min
#
# Which $M$ makes the score, without its $\sqrt{d_\text{head}}$, a bilinear form of the vectors in the stream?
#
# $$(x W_Q) \cdot (y W_K) = x\, M\, y^\top \qquad M \in \mathbb{R}^{d_\text{model} \times d_\text{model}}$$
#
# <details><summary>Hint 1</summary>
# A dot product of rows is a matrix product: $a \cdot b = a\, b^\top$.
# </details>
# <details><summary>Hint 2</summary>
# $(y W_K)^\top = W_K^\top y^\top$.
# </details>

# %% exercise="adjoint_attention"
def adjoint_attention(
    W_Q: Float[Tensor, "d_model d_head"], W_K: Float[Tensor, "d_model d_head"]
) -> Float[Tensor, "d_model d_model"]:
    """The matrix M with (x W_Q) . (y W_K) = x M y^T for all x and y."""
    ### BEGIN SOLUTION
    return W_Q @ W_K.T
    ### END SOLUTION

# %% check="adjoint_attention"
check("adjoint_attention")

# %%
M = adjoint_attention(model.W_Q[0, 2], model.W_K[0, 2])
# this model adds positions to what queries and keys read
x = cache["embed"][0] + model.W_pos[: len(words)]
destination, source = torch.tensor([5, 11, 16]), torch.tensor([4, 2, 16])
yours = bilinear(M, x[destination], x[source]) / math.sqrt(d_head)
for i, j, score in zip(destination.tolist(), source.tolist(), yours):
    pair = f"{plots.token_text(words[i])} looks at {plots.token_text(words[j])}"
    print(
        f"{pair:<22} x M y = {score:+.3f}    the model's score "
        f"{cache['attn_scores', 0][0, 2, i, j]:+.3f}"
    )

brackets = ["(", "[", "{", ")", "]", "}", "self", ".", " =", " if", " x"]
vectors = model.W_E[[model.to_tokens(word, prepend_bos=False)[0, 0].item() for word in brackets]]
plots.matrix(
    vectors @ M @ vectors.T / math.sqrt(
        d_head
    ), brackets, brackets, "Whom head 0.2 wants to look at, positions aside",
    "source token", "token that looks", "score",
);  # fmt: skip

# %% [markdown]
# **What to see here.** $M$ knows nothing of a text, and already says something: closing brackets
# score high with opening ones, and not the other way round. So $M$ is not symmetric, and its two sides must not be mixed up:
# rows are who looks, columns who is looked at.

# %% [markdown]
# ## Q and K are one choice of many
#
# A score depends on $M = W_Q W_K^\top$ alone. So take any invertible matrix $R$ and slip it, with its inverse,
# in between:
#
# $$\underbrace{W_Q}_{[d_\text{model}\; d_\text{head}]} \underbrace{R\;R^{-1}}_{[d_\text{head}\; d_\text{head}]}
# \underbrace{W_K^\top}_{[d_\text{head}\; d_\text{model}]} = W_Q W_K^\top$$
#
# The head now has other queries, other keys, and the same scores. Physicists call such a choice a *gauge*. It follows
# that "dimension 7 of the query" means nothing, and that a query by itself can be anything at all. What a
# head does is in $M$.

# %% [markdown]
# ### Exercise · regauge a head    ●●○   5 min
#
# Return the new pair. Its first matrix shall be $W_Q R$; which second one goes with it? $R$ is invertible, and not more
# than that.
#
# <details><summary>Hint 1</summary>
# You want $W_Q R \,(W_K')^\top = W_Q W_K^\top$. So $(W_K')^\top$ must be $R^{-1} W_K^\top$.
# </details>
# <details><summary>Hint 2</summary>
# Transpose both sides: $(AB)^\top = B^\top A^\top$. <code>torch.linalg.inv(R)</code> is the inverse.
# </details>

# %% exercise="regauge"
def regauge(
    W_Q: Float[
        Tensor, "d_model d_head"
    ], W_K: Float[Tensor, "d_model d_head"], R: Float[Tensor, "d_head d_head"]
) -> tuple[Float[Tensor, "d_model d_head"], Float[Tensor, "d_model d_head"]]:
    """W_Q R, and the W_K that goes with it: other queries and keys, the same attention."""
    ### BEGIN SOLUTION
    return W_Q @ R, W_K @ torch.linalg.inv(R).T
    ### END SOLUTION

# %% check="regauge"
check("regauge")

# %% [markdown]
# Now write a word of your own into a trained head. The first `d_head` rows of $W_Q$ are a square matrix, so
# there is an $R$ that turns them into any picture you like. (Up to four letters stay readable.)

# %%
my_word = "QK?"

R = torch.linalg.solve(W_Q[:d_head], ink(my_word))  # W_Q[:d_head] @ R is the picture
new_W_Q, new_W_K = regauge(W_Q, W_K, R)
rewritten = with_head(LAYER, HEAD, W_Q=new_W_Q, W_K=new_W_K)
(logits_before, before), (logits_after, after) = (
    m.run_with_cache(tokens) for m in (exact, rewritten)
)

panels = plots.axes(4, size=(4.2, 3.7))
for ax, W, what in zip(
    panels, (W_Q, new_W_Q, W_K, new_W_K),
    ("W_Q, trained", "W_Q, yours", "W_K, trained", "W_K, yours")
):
    plots.image(
        W[:d_head], f"{what} ({d_head} rows)", "dimension of the head", "dimension of the stream",
        "weight", ax=ax
    )
pattern_error = (before["pattern", LAYER] - after["pattern", LAYER]).abs().max()
print(f"Queries moved by up to      {(before['q', LAYER] - after['q', LAYER]).abs().max():.1f}")
print(f"Attention weights moved by  {pattern_error:.1g}")
print(f"Logits moved by             {(logits_before - logits_after).abs().max():.1g}")

# %% [markdown]
# **What to see here.** The queries are nothing like before, the attention is the same. (Your $W_K$ looks
# striped: it makes up for what the word does to $W_Q$.) Had we used an $R$ that is not invertible, something
# would be lost; a picture without noise may be one.

# %% [markdown]
# ## The same for V and O
#
# The second half of a head decides *what* is moved. Each position makes a *value* $v = x W_V$, the pattern mixes the values
# of different positions, and $W_O$ writes the mixture $z$ into the stream:
#
# $$r = \underbrace{A}_{[\text{pos}\; \text{pos}]}\; \underbrace{x}_{[\text{pos}\; d_\text{model}]}\;
# \underbrace{W_V}_{[d_\text{model}\; d_\text{head}]}\; \underbrace{W_O}_{[d_\text{head}\; d_\text{model}]}$$
#
# Again two matrices occur only as a product. In this one nothing is transposed, so the gauge is simpler: $W_V R$ goes
# with $R^{-1} W_O$, for any invertible $R$, and the head moves what it moved before.

# %% [markdown]
# ### Exercise · predict: what survives?    ●●○   3 min
#
# Commit before you look. Every head of a layer gets a random new gauge: `W_Q, W_K` by one matrix, `W_V, W_O` by another. Which
# activations of this layer stay as they were? You are given some of these names, as the cache knows them:
# `q`, `k`, `v`, `attn_scores`, `pattern`, `z` (the values, mixed by the pattern), `result` (what each head adds),
# `attn_out` (what the layer adds) and `resid_post` (the stream after the layer). Return those of the given names that survive.
#
# <details><summary>Hint 1</summary>
# Which of them are made from a product in which $R$ and its inverse meet?
# </details>
# <details><summary>Hint 2</summary>
# $q$, $k$ and $v$ stand before the second matrix of their pair. Where does $z$ stand?
# </details>

# %% exercise="survives_regauging"
def survives_regauging(names: list[str]) -> list[str]:
    """Those of the given activations that no choice of gauge can change."""
    ### BEGIN SOLUTION
    return [name for name in names if name not in ("q", "k", "v", "z")]
    ### END SOLUTION

# %% check="survives_regauging"
check("survives_regauging")

# %%
generator = torch.Generator().manual_seed(1)
regauged = copy.deepcopy(exact)
attn = regauged.blocks[0].attn
for h in range(n_heads):
    R, S = torch.randn(2, d_head, d_head, generator=generator, dtype=torch.float64)
    attn.W_Q[h], attn.W_K[h] = regauge(exact.W_Q[0, h], exact.W_K[0, h], R)
    attn.W_V[h], attn.W_O[h] = exact.W_V[0, h] @ S, torch.linalg.solve(S, exact.W_O[0, h])
after = regauged.run_with_cache(tokens)[1]
activations = ["q", "k", "v", "attn_scores", "pattern", "z", "result", "attn_out", "resid_post"]
kept = survives_regauging(activations)
print("activation     moved by    you said")
for name in activations:
    # scores of the future are -inf
    moved = (after[name, 0] - before[name, 0]).nan_to_num().abs().max()
    print(f"{name:<12} {moved:>10.0e}    {'survives' if name in kept else 'changes'}")

# %% [markdown]
# **What to see here.** Two kinds of numbers. Those that survive are facts about the model. Queries, keys, values and $z$ are
# facts about how it happens to be written down: implementation details. Tables of "what a query neuron means"
# should make you suspicious.

# %% [markdown]
# ## Along positions, along features
#
# With its pattern held fixed, a head is one linear map: from all the vectors, $X$ `[src d_in]`, to all the results,
# $Y$ `[dest d_out]`. Written as one large matrix, it has an entry for every pair of a number that goes in (which source,
# which dimension) and a number that comes out (which destination, which dimension). Each entry is a product of two:
#
# $$(A \otimes W)\big[(\text{src}, i),\ (\text{dest}, o)\big]
# = \underbrace{A[\text{dest}, \text{src}]}_{\text{the pattern}} \cdot \underbrace{W[i, o]}_{W_V W_O}
# \qquad Y[\text{dest}, o] = \sum_{\text{src},\, i} X[\text{src}, i]\; (A \otimes W)\big[(\text{src}, i),\ (\text{dest}, o)\big]$$
#
# That is a *Kronecker product* (also tensor product). The matrix has $(\text{src} \cdot d_\text{in}) \times
# (\text{dest} \cdot d_\text{out})$ entries, and nobody writes it out. (In the paper vectors are columns, so there $W$
# appears transposed.)

# %% [markdown]
# ### Exercise · apply a Kronecker product    ●●○   4 min
#
# Apply $A \otimes W$ to $X$ without forming the large matrix: two products of small ones are enough.
#
# <details><summary>Hint 1</summary>
# Put the first formula into the second. In the sum over <code>src</code> and <code>i</code>, which factors depend on
# which of the two? Sum over one of them first.
# </details>
# <details><summary>Hint 2</summary>
# A sum over the last axis of one table and the first of the next is a matrix product. Which of the two tables
# has <code>src</code> last?
# </details>

# %% exercise="kron_apply"
def kron_apply(
    A: Float[Tensor, "dest src"], W: Float[Tensor, "d_in d_out"], X: Float[Tensor, "src d_in"]
) -> Float[Tensor, "dest d_out"]:
    """(A ⊗ W) applied to X: A acts on positions, W on features."""
    ### BEGIN SOLUTION
    return A @ X @ W
    ### END SOLUTION

# %% check="kron_apply"
check("kron_apply")

# %%
A, X = cache["pattern", 0][0, 0], cache["resid_pre", 0][0]
W = model.W_V[0, 0] @ model.W_O[0, 0]
head_error = (kron_apply(A, W, X) - cache["result", 0][0, :, 0]).abs().max()
print(f"Head 0.0 is A ⊗ W on these {len(words)} tokens: the difference is {head_error:.1g}.")
print(
    f"Written out, A ⊗ W would have {(X.numel()) ** 2:,} entries; A and W together have "
    f"{A.numel() + W.numel():,}."
)

few, dims = 6, 5  # a corner small enough to draw
panels = plots.axes(3, size=(4.8, 4.0))
corner, block = A[:few, :few].T.contiguous(), W[:dims, :dims].contiguous()
plots.image(corner, f"A: {few} tokens", "destination", "source", "attention", ax=panels[0])
plots.image(
    block, f"W: {dims} of {d_model} dimensions", "dimension out", "dimension in", "weight",
    ax=panels[1]
)
plots.image(
    torch.kron(corner, block), "A ⊗ W, written out", "destination, and dimension out in it",
    "source, and dimension in", "product", ax=panels[2],
);  # fmt: skip

# %% [markdown]
# **What to see here.** The large matrix is a grid of copies of $W$, each as strong as one attention weight (faint ones
# look empty). (Here rows are what goes in and columns what comes out, so $A$ is drawn transposed.) And it came out as
# $A X W$: $A$ on one side of the vectors, $W$ on the other. This is the whole head: *where* times *what*, chosen independently.

# %% [markdown]
# ### Exercise · predict: who mixes positions?    ●○○   4 min
#
# Commit before you look. Someone adds a vector $\delta$ to one position of $X$, the `source`. At which positions does $A X W$
# change? You are given $A$ and $W$; $\delta$ is one that $W$ lets through, $\delta W \ne 0$. Return the list of positions.
#
# <details><summary>Hint 1</summary>
# Which of the two has positions for its axes?
# </details>
# <details><summary>Hint 2</summary>
# <code>A[dest, source]</code> is how much destination <code>dest</code> takes from the source. Where is it not 0?
# </details>

# %% exercise="positions_reached"
def positions_reached(
    A: Float[Tensor, "dest src"], W: Float[Tensor, "d_in d_out"], source: int
) -> list[int]:
    """The positions at which A X W changes when X changes at `source` alone."""
    ### BEGIN SOLUTION
    return A[:, source].nonzero()[:, 0].tolist()
    ### END SOLUTION

# %% check="positions_reached"
check("positions_reached")

# %%
nudge = torch.randn(d_model, generator=torch.Generator().manual_seed(2))
U = torch.linalg.svd(W)[0]
unseen = U[:, d_head:] @ U[:, d_head:].T @ nudge  # the part of it that W sends to 0
print(f"The nudge has length {nudge.norm():.1f}; W makes {(nudge @ W).norm():.1f} of it.")
print(
    f"A part of it, as long as {unseen.norm():.1f}, is unseen: W makes {(unseen @ W).norm():.0e} "
    "of that."
)

moved = torch.zeros(len(words), len(words))
for source in range(len(words)):
    changed = X.clone()
    changed[source] += nudge
    moved[source] = (kron_apply(A, W, changed) - kron_apply(A, W, X)).norm(dim=-1)
left, right = plots.axes(2, size=(5.4, 4.2))
plots.matrix(A, words, words, "Pattern of head 0.0", "source token", "token", "attention", ax=left)
plots.matrix(
    moved.T, words, words, "How far its result moves", "the one token that is nudged",
    "token", "distance", ax=right,
)  # fmt: skip
reached = [plots.token_text(words[i]) for i in positions_reached(A * (A > 0.01), W, 5)]
print(
    f"More than 1% of their attention on the first {plots.token_text(words[5])}: "
    f"{'  '.join(reached)}"
)

# %% [markdown]
# **What to see here.** The same picture twice. Where a change arrives is decided by $A$ alone, and $W$ only decides what
# becomes of it, which may be nothing: most of the nudge is in the *null space* of $W$, the changes that this head does not
# see, though no entry of $W$ is 0. In a transformer, attention patterns are the *only* thing that moves anything between positions.

# %% [markdown]
# ## How much fits through a head?
#
# The *rank* of a matrix is the number of independent dimensions that its output can fill. What passes
# through a narrow place cannot fill more than that place has:
#
# $$\operatorname{rank}(BC) \le \min\big(\operatorname{rank} B,\ \operatorname{rank} C\big) \qquad
# \operatorname{rank}(B + C) \le \operatorname{rank} B + \operatorname{rank} C$$
#
# A matrix can never have a larger rank than it has rows, or columns. Matrices that are random, or trained, nearly always have
# the largest rank that these rules allow.

# %% [markdown]
# ### Exercise · predict: the rank of W_V W_O    ●○○   3 min
#
# Commit before you look. For a model of the given sizes, return two whole numbers: the rank of one head's $W_V W_O$, and the
# rank of the sum of $W_V W_O$ over the heads of a layer. The check trains nothing; it measures models of many shapes,
# narrow, wide, and this one.
#
# <details><summary>Hint 1</summary>
# $W_V W_O$ is <code>[d_model d_model]</code>. What is the narrowest place on the way through?
# </details>
# <details><summary>Hint 2</summary>
# Ranks add up, until there is no room: a sum of matrices with <code>d_model</code> columns has rank at most <code>d_model</code>.
# </details>

# %% exercise="predict_ranks"
def predict_ranks(d_model: int, d_head: int, n_heads: int) -> tuple[int, int]:
    """The rank of one head's W_V W_O, and that of the sum over all heads of a layer."""
    ### BEGIN SOLUTION
    return min(d_head, d_model), min(n_heads * d_head, d_model)
    ### END SOLUTION

# %% check="predict_ranks"
check("predict_ranks")

# %%
generator = torch.Generator().manual_seed(3)


def singular_values(M: Tensor) -> Tensor:
    """The strengths of a matrix's dimensions, largest first, relative to the largest."""
    S = torch.linalg.svdvals(M.double())
    return S / S[0]


def rank(M: Tensor) -> int:
    return int((singular_values(M) > 1e-5).sum())


OV = model.W_V @ model.W_O  # [n_layers n_heads d_model d_model]
random_matrix = torch.randn(d_model, d_model, generator=generator)
spectra = {
    "head 0.4": OV[0, 4],
    "head 1.6": OV[1, 6],
    "all of layer 1, summed": OV[1].sum(0),
    "random, of the same size": random_matrix,
}
plots.lines(
    {name: (range(1, d_model + 1), singular_values(M)) for name, M in spectra.items()},
    "Singular values of W_V W_O", "number of the dimension, strongest first",
    "strength, relative to the strongest",
    ax=plots.axes(size=(7, 3.6)),
)  # fmt: skip
predicted = predict_ranks(d_model, d_head, n_heads)
print(f"You predicted {int(predicted[0])} and {int(predicted[1])}.")
for name, M in spectra.items():
    print(
        f"rank {rank(M):>3}   its dimension {d_head} is {singular_values(M)[d_head - 1]:.0%} as "
        f"strong as its first   {name}"
    )

# %% [markdown]
# **What to see here.** A cliff: after `d_head` dimensions a head's matrix has nothing left, though it is as large
# as the random one. (With a *singular value decomposition*, a matrix is written as a sum of dimensions, each with its
# strength, the singular value.) All the heads together fill the stream. Before the cliff a head's strengths fall steadily, and
# slowly: the weakest dimension that it has is still about half as strong as its strongest. These heads use all that they have.

# %% [markdown]
# ## Less than the rank
#
# Perhaps a few dimensions do most of the work. To find out, keep the $k$ strongest and drop the rest:
#
# $$M = \sum_{i} \sigma_i\, u_i^\top v_i \quad\longrightarrow\quad M_k = \sum_{i \le k} \sigma_i\, u_i^\top v_i
# \qquad u_i\!: [\text{rows}],\;\; v_i\!: [\text{columns}]$$
#
# The sum on the left is the singular value decomposition: $u_i$ and $v_i$ are unit vectors, the $\sigma_i \ge 0$ come sorted.
# No matrix of rank $k$ is closer to $M$, in squared error, than $M_k$ (Eckart and Young, 1936).

# %% [markdown]
# ### Exercise · truncate the rank    ●○○   4 min
#
# Compute $M_k$, for a matrix of any shape.
#
# <details><summary>Hint 1</summary>
# <code>U, S, Vh = torch.linalg.svd(M, full_matrices=False)</code>. The columns of <code>U</code> are the $u_i$, the
# <i>rows</i> of <code>Vh</code> the $v_i$.
# </details>
# <details><summary>Hint 2</summary>
# <code>U[:, :k] * S[:k]</code> scales each kept column by its strength. One more matrix product.
# </details>

# %% exercise="truncate_rank"
def truncate_rank(M: Float[Tensor, "rows columns"], k: int) -> Float[Tensor, "rows columns"]:
    """The closest matrix of rank at most k."""
    ### BEGIN SOLUTION
    U, S, Vh = torch.linalg.svd(M, full_matrices=False)
    return (U[:, :k] * S[:k]) @ Vh[:k]
    ### END SOLUTION

# %% check="truncate_rank"
check("truncate_rank")

# %%
def thinned(k: int, what: str) -> Transformer:
    """The model with every head's W_V W_O, or W_Q W_K^T, cut down to rank k."""
    new = copy.deepcopy(model)
    for block in new.blocks:
        for W_Q, W_K, W_V, W_O in zip(
            block.attn.W_Q, block.attn.W_K, block.attn.W_V, block.attn.W_O
        ):
            # keep W_V, and find the W_O with which the product is the truncated one
            if what == "OV":
                W_O.copy_(torch.linalg.lstsq(W_V, truncate_rank(W_V @ W_O, k)).solution)
            else:
                W_K.copy_(torch.linalg.lstsq(W_Q, truncate_rank(W_Q @ W_K.T, k)).solution.T)
    return new


kept_dims = [4, 12, 20, 28]
costs = {
    name: (
        [*kept_dims, d_head],
        [
            *(float(cross_entropy_nats(thinned(k, what)(heldout), heldout)) for k in kept_dims),
            full_loss
        ],
    )
    for name, what in [("W_V W_O: what is moved", "OV"), ("W_Q W_K^T: where to look", "QK")]
}
plots.lines(
    costs, "The loss, when every head keeps only some of its dimensions",
    f"dimensions kept, of d_head = {d_head}",
    "loss (nats per token)", levels={
        "the whole model": full_loss
    }, markers=True, ax=plots.axes(size=(7, 3.6)),
);  # fmt: skip

# %% [markdown]
# **What to see here.** Neither can be thinned for free. What is moved needs every dimension it has; where to look needs fewer.
# A gentle start of the curves on the right would mean room to spare: dimensions that nobody uses.

# %% [markdown]
# ### The stream is crowded
#
# Add up the ranks: everyone who writes to the stream wants dimensions of it, and so does everyone who reads.

# %%
def ranks(matrices: Tensor) -> int:
    """The sum of the ranks of a layer's heads."""
    return sum(rank(M) for M in matrices)


layers = range(n_layers)
writers = {"embedding": rank(model.W_E)} | {f"heads of layer {i}": ranks(OV[i]) for i in layers}
reads = {
    f"{name}, layer {i}": ranks(getattr(model, f"W_{name}")[i]) for i in layers for name in "QKV"
}
reads["unembedding"] = rank(model.W_U)
written, read = sum(writers.values()), sum(reads.values())
plots.stacks(
    {"written": writers, "read": reads}, "Dimensions wanted, by whom", "dimensions (sum of ranks)",
    levels={"dimensions of the stream": d_model},
)  # fmt: skip
print(f"Written: {written} dimensions. Read: {read}. There are {d_model}.")
everyone = torch.cat([model.W_E, *model.W_O.flatten(0, 1)])
print(f"All writers together span {rank(everyone)} dimensions.")

# %% [markdown]
# **What to see here.** Each layer alone could fill the whole stream, and so could the embedding; all of them share it. So parts
# must write over each other's dimensions, and who reads also gets what was not meant for it. Read the bars as bounds: rank counts
# a dimension however faintly it is used.

# %% [markdown]
# ## Virtual weights
#
# A head in layer 1 reads the stream, to which a head in layer 0 has written. So there is a direct
# wire from the one to the other, though nobody put it there: multiply out what the writer writes with
# and what the reader reads with.
#
# $$\underbrace{W_\text{out}}_{[d_\text{write}\;\; d_\text{model}]}\;
# \underbrace{W_\text{in}}_{[d_\text{model}\;\; d_\text{read}]} \;=\;
# \underbrace{\text{virtual weights}}_{[d_\text{write}\;\; d_\text{read}]}$$
#
# A row vector $z$ that the writer sends arrives as $z$ times this product. Where it is 0, the reader does not see the writer
# at all: one writes to dimensions that the other does not read.

# %% [markdown]
# ### Exercise · how strong is the wire?    ●○○   3 min
#
# Large weights make large products, which says little. Divide by the size of the two, where the size (*Frobenius norm*)
# of a matrix is the root of the sum of its squared entries:
#
# $$\text{strength} = \frac{\lVert W_\text{out} W_\text{in} \rVert}{\lVert W_\text{out} \rVert\, \lVert W_\text{in} \rVert}$$
#
# It is 0 where the reader sees nothing of the writer, and never above 1. For random matrices it is near
# $1 / \sqrt{d_\text{model}}$.
#
# <details><summary>Hint 1</summary>
# <code>M.norm()</code> is the Frobenius norm of a matrix. (<code>torch.linalg.norm(M, ord=2)</code> is another one.)
# </details>
# <details><summary>Hint 2</summary>
# One product, three norms. The result is a single number.
# </details>

# %% exercise="read_strength"
def read_strength(
    W_out: Float[Tensor, "d_write d_model"], W_in: Float[Tensor, "d_model d_read"]
) -> Float[Tensor, ""]:
    """The size of the virtual weights, relative to the sizes of the two matrices."""
    ### BEGIN SOLUTION
    return (W_out @ W_in).norm() / (W_out.norm() * W_in.norm())
    ### END SOLUTION

# %% check="read_strength"
check("read_strength")

# %% [markdown]
# ### Exercise · how strong could it be?    ●●○   5 min
#
# A strength of 1 would need a writer that writes a single dimension, and a reader that reads no other. A head writes 32 and
# reads 32. So what is the *most* that two given matrices could reach, if the stream between them were turned in the best way?
#
# $$\text{ceiling} = \max_{R\ \text{orthogonal}}
# \frac{\lVert W_\text{out}\, R\, W_\text{in} \rVert}{\lVert W_\text{out} \rVert\, \lVert W_\text{in} \rVert}$$
#
# No search is needed. Turning changes no singular value, $\sigma_i$ of the writer or $\tau_i$ of the reader, only which of
# their dimensions meet. Best is that the strongest meets the strongest, the second the second, and so on. (For two heads
# with 32 equal strengths it comes out as $1/\sqrt{32}$. Work out why.)
#
# <details><summary>Hint 1</summary>
# When dimension i of the writer meets dimension i of the reader, the product has singular values $\sigma_i \tau_i$. And the
# Frobenius norm of a matrix is the root of the sum of its squared singular values.
# </details>
# <details><summary>Hint 2</summary>
# <code>torch.linalg.svdvals(M)</code> gives them, sorted. The two matrices may have different numbers of them: those
# left over meet nothing.
# </details>
# <details><summary>Hint 3</summary>
# <code>n = min(len(s), len(t))</code>, and then the norm of <code>s[:n] * t[:n]</code> over the product of the two norms.
# </details>

# %% exercise="strength_ceiling"
def strength_ceiling(
    W_out: Float[Tensor, "d_write d_model"], W_in: Float[Tensor, "d_model d_read"]
) -> Float[Tensor, ""]:
    """The largest strength of the wire that any rotation of the stream between the two can
    reach."""
    ### BEGIN SOLUTION
    s, t = torch.linalg.svdvals(W_out), torch.linalg.svdvals(W_in)
    n = min(len(s), len(t))
    return (s[:n] * t[:n]).norm() / (s.norm() * t.norm())
    ### END SOLUTION

# %% check="strength_ceiling"
check("strength_ceiling")

# %%
generator = torch.Generator().manual_seed(4)
baseline = 1 / math.sqrt(d_model)
widths = [8, 32, 128, 512]
pairs = [torch.randn(2, d, d, generator=generator) for d in widths]
narrow = [[truncate_rank(W, min(d_head, d)) for W in pair] for pair, d in zip(pairs, widths)]
ceilings = [float(strength_ceiling(*pair)) for pair in narrow]
plots.lines(
    {
        "random matrices": (widths, [float(read_strength(W_out, W_in)) for W_out, W_in in pairs]),
        "1 / √d_model": (widths, [d**-0.5 for d in widths]),
        f"ceiling of random matrices of rank {d_head}": (widths, ceilings),
    },
    "How much do strangers see of each other?", "d_model", "strength", logx=True, markers=True,
)  # fmt: skip
print(f"Random matrices of this model's width, d_model = {d_model}: about {baseline:.3f}")
print(f"The unembedding reads the embedding: {float(read_strength(model.W_E, centred)):.3f}")
strengths = [float(read_strength(model.W_E, OV[0, h])) for h in range(n_heads)]
print(
    f"Heads of layer 0 read the embedding, through V: {min(strengths):.3f} to {max(strengths):.3f}"
)

# %% [markdown]
# **What to see here.** Random matrices see each other a little, the less the more room there is. That is the baseline
# to beat. The ceiling is not 1 but far lower: who writes 32 dimensions and is read in 32 has to divide the strength among
# them. The embedding and the heads of layer 0 stay near the baseline: with so many users of one stream, nobody reads only
# one writer. A private wire would be one near its ceiling.

# %% [markdown]
# ### Exercise · find the strongest wire    ●●○   5 min
#
# In a two-layer model, a head of layer 1 can read what a head of layer 0 wrote in three ways: into its queries, its keys or
# its values. $W_O$ alone would be a gauge, so compare only products that survive:
#
# | part | matrix | note |
# |---|---|---|
# | the writer, head $a$ of layer 0 | $W_V W_O$ | what it moves |
# | the reader, head $b$ of layer 1, through `"Q"` | $W_Q W_K^\top$ | the stream enters on the left |
# | through `"K"` | $W_K W_Q^\top$ | the same form, entered from the other side |
# | through `"V"` | $W_V W_O$ | as for the writer |
#
# Return $a$, $b$ and the letter of the pair with the largest strength.
#
# <details><summary>Hint 1</summary>
# Three nested loops, or one over all <code>(a, b, letter)</code>; keep the strength of each and take the maximum.
# </details>
# <details><summary>Hint 2</summary>
# <code>model.W_Q[1, b] @ model.W_K[1, b].T</code> is the reader through "Q"; its transpose is the reader through "K".
# </details>
# <details><summary>Hint 3</summary>
# Collect <code>strengths[(a, b, letter)]</code> in a dictionary; <code>max(strengths, key=strengths.get)</code> is the answer.
# </details>

# %% exercise="strongest_wire"
def strongest_wire(model: Transformer) -> tuple[int, int, str]:
    """Writer in layer 0, reader in layer 1, and "Q", "K" or "V": the pair with the largest
    strength."""
    ### BEGIN SOLUTION
    writers = model.W_V[0] @ model.W_O[0]
    QK = model.W_Q[1] @ model.W_K[1].mT
    readers = {"Q": QK, "K": QK.mT, "V": model.W_V[1] @ model.W_O[1]}
    strengths = {}
    for letter, W_in in readers.items():
        for a, W_out in enumerate(writers):
            for b in range(len(W_in)):
                strength = (W_out @ W_in[b]).norm() / (W_out.norm() * W_in[b].norm())
                strengths[a, b, letter] = strength.item()
    return max(strengths, key=strengths.get)
    ### END SOLUTION

# %% check="strongest_wire"
check("strongest_wire")

# %%
QK = model.W_Q[1] @ model.W_K[1].mT
readers = {"Q": QK, "K": QK.mT, "V": OV[1]}
wires = {
    letter: torch.tensor(
        [[float(read_strength(W_out, W_in)) for W_in in matrices] for W_out in OV[0]]
    )
    for letter, matrices in readers.items()
}
names = [[f"{i}.{h}" for h in range(n_heads)] for i in (0, 1)]
limit = max((table - baseline).abs().max() for table in wires.values())
panels = plots.axes(3, size=(4.4, 3.6))
for ax, (letter, table) in zip(panels, wires.items()):
    plots.matrix(
        table - baseline, *names, f"Who is read through {letter}", "reader", "writer",
        "strength, minus that of strangers", ax=ax,
    )  # fmt: skip
    ax.images[0].set_clim(-limit, limit)  # the same colours in all three

# %% [markdown]
# **What to see here.** Most pairs see each other about as much as strangers do, some less: they keep out of each other's
# way. A few stand out. How far do they get? Look at the pair you found beside both bounds, and then at what it does on a text
# that says something twice.

# %%
a, b, letter = strongest_wire(model)
a, b = int(a), int(b)
found, ceiling = float(wires[letter][a, b]), float(strength_ceiling(OV[0, a], readers[letter][b]))
print(f"0.{a} is read by 1.{b} through its {letter}: strength {found:.3f}.")
print(
    f"Strangers {baseline:.3f}, the ceiling for these two {ceiling:.3f}: it gets "
    f"{found / ceiling:.0%} of what could be."
)
others = torch.cat([table.flatten() for table in wires.values()])
print(f"The median of all {len(others)} wires: {float(others.median()):.3f}.")

twice = model.to_tokens("red.green = blue\nred.green = blue")
said = model.to_str_tokens(twice[0])
_, seen = model.run_with_cache(twice)
left, right = plots.axes(2, size=(5.6, 4.6))
plots.matrix(
    seen["pattern", 0][0, a], said, said, f"The writer, 0.{a}", "source token", "token",
    "attention", ax=left
)
plots.matrix(
    seen["pattern", 1][0, b], said, said, f"The reader, 1.{b}", "source token", "token",
    "attention", ax=right
);

# %% [markdown]
# **What to see here.** Nobody gave these two a wire of their own, and yet more than half of the strength that their shapes allow is in
# it. The writer looks at the token before. The reader, in the second half, looks at what *followed* the
# present token the first time: that is the second diagonal. To find that place it must know, of each position, which token
# came before it; and this is what the writer writes there. You found the pair without running the model. Chapter 3 is about it.

# %% [markdown]
# ## Memories: an MLP as a sum
#
# Most transformers have, after each layer of attention, an *MLP*:
#
# $$\text{MLP}(x) = \operatorname{relu}(\underbrace{x}_{[d_\text{model}]}\;
# \underbrace{W_\text{in}}_{[d_\text{model}\;\; d_\text{mlp}]})\;\underbrace{W_\text{out}}_{[d_\text{mlp}\;\; d_\text{model}]}
# = \sum_{n} \operatorname{relu}(x \cdot \text{key}_n)\;\text{value}_n$$
#
# $\operatorname{relu}(a) = \max(a, 0)$ is not linear. Still, the MLP is a sum, of *neurons*. Column $n$ of $W_\text{in}$ is the
# neuron's key: it compares the key with the stream, and adds its value, row $n$ of $W_\text{out}$, as strongly as
# they match. (Geva and others, *Transformer Feed-Forward Layers Are Key-Value Memories*, 2021.) The only thing that is not
# linear is how much of each value.

# %% [markdown]
# ### Exercise · an MLP, neuron by neuron    ●●○   5 min
#
# Return what each neuron adds at each position. Summed over neurons, it is the MLP.
#
# <details><summary>Hint 1</summary>
# <code>(x @ W_in).relu()</code> is how strongly each neuron is active, <code>[pos d_mlp]</code>.
# </details>
# <details><summary>Hint 2</summary>
# Multiply each activation with the neuron's row of <code>W_out</code>, and do not sum:
# <code>"pos d_mlp, d_mlp d_model -> pos d_mlp d_model"</code>.
# </details>

# %% exercise="mlp_as_neurons"
def mlp_as_neurons(
    x: Float[Tensor, "pos d_model"], W_in: Float[
        Tensor, "d_model d_mlp"
    ], W_out: Float[Tensor, "d_mlp d_model"]
) -> Float[Tensor, "pos d_mlp d_model"]:
    """What each neuron of a relu MLP without biases adds to the stream."""
    ### BEGIN SOLUTION
    activations = (x @ W_in).relu()
    return einsum(activations, W_out, "pos d_mlp, d_mlp d_model -> pos d_mlp d_model")
    ### END SOLUTION

# %% check="mlp_as_neurons"
check("mlp_as_neurons")

# %% [markdown]
# The models of this course have no MLP. So write one by hand, six neurons, onto the two-layer model's stream. Each shall
# know one (untrue) fact: after *this* token comes *that* one. A key is fitted to real text by least squares, so that it
# points at the streams of its token and away from all others; a value points to where the other token is read.

# %%
facts = {
    " import": " self", " return": " import", " is": " range", " in": " None", " lambda": " not",
    " if": " True"
}
triggers, targets = (
    [model.to_tokens(t, prepend_bos=False)[0, 0].item() for t in side]
    for side in (facts, facts.values())
)


def last_stream(tokens: Tensor) -> Tensor:
    return model.run_with_cache(tokens, names_filter="blocks.1.hook_resid_post")[1]["resid_post", 1]


def fit_key(x: Tensor, wanted: Tensor) -> Tensor:
    """The key whose match x @ key is near 1 where wanted, and a little below 0 elsewhere."""
    weight = torch.where(wanted, 0.5 / wanted.sum(), 0.5 / (~wanted).sum())
    target = torch.where(wanted, 1.0, -0.2)
    G = x.T @ (weight[:, None] * x)
    return torch.linalg.solve(
        G + 1e-3 * G.diagonal().mean() * torch.eye(len(G)), x.T @ (weight * target)
    )


text = corpus.batch(0, batch=64)
x = last_stream(text).flatten(0, 1)
W_in = torch.stack([fit_key(x, text.flatten() == t) for t in triggers], dim=-1)
directions = centred[:, targets].T
# a full match adds 20 to the target's logit
W_out = 20 * directions / (directions**2).sum(-1, keepdim=True)

line = model.to_tokens(
    "def f(x):\n    import math\n    if x is None:\n        return [y for y in x]\n    g = lambda "
    "x: x\n"
)
x = last_stream(line)[0]
added = mlp_as_neurons(x, W_in, W_out)
with_mlp = x + added.sum(dim=1)
memory_names = [f"{plots.token_text(a)}→{plots.token_text(b)}" for a, b in facts.items()]
effect = einsum(added, directions, "pos neuron d_model, neuron d_model -> neuron pos")
absent = [name for name, trigger in zip(memory_names, triggers) if trigger not in line]
print("Facts whose token is not in the line:", absent or "none")
plots.matrix(
    effect, memory_names, model.to_str_tokens(
        line[0]
    ), "What each neuron adds to the logit of its target", "token",
    "neuron: key → value", "logit",
);  # fmt: skip

heldout_stream = last_stream(heldout)
active = (heldout_stream @ W_in).relu()
print(
    "fact                     probability before, after    match on held-out text: its token, "
    "others"
)
for n, (name, trigger, target) in enumerate(zip(memory_names, triggers, targets)):
    on = heldout == trigger
    mlp = active @ W_out
    chances = [
        ((s @ model.W_U).softmax(-1)[on][:, target]).mean()
        for s in (heldout_stream, heldout_stream + mlp)
    ]
    print(
        f"{name:<24} {chances[0]:>12.1%} {chances[1]:>12.1%}     "
        f"{active[..., n][on].mean():>16.2f} {active[..., n][~on].mean():>10.3f}"
    )

# %% [markdown]
# **What to see here.** Each neuron answers its own key, and then votes for its value. A vote is added to all other votes and does not
# silence them: where the model was sure of something else, the target stays unlikely even so. Hand-made neurons are tidy. Those of trained models rarely are, and where attention is linear with its
# pattern fixed, an MLP is not: so the core of this course leaves MLPs out.

# %% [markdown]
# ## What you have shown

# %%
best = max(float(strengths.max()) for strengths in wires.values())
table = [
    (
        "Each part adds to the stream, independently of the others",
        "Attention Heads are Independent and Additive",
     f"{len(parts)} parts sum to the logits, off by {sum_error:.1g}",
     "two_layer, one line of code"),
    (
        "Keys, queries and values are superficial: only $W_Q W_K^\\top$ and $W_V W_O$ matter",
        "Observations about Attention Heads",
     f"queries rewritten, attention moved by {pattern_error:.1g}", f"head {LAYER}.{HEAD}, float64"),
    (
        "A head is a Kronecker product of pattern and weights",
        "Attention Heads as Information Movement",
     f"$A X W$ and the head differ by {head_error:.1g}", "head 0.0"),
    ("Both products have low rank", "Observations about Attention Heads",
     f"ranks {rank(QK[0])} and {rank(OV[1, 0])}, of {d_model}", "head 1.0"),
    ("The stream has more users than dimensions", "Virtual Weights and the Residual Stream",
     f"{written} dimensions written and {read} read, of {d_model}", "two_layer"),
    ("Later parts read chosen earlier ones", "Virtual Weights and the Residual Stream",
     f"strongest wire {best:.3f}, strangers {baseline:.3f}, ceiling {ceiling:.3f}",
     f"0.{a} → 1.{b} through {letter}"),
]  # fmt: skip
rows = "\n".join(
    f"| {says} | “{where}” | {measured} | {on} |" for says, where, measured, on in table
)
Markdown(
    f"| the paper says | in its section | your code measured | on |\n|---|---|---|---|\n{rows}"
)

# %% [markdown]
# **Read on.** Nelson Elhage and others, *A Mathematical Framework for Transformer Circuits* (2021), "Transformer Overview".
# Mor Geva and others, *Transformer Feed-Forward Layers Are Key-Value Memories* (2021), on neurons of trained models.
# Gilbert Strang, *The Fundamental Theorem of Linear Algebra* (1993), if rank and singular values went by too fast.
#
# **Next**: the smallest transformer of all, with no layers. It has an embedding, an unembedding, and nothing in between.

# %%
progress()
