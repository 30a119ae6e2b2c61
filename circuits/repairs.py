"""Slips that are the same in many exercises, recognised by mending them.

Who returned a sum where a mean is asked for would pass with the result divided by a size. So each slip
has its repair, and if all checks of the exercise pass with it, that was the slip, beyond doubt.
"""

import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from circuits.checking import AnswerError, Call, Submission, refusal, run_check, same, sizes_of

MOST = 24  # repairs that are tried by running a check
Sizes = dict[str, int]


@dataclass
class Repair:
    """What mends an answer: the hint for who made the slip, and what to do to the result, or to the
    arguments before the call."""

    hint: str
    result: Callable[[Any, Sizes], Any] = lambda value, sizes: value
    arguments: Callable[[list, Sizes], list] = lambda args, sizes: args


class Repaired(Submission):
    """A submission one of whose slips is mended."""

    def __init__(self, inner: Submission, repair: Repair):
        super().__init__({})
        self.inner, self.repair = inner, repair

    def run(self, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        self.inner.in_place = self.in_place
        sizes = sizes_of(self.signature(name), args, kwargs)
        args = tuple(self.repair.arguments(list(args), sizes))
        return self.repair.result(self.inner.run(name, args, kwargs), sizes)

    def signature(self, name: str) -> Callable:
        return self.inner.signature(name)


def repair(
    checks: Sequence[Callable],
    submission: Submission,
    trials: Sequence,
    pair: tuple[Tensor, Tensor] | None,
    seed: int,
) -> str | None:
    """The hint for a slip whose repair makes every check pass, or for an argument that the answer does
    not heed; None if there is no such thing. `pair` is what came and what should have come."""
    failed = next((i for i, trial in enumerate(trials) if not trial.passed and trial.calls), None)
    if failed is None or any(check.in_place for check in checks):
        return None
    call = trials[failed].calls[-1]
    order = [checks[failed], *(check for i, check in enumerate(checks) if i != failed)]
    try:
        for candidate in itertools.islice(_candidates(call, pair), MOST):
            if _passes(order, Repaired(submission, candidate), seed):
                return candidate.hint
        calls = [c for trial in trials if not trial.passed for c in trial.calls]
        return unheeded(submission, calls)
    except (AnswerError, TypeError, ValueError):  # arguments that do not fit, or a worker that is gone
        return None


def _passes(checks: Sequence[Callable], submission: Submission, seed: int) -> bool:
    try:
        return all(run_check(check, submission, seed) is None for check in checks)
    except Exception:  # the repair does not fit what this answer returns
        return False


def _candidates(call: Call, pair: tuple[Tensor, Tensor] | None) -> Iterator[Repair]:
    sizes = sizes_of(call.like, call.args, call.kwargs) if call.like else {}
    if pair is not None and pair[0].shape == pair[1].shape:
        yield from _of_numbers(*pair, sizes)
    if call.error is None:
        yield from _of_shape(call)
        yield from _of_arguments(call)


# Repairs of the result ----------------------------------------------------------------------

ELEMENTWISE: list[tuple[str, Callable[[Tensor], Tensor]]] = [
    ("Your result has the opposite sign: turn it round.", lambda x: -x),
    ("Your result is one minus what is asked for.", lambda x: 1 - x),
    ("You return logarithms where the numbers themselves are asked for: take `.exp()`.", torch.exp),
    ("You return the numbers themselves where their logarithms are asked for: take `.log()`.", torch.log),
    ("Your result is in bits; nats are asked for: `log`, not `log2`.", lambda x: x * math.log(2)),
    ("You return the root of what is asked for.", lambda x: x**2),
    ("You return the square of what is asked for: take the root.", torch.sqrt),
    ("Your result has signs where sizes are asked for: take `.abs()`.", torch.abs),
    ("You return scores where weights that sum to one are asked for: take their softmax.",
     lambda x: torch.softmax(x, -1)),
]  # fmt: skip

COUNTED: list[tuple[str, Callable[[Tensor], Tensor]]] = [
    ("Your result is one too small everywhere. Positions, layers and heads count from 0.", lambda x: x + 1),
    ("Your result is one too large everywhere. Positions, layers and heads count from 0.", lambda x: x - 1),
]


def _of_numbers(got: Tensor, want: Tensor, sizes: Sizes) -> Iterator[Repair]:
    """Repairs of every number alike, such as make the wanted numbers out of those that came."""
    got, want = got.double(), want.double()
    whole = bool((got == got.round()).all() and (want == want.round()).all())
    for hint, mend in ELEMENTWISE + COUNTED * whole:
        if mend is torch.abs and len(got.sign().unique()) < 2:  # of one number it would tell too little
            continue
        if _close(mend(got), want):
            yield Repair(hint, lambda value, sizes, mend=mend: _mapped(mend, value))
    for hint, factor in _factors(sizes):
        if _close(got * factor(sizes), want):
            yield Repair(
                hint,
                lambda value, sizes, factor=factor: _mapped(lambda x: x * factor(sizes), value),
            )


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True)


