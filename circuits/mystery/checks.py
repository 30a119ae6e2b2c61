"""The checks of a mystery model: of the shipped ones in chapter 8, and of a class's own. They differ in how an answer is called, as the
shipped ones are told apart by a letter, and in points."""

from collections.abc import Callable

import torch

from circuits.checking import exercise
from circuits.copies import copied
from circuits.inputs import integer, orthogonal
from circuits.mystery import judge
from circuits.mystery.family import N_SYMBOLS
from utils.model import Transformer

Check = Callable[..., None]
N_PROGRAM = 25  # texts of a kind that a program is asked for


class Checks:
    """What must hold of the answers to a mystery. `held()` is the mystery; `called(submission, exercise)` is an answer as a function
    of what is not told by the mystery alone."""

    def __init__(self, held: Callable[[], judge.Mystery], called: Callable):
        self.held, self.called = held, called

    def predicts(self, *kinds: str) -> Check:
        """A program that names what the model names."""

        def check(submission, rng):
            for kind in kinds:
                judge.judge_predict(self.held(), self.called(submission, "predict"), _seed(rng), kind, N_PROGRAM)

        return check

    def is_a_circuit(self, to_spare: int | None) -> Check:
        """Nodes that are enough: as many as were planted, and so many to spare; of None six at most."""

        def check(submission, rng):
            mystery = self.held()
            at_most = 6 if to_spare is None else len(mystery.plan.circuit) + to_spare
            judge.judge_circuit(mystery, self.called(submission, "circuit")(), _seed(rng), at_most)

        return check

    def disables(self) -> Check:
        """An edit that leaves the rule alone."""

        def check(submission, rng):
            model = _written_otherwise(rng, self.held().model)
            judge.judge_disable(self.held(), self.called(submission, "disable")(model), _seed(rng))

        return check

    def redirects(self) -> Check:
        """An edit that makes the exception name another symbol."""

        def check(submission, rng):
            model = _written_otherwise(rng, self.held().model)
            symbols = torch.randperm(N_SYMBOLS, generator=rng).add(1).tolist()
            symbol, seed = self.held().redirection(_seed(rng), tuple(symbols))
            judge.judge_redirect(self.held(), self.called(submission, "redirect")(model, symbol), symbol, seed)

        return check


def named(checks: dict[str, tuple[str, float, Check]]) -> dict[str, Check]:
    """Checks by name, each with its exercise and its points, for a file of checks."""
    made = {}
    for name, (of, points, check) in checks.items():
        check.__name__ = check.__qualname__ = name
        made[name] = exercise(of, points=points)(check)
    return made


def _seed(rng: torch.Generator) -> int:
    return integer(rng, 0, 2**31)


def _written_otherwise(rng: torch.Generator, model: Transformer) -> Transformer:
    """The model with other values in each head that do the same, so that no two checks give the same."""
    model = copied(model)
    with torch.no_grad():
        for block in model.blocks:
            for head in range(model.cfg.n_heads):
                turn = orthogonal(rng, model.cfg.d_head)
                block.attn.W_V[head], block.attn.W_O[head] = block.attn.W_V[head] @ turn, turn.T @ block.attn.W_O[head]
                block.attn.b_V[head] = block.attn.b_V[head] @ turn
    return model
