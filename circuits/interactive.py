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
from utils.figures.plots import COLORS, PALE, SEQUENTIAL, axes, head_name, label_text, legend, lines, pyplot, token_text
from utils.waiting import time_left


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
        self._handle = _show(self._handle, ax.figure)
        pyplot().close(ax.figure)
        self._drawn = time.perf_counter()

    def close(self) -> None:
        """Draw what there is for the last time."""
        if self.y:
            self._draw()


def _show(handle, what):
    """Show something below the cell, or in place of what the handle has shown there."""
    from IPython.display import display

    if handle is None:
        return display(what, display_id=True)
    handle.update(what)
    return handle


class _Html:
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


def load_circuitsvis() -> _Html:
    """CircuitsVis' own script, as the last value of a cell. Once a page holds it, every
    `attention` there is interactive. It is inside the notebook then: no network is asked for."""
    import circuitsvis

    script = Path(circuitsvis.__file__).parent / "dist" / "cdn" / "iife.js"
    code = script.read_text("utf-8").replace("</script>", "<\\/script>")
    html = f"<script>{code}; window.CircuitsVis = CircuitsVis;</script>Interactive figures are loaded."
    return _Html("Interactive figures are loaded.", html)


def attention(tokens: Sequence[str], patterns: Tensor, names: Sequence[str], title: str) -> _Html:
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
    return _Html(f"{title}: attention of {', '.join(names)} over {len(tokens)} tokens", page)


class LiveTraining:
    """Watch a `training.Training`: a progress bar, and four curves that grow with each evaluation.

    >>> view = interactive.LiveTraining(training, "Two layers", at_most=1_500)   # steps
    >>> for loss in training: view.update(loss)
    >>> view.close()
    """

    def __init__(self, training, title: str, at_most: int):
        self.training, self.title, self.at_most = training, title, at_most
        self._bar = self._figure = None
        self._drawn, self._evaluations = 0.0, 0
        self._losses: list[float] = []

    def update(self, loss: float) -> None:
        self._losses.append(loss)
        if time.perf_counter() - self._drawn > 0.5:
            self._bar = _show(self._bar, self._progress())
            self._drawn = time.perf_counter()
        if len(self.training.curves["step"]) > self._evaluations:
            self._evaluations = len(self.training.curves["step"])
            self._draw()

    def close(self) -> None:
        """Show where it ended."""
        self._bar = _show(self._bar, self._progress())
        self._draw()

    def _progress(self) -> _Html:
        training, steps = self.training, self.at_most
        recent = self._losses[-20:] or [float("nan")]
        left = time_left(training.step, steps, training.seconds)
        text = (
            f"step {training.step:,} of at most {steps:,} · {training.seconds:.0f} s · "
            f"{left and f'{left} at most · '}training loss {sum(recent) / len(recent):.2f} nats per token"
        )
        bar = f'<progress value="{training.step}" max="{steps}" style="width: 20em"></progress> {text}'
        return _Html(text, bar)

    def _draw(self) -> None:
        plt = pyplot()
        curves = self.training.curves
        fig, panels = plt.subplots(2, 2, figsize=(WIDTH, 5.6), sharex=True)
        (loss, score), (previous, induction) = panels
        lines({"held-out text": (curves["step"], curves["heldout_loss"])}, "Loss", "", "nats per token", ax=loss)
        lines(
            {"late minus early": (curves["step"], curves["in_context_learning_score"])},
            "In-context-learning score", "", "nats", levels={"late cost as much as early": 0.0}, ax=score,
        )
        for ax, name in ((previous, "previous_token_score"), (induction, "induction_score")):
            values = Tensor(curves[name])  # [evaluation layer head]
            best = values[-1].flatten().topk(3).indices.tolist()
            for i in range(values[0].numel()):
                layer, head = divmod(i, values.shape[2])
                top = i in best
                style = ("-", "--", ":", "-.")[(layer + 2 * (head // 6)) % 4]  # with the colour one look for each head, for good
                ax.plot(
                    curves["step"], values[:, layer, head], style if top else "-",
                    color=COLORS[head % 6] if top else PALE, lw=1.8 if top else 0.8,
                    label=f"head {head_name(layer, head)}" if top else None, zorder=2 + top,
                    marker="o" if len(curves["step"]) == 1 else None,
                )
            ax.set(title=name.replace("_", " ").capitalize(), ylabel="mean attention weight", ylim=(0, 1))
            ax.set_xlabel("training step")
            legend(ax)
        fig.suptitle(self.title, x=0.01, ha="left", weight="bold")
        self._figure = _show(self._figure, fig)
        plt.close(fig)
