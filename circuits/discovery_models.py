"""How chapter 8's models were trained: `names` and its relatives, and those that hold a planted circuit.

They are small, and their texts are drawn as they train. `circuits train NAME` follows these recipes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.circuit_runs import run_circuit
from utils.materials.edges import edge_names
from utils.materials import names as world
from utils.model import ActivationCache, Config, Transformer, get_act_name
from utils.training import Optimizers, Recipe, next_token_loss

FULL: dict[str, Any] = dict(
    attn_only=False, act_fn="relu", normalization_type="LN", biases=True, positional_embedding_type="standard", init_range=0.2
)


@dataclass
class Trained:
    """A training so far: iterate over it for the loss of each step."""

    model: Transformer
    steps: int
    lr: float
    loss: Callable[[int], Tensor]  # of a step
    measure: Callable[[], dict[str, float]]  # what the curves hold
    every: int = 100
    after: Callable[[int], None] | None = None  # what is done to the weights after a step
    enough: float = 2.0  # where all measures have reached it, training ends

    def __post_init__(self):
        self.curves: dict[str, list[float]] = {}

    def __iter__(self) -> Iterator[float]:
        recipe = Recipe(self.model.cfg.n_layers, self.steps, lr_embed=self.lr, warmup=50)
        optimizers = Optimizers(self.model, recipe)  # Muon for attention, AdamW for the rest
        for step in range(self.steps):
            loss = self.loss(step)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizers.step(step)
            if self.after:
                self.after(step + 1)
            if (step + 1) % self.every == 0 or step + 1 == self.steps:
                with torch.no_grad():
                    measured = self.measure()
                for name, value in {"step": step + 1, "loss": loss.item(), **measured}.items():
                    self.curves.setdefault(name, []).append(value)
                if min(measured.values()) >= self.enough:
                    yield loss.item()
                    return
            yield loss.item()


def build(seed: int, kind: type[Transformer] = Transformer, **shape) -> Transformer:
    """A model at its random start; torch's own generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(Config(**shape))


# Two people, one gives ----------------------------------------------------------------------

WORD = {word: i for i, word in enumerate(world.WORDS)}


class Sentences:
    """Sentences by template as tensors, so that a batch costs no words: filled in by columns."""

    def __init__(self):
        self.plans = []
        for opening in world.OPENINGS:
            for template in world.TEMPLATES:
                words = ["<|bos|>", *(opening + template).split(), "{receiver}"]
                base = torch.tensor([WORD.get(word, 0) for word in words])
                where = {field: [i for i, w in enumerate(words) if w == f"{{{field}}}"] for field in
                         ("first", "second", "giver", "receiver", "place", "thing")}
                self.plans.append((base, where))

    def batch(self, n: int, generator: torch.Generator, third: float = 0.0) -> tuple[Tensor, Tensor]:
        """`n` sentences of one template, with the receiver at the end, and which of them have a third giver: there either
        of the two is right."""
        base, where = self.plans[int(torch.randint(len(self.plans), (1,), generator=generator))]
        tokens = base.repeat(n, 1)
        people = torch.rand(n, len(world.NAMES), generator=generator).argsort(1)[:, :3] + WORD[world.NAMES[0]]
        which = torch.randint(2, (n, 1), generator=generator)
        odd = torch.rand(n, generator=generator) < third
        fills = {
            "first": people[:, :1],
            "second": people[:, 1:2],
            "giver": torch.where(odd[:, None], people[:, 2:], people.gather(1, which)),
            "receiver": people.gather(1, 1 - which),
            "place": torch.randint(10, (n, 1), generator=generator) + WORD[world.PLACES[0]],
            "thing": torch.randint(10, (n, 1), generator=generator) + WORD[world.THINGS[0]],
        }
        for field, filled in fills.items():
            tokens[:, where[field]] = filled
        return tokens, odd


