"""How figures look: as wide as the column at most, readable on white and on black, each with a sentence that says
what it shows, labels that cannot be taken for each other; and code cells no wider than the column."""

import base64
import io
import re
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from circuits import interactive
from circuits.chapters import ROOT, chapters, read_cells, source
from circuits.pictures import description, picture, png
from utils.figures import DENSITY, PIXELS, WIDTH, neurons, plots

matplotlib.use("agg")
COLUMN = 850  # pixels


def opened(fig) -> np.ndarray:
    """A figure's picture as dots [height width red green blue alpha]."""
    return np.asarray(Image.open(io.BytesIO(png(fig))).convert("RGBA"))


def every_kind() -> dict:
    """A figure of each kind that `plots` draws, wider than the column where one can ask for that."""
    curve = (range(9), torch.linspace(4, 2, 9).tolist())
    tokens = [" self", ".", "\n    ", "(", ")"] * 8
    heads = [f"0.{h}" for h in range(8)]
    several = plots.axes(4, size=(5.0, 3.0))
    for ax in several:
        plots.lines({"one": curve, "two": curve}, "Curves", "step", "loss (nats)", ax=ax)
    values = torch.randn(8, generator=torch.Generator().manual_seed(0))
    bars = {"clean": (values, values.abs() / 9), "corrupted": (-values, values.abs() / 9)}
    return {
        "lines": several[0],
        "matrix": plots.matrix(torch.eye(40) - 0.3, tokens, tokens, "Attention", "source", "token", "weight"),
        "image": plots.image(torch.eye(9), "Weights", "column", "row", "weight"),
        "points": plots.points(values, -values, "Heads", "x", "y", labels={1: "0.1", 2: "0.2"}),
        "stacks": plots.stacks({"written": {"embedding": 9, "heads of layer 0": 7}}, "Sizes", "dimensions", {"all": 9}),
        "bars": plots.bars(values, [f"{name}\npositional" for name in heads], "Losses", "head", "nats"),
        "histogram": plots.histogram({"chance": values}, {"0.1": 0.1, "0.2": 0.11}, "Scores", "score", "heads"),
        "complex_plane": plots.complex_plane({"head 0.1": torch.randn(5) * 1j, "chance": torch.rand(5) * 1j}, "Eigenvalues", "real", "imaginary"),
        "rooms": plots.rooms(["a", "b", "c", "d", "e"], [("start", {"a": "token"}), ("end", {"b": "token"})], [(0, "a", "b", "moved")], "Rooms"),
        "by_head": plots.by_head({"score": values, "loss": values}, heads, "Heads", {"found": [1]})[0],
        "cards": neurons.cards([("Neuron 0.1", [("def ", "f", "(x)", 3.1)], ["promotes  ("])] * 2)[0],
        "grouped_bars": plots.grouped_bars(bars, heads, "Groups", "head", "nats", levels={"all": 1.0}),
    }


@pytest.fixture(scope="module")
def kinds():
    return every_kind()


def test_no_figure_is_wider_than_the_column(kinds):
    for kind, ax in kinds.items():
        dots = opened(ax.figure)
        shown = int(re.search(r'width="(\d+)"', picture(ax.figure))[1])
        assert shown <= COLUMN, kind
        assert abs(dots.shape[1] - DENSITY * shown) <= DENSITY, f"{kind} has {DENSITY} dots to the pixel"
        height = int(re.search(r'height="(\d+)"', picture(ax.figure))[1])
        assert abs(dots.shape[0] - DENSITY * height) <= DENSITY, "a page knows the place that it takes, before it is loaded"
    assert WIDTH * PIXELS == COLUMN


def test_panels_that_do_not_fit_beside_each_other_stand_below(kinds):
    for n, width, columns in ((2, 6.2, 1), (3, 4.4, 2), (5, 3.1, 3), (1, 12.0, 1)):
        panels = plots.axes(n, size=(width, 3.0))
        panels = panels if n > 1 else [panels]
        assert len({round(ax.get_position().x0, 3) for ax in panels}) == columns
        assert len(panels) == n and panels[0].figure.get_figwidth() <= WIDTH


def test_the_picture_is_the_figure(kinds):
    """Its own palette of 256 colours changes next to nothing, and no part of it is painted behind the figure."""
    for kind, ax in kinds.items():
        ax.figure.canvas.draw()
        ax.figure.set_layout_engine("none")  # with each drawing it moves things by parts of a dot
        ax.figure.savefig(whole := io.BytesIO(), format="png")
        wanted = np.asarray(Image.open(whole)).astype(int)
        off = abs(opened(ax.figure).astype(int) - wanted)[wanted[..., 3] > 8]
        assert (off.max(-1) > 12).mean() < 0.02, kind
        assert (opened(ax.figure)[..., 3] == 0).mean() > 0.05, f"{kind} has a background"


