"""The sparse dictionary of chapter 6, and the figures of others and of large toys; `tools/dictionaries.py` and `toys.py` make them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from utils.errors import CourseError

FOLDER = Path(__file__).parents[1] / "checkpoints" / "dictionaries"


def load_dictionary() -> dict[str, Any]:
    """The shipped top-k dictionary of what the last MLP of `full_two_layer` writes, as tensors: `W_enc [d_model n_latents]`,
    `b_enc`, `W_dec [n_latents d_model]` with rows of length 1, `b_pre`, and the number `k`. CourseError for a damaged file."""
    from safetensors.torch import load

    return {name: W if name == "k" else W.float() for name, W in _read("mlp_1.safetensors", load).items()}


def latents_of(dictionary: dict[str, Any], x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... n_latents"]:
    """How strongly each latent fires for each vector: what is above 0, and of a top-k dictionary (one with a `k`) the k largest."""
    rows = []
    for part in x.flatten(0, -2).split(4096):
        acts = ((part - dictionary["b_pre"]) @ dictionary["W_enc"] + dictionary["b_enc"]).relu()
        if "k" in dictionary:
            top = acts.topk(int(dictionary["k"]), dim=-1)
            acts = torch.zeros_like(acts).scatter(-1, top.indices, top.values)
        rows.append(acts)
    return torch.cat(rows).unflatten(0, x.shape[:-1])


def frontier() -> list[dict[str, Any]]:
    """Of some dictionaries, by kind and setting: L0, dead share, explained variance, loss recovered. CourseError likewise."""
    return _read("frontier.json", json.loads)


def large_toys() -> list[dict[str, Any]]:
    """Of toys of 200 features in 20 dimensions, by probability p: loss, feature dimensionalities. CourseError likewise (`tools/toys.py`)."""
    return _read("toys.json", json.loads)


def _read(name: str, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse((FOLDER / name).read_bytes())
    except Exception as error:  # each way to be broken raises another kind
        raise CourseError(f"The file {FOLDER / name} is missing or damaged: fetch it again.") from error
