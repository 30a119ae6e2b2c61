"""How a figure is shown, the same for all of them: as a picture at most as wide as JupyterLab's column,
sharp on fine screens, on no background of its own, with a sentence for those who cannot see it."""

import base64
import html
import io
import sys
from collections.abc import Iterator

from utils import figures


def png(fig) -> bytes:
    """A figure as a PNG on a transparent background, with as many dots to the inch as it has and a palette of its 256 commonest
    colours, which halves its size. Rarer ones are those of single dots, where a slanted line ends; they take the nearest."""
    import numpy as np
    from PIL import Image

    fig.savefig(data := io.BytesIO(), format="png", pil_kwargs={"compress_level": 1})
    dots = np.array(Image.open(data))  # [height, width, red green blue alpha]
    dots += np.minimum(255 - dots, np.array([2, 2, 2, 4], np.uint8))  # steps of 4, and of 8 in alpha, cannot be told apart
    dots &= np.array([0xFC, 0xFC, 0xFC, 0xF8], np.uint8)
    dots[dots[..., 3] == 0] = 0
    codes, which, count = np.unique(dots.view(np.uint32), return_inverse=True, return_counts=True)
    colors = codes.view(np.uint8).reshape(-1, 4)
    palette = colors[np.argsort(-count)[:256]]
    nearest = ((colors[:, None].astype(int) - palette) ** 2).sum(-1).argmin(1).astype(np.uint8)
    image = Image.fromarray(nearest[which].reshape(dots.shape[:2]))
    image.putpalette(palette.tobytes(), "RGBA")
    image.save(small := io.BytesIO(), "png", optimize=True)
    return small.getvalue()


def picture(fig) -> str:
    """A figure as an HTML image, of its own width and with what `description` says as alternative text."""
    width, height = (round(inches * figures.PIXELS) for inches in fig.get_size_inches())  # a page keeps the place while it loads
    return (
        f'<img alt="{html.escape(description(fig))}" width="{width}" height="{height}" '
        f'style="max-width: 100%; height: auto" src="data:image/png;base64,{base64.b64encode(png(fig)).decode()}">'
    )


def install() -> None:
    """Show figures so in the kernel that runs here; anywhere else, nothing happens."""
    # Only when one is drawn: the notebook's own way to show it comes with matplotlib, and would be the later one.
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
        figures.before_drawing.append(show_figures_as_pictures)


def show_figures_as_pictures() -> None:
    """Let IPython show every matplotlib figure by `picture`, and as its description where only text can go."""
    import matplotlib.pyplot as plt
    from IPython import get_ipython
    from matplotlib.figure import Figure

    if "inline" in plt.get_backend():
        import matplotlib_inline.backend_inline  # noqa: F401 (it would register its own way at the first figure, after ours)
    formatters = get_ipython().display_formatter.formatters
    formatters["image/png"].type_printers.pop(Figure, None)  # what matplotlib's own backend for notebooks registers
    formatters["text/html"].for_type(Figure, picture)
    formatters["text/plain"].for_type(Figure, lambda fig, printer, cycle: printer.text(description(fig)))


def description(fig) -> str:
    """What a figure shows, in a sentence or two for each of its panels, from what is drawn there."""
    panels = [ax for ax in fig.axes if ax.get_visible() and ax.get_label() != "<colorbar>" and (ax.has_data() or ax.texts)]
    whole = f"{fig.get_suptitle()}. " if fig.get_suptitle() else ""
    return whole + " ".join(_panel(ax) for ax in panels)


def _panel(ax) -> str:
    title = _one_line(ax.get_title(loc="left") or ax.get_title() or ax.get_ylabel())
    across, up = _one_line(ax.get_xlabel()) or "position", _one_line(ax.get_ylabel()) or "value"
    if ax.images:
        values = ax.images[0].get_array()
        bar = getattr(ax.images[0], "colorbar", None)
        unit = f" of {_one_line(bar.ax.get_ylabel())}" if bar and bar.ax.get_ylabel() else ""
        row, column = divmod(int(abs(values).argmax()), values.shape[1])
        names = [_named(axis, i) for axis, i in ((ax.yaxis, row), (ax.xaxis, column))]
        return (
            f"{title}: a map{unit}, {up} by {across}, from {values.min():.2g} to {values.max():.2g}; "
            f"the strongest cell is {names[0]}, {names[1]}."
        )
    if ax.containers:
        inside = [_one_line(text.get_text()) for text in ax.texts]  # what is written on the bars
        return f"{title}: bars of {up} by {across}{_listed(inside or _bars(ax))}."
    if curves := [line for line in ax.lines if len(line.get_xdata()) != 2]:  # two ends are a level, not a curve
        return f"{title}: {up} over {across}{_listed(_ends(curves))}."
    if ax.collections:
        n = sum(len(points.get_offsets()) for points in ax.collections)
        return f"{title}: {n} points, {up} against {across}{_listed(_labels(ax))}."
    return f"{title}: {'; '.join(_one_line(text.get_text()) for text in ax.texts if text.get_text())}."


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _named(axis, i: int) -> str:
    """The label of a place on an axis, or its number."""
    labels = dict(zip(axis.get_ticklocs(), (label.get_text() for label in axis.get_ticklabels()), strict=False))
    return labels.get(i) or str(i)


def _listed(parts: Iterator[str] | list[str]) -> str:
    parts = list(parts)
    return f": {', '.join(parts)}" if parts else ""


def _labels(ax) -> list[str]:
    return [_one_line(label) for label in ax.get_legend_handles_labels()[1]] + [t.get_text() for t in ax.texts]


def _bars(ax) -> Iterator[str]:
    """The lowest and the highest bar of each series, with its name if it has one."""
    for bars in ax.containers:
        if not hasattr(bars, "datavalues") or not len(bars.datavalues):  # error bars
            continue
        name = "" if bars.get_label().startswith("_") else f"{_one_line(bars.get_label())} "
        yield f"{name}from {min(bars.datavalues):.2g} to {max(bars.datavalues):.2g}"


def _ends(curves: list) -> Iterator[str]:
    """Where each named curve begins and ends."""
    for line in curves:
        if not line.get_label().startswith("_"):
            y = line.get_ydata()
            yield f"{_one_line(line.get_label())} from {float(y[0]):.2g} to {float(y[-1]):.2g}"
