# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 8 · Discovering circuits, and mystery models
#
# In chapter 4 you tested a circuit that you more or less knew. Here you look for circuits that you do not know:
# by hand, as the authors of *Interpretability in the Wild* did, and by machine, with methods that rank or prune
# all edges of a model. Some of our models have a circuit *planted* in them, so you can see which method finds it,
# what that costs, and how a circuit that looks right can be wrong. At the end stand ten models that nobody
# explains to you.
#
# **After this chapter you can**
#
# - find the classes of heads that solve a task, and the backups that hide them;
# - rank and prune all edges of a model, with its MLPs and LayerNorms, and say what each method misses;
# - judge a circuit by more than faithfulness: completeness, minimality, and a control on a model that knows nothing;
# - reverse-engineer an unknown model and prove it by a program, a circuit and two edits.
#
# **Time**: about 441 minutes, 381 of them for the exercises. **Needs**: chapters 0 to 2 and 4; chapters 3 and 5
# help. **Follows**: *Interpretability in the Wild* (Wang et al., 2022), *Towards Automated Circuit Discovery*
# (Conmy et al., 2023), *Attribution Patching Outperforms Automated Circuit Discovery* (Syed et al., 2023), *Have
# Faith in Faithfulness* (Hanna et al., 2024), *InterpBench* (Gupta et al., 2024).

# %% tags=["setup"]
import copy
import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits import check, hint, progress, reveal
from utils import ActivationCache, Transformer, get_act_name
from utils.circuit_runs import run_circuit
from utils.materials.edges import edge_names

# %%
import time

from utils import load_model
from utils.figures import plots
from utils.materials.names import TEMPLATES, draw, load_names
from utils.waiting import waiting
from circuits.mystery import MYSTERIES, load_mystery
from circuits.discovery_models import PLANTS

torch.set_num_threads(1)  # models as small as these run faster on one
seconds = {}  # of what takes long

# %% [markdown]
# ## Where this chapter ends
#
# A mystery. This transformer reads symbols from 1 to 15 and names one at the end of each text. Each cell below is
# a text of two symbols, and what the model names then. What does it compute, where, and what is odd about some of
# the cells? After this chapter you will find out by yourself.


# %%
def two_symbols(name: str) -> Int[Tensor, "first last"]:
    """What a mystery model names after every text of two symbols."""
    symbols = torch.arange(1, 16)
    texts = torch.cartesian_prod(symbols, symbols)
    tokens = torch.cat([torch.zeros(len(texts), 1, dtype=torch.long), texts], 1)
    return load_mystery(name)(tokens)[:, -1].argmax(-1).view(15, 15)


symbol_names = [str(s) for s in range(1, 16)]
for ax, name in zip(plots.axes(2, size=(4.2, 4.0)), "AD", strict=True):
    plots.matrix(
        two_symbols(name).float(),
        symbol_names,
        symbol_names,
        f"Mystery {name}",
        "last symbol",
        "first symbol",
        "named",
        ax=ax,
    )

# %% [markdown]
# ## Two people, one gives
#
# *When Mary and John went to the store, John gave a drink to* … ` Mary`. To go on, one must notice who is mentioned
# twice, and name the other. Wang and others found in GPT-2 small a circuit of 26 heads for it. Our model `names` has
# two layers of eight heads, and was trained on such sentences alone, in six templates with four openings. A token is
# a word. Once it could do the task, heads fell silent at random while it went on training, so that it could not rely
# on one alone. `names_small` has four heads a layer, and never had that trouble.

# %% [markdown]
# ### Exercise · prompts and their changes    ●●○   8 min
#
# A task has *symmetries*: changes of the prompt that leave the answer, and changes that break it. Fill a
# template, and return for each prompt its text and its answer, the one of `first` and `second` who is not the
# giver. `fields` holds dictionaries with the fields of the template (`first`, `second`, `giver`, `place`,
# `thing`) and a `third` name. The changes:
#
# | `change` | what it does | the answer |
# |---|---|---|
# | `"none"` | nothing | the other one |
# | `"order"` | `first` and `second` change places | stays |
# | `"scene"` | `place` and `thing` are those of the next prompt (after the last comes the first) | stays |
# | `"giver"` | the *other* of the two gives | turns round |
# | `"third"` | the third person gives | none: `""` |
#
# <details><summary>Hint 1</summary>
# Change a copy of the fields, <code>{**f, "giver": ...}</code>, and fill the template last:
# <code>template.format(**f)</code>. It leaves out what it does not name.
# </details>
# <details><summary>Hint 2</summary>
# The answer is who of <code>first</code> and <code>second</code> is not the giver <i>after</i> the change.
# <code>fields[(i + 1) % len(fields)]</code> is the next prompt.
# </details>


# %% exercise="make_prompts"
def make_prompts(template: str, fields: list[dict[str, str]], change: str) -> list[tuple[str, str]]:
    """Each prompt's text after the change, and its answer."""
    ### BEGIN SOLUTION
    prompts = []
    for i, f in enumerate(fields):
        other = f["second"] if f["giver"] == f["first"] else f["first"]
        following = fields[(i + 1) % len(fields)]
        new = {
            "none": {},
            "order": {"first": f["second"], "second": f["first"]},
            "scene": {"place": following["place"], "thing": following["thing"]},
            "giver": {"giver": other},
            "third": {"giver": f["third"]},
        }[change]
        answer = {"giver": f["giver"], "third": ""}.get(change, other)
        prompts.append((template.format(**f | new), answer))
    return prompts
    ### END SOLUTION


# %% check="make_prompts"
check("make_prompts")

# %%
model, small = load_names(), load_names("names_small")
untrained = Transformer(model.cfg, model.tokenizer).requires_grad_(
    False
)  # random weights: a control
fields = draw(64, torch.Generator().manual_seed(0))
CHANGES = ("none", "order", "scene", "giver", "third")


def ids(words: list[str]) -> Int[Tensor, "n"]:
    return model.to_tokens(words, prepend_bos=False)[:, 0]


first, second, giver = (ids([f[who] for f in fields]) for who in ("first", "second", "giver"))
right = ids([answer for _, answer in make_prompts(TEMPLATES[0], fields, "none")])


def difference(logits: Float[Tensor, "batch pos d_vocab"]) -> Float[Tensor, "batch"]:
    """Receiver before giver, at the last position, in nats."""
    rows = torch.arange(len(logits))
    return logits[rows, -1, right] - logits[rows, -1, giver]


print(
    f"{'':<10}"
    + "".join(f"{change:>12}" for change in CHANGES)
    + "   logit difference of the first receiver, nats"
)
by_change = {}
for what, m in {"names": model, "small": small, "untrained": untrained}.items():
    for change in CHANGES:
        values = []
        for template in TEMPLATES:
            texts = [text for text, _ in make_prompts(template, fields, change)]
            values.append(difference(m(m.to_tokens(texts))).mean().item())
        by_change[what, change] = sum(values) / len(values)
    print(f"{what:<10}" + "".join(f"{by_change[what, change]:>+12.2f}" for change in CHANGES))

# %% [markdown]
# **What to see here.** The two changes that should leave the answer leave it. A new giver turns it round: the
# difference is of the *first* receiver and the first giver, so now it is negative. With a third giver neither is
# preferred. A model with random weights does none of it. Each change that breaks asks about another part: who is
# named (which name is moved), and who is named twice (how the right one is picked).

# %% [markdown]
# ## Where heads look
#
# Three kinds of head carry the circuit in GPT-2. *Duplicate token* heads look, from the second mention of a name,
# at the first. *S-inhibition* heads look, from the end, at the second mention: at the *subject* S. *Name movers*
# look, from the end, at the other name, the *indirect object* IO. Start with where heads look. All three are one
# measurement: how much does a head look from one place at another?

# %% [markdown]
# ### Exercise · from one mention to another    ●○○   6 min
#
# `pattern` is a layer's attention. `there[b]` and `back[b]` are two positions in prompt $b$, and they differ from
# prompt to prompt. Return each head's mean weight from `there` to `back`.
#
# <details><summary>Hint 1</summary>
# One row and one column per prompt: index all three dimensions that vary together, with
# <code>torch.arange(len(pattern))</code> for the batch.
# </details>
# <details><summary>Hint 2</summary>
# <code>pattern[torch.arange(len(pattern)), :, there, back]</code> is <code>[batch n_heads]</code>.
# </details>


# %% exercise="duplicate_token"
def duplicate_token(
    pattern: Float[Tensor, "batch n_heads dest src"],
    there: Int[Tensor, "batch"],
    back: Int[Tensor, "batch"],
) -> Float[Tensor, "n_heads"]:
    """Each head's mean attention weight from one position of a prompt to another."""
    ### BEGIN SOLUTION
    return pattern[torch.arange(len(pattern)), :, there, back].mean(0)
    ### END SOLUTION


# %% check="duplicate_token"
check("duplicate_token")


# %%
def run(m: Transformer, template: str, change: str = "none"):
    """Tokens, logits and all activations of the 64 prompts in a template."""
    tokens = m.to_tokens([text for text, _ in make_prompts(template, fields, change)])
    with torch.no_grad():
        return tokens, *m.run_with_cache(tokens)


def place(tokens: Tensor, who: Tensor, last: bool = False) -> Int[Tensor, "batch"]:
    """Where a name stands: the first time, or the last time."""
    here = (tokens == who[:, None]).float()
    return tokens.shape[1] - 1 - here.flip(1).argmax(1) if last else here.argmax(1)


tokens, logits, cache = run(model, TEMPLATES[0])
end = torch.full((len(tokens),), tokens.shape[1] - 1)
io, s1, s2 = place(tokens, right), place(tokens, giver), place(tokens, giver, last=True)
looks = {
    "second mention to the first": (s2, s1),
    "end to the giver's second mention": (end, s2),
    "end to the receiver": (end, io),
    "end to the giver's first mention": (end, s1),
}
L, H = model.cfg.n_layers, model.cfg.n_heads
looking = {
    what: torch.stack(
        [torch.as_tensor(duplicate_token(cache["pattern", layer], *ends)) for layer in range(L)]
    )
    for what, ends in looks.items()
}
heads, layers = [str(h) for h in range(H)], [str(layer) for layer in range(L)]
for ax, (what, weights) in zip(plots.axes(4, size=(4.2, 2.6)), looking.items(), strict=True):
    plots.matrix(weights, layers, heads, what, "head", "layer", "mean weight", ax=ax, limit=1.0)
even = 1 / (1 + end[0].item())
print(f"A head that looks at all places alike would have {even:.2f} from the end.")

# %% [markdown]
# **What to see here.** In layer 0 one head looks from the end at the giver's second mention, nearly always, and
# another one often. In layer 1 all heads look more at the receiver than at the giver. And hardly any head looks from
# the second mention at the first: the sentences are so regular that the second mention is found by its place, and no
# duplicate token head is needed. GPT-2, which reads all kinds of text, has three.

# %% [markdown]
# ## What they move
#
# A look is not a message. What head $h$ moves from place $s$ to the end is its weight there times what its values
# make of that place. Along the direction $u$ that tells the right answer from the wrong one it contributes
#
# $$A^h_{\text{end}, s}\; v^h_s W_O^h \cdot u \qquad A: [\text{batch}\; n_\text{heads}\; \text{dest src}],\quad v^h_s: [d_\text{head}],\quad
# u: [d_\text{model}]$$
#
# nats to the logit difference, with $u = W_U[:, r] - W_U[:, w]$ for the right answer $r$ and the wrong one $w$. (Behind
# a LayerNorm, which `names` does not have, $u$ is also times its weights, without its mean, over the scale of this very
# run: chapter 5. `toward` does both.)

