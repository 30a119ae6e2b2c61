"""Addresses stay, and links lead somewhere."""

from pathlib import Path

import pytest

from circuits.chapters import ROOT
from circuits.website import addresses
from utils.errors import CourseError


def pages(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text)
    return folder


def test_links_that_hold_are_counted(tmp_path):
    one = '<a href="two.html#there">x</a><a href="#here">x</a><p id="here"><img src="a%20b.png"><a href="https://example.org/no">x</a>'
    (tmp_path / "a b.png").touch()
    assert addresses.follow(pages(tmp_path, one=one, two='<h1 id="there">x</h1><a href="#">x</a>')) == 3


@pytest.mark.parametrize("link, why", [
    ("three.html", "no such file"), ("two.html#nowhere", "no such place"), ("#nowhere", "no such place"), ("../out.html", "no such file"),
])  # fmt: skip
def test_one_that_does_not_is_named(link, why, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    pages(tmp_path, out="")
    with pytest.raises(CourseError, match=f"one.html: {link} .{why}"):
        addresses.follow(pages(site, one=f'<a href="{link}">x</a>', two=""))


def test_an_old_address_leads_on(tmp_path):
    file = tmp_path / "addresses.txt"
    file.write_text("# a remark\nindex\nchapters/new  # as it is\nchapters/deep/old chapters/new\nold index\n")
    addresses.keep(tmp_path, file, ["index", "chapters/new"])
    assert 'url=../../chapters/new.html"' in (tmp_path / "chapters" / "deep" / "old.html").read_text()
    assert 'href="index.html"' in (tmp_path / "old.html").read_text()


@pytest.mark.parametrize("table, why", [
    ("index\ngone\n", "these pages are gone; say where they went .*: gone"),
    ("", "these pages are new; add a line for each.*: index"),
    ("index\nold nowhere\n", "lead to no page, or away from one: old nowhere"),
    ("index\nold older\nolder index\n", "lead to no page, or away from one: old older"),
    ("index index\n", "lead to no page, or away from one: index index"),
    ("index\nindex\n", "addresses.txt:2: a line is an address"),
    ("index\na b c\n", "addresses.txt:2: a line is an address"),
    ("index\nA?b\n", "addresses.txt:2: a line is an address"),
])  # fmt: skip
def test_an_address_that_would_be_lost_is_refused(table, why, tmp_path):
    file = tmp_path / "addresses.txt"
    file.write_text(table)
    with pytest.raises(CourseError, match=why):
        addresses.keep(tmp_path, file, ["index"])


def test_no_address_of_a_chapter_has_its_number():
    known = addresses.table(ROOT / "docs" / "addresses.txt")
    assert len(known) > 15 and not any(part[0].isdigit() for address in known for part in address.split("/"))
