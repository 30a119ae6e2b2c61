"""A folder of notebooks to work in, and JupyterLab open on it."""

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

from circuits.chapters import ROOT, chapters
from utils.errors import CourseError
from utils.files import write_file

MARK = ".circuits.json"  # says that a folder is a learner's, and from which version of the course
STUDENTS = "+students"  # in the version of what a class is given (tools/student-wheel)
# What notebooks import, and a file of that name beside them would hide. (Not Python's own, which come first.)
IMPORTED = ("circuits", "utils", "torch", "numpy", "einops", "jaxtyping", "matplotlib")


def prepare(folder: Path) -> list[str]:
    """Put the released notebooks into a learner's folder; returns what there is to say, a line each.

    A notebook that is there stays as it is. Raises CourseError for a folder that holds other things
    or cannot be written; nothing has then been changed.
    """
    said = []
    try:
        if folder.exists() and not folder.is_dir():
            raise CourseError(f"{folder} is a file: name a folder.")
        mark = folder / MARK
        if not mark.exists() and folder.exists() and any(folder.iterdir()):
            raise CourseError(f"{folder} holds other things: name a new or an empty folder.")
        now = version("circuits")
        before = _version(mark)
        if before not in (None, now):
            said.append(f"{folder} was made by version {before}, this is {now}. Your notebooks stay as they are.")
        for chapter in chapters():
            mine = folder / chapter.name / chapter.notebook.name
            if not mine.exists():
                write_file(mine, chapter.notebook.read_bytes())
                said += [f"new: {mine}"] * (before is not None)
        if before is None:
            write_file(mark, json.dumps({"version": now}).encode() + b"\n")
            said.append(f"Your notebooks are in {folder}.")
    except OSError as error:
        raise CourseError(f"{folder} cannot be written ({error.strerror}): name another folder.") from None
    return said


def _version(mark: Path) -> str | None:
    """The version that a folder was made from; "unknown" where the mark is damaged."""
    if not mark.exists():
        return None
    try:
        return str(json.loads(mark.read_text("utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"


def copy_around(folder: Path) -> Path:
    """The copy of the course that a folder lies in, by a look at it and those above: another clone, or what a
    class was given, whichever installation runs. Else the installation itself."""
    for place in (folder, *folder.parents):
        if STUDENTS in (_version(place / MARK) or ""):
            return place
        if (place / "notebooks").is_dir() and (place / "tests" / "checks").is_dir():
            return place
    return ROOT


def hiding(folder: Path) -> list[str]:
    """A line for each file in a folder of notebooks that has the name of something they import."""
    names = [f"{place}{name}" for name in IMPORTED for place in ("", "*/")]
    files = sorted(f for name in names for end in (".py", "/__init__.py") for f in folder.glob(name + end))
    why = "has the name of something that the notebooks import: rename it, or they fail."
    return [f"{file} {why}" for file in files]


def open_lab(folder: Path | None, port: int, options: list[str]) -> None:
    """Replace this process by JupyterLab. Where there is no screen, its address is printed instead
    of opening a browser."""
    root, start = (ROOT, "notebooks") if folder is None else (folder, "")
    if not os.access(root / start, os.W_OK):
        raise CourseError(
            f"{root / start} can only be read: name a folder for your notebooks, `circuits lab FOLDER`."
        )
    for line in hiding(root / start):
        print(f"circuits: {line}", flush=True)
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        options = ["--no-browser", *options]
        print("No screen found: open the address below in a browser.", flush=True)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options = ["--allow-root", *options]
    os.chdir(root)
    url = f"--LabApp.default_url=/lab/tree/{start}".rstrip("/")
    command = [sys.executable, "-m", "jupyterlab", "--port", str(port), url, *options]
    os.execv(sys.executable, command)
