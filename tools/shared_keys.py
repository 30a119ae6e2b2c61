"""Train chapter 9's toys: does induction form when heads share keys and values?

    python tools/shared_keys.py     # utils/checkpoints/shared_keys.json

The toy is that of chapter 3: 64 symbols, random sequences repeated with a random period, two attention layers. Five seeds each of
ways to share. `4/4`, `6/2` and `7/1` (heads / keys) have equally many weights, since a head has a query and an output matrix and a key comes with
a value matrix, all of one size; `4/1` has the heads of the first and fewer weights. What is shipped is what was measured while they
trained, not the weights.
"""

import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from utils.files import write_file  # noqa: E402
from utils.model import Config, Transformer  # noqa: E402
from utils.pretrained import CHECKPOINTS  # noqa: E402
from utils.training import next_token_loss  # noqa: E402

WAYS = {"4/4": (4, 4), "6/2": (6, 2), "7/1": (7, 1), "4/1": (4, 1)}
SEEDS, STEPS, EVERY, PERIOD = range(5), 1_200, 25, 20


def repeating(batch: int, generator: torch.Generator) -> torch.Tensor:
    """Random sequences of 64 symbols, each repeated with a period of its own, from 8 to 32."""
    period = torch.randint(8, 33, (batch, 1), generator=generator)
    symbols = torch.randint(64, (batch, 64), generator=generator)
    return symbols.gather(1, torch.arange(64) % period)


@torch.no_grad()
def measure(model: Transformer) -> dict[str, list]:
    """Of each head, its mean attention to the token before, and to the one behind the last occurrence; and the loss there."""
    once = torch.randint(64, (64, PERIOD), generator=torch.Generator().manual_seed(1))
    tokens = once.repeat(1, 3)
    logits, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("pattern"))
    patterns = torch.stack([cache["pattern", layer] for layer in range(2)])[..., PERIOD + 1 :, :]  # from the second copy on
    rows = torch.arange(PERIOD + 1, 3 * PERIOD)
    scores = {}
    for name, back in (("previous", 1), ("induction", PERIOD - 1)):
        at = torch.stack([patterns[..., i, row - back] for i, row in enumerate(rows)], -1)
        scores[name] = [[round(s, 3) for s in layer] for layer in at.mean((1, -1)).tolist()]
    log_p = logits[:, PERIOD:-1].log_softmax(-1).gather(-1, tokens[:, PERIOD + 1 :, None])
    return scores | {"second_copy": round(-log_p.mean().item(), 3)}


def train(n_heads: int, n_key_value_heads: int, seed: int) -> dict:
    torch.manual_seed(seed)
    shape = dict(d_vocab=64, d_model=64, n_layers=2, d_head=16, n_ctx=64, init_range=0.2)
    model = Transformer(Config(**shape, n_heads=n_heads, n_key_value_heads=n_key_value_heads))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator, curve, losses = torch.Generator().manual_seed(seed), [], []
    for step in range(STEPS):
        tokens = repeating(32, generator)
        loss = next_token_loss(model(tokens), tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % EVERY == 0:
            found = measure(model)
            curve.append([step + 1, round(sum(losses) / len(losses), 3), max(map(max, found["induction"]))])
            losses.clear()
    weights = sum(p.numel() for name, p in model.named_parameters() if "attn" in name)
    return {"seed": seed, "attention_weights": weights, "curve": curve, **measure(model)}


def main() -> None:
    torch.set_num_threads(1)
    start, results = time.perf_counter(), []
    for seed in SEEDS:
        for way, (n_heads, n_kv) in WAYS.items():
            results.append({"way": way, **train(n_heads, n_kv, seed)})
            found = results[-1]
            print(f"{time.perf_counter() - start:.0f} s {way} seed {seed}: {found['curve'][-1]} {found['second_copy']}", flush=True)
            write_file(CHECKPOINTS / "shared_keys.json", ("[\n" + ",\n".join(map(json.dumps, results)) + "\n]\n").encode())


if __name__ == "__main__":
    if len(sys.argv) != 1:
        sys.exit("It takes no arguments: python tools/shared_keys.py")
    main()
