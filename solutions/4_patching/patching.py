# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4 · Patching: from correlation to cause
#
# A head looks at the previous token. Its weights compose with those of an induction head. Does the model *use*
# it? Looking does not tell. Intervening does: stop the model half-way, exchange one activation for what it would
# have been in another text, let the model go on, and see what comes out.
#
# **After this chapter you can**
#
# - measure a behaviour with one number, and choose a second text that asks about one thing only;
# - take a part away in three ways, and say which of them is misleading you;
# - find the parts that carry an answer by patching them, one by one or all at once with a gradient;
# - follow the answer from a head to a connection between heads, and test a whole circuit against what it leaves
#   out.
#
# **Time**: about 300 minutes, 239 of them for the exercises. That is two evenings: "From a head to a connection" is a good place
# to begin the second. **Needs**: chapters 2 and 3. **Follows**: *Interpretability in the Wild* (Wang et al., 2022), *Locating and Editing Factual Associations in GPT* (Meng et al., 2022), *How to use and
# interpret activation patching* (Heimersheim and Nanda, 2024).

# %% tags=["setup"]
import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuits import check, hint, progress, reveal
from utils import ActivationCache, Transformer, get_act_name
from utils.materials.edges import edge_names
from utils.patching import LogitDiff, sweep

# %% [markdown]
# The text is a piece of Python. A class takes two arguments with made-up names of two tokens each, and stores
# one of them: which one, the model must look up. We have 64 such prompts with different names, and for each
# prompt a *corrupted* twin, in which the first halves of the names have changed places.

# %%
import time

from utils import load_model
from utils.figures import plots
from utils.materials.gates import gate_model
from utils.materials.prompts import TEMPLATE, draw_names, draw_pairs, make_pairs
from utils.waiting import waiting

one, two = (load_model(name).requires_grad_(False) for name in ("one_layer", "two_layer"))
pairs = draw_pairs(two, 64, torch.Generator().manual_seed(0))
clean, corrupted, right, wrong = pairs
n_layers, n_heads = two.cfg.n_layers, two.cfg.n_heads

for title, tokens, answer in [("clean", clean, right), ("corrupted", corrupted, wrong)]:
    print(
        f"--- {title}: to be continued with `{two.to_string(answer[0])}`\n"
        f"{two.to_string(tokens[0, 1:])}\n"
    )
print(f"{len(clean)} pairs of {clean.shape[1]} tokens each (with `<|bos|>`).")

# %% [markdown]
# ## Where this chapter ends
#
# Each cell of this map is an experiment. Run the two-layer model on the corrupted prompts, but give it one
# activation from the clean run: the residual stream entering a layer, at one position. 1 means that this single
# activation brings the whole clean answer back, 0 that it changes nothing. Somewhere between the two rows the answer moves
# one place to the right. You will fill in this map and a second one, of heads, find out who moves it and who
# reads it there, and name the connections between them.

# %%
metric = LogitDiff(right, wrong)
at_clean, at_corrupted = (metric(two(tokens)) for tokens in (clean, corrupted))


def normalised(values: Tensor) -> Tensor:
    """0 for the corrupted run, 1 for the clean one."""
    return (values - at_corrupted) / (at_clean - at_corrupted)


# Tokens as labels. Where the 64 prompts differ are the halves of the names: A B and C D, then A
# again.
labels = [plots.token_text(token) for token in two.to_str_tokens(clean[0])]
varying = (clean != clean[0]).any(dim=0).nonzero()[:, 0].tolist()
for position, role in zip(varying, ["A", "B", "C", "D", "A"], strict=True):
    labels[position] = role
layer_names = [str(layer) for layer in range(n_layers)]
head_names = [f"{layer}.{head}" for layer in range(n_layers) for head in range(n_heads)]


def show_maps(by_position: Tensor, by_head: Tensor, what: str) -> None:
    """Two maps, layer by position and layer by head, coloured from -1 to 1."""
    heads = [str(head) for head in range(n_heads)]
    maps = [
        (by_position, labels, "the stream entering a layer", "position"),
        (by_head, heads, "a head's output", "head"),
    ]
    for ax, (values, columns, where, xlabel) in zip(
        plots.axes(2, size=(6.6, 2.9)), maps, strict=True
    ):
        unit = "0 corrupted, 1 clean"
        plots.matrix(values, layer_names, columns, f"{what}: {where}", xlabel, "layer", unit, ax=ax)
        ax.images[0].set(cmap=plots.DIVERGING, clim=(-1, 1))


plots.matrix(
    normalised(sweep(two, clean, corrupted, metric, "resid_pre")), layer_names, labels,
    "The stream entering a layer, clean into corrupted", "position", "layer",
    "0 corrupted, 1 clean",
).images[0].set(cmap=plots.DIVERGING, clim=(-1, 1));  # fmt: skip

# %% [markdown]
# ## A question with two answers
#
# The two names are made of four halves: first `A` `B`, then `C` `D` (in the pair above `string`, `code`, `key`,
# `data`). The prompt ends with `A`. In the clean text `A` was followed by $r$ = `B`, the *right* answer; in the
# corrupted one by $w$ = `D`, the *wrong* one. Both are plausible names, so a model that cannot look back has no
# reason to prefer one. Measure the preference with the *logit difference* at the last position $n - 1$, for each
# prompt $i$:
#
# $$\Delta_i = \text{logits}[i, n - 1, r_i] - \text{logits}[i, n - 1, w_i]
# = \log \frac{P(r_i)}{P(w_i)} \qquad \text{logits: } [\text{batch pos}\; d_\text{vocab}], \quad r, w: [\text{batch}]$$
#
# It is in nats: at $\Delta = 0$ both are equally likely, and each nat more multiplies the odds, $P(r_i)$ to
# $P(w_i)$, by $e$.

# %% [markdown]
# ### Exercise · the logit difference    ●○○   4 min
#
# One number per prompt.
#
# <details><summary>Hint 1</summary>
# The last position's logits are <code>logits[:, -1]</code>, of shape <code>[batch d_vocab]</code>. From row i you
# need column <code>right[i]</code>: one column per row, and not the same one.
# </details>
# <details><summary>Hint 2</summary>
# <code>last[torch.arange(len(last)), right]</code> picks one entry per row; so does <code>last.gather(1, right[:,
# None])[:, 0]</code>. (<code>last[:, right]</code> picks all columns for all rows.)
# </details>

# %% exercise="logit_diff"
def logit_diff(
    logits: Float[
        Tensor, "batch pos d_vocab"
    ], right: Int[Tensor, "batch"], wrong: Int[Tensor, "batch"]
) -> Float[Tensor, "batch"]:
    """How much the last position prefers each prompt's right token to its wrong one, in nats."""
    ### BEGIN SOLUTION
    last, prompt = logits[:, -1], torch.arange(len(logits))
    return last[prompt, right] - last[prompt, wrong]
    ### END SOLUTION

# %% check="logit_diff"
check("logit_diff")

