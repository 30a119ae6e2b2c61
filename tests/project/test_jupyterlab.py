"""The course in JupyterLab, in a real browser: what `make lab` opens, headless Chromium shows."""

import json
import os
import re
import socket
import subprocess
import sys
import time

import pytest
from conftest import PATIENCE, answered, proven_elsewhere, reference

from circuits.chapters import chapters
from circuits.learners_copy import prepare

pytestmark = pytest.mark.browser
WRONG = "1_bigrams", "bigram_counts"  # the chapter and exercise of a wrong answer


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab as `circuits lab` starts it, on a copy that has some more notebooks: (address, folder)."""
    folder = tmp_path_factory.mktemp("lab") / "work"
    prepare(folder)
    for chapter in chapters():
        file = folder / chapter.name
        full = answered(chapter, reference(chapter))
        (file / "reference.ipynb").write_text(json.dumps(full))
        if chapter.name == WRONG[0]:
            wrong = reference(chapter)[WRONG[1]].replace("return ", "return 0 * ")
            (file / "wrong.ipynb").write_text(json.dumps(answered(chapter, {WRONG[1]: wrong})))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    # Chapter 3's two trainings take minutes: a few steps of each show that they run.
    env = os.environ | {"CIRCUITS_QUICK": "1"}
    options = ["--no-browser", "--IdentityProvider.token=", "--ServerApp.password="]
    log = open(folder.parent / "lab.log", "w")
    server = subprocess.Popen(
        [sys.executable, "-m", "circuits.cli", "lab", str(folder), "--port", str(port), *options],
        env=env, stdout=log, stderr=log,
    )
    try:
        for _ in range(PATIENCE * 5):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, (folder.parent / "lab.log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", folder
    finally:
        server.terminate()
        server.wait(PATIENCE)
        log.close()


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    page.set_default_timeout(1000 * PATIENCE)
    yield page
    page.close()


# All in the page: JupyterLab says itself when the notebook and its kernel are ready.
OPEN = """async (path) => {
  const app = window.jupyterapp;
  await app.restored;
  const widget = await app.commands.execute('docmanager:open', {path, factory: 'Notebook'});
  await widget.context.ready;
  await widget.sessionContext.ready;
  await widget.sessionContext.session.kernel.info;
  app.shell.activateById(widget.id);
}"""
RUN_AND_SAVE = """async () => {
  await window.jupyterapp.commands.execute('notebook:run-all-cells');
  await window.jupyterapp.shell.currentWidget.context.save();
}"""


def run_notebook(page, lab, path: str) -> list[dict]:
    """Open a notebook, run all cells, save, and return the cells of the saved notebook."""
    page.goto(f"{lab[0]}/lab?reset")
    page.wait_for_function("window.jupyterapp !== undefined")
    page.evaluate(OPEN, path)
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.evaluate(RUN_AND_SAVE)
    return json.loads((lab[1] / path).read_text())["cells"]


def errors(cells: list[dict]) -> list[str]:
    outputs = [o for c in cells if c["cell_type"] == "code" for o in c["outputs"]]
    return [f"{o['ename']}: {o['evalue']}" for o in outputs if o["output_type"] == "error"]


@pytest.mark.parametrize("chapter", proven_elsewhere())
def test_a_chapter_runs_from_top_to_bottom_with_reference_answers(chapter, lab, page):
    path = f"{chapter.name}/reference.ipynb"
    cells = run_notebook(page, lab, path)
    assert errors(cells) == []
    code = [c for c in cells if c["cell_type"] == "code"]
    assert all(c["execution_count"] for c in code), "some cell did not run"
    texts = [
        (o["name"], "".join(o["text"])) for c in code for o in c["outputs"] if o["output_type"] == "stream"
    ]
    assert [text for name, text in texts if name == "stderr"] == []
    for c in code:
        nbgrader = c["metadata"].get("nbgrader", {})
        if nbgrader.get("grade"):
            assert float(c["outputs"][0]["data"]["text/plain"][0]) == nbgrader["points"], nbgrader
    assert sum("image/png" in o.get("data", {}) for c in code for o in c["outputs"]) >= 5


def test_a_wrong_answer_is_told_what_is_wrong_on_the_page(lab, page):
    path = f"{WRONG[0]}/wrong.ipynb"
    cells = run_notebook(page, lab, path)
    check = next(c for c in cells if c["metadata"].get("nbgrader", {}).get("grade"))
    report = page.locator(".jp-OutputArea-output", has_text="0 of 3 points").first
    report.scroll_into_view_if_needed()
    report.wait_for(state="visible")
    assert "✗" in report.text_content() and "should be" in report.text_content()
    assert check["outputs"][0]["data"]["text/plain"] == ["0"]


RUN_CELL = """async ([code, name]) => {
  const app = window.jupyterapp, panel = app.shell.currentWidget, notebook = panel.content;
  const at = notebook.widgets.findIndex(cell => cell.model.getMetadata('nbgrader')?.grade_id === name);
  notebook.activeCellIndex = at;
  await app.commands.execute('notebook:insert-cell-below');
  notebook.activeCell.model.sharedModel.setSource(code);
  await app.commands.execute('notebook:run-cell');
}"""
SOURCE_OF = """(name) => {
  const cells = Array.from(window.jupyterapp.shell.currentWidget.content.model.cells);
  return cells.find(cell => cell.getMetadata('nbgrader')?.grade_id === name).sharedModel.getSource();
}"""
TYPE = """([name, code]) => {
  const cells = Array.from(window.jupyterapp.shell.currentWidget.content.model.cells);
  cells.find(cell => cell.getMetadata('nbgrader')?.grade_id === name).sharedModel.setSource(code);
}"""


def run_below(page, name: str, code: str) -> None:
    """Run code in a new cell below one of the course's."""
    page.evaluate(RUN_CELL, [code, name])


