# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1 · Bigrams: the zero-layer transformer
#
# A transformer with no layers has two matrices. One turns a token into a vector, the other turns
# the vector into a guess at the next token. Nothing moves between positions. It is the smallest
# language model of its family, and the part of every larger one that remains when you take the
# layers away.
#
# **After this chapter you can**
#
# - count what follows what in millions of tokens of Python, and say in nats how far that takes you;
# - prove that a zero-layer transformer is a bigram table, and read the table off its weights;
# - train one, watch it approach a floor that you computed beforehand, and measure what it missed;
# - say what `d_model` buys, and why no direction in the residual stream is special.
#
# **Time**: about 106 minutes, 90 of them for the exercises. **Needs**: Python, and a little PyTorch. **Follows**: *A Mathematical
# Framework for Transformer Circuits*, section "Zero-Layer Transformers".
#
# Run a cell with Shift+Enter. Each exercise is a function to complete, and the cell below it checks
# your answer: `check("name")`. `hint("name")` gives a nudge, `reveal("name")` an answer, and
# `progress()` shows the course map.

# %% tags=["setup"]
import math

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float, Int, Real
from torch import Tensor

from circuits import check, hint, progress, reveal
from utils import Config, Transformer

# %% [markdown]
# The text is the standard library of the Python that runs this notebook: every machine has it, and
# you can read it. A *token* is a piece of text from a fixed list of 2,048; `·` stands for a space
# and `↵` for a newline.

# %%
from circuits import interactive
from utils import load_corpus, load_curves, load_model
from utils.figures import plots
from utils.waiting import waiting

corpus = load_corpus()
shipped = load_model("zero_layer")
d_vocab = shipped.cfg.d_vocab
print(corpus)
print(
    " | ".join(plots.token_text(t) for t in shipped.to_str_tokens("def area(self):\n    return 0"))
)

# %% [markdown]
# ## Where this chapter ends
#
# Above: a zero-layer model learns, and flattens out. You will compute where, without training anything.
# Below: what it believes follows a few words, read off its two matrices without running it.

# %%
words = ["import", " in", " is", " not", " self", "return", " except", "else"]
ids = [shipped.to_tokens(word, prepend_bos=False)[0, 0].item() for word in words]
beliefs = (shipped.W_E[ids] @ shipped.W_U).softmax(-1)
columns = list(dict.fromkeys(i for row in beliefs for i in row.topk(3).indices.tolist()))

left, right = plots.axes(2, size=(6.2, 3.8))
curves = load_curves("zero_layer")
plots.lines(
    {"a sample of held-out text": (curves["step"], curves["heldout_loss"])},
    "A zero-layer transformer learns Python",
    "training step",
    "loss (nats per token)",
    levels={"knowing nothing, log 2048": math.log(d_vocab)},
    ax=left,
)
plots.matrix(
    beliefs[:, columns],
    words,
    [shipped.to_string(i) for i in columns],
    "What follows what, read off the weights",
    "next token",
    "token",
    "probability",
    ax=right,
);

# %% [markdown]
# ## Counting
#
# The simplest way to guess the next token is to remember what followed the present one before.
# A pair of neighbouring tokens is a *bigram*. For a text $t_0, t_1, \dots, t_{n-1}$ the table of counts is
#
# $$C[a, b] = \#\{\, i : t_i = a,\ t_{i+1} = b \,\} \qquad C \in \mathbb{N}^{d_\text{vocab} \times d_\text{vocab}}$$
#
# Row $a$ is the token we stand on, column $b$ the one that comes next. There are $n - 1$ pairs.

# %% [markdown]
# ### Exercise · count bigrams    ●○○   5 min
#
# Fill the table. The real text has millions of tokens, so a Python loop over them would take
# a minute or more; a tensor operation takes a blink.
#
# <details><summary>Hint 1</summary>
# The first tokens of all pairs are <code>tokens[:-1]</code>, the second ones <code>tokens[1:]</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>counts[a, b] += 1</code> with tensors a, b adds only once for a pair that occurs twice. Give
# each pair a single number, <code>a * d_vocab + b</code>, and count numbers.
# </details>
# <details><summary>Hint 3</summary>
# <code>torch.bincount(numbers, minlength=...)</code> counts; reshape what it returns.
# </details>

# %% exercise="bigram_counts"
def bigram_counts(tokens: Int[Tensor, "pos"], d_vocab: int) -> Int[Tensor, "d_vocab d_vocab"]:
    """counts[a, b] is how often token b directly follows token a."""
    ### BEGIN SOLUTION
    pairs = tokens[:-1] * d_vocab + tokens[1:]
    return torch.bincount(pairs, minlength=d_vocab**2).reshape(d_vocab, d_vocab)
    ### END SOLUTION

# %% check="bigram_counts"
check("bigram_counts")

# %%
counts = torch.as_tensor(bigram_counts(corpus.train, d_vocab))
print(f"{counts.sum():,} pairs; {(counts > 0).float().mean():.1%} of the cells are not empty.")

common = counts.sum(1).topk(24).indices
names = [shipped.to_string(i) for i in common]
plots.matrix(
    (counts[common][:, common] + 1).log10(),
    names,
    names,
    "The 24 most common tokens: who follows whom",
    "next token",
    "token",
    "log10(count + 1)",
);

# %% [markdown]
# **What to see here.** Dark rows: after a newline and its indentation only a few of these tokens can come.
# Columns with a single bright cell: `self` without a space comes after `(` and hardly after anything else. A
# symmetric picture would be a surprise: text has a direction.

