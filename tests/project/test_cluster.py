"""`circuits grade --scheduler` on a real Dask cluster: a scheduler and two workers, one of which is
killed at work."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import PATIENCE, answered, hand_in, reference
from test_batch import command, grade, points, scores, table

from circuits.chapters import Chapter

CHAPTER = Chapter("1_bigrams")
SLOW = "import time\ndef direct_path(W_E, W_U):\n    time.sleep(1)\n    return W_E @ W_U  # {}"
N = 8


def dask(*args: str, **options) -> subprocess.Popen:
    program = os.path.join(os.path.dirname(sys.executable), "dask")
    return subprocess.Popen(
        [program, *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )


@pytest.fixture
def cluster(tmp_path):
    """The address of a scheduler, and the processes of its two workers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    scheduler = dask("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    workers = [
        dask("worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny",
             "--local-directory", str(tmp_path / f"worker{i}"))
        for i in range(2)
    ]  # fmt: skip
    yield address, workers
    for process in (*workers, scheduler):
        process.kill()
        process.wait()


def n_workers(address: str) -> int:
    from distributed import Client

    with Client(address, timeout=PATIENCE, set_as_default=False) as client:
        return len(client.scheduler_info()["workers"])


@pytest.mark.proof
def test_a_worker_killed_at_work_costs_no_mark_and_the_marks_are_those_from_here(classroom, cluster):
    address, workers = cluster
    deadline = time.monotonic() + PATIENCE
    while n_workers(address) < 2:
        assert time.monotonic() < deadline, "the workers did not start"
        time.sleep(0.5)
    for i in range(N):
        hand_in(classroom, f"s{i}", CHAPTER, answered(CHAPTER, {"direct_path": SLOW.format(i)}))
    given = dict(list(reference(CHAPTER).items())[::3])
    given["direct_path"] = "def direct_path(a, b): return a"
    hand_in(classroom, "some", CHAPTER, answered(CHAPTER, given))
    process = subprocess.Popen(
        command("--scheduler", address, "--require-sandbox"), cwd=classroom,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    while not list((classroom / "autograded").glob("*")):  # some are done, some at work
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    workers[0].send_signal(signal.SIGKILL)
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, printed
    there = scores(classroom)
    assert points(classroom) == {
        **{f"s{i}": 3 for i in range(N)},
        "some": sum(CHAPTER.exercises[name] for name in given if name != "direct_path"),
    }
    assert {row["status"] for row in table(classroom).values()} == {"graded"}
    assert n_workers(address) == 1
    assert f"{N + 1}  graded" in grade(classroom, "--regrade") and scores(classroom) == there

    workers[1].kill()
    workers[1].wait()
    deadline = time.monotonic() + PATIENCE
    while n_workers(address):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert "has no workers" in grade(classroom, "--regrade", "--scheduler", address, ok=False)
