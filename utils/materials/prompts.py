"""Prompts for chapter 4: pieces of Python in which an identifier comes back, in pairs.

A pair differs in one thing, as in *Interpretability in the Wild* (Wang et al.), section 2. For the
pairs that the chapter studies it is which first half of a name stands before which second half. So whatever a
model does differently on the two, it does because it has read the names.
"""

from functools import cache
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
    """The halves of two names: the clean text has `first + second` and then `other_first +
    other_second`, and ends with `first`."""

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
        different = len({half.strip() for half in firsts + seconds}) == 4  # no "testtest"
        if different and all(_is_cut_between(model.tokenizer, a, b) for a in firsts for b in seconds):
            names.append(Names(firsts[0], seconds[0], firsts[1], seconds[1]))
    return names


@cache
def _is_cut_between(tokenizer, first: str, second: str) -> bool:
    """Whether two halves are a token each: " file" + "name" melts into one, " line" + "spec" is " lines" + "pec"."""
    return [tokenizer.decode([i]) for i in tokenizer.encode(first + second).ids] == [first, second]


def make_pairs(model: Transformer, names: list[Names], change: str = "swap_first") -> Pairs:
    """Pairs of prompts made from `TEMPLATE` and these names. What the corrupted prompt changes:

    - `"swap_first"`: the first halves of the two names change places;
    - `"swap_second"`: the second halves do;
    - `"new_query"`: the last line asks for the other name.

    Each turns the answer from `second` into `other_second`.
    """

    def text(first: str, second: str, query: str) -> str:
        return TEMPLATE.format(first=first, second=second, query=query)

    def ids(pieces: list[str]) -> Tensor:
        return model.to_tokens(pieces, prepend_bos=False)[:, 0]

    corrupt = {
        "swap_first": lambda a, b, c, d: text(c + b, a + d, a),
        "swap_second": lambda a, b, c, d: text(a + d, c + b, a),
        "new_query": lambda a, b, c, d: text(a + b, c + d, c),
    }[change]
    clean = model.to_tokens([text(a + b, c + d, a) for a, b, c, d in names])
    corrupted = model.to_tokens([corrupt(*name) for name in names])
    return Pairs(clean, corrupted, ids([n.second for n in names]), ids([n.other_second for n in names]))


def draw_pairs(
    model: Transformer, n: int, generator: torch.Generator, change: str = "swap_first"
) -> Pairs:
    """`n` pairs of prompts with fresh names, see `draw_names` and `make_pairs`."""
    return make_pairs(model, draw_names(model, n, generator), change)
