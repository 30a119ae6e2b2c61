"""Prompts for chapter 4: pieces of Python in which an identifier comes back, in pairs.

A pair differs in one thing, as in *Interpretability in the Wild* (Wang et al.), section 2: which
first half of a name stands before which second half. So whatever a model does differently on the two, it does
because it has read the names.
"""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from utils.model import Transformer

TEMPLATE = "class Item:\n    def __init__(self,{first},{second}):\n        self.value ={query}"

# First and second halves of names. In the course's vocabulary each is one token, and any two that
# `draw_names` puts together stay two tokens.
FIRST_HALVES = """block call char class code data event field file frame func group header index item key
line list log message method module name node number object page path result root socket state string
tag task test text thread time token type user value widget""".split()
SECOND_HALVES = """class code data dir file func id index info item key len line list log map mode name
node part path port set size spec str test text time type value""".split()


class Names(NamedTuple):
    """The halves of two names. The clean text has `first + second` and `other_first +
    other_second`; in the corrupted one the first halves have changed places."""

    first: str
    second: str
    other_first: str
    other_second: str


class Pairs(NamedTuple):
    """Clean and corrupted prompts of the same length, and what each should be continued with:
    `right` is what the clean text asks for, `wrong` what the corrupted one does."""

    clean: Int[Tensor, "batch pos"]
    corrupted: Int[Tensor, "batch pos"]
    right: Int[Tensor, "batch"]
    wrong: Int[Tensor, "batch"]


def draw_names(model: Transformer, n: int, generator: torch.Generator) -> list[Names]:
    """`n` pairs of names, for example `Names(" file", "name", " type", "code")`."""

    def two_of(words: list[str]) -> list[str]:
        return [words[i] for i in torch.randperm(len(words), generator=generator)[:2].tolist()]

    names = []
    while len(names) < n:
        firsts, seconds = [f" {word}" for word in two_of(FIRST_HALVES)], two_of(SECOND_HALVES)
        # Some halves melt together: " file" + "name" is one token, " filename".
        counts = [model.to_tokens(a + b, prepend_bos=False).shape[1] for a in firsts for b in seconds]
        if counts == [2, 2, 2, 2]:
            names.append(Names(firsts[0], seconds[0], firsts[1], seconds[1]))
    return names


def draw_pairs(model: Transformer, n: int, generator: torch.Generator) -> Pairs:
    """`n` pairs of prompts made from `TEMPLATE` and fresh names."""
    names = draw_names(model, n, generator)

    def tokens(swapped: bool) -> Tensor:
        texts = []
        for a, b, c, d in names:
            first, second = (c + b, a + d) if swapped else (a + b, c + d)
            texts.append(TEMPLATE.format(first=first, second=second, query=a))
        return model.to_tokens(texts)

    def ids(pieces: list[str]) -> Tensor:
        return model.to_tokens(pieces, prepend_bos=False)[:, 0]

    right, wrong = ids([name.second for name in names]), ids([name.other_second for name in names])
    return Pairs(tokens(False), tokens(True), right, wrong)
