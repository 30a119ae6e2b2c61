"""Invented worlds of which a small model learns all that there is to know (chapter 7). A world is a file of `utils.materials`: its
`WORDS`, each of which is a token (the first is `<|bos|>`), and texts. `circuits/world_models.py` trains the models."""

from functools import cache
from importlib import import_module

import torch
from jaxtyping import Float, Int
from torch import Tensor

from utils.model import Transformer
from utils.pretrained import CHECKPOINTS, load_model

WORLDS = CHECKPOINTS / "worlds"


@cache
def tokenizer(words: tuple[str, ...]):
    """Every word is a token, and blanks stand between words (a `tokenizers.Tokenizer`)."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


def encode(words: tuple[str, ...], texts: list[str]) -> Int[Tensor, "n pos"]:
    """Texts of any lengths as rows of tokens: `<|bos|>`, the words, and `<|bos|>` again until all are equally long."""
    rows = [[0, *encoding.ids] for encoding in tokenizer(words).encode_batch(texts)]
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])


@torch.no_grad()
def next_logits(model: Transformer, words: tuple[str, ...], texts: list[str]) -> Float[Tensor, "n d_vocab"]:
    """What comes next, says the model, after each of some texts of any lengths."""
    last = torch.tensor([len(text.split()) for text in texts])
    return model(encode(words, texts))[torch.arange(len(texts)), last]


def load_world(name: str) -> Transformer:
    """A shipped model ("facts", "facts_late", "functions" or "assistant"), with the words of its world for tokens. Raises
    CourseError as `load_model` does."""
    model = load_model(WORLDS / f"{name}.safetensors")
    model.tokenizer = tokenizer(import_module(f"utils.materials.{name.split('_')[0]}").WORDS)
    return model