# %% [markdown]
# ### Exercise · how much has not been seen?    ●●○   6 min
#
# Most cells are empty. Some of these pairs are impossible, others only did not happen to come. How large is the share of
# pairs in *new* text of the same kind that this table has never seen? It can be told from the table alone. Take one of its
# sightings away, and ask whether what is left knows the pair. Do that with every sighting in turn: the share of those that
# the rest does not know is the estimate. (I. J. Good published it in 1953, and says that Alan Turing had the idea.)
#
# <details><summary>Hint 1</summary>
# A pair was seen five times. Take one sighting away: the rest still knows the pair. For which counts does it not?
# </details>
# <details><summary>Hint 2</summary>
# For a count of exactly 1. So nothing need be taken away one by one: how many pairs have that count, and how many sightings are there?
# </details>

# %% exercise="unseen_share"
def unseen_share(counts: Int[Tensor, "d_vocab d_vocab"]) -> float:
    """The share of sightings whose pair the rest of the table does not know, from 0 to 1."""
    ### BEGIN SOLUTION
    return ((counts == 1).sum() / counts.sum()).item()
    ### END SOLUTION

# %% check="unseen_share"
check("unseen_share")

# %%
pairs = corpus.train[:-1] * d_vocab + corpus.train[1:]
every_tenth = torch.arange(len(pairs)) % 10 == 0
nine_tenths = torch.bincount(pairs[~every_tenth], minlength=d_vocab**2).reshape(d_vocab, d_vocab)
unseen = nine_tenths.flatten()[pairs[every_tenth]] == 0
unseen_heldout = counts[corpus.heldout[:-1], corpus.heldout[1:]] == 0
for what, share in (
    ("nine tenths of the pairs: estimate for the others", float(unseen_share(nine_tenths))),
    ("the others: not among the nine tenths", unseen.float().mean().item()),
    ("all pairs: estimate for new ones", float(unseen_share(counts))),
    ("held-out files: not in the table", unseen_heldout.float().mean().item()),
    ("cells of the table that are empty", (counts == 0).float().mean().item()),
):
    print(f"{what:<52} {share:.2%}")

# %% [markdown]
# **What to see here.** Nearly all cells are empty, and nearly all pairs of new text fall on the few that are not. The first two
# lines are the test: every tenth pair was left out, the estimate was made without it, and as many of those pairs are new as it
# said. Held-out *files* bring more that is new than the estimate from all pairs. It takes for granted that new text is drawn like
# the old, and another file has names of its own. This small share is what the next exercise has to leave room for.

# %% [markdown]
# ## From counts to probabilities
#
# Divide a row by its sum and you have a distribution over the next token. But a pair that never
# occurred would get probability 0, and the first time it does occur, a loss of $-\log 0 = \infty$.
# So pretend that every pair was seen $\alpha$ times more than it was (*additive smoothing*):
#
# $$\log P(b \mid a) = \log \frac{C[a, b] + \alpha}{\sum_{b'} \left(C[a, b'] + \alpha\right)}$$
#
# We keep logarithms: they add where probabilities multiply, and a model's output is in logs, too.

# %% [markdown]
# ### Exercise · log-probabilities    ●○○   5 min
#
# Turn a table of counts into a table of smoothed log-probabilities.
#
# <details><summary>Hint 1</summary>
# Which index runs over the <i>next</i> token? That is the one whose probabilities sum to one.
# </details>
# <details><summary>Hint 2</summary>
# <code>smoothed.sum(dim=-1, keepdim=True)</code> keeps the shape, so that each row is divided by its own sum.
# </details>

# %% exercise="bigram_log_probs"
def bigram_log_probs(
    counts: Int[Tensor, "d_vocab d_vocab"], alpha: float
) -> Float[Tensor, "d_vocab d_vocab"]:
    """log P(next = b | token = a) in entry [a, b] (natural logarithm), alpha added to each
    count."""
    ### BEGIN SOLUTION
    smoothed = counts + alpha
    return (smoothed / smoothed.sum(dim=-1, keepdim=True)).log()
    ### END SOLUTION

# %% check="bigram_log_probs"
check("bigram_log_probs")

# %% [markdown]
# ## The floor
#
# How well can a model do that sees only the present token? Suppose it knew $P(b \mid a)$ exactly.
# It still does not know *which* $b$ comes. What is left is the *conditional entropy*, in nats
# (natural logarithms; 1 nat is 1.44 bits):
#
# $$H = -\sum_{a} P(a) \sum_b P(b \mid a) \log P(b \mid a)$$
#
# with all probabilities taken from the counts: $P(a)$ is the share of pairs that start with $a$. No function of the present token alone has a lower
# average loss on that text, whatever its size: not a bigram table, not a zero-layer transformer.

# %% [markdown]
# ### Exercise · conditional entropy    ●●○   7 min
#
# Take care of empty cells: $0 \log 0$ counts as 0.
#
# <details><summary>Hint 1</summary>
# P(a) P(b|a) is the probability of the pair: its count over the number of all pairs.
# </details>
# <details><summary>Hint 2</summary>
# <code>torch.xlogy(x, y)</code> is x log y, and 0 where x is 0. Empty rows divide 0 by 0: clamp the
# row sums to at least 1.
# </details>

# %% exercise="conditional_entropy"
def conditional_entropy(counts: Int[Tensor, "d_vocab d_vocab"]) -> Float[Tensor, ""]:
    """Mean uncertainty about the next token once the present one is known, in nats."""
    ### BEGIN SOLUTION
    p_pair = counts / counts.sum()
    p_next = counts / counts.sum(dim=-1, keepdim=True).clamp(min=1)
    return -torch.xlogy(p_pair, p_next).sum()
    ### END SOLUTION

