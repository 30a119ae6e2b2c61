"""`circuits grade`: a whole class, stopped at any moment, and the same gradebook in the end."""

import csv
import datetime
import itertools
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from conftest import HARMFUL, NAMES_OF_PEOPLE, PATIENCE, answered, hand_in, reference

from circuits.chapters import Chapter
from circuits.console import plain
from circuits.grading.batch import Batch
from circuits.grading.grader import Graded
from circuits.grading.records import Records, read_secret
from circuits.grading.tables import write_table
from circuits.results import CheckResult, Result
from utils.errors import CourseError

CHAPTER = Chapter("1_bigrams")
REFERENCE = reference(CHAPTER)
N = int(os.environ.get("CIRCUITS_LOAD", 12))  # submissions; `make load` grades 1,000
KILLS = 5
_COLOURS = re.compile(r"\x1b\[[\d;]*m|\x1b\(B")  # nbgrader's own, where it takes stderr for a terminal


def grade(root: Path, *args: str, ok: bool = True) -> str:
    patience = PATIENCE * max(1, N // 100)
    done = subprocess.run(command(*args), cwd=root, capture_output=True, text=True, timeout=patience)
    printed = done.stdout + done.stderr
    assert (done.returncode == 0) == ok, printed
    assert "Traceback" not in printed
    return printed


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "circuits.cli", "grade", CHAPTER.name, *args]


def some_answers(n: int, seed: int) -> dict[str, tuple[dict, float]]:
    """What students hand in, and the points it deserves: some exercises each, each right or not."""
    choose = random.Random(seed)
    handed_in = {}
    for i in range(n):
        names = choose.sample(list(REFERENCE), choose.randrange(4))
        given = {name: f"# {i}\n{REFERENCE[name]}" for name in names}
        for name in choose.sample([n for n in REFERENCE if n not in given], choose.randrange(3)):
            given[name] = f"def {name}(*args): return {i}"
        handed_in[f"student-{i:04}"] = answered(CHAPTER, given), sum(CHAPTER.exercises[n] for n in names)
    return handed_in


def scores(root: Path) -> dict[tuple[str, str], tuple]:
    """All that the gradebook says of marks: by student and cell, the scores."""
    query = """
        select student.id, base_cell.name, grade.auto_score, grade.manual_score, grade.needs_manual_grade
        from grade
        join base_cell on base_cell.id = grade.cell_id
        join submitted_notebook on submitted_notebook.id = grade.notebook_id
        join submitted_assignment on submitted_assignment.id = submitted_notebook.assignment_id
        join student on student.id = submitted_assignment.student_id
    """
    with sqlite3.connect(root / "gradebook.db") as db:
        rows = db.execute(query).fetchall()
    assert len({row[:2] for row in rows}) == len(rows), "a mark was entered twice"
    return {row[:2]: row[2:] for row in rows}


def points(root: Path) -> dict[str, float]:
    total: dict[str, float] = {}
    for (student, _), (auto, *_rest) in scores(root).items():
        total[student] = total.get(student, 0) + auto
    return total


def exported(root: Path, nbgrader) -> dict[str, float]:
    nbgrader(root, "export", "--to", "exported.csv")
    with open(root / "exported.csv", encoding="utf-8") as file:
        return {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}


