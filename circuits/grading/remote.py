"""The checks of a chapter on a submission whose answers live in a sandbox."""

import builtins
import contextlib
import functools
import re
import signal
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any

from circuits import limits, unchanged
from circuits.cells import OWN_SECONDS, names_made
from circuits.chapters import Chapter, answer_cells, exercise_of, load_answers, read_cells, source
from circuits.checking import (
    PROBLEMS, SECONDS, AnswerError, Submission, advice, changed, problem, shadowed_text, title, too_slow,
)
from circuits.copies import copied
from circuits.grading.sandbox import Sandbox, Worker, WorkerFailed
from circuits.grading.submissions import Cell, defines, found_how
from circuits.grading.wire import Allowance, assign, elements
from circuits.judging import run_checks
from circuits.results import CheckResult, Result

# Of a worker, by the clock, without the seconds in which no processor was free for it.
CALL_SECONDS = 3 * SECONDS + 2  # one call; the worker itself stops after SECONDS of computing, or 3 * SECONDS
EXERCISE_SECONDS = 40.0  # all checks of an exercise
SUBMISSION_SECONDS = 150.0
IDLE_SECONDS = 30.0  # of a submission's calls together, in which nothing is computed; then a call may idle
IDLE_CALL_SECONDS = 1.0  # for so long
NOTHING = {"name": "nothing", "code": "", "seconds": SECONDS}
MESSAGE_LENGTH = 600  # characters; a message quotes what an answer returned


class NoSandbox(BaseException):
    """The sandbox itself failed. Not an `Exception`, so that no check takes it for the answer's
    doing: nobody gets a mark from it, not even zero."""


