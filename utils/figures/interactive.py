"""Figures that do more than stand there: curves that grow while a loop runs, and attention patterns
to point at. Beside them a picture, for pages where no script may run."""

import base64
import html
import io
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from utils.figures.plots import COLORS, SEQUENTIAL, axes, head_name, lines, pyplot, token_text
from utils.waiting import time_left


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
        pyplot().close(ax.figure)
        self._drawn = time.perf_counter()

    def close(self) -> None:
        """Draw what there is for the last time."""
        if self.y:
            self._draw()


class _Html:
    """What a notebook shows as HTML and a terminal as text, with a picture where HTML cannot go."""

    def __init__(self, text: str, html: str, png: str | None = None):
        self.text, self.html, self.png = text, html, png

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        png = {"image/png": self.png} if self.png else {}
        return {"text/plain": self.text, "text/html": self.html} | png


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
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    plt = pyplot()
    side = max(3.0, 0.14 * len(tokens)) if len(names) <= 2 else 2.6
    fig, grid = plt.subplots(rows, columns, figsize=(side * columns, (side + 0.2) * rows), squeeze=False)
    for ax, pattern, name in zip(grid.flat, patterns, names, strict=False):
        ax.imshow(pattern.detach(), cmap=SEQUENTIAL, vmin=0, vmax=1)
        ax.set_title(name)
        if len(names) <= 2:
            mono = {"family": "DejaVu Sans Mono", "fontsize": 6}
            ax.set_xticks(range(len(shown)), shown, rotation=90, **mono)
            ax.set_yticks(range(len(shown)), shown, **mono)
        else:
            ax.set(xticks=[], yticks=[])
    for ax in grid.flat[len(names) :]:
        ax.axis("off")
    fig.suptitle(f"{title}: row = token that looks, column = token looked at", x=0.01, ha="left", fontsize=10)
    data = io.BytesIO()
    fig.savefig(data, format="png", dpi=80)
    plt.close(fig)
    png = base64.b64encode(data.getvalue()).decode()

    weights = [[[round(w, 3) for w in row] for row in head] for head in patterns.detach().tolist()]
    props = {"attention": weights, "attentionHeadNames": list(names), "tokens": shown, "maskUpperTri": True}
    place = f"attention-{uuid.uuid4().hex[:12]}"
    # JSON inside a script: only "</" could end it early. The picture goes when CircuitsVis has come.
    json_props = json.dumps(props, ensure_ascii=False).replace("</", "<\\/")
    page = f"""<div style="background: white; color: black; padding: 8px">
<b>{html.escape(title)}</b>
<div id="{place}"></div><img id="{place}-picture" alt="{html.escape(title)}" src="data:image/png;base64,{png}">
</div>
<script>(function draw(tries) {{
  if (!window.CircuitsVis) {{ if (tries) setTimeout(draw, 250, tries - 1); return; }}
  window.CircuitsVis.render("{place}", window.CircuitsVis.AttentionHeads, {json_props});
  document.getElementById("{place}-picture").style.display = "none";
}})(40)</script>"""
    return _Html(f"{title}: attention of {', '.join(names)} over {len(tokens)} tokens", page, png)


class LiveTraining:
    """Watch a `training.Training`: a progress bar, and four curves that grow with each evaluation.

    >>> view = LiveTraining(training, "Two layers", at_most=1_500)   # steps
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
            self._bar = self._show(self._bar, self._progress())
            self._drawn = time.perf_counter()
        if len(self.training.curves["step"]) > self._evaluations:
            self._evaluations = len(self.training.curves["step"])
            self._draw()

    def close(self) -> None:
        """Show where it ended."""
        self._bar = self._show(self._bar, self._progress())
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
        fig, panels = plt.subplots(2, 2, figsize=(9.6, 5.6), sharex=True)
        (loss, score), (previous, induction) = panels
        lines({"held-out text": (curves["step"], curves["heldout_loss"])}, "Loss", "", "nats per token", ax=loss)
        lines(
            {"late minus early": (curves["step"], curves["in_context_learning_score"])},
            "In-context-learning score", "", "nats", levels={"no use of context": 0.0}, ax=score,
        )
        for ax, name in ((previous, "previous_token_score"), (induction, "induction_score")):
            values = Tensor(curves[name])  # [evaluation layer head]
            best = values[-1].flatten().topk(3).indices.tolist()
            for i in range(values[0].numel()):
                layer, head = divmod(i, values.shape[2])
                top = i in best
                ax.plot(
                    curves["step"], values[:, layer, head],
                    color=COLORS[best.index(i)] if top else "#CCCCCC", lw=1.8 if top else 0.8,
                    label=head_name(layer, head) if top else None, zorder=2 + top,
                )
            ax.set(title=name.replace("_", " ").capitalize(), ylabel="mean attention weight", ylim=(0, 1))
            ax.set_xlabel("training step")
            ax.legend(fontsize=9, title="head")
        fig.suptitle(self.title, x=0.01, ha="left", weight="bold")
        self._figure = self._show(self._figure, fig)
        plt.close(fig)

    @staticmethod
    def _show(handle, what):
        from IPython.display import display

        if handle is None:
            return display(what, display_id=True)
        handle.update(what)
        return handle
