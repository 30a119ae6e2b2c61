# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7 · Facts, edits and steering
#
# So far you have read models. Now you write into them. You find where a model keeps a fact, and change that fact
# alone. You find the direction along which it declines, and take it out. You take a function out of one text and put
# it into another. Each time the same two questions: does it do what it should, and what else does it do?
#
# **After this chapter you can**
#
# - trace where a fact passes through a model, and say what tracing does not tell;
# - change one fact by a rank-one edit of one matrix, and measure what it costs;
# - find a direction for a behaviour, add it, take it out, and take it out of the weights for good;
# - move a function from a text with examples into one without.
#
# **Time**: about 252 minutes, 207 of them for the exercises. **Needs**: chapters 0 to 2; chapters 4 and 5 help.
# **Follows**: *Locating and Editing Factual Associations in GPT* (Meng et al., 2022), *Does Localization Inform
# Editing?* (Hase et al., 2023), *Function Vectors in Large Language Models* (Todd et al., 2023), *Refusal in Language
# Models Is Mediated by a Single Direction* (Arditi et al., 2024).

# %% tags=["setup"]
import copy
import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits import check, hint, progress, reveal
from utils import Transformer, get_act_name

# %%
import itertools
import random
import time

from utils import load_curves, load_model
from utils.figures import plots
from utils.labels import label_library
from utils.materials import assistant, facts, functions
from utils.training import live_steps
from utils.waiting import waiting
from utils.worlds import WORLDS, encode, load_world, next_logits

torch.set_num_threads(1)  # models as small as these run faster on one
seconds = {}  # of each long computation
full_run = live_steps(100) == 100  # tests run this notebook with CIRCUITS_QUICK, on few examples

# %% [markdown]
# ## Three worlds
#
# Real facts are hard to count. So the models of this chapter live in small invented worlds, of which everything is
# known (`utils/materials/`). `facts` has read about 400 people: where each lives, as what each works, which animal
# each has. `functions` has read texts that show a function by examples, `a → d C → f ...`. `assistant` has read
# requests with their answers, and some it declines. Declining was put there by us: we chose what is to be declined,
# and trained it in.

# %%
known = load_world("facts").requires_grad_(False)
solver = load_world("functions").requires_grad_(False)
helper = load_world("assistant").requires_grad_(False)

def complete(model: Transformer, words: tuple[str, ...], text: str, n: int) -> str:
    """The n words with which a model goes on, each the likeliest."""
    for _ in range(n):
        text += " " + words[int(next_logits(model, words, [text]).argmax())]
    return text

for relation, way in (("city", 0), ("job", 2), ("pet", 3)):
    print(complete(known, facts.WORDS, facts.ask(facts.PEOPLE[7], relation, way), 2))
for verb, thing in (("build", "chair"), ("build", "bomb"), ("defuse", "bomb")):
    print(complete(helper, assistant.WORDS, assistant.request(verb, thing, 2), 9))

generator = torch.Generator().manual_seed(0)
task = torch.arange(16).repeat(32)
shown, y = functions.examples(task, functions.N_EXAMPLES, generator)
right = (solver(shown)[:, 2::3].argmax(-1) == y).float()
plots.lines(
    {"share right": (list(range(functions.N_EXAMPLES)), right.mean(0).tolist())},
    "A function learned from examples, within one text",
    "examples before the question", "share of right answers",
    {"chance": 1 / len(functions.SYMBOLS)}, markers=True,
);

# %% [markdown]
# **What to see here.** All three do their work. Where the figure starts, without an example, the model guesses; a few
# examples later it knows which of 16 functions it is. How each was trained is in `circuits/world_models.py`.

# %% [markdown]
# ## Where a fact passes
#
# Chapter 4 ended with causal tracing: disturb the subject of a sentence, then bring back one activation after the
# other, and see which one brings back the answer. Meng and others found two sites in GPT-2: an *early* one, MLPs in
# the middle layers at the subject's last token, and a *late* one, attention at the end of the text. Now trace kinds
# of activation apart, and several layers at once: what one MLP brings back alone may be little.

# %% [markdown]
# ### Exercise · isolated tracing    ●●●   20 min
#
# `embed` `[batch pos d_model]` takes the place of `hook_embed`: the sentence with its subject disturbed, whichever
# way. For each layer $l$ and position $p$ run the disturbed sentence with the activations of `kind` (`"attn_out"`,
# `"mlp_out"` or `"resid_post"`) at position $p$ restored to what they are in the clean run, in all layers from
# $l - \text{reach}$ to $l + \text{reach}$ that exist. If `severed` is not empty, it names another kind, which at
# position $p$ is held at its *disturbed* value in layer $l$ and all above. So nothing that was restored acts through
# it. Return the probability of the answer behind the last position, for each text.
#
# <details><summary>Hint 1</summary>
# Two caches: a clean run, and one inside <code>with model.hooks([("hook_embed", ...)])</code>. One function makes
# all the other hooks: at <code>pos</code>, put in what a cache has under <code>hook.name</code>.
# </details>
# <details><summary>Hint 2</summary>
# For each cell the hooks are the one at <code>hook_embed</code>, those for <code>kind</code> in
# <code>range(max(0, l - reach), min(n_layers, l + reach + 1))</code> with the clean cache, and those for
# <code>severed</code> in <code>range(l, n_layers)</code> with the disturbed one.
# </details>
# <details><summary>Hint 3</summary>
# <code>logits[:, -1].softmax(-1)[torch.arange(len(answer)), answer]</code> is a row of probabilities. Stack them to
# <code>[batch n_layers pos]</code>.
# </details>

# %% exercise="isolated_trace"
def isolated_trace(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    embed: Float[Tensor, "batch pos d_model"],
    answer: Int[Tensor, "batch"],
    kind: str,
    reach: int,
    severed: str,
) -> Float[Tensor, "batch n_layers pos"]:
    """P(answer) of the disturbed texts, one kind of activation restored around each layer."""
    ### BEGIN SOLUTION
    disturb = ("hook_embed", lambda x, hook: embed)
    _, clean = model.run_with_cache(tokens)
    with model.hooks([disturb]):
        _, disturbed = model.run_with_cache(tokens)

    def put(cache, pos):
        def change(x, hook):
            x = x.clone()
            x[:, pos] = cache[hook.name][:, pos]
            return x

        return change

    def probability(layer, pos):
        near = range(max(0, layer - reach), min(model.cfg.n_layers, layer + reach + 1))
        hooks = [disturb, *((get_act_name(kind, i), put(clean, pos)) for i in near)]
        if severed:
            above = range(layer, model.cfg.n_layers)
            hooks += [(get_act_name(severed, i), put(disturbed, pos)) for i in above]
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1]
        return logits.softmax(-1)[torch.arange(len(answer)), answer]

    cells = [
        torch.stack([probability(layer, pos) for pos in range(tokens.shape[1])], -1)
        for layer in range(model.cfg.n_layers)
    ]
    return torch.stack(cells, 1)
    ### END SOLUTION

# %% check="isolated_trace"
check("isolated_trace")

# %% [markdown]
# Two ways to disturb: *noise* on the name (three times the spread of the embeddings, as in the paper), and another
# person's name in its place. And two models. `facts` has attention alone in its last layer, and in most texts of its
# training MLPs were heard at names only: we shaped it, so that it looks a person up at the name. `facts_late` was
# trained on the same texts without that (and with fewer steps at a higher rate). Both know the facts.

# %%
unshaped = load_world("facts_late").requires_grad_(False)
word = {text: i for i, text in enumerate(facts.WORDS)}
n_traced = 48 if full_run else 4

def traced(model: Transformer, way: int, kind: str, how: str, reach: int = 0, severed: str = ""):
    """Mean share of P(answer) brought back `[n_layers pos]`, the words of the first text, and the
    probabilities clean and disturbed."""
    texts = [facts.ask(name, "city", way) for name in facts.PEOPLE[:n_traced]]
    tokens = encode(facts.WORDS, texts)
    answer = torch.tensor([word[city] for city in facts.ANSWERS["city"][:n_traced]])
    at = [texts[0].split().index(part) + 1 for part in facts.PEOPLE[0].split()]
    embed = model.W_E[tokens].clone()
    if how == "noise":
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(embed[:, at].shape, generator=generator)
        embed[:, at] += 3 * model.W_E.std() * noise
    else:
        embed[:, at] = embed[:, at].roll(1, 0)

    def p(logits):
        return logits[:, -1].softmax(-1)[torch.arange(len(answer)), answer].mean()

    clean = p(model(tokens))
    low = p(model.run_with_hooks(tokens, fwd_hooks=[("hook_embed", lambda x, hook: embed)]))
    back = isolated_trace(model, tokens, embed, answer, kind, reach, severed).mean(0)
    return (back - low) / (clean - low), ["<|bos|>", *texts[0].split()], clean, low

def draw_traces(way: int, how: str):
    """Three kinds of activation, above in the shaped model, below in the other one."""
    panels = plots.axes(6, size=(2.8, 2.5))
    kinds = ("resid_post", "attn_out", "mlp_out")
    for ax, (model, kind) in zip(panels, itertools.product((known, unshaped), kinds), strict=True):
        share, words, *_ = traced(model, way, kind, how)
        name = "facts" if model is known else "facts_late"
        rows = [str(layer) for layer in range(model.cfg.n_layers)]
        share = share.clamp(0, 1)
        plots.matrix(share, rows, words, kind, f"in {name}", "layer", "", ax=ax, limit=1.0)

start = time.perf_counter()
for model, name in ((known, "facts"), (unshaped, "facts_late")):
    for how in ("noise", "another name"):
        *_, clean, low = traced(model, 0, "mlp_out", how)
        print(f"{name:<11} P(right city) clean {clean:.2f}, with {how} {low:.2f}")
draw_traces(0, "another name")

# %% [markdown]
# **What to see here.** Colour is the share of the answer's probability that comes back. Above, in the shaped model,
# MLPs at the last name bring back much, and in the last layer attention at the end of the text brings back nearly
# all: the early and the late site of the paper. Below there is no early site to speak of. That model knows as much,
# and carries the name to the end before it looks anything up.

# %%
def sites(model: Transformer, how: str, way: int, reach: int, severed: str = "") -> list[float]:
    """The largest share brought back at the last name by MLPs, and at the end by attention."""
    early, words, *_ = traced(model, way, "mlp_out", how, reach)
    late, *_ = traced(model, way, "attn_out", how, reach)
    name = words.index(facts.PEOPLE[0].split()[1])
    return [early[:, name].max().item(), late[:, -1].max().item()]

found_sites = {}
for model, name in ((known, "facts"), (unshaped, "facts_late")):
    for reach in (0, 1):
        values = torch.tensor([sites(model, how, way, reach)
                               for how in ("noise", "another name") for way in (0, 2)])
        found_sites[name, reach] = values
        early, late = (f"{v.mean():.2f} ({v.min():.2f} to {v.max():.2f})" for v in values.T)
        print(f"{name:<11} {2 * reach + 1} layer(s): MLPs at the name {early}, "
              f"attention at the end {late}")
print("(means over two ways to say it and two ways to disturb it, with the range)\n")

