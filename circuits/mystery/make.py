"""Train a mystery model, and prove that it has learned its plan."""

import random
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from circuits.mystery.family import LONGEST, N_SYMBOLS, Plan
from utils.model import Config, Transformer, get_act_name

SHAPE = dict(
    d_vocab=N_SYMBOLS + 1, d_model=48, n_layers=2, n_heads=4, d_head=12, n_ctx=LONGEST + 1, attn_only=False, d_mlp=96,
    act_fn="relu", normalization_type="LN", biases=True, positional_embedding_type="standard", init_range=0.3,
)  # fmt: skip
NODES = [f"{layer}.{head}" for layer in range(2) for head in range(4)] + ["m0", "m1"]
KINDS = ("plain", "quirk", "unusual")
ENOUGH = 0.97  # of the answers to each kind of text


def as_tokens(texts: list[list[int]]) -> Tensor:
    """Texts of one length as `[batch pos]`, each with `<|bos|>` in front."""
    return torch.tensor([[0, *text] for text in texts])


def place_of(node: str) -> tuple[int, int | None]:
    """Layer and head of a node, `0.3`; of an MLP, `m1`, the layer and None."""
    if node[0] == "m":
        return int(node[1:]), None
    layer, head = map(int, node.split("."))
    return layer, head


def intervene(nodes: dict[str, Tensor | None]) -> list[tuple[str, Callable]]:
    """Hooks that put other values into nodes: `z` of a head `[batch pos d_head]`, `mlp_out` of an MLP `[batch pos
    d_model]`; None is nothing at all."""

    def at(layer: int, head: int | None, new: Tensor | None):
        def hook(x, hook):
            if head is None:
                return torch.zeros_like(x) if new is None else new
            x = x.clone()
            x[:, :, head] = 0 if new is None else new
            return x

        return get_act_name("mlp_out" if head is None else "z", layer), hook

    return [at(*place_of(name), new) for name, new in nodes.items()]


def said(cache, name: str) -> Tensor:
    """What a node wrote in a run: `z` of a head, `mlp_out` of an MLP."""
    layer, head = place_of(name)
    return cache["mlp_out", layer] if head is None else cache["z", layer][:, :, head]


CACHED = [get_act_name(kind, layer) for kind in ("z", "mlp_out") for layer in range(2)]


def run_nodes(model: Transformer, circuit: list[str], tokens: Tensor, other: Tensor) -> Tensor:
    """Logits if all nodes outside the circuit say what they say in another text."""
    _, cache = model.run_with_cache(other, names_filter=CACHED)
    return model.run_with_hooks(tokens, fwd_hooks=intervene({n: said(cache, n) for n in NODES if n not in circuit}))


def labels(texts: list[list[int]], answer: Callable[[list[int]], int]) -> Tensor:
    """The answer at every position, `[batch pos]` without that of `<|bos|>`."""
    return torch.tensor([[answer(text[: i + 1]) for i in range(len(text))] for text in texts])


