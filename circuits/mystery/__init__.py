"""Mystery models: small transformers trained to hold an algorithm that nobody tells the learner.

`family.py` draws the algorithms, `make.py` trains and proves, `judge.py` says what an answer is worth, `course.py` writes what
a class is given.
"""

from pathlib import Path

from utils.model import Transformer
from utils.pretrained import load_model

SHIPPED = Path(__file__).parent / "models"
MYSTERIES = "ABCDEFGHIJ"  # from easy to hard


def load_mystery(name: str) -> Transformer:
    """One of the shipped mystery models, by its letter. They lie here and not among the other checkpoints, so that
    the process in which a grader runs answers does not have them."""
    return load_model(SHIPPED / f"{name}.safetensors").requires_grad_(False)