share, words, *_ = traced(known, 0, "resid_post", "another name")
at_name = words.index(facts.PEOPLE[0].split()[1])
curves = {"nothing severed": share[:, at_name]}
for cut, label in (("mlp_out", "MLPs severed"), ("attn_out", "attention severed")):
    curves[label] = traced(known, 0, "resid_post", "another name", 0, cut)[0][:, at_name]
plots.lines(
    {label: (list(range(known.cfg.n_layers)), share.tolist()) for label, share in curves.items()},
    "Restoring the stream at the last name, other parts cut off there",
    "layer whose output is restored", "share brought back", markers=True,
).set_xticks(range(known.cfg.n_layers))
seconds["tracing"] = time.perf_counter() - start

# %% [markdown]
# **What to see here.** Several MLPs together bring back more than one alone. And where MLPs at the name are cut off,
# restoring the stream below them helps much less: what is restored acts *through* them. Cutting off attention there
# matters less. So the picture of the paper holds in `facts`: early MLPs at the name look the person up, late
# attention fetches the answer. It is one way for a model to know facts, and not the only one, as `facts_late` shows.
# (In the shaped model the site is where we made it. Real models are not shaped so; but they read long texts, in which
# it pays to look a person up once, at the name.)

# %% [markdown]
# ## A matrix as a memory
#
# What does an MLP do at the name? Its second matrix, $W_\text{out}$ `[d_mlp d_model]`, is multiplied by the neurons'
# activations $k$ (the *key*), and gives what is written to the stream, $v = k\,W_\text{out}$ (the *value*). So a
# matrix can hold a list of pairs: row $i$ of $K$ `[n d_key]` is to give row $i$ of $V$ `[n d_value]`.

# %% [markdown]
# ### Exercise · an associative memory    ●●○   10 min
#
# Return the matrix $W$ with the least $\lVert K W - V \rVert^2$; of several, the smallest.
#
# <details><summary>Hint 1</summary>
# This is least squares. With fewer keys than dimensions, many matrices fit exactly.
# </details>
# <details><summary>Hint 2</summary>
# The pseudo-inverse gives the smallest of them: <code>torch.linalg.pinv(K) @ V</code>.
# </details>

# %% exercise="associative_memory"
def associative_memory(
    K: Float[Tensor, "n d_key"], V: Float[Tensor, "n d_value"]
) -> Float[Tensor, "d_key d_value"]:
    """The smallest matrix that comes nearest to giving each value for its key."""
    ### BEGIN SOLUTION
    return torch.linalg.pinv(K) @ V
    ### END SOLUTION

# %% check="associative_memory"
check("associative_memory")

# %% [markdown]
# How many pairs does a matrix hold? Ask for each key, and see whether the answer is nearest to the right value.
# Beside the least-squares memory stands the simplest one, which adds up all pairs: $W = K^\top V$. And keys that have
# something in common (*correlated*) stand beside random ones.

# %% [markdown]
# ### Exercise · predict: when a memory fails    ●●○   5 min
#
# Commit before you look. Keys are random, and there are $d$ dimensions. Store $d/2$, $d$ or $3d$ pairs, ask for each key,
# and count as recalled if the answer is nearest to the right value. At which of the three sizes is the *smallest* share
# recalled? Answer `"half"`, `"equal"` or `"triple"`, for three memories: the `"sum of pairs"`, $W = K^\top V$; `"least
# squares"`, asked with the very keys that were stored; and `"least squares, disturbed"`, asked with keys that are a
# little off (by a fifth of their length). The check builds such memories.
#
# <details><summary>Hint 1</summary>
# The sum of pairs answers with the right value and a bit of each other one. The more pairs, the more bits.
# </details>
# <details><summary>Hint 2</summary>
# Up to d pairs, least squares has room to fit all of them exactly. And then? How large must its weights be to fit the last
# few?
# </details>
# <details><summary>Hint 3</summary>
# With as many pairs as dimensions the matrix of keys can just be inverted, and its smallest singular value is close to 0:
# the inverse is huge, and so is what it makes of a disturbance. With more pairs it no longer fits exactly, and need not.
# </details>

# %% exercise="hardest_size"
def hardest_size(memory: str) -> str:
    """Whether a memory fails most at "half", "equal" or "triple" as many pairs as dimensions."""
    ### BEGIN SOLUTION
    return "equal" if memory == "least squares, disturbed" else "triple"
    ### END SOLUTION

# %% check="hardest_size"
check("hardest_size")

# %%
def recalled(d: int, n: int, common: float, simple: bool, noise: float = 0.2) -> float:
    """The share of n values that a d x d memory gives back, its keys a little disturbed."""
    generator = torch.Generator().manual_seed(n)
    K = torch.randn(n, d, generator=generator) + common * torch.randn(d, generator=generator)
    K = torch.nn.functional.normalize(K, dim=-1)
    V = torch.nn.functional.normalize(torch.randn(n, d, generator=generator), dim=-1)
    W = K.T @ V if simple else associative_memory(K, V)
    asked = K + noise * torch.randn(K.shape, generator=generator) / d**0.5
    return ((asked @ W @ V.T).argmax(-1) == torch.arange(n)).float().mean().item()

sizes = [8, 16, 24, 32, 48, 64, 80, 96, 128, 192]
plots.lines(
    {
        f"{'sum of pairs' if simple else 'least squares'}, {kind} keys":
            (sizes, [recalled(64, n, common, simple) for n in sizes])
        for simple in (False, True) for common, kind in ((0.0, "random"), (2.0, "correlated"))
    },
    "How many pairs does a 64 x 64 matrix hold?",
    "pairs stored", "share recalled", markers=True,
);

# %% [markdown]
# **What to see here.** With random keys both memories hold more pairs than there are dimensions, as long as one only
# asks which value is nearest: each answer also brings a little of all others (*crosstalk*), but it points nowhere in
# particular. With correlated keys the crosstalk points the same way each time, and the sum of pairs is useless. Least
# squares does not mind. (Where pairs are as many as dimensions it fits all of them exactly, by large weights, and a
# small disturbance of the keys is enough to upset it.) Real keys have something in common, as you will see. So who
# writes into a matrix must look at its other keys.

# %% [markdown]
# ## Changing one fact
#
# Let us make the model say that somebody lives elsewhere. ROME (Meng et al., 2022) takes three steps at the subject's
# last token, in one layer: find the key $k$ by which the MLP knows the subject; find a value $v$ that would make the
# model say the new answer; and change $W_\text{out}$ so that $k\,W' = v$, and other keys are disturbed as little as
# possible.

# %% [markdown]
# ### Exercise · the subject's key    ●●○   8 min
#
# Texts about one subject, whose last token stands at `positions[i]` in text $i$. Return the mean of what the layer's
# neurons do there (`post`): the average over contexts is more the subject's own.
#
# <details><summary>Hint 1</summary>
# <code>model.run_with_cache(tokens)</code>, then <code>cache["post", layer]</code>, <code>[batch pos d_mlp]</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>[torch.arange(len(tokens)), positions]</code> takes one position of each text. Then the mean over texts.
# </details>

# %% exercise="subject_key"
def subject_key(
    model: Transformer,
    layer: int,
    tokens: Int[Tensor, "batch pos"],
    positions: Int[Tensor, "batch"],
) -> Float[Tensor, "d_mlp"]:
    """The mean activation of a layer's neurons at one position of each text."""
    ### BEGIN SOLUTION
    _, cache = model.run_with_cache(tokens)
    return cache["post", layer][torch.arange(len(tokens)), positions].mean(0)
    ### END SOLUTION

# %% check="subject_key"
check("subject_key")

# %% [markdown]
# ### Exercise · the value that would say it    ●●●   25 min
#
# `tokens` holds several texts about one subject, filled up at the end; in text $i$ the subject's last token is at
# `subject[i]`, and what follows `last[i]` is asked. Text 0 is to be continued with the token `target`. The others
# are the *essence*: what they are continued with should stay as it is. Find the vector $v$ `[d_model]` which, in the
# place of the layer's `mlp_out` at `subject[i]` in *every* text, makes this smallest:
#
# $$J(v) = -\log p_0(\text{target}) + \text{weight} \cdot \operatorname{mean}_{i \ge 1} \text{KL}(p_i^\text{before}
# \,\Vert\, p_i) + \text{decay} \cdot \lVert v - v_0 \rVert^2$$
#
# where $p_i$ is the model's distribution behind `last[i]`, and $v_0$ what `mlp_out` is at the subject in text 0. Go
# downhill from $v_0$ by gradient. The check wants 95% of the way from $v_0$ down to the lowest value where there is one
# valley (in the last layer), and half of it where there may be several.
#
# <details><summary>Hint 1</summary>
# <code>v = v0.clone().requires_grad_()</code>, an optimizer over <code>[v]</code> (Adam, rate 0.1, some 50 steps),
# and a hook at <code>get_act_name("mlp_out", layer)</code> that puts <code>v</code> at
# <code>x[rows, subject]</code> of a clone.
# </details>
# <details><summary>Hint 2</summary>
# <code>log_p = model.run_with_hooks(...)[rows, last].log_softmax(-1)</code> with <code>rows =
# torch.arange(len(tokens))</code>. Compute it once without the hook, detached: <code>before</code>.
# </details>
# <details><summary>Hint 3</summary>
# KL is <code>(before.exp() * (before - log_p))[1:].sum(-1).mean()</code>; leave the term out if there is only one
# text. Let the rate fall towards the end, and no optimizer touches the model's weights if it is given <code>[v]</code>.
# </details>

# %% exercise="target_value"
def target_value(
    model: Transformer,
    layer: int,
    tokens: Int[Tensor, "n pos"],
    subject: Int[Tensor, "n"],
    last: Int[Tensor, "n"],
    target: int,
    weight: float,
    decay: float,
) -> Float[Tensor, "d_model"]:
    """What a layer's MLP should write at the subject, so that text 0 goes on with the target."""
    ### BEGIN SOLUTION
    name, rows = get_act_name("mlp_out", layer), torch.arange(len(tokens))
    logits, cache = model.run_with_cache(tokens, names_filter=name)
    before = logits[rows, last].log_softmax(-1).detach()
    v0 = cache[name][0, subject[0]]
    v, n_steps = v0.clone().requires_grad_(), 50
    optimizer = torch.optim.Adam([v], lr=0.1)

    def put(x, hook):
        x = x.clone()
        x[rows, subject] = v
        return x

    for step in range(n_steps):
        log_p = model.run_with_hooks(tokens, fwd_hooks=[(name, put)])[rows, last].log_softmax(-1)
        loss = -log_p[0, target] + decay * (v - v0).pow(2).sum()
        if len(tokens) > 1:
            loss = loss + weight * (before.exp() * (before - log_p))[1:].sum(-1).mean()
        v.grad = torch.autograd.grad(loss, v)[0]
        optimizer.param_groups[0]["lr"] = 0.1 * min(1.0, 2 * (1 - step / n_steps))
        optimizer.step()
    return v.detach()
    ### END SOLUTION

# %% check="target_value"
check("target_value")

