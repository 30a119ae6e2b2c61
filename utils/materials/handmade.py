"""What it takes to write a transformer by hand: an empty one, rooms in its residual stream, and
rotations. Chapter 3 uses it."""

from types import SimpleNamespace

import torch
from jaxtyping import Float
from torch import Tensor

from utils.model import Config, Transformer


def rooms(**sizes: int) -> SimpleNamespace:
    """Divide the residual stream into named rooms, one after the other.

    >>> room = rooms(position=32, token=50, answer=50)
    >>> room.token, room.d_model
    (slice(32, 82, None), 132)
    """
    named, start = {}, 0
    for name, size in sizes.items():
        named[name] = slice(start, start + size)
        start += size
    return SimpleNamespace(**named, d_model=start)


def empty_model(
    d_vocab: int, d_model: int, d_head: int, n_ctx: int, positions: str = "shortformer"
) -> Transformer:
    """A transformer of two layers with one head each, in which every weight is 0.

    Write into its weights by slices: `model.blocks[0].attn.W_Q[0, rows, columns] = ...`, where the
    first 0 is the layer and the second the head. No gradients are recorded. With "shortformer"
    positions `W_pos` holds the sinusoids of every model of this course; with "standard" ones it is
    0 like all the rest.
    """
    model = Transformer(
        Config(
            d_vocab=d_vocab, d_model=d_model, n_layers=2, n_heads=1, d_head=d_head, n_ctx=n_ctx,
            positional_embedding_type=positions,
        )
    )
    for weight in model.parameters():
        weight.requires_grad_(False).zero_()
    return model


def rotation(angles: Float[Tensor, "n"]) -> Float[Tensor, "2*n 2*n"]:
    """One 2 x 2 block per angle on the diagonal, which turns a row [sin a, cos a] to
    [sin(a + angle), cos(a + angle)]."""
    c, s = torch.cos(angles), torch.sin(angles)
    return torch.block_diag(*torch.stack([c, -s, s, c], dim=-1).reshape(-1, 2, 2))