def _factors(sizes: Sizes) -> Iterator[tuple[str, Callable[[Sizes], float]]]:
    """Numbers by which a result is too large or too small when a mean is taken for a sum, one size for
    another, a size for its root."""
    names = [name for name, n in sizes.items() if n > 1]
    large = "Your numbers are {0} times too large: is a sum taken for a mean, or a division left out?"
    small = "Your numbers are {0} times too small: is a mean taken for a sum, or divided once too often?"
    roots = [(f"√`{a}`", lambda s, a=a: s[a] ** 0.5) for a in names]
    for what, root in roots:
        yield f"Your numbers are {what} times too large: is a division by this root left out?", lambda s, root=root: 1 / root(s)
        yield (f"Your numbers are {what} times too small: you divide by this root where nothing asks for it, or by "
               "its square.", root)  # fmt: skip
    counts = [(f"`{a}`", lambda s, a=a: s[a]) for a in names]
    counts += [(f"`{a} - 1`", lambda s, a=a: s[a] - 1) for a in names]
    counts += [
        (f"`{a} * {b}`", lambda s, a=a, b=b: s[a] * s[b]) for a, b in itertools.combinations(names, 2)
    ]
    for what, count in [("2", lambda s: 2), *counts]:
        yield large.format(what), lambda s, count=count: 1 / count(s) if count(s) else math.nan
        yield small.format(what), count
    for a, b in itertools.permutations(names, 2):
        yield (f"You divide by `{a}` (or its like) where `{b}` is the number of things.",
               lambda s, a=a, b=b: s[a] / s[b])  # fmt: skip


