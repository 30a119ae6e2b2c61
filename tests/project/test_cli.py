"""The command `circuits`, as a user meets it: what it prints, keeps and refuses."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from conftest import PATIENCE, full_disk, proven_elsewhere
from safetensors.torch import load_file

from circuits.chapters import ROOT, Chapter, chapters, exercise_of
from circuits.cli import main
from circuits.saved_training import save_model
from circuits.verify import why_no_sandbox
from utils.model import Config, Transformer
from utils.pretrained import load_curves, load_model
from utils.training import RECIPES

# Models that train in seconds, for the command as it is.
TINY = dict(d_model=16, n_heads=2, n_ctx=32, batch=2, evaluate_every=10, warmup=5)
IN_A_PROCESS = f"""
import torch
from dataclasses import replace
from utils import training
from circuits.cli import main
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
    stdout, stderr = process.communicate(timeout=PATIENCE)
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


def circuits(*args, status: int = 0) -> str:
    """What `circuits ARGS` writes to stdout."""
    return run(*args, status=status)[0]


def refused(*args, status: int = 1) -> str:
    """The one line on stderr with which `circuits ARGS` ends."""
    _, stderr = run(*args, status=status)
    assert_one_line(stderr)
    return stderr


def assert_one_line(stderr: str) -> None:
    assert stderr.startswith("circuits: ") and stderr.endswith("\n") and stderr.count("\n") == 1


def train(text: Path, out: str | Path = "out", steps: int = STEPS) -> list:
    return ["train", "two_layer", "--steps", steps, "--corpus", text, "--out", out]


def wait_for(file: Path, process: subprocess.Popen) -> None:
    until = time.monotonic() + PATIENCE
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
        [sys.executable, "-m", "circuits.cli", "train", "zero_layer"]
        + ["--steps", "2", "--corpus", str(text)],
        capture_output=True, text=True, timeout=PATIENCE,
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
    assert "'three_layer'. There are: zero_layer, one_layer, two_layer, full_two_layer," in stderr


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


@pytest.mark.parametrize("chapter", proven_elsewhere("1_bigrams"))
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
    printed = circuits("check", "half.py", status=1)
    assert "bigram_counts: 0 of 3 points\n  FAIL counts every adjacent pair\n" in printed
    assert "entry [0, 1] should be 1; yours is 0" in printed
    assert "Hint: Rows and columns are exchanged" in printed
    assert "bigram_log_probs: 0 of 4 points\n" in printed and "is not written yet" in printed
    assert printed.endswith("\n0 of 7 points\n")
    (here / "half.py").write_text(HALF.replace("counts[b, a]", "counts[a, b]"))
    assert circuits("check", "half.py", status=1).endswith("\n3 of 7 points\n")


def test_check_tells_an_editor_the_same_as_json(here):
    (here / "half.py").write_text(HALF)
    found = json.loads(circuits("check", "half.py", "--json", status=1))
    assert (found["points"], found["max_points"], found["cells"]) == (0, 7, {})
    counts, log_probs = found["exercises"]
    assert counts["exercise"] == "bigram_counts" and not counts["passed"] and not counts["unsolved"]
    assert counts["hint"].startswith("Rows and columns are exchanged")
    assert {"name", "points", "passed", "message"} <= set(counts["checks"][0])
    assert log_probs["unsolved"] and log_probs["points"] == 0 and log_probs["max_points"] == 4
    (here / "none.py").write_text("x = 1\n")
    stdout, stderr = run("check", "none.py", "--json", status=2)
    assert json.loads(stdout)["error"] in stderr


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
    printed = circuits("check", "mine.ipynb", status=1)
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
        ("syntax.py", b"def f(:\n", "syntax.py defines no exercise of this course. The file raised SyntaxError"),
        ("exit.py", b"import sys\nsys.exit(3)\n", "exit.py defines no exercise of this course. The file raised SystemExit: 3"),
        ("lines.py", b"raise ValueError('a\\nb')\n", "lines.py defines no exercise"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value[-7:] else "",
)
def test_check_of_what_cannot_be_checked(here, name, content, words):
    if content is not None:
        (here / name).write_bytes(content)
    assert words in refused("check", name, status=2)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("name", ["mine.py", "Mine.PY", "mine.ipynb", "MINE.IPYNB"])
