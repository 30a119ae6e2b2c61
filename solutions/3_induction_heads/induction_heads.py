# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3 · Induction heads: two layers compose
#
# Show a two-layer transformer a sequence of random tokens that it has never seen. Then show it the
# same sequence again. The second time each token costs it several nats less. No training data taught it this
# sequence: it has learned to *look up what came next last time*. The mechanism takes two attention heads,
# one in each layer, and you will build it, find it and watch it appear.
#
# **After this chapter you can**
#
# - write by hand the weights of three circuits in which one head builds on another, two of which continue any
#   repeated sequence;
# - find such *induction heads* in a trained model: by what they look at, by their weights alone, and by
#   what breaks without them;
# - watch them form while a model trains, in a drop of the loss that takes a few hundred steps;
# - say how many nats each kind of path through a two-layer model is worth.
#
# **Time**: about 185 minutes, 147 of them for the exercises. Two cells train a model while you watch; they take minutes, and say
# how far they are. **Needs**: chapters 0 to 2. **Follows**:
# *A Mathematical Framework for Transformer Circuits*, "Two-Layer Attention-Only Transformers", and *In-context
# Learning and Induction Heads*.

# %% tags=["setup"]
import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Complex, Float, Int
from torch import Tensor

from circuits import check, hint, progress, reveal
from utils import Config, Transformer
from utils.materials.handmade import empty_model, rooms, rotation
from utils.model import sinusoids

# %%
import copy
import time

from circuits import interactive
from utils import load_corpus, load_curves, load_model
from utils.figures import plots
from utils.training import LIVE, LIVE_STEPS, Training, live_steps, next_token_loss
from utils.waiting import waiting

corpus = load_corpus()
zero, one, two = (
    load_model(name).requires_grad_(False)  # we only look at these
    for name in ("zero_layer", "one_layer", "two_layer")
)
d_vocab = two.cfg.d_vocab
print(corpus)

# %% [markdown]
# ## Where this chapter ends
#
# Above: the shipped two-layer model while it trained. One head learns to look at the previous token;
# then, suddenly, others learn to look at what followed last time. Below: one of those, on 24 random
# tokens that come twice. The stripe is the whole chapter in one picture: on seeing a token again, the
# head looks at the token *after* its first occurrence.

# %%
curves = load_curves("two_layer")
scores = {name: torch.tensor(curves[f"{name}_score"]) for name in ("previous_token", "induction")}
best = {name: divmod(score[-1].argmax().item(), two.cfg.n_heads) for name, score in scores.items()}
once = corpus.train[
    torch.randint(len(corpus.train), (24,), generator=torch.Generator().manual_seed(1))
]
twice = torch.cat([once, once])
_, cache = two.run_with_cache(twice, names_filter=lambda name: name.endswith("pattern"))

left, right = plots.axes(2, size=(5.8, 4.4))
plots.lines(
    {
        f"{plots.head_name(*best[name])}, {what}": (
            curves["step"], scores[name][:, *best[name]].tolist()
        )
        for name, what in [
            ("previous_token", "to the previous token"), ("induction", "to what followed last time")
        ]
    },
    "Two heads find their jobs",
    "training step",
    "mean attention weight",
    ax=left,
)
left.set_xscale("symlog", linthresh=100)
layer, head = best["induction"]
image = right.imshow(cache["pattern", layer][0, head], cmap=plots.SEQUENTIAL, vmin=0, vmax=1)
right.set(
    title=f"Head {plots.head_name(layer, head)} on {len(once)} random tokens, twice",
    xlabel="position it looks at", ylabel="position that looks",
    xticks=range(0, len(twice), 8), yticks=range(0, len(twice), 8),
)
plots.colorbar(image, right, "attention weight")

# %% [markdown]
# ## What one layer cannot know
#
# A head decides where to look by scores. The score from a *destination* position $d$ to a *source*
# position $s \le d$ compares two vectors of the residual stream at the head's layer:
#
# $$\text{score}[d, s] = \frac{(x_d + w_d)\, W_Q W_K^\top (x_s + w_s)^\top}{\sqrt{d_\text{head}}}$$
#
# $x$ is `[d_model]`, $w$ is the position vector `[d_model]`; $W_Q, W_K$ are `[d_model d_head]`. In layer 0, $x_s$ is the embedding of
# the token at $s$ and nothing else. Now suppose the present token is `A`, and some time ago the text said `A B`.
# We want to look at `B`, *because the token before it was* `A`. What must the score know?

# %% [markdown]
# ### Exercise · predict: which tokens are behind a score?    ●○○   4 min
#
# A model has `n_layers` attention layers. Take a head of its **last** layer, and its score from position
# `dest` to position `src`. Which positions hold tokens that can change that score? Return all of
# them. (`n_layers` is at least 1, and `src` is at most `dest`.)
#
# <details><summary>Hint 1</summary>
# One layer: what do x at <code>dest</code> and x at <code>src</code> know about other positions?
# </details>
# <details><summary>Hint 2</summary>
# Two layers: the first one has moved information into x at <code>dest</code> and into x at <code>src</code>. From which
# positions may it come? A head never looks at the future.
# </details>
# <details><summary>Hint 3</summary>
# After one layer of attention, x at position p can hold something of every token at 0, …, p.
# </details>

# %% exercise="tokens_behind_score"
def tokens_behind_score(n_layers: int, dest: int, src: int) -> list[int]:
    """Positions whose token can change the score from dest to src in the last of n_layers
    layers."""
    ### BEGIN SOLUTION
    if n_layers == 1:
        return sorted({src, dest})
    return list(range(dest + 1))
    ### END SOLUTION

# %% check="tokens_behind_score"
check("tokens_behind_score")

# %%
sentence = two.to_tokens("for name in names:\n    print(name)", prepend_bos=False)
last = sentence.shape[1] - 1
words = [plots.token_text(t) for t in two.to_str_tokens(sentence[0])]
source = last - 3
print(
    f"Score of the last layer from the last token to `{words[source]}`. Largest change when one "
    "token is replaced:"
)
print("   token   one layer  two layers")
for position, word in enumerate(words):
    changed = sentence.clone()
    changed[0, position] = (changed[0, position] + 7) % d_vocab
    moved = []
    for model in (one, two):
        name = f"blocks.{model.cfg.n_layers - 1}.attn.hook_attn_scores"
        before, after = (
            model.run_with_cache(t, names_filter=name)[1][name] for t in (sentence, changed)
        )
        moved.append((after - before)[0, :, last, source].abs().max().item())
    print(f"{word:>8}   {moved[0]:9.2f}  {moved[1]:10.2f}")

# %% [markdown]
# **What to see here.** In one layer, two tokens decide. It can ask "is that token like me?", but never "is
# that token *after one like me*?". In two layers all tokens so far can have a say, because layer 0 has moved things
# before layer 1 compares them. That is *composition*, and the rest of the chapter builds on it.

# %% [markdown]
# ## One step back
#
# The first part to build is a head that looks at the position before its own. Positions are given as
# sinusoids: vector $w_p$ holds pairs $(\sin \omega_i p, \cos \omega_i p)$, with
# $\omega_i = 10000^{-2i / d_\text{model}}$ for pair $i = 0, 1, \dots$ Going one step back turns every pair by the angle
# $-\omega_i$, whatever $p$ is. So there is *one* matrix for the whole text, block-diagonal and orthogonal:
#
# $$w_p\, R = w_{p-1}, \qquad R = \begin{pmatrix} R_0 & & \\ & R_1 & \\ & & \ddots \end{pmatrix}, \qquad
# R_i = \begin{pmatrix} \cos \omega_i & \sin \omega_i \\ -\sin \omega_i & \cos \omega_i \end{pmatrix}$$
#
# Take $W_Q W_K^\top = g\,R$. The score times $\sqrt{d_\text{head}}$ is $g\, w_{p-1} w_s^\top = g \sum_i \cos \omega_i (p - 1 - s)$, largest where
# $s = p - 1$. The gain $g$ makes the softmax sharp. `rotation(angles)` builds such a matrix: it turns
# $(\sin a, \cos a)$ to $(\sin(a + \text{angle}), \cos(a + \text{angle}))$, pair by pair.

# %% [markdown]
# ### Exercise · a previous-token head    ●●○   8 min
#
# Return $W_Q$ and $W_K$, here with `d_head` = `d_model` (an even number). The check gives the head nothing but positions: the inputs of
# its queries and keys are the rows of `sinusoids(n_ctx, d_model)`. Every position but the first must give its
# predecessor more than 99% of its attention.
#
# <details><summary>Hint 1</summary>
# Let the keys be the positions as they are. What must the query at position p look like, to fit the key at p - 1
# best?
# </details>
# <details><summary>Hint 2</summary>
# The frequencies of all pairs: <code>10_000 ** (-torch.arange(0, d_model, 2) / d_model)</code>. One step back is the
# rotation by minus these.
# </details>
# <details><summary>Hint 3</summary>
# Neighbouring positions are nearly alike, and the scores are divided by √d_head. Multiply <code>W_Q</code> by something
# large, such as 100.
# </details>

# %% exercise="previous_token_head"
def previous_token_head(
    n_ctx: int, d_model: int
) -> tuple[Float[Tensor, "d_model d_model"], Float[Tensor, "d_model d_model"]]:
    """W_Q and W_K of a head that, from positions alone, looks one position back."""
    ### BEGIN SOLUTION
    frequencies = 10_000 ** (-torch.arange(0, d_model, 2) / d_model)
    W_Q = 100 * rotation(-frequencies)
    W_K = torch.eye(d_model)
    return W_Q, W_K
    ### END SOLUTION

# %% check="previous_token_head"
check("previous_token_head")

# %%
W_Q, W_K = previous_token_head(64, 32)
w = sinusoids(64, 32)
position_scores = (w @ W_Q) @ (w @ W_K).T / 32**0.5
future = torch.ones(64, 64, dtype=torch.bool).triu(1)
pattern = position_scores.masked_fill(future, -torch.inf).softmax(-1)

left, right = plots.axes(2, size=(5.6, 3.8))
back = torch.arange(-8, 33)
plots.lines(
    {"from position 40": (back.tolist(), position_scores[40, 40 - back].tolist())},
    "The score depends on the distance alone",
    "positions back from the one that looks (below 0: the future)",
    "score (nats)",
    ax=left,
)
left.axvline(1, color=plots.INK, ls=":", lw=1)
image = right.imshow(pattern[:24, :24], cmap=plots.SEQUENTIAL, vmin=0, vmax=1)
right.set(title="Its attention", xlabel="position it looks at", ylabel="position that looks")
plots.colorbar(image, right, "attention weight")

# %% [markdown]
# **What to see here.** One peak, at one step back. The future would score high too, but is masked. Position 0 has no
# predecessor, so it looks at itself: keep that in mind.

# %% [markdown]
# ## Rooms
#
# A head must not only look; it must move something. And what it writes must not land on what is there already. By
# hand we keep things apart by giving each its own *room*, a slice of the residual stream:
#
# | code | what it does |
# |---|---|
# | `rooms(position=32, token=50, ...)` | divides the stream: `room.token` is a slice, `room.d_model` the whole width |
# | `empty_model(d_vocab, d_model, d_head, n_ctx)` | two layers, one head in each, every weight 0 |
# | `model.W_E[:, room.token] = torch.eye(d_vocab)` | the embedding writes into a room |
# | `model.blocks[0].attn.W_V[0, room.token, :d_vocab] = ...` | layer 0, its only head, reads from a room |
# | `model.blocks[0].attn.W_O[0, :d_vocab, room.one_back] = ...` | and writes into another |
# | `model.W_U[room.two_back] = ...` | the logits are read from a room |
#
# To read weights, take all layers at once: `model.W_V[layer, head]` has the same numbers as `model.blocks[layer].attn.W_V[head]`,
# `[d_model d_head]`; so with `W_Q`, `W_K`, and `W_O` `[d_head d_model]`. It is a copy made for you: what you write into it is lost.
#
# (A trained model has no rooms, only directions. Rotate the whole stream, as in chapter 1, and ours would have none either.)
#
# The first circuit is *V-composition*: both heads look one back, and the second moves on what the first has
# moved. So the pair acts as a head of its own, a *virtual head*, which looks **two** back:
#
# $$A_\text{virtual} = A_1 A_0 \quad [\text{pos pos}], \qquad
# W_{OV,\text{virtual}} = W_{V,0} W_{O,0} W_{V,1} W_{O,1} \quad [d_\text{model}\; d_\text{model}]$$

