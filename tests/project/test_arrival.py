"""The page that a learner arrives at says what is so."""

import re

import pytest
import torch

import circuits
from circuits import check
from circuits.arrival import PAGE, opening, page, write_page
from circuits.chapters import chapters
from circuits.cli import main
from circuits.course_progress import remember
from circuits.learners_copy import prepare


@pytest.fixture
def copy(tmp_path, monkeypatch):
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    prepare(tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work" / "1_bigrams")
    return tmp_path / "work"


@pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
def test_every_chapter_says_how_long_it_takes_and_what_it_needs(chapter):
    time, needs = opening(chapter)
    assert re.match(r"about \S+ (minutes|hours)", time) and needs


def test_it_leads_to_every_chapter_and_to_what_comes_next(copy):
    shown = page(copy)
    for address in re.findall(r"\]\(([^)#]+)", shown):
        assert (copy / address).is_file(), address
    assert "**Begin with [0 · Foundations" in shown
    remember("split_heads", 1, 1, copy)
    assert re.search(r"\*\*Continue with \[[\w ]+\]\(0_foundations/foundations.ipynb#cell-id=\w+\)\*\* in 0 · ", page(copy))
    for task in (task for chapter in chapters() for task in chapter.tasks):
        remember(task.name, 1, 1, copy)
    assert "You have been through all of it." in page(copy)


def test_what_is_solved_is_on_it_at_once(copy):
    write_page(copy)
    check("direct_path", {"direct_path": lambda W_E, W_U: W_E @ W_U})
    assert f"1 of {sum(len(c.tasks) for c in chapters())} exercises" in (copy / PAGE).read_text()


def test_the_check_that_it_shows_is_what_a_check_says(copy):
    def bigram_counts(tokens, d_vocab):
        counts = torch.zeros(d_vocab, d_vocab, dtype=torch.long)
        for a, b in zip(tokens[:-1].tolist(), tokens[1:].tolist(), strict=True):
            counts[b, a] += 1
        return counts

    said = check("bigram_counts", {"bigram_counts": bigram_counts})._repr_html_()
    said = " ".join(re.sub(r"<[^>]+>", "", said.replace("<div", " <div")).split())
    shown = [re.sub(r"[>*`✗]", "", line).strip() for line in page(copy).splitlines() if line.startswith(">")]
    assert len(list(filter(None, shown))) == 4
    for line in shown:
        assert line in said, (line, said)


def test_it_names_what_there_is(copy):
    for name in re.findall(r"`circuits (\w+)`", page(copy)):
        assert name in main.commands
    for name in re.findall(r"`(\w+)\(", page(copy)):
        assert name in circuits.__all__
