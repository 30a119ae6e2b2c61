"""JupyterLab, open on a learner's copy."""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

from circuits.learners_copy import STUDENTS
from utils.errors import CourseError

SETTINGS = Path(__file__).with_name("jupyter")

# What notebooks import, and a file of that name beside them would hide. (Not Python's own, which come first.)
IMPORTED = ("circuits", "utils", "torch", "numpy", "einops", "jaxtyping", "matplotlib")


def hiding(folder: Path) -> list[str]:
    """A line for each file in a folder of notebooks that has the name of something they import."""
    names = [f"{place}{name}" for name in IMPORTED for place in ("", "*/")]
    files = sorted(f for name in names for end in (".py", "/__init__.py") for f in folder.glob(name + end))
    why = "has the name of something that the notebooks import: rename it, or they fail."
    return [f"{file} {why}" for file in files]


def open_lab(folder: Path, port: int, options: list[str], start: str = "", teach: bool = False) -> None:
    """Replace this process by JupyterLab, which shows the folder and nothing else, and in it `start` first. Where there
    is no screen, its address is printed instead of opening a browser.

    A learner's has none of nbgrader's tools, a student's those to fetch and submit; who is to `teach` has them all.
    """
    if not os.access(folder, os.W_OK):
        raise CourseError(f"{folder} can only be read: name another folder, `circuits lab FOLDER`.")
    for line in hiding(folder):
        print(f"circuits: {line}", flush=True)
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        options = ["--no-browser", *options]
        print("No screen found: open the address below in a browser.", flush=True)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options = ["--allow-root", *options]
    _look_first("JUPYTER_PATH", SETTINGS)  # for the kernel that notebooks name, also before it is installed
    if not teach:
        _look_first("JUPYTER_CONFIG_PATH", SETTINGS / ("student" if STUDENTS in version("circuits") else "learner"))
    os.chdir(folder)
    # `reveal` and `reset` write into the open notebook (circuits/open_notebook.py), which takes the page's own app.
    command = [sys.executable, "-m", "jupyterlab", "--port", str(port), "--expose-app-in-browser"]
    command += [f"--LabApp.default_url=/lab/tree/{quote(start)}"] * bool(start)
    os.execv(sys.executable, [*command, *options])


def _look_first(variable: str, folder: Path) -> None:
    """Let Jupyter look for its settings in a folder before all others."""
    os.environ[variable] = os.pathsep.join(filter(None, [str(folder), os.environ.get(variable)]))
