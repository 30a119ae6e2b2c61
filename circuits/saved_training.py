"""What `circuits train` writes: the trained model, and the state of the training, from which it goes on."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import torch

from utils.errors import CourseError
from utils.files import write_file
from utils.model import Transformer
from utils.training import Training


def packed(model: Transformer, half: bool = False) -> bytes:
    """Weights and configuration as a .safetensors file; in half precision if asked for. Nothing else of the model is in it."""
    from safetensors.torch import save

    weights = {name: (W.detach().half() if half else W.detach()).contiguous() for name, W in model.state_dict().items()}
    return save(weights, {"config": json.dumps(model.config_dict())})


def save_model(model: Transformer, file: Path, curves: dict[str, Any]) -> None:
    """Write weights and configuration to `file` (.safetensors), the curves to `.curves.json`."""
    write_file(file, packed(model))
    rounded = json.loads(json.dumps(curves), parse_float=lambda x: round(float(x), 4))
    write_file(file.with_suffix(".curves.json"), (json.dumps(rounded) + "\n").encode())


def save(training: Training, file: Path) -> None:
    """Write everything that is needed to go on; the old file is replaced in one go."""
    state = {
        "recipe": vars(training.recipe),
        "model": training.model.state_dict(),
        "optimizers": training.optimizers.state_dict(),
        "step": training.step,
        "seconds": training.seconds,
        "curves": training.curves,
        "text": _text(training),
        "generator": training.generator and training.generator.get_state(),
    }
    data = io.BytesIO()
    torch.save(state, data)
    write_file(file, data.getvalue())


def resume(training: Training, file: Path) -> None:
    """Go on from a saved state. Raises CourseError for a file that cannot be read, or that
    belongs to another recipe or another text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # at a damaged file: the error below says enough
            state = torch.load(file, weights_only=True)
        other = [
            f"{name} {state['recipe'].get(name)} there and {value} here"
            for name, value in vars(training.recipe).items()
            if state["recipe"].get(name) != value
        ]
        if state.get("text", _text(training)) != _text(training):
            other.append("another corpus")
        if other:
            raise CourseError(
                f"{file} is of another training ({', '.join(other)}): ask for the same again, "
                "name another folder with --out, or begin anew with --restart."
            )
        training.model.load_state_dict(state["model"])
        training.optimizers.load_state_dict(state["optimizers"])
        training.step, training.seconds = state["step"], state["seconds"]
        training.curves = state["curves"]
        if training.generator:
            training.generator.set_state(state["generator"])
    except CourseError:
        raise
    except Exception as error:  # torch.load raises a different kind for each way to be broken
        raise CourseError(
            f"{file} cannot be resumed from ({type(error).__name__}): "
            "remove it, or train with --restart."
        ) from error


def _text(training: Training) -> list[int]:
    """Three numbers that differ between texts; none of a training that draws its own, which the recipe tells."""
    if training.corpus is None:
        return []
    train, heldout = training.corpus.train, training.corpus.heldout
    return [len(train), len(heldout), int(train.sum())]
