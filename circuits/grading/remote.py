"""The checks of a chapter on a submission whose answers live in a sandbox."""

import builtins
import contextlib
import functools
import re
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from circuits import unchanged
from circuits.chapters import Chapter, answer_cells, load_answers
from circuits.checking import PROBLEMS, SECONDS, AnswerError, Submission, advice, changed, problem, too_slow
from circuits.grading.sandbox import Sandbox, Worker, WorkerFailed
from circuits.grading.wire import assign
from circuits.judging import run_checks
from circuits.results import Result

CALL_SECONDS = 3 * SECONDS  # by the clock; the worker itself stops at SECONDS of computing
EXERCISE_SECONDS = 40.0  # by the clock, for all checks of an exercise
SUBMISSION_SECONDS = 180.0
NOTHING = {"name": "nothing", "code": ""}
MESSAGE_LENGTH = 600  # characters; a message quotes what an answer returned


class NoSandbox(BaseException):
    """The sandbox itself failed. Not an `Exception`, so that no check takes it for the answer's
    doing: nobody gets a mark from it, not even zero."""


class RemoteSubmission(Submission):
    """Answers in a sandbox: calling one sends its arguments there and brings back what it returned.

    `cells` holds the code by exercise, as it was handed in; `reference` holds functions of the same
    names, whose annotations count.
    """

    def __init__(self, sandbox: Sandbox, setup: str, cells: dict[str, str], reference: dict[str, Callable]):
        super().__init__({})
        self.sandbox, self.setup, self.reference = sandbox, setup, reference
        self.cells = {name: code for name, code in cells.items() if name in reference}
        self.worker: Worker | None = None
        self.called: set[str] = set()  # by this worker
        self.broken: dict[str, str] = {}  # cells that ended a worker, and how
        self.raised: dict[str, AnswerError] = {}  # cells that raised
        self.deadline = self.last_call = time.monotonic() + SUBMISSION_SECONDS

    def signature(self, name: str) -> Callable:
        return self.reference[name]

    def run(self, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        with _undisturbed():
            return self._run(name, args, kwargs)

    def _run(self, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        worker = self._ready(name)
        self.called.add(name)
        request = {"name": name, "args": args, "kwargs": kwargs, "in_place": self.in_place}
        try:
            reply = worker.ask(request, self._seconds(name))
        except WorkerFailed as failure:
            self.stop()
            raise problem(name, too_slow(self, name) if failure.kind == "time" else failure.kind) from None
        kind = reply.get("problem")
        try:
            if self.in_place and (kind is None or "after" in reply):
                assign((args, kwargs), reply["after"])
            value = reply["value"] if kind is None else None
        except Exception:  # well-formed, and yet nothing that our own worker would say
            self.stop()
            raise problem(name, "garbled") from None
        if kind == "undefined" and name in self.raised:
            raise self.raised[name]
        if kind == "changed":
            raise self._changed(name, (args, kwargs), reply)
        if kind is not None:
            raise self._problem(name, kind, reply)
        return value

    def _seconds(self, name: str) -> float:
        """How long this call may take by the clock."""
        left = min(self.deadline, self.last_call) - time.monotonic()
        if left <= 0:
            raise problem(name, "no time left" if time.monotonic() > self.deadline else "time")
        return min(left, CALL_SECONDS)

    def _ready(self, name: str) -> Worker:
        """A worker that has run every cell that can be run."""
        while self.worker is None:
            self._seconds(name)
            try:
                self.worker, self.called = self.sandbox.worker(), set()
            except OSError as error:
                raise NoSandbox(f"no worker could be started: {error}") from None
            for cell, code in {"setup": self.setup, **self.cells}.items():
                if cell in self.broken:
                    continue
                try:
                    reply = self.worker.ask({"name": cell, "code": code}, CALL_SECONDS)
                    self.worker.ask(NOTHING, CALL_SECONDS)  # a second reply would be met here
                except WorkerFailed as failure:
                    self.stop()
                    if cell == "setup":
                        raise NoSandbox(f"the set-up cell does not run: {failure}") from None
                    self.broken[cell] = failure.kind
                    break
                if (kind := reply.get("problem")) is not None:
                    self.raised[cell] = self._problem(cell, "time" if kind == "time" else "cell", reply)
        if name in self.broken:
            raise problem(name, self.broken[name])
        return self.worker

    def _problem(self, name: str, kind: Any, reply: dict[str, Any]) -> AnswerError:
        """What the worker says went wrong, in our words. Of an exception only the type is told, the line, and a
        missing name that the learner wrote: its text could carry the inputs out."""
        raised, line = reply.get("raised"), reply.get("line")
        if type(raised) is not list or [type(part) for part in raised] != [str, str]:
            raised = ["", ""]
        if type(kind) is not str or kind not in PROBLEMS:
            kind = "garbled"
        if kind not in ("raised", "cell"):
            kind = too_slow(self, name) if kind == "time" else kind
            error = problem(name, kind, detail="something else")
            return AnswerError(str(error), kind, tuple(raised))
        lines = self.cells.get(name, "").splitlines()
        at = lines[line - 1].strip() if type(line) is int and 0 < line <= len(lines) else ""
        known = isinstance(getattr(builtins, raised[0], None), type)
        told = problem(
            name, kind, (raised[0] if known else "an exception of its own", ""),
            self._missing(raised[1]) + (f", in its line `{at}`" if at else "") + advice(raised[1]),
        )
        return AnswerError(str(told), kind, tuple(raised))

    def _missing(self, text: str) -> str:
        """Which name an exception misses, if it stands in the submission: then it is no secret."""
        found = re.match(r"(?:name|cannot access local variable) '([^\W\d]\w{0,60})'", text)
        written = found and any(re.search(rf"\b{found[1]}\b", code) for code in self.cells.values())
        return f": `{found[1]}` is not defined" if written else ""

    def _changed(self, name: str, given: tuple[tuple, dict], reply: dict[str, Any]) -> AnswerError:
        """What the worker says was changed, if there is such a thing to change."""
        match reply.get("raised"):
            case [str(change), str(place)] if change in unchanged.CHANGES and place in (
                unchanged.SETTINGS | unchanged.places(given) | {""}
            ):
                return changed(name, (change, place), self.signature(name))
        return problem(name, "garbled")

    def settle(self, name: str) -> AnswerError | None:
        """What is wrong with the worker after the last call of an answer: it must have no more to
        say, or the next answer would be blamed for it."""
        if self.worker is None:
            return None
        try:
            self.worker.ask(NOTHING, CALL_SECONDS)
            return None
        except WorkerFailed as failure:
            self.stop()
            return problem(name, failure.kind)

    def stop(self) -> None:
        """End the worker; the next call gets a new one."""
        if self.worker is not None:
            self.worker.close()
            self.worker = None


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold back the alarms of `limits.time_limit`: a worker is not left in mid-answer or half
    closed. It has a time limit of its own; the alarm comes right after."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGPROF})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def grade(
    sandbox: Sandbox, chapter: Chapter, cells: dict[str, str], seed: int
) -> list[Result]:
    """The results of every exercise of a chapter. `cells` holds the submission's code by exercise;
    check inputs come from the seed."""
    reference, setup = _reference(chapter)
    submission = RemoteSubmission(sandbox, setup, cells, reference)
    results = []
    try:
        for name in reference:
            result = _grade_exercise(submission, chapter, name, seed)
            if submission.worker is None and submission.called - {name}:
                # What broke the worker may be another answer's doing: judge this one by itself.
                result = _grade_exercise(submission, chapter, name, seed)
            results.append(result)
    finally:
        submission.stop()
    return results


def prepare(chapter: Chapter) -> None:
    """Load what grading a chapter needs, so that the first submission does not wait for it."""
    chapter.checks(), chapter.mistakes(), _reference(chapter)


def _grade_exercise(
    submission: RemoteSubmission, chapter: Chapter, name: str, seed: int
) -> Result:
    submission.last_call = time.monotonic() + EXERCISE_SECONDS
    result = run_checks(chapter.checks(name), submission, lambda: chapter.mistakes(name), seed)
    if error := submission.settle(name):
        for check in result.checks:
            check.passed, check.message = False, str(error)
    result.printed = ""
    for check in result.checks:
        check.message = readable(check.message)
    return result


@functools.cache
def _reference(chapter: Chapter) -> tuple[dict[str, Callable], str]:
    """The reference answers by exercise, for their annotations, and the code of the set-up cell."""
    namespace, problems = load_answers(chapter.source)
    if problems:
        raise RuntimeError(next(iter(problems.values())))
    cells = answer_cells(chapter.source)
    setup = "\n".join(code for name, code in cells if name == "setup")
    return {name: namespace[name] for name, _ in cells if name != "setup"}, setup


def readable(text: str) -> str:
    """A message in which what came from a submission can do no harm: of bounded length, on one
    line, without control characters."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= MESSAGE_LENGTH else f"{text[: MESSAGE_LENGTH - 3]}..."
