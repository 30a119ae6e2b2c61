"""Where a submission's code runs: a worker forked from a process that has torch loaded, in a room
that bubblewrap makes, with no network, no process but its own, and nothing to read but Python.

    with Sandbox() as sandbox:              # once a grading process, before it holds any secret
        with sandbox.worker() as worker:    # once a submission
            reply = worker.ask({...}, seconds=15)

A room is made by bubblewrap for one worker: own user, mount, process, network and IPC namespaces,
around a `cat` that keeps it open. The worker, forked from the warm process, joins them (`lockdown`
says what it gives up). Killing the room's first process makes the kernel kill everything in it.

Where bubblewrap, libseccomp or the kernel cannot do this, a worker is a plain process: `problem`
says why, and nobody should take it for a jail.
"""

import contextlib
import gc
import importlib.util
import json
import math
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import circuits
import utils
from circuits import limits
from circuits.chapters import INSTALLED, ROOT
from circuits.checking import MEMORY
from circuits.grading.wire import Allowance, WireError, pack, receive, send, unpack

TEMPORARY_BYTES = 64 * 1024**2
START_SECONDS = 60
STARVED = 20  # times as long as it may take, a worker may wait for a processor
_PID = struct.Struct(">q")
# What answers use, in small: each of these loads more of its package when it is first called.
TRIAL = """
import numpy
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

def answer(x: Float[Tensor, "a bc"]) -> Float[Tensor, "b a c"]:
    return rearrange(x @ torch.linalg.svd(torch.eye(6)).Vh, "a (b c) -> b a c", b=2).softmax(-1)

table = answer(torch.rand(3, 6, requires_grad=True))
table[..., 0].sum().backward()
drawn = numpy.random.default_rng(0).normal(size=3) + table.detach().numpy()[0, 0]
str(table), str(drawn)
"""


class WorkerFailed(Exception):
    """No usable reply came: `kind` is "dead", "time", "garbled" or "too large" (see
    checking.PROBLEMS). The worker has been killed."""

    def __init__(self, kind: str):
        super().__init__(kind)
        self.kind = kind


class Sandbox:
    """The source of workers. It forks a warm process at once: make it before anything secret is in
    memory, in a process with one thread."""

    def __init__(self, plain: bool = False, optimizers: bool = True):
        """`optimizers`: whether answers will use those of `torch.optim`, which take more than a second
        to import. Without, they can be used all the same, each worker then importing them."""
        self.problem: str | None = "asked for none" if plain else None  # why there is no sandbox
        self._warm: _Warm | None = None
        if plain:
            return
        try:
            self._warm = _Warm(optimizers)
            with self.worker() as worker:  # the proof that all of it works here
                reply = worker.ask({"name": "trial", "code": TRIAL, "seconds": START_SECONDS}, START_SECONDS)
            if reply:
                self.close()
                self.problem = f"answers cannot compute in it ({': '.join(reply.get('raised', reply.values()))})"
        except WorkerFailed as failure:
            self.close()
            self.problem = f"a worker starts in it and fails at once ({failure})"
        except (OSError, ImportError, subprocess.SubprocessError) as error:
            self.close()
            self.problem = str(error) or type(error).__name__

    def worker(self) -> "Worker":
        """A new worker, which has run nothing yet. Raises OSError if none can be had."""
        return _PlainWorker() if self._warm is None else _RoomWorker(self._warm)

    def close(self) -> None:
        if self._warm is not None:
            self._warm.close()
            self._warm = None

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_) -> None:
        self.close()


