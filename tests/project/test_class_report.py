"""`circuits report`: what a class did, counted right, shown safely; and exports for learning platforms."""

import csv
import html
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import answered, hand_in, reference
from nbgrader.api import Gradebook
from test_batch import grade

from circuits import cli
from circuits.chapters import Chapter
from circuits.grading.alike import digest
from circuits.grading.class_report import lateness, read
from utils.errors import CourseError

CHAPTER = Chapter("1_bigrams")
REFERENCE = reference(CHAPTER)
TRANSPOSED = """
def bigram_counts(tokens, d_vocab):
    pairs = tokens[1:] * d_vocab + tokens[:-1]
    return torch.bincount(pairs, minlength=d_vocab**2).reshape(d_vocab, d_vocab)
"""
THE_SAME = '''
def bigram_counts(t: "the text", n):
    """My own."""
    numbers = (t[1:] * n) + t[:-1]  # row by row
    return torch.bincount(
        numbers, minlength=n ** 2,
    ).reshape(n, n)
'''
ENDLESS = "def direct_path(W_E, W_U):\n    while True: pass\n"
HOSTILE = "<img src=x onerror=alert(1)>"  # as the name of a file
NAMES = {"anna": ("Anna", "Lee"), "ben": ("Ben", "Ode"), "cleo": ("Cleo", "Fox"), "dee": ("=1+1", "<b>Dee</b>"), "eve": ("Eve", "Orr")}


def students() -> dict[str, dict[str, str]]:
    """What each hands in: all right; three wrong in the same way, of whom two are the same but for names; nothing."""
    wrong = {
        "bigram_counts": TRANSPOSED, "direct_path": "def direct_path(W_E, W_U):\n    return W_U @ W_E",
        "positions_that_matter": "def positions_that_matter(pos):\n    return [0]",
    }  # fmt: skip
    copied = {
        "bigram_counts": THE_SAME, "direct_path": "def direct_path(E, U):\n    # mine\n    return (U @ E)",
        "positions_that_matter": "def positions_that_matter(p):\n    return [0,]",
    }  # fmt: skip
    return {"anna": REFERENCE, "ben": wrong, "cleo": copied, "dee": {**wrong, "direct_path": ENDLESS}, "eve": {}}


@pytest.fixture(scope="module")
def graded(released, tmp_path_factory) -> Path:
    """A class that has been graded: one was late, one's mark was changed by hand, one is refused, one came afterwards."""
    root = shutil.copytree(released, tmp_path_factory.mktemp("graded") / "class")
    with Gradebook(f"sqlite:///{root / 'gradebook.db'}", "circuits") as gradebook:
        for student, (first, last) in NAMES.items():
            gradebook.add_student(student, first_name=first, last_name=last, email=f"{student}@example.org")
        gradebook.update_or_create_assignment(CHAPTER.name, duedate="2026-01-01 12:00:00 UTC")
    for student, answers in students().items():
        hand_in(root, student, CHAPTER, answered(CHAPTER, answers))
    (root / "submitted/ben/1_bigrams/timestamp.txt").write_text("2026-01-01 15:00:00 UTC")
    (root / "submitted/<i>fay" / CHAPTER.name).mkdir(parents=True)
    (root / "submitted/gus" / CHAPTER.name).mkdir(parents=True)
    (root / "submitted/gus" / CHAPTER.name / f"{HOSTILE}.txt").touch()
    grade(root)
    with Gradebook(f"sqlite:///{root / 'gradebook.db'}", "circuits") as gradebook:
        gradebook.find_grade("check_direct_path", "bigrams", CHAPTER.name, "cleo").manual_score = 1
        gradebook.db.commit()
    hand_in(root, "hal", CHAPTER, answered(CHAPTER, {}))
    return root


@pytest.fixture(scope="module")
def found(graded):
    return read(graded, CHAPTER.name)


def test_each_exercise_is_counted_right(found):
    facts = {exercise.name: exercise for exercise in found.exercises}
    assert list(facts) == list(CHAPTER.exercise_names) and found.students == ["anna", "ben", "cleo", "dee", "eve"]
    counts = facts["bigram_counts"]
    assert (counts.full, counts.not_started, counts.started, counts.points.total()) == (1, 1, 4, 5)
    (hint, n), = counts.hints.items()
    assert hint.startswith("Rows and columns are exchanged") and n == 3 and counts.mistakes[hint] == "transposed"
    assert counts.failed["counts every adjacent pair"] == 3 and counts.limits == {}
    assert sorted(counts.answers.values()) == [1, 3], "anna's own, and one answer in three dresses"
    path = facts["direct_path"]
    assert path.limits == {"took too long": 1}
    assert path.points == {CHAPTER.exercises["direct_path"]: 1, 1: 1, 0: 3}, "with the mark given by hand"
    for name in set(facts) - {"bigram_counts", "direct_path", "positions_that_matter"}:
        assert facts[name].not_started == 4 and facts[name].points == {CHAPTER.exercises[name]: 1, 0: 4}
    assert found.max_points == sum(CHAPTER.exercises.values())


