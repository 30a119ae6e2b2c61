"""What the course adds to Sphinx: formulas as MathML, and links from a chapter's words to the glossary and from its papers to where
they can be read."""

import re
from collections.abc import Callable
from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from circuits.formulas import mathml, set_in_tags
from circuits.website import mentions

CHAPTERS = "chapters/"  # where the pages of chapters lie
GLOSSARY = "glossary"

log = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict:
    app.add_config_value("circuits_words", [], "html")  # mentions.Word
    app.add_config_value("circuits_papers", [], "html")  # mentions.Paper
    app.add_html_math_renderer("mathml", (_inline_formula, None), (_block_formula, None))
    app.connect("doctree-read", _formulas_in_tags)
    app.connect("doctree-resolved", _link_mentions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


# Formulas -----------------------------------------------------------------------------------


def _set(tex: str, display: str) -> str:
    found = mathml(tex, display)
    if found is None:
        log.warning("a formula cannot be read: %s", tex)
    return found or f"<code>{escape(tex)}</code>"


def _inline_formula(translator, node: nodes.math) -> None:
    translator.body.append(_set(node.astext(), "inline"))
    raise nodes.SkipNode


def _block_formula(translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="formula" tabindex="0" role="group" aria-label="formula">{_set(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def _formulas_in_tags(app: Sphinx, doctree: nodes.document) -> None:
    """In HTML that a text holds, such as a hint; in what a cell shows, a $ is a $."""
    for node in doctree.findall(nodes.raw):
        if not _inside(node, lambda parent: "cell_output" in parent.get("classes", [])):
            text = set_in_tags(node.astext(), lambda tex: _set(tex, "inline"), lambda tex: _set(tex, "block"))
            node.clear()
            node += nodes.Text(text)


def _inside(node: nodes.Node, is_it: Callable[[nodes.Element], bool]) -> bool:
    while (node := node.parent) is not None:
        if is_it(node):
            return True
    return False


# Links --------------------------------------------------------------------------------------

NO_PROSE = (
    nodes.title, nodes.reference, nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw, nodes.FixedTextElement,
)  # fmt: skip


def _link_mentions(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """The first mention of each word of the glossary, and every mention of a paper, becomes a link. Chapters only: the other
    pages are for people who look something up."""
    if not docname.startswith(CHAPTERS):
        return
    glossary = app.builder.get_relative_uri(docname, GLOSSARY)
    todo, known = list(app.config.circuits_words), app.config.circuits_papers
    for stressed in list(doctree.findall(nodes.emphasis)):
        paper = mentions.titled(stressed.astext(), known)
        if paper and not _inside(stressed, lambda parent: isinstance(parent, NO_PROSE)):
            link = nodes.reference("", "", refuri=paper.address, internal=False)
            stressed.replace_self(link)
            link += stressed
    for text in list(doctree.findall(nodes.Text)):
        if not _inside(text, lambda parent: isinstance(parent, NO_PROSE) or "cell" in parent.get("classes", [])):
            new = _linked(text.astext(), glossary, todo, known)
            if len(new) > 1 or not isinstance(new[0], nodes.Text):
                text.parent.replace(text, new)


def _linked(text: str, glossary: str, todo: list[mentions.Word], known: list[mentions.Paper]) -> list[nodes.Node]:
    """A text with its links; what was linked is taken off the words that are still to be."""
    found: list[nodes.Node] = []
    at = 0
    while todo or known:
        word = mentions.words_pattern(todo).search(text, at) if todo else None
        paper = next((m for m in mentions.CITATION.finditer(text, at) if mentions.cited(m, known)), None)
        first = min((m for m in (word, paper) if m), key=re.Match.start, default=None)
        if first is None:
            break
        if first is word:
            meant = mentions.word_of(word[1], todo)
            todo.remove(meant)
            link = nodes.reference("", "", nodes.Text(word[0]), refuri=f"{glossary}#{meant.anchor}", internal=True, classes=["word"])
        else:
            link = nodes.reference("", "", nodes.Text(paper[0]), refuri=mentions.cited(paper, known).address, internal=False)
        found += [nodes.Text(text[at : first.start()])] * (first.start() > at) + [link]
        at = first.end()
    return found + [nodes.Text(text[at:])] * (at < len(text) or not found)
