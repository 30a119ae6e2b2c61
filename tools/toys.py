"""Train the large toys of chapter 6: 200 features squeezed into 20 dimensions, at 24 probabilities side by side.

    python tools/toys.py     # utils/checkpoints/dictionaries/toys.json

The model and its loss are those of the chapter (Elhage et al., *Toy Models of Superposition*, 2022), as is how they are trained, but
longer. What is shipped is not the weights but each represented feature's dimensionality, its share of a dimension.
"""

import json
import math
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from utils.files import write_file  # noqa: E402
from utils.materials.dictionaries import FOLDER  # noqa: E402

N_FEATURES, N_HIDDEN, STEPS, BATCH = 200, 20, 6000, 256
PROBABILITIES = torch.logspace(0, -2.5, 24)


def batch(generator: torch.Generator) -> torch.Tensor:
    """Sparse features, [instances batch n_features]."""
    shape = (len(PROBABILITIES), BATCH, N_FEATURES)
    return torch.rand(shape, generator=generator) * (torch.rand(shape, generator=generator) < PROBABILITIES[:, None, None])


def losses(x: torch.Tensor, W: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Each toy's squared error, summed over features, averaged over samples."""
    return (x - (x @ W @ W.mT + b[:, None]).relu()).pow(2).sum(-1).mean(1)


def main() -> None:
    torch.set_num_threads(1)
    generator, start = torch.Generator().manual_seed(0), time.perf_counter()
    W = torch.randn(len(PROBABILITIES), N_FEATURES, N_HIDDEN, generator=generator) / N_FEATURES**0.5
    b = torch.zeros(len(PROBABILITIES), N_FEATURES, requires_grad=True)
    optimizer = torch.optim.Adam([W.requires_grad_(), b])
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 0.0025 * (1 + math.cos(math.pi * step / STEPS))
        losses(batch(generator), W, b).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 500 == 499:
            print(f"step {step + 1} of {STEPS}, {time.perf_counter() - start:.0f} s", flush=True)
    with torch.no_grad():
        loss = sum(losses(batch(generator), W, b) for _ in range(20)) / 20
        norm = W.norm(dim=-1)
        shares = norm**2 / ((W / norm.clamp(min=1e-8)[..., None] @ W.mT) ** 2).sum(-1).clamp(min=1e-8)
    rows = [
        {"p": round(p, 5), "loss": round(total, 5), "shares": [round(d, 3) for d in own[n > 0.5].sort().values.tolist()]}
        for p, total, own, n in zip(PROBABILITIES.tolist(), loss.tolist(), shares, norm, strict=True)
    ]
    write_file(FOLDER / "toys.json", ("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n").encode())
    print(f"{time.perf_counter() - start:.0f} s: {FOLDER / 'toys.json'}")


if __name__ == "__main__":
    if len(sys.argv) != 1:
        sys.exit("It takes no arguments: python tools/toys.py")
    main()
