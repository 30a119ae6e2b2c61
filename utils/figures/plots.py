"""Figures for the notebooks: titled, with units, tokens as text, colours that everybody can tell apart, on no
background of their own, so that they read in JupyterLab's light theme and in its dark one."""

import textwrap
from collections.abc import Mapping, Sequence

from torch import Tensor

from utils.figures import DENSITY, PIXELS, WIDTH, before_drawing

# Okabe & Ito's palette, distinguishable with any colour vision; grey in place of their black, which a dark page would hide.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C"]
INK = "#787878"  # text and lines: as far from white as from JupyterLab's dark #111111
PALE = "#A6A6A6"  # what stands behind, such as the heads that are not meant
SEQUENTIAL, DIVERGING = "cividis", "blue-nothing-orange"


def pyplot():
    """matplotlib's pyplot with the course's style; imported at the first figure, not before."""
    import matplotlib
    import matplotlib.pyplot as plt
    from matplotlib.colors import LinearSegmentedColormap

    # Zero is what the page is, so that it neither shines on a dark page nor hides on a light one.
    ends = [(0.0, "#0072B2FF"), (0.499, "#0072B200"), (0.501, "#D55E0000"), (1.0, "#D55E00FF")]
    if DIVERGING not in matplotlib.colormaps:
        matplotlib.colormaps.register(LinearSegmentedColormap.from_list(DIVERGING, ends))
    plt.rcParams.update(dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK))
    plt.rcParams.update(dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"))
    plt.rcParams.update(
        {
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": plt.cycler(color=COLORS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.grid": False,
            "font.size": 10,
            "legend.frameon": False,
            "figure.dpi": PIXELS * DENSITY,
        }
    )
    for prepare in before_drawing:
        prepare()
    return plt


def token_text(token: str) -> str:
    """A token as one can see it: `·` for a space, `↵` for a newline, `⇥` for a tab."""
    shown = token.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥").replace("\r", "␍")
    return "".join(ch if ch.isprintable() else f"\\x{ord(ch):02x}" for ch in shown)


def label_text(token: str) -> str:
    """A token as the label of an axis: there a space is a thick dot, which no full stop looks like, however it is turned."""
    return token_text(token).replace("·", "•")


def token_name(model, token: int) -> str:
    """A token of a model by its id, as one can see it; part of a character as its bytes, `\\xe2`."""
    text = model.to_string(token)
    if "\ufffd" not in text:
        return token_text(text)
    # Byte-level BPE spells each byte as one printable character: most Latin-1 characters stand for
    # themselves, the others are numbered from 256 on.
    same = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in same]
    byte = {chr(b): b for b in same} | {chr(256 + i): b for i, b in enumerate(others)}
    return "".join(f"\\x{byte[ch]:02x}" for ch in model.tokenizer.id_to_token(token))


