"""What the notebooks of the course import. Each name says which file to read."""

import importlib
from typing import Any

_FILES = {
    "corpus": ("Corpus", "load_corpus"),
    "model": ("ActivationCache", "Config", "Transformer", "get_act_name"),
    "pretrained": ("load_curves", "load_model"),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}
__all__ = sorted(_FILE_OF)


def __getattr__(name: str) -> Any:
    """Import the file of a name when it is first asked for: `circuits --help`, and starting to
    grade, need not wait for torch."""
    if name not in _FILE_OF:
        raise AttributeError(f"module 'utils' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"utils.{_FILE_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
