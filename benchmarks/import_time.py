"""How long `import utils` takes, next to the `import torch` that it cannot avoid.

    python benchmarks/import_time.py [--runs 15]

Each run is a fresh interpreter that times its own import; the modules take turns, so that a busy
machine slows both alike. The ratio is the median over pairs of neighbouring runs, the spread the
middle half of them. Target: at most 1.10.
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("torch", "utils")
TIMED = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def seconds(module: str) -> float:
    command = [sys.executable, "-c", TIMED.format(module)]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15, help="of each module (default 15)")
    runs = parser.parse_args().runs
    for module in MODULES:  # the first import fills the disk cache
        seconds(module)
    times: dict[str, list[float]] = {module: [] for module in MODULES}
    for run in range(runs):
        for module in MODULES if run % 2 else reversed(MODULES):
            times[module].append(seconds(module))
    for module, each in times.items():
        print(
            f"import {module:<6} median {statistics.median(each):.3f} s   "
            f"({min(each):.3f} to {max(each):.3f}, {runs} runs)"
        )
    ratios = [u / t for t, u in zip(*times.values(), strict=True)]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    print(f"utils / torch  {ratio:.3f}   (middle half of the pairs: {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