def axes(n: int = 1, size: tuple[float, float] = (5.5, 3.4)):
    """`n` axes, each of about `size` inches (just one if n is 1): as many side by side as the column of a notebook
    holds, the others below."""
    plt = pyplot()
    columns = max(1, min(n, int(WIDTH / (0.85 * size[0]))))
    width = min(size[0], WIDTH / columns)
    rows = -(-n // columns)
    fig, grid = plt.subplots(rows, columns, figsize=(width * columns, size[1] * rows), squeeze=False)
    for ax in grid.flat[n:]:
        ax.remove()
    return grid.flat[0] if n == 1 else list(grid.flat[:n])


def wrapped(ax, title: str) -> str:
    """A title in as many lines as its axes are too narrow for."""
    inches = ax.get_position().width * ax.figure.get_figwidth()
    return textwrap.fill(title, max(20, int(inches / 0.088)))


def legend(ax, handles: Sequence | None = None, labels: Sequence[str] | None = None) -> None:
    """Name what is drawn, between the title and the axes, where it covers nothing."""
    if handles is None:
        handles, labels = ax.get_legend_handles_labels()
    inches = ax.get_position().width * ax.figure.get_figwidth()
    longest = max(len(label) for label in labels)
    columns = max(1, min(len(labels), int(inches / (0.075 * longest + 0.5))))
    ax.legend(
        handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, fontsize=9, borderaxespad=0.1, borderpad=0.2,
        columnspacing=1.2, handlelength=1.6,
    )  # fmt: skip
    ax.set_title(ax.get_title(loc="left"), pad=8 + 14 * -(-len(labels) // columns))


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
    xlabel: str,
    ylabel: str,
    levels: Mapping[str, float] | None = None,
    logx: bool = False,
    markers: bool = False,
    ax=None,
):
    """Lines by name, each given as (x values, y values), and dashed levels by name."""
    ax = ax or axes()
    for i, (name, (x, y)) in enumerate(series.items()):
        ax.plot(x, y, label=name, marker="os^Dv"[i % 5] if markers or len(x) == 1 else None, lw=1.8)
    for i, (name, level) in enumerate((levels or {}).items()):
        ax.axhline(level, ls=["--", ":", "-."][i % 3], color=INK, lw=1.2, label=f"{name}: {level:.2f}")
    if logx:
        ax.set_xscale("log", base=2)
        ticks = sorted({float(v) for x, _ in series.values() for v in x})
        ax.set_xticks(ticks, [f"{v:g}" for v in ticks])
    ax.set(title=wrapped(ax, title), xlabel=xlabel, ylabel=ylabel)
    if len(series) + len(levels or {}) > 1:
        legend(ax)
    return ax


def matrix(
    values: Tensor,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    xlabel: str,
    ylabel: str,
    unit: str,
    ax=None,
    limit: float | None = None,
):
    """A matrix as coloured cells with token labels. With negative values, colours diverge from
    zero; otherwise they start there. They end at `limit`, by default at the largest value."""
    height = max(2.2, 0.27 * len(rows) + 1.2)
    ax = ax or axes(size=(min(WIDTH, max(4.5, 0.33 * len(columns) + 2.2)), height))
    data = values.detach().cpu()
    limit = limit or data.abs().max().item()
    if data.min() < 0:
        image = ax.imshow(data, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    else:
        image = ax.imshow(data, cmap=SEQUENTIAL, vmin=0, vmax=limit, aspect="auto")
    mono = {"family": "DejaVu Sans Mono", "fontsize": 9}
    turned = 0 if max(len(c) for c in columns) < 4 else 90
    ax.set_xticks(range(len(columns)), [label_text(c) for c in columns], rotation=turned, **mono)
    ax.set_yticks(range(len(rows)), [label_text(r) for r in rows], **mono)
    ax.set(title=wrapped(ax, title), xlabel=xlabel, ylabel=ylabel)
    framed(ax)
    colorbar(image, ax, unit)
    return ax


def framed(ax) -> None:
    """A thin frame round an image, as cells at zero are what the page is."""
    ax.spines[:].set(visible=True, linewidth=0.4)


def colorbar(image, ax, unit: str) -> None:
    """What the colours of an image mean, beside it."""
    bar = ax.figure.colorbar(image, ax=ax, label=unit)
    bar.outline.set_edgecolor(INK)
    bar.outline.set_linewidth(0.5)


def points(
    x: Sequence[float] | Tensor,
    y: Sequence[float] | Tensor,
    title: str,
    xlabel: str,
    ylabel: str,
    labels: Mapping[int, str] | None = None,
    logx: bool = False,
    logy: bool = False,
    ax=None,
):
    """A scatter plot; `labels` names some of the points by their index."""
    ax = ax or axes(size=(6.5, 4.0))
    ax.scatter(x, y, s=9, alpha=0.4, lw=0)
    if logx:
        ax.set_xscale("log")
    if logy:
        ax.set_yscale("log")
    ax.set(title=wrapped(ax, title), xlabel=xlabel, ylabel=ylabel)
    ax.margins(0.08)
    name_points(ax, [(float(x[i]), float(y[i]), text) for i, text in (labels or {}).items()])
    return ax


def name_points(ax, named: Sequence[tuple[float, float, str]]) -> None:
    """Mark points `(x, y, name)` of a scatter plot and write each name where it covers the fewest points and no other name,
    with a thin line to its point."""
    import numpy as np

    def on_page(xy) -> np.ndarray:  # in points of 1/72 inch
        return ax.transData.transform(np.asarray(xy, dtype=float)) * 72 / ax.figure.dpi

    others = on_page(np.concatenate([dots.get_offsets() for dots in ax.collections]))
    low, high = ax.get_window_extent().get_points() * 72 / ax.figure.dpi
    taken: list[np.ndarray] = []
    for x, y, text in named:
        ax.scatter([x], [y], s=22, color=COLORS[1], lw=0)
        half = np.array([2.6 * len(text) + 3, 6.0])  # of the size of a name
        best = (float("inf"), np.zeros(2))
        for radius in (9, 18, 30, 44, 60):
            for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False):
                away = np.array([np.cos(angle), np.sin(angle)])
                middle = on_page((x, y)) + away * (radius + half * abs(away))
                inside = (abs(others - middle) < half).all(-1).sum()
                met = sum((abs(other - middle) < 2 * np.maximum(half, 5.5)).all() for other in taken)
                outside = (middle - half < low).any() or (middle + half > high).any()
                best = min(best, (inside + 50 * met + 50 * outside + 0.05 * radius, middle), key=lambda found: found[0])
        taken.append(best[1])
        ax.annotate(
            label_text(text), (x, y), xytext=best[1] - on_page((x, y)), textcoords="offset points", ha="center", va="center",
            family="DejaVu Sans Mono", fontsize=8, arrowprops={"arrowstyle": "-", "color": INK, "lw": 0.6, "shrinkB": 3},
        )  # fmt: skip


def image(
    values: Tensor,
    title: str,
    xlabel: str,
    ylabel: str,
    unit: str,
    ax=None,
):
    """A matrix as coloured cells, rows and columns only numbered. Colours as in `matrix`."""
    ax = ax or axes()
    data = values.detach().cpu()
    limit = data.abs().max().item()
    diverging = data.min() < 0
    colors = {"cmap": DIVERGING, "vmin": -limit} if diverging else {"cmap": SEQUENTIAL, "vmin": 0}
    shown = ax.imshow(data, vmax=limit, aspect="auto", interpolation="nearest", **colors)
    ax.set(title=wrapped(ax, title), xlabel=xlabel, ylabel=ylabel)
    framed(ax)
    colorbar(shown, ax, unit)
    return ax


def stacks(
    rows: Mapping[str, Mapping[str, float]],
    title: str,
    xlabel: str,
    levels: Mapping[str, float] | None = None,
    ax=None,
):
    """A horizontal bar for each row, made of named pieces; and dashed levels by name."""
    ax = ax or axes(size=(WIDTH, 0.8 * len(rows) + 1.6))
    for i, (row, pieces) in enumerate(rows.items()):
        left = 0.0
        for name, length in pieces.items():
            ax.barh(row, length, left=left, color=COLORS[i], edgecolor="white", lw=1.5)
            text = f"{name.replace(', ', chr(10)).replace(' of ', chr(10))}\n{length:,.4g}"
            ax.text(left + length / 2, i, text, ha="center", va="center", fontsize=8, color="white")
            left += length
    for i, (name, level) in enumerate((levels or {}).items()):
        ax.axvline(level, ls=["--", ":"][i % 2], color=COLORS[4], lw=2, label=f"{name}: {level:,.4g}")
    ax.invert_yaxis()
    ax.set(title=wrapped(ax, title), xlabel=xlabel)
    if levels:
        legend(ax)
    return ax


def word_image(word: str, size: int) -> Tensor:
    """A short word as a picture `[size size]`: 1 where there is ink, 0 on empty paper."""
    import numpy as np
    import torch
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1), dpi=size)
    points = 72 * 1.35 / max(len(word), 1.6)  # as large as it fits
    figure.text(0.5, 0.47, word, ha="center", va="center", fontsize=points, fontweight="bold")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    grey = np.asarray(canvas.buffer_rgba())[..., 0]
    return 1 - torch.tensor(grey / 255.0, dtype=torch.float32)


