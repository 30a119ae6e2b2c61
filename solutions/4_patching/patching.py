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
# **Time**: about three and a half hours. **Needs**: chapters 2 and 3. **Follows**: *Interpretability in the Wild*
# (Wang et al., 2022), *Locating and Editing Factual Associations in GPT* (Meng et al., 2022), *How to use and
# interpret activation patching* (Heimersheim and Nanda, 2024).

# %% tags=["setup"]
import torch
from jaxtyping import Float, Int
from torch import Tensor

from utils import Transformer, check, get_act_name, hint, progress, reveal

# %% [markdown]
# The text is a piece of Python. A class takes two arguments with made-up names of two tokens each, and stores
# one of them: which one, the model must look up. We have 64 such prompts with different names, and for each
# prompt a *corrupted* twin, in which the first halves of the names have changed places.

# %%
import time

from utils import load_model, plots
from utils.gates import gate_model
from utils.patching import LogitDiff, sweep
from utils.prompts import TEMPLATE, draw_names, draw_pairs, make_pairs

one, two = (load_model(name).requires_grad_(False) for name in ("one_layer", "two_layer"))
pairs = draw_pairs(two, 64, torch.Generator().manual_seed(0))
clean, corrupted, right, wrong = pairs
n_layers, n_heads = two.cfg.n_layers, two.cfg.n_heads

for title, tokens, answer in [("clean", clean, right), ("corrupted", corrupted, wrong)]:
    print(f"--- {title}: to be continued with `{two.to_string(answer[0])}`\n{two.to_string(tokens[0, 1:])}\n")
print(f"{len(clean)} pairs of {clean.shape[1]} tokens each (with `<|bos|>`).")

# %% [markdown]
# ### Where this chapter ends
#
# Each cell of these maps is an experiment. Run the two-layer model on the corrupted prompts, but give it one
# activation from the clean run: the residual stream at one position (left), or what one head writes (right). 1
# means that this single activation brings the whole clean answer back, 0 that it changes nothing. You will fill
# in such maps, explain every coloured cell, and name the connections between them.

# %%
metric = LogitDiff(right, wrong)
at_clean, at_corrupted = (metric(two(tokens)) for tokens in (clean, corrupted))


def normalised(values: Tensor) -> Tensor:
    """0 for the corrupted run, 1 for the clean one."""
    return (values - at_corrupted) / (at_clean - at_corrupted)


# Tokens as labels. Where the 64 prompts differ are the halves of the names: A B and C D, then A again.
labels = [plots.token_text(token) for token in two.to_str_tokens(clean[0])]
varying = (clean != clean[0]).any(dim=0).nonzero()[:, 0].tolist()
for position, role in zip(varying, ["A", "B", "C", "D", "A"], strict=True):
    labels[position] = role
layer_names = [str(layer) for layer in range(n_layers)]
head_names = [f"{layer}.{head}" for layer in range(n_layers) for head in range(n_heads)]


def show_maps(by_position: Tensor, by_head: Tensor, what: str) -> None:
    """Two maps side by side, layer by position and layer by head, coloured from -1 to 1."""
    heads = [str(head) for head in range(n_heads)]
    maps = [
        (by_position, labels, "the stream entering a layer", "position"),
        (by_head, heads, "a head's output", "head"),
    ]
    for ax, (values, columns, where, xlabel) in zip(plots.axes(2, size=(6.6, 2.9)), maps, strict=True):
        unit = "0 corrupted, 1 clean"
        plots.matrix(values, layer_names, columns, f"{what}: {where}", xlabel, "layer", unit, ax=ax)
        ax.images[0].set(cmap=plots.DIVERGING, clim=(-1, 1))