def names_training(
    seed: int = 0, steps: int = 1_000, n_heads: int = 4, dropped: float = 0.0, dropped_from: int = 700, batch: int = 48,
    share: float = 1.0,
) -> Trained:
    """Sentences of `utils.materials.names`, two layers of attention; next token, the receiver counting three times more. From
    step `dropped_from` on each head is silent in every sentence with probability `dropped`: what only one head can do would often
    fail. With a `share` below 1 only so many weights stay (see `sparsen`)."""
    model = build(seed, d_vocab=len(world.WORDS), d_model=64, n_layers=2, n_heads=n_heads, d_head=64 // n_heads, n_ctx=32, init_range=0.2)
    generator = torch.Generator().manual_seed(seed)
    sentences = Sentences()
    fresh = [sentences.batch(64, torch.Generator().manual_seed(10**6 + i))[0] for i in range(12)]

    def silence(z, hook):
        return z * (torch.rand(len(z), 1, z.shape[2], 1, generator=generator) >= dropped)

    hooks = [(get_act_name("z", layer), silence) for layer in range(2)]

    def loss(step: int) -> Tensor:
        tokens = sentences.batch(batch, generator, third=0.1)[0]
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks if dropped and step >= dropped_from else [])
        return next_token_loss(logits, tokens) + 3 * F.cross_entropy(logits[:, -2], tokens[:, -1])

    def measure() -> dict[str, float]:
        right = [(model(tokens[:, :-1])[:, -1].argmax(-1) == tokens[:, -1]).float().mean().item() for tokens in fresh]
        return {"right": sum(right) / len(right)}

    after = (lambda step: sparsen(model, max(share, share ** min(1.0, step / (0.5 * steps))))) if share < 1 else None
    return Trained(model, steps, 3e-3, loss, measure, after=after)


@torch.no_grad()
def sparsen(model: Transformer, share: float) -> None:
    """Keep the largest entries of every matrix, and set all others to 0. After each step, with a share that falls from all to
    what is wanted over half of the steps, this trains a weight-sparse model (Gao et al., *Weight-sparse transformers have
    interpretable circuits*, 2025)."""
    for name, W in model.named_parameters():
        if W.ndim > 1 and ".b_" not in name:
            smallest = W.abs().flatten().kthvalue(W.numel() - max(1, int(share * W.numel())) + 1).values
            W.mul_(W.abs() >= smallest)


class Followed(Transformer):
    """A transformer whose cache keeps its gradients, so that `run_circuit` can be trained through: also what an edge outside the
    circuit carries must learn, such as where a head looks."""

    def run_with_cache(self, tokens, *, names_filter=None):
        kept: dict[str, Tensor] = {}
        logits = self.run_with_hooks(tokens, fwd_hooks=[(name, lambda x, hook: kept.update({hook.name: x})) for name in self.hook_names()])
        return logits, ActivationCache(kept, self.cfg.n_layers)


# Planted circuits ---------------------------------------------------------------------------
#
# A model that has learned a task need not have learned it along the edges that one has in mind. So these are trained in
# three kinds of run (interchange intervention training: Geiger et al., *Inducing Causal Structure*, 2022; on circuits Gupta
# et al., *InterpBench*, 2024): the ordinary one; one in which only the planted edges carry the text, and all others another
# text; and one the other way round. At other positions stands a second task, by whatever edges it likes.

N_CTX = 10


@dataclass(frozen=True)
class Plant:
    """A task at the last position, and the edges that are to carry it. `answer` takes symbols `[batch pos]`, of which
    `draw` makes so many. `parts`: parts of the circuit, and what the answer is if they carry one text and all else another."""

    edges: tuple[str, ...]
    draw: Callable[[int, torch.Generator], Tensor]
    answer: Callable[[Tensor], Tensor]
    parts: tuple[tuple[tuple[str, ...], Callable[[Tensor, Tensor], Tensor]], ...] = ()
    d_vocab: int = 16
    n_layers: int = 2


MARK = 15


def _symbols(n: int, generator: torch.Generator) -> Tensor:
    """Symbols from 1 to 15. The last is always the same: it asks."""
    symbols = torch.randint(1, 16, (n, N_CTX), generator=generator)
    symbols[:, 0], symbols[:, -1] = 0, 1
    return symbols


def _some_marks(n: int, generator: torch.Generator) -> Tensor:
    """Symbols from 1 to 14; in half of the texts one of them is the mark."""
    symbols = torch.randint(1, MARK, (n, N_CTX), generator=generator)
    at = torch.randint(1, N_CTX - 1, (n, 1), generator=generator)
    marked = torch.where(torch.rand(n, 1, generator=generator) < 0.5, MARK, symbols.gather(1, at))
    symbols = symbols.scatter(1, at, marked)
    symbols[:, 0], symbols[:, -1] = 0, 1  # the last asks: is there a mark?
    return symbols


def _is_marked(symbols: Tensor) -> Tensor:
    return 2 + (symbols == MARK).any(1).long()


