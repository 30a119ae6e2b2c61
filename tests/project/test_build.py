"""`notebooks/` is what `solutions/` builds to, byte for byte, and holds no answers."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from conftest import notebooks
from nbformat.v4 import new_code_cell

from circuits.build import _only_draw, build, source_notebook, write_sources
from circuits.chapters import ROOT, Chapter, chapters, exercise_of, read_cells, source
from utils.errors import CourseError

NEEDED = ("solutions", "notebooks", "tests", "nbgrader_config.py")


@pytest.fixture
def course(tmp_path):
    """A copy of all that building needs."""
    for name in NEEDED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_notebooks_are_what_solutions_build_to(course):
    committed = notebooks(course)
    shutil.rmtree(course / "notebooks")
    (course / "notebooks").mkdir()
    build(course)
    assert notebooks(course) == committed, "run `make build` and commit notebooks/"


def test_a_one_line_edit_is_a_small_diff(course):
    before = (course / "notebooks/1_bigrams/bigrams.ipynb").read_text().splitlines()
    script = Chapter("1_bigrams", course).source
    text = script.read_text()
    old = "# Divide a row by its sum and you have a distribution over the next token."
    assert old in text
    script.write_text(text.replace(old, "# Divide each row by its sum: a distribution over the next token."))
    build(course)
    after = (course / "notebooks/1_bigrams/bigrams.ipynb").read_text().splitlines()
    assert len(set(before) ^ set(after)) == 2


def test_a_new_cell_changes_no_id_outside_its_section(course):
    chapter = Chapter("1_bigrams", course)
    before = [cell.id for cell in source_notebook(chapter).cells]
    new = "# %% [markdown]\n# One more thing.\n\n# %% [markdown]\n# ## From counts to probabilities"
    text = chapter.source.read_text()
    chapter.source.write_text(text.replace("# %% [markdown]\n# ## From counts to probabilities", new))
    after = [cell.id for cell in source_notebook(chapter).cells]
    assert len(after) == len(before) + 1 and len(set(before) - set(after)) == 0


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('# %% check="direct_path"\ncheck("direct_path")', "", "one check cell after it"),
        ('# %% check="direct_path"', '# %% check="direct_pat"', "has no check"),
        ("    ### END SOLUTION\n\n# %% check=\"sample\"", "\n# %% check=\"sample\"", "could not release"),
    ],
)
def test_a_failed_build_leaves_the_notebooks_alone(course, old, new, message):
    committed = notebooks(course)
    script = Chapter("1_bigrams", course).source
    assert old in script.read_text()
    script.write_text(script.read_text().replace(old, new))
    with pytest.raises(CourseError, match=message):
        build(course)
    assert notebooks(course) == committed


def test_a_removed_chapter_leaves_the_notebooks(course):
    (course / "notebooks" / "9_gone").mkdir()
    (course / "notebooks" / "9_gone" / "gone.ipynb").write_text("{}")
    build(course)
    assert not (course / "notebooks" / "9_gone").exists()


def solve(cells: list[dict]) -> str:
    """As JupyterLab would, in the cell that asks."""
    cell = next(c for c in cells if exercise_of(c) == "direct_path")
    cell["source"] = ["def direct_path(W_E, W_U):\n", "    return W_E @ W_U\n", "    raise NotImplementedError()"]
    return r"answers \(direct_path\)"


def solve_elsewhere(cells: list[dict]) -> str:
    """In a cell that shows something, where the cell that asks is gone."""
    cells[:] = [c for c in cells if exercise_of(c) != "direct_path"]
    shows = next(c for c in cells if c["cell_type"] == "code" and "nbgrader" not in c["metadata"])
    shows["source"] = "def bigram_counts(tokens, d_vocab): ..."
    return r"answers \(bigram_counts\)"


def take_notes(cells: list[dict]) -> str:
    """In a cell of one's own, with an id as JupyterLab makes them."""
    note = {"cell_type": "markdown", "id": "0c5e8a6e-7d0a-4f0f-9c55-3f1f2a6c1d10", "metadata": {}, "source": "Aha."}
    cells.insert(3, note)
    return "1 cell of somebody's own"


