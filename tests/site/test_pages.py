"""The real site's pages: what a reader finds on them."""

import re
import threading
import tomllib
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup

from circuits.chapters import ROOT, chapters
from circuits.parts import is_text, source_cells
from circuits.website import mentions, pages
from circuits.website.pages import page_of

every_chapter = pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
LOOKED_AT = ["index", "map", "chapters/bigrams"]
ALSO = ["glossary", "references", "models", "instructors", "contributing", "checks", "quality", "changes", "chapters/patching"]


@cache
def parsed(file: Path) -> BeautifulSoup:
    return BeautifulSoup(file.read_bytes(), "html.parser")


def article(site: Path, page: str) -> BeautifulSoup:
    return parsed(site / f"{page}.html").find("article")


def text_outside(page: BeautifulSoup, *tags: str) -> str:
    return "".join(text for text in page.find_all(string=True) if not text.find_parent(tags))


@every_chapter
def test_a_chapter_says_what_one_can_do_afterwards_what_it_needs_and_how_long_it_takes(chapter, site):
    text = article(site, page_of(chapter)).get_text()
    assert all(words in text for words in ("After this chapter you can", "Time: about", "Needs", "Work through this chapter"))


@every_chapter
def test_exercises_have_their_names_as_anchors_stubs_shown_and_answers_folded(chapter, site):
    page = article(site, page_of(chapter))
    answers = dict(_answers(chapter))
    for name in chapter.exercise_names:
        assert page.find(id=name.replace("_", "-")), name
        folded = [d for d in page.find_all("details") if d.summary.get_text() == f"One answer to {name}"]
        assert len(folded) == 1 and not folded[0].has_attr("open") and _words(answers[name]) in _words(folded[0].get_text()), name
    open_ = text_outside(page, "details")
    assert open_.count("raise NotImplementedError()") >= len(chapter.exercises), "stubs"
    assert [name for name, code in answers.items() if _words(code) in _words(open_)] == []


def _answers(chapter):
    for part in source_cells(chapter.source):
        if name := re.search(r'exercise="(\w+)"', part.lines[0]):
            inside = "\n".join(part.lines).split("### BEGIN SOLUTION")[1].split("### END SOLUTION")[0]
            yield name[1], inside


def _words(text: str) -> str:
    return "".join(text.split())


