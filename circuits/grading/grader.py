"""The process that grades: one submission after the other, checks here, answers in a sandbox.

It reads jobs from standard input and writes what it found to standard output, a line of JSON each.
`Grader` is the other end: it starts the process, and starts it again if it should die.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from circuits.chapters import ROOT, Chapter
from circuits.grading.submissions import Cell
from circuits.results import Result

EXERCISE_SECONDS = 600.0  # by the clock; `remote` stops an answer long before, on a machine that has time for it
START_SECONDS = 180.0
DEATHS = 3  # of grading processes, by one submission
DIED = "Grading this answer ended the program that grades, or took it too long: what it returns may be far too large."


@dataclass(frozen=True)
class Job:
    """One submission to grade: a chapter's answers, and what the learner added."""

    chapter: str
    cells: Sequence[Cell]
    seed: int
    root: Path = ROOT


@dataclass
class Graded:
    """What became of a job."""

    results: list[Result] = field(default_factory=list)
    unsandboxed: str | None = None  # why the code ran without a sandbox, if it did
    error: str | None = None  # why it could not be graded at all

    @property
    def points(self) -> float:
        return sum(result.points for result in self.results)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(found: dict[str, Any]) -> "Graded":
        return Graded([*map(Result.from_dict, found["results"])], found["unsandboxed"], found["error"])


class Grader:
    """A grading process of one's own. Not for two threads at once. If it knows the chapter it will
    grade, it gets ready for it."""

    def __init__(self, sandboxed: bool = True, chapter: Chapter | None = None):
        self.sandboxed, self.chapter = sandboxed, chapter
        self.process: subprocess.Popen | None = None
        self.unsandboxed: str | None = None
        self.ready = False

    def spawn(self) -> None:
        """Start the process, unless it runs, and do not wait until it is ready. Raises OSError."""
        if self.process is not None and self.process.poll() is None:
            return
        # Nothing of this process's environment: a worker could read it in its own memory.
        keep = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "SYSTEMROOT", "TMPDIR")}
        keep["HOME"] = tempfile.gettempdir()
        self.ready = False
        options = ["--plain"] * (not self.sandboxed) + ["--optimizers"] * _uses_optimizers(self.chapter)
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-m", "circuits.grading.grader", *options],
            env=keep, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )
        if self.chapter is not None:
            self._send({"chapter": self.chapter.name, "root": str(self.chapter.root)})

    def start(self) -> None:
        """Start the process, unless it runs. `unsandboxed` then says why it has no sandbox, if it
        has none. Raises OSError."""
        self.spawn()
        if not self.ready:
            hello = self._line(START_SECONDS)
            if hello is None:
                raise OSError("the grading process did not start")
            self.unsandboxed, self.ready = hello["unsandboxed"], True

    def grade(self, job: Job) -> Graded:
        """Grade one submission. Raises OSError if no grading process can be had.

        If the process ends at an exercise, a new one goes on from there; if that ends too, the exercise gets its zero
        with a reason."""
        results: list[Result] = []
        ended: Counter[int] = Counter()  # processes, by the number of exercises done
        while True:
            self.start()
            fails = ended[len(results)] > 1 or ended.total() > DEATHS
            self._send({**asdict(job), "root": str(job.root), "done": len(results), "fails": DIED if fails else ""})
            while (found := self._line(EXERCISE_SECONDS)) is not None:
                if "exercise" not in found:
                    return Graded(results, found["unsandboxed"], found["error"])
                results.append(Result.from_dict(found))
            self.close()
            ended[len(results)] += 1
            if ended[len(results)] > 2:
                return Graded(error="the grading process ended or took too long, again and again; is there memory left?")

    def _send(self, what: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # it is dead, and will not answer
            self.process.stdin.write(json.dumps(what).encode() + b"\n")
            self.process.stdin.flush()

    def _line(self, seconds: float) -> dict[str, Any] | None:
        timer = threading.Timer(seconds, self.process.kill)
        timer.start()
        try:
            line = self.process.stdout.readline()
            return json.loads(line) if line.endswith(b"\n") else None
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the process, and with it every worker of its."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _uses_optimizers(chapter: Chapter | None) -> bool:
    """Whether the checks of a chapter call answers with an optimizer."""
    if chapter is None or not chapter.checks_file.exists():
        return True
    return "optim" in chapter.checks_file.read_text("utf-8")


def seed(secret: bytes, student: str, chapter: str, cells: Sequence[Cell]) -> int:
    """Where a submission's check inputs come from. The same submission meets the same inputs again,
    so its marks can be reproduced; whoever changes a letter meets others, so what an answer learned
    about its inputs is worth nothing the next time."""
    told = json.dumps([student, chapter, cells], sort_keys=True).encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(told, key=secret[:64]).digest()
    return int.from_bytes(digest[:7], "big")


def main() -> None:
    from circuits.grading.sandbox import Sandbox

    # First of all, while there is nothing in memory that a submission may not see.
    sandbox = Sandbox("--plain" in sys.argv, "--optimizers" in sys.argv)

    import gc

    import torch

    from circuits.grading.remote import NoSandbox, grade, prepare

    torch.set_num_threads(1)
    jobs, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)

    def say(what: dict[str, Any]) -> None:
        out.write(json.dumps(what).encode() + b"\n")
        out.flush()

    say({"unsandboxed": sandbox.problem})
    with sandbox:
        for number, line in enumerate(jobs):
            job = json.loads(line)
            chapter = Chapter(job["chapter"], Path(job["root"]))
            if "cells" not in job:
                with contextlib.suppress(Exception):  # the first submission will say what is wrong
                    prepare(chapter)
                continue
            cells, error = [Cell(*cell) for cell in job["cells"]], None
            try:
                for result in grade(sandbox, chapter, cells, job["seed"], job["done"], job["fails"]):
                    say(asdict(result))
            except NoSandbox as failure:
                say({"unsandboxed": None, "error": str(failure)})
                return  # `Grader` starts a new process, with a new sandbox
            except Exception as failure:
                error = f"{type(failure).__name__}: {failure}"[:500]
            say({"unsandboxed": sandbox.problem, "error": error})
            if number == 0:  # the checks are loaded, and stay
                gc.collect()
                gc.freeze()


if __name__ == "__main__":
    main()
