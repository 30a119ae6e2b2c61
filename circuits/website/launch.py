"""Notebooks for a machine that has nothing: Colab's, Binder's. Their first cell installs the course, as it was when the page was made,
from the repository. They lie on the site itself, and so in the branch from which it is served."""

import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from circuits.chapters import Chapter
from utils.files import write_file

if TYPE_CHECKING:
    from circuits.website.pages import Site

FOLDER, BRANCH = "launch", "gh-pages"  # of the site; of the repository (.github/workflows/site.yml)
# What runs a notebook there is there already, and would not bear to be replaced; and what only an instructor needs.
NOT_NEEDED = (
    "jupyterlab", "ipykernel", "nbgrader", "nbconvert", "latex2mathml", "sqlalchemy", "jsonschema", "pyseccomp",
)  # fmt: skip

INSTALL = '''\
# This machine is not yours and has not got the course: this installs it, as it was when its page was made.
import importlib
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("circuits") is None:
    print("Installing the course: a minute or two ...")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    needed = {needed}
    for what in (needed, ["--no-deps", "git+{repository}@{commit}"]):
        done = subprocess.run([*pip, *what], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit("The course could not be installed: " + (done.stderr.strip().splitlines() or ["no reason given"])[-1])
    importlib.invalidate_caches()
    print("Done.")
'''


def needed(root: Path) -> list[str]:
    """The packages, with the versions that will do, that a notebook of the course imports."""
    listed = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    return [package for package in listed if re.match(r"[\w-]+", package)[0] not in NOT_NEEDED]


def install_cell(site: "Site") -> str:
    """The code that installs the course where it is not."""
    return INSTALL.format(needed=json.dumps(needed(site.root)), repository=site.repository, commit=site.commit)


def links(site: "Site", chapter: Chapter) -> dict[str, str]:
    """Where a chapter can be opened at once; of a repository that these do not know, only where it can be downloaded."""
    file = f"{FOLDER}/{chapter.notebook_name}.ipynb"
    found = {"Download the notebook": f"../{file}"}
    if on_github := re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", site.repository):
        found = {
            "Open in Colab": f"https://colab.research.google.com/github/{on_github[1]}/blob/{BRANCH}/{file}",
            "Open in Binder": f"https://mybinder.org/v2/gh/{on_github[1]}/{BRANCH}?urlpath=lab/tree/{file}",
            **found,
        }
    return found


def write(site: "Site", folder: Path) -> None:
    """Put the notebooks into a built site, and what Binder must know to run them."""
    for chapter in site.chapters:
        notebook = json.loads(chapter.notebook.read_bytes())
        cell = {
            "cell_type": "code", "id": "install", "metadata": {}, "source": install_cell(site), "execution_count": None, "outputs": [],
        }  # fmt: skip
        notebook["cells"].insert(0, cell)
        notebook["metadata"]["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
        write_file(folder / FOLDER / f"{chapter.notebook_name}.ipynb", json.dumps(notebook, ensure_ascii=False, indent=1).encode())
    write_file(folder / "binder" / "runtime.txt", b"python-3.11\n")
    write_file(folder / "binder" / "requirements.txt", b"")
