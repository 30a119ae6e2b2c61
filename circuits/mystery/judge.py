"""What an answer to a mystery is worth: by what the model does when the answer is put to the test.

Each function fails a check (`circuits.checking.fail`) with what is wrong, or returns. Any circuit and any edit that passes
counts, whatever the plan was.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache

import torch
from torch import Tensor

from circuits.checking import describe, fail, require
from circuits.copies import copied
from circuits.mystery.family import N_SYMBOLS, Plan
from circuits.mystery.make import KINDS, NODES, last_answers, others, place_of, run_nodes, share
from utils.model import Transformer

FAITHFUL = 0.9  # of the answers of a circuit and of an edited model
RIGHT = 0.95  # of those of a program
N_TEXTS = 40
SHOWN = 8  # so many wrong answers of a program are enough to know


class Mystery:
    """A model and what it holds. Fresh texts, what the model says to them, and which redirection can be asked for are worked out once
    for each seed: many answers are judged by them. So the model must stay as it is."""

    def __init__(self, model: Transformer, plan: Plan):
        self.model, self.plan = model, plan
        self.asked = lru_cache(maxsize=200)(self._asked)
        self.redirection = lru_cache(maxsize=50)(self._redirection)

    def _asked(self, seed: int, kind: str, n: int = N_TEXTS) -> tuple[list[list[int]], list[int]]:
        """Fresh texts of a kind at whose end the model does what its plan says, as it nearly always does; and what it says."""
        draw = random.Random(f"{kind} {seed}")
        texts = [self.plan.text(draw, kind) for _ in range(n)]
        right = [s for s, said in zip(texts, last_answers(self.model, texts), strict=True) if said == self.plan.answer(s)]
        return right, [self.plan.answer(s) for s in right]

    def _redirection(self, seed: int, symbols: tuple[int, ...]) -> tuple[int, int]:
        """A symbol and a seed of texts for which the planted truth's own edit redirects the model, so that what is asked can be done:
        the first of `symbols`, and the first seed from `seed` on. (Beside the rule's own answer some symbols cannot win, and where
        the node also does a little for the rule, some texts suffer.)"""
        symbols = [s for s in symbols if s not in (self.plan.says, self.plan.trigger)]
        edited = lru_cache(lambda symbol: with_raised_logit(self.model, self.plan.quirk_node, self.plan.says, symbol))
        for other in range(seed, seed + 20):
            for symbol in symbols[:6]:
                with suppress(AssertionError):
                    judge_redirect(self, edited(symbol), symbol, other)
                    return symbol, other
        return symbols[0], seed


def judge_predict(mystery: Mystery, predict: Callable[[list[int]], int], seed: int, kind: str, n: int = N_TEXTS) -> None:
    """A program against the model, on texts of one kind."""
    texts, said = mystery.asked(seed, kind, n)
    wrong, asked = [], 0
    for asked, (text, right) in enumerate(zip(texts, said, strict=True), 1):
        got = int(predict(list(text)))
        wrong += [(text, got, right)] if got != right else []
        if len(wrong) == SHOWN:
            break
    require(
        len(wrong) <= (1 - RIGHT) * len(texts),
        f"After {' '.join(map(str, wrong[0][0]))} the model says {wrong[0][2]}; your program {wrong[0][1]}. "
        f"They differ on {len(wrong)} of {asked} texts." if wrong else "",
    )  # fmt: skip


def judge_circuit(mystery: Mystery, nodes: object, seed: int, at_most: int) -> None:
    """A circuit, by resampling all that it leaves out."""
    names = [nodes] if isinstance(nodes, str) else list(nodes) if isinstance(nodes, list | tuple | set) else fail(
        f"A circuit is a list of nodes, such as ['0.3', 'm1']; yours is {describe(nodes)}."
    )
    strange = [name for name in names if name not in NODES]
    require(not strange, f"There is no node {strange[:1]}: nodes are heads '0.0' to '1.3' and MLPs 'm0' and 'm1'.")
    require(
        len(set(names)) <= at_most,
        f"Your circuit has {len(set(names))} nodes; this check takes at most {at_most}.",
    )
    texts, said = _of_kinds(mystery, seed, KINDS)
    other = others(mystery.plan, random.Random(seed), len(texts))
    got = last_answers(lambda tokens: run_nodes(mystery.model, names, tokens, other), texts)
    wrong = [(text, a, b) for text, a, b in zip(texts, got, said, strict=True) if a != b]
    require(
        share(got, said) >= FAITHFUL,
        f"With all other nodes speaking of other texts, the model says as before in {share(got, said):.0%} of {len(texts)} texts; "
        f"{FAITHFUL:.0%} are asked for. After {' '.join(map(str, wrong[0][0]))} it said {wrong[0][2]} and now says "
        f"{wrong[0][1]}." if wrong else "",
    )  # fmt: skip


def judge_disable(mystery: Mystery, edited: Transformer, seed: int) -> None:
    """An edit after which the exception is gone and the rule is left, there too."""
    _judge_edit(mystery, edited, seed, mystery.plan.rule, "what the rule alone says")


def judge_redirect(mystery: Mystery, edited: Transformer, symbol: int, seed: int) -> None:
    """An edit after which the model names `symbol` where the exception applies."""
    _judge_edit(mystery, edited, seed, lambda s: symbol, "the symbol asked for")


def _of_kinds(mystery: Mystery, seed: int, kinds: tuple[str, ...]) -> tuple[list[list[int]], list[int]]:
    """Texts of several kinds, and what the model says to them."""
    asked = [mystery.asked(seed, kind) for kind in kinds]
    return [s for texts, _ in asked for s in texts], [said for _, some in asked for said in some]


def _judge_edit(mystery: Mystery, edited: Transformer, seed: int, want: Callable, what: str) -> None:
    plan = mystery.plan
    require(
        isinstance(edited, Transformer) and edited.cfg == mystery.model.cfg,
        "Return a model of the same shape: a copy, with some weights changed.",
    )
    inside = [s for s in mystery.asked(seed, "quirk", 2 * N_TEXTS)[0] if want(s) != plan.says]
    outside, said = _of_kinds(mystery, seed, ("plain", "unusual"))
    free = [i for i, s in enumerate(outside) if not plan.applies(s)]
    for texts, wanted, where in (
        (inside, [want(s) for s in inside], f"where the exception applies it should say {what}"),
        ([outside[i] for i in free], [said[i] for i in free], "where it does not, it should say what it said before"),
    ):
        got = last_answers(edited, texts)
        wrong = [(text, a, b) for text, a, b in zip(texts, got, wanted, strict=True) if a != b]
        require(
            share(got, wanted) >= FAITHFUL,
            f"Of the edited model, {where}; it does in {share(got, wanted):.0%} of {len(texts)} texts, and {FAITHFUL:.0%} are asked "
            f"for. After {' '.join(map(str, wrong[0][0]))} it says {wrong[0][1]}, not {wrong[0][2]}." if wrong else "",
        )  # fmt: skip


# The planted truth, as answers --------------------------------------------------------------


def without_node(model: Transformer, node: str) -> Transformer:
    """A copy of the model in which a node writes nothing."""
    edited = copied(model)
    with torch.no_grad():
        _writes(edited, node, lambda W: torch.zeros_like(W))
    return edited


def with_raised_logit(model: Transformer, node: str, old: int, new: int) -> Transformer:
    """A copy in which a node raises the logit of `new` by twice what it raises that of `old`, and no other logit by more than
    before: its writing weights, and the same times a matrix of rank one."""
    edited = copied(model)
    with torch.no_grad():
        U = model.ln_final.w[:, None] * model.W_U
        U = U - U.mean(0)  # LayerNorm takes the mean out
        M = torch.eye(len(U)) + 2 * torch.outer(U[:, old], torch.linalg.pinv(U)[new])
        _writes(edited, node, lambda W: W @ M)
    return edited


def _writes(model: Transformer, node: str, change: Callable[[Tensor], Tensor]) -> None:
    """Change what a node writes with."""
    layer, head = place_of(node)
    block = model.blocks[layer]
    for W in (block.mlp.W_out, block.mlp.b_out) if head is None else (block.attn.W_O[head],):
        W.copy_(change(W))


def solve(model: Transformer, plan: Plan, seed: int) -> dict[str, str]:
    """What the planted truth fails, by exercise: nothing, if the model can be solved."""
    mystery, node = Mystery(model, plan), plan.quirk_node
    symbol, texts = mystery.redirection(seed, tuple(range(1, N_SYMBOLS + 1)))
    tries = {
        "predict": lambda: [judge_predict(mystery, plan.answer, seed, kind) for kind in KINDS],
        "circuit": lambda: judge_circuit(mystery, plan.circuit, seed, len(plan.circuit)),
        "disable": lambda: judge_disable(mystery, without_node(model, node), seed),
        "redirect": lambda: judge_redirect(mystery, with_raised_logit(model, node, plan.says, symbol), symbol, texts),
    }
    failed = {}
    for name, attempt in tries.items():
        try:
            attempt()
        except AssertionError as error:
            failed[name] = str(error)
    return failed
