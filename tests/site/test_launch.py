"""Notebooks for Colab and Binder: the first cell installs the course where it is not."""

import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from circuits.chapters import ROOT, Chapter, chapters
from circuits.website import launch
from circuits.website.pages import Site

CHAPTER = Chapter("1_bigrams")
HEAD = subprocess.check_output(["git", "-C", str(ROOT), "rev-parse", "HEAD"], text=True).strip()
# What a host has in place of what the cell does not install: nothing.
WITHOUT = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name in {names}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Without())
"""


def site_of(repository: str) -> Site:
    return Site(ROOT, repository, HEAD, chapters())


def test_links_to_colab_and_binder_are_given_for_a_repository_that_they_know():
    links = launch.links(site_of("https://github.com/owner/my.course"), CHAPTER)
    assert links == {
        "Open in Colab": "https://colab.research.google.com/github/owner/my.course/blob/gh-pages/launch/bigrams.ipynb",
        "Open in Binder": "https://mybinder.org/v2/gh/owner/my.course/gh-pages?urlpath=lab/tree/launch/bigrams.ipynb",
        "Download the notebook": "../launch/bigrams.ipynb",
    }
    assert list(launch.links(site_of("https://example.org/course"), CHAPTER)) == ["Download the notebook"]


def test_the_workflow_publishes_the_branch_that_the_links_name():
    text = (ROOT / ".github" / "workflows" / "site.yml").read_text("utf-8")
    assert f"--initial-branch {launch.BRANCH}" in text and text.rstrip().endswith(launch.BRANCH) and "make site" in text


def test_the_notebooks_are_the_release_with_one_cell_before_it(site):
    for chapter in chapters():
        notebook = json.loads((site / launch.FOLDER / f"{chapter.notebook_name}.ipynb").read_bytes())
        first, *rest = notebook["cells"]
        assert rest == json.loads(chapter.notebook.read_bytes())["cells"]
        assert re.search(r"\"git\+https://github\.com/owner/circuits@[0-9a-f]{40}\"", first["source"])
        compile(first["source"], "the first cell", "exec")
    assert (site / "binder" / "runtime.txt").read_text() == "python-3.11\n"


def test_all_that_is_needed_is_a_package_of_the_course_and_most_are_named():
    needed = launch.needed(ROOT)
    assert any(package.startswith("torch>=") for package in needed) and len(needed) > 8
    listed = (ROOT / "pyproject.toml").read_text("utf-8")
    assert all(f'"{name}' in listed for name in launch.NOT_NEEDED), "no package that is gone"


@pytest.mark.proof
def test_the_first_cell_makes_an_empty_place_work(tmp_path):
    """A bare environment, an empty folder, no clone: the cell, then a chapter's set-up, an answer and its check. What the course needs
    from others is lent by this environment, but for what the cell does not install."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    packages = Path(subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True).strip())
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib"))
    (packages / "sitecustomize.py").write_text(WITHOUT.format(names=set(launch.NOT_NEEDED)))
    folder = tmp_path / "empty"
    folder.mkdir()
    notebook = json.loads(CHAPTER.notebook.read_bytes())
    setup = next("".join(c["source"]) for c in notebook["cells"] if "setup" in c["metadata"].get("tags", []))
    answer = (
        "def direct_path(W_E, W_U):\n    return W_E @ W_U\nprint(check('direct_path').summary())\n"
        "from utils import load_model\nprint(load_model('zero_layer').cfg.d_vocab)\n"
        "import circuits; print(circuits.__file__)"
    )
    cell = launch.install_cell(Site(ROOT, ROOT.resolve().as_uri(), HEAD, [CHAPTER]))
    (folder / "run.py").write_text("\n".join([cell, setup, answer]))
    env = {"PATH": f"{python.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "PIP_NO_COMPILE": "0"}
    done = subprocess.run([python, "run.py"], cwd=folder, env=env, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok  " in done.stdout and "FAIL" not in done.stdout and "2048" in done.stdout
    assert str(packages) in done.stdout, "it is the installed course that ran"