def table(root: Path) -> dict[str, dict[str, str]]:
    with open(root / f"grades-{CHAPTER.name}.csv", encoding="utf-8") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def killed_when(root: Path, found: int, seconds: float) -> bool:
    """Start a run, and kill it so many seconds after the marks of `found` students are known. False if it had ended."""
    process = subprocess.Popen(command(), cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    records = root / ".grading" / CHAPTER.name
    while len(list(records.glob("*.json"))) < found and process.poll() is None:
        time.sleep(0.01)
    time.sleep(seconds)
    running = process.poll() is None
    process.kill()
    process.wait()
    return running


@pytest.mark.proof
def test_killed_at_random_moments_it_ends_with_the_gradebook_of_an_undisturbed_run(classroom, released):
    """And no mark is lost or wrong."""
    handed_in = some_answers(N, seed=1)
    for student, (notebook, _) in handed_in.items():
        hand_in(classroom, student, CHAPTER, notebook)
    want = {student: deserved for student, (_, deserved) in handed_in.items()}

    grade(classroom)
    undisturbed = scores(classroom)
    assert points(classroom) == want

    secret = read_secret(classroom)
    shutil.rmtree(classroom / "autograded")
    shutil.rmtree(classroom / ".grading")
    shutil.copy(released / "gradebook.db", classroom)
    (classroom / ".grading").mkdir()
    (classroom / ".grading" / "secret").write_bytes(secret)
    moments = random.Random(2)
    found = [N * i // (KILLS + 1) for i in range(1, KILLS + 1)]
    killed = [killed_when(classroom, n, moments.random() / 2) for n in found]
    grade(classroom)
    assert any(killed), "no run was at work when its moment came"  # the last ones may have ended, on a busy machine
    assert scores(classroom) == undisturbed
    assert {row["status"] for row in table(classroom).values()} <= {"graded", "unchanged"}


@pytest.mark.proof
def test_unchanged_submissions_are_not_graded_again_unless_asked(classroom):
    hand_in(classroom, "anna", CHAPTER, answered(CHAPTER, {"direct_path": REFERENCE["direct_path"]}))
    hand_in(classroom, "ben", CHAPTER, answered(CHAPTER, {}))
    assert "2  graded" in grade(classroom)
    assert "2  unchanged" in grade(classroom)
    better = answered(CHAPTER, {"bigram_counts": REFERENCE["bigram_counts"]})
    file = classroom / "submitted" / "ben" / CHAPTER.name / CHAPTER.notebook.name
    file.write_text(json.dumps(better))
    printed = grade(classroom)
    assert "1  graded" in printed and "1  unchanged" in printed
    assert points(classroom) == {"anna": 3, "ben": 3}
    assert "2  graded" in grade(classroom, "--regrade")
    shutil.rmtree(classroom / "autograded" / "anna")  # what is gone is made again
    assert "1  graded" in grade(classroom)


@pytest.mark.proof
def test_a_mark_overridden_by_hand_survives_regrading(classroom):
    from nbgrader.api import Gradebook

    hand_in(classroom, "anna", CHAPTER, answered(CHAPTER, {}))
    grade(classroom)
    with Gradebook(f"sqlite:///{classroom / 'gradebook.db'}", "circuits") as gradebook:
        mark = gradebook.find_grade("check_sample", CHAPTER.notebook_name, CHAPTER.name, "anna")
        mark.manual_score = 2
        gradebook.db.commit()
    grade(classroom, "--regrade")
    assert scores(classroom)["anna", "check_sample"][:2] == (0, 2)


def test_bad_submissions_get_a_line_and_stop_nobody(classroom):
    good = answered(CHAPTER, {"direct_path": REFERENCE["direct_path"]})
    loop = answered(CHAPTER, {"direct_path": "def direct_path(a, b):\n    while True: pass"})
    hand_in(classroom, "anna", CHAPTER, good)
    hand_in(classroom, "loop", CHAPTER, loop)
    hand_in(classroom, "*", CHAPTER, good)
    (classroom / "submitted" / "torn" / CHAPTER.name).mkdir(parents=True)
    (classroom / "submitted" / "torn" / CHAPTER.name / CHAPTER.notebook.name).write_text('{"cells": [')
    (classroom / "submitted" / "empty" / CHAPTER.name).mkdir(parents=True)
    (classroom / "submitted" / "elsewhere").mkdir()
    (classroom / "submitted" / "copycat").symlink_to(classroom / "submitted" / "anna")
    printed = grade(classroom)
    assert points(classroom) == {"anna": 3, "loop": 0}
    rows = table(classroom)
    assert {s for s, row in rows.items() if row["status"] == "refused"} == {"*", "torn", "empty", "copycat"}
    assert "elsewhere" not in rows
    for student in ("*", "torn", "empty", "copycat"):
        assert sum(f"'{student}': refused: " in line for line in printed.splitlines()) == 1
    assert rows["torn"]["points"] == "" and "not JSON" in rows["torn"]["note"]


@pytest.mark.parametrize(
    "text, shown",
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1", "'+1"), ("-1", "'-1"), ("@SUM(A1)", "'@SUM(A1)"), ("\uff1d1", "'\uff1d1"), (" =1", " '=1"),
        ("\t=1", r"\t=1"), ("\r=1", r"\r=1"), ("\x1b[2J", r"\x1b[2J"), ("a\n=1", r"a\n=1"),
        ("there is a;=1+1.ipynb", "there is a;'=1+1.ipynb"), ('a","=1', 'a","\'=1'),
        ("Lee, Anna", "Lee, Anna"), ("Smith-Jones (=)", "Smith-Jones (=)"), ("अनिल", "अनिल"), ("", ""),
    ],
)  # fmt: skip
def test_a_spreadsheet_finds_no_formula_in_a_table(tmp_path, text, shown):
    write_table(tmp_path / "table.csv", [["note", -1.5], [text, 3]])
    with open(tmp_path / "table.csv", encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["note", "-1.5"], [shown, "3"]]


@pytest.mark.proof
def test_nbgraders_table_is_quoted_and_holds_no_formula(classroom, nbgrader):
    """Also of those whom nobody has graded."""
    nbgrader(classroom, "db", "student", "add", "anna", "--first-name==cmd|A0", "--last-name=Lee, Anna")
    nbgrader(classroom, "export", "--to", "exported.csv")
    with open(classroom / "exported.csv", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["student_id"], row["first_name"], row["last_name"]) == ("anna", "'=cmd|A0", "Lee, Anna")
    assert (row["score"], row["max_score"]) == ("0.0", f"{float(sum(CHAPTER.exercises.values()))}")


@pytest.mark.proof
def test_students_of_any_name_get_their_marks_and_their_feedback(classroom, nbgrader):
    """From the batch and from nbgrader's own command alike, whatever their notebooks are called."""
    alike = unicodedata.normalize("NFD", "José")
    forms = itertools.cycle((CHAPTER.notebook.name, "bigrams (1).ipynb", "Bigrams-Copy1.ipynb", "a[b]/bigrams.ipynb"))
    want, forms_of = {}, {}
    for name, form in zip((*NAMES_OF_PEOPLE, alike), forms, strict=False):
        exercise = ("direct_path", "bigram_counts")[len(want) % 2]
        code = {exercise: f"# {ascii(name)}\n{REFERENCE[exercise]}"}
        hand_in(classroom, name, CHAPTER, answered(CHAPTER, code))
        folder = classroom / "submitted" / name / CHAPTER.name
        (folder / form).parent.mkdir(exist_ok=True)
        (folder / CHAPTER.notebook.name).rename(folder / form)
        (folder / ".env").write_text("mine")
        want[name], forms_of[name] = CHAPTER.exercises[exercise], form
    harmful = [name for name in HARMFUL if name.strip(".") and not {"/", "\0"} & {*name} and len(os.fsencode(name)) < 200]
    for name in harmful:
        hand_in(classroom, name, CHAPTER, answered(CHAPTER, {}))
    printed = grade(classroom)
    assert points(classroom) == want == exported(classroom, nbgrader)
    rows = table(classroom)
    assert sum(row["status"] == "graded" for row in rows.values()) == len(want)
    assert sum(row["status"] == "refused" for row in rows.values()) == len(harmful)
    assert printed.count(": refused: ") == len(harmful)
    for name, form in forms_of.items():
        assert (f"taken: {form}" in rows[name]["note"]) == (form != CHAPTER.notebook.name)
    assert "looks like 'Jos\\xe9'" in rows[alike]["note"] and "looks like" in rows["Anna Lee "]["note"]
    assert plain(printed) == printed

    said = [nbgrader(classroom, "generate_feedback", CHAPTER.name)]
    for name in want:
        assert (classroom / "feedback" / name / CHAPTER.name / f"{CHAPTER.notebook_name}.html").exists()
        if name not in ("a[b]c", "Lee, Anna", "Anna Lee ", "अनिल शर्मा", alike):
            shutil.rmtree(classroom / "submitted" / name)
    shutil.rmtree(classroom / "autograded")
    (classroom / "gradebook.db").unlink()
    nbgrader(classroom, "generate_assignment", CHAPTER.name, "--force")
    said += [nbgrader(classroom, "autograde", CHAPTER.name, "--student", "a[b]c")]
    said += [nbgrader(classroom, "autograde", CHAPTER.name, ok=False)]  # the harmful names are refused
    assert points(classroom) == {name: want[name] for name in os.listdir(classroom / "submitted") if name in want}
    assert len(points(classroom)) == 5 and said[-1].count(": refused: ") == len(harmful)
    for name in points(classroom):
        kept = classroom / "autograded" / name / CHAPTER.name
        assert [file.name for file in kept.iterdir()] == [CHAPTER.notebook.name]
    for text in said:
        assert plain(_COLOURS.sub("", text)) == _COLOURS.sub("", text)
        assert "Traceback" not in text and "No submitted file" not in text


@pytest.mark.proof
def test_ctrl_c_says_what_is_left_and_the_same_command_goes_on(classroom):
    slow = "import time\ndef direct_path(W_E, W_U):\n    time.sleep(1.5)\n    return W_E @ W_U"
    for i in range(8):
        hand_in(classroom, f"s{i}", CHAPTER, answered(CHAPTER, {"direct_path": slow + f"  # {i}"}))
    process = subprocess.Popen(
        command(), cwd=classroom, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        # A shell without job control starts what is behind `&` deaf to Ctrl-C, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    records = Records(classroom, CHAPTER.name)
    deadline = time.monotonic() + PATIENCE
    while not any((r := records.read(f"s{i}")) and r.entered for i in range(8)):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "The same command goes on from there." in printed
    assert "Traceback" not in printed
    grade(classroom)
    assert points(classroom) == {f"s{i}": 3 for i in range(8)}


@pytest.mark.proof
def test_without_a_sandbox_it_warns_and_labels_every_mark_or_refuses(classroom, tmp_path):
    hand_in(classroom, "anna", CHAPTER, answered(CHAPTER, {"direct_path": REFERENCE["direct_path"]}))
    bare = tmp_path / "bin"  # no bwrap on this PATH
    bare.mkdir()
    environment = {**os.environ, "PATH": str(bare)}
    refusing = subprocess.run(
        command("--require-sandbox"), cwd=classroom, env=environment, capture_output=True, text=True
    )
    assert refusing.returncode == 1 and "Nothing was graded" in refusing.stderr
    assert scores(classroom) == {}
    warned = subprocess.run(command(), cwd=classroom, env=environment, capture_output=True, text=True)
    assert warned.returncode == 0 and "NOT SANDBOXED" in warned.stderr, warned.stderr
    assert points(classroom) == {"anna": 3}
    assert "not sandboxed: bubblewrap" in table(classroom)["anna"]["note"]
    page = classroom / "autograded" / "anna" / CHAPTER.name / CHAPTER.notebook.name
    assert page.read_text().count("<b>not sandboxed</b>") == len(CHAPTER.exercises)
    refusing = subprocess.run(
        command("--require-sandbox"), cwd=classroom, env=environment, capture_output=True, text=True
    )
    assert refusing.returncode == 1 and "1 submission had been graded without one" in refusing.stderr
    assert "1  graded" in grade(classroom, "--require-sandbox"), "the sandbox works again, and the mark was not its"
    assert points(classroom) == {"anna": 3} and "not sandboxed" not in page.read_text()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["7_nothing"], "No chapter is called '7_nothing'. There are: "),
        ([CHAPTER.name, "--scheduler", "tcp://127.0.0.1:1"], "No Dask scheduler answers at"),
    ],
)
def test_what_cannot_be_done_is_one_line(classroom, args, says):
    hand_in(classroom, "anna", CHAPTER, answered(CHAPTER, {}))
    done = subprocess.run(
        [sys.executable, "-m", "circuits.cli", "grade", *args], cwd=classroom, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.startswith("circuits: ") and says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.proof
def test_a_gradebook_that_does_not_know_the_chapter_says_what_to_run(classroom):
    (classroom / "gradebook.db").unlink()
    assert "nbgrader generate_assignment" in grade(classroom, ok=False)


def test_a_folder_that_is_no_course_says_so_and_is_left_as_it_was(tmp_path):
    assert "There is no nbgrader_config.py" in grade(tmp_path, ok=False)
    assert not list(tmp_path.iterdir())


def test_two_batches_at_once_are_refused(classroom):
    from circuits.grading.batch import alone

    with alone(classroom):
        assert "Another `circuits grade` is at work" in grade(classroom, ok=False)


def test_the_secret_is_the_owners_alone(classroom):
    secret = read_secret(classroom)
    assert len(secret) == 64 and read_secret(classroom) == secret
    assert (classroom / ".grading" / "secret").stat().st_mode & 0o077 == 0


# When things change --------------------------------------------------------------------------


def run_batch(root: Path, answered: str = "", unsandboxed: str | None = None, **options) -> tuple[Batch, list[str]]:
    """A batch whose graders run nothing and find one exercise right; and who was given to them."""
    batch, asked = Batch(root, CHAPTER.name, **options), []

    def graders(jobs):
        for student, job in jobs:
            asked.append(student)
            found = [
                Result(name, [CheckResult("is right", points, name == answered)])
                for name, points in CHAPTER.exercises.items()
                if name in Chapter(CHAPTER.name, root).exercise_names
            ]
            yield student, Graded(found, unsandboxed)

    for row in batch.run(graders):
        assert row.status == "graded", row
    batch.read_scores()
    return batch, asked


def change(root: Path, **changes) -> None:
    """Change an assignment's or a submission's columns in the gradebook."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{root / 'gradebook.db'}", "circuits") as gradebook:
        of = gradebook.find_submission(CHAPTER.name, "anna") if "extension" in changes else None
        for name, value in changes.items():
            setattr(of or gradebook.find_assignment(CHAPTER.name), name, value)
        gradebook.db.commit()


@pytest.mark.proof
def test_a_deadline_a_timestamp_and_a_rule_that_change_are_seen_and_no_answer_runs_again(classroom):
    hand_in(classroom, "anna", CHAPTER, answered(CHAPTER, {}))
    timestamp = classroom / "submitted" / "anna" / CHAPTER.name / "timestamp.txt"
    settings = classroom / "nbgrader_config.py"
    due = datetime.datetime(2026, 5, 1)

    def score() -> tuple:
        batch, asked = run_batch(classroom, "direct_path")
        row = batch.rows["anna"]
        assert row.points == 3
        return row.score, row.penalty, len(batch.tasks), asked

    assert score() == (3, 0, 1, ["anna"])
    change(classroom, duedate=due)
    assert score() == (3, 0, 0, []), "nobody knows when it was handed in"
    timestamp.write_text("2026-05-02 00:00:00 UTC")
    assert score() == (3, 0, 1, []), "late, which costs nothing by default"
    settings.write_text(settings.read_text() + "\nc.LateSubmissionPlugin.penalty_method = 'zero'\n")
    assert score() == (0, 3, 1, [])
    assert score() == (0, 3, 0, [])
    change(classroom, extension=datetime.timedelta(days=2))
    assert score() == (3, 0, 1, [])
    change(classroom, extension=None)
    assert score() == (0, 3, 1, [])
    change(classroom, duedate=due + datetime.timedelta(days=7))
    assert score() == (3, 0, 1, [])
    change(classroom, duedate=due)
    timestamp.unlink()
    assert score() == (3, 0, 1, []), "and not what an earlier time made of it"
    timestamp.write_text("2026-05-02 00:00:00 UTC")
    batch, _ = run_batch(classroom)
    batch.write_csv(classroom / f"grades-{CHAPTER.name}.csv")
    row = table(classroom)["anna"]
    assert (row["points"], row["late_penalty"], row["score"]) == ("3", "3.0", "0.0")


def without(name: str, script: str) -> str:
    """A chapter's script without an exercise and its check."""
    less, n = re.subn(rf'# %% (exercise|check)="{name}"\n.*?(?=# %%)', "", script, flags=re.DOTALL)
    assert n == 2
    return less


@pytest.mark.proof
def test_an_exercise_dropped_or_added_after_work_was_handed_in(classroom, nbgrader):
    hand_in(classroom, "anna", CHAPTER, answered(CHAPTER, {}))
    hand_in(classroom, "ben", CHAPTER, answered(CHAPTER, {}))
    run_batch(classroom, "direct_path")
    script = Chapter(CHAPTER.name, classroom).source
    whole = script.read_text()

    script.write_text(without("sample", whole))
    batch, asked = run_batch(classroom, "direct_path")
    said = batch.gradebook.followed
    points_of = CHAPTER.exercises["sample"]
    assert f"dropped sample with its {points_of:g} points. All other marks stay." in said
    assert asked == ["anna", "ben"] and points(classroom) == {"anna": 3, "ben": 3}
    assert ("anna", "check_sample") not in scores(classroom) and ("anna", "check_direct_path") in scores(classroom)
    (copy,) = classroom.glob("gradebook.db.*")
    assert copy.name in said
    assert run_batch(classroom, "direct_path")[0].gradebook.followed is None
    nbgrader(classroom, "generate_assignment", CHAPTER.name, "--force")  # which refused before

    script.write_text(without("direct_path", whole))  # one added, one dropped that had points
    batch, _ = run_batch(classroom, "sample")
    said = batch.gradebook.followed
    assert "added sample" in said and "dropped direct_path with its 3 points, which 2 of 2 had some of" in said
    assert points(classroom) == {"anna": points_of, "ben": points_of}

    script.write_text(without("sample", whole))  # and nbgrader's own command does the same
    printed = nbgrader(classroom, "autograde", CHAPTER.name, "--student", "anna", "--force")
    assert "added direct_path" in printed and "dropped sample" in printed
    assert scores(classroom)["anna", "check_direct_path"][0] == 0


@pytest.mark.proof
def test_a_gradebook_of_an_older_nbgrader_is_one_line_and_its_upgrade_helps(classroom, nbgrader):
    with sqlite3.connect(classroom / "gradebook.db") as db:  # as nbgrader 0.6 left it
        db.executescript("""
            alter table student drop column lms_user_id;
            create table other (id varchar(32) primary key, name varchar(128) not null unique, duedate datetime);
            insert into other select id, name, duedate from assignment;
            drop table assignment;
            alter table other rename to assignment;
            drop table course;
            update alembic_version set version_num = '167914646830';
        """)
    hand_in(classroom, "anna", CHAPTER, answered(CHAPTER, {}))
    with pytest.raises(CourseError, match="^[^\n]*run `nbgrader db upgrade`[^\n]*$"):
        Batch(classroom, CHAPTER.name)
    nbgrader(classroom, "db", "upgrade")
    assert run_batch(classroom, "direct_path")[0].rows["anna"].score == 3


@pytest.mark.parametrize("content", [b"", b"no gradebook" * 500])
def test_a_gradebook_that_is_none_is_one_line(classroom, content):
    (classroom / "gradebook.db").write_bytes(content)
    with pytest.raises(CourseError, match="^The gradebook [^\n]*$"):
        Batch(classroom, CHAPTER.name)


def test_what_was_graded_without_a_sandbox_is_graded_again_once_there_is_one(classroom):
    hand_in(classroom, "anna", CHAPTER, answered(CHAPTER, {}))
    run_batch(classroom, unsandboxed="no bubblewrap")
    batch, asked = run_batch(classroom, unsandboxed="no bubblewrap")
    assert asked == [] and batch.unsandboxed == {"anna"}
    batch, asked = run_batch(classroom, sandboxed=lambda: True)
    assert asked == ["anna"] and batch.unsandboxed == set()
    assert run_batch(classroom, sandboxed=lambda: True)[1] == []