def test_check_reads_what_editors_write(here, name, encoding):
    text = f'"""“Déjà vu”"""\n{HALF.replace("counts[b, a]", "counts[a, b]")}'
    if name.lower().endswith("ipynb"):
        meta = {"nbgrader": {"solution": True, "grade_id": "bigram_counts"}}
        text = json.dumps({"cells": [{"cell_type": "code", "metadata": meta, "source": text}]}, ensure_ascii=False)
    (here / name).write_bytes(text.encode(encoding))
    assert "bigram_counts: 3 of 3 points\n" in circuits("check", name, status=1)


STRANGE = """
import sys
print("printed \\x1b[2J, \\x9b2J, é")
print("warned \\x1b[2J", file=sys.stderr)

def direct_path(W_E, W_U):
    print("inside \\x1b[2J")
    raise type("Own\\x1b[31m", (Exception,), {})("text \\x1b[2J")

raise ValueError("text \\x1b[2J\\nmore")
"""


def test_nothing_of_a_strangers_file_reaches_the_terminal_but_text(here):
    name = "strange \x1b[2J\n.py"
    (here / name).write_text(STRANGE)
    for printed in run("check", name, status=1):
        assert "\x1b" not in printed and "\x9b" not in printed
    stdout, stderr = run("check", name, status=1)
    assert r"printed \x1b[2J, \x9b2J, é" in stdout and r"warned \x1b[2J" in stderr
    assert r"raised ValueError: text \x1b[2J" in stdout and r"raised Own\x1b[31m: text \x1b[2J" in stdout
    stdout, stderr = run("check", name, "--json", status=1)
    assert json.loads(stdout)["cells"] and "\x1b" not in stdout + stderr and r"printed \x1b[2J" in stderr
    (here / name).write_text("")
    assert r"strange \x1b[2J\n.py cannot be read" in refused("check", name, status=2)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_no_command_stumbles_over_a_console_that_is_not_utf_8(here, monkeypatch, encoding):
    (here / "half.py").write_text(f"print('≠')\n{HALF}\nraise ValueError('≠')", "utf-8")
    for args, says in (
        *(((name, "--help"), "Usage: ") for name in main.commands),
        (("progress",), "bigram_counts"),
        (("check", "half.py"), "The file raised ValueError: "),
        (("check", "≠.py"), "does not exist"),
        (("grade", "≠"), "There is no nbgrader_config.py"),
        (("train", "≠"), "There are: zero_layer"),
        (("evaluate", "≠"), "There are: zero_layer"),
        (("dev-check", "≠"), "No exercise is called"),
        (("mutants", "≠"), ""),
        (("lab", "half.py"), "is a file"),
        (("≠",), "No such command"),
    ):
        written = io.BytesIO()
        for stream in ("stdout", "stderr"):
            monkeypatch.setattr(sys, stream, io.TextIOWrapper(written, encoding, write_through=True))
        with pytest.raises(SystemExit):  # an error of encoding would come through
            main.main(list(args), prog_name="circuits")
        assert says in written.getvalue().decode(encoding, "replace") and b"Traceback" not in written.getvalue()


def test_check_of_a_folder(here):
    (here / "folder.ipynb").mkdir()
    assert "cannot be read as a notebook (Is a directory)" in refused("check", "folder.ipynb", status=2)
    assert "is neither a notebook" in refused("check", here, status=2)


# What there is, and what works ---------------------------------------------------------------


def without_torch(*args) -> str:
    """What `circuits ARGS` prints where importing torch fails."""
    code = f"import sys; sys.modules['torch'] = None; from circuits.cli import main; main({list(args)})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_and_progress_need_no_torch():
    assert "progress" in without_torch("--help")
    printed = without_torch("progress")
    assert without_torch("list") == printed
    for chapter in chapters():
        assert f"{chapter.title}   " in printed
        assert f"of {sum(chapter.exercises.values()):g} points" in printed
        for name in chapter.exercises:
            assert re.search(rf"^  [✓◐◇○] {name} +[●○]{{3}}  [\d.]+ of [\d.]+", printed, re.MULTILINE)


