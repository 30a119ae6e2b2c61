"""The text: what is read, how it is split, tokenized and kept, and what is said when not."""

import os
import random
import runpy
from pathlib import Path

import pytest
import torch

from circuits.chapters import ROOT
from utils import corpus as corpus_module
from utils.corpus import (
    BOS,
    TOKENIZER,
    Corpus,
    is_heldout,
    load_corpus,
    load_tokenizer,
    read_files,
    standard_library,
)
from utils.errors import CourseError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Where these tests keep tokens, instead of the user's own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "circuits"


def write(folder: Path, texts: dict[str, str]) -> Path:
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, "utf-8")
    return folder


def functions(n: int = 80, name: str = "part_{}.py") -> dict[str, str]:
    """So many files of Python, each different, about 300 tokens long."""
    return {
        name.format(i): f"def f_{i}(x):\n    return x + {i}\n\n\n" * 25 for i in range(n)
    }


@pytest.fixture
def text(tmp_path) -> Path:
    return write(tmp_path / "text", functions())


@pytest.fixture
def no_tokenizing(monkeypatch):
    """From here on, who tokenizes fails."""

    def refuse(texts):
        raise AssertionError("tokenized although the cache has it")

    return lambda: monkeypatch.setattr(corpus_module, "_tokenize", refuse)


def files_of(tokens) -> list[str]:
    """The texts of the files that a stream of tokens holds: what stands between BOS and BOS."""
    assert tokens[0] == 0, "the stream does not begin with BOS"
    starts = [*(tokens == 0).nonzero().flatten().tolist(), len(tokens)]
    pieces = [tokens[a + 1 : b].tolist() for a, b in zip(starts, starts[1:], strict=False)]
    return load_tokenizer().decode_batch(pieces)


def line(error) -> str:
    message = str(error.value)
    assert message and "\n" not in message
    return message


# Where the text comes from -------------------------------------------------------------------


def test_source_is_the_standard_library_of_this_python():
    assert standard_library() == Path(os.__file__).parent
    texts = read_files(standard_library(), "*.py")
    assert texts["os.py"] == Path(os.__file__).read_text("utf-8")
    assert "json/decoder.py" in texts and len(texts) > 500
    assert not [path for path in texts if "site-packages" in path or "dist-packages" in path]
    assert all(path.endswith(".py") for path in texts)
    assert list(texts) == [p.as_posix() for p in sorted(map(Path, texts))]


def test_without_a_folder_the_standard_library_is_loaded(tmp_path, monkeypatch):
    library = write(tmp_path / "lib", functions())
    write(library, {
        "site-packages/other.py": "x = 1\n" * 999,
        "dist-packages/other.py": "x = 1\n" * 999,
        "json/site-packages/other.py": "x = 1\n" * 999,
        "notes.txt": "no Python\n" * 999,
    })
    (library / "latin.py").write_bytes("# caf\u00e9\n".encode("latin-1") * 999)
    monkeypatch.setattr(corpus_module, "standard_library", lambda: library)
    corpus = load_corpus()
    assert sorted(files_of(corpus.train) + files_of(corpus.heldout)) == sorted(functions().values())
    assert "80 files" in corpus.description


@pytest.mark.parametrize(
    "tests, complete",
    [
        (functions(20, "test/test_{}.py"), True),
        ({}, False),
        ({"test/__init__.py": "", "test/test_support.py": "", "test/support/os.py": ""}, False),
        (functions(20, "unittest/test/test_{}.py"), False),
    ],
    ids=["with tests", "without", "Debian's remains", "other tests"],
)
def test_says_when_the_library_comes_without_its_tests(tmp_path, monkeypatch, tests, complete):
    library = write(tmp_path / "lib", functions() | tests)
    monkeypatch.setattr(corpus_module, "standard_library", lambda: library)
    corpus = load_corpus()
    assert repr(corpus) == corpus.description and "\n" not in corpus.description
    assert corpus.description.startswith("Python's standard library")
    assert ("without its tests" in corpus.description) == (not complete)


def test_a_folder_of_your_own(tmp_path, monkeypatch):
    folder = write(tmp_path / "mine", functions(80, "deep/er/poem_{}.txt"))
    write(folder, {"README": "All of it is text.\n"})
    expected = sorted([*functions().values(), "All of it is text.\n"])
    write(folder, {".git/config": "hidden", ".hidden": "hidden", "deep/.cache/a.txt": "hidden"})
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" * 100)
    (folder / "huge.csv").write_text("1,2\n" * 1_000_001)
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in (folder, str(folder), "~/mine"):
        corpus = load_corpus(given)
        assert sorted(files_of(corpus.train) + files_of(corpus.heldout)) == expected
        assert str(folder) in corpus.description and "81 files" in corpus.description
        assert "\n" not in corpus.description


