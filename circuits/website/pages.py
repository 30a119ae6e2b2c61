"""The pages of the website, as Sphinx takes them: chapters as notebooks with results, documents as Markdown.

Nothing is written twice: a chapter's page is its source, and the other pages are the repository's own, with links that lead to
pages where there is one, and else to the repository.
"""

import base64
import hashlib
import html
import json
import os
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path

from docutils.nodes import make_id

from circuits.build import GUARD, source_notebook
from circuits.chapters import Chapter, Task, exercise_of, is_setup, source
from circuits.results import points_text
from circuits.website import launch
from circuits.website.mentions import words
from circuits.website.sphinx_parts import CHAPTERS, GLOSSARY
from utils.errors import CourseError
from utils.files import write_file

MAP, STATIC = "map", "_static"
ADDRESS = "ADDRESS-OF-THIS-REPOSITORY"  # what pages say until it has one
# Pages of the repository and what they are called on the site; those of docs/ have their own name.
DOCUMENTS = {"README.md": "index", "CONTRIBUTING.md": "contributing", "CHANGELOG.md": "changes", "utils/checkpoints/README.md": "models"}
# What stands in the bar of the site, in this order, under which name; and what stands below one of them.
BAR = {
    MAP: "Chapters", GLOSSARY: "Glossary", "references": "References", "models": "Models", "instructors": "Teaching",
    "contributing": "Contributing", "changes": "Changes",
}  # fmt: skip
BELOW = {"contributing": ["checks", "quality"]}
LARGE = 100_000  # characters; a script of more is a library


@dataclass(frozen=True)
class Site:
    """What a site is made from: a course, its repository's address ("" if it has none) and the commit that the pages show."""

    root: Path
    repository: str
    commit: str
    chapters: list[Chapter]

    def documents(self) -> dict[str, str]:
        """The repository's pages, each with the name that it has on the site."""
        own = {file.relative_to(self.root).as_posix(): file.stem for file in sorted((self.root / "docs").glob("*.md"))}
        return {path: name for path, name in {**DOCUMENTS, **own}.items() if (self.root / path).exists()}

    def link(self, target: str, from_path: str, from_page: str) -> str | None:
        """Where a link leads on the site that stands in a page of the repository; None if nowhere."""
        path, _, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(from_path), path)) if path else from_path
        page = {c.notebook.relative_to(self.root).as_posix(): f"{page_of(c)}.ipynb" for c in self.chapters}.get(path)
        page = page or (f"{name}.md" if (name := self.documents().get(path)) else None)
        if page is None:
            return f"{self.repository}/blob/{self.commit}/{path}" if self.repository else None
        return posixpath.relpath(page, posixpath.dirname(from_page) or ".") + (f"#{anchor}" if anchor else "")


def page_of(chapter: Chapter) -> str:
    """A chapter's address on the site, without its number, which may change."""
    return CHAPTERS + make_id(chapter.notebook_name)


def write(site: Site, results: dict[str, list[list[dict]]], folder: Path) -> list[str]:
    """Write all pages below a folder, for Sphinx; returns their names. A chapter without results shows its text and code alone."""
    names = [MAP, *(page_of(chapter) for chapter in site.chapters), *site.documents().values()]
    for chapter in site.chapters:
        text = json.dumps(_chapter(site, chapter, results.get(chapter.name), folder))
        write_file(folder / f"{page_of(chapter)}.ipynb", text.encode())
    for path, name in site.documents().items():
        text = (site.root / path).read_text("utf-8")
        text = _glossary(site, site.root / path) if name == GLOSSARY else _document(site, text, path, name, folder)
        if name == "index":
            text += _contents([f"{title} <{page}>" for page, title in BAR.items() if page in names])
        text += _contents([page for page in BELOW.get(name, []) if page in names])
        write_file(folder / f"{name}.md", text.encode())
    write_file(folder / f"{MAP}.md", _map(site).encode())
    return names


def _contents(pages: list[str]) -> str:
    """The directive by which Sphinx knows the order of pages."""
    return "\n\n```{toctree}\n:hidden:\n\n" + "\n".join(pages) + "\n```\n" if pages else ""


# Documents ----------------------------------------------------------------------------------

_LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<to>[^()\s]+)\)")
_FENCED = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)


def _document(site: Site, text: str, path: str, name: str, folder: Path) -> str:
    """A page of the repository, with links as they are on the site. What leads nowhere is text."""

    def linked(found: re.Match) -> str:
        to = found["to"]
        if re.match(r"[a-z]+:", to):
            return found[0]
        if found["image"]:
            file = (site.root / path).parent / to
            write_file(folder / "images" / file.name, file.read_bytes())
            return f"![{found['text']}](/images/{file.name})"
        new = site.link(to, path, name)
        return found["text"] if new is None else f"[{found['text']}]({new})"

    parts = _FENCED.split(text.replace(ADDRESS, site.repository or ADDRESS))
    return "".join(part if part.startswith("```") else _LINK.sub(linked, part) for part in parts)


