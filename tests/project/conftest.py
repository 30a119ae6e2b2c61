"""What several of the project's own tests need."""

import json
import os
import resource
import shutil
import subprocess
import sys
import unicodedata
from contextlib import contextmanager
from pathlib import Path

import pytest

from circuits.chapters import ROOT, Chapter, answer_cells, chapters, exercise_of
from circuits.grading.sandbox import Sandbox
from circuits.grading.submissions import Cell
from circuits.pictures import show_figures_as_pictures

# Seconds that a test waits for what comes at once on a free machine: a busy one must not turn it red.
PATIENCE = 1800


# Students' names, one of each kind: those that real people have, and those that could be taken for more.
NAMES_OF_PEOPLE = (
    "José", unicodedata.normalize("NFD", "Zoë Ångström"), "अनिल शर्मा", "สมชาย ใจดี", "نور علی\u200cرضا", "김민준",
    "Nguyễn Thị Ánh", "O'Brien", "D’Angelo", "'t Hooft", "Lee, Anna", "Fox (Ben)", "[ext] Cleo", "{x} Dee", "a[b]c",
    "Anna Lee", "Anna Lee ", "Müller-Lüdenscheid", "Gal·la", "user+tag@example.org", "_x", "山田\u3000太郎", "7", "a" * 100,
)  # fmt: skip
HARMFUL = (
    "", " ", ".", "..", "-rf", ".hidden", "a/b", "a\nb", "a\x1b[2J", "a\r", "a\t", "a\0", "a*", "a?", "*", "$(id)",
    "a|b", "a;b", "a&b", "`a`", "a\\b", '"a"', "<b>", "~a", "=1+1", "+1", "@a", "\uff1d1", "a\udcff", "a" * 101, "ก" * 70,
    "a\n", "\u202eb", "a\u202e", "a\x9b2J", "\u0301a", "a\ue000",
)  # fmt: skip


@pytest.fixture(scope="module")
def shell():
    """IPython's shell, as a kernel has one, which shows figures as the course does."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    show_figures_as_pictures()
    yield shell
    InteractiveShell.clear_instance()


def proven_elsewhere(*quick: str) -> list:
    """Every chapter as a parameter: `make test` runs the `quick` ones, `make proof` the others."""
    return [
        pytest.param(c, id=c.name, marks=[] if c.name in quick else [pytest.mark.proof]) for c in chapters()
    ]


def notebooks(root: Path) -> dict[Path, bytes]:
    """What is released: each file below notebooks/."""
    return {p.relative_to(root): p.read_bytes() for p in (root / "notebooks").rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        assert sandbox.problem is None
        yield sandbox


@pytest.fixture(scope="session")
def nbgrader():
    """Run an nbgrader command in a course folder, as an instructor would; returns what it printed."""

    def run(folder, *args: str, ok: bool = True) -> str:
        env = {k: v for k, v in os.environ.items() if k != "NBGRADER_EXECUTION"}
        done = subprocess.run(
            [sys.executable, "-m", "nbgrader", *args],
            cwd=folder, env=env, capture_output=True, text=True, timeout=PATIENCE,
        )
        printed = done.stdout + done.stderr
        assert (done.returncode == 0) == ok, printed
        return printed

    return run


def answered(chapter: Chapter, answers: dict[str, str]) -> dict:
    """The released notebook with code put into exercise cells, as a learner hands it in."""
    notebook = json.loads(chapter.notebook.read_text("utf-8"))
    for cell in notebook["cells"]:
        if exercise_of(cell) in answers:
            cell["source"] = answers[exercise_of(cell)]
    return notebook


def reference(chapter: Chapter) -> dict[str, str]:
    """The reference answers' code by exercise."""
    return {name: code for name, code in answer_cells(chapter.source) if name != "setup"}


def cells_of(answers: dict[str, str]) -> list[Cell]:
    """The same code as what a grader runs."""
    return [Cell(name, code) for name, code in answers.items()]


def hand_in(root: Path, student: str, chapter: Chapter, notebook: dict) -> None:
    """Put a notebook where nbgrader looks for submissions."""
    folder = root / "submitted" / student / chapter.name
    folder.mkdir(parents=True)
    (folder / chapter.notebook.name).write_text(json.dumps(notebook), "utf-8")


@pytest.fixture(scope="session")
def course(tmp_path_factory) -> Path:
    """A copy of what an instructor has, to grade in."""
    root = tmp_path_factory.mktemp("course")
    for name in ("solutions", "notebooks", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb_*"))
    shutil.copy(ROOT / "nbgrader_config.py", root)
    return root


@pytest.fixture(scope="session")
def released(course, nbgrader, tmp_path_factory) -> Path:
    """A course with chapter 1 in the gradebook, and nobody's work. To be copied."""
    root = shutil.copytree(course, tmp_path_factory.mktemp("released"), dirs_exist_ok=True)
    for name in ("gradebook.db", "submitted", "autograded", "feedback"):
        if (root / name).is_dir():
            shutil.rmtree(root / name)
        (root / name).unlink(missing_ok=True)
    nbgrader(root, "generate_assignment", "1_bigrams", "--force")
    return root


@pytest.fixture
def classroom(released, tmp_path) -> Path:
    """A course of a test's own, released, with nobody's work."""
    return shutil.copytree(released, tmp_path / "class")


@contextmanager
def full_disk(limit: int):
    """No file can grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