# %% check="conditional_entropy"
check("conditional_entropy")

# %% [markdown]
# ### Exercise · the loss of a table    ●○○   4 min
#
# The floor holds on the text that was counted. On new text a table pays for pairs it has not seen.
# Its *cross-entropy* is the mean of $-\log P(t_{i+1} \mid t_i)$ over all pairs of the new text.
#
# <details><summary>Hint 1</summary>
# Indexing a table with two tensors looks up many cells at once: <code>log_probs[a, b]</code>.
# </details>
# <details><summary>Hint 2</summary>
# a is every token but the last, b every token but the first. Average over the pairs, not the tokens.
# </details>

# %% exercise="cross_entropy_of_table"
def cross_entropy_of_table(
    log_probs: Float[Tensor, "d_vocab d_vocab"], tokens: Int[Tensor, "pos"]
) -> Float[Tensor, ""]:
    """Mean loss of predicting each next token of a text with the table, in nats per token."""
    ### BEGIN SOLUTION
    return -log_probs[tokens[:-1], tokens[1:]].mean()
    ### END SOLUTION

# %% check="cross_entropy_of_table"
check("cross_entropy_of_table")

# %%
floor = float(conditional_entropy(counts))
alphas = [3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003]
tables = {alpha: bigram_log_probs(counts, alpha) for alpha in alphas}
heldout = {
    alpha: float(cross_entropy_of_table(table, corpus.heldout)) for alpha, table in tables.items()
}
trained_on = {
    alpha: float(cross_entropy_of_table(table, corpus.train)) for alpha, table in tables.items()
}
best_alpha = min(heldout, key=heldout.get)
bigram_loss = heldout[best_alpha]
counted = tables[best_alpha]

plots.lines(
    {
        "held-out text": (alphas, list(heldout.values())),
        "the text that was counted": (alphas, list(trained_on.values())),
    },
    "How much to smooth",
    "alpha (imagined extra counts of every pair)",
    "cross-entropy (nats per token)",
    levels={"conditional entropy": floor},
    logx=True,
    markers=True,
)
print(f"Best on held-out text: alpha = {best_alpha}, {bigram_loss:.3f} nats per token.")
i = alphas.index(best_alpha)
for alpha in (alphas[i - 1], alphas[i + 1]):
    print(
        f"alpha = {alpha}, about a factor of three away, costs {heldout[alpha] - bigram_loss:.3f} "
        "more."
    )

# %% [markdown]
# **What to see here.** On the counted text less smoothing is always better, and the dashed floor is
# never crossed. On held-out text there is a best $\alpha$: too little believes the counts too much,
# too much forgets them. Near the best the curve is flat to one side and not to the other. Remember what a factor of three
# costs there: a trained model will differ from the table by no more than that, so *which* table it is compared with matters.
# The best loss is the one to compare with in the rest of this chapter: `bigram_loss`. It is not a floor. Only `floor` is one,
# and only for the text that was counted.
#
# We chose $\alpha$ by looking at the held-out text. That flatters the table a little, which is the fair way round: it
# makes things harder for the model.

# %% [markdown]
# ## Two matrices
#
# Now the transformer. With no layers it is an *embedding* $W_E$ `[d_vocab d_model]`, which gives
# each token a vector of length $d_\text{model}$, and an *unembedding* $W_U$ `[d_model d_vocab]`, which
# turns a vector into one score per possible next token. The scores are called *logits*; softmax
# makes probabilities of them. A token is a one-hot row $e_t$, so
#
# $$\text{logits} = e_t\, W_E\, W_U$$
#
# The vector in the middle is the *residual stream*. In later chapters layers read from it and add to
# it. Here nothing does.

# %% [markdown]
# ### Exercise · the whole model    ●○○   4 min
#
# Multiplying by a one-hot row only picks a row: do that, instead of building one-hot vectors.
#
# <details><summary>Hint 1</summary>
# <code>W_E[tokens]</code> looks up a vector for every token, whatever the shape of <code>tokens</code>.
# </details>
# <details><summary>Hint 2</summary>
# Then one matrix product, <code>@ W_U</code>. No softmax: logits are what comes before it.
# </details>

# %% exercise="zero_layer_logits"
def zero_layer_logits(
    W_E: Float[Tensor, "d_vocab d_model"],
    W_U: Float[Tensor, "d_model d_vocab"],
    tokens: Int[Tensor, "batch pos"],
) -> Float[Tensor, "batch pos d_vocab"]:
    """Logits for the next token at every position of every sequence."""
    ### BEGIN SOLUTION
    return W_E[tokens] @ W_U
    ### END SOLUTION

# %% check="zero_layer_logits"
check("zero_layer_logits")

# %% [markdown]
# ### Exercise · predict: which positions matter?    ●○○   2 min
#
# Commit before you look. The model reads tokens at positions 0, 1, …, `pos` and predicts what comes
# after `pos`. Change the token at one of these positions. For which of them does the prediction at
# `pos` change? Return the list of these positions, for any `pos`.
#
# <details><summary>Hint 1</summary>
# Look at your <code>zero_layer_logits</code>. Does any operation combine two positions?
# </details>
# <details><summary>Hint 2</summary>
# The prediction at <code>pos</code> is made from one row of <code>W_E</code>. Which one?
# </details>