def test_who_is_to_be_asked(found):
    assert set(found.refused) == {"<i>fay", "gus"} and found.not_graded == ["hal"]
    assert found.late == {"ben": (3 * 3600.0, 0.0)}
    (group,) = found.alike
    assert (group.students, group.answers, group.wrong) == (["ben", "cleo"], 3, 3)
    assert group.alone == 1, "dee gave two of the three as well"
    assert lateness(59) == "0 minutes" and lateness(60) == "1 minute" and lateness(10**4) == "2 hours" and lateness(10**6) == "11 days"


class Page(HTMLParser):
    """The elements of a page, their attributes, and its text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


def run(root: Path, monkeypatch, *args: str) -> tuple[str, list[dict[str, str]]]:
    """The page and the rows of the table that the command writes."""
    monkeypatch.chdir(root)
    done = CliRunner().invoke(cli.main, ["report", CHAPTER.name, *args])
    assert done.exit_code == 0, done.output
    assert "5 submissions; 1 not graded as they are now" in done.output
    with open(root / f"report-{CHAPTER.name}.csv", encoding="utf-8") as file:
        return (root / f"report-{CHAPTER.name}.html").read_text("utf-8"), list(csv.DictReader(file))


def test_the_page_shows_what_strangers_wrote_as_text(graded, monkeypatch):
    text, rows = run(graded, monkeypatch)
    page = Page(text)
    assert not page.tags & {"script", "img", "i", "iframe", "object", "link", "form"}
    assert not {name for name in page.attributes if name.startswith("on")} and "src" not in page.attributes
    assert "<i>fay" in page.text and "onerror" in page.text, "they are there, as text"
    assert "default-src 'none'" in html.unescape(text)
    assert "transposed: Rows and columns are exchanged" in page.text
    assert "took too long" in page.text and "3 hours" in page.text and "ben, cleo" in page.text
    assert {row["exercise"] for row in rows} == {"", *CHAPTER.exercise_names}
    assert not [cell for row in rows for cell in row.values() if re.match(r"\s*[=+@-]", cell)]


def test_the_table_says_the_same_one_fact_a_line(graded, found, monkeypatch):
    _, rows = run(graded, monkeypatch)
    facts = {(row["exercise"], row["what"], row["which"]): (int(row["students"]), int(row["of"])) for row in rows}
    assert len(facts) == len(rows)
    assert facts["", "graded", ""] == (5, 8)
    assert facts["bigram_counts", "not started", ""] == (1, 5)
    assert facts["bigram_counts", "check failed", "counts every adjacent pair"] == (3, 4)
    assert facts["direct_path", "limit", "took too long"] == (1, 4)
    assert facts["bigram_counts", "different answers", ""] == (2, 4)
    assert facts["", "same answers", "ben, cleo"] == (2, 5)
    known = [(row["which"], row["students"]) for row in rows if row["what"] == "known mistake" and row["exercise"] == "bigram_counts"]
    assert len(known) == 1 and known[0][1] == "3"
    for name in CHAPTER.exercise_names:
        assert sum(n for (exercise, what, _), (n, _) in facts.items() if exercise == name and what == "points") == 5


def test_names_can_be_left_out(graded, monkeypatch):
    """Everywhere, also where a reason would tell what a student called a file; and the numbers stay the same."""
    text, rows = run(graded, monkeypatch, "--anonymous")
    everything = text + "".join(cell for row in rows for cell in row.values())
    for name in ("anna", "ben", "cleo", "dee", "eve", "fay", "gus", "hal"):
        assert not re.search(rf"\b{name}\b", everything), name
    assert "onerror" not in everything
    assert set(re.findall(r"student \d", everything)) and run(graded, monkeypatch, "--anonymous")[0] == text
    assert [row["which"] for row in rows if row["what"] == "late"][0].endswith(": 3 hours, penalty 0")


def test_what_cannot_be_reported_is_said_in_a_line(classroom, monkeypatch, tmp_path):
    for root, chapter, says in (
        (tmp_path, CHAPTER.name, "There is no nbgrader_config.py in"),
        (classroom, "7_nothing", "No chapter is called '7_nothing'"),
        (classroom, CHAPTER.name, "Nothing of 1_bigrams is graded as it is now: run `circuits grade 1_bigrams` first."),
    ):
        monkeypatch.chdir(root)
        done = CliRunner().invoke(cli.main, ["report", chapter])
        assert done.exit_code == 1 and says in done.output and done.output.count("\n") == 1
    with pytest.raises(CourseError):
        read(classroom, CHAPTER.name)


@pytest.mark.proof
def test_what_nbgrader_itself_has_graded_counts_as_well(classroom, nbgrader, monkeypatch):
    """And the batch then has nothing to run: it enters what was found."""
    hand_in(classroom, "anna", CHAPTER, answered(CHAPTER, {"direct_path": REFERENCE["direct_path"]}))
    nbgrader(classroom, "autograde", CHAPTER.name)
    assert read(classroom, CHAPTER.name).students == ["anna"]
    monkeypatch.chdir(classroom)

    def nothing_to_run(self, job):
        raise OSError("it is known already")

    monkeypatch.setattr("circuits.grading.grader.Grader.grade", nothing_to_run)
    done = CliRunner().invoke(cli.main, ["grade", CHAPTER.name])
    assert done.exit_code == 0 and "1  graded" in done.output, done.output


# Answers that are the same ------------------------------------------------------------------

ONE = "def f(x, y=1):\n    total = 0\n    for i in x:\n        total += i * y\n    return total"


@pytest.mark.parametrize("other, same", [
    ("# mine\ndef f(a, b = 1):\n  '''Sum.'''\n  s = 0\n  for k in a: s += (k * b)\n  return s", True),
    ("def f(x: list, y: int = 1) -> int:\n    total: int = 0\n    for i in x:\n        total += i * y\n    return total", True),
    (ONE.replace("= 0", "= 1"), False),
    (ONE.replace("i * y", "y * i"), False),
    (ONE.replace("+=", "-="), False),
    (ONE.replace("total", "x"), False),  # the names are used otherwise
    (ONE.replace("def f", "def g"), False),
])  # fmt: skip
def test_answers_are_the_same_up_to_formatting_and_names(other, same):
    assert (digest(ONE, "f") == digest(other, "f")) == same


@pytest.mark.parametrize("code", [
    "def f(:", "(" * 10_000, "x = " + "-" * 90_000 + "1", "[" * 500 + "]" * 500, "x = 0x" + "f" * 9000, "\x00", "é = 'ü\udcff'", "!ls\n%time f()",
    "a." * 40_000 + "b", "x" * 200_000, "", "lambda: " * 3000 + "0", "'''",
])  # fmt: skip
def test_code_that_is_none_or_is_made_to_do_harm_has_a_digest_too(code):
    assert digest(code, "f") == digest(code, "f") != digest(ONE, "f")


# Learning platforms -------------------------------------------------------------------------


def exported(root: Path, nbgrader, exporter: str, *args: str) -> list[list[str]]:
    nbgrader(root, "export", f"--exporter=circuits.grading.platforms.{exporter}", "--to", "out.csv", *args)
    with open(root / "out.csv", encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_canvas_gets_its_own_columns(graded, nbgrader):
    with Gradebook(f"sqlite:///{graded / 'gradebook.db'}", "circuits") as gradebook:
        gradebook.update_or_create_student("eve", lms_user_id="777")
        gradebook.add_student("foxcleo_12345")
    head, possible, *rows = exported(graded, nbgrader, "Canvas", "--Canvas.numbered=True")
    assert head == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", CHAPTER.name]
    most = sum(CHAPTER.exercises.values())
    assert possible[0].strip() == "Points Possible" and float(possible[-1]) == most and {*possible[1:-1]} == {""}
    by = {row[0]: row[1:] for row in rows}
    assert by["Lee, Anna"] == ["", "", "anna", "", str(float(most))]
    assert by["Orr, Eve"] == ["777", "", "", "", "0.0"]
    assert by["foxcleo_12345"] == ["12345", "", "", "", ""], "who handed nothing in keeps what they have there"
    assert float(by["Fox, Cleo"][-1]) == 1
    rows = exported(graded, nbgrader, "Canvas", "--Canvas.with_names=False", "--student=['anna', 'foxcleo_12345']")[2:]
    assert sorted(row[:5] for row in rows) == [["", "", "", "anna", ""], ["", "", "", "foxcleo_12345", ""]]


def test_moodle_gets_columns_that_it_can_map(graded, nbgrader):
    head, *rows = exported(graded, nbgrader, "Moodle")
    assert head == ["ID number", "First name", "Last name", "Email address", CHAPTER.name]
    by = {row[0]: row[1:] for row in rows}
    assert by["anna"] == ["Anna", "Lee", "anna@example.org", str(float(sum(CHAPTER.exercises.values())))]
    assert by["dee"][0] == "'=1+1", "a spreadsheet finds no formula"
    head, *rows = exported(graded, nbgrader, "Moodle", "--Moodle.with_names=False", f"--assignment=['{CHAPTER.name}']")
    assert head == ["ID number", CHAPTER.name] and all(len(row) == 2 for row in rows)