def _glossary(site: Site, file: Path) -> str:
    """The glossary's table as a list of words with an anchor each."""
    head = file.read_text("utf-8").partition("\n|")[0]
    pages = {chapter.notebook_name: chapter for chapter in site.chapters}
    lines = []
    for word in words(file):
        chapter = pages.get(word.chapter)
        place = f"({CHAPTERS}{make_id(word.chapter)}.ipynb#{make_id(word.section)})" if chapter else ""
        number = f"{chapter.name.partition('_')[0]}, “{word.section}”" if chapter else ""
        lines += [*word.names, f"  {word.meaning} [{number}]{place}" if chapter else f"  {word.meaning}", ""]
    return f"{head}\n\n````{{glossary}}\n" + "\n".join(lines) + "````\n"


def _map(site: Site) -> str:
    """The map of the course: each chapter with what it needs, what one can do afterwards, and its exercises."""
    lines = [
        "# Chapters", "",
        "What each chapter needs, what you can do afterwards, and its exercises: how hard each is (●○○ to ●●●), and how many "
        "minutes it takes. In the course, `progress()` shows this map with what you have done.", "",
    ]  # fmt: skip
    rows = _readme_rows(site)
    for chapter in site.chapters:
        tasks = chapter.tasks
        minutes, needs, afterwards = rows.get(chapter.name, (str(sum(t.minutes for t in tasks)), "", ""))
        lines += [f"## [{chapter.title}]({page_of(chapter)}.ipynb)", ""]
        if afterwards:
            lines += [f"**Afterwards you can** {afterwards}.", ""]
        worth = points_text(sum(task.points for task in tasks))
        lines += [f"**Time** {minutes} minutes · {len(tasks)} exercises, {worth} points" + f" · **Needs** {needs}" * bool(needs), ""]
        lines += ["| exercise | what | how hard | minutes |", "|---|---|---|--:|"]
        for task in tasks:
            link = f"[`{task.name}`]({page_of(chapter)}.ipynb#{make_id(task.name)})"
            lines.append(f"| {link} | {_escaped(task.title)} | {_stars(task)} | {task.minutes} |")
        lines.append("")
    return "\n".join(lines) + _contents([page_of(chapter) for chapter in site.chapters])


def _readme_rows(site: Site) -> dict[str, tuple[str, str, str]]:
    """What the table of the README says of each chapter: its minutes, what it needs, what one can do afterwards."""
    found = {}
    for line in (site.root / "README.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and (link := re.search(r"\(notebooks/(\w+)/", cells[1])):
            found[link[1]] = (cells[2], cells[4], cells[5])
    return found


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]|<>$])", r"\\\1", text)


def _stars(task: Task) -> str:
    return f'<span role="img" aria-label="difficulty {task.difficulty} of 3">{task.stars}</span>'


# Chapters -----------------------------------------------------------------------------------


def _chapter(site: Site, chapter: Chapter, outputs: list[list[dict]] | None, folder: Path) -> dict:
    """A chapter's page as a notebook: stubs shown, answers and checks behind a click, each cell with its result."""
    tasks = {task.name: task for task in chapter.tasks}
    released = {name: source(cell) for cell in chapter.cells if (name := exercise_of(cell))}
    cells: list[dict] = []
    codes = iter(outputs or [])
    path = chapter.notebook.relative_to(site.root).as_posix()
    for place, cell in enumerate(source_notebook(chapter).cells):
        meta = cell.metadata.get("nbgrader", {})
        shown = [_still(output, folder) for output in next(codes, []) if not _is_library(output)] if cell.cell_type == "code" else []
        exercise = exercise_of(cell)
        if cell.cell_type != "code":
            text = _headed(_IN_A_TABLE.sub(_escaped_bars, cell.source), tasks)
            cells.append(_text(_document(site, text, path, page_of(chapter), folder)))
            if not place:
                cells.append(_text(_work_through(site, chapter)))
        elif cell.source.strip() == "progress()":
            continue  # the map is a page here
        elif exercise:
            if exercise not in released:
                raise CourseError(f"{chapter.notebook} has no exercise {exercise!r}: run `circuits build` first.")
            answer = "\n".join(line for line in cell.source.splitlines() if "### " not in line)
            cells += [_code(released[exercise]), *_folded(f"One answer to <code>{exercise}</code>", _code(answer))]
        elif meta.get("grade"):
            summary = f"What the checks of <code>{meta['grade_id'].partition('_')[2]}</code> ask"
            cells += _folded(summary, _code(cell.source, shown))
        elif is_setup(cell):
            cells += _folded("Imports", _code(cell.source.replace(f"{GUARD}\n", "")))
        elif cell.metadata.get("jupyter", {}).get("source_hidden"):
            cells += _folded("The code that draws this", _code(cell.source))
            cells += [_code(cell.source, shown, tags=["remove-input"])] * bool(shown)
        else:
            cells.append(_code(cell.source, shown))
    language = {"name": "python", "pygments_lexer": "ipython3"}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel, "language_info": language}, "nbformat": 4, "nbformat_minor": 4}


