"""A chapter is run once, and again when something changes that it was made from. Two tiny chapters stand for all."""

import re
from contextlib import contextmanager
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from click.testing import CliRunner

from circuits.chapters import Chapter
from circuits.cli import main
from circuits.website import results
from circuits.website.build import build
from utils.errors import CourseError


@contextmanager
def changed(file: Path, old: str, new: str):
    """A file with some text replaced, for a while."""
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")
    try:
        yield
    finally:
        file.write_text(text, "utf-8")


def chapters_of(course: Path) -> list[Chapter]:
    return [Chapter("1_one", course), Chapter("2_two", course)]


def stands(course: Path) -> list[bool]:
    """Of each chapter, whether what is kept stands, as it is now."""
    return [results._read(chapter, course / "kept").stand(chapter) for chapter in chapters_of(course)]


def test_a_page_shows_results_and_folds_what_a_learner_is_to_find(tiny):
    page = BeautifulSoup((tiny / "chapters" / "one.html").read_bytes(), "html.parser").find("article")
    assert "ran one" in page.get_text()
    picture = page.find("img", alt=re.compile("A curve: loss"))
    assert (tiny / "chapters" / picture["src"]).resolve().is_file() and picture["loading"] == "lazy"
    folded = {d.summary.get_text(): d.get_text() for d in page.find_all("details")}
    assert "the_answer" in folded["One answer to direct_path"]
    assert "3 of 3 points" in folded["What the checks of direct_path ask"]
    assert page.find(id="direct-path") and page.find(id="old-direct-path"), "also by the name that it had before"
    assert page.find("summary", string="Hint 1").parent.find("math") and "$2" in page.find("summary", string="Hint 1").parent.find("code").get_text()
    assert "progress()" not in page.get_text()
    assert [a.get_text() for a in page.find_all("a", class_="word")] == ["residual stream"], "the first mention, and no other"
    assert [a.get_text() for a in page.find_all("a", class_="external")] == ["Attention Is All You Need", "Geva et al., 2021"]


def test_without_a_repository_there_is_no_link_to_one(tiny):
    text = (tiny / "index.html").read_text()
    assert "the code" in text and "utils/model.py" not in text and not (tiny / "launch").exists()
    assert 'url=../chapters/one.html"' in (tiny / "old" / "page.html").read_text()


def test_what_stands_is_not_run_again(course, tiny, monkeypatch):
    monkeypatch.setattr(results, "run", lambda chapter: pytest.fail(f"{chapter.name} was run again"))
    said = []
    build(course, course / "site", course / "kept", repository="", say=said.append)
    assert not any(line.startswith("To run") for line in said)


@pytest.mark.parametrize("file, old, new, still", [
    ("solutions/1_one/one.py", "# Twice.", "# Two times.", [True, True]),
    ("solutions/1_one/one.py", 'print("ran one")', 'print("ran anew")', [False, True]),
    ("solutions/1_one/one.py", "the_answer = W_E @ W_U", "the_answer = W_E.matmul(W_U)", [False, True]),
    ("tests/checks/test_two.py", '"nothing"', '"still nothing"', [True, False]),
    ("docs/glossary.md", "reads", "sees", [True, True]),
])  # fmt: skip
def test_what_changes_a_result_asks_for_it_anew_and_nothing_else_does(file, old, new, still, course, tiny):
    assert stands(course) == [True, True]
    with changed(course / file, old, new):
        assert stands(course) == still


def test_a_change_of_what_a_chapter_imports_asks_for_it_anew(course, tiny):
    """Of the course's modules, those that it imports, directly or not; models that are added change nothing, one that changes does."""
    one = chapters_of(course)[0]
    kept = results._read(one, course / "kept")
    made = set(kept.made_from)
    assert {"utils/figures/plots.py", "utils/figures/__init__.py", "circuits/report.py", "tests/checks/test_one.py"} <= made
    assert not any(name in path for path in made for name in ("grading", "website", "labels.py", "materials"))
    for path in ("utils/figures/plots.py", "utils/checkpoints/one_layer.safetensors", "versions"):
        assert not results.Results(kept.outputs, {**kept.made_from, path: "another"}, 1.0).stand(one), path
    fewer = {path: digest for path, digest in kept.made_from.items() if not path.startswith("utils/checkpoints")}
    assert results.Results(kept.outputs, fewer, 1.0).stand(one), "a model that came later"


