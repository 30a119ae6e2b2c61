"""Pictures of single neurons: where they fire in real text, and what they say."""

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from utils.figures.plots import COLORS, INK, pyplot, token_text

Place = tuple[str, str, str, float]  # the text before, the token, the text behind, the activation


def place(model, tokens: Int[Tensor, "batch pos"], row: int, position: int, activation: float, width: int = 34) -> Place:
    """A token of a text with what stands around it, each as one can see it."""
    text = [token_text(token) for token in model.to_str_tokens(tokens[row])]
    before, behind = "".join(text[:position])[-width:], "".join(text[position + 1 :])[:width]
    return before, text[position], behind, float(activation)


def cards(neurons: Sequence[tuple[str, Sequence[Place], Sequence[str]]]):
    """For each neuron, one below the other: a title, its places with the firing token marked, and lines below."""
    plt, mono = pyplot(), {"family": "DejaVu Sans Mono", "fontsize": 8, "va": "center"}
    heights = [len(places) + len(lines) + 1 for _, places, lines in neurons]
    size = 8.2, 0.21 * sum(heights) + 0.3
    _, panels = plt.subplots(len(neurons), 1, figsize=size, height_ratios=heights, squeeze=False)
    for ax, (title, places, lines), height in zip(panels[:, 0], neurons, heights, strict=True):
        ax.set(xlim=(0, 100), ylim=(height - 0.5, -0.5), title=title)
        ax.axis("off")
        for y, (before, token, behind, activation) in enumerate(places):
            ax.text(5, y, f"{activation:.1f}", color=INK, ha="right", **mono)
            ax.text(48, y, before, color=INK, ha="right", **mono)
            shown = ax.annotate(
                token, (48, y), color="black", xytext=(3, 0), textcoords="offset points", ha="left",
                bbox={"fc": "#FFD58A", "ec": "none", "pad": 1.2}, **mono,
            )  # fmt: skip
            ax.annotate(
                behind, (1, 0.5), xycoords=shown, xytext=(3, 0), textcoords="offset points",
                color=INK, ha="left", **mono,
            )  # fmt: skip
        for y, line in enumerate(lines, len(places)):
            ax.text(1, y + 0.3, line, color=COLORS[0], **mono)
    return panels[:, 0]
