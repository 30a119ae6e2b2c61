"""The course in JupyterLab, in a real browser: what `make lab` opens, headless Chromium shows."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time

import pytest
from conftest import PATIENCE, answered, proven_elsewhere, reference

from circuits.chapters import ROOT, chapters

pytestmark = pytest.mark.browser
WRONG = "1_bigrams", "bigram_counts"  # the chapter and exercise of a wrong answer


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab as `make lab` starts it, on a copy of the notebooks: (address, folder)."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    for chapter in chapters():
        file = folder / "notebooks" / chapter.name
        full = answered(chapter, reference(chapter))
        (file / "reference.ipynb").write_text(json.dumps(full))
        if chapter.name == WRONG[0]:
            wrong = reference(chapter)[WRONG[1]].replace("return ", "return 0 * ")
            (file / "wrong.ipynb").write_text(json.dumps(answered(chapter, {WRONG[1]: wrong})))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = os.environ | {
        "NBGRADER_EXECUTION": "validate",  # leave the progress of whoever runs this alone
        "CIRCUITS_QUICK": "1",  # chapter 3's two trainings take minutes: a few steps of each show that they run
    }
    options = [
        "--no-browser", "--expose-app-in-browser", f"--ServerApp.root_dir={folder}",
        "--IdentityProvider.token=", "--ServerApp.password=",
    ]
    log = open(folder / "lab.log", "w")
    server = subprocess.Popen(
        [sys.executable, "-m", "circuits.cli", "lab", "--port", str(port), *options],
        cwd=ROOT, env=env, stdout=log, stderr=log,
    )
    try:
        for _ in range(PATIENCE * 5):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, (folder / "lab.log").read_text()
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
    path = f"notebooks/{chapter.name}/reference.ipynb"
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
    path = f"notebooks/{WRONG[0]}/wrong.ipynb"
    cells = run_notebook(page, lab, path)
    check = next(c for c in cells if c["metadata"].get("nbgrader", {}).get("grade"))
    report = page.locator(".jp-OutputArea-output", has_text="0 of 3 points").first
    report.scroll_into_view_if_needed()
    report.wait_for(state="visible")
    assert "✗" in report.text_content() and "should be" in report.text_content()
    assert check["outputs"][0]["data"]["text/plain"] == ["0"]


def test_lab_opens_on_the_notebooks(lab, page):
    page.goto(f"{lab[0]}/lab/tree/notebooks?reset")
    page.wait_for_selector(".jp-DirListing-item")
    assert re.search("1_bigrams", page.locator(".jp-DirListing-content").inner_text())
