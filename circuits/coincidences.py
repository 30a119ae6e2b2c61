"""What the inputs of an exercise's checks have in common by chance, so that a wrong answer may pass.

With a d_head of 4 the root is the half; a model of one layer cannot tell `[0]` from `[-1]`; a square
or symmetric matrix hides a transpose. This looks at the calls that the checks really make. What it
finds is mended in the checks, or explained beside them:

    COINCIDENCES = {("path_expansion", "n_layers is never above 1"): "the text says one layer"}
"""

import inspect
import itertools
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from circuits.checking import Call, Submission, run_check, same

SMALL = {1, 2, 4}  # where a root, a half, a square or a double are each other
IN_HEADS = ("n_heads", "d_head", "n_ctx")  # sizes that a model of zero layers does not use


def arguments(answer: Callable, call: Call) -> dict[str, Any]:
    """The arguments of a call by name, those left to their defaults too."""
    bound = inspect.signature(answer).bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def sizes(answer: Callable, arguments: dict[str, Any]) -> dict[str, int]:
    """Every named size of a call: of tensors by their annotation, of models by their
    configuration, and whole numbers."""
    hints, found = typing.get_type_hints(answer), {}
    for name, value in arguments.items():
        if isinstance(value, Tensor):
            dims = getattr(hints.get(name), "dim_str", "").split()
            if len(dims) == value.ndim:
                found |= {dim: n for dim, n in zip(dims, value.shape, strict=True) if dim.isidentifier()}
        elif hasattr(value, "cfg"):
            cfg = value.cfg
            unused = () if cfg.n_layers else IN_HEADS
            names = [n for n in ("d_vocab", "d_model", "n_layers", *IN_HEADS) if n not in unused]
            found |= {n: getattr(cfg, n) for n in names}
        elif isinstance(value, int) and not isinstance(value, bool):
            found[name] = value
    return found


def calls_of(check: Callable, reference: Callable, seed: int) -> list[Call]:
    """The calls that a check makes of a reference answer."""
    submission = Submission({check.exercise: reference})
    run_check(check, submission, seed, follow=False)
    return submission.calls


def coincidences(answer: Callable, calls: Sequence[Call]) -> list[str]:
    """What all calls of an answer have in common, one line each. Let them be of several seeds: what an answer
    cannot know in advance is no coincidence."""
    if not calls:
        return []
    given = [arguments(answer, call) for call in calls]
    return [*_of_sizes([sizes(answer, args) for args in given]), *_of_values(given)]


def _of_sizes(calls: Sequence[dict[str, int]]) -> Iterator[str]:
    names = dict.fromkeys(name for call in calls for name in call)
    values = {name: {call[name] for call in calls if name in call} for name in names}
    for name in names:
        if values[name] == {0}:
            continue  # it never varies, which is said of arguments
        elif name == "n_layers" and max(values[name]) == 1:
            yield "n_layers is never above 1"
        elif values[name] <= SMALL:
            yield f"{name} is always {_either(values[name])}"
    for a, b in itertools.combinations(names, 2):
        both = [(call[a], call[b]) for call in calls if a in call and b in call]
        if both and all(x == y for x, y in both):
            yield f"{a} always equals {b}"


def _either(numbers: Iterable[int]) -> str:
    return " or ".join(map(str, sorted(numbers)))


def _of_values(calls: Sequence[dict[str, Any]]) -> Iterator[str]:
    for name in calls[0]:
        values = [call[name] for call in calls]
        if isinstance(values[0], torch.Generator | torch.optim.Optimizer):
            continue
        if all(same(value, values[0]) for value in values[1:]):
            yield f"{name} never varies"
        tensors = [value for value in values if isinstance(value, Tensor) and value.numel() > 1]
        if not tensors:
            continue
        for what, holds in KINDS.items():
            if all(holds(tensor) for tensor in tensors):
                yield f"{name} is always {what}"


def _symmetric(x: Tensor) -> bool:
    return x.ndim > 1 and x.shape[-1] == x.shape[-2] and torch.allclose(x, x.mT)


def _sorted(x: Tensor) -> bool:
    return x.ndim == 1 and bool((x.sort().values == x).all())


def _distinct(x: Tensor) -> bool:
    """No token comes twice in a text."""
    whole = not x.is_floating_point() and not x.is_complex() and x.ndim > 0
    return whole and all(len(row.unique()) == len(row) for row in x.reshape(-1, x.shape[-1]))


def _binary(x: Tensor) -> bool:
    return x.is_floating_point() and bool(((x == 0) | (x == 1)).all())


KINDS = {"symmetric": _symmetric, "sorted": _sorted, "without a repetition": _distinct, "0 or 1": _binary}


def unexplained(exercise: str, found: Iterable[str], explained: dict[tuple[str, str], str]) -> Iterator[str]:
    """Problems of an exercise: coincidences that nobody explains, and explanations of none."""
    reasons = {what: reason for (name, what), reason in explained.items() if name == exercise}
    found = list(found)
    for what in found:
        if not reasons.get(what, "").strip():
            yield f"in the checks' inputs, {what}: mend it, or say beside the checks why it cannot matter"
    for what in reasons:
        if what not in found:
            yield f"COINCIDENCES explains {what!r}, which is not so"
