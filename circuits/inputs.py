"""The inputs of checks: small random models, tokens and matrices, each drawn from a generator.

No coincidences: the sizes below differ pairwise and none is 1, 2 or 4, where a root is a half, a
square or the number itself; no weight is 0; there is more than one layer, head and text. A check
that is about other sizes says them. `circuits.coincidences` looks at what the checks really pass.
"""

import copy

import torch
from torch import Tensor

from utils.model import Config, Transformer

SIZES = dict(n_layers=3, n_heads=5, d_head=7, d_model=10, d_vocab=11, n_ctx=12)
BATCH, POS = 6, 8  # as different from all of these


# Numbers ------------------------------------------------------------------------------------


def integer(rng: torch.Generator, low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (1,), generator=rng))


def generator(rng: torch.Generator) -> torch.Generator:
    """A generator that may be given away, as `rng` itself may not."""
    return torch.Generator().manual_seed(integer(rng, 0, 2**62))


def normal(rng: torch.Generator, *shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=rng)


def orthogonal(rng: torch.Generator, n: int, columns: int | None = None) -> Tensor:
    """A rotation of n dimensions, or the first columns of one."""
    return torch.linalg.qr(normal(rng, n, n))[0][:, :columns]


def invertible(rng: torch.Generator, n: int) -> Tensor:
    """A matrix with an inverse that float32 knows well, and that is no rotation."""
    strengths = torch.linspace(0.5, 2.0, n)
    return orthogonal(rng, n) @ torch.diag(strengths) @ orthogonal(rng, n)


def shuffle(rng: torch.Generator, n: int) -> list[int]:
    """An order of 0 to n - 1 in which nothing is where it was."""
    order = torch.arange(n)
    while (order == torch.arange(n)).any():
        order = torch.randperm(n, generator=rng)
    return order.tolist()


# Texts --------------------------------------------------------------------------------------


def random_tokens(
    rng: torch.Generator,
    model: Transformer | int = SIZES["d_vocab"],
    batch: int = BATCH,
    pos: int = POS,
) -> Tensor:
    """Tokens [batch pos] of a model's vocabulary, or of one of so many tokens."""
    d_vocab = model if isinstance(model, int) else model.cfg.d_vocab
    return torch.randint(d_vocab, (batch, pos), generator=rng)


def two_answers(
    rng: torch.Generator, batch: int = BATCH, d_vocab: int = SIZES["d_vocab"]
) -> tuple[Tensor, Tensor]:
    """A right and another, wrong token for each text."""
    right = torch.randint(d_vocab, (batch,), generator=rng)
    return right, (right + torch.randint(1, d_vocab, (batch,), generator=rng)) % d_vocab


def random_patterns(rng: torch.Generator, *shape: int) -> Tensor:
    """Causal attention patterns of this shape, [... dest src], in which no two weights are alike."""
    future = torch.ones(shape[-2:], dtype=torch.bool).triu(1)
    return normal(rng, *shape, scale=2.0).masked_fill(future, -torch.inf).softmax(-1)


# Models -------------------------------------------------------------------------------------


def random_model(
    rng: torch.Generator, scale: float = 1.0, trainable: bool = False, **shape
) -> Transformer:
    """A small model whose every weight matters; `shape` overrides SIZES and sets whatever else a
    configuration holds.

    Its embeddings have something in common, as trained ones do, its heads together write about as
    much as they read, and they attend unevenly. Biases and the weights of LayerNorm are random too.
    """
    model = Transformer(Config(**SIZES | shape))
    cfg = model.cfg
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("W_E"):
                draw = (normal(rng, *weight.shape) + normal(rng, cfg.d_model)) / 2**0.5
            elif weight.ndim == 1 or ".b_" in name:
                draw = normal(rng, *weight.shape, scale=0.3) + (name.endswith(".w"))
            else:
                n_in = cfg.n_heads * cfg.d_head if name.endswith("W_O") else weight.shape[-2]
                draw = normal(rng, *weight.shape) / n_in**0.5
            weight.copy_(scale * draw)
    return model.requires_grad_(trainable)


def model_of_table(table: Tensor) -> Transformer:
    """A model of zero layers whose direct path is this table."""
    model = Transformer(Config(d_vocab=len(table), d_model=len(table)))
    with torch.no_grad():
        model.W_E.copy_(torch.eye(len(table)))
        model.W_U.copy_(table)
    return model


def reordered(rng: torch.Generator, model: Transformer) -> tuple[Transformer, list[list[int]]]:
    """The model with its heads in another order; and, by layer, which was the new head h before."""
    new, orders = copy.deepcopy(model), []
    with torch.no_grad():
        for block in new.blocks:
            orders.append(shuffle(rng, model.cfg.n_heads))
            for W in (block.attn.W_Q, block.attn.W_K, block.attn.W_V, block.attn.W_O):
                W.copy_(W[orders[-1]].clone())
    return new, orders
