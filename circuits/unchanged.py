"""What an answer must leave as it was: what it was given, and torch's settings.

A check gives an answer copies, so a change would do no harm there. In the notebook it does: the
learner's own model is ruined, and later cells give other numbers without a word.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

# What a learner is told, after the name of the answer. `{it}` is an argument, a weight or a setting.
CHANGES = {
    "values": "changes what it was given: {it} has other values after the call. Whoever uses it next "
    "gets other results. Work on a copy (`x = x.clone()`, `copy.deepcopy(model)`), or make new values "
    "where you now write with `x[...] =`, `+=` or a method that ends in `_`",
    "gradient": "leaves a gradient on {it}, to which the next `backward()` would add: use "
    "`torch.autograd.grad(...)`, or `backward()` on a copy",
    "requires_grad": "leaves {it} with another `requires_grad` than it had: set it on a copy, or use "
    "`torch.no_grad()`",
    "attributes": "changes what it was given: {it} has other settings, methods or hooks after the call. "
    "Work on a copy: `copy.deepcopy(...)`",
    "drawn": "draws from torch's global generator, though it was given a generator of its own: hand that "
    "on, as in `torch.randint(..., generator=generator)`",
    "setting": "leaves torch with another {it} than before: set it back, or do without",
}


# Arguments ----------------------------------------------------------------------------------


def changed(before: tuple[tuple, dict], after: tuple[tuple, dict]) -> tuple[str, str] | None:
    """What a call did to its arguments: a key of CHANGES and the place; None if all is as it was."""
    try:
        return next(_changes(before, after), None)
    except Exception:  # what was a tensor is now something that defends itself
        return "values", "0"


def places(arguments: tuple[tuple, dict]) -> set[str]:
    """All places that `changed` can name: `0`, `1 W_E` (the argument 1's weight W_E), `cache hook_z`."""
    return {" ".join(filter(None, place)) for *place, _ in _parts(arguments)}


def spell(change: str, place: str, parameters: list[str]) -> str:
    """The sentence of CHANGES, with the place in a learner's words."""
    argument, _, part = place.partition(" ")
    if argument.isdigit():
        at = int(argument)
        argument = f"`{parameters[at]}`" if at < len(parameters) else f"argument {at + 1}"
    else:
        argument = f"`{argument}`"
    it = place if change == "setting" else f"`{part}` of {argument}" if part else argument
    return CHANGES[change].format(it=it)


def _parts(arguments: tuple[tuple, dict]) -> Iterator[tuple[str, str, Any]]:
    """Every argument and, of models and dictionaries, every part: (argument, part, value)."""
    args, kwargs = arguments
    for name, value in {**{str(i): arg for i, arg in enumerate(args)}, **kwargs}.items():
        yield name, "", value
        if isinstance(value, torch.nn.Module):
            yield from ((name, n, p) for n, p in (*value.named_parameters(), *value.named_buffers()))
        elif hasattr(value, "items"):  # a dictionary, a cache
            yield from ((name, str(key).replace(" ", "_"), v) for key, v in value.items())


def _changes(before: tuple[tuple, dict], after: tuple[tuple, dict]) -> Iterator[tuple[str, str]]:
    old = {(name, part): value for name, part, value in _parts(before)}
    new = {(name, part): value for name, part, value in _parts(after)}
    for at, value in old.items():
        place = " ".join(filter(None, at))
        if at not in new:
            yield "attributes" if isinstance(old[at[0], ""], torch.nn.Module) else "values", at[0]
        elif isinstance(value, torch.nn.Module):
            if _settings(value) != _settings(new[at]):
                yield "attributes", place
        elif not _equal(value, new[at]):
            yield "values", place
        elif isinstance(value, Tensor):
            if value.requires_grad != new[at].requires_grad:
                yield "requires_grad", place
            if not _equal(_gradient(value), _gradient(new[at])):
                yield "gradient", place
    for at in new.keys() - old.keys():
        yield "values", at[0]


def _settings(model: torch.nn.Module) -> list:
    """What a model is beside its weights: its configuration, its hooks, its methods."""
    return [vars(model.cfg) if hasattr(model, "cfg") else None] + [
        (name, sorted(vars(m)), len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
        for name, m in model.named_modules()
    ]


def _gradient(x: Tensor) -> Tensor | None:
    return x.grad if x.is_leaf else None


def _equal(a: Any, b: Any) -> bool:
    """The same values to the last bit, NaN included. Optimizers and generators may move on."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        a, b = a.detach(), b.detach()
        return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())
    if isinstance(a, torch.Generator | torch.optim.Optimizer | torch.nn.Module):
        return type(a) is type(b)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(_equal, a, b))
    if hasattr(a, "items"):  # its parts are compared one by one
        return hasattr(b, "items") and [*dict(a.items())] == [*dict(b.items())]
    return type(a) is type(b) and (a == b or (a != a and b != b))


# Settings -----------------------------------------------------------------------------------

_SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "default device": (torch.get_default_device, torch.set_default_device),
    "state of gradients (`torch.set_grad_enabled`)": (torch.is_grad_enabled, torch.set_grad_enabled),
    "number of threads": (torch.get_num_threads, torch.set_num_threads),
    "choice of deterministic algorithms": (
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms,
    ),
}  # fmt: skip
SETTINGS = frozenset(_SETTINGS)


@contextlib.contextmanager
def settings() -> Iterator[list[str]]:
    """Put torch's settings back after the block; afterwards the list names those that had moved."""
    before = {name: get() for name, (get, _) in _SETTINGS.items()}
    moved: list[str] = []
    try:
        yield moved
    finally:
        for name, (get, put) in _SETTINGS.items():
            if get() != before[name]:
                put(before[name])
                moved.append(name)


@contextlib.contextmanager
def usual() -> Iterator[None]:
    """Torch as it is when it has just been imported, and no warning an error; after the block, as it was. What a
    learner has set in a cell must not fail a right answer, nor the check itself."""
    with settings(), warnings.catch_warnings():
        warnings.filters[:] = [rule for rule in warnings.filters if rule[0] != "error"]
        torch.set_default_dtype(torch.float32)
        if torch.get_default_device().type != "cpu":
            torch.set_default_device("cpu")
        torch.set_grad_enabled(True)
        if torch.are_deterministic_algorithms_enabled():  # to ask costs nothing; to set it imports torch's compiler, three seconds
            torch.use_deterministic_algorithms(False)
        yield