class RemoteSubmission(Submission):
    """Answers in a sandbox: calling one sends its arguments there and brings back what it returned.

    `cells` holds the code as it was handed in; `reference` holds functions of the exercises' names, whose
    annotations count. `elsewhere` holds names that only cells of the release make, which are not run.
    """

    def __init__(
        self, sandbox: Sandbox, setup: str, cells: Sequence[Cell], reference: dict[str, Callable],
        elsewhere: Set[str] = frozenset(),
    ):  # fmt: skip
        super().__init__({})
        self.sandbox, self.setup, self.reference, self.elsewhere = sandbox, setup, reference, elsewhere
        self.cells = [cell for cell in cells if not cell.exercise or cell.exercise in reference]
        self.worker: Worker | None = None
        self.called: set[str] = set()  # by this worker
        self.broken: dict[int, list[str]] = {}  # cells that ended a worker, by their place, and how each time
        self.raised: dict[int, dict[str, Any]] = {}  # what the worker said of cells that raised
        self.left, self.last_left = SUBMISSION_SECONDS, SUBMISSION_SECONDS  # for all, and for this exercise
        self.idle, self.own = IDLE_SECONDS, OWN_SECONDS  # what is left of them

    def signature(self, name: str) -> Callable:
        return self.reference[name]

    def begin(self, n_after: int) -> None:
        """Another exercise begins, and so many come after it: each of those can have the time of one check."""
        self.last_left = max(min(EXERCISE_SECONDS, self.left - n_after * SECONDS), min(SECONDS, self.left))

    def run(self, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        with limits.excused(), _undisturbed():
            return self._run(name, args, kwargs)

    def _run(self, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        self._ready(name)
        self.called.add(name)
        seconds = limits.left()
        if seconds <= 0:
            raise limits.OutOfTime
        request = {
            "name": name, "args": args, "kwargs": kwargs, "in_place": self.in_place, "seconds": min(seconds, SECONDS),
        }
        try:
            reply = self._ask(request, name, Allowance(lambda: self._worth(name, args, kwargs)))
        except WorkerFailed as failure:
            raise problem(name, too_slow(self, name) if failure.kind == "time" else failure.kind) from None
        limits.charge(self.worker.computed)
        kind = reply.get("problem")
        try:
            if self.in_place and (kind is None or "after" in reply):
                assign((args, kwargs), reply["after"])
            value = reply["value"] if kind is None else None
        except Exception:  # well-formed, and yet nothing that our own worker would say
            self.stop()
            raise problem(name, "garbled") from None
        if kind == "undefined" and (error := self._why_undefined(name)):
            raise error
        if kind == "changed":
            raise self._changed(name, (args, kwargs), reply)
        if kind == "time" and self.worker.computed > 0.9 * request["seconds"]:
            raise limits.OutOfTime  # of this check: who asks only whether an answer follows knows what to make of it
        if kind is not None:
            raise self._problem(name, kind, reply)
        return value

    def _worth(self, name: str, args: tuple, kwargs: dict[str, Any]) -> int:
        """How many elements the reference's answer holds, with the arguments if the check looks at those."""
        given = copied((args, kwargs))
        worth = elements(self.reference[name](*given[0], **given[1]))
        return worth + elements(given) * self.in_place

    def _ask(self, request: dict[str, Any], name: str, allowance: Allowance | None = None) -> dict[str, Any]:
        """Ask the worker, within what is left of the times that there are, and count what it took. Raises WorkerFailed,
        when there is no worker any more."""
        left = self._left(name)
        try:
            return self.worker.ask(request, min(left, CALL_SECONDS), allowance, max(self.idle, IDLE_CALL_SECONDS))
        except WorkerFailed:
            self.worker, ended = None, self.worker
            raise
        finally:
            worker = self.worker or ended
            self.left -= worker.took
            self.last_left -= worker.took
            self.idle -= max(worker.took - worker.computed, 0)

    def _left(self, name: str) -> float:
        """Seconds that are left for this exercise. Raises AnswerError if there are none."""
        if min(self.left, self.last_left) <= 0:
            raise problem(name, "no time left" if self.left <= 0 else "time")
        return min(self.left, self.last_left)

    def _ready(self, name: str) -> None:
        """Have a worker that has run every cell that can be run."""
        while self.worker is None:
            self._left(name)
            try:
                self.worker, self.called = self.sandbox.worker(), set()
            except OSError as error:
                raise NoSandbox(f"no worker could be started: {error}") from None
            try:
                self.worker.ask({"name": "setup", "code": self.setup, "seconds": CALL_SECONDS}, CALL_SECONDS)
            except WorkerFailed as failure:
                self.stop()
                raise NoSandbox(f"the set-up cell does not run: {failure}") from None
            try:
                if not all(self._run_cell(at, cell, name) for at, cell in enumerate(self.cells)):
                    continue
            except AnswerError:  # the time was up before all cells had run
                self.stop()
                raise
        for at, kinds in self.broken.items():
            if self.cells[at].exercise == name:
                raise problem(name, kinds[-1])

    def _run_cell(self, at: int, cell: Cell, name: str) -> bool:
        """Run a cell. False if that ended the worker. An exercise's cell is not run again then; of one of the learner's
        own what it defines, once more."""
        deaths = len(self.broken.get(at, ()))
        if deaths > (not cell.exercise):
            return True
        request = {"name": cell.exercise or f"cell {at}", "code": cell.code, "seconds": SECONDS}
        if not cell.exercise:
            request |= {"own": True, "seconds": 0 if deaths else max(min(self.own, SECONDS), 0)}
        try:
            reply = self._ask(request, name)
            self.own -= 0 if cell.exercise else self.worker.computed
            self._ask(NOTHING, name)  # a second reply would be met here
        except WorkerFailed as failure:
            self.broken.setdefault(at, []).append(failure.kind)
            return False
        if "problem" in reply:
            self.raised[at] = reply
        return True

    def _why_undefined(self, name: str) -> AnswerError | None:
        """What became of the cell that was to define an answer."""
        for at, cell in reversed([*enumerate(self.cells)]):
            if name == cell.exercise or not cell.exercise and defines(cell.code, name):
                if at in self.raised:
                    reply = self.raised[at]
                    return self._problem(name, "time" if reply["problem"] == "time" else "cell", reply)
                if at in self.broken:
                    return problem(name, self.broken[at][-1])
        return None

    def _problem(self, name: str, kind: Any, reply: dict[str, Any]) -> AnswerError:
        """What the worker says went wrong, in our words. Of an exception only the type is told, the line, and a
        name that the learner wrote: its text could carry the inputs out."""
        raised, line = reply.get("raised"), reply.get("line")
        if type(raised) is not list or [type(part) for part in raised] != [str, str]:
            raised = ["", ""]
        if type(kind) is not str or kind not in PROBLEMS:
            kind = "garbled"
        if kind not in ("raised", "cell"):
            kind = too_slow(self, name) if kind == "time" else kind
            error = problem(name, kind, detail="something else")
            return AnswerError(str(error), kind, tuple(raised))
        written = {part.strip() for cell in self.cells for part in cell.code.splitlines()}
        at = f", in its line `{line}`" if type(line) is str and line and line in written else ""
        known = isinstance(getattr(builtins, raised[0], None), type)
        told = problem(
            name, kind, (raised[0] if known else "an exception of its own", ""),
            self._missing(raised[1]) + at + self._shadowed(reply) + advice(raised[1]),
        )
        return AnswerError(str(told), kind, tuple(raised))

    def _missing(self, text: str) -> str:
        """Which name an exception misses, if it stands in the submission: then it is no secret."""
        found = re.match(r"(?:name|cannot access local variable) '([^\W\d]\w{0,60})'", text)
        name = found[1] if found else ""
        if not name or not any(re.search(rf"\b{name}\b", cell.code) for cell in self.cells):
            return ""
        why = ""
        if any(at in self.raised and defines(self.cells[at].code, name) for at in self.raised):
            why = " (a cell of yours that makes it raised an error here)"
        elif name in self.elsewhere:
            why = (
                " (a cell of the chapter makes it, and those do not run here: take it as an argument, or make it in a "
                "cell of yours)"
            )
        return f": `{name}` is not defined{why}"

    def _shadowed(self, reply: dict[str, Any]) -> str:
        """Which names of Python's own the worker says are something else, if the submission assigns them."""
        names = reply.get("shadowed")
        names = names if type(names) is list and all(type(name) is str for name in names) else []
        return shadowed_text([
            name for name in names
            if hasattr(builtins, name) and any(defines(cell.code, name) for cell in self.cells)
        ])  # fmt: skip

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
            self._ask(NOTHING, name)
        except WorkerFailed as failure:
            return problem(name, failure.kind)
        except AnswerError:  # the exercise's time is up
            self.stop()
        return None

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
    sandbox: Sandbox, chapter: Chapter, cells: Sequence[Cell], seed: int, done: int = 0, fails: str = ""
) -> Iterator[Result]:
    """The results of every exercise of a chapter, in their order. `cells` holds the submission's code; check inputs
    come from the seed. So many exercises are `done` already; the next one `fails`, if it says why."""
    reference, setup, elsewhere = _reference(chapter)
    submission = RemoteSubmission(sandbox, setup, cells, reference, elsewhere)
    try:
        for at, name in enumerate(reference):
            if at < done:
                continue
            if at == done and fails:
                yield _failed(chapter, name, fails)
                continue
            n_after = len(reference) - at - 1
            result = _grade_exercise(submission, chapter, name, seed, n_after)
            if submission.worker is None and submission.called - {name}:
                # What broke the worker may be another answer's doing: judge this one by itself.
                result = _grade_exercise(submission, chapter, name, seed, n_after)
            result.found = found_how(cells, name)
            yield result
    finally:
        submission.stop()


def _failed(chapter: Chapter, name: str, why: str) -> Result:
    """All checks of an exercise, failed because of an answer that ended what grades it."""
    return Result(name, [CheckResult(title(c), c.points, False, why, problem="dead") for c in chapter.checks(name)])


def prepare(chapter: Chapter) -> None:
    """Load what grading a chapter needs, so that the first submission does not wait for it."""
    chapter.checks(), chapter.mistakes(), _reference(chapter)


def _grade_exercise(
    submission: RemoteSubmission, chapter: Chapter, name: str, seed: int, n_after: int
) -> Result:
    submission.begin(n_after)
    result = run_checks(chapter.checks(name), submission, lambda: chapter.mistakes(name), seed)
    if error := submission.settle(name):
        for check in result.checks:
            check.passed, check.message, check.problem = False, str(error), error.kind
    result.printed = ""
    for check in result.checks:
        check.message = readable(check.message)
    return result


@functools.cache
def _reference(chapter: Chapter) -> tuple[dict[str, Callable], str, frozenset[str]]:
    """The reference answers by exercise, for their annotations; the code of the set-up cell; and the names that only
    other cells of the release make."""
    namespace, problems = load_answers(chapter.source)
    if problems:
        raise RuntimeError(next(iter(problems.values())))
    answers = answer_cells(chapter.source)
    setup = "\n".join(code for name, code in answers if name == "setup")
    code = [source(c) for c in read_cells(chapter.source) if c["cell_type"] == "code" and not exercise_of(c)]
    elsewhere = frozenset().union(*map(names_made, code)) - set(namespace)
    return {name: namespace[name] for name, _ in answers if name != "setup"}, setup, elsewhere


def readable(text: str) -> str:
    """A message in which what came from a submission can do no harm: of bounded length, on one
    line, without control characters."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= MESSAGE_LENGTH else f"{text[: MESSAGE_LENGTH - 3]}..."