# %%
plots.rooms(
    ["position", "token", "one_back", "two_back"],
    [
        ("embedding", {"token": "token at p"}),
        ("after layer 0", {"token": "token at p", "one_back": "token at p-1"}),
        (
            "after layer 1",
            {"token": "token at p", "one_back": "token at p-1", "two_back": "token at p-2"}
        ),
    ],
    [(0, "token", "one_back", "from p-1"), (1, "one_back", "two_back", "from p-1")],
    "V-composition: what stands in each room at position p",
);

# %% [markdown]
# Nothing is ever *written* into the room `position`. Queries and keys read $x + w$, so in that room they find the first
# 32 dimensions of the sinusoids, clean. (The sinusoids fill the other rooms as well; a head that reads
# values never sees them.) The frequencies are those of the whole stream, `room.d_model`, not of the room.

# %% [markdown]
# ### Exercise · a virtual head that looks two back    ●●●   12 min
#
# Fill in the weights so that the model's highest logit at every position is the token two back, and each head
# looks one back. Rooms and an empty model are there; `return model` when it is complete.
#
# <details><summary>Hint 1</summary>
# Both heads have the same <code>W_Q</code> and <code>W_K</code>: those of the exercise before, for the 16 pairs of the room
# <code>position</code>. Their frequencies are <code>10_000 ** (-torch.arange(0, 32, 2) / room.d_model)</code>.
# </details>
# <details><summary>Hint 2</summary>
# With <code>attn = model.blocks[layer].attn</code>: <code>attn.W_Q[0, room.position, :32] = 100 * rotation(-frequencies)</code>.
# The key is <code>torch.eye(32)</code> from the same room.
# </details>
# <details><summary>Hint 3</summary>
# Values: layer 0 goes from <code>room.token</code> to <code>room.one_back</code>, layer 1 from <code>room.one_back</code> to
# <code>room.two_back</code>, each through the first <code>d_vocab</code> dimensions of the head. Embedding and unembedding are identities
# too: into <code>room.token</code>, out of <code>room.two_back</code>.
# </details>

# %% exercise="two_back_virtual_head"
def two_back_virtual_head(d_vocab: int, n_ctx: int) -> Transformer:
    """A model of two previous-token heads that together predict the token two positions back."""
    room = rooms(position=32, token=d_vocab, one_back=d_vocab, two_back=d_vocab)
    model = empty_model(d_vocab, room.d_model, d_head=max(32, d_vocab), n_ctx=n_ctx)
    ### BEGIN SOLUTION
    one_each = torch.eye(d_vocab)
    frequencies = 10_000 ** (-torch.arange(0, 32, 2) / room.d_model)
    model.W_E[:, room.token] = one_each
    for layer, read, write in ((0, room.token, room.one_back), (1, room.one_back, room.two_back)):
        attn = model.blocks[layer].attn
        attn.W_Q[0, room.position, :32] = 100 * rotation(-frequencies)
        attn.W_K[0, room.position, :32] = torch.eye(32)
        attn.W_V[0, read, :d_vocab] = one_each
        attn.W_O[0, :d_vocab, write] = one_each
    model.W_U[room.two_back] = one_each
    return model
    ### END SOLUTION

# %% check="two_back_virtual_head"
check("two_back_virtual_head")

# %%
letters = [chr(ord("a") + i) for i in range(26)]
by_hand = two_back_virtual_head(26, 32)
text = torch.tensor([[letters.index(c) for c in "composition"]])
logits, cache = by_hand.run_with_cache(text)
print("text      ", " ".join("composition"))
print("predicted ", " ".join(letters[i] for i in logits[0].argmax(-1).tolist()))
A0, A1 = cache["pattern", 0][0, 0], cache["pattern", 1][0, 0]
panels = plots.axes(3, size=(3.9, 3.3))
for ax, values, title in zip(
    panels, (A0, A1, A1 @ A0), ("Layer 0", "Layer 1", "Virtual head, A1 A0"), strict=True
):
    plots.matrix(
        values, list("composition"), list("composition"), title, "looked at", "looks", "weight",
        ax=ax
    )

# %% [markdown]
# **What to see here.** No head looks two back, and yet the model does. Two patterns with a stripe next to the
# diagonal multiply to one with a stripe two off it. The first two positions have nothing two back: they get what position 0,
# looking at itself, has to give.

# %% [markdown]
# ## Induction, by the keys
#
# Now the circuit of this chapter. The text was `… A B …` and the present token is `A` again. Layer 0 looks one
# back and writes the previous token's name beside each token: at `B` it now says "I follow `A`". Layer 1 asks from the
# present `A`: "who follows `A`?", finds `B`, and copies it.
#
# What layer 0 wrote is read by layer 1's **keys**: *K-composition*. The query is the present token,
# the key is the room that holds the previous token:
#
# $$\text{score}[d, s] \propto \text{token}_d \cdot \text{previous}_s$$
#
# One trap: queries and keys read $x + w$. In every room the sinusoids murmur, up to 1 in each dimension. A token
# that is to be heard by a query or a key must speak louder. So let the *embedding* put 100 into the room `token`, not 1. (A larger $W_Q$ does not
# help here: it makes the murmur louder, too.)

# %%
plots.rooms(
    ["position", "token", "previous", "answer"],
    [
        ("embedding", {"token": "token at p"}),
        ("after layer 0", {"token": "token at p\n(query)", "previous": "token at p-1\n(key)"}),
        (
            "after layer 1",
            {"token": "token at p", "previous": "token at p-1", "answer": "token at s"}
        ),
    ],
    [(0, "token", "previous", "from p-1"), (1, "token", "answer", "from s, where query = key")],
    "K-composition: what stands in each room at position p",
);

# %% [markdown]
# ### Exercise · an induction head by hand    ●●●   15 min
#
# Fill in the weights. The check makes sequences of random tokens that come again and again, after a token 0 that stands at the
# start and nowhere else (as `<|bos|>` does before every text of ours). No token comes twice within a period. From the second
# period on, the model's highest logit must be the token that comes next, in over 99% of cases, for
# vocabularies, periods and lengths of all kinds.
#
# <details><summary>Hint 1</summary>
# Layer 0 is the previous-token head of the exercise before: it moves <code>room.token</code> to <code>room.previous</code>.
# </details>
# <details><summary>Hint 2</summary>
# Layer 1: <code>W_Q</code> reads <code>room.token</code>, <code>W_K</code> reads <code>room.previous</code>, both into the same
# <code>d_vocab</code> dimensions of the head. A score is high where the two name the same token.
# </details>
# <details><summary>Hint 3</summary>
# What layer 1 copies is the token that stands at the position it looks at: values from <code>room.token</code>, into
# <code>room.answer</code>; and the logits are read from there.
# </details>
# <details><summary>Hint 4</summary>
# If it is right on some vocabularies only: <code>model.W_E[:, room.token] = 100 * torch.eye(d_vocab)</code>.
# </details>

# %% exercise="induction_circuit"
def induction_circuit(d_vocab: int, n_ctx: int) -> Transformer:
    """A model that continues repeated sequences: its second head's keys read what the first
    wrote."""
    room = rooms(position=32, token=d_vocab, previous=d_vocab, answer=d_vocab)
    model = empty_model(d_vocab, room.d_model, d_head=max(32, d_vocab), n_ctx=n_ctx)
    ### BEGIN SOLUTION
    one_each = torch.eye(d_vocab)
    frequencies = 10_000 ** (-torch.arange(0, 32, 2) / room.d_model)
    model.W_E[:, room.token] = 100 * one_each

    previous = model.blocks[0].attn
    previous.W_Q[0, room.position, :32] = 100 * rotation(-frequencies)
    previous.W_K[0, room.position, :32] = torch.eye(32)
    previous.W_V[0, room.token, :d_vocab] = one_each
    previous.W_O[0, :d_vocab, room.previous] = one_each

    induction = model.blocks[1].attn
    induction.W_Q[0, room.token, :d_vocab] = one_each
    induction.W_K[0, room.previous, :d_vocab] = one_each
    induction.W_V[0, room.token, :d_vocab] = one_each
    induction.W_O[0, :d_vocab, room.answer] = one_each

    model.W_U[room.answer] = one_each
    return model
    ### END SOLUTION

# %% check="induction_circuit"
check("induction_circuit")

# %%
def show_circuit(model: Transformer, text: str, alphabet: str) -> None:
    """What a hand-made model predicts after each letter, and where its two heads look."""
    tokens = torch.tensor([[alphabet.index(c) for c in text]])
    logits, cache = model.run_with_cache(tokens)
    print("text      ", " ".join(text))
    print("predicted ", " ".join(alphabet[i] for i in logits[0].argmax(-1).tolist()))
    panels = plots.axes(2, size=(5.2, 4.2))
    for layer, ax in enumerate(panels):
        pattern = cache["pattern", layer][0, 0]
        plots.matrix(
            pattern, list(text), list(text), f"Layer {layer}", "looked at", "looks", "weight", ax=ax
        )


alphabet = "^abcdefghijklmnopqrstuvwxyz"  # ^ is token 0, at the start
show_circuit(induction_circuit(27, 32), "^quickquickqui", alphabet)

# %% [markdown]
# **What to see here.** From the second `q` on, the predictions are one step ahead of the text. (Before it no key fits the query, so
# those letters mean nothing.) In layer 1 each letter then looks one
# place *after* its earlier occurrences: one in the second round, two in the third. Now take the `^` away:

# %%
tokens = torch.tensor([[alphabet.index(c) for c in "quickquickqui"]])
model = induction_circuit(27, 32)
logits, cache = model.run_with_cache(tokens)
where = cache["pattern", 1][0, 0, 5]
print("At the second q, layer 1 looks at", ", ".join(
    f"position {i} ({alphabet[tokens[0, i]]}, weight {where[i]:.2f})" for i in where.topk(
        2
    ).indices.tolist()
))
print(
    "logits:",
    ", ".join(f"{alphabet[i]} {logits[0, 5, i]:.1f}" for i in logits[0, 5].topk(2).indices.tolist())
)

# %% [markdown]
# Position 0 looks at itself, so it says of itself that it follows `q`. Now two places fit, and the head is torn between them: the right
# answer `u` leads by a little, and only because the sinusoids tip the scales. A start token that never comes again keeps such ties
# away: one of the reasons why texts are given one.

# %% [markdown]
# ## Induction, by the queries
#
# There is another way, by *pointer arithmetic*. Layer 0 asks "where did I occur before?" and writes that
# **position** beside the present token. Layer 1 turns this pointer one step on, looks *there*, and copies. What layer 0 wrote is
# now read by layer 1's **queries**: *Q-composition*.
#
# This needs positions that can be moved by a head, so they must be in the residual stream. That is what the config calls
# `standard` positions: $x = \text{embedding} + w$, with $w$ a row of the table `model.W_pos` `[n_ctx d_model]`. In this empty model it is 0, and yours to
# fill: `model.W_pos[:, room.position] = ...`. By hand the simplest is one dimension per
# position, the identity. Then a step forward is a matrix with ones just above the diagonal.
#
# One thing to think about before you build: the present token is always like itself, so layer 0 finds *that*, too, and a part of its
# pointer says "here". Where does layer 1 look then, one step on from here? (If it worries you, positions can forbid it: a negative
# score where the query's position is the key's. Is it needed?)

# %%
plots.rooms(
    ["position", "token", "found", "answer"],
    [
        ("embedding", {"position": "p", "token": "token at p"}),
        (
            "after layer 0",
            {
                "position": "p\n(key)", "token": "token at p",
                "found": "where it was: f\n(query: f+1)"
            }
        ),
        (
            "after layer 1",
            {"position": "p", "token": "token at p", "found": "f", "answer": "token at f+1"}
        ),
    ],
    [(0, "position", "found", "from f, where token = token"), (1, "token", "answer", "from f+1")],
    "Q-composition: what stands in each room at position p",
);

# %% [markdown]
# ### Exercise · the pointer circuit    ●●●   12 min
#
# Fill in the weights, `W_pos` among them, for the same behaviour, by the queries. The head has room for tokens and positions, even side
# by side: `d_head = d_vocab + n_ctx`.
# A sequence may come three times: then several earlier places fit, and any of them will do.
#
# <details><summary>Hint 1</summary>
# Layer 0, same token: <code>W_Q[0, room.token, :d_vocab]</code> and <code>W_K[0, room.token, :d_vocab]</code>. That is all it
# needs: the part of the pointer that says "here" points at the next place, which is masked.
# </details>
# <details><summary>Hint 2</summary>
# It moves <code>room.position</code> to <code>room.found</code>. Layer 1 compares <code>room.found</code>, one step on, with
# <code>room.position</code>, and moves <code>room.token</code> to <code>room.answer</code>.
# </details>
# <details><summary>Hint 3</summary>
# <code>step = torch.diag(torch.ones(n_ctx - 1), 1)</code>: the one-hot row f times <code>step</code> is the one-hot row f + 1.
# Scores are divided by √d_head: use large numbers, 1000 for a match.
# </details>

