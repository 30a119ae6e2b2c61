"""How pytest runs the checks, against the reference answers or against a file of answers; and a
fixture for tests of models.

    pytest tests/checks                                  # the reference answers
    pytest tests/checks --submission notebook.ipynb      # a learner's, from a notebook or a .py file
"""

import os
import re
import shutil
import signal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from circuits.chapters import chapters, load_answers
from circuits.checking import SEED, AnswerError, Submission, run_check
from utils.errors import CourseError


def pytest_configure(config):
    """Workers that share the cores do better on one thread each, and so does what they start: two threads that
    wait for each other on a busy core take four times as long to train a model."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("PIP_NO_COMPILE", "0")  # in pip's words: no. What a test installs is used once


def pytest_addoption(parser):
    parser.addoption(
        "--submission", metavar="FILE", help="check the answers in FILE, a notebook or a .py file"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Tests of one file share fixtures, so one worker has them all; of those that are run for every
    chapter or exercise (`[1_bigrams]`, `[1_bigrams-sample]`), one has what belongs to one."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            for_each = re.search(r"\[\d_\w+(-\w+)?\]$", nodeid)
            return nodeid.partition("::")[0] + (for_each[0] if for_each else "")

    return Together(config, log)


def pytest_collection_modifyitems(config, items):
    """Leave out the checks of chapters of which the given file has nothing."""
    if config.getoption("--submission"):
        names = _answers(Path(config.getoption("--submission"))).keys()
        absent = {c.checks_file for c in chapters() if not names & {f.exercise for f in c.checks()}}
        config.hook.pytest_deselected(items=[item for item in items if item.path in absent])
        items[:] = [item for item in items if item.path not in absent]


@cache
def _answers(file: Path) -> dict[str, Any]:
    try:
        return load_answers(file)[0]
    except CourseError as error:
        pytest.exit(str(error), returncode=4)


@pytest.fixture
def submission(request):
    """The answers under test."""
    given = request.config.getoption("--submission")
    chapter = next(c for c in chapters() if c.checks_file == request.path)
    return Submission(_answers(Path(given) if given else chapter.source), like=chapter.stubs)


@pytest.fixture
def rng():
    """Where a check's inputs come from."""
    return torch.Generator().manual_seed(SEED)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """A check runs with the limits it has everywhere, and its failure is its message alone."""
    check = pyfuncitem.function
    if not hasattr(check, "exercise"):
        return None
    try:
        message = run_check(check, pyfuncitem.funcargs["submission"])
    except AnswerError as error:
        message = str(error)
    if message is not None:
        pytest.fail(f"{check.exercise}: {message}", pytrace=False)
    return True


@pytest.fixture(autouse=True, scope="session")
def ctrl_c():
    """A test run in the background may ignore Ctrl-C; tests of what it does must hear it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def one_thread():
    """On small models, two threads mostly wait for each other. One also adds in the same order
    everywhere, so that the same numbers come out as in a grader."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium, "no Chromium found: apt-get install chromium"
    quiet = ["--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", *quiet])
        yield browser
        browser.close()