class Worker:
    """One process that holds a submission's answers. `ask` raises WorkerFailed."""

    pid: int  # of the process that computes
    took = 0.0  # seconds by the clock of the last `ask`, without those in which no processor was free for the worker
    computed = 0.0  # of these, seconds that it computed

    def ask(
        self, request: dict[str, Any], seconds: float, allowance: Allowance | None = None, idle: float = math.inf
    ) -> dict[str, Any]:
        """Send a request; the reply, if it comes within so many seconds, of which at most `idle` without computing, is
        well-formed and holds no more than is allowed. Seconds in which the worker waited for a processor do not count.
        """
        allowance = allowance or Allowance()
        ticket = secrets.token_hex(8)  # a reply that was forged beforehand does not know it
        message = pack({**request, "ticket": ticket})
        late, over = threading.Event(), threading.Event()
        began, waited, computed = time.monotonic(), limits.waited(self.pid), limits.computed(self.pid)
        self.took = self.computed = 0.0

        def took() -> float:
            return time.monotonic() - began - min(limits.waited(self.pid) - waited, STARVED * seconds)

        def watch():
            left = min(seconds, idle)
            while not over.wait(max(left, 0.05)):
                self.computed, so_far = limits.computed(self.pid) - computed, took()
                left = min(seconds - so_far, idle - (so_far - self.computed))
                if left <= 0:
                    late.set()
                    self._kill()
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            send(self._write, message)
            message = receive(self._read, allowance)
            self.took, self.computed = took(), limits.computed(self.pid) - computed
            reply = unpack(message, allowance=allowance)
            if type(reply) is not dict or reply.pop("ticket", None) != ticket:
                raise WireError("not the reply to this request")
            return reply
        except (EOFError, OSError):
            self.took = min(time.monotonic() - began, seconds)
            self.close()
            raise WorkerFailed("time" if late.is_set() else "dead") from None
        except WireError as error:
            self.took = self.took or took()
            self.close()
            raise WorkerFailed("too large" if str(error) == "too large" else "garbled") from None
        except BaseException:  # the check's own time is up, or Ctrl-C: the worker is in mid-answer
            self.close()
            raise
        finally:
            over.set()

    def _read(self, n: int) -> bytes:
        raise NotImplementedError

    def _write(self, data: bytes) -> int:
        raise NotImplementedError

    def _kill(self) -> None:
        """End the worker and all it started."""
        raise NotImplementedError

    def close(self) -> None:
        """Kill the worker, and return when nothing of it is left."""
        raise NotImplementedError

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self.close()


# With bubblewrap ----------------------------------------------------------------------------


def room_command(info_fd: int) -> list[str]:
    """The bubblewrap command of one room."""
    bwrap, cat = shutil.which("bwrap"), shutil.which("cat")
    if sys.platform != "linux" or bwrap is None or cat is None:
        raise OSError("bubblewrap (bwrap) is not installed")
    command = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    command += ["--uid", "65534", "--gid", "65534", "--hostname", "sandbox"]
    command += ["--size", str(TEMPORARY_BYTES), "--tmpfs", "/tmp"]
    for path in ("/lib", "/lib64", "/usr/lib", "/usr/lib64"):
        if os.path.islink(path):
            command += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            command += ["--ro-bind", path, path]
    python = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    for name in ("torch", "numpy", "einops", "jaxtyping"):  # where a path file of Python's may have it elsewhere
        folder = Path(importlib.util.find_spec(name).origin).parents[1]
        if INSTALLED or not ROOT.is_relative_to(folder):
            python.add(str(folder))
    for path in sorted({*python, str(Path(utils.__file__).parent), cat}):
        command += ["--ro-bind", os.path.realpath(path), path]
    # The worker has imported what it needs of `circuits`. Installed from a wheel, that folder lies
    # among Python's packages, and holds checks, mistakes and answers: it is covered.
    machinery = str(Path(circuits.__file__).parent)
    if any(machinery.startswith(os.path.join(path, "")) for path in python):
        command += ["--tmpfs", machinery]
    # No device: where the grader is root, a submission could change the mode of the machine's own.
    command += ["--symlink", "/tmp/null", "/dev/null"]
    return [*command, "--remount-ro", "/", "--info-fd", str(info_fd), "--", cat]


