"""The training of a model, watched in a notebook: how far it is, and its curves as they grow."""

import time

from torch import Tensor

from utils.figures import WIDTH
from utils.figures.interactive import Html, show
from utils.figures.plots import COLORS, PALE, head_name, legend, lines, pyplot
from utils.waiting import time_left


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
            self._bar = show(self._bar, self._progress())
            self._drawn = time.perf_counter()
        if len(self.training.curves["step"]) > self._evaluations:
            self._evaluations = len(self.training.curves["step"])
            self._draw()

    def close(self) -> None:
        """Show where it ended."""
        self._bar = show(self._bar, self._progress())
        self._draw()

    def _progress(self) -> Html:
        training, steps = self.training, self.at_most
        recent = self._losses[-20:] or [float("nan")]
        left = time_left(training.step, steps, training.seconds)
        text = (
            f"step {training.step:,} of at most {steps:,} · {training.seconds:.0f} s · "
            f"{left and f'{left} at most · '}training loss {sum(recent) / len(recent):.2f} nats per token"
        )
        bar = f'<progress value="{training.step}" max="{steps}" style="width: 20em"></progress> {text}'
        return Html(text, bar)

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
        self._figure = show(self._figure, fig)
        plt.close(fig)
