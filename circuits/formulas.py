"""Formulas in pages that stand for themselves: an HTML export, a feedback page.

nbconvert leaves formulas in TeX and lets the page load MathJax from the network to set them. (JupyterLab has a MathJax of its
own, packed so that nothing else can load it.) Browsers can set MathML by themselves, so here formulas are written as that:
a page shows them without a network. `circuits/jupyter/jupyter_config.json` names this for all of Jupyter's commands.
"""

import html
import re
from collections.abc import Callable
from xml.etree.ElementTree import tostring

from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbconvert.utils.base import NbConvertBase


def mathml(tex: str, display: str = "inline") -> str | None:
    """A formula as MathML, set `inline` or as a `block`; None if this is no TeX that can be read."""
    from latex2mathml.converter import convert_to_element

    try:
        math = convert_to_element(tex, display=display)
        for part in math.iter():  # it names signs as "&#x0003D;"; what is a "<" must not become a tag
            part.text = part.text and html.unescape(part.text)
        return tostring(math, encoding="unicode")
    except Exception:  # it raises whatever it meets in half a formula
        return None


class MarkdownWithFormulas(NbConvertBase):
    """nbconvert's filter from Markdown to HTML, with the settings of the exporter that uses it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        pass_context(self)

    def __call__(self, context: Context, source: str) -> str:
        exporter = self.parent
        renderer = _Renderer(
            escape=False,
            attachments=context.get("cell", {}).get("attachments", {}),
            path=context.get("resources", {}).get("metadata", {}).get("path", ""),
            embed_images=exporter.embed_images,
            anchor_link_text=exporter.anchor_link_text,
            exclude_anchor_links=exporter.exclude_anchor_links,
            **exporter.lexer_options,
        )
        return MarkdownWithMath(renderer=renderer).render(source)


# What to leave alone, or a formula.
_IN_TAGS = re.compile(
    r"<(code|pre|script|style)\b.*?</\1>|<[^>]*>|\$\$(?P<block>.+?)\$\$|(?<![\\$])\$(?P<inline>[^$]+)\$", re.DOTALL
)


def set_in_tags(text: str, inline: Callable[[str], str], block: Callable[[str], str]) -> str:
    """HTML in which each formula is what `inline` or `block` makes of its TeX. What stands in code, and in tags, is none."""

    def put(found: re.Match) -> str:
        if found["block"] is None and found["inline"] is None:
            return found[0]
        return block(html.unescape(found["block"])) if found["block"] else inline(html.unescape(found["inline"]))

    return _IN_TAGS.sub(put, text)


class _Renderer(IPythonRenderer):
    """What cannot be read as a formula stays in TeX, as nbconvert has it."""

    def inline_math(self, body: str) -> str:
        return mathml(body) or super().inline_math(body)

    def block_math(self, body: str) -> str:
        return mathml(body, "block") or super().block_math(body)

    def block_html(self, text: str) -> str:
        """Within tags that stand by themselves, as `<details>`, nbconvert reads no Markdown, but MathJax would set formulas."""
        return super().block_html(set_in_tags(text, self.inline_math, self.block_math))

    def latex_environment(self, name: str, body: str) -> str:
        whole = f"\\begin{{{name}}}{body}\\end{{{name}}}"
        return mathml(whole, "block") or super().latex_environment(name, body)
