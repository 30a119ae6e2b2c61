"""What the numbers of a wrong answer have in common with the right ones, where nothing tells how the error was made.

A hint of this kind states a fact: all numbers are a fifth of what they should be; only those at the first position
are wrong; they stand one place too far. It is shown only if it is so on further inputs too.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]  # what came, and what should have come


def deviation(first: Pair, further: Iterator[Pair], whole: bool) -> str | None:
    """A sentence on what a check's pairs of several seeds have in common; None if that is nothing. The first gives
    the numbers in it. Of rows and places only a pair can tell that is the `whole` result."""
    pairs = [(got.detach().double(), want.detach().double()) for got, want in (first, *further)]
    if any(a.shape != b.shape or not (a.isfinite() & b.isfinite()).all() for a, b in pairs):
        return None
    if all(want.numel() == 1 for _, want in pairs):
        pairs = [tuple(torch.stack([p[i].flatten()[0] for p in pairs]) for i in range(2))]
    elif len(pairs) == 1:
        return None
    kinds = [_factor, _offset, _signs]
    if whole and pairs[0][1].ndim:
        kinds += [*_by_rows(pairs[0]), *_by_places(pairs[0]), *_moved(pairs[0])]
    for says in kinds:
        try:
            sentences = [says(pair) for pair in pairs]
        except (IndexError, RuntimeError):  # on another seed it has another shape
            continue
        if all(sentences):
            return sentences[0] if len(set(sentences)) == 1 else ELSEWHERE_OTHERS.get(says, sentences[0])
    return None


def _close(a: Tensor, b: Tensor) -> Tensor:
    return torch.isclose(a, b, rtol=1e-3, atol=1e-5)


def _many(x: Tensor) -> bool:
    """Whether there are enough different numbers, that a rule on them is none by chance."""
    return len(x[x.abs() > 1e-5].unique()) >= 4


def _one(x: Tensor) -> bool:
    """Whether all are the same number."""
    return bool(_close(x, x.flatten()[:1]).all())


# All numbers alike --------------------------------------------------------------------------


def _factor(pair: Pair) -> str | None:
    got, want = pair
    at = want.abs() > 1e-4
    if not _many(want) or not _close(got[~at], want[~at]).all():
        return None
    ratio = got[at] / want[at]
    c = float(ratio.flatten()[0])
    if not _one(ratio) or abs(c) < 1e-4 or abs(c - 1) < 1e-3:
        return None
    if abs(c + 1) < 1e-3:
        return "All your numbers have the opposite sign."
    size = f"{1 / abs(c):.4g} times too small" if abs(c) < 1 else f"{abs(c):.4g} times too large"
    sign = ", and have the opposite sign" * (c < 0)
    return f"Your numbers are in the right proportion to one another: all of them are {size}{sign}."


def _offset(pair: Pair) -> str | None:
    got, want = pair
    off = got - want
    c = float(off.flatten()[0])
    if not _many(want) or not _one(off) or abs(c) < 1e-4:
        return None
    return (
        f"All your numbers are too {'large' if c > 0 else 'small'} by the same amount ({abs(c):.4g}): something "
        f"is {'added' if c > 0 else 'taken away'} that is the same everywhere, or left out."
    )


def _signs(pair: Pair) -> str | None:
    got, want = pair
    turned = (got * want < 0) & (want.abs() > 1e-3)
    if not _many(want) or not turned.any() or turned.all() or not _close(got.abs(), want.abs()).all():
        return None
    return "The sizes of your numbers are right, but not all of their signs."


# What is said if the factor or the amount is another one on other inputs.
ELSEWHERE_OTHERS = {
    _factor: "Your numbers are in the right proportion to one another, but their scale is wrong, and by another factor "
    "on other inputs.",
    _offset: "All your numbers are too large or too small by the same amount, and by another one on other inputs: "
    "something is added or left out that is the same everywhere.",
}


# Row by row ---------------------------------------------------------------------------------


def _by_rows(pair: Pair) -> Iterator[Callable[[Pair], str | None]]:
    for dim in reversed(range(pair[1].ndim)):
        if pair[1].ndim > 1 and pair[1].shape[dim] > 2 and pair[1].numel() > 2 * pair[1].shape[dim] - 1:
            yield lambda pair, dim=dim: _shifted_lines(pair, dim)
            yield lambda pair, dim=dim: _scaled_lines(pair, dim)


def _line(want: Tensor, dim: int) -> str:
    if want.ndim == 2:
        return "row" if dim == 1 else "column"
    return f"line along dimension {dim}"


def _shifted_lines(pair: Pair, dim: int) -> str | None:
    got, want = pair
    off = got - want
    if not _many(want) or not _close(off, off.mean(dim, keepdim=True).expand_as(off)).all():
        return None
    return (
        f"In every {_line(want, dim)} all your numbers are too large or too small by the same amount, and by another "
        "one elsewhere: their differences are right."
    )


def _scaled_lines(pair: Pair, dim: int) -> str | None:
    got, want = pair
    ratio = (got * want).sum(dim, keepdim=True) / (want**2).sum(dim, keepdim=True)
    if not _many(want) or (ratio.abs() < 1e-4).any() or not _close(got, ratio * want).all():
        return None
    return (
        f"In every {_line(want, dim)} your numbers are in the right proportion to one another, but their scale is "
        "wrong, and not by the same factor everywhere."
    )


# Some places --------------------------------------------------------------------------------


def _by_places(pair: Pair) -> Iterator[Callable[[Pair], str | None]]:
    want = pair[1]
    if want.ndim > 1 and want.shape[-1] == want.shape[-2] > 2:
        yield _triangle
    for dim in range(want.ndim):
        if want.shape[dim] > 2 or want.shape[dim] == 2 < want.numel():
            yield lambda pair, dim=dim: _ends(pair, dim)


def _triangle(pair: Pair) -> str | None:
    wrong = ~_close(*pair)
    n = wrong.shape[-1]
    below, above = (torch.ones(n, n).tril(-1) == 1).expand_as(wrong), (torch.ones(n, n).triu(1) == 1).expand_as(wrong)
    diagonal = (torch.eye(n) == 1).expand_as(wrong)
    for where, sentence in (
        (diagonal, "Your numbers are right except on the diagonal."),
        (above, "Below the diagonal, and on it, your numbers are right; above it they are not."),
        (below, "Above the diagonal, and on it, your numbers are right; below it they are not."),
        (~diagonal, "Only the diagonal of your result is right."),
    ):
        if wrong[where].float().mean() > 0.5 and not wrong[~where].any() and _telling(pair[1][~where]):
            return sentence
    return None


def _telling(right: Tensor) -> bool:
    """Whether numbers that are right are so by more than chance: zeros and ones often are."""
    return len(right[(right.abs() > 1e-5) & (right != 1)].unique()) >= 3


def _ends(pair: Pair, dim: int) -> str | None:
    """Right or wrong at one end of a dimension alone."""
    want = pair[1].movedim(dim, 0)
    wrong = (~_close(*pair)).movedim(dim, 0).flatten(1) if want.ndim > 1 else (~_close(*pair))[:, None]
    n, some = len(wrong), wrong.any(1)
    along = f" along dimension {dim}" if want.ndim > 1 else ""
    for at, word in ((0, "first"), (n - 1, "last")):
        others = torch.arange(n) != at
        if some[at] and not some[others].any() and _telling(want[others]):
            return f"Your numbers are right except for the {word}{along}."
        if not some[at] and some[others].all() and _telling(want[at]):
            return f"Of your numbers only the {word}{along} {'are' if along else 'is'} right."
    return None


# Other places -------------------------------------------------------------------------------


def _moved(pair: Pair) -> Iterator[Callable[[Pair], str | None]]:
    for dim in range(pair[1].ndim):
        if pair[1].shape[dim] > 3:
            yield lambda pair, dim=dim: _one_place_off(pair, dim)
    yield _in_other_places


def _one_place_off(pair: Pair, dim: int) -> str | None:
    got, want = pair
    n = want.shape[dim] - 1
    along = f" along dimension {dim}" if want.ndim > 1 else ""
    for a, b, word in ((1, 0, "late"), (0, 1, "early")):
        if _many(want) and _close(got.narrow(dim, a, n), want.narrow(dim, b, n)).all():
            return f"Your numbers stand one place too {word}{along}."
    return None


def _in_other_places(pair: Pair) -> str | None:
    got, want = (x.flatten().sort().values for x in pair)
    if not _many(want) or len(want.unique()) < 6 or not _close(got, want).all():
        return None
    return "Your numbers are the right ones, in other places."
