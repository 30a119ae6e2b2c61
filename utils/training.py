"""Recipes for the shipped models, and the training loop that follows them."""

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from utils.corpus import N_CTX, Corpus, load_tokenizer
from utils.errors import CourseError
from utils.model import Config, Transformer

FULL: dict[str, Any] = dict(attn_only=False, act_fn="relu", normalization_type="LN", biases=True)


@dataclass(frozen=True)
class Recipe:
    """How to train one model. Learning rates rise linearly over `warmup` steps, then follow half
    a cosine down to zero."""

    n_layers: int
    steps: int
    d_model: int = 256
    n_heads: int = 8
    n_ctx: int = N_CTX
    full: bool = False  # with ReLU MLPs of 4 * d_model neurons, LayerNorm and biases (from chapter 5 on)
    # Where `w` of a full model's LayerNorms before attention starts. They make content as large as 1, and positions,
    # of 0.7, are lost beside it: from the usual 1, two layers formed no previous-token and no induction head in
    # 8,000 steps. From here they do.
    ln1_start: float = 0.1
    batch: int = 8
    lr_embed: float = 2e-3  # AdamW, for W_E, W_U and everything that is not attention
    lr_attn: float = 0.02  # Muon, for W_Q, W_K, W_V, W_O as matrices
    muon: bool = True  # without it AdamW has the attention matrices too
    warmup: int = 100
    seed: int = 0
    evaluate_every: int = 250

    def build(self) -> Transformer:
        """The model at its random start."""
        tokenizer = load_tokenizer()
        cfg = Config(
            d_vocab=tokenizer.get_vocab_size(),
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            d_head=self.d_model // self.n_heads,
            n_ctx=self.n_ctx,
            **(FULL if self.full else {}),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = Transformer(cfg, tokenizer)
        if self.full:
            with torch.no_grad():
                for block in model.blocks:
                    block.ln1.w.fill_(self.ln1_start)
        return model


RECIPES = {
    "zero_layer": Recipe(n_layers=0, steps=3_000, lr_embed=2e-2, evaluate_every=100),
    "one_layer": Recipe(n_layers=1, steps=5_000, evaluate_every=100),
    "two_layer": Recipe(n_layers=2, steps=8_000, evaluate_every=100),
    "full_two_layer": Recipe(n_layers=2, steps=8_000, full=True, evaluate_every=100),
    "full_two_layer_1": Recipe(n_layers=2, steps=8_000, full=True, evaluate_every=100, seed=1),
    "full_two_layer_adamw": Recipe(n_layers=2, steps=8_000, full=True, evaluate_every=100, muon=False),
    "full_four_layer": Recipe(
        n_layers=4, steps=8_000, d_model=192, full=True, ln1_start=1.0, evaluate_every=100
    ),
}

# Small enough to train while one watches, and still to form induction heads (chapter 3). Its learning
# rates fall as if it went on to 6,000 steps: within LIVE_STEPS they stay high, and heads form sooner.
LIVE = Recipe(n_layers=2, steps=6_000, d_model=128, n_heads=8, evaluate_every=25)
LIVE_STEPS = 1_500


def live_steps(steps: int) -> int:
    """So many steps; but only a few where CIRCUITS_QUICK is set, as when tests run a notebook."""
    return min(steps, 6) if os.environ.get("CIRCUITS_QUICK") else steps


def recipe(name: str) -> Recipe:
    """The recipe of a shipped model. Raises CourseError for a name that is none."""
    if name not in RECIPES:
        raise CourseError(f"No model is called {name!r}. There are: {', '.join(RECIPES)}.")
    return RECIPES[name]


class Muon(torch.optim.Optimizer):
    """Momentum whose every update is replaced by the nearest orthogonal matrix (Jordan et al.,
    *Muon: An optimizer for hidden layers in neural networks*).

    `torch.optim.Muon` takes two-dimensional weights only and computes in bfloat16, which
    processors without bfloat16 arithmetic emulate: on such a laptop its step took twenty times as
    long as this one. A weight `[n_heads a b]` counts as the matrix of all heads side by side.
    """

    def __init__(self, params, lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                average = self.state[p].setdefault("momentum", torch.zeros_like(p))
                average.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(average, group["momentum"])  # Nesterov's look ahead
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * self._orthogonal(update, group["heads_in_rows"]))

    @staticmethod
    def _orthogonal(G: Tensor, heads_in_rows: bool) -> Tensor:
        """`U @ V.T` for `G = U @ S @ V.T`, nearly, by five Newton-Schulz iterations."""
        G = G if heads_in_rows else G.transpose(1, 2)
        X = G.flatten(0, 1)
        X = X / X.norm().clamp(min=1e-7)
        for _ in range(5):
            A = X @ X.T
            X = 3.4445 * X + (2.0315 * A @ A - 4.7750 * A) @ X
        X = X.unflatten(0, G.shape[:2])
        return X if heads_in_rows else X.transpose(1, 2)


class Optimizers:
    """Muon for the attention matrices, AdamW for the rest, on one schedule."""

    def __init__(self, model: Transformer, recipe: Recipe):
        self.recipe = recipe
        weights: dict[str, list[nn.Parameter]] = {"read": [], "write": [], "rest": []}
        for name, param in model.named_parameters():
            kind = {"W_Q": "read", "W_K": "read", "W_V": "read", "W_O": "write"} if recipe.muon else {}
            weights[kind.get(name.split(".")[-1].lstrip("_"), "rest")].append(param)
        heads = [
            {"params": weights["read"], "heads_in_rows": False},
            {"params": weights["write"], "heads_in_rows": True},
        ]
        self.adamw = torch.optim.AdamW(weights["rest"], lr=recipe.lr_embed, betas=(0.9, 0.98))
        self.muon = Muon(heads, lr=recipe.lr_attn)

    def step(self, step: int) -> None:
        """Update the weights from their gradients, then forget the gradients."""
        r = self.recipe
        factor = min(1.0, (step + 1) / r.warmup) * 0.5 * (1 + math.cos(math.pi * step / r.steps))
        for optimizer, lr in ((self.adamw, r.lr_embed), (self.muon, r.lr_attn)):
            for group in optimizer.param_groups:
                group["lr"] = lr * factor
            optimizer.step()
            optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        return {"adamw": self.adamw.state_dict(), "muon": self.muon.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.adamw.load_state_dict(state["adamw"])
        self.muon.load_state_dict(state["muon"])


def next_token_loss(
    logits: Float[Tensor, "batch pos d_vocab"], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy of predicting each token from those before it, in nats per token."""
    target = tokens.roll(-1, dims=1)
    target[:, -1] = -100  # nothing follows the last token; cheaper than copying logits[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100)


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C in the block take effect when the block ends: no step is left half done."""
    before = signal.getsignal(signal.SIGINT)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or not callable(before):  # callable unless ignored or left to the system
        yield
        return
    came: list[tuple] = []
    signal.signal(signal.SIGINT, lambda *args: came.append(args))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            before(*came[0])


class Training:
    """A training that can be watched, interrupted and gone on with.

    >>> training = Training(recipe("one_layer"), corpus)
    >>> for loss in training: ...        # one step each; break or interrupt whenever you like
    >>> training.model, training.curves  # what there is so far

    `curves` holds a list for each measure of `evaluate`, one entry per evaluation.
    """

    generator: torch.Generator | None = None  # of a training that draws its texts as it goes
    finished = property(lambda self: self.step >= self.recipe.steps)

    def __init__(self, recipe: Recipe, corpus: Corpus):
        self.recipe, self.corpus = recipe, corpus
        self.model = recipe.build()
        self.optimizers = Optimizers(self.model, recipe)
        self.step, self.seconds = 0, 0.0
        self.curves: dict[str, list[Any]] = {}

    def __iter__(self) -> Iterator[float]:
        """Train until the recipe's last step, yielding the training loss in nats per token."""
        if not self.curves:
            with interrupts_wait():
                self._record()
        while not self.finished:
            with interrupts_wait():
                loss = self._step()
            yield loss

    def _step(self) -> float:
        start, r = time.perf_counter(), self.recipe
        tokens = self.corpus.batch(self.step, r.batch, r.n_ctx, r.seed)
        loss = next_token_loss(self.model(tokens), tokens)
        loss.backward()
        self.optimizers.step(self.step)
        self.step += 1
        self.seconds += time.perf_counter() - start
        if self.step % r.evaluate_every == 0 or self.step == r.steps:
            self._record()
        return loss.item()

    def _record(self) -> None:
        measures = {"step": self.step, "seconds": round(self.seconds, 1)}
        measures |= evaluate(self.model, self.corpus, n_windows=32)
        for name, value in measures.items():
            self.curves.setdefault(name, []).append(value)


@torch.no_grad()
def evaluate(model: Transformer, corpus: Corpus, n_windows: int = 256) -> dict[str, Any]:
    """What the model card reports, measured on held-out text.

    - `heldout_loss`: nats per token.
    - `in_context_learning_score`: mean loss over the last tenth of the context minus the mean over
      the tokens from one tenth to two tenths; below 0 when later tokens are easier (Olsson et
      al., *In-context Learning and Induction Heads*, "Argument 1", with positions for a context
      of 256).
    - `previous_token_score`, `induction_score`: per layer and head, the mean attention weight to
      the token before, and to the token after the previous occurrence, on 8 sequences of 64
      tokens drawn from the text's own frequencies and repeated once.
    """
    n_ctx = model.cfg.n_ctx
    windows = corpus.heldout_windows(n_windows, n_ctx)
    losses = torch.cat([_per_token_loss(model(part), part) for part in windows.split(16)])
    by_pos = losses.mean(0)
    early, late = by_pos[n_ctx // 10 : n_ctx // 5].mean(), by_pos[-n_ctx // 10 :].mean()
    measures: dict[str, Any] = {
        "heldout_loss": losses.mean().item(),
        "in_context_learning_score": (late - early).item(),
    }
    if model.cfg.n_layers:
        period = n_ctx // 4
        generator = torch.Generator().manual_seed(0)
        picks = torch.randint(len(corpus.train), (8, period), generator=generator)
        once = corpus.train[picks]
        repeated = torch.cat([once, once], dim=1)
        logits, cache = model.run_with_cache(
            repeated, names_filter=lambda name: name.endswith("pattern")
        )
        patterns = torch.stack([cache["pattern", i] for i in range(model.cfg.n_layers)])
        for name, offset in (("previous_token_score", 1), ("induction_score", period - 1)):
            stripe = patterns.diagonal(-offset, dim1=-2, dim2=-1)  # attention `offset` back
            measures[name] = stripe.mean((1, -1)).tolist()
        repeat = _per_token_loss(logits, repeated)
        measures["repeated_first_loss"] = repeat[:, : period - 1].mean().item()
        measures["repeated_second_loss"] = repeat[:, period:].mean().item()
    return measures


def _per_token_loss(
    logits: Float[Tensor, "batch pos d_vocab"], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos-1"]:
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