def _mapped(mend: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Apply to every number of a result."""
    if isinstance(value, Tensor):
        return mend(value if value.is_floating_point() or value.is_complex() else value.double())
    if isinstance(value, list | tuple):
        return type(value)(_mapped(mend, v) for v in value)
    if isinstance(value, dict):
        return {key: _mapped(mend, v) for key, v in value.items()}
    if isinstance(value, int) and not isinstance(value, bool):
        mended = mend(torch.tensor(float(value))).item()
        return int(mended) if mended == int(mended) else mended
    return mend(torch.tensor(value)).item() if isinstance(value, float) else value


def _of_shape(call: Call) -> Iterator[Repair]:
    """Repairs that put the same numbers elsewhere; such as give an accepted shape, if it was refused."""
    value = call.value
    if isinstance(value, list) and len(value) > 1:
        yield Repair("Your list is right but for its order: it runs the other way round.", lambda v, s: v[::-1])
    if not isinstance(value, Tensor):
        return
    moves: list[tuple[str, Callable[[Tensor], Tensor]]] = []
    dims = range(value.ndim)
    for a, b in itertools.combinations(dims, 2):
        rows = ": rows are columns" if value.ndim == 2 else ""
        hint = f"Dimensions {a} and {b} of your result are exchanged{rows}."
        moves.append((hint, lambda x, a=a, b=b: x.transpose(a, b)))
    for d in dims:
        hint = f"Your result has one entry too many along dimension {d}: leave out the {{}}."
        moves.append((hint.format("last"), lambda x, d=d: x.narrow(d, 0, x.shape[d] - 1)))
        moves.append((hint.format("first"), lambda x, d=d: x.narrow(d, 1, x.shape[d] - 1)))
        hint = f"Your result runs the other way round along dimension {d}."
        moves.append((hint, lambda x, d=d: x.flip(d)))
    for hint, move in moves:
        if refusal(call.name, call.like, call.args, call.kwargs, move(value)) is None:
            yield Repair(hint, lambda v, s, move=move: move(v))


# Repairs of the arguments -------------------------------------------------------------------


def _of_arguments(call: Call) -> Iterator[Repair]:
    parameters = list(inspect.signature(call.like).parameters.values())[: len(call.args)]
    for i, j in itertools.combinations(range(len(parameters)), 2):
        a, b = parameters[i], parameters[j]
        if a.annotation == b.annotation is not inspect.Parameter.empty:
            yield Repair(
                f"`{a.name}` and `{b.name}` are exchanged: you use each where the other belongs.",
                arguments=lambda args, s, i=i, j=j: _exchanged(args, i, j),
            )
    for i, parameter in enumerate(parameters):
        if parameter.annotation is int and parameter.name not in ("n_heads", "d_vocab", "n_ctx", "d_model"):
            for step, word in ((-1, "after"), (1, "before")):
                yield Repair(
                    f"You use the `{parameter.name}` {word} the one that is asked for.",
                    arguments=lambda args, s, i=i, p=parameter.name, step=step: _stepped(args, i, p, step, s),
                )


def _exchanged(args: list, i: int, j: int) -> list:
    args[i], args[j] = args[j], args[i]
    return args


def _stepped(args: list, i: int, parameter: str, step: int, sizes: Sizes) -> list:
    args[i] += step
    if f"n_{parameter}s" in sizes:  # the layer before the first is the last, as Python counts
        args[i] %= sizes[f"n_{parameter}s"]
    return args


# Arguments that are not heeded --------------------------------------------------------------


def unheeded(submission: Submission, calls: Sequence[Call]) -> str | None:
    """The hint for an argument that makes no difference to the answer: it comes out the same with
    every value that the checks gave, in every call."""
    calls = [call for call in calls if call.error is None and call.like][:4]
    if len(calls) < 1 or all(same(call.value, calls[0].value) for call in calls[1:]) and len(calls) > 1:
        return None  # it says the same whatever it is asked: more is wrong than one argument
    if all(isinstance(call.value, Tensor) and (call.value == call.value.flatten()[:1]).all() for call in calls):
        return None  # one number everywhere, such as 0
    parameters = list(inspect.signature(calls[0].like).parameters)
    for i, parameter in enumerate(parameters):
        tried = 0
        for call in calls:
            for other in _others(call, i, parameter, calls):
                args = (*call.args[:i], other, *call.args[i + 1 :])
                try:
                    if not same(submission.run(call.name, args, call.kwargs), call.value):
                        tried = -math.inf
                except AnswerError:
                    continue
                tried += 1
            if tried < 0:
                break
        if tried >= 3:
            return f"Your answer is the same whatever `{parameter}` is. Where does it come in?"
    return None


def _others(call: Call, i: int, parameter: str, calls: Sequence[Call]) -> list:
    """Other values that an argument could have in a call."""
    value = call.args[i] if i < len(call.args) else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return []
    if parameter.startswith(("n_", "d_")):  # a size, which a right answer may leave to broadcasting
        return []
    sizes = sizes_of(call.like, call.args, call.kwargs)
    if (n := sizes.get(f"n_{parameter}s")) is not None:
        return [other for other in range(n) if other != value][:3]
    given = [c.args[i] for c in calls if i < len(c.args) and c.args[i] != value]
    return list(dict.fromkeys(given))[:3]