def run(cells: list[dict]) -> None:
    """Which is done again in a minute, and may be lost."""
    for cell in cells:
        if cell["cell_type"] == "code":
            cell |= {"execution_count": 7, "outputs": [{"output_type": "stream", "name": "stdout", "text": "7"}]}
    cells.append({"cell_type": "code", "id": "5d1c0a9e", "metadata": {}, "source": "", "outputs": []})


@pytest.mark.parametrize("work", [solve, solve_elsewhere, take_notes, run])
def test_a_notebook_that_somebody_has_worked_in_is_not_overwritten(course, work):
    file = Chapter("1_bigrams", course).notebook
    notebook = json.loads(file.read_text())
    says = work(notebook["cells"])
    file.write_text(json.dumps(notebook))
    before = notebooks(course)
    if says is None:
        build(course)
        assert file.read_bytes() == Chapter("1_bigrams").notebook.read_bytes()
        return
    with pytest.raises(CourseError, match=f"bigrams.ipynb holds {says}, which would be lost: move it [^\n]*$"):
        build(course)
    assert notebooks(course) == before


@pytest.mark.parametrize("name, content", [("gone.ipynb", '{"cells": [{"metadata": '), ("notes.txt", "Aha.")])
def test_what_lies_in_the_folder_of_a_removed_chapter_is_not_lost(course, name, content):
    (course / "notebooks" / "9_gone").mkdir()
    (course / "notebooks" / "9_gone" / name).write_text(content)
    with pytest.raises(CourseError, match=f"9_gone/{name} holds what "):
        build(course)
    assert (course / "notebooks" / "9_gone" / name).read_text() == content


@pytest.mark.proof
def test_nbgraders_release_loses_nothing_either(course, nbgrader):
    """Not what is solved, not what lies beside a notebook, and not the old release if the new one fails."""
    chapter = Chapter("1_bigrams", course)
    (chapter.notebook.parent / "notes.txt").write_text("Aha.")
    committed = chapter.notebook.read_bytes()
    notebook = json.loads(committed)
    solve(notebook["cells"])
    chapter.notebook.write_text(json.dumps(notebook))
    solved = chapter.notebook.read_bytes()
    printed = nbgrader(course, "generate_assignment", chapter.name, "--force", ok=False)
    assert "holds answers (direct_path), which would be lost" in printed and "Traceback" not in printed
    assert chapter.notebook.read_bytes() == solved
    chapter.notebook.write_bytes(committed)
    nbgrader(course, "generate_assignment", chapter.name, "--force")
    assert chapter.notebook.read_bytes() == committed
    text = chapter.source.read_text()
    chapter.source.write_text(text.replace('    ### END SOLUTION\n\n# %% check="sample"', '\n# %% check="sample"'))
    nbgrader(course, "generate_assignment", chapter.name, "--force", ok=False)
    assert chapter.notebook.read_bytes() == committed
    assert (chapter.notebook.parent / "notes.txt").read_text() == "Aha."


def test_the_source_notebook_is_only_rewritten_when_it_changes(course):
    write_sources(course)
    file = course / "solutions/1_bigrams/bigrams.ipynb"
    before, text = file.stat().st_mtime_ns, file.read_bytes()
    write_sources(course)
    assert file.stat().st_mtime_ns == before
    for changed in ("solutions/1_bigrams/bigrams.py", "tests/checks/test_bigrams.py"):
        (course / changed).touch()
        file.write_text("{}")
        write_sources(course)
        assert file.read_bytes() == text
    file.write_text("{}")  # edited, where the script is what counts
    write_sources(course)
    assert file.read_bytes() == text


@pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
def test_the_release_holds_no_answer_and_no_output(chapter):
    cells = read_cells(chapter.notebook)
    text = chapter.notebook.read_text()
    assert "SOLUTION" not in text and "HIDDEN" not in text
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
        if exercise_of(cell):
            assert source(cell).rstrip().endswith("# YOUR CODE HERE\n    raise NotImplementedError()")
        if cell["metadata"].get("nbgrader", {}).get("grade"):
            assert len(source(cell).splitlines()) == 1
    assert [p.name for p in chapter.notebook.parent.iterdir() if p.suffix != ".ipynb"] == []


@pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
def test_every_exercise_says_how_hard_it_is_and_how_long_it_takes(chapter):
    cells = read_cells(chapter.notebook)
    for above, cell in zip(cells, cells[1:]):
        if exercise_of(cell):
            heading = source(above).splitlines()[0]
            assert heading.startswith("### Exercise · "), heading
            assert heading.count("●") + heading.count("○") == 3 and heading.endswith(" min"), heading


@pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
def test_the_stated_minutes_add_up(chapter):
    """What a chapter says that its exercises take is the sum of what they say; README says the same of the whole."""
    cells = [source(cell) for cell in read_cells(chapter.notebook)]
    said = re.search(r"\*\*Time\*\*: about (\d+) minutes, (\d+) of them for the exercises", cells[0])
    whole, exercises = int(said[1]), int(said[2])
    minutes = [int(n) for cell in cells for n in re.findall(r"^### Exercise · .* (\d+) min$", cell, re.MULTILINE)]
    assert sum(minutes) == exercises < whole
    assert f"({chapter.notebook.relative_to(ROOT).as_posix()}) | {whole} |" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
def test_ids_are_valid_and_unique(chapter):
    notebook = json.loads(chapter.notebook.read_text())
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids))
    assert all(0 < len(i) <= 64 and i.replace("-", "").replace("_", "").isalnum() for i in ids)


def test_an_exercise_takes_its_former_names_along(course):
    chapter = Chapter("1_bigrams", course)
    text = chapter.source.read_text()
    chapter.source.write_text(text.replace('exercise="sample"', 'exercise="sample" was="draw_text generate"'))
    build(course)
    assert next(t for t in chapter.tasks if t.name == "sample").former_names == ("draw_text", "generate")


MANY = "\n".join(f"plots.line(x, y + {i})" for i in range(6))


@pytest.mark.parametrize(
    "codes, folded",
    [
        ([MANY, "print(x)"], {0}),
        (["plots.line(x, y)"], set()),  # short
        ([MANY.replace("plots.", "")], set()),  # draws nothing
        ([f"y = x + 1\n{MANY}", "print(y)"], set()),  # what it makes is taken below
        ([f"y = x + 1\n{MANY}", "y = 2\nprint(y)"], {0}),  # that is another y
        ([f"y = x + 1\n{MANY}", "y = 2 * y"], set()),
        ([f"def f(): ...\n{MANY}", "for f in x:\n    print(f)"], {0}),
        ([f"def f(): ...\n{MANY}", "def g():\n    return f()"], set()),
        ([f"import math\n{MANY}", "math.pi"], set()),
    ],
)  # fmt: skip
def test_what_only_draws_is_what_makes_nothing_that_is_taken_below(codes, folded):
    assert _only_draw([new_code_cell(code) for code in codes]) == folded


@pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
def test_cells_that_only_draw_are_folded_and_no_others(chapter):
    cells = read_cells(chapter.notebook)
    folded = [c for c in cells if c["metadata"].get("jupyter", {}).get("source_hidden")]
    assert folded and not any("nbgrader" in c["metadata"] for c in folded)


def test_a_kernel_without_the_course_is_told_in_one_line_what_to_do(tmp_path):
    """In the set-up cell of every notebook, wherever it was taken to."""
    cells = read_cells(Chapter("1_bigrams").notebook)
    setup = source(next(c for c in cells if c["id"] == "setup"))
    code = f"""
import sys
sys.modules["circuits"] = sys.modules["torch"] = None
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell().run_cell({setup!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    shown = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert len(shown) == 1 and "choose the kernel Circuits" in shown[0], shown
