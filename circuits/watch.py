"""Check a notebook again whenever it is saved, and say only what changed."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from circuits.chapters import answer_cells
from circuits.report import Report
from circuits.results import Result
from utils.errors import CourseError

SECONDS = 0.5  # between two looks at the files


def saved(files: list[Path], wait: Callable[[], bool]) -> Iterator[list[Path]]:
    """Which of the files have been saved since the last look, whenever some have. Goes on while `wait()`, which returns
    after a while, says so. What is saved from the call of this function on counts."""
    seen = {file: _stamp(file) for file in files}

    def looks() -> Iterator[list[Path]]:
        last = dict(seen)
        while wait():
            now = {file: _stamp(file) for file in files}
            # What is another than at the last look, somebody may still be writing.
            new = [file for file in files if now[file] != seen[file] and now[file] == last[file]]
            last = now
            seen.update({file: now[file] for file in new})
            if new:
                yield new

    return looks()


def watch(files: list[Path], wait: Callable[[], bool]) -> Iterator[str]:
    """First that one watches; then what to say of notebooks or Python files, as they are saved: of each exercise whose code or whose result is
    another than before, its report.

    Answers run in a process of their own each time, so that none meets what an earlier one left.
    """
    saves = saved(files, wait)
    codes = {file: _codes(file) for file in files}
    results: dict[Path, dict[str, Result]] = {file: {} for file in files}
    yield f"Watching {', '.join(map(str, files))}: save, and it is checked. Ctrl-C ends."
    for file in (file for new in saves for file in new):
        code, before = _codes(file), results[file]
        found = _check(file)
        if isinstance(found, str):
            yield found
            continue
        for name, result in found.items():
            changed = code.get(name) != codes[file].get(name)
            if changed or name in before and before[name] != result:
                yield Report(result).summary()
        codes[file], results[file] = code, found


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        return file.stat().st_mtime_ns, file.stat().st_size
    except OSError:
        return None


def _codes(file: Path) -> dict[str, str]:
    """The code of each exercise, or that of the whole file for each where it is no notebook."""
    try:
        return dict(answer_cells(file))
    except CourseError:
        return {}


def _check(file: Path) -> dict[str, Result] | str:
    """The results by exercise; or why there are none."""
    done = subprocess.run(
        [sys.executable, "-m", "circuits.cli", "check", "--json", str(file.absolute())],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=file.absolute().parent,
    )
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return f"{file} could not be checked: `circuits check` of it says why."
    if "error" in found:
        return str(found["error"])
    fields = Result.__dataclass_fields__
    kept = [{key: value for key, value in e.items() if key in fields} for e in found["exercises"]]
    return {e["exercise"]: Result.from_dict(e) for e in kept}


def seconds_pass() -> bool:
    """What to wait with, for who watches until Ctrl-C."""
    time.sleep(SECONDS)
    return True
