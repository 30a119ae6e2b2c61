"""What a learner has done: the best counts, revealed is marked, and nothing takes it away."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from circuits import check, course_progress, learners_copy, progress, reveal
from circuits.chapters import chapters
from circuits.cli import main
from circuits.learners_copy import prepare
from circuits.course_progress import NAME, OF_0_2_0, Progress, remember, remember_revealed, take_over


@pytest.fixture(autouse=True)
def copy(tmp_path, monkeypatch) -> Path:
    """A learner's copy, in which one is; and a home in which there is nothing."""
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    monkeypatch.setattr(course_progress, "_DATA", tmp_path / "home")
    prepare(tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work" / "1_bigrams")
    return tmp_path / "work"


def step(name: str):
    return next(step for _, step in Progress().steps() if step.task.name == name)


def answer(right: bool = True) -> None:
    check("direct_path", {"direct_path": lambda W_E, W_U: W_E @ W_U if right else W_E})


def test_the_best_result_counts_whatever_is_run_afterwards(copy):
    answer()
    answer(right=False)
    check("direct_path", {})
    assert step("direct_path").state == "solved" and step("direct_path").points == 3
    assert "✓ direct_path" in repr(Progress()) and f"1 of {sum(len(c.tasks) for c in chapters())} exercises" in repr(Progress())
    assert (copy / NAME).exists() and not (copy.parent / "home").exists(), "it lies in the copy"


def test_half_is_half(copy):
    remember("direct_path", 1, 3)
    assert (step("direct_path").state, step("direct_path").points) == ("partly", 1)
    remember("direct_path", 2, 4)  # the checks of a next release are worth more
    assert step("direct_path").points == 1.5


def test_what_was_revealed_is_marked_and_what_was_solved_before_is_solved(copy):
    reveal("direct_path")
    answer()
    assert step("direct_path").state == "revealed" and step("direct_path").points == 0
    remember("bigram_counts", 3, 3)
    remember_revealed("bigram_counts")
    assert step("bigram_counts").state == "solved"
    remember("sample", 1, 4)
    remember_revealed("sample")
    remember("sample", 4, 4)
    assert (step("sample").state, step("sample").points) == ("revealed", 1)
    assert "◇ direct_path" in repr(Progress()) and "2 revealed" in Progress().total()


def test_it_survives_updates_and_a_new_name(copy, monkeypatch, tmp_path):
    answer()
    prepare(copy)
    assert step("direct_path").state == "solved"
    root = tmp_path / "course" / "notebooks"
    for chapter in chapters():
        text = chapter.notebook.read_text("utf-8")
        file = root / chapter.name / chapter.notebook.name
        file.parent.mkdir(parents=True)
        notebook = json.loads(text.replace("direct_path", "straight_path"))
        for cell in notebook["cells"]:
            if cell["metadata"].get("nbgrader", {}).get("grade_id") == "straight_path":
                cell["metadata"]["circuits"] = {"was": ["direct_path"]}
        file.write_text(json.dumps(notebook))
    monkeypatch.setattr(course_progress, "chapters", lambda: chapters(root.parent))
    assert step("straight_path").state == "solved"


def test_what_was_done_with_version_0_2_0_comes_in_once(copy, monkeypatch):
    """It kept the last result of each exercise, in the user's folder for data; `circuits lab` takes that over."""
    old = copy.parent / "home" / OF_0_2_0
    old.parent.mkdir()
    old.write_text(json.dumps({"bigram_counts": [3, 3], "direct_path": [1.5, 3], "sample": [0, 4], "long_gone": [2, 2]}))
    before = old.read_bytes()
    remember("direct_path", 3, 3)  # with this version: better than what was
    monkeypatch.setattr("circuits.lab.open_lab", lambda *args, **kwargs: None)
    said = CliRunner().invoke(main, ["lab", str(copy)]).output
    assert f"2 results of version 0.2.0 came into your progress, from {old}." in said
    assert step("bigram_counts").state == "solved" and step("direct_path").points == 3 and step("sample").state == "open"
    assert f"2 of {sum(len(c.tasks) for c in chapters())} exercises solved" in (copy / "Start here.md").read_text(), "on the page, too"
    assert "0.2.0" not in CliRunner().invoke(main, ["lab", str(copy)]).output
    remember_revealed("sample")
    old.write_text(json.dumps({"sample": [4, 4]}))
    assert take_over(copy) is None and step("sample").state == "revealed", "what was revealed here stays so"
    old.write_bytes(before)
    assert take_over(copy) is None and old.read_bytes() == before


@pytest.mark.parametrize(
    "content", ["", "[]", "3", "null", "[" * 100_000, "\xff", '{"direct_path": "3 of 3"}', '{"direct_path": {"3": 3}}',
                '{"direct_path": [NaN, 3]}', '{"direct_path": [1e400, 3]}', '{"direct_path": [3]}', '{"direct_path": [true, 3]}']
)  # fmt: skip
def test_a_damaged_record_of_version_0_2_0_costs_nothing(copy, content):
    old = copy.parent / "home" / OF_0_2_0
    old.parent.mkdir()
    old.write_text(content, "latin-1")
    assert take_over(copy) is None and step("direct_path").state == "open"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[", b"[" * 100_000, b"3\n[]\nnull", b'{"exercise": 3}', b'{"exercise": "direct_path", "points": 1',
    b'{"exercise": "direct_path", "points": NaN, "max_points": 3}', b'{"exercise": "direct_path", "points": "3", "max_points": 3}'])
def test_what_is_damaged_costs_nothing_but_itself(copy, content):
    remember("bigram_counts", 3, 3)
    with open(copy / NAME, "ab") as record:
        record.write(content)
    assert step("bigram_counts").state == "solved" and step("direct_path").state == "open"
    answer()
    assert step("direct_path").state == "solved"


def test_a_folder_in_its_place_is_moved_aside(copy):
    (copy / NAME).mkdir()
    (copy / NAME / "mine.txt").write_text("mine")
    answer()
    assert step("direct_path").state == "solved"
    assert next(copy.glob("*.damaged/mine.txt")).read_text() == "mine"


def test_the_next_step_is_after_the_last_one_and_then_what_was_left_out(copy):
    names = [task.name for chapter in chapters() for task in chapter.tasks]
    assert Progress().next()[1].task.name == names[0]
    for name in names[2:5]:
        remember(name, 1, 1)
    assert Progress().next()[1].task.name == names[5]
    for name in names[5:]:
        remember(name, 1, 1)
    assert Progress().next()[1].task.name == names[0]
    for name in names[:2]:
        remember_revealed(name)
    assert Progress().next() is None


def test_the_map_leads_to_every_exercise_and_says_in_words_what_its_marks_mean(copy):
    answer()
    shown = progress()._repr_html_()
    cells = {cell["id"] for chapter in chapters() for cell in chapter.cells}
    for address, cell in re.findall(r'href="([^"#]+)#cell-id=([^"]+)"', shown):
        assert Path(address).is_file() and cell in cells
    assert shown.count("#cell-id=") == sum(len(c.tasks) for c in chapters()) + 1
    assert 'aria-label="solved"' in shown and 'aria-label="difficulty 1 of 3"' in shown


def test_the_command_says_the_same_to_people_and_programs(copy, monkeypatch, tmp_path):
    answer()
    reveal("sample")
    found = json.loads(CliRunner().invoke(main, ["progress", "--json"]).output)
    assert (found["points"], found["solved"], found["revealed"]) == (3, 1, 1)
    assert found["max_points"] == sum(sum(c.exercises.values()) for c in chapters())
    bigrams = next(c for c in found["chapters"] if c["name"] == "1_bigrams")
    task = next(e for e in bigrams["exercises"] if e["name"] == "direct_path")
    assert task["state"] == "solved" and task["minutes"] > 0 and task["difficulty"] in (1, 2, 3)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(learners_copy, "WORK", copy)
    assert json.loads(CliRunner().invoke(main, ["progress", "--json"]).output) == found, "in a clone, its own copy's"
    assert "✓ direct_path" in CliRunner().invoke(main, ["progress"]).output


def test_every_exercise_says_what_it_is_and_how_long_it_takes():
    for chapter in chapters():
        assert [task.name for task in chapter.tasks] == list(chapter.exercises)
        for task in chapter.tasks:
            assert task.title and task.stars and 1 <= task.difficulty <= 3 and task.minutes, task


def test_where_nothing_can_be_kept_checks_work_all_the_same(copy, monkeypatch):
    monkeypatch.setattr(course_progress, "open", _refuse, raising=False)
    answer()
    assert step("direct_path").state == "open"


def _refuse(*args, **kwargs):
    raise PermissionError(13, "Permission denied")