# The split -----------------------------------------------------------------------------------


def test_the_split_never_moves():
    """Written down once: the files below are held out, on every machine and for ever."""
    heldout = ["ast.py", "calendar.py", "decimal.py", "http/server.py", "json/tool.py", "random.py"]
    train = ["os.py", "abc.py", "json/__init__.py", "asyncio/events.py", "test/test_ast.py"]
    assert all(map(is_heldout, heldout))
    assert not any(map(is_heldout, train))


def test_one_file_in_twenty_is_held_out():
    share = sum(is_heldout(f"folder/file_{i}.py") for i in range(20_000)) / 20_000
    assert share == pytest.approx(1 / 20, abs=0.01)


def test_every_file_is_whole_on_one_side_and_begins_with_bos(text):
    corpus = load_corpus(text)
    texts = read_files(text, "*")
    assert len(texts) == 80
    assert files_of(corpus.train) == [t for path, t in texts.items() if not is_heldout(path)]
    assert files_of(corpus.heldout) == [t for path, t in texts.items() if is_heldout(path)]
    assert corpus.train.dtype == corpus.heldout.dtype == torch.long


def test_new_files_move_no_old_one(text):
    before = load_corpus(text)
    write(text, functions(200, "more_{}.py"))
    after = load_corpus(text)
    assert set(files_of(before.train)) <= set(files_of(after.train))
    assert set(files_of(before.heldout)) <= set(files_of(after.heldout))
    assert len(after.train) > len(before.train)


# Folders that will not do --------------------------------------------------------------------


def test_missing_folder(tmp_path):
    for given in (tmp_path / "nowhere", str(tmp_path / "nowhere"), "~no-such-user/text"):
        with pytest.raises(CourseError) as error:
            load_corpus(given)
        assert str(given) in line(error) and "does not exist" in line(error)


def test_a_file_is_no_folder(tmp_path):
    file = tmp_path / "book.txt"
    file.write_text("one file")
    with pytest.raises(CourseError) as error:
        load_corpus(file)
    assert str(file) in line(error) and "not a folder" in line(error)


def test_unreadable_folder(text, monkeypatch):
    text.chmod(0)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read even this
    with pytest.raises(CourseError) as error:
        load_corpus(text)
    text.chmod(0o700)
    assert str(text) in line(error) and "permissions" in line(error)


@pytest.mark.parametrize(
    "texts",
    [
        {},
        {"part_1.py": "x = 1\n"},
        functions(3),
        {path: t for path, t in functions().items() if not is_heldout(path)},
        {path: t * 99 for path, t in functions().items() if is_heldout(path)},
    ],
    ids=["empty", "one line", "three files", "nothing held out", "nothing to train on"],
)
def test_too_little_text(tmp_path, texts):
    folder = write(tmp_path / "little", texts)
    folder.mkdir(exist_ok=True)
    with pytest.raises(CourseError) as error:
        load_corpus(folder)
    assert f"too little text: {len(texts)} files" in line(error)
    assert str(folder) in line(error) and "A few hundred files" in line(error)


# The cache -----------------------------------------------------------------------------------


def same(a: Corpus, b: Corpus) -> bool:
    return (
        torch.equal(a.train, b.train)
        and torch.equal(a.heldout, b.heldout)
        and a.train.dtype == b.train.dtype
        and a.description == b.description
    )


def test_second_load_reads_the_cache(text, cache, no_tokenizing):
    first = load_corpus(text)
    assert len(list(cache.iterdir())) == 1
    no_tokenizing()
    assert same(load_corpus(text), first)


def test_changed_text_is_tokenized_anew(text):
    first = load_corpus(text)
    file = text / "part_0.py"
    file.write_text(file.read_text().replace("return", "yield "))  # as long as before
    second = load_corpus(text)
    assert files_of(second.train)[0] == file.read_text() != files_of(first.train)[0]


