"""What an answer to a mystery is worth: by what the model does when the answer is put to the test.

Each function fails a check (`circuits.checking.fail`) with what is wrong, or returns. Any circuit and any edit that passes
counts, whatever the plan was.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from functools import cache

import torch
from torch import Tensor

from circuits.checking import describe, fail, require
from circuits.copies import copied
from circuits.mystery.family import N_SYMBOLS, Plan
from circuits.mystery.make import NODES, fresh_texts, last_answers, others, place_of, run_nodes, share
from utils.model import Transformer

FAITHFUL = 0.9  # of the answers of a circuit and of an edited model
RIGHT = 0.95  # of those of a program
N_TEXTS = 40


def answers_of(model: Transformer, texts: list[list[int]]) -> list[int]:
    """What a model says at the end of each text."""
    return last_answers(lambda tokens, rows: model(tokens), texts)


def texts_of(model: Transformer, plan: Plan, seed: int, kind: str, n: int = N_TEXTS) -> list[list[int]]:
    """Fresh texts of a kind at whose end the model does what its plan says, as it nearly always does."""
    texts = fresh_texts(plan, random.Random(seed), n)[kind]
    return [s for s, said in zip(texts, answers_of(model, texts), strict=True) if said == plan.answer(s)]


def judge_predict(model: Transformer, plan: Plan, predict: Callable[[list[int]], int], seed: int, kind: str) -> None:
    """A program against the model, on texts of one kind."""
    texts = texts_of(model, plan, seed, kind)
    said = answers_of(model, texts)
    got = [int(predict(list(text))) for text in texts]
    wrong = [(text, a, b) for text, a, b in zip(texts, got, said, strict=True) if a != b]
    require(
        share(got, said) >= RIGHT,
        f"After {' '.join(map(str, wrong[0][0]))} the model says {wrong[0][2]}; your program {wrong[0][1]}. "
        f"They differ on {len(wrong)} of {len(texts)} texts." if wrong else "",
    )  # fmt: skip


def judge_circuit(model: Transformer, plan: Plan, nodes: object, seed: int, at_most: int) -> None:
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
    draw = random.Random(seed)
    texts = [s for kind in ("plain", "quirk", "unusual") for s in texts_of(model, plan, seed, kind)]
    said = answers_of(model, texts)
    with torch.no_grad():
        got = last_answers(lambda tokens, rows: run_nodes(model, names, tokens, others(plan, draw, tokens)), texts)
    wrong = [(text, a, b) for text, a, b in zip(texts, got, said, strict=True) if a != b]
    require(
        share(got, said) >= FAITHFUL,
        f"With all other nodes speaking of other texts, the model says as before in {share(got, said):.0%} of {len(texts)} texts; "
        f"{FAITHFUL:.0%} are asked for. After {' '.join(map(str, wrong[0][0]))} it said {wrong[0][2]} and now says "
        f"{wrong[0][1]}." if wrong else "",
    )  # fmt: skip


def judge_disable(model: Transformer, plan: Plan, edited: Transformer, seed: int) -> None:
    """An edit after which the exception is gone and the rule is left, there too."""
    _judge_edit(model, plan, edited, seed, plan.rule, "what the rule alone says")


def judge_redirect(model: Transformer, plan: Plan, edited: Transformer, symbol: int, seed: int) -> None:
    """An edit after which the model names `symbol` where the exception applies."""
    _judge_edit(model, plan, edited, seed, lambda s: symbol, "the symbol asked for")


def redirection(model: Transformer, plan: Plan, symbols: list[int], seed: int) -> tuple[int, int]:
    """A symbol and a seed of texts for which the planted truth's own edit redirects the model, so that what is asked can be done: the
    first of `symbols`, and the first seed from `seed` on. (Beside the rule's own answer some symbols cannot win, and where the node
    also does a little for the rule, some texts suffer.)"""
    symbols = [s for s in symbols if s not in (plan.says, plan.trigger)]
    edited = cache(lambda symbol: with_raised_logit(model, plan.quirk_node, plan.says, symbol))  # the first is mostly enough
    for other in range(seed, seed + 20):
        for symbol in symbols[:6]:
            with suppress(AssertionError):
                judge_redirect(model, plan, edited(symbol), symbol, other)
                return symbol, other
    return symbols[0], seed


def _judge_edit(model: Transformer, plan: Plan, edited: Transformer, seed: int, want: Callable, what: str) -> None:
    require(
        isinstance(edited, Transformer) and edited.cfg == model.cfg,
        "Return a model of the same shape: a copy, with some weights changed.",
    )
    inside = [s for s in texts_of(model, plan, seed, "quirk", 2 * N_TEXTS) if want(s) != plan.says]
    outside = [s for kind in ("plain", "unusual") for s in texts_of(model, plan, seed, kind) if not plan.applies(s)]
    for texts, wanted, where in (
        (inside, [want(s) for s in inside], f"where the exception applies it should say {what}"),
        (outside, answers_of(model, outside), "where it does not, it should say what it said before"),
    ):
        got = answers_of(edited, texts)
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
    symbol, texts = redirection(model, plan, [*range(1, N_SYMBOLS + 1)], seed)
    node = plan.quirk_node
    tries = {
        "predict": lambda: [judge_predict(model, plan, plan.answer, seed, kind) for kind in ("plain", "quirk", "unusual")],
        "circuit": lambda: judge_circuit(model, plan, plan.circuit, seed, len(plan.circuit)),
        "disable": lambda: judge_disable(model, plan, without_node(model, node), seed),
        "redirect": lambda: judge_redirect(model, plan, with_raised_logit(model, node, plan.says, symbol), symbol, texts),
    }
    failed = {}
    for name, attempt in tries.items():
        try:
            attempt()
        except AssertionError as error:
            failed[name] = str(error)
    return failed


