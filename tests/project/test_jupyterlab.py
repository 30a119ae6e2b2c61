"""The course in JupyterLab, in a real browser: what `make lab` opens, headless Chromium shows."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest
from conftest import PATIENCE, answered, proven_elsewhere, reference

from circuits import learners_copy
from circuits.arrival import write_page
from circuits.chapters import Chapter, chapters
from circuits.course_progress import Progress, remember
from circuits.learners_copy import MARK, STUDENTS, prepare

pytestmark = pytest.mark.browser
WRONG = "1_bigrams", "bigram_counts"  # the chapter and exercise of a wrong answer


def half(chapter: Chapter) -> dict[str, str]:
    """Every other answer of a chapter. In a learner's copy the reference stands in for the others."""
    return dict(list(reference(chapter).items())[::2])


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab as `circuits lab` starts it, on a copy that has some more notebooks: (address, folder)."""
    folder = tmp_path_factory.mktemp("lab") / "work"
    prepare(folder)
    for chapter in chapters():
        file = folder / chapter.name
        (file / "half.ipynb").write_text(json.dumps(answered(chapter, half(chapter))))
        if chapter.name == WRONG[0]:
            wrong = reference(chapter)[WRONG[1]].replace("return ", "return 0 * ")
            (file / "wrong.ipynb").write_text(json.dumps(answered(chapter, {WRONG[1]: wrong})))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    # Chapter 3's two trainings take minutes: a few steps of each show that they run.
    env = os.environ | {"CIRCUITS_QUICK": "1", "XDG_DATA_HOME": str(folder.parent / "home")}  # nobody's own progress comes in
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


SHUT_DOWN = "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }"


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
def test_run_all_of_a_chapter_that_is_half_solved(chapter, lab, page):
    """It reaches the end without a traceback. What is solved gets its points; for the rest the reference stands in, says so, and
    earns nothing. All figures are drawn."""
    path = f"{chapter.name}/half.ipynb"
    cells = run_notebook(page, lab, path)
    page.evaluate(SHUT_DOWN)  # a kernel holds a gigabyte or two, and nine would be left
    assert errors(cells) == []
    code = [c for c in cells if c["cell_type"] == "code"]
    assert all(c["execution_count"] for c in code), "some cell did not run"
    texts = [
        (o["name"], "".join(o["text"])) for c in code for o in c["outputs"] if o["output_type"] == "stream"
    ]
    assert [text for name, text in texts if name == "stderr"] == []
    points = {}
    for c in code:
        if c["metadata"].get("nbgrader", {}).get("grade"):
            name = c["metadata"]["nbgrader"]["grade_id"].removeprefix("check_")
            points[name] = float(c["outputs"][0]["data"]["text/plain"][0])
    assert points == {name: of if name in half(chapter) else 0 for name, of in chapter.exercises.items()}
    shown = [o["data"] for c in code for o in c["outputs"] if "data" in o]
    stands_in = {m[1] for data in shown if (m := re.match("`(.*)` is not written yet: what you see", "".join(data.get("text/plain", ""))))}
    assert stands_in and stands_in <= set(chapter.exercises) - set(half(chapter))
    # Every figure is shown in the course's own way, fits in the column and says what it shows; and the file is small.
    assert not any("image/png" in data or "<Axes" in "".join(data.get("text/plain", "")) for data in shown)
    pictures = [img for data in shown for img in re.findall(r"<img [^>]*>", "".join(data.get("text/html", "")))]
    assert len(pictures) >= 5
    for picture in pictures:
        assert len(re.search(r'alt="([^"]*)"', picture)[1]) > 30 and int(re.search(r'width="(\d+)"', picture)[1]) <= 850
    assert (lab[1] / path).stat().st_size < 3e6


def test_a_wrong_answer_is_told_what_is_wrong_on_the_page(lab, page):
    path = f"{WRONG[0]}/wrong.ipynb"
    cells = run_notebook(page, lab, path)
    check = next(c for c in cells if c["metadata"].get("nbgrader", {}).get("grade"))
    report = page.locator(".jp-OutputArea-output", has_text="0 of 3 points").first
    report.scroll_into_view_if_needed()
    report.wait_for(state="visible")
    assert "✗" in report.text_content() and "should be" in report.text_content()
    assert check["outputs"][0]["data"]["text/plain"] == ["0"]


def test_run_all_reaches_the_end_of_an_unsolved_notebook(lab, page):
    """In a class, where no reference answer stands in: JupyterLab goes on, and there is no traceback."""
    folder = lab[1] / "class" / WRONG[0]
    folder.mkdir(parents=True)
    (folder.parent / MARK).write_text(json.dumps({"version": f"1.0{STUDENTS}"}))
    (folder / "bigrams.ipynb").write_bytes((lab[1] / WRONG[0] / "bigrams.ipynb").read_bytes())
    cells = run_notebook(page, lab, f"class/{WRONG[0]}/bigrams.ipynb")
    assert errors(cells) == []
    code = [c for c in cells if c["cell_type"] == "code"]
    assert all(c["execution_count"] for c in code), "some cell did not run"
    shown = ["".join(o.get("data", {}).get("text/plain", "")) for c in code for o in c["outputs"]]
    assert sum(text.startswith("This cell needs `") for text in shown) >= 5


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


def test_a_learner_arrives_at_a_page_that_leads_into_the_course(lab, page):
    """With nothing beside it that is the instructor's; and the kernel is the course's."""
    start = where_one_arrives(lab[0])
    assert start.endswith("/lab/tree/Start%20here.md")
    page.goto(f"{start}?reset")
    page.get_by_role("heading", name="The chapters").wait_for()
    names = [item.split("\n")[0] for item in page.locator(".jp-DirListing-item").all_inner_texts()]
    of_another_test = ["class"]
    assert [name for name in names if name not in of_another_test] == [c.name for c in chapters()] + ["Start here.md"]
    assert "Nbgrader" not in page.locator(".lm-MenuBar").inner_text()
    assert page.get_by_text("Create Assignment").count() == 0
    page.get_by_role("link", name="Patching").click()
    page.get_by_role("heading", name="4 · Patching").wait_for()
    page.get_by_role("button", name="Circuits").first.wait_for()  # the toolbar, the status bar
    assert page.get_by_role("button", name="Validate").count() == 0


IN_SIGHT = """(name) => {
  const cells = window.jupyterapp.shell.currentWidget.content.widgets ?? [];
  const box = cells.find(cell => cell.model?.getMetadata?.('nbgrader')?.grade_id === name)?.node.getBoundingClientRect();
  return box && box.height > 0 && box.top > 0 && box.top < window.innerHeight;
}"""


def test_continue_leads_to_the_exercise_itself(lab, page):
    remember("split_heads", 1, 1, lab[1])
    write_page(lab[1])
    chapter, step = Progress(lab[1]).next()
    page.goto(f"{lab[0]}/lab/tree/Start%20here.md?reset")
    page.get_by_text("Continue with").get_by_role("link").click()
    page.get_by_role("tab", name=chapter.notebook.name).wait_for()
    page.wait_for_function(IN_SIGHT, arg=step.task.name)


def where_one_arrives(address: str) -> str:
    """Where the server sends who asks for nothing in particular."""
    with urlopen(address) as answer:
        return answer.url


def test_an_update_comes_into_what_was_written_in_the_browser(lab, page, tmp_path, monkeypatch):
    path, mine = "2_skip_trigrams/skip_trigrams.ipynb", "def causal_pattern(scores):\n    return scores  # mine"
    open_notebook(page, lab, path)
    page.evaluate(TYPE, ["causal_pattern", mine])
    run_below(page, "setup", "print('a cell of my own')")
    page.evaluate("async () => await window.jupyterapp.shell.currentWidget.context.save()")
    for chapter in chapters():
        file = tmp_path / "notebooks" / chapter.name / chapter.notebook.name
        file.parent.mkdir(parents=True)
        file.write_text(chapter.notebook.read_text("utf-8").replace("# 2 · Skip-trigrams:", "# 2 · Skip-trigrams, second edition:"), "utf-8")
    monkeypatch.setattr(learners_copy, "chapters", lambda: chapters(tmp_path))
    assert any("brought up to date: 1 cell new or changed" in line for line in prepare(lab[1]))
    open_notebook(page, lab, path)
    page.get_by_role("heading", name="second edition").wait_for()
    assert page.evaluate(SOURCE_OF, "causal_pattern") == mine
    sources = page.evaluate("() => Array.from(window.jupyterapp.shell.currentWidget.content.model.cells).map(c => c.sharedModel.getSource())")
    assert "print('a cell of my own')" in sources and page.get_by_text("a cell of my own").count() >= 1
    prepare(lab[1])


def test_the_page_follows_what_is_solved_while_it_is_open(lab, page):
    """And what was typed into it is not thrown away: it is left alone then."""
    code = "def top_next(model, token, k):\n    return (model.W_E[token] @ model.W_U).topk(k).indices"
    before = Progress(lab[1]).count("solved")
    page.goto(f"{lab[0]}/lab/tree/Start%20here.md?reset")
    page.get_by_text(f"{before} of ").first.wait_for()
    page.evaluate(OPEN, "1_bigrams/bigrams.ipynb")
    run_below(page, "setup", "from circuits import check\nimport torch")
    run_below(page, "top_next", code + "\ncheck('top_next')")
    page.get_by_text("3 of 3 points").first.wait_for()
    page.evaluate("async () => { await window.jupyterapp.commands.execute('docmanager:open', {path: 'Start here.md'}); }")
    page.get_by_text(f"{before + 1} of {sum(len(c.tasks) for c in chapters())} exercises solved").first.wait_for()


def test_an_html_export_shows_its_formulas_without_a_network(lab, page):
    """As *File*, *Save and Export Notebook As*, *HTML* asks for it."""
    page.goto(f"{lab[0]}/lab?reset")
    export = page.evaluate("async () => await (await fetch('/nbconvert/html/1_bigrams/bigrams.ipynb')).text()")
    assert export.count("<math") > 20


WATCH = """(cell) => {
  const top = node => node.getBoundingClientRect().top;
  const widgets = window.jupyterapp.shell.currentWidget.content.widgets;
  const at = widgets.findIndex(widget => widget.model.getMetadata('nbgrader')?.grade_id === cell);
  const [me, grows, next] = [widgets[at].node, widgets[at + 1].node, widgets[at + 2].node];
  window.seen = [];
  (function look() { window.seen.push([!!grows.querySelector('img'), top(me), top(next)]); requestAnimationFrame(look); })();
}"""
GROWS = """
from time import sleep
from circuits.interactive import LiveCurve
curve = LiveCurve("A curve that grows", "loss", every=0.2)
for step in range(30):
    curve.add(step, 5 / (1 + step))
    sleep(0.1)
curve.close()
"""


def test_nothing_jumps_while_a_curve_grows(lab, page):
    """What stands above stays where it is; what is below makes room once."""
    open_notebook(page, lab, "1_bigrams/bigrams.ipynb")
    run_below(page, "check_direct_path", GROWS)
    page.evaluate(WATCH, "check_direct_path")
    page.evaluate("async () => { await window.jupyterapp.commands.execute('notebook:run-cell'); }")  # the same again
    seen = page.evaluate("() => window.seen")
    above, below = [top for _, top, _ in seen], [top for there, _, top in seen if there]
    assert max(above) - min(above) <= 1 and len(below) > 30
    assert sum(abs(a - b) > 1 for a, b in zip(below, below[1:], strict=False)) <= 1, "it grows once, when the picture comes"
    page.evaluate("async () => await window.jupyterapp.shell.currentWidget.context.save()")
