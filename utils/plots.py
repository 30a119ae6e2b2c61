"""Figures for the notebooks: titled, with units, tokens as text, colours that everybody can tell
apart, on a white card that reads well in JupyterLab's light and dark themes."""

import time
from collections.abc import Mapping, Sequence

from torch import Tensor

# Okabe & Ito's palette, distinguishable with any colour vision.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
SEQUENTIAL, DIVERGING = "cividis", "RdBu_r"


def _pyplot():
    """matplotlib's pyplot with the course's style; imported at the first figure, not before."""
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "figure.facecolor": "white",
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
            "savefig.facecolor": "white",
        }
    )
    return plt


def token_text(token: str) -> str:
    """A token as one can see it: `·` for a space, `↵` for a newline, `⇥` for a tab."""
    shown = token.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥").replace("\r", "␍")
    return "".join(ch if ch.isprintable() else f"\\x{ord(ch):02x}" for ch in shown)


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
    """`n` axes side by side (just one if n is 1), each of `size` inches."""
    plt = _pyplot()
    _, ax = plt.subplots(1, n, figsize=(size[0] * n, size[1]))
    return ax


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
        ax.plot(x, y, label=name, marker="os^Dv"[i % 5] if markers else None, lw=1.8)
    for i, (name, level) in enumerate((levels or {}).items()):
        color = ["#555555", "#999999", "#000000"][i % 3]
        ax.axhline(level, ls=["--", ":", "-."][i % 3], color=color, lw=1.2, label=f"{name}: {level:.2f}")
    if logx:
        ax.set_xscale("log", base=2)
        ticks = sorted({float(v) for x, _ in series.values() for v in x})
        ax.set_xticks(ticks, [f"{v:g}" for v in ticks])
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if len(series) + len(levels or {}) > 1:
        ax.legend(fontsize=9)
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
):
    """A matrix as coloured cells with token labels. With negative values, colours diverge from
    zero; otherwise they start there."""
    height = max(2.2, 0.27 * len(rows) + 1.2)
    ax = ax or axes(size=(max(4.5, 0.33 * len(columns) + 2.2), height))
    data = values.detach().cpu()
    if data.min() < 0:
        limit = data.abs().max().item()
        image = ax.imshow(data, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    else:
        image = ax.imshow(data, cmap=SEQUENTIAL, vmin=0, aspect="auto")
    mono = {"family": "DejaVu Sans Mono", "fontsize": 9}
    ax.set_xticks(range(len(columns)), [token_text(c) for c in columns], rotation=90, **mono)
    ax.set_yticks(range(len(rows)), [token_text(r) for r in rows], **mono)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(image, ax=ax, label=unit)
    return ax


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
    ax.scatter(x, y, s=9, alpha=0.35, lw=0)
    for i, text in (labels or {}).items():
        ax.scatter([x[i]], [y[i]], s=22, color=COLORS[1], lw=0)
        place = {"xytext": (4, 3), "textcoords": "offset points"}
        ax.annotate(text, (float(x[i]), float(y[i])), family="DejaVu Sans Mono", fontsize=8, **place)
    if logx:
        ax.set_xscale("log")
    if logy:
        ax.set_yscale("log")
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return ax


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
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(shown, ax=ax, label=unit)
    return ax


def stacks(
    rows: Mapping[str, Mapping[str, float]],
    title: str,
    xlabel: str,
    levels: Mapping[str, float] | None = None,
    ax=None,
):
    """A horizontal bar for each row, made of named pieces; and dashed levels by name."""
    ax = ax or axes(size=(10, 0.7 * len(rows) + 1.6))
    for i, (row, pieces) in enumerate(rows.items()):
        left = 0.0
        for n, (name, length) in enumerate(pieces.items()):
            ax.barh(row, length, left=left, color=COLORS[i], alpha=0.75 - 0.3 * (n % 2), edgecolor="white")
            ax.text(left + length / 2, i, f"{name}\n{length:,.4g}", ha="center", va="center", fontsize=8)
            left += length
    for i, (name, level) in enumerate((levels or {}).items()):
        ax.axvline(level, ls=["--", ":"][i % 2], color="black", lw=1.6, label=f"{name}: {level:,.4g}")
    ax.invert_yaxis()
    ax.set(title=title, xlabel=xlabel)
    if levels:
        ax.legend(fontsize=9, loc="upper right")
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


class LiveCurve:
    """A curve that grows while a loop runs. `add` a value at each step; the figure is redrawn at
    most once per `every` seconds, and for good by `close`."""

    def __init__(
        self,
        title: str,
        ylabel: str,
        xlabel: str = "step",
        levels: Mapping[str, float] | None = None,
        every: float = 1.0,
    ):
        self.title, self.ylabel, self.xlabel = title, ylabel, xlabel
        self.levels, self.every = levels or {}, every
        self.x: list[float] = []
        self.y: list[float] = []
        self._handle, self._drawn = None, 0.0

    def add(self, x: float, y: float) -> None:
        self.x.append(x)
        self.y.append(y)
        if time.perf_counter() - self._drawn > self.every:
            self._draw()

    def _draw(self) -> None:
        from IPython.display import display

        mean, smooth = self.y[0], []
        for value in self.y:
            mean += 0.05 * (value - mean)
            smooth.append(mean)
        ax = axes()
        ax.plot(self.x, self.y, color=COLORS[5], lw=0.6)
        series = {"running mean": (self.x, smooth)}
        lines(series, self.title, self.xlabel, self.ylabel, self.levels, ax=ax)
        if self._handle is None:
            self._handle = display(ax.figure, display_id=True)
        else:
            self._handle.update(ax.figure)
        _pyplot().close(ax.figure)
        self._drawn = time.perf_counter()

    def close(self) -> None:
        """Draw what there is for the last time."""
        if self.y:
            self._draw()


def bars(
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
    ax = ax or axes(size=(max(5.5, 0.24 * len(labels) * (len(series) + 1)), 3.4))
    width = 0.8 / len(series)
    for i, (name, (heights, errors)) in enumerate(series.items()):
        x = [n + (i - (len(series) - 1) / 2) * width for n in range(len(labels))]
        errors = [2 * float(e) for e in errors]
        style = {"color": COLORS[i], "ecolor": "#333333", "capsize": 2, "error_kw": {"lw": 1}}
        ax.bar(x, [float(h) for h in heights], width, yerr=errors, label=name, **style)
    ax.axhline(0, color="black", lw=0.8)
    for i, (name, level) in enumerate((levels or {}).items()):
        ax.axhline(level, ls=["--", ":"][i % 2], color="#555555", lw=1.2, label=f"{name}: {level:.2f}")
    ax.set_xticks(range(len(labels)), labels)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    if len(series) + len(levels or {}) > 1:
        ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return ax
