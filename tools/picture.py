"""Draw the README's picture, docs/overview.png, from the curves shipped with the two-layer model."""

from pathlib import Path

import torch

from circuits.pictures import png
from utils import load_curves
from utils.figures import plots

curves = load_curves("two_layer")
steps = curves["step"]
scores = {name: torch.tensor(curves[f"{name}_score"]) for name in ("previous_token", "induction")}
heads = {"looks at the token before": ("previous_token", 0, 1), "looks at what followed last time": ("induction", 1, 2)}

left, right = plots.axes(2, size=(4.25, 3.6))
series = {}
for what, (name, layer, n) in heads.items():
    for head in scores[name][-1, layer].topk(n).indices.tolist():
        series[f"{layer}.{head} {what}"] = (steps, scores[name][:, layer, head].tolist())
plots.lines(series, "Heads find their jobs", "training step", "mean attention weight", ax=left)
left.set_xscale("symlog", linthresh=100)
plots.lines(
    {"later tokens minus early ones": (steps, curves["in_context_learning_score"])},
    "Later tokens become easier to predict",
    "training step",
    "late minus early (nats)",
    levels={"late cost as much as early": 0.0},
    ax=right,
)
right.set_xscale("symlog", linthresh=100)
right.set_ylim(-0.45, 0.2)
for ax in (left, right):
    ax.set_xlim(left=0)
file = Path(__file__).parents[1] / "docs" / "overview.png"
file.write_bytes(png(left.figure))
print(f"wrote {file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}")
