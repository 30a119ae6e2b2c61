"""How long importing what a notebook imports takes, next to the `import torch` that it cannot avoid.

    python benchmarks/import_time.py [--runs 15]

Each run is a fresh interpreter that times its own import; the two take turns, so that a busy
machine slows both alike. The ratio is the median over pairs of neighbouring runs, the spread the
middle half of them. Target: at most 1.10.
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STATEMENTS = ("import torch", "from circuits import *; from utils import *")
TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def seconds(statement: str) -> float:
    command = [sys.executable, "-c", TIMED.format(statement)]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15, help="of each (default 15)")
    runs = parser.parse_args().runs
    for statement in STATEMENTS:  # the first import fills the disk cache
        seconds(statement)
    times: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for run in range(runs):
        for statement in STATEMENTS if run % 2 else reversed(STATEMENTS):
            times[statement].append(seconds(statement))
    for statement, each in times.items():
        print(
            f"{statement:<42} median {statistics.median(each):.3f} s   "
            f"({min(each):.3f} to {max(each):.3f}, {runs} runs)"
        )
    ratios = [u / t for t, u in zip(*times.values(), strict=True)]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    print(f"utils / torch  {ratio:.3f}   (middle half of the pairs: {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
