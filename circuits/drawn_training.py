"""A training on texts that are drawn as it goes (chapters 7 and 8)."""

from typing import Any

from utils.training import Training


class DrawnTraining(Training):
    """A `Training` that measures for itself what the model has learned: `curves` holds what `measure` says."""

    def measure(self) -> dict[str, Any]:
        raise NotImplementedError

    def _record(self) -> None:
        measures = {"step": self.step, "seconds": round(self.seconds, 1)} | self.measure()
        for name, value in measures.items():
            self.curves.setdefault(name, []).append(value)
