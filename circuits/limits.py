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

GIGABYTE = 1024**3
_HERE = os.path.join(os.path.dirname(__file__), "")


class OutOfTime(BaseException):
    """The time is up. Not an `Exception`, so that `except Exception` in an answer lets it pass."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in the block after `seconds` of computing, or three times as long by the
    clock: a slow or busy machine does not fail an answer, and one that only sleeps is stopped too.

    Code that catches even that (`while True: try: ... except: pass`) meets it again on every
    further line it runs. Needs the main thread and a Unix signal; elsewhere the block runs
    without a limit.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(frame, event, arg):
        raise OutOfTime

    raised_at = [-math.inf]

    def interrupt(signum, frame):
        # Both timers may come at once; the second must not raise while the first is cleaned up.
        if time.monotonic() - raised_at[0] < 0.1:
            return
        raised_at[0] = time.monotonic()
        sys.settrace(lambda *_: None)  # f_trace is heeded only while there is some tracer
        while frame is not None and not frame.f_code.co_filename.startswith(_HERE):
            frame.f_trace = stop
            frame = frame.f_back
        raise OutOfTime

    tracer = sys.gettrace()
    timers = ((signal.SIGPROF, signal.ITIMER_PROF, 1), (signal.SIGALRM, signal.ITIMER_REAL, 3))
    before = {number: signal.signal(number, interrupt) for number, _, _ in timers}
    try:
        for _, timer, factor in timers:
            signal.setitimer(timer, seconds * factor, 0.2)
        yield
    finally:
        for number, timer, _ in timers:
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])
        sys.settrace(tracer)


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
