"""Setting up: what is installed, how it is told when that fails, and what a clone consists of."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import PATIENCE
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from circuits.chapters import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
DEPENDENCIES = PROJECT["project"]["dependencies"]
EXTRAS = PROJECT["project"]["optional-dependencies"]
CONSTRAINTS = dict(
    (canonicalize_name(name), pin)
    for name, pin in (
        line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    )
)


# Versions ------------------------------------------------------------------------------------


def test_every_dependency_has_a_range_with_an_upper_bound():
    everything = DEPENDENCIES + PROJECT["build-system"]["requires"] + sum(EXTRAS.values(), [])
    for dependency in everything:
        if dependency not in ("circuits[cluster]", "circuits[test]", "transformer-lens==3.9.0"):
            assert re.fullmatch(r"[a-z0-9-]+>=\d+(\.\d+)*,<\d+(\.\d+)*", dependency), dependency
    names = [re.match("[a-z0-9-]+", d)[0] for d in DEPENDENCIES]
    assert sorted(set(names)) == sorted(names)


def test_the_tested_versions_are_names_and_versions_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert len(lines) > 100
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==\d[\w.]*", line), line


@pytest.mark.parametrize("dependency", DEPENDENCIES + EXTRAS["cluster"] + EXTRAS["test"][:-1])
def test_one_version_of_every_range_is_the_tested_one_and_is_installed(dependency):
    wanted = Requirement(dependency)
    tested = CONSTRAINTS[canonicalize_name(wanted.name)]
    assert tested in wanted.specifier
    assert version(wanted.name).split("+")[0] == tested  # "+cpu" is the same release


def test_conda_makes_the_same_environment():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    python, pip, installed = conda["dependencies"]
    assert python == f"python{PROJECT['project']['requires-python']}"
    assert pip == "pip" and installed == {"pip": ["-c constraints.txt", "-e ."]}
    assert conda["channels"] == ["conda-forge"] and conda["name"] == PROJECT["project"]["name"]


def test_this_python_is_one_the_course_allows():
    assert "%d.%d" % sys.version_info[:2] in SpecifierSet(PROJECT["project"]["requires-python"])


def test_importing_the_course_loads_nothing_that_is_not_needed_yet():
    late = "nbgrader pytest dask matplotlib jupytext tokenizers safetensors IPython yaml".split()
    code = f"import sys, utils, circuits; print([name for name in {late} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n" and done.stderr == ""


# tools/setup and make ------------------------------------------------------------------------

# A Python that only writes down what it is asked to do. Where a file NAME stands beside it, it ...
FAKE_PYTHON = """#!/usr/bin/env bash
here=$(dirname "$0")
echo "$*" >> "$FAKE_LOG"
case "$*" in
  *version_info*) if [ -e "$here/broken" ]; then exit 1; fi
                  cat "$here/version" 2>/dev/null || echo 3.11 ;;
  *"import venv"*) [ ! -e "$here/without-venv" ] ;;
  "-m venv "*) [ ! -e "$here/full" ] || exit 1
               mkdir -p "$3/bin"; touch "$3/bin/pip"
               cp "$0" "$3/bin/python"
               if [ -e "$here/offline" ]; then touch "$3/bin/offline"; fi ;;
  "-m pip --version") [ -e "$here/pip" ] ;;
  "-m pip install "*) [ ! -e "$here/offline" ] ;;
  "-m circuits.cli lab "*) echo "JupyterLab $*" ;;
  *) exit 9 ;;