# %%
def mean_and_error(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the prompts (the first dimension), and its standard error."""
    return values.mean(0), values.std(0) / len(values) ** 0.5


differences = {
    (model.cfg.n_layers, name): logit_diff(model(tokens), right, wrong)
    for model in (one, two)
    for name, tokens in [("clean", clean), ("corrupted", corrupted)]
}
means = {key: mean_and_error(values) for key, values in differences.items()}
plots.grouped_bars(
    {
        name: tuple(zip(*(means[n, name] for n in (1, 2)), strict=True))
        for name in ("clean", "corrupted")
    },
    ["one layer", "two layers"],
    f"Which half comes next? (mean of {len(clean)} prompts, ± 2 standard errors)",
    "model",
    "logit difference (nats)",
)
for (n, name), values in differences.items():
    share = (values > 0).float().mean()
    print(
        f"{n} layer(s), {name:>9}: {values.mean():+.2f} nats; right half preferred in {share:.0%}"
    )
print("Clean minus corrupted, prompt by prompt: mean ± 2 standard errors")
for n in (1, 2):
    mean, error = mean_and_error(differences[n, "clean"] - differences[n, "corrupted"])
    print(f"{n} layer(s): {mean:+.3f} ± {2 * error:.3f} nats")

# %% [markdown]
# **What to see here.** Two layers follow the text: the sign changes when the first halves change places. One
# layer hardly tells the two texts apart. The very same tokens stand in both, only the neighbours differ, and no
# score of a one-layer model sees two neighbours at once (chapter 3). It is our control: whatever separates clean
# from corrupted in the two-layer model is composition.
#
# Error bars are two *standard errors*: the standard deviation over the prompts, divided by $\sqrt{64}$, twice. They say how
# far a bar may move with other names. Do not compare two bars by whether their errors overlap: both are of the *same* 64
# prompts, and what makes one prompt easy moves both. Take the difference prompt by prompt, and *its* error, as in the
# last lines. For the one-layer model it is far smaller than the error of either bar.

# %% [markdown]
# ## Two prompts that differ in one thing
#
# A single prompt has thousands of activations, and all of them matter for *something*: that this is Python, that
# a name is due, that it is a short one. We want those that matter for *which half*. So take a second text that
# differs in that alone, a *counterfactual*, and ask which activations carry the difference:
#
# | text | names | last token | answer |
# |---|---|---|---|
# | clean | `AB`, `CD` | `A` | `B` |
# | corrupted | `CB`, `AD` | `A` | `D` |
#
# The same tokens, the same length, the same last token. `B` stands where it stood. What has changed is *what stands
# before it*.

# %% [markdown]
# ### Exercise · clean and corrupted    ●●○   10 min
#
# Make the pairs. `names` holds tuples `(A, B, C, D)` of strings (first halves bring their space: `" string"`).
# The template is a string with the fields `{first}`, `{second}` and `{query}`: the first name, the second name,
# and the first half with which the prompt ends. Return the tokens of all clean prompts, those of all corrupted
# ones, and the right and the wrong answers' token ids. Every half is one token.
#
# <details><summary>Hint 1</summary>
# <code>template.format(first=..., second=..., query=...)</code> makes one text, and <code>model.to_tokens(list of
# texts)</code> a tensor <code>[batch pos]</code>, each row with <code>&lt;|bos|&gt;</code> in front.
# </details>
# <details><summary>Hint 2</summary>
# Clean: first <code>A + B</code>, second <code>C + D</code>. Corrupted: first <code>C + B</code>, second <code>A
# + D</code>. The query is <code>A</code> in both.
# </details>
# <details><summary>Hint 3</summary>
# The ids of single tokens: <code>model.to_tokens([B, ...], prepend_bos=False)[:, 0]</code>.
# </details>

# %% exercise="clean_and_corrupted"
def clean_and_corrupted(
    model: Transformer, template: str, names: list[tuple[str, str, str, str]]
) -> tuple[
    Int[Tensor, "batch pos"], Int[Tensor, "batch pos"], Int[Tensor, "batch"], Int[Tensor, "batch"]
]:
    """Tokens of the clean prompts, of their twins with first halves exchanged, and both answers'
    ids."""
    ### BEGIN SOLUTION
    clean = [template.format(first=a + b, second=c + d, query=a) for a, b, c, d in names]
    corrupted = [template.format(first=c + b, second=a + d, query=a) for a, b, c, d in names]
    right, wrong = (
        model.to_tokens([name[half] for name in names], prepend_bos=False)[:, 0] for half in (1, 3)
    )
    return model.to_tokens(clean), model.to_tokens(corrupted), right, wrong
    ### END SOLUTION

# %% check="clean_and_corrupted"
check("clean_and_corrupted")

# %%
names = draw_names(two, 64, torch.Generator().manual_seed(0))
mine = clean_and_corrupted(two, TEMPLATE, names)
same = all(torch.equal(a, b) for a, b in zip(mine, pairs, strict=True))
print(f"The same as the 64 pairs above: {same}")
print("position  half  clean         corrupted")
for position in varying:
    before, after = (plots.token_text(two.to_string(tokens[0, position])) for tokens in mine[:2])
    differs = "differs" if before != after else ""
    print(f"{position:>8}  {labels[position]:<4}  {before:<12}  {after:<12}  {differs}".rstrip())

# %% [markdown]
# ## A counterfactual is a question
#
# There are other ways to turn the answer from `B` to `D`. Each keeps something else fixed:
#
# | `change` | names | last token | answer |
# |---|---|---|---|
# | (clean) | `AB`, `CD` | `A` | `B` |
# | `"swap_first"` | `CB`, `AD` | `A` | `D` |
# | `"swap_second"` | `AD`, `CB` | `A` | `D` |
# | `"new_query"` | `AB`, `CD` | `C` | `D` |
#
# All three are good prompts. They do not ask the same question, and they will not find the same heads. Two kinds of
# head in layer 0 will differ. Here is what each head there looks at:

# %%
_, clean_cache = two.run_with_cache(clean)
looks_at = {"its own token": 0, "the token before": -1}
print("mean attention weight of the heads of layer 0")
for what, offset in looks_at.items():
    weight = clean_cache["pattern", 0].diagonal(offset, dim1=-2, dim2=-1)[..., 2:].mean((0, 2))
    print(f"to {what:<17}" + "  ".join(f"0.{head}: {w:.2f}" for head, w in enumerate(weight)))

# %% [markdown]
# ### Exercise · predict: what a counterfactual shows    ●●○   6 min
#
# Take the output of the previous-token head (`"previous"`: 0.4) or of the head that looks at its own token
# (`"own"`: 0.6) from the clean run and put it, at all positions, into the corrupted run. If it brings the model
# at least a tenth of the way back to the clean answer, the counterfactual *shows* the head. Which of the three
# changes show it? Commit first: return a list for each head. The check measures, on fresh names.
#
# <details><summary>Hint 1</summary>
# If a head writes the same in the clean and in the corrupted run, putting one into the other does nothing,
# however much the model needs the head.
# </details>
# <details><summary>Hint 2</summary>
# Stand on the second halves. Which token does the previous-token head read there, in the clean text and in each
# of the corrupted ones? And the head that reads its own token? Mind which token is where: position by position.
# </details>
# <details><summary>Hint 3</summary>
# <code>swap_second</code>: where <code>B</code> was there is <code>D</code> now, after the same <code>A</code>.
# <code>new_query</code>: the token that changes is the last one.
# </details>

# %% exercise="changes_that_show"
def changes_that_show(head: str) -> list[str]:
    """Which of "swap_first", "swap_second", "new_query" show the head "previous", or the head
    "own"."""
    ### BEGIN SOLUTION
    if head == "previous":  # what stands before the second halves changes in one case only
        return ["swap_first"]
    return ["swap_second", "new_query"]  # what stands there, at a second half or at the end
    ### END SOLUTION

# %% check="changes_that_show"
check("changes_that_show")

# %%
restored = {}
for change in ("swap_first", "swap_second", "new_query"):
    other = make_pairs(two, names, change)
    difference = LogitDiff(other.right, other.wrong)
    start, end = (difference(two(tokens)) for tokens in (other.corrupted, other.clean))
    restored[change] = (
        sweep(two, other.clean, other.corrupted, difference, "z") - start
    ) / (end - start)
plots.matrix(
    torch.stack([values.flatten() for values in restored.values()]),
    list(restored),
    head_names,
    "The same model, the same clean prompts, three counterfactuals",
    "head whose clean output is put into the corrupted run",
    "change",
    "0 corrupted, 1 clean",
).images[0].set(clim=(-1, 1));

# %% [markdown]
# **What to see here.** Heads 1.3 and 1.6 show in every row: they give the answer. In layer 0 the questions differ.
# Exchanging the first halves asks "how does the model know what stood before `B`?" and finds 0.4 (and a
# little 0.7, which looks back less sharply). The other two leave 0.4 in the dark: at the second halves it reads the
# same token before and after. They find 0.6 and 0.0, which look at their own token. With exchanged second halves that is
# another token at `B` and `D`, to be fetched as the answer; with a new last token it is another token to look for.
#
# So a cell at zero never says "not used". It says "writes nothing about *this* difference".

# %% [markdown]
# ## Taking a part away
#
# The oldest intervention: remove a part and see what breaks. But a later layer reads *some* number where the part
# wrote, so to remove is to replace. For an activation $x$ (with shape `[batch pos n_heads d_head]` if it belongs
# to heads) there are three usual substitutes:
#
# $$x \leftarrow 0 \qquad\quad x_{i,p} \leftarrow \frac{1}{N} \sum_{j=1}^{N} x^{\text{ref}}_{j,p} \qquad\quad
# x_i \leftarrow x^{\text{other}}_i$$
#
# *Zero*; the *mean* over $N$ reference prompts, position $p$ by position; *resampled*, what it is in another
# prompt ($i$ counts the prompts). In all of them the rest of the model runs on as usual and reads the substitute.
# A hook does the replacing:
#
# ```python
# def halve(z, hook):
#     return z / 2        # what a hook returns takes the activation's place
#
# logits = model.run_with_hooks(tokens, fwd_hooks=[(get_act_name("z", 0), halve)])
# ```
#
# A hook may also write into `z` itself and return nothing. In your answers change a copy (`z = z.clone()`) and
# return it: a cache holds the very tensors that the hooks saw, so what is written into one changes there, too.
#
# In the exercises, `name` is the full name of an activation, such as `"blocks.0.attn.hook_z"`, and `head` one
# head of it, or `None` for all of the activation. `head` is only given for `q`, `k`, `v` and `z`, where heads are
# the third dimension.

# %% [markdown]
# ### Exercise · zero ablation    ●○○   5 min
#
# Return the logits of a run in which the activation `name`, or only its head `head`, is zero.
#
# <details><summary>Hint 1</summary>
# Write the hook inside your function; then it sees <code>head</code>. It gets the activation and must return what
# takes its place.
# </details>
# <details><summary>Hint 2</summary>
# One head of <code>[batch pos n_heads d_head]</code> is <code>x[:, :, head]</code>. Head 0 is a head: ask
# <code>if head is None</code>, not <code>if head</code>.
# </details>

# %% exercise="zero_ablate"
def zero_ablate(
    model: Transformer, tokens: Int[Tensor, "batch pos"], name: str, head: int | None = None
) -> Float[Tensor, "batch pos d_vocab"]:
    """Logits with the activation `name` (or one head of it) replaced by zero at every position."""
    ### BEGIN SOLUTION
    which = slice(None) if head is None else head

    def ablate(x, hook):
        x = x.clone()
        x[:, :, which] = 0
        return x

    return model.run_with_hooks(tokens, fwd_hooks=[(name, ablate)])
    ### END SOLUTION

# %% check="zero_ablate"
check("zero_ablate")

# %% [markdown]
# ### Exercise · mean ablation    ●●○   6 min
#
# Replace the activation by its mean over the prompts of `reference`, which have as many tokens as `tokens` but
# may be more or fewer prompts. Each position gets its own mean.
#
# <details><summary>Hint 1</summary>
# Two runs: one over <code>reference</code> with a cache, one over <code>tokens</code> with a hook.
# </details>
# <details><summary>Hint 2</summary>
# <code>_, cache = model.run_with_cache(reference, names_filter=name)</code>, then
# <code>cache[name].mean(0)</code>: one dimension less, the batch. Written into a part of a copy,
# <code>x[:, :, head] = mean[:, head]</code>, it goes to every prompt by itself. A hook that returns it whole must
# give it the batch back: <code>mean.expand_as(x)</code>.
# </details>

# %% exercise="mean_ablate"
def mean_ablate(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    name: str,
    reference: Int[Tensor, "ref_batch pos"],
    head: int | None = None,
) -> Float[Tensor, "batch pos d_vocab"]:
    """Logits with `name` (or one head of it) replaced by its mean over the reference prompts."""
    ### BEGIN SOLUTION
    which = slice(None) if head is None else head
    _, cache = model.run_with_cache(reference, names_filter=name)
    mean = cache[name].mean(dim=0)

    def ablate(x, hook):
        x = x.clone()
        x[:, :, which] = mean[:, which]
        return x

    return model.run_with_hooks(tokens, fwd_hooks=[(name, ablate)])
    ### END SOLUTION

# %% check="mean_ablate"
check("mean_ablate")

# %% [markdown]
# ### Exercise · resample ablation    ●○○   4 min
#
# Replace the activation in prompt $i$ of `tokens` by what it is in prompt $i$ of `other`.
#
# <details><summary>Hint 1</summary>
# As in mean ablation, without the mean.
# </details>
# <details><summary>Hint 2</summary>
# The cache is of <code>other</code>, the hook is for the run over <code>tokens</code>.
# </details>

# %% exercise="resample_ablate"
def resample_ablate(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    name: str,
    other: Int[Tensor, "batch pos"],
    head: int | None = None,
) -> Float[Tensor, "batch pos d_vocab"]:
    """Logits with `name` (or one head of it) replaced by what it is in the other prompts."""
    ### BEGIN SOLUTION
    which = slice(None) if head is None else head
    _, cache = model.run_with_cache(other, names_filter=name)

    def ablate(x, hook):
        x = x.clone()
        x[:, :, which] = cache[name][:, :, which]
        return x

    return model.run_with_hooks(tokens, fwd_hooks=[(name, ablate)])
    ### END SOLUTION

# %% check="resample_ablate"
check("resample_ablate")

# %% [markdown]
# ### Exercise · predict: which ablation raises a false alarm?    ●●○   7 min
#
# Three kinds of head in layer 0. Later layers read what each of them writes:
#
# - `"constant"` writes nearly the same in every prompt, whatever the names (0.5 does);
# - `"shared"` writes what depends on the names, but not on which first half stands where: a prompt and its
#   corrupted twin get the same where it matters (0.6 does);
# - `"carrier"` writes what the corruption changes (0.4 does).
#
# Four ablations of clean prompts: `"zero"`, `"mean"` over other clean prompts, resampled from an `"other"` clean
# prompt (other names), resampled from the corrupted `"twin"`. Under which does the mean logit difference fall by
# more than 0.3 nats? Commit, for each kind of head. The check measures these three heads on fresh names.
#
# <details><summary>Hint 1</summary>
# Ask of every pair: does the substitute differ from what the head would have written?
# </details>
# <details><summary>Hint 2</summary>
# The mean of something constant is that constant. Zero is a constant, too, but another one.
# </details>
# <details><summary>Hint 3</summary>
# The twin has the same names' halves at the same places, but for the first ones. Which of the three heads can
# tell them apart?
# </details>

# %% exercise="alarms"
def alarms(kind: str) -> list[str]:
    """Which of "zero", "mean", "other", "twin" cost a head of this kind more than 0.3 nats."""
    ### BEGIN SOLUTION
    return {
        "constant": ["zero"],
        "shared": ["zero", "mean", "other"],
        "carrier": ["zero", "mean", "other", "twin"],
    }[kind]
    ### END SOLUTION

# %% check="alarms"
check("alarms")

# %%
elsewhere = draw_pairs(two, 64, torch.Generator().manual_seed(1)).clean
baseline = logit_diff(two(clean), right, wrong)
ablations = {
    "zero": lambda name, head: zero_ablate(two, clean, name, head),
    "mean of other prompts": lambda name, head: mean_ablate(two, clean, name, elsewhere, head),
    "from another prompt": lambda name, head: resample_ablate(two, clean, name, elsewhere, head),
    "from its corrupted twin": lambda name, head: resample_ablate(
        two, clean, name, corrupted, head
    ),
}
costs = {
    what: mean_and_error(
        torch.stack(
            [
                logit_diff(ablate(get_act_name("z", layer), head), right, wrong) - baseline
                for layer in range(n_layers)
                for head in range(n_heads)
            ],
            dim=1,
        )
    )
    for what, ablate in waiting(ablations.items(), "Taking every head away, in four ways")
}
shown = [i for i in range(len(head_names)) if min(mean[i] for mean, _ in costs.values()) < -0.3]
plots.grouped_bars(
    {what: (mean[shown], error[shown]) for what, (mean, error) in costs.items()},
    [head_names[i] for i in shown],
    f"What taking a head away costs (mean of {len(clean)} prompts, ± 2 standard errors)",
    "head (those that cost more than 0.3 nats in at least one way)",
    "change of the logit difference (nats)",
    ax=plots.axes(size=(10, 3.8)),
);

# %% [markdown]
# **What to see here.** Head 0.5: zero ablation says "important", the other three say nothing at all. Its output
# does not depend on the names. Later layers have learned to count on that constant, and zero is a stream they
# never met in training: it is *off distribution*. What breaks then breaks because of the zero, not for want of 0.5.
#
# Head 0.6 (and 0.0): three alarms, and the fourth is silent. It does matter, but not for telling clean from corrupted. No
# ablation is wrong; each compares with something else. Zero: with a stream that training never saw. The mean: with a prompt
# in general (and with a vector that perhaps no prompt has). Another prompt: with other names. The twin: with our question, and no
# other. That can cost the most: 0.4's twin does not only withhold `B`, it argues for `D`.

# %% [markdown]
# ## Who writes the answer
#
# With no LayerNorm, the last position's stream is a plain sum: embedding, and one vector per head. The logit
# difference is a product of that sum with one direction, $u_i = W_U[:, r_i] - W_U[:, w_i]$ `[d_model]`. So it
# splits into contributions, to rounding:
#
# $$\Delta_i = \underbrace{x^{\text{embed}}_{i,n-1} \cdot u_i}_{\text{embedding}}
# + \sum_{\text{layer } l,\ \text{head } h}
# \underbrace{z^{l,h}_{i,n-1}\, W_O^{l,h} \cdot u_i}_{\text{direct contribution}}
# \qquad z: [d_\text{head}], \quad W_O: [d_\text{head}\; d_\text{model}]$$
#
# This is *direct logit attribution*. It costs one run and no intervention, and says who *writes* the answer.
# (With a LayerNorm before the unembedding one has to hold its scale fixed; then it is still a sum.)

# %% [markdown]
# ### Exercise · direct logit attribution    ●●○   10 min
#
# `cache` holds every activation of one run, `[batch pos ...]`. Return the embedding's share `[batch]` and that of
# every head `[batch n_layers n_heads]`.
#
# <details><summary>Hint 1</summary>
# All directions at once: <code>model.W_U[:, right] - model.W_U[:, wrong]</code> is <code>[d_model batch]</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>cache["hook_embed"][:, -1]</code> is <code>[batch d_model]</code>. Head outputs: <code>cache["z",
# layer][:, -1]</code> is <code>[batch n_heads d_head]</code>, <code>model.W_O[layer]</code> is <code>[n_heads
# d_head d_model]</code>.
# </details>
# <details><summary>Hint 3</summary>
# <code>torch.einsum("bhe,hed,db->bh", z, W_O, direction)</code> for each layer; <code>torch.stack(...,
# dim=1)</code>.
# </details>

# %% exercise="direct_logit_attribution"
def direct_logit_attribution(
    cache: ActivationCache,
    model: Transformer,
    right: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch n_layers n_heads"]]:
    """Shares of the embedding and of every head in the logit difference at the last position, in
    nats."""
    ### BEGIN SOLUTION
    direction = model.W_U[:, right] - model.W_U[:, wrong]
    embedding = torch.einsum("bd,db->b", cache["hook_embed"][:, -1], direction)
    heads = [
        torch.einsum("bhe,hed,db->bh", cache["z", layer][:, -1], model.W_O[layer], direction)
        for layer in range(model.cfg.n_layers)
    ]
    return embedding, torch.stack(heads, dim=1)
    ### END SOLUTION

# %% check="direct_logit_attribution"
check("direct_logit_attribution")

# %%
_, corrupted_cache = two.run_with_cache(corrupted)
direct = {}
for name, cache in [("clean", clean_cache), ("corrupted", corrupted_cache)]:
    from_embedding, from_heads = direct_logit_attribution(cache, two, right, wrong)
    direct[name] = torch.cat(
        [torch.as_tensor(from_embedding)[:, None], from_heads.flatten(1)], dim=1
    )
plots.grouped_bars(
    {name: mean_and_error(shares) for name, shares in direct.items()},
    ["embed", *head_names],
    f"Direct contributions to the logit difference (mean of {len(clean)} prompts, ± 2 standard "
    "errors)",
    "part of the model",
    "nats",
    ax=plots.axes(size=(10, 3.4)),
)
gap = (direct["clean"].sum(1) - baseline).abs().max()
print(f"Largest difference between the sum of the shares and the logit difference: {gap:.1e} nats")

# %% [markdown]
# **What to see here.** Two heads write nearly all of it, 1.3 and 1.6: in the clean run towards `B`, in the
# corrupted run towards `D`. These are induction heads. Layer 0 writes nothing that favours either, in either run.
# Does that make it useless?

# %% [markdown]
# ## The answer after every layer
#
# The same idea for the whole vocabulary: unembed the stream before it is finished. With $x^l$ the stream entering
# layer $l$, and $x^L$ what leaves the last of $L$ layers (all `[batch pos d_model]`):
#
# $$\text{lens}^l = x^l\, W_U \qquad l = 0, \dots, L \qquad [L + 1\;\; \text{batch pos}\; d_\text{vocab}]$$
#
# This is the *logit lens* (nostalgebraist, 2020): "what would the model say if it stopped here?"

# %% [markdown]
# ### Exercise · the logit lens    ●○○   5 min
#
# Unembed the stream entering each layer, and the one leaving the last.
#
# <details><summary>Hint 1</summary>
# <code>cache["resid_pre", layer]</code> for each layer, then <code>cache["resid_post", last layer]</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>torch.stack(streams) @ model.W_U</code> does them all.
# </details>

# %% exercise="logit_lens"
def logit_lens(
    cache: ActivationCache, model: Transformer
) -> Float[Tensor, "n_layers+1 batch pos d_vocab"]:
    """Logits read off the stream before every layer and, last, after all of them."""
    ### BEGIN SOLUTION
    n_layers = model.cfg.n_layers
    streams = [cache["resid_pre", layer] for layer in range(n_layers)]
    return torch.stack([*streams, cache["resid_post", n_layers - 1]]) @ model.W_U
    ### END SOLUTION

# %% check="logit_lens"
check("logit_lens")

# %%
stages = ["embedding", *(f"after layer {layer}" for layer in range(n_layers))]
lens = {
    name: logit_lens(cache, two) for name,
    cache in [("clean", clean_cache), ("corrupted", corrupted_cache)]
}
ax_lens, ax_moved = plots.axes(2, size=(5.6, 3.4))
plots.grouped_bars(
    {
        name: tuple(
            zip(*(mean_and_error(logit_diff(stage, right, wrong)) for stage in logits), strict=True)
        )
        for name, logits in lens.items()
    },
    stages, "The lens on the last position", "where we stop", "logit difference (nats)", ax=ax_lens,
)
moved = torch.stack([(a - b).norm(dim=-1).mean(0) for a, b in (
    (
        clean_cache["resid_pre", layer], corrupted_cache["resid_pre", layer]
    ) for layer in range(n_layers)
)])
plots.matrix(
    moved, layer_names, labels, "Where the two runs differ",
    "position", "layer that begins", "distance of the streams", ax=ax_moved,
)
answer = plots.token_name(two, right[0].item())  # of the first prompt
print(
    f"The first clean prompt by the lens: rank of `{answer}` among {two.cfg.d_vocab} tokens, and "
    "the likeliest five"
)
for stage, logits in zip(stages, lens["clean"], strict=True):
    rank = int((logits[0, -1] > logits[0, -1, right[0]]).sum()) + 1
    best = logits[0, -1].topk(5).indices.tolist()
    print(f"{stage:>14}: {rank:>5}   " + "  ".join(plots.token_name(two, token) for token in best))

# %% [markdown]
# **What to see here.** Above: up to layer 0 the lens shows nothing, and the two runs look alike. Then everything
# comes at once. It is tempting to say "layer 1 does the work". But look below: when layer 1 begins, the two runs
# *do* differ, and not only where the tokens differ (`A` and `C`): also after them, at the second halves `B` and `D`
# most, then, fading, at the tokens that follow these. Layer 0 has written something there, for layer 1
# and not for the output.
#
# (The right half need not be the likeliest token of all. The name might as well end here, or go on with `s` or
# `_`. The logit difference only asks which of two halves is preferred. That makes it a clean question, and no
# measure of how good the model is.)
#
# The lens and direct attribution see what is written *for the output*. What is written for later layers is
# invisible to them. To see that, intervene.

# %% [markdown]
# ## Putting a part back
#
# *Activation patching*: run the model on the **corrupted** prompt, but replace one activation by its value from
# the **clean** run. If the clean answer comes back, that activation carries the difference. With
# $x^{\text{clean}}$ the activation in the clean run, at position $p$ of head $h$:
#
# $$\text{patched logits} = \text{model}\big(\text{corrupted};\; x_{p,h} \leftarrow x^{\text{clean}}_{p,h}\big)
# \qquad [\text{batch pos}\; d_\text{vocab}]$$
#
# You know the operation: it is resample ablation, with the roles of the prompts chosen so that success means
# something *returns*. What is new is the position.

# %% [markdown]
# ### Exercise · activation patching    ●●○   10 min
#
# `clean_cache` holds the activations of the clean run. Replace `name` at position `pos` (`None`: at every one),
# for head `head` (`None`: for every one). Activations are `[batch pos ...]`, and `head` is only given where heads
# are the third dimension.
#
# <details><summary>Hint 1</summary>
# A slice that takes everything is <code>slice(None)</code>, so <code>x[:, slice(None)]</code> is <code>x[:,
# :]</code>.
# </details>
# <details><summary>Hint 2</summary>
# Make <code>p</code> and <code>h</code> either the number or <code>slice(None)</code>; in the hook, <code>x[:, p,
# h] = clean_cache[name][:, p, h]</code> on a copy of x. Position 0 and head 0 are not <code>None</code>.
# </details>

# %% exercise="activation_patch"
def activation_patch(
    model: Transformer,
    corrupted: Int[Tensor, "batch pos"],
    clean_cache: dict[str, Tensor],
    name: str,
    pos: int | None = None,
    head: int | None = None,
) -> Float[Tensor, "batch pos d_vocab"]:
    """Logits of the corrupted run with `name` (at one position, of one head) taken from the clean
    run."""
    ### BEGIN SOLUTION
    p = slice(None) if pos is None else pos
    h = slice(None) if head is None else head

    def patch(x, hook):
        x = x.clone()
        x[:, p, h] = clean_cache[name][:, p, h]
        return x

    return model.run_with_hooks(corrupted, fwd_hooks=[(name, patch)])
    ### END SOLUTION

# %% check="activation_patch"
check("activation_patch")

# %%
B = varying[1]  # the position of the first name's second half
experiments = {
    "nothing": None,
    "the whole stream before layer 1": (get_act_name("resid_pre", 1), None, None),
    f"the stream before layer 1, on `B` (position {B})": (get_act_name("resid_pre", 1), B, None),
    "head 0.4, everywhere": (get_act_name("z", 0), None, 4),
    f"head 0.4, on `B` (position {B}) alone": (get_act_name("z", 0), B, 4),
    "head 0.6, everywhere": (get_act_name("z", 0), None, 6),
}
print("Clean into corrupted. Logit difference (nats) ± standard error")
for what, where in experiments.items():
    logits = two(corrupted) if where is None else activation_patch(
        two, corrupted, clean_cache, *where
    )
    mean, error = mean_and_error(logit_diff(logits, right, wrong))
    print(f"{what:<52} {mean:+.2f} ± {error:.2f}")
print(f"{'(the clean run itself)':<52} {baseline.mean():+.2f}")

# %% [markdown]
# **What to see here.** The whole stream before layer 1 brings everything back: nothing else enters layer 1. One
# position of it does more than half. And head 0.4, which direct attribution gave a zero, turns the answer round.
# Head 0.6, whose ablation cost so much, does nothing here.

# %% [markdown]
# ## Every part in turn
#
# Which position, which head? Try them all: one patched run per cell. To read the result at a glance, put it on a
# scale from the corrupted run to the clean one. With $\bar\Delta$ the logit difference averaged over the prompts:
#
# $$\text{restored} =
# \frac{\bar\Delta_\text{patched} - \bar\Delta_\text{corrupted}}{\bar\Delta_\text{clean} - \bar\Delta_\text{corrupted}}
# \qquad 0: \text{nothing}, \quad 1: \text{all of it}$$
#
# Average first, then divide: a single prompt in which clean and corrupted hardly differ would otherwise divide by
# almost nothing.

# %% [markdown]
# ### Exercise · sweep    ●●○   12 min
#
# `kind` is `"resid_pre"`: patch the stream entering layer $l$ at position $p$, result `[n_layers pos]`; or `"z"`:
# patch the output of head $h$ of layer $l$ at all positions, result `[n_layers n_heads]`.
#
# <details><summary>Hint 1</summary>
# Before the loops: the clean run with a cache, the clean and the corrupted mean logit difference.
# </details>
# <details><summary>Hint 2</summary>
# For every layer and every position (or head): a run over <code>corrupted</code> with one hook. A function inside
# yours saves writing it twice.
# </details>
# <details><summary>Hint 3</summary>
# A hook made in a loop must keep its own position: let it be made by a function that takes the position, or the
# last one wins. Put the means in <code>result[layer, cell]</code>, and scale at the end.
# </details>

# %% exercise="patch_sweep"
def patch_sweep(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    right: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
    kind: str,
) -> Float[Tensor, "n_layers cell"] | list[list[float]]:
    """How much of the clean mean logit difference each patch restores: 0 is corrupted, 1 is
    clean."""
    ### BEGIN SOLUTION
    prompt = torch.arange(len(clean))

    def score(logits):
        return (logits[prompt, -1, right] - logits[prompt, -1, wrong]).mean().item()

    def patched(layer, cell):
        name = get_act_name(kind, layer)

        def patch(x, hook):
            x = x.clone()
            where = (slice(None), cell) if kind == "resid_pre" else (slice(None), slice(None), cell)
            x[where] = cache[name][where]
            return x

        return score(model.run_with_hooks(corrupted, fwd_hooks=[(name, patch)]))

    logits, cache = model.run_with_cache(clean)
    at_clean, at_corrupted = score(logits), score(model(corrupted))
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    cells = range(clean.shape[1] if kind == "resid_pre" else n_heads)
    result = torch.tensor([[patched(layer, cell) for cell in cells] for layer in range(n_layers)])
    return (result - at_corrupted) / (at_clean - at_corrupted)
    ### END SOLUTION

# %% check="patch_sweep"
check("patch_sweep")

# %%
before = time.perf_counter()
by_position, by_head = (
    torch.as_tensor(
        patch_sweep(two, clean, corrupted, right, wrong, kind)
    ) for kind in waiting(("resid_pre", "z"), "Patching, one run a cell")
)
seconds = time.perf_counter() - before
show_maps(by_position, by_head, "Clean into corrupted")

# %% [markdown]
# **What to see here.** The whole story in a few cells. Above, row 0: at the start only the tokens that differ
# matter, `A` and `C`, the first halves. Row 1: one layer later the same information has moved one step to the
# right, to `B` and `D`. Below: head 0.4 moved it, and 1.3 and 1.6 used it. The last
# position stays empty in row 1: the difference comes there only by way of layer 1. In the last layer the cells of the heads that matter sum to
# about 1, because all that layer 1 does to the output is add.
#
# Your function ran the model once per cell. Much of that repeats: what comes before the patch is the same for all
# of them. `utils.patching.sweep` resumes behind the patch, computes only what the metric reads, and takes many
# patches at once. The numbers are the same:

# %%
before = time.perf_counter()
fast = [normalised(sweep(two, clean, corrupted, metric, kind)) for kind in ("resid_pre", "z")]
fast_seconds = time.perf_counter() - before
gap = max((a - b).abs().max().item() for a, b in zip(fast, (by_position, by_head), strict=True))
n_cells = by_position.numel() + by_head.numel()
print(f"Yours: {seconds:.1f} s for {n_cells} patches. utils.patching.sweep: {fast_seconds:.2f} s.")
print(f"Largest difference between the two: {gap:.1e}")

# %% [markdown]
# ### Pitfall: probabilities
#
# The same patches, measured by the probability of the right answer instead of by logits.

# %%
def probability(logits: Float[Tensor, "batch pos d_vocab"]) -> Float[Tensor, ""]:
    """The mean probability of the right token at the last position."""
    return logits[:, -1].softmax(-1).gather(1, right[:, None]).mean()


p_clean, p_corrupted = probability(two(clean)), probability(two(corrupted))
in_probability = [
    (sweep(two, clean, corrupted, probability, kind) - p_corrupted) / (p_clean - p_corrupted)
    for kind in ("resid_pre", "z")
]
show_maps(*in_probability, "In probability")
last = two.cfg.n_layers - 1
for what, values in [("logit difference", by_head), ("probability", in_probability[1])]:
    print(
        f"The heads of layer {last} restore, one by one and added up, {values[last].sum():.2f} of "
        f"the {what}"
    )

# %% [markdown]
# **What to see here.** Paler everywhere; the cells for `C` and `D` have gone, and head 0.7 with them. Two heads
# that each bring half of the logits bring far less than half of the probability each: softmax is exponential, and
# half-way up in logits is still near the bottom in probability. Logits add where parts add. And half of our
# effect is that `D` becomes *less* likely, which the probability of `B` alone does not hear. Measure in logits
# (or log-probabilities), as a difference.

# %% [markdown]
# ### Exercise · find the head that the lens overlooks    ●●○   8 min
#
# Make it a procedure that works for any question. Call a head *overlooked* if its direct contribution changes, from the clean
# to the corrupted run, by less than a twentieth of clean minus corrupted (both as means over the prompts, up or down). Among
# these, return the `(layer, head)` that restores most when its output alone is patched, at all positions. The check asks
# three kinds of question, on fresh names, gives the heads of the model other numbers each time, and lets some of them write a
# little more or less than in the shipped model.
#
# <details><summary>Hint 1</summary>
# You have both measurements: <code>direct_logit_attribution</code> on two caches, and <code>patch_sweep(..., "z")</code> (or
# <code>sweep</code> of <code>utils.patching</code>, with a <code>LogitDiff</code>). You may use your functions, or copy their lines.
# </details>
# <details><summary>Hint 2</summary>
# The direct contributions' change is <code>[batch n_layers n_heads]</code>: average over the prompts, divide by the mean clean
# minus corrupted, take absolute values.
# </details>
# <details><summary>Hint 3</summary>
# Give the others a restored share of <code>-inf</code>; then <code>divmod(restored.argmax().item(), n_heads)</code>.
# </details>

# %% exercise="overlooked_head"
def overlooked_head(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    right: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
) -> tuple[int, int]:
    """(layer, head) of the head that restores most, among those that write next to nothing of the
    answer."""
    ### BEGIN SOLUTION
    metric = LogitDiff(right, wrong)
    span = metric(model(clean)) - metric(model(corrupted))
    direction = (model.W_U[:, right] - model.W_U[:, wrong]).T  # [batch d_model]
    changes = []
    (_, here), (_, there) = (model.run_with_cache(tokens) for tokens in (clean, corrupted))
    for layer in range(model.cfg.n_layers):
        z = (here["z", layer] - there["z", layer])[:, -1]
        changes.append(torch.einsum("bhe,hed,bd->bh", z, model.W_O[layer], direction).mean(0))
    written = torch.stack(changes) / span
    restored = sweep(model, clean, corrupted, metric, "z")  # the most is the most, scaled or not
    restored[written.abs() >= 0.05] = -torch.inf
    layer, head = divmod(int(restored.argmax()), model.cfg.n_heads)
    return layer, head
    ### END SOLUTION

# %% check="overlooked_head"
check("overlooked_head")

# %%
for change in ("swap_first", "swap_second", "new_query"):
    layer, head = overlooked_head(two, *make_pairs(two, names, change))
    print(
        f"{change:<12} overlooked: {int(layer)}.{int(head)}, restores "
        f"{float(restored[change][int(layer), int(head)]):.2f}"
    )

corrupted_diff = logit_diff(two(corrupted), right, wrong)
span = (baseline - corrupted_diff).mean()
writes = (direct["clean"] - direct["corrupted"])[:, 1:] / span
named = [i for i in range(len(head_names)) if by_head.flatten()[i].abs() > 0.05]
causes = [
    activation_patch(
        two, corrupted, clean_cache, get_act_name("z", i // n_heads), None, i % n_heads
    ) for i in named
]
plots.grouped_bars(
    {
        "writes to the output itself": mean_and_error(writes[:, named]),
        "causes when patched": mean_and_error(
            torch.stack(
                [logit_diff(logits, right, wrong) - corrupted_diff for logits in causes], dim=1
            ) / span
        ),
    },
    [head_names[i] for i in named],
    f"What a head writes, and what it causes (mean of {len(clean)} prompts, ± 2 standard errors)",
    "head (those that restore more than 0.05)",
    "share of clean minus corrupted",
    ax=plots.axes(size=(8.5, 3.4)),
);

# %% [markdown]
# **What to see here.** In layer 1 the two bars are equal: nothing comes after, so what a head writes is what it
# causes. 0.4 and 0.7 write nothing for the output and cause all they cause through others. Through which, and
# through which of their inputs, is the second half of this chapter. Another question has another overlooked head: when the
# second halves or the last token change, it is 0.6, which chapter 3 found on a second path.

# %% [markdown]
# ## Enough, or needed?
#
# There are two ways to patch, and they answer different questions:
#
# - *denoising*: a **clean** activation into the **corrupted** run. If the answer returns, the part is **enough**
#   (given the rest as it is).
# - *noising*: a **corrupted** activation into the **clean** run. If the answer goes, the part is **needed**.
#
# For one part on its own these are the same. Parts have company, though. Three tiny models, made by hand: heads
# $a$ and $b$ each read the one token and write 1 if it is "on" and 0 if it is "off". An MLP makes the logit of
# "yes" from both; that of "no" is 0:
#
# | `circuit` | logit of "yes" |
# |---|---|
# | `"or"` | $\text{relu}(a + b) - \text{relu}(a + b - 1)$ |
# | `"and"` | $\text{relu}(a + b - 1)$ |
# | `"sum"` | $(a + b) / 2$ |
#
# Clean: "on", so $a = b = 1$ and the logit difference is 1. Corrupted: "off", $a = b = 0$, it is 0.

# %% [markdown]
# ### Exercise · predict: which way of patching finds a head?    ●●○   6 min
#
# Patch head $a$ **alone**. For each circuit, which of `"denoise"` and `"noise"` change the logit difference? The
# check runs the three models.
#
# <details><summary>Hint 1</summary>
# Denoising: a = 1 from the clean run, b = 0 as in the corrupted one. Put them into the formula, and compare with
# a = b = 0.
# </details>
# <details><summary>Hint 2</summary>
# Noising: a = 0, b = 1. Compare with a = b = 1.
# </details>

# %% exercise="ways_that_find"
def ways_that_find(circuit: str) -> list[str]:
    """Which of "denoise", "noise" change the outcome when one head of "or", "and", "sum" is
    patched."""
    ### BEGIN SOLUTION
    return {"or": ["denoise"], "and": ["noise"], "sum": ["denoise", "noise"]}[circuit]
    ### END SOLUTION

# %% check="ways_that_find"
check("ways_that_find")

# %%
off, on = torch.tensor([[0]]), torch.tensor([[1]])
yes, no = torch.tensor([1]), torch.tensor([0])
z = get_act_name("z", 0)
print("Change of the logit difference when head a is patched")
for circuit in ("or", "and", "sum"):
    gate = gate_model(circuit).requires_grad_(False)
    changes = []
    for run, source in [(off, on), (on, off)]:
        _, cache = gate.run_with_cache(source)
        patched, unpatched = activation_patch(gate, run, cache, z, None, 0), gate(run)
        changes.append(float(logit_diff(patched, yes, no) - logit_diff(unpatched, yes, no)))
    print(f"{circuit:>4}:  denoise {changes[0]:+.1f}   noise {changes[1]:+.1f}")

# %% [markdown]
# Which kind of company do the heads of our model keep? Do both to the heads that matter, alone and together.

# %%
def patch_heads(run: Tensor, cache: dict[str, Tensor], heads: list[str]) -> Float[Tensor, "batch"]:
    """Logit differences of a run with the outputs of several heads taken from a cache."""

    def take(layer: int, head: int):
        def patch(z, hook):  # writes into z itself: no cache is kept of this run
            z[:, :, head] = cache["z", layer][:, :, head]

        return get_act_name("z", layer), patch

    places = [take(*map(int, head.split("."))) for head in heads]
    return logit_diff(two.run_with_hooks(run, fwd_hooks=places), right, wrong)


groups = [["0.4"], ["0.7"], ["0.4", "0.7"], ["1.3"], ["1.6"], ["1.3", "1.6"]]
returns = torch.stack(
    [(patch_heads(corrupted, clean_cache, g) - corrupted_diff) / span for g in groups], dim=1
)
goes = torch.stack(
    [(baseline - patch_heads(clean, corrupted_cache, g)) / span for g in groups], dim=1
)
plots.grouped_bars(
    {
        "denoising: share that returns": mean_and_error(returns),
        "noising: share that goes": mean_and_error(goes),
    },
    [" + ".join(g) for g in groups],
    f"Enough, and needed (mean of {len(clean)} prompts, ± 2 standard errors)",
    "heads that are patched",
    "share of clean minus corrupted",
    levels={"all of it": 1.0},
    ax=plots.axes(size=(8, 3.6)),
)
print("denoising minus noising, prompt by prompt: mean ± 2 standard errors")
for group, mean, error in zip(groups, *mean_and_error(returns - goes), strict=True):
    print(f"{' + '.join(group):<10} {mean:+.3f} ± {2 * error:.3f}")

# %% [markdown]
# **What to see here.** Denoising and noising nearly agree: within a layer the heads *add up*, as in `"sum"`. (Nearly: for 0.4
# and 0.7, taken alone, denoising says a little more, and prompt by prompt that is no chance. They meet in a softmax.) 0.4
# with 0.7 is all that layer 0 does for this question, and 1.3 with 1.6 nearly all that layer 1 does.
#
# How do the two pairs go together? Denoised, either pair alone brings nearly everything back, so they are no two
# halves of a sum. That could be an OR, in which each is enough. Then noising one pair would cost nothing, as the other is
# still there. But noising either takes nearly everything away. Enough *and* needed, both of them: that leaves a chain, one pair
# *after* the other.
#
# Larger models have ORs. In GPT-2 small some heads stand by: take away the head that names the answer, and they
# take over (*backup name movers*, Wang et al., section 3.4). Does ours do that? If so, the direct contribution of
# other heads must *rise* when one is taken away:

# %%
print(
    "Direct contribution to the clean answer (nats), and its change when a head of layer 0 is "
    "mean-ablated"
)
print("           " + "".join(f"{name:>8}" for name in head_names[n_heads:]))
print("as it is   " + "".join(f"{share:>8.2f}" for share in direct["clean"].mean(0)[1 + n_heads :]))
reference = two.run_with_cache(elsewhere, names_filter=z)[1][z].mean(0)
for head in (0, 4, 6, 7):

    def ablate(x: Tensor, hook, head: int = head) -> None:
        x[:, :, head] = reference[:, head]

    with two.hooks([(z, ablate)]):  # these hooks act in every run inside the `with`
        _, cache = two.run_with_cache(clean)
    shares = direct_logit_attribution(cache, two, right, wrong)[1]
    changes = shares.mean(0)[1] - direct["clean"].mean(0)[1 + n_heads :]
    print(f"without 0.{head}" + "".join(f"{c:>+8.2f}" for c in changes))

# %% [markdown]
# **What to see here.** Nothing rises that could make up for the loss: nobody stands by. (Heads of one layer cannot
# replace each other in any case: they run side by side.)
#
# Five ways to be wrong so far, all of them measured: zero that is off distribution; a counterfactual that hides
# the head; a lens that sees only what is meant for the output; a probability that flattens halves; and one
# direction of patching where the circuit would need the other.

# %% [markdown]
# ## From a head to a connection
#
# Head 0.4 carries the answer, 1.3 and 1.6 give it. Are they *connected*? A head reads the stream three times.
# With $x$ the stream entering its layer and $W_\text{pos}$ `[pos d_model]` the positions (which our queries and keys
# read, and values do not):
#
# $$q = (x + W_\text{pos})\, W_Q \qquad k = (x + W_\text{pos})\, W_K \qquad v = x\, W_V \qquad [\text{batch pos}\; d_\text{head}]$$
#
# *What do I look for? Where is it found? What do I fetch there?* Each of the three is an activation with a hook of
# its own. So patch one and leave the other two corrupted. In chapter 3 you read off the weights through which of
# them two heads *could* talk. This measures through which of them they *do*, in these texts.

# %% [markdown]
# ### Exercise · predict: which input lights up?    ●●○   5 min
#
# Patch `q`, `k` or `v` of single heads in **layer 1**, clean into corrupted. For each of the three changes of
# `make_pairs` (`"swap_first"`, `"swap_second"`, `"new_query"`) one of the three inputs matters: in a single head it
# brings back a part of the clean answer, in all heads together all of it. The other two do next to nothing. Which
# one? Commit first. The check patches all heads together, on fresh names.
#
# <details><summary>Hint 1</summary>
# Think through what an induction head does at the last position: it looks for a place that comes after an
# <code>A</code>, finds it by what layer 0 has written there, and copies the token that stands there.
# </details>
# <details><summary>Hint 2</summary>
# <code>swap_second</code>: <code>A</code> is where it was, and so is the place after it. But another token stands there.
# </details>
# <details><summary>Hint 3</summary>
# <code>swap_first</code>: both second halves stand where they stood. What has changed is what is written beside
# them about the token before. That is how a place is <i>found</i>.
# </details>

# %% exercise="input_that_lights_up"
def input_that_lights_up(change: str) -> str:
    """Which of "q", "k", "v" of layer 1's heads carries the difference that this change makes."""
    ### BEGIN SOLUTION
    return {"swap_first": "k", "swap_second": "v", "new_query": "q"}[change]
    ### END SOLUTION

# %% check="input_that_lights_up"
check("input_that_lights_up")

# %% [markdown]
# ### Exercise · patch q, k or v    ●●○   8 min
#
# For every head of `layer`: patch its queries alone (row 0), its keys alone (row 1), its values alone (row 2), at
# all positions, from the clean into the corrupted run. Put the mean logit difference on the scale of
# `patch_sweep`: 0 is corrupted, 1 is clean.
#
# <details><summary>Hint 1</summary>
# It is <code>patch_sweep</code> with other names: <code>get_act_name("q", layer)</code> and so on. Queries, keys
# and values are all <code>[batch pos n_heads d_head]</code>.
# </details>
# <details><summary>Hint 2</summary>
# Two loops, <code>for row, kind in enumerate("qkv")</code> and over the heads. In each, a hook that puts
# <code>cache[name][:, :, head]</code> into <code>x[:, :, head]</code>, and a run over <code>corrupted</code>.
# </details>

# %% exercise="patch_qkv"
def patch_qkv(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    right: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
    layer: int,
) -> Float[Tensor, "3 n_heads"] | list[list[float]]:
    """How much of the clean mean logit difference one head's q, k or v restores: 0 corrupted, 1
    clean."""
    ### BEGIN SOLUTION
    prompt = torch.arange(len(clean))

    def score(logits):
        return (logits[prompt, -1, right] - logits[prompt, -1, wrong]).mean().item()

    def patched(kind, head):
        name = get_act_name(kind, layer)

        def patch(x, hook):
            x = x.clone()
            x[:, :, head] = cache[name][:, :, head]
            return x

        return score(model.run_with_hooks(corrupted, fwd_hooks=[(name, patch)]))

    logits, cache = model.run_with_cache(clean)
    at_clean, at_corrupted = score(logits), score(model(corrupted))
    result = torch.tensor(
        [[patched(kind, head) for head in range(model.cfg.n_heads)] for kind in "qkv"]
    )
    return (result - at_corrupted) / (at_clean - at_corrupted)
    ### END SOLUTION

# %% check="patch_qkv"
check("patch_qkv")

# %%
last = n_layers - 1
by_input = {
    change: torch.as_tensor(patch_qkv(two, *make_pairs(two, names, change), last))
    for change in waiting(("swap_first", "swap_second", "new_query"), "Patching q, k and v")
}
panels = plots.axes(3, size=(4.6, 2.4))
for ax, (change, values) in zip(panels, by_input.items(), strict=True):
    plots.matrix(
        values, list("qkv"), head_names[n_heads:], change, "head", "input that is patched",
        "0 corrupted, 1 clean", ax=ax
    )
    ax.images[0].set(cmap=plots.DIVERGING, clim=(-1, 1))

# %% [markdown]
# **What to see here.** The same two heads three times, and each time by another input. Exchange the first halves,
# and what has changed is *where the key is found*: `k`. Exchange the second halves: the place is the same, its
# contents differ: `v`. Change the last token: `q`.
#
# Now the argument of this chapter. With `swap_first`, head 0.4 carries the difference, and 1.3 and 1.6 receive it
# through their keys and through nothing else. That is K-composition, shown by intervention. One link is missing:
# that what their keys receive is what *0.4* wrote. We come to it under "One edge".

# %% [markdown]
# ## All patches from one gradient
#
# A map of all patches costs a run per cell. For a small change a gradient says the same for all cells at once.
# With $\bar\Delta$ the mean logit difference of the corrupted run as a function of one of its activations $x$:
#
# $$\bar\Delta(x^{\text{clean}}) - \bar\Delta(x) \;\approx\; \big(x^{\text{clean}} - x\big) \cdot \frac{\partial \bar\Delta}{\partial x}
# \qquad x,\, x^{\text{clean}},\, \tfrac{\partial \bar\Delta}{\partial x}: [\text{batch pos} \dots]$$
#
# where $x^{\text{clean}}$ is the clean activation. This is *attribution patching* (Nanda, 2023): one run over the clean
# prompts, one over the corrupted ones, one backward pass. The product is taken element by element. Sum it over
# what is patched together: the dimensions of a vector, and the prompts (each prompt's own share is in the
# gradient of a mean already).

# %% [markdown]
# ### Exercise · attribution patching    ●●○   15 min
#
# Estimate the effect, in nats, of patching clean into corrupted: for every layer's `resid_pre` at each position,
# `[pos]`; and for `q`, `k`, `v`, `z` of each head at each position, `[pos n_heads]`. Return a dictionary with the
# full names as keys. Do not normalise. (`run_with_cache` detaches what it keeps; a hook sees the tensor itself, with
# its gradient. Detach what you return, or it keeps the whole run in memory.)
#
# <details><summary>Hint 1</summary>
# In the corrupted run, a hook for all names that keeps the tensor, <code>seen[hook.name] =
# x.requires_grad_()</code>, and returns nothing. (<code>requires_grad_</code> is needed if the model's weights
# are frozen.)
# </details>
# <details><summary>Hint 2</summary>
# <code>torch.autograd.grad(mean_difference, list(seen.values()))</code> returns a gradient for each of them.
# </details>
# <details><summary>Hint 3</summary>
# <code>((clean_cache[name] - x) * gradient).sum((0, -1))</code>: over the prompts and the last dimension. What is
# left is <code>[pos]</code> or <code>[pos n_heads]</code>. Detach it.
# </details>

# %% exercise="attribution_patch"
def attribution_patch(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    right: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
) -> dict[str, Tensor]:
    """First-order estimates of every patch's effect on the mean logit difference, in nats, by
    name."""
    ### BEGIN SOLUTION
    kinds = ("resid_pre", "q", "k", "v", "z")
    names = [get_act_name(kind, layer) for layer in range(model.cfg.n_layers) for kind in kinds]
    _, source = model.run_with_cache(clean, names_filter=names)
    seen = {}

    def keep(x, hook):
        seen[hook.name] = x.requires_grad_()

    logits = model.run_with_hooks(corrupted, fwd_hooks=[(name, keep) for name in names])
    prompt = torch.arange(len(logits))
    difference = (logits[prompt, -1, right] - logits[prompt, -1, wrong]).mean()
    gradients = torch.autograd.grad(difference, list(seen.values()))
    return {
        name: ((source[name] - x.detach()) * gradient).sum((0, -1))
        for (name, x), gradient in zip(seen.items(), gradients, strict=True)
    }
    ### END SOLUTION

# %% check="attribution_patch"
check("attribution_patch")

# %%
before = time.perf_counter()
estimates = attribution_patch(two, clean, corrupted, right, wrong)
seconds = time.perf_counter() - before
before = time.perf_counter()
kinds = ("resid_pre", "q", "k", "v", "z")
exact = {
    kind: sweep(two, clean, corrupted, metric, kind, by_pos=True) - at_corrupted
    for kind in waiting(kinds, "Patching exactly, to compare")
}
exact_seconds = time.perf_counter() - before
estimated = {
    kind: torch.stack(
        [
            torch.as_tensor(estimates[get_act_name(kind, layer)]).detach()
            for layer in range(n_layers)
        ]
    )
    for kind in kinds
}
correlations = {}
for kind, ax in zip(kinds, plots.axes(len(kinds), size=(3.1, 3.1)), strict=True):
    x, y = exact[kind], estimated[kind]
    correlations[kind] = torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1].item()
    title = f"{kind}: correlation {correlations[kind]:.2f}"
    for layer in range(n_layers):
        color = plots.COLORS[layer]
        ax.scatter(
            x[layer].flatten(), y[layer].flatten(), s=22, alpha=0.7, lw=0, color=color,
            label=f"layer {layer}"
        )
    ax.axline((0, 0), slope=1, color=plots.INK, lw=1, ls="--")
    ax.set(title=title, xlabel="exact (nats)", ylabel="estimate (nats)", xlim=(-1, 7), ylim=(-1, 7))
    plots.legend(ax)
