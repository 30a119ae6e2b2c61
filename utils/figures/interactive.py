"""Figures that do more than stand there: curves that grow while a loop runs, and attention patterns
to point at. Beside them a picture, for pages where no script may run."""

import html
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from utils.figures import PIXELS, WIDTH
from utils.figures.plots import COLORS, SEQUENTIAL, axes, label_text, lines, pyplot, token_text


class LiveCurve:
    """A curve that grows while a loop runs. `add` a value at each step; the figure is redrawn at
    most once per `every` seconds, and for good by `close`. Curves that are to be compared get the
    same `frame`: x from and to, y from and to."""

    def __init__(
        self,
        title: str,
        ylabel: str,
        xlabel: str = "step",
        levels: Mapping[str, float] | None = None,
        every: float = 1.0,
        frame: tuple[float, float, float, float] | None = None,
    ):
        self.title, self.ylabel, self.xlabel = title, ylabel, xlabel
        self.levels, self.every, self.frame = levels or {}, every, frame
        self.x: list[float] = []
        self.y: list[float] = []
        self._handle, self._drawn = None, 0.0

    def add(self, x: float, y: float) -> None:
        self.x.append(x)
        self.y.append(y)
        if time.perf_counter() - self._drawn > self.every:
            self._draw(passing=True)

    def _draw(self, passing: bool = False) -> None:
        mean, smooth = self.y[0], []
        for value in self.y:
            mean += 0.05 * (value - mean)
            smooth.append(mean)
        ax = axes(size=(7.0, 3.4))
        if self.frame:
            ax.axis(self.frame)
        ax.plot(self.x, self.y, color=COLORS[5], lw=0.6)
        series = {"running mean": (self.x, smooth)}
        lines(series, self.title, self.xlabel, self.ylabel, self.levels, ax=ax)
        if passing:
            ax.figure.set_dpi(PIXELS)  # what is replaced in a second need not be sharp
        self._handle = show(self._handle, ax.figure)
        pyplot().close(ax.figure)
        self._drawn = time.perf_counter()

    def close(self) -> None:
        """Draw what there is for the last time."""
        if self.y:
            self._draw()


def show(handle, what):
    """Show something below the cell, or in place of what the handle has shown there."""
    from IPython.display import display

    if handle is None:
        return display(what, display_id=True)
    handle.update(what)
    return handle


class Html:
    """What a notebook shows as HTML and a terminal as text."""

    def __init__(self, text: str, html: str):
        self.text, self.html = text, html

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/plain": self.text, "text/html": self.html}


def _as_html(fig) -> str:
    """A figure as the notebook shows it; nothing outside of one."""
    from IPython import get_ipython

    shell = get_ipython()
    return shell.display_formatter.format(fig)[0].get("text/html", "") if shell else ""


def load_circuitsvis() -> Html:
    """CircuitsVis' own script, as the last value of a cell. Once a page holds it, every
    `attention` there is interactive. It is inside the notebook then: no network is asked for."""
    import circuitsvis

    script = Path(circuitsvis.__file__).parent / "dist" / "cdn" / "iife.js"
    code = script.read_text("utf-8").replace("</script>", "<\\/script>")
    html = f"<script>{code}; window.CircuitsVis = CircuitsVis;</script>Interactive figures are loaded."
    return Html("Interactive figures are loaded.", html)


def attention(tokens: Sequence[str], patterns: Tensor, names: Sequence[str], title: str) -> Html:
    """Attention patterns `[n_heads dest src]` over the tokens of one text.

    Interactive by CircuitsVis where its script is loaded (`load_circuitsvis`), a picture wherever
    it is not: in a notebook nobody trusts yet, in an export, on a page of its own.
    """
    shown = [token_text(token) for token in tokens]
    plt = pyplot()
    side = min(WIDTH, max(3.0, 0.15 * len(tokens) + 1.2))
    drawn = axes(len(names), size=(side, side))
    drawn = drawn if len(names) > 1 else [drawn]
    fig = drawn[0].figure
    mono = {"family": "DejaVu Sans Mono", "fontsize": 7 if len(tokens) > 30 else 8}
    labels = [label_text(token) for token in tokens]
    for ax, pattern, name in zip(drawn, patterns, names, strict=True):
        ax.imshow(pattern.detach(), cmap=SEQUENTIAL, vmin=0, vmax=1)
        ax.set(title=name, xlabel="token looked at", ylabel="token that looks")
        ax.set_xticks(range(len(labels)), labels, rotation=90, **mono)
        ax.set_yticks(range(len(labels)), labels, **mono)
    fig.suptitle(title, x=0.01, ha="left", fontsize=11, weight="bold")
    still = _as_html(fig)
    plt.close(fig)
    place = f"attention-{uuid.uuid4().hex[:12]}"

    weights = [[[round(w, 3) for w in row] for row in head] for head in patterns.detach().tolist()]
    props = {"attention": weights, "attentionHeadNames": list(names), "tokens": shown, "maskUpperTri": True}
    # JSON inside a script: only "</" could end it early. The picture goes when CircuitsVis has come.
    json_props = json.dumps(props, ensure_ascii=False).replace("</", "<\\/")
    page = f"""<div style="max-width: {round(WIDTH * PIXELS)}px"><b>{html.escape(title)}</b>
<div id="{place}" style="overflow-x: auto"></div>
<div id="picture-of-{place}">{still}</div>
</div>
<script>(function draw(tries) {{
  if (!window.CircuitsVis) {{ if (tries) setTimeout(draw, 250, tries - 1); return; }}
  window.CircuitsVis.render("{place}", window.CircuitsVis.AttentionHeads, {json_props});
  document.getElementById("picture-of-{place}").style.display = "none";
}})(40)</script>"""
    return Html(f"{title}: attention of {', '.join(names)} over {len(tokens)} tokens", page)