# JupyterLab takes formulas out of a text before it looks for tables, so that a bar in one separates no cells. Here it would.
_IN_A_TABLE = re.compile(r"^\|.*\|$", re.MULTILINE)


def _escaped_bars(row: re.Match) -> str:
    return re.sub(r"\$[^$]+\$", lambda formula: re.sub(r"(?<!\\)\|", r"\\|", formula[0]), row[0])


def _text(text: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def _code(code: str, outputs: list[dict] = [], tags: list[str] = []) -> dict:
    return {"cell_type": "code", "metadata": {"tags": tags}, "source": code, "execution_count": None, "outputs": outputs}


def _folded(summary: str, *cells: dict) -> list[dict]:
    return [_text(f"<details><summary>{summary}</summary>"), *cells, _text("</details>")]


def _headed(text: str, tasks: dict[str, Task]) -> str:
    """A text with the heading of an exercise, if it has one, as the site has it: an anchor with its name (and those that it had
    before), a title that is one, and the facts below."""
    heading = re.match(r"(#+ Exercise · .*?) *[●○]{3} +\d+ min *\n", text)
    title = heading and re.sub(r"^#+ Exercise · ", "", heading[1])
    task = next((task for task in tasks.values() if task.title == title), None)
    if task is None:
        return text
    anchors = "".join(f"({name})=\n" for name in (task.name, *task.former_names))
    facts = f"{_stars(task)} {task.minutes} minutes · {points_text(task.points)} points · <code>{task.name}</code>"
    return f'{anchors}{heading[1]}\n\n<p class="facts">{facts}</p>\n\n{text[heading.end():].lstrip()}'


def _work_through(site: Site, chapter: Chapter) -> str:
    """How to get from reading to doing: on one's own machine, or on somebody else's."""
    address = html.escape(site.repository or ADDRESS)
    lines = [
        f"<p><b>Work through this chapter</b>, with checks that say what is wrong: <code>git clone {address} circuits &amp;&amp; "
        f"cd circuits &amp;&amp; make lab</code>, then open <code>{chapter.name}</code>.</p>"
    ]
    if site.repository:
        links = " · ".join(f'<a href="{html.escape(to)}">{what}</a>' for what, to in launch.links(site, chapter).items())
        lines.append(f"<p>Without installing anything: {links}. The first cell there installs the course.</p>")
    return f'<div class="work-through" role="note">{"".join(lines)}</div>'


# Results ------------------------------------------------------------------------------------

_PICTURE = re.compile(r'src="data:image/png;base64,([A-Za-z0-9+/=]+)"')
_SCRIPT = re.compile(r"<script>.*?</script>", re.DOTALL)


def _html(output: dict) -> str:
    text = output.get("data", {}).get("text/html", "")
    return text if isinstance(text, str) else "".join(text)


def _is_library(output: dict) -> bool:
    """Whether a result is no result, but a script for interactive figures."""
    return sum(map(len, _SCRIPT.findall(_html(output)))) > LARGE


def _still(output: dict, folder: Path) -> dict:
    """A cell's result as a page shows it: pictures in files of their own, so that a page loads what is looked at, and no scripts. An
    interactive figure is then the picture that it brings along, which has words for those who cannot see it and follows the theme."""
    if not _html(output):
        return output

    def picture(found: re.Match) -> str:
        return f'loading="lazy" src="{_file(base64.b64decode(found[1]), "png", folder)}"'

    return {**output, "data": {**output["data"], "text/html": _PICTURE.sub(picture, _SCRIPT.sub("", _html(output)))}}


def _file(data: bytes, kind: str, folder: Path) -> str:
    """The address, as seen from a chapter's page, of a file with this content."""
    name = f"{STATIC}/results/{hashlib.sha256(data).hexdigest()[:20]}.{kind}"
    if not (folder / name).exists():
        write_file(folder / name, data)
    return os.path.relpath(name, CHAPTERS)