@pytest.mark.parametrize("import_, module", [
    ("from utils import load_model", "utils/pretrained.py"), ("import utils.labels", "utils/labels.py"),
    ("def f():\n    from utils.materials.dictionaries import load", "utils/materials/dictionaries.py"),
])  # fmt: skip
def test_imports_are_found_wherever_they_stand(import_, module):
    found = {file.relative_to(results._PACKAGES).as_posix() for file in results._modules(results._imported(import_))}
    assert module in found and "utils/__init__.py" in found


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"form": 1}'])
def test_what_cannot_be_read_is_as_if_it_were_not_there(damage, course, tmp_path):
    chapter = chapters_of(course)[0]
    (tmp_path / "1_one.json").write_bytes(damage)
    assert results._read(chapter, tmp_path) is None


def test_only_the_changed_chapter_is_run_and_how_long_it_takes_is_said(course, tiny, monkeypatch):
    ran, said = [], []
    monkeypatch.setattr(results, "run", lambda c: ran.append(c.name) or results._read(c, course / "kept"))
    with changed(course / "solutions/1_one/one.py", 'print("ran one")', 'print("ran anew")'):
        results.results(chapters_of(course), course / "kept", said.append)
    assert ran == ["1_one"] and re.fullmatch(r"To run: 1_one \(about \d+ min\); 1 kept from before\.", said[0])


@pytest.mark.parametrize("old, new, says", [
    ('print("ran one")', "1 / 0", "1_one: cell .* raised ZeroDivisionError"),
    ("the_answer = W_E @ W_U", "the_answer = 2 * W_E @ W_U", "the reference answer of 'direct_path' does not pass its checks"),
])  # fmt: skip
def test_a_chapter_in_which_something_fails_is_refused_and_the_old_site_stays(old, new, says, course, tiny):
    before = (tiny / "index.html").read_bytes()
    with changed(course / "solutions/1_one/one.py", old, new), pytest.raises(CourseError, match=says):
        build(course, tiny, course / "kept", repository="", say=lambda line: None)
    assert (tiny / "index.html").read_bytes() == before and stands(course) == [True, True]


@pytest.mark.parametrize("file, old, new, says", [
    ("README.md", "docs/glossary.md", "docs/no.md", None),  # leads to a file that is none: text, as there is no repository
    ("solutions/1_one/one.py", "\\frac{1}{2}$", "\\frac{1}{$", "a formula cannot be read"),
    ("docs/glossary.md", "“A section”", "“No section”", "chapters/one.*no-section|no-section"),
    ("docs/glossary.md", "| What every", "What every", "glossary.md: a row is"),
    ("docs/references.md", "| 1936 |", "| then |", "references.md: a row is"),
    ("docs/addresses.txt", "map\n", "", "these pages are new.*: map"),
])  # fmt: skip
def test_a_page_that_is_not_good_is_refused_in_a_line(file, old, new, says, course, tiny):
    with changed(course / file, old, new):
        if says is None:
            build(course, course / "other", course / "kept", repository="", run=False, say=lambda line: None)
            return
        with pytest.raises(CourseError, match=says) as refused:
            build(course, course / "other", course / "kept", repository="", run=False, say=lambda line: None)
    assert "\n" not in str(refused.value)


def test_bad_input_is_one_line(course, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(CourseError, match="holds something that is no site"):
        build(course, tmp_path / "mine", repository="", run=False)
    with pytest.raises(CourseError, match="There are no chapters in"):
        (tmp_path / "pyproject.toml").write_text("")
        build(tmp_path, tmp_path / "site", repository="")
    done = CliRunner().invoke(main, ["site", "--repository", "my repository", "--out", str(tmp_path / "site")])
    assert done.exit_code == 1 and done.stderr == "circuits: 'my repository' is no address of a repository: it begins with https://.\n"
