"""The shipped models: weights as safetensors, with the curves of their training beside them."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from utils.corpus import load_tokenizer
from utils.errors import CourseError
from utils.model import Config, Transformer

CHECKPOINTS = Path(__file__).parent / "checkpoints"


def names() -> list[str]:
    """The shipped models, in the order of their recipes."""
    from utils.training import RECIPES

    found = [file.stem for file in CHECKPOINTS.glob("*.safetensors")]
    order = list(RECIPES)
    return sorted(found, key=lambda name: (order.index(name) if name in order else 99, name))


def _file(name: str | Path) -> Path:
    """A shipped model's file by its name, or the path of a file of your own."""
    if str(name).endswith(".safetensors"):
        return Path(name)
    file = CHECKPOINTS / f"{name}.safetensors"
    if not file.exists():
        found = ", ".join(names()) or "none"
        raise CourseError(f"No model is called {str(name)!r}. There are: {found}.")
    return file


def load_model(name: str | Path) -> Transformer:
    """A shipped model by name ("two_layer", "full_two_layer", ...; see `names`), or one that you trained,
    by the path of its .safetensors file. It comes with its tokenizer, in evaluation mode, on the
    CPU, in float32 (some are stored in half precision). Raises CourseError for an unknown name and for a missing or corrupt file."""
    from safetensors import safe_open

    file = _file(name)
    if not file.exists():
        raise CourseError(f"The model file {file} does not exist.")
    try:
        with safe_open(file, framework="pt") as f:
            settings = json.loads((f.metadata() or {})["config"])
            weights = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118
        known = {field.name for field in fields(Config)}
        with torch.random.fork_rng(devices=[]):  # a random start that is overwritten at once
            model = Transformer(Config(**{k: v for k, v in settings.items() if k in known}))
        model.load_state_dict(weights)
    except Exception as error:  # each way to be broken raises another kind
        raise CourseError(
            f"The model file {file} is damaged or not one of this course's: fetch it again, "
            f"or train it anew with `circuits train`. ({type(error).__name__})"
        ) from error
    tokenizer = load_tokenizer()
    if tokenizer.get_vocab_size() == model.cfg.d_vocab:
        model.tokenizer = tokenizer
    return model.eval()


def load_curves(name: str | Path) -> dict[str, Any]:
    """What was measured while a model trained, a list per measure; see `training.evaluate`."""
    file = _file(name).with_suffix(".curves.json")
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CourseError(f"The curves {file} are missing or damaged: fetch them again.") from error