n_cells = sum(values.numel() for values in exact.values())
print(
    f"{n_cells:,} patches: estimated in {seconds:.2f} s, exact (utils.patching.sweep) in "
    f"{exact_seconds:.2f} s"
)
print("correlation by layer:")
for kind in ("resid_pre", "k", "v", "z"):
    for layer in range(n_layers):
        both = torch.stack([exact[kind][layer].flatten(), estimated[kind][layer].flatten()])
        print(f"  {kind} of layer {layer}: {torch.corrcoef(both)[0, 1]:.3f}")

# %% [markdown]
# **What to see here.** Each point is a patch; on the dashed line the estimate is right. `z` of layer 1 lies on it
# exactly: after it all is a sum, and a gradient is exact for a sum. Most other points are near zero in both. But of
# the large effects before layer 1's attention, some are estimated far too low, and some too high. And beware of
# `q`: its correlation is the best of all, over points that are all near zero. Look before you believe a number.

# %% [markdown]
# ### Exercise · find where attribution fails    ●●○   6 min
#
# Take the residual stream, `resid_pre`, and look only at patches that truly matter: exact effect at least a tenth
# of clean minus corrupted. For which of them is the estimate less than half of the exact effect? Return them as
# `(layer, position)`. The check measures fresh prompts (which have the same form).
#
# <details><summary>Hint 1</summary>
# Print <code>exact["resid_pre"]</code> and <code>estimated["resid_pre"]</code> side by side, for the positions
# where the first is large. There are only two in each layer.
# </details>
# <details><summary>Hint 2</summary>
# Where <code>exact["resid_pre"] > 0.1 * (at_clean - at_corrupted)</code> and <code>estimated["resid_pre"] < 0.5 *
# exact["resid_pre"]</code>: combine the two with <code>&amp;</code>, and ask for <code>nonzero()</code>.
# </details>