# %% exercise="pointer_induction"
def pointer_induction(d_vocab: int, n_ctx: int) -> Transformer:
    """A model that continues repeated sequences: its second head's queries read what the first
    wrote."""
    room = rooms(position=n_ctx, token=d_vocab, found=n_ctx, answer=d_vocab)
    model = empty_model(
        d_vocab, room.d_model, d_head=d_vocab + n_ctx, n_ctx=n_ctx, positions="standard"
    )
    ### BEGIN SOLUTION
    each_token, each_position = torch.eye(d_vocab), torch.eye(n_ctx)
    step = torch.diag(torch.ones(n_ctx - 1), 1)
    model.W_pos[:, room.position] = each_position
    model.W_E[:, room.token] = each_token

    duplicate = model.blocks[0].attn
    duplicate.W_Q[0, room.token, :d_vocab] = 1000 * each_token
    duplicate.W_K[0, room.token, :d_vocab] = each_token
    duplicate.W_V[0, room.position, :n_ctx] = each_position
    duplicate.W_O[0, :n_ctx, room.found] = each_position

    pointer = model.blocks[1].attn
    pointer.W_Q[0, room.found, :n_ctx] = 1000 * step
    pointer.W_K[0, room.position, :n_ctx] = each_position
    pointer.W_V[0, room.token, :d_vocab] = each_token
    pointer.W_O[0, :d_vocab, room.answer] = each_token

    model.W_U[room.answer] = each_token
    return model
    ### END SOLUTION

# %% check="pointer_induction"
check("pointer_induction")

# %%
show_circuit(pointer_induction(27, 32), "^quickquickqui", alphabet)

# %% [markdown]
# **What to see here.** In layer 0 a letter of the second round looks at its first occurrence, and, if you did not forbid it, as much at
# itself. It does no harm: that part of the pointer points at the place *after* the present one, which is the future, and the mask takes it
# away. Layer 1 finds the same place as the circuit before. Its letters are the same, its reasons are not.

# %% [markdown]
# Same behaviour, different mechanism. To tell them apart, cut a wire: give layer 1's queries (or keys, or values) what
# they would be *without* layer 0, and leave all else as it is.

# %%
def cut(model: Transformer, tokens: Tensor, wire: str) -> Tensor:
    """Logits when layer 1's "q", "k" or "v" does not see what layer 0 wrote."""
    name = f"blocks.1.attn.hook_{wire}"
    remove = [("blocks.0.hook_attn_out", lambda out, hook: torch.zeros_like(out))]
    with model.hooks(fwd_hooks=remove):
        _, without = model.run_with_cache(tokens, names_filter=name)
    return model.run_with_hooks(tokens, fwd_hooks=[(name, lambda x, hook: without[name])])


generator = torch.Generator().manual_seed(0)
period = 20
order = 1 + torch.stack([torch.randperm(39, generator=generator)[:period] for _ in range(50)])
sequences = torch.cat([torch.zeros(50, 1, dtype=torch.long), order, order], dim=1)
print(
    f"{'circuit':<22} {'whole':>7} {'q cut':>7} {'k cut':>7} {'v cut':>7}   share of the second "
    "copy predicted"
)
for build in (two_back_virtual_head, induction_circuit, pointer_induction):
    by_hand = build(40, 64)
    runs = [by_hand(sequences)] + [cut(by_hand, sequences, wire) for wire in "qkv"]
    # what it is there to say
    target = sequences.roll(2 if build is two_back_virtual_head else -1, dims=1)
    right = [(run.argmax(-1) == target)[:, period + 1 : -1].float().mean().item() for run in runs]
    print(f"{build.__name__:<22} " + " ".join(f"{r:7.1%}" for r in right))

# %% [markdown]
# **What to see here.** Each circuit dies when its own wire is cut, and only then. You have built the three ways in
# which one head can build on another. Which does training choose?

# %% [markdown]
# ## Random sequences as a test
#
# Real text mixes everything. To see induction alone, use text in which nothing else helps: random tokens, then the *same* random tokens
# again. On the first copy no model can do well. On the second, only one that looks back.

# %% [markdown]
# ### Exercise · repeated random tokens    ●○○   4 min
#
# Return a batch of sequences: `length` tokens drawn from `generator`, each of the `d_vocab` equally likely, then the same tokens again.
#
# <details><summary>Hint 1</summary>
# <code>torch.randint(d_vocab, shape, generator=generator)</code> draws all tokens of the first copy at once.
# </details>
# <details><summary>Hint 2</summary>
# <code>torch.cat([x, x], dim=1)</code> puts the copy behind each sequence, not below the batch.
# </details>

# %% exercise="repeated_tokens"
def repeated_tokens(
    d_vocab: int, batch: int, length: int, generator: torch.Generator
) -> Int[Tensor, "batch 2*length"]:
    """`batch` sequences of `length` random tokens, each followed by itself."""
    ### BEGIN SOLUTION
    once = torch.randint(d_vocab, (batch, length), generator=generator)
    return torch.cat([once, once], dim=1)
    ### END SOLUTION

# %% check="repeated_tokens"
check("repeated_tokens")

# %% [markdown]
# ### Exercise · loss at each position    ●○○   4 min
#
# A mean over a text hides *where* a model is good. Keep the losses apart: entry `[b, i]` is
# $-\log P(\text{token } i + 1 \mid \text{tokens } 0, \dots, i)$, in nats.
#
# <details><summary>Hint 1</summary>
# Logits at position i are about token i + 1; the last position has nothing to be compared with.
# </details>
# <details><summary>Hint 2</summary>
# <code>log_softmax(-1)</code>, then pick the entry of the right token with <code>gather(-1, tokens[:, 1:, None])</code>.
# </details>

# %% exercise="per_token_loss"
def per_token_loss(
    model: Transformer, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos-1"]:
    """The loss of predicting each next token, in nats."""
    ### BEGIN SOLUTION
    log_probs = model(tokens).log_softmax(-1)
    return -log_probs[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]
    ### END SOLUTION

# %% check="per_token_loss"
check("per_token_loss")

# %% [markdown]
# Tokens drawn with equal chances look like no text at all: most are rare, and models are badly surprised. So draw *places in the
# training text*, and take the tokens that stand there: random in order, natural in frequency.

# %%
length = 64
places = repeated_tokens(len(corpus.train), 16, length, torch.Generator().manual_seed(0))
repeated = corpus.train[places]
uniform = repeated_tokens(d_vocab, 16, length, torch.Generator().manual_seed(0))

by_layers = {"zero layers": zero, "one layer": one, "two layers": two}
left, right = plots.axes(2, size=(5.8, 3.6))
for ax, tokens, title in (
    (left, repeated, "Tokens as frequent as in text"), (right, uniform, "All tokens equally likely")
):
    series = {}
    for name, model in by_layers.items():
        losses = per_token_loss(model, tokens)
        series[name] = (list(range(1, 2 * length)), losses.mean(0).tolist())
        print(
            f"{title:<30} {name:<12} first copy {losses[:, : length - 1].mean():5.2f}, "
            f"second {losses[:, length:].mean():5.2f} nats per token"
        )
    plots.lines(series, title, "position of the token predicted", "loss (nats per token)", ax=ax)
    ax.axvline(length, color=plots.INK, ls=":", lw=1)

# %% [markdown]
# **What to see here.** Two layers fall off a cliff where the second copy begins (dotted); zero and one layer
# hardly notice it. No model has ever seen these sequences: this is not memory of the training text, it is a procedure.
#
# On a first copy every model is worse than a uniform guess, which costs $\log 2048 \approx 7.6$ nats: each is sure of what follows in
# real text, and here that does not follow. Both models with attention are worse there than the one without, which has learned less to
# be sure of. (Which of those two is worse depends on the tokens: compare the panels.)

# %% [markdown]
# ## In-context learning
#
# On real text the effect is spread out: the more a model has read, the more there is to look up. The *in-context-learning score* says how
# much easier late tokens are than early ones. With $\ell_i$ the mean loss at position $i$:
#
# $$\text{score} = \operatorname*{mean}_{i \in \text{late}} \ell_i - \operatorname*{mean}_{i \in \text{early}} \ell_i \qquad \text{(nats; below 0 is learning)}$$
#
# *In-context Learning and Induction Heads* takes tokens 50 and 500. Our contexts have 256 tokens and our samples are smaller, so
# we average over two stretches.

# %% [markdown]
# ### Exercise · the in-context-learning score    ●○○   3 min
#
# `early` and `late` are (first, one past the last) positions of `losses`, as in a slice.
#
# <details><summary>Hint 1</summary>
# <code>losses[:, early[0]:early[1]]</code> are the early ones, of all texts.
# </details>
# <details><summary>Hint 2</summary>
# Late minus early, so that learning gives a negative score.
# </details>

# %% exercise="in_context_learning_score"
def in_context_learning_score(
    losses: Float[Tensor, "batch pos"], early: tuple[int, int], late: tuple[int, int]
) -> Float[Tensor, ""]:
    """Mean loss of the late positions minus that of the early ones, in nats."""
    ### BEGIN SOLUTION
    return losses[:, late[0] : late[1]].mean() - losses[:, early[0] : early[1]].mean()
    ### END SOLUTION

# %% check="in_context_learning_score"
check("in_context_learning_score")

# %%
EARLY, LATE = (25, 51), (229, 255)
windows = corpus.heldout_windows(96)  # the same pieces of held-out text for every model
on_text = {
    name: torch.cat([per_token_loss(m, part) for part in windows.split(16)])
    for name, m in waiting(by_layers.items(), "Losses of three models on held-out text")
}


def smooth(by_position: Tensor, width: int = 17) -> list[float]:
    """A running mean, so that 96 windows make a readable line."""
    return F.avg_pool1d(by_position[None], width, stride=1)[0].tolist()


left, right = plots.axes(2, size=(5.8, 3.6))
series = {name: (list(range(8, 247)), smooth(losses.mean(0))) for name, losses in on_text.items()}
plots.lines(
    series, "Loss by position on held-out Python", "position", "loss (nats, running mean of 17)",
    ax=left
)
base = on_text["zero layers"].mean(0)
gain = {
    name: (list(range(8, 247)), smooth(losses.mean(0) - base)) for name, losses in on_text.items()
}
plots.lines(
    gain, "The same, minus the zero-layer model's", "position", "difference (nats)", ax=right
)

icl = {
    name: float(in_context_learning_score(losses, EARLY, LATE)) for name, losses in on_text.items()
}
for name, score in icl.items():
    print(
        f"{name:<12} score {score:+.3f} nats; beyond the zero-layer model "
        f"{score - icl['zero layers']:+.3f}"
    )

# %% [markdown]
# **What to see here.** The upper curves rise and fall together: some windows are harder here than there, and even the zero-layer model, which
# cannot use context at all, has a score other than 0. So compare on the *same* windows, and subtract it. Then one layer
# gains a little from reading on, two layers gain much more, and keep gaining.

# %% [markdown]
# ## Three scores for a head
#
# Which heads are at work? On repeated tokens of period $L$, look at what a head's pattern $A$ `[dest src]` does, on average:
#
# | kind | looks from $d$ at | averaged over $d$ |
# |---|---|---|
# | previous token | $d - 1$ | $1, \dots, 2L - 1$ |
# | duplicate token | $d - L$, where the same token stands | the second copy, $L, \dots, 2L - 1$ |
# | induction | $d - L + 1$, the token *after* it | the second copy |
#
# Each is a stripe parallel to the diagonal.

# %% [markdown]
# ### Exercise · the previous-token score    ●○○   3 min
#
# Return one number per head, averaged over the batch and the positions of the table.
#
# <details><summary>Hint 1</summary>
# <code>pattern.diagonal(-1, dim1=-2, dim2=-1)</code> is the stripe just below the diagonal, <code>[batch n_heads pos-1]</code>.
# </details>
# <details><summary>Hint 2</summary>
# Average over the batch and along the stripe, but not over the heads.
# </details>

# %% exercise="previous_token_score"
def previous_token_score(
    pattern: Float[Tensor, "batch n_heads dest src"]
) -> Float[Tensor, "n_heads"] | list[float]:
    """Mean attention weight that each head gives to the token before."""
    ### BEGIN SOLUTION
    return pattern.diagonal(-1, dim1=-2, dim2=-1).mean((0, -1))
    ### END SOLUTION

# %% check="previous_token_score"
check("previous_token_score")

# %% [markdown]
# ### Exercise · the duplicate-token score    ●○○   3 min
#
# Return one number per head: the mean weight from the tokens of the second copy to the same token in the first. `length` is $L$.
#
# <details><summary>Hint 1</summary>
# The same token stands <code>length</code> positions back.
# </details>
# <details><summary>Hint 2</summary>
# The stripe <code>-length</code> begins at the first token of the second copy. That is where you want to begin.
# </details>

# %% exercise="duplicate_token_score"
def duplicate_token_score(
    pattern: Float[Tensor, "batch n_heads dest src"], length: int
) -> Float[Tensor, "n_heads"] | list[float]:
    """Mean weight from each token of the second copy to the same token in the first."""
    ### BEGIN SOLUTION
    return pattern.diagonal(-length, dim1=-2, dim2=-1).mean((0, -1))
    ### END SOLUTION

# %% check="duplicate_token_score"
check("duplicate_token_score")

# %% [markdown]
# ### Exercise · the induction score    ●●○   4 min
#
# Return one number per head: the mean weight from the tokens of the second copy to the one *after* the same token in the first. Take care where the
# stripe begins: a token of the *first* copy has nothing to look back to.
#
# <details><summary>Hint 1</summary>
# From <code>d</code> to <code>d - length + 1</code> is <code>length - 1</code> back.
# </details>
# <details><summary>Hint 2</summary>
# The stripe <code>-(length - 1)</code> has <code>length + 1</code> entries. The first belongs to the last token of the first copy:
# leave it out.
# </details>

# %% exercise="induction_score"
def induction_score(
    pattern: Float[Tensor, "batch n_heads dest src"], length: int
) -> Float[Tensor, "n_heads"] | list[float]:
    """Mean weight from each token of the second copy to the one after its first occurrence."""
    ### BEGIN SOLUTION
    stripe = pattern.diagonal(-(length - 1), dim1=-2, dim2=-1)
    return stripe[..., 1:].mean((0, -1))
    ### END SOLUTION

# %% check="induction_score"
check("induction_score")

# %%
def patterns_of(model: Transformer, tokens: Tensor) -> list[Tensor]:
    """The patterns [batch n_heads dest src] of every layer."""
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("pattern"))
    return [cache["pattern", layer] for layer in range(model.cfg.n_layers)]