sweeps = [normalised(sweep(two, clean, corrupted, metric, kind)) for kind in ("resid_pre", "z")]
show_maps(*sweeps, "Patched in")

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
# It is in nats: at $\Delta = 0$ both are equally likely, and each nat more makes the right answer $e$ times as
# likely again, compared with the wrong one.

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
    logits: Float[Tensor, "batch pos d_vocab"], right: Int[Tensor, "batch"], wrong: Int[Tensor, "batch"]
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
plots.bars(
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
    print(f"{n} layer(s), {name:>9}: {values.mean():+.2f} nats; right half preferred in {share:.0%}")

# %% [markdown]
# **What to see here.** Two layers follow the text: the sign changes when the first halves change places. One
# layer hardly tells the two texts apart. The very same tokens stand in both, only the neighbours differ, and no
# score of a one-layer model sees two neighbours at once (chapter 3). It is our control: whatever separates clean
# from corrupted in the two-layer model is composition.
#
# Error bars are two *standard errors*: the standard deviation over the prompts, divided by $\sqrt{64}$, twice. A
# mean without one is an anecdote.

# %% [markdown]
# ## Two prompts that differ in one thing
#
# A single prompt has thousands of activations, and all of them matter for *something*: that this is Python, that
# a name is due, that it is a short one. We want those that matter for *which half*. So take a second text that
# differs in that alone, a *counterfactual*, and ask which activations carry the difference:
#
# | | names | last token | answer |
# |---|---|---|---|
# | clean | `AB`, `CD` | `A` | `B` |
# | corrupted | `CB`, `AD` | `A` | `D` |
#
# The same tokens, the same length, the same last token. `B` stands where it stood. What has changed is *what stands
# before it*.

# %% [markdown]
# ### Exercise · clean and corrupted    ●●○   8 min
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
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"], Int[Tensor, "batch"], Int[Tensor, "batch"]]:
    """Tokens of the clean prompts, of their twins with first halves exchanged, and both answers' ids."""
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
# All three are good prompts. They do not ask the same question, and they will not find the same heads. Here are two
# heads of layer 0, by what they look at:

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
    """Which of "swap_first", "swap_second", "new_query" show the head "previous", or the head "own"."""
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
    restored[change] = (sweep(two, other.clean, other.corrupted, difference, "z") - start) / (end - start)
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
# **What to see here.** Heads 1.3 and 1.6 show in every row: they give the answer. In layer 0 each question has
# its own: exchanging the first halves asks "how does the model know what stood before `B`?" and finds 0.4 (and a
# little 0.7, which looks back less sharply). Exchanging the second halves leaves 0.4 in the dark: at that
# position it reads `A` before and after. A new last token asks "how does it know what to look for?"
#
# So a cell at zero never says "not used". It says "writes nothing about *this* difference".

# %% [markdown]
# ## Taking a part away
#
# The oldest intervention: remove a part and see what breaks. But a later layer reads *some* number where the part
# wrote, so to remove is to replace. For an activation $x$ (with shape `[batch pos n_heads d_head]` if it belongs
# to heads) there are three usual substitutes:
#
# $$x \leftarrow 0 \qquad\quad x_{i,p} \leftarrow \frac{1}{m} \sum_{j=1}^{m} x^{\text{ref}}_{j,p} \qquad\quad
# x_i \leftarrow x^{\text{other}}_i$$
#
# *Zero*; the *mean* over $m$ reference prompts, position $p$ by position; *resampled*, what it is in another
# prompt. In all of them the rest of the model runs on as usual and reads the substitute. A hook does the
# replacing:
#
# ```python
# def halve(z, hook):
#     return z / 2        # what a hook returns takes the activation's place
#
# logits = model.run_with_hooks(tokens, fwd_hooks=[(get_act_name("z", 0), halve)])
# ```
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
# <code>cache[name].mean(0)</code>: one dimension less, the batch. It fits every prompt of <code>tokens</code>.
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
    "from its corrupted twin": lambda name, head: resample_ablate(two, clean, name, corrupted, head),
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
    for what, ablate in ablations.items()
}
shown = [i for i in range(len(head_names)) if min(mean[i] for mean, _ in costs.values()) < -0.3]
plots.bars(
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
# never met in training: it is *off distribution*. Whatever is at zero that should not be, breaks.
#
# Head 0.6 (and 0.0): three alarms, and the fourth is silent. It does matter, but not for telling clean from corrupted. No
# ablation is wrong; each compares with something else. Zero: a model that was never trained. The mean: a prompt
# in general. (Also a vector that may never occur: the mean of red and green is not a traffic light.) Another
# prompt: other names. The twin: our question, and no other.

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
# ### Exercise · direct logit attribution    ●●○   8 min
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
    cache: dict[str, Tensor],
    model: Transformer,
    right: Int[Tensor, "batch"],
    wrong: Int[Tensor, "batch"],
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch n_layers n_heads"]]:
    """Shares of the embedding and of every head in the logit difference at the last position, in nats."""
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
    direct[name] = torch.cat([torch.as_tensor(from_embedding)[:, None], from_heads.flatten(1)], dim=1)
plots.bars(
    {name: mean_and_error(shares) for name, shares in direct.items()},
    ["embed", *head_names],
    f"Direct contributions to the logit difference (mean of {len(clean)} prompts, ± 2 standard errors)",
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
    cache: dict[str, Tensor], model: Transformer
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
lens = {name: logit_lens(cache, two) for name, cache in [("clean", clean_cache), ("corrupted", corrupted_cache)]}
ax_lens, ax_moved = plots.axes(2, size=(5.6, 3.4))
plots.bars(
    {
        name: tuple(zip(*(mean_and_error(logit_diff(stage, right, wrong)) for stage in logits), strict=True))
        for name, logits in lens.items()
    },
    stages, "The lens on the last position", "where we stop", "logit difference (nats)", ax=ax_lens,
)
moved = torch.stack([(a - b).norm(dim=-1).mean(0) for a, b in (
    (clean_cache["resid_pre", layer], corrupted_cache["resid_pre", layer]) for layer in range(n_layers)
)])
plots.matrix(
    moved, layer_names, labels, "Where the two runs differ",
    "position", "layer that begins", "distance of the streams", ax=ax_moved,
)
answer = plots.token_name(two, right[0].item())  # of the first prompt
print(f"The first clean prompt by the lens: rank of `{answer}` among {two.cfg.d_vocab} tokens, and the likeliest five")
for stage, logits in zip(stages, lens["clean"], strict=True):
    rank = int((logits[0, -1] > logits[0, -1, right[0]]).sum()) + 1
    best = logits[0, -1].topk(5).indices.tolist()
    print(f"{stage:>14}: {rank:>5}   " + "  ".join(plots.token_name(two, token) for token in best))

# %% [markdown]
# **What to see here.** Left: up to layer 0 the lens shows nothing, and the two runs look alike. Then everything
# comes at once. It is tempting to say "layer 1 does the work". But look right: when layer 1 begins, the two runs
# *do* differ, and not only where the tokens differ (`A` and `C`): also at the second halves, `B` and `D`. Layer 0
# has written something there, for layer 1 and not for the output.
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
# the **clean** run. If the clean answer comes back, that activation carries the difference. With $x^c$ the
# activation in the clean run, at position $p$ of head $h$:
#
# $$\text{patched logits} = \text{model}\big(\text{corrupted};\; x_{p,h} \leftarrow x^{c}_{p,h}\big)
# \qquad [\text{batch pos}\; d_\text{vocab}]$$
#
# You know the operation: it is resample ablation, with the roles of the prompts chosen so that success means
# something *returns*. What is new is the position.

# %% [markdown]
# ### Exercise · activation patching    ●●○   8 min
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
    """Logits of the corrupted run with `name` (at one position, of one head) taken from the clean run."""
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
    logits = two(corrupted) if where is None else activation_patch(two, corrupted, clean_cache, *where)
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
# ### Exercise · sweep    ●●○   10 min
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
) -> Float[Tensor, "n_layers cell"]:
    """How much of the clean mean logit difference each patch restores: 0 is corrupted, 1 is clean."""
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
    torch.as_tensor(patch_sweep(two, clean, corrupted, right, wrong, kind)) for kind in ("resid_pre", "z")
)
seconds = time.perf_counter() - before
show_maps(by_position, by_head, "Clean into corrupted")

