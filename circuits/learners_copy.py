"""The learner's own copy of the notebooks: made, found, and brought up to date without losing anything."""

import hashlib
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from circuits.chapters import INSTALLED, ROOT, Chapter, chapters, decoded
from circuits.merge import merge
from utils.errors import CourseError
from utils.files import write_file

MARK = ".circuits.json"  # says that a folder is a learner's, and from which version of the course
HISTORY = ".history"  # in the copy: notebooks as they were, answers that were replaced, releases
STUDENTS = "+students"  # in the version of what a class is given (tools/student-wheel)
WORK = ROOT / "work"  # where a clone has its learner's copy


def copy_of(place: Path | None = None) -> Path | None:
    """The learner's copy that a folder (default: the current one) lies in; None if it lies in none."""
    place = (place or Path.cwd()).absolute()
    return next((folder for folder in (place, *place.parents) if (folder / MARK).is_file()), None)


def course_of(folder: Path) -> Path:
    """The copy of the course that a folder lies in, by a look at it and those above: another clone, or what a
    class was given, whichever installation runs. Else the installation itself."""
    for place in (folder, *folder.parents):
        if STUDENTS in (_version(place / MARK) or ""):
            return place
        if (place / "notebooks").is_dir() and (place / "tests" / "checks").is_dir():
            return place
    return ROOT


def prepare(folder: Path) -> list[str]:
    """Make a learner's copy of the released notebooks, or bring it up to date; returns what there is to say, a line each.

    What a learner wrote stays (see `merge`), and a notebook that is changed is first copied to the history.
    Raises CourseError for a folder that holds other things or cannot be written.
    """
    said = []
    try:
        if folder.exists() and not folder.is_dir():
            raise CourseError(f"{folder} is a file: name a folder.")
        mark = folder / MARK
        if not mark.exists() and folder.exists() and any(f.name != HISTORY for f in folder.iterdir()):
            raise CourseError(f"{folder} holds other things: name a new or an empty folder.")
        before, now = _version(mark), version("circuits")
        if before != now:  # first: a folder in which making the copy was interrupted is the learner's too
            write_file(mark, json.dumps({"version": now}).encode() + b"\n")
        if before is None:
            said.append(f"Your notebooks are in {folder}.")
        elif before != now:
            said.append(f"{folder} was made by version {before}, this is {now}.")
        stamp = time.strftime("%Y-%m-%d %H.%M.%S")
        for chapter in chapters():
            said += _bring_up_to_date(folder, chapter, stamp, before is not None)
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


def keep(folder: Path, name: str, data: bytes) -> Path:
    """Put something that is about to be replaced into the history of a copy, under a name of its own."""
    file, n = folder / HISTORY / name, 1
    while file.exists() and file.read_bytes() != data:
        n += 1
        file = (folder / HISTORY / name).with_stem(f"{Path(name).stem} {n}")
    if not file.exists():
        write_file(file, data)
    return file


# One notebook -------------------------------------------------------------------------------


def _bring_up_to_date(folder: Path, chapter: Chapter, stamp: str, say_new: bool) -> list[str]:
    """Put a chapter's release into a copy. A notebook names in its metadata the release that it has, and is
    replaced in one go: whenever this is interrupted, it fits to a release that the history holds."""
    mine = folder / chapter.name / chapter.notebook.name
    name = mine.relative_to(folder)
    data = chapter.notebook.read_bytes()
    digest = hashlib.sha256(data).hexdigest()[:16]
    theirs = json.loads(data)
    theirs["metadata"]["circuits"] = {"release": digest}
    changed = not _release(folder, digest).exists() and _changed(chapter)
    if changed and mine.exists():
        return [
            f"{name} is left as it is: {chapter.notebook} is no release ({changed}). "
            f"Move that away, then `git checkout notebooks`."
        ]
    if not mine.exists():
        if changed:  # somebody worked in the release itself: that work is theirs, and the copy's release unknown
            write_file(mine, data)
            as_it_is = f"{name} is {chapter.notebook} as it is, with {changed}"
            return [f"{as_it_is}; `git checkout notebooks` makes that a release again."]
        write_file(_release(folder, digest), data)
        write_file(mine, _written(theirs))
        return [f"new: {name}"] * say_new

    try:
        before = mine.read_bytes()
        notebook = _read(before)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return [f"{name} is no longer a notebook: it is left alone. Rename it, and the next start makes a new one."]
    base, known = _base(folder, notebook, theirs)
    write_file(_release(folder, digest), data)
    merged = merge(base, notebook, theirs)
    merged.notebook["metadata"]["circuits"] = theirs["metadata"]["circuits"]
    if merged.notebook == notebook:
        return []
    keep(folder, f"{stamp}/{name}", before)
    write_file(mine, _written(merged.notebook))
    said = []
    if not known and merged.new:
        said = [f"{name} does not say which release it was made from: what it lacked was added, the rest is as it was."]
    elif merged.new:
        said = [f"{name} is brought up to date: {merged.new} cell{'s' * (merged.new > 1)} new or changed."]
    said += [f"  kept: {why}." for why in merged.kept]
    return said + [f"  As it was: {folder / HISTORY / stamp / name}"] * bool(said)


def _release(folder: Path, digest: str) -> Path:
    return folder / HISTORY / "releases" / f"{digest}.ipynb"


def _base(folder: Path, notebook: dict[str, Any], theirs: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The release that a notebook was made from, and whether it is known. If not, the present one is taken for it:
    then what differs is the learner's, and stays."""
    made_from = notebook["metadata"].get("circuits", {}).get("release")
    if isinstance(made_from, str) and made_from.isalnum():
        try:
            return _read(_release(folder, made_from).read_bytes()), True
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            pass
    return theirs, False


def _read(data: bytes) -> dict[str, Any]:
    """A notebook of format 4. Raises ValueError, TypeError, KeyError or AttributeError for anything else."""
    notebook = json.loads(decoded(data))
    if notebook["nbformat"] != 4:
        raise ValueError("the format is not 4")
    notebook["metadata"].get("circuits", {}).get("release")
    for cell in notebook["cells"]:
        if cell["cell_type"] not in ("code", "markdown", "raw"):
            raise ValueError("there is a cell that is none")
        cell["metadata"].get("nbgrader", {}).get("grade_id")
        if not isinstance(cell["source"], str) and not all(isinstance(line, str) for line in cell["source"]):
            raise ValueError("a cell's source is no text")
    return notebook


def _written(notebook: dict[str, Any]) -> bytes:
    """A notebook as Jupyter writes it."""
    try:
        return (json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()
    except UnicodeEncodeError:  # half a character, which JSON can say and UTF-8 cannot
        return (json.dumps(notebook, indent=1, sort_keys=True) + "\n").encode()


def _changed(chapter: Chapter) -> str | None:
    """What somebody has put into a release itself, in which one worked before there were copies."""
    if INSTALLED:
        return None
    from circuits.build import made_by_somebody  # which needs nbgrader

    return made_by_somebody(chapter.notebook)