def test_verify_says_what_works(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")  # reading millions of tokens anew takes long
    lines = circuits("verify").splitlines()
    words = ("Python", "course", "torch", "text", "checkpoints", "interactive figures")
    for word in words:
        assert any(line.startswith(f"ok  {word}: ") for line in lines), (word, lines)
    assert any(re.match(r"(ok|--)  sandbox: ", line) for line in lines)
    assert any("million tokens" in line for line in lines)


def test_verify_finds_what_is_broken(monkeypatch, tmp_path):
    from utils import pretrained

    broken = shutil.copytree(pretrained.CHECKPOINTS, tmp_path / "checkpoints")
    weights = bytearray((broken / "one_layer.safetensors").read_bytes())
    weights[-1] ^= 1  # one bit, which a reader would not notice
    (broken / "one_layer.safetensors").write_bytes(weights)
    (broken / "tokenizer.json").unlink()
    monkeypatch.setattr(pretrained, "CHECKPOINTS", broken)
    monkeypatch.delenv("XDG_CACHE_HOME")
    stdout, stderr = run("verify", status=1)
    assert "NO  checkpoints: one_layer.safetensors is damaged" in stdout
    assert "NO  checkpoints: tokenizer.json is missing" in stdout
    assert "2 things do not work" in stderr and stderr.count("\n") == 1


@pytest.mark.parametrize(
    "name, value",
    [
        ("kernel.apparmor_restrict_unprivileged_userns", "1"),
        ("kernel.unprivileged_userns_clone", "0"),
        ("user.max_user_namespaces", "0"),
    ],
)
def test_verify_names_the_setting_that_forbids_the_sandbox(name, value):
    allowed = {
        "kernel.apparmor_restrict_unprivileged_userns": "0",
        "kernel.unprivileged_userns_clone": "1",
        "user.max_user_namespaces": "100",
    }
    assert name not in why_no_sandbox("no permission", allowed.get)
    why = why_no_sandbox("no permission", {**allowed, name: value}.get)
    assert f"{name} = {value}" in why and f"`sysctl -w {name}=" in why and "no permission" in why
    assert why_no_sandbox("answers cannot compute in it (...)", {**allowed, name: value}.get).startswith("answers")


# A folder to work in -------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch) -> list:
    """What JupyterLab would be started with, and where."""
    found, before = [], os.getcwd()

    def start(program, command):
        found.append((os.getcwd(), command))
        os.chdir(before)

    monkeypatch.setattr(os, "execv", start)
    monkeypatch.setattr("circuits.course_progress._DATA", Path(os.devnull))  # nobody's own progress comes in
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_lab_makes_a_copy_of_ones_own_and_opens_it(here, started):
    printed = circuits("lab", "my work", "--port", "9001", "--ip=0.0.0.0")
    assert "Your notebooks are in my work." in printed
    where, command = started[0]
    assert Path(where) == here / "my work"
    assert command[1:3] == ["-m", "jupyterlab"] and "--ip=0.0.0.0" in command
    assert command[command.index("--port") + 1] == "9001"
    for chapter in chapters():
        mine = json.loads(files(here / "my work")[f"{chapter.name}/{chapter.notebook.name}"])
        assert mine["cells"] == json.loads(chapter.notebook.read_text("utf-8"))["cells"]


@pytest.mark.parametrize("version, teach, tools", [
    ("1.0", False, set()),
    ("1.0+students", False, {"assignment_list"}),
    ("1.0", True, {"assignment_list", "course_list", "formgrader", "validate_assignment"}),
])  # fmt: skip
def test_lab_shows_nbgraders_tools_to_who_needs_them(here, started, monkeypatch, version, teach, tools):
    """As Jupyter itself reads the settings that it is started with."""
    for name in ("JUPYTER_PATH", "JUPYTER_CONFIG_PATH"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("circuits.lab.version", lambda name: version)
    circuits("lab", *(["--teach"] if teach else ["work"]))
    where, command = started[0]
    assert Path(where) == (here if teach else here / "work")
    assert ("--LabApp.default_url=/lab/tree/Start%20here.md" in command) == (not teach)
    ask = """
import json
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.extension.config import ExtensionConfigManager
from jupyter_server.serverapp import ServerApp
from jupyterlab.commands import get_app_dir
from jupyterlab_server.config import get_page_config
from jupyter_core.paths import jupyter_config_path, jupyter_path
on = ExtensionConfigManager(read_config_path=jupyter_config_path()).get_jpserver_extensions()
for folder in jupyter_config_path():
    try:
        with open(f"{folder}/jupyter_server_config.json") as file:
            on |= json.load(file).get("ServerApp", {}).get("jpserver_extensions", {})
        break
    except OSError:
        pass
page = get_page_config(jupyter_path("labextensions"))
print(json.dumps([on, page.get("disabledExtensions"), KernelSpecManager().find_kernel_specs()]))
"""
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    on, disabled, kernels = json.loads(done.stdout.splitlines()[-1])
    assert {n.split(".")[-1] for n, enabled in on.items() if n.startswith("nbgrader.") and enabled} == tools
    assert any(name.startswith("@jupyter/nbgrader") for name in disabled) == (not teach)
    assert Path(kernels["circuits"]) == ROOT / "circuits" / "jupyter" / "kernels" / "circuits"


def test_lab_keeps_what_is_there_and_adds_what_is_new(here, started):
    """What an update does to a notebook is in test_learners_copy.py."""
    circuits("lab", "work")
    mine = here / "work" / "1_bigrams" / "bigrams.ipynb"
    mine.write_text("my answers")
    (here / "work" / "2_skip_trigrams" / "skip_trigrams.ipynb").unlink()
    (here / "work" / ".circuits.json").write_text('{"version": "0.0.1"}')
    printed = circuits("lab", "work")
    assert "was made by version 0.0.1" in printed and "new: 2_skip_trigrams/skip_trigrams.ipynb" in printed
    assert mine.read_text() == "my answers" and "bigrams.ipynb is no longer a notebook" in printed
    before = files(here / "work")
    (here / "work" / ".circuits.json").write_text("damaged")
    assert "was made by version unknown" in circuits("lab", "work")
    assert files(here / "work") == before


@pytest.mark.parametrize("kind", ["file", "other", "read-only"])
def test_lab_refuses_a_folder_it_cannot_have(here, started, kind, monkeypatch):
    place = here / "place"
    if kind == "file":
        place.write_text("mine")
    else:
        place.mkdir()
    if kind == "other":
        (place / "thesis.tex").write_text("mine")
    if kind == "read-only":  # root may write all the same, so the refusal is made here
        def refuse(file, data):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("circuits.learners_copy.write_file", refuse)
    before = files(here)
    words = {"file": "is a file", "other": "holds other things", "read-only": "cannot be written (Permission denied)"}
    assert words[kind] in refused("lab", "place")
    assert files(here) == before and not started


def test_lab_without_a_folder_makes_the_copy_of_the_clone(here, started, monkeypatch):
    from circuits import learners_copy

    assert learners_copy.WORK == ROOT / "work"
    monkeypatch.setattr(learners_copy, "WORK", here / "work")
    circuits("lab", "--no-browser")
    where, command = started[0]
    assert Path(where) == here / "work" and "--no-browser" in command
    assert (here / "work" / "1_bigrams" / "bigrams.ipynb").exists()


def test_lab_names_the_files_that_hide_what_notebooks_import(here, started):
    circuits("lab", "work")
    for name in ("1_bigrams/torch.py", "circuits.py", "1_bigrams/utils/__init__.py", "helpers.py", "1_bigrams/json.py"):
        (here / "work" / name).parent.mkdir(exist_ok=True)
        (here / "work" / name).touch()
    lines = [line for line in circuits("lab", "work").splitlines() if "rename it" in line]
    assert [line.split()[1] for line in lines] == [
        f"work/{name}" for name in ("1_bigrams/torch.py", "1_bigrams/utils/__init__.py", "circuits.py")
    ]


def test_lab_where_nothing_can_be_written_asks_for_another_folder(started, monkeypatch):
    circuits("lab", "mine")
    monkeypatch.setattr(os, "access", lambda place, mode: mode != os.W_OK)
    assert "mine can only be read: name another folder" in refused("lab", "mine")
    assert len(started) == 1


@pytest.mark.parametrize(
    "system, display, opens", [("linux", ":0", True), ("linux", "", False), ("darwin", "", True)]
)
def test_lab_without_a_screen_prints_its_address_instead(monkeypatch, started, system, display, opens):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    printed = circuits("lab", "work")
    assert ("--no-browser" in started[0][1]) == ("No screen found" in printed) == (not opens)


def test_what_needs_no_model_does_not_wait_for_torch():
    code = "import sys, circuits.cli, circuits.grading.batch, utils; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