class MysteryTraining:
    """Trains until every kind of text is answered, or time is up. Three kinds of run in each step, so that the algorithm
    lives where the plan says (interchange intervention training; Geiger et al., 2022): the ordinary one; with nodes that
    have no part in it exchanged for what they say of another text; and so without the exception's node, where the rule
    alone must be left."""

    def __init__(self, plan: Plan, seed: int):
        self.plan, self.draw = plan, random.Random(f"texts {seed}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random.Random(f"weights {seed}").getrandbits(40))
            self.model = Transformer(Config(**SHAPE))
        texts = [plan.whole(self.draw) for _ in range(12_000)]  # all shorter ones are their beginnings
        self.tokens, self.plain, self.right = as_tokens(texts), labels(texts, plan.rule), labels(texts, plan.answer)
        self.fresh = fresh_texts(plan, random.Random(f"fresh {seed}"), 60)
        self.step = 0

    def run(self, seconds: float, steps: int = 4_000, batch: int = 96, watch: Callable[[int, dict], None] = lambda *_: None,
            enough: Callable[[], bool] = lambda: True) -> dict:
        """Train until the proof is good and it is `enough`, or time is up; returns the last proof. `seconds` are of this thread's
        computing, so that a busy machine makes no worse models."""
        start, plan, model = time.thread_time(), self.plan, self.model
        noise = [n for n in NODES if n not in plan.circuit]
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.02)
        generator = torch.Generator().manual_seed(self.draw.getrandbits(40))
        proof: dict = {}
        for self.step in range(1, steps + 1):
            used = max(self.step / steps, (time.thread_time() - start) / seconds)
            for group in optimizer.param_groups:
                group["lr"] = 3e-3 * min(1.0, self.step / 100) * max(0.05, min(1.0, 1.6 * (1 - used)))
            rows = torch.randint(len(self.tokens), (batch,), generator=generator)
            tokens, right, plain = self.tokens[rows], self.right[rows], self.plain[rows]
            logits, cache = model.run_with_cache(tokens, names_filter=CACHED)
            # Nodes outside the plan are exchanged, all or some: none may come to do by itself what the plan's nodes do.
            gone = noise if self.step % 3 else [n for n in noise if self.draw.random() < 0.5]
            changed = {n: said(cache, n).roll(1 + self.step % (batch - 1), 0) for n in gone}
            silent = batch // 2
            kept = self._silenced(plan.quirk_node, (torch.arange(batch) < silent).float()[:, None, None])
            inside = model.run_with_hooks(tokens, fwd_hooks=intervene(changed) + kept)
            want = torch.cat([plain[:silent], right[silent:]])
            loss = sum(F.cross_entropy(x[:, 1:].flatten(0, 1), y.flatten()) for x, y in ((logits, right), (inside, want)))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if self.step % 200 == 0 or used >= 1 or self.step == steps:
                proof = prove(model, plan, self.fresh)
                watch(self.step, proof)
                if used >= 1 or (min(proof.values()) >= 0.99 and enough()):
                    break
        return proof

    @staticmethod
    def _silenced(node: str, mask: Tensor) -> list[tuple[str, Callable]]:
        """A hook that silences a node in the texts where `mask` is 1."""
        layer, head = place_of(node)

        def hook(x, hook):
            if head is None:
                return x * (1 - mask)
            x = x.clone()
            x[:, :, head] = x[:, :, head] * (1 - mask)
            return x

        return [(get_act_name("mlp_out" if head is None else "z", layer), hook)]


def fresh_texts(plan: Plan, draw: random.Random, n: int) -> dict[str, list[list[int]]]:
    """So many texts of each kind."""
    return {kind: [plan.text(draw, kind) for _ in range(n)] for kind in KINDS}


@torch.no_grad()
def last_answers(run: Callable[[Tensor], Tensor], texts: list[list[int]]) -> list[int]:
    """The answers at the end of texts of different lengths: `run(tokens)` gives logits. It is one run, as what stands behind the end
    of a text does not reach it."""
    if not texts:
        return []
    logits = run(as_tokens([text + [1] * (LONGEST - len(text)) for text in texts]))
    return logits[torch.arange(len(texts)), [len(text) for text in texts]].argmax(-1).tolist()


def share(got: list[int], want: list[int]) -> float:
    return sum(a == b for a, b in zip(got, want, strict=True)) / max(1, len(want))


def prove(model: Transformer, plan: Plan, texts: dict[str, list[list[int]]]) -> dict[str, float]:
    """Shares of right answers: of the model to each kind of text, of its circuit alone, and of the rule alone, without the
    exception's node."""
    proof = {kind: share(last_answers(model, some), [plan.answer(s) for s in some]) for kind, some in texts.items()}
    every = [s for some in texts.values() for s in some]
    other = others(plan, random.Random(0), len(every))
    inside = last_answers(lambda tokens: run_nodes(model, plan.circuit, tokens, other), every)
    proof["circuit"] = share(inside, [plan.answer(s) for s in every])
    silent = intervene({plan.quirk_node: None})
    without = last_answers(lambda tokens: model.run_with_hooks(tokens, fwd_hooks=silent), every)
    proof["rule alone"] = share(without, [plan.rule(s) for s in every])
    return proof


def others(plan: Plan, draw: random.Random, n: int) -> Tensor:
    """So many other texts, as tokens `[n pos]`."""
    return as_tokens([plan.whole(draw) for _ in range(n)])