def open_notebook(page, lab, path: str) -> None:
    page.goto(f"{lab[0]}/lab?reset")
    page.wait_for_function("window.jupyterapp !== undefined")
    page.evaluate(OPEN, path)
    page.wait_for_selector(".jp-Notebook .jp-Cell")


def test_reveal_and_reset_write_into_the_open_notebook_and_lose_nothing(lab, page):
    """Also what was typed and not saved yet; and nothing is written again when the notebook is opened again."""
    path, name, mine = "1_bigrams/bigrams.ipynb", "direct_path", "def direct_path(W_E, W_U):\n    return 'mine, not saved'"
    open_notebook(page, lab, path)
    run_below(page, "setup", "from circuits import check, reset, reveal")
    stub = page.evaluate(SOURCE_OF, name)
    page.evaluate(TYPE, [name, mine])
    run_below(page, f"check_{name}", f'reveal("{name}")')
    page.get_by_text("It is in its cell above, marked as the course's").wait_for()
    revealed = page.evaluate(SOURCE_OF, name)
    assert revealed.startswith(f'# The course\'s answer, by reveal("{name}").\ndef {name}(') and "NotImplemented" not in revealed
    until = time.monotonic() + PATIENCE
    while not (kept := list((lab[1] / ".history" / "answers").glob(f"{name} *.py"))):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert [file.read_text() for file in kept] == [mine]
    assert '"revealed": true' in (lab[1] / ".progress.jsonl").read_text()

    page.evaluate(TYPE, [name, revealed + "\n# and a note of mine"])
    run_below(page, f"check_{name}", f'reset("{name}")')
    page.get_by_text("Its cell above is as it was at first").wait_for()
    assert page.evaluate(SOURCE_OF, name) == stub
    page.evaluate(TYPE, [name, mine])
    page.evaluate("async () => await window.jupyterapp.shell.currentWidget.context.save()")
    assert page.locator(".jp-Dialog").count() == 0, "JupyterLab has nothing to ask"
    open_notebook(page, lab, path)
    page.wait_for_timeout(1000)
    assert page.evaluate(SOURCE_OF, name) == mine, "an output that is shown again writes nothing"
