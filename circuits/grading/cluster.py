"""Grading on a Dask cluster that is there already. The sandbox is on the workers; the secret, the
records and the gradebook stay here.

    dask scheduler                                  # somewhere
    dask worker tcp://HOST:8786 --nthreads 2        # on machines that have this course installed
    circuits grade 1_bigrams --scheduler tcp://HOST:8786
"""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from circuits.chapters import ROOT, Chapter
from circuits.grading.grader import Graded, Grader, Job
from circuits.grading.records import fingerprint
from utils.errors import CourseError

CONNECT_SECONDS = 15
RETRIES = 3  # for each submission, of workers that die; it may be the submission that kills them

_mine = threading.local()  # on a worker: a grader for each of its threads


class ClusterGraders:
    """Graders on the workers of a Dask cluster. Raises CourseError if it cannot be reached."""

    def __init__(self, address: str, require_sandbox: bool = False):
        try:
            from distributed import Client
        except ImportError:
            raise CourseError(
                "--scheduler needs Dask: `pip install -e '.[cluster]'` here and on the workers."
            ) from None
        try:
            self.client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            first = (str(error).splitlines() or ["no answer"])[0]
            raise CourseError(f"No Dask scheduler answers at {address}: {first}") from None
        self.require_sandbox = require_sandbox

    def unsandboxed(self) -> str | None:
        """Each worker answers for itself, with the results."""
        if not self.client.scheduler_info()["workers"]:
            raise CourseError("The Dask scheduler has no workers: start some with `dask worker ADDRESS`.")
        return None

    def __call__(self, jobs: Iterable[tuple[str, Job]]) -> Iterator[tuple[str, Graded]]:
        from distributed import as_completed

        students = {}
        version = ""
        for student, job in jobs:
            version = version or fingerprint(Chapter(job.chapter, job.root), {})
            told = {k: v for k, v in asdict(job).items() if k != "root"}
            future = self.client.submit(
                grade_here, told, version, self.require_sandbox, pure=False, retries=RETRIES
            )
            students[future] = student
        for future in as_completed(list(students), loop=self.client.loop):
            try:
                graded = Graded.from_dict(future.result())
            except Exception as error:  # a worker that died too often, or lacks the course
                first = (str(error).splitlines() or [""])[0][:200]
                graded = Graded(error=f"the cluster could not grade it ({type(error).__name__}: {first})")
            yield students.pop(future), graded

    def close(self) -> None:
        self.client.close()


def grade_here(job: dict[str, Any], expected: str, require_sandbox: bool) -> dict[str, Any]:
    """Grade one submission on this worker, with this worker's copy of the course."""
    chapter = Chapter(job["chapter"], ROOT)
    if not chapter.source.exists() or fingerprint(chapter, {}) != expected:
        return Graded(error="the worker has another version of this chapter; bring it up to date").as_dict()
    if not hasattr(_mine, "grader"):
        _mine.grader = Grader()
    _mine.grader.start()
    if require_sandbox and (why := _mine.grader.unsandboxed):
        return Graded(error=f"not graded, as the worker has no sandbox: {why}").as_dict()
    return _mine.grader.grade(Job(**job, root=ROOT)).as_dict()