# %% exercise="positions_that_matter"
def positions_that_matter(pos: int) -> list[int]:
    """The positions among 0, ..., pos whose token changes a zero-layer model's prediction at
    pos."""
    ### BEGIN SOLUTION
    return [pos]
    ### END SOLUTION

# %% check="positions_that_matter"
check("positions_that_matter")

# %%
sentence = shipped.to_tokens("for name in names:\n    print(name)", prepend_bos=False)
before = shipped(sentence)[0, -1]
effect = []
for position in range(sentence.shape[1]):
    changed = sentence.clone()
    changed[0, position] = (changed[0, position] + 1) % d_vocab
    effect.append((shipped(changed)[0, -1] - before).abs().max().item())
print("Changing one token moves the last position's logits by at most")
for token, moved in zip(shipped.to_str_tokens(sentence[0]), effect, strict=True):
    print(f"  {plots.token_text(token):>8}  {moved:.2f}")

# %% [markdown]
# ## The direct path
#
# The logits after token $a$ are row $a$ of one matrix. It depends on the weights alone:
#
# $$T = W_E W_U \qquad T \in \mathbb{R}^{d_\text{vocab} \times d_\text{vocab}}$$
#
# This is the *direct path*: token in, logits out, nothing in between. Every transformer has it, beside
# all that its layers add. Softmax of each row of $T$ is a distribution over the next token given the
# present one. So a zero-layer transformer *is* a bigram table. There is nothing else it can be.

# %% [markdown]
# ### Exercise · the direct path    ●○○   2 min
#
# Compute $T$ from the two matrices.
#
# <details><summary>Hint 1</summary>
# Which order of the two factors gives shape <code>[d_vocab d_vocab]</code>, and in it, which index
# is the token we stand on?
# </details>
# <details><summary>Hint 2</summary>
# Row <code>a</code> must be <code>W_E[a] @ W_U</code>. Do all rows at once.
# </details>

# %% exercise="direct_path"
def direct_path(
    W_E: Float[Tensor, "d_vocab d_model"], W_U: Float[Tensor, "d_model d_vocab"]
) -> Float[Tensor, "d_vocab d_vocab"]:
    """Entry [a, b] is the logit of next token b when standing on token a."""
    ### BEGIN SOLUTION
    return W_E @ W_U
    ### END SOLUTION

# %% check="direct_path"
check("direct_path")

# %% [markdown]
# ### Exercise · the likeliest next tokens    ●○○   4 min
#
# Read the model's mind: the `k` tokens that it holds most probable after a given one, likeliest first.
#
# <details><summary>Hint 1</summary>
# Softmax does not change the order, so logits are enough.
# </details>
# <details><summary>Hint 2</summary>
# Run the model on the single token, <code>model(torch.tensor([[token]]))</code>, or use a row of the
# direct path; then <code>topk</code>.
# </details>

# %% exercise="top_next"
def top_next(model: Transformer, token: int, k: int) -> list[int]:
    """The k tokens that a zero-layer model finds most probable after `token`, likeliest first."""
    ### BEGIN SOLUTION
    logits = model(torch.tensor([[token]]))[0, -1]
    return logits.topk(k).indices.tolist()
    ### END SOLUTION

# %% check="top_next"
check("top_next")

# %%
print("after        the trained model expects")
for word in [" import", "def", " self", " lambda", " not", "(\"", "try", " raise", "__"]:
    token = shipped.to_tokens(word, prepend_bos=False)[0, 0].item()
    expected = [plots.token_text(shipped.to_string(i)) for i in top_next(shipped, token, 7)]
    print(f"{plots.token_text(shipped.to_string(token)):<12} {'  '.join(expected)}")

# %% [markdown]
# **What to see here.** Python, one step at a time. A surprise would be anything that needs two steps:
# the model cannot know whether a bracket is open.

# %% [markdown]
# ## Training
#
# Nobody told that model about bigrams. It was shown text, and its weights were moved to lower the loss:
# the mean over all positions of $-\log P(\text{the token that came next})$, in nats per token. If our claim
# is right, training can only drive a zero-layer model towards the bigram table, and on its training text
# it cannot get below `floor`.

# %% [markdown]
# ### Exercise · one step of training    ●●○   8 min
#
# Logits at position $i$ predict token $i + 1$. The last position has no target, the first token is
# nobody's target. `optimizer` is any of `torch.optim`'s, already set up for the model's parameters.
#
# <details><summary>Hint 1</summary>
# <code>logits[:, :-1]</code> predict <code>tokens[:, 1:]</code>.
# </details>
# <details><summary>Hint 2</summary>
# <code>F.cross_entropy</code> wants logits <code>[n d_vocab]</code> and targets <code>[n]</code>:
# flatten batch and position together (<code>rearrange(x, "batch pos vocab -> (batch pos) vocab")</code>).
# </details>
# <details><summary>Hint 3</summary>
# Gradients add up from call to call until you clear them: <code>optimizer.zero_grad()</code>, then
# <code>loss.backward()</code>, then <code>optimizer.step()</code>.
# </details>

