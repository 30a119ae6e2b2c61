"""When induction heads form in chapter 3's live training: the step, and the seconds, by seed.

    python benchmarks/induction_time.py [--seeds 0 1 2 3 4]

Prints for each seed the first evaluation at which some head gives 0.4 of its attention to what
followed last time, where the chapter's cell stops; the seconds of training until then, by the
clock and of processor time; and the scores there.
"""

import argparse
import dataclasses
import time

import torch

from utils.corpus import load_corpus
from utils.training import LIVE, LIVE_STEPS, Training

FORMED = 0.4  # as in the chapter


def best(curve: list) -> list[float]:
    """The largest score of any head at each evaluation."""
    return [max(max(layer) for layer in scores) for scores in curve]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 1 2 3 4")
    seeds = parser.parse_args().seeds
    corpus = load_corpus()
    print(corpus)
    print(f"{torch.get_num_threads()} threads")
    for seed in seeds:
        training = Training(dataclasses.replace(LIVE, seed=seed), corpus)
        clock, processor = time.perf_counter(), time.process_time()
        for _ in training:
            if best(training.curves["induction_score"])[-1] > FORMED or training.step == LIVE_STEPS:
                break
        formed = best(training.curves["induction_score"])[-1] > FORMED
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        curves = training.curves
        induction, previous = best(curves["induction_score"])[-1], best(curves["previous_token_score"])[-1]
        print(
            f"seed {seed}: {'formed at' if formed else 'not formed by'} step {training.step}, {clock:.0f} s ({processor:.0f} s of processor time); "
            f"induction {induction:.2f}, previous token {previous:.2f}, "
            f"held-out loss {curves['heldout_loss'][-1]:.2f}, "
            f"in-context-learning score {curves['in_context_learning_score'][-1]:+.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