# %%
def toward(
    m: Transformer, cache: ActivationCache, right: Tensor, wrong: Tensor
) -> Float[Tensor, "batch d_model"]:
    """The direction along which a vector added at the end raises right above wrong."""
    W_U = (m.W_U[:, right] - m.W_U[:, wrong]).T
    if m.cfg.normalization_type is None:
        return W_U
    final = cache["resid_post", -1][:, -1]
    scale = (final.var(-1, unbiased=False, keepdim=True) + m.cfg.eps).sqrt()
    u = W_U * m.ln_final.w
    return (u - u.mean(-1, keepdim=True)) / scale


direction = toward(model, cache, right, giver)
total = (cache["resid_post", -1][:, -1] * direction).sum(-1).mean()
print(
    f"the last stream along u: {total:+.2f} nats; the logit difference: "
    f"{difference(logits).mean():+.2f}"
)

# %% [markdown]
# ### Exercise · what a name mover moves    ●●○   12 min
#
# For every head, the mean over the prompts of what it moves from position `source[b]` to the last position, along
# `direction[b]`.
#
# <details><summary>Hint 1</summary>
# The weight: <code>cache["pattern", layer][rows, :, -1, source]</code>, <code>[batch n_heads]</code>. The values
# there: <code>cache["v", layer][rows, source]</code>, <code>[batch n_heads d_head]</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>torch.einsum("bh,bhe,hed,bd->h", weight, value, model.W_O[layer], direction) / len(source)</code>.
# </details>


# %% exercise="name_mover"
def name_mover(
    model: Transformer,
    cache: ActivationCache,
    source: Int[Tensor, "batch"],
    direction: Float[Tensor, "batch d_model"],
) -> Float[Tensor, "n_layers n_heads"]:
    """What each head moves from a place to the end along a direction, mean, in nats."""
    ### BEGIN SOLUTION
    rows, moved = torch.arange(len(source)), []
    for layer in range(model.cfg.n_layers):
        weight = cache["pattern", layer][rows, :, -1, source]
        value = cache["v", layer][rows, source]
        terms = torch.einsum("bh,bhe,hed,bd->bh", weight, value, model.W_O[layer], direction)
        moved.append(terms.mean(0))
    return torch.stack(moved)
    ### END SOLUTION


# %% check="name_mover"
check("name_mover")


# %%
def direct_effects(
    m: Transformer, cache: ActivationCache, direction: Tensor
) -> Float[Tensor, "n_layers n_heads"]:
    """What each head writes at the end along a direction, mean over prompts, in nats."""
    return torch.stack(
        [
            torch.einsum("bhe,hed,bd->bh", cache["z", layer][:, -1], m.W_O[layer], direction).mean(
                0
            )
            for layer in range(m.cfg.n_layers)
        ]
    )


writes = direct_effects(model, cache, direction)
moved = {
    what: torch.as_tensor(name_mover(model, cache, at, direction))
    for what, at in (("from the receiver", io), ("from the giver's first mention", s1))
}
panels = plots.axes(3, size=(3.9, 2.6))
shown = {"all that a head writes": writes, **moved}
for ax, (what, values) in zip(panels, shown.items(), strict=True):
    plots.matrix(values, layers, heads, what, "head", "layer", "nats", ax=ax)
