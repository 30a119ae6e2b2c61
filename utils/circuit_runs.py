"""Running a model on a circuit, for chapter 8: chapter 4's last section, for models with MLPs, LayerNorm and biases.
Edges are named as in `utils/materials/edges.py`."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from utils.materials.edges import edge_names
from utils.model import Transformer


def run_circuit(
    model: Transformer, circuit: list[str] | dict[str, float | Float[Tensor, ""]],
    clean: Int[Tensor, "batch pos"], corrupted: Int[Tensor, "batch pos"],
) -> Float[Tensor, "batch pos d_vocab"]:  # fmt: skip
    """Logits if the edges of the circuit carry what their senders say in this very run, whose `embed` is the clean one, and all
    others what these say in the corrupted run (Conmy et al., *Towards Automated Circuit Discovery*, section 3): with all edges the
    clean run, with none the corrupted one. A dictionary gives each edge a strength from 0 (corrupted) to 1, which may have a
    gradient. Raises ValueError for an edge that the model does not have."""
    kept = circuit if isinstance(circuit, dict) else dict.fromkeys(circuit, 1.0)
    if strange := kept.keys() - set(edge_names(model)):
        raise ValueError(f"The model has no edge {sorted(strange)[0]!r}. They look like {edge_names(model)[0]!r}.")
    logits, cache = model.run_with_cache(corrupted)
    news = {"embed": model.W_E[clean] - model.W_E[corrupted]}  # by sender: what it says now, less what it said there
    positions = model.W_pos[: clean.shape[1]] * (model.cfg.positional_embedding_type == "shortformer")
    future = torch.full((clean.shape[1],) * 2, -math.inf).triu(1)

    def read(receiver: str, old: Tensor, ln) -> Tensor | None:
        """What a receiver reads, if anything in it is new."""
        new = [kept[edge] * x for sender, x in news.items() if (edge := f"{sender}->{receiver}") in kept]
        return ln(old + sum(new)) if new else None

    for layer, block in enumerate(model.blocks):
        attn, written = block.attn, {}
        for head in range(model.cfg.n_heads):
            acts = {kind: cache[kind, layer][:, :, head] for kind in "qkvz"}
            for kind, W, b in (("q", attn.W_Q, attn.b_Q), ("k", attn.W_K, attn.b_K), ("v", attn.W_V, attn.b_V)):
                x = read(f"{layer}.{head}.{kind}", cache["resid_pre", layer], block.ln1)
                if x is not None:
                    x = (x if kind == "v" else x + positions) @ W[head]
                    acts[kind] = x if b is None else x + b[head]
                    written[f"{layer}.{head}"] = acts
        for name, acts in written.items():  # heads of one layer do not read each other
            scores = acts["q"] @ acts["k"].mT * model.cfg.d_head**-0.5 + future
            news[name] = (scores.softmax(-1) @ acts["v"] - acts["z"]) @ attn.W_O[int(name.split(".")[1])]
        if block.mlp is not None:
            x = read(f"m{layer}", cache["resid_mid", layer], block.ln2)
            if x is not None:
                news[f"m{layer}"] = block.mlp(x, lambda name, x: x) - cache["mlp_out", layer]
    final = read("logits", cache["resid_post", -1], model.ln_final)
    return logits if final is None else model.unembed(final)