# %% exercise="train_step"
def train_step(
    model: Transformer, tokens: Int[Tensor, "batch pos"], optimizer: torch.optim.Optimizer
) -> float:
    """Take one step that lowers the loss on `tokens`; return the loss before it (nats per
    token)."""
    ### BEGIN SOLUTION
    logits = model(tokens)
    loss = F.cross_entropy(
        rearrange(logits[:, :-1], "batch pos vocab -> (batch pos) vocab"),
        rearrange(tokens[:, 1:], "batch pos -> (batch pos)"),
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
    ### END SOLUTION

# %% check="train_step"
check("train_step")

# %% [markdown]
# Now train one, live, with your `train_step`: 64 dimensions, random start. You may interrupt it (the ■ button):
# what it has learned stays, and the chapter goes on with that.

# %%
def train_live(d_model: int, steps: int, title: str) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(Config(d_vocab=d_vocab, d_model=d_model), shipped.tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    curve = interactive.LiveCurve(
        title,
        "training loss (nats per token)",
        levels={"counted table, held-out": bigram_loss, "floor of the training text": floor},
        frame=(0, steps, math.floor(floor), 9),  # the same for models that are to be compared
    )
    try:
        for step in waiting(range(steps), title):
            curve.add(step, float(train_step(model, corpus.batch(step), optimizer)))
            schedule.step()
    except KeyboardInterrupt:
        print(f"Stopped after {len(curve.y)} steps; what was learned stays. Go on below.")
    curve.close()
    return model


mine = train_live(d_model=64, steps=600, title="A zero-layer transformer, d_model = 64")

# %% [markdown]
# **What to see here.** The loss starts at $\log 2048 = 7.62$ (or a little above: a random start is
# not quite uniform), falls fast while the model learns which tokens are common, then slowly as it
# learns what follows what. Single batches jump about, as some pieces of text are easier than others. A running
# mean that stays below the dotted floor would be a surprise, and a refutation of this chapter.

# %%
def heldout_loss(model: Transformer) -> float:
    table = direct_path(model.W_E, model.W_U).log_softmax(-1).detach()
    return float(cross_entropy_of_table(table, corpus.heldout))


print(f"counted table, smoothed   {bigram_loss:.3f} nats per token on held-out text")
print(f"shipped, d_model = 256    {heldout_loss(shipped):.3f}")
print(f"yours,   d_model = 64     {heldout_loss(mine):.3f}")
print(f"shipped minus table       {heldout_loss(shipped) - bigram_loss:+.3f}")
print(
    f"table with alpha = {alphas[i - 1]} minus table with the best alpha   "
    f"{heldout[alphas[i - 1]] - bigram_loss:+.3f}"
)

# %% [markdown]
# ## How far apart are two tables?
#
# Equal losses do not prove equal tables. To compare two distributions $p$ and $q$, ask how many nats
# you lose by believing $q$ when $p$ is true: the *Kullback-Leibler divergence*. For tables, average
# over the token we stand on, with weights $w_a$ that sum to one (how often $a$ occurs):
#
# $$\mathrm{KL} = \sum_a w_a \sum_b p(b \mid a)\,\big(\log p(b \mid a) - \log q(b \mid a)\big)$$
#
# It is 0 exactly where the two agree, and it is not symmetric.

# %% [markdown]
# ### Exercise · mean KL divergence    ●●○   5 min
#
# Compute the formula for two tables of log-probabilities.
#
# <details><summary>Hint 1</summary>
# You are given logarithms. <code>log_p.exp()</code> is p.
# </details>
# <details><summary>Hint 2</summary>
# Sum over b first: one number per row. Then the weighted sum of the rows.
# </details>

# %% exercise="mean_kl"
def mean_kl(
    log_p: Float[Tensor, "d_vocab d_vocab"],
    log_q: Float[Tensor, "d_vocab d_vocab"],
    weights: Float[Tensor, "d_vocab"],
) -> Float[Tensor, ""]:
    """KL(p || q) of each row, averaged with weights that sum to one, in nats."""
    ### BEGIN SOLUTION
    kl = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
    return (weights * kl).sum()
    ### END SOLUTION

# %% check="mean_kl"
check("mean_kl")

# %%
frequency = counts.sum(1) / counts.sum()


def learned(model: Transformer) -> Tensor:
    """The bigram table that a zero-layer model has learned, as log-probabilities."""
    return direct_path(model.W_E, model.W_U).log_softmax(-1).detach()


uniform = torch.full((d_vocab, d_vocab), -math.log(d_vocab))
for name, table in [
    ("knowing nothing", uniform), ("yours", learned(mine)), ("shipped", learned(shipped))
]:
    print(
        f"KL from the counted table to {name:<16} {float(mean_kl(counted, table, frequency)):.3f} "
        "nats"
    )

# %% [markdown]
# ## What does d_model buy?
#
# $T = W_E W_U$ passes through $d_\text{model}$ dimensions, so its rank is at most $d_\text{model}$.
# The counted table has 2,048 rows, and no small number of dimensions holds it. A zero-layer model must
# squeeze it.
#
# What is the best squeeze? One answer is classical. Among all matrices $M$ of rank $k$, which is
# closest to a table $L$ in squared error, each row weighted by $w_a \ge 0$?
#
# $$\min_{\operatorname{rank} M \le k} \; \sum_a w_a \sum_b \left(L[a,b] - M[a,b]\right)^2$$
#
# Without weights it is the truncated singular value decomposition (Eckart and Young, 1936). With them,
# scale the rows first and scale back afterwards.

# %% [markdown]
# ### Exercise · the best table of rank k    ●●●   10 min
#
# Some tokens may never occur: their weight is 0, and their row of $M$ may be anything finite.
#
# <details><summary>Hint 1</summary>
# w (L - M)² = (√w L - √w M)². What is the best rank-k approximation of √w L?
# </details>
# <details><summary>Hint 2</summary>
# <code>U, S, Vh = torch.linalg.svd(A, full_matrices=False)</code>; keep the first k columns of U, the first k of
# S, the first k rows of Vh. S comes sorted, largest first.
# </details>
# <details><summary>Hint 3</summary>
# Dividing by √w undoes the scaling; where w is 0 that is 0 / 0. Clamp the weights to something tiny first.
# </details>

# %% exercise="best_rank_k"
def best_rank_k(
    log_probs: Float[Tensor, "d_vocab d_vocab"], weights: Float[Tensor, "d_vocab"], k: int
) -> Float[Tensor, "d_vocab d_vocab"]:
    """The matrix of rank at most k that is closest to `log_probs`, rows weighted by `weights`."""
    ### BEGIN SOLUTION
    scale = weights.clamp(min=1e-8).sqrt()[:, None]
    U, S, Vh = torch.linalg.svd(scale * log_probs, full_matrices=False)
    return (U[:, :k] * S[:k]) @ Vh[:k] / scale
    ### END SOLUTION

# %% check="best_rank_k"
check("best_rank_k")

# %% [markdown]
# Two narrower models are trained for comparison, a few seconds each.

# %%
narrow = {d: train_live(d, steps=250, title=f"d_model = {d}") for d in (4, 16)}
trained = narrow | {64: mine, 256: shipped}
truncated = {k: best_rank_k(counted, frequency, k).log_softmax(-1) for k in (4, 16, 64, 256)}

left, right = plots.axes(2)
plots.lines(
    {
        "trained, d_model = k": (list(trained), [heldout_loss(m) for m in trained.values()]),
        "truncated to rank k": (
            list(truncated),
            [float(cross_entropy_of_table(t, corpus.heldout)) for t in truncated.values()],
        ),
    },
    "Loss on held-out text",
    "k (dimensions)",
    "nats per token",
    levels={"counted table": bigram_loss},
    logx=True,
    markers=True,
    ax=left,
)
kl_trained = [float(mean_kl(counted, learned(m), frequency)) for m in trained.values()]
kl_truncated = [float(mean_kl(counted, t, frequency)) for t in truncated.values()]
plots.lines(
    {
        "trained, d_model = k": (list(trained), kl_trained),
        "truncated to rank k": (list(truncated), kl_truncated),
    },
    "KL from the counted table",
    "k (dimensions)",
    "nats",
    logx=True,
    markers=True,
    ax=right,
);

# %% [markdown]
# **What to see here.** More dimensions, less KL: on both curves. Training beats the "best"
# approximation by far, with the same rank. No contradiction: squared error in log-probabilities spends
# effort on pairs that never occur, while the loss asks only for the probability of what does. (The narrow models
# were trained for seconds, the widest for many minutes: part of the slope is patience.)

# %% [markdown]
# ## No direction is special
#
# Turn the residual stream: take any orthogonal matrix $R$ (one with $R R^\top = I$: a rotation, perhaps
# with a reflection) and replace every
# residual vector $x$ by $xR$. Whoever writes to the stream must now write rotated vectors, and
# whoever reads must first turn them back:
#
# $$W_E' = W_E R \qquad W_U' = R^\top W_U \qquad W_E' W_U' = W_E R R^\top W_U = W_E W_U$$
#
# The weights look nothing like before. The model computes exactly the same. So "dimension 17 of the
# residual stream" means nothing by itself: the stream has *no privileged basis*. Look at products
# of matrices, such as the direct path; they do not depend on the choice.

# %% [markdown]
# ### Exercise · rotate the residual stream    ●●○   6 min
#
# Return a *new* zero-layer model; leave the one you were given as it was.
#
# <details><summary>Hint 1</summary>
# <code>copy.deepcopy(model)</code> gives a model to change. (<code>import copy</code> inside the function.)
# </details>
# <details><summary>Hint 2</summary>
# Weights cannot be assigned (<code>new.W_E = ...</code> raises); they are changed in place, inside
# <code>with torch.no_grad():</code>, by <code>new.W_E.copy_(...)</code>. The unembedding turns the vector back before it reads it.
# </details>

# %% exercise="rotate_residual"
def rotate_residual(model: Transformer, R: Float[Tensor, "d_model d_model"]) -> Transformer:
    """A zero-layer model with the same logits, whose residual vectors are x @ R instead of x."""
    ### BEGIN SOLUTION
    rotated = Transformer(model.cfg, model.tokenizer)
    with torch.no_grad():
        rotated.W_E.copy_(model.W_E @ R)
        rotated.W_U.copy_(R.T @ model.W_U)
    return rotated
    ### END SOLUTION

# %% check="rotate_residual"
check("rotate_residual")

# %%
R = torch.linalg.qr(torch.randn(256, 256, generator=torch.Generator().manual_seed(0)))[0]
turned = rotate_residual(shipped, R)
shown = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
left, right = plots.axes(2, size=(5.6, 3.4))
for ax, model, title in [(left, shipped, "As trained"), (right, turned, "Rotated")]:
    plots.matrix(
        model.W_E[ids][:, shown], words, [str(d) for d in shown],
        f"{title}: first 12 of 256 dimensions", "dimension of the residual stream", "token", "W_E",
        ax=ax,
    )
difference = (shipped(sentence) - turned(sentence)).abs().max()
print(f"Largest difference between the two models' logits: {difference:.1e}")


def kurtosis(x: Tensor) -> float:
    """0 for a normal distribution; positive when a few entries are large and most are small."""
    z = (x - x.mean()) / x.std()
    return ((z**4).mean() - 3).item()


for name in ("W_E", "W_U"):
    values = [kurtosis(getattr(model, name)) for model in (shipped, turned)]
    print(f"Excess kurtosis of {name}: as trained {values[0]:.1f}, rotated {values[1]:.1f}")

# %% [markdown]
# **What to see here.** Different numbers, the same model. Yet the trained weights are more uneven than the
# rotated ones (their kurtosis is higher). A likely reason is the optimizer: Adam scales its steps coordinate by
# coordinate, and that leaves a trace in the weights. What the model *computes* knows nothing of it.

# %% [markdown]
# ## Let it write
#
# To write text, a model predicts, a token is drawn from the prediction, and the token is appended.
# Then again. A *temperature* $\tau$ divides the logits before the softmax: below 1 it sharpens the
# distribution, above 1 it flattens it.
#
# $$P(b) \propto \exp\left(\text{logits}[b] / \tau\right)$$

# %% [markdown]
# ### Exercise · sample    ●●○   6 min
#
# Draw every random number from `generator`, so that the same seed writes the same text.
#
# <details><summary>Hint 1</summary>
# In a loop: logits at the last position, divided by the temperature, softmax, draw, append.
# </details>
# <details><summary>Hint 2</summary>
# <code>torch.multinomial(probs, 1, generator=generator)</code> draws one index; <code>torch.cat</code> appends it.
# </details>

# %% exercise="sample"
def sample(
    model: Transformer,
    prompt: Int[Tensor, "pos"],
    n: int,
    temperature: float,
    generator: torch.Generator,
) -> Int[Tensor, "pos+n"]:
    """The prompt, followed by n tokens drawn one after the other from the model's predictions."""
    ### BEGIN SOLUTION
    tokens = prompt
    for _ in range(n):
        logits = model(tokens[None])[0, -1]
        probs = (logits / temperature).softmax(-1)
        tokens = torch.cat([tokens, torch.multinomial(probs, 1, generator=generator)])
    return tokens
    ### END SOLUTION

# %% check="sample"
check("sample")

# %%
prompt = shipped.to_tokens("    def test", prepend_bos=False)[0]
for temperature in (0.5, 1.0):
    written = sample(shipped, prompt, 60, temperature, torch.Generator().manual_seed(0))
    print(f"--- temperature {temperature}\n{shipped.to_string(written)}\n")

# %% [markdown]
# **What to see here.** Each token fits the one before it, and the thread is lost after that: brackets close that
# nothing opened, names begin as one word and end as another. That is what a bigram model sounds like, and what
# layers will have to repair.

# %% [markdown]
# ## Where the model is wrong
#
# The mean KL is small. Is it small for every token? Take the shipped model and the plain frequencies
# $\hat p(b \mid a) = C[a,b] / \sum_{b'} C[a,b']$, without smoothing, and look at single rows:
#
# $$\mathrm{KL}_a = \sum_b \hat p(b \mid a) \big(\log \hat p(b \mid a) - \log q(b \mid a)\big)$$

# %% [markdown]
# ### Exercise · find the tokens it has learned worst    ●●○   8 min
#
# Return the `k` tokens with the largest $\mathrm{KL}_a$, in any order, among those that occur at all (a token
# without a single successor in the counts has no $\hat p$). Pairs that never occur add 0.
#
# <details><summary>Hint 1</summary>
# Row by row, this is the KL of <code>mean_kl</code> before the average. <code>torch.xlogy(p, p)</code> is p log p, and
# 0 where p is 0.
# </details>
# <details><summary>Hint 2</summary>
# q comes from the direct path by <code>log_softmax(-1)</code>. Give tokens that never occur a KL of
# <code>-inf</code> before <code>topk</code>.
# </details>

# %% exercise="furthest_tokens"
def furthest_tokens(
    model: Transformer, counts: Int[Tensor, "d_vocab d_vocab"], k: int
) -> list[int]:
    """The k tokens, among those that occur, whose learned successors are furthest from the
    counted."""
    ### BEGIN SOLUTION
    n = counts.sum(dim=-1)
    p = counts / n.clamp(min=1)[:, None]
    log_q = (model.W_E @ model.W_U).log_softmax(-1)
    kl = (torch.xlogy(p, p) - p * log_q).sum(dim=-1)
    kl[n == 0] = -torch.inf
    return kl.topk(k).indices.tolist()
    ### END SOLUTION

# %% check="furthest_tokens"
check("furthest_tokens")

# %%
times = counts.sum(1)
p = counts / times.clamp(min=1)[:, None]
kl_by_token = (torch.xlogy(p, p) - p * learned(shipped)).sum(-1)


def worst_first(tokens: list[int]) -> list[int]:
    return sorted(map(int, tokens), key=lambda token: -kl_by_token[token])


worst = worst_first(furthest_tokens(shipped, counts, 8))
by_distance = worst_first((times > 0).nonzero()[:, 0].tolist())
readable = [i for i in by_distance if "\ufffd" not in shipped.to_string(i)]
print("learned worst   occurs   follows it most often")
for token in [*worst, *readable[:8], *readable[-8:]]:
    if token == readable[0]:
        print("... among whole characters")
    if token == readable[-8]:
        print("... learned best")
    successors = counts[token].argsort(descending=True)[:5].tolist()
    after = [plots.token_name(shipped, i) for i in successors if counts[token, i] > 0]
    print(f"{plots.token_name(shipped, token):>13} {times[token]:>8,}   {'  '.join(after)}")
often = max(readable[:8], key=lambda token: times[token])
seldom = min(readable[-8:], key=lambda token: times[token])
print(
    f"\nAgainst the rule: {plots.token_name(shipped, often)}, seen {times[often]} times, is among "
    "the worst;"
      f" {plots.token_name(shipped, seldom)}, seen {times[seldom]} times, among the best.")

# %% [markdown]
# ### Exercise · find out why    ●●○   8 min
#
# What do these tokens have in common? Not everything fits: the last line names one token that you would expect to be known well
# and is not, and one that is known better than it should be. What is different about them? Make your explanation a prediction: **from the counts alone**, without
# a model, give every token a score that is higher the worse you expect a trained model to know it.
# The check trains small models on fresh text, without strange characters, and compares the order of your scores with
# the order of the measured $\mathrm{KL}_a$. Tokens that never occur are left out; give them any score.
#
# <details><summary>Hint 1</summary>
# The worst tokens above are pieces of unusual characters (a byte such as <code>\xe2</code>). What do they share with
# the worst whole characters, and not with the best?
# </details>
# <details><summary>Hint 2</summary>
# The gradient reaches a row of the table only when its token comes up.
# </details>
# <details><summary>Hint 3</summary>
# Any function that falls as the token becomes more frequent will do. A row's sum is how often its token occurs. (You can do
# better: how many <i>different</i> successors does it have?)
# </details>

# %% exercise="predict_distance"
def predict_distance(counts: Int[Tensor, "d_vocab d_vocab"]) -> Real[Tensor, "d_vocab"]:
    """A score per token, from the counts alone: the higher, the further off a trained model will
    be."""
    ### BEGIN SOLUTION
    return -counts.sum(dim=-1).float()
    ### END SOLUTION

# %% check="predict_distance"
check("predict_distance")

# %%
seen = (times > 0).nonzero()[:, 0].tolist()
different = (counts > 0).sum(1)  # how many different tokens follow
explanations = {
    "how often the token occurs": times.float(),
    "how many different tokens follow it": different.float(),
    "different successors per occurrence": different / times.clamp(min=1),
}
labels = {
    seen.index(i): plots.token_name(shipped, i)
    for i in (worst[0], readable[0], often, seldom, readable[-1])
}
panels = plots.axes(2, size=(5.6, 3.6))
for ax, what in zip(panels, ("how often the token occurs", "different successors per occurrence")):
    plots.points(
        explanations[what][seen], kl_by_token[seen], what.capitalize(), what,
        "KL from counted to learned (nats)", labels=labels, logx=True, ax=ax,
    )  # fmt: skip


def ranks(x: Tensor) -> Tensor:
    return x[seen].float().argsort().argsort().float()


for what, x in explanations.items():
    print(
        "Rank correlation with KL: "
        f"{torch.corrcoef(torch.stack([ranks(x), ranks(kl_by_token)]))[0, 1]:+.2f}   {what}"
    )

# %% [markdown]
# **What to see here.** Above, a cloud that falls to the right: rare tokens are learned badly, and the two exceptions lie far
# outside it. Below, they fall into line. What counts is how much there is to learn from how many sightings. A token that is
# always followed by the same one is learned from few; one with a new successor at every other sighting is not learned from
# hundreds. (The number of successors alone says next to nothing.) And for such a token the *counts* are mostly chance, too: ten
# sightings tell little about a hundred possible successors. Being far from those counts is not always wrong.

# %% [markdown]
# ## What you have shown
#
# | claim | where it is from | what to compare |
# |---|---|---|
# | A zero-layer model can only be a bigram table | *A Mathematical Framework*, "Zero-Layer Transformers" | only the present token moves the logits |
# | Training drives $W_E W_U$ to the bigram log-likelihood (up to a constant per row) | the same | held-out loss, KL to the counted table |
# | Its rank is limited by $d_\text{model}$ | the same; "residual stream" | KL falls as $d_\text{model}$ grows |
# | The residual stream has no privileged basis | "Virtual Weights and the Residual Stream" | rotated model, same logits |

# %%
others = max(effect[:-1])
rows = [
    ("Moving any earlier token moves the logits by", f"{others:.1e}", "shipped"),
    ("Moving the present token moves them by", f"{effect[-1]:.2f}", "shipped"),
    (
        "Held-out loss, counted table (nats per token)", f"{bigram_loss:.3f}",
        f"alpha = {best_alpha}"
    ),
    ("Held-out loss, trained", f"{heldout_loss(shipped):.3f}", "shipped"),
    ("Trained minus counted", f"{heldout_loss(shipped) - bigram_loss:+.3f}", "shipped"),
    ("Floor on the training text (conditional entropy)", f"{floor:.3f}", "any model of one token"),
    (
        "KL from counted to trained, by d_model", "  ".join(f"{kl:.2f}" for kl in kl_trained),
        "d_model 4, 16, 64, 256"
    ),
    ("Rotating the residual stream moves the logits by", f"{difference:.1e}", "shipped"),
]
for what, measured, model in rows:
    print(f"{what:<50} {measured:>24}   {model}")

# %% [markdown]
# **Read on.** Nelson Elhage and others, *A Mathematical Framework for Transformer Circuits* (2021),
# "Zero-Layer Transformers" and "Virtual Weights and the Residual Stream as a Communication Channel".
# Claude Shannon, *Prediction and Entropy of Printed English* (1951), measured the same floor, for
# letters, with people as the model. I. J. Good, *The Population Frequencies of Species and the Estimation of Population
# Parameters* (1953), on what has not been seen.
#
# **Next**: what one attention layer adds. A token will be able to look back.

# %%
progress()
