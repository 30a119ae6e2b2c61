"""What the notebooks of the course import. Each name says which file to read."""

from utils.corpus import Corpus, load_corpus
from utils.exercises import check, hint, progress, reveal
from utils.model import ActivationCache, Config, Transformer, get_act_name
from utils.pretrained import load_curves, load_model

__all__ = [
    "ActivationCache",
    "Config",
    "Corpus",
    "Transformer",
    "check",
    "get_act_name",
    "hint",
    "load_corpus",
    "load_curves",
    "load_model",
    "progress",
    "reveal",
]