def head_scores(model: Transformer, tokens: Tensor) -> dict[str, Tensor]:
    """Each score for all heads, [n_layers n_heads]."""
    patterns, length = patterns_of(model, tokens), tokens.shape[1] // 2
    return {
        "previous": torch.stack([torch.as_tensor(previous_token_score(p)) for p in patterns]),
        "duplicate": torch.stack(
            [torch.as_tensor(duplicate_token_score(p, length)) for p in patterns]
        ),
        "induction": torch.stack([torch.as_tensor(induction_score(p, length)) for p in patterns]),
    }


panels = plots.axes(3, size=(4.3, 2.4))
for ax, (kind, values) in zip(panels, head_scores(two, repeated).items(), strict=True):
    heads, layers = [
        str(h) for h in range(values.shape[1])
    ], [str(i) for i in range(values.shape[0])]
    title = "Induction score" if kind == "induction" else f"{kind.capitalize()}-token score"
    plots.matrix(values, layers, heads, title, "head", "layer", "weight", ax=ax, limit=1)

# %% [markdown]
# **What to see here.** The clearest previous-token head is in layer 0, the induction heads are in layer 1. Nothing looks at duplicates, so
# the model did not choose pointer arithmetic. That is a first hint at *which* composition it uses.

# %% [markdown]
# ### Exercise · find the heads    ●●○   7 min
#
# Write down once and for all what "find" means here: return every head, as a pair `(layer, head)`, whose mean weight is above **0.4**.
# `kind` is `"previous"`, `"duplicate"` or `"induction"`; `tokens` is a batch of repeated sequences, both copies. The check has other models, too.
#
# <details><summary>Hint 1</summary>
# <code>_, cache = model.run_with_cache(tokens)</code>; <code>cache["pattern", layer]</code> has the patterns of a layer.
# </details>
# <details><summary>Hint 2</summary>
# How far back each kind looks: 1, L, L - 1. The mean is over d from 1 for the first kind, from L for the others.
# </details>
# <details><summary>Hint 3</summary>
# The number of layers is <code>model.cfg.n_layers</code>. For one layer,
# <code>cache["pattern", layer].diagonal(-back, dim1=-2, dim2=-1)</code>, cut to the right positions, then a mean per head.
# </details>

# %% exercise="find_heads"
def find_heads(
    model: Transformer, tokens: Int[Tensor, "batch pos"], kind: str
) -> list[tuple[int, int]]:
    """The heads (layer, head) that give more than 0.4 of their attention to what `kind` says."""
    ### BEGIN SOLUTION
    length = tokens.shape[1] // 2
    back = {"previous": 1, "duplicate": length, "induction": length - 1}[kind]
    skip = 1 if kind == "induction" else 0
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("pattern"))
    found = []
    for layer in range(model.cfg.n_layers):
        stripe = cache["pattern", layer].diagonal(-back, dim1=-2, dim2=-1)[..., skip:]
        scores = stripe.mean((0, -1)).tolist()
        found += [(layer, head) for head, score in enumerate(scores) if score > 0.4]
    return found
    ### END SOLUTION

# %% check="find_heads"
check("find_heads")

# %%
for name, model in (("one layer", one), ("two layers", two)):
    for kind in ("previous", "duplicate", "induction"):
        found = [plots.head_name(*map(int, head)) for head in find_heads(model, repeated, kind)]
        print(f"{name:<11} {kind:<10} {', '.join(found) or '-'}")

# %% [markdown]
# **What to see here.** One layer can look back, by position. To look up what followed takes two, and in this model the heads that do it are all in the second.

# %% [markdown]
# ## On real code
#
# Random tokens are a test, not the use. Here is a piece of a program in which names come back. The first cell loads the figures' own
# script, once for the whole notebook (without network; a picture stands in where scripts are not allowed).

# %%
interactive.load_circuitsvis()

# %%
code = """class Matrix:
    def __init__(self, rows, columns):
        self.rows = rows
        self.columns = columns

    def size(self):
        return self.rows * self."""
code_tokens = two.to_tokens(code)
code_words = two.to_str_tokens(code)
found = {
    kind: [tuple(map(int, h)) for h in find_heads(two, repeated, kind)]
    for kind in ("previous", "induction")
}
shown = found["previous"] + found["induction"]
patterns = patterns_of(two, code_tokens)
interactive.attention(
    code_words,
    torch.stack([patterns[layer][0, head] for layer, head in shown]),
    [plots.head_name(*h) for h in shown],
    "Heads of the two-layer model on code",
)

# %% [markdown]
# **What to see here.** The previous-token head is a stripe. Choose an induction head and point at the last `.`: its largest weight is on a token that
# came after an earlier `self.`, by far in one of them, by a hair in the other. How strict are these heads? Count, over all tokens of this text that have come before:

# %%
ids = code_tokens[0].tolist()
# one past each earlier occurrence
after_same = [[s + 1 for s in range(d) if ids[s] == ids[d]] for d in range(len(ids))]
seen = [d for d, places in enumerate(after_same) if places]
new = [d for d, places in enumerate(after_same) if not places and d > 0]
for layer, h in found["induction"]:
    pattern = patterns[layer][0, h]
    most = sum(int(pattern[d].argmax()) in after_same[d] for d in seen)
    weight = sum(pattern[d, after_same[d]].sum().item() for d in seen) / len(seen)
    print(
        f"{plots.head_name(layer, h)}, tokens that came before: looks most at one past an earlier "
        f"occurrence {most} times of {len(seen)}, "
        f"weight there {weight:.2f}, on the start {pattern[seen, 0].mean():.2f}; new tokens: "
        f"weight on the start {pattern[new, 0].mean():.2f}"
    )

# %% [markdown]
# **What to see here.** On real code induction is a tendency, not a law: one past an earlier occurrence is the usual place, not the only
# one. At a new token there is nothing to find, and weights add up to 1 all the same; more of them go to the start then.

# %%
def top(logits: Tensor, k: int = 6) -> str:
    """The likeliest next tokens with their probabilities."""
    probs = logits.softmax(-1)
    return "  ".join(
        f"{plots.token_name(two, i)} {probs[i]:.0%}" for i in probs.topk(k).indices.tolist()
    )


for name, model in by_layers.items():
    print(
        f"{name:<12} continues `return self.rows * self.` with   {top(model(code_tokens)[0, -1])}"
    )

# %% [markdown]
# **What to see here.** Without a layer that looks things up, the models offer what often follows a `.` in Python. Two layers offer
# what followed `self.` in *this* text: the names `rows` and `columns`, of which the tokenizer makes pieces such as `row` and `col`.

# %% [markdown]
# ## Watch it form
#
# How does a circuit of two parts come into being, when neither is of use without the other? Train small models and
# look. First, commit: what will a model with **one** layer show?

# %% [markdown]
# ### Exercise · predict: what one layer will show    ●○○   4 min
#
# A one-layer model was trained on the same text for as long as it liked. For each claim, say whether it holds. The check measures the shipped
# one-layer model.
#
# | `claim` | what it says |
# |---|---|
# | `"previous"` | some head gives the previous token more than 0.3 of its attention, on average |
# | `"induction"` | some head gives the token after an earlier occurrence more than 0.3 |
# | `"copying"` | some head's OV circuit copies: the eigenvalues of $W_E W_V W_O W_U$ have $\sum\lambda / \sum|\lambda| > 0.7$ (random matrices: about 0) |
# | `"second copy"` | on repeated random tokens, the second copy costs at least 1 nat per token less than the first |
#
# <details><summary>Hint 1</summary>
# <code>tokens_behind_score</code> tells you what a head of one layer can and cannot look for.
# </details>
# <details><summary>Hint 2</summary>
# A head may look by position alone, and may raise whatever token it sees. For the second copy it takes more: a look at the
# right place.
# </details>

# %% exercise="one_layer_shows"
def one_layer_shows(claim: str) -> bool:
    """Whether a claim holds for a trained model with one attention layer."""
    ### BEGIN SOLUTION
    return {"previous": True, "induction": False, "copying": True, "second copy": False}[claim]
    ### END SOLUTION

# %% check="one_layer_shows"
check("one_layer_shows")

# %% [markdown]
# Now the toy: 64 symbols, random sequences with a random period that fill a context of 64. Two layers, then one. Three levels to compare
# with: *chance*; what a model reaches that knows nothing of order, and says that one of the symbols *seen so far* comes next, as surely
# as the period allows; and *perfect induction*, which pays chance for one period and nothing from then on.

# %%
def repeating(batch: int, n_ctx: int, d_vocab: int, generator: torch.Generator) -> Tensor:
    """Random sequences, each repeated with a period of its own, from 8 to 32."""
    period = torch.randint(8, 33, (batch, 1), generator=generator)
    symbols = torch.randint(d_vocab, (batch, n_ctx), generator=generator)
    return symbols.gather(1, torch.arange(n_ctx) % period)


def toy_levels(samples: int = 2_000) -> dict[str, float]:
    """Mean losses (nats per token) of three ways to predict such sequences."""
    tokens = repeating(samples, 64, 64, torch.Generator().manual_seed(1))
    # [sample, position, symbol]: has it come up to here?
    seen = F.one_hot(tokens, 64).cumsum(1)[:, :-1] > 0
    among = seen.gather(-1, tokens[:, 1:, None])[..., 0] / seen.sum(-1)
    position = torch.arange(1, 64)
    over = ((position - 7) / 25).clamp(0, 1)  # how likely the period, 8 to 32, is over there
    chance = torch.tensor(64.0).log().item()
    return {
        "chance, log 64": chance,
        "one of those seen": -(over * among + (1 - over) / 64).log().mean().item(),
        "perfect induction": chance * 20 / 63,  # 20 is the mean period
    }


levels = toy_levels()