@every_chapter
def test_every_formula_is_set_without_a_script(chapter, site):
    page = article(site, page_of(chapter))
    formulas = sum(len(re.findall(r"(?<!\$)\$[^$]", c.text)) // 2 for c in source_cells(chapter.source) if is_text(c))
    assert len(page.find_all("math")) > 20 and len(page.find_all("math")) > 0.5 * formulas
    assert re.findall(r"\$|\\[a-zA-Z]+", text_outside(page, "code", "pre", "script", "math")) == []


@every_chapter
def test_a_word_leads_to_the_glossary_once_and_papers_to_where_they_can_be_read(chapter, site):
    page = article(site, page_of(chapter))
    led = [a["href"] for a in page.find_all("a", class_="word")]
    assert len(led) > 5 and len(set(led)) == len(led) and all(to.startswith("../glossary.html#term-") for to in led)
    assert not any(a.find_parent(["h1", "h2", "h3", "pre", "code", "summary"]) for a in page.find_all("a", class_="word"))
    known = {paper.address for paper in mentions.papers(ROOT / "docs" / "references.md")}
    assert {a["href"] for a in page.find_all("a", class_="external")} & known


@every_chapter
def test_every_paper_that_a_chapter_names_is_among_the_references(chapter):
    known = mentions.papers(ROOT / "docs" / "references.md")
    text = " ".join(re.sub(r"`[^`]*`", "", cell.text) for cell in source_cells(chapter.source) if is_text(cell))
    sure = [m for m in mentions.CITATION.finditer(text) if " et al." in m[0] or " others" in m[0] or f"({m[0]}" in text]
    assert [m[0] for m in sure if mentions.cited(m, known) is None] == []


def test_references_are_in_order_and_none_comes_twice():
    rows = [(p.names[0].lower(), p.year, p.title) for p in mentions.papers(ROOT / "docs" / "references.md")]
    assert len(rows) > 30 and len({p.address for p in mentions.papers(ROOT / "docs" / "references.md")}) == len(rows)
    assert [row[:2] for row in rows] == sorted(row[:2] for row in rows)


def test_the_map_has_every_exercise(site):
    links = {a["href"] for a in article(site, "map").find_all("a")}
    wanted = {f"{page_of(c)}.html#{name.replace('_', '-')}" for c in chapters() for name in c.exercise_names}
    assert wanted <= links and len(wanted) > 100


def test_repository_pages_lead_to_pages_and_to_the_repository(site):
    index = {a["href"] for a in article(site, "index").find_all("a")}
    assert {"chapters/bigrams.html", "glossary.html", "contributing.html", "instructors.html", "models.html"} <= index
    assert any(re.fullmatch(r"https://github.com/owner/circuits/blob/[0-9a-f]{40}/utils/model.py", to) for to in index)
    assert "git clone https://github.com/owner/circuits circuits" in article(site, "index").get_text()


def test_the_repository_address_stands_in_one_place():
    """And where a page of the repository gives it, it says that it is not there yet, or is the same."""
    address = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["circuits"]["repository"]
    for page in ("README.md", "CONTRIBUTING.md", "docs/instructors.md"):
        given = re.findall(r"git clone (\S+)", (ROOT / page).read_text("utf-8"))
        assert given and set(given) <= {"ADDRESS-OF-THIS-REPOSITORY", address or "-"}, page


def test_an_interactive_figure_is_its_picture(tmp_path):
    """CircuitsVis' canvases have no words for those who cannot see them, and colours for one theme only."""
    from circuits import interactive

    def output(figure) -> dict:
        return {"output_type": "display_data", "metadata": {}, "data": figure._repr_mimebundle_()}

    assert pages._is_library(output(interactive.load_circuitsvis()))
    drawn = output(interactive.attention(["a", "b", "c"], torch.eye(3)[None], ["0.0"], "Attention"))
    still = pages._still(drawn, tmp_path)
    assert "<script" in pages._html(drawn) and not pages._is_library(drawn)
    assert "<script" not in pages._html(still) and "Attention" in pages._html(still)
    text = {"output_type": "stream", "name": "stdout", "text": "3"}
    assert pages._still(text, tmp_path) == text


# In a browser -------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass


@pytest.fixture(scope="module")
def served(site):
    """The site's address on a server of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def offences(browser, theme: str, files: list[Path]) -> dict[str, list[str]]:
    """By page and rule of axe-core: what breaks a rule seriously, with everything unfolded; and what is asked for elsewhere."""
    context = browser.new_context(color_scheme=theme, viewport={"width": 1300, "height": 900})
    page = context.new_page()
    found: dict[str, list[str]] = {}
    page.on("request", lambda r: r.url.startswith(("file:", "data:")) or found.setdefault("asked for elsewhere", []).append(r.url))
    for file in files:
        page.goto(file.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
        page.wait_for_timeout(700)  # the theme gives what scrolls a place in the order of keys
        for violation in Axe().run(page).response["violations"]:
            if violation["impact"] in ("serious", "critical"):
                found[f"{file.parent.name}/{file.name}: {violation['id']}"] = [n["html"][:200] for n in violation["nodes"][:3]]
    context.close()
    return found


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everybody_can_read_the_pages(theme, site, tiny, browser):
    files = [*(site / f"{name}.html" for name in LOOKED_AT), tiny / "chapters" / "one.html"]
    assert offences(browser, theme, files) == {}


@pytest.mark.browser
@pytest.mark.parametrize("theme, color", [("light", "rgb(255, 255, 255)"), ("dark", "rgb(17, 17, 17)")])
def test_figures_and_reports_stand_on_the_page_itself(theme, color, tiny, browser):
    """In colours that read on either page (tests/project/test_figures.py): nothing is painted behind them, and nothing changes them."""
    page = browser.new_page(color_scheme=theme)
    page.goto((tiny / "chapters" / "one.html").as_uri())
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == color
    for what in (".cell_output img", ".cell_output .text_html"):
        for style, value in (("backgroundColor", "rgba(0, 0, 0, 0)"), ("filter", "none")):
            of_each = f"[...document.querySelectorAll('{what}')].map(e => getComputedStyle(e).{style})"
            assert set(page.evaluate(of_each)) == {value}, what
    page.close()


@pytest.mark.proof
@pytest.mark.browser
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everybody_can_read_the_other_pages(theme, site, browser):
    assert offences(browser, theme, [site / f"{name}.html" for name in ALSO]) == {}


@pytest.mark.browser
def test_the_search_finds_what_a_text_says(served, browser):
    page = browser.new_page()
    page.goto(f"{served}/search.html?q=induction+heads+suddenly")
    page.wait_for_selector("#search-results li a", timeout=60_000)
    assert any("chapters/" in a.get_attribute("href") for a in page.query_selector_all("#search-results li a"))
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 820, 1440])
def test_a_page_is_never_wider_than_the_window(width, site, tiny, browser):
    page = browser.new_page(viewport={"width": width, "height": 900})
    for file in [*(site / f"{name}.html" for name in [*LOOKED_AT, "glossary", "quality"]), tiny / "chapters" / "one.html"]:
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, file.name
    page.close()
