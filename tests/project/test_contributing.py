"""A contributor's afternoon: skeletons stand where they belong, and `dev-check` leads from them to a proven exercise."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_exercises import course  # noqa: F401  (a course of one chapter with one exercise)

from circuits import cli, dev_check, watch
from circuits.build import build, source_notebook
from circuits.chapters import ROOT, Chapter, chapters
from circuits.dev_check import findings, problems
from circuits.parts import functions, of_exercise
from circuits.skeletons import new_chapter, new_exercise
from utils.errors import CourseError

TREBLE = "treble(x: float, times: int = 1) -> float"


def texts(root: Path) -> dict[Path, str]:
    return {f: f.read_text("utf-8") for f in sorted(root.rglob("*.py")) if f.is_file()}


def replaced(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text, old
    file.write_text(text.replace(old, new), "utf-8")


@pytest.fixture
def tiny(course) -> Path:  # noqa: F811
    """That course, with a line for each entry of its table."""
    one_line = 'SYMMETRIES = {"double": "its argument is a number"}'
    replaced(course / "tests/checks/test_tiny.py", one_line, one_line.replace("{", "{\n    ").replace("}", ",\n}"))
    return course


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The sources of the real chapters, to write in."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("solutions", "tests/checks", "tests/mistakes", "tests/variants"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb*"))
    return root


@pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
@pytest.mark.parametrize("after", [0, None], ids=["after the first", "after the last"])
def test_a_new_exercise_stands_next_to_its_neighbour_in_every_chapter(chapter, after, copy):
    mine = Chapter(chapter.name, copy)
    names, before = list(mine.exercise_names), texts(copy)
    neighbour = names[-1 if after is None else after]
    name = f"brand_new_{chapter.name[0]}_{len(names)}"
    parts = new_exercise(chapter.name, f"{name}(x: int) -> int", None if after is None else neighbour, copy)

    at = names.index(neighbour)
    assert list(mine.exercise_names) == [*names[: at + 1], name, *names[at + 1 :]]
    assert [cell.metadata.nbgrader.grade_id for cell in source_notebook(mine).cells if "nbgrader" in cell.metadata].count(name) == 1
    for kind in ("checks", "mistakes", "variants"):
        marked = [f.exercise for f in getattr(mine, kind)()]
        first = marked.index(name)
        assert marked[first - 1] == neighbour and set(marked[first:][: marked.count(name)]) == {name}
    for file, text in texts(copy).items():  # nothing of what was there is gone, or moved
        lines = iter(text.splitlines())
        assert all(line in lines for line in before[file].splitlines()), file
    assert {part.file for part in parts} == {f for f, text in texts(copy).items() if text != before[f]}
    assert all(part.unwritten for part in parts)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_what_the_pages_begin_with_can_be_begun(page, tmp_path):
    """The commands that they give, as a shell takes them."""
    shutil.copytree(ROOT / "solutions", tmp_path / "solutions", ignore=shutil.ignore_patterns("*.ipynb*"))
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__", "project"))
    text = (ROOT / page).read_text("utf-8")
    begun = []
    for line in re.findall(r"(?m)^circuits (new-.*)$", text):
        command, *words = shlex.split(line)
        if command == "new-exercise":
            chapter, what, *option = words
            assert option in ([], ["--after", "bigram_counts"])
            begun += [part.file for part in new_exercise(chapter, what, *option[1:], root=tmp_path)]
        else:
            begun += new_chapter(*words, root=tmp_path)
    assert len(begun) == {"README.md": 5, "CONTRIBUTING.md": 9}[page]


def test_from_the_skeleton_to_a_proven_exercise(tiny):
    """Whatever is written next in the order in which `dev-check` asks for it, that line is gone; in the end there is none."""
    new_exercise("tiny", TREBLE, "double", tiny)
    chapter = Chapter("1_tiny", tiny)

    def said() -> list[str]:
        return [line.removeprefix("1_tiny: treble: ") for line in findings("treble", tiny)]

    def lines_of(what: str) -> list[str]:
        return [line for line in said() if what in line]

    first = said()
    files = [line.split(":")[0].removeprefix(f"{tiny}/") for line in first if ": to do: " in line]
    order = ["solutions/1_tiny/tiny.py", "tests/checks/test_tiny.py", "tests/mistakes/tiny.py", "tests/variants/tiny.py"]
    assert list(dict.fromkeys(files)) == order
    assert "is not in" in first[-1] and "circuits build" in first[-1]
    assert [files.count(file) for file in order[1:]] == [4, 5, 2]  # of the checks one is SYMMETRIES
    for line in first[: len(files)]:
        file, number = re.match(r"(.+?\.py):(\d+): ", line).groups()
        assert "TODO" in Path(file).read_text("utf-8").splitlines()[int(number) - 1]

    source = chapter.source
    replaced(source, "TODO: a title ", "treble ")
    for todo in ("TODO: what to write and why", "TODO: a nudge", "TODO: nearly the answer", "TODO: what comes out", "TODO: what the picture"):
        replaced(source, todo, "Thrice")
    replaced(source, "# TODO: look at the result on a trained model", "# Thrice")
    assert len(lines_of("solutions/")) == 1 and "to do: the answer" in said()[0]
    replaced(source, re.search("raise NotImplementedError  # TODO.*", source.read_text())[0], "return 3**times * x")
    assert not lines_of("solutions/")

    checks = chapter.checks_file
    text = checks.read_text()
    by_hand, loop, identity = (f.lines[-1].strip() for f in functions(checks, "treble"))
    assert loop == identity
    replaced(checks, by_hand, "expect(submission.treble(2.0), 6.0, 'three times 2')")
    replaced(checks, text[text.index("    # TODO: the smallest case"):].splitlines()[0] + "\n", "")
    assert len(lines_of("to do: inputs drawn")) == 1 and not lines_of("reference answer fails")
    replaced(checks, "expect(submission.treble(2.0), 6.0", "expect(submission.treble(2.0), 7.0")
    assert lines_of("the reference answer fails"), "a check is tried as soon as it is written"
    replaced(checks, "expect(submission.treble(2.0), 7.0", "expect(submission.treble(2.0), 6.0")
    replaced(checks, loop, "x = torch.rand(1, generator=rng).item()\n    n = int(torch.randint(3, 9, (1,), generator=rng))\n"
             "    want = x\n    for _ in range(n):\n        want = want + want + want\n"
             "    expect(submission.treble(x, n), want, 'three times x')")
    for n in range(2):
        replaced(checks, next(line for line in checks.read_text().splitlines() if "    # TODO" in line) + "\n", "")
    assert lines_of("to do: symmetric(...)")
    replaced(checks, re.search("TODO: symmetric[^\"]*", checks.read_text())[0], "its arguments are numbers")
    assert not lines_of("tests/checks/")

    mistakes = chapter.mistakes_file
    wrong = ["x + 3", "x * x * x", "-3 * x", "3 * x if times == 1 else x", "3 * x + 1 / times"]
    for body, function in zip(wrong, functions(mistakes, "treble")):
        old = "\n".join(function.lines)
        new = old.replace("TODO: what is wrong and what to do about it, in a sentence.", f"You compute {body}.")
        replaced(mistakes, old, new.replace("raise NotImplementedError", f"return {body}"))
    assert not lines_of("tests/mistakes/")
    variants = chapter.variants_file
    for body, function in zip(["(2 * x + x) * 3 ** (times - 1)", "x * 3.0**times"], functions(variants, "treble")):
        old = "\n".join(function.lines)
        replaced(variants, old, re.sub("    # TODO.*\n", "", old).replace("raise NotImplementedError", f"return {body}"))

    assert len(said()) == 1 and "is not in" in said()[0]
    build(tiny)
    assert problems("treble", tiny) == ([], 1)
    assert problems(root=tiny) == ([], 2)


@pytest.mark.parametrize("chapter, name, after, says", [
    ("tiny", "double", None, "1_tiny has or had an exercise 'double' already"),
    ("tiny", "twice", None, "1_tiny has or had an exercise 'twice' already"),
    ("tiny", "Double", None, "'Double' is no name for an exercise"),
    ("tiny", "class", None, "'class' is no name for an exercise"),
    ("tiny", "f(x", None, "does not compile: give a signature as Python has it"),
    ("tiny", "f(x): pass\ndef g(", None, "does not compile"),
    ("tiny", "halve", "treble", "1_tiny has no exercise 'treble'. It has: double"),
    ("small", "halve", None, "No chapter is called 'small'. There are: 1_tiny."),
])  # fmt: skip
def test_what_cannot_be_begun_is_told_and_changes_nothing(tiny, chapter, name, after, says):
    replaced(tiny / "solutions/1_tiny/tiny.py", '# %% exercise="double"', '# %% exercise="double" was="twice"')
    before = texts(tiny)
    with pytest.raises(CourseError, match=re.escape(says)):
        new_exercise(chapter, name, after, tiny)
    assert texts(tiny) == before


def test_a_file_that_does_not_compile_is_not_written_into(tiny):
    file = tiny / "tests/mistakes/tiny.py"
    for old, new, says in (("def wrong_0", "def ((", "does not compile"), ("def ((", "def wrong_0", "needs a table SYMMETRIES")):
        replaced(file, old, new)
        before = texts(tiny)
        if "SYMMETRIES" in says:
            replaced(tiny / "tests/checks/test_tiny.py", "SYMMETRIES = {\n    ", "SYMMETRIES = {")
            replaced(tiny / "tests/checks/test_tiny.py", ",\n}", "}")
            before = texts(tiny)
        with pytest.raises(CourseError, match=says):
            new_exercise("tiny", "halve", None, tiny)
        assert texts(tiny) == before


def test_a_new_chapter_builds_and_says_what_it_lacks(tiny):
    new_chapter("2_small", "Small: a start", tiny)
    build(tiny)
    found, n = problems(root=tiny)
    assert n == 1 and any("to do: three or four things, each with a verb" in line for line in found), "also before its first exercise"
    new_exercise("2_small", "halve(x: float) -> float", None, tiny)
    build(tiny)
    chapter = Chapter("2_small", tiny)
    assert chapter.title == "2 · Small: a start" and list(chapter.exercises) == ["halve"]
    cells = [cell.lines for cell in [of_exercise(chapter, "halve")]][0]
    text = chapter.source.read_text()
    assert text.index("## TODO: the first idea") < text.index(cells[0] + "\n" + cells[1]) < text.index("## What you have shown")
    found, n = problems(root=tiny)
    assert n == 2 and [line for line in found if line.startswith("1_tiny")] == []
    assert any("to do: three or four things, each with a verb" in line for line in found)
    assert any("the exercises take 5 minutes, and the chapter's opening says 0 of 30" in line for line in found)
    assert not any("three or four things" in line for line in problems("halve", tiny)[0]), "it is not the exercise's"


@pytest.mark.parametrize("name, says", [
    ("1_other", "There is 1_tiny already"), ("2_tiny", "There is 1_tiny already"), ("tiny", "is no name for a chapter"),
    ("02_x", "is no name for a chapter"), ("2_Small", "is no name"), ("2_a/b", "is no name"), ("../2_x", "is no name"),
])  # fmt: skip
def test_a_chapter_needs_a_number_and_a_name_of_its_own(tiny, name, says):
    before = texts(tiny)
    with pytest.raises(CourseError, match=says):
        new_chapter(name, "Title", tiny)
    assert texts(tiny) == before


def test_watching_an_exercise_checks_it_now_and_after_each_save(tiny, monkeypatch):
    monkeypatch.chdir(tiny)
    before = dev_check.selected
    monkeypatch.setattr(dev_check, "selected", lambda exercise: before(exercise, tiny))
    saves = iter([None, tiny / "tests/variants/tiny.py", None, tiny / "solutions/1_tiny/tiny.py", None, None])
    ran: list[list[str]] = []

    def look() -> bool:
        file = next(saves, "end")
        if isinstance(file, Path):
            file.write_text(file.read_text() + "\n")
        return file != "end"

    monkeypatch.setattr(watch, "seconds_pass", look)
    monkeypatch.setattr(subprocess, "run", lambda command: ran.append(command[2:]))
    done = CliRunner().invoke(cli.main, ["dev-check", "double", "--watch", "--seeds", "2"])
    assert done.exit_code == 0, done.output
    assert ran == [["circuits.cli", "dev-check", "double", "--seeds", "2"]] * 3
    assert [line for line in done.output.splitlines() if line.endswith(".py:")] == ["tests/variants/tiny.py:", "solutions/1_tiny/tiny.py:"]


def test_watching_everything_is_refused():
    done = CliRunner().invoke(cli.main, ["dev-check", "--watch"])
    assert done.exit_code == 1 and "Watch one exercise" in done.output
