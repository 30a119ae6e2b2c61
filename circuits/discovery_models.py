"""How chapter 8's models were trained: `names` and its relatives, and those that hold a planted circuit.

They are small, and their texts are drawn as they train. `circuits train NAME` follows these recipes.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from circuits.drawn_training import DrawnTraining
from utils.circuit_runs import run_circuit
from utils.materials.edges import edge_names
from utils.materials import names as world
from utils.model import ActivationCache, Config, Transformer, get_act_name
from utils.training import Recipe, next_token_loss


def build(seed: int, kind: type[Transformer] = Transformer, **shape) -> Transformer:
    """A model at its random start; torch's own generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(Config(init_range=0.2, **shape))


class DiscoveryTraining(DrawnTraining):
    """Muon for attention, AdamW for the rest, on a loss of its own, with gradients held below 1."""

    def __init__(self, recipe: Recipe):
        super().__init__(recipe, None)
        self.generator = torch.Generator().manual_seed(recipe.seed)

    def loss(self) -> Tensor:
        """Of the next step: draws its texts."""
        raise NotImplementedError

    def _step(self) -> float:
        start = time.perf_counter()
        loss = self.loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizers.step(self.step)
        self.step += 1
        self._after_step()
        self.seconds += time.perf_counter() - start
        if self.step % self.recipe.evaluate_every == 0 or self.step == self.recipe.steps:
            with torch.no_grad():
                self._record()
        return loss.item()

    def _after_step(self) -> None:
        """What is done to the weights after a step."""


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


