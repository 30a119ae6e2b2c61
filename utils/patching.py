"""Exact activation patching, fast.

Chapter 4 patches one activation at a time and runs the whole model for each. `sweep` gives the
same numbers without the work that a patch cannot change:

1. Layers below the patch, and the other heads of its layer, are taken from the corrupted run.
2. Queries, keys and values are linear in what the attention reads: only the *change* of it goes
   through the weights. (Behind a LayerNorm that change is worked out from the stream before and after,
   and MLPs are run anew, at the positions that moved.)
3. A token is never seen from before it: what is patched at a position leaves earlier ones alone.
4. Only what the metric reads is computed in the last layer and the unembedding: for `LogitDiff`
   at the last position that is one query per head and one direction per prompt, for
   `CrossEntropy` the logits of the positions that moved.

What is left is done for many patches at once. Nothing is approximated.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from utils.model import Transformer, get_act_name


@dataclass(frozen=True, eq=False)
class LogitDiff:
    """A metric: the logit of the right token minus that of the wrong one, averaged over prompts.

    >>> metric = LogitDiff(right, wrong)    # one token per prompt, [batch]
    >>> metric(model(tokens))               # a number, at the last position; has a gradient

    With `[batch pos]` tokens it reads every position and takes the mean over these too.
    """

    right: Int[Tensor, "batch"] | Int[Tensor, "batch pos"]
    wrong: Int[Tensor, "batch"] | Int[Tensor, "batch pos"]

    def each(self, logits: Float[Tensor, "batch pos d_vocab"]) -> Float[Tensor, "batch"]:
        """The difference of every prompt. Raises ValueError for tokens that do not fit the logits."""
        expected = logits.shape[: self.right.ndim]
        if self.right.shape != expected or self.wrong.shape != expected:
            raise ValueError(
                f"Logits of shape {list(logits.shape)} need right and wrong tokens [batch] or "
                f"[batch pos]; got {list(self.right.shape)} and {list(self.wrong.shape)}."
            )
        if self.right.ndim == 1:
            logits = logits[:, -1]
        right, wrong = (logits.gather(-1, t[..., None])[..., 0] for t in (self.right, self.wrong))
        return (right - wrong).reshape(len(logits), -1).mean(-1)

    def __call__(self, logits: Float[Tensor, "batch pos d_vocab"]) -> Float[Tensor, ""]:
        return self.each(logits).mean()


@dataclass(frozen=True, eq=False)
class CrossEntropy:
    """A metric: the loss at every position, averaged over prompts and positions, in nats per token.

    >>> metric = CrossEntropy(targets)      # the token to predict at each position, [batch pos]
    """

    targets: Int[Tensor, "batch pos"]

    def each(self, logits: Float[Tensor, "batch pos d_vocab"]) -> Float[Tensor, "batch pos"]:
        """The loss at each position. Raises ValueError for targets that do not fit the logits."""
        if self.targets.shape != logits.shape[:-1]:
            raise ValueError(
                f"Logits of shape {list(logits.shape)} need targets [batch pos]; "
                f"got {list(self.targets.shape)}."
            )
        return F.cross_entropy(logits.transpose(1, 2), self.targets, reduction="none")

    def __call__(self, logits: Float[Tensor, "batch pos d_vocab"]) -> Float[Tensor, ""]:
        return self.each(logits).mean()


Metric = Callable[[Float[Tensor, "batch pos d_vocab"]], Float[Tensor, ""]]
IN_A_HEAD = ("z", "q", "k", "v", "pattern")
IN_THE_STREAM = ("resid_pre", "attn_out", "resid_mid", "mlp_out")  # the last two with MLPs only
_MOST = 4_000_000  # numbers in one tensor: patches are taken together as long as they stay in cache
_MOST_LOGITS = 1_000_000  # the same for logits, of which the metric makes copies


@torch.no_grad()
def sweep(
    model: Transformer,
    clean: Int[Tensor, "batch pos"],
    corrupted: Int[Tensor, "batch pos"],
    metric: Metric,
    name: str,
    by_pos: bool = False,
) -> Float[Tensor, "n_layers *cell"]:
    """The metric of the corrupted run with one activation taken from the clean run, for every such
    activation `name`:

    - `"resid_pre"`: the stream entering a layer, at one position: `[n_layers pos]`; so too what a layer's
      attention or MLP adds, `"attn_out"`, `"mlp_out"`, and the stream between them, `"resid_mid"`;
    - `"z"` (a head's output), `"q"`, `"k"`, `"v"`, `"pattern"`: of one head, at all positions
      `[n_layers n_heads]`, or with `by_pos` at one of them `[n_layers pos n_heads]` (of a pattern:
      the row of one destination).

    For the other direction ("noising": corrupted into clean), swap the two. Any metric of the
    logits will do; `LogitDiff` is the fast case, `CrossEntropy` the next. Raises TypeError for a model
    that is not this course's, ValueError for one without layers, for other names (patch those with
    hooks, one by one), for prompts of different shapes, and inside `model.hooks(...)`, of which only
    full forward passes would know.
    """
    if not isinstance(model, Transformer):
        raise TypeError(
            "`sweep` reads the weights itself, so it takes only this course's `Transformer`: patch "
            f"{type(model).__name__} with hooks, one activation at a time."
        )
    cfg = model.cfg
    if not cfg.n_layers:
        raise ValueError("`sweep` takes models with layers: in this one there is nothing to patch.")
    if cfg.n_key_value_heads:
        raise ValueError("`sweep` takes no model whose heads share keys: patch it with hooks.")
    if model._hooks:
        raise ValueError("`sweep` would not see the hooks on this model: leave their context first.")
    if clean.ndim != 2 or clean.shape != corrupted.shape:
        raise ValueError(
            "Clean and corrupted prompts are tokens [batch pos] of the same shape; got "
            f"{list(clean.shape)} and {list(corrupted.shape)}."
        )
    in_the_stream = IN_THE_STREAM[: 2 if cfg.attn_only else None]
    if name not in (*in_the_stream, *IN_A_HEAD):
        names = ", ".join((*in_the_stream, *IN_A_HEAD))
        raise ValueError(f"`sweep` patches in this model {names}; not {name!r}.")
    n_pos = corrupted.shape[1]
    run = _Run(model, corrupted)
    readout = _Readout(run, metric)
    rest = _Rest(run, readout)
    names = [get_act_name(name, layer) for layer in range(cfg.n_layers)]
    _, source = model.run_with_cache(clean, names_filter=names)
    values = []
    for layer in range(cfg.n_layers):
        if name in IN_THE_STREAM:
            news = (source[name, layer] - run.cache[name, layer]).transpose(0, 1)  # [pos batch d_model]
            at = torch.arange(n_pos)
            if name in ("attn_out", "resid_mid"):
                values.append(rest.middle_change_at(layer, news, at))
            else:
                values.append(rest.change_at(layer + (name == "mlp_out"), news, at))
            continue
        # From here on, a patch changes one head of `layer`, whose attention adds `news` to the stream.
        W_O = run.weights["O"][layer]
        if by_pos and name in ("k", "v"):
            cells = readout.value.new_empty(n_pos, cfg.n_heads)
            for start, dz in run.dz_of_one_key(layer, name, source[name, layer]):
                news = torch.einsum("nbphe,hed->nhbpd", dz, W_O)
                cells[start : start + len(dz)] = rest.middle_change_from(
                    layer, news.flatten(0, 1), start
                ).view(len(dz), -1)
            values.append(cells)
            continue
        news = torch.einsum("bphe,hed->phbd", run.dz(layer, name, source[name, layer]), W_O)
        if by_pos:
            # Row p of a head's output depends on row p of its query or pattern and on no other.
            # So one pass with all rows patched holds the outcome of each row's own patch.
            at = torch.arange(n_pos).repeat_interleave(cfg.n_heads)
            values.append(rest.middle_change_at(layer, news.flatten(0, 1), at).view(n_pos, -1))
        else:
            values.append(rest.middle_change_from(layer, news.permute(1, 2, 0, 3), 0))
    return readout.value + torch.stack(values)


# In what follows, `news` is the change of the residual stream, one for each of n patches that are
# worked out together. Letters of dimensions: n patch, b batch, p position read (query), s position
# looked at (key), h head, e dimension of a head, d dimension of the stream.


class _Run:
    """The corrupted run, and what becomes of a head's output when something inside it changes."""

    def __init__(self, model: Transformer, tokens: Int[Tensor, "batch pos"]):
        self.cfg, self.n_pos = model.cfg, tokens.shape[1]
        self.blocks, self.ln_final = model.blocks, model.ln_final
        streams = IN_THE_STREAM[: 2 if self.cfg.attn_only else None]
        wanted = (*streams, "resid_post", *IN_A_HEAD)
        names = [get_act_name(name, layer) for layer in range(self.cfg.n_layers) for name in wanted]
        self.logits, self.cache = model.run_with_cache(tokens, names_filter=names)
        self.scale = self.cfg.d_head**-0.5
        self.weights = {x: getattr(model, f"W_{x}") for x in "QKVOU"}  # stacked over layers once

    def dz(self, layer: int, name: str, new: Tensor) -> Float[Tensor, "b p h e"]:
        """The change of every head's output if its own `name` is `new` at all positions. Heads do
        not read each other, so these are the changes for patching one head at a time, too."""
        old = self.cache["z", layer]
        if name == "z":
            return new - old
        if name == "pattern":
            pattern = new
        else:
            q, k = self.cache["q", layer], self.cache["k", layer]
            q, k = (new, k) if name == "q" else (q, new) if name == "k" else (q, k)
            scores = torch.einsum("bphe,bshe->bhps", q * self.scale, k)
            pattern = (scores + self.future(0)).softmax(-1)
        v = new if name == "v" else self.cache["v", layer]
        return torch.einsum("bhps,bshe->bphe", pattern, v) - old

    def dz_of_one_key(
        self, layer: int, name: str, new: Tensor
    ) -> Iterator[tuple[int, Float[Tensor, "n b p h e"]]]:
        """The same for a key or value patched at one position s at a time: (first s, changes at the
        positions from it on), for a few s together. Earlier positions cannot look at s."""
        q, k, v = (self.cache[x, layer] for x in ("q", "k", "v"))
        scores = torch.einsum("bphe,bshe->bhps", q * self.scale, k)
        column = torch.einsum("bphe,bshe->bhps", q * self.scale, new) if name == "k" else None
        numbers = len(q) * self.n_pos * max(self.cfg.d_model, self.cfg.n_heads * self.n_pos)
        step = max(1, _MOST // numbers // self.cfg.n_heads)
        for start in range(0, self.n_pos, step):
            s = torch.arange(start, min(start + step, self.n_pos))
            if name == "v":  # the pattern stays, so the output moves by its share of the news
                share = self.cache["pattern", layer][:, :, start:, s]
                yield start, torch.einsum("bhpn,bnhe->nbphe", share, (new - v)[:, s])
                continue
            patched = scores[:, :, start:].expand(len(s), *scores[:, :, start:].shape).clone()
            for n, where in enumerate(s):
                patched[n, ..., where] = column[:, :, start:, where]
            pattern = (patched + self.future(start)).softmax(-1)
            z = torch.einsum("nbhps,bshe->nbphe", pattern, v)
            yield start, z - self.cache["z", layer][:, start:]

    @staticmethod
    def seen(ln: nn.Module, old: Float[Tensor, "*n d"], news: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """The change of what is read behind a LayerNorm (or behind none), if the stream changes by `news`."""
        return news if isinstance(ln, nn.Identity) else ln(old + news) - ln(old)

    def mlp(self, layer: int, news: Float[Tensor, "*n d"], rows: Callable[[Tensor], Tensor]) -> Tensor:
        """`news` of the stream before a layer's MLP, and what it then writes otherwise; `rows` are the
        positions of the corrupted run that `news` changes."""
        block = self.blocks[layer]
        if block.mlp is None:
            return news
        mid, out = (rows(self.cache[name, layer]) for name in ("resid_mid", "mlp_out"))
        return news + block.mlp(block.ln2(mid + news), lambda name, x: x) - out

    def project(self, news: Float[Tensor, "*n d"], which: str, layer: int) -> Float[Tensor, "*n h e"]:
        W = self.weights[which][layer]
        return (news @ W.permute(1, 0, 2).flatten(1)).unflatten(-1, W.shape[::2])

    def write(self, layer: int, dz: Float[Tensor, "n b p h e"]) -> Float[Tensor, "n b p d"]:
        return dz.flatten(-2) @ self.weights["O"][layer].flatten(0, 1)

    def future(self, start: int) -> Float[Tensor, "p s"]:
        """0 where position p may look at s, -inf where s is in its future; p from `start` on."""
        return torch.full((self.n_pos, self.n_pos), -math.inf).triu(1)[start:]


class _Readout:
    """From a change of the last stream to the change of the metric."""

    def __init__(self, run: _Run, metric: Metric):
        self.run, self.metric, self.value = run, metric, metric(run.logits)
        self.final = run.cache["resid_post", -1]
        # What the metric reads of the last stream. A logit difference is a product with one
        # direction per prompt (and position), so that no logits are needed.
        self.direction = None
        self.first_row = 0  # the first position of which the last layer's output is needed
        if isinstance(metric, LogitDiff):
            W_U = run.weights["U"]
            direction = (W_U[:, metric.right] - W_U[:, metric.wrong]).movedim(0, -1)
            self.direction = direction / metric.right.numel()
            if metric.right.ndim == 1:
                self.direction, self.first_row = self.direction[:, None], run.n_pos - 1
        if isinstance(metric, CrossEntropy):
            self.losses = metric.each(run.logits)

    def change_from(self, news: Float[Tensor, "n b p d"], start: int) -> Float[Tensor, "n"]:
        """The change of the metric if the last stream changes at the positions from `start` on."""
        rows = max(start, self.first_row)
        news, start = news[:, :, rows - start :], rows
        if self.direction is not None:
            direction = self.direction[:, rows - self.first_row :]
            seen = self.run.seen(self.run.ln_final, self.final[:, rows:], news)
            return torch.einsum("nbpd,bpd->n", seen, direction)
        changes = []
        size = max(1, _MOST_LOGITS // (news[0, ..., 0].numel() * self.run.cfg.d_vocab))
        for part in news.split(size):
            moves = self.run.seen(self.run.ln_final, self.final[:, rows:], part) @ self.run.weights["U"]
            if isinstance(self.metric, CrossEntropy):
                changes.append(self._more_loss(moves, lambda x: x[:, start:]))
            else:
                changes.append(self._other(moves, [slice(start, None)] * len(part)))
        return torch.cat(changes)

    def change_at(self, news: Float[Tensor, "n b d"], at: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
        """The same if patch n changes it at position `at[n]` alone."""
        news = self.run.seen(self.run.ln_final, self.final[:, at].transpose(0, 1), news)
        if self.direction is None:
            moves = (news @ self.run.weights["U"])[:, :, None]
            if isinstance(self.metric, CrossEntropy):
                return self._more_loss(moves, lambda x: x[:, at].transpose(0, 1)[:, :, None])
            return self._other(moves, [slice(p, p + 1) for p in at.tolist()])
        change = torch.zeros(len(at), dtype=news.dtype)
        n = (at >= self.first_row).nonzero()[:, 0]
        change[n] = torch.einsum("nbd,bnd->n", news[n], self.direction[:, at[n] - self.first_row])
        return change

    def _more_loss(
        self, moves: Float[Tensor, "n b p d_vocab"], rows: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "n"]:
        """The same for the loss, where only `rows` of the logits move."""
        logits = moves + rows(self.run.logits)
        targets = rows(self.metric.targets).expand(logits.shape[:-1])
        losses = F.cross_entropy(logits.flatten(0, 2), targets.flatten(), reduction="none")
        return (losses.view_as(targets) - rows(self.losses)).sum((1, 2)) / self.losses.numel()

    def _other(self, moves: Float[Tensor, "n b p d_vocab"], rows: list[slice]) -> Float[Tensor, "n"]:
        """The same for any other metric: it gets all logits, moved by `moves[n]` at `rows[n]`."""
        values = []
        for move, where in zip(moves, rows, strict=True):
            logits = self.run.logits.clone()
            logits[:, where] += move
            values.append(self.metric(logits))
        return torch.stack(values) - self.value


class _Rest:
    """From a change of the stream, somewhere on its way, to the change of the metric."""

    def __init__(self, run: _Run, readout: _Readout):
        self.run, self.readout, self.n_layers = run, readout, run.cfg.n_layers

    def middle_change_at(
        self, layer: int, news: Float[Tensor, "n b d"], at: Int[Tensor, "n"]
    ) -> Float[Tensor, "n"]:
        """The change of the metric if, in patch n, the stream between attention and MLP of `layer` changes
        by `news[n]` at position `at[n]` alone."""
        parts = zip(*(x.split(self._together(news.shape[1], 1)) for x in (news, at)), strict=True)
        after = [self.run.mlp(layer, part, lambda x, at=at: x[:, at].transpose(0, 1)) for part, at in parts]
        return self.change_at(layer + 1, torch.cat(after), at)

    def middle_change_from(
        self, layer: int, news: Float[Tensor, "n b p d"], start: int
    ) -> Float[Tensor, "n"]:
        """The same if it changes by `news` at the positions from `start` on."""
        rows = max(start, self._rows(layer))
        parts = news[:, :, rows - start :].split(self._together(news.shape[1], self.run.n_pos - rows))
        changes = [
            self.change_from(layer + 1, self.run.mlp(layer, part, lambda x: x[:, rows:]), rows) for part in parts
        ]
        return torch.cat(changes)

    def change_at(
        self, layer: int, news: Float[Tensor, "n b d"], at: Int[Tensor, "n"]
    ) -> Float[Tensor, "n"]:
        """The change of the metric if, in patch n, the stream entering `layer` changes by `news[n]`
        at position `at[n]` alone. `at` rises."""
        changes = []
        size = self._together(news.shape[1], self.run.n_pos - self._rows(layer))
        for part, where in zip(news.split(size), at.split(size), strict=True):
            start = int(where.min())
            if layer == self.n_layers:
                changes.append(self.readout.change_at(part, where))
                continue
            rows = max(start, self._rows(layer))
            after = self._attend_to_one(layer, part, where, rows)
            n = (where >= rows).nonzero()[:, 0]  # what was patched is still there beside what was added
            after[n, :, where[n] - rows] += part[n]
            after = self.run.mlp(layer, after, lambda x, rows=rows: x[:, rows:])
            changes.append(self.change_from(layer + 1, after, rows))
        return torch.cat(changes)

    def change_from(
        self, layer: int, news: Float[Tensor, "n b p d"], start: int
    ) -> Float[Tensor, "n"]:
        """The same if the stream changes by `news` at the positions from `start` on."""
        if layer == self.n_layers:
            return self.readout.change_from(news, start)
        changes = []
        for part in news.split(self._together(*news.shape[1:3])):
            rows = max(start, self._rows(layer))
            after = self._attend(layer, part, start, rows) + part[:, :, rows - start :]
            after = self.run.mlp(layer, after, lambda x, rows=rows: x[:, rows:])
            changes.append(self.change_from(layer + 1, after, rows))
        return torch.cat(changes)

    def _rows(self, layer: int) -> int:
        """The first position at which what `layer` adds is needed: later layers look back at all of
        them, the metric perhaps at the last alone."""
        return self.readout.first_row if layer == self.n_layers - 1 else 0

    def _attend_to_one(
        self, layer: int, news: Float[Tensor, "n b d"], at: Int[Tensor, "n"], rows: int
    ) -> Float[Tensor, "n b p d"]:
        """The change of what `layer` adds at the positions from `rows` on, if its input changes at one
        position per patch. All patches share the corrupted run's keys and values but for one."""
        old = self.run.cache["resid_pre", layer][:, at].transpose(0, 1)
        seen = self.run.seen(self.run.blocks[layer].ln1, old, news)
        dq, dk, dv = (self.run.project(seen, W, layer) for W in "QKV")  # [n b h e]
        q, k, v = (self.run.cache[x, layer] for x in ("q", "k", "v"))
        n = torch.arange(len(at))
        q = q[:, rows:].expand(len(at), -1, -1, -1, -1).clone()
        asks = (at >= rows).nonzero()[:, 0]
        q[asks, :, at[asks] - rows] += dq[asks]
        q *= self.run.scale
        scores = torch.einsum("nbphe,bshe->nbhps", q, k)
        scores[n, ..., at] += torch.einsum("nbphe,nbhe->nbhp", q, dk)
        pattern = (scores + self.run.future(rows)).softmax(-1)
        z = torch.einsum("nbhps,bshe->nbphe", pattern, v)
        z += torch.einsum("nbhp,nbhe->nbphe", pattern[n, ..., at], dv)
        return self.run.write(layer, z - self.run.cache["z", layer][:, rows:])

    def _attend(
        self, layer: int, news: Float[Tensor, "n b s d"], start: int, rows: int
    ) -> Float[Tensor, "n b p d"]:
        """The same if its input changes at all positions from `start` on. Keys and values before
        them are the corrupted run's own; it is not looked up again what is seen there by whom."""
        old = self.run.cache["resid_pre", layer][:, start:]
        news = self.run.seen(self.run.blocks[layer].ln1, old, news)
        k, v = (
            torch.cat([old[:, :start].expand(len(news), -1, -1, -1, -1), old[:, start:] + d], dim=2)
            for old, d in (
                (self.run.cache["k", layer], self.run.project(news, "K", layer)),
                (self.run.cache["v", layer], self.run.project(news, "V", layer)),
            )
        )
        q = self.run.cache["q", layer][:, rows:] + self.run.project(news[:, :, rows - start :], "Q", layer)
        scores = torch.einsum("nbphe,nbshe->nbhps", q * self.run.scale, k)
        pattern = (scores + self.run.future(rows)).softmax(-1)
        z = torch.einsum("nbhps,nbshe->nbphe", pattern, v)
        return self.run.write(layer, z - self.run.cache["z", layer][:, rows:])

    def _together(self, n_batch: int, n_rows: int) -> int:
        """How many patches to work out at once, so that streams, scores and logits stay small."""
        cfg = self.run.cfg
        n_logits = cfg.d_vocab if self.readout.direction is None else 0
        wide = max(cfg.d_model, cfg.n_heads * self.run.n_pos, n_logits, cfg.d_mlp or 0)
        return max(1, _MOST // (n_batch * n_rows * wide))