# %% [markdown]
# **What to see here.** The whole story in a few cells. Left, row 0: at the start only the tokens that differ
# matter, `A` and `C`, the first halves. Row 1: one layer later the same information has moved one step to the
# right, to `B` and `D`. Right: head 0.4 moved it, and 1.3 and 1.6 used it. In between, on the last position,
# nothing: there the difference arrives in layer 1. In the last layer the cells of the heads that matter sum to
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
    print(f"The heads of layer {last} restore, one by one and added up, {values[last].sum():.2f} of the {what}")

# %% [markdown]
# **What to see here.** Paler everywhere; the cells for `C` and `D` have gone, and head 0.7 with them. Two heads
# that each bring half of the logits bring far less than half of the probability each: softmax is exponential, and
# half-way up in logits is still near the bottom in probability. Logits add where parts add. And half of our
# effect is that `D` becomes *less* likely, which the probability of `B` alone does not hear. Measure in logits
# (or log-probabilities), as a difference.

# %% [markdown]
# ### Exercise · find the head that the lens overlooks    ●○○   5 min
#
# In the shipped two-layer model, name the head `(layer, head)` that alone restores at least seven tenths of the
# clean answer, and whose *direct* contribution changes by less than a twentieth of it. The check measures the
# head you name, on fresh names.
#
# <details><summary>Hint 1</summary>
# The map of head outputs, <code>by_head</code>, has one cell above 0.7.
# </details>
# <details><summary>Hint 2</summary>
# In the figure of direct contributions, the two bars of your head must be alike. Layer 1 is where the answer is
# written; look in layer 0.
# </details>