@dataclass(frozen=True)
class NamesRecipe(Recipe):
    """Two layers of attention. From step `dropped_from` on each head is silent in every sentence with probability `dropped`: what
    only one head can do would often fail. With a `share` below 1 only so many weights stay (see `sparsen`)."""

    dropped: float = 0.0
    dropped_from: int = 700
    share: float = 1.0

    def build(self) -> Transformer:
        shape = dict(d_model=self.d_model, n_layers=self.n_layers, n_heads=self.n_heads, d_head=self.d_model // self.n_heads)
        return build(self.seed, d_vocab=len(world.WORDS), n_ctx=self.n_ctx, **shape)


class NamesTraining(DiscoveryTraining):
    """Sentences of `utils.materials.names`: next token, the receiver counting three times more."""

    def __init__(self, recipe: NamesRecipe):
        super().__init__(recipe)
        self.sentences = Sentences()
        self.fresh = [self.sentences.batch(64, torch.Generator().manual_seed(10**6 + i))[0] for i in range(12)]

    def loss(self) -> Tensor:
        r = self.recipe
        tokens = self.sentences.batch(r.batch, self.generator, third=0.1)[0]
        hooks = [(get_act_name("z", layer), self._silence) for layer in range(r.n_layers)]
        with self.model.hooks(hooks) if r.dropped and self.step >= r.dropped_from else nullcontext():
            logits = self.model(tokens)
        return next_token_loss(logits, tokens) + 3 * F.cross_entropy(logits[:, -2], tokens[:, -1])

    def _silence(self, z: Tensor, hook) -> Tensor:
        return z * (torch.rand(len(z), 1, z.shape[2], 1, generator=self.generator) >= self.recipe.dropped)

    def _after_step(self) -> None:
        r = self.recipe
        if r.share < 1:
            sparsen(self.model, max(r.share, r.share ** min(1.0, self.step / (0.5 * r.steps))))

    def measure(self) -> dict[str, float]:
        right = [(self.model(tokens[:, :-1])[:, -1].argmax(-1) == tokens[:, -1]).float().mean().item() for tokens in self.fresh]
        return {"right": sum(right) / len(right)}


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


@dataclass(frozen=True)
class PlantedRecipe(Recipe):
    """Two layers with MLPs and LayerNorm, that are to hold one of PLANTS. Training ends when every measure is `enough`."""

    plant: str = ""
    enough: float = 0.99

    def build(self) -> Transformer:
        return build(
            self.seed, Followed, d_vocab=PLANTS[self.plant].d_vocab, d_model=self.d_model, n_layers=self.n_layers, n_heads=self.n_heads,
            d_head=self.d_model // self.n_heads, n_ctx=self.n_ctx, attn_only=False, act_fn="relu", normalization_type="LN", biases=True,
            positional_embedding_type="standard",
        )  # fmt: skip


class PlantedTraining(DiscoveryTraining):
    """The planted task at the last position; at all others the symbol two places before is named, by whatever edges the model likes."""

    def __init__(self, recipe: PlantedRecipe):
        super().__init__(recipe)
        self.plant = PLANTS[recipe.plant]
        self.edges = list(self.plant.edges)
        self.rest = [edge for edge in edge_names(self.model) if edge not in self.edges]

    @property
    def finished(self) -> bool:
        measured = [values[-1] for what, values in self.curves.items() if what not in ("step", "seconds")]
        return self.step >= self.recipe.steps or (bool(measured) and min(measured) >= self.recipe.enough)

    def loss(self) -> Tensor:
        model, plant = self.model, self.plant
        clean, other = (plant.draw(self.recipe.batch, self.generator) for _ in range(2))

        def answers(logits: Tensor, wanted: Tensor) -> Tensor:
            return F.cross_entropy(logits[:, -1], wanted)

        logits = model(clean)
        aside = F.cross_entropy(logits[:, 2:-1].flatten(0, 1), clean[:, :-3].flatten())
        total = answers(logits, plant.answer(clean)) + 0.5 * aside
        if self.step % 4:  # the circuit alone is enough
            total = total + answers(run_circuit(model, self.edges, clean, other), plant.answer(clean))
        else:  # and all others are not: the answer is that of the text which the circuit carries
            total = total + answers(run_circuit(model, self.rest, clean, other), plant.answer(other))
        if plant.parts:  # each part does its own share, and no other's
            part, answer = plant.parts[self.step % len(plant.parts)]
            total = total + answers(run_circuit(model, list(part), clean, other), answer(clean, other))
        return total

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        model, plant, draw = self.model, self.plant, torch.Generator().manual_seed(10**6)
        clean, other = (plant.draw(256, draw) for _ in range(2))

        def share(logits: Tensor, wanted: Tensor) -> float:
            return (logits[:, -1].argmax(-1) == wanted).float().mean().item()

        alone = {
            f"right by part {i}": share(run_circuit(model, list(part), clean, other), answer(clean, other))
            for i, (part, answer) in enumerate(plant.parts)
        }
        return alone | {
            "right": share(model(clean), plant.answer(clean)),
            "right by the circuit": share(run_circuit(model, self.edges, clean, other), plant.answer(clean)),
            "as before by the rest": share(run_circuit(model, self.rest, clean, other), plant.answer(other)),
        }


NAMES = NamesRecipe(2, 1_000, d_model=64, n_heads=4, n_ctx=32, batch=48, lr_embed=3e-3, warmup=50, evaluate_every=100)
PLANTED = PlantedRecipe(2, 1_500, d_model=48, n_heads=4, n_ctx=N_CTX, batch=48, warmup=50, evaluate_every=50)
RECIPES: dict[str, NamesRecipe | PlantedRecipe] = {
    "names": replace(NAMES, steps=1_400, n_heads=8, dropped=0.2),
    "names_small": NAMES,
    "names_small_1": replace(NAMES, seed=1),
    "names_small_2": replace(NAMES, seed=2),
    "names_sparse": replace(NAMES, steps=2_000, share=1 / 16),
    **{f"planted_{name}": replace(PLANTED, plant=name) for name in PLANTS},
}


def training(name: str, steps: int | None = None) -> DiscoveryTraining:
    """The training of a model by its recipe, or with more or fewer steps."""
    recipe = RECIPES[name]
    return (PlantedTraining if isinstance(recipe, PlantedRecipe) else NamesTraining)(replace(recipe, steps=steps or recipe.steps))