def bars(
    values: Sequence[float] | Tensor,
    names: Sequence[str],
    title: str,
    xlabel: str,
    ylabel: str,
    ax=None,
):
    """One bar per name; those below zero in another colour."""
    longest = max(len(line) for name in names for line in name.split("\n"))
    ax = ax or axes(size=(min(WIDTH, max(4.5, (0.2 + 0.075 * longest) * len(names) + 1.0)), 3.4))
    heights = [float(v) for v in values]
    ax.bar(range(len(names)), heights, color=[COLORS[0] if v >= 0 else COLORS[1] for v in heights])
    ax.axhline(0, color=INK, lw=0.8)
    ax.set_xticks(range(len(names)), list(names))
    ax.set(title=wrapped(ax, title), xlabel=xlabel, ylabel=ylabel)
    return ax


def histogram(
    values: Mapping[str, Sequence[float] | Tensor],
    marks: Mapping[str, float],
    title: str,
    xlabel: str,
    ylabel: str,
    ax=None,
):
    """Histograms by name, on common bins from the smallest to the largest value, with named
    vertical lines across them. A name stands above those that it would meet."""
    ax = ax or axes(size=(8.0, 4.0))
    data = {name: [float(v) for v in x] for name, x in values.items()}
    every = [v for x in data.values() for v in x]
    span = (min(every), max(every))
    for i, (name, x) in enumerate(data.items()):
        color = [INK, COLORS[5], COLORS[4]][i % 3]
        ax.hist(x, bins=41, range=span, color=color, alpha=0.6, label=name)
    top = ax.get_ylim()[1]
    whole = max(*every, *marks.values()) - min(*every, *marks.values())
    floors: list[float] = []  # where the last name at each height stands
    for name, at in sorted(marks.items(), key=lambda item: item[1]):
        free = [n for n, last in enumerate(floors) if at - last > 0.02 * (len(name) + 1) * whole]
        n = free[0] if free else len(floors)
        floors[n : n + 1] = [at]
        height = top * (1.02 + 0.09 * n)
        ax.plot([at, at], [0, height], color=COLORS[1], lw=1.4)
        ax.text(at, height, name, ha="center", va="bottom", fontsize=8)
    ax.set_ylim(0, top * (1.1 + 0.09 * len(floors)))
    ax.set(title=wrapped(ax, title), xlabel=xlabel, ylabel=ylabel)
    legend(ax)
    return ax


