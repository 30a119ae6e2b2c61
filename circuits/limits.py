"""Bounds on code that may loop for ever, ask for all memory or write where it should not."""

import contextlib
import io
import math
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

GIGABYTE = 1024**3
PATIENCE = 3  # times as long by the clock as computing
_HERE = os.path.join(os.path.dirname(__file__), "")


class OutOfTime(BaseException):
    """The time is up. Not an `Exception`, so that `except Exception` in an answer lets it pass."""


@dataclass
class _Block:
    """One block under a time limit."""

    seconds: float
    computed: float  # by this process when it began, and elsewhere since, as a start of the count
    began: float  # by the clock, without what was excused before

    def left(self) -> float:
        return self.seconds - (time.process_time() - self.computed)

    def overdue(self) -> bool:
        return _own_clock() - self.began >= self.seconds * PATIENCE


_blocks: list[_Block] = []
_excused = 0.0  # seconds by the clock that no block is asked for
_excusing = False


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in the block after `seconds` of computing, or three times as long by the
    clock, in which the seconds do not count that this process waited for a processor: a slow or busy machine
    does not fail an answer, and one that only sleeps is stopped too.

    A block inside a block has no more time than is left to that one. Code that catches even that
    (`while True: try: ... except: pass`) meets it again on every further line it runs. Needs the main thread and a
    Unix signal; elsewhere the block runs without a limit.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(frame, event, arg):
        raise OutOfTime

    raised_at = [-math.inf]

    def interrupt(signum, frame):
        if signum == signal.SIGALRM and (_excusing or not block.overdue()):
            return  # it rings again
        # Both timers may come at once; the second must not raise while the first is cleaned up.
        if time.monotonic() - raised_at[0] < 0.1:
            return
        raised_at[0] = time.monotonic()
        sys.settrace(lambda *_: None)  # f_trace is heeded only while there is some tracer
        while frame is not None and not frame.f_code.co_filename.startswith(_HERE):
            frame.f_trace = stop
            frame = frame.f_back
        raise OutOfTime

    seconds = min(seconds, left())
    block = _Block(seconds, time.process_time(), _own_clock())
    tracer = sys.gettrace()
    timers = ((signal.SIGPROF, signal.ITIMER_PROF, 1), (signal.SIGALRM, signal.ITIMER_REAL, PATIENCE))
    before = {number: signal.signal(number, interrupt) for number, _, _ in timers}
    _blocks.append(block)
    try:
        for _, timer, factor in timers:
            signal.setitimer(timer, max(seconds * factor, 0.001), 0.2)
        yield
    finally:
        for number, timer, _ in timers:
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])
        _blocks.remove(block)
        sys.settrace(tracer)
        for _, timer, factor in timers if _blocks else ():  # the block around this one goes on
            signal.setitimer(timer, max(left() * factor, 0.001), 0.2)


def left() -> float:
    """Seconds of computing that are left to the innermost block under a time limit."""
    return _blocks[-1].left() if _blocks else math.inf


def charge(seconds: float) -> None:
    """Count computing that was done elsewhere, in another process, for the blocks under a time limit."""
    for block in _blocks:
        block.computed -= seconds


@contextlib.contextmanager
def excused() -> Iterator[None]:
    """What the block takes by the clock counts for no time limit: it waits for another process, which has limits of
    its own."""
    global _excused, _excusing
    began, before = _own_clock(), _excusing
    _excusing = True
    try:
        yield
    finally:
        _excusing = before
        _excused += _own_clock() - began


def _own_clock() -> float:
    """Seconds by the clock, without those for which this process waited for a processor or was excused."""
    return time.monotonic() - waited("self") - _excused


def waited(pid: int | str) -> float:
    """Seconds for which a process (its main thread) was ready to run and no processor was free. 0 where the system
    does not tell."""
    try:
        with open(f"/proc/{pid}/schedstat") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def computed(pid: int | str) -> float:
    """Seconds of computing that a process has done. 0 where the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            user, system = file.read().rpartition(")")[2].split()[11:13]  # the name may hold anything
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return 0.0


@contextlib.contextmanager
def memory_limit(extra_bytes: int) -> Iterator[None]:
    """Let the block allocate at most `extra_bytes` more than the process holds now.

    A larger request raises in Python instead of ending the process. Linux only; elsewhere the
    block runs without a limit.
    """
    try:
        import resource

        with open("/proc/self/statm") as file:
            held = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = held + extra_bytes
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Collect what the block prints, to Python's streams or to the process's own stderr.

    nbgrader gives no points to a check cell that writes to stderr, so a warning inside an answer
    must not get through.
    """
    printed = io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(printed))
        stack.enter_context(contextlib.redirect_stderr(printed))
        try:
            sys.__stderr__.flush()
            saved = os.dup(2)
        except (AttributeError, OSError, ValueError):  # no such stream: nothing to protect
            yield printed
            return
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), 2)
            try:
                yield printed
            finally:
                os.dup2(saved, 2)
                os.close(saved)
                file.seek(0)
                printed.write(file.read(10_000).decode(errors="replace"))
