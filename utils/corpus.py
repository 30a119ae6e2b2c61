"""Real text for the models: the standard library of the learner's own Python, as tokens."""

import hashlib
import os
import sysconfig
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from utils.errors import CourseError
from utils.files import write_file
from utils.waiting import waiting

TOKENIZER = Path(__file__).parent / "checkpoints" / "tokenizer.json"
BOS = "<|bos|>"  # token 0; stands before every file
N_CTX = 256
_MAX_FILE_BYTES = 4_000_000  # a larger file in a learner's own folder is data, not text
_MIN_TOKENS = 20 * N_CTX
_TOGETHER = 40  # files tokenized at a time


@cache
def load_tokenizer():
    """The shipped tokenizer: byte-level BPE with 2,048 tokens (a `tokenizers.Tokenizer`)."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(TOKENIZER))


@dataclass(frozen=True)
class Corpus:
    """Tokens to learn from and tokens to be judged on. Files never straddle the two."""

    train: Int[Tensor, "train_tokens"]
    heldout: Int[Tensor, "heldout_tokens"]
    description: str  # one line: what text this is

    def __repr__(self) -> str:
        return self.description

    def batch(
        self, step: int, batch: int = 8, n_ctx: int = N_CTX, seed: int = 0
    ) -> Int[Tensor, "batch n_ctx"]:
        """Random windows of the training text. The same step and seed give the same windows, so
        that an interrupted training goes on exactly where it stopped."""
        generator = torch.Generator().manual_seed(1_000_003 * seed + step)
        start = torch.randint(len(self.train) - n_ctx, (batch, 1), generator=generator)
        return self.train[start + torch.arange(n_ctx)]

    def heldout_windows(self, n: int = 64, n_ctx: int = N_CTX) -> Int[Tensor, "n n_ctx"]:
        """Up to `n` windows spread evenly over the held-out text, always the same."""
        n = max(1, min(n, len(self.heldout) // n_ctx))
        start = torch.linspace(0, len(self.heldout) - n_ctx, n).long()[:, None]
        return self.heldout[start + torch.arange(n_ctx)]


def standard_library() -> Path:
    """The folder of the running interpreter's standard library."""
    return Path(sysconfig.get_paths()["stdlib"])


def is_heldout(path: str) -> bool:
    """One file in twenty is held out, chosen by a hash of its path, so the split never moves."""
    return hashlib.sha256(path.encode()).digest()[0] % 20 == 0


def read_files(folder: Path, pattern: str, wanted: Callable[[str], bool] = lambda path: True) -> dict[str, str]:
    """Text by relative path, in the order of the paths; what is not UTF-8 text is left out."""
    texts = {}
    for file in sorted(folder.rglob(pattern)):
        relative = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or {"site-packages", "dist-packages"} & set(relative.parts) or not wanted(relative.as_posix()):
            continue
        try:
            if file.is_file() and file.stat().st_size <= _MAX_FILE_BYTES:
                texts[relative.as_posix()] = file.read_bytes().decode()
        except (UnicodeDecodeError, OSError):
            continue
    return texts


def load_corpus(folder: str | Path | None = None) -> Corpus:
    """The standard library of this Python, or every text file of a `folder` of your own.

    About 9 million tokens with the library's own tests, 3 million where the system strips them.
    The first call tokenizes (it says how long that takes); later ones read a file in the user's cache.
    Raises CourseError for a folder that is missing, unreadable, or holds too little text.
    """
    root = standard_library() if folder is None else Path(os.path.expanduser(folder))
    if not root.is_dir():
        raise CourseError(f"The corpus folder {str(root)!r} does not exist or is not a folder.")
    if not os.access(root, os.R_OK | os.X_OK):
        raise CourseError(f"The corpus folder {str(root)!r} cannot be read: check its permissions.")
    texts = read_files(root, "*.py" if folder is None else "*")
    key = hashlib.sha256(TOKENIZER.read_bytes())
    for path, text in texts.items():
        key.update(f"{path}\0{len(text)}\0".encode() + text.encode())
    file = _cache_file(key.hexdigest())
    name = "Python's own library" if folder is None else root
    split = _read_cache(file) or _write_cache(file, _tokenize(texts, f"Reading {name}, once"))
    n_tokens = sum(len(part) for part in split.values())
    if len(split["train"]) < _MIN_TOKENS or len(split["heldout"]) < N_CTX:
        raise CourseError(
            f"The corpus folder {str(root)!r} holds too little text: {len(texts)} files, "
            f"{n_tokens:,} tokens. A few hundred files of text are a good start."
        )
    what = f"{len(texts):,} files, {n_tokens / 1e6:.1f} million tokens"
    if folder is not None:
        where = f"Text of {root}: {what}."
    elif sum(path.startswith("test/test_") for path in texts) > 10:  # Debian leaves one
        where = f"Python's standard library: {what}."
    else:
        where = f"Python's standard library, which this system ships without its tests: {what}."
    return Corpus(split["train"], split["heldout"], where)


def _tokenize(texts: dict[str, str], what: str) -> dict[str, Tensor]:
    ids: dict[str, list[int]] = {"train": [], "heldout": []}
    paths = list(texts)
    pieces = [paths[i : i + _TOGETHER] for i in range(0, len(paths), _TOGETHER)]
    for piece in waiting(pieces, what):
        encodings = load_tokenizer().encode_batch_fast([texts[path] for path in piece])
        for path, encoding in zip(piece, encodings, strict=True):
            ids["heldout" if is_heldout(path) else "train"].extend([0, *encoding.ids])
    return {name: torch.tensor(part, dtype=torch.int16) for name, part in ids.items()}


def _cache_file(key: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if base.startswith("~"):
        base = os.devnull  # no home: there, no cache can be written
    return Path(base) / "circuits" / f"corpus-{key[:16]}.safetensors"


def _read_cache(file: Path) -> dict[str, Tensor] | None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        parts = load_file(file)
        return {name: parts[name].long() for name in ("train", "heldout")}
    except (OSError, SafetensorError, KeyError):
        return None


def _write_cache(file: Path, split: dict[str, Tensor]) -> dict[str, Tensor]:
    from safetensors.torch import save

    with suppress(OSError):  # no room or no permission: tokenize again next time
        write_file(file, save(split))
    return {name: ids.long() for name, ids in split.items()}
