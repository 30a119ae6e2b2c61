"""Run All in a chapter of which nothing is solved reaches the end, and says calmly what is missing."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import nbformat
import pytest
from conftest import PATIENCE, proven_elsewhere
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

from circuits.chapters import Chapter
from circuits.learners_copy import MARK, STUDENTS, prepare

CHAPTER = Chapter("1_bigrams")


def without_tags(cells: list[dict]) -> None:
    """So that a cell that fails ends it all, as in VS Code, which does not know the tag."""
    for cell in cells:
        cell["metadata"].pop("tags", None)


def run_all(copy, chapter, change=without_tags) -> list[dict]:
    """The cells after all were run: a cell that fails must be tagged `raises-exception`."""
    file = copy / chapter.name / chapter.notebook.name
    notebook = nbformat.read(file, as_version=4)
    change(notebook.cells)
    env = {**os.environ, "CIRCUITS_QUICK": "1", "NBGRADER_EXECUTION": "validate", "OMP_NUM_THREADS": "1"}
    client = NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3", resources={"metadata": {"path": str(file.parent)}})
    client.execute(env=env)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def errors(cells: list[dict]) -> list[str]:
    return [f"{o['ename']}: {o['evalue']}" for c in cells for o in c["outputs"] if o["output_type"] == "error"]


def notes(cell: dict) -> list[str]:
    texts = [o["data"]["text/plain"] for o in cell["outputs"] if "data" in o]
    return [text for text in texts if re.search(r"^This cell needs|is not written yet: what", text)]


@pytest.fixture
def copy(tmp_path):
    prepare(tmp_path / "work")
    return tmp_path / "work"


# Other chapters: test_jupyterlab runs them all, half solved.
@pytest.mark.parametrize("chapter", [CHAPTER], ids=lambda c: c.name)
@pytest.mark.proof
def test_a_learner_sees_all_results_and_which_are_the_references(chapter, copy):
    cells = run_all(copy, chapter)
    assert errors(cells) == []
    assert all(cell["execution_count"] for cell in cells)
    said = [note for cell in cells for note in notes(cell)]
    assert said and not any("needs" in note for note in said)
    assert {re.match("`(.*)` is not", note)[1] for note in said} <= set(chapter.exercises)


@pytest.mark.parametrize("chapter", proven_elsewhere("1_bigrams"))
def test_a_student_is_told_what_each_cell_needs(chapter, copy):
    """In a class there are no reference answers."""
    (copy / MARK).write_text(json.dumps({"version": f"1.0{STUDENTS}"}))
    cells = run_all(copy, chapter)
    assert errors(cells) == [], "no traceback"
    said = [note for cell in cells for note in notes(cell)]
    assert said and all(re.fullmatch(r"This cell needs (`\w+`(, )?)+ above: write .*", note) for note in said)
    named = set(re.findall(r"`(\w+)`", " ".join(said)))
    assert named <= set(chapter.exercises)
    for cell in cells:
        if notes(cell):
            assert not any("image/png" in o.get("data", {}) for o in cell["outputs"]), "no empty figure beside it"
        if cell["metadata"].get("nbgrader", {}).get("grade"):
            assert cell["outputs"][0]["data"]["text/plain"] == "0"


# What a cell says in such a notebook, case by case --------------------------------------------


def said(copy, *codes: str, students: bool = True) -> list[list[str]]:
    """What each cell shows, of chapter 1's set-up and some others: code, or the name or id of a cell of the chapter."""
    if students:
        (copy / MARK).write_text(json.dumps({"version": f"1.0{STUDENTS}"}))
    new = nbformat.v4.new_code_cell

    def change(cells):
        stubs = {c["id"]: c["source"] for c in cells}
        setup = next(c for c in cells if c["id"] == "setup")
        cells[:] = [setup] + [new(stubs.get(code, code), metadata={"tags": ["raises-exception"]}) for code in codes]

    shown = []
    for cell in run_all(copy, CHAPTER, change)[1:]:
        outputs = [o.get("data", {}).get("text/plain") or o.get("text") or o["ename"] for o in cell["outputs"]]
        shown.append([re.sub(r"\x1b\[[\d;]*m", "", text).strip() for text in outputs])
    return shown


NEEDS = "This cell needs `{}` above: write it, run its cell, and run this one again."
CALL = "y = direct_path(torch.eye(2), torch.eye(2))"