@pytest.mark.parametrize(
    "kind", ["empty", "random bytes", "truncated", "other tensors", "no header"]
)
def test_corrupt_cache_is_ignored_and_rewritten(text, cache, kind, no_tokenizing):
    from safetensors.torch import save

    first = load_corpus(text)
    (file,) = cache.iterdir()
    good = file.read_bytes()
    file.write_bytes({
        "empty": b"",
        "random bytes": random.Random(0).randbytes(5_000),
        "truncated": good[: len(good) // 2],
        "other tensors": save({"tokens": torch.zeros(3)}),
        "no header": good[8:],
    }[kind])
    assert same(load_corpus(text), first)
    assert file.read_bytes() == good and list(cache.iterdir()) == [file]
    no_tokenizing()
    assert same(load_corpus(text), first)


def test_unwritable_cache_does_no_harm(text, tmp_path, monkeypatch):
    first = load_corpus(text)
    (tmp_path / "file").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert same(load_corpus(text), first)
    assert same(load_corpus(text), first)


def test_a_full_disk_leaves_nothing_in_the_cache(text, cache, monkeypatch):
    def full(self, data):
        with open(self, "wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_bytes", full)
        first = load_corpus(text)
    assert list(cache.iterdir()) == []
    assert same(load_corpus(text), first)


def test_cache_without_xdg_is_in_the_home_folder(text, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    load_corpus(text)
    assert len(list((tmp_path / "home" / ".cache" / "circuits").iterdir())) == 1


def test_a_user_without_a_home_has_no_cache(text, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: str(path))  # what it does then
    assert same(load_corpus(text), load_corpus(text))
    assert list((tmp_path / "here").iterdir()) == []


# Batches -------------------------------------------------------------------------------------

NUMBERS = Corpus(torch.arange(5_000), torch.arange(5_000, 6_000), "numbers")


def test_batch_is_made_of_windows_of_the_training_text():
    starts = set()
    for step in range(50):
        tokens = NUMBERS.batch(step, batch=4, n_ctx=100)
        assert tokens.shape == (4, 100)
        assert (tokens.diff() == 1).all()
        assert tokens.min() >= 0 and tokens.max() < 5_000
        starts |= set(tokens[:, 0].tolist())
    assert len(starts) > 180 and min(starts) < 500 and max(starts) > 4_400


def test_batch_depends_on_step_and_seed_alone():
    state = torch.get_rng_state()
    first = NUMBERS.batch(7, seed=1)
    torch.rand(3)
    NUMBERS.batch(8, seed=1)
    assert torch.equal(NUMBERS.batch(7, seed=1), first)
    assert not torch.equal(NUMBERS.batch(8, seed=1), first)
    assert not torch.equal(NUMBERS.batch(7, seed=2), first)
    torch.set_rng_state(state)
    NUMBERS.batch(7)
    assert torch.equal(torch.get_rng_state(), state)


def test_heldout_windows_are_spread_over_the_heldout_text():
    windows = NUMBERS.heldout_windows(4, n_ctx=100)
    assert windows[:, 0].tolist() == [5_000, 5_300, 5_600, 5_900]
    assert (windows.diff() == 1).all()
    assert torch.equal(NUMBERS.heldout_windows(4, n_ctx=100), windows)
    assert NUMBERS.heldout_windows(64, n_ctx=100).shape == (10, 100)  # no more than there are
    assert NUMBERS.heldout_windows(64, n_ctx=1_000).shape == (1, 1_000)


# The tokenizer -------------------------------------------------------------------------------


def odd_texts() -> list[str]:
    generator = random.Random(0)
    points = [p for p in range(1, 0x110000) if not 0xD800 <= p <= 0xDFFF]  # all but surrogates
    mixed = ["".join(map(chr, generator.choices(points, k=50))) for _ in range(200)]
    spaces = ["".join(generator.choices(" \t\n\r\x0b\u00a0\u2028x", k=30)) for _ in range(50)]
    return ["", "\0", "e\u0301 \u00e9", "\N{SNAKE}" * 9, *map(chr, range(256)), *mixed, *spaces]


def test_tokenizer_is_the_shipped_one_with_2048_tokens():
    from tokenizers import Tokenizer

    tokenizer = load_tokenizer()
    assert tokenizer.get_vocab_size() == 2_048
    assert tokenizer.id_to_token(0) == BOS == "<|bos|>" and tokenizer.token_to_id(BOS) == 0
    assert sorted(tokenizer.get_vocab().values()) == list(range(2_048))
    assert TOKENIZER.name == "tokenizer.json"
    assert Tokenizer.from_file(str(TOKENIZER)).to_str() == tokenizer.to_str()


def test_any_text_survives_tokenizing():
    tokenizer, texts = load_tokenizer(), odd_texts()
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    assert tokenizer.decode_batch(ids) == texts
    assert all(0 < i < 2_048 for part in ids for i in part)


def test_tokenizer_is_made_for_python():
    text = Path(os.__file__).read_text("utf-8")
    assert len(load_tokenizer().encode(text).ids) < len(text.encode()) / 2.5
    assert len(load_tokenizer().encode("def __init__(self):\n").ids) < 8


def test_a_tokenizer_trained_anew_has_the_same_properties():
    train_tokenizer = runpy.run_path(str(ROOT / "tools" / "train_tokenizer.py"))["train_tokenizer"]
    tokenizer = train_tokenizer(["def f(x):\n    return x\n" * 20], d_vocab=262)
    assert tokenizer.get_vocab_size() == 262 and tokenizer.token_to_id(BOS) == 0
    texts = odd_texts()
    assert [tokenizer.decode(tokenizer.encode(t).ids) for t in texts] == texts
    assert len(tokenizer.encode("return").ids) < 6