def complex_plane(numbers: Mapping[str, Tensor], title: str, xlabel: str, ylabel: str, ax=None):
    """Complex numbers by name, as points of the plane, around a dotted circle of radius 1."""
    ax = ax or axes(size=(4.2, 4.2))
    import torch

    angle = torch.linspace(0, 2 * torch.pi, 200)
    ax.plot(angle.cos(), angle.sin(), ":", color=INK, lw=1)
    ax.axhline(0, color=INK, lw=0.6)
    ax.axvline(0, color=INK, lw=0.6)
    for i, (name, z) in enumerate(numbers.items()):
        z = z.detach().cpu()
        ax.scatter(z.real, z.imag, s=26, alpha=0.8, lw=0, marker="os^Dv"[i % 5], label=name)
    ax.set_aspect("equal")
    ticks = [-1, -0.5, 0, 0.5, 1]
    ax.set(title=wrapped(ax, title), xlabel=xlabel, ylabel=ylabel, xticks=ticks, yticks=ticks)
    ax.set(xlim=(-1.12, 1.12), ylim=(-1.12, 1.12))
    if len(numbers) > 1:
        legend(ax)
    return ax


# Circuits of attention heads (chapter 3) -----------------------------------------------------


def head_name(layer: int, head: int) -> str:
    """`1.6`: layer 1, head 6, as the field writes it."""
    return f"{layer}.{head}"