def luminance(color) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in matplotlib.colors.to_rgb(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("page", ["#FFFFFF", "#111111"])
def test_text_and_lines_can_be_read_on_both_pages(page, kinds):
    def contrast(color):
        light, dark = sorted((luminance(color), luminance(page)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    assert contrast(plots.INK) > 4  # 4.5 on one page would be less than 4 on the other
    assert all(contrast(color) > 2 for color in plots.COLORS)
    for kind, ax in kinds.items():
        texts = [ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels(), *ax.get_yticklabels()]
        assert all(contrast(text.get_color()) > 4 for text in texts), kind


def test_a_space_in_a_label_looks_like_nothing_else(kinds):
    labels = [label.get_text() for label in kinds["matrix"].get_xticklabels()]
    assert labels[:2] == ["•self", "."] and not any("·" in label for label in labels)


def test_every_figure_says_in_a_sentence_what_it_shows(kinds):
    said = {kind: description(ax.figure) for kind, ax in kinds.items()}
    assert len(set(said.values())) == len(said)
    for kind, sentence in said.items():
        assert sentence.endswith(".") and len(sentence) > 20, kind
        assert (kinds[kind].get_title(loc="left") or kinds[kind].get_title()) in sentence, kind
    assert "one from 4 to 2" in said["lines"] and "the strongest cell is" in said["matrix"]
    html = picture(plots.bars([1.0], ["<b>"], 'Less "than"', "a", "b").figure)
    assert 'alt="Less &quot;than&quot;: bars' in html


def test_nothing_sticks_out_of_a_figure():
    long = "A title that says all that a reader could want to know of so small a figure, and then goes on"
    for ax in (plots.bars([1.0, 2.0], ["a", "b"], long, "x", "y"), plots.lines({"a": ([0, 1], [1, 2])}, long, "x", "y")):
        ax.figure.canvas.draw()
        figure, title = ax.figure.bbox, ax._left_title.get_window_extent()
        assert 0 <= title.x0 and title.x1 <= figure.x1 and title.y1 <= figure.y1 + 1


def test_legends_cover_no_curve_and_names_no_other_name(kinds):
    for kind, ax in kinds.items():
        ax.figure.canvas.draw()
        if (legend := ax.get_legend()) is not None:
            assert legend.get_window_extent().y0 >= ax.get_window_extent().y1 - 2, kind
    for kind in ("points", "histogram"):
        boxes = [text.get_window_extent() for text in kinds[kind].texts]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]), kind


def test_a_notebook_shows_figures_so():
    """What a kernel sends for a figure, from the first one on."""
    code = 'import circuits\nfrom utils.figures import plots\nplots.lines({"a": ([0, 1, 2], [2, 1, 0])}, "T", "x", "y");'
    notebook = new_notebook(cells=[new_code_cell(code)])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}}).execute()
    shown = [output["data"] for output in notebook.cells[0].outputs if "data" in output]
    assert [sorted(data) for data in shown] == [["text/html", "text/plain"]]
    assert shown[0]["text/html"].startswith('<img alt="T: y over x')


def test_the_attention_picture_bears_its_tokens(monkeypatch, shell):
    tokens = ["<|bos|>", "def", " area", "(", "self", "):"]
    drawn = []
    monkeypatch.setattr(interactive, "axes", lambda *args, **kwargs: drawn.extend(made := plots.axes(*args, **kwargs)) or made)
    figure = interactive.attention(tokens, torch.eye(6).expand(3, 6, 6), ["0.1", "0.2", "0.3"], "Three heads")
    html = figure._repr_mimebundle_()["text/html"]
    assert len(drawn) == 3
    for ax in drawn:
        assert [label.get_text() for label in ax.get_xticklabels()] == ["<|bos|>", "def", "•area", "(", "self", "):"]
    alt = re.search(r'<img alt="([^"]+)"', html)[1]
    assert alt.startswith("Three heads. 0.1: a map") and base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])


def test_a_head_keeps_its_look_while_a_training_is_watched(monkeypatch):
    """Whichever heads stand out, no two that are named look alike, and each looks as it did before."""
    generator, looks = torch.Generator().manual_seed(0), {}
    curves = {name: [] for name in ("step", "heldout_loss", "in_context_learning_score", "previous_token_score", "induction_score")}
    view = interactive.LiveTraining(SimpleNamespace(curves=curves), "Two layers", at_most=9)
    drawn = []
    monkeypatch.setattr(interactive, "_show", lambda handle, fig: drawn.append(fig))
    for step in range(9):
        for name, values in curves.items():
            values.append(torch.rand(2, 8, generator=generator).tolist() if "token_" in name or "induction" in name else step)
        view._draw()
    for fig in drawn:
        for ax in fig.axes[2:]:
            named = [line for line in ax.lines if not line.get_label().startswith("_")]
            now = {line.get_label(): (line.get_color(), line.get_linestyle()) for line in named}
            assert len(set(now.values())) == len(now) == 3
            assert all(looks.setdefault(head, look) == look for head, look in now.items())


@pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
def test_code_cells_are_no_wider_than_the_column(chapter):
    cells = [cell for cell in read_cells(chapter.notebook) if cell["cell_type"] == "code"]
    wide = [line for cell in cells for line in source(cell).splitlines() if len(line) > 100]
    assert wide == []


@pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
def test_headings_do_not_jump_and_tables_have_headers(chapter):
    level = 0
    for cell in (cell for cell in read_cells(chapter.notebook) if cell["cell_type"] == "markdown"):
        for marks in re.findall(r"^(#+) ", source(cell), re.MULTILINE):
            assert len(marks) <= level + 1, source(cell)
            level = len(marks)
        for header in re.findall(r"^(\|.*\|)\n\|[-|: ]+\|$", source(cell), re.MULTILINE):
            assert all(name.strip() for name in header.strip("|").split("|")), header
