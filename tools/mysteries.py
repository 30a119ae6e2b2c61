"""How many mystery models are learned and solved: train those of some seeds, as `circuits mystery` does, and say what came of each.

    python tools/mysteries.py 0-29               # or 3,14,55
    python tools/mysteries.py 0-29 FOLDER        # and the models are kept in FOLDER

Each line is printed as soon as it is known; the last is the share. One thread; seconds are of computing.
"""

import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from circuits.mystery.course import attempt  # noqa: E402
from circuits.mystery.make import ENOUGH  # noqa: E402
from circuits.saved_training import packed  # noqa: E402
from utils.files import write_file  # noqa: E402


def main(seeds: list[int], folder: Path | None) -> None:
    torch.set_num_threads(1)
    good, seconds = 0, []
    for seed in seeds:
        start = time.thread_time()
        model, plan, proof, failed = attempt(seed)
        seconds.append(time.thread_time() - start)
        worst = min(proof, key=proof.get)
        good += (found := proof[worst] >= ENOUGH and not failed)
        if folder:
            write_file(folder / f"{seed}.safetensors", packed(model, half=True))
        print(
            f"seed {seed}: {'learned and solved' if found else 'NOT'} in {seconds[-1]:.0f} s: {plan.rule_name}, exception by {plan.quirk}, "
            f"{' '.join(plan.circuit)}; least: {worst}, {proof[worst]:.1%}" + f"; fails {', '.join(failed)}" * bool(failed), flush=True,
        )  # fmt: skip
    print(f"{good} of {len(seeds)} learned and solved; {sum(seconds) / len(seeds):.0f} s each, the longest {max(seconds):.0f} s")


def numbers(text: str) -> list[int]:
    """`0-29` or `3,14,55` as numbers."""
    first, dash, last = text.partition("-")
    return list(range(int(first), int(last) + 1)) if dash else [int(n) for n in text.split(",")]


if __name__ == "__main__":
    main(numbers(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
