"""What several of the project's own tests need."""

import os
import subprocess
import sys

import pytest


@pytest.fixture(scope="session")
def nbgrader():
    """Run an nbgrader command in a course folder, as an instructor would; returns what it printed."""

    def run(folder, *args: str, ok: bool = True) -> str:
        env = {k: v for k, v in os.environ.items() if k != "NBGRADER_EXECUTION"}
        done = subprocess.run(
            [sys.executable, "-m", "nbgrader", *args],
            cwd=folder, env=env, capture_output=True, text=True, timeout=600,
        )
        printed = done.stdout + done.stderr
        assert (done.returncode == 0) == ok, printed
        return printed

    return run