class _Room:
    """One bubblewrap sandbox with nothing in it but `cat`."""

    def __init__(self):
        info, info_write = os.pipe()
        try:
            self.process = subprocess.Popen(
                room_command(info_write), pass_fds=[info_write], env={},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
            os.close(info_write)
            info_write = None
            self.process.stdin.write(b"!")
            self.process.stdin.flush()
            if self.process.stdout.read(1) != b"!":  # cat runs: the room is ready
                raise OSError(self._says())
            first = json.loads(os.read(info, 4096))["child-pid"]
            self.pidfd = os.pidfd_open(first)
        except BrokenPipeError:
            raise OSError(self._says()) from None
        finally:
            os.close(info)
            if info_write is not None:
                os.close(info_write)

    def _says(self) -> str:
        self.process.kill()
        lines = self.process.stderr.read(2000).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "bubblewrap ended without a word"

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Return when every process of the room is gone: bubblewrap outlives them all."""
        self.kill()
        self.process.communicate()
        os.close(self.pidfd)


class _Warm:
    """The process that has loaded what a worker needs, and nothing else: workers are its forks."""

    def __init__(self, optimizers: bool):
        # What a first use would import, so that no worker pays for it.
        import einops  # noqa: F401
        import jaxtyping  # noqa: F401
        import torch

        from circuits.grading import lockdown

        for name in utils.__all__:
            getattr(utils, name)
        if optimizers:
            import torch._dynamo  # by the first one that is made

        torch.set_num_threads(1)
        rules = lockdown.system_call_filter()
        memory = _address_space() + MEMORY
        gc.collect()
        gc.freeze()  # a collection in a worker would copy every page it shares with this process
        mine, its = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                mine.close()
                _fork_on_request(its, rules, memory)
            finally:
                os._exit(1)
        its.close()
        self.control = mine

    def fork(self, room: _Room, connection: socket.socket) -> int:
        """A new worker in the room, which talks over the connection; the number of its process."""
        self.control.settimeout(START_SECONDS)
        socket.send_fds(self.control, [b"!"], [room.pidfd, connection.fileno()])
        word = self.control.recv(_PID.size)
        if len(word) != _PID.size or not (pid := _PID.unpack(word)[0]):
            raise OSError("the worker could not enter its room (Linux 5.8 or later is needed)")
        return pid

    def close(self) -> None:
        self.control.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _fork_on_request(control: socket.socket, rules: Any, memory: int) -> None:
    """The life of the warm process: a worker for each pair of descriptors that comes in."""
    from circuits.grading import lockdown

    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    _close_all_but(control.fileno())
    lockdown.adopt_orphans()  # a worker's parent ends at once
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # and nobody asks how it ended
    while True:
        word, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not word:
            os._exit(0)
        if os.fork() == 0:
            _enter_and_fork(control, *descriptors, rules, memory)
        for descriptor in descriptors:
            os.close(descriptor)


def _enter_and_fork(control: socket.socket, pidfd: int, connection: int, rules, memory: int) -> None:
    """Step into the room; the child that is born there is the worker."""
    from circuits.grading import lockdown, worker

    pid = 0
    is_worker = False
    try:
        lockdown.enter(pidfd)
        pid = os.fork()  # counted as here, not as in the room
        if pid == 0:
            is_worker = True
            _close_all_but(connection)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            lockdown.lock_down(rules, memory)
            worker.serve(
                lambda n: os.read(connection, n), lambda data: os.write(connection, data)
            )
    finally:
        if not is_worker:
            control.send(_PID.pack(pid))
        os._exit(0)


def _close_all_but(kept: int) -> None:
    """Close every descriptor but this and the three standard ones."""
    os.closerange(3, kept)
    os.closerange(kept + 1, 1 << 16)


def _address_space() -> int:
    """Bytes of address space that this process has now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


class _RoomWorker(Worker):
    def __init__(self, warm: _Warm):
        self.room = _Room()
        self.connection, its = socket.socketpair()
        self.closed, self.closing = False, threading.Lock()
        try:
            self.pid = warm.fork(self.room, its)
        except BaseException:
            self.close()
            raise
        finally:
            its.close()

    def _read(self, n: int) -> bytes:
        return self.connection.recv(n)

    def _write(self, data: bytes) -> int:
        return self.connection.send(data)

    def _kill(self) -> None:
        with self.closing:
            if not self.closed:
                self.room.kill()
                # Whoever holds the other end (a copy of it may be on its way to nobody) is cut off.
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self.closing:
            if not self.closed:
                self.closed = True
                self.room.close()
                self.connection.close()


# Without ------------------------------------------------------------------------------------


class _PlainWorker(Worker):
    """A worker with the limits that the system has, and no walls."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="circuits-worker-", ignore_cleanup_errors=True)
        keep = {k: v for k, v in os.environ.items() if k in ("PATH", "SYSTEMROOT", "LANG")}
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-m", "circuits.grading.worker"],
            cwd=self.folder.name, env={**keep, "HOME": self.folder.name}, bufsize=0,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self.process.pid

    def _read(self, n: int) -> bytes:
        return self.process.stdout.read(n)

    def _write(self, data: bytes) -> int:
        return self.process.stdin.write(data)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()

    def close(self) -> None:
        if self.process.poll() is None:
            self._kill()
        self.process.communicate()
        self.folder.cleanup()