# %% exercise="where_attribution_fails"
def where_attribution_fails() -> list[tuple[int, int]]:
    """(layer, position) of the stream's patches that matter and are estimated at less than half
    their size."""
    ### BEGIN SOLUTION
    return [(0, 12), (1, 13)]
    ### END SOLUTION

# %% check="where_attribution_fails"
check("where_attribution_fails")

# %%
print("layer  position            exact   estimate   (nats)   estimate over exact")
for layer in range(n_layers):
    for position in varying[:-1]:
        x, y = (values["resid_pre"][layer, position].item() for values in (exact, estimated))
        if x > 0.1 * (at_clean - at_corrupted):
            print(
                f"{layer:>5}  {position:>8}  {labels[position]:<8} {x:>6.2f}   {y:>8.2f} "
                f"{y / x:>28.0%}"
            )

# %% [markdown]
# **What to see here.** The same message fails twice: at `A`, where it starts, and at `B`, where 0.4 has put it. There the
# estimate is a fraction of the truth. At `C` and `D` it errs, too, the other way: too high, by the share in the last column. So it
# is not "early" against "late".

# %% [markdown]
# ## Why a gradient misses it
#
# Both messages end in the keys of 1.3 and 1.6, inside a *softmax*. Let $p$ be the attention weight on a place.
# Its score exceeds what all other places bring together (the log of their sum of exponentials) by the *margin* $m$:
#
# $$p = \frac{1}{1 + e^{-m}}, \qquad m = \log \frac{p}{1 - p}, \qquad \frac{\partial p}{\partial m} = p\,(1 - p)$$
#
# A patched key moves $m$; the others stay. Near $p = 0$ the slope is nearly zero: the gradient says "nothing you
# do here matters". It is true for a small step and false for a large one. The softmax is *saturated*.