def _two_numbers(n: int, generator: torch.Generator) -> Tensor:
    """Symbols; the fourth and the seventh are numbers from 1 to 7."""
    symbols = torch.randint(1, 16, (n, N_CTX), generator=generator)
    symbols[:, [3, 6]] = torch.randint(1, 8, (n, 2), generator=generator)
    symbols[:, 0], symbols[:, -1] = 0, 1
    return symbols


def _sum_of_both(symbols: Tensor) -> Tensor:
    return 1 + (symbols[:, 3] + symbols[:, 6] - 2) % 7


def _either(clean: Tensor, other: Tensor) -> Tensor:
    return torch.maximum(_is_marked(clean), _is_marked(other))


PLANTS = {
    "relay": Plant(("embed->0.2.v", "0.2->1.1.v", "1.1->logits"), _symbols, lambda symbols: symbols[:, 3]),
    "either": Plant(
        ("embed->0.0.k", "embed->0.0.v", "embed->0.3.k", "embed->0.3.v", "0.0->m1", "0.3->m1", "m1->logits"),
        _some_marks, _is_marked,
        parts=(
            (("embed->0.0.k", "embed->0.0.v", "0.0->m1", "m1->logits"), _either),
            (("embed->0.3.k", "embed->0.3.v", "0.3->m1", "m1->logits"), _either),
        ),
    ),
    "sum": Plant(("embed->0.1.v", "0.1->m1", "m1->logits"), _two_numbers, _sum_of_both),
}


def planted_training(name: str, seed: int = 0, steps: int = 1_500, batch: int = 48) -> Trained:
    """A model of two layers with four heads, MLPs and LayerNorm that holds one of PLANTS, and at all other positions
    names the symbol two places before, by whatever edges it likes."""
    plant = PLANTS[name]
    model = build(seed, Followed, **FULL | dict(d_vocab=plant.d_vocab, d_model=48, n_layers=plant.n_layers, n_heads=4, d_head=12, n_ctx=N_CTX))
    generator = torch.Generator().manual_seed(seed)
    edges = list(plant.edges)
    rest = [edge for edge in edge_names(model) if edge not in edges]

    def answers(logits: Tensor, symbols: Tensor) -> Tensor:
        return F.cross_entropy(logits[:, -1], plant.answer(symbols))

    def loss(step: int) -> Tensor:
        clean, other = (plant.draw(batch, generator) for _ in range(2))
        logits = model(clean)
        aside = F.cross_entropy(logits[:, 2:-1].flatten(0, 1), clean[:, :-3].flatten())
        total = answers(logits, clean) + 0.5 * aside
        if step % 4:  # the circuit alone is enough
            total = total + answers(run_circuit(model, edges, clean, other), clean)
        else:  # and all others are not: the answer is that of the text which the circuit carries
            total = total + answers(run_circuit(model, rest, clean, other), other)
        if plant.parts:  # each part does its own share, and no other's
            part, answer = plant.parts[step % len(plant.parts)]
            logits = run_circuit(model, list(part), clean, other)
            total = total + F.cross_entropy(logits[:, -1], answer(clean, other))
        return total

    def measure() -> dict[str, float]:
        draw = torch.Generator().manual_seed(10**6)
        clean, other = (plant.draw(256, draw) for _ in range(2))
        want = plant.answer(clean)

        def share(logits: Tensor, wanted: Tensor) -> float:
            return (logits[:, -1].argmax(-1) == wanted).float().mean().item()

        alone = {
            f"right by part {i}": share(run_circuit(model, list(part), clean, other), answer(clean, other))
            for i, (part, answer) in enumerate(plant.parts)
        }
        return alone | {
            "right": share(model(clean), want),
            "right by the circuit": share(run_circuit(model, edges, clean, other), want),
            "as before by the rest": share(run_circuit(model, rest, clean, other), plant.answer(other)),
        }

    return Trained(model, steps, 2e-3, loss, measure, every=50, enough=0.99)


# What `circuits train` calls by name.
WORLDS: dict[str, Callable[..., Trained]] = {
    "names": lambda **more: names_training(**dict(n_heads=8, dropped=0.2, steps=1_400) | more),
    **{name: lambda seed=seed, **more: names_training(seed, **more)
       for seed, name in enumerate(("names_small", "names_small_1", "names_small_2"))},
    "names_sparse": lambda **more: names_training(**dict(share=1 / 16, steps=2_000) | more),
    **{f"planted_{name}": lambda name=name, **more: planted_training(name, **more) for name in PLANTS},
}