esac
"""


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """What make and tools/setup need of a clone, in a folder with an awkward name."""
    root = tmp_path / "my courses"
    root.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "tools", root / "tools")
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PYTHON", "PORT", "ARGS"):
        monkeypatch.delenv(name, raising=False)  # as these tests may themselves be run by make
    return root


@pytest.fixture
def python(tmp_path) -> Path:
    """A fake Python 3.11."""
    file = tmp_path / "bin" / "python3.11"
    file.parent.mkdir()
    file.write_text(FAKE_PYTHON)
    file.chmod(0o755)
    return file


def run(folder: Path, *args, **env) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(arg) for arg in args], cwd=folder, capture_output=True, text=True, timeout=PATIENCE,
        env=os.environ | env,
    )


def refused(folder: Path, python: str | Path, **env) -> str:
    """The one line that tools/setup writes to stderr when it cannot go on."""
    done = run(folder, "bash", "tools/setup", python, ".venv", ".", **env)
    assert done.returncode == 1
    assert done.stderr.startswith("circuits: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def log(tmp_path: Path) -> str:
    return (tmp_path / "log").read_text()


def test_no_python(clone, python):
    assert "python3.99 was not found. Install one, or name it: make PYTHON=" in refused(clone, "python3.99")


def test_no_python_that_the_course_allows(clone, python):
    """Nothing was named, and what there is is too old, too new, or does not run."""
    for name, says in (("python3", "3.9"), ("python3.14", "2.7"), ("python3.12", "3.99")):
        fake = python.with_name(name)
        fake.write_text(FAKE_PYTHON.replace("echo 3.11", f"echo {says}"))
        fake.chmod(0o755)
    (python.parent / "python3.11").unlink()
    path = f"{python.parent}:{tools_only(clone.parent)}"
    assert "Python 3.11 to 3.14 was not found" in refused(clone, "", PATH=path)


@pytest.mark.parametrize("name, says", [("python3", "3.13"), ("python3.12", "3.12")])
def test_a_python_is_found(clone, python, tmp_path, name, says):
    """`python3` if it will do, else the newest that does: here another one would do, too."""
    python.with_name("python3").write_text(FAKE_PYTHON.replace("echo 3.11", "echo 3.9"))
    python.with_name("python3").chmod(0o755)
    fake = python.with_name(name)
    fake.write_text(FAKE_PYTHON.replace("echo 3.11", f"echo {says}"))
    fake.chmod(0o755)
    path = f"{python.parent}:{tools_only(clone.parent)}"
    assert run(clone, "bash", "tools/setup", "", ".venv", ".", PATH=path).returncode == 0
    assert (clone / ".venv" / "bin" / "python").read_text() == fake.read_text()


def tools_only(folder: Path) -> Path:
    """A PATH with what tools/setup calls and no Python."""
    tools = folder / "tools only"
    tools.mkdir()
    for name in ("bash", "sed", "seq", "dirname", "mkdir", "cat", "cp", "touch", "flock", "env"):
        (tools / name).symlink_to(shutil.which(name))
    return tools


def test_python_that_does_not_run(clone, python):
    (python.parent / "broken").touch()
    assert f"{python} does not run" in refused(clone, python)


@pytest.mark.parametrize("says", ["3.9", "3.15", "2.7", "4.0"])
def test_wrong_python(clone, python, says):
    (python.parent / "version").write_text(f"{says}\n")
    line = refused(clone, python)
    assert f"the course needs Python 3.11 to 3.14; {python} is {says}" in line and "make PYTHON=" in line
    assert not (clone / ".venv").exists()


def test_python_without_venv(clone, python):
    (python.parent / "without-venv").touch()
    line = refused(clone, python)
    assert "lacks the venv module" in line and "apt install python3-venv" in line


def test_environment_made_with_another_python(clone, python):
    """Whoever has made it with a Python that is too old now, or gone."""
    assert run(clone, "bash", "tools/setup", python, ".venv", ".").returncode == 0
    inside = clone / ".venv" / "bin" / "python"
    inside.write_text(FAKE_PYTHON.replace("echo 3.11", "echo 3.10"))
    (inside.parent / "pip").touch()
    assert ".venv was made with a Python that the course does not allow" in refused(clone, python)


def test_two_set_ups_at_once_come_one_after_the_other(clone, python, tmp_path):
    slow = FAKE_PYTHON.replace('[ ! -e "$here/offline" ] ;;', 'sleep 0.5; echo done >> "$FAKE_LOG" ;;')
    python.write_text(slow)
    command = ["bash", "tools/setup", str(python), ".venv", "."]
    both = [subprocess.Popen(command, cwd=clone, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=PATIENCE) for process in both] == [0, 0]
    installing = [line for line in log(tmp_path).splitlines() if re.match("-m pip install|done", line)]
    assert [line[:4] for line in installing] == ["-m p", "done"] * 2


def test_environment_that_cannot_be_made(clone, python):
    (python.parent / "full").touch()
    assert ".venv cannot be made" in refused(clone, python)


def test_installation_that_fails(clone, python, tmp_path):
    (python.parent / "offline").touch()
    line = refused(clone, python)
    assert "the installation failed" in line and "run the same command again" in line
    (clone / ".venv" / "bin" / "offline").unlink()  # the network is back
    assert run(clone, "bash", "tools/setup", python, ".venv", ".").returncode == 0
    assert log(tmp_path).count("-m venv .venv\n") == 1, "the environment was made twice"


def test_environment_whose_making_was_interrupted_is_completed(clone, python, tmp_path):
    run(clone, "bash", "tools/setup", python, ".venv", ".")
    (clone / ".venv" / "bin" / "pip").unlink()
    assert run(clone, "bash", "tools/setup", python, ".venv", ".").returncode == 0
    assert log(tmp_path).count("-m venv .venv\n") == 2
    assert (clone / ".venv" / "bin" / "pip").exists()


def test_setup_installs_the_project_and_makes_sources_open_as_notebooks(clone, python, tmp_path):
    assert run(clone, "bash", "tools/setup", python, ".venv", ".").returncode == 0
    assert re.search(r"^-m pip install .*--constraint constraints.txt --editable \.$", log(tmp_path), re.MULTILINE)
    settings = clone / ".venv" / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    viewers = json.loads(settings.read_text())["@jupyterlab/docmanager-extension:plugin"]
    assert viewers == {"defaultViewers": {"python": "Jupytext Notebook"}}


def test_second_make_sets_nothing_up(clone, python, tmp_path):
    for i, port in enumerate([9001, 9002]):
        done = run(clone, "make", "lab", f"PYTHON={python}", f"PORT={port}", "ARGS=--no-browser")
        assert done.returncode == 0, done.stderr
        assert ("Installing" in done.stdout) == (i == 0)
        last = done.stdout.splitlines()[-1]
        assert last == f"JupyterLab -m circuits.cli lab --port {port} --no-browser"
    assert log(tmp_path).count("pip install") == 1


def test_make_knows_when_the_set_up_is_fresh(clone, python, tmp_path):
    stamps = [".venv/lab", ".venv/test", ".venv/site", ".venv-parity/done"]
    assert run(clone, "make", "-q", *stamps).returncode == 1
    for i, stamp in enumerate(stamps):
        (clone / stamp).parent.mkdir(exist_ok=True)
        (clone / stamp).touch()
        later = (clone / "pyproject.toml").stat().st_mtime + 100 + i
        os.utime(clone / stamp, (later, later))
    assert run(clone, "make", "-q", *stamps).returncode == 0
    for target in ("lab", "test", "build", "dev-check", "parity", "site"):
        assert "tools/setup" not in run(clone, "make", "-n", target).stdout
    os.utime(clone / "pyproject.toml", (later + 100, later + 100))
    for stamp in stamps:
        assert run(clone, "make", "-q", stamp).returncode == 1


def test_failed_set_up_counts_for_nothing(clone, python):
    (python.parent / "offline").touch()
    done = run(clone, "make", "lab", f"PYTHON={python}")
    assert done.returncode != 0 and not (clone / ".venv" / "lab").exists()
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(lines) == 1 and lines[0].startswith("circuits: the installation failed")


# The sandbox finds Python's packages ------------------------------------------------------------

SANDBOX = """
import sys
from circuits.grading import sandbox