names_of_heads = [f"{layer}.{head}" for layer in range(L) for head in range(H)]
ranked_heads = writes.flatten().argsort(descending=True).tolist()
movers = [
    (i // H, i % H) for i in ranked_heads if writes.flatten()[i] > 0.1 * writes.clamp(min=0).sum()
]
print(
    "name movers, by what they write (nats): "
    + ", ".join(f"{layer}.{head} {writes[layer, head]:+.2f}" for layer, head in movers)
)
print(f"all heads {writes.sum():+.2f}; the embedding {total - writes.sum():+.2f}")
against = [(i // H, i % H) for i in ranked_heads[::-1] if writes.flatten()[i] < -0.3]
print(
    "heads that write against the answer: "
    + (
        ", ".join(f"{layer}.{head} {writes[layer, head]:+.2f}" for layer, head in against)
        or "none below -0.3"
    )
)

# %% [markdown]
# ### Exercise · does it copy?    ●●○   10 min
#
# What would a head say of a name if it looked at nothing else? `resid[i]` is a vector of the stream entering the
# head's layer, at the name `names[i]`. Take it through the head's LayerNorm (`model.blocks[layer].ln1`, which does
# nothing in a model without), $W_V$, $b_V$ (where there are biases; else it is `None`) and $W_O$, then through
# `model.ln_final` and `model.unembed`. Return the share of names that are among the `k` tokens with the largest
# logits. That is Wang and others' *copy score*.
#
# <details><summary>Hint 1</summary>
# <code>model.blocks[layer].attn</code> has <code>W_V[head]</code>, <code>b_V[head]</code> and
# <code>W_O[head]</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>(logits.topk(k, dim=-1).indices == names[:, None]).any(-1)</code>.
# </details>


# %% exercise="copy_score"
def copy_score(
    model: Transformer,
    resid: Float[Tensor, "n d_model"],
    names: Int[Tensor, "n"],
    layer: int,
    head: int,
    k: int,
) -> float:
    """The share of names that a head, reading each alone, puts among its k largest logits."""
    ### BEGIN SOLUTION
    block = model.blocks[layer]
    value = block.ln1(resid) @ block.attn.W_V[head]
    if block.attn.b_V is not None:
        value = value + block.attn.b_V[head]
    logits = model.unembed(model.ln_final(value @ block.attn.W_O[head]))
    return (logits.topk(k, dim=-1).indices == names[:, None]).any(-1).float().mean().item()
    ### END SOLUTION


# %% check="copy_score"
check("copy_score")

# %%
rows = torch.arange(len(tokens))
copies = torch.zeros(L, H)
for layer in range(L):
    stream = torch.cat([cache["resid_pre", layer][rows, at] for at in (io, s1)])
    for head in range(H):
        copies[layer, head] = float(
            copy_score(model, stream, torch.cat([right, giver]), layer, head, 5)
        )
x, y = looking["end to the receiver"].flatten(), writes.flatten()
panels = plots.axes(2, size=(5.0, 3.4))
plots.points(
    x,
    y,
    "Looking at the receiver, and writing it",
    "mean weight, end to receiver",
    "written along u (nats)",
    labels={i: names_of_heads[i] for i in ranked_heads[:4]},
    ax=panels[0],
)
plots.matrix(
    copies,
    layers,
    heads,
    "Copy score, five largest logits",
    "head",
    "layer",
    "share of names",
    ax=panels[1],
    limit=1.0,
)
of_movers = torch.tensor([copies[layer, head].item() for layer, head in movers])
print(
    f"mean copy score: name movers {of_movers.mean():.2f}, all heads {copies.mean():.2f}, "
    f"by chance {5 / model.cfg.d_vocab:.2f}"
)

# %% [markdown]
# **What to see here.** The more a head looks at the receiver, the more it writes its name. (The point at the left
# edge looks at the giver, and writes *against* the giver's name.) Most of them copy whatever name they look at. Looking
# alone does not make a name mover: mind the heads that look at the receiver and write nothing of it.

# %% [markdown]
# ## Who tells them where not to look
#
# A name mover looks at the receiver and not at the giver. Its query must know which name came twice. Who tells
# it? Exchange, one head at a time, what it says at the end for what it says where a third person gives. There no
# name comes twice. If the mover now looks less at the receiver than at the giver, that head had told it.

# %% [markdown]
# ### Exercise · the heads that inhibit    ●●○   12 min
#
# For each head below the mover's layer: put its `z` at the **last position** from the corrupted run into the
# clean run, and measure how much the mover's attention from the end to `io` minus that to `s` falls, as a mean
# over the prompts. Heads of the mover's layer and above get 0.
#
# <details><summary>Hint 1</summary>
# One run per head, with two hooks: one changes <code>z[:, -1, head]</code>, on a clone; the other keeps the
# mover's pattern. Or run with hooks and <code>run_with_cache</code> inside <code>model.hooks(...)</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>with model.hooks([(name, patch)]): _, cache = model.run_with_cache(clean,
# names_filter=pattern_name)</code>. Then <code>pattern[rows, mover_head, -1, io] - pattern[rows, mover_head, -1,
# s]</code>.
# </details>
# <details><summary>Hint 3</summary>
# The result is clean minus patched: a head that had told the mover has a positive score.
# </details>


# %% exercise="s_inhibition"
def s_inhibition(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    mover: tuple[int, int],
    io: Int[Tensor, "batch"],
    s: Int[Tensor, "batch"],
) -> Float[Tensor, "n_layers n_heads"]:
    """How much of the mover's attention to `io`, not `s`, it owes to each head at the end."""
    ### BEGIN SOLUTION
    layer, head = mover
    pattern, rows = get_act_name("pattern", layer), torch.arange(len(clean))
    _, source = model.run_with_cache(corrupted)

    def preference(hooks):
        with model.hooks(hooks):
            _, cache = model.run_with_cache(clean, names_filter=pattern)
        weights = cache[pattern][:, head, -1]
        return (weights[rows, io] - weights[rows, s]).mean()

    owed = torch.zeros(model.cfg.n_layers, model.cfg.n_heads)
    for below in range(layer):
        for other in range(model.cfg.n_heads):

            def patch(z, hook, other=other):
                z = z.clone()
                z[:, -1, other] = source[hook.name][:, -1, other]
                return z

            owed[below, other] = preference([]) - preference([(get_act_name("z", below), patch)])
    return owed
    ### END SOLUTION


# %% check="s_inhibition"
check("s_inhibition")

# %%
third = model.to_tokens([text for text, _ in make_prompts(TEMPLATES[0], fields, "third")])
mover, GIVER_FIRST = movers[0], "end to the giver's first mention"
owed = torch.as_tensor(s_inhibition(model, tokens, third, mover, io, s1)).detach()
panels = plots.axes(2, size=(4.6, 2.8))
plots.matrix(
    owed,
    layers,
    heads,
    f"What {mover[0]}.{mover[1]}'s choice owes to a head",
    "head",
    "layer",
    "attention weight",
    ax=panels[0],
)
plots.matrix(
    looking["end to the giver's second mention"],
    layers,
    heads,
    "Looks from the end at the second mention",
    "head",
    "layer",
    "mean weight",
    ax=panels[1],
    limit=1.0,
)
top_inhibitors = owed.flatten().argsort(descending=True)[:3].tolist()
print(
    f"{mover[0]}.{mover[1]} prefers the receiver by "
    f"{(looking['end to the receiver'] - looking[GIVER_FIRST])[mover]:.2f}; it owes "
    + ", ".join(f"{owed.flatten()[i]:+.2f} to {names_of_heads[i]}" for i in top_inhibitors)
)
looked = torch.corrcoef(
    torch.stack(
        [
            owed[: mover[0]].flatten(),
            looking["end to the giver's second mention"][: mover[0]].flatten(),
        ]
    )
)[0, 1]
print(f"correlation with looking at the second mention: {looked:.2f}")

# %% [markdown]
# ## Backups
#
# Take the name movers out. In GPT-2 the logit difference then falls by a mere 5%: other heads step in, *backups*,
# which had written little before. A knock-out alone would have said that name movers do not matter. So look at what
# every head writes *before and after*.

# %% [markdown]
# ### Exercise · who steps in    ●●○   12 min
#
# Run the tokens with each head of `knocked` ablated by its mean: its `z` becomes the mean over the prompts,
# position by position, of the run without knock-outs. Return how much each head's own contribution to the last
# position along `direction` changes, after minus before, mean over the prompts. (The direction stays that of the
# whole run, so what a changed scale does is not counted.)
#
# <details><summary>Hint 1</summary>
# A head's contribution is <code>z[:, -1, head] @ W_O[layer, head]</code>, times the direction. Compute it in both
# runs, for all heads.
# </details>
# <details><summary>Hint 2</summary>
# A hook for each layer: on a clone, <code>z[:, :, head] = before[name][:, :, head].mean(0)</code>. Within
# <code>model.hooks(...)</code> the cache holds what the hooks put in, if they stand there first.
# </details>


# %% exercise="backups"
def backups(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    knocked: list[tuple[int, int]],
    direction: Float[Tensor, "batch d_model"],
) -> Float[Tensor, "n_layers n_heads"]:
    """How much more each head writes along a direction when others are mean-ablated."""
    ### BEGIN SOLUTION
    names = [get_act_name("z", layer) for layer in range(model.cfg.n_layers)]
    _, before = model.run_with_cache(tokens, names_filter=names)

    def knock_out(z, hook):
        z = z.clone()
        for layer, head in knocked:
            if layer == hook.layer():
                z[:, :, head] = before[hook.name][:, :, head].mean(0)
        return z

    with model.hooks([(name, knock_out) for name in names]):
        _, after = model.run_with_cache(tokens, names_filter=names)
    change = torch.stack([after[name][:, -1] - before[name][:, -1] for name in names])
    return torch.einsum("lbhe,lhed,bd->lh", change, model.W_O, direction) / len(tokens)
    ### END SOLUTION


# %% check="backups"
check("backups")


# %%
def ablated(
    m: Transformer, tokens: Tensor, knocked: list[tuple[int, int]], cache: ActivationCache
) -> Tensor:
    """Logits with some heads mean-ablated."""

    def hook(z, hook):
        z = z.clone()
        for layer, head in knocked:
            if layer == hook.layer():
                z[:, :, head] = cache[hook.name][:, :, head].mean(0)
        return z

    return m.run_with_hooks(
        tokens, fwd_hooks=[(get_act_name("z", layer), hook) for layer in range(m.cfg.n_layers)]
    )


before = difference(logits).mean().item()
inhibitors = [(i // H, i % H) for i in top_inhibitors[:2]]
chance = torch.Generator().manual_seed(1)
rest = [(i // H, i % H) for i in ranked_heads if (i // H, i % H) not in movers + inhibitors]
picks = [rest[i] for i in torch.randperm(len(rest), generator=chance)[: len(movers)].tolist()]
out_of = {
    "the first name mover": movers[:1],
    "all name movers": movers,
    "the first inhibitor": inhibitors[:1],
    "both inhibitors": inhibitors,
    "as many other heads": picks,
}
repair, lost = {}, {}
print(f"{'knocked out':<22} {'they wrote':>11} {'others change':>14} {'lost in all':>12}   heads")
for what, out in out_of.items():
    change = torch.as_tensor(backups(model, tokens, out, direction)).detach()
    change[tuple(zip(*out, strict=True))] = 0  # what they wrote themselves stands beside it
    repair[what] = change
    own = sum(writes[head].item() for head in out)
    lost[what] = before - difference(ablated(model, tokens, out, cache)).mean().item()
    print(
        f"{what:<22} {own:>11.2f} {change.sum().item():>+14.2f} {lost[what]:>12.2f}   "
        + " ".join(f"{layer}.{head}" for layer, head in out)
    )
for ax, what in zip(
    plots.axes(2, size=(4.6, 2.8)), ("the first inhibitor", "as many other heads"), strict=True
):
    title = f"Change of the others without {what}"
    plots.matrix(repair[what], layers, heads, title, "head", "layer", "nats", ax=ax)

# %% [markdown]
# **What to see here.** In our model nobody steps in for a name mover, and nobody could: all of them are in the last
# layer, heads of one layer do not read each other, and there is no LayerNorm after them whose scale would change. What
# makes it robust is *redundancy*: the work is spread over all heads of that layer, so that one of them alone is worth
# little. It has one weak point, the head that says who gives. So dropping heads in training made many movers, but no
# backups: for those a model needs layers behind the movers, as GPT-2 has. A knock-out that costs little can mean either,
# and the middle column tells which.

# %% [markdown]
# GPT-2 small's circuit, as published, beside ours:
#
# | measure | GPT-2 small (Wang et al., 2022) |
# |---|---|
# | heads in the circuit | 26 of 144 |
# | logit difference | 3.56 |
# | of it kept by the circuit alone | 87% |
# | lost when all name movers are knocked out | 5% |
# | copy score of name movers, of all heads | above 95%, below 20% |

# %%
share_lost = lost["all name movers"] / before
print(
    f"names: {len(movers)} name movers of {L * H} heads; logit difference {before:.2f}; "
    f"lost without them {share_lost:.0%},\n       without the first inhibitor "
    f"{lost['the first inhibitor'] / before:.0%}; copy score of name movers "
    f"{of_movers.mean():.0%}, of all heads {copies.mean():.0%}"
)

# %% [markdown]
# The same functions on GPT-2 small, where TransformerLens and a network exist. (LayerNorms are folded there, so
# the direction is that of $W_U$ over the scale.) Otherwise this cell says that it is left out.

# %%
from circuits.gpt2 import load_gpt2

gpt2 = load_gpt2()
if gpt2 is not None:
    plot = "When {first} and {second} went to the {place}, {giver} gave a {thing} to"
    people = [(" Mary", " John"), (" Tom", " James"), (" Anna", " Paul"), (" Kate", " Mark")] * 2
    asked = [
        dict(
            first=a[1:],
            second=b[1:],
            giver=(b if i < 4 else a)[1:],
            third="Dan",
            place="store",
            thing="drink",
        )
        for i, (a, b) in enumerate(people)
    ]
    prompts = make_prompts(plot, asked, "none")
    with torch.no_grad():
        their_tokens = gpt2.to_tokens([text for text, _ in prompts])
        their_right, their_giver = (
            gpt2.to_tokens([" " + w for w in words], prepend_bos=False)[:, 0]
            for words in ([answer for _, answer in prompts], [f["giver"] for f in asked])
        )
        _, theirs = gpt2.run_with_cache(their_tokens)
        u = (gpt2.W_U[:, their_right] - gpt2.W_U[:, their_giver]).T / theirs["ln_final.hook_scale"][
            :, -1
        ]
        first_right = torch.tensor(
            [
                (row == t).nonzero()[0, 0] if (row == t).any() else 2
                for row, t in zip(their_tokens, their_right)
            ]
        )
        theirs_moved = torch.as_tensor(name_mover(gpt2, theirs, first_right, u))
    best = theirs_moved.flatten().argsort(descending=True)[:5].tolist()
    print(
        "GPT-2, moved from the receiver (nats): "
        + ", ".join(
            f"{i // gpt2.cfg.n_heads}.{i % gpt2.cfg.n_heads} {theirs_moved.flatten()[i]:+.2f}"
            for i in best
        )
    )

# %% [markdown]
# ## Planted circuits
#
# By hand this took six measurements and an idea of what to look for. Can a machine do it? To judge that, one
# needs models whose circuit is *known*. Ours were trained to hold one: in every step also a run in which only the
# planted edges carry the text, and all others carry another one (Gupta and others, 2024). At the other positions
# they do a second task, by whatever edges they like. So the weights look like any other trained weights, and
# nothing in them is zero.
#
# | model | at the last position | planted edges |
# |---|---|---|
# | `relay` | which symbol came third? | a head brings it to some place, a second head from there to the end |
# | `either` | is there a mark (15) anywhere? | two heads and an MLP: *each* head is enough |
# | `sum` | the sum of two numbers, modulo 7 | one head brings both to an MLP of the next layer, which adds |
#
# `run_circuit(model, circuit, clean, corrupted)` is chapter 4's last test, for models with MLPs and LayerNorm:
# edges in the circuit carry what their sender says in this run, all others what it says in the corrupted one.
# `edge_names(model)` lists all edges; an MLP is `m0`.

# %%
planted = {name: load_model(f"discovery/planted_{name}").requires_grad_(False) for name in PLANTS}


def pairs_of(name: str, n: int, seed: int):
    """Pairs of texts with different answers: clean, corrupted, right, wrong."""
    plant, generator = PLANTS[name], torch.Generator().manual_seed(seed)
    clean, corrupted = (plant.draw(4 * n, generator) for _ in range(2))
    differ = plant.answer(clean) != plant.answer(corrupted)
    if name == "either":  # the mark is there in the clean one
        differ &= plant.answer(clean) > plant.answer(corrupted)
    clean, corrupted = clean[differ][:n], corrupted[differ][:n]
    return clean, corrupted, plant.answer(clean), plant.answer(corrupted)


data = {name: pairs_of(name, 48, 0) for name in PLANTS}


@torch.no_grad()
def gap(logits: Tensor, right: Tensor, wrong: Tensor) -> float:
    """The mean logit difference at the last position, in nats."""
    rows = torch.arange(len(right))
    return (logits[rows, -1, right] - logits[rows, -1, wrong]).mean().item()


print(
    f"{'':<8}   edges planted   {'clean':>7} {'corrupted':>10} "
    f"{'planted alone':>14} {'all but those':>14}   (nats)"
)
for name, m in planted.items():
    clean, corrupted, yes, no = data[name]
    edges, truth = edge_names(m), list(PLANTS[name].edges)
    rest = [edge for edge in edges if edge not in truth]
    with torch.no_grad():
        runs = m(clean), m(corrupted), *(run_circuit(m, c, clean, corrupted) for c in (truth, rest))
    values = [gap(logits, yes, no) for logits in runs]
    print(
        f"{name:<8} {len(edges):>7} {len(truth):>7}   {values[0]:>+7.2f} {values[1]:>+10.2f} "
        f"{values[2]:>+14.2f} {values[3]:>+14.2f}"
    )

# %% [markdown]
# **What to see here.** The planted edges alone carry nearly all of the difference. All others together leave the model at
# the corrupted text's answer. That is what it means that a circuit is there, and it is more than any circuit
# found *in* a model can claim.

# %% [markdown]
# ### Exercise · the yardstick    ●○○   8 min
#
# The exact effect of every edge: how much the mean logit difference at the last position falls if this edge alone
# carries the corrupted message, in the clean run. Return it by the edge's name, in nats. One run per edge, and
# one more.
#
# <details><summary>Hint 1</summary>
# A circuit of all edges but one: <code>run_circuit(model, [e for e in edges if e != edge], clean,
# corrupted)</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>logits[rows, -1, right] - logits[rows, -1, wrong]</code> with <code>rows =
# torch.arange(len(right))</code>, then the mean. The effect is all edges' minus that without the edge.
# </details>


# %% exercise="edge_effects"
def edge_effects(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    right: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
) -> dict[str, float]:
    """What the mean logit difference loses when one edge alone is corrupted, by edge, in nats."""
    ### BEGIN SOLUTION
    rows, edges = torch.arange(len(right)), edge_names(model)

    def difference(circuit):
        logits = run_circuit(model, circuit, clean, corrupted)
        return (logits[rows, -1, right] - logits[rows, -1, wrong]).mean().item()

    whole = difference(edges)
    return {edge: whole - difference([e for e in edges if e != edge]) for edge in edges}
    ### END SOLUTION


# %% check="edge_effects"
check("edge_effects")

# %%
rankings, runs_needed = {}, {}  # by model and method


def ranked_by(effects: dict[str, float]) -> list[str]:
    return sorted(effects, key=lambda edge: -abs(float(effects[edge])))


exact = {}
for name, m in planted.items():
    start = time.perf_counter()
    exact[name] = {edge: float(v) for edge, v in edge_effects(m, *data[name]).items()}
    seconds[f"exact, {name}"] = time.perf_counter() - start
    rankings[name, "exact"], runs_needed[name, "exact"] = (
        ranked_by(exact[name]),
        len(exact[name]) + 1,
    )
    marks = [
        ("* " if e in PLANTS[name].edges else "  ") + f"{e} {exact[name][e]:+.2f}"
        for e in rankings[name, "exact"][:8]
    ]
    print(f"{name:<7} " + "   ".join(marks))
print("(* planted; nats)")

# %% [markdown]
# **What to see here.** In `relay` and `sum` the planted edges come first, far above all others. In `either` the edges
# of the two heads come out weaker, those of one head hardly above edges that were not planted: without one of them, the
# other is enough. One edge at a time cannot see an *or*. Keep that in mind.

# %% [markdown]
# ## All edges from one gradient
#
# Give each edge a *strength* $g_e$: it carries $\text{corrupted} + g_e\,(\text{now} - \text{corrupted})$. With
# all $g_e = 1$ this is the clean run, with all 0 the corrupted one. Then the first-order estimate of chapter 4's
# `edge_attribution` is nothing but a gradient:
#
# $$\text{effect}(e) \approx \frac{\partial \bar\Delta}{\partial g_e} \Big|_{g = 1} \qquad g: [n_\text{edges}]$$
#
# with $\bar\Delta$ the mean logit difference: *edge attribution patching*, EAP. `run_circuit` takes a dictionary
# of strengths in the place of a list, and passes gradients on.

# %% [markdown]
# ### Exercise · one gradient    ●●○   10 min
#
# Return the gradient of the mean logit difference with respect to every edge's strength, at the point where all
# of them are `strength`.
#
# <details><summary>Hint 1</summary>
# One tensor with an entry per edge, <code>torch.full((len(edges),), strength, requires_grad=True)</code>, and
# <code>dict(zip(edges, gates))</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>(gradient,) = torch.autograd.grad(difference, gates)</code>; then <code>dict(zip(edges,
# gradient.tolist()))</code>.
# </details>


# %% exercise="strength_gradient"
def strength_gradient(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    right: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
    strength: float,
) -> dict[str, float]:
    """The gradient of the mean logit difference by every edge's strength, all at one strength."""
    ### BEGIN SOLUTION
    edges, rows = edge_names(model), torch.arange(len(right))
    gates = torch.full((len(edges),), strength, requires_grad=True)
    logits = run_circuit(model, dict(zip(edges, gates, strict=True)), clean, corrupted)
    difference = (logits[rows, -1, right] - logits[rows, -1, wrong]).mean()
    (gradient,) = torch.autograd.grad(difference, gates)
    return dict(zip(edges, gradient.tolist(), strict=True))
    ### END SOLUTION


# %% check="strength_gradient"
check("strength_gradient")

# %% [markdown]
# ### Exercise · integrated gradients    ●●○   10 min
#
# One gradient knows the slope at one point. Where a softmax is saturated or a ReLU is off, the slope says little
# of the way. Average it *along* the way (Sundararajan et al., 2017; for edges Hanna et al., 2024): at the
# midpoints of `steps` equal parts of the way from 0 to 1,
#
# $$\text{effect}(e) \approx \frac{1}{m} \sum_{i=1}^{m} \frac{\partial \bar\Delta}{\partial g_e} \Big|_{g = (i - 1/2) / m}$$
#
# With many steps the effects of all edges add up to $\bar\Delta_\text{clean} - \bar\Delta_\text{corrupted}$, as
# every integral of a gradient does. (We move along all strengths at once. Hanna and others move the inputs
# alone.)
#
# <details><summary>Hint 1</summary>
# The exercise before in a loop over strengths <code>(i + 0.5) / steps</code> for i from 0 to steps - 1.
# </details>
# <details><summary>Hint 2</summary>
# Add the gradients up, and divide by <code>steps</code> at the end.
# </details>


# %% exercise="integrated_edge_attribution"
def integrated_edge_attribution(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    right: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
    steps: int,
) -> dict[str, float]:
    """The gradient by every edge's strength, averaged over the way from corrupted to clean."""
    ### BEGIN SOLUTION
    edges, rows = edge_names(model), torch.arange(len(right))
    total = torch.zeros(len(edges))
    for i in range(steps):
        gates = torch.full((len(edges),), (i + 0.5) / steps, requires_grad=True)
        logits = run_circuit(model, dict(zip(edges, gates, strict=True)), clean, corrupted)
        difference = (logits[rows, -1, right] - logits[rows, -1, wrong]).mean()
        total += torch.autograd.grad(difference, gates)[0]
    return dict(zip(edges, (total / steps).tolist(), strict=True))
    ### END SOLUTION


# %% check="integrated_edge_attribution"
check("integrated_edge_attribution")

# %%
estimates = {}
for name, m in planted.items():
    for what, n_runs in (("EAP", 3), ("EAP-IG, 8 steps", 24)):
        start = time.perf_counter()
        found = (
            strength_gradient(m, *data[name], 1.0)
            if what == "EAP"
            else integrated_edge_attribution(m, *data[name], 8)
        )
        seconds[f"{what}, {name}"] = time.perf_counter() - start
        estimates[name, what] = {edge: float(v) for edge, v in found.items()}
        rankings[name, what], runs_needed[name, what] = ranked_by(found), n_runs
panels = plots.axes(3, size=(3.6, 3.0))
for ax, name in zip(panels, planted, strict=True):
    edges = list(exact[name])
    for i, what in enumerate(("EAP", "EAP-IG, 8 steps")):
        ax.scatter(
            [exact[name][e] for e in edges],
            [estimates[name, what][e] for e in edges],
            s=14,
            color=plots.COLORS[i],
            label=what,
            alpha=0.8,
            lw=0,
        )
    ax.axline((0, 0), slope=1, color=plots.INK, lw=0.8, ls="--")
    ax.set(title=name, xlabel="exact effect (nats)", ylabel="estimate (nats)")
    plots.legend(ax)
for name, m in planted.items():
    clean, corrupted, yes, no = data[name]
    whole = gap(m(clean), yes, no) - gap(m(corrupted), yes, no)
    total_ig = sum(estimates[name, "EAP-IG, 8 steps"].values())
    both = torch.tensor(
        [
            [exact[name][e], estimates[name, "EAP"][e], estimates[name, "EAP-IG, 8 steps"][e]]
            for e in exact[name]
        ]
    )
    r = torch.corrcoef(both.T)[0]
    print(
        f"{name:<7} correlation with exact: EAP {r[1]:.2f}, EAP-IG {r[2]:.2f}; "
        f"EAP-IG adds up to {total_ig:.2f} of {whole:.2f} nats"
    )

# %% [markdown]
# **What to see here.** A gradient at one point is cheap, and it can be far off: where an answer is saturated, its slope at
# the end of the way is small, for true edges too, and others come first. The integral costs eight times as much and adds
# up to the whole difference. So each edge of a chain gets a share of it, where exact patching charges the whole to each:
# its numbers are smaller, in nearly the same order. And it shares what exact patching cannot see: of the *or*, one head
# comes out weak.

# %% [markdown]
# ## Pruning
#
# A ranking looks at edges one at a time. *Greedy pruning* (ACDC; Conmy et al., 2023) looks at what is left: go
# through all edges once, from the logits back to the embedding, and drop each without which, *in the circuit as
# it stands*, the answer hardly suffers.

# %% [markdown]
# ### Exercise · greedy pruning    ●●○   15 min
#
# Start with all edges. Go through `edge_names(model)` in reverse. Drop an edge for good if the mean logit
# difference of the circuit without it is less than `threshold` nats below that of the circuit with it. (An edge
# whose loss would *raise* it is dropped too.) Return what is left, in the order of `edge_names`.
#
# <details><summary>Hint 1</summary>
# Keep a list <code>kept</code> and its difference <code>now</code>. Only where an edge is dropped, both change.
# </details>
# <details><summary>Hint 2</summary>
# <code>for edge in reversed(edge_names(model)): fewer = [e for e in kept if e != edge]</code>; compare <code>now
# - difference(fewer)</code> with the threshold.
# </details>


# %% exercise="greedy_pruning"
def greedy_pruning(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    right: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
    threshold: float,
) -> list[str]:
    """The edges that are left when each is dropped that costs less than a threshold (ACDC)."""
    ### BEGIN SOLUTION
    rows = torch.arange(len(right))

    def difference(circuit):
        logits = run_circuit(model, circuit, clean, corrupted)
        return (logits[rows, -1, right] - logits[rows, -1, wrong]).mean().item()

    kept = edge_names(model)
    now = difference(kept)
    for edge in reversed(edge_names(model)):
        fewer = [e for e in kept if e != edge]
        without = difference(fewer)
        if now - without < threshold:
            kept, now = fewer, without
    return kept
    ### END SOLUTION


# %% check="greedy_pruning"
check("greedy_pruning")

# %%
pruned = {}
for name, m in planted.items():
    start = time.perf_counter()
    pruned[name] = {t: list(greedy_pruning(m, *data[name], t)) for t in (0.1, 0.5, 2.0)}
    seconds[f"pruning, {name}"] = (time.perf_counter() - start) / 3
    for threshold, kept in pruned[name].items():
        true = len(set(kept) & set(PLANTS[name].edges))
        print(
            f"{name:<7} threshold {threshold:<4} keeps {len(kept):>3} edges, "
            f"{true} of {len(PLANTS[name].edges)} planted ones"
        )
print(
    "of the two heads of `either`, pruning keeps: "
    + ", ".join(
        sorted({h for e in pruned["either"][0.5] for h in ("0.0", "0.3") if e.startswith(h)})
    )
)

# %% [markdown]
# ## How good is a circuit?
#
# First, does it do what the model does? *Faithfulness* is the share of the clean-minus-corrupted difference that
# a circuit carries alone:
#
# $$\text{faithfulness}(C) = \frac{\bar\Delta_C - \bar\Delta_\text{corrupted}}{\bar\Delta_\text{clean} - \bar\Delta_\text{corrupted}}$$
#
# one minus chapter 4's unexplained share. Draw it against the number of edges.

# %% [markdown]
# ### Exercise · a faithfulness curve    ●○○   6 min
#
# `ranked` is a list of edges, best first. Return the faithfulness of the first $n$ of them, for each $n$ in
# `sizes`.
#
# <details><summary>Hint 1</summary>
# <code>run_circuit(model, ranked[:n], clean, corrupted)</code>. With no edge it is the corrupted run.
# </details>
# <details><summary>Hint 2</summary>
# The clean and the corrupted difference are those of <code>model(clean)</code> and <code>model(corrupted)</code>,
# with the same <code>right</code> and <code>wrong</code>.
# </details>


# %% exercise="faithfulness_curve"
def faithfulness_curve(
    model: Transformer,
    ranked: list[str],
    sizes: list[int],
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    right: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
) -> list[float]:
    """The share of the logit difference that the first n edges carry alone, for each n."""
    ### BEGIN SOLUTION
    rows = torch.arange(len(right))

    def difference(logits):
        return (logits[rows, -1, right] - logits[rows, -1, wrong]).mean().item()

    low, high = difference(model(corrupted)), difference(model(clean))
    circuits = [run_circuit(model, ranked[:n], clean, corrupted) for n in sizes]
    return [(difference(logits) - low) / (high - low) for logits in circuits]
    ### END SOLUTION


# %% check="faithfulness_curve"
check("faithfulness_curve")

# %%
shuffled = {}
for name, m in planted.items():
    edges = edge_names(m)
    order = torch.randperm(len(edges), generator=torch.Generator().manual_seed(0)).tolist()
    rankings[name, "random order"] = [edges[i] for i in order]
METHODS = ("exact", "EAP", "EAP-IG, 8 steps", "random order")
sizes = [1, 2, 3, 4, 5, 6, 7, 8, 10, 14, 20, 30, 50, 80, 110]
curves = {}
for ax, (name, m) in zip(plots.axes(3, size=(3.8, 3.4)), planted.items(), strict=True):
    here = [n for n in sizes if n <= len(exact[name])]
    for method in METHODS:
        with torch.no_grad():
            curves[name, method] = (
                here,
                [
                    float(v)
                    for v in faithfulness_curve(m, rankings[name, method], here, *data[name])
                ],
            )
    plots.lines(
        {method: curves[name, method] for method in METHODS},
        name,
        "edges (log scale)",
        "faithfulness",
        ax=ax,
        logx=True,
    )

# %% [markdown]
# ### Exercise · the area that counts    ●●○   8 min
#
# A public benchmark scores a method by the area under this curve, with the *share of edges* on the axis. There
# circuits of 1 to 10% of the edges, the ones one wants, get a tenth of the weight. Put the *logarithm* of the
# size on the axis: return the area under the curve by the trapezoid rule over $\log n$, divided by $\log
# n_\text{last} - \log n_\text{first}$, so that a curve that is 1 everywhere has 1.
#
# <details><summary>Hint 1</summary>
# <code>x = torch.tensor(sizes).log()</code>; a trapezoid has width <code>x[i + 1] - x[i]</code> and the mean of
# two heights.
# </details>
# <details><summary>Hint 2</summary>
# <code>torch.trapezoid(heights, x) / (x[-1] - x[0])</code>.
# </details>


# %% exercise="area_by_log_size"
def area_by_log_size(sizes: list[int], faithfulness: list[float]) -> float:
    """The area under a curve over the logarithm of the size; 1 for a curve of ones."""
    ### BEGIN SOLUTION
    x = torch.tensor(sizes, dtype=torch.double).log()
    heights = torch.tensor(faithfulness, dtype=torch.double)
    return (torch.trapezoid(heights, x) / (x[-1] - x[0])).item()
    ### END SOLUTION


# %% check="area_by_log_size"
check("area_by_log_size")


# %%
def area_by_share(sizes: list[int], faithfulness: list[float]) -> float:
    """The same with the share of edges on the axis: the trap."""
    x = torch.tensor(sizes, dtype=torch.double)
    return (
        torch.trapezoid(torch.tensor(faithfulness, dtype=torch.double), x) / (x[-1] - x[0])
    ).item()


print(
    f"{'':<18}"
    + "".join(f"{name:>22}" for name in planted)
    + "     area by share of edges, by logarithm"
)
for method in METHODS:
    cells = [
        f"{area_by_share(*curves[name, method]):.2f}, "
        f"{float(area_by_log_size(*curves[name, method])):.2f}"
        for name in planted
    ]
    print(f"{method:<18}" + "".join(f"{cell:>22}" for cell in cells))

# %% [markdown]
# **What to see here.** By the share of edges all methods but the random order look good: most of the axis is circuits
# of a third of the model and more, in which everything is found. By the logarithm they lie further apart, and that one
# gradient fails on the *or* is plain to see.

# %% [markdown]
# ### Exercise · precision and recall    ●○○   6 min
#
# Where the truth is known, compare with it. *Precision*: the share of the edges found that are true; *recall*:
# the share of the true ones that are found. Return both. A true edge that a method never looked at (it is not in
# its list) is *missed*: the same benchmark once left such edges out of the count, and a method that looked at
# fewer edges won. With nothing found, precision is 0. An edge named twice counts once.
#
# <details><summary>Hint 1</summary>
# Sets: <code>set(found) &amp; set(truth)</code>.
# </details>
# <details><summary>Hint 2</summary>
# The recall divides by the number of all true edges, whatever was found.
# </details>


# %% exercise="precision_and_recall"
def precision_and_recall(found: list[str], truth: list[str]) -> tuple[float, float]:
    """The share of what was found that is true, and of what is true that was found."""
    ### BEGIN SOLUTION
    both = set(found) & set(truth)
    return len(both) / max(1, len(set(found))), len(both) / len(set(truth))
    ### END SOLUTION


# %% check="precision_and_recall"
check("precision_and_recall")

# %%
table = []
for name, m in planted.items():
    truth = list(PLANTS[name].edges)
    found = {method: rankings[name, method][: len(truth)] for method in METHODS}
    found["pruning, 0.5 nats"] = pruned[name][0.5]
    runs_needed[name, "pruning, 0.5 nats"], runs_needed[name, "random order"] = (
        len(exact[name]) + 1,
        1,
    )
    for method, edges in found.items():
        p, r = (float(x) for x in precision_and_recall(edges, truth))
        with torch.no_grad():
            f = float(faithfulness_curve(m, edges, [len(edges)], *data[name])[0])
        table.append((name, method, runs_needed[name, method], len(edges), p, r, f))
print(
    f"{'model':<8} {'method':<18} {'runs':>5} {'edges':>6} {'precision':>10} "
    f"{'recall':>7} {'faithfulness':>13}"
)
for name, method, n_runs, n, p, r, f in table:
    print(f"{name:<8} {method:<18} {n_runs:>5} {n:>6} {p:>10.2f} {r:>7.2f} {f:>13.2f}")
ax = plots.axes(size=(7.0, 3.6))
for i, method in enumerate(dict.fromkeys(row[1] for row in table)):
    these = [row for row in table if row[1] == method]
    ax.scatter(
        [row[2] for row in these],
        [2 * row[4] * row[5] / max(1e-9, row[4] + row[5]) for row in these],
        s=50,
        color=plots.COLORS[i],
        marker="os^Dv"[i],
        label=method,
    )
ax.set(
    xscale="log",
    title="Cost and quality on three planted circuits",
    xlabel="runs of the model (log scale)",
    ylabel="F1 against the truth",
)
plots.legend(ax)

# %% [markdown]
# **What to see here.** Rankings were given the right number of edges, which nobody knows in practice; pruning finds its
# own. Integrated gradients are as good as the exact effects here, for a fifth of the runs; one gradient is not, where there is
# an *or*. Compare faithfulness with recall: on `either` pruning is wholly faithful with half of the truth.

# %% [markdown]
# ## What faithfulness misses
#
# A circuit with one head of the *or* does all that the model does. But it does not do it *as* the model does:
# knock that head out of both, and the model goes on, by the other head, while the circuit has nothing left. A
# *complete* circuit breaks where the model breaks (Wang et al., 2022, section 4): for any set of edges $K$,
#
# $$\text{incompleteness}(C, K) = \big| F(\text{all} \setminus K) - F(C \setminus K) \big|, \qquad F: \text{faithfulness}$$

# %% [markdown]
# ### Exercise · completeness    ●●○   10 min
#
# Return the incompleteness of a circuit for a set of knocked-out edges.
#
# <details><summary>Hint 1</summary>
# Two circuits: all edges of the model without those in <code>knocked</code>, and yours without them.
# </details>
# <details><summary>Hint 2</summary>
# Both differences over the same clean minus corrupted; the corrupted one cancels in the numerator.
# </details>


# %% exercise="completeness"
def completeness(
    model: Transformer,
    circuit: list[str],
    knocked: list[str],
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    right: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
) -> float:
    """How differently model and circuit do without the same edges; 0 is complete."""
    ### BEGIN SOLUTION
    rows = torch.arange(len(right))

    def difference(logits):
        return (logits[rows, -1, right] - logits[rows, -1, wrong]).mean().item()

    def without(edges):
        left = [edge for edge in edges if edge not in knocked]
        return difference(run_circuit(model, left, clean, corrupted))

    whole = difference(model(clean)) - difference(model(corrupted))
    return abs((without(edge_names(model)) - without(circuit)) / whole)
    ### END SOLUTION


# %% check="completeness"
check("completeness")

# %%
way, other_way = (list(edges) for edges, _ in PLANTS["either"].parts)
whole_or = list(PLANTS["either"].edges)
m = planted["either"]
print(
    f"{'`either`':<12} {'faithfulness':>13}   incompleteness without 0.0->m1, without 0.3->m1"
)
for what, edges in (("one head", way), ("the other", other_way), ("both", whole_or)):
    with torch.no_grad():
        f = float(faithfulness_curve(m, edges, [len(edges)], *data["either"])[0])
        parts = [
            float(completeness(m, edges, [out], *data["either"])) for out in ("0.0->m1", "0.3->m1")
        ]
    print(f"{what:<28} {f:>12.2f}   {'':<43}{parts[0]:>7.2f}   {parts[1]:>7.2f}")

# %% [markdown]
# **What to see here.** Each head alone is nearly as faithful as both. Knock it out, and the circuit has nothing left
# while the model goes on by the other: a large number in that column. With both heads in it the numbers fall. They do
# not fall to 0: a little of what the model does runs past all three circuits.

# %% [markdown]
# ### Exercise · minimality    ●○○   6 min
#
# And the other way: is every edge needed? Return, for each edge of a circuit, what its faithfulness loses without
# it.
#
# <details><summary>Hint 1</summary>
# The circuit's faithfulness minus that of the circuit without one edge, for each.
# </details>
# <details><summary>Hint 2</summary>
# The corrupted difference cancels: <code>(difference(circuit) - difference(fewer)) / (clean - corrupted)</code>.
# </details>


# %% exercise="minimality"
def minimality(
    model: Transformer,
    circuit: list[str],
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    right: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
) -> dict[str, float]:
    """What the faithfulness of a circuit loses without each of its edges."""
    ### BEGIN SOLUTION
    rows = torch.arange(len(right))

    def difference(logits):
        return (logits[rows, -1, right] - logits[rows, -1, wrong]).mean().item()

    whole = difference(model(clean)) - difference(model(corrupted))
    with_all = difference(run_circuit(model, circuit, clean, corrupted))
    fewer = {edge: [e for e in circuit if e != edge] for edge in circuit}
    return {
        edge: (with_all - difference(run_circuit(model, left, clean, corrupted))) / whole
        for edge, left in fewer.items()
    }
    ### END SOLUTION


# %% check="minimality"
check("minimality")

# %%
for name, edges in (
    ("relay", [*PLANTS["relay"].edges, "embed->0.0.v", "0.0->1.1.v"]),
    ("either", whole_or),
):
    with torch.no_grad():
        needed = minimality(planted[name], edges, *data[name])
    print(f"{name:<7} " + "   ".join(f"{e} {float(v):+.2f}" for e, v in needed.items()))

# %% [markdown]
# **What to see here.** In `relay` every planted edge is needed, and the two that we smuggled in are not. In `either` the
# edges of the two heads are hardly needed, though all of them belong there. So the smallest faithful circuit is not the
# complete one: minimality and completeness pull in different directions, and a circuit should be reported with both.

# %% [markdown]
# ## A hypothesis, and its controls
#
# So far one counterfactual stood beside each prompt. A hypothesis says more: *whatever* the others say, only
# these edges matter. Test it by exchanging all others for what they say in *other prompts*, drawn at random
# (*resampling*; Chan et al., *Causal Scrubbing*, 2022), and count prompts, not nats: in how many does the right
# answer still come before the wrong one?

# %% [markdown]
# ### Exercise · a hypothesis' score    ●●○   12 min
#
# For each of `draws` shuffles of the prompts, drawn by `torch.randperm(len(tokens), generator=generator)`, run
# the hypothesis with the shuffled prompts as the corrupted ones. Return the share, over all draws and prompts, in
# which `right` has a larger logit than `wrong` at the last position.
#
# <details><summary>Hint 1</summary>
# <code>run_circuit(model, hypothesis, tokens, tokens[order])</code>. <code>right</code> and <code>wrong</code>
# stay with their prompt.
# </details>
# <details><summary>Hint 2</summary>
# <code>(logits[rows, -1, right] > logits[rows, -1, wrong]).float().mean()</code>, averaged over the draws.
# </details>


# %% exercise="hypothesis_score"
def hypothesis_score(
    model: Transformer,
    hypothesis: list[str],
    tokens: Int[Tensor, "batch pos"],
    right: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
    draws: int,
    generator: torch.Generator,
) -> float:
    """How often the right answer wins if all edges outside carry other prompts."""
    ### BEGIN SOLUTION
    rows, shares = torch.arange(len(tokens)), []
    for _ in range(draws):
        order = torch.randperm(len(tokens), generator=generator)
        logits = run_circuit(model, hypothesis, tokens, tokens[order])
        wins = logits[rows, -1, right] > logits[rows, -1, wrong]
        shares.append(wins.float().mean().item())
    return sum(shares) / draws
    ### END SOLUTION


# %% check="hypothesis_score"
check("hypothesis_score")

# %%
clean, corrupted, yes, no = data["relay"]
story = list(PLANTS["relay"].edges)
hypotheses = {
    "the planted one": story,
    "by the keys instead of the values": [e.replace("0.2->1.1.v", "0.2->1.1.k") for e in story],
    "another head in the first layer": [e.replace("0.2", "0.1") for e in story],
    "nothing matters": [],
    "everything matters": edge_names(planted["relay"]),
}
unlearned = Transformer(planted["relay"].cfg).requires_grad_(False)
print(f"{'hypothesis':<36} {'relay':>8} {'random weights':>16}")
scores = {}
with torch.no_grad():
    for what, edges in hypotheses.items():
        scores[what] = [
            float(hypothesis_score(m, edges, clean, yes, no, 4, torch.Generator().manual_seed(0)))
            for m in (planted["relay"], unlearned)
        ]
        print(f"{what:<36} {scores[what][0]:>8.0%} {scores[what][1]:>16.0%}")

# %% [markdown]
# **What to see here.** The true story is accepted, and the two false ones do no better than "nothing matters". And the
# control: on a model with random weights *every* hypothesis has about the same score, so "my circuit does as well as
# the whole model" is true there as well, and means nothing. A hypothesis is worth what it explains above that.

# %% [markdown]
# ## Back to the names
#
# Now the machine on the model that you took apart by hand: integrated gradients on all its edges, with prompts
# whose giver changes. Do they find the same heads?

# %%
flipped = model.to_tokens([text for text, _ in make_prompts(TEMPLATES[0], fields, "giver")])
few = slice(0, 16)
pairs = tokens[few], flipped[few], right[few], giver[few]
start = time.perf_counter()
by_machine = {e: float(v) for e, v in integrated_edge_attribution(model, *pairs, 5).items()}
seconds["EAP-IG on names, 5 steps"] = time.perf_counter() - start
order = ranked_by(by_machine)
shuffle = torch.randperm(len(order), generator=torch.Generator().manual_seed(2)).tolist()
sizes = [n for n in (1, 2, 4, 8, 16, 32, 64, 128) if n < len(order)] + [len(order)]
with torch.no_grad():
    curve = [float(v) for v in faithfulness_curve(model, order, sizes, *pairs)]
    by_chance = [
        float(v) for v in faithfulness_curve(model, [order[i] for i in shuffle], sizes, *pairs)
    ]
panels = plots.axes(2, size=(5.0, 3.6))
plots.lines(
    {"by integrated gradients": (sizes, curve), "in random order": (sizes, by_chance)},
    "names: circuits of more and more edges",
    "edges (log scale)",
    "faithfulness",
    ax=panels[0],
    logx=True,
)
panels[1].barh(order[:14][::-1], [by_machine[e] for e in order[:14][::-1]], color=plots.COLORS[0])
panels[1].axvline(0, color=plots.INK, lw=0.8)
panels[1].set(title=f"The strongest 14 of {len(order)} edges", xlabel="estimated effect (nats)")
at_90 = next(n for n, f in zip(sizes, curve, strict=True) if f >= 0.9)
by_edges = torch.zeros(L, H)
for edge, effect in by_machine.items():
    if edge.endswith("->logits") and "." in edge:
        layer, head = map(int, edge.split("->")[0].split("."))
        by_edges[layer, head] = effect
agree = torch.corrcoef(torch.stack([by_edges.flatten(), writes.flatten()]))[0, 1].item()
print(
    f"90% of the difference from at most {at_90} of {len(order)} edges; "
    f"correlation of edges to the logits with what heads write (by hand): {agree:.2f}"
)

# %% [markdown]
# **What to see here.** The machine needs no idea of what to look for, and puts the edges of the same heads first.
# It does not say what they *do*: that the first mention is found by its double, and that the query carries a "not
# him". Neither way replaces the other.

# %% [markdown]
# ## A catalogue of paths
#
# For a model of two layers without MLPs one can list *everything*. With attention patterns held as they are, its
# logits are a sum over paths (chapter 3): the direct one, one through each head, one through each pair of heads
# in different layers. Each path has something that it reads, something that it does with it, and a worth: by how
# much the loss rises without it.
#
# $$\text{logits} = \Big(E + \sum_{h} A^h E\, W_{OV}^h + \sum_{h_0, h_1} A^{h_1} A^{h_0} E\, W_{OV}^{h_0} W_{OV}^{h_1}\Big) W_U \qquad E: [\text{pos}\; d_\text{model}]$$

# %% [markdown]
# ### Exercise · every path and its worth    ●●●   20 min
#
# For an attention-only model of two layers: how much more is the mean next-token loss, in nats, if the term of
# one path is left out of the logits, for every path? Name them `"direct"`, `"0.3"`, `"1.5"`, and `"0.3->1.5"` for
# the term of a pair. Patterns stay as they are in the whole run.
#
# <details><summary>Hint 1</summary>
# Terms are vectors of the stream, <code>[batch pos d_model]</code>: keep them in a dictionary. Their sum is the
# last stream, <code>cache["resid_post", 1]</code>.
# </details>
# <details><summary>Hint 2</summary>
# A head moves and maps: <code>pattern[:, head] @ x @ W_V[layer, head] @ W_O[layer, head]</code>. Heads of layer 1
# do it with the embedding, and with the term of each head of layer 0.
# </details>
# <details><summary>Hint 3</summary>
# Loss: <code>cross_entropy((total - term) @ W_U)</code> at all positions but the last, with the next tokens as
# targets; minus the loss of <code>total</code>.
# </details>


# %% exercise="path_catalogue"
def path_catalogue(model: Transformer, tokens: Int[Tensor, "batch pos"]) -> dict[str, float]:
    """What the loss rises by without each path of a two-layer model, in nats per token."""
    ### BEGIN SOLUTION
    _, cache = model.run_with_cache(tokens)
    W_OV = model.W_V @ model.W_O

    def through(layer, head, x):
        return cache["pattern", layer][:, head] @ x @ W_OV[layer, head]

    terms, heads = {"direct": model.W_E[tokens]}, range(model.cfg.n_heads)
    for head in heads:
        terms[f"0.{head}"] = through(0, head, terms["direct"])
        terms[f"1.{head}"] = through(1, head, terms["direct"])
    for first in heads:
        for last in heads:
            terms[f"0.{first}->1.{last}"] = through(1, last, terms[f"0.{first}"])

    def loss(x):
        logits = x[:, :-1] @ model.W_U
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    total = sum(terms.values())
    return {path: (loss(total - term) - loss(total)).item() for path, term in terms.items()}
    ### END SOLUTION


# %% check="path_catalogue"
check("path_catalogue")

# %% [markdown]
# Take `names_small`, which has four heads a layer, so 25 paths, and two more trainings of it from other starts.
# The texts are whole sentences, with the receiver at their end.

# %%
smalls = {
    seed: load_names(name)
    for seed, name in enumerate(("names_small", "names_small_1", "names_small_2"))
}
whole = [
    TEMPLATES[0].format(**f) + " " + answer
    for f, (_, answer) in zip(fields, make_prompts(TEMPLATES[0], fields, "none"), strict=True)
]
text = small.to_tokens(whole)


def reads(m: Transformer, tokens: Tensor) -> dict[str, list[float]]:
    """Of each path: how much of its look from the end is at itself, receiver, giver."""
    n = tokens.shape[1] - 2  # the position at which the receiver is named
    _, cache = m.run_with_cache(
        tokens, names_filter=[get_act_name("pattern", layer) for layer in (0, 1)]
    )
    A0, A1 = (
        cache["pattern", 0],
        cache["pattern", 1][:, :, n],
    )  # [batch n_heads dest src], [batch n_heads src]
    marks = torch.stack(
        [
            torch.arange(tokens.shape[1]).expand_as(tokens) == n,
            (tokens == right[:, None]) & (torch.arange(tokens.shape[1]) < n),
            tokens == giver[:, None],
        ],
        -1,
    ).float()

    def shares(weights: Float[Tensor, "batch src"]) -> list[float]:
        return torch.einsum("bs,bsm->bm", weights, marks).mean(0).tolist()

    found = {"direct": [1.0, 0.0, 0.0]}
    for head in range(m.cfg.n_heads):
        found |= {f"0.{head}": shares(A0[:, head, n]), f"1.{head}": shares(A1[:, head])}
        found |= {
            f"0.{other}->1.{head}": shares(torch.einsum("bd,bds->bs", A1[:, head], A0[:, other]))
            for other in range(m.cfg.n_heads)
        }
    return found


def chain(m: Transformer, path: str) -> Tensor:
    """What a path does with the embedding that it reads, `[d_model d_model]`."""
    W = torch.eye(m.cfg.d_model)
    for head in path.split("->") if path != "direct" else []:
        layer, number = map(int, head.split("."))
        W = W @ m.W_V[layer, number] @ m.W_O[layer, number]
    return W


def catalogue(m: Transformer, tokens: Tensor) -> list[dict]:
    """Every path: what it saves, where it looks, whether it copies, what it says."""
    with torch.no_grad():
        worth, looks, rows = path_catalogue(m, tokens), reads(m, tokens), []
        W_U = m.W_U - m.W_U.mean(1, keepdim=True)
        for path, nats in worth.items():
            W = chain(m, path) @ W_U
            values = torch.linalg.eigvals(W @ m.W_E)
            says = []
            for name in ("Mary", "Tom"):
                best = (m.W_E[int(ids([name])[0])] @ W).topk(3).indices.tolist()
                says.append(f"{name} → " + " ".join(m.to_string(t) for t in best))
            rows.append(
                {
                    "path": path,
                    "saves (mnats)": 1000 * float(nats),
                    "looks at itself": looks[path][0],
                    "the receiver": looks[path][1],
                    "the giver": looks[path][2],
                    "copies": (values.sum() / values.abs().sum()).real.item(),
                    "says": ";  ".join(says),
                }
            )
    return rows


catalogues = {seed: catalogue(m, text) for seed, m in smalls.items()}

# %%
from IPython.display import HTML

SCRIPT = """
<script>(() => {
  const box = document.currentScript.parentElement, body = box.querySelector("tbody");
  box.querySelector("input").oninput = e => { for (const row of body.rows)
    row.style.display = row.innerText.toLowerCase().includes(e.target.value.toLowerCase())
      ? "" : "none"; };
  box.querySelectorAll("th").forEach((th, i) => { let up = false; th.onclick = () => { up = !up;
    const value = row => { const t = row.cells[i].innerText, n = parseFloat(t);
      return isNaN(n) ? t : n; };
    const order = (a, b) => (value(a) > value(b) ? 1 : -1) * (up ? 1 : -1);
    [...body.rows].sort(order).forEach(row => body.append(row)); }; });
})();</script>"""


def searchable(rows: list[dict]) -> HTML:
    """A table to search, by typing, and to sort, by a click on the head of a column."""
    from html import escape

    cell = lambda v: f"{v:.2f}" if isinstance(v, float) else escape(str(v))  # noqa: E731
    head = "".join(f"<th style='cursor:pointer'>{escape(name)}</th>" for name in rows[0])
    lines = "".join(
        "<tr>"
        + "".join(f"<td style='text-align:left'>{cell(v)}</td>" for v in row.values())
        + "</tr>"
        for row in rows
    )
    return HTML(
        "<div><input placeholder='search: 0.2, Mary, ...'>"
        "<div style='max-height:24em;overflow:auto'>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>{SCRIPT}</div>"
    )


searchable(sorted(catalogues[0], key=lambda row: -row["saves (mnats)"]))

# %% [markdown]
# Which of these paths are *universal*: would another training have made them too? Match paths of three seeds by
# what they read, whether they copy, and what they save. The baseline: the same numbers shuffled among the paths
# of the other seed, each column for itself.


# %%
def features(rows: list[dict]) -> Float[Tensor, "path feature"]:
    """What a path is known by: where it looks, whether it copies, what it saves."""
    keys = ("looks at itself", "the receiver", "the giver", "copies")
    saved = torch.tensor([row["saves (mnats)"] for row in rows])
    return torch.cat(
        [
            torch.tensor([[row[k] for k in keys] for row in rows]),
            (saved.clamp(min=1.0).log10() / 3)[:, None],
        ],
        1,
    )


NEAR, shuffler = 0.3, torch.Generator().manual_seed(0)
worthy = torch.tensor([row["saves (mnats)"] > 10 for row in catalogues[0]])
print(
    f"{int(worthy.sum())} of {len(worthy)} paths of the first training save more than 10 mnats "
    f"each. A partner nearer than {NEAR} have"
)
universal = {}
for seed in (1, 2):
    mine, theirs = features(catalogues[0])[worthy], features(catalogues[seed])
    by_chance = []
    for _ in range(50):  # each column shuffled for itself
        mixed = torch.stack(
            [
                theirs[torch.randperm(len(theirs), generator=shuffler), i]
                for i in range(theirs.shape[1])
            ],
            1,
        )
        by_chance.append((torch.cdist(mine, mixed).min(1).values < NEAR).float().mean().item())
    universal[seed] = (
        (torch.cdist(mine, theirs).min(1).values < NEAR).float().mean().item(),
        sum(by_chance) / len(by_chance),
    )
    print(
        f"  in training {seed}: {universal[seed][0]:.0%}; "
        f"among shuffled ones {universal[seed][1]:.0%}"
    )
for seed, rows in catalogues.items():
    best = sorted(rows, key=lambda r: -r["saves (mnats)"])[:5]
    print(
        f"training {seed}, most worth: "
        + ", ".join(f"{r['path']} {r['saves (mnats)']:.0f}" for r in best)
        + " mnats"
    )

# %% [markdown]
# **What to see here.** In our run true partners are found no more often than among shuffled numbers. So these five
# numbers do not tell whether a path is universal: a share of partners, given without the shuffled one beside it, would
# have looked like a finding. What does come back in every training is coarser: the paths worth most go through single
# heads of layer 1. Their numbers differ, as nothing prefers one head to another.

# %% [markdown]
# ## Circuits that are small because the weights are few
#
# All of this searches in models that were not made to be searched. Gao and others (2025) train transformers whose
# weights are nearly all zero: after each step only the largest entries of every matrix are kept, a share that
# falls while they train. What is left to explain are few connections. `names_sparse` was trained so on our
# sentences, to one weight in 16; `names_small` has the same shape, and all its weights.

# %% [markdown]
# ### Exercise · keep the largest    ●○○   5 min
#
# Return the matrix with all but its largest entries, by size, set to 0: `share` of them stay, rounded down to a
# whole number, but at least one.
#
# <details><summary>Hint 1</summary>
# How many: <code>max(1, int(share * W.numel()))</code>. <code>W.abs().flatten().topk(n)</code> has their places.
# </details>
# <details><summary>Hint 2</summary>
# <code>torch.zeros_like(W).flatten().scatter(0, places, W.flatten()[places]).view_as(W)</code>.
# </details>


# %% exercise="keep_largest"
def keep_largest(W: Float[Tensor, "a b"], share: float) -> Float[Tensor, "a b"]:
    """W with its largest entries by size, a share of all, and 0 elsewhere."""
    ### BEGIN SOLUTION
    places = W.abs().flatten().topk(max(1, int(share * W.numel()))).indices
    return torch.zeros_like(W).flatten().scatter(0, places, W.flatten()[places]).view_as(W)
    ### END SOLUTION


# %% check="keep_largest"
check("keep_largest")

# %%
by_weights = {"names_small": small, "names_sparse": load_names("names_sparse")}
by_weights["names_small, pruned afterwards"] = copy.deepcopy(small)
with torch.no_grad():
    for name, W in by_weights["names_small, pruned afterwards"].named_parameters():
        for part in W if W.ndim == 3 else [W]:
            part.copy_(torch.as_tensor(keep_largest(part.clone(), 1 / 16)))


def touched(m: Transformer, edges: list[str]) -> int:
    """Weights other than 0 in what the edges write and read with."""
    used = {}
    for sender, receiver in (edge.split("->") for edge in edges):
        if sender == "embed":
            used["W_E"] = m.W_E
        else:
            layer, head = map(int, sender.split("."))
            used[sender] = m.W_O[layer, head]
        if receiver == "logits":
            used["W_U"] = m.W_U
        else:
            layer, head, kind = receiver.split(".")
            used[receiver] = getattr(m, f"W_{kind.upper()}")[int(layer), int(head)]
    return sum(int((W != 0).sum()) for W in used.values())


small_pairs = tokens, flipped, right, giver
print(
    f"{'model':<32} {'right':>6} {'weights not 0':>14} {'clean':>7} "
    f"{'edges for 90%':>14} {'weights they touch':>19}"
)
sparse_rows = {}
for name, m in by_weights.items():
    order = ranked_by(integrated_edge_attribution(m, *small_pairs, 5))
    sizes = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64, len(order)]
    with torch.no_grad():
        f = [float(v) for v in faithfulness_curve(m, order, sizes, *small_pairs)]
        clean_gap = gap(m(tokens), right, giver)
        is_right = (m(tokens)[:, -1].argmax(-1) == right).float().mean().item()
    at = next((n for i, n in enumerate(sizes) if all(value >= 0.9 for value in f[i:])), len(order))
    alive = sum(int((W != 0).sum()) for W in m.parameters())
    sparse_rows[name] = is_right, alive, at, touched(m, order[:at]), (sizes, f)
    print(
        f"{name:<32} {is_right:>6.0%} {alive:>14,} {clean_gap:>+7.2f} "
        f"{at:>14} {sparse_rows[name][3]:>19,}"
    )
plots.lines(
    {name: row[4] for name, row in sparse_rows.items() if row[0] > 0.5},
    "Circuits of more and more edges, dense and sparse",
    "edges (log scale)",
    "faithfulness",
    logx=True,
);
# %% [markdown]
# **What to see here.** Compare what the circuits *touch*. The sparse model's circuit has about as many edges, and a small
# part of the weights: an edge of the dense model is a whole matrix, of which nobody can say which entry matters. It has
# a price, as it is right less often after twice the steps, so this is no comparison at equal quality. The last row is
# the control: the same share of weights kept *after* training instead of while it goes on is no model any more.

# %% [markdown]
# ## Mystery models
#
# You have all the tools. `load_mystery("A")` is a model that nobody explains to you, and so are the others up to `"J"`,
# from easy to hard: ten rules, no two alike. Each has two layers of four heads with MLPs and LayerNorm, and reads symbols from 1 to 15, at most
# 11, behind token 0. At every position it names a symbol, by a *rule*. And each has an *exception*: where something
# about the text holds, it always names the same symbol. Begin with A; do as many as you like, each has its own points.
# What you write down is tested by what the model then does, on texts drawn anew. The model itself is not at hand where
# your program is graded.
#
# How to begin: change one symbol and see whether the answer changes. Look at patterns. Silence a node. And look
# for the exception last: a symbol that is named far too often.

# %%
from circuits.mystery.make import NODES, intervene, run_nodes, said


def says(m: Transformer, *text: int) -> int:
    """What a mystery model names at the end of a text."""
    return int(m(torch.tensor([[0, *text]]))[0, -1].argmax())


texts = torch.randint(1, 16, (256, 11), generator=torch.Generator().manual_seed(0))
texts = torch.cat([torch.zeros(256, 1, dtype=torch.long), texts], 1)
print(
    "share of 256 random texts in which the answer changes when one place does (the last "
    "eight of 11), and the symbol named most often"
)
for name in MYSTERIES:
    m = load_mystery(name)
    answers = m(texts)[:, -1].argmax(-1)
    moves = []
    for at in range(4, 12):
        changed = texts.clone()
        changed[:, at] = changed[:, at] % 15 + 1
        moves.append((m(changed)[:, -1].argmax(-1) != answers).float().mean().item())
    often = torch.bincount(answers, minlength=16)
    print(
        f"{name}   "
        + " ".join(f"{x:>4.0%}" for x in moves)
        + f"    {int(often.argmax()):>2} in {often.max() / 256:.0%}"
    )

# %%
name = "A"
m = load_mystery(name)
with torch.no_grad():
    _, their_cache = m.run_with_cache(texts)
    other = texts[torch.randperm(256, generator=torch.Generator().manual_seed(1))]
    _, elsewhere = m.run_with_cache(other)
    answers = m(texts)[:, -1].argmax(-1)
    kept = {}
    for node in NODES:
        logits = m.run_with_hooks(texts, fwd_hooks=intervene({node: said(elsewhere, node)}))
        kept[node] = (logits[:, -1].argmax(-1) == answers).float().mean().item()
panels = plots.axes(2, size=(5.0, 3.2))
from_end = torch.cat([their_cache["pattern", layer][:, :, -1].mean(0) for layer in (0, 1)])
plots.matrix(
    from_end,
    NODES[:8],
    [str(i) for i in range(12)],
    f"Mystery {name}: where heads look from the end",
    "position",
    "head",
    "mean weight",
    ax=panels[0],
)
panels[1].bar(list(kept), list(kept.values()), color=plots.COLORS[0])
panels[1].set(title="One node exchanged", xlabel="node", ylabel="answers that stay");

# %% [markdown]
# ### Exercise · what it does    ●●●   100 min
#
# A program that names, at the end of a text of symbols (without `<|bos|>`), what a mystery model names there: by
# its rule, where the exception applies, and on unusual texts (very short ones, few symbols, in order). `mystery`
# is its letter.
#
# <details><summary>Hint 1</summary>
# The first table says which places matter. If only one does, does it copy? If all do alike, think of counting, or
# of the largest.
# </details>
# <details><summary>Hint 2</summary>
# If places matter only in some texts, look for a symbol that makes the one behind it matter, or for symbols that
# come twice.
# </details>
# <details><summary>Hint 3</summary>
# The exception looks at the last symbol, at whether a symbol stands anywhere, or at what the rule would have
# said.
# </details>


# %% exercise="predict"
def predict(mystery: str, tokens: list[int]) -> int:
    """What a mystery model names at the end of a text."""
    ### BEGIN SOLUTION
    s = list(tokens)

    def back(places):
        return s[-1 - places] if len(s) > places else s[0]

    def behind(symbol, none):
        found = [b for a, b in zip(s, s[1:]) if a == symbol]
        return found[-1] if found else none

    def depth(opens, closes, more, equal, fewer):
        n = s.count(opens) - s.count(closes)
        return more if n > 0 else equal if n == 0 else fewer

    rules = {
        "A": lambda: back(3),
        "B": lambda: max(s),
        "C": lambda: min(s),
        "D": lambda: (s[-1] + back(1) - 1) % 15 + 1,
        "E": lambda: depth(9, 15, 1, 12, 5),
        "F": lambda: min(s, key=lambda symbol: (-s.count(symbol), symbol)),
        "G": lambda: behind(14, 11),
        "H": lambda: behind(s[-1], 4),
        "I": lambda: next((symbol for i, symbol in enumerate(s) if symbol in s[:i]), 7),
        "J": lambda: 1 + sum(symbol < s[-1] for symbol in s[-3:]),
    }
    rule = rules[mystery]()
    exceptions = {
        "A": (s[-1] == 8, 9),
        "B": (s[-1] == 14, 11),
        "C": (s[-1] == 15, 14),
        "D": (s[-1] == 13, 14),
        "E": (7 in s, 14),
        "F": (rule == 2, 3),
        "G": (rule == 7, 3),
        "H": (rule == 1, 15),
        "I": (6 in s, 12),
        "J": (4 in s, 8),
    }
    applies, says = exceptions[mystery]
    return says if applies else rule
    ### END SOLUTION


# %% check="predict"
check("predict")

# %% [markdown]
# ### Exercise · the parts that do it    ●●○   45 min
#
# The nodes, heads such as `"0.3"` and MLPs (`"m0"`, `"m1"`), that are enough: with all others exchanged for what
# they say in other texts, the model says what it said in nine of ten. Each mystery takes at most as many nodes as
# were planted, and one to spare.
#
# <details><summary>Hint 1</summary>
# Exchange one node at a time, as above. Those that change nothing have no part in it. Those of the exception show
# in few texts only: choose texts for it.
# </details>
# <details><summary>Hint 2</summary>
# Then all of these at once: <code>run_nodes(model, nodes, tokens, other_tokens)</code>.
# </details>


# %% exercise="circuit"
def circuit(mystery: str) -> list[str]:
    """Nodes that are enough for all that a mystery model does."""
    ### BEGIN SOLUTION
    return {
        "A": "0.0 1.2",
        "B": "0.1 1.1",
        "C": "0.1 1.3",
        "D": "0.1 m0 m1",
        "E": "0.2 m0 1.1",
        "F": "0.0 m0 m1",
        "G": "0.0 m0 1.1 m1",
        "H": "0.2 m0 1.1 m1",
        "I": "0.3 m0 1.3 1.0",
        "J": "0.0 0.1 m0 1.2",
    }[mystery].split()
    ### END SOLUTION


# %% check="circuit"
check("circuit")

# %% [markdown]
# ### Exercise · switch the exception off    ●●○   25 min
#
# Return an edited copy of the model: the exception is gone, there too the model follows its rule, and elsewhere
# it says what it said.
#
# <details><summary>Hint 1</summary>
# One node of layer 1 writes the exception. Silence each in turn, on texts where it applies.
# </details>
# <details><summary>Hint 2</summary>
# <code>copy.deepcopy(model)</code>, then under <code>torch.no_grad()</code> set to 0 what that node writes with:
# <code>W_O[head]</code>, or an MLP's <code>W_out</code> and <code>b_out</code>.
# </details>


# %% exercise="disable"
def disable(mystery: str, model: Transformer) -> Transformer:
    """A copy of a mystery model that follows its rule everywhere."""
    ### BEGIN SOLUTION
    at_head = {"A": 2, "B": 1, "C": 3, "E": 1, "I": 0, "J": 2}  # the others: by the MLP
    edited = copy.deepcopy(model)
    block = edited.blocks[1]
    with torch.no_grad():
        if mystery in at_head:
            block.attn.W_O[at_head[mystery]] = 0.0
        else:
            block.mlp.W_out.zero_()
            block.mlp.b_out.zero_()
    return edited
    ### END SOLUTION


# %% check="disable"
check("disable")

# %% [markdown]
# ### Exercise · redirect the exception    ●●●   35 min
#
# Return an edited copy that names `symbol` wherever the exception applies, and elsewhere says what it said.
#
# <details><summary>Hint 1</summary>
# What that node writes raises one logit. Make it raise another one. Its writing weights, times a matrix, do that.
# </details>
# <details><summary>Hint 2</summary>
# With $U$ the final LayerNorm's weights times $W_U$, without the mean of its rows, a vector $w$ adds $wU$ to the
# logits. Row $t$ of $U^+$, <code>torch.linalg.pinv(U)</code>, raises the logit of $t$ and no other, as there are more
# dimensions than symbols. So $w M$ with $M = I + 2\,U_{:, \text{old}} \otimes U^+_{\text{new}}$ raises the new
# symbol's logit by twice what $w$ raises the old one's.
# </details>


# %% exercise="redirect"
def redirect(mystery: str, model: Transformer, symbol: int) -> Transformer:
    """A copy of a mystery model that names `symbol` where its exception applies."""
    ### BEGIN SOLUTION
    at_head = {"A": 2, "B": 1, "C": 3, "E": 1, "I": 0, "J": 2}  # the others: by the MLP
    old = dict(A=9, B=11, C=14, D=14, E=14, F=3, G=3, H=15, I=12, J=8)[mystery]
    edited = copy.deepcopy(model)
    block = edited.blocks[1]
    with torch.no_grad():
        U = edited.ln_final.w[:, None] * edited.W_U
        U = U - U.mean(0)  # what the LayerNorm takes out is not read
        M = torch.eye(len(U)) + 2 * torch.outer(U[:, old], torch.linalg.pinv(U)[symbol])
        if mystery in at_head:
            W_O = block.attn.W_O[at_head[mystery]]
            W_O.copy_(W_O @ M)
        else:
            block.mlp.W_out.copy_(block.mlp.W_out @ M)
            block.mlp.b_out.copy_(block.mlp.b_out @ M)
    return edited
    ### END SOLUTION


# %% check="redirect"
check("redirect")

# %% [markdown]
# An instructor makes a mystery of one's own for each class: `circuits mystery --seed N --out FOLDER` trains one
# in at most three minutes, proves that it has learned its algorithm and can be solved, and writes a notebook.

# %% [markdown]
# ## What you have shown


# %%
def cell(name: str, method: str, column: int) -> str:
    return f"{next(row[column] for row in table if row[0] == name and row[1] == method):.2f}"


rows = [
    ("names: logit difference, nats", f"{before:.2f}"),
    ("names: lost without its name movers", f"{share_lost:.0%}"),
    (
        "names: copy score of name movers, of all heads",
        f"{of_movers.mean():.2f}, {copies.mean():.2f}",
    ),
    ("names: edges for 90%, of all", f"{at_90} of {len(by_machine)}"),
    *(
        (
            f"{name}: recall of exact, EAP, EAP-IG, pruning",
            ", ".join(
                cell(name, m, 5) for m in ("exact", "EAP", "EAP-IG, 8 steps", "pruning, 0.5 nats")
            ),
        )
        for name in planted
    ),
    (
        "true hypothesis, two false ones, on relay",
        ", ".join(f"{scores[w][0]:.0%}" for w in list(hypotheses)[:3]),
    ),
    ("the same on random weights", ", ".join(f"{scores[w][1]:.0%}" for w in list(hypotheses)[:3])),
    *(
        (f"paths with a partner in training {seed} (shuffled)", f"{a:.0%} ({b:.0%})")
        for seed, (a, b) in universal.items()
    ),
    *(
        (f"{name}: right, edges, weights they touch", f"{row[0]:.0%}, {row[2]}, {row[3]:,}")
        for name, row in sparse_rows.items()
    ),
]
for what, value in rows:
    print(f"{what:<58} {value:>28}")
print("\nseconds: " + "; ".join(f"{what} {value:.0f}" for what, value in seconds.items()))

# %% [markdown]
# | claim | where it is from | what to compare |
# |---|---|---|
# | Name movers, told by S-inhibition heads, solve the task | Wang et al., 2022 | looks, what is moved, what it owes |
# | Backups step in | the same | what is written before and after a knock-out, beside other heads knocked out |
# | One gradient ranks all edges | Syed et al., 2023 | estimates against exact effects, recall |
# | Gradients along the way do it better | Hanna et al., 2024 | the same; the *or* |
# | Greedy pruning finds circuits | Conmy et al., 2023 | precision and recall, and what it keeps of the *or* |
# | A faithful circuit can be incomplete | Wang et al., 2022, section 4 | the *or* |
# | Sparse weights make circuits that can be read | Gao et al., 2025 | edges, and the weights they touch |
#
# **Read on.** Kevin Wang and others, *Interpretability in the Wild* (2022). Arthur Conmy and others, *Towards
# Automated Circuit Discovery* (2023). Aaquib Syed, Can Rager and Arthur Conmy, *Attribution Patching Outperforms
# Automated Circuit Discovery* (2023). Michael Hanna, Sandro Pezzelle and Yonatan Belinkov, *Have Faith in
# Faithfulness* (2024). Rohan Gupta and others, *InterpBench* (2024). Lawrence Chan and others, *Causal Scrubbing*
# (2022). Atticus Geiger and others, *Inducing Causal Structure for Interpretable Neural Networks* (2022). Leo Gao
# and others, *Weight-sparse transformers have interpretable circuits* (2025).

# %%
progress()
