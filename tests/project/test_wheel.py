"""Installed from a wheel, away from the clone, the course works as it does in one."""

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import PATIENCE, answered, reference

from circuits.chapters import ROOT, Chapter, chapters

pytestmark = pytest.mark.proof
CHAPTER = Chapter("1_bigrams")

# What a learner does in a notebook, but for the cells between: set up, answer, check.
RUN = """
import json, sys
for cell in json.load(open(sys.argv[1]))["cells"]:
    meta = cell["metadata"]
    if "setup" in meta.get("tags", []) or meta.get("nbgrader", {}).get("grade_id", "").endswith("bigram_counts"):
        exec("".join(cell["source"]))
print(repr(check("bigram_counts")), check("bigram_counts").summary())
"""
# What an answer can see of the course's machinery.
LOOK = """
from circuits.grading.sandbox import TRIAL, Sandbox
with Sandbox(optimizers=False) as sandbox:
    assert sandbox.problem is None, sandbox.problem
    with sandbox.worker() as worker:
        assert worker.ask({"name": "trial", "code": TRIAL, "seconds": 60}, 60) == {}
    with sandbox.worker() as worker:
        code = "import os, circuits; seen = os.listdir(os.path.dirname(circuits.__file__)); assert seen == [], seen"
        print(worker.ask({"name": "look", "code": code, "seconds": 60}, 60))
"""
KERNELS = """
import json
from jupyter_client.kernelspec import KernelSpecManager
print(json.dumps(KernelSpecManager().find_kernel_specs()))
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, Path]:
    """The wheel for everybody and the one for students, by name."""
    folder = tmp_path_factory.mktemp("dist")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", folder, ROOT], check=True, timeout=PATIENCE)
    done = subprocess.run(
        ["bash", ROOT / "tools" / "student-wheel", sys.executable], check=True, timeout=PATIENCE,
        capture_output=True, text=True,
    )
    students = shutil.copy(ROOT / done.stdout.strip(), folder)
    (everybody,) = (f for f in folder.iterdir() if "+students" not in f.name)
    return {"everybody": everybody, "students": Path(students)}


@pytest.fixture(scope="module", params=["everybody", "students"])
def installed(request, wheels, tmp_path_factory) -> tuple[Path, str]:
    """A new environment with the wheel, and whose it is. What the course needs is taken from this
    environment; the course itself is not, as a path file's own path files do not count."""
    folder = tmp_path_factory.mktemp("away")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.check_output([python, "-c", where], text=True).strip()
    Path(site, "needed.pth").write_text(sysconfig.get_path("purelib"))
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*pip, wheels[request.param]], check=True, timeout=PATIENCE)
    return folder, request.param


def run(folder: Path, *args, ok: bool = True) -> str:
    env = {"PATH": f"{folder / 'env' / 'bin'}:/usr/bin:/bin", "HOME": str(folder)}
    done = subprocess.run(
        [str(arg) for arg in args], cwd=folder, env=env, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_an_installed_course_has_every_chapter_and_says_what_works(installed):
    folder, _ = installed
    printed = run(folder, "circuits", "progress")
    for chapter in chapters():
        assert f"{chapter.title}   0 of {sum(chapter.exercises.values()):g} points" in printed
    printed = run(folder, "circuits", "verify")
    assert f"{len(chapters())} chapters" in printed and str(folder) in printed and "NO  " not in printed
    limits = folder / "env" / "etc" / "jupyter" / "nbgrader_config.py"  # of nbgrader's Validate
    assert limits.read_bytes() == (ROOT / "circuits" / "jupyter" / "nbgrader_config.py").read_bytes()
    kernels = json.loads(run(folder, "python", "-c", KERNELS))
    assert kernels["circuits"].startswith(str(folder / "env")), "which notebooks name"


def test_a_learner_works_in_a_folder_of_their_own(installed):
    """Opens it, gives a wrong answer and a right one, and is told which is which."""
    folder, whose = installed
    (folder / "prepare.py").write_text(
        "from pathlib import Path; from circuits.learners_copy import prepare; print(prepare(Path('mine')))"
    )
    run(folder, "python", "prepare.py")
    mine = folder / "mine" / CHAPTER.name / CHAPTER.notebook.name
    assert json.loads(mine.read_bytes())["cells"] == json.loads(CHAPTER.notebook.read_bytes())["cells"]
    (folder / "run.py").write_text(RUN)
    right = reference(CHAPTER)["bigram_counts"]
    for code, points in ((right, "3"), (right.replace("return ", "return 2 * "), "0")):
        mine.write_text(json.dumps(answered(CHAPTER, {"bigram_counts": code})))
        printed = run(folder, "python", "run.py", mine)
        assert printed.startswith(f"{points} bigram_counts: {points} of 3 points"), printed
    assert "FAIL" in printed
    assert "✓ bigram_counts" in run(folder, "circuits", "progress"), "the best result counts"
    printed = run(folder, "circuits", "check", mine, ok=False)
    assert "bigram_counts: 0 of 3 points" in printed


def test_reveal_has_answers_or_says_that_there_are_none(installed):
    folder, whose = installed
    (folder / "reveal.py").write_text("from circuits import reveal; print(reveal('bigram_counts'))")
    printed = run(folder, "python", "reveal.py", ok=whose == "everybody")
    assert ("One answer" if whose == "everybody" else "no reference answers") in printed


def test_nothing_of_the_machinery_is_in_the_sandbox(installed):
    """Though a wheel puts it, checks and answers included, among Python's packages."""
    folder, _ = installed
    (folder / "look.py").write_text(LOOK)
    assert run(folder, "python", "look.py").strip() == "{}"


def test_students_get_no_answer(wheels):
    from test_instructors_page import check_no_answer_leaks

    check_no_answer_leaks(wheels["students"])


def test_a_wheel_is_installed_over_an_older_one(installed, wheels):
    """What only the old one had is gone; a learner's notebooks are not touched."""
    folder, whose = installed
    old = folder / "mine of old" / "1_bigrams"
    old.mkdir(parents=True)
    (old / "bigrams.ipynb").write_text("my answers")
    (old.parent / ".circuits.json").write_text('{"version": "0.1.0"}')
    pip = ("python", "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall")
    run(folder, *pip, wheels[whose])
    (folder / "prepare.py").write_text(
        "from pathlib import Path; from circuits.learners_copy import prepare; print(prepare(Path('mine of old')))"
    )
    assert "was made by version 0.1.0" in run(folder, "python", "prepare.py")
    assert (old / "bigrams.ipynb").read_text() == "my answers"
