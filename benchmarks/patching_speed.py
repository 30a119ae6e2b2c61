"""What not recomputing is worth: `utils.patching.sweep` next to TransformerLens's own patching.

    .venv-parity/bin/python benchmarks/patching_speed.py [--layers 2 4 6] [--full] [--rounds 1] [--batch 1]

Same weights, same prompts of 64 random tokens, 8 heads, same metric; head outputs of two layers are
1,024 patches. Two layers are the shipped model; four and six have random weights of its shape.
TransformerLens runs one forward pass per patch (`transformer_lens.patching`, version 3.9.0; its
progress bar is taken out). Every number of its grid must be ours to within 1e-4.

Times are processor seconds on one thread, with gradients off: other work on the machine hardly
moves them, and the passes are so small that more threads slow both sides down. In each round both
sides run once (ours five times, of which the median counts); a ratio is the median over rounds.
Targets for head outputs of two layers: 100 for a logit difference at the last position, 10 for
metrics that read every position. (`sweep` knows nothing of the last one, and gives it all logits.)

With `--full` the models have ReLU MLPs, LayerNorm and biases. Target: 5 for head outputs and a logit
difference at the last position. In two layers it is far more: a patch moves one position, and only the last
one is needed of the last layer. From three layers on, every position behind the patch goes through whole
layers. Their MLPs, two thirds of the weights, and LayerNorms are not linear: there nothing can be read off
the change alone, and what is saved is the layers before the patch, the positions before it, and most of the
last layer and the unembedding.
"""

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from model_speed import transformer_lens_twin
from torch import Tensor

from utils.model import Config, Transformer
from utils.patching import CrossEntropy, LogitDiff, Metric, sweep
from utils.pretrained import load_model
from utils.training import FULL

N_POS = 64
BY_POS = {
    "z": "get_act_patch_attn_head_out_by_pos",
    "resid_pre": "get_act_patch_resid_pre",
    "q": "get_act_patch_attn_head_q_by_pos",
    "k": "get_act_patch_attn_head_k_by_pos",
    "v": "get_act_patch_attn_head_v_by_pos",
    "pattern": "get_act_patch_attn_head_pattern_by_pos",
}


def build(n_layers: int, full: bool) -> Transformer:
    if n_layers == 2:
        return load_model("full_two_layer" if full else "two_layer")
    torch.manual_seed(0)
    # Larger embeddings than at the start of training, so that attention tells tokens apart; at 1.0
    # rounding alone would reach the tolerance in six layers.
    kind = FULL if full else {}
    return Transformer(Config(d_vocab=2048, d_model=256, n_layers=n_layers, init_range=0.3, **kind)).eval()


def seconds(run: Callable[[], Tensor], times: int = 1) -> tuple[float, Tensor]:
    """Processor seconds of one run (the median), and its result."""
    each = []
    for _ in range(times):
        start = time.process_time()
        result = run()
        each.append(time.process_time() - start)
    return statistics.median(each), result


def metrics(batch: int, d_vocab: int) -> dict[str, Metric]:
    right, wrong = torch.randint(d_vocab, (2, batch, N_POS)).unbind()
    return {
        "logit difference, last position": LogitDiff(right[:, -1], wrong[:, -1]),
        "logit difference, all positions": LogitDiff(right, wrong),
        "cross-entropy, all positions": CrossEntropy(right),
        "the same, as any function": lambda logits: F.cross_entropy(
            logits.flatten(0, 1), right.flatten()
        ),
    }


def compare(n_layers: int, full: bool, names: list[str], batch: int, rounds: int) -> None:
    import transformer_lens.patching as theirs

    theirs.tqdm = list  # no progress bar
    model = build(n_layers, full)
    twin = transformer_lens_twin(model)
    torch.manual_seed(1)
    clean, corrupted = torch.randint(model.cfg.d_vocab, (2, batch, N_POS)).unbind()
    _, clean_cache = twin.run_with_cache(clean)
    for metric_name, metric in metrics(batch, model.cfg.d_vocab).items():
        for name in names:
            patch = getattr(theirs, BY_POS[name])
            slow, fast, ratios = [], [], []
            for _ in range(rounds):
                theirs_took, want = seconds(lambda: patch(twin, corrupted, clean_cache, metric))
                ours_took, got = seconds(
                    lambda: sweep(model, clean, corrupted, metric, name, by_pos=name != "resid_pre"),
                    times=5,
                )
                if name == "pattern":  # theirs is [layer head dest]
                    want = want.transpose(1, 2)
                off = (got - want).abs().max().item()
                assert off < 1e-4 < want.std(), f"{metric_name}, {name}: {off} off"
                slow.append(theirs_took)
                fast.append(ours_took)
                ratios.append(theirs_took / ours_took)
            print(
                f"{n_layers:>6} {name:<10} {want.numel():>7}  {metric_name:<32}"
                f"{statistics.median(slow):>8.2f} {statistics.median(fast):>8.4f}"
                f" {statistics.median(ratios):>7.1f}   {off:.0e}",
                flush=True,
            )


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4, 6], help="default: 2 4 6")
    parser.add_argument("--full", action="store_true", help="with MLPs, LayerNorm and biases")
    parser.add_argument("--names", nargs="+", choices=BY_POS, default=["z"], help="default: z")
    parser.add_argument("--batch", type=int, default=1, help="prompts (default 1)")
    parser.add_argument("--rounds", type=int, default=1, help="default 1")
    args = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.set_num_threads(1)
    try:
        import transformer_lens  # noqa: F401
    except ImportError:
        sys.exit("TransformerLens is not installed here: make .venv-parity/done, and use its Python.")
    print(f"one thread, {args.batch} prompt(s) of {N_POS} tokens, load {os.getloadavg()[0]:.1f}")
    print(
        f"{'layers':>6} {'patched':<10} {'patches':>7}  {'metric':<32}"
        f"{'theirs s':>8} {'ours s':>8} {'ratio':>7}   largest difference"
    )
    for n_layers in args.layers:
        compare(n_layers, args.full, args.names, args.batch, args.rounds)


if __name__ == "__main__":
    main()
