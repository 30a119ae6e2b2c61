"""The learner's copy on disk: made, brought up to date, interrupted anywhere, and never poorer for it."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import answered

from circuits import learners_copy
from circuits.chapters import ROOT, Chapter, chapters, exercise_of, read_cells, source
from circuits.learners_copy import HISTORY, copy_of, keep, prepare
from utils.errors import CourseError

NAME = Path("1_bigrams", "bigrams.ipynb")


@pytest.fixture
def release(tmp_path, monkeypatch) -> Path:
    """A course of two chapters of which new releases can be made: its folder `notebooks`."""
    root = tmp_path / "course"
    for name in ("0_foundations", "1_bigrams"):
        shutil.copytree(ROOT / "notebooks" / name, root / "notebooks" / name)
    monkeypatch.setattr(learners_copy, "chapters", lambda: chapters(root))
    return root / "notebooks"


def change(release: Path, text: str = "Changed by the course.") -> None:
    """A next release: one text of chapter 1 says something else, and a text comes in at the end."""
    notebook = json.loads((release / NAME).read_text("utf-8"))
    next(c for c in notebook["cells"] if c["id"] == "counting-1")["source"] = text
    notebook["cells"].append({"cell_type": "markdown", "id": "end-1", "metadata": {}, "source": "An end."})
    (release / NAME).write_text(json.dumps(notebook), "utf-8")


def work(copy: Path) -> None:
    """An answer, a note and a result, as JupyterLab saves them."""
    notebook = json.loads((copy / NAME).read_text("utf-8"))
    for cell in notebook["cells"]:
        if exercise_of(cell) == "direct_path":
            cell["source"] = "def direct_path(W_E, W_U):\n    return W_E @ W_U  # mine"
        if cell["id"] == "setup":
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "shown"}]
    notebook["cells"].insert(5, {"cell_type": "markdown", "id": "0c5e8a6e", "metadata": {}, "source": "Note of mine."})
    (copy / NAME).write_text(json.dumps(notebook, indent=1), "utf-8")


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def texts(file: Path) -> list[str]:
    return [source(cell) for cell in read_cells(file)]


def test_a_new_copy_has_every_notebook_and_the_next_start_changes_nothing(tmp_path, release):
    copy = tmp_path / "work"
    assert prepare(copy) == [f"Your notebooks are in {copy}."]
    for chapter in learners_copy.chapters():
        mine = json.loads((copy / chapter.name / chapter.notebook.name).read_text())
        assert mine["cells"] == json.loads(chapter.notebook.read_text())["cells"]
    before = files(copy)
    assert prepare(copy) == [] and files(copy) == before
    assert copy_of(copy / "1_bigrams") == copy and copy_of(tmp_path) is None


def test_an_update_brings_what_is_new_and_keeps_what_is_mine(tmp_path, release):
    copy = tmp_path / "work"
    prepare(copy)
    work(copy)
    before = (copy / NAME).read_bytes()
    change(release)
    said = prepare(copy)
    assert said[0] == f"{NAME} is brought up to date: 2 cells new or changed."
    now = texts(copy / NAME)
    assert "Changed by the course." in now and now[-1] == "An end." and "Note of mine." in now
    assert any("# mine" in text for text in now)
    assert '"shown"' in (copy / NAME).read_text(), "a result of an unchanged cell stays"
    assert Path(said[1].split("As it was: ")[1]).read_bytes() == before
    after = files(copy)
    assert prepare(copy) == [] and files(copy) == after


@pytest.mark.parametrize("writes", range(8))
def test_killed_anywhere_the_copy_is_whole_and_the_next_start_completes_it(tmp_path, release, monkeypatch, writes):
    class Killed(BaseException):
        pass

    left = writes

    def write(file, data):
        nonlocal left
        if not left:
            raise Killed
        left -= 1
        write_file(file, data)

    write_file = learners_copy.write_file
    copy, undisturbed = tmp_path / "work", tmp_path / "undisturbed"
    for folder in (copy, undisturbed):
        prepare(folder)
        work(folder)
        with monkeypatch.context() as m:
            m.setattr(learners_copy, "version", lambda name: "9.9")
            if folder == copy:
                old = (copy / NAME).read_bytes()
                change(release)
                m.setattr(learners_copy, "write_file", write)
                try:
                    prepare(folder)
                except Killed:
                    assert (copy / NAME).read_bytes() == old or "An end." in texts(copy / NAME)
                m.setattr(learners_copy, "write_file", write_file)
            prepare(folder)
    assert texts(copy / NAME) == texts(undisturbed / NAME)
    assert old in [f.read_bytes() for f in (copy / HISTORY).rglob("*.ipynb")]


@pytest.mark.parametrize("content", [b"", b"my answers", b"[1]", b'{"cells": 1}', b"\xff\xfe\x00", b'{"nbformat": 3, "worksheets": []}'])
def test_what_is_no_longer_a_notebook_is_left_alone_with_a_line(tmp_path, release, content):
    copy = tmp_path / "work"
    prepare(copy)
    (copy / NAME).write_bytes(content)
    change(release)
    (line,) = prepare(copy)
    assert line.startswith(f"{NAME} is no longer a notebook: it is left alone.")
    assert (copy / NAME).read_bytes() == content


def test_a_notebook_of_unknown_origin_loses_nothing_and_gets_the_exercises_it_lacks(tmp_path, release):
    """Such as one that came from the exchange, or from a copy that was made before there were updates."""
    copy = tmp_path / "work"
    prepare(copy)
    notebook = answered(Chapter("1_bigrams", release.parent), {"direct_path": "MINE = 1"})
    notebook["cells"] = [c for c in notebook["cells"] if exercise_of(c) != "bigram_counts"]
    (copy / NAME).write_text(json.dumps(notebook))
    change(release)
    line, _ = prepare(copy)
    assert "does not say which release it was made from" in line
    now = [exercise_of(c) for c in read_cells(copy / NAME)]
    assert now.count("bigram_counts") == now.count("direct_path") == 1 and "MINE = 1" in texts(copy / NAME)


def test_who_had_solved_the_release_itself_finds_it_in_the_copy(tmp_path, release):
    """As one did before there were copies: an update must not take such answers for the course's own."""
    pristine = (release / NAME).read_bytes()
    work(release)
    copy = tmp_path / "work"
    assert "`git checkout notebooks`" in "".join(prepare(copy))
    assert any("# mine" in text for text in texts(copy / NAME))
    (release / NAME).write_bytes(pristine)
    change(release)
    prepare(copy)
    assert any("# mine" in text for text in texts(copy / NAME)) and "Note of mine." in texts(copy / NAME)
    work(release)
    before = (copy / NAME).read_bytes()
    assert "is left as it is" in "".join(prepare(copy)) and (copy / NAME).read_bytes() == before


def test_what_is_put_into_the_history_replaces_nothing(tmp_path):
    first, second, again = (keep(tmp_path, "answers/x.py", data) for data in (b"1", b"2", b"1"))
    assert first == again != second and (first.read_bytes(), second.read_bytes()) == (b"1", b"2")


def test_a_folder_that_cannot_be_written_is_said_in_a_line(tmp_path, release, monkeypatch):
    def refuse(file, data):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(learners_copy, "write_file", refuse)
    with pytest.raises(CourseError, match=r"cannot be written \(Permission denied\): name another folder"):
        prepare(tmp_path / "work")
    assert not (tmp_path / "work").exists()
