"""What readability and hooks cost: `Transformer` next to a bare PyTorch model of its shape.

    python benchmarks/model_speed.py [--rounds 20] [--threads 1 2]

The bare model computes the same logits from the same weights, with an explicit attention pattern,
plain matrices and nothing to look at. All candidates take turns within a round, in an order that
rotates, so that a busy machine slows all alike. A ratio is the median over rounds of the ratio
within a round, its spread the middle half of them. Targets: forward at most 1.15, training step at
most 1.20. TransformerLens is measured too where it is installed (see tests/parity).
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.model import Config, Transformer
from utils.training import next_token_loss

CONFIG = Config(d_vocab=2048, d_model=256, n_layers=2, n_heads=8, d_head=32, n_ctx=256)
BATCH = 8


class Bare(nn.Module):
    """Two matrices for reading, one for writing per layer; positions enter queries and keys."""

    def __init__(self, model: Transformer):
        super().__init__()
        self.n_heads, self.d_head = model.cfg.n_heads, model.cfg.d_head
        self.W_E = nn.Parameter(model.W_E.detach().clone())
        self.W_U = nn.Parameter(model.W_U.detach().clone())

        def side_by_side(*weights: Tensor) -> nn.Parameter:
            """[n_heads d_model d_head] each, as one matrix [d_model, all heads of all of them]."""
            flat = [W.detach().permute(1, 0, 2).flatten(1) for W in weights]
            return nn.Parameter(torch.cat(flat, dim=1))

        attns = [block.attn for block in model.blocks]
        self.W_QK = nn.ParameterList(side_by_side(a.W_Q, a.W_K) for a in attns)
        self.W_V = nn.ParameterList(side_by_side(a.W_V) for a in attns)
        self.W_O = nn.ParameterList(a.W_O.detach().flatten(0, 1).clone() for a in attns)
        n_ctx = model.cfg.n_ctx
        self.register_buffer("pos", model.W_pos.clone())
        self.register_buffer("future", torch.ones(n_ctx, n_ctx, dtype=torch.bool).triu(1))

    def forward(self, tokens: Tensor) -> Tensor:
        batch, n = tokens.shape
        x = F.embedding(tokens, self.W_E)
        for W_QK, W_V, W_O in zip(self.W_QK, self.W_V, self.W_O, strict=True):
            qk = (x + self.pos[:n]) @ W_QK
            q, k = qk.view(batch, n, 2, self.n_heads, self.d_head).unbind(2)
            v = (x @ W_V).view(batch, n, self.n_heads, self.d_head)
            q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
            scores = (q * self.d_head**-0.5) @ k.transpose(2, 3)
            pattern = scores.masked_fill_(self.future[:n, :n], -torch.inf).softmax(-1)
            x = x + (pattern @ v).transpose(1, 2).reshape(batch, n, -1) @ W_O
        return x @ self.W_U


def bare_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def transformer_lens_twin(model: Transformer):
    """The same model as a `HookedTransformer`, or None where TransformerLens is not installed."""
    try:
        from transformer_lens import HookedTransformer, HookedTransformerConfig
    except ImportError:
        return None
    shared = {k: v for k, v in model.config_dict().items() if k not in ("biases", "init_range")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        twin = HookedTransformer(HookedTransformerConfig(**shared, device="cpu"))
    twin.load_state_dict(model.state_dict(), strict=False)
    return twin


def training_step(model: nn.Module, tokens: Tensor, loss_of: Callable) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def step() -> None:
        loss_of(model(tokens), tokens).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def without_gradients(run: Callable) -> Callable[[], None]:
    def quiet() -> None:
        with torch.no_grad():
            run()

    return quiet


def looks_at_z(z, hook):
    """A hook that changes nothing."""


def is_pattern(name: str) -> bool:
    return name.endswith("hook_pattern")


def candidates(tokens: Tensor) -> dict[str, dict[str, Callable[[], None]]]:
    """What takes turns, by group; the first of a group is what the others are compared with."""
    torch.manual_seed(0)
    model = Transformer(CONFIG)
    bare, twin = Bare(model), transformer_lens_twin(model)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), bare(tokens))
    z_hooks = [(f"blocks.{layer}.attn.hook_z", looks_at_z) for layer in range(CONFIG.n_layers)]
    forward = {
        "bare": lambda: bare(tokens),
        "ours": lambda: model(tokens),
        "ours, hook on z": lambda: model.run_with_hooks(tokens, fwd_hooks=z_hooks),
        "ours, cache of patterns": lambda: model.run_with_cache(tokens, names_filter=is_pattern),
        "ours, cache of everything": lambda: model.run_with_cache(tokens),
    }
    training = {
        "bare": training_step(Bare(model), tokens, bare_loss),
        "ours": training_step(model, tokens, next_token_loss),
    }
    if twin is None:
        print("TransformerLens is not installed here; tests/parity says how to get it.")
    else:
        with torch.no_grad():
            torch.testing.assert_close(twin(tokens), bare(tokens))
        forward |= {
            "TransformerLens": lambda: twin(tokens),
            "TransformerLens, patterns": lambda: twin.run_with_cache(
                tokens, names_filter=is_pattern
            ),
            "TransformerLens, everything": lambda: twin.run_with_cache(tokens),
        }
        training["TransformerLens"] = training_step(twin, tokens, bare_loss)
    forward = {name: without_gradients(run) for name, run in forward.items()}
    return {"forward": forward, "training step": training}


def measure(group: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds by candidate, one entry per round."""
    times: dict[str, list[float]] = {name: [] for name in group}
    names = list(group)
    for turn in range(-2, rounds):  # two rounds to warm up
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            group[name]()
            if turn >= 0:
                times[name].append(time.perf_counter() - start)
    return times


def report(title: str, times: dict[str, list[float]]) -> None:
    base, *_ = times.values()
    print(f"\n{title:<30} {'median ms':>10} {'ratio':>7}   middle half")
    for name, each in times.items():
        low, ratio, high = statistics.quantiles([a / b for a, b in zip(each, base, strict=True)])
        median = 1e3 * statistics.median(each)
        print(f"  {name:<28} {median:>10.1f} {ratio:>7.2f}   {low:.2f} to {high:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="turns per candidate (default 20)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    args = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(CONFIG.d_vocab, (BATCH, CONFIG.n_ctx), generator=generator)
    groups = candidates(tokens)
    for threads in args.threads:
        torch.set_num_threads(threads)
        for title, group in groups.items():
            report(f"{title}, {threads} thread(s)", measure(group, args.rounds))


if __name__ == "__main__":
    main()
