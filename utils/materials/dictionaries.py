"""The sparse dictionary of chapter 6 and the figures of others; `tools/dictionaries.py` makes them."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from utils.errors import CourseError

FOLDER = Path(__file__).parents[1] / "checkpoints" / "dictionaries"


def load_dictionary() -> dict[str, Tensor]:
    """The shipped top-k dictionary of what the last MLP of `full_two_layer` writes, in float32: `W_enc [d_model
    n_latents]`, `b_enc`, `W_dec [n_latents d_model]` with rows of length 1, `b_pre`, and the number `k`.
    Raises CourseError for a missing or damaged file."""
    from safetensors.torch import load_file

    try:
        return {name: W.float() if W.is_floating_point() else W for name, W in load_file(FOLDER / "mlp_1.safetensors").items()}
    except Exception as error:  # each way to be broken raises another kind
        raise CourseError(f"{FOLDER / 'mlp_1.safetensors'} is missing or damaged: fetch it again.") from error


def frontier() -> list[dict[str, Any]]:
    """Of some dictionaries, by kind and setting: L0, dead share, explained variance, loss recovered."""
    return json.loads((FOLDER / "frontier.json").read_text("utf-8"))