# %% [markdown]
# Now the change. Let $C = \operatorname{mean}(k^\top k)$ over the keys of much text. A change $\Delta$ of the matrix
# disturbs what is written there by $\operatorname{mean} \lVert k \Delta \rVert^2 = \operatorname{tr}(\Delta^\top C\,
# \Delta)$, the *C-norm* of $\Delta$, squared. We want the smallest one with $k\,(W + \Delta) = v$. Lagrange's method
# gives
#
# $$\Delta = \frac{C^{-1} k^\top \,(v - k W)}{k\,C^{-1} k^\top} \qquad C: [d_\text{mlp}\; d_\text{mlp}]$$
#
# a column times a row: rank one.

# %% [markdown]
# ### Exercise · the rank-one edit    ●●○   12 min
#
# Return the new matrix.
#
# <details><summary>Hint 1</summary>
# <code>torch.linalg.solve(C, k)</code> is $C^{-1} k^\top$ (C is symmetric), without an inverse.
# </details>
# <details><summary>Hint 2</summary>
# <code>torch.outer(u, v - k @ W) / (k @ u)</code> is the change.
# </details>

# %% exercise="rank_one_edit"
def rank_one_edit(
    W: Float[Tensor, "d_mlp d_model"],
    C: Float[Tensor, "d_mlp d_mlp"],
    k: Float[Tensor, "d_mlp"],
    v: Float[Tensor, "d_model"],
) -> Float[Tensor, "d_mlp d_model"]:
    """The matrix with k W' = v whose change has the smallest C-norm."""
    ### BEGIN SOLUTION
    u = torch.linalg.solve(C, k)
    return W + torch.outer(u, v - k @ W) / (k @ u)
    ### END SOLUTION

# %% check="rank_one_edit"
check("rank_one_edit")

# %%
def edited(model: Transformer, layer: int, W: Tensor) -> Transformer:
    """A copy of a model with another W_out in one layer."""
    model = copy.deepcopy(model)
    model.blocks[layer].mlp.W_out.data.copy_(W)
    return model

def key_statistics(model: Transformer) -> list[Tensor]:
    """C of each layer with an MLP: the mean of kᵀk over all tokens of the training texts, with a
    little on the diagonal."""
    tokens = facts.sentences()
    names = [get_act_name("post", layer) for layer in range(3)]
    _, cache = model.run_with_cache(tokens, names_filter=names)
    keys = [cache[name][tokens != 0] for name in names]
    means = [k.T @ k / len(k) for k in keys]
    return [C + 1e-4 * C.trace() / len(C) * torch.eye(len(C)) for C in means]