# %% [markdown]
# ### Exercise · how wrong, and which way?    ●●○   7 min
#
# A patched key changes the weight on its place from `before` to `after`. The gradient, taken at `before`,
# predicts another change. Return the predicted change divided by the true one.
#
# <details><summary>Hint 1</summary>
# True change: <code>after - before</code>. Predicted: the slope at <code>before</code>, times the change of the
# margin.
# </details>
# <details><summary>Hint 2</summary>
# The margin changes by <code>log(after / (1 - after)) - log(before / (1 - before))</code>; the slope is
# <code>before * (1 - before)</code>.
# </details>

# %% exercise="estimate_over_exact"
def estimate_over_exact(before: float, after: float) -> float:
    """First-order estimate of a change of attention weight from one key, divided by the true
    change."""
    ### BEGIN SOLUTION
    margins = [math.log(p / (1 - p)) for p in (before, after)]
    return before * (1 - before) * (margins[1] - margins[0]) / (after - before)
    ### END SOLUTION

# %% check="estimate_over_exact"
check("estimate_over_exact")

# %%
# Per prompt: patch the key of 1.3 or 1.6 at B alone, or at D alone. What the formula says, from
# weights; what is.
def one_key(head: int, position: int) -> tuple[Tensor, Tensor, Tensor]:
    """The weight on a position before and after its key is patched, and the estimate over the
    exact effect."""
    name, pattern, seen = get_act_name("k", last), get_act_name("pattern", last), {}

    def keep(x: Tensor, hook) -> None:
        seen["k"] = x.requires_grad_()

    start = logit_diff(two.run_with_hooks(corrupted, fwd_hooks=[(name, keep)]), right, wrong)
    gradient = torch.autograd.grad(start.sum(), seen["k"])[0]
    change = clean_cache[name] - corrupted_cache[name]
    estimate = (change * gradient)[:, position, head].sum(-1)

    def patch(x: Tensor, hook) -> None:
        x[:, position, head] = clean_cache[name][:, position, head]

    with two.hooks([(name, patch)]):
        logits, cache = two.run_with_cache(corrupted, names_filter=pattern)
    effect = logit_diff(logits, right, wrong) - start.detach()
    weights = (c[pattern][:, head, -1, position] for c in (corrupted_cache, cache))
    return *weights, estimate / effect


ax_curve, ax_measured = plots.axes(2, size=(5.4, 3.8))
grid = [0.001, 0.003, *(i / 100 for i in range(1, 100))]
for i, start in enumerate((0.01, 0.1, 0.5)):
    curve = [float(estimate_over_exact(start, p)) for p in grid if abs(p - start) > 1e-6]
    ax_curve.plot(
        [p for p in grid if abs(p - start) > 1e-6], curve, lw=1.8, label=f"before: {start}",
        color=plots.COLORS[i]
    )
ax_curve.axhline(1, color=plots.INK, lw=1, ls="--")
ax_curve.set(
    title="Estimate over exact, by the formula", xlabel="attention weight after the patch",
    ylabel="ratio", ylim=(0, 3)
)
plots.legend(ax_curve)
for i, (head, position) in enumerate(
    [(3, varying[1]), (6, varying[1]), (3, varying[3]), (6, varying[3])]
):
    p_before, p_after, ratio = one_key(head, position)
    by_formula = [
        float(estimate_over_exact(float(a), float(b))) for a,
        b in zip(p_before, p_after, strict=True)
    ]
    ax_measured.scatter(
        by_formula, ratio, s=14, alpha=0.6, lw=0, color=plots.COLORS[
            i
        ], label=f"1.{head}, key at {labels[position]}"
    )
    print(
        f"1.{head}, key at {labels[position]}: weight {p_before.mean():.2f} before, "
        f"{p_after.mean():.2f} after (means); "
        f"estimate too high in {(ratio > 1).float().mean():.0%} of the prompts, largest ratio "
        f"{ratio.max():.2f}"
    )
ax_measured.axline((0, 0), slope=1, color=plots.INK, lw=1, ls="--")
ax_measured.set(
    title="In the model, prompt by prompt", xlabel="ratio by the formula", ylabel="ratio measured",
    xscale="log", yscale="log"
)
plots.legend(ax_measured)

# %% [markdown]
# **What to see here.** Below: one formula with two attention weights explains the error of every prompt. At `B`
# the weight is mostly near zero before the patch and large after it. The gradient stands on the flat foot of the
# curve and sees a fraction. At `D` the weight falls. Where it falls from the middle of the curve the slope is steep
# and the estimate too high, in some prompts several times; where it falls from near 1 the curve is flat again, and
# the estimate too low. 1.3 starts higher than 1.6, so it has more of the latter.
#
# So: trust attribution for what enters the output through sums (`z`, `v` near the end), and as a *list of
# suspects* elsewhere. What it ranks high is worth an exact patch. What it ranks low may be a saturated softmax.

# %% [markdown]
# ## The softmax, done exactly
#
# The one thing that a gradient gets wrong here is the softmax, and a softmax costs next to nothing. So do it exactly, and take
# the gradient only *behind* it. Let $P$ be a head's pattern `[batch dest src]` in the corrupted run, and $P^{(s)}$ what it becomes
# when the key at place $s$ is the clean one: column $s$ of the scores changes, the others stay.
#
# $$\text{scores}^{(s)}_{ij} = \text{scores}_{ij} + [j = s]\;\frac{q_i \cdot (k^{\text{clean}}_s - k_s)}{\sqrt{d_\text{head}}}
# \qquad \text{effect}(k_s) \approx \sum_{\text{batch},\, i,\, j} \big(P^{(s)}_{ij} - P_{ij}\big)\; \frac{\partial \bar\Delta}{\partial P_{ij}}$$
#
# This is the *QK fix* of AtP\* (Kramár, Lieberum, Shah and Nanda, 2024), here for keys; for queries it is one softmax per
# destination. (AtP\* has a second part, for effects that cancel. Another repair averages the gradient over several
# points between corrupted and clean: Hanna, Pezzelle and Belinkov, *Have Faith in Faithfulness*, 2024.)

