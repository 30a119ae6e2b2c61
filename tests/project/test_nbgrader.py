"""A class, from release to exported marks, through nbgrader's own commands."""

import csv
import json
import shutil

import pytest
from conftest import answered, hand_in, notebooks, proven_elsewhere, reference

from circuits.chapters import ROOT, chapters

CHAPTER = "1_bigrams"  # all of nbgrader is tried on it
WARNS = "    import sys, warnings\n    warnings.warn('careful'); print('hm', file=sys.stderr)\n"


def noisy(code: str) -> str:
    """An answer that also writes to stderr."""
    return code.replace("    ### BEGIN SOLUTION\n", WARNS)


@pytest.fixture(scope="module", params=proven_elsewhere(CHAPTER))
def graded(request, course, nbgrader):
    """One chapter released, handed in by somebody who solved half of it, graded, and exported: marks by student. Of one
    chapter there are three students; `circuits check` is tried on the reference answers of all."""
    chapter = request.param
    answers = reference(chapter)
    half = dict(list(answers.items())[::2])
    committed = notebooks(course)
    shutil.rmtree(course / "notebooks" / chapter.name)
    nbgrader(course, "generate_assignment", chapter.name, "--force")
    assert notebooks(course) == committed, "nbgrader's own release is not what `make build` wrote"
    hand_in(course, "half", chapter, answered(chapter, half))
    if chapter.name == CHAPTER:
        hand_in(course, "perfect", chapter, answered(chapter, {name: noisy(code) for name, code in answers.items()}))
        hand_in(course, "unsolved", chapter, answered(chapter, {}))
    nbgrader(course, "autograde", chapter.name)
    nbgrader(course, "generate_feedback", chapter.name)
    nbgrader(course, "export", "--to", "grades.csv")
    with open(course / "grades.csv") as file:
        rows = {r["student_id"]: r for r in csv.DictReader(file) if r["assignment"] == chapter.name}
    return chapter, half, rows


def test_what_is_right_gets_its_points_though_it_warns_on_stderr_and_the_release_gets_zero(graded):
    chapter, half, rows = graded
    of = chapter.exercises
    want = {"perfect": sum(of.values()), "half": sum(of[name] for name in half), "unsolved": 0}
    assert {student: float(row["score"]) for student, row in rows.items()} == {student: want[student] for student in rows}
    assert {float(row["max_score"]) for row in rows.values()} == {want["perfect"]}
    assert len(rows) == (3 if chapter.name == CHAPTER else 1)


def test_each_exercise_gets_its_points(graded, course):
    """In the gradebook."""
    from nbgrader.api import Gradebook

    chapter, half, _ = graded
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "circuits") as gradebook:
        notebook = gradebook.find_submission_notebook(chapter.notebook_name, chapter.name, "half")
        points = {grade.name.removeprefix("check_"): grade.auto_score for grade in notebook.grades}
    want = {name: of if name in half else 0 for name, of in chapter.exercises.items()}
    assert points == want


def test_feedback_shows_what_was_wrong(graded, course):
    chapter = graded[0]
    page = course / "feedback" / "half" / chapter.name / f"{chapter.notebook_name}.html"
    assert "is not written yet" in page.read_text("utf-8")


@pytest.mark.proof
def test_nbgraders_validate_finds_a_solved_chapter_right(tmp_path, nbgrader, monkeypatch):
    """Of chapter 3, which trains two models, and in a folder of a learner's own."""
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(ROOT / "circuits" / "jupyter"))  # where an installation has it
    chapter = next(c for c in chapters() if c.name == "3_induction_heads")
    (tmp_path / chapter.notebook.name).write_text(json.dumps(answered(chapter, reference(chapter))))
    printed = nbgrader(tmp_path, "validate", chapter.notebook.name)
    assert "Success! Your notebook passes all the tests." in printed and "Traceback" not in printed


@pytest.mark.proof
def test_an_answer_that_passes_two_of_three_checks_gets_two_points(course, nbgrader):
    """The seed of a grader is secret, so the answer errs where one check always asks, and no other."""
    chapter = next(c for c in chapters() if c.name == "1_bigrams")
    nbgrader(course, "generate_assignment", chapter.name, "--force")
    wrong_for_two = reference(chapter)["bigram_counts"].replace(
        "    ### BEGIN SOLUTION\n", "    if d_vocab == 2:\n        return torch.zeros(2, 2)\n"
    )
    hand_in(course, "partial", chapter, answered(chapter, {"bigram_counts": wrong_for_two}))
    nbgrader(course, "autograde", chapter.name, "--student", "partial")
    nbgrader(course, "export", "--to", "partial.csv")
    with open(course / "partial.csv") as file:
        rows = {(r["student_id"], r["assignment"]): r for r in csv.DictReader(file)}
    assert float(rows["partial", chapter.name]["score"]) == 2
