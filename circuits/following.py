"""Whether an answer follows the symmetries of its exercise: it is asked again, what it was asked written down
otherwise, and must say the same."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from circuits.copies import copied
from circuits.symmetries import CHANGES, Change, Kind, Symmetric, kinds_of

SAMPLES = 4  # of noise, where it is asked whether rounding decides
NOISE = 1e-5  # relative; well above what float32 rounds
# Raised where annotations do not tell what a value is, or not truly.
UNTOLD = (AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError)


@dataclass
class Broken:
    """An answer that did not follow: what it was asked, what it said, and a sentence on it."""

    args: tuple
    kwargs: dict[str, Any]
    got: Any
    message: str


def broken(
    entry: Symmetric, answer: Callable, name: str, args: tuple, kwargs: dict[str, Any], value: Any,
    ask: Callable[[tuple, dict[str, Any]], Any], rng: torch.Generator,
) -> Broken | None:
    """How an answer that gave `value` breaks a symmetry; None if it follows them all.

    `ask` calls it again, and gives what it returns or the exception that it raises. All changes are made at
    once, and one by one only if it did not follow. Where noise as small as rounding changes the answer too, as
    between equal values, nothing is said. Raises one of UNTOLD where the annotations of `answer` do not do.
    """
    kinds = kinds_of(answer, entry)
    call = inspect.signature(answer).bind(*args, **kwargs)
    call.apply_defaults()
    given = dict(call.arguments)
    kind = kinds["returns"](given) if callable(kinds["returns"]) else kinds["returns"]

    def asked(arguments: dict[str, Any]) -> tuple[tuple, dict[str, Any], Any]:
        call.arguments.update(arguments)
        return call.args, call.kwargs, ask(call.args, call.kwargs)

    def after(names: tuple[str, ...]) -> Broken | None:
        change = Change(names, rng, kinds, given)
        want, asked_for = change.value(value, kind), asked(change.all_arguments())
        found = difference(asked_for[-1], want, kind, "constant" in names)
        if found is None:
            return None
        if len(names) > 1:
            what = ", or ".join(CHANGES[n][0] for n in names)
            return Broken(*asked_for, f"`{name}` depends on what cannot matter, {what}: with all of it changed, {found}.")
        what, done, why = CHANGES[names[0]]
        return Broken(*asked_for, f"`{name}` depends on {what}: after {done}, which changes {why}, {found}.")

    found = after(entry.changes)
    if found is None:
        return None
    same = Change((), rng, kinds, given).value(value, kind)
    for _ in range(SAMPLES):
        *_, got = asked({name: jittered(x, rng) for name, x in given.items()})
        if not isinstance(got, Exception) and difference(got, same, kind, "constant" in entry.changes):
            return None
    return next(filter(None, (after((change,)) for change in 2 * entry.changes)), found)


def jittered(x: Any, rng: torch.Generator) -> Any:
    """The same numbers with a little noise. In a model zeros have some too, for ties between them."""
    if isinstance(x, torch.nn.Module):
        new = copied(x)
        for W in new.state_dict().values():  # shares memory with the model
            W.add_(NOISE * W.std() * torch.randn(W.shape, generator=rng))
        return new
    if isinstance(x, Tensor) and x.is_floating_point():
        noise = NOISE * torch.randn(x.shape, generator=rng)
        return (x.detach() * (1 + noise)).to(x.dtype).requires_grad_(x.requires_grad)
    return x


def difference(got: Any, want: Any, kind: Kind, up_to_constant: bool = False) -> str | None:
    """What an answer said and what it should have; None if that is the same: numbers up to rounding, lists of
    heads or tokens in any order. Logits may share a constant where one was added."""
    if isinstance(got, Exception):
        return f"it failed: {str(got).rstrip('.')}"
    if isinstance(want, torch.nn.Module) and isinstance(got, type(want)):
        got, want = dict(got.named_parameters()), dict(want.named_parameters())
    if isinstance(want, dict) and isinstance(got, dict) and got.keys() == want.keys():
        parts = ((f"of {k}, ", difference(got[k], want[k], None)) for k in want)
        return next((where + found for where, found in parts if found), None)
    if isinstance(kind, tuple) and isinstance(got, tuple | list) and len(got) == len(want):
        parts = (difference(*part, up_to_constant) for part in zip(got, want, kind))
        return next(filter(None, parts), None)
    said = f"the answer was {_short(got)} instead of {_short(want)}"
    try:
        a, b = _numbers(got), _numbers(want)
    except (TypeError, ValueError, RuntimeError):  # words, or pairs of a number and a word
        return None if _in_order(got) == _in_order(want) else said
    if a.shape != b.shape:
        return said
    if isinstance(want, list | set) or (kind == "token" and b.ndim == 1):
        a, b = (torch.tensor(sorted(x.tolist())) for x in (a, b))
    if up_to_constant and isinstance(kind, str) and kind.endswith("d_vocab"):
        a, b = (x - x.mean(-1, keepdim=True) for x in (a, b))
    finite = b[b.isfinite()].abs()
    scale = float(finite.max()) if finite.numel() else 0.0
    off = ~torch.isclose(a, b, rtol=2e-3, atol=2e-4 * scale + 5e-5, equal_nan=True)
    if not off.any():
        return None
    if not isinstance(want, Tensor) or b.numel() < 9:
        return said
    at = tuple(off.nonzero()[0].tolist())
    return f"entry {list(at)} of the answer was {a[at].item():.4g} instead of {b[at].item():.4g}"


def _numbers(x: Any) -> Tensor:
    x = torch.as_tensor(sorted(x) if isinstance(x, set) else x).detach()
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def _in_order(x: Any) -> Any:
    return sorted(map(repr, x)) if isinstance(x, list | set) else x


def _short(x: Any) -> str:
    if isinstance(x, Tensor) and x.numel() > 8:
        return f"a tensor of shape {list(x.shape)}"
    x = x.tolist() if isinstance(x, Tensor) else x
    text = f"{x:.5g}" if isinstance(x, float) else repr(x)
    return text if len(text) <= 60 else f"{text[:57]}..."


# For authors --------------------------------------------------------------------------------


def problems(exercise: str, table: dict[str, Symmetric | str], reference: Callable, calls: Sequence) -> Iterator[str]:
    """What is wrong with an exercise's entry: none, no reason, or one that its calls do not fit."""
    entry = table.get(exercise)
    if entry is None:
        yield "SYMMETRIES beside its checks does not say what its answer must follow, or why nothing"
    elif isinstance(entry, str):
        if not entry.strip():
            yield "SYMMETRIES gives an empty reason"
    elif not calls:
        yield "SYMMETRIES names some, and no check makes a call that could be made again"
    else:
        for call in calls:
            rng = torch.Generator().manual_seed(0)
            try:
                broken(entry, reference, exercise, call.args, call.kwargs, call.value, lambda *_: call.value, rng)
            except UNTOLD as error:
                yield f"SYMMETRIES does not fit a call: {type(error).__name__}: {error}"
                return