# %% [markdown]
# ### Exercise · repair the keys    ●●●   15 min
#
# Return the repaired estimates, in nats, for the keys of every layer: a dictionary by full name, each `[pos n_heads]`, as
# `attribution_patch` has them. Two forward passes and one backward pass are enough.
#
# <details><summary>Hint 1</summary>
# A hook that keeps <code>q</code>, <code>k</code>, <code>attn_scores</code> and <code>pattern</code> of the corrupted run, as in
# <code>attribution_patch</code>, and the gradient of the mean logit difference with respect to each layer's
# <code>pattern</code>, <code>[batch n_heads dest src]</code>. Of the clean run you need the keys only.
# </details>
# <details><summary>Hint 2</summary>
# What the patch adds to the scores, for all places at once: <code>torch.einsum("bdhe,bshe->bhds", q, k_clean - k) /
# d_head**0.5</code>. For place s, add its column <code>[..., s]</code> to a copy of the scores, and softmax again. (Masked scores
# are <code>-inf</code>, and stay so.)
# </details>
# <details><summary>Hint 3</summary>
# <code>((new.softmax(-1) - pattern) * gradient).sum((0, 2, 3))</code> is the row of place s, <code>[n_heads]</code>: the gradient
# of a mean has the division by the batch already.
# </details>

# %% exercise="k_fix"
def k_fix(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    right: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
) -> dict[str, Tensor]:
    """Estimates of every key patch's effect on the mean logit difference (nats), the softmax
    exact."""
    ### BEGIN SOLUTION
    layers = range(model.cfg.n_layers)
    names = [
        get_act_name(kind, layer)
        for layer in layers
        for kind in ("q", "k", "attn_scores", "pattern")
    ]
    _, source = model.run_with_cache(clean, names_filter=names)
    seen = {}

    def keep(x, hook):
        seen[hook.name] = x.requires_grad_()

    logits = model.run_with_hooks(corrupted, fwd_hooks=[(name, keep) for name in names])
    prompt = torch.arange(len(logits))
    difference = (logits[prompt, -1, right] - logits[prompt, -1, wrong]).mean()
    gradients = torch.autograd.grad(
        difference, [seen[get_act_name("pattern", layer)] for layer in layers]
    )
    estimates = {}
    for layer, gradient in zip(layers, gradients, strict=True):
        q, k, scores, pattern = (
            seen[get_act_name(kind, layer)].detach() for kind in (
                "q", "k", "attn_scores", "pattern"
            )
        )
        added = torch.einsum("bdhe,bshe->bhds", q, source["k", layer] - k) / model.cfg.d_head**0.5
        rows = []
        for place in range(clean.shape[1]):
            new = scores.clone()
            new[..., place] += added[..., place]
            rows.append(((new.softmax(-1) - pattern) * gradient).sum((0, 2, 3)))
        estimates[get_act_name("k", layer)] = torch.stack(rows)
    return estimates
    ### END SOLUTION

# %% check="k_fix"
check("k_fix")

# %%
before = time.perf_counter()
repaired = {
    name: torch.as_tensor(values).detach() for name,
    values in k_fix(two, clean, corrupted, right, wrong).items()
}
print(f"All keys repaired in {time.perf_counter() - before:.2f} s")
ways = {"gradient": estimates, "softmax exact": repaired}
print("Keys, estimate against exact      correlation   largest error (nats)")
fixed_correlations = {}
for layer in range(n_layers):
    for way, values in ways.items():
        x, y = exact["k"][layer], torch.as_tensor(values[get_act_name("k", layer)]).detach()
        fixed_correlations[layer, way] = torch.corrcoef(
            torch.stack([x.flatten(), y.flatten()])
        )[0, 1].item()
        print(
            f"layer {layer}, {way:<24} {fixed_correlations[layer, way]:>12.3f} "
            f"{(x - y).abs().max():>22.1e}"
        )
print("The stream entering layer 1, with the share of its keys repaired (nats)")
k1 = get_act_name("k", last)
for position in (varying[1], varying[3]):
    old = estimated["resid_pre"][last, position]
    new = old - torch.as_tensor(
        estimates[k1]
    ).detach()[position].sum() + repaired[k1][position].sum()
    print(
        f"{labels[position]}: exact {exact['resid_pre'][last, position]:.2f}, gradient {old:.2f}, "
        f"repaired {new:.2f}"
    )

# %% [markdown]
# **What to see here.** In the last layer the repaired estimate is exact: behind its patterns all is a sum. In the layer below it is
# not, as later softmaxes are still taken at their slope, but far better than before. And both failures of the stream are mended, the one
# that was too low and the one that was too high. So it was the softmax, and nothing else.

# %% [markdown]
# ## When there is no second text
#
# A counterfactual takes thought, and for many facts there is none that fits token by token. *Causal tracing*
# (Meng et al., *Locating and Editing Factual Associations in GPT*, section 2) makes one with **noise**. Three
# runs over the *same* tokens:
#
# 1. *clean*: as it is;
# 2. *corrupted*: noise is added to the embeddings of the *subject*, the tokens that the answer depends on;
# 3. *corrupted with restoration*: the same noise, and one vector of the stream is set to its clean value.
#
# $$x^0_{s} \leftarrow x^0_{s} + \varepsilon_s \quad (s \in \text{subject}), \qquad
# x^{l}_{p} \leftarrow x^{l,\text{clean}}_{p} \qquad x, \varepsilon: [\text{batch}\; d_\text{model}]$$
#
# Measured is the probability of the answer, as in the paper: facts have no natural wrong answer to subtract. (So the
# pitfall of probabilities is back: what brings half of the logits will look like less than half.) Where restoring
# helps, there the subject's information stands.

# %% [markdown]
# ### Exercise · causal tracing    ●●○   15 min
#
# `noise[:, i]` belongs to position `subject_positions[i]`; it is given, so do not scale it. Return the answer's
# probability at the last position: clean and corrupted for each prompt, and for restoring the stream entering
# layer $l$ at position $p$ the mean over the prompts.
#
# <details><summary>Hint 1</summary>
# Noise goes in at <code>"hook_embed"</code>: on a clone, <code>x[:, subject_positions] += noise</code>. A list
# works as an index.
# </details>
# <details><summary>Hint 2</summary>
# A restored run has two hooks: that one, and one at <code>get_act_name("resid_pre", layer)</code> that puts in
# <code>clean_cache[name][:, pos]</code>. Hooks act in the order in which the model meets them.
# </details>
# <details><summary>Hint 3</summary>
# <code>logits[:, -1].softmax(-1)[torch.arange(len(answer)), answer]</code>.
# </details>

