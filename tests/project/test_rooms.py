"""Where things may live: which part of the project may import which, read from the source."""

import ast
from pathlib import Path

import pytest

from circuits.chapters import ROOT

OURS = ("utils", "circuits")


def imports(file: Path) -> set[str]:
    """Every module of ours that a file imports, also inside functions: `from circuits import limits`
    and `import circuits.limits` both as "circuits.limits"."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: write imports in full"
            for alias in node.names:
                below = Path(ROOT, *node.module.split("."), f"{alias.name}.py")
                found.add(f"{node.module}.{alias.name}" if below.exists() else node.module)
    return {name for name in found if name.split(".")[0] in OURS}


FILES = {file.relative_to(ROOT): imports(file) for name in OURS for file in (ROOT / name).rglob("*.py")}


def in_room(*parts: str) -> dict[Path, set[str]]:
    """The files below a folder, or the one file, with what they import."""
    return {file: names for file, names in FILES.items() if file.parts[: len(parts)] == parts}


def below(names: set[str], *rooms: str) -> set[str]:
    return {name for name in names if any(name == r or name.startswith(f"{r}.") for r in rooms)}


@pytest.mark.parametrize("file", in_room("utils"), ids=str)
def test_what_a_learner_reads_knows_nothing_of_the_course(file):
    assert not below(FILES[file], "circuits")


def test_the_model_stands_alone():
    assert FILES[Path("utils", "model.py")] == set()


@pytest.mark.parametrize("room, other", [("figures", "materials"), ("materials", "figures")])
def test_materials_and_figures_do_not_need_each_other(room, other):
    files = in_room("utils", room)
    assert len(files) > 2
    for file, names in files.items():
        assert not below(names, f"utils.{other}"), file


def test_no_two_materials_need_each_other():
    for file, names in in_room("utils", "materials").items():
        assert not below(names, "utils.materials"), file


FLOORS = [  # each may import those before it
    {"circuits.limits", "circuits.results"},
    {"circuits.checking"},
    {"circuits.grading"},
]


@pytest.mark.parametrize("floor", range(len(FLOORS)))
def test_grading_stands_on_checking_and_checking_on_results_and_limits(floor):
    above = set().union(*FLOORS[floor + 1 :])
    for room in FLOORS[floor]:
        parts = room.split(".")
        files = in_room(*parts) or in_room(*parts[:-1], f"{parts[-1]}.py")
        assert files, room
        for file, names in files.items():
            assert not below(names, *above), file


def test_inputs_of_checks_need_the_model_alone():
    assert FILES[Path("circuits", "inputs.py")] == {"utils.model"}


def test_only_the_command_reaches_for_grading():
    users = {file for file, names in FILES.items() if below(names, "circuits.grading")}
    outside = {str(file) for file in users if file.parts[:2] != ("circuits", "grading")}
    assert outside <= {"circuits/cli.py", "circuits/verify.py"}


def test_a_learner_can_read_what_notebooks_import():
    lines = sum(len((ROOT / file).read_text("utf-8").splitlines()) for file in in_room("utils"))
    assert lines < 3000
