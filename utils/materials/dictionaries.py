"""The sparse dictionary of chapter 6 and the figures of others; `tools/dictionaries.py` makes them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from utils.errors import CourseError

FOLDER = Path(__file__).parents[1] / "checkpoints" / "dictionaries"


def load_dictionary() -> dict[str, Any]:
    """The shipped top-k dictionary of what the last MLP of `full_two_layer` writes, as tensors: `W_enc [d_model n_latents]`,
    `b_enc`, `W_dec [n_latents d_model]` with rows of length 1, `b_pre`, and the number `k`. CourseError for a damaged file."""
    from safetensors.torch import load

    return {name: W if name == "k" else W.float() for name, W in _read("mlp_1.safetensors", load).items()}


def frontier() -> list[dict[str, Any]]:
    """Of some dictionaries, by kind and setting: L0, dead share, explained variance, loss recovered. CourseError likewise."""
    return _read("frontier.json", json.loads)


def _read(name: str, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse((FOLDER / name).read_bytes())
    except Exception as error:  # each way to be broken raises another kind
        raise CourseError(f"The file {FOLDER / name} is missing or damaged: fetch it again.") from error
