"""The command `circuits`, as a user meets it: what it prints, keeps and refuses."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import full_disk
from click.testing import CliRunner
from safetensors.torch import load_file

from utils.cli import main
from utils.course import Chapter, chapters, exercise_of
from utils.model import Config, Transformer
from utils.pretrained import load_curves, load_model, save_model
from utils.training import RECIPES

# Models that train in seconds, for the command as it is.
TINY = dict(d_model=16, n_heads=2, n_ctx=32, batch=2, evaluate_every=10, warmup=5)
IN_A_PROCESS = f"""
import torch
from dataclasses import replace
from utils import training
from utils.cli import main
torch.set_num_threads(1)
training.RECIPES["two_layer"] = replace(training.RECIPES["two_layer"], **{TINY})
main(prog_name="circuits")
"""
STEPS = 120


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    """A folder of text."""
    folder = tmp_path_factory.mktemp("text")
    for i in range(80):
        (folder / f"part_{i}.py").write_text(f"def f_{i}(x):\n    return x + {i}\n\n\n" * 25)
    return folder


@pytest.fixture(autouse=True, scope="module")
def small(tmp_path_factory):
    """The same small models in this process as in others, and no use of the user's cache."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setitem(RECIPES, "two_layer", replace(RECIPES["two_layer"], **TINY))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """The folder that the command is run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(*args) -> subprocess.Popen:
    """`circuits ARGS` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", IN_A_PROCESS, *map(str, args)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A test run in the background may ignore Ctrl-C, and its children would do so too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def end(process: subprocess.Popen, status: int = 0) -> tuple[str, str]:
    """What the process wrote to stdout and stderr, once it has ended as it should."""
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == status, stdout + stderr
    assert "Traceback" not in stderr and "Aborted" not in stderr
    return stdout, stderr


def run(*args, status: int = 0) -> tuple[str, str]:
    """What `circuits ARGS` writes to stdout and stderr, in this process."""
    handler = signal.getsignal(signal.SIGINT)
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    signal.signal(signal.SIGINT, handler)
    assert isinstance(result.exception, (SystemExit, type(None))), repr(result.exception)
    assert result.exit_code == status, result.output
    return result.stdout, result.stderr


def circuits(*args) -> str:
    """What `circuits ARGS` writes to stdout."""
    return run(*args)[0]


def refused(*args) -> str:
    """The one line on stderr with which `circuits ARGS` ends."""
    _, stderr = run(*args, status=1)
    assert_one_line(stderr)
    return stderr


def assert_one_line(stderr: str) -> None:
    assert stderr.startswith("circuits: ") and stderr.endswith("\n") and stderr.count("\n") == 1


def train(text: Path, out: str | Path = "out", steps: int = STEPS) -> list:
    return ["train", "two_layer", "--steps", steps, "--corpus", text, "--out", out]


def wait_for(file: Path, process: subprocess.Popen) -> None:
    until = time.monotonic() + 60
    while not file.exists():
        assert process.poll() is None and time.monotonic() < until, process.stderr.read()
        time.sleep(0.005)


def saved_step(folder: Path) -> int:
    return torch.load(folder / "two_layer.state.pt", weights_only=True)["step"]


@pytest.fixture(scope="module")
def undisturbed(text, tmp_path_factory) -> Path:
    """What a training left that nobody interrupted."""
    out = tmp_path_factory.mktemp("undisturbed")
    circuits(*train(text, out))
    return out


def assert_same_model(a: Path, b: Path) -> None:
    weights, others = (load_file(f / "two_layer.safetensors") for f in (a, b))
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    curves, others = (load_curves(f / "two_layer.safetensors") for f in (a, b))
    assert {**curves, "seconds": 0} == {**others, "seconds": 0}


# Help ----------------------------------------------------------------------------------------


def test_help_lists_the_commands_each_with_a_help_of_its_own():
    text = circuits("--help")
    assert text == circuits("-h")
    assert set(main.commands) >= {"build", "check", "dev-check", "evaluate", "train"}
    for name in main.commands:
        assert re.search(rf"^  {name}  +\w", text, re.MULTILINE)
        assert circuits(name, "--help").startswith(f"Usage: main {name} ")


def test_wrong_usage_is_said_without_a_traceback():
    for args in (["frobnicate"], ["train"], ["train", "zero_layer", "--steps", "0"], ["check"]):
        result = CliRunner().invoke(main, args)
        assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
        assert "Error: " in result.stderr and "--help" in result.stderr


# Training ------------------------------------------------------------------------------------


def test_train_follows_the_recipe_and_saves(here, text):
    """The real command, for two steps of the real model."""
    done = subprocess.run(
        [sys.executable, "-m", "utils.cli", "train", "zero_layer"]
        + ["--steps", "2", "--corpus", str(text)],
        capture_output=True, text=True, timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Text of {text}: 80 files, ")
    assert re.search(r"\nSaved trained/zero_layer.safetensors after \d+ seconds", done.stdout)
    assert "2/2" in done.stderr and "step/s" in done.stderr and "nats" in done.stderr
    assert sorted(os.listdir(here / "trained")) == [
        "zero_layer.curves.json", "zero_layer.safetensors", "zero_layer.state.pt",
    ]
    model = load_model(here / "trained" / "zero_layer.safetensors")
    assert (model.cfg.d_model, model.cfg.n_layers, model.cfg.d_vocab) == (256, 0, 2_048)
    assert load_curves(here / "trained" / "zero_layer.safetensors")["step"] == [0, 2]


def test_interrupted_training_is_saved_and_resumed(here, text, undisturbed):
    """Also if Ctrl-C is pressed again and again while the first is being dealt with."""
    process = start(*train(text))
    wait_for(here / "out" / "two_layer.state.pt", process)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    stdout, _ = end(process, status=130)
    step = int(re.search(r"Stopped at step (\d+) and saved\. The same command goes on", stdout)[1])
    assert 10 <= step < STEPS and saved_step(here / "out") == step
    curves = load_curves(here / "out" / "two_layer.safetensors")
    assert curves["step"] == [*range(0, step + 1, 10)]
    assert load_model(here / "out" / "two_layer.safetensors")("import os").isfinite().all()
    stdout, stderr = run(*train(text))
    assert f"Resuming two_layer at step {step} of {STEPS}.\n" in stdout
    assert f"{STEPS}/{STEPS}" in stderr
    assert_same_model(here / "out", undisturbed)


def test_killed_training_loses_at_most_the_steps_since_the_last_evaluation(here, text, undisturbed):
    process = start(*train(text))
    wait_for(here / "out" / "two_layer.safetensors", process)
    time.sleep(0.1)
    process.kill()
    _, stderr = end(process, status=-signal.SIGKILL)
    reached = max(int(n) for n in re.findall(rf"(\d+)/{STEPS} ", stderr))
    step = saved_step(here / "out")
    assert step % 10 == 0 and 10 <= step < STEPS and reached - step <= 10
    assert f"Resuming two_layer at step {step} of {STEPS}.\n" in circuits(*train(text))
    assert_same_model(here / "out", undisturbed)


def test_finished_training_says_so_and_stays_as_it_is(here, text):
    circuits(*train(text, steps=3))
    files = {file: file.read_bytes() for file in (here / "out").iterdir()}
    (here / "out" / "two_layer.safetensors").unlink()
    stdout = circuits(*train(text, steps=3))
    assert "Finished: two_layer at step 3 of 3." in stdout
    assert "Saved out/two_layer.safetensors" in stdout
    for file, data in files.items():
        assert file.suffix == ".pt" or file.read_bytes() == data
    assert saved_step(here / "out") == 3 and len(files) == 3
    stdout = circuits(*train(text, steps=5), "--restart")
    assert "Resuming" not in stdout and saved_step(here / "out") == 5


def test_a_full_disk_keeps_what_was_saved(here, text):
    circuits(*train(text, steps=20))
    files = {file: file.read_bytes() for file in (here / "out").iterdir()}
    with full_disk(100_000):
        _, stderr = run(*train(text, steps=20), "--restart", status=1)
    assert_one_line(stderr.splitlines(keepends=True)[-1])
    assert "two_layer cannot be saved in out (File too large)" in stderr
    assert {file: file.read_bytes() for file in (here / "out").iterdir()} == files


def test_unknown_model():
    """In a process of its own: also nothing else is written to stderr there."""
    _, stderr = end(start("train", "three_layer"), status=1)
    assert_one_line(stderr)
    assert "'three_layer'. There are: zero_layer, one_layer, two_layer." in stderr


def test_corpus_that_will_not_do(here):
    assert "'nowhere' does not exist" in refused("train", "zero_layer", "--corpus", "nowhere")
    (here / "empty").mkdir()
    assert "holds too little text: 0 files" in refused("train", "zero_layer", "--corpus", "empty")
    (here / "book.txt").write_text("one file")
    assert "is not a folder" in refused("train", "zero_layer", "--corpus", "book.txt")
    assert sorted(os.listdir(here)) == ["book.txt", "empty"]


def test_folder_that_cannot_be_written_is_noticed_before_training(here, text):
    (here / "file").write_text("in the way")
    for out in ("file", "file/deeper", "/dev/null/out", "/proc"):
        line = refused(*train(text, out, steps=1))  # one line: no progress bar before it
        assert f"two_layer cannot be saved in {out} (" in line and "--out" in line


def test_state_that_cannot_be_resumed(here, text):
    (here / "out").mkdir()
    state = here / "out" / "zero_layer.state.pt"
    for content in (b"", b"\x80\x04garbage", bytes(5_000), b"PK\x03\x04" + bytes(500)):
        state.write_bytes(content)
        line = refused("train", "zero_layer", "--corpus", text, "--out", "out")
        assert "out/zero_layer.state.pt cannot be resumed from" in line and "--restart" in line
        assert state.read_bytes() == content


def test_state_of_another_training_is_not_overwritten(here, text):
    circuits(*train(text, steps=3))
    old = (here / "out" / "two_layer.state.pt").read_bytes()
    assert "another training (steps 3 there and 4 here)" in refused(*train(text, steps=4))
    other = here / "other"
    other.mkdir()
    for file in text.iterdir():
        (other / file.name).write_text(file.read_text() + "# end\n")
    assert "another training (another corpus)" in refused(*train(other, steps=3))
    assert (here / "out" / "two_layer.state.pt").read_bytes() == old


# Evaluating ----------------------------------------------------------------------------------


def test_evaluate_prints_figures(undisturbed, text):
    file = undisturbed / "two_layer.safetensors"
    printed = circuits("evaluate", file, "--corpus", text)
    assert printed.startswith(f"Text of {text}")
    loss = float(re.search(r"safetensors: ([\d.]+) nats per token on held-out text", printed)[1])
    assert loss < 6.0 and re.search(r"in-context-learning score [+-]\d\.\d{3}\n", printed)
    for measure in ("previous token score", "induction score"):
        assert len(re.findall(rf"  {measure}: \d\.0 \d\.\d\d  \d\.1 \d\.\d\d\n", printed)) == 2
    assert re.search(r"repeated random tokens: [\d.]+ nats on the first copy, [\d.]+ on", printed)
    figures = json.loads(circuits("evaluate", file, "--corpus", text, "--json"))[str(file)]
    assert figures["heldout_loss"] == pytest.approx(loss, abs=1e-3)
    assert len(figures["induction_score"]) == 2


def test_evaluate_what_cannot_be_measured(here, text):
    assert "'three_layer'" in refused("evaluate", "three_layer")
    assert "does not exist" in refused("evaluate", "nowhere.safetensors")
    (here / "damaged.safetensors").write_bytes(b"damaged")
    assert "is damaged" in refused("evaluate", "damaged.safetensors")
    save_model(Transformer(Config(d_vocab=64, d_model=4)), here / "toy.safetensors", {})
    assert "it has 64 tokens" in refused("evaluate", "toy.safetensors")
    save_model(Transformer(Config(d_vocab=2_048, d_model=4)), here / "ours.safetensors", {})
    line = refused("evaluate", "ours.safetensors", "--corpus", "nowhere")
    assert "'nowhere' does not exist" in line


# Checking ------------------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", chapters(), ids=lambda chapter: chapter.name)
def test_check_gives_the_reference_answers_full_points(chapter):
    printed = circuits("check", chapter.source)
    points = sum(chapter.exercises.values())
    assert printed.endswith(f"\n{points:g} of {points:g} points\n") and "FAIL" not in printed
    for name, worth in chapter.exercises.items():
        assert f"{name}: {worth:g} of {worth:g} points\n" in printed


HALF = '''
import torch

def bigram_counts(tokens, d_vocab):
    counts = torch.zeros(d_vocab, d_vocab, dtype=torch.long)
    for a, b in zip(tokens[:-1].tolist(), tokens[1:].tolist()):
        counts[b, a] += 1
    return counts

def bigram_log_probs(counts, alpha=1.0):
    raise NotImplementedError()
'''


def test_check_says_what_is_wrong_with_a_plain_file(here):
    (here / "half.py").write_text(HALF)
    printed = circuits("check", "half.py")
    assert "bigram_counts: 0 of 3 points\n  FAIL counts every adjacent pair\n" in printed
    assert "entry [0, 1] should be 1; yours is 0" in printed
    assert "Hint: Rows and columns are exchanged" in printed
    assert "bigram_log_probs: 0 of 4 points\n" in printed and "is not written yet" in printed
    assert printed.endswith("\n0 of 7 points\n")
    (here / "half.py").write_text(HALF.replace("counts[b, a]", "counts[a, b]"))
    assert circuits("check", "half.py").endswith("\n3 of 7 points\n")


def test_check_counts_an_exercise_whose_cell_does_not_run(here):
    chapter = Chapter("1_bigrams")
    notebook = json.loads(chapter.notebook.read_text("utf-8"))
    first, second = list(chapter.exercises)[:2]
    for cell in notebook["cells"]:
        if exercise_of(cell) == first:
            cell["source"] = "def broken(:"
        elif exercise_of(cell) == second:
            cell["source"] = "raise SystemExit('that is all')"
    (here / "mine.ipynb").write_text(json.dumps(notebook))
    printed = circuits("check", "mine.ipynb")
    assert f"The cell of {first} raised SyntaxError" in printed
    assert f"The cell of {second} raised SystemExit: that is all\n" in printed
    assert f"{first}: 0 of" in printed
    assert printed.endswith(f"\n0 of {sum(chapter.exercises.values()):g} points\n")


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("missing.ipynb", None, "missing.ipynb does not exist"),
        ("missing.py", None, "missing.py does not exist"),
        ("notes.txt", b"my notes", "is neither a notebook (.ipynb) nor a Python file (.py)"),
        ("empty.ipynb", b"", "empty.ipynb cannot be read as a notebook"),
        ("text.ipynb", b"not JSON", "text.ipynb cannot be read as a notebook"),
        ("bytes.ipynb", b"\xff\xfe", "bytes.ipynb cannot be read as a notebook"),
        ("bytes.py", b"\xff\xfe", "bytes.py cannot be read as a notebook"),
        ("list.ipynb", b"[]", "list.ipynb holds JSON that is no notebook"),
        ("other.ipynb", b'{"a": 1}', "other.ipynb holds JSON that is no notebook"),
        ("cells.ipynb", b'{"cells": [1]}', "cells.ipynb holds JSON that is no notebook"),
        ("meta.ipynb", b'{"cells": [{"cell_type": "code", "metadata": null}]}', "is no notebook"),
        ("source.ipynb", b'{"cells": [{"cell_type": "code", "metadata": {}, "source": 5}]}',
         "is no notebook"),
        ("none.ipynb", b'{"cells": []}', "none.ipynb defines no exercise of this course."),
        ("none.py", b"x = 1\n", "none.py defines no exercise of this course."),
        ("syntax.py", b"def f(:\n", "syntax.py defines no exercise of this course, as it stopped"),
        ("exit.py", b"import sys\nsys.exit(3)\n", "exit.py defines no exercise of this course, as"),
        ("lines.py", b"raise ValueError('a\\nb')\n", "lines.py defines no exercise"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value[-7:] else "",
)
def test_check_of_what_cannot_be_checked(here, name, content, words):
    if content is not None:
        (here / name).write_bytes(content)
    assert words in refused("check", name)


def test_check_of_a_folder(here):
    (here / "folder.ipynb").mkdir()
    assert "cannot be read as a notebook (Is a directory)" in refused("check", "folder.ipynb")
    assert "is neither a notebook" in refused("check", here)


def test_what_needs_no_model_does_not_wait_for_torch():
    code = "import sys, utils.cli, utils.grading.batch, utils; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
