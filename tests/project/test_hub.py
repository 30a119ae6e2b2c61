"""A class on JupyterHub: two students and an instructor, each in a browser, from release to feedback.

The hub has its simple spawner, which gives everybody a home and the same system user, and one installation
for all: the students' wheel.
"""

import json
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from conftest import PATIENCE, reference

from circuits.chapters import ROOT, Chapter

pytestmark = pytest.mark.proof
CHAPTER = Chapter("1_bigrams")
PASSWORD = "open to all of us"
SOLVED = {"anna": "bigram_counts", "ben": "direct_path"}  # by student, the exercise they solve

# What `main` has is the environment that runs this test; the hub's own has only the hub and the course.
HUB = """
c = get_config()
hub, proxy, api, folder, main = {settings}
c.JupyterHub.bind_url = f"http://127.0.0.1:{{proxy}}"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{{hub}}"
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{{api}}"
c.ConfigurableHTTPProxy.command = [f"{{folder}}/env/bin/configurable-http-proxy"]
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = "{password}"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = folder + "/homes/{{username}}"
c.Spawner.cmd = [f"{{folder}}/env/bin/jupyterhub-singleuser"]
c.Spawner.args = ["--allow-root", "--LabApp.expose_app_in_browser=True"]
c.Spawner.http_timeout = c.Spawner.start_timeout = {patience}
c.Spawner.environment = {{
    "JUPYTER_PATH": f"{{main}}/share/jupyter",
    "JUPYTERLAB_DIR": f"{{main}}/share/jupyter/lab",
    "JUPYTER_CONFIG_PATH": f"{{folder}}/settings:{{main}}/etc/jupyter",
}}
"""
# As docs/instructors.md has it, where all are one system user.
NBGRADER = """
import os
c = get_config()
c.Exchange.root = "{exchange}"
c.CourseDirectory.course_id = "circuits"
if os.environ["JUPYTERHUB_USER"] != "teacher":
    c.CourseDirectory.student_id = os.environ["JUPYTERHUB_USER"]
"""
# In JupyterLab: open a notebook, write answers, run them with set-up and checks, and save.
SOLVE = """async ([path, answers]) => {
  const app = window.jupyterapp;
  const widget = await app.commands.execute('docmanager:open', {path, factory: 'Notebook'});
  await widget.context.ready;
  await widget.sessionContext.ready;
  await widget.sessionContext.session.kernel.info;
  app.shell.activateById(widget.id);
  for (const [i, cell] of widget.content.widgets.entries()) {
    const name = (cell.model.getMetadata('nbgrader') || {}).grade_id || '';
    if (name in answers) cell.model.sharedModel.setSource(answers[name]);
    if (name == 'setup' || name.replace('check_', '') in answers) {
      widget.content.activeCellIndex = i;
      await app.commands.execute('notebook:run-cell');
    }
  }
  await widget.context.save();
}"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A running hub: its address and its folder, in which `homes/teacher` is a course."""
    folder = tmp_path_factory.mktemp("hub")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    site = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    ).strip()
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    constraints = ["--constraint", ROOT / "constraints.txt"]
    hub = ["jupyterhub>=5,<7", "configurable-http-proxy<1"]  # no part of the course: not every registry has them
    got = subprocess.run([*pip, *constraints, *hub], capture_output=True, text=True, timeout=PATIENCE)
    if got.returncode:
        pytest.skip(f"JupyterHub cannot be installed here: {got.stderr.strip().splitlines()[-1]}")
    wheel = subprocess.run(
        ["bash", ROOT / "tools" / "student-wheel", sys.executable], check=True, timeout=PATIENCE,
        capture_output=True, text=True,
    ).stdout.strip()
    subprocess.run([*pip, "--no-deps", ROOT / wheel], check=True, timeout=PATIENCE)
    Path(site, "needed.pth").write_text(sysconfig.get_path("purelib"))

    teacher, settings, exchange = folder / "homes" / "teacher", folder / "settings", folder / "exchange"
    for name in ("solutions", "notebooks", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "*.ipynb_*")
        shutil.copytree(ROOT / name, teacher / name, ignore=ignored)
    shutil.copy(ROOT / "nbgrader_config.py", teacher)
    settings.mkdir()
    exchange.mkdir()
    exchange.chmod(0o777)
    (settings / "nbgrader_config.py").write_text(NBGRADER.format(exchange=exchange))
    ports = []
    for _ in range(3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    (folder / "hub.py").write_text(
        HUB.format(settings=(*ports, str(folder), sys.prefix), password=PASSWORD, patience=PATIENCE)
    )
    env = {"PATH": f"{folder / 'env' / 'bin'}:/usr/bin:/bin", "HOME": str(folder)}
    with open(folder / "hub.log", "w") as log:
        process = subprocess.Popen(
            [python, "-m", "jupyterhub", "-f", "hub.py"], cwd=folder, env=env, stdout=log, stderr=log
        )
        try:
            for _ in range(PATIENCE * 5):
                if "JupyterHub is now running" in (folder / "hub.log").read_text():
                    break
                assert process.poll() is None, (folder / "hub.log").read_text()
                time.sleep(0.2)
            yield f"http://127.0.0.1:{ports[1]}", folder
        finally:
            process.terminate()  # it ends its proxy and everybody's server
            process.wait(PATIENCE)


@pytest.fixture
def enter(hub, browser):
    """Log in as somebody; returns their page, with JupyterLab on it."""
    address, _ = hub
    contexts = []

    def log_in(user: str):
        contexts.append(browser.new_context(viewport={"width": 1300, "height": 1000}))
        page = contexts[-1].new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(f"{address}/hub/login?next=%2Fhub%2Fspawn%2F{user}")
        page.fill("#username_input", user)
        page.fill("#password_input", PASSWORD)
        page.click("#login_submit")
        for _ in range(PATIENCE):  # until their server runs, the hub shows a page of its own
            page.goto(f"{address}/user/{user}/lab")
            if re.search(f"/user/{user}/lab", page.url):
                break
            page.wait_for_timeout(1000)
        page.wait_for_function("window.jupyterapp !== undefined")
        page.evaluate("window.jupyterapp.restored.then(() => true)")
        return page

    yield log_in
    for context in contexts:
        context.close()


def press(page, row: str, what: str) -> None:
    """Press one of formgrader's buttons in the row of an assignment or a student; it says Success."""
    page.locator("tr", has=page.get_by_text(row, exact=True)).locator(f".{what} a").first.click()
    page.wait_for_selector("text=Success")
    page.locator(".modal.show button, .modal.in button").last.click()
    page.wait_for_timeout(800)


def press_in_list(page, button: str, folder: Path, pattern: str) -> None:
    """Press a button of JupyterLab's assignment list, and wait for the file in a folder that must come of it."""
    page.evaluate("void window.jupyterapp.commands.execute('nbgrader:open-assignment-list')")
    page.get_by_role("button", name=button, exact=True).first.click()
    deadline = time.monotonic() + PATIENCE
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline, f"{button}: no {pattern} in {folder}"
        page.wait_for_timeout(200)


def test_a_class_on_a_hub_from_release_to_feedback(hub, enter):
    address, folder = hub
    name, file = CHAPTER.name, CHAPTER.notebook.name
    teacher = enter("teacher")
    formgrader = f"{address}/user/teacher/formgrader"
    teacher.goto(f"{formgrader}/manage_assignments")
    press(teacher, name, "assign")
    press(teacher, name, "release")

    for student, exercise in SOLVED.items():
        home = folder / "homes" / student
        page = enter(student)
        press_in_list(page, "Fetch", home, f"{name}/{file}")
        page.evaluate(SOLVE, [f"{name}/{file}", {exercise: reference(CHAPTER)[exercise]}])
        lines = (home / ".local/share/circuits/.progress.jsonl").read_text().splitlines()
        done = [json.loads(line) for line in lines if line]
        assert {d["exercise"] for d in done} == {exercise}, "their own, and only theirs"
        assert done[-1]["points"] == CHAPTER.exercises[exercise]
        press_in_list(page, "Submit", folder / "exchange" / "circuits" / "inbound", f"{student}+{name}+*")

    teacher.goto(f"{formgrader}/manage_assignments")
    press(teacher, name, "collect")
    teacher.goto(f"{formgrader}/manage_submissions/{name}")
    for student in SOLVED:
        press(teacher, student, "autograde")
    teacher.goto(f"{formgrader}/manage_assignments")
    press(teacher, name, "generate-feedback")
    press(teacher, name, "release-feedback")

    with sqlite3.connect(folder / "homes" / "teacher" / "gradebook.db") as db:
        scores = dict(db.execute("""
            select submitted_assignment.student_id, sum(grade.auto_score) from grade
            join submitted_notebook on submitted_notebook.id = grade.notebook_id
            join submitted_assignment on submitted_assignment.id = submitted_notebook.assignment_id
            group by submitted_assignment.student_id
        """).fetchall())
    assert scores == {student: CHAPTER.exercises[exercise] for student, exercise in SOLVED.items()}
    for student, exercise in SOLVED.items():
        feedback = folder / "homes" / student / name / "feedback"
        press_in_list(enter(student), "Fetch Feedback", feedback, "*/*.html")
        (shown,) = feedback.glob("*/*.html")
        text = shown.read_text("utf-8")
        assert "is not written yet" in text and "<b>not sandboxed</b>" not in text
