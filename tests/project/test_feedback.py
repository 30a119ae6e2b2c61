"""What an instructor and a learner see of a submission in a browser: feedback pages and formgrader.
Everything is shown, nothing of it runs."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PATIENCE, answered, hand_in, reference
from test_batch import grade, points, scores

from circuits.chapters import Chapter, exercise_of

pytestmark = pytest.mark.browser
CHAPTER = Chapter("1_bigrams")
REFERENCE = reference(CHAPTER)

RUNS = "window.top.ran = true; document.title = 'ran'; fetch('http://127.0.0.1:9/ran')"
HTML = (
    f"<script>{RUNS}</script><img src=x onerror=\"{RUNS}\"><svg onload=\"{RUNS}\"></svg>"
    f"<iframe srcdoc='<script>{RUNS}</script>'></iframe><a href=\"javascript:{RUNS}\">click</a>"
    "</code></pre></div></td></table>--><style>body{display:none}</style>"
)
# In code, in the name and text of an exception, in what is returned, in what is printed.
HOSTILE = {
    "bigram_counts": f'"""{HTML}"""\n# {HTML}\n\ndef bigram_counts(tokens, d_vocab):\n    return {HTML!r}\n',
    "direct_path": f"""
def direct_path(W_E, W_U):
    raise type({HTML!r}, (Exception,), {{}})({HTML!r})  # {HTML}
""",
    "top_next": f"def top_next(model, token, k):\n    print({HTML!r})\n    return [{HTML!r}] * k\n",
    "mean_kl": f"class X(str): pass\nX.__name__ = {HTML!r}\ndef mean_kl(p, q, weights): return X({HTML!r})\n",
    "sample": f"def sample(*args): return {{{HTML!r}: 1}}\n",
    "zero_layer_logits": f"{{{HTML!r}}}\nraise {HTML!r}\n",
}


def hostile_notebook() -> dict:
    """A submission in which everything that can hold a script holds one."""
    notebook = answered(CHAPTER, HOSTILE)
    bundle = {"text/html": HTML, "image/svg+xml": f"<svg xmlns='http://www.w3.org/2000/svg' onload=\"{RUNS}\"/>",
              "application/javascript": RUNS, "text/markdown": HTML, "text/plain": "100", "text/latex": HTML}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [
                {"output_type": "display_data", "data": bundle, "metadata": {}},
                {"output_type": "error", "ename": HTML, "evalue": HTML, "traceback": [HTML]},
            ]
            cell["metadata"]["tags"] = ["skip-execution", HTML]
        else:
            cell["source"] = HTML
            cell["attachments"] = {"a.svg": {"image/svg+xml": HTML}}
        if exercise_of(cell) is None:
            cell["metadata"]["nbgrader"] = None
    notebook["cells"].append({"cell_type": "raw", "source": HTML, "metadata": {"format": "text/html"}})
    notebook["metadata"]["title"] = HTML
    notebook["metadata"]["kernelspec"] = {"name": HTML, "display_name": HTML, "language": HTML}
    return notebook


@pytest.fixture(scope="module")
def graded(released, nbgrader, tmp_path_factory):
    """A course with a hostile and two honest submissions, graded, with feedback for one of each."""
    root = shutil.copytree(released, tmp_path_factory.mktemp("feedback") / "class")
    hand_in(root, "hostile", CHAPTER, hostile_notebook())
    (root / "submitted" / "hostile" / CHAPTER.name / "bigrams.html").write_text(HTML)
    (root / "submitted" / "hostile" / CHAPTER.name / "extra.svg").write_text(HTML)
    wrong = "def direct_path(W_E, W_U):\n    return W_U @ W_E"
    hand_in(root, "honest", CHAPTER, answered(CHAPTER, {**REFERENCE, "direct_path": wrong}))
    grade(root)
    nbgrader(root, "generate_feedback", CHAPTER.name)
    return root


def feedback(root: Path, student: str) -> Path:
    return root / "feedback" / student / CHAPTER.name / f"{CHAPTER.notebook_name}.html"


@pytest.fixture
def page(browser):
    """A page that remembers what ran in it and what it asked for."""
    page = browser.new_page()
    page.asked, page.dialogs = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("dialog", lambda dialog: (page.dialogs.append(dialog.message), dialog.dismiss()))
    yield page
    page.close()


def assert_nothing_ran(page) -> None:
    page.wait_for_timeout(1500)
    assert page.evaluate("window.top.ran") is None and page.title() != "ran"
    assert not page.dialogs and not [url for url in page.asked if ":9/" in url]
    handlers = "[...document.querySelectorAll('*')].filter(e => [...e.attributes].some(a => "
    handlers += "/window\\.top\\.ran/.test(a.value))).length"
    assert page.evaluate(handlers) == 0
    assert page.evaluate("getComputedStyle(document.body).display") != "none"


@pytest.mark.proof
def test_the_hostile_submission_gains_nothing(graded):
    assert points(graded)["hostile"] == 0


@pytest.mark.proof
def test_nothing_of_a_submission_runs_in_a_feedback_page(graded, page):
    page.goto(feedback(graded, "hostile").as_uri())
    assert_nothing_ran(page)
    assert "onerror=" in page.inner_text("body"), "the code is shown, as text"


@pytest.mark.proof
def test_no_file_of_a_submission_but_its_code_goes_anywhere(graded):
    for kind in ("autograded", "feedback"):
        files = {f.name for f in (graded / kind / "hostile").rglob("*") if f.is_file()}
        assert files <= {CHAPTER.notebook.name, f"{CHAPTER.notebook_name}.html"}


@pytest.mark.proof
def test_feedback_shows_every_check_with_result_message_and_hint_and_no_code_of_the_checks(graded, page):
    page.goto(feedback(graded, "honest").as_uri())
    text = page.inner_text("body")
    checks = [check for name in CHAPTER.exercise_names for check in CHAPTER.checks(name)]
    for check in checks:
        name = check.__name__.removeprefix("test_").replace("_", " ")
        assert f"✓ {name}" in text or f"✗ {name}" in text, name
    assert text.count("✗") == len([c for c in checks if c.exercise == "direct_path"])
    assert "Hint" in text and page.locator("math").count() > 20, "formulas are set, without a network"
    assert "d_vocab" in text and "yours" in text, "a message says what was wrong"
    source = CHAPTER.checks_file.read_text("utf-8")
    for line in {line.strip() for line in source.splitlines() if len(line.strip()) > 40}:
        assert line not in text
    for code in REFERENCE.values():  # only what this student wrote, and that is one's own
        assert "### BEGIN SOLUTION" in code


@pytest.fixture(scope="module")
def formgrader(graded):
    """A Jupyter server in the course's folder, as an instructor starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if k != "NBGRADER_EXECUTION"}
    with open(graded / "server.log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyter", "server", "--no-browser", "--allow-root", f"--port={port}",
             "--IdentityProvider.token=", "--ServerApp.password=", f"--ServerApp.root_dir={graded}"],
            cwd=graded, env=env, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                with socket.socket() as s:
                    if s.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/formgrader"
        finally:
            server.terminate()
            server.wait(20)