# %% exercise="overlooked_head"
def overlooked_head() -> tuple[int, int]:
    """(layer, head) of the head that carries the answer without writing any of it to the output."""
    ### BEGIN SOLUTION
    return 0, 4
    ### END SOLUTION

# %% check="overlooked_head"
check("overlooked_head")

# %%
corrupted_diff = logit_diff(two(corrupted), right, wrong)
span = (baseline - corrupted_diff).mean()
writes = (direct["clean"] - direct["corrupted"])[:, 1:] / span
named = [i for i in range(len(head_names)) if by_head.flatten()[i].abs() > 0.05]
causes = [
    activation_patch(two, corrupted, clean_cache, get_act_name("z", i // n_heads), None, i % n_heads) for i in named
]
plots.bars(
    {
        "writes to the output itself": mean_and_error(writes[:, named]),
        "causes when patched": mean_and_error(
            torch.stack([logit_diff(logits, right, wrong) - corrupted_diff for logits in causes], dim=1) / span
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
# through which of their inputs, is the second half of this chapter.

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
    """Which of "denoise", "noise" change the outcome when one head of "or", "and", "sum" is patched."""
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
        def patch(z, hook):
            z[:, :, head] = cache["z", layer][:, :, head]

        return get_act_name("z", layer), patch

    places = [take(*map(int, head.split("."))) for head in heads]
    return logit_diff(two.run_with_hooks(run, fwd_hooks=places), right, wrong)


groups = [["0.4"], ["0.7"], ["0.4", "0.7"], ["1.3"], ["1.6"], ["1.3", "1.6"]]
plots.bars(
    {
        "denoising: share that returns": mean_and_error(
            torch.stack([(patch_heads(corrupted, clean_cache, g) - corrupted_diff) / span for g in groups], dim=1)
        ),
        "noising: share that goes": mean_and_error(
            torch.stack([(baseline - patch_heads(clean, corrupted_cache, g)) / span for g in groups], dim=1)
        ),
    },
    [" + ".join(g) for g in groups],
    f"Enough, and needed (mean of {len(clean)} prompts, ± 2 standard errors)",
    "heads that are patched",
    "share of clean minus corrupted",
    levels={"all of it": 1.0},
    ax=plots.axes(size=(8, 3.6)),
);

# %% [markdown]
# **What to see here.** In this model denoising and noising agree: within a layer the heads *add up*, as in
# `"sum"`. 0.4 with 0.7 is all that layer 0 does for this question, and 1.3 with 1.6 nearly all that layer 1 does.
# Both pairs restore everything, so they cannot be two halves of a sum: they work one *after* the other.
#
# Larger models have ORs. In GPT-2 small some heads stand by: take away the head that names the answer, and they
# take over (*backup name movers*, Wang et al., section 3.4). Does ours do that? If so, the direct contribution of
# other heads must *rise* when one is taken away:

# %%
print("Direct contribution to the clean answer (nats), and its change when a head of layer 0 is mean-ablated")
print("           " + "".join(f"{name:>8}" for name in head_names[n_heads:]))
print("as it is   " + "".join(f"{share:>8.2f}" for share in direct["clean"].mean(0)[1 + n_heads :]))
reference = two.run_with_cache(elsewhere, names_filter=z)[1][z].mean(0)
for head in (0, 4, 6, 7):

    def ablate(x: Tensor, hook, head: int = head) -> None:
        x[:, :, head] = reference[:, head]

    with two.hooks([(z, ablate)]):
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