def test_a_call_of_what_is_not_written_and_what_follows_from_it(copy):
    followed = "rows = corpus_rows = counts"  # `counts` is made in the chapter from `bigram_counts`
    half = "def sample(*args):\n    if args:\n        raise NotImplementedError()\n    return 1"
    got = said(copy, "direct_path", CALL, "positions_that_matter(3)", "bigram_counts", followed, half, "sample(1)", "sample()")
    assert got == [
        [], [NEEDS.format("direct_path")], [NEEDS.format("positions_that_matter")], [], [NEEDS.format("bigram_counts")],
        [], [NEEDS.format("sample")], ["1"],
    ]  # fmt: skip


def test_an_error_of_ones_own_is_shown_as_ever(copy):
    got = said(
        copy, "direct_path", "1 / 0", "no_such_name", "def direct_path(a, b):\n    return misspelled", CALL,
        "raise NotImplementedError('but said why')", "check('no_such')", "def direct_path(a, b):\n    return a @ b", CALL + "\ny[0, 0].item()",
    )  # fmt: skip
    assert [cell and cell[-1] for cell in got] == [
        [], "ZeroDivisionError", "NameError", [], "NameError", "NotImplementedError", "CourseError", [], "1.0",
    ]  # fmt: skip


def test_the_reference_stands_in_and_is_no_answer(copy):
    got = said(
        copy, "direct_path", CALL + "\ny[0, 0].item()", "check('direct_path')", "def direct_path(a, b):\n    return 2 * a @ b",
        CALL + "\ny[0, 0].item()", students=False,
    )  # fmt: skip
    note = "`direct_path` is not written yet: what you see here comes from the reference answer."
    assert got == [[], [note, "1.0"], ["0"], [], ["2.0"]]


def test_an_interrupted_cell_of_the_course_says_so_in_a_line(copy):
    """One of the learner's own shows where it stood, as ever: there may be a loop that never ends."""
    stop = "class shipped:\n    @staticmethod\n    def to_tokens(*args, **kwargs):\n        raise KeyboardInterrupt"
    got = said(copy, stop, "exercise-the-likeliest-next-tokens-4-min-2", "shipped.to_tokens()", "1 + 1")
    assert got[1][-1] == "Stopped in `to_tokens`. What was made before stays; run this cell again to begin it anew."
    assert got[2] == ["KeyboardInterrupt"] and got[3] == ["2"]


@contextmanager
def a_kernel() -> Iterator[tuple]:
    """A kernel, as (manager, client)."""
    kernel, client = start_new_kernel(kernel_name="python3")
    try:
        yield kernel, client
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


def test_a_check_that_takes_long_says_so_until_its_report_is_there():
    with a_kernel() as (_, client):
        client.execute_interactive("from circuits import exercises, check\nexercises.SLOW_SECONDS = 0.2", timeout=PATIENCE)
        slow = "import time\ndef direct_path(W_E, W_U):\n    time.sleep(0.5)\n    return W_E @ W_U"
        client.execute_interactive(f"{slow}\ncheck('direct_path')", timeout=PATIENCE, output_hook=lambda m: None)
        shown = []

        def see(message):
            shown.append(message["content"].get("data", {}).get("text/plain") or message["msg_type"])

        client.execute_interactive("check('direct_path')", timeout=PATIENCE, output_hook=see)
    assert [what for what in shown if what not in ("status", "execute_input")] == ["Checking `direct_path` ...", "clear_output", "3"]


def test_who_interrupts_run_all_stops_all_of_it():
    """Though cells are tagged so that a failed one does not end it; and what is run afterwards runs."""
    with a_kernel() as (kernel, client):
        client.execute_interactive("import circuits, time", timeout=PATIENCE)
        waits = "print('at work', flush=True)\nfor _ in range(600): time.sleep(0.1)"
        queued = [client.execute(code, stop_on_error=False) for code in (waits, "1 + 1", "2 + 2")]
        while client.get_iopub_msg(timeout=PATIENCE)["content"].get("text") != "at work\n":
            pass
        kernel.interrupt_kernel()
        ends = {}
        while len(ends) < 3:
            reply = client.get_shell_msg(timeout=PATIENCE)
            ends[reply["parent_header"]["msg_id"]] = reply["content"]["status"]
        assert [ends[id] for id in queued] == ["error", "aborted", "aborted"]
        assert client.execute_interactive("3 + 3", timeout=PATIENCE)["content"]["status"] == "ok"
