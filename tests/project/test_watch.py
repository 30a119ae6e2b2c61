"""`circuits watch`: what is saved is checked, and only what changed is said."""

import json
import os
import shutil
import signal
import subprocess
import sys

from conftest import PATIENCE, answered

from circuits.chapters import Chapter
from circuits.learners_copy import prepare
from circuits.watch import watch

CHAPTER = Chapter("1_bigrams")
RIGHT = "def direct_path(W_E, W_U):\n    return W_E @ W_U"


def test_each_save_tells_of_what_changed_and_of_nothing_else(tmp_path):
    file = tmp_path / "bigrams.ipynb"
    other = "def positions_that_matter(pos):\n    return [pos]"
    saves = [
        {}, None, {"direct_path": RIGHT.replace("@", "+")}, {"direct_path": RIGHT}, {"direct_path": RIGHT, "positions_that_matter": other},
    ]  # fmt: skip
    shutil.copy(CHAPTER.notebook, file)
    said: list[list[str]] = []
    looks = 0

    def save() -> bool:
        nonlocal looks
        looks += 1
        if looks % 2 == 0:  # a file is read once it has stayed the same from one look to the next
            return True
        if len(said) == len(saves):
            return False
        changes = saves[len(said)]
        said.append([])
        if changes is None:
            file.write_text("{", "utf-8")
        elif changes:
            file.write_text(json.dumps(answered(CHAPTER, changes)), "utf-8")
        os.utime(file, ns=(len(said) * 10**9,) * 2) if changes != {} else None
        return True

    lines = watch([file], save)
    assert next(lines).startswith("Watching ")
    for line in lines:
        said[-1].append(line)
    assert said[0] == []
    assert len(said[1]) == 1 and "cannot be read as a notebook" in said[1][0]
    assert [text.splitlines()[0] for text in said[2]] == ["direct_path: 0 of 3 points"] and "FAIL" in said[2][0]
    assert [text.splitlines()[0] for text in said[3]] == ["direct_path: 3 of 3 points"]
    assert [text.splitlines()[0] for text in said[4]] == ["positions_that_matter: 3 of 3 points"]


def test_the_command_watches_the_copy_and_counts_what_it_finds(tmp_path):
    prepare(tmp_path / "work")
    env = {k: v for k, v in os.environ.items() if k != "NBGRADER_EXECUTION"}
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "circuits.cli", "watch"], cwd=tmp_path / "work", env=env,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        assert process.stdout.readline().startswith("Watching ")
        file = tmp_path / "work" / CHAPTER.name / CHAPTER.notebook.name
        file.write_text(json.dumps(answered(CHAPTER, {"direct_path": RIGHT})), "utf-8")
        assert process.stdout.readline() == "direct_path: 3 of 3 points\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130 and stderr == ""
    finally:
        process.kill()
    assert '"direct_path"' in (tmp_path / "work" / ".progress.jsonl").read_text()
