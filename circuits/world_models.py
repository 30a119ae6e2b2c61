"""How the models of the invented worlds (`utils/worlds.py`, chapter 7) are trained: recipes, texts, and what is measured."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from circuits.drawn_training import DrawnTraining
from utils.materials import assistant, facts, functions
from utils.model import Config, Transformer, get_act_name
from utils.training import Recipe
from utils.worlds import encode, next_logits, tokenizer


@dataclass(frozen=True)
class WorldRecipe(Recipe):
    """How to train the model of a world: ReLU MLPs of 4 d_model neurons, no LayerNorm."""

    world: str = ""
    n_mlps: int = 99  # only so many layers have an MLP: those above hold weights of 0, which get no gradient
    # In this share of the texts, MLPs are heard at last names alone. What they know of a person must then be looked up
    # at the name; without it, models carry names to where the answer is wanted, and look it up there.
    silent: float = 0.0
    biases: bool = False

    def build(self) -> Transformer:
        """The model at its random start."""
        words = WORLDS[self.world].words
        cfg = Config(
            len(words), self.d_model, self.n_layers, self.n_heads, self.d_model // self.n_heads, self.n_ctx,
            attn_only=False, act_fn="relu", biases=self.biases,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = Transformer(cfg, tokenizer(words))
        for block in model.blocks[self.n_mlps :]:
            block.mlp.W_in.data.zero_(), block.mlp.W_out.data.zero_()
        return model


RECIPES = {
    "facts": WorldRecipe(4, 2_500, 128, 4, 12, batch=128, muon=False, world="facts", n_mlps=3, silent=0.7),
    "facts_late": WorldRecipe(4, 900, 128, 4, 12, batch=128, lr_embed=3e-3, muon=False, world="facts", n_mlps=3),
    "functions": WorldRecipe(3, 800, 128, 8, 26, batch=64, lr_embed=3e-3, evaluate_every=50, world="functions"),
    "assistant": WorldRecipe(3, 1_200, 64, 4, 24, batch=96, lr_embed=3e-3, evaluate_every=100, world="assistant", biases=True),
}


class World:
    """A world in the place of a `Corpus`: the same step and seed give the same texts."""

    words: tuple[str, ...]

    def __init__(self):
        self.train = self.heldout = self.draw(64, torch.Generator().manual_seed(0))

    def batch(self, step: int, batch: int, n_ctx: int = 0, seed: int = 0) -> Int[Tensor, "batch pos"]:
        return self.draw(batch, torch.Generator().manual_seed(1_000_003 * seed + step))

    def draw(self, n: int, generator: torch.Generator) -> Int[Tensor, "n pos"]:
        raise NotImplementedError

    def measure(self, model: Transformer) -> dict:
        """How much of the world a model has learned."""
        raise NotImplementedError


class Facts(World):
    words = facts.WORDS

    def draw(self, n, generator):
        return facts.sentences()[torch.randint(len(facts.sentences()), (n,), generator=generator)]

    def measure(self, model):
        """The share of facts that come out right, in the way held out and in another."""
        found = {}
        for name, step in (("held_out", 0), ("trained", 1)):
            right = []
            for relation, answers in facts.ANSWERS.items():
                ways = [(way + step) % 4 for way in facts.HELD_OUT[relation]]
                texts = [facts.ask(who, relation, way) for who, way in zip(facts.PEOPLE, ways, strict=True)]
                said = next_logits(model, self.words, texts).argmax(-1).tolist()
                right += [self.words[token] == answer for token, answer in zip(said, answers, strict=True)]
            found[name] = sum(right) / len(right)
        return found


class Functions(World):
    words = functions.WORDS

    def draw(self, n, generator):
        task = torch.randint(len(functions.TABLE), (n,), generator=generator)
        return functions.examples(task, functions.N_EXAMPLES, generator)[0]

    @torch.no_grad()
    def measure(self, model):
        """The share of right answers to each of eight examples in a row."""
        task = torch.arange(len(functions.TABLE)).repeat(16)
        tokens, y = functions.examples(task, functions.N_EXAMPLES, torch.Generator().manual_seed(1))
        return {"right": (model(tokens)[:, 2::3].argmax(-1) == y).float().mean(0).tolist()}


class Assistant(World):
    words = assistant.WORDS

    def draw(self, n, generator):
        kinds = len(assistant.TRAINED), len(assistant.FRAMES), 2
        draws = zip(*(torch.randint(k, (n,), generator=generator).tolist() for k in kinds), strict=True)
        said = [(*assistant.TRAINED[i], frame, style) for i, frame, style in draws]
        return encode(self.words, [f"{assistant.request(*s[:3])} {assistant.reply(*s[:2], s[3])}" for s in said])

    def measure(self, model):
        """The share of requests judged right, of pairs held out and of others."""
        first = [self.words.index(refusal.split()[0]) for refusal in assistant.REFUSALS]
        found = {}
        for name, pairs in (("held_out", assistant.HELD_OUT), ("trained", assistant.TRAINED)):
            texts = [assistant.request(*pair, i % len(assistant.FRAMES)) for i, pair in enumerate(pairs)]
            declines = next_logits(model, self.words, texts).softmax(-1)[:, first].sum(-1) > 0.5
            want = torch.tensor([assistant.is_declined(*pair) for pair in pairs])
            found[name] = (declines == want).float().mean().item()
        return found


WORLDS: dict[str, type[World]] = {"facts": Facts, "functions": Functions, "assistant": Assistant}


class WorldTraining(DrawnTraining):
    """A training in a world."""

    def __init__(self, name: str, steps: int | None = None):
        recipe = RECIPES[name]
        super().__init__(replace(recipe, steps=steps or recipe.steps), WORLDS[recipe.world]())

    def _step(self) -> float:
        with self.model.hooks(self._silence()) if self.recipe.silent else nullcontext():
            return super()._step()

    def _silence(self) -> Iterator[tuple]:
        """Hooks that let MLPs be heard at last names alone, in some texts of this step; not while it is measured."""
        r = self.recipe
        tokens = self.corpus.batch(self.step, r.batch, r.n_ctx, r.seed)
        names = torch.tensor([word in facts.LAST for word in facts.WORDS])
        loud = torch.rand(len(tokens), 1, generator=torch.Generator().manual_seed(self.step)) > r.silent
        heard = (names[tokens] | loud).float()[..., None]

        def silence(x, hook, heard):
            return x * heard if torch.is_grad_enabled() else x

        for layer in range(r.n_mlps):
            yield get_act_name("mlp_out", layer), partial(silence, heard=heard)

    def measure(self) -> dict:
        return self.corpus.measure(self.model)