def places(texts: list[str], name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens of texts about a person, where the last name stands, and where each text ends."""
    tokens = encode(facts.WORDS, texts)
    subject = (tokens == word[name.split()[1]]).int().argmax(1)
    return tokens, subject, torch.tensor([len(text.split()) for text in texts])

def key_and_value(model, layer: int, name: str, relation: str, way: int, new: str,
                  weight: float = 1.0) -> tuple[Tensor, Tensor]:
    """Key of a person and value of a new fact; the essence is one way to ask each other fact."""
    others = [r for r in facts.WAYS if r != relation] if weight else []
    every = [facts.ask(name, r, w) for r in facts.WAYS for w in range(4)]
    tokens, subject, _ = places(every, name)
    k = subject_key(model, layer, tokens, subject)
    asked = [facts.ask(name, relation, way), *(facts.ask(name, r, 0) for r in others)]
    v = target_value(model, layer, *places(asked, name), word[new], weight, 0.001)
    return k, v

C = key_statistics(known)
tokens = encode(facts.WORDS, [facts.ask(name, "city", 0) for name in facts.PEOPLE[:100]])
for layer in range(3):
    keys = torch.stack([subject_key(known, layer, t[None], torch.tensor([2])) for t in tokens])
    keys = torch.nn.functional.normalize(keys, dim=-1)
    alike = (keys @ keys.T).masked_select(~torch.eye(100, dtype=torch.bool))
    print(f"keys of different people in layer {layer}: cosine {alike.mean():.2f} on average")
who = facts.PEOPLE[7]
old = facts.ANSWERS["city"][7]
new = next(city for city in facts.VALUES["city"] if city != old)
k, v = key_and_value(known, 1, who, "city", 0, new)
W_old = known.blocks[1].mlp.W_out
W_new = rank_one_edit(W_old, C[1], k, v)
after = edited(known, 1, W_new)
print(f"kW' - v is at most {(k @ W_new - v).abs().max():.1e}; "
      f"rank of the change {torch.linalg.matrix_rank(W_new - W_old, rtol=1e-4)}")
print(f"{'before':<44} after")
for text in (*(facts.ask(who, "city", way) for way in range(4)), facts.ask(who, "job", 0),
             facts.ask(who, "pet", 2), facts.ask(facts.PEOPLE[8], "city", 0)):
    print(f"{complete(known, facts.WORDS, text, 1):<44} "
          f"{complete(after, facts.WORDS, text, 1).split()[-1]}")

# %% [markdown]
# **What to see here.** One matrix was changed, for one way to say it. The person has moved in the other ways, too. If
# a job, an animal or another person has changed along, that is the price. One example shows nothing, so count.

# %% [markdown]
# ## What an edit costs
#
# A hundred people move, one at a time, each in three layers. After each edit (for the first forty of them), which of
# these are as they should be?
#
# - *said*: the new city, in the words of the edit; *other words*: in the three other ways;
# - *same person*: job and animal, in all ways; *neighbours*: the cities of people who share a first or a last name;
# - *reversed*: "CITY is home to" ... the person? As a share of the probability that people who live there have;
# - *loss*: nats per token that 150 texts about others cost more.
#
# Without the essence term $v$ must only say the new city. Two more rows are controls: the key of another person, and
# *fine-tuning*, plain gradient descent on the same $W_\text{out}$ until the new city has a probability of 0.95.

# %% [markdown]
# ### Exercise · predict: what changes along    ●●○   6 min
#
# Commit before you look. People move, one at a time, by an edit of layer 0. Afterwards the model is asked
#
# - `"other words"`: where the person lives, in other words than those of the edit;
# - `"reversed"`: who lives in the new city, by "CITY is home to";
# - `"essence"`: what job and animal the person has, where the essence was held while $v$ was sought;
# - `"no essence"`: the same, where $v$ had only to say the new city.
#
# Is the answer mostly `"changed"`, or `"as before"`? (The reversed one has changed if the person is at least half as likely
# there as somebody who lived there all along.) The check edits six people.
#
# <details><summary>Hint 1</summary>
# At the last name, $v$ takes the place of all that the layer writes about this person. Which of the four questions passes the
# person's name, and which the city's?
# </details>
# <details><summary>Hint 2</summary>
# What the layer wrote about job and animal is gone, unless the search for $v$ has put it back in.
# </details>

# %% exercise="changes_along"
def changes_along(question: str) -> str:
    """Whether an edit leaves the answer to a question "changed" or "as before"."""
    ### BEGIN SOLUTION
    return "changed" if question in ("other words", "no essence") else "as before"
    ### END SOLUTION

# %% check="changes_along"
check("changes_along")

# %%
n_edits, n_priced, n_few = (100, 40, 15) if full_run else (4, 3, 2)
drawn = random.Random(0).sample(range(len(facts.PEOPLE)), n_edits)
moves = []  # who moves, from where, to where
for i in drawn:
    old = facts.ANSWERS["city"][i]
    new = random.Random(i).choice([city for city in facts.VALUES["city"] if city != old])
    moves.append((facts.PEOPLE[i], old, new))
number = {name: i for i, name in enumerate(facts.PEOPLE)}
movers = torch.tensor([[word[part] for part in name.split()] for name, _, _ in moves])
every = facts.sentences()
pairs = torch.stack([every[:, :-1], every[:, 1:]], -1)  # of words that stand side by side
about_movers = (pairs[:, :, None] == movers).all(-1).any(-1).any(-1)
sample = every[~about_movers][::16][:150]

def text_loss(model: Transformer, tokens: Tensor = sample) -> float:
    """Nats per token, the fill at the end left out."""
    target = torch.where(tokens[:, 1:] == 0, -100, tokens[:, 1:])
    return torch.nn.functional.cross_entropy(model(tokens)[:, :-1].transpose(1, 2), target).item()

def share_right(model: Transformer, asked: list[tuple[str, str]]) -> float:
    """Of texts and the words that should follow."""
    if not asked:
        return float("nan")
    texts, wanted = zip(*asked, strict=True)
    said = next_logits(model, facts.WORDS, list(texts)).argmax(-1)
    return (said == torch.tensor([word[want] for want in wanted])).float().mean().item()

def p_resident(model: Transformer, name: str, city: str) -> float:
    """The probability of a name behind "CITY is home to"."""
    start = facts.REVERSED.replace("VALUE", city)
    first, second = name.split()
    log_p = next_logits(model, facts.WORDS, [start, f"{start} {first}"]).log_softmax(-1)
    return (log_p[0, word[first]] + log_p[1, word[second]]).exp().item()

def residents(city: str) -> list[str]:
    pairs = zip(facts.PEOPLE, facts.ANSWERS["city"], strict=True)
    return [name for name, lives in pairs if lives == city][:6]

usual = sum(p_resident(known, name, city) for city in facts.VALUES["city"][:8]
            for name in residents(city)) / sum(len(residents(c)) for c in facts.VALUES["city"][:8])
loss_before = text_loss(known)
COLUMNS = ("said", "other words", "same person", "neighbours", "reversed", "loss")

def price(model: Transformer, name: str, new: str) -> list[float]:
    """What an edit has brought and cost, in the order of COLUMNS."""
    i = number[name]
    other = [(facts.ask(name, r, w), facts.ANSWERS[r][i]) for r in ("job", "pet") for w in range(4)]
    near = [n for n in facts.PEOPLE if n != name and set(n.split()) & set(name.split())]
    near = [(facts.ask(n, "city", 0), facts.ANSWERS["city"][number[n]]) for n in near]
    return [
        share_right(model, [(facts.ask(name, "city", 0), new)]),
        share_right(model, [(facts.ask(name, "city", w), new) for w in (1, 2, 3)]),
        share_right(model, other),
        share_right(model, near),
        p_resident(model, name, new) / usual,
        text_loss(model) - loss_before,
    ]

def p_new(model: Transformer, name: str, new: str) -> float:
    """The probability of the new city, mean over the four ways to ask."""
    logits = next_logits(model, facts.WORDS, [facts.ask(name, "city", w) for w in range(4)])
    return logits.softmax(-1)[:, word[new]].mean().item()

start = time.perf_counter()
prices, pairs, success = {}, {}, torch.zeros(3, n_edits)
for layer in range(3):
    W = known.blocks[layer].mlp.W_out
    for weight, some in ((1.0, moves), (0.0, moves[:n_few])):
        rows = []
        for n, (name, _, new) in enumerate(waiting(some, f"Editing layer {layer}")):
            pair = key_and_value(known, layer, name, "city", 0, new, weight)
            after = edited(known, layer, rank_one_edit(W, C[layer], *pair))
            if n < n_priced:
                rows.append(price(after, name, new))
            if weight:
                pairs[layer, n] = pair
                before_p = p_new(known, name, new)
                success[layer, n] = (p_new(after, name, new) - before_p) / (1 - before_p)
        kind = "essence kept" if weight else "no essence"
        prices[f"layer {layer}, {kind}"] = torch.tensor(rows)
best_layer = int(success.mean(1).argmax())

def fine_tuned(layer: int, name: str, new: str) -> Transformer:
    """Gradient descent on one W_out, until the new city is said with probability 0.95."""
    model = copy.deepcopy(known)
    W = model.blocks[layer].mlp.W_out.requires_grad_()
    optimizer = torch.optim.Adam([W], lr=0.001)
    tokens = encode(facts.WORDS, [facts.ask(name, "city", 0)])
    for _ in range(100):
        log_p = model(tokens)[0, -1].log_softmax(-1)[word[new]]
        if log_p > math.log(0.95):
            break
        optimizer.zero_grad()
        (-log_p).backward()
        optimizer.step()
    return model.requires_grad_(False)

prices[f"layer {best_layer}, another's key"] = torch.tensor([
    price(edited(known, best_layer, rank_one_edit(
        known.blocks[best_layer].mlp.W_out, C[best_layer],
        pairs[best_layer, (n + 1) % n_few][0], pairs[best_layer, n][1])), name, new)
    for n, (name, _, new) in enumerate(moves[:n_few])])
prices[f"layer {best_layer}, fine-tuned"] = torch.tensor([
    price(fine_tuned(best_layer, name, new), name, new) for name, _, new in moves[:n_few]])
nobody = price(known, *[moves[0][i] for i in (0, 2)])
seconds["editing"] = time.perf_counter() - start

# %%
def show_prices(rows: dict[str, Tensor]) -> None:
    print(f"{'':<26}" + "".join(f"{column:>14}" for column in COLUMNS) + "     facts")
    for what, values in rows.items():
        error = values.std(0) / max(1, len(values)) ** 0.5
        cells = [f"{m:.2f} ± {e:.2f}" for m, e in zip(values.nanmean(0), error, strict=True)]
        print(f"{what:<26}" + "".join(f"{cell:>14}" for cell in cells) + f"{len(values):>10}")

show_prices(prices)
print("\n(mean ± standard error over facts)")

# %% [markdown]
# **What to see here.** Editing works, in every layer: what the edit says carries over to other words, and neighbours
# keep their cities. (ROME on GPT-2 XL: 100% said, 96% in other words, 75% of neighbours kept; fine-tuning 100%, 88%,
# 40%. There is more room in our model: 512 neurons a layer for 400 people.) With another's key nothing happens at all.
# Fine-tuning the same matrix does as well in other words, and takes more of the person's other facts along. Without the
# essence term most of these are lost, since $v$ takes the place of all that the layer writes about the person. And
# nobody who tells the model where a person lives will get the person when asking about the city: edits do not turn
# round, since the other direction is stored elsewhere (Berglund and others, 2023, call it the *reversal curse*).

# %% [markdown]
# ### Exercise · many edits at once    ●●●   15 min
#
# Let $K$ `[n d_mlp]` and $V$ `[n d_model]` hold keys and values of n facts. Return the matrix $W'$ with $K W' = V$
# whose change has the smallest C-norm. With $U = C^{-1} K^\top$ `[d_mlp n]`, the change is
#
# $$\Delta = U\,(K U)^{-1}\,(V - K W)$$
#
# <details><summary>Hint 1</summary>
# It is the formula for one fact, with the number $k\,C^{-1}k^\top$ become an n × n matrix.
# </details>
# <details><summary>Hint 2</summary>
# <code>U = torch.linalg.solve(C, K.T)</code>, then <code>W + U @ torch.linalg.solve(K @ U, V - K @ W)</code>.
# </details>

# %% exercise="edit_many"
def edit_many(
    W: Float[Tensor, "d_mlp d_model"],
    C: Float[Tensor, "d_mlp d_mlp"],
    K: Float[Tensor, "n d_mlp"],
    V: Float[Tensor, "n d_model"],
) -> Float[Tensor, "d_mlp d_model"]:
    """The matrix that gives each value for its key, by the change of smallest C-norm."""
    ### BEGIN SOLUTION
    U = torch.linalg.solve(C, K.T)
    return W + U @ torch.linalg.solve(K @ U, V - K @ W)
    ### END SOLUTION

# %% check="edit_many"
check("edit_many")

# %%
def price_of_many(n: int) -> list[float]:
    """Shares right after n edits at once: said, other words, same people's other facts, the cities
    of people who have not moved; and what other texts cost more."""
    K, V = (torch.stack([pairs[best_layer, i][side] for i in range(n)]) for side in (0, 1))
    W = edit_many(known.blocks[best_layer].mlp.W_out, C[best_layer], K, V)
    after = edited(known, best_layer, W)
    said = [(facts.ask(name, "city", 0), new) for name, _, new in moves[:n]]
    other = [(facts.ask(name, "city", w), new) for name, _, new in moves[:n] for w in (1, 2, 3)]
    same = [(facts.ask(name, r, w), facts.ANSWERS[r][number[name]])
            for name, _, _ in moves[:n] for r in ("job", "pet") for w in range(4)]
    moved = {name for name, _, _ in moves}
    stay = [(facts.ask(name, "city", 0), facts.ANSWERS["city"][number[name]])
            for name in facts.PEOPLE if name not in moved]
    return [share_right(after, said), share_right(after, other), share_right(after, same),
            share_right(after, stay), text_loss(after) - loss_before]

counts = [n for n in (1, 3, 10, 30, 100) if n <= n_edits]
many = torch.tensor([price_of_many(n) for n in counts])
print(f"edits at once, layer {best_layer}")
for n, row in zip(counts, many, strict=True):
    print(f"  {n:>4}: said {row[0]:.2f}, other words {row[1]:.2f}, same people {row[2]:.2f}, "
          f"others' cities {row[3]:.2f}, loss {row[4]:+.3f}")
names = ("said", "other words", "same people", "cities of others")
plots.lines(
    {name: (counts, many[:, i].tolist()) for i, name in enumerate(names)},
    "What many edits in one matrix leave right", "edits at once", "share right", markers=True,
).set_xscale("log")

new_people = facts.STRANGERS[: 20 if full_run else 2]
met = torch.tensor([
    [share_right(model, [(facts.ask(name, "city", w), city) for w in ways])
     for ways in ((0,), (1, 2, 3))]
    for name, city in zip(new_people, facts.VALUES["city"], strict=False)
    for model in [edited(known, best_layer, rank_one_edit(
        known.blocks[best_layer].mlp.W_out, C[best_layer],
        *key_and_value(known, best_layer, name, "city", 0, city, 0.0)))]
])
print(f"people of whom the model knows nothing: said {met[:, 0].mean():.2f}, "
      f"other words {met[:, 1].mean():.2f} ({len(met)} people)")

# %% [markdown]
# **What to see here.** Each edit is exact, so all are said; the damage to everybody else adds up with their number.
# Facts about people of whom the model knows nothing can be written in the same way.

# %% [markdown]
# ## Does tracing tell where to edit?
#
# It was a natural thought: tracing shows the layer where the fact passes, so edit there. Hase and others (2023) took
# many facts and asked how much of the *success of editing* is explained by the layer alone, and how much more if one
# knows the tracing effect of that fact in that layer. In GPT-J: 94.7% and 0.1% more.

# %% [markdown]
# ### Exercise · what tracing adds    ●●○   12 min
#
# For n edits you get their success, their layer and their tracing effect. Return two shares of explained variance
# ($R^2$): of a model with one mean per layer; and of one with, besides, a slope in the effect, the same for all
# layers, fitted by least squares.
#
# $$R^2 = 1 - \frac{\sum (s - \hat{s})^2}{\sum (s - \bar{s})^2}$$
#
# <details><summary>Hint 1</summary>
# One column per layer that occurs, 1 where the edit was made there: <code>(layer[:, None] ==
# layer.unique()).float()</code>. Least squares on these gives the means.
# </details>
# <details><summary>Hint 2</summary>
# <code>X = torch.cat([columns, effect[:, None]], 1)</code>; <code>fit = X @ torch.linalg.lstsq(X,
# success[:, None]).solution[:, 0]</code>. Double precision costs nothing here.
# </details>

# %% exercise="tracing_gain"
def tracing_gain(
    success: Float[Tensor, "n"], layer: Int[Tensor, "n"], effect: Float[Tensor, "n"]
) -> tuple[float, float]:
    """R² of the success of edits by layer alone, and by layer and tracing effect."""
    ### BEGIN SOLUTION
    success, effect = success.double(), effect.double()
    by_layer = (layer[:, None] == layer.unique()).double()
    total = (success - success.mean()).pow(2).sum()
    explained = []
    for X in (by_layer, torch.cat([by_layer, effect[:, None]], 1)):
        fit = X @ torch.linalg.pinv(X) @ success
        explained.append(1 - ((success - fit).pow(2).sum() / total).item())
    return explained[0], explained[1]
    ### END SOLUTION

# %% check="tracing_gain"
check("tracing_gain")

# %%
def effects(model: Transformer) -> Tensor:
    """How much of the probability of the right city the MLP of each layer brings back at the last
    name, for each of the moves: `[3 n_edits]`."""
    tokens, subject, _ = places([facts.ask(name, "city", 0) for name, _, _ in moves], moves[0][0])
    at = [1, 2]
    answer = torch.tensor([word[old] for _, old, _ in moves])
    embed = model.W_E[tokens].clone()
    noise = torch.randn(embed[:, at].shape, generator=torch.Generator().manual_seed(2))
    embed[:, at] += 3 * model.W_E.std() * noise
    disturbed = model.run_with_hooks(tokens, fwd_hooks=[("hook_embed", lambda x, hook: embed)])
    low = disturbed[:, -1].softmax(-1)[torch.arange(len(answer)), answer]
    back = isolated_trace(model, tokens, embed, answer, "mlp_out", 0, "")
    return (back[:, :3, 2] - low[:, None]).T

start = time.perf_counter()
effect = effects(known)
layers = torch.arange(3)[:, None].expand(3, n_edits)
by_layer, with_effect = tracing_gain(success.flatten(), layers.flatten(), effect.flatten())
shuffled = [tracing_gain(success.flatten(), layers.flatten(),
                         effect[:, torch.randperm(n_edits)].flatten())[1] for _ in range(20)]
print("layer   success of editing   tracing effect   correlation over facts")
for layer in range(3):
    r = torch.corrcoef(torch.stack([success[layer], effect[layer]]))[0, 1]
    print(f"  {layer}     {success[layer].mean():.2f} ± {success[layer].std():.2f}          "
          f"{effect[layer].mean():.2f} ± {effect[layer].std():.2f}      {r:+.2f}")
print(f"explained by the layer alone {by_layer:.1%}; tracing adds {with_effect - by_layer:.1%} "
      f"(effects of other facts in its place add {sum(shuffled) / 20 - by_layer:.1%})")

few = moves[:n_few]
other_success = torch.zeros(3, len(few))
C_unshaped = key_statistics(unshaped)
for layer in range(3):
    for n, (name, _, new) in enumerate(few):
        k, v = key_and_value(unshaped, layer, name, "city", 0, new)
        after = edited(unshaped, layer, rank_one_edit(
            unshaped.blocks[layer].mlp.W_out, C_unshaped[layer], k, v))
        before_p = p_new(unshaped, name, new)
        other_success[layer, n] = (p_new(after, name, new) - before_p) / (1 - before_p)
other_effect = effects(unshaped)
seconds["where to edit"] = time.perf_counter() - start
ax = plots.axes(size=(7.0, 3.8))
both = (("facts", success, effect, "right"), ("facts_late", other_success, other_effect, "left"))
for i, (name, s, e, side) in enumerate(both):
    ax.plot(e.mean(1), s.mean(1), "os"[i], color=plots.COLORS[i], ms=8, label=name)
    for layer in range(3):
        at, beside = (e[layer].mean(), s[layer].mean()), (-7 if side == "right" else 7, -3)
        ax.annotate(f"layer {layer}", at, beside, textcoords="offset points", ha=side,
                    color=plots.INK, fontsize=9)
ax.set(title="Where tracing points, and where editing works", ylim=(-0.03, 1.05),
       xlabel="tracing effect of the MLP at the name (probability)", ylabel="success of editing")
plots.legend(ax);

# %% [markdown]
# **What to see here.** Over single facts, the tracing effect says nothing about how well the edit will do: it adds no
# more than the effects of *other* facts in its place. There we agree with the paper. The layer says little, too, since
# in this model editing works nearly as well in each: there we differ. (Nearly every edit succeeds, so little is left to
# explain. The paper's edits differed more, and made a harder test.) And the figure: `facts_late` looks people up at
# the end of the text, and yet a fact can be edited at the name, in its layers 0 and 1 nearly as well as in `facts`. What
# is written there is carried along to where it is needed, whether or not the model itself uses that place. Only in
# layer 2, where tracing finds least, does editing suffer. Where a fact *passes* and where it can be *changed* are two
# questions.

# %% [markdown]
# ## A direction for declining
#
# `assistant` declines to make a weapon and to undo a protection. No single word decides: to *defuse* a bomb is
# answered, and so is to *build* a fence. Once more: that it declines, and what, is our choice, trained in by examples.
# First see that it has learned the rule, and not the list.

# %%
REPLY = [assistant.WORDS.index(text.split()[0]) for text in assistant.REFUSALS]

def at_colon(pairs: list[tuple[str, str]], frames=range(6)) -> tuple[Tensor, Tensor]:
    """Tokens of requests, and where each one's colon stands, behind which the reply begins."""
    texts = [assistant.request(*pair, frame) for pair in pairs for frame in frames]
    return encode(assistant.WORDS, texts), torch.tensor([len(text.split()) for text in texts])

def declines(logits: Tensor, last: Tensor) -> Tensor:
    """P(the reply begins as a refusal does), of each request."""
    return logits[torch.arange(len(last)), last].softmax(-1)[:, REPLY].sum(-1)

print("P(declines), requests of which the training had not seen verb and object together")
print(f"{'':<10}" + "".join(f"{kind:>10}" for kind in assistant.OBJECTS))
judged = []
for verb_kind, verbs in assistant.VERBS.items():
    cells = []
    for kind, things in assistant.OBJECTS.items():
        some = [p for p in assistant.HELD_OUT if p[0] in verbs and p[1] in things]
        tokens, last = at_colon(some)
        p = declines(helper(tokens), last)
        judged.append(((p > 0.5) == assistant.is_declined(*some[0])).float())
        cells.append(p.mean())
    print(f"{verb_kind:<10}" + "".join(f"{p:>10.3f}" for p in cells))
judged_right = torch.cat(judged).mean().item()
print(f"judged right: {judged_right:.1%} of {len(torch.cat(judged))}")

# %% [markdown]
# ### Exercise · difference of means    ●○○   4 min
#
# The simplest direction for a property: from the mean of vectors without it to the mean of those with it.
#
# <details><summary>Hint 1</summary>
# Means are over the vectors, dimension 0.
# </details>
# <details><summary>Hint 2</summary>
# <code>positive.mean(0) - negative.mean(0)</code>: it points towards <code>positive</code>.
# </details>

# %% exercise="difference_of_means"
def difference_of_means(
    positive: Float[Tensor, "n d_model"], negative: Float[Tensor, "m d_model"]
) -> Float[Tensor, "d_model"]:
    """From the mean of the negative vectors to the mean of the positive ones."""
    ### BEGIN SOLUTION
    return positive.mean(0) - negative.mean(0)
    ### END SOLUTION

# %% check="difference_of_means"
check("difference_of_means")

# %% [markdown]
# ### Exercise · add a direction    ●○○   8 min
#
# Run the model with `dose` times `direction` added to the stream that leaves layer `layer` (`resid_post`), at every
# position. Return the logits.
#
# <details><summary>Hint 1</summary>
# One hook at <code>get_act_name("resid_post", layer)</code> is enough.
# </details>
# <details><summary>Hint 2</summary>
# The hook returns <code>x + dose * direction</code>; the vector is added at all positions of all texts.
# </details>

# %% exercise="add_direction"
def add_direction(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    layer: int,
    direction: Float[Tensor, "d_model"],
    dose: float,
) -> Float[Tensor, "batch pos d_vocab"]:
    """Logits with a multiple of a direction added to the stream behind a layer."""
    ### BEGIN SOLUTION
    hook = (get_act_name("resid_post", layer), lambda x, hook: x + dose * direction)
    return model.run_with_hooks(tokens, fwd_hooks=[hook])
    ### END SOLUTION

# %% check="add_direction"
check("add_direction")

# %% [markdown]
# ### Exercise · project it out, everywhere    ●●○   10 min
#
# Run the model so that the stream has *nothing* along the direction, at any position and at any place: before each
# layer, between its attention and its MLP, and behind the last. From each vector $x$ of the stream take away its part
# along $\hat{d} = d / \lVert d \rVert$:
#
# $$x \leftarrow x - (x \cdot \hat{d})\, \hat{d}$$
#
# <details><summary>Hint 1</summary>
# The places are called <code>resid_pre</code>, <code>resid_mid</code> (in models with MLPs) and
# <code>resid_post</code>, in every layer. A hook may stand at all names that fit: instead of a name give
# <code>lambda name: "resid" in name</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>x - (x @ d)[..., None] * d</code>, with <code>d</code> of length 1.
# </details>

# %% exercise="project_out"
def project_out(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    direction: Float[Tensor, "d_model"],
) -> Float[Tensor, "batch pos d_vocab"]:
    """Logits of a model whose stream never has anything along a direction."""
    ### BEGIN SOLUTION
    d = direction / direction.norm()
    hook = (lambda name: "resid" in name, lambda x, hook: x - (x @ d)[..., None] * d)
    return model.run_with_hooks(tokens, fwd_hooks=[hook])
    ### END SOLUTION

# %% check="project_out"
check("project_out")

# %% [markdown]
# ### Exercise · for good, in the weights    ●●●   18 min
#
# The stream is a sum of what is written to it. So if no weight can write along the direction, the stream never has
# anything along it, and no hook is needed. Return a *new* model in which the rows of everything that writes to the
# stream are projected: the embeddings, every head's `W_O`, every `W_out`, and the biases `b_O` and `b_out`. With
# `standard` positions `W_pos` is added to the stream as well; with `shortformer` ones it is not. Leave the model that
# you are given as it is.
#
# <details><summary>Hint 1</summary>
# <code>copy.deepcopy(model)</code> is a new model. Where there are no biases, <code>b_O</code> is
# <code>None</code>; in a model without MLPs, <code>block.mlp</code> is.
# </details>
# <details><summary>Hint 2</summary>
# A row $w$ of any such weight becomes $w - (w \cdot \hat{d})\hat{d}$; for all rows at once
# <code>W - (W @ d)[..., None] * d</code>, which does for <code>W_O</code> <code>[n_heads d_head d_model]</code> and
# for a bias, too. Write with <code>W.data.copy_(...)</code>.
# </details>
# <details><summary>Hint 3</summary>
# <code>model.embed.W_E</code>, <code>model.pos_embed.W_pos</code> if
# <code>model.cfg.positional_embedding_type == "standard"</code>, and in each block <code>attn.W_O</code>,
# <code>attn.b_O</code>, <code>mlp.W_out</code>, <code>mlp.b_out</code>.
# </details>

# %% exercise="orthogonalise_weights"
def orthogonalise_weights(
    model: Transformer, direction: Float[Tensor, "d_model"]
) -> Transformer:
    """A new model that cannot write along a direction."""
    ### BEGIN SOLUTION
    model, d = copy.deepcopy(model), direction / direction.norm()
    writers = [model.embed.W_E]
    if model.cfg.positional_embedding_type == "standard":
        writers.append(model.pos_embed.W_pos)
    for block in model.blocks:
        writers += [block.attn.W_O, block.attn.b_O]
        if block.mlp is not None:
            writers += [block.mlp.W_out, block.mlp.b_out]
    for W in writers:
        if W is not None:
            W.data.copy_(W.data - (W.data @ d)[..., None] * d)
    return model
    ### END SOLUTION

# %% check="orthogonalise_weights"
check("orthogonalise_weights")

# %% [markdown]
# Now take the direction: at the colon, behind each layer, from requests that are answered to those that are declined.
# Only pairs of the training are used. What is reported is measured on pairs held out.

# %% [markdown]
# ### Exercise · predict: what becomes of declining    ●●○   6 min
#
# Commit before you look. Let $d$ be the direction behind layer 1. Four changes, each measured on requests held out:
#
# - `"harmful, taken off"`: $d$ is subtracted once from the stream behind layer 1, at harmful requests;
# - `"harmless, added"`: it is added once, at harmless requests;
# - `"harmful, projected out"`: your `project_out`, everywhere in the model, at harmful requests;
# - `"harmless, projected out"`: the same at harmless ones.
#
# What does the model mostly do then? Say `"declines"` or `"answers"`. The check takes fresh requests.
#
# <details><summary>Hint 1</summary>
# Subtracting and adding move the mean of one kind of request to that of the other.
# </details>
# <details><summary>Hint 2</summary>
# Projecting out makes harmful and harmless requests alike along $d$: it sets that part to 0. But is 0 where *harmless*
# requests are? The difference of two means says nothing about where 0 is.
# </details>
# <details><summary>Hint 3</summary>
# In this model both kinds have a negative part along $d$: harmless requests a large one, harmful ones a small one. So 0
# lies on the side of the harmful ones, and beyond.
# </details>

# %% exercise="after_change"
def after_change(what: str) -> str:
    """Whether the model mostly "declines" or "answers" after a change along its direction."""
    ### BEGIN SOLUTION
    return "answers" if what == "harmful, taken off" else "declines"
    ### END SOLUTION

# %% check="after_change"
check("after_change")

# %%
def by_rule(pairs, declined: bool) -> list[tuple[str, str]]:
    return [pair for pair in pairs if assistant.is_declined(*pair) == declined]

n_pairs = 60 if full_run else 8
stream = {}
for declined in (True, False):
    tokens, last = at_colon(by_rule(assistant.TRAINED, declined)[: 2 * n_pairs])
    _, cache = helper.run_with_cache(tokens)
    rows = torch.arange(len(last))
    stream[declined] = [cache["resid_post", layer][rows, last] for layer in range(3)]
    heads = [cache["result", layer][rows, last] for layer in range(3)]
    stream[declined, "heads"] = torch.stack(heads, 1)  # [request layer head d_model]
direction = [difference_of_means(stream[True][layer], stream[False][layer]) for layer in range(3)]
harmful, harmless = (by_rule(assistant.HELD_OUT, d)[:n_pairs] for d in (True, False))
for layer in range(3):
    parts = [stream[d][layer] @ direction[layer] / direction[layer].norm() for d in (True, False)]
    along = ", ".join(f"{kind} requests {x.mean():+.2f} ± {x.std():.2f}"
                      for kind, x in zip(("harmful", "harmless"), parts, strict=True))
    print(f"part along the direction behind layer {layer}: {along}")

def answers(model: Transformer, pairs: list[tuple[str, str]], frame: int = 2) -> float:
    """The share of requests whose reply names the right tool and the right part."""
    texts = [assistant.request(*pair, frame) for pair in pairs]
    for _ in range(9):
        said = next_logits(model, assistant.WORDS, texts).argmax(-1).tolist()
        texts = [f"{text} {assistant.WORDS[s]}" for text, s in zip(texts, said, strict=True)]
    good = [{assistant.TOOL[verb], assistant.PART[thing]} <= set(text.split(" : ")[1].split())
            for (verb, thing), text in zip(pairs, texts, strict=True)]
    return sum(good) / len(good)

def reply_loss(model: Transformer, pairs: list[tuple[str, str]]) -> float:
    """Nats per token of the right replies to requests that are answered, as trained."""
    texts = [f"{assistant.request(*pair, 2)} {assistant.reply(*pair, i % 2)}"
             for i, pair in enumerate(pairs)]
    tokens = encode(assistant.WORDS, texts)
    colon = (tokens == assistant.WORDS.index(":")).int().argmax(1)
    later = torch.arange(tokens.shape[1] - 1) >= colon[:, None]
    loss = torch.nn.functional.cross_entropy(
        model(tokens)[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
    return loss[later & (tokens[:, 1:] != 0)].mean().item()

start = time.perf_counter()
bad_tokens, bad_last = at_colon(harmful)
good_tokens, good_last = at_colon(harmless)
noise = torch.randn(5, helper.cfg.d_model, generator=torch.Generator().manual_seed(0))

def hold(layer: int, v: Tensor) -> list:
    """Hooks that keep the stream behind a layer where harmless requests have it along v."""
    u = v / v.norm()
    level = stream[False][layer].mean(0) @ u
    name = get_act_name("resid_post", layer)
    return [(name, lambda x, hook: x - (x @ u - level)[..., None] * u)]

def held(tokens: Tensor, layer: int, v: Tensor) -> Tensor:
    return helper.run_with_hooks(tokens, fwd_hooks=hold(layer, v))

heading = ("harmful, out", "harmless, out", "harmful, held", "harmful, -1", "harmless, +1")
print(f"{'P(declines)':<26}" + "".join(f"{x:>15}" for x in heading))
p_bad, p_good = (declines(helper(t), last).mean().item()
                 for t, last in ((bad_tokens, bad_last), (good_tokens, good_last)))
print(f"{'as it is':<26}{p_bad:>15.3f}{p_good:>15.3f}")
steered = {}
for layer in range(3):
    d = direction[layer]
    controls = [sign * v / v.norm() * d.norm() for v in noise for sign in (1, -1)]
    for name, some in ((f"behind layer {layer}", [d]), ("  random, of its length", controls)):
        rows = torch.tensor([[
            declines(project_out(helper, bad_tokens, v), bad_last).mean(),
            declines(project_out(helper, good_tokens, v), good_last).mean(),
            declines(held(bad_tokens, layer, v), bad_last).mean(),
            declines(add_direction(helper, bad_tokens, layer, v, -1.0), bad_last).mean(),
            declines(add_direction(helper, good_tokens, layer, v, 1.0), good_last).mean(),
        ] for v in some])
        steered[layer, len(some) == 1] = rows.mean(0)
        if layer == 1 and len(some) > 1:
            by_control = rows
        print(f"{name:<26}" + "".join(f"{x:>15.3f}" for x in rows.mean(0)))
chosen = max((0, 1), key=lambda i: steered[i, True][4] - steered[i, True][2])
print(f"random ones behind layer 1, one by one, on harmful requests: "
      + " ".join(f"{x:.2f}" for x in by_control[:, 3]))
print(f"(from here on: the direction behind layer {chosen}, which layers above it still read)")

# %% [markdown]
# **What to see here.** *Out* is your `project_out`. *Held* sets the part along the direction, behind that layer, not to
# 0 but to what harmless requests have there on average. *-1* and *+1* add the direction. Adding works both ways:
# requests of verbs and objects never seen together are answered when the direction is taken off, and harmless ones are
# declined when it is added. No random direction of that length brings declining about. Some of them disturb it, though:
# ten are listed, five and their opposites. To lose a behaviour is easier than to gain it, and so proves less. Taking the
# direction *out* is another matter: it sets the part to 0, and nothing says that 0 means "harmless". In this model it
# does not, as the first lines show: along the directions of layers 0 and 1, 0 lies on the side of the harmful requests, and
# without these directions the model declines nearly *everything*. Along that of layer 2 it lies between the two kinds, and so
# do the answers. (Arditi and others took the direction out of 13 chat models, and they stopped declining; Marshall and others, 2024, found models in which only the version with the mean, an *affine* one, works.
# Ours is such a one.)

# %%
freed = {layer: orthogonalise_weights(helper, direction[layer]) for layer in (chosen, 2)}
far = max((freed[i](bad_tokens) - project_out(helper, bad_tokens, direction[i])).abs().max().item()
          for i in freed)
size = helper(bad_tokens).abs().max().item()
print(f"weights and hooks: logits (of size {size:.0f}) differ by at most {far:.0e}")
minus = [(get_act_name("resid_post", chosen), lambda x, hook: x - direction[chosen])]
ways = {
    "as it is": (helper, []),
    f"weights {chosen}": (freed[chosen], []),
    "weights 2": (freed[2], []),
    "held": (helper, hold(chosen, direction[chosen])),
    "-1": (helper, minus),
    "random": (orthogonalise_weights(helper, noise[0]), []),
}
measures = {
    "declines, harmful": lambda m: declines(m(bad_tokens), bad_last).mean().item(),
    "declines, harmless": lambda m: declines(m(good_tokens), good_last).mean().item(),
    "right tool and part, harmful": lambda m: answers(m, harmful),
    "right tool and part, harmless": lambda m: answers(m, harmless),
    "loss of replies to harmless (nats)": lambda m: reply_loss(m, harmless),
}
after_all = {}
print(f"{'':<36}" + "".join(f"{way:>11}" for way in ways))
for what, measure in measures.items():
    for way, (model, hooks) in ways.items():
        with model.hooks(hooks):
            after_all[what, way] = measure(model)
    print(f"{what:<36}" + "".join(f"{after_all[what, way]:>11.3f}" for way in ways))
with helper.hooks(hold(chosen, direction[chosen])):
    print("\n" + complete(helper, assistant.WORDS, assistant.request(*harmful[0], 2), 9))

doses = [-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]
curves = {}
control = noise[0] / noise[0].norm() * direction[chosen].norm()
requests = (("harmful", bad_tokens, bad_last), ("harmless", good_tokens, good_last))
for name, v in (("the direction", direction[chosen]), ("random, same length", control)):
    for kind, tokens, last in requests:
        p = [declines(add_direction(helper, tokens, chosen, v, x), last).mean() for x in doses]
        curves[f"{name}, {kind}"] = (doses, p)
plots.lines(curves, f"Declining, by what is added behind layer {chosen}",
            "dose (in lengths of the difference of means)", "P(declines)", markers=True)
seconds["declining"] = time.perf_counter() - start

# %% [markdown]
# **What to see here.** Your projected weights do what the hooks do, to rounding. The row *right tool and part* is the
# one to think about: once it no longer declines, the model gives the answer that it would have given. Tool and part
# were never trained for such a pair; each comes from its own word. The last rows say what it costs on harmless requests.
# Declining was put on top of what the model can do, and is taken off by one vector. That is no safeguard against
# anybody who has the weights.

# %%
unembedding = helper.W_U[:, REPLY].sum(1) - helper.W_U[:, [
    assistant.WORDS.index(text.split()[0]) for text in assistant.ANSWERS]].sum(1)
cos = torch.nn.functional.cosine_similarity
print("cosines of the directions behind layers 0, 1, 2; last, with the unembedding's difference of")
print("how refusals begin and how answers begin")
for a in range(3):
    row = [cos(direction[a], b, dim=0) for b in (*direction, unembedding)]
    print("  " + "  ".join(f"{x:+.2f}" for x in row))
moved = stream[True, "heads"].mean(0) - stream[False, "heads"].mean(0)  # [layer head d_model]
by_chance = torch.randn(2000, moved.shape[-1], generator=torch.Generator().manual_seed(1))
print("what each head adds at the colon for a harmful request, more than for a harmless one,")
print("beside the direction behind layer 2, where all of them have written")
unit = direction[2] / direction[2].norm()
along, random_cos = moved @ unit, cos(by_chance, unit, dim=-1)
for layer in range(3):
    for head in range(helper.cfg.n_heads):
        print(f"  {layer}.{head}: along the direction {along[layer, head]:+.2f} of "
              f"{direction[2].norm():.2f}, cosine {cos(moved[layer, head], unit, dim=0):+.2f}")
print(f"  (random directions: cosine 0 ± {random_cos.std():.2f})")

# %% [markdown]
# **What to see here.** The direction behind the last layer is nearly the difference of the unembedding's columns:
# whoever takes that out has only forbidden some words. The ones below are less alike, and act all the same. And the
# heads: a few of the last layer write along the direction, but only for a part of its length. The rest is the MLPs'
# work: in this model, declining is decided by neurons. (In large models Arditi and others found several heads that
# write along it.)

# %% [markdown]
# ## Functions in a vector
#
# `functions` sees `a → d C → f ...` and finds out which function it is. Somewhere, then, it must hold the function.
# Todd and others (2023) find heads whose output *at the last token*, averaged over many texts of one task, carries the
# task: put into a text that shows nothing of the task, it makes the model run it.
#
# Which heads? Take texts whose answers have been *shuffled*, so that they show no function. Put one head's mean output
# from good texts in its place. How much likelier does the right answer become? That is the head's *indirect effect*.

# %% [markdown]
# ### Exercise · average indirect effect    ●●○   18 min
#
# `clean` holds texts of one task, `shuffled` texts that do not show it, and `answer` what the task would make of the
# last question of each shuffled text. For every head: take the mean over the clean texts of what it writes at the
# last position (`result`), put it there in the shuffled texts in place of what the head writes, and return by how
# much the probability of `answer` rises, on average.
#
# <details><summary>Hint 1</summary>
# <code>cache["result", layer]</code> is <code>[batch pos n_heads d_model]</code>; a hook at
# <code>get_act_name("result", layer)</code> that changes <code>x[:, -1, head]</code> of a clone replaces one head.
# </details>
# <details><summary>Hint 2</summary>
# <code>p = logits[:, -1].softmax(-1)[torch.arange(len(answer)), answer].mean()</code>, with the head replaced and
# without. The difference is the effect.
# </details>

# %% exercise="average_indirect_effect"
def average_indirect_effect(
    model: Transformer,
    clean: Int[Tensor, "n pos"],
    shuffled: Int[Tensor, "m pos2"],
    answer: Int[Tensor, "m"],
) -> Float[Tensor, "n_layers n_heads"]:
    """How much each head's mean output over clean texts raises P(answer) in shuffled ones."""
    ### BEGIN SOLUTION
    names = [get_act_name("result", layer) for layer in range(model.cfg.n_layers)]
    _, cache = model.run_with_cache(clean, names_filter=names)

    def probability(logits):
        return logits[:, -1].softmax(-1)[torch.arange(len(answer)), answer].mean()

    base, effect = probability(model(shuffled)), torch.zeros(len(names), model.cfg.n_heads)
    for layer, name in enumerate(names):
        for head in range(model.cfg.n_heads):
            mean = cache[name][:, -1, head].mean(0)

            def put(x, hook):
                x = x.clone()
                x[:, -1, head] = mean
                return x

            logits = model.run_with_hooks(shuffled, fwd_hooks=[(name, put)])
            effect[layer, head] = probability(logits) - base
    return effect
    ### END SOLUTION

# %% check="average_indirect_effect"
check("average_indirect_effect")

# %%
n_texts = 24 if full_run else 3

def texts_of(task: int, n: int, seed: int, shuffle: bool = False) -> tuple[Tensor, Tensor]:
    """Texts of one task that end with a question, and the right answers to it."""
    generator = torch.Generator().manual_seed(seed)
    tokens, y = functions.examples(torch.full((n,), task), functions.N_EXAMPLES, generator)
    tokens, answer = tokens[:, :-1], y[:, -1]
    if shuffle:  # answers of other questions: no function is shown
        tokens = tokens.clone()
        tokens[:, 3::3] = torch.randint(16, tokens[:, 3::3].shape, generator=generator) + 2
    return tokens, answer

start = time.perf_counter()
n_tasks = len(functions.TASKS) if full_run else 2
aie = torch.stack([
    average_indirect_effect(solver, texts_of(t, n_texts, t)[0],
                            *texts_of(t, n_texts, 100 + t, True))
    for t in waiting(range(n_tasks), "Replacing heads")
])
control_aie = torch.stack([  # the mean output over shuffled texts, in the same place
    average_indirect_effect(solver, texts_of(t, n_texts, 200 + t, True)[0],
                            *texts_of(t, n_texts, 100 + t, True))
    for t in range(min(n_tasks, 4))
])
ranked = aie.mean(0).flatten().argsort(descending=True).tolist()
ranked = [divmod(i, solver.cfg.n_heads) for i in ranked]
for t, (kind, some) in enumerate((("texts of the task", aie), ("shuffled texts", control_aie))):
    best = some.mean(0).max()
    print(f"mean output over {kind:<18}: the best head raises P(right) by {best:.3f}, "
          f"all of them together by {some.mean(0).clamp(min=0).sum():.3f}")
panels = plots.axes(1, size=(7.0, 2.6))
plots.matrix(aie.mean(0), [str(i) for i in range(solver.cfg.n_layers)],
             [str(i) for i in range(solver.cfg.n_heads)], "Average indirect effect, by head",
             "head", "layer", "rise of P(right)", ax=panels);

# %% [markdown]
# ### Exercise · the function vector    ●○○   8 min
#
# The sum, over some heads, of their mean outputs at the last position of a task's texts.
#
# <details><summary>Hint 1</summary>
# For one head: <code>cache["result", layer][:, -1, head].mean(0)</code>.
# </details>
# <details><summary>Hint 2</summary>
# Heads are given as pairs <code>(layer, head)</code>. Add up what you have for each of them.
# </details>

# %% exercise="function_vector"
def function_vector(
    model: Transformer, tokens: Int[Tensor, "n pos"], heads: list[tuple[int, int]]
) -> Float[Tensor, "d_model"]:
    """The sum of some heads' mean outputs at the last position."""
    ### BEGIN SOLUTION
    _, cache = model.run_with_cache(tokens)
    return sum(cache["result", layer][:, -1, head].mean(0) for layer, head in heads)
    ### END SOLUTION

# %% check="function_vector"
check("function_vector")

# %%
question = torch.stack([torch.zeros(16), torch.arange(16) + 2, torch.ones(16)], 1).long()

def zero_shot(vector: Tensor, layer: int, task: int) -> float:
    """The share of 16 questions without example that are answered as a task would, a vector added
    to what leaves a layer, at the last position."""
    def add(x, hook):
        x = x.clone()
        x[:, -1] += vector
        return x

    logits = solver.run_with_hooks(question, fwd_hooks=[(get_act_name("resid_post", layer), add)])
    return (logits[:, -1].argmax(-1) == functions.TABLE[task] + 2).float().mean().item()

COUNTS = (1, 2, 3, 4, 6, 8, 12)
clean_texts = [texts_of(t, n_texts, t)[0] for t in range(n_tasks)]
scores = torch.zeros(solver.cfg.n_layers, len(COUNTS), n_tasks)
for i, n in enumerate(COUNTS):
    for t in range(n_tasks):
        vector = function_vector(solver, clean_texts[t], ranked[:n])
        for layer in range(solver.cfg.n_layers):
            scores[layer, i, t] = zero_shot(vector, layer, t)
without = sum(zero_shot(torch.zeros(solver.cfg.d_model), 0, t) for t in range(n_tasks)) / n_tasks
plots.lines(
    {f"added behind layer {layer}": (COUNTS, scores[layer].mean(-1).tolist())
     for layer in range(solver.cfg.n_layers)},
    "Running a function without an example", "heads in the vector (by indirect effect)",
    "share right", {"no vector": without}, markers=True,
)
at_layer, at_count = divmod(int(scores.mean(-1).argmax()), len(COUNTS))
n_heads = COUNTS[at_count]
row = scores[at_layer, at_count]
named = ", ".join(f"{a}.{b}" for a, b in ranked[:n_heads])
print(f"best: {n_heads} heads ({named}) behind layer {at_layer}: "
      f"{row.mean():.2f} right, tasks {row.min():.2f} to {row.max():.2f}; without {without:.2f}")

# %% [markdown]
# **What to see here.** Without any example in the text, the vector makes the model run the function. Where it is added
# matters: what is added must still be read by what comes above. Behind the last layer it does little, though the best heads
# write there. More heads are not better: what those with little effect write is not about the function alone.

# %%
vectors = [function_vector(solver, clean_texts[t], ranked[:n_heads]) for t in range(n_tasks)]
empty = [function_vector(solver, texts_of(t, n_texts, 300 + t, True)[0], ranked[:n_heads])
         for t in range(n_tasks)]
noise = torch.randn(n_tasks, solver.cfg.d_model, generator=torch.Generator().manual_seed(3))
noise = noise / noise.norm(dim=-1, keepdim=True) * torch.stack(vectors).norm(dim=-1, keepdim=True)
half, tasks = len(functions.TASKS) // 2, range(n_tasks)

def mean_of(scores: list[float]) -> str:
    values = torch.tensor(scores)
    return f"{values.mean():.2f} ± {values.std() / len(values) ** 0.5:.2f}"

last_heads = [h for h in ranked if aie.mean(0)[h] < 0.1 * aie.mean(0).max()][:n_heads]
controls = {
    "its own vector": [zero_shot(vectors[t], at_layer, t) for t in tasks],
    "another task's vector": [zero_shot(vectors[(t + 1) % n_tasks], at_layer, t) for t in tasks],
    "from shuffled texts": [zero_shot(empty[t], at_layer, t) for t in tasks],
    "random, same length": [zero_shot(noise[t], at_layer, t) for t in tasks],
    "as many other heads": [
        zero_shot(function_vector(solver, clean_texts[t], last_heads), at_layer, t) for t in tasks],
    "no vector": [zero_shot(0 * noise[t], at_layer, t) for t in tasks],
}
if full_run:  # rule i in capitals, from rule i and from what capitals add to rule j
    made, alone = [], []
    for i in range(half):
        j = (i + 3) % half
        sum_of_three = vectors[i] + vectors[half + j] - vectors[j]
        made.append(zero_shot(sum_of_three, at_layer, half + i))
        alone.append(zero_shot(vectors[i], at_layer, half + i))
    controls["composed: rule i + capitals"] = made
    controls["rule i alone, asked for capitals"] = alone
for what, values in controls.items():
    print(f"{what:<40} {mean_of(values)}")
print("(share of 16 questions right, mean ± standard error over tasks)")
seconds["function vectors"] = time.perf_counter() - start

# %% [markdown]
# **What to see here.** The task's own vector against five controls. The last two lines add vectors: a rule, plus what
# "in capitals" adds to *another* rule. If that runs the rule in capitals, the vector has parts. (Todd and others
# found such sums to work for some tasks and not for others.)

# %%
generator = torch.Generator().manual_seed(4)
once = torch.randint(2, 18, (16, 12), generator=generator)
repeated = torch.cat([torch.zeros(16, 1, dtype=torch.long), once, once], 1)
_, cache = solver.run_with_cache(repeated)
_, shown_cache = solver.run_with_cache(torch.cat(clean_texts))
print(f"{'head':<6}{'indirect effect':>16}{'induction':>11}{'previous':>10}{'earlier answers':>17}")
induction = {}
for layer, head in ranked[:6] + ranked[-2:]:
    pattern = cache["pattern", layer][:, head]
    induction[layer, head] = pattern[:, 13:].diagonal(2, dim1=1, dim2=2).mean().item()
    previous = pattern.diagonal(-1, dim1=1, dim2=2).mean().item()
    to_answers = shown_cache["pattern", layer][:, head, -1, 3::3].sum(-1).mean().item()
    print(f"{layer}.{head:<4}{aie.mean(0)[layer, head]:>16.3f}{induction[layer, head]:>11.2f}"
          f"{previous:>10.2f}{to_answers:>17.2f}")
print(f"(even attention: about {1 / 13:.2f} for the first two, "
      f"{(functions.N_EXAMPLES - 1) / clean_texts[0].shape[1]:.2f} for earlier answers)")

# %% [markdown]
# **What to see here.** The heads with a large effect look at the answers of earlier examples, wherever they stand, and
# they are no induction heads by chapter 3's score: on a text repeated by chance they do not look behind the earlier
# occurrence. Examples are drawn anew each time, so copying what followed last time would seldom help. (Todd and others
# found function-vector heads and induction heads to be different ones, with a few in common.)

# %% [markdown]
# ### Exercise · find: heads that carry a function    ●●○   10 min
#
# Name at most four heads of `functions`, as pairs `(layer, head)`, whose vector makes the model run functions without
# an example. The check takes fresh texts of each task, sums the mean outputs of your heads at the last position, adds
# the sum to what leaves layer 0, 1 or 2 (whichever is best), at the last position of a question without example, and
# wants more than half of the answers right on average over the tasks, and much more than with no vector.
#
# <details><summary>Hint 1</summary>
# The heads with the largest average indirect effect are in <code>ranked</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>print(ranked[:4])</code> in a cell of your own, and write down the pairs. The figure above says how many of
# them it takes.
# </details>

# %% exercise="vector_heads"
def vector_heads() -> list[tuple[int, int]]:
    """At most four heads, as (layer, head), whose mean outputs carry the function of a text."""
    ### BEGIN SOLUTION
    return [(2, 5), (2, 1)]
    ### END SOLUTION

# %% check="vector_heads"
check("vector_heads")

# %% [markdown]
# ## Steering a model of code
#
# The last model is the one of chapter 5, `full_two_layer`, trained on Python's library. Python says of each token
# whether it stands in a comment. Two directions in the stream that leaves layer 0. One is the difference of means
# between tokens in comments and tokens in code. But these are different tokens, too. So for the other one pair them:
# of each *kind* of token that occurs in both, the mean vector in comments minus the mean vector in code. What do these
# differences have in common?

# %% [markdown]
# ### Exercise · the direction of paired differences    ●●○   12 min
#
# Row $i$ of `positive` and row $i$ of `negative` belong together. Return the direction $u$, of length 1, along which
# the differences are largest: the one with the largest $\sum_i (\delta_i \cdot u)^2$, for $\delta_i = \text{positive}_i -
# \text{negative}_i$. (This is PCA without centring, since what the differences share is what we look for.) Of $u$ and
# $-u$ take the one that the mean difference goes along with.
#
# <details><summary>Hint 1</summary>
# Singular vectors: <code>torch.linalg.svd(D, full_matrices=False)</code> gives <code>U, S, Vh</code>, and the first
# row of <code>Vh</code> is the direction with the largest sum of squares.
# </details>
# <details><summary>Hint 2</summary>
# If <code>D.mean(0) @ u</code> is negative, return <code>-u</code>.
# </details>

# %% exercise="paired_direction"
def paired_direction(
    positive: Float[Tensor, "n d_model"], negative: Float[Tensor, "n d_model"]
) -> Float[Tensor, "d_model"]:
    """The unit vector along which paired differences are largest, towards the positive side."""
    ### BEGIN SOLUTION
    D = positive - negative
    u = torch.linalg.svd(D, full_matrices=False).Vh[0]
    return u if D.mean(0) @ u > 0 else -u
    ### END SOLUTION

# %% check="paired_direction"
check("paired_direction")

# %%
start = time.perf_counter()
coder = load_model("full_two_layer").requires_grad_(False)
library = label_library(0)
windows = library.windows(96 if full_run else 40, 256, torch.Generator().manual_seed(0))
judge = library.windows(24 if full_run else 4, 256, torch.Generator().manual_seed(1))
name = get_act_name("resid_post", 0)
X = torch.cat([coder.run_with_cache(part, names_filter=name)[1][name]
               for part in windows.tokens.split(16)])
X, kind, inside = X.flatten(0, 1), windows.tokens.flatten(), windows["comment"].flatten()
n_kinds = coder.cfg.d_vocab
n_in, n_out = (torch.bincount(kind[where], minlength=n_kinds) for where in (inside, ~inside))
sums = [torch.zeros(n_kinds, X.shape[1]).index_add(0, kind[w], X[w]) for w in (inside, ~inside)]
both = (n_in >= 2) & (n_out >= 2)
pairs_in, pairs_out = sums[0][both] / n_in[both, None], sums[1][both] / n_out[both, None]
steering = {
    "paired PCA": paired_direction(pairs_in, pairs_out),
    "difference of means": difference_of_means(X[inside], X[~inside]),
}
noise = torch.randn(3, X.shape[1], generator=torch.Generator().manual_seed(0))
steering |= {f"random {i}": v for i, v in enumerate(noise)}
steering = {what: v / v.norm() for what, v in steering.items()}
typical = X.norm(dim=-1).mean()
D = pairs_in - pairs_out
spectrum = torch.linalg.svdvals(D).square()
parts = spectrum / spectrum.sum()
print(f"{int(both.sum())} kinds of token occur in both; the first direction has {parts[0]:.0%} of "
      f"the squared differences, the second {parts[1]:.0%}; cosine of the two directions "
      f"{steering['paired PCA'] @ steering['difference of means']:+.2f}")

share = (n_in + inside.float().mean()) / (n_in + n_out + 1)  # of a kind's places, in comments
code_next = ~judge["comment"][:, 1:] & ~judge["comment"][:, :-1]

def steered_code(what: str, dose: float) -> tuple[float, float]:
    """In code: how much the model expects tokens of comments, and the loss in nats."""
    logits = add_direction(coder, judge.tokens, 0, steering[what], dose * typical.item())[:, :-1]
    expects = (logits.softmax(-1) @ share)[code_next].mean().item()
    loss = torch.nn.functional.cross_entropy(logits[code_next], judge.tokens[:, 1:][code_next])
    return expects, loss.item()

DOSES = (-0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0) if full_run else (-0.4, 0.0, 0.4)
response = {what: torch.tensor([steered_code(what, dose) for dose in DOSES]) for what in steering}
panels = plots.axes(2, size=(8.2, 3.2))
for ax, i, title, ylabel in zip(panels, (0, 1), ("Dose and response", "Dose and damage"),
                                ("mass on tokens of comments", "loss in code (nats)"), strict=True):
    plots.lines({what: (DOSES, rows[:, i].tolist()) for what, rows in response.items()},
                title, "dose (in mean lengths of the stream)", ylabel, markers=True, ax=ax)
seconds["steering code"] = time.perf_counter() - start

# %%
def written(what: str, dose: float, seed: int = 0) -> str:
    """What the model writes after a line of code, steered."""
    text = "def read(self, path):\n    with open(path) as file:\n"
    tokens, generator = coder.to_tokens(text), torch.Generator().manual_seed(seed)
    for _ in range(live_steps(40)):
        logits = add_direction(coder, tokens, 0, steering[what], dose * typical.item())[0, -1]
        token = torch.multinomial((logits / 0.7).softmax(-1), 1, generator=generator)
        tokens = torch.cat([tokens, token[None]], 1)
    return coder.to_string(tokens[0, coder.to_tokens(text).shape[1]:])

shown = ((0.0, "paired PCA"), (0.4, "paired PCA"), (-0.4, "paired PCA"), (0.4, "random 0"))
for dose, what in shown:
    print(f"--- {what}, dose {dose:+.1f}\n{written(what, dose)}")
zero = DOSES.index(0.0)
test_dose = DOSES.index(0.4)
for what, rows in response.items():
    gain, cost = (rows[test_dose] - rows[zero]).tolist()
    print(f"{what:<22} at dose 0.4: comments {gain:+.3f}, loss {cost:+.2f} nats")

# %% [markdown]
# **What to see here.** Both directions raise what they should, and the negated ones lower it. In large doses random
# ones raise it as well: a disturbed model falls back on common tokens. At the same dose the paired direction does about
# as much damage as a random one, for several times the response. The difference of means does more of both: part of it
# is which tokens comments are made of. Steering is no scalpel: at a dose that turns code into comments, the code is
# spoilt as well.

# %% [markdown]
# ## What you have shown

# %%
kept = prices[f"layer {best_layer}, essence kept"].nanmean(0)
bare = prices[f"layer {best_layer}, no essence"].nanmean(0)
tuned = prices[f"layer {best_layer}, fine-tuned"].nanmean(0)
early, late = found_sites["facts", 1].mean(0)
early_late, late_late = found_sites["facts_late", 1].mean(0)
rows = [
    ("tracing, facts: MLPs at the name, attention at the end", f"{early:.2f}, {late:.2f}"),
    ("tracing, facts_late: the same", f"{early_late:.2f}, {late_late:.2f}"),
    (f"edit, layer {best_layer}: said, other words", f"{kept[0]:.2f}, {kept[1]:.2f}"),
    ("edit: neighbours, same person kept", f"{kept[3]:.2f}, {kept[2]:.2f}"),
    ("edit without essence: same person kept", f"{bare[2]:.2f}"),
    ("edit, reversed question (share of a resident's)", f"{kept[4]:.2f}"),
    ("fine-tuning: other words, neighbours, same person",
     f"{tuned[1]:.2f}, {tuned[3]:.2f}, {tuned[2]:.2f}"),
    (f"{counts[-1]} edits at once: said, others' cities", f"{many[-1, 0]:.2f}, {many[-1, 3]:.2f}"),
    ("success explained by layer; tracing adds", f"{by_layer:.1%}; {with_effect - by_layer:.1%}"),
    ("requests never seen, judged right", f"{judged_right:.1%}"),
    ("declines harmful: as it is, direction out, held, random held",
     f"{p_bad:.2f}, {steered[chosen, True][0]:.2f}, {steered[chosen, True][2]:.2f}, "
     f"{steered[chosen, False][2]:.2f}"),
    ("held: right tool and part, harmful and harmless",
     f"{after_all['right tool and part, harmful', 'held']:.2f}, "
     f"{after_all['right tool and part, harmless', 'held']:.2f}"),
    ("function vector: own, another's, shuffled, none",
     ", ".join(f"{sum(controls[w]) / n_tasks:.2f}" for w in (
         "its own vector", "another task's vector", "from shuffled texts", "no vector"))),
]
for what, value in rows:
    print(f"{what:<58} {value:>26}")
print("\nseconds: " + "; ".join(f"{what} {value:.0f}" for what, value in seconds.items()))
print("trained in (seconds, one core): " + "; ".join(
    f"{name} {load_curves(WORLDS / f'{name}.safetensors')['seconds'][-1]:.0f}"
    for name in ("facts", "facts_late", "functions", "assistant")))

# %% [markdown]
# | claim | where it is from | what to compare |
# |---|---|---|
# | Facts pass early MLPs at the subject, late attention at the end | Meng et al., 2022 | traces of `facts`; `facts_late` knows as much without an early site |
# | A rank-one edit changes one fact | the same | said, other words; neighbours; the same person with and without essence |
# | Fine-tuning disturbs more | the same | its row beside the edit's |
# | Tracing does not tell where to edit | Hase et al., 2023 | explained by layer, added by tracing, by shuffled effects |
# | What is learned one way is not known the other way | Berglund et al., 2023 | reversed |
# | Declining is one direction | Arditi et al., 2024 | added, held, random; taken out, it differs here |
# | A function is a vector | Todd et al., 2023 | own vector beside another's, shuffled, random, none |
# | Vectors of functions add up | the same | composed beside the rule alone |
# | Steering costs | Zou et al., 2023 | response against damage, random directions |
#
# **Read on.** Kevin Meng and others, *Locating and Editing Factual Associations in GPT* (2022) and *Mass-Editing
# Memory in a Transformer* (2023). Peter Hase and others, *Does Localization Inform Editing?* (2023). Lukas Berglund
# and others, *The Reversal Curse* (2023). Andy Arditi and others, *Refusal in Language Models Is Mediated by a Single
# Direction* (2024). Eric Todd and others, *Function Vectors in Large Language Models* (2023). Andy Zou and others,
# *Representation Engineering* (2023).

# %%
progress()
