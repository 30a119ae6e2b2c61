"""The pages that people meet first say what is so."""

import re
import tomllib

import pytest
from click.testing import CliRunner

from circuits.chapters import ROOT, chapters
from circuits.cli import main

PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/instructors.md", "docs/checks.md", "docs/glossary.md", "docs/references.md", "utils/checkpoints/README.md"]
README = (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    text = (ROOT / page).read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", text) if not link.startswith("https://")]
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_is_named_is_one(page):
    text = (ROOT / page).read_text("utf-8")
    named = set(re.findall(r"(?:^|`|/)circuits ([a-z][a-z-]+)", text, re.MULTILINE))
    assert named <= set(main.commands), named - set(main.commands)
    targets = set(re.findall(r"(?:^|`|&& )make ([a-z][a-z-]+)", text, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)} <= {"a"}


@pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
def test_the_table_of_chapters_is_right(chapter):
    number, _, title = chapter.title.partition(" · ")
    path = chapter.notebook.relative_to(ROOT).as_posix()
    (row,) = [line for line in README.splitlines() if f"({path})" in line]
    said = [cell.strip() for cell in row.strip("|").split("|")]
    assert said[0] == number and said[1] == f"[{title}]({path})"
    assert said[3] == str(len(chapter.exercises)) and all(said[4:6])


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest[1] == version


@pytest.mark.parametrize("name, kilobytes", [("docs/check.png", 150), ("docs/overview.png", 150)])
def test_the_pictures_are_small(name, kilobytes):
    file = ROOT / name
    assert file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size < 1000 * kilobytes


def test_help_names_what_a_contributor_and_an_instructor_call():
    printed = CliRunner().invoke(main, ["--help"]).output
    for command in ("new-exercise", "new-chapter", "dev-check", "report", "grade"):
        assert re.search(rf"^  {command} ", printed, re.MULTILINE), command