# %% exercise="causal_trace"
def causal_trace(
    model: Transformer,
    tokens: Int[Tensor, "batch pos"],
    subject_positions: list[int],
    noise: Float[Tensor, "batch n_subject d_model"],
    answer: Int[Tensor, "batch"],
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"], Float[Tensor, "n_layers pos"]]:
    """P(answer) clean and with noise on the subject; and its mean with one stream vector
    restored."""
    ### BEGIN SOLUTION
    def probability(logits):
        return logits[:, -1].softmax(-1)[torch.arange(len(answer)), answer]

    def add_noise(x, hook):
        x = x.clone()
        x[:, subject_positions] += noise
        return x

    def restored(layer, pos):
        name = get_act_name("resid_pre", layer)

        def restore(x, hook):
            x = x.clone()
            x[:, pos] = cache[name][:, pos]
            return x

        hooks = [("hook_embed", add_noise), (name, restore)]
        return probability(model.run_with_hooks(tokens, fwd_hooks=hooks)).mean().item()

    logits, cache = model.run_with_cache(tokens)
    corrupted = model.run_with_hooks(tokens, fwd_hooks=[("hook_embed", add_noise)])
    n_layers, n_pos = model.cfg.n_layers, tokens.shape[1]
    cells = torch.tensor(
        [[restored(layer, pos) for pos in range(n_pos)] for layer in range(n_layers)]
    )
    return probability(logits), probability(corrupted), cells
    ### END SOLUTION

# %% check="causal_trace"
check("causal_trace")

# %%
subject = varying[:2]  # A and B, the first name
noise = 3 * two.W_E.std() * torch.randn(
    len(clean), len(subject), two.cfg.d_model, generator=torch.Generator().manual_seed(2)
)
p_clean, p_noisy, restored_p = causal_trace(two, clean, subject, noise, right)
p_clean, p_noisy, restored_p = (torch.as_tensor(p) for p in (p_clean, p_noisy, restored_p))
plots.matrix(
    restored_p,
    layer_names,
    labels,
    "Causal tracing: noise on the first name, one vector restored",
    "position",
    "stream entering layer",
    "probability of B",
)
for what, values in [("clean", p_clean), ("with noise", p_noisy)]:
    mean, error = mean_and_error(values)
    print(f"P(right half), {what:<24} {mean:.3f} ± {error:.3f}")
for layer in range(n_layers):
    for position in subject:
        print(
            f"P(right half), {labels[position]} restored in layer {layer:<6} "
            f"{restored_p[layer, position]:.3f}"
        )
comma = subject[-1] + 1
print(f"P(right half), the comma after B restored in layer {last}: {restored_p[last, comma]:.3f}")


def add_noise(x: Tensor, hook) -> Tensor:
    x = x.clone()
    x[:, subject] += noise
    return x


with two.hooks([("hook_embed", add_noise)]):
    _, noisy_cache = two.run_with_cache(clean)
for head in (3, 6):
    for what, cache in [("clean", clean_cache), ("with noise", noisy_cache)]:
        a, b, c = cache["pattern", last][:, head, -1, [*subject, comma]].mean(0)
        print(
            f"1.{head}, {what:<10}  looks at A {a:.2f}, at B {b:.2f}, at the comma {c:.2f} (mean "
            "attention weights)"
        )

# %% [markdown]
# **What to see here.** In layer 0 both tokens help: `A` says *where* to look, `B` is *what* to fetch. One layer
# later `A` is worth nothing any more: 0.4 has put its message beside `B`. The comma after `B` helps a little there,
# though it knows nothing: noise makes the places around `B` draw attention to themselves (last lines), and a
# restored comma no longer does. No single vector brings all of it back, as the rest of the name stays noisy.
#
# Compare with the maps of `swap_first`. There `B` was untouched and the question was *where*; here the whole name
# is destroyed and the question is *everything about it*. Noise needs no second text, and this is its price: it
# asks many questions at once, with embeddings that no token has. How strong the noise is, is up to you, and the
# map depends on it (Zhang and Nanda, *Towards Best Practices of Activation Patching*, 2024).

# %% [markdown]
# ## One edge
#
# 0.4 writes; the keys of 1.6 read. Between writer and reader there is nothing but a sum: the stream is the
# embedding plus what every head has added, and queries, keys and values are linear in it. So *one* connection can
# be patched alone, by one term of the sum. For a sender $S$ in a lower layer and one input of the receiver $R$, say its keys:
#
# $$k^{R} \leftarrow k^{R} + \big(z^{S,\text{clean}} - z^{S}\big)\, W_O^{S}\, W_K^{R} \qquad [\text{batch pos}\; d_\text{head}]$$
#
# All else runs as in the corrupted text. Heads between sender and receiver must *not* see the clean sender,
# or we would measure paths through them as well: they are *frozen*. (The formula sees to that: what they say to the
# receiver is in $k^R$ already, as it was.) Behind the receiver all is free. This is *path patching* (Wang et al.,
# *Interpretability in the Wild*, section 3.1), the other way round: they put a corrupted sender into the clean run, and ask
# whether the edge is *needed*. We put a clean one into the corrupted run, and ask whether it is *enough*. The same function does both.

# %% [markdown]
# ### Exercise · path patching    ●●●   15 min
#
# Return the logits of the corrupted run in which the receiver's one input, `"q"`, `"k"` or `"v"`, reads the
# sender's clean output and everything else as it is. The check uses three layers, where freezing matters.
#
# <details><summary>Hint 1</summary>
# You need not run the heads in between at all: what they say to the receiver is what they say in the corrupted run.
# Only one term of the receiver's sum changes.
# </details>
# <details><summary>Hint 2</summary>
# <code>z</code> of the sender in two caches; their difference <code>[batch pos d_head]</code> times
# <code>model.W_O[layer, head]</code> is the change of the stream that the receiver reads.
# </details>
# <details><summary>Hint 3</summary>
# One hook at <code>get_act_name(kind, receiver_layer)</code>, on a clone: <code>x[:, :, receiver_head] += change @
# model.W_K[receiver_layer, receiver_head]</code>, or <code>W_Q</code>, <code>W_V</code>.
# </details>

# %% exercise="path_patch"
def path_patch(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    sender: tuple[int, int],
    receiver: tuple[int, int, str],
) -> Float[Tensor, "batch pos d_vocab"]:
    """Logits of the corrupted run if one input of the receiver, and nothing else, sees the clean
    sender."""
    ### BEGIN SOLUTION
    layer, head = sender
    to_layer, to_head, kind = receiver
    name = get_act_name("z", layer)
    z_clean, z_corrupted = (
        model.run_with_cache(tokens, names_filter=name)[1][name] for tokens in (clean, corrupted)
    )
    change = (z_clean - z_corrupted)[:, :, head] @ model.W_O[layer, head]
    W = {"q": model.W_Q, "k": model.W_K, "v": model.W_V}[kind][to_layer, to_head]

    def add(x, hook):
        x = x.clone()
        x[:, :, to_head] += change @ W
        return x

    return model.run_with_hooks(corrupted, fwd_hooks=[(get_act_name(kind, to_layer), add)])
    ### END SOLUTION

# %% check="path_patch"
check("path_patch")

# %%
few = slice(0, 16)  # prompts: every cell is a run
pairs_of_few = clean[few], corrupted[few], right[few], wrong[few]
start = logit_diff(two(corrupted[few]), right[few], wrong[few])
gap = logit_diff(two(clean[few]), right[few], wrong[few]).mean() - start.mean()
# All keys of layer 1, and the queries and values of the two heads that give the answer.
receivers = [(last, head, "k") for head in range(n_heads)]
receivers += [(last, head, kind) for kind in "qv" for head in (3, 6)]
paths = {}
for sender in waiting([(0, head) for head in range(n_heads)], "Patching paths, sender by sender"):
    for receiver in receivers:
        logits = path_patch(two, clean[few], corrupted[few], sender, receiver)
        paths[sender, receiver] = (logit_diff(logits, right[few], wrong[few]) - start) / gap
through = torch.stack([
    torch.stack(
        [paths[(0, head), receiver].mean() for receiver in receivers]
    ) for head in range(n_heads)
])
plots.matrix(
    through,
    head_names[:n_heads],
    [f"{layer}.{head}.{kind}" for layer, head, kind in receivers],
    f"Path patching: one edge clean, all else corrupted ({len(start)} prompts)",
    "receiver's input",
    "sender",
    "0 corrupted, 1 clean",
)
print("The strongest edges, share of clean minus corrupted ± standard error")
for sender, receiver in sorted(paths, key=lambda edge: -paths[edge].mean())[:5]:
    mean, error = mean_and_error(paths[sender, receiver])
    print(f"  {sender[0]}.{sender[1]}->{'.'.join(map(str, receiver))}  {mean:.3f} ± {error:.3f}")
source = {z: clean_cache[z][few]}
whole = logit_diff(
    activation_patch(two, corrupted[few], source, z, None, 4), right[few], wrong[few]
)
print(f"  the edges from 0.4 to the keys of 1.3 and 1.6, added up: {through[4, [3, 6]].sum():.3f}")
print(f"  0.4 patched for all its readers: {(whole - start).mean() / gap:.3f}")
print(
    "The same edges as Wang and others patch them: one corrupted edge in the clean run, share that "
    "goes"
)
top = logit_diff(two(clean[few]), right[few], wrong[few])
for sender, receiver in sorted(paths, key=lambda edge: -paths[edge].mean())[:4]:
    logits = path_patch(two, corrupted[few], clean[few], sender, receiver)
    mean, error = mean_and_error((top - logit_diff(logits, right[few], wrong[few])) / gap)
    print(f"  {sender[0]}.{sender[1]}->{'.'.join(map(str, receiver))}  {mean:.3f} ± {error:.3f}")

# %% [markdown]
# **What to see here.** Of these edges four stand out, and all of them end in keys: from 0.4, and a little from 0.7,
# to 1.3 and 1.6. That is the missing link. (The two shares of 0.4 add up to nearly all that it restores as a whole:
# 1.3 and 1.6 stand side by side, and what they write is added. Two edges into the *same* keys need not add up: they
# meet in a softmax.) Noising names the same four, at nearly the same strength: they are needed as well.

# %% [markdown]
# ## Every edge from one gradient
#
# Path patching costs a run per edge. Put both ideas together: the change along an edge, times the gradient at its
# end. Let $\delta^S = \text{out}^{S,\text{clean}} - \text{out}^{S}$ `[batch pos d_model]` be how the sender's
# output differs, with $\text{out}^S = z^S W_O^S$ for a head and the embedding for `embed`. For the keys of
# receiver $R$:
#
# $$\text{effect}(S \to R.k) \approx \sum_{\text{batch, pos}} \big(\delta^S\, W_K^R\big) \cdot \frac{\partial \bar\Delta}{\partial k^R},
# \qquad \text{effect}(S \to \text{logits}) = \frac{1}{\text{batch}} \sum_{\text{batch}} \delta^S_{n-1} \cdot u$$
#
# with $u = W_U[:, r_i] - W_U[:, w_i]$ as in direct attribution. Again two forward passes and one backward pass,
# for *every edge of the model* (Syed, Rager and Conmy, *Attribution Patching Outperforms Automated Circuit
# Discovery*, 2023).
#
# Names of edges: senders are `embed` and heads such as `0.4`; receivers `1.6.q`, `1.6.k`, `1.6.v` and `logits`.
# An edge is `"0.4->1.6.k"`, `"embed->0.4.v"`, `"1.6->logits"`, `"embed->logits"`. `edge_names(model)` lists them
# all.

# %% [markdown]
# ### Exercise · every edge    ●●●   20 min
#
# Return the estimate of every edge, in nats, clean into corrupted.
#
# <details><summary>Hint 1</summary>
# Gradients at q, k, v of every layer in the corrupted run, as in <code>attribution_patch</code>; z of every layer
# in both runs.
# </details>
# <details><summary>Hint 2</summary>
# A dictionary of changes by sender: <code>{"embed": model.W_E[clean] - model.W_E[corrupted]}</code>, and after each
# layer its heads, <code>changes["0.4"] = dz[:, :, 4] @ model.W_O[0, 4]</code>. A layer's receivers have as senders
# what is in the dictionary before its own heads enter.
# </details>
# <details><summary>Hint 3</summary>
# <code>((change @ model.W_K[layer, head]) * gradient[:, :, head]).sum().item()</code>. The gradient of a mean holds the
# division by the batch; for the edges to <code>logits</code>, divide yourself.
# </details>

# %% exercise="edge_attribution"
def edge_attribution(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    right: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
) -> dict[str, float]:
    """First-order estimate of every edge's effect on the mean logit difference, in nats, by its
    name."""
    ### BEGIN SOLUTION
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    weights = {"q": model.W_Q, "k": model.W_K, "v": model.W_V}
    inputs = [get_act_name(kind, layer) for layer in range(n_layers) for kind in "qkv"]
    outputs = [get_act_name("z", layer) for layer in range(n_layers)]
    _, source = model.run_with_cache(clean, names_filter=outputs)
    seen = {}

    def keep(x, hook):
        seen[hook.name] = x.requires_grad_()

    logits = model.run_with_hooks(corrupted, fwd_hooks=[(name, keep) for name in inputs + outputs])
    prompt = torch.arange(len(logits))
    difference = (logits[prompt, -1, right] - logits[prompt, -1, wrong]).mean()
    gradients = torch.autograd.grad(difference, [seen[name] for name in inputs])
    gradients = dict(zip(inputs, gradients, strict=True))

    changes = {"embed": model.W_E[clean] - model.W_E[corrupted]}
    effects = {}
    for layer, z in enumerate(outputs):
        for kind, W in weights.items():
            gradient = gradients[get_act_name(kind, layer)]
            for head in range(n_heads):
                at_stream = gradient[:, :, head] @ W[layer, head].T
                for sender, change in changes.items():
                    effects[f"{sender}->{layer}.{head}.{kind}"] = (change * at_stream).sum().item()
        dz = source[z] - seen[z]
        changes |= {
            f"{layer}.{head}": dz[:, :, head] @ model.W_O[layer, head] for head in range(n_heads)
        }
    direction = (model.W_U[:, right] - model.W_U[:, wrong]).T
    for sender, change in changes.items():
        effects[f"{sender}->logits"] = (change[:, -1] * direction).sum(-1).mean().item()
    return effects
    ### END SOLUTION

# %% check="edge_attribution"
check("edge_attribution")

# %%
effects = {
    edge: float(effect) for edge,
    effect in edge_attribution(two, clean, corrupted, right, wrong).items()
}
ranked = sorted(effects, key=lambda edge: -abs(effects[edge]))
between = [
    f"0.{head}->{layer}.{to}.{kind}" for head in range(n_heads) for layer, to, kind in receivers
]
ax_bars, ax_scatter = plots.axes(2, size=(6.2, 3.8))
ax_bars.barh(
    ranked[:14][::-1], [effects[edge] for edge in ranked[:14][::-1]], color=plots.COLORS[0]
)
ax_bars.axvline(0, color=plots.INK, lw=0.8)
ax_bars.set(
    title=f"The strongest 14 of {len(effects)} edges", xlabel="estimated effect (nats)",
    ylabel="edge"
)
by_path = (through.flatten() * gap).tolist()
on_few = edge_attribution(two, *pairs_of_few)  # the prompts of path patching
by_gradient = [float(on_few[edge]) for edge in between]
strong = sorted(range(len(between)), key=lambda i: -abs(by_path[i]))[:4]
plots.points(
    by_path, by_gradient, f"Edges between the layers ({len(start)} prompts)",
    "path patching (nats)", "gradient (nats)",
    labels={i: between[i] for i in strong}, ax=ax_scatter,
)
ax_scatter.axline((0, 0), slope=1, color=plots.INK, lw=1, ls="--")
edge_correlation = torch.corrcoef(torch.tensor([by_path, by_gradient]))[0, 1].item()
print(f"Correlation of the two, over {len(between)} edges: {edge_correlation:.3f}")

# %% [markdown]
# **What to see here.** Below: the gradient puts the same four edges first as path patching does, those of 0.4 far above all others. How
# strong each of the four is, and which is the strongest, it gets only roughly: the softmax again. Read the bars above as a sentence. The embedding of `A` goes by the values of 0.4 to the keys of 1.3 and
# 1.6, and they write to the logits; and once more, fainter, by way of 0.7. Everything else is small. That is a
# **hypothesis**: a *circuit*, a few edges out of all. It can be wrong in what it leaves out.

# %% [markdown]
# ## What the circuit leaves out
#
# Test it by its complement. Run the model so that every edge **in** the circuit carries what its sender says now,
# in this very run, and every edge **outside** carries what its sender says in the corrupted run. The `embed` of
# this run is the clean one. With all edges it is the clean run; with none, the corrupted one. With $\bar\Delta$
# the mean over the prompts:
#
# $$\text{unexplained} = \frac{\bar\Delta_\text{clean} - \bar\Delta_\text{circuit}}{\bar\Delta_\text{clean} - \bar\Delta_\text{corrupted}}
# \qquad 0: \text{all explained}, \quad 1: \text{nothing}$$
#
# A clean message thus reaches the logits only along a *chain* of edges, each in the circuit. One that is cut off
# from `embed` carries nothing: its sender saw only corrupted inputs.

# %% [markdown]
# ### Exercise · what is unexplained    ●●●   20 min
#
# `circuit` is a list of edges by name. Take the mean over the prompts before you divide.
#
# <details><summary>Hint 1</summary>
# As everything is linear but the attention itself, keep *changes*: for each sender, its output now minus its
# output in the corrupted run. A receiver's input is the corrupted one plus the changes of the senders whose edges
# are in the circuit.
# </details>
# <details><summary>Hint 2</summary>
# A run with hooks: at q, k, v start from the corrupted cache and add <code>change @ W[layer, head]</code> for the
# edges in the circuit; at z record the change of each head, <code>(z - corrupted_cache[hook.name])[:, :, head] @
# model.W_O[layer, head]</code>. Layers come in order, so what is recorded is what may be read.
# </details>
# <details><summary>Hint 3</summary>
# The logits are the corrupted ones plus <code>change @ model.W_U</code> for the edges to <code>logits</code>.
# (Those that the run with hooks returns are of no use.)
# </details>

# %% exercise="unexplained_effect"
def unexplained_effect(
    model: Transformer,
    circuit: list[str],
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    right: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
) -> float:
    """The share of the mean logit difference that goes if only these edges carry what is clean."""
    ### BEGIN SOLUTION
    n_layers, n_heads = model.cfg.n_layers, model.cfg.n_heads
    weights = {"q": model.W_Q, "k": model.W_K, "v": model.W_V}
    W_O = model.W_O
    corrupted_logits, cache = model.run_with_cache(corrupted)
    changes = {"embed": model.W_E[clean] - model.W_E[corrupted]}

    def read(x, hook):
        layer, kind = hook.layer(), hook.name[-1]
        x = cache[hook.name].clone()
        for sender, change in changes.items():
            for head in range(n_heads):
                if f"{sender}->{layer}.{head}.{kind}" in circuit:
                    x[:, :, head] += change @ weights[kind][layer, head]
        return x

    def write(z, hook):
        layer, dz = hook.layer(), z - cache[hook.name]
        for head in range(n_heads):
            changes[f"{layer}.{head}"] = dz[:, :, head] @ W_O[layer, head]

    hooks = [
        (get_act_name(kind, layer), write if kind == "z" else read)
        for layer in range(n_layers)
        for kind in "qkvz"
    ]
    model.run_with_hooks(corrupted, fwd_hooks=hooks)
    logits = corrupted_logits[:, -1].clone()
    for sender, change in changes.items():
        if f"{sender}->logits" in circuit:
            logits += change[:, -1] @ model.W_U

    prompt = torch.arange(len(clean))
    runs = (model(clean)[:, -1], logits, corrupted_logits[:, -1])
    at_clean, at_circuit, at_corrupted = (
        (x[prompt, right] - x[prompt, wrong]).mean() for x in runs
    )
    return ((at_clean - at_circuit) / (at_clean - at_corrupted)).item()
    ### END SOLUTION

# %% check="unexplained_effect"
check("unexplained_effect")

# %%
story = ["embed->0.4.v", "0.4->1.3.k", "0.4->1.6.k", "1.3->logits", "1.6->logits"]
eight = story + [edge.replace("0.4", "0.7") for edge in story[:3]]
variations = {
    "nothing": [],
    "embed->0.4.v, 0.4->1.3.k and 1.6.k, both -> logits": story,
    "the same without embed->0.4.v": story[1:],
    "the same by 1.6.q and 1.3.q": [edge.replace(".k", ".q") for edge in story],
    "all edges of heads 0.4, 1.3, 1.6": [
        edge for edge in effects
        if all(end[:3] in ("0.4", "1.3", "1.6", "emb", "log") for end in edge.split("->"))
    ],
    "the first, and the same through 0.7": eight,
    "everything": edge_names(two),
}
print("unexplained   edges   circuit")
for what, circuit in variations.items():
    share = float(unexplained_effect(two, circuit, clean, corrupted, right, wrong))
    print(f"{share:>11.1%}   {len(circuit):>5}   {what}")

# %% [markdown]
# **What to see here.** Five edges explain most of it. Without the first of them nothing at all: the chain is
# broken. By the queries: nothing. Adding every other edge among the same heads hardly helps, so what is
# missing is another head: with three edges more, through 0.7, next to nothing is left.

# %% [markdown]
# ## What it does not say
#
# A circuit explains one difference, between these texts. Does it hold elsewhere? The names have been exchanged before. Now exchange
# the rest: where the names stand, what stands between, which of them comes first, and what kind of text it is. For the spread, the
# prompts are taken 16 at a time. And a control: other questions about the same prompts, which this circuit should *not* answer.

# %%
many = draw_names(two, 128, torch.Generator().manual_seed(3))
templates = {
    "as it was": TEMPLATE,
    "further away": TEMPLATE.replace(
        "        self.value",
        "        self.count = 0\n        self.parent = None\n        self.value"
    ),
    "the asked name second": TEMPLATE.replace("{first},{second}", "{second},{first}"),
    "a function": "def update(self,{first},{second}):\n    return{query}",
    "an import": "from module import{first},{second}\n\nresult ={query}",
    "a loop": "for{first},{second} in items:\n    total +={query}",
    "a sentence": "# The{first} and the{second} are set. Then the{query}",
}
trials = {what: clean_and_corrupted(two, template, many) for what, template in templates.items()}
trials |= {
    f"control: {change}": make_pairs(two, many, change) for change in ("swap_second", "new_query")
}
elsewhere_shares, rows = {}, []
for what, trial in waiting(trials.items(), "Trying the circuit on other texts"):
    ends = [float(logit_diff(two(tokens), *trial[2:]).mean()) for tokens in trial[:2]]
    share = float(unexplained_effect(two, eight, *trial))
    parts = torch.tensor(
        [
            float(unexplained_effect(two, eight, *(x[i : i + 16] for x in trial)))
            for i in range(0, len(many), 16)
        ]
    )
    elsewhere_shares[what] = share
    rows.append(
        f"{what:<22} {ends[0]:>+7.2f} {ends[1]:>+10.2f} {share:>32.1%} {parts.mean():>30.1%} ± "
        f"{parts.std():.1%}"
    )
print(f"The {len(eight)} edges, on {len(many)} fresh names")
print(
    f"{'text':<22} {'clean':>7} {'corrupted':>10} (nats)   unexplained, all prompts; 16 at a time: "
    "mean ± standard deviation"
)
print("\n".join(rows))

# %% [markdown]
# **What to see here.** It holds in every text that we tried, nearer and further, in either order, in code and in a sentence: a few
# per cent are left, or a few too many explained, and the spread between handfuls of prompts is as small. So it is no habit of one
# template. And it answers one question only. Ask what happens when the second halves are exchanged, or when the last token is, and the
# same eight edges explain nothing: then these heads write the same in both texts. Those questions have circuits of their own.

# %% [markdown]
# ### Exercise · find the smallest circuit    ●●○   20 min
#
# Find one of those. The question is `"new_query"`: clean and corrupted have the same names, and differ in the *last token* alone.
# Return the edges of a circuit that leaves at most 5% unexplained (and explains at most 105%), as small as you
# can make it. The check runs it on 240 fresh prompts and is content with 8%, either way: a point for at most 64 edges, one more for
# at most 16, one more for at most 11. You have the tools: `edge_attribution` for a list of suspects, `unexplained_effect` for a test, and
# `make_pairs(two, names, "new_query")` for the prompts. Work in a cell of your own, then write down what you found.
#
# <details><summary>Hint 1</summary>
# Rank all edges by the size of their estimates on <i>these</i> pairs. Take the first n of them: at which n does the unexplained share fall
# below 5%? Try it on more than one draw of names.
# </details>
# <details><summary>Hint 2</summary>
# Then leave out each in turn, and drop it for good if little changes. An edge that is no part of a chain from
# <code>embed</code> to <code>logits</code> carries nothing.
# </details>
# <details><summary>Hint 3</summary>
# The last token has to reach the <i>queries</i> of 1.3 and 1.6. It does so by three ways: straight from the embedding, and through the two heads of
# layer 0 that look most at their own token.
# </details>

# %% exercise="smallest_circuit"
def smallest_circuit() -> list[str]:
    """Edges of the two-layer model that alone carry at least 95% of the answer to a new last
    token."""
    ### BEGIN SOLUTION
    into_queries = [
        f"{sender}->{head}.q" for sender in ("embed", "0.0", "0.6") for head in ("1.3", "1.6")
    ]
    return ["embed->0.0.v", "embed->0.6.v", *into_queries, "1.3->logits", "1.6->logits"]
    ### END SOLUTION

# %% check="smallest_circuit"
check("smallest_circuit")

# %%
sizes = [*range(13), 20, 40, 80, len(ranked)]
new_query = make_pairs(two, names, "new_query")
by_question = {"first halves exchanged": pairs, "a new last token": new_query}
curves = {}
for what, these in by_question.items():
    order = edge_attribution(two, *these)
    order = sorted(order, key=lambda edge: -abs(float(order[edge])))
    curves[what] = sizes, [
        float(unexplained_effect(two, order[:n], *these))
        for n in waiting(sizes, f"Circuits of more and more edges, {what}")
    ]
fresh = draw_pairs(two, 128, torch.Generator().manual_seed(3), "new_query")
found = list(smallest_circuit())
found_share = float(unexplained_effect(two, found, *fresh))
ax = plots.axes(size=(7.5, 3.8))
plots.lines(
    curves,
    "How much the strongest edges leave unexplained",
    "edges in the circuit (log scale from 1)",
    "unexplained share of the logit difference",
    levels={"asked for": 0.05},
    markers=True,
    ax=ax,
)
ax.set_xscale("symlog", base=2, linthresh=1)
ax.scatter(
    [len(found)], [found_share], marker="*", s=160, color=plots.COLORS[2], zorder=3,
    label="yours, on fresh prompts"
)
ax.set_xticks(
    [0, 1, 2, 4, 8, 16, 32, 64, 128, 256], [str(n) for n in (0, 1, 2, 4, 8, 16, 32, 64, 128, 256)]
)
ax.minorticks_off()
plots.legend(ax)
print(
    f"Yours: {len(found)} of {len(effects)} edges, {found_share:.1%} unexplained on "
    f"{len(fresh.clean)} fresh prompts."
)
print("\n".join(f"  {edge}" for edge in found))
for what, (_, shares) in curves.items():
    rest = [f"{n} edges {share:.1%}" for n, share in zip(sizes, shares, strict=True) if n >= 10]
    print(f"{what}, left unexplained: {', '.join(rest)}")

# %% [markdown]
# **What to see here.** The curves fall in steps, each where a chain is completed. Here the ranking alone leads to a
# small circuit, with hardly anything to prune. (Where a softmax is saturated, an edge that a chain needs can rank
# low: then one has to search, or to repair the keys.) After the steps a few per cent are left, up or down, and all other edges
# together, nearly all of the model, bring them to zero. They are not nothing: they are many small effects, and
# part of them cancel.
#
# How much to believe? Each circuit explains *one* difference. It says nothing of what clean and corrupted share. It is one that
# passes, and need not be the only one. And it explains a mean: a prompt here and there may go another way.

# %% [markdown]
# ## GPT-2 small
#
# Your functions speak TransformerLens' names, so they run on its models. With the package and a network the cell
# below loads GPT-2 small (12 layers, 144 heads); without, it says so, and you lose nothing that is needed later.
# Wang et al. asked it: *When Mary and John went to the store, John gave a drink to* … ` Mary`, not ` John`.
# Corrupted: the second `John` is `Mary`.
#
# What is different there: a LayerNorm before every reader, which makes reading not quite linear. Logit
# differences and activation patches do not mind. Direct attribution, path patching and edges do: each vector has
# to be divided by the *scale* that the LayerNorm used in this very run (`ln_final.hook_scale`), and MLPs and
# biases write, too.

# %%
from circuits.gpt2 import load_gpt2

gpt2 = load_gpt2()
if gpt2 is not None:
    template = "When {a} and {b} went to the {place}, {s} gave a {thing} to"
    people = [(" Mary", " John"), (" Tom", " James"), (" Anna", " Paul"), (" Kate", " Mark")]
    scenes = [("store", "drink"), ("school", "book"), ("park", "ring"), ("office", "letter")]
    asked = [
        (template.format(a=a[1:], b=b[1:], s=s[1:], place=place, thing=thing), a, b)
        for (a, b), (place, thing) in zip(people, scenes, strict=True)
        for s in (b, a)
    ]
    tokens, twins = gpt2.to_tokens([t for t, *_ in asked[::2]]), gpt2.to_tokens(
        [t for t, *_ in asked[1::2]]
    )
    ids = [gpt2.to_tokens([x[i] for x in asked[::2]], prepend_bos=False)[:, 0] for i in (1, 2)]
    with torch.no_grad():
        logits, cache = gpt2.run_with_cache(tokens)
        top, bottom = (logit_diff(x, *ids).mean() for x in (logits, gpt2(twins)))
        print(f"GPT-2: mean logit difference clean {top:+.2f}, corrupted {bottom:+.2f} nats")
        shape = gpt2.cfg.n_layers, gpt2.cfg.n_heads
        grid = torch.zeros(shape)
        heads = torch.cartesian_prod(*map(torch.arange, shape)).tolist()
        for layer, head in waiting(heads, "Patching every head of GPT-2"):
            patched = activation_patch(gpt2, twins, cache, get_act_name("z", layer), None, head)
            grid[layer, head] = (logit_diff(patched, *ids).mean() - bottom) / (top - bottom)
        writes = torch.as_tensor(direct_logit_attribution(cache, gpt2, *ids)[1])
        # the scale, held fixed
        writes = (writes / cache["ln_final.hook_scale"][:, -1, :, None]).mean(0)
    names_of = [str(i) for i in range(shape[0])], [str(i) for i in range(shape[1])]
    left_ax, right_ax = plots.axes(2, size=(5.6, 4.4))
    plots.matrix(
        grid, *names_of, "GPT-2: heads patched clean into corrupted", "head", "layer",
        "0 corrupted, 1 clean", ax=left_ax
    )
    plots.matrix(
        writes, *names_of, "GPT-2: direct attribution", "head", "layer", "nats", ax=right_ax
    )

# %% [markdown]
# If you have it, compare with the paper (section 3 and its figure of the circuit): *S-inhibition* heads in layers
# 7 and 8 carry the answer and write little of it to the output; *name movers* in layers 9 and 10 write the name;
# *negative name movers* in layers 10 and 11 write against it.

# %% [markdown]
# ## What you have shown
#
# Three ways to the same circuit: by where heads **look** (chapter 3's scores, here on random tokens that are
# repeated), by what their **weights** could tell each other (composition, above the baseline
# $1/\sqrt{d_\text{model}}$), and by what happens when an **edge** is patched.

# %%
half = torch.randint(1, two.cfg.d_vocab, (16, 50), generator=torch.Generator().manual_seed(4))
repeated = torch.cat([torch.zeros(16, 1, dtype=torch.long), half, half], dim=1)
_, cache = two.run_with_cache(repeated)
previous = cache["pattern", 0].diagonal(-1, dim1=-2, dim2=-1)[..., 1:].mean((0, 2))
induction = cache["pattern", last].diagonal(
    -half.shape[1] + 1, dim1=-2, dim2=-1
)[..., 1:].mean((0, 2))
W_OV = two.W_V[0] @ two.W_O[0]
W_KQ = two.W_K[last] @ two.W_Q[last].transpose(-1, -2)
joint = torch.einsum("aij,bjk->abik", W_OV, W_KQ).norm(dim=(-2, -1))
composition = joint / (
    W_OV.norm(dim=(-2, -1))[:, None] * W_KQ.norm(dim=(-2, -1))
) - two.cfg.d_model**-0.5
keys = through[:, :n_heads]
ways = {
    "looks: previous × induction": previous[:, None] * induction,
    "weights: K-composition": composition,
    "patching: edge into the keys": keys,
}
units = ["product of scores", "above the baseline", "0 corrupted, 1 clean"]
for ax, (what, values), unit in zip(
    plots.axes(3, size=(4.7, 3.4)), ways.items(), units, strict=True
):
    plots.matrix(
        values, head_names[:n_heads], head_names[n_heads:], what, "head of layer 1",
        "head of layer 0", unit, ax=ax
    )
strongest = {}
for what, values in ways.items():
    order = values.flatten().argsort(descending=True)[:4].tolist()
    strongest[what] = [f"0.{i // n_heads}->1.{i % n_heads}" for i in order]
    print(f"{what:<30} strongest four: {', '.join(strongest[what])}")
print("The same four in all three:", len({frozenset(four) for four in strongest.values()}) == 1)

# %% [markdown]
# **What to see here.** All three name the same four connections. They do not order them alike. (The first map is only a
# product: it has a number for each pair, but measured heads, not pairs. What it adds is that the two strongest of each layer are
# just those that the other two maps connect.) The weights put 0.7
# beside 0.4: they say what *could* be heard, and nothing of how sharply a head looks back. Patterns say who looks
# where, and nothing of what is passed on. The third measures the answer itself, in these texts. None of the three
# is the truth; that they agree is what makes it likely.
#
# | claim | where it is from | what to compare |
# |---|---|---|
# | Induction heads read a previous-token head through their keys | *A Mathematical Framework*, "Induction Heads" | `k` patched alone; the edges of path patching |
# | One gradient estimates all patches, well for heads' outputs | Nanda, *Attribution Patching*; Syed et al. | correlation by kind |
# | and badly where a softmax is saturated | the same; Hanna et al. | the two cells of the stream; the formula |
# | which an exact softmax repairs | Kramár et al., *AtP\** | correlation of the keys, before and after |
# | A behaviour is carried by few edges | Wang et al., *Interpretability in the Wild* | size and unexplained share of two circuits |
# | Scores, weights and patching find the same heads | this course | the strongest edges, three ways |

# %%
rows = [
    (
        "q, k, v of 1.3 patched alone restore",
        "  ".join(f"{x:+.2f}" for x in by_input["swap_first"][:, 3])
    ),
    (
        "q, k, v of 1.6 patched alone restore",
        "  ".join(f"{x:+.2f}" for x in by_input["swap_first"][:, 6])
    ),
    *(
        (f"correlation, estimate and exact: {kind}", f"{value:.2f}")
        for kind, value in correlations.items()
        if kind != "q"  # all its points are near zero
    ),
    ("correlation, edges by gradient and by path patching", f"{edge_correlation:.2f}"),
    ("strongest edge between heads, by gradient", next(edge for edge in ranked if edge in between)),
    *(
        (f"correlation, keys of layer {layer}, {way}", f"{value:.3f}") for (layer, way),
        value in fixed_correlations.items()
    ),
    ("first halves: edges, of all", f"{len(eight)} of {len(effects)}"),
    ("left unexplained by them, fresh names", f"{elsewhere_shares['as it was']:.1%}"),
    (
        "largest, over six other texts",
        f"{max((elsewhere_shares[what] for what in templates), key=abs):.1%}"
    ),
    ("new last token: edges in your circuit", f"{len(found)} of {len(effects)}"),
    ("left unexplained by it, fresh prompts", f"{found_share:.1%}"),
]
for what, measured in rows:
    print(f"{what:<54} {measured:>22}   two_layer")

# %% [markdown]
# **Read on.** Kevin Wang and others, *Interpretability in the Wild* (2022): a circuit of 26 heads in GPT-2 small,
# with path patching and how to test a circuit. Kevin Meng and others, *Locating and Editing Factual Associations
# in GPT* (2022), section 2. Arthur Conmy and others, *Towards Automated Circuit Discovery* (2023): a search over
# edges that tests each. János Kramár and others, *AtP\** (2024): attribution patching, its failures and their repair. Stefan
# Heimersheim and Neel Nanda, *How to use and interpret activation patching* (2024): what to do and what not. Fred Zhang and Neel Nanda, *Towards Best Practices of Activation
# Patching* (2024). Lawrence Chan and others, *Causal Scrubbing* (2022): hypotheses finer than edges.

# %%
progress()
