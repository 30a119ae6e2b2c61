"""Windows into tables too large to draw: what one head does with one token.

A head's two circuits are tables of d_vocab x d_vocab numbers. Nothing here builds one: a row or a
column is a vector times two thin matrices.
"""

import re

import torch
from jaxtyping import Float
from torch import Tensor

from utils.errors import CourseError
from utils.figures.plots import token_name


def short_name(model, token: int) -> str:
    """A token as one can see it, a long run of spaces as its length: `↵·×15`."""
    return re.sub("·{5,}", lambda run: f"·×{len(run[0])}", token_name(model, token))


def token_id(model, text: str) -> int:
    """The id of a text that is a single token. Raises CourseError for any other text, with the
    tokens that hold it."""
    ids = model.to_tokens(text, prepend_bos=False)[0].tolist()
    if len(ids) == 1:
        return ids[0]
    core = text.strip()
    holding = [i for i in range(model.cfg.d_vocab) if core and core in model.to_string(i)]
    message = f"{text!r} is {len(ids)} tokens ({' '.join(short_name(model, i) for i in ids)})."
    if holding:
        names = ", ".join(short_name(model, i) for i in holding[:12])
        message += f" Tokens that hold {core!r}: {names}."
    raise CourseError(message)


def named(model, values: Float[Tensor, "d_vocab"], k: int, largest: bool = True) -> str:
    """The tokens of the k largest (or smallest) values, with the values."""
    top = values.topk(k, largest=largest)
    pairs = zip(top.values.tolist(), top.indices.tolist(), strict=True)
    return "  ".join(f"{short_name(model, i)} {value:+.1f}" for value, i in pairs)


class Circuits:
    """Both circuits of one head of a model's first layer, looked up by token; see `circuits`."""

    def __init__(self, model, head: int, text: str, k: int):
        self.model, self.head, self.k = model, head, k
        self.token = token_id(model, text)

    @torch.no_grad()
    def lines(self) -> list[str]:
        m, t, k = self.model, self.token, self.k
        W_Q, W_K, W_V, W_O = (W[0, self.head] for W in (m.W_Q, m.W_K, m.W_V, m.W_O))
        query = m.W_E @ W_Q * m.cfg.d_head**-0.5  # [d_vocab d_head]
        key = m.W_E @ W_K
        key = key - key.mean(0)  # only differences along a row of the QK circuit count
        value, out = m.W_E @ W_V, W_O @ m.W_U
        name = short_name(m, t)
        return [
            f"looks back at {name} from    {named(m, query @ key[t], k)}",
            f"and then raises    {named(m, value[t] @ out, k)}",
            f"and lowers    {named(m, value[t] @ out, k, largest=False)}",
            f"standing on {name}, looks for    {named(m, key @ query[t], k)}",
            f"raises {name} when it finds    {named(m, value @ out[:, t], k)}",
        ]

    def __repr__(self) -> str:
        return "\n    ".join([f"head {self.head}", *self.lines()])


def circuits(model, head: int, text: str, k: int = 6) -> Circuits:
    """What a head of the first layer does with a token, read off its weights without running it.

    >>> circuits(model, 5, " try")

    Attention is in units of the score before the softmax, relative to the average token; what is
    raised or lowered is in logits, where the head attends with weight 1.
    """
    return Circuits(model, head, text, k)
