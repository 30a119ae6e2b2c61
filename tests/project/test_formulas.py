"""Formulas of an exported notebook are shown without a network."""

import json
import os
import re
import subprocess
import sys

import pytest

from circuits.chapters import ROOT, chapters
from circuits.formulas import mathml

SETTINGS = ROOT / "circuits" / "jupyter"  # what an installation puts into etc/jupyter


def exported(folder, *cells: str) -> str:
    """The page that `jupyter nbconvert` makes of these Markdown cells."""
    cells = [dict(cell_type="markdown", id=f"cell-{i}", metadata={}, source=cell) for i, cell in enumerate(cells)]
    file = folder / "notebook.ipynb"
    file.write_text(json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "html", str(file)],
        env=os.environ | {"JUPYTER_CONFIG_PATH": str(SETTINGS)}, capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stderr
    return file.with_suffix(".html").read_text("utf-8")


@pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
def test_every_formula_of_the_course_can_be_read(chapter, tmp_path):
    texts = ["".join(cell["source"]) for cell in chapter.cells if cell["cell_type"] == "markdown"]
    page = exported(tmp_path, *texts)
    page = page[page.index("<main") :]
    assert page.count("<math") > 20
    shown = re.sub(r"<(code|pre|script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    shown = re.sub(r"<[^>]*>", "", shown)
    left = re.findall(r".{20}(?:\$|\\[a-zA-Z]+).{20}", shown)
    assert left == [], "TeX that is still there"


@pytest.mark.browser
def test_they_are_set_without_a_network(browser, tmp_path):
    page_of = exported(tmp_path, r"Then $\frac{a_1}{b} \le \sqrt{d_\text{head}}$ holds.", "$$\\sum_k \\lambda_k$$\n\n```python\ncost = '$5 or $6'\n```")
    assert page_of.count("<math") == 2
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto((tmp_path / "notebook.html").as_uri(), wait_until="domcontentloaded")
    text = page.inner_text("main")
    assert "$5 or $6" in text and "\\frac" not in text and "𝜆" in text
    above, below = (page.locator("mfrac > *").nth(i).bounding_box() for i in range(2))
    assert above["y"] + above["height"] <= below["y"] + 1, "a fraction is one"
    inline, block = (page.locator("math").nth(i).bounding_box() for i in range(2))
    assert block["width"] > inline["width"], "a block has a line of its own"
    context.close()


def test_what_is_no_formula_stays_as_it_is_and_harms_nothing(tmp_path):
    page = exported(tmp_path, r"Half of one: $\frac{1}{$, and $<script>top.ran = 1</script>$, and $x \text{<img src=x onerror=ran()>}$.")
    assert "<script>top.ran" not in page and "<img src=x" not in page
    assert "Half of one: " in page and mathml(r"\frac{1}{") is None, "as nbconvert has it"
