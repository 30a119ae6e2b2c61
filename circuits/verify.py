"""What works in this installation, line by line: `circuits verify`."""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from circuits.chapters import ROOT, chapters
from utils.errors import CourseError

# Whether it works (None: only a remark), what was looked at, and what was found.
Finding = tuple[bool | None, str, str]

# Linux' own switches for user namespaces, which the sandbox needs, and the value that allows them.
_NAMESPACES = {
    "kernel.apparmor_restrict_unprivileged_userns": "0",  # Ubuntu since 23.10
    "kernel.unprivileged_userns_clone": "1",  # older Debian
    "user.max_user_namespaces": "any but 0",
}


def findings() -> Iterator[Finding]:
    """Each thing looked at, as soon as it is known. A look that fails is a finding too."""
    for what, look in _LOOKS.items():
        try:
            yield from look()
        except Exception as error:
            says = (str(error).splitlines() or [""])[0]
            yield False, what, says if isinstance(error, CourseError) else f"{type(error).__name__}: {says}"


def _python() -> Iterator[Finding]:
    yield True, "Python", f"{sys.version.split()[0]}, {sys.executable}"
    active = os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX")
    if active and Path(active).resolve() != Path(sys.prefix).resolve():
        yield None, "environment", (
            f"{active} is active, but this is {sys.prefix}: what you start by name is the other one's"
        )


def _course() -> Iterator[Finding]:
    import circuits

    try:
        installed = version("circuits")
    except PackageNotFoundError:
        here = Path(circuits.__file__).parents[1]
        yield False, "course", f"{here} is not installed: `make setup` in a clone, or `pip install` the wheel"
        return
    found = chapters()
    n = sum(len(chapter.exercises) for chapter in found)
    yield bool(found), "course", f"{installed}, {len(found)} chapters, {n} exercises, {ROOT}"


def _torch() -> Iterator[Finding]:
    import torch

    ones = torch.ones(2, 2)
    yield bool(((ones @ ones) == 2).all()), "torch", torch.__version__


def _text() -> Iterator[Finding]:
    from utils.corpus import load_corpus

    yield True, "text", load_corpus().description


def _checkpoints() -> Iterator[Finding]:
    from utils.pretrained import CHECKPOINTS, names

    wanted = [line.split() for line in (CHECKPOINTS / "SHA256SUMS").read_text().splitlines()]
    for digest, name in wanted:
        file = CHECKPOINTS / name
        if not file.exists():
            yield False, "checkpoints", f"{name} is missing: fetch the course again"
        elif hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            yield False, "checkpoints", f"{name} is damaged: fetch the course again"
    yield True, "checkpoints", ", ".join(names())


def _figures() -> Iterator[Finding]:
    from circuits.interactive import load_circuitsvis

    load_circuitsvis()
    yield True, "interactive figures", f"CircuitsVis {version('circuitsvis')}, its script is here"


def _sandbox() -> Iterator[Finding]:
    from circuits.grading.sandbox import Sandbox

    with Sandbox(optimizers=False) as sandbox:
        if sandbox.problem is None:
            yield True, "sandbox", "submissions can be graded in it"
        else:
            yield None, "sandbox", f"none, which only grading needs: {why_no_sandbox(sandbox.problem)}"


def why_no_sandbox(problem: str, sysctl: Callable[[str], str | None] | None = None) -> str:
    """What keeps the sandbox from working, and what to set."""
    if sys.platform != "linux":
        return "it needs Linux"
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed (apt-get install bubblewrap libseccomp2)"
    if problem.startswith("answers cannot compute"):  # it starts, so nothing forbids it
        return problem
    for name, allows in _NAMESPACES.items():
        value = (sysctl or _sysctl)(name)
        if value is not None and (value == "0" if allows != "0" else value != "0"):
            example = "28633" if allows.startswith("any") else allows
            return (
                f"this system forbids user namespaces ({name} = {value}). An administrator allows them with "
                f"`sysctl -w {name}={example}` ({problem})"
            )
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return (
            "this is a container that forbids namespaces. Start it with "
            f"`--security-opt seccomp=unconfined --security-opt apparmor=unconfined` ({problem})"
        )
    return problem


def _sysctl(name: str) -> str | None:
    try:
        return Path("/proc/sys", *name.split(".")).read_text().strip()
    except OSError:
        return None


_LOOKS = {
    "Python": _python,
    "course": _course,
    "torch": _torch,
    "text": _text,
    "checkpoints": _checkpoints,
    "interactive figures": _figures,
    "sandbox": _sandbox,
}