def train_toy(n_layers: int, steps: int = 1_000) -> list[tuple[int, float]]:
    """Train on repeating sequences; the (step, loss) of every step."""
    torch.manual_seed(0)
    model = Transformer(
        Config(
            d_vocab=64, d_model=64, n_layers=n_layers, n_heads=4, d_head=16, n_ctx=64,
            init_range=0.2
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator, losses = torch.Generator().manual_seed(0), []
    live = interactive.LiveCurve(
        f"Toy, {n_layers} layer{'s' * (n_layers > 1)}", "training loss (nats per token)",
        levels=levels,
        frame=(0, live_steps(steps), 0, 5),  # the same for both models
    )
    try:
        for step in waiting(range(live_steps(steps)), "Training the toy"):
            tokens = repeating(32, 64, 64, generator)
            loss = next_token_loss(model(tokens), tokens)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append((step, loss.item()))
            live.add(step, loss.item())
    except KeyboardInterrupt:
        print(f"Stopped after {len(losses)} steps; the curve so far stays.")
    live.close()
    return losses


threads = torch.get_num_threads()
torch.set_num_threads(1)  # so small a model runs faster on one
toy = {n_layers: train_toy(n_layers) for n_layers in (2, 1)}
torch.set_num_threads(threads)

# %% [markdown]
# **What to see here.** Both models first learn, slowly, that symbols seen before come again. With one layer that is all: the curve flattens
# out towards the level of "one of those seen", and stays above it. With two it looks the same for some hundred steps, and then drops
# through that level, most of the way to perfect induction. Nothing in the data changed at the drop. Something in the model did.

# %% [markdown]
# ### Exercise · the step of the phase change    ●●○   7 min
#
# Put a number on it. A curve is a list of (step, value) at even distances, with noise. Return the step at which it falls most steeply, where
# steepness is judged over a stretch of about a twentieth of the curve: the *middle* of the fall, to within a fiftieth of the curve. A long,
# gentle slope may lower the value more in total: it is not what we look for. Nor is a rise, however steep.
#
# <details><summary>Hint 1</summary>
# Neighbouring points differ mostly by noise. Compare the mean of the k points before a place with the mean of the k points
# after it.
# </details>
# <details><summary>Hint 2</summary>
# k = a twentieth of the number of points, but at least 2. The largest difference wins.
# </details>
# <details><summary>Hint 3</summary>
# Return the step, the first number of the pair, not its index in the list.
# </details>

# %% exercise="phase_change_step"
def phase_change_step(curve: list[tuple[int, float]]) -> int:
    """The step at which a noisy curve falls most steeply."""
    ### BEGIN SOLUTION
    steps = [step for step, _ in curve]
    values = torch.tensor([value for _, value in curve], dtype=torch.float64)
    k = max(2, len(values) // 20)
    falls = [
        values[i - k : i].mean() - values[i : i + k].mean() for i in range(k, len(values) - k + 1)
    ]
    return steps[k + int(torch.stack(falls).argmax())]
    ### END SOLUTION

# %% check="phase_change_step"
check("phase_change_step")

# %%
if len(toy[2]) > 100:
    print(f"The toy's phase change: step {int(phase_change_step(toy[2]))} of {len(toy[2])}")
    for n_layers, losses in toy.items():
        late = [loss for _, loss in losses[-100:]]
        print(
            f"{n_layers} layer(s), mean loss of the last 100 steps {sum(late) / len(late):.2f}; "
            f"'one of those seen' {levels['one of those seen']:.2f}"
        )

# %% [markdown]
# ## The real one
#
# The same, on Python's own library: two layers, 128 dimensions, eight heads a layer, from random weights, until its induction heads have
# formed. The four curves are measured on held-out text and on repeated random tokens. While you wait: which of
# the two must come first, previous-token or induction, and why?
#
# You may interrupt (■). What was trained stays, and running the second cell again goes on from there.

# %%
training = Training(LIVE, corpus)

# %%
FORMED = 0.4  # mean weight of the best head on what followed last time


def formed(curves: dict[str, list]) -> bool:
    return max(score for layer in curves["induction_score"][-1] for score in layer) > FORMED


most = live_steps(LIVE_STEPS)
view = interactive.LiveTraining(training, "A two-layer transformer learns Python", at_most=most)
try:
    for loss in training:
        view.update(loss)
        if formed(training.curves) or training.step >= most:
            break
except KeyboardInterrupt:
    print(f"Stopped at step {training.step:,}; nothing is lost. Run this cell again to go on.")
view.close()
mine = copy.deepcopy(training.model).requires_grad_(False)

# %% [markdown]
# **What to see here.** The previous-token score climbs slowly: such a head pays by itself, as the last two tokens tell more than the last. The
# induction score stays near 0, then shoots up, once there is something for it to build on; with it the in-context-learning score falls.

# %%
def half_way(steps: list[int], values: list[float]) -> int:
    """The first step at which a rising curve has reached half of its final value."""
    return next(step for step, value in zip(steps, values, strict=True) if value >= values[-1] / 2)


for name, record in (("shipped", curves), ("yours", training.curves)):
    best_scores = {
        k: torch.tensor(record[f"{k}_score"]).flatten(1).amax(1).tolist() for k in scores
    }
    second = [
        b - a for a,
        b in zip(record["repeated_first_loss"], record["repeated_second_loss"], strict=True)
    ]
    early = [i for i, step in enumerate(record["step"]) if step <= 2_000]
    if len(early) < 8:
        print(f"{name}: too short a training to tell")
        continue
    change = phase_change_step([(record["step"][i], second[i]) for i in early])
    print(
        f"{name:<8} half of the final weight: previous token at step "
        f"{half_way(record['step'], best_scores['previous_token']):,}, induction at step "
        f"{half_way(record['step'], best_scores['induction']):,}; "
        f"second copy becomes cheaper than the first most steeply at step {int(change):,}"
    )

# %% [markdown]
# ## Your model or ours
#
# From here on the chapter takes a model apart. By default it is the shipped one, which trained for longer and is cleaner. Change
# one word to take your own: the code below finds the heads of either. What the sentences say is to be seen was seen on the
# shipped one; on yours, look for the same and expect it fainter.

# %%
TAKE = "shipped"  # or "mine"

model = mine if TAKE == "mine" else two
n_heads = model.cfg.n_heads
score = head_scores(model, repeated)
previous_heads = score["previous"][0].argsort(descending=True).tolist()  # of layer 0, best first
induction_heads = score["induction"][1].argsort(descending=True).tolist()  # of layer 1, best first
prev_head, ind_head = previous_heads[0], induction_heads[0]
print(
    f"best previous-token head {plots.head_name(0, prev_head)} ("
    f"{score['previous'][0, prev_head]:.2f}), ",
    end=""
)
print(
    f"best induction heads {plots.head_name(1, ind_head)} ({score['induction'][1, ind_head]:.2f})",
    end=" and "
)
print(f"{plots.head_name(1, induction_heads[1])} ({score['induction'][1, induction_heads[1]]:.2f})")

# %% [markdown]
# ## Who reads whom
#
# Can you see the composition without running the model? Head $i$ of layer 0 writes through its OV circuit
# $W_{OV}^i = W_V W_O$; head $j$ of layer 1 reads through its own matrices. If a reader is tuned to what a writer writes, their product is large for
# its factors' sizes:
#
# $$\text{score}(A, B) = \frac{\lVert A B \rVert}{\lVert A \rVert\, \lVert B \rVert} \qquad \lVert M \rVert = \sqrt{\textstyle\sum_{ab} M_{ab}^2}$$
#
# with $A$ the writer's $W_{OV}$, and $B$, both `[d_model d_model]`, what the reader does with it: $W_Q W_K^\top$ where it enters the query, $W_K W_Q^\top$ where it
# enters the key, $W_V W_O$ where it enters the value.

# %% [markdown]
# ### Exercise · the composition score    ●○○   1 min
#
# Return this score of a writer `W_A` and a reader `W_B`, one number. **You have this**: it is the strength of a wire of chapter 0,
# `read_strength`, under the name that the paper gives it. Bring your answer along.
#
# <details><summary>Hint 1</summary>
# <code>torch.linalg.matrix_norm(M)</code>, or <code>M.norm()</code>, is the Frobenius norm.
# </details>
# <details><summary>Hint 2</summary>
# Row vectors meet the writer first: <code>x @ A @ B</code>.
# </details>

# %% exercise="composition_score"
def composition_score(
    W_A: Float[Tensor, "d_model d_model"], W_B: Float[Tensor, "d_model d_model"]
) -> Float[Tensor, ""]:
    """How much of what W_A writes W_B reads, between 0 and 1."""
    ### BEGIN SOLUTION
    return (W_A @ W_B).norm() / (W_A.norm() * W_B.norm())
    ### END SOLUTION

# %% check="composition_score"
check("composition_score")

# %%
generator = torch.Generator().manual_seed(0)
print("d_model   random heads score   1 / sqrt(d_model)")
for d in (64, 256, 1024):
    values = []
    for _ in range(10):
        a, b, c, e = (torch.randn(d, 32, generator=generator) for _ in range(4))
        values.append(float(composition_score(a @ b.T, c @ e.T)))
    print(f"{d:7}   {sum(values) / 10:18.4f}   {d**-0.5:17.4f}")

# %% [markdown]
# Even heads that have nothing to do with each other score $1 / \sqrt{d_\text{model}}$: the "strangers" of chapter 0. That is the baseline
# to subtract. (The ceiling is far below 1, as you saw there: about $1/\sqrt{32}$ for heads of 32 dimensions.)

# %% [markdown]
# ## All pairs, quickly
#
# A model has `n_heads × n_heads` pairs and three ways to compose. Each product above multiplies two `[d_model d_model]`
# matrices, of rank $r$ = `d_head` only. Never build them. With $A = A_1 A_2$ (`[d r]` and `[r d]`) and $B = B_1 B_2$:
#
# $$\lVert A_1 A_2 \rVert^2 = \sum_{kl} (A_1^\top A_1)_{kl}\, (A_2 A_2^\top)_{kl}, \qquad
# \lVert A_1 M B_2 \rVert^2 = \sum_{kl} (A_1^\top A_1 M)_{kl}\, (M B_2 B_2^\top)_{kl}, \quad M = A_2 B_1$$
#
# Every matrix on the right-hand sides is `[r r]`.

# %% [markdown]
# ### Exercise · composition scores of all pairs    ●●●   12 min
#
# Return the table of scores for one `kind`: `"Q"`, `"K"` or `"V"`. Entry `[i, j]` is for head i of layer 0 and head j of layer 1, **minus the
# baseline** $1/\sqrt{d_\text{model}}$. One check has a model with 2,048 dimensions,
# which only the factors get through in time.
#
# <details><summary>Hint 1</summary>
# Factors of the reader: <code>"V"</code> W_V and W_O; <code>"Q"</code> W_Q and W_Kᵀ; <code>"K"</code> W_K and W_Qᵀ, all of layer 1. Get it
# right for one pair first.
# </details>
# <details><summary>Hint 2</summary>
# A loop over pairs is quick enough if nothing in it is <code>[d_model d_model]</code>. For a pair:
# <code>M = W_O[i] @ B1[j]</code>, <code>G = W_V[i].T @ W_V[i]</code>, <code>H = B2[j] @ B2[j].T</code>.
# </details>
# <details><summary>Hint 3</summary>
# The squared norm of the product is <code>((G @ M) * (M @ H)).sum()</code>; those of A and B are
# <code>(G * (W_O[i] @ W_O[i].T)).sum()</code> and <code>((B1[j].T @ B1[j]) * H).sum()</code>.
# </details>

# %% exercise="composition_scores"
def composition_scores(model: Transformer, kind: str) -> Float[Tensor, "n_heads n_heads"]:
    """Score of each head of layer 0 with the "Q", "K" or "V" input of each head of layer 1, minus
    that of random heads."""
    ### BEGIN SOLUTION
    A1, A2 = model.W_V[0], model.W_O[0]  # [n_heads d_model r], [n_heads r d_model]
    B1 = {"Q": model.W_Q[1], "K": model.W_K[1], "V": model.W_V[1]}[kind]
    B2 = {"Q": model.W_K[1].mT, "K": model.W_Q[1].mT, "V": model.W_O[1]}[kind]
    G, H = A1.mT @ A1, B2 @ B2.mT  # [n_heads r r]
    M = einsum(A2, B1, "i r d, j d s -> i j r s")
    product = ((G[:, None] @ M) * (M @ H)).sum((-1, -2))
    norm_A = (G * (A2 @ A2.mT)).sum((-1, -2))
    norm_B = ((B1.mT @ B1) * H).sum((-1, -2))
    return (product / (norm_A[:, None] * norm_B)).sqrt() - model.cfg.d_model**-0.5
    ### END SOLUTION

# %% check="composition_scores"
check("composition_scores")

# %%
def naive_scores(model: Transformer, kind: str) -> Tensor:
    """The definition, with full matrices."""
    OV, QK = model.W_V @ model.W_O, model.W_Q[1] @ model.W_K[1].mT
    reads = {"Q": QK, "K": QK.mT, "V": OV[1]}[kind]
    rows = [[float(composition_score(A, B)) for B in reads] for A in OV[0]]
    return torch.tensor(rows) - model.cfg.d_model**-0.5


def best_time(run, *args) -> float:
    """Seconds of the quickest of five runs."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        run(*args)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


slow, fast = best_time(naive_scores, model, "K"), best_time(composition_scores, model, "K")
apart = (naive_scores(model, "K") - composition_scores(model, "K")).abs().max()
print(
    f"full matrices {1000 * slow:.1f} ms, through the factors {1000 * fast:.1f} ms: "
    f"{slow / fast:.0f} times as fast; they differ by {apart:.0e}"
)

composition = {kind: torch.as_tensor(composition_scores(model, kind)) for kind in "QKV"}
panels = plots.axes(3, size=(4.4, 3.6))
numbers = [str(h) for h in range(n_heads)]
# one colour scale for all
largest = max(values.abs().max().item() for values in composition.values())
for ax, (kind, values) in zip(panels, composition.items(), strict=True):
    title = f"{kind}-composition"
    plots.matrix(
        values, numbers, numbers, title, "head of layer 1", "head of layer 0", "score - baseline",
        ax=ax, limit=largest
    )
for pair in composition["K"].flatten().topk(3).indices.tolist():
    i, j = divmod(pair, n_heads)
    print(
        f"K-composition {plots.head_name(0, i)} → {plots.head_name(1, j)}: "
        f"{composition['K'][i, j]:+.3f} over {model.cfg.d_model**-0.5:.4f}. "
        f"Weights: {plots.head_name(0, i)} previous token {score['previous'][0, i]:.2f}, "
        f"{plots.head_name(1, j)} induction {score['induction'][1, j]:.2f}"
    )

# %% [markdown]
# **What to see here.** The strongest colour of all three panels is in that of the keys, and its cells lead to the induction heads: from the previous-token head, and from
# one that gives the token before a smaller part of its attention. (The weights printed beside them are from behaviour; the scores are not.) You have found the circuit
# without running the model once. Training chose the keys.
#
# Fainter, but above the baseline: in the panels for queries and values, the same two heads read head 0.6. That is not this circuit.
# Keep it in mind.

# %% [markdown]
# ## What the keys match
#
# A large score says *that* a head reads another, not *what*. Write out the term. The key of head $j$ at position $s$
# contains what head $i$ wrote there, which came from the token before it. So between a present token $a$ and a token $b$ *before* the source stands
#
# $$C[a, b] = \left(W_E\, W_Q^j\right)_a \left(W_E\, W_V^i W_O^i\, W_K^j\right)_b^\top \qquad C \in \mathbb{R}^{d_\text{vocab} \times d_\text{vocab}}$$
#
# If this is an induction circuit, then "look at what follows a token **like me**": the largest entry of row $a$ should be in column $a$.

# %% [markdown]
# ### Exercise · the composed QK circuit    ●●○   6 min
#
# Return $C$. Head `prev_head` ($i$) is in layer 0, `ind_head` ($j$) in layer 1. Leave out the factor $1/\sqrt{d_\text{head}}$.
#
# <details><summary>Hint 1</summary>
# Two thin matrices <code>[d_vocab d_head]</code>: queries of all tokens, and keys of all tokens as the earlier head passes them on.
# </details>
# <details><summary>Hint 2</summary>
# <code>W_E @ W_V @ W_O</code> of the earlier head, then <code>@ W_K</code> of the later one. The query side does not go through
# the earlier head.
# </details>

# %% exercise="composed_qk"
def composed_qk(
    model: Transformer, prev_head: int, ind_head: int
) -> Float[Tensor, "d_vocab d_vocab"]:
    """Entry [a, b]: how much head ind_head of layer 1, on token a, likes a position to which head
    prev_head of layer 0 has moved token b."""
    ### BEGIN SOLUTION
    queries = model.W_E @ model.W_Q[1, ind_head]
    keys = model.W_E @ model.W_V[0, prev_head] @ model.W_O[0, prev_head] @ model.W_K[1, ind_head]
    return queries @ keys.T
    ### END SOLUTION

# %% check="composed_qk"
check("composed_qk")

# %%
composed = composed_qk(model, prev_head, ind_head)
direct = model.W_E @ model.W_Q[1, ind_head] @ (model.W_E @ model.W_K[1, ind_head]).T
by_frequency = corpus.train.bincount(minlength=d_vocab).argsort(descending=True)
# the commonest that are not blank
common = [i for i in by_frequency.tolist() if two.to_string(i).strip()][:28]
names = [two.to_string(i) for i in common]
left, right = plots.axes(2, size=(6.2, 5.2))
largest = composed[common][:, common].abs().max().item()  # one colour scale for both
for ax, values, title in (
    (left, composed, "through the previous-token head"), (right, direct, "directly")
):
    plots.matrix(
        values[common][:, common], names, names, f"QK, {title}", "token b", "present token a",
        "score × √d_head", ax=ax, limit=largest
    )


def on_diagonal(circuit: Tensor) -> float:
    """The share of tokens a for which entry [a, a] is the largest of its row."""
    return (circuit.argmax(-1) == torch.arange(len(circuit))).float().mean().item()


print(
    f"Tokens whose best match is the token itself: {on_diagonal(composed):.1%} through the "
    "previous-token head, ",
    end=""
)
print(f"{on_diagonal(direct):.1%} directly; by chance {1 / d_vocab:.2%}")

# %% [markdown]
# **What to see here.** Above, a diagonal: the keys carry the name of the token before, and the query asks for its own. Among these common tokens it is easy
# to see; among all tokens the best match is the token itself for the share printed above, many times chance and far from all. Below, the same head without its
# partner: no diagonal.

# %% [markdown]
# ## Copying and matching in one plot
#
# Two matrices `[d_vocab d_vocab]` make an induction head: the composed QK circuit, which should match *the same* token, and its OV circuit $W_E W_V W_O W_U$, which should *copy*. Both say "like to like",
# and for both the eigenvalues tell: a matrix that maps directions to themselves has eigenvalues with positive real parts.
#
# They have rank $r$ = `d_head` at most. A product $L R$ of `[n r]` and `[r n]` has the same non-zero eigenvalues as $R L$, which is only `[r r]`: if $L R v = \lambda v$, then $R L (R v) = \lambda (R v)$.

# %% [markdown]
# ### Exercise · eigenvalues through the small product    ●●○   2 min
#
# **You have this**, too: it is `product_eigenvalues` of chapter 2. Return the r eigenvalues of `left @ right` that can be other than 0, complex, in any order. One check has a vocabulary so large that `left @ right` itself
# is out of reach.
#
# <details><summary>Hint 1</summary>
# Which order of the two factors gives a matrix <code>[r r]</code>?
# </details>
# <details><summary>Hint 2</summary>
# <code>torch.linalg.eigvals(M)</code>. It returns complex numbers: leave them so.
# </details>

# %% exercise="circuit_eigenvalues"
def circuit_eigenvalues(
    left: Float[Tensor, "n r"], right: Float[Tensor, "r n"]
) -> Complex[Tensor, "r"]:
    """The eigenvalues of left @ right that can be other than 0."""
    ### BEGIN SOLUTION
    return torch.linalg.eigvals(right @ left)
    ### END SOLUTION

# %% check="circuit_eigenvalues"
check("circuit_eigenvalues")

# %%
def eigenvalue_score(values: Tensor) -> float:
    """Sum over sum of sizes: 1 if all are positive, about 0 for a random circuit."""
    return (values.sum().real / values.abs().sum()).item()


def matching(i: int, j: int) -> Tensor:
    """Eigenvalues of the QK circuit of head 1.j through head 0.i."""
    keys = model.W_E @ model.W_V[0, i] @ model.W_O[0, i] @ model.W_K[1, j]
    return circuit_eigenvalues(model.W_E @ model.W_Q[1, j], keys.T)


def copying(j: int) -> Tensor:
    """Eigenvalues of the full OV circuit of head 1.j."""
    return circuit_eigenvalues(model.W_E @ model.W_V[1, j], model.W_O[1, j] @ model.W_U)


best_two = induction_heads[:2]
left, right = plots.axes(2, size=(4.6, 3.9))
spectra = {
    "QK: does it match the same token?": {
        f"{plots.head_name(0, prev_head)} → {plots.head_name(1, j)}": matching(prev_head, j)
        for j in best_two
    },
    "OV: does it copy?": {plots.head_name(1, j): copying(j) for j in best_two},
}
for ax, (title, values) in zip((left, right), spectra.items(), strict=True):
    scaled = {name: z / z.abs().max() for name, z in values.items()}
    plots.complex_plane(scaled, title, "real part (largest = 1)", "imaginary part", ax=ax)

same_token = [eigenvalue_score(matching(prev_head, j)) for j in range(n_heads)]
copies = [eigenvalue_score(copying(j)) for j in range(n_heads)]
ax = plots.points(
    same_token, copies,
    f"Heads of layer 1: matching (through {plots.head_name(0, prev_head)}) and copying",
    "QK eigenvalue score (matching the same token)", "OV eigenvalue score (copying)",
    labels={j: plots.head_name(1, j) for j in range(n_heads)},
)
ax.set(xlim=(-1.1, 1.15), ylim=(-1.1, 1.15))
print("head   matching  copying  K-composition  induction score")
for j in sorted(range(n_heads), key=lambda j: same_token[j] + copies[j], reverse=True)[:4]:
    print(
        f"{plots.head_name(1, j):<6} {same_token[j]:8.2f} {copies[j]:8.2f} "
        f"{composition['K'][prev_head, j]:+14.3f} {score['induction'][1, j]:16.2f}"
    )

# %% [markdown]
# **What to see here.** The induction heads are in the upper right corner: they match and they copy. (Not with every eigenvalue: a few are
# negative. The score is a balance.) A head needs both. One that copied whatever it sees would not know where to look; one that found the
# right place might take nothing from it. But both together are not enough: look in the list for a head with high scores whose induction
# score is near 0. Eigenvalue scores divide sizes out, so they do not say how *strongly* a head matches.
# Its K-composition does.

# %% [markdown]
# ### Exercise · find the circuit from its weights    ●●○   7 min
#
# Now forget the patterns. Given a model of two layers, return `(i, j)`: the pair of heads, i of layer 0 and j of layer 1, with the **largest K-composition
# score**. That, and nothing else: not what the pair matches, nor whether j copies. The check measures whether i does look back and j does induction, on the shipped model with its heads in
# another order, and on models made for the check, in which other pairs compose by other ways, and some heads are simply loud.
#
# <details><summary>Hint 1</summary>
# The writer is W_V W_O of layer 0. What reads it by the keys is W_K W_Qᵀ of layer 1.
# </details>
# <details><summary>Hint 2</summary>
# It is the largest entry of what <code>composition_scores</code> returns for <code>"K"</code>. Norms must be divided out, or the loudest heads win.
# </details>
# <details><summary>Hint 3</summary>
# <code>divmod(scores.argmax().item(), n_heads)</code> turns the place of the largest entry into row and column.
# </details>

# %% exercise="find_pair_by_weights"
def find_pair_by_weights(model: Transformer) -> tuple[int, int]:
    """The previous-token head of layer 0 and the induction head of layer 1, without running the
    model."""
    ### BEGIN SOLUTION
    OV = model.W_V[0] @ model.W_O[0]
    KQ = model.W_K[1] @ model.W_Q[1].mT
    product = einsum(OV, KQ, "i a b, j b c -> i j a c").norm(dim=(-1, -2))
    scores = product / (OV.norm(dim=(-1, -2))[:, None] * KQ.norm(dim=(-1, -2)))
    i, j = divmod(scores.argmax().item(), scores.shape[1])
    return i, j
    ### END SOLUTION

# %% check="find_pair_by_weights"
check("find_pair_by_weights")

# %%
i, j = find_pair_by_weights(model)
print(f"By weights {plots.head_name(0, int(i))} → {plots.head_name(1, int(j))}; ", end="")
print(f"by behaviour {plots.head_name(0, prev_head)} and {plots.head_name(1, ind_head)}.")

# %% [markdown]
# ## Every path
#
# With patterns held fixed, the model is linear, so its logits are a sum over paths from token to logit. In two layers a path
# goes straight through, through one head, or through two:
#
# $$\text{logits} = \underbrace{e\, W_E W_U}_{\text{direct}} \;+\; \underbrace{\sum_{h} A^h\, e\, W_E W_{OV}^h W_U}_{\text{one head, of either layer}} \;+\;
# \underbrace{\sum_{i,j} A^{j} A^{i}\, e\, W_E W_{OV}^{i} W_{OV}^{j} W_U}_{\text{two heads: a virtual head}}$$
#
# $e$ is `[pos d_vocab]`, one-hot; $A$ is `[pos pos]`. The pair $(i, j)$ behaves like one more head. There are `n_heads²` of them.

# %% [markdown]
# ### Exercise · the OV circuit of a virtual head    ●○○   2 min
#
# Return the matrix $W_{OV}$ of the virtual head that head `head0` of layer 0 and head `head1` of layer 1 make together: a row of the residual stream times this
# matrix is what the second writes of what the first wrote.
#
# <details><summary>Hint 1</summary>
# A row vector meets <code>head0</code>, of layer 0, first.
# </details>
# <details><summary>Hint 2</summary>
# Four matrices: W_V and W_O of the first head, then W_V and W_O of the second.
# </details>

# %% exercise="virtual_head_ov"
def virtual_head_ov(model: Transformer, head0: int, head1: int) -> Float[Tensor, "d_model d_model"]:
    """What head1 of layer 1 writes of what head0 of layer 0 wrote."""
    ### BEGIN SOLUTION
    return model.W_V[0, head0] @ model.W_O[0, head0] @ model.W_V[1, head1] @ model.W_O[1, head1]
    ### END SOLUTION

# %% check="virtual_head_ov"
check("virtual_head_ov")

# %% [markdown]
# ### Exercise · all paths of a two-layer model    ●●●   12 min
#
# Return three tensors: the direct path; one term per head `[layer, head]`; one per pair `[head of layer 0, head of layer 1]`. Patterns are the model's own on
# these tokens. The terms must add up to the logits.
#
# <details><summary>Hint 1</summary>
# <code>_, cache = model.run_with_cache(tokens)</code> has the patterns <code>cache["pattern", layer]</code>, <code>[batch n_heads dest src]</code>. Start from
# <code>x = model.W_E[tokens]</code>: a head's term is <code>A @ x @ W_V @ W_O @ W_U</code>, for the heads of <i>both</i> layers.
# </details>
# <details><summary>Hint 2</summary>
# What a head of layer 0 wrote, before the unembedding, <code>[batch pos d_model]</code>, is the x of a head of layer 1.
# </details>
# <details><summary>Hint 3</summary>
# Write a small function <code>through(x, layer, head)</code> that returns
# <code>cache["pattern", layer][:, head] @ x @ W_V @ W_O</code>. A pair is <code>through(through(x, 0, i), 1, j)</code>.
# </details>

# %% exercise="path_expansion_2l"
def path_expansion_2l(
    model: Transformer, tokens: Int[Tensor, "batch pos"]
) -> tuple[
    Float[Tensor, "batch pos d_vocab"],
    Float[Tensor, "n_layers n_heads batch pos d_vocab"],
    Float[Tensor, "n_heads n_heads batch pos d_vocab"],
]:
    """The logits as a sum of paths: direct, through each head, through each pair of heads."""
    ### BEGIN SOLUTION
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("pattern"))
    heads = range(model.cfg.n_heads)

    def through(x, layer, head):
        return cache[
            "pattern", layer
        ][:, head] @ x @ model.W_V[layer, head] @ model.W_O[layer, head]

    x = model.W_E[tokens]
    first = [through(x, 0, i) for i in heads]
    second = [through(x, 1, j) for j in heads]
    pairs = [[through(first[i], 1, j) for j in heads] for i in heads]
    singles = torch.stack([torch.stack(first), torch.stack(second)])
    return x @ model.W_U, singles @ model.W_U, torch.stack(
        [torch.stack(row) for row in pairs]
    ) @ model.W_U
    ### END SOLUTION

# %% check="path_expansion_2l"
check("path_expansion_2l")

# %%
straight, singles, pairs = path_expansion_2l(model, code_tokens)
total = straight + singles.sum((0, 1)) + pairs.sum((0, 1))
print(f"The paths add up to the logits to {(total - model(code_tokens)).abs().max():.0e}")

guess = model(code_tokens)[0, -1].argmax().item()


def pull(term: Tensor) -> Tensor:
    """How much a path raises the model's own guess over the mean of all tokens, at the last
    position."""
    return term[..., 0, -1, guess] - term[..., 0, -1, :].mean(-1)


print(
    f"What raises the guess `{plots.token_name(two, guess)}` after `self.`: direct path "
    f"{float(pull(straight)):+.1f}"
)
by_path = {
    plots.head_name(layer, h): float(pull(singles)[layer, h])
    for layer in range(2)
    for h in range(n_heads)
}
by_path |= {
    f"{plots.head_name(0, a)} → {plots.head_name(1, b)}": float(pull(pairs)[a, b])
    for a in range(n_heads) for b in range(n_heads)
}
for name in sorted(by_path, key=by_path.get, reverse=True)[:6]:
    print(f"  through {name:<10} {by_path[name]:+.1f}")

# %% [markdown]
# **What to see here.** The last token is `.`, and what often follows a `.` says little about the guess: the direct path is nearly idle. The strongest path goes
# through one induction head alone. It takes the token from where it looks, with no detour. Some pairs help, too: virtual heads, which
# carry something that layer 0 had moved there before.

# %% [markdown]
# ## What each order is worth
#
# Are virtual heads important? The paper's answer is a procedure, *term importance*. Freeze the patterns as the model computed them. Then:
#
# 1. Run with every head's output replaced by 0. The loss is that of the **direct** path alone. Save what the heads *would* have written.
# 2. Run again, each layer's output replaced by the saved one. Now paths through **at most one** head count. Save again.
# 3. And again: paths through **at most two** heads. In two layers, that is the whole model.
#
# The differences of the losses are the marginal value of each order.

# %% [markdown]
# ### Exercise · term importance    ●●●   10 min
#
# Return the three mean losses, in nats per token: orders 0, up to 1, up to 2. Do not sum what `path_expansion_2l` returns: that is right, but it
# unembeds all pairs of heads, which takes minutes and gigabytes on the texts below.
#
# <details><summary>Hint 1</summary>
# You need no paths one by one. Either follow the procedure with two hooks, at <code>hook_pattern</code> (return the saved pattern) and at <code>hook_attn_out</code>
# (save the output, return the last round's).
# </details>
# <details><summary>Hint 2</summary>
# Or by algebra: with frozen patterns, order up to 1 is the direct path, plus layer 0 on the embedding, plus layer 1 on the embedding
# alone.
# </details>
# <details><summary>Hint 3</summary>
# <code>model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.attn.hook_pattern", freeze), ...])</code>, with <code>def freeze(pattern, hook): return
# cache[hook.name]</code>. A hook's name is <code>hook.name</code>: keep what you save in a dictionary by it.
# </details>

# %% exercise="term_importance"
def term_importance(
    model: Transformer, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "3"] | list[float]:
    """Mean loss (nats per token) of a two-layer model with paths through at most 0, 1 and 2 heads,
    its attention patterns held as they are."""
    ### BEGIN SOLUTION
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("pattern"))
    before: dict[str, Tensor] = {}
    losses = []
    for _ in range(3):
        written: dict[str, Tensor] = {}

        def freeze(pattern, hook):
            return cache[hook.name]

        def swap(out, hook, written=written, before=before):
            written[hook.name] = out
            return before.get(hook.name, torch.zeros_like(out))

        hooks = [(f"blocks.{i}.attn.hook_pattern", freeze) for i in range(2)]
        hooks += [(f"blocks.{i}.hook_attn_out", swap) for i in range(2)]
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks)
        flat = rearrange(logits[:, :-1], "batch pos vocab -> (batch pos) vocab")
        losses.append(F.cross_entropy(flat, rearrange(tokens[:, 1:], "batch pos -> (batch pos)")))
        before = written
    return torch.stack(losses)
    ### END SOLUTION

# %% check="term_importance"
check("term_importance")

# %%
sample = windows[::6]
orders = torch.as_tensor(term_importance(model, sample))
nothing = torch.tensor(float(d_vocab)).log().item()
marginal = [float(orders[0]) - nothing, *(orders[1:] - orders[:-1]).tolist()]
print("order                          marginal (nats)   loss (nats per token)")
for name, gain_of, loss in zip(
    ("0  the direct path", "1  through one head", "2  through two heads"), marginal, orders,
    strict=True
):
    print(f"{name:<30} {gain_of:15.2f}   {loss:12.2f}")

_, cache = model.run_with_cache(sample, names_filter=lambda name: name.endswith("pattern"))
x = model.W_E[sample]
alone = {}
for layer in range(2):
    z = einsum(cache["pattern", layer], x, model.W_V[layer], "b h d s, b s m, h m r -> b d h r")
    out = einsum(z, model.W_O[layer], "b d h r, h r m -> b d m")
    logits = (x + out) @ model.W_U
    alone[layer] = F.cross_entropy(
        logits[:, :-1].flatten(0, 1), sample[:, 1:].flatten()
    ).item() - float(orders[0])
print(
    f"of order 1, alone with the direct path: heads of layer 0 {alone[0]:+.2f}, heads of layer 1 "
    f"{alone[1]:+.2f}"
)

# %% [markdown]
# **What to see here.** Paths through one head carry most of the gain, and among them those of layer 1; pairs of heads add far less. The paper found the same
# in its model. (The first row starts from a uniform guess. In the paper the direct path was worth more than the virtual heads; here it is worth a little less. It was not trained to work alone.)
#
# How can pairs be worth so little in a chapter about composition? Induction composes in the *pattern* (by keys), and the patterns are frozen here. Along the
# values, the induction head copies the token in one step: an order-1 path. Order 2 counts V-composition only.

# %% [markdown]
# ## What breaks without them
#
# Scores and weights suggest. A cause has to be tested: take heads out and see what is lost. To *ablate* a head here means to
# set its output to 0, by a hook at `hook_z` `[batch pos n_heads d_head]`. (Chapter 4 puts an average there, or what another text gives.)

# %% [markdown]
# ### Exercise · the loss without some heads    ●●○   5 min
#
# **You have half of this**: `ablate_head` of chapter 2 takes out one head. Here `heads` is a list of `(layer, head)`; remove all of them at once. Return the loss at each position, as `per_token_loss` does.
#
# <details><summary>Hint 1</summary>
# A hook <code>fn(z, hook)</code> at <code>f"blocks.{layer}.attn.hook_z"</code>: copy z, set <code>z[:, :, head]</code> to 0, return it.
# </details>
# <details><summary>Hint 2</summary>
# One hook per head. In a loop, bind the head at once: <code>def fn(z, hook, head=head)</code>, or every hook will use the last one.
# </details>
# <details><summary>Hint 3</summary>
# <code>logits = model.run_with_hooks(tokens, fwd_hooks=[(name, fn), ...])</code>; then the loss as in <code>per_token_loss</code>.
# </details>

# %% exercise="ablated_loss"
def ablated_loss(
    model: Transformer, tokens: Int[Tensor, "batch pos"], heads: list[tuple[int, int]]
) -> Float[Tensor, "batch pos-1"]:
    """The loss at each position when these heads (layer, head) write nothing, in nats."""
    ### BEGIN SOLUTION
    hooks = []
    for layer, head in heads:

        def remove(z, hook, head=head):
            z = z.clone()
            z[:, :, head] = 0
            return z

        hooks.append((f"blocks.{layer}.attn.hook_z", remove))
    log_probs = model.run_with_hooks(tokens, fwd_hooks=hooks).log_softmax(-1)
    return -log_probs[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]
    ### END SOLUTION

# %% check="ablated_loss"
check("ablated_loss")

# %% [markdown]
# First the advantage in context. Take the model's induction heads out, nothing else, and measure the loss by position again, on the same windows.

# %%
inductive = [(1, j) for j in induction_heads if score["induction"][1, j] > 0.4] or [(1, ind_head)]


def on_windows(heads: list[tuple[int, int]]) -> Tensor:
    parts = waiting(windows.split(16), "Losses without these heads")
    return torch.cat([ablated_loss(model, part, heads) for part in parts])


others = [(1, j) for j in induction_heads if (1, j) not in inductive][: len(inductive)]
labels = {
    "two layers": [],
    "without " + ", ".join(plots.head_name(*h) for h in inductive) + " (induction)": inductive,
    "without " + ", ".join(plots.head_name(*h) for h in others): others,
}
lines_by_position = {
    name: on_text[name] for name in ("zero layers", "one layer")
} | {name: on_windows(heads) for name, heads in labels.items()}
series = {
    name: (
        list(range(8, 247)), smooth(losses.mean(0) - base)
    ) for name, losses in lines_by_position.items()
}
plots.lines(
    series, "Who learns in context?", "position", "loss minus the zero-layer model's (nats)",
    ax=plots.axes(size=(7.5, 4.0)),
)
ablated_icl = {}
for name, losses in lines_by_position.items():
    ablated_icl[name] = float(in_context_learning_score(losses, EARLY, LATE)) - icl["zero layers"]
    print(
        f"{name:<34} loss {losses.mean():.3f}; in-context learning beyond the zero-layer model "
        f"{ablated_icl[name]:+.3f} nats"
    )

# %% [markdown]
# **What to see here.** Without its induction heads, the two-layer model no longer gets better as it reads on: the slope is gone, and its loss is above that of one layer.
# The induction heads *are* its in-context learning, nearly all of it. Removing as
# many other heads of the same layer raises the loss too, but less, and leaves the slope.

# %% [markdown]
# ## Three ways, one answer
#
# Now lay the evidence side by side, for all heads of both layers:
#
# 1. **Behaviour**: the score on repeated random tokens, previous-token in layer 0, induction in layer 1;
# 2. **Weights**: the largest K-composition score with any head of the other layer, and the matching and copying eigenvalues;
# 3. **Cause**: what the second copy costs more when the head is removed.

# %%
behaviour = torch.cat([score["previous"][0], score["induction"][1]])
by_weights = torch.cat([composition["K"].amax(1), composition["K"].amax(0)])
all_heads = [(layer, h) for layer in range(2) for h in range(n_heads)]
second_copy = per_token_loss(model, repeated)[:, length:].mean()
cause = torch.stack(
    [ablated_loss(model, repeated, [h])[:, length:].mean() - second_copy for h in all_heads]
)
plots.by_head(
    {
        "weight on what the\nhead is there for": behaviour,
        "largest K-composition\n(score - baseline)": by_weights,
        "loss of second copy\nwithout it (nats)": cause,
    },
    [plots.head_name(*h) for h in all_heads],
    "Behaviour, weights, cause",
    {
        "previous token": [i for i in range(n_heads) if behaviour[i] > 0.4],
        "induction": [n_heads + j for j in range(n_heads) if behaviour[n_heads + j] > 0.4],
    },
)


def first(values: Tensor, k: int) -> str:
    return ", ".join(plots.head_name(*all_heads[i]) for i in values.topk(k).indices.tolist())


for layer in range(2):
    part = torch.tensor([h[0] == layer for h in all_heads])
    columns = [first(v.where(part, -torch.inf), 3) for v in (behaviour, by_weights, cause)]
    print(
        f"layer {layer}, first three:  by behaviour {columns[0]:<14}  by weights {columns[1]:<14}  "
        f"by cause {columns[2]}"
    )
print("head   loss without it (nats)   behaviour   weights")
for i in cause.topk(5).indices.tolist():
    print(
        f"{plots.head_name(*all_heads[i]):<6} {cause[i]:+22.2f} {behaviour[i]:11.2f} "
        f"{by_weights[i]:+9.3f}"
    )
of_layer_1 = {"QK matching": same_token, "OV copying": copies}
for what, values in of_layer_1.items():
    print(
        f"{what}, induction heads: " + ", ".join(
            f"{plots.head_name(*h)} {values[h[1]]:.2f}" for h in inductive
        )
    )

# %% [markdown]
# **What to see here.** By each of the three measures, the same two heads come first in layer 0, and the same two in layer 1. (By behaviour the second
# of layer 0 is nearly level with the third: it looks one back only some of the time. Weights and cause set it apart.) Behaviour and cause were measured on the same
# repeated tokens; the weights know of no text at all. A score could be a coincidence of those tokens, a large product of weights an accident of norms, an ablation could
# break something by the way. All three at once are hard to explain but by the circuit you built by hand.
#
# They do not agree on every head. The third of layer 0 by cause (in the shipped model, head 0.6) is nearly as dear as an induction head. Yet
# it does not look back, and the keys of layer 1 hardly read it.

# %% [markdown]
# ## A second path
#
# Queries and values *do* read it, a little more than chance: you saw it in the panels of Q- and V-composition. So follow that. Take
# one head of layer 0 away from one input of the induction heads only, their q, k or v, and leave it everywhere else.

# %%
def without_at(head: int, wire: str) -> float:
    """What the second copy costs more (nats) when `head` of layer 0 is missing from the induction
    heads' q, k or v."""
    name = f"blocks.1.attn.hook_{wire}"
    readers = [j for _, j in inductive]

    def remove(z: Tensor, hook) -> Tensor:
        z = z.clone()
        z[:, :, head] = 0
        return z

    with model.hooks(fwd_hooks=[("blocks.0.attn.hook_z", remove)]):
        _, without = model.run_with_cache(repeated, names_filter=name)

    def replace(x: Tensor, hook) -> Tensor:
        x = x.clone()
        x[:, :, readers] = without[name][:, :, readers]
        return x

    losses = -model.run_with_hooks(repeated, fwd_hooks=[(name, replace)]).log_softmax(-1)[:, :-1]
    return float(losses.gather(-1, repeated[:, 1:, None])[:, length:].mean() - second_copy)


# weight on the present token
own = patterns_of(model, repeated)[0].diagonal(dim1=-2, dim2=-1).mean((0, -1))
print(
    "head   missing everywhere   from q only   k only   v only   its weight on the present token, "
    "the one before"
)
for i in cause[:n_heads].topk(4).indices.tolist():
    q, k, v = (without_at(i, wire) for wire in "qkv")
    print(
        f"0.{i} {cause[i]:>+20.2f} {q:>+13.2f} {k:>+8.2f} {v:>+8.2f} {own[i]:>20.2f} "
        f"{score['previous'][0, i]:>18.2f}"
    )

# %% [markdown]
# **What to see here.** The previous-token heads cost what they cost mostly through the *keys*. Head 0.6 costs through the *queries* and the *values*, and
# nothing through the keys. It looks at the present token, so it writes, at every place, something about the token that stands there: the queries
# ask with it ("who follows *this*?"), and the values copy with it. So the circuit that you built by hand is not all: there, queries and
# values read the embedding. Here a head of layer 0 stands in between, and by now the model depends on it.

# %% [markdown]
# ## What you have shown
#
# What the papers found, in our words; your numbers for each are printed below.
#
# | no. | in the paper | where |
# |---|---|---|
# | 1 | Induction heads continue a repeated sequence even when its tokens are random | *A Mathematical Framework*, "Two-Layer Attention-Only Transformers", on induction heads |
# | 2 | Composition is mostly K-composition: the keys of the induction heads read a previous-token head; queries and values read little | the same, on Q-, K- and V-composition |
# | 3 | QK circuit and OV circuit of an induction head have mostly positive eigenvalues: it matches the same, and it copies | the same, on checking the mechanism |
# | 4 | Paths through one head are worth most, virtual heads least: the direct path and single heads deserve the attention | the same, on the importance of terms |
# | 5 | Models of one layer form no induction heads and learn less in context; from two layers on they do | *In-context Learning and Induction Heads* |
# | 6 | Induction heads form in a short stretch early in training, and in-context learning improves in that stretch | the same, Argument 1 |
# | 7 | Without its induction heads, a small model loses most of its in-context learning | the same, Argument 3 |
#
# Where we differ: in 2, the keys lead here as well, but queries and values read more than chance, too, and you have seen what for; in 4, our
# direct path is worth even less than our virtual heads. In 7, Olsson and others set a head's output to zero with all attention *patterns held* at
# what they were: their *pattern-preserving ablation*, the only one of two they describe that their table of models shows. We let the patterns
# change. For heads of the last layer it is the same, as no later pattern reads them. For the previous-token head it is not: the last lines below
# have it both ways. With patterns held its part in the circuit, which is to make a pattern, cannot show.

# %%
def patterns_held(head: tuple[int, int]) -> float:
    """In-context learning beyond the zero-layer model without a head, all attention patterns as
    they were."""
    losses = []
    for part in waiting(windows.split(16), "Losses with all patterns held"):
        _, cache = model.run_with_cache(part, names_filter=lambda name: name.endswith("pattern"))
        holds = [(name, lambda pattern, hook: cache[hook.name]) for name in cache]
        with model.hooks(fwd_hooks=holds):
            losses.append(ablated_loss(model, part, [head]))
    return float(in_context_learning_score(torch.cat(losses), EARLY, LATE)) - icl["zero layers"]


def patterns_free(head: tuple[int, int]) -> float:
    return float(in_context_learning_score(on_windows([head]), EARLY, LATE)) - icl["zero layers"]


copy_losses = per_token_loss(model, repeated)
next_best = max(float(composition["Q"].max()), float(composition["V"].max()))
pair = f"{plots.head_name(0, prev_head)} → {plots.head_name(1, ind_head)}"
rows = [
    (
        1, "Loss of first and second copy, two layers (nats per token)",
        f"{copy_losses[:, : length - 1].mean():.2f}, {copy_losses[:, length:].mean():.2f}",
        "repeated tokens"
    ),
    (
        1, f"Previous-token score, {plots.head_name(0, prev_head)}",
        f"{score['previous'][0, prev_head]:.2f}", "repeated tokens"
    ),
    (
        1, "Induction scores, " + ", ".join(plots.head_name(*h) for h in inductive),
        ", ".join(f"{score['induction'][h]:.2f}" for h in inductive), "repeated tokens"
    ),
    (
        2, f"K-composition {pair}, over the baseline",
        f"{composition['K'][prev_head, ind_head]:+.3f}", "weights"
    ),
    (2, "Largest Q- or V-composition of any pair", f"{next_best:+.3f}", "weights"),
    (
        3, f"QK matching, OV copying of {plots.head_name(1, ind_head)}",
        f"{same_token[ind_head]:.2f}, {copies[ind_head]:.2f}", "weights"
    ),
    (
        4, "Marginal nats: direct, one head, two heads", ", ".join(f"{m:+.2f}" for m in marginal),
        "held-out text"
    ),
    (
        5, "Loss of first and second copy, one layer",
        f"{per_token_loss(one, repeated)[:, : length - 1].mean():.2f}, "
        f"{per_token_loss(one, repeated)[:, length:].mean():.2f}",
        "repeated tokens"
    ),
    (
        5, "In-context learning beyond zero layers: one layer",
        f"{icl['one layer'] - icl['zero layers']:+.3f}", "held-out text"
    ),
    (5, "... two layers", f"{ablated_icl['two layers']:+.3f}", "held-out text"),
    (
        6, "Shipped model: first step with half of the final induction score",
        f"{half_way(curves['step'], scores['induction'].flatten(1).amax(1).tolist()):,} of "
        f"{curves['step'][-1]:,}",
        "training"
    ),
    (6, "Your training: steps, seconds", f"{training.step:,}, {training.seconds:.0f}", "training"),
    (
        7, "In-context learning without induction heads", f"{list(ablated_icl.values())[3]:+.3f}",
        "held-out text"
    ),
    (
        7, f"... without {plots.head_name(1, ind_head)}; the same with patterns held",
        f"{patterns_free((1, ind_head)):+.3f}, {patterns_held((1, ind_head)):+.3f}", "held-out text"
    ),
    (
        7, f"... without {plots.head_name(0, prev_head)}; the same with patterns held",
        f"{patterns_free((0, prev_head)):+.3f}, {patterns_held((0, prev_head)):+.3f}",
        "held-out text"
    ),
]
print(f"models: {'yours' if TAKE == 'mine' else 'shipped'}")
for number, what, measured, where in rows:
    print(f"{number}  {what:<65} {measured:>20}   {where}")

# %% [markdown]
# **Read on.** Nelson Elhage and others, *A Mathematical Framework for Transformer Circuits* (2021), "Two-Layer Attention-Only
# Transformers". Catherine Olsson and others, *In-context Learning and Induction Heads* (2022), has the evidence for large models.
# Ofir Press and others, *Shortformer* (2021), for positions that only queries and keys see. For how fast such circuits can form,
# Gautam Reddy, *The Mechanistic Basis of Data Dependence and Abrupt Learning in an In-Context Classification Task* (2023).
#
# **Next**: chapter 4 turns "without it, the loss rises" into a method: which activation, at which place, carries the behaviour?

# %%
progress()
