"""Answers that nobody has worked for. They must get no points, whatever the exercise.

Each knows by heart what the checks, which are public, ask with every seed. Of anything else it knows the shape
alone: it answers with zeros, ones, random numbers, a part of what it was given, or always the same.
"""

import functools
import inspect
import itertools
import math
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from circuits.checking import Call, describe, refusal, same
from circuits.copies import copied, fingerprint, within

CONSTANTS = [None, True, False, 0, 1, -1.0, math.nan, "", "k", [], [0], [(0, 0)], {}]
PARTS = 4  # so many parts of the arguments are tried

Guess = Callable[[list, Any], Any]  # from the arguments, and the right answer for its shape


def asked(call: Call) -> bytes:
    """What a call asks: the same for equal arguments."""
    return fingerprint((call.args, call.kwargs))


def by_heart(reference: Callable, once: Sequence[Call], again: Sequence[Call]) -> set[bytes]:
    """What is asked with one seed and with another: such answers fit into a table.

    Not so where arguments are words, or there are none. Then the text asks a few questions, and who knows the
    answers has found them.
    """
    return set() if _words_alone(reference) else {asked(call) for call in once} & {asked(call) for call in again}


def _words_alone(reference: Callable) -> bool:
    hints = typing.get_type_hints(reference)
    return all(hints.get(name) in (str, list[str]) for name in inspect.signature(reference).parameters)


def answers(
    reference: Callable, known: set[bytes], calls: Sequence[Call], others: Sequence[Call]
) -> Iterator[tuple[str, Callable]]:
    """Lazy answers, each with a name, that know these calls by heart. `calls` are what the checks will ask of the
    reference, so that the shapes need not be computed again. What it said in `others`, with another seed, some
    lazy answers always say."""
    said, tried = {asked(call): call.value for call in calls}, set()

    def lazy(guess: Guess) -> Callable:
        @functools.wraps(reference)
        def answer(*args, **kwargs):
            key = fingerprint((args, kwargs))
            if key in known:
                return reference(*args, **kwargs)
            if key not in said:
                its_args, its_kwargs = copied((args, kwargs))
                said[key] = reference(*its_args, **its_kwargs)
            return guess([*args, *kwargs.values()], said[key])

        return answer

    for what, guess in _guesses(reference, others):
        values = [guess([*call.args, *call.kwargs.values()], call.value) for call in calls]
        key = fingerprint(values)
        if key not in tried and any(map(functools.partial(_fits, reference), calls, values)):
            tried.add(key)
            yield what, lazy(guess)


def _fits(reference: Callable, call: Call, value: Any) -> bool:
    """Whether a value is of the right kind. What is not is refused by every check."""
    right = _kind(value) == _kind(call.value)
    return right and refusal(call.name, reference, call.args, call.kwargs, value) is None


def _kind(value: Any) -> type:
    if isinstance(value, int | float) or isinstance(value, Tensor) and not value.ndim:
        return float
    return list if isinstance(value, list | tuple | set | Tensor) else type(value)


def _guesses(reference: Callable, others: Sequence[Call]) -> Iterator[tuple[str, Guess]]:
    parameters = list(inspect.signature(reference).parameters)
    for what, fill in FILLS.items():
        if fill is not random or not _words_alone(reference):  # of a few options a guess may be the right one
            yield what, lambda given, value, fill=fill: filled(value, fill)
    for constant in CONSTANTS:
        yield f"always {constant!r}", lambda given, value, constant=constant: copied(constant)
    for other in _distinct(others) if parameters else ():
        yield f"always {describe(other)}", lambda given, value, other=other: copied(other)
    for i, parameter in enumerate(parameters):
        yield f"its {parameter}", lambda given, value, i=i: given[i] if i < len(given) else None
    for i in range(PARTS):
        yield f"part {i} of what it is given", lambda given, value, i=i: _part(given, value, i)


def _distinct(calls: Sequence[Call]) -> list:
    """Some answers that are no tensors and no models."""
    found: list = []
    for value in (call.value for call in calls if not list(within(call.value, Tensor | torch.nn.Module))):
        if not any(same(value, other) for other in found):
            found.append(value)
    return found


# Values of the right shape ------------------------------------------------------------------


def filled(value: Any, fill: Callable[[Any], Any]) -> Any:
    """A value with each number, word, tensor and model in it replaced by what `fill` makes of it."""
    if isinstance(value, dict):
        return {key: filled(v, fill) for key, v in value.items()}
    if isinstance(value, list) and all(type(v) is int for v in value):
        return filled(torch.tensor(value or [0]), fill).tolist()  # that it is empty is no matter of shape
    if isinstance(value, list | tuple | set):
        return type(value)(filled(v, fill) for v in value)
    return fill(value)