def rooms(
    names: Sequence[str],
    stages: Sequence[tuple[str, Mapping[str, str]]],
    moves: Sequence[tuple[int, str, str, str]],
    title: str,
):
    """The residual stream, from top to bottom, as a row of rooms at each stage.

    `stages` gives a label and what each room holds; a move `(stage, from, to, label)` is an arrow
    from a room to one of the next stage.
    """
    width, gap = 2.0, 1.55
    ax = axes(size=(min(WIDTH, 2.1 * len(names) + 1.6), gap * len(stages) * 0.95))
    for row, (stage, holds) in enumerate(stages):
        ax.text(-0.15, -gap * row, stage, ha="right", va="center", fontsize=10, weight="bold")
        for column, name in enumerate(names):
            text = holds.get(name, "")
            box = (column * width + 0.05, -gap * row - 0.25)
            ax.add_patch(pyplot().Rectangle(box, width - 0.1, 0.5, fc="#BFDDF0" if text else "none", ec=INK, lw=0.8))
            ax.text(column * width + width / 2, -gap * row, text, ha="center", va="center", fontsize=9, color="#111111")
    for column, name in enumerate(names):
        ax.text(column * width + width / 2, 0.4, name, ha="center", va="bottom", style="italic")
    for stage, start, end, label in moves:
        x0, x1 = (names.index(name) * width + width / 2 for name in (start, end))
        y0, y1 = -gap * stage - 0.27, -gap * (stage + 1) + 0.27
        arrow = {"arrowstyle": "-|>", "color": COLORS[1], "lw": 1.6}
        ax.annotate("", (x1, y1), (x0, y0), arrowprops=arrow)
        ax.text((x0 + x1) / 2 + 0.15, (y0 + y1) / 2 + 0.13, label, color=COLORS[1], fontsize=9, va="center")
    ax.set(title=title, xlim=(-0.2, width * len(names)), ylim=(-gap * (len(stages) - 1) - 0.4, 0.8))
    ax.axis("off")
    return ax


def by_head(
    rows: Mapping[str, Sequence[float] | Tensor],
    names: Sequence[str],
    title: str,
    marked: Mapping[str, Sequence[int]],
):
    """One bar chart per row, all over the same heads; `marked` heads (by index) are coloured."""
    plt = pyplot()
    _, panels = plt.subplots(len(rows), 1, figsize=(8.0, 1.7 * len(rows) + 0.7), sharex=True)
    colors = [PALE] * len(names)
    for i, indices in enumerate(marked.values()):
        for index in indices:
            colors[index] = COLORS[i]
    for ax, (ylabel, values) in zip(panels, rows.items(), strict=True):
        ax.bar(range(len(names)), [float(v) for v in values], color=colors, width=0.75)
        ax.axhline(0, color=INK, lw=0.8)
        ax.set_ylabel(ylabel, fontsize=9)
    panels[-1].set_xticks(range(len(names)), names)
    panels[-1].set_xlabel("head (layer.head)")
    patches = [plt.Rectangle((0, 0), 1, 1, color=COLORS[i]) for i in range(len(marked))]
    panels[0].set_title(wrapped(panels[0], title))
    legend(panels[0], patches, list(marked))
    return panels


def grouped_bars(
    series: Mapping[str, tuple[Sequence[float] | Tensor, Sequence[float] | Tensor]],
    labels: Sequence[str],
    title: str,
    xlabel: str,
    ylabel: str,
    levels: Mapping[str, float] | None = None,
    ax=None,
):
    """Bars in groups, one group per label: each series is (heights, standard errors), with error
    bars of two standard errors; and dashed levels by name."""
    ax = ax or axes(size=(min(WIDTH, max(5.5, 0.24 * len(labels) * (len(series) + 1))), 3.4))
    width = 0.8 / len(series)
    for i, (name, (heights, errors)) in enumerate(series.items()):
        x = [n + (i - (len(series) - 1) / 2) * width for n in range(len(labels))]
        errors = [2 * float(e) for e in errors]
        style = {"color": COLORS[i], "ecolor": INK, "capsize": 2, "error_kw": {"lw": 1}}
        ax.bar(x, [float(h) for h in heights], width, yerr=errors, label=name, **style)
    ax.axhline(0, color=INK, lw=0.8)
    for i, (name, level) in enumerate((levels or {}).items()):
        ax.axhline(level, ls=["--", ":"][i % 2], color=INK, lw=1.2, label=f"{name}: {level:.2f}")
    ax.set_xticks(range(len(labels)), labels)
    ax.set(title=wrapped(ax, title), xlabel=xlabel, ylabel=ylabel)
    if len(series) + len(levels or {}) > 1:
        legend(ax)
    return ax
