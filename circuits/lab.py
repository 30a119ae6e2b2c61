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
    except (ValueError, KeyError, TypeError):
        return "unknown"


def open_lab(folder: Path | None, port: int, options: list[str]) -> None:
    """Replace this process by JupyterLab. Where there is no screen, its address is printed instead
    of opening a browser."""
    root, start = (ROOT, "notebooks") if folder is None else (folder, "")
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        options = ["--no-browser", *options]
        print("No screen found: open the address below in a browser.", flush=True)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options = ["--allow-root", *options]
    os.chdir(root)
    url = f"--LabApp.default_url=/lab/tree/{start}".rstrip("/")
    command = [sys.executable, "-m", "jupyterlab", "--port", str(port), url, *options]
    os.execv(sys.executable, command)