command = sandbox.room_command
if "without" in sys.argv:  # as if the packages lay where nobody thought of
    packages = sys.argv[2]
    def room_command(fd):
        words = command(fd)
        at = words.index(packages)
        return words[: at - 1] + words[at + 2 :]
    sandbox.room_command = room_command
with sandbox.Sandbox(optimizers=False) as made:
    print(made.problem)
"""


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """The Python of an environment that has its packages by a path file, as on many shared machines."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True, timeout=PATIENCE)
    python = tmp_path / "env" / "bin" / "python"
    site = run(tmp_path, python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    Path(site, "shared.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    return python


def test_answers_compute_in_the_sandbox_where_packages_come_by_a_path_file(elsewhere, tmp_path):
    assert run(tmp_path, elsewhere, "-c", SANDBOX).stdout == "None\n"


def test_a_sandbox_in_which_answers_cannot_compute_is_none(elsewhere, tmp_path):
    done = run(tmp_path, elsewhere, "-c", SANDBOX, "without", sysconfig.get_path("purelib"))
    assert done.stdout.startswith("answers cannot compute in it (ImportError: "), done.stdout + done.stderr


# One installation, many users ----------------------------------------------------------------

HIDDEN = """
from circuits import check
from utils import Config
import utils
print(utils.__file__)
"""
# What a learner does: answers, checks, is shown the map, asks for the answer, loads text and a model.
LEARN = """
import sys
from circuits import check, progress, reveal
from utils import load_corpus, load_model
from utils.errors import CourseError
print(repr(progress()))
print(check("direct_path", {"direct_path": lambda W_E, W_U: W_E @ W_U}).summary())
load_corpus(sys.argv[1]), load_model("zero_layer"), reveal("direct_path")
"""


@pytest.mark.parametrize("first", ["", "import utils; assert utils.mine"])
@pytest.mark.parametrize("name", ["utils.py", "utils/__init__.py"])
def test_a_learners_own_utils_does_not_hide_the_courses(tmp_path, name, first):
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine = True")
    done = run(tmp_path, sys.executable, "-c", first + HIDDEN, PYTHONPATH=str(ROOT))
    assert Path(done.stdout.strip()) == ROOT / "utils" / "__init__.py"
    assert done.stderr == f"circuits: `utils` is the course's here, not your {mine}; rename yours to use it.\n"


@pytest.mark.proof
def test_two_users_share_an_installation_that_neither_can_write(tmp_path):
    """Each sees their own progress, and nobody needs to write anywhere but at home."""
    text = tmp_path / "text"
    text.mkdir()
    for i in range(80):
        (text / f"part_{i}.py").write_text(f"def f_{i}(x):\n    return x + {i}\n\n\n" * 25)
    kept = ("PATH", "LANG", "OMP_NUM_THREADS")
    for user in ("anna", "ben"):
        home = tmp_path / user
        home.mkdir()
        room = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--bind", home, home]
        done = subprocess.run(
            [*room, "--chdir", home, "--", sys.executable, "-c", LEARN, text], capture_output=True, text=True,
            timeout=PATIENCE,
            env={k: v for k, v in os.environ.items() if k in kept} | {"HOME": str(home), "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0 and done.stderr == "", done.stderr
        assert "○ direct_path" in done.stdout and "✓ direct_path" not in done.stdout, "somebody else's"
        assert "direct_path: 3 of 3 points" in done.stdout
        (line,) = (home / ".local/share/circuits/.progress.jsonl").read_text().split("\n")[1:-1]
        assert {"exercise": "direct_path", "points": 3, "max_points": 3}.items() <= json.loads(line).items()
        assert list((home / ".cache" / "circuits").iterdir())


# What a clone consists of --------------------------------------------------------------------


@pytest.fixture(scope="module")
def committed() -> dict[str, bytes]:
    """Every file that is committed, or would be, by its path."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    ).stdout
    files = {name: ROOT / name for name in listed.decode().split("\0") if name}
    return {name: file.read_bytes() for name, file in files.items() if file.is_file()}


def test_licence_says_what_is_under_which(committed):
    text = committed["LICENSE"].decode()
    assert text.startswith("MIT License\n") and PROJECT["project"]["license"] == "MIT"
    terms, ours = text.split("\n----\n")
    assert "Permission is hereby granted, free of charge" in terms and "WITHOUT WARRANTY" in terms
    for part in ("code", "utils/checkpoints", "prose", "CC BY 4.0", "creativecommons.org"):
        assert part in ours


def test_no_file_knows_where_it_was_written(committed):
    here = {str(ROOT)}
    if ROOT.parent not in {Path(p) for p in ("/", "/home", "/opt", "/srv", tempfile.gettempdir())}:
        here.add(str(ROOT.parent))
    for name, data in committed.items():
        for folder in here:
            found = re.search(rb"(?<![\w.])" + re.escape(folder.encode()) + rb"(?![\w.-])", data)
            assert not found, f"{name} names {folder}"


def test_no_file_names_a_package_index(committed):
    hosts = ["pypi" + ".org", "python" + "hosted.org", "ana" + "conda.org", "pytorch" + ".org/whl"]
    options = ["index-" + "url", "find-" + "links", "PIP_" + "INDEX"]
    for name, data in committed.items():
        for word in hosts + options:
            assert word.encode() not in data, f"{name} says {word}"


def test_notebooks_are_committed_without_results(committed):
    notebooks = [name for name in committed if name.endswith(".ipynb")]
    assert len(notebooks) >= 1
    for name in notebooks:
        cells = json.loads(committed[name])["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert code and all(c["outputs"] == [] and c["execution_count"] is None for c in code), name


def test_nothing_made_on_the_way_is_committed(committed):
    assert {"LICENSE", "Makefile", "pyproject.toml", "utils/model.py"} <= set(committed)
    made = r"(^|/)(\.venv|__pycache__|\.ipynb_check|trained|submitted|gradebook\.db)|\.part$|\.pyc$"
    assert not [name for name in committed if re.search(made, name)]
    sources = [name for name in committed if name.startswith("solutions/")]
    assert sources and all(name.endswith(".py") for name in sources)
