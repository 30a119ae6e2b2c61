"""Make the dictionary that chapter 6 ships, and the figures of the frontier.

    python tools/dictionaries.py dictionary     # utils/checkpoints/dictionaries/mlp_1.safetensors and .curves.json
    python tools/dictionaries.py frontier       # utils/checkpoints/dictionaries/frontier.json

Both learn from what the last MLP of `full_two_layer` writes at tokens of the training text, and are measured on
held-out windows. The losses and the revival of dead latents are those of the chapter (Bricken et al., *Towards
Monosemanticity*, 2023; Gao et al., *Scaling and Evaluating Sparse Autoencoders*, 2024).
"""

import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))

from utils import get_act_name, load_corpus, load_model  # noqa: E402
from utils.files import write_file  # noqa: E402
from utils.labels import label_library  # noqa: E402
from utils.materials.dictionaries import FOLDER, latents_of  # noqa: E402

NAME = get_act_name("mlp_out", 1)
N_VECTORS_WINDOWS = 512  # of 256 tokens
FRONTIER = [("top-k", k) for k in (8, 24, 64)] + [("l1", price) for price in (1.0, 3.0, 8.0)]


def vectors(model, n_windows: int) -> torch.Tensor:
    """What the last MLP writes at tokens of training text, [n d_model]."""
    corpus, found = load_corpus(), []
    for step in range(n_windows // 16):
        _, cache = model.run_with_cache(corpus.batch(step, 16, 256, seed=60), names_filter=NAME)
        found.append(cache[NAME].flatten(0, 1))
    return torch.cat(found)


def measure(D: dict, model, tokens: torch.Tensor, x: torch.Tensor) -> dict[str, float]:
    """On held-out windows [batch pos], whose vectors are x [batch pos d_model]."""
    acts = latents_of(D, x)
    out = acts @ D["W_dec"] + D["b_pre"]

    def loss(new=None):
        hooks = [] if new is None else [(NAME, lambda _, hook: new)]
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).item()

    flat, zeros = x.flatten(0, 1), loss(torch.zeros_like(x))
    fires = (acts > 0).flatten(0, 1)
    return {
        "l0": fires.sum(-1).float().mean().item(),
        "dead_share": (~fires.any(0)).float().mean().item(),
        "explained_variance": (1 - (x - out).pow(2).sum() / (flat - flat.mean(0)).pow(2).sum()).item(),
        "loss_recovered": (zeros - loss(out)) / (zeros - loss()),
    }


def train(x, n_latents: int, steps: int, kind: str, setting: float, watch=None, batch: int = 1024, lr: float = 3e-3) -> dict:
    """A dictionary of vectors x [n d_model], in their units."""
    generator = torch.Generator().manual_seed(0)
    unit = (x - x.mean(0)).pow(2).sum(-1).mean().sqrt() / x.shape[1] ** 0.5
    W_dec = F.normalize(torch.randn(n_latents, x.shape[1], generator=generator), dim=-1)
    parts = W_dec.T.clone(), torch.zeros(n_latents), W_dec, x.mean(0) / unit
    W_enc, b_enc, W_dec, b_pre = (part.requires_grad_() for part in parts)
    optimizer = torch.optim.Adam([W_enc, b_enc, W_dec, b_pre], betas=(0.9, 0.99))
    fired = torch.zeros(n_latents, dtype=torch.bool)
    k = int(setting) if kind == "top-k" else None

    def now() -> dict:
        D = {"W_enc": W_enc, "b_enc": b_enc * unit, "W_dec": W_dec, "b_pre": b_pre * unit}
        return {name: W.detach().clone() for name, W in D.items()} | ({} if k is None else {"k": torch.tensor(k)})

    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * min(1.0, (step + 1) / 20, 3 * (1 - step / steps))
        xs = x[torch.randint(len(x), (batch,), generator=generator)] / unit
        acts = latents_of({"W_enc": W_enc, "b_enc": b_enc, "b_pre": b_pre} | ({} if k is None else {"k": k}), xs)
        out = acts @ W_dec + b_pre
        price = 0.0 if k is not None else setting * acts.sum(-1)
        ((xs - out).pow(2).sum(-1) + price).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            W_dec.div_(W_dec.norm(dim=-1, keepdim=True))
            fired |= (acts > 0).any(0)
            if step % 50 == 49:
                dead, error = ~fired, xs - out
                if step < 0.7 * steps and dead.any():
                    worst = error.pow(2).sum(-1).topk(min(batch, int(dead.sum()))).indices
                    dead = dead.nonzero()[: len(worst), 0]
                    W_dec[dead] = F.normalize(error[worst], dim=-1)
                    W_enc[:, dead] = 0.2 * F.normalize(xs[worst] - b_pre, dim=-1).T
                    b_enc[dead] = 0.0
                    for W, at in ((W_enc, (slice(None), dead)), (b_enc, dead), (W_dec, dead)):
                        for moment in ("exp_avg", "exp_avg_sq"):
                            optimizer.state[W][moment][at] = 0.0
                fired.zero_()
            if watch and (step + 1) % 100 == 0:
                watch(step + 1, now())
    return now()


def main(what: str) -> None:
    torch.set_num_threads(1)
    model = load_model("full_two_layer").requires_grad_(False)
    tokens = label_library(0).windows(32, 256, torch.Generator().manual_seed(0)).tokens
    heldout = model.run_with_cache(tokens, names_filter=NAME)[1][NAME]
    start = time.perf_counter()
    x = vectors(model, N_VECTORS_WINDOWS)
    print(f"{len(x):,} vectors, {time.perf_counter() - start:.0f} s", flush=True)
    if what == "dictionary":
        from safetensors.torch import save

        curves: dict[str, list] = {}

        def watch(step, D):
            for name, value in ({"step": step, "seconds": time.perf_counter() - start} | measure(D, model, tokens, heldout)).items():
                curves.setdefault(name, []).append(round(value, 4))
            print({name: values[-1] for name, values in curves.items()}, flush=True)

        D = train(x, 2048, 800, "top-k", 24, watch)
        weights = {name: W.half().contiguous() if W.is_floating_point() else W for name, W in D.items()}
        write_file(FOLDER / "mlp_1.safetensors", save(weights))
        write_file(FOLDER / "mlp_1.curves.json", (json.dumps(curves) + "\n").encode())
        return
    rows = []
    for kind, setting in FRONTIER:
        D = train(x, 1024, 300, kind, setting)
        measured = {name: round(value, 4) for name, value in measure(D, model, tokens, heldout).items()}
        rows.append({"kind": kind, "setting": setting} | measured)
        print(rows[-1], f"{time.perf_counter() - start:.0f} s", flush=True)
        write_file(FOLDER / "frontier.json", (json.dumps(rows, indent=1) + "\n").encode())


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("dictionary", "frontier"):
        sys.exit("Say which: python tools/dictionaries.py dictionary, or frontier.")
    main(sys.argv[1])