def constant(n: float, word: str) -> Callable[[Any], Any]:
    """Everywhere the same number, in a model too."""

    def fill(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return torch.full_like(leaf, n)
        if isinstance(leaf, torch.nn.Module):
            model = copied(leaf)
            for weight in model.parameters():
                weight.data.fill_(n)
            return model
        return type(leaf)(n) if isinstance(leaf, int | float) else word if isinstance(leaf, str) else leaf

    return fill


def random(leaf: Any) -> Any:
    """Random numbers, whole ones from 0 to 7 or more, or a new model."""
    if isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex()):
        return torch.randn_like(leaf)
    if isinstance(leaf, Tensor) and leaf.dtype == torch.bool:
        return torch.rand(leaf.shape) < 0.5
    if isinstance(leaf, Tensor):
        return torch.randint_like(leaf, max(8, 1 + int(leaf.max())) if leaf.numel() else 8)
    if isinstance(leaf, torch.nn.Module):
        return type(leaf)(leaf.cfg)
    if isinstance(leaf, int | float):
        return type(leaf)(random(torch.tensor(leaf)).item())
    return "k" if isinstance(leaf, str) else leaf


def _by_row(fill: Callable[[Tensor], Tensor], alone: float, word: str) -> Callable[[Any], Any]:
    """Of a tensor the same along its last dimension; of all else, a number."""

    def of_leaf(leaf: Any) -> Any:
        rows = isinstance(leaf, Tensor) and leaf.ndim and leaf.numel()
        return fill(leaf).to(leaf.dtype).expand(leaf.shape) if rows else constant(alone, word)(leaf)

    return of_leaf


def _diagonal(leaf: Tensor) -> Tensor:
    n_rows = leaf.shape[-2] if leaf.ndim > 1 else 1
    return torch.eye(n_rows, leaf.shape[-1]).reshape(leaf.shape[-2:])


FILLS = {
    "zeros": constant(0, ""),
    "ones": constant(1, "k"),
    "random": random,
    "equal shares": _by_row(lambda x: torch.tensor(1 / x.shape[-1]), 0.5, "q"),
    "logarithms of equal shares": _by_row(lambda x: torch.tensor(-math.log(x.shape[-1])), -1, "v"),
    "one-hot rows": _by_row(_diagonal, 2, "k"),
    "0, 1, 2, ...": _by_row(lambda x: torch.arange(x.shape[-1]), 3, "k"),
}


# Parts of what is given ---------------------------------------------------------------------


def _part(given: list, value: Any, i: int) -> Any:
    """The i-th part of the arguments that fits, or zeros; of several values each gets the next one."""
    number, known = itertools.count(i), {}

    def fill(leaf: Any) -> Any:
        n = next(number)
        if isinstance(leaf, Tensor | int | float):
            like = torch.as_tensor(leaf)
            key = like.shape, like.dtype
            if key not in known:
                fitting = _fitting(given, like)
                known[key] = [*fitting[: PARTS - 1], *fitting[PARTS - 1 :][-1:]]
            fits = known[key]
        else:
            fits = list(within(given, type(leaf)))
        if not fits:
            return constant(0, "")(leaf)
        part = fits[n % len(fits)]
        return type(leaf)(part.item()) if isinstance(leaf, int | float) else part

    return filled(value, fill)


def _fitting(given: list, like: Tensor) -> list[Tensor]:
    """Numbers and tensors among the arguments, and weights of models, brought to this shape where they can be: the
    first or last of them, transposed, repeated; and tokens as one-hot rows."""
    found: list[Tensor] = []
    for part in within(given, Tensor | int | float | torch.nn.Module):
        for x in part.parameters() if isinstance(part, torch.nn.Module) else [torch.as_tensor(part)]:
            x, extra, ways = x.detach(), x.ndim - like.ndim, []
            if extra == 0:
                ways = [x]
            elif extra > 0 and x.numel():
                ways = [x[index] for i in (0, -1) for index in ((i,) * extra, (..., *(i,) * extra))]
            elif x.ndim and x.shape == like.shape[-x.ndim:]:
                ways = [x.expand(like.shape)]
            elif x.shape == like.shape[:-1] and like.is_floating_point() and not x.is_floating_point():
                n = like.shape[-1]
                ways = [torch.nn.functional.one_hot(x.long().clamp(0, n - 1), n)]
            ways += [way.mT for way in ways if way.ndim > 1]
            found += [way.to(like.dtype).clone() for way in ways if way.shape == like.shape]
    return found
