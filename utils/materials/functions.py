"""Functions that a text shows by examples: `a → d C → f ...`. Each replaces letters, small or capital, by a rule, and answers in
small letters or in capital ones."""

import torch
from jaxtyping import Int
from torch import Tensor

SYMBOLS = [*"abcdefgh", *"ABCDEFGH"]
WORDS = ("<|bos|>", "→", *SYMBOLS)
N_EXAMPLES = 8  # of a text of the training

_rules = torch.stack([torch.randperm(8, generator=torch.Generator().manual_seed(seed)) for seed in range(8)])
_small = torch.cat([_rules, _rules], 1)  # a and A alike
TABLE = torch.cat([_small, _small + 8])  # [task symbol]: what each task makes of each symbol
TASKS = [f"rule {i}" for i in range(8)] + [f"rule {i}, in capitals" for i in range(8)]


def examples(task: Int[Tensor, "n"], n_examples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A text of so many examples of each task `[n pos]`, and the tokens that follow the arrows `[n n_examples]`."""
    x = torch.randint(16, (len(task), n_examples), generator=generator)
    y = TABLE[task[:, None], x]
    text = torch.stack([x + 2, torch.ones_like(x), y + 2], -1).flatten(1)
    return torch.cat([torch.zeros(len(task), 1, dtype=torch.long), text], 1), y + 2