@pytest.mark.proof
def test_nothing_of_a_submission_runs_in_formgrader(graded, formgrader, page):
    page.goto(f"{formgrader}/gradebook/{CHAPTER.name}/{CHAPTER.notebook_name}")
    page.wait_for_selector("text=Submission #1")
    links = page.eval_on_selector_all("a", "links => links.map(a => a.href)")
    shown = 0
    for link in sorted({link for link in links if "/submissions/" in link}):
        page.goto(link)
        page.wait_for_selector("text=top_next")
        assert_nothing_ran(page)
        shown += "onerror=" in page.inner_text("body")
    assert shown == 1
    page.goto(f"{formgrader}/manage_submissions/{CHAPTER.name}")
    page.wait_for_selector("text=hostile")
    assert_nothing_ran(page)


@pytest.mark.proof
def test_formgraders_button_gives_the_marks_of_the_batch(graded, formgrader, page):
    batch = scores(graded)
    half = {name: REFERENCE[name] for name in list(REFERENCE)[:2]}
    hand_in(graded, "late", CHAPTER, answered(CHAPTER, half))
    page.goto(f"{formgrader}/manage_submissions/{CHAPTER.name}")
    for student in ("late", "honest"):
        row = page.locator("tr", has=page.get_by_text(student, exact=True))
        row.locator(".autograde a").click()
        page.wait_for_selector("text=Success", timeout=1000 * PATIENCE)
        page.locator(".modal.show button, .modal.in button").last.click()
        page.wait_for_timeout(800)
    after = scores(graded)
    assert {k: v for k, v in after.items() if k[0] != "late"} == batch
    assert points(graded)["late"] == sum(CHAPTER.exercises[name] for name in half)
    grade(graded, "--regrade")
    assert scores(graded) == after


def test_the_report_in_a_learners_notebook_escapes_too():
    from circuits.checking import Submission
    from circuits.judging import run_checks
    from circuits.exercises import Report

    for name, code in HOSTILE.items():
        namespace: dict = {}
        try:
            exec(code, namespace)
        except BaseException:  # a cell that raises leaves its exercise undefined
            pass
        html = Report(run_checks(CHAPTER.checks(name), Submission(namespace)))._repr_html_()
        for tag in ("<script", "<img", "<svg", "<iframe", "<style", "<a "):
            assert tag not in html.lower()


def test_the_hostile_notebook_is_as_hostile_as_it_can_be(browser, page, tmp_path):
    """Converted without care, it does run: the tests above would see it."""
    from nbconvert import HTMLExporter

    file = tmp_path / "hostile.ipynb"
    notebook = hostile_notebook()
    for cell in notebook["cells"]:
        cell["metadata"].pop("nbgrader", None)
    notebook["metadata"].pop("kernelspec")
    file.write_text(json.dumps(notebook))
    html, _ = HTMLExporter().from_filename(str(file))
    (tmp_path / "hostile.html").write_text(html)
    page.goto((tmp_path / "hostile.html").as_uri())
    page.wait_for_timeout(1500)
    assert page.evaluate("window.top.ran") is True or page.title() == "ran"
